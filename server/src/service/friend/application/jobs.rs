//! The jobs of applications: to ask, to say yes, to say no. Both users' heads are locked.

use zim_protocol::{
    FriendApplicationInfo, FriendApplicationState as State, FriendApplicationType as Kind, FriendInfo, Push, UserInfo,
};

use super::store;
use crate::db::Tx;
use crate::error::Error;
use crate::journal::FeedKind;
use crate::service::friend::friendship::Pair;
use crate::service::friend::rules::{Remarks, answerable, applied};

/// Asks the other one. If the caller is on his list already, he is asked no more.
pub(in crate::service::friend) async fn send(
    tx: &mut Tx<'_>,
    pair: &Pair,
    (wording, remarks): (String, Remarks),
    expires_at: i64,
) -> Result<(FriendApplicationInfo, Vec<Push>), Error> {
    pair.may_ask(tx).await?;
    let mut feed = pair.feed();
    if crate::service::friend::store::find(tx, pair.other, pair.me).await?.is_some() {
        pair.befriend(tx, &mut feed, (remarks, Remarks::default()), &wording).await?;
        let friend = pair.friend(tx).await?;
        let info = FriendApplicationInfo {
            r#type: Kind::Sent as i32,
            state: State::Accepted as i32,
            apply_user: Some(user_of(friend)),
            wording,
            create_time: pair.now,
            update_time: pair.now,
        };
        return Ok((info, feed.tell(tx).await?));
    }
    pair.has_room(tx).await?;
    let own = store::find(tx, pair.me, pair.other).await?;
    let theirs = store::find(tx, pair.other, pair.me).await?;
    let (own, theirs) = applied(own, theirs, (wording, remarks), (pair.now, expires_at));
    for (user, other, row) in [(pair.me, pair.other, own), (pair.other, pair.me, theirs)] {
        let place = feed.add(tx, user, FeedKind::Application, other).await?;
        store::save(tx, (user, other), row, place).await?;
    }
    Ok((pair.application(tx).await?, feed.tell(tx).await?))
}

/// Says yes.
pub(in crate::service::friend) async fn accept(
    tx: &mut Tx<'_>,
    pair: &Pair,
    remarks: Remarks,
) -> Result<(FriendInfo, Vec<Push>), Error> {
    let own = answerable(store::find(tx, pair.me, pair.other).await?, pair.now)?;
    let theirs = store::find(tx, pair.other, pair.me).await?.map(|row| row.remarks).unwrap_or_default();
    let mut feed = pair.feed();
    // Who asked as well said then what he says of the other one.
    pair.befriend(tx, &mut feed, (remarks.or(own.remarks), theirs), &own.wording).await?;
    Ok((pair.friend(tx).await?, feed.tell(tx).await?))
}

/// Says no.
pub(in crate::service::friend) async fn reject(tx: &mut Tx<'_>, pair: &Pair) -> Result<(UserInfo, Vec<Push>), Error> {
    answerable(store::find(tx, pair.me, pair.other).await?, pair.now)?;
    let mut feed = pair.feed();
    for sides in [(pair.me, pair.other), (pair.other, pair.me)] {
        pair.answer(tx, &mut feed, sides, State::Rejected).await?;
    }
    let user = pair.application(tx).await?.apply_user.unwrap_or_default();
    Ok((user, feed.tell(tx).await?))
}

fn user_of(friend: FriendInfo) -> UserInfo {
    UserInfo {
        user_id: friend.user_id,
        user_name: friend.user_name,
        user_avatar_url: friend.user_avatar_url,
        user_extended_data: friend.user_extended_data,
    }
}
