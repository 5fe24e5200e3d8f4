//! Which servers use a database: one alone, or the nodes of a deployment. Two that do not know of each other would give out the
//! same IDs and take each other's logins for lost ones.
//!
//! A session-level advisory lock decides which server owns the database. Nodes share it, and each has a node number (`node`).
//! Its connection is watched, and a lost one is replaced. A lock alone does not stop a server that was paused or cut off while another took over: its other
//! connections may still work. So each owner writes a token of its own into the database and then ends all connections
//! of earlier owners, and a connection that is opened later checks the token first. A server whose token was replaced
//! can neither read nor write, and stops. The token of nodes is the same for all. One that is gone is recognised by its lease.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::super::backend::Limits;
use super::super::error::{DbError, DbErrorKind};
use super::super::lease::{Lease, NodeConfig};
use super::{BACK_OFF, Link, node};
use crate::params;

/// The advisory lock, "zimowner" in ASCII.
pub(in super::super) const LOCK: i64 = 0x7a69_6d6f_776e_6572;
const TABLE: &str = "CREATE TABLE IF NOT EXISTS server_owner (id BIGINT NOT NULL PRIMARY KEY, token TEXT NOT NULL)";
/// The names of connections in `pg_stat_activity`: those that read and write, and, followed by the token, the one that
/// holds the lock. Builds without the lock have the first name.
const OLD_BUILD: &str = "zim-server";
const STORE: &str = "zim-server store";
const OWNER: &str = "zim-server owner";
/// The token of the nodes of a deployment.
const NODES: &str = "nodes";
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
    /// The name of the connection that holds the lock, and of those that read and write.
    owner: Arc<str>,
    store: Arc<str>,
    lease: Option<Arc<Lease>>,
}

impl Connector {
    pub(in super::super) async fn open(&self) -> Result<Link, DbError> {
        let options = self.options.clone().application_name(&self.store);
        let mut link = Link::open(&options, self.limits).await?;
        if owner_token(&mut link).await?.is_none_or(|token| *token != *self.token) {
            return Err(DbError::new(DbErrorKind::Disconnected, "this server no longer owns the database"));
        }
        Ok(link)
    }

