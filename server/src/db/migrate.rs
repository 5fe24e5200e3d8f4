//! Migrates the schema at the start: forward only, with one text for both databases, in one transaction. On PostgreSQL nodes of the
//! version before go on meanwhile and afterwards, so a migration only adds.

use std::time::Duration;

use rusqlite::Connection;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::dialect::sqlite_migration;
use super::error::{DbError, DbErrorKind};
use super::postgres::{Connector, Link};
use super::sqlite;
use super::value::Value;

/// A migration of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// `NNNN_description`: the number gives the order.
    pub name: &'static str,
    /// The statements.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("../../migrations/", $name, ".sql")) }),*]
    };
}

/// All migrations: the files of `server/migrations`.
pub static MIGRATIONS: &[Migration] = migrations![
    "0001_init",
    "0002_status",
    "0003_access",
    "0004_task",
    "0005_counters",
    "0006_revoke",
    "0007_group",
    "0008_message",
    "0009_conversation_setting",
    "0010_group_data",
    "0011_room",
    "0012_call",
    "0013_media",
    "0014_push",
    "0015_group_history",
    "0016_push_order",
    "0017_operator",
    "0018_all_deleted",
    "0019_push_login",
    "0020_return",
    "0021_group_application",
    "0022_privacy",
    "0023_ended_rev",
    "0024_media_total",
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migration \
    (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)";
const APPLIED: &str = "SELECT version, name, checksum FROM schema_migration ORDER BY version";
const RECORD: &str = "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)";
/// The advisory lock, "zimmigra" in ASCII. A server of an older build takes no other lock before it migrates.
pub(super) const LOCK: i64 = 0x7a69_6d6d_6967_7261;
/// How long a migration waits for a table that running nodes use, milliseconds. Then it gives way, and tries again: each time it waits
/// twice as long, up to the second value. The first value is shorter than the second after which PostgreSQL ends a deadlock, so that no
/// transaction of a node fails, and so that what the nodes do waits no longer than that behind the migration.
const LOCK_WAIT_MS: (u64, u64) = (500, 16_000);
/// Turns off the time limit of transactions, which PostgreSQL has since version 17.
const NO_TRANSACTION_LIMIT: &str =
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";
/// How often it tries.
const TRIES: u32 = 12;
/// The pause before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

impl Migration {
    fn version(&self) -> Result<i64, DbError> {
        let digits = self.name.split('_').next().unwrap_or_default();
        digits.parse().map_err(|_| DbError::other(format!("the migration {} has no number", self.name)))
    }

    /// Returns a checksum that does not depend on the system's line endings.
    fn checksum(&self) -> String {
        let digest = Sha256::digest(self.sql.replace("\r\n", "\n"));
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    fn record(&self) -> Result<[Value; 3], DbError> {
        Ok([self.version()?.into(), self.name.into(), self.checksum().into()])
    }
}

/// A migration that the database records as applied.
struct Applied {
    version: i64,
    name: String,
    checksum: String,
}

/// Returns the migrations that are not applied yet.
fn pending<'m>(known: &'m [Migration], applied: &[Applied]) -> Result<Vec<&'m Migration>, DbError> {
    for step in applied {
        let mut same = known.iter().filter(|migration| migration.version().is_ok_and(|v| v == step.version));
        let Some(migration) = same.next() else {
            return Err(DbError::other(format!(
                "the database is newer than this server, which does not know its migration {}; start the newer server",
                step.name
            )));
        };
        if migration.checksum() != step.checksum {
            return Err(DbError::other(format!(
                "the migration {} differs from the one that was applied; restore its text, and write a new migration",
                step.name
            )));
        }
    }
    let newest = applied.last().map_or(0, |step| step.version);
    let mut pending = Vec::new();
    let mut last = 0;
    for migration in known {
        let version = migration.version()?;
        if version <= last {
            return Err(DbError::other(format!("the migration {} is out of order", migration.name)));
        }
        last = version;
        if version > newest {
            pending.push(migration);
        } else if !applied.iter().any(|step| step.version == version) {
            return Err(DbError::other(format!(
                "the migration {} is older than those that were applied; give it a higher number",
                migration.name
            )));
        }
    }
    Ok(pending)
}

/// Migrates an SQLite database.
pub(super) fn migrate_sqlite(conn: &mut Connection, known: &[Migration]) -> Result<(), DbError> {
    let failure = |error| sqlite::failure(error, "the schema");
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failure)?;
    tx.execute_batch(TABLE).map_err(failure)?;
    let applied = {
        let mut statement = tx.prepare(APPLIED).map_err(failure)?;
        let rows = statement
            .query_map([], |row| Ok(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)? }));
        rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failure)?
    };
    for migration in pending(known, &applied)? {
        tracing::info!(migration = migration.name, "migrating the schema");
        tx.execute_batch(&sqlite_migration(migration.sql)).map_err(|error| sqlite::failure(error, migration.name))?;
        tx.execute(RECORD, (migration.version()?, migration.name, migration.checksum())).map_err(failure)?;
    }
    tx.commit().map_err(failure)
}

