//! The rows of node numbers. The table is PostgreSQL's only: an SQLite file has one server.
//!
//! `lease_until` is a time of the database's clock. A node whose lease has ended is dead once another node has raised its
//! generation: from then on its commits fail. Its row says that its logins are still to be looked at (`DEAD`), and after that
//! that the number is free.

use std::time::Duration;

use tokio::time::Instant;

use super::super::error::{DbError, DbErrorKind};
use super::super::lease::{Lease, NodeConfig};
use super::Link;
use crate::params;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS server_node (number BIGINT NOT NULL PRIMARY KEY, \
                     generation BIGINT NOT NULL, lease_until BIGINT NOT NULL)";
/// The `lease_until` of a node that is dead and may have left connected logins. 0 means that it has left none.
const DEAD: i64 = -1;
/// The first half of the advisory locks of node numbers, "node" in ASCII.
const NODES: i32 = 0x6e6f_6465;
/// The second half of the lock under which servers join.
const JOINING: i32 = -1;
/// The largest node number.
const MAX: i64 = 63;
/// The present time of the database, Unix milliseconds.
const NOW: &str = "CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)";

/// Creates the table, and `other`.
pub(super) async fn create_tables(link: &mut Link, other: &str) -> Result<(), DbError> {
    // Without the lock, two servers that create them at the same time would fail.
    link.simple(format!("BEGIN; SELECT pg_advisory_xact_lock({NODES}, {JOINING}); {other}; {TABLE}; COMMIT")).await
}

/// Takes the lowest number that no server holds.
pub(super) async fn claim(link: &mut Link, config: &NodeConfig) -> Result<Lease, DbError> {
    link.simple(format!("BEGIN; SELECT pg_advisory_xact_lock({NODES}, {JOINING})")).await?;
    let rows = link.fetch(&format!("SELECT number FROM server_node WHERE lease_until > {NOW}"), &[]).await?;
    let held = rows.iter().map(|row| row.get::<i64>(0)).collect::<Result<Vec<_>, _>>()?;
    let Some(number) = (0..=MAX).find(|number| !held.contains(number)) else {
        let problem = format!("{} servers use this PostgreSQL database; there are no more numbers", held.len());
        return Err(DbError::new(DbErrorKind::Busy, problem));
    };
    // The commits of the server that held it before end first.
    link.simple(format!("SELECT pg_advisory_xact_lock({NODES}, {number})")).await?;
    let asked = Instant::now();
    let sql = format!(
        "INSERT INTO server_node (number, generation, lease_until) VALUES ($1, 1, {NOW} + $2) ON CONFLICT (number) \
         DO UPDATE SET generation = server_node.generation + 1, lease_until = excluded.lease_until \
         RETURNING generation, lease_until"
    );
    let rows = link.fetch(&sql, &params![number, lease_ms(config)]).await?;
    let row = rows.first().ok_or_else(|| DbError::other("a node number was not stored"))?;
    let (generation, until): (i64, i64) = (row.get(0)?, row.get(1)?);
    link.simple("COMMIT".to_owned()).await?;
    let lease = Lease::new(u8::try_from(number).unwrap_or_default(), generation);
    lease.renewed(asked, config.lease);
    correct_clock(config, asked, until);
    Ok(lease)
}

/// Renews a lease. Returns false if it has ended.
pub(super) async fn renew(link: &mut Link, config: &NodeConfig, lease: &Lease) -> Result<bool, DbError> {
    let asked = Instant::now();
    let sql = format!(
        "UPDATE server_node SET lease_until = {NOW} + $3 WHERE number = $1 AND generation = $2 AND lease_until > {NOW} \
         RETURNING lease_until"
    );
    let rows = link.fetch(&sql, &params![number(lease), lease.generation(), lease_ms(config)]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    lease.renewed(asked, config.lease);
    correct_clock(config, asked, row.get(0)?);
    Ok(true)
}

/// Ends the generations of nodes whose lease has ended, and reports nodes that are dead. Returns the numbers of the former.
pub(super) async fn end_expired(link: &mut Link, lease: &Lease) -> Result<Vec<i64>, DbError> {
    let sql = format!("SELECT number, generation FROM server_node WHERE lease_until > 0 AND lease_until <= {NOW}");
    let mut ended = Vec::new();
    for row in link.fetch(&sql, &[]).await? {
        let (number, generation): (i64, i64) = (row.get(0)?, row.get(1)?);
        // Its commits end first: none is stored after its generation is raised.
        link.simple(format!(
            "BEGIN; SELECT pg_advisory_xact_lock({NODES}, {number}); \
             UPDATE server_node SET generation = generation + 1, lease_until = {DEAD} WHERE number = {number} \
             AND generation = {generation} AND lease_until > 0 AND lease_until <= {NOW}; COMMIT"
        ))
        .await?;
        ended.push(number);
    }
    let (mut dead, mut peers) = (Vec::new(), Vec::new());
    for row in link.fetch("SELECT number, generation, lease_until FROM server_node WHERE lease_until <> 0", &[]).await?
    {
        let (number, generation, until): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if until == DEAD {
            dead.push((number, generation));
        } else if number != i64::from(lease.number()) {
            peers.push((u8::try_from(number).unwrap_or(u8::MAX), generation));
        }
    }
    lease.set_peers(peers);
    lease.note_dead(dead);
    Ok(ended)
}

/// Gives a number back.
pub(super) async fn release(link: &mut Link, lease: &Lease) -> Result<(), DbError> {
    // Connections that it could not mark as ended are looked for by the others.
    let sql = format!("UPDATE server_node SET lease_until = {DEAD} WHERE number = $1 AND generation = $2");
    link.execute(&sql, &params![number(lease), lease.generation()]).await.map(drop)
}

/// Returns the statements that end a transaction of the node. They fail if it no longer holds its number. The lock makes whoever
/// ends its generation wait for the commit; it costs no write, as a lock of the row would. The check is a statement of its own
/// because it must see what was committed while it waited for the lock.
pub(super) fn commit_sql(lease: &Lease) -> String {
    let (number, generation) = (lease.number(), lease.generation());
    format!(
        "SELECT pg_advisory_xact_lock_shared({NODES}, {number}); \
         SELECT 1 / COUNT(*) FROM server_node WHERE number = {number} AND generation = {generation} \
         AND lease_until > {NOW}; COMMIT"
    )
}

/// Whether a commit failed because its node no longer holds its number.
pub(super) fn is_lease_lost(error: &sqlx::Error) -> bool {
    // Division by zero: there is no such row.
    matches!(error, sqlx::Error::Database(cause) if cause.code().as_deref() == Some("22012"))
}

fn number(lease: &Lease) -> i64 {
    i64::from(lease.number())
}

fn lease_ms(config: &NodeConfig) -> i64 {
    i64::try_from(config.lease.as_millis()).unwrap_or(i64::MAX)
}

/// Corrects the clock to that of the database, which answered between `asked` and now that the lease ends at `until`.
fn correct_clock(config: &NodeConfig, asked: Instant, until: i64) {
    let half = i64::try_from((asked.elapsed() / 2).as_millis()).unwrap_or_default();
    config.clock.correct(until - lease_ms(config) + half);
}

/// How often a lease is renewed.
pub(super) fn interval(config: &NodeConfig) -> Duration {
    (config.lease / 8).min(Duration::from_secs(1))
}
