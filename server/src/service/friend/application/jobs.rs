//! The jobs that send, accept and reject friend applications. Both users' heads are locked.

use zim_protocol::{
    FriendApplicationInfo, FriendApplicationState as State, FriendApplicationType as Kind, FriendInfo, Push, UserInfo,
};

use super::store;
use crate::db::Tx;
use crate::error::Error;
use crate::journal::FeedKind;
use crate::service::friend::friendship::Pair;
use crate::service::friend::rules::{Remarks, answerable, new_application};
use crate::service::friend::store as friends;

/// Sends an application. If the caller is on the other user's list already, they become friends at once.
pub(in crate::service::friend) async fn send(
    tx: &mut Tx<'_>,
    pair: &Pair,
    (wording, remarks): (String, Remarks),
    expires_at: i64,
) -> Result<(FriendApplicationInfo, Vec<Push>), Error> {
    pair.check_may_befriend(tx).await?;
    let mut feed = pair.feed();
    if friends::find(tx, pair.other, pair.me).await?.is_some() {
        pair.befriend(tx, &mut feed, (remarks, Remarks::default()), &wording).await?;
        let friend = pair.friend(tx).await?;
        let info = FriendApplicationInfo {
            r#type: Kind::Sent as i32,
            state: State::Accepted as i32,
            apply_user: Some(user_info(friend)),
            wording,
            create_time: pair.now,
            update_time: pair.now,
        };
        return Ok((info, feed.emit(tx).await?));
    }
    pair.check_room(tx).await?;
    let own = store::find(tx, pair.me, pair.other).await?;
    let theirs = store::find(tx, pair.other, pair.me).await?;
    let (own, theirs) = new_application(own, theirs, (wording, remarks), (pair.now, expires_at));
    for (user, other, row) in [(pair.me, pair.other, own), (pair.other, pair.me, theirs)] {
        let place = feed.add(tx, user, FeedKind::Application, other).await?;
        store::save(tx, (user, other), row, place).await?;
    }
    Ok((pair.application(tx).await?, feed.emit(tx).await?))
}

/// Accepts an application.
pub(in crate::service::friend) async fn accept(
    tx: &mut Tx<'_>,
    pair: &Pair,
    remarks: Remarks,
) -> Result<(FriendInfo, Vec<Push>), Error> {
    let own = answerable(store::find(tx, pair.me, pair.other).await?, pair.now)?;
    let theirs = store::find(tx, pair.other, pair.me).await?.map(|row| row.remarks).unwrap_or_default();
    let mut feed = pair.feed();
    // If the caller had applied as well, their row holds the remarks that they gave then.
    pair.befriend(tx, &mut feed, (remarks.or(own.remarks), theirs), &own.wording).await?;
    Ok((pair.friend(tx).await?, feed.emit(tx).await?))
}

/// Rejects an application.
pub(in crate::service::friend) async fn reject(tx: &mut Tx<'_>, pair: &Pair) -> Result<(UserInfo, Vec<Push>), Error> {
    answerable(store::find(tx, pair.me, pair.other).await?, pair.now)?;
    let mut feed = pair.feed();
    for sides in [(pair.me, pair.other), (pair.other, pair.me)] {
        pair.answer_application(tx, &mut feed, sides, State::Rejected).await?;
    }
    let user = pair.application(tx).await?.apply_user.unwrap_or_default();
    Ok((user, feed.emit(tx).await?))
}

fn user_info(friend: FriendInfo) -> UserInfo {
    UserInfo {
        user_id: friend.user_id,
        user_name: friend.user_name,
        user_avatar_url: friend.user_avatar_url,
        user_extended_data: friend.user_extended_data,
    }
}
