//! The threads that serve the queues. A connection and the futures of its jobs stay on their thread, so the futures need not
//! be `Send`. If a batch panics, the thread continues with the next one.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::backend::{Access, Backend, Limits};
use super::error::DbError;
use super::job::{Bulk, Job};
use super::locks::Locks;
use super::postgres::{Connector, PostgresBackend};
use super::queue::Queue;
use super::savepoint::{Lost, Savepoints};
use super::sqlite::{self, SqliteBackend};
use super::transaction::{self, Doubt, Entry, SharedSink};

/// How long no write waits until there is time for other work on the database: for the log of SQLite, or for another question
/// whether a commit in doubt is decided.
const PAUSE: Duration = Duration::from_millis(100);

/// The entries of a queue, and how to run them.
pub(super) trait Work: Sized {
    const ACCESS: Access;

    /// Returns a function that decides whether another entry, with its bytes, joins a batch. `has_locks`: the database needs
    /// locks.
    fn limit(has_locks: bool) -> impl FnMut(&Self, usize) -> bool;

    /// Runs a batch; commits that may have been carried out become `doubts`.
    async fn run<S: Backend>(backend: &mut S, work: Vec<Self>, sink: &SharedSink, doubts: &mut VecDeque<Doubt>);
    fn refuse(self, error: &DbError);
}

impl<B: Bulk> Work for Entry<B> {
    const ACCESS: Access = Access::Write;

    fn limit(has_locks: bool) -> impl FnMut(&Self, usize) -> bool {
        transaction::limit(has_locks)
    }

    async fn run<S: Backend>(backend: &mut S, work: Vec<Self>, sink: &SharedSink, doubts: &mut VecDeque<Doubt>) {
        transaction::run(backend, work, sink, doubts).await;
    }

    fn refuse(self, error: &DbError) {
        self.refuse(error);
    }
}

/// A read-only job.
pub(super) struct Read(pub(super) Box<dyn Job>);

impl Work for Read {
    const ACCESS: Access = Access::Read;

    /// Each read has its own snapshot, and all readers share the work.
    fn limit(_: bool) -> impl FnMut(&Self, usize) -> bool {
        |_, _| false
    }

    async fn run<S: Backend>(backend: &mut S, work: Vec<Self>, _: &SharedSink, _: &mut VecDeque<Doubt>) {
        for Self(job) in work {
            read(backend, job).await;
        }
    }

    fn refuse(self, error: &DbError) {
        self.0.finish(Err(error.clone()));
    }
}

async fn read<S: Backend>(backend: &mut S, mut job: Box<dyn Job>) {
    if let Err(error) = backend.begin(Access::Read, &Locks::none()).await {
        return job.finish(Err(error));
    }
    let mut savepoints = Savepoints::new(backend, false);
    let ran = savepoints.run(async |tx| job.run(tx).await, |is_ok| *is_ok).await;
    metrics::counter!("zim_db_statements_total").increment(savepoints.statements);
    // The answer does not wait for the end of the transaction: a read has nothing to commit.
    job.finish(match ran {
        Ok(outcome) if outcome.is_kept || outcome.value == Some(false) => Ok(()),
        Ok(outcome) => Err(outcome.failure.unwrap_or_else(|| DbError::other("a job did not finish a statement"))),
        Err(Lost(error)) => Err(error),
    });
    backend.rollback().await;
}

/// Serves a queue on SQLite until it is closed and empty. It replaces a broken connection, and returns the last one for the
/// caller to close.
pub(super) fn serve_sqlite<W: Work>(
    path: &Path,
    mut spare: Option<Connection>,
    limits: Limits,
    queue: &Queue<W>,
    sink: &SharedSink,
) -> Option<Connection> {
    while let Some(work) = queue.take(W::limit(SqliteBackend::LOCKS)) {
        let opened = spare.take().map_or_else(|| sqlite::open(path, W::ACCESS), Ok);
        match serve_connection(opened, limits, queue, sink, work) {
            Ok(conn) => spare = conn,
            Err((work, error)) => {
                tracing::error!(%error, "the database cannot be reopened");
                work.into_iter().for_each(|entry| entry.refuse(&error));
            }
        }
    }
    spare
}

