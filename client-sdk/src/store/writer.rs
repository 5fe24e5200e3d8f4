//! The connection that writes. A short job runs at once on the thread that asks for it, because handing it to another
//! thread costs more than the job. A long one runs on a thread for blocking work, as does each job that waits for the
//! disk: short jobs only write to the cache of the operating system. A panic in a job closes the database.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::watch;

use super::closed;
use super::file::DatabaseFile;
use crate::error::Error;

/// The short jobs after which the write-ahead log is copied into the file, which waits for the disk.
const CHECKPOINT_AFTER: u32 = 128;

/// How long a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Some rows.
    Short,
    Long,
}

/// A handle to the connection.
#[derive(Clone, Debug)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `None` when the database is closed.
    open: Mutex<Option<Open>>,
    has_panicked: watch::Sender<bool>,
}

#[derive(Debug)]
struct Open {
    // In this order, so that the next owner of the lock finds the database closed.
    connection: Connection,
    /// `None` for a database in memory.
    file: Option<DatabaseFile>,
    /// The short jobs since the last checkpoint.
    since_checkpoint: u32,
}

impl Writer {
    pub(super) fn new(connection: Connection, file: Option<DatabaseFile>) -> Self {
        let open = Mutex::new(Some(Open { connection, file, since_checkpoint: 0 }));
        Self(Arc::new(Shared { open, has_panicked: watch::Sender::new(false) }))
    }

    /// Runs `job`; dropping the future does not stop it. A job that is asked for while another one runs runs after it.
    pub(super) async fn run<T, F>(&self, length: Length, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> T + Send + 'static,
    {
        let job = match length {
            Length::Short => match self.0.try_short(job) {
                Ok(result) => return result,
                Err(job) => job,
            },
            Length::Long => job,
        };
        let shared = Arc::clone(&self.0);
        // It fails only when the runtime ends.
        tokio::task::spawn_blocking(move || shared.run(job)).await.unwrap_or_else(|_| Err(closed()))
    }

    /// Like [`Writer::run`], for a job that no one waits for.
    pub(super) fn run_later(&self, job: impl FnOnce(&mut Connection) + Send + 'static) {
        if let Err(job) = self.0.try_short(job) {
            let shared = Arc::clone(&self.0);
            drop(tokio::task::spawn_blocking(move || shared.run(job)));
        }
    }

    /// Runs `job` and blocks until it is done.
    pub(super) fn run_now<T>(&self, job: impl FnOnce(&mut Connection) -> T) -> Result<T, Error> {
        self.0.run(job)
    }

    /// Waits until a job panics. Never returns if none does.
    pub(super) async fn panicked(&self) {
        // It fails only without a sender, and `self` holds it.
        drop(self.0.has_panicked.subscribe().wait_for(|has_panicked| *has_panicked).await);
    }

    /// Closes the database after the job that runs, and blocks until that is done.
    pub(super) fn close_now(&self) {
        let open = self.0.open.lock().take();
        drop(open);
    }

    /// Closes the database after the job that runs, and waits for it: the last connection copies the write-ahead log.
    pub(super) async fn close(&self) {
        let writer = self.clone();
        // It fails only when the runtime ends.
        drop(tokio::task::spawn_blocking(move || writer.close_now()).await);
    }
}

impl Shared {
    /// Runs a short job, unless another job runs or a checkpoint is due; then it returns the job.
    fn try_short<T, F: FnOnce(&mut Connection) -> T>(&self, job: F) -> Result<Result<T, Error>, F> {
        let Some(mut slot) = self.open.try_lock() else { return Err(job) };
        let Some(open) = &mut *slot else { return Ok(Err(closed())) };
        if open.file.is_some() {
            if open.since_checkpoint >= CHECKPOINT_AFTER {
                return Err(job);
            }
            open.since_checkpoint += 1;
        }
        Ok(self.guarded(&mut slot, job))
    }

    /// Runs a job, and a checkpoint if it is due.
    fn run<T>(&self, job: impl FnOnce(&mut Connection) -> T) -> Result<T, Error> {
        let mut slot = self.open.lock();
        let result = self.guarded(&mut slot, job);
        if let Some(open) = &mut *slot
            && open.file.is_some()
        {
            open.since_checkpoint = 0;
            // It fails only if the disk does; the next one tries again, and no row is lost.
            if let Err(error) = open.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                tracing::warn!(%error, "the log of the local database cannot be copied into its file");
            }
        }
        result
    }

    fn guarded<T>(&self, slot: &mut Option<Open>, job: impl FnOnce(&mut Connection) -> T) -> Result<T, Error> {
        let open = slot.as_mut().ok_or_else(closed)?;
        catch_unwind(AssertUnwindSafe(|| job(&mut open.connection))).map_err(|_| {
            drop(slot.take());
            self.has_panicked.send_replace(true);
            closed()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use super::*;

    fn thread() -> ThreadId {
        std::thread::current().id()
    }

    /// Whether a job runs on the thread that asks for it.
    async fn runs_here(writer: &Writer, length: Length) -> bool {
        writer.run(length, |_| thread()).await.unwrap() == thread()
    }

    fn in_file(folder: &std::path::Path) -> Writer {
        let path = folder.join("a.db");
        let file = DatabaseFile::lock(&path).unwrap();
        Writer::new(super::super::file::open(&path).unwrap(), Some(file))
    }

    #[tokio::test]
    async fn a_short_job_runs_at_once_unless_another_one_runs() {
        let writer = Writer::new(super::super::file::memory().unwrap(), None);
        assert!(runs_here(&writer, Length::Short).await);
        assert!(!runs_here(&writer, Length::Long).await);
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let other = writer.clone();
        let long = tokio::spawn(async move {
            let hold = move |_: &mut Connection| {
                begun.send(()).unwrap();
                // Ends when the test does, too.
                let _ = held.recv();
            };
            other.run(Length::Long, hold).await
        });
        has_begun.await.unwrap();
        let waits = writer.run(Length::Short, |_| thread());
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        release.send(()).unwrap();
        long.await.unwrap().unwrap();
        assert_ne!(waits.await.unwrap(), thread());
        writer.close().await;
        assert!(writer.run(Length::Short, |_| ()).await.is_err());
    }

    #[tokio::test]
    async fn a_job_that_copies_the_log_does_not_run_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let writer = in_file(folder.path());
        writer.run(Length::Long, |_| ()).await.unwrap();
        let file = || std::fs::read(folder.path().join("a.db")).unwrap();
        let move_on = |connection: &mut Connection| {
            connection.execute("UPDATE device SET pos = pos + 1", []).unwrap();
            thread()
        };
        let before = file();
        for _ in 0..CHECKPOINT_AFTER {
            assert_eq!(writer.run(Length::Short, move_on).await.unwrap(), thread());
        }
        assert!(file() == before, "the rows are in the log only");
        assert_ne!(writer.run(Length::Short, move_on).await.unwrap(), thread());
        assert!(file() != before, "the log was copied");
        assert_eq!(writer.run(Length::Short, move_on).await.unwrap(), thread());
        writer.close().await;
    }

    #[tokio::test]
    async fn a_panic_closes_the_database_and_is_reported() {
        for length in [Length::Short, Length::Long] {
            let folder = tempfile::tempdir().unwrap();
            let writer = in_file(folder.path());
            assert!(writer.run(length, |_| panic!("a bug of the SDK")).await.is_err());
            writer.panicked().await;
            assert!(writer.run(length, |_| ()).await.is_err());
            // The file can be opened again.
            in_file(folder.path()).close().await;
        }
    }
}
