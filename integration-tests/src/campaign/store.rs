//! The server's database from outside: what is in it, a copy of it, and its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use zim_protocol::Message;

use super::plan::Database;
use crate::postgres::Cluster;

/// A PostgreSQL for the runs of one worker, one after the other; it may be killed.
pub type SharedCluster = Arc<Mutex<Cluster>>;

/// The database of one run.
#[derive(Debug)]
pub(super) enum Store {
    /// A file.
    Sqlite {
        /// The file.
        file: PathBuf,
    },
    /// A database of a server.
    Postgres {
        /// The server.
        cluster: SharedCluster,
        /// The database's address.
        url: String,
        /// Its name.
        name: String,
        /// The server does not run.
        is_down: bool,
    },
}

/// A stored message.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its place.
    pub seq: i64,
    /// Counted messages up to it.
    pub n: i64,
    /// Its time.
    pub ts: i64,
    /// Who sent it.
    pub sender: String,
    /// Its key.
    pub key: String,
    /// What it says.
    pub text: String,
}

/// A conversation as the server has it.
#[derive(Clone, Debug, Default)]
pub struct StoredConversation {
    /// The end of its log.
    pub head: i64,
    /// What lies at or below is no longer kept.
    pub floor: i64,
    /// Who is in it, and how far he has read.
    pub members: Vec<(String, i64)>,
    /// In order.
    pub messages: Vec<StoredMessage>,
}

impl Store {
    /// A database that is not there yet.
    ///
    /// # Errors
    /// PostgreSQL does not make it.
    pub(super) fn new(
        database: Database,
        folder: &Path,
        name: &str,
        cluster: Option<&SharedCluster>,
    ) -> anyhow::Result<Self> {
        match database {
            Database::Sqlite => {
                // The server takes no database in a folder that others can write to, whatever the umask.
                zim_files::own_folder(folder)?;
                Ok(Self::Sqlite { file: folder.join("zim.db") })
            }
            Database::Postgres => {
                let cluster = Arc::clone(cluster.context("no PostgreSQL")?);
                let url = cluster.lock().create_database(name)?;
                Ok(Self::Postgres { cluster, url, name: name.to_owned(), is_down: false })
            }
        }
    }

    /// Its address, as the server takes it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Sqlite { file } => format!("sqlite://{}", file.display()),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    /// Whether a server could use it now.
    pub(super) fn is_up(&self) -> bool {
        !matches!(self, Self::Postgres { is_down: true, .. })
    }

    /// How long SQLite's log beside the file is.
    pub(super) fn log_bytes(&self) -> u64 {
        match self {
            Self::Sqlite { file } => std::fs::metadata(file.with_extension("db-wal")).map_or(0, |log| log.len()),
            Self::Postgres { .. } => 0,
        }
    }

    /// SIGKILL to PostgreSQL.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let Self::Postgres { cluster, is_down, .. } = self else { return Ok(()) };
        *is_down = true;
        cluster.lock().kill()
    }

    /// Starts PostgreSQL again, if it does not run.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Postgres { cluster, is_down, .. } if *is_down => {
                *is_down = false;
                cluster.lock().restart()
            }
            _ => Ok(()),
        }
    }

    /// Copies it, as an operator does; on PostgreSQL no server may be using it.
    ///
    /// # Errors
    /// It cannot be copied.
    pub(super) fn back_up(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite { file } => {
                let copy = file.with_extension("backup");
                let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                db.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
                Ok(())
            }
            Self::Postgres { cluster, name, .. } => cluster.lock().copy_database(name, &format!("{name}_backup")),
        }
    }

    /// Puts the copy in its place; no server may be using it.
    ///
    /// # Errors
    /// There is no copy.
    pub(super) fn restore(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite { file } => {
                std::fs::copy(file.with_extension("backup"), file)?;
                for beside in ["db-wal", "db-shm"] {
                    // The last to close it removed them.
                    let _ = std::fs::remove_file(file.with_extension(beside));
                }
                Ok(())
            }
            Self::Postgres { cluster, name, .. } => cluster.lock().copy_database(&format!("{name}_backup"), name),
        }
    }

    /// The rows of a query, as text.
    ///
    /// # Errors
    /// The query fails.
    pub(super) fn rows(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        match self {
            Self::Sqlite { file } => {
                let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                let mut statement = db.prepare(sql)?;
                let columns = statement.column_count();
                let rows = statement.query_map([], |row| (0..columns).map(|at| row.get(at)).collect())?;
                Ok(rows.collect::<Result<_, _>>()?)
            }
            Self::Postgres { cluster, url, .. } => {
                let text = cluster.lock().sql_in(url, sql)?;
                Ok(text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
            }
        }
    }

    /// Every conversation, by the names of its two members.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn conversations(&self) -> anyhow::Result<Vec<StoredConversation>> {
        let hex = match self {
            Self::Sqlite { .. } => "hex(m.body)",
            Self::Postgres { .. } => "encode(m.body, 'hex')",
        };
        let number = |text: &str| text.parse::<i64>().with_context(|| format!("{text:?} is no number"));
        let text = |column: &str| format!("CAST({column} AS TEXT)");
        let select = |columns: &[&str], rest: &str| {
            format!("SELECT {} {rest}", columns.iter().map(|column| text(column)).collect::<Vec<_>>().join(", "))
        };
        let mut all = Vec::new();
        for row in self.rows(&select(&["id", "seq", "floor_seq"], "FROM conversation ORDER BY id"))? {
            let id = &row[0];
            let members = self.rows(&select(
                &["a.name", "m.read_seq"],
                &format!(
                    "FROM member m JOIN account a ON a.id = m.account WHERE m.conversation = {id} ORDER BY a.name"
                ),
            ))?;
            let messages = self.rows(&select(
                &["m.seq", "m.n", "m.ts", "a.name", "m.key_hi", "m.key_lo", hex],
                &format!("FROM message m JOIN account a ON a.id = m.sender WHERE m.conversation = {id} ORDER BY m.seq"),
            ))?;
            let messages = messages.into_iter().map(|row| {
                Ok(StoredMessage {
                    seq: number(&row[0])?,
                    n: number(&row[1])?,
                    ts: number(&row[2])?,
                    sender: row[3].clone(),
                    key: format!("{}:{}", row[4], row[5]),
                    text: said(&row[6])?,
                })
            });
            all.push(StoredConversation {
                head: number(&row[1])?,
                floor: number(&row[2])?,
                members: members
                    .iter()
                    .map(|row| Ok((row[0].clone(), number(&row[1])?)))
                    .collect::<anyhow::Result<_>>()?,
                messages: messages.collect::<anyhow::Result<_>>()?,
            });
        }
        Ok(all)
    }
}

/// The text of a stored body in hex.
fn said(hex: &str) -> anyhow::Result<String> {
    let bytes: Vec<u8> =
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16)).collect::<Result<_, _>>()?;
    let message: Message = prost::Message::decode(&bytes[..])?;
    Ok(message.as_text().unwrap_or_default().to_owned())
}