/// Migrates a PostgreSQL database, which other nodes may be using.
pub(super) async fn migrate_postgres(connector: &Connector, known: &[Migration]) -> Result<(), DbError> {
    let mut link = connector.open().await?;
    // No time limit: a large table takes long, and so does the wait for another node that migrates it. The settings of the database or
    // the role may have one.
    link.simple(format!("SET statement_timeout = 0; SET lock_timeout = 0; {NO_TRANSACTION_LIMIT}")).await?;
    let (mut wait_ms, mut tries) = (LOCK_WAIT_MS.0, 1);
    loop {
        let error = match migrate_once(&mut link, known, wait_ms).await {
            Err(error) if matches!(error.kind(), DbErrorKind::Busy | DbErrorKind::Conflict) => error,
            done => {
                link.close().await;
                return done;
            }
        };
        if tries == TRIES {
            link.close().await;
            let problem =
                format!("the tables to migrate are in use, as by a backup; start again when it has ended: {error}");
            return Err(DbError::new(DbErrorKind::Busy, problem));
        }
        tracing::info!(%error, "the migration gives way to what uses the tables, and tries again");
        link.simple("ROLLBACK".to_owned()).await?;
        sleep(PAUSE).await;
        (wait_ms, tries) = ((wait_ms * 2).min(LOCK_WAIT_MS.1), tries + 1);
    }
}

/// Migrates, or fails if a table cannot be locked within this time.
async fn migrate_once(link: &mut Link, known: &[Migration], wait_ms: u64) -> Result<(), DbError> {
    // What another node has applied is seen after the wait for it.
    link.simple("BEGIN ISOLATION LEVEL READ COMMITTED".to_owned()).await?;
    let is_free = format!("SELECT CAST(CASE WHEN pg_try_advisory_xact_lock({LOCK}) THEN 1 ELSE 0 END AS BIGINT)");
    let rows = link.fetch(&is_free, &[]).await?;
    if rows.first().map_or(Ok(0), |row| row.get::<i64>(0))? == 0 {
        tracing::info!("another node migrates the schema; waiting until it has ended, however long it takes");
        link.simple(format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    }
    link.simple(format!("{TABLE}; SET LOCAL lock_timeout = {wait_ms}")).await?;
    let mut applied = Vec::new();
    for row in link.fetch(APPLIED, &[]).await? {
        applied.push(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)? });
    }
    for migration in pending(known, &applied)? {
        tracing::info!(migration = migration.name, "migrating the schema");
        link.simple(migration.sql.to_owned()).await?;
        link.execute(RECORD, &migration.record()?).await?;
    }
    link.simple("COMMIT".to_owned()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
            .collect();
        files.sort();
        let listed: Vec<&str> = MIGRATIONS.iter().map(|migration| migration.name).collect();
        assert_eq!(listed, files, "server/src/db/migrate.rs lists the files of server/migrations");
        assert_eq!(pending(MIGRATIONS, &[]).unwrap().len(), files.len());
    }

    /// The first migration beside which nodes of the version before may run. Before it a database had one server.
    const FIRST_OF_NODES: &str = "0009_conversation_setting";

    /// Whether nodes that do not know of a statement go on after it. `made`: the tables that its migration makes.
    fn only_adds(statement: &str, made: &[&str]) -> bool {
        let words: Vec<&str> = statement.split(' ').collect();
        match words.as_slice() {
            ["CREATE", "TABLE" | "INDEX", ..] | ["INSERT" | "UPDATE", ..] => true,
            // In a table that has rows they may write what it forbids.
            ["CREATE", "UNIQUE", "INDEX", _, "ON", table, ..] => made.contains(table),
            // They insert rows without it.
            ["ALTER", "TABLE", _, "ADD", "COLUMN", ..] => {
                !statement.contains(" NOT NULL") || statement.contains(" DEFAULT ")
            }
            _ => false,
        }
    }

    /// Returns the statements of a migration that do more than add.
    fn more_than_additions(sql: &str) -> Vec<String> {
        let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        let code = code.join(" ");
        let statements = code.split(';').map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" "));
        let statements: Vec<String> = statements.filter(|statement| !statement.is_empty()).collect();
        let made = statements.iter().filter_map(|statement| statement.strip_prefix("CREATE TABLE ")?.split(' ').next());
        let made: Vec<&str> = made.collect();
        statements.iter().filter(|statement| !only_adds(statement, &made)).cloned().collect()
    }

    #[test]
    fn nodes_of_the_version_before_go_on_after_a_migration() {
        let first = MIGRATIONS.iter().position(|migration| migration.name == FIRST_OF_NODES).unwrap();
        for migration in &MIGRATIONS[first..] {
            assert_eq!(more_than_additions(migration.sql), Vec::<String>::new(), "{}", migration.name);
        }
        let fine = "CREATE TABLE a (id BIGINT PRIMARY KEY); -- One; of many.\nCREATE UNIQUE INDEX a_id ON a (id);\n\
                    ALTER TABLE b\n  ADD COLUMN c BYTEA;";
        assert!(more_than_additions(fine).is_empty());
        for wrong in [
            "DROP INDEX a",
            "ALTER TABLE a RENAME COLUMN b TO c",
            "ALTER TABLE a DROP COLUMN b",
            "ALTER TABLE a ADD COLUMN b BIGINT NOT NULL",
            "CREATE UNIQUE INDEX a_b ON a (b)",
            "DELETE FROM a",
        ] {
            assert_eq!(more_than_additions(wrong), [wrong]);
        }
    }
}
