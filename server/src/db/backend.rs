//! What a partition needs of a connection, whichever database it is to.

use std::time::Duration;

use super::error::DbError;
use super::locks::Locks;
use super::tx::Tx;
use crate::effect::Effect;

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads one snapshot.
    Read,
    Write,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// One statement.
    pub(super) statement: Duration,
    /// One job, whatever the number of its statements.
    pub(super) job: Duration,
}

/// A connection that runs one transaction at a time. It mends itself: `begin` connects again where that is needed.
pub(super) trait Backend {
    /// Whether heads are locked: a database with one writer needs no locks.
    const LOCKS: bool;

    /// Begins a transaction, with its locks.
    async fn begin(&mut self, access: Access, locks: &Locks) -> Result<(), DbError>;

    /// Keeps what came since the last savepoint, and sets the next one: there is one at a time.
    async fn savepoint(&mut self) -> Result<(), DbError>;

    /// Takes back what came since the savepoint, which stays.
    async fn rollback_to_savepoint(&mut self) -> Result<(), DbError>;

    /// Whatever it answers, the transaction is over.
    async fn commit(&mut self) -> Result<(), DbError>;

    /// The transaction is over. If that cannot be told to the database, the connection is given up instead.
    async fn rollback(&mut self);

    /// The transaction in the hands of one job; `None` if the connection is lost.
    fn tx<'a>(&'a mut self, effects: &'a mut Vec<Effect>) -> Option<Tx<'a>>;

    /// Whether there is still a transaction: some failures take all of it down.
    fn is_in_transaction(&self) -> bool;

    /// The limits of its jobs.
    fn limits(&self) -> Limits;

    /// Gives the connection up: nobody knows what state it is in.
    fn discard(&mut self);

    /// Runs a job to its end, or to its limit.
    async fn limit<T>(limits: Limits, job: impl Future<Output = T>) -> Result<T, DbError>;
}