/// Serves a queue on one connection until the queue ends or the connection breaks. Returns the connection unless it is broken.
fn serve_connection<W: Work>(
    opened: Result<Connection, DbError>,
    limits: Limits,
    queue: &Queue<W>,
    sink: &SharedSink,
    first: Vec<W>,
) -> Result<Option<Connection>, (Vec<W>, DbError)> {
    let conn = match opened {
        Ok(conn) => conn,
        Err(error) => return Err((first, error)),
    };
    let mut backend = match SqliteBackend::new(&conn, limits) {
        Ok(backend) => backend,
        Err(error) => return Err((first, error)),
    };
    let mut next = Some(first);
    while let Some(work) = next {
        // On SQLite nothing waits, so one poll completes the batch.
        let mut doubts = VecDeque::new();
        let run = async {
            W::run(&mut backend, work, sink, &mut doubts).await;
            // A commit on SQLite is decided when it returns.
            transaction::settle(&mut backend, &mut doubts, sink).await;
        };
        let ran = catch_unwind(AssertUnwindSafe(|| run.now_or_never()));
        if !matches!(ran, Ok(Some(()))) {
            tracing::error!("a batch panicked or did not finish");
            backend.discard();
        }
        if backend.is_broken() {
            return Ok(None);
        }
        if W::ACCESS == Access::Write && queue.stays_empty(PAUSE) {
            backend.shorten_log();
        }
        next = queue.take(W::limit(SqliteBackend::LOCKS));
    }
    drop(backend);
    Ok(Some(conn))
}

/// Serves a queue on PostgreSQL until it is closed and empty.
pub(super) fn serve_postgres<W: Work>(runtime: &Runtime, connector: Connector, queue: &Queue<W>, sink: &SharedSink) {
    let mut backend = PostgresBackend::new(connector);
    // Connect before the first job needs it. If this fails, the first job tries again.
    let _ = runtime.block_on(backend.connect());
    let mut doubts = VecDeque::new();
    while let Some(work) = queue.take(W::limit(PostgresBackend::LOCKS)) {
        let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(W::run(&mut backend, work, sink, &mut doubts))));
        if ran.is_err() {
            tracing::error!("a batch panicked");
            backend.discard();
        }
        // Work that waits comes first: it is refused at once while the database cannot be reached.
        while !runtime.block_on(transaction::settle(&mut backend, &mut doubts, sink)) && queue.stays_empty(PAUSE) {}
    }
    runtime.block_on(backend.close());
}

/// Builds the runtime for one thread's connection.
pub(super) fn runtime() -> Result<Runtime, DbError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DbError::other(format!("cannot create a runtime for the database: {error}")))
}

/// The threads of a database.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<Vec<Thread>>);

#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    /// Completes when the thread ends and drops the sender.
    ended: oneshot::Receiver<()>,
}

impl Threads {
    pub(super) fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), DbError> {
        let (end, ended) = oneshot::channel::<()>();
        let handle = std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                // Dropped after everything else on the thread.
                let _end = end;
                run();
            })
            .map_err(|error| DbError::other(format!("cannot start a thread for the database: {error}")))?;
        self.0.lock().push(Thread { handle, ended });
        Ok(())
    }

    /// Waits until all threads have ended.
    pub(super) async fn join(&self) {
        let threads = std::mem::take(&mut *self.0.lock());
        for thread in threads {
            let _ = thread.ended.await;
            // The thread is about to exit, so joining it hardly blocks.
            if thread.handle.join().is_err() {
                tracing::error!("a database thread panicked");
            }
        }
    }
}
