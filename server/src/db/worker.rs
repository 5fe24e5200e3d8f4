//! The threads that serve the queues. A connection belongs to its thread and so do the futures of its jobs, which therefore
//! need not be `Send`. Whatever happens to one batch, the thread goes on with the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::JoinHandle;

use futures_util::FutureExt;
use parking_lot::Mutex;
use rusqlite::Connection;
use sqlx::postgres::PgConnectOptions;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::backend::{Access, Backend, Limits};
use super::error::DbError;
use super::job::{Bulk, Job};
use super::locks::Locks;
use super::postgres::PostgresBackend;
use super::queue::Queue;
use super::savepoint::{Lost, Savepoints};
use super::sqlite::{self, SqliteBackend};
use super::transaction::{self, Entry, MAX_JOBS, Sink};

/// What is in a queue, and how it is done.
pub(super) trait Work: Sized {
    /// So many go together.
    const MAX: usize;
    const ACCESS: Access;

    async fn run<S: Backend>(backend: &mut S, work: Vec<Self>, sink: &Sink);
    fn refuse(self, error: &DbError);
}

impl<B: Bulk> Work for Entry<B> {
    const MAX: usize = MAX_JOBS;
    const ACCESS: Access = Access::Write;

    async fn run<S: Backend>(backend: &mut S, work: Vec<Self>, sink: &Sink) {
        transaction::run(backend, work, sink).await;
    }

    fn refuse(self, error: &DbError) {
        self.refuse(error);
    }
}

/// A job that only reads.
pub(super) struct Read(pub(super) Box<dyn Job>);

impl Work for Read {
    // A snapshot each, and all readers busy.
    const MAX: usize = 1;
    const ACCESS: Access = Access::Read;

    async fn run<S: Backend>(backend: &mut S, work: Vec<Self>, _: &Sink) {
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
    // What it said stands, before the transaction is over: nothing can change it any more.
    job.finish(match ran {
        Ok(outcome) if outcome.is_kept || outcome.value == Some(false) => Ok(()),
        Ok(outcome) => Err(outcome.failure.unwrap_or_else(|| DbError::other("a job left a statement unfinished"))),
        Err(Lost(error)) => Err(error),
    });
    backend.rollback().await;
}

/// Serves a queue on SQLite until it is closed and empty. A connection that breaks is replaced; the last one is returned, for
/// the caller to close.
pub(super) fn serve_sqlite<W: Work>(
    path: &Path,
    mut spare: Option<Connection>,
    limits: Limits,
    queue: &Queue<W>,
    sink: &Sink,
) -> Option<Connection> {
    while let Some(work) = queue.take(W::MAX) {
        let opened = spare.take().map_or_else(|| sqlite::open(path, W::ACCESS), Ok);
        match serve_connection(opened, limits, queue, sink, work) {
            Ok(conn) => spare = conn,
            Err((work, error)) => {
                tracing::error!(%error, "the database cannot be opened again");
                work.into_iter().for_each(|entry| entry.refuse(&error));
            }
        }
    }
    spare
}

/// Until the queue ends, or the connection breaks: then it is not returned.
fn serve_connection<W: Work>(
    opened: Result<Connection, DbError>,
    limits: Limits,
    queue: &Queue<W>,
    sink: &Sink,
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
        // On SQLite nothing waits, so one poll is all it takes.
        let ran = catch_unwind(AssertUnwindSafe(|| W::run(&mut backend, work, sink).now_or_never()));
        if !matches!(ran, Ok(Some(()))) {
            tracing::error!("a batch came to grief");
            backend.discard();
        }
        if backend.is_broken() {
            return Ok(None);
        }
        next = queue.take(W::MAX);
    }
    drop(backend);
    Ok(Some(conn))
}

/// Serves a queue on PostgreSQL until it is closed and empty.
pub(super) fn serve_postgres<W: Work>(
    runtime: &Runtime,
    options: PgConnectOptions,
    limits: Limits,
    queue: &Queue<W>,
    sink: &Sink,
) {
    let mut backend = PostgresBackend::new(options, limits);
    // Before anybody waits for it. If it fails, the first job tries again.
    let _ = runtime.block_on(backend.connect());
    while let Some(work) = queue.take(W::MAX) {
        let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(W::run(&mut backend, work, sink))));
        if ran.is_err() {
            tracing::error!("a batch came to grief");
            backend.discard();
        }
    }
    runtime.block_on(backend.close());
}

/// A runtime for one thread's connection.
pub(super) fn runtime() -> Result<Runtime, DbError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DbError::other(format!("no runtime for the database: {error}")))
}

/// The threads of a database.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<Vec<Thread>>);

#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    /// Its sender goes when the thread ends.
    ended: oneshot::Receiver<()>,
}

impl Threads {
    pub(super) fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), DbError> {
        let (end, ended) = oneshot::channel::<()>();
        let handle = std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                // Dropped after everything else that the thread holds.
                let _end = end;
                run();
            })
            .map_err(|error| DbError::other(format!("no thread for the database: {error}")))?;
        self.0.lock().push(Thread { handle, ended });
        Ok(())
    }

    /// Waits until all have ended.
    pub(super) async fn join(&self) {
        let threads = std::mem::take(&mut *self.0.lock());
        for thread in threads {
            let _ = thread.ended.await;
            // It is in its last instructions.
            if thread.handle.join().is_err() {
                tracing::error!("a thread of the database panicked");
            }
        }
    }
}
