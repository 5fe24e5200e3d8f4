//! PostgreSQL: each partition and each reader has its own thread and connection. Statements that control a transaction are
//! combined to save round trips: `BEGIN` with its locks, a savepoint with the release of the last one.

mod node;
mod ownership;
mod tls;
mod value;

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection};
use tokio::time::{Instant, timeout};

#[cfg(test)]
pub(super) use self::ownership::LOCK;
pub(super) use self::ownership::{Connector, Ownership};
use self::tls::Decision;
use self::value::{Param, mark_nulls, row};
use super::backend::{Access, Backend, Limits};
use super::error::{DbError, DbErrorKind, excerpt};
use super::locks::Locks;
use super::row::Row;
use super::tx::{Link as AnyLink, Tx};
use super::value::Value;
use crate::effect::Effect;

/// The number of prepared statements that a connection caches.
const STATEMENTS: usize = 512;
/// The time limit for connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// What the network may add to the time limit of a statement, before the connection counts as lost.
const NETWORK: Duration = Duration::from_secs(5);
/// How long it waits for locks of which it only asks whether they are free.
const MOMENT: Duration = Duration::from_millis(50);
/// Plans as SQLite makes them, by the indexes that the statements are written for. A prepared statement keeps the plan of the time
/// when it was prepared. If its table was empty then, that is a scan of the whole table, and each execution takes longer the more
/// rows there are, until PostgreSQL analyzes the table. Where no index helps, it still scans. The compiler of
/// expressions would start for such a scan however small the table is, because its cost counts as very high.
const PLANS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";
/// The back-off between two attempts to connect: it doubles from the first value up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Parses a database URL. Returns the options of all connections, and how they are protected.
pub(super) fn options(url: &str) -> Result<(PgConnectOptions, Decision), DbError> {
    let options: PgConnectOptions = url.parse().map_err(|error| failure(error, "reading the address"))?;
    let options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
    Ok(tls::protect(options, url, std::env::var("PGSSLMODE").ok().as_deref()))
}

/// A connection.
pub(super) struct Link {
    conn: PgConnection,
}

impl Link {
    pub(super) async fn open(options: &PgConnectOptions, limits: Limits) -> Result<Self, DbError> {
        let conn = timeout(CONNECT, PgConnection::connect_with(options))
            .await
            .map_err(|_| DbError::new(DbErrorKind::Disconnected, "PostgreSQL does not respond"))?
            .map_err(|error| failure(error, "connecting"))?;
        let mut link = Self { conn };
        // The second setting ends the transactions of a node that is stuck or gone, so that their locks do not block others.
        link.simple(format!(
            "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; SET client_min_messages = warning",
            limits.statement.as_millis(),
            limits.job.as_millis()
        ))
        .await?;
        Ok(link)
    }

    /// Runs several statements without parameters in one round trip.
    pub(super) async fn simple(&mut self, sql: String) -> Result<(), DbError> {
        let text = sql.clone();
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.conn).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failure(error, &text)),
        }
    }

    pub(super) async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        let (text, arguments) = prepare(sql, params)?;
        let done = sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut self.conn).await;
        done.map(|done| done.rows_affected()).map_err(|error| failure(error, sql))
    }

    pub(super) async fn fetch(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let (text, arguments) = prepare(sql, params)?;
        let rows: Result<Vec<PgRow>, _> =
            sqlx::query_with(AssertSqlSafe(text), arguments).fetch_all(&mut self.conn).await;
        rows.map_err(|error| failure(error, sql))?.iter().map(row).collect()
    }

    pub(super) async fn close(self) {
        // A failure does not matter: the connection is dropped anyway.
        let _ = timeout(Duration::from_secs(1), self.conn.close()).await;
    }
}

fn prepare(sql: &str, params: &[Value]) -> Result<(String, PgArguments), DbError> {
    let mut arguments = PgArguments::default();
    arguments.reserve(params.len(), params.len() * 12);
    for param in params {
        arguments
            .add(Param(param))
            .map_err(|error| DbError::other(format!("a parameter cannot be encoded: {error}")))?;
    }
    Ok((mark_nulls(sql, params), arguments))
}

/// A connection that reconnects when it is lost.
pub(super) struct PostgresBackend {
    connector: Connector,
    link: Option<Link>,
    has_savepoint: bool,
    in_transaction: bool,
    /// The statements that commit.
    commit: String,
    /// The earliest time of the next attempt to connect, and the back-off that led to it.
    next_attempt: Option<(Instant, Duration)>,
}

impl PostgresBackend {
    pub(super) fn new(connector: Connector) -> Self {
        // PostgreSQL turns COMMIT of a failed transaction into a ROLLBACK without an error. A statement in front of it fails in
        // such a transaction, so nothing is ever acknowledged that was not stored.
        let commit =
            connector.lease().map_or_else(|| "SAVEPOINT done; COMMIT".to_owned(), |lease| node::commit_sql(lease));
        Self { connector, link: None, has_savepoint: false, in_transaction: false, commit, next_attempt: None }
    }

