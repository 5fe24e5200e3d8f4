//! SQLite: one writing connection and several reading ones, each owned by a thread that runs its jobs. A statement takes about
//! 5 us this way; through a channel to a worker thread it took ten times as long (2 cores, measured end to end).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use hashlink::LruCache;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, PrepFlags, Statement, ffi};

use super::backend::{Access, Backend, Limits};
use super::dialect::sqlite_statement;
use super::error::{DbError, DbErrorKind};
use super::locks::Locks;
use super::row::{Row, RowBuilder};
use super::tx::{Link, Tx};
use super::value::Value;
use crate::effect::Effect;

/// The number of prepared statements that a connection caches.
const STATEMENTS: usize = 512;
/// Steps of SQLite's virtual machine between two checks of the deadline: about a millisecond.
const STEPS: i32 = 20_000;

/// The statements of a [`Tx`] on SQLite. A trait object hides the lifetime of the prepared statements.
pub(super) trait Statements {
    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError>;
    fn fetch(&mut self, sql: &str, params: &[Value], max: usize) -> Result<Vec<Row>, DbError>;
}

/// How long a statement waits for another connection's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Returns whether a database has tables, but not the server's.
const FOREIGN: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table') \
    AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migration')";
/// The log is emptied in a pause if it has more bytes than this.
const LONG_LOG: u64 = 4 << 20;
/// How much a database needs to open: its shared memory, a page of its log, and something to work with.
const LEAST_SPACE: usize = 1 << 20;

/// Opens a connection for a writing or a reading thread.
pub(super) fn open(path: &Path, access: Access) -> Result<Connection, DbError> {
    open_file(path, access).map_err(|error| explain(path, error))
}

/// Replaces an error of opening if its cause is that there is no space: SQLite only says that a call of the system failed.
pub(super) fn explain(path: &Path, error: DbError) -> DbError {
    let cause = if error.kind() == DbErrorKind::Other { zim_files::lack_of_space(path, LEAST_SPACE) } else { None };
    cause.map_or(error, |cause| {
        let message = format!("there is no space for {}: {cause}; free some", path.display());
        DbError::caused_by(DbErrorKind::DiskFull, message, cause)
    })
}

fn open_file(path: &Path, access: Access) -> Result<Connection, DbError> {
    let failed = |error| failure(error, &format!("opening {}", path.display()));
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if access == Access::Write {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    // 4 KB pages; the writer caches 64 MB of them. Its log is checkpointed every 10,000 pages: 1,000 cost a quarter of the
    // throughput, 40,000 gain a sixth and leave a log of 158 MB. No memory map: a failing disk would kill the process.
    let pragmas = match access {
        Access::Write => {
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY; \
             PRAGMA wal_autocheckpoint = 10000; PRAGMA journal_size_limit = 67108864;"
        }
        Access::Read => "PRAGMA query_only = ON; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;",
    };
    if access == Access::Write {
        // Before anything is written to the file.
        let is_foreign: bool = conn.query_row(FOREIGN, [], |row| row.get(0)).map_err(failed)?;
        if is_foreign {
            return Err(DbError::other(format!(
                "{} is an SQLite database of another program; name another file, or move this one away",
                path.display()
            )));
        }
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
        if mode != "wal" {
            return Err(DbError::other(format!(
                "{}: SQLite cannot keep a write-ahead log beside this file",
                path.display()
            )));
        }
    }
    conn.execute_batch(pragmas).map_err(failed)?;
    Ok(conn)
}

/// A connection with its cache of prepared statements.
pub(super) struct SqliteBackend<'c> {
    conn: &'c Connection,
    statements: LruCache<Box<str>, Statement<'c>>,
    deadline: Arc<Deadline>,
    limits: Limits,
    has_savepoint: bool,
    /// The connection's state is unknown.
    is_broken: bool,
}

impl<'c> SqliteBackend<'c> {
    pub(super) fn new(conn: &'c Connection, limits: Limits) -> Result<Self, DbError> {
        let deadline = Arc::new(Deadline::new());
        let watched = Arc::clone(&deadline);
        conn.progress_handler(STEPS, Some(move || watched.has_passed())).map_err(|error| failure(error, "opening"))?;
        let statements = LruCache::new(STATEMENTS);
        Ok(Self { conn, statements, deadline, limits, has_savepoint: false, is_broken: false })
    }

