//! The settings of a database.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::backend::Limits;
use super::error::DbError;
use super::lease::NodeConfig;
use super::migrate::{MIGRATIONS, Migration};

/// The address of a database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// An SQLite file; its write-ahead log is beside it.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database, with its password.
    Postgres(String),
}

impl FromStr for Database {
    type Err = DbError;

    /// Parses `sqlite://path` or `postgres://user:password@host/name`.
    fn from_str(url: &str) -> Result<Self, DbError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite://") {
            // An acknowledged write must be on disk, so the database cannot be in memory.
            Some(path) if path.is_empty() || path.contains(":memory:") => {
                Err(DbError::other("a database in memory is not supported; name a file: sqlite://path"))
            }
            Some(path) => Ok(Self::Sqlite(path.into())),
            None if url.starts_with("sqlite::memory:") => {
                Err(DbError::other("a database in memory is not supported; name a file: sqlite://path"))
            }
            // The error does not repeat the URL, which may contain a password.
            None => Err(DbError::other("a database URL is sqlite://path or postgres://user:password@host/name")),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            // The URL stays out of logs: it may contain a password.
            Self::Postgres(_) => f.debug_tuple("Postgres").finish_non_exhaustive(),
        }
    }
}

/// The settings of a database. Start from [`DbConfig::new`] and change fields.
#[derive(Clone, Debug)]
pub struct DbConfig {
    /// The address of the database.
    pub database: Database,
    /// Writing connections to PostgreSQL; SQLite has one. Default: 4. With more of them more transactions commit in parallel,
    /// and fewer jobs share a commit.
    pub partitions: usize,
    /// Reading connections, each with a thread. Default: 4.
    pub readers: usize,
    /// The jobs in each partition's queue, and in the queue of reads; further jobs are refused. One app may use as much of a
    /// queue as it leaves free, so at most half. Default: 32,768.
    pub queue: usize,
    /// The bytes of the jobs in the queues of all partitions together, in the same way. Default: 64 MB: a second of the
    /// longest messages on a slow disk.
    pub queue_bytes: usize,
    /// The time limit of one statement on PostgreSQL. Default: 10 s.
    pub statement_limit: Duration,
    /// The time limit of one job with all its statements. Default: 30 s.
    pub job_limit: Duration,
    /// How long to wait for another server to release the PostgreSQL database. Default: 5 s: a killed server releases it
    /// at once, and one that stops in a moment.
    pub owner_wait: Duration,
    /// How the server shares a PostgreSQL database with others. Default: not at all.
    pub node: Option<NodeConfig>,
    /// The schema. Default: the server's own.
    pub migrations: &'static [Migration],
}

impl DbConfig {
    /// Returns the default settings for `database`.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            partitions: 4,
            readers: 4,
            queue: 32_768,
            queue_bytes: 64 << 20,
            statement_limit: Duration::from_secs(10),
            job_limit: Duration::from_secs(30),
            owner_wait: Duration::from_secs(5),
            node: None,
            migrations: MIGRATIONS,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { statement: self.statement_limit, job: self.job_limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_file_or_a_server() {
        assert_eq!("sqlite://a/b.db".parse::<Database>().unwrap(), Database::Sqlite("a/b.db".into()));
        let server: Database = "postgres://zim:hunter2@db/zim".parse().unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
        for wrong in ["sqlite::memory:", "sqlite://:memory:", "sqlite://", "mysql://zim:hunter2@db"] {
            let message = wrong.parse::<Database>().unwrap_err().to_string();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
