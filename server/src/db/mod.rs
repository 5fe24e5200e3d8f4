//! The store: queues of writes, reader threads, and one text of SQL for SQLite and PostgreSQL.
//!
//! A write is a job that gets a `Tx` and waits for nothing else. Submitting it fixes its position in a queue. The jobs that
//! wait when a commit returns share the next transaction, each in its own savepoint, so a failing job fails alone. A job is
//! answered after its commit is on disk. SQLite has one writing thread. PostgreSQL has partitions, each with a thread and a
//! connection; writes that must stay in order use the same partition.

mod backend;
mod config;
mod dialect;
mod error;
mod job;
mod lease;
mod locks;
mod migrate;
mod note;
mod postgres;
mod queue;
mod row;
mod rows;
mod savepoint;
mod scope;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;
mod tx;
mod value;
mod worker;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, mpsc};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::{oneshot, watch};

use self::backend::Access;
pub use self::config::{Database, DbConfig};
pub use self::dialect::Dialect;
pub use self::error::{DbError, DbErrorKind, OnUnique};
pub use self::job::{Bulk, Submitted};
pub use self::lease::{Lease, NodeConfig};
pub use self::locks::{MAX_LOCKED_USERS, USERS_OF_CALL};
pub use self::migrate::{MIGRATIONS, Migration};
pub use self::note::Note;
use self::postgres::{Connector, Ownership};
use self::queue::{Amount, Cost, Queue};
pub use self::row::{CellRef, FromValue, Row};
pub use self::rows::Rows;
pub use self::scope::Scope;
pub use self::transaction::Sink;
use self::transaction::{Entry, SharedSink};
pub use self::tx::Tx;
pub use self::value::{Array, Value};
use self::worker::{Read, Threads, runtime, serve_postgres, serve_sqlite};
use crate::error::Error;
pub use crate::params;

/// A database. Cheap to clone. Dropping the last clone closes it; [`Db::close`] also waits until it is closed.
pub struct Db<B: Bulk>(Arc<Inner<B>>);

struct Inner<B: Bulk> {
    partitions: Vec<Arc<Queue<Entry<B>>>>,
    reads: Arc<Queue<Read>>,
    threads: Threads,
    /// That of a node.
    lease: OnceLock<Arc<Lease>>,
    /// Why the database has been lost, if it has.
    lost: watch::Sender<Option<String>>,
}

impl<B: Bulk> Db<B> {
    /// Opens a database and migrates its schema; creates an SQLite file if there is none. `sink` gets the effects of each
    /// commit before the jobs' callers are answered.
    ///
    /// # Errors
    /// The database cannot be reached, or its schema is newer than this server.
    pub async fn open(config: DbConfig, sink: impl Sink) -> Result<Self, DbError> {
        let partitions = match config.database {
            Database::Sqlite(_) => 1,
            Database::Postgres(_) => config.partitions.max(1),
        };
        let bound = Amount { jobs: config.queue, bytes: config.queue_bytes / partitions };
        let db = Self(Arc::new(Inner {
            partitions: (0..partitions)
                .map(|partition| Arc::new(Queue::new(format!("write-{partition}"), bound)))
                .collect(),
            reads: Arc::new(Queue::new("read".to_owned(), bound)),
            threads: Threads::default(),
            lease: OnceLock::new(),
            lost: watch::Sender::new(None),
        }));
        let sink: SharedSink = Arc::new(sink);
        match &config.database {
            Database::Sqlite(path) => db.open_sqlite(path.clone(), &config, &sink).await?,
            Database::Postgres(url) => db.open_postgres(url, &config, &sink).await?,
        }
        Ok(db)
    }

