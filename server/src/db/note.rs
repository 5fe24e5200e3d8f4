//! What is stored beside the writes of a task.

use std::fmt;
use std::sync::Arc;

use super::tx::Tx;
use super::value::Value;
use crate::error::Error;

tokio::task_local! {
    static NOTE: Note;
}

/// A statement that runs at the end of each job that a task submits, in the transaction of the job: either both are stored or
/// neither. No method can forget it, and none has to know of it.
#[derive(Clone)]
pub struct Note(Arc<Statement>);

/// Returns the SQL and its parameters. It is asked when the job has run.
type Statement = dyn Fn() -> (&'static str, Vec<Value>) + Send + Sync;

impl Note {
    /// Creates a note. The statement may run several times, and must then have no further effect.
    pub fn new(statement: impl Fn() -> (&'static str, Vec<Value>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(statement))
    }

    /// Runs `work`. What it submits itself has the note beside it, and what it gives to other tasks has not.
    pub async fn beside<F: Future>(self, work: F) -> F::Output {
        NOTE.scope(self, work).await
    }

    /// Returns the note of the present task.
    pub(super) fn current() -> Option<Self> {
        NOTE.try_with(Self::clone).ok()
    }

    pub(super) async fn store(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        let (sql, values) = (self.0)();
        tx.execute(sql, &values).await?;
        Ok(())
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Note").finish_non_exhaustive()
    }
}
