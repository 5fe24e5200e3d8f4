//! Jobs: closures that run in a transaction, and the futures of their answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;

use super::error::{DbError, DbErrorKind};
use super::scope::Scope;
use super::tx::Tx;
use crate::error::Error;

/// The most frequent write. Consecutive ops of a batch run together, as a few multi-row statements.
pub trait Bulk: Sized + Send + 'static {
    /// What the caller gets.
    type Out: Send + 'static;

    /// Returns what the op may change.
    fn scope(&self) -> Scope;

    /// Runs all of `ops` and returns one result for each, in their order. An inner error refuses one op, which must have written
    /// nothing; the others are stored. An outer error rolls back all ops. They then run in halves, until the op that causes the
    /// error fails alone.
    fn run(tx: &mut Tx<'_>, ops: &[Self]) -> impl Future<Output = Result<Vec<Result<Self::Out, Error>>, Error>>;
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// The answer to a submitted job. Dropping it does not cancel the job.
#[derive(Debug)]
#[must_use = "the answer tells whether the job was done"]
pub struct Submitted<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Waiting(oneshot::Receiver<Result<T, Error>>),
    Refused(Option<DbError>),
}

impl<T> Submitted<T> {
    /// Whether the queue did not take the job.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.0, State::Refused(_))
    }

    pub(super) fn enqueue(push: impl FnOnce(Reply<T>) -> Result<(), DbError>) -> Self {
        let (reply, answer) = oneshot::channel();
        Self(match push(reply) {
            Ok(()) => State::Waiting(answer),
            Err(error) => State::Refused(Some(error)),
        })
    }
}

impl<T> Future for Submitted<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            State::Waiting(answer) => Pin::new(answer).poll(context).map(|answer| {
                // The sender is dropped without an answer only if its batch panicked.
                let lost = || DbError::new(DbErrorKind::Disconnected, "a job was lost with its batch");
                answer.unwrap_or_else(|_| Err(lost().into()))
            }),
            State::Refused(error) => Poll::Ready(Err(error.take().unwrap_or_else(DbError::closed).into())),
        }
    }
}

/// A type-erased job.
pub(super) trait Job: Send {
    /// Runs the job once. Returns whether it succeeded, so that its changes are kept.
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> LocalBoxFuture<'a, bool>;

    /// Answers the caller with the job's own result, or with the error in `committed`.
    fn finish(self: Box<Self>, committed: Result<(), DbError>);
}

struct Plain<T, F> {
    job: Option<F>,
    result: Option<Result<T, Error>>,
    reply: Reply<T>,
}

/// Makes a job of an async closure.
pub(super) fn plain<T, F>(job: F, reply: Reply<T>) -> Box<dyn Job>
where
    T: Send + 'static,
    F: AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
{
    Box::new(Plain { job: Some(job), result: None, reply })
}

impl<T, F> Job for Plain<T, F>
where
    T: Send,
    F: AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error> + Send,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> LocalBoxFuture<'a, bool> {
        Box::pin(async move {
            let Some(job) = self.job.take() else { return false };
            self.result.insert(job(tx).await).is_ok()
        })
    }

    fn finish(self: Box<Self>, committed: Result<(), DbError>) {
        let answer = match (committed, self.result) {
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(DbError::other("a job was not run").into()),
        };
        // The caller may have dropped the receiver.
        let _ = self.reply.send(answer);
    }
}