    async fn open_sqlite(&self, path: PathBuf, config: &DbConfig, sink: &SharedSink) -> Result<(), DbError> {
        let limits = config.limits();
        let (opened_sender, opened) = oneshot::channel();
        let (reader_alive, readers) = mpsc::channel::<()>();
        let (file, sink_of_writer, migrations) = (path.clone(), Arc::clone(sink), config.migrations);
        let partition = Arc::clone(self.partition(0));
        self.0.threads.spawn("zim-write".to_owned(), move || {
            let migrated = sqlite::open(&file, Access::Write).and_then(|mut conn| {
                migrate::migrate_sqlite(&mut conn, migrations).map_err(|error| sqlite::explain(&file, error))?;
                Ok(conn)
            });
            match migrated {
                Ok(conn) => {
                    // If the caller of `open` is gone, the queue is closed soon.
                    let _ = opened_sender.send(Ok(()));
                    let conn = serve_sqlite(&file, Some(conn), limits, &partition, &sink_of_writer);
                    // The last connection to close checkpoints the write-ahead log into the file. If two close at the same
                    // time, neither is the last. So this one waits until all readers have dropped theirs.
                    let _ = readers.recv();
                    drop(conn);
                }
                Err(error) => drop(opened_sender.send(Err(error))),
            }
        })?;
        opened.await.unwrap_or_else(|_| Err(DbError::closed()))?;
        for index in 0..config.readers.max(1) {
            let (path, reads, sink, reader_alive) =
                (path.clone(), Arc::clone(&self.0.reads), Arc::clone(sink), reader_alive.clone());
            self.0.threads.spawn(format!("zim-read-{index}"), move || {
                let spare = sqlite::open(&path, Access::Read).ok();
                drop(serve_sqlite(&path, spare, limits, &reads, &sink));
                drop(reader_alive);
            })?;
        }
        Ok(())
    }

    async fn open_postgres(&self, url: &str, config: &DbConfig, sink: &SharedSink) -> Result<(), DbError> {
        let (options, decision) = postgres::options(url)?;
        let (in_use, connector) = self.own_postgres(&options, config).await.map_err(|error| decision.explain(error))?;
        migrate::migrate_postgres(&connector, config.migrations).await?;
        if let Some(lease) = connector.lease() {
            // Opened once.
            let _ = self.0.lease.set(Arc::clone(lease));
        }
        for (index, partition) in self.0.partitions.iter().enumerate() {
            let (connector, partition, sink) = (connector.clone(), Arc::clone(partition), Arc::clone(sink));
            let (runtime, in_use) = (runtime()?, in_use.clone());
            self.0.threads.spawn(format!("zim-write-{index}"), move || {
                serve_postgres(&runtime, connector, &partition, &sink);
                drop(in_use);
            })?;
        }
        for index in 0..config.readers.max(1) {
            let (connector, reads, sink) = (connector.clone(), Arc::clone(&self.0.reads), Arc::clone(sink));
            let (runtime, in_use) = (runtime()?, in_use.clone());
            self.0.threads.spawn(format!("zim-read-{index}"), move || {
                serve_postgres(&runtime, connector, &reads, &sink);
                drop(in_use);
            })?;
        }
        Ok(())
    }

    /// Takes a PostgreSQL database over, in a thread that keeps it until all clones of the returned sender are dropped.
    async fn own_postgres(
        &self,
        options: &PgConnectOptions,
        config: &DbConfig,
    ) -> Result<(tokio::sync::mpsc::Sender<()>, Connector), DbError> {
        let (in_use, ended) = tokio::sync::mpsc::channel(1);
        let (taken_sender, taken) = oneshot::channel();
        let (options, limits, wait, lost) = (options.clone(), config.limits(), config.owner_wait, self.0.lost.clone());
        let (runtime, node) = (runtime()?, config.node.clone());
        self.0.threads.spawn("zim-owner".to_owned(), move || {
            runtime.block_on(async move {
                let ownership = match Ownership::take(&options, limits, wait, node).await {
                    Ok(ownership) => ownership,
                    Err(error) => return drop(taken_sender.send(Err(error))),
                };
                // If the caller of `open` is gone, the database is no longer in use.
                let _ = taken_sender.send(Ok(ownership.connector()));
                if let Some(reason) = ownership.keep(ended).await {
                    tracing::error!(reason, "the database is lost");
                    lost.send_replace(Some(reason));
                }
            });
        })?;
        let connector = taken.await.unwrap_or_else(|_| Err(DbError::closed()))?;
        Ok((in_use, connector))
    }

