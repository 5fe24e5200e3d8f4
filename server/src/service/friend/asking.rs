//! The jobs of applications: to ask, to say yes, to say no. Both users' heads are locked.

use zim_protocol::{
    FriendApplicationInfo, FriendApplicationState as State, FriendApplicationType as Kind, FriendInfo, Push, UserInfo,
};

use super::application;
use super::list::Call;
use super::rules::{Terms, answerable, applied};
use super::store;
use crate::db::Tx;
use crate::error::Error;
use crate::journal::FeedKind;

/// Asks the other one. If the caller is on his list already, he is asked no more.
pub(super) async fn send(
    tx: &mut Tx<'_>,
    call: &Call,
    (wording, terms): (String, Terms),
    expires_at: i64,
) -> Result<(FriendApplicationInfo, Vec<Push>), Error> {
    call.may_ask(tx).await?;
    let mut news = call.news();
    if store::find(tx, call.other, call.me).await?.is_some() {
        call.befriend(tx, &mut news, (terms, Terms::default()), &wording).await?;
        let friend = call.friend(tx).await?;
        let info = FriendApplicationInfo {
            r#type: Kind::Sent as i32,
            state: State::Accepted as i32,
            apply_user: Some(user_of(friend)),
            wording,
            create_time: call.now,
            update_time: call.now,
        };
        return Ok((info, news.tell(tx).await?));
    }
    call.has_room(tx).await?;
    let own = application::find(tx, call.me, call.other).await?;
    let theirs = application::find(tx, call.other, call.me).await?;
    let (own, theirs) = applied(own, theirs, (wording, terms), (call.now, expires_at));
    for (user, other, row) in [(call.me, call.other, own), (call.other, call.me, theirs)] {
        let place = news.add(tx, user, FeedKind::Application, other).await?;
        application::save(tx, (user, other), row, place).await?;
    }
    Ok((call.application(tx).await?, news.tell(tx).await?))
}

/// Says yes.
pub(super) async fn accept(tx: &mut Tx<'_>, call: &Call, terms: Terms) -> Result<(FriendInfo, Vec<Push>), Error> {
    let own = answerable(application::find(tx, call.me, call.other).await?, call.now)?;
    let theirs = application::find(tx, call.other, call.me).await?.map(|row| row.terms).unwrap_or_default();
    let mut news = call.news();
    // Who asked as well said then what he says of the other one.
    call.befriend(tx, &mut news, (terms.or(own.terms), theirs), &own.wording).await?;
    Ok((call.friend(tx).await?, news.tell(tx).await?))
}

/// Says no.
pub(super) async fn reject(tx: &mut Tx<'_>, call: &Call) -> Result<(UserInfo, Vec<Push>), Error> {
    answerable(application::find(tx, call.me, call.other).await?, call.now)?;
    let mut news = call.news();
    for pair in [(call.me, call.other), (call.other, call.me)] {
        call.answer(tx, &mut news, pair, State::Rejected).await?;
    }
    let user = call.application(tx).await?.apply_user.unwrap_or_default();
    Ok((user, news.tell(tx).await?))
}

fn user_of(friend: FriendInfo) -> UserInfo {
    UserInfo {
        user_id: friend.user_id,
        user_name: friend.user_name,
        user_avatar_url: friend.user_avatar_url,
        user_extended_data: friend.user_extended_data,
    }
}
