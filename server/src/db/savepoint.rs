//! One attempt at a job within a transaction: it is kept whole or taken back whole, and its neighbours do not notice.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::backend::{Access, Backend};
use super::error::{DbError, DbErrorKind};
use super::locks::Locks;
use super::tx::Tx;
use crate::effect::Effect;

/// The transaction is gone, with all that was done in it.
pub(super) struct Lost(pub(super) DbError);

/// How an attempt ended.
pub(super) struct Outcome<T> {
    /// What the job answered, if it came to that.
    pub(super) value: Option<T>,
    /// The first statement that failed; or a panic, or the time limit.
    pub(super) failure: Option<DbError>,
    pub(super) is_kept: bool,
}

/// A transaction that is being filled.
pub(super) struct Savepoints<'s, S> {
    backend: &'s mut S,
    /// Of what has been kept.
    pub(super) effects: Vec<Effect>,
    /// Each attempt has a savepoint. A lone job needs none: its failure is the transaction's.
    is_nested: bool,
    pub(super) statements: u64,
}

impl<'s, S: Backend> Savepoints<'s, S> {
    /// After `begin`.
    pub(super) fn new(backend: &'s mut S, is_nested: bool) -> Self {
        Self { backend, effects: Vec::new(), is_nested, statements: 0 }
    }

    /// The next attempts have savepoints; if the only attempt so far took the transaction with it, there is a new one.
    pub(super) async fn continue_nested(&mut self, locks: &Locks) -> Result<(), Lost> {
        self.is_nested = true;
        if self.backend.is_in_transaction() {
            return Ok(());
        }
        self.backend.begin(Access::Write, locks).await.map_err(Lost)
    }

    /// Runs a job. What it did is kept if no statement failed and `should_keep` says so of its answer.
    pub(super) async fn run<T>(
        &mut self,
        job: impl AsyncFnOnce(&mut Tx<'_>) -> T,
        should_keep: impl FnOnce(&T) -> bool,
    ) -> Result<Outcome<T>, Lost> {
        let mark = self.effects.len();
        if self.is_nested {
            self.backend.savepoint().await.map_err(Lost)?;
        }
        let limits = self.backend.limits();
        let Some(mut tx) = self.backend.tx(&mut self.effects) else {
            return Err(Lost(DbError::new(DbErrorKind::Disconnected, "the connection is lost")));
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
            self.effects.truncate(mark);
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

    /// The failure took the transaction along: that of a lone job hurts nobody else.
    fn lost<T>(&self, value: Option<T>, failure: Option<DbError>) -> Result<Outcome<T>, Lost> {
        if !self.is_nested && failure.is_some() {
            return Ok(Outcome { value, failure, is_kept: false });
        }
        Err(Lost(failure.unwrap_or_else(|| DbError::new(DbErrorKind::Conflict, "the transaction is gone"))))
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}