    pub(in super::super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the lease of a node.
    pub(in super::super) fn lease(&self) -> Option<&Arc<Lease>> {
        self.lease.as_ref()
    }

    fn is_node(&self) -> bool {
        *self.token == *NODES
    }
}

/// The ownership of a database, with the connection that holds the lock.
pub(in super::super) struct Ownership {
    connector: Connector,
    link: Link,
    node: Option<NodeConfig>,
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
    /// Takes the database over, alone or as one of its nodes, unless a server owns it for longer than `wait` that does not share
    /// it.
    pub(in super::super) async fn take(
        options: &PgConnectOptions,
        limits: Limits,
        wait: Duration,
        node: Option<NodeConfig>,
    ) -> Result<Self, DbError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| DbError::other(format!("no random bytes: {error}")))?;
        let random = zim_protocol::id::hex(&random);
        let mut connector = Connector {
            options: options.clone(),
            limits,
            owner: format!("{OWNER} {random}").into(),
            token: if node.is_some() { NODES.into() } else { random.into() },
            store: STORE.into(),
            lease: None,
        };
        let mut link = open(&connector, wait).await?;
        if let Err(error) = lock(&mut link, &connector).await {
            return Err(if error.kind() == DbErrorKind::Busy {
                owned_by_other(&mut link, node.is_some()).await
            } else {
                error
            });
        }
        match &node {
            Some(_) => node::create_tables(&mut link, TABLE).await?,
            None => link.simple(TABLE.to_owned()).await?,
        }
        let write = "INSERT INTO server_owner (id, token) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET token = $1";
        link.execute(write, &params![&*connector.token]).await?;
        end_other_connections(&mut link, wait, connector.is_node()).await?;
        if let Some(config) = &node {
            let lease = node::claim(&mut link, config).await?;
            connector.store = format!("{STORE} {}", lease.number()).into();
            // Those of the server that had the number before.
            end_connections(&mut link, &connector.store).await?;
            // It knows the others from the beginning.
            node::end_expired(&mut link, &lease).await?;
            tracing::info!(node = lease.number(), generation = lease.generation(), "this server is a node");
            connector.lease = Some(Arc::new(lease));
        }
        Ok(Self { connector, link, node })
    }

    pub(in super::super) fn connector(&self) -> Connector {
        self.connector.clone()
    }

    /// Keeps the ownership until all senders of `in_use` are dropped, and then gives it up. Returns why if it was lost
    /// before.
    pub(in super::super) async fn keep(self, in_use: mpsc::Receiver<()>) -> Option<String> {
        let Some(lease) = self.connector.lease.clone() else { return self.watch(in_use).await };
        tokio::select! {
            biased;
            () = lease.ended() => Some(
                "this server's lease has ended: it was paused, or cut off from the database, for too long".to_owned()
            ),
            reason = self.watch(in_use) => {
                lease.end();
                reason
            }
        }
    }

    async fn watch(mut self, mut in_use: mpsc::Receiver<()>) -> Option<String> {
        let pause = self.node.as_ref().map_or(PING.0, node::interval);
        while !ends_within(&mut in_use, pause).await {
            let error = match timeout(PING.1, self.renew()).await {
                Ok(Ok(true)) => continue,
                Ok(Ok(false)) => return Some("another server has taken this server's node number".to_owned()),
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
        if let Some(lease) = &self.connector.lease
            && let Err(error) = node::release(&mut self.link, lease).await
        {
            tracing::warn!(%error, "the node number was not given back; it is free when its lease ends");
        }
        self.link.close().await;
        None
    }

    /// Checks the connection; a node renews its lease, and ends nodes that no longer renew theirs. Returns false if the lease has
    /// ended.
    async fn renew(&mut self) -> Result<bool, DbError> {
        let (Some(config), Some(lease)) = (&self.node, &self.connector.lease) else {
            return self.link.simple("SELECT 1".to_owned()).await.map(|()| true);
        };
        if !node::renew(&mut self.link, config, lease).await? {
            return Ok(false);
        }
        for number in node::end_expired(&mut self.link, lease).await? {
            tracing::warn!(node = number, "a node no longer renews its lease; its logins end");
            end_connections(&mut self.link, &format!("{STORE} {number}")).await?;
        }
        Ok(true)
    }
}

/// Waits for `pause`; returns true as soon as the database is no longer in use.
async fn ends_within(in_use: &mut mpsc::Receiver<()>, pause: Duration) -> bool {
    timeout(pause, in_use.recv()).await.is_ok()
}

/// Opens a connection for the lock, which waits for it at most `wait`.
async fn open(connector: &Connector, wait: Duration) -> Result<Link, DbError> {
    let options = connector.options.clone().application_name(&connector.owner);
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

/// Takes the lock, which nodes share.
async fn lock(link: &mut Link, connector: &Connector) -> Result<(), DbError> {
    let shared = if connector.is_node() { "_shared" } else { "" };
    link.simple(format!("SELECT pg_advisory_lock{shared}({LOCK})")).await
}

/// Takes the lock again after its connection was lost.
async fn regain(connector: &Connector) -> Result<Link, Failure> {
    let mut link = open(connector, PING.1).await.map_err(Failure::Unreachable)?;
    match prove(&mut link, connector).await {
        Ok(None) => Ok(link),
        Ok(Some(reason)) => Err(Failure::Lost(reason.to_owned())),
        Err(error) if error.kind() == DbErrorKind::Busy => {
            Err(Failure::Lost(owned_by_other(&mut link, connector.is_node()).await.to_string()))
        }
        Err(error) if error.is_unavailable() => Err(Failure::Unreachable(error)),
        Err(error) => Err(Failure::Lost(format!("this server cannot prove that it owns the database: {error}"))),
    }
}

/// Takes the lock. Returns why this server has lost the database, if it has.
async fn prove(link: &mut Link, connector: &Connector) -> Result<Option<&'static str>, DbError> {
    // After a network failure PostgreSQL may not have noticed the end of the connection that held the lock.
    end_connections(link, &connector.owner).await?;
    lock(link, connector).await?;
    Ok(match owner_token(link).await? {
        Some(found) if *found == *connector.token => None,
        _ => Some("another server has taken the database over"),
    })
}

/// Ends the other connections with this name.
async fn end_connections(link: &mut Link, name: &str) -> Result<(), DbError> {
    let end = "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()";
    link.fetch(end, &params![name]).await.map(drop)
}

async fn owner_token(link: &mut Link) -> Result<Option<String>, DbError> {
    let rows = link.fetch("SELECT token FROM server_owner WHERE id = 1", &[]).await?;
    rows.first().map(|row| row.get(0)).transpose()
}

/// Ends the connections of earlier owners and waits until they are gone. A server of a build without the lock would
/// connect again, so it is only waited for. Those of other nodes stay if this server `is_node`.
async fn end_other_connections(link: &mut Link, wait: Duration, is_node: bool) -> Result<(), DbError> {
    let nodes = if is_node { "" } else { " OR application_name LIKE $1 || ' %'" };
    let sql = format!(
        "SELECT application_name, CASE WHEN application_name <> $2 THEN CAST(pg_terminate_backend(pid) AS TEXT) END \
         FROM pg_stat_activity WHERE datname = current_database() AND (application_name IN ($1, $2){nodes})"
    );
    let begun = Instant::now();
    loop {
        let rows = link.fetch(&sql, &params![STORE, OLD_BUILD]).await?;
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
async fn owned_by_other(link: &mut Link, is_node: bool) -> DbError {
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
    let remedy = if is_node {
        "it has no --bus: stop it, and give both the same --bus"
    } else {
        "stop it, or give this server a database of its own. To run both on this database, give both the same --bus"
    };
    DbError::new(DbErrorKind::Busy, format!("another server uses this PostgreSQL database{holder}; {remedy}"))
}
