//! Migrates the schema at the start: forward only, with one text for both databases, in one transaction.

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::dialect::sqlite_migration;
use super::error::DbError;
use super::postgres::Connector;
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
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migration \
    (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)";
const APPLIED: &str = "SELECT version, name, checksum FROM schema_migration ORDER BY version";
const RECORD: &str = "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)";
/// The advisory lock, "zimmigra" in ASCII. A server of an older build takes no other lock before it migrates.
const LOCK: i64 = 0x7a69_6d6d_6967_7261;

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

/// Migrates a PostgreSQL database.
pub(super) async fn migrate_postgres(connector: &Connector, known: &[Migration]) -> Result<(), DbError> {
    let mut link = connector.open().await?;
    // No time limit: a large table takes long.
    link.simple(format!("SET statement_timeout = 0; BEGIN; SELECT pg_advisory_xact_lock({LOCK}); {TABLE}")).await?;
    let mut applied = Vec::new();
    for row in link.fetch(APPLIED, &[]).await? {
        applied.push(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)? });
    }
    for migration in pending(known, &applied)? {
        tracing::info!(migration = migration.name, "migrating the schema");
        link.simple(migration.sql.to_owned()).await?;
        link.execute(RECORD, &migration.record()?).await?;
    }
    link.simple("COMMIT".to_owned()).await?;
    link.close().await;
    Ok(())
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
}
