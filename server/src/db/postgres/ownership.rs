//! One server for each database. Two would give out the same IDs and take each other's logins for lost ones.
//!
//! A session-level advisory lock decides which server owns the database. Its connection is watched, and a lost one is
//! replaced. A lock alone does not stop a server that was paused or cut off while another took over: its other
//! connections may still work. So each owner writes a token of its own into the database and then ends all connections
//! of earlier owners, and a connection that is opened later checks the token first. A server whose token was replaced
//! can neither read nor write, and stops.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::super::backend::Limits;
use super::super::error::{DbError, DbErrorKind};
use super::{BACK_OFF, Link};
use crate::params;

/// The advisory lock, "zimowner" in ASCII.
pub(in super::super) const LOCK: i64 = 0x7a69_6d6f_776e_6572;
const TABLE: &str = "CREATE TABLE IF NOT EXISTS server_owner (id BIGINT NOT NULL PRIMARY KEY, token TEXT NOT NULL)";
/// The names of connections in `pg_stat_activity`: those that read and write, and, followed by the token, the one that
/// holds the lock. Builds without the lock have the first name.
const OLD_BUILD: &str = "zim-server";
const STORE: &str = "zim-server store";
const OWNER: &str = "zim-server owner";
/// How often the connection that holds the lock is checked, and how long it has to respond.
const PING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How long an attempt to take the lock again may take. Its parts are shorter.
const REGAIN: Duration = Duration::from_secs(15);
/// How long a takeover waits until the connections of earlier owners have ended.
const TAKEOVER: Duration = Duration::from_secs(10);
/// How often it looks.
const POLL: Duration = Duration::from_millis(20);

/// Opens connections that read and write, as long as this server owns the database.
#[derive(Clone)]
pub(in super::super) struct Connector {
    options: PgConnectOptions,
    limits: Limits,
    token: Arc<str>,
}

impl Connector {
    pub(in super::super) async fn open(&self) -> Result<Link, DbError> {
        let options = self.options.clone().application_name(STORE);
        let mut link = Link::open(&options, self.limits).await?;
        if owner_token(&mut link).await?.is_none_or(|token| *token != *self.token) {
            return Err(DbError::new(DbErrorKind::Disconnected, "this server no longer owns the database"));
        }
        Ok(link)
    }

    pub(in super::super) fn limits(&self) -> Limits {
        self.limits
    }
}

/// The ownership of a database, with the connection that holds the lock.
pub(in super::super) struct Ownership {
    connector: Connector,
    link: Link,
}

/// Why the lock was not regained.
enum Failure {
    /// PostgreSQL cannot be reached at present.
    Unreachable(DbError),
    /// This server has lost the database.
    Lost(String),
}

impl Failure {
    fn no_response() -> Self {
        Self::Unreachable(DbError::new(DbErrorKind::Disconnected, "PostgreSQL does not respond"))
    }
}

impl Ownership {
    /// Takes the database over, unless another server owns it for longer than `wait`.
    pub(in super::super) async fn take(
        options: &PgConnectOptions,
        limits: Limits,
        wait: Duration,
    ) -> Result<Self, DbError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| DbError::other(format!("no random bytes: {error}")))?;
        let connector = Connector { options: options.clone(), limits, token: zim_protocol::id::hex(&random).into() };
        let mut link = open(&connector, wait).await?;
        if let Err(error) = lock(&mut link).await {
            return Err(if error.kind() == DbErrorKind::Busy { owned_by_other(&mut link).await } else { error });
        }
        link.simple(TABLE.to_owned()).await?;
        let write = "INSERT INTO server_owner (id, token) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET token = $1";
        link.execute(write, &params![&*connector.token]).await?;
        end_other_connections(&mut link, wait).await?;
        Ok(Self { connector, link })
    }

    pub(in super::super) fn connector(&self) -> Connector {
        self.connector.clone()
    }

    /// Keeps the ownership until all senders of `in_use` are dropped, and then gives it up. Returns why if it was lost
    /// before.
    pub(in super::super) async fn keep(mut self, mut in_use: mpsc::Receiver<()>) -> Option<String> {
        while !ends_within(&mut in_use, PING.0).await {
            let alive = timeout(PING.1, self.link.simple("SELECT 1".to_owned())).await;
            let error = match alive {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "PostgreSQL does not respond".to_owned(),
            };
            tracing::warn!(error, "the connection that holds the database's lock is lost; reconnecting");
            let mut wait = BACK_OFF.0;
            loop {
                match timeout(REGAIN, regain(&self.connector)).await.unwrap_or_else(|_| Err(Failure::no_response())) {
                    Ok(link) => {
                        tracing::info!("this server has the database's lock again");
                        self.link = link;
                        break;
                    }
                    Err(Failure::Lost(reason)) => return Some(reason),
                    Err(Failure::Unreachable(error)) => {
                        tracing::warn!(%error, "the database's lock cannot be taken yet");
                    }
                }
                if ends_within(&mut in_use, wait).await {
                    return None;
                }
                wait = (wait * 2).min(BACK_OFF.1);
            }
        }
        self.link.close().await;
        None
    }
}

