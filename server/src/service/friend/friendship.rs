//! The jobs that change lists of friends. Both users are in their scope: what a job reads stays true until its commit.

use zim_protocol::{FriendApplicationInfo, FriendInfo};

use super::application::{self, APPLICATION};
use super::rules::{Application, Attributes, Remarks, merged};
use super::store::{self, FRIEND, Friend};
use crate::app::Named;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::UserKey;
use crate::service::application::State;
use crate::service::blacklist::is_blocked;
use crate::service::counter::Counter;

/// A request of one user about another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) me: UserKey,
    pub(super) other: UserKey,
    pub(super) now: i64,
    /// The most friends of one user.
    pub(super) max_friends: u64,
}

impl Pair {
    pub(super) fn scope(&self) -> Scope {
        Scope::user(self.me).and_user(self.other)
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
        self.check_room_of(tx, self.me, "your").await?;
        self.check_room_of(tx, self.other, "the other user's").await
    }

    async fn check_room_of(&self, tx: &mut Tx<'_>, user: UserKey, whose: &str) -> Result<(), Error> {
        match Counter::FRIENDS.get(tx, user).await?.unsigned_abs() {
            count if count >= self.max_friends => Err(Error::friends_full(whose, self.max_friends)),
            _ => Ok(()),
        }
    }

    /// Puts each user on the other's list, where they are not yet. This accepts waiting applications between them.
    /// `mine` are the caller's remarks, `theirs` the other user's.
    pub(super) async fn befriend(
        &self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        (mine, theirs): (Remarks, Remarks),
        wording: &str,
    ) -> Result<FriendInfo, Error> {
        self.answer_applications(tx, log, State::Accepted).await?;
        let sides = [(self.me, self.other, mine, "your"), (self.other, self.me, theirs, "the other user's")];
        for (user, other, remarks, whose) in sides {
            if store::find(tx, user, other).await?.is_some() {
                continue;
            }
            self.check_room_of(tx, user, whose).await?;
            let place = log.feed(tx, user, &FRIEND, other).await?;
            let row = Friend { remarks, wording: wording.to_owned(), created_at: self.now, place };
            store::insert(tx, user, other, row).await?;
        }
        self.friend(tx).await
    }

    /// Ends the waiting application between the two users, in the row of each.
    pub(super) async fn answer_applications(
        &self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        state: State,
    ) -> Result<(), Error> {
        for (user, other) in [(self.me, self.other), (self.other, self.me)] {
            let Some(row) = application::find(tx, user, other).await? else { continue };
            let Some(life) = row.life.end(state, self.now) else { continue };
            let place = log.feed(tx, user, &APPLICATION, other).await?;
            application::save(tx, (user, other), Application { life, ..row }, place).await?;
        }
        Ok(())
    }
}

/// Makes two users friends of each other.
pub(super) async fn add(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    pair: Pair,
    remarks: Remarks,
    wording: &str,
) -> Result<FriendInfo, Error> {
    pair.check_may_befriend(tx).await?;
    // If the other user has applied, the remarks of that application go on the other user's list.
    let theirs = application::find(tx, pair.other, pair.me).await?.filter(|row| row.life.is_waiting(pair.now));
    let theirs = theirs.map(|row| row.remarks).unwrap_or_default();
    pair.befriend(tx, log, (remarks, theirs), wording).await
}

/// Removes users from the list of `me`, and `me` from theirs if `is_mutual`. Leaves out those who were no friends.
pub(super) async fn delete(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    me: UserKey,
    mut named: Named,
    is_mutual: bool,
) -> Result<Named, Error> {
    let (mine, theirs) = store::relations(tx, me, &named.keys()).await?;
    named.leave_out(|other, id| (!mine.contains(&other)).then(|| Error::not_friends(id)));
    for (other, _) in &named.found {
        log.feed(tx, me, &FRIEND, *other).await?;
        store::remove(tx, me, *other).await?;
        if is_mutual && theirs.contains(other) {
            log.feed(tx, *other, &FRIEND, me).await?;
            store::remove(tx, *other, me).await?;
        }
    }
    Ok(named)
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
    log: &mut LogWriter,
    pair: Pair,
    id: &str,
    change: RemarksChange,
) -> Result<FriendInfo, Error> {
    let before = store::find(tx, pair.me, pair.other).await?.ok_or_else(|| Error::not_friends(id))?;
    let mut after = before.clone();
    match change {
        RemarksChange::Alias(alias) => after.alias = alias,
        RemarksChange::Attributes(changes) => after.attributes = merged(after.attributes, changes)?,
    }
    if after != before {
        log.feed(tx, pair.me, &FRIEND, pair.other).await?;
        store::update(tx, pair.me, pair.other, after).await?;
    }
    pair.friend(tx).await
}
