//! The thread that owns the connection that writes. A panic in a job ends the thread and closes the database.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};
use zim_protocol::ErrorCode;

use super::closed;
use super::file::DatabaseFile;
use crate::error::Error;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the thread. Jobs run one after the other, in the order of the calls.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    done: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
    has_panicked: watch::Receiver<bool>,
}

impl Writer {
    pub(super) fn start(mut connection: Connection, file: Option<DatabaseFile>) -> Result<Self, Error> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ended, done) = oneshot::channel();
        let (panicked, has_panicked) = watch::channel(false);
        let run = move || {
            let mut jobs = queue.into_iter();
            let has_panicked = jobs.any(|job| catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err());
            // Drops the jobs that wait, which wakes their callers.
            drop(jobs);
            // In this order, so that the next owner of the lock finds the file closed.
            drop(connection);
            drop(file);
            panicked.send_replace(has_panicked);
            // Fails if `close` is not waiting.
            let _ = ended.send(());
        };
        thread::Builder::new().name("zim-store".to_owned()).spawn(run).map_err(|error| {
            let message = format!("the thread of the local database cannot be started: {error}");
            Error::new(ErrorCode::DatabaseModuleOpenDatabaseError, message).with_source(error)
        })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), done: tokio::sync::Mutex::new(Some(done)), has_panicked })
    }

    /// Runs `job` after all earlier jobs. Its place is taken at the call.
    pub(super) fn run<T, F>(&self, job: F) -> impl Future<Output = Result<T, Error>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> T + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        self.run_later(move |connection| {
            // The caller may have stopped waiting.
            let _ = answer.send(job(connection));
        });
        async move { result.await.map_err(|_| closed()) }
    }

    /// Runs `job` and blocks until it is done.
    pub(super) fn run_now<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> T + Send + 'static,
    {
        let (answer, result) = mpsc::channel();
        self.run_later(move |connection| {
            // The caller is waiting.
            let _ = answer.send(job(connection));
        });
        result.recv().map_err(|_| closed())
    }

    pub(super) fn run_later(&self, job: impl FnOnce(&mut Connection) + Send + 'static) {
        if let Some(jobs) = &*self.jobs.lock() {
            // Fails only when the thread has ended. The job is dropped then, which wakes its caller.
            let _ = jobs.send(Box::new(job));
        }
    }

    /// Waits until a job panics. Never returns if none does.
    pub(super) async fn panicked(&self) {
        if self.has_panicked.clone().wait_for(|has_panicked| *has_panicked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the thread after all earlier jobs, and blocks until that is done.
    pub(super) fn close_now(self) {
        drop(self.jobs);
        if let Some(done) = self.done.into_inner() {
            // The thread has ended in either case.
            let _ = done.blocking_recv();
        }
    }

    /// Ends the thread after all earlier jobs, and waits for it.
    pub(super) async fn close(&self) {
        drop(self.jobs.lock().take());
        if let Some(done) = self.done.lock().await.take() {
            // The thread has ended in either case.
            let _ = done.await;
        }
    }
}