/// Waits for `pause`; returns true as soon as the database is no longer in use.
async fn ends_within(in_use: &mut mpsc::Receiver<()>, pause: Duration) -> bool {
    timeout(pause, in_use.recv()).await.is_ok()
}

/// Opens a connection for the lock, which waits for it at most `wait`.
async fn open(connector: &Connector, wait: Duration) -> Result<Link, DbError> {
    let options = connector.options.clone().application_name(&format!("{OWNER} {}", connector.token));
    let mut link = Link::open(&options, connector.limits).await?;
    // PostgreSQL notices within 25 s when this machine is gone, and gives the lock to another server.
    link.simple(format!(
        "SET statement_timeout = 0; SET lock_timeout = {}; SET tcp_keepalives_idle = 10; \
         SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3",
        wait.as_millis().max(1)
    ))
    .await?;
    Ok(link)
}

async fn lock(link: &mut Link) -> Result<(), DbError> {
    link.simple(format!("SELECT pg_advisory_lock({LOCK})")).await
}

/// Takes the lock again after its connection was lost.
async fn regain(connector: &Connector) -> Result<Link, Failure> {
    let mut link = open(connector, PING.1).await.map_err(Failure::Unreachable)?;
    match prove(&mut link, &connector.token).await {
        Ok(None) => Ok(link),
        Ok(Some(reason)) => Err(Failure::Lost(reason.to_owned())),
        Err(error) if error.kind() == DbErrorKind::Busy => {
            Err(Failure::Lost(owned_by_other(&mut link).await.to_string()))
        }
        Err(error) if error.is_unavailable() => Err(Failure::Unreachable(error)),
        Err(error) => Err(Failure::Lost(format!("this server cannot prove that it owns the database: {error}"))),
    }
}

/// Takes the lock. Returns why this server has lost the database, if it has.
async fn prove(link: &mut Link, token: &str) -> Result<Option<&'static str>, DbError> {
    // After a network failure PostgreSQL may not have noticed the end of the connection that held the lock.
    let name = format!("{OWNER} {token}");
    let end = "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()";
    link.fetch(end, &params![name]).await?;
    lock(link).await?;
    Ok(match owner_token(link).await? {
        Some(found) if found == token => None,
        _ => Some("another server has taken the database over"),
    })
}

async fn owner_token(link: &mut Link) -> Result<Option<String>, DbError> {
    let rows = link.fetch("SELECT token FROM server_owner WHERE id = 1", &[]).await?;
    rows.first().map(|row| row.get(0)).transpose()
}

/// Ends the connections of earlier owners and waits until they are gone. A server of a build without the lock would
/// connect again, so it is only waited for.
async fn end_other_connections(link: &mut Link, wait: Duration) -> Result<(), DbError> {
    let sql = "SELECT application_name, CASE WHEN application_name = $1 THEN CAST(pg_terminate_backend(pid) AS TEXT) END \
               FROM pg_stat_activity WHERE datname = current_database() AND application_name IN ($1, $2)";
    let begun = Instant::now();
    loop {
        let rows = link.fetch(sql, &params![STORE, OLD_BUILD]).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let names = rows.iter().map(|row| row.get::<String>(0)).collect::<Result<Vec<_>, _>>()?;
        if begun.elapsed() >= wait && names.iter().any(|name| name == OLD_BUILD) {
            let problem = "a server of an older build uses this PostgreSQL database; stop it first";
            return Err(DbError::new(DbErrorKind::Busy, problem));
        }
        if begun.elapsed() >= TAKEOVER {
            let problem = "connections of a server that has stopped do not end; end those named \"zim-server store\" \
                           in pg_stat_activity";
            return Err(DbError::new(DbErrorKind::Busy, problem));
        }
        sleep(POLL).await;
    }
}

/// Returns an error that says which server has the lock.
async fn owned_by_other(link: &mut Link) -> DbError {
    let sql = format!(
        "SELECT COALESCE(host(client_addr), 'a Unix socket'), \
             to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') \
         FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted \
             AND objsubid = 1 AND classid = {} AND objid = {} \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        LOCK >> 32,
        LOCK & 0xffff_ffff
    );
    let found = link.fetch(&sql, &[]).await.unwrap_or_default();
    let holder = found.first().and_then(|row| Some((row.get::<String>(0).ok()?, row.get::<String>(1).ok()?)));
    let holder = holder.map_or_else(String::new, |(from, since)| format!(" (from {from}, since {since} UTC)"));
    DbError::new(
        DbErrorKind::Busy,
        format!(
            "another server uses this PostgreSQL database{holder}; stop it, or give this server a database of its own"
        ),
    )
}
