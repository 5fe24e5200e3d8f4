//! Runs each job of a transaction in a savepoint: the job is kept or rolled back as a whole, without effect on the others.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::backend::{Access, Backend};
use super::error::{DbError, DbErrorKind};
use super::locks::Locks;
use super::tx::Tx;
use crate::effect::Effect;

/// The transaction is lost, with everything that was done in it.
pub(super) struct Lost(pub(super) DbError);

/// How a job ended.
pub(super) struct Outcome<T> {
    /// What the job returned, if it returned.
    pub(super) value: Option<T>,
    /// The error of the first failed statement, a panic, or the time limit.
    pub(super) failure: Option<DbError>,
    pub(super) is_kept: bool,
}

/// An open transaction in which jobs run one after the other.
pub(super) struct Savepoints<'s, S> {
    backend: &'s mut S,
    /// The effects of the jobs that were kept.
    pub(super) effects: Vec<Effect>,
    /// Whether each job has a savepoint. A single job needs none: it fails with its transaction.
    is_nested: bool,
    pub(super) statements: u64,
}

impl<'s, S: Backend> Savepoints<'s, S> {
    /// Call it after `begin`.
    pub(super) fn new(backend: &'s mut S, is_nested: bool) -> Self {
        Self { backend, effects: Vec::new(), is_nested, statements: 0 }
    }

    /// Runs the following jobs in savepoints. If a run without a savepoint ended the transaction, it begins a new one.
    pub(super) async fn continue_nested(&mut self, locks: &Locks) -> Result<(), Lost> {
        self.is_nested = true;
        if self.backend.is_in_transaction() {
            return Ok(());
        }
        self.backend.begin(Access::Write, locks).await.map_err(Lost)
    }

    /// Runs a job. Its changes are kept if no statement failed and `should_keep` accepts what it returned.
    pub(super) async fn run<T>(
        &mut self,
        job: impl AsyncFnOnce(&mut Tx<'_>) -> T,
        should_keep: impl FnOnce(&T) -> bool,
    ) -> Result<Outcome<T>, Lost> {
        let effects_before = self.effects.len();
        if self.is_nested {
            self.backend.savepoint().await.map_err(Lost)?;
        }
        let limits = self.backend.limits();
        let Some(mut tx) = self.backend.tx(&mut self.effects) else {
            return Err(Lost(DbError::new(DbErrorKind::Disconnected, "the connection to the database is lost")));
        };
        let answer = S::limit(limits, AssertUnwindSafe(job(&mut tx)).catch_unwind()).await;
        let ended = tx.end();
        self.statements += ended.statements;
        let mut failure = ended.failure;
        let value = match answer {
            Ok(Ok(value)) => Some(value),
            Ok(Err(panic)) => {
                failure = Some(DbError::other(format!("a job panicked: {}", panic_message(&*panic))));
                None
            }
            Err(error) => {
                failure = Some(error);
                None
            }
        };
        let is_lost = failure.as_ref().is_some_and(|error| error.kind() == DbErrorKind::Disconnected);
        if ended.is_busy || is_lost {
            self.backend.discard();
        }
        let is_kept = failure.is_none() && !ended.is_busy && value.as_ref().is_some_and(should_keep);
        if !is_kept {
            self.effects.truncate(effects_before);
        }
        if !self.backend.is_in_transaction() {
            return self.lost(value, failure);
        }
        if !is_kept {
            if self.is_nested {
                self.backend.rollback_to_savepoint().await.map_err(Lost)?;
            } else {
                self.backend.rollback().await;
            }
        }
        Ok(Outcome { value, failure, is_kept })
    }

    /// A failure ended the transaction. If the job was the only one, only that job fails.
    fn lost<T>(&self, value: Option<T>, failure: Option<DbError>) -> Result<Outcome<T>, Lost> {
        if !self.is_nested && failure.is_some() {
            return Ok(Outcome { value, failure, is_kept: false });
        }
        Err(Lost(failure.unwrap_or_else(|| DbError::new(DbErrorKind::Conflict, "the transaction has ended"))))
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