    /// Returns the node number that this server holds; `None` if it does not share its database.
    pub fn lease(&self) -> Option<&Arc<Lease>> {
        self.0.lease.get()
    }

    /// Waits until another server has taken the database over, or the lease has ended, and returns what happened. Nothing can be read or written
    /// any more.
    pub async fn lost(&self) -> String {
        let mut lost = self.0.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }

    /// Whether [`Db::lost`] would return at once.
    pub fn is_lost(&self) -> bool {
        self.0.lost.borrow().is_some()
    }

    fn partition(&self, partition: u64) -> &Arc<Queue<Entry<B>>> {
        &self.0.partitions[partition_index(partition, self.0.partitions.len())]
    }

    /// Submits a bulk op. This call fixes its position in the partition's queue. With a [`Note`] it is a job of its own.
    pub fn submit_bulk(&self, op: B) -> Submitted<B::Out> {
        if Note::current().is_some() {
            return self.submit(op.scope(), async move |tx: &mut Tx<'_>| {
                let mut results = B::run(tx, std::slice::from_ref(&op)).await?;
                results.pop().unwrap_or_else(|| Err(DbError::other("an op without a result").into()))
            });
        }
        let (partition, locks, cost) = op.scope().into_parts();
        Submitted::enqueue(|reply| self.partition(partition).push(Entry::Bulk(op, locks, reply), cost))
    }

    /// Submits a job: an async closure that works on the [`Tx`] and waits for nothing else. This call fixes its position in the
    /// partition's queue. A job runs at most once: if its shared transaction is lost, the caller gets an error. Unless the disk is
    /// full or the database is corrupt, [`DbError::is_unavailable`] is true for it. The [`Note`] of the task is stored beside it.
    pub fn submit<T, F>(&self, scope: Scope, job: F) -> Submitted<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        let (partition, locks, cost) = scope.into_parts();
        let note = Note::current();
        Submitted::enqueue(|reply| {
            let users = locks.user_count();
            if users > MAX_LOCKED_USERS {
                let problem = format!("a job locks {users} users; at most {MAX_LOCKED_USERS} are allowed");
                return Err(DbError::other(problem));
            }
            let job = match note {
                Some(note) => {
                    let noted = async move |tx: &mut Tx<'_>| {
                        let answer = job(tx).await?;
                        note.store(tx).await?;
                        Ok::<T, Error>(answer)
                    };
                    job::plain(noted, reply)
                }
                None => job::plain(job, reply),
            };
            self.partition(partition).push(Entry::Job(job, locks), cost)
        })
    }

    /// Runs a read-only job on its own snapshot. The snapshot includes every write that was answered before this call. A read
    /// never waits for a writer.
    pub fn read<T, F>(&self, job: F) -> Submitted<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        Submitted::enqueue(|reply| self.0.reads.push(Read(job::plain(job, reply)), Cost::default()))
    }

    /// Returns the number of writes in the queues.
    pub fn waiting(&self) -> usize {
        self.0.partitions.iter().map(|partition| partition.len()).sum()
    }

    /// Closes the database: jobs in the queues still run and are answered; later ones are refused.
    pub async fn close(&self) {
        self.0.close();
        self.0.threads.join().await;
    }
}

impl<B: Bulk> Inner<B> {
    fn close(&self) {
        self.partitions.iter().for_each(|partition| partition.close());
        self.reads.close();
    }
}

impl<B: Bulk> Drop for Inner<B> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<B: Bulk> Clone for Db<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Bulk> fmt::Debug for Db<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("partitions", &self.0.partitions)
            .field("reads", &self.0.reads)
            .finish_non_exhaustive()
    }
}

/// Spreads keys over `count` partitions. The low bits of a key are the node that made it, the same for all its keys, so
/// all bits are mixed (with the multiplier of Fibonacci hashing) and the high ones choose.
fn partition_index(key: u64, count: usize) -> usize {
    let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    usize::try_from((mixed * count as u64) >> 32).unwrap_or_default()
}
