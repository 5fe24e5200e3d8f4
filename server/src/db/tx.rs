//! A transaction as a job sees it: one type, two databases.

use std::fmt;

use super::dialect::Dialect;
use super::error::DbError;
use super::row::Row;
use super::value::Value;
use super::{postgres, sqlite};
use crate::effect::Effect;

/// A job's hold on its transaction. On SQLite every statement is done when it returns; on PostgreSQL it is awaited. A job
/// waits for nothing else.
///
/// After a statement has failed nothing more is done, on either database: the job is rolled back, whatever it answers.
pub struct Tx<'c> {
    link: Link<'c>,
    effects: &'c mut Vec<Effect>,
    statements: u64,
    failure: Option<DbError>,
    /// A statement has begun and not ended: whoever drops its future leaves the connection in the middle of it.
    is_busy: bool,
}

/// The connection underneath.
pub(super) enum Link<'c> {
    Sqlite(&'c mut dyn sqlite::Statements),
    Postgres(&'c mut postgres::Link),
}

/// What became of a transaction in the hands of a job.
pub(super) struct Ended {
    pub(super) statements: u64,
    /// The first statement that failed.
    pub(super) failure: Option<DbError>,
    /// A statement was left in the middle.
    pub(super) is_busy: bool,
}

impl<'c> Tx<'c> {
    pub(super) fn new(link: Link<'c>, effects: &'c mut Vec<Effect>) -> Self {
        Self { link, effects, statements: 0, failure: None, is_busy: false }
    }

    pub(super) fn end(self) -> Ended {
        Ended { statements: self.statements, failure: self.failure, is_busy: self.is_busy }
    }
}

impl Tx<'_> {
    /// Runs a statement; returns the number of rows that it changed.
    ///
    /// # Errors
    /// The statement failed, and with it the job.
    pub async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        self.begin(params)?;
        let done = match &mut self.link {
            Link::Sqlite(link) => link.execute(sql, params),
            Link::Postgres(link) => link.execute(sql, params).await,
        };
        self.finish(done)
    }

    /// Runs a statement; returns its rows.
    ///
    /// # Errors
    /// The statement failed, and with it the job.
    pub async fn fetch(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        self.begin(params)?;
        let done = match &mut self.link {
            Link::Sqlite(link) => link.fetch(sql, params, usize::MAX),
            Link::Postgres(link) => link.fetch(sql, params).await,
        };
        self.finish(done)
    }

    /// Runs a statement of which only the first row matters.
    ///
    /// # Errors
    /// The statement failed, and with it the job.
    pub async fn fetch_one(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>, DbError> {
        self.begin(params)?;
        let done = match &mut self.link {
            Link::Sqlite(link) => link.fetch(sql, params, 1),
            Link::Postgres(link) => link.fetch(sql, params).await,
        };
        Ok(self.finish(done)?.into_iter().next())
    }

    /// The database, where the text of a statement depends on it.
    pub fn dialect(&self) -> Dialect {
        match self.link {
            Link::Sqlite(_) => Dialect::Sqlite,
            Link::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Tells the rest of the server, once this is committed; if the job is rolled back, nobody. A read tells nobody either.
    pub fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Statements so far: tests hold a job to what it may cost.
    pub fn statements(&self) -> u64 {
        self.statements
    }

    fn begin(&mut self, params: &[Value]) -> Result<(), DbError> {
        if self.failure.is_some() {
            return Err(DbError::other("a statement of this job has failed: nothing more is done"));
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

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("dialect", &self.dialect())
            .field("statements", &self.statements)
            .finish_non_exhaustive()
    }
}