    /// Connects if there is no connection. Fails at once during the back-off after a failed attempt.
    pub(super) async fn connect(&mut self) -> Result<(), DbError> {
        if self.link.is_some() {
            return Ok(());
        }
        let wait = match self.next_attempt {
            Some((at, _)) if Instant::now() < at => {
                return Err(DbError::new(DbErrorKind::Disconnected, "PostgreSQL is unreachable"));
            }
            Some((_, wait)) => (wait * 2).min(BACK_OFF.1),
            None => BACK_OFF.0,
        };
        let open = async {
            let mut link = self.connector.open().await?;
            link.simple(PLANS.to_owned()).await?;
            Ok(link)
        };
        // Also a connection that falls silent after it was made does not hold up those who wait.
        let opened = timeout(2 * CONNECT, open).await;
        match opened.unwrap_or_else(|_| Err(DbError::new(DbErrorKind::Disconnected, "PostgreSQL does not respond"))) {
            Ok(link) => {
                self.link = Some(link);
                self.next_attempt = None;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "cannot connect to PostgreSQL");
                self.next_attempt = Some((Instant::now() + wait, wait));
                Err(DbError::new(DbErrorKind::Disconnected, error.to_string()))
            }
        }
    }

    pub(super) async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    /// Runs statements that control the transaction. A connection that is lost or does not respond is discarded.
    async fn control(&mut self, sql: String) -> Result<(), DbError> {
        let limit = self.limits().statement + NETWORK;
        let Some(link) = &mut self.link else {
            return Err(DbError::new(DbErrorKind::Disconnected, "the connection to PostgreSQL is lost"));
        };
        let done = match timeout(limit, link.simple(sql)).await {
            Ok(done) => done,
            Err(_) => Err(DbError::new(DbErrorKind::Disconnected, "PostgreSQL no longer responds")),
        };
        if done.as_ref().is_err_and(|error| error.kind() == DbErrorKind::Disconnected) {
            self.discard();
        }
        done
    }

    async fn begin_once(&mut self, sql: &str) -> Result<(), DbError> {
        self.connect().await?;
        let done = self.control(sql.to_owned()).await;
        self.in_transaction = self.link.is_some();
        if done.is_err() {
            self.rollback().await;
        }
        done
    }
}

impl Backend for PostgresBackend {
    const LOCKS: bool = true;

    async fn begin(&mut self, access: Access, locks: &Locks) -> Result<(), DbError> {
        self.has_savepoint = false;
        if self.connector.lease().is_some_and(|lease| !lease.is_held()) {
            return Err(lease_ended());
        }
        let mut sql = match access {
            Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned(),
            Access::Write => "BEGIN ISOLATION LEVEL READ COMMITTED".to_owned(),
        };
        locks.append_sql(&mut sql);
        match self.begin_once(&sql).await {
            // Nothing has been done yet, so a retry is safe: after a connection that was lost while idle, or a deadlock with a
            // client that locks in another order.
            Err(error) if matches!(error.kind(), DbErrorKind::Disconnected | DbErrorKind::Conflict) => {
                self.begin_once(&sql).await
            }
            done => done,
        }
    }

    async fn are_free(&mut self, locks: &Locks) -> bool {
        self.has_savepoint = false;
        let mut sql = format!("BEGIN; SET LOCAL lock_timeout = {}", MOMENT.as_millis());
        locks.append_sql(&mut sql);
        let has_begun = self.begin_once(&sql).await.is_ok();
        if has_begun {
            self.rollback().await;
        }
        has_begun
    }

    async fn savepoint(&mut self) -> Result<(), DbError> {
        let sql = if self.has_savepoint { "RELEASE SAVEPOINT job; SAVEPOINT job" } else { "SAVEPOINT job" };
        self.has_savepoint = true;
        self.control(sql.to_owned()).await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), DbError> {
        self.control("ROLLBACK TO SAVEPOINT job".to_owned()).await
    }

    async fn commit(&mut self) -> Result<(), DbError> {
        let done = self.control(self.commit.clone()).await;
        if done.is_err() {
            self.rollback().await;
        }
        self.in_transaction = false;
        match (done, self.connector.lease()) {
            (Err(error), Some(lease)) if error.postgres().is_some_and(node::is_lease_lost) => {
                lease.end();
                Err(lease_ended())
            }
            (done, _) => done,
        }
    }

    async fn rollback(&mut self) {
        if self.in_transaction && self.link.is_some() && self.control("ROLLBACK".to_owned()).await.is_err() {
            self.discard();
        }
        self.in_transaction = false;
    }

    fn tx<'a>(&'a mut self, effects: &'a mut Vec<Effect>) -> Option<Tx<'a>> {
        Some(Tx::new(AnyLink::Postgres(self.link.as_mut()?), effects))
    }

    fn limits(&self) -> Limits {
        self.connector.limits()
    }

    fn is_in_transaction(&self) -> bool {
        self.in_transaction && self.link.is_some()
    }

    fn discard(&mut self) {
        // The connection is dropped without a goodbye message: the server may be gone. The server rolls back open transactions.
        self.link = None;
        self.in_transaction = false;
    }

    async fn limit<T>(limits: Limits, job: impl Future<Output = T>) -> Result<T, DbError> {
        timeout(limits.job, job).await.map_err(|_| DbError::new(DbErrorKind::Timeout, "a job took too long"))
    }
}

fn lease_ended() -> DbError {
    DbError::new(DbErrorKind::Disconnected, "this server's lease has ended")
}

/// Classifies an error of PostgreSQL.
pub(super) fn failure(error: sqlx::Error, doing: &str) -> DbError {
    let kind = match &error {
        sqlx::Error::Database(cause) => match cause.code().as_deref().unwrap_or_default() {
            "23505" => DbErrorKind::Unique,
            "40001" | "40P01" => DbErrorKind::Conflict,
            "55P03" => DbErrorKind::Busy,
            "57014" => DbErrorKind::Timeout,
            "53100" => DbErrorKind::DiskFull,
            "XX001" | "XX002" => DbErrorKind::Corrupt,
            // Shutdown, too many connections, a session that was idle in a transaction for too long.
            "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25P03" => DbErrorKind::Disconnected,
            code if code.starts_with("08") => DbErrorKind::Disconnected,
            _ => DbErrorKind::Other,
        },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => DbErrorKind::Disconnected,
        _ => DbErrorKind::Other,
    };
    DbError::caused_by(kind, format!("PostgreSQL: {error}; in: {}", excerpt(doing)), error)
}
