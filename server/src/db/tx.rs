//! A job's transaction: one type for both databases.

use std::borrow::Cow;
use std::fmt;

use super::dialect::Dialect;
use super::error::DbError;
use super::locks::Locks;
use super::row::Row;
use super::scope::Scope;
use super::value::Value;
use super::{postgres, sqlite};
use crate::effect::Effect;
use crate::key::{CallKey, ConversationKey, UserKey};

/// A job's handle to its transaction. A statement on SQLite completes without waiting; on PostgreSQL it waits for the server. A
/// job awaits nothing else.
///
/// After a failed statement, all further ones fail on both databases, and the job is rolled back, whatever it returns.
pub struct Tx<'c> {
    link: Link<'c>,
    effects: &'c mut Vec<Effect>,
    statements: u64,
    failure: Option<DbError>,
    /// A statement has begun and not ended. If its future is dropped, the connection is left in the middle of the statement.
    is_busy: bool,
    /// The rows that are locked for the job, in debug builds.
    locked: Locks,
}

/// The connection of a transaction.
pub(super) enum Link<'c> {
    Sqlite(&'c mut dyn sqlite::Statements),
    Postgres(&'c mut postgres::Link),
}

/// The state of a [`Tx`] when its job ends.
pub(super) struct Ended {
    pub(super) statements: u64,
    /// The error of the first failed statement.
    pub(super) failure: Option<DbError>,
    /// A statement has begun and not ended.
    pub(super) is_busy: bool,
}

impl<'c> Tx<'c> {
    pub(super) fn new(link: Link<'c>, effects: &'c mut Vec<Effect>) -> Self {
        Self { link, effects, statements: 0, failure: None, is_busy: false, locked: Locks::default() }
    }

    pub(super) fn end(self) -> Ended {
        Ended { statements: self.statements, failure: self.failure, is_busy: self.is_busy }
    }
}

impl Tx<'_> {
    /// Runs a statement. Returns the number of rows that it changed.
    ///
    /// # Errors
    /// The statement failed; the job fails with it.
    pub async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        self.begin(params)?;
        let done = match &mut self.link {
            Link::Sqlite(link) => link.execute(sql, params),
            Link::Postgres(link) => link.execute(sql, params).await,
        };
        self.finish(done)
    }

    /// Runs a statement. Returns its rows.
    ///
    /// # Errors
    /// The statement failed; the job fails with it.
    pub async fn fetch(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        self.begin(params)?;
        let done = match &mut self.link {
            Link::Sqlite(link) => link.fetch(sql, params, usize::MAX),
            Link::Postgres(link) => link.fetch(sql, params).await,
        };
        self.finish(done)
    }

    /// Runs a statement. Returns its first row.
    ///
    /// # Errors
    /// The statement failed; the job fails with it.
    pub async fn fetch_one(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>, DbError> {
        self.begin(params)?;
        let done = match &mut self.link {
            Link::Sqlite(link) => link.fetch(sql, params, 1),
            Link::Postgres(link) => link.fetch(&first_row(sql), params).await,
        };
        Ok(self.finish(done)?.into_iter().next())
    }

    /// Returns the database, for statements whose text depends on it.
    pub fn dialect(&self) -> Dialect {
        match self.link {
            Link::Sqlite(_) => Dialect::Sqlite,
            Link::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Notifies the rest of the server after the commit. The effects of reads and of rolled back jobs are dropped.
    pub fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Tells which rows are locked for the job. Debug builds check them.
    pub(super) fn set_locked(&mut self, locks: &Locks) {
        if cfg!(debug_assertions) {
            self.locked = locks.clone();
        }
    }

    /// Notes that the job made this user: nobody else sees the row before the commit, so it needs no lock.
    pub fn made_user(&mut self, user: UserKey) {
        if cfg!(debug_assertions) {
            self.locked.users.push(user.0);
        }
    }

    /// Notes that the job made this conversation.
    pub fn made_conversation(&mut self, conversation: ConversationKey) {
        if cfg!(debug_assertions) {
            self.locked.conversations.push(conversation.0);
        }
    }

    /// Notes that the job made this call.
    pub fn made_call(&mut self, call: CallKey) {
        if cfg!(debug_assertions) {
            self.locked.calls.push(call.0);
        }
    }

    /// Checks in debug builds that the job's scope has this call.
    pub fn assert_covers_call(&self, call: CallKey) {
        debug_assert!(self.locked.calls.contains(&call.0), "the scope of a job does not cover {call:?}");
    }

    /// Checks in debug builds that the job's scope has this user, on SQLite as well, where nothing is locked. Without the lock,
    /// two jobs on PostgreSQL could number their entries alike.
    pub fn assert_covers_user(&self, user: UserKey) {
        debug_assert!(self.locked.users.contains(&user.0), "the scope of a job does not cover {user:?}");
    }

    /// Checks in debug builds that the job's scope has this conversation.
    pub fn assert_covers_conversation(&self, conversation: ConversationKey) {
        debug_assert!(
            self.locked.conversations.contains(&conversation.0),
            "the scope of a job does not cover {conversation:?}"
        );
    }

    /// Checks in debug builds that the job's scope has all that `scope` has.
    pub fn assert_covers(&self, scope: &Scope) {
        scope.users().for_each(|user| self.assert_covers_user(user));
        scope.conversations().for_each(|conversation| self.assert_covers_conversation(conversation));
        scope.calls().for_each(|call| self.assert_covers_call(call));
    }

    /// Returns the number of statements so far: tests bound the cost of jobs with it.
    pub fn statements(&self) -> u64 {
        self.statements
    }

    fn begin(&mut self, params: &[Value]) -> Result<(), DbError> {
        if self.failure.is_some() {
            return Err(DbError::other("a statement of this job has failed, so no further one runs"));
        }
        if let Some(problem) = params.iter().find_map(Value::problem) {
            return Err(self.fail(DbError::other(problem)));
        }
        self.statements += 1;
        self.is_busy = true;
        Ok(())
    }

    fn finish<T>(&mut self, done: Result<T, DbError>) -> Result<T, DbError> {
        self.is_busy = false;
        done.map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: DbError) -> DbError {
        self.failure = Some(error.clone());
        error
    }
}

/// Limits a query to one row. The driver reads all rows, and PostgreSQL computes them.
fn first_row(sql: &str) -> Cow<'_, str> {
    let is_query = sql.starts_with("SELECT ");
    if is_query && !sql.contains(" LIMIT ") { format!("{sql} LIMIT 1").into() } else { sql.into() }
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("dialect", &self.dialect())
            .field("statements", &self.statements)
            .finish_non_exhaustive()
    }
}
