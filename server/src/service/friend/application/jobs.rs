//! The jobs that send, accept and reject friend applications. Both users are in their scope.

use zim_protocol::{FriendApplicationInfo, FriendApplicationType as Kind, FriendInfo, UserInfo};

use super::store::{self, APPLICATION};
use crate::db::Tx;
use crate::error::Error;
use crate::journal::LogWriter;
use crate::service::application::{State, Term};
use crate::service::friend::friendship::Pair;
use crate::service::friend::rules::{Remarks, answerable, new_application};
use crate::service::friend::store as friends;

/// Sends an application. If the caller is on the other user's list already, they become friends at once.
pub(in crate::service::friend) async fn send(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    pair: Pair,
    (wording, remarks): (String, Remarks),
    term: Term,
) -> Result<FriendApplicationInfo, Error> {
    pair.check_may_befriend(tx).await?;
    if friends::find(tx, pair.other, pair.me).await?.is_some() {
        let friend = pair.befriend(tx, log, (remarks, Remarks::default()), &wording).await?;
        return Ok(FriendApplicationInfo {
            r#type: Kind::Sent as i32,
            state: State::Accepted as i32,
            apply_user: Some(user_info(friend)),
            wording,
            create_time: pair.now,
            update_time: pair.now,
        });
    }
    pair.check_room(tx).await?;
    let own = store::find(tx, pair.me, pair.other).await?;
    let theirs = store::find(tx, pair.other, pair.me).await?;
    let (own, theirs) = new_application(own, theirs, (wording, remarks), term);
    for (user, other, row) in [(pair.me, pair.other, own), (pair.other, pair.me, theirs)] {
        let place = log.feed(tx, user, &APPLICATION, other).await?;
        store::save(tx, (user, other), row, place).await?;
    }
    pair.application(tx).await
}

/// Accepts an application.
pub(in crate::service::friend) async fn accept(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    pair: Pair,
    remarks: Remarks,
) -> Result<FriendInfo, Error> {
    let own = answerable(store::find(tx, pair.me, pair.other).await?, pair.now)?;
    let theirs = store::find(tx, pair.other, pair.me).await?.map(|row| row.remarks).unwrap_or_default();
    // If the caller had applied as well, their row holds the remarks that they gave then.
    pair.befriend(tx, log, (remarks.or(own.remarks), theirs), &own.wording).await
}

/// Rejects an application.
pub(in crate::service::friend) async fn reject(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    pair: Pair,
) -> Result<UserInfo, Error> {
    answerable(store::find(tx, pair.me, pair.other).await?, pair.now)?;
    pair.answer_applications(tx, log, State::Rejected).await?;
    Ok(pair.application(tx).await?.apply_user.unwrap_or_default())
}

fn user_info(friend: FriendInfo) -> UserInfo {
    UserInfo {
        user_id: friend.user_id,
        user_name: friend.user_name,
        user_avatar_url: friend.user_avatar_url,
        user_extended_data: friend.user_extended_data,
    }
}
