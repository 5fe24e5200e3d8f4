//! Jobs: what is run in a transaction, and the answer that somebody waits for.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;

use super::error::DbError;
use super::locks::Locks;
use super::tx::Tx;
use crate::error::Error;

/// The most frequent write: consecutive ones of a batch are run together, as a handful of multi-row statements.
pub trait Bulk: Sized + Send + 'static {
    /// What the caller gets.
    type Out: Send + 'static;

    /// What must stay in order has the same partition. On PostgreSQL, partitions run in parallel.
    fn partition(&self) -> u64;

    /// The heads that it needs.
    fn locks(&self) -> Locks;

    /// Runs all of `ops`, with one result for each, in their order. An inner error refuses one op: its neighbours are stored,
    /// and it must have written nothing. An outer error takes back everything; the ops are then run in halves, until the one
    /// that cannot be run fails alone.
    fn run(tx: &mut Tx<'_>, ops: &[Self]) -> impl Future<Output = Result<Vec<Result<Self::Out, Error>>, Error>>;
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// The answer to a job that has its place in the queue. Whoever drops it does not call the job back.
#[derive(Debug)]
#[must_use = "without its answer nobody knows whether the job was done"]
pub struct Submitted<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Waiting(oneshot::Receiver<Result<T, Error>>),
    Refused(Option<DbError>),
}

impl<T> Submitted<T> {
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
                // The sender goes without a word only if its thread has come to grief.
                answer.unwrap_or_else(|_| Err(DbError::closed().into()))
            }),
            State::Refused(error) => Poll::Ready(Err(error.take().unwrap_or_else(DbError::closed).into())),
        }
    }
}

/// A job whose types are forgotten.
pub(super) trait Job: Send {
    /// Runs it, once. True if it wants to be kept.
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> LocalBoxFuture<'a, bool>;

    /// Answers: what the job itself said, unless committed has spoken.
    fn finish(self: Box<Self>, committed: Result<(), DbError>);
}

struct Plain<T, F> {
    job: Option<F>,
    result: Option<Result<T, Error>>,
    reply: Reply<T>,
}

/// An async closure as a job.
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
        // Nobody may be waiting any more.
        let _ = self.reply.send(answer);
    }
}
