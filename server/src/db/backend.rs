//! The interface of a database connection, common to SQLite and PostgreSQL.

use std::time::Duration;

use super::error::DbError;
use super::locks::Locks;
use super::tx::Tx;
use crate::effect::Effect;

/// Whether a transaction may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It reads one snapshot.
    Read,
    Write,
}

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The limit of one statement.
    pub(super) statement: Duration,
    /// The limit of one job with all its statements.
    pub(super) job: Duration,
}

/// A connection that runs one transaction at a time. `begin` reconnects if the connection is lost.
pub(super) trait Backend {
    /// Whether to lock heads. A database with one writer needs no locks.
    const LOCKS: bool;

    /// Begins a transaction and takes its locks.
    async fn begin(&mut self, access: Access, locks: &Locks) -> Result<(), DbError>;

    /// Whether nobody holds these locks. Waits for them only for a moment.
    async fn are_free(&mut self, locks: &Locks) -> bool;

    /// Releases the last savepoint and sets the next one: there is one at a time.
    async fn savepoint(&mut self) -> Result<(), DbError>;

    /// Rolls back to the savepoint and keeps it.
    async fn rollback_to_savepoint(&mut self) -> Result<(), DbError>;

    /// Commits. The transaction is over, also after an error.
    async fn commit(&mut self) -> Result<(), DbError>;

    /// Rolls the transaction back. If the database does not confirm it, the connection is discarded.
    async fn rollback(&mut self);

    /// Returns the transaction for one job, or `None` if the connection is lost.
    fn tx<'a>(&'a mut self, effects: &'a mut Vec<Effect>) -> Option<Tx<'a>>;

    /// Whether a transaction is open. Some failures end it.
    fn is_in_transaction(&self) -> bool;

    /// Returns the time limits of its jobs.
    fn limits(&self) -> Limits;

    /// Discards the connection, whose state is unknown.
    fn discard(&mut self);

    /// Runs a job until it ends or reaches its limit.
    async fn limit<T>(limits: Limits, job: impl Future<Output = T>) -> Result<T, DbError>;
}