    /// Whether the connection must be replaced.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Moves the write-ahead log into the database and empties it, if it is long. SQLite itself reuses the file of the log and
    /// never makes it shorter. Does not wait for readers: then the log stays until the next pause.
    pub(super) fn shorten_log(&mut self) {
        let log = self.conn.path().map(|path| format!("{path}-wal"));
        if log.and_then(|log| std::fs::metadata(log).ok()).is_none_or(|found| found.len() <= LONG_LOG) {
            return;
        }
        self.deadline.clear();
        let emptied = self.conn.busy_timeout(Duration::ZERO).and_then(|()| {
            let emptied = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            self.conn.busy_timeout(BUSY_TIMEOUT).and(emptied)
        });
        if let Err(error) = emptied {
            tracing::debug!(%error, "the write-ahead log could not be emptied");
        }
    }

    /// Runs a statement that controls the transaction. The deadline of the job does not interrupt it.
    fn control(&mut self, sql: &str) -> Result<(), DbError> {
        self.deadline.clear();
        self.execute(sql, &[]).map(drop)
    }

    fn run<T>(
        &mut self,
        sql: &str,
        params: &[Value],
        read: impl FnOnce(&Connection, &mut Statement<'c>) -> rusqlite::Result<T>,
    ) -> Result<T, DbError> {
        if self.statements.peek(sql).is_none() {
            let prepared = self
                .conn
                .prepare_with_flags(&sqlite_statement(sql), PrepFlags::SQLITE_PREPARE_PERSISTENT)
                .map_err(|error| failure(error, sql))?;
            self.statements.insert(sql.into(), prepared);
        }
        let Some(statement) = self.statements.get_mut(sql) else {
            return Err(DbError::other("a prepared statement is not in the cache"));
        };
        let done = bind(statement, params).and_then(|()| read(self.conn, statement));
        // Frees the copies of long values now instead of at the next use of the statement.
        statement.clear_bindings();
        done.map_err(|error| failure(error, sql))
    }
}

fn bind(statement: &mut Statement<'_>, params: &[Value]) -> rusqlite::Result<()> {
    let expected = statement.parameter_count();
    if expected != params.len() {
        return Err(rusqlite::Error::InvalidParameterCount(params.len(), expected));
    }
    for (index, param) in params.iter().enumerate() {
        let index = index + 1;
        match param {
            Value::Null | Value::TooLarge(_) => statement.raw_bind_parameter(index, rusqlite::types::Null),
            Value::Int(value) => statement.raw_bind_parameter(index, value),
            Value::Real(value) => statement.raw_bind_parameter(index, value),
            Value::Text(value) => statement.raw_bind_parameter(index, value.as_str()),
            Value::Bytes(value) => statement.raw_bind_parameter(index, &value[..]),
            Value::Array(_) => Err(rusqlite::Error::InvalidParameterCount(index, expected)),
        }?;
    }
    Ok(())
}

impl Statements for SqliteBackend<'_> {
    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        self.run(sql, params, |conn, statement| {
            let before = conn.total_changes();
            // Returned rows are ignored, as on PostgreSQL.
            let mut rows = statement.raw_query();
            while rows.next()?.is_some() {}
            // After a statement that changes nothing, `changes()` is still the count of an earlier one.
            Ok(if conn.total_changes() == before { 0 } else { conn.changes() })
        })
    }

    fn fetch(&mut self, sql: &str, params: &[Value], max: usize) -> Result<Vec<Row>, DbError> {
        let mut unreadable = None;
        let rows = self.run(sql, params, |_, statement| {
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            let mut found = Vec::new();
            while found.len() < max
                && let Some(row) = rows.next()?
            {
                let mut builder = RowBuilder::new(columns);
                for column in 0..columns {
                    match row.get_ref(column)? {
                        ValueRef::Null => builder.null(),
                        ValueRef::Integer(value) => builder.int(value),
                        ValueRef::Real(value) => builder.real(value),
                        ValueRef::Text(value) => {
                            if let Err(error) = builder.text(value) {
                                unreadable.get_or_insert(error);
                            }
                        }
                        ValueRef::Blob(value) => builder.bytes(value),
                    }
                }
                found.push(builder.finish());
            }
            Ok(found)
        })?;
        unreadable.map_or(Ok(rows), Err)
    }
}

