//! The jobs that change lists of friends. Both users' heads are locked: what a job reads stays true until its commit.

use zim_protocol::{ErrorUserInfo, FriendApplicationInfo, FriendApplicationState as State, FriendInfo, Push};

use super::application;
use super::feed_writer::FeedWriter;
use super::rules::{Attributes, Remarks, merged};
use super::store::{self, Friend};
use crate::db::Tx;
use crate::error::{Error, LeftOut};
use crate::journal::FeedKind;
use crate::key::{LoginKey, UserKey};
use crate::service::blacklist::is_blocked;

/// A request of one user about another.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) me: UserKey,
    pub(super) other: UserKey,
    pub(super) login: LoginKey,
    pub(super) now: i64,
    /// The most friends of one user.
    pub(super) max_friends: u64,
}

impl Pair {
    pub(super) fn feed(&self) -> FeedWriter {
        FeedWriter::new(self.me, self.login)
    }

    /// Returns the other user as the caller sees them.
    pub(super) async fn friend(&self, tx: &mut Tx<'_>) -> Result<FriendInfo, Error> {
        let found = store::entries(tx, self.me, &[self.other.0]).await?;
        let entry = found.into_values().next().filter(|entry| !entry.is_deleted);
        entry.and_then(|entry| entry.info).ok_or_else(|| Error::internal_text("a friend without a row"))
    }

    /// Returns the application between the two users as the caller sees it.
    pub(super) async fn application(&self, tx: &mut Tx<'_>) -> Result<FriendApplicationInfo, Error> {
        let found = application::entries(tx, self.me, &[self.other.0]).await?;
        let info = found.into_values().next().and_then(|entry| entry.info);
        info.ok_or_else(|| Error::internal_text("an application without a row"))
    }

    /// Checks that the two are not friends and that the other user has not blocked the caller.
    pub(super) async fn check_may_befriend(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        if store::find(tx, self.me, self.other).await?.is_some() {
            return Err(Error::already_friends());
        }
        if is_blocked(tx, self.other, self.me).await? {
            return Err(Error::blocked_by_friend());
        }
        Ok(())
    }

    /// Checks that both lists have room for another friend.
    pub(super) async fn check_room(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        for (user, whose) in [(self.me, "your"), (self.other, "the other user's")] {
            if store::count(tx, user).await? >= self.max_friends {
                return Err(Error::friends_full(whose, self.max_friends));
            }
        }
        Ok(())
    }

    /// Puts each user on the other's list, where they are not yet. This accepts waiting applications between them.
    /// `mine` are the caller's remarks, `theirs` the other user's.
    pub(super) async fn befriend(
        &self,
        tx: &mut Tx<'_>,
        feed: &mut FeedWriter,
        (mine, theirs): (Remarks, Remarks),
        wording: &str,
    ) -> Result<(), Error> {
        for (user, other) in [(self.me, self.other), (self.other, self.me)] {
            self.answer_application(tx, feed, (user, other), State::Accepted).await?;
        }
        let sides = [(self.me, self.other, mine, "your"), (self.other, self.me, theirs, "the other user's")];
        for (user, other, remarks, whose) in sides {
            if store::find(tx, user, other).await?.is_some() {
                continue;
            }
            if store::count(tx, user).await? >= self.max_friends {
                return Err(Error::friends_full(whose, self.max_friends));
            }
            let place = feed.add(tx, user, FeedKind::Friend, other).await?;
            let row = Friend { remarks, wording: wording.to_owned(), created_at: self.now, place };
            store::insert(tx, user, other, row).await?;
        }
        Ok(())
    }

    /// Ends the waiting application between two users in the row of `user`.
    pub(super) async fn answer_application(
        &self,
        tx: &mut Tx<'_>,
        feed: &mut FeedWriter,
        (user, other): (UserKey, UserKey),
        state: State,
    ) -> Result<(), Error> {
        let Some(mut row) = application::find(tx, user, other).await?.filter(|row| row.is_waiting(self.now)) else {
            return Ok(());
        };
        row.state = state;
        row.updated_at = self.now;
        let place = feed.add(tx, user, FeedKind::Application, other).await?;
        application::save(tx, (user, other), row, place).await
    }
}

/// Makes two users friends of each other.
pub(super) async fn add(
    tx: &mut Tx<'_>,
    pair: &Pair,
    remarks: Remarks,
    wording: &str,
) -> Result<(FriendInfo, Vec<Push>), Error> {
    pair.check_may_befriend(tx).await?;
    let mut feed = pair.feed();
    // If the other user has applied, the remarks of that application go on the other user's list.
    let theirs = application::find(tx, pair.other, pair.me).await?.filter(|row| row.is_waiting(pair.now));
    let theirs = theirs.map(|row| row.remarks).unwrap_or_default();
    pair.befriend(tx, &mut feed, (remarks, theirs), wording).await?;
    Ok((pair.friend(tx).await?, feed.emit(tx).await?))
}

/// Removes users from the list of `me`, and `me` from theirs if `is_mutual`. Reports those who were no friends.
pub(super) async fn delete(
    tx: &mut Tx<'_>,
    (me, login): (UserKey, LoginKey),
    others: Vec<(UserKey, String)>,
    is_mutual: bool,
    mut left_out: LeftOut,
) -> Result<(Vec<Push>, Vec<ErrorUserInfo>), Error> {
    let mut feed = FeedWriter::new(me, login);
    let mut deleted = 0;
    for (other, id) in others {
        if store::find(tx, me, other).await?.is_none() {
            left_out.add(id.clone(), Error::not_friends(&id));
            continue;
        }
        deleted += 1;
        feed.add(tx, me, FeedKind::Friend, other).await?;
        store::remove(tx, me, other).await?;
        if is_mutual && store::find(tx, other, me).await?.is_some() {
            feed.add(tx, other, FeedKind::Friend, me).await?;
            store::remove(tx, other, me).await?;
        }
    }
    Ok((feed.emit(tx).await?, left_out.finish(deleted)?))
}

/// A change of a user's remarks about a friend.
#[derive(Clone, Debug)]
pub(super) enum RemarksChange {
    /// The name that the user gives the friend.
    Alias(String),
    /// Some of the friend's attributes.
    Attributes(Attributes),
}

/// Changes the caller's remarks about a friend. Only the caller's own devices learn of it.
pub(super) async fn change_remarks(
    tx: &mut Tx<'_>,
    pair: &Pair,
    id: &str,
    change: RemarksChange,
) -> Result<(FriendInfo, Vec<Push>), Error> {
    let before = store::find(tx, pair.me, pair.other).await?.ok_or_else(|| Error::not_friends(id))?;
    let after = match change {
        RemarksChange::Alias(alias) => Remarks { alias, ..before.clone() },
        RemarksChange::Attributes(changes) => {
            Remarks { attributes: merged(before.attributes.clone(), changes)?, ..before.clone() }
        }
    };
    let mut feed = pair.feed();
    if after != before {
        feed.add(tx, pair.me, FeedKind::Friend, pair.other).await?;
        store::update(tx, pair.me, pair.other, after).await?;
    }
    Ok((pair.friend(tx).await?, feed.emit(tx).await?))
}
