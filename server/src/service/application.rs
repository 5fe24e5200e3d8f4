//! What friend applications and group applications have in common: their life, the pages of their lists, and how a job writes one
//! together with its push. `docs/decisions/0028-applications.md` says what they do not.

/// The states of both have the same numbers.
pub(crate) use zim_protocol::GroupApplicationState as State;
use zim_protocol::{FriendApplicationInfo, GroupApplicationInfo};

use crate::app::App;
use crate::connection::Caller;
use crate::db::{Row, Scope, Tx};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::UserKey;
use crate::push::{self, NewPush};
use crate::service::rows::Page;

/// For how long an application waits that is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) now: i64,
    pub(crate) expires_at: i64,
}

/// The columns that [`Life::read`] reads.
pub(crate) const LIFE: &str = "state, created_at, updated_at, expires_at";

/// The life of an application. It waits until it ends once, or until it expires: that is seen when it is read, and is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Without regard to the expiry.
    pub(crate) state: State,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) expires_at: i64,
}

impl Life {
    /// An application is sent, and replaces the one before it.
    pub(crate) fn begin(term: Term) -> Self {
        let Term { now, expires_at } = term;
        Self { state: State::Waiting, created_at: now, updated_at: now, expires_at }
    }

    /// An application is sent, and continues the one before it if that still waits: it is as old, and waits anew.
    pub(crate) fn repeat(before: Option<Self>, term: Term) -> Self {
        let before = before.filter(|before| before.is_waiting(term.now));
        let created_at = before.map_or(term.now, |before| before.created_at);
        Self { created_at, ..Self::begin(term) }
    }

    /// Returns the state at a time.
    pub(crate) fn state_at(self, now: i64) -> State {
        State::try_from(state_at(self.state as i32, self.expires_at, now)).unwrap_or(self.state)
    }

    /// Whether the application can still be answered.
    pub(crate) fn is_waiting(self, now: i64) -> bool {
        self.state_at(now) == State::Waiting
    }

    /// Ends the application in a state, if it still waits.
    pub(crate) fn end(self, state: State, now: i64) -> Option<Self> {
        self.is_waiting(now).then_some(Self { state, updated_at: now, ..self })
    }

    /// Reads the columns of [`LIFE`], of which the first is column `first`.
    pub(crate) fn read(row: &Row, first: usize) -> Result<Self, Error> {
        let state = State::try_from(row.get::<i32>(first)?);
        Ok(Self {
            state: state.map_err(|_| Error::internal_text("an application in an unknown state"))?,
            created_at: row.get(first + 1)?,
            updated_at: row.get(first + 2)?,
            expires_at: row.get(first + 3)?,
        })
    }
}

/// Returns the state of an application at a time.
fn state_at(state: i32, expires_at: i64, now: i64) -> i32 {
    if state == State::Waiting as i32 && expires_at <= now { State::Expired as i32 } else { state }
}

/// An application as lists show it.
pub(crate) trait Listed: prost::Message {
    fn state_mut(&mut self) -> &mut i32;
}

impl Listed for FriendApplicationInfo {
    fn state_mut(&mut self) -> &mut i32 {
        &mut self.state
    }
}

impl Listed for GroupApplicationInfo {
    fn state_mut(&mut self) -> &mut i32 {
        &mut self.state
    }
}

/// Returns a page of the applications that a user sees, the last changed first, as they are at a time, and the flag of the next page.
/// The statement is as for [`Page::fetch`]; `read` returns when the application expires, too.
pub(crate) async fn page<T: Listed>(
    tx: &mut Tx<'_>,
    user: UserKey,
    (page, now): (Page, i64),
    sql: &str,
    read: impl Fn(&Row) -> Result<(T, i64), Error>,
) -> Result<(Vec<T>, i64), Error> {
    page.fetch(tx, user, sql, |row| {
        let (mut info, expires_at) = read(row)?;
        let state = info.state_mut();
        *state = state_at(*state, expires_at, now);
        Ok(info)
    })
    .await
}

impl App {
    /// Returns for how long an application waits that is sent at a time.
    pub(crate) fn term(&self, now: i64) -> Term {
        Term { now, expires_at: now + i64::from(self.config.limits.friend_application_valid_s) * 1_000 }
    }

    /// Runs a job that sends or answers an application, and stores the push about it. The job returns who gets it. `about` is the group,
    /// or 0.
    ///
    /// # Errors
    /// Those of the job, or the store fails.
    pub(crate) async fn write_application<T: Send + 'static>(
        &self,
        caller: &Caller,
        scope: Scope,
        (push, about): (Option<NewPush>, i64),
        job: impl AsyncFnOnce(&mut Tx<'_>, &mut LogWriter) -> Result<(T, Vec<UserKey>), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let written = caller.write(&self.db, scope, async move |tx: &mut Tx<'_>, log: &mut LogWriter| {
            let (answer, receivers) = job(tx, log).await?;
            push::insert(push, tx, about, &receivers).await?;
            Ok(answer)
        });
        written.await
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::FriendApplicationState as FriendState;

    use super::*;

    const TERM: Term = Term { now: 10, expires_at: 20 };

    #[test]
    fn the_states_of_both_have_the_same_numbers() {
        let friends = [
            FriendState::Waiting,
            FriendState::Accepted,
            FriendState::Rejected,
            FriendState::Expired,
            FriendState::Disabled,
        ]
        .map(|state| state as i32);
        let groups = [State::Waiting, State::Accepted, State::Rejected, State::Expired, State::Disabled];
        assert_eq!(friends, groups.map(|state| state as i32));
    }

    #[test]
    fn one_that_waits_expires() {
        let life = Life::begin(TERM);
        assert_eq!((life.state_at(19), life.is_waiting(19)), (State::Waiting, true));
        assert_eq!((life.state_at(20), life.is_waiting(20)), (State::Expired, false));
        let rejected = Life { state: State::Rejected, ..life };
        assert_eq!((rejected.state_at(20), rejected.is_waiting(19)), (State::Rejected, false));
    }

    #[test]
    fn only_one_that_waits_ends() {
        let life = Life::begin(TERM);
        let ended = life.end(State::Accepted, 15).unwrap();
        assert_eq!(ended, Life { state: State::Accepted, updated_at: 15, ..life });
        assert_eq!(ended.end(State::Disabled, 16), None);
        assert_eq!(life.end(State::Rejected, 20), None);
    }

    #[test]
    fn one_that_is_repeated_is_as_old_as_the_one_that_waits() {
        let again = Term { now: 15, expires_at: 25 };
        let first = Life::begin(TERM);
        let expected = Life { state: State::Waiting, created_at: 10, updated_at: 15, expires_at: 25 };
        assert_eq!(Life::repeat(Some(first), again), expected);
        let rejected = Life { state: State::Rejected, ..first };
        let expired = Life { expires_at: 15, ..first };
        for before in [None, Some(rejected), Some(expired)] {
            assert_eq!(Life::repeat(before, again), Life::begin(again));
        }
    }
}