impl Backend for SqliteBackend<'_> {
    const LOCKS: bool = false;

    async fn begin(&mut self, access: Access, _: &Locks) -> Result<(), DbError> {
        self.has_savepoint = false;
        self.control(match access {
            Access::Read => "BEGIN",
            Access::Write => "BEGIN IMMEDIATE",
        })
    }

    async fn are_free(&mut self, locks: &Locks) -> bool {
        let has_begun = self.begin(Access::Write, locks).await.is_ok();
        if has_begun {
            self.rollback().await;
        }
        has_begun
    }

    async fn savepoint(&mut self) -> Result<(), DbError> {
        if self.has_savepoint {
            self.control("RELEASE job")?;
        }
        self.has_savepoint = true;
        self.control("SAVEPOINT job")
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), DbError> {
        self.control("ROLLBACK TO job")
    }

    async fn commit(&mut self) -> Result<(), DbError> {
        let done = self.control("COMMIT");
        if !self.conn.is_autocommit() {
            self.rollback().await;
        }
        done.inspect_err(|error| {
            // After a failed fsync the contents of file and cache are unknown: reopen the file.
            self.is_broken |= matches!(error.kind(), DbErrorKind::Other | DbErrorKind::Corrupt);
        })
    }

    async fn rollback(&mut self) {
        if !self.conn.is_autocommit() && self.control("ROLLBACK").is_err() && !self.conn.is_autocommit() {
            self.is_broken = true;
        }
    }

    fn tx<'a>(&'a mut self, effects: &'a mut Vec<Effect>) -> Option<Tx<'a>> {
        self.deadline.set(self.limits.job);
        Some(Tx::new(Link::Sqlite(self), effects))
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn is_in_transaction(&self) -> bool {
        !self.is_broken && !self.conn.is_autocommit()
    }

    fn discard(&mut self) {
        self.is_broken = true;
    }

    async fn limit<T>(_: Limits, job: impl Future<Output = T>) -> Result<T, DbError> {
        // Statements do not wait. A pending job awaits something else, and would block all jobs behind it.
        let mut job = std::pin::pin!(job);
        std::future::poll_fn(|context| match job.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => Poll::Ready(Err(DbError::other("a job awaited something that is not its Tx"))),
        })
        .await
    }
}

impl fmt::Debug for SqliteBackend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBackend").field("is_broken", &self.is_broken).finish_non_exhaustive()
    }
}

/// The deadline of the running job. SQLite checks it while it works.
struct Deadline {
    origin: Instant,
    /// Milliseconds after the origin; 0 if no deadline is set.
    at: AtomicU64,
}

impl Deadline {
    fn new() -> Self {
        Self { origin: Instant::now(), at: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn set(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.at.store(self.now().saturating_add(limit).max(1), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    fn has_passed(&self) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at != 0 && self.now() >= at
    }
}

/// Classifies an error of SQLite. The message contains the statement but not its parameters, which are private.
pub(super) fn failure(error: rusqlite::Error, doing: &str) -> DbError {
    let kind = match &error {
        rusqlite::Error::SqliteFailure(cause, _) => match cause.code {
            ErrorCode::ConstraintViolation => match cause.extended_code {
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
                    DbErrorKind::Unique
                }
                _ => DbErrorKind::Other,
            },
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => DbErrorKind::Busy,
            ErrorCode::DiskFull => DbErrorKind::DiskFull,
            ErrorCode::OperationInterrupted => DbErrorKind::Timeout,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => DbErrorKind::Corrupt,
            _ => DbErrorKind::Other,
        },
        _ => DbErrorKind::Other,
    };
    DbError::caused_by(kind, format!("SQLite: {error}; in: {}", super::error::excerpt(doing)), error)
}
