//! Where a database is, and how it is used.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::backend::Limits;
use super::error::DbError;
use super::migrate::{MIGRATIONS, Migration};

/// Where a database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file, with its log beside it.
    Sqlite(PathBuf),
    /// A server's address, password included.
    Postgres(String),
}

impl FromStr for Database {
    type Err = DbError;

    /// From `sqlite://path` or `postgres://user:password@host/name`.
    fn from_str(url: &str) -> Result<Self, DbError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite://") {
            // What is acknowledged is on disk: memory is none.
            Some(path) if path.is_empty() || path.contains(":memory:") => {
                Err(DbError::other("a database in memory is no store: name a file, sqlite://path"))
            }
            Some(path) => Ok(Self::Sqlite(path.into())),
            None if url.starts_with("sqlite::memory:") => {
                Err(DbError::other("a database in memory is no store: name a file, sqlite://path"))
            }
            // The address itself may hold a password.
            None => Err(DbError::other("a database is sqlite://path or postgres://user:password@host/name")),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            // The password stays out of logs.
            Self::Postgres(_) => f.debug_tuple("Postgres").finish_non_exhaustive(),
        }
    }
}

/// How a database is used. Build it from [`DbConfig::new`], and change what should differ.
#[derive(Clone, Debug)]
pub struct DbConfig {
    /// Where it is.
    pub database: Database,
    /// Writing connections to PostgreSQL; SQLite has one. Default: 4. More of them commit more at once, and share less.
    pub partitions: usize,
    /// Reading connections, a thread each. Default: 4.
    pub readers: usize,
    /// Jobs that may wait in each partition, and reads in all; one more is refused. Default: 16,384.
    pub queue: usize,
    /// What one statement may take on PostgreSQL. Default: 10 s.
    pub statement_limit: Duration,
    /// What one job may take with all its statements. Default: 30 s.
    pub job_limit: Duration,
    /// The schema. Default: the server's own.
    pub migrations: &'static [Migration],
}

impl DbConfig {
    /// The defaults, which suit a server of its own.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            partitions: 4,
            readers: 4,
            queue: 16_384,
            statement_limit: Duration::from_secs(10),
            job_limit: Duration::from_secs(30),
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
