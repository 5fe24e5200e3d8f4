//! The local database: one file per app and user, or memory. One thread owns the only connection that writes; readers have
//! connections of their own and never wait for it.
//!
//! Durability: WAL with `synchronous = NORMAL`. A power cut may undo the last transactions, never half of one; positions,
//! rows and events share transactions, so what was undone is pulled again.

pub(crate) mod block;
pub(crate) mod conversation;
mod file;
pub(crate) mod friend;
pub(crate) mod friend_application;
pub(crate) mod message;
pub(crate) mod page;
pub(crate) mod pending;
pub(crate) mod rule;
pub(crate) mod search;
pub(crate) mod status;
pub(crate) mod user;
mod writer;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tokio::sync::Semaphore;
use zim_protocol::ErrorCode;

use self::file::DatabaseFile;
use self::writer::Writer;
use crate::error::Error;

/// Readers at the same time; more would only share the disk.
const READERS: usize = 4;

/// The local database. See the module.
#[derive(Debug)]
pub(crate) struct Store {
    writer: Writer,
    readers: Option<Arc<Readers>>,
}

/// Connections that only read.
#[derive(Debug)]
struct Readers {
    file: std::path::PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Store {
    /// Opens `file`, or a database in memory, and brings it up to date.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = file else {
            // A database in memory belongs to its connection: everything goes through the writer.
            let connection = file::memory().map_err(|error| opening("in memory", error))?;
            return Ok(Self { writer: Writer::start(connection, None)?, readers: None });
        };
        let database = DatabaseFile::lock(path)?;
        let connection = file::open(path).map_err(|error| opening(&path.display().to_string(), error))?;
        let idle = Mutex::new(Vec::new());
        let readers = Readers { file: path.to_owned(), idle, permits: Semaphore::new(READERS) };
        Ok(Self { writer: Writer::start(connection, Some(database))?, readers: Some(Arc::new(readers)) })
    }

    /// Runs `job` in a transaction and commits it.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer
            .run(move |connection| {
                let transaction = connection.transaction()?;
                let value = job(&transaction)?;
                transaction.commit()?;
                Ok(value)
            })
            .await?
            .map_err(writing)
    }

    /// Like [`Store::write`], for what nobody waits for.
    pub(crate) fn write_later<F>(&self, job: F)
    where
        F: FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    {
        self.writer.run_later(move |connection| {
            if let Err(error) = job(connection) {
                tracing::warn!(%error, "the local database does not take a write");
            }
        });
    }

    /// Runs `job` on a snapshot.
    pub(crate) async fn read<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let Some(readers) = &self.readers else {
            return self.writer.run(move |connection| job(&*connection.transaction()?)).await?.map_err(reading);
        };
        // Acquiring fails only when the semaphore is closed: when the database is.
        let Ok(_permit) = readers.permits.acquire().await else { return Err(closed()) };
        let pool = Arc::clone(readers);
        let done = tokio::task::spawn_blocking(move || {
            let idle = pool.idle.lock().pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => file::open_reader(&pool.file)?,
            };
            let value = job(&*connection.transaction()?);
            if !pool.permits.is_closed() {
                pool.idle.lock().push(connection);
            }
            value
        });
        done.await.map_err(|_| closed())?.map_err(reading)
    }

    /// Runs `job` on the writer's thread and waits for it, blocking: for opening, before anybody else is there.
    pub(crate) fn write_now<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer
            .run_now(move |connection| {
                let transaction = connection.transaction()?;
                let value = job(&transaction)?;
                transaction.commit()?;
                Ok(value)
            })?
            .map_err(writing)
    }

    /// Closes the database; what was written before is done.
    pub(crate) async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.permits.close();
            readers.idle.lock().clear();
        }
        self.writer.close().await;
    }
}

fn opening(what: &str, error: rusqlite::Error) -> Error {
    Error::new(ErrorCode::DatabaseModuleOpenDatabaseError, format!("the local database ({what}) cannot be opened"))
        .with_source(error)
}

fn writing(error: rusqlite::Error) -> Error {
    Error::new(ErrorCode::DatabaseModuleModifyDatabaseError, "the local database does not take a write")
        .with_source(error)
}

fn reading(error: rusqlite::Error) -> Error {
    Error::new(ErrorCode::DatabaseModuleSeleteDatabaseError, "the local database cannot be read").with_source(error)
}

fn closed() -> Error {
    Error::new(ErrorCode::DatabaseModuleDbIsNotOpened, "the local database is closed")
}

/// A page of a list that is sorted by its places, the greatest first: `sql` takes the place behind which it begins and how
/// many rows, and then `more`. The place behind which the next page begins is in column `place`; 0 is the end.
fn paged<T>(
    db: &Connection,
    sql: &str,
    (next_flag, count): (i64, i64),
    more: &[&str],
    place: usize,
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<(Vec<T>, i64)> {
    let before = if next_flag > 0 { next_flag } else { i64::MAX };
    let mut statement = db.prepare_cached(sql)?;
    let numbers = [before, count.saturating_add(1)].map(Value::from);
    let texts = more.iter().map(|text| Value::from((*text).to_owned()));
    let mut rows = statement.query(params_from_iter(numbers.into_iter().chain(texts)))?;
    let (mut page, mut last) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if i64::try_from(page.len()).is_ok_and(|len| len == count) {
            return Ok((page, last));
        }
        page.push(read(row)?);
        last = row.get(place)?;
    }
    Ok((page, 0))
}

/// A position as SQLite stores it.
pub(crate) fn to_sql(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// A position as SQLite stored it.
pub(crate) fn from_sql(position: i64) -> u64 {
    u64::try_from(position).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_opener_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = Store::open(Some(&path)).unwrap();
        let error = Store::open(Some(&path)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatabaseModuleOpenDatabaseError);
        store.close().await;
        Store::open(Some(&path)).unwrap().close().await;
    }

    /// Names and modes of what is in a folder.
    #[cfg(unix)]
    fn modes(folder: &Path) -> Vec<(String, u32)> {
        use std::os::unix::fs::PermissionsExt;

        let entry = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().permissions().mode() & 0o777)
        };
        let mut modes: Vec<_> = std::fs::read_dir(folder).unwrap().map(entry).collect();
        modes.sort();
        modes
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_files_are_this_users_alone_also_those_of_an_older_version() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let [made, old] = ["made", "old"].map(|name| folder.path().join(name));
        let store = Store::open(Some(&made.join("a.db"))).unwrap();
        store.write(|db| db.execute("UPDATE device SET pos = 7", [])).await.unwrap();
        let private: Vec<_> =
            ["a.db", "a.db-shm", "a.db-wal", "a.lock"].map(|name| (name.to_owned(), 0o600)).into_iter().collect();
        assert_eq!(modes(&made), private);
        assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);

        // What a process leaves that was killed, as an older version made it.
        std::fs::create_dir(&old).unwrap();
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (name, _) in &private {
            std::fs::copy(made.join(name), old.join(name)).unwrap();
            std::fs::set_permissions(old.join(name), std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        let opened = Store::open(Some(&old.join("a.db"))).unwrap();
        assert_eq!(modes(&old), private);
        let pos: i64 = opened.read(|db| db.query_row("SELECT pos FROM device", [], |row| row.get(0))).await.unwrap();
        assert_eq!(pos, 7);
        // The app may keep other things in a folder that was there before.
        assert_eq!(std::fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o755);
        store.close().await;
        opened.close().await;
    }

    #[tokio::test]
    async fn a_failed_transaction_leaves_nothing() {
        let store = Store::open(None).unwrap();
        let failed = store
            .write(|db| {
                db.execute("UPDATE device SET pos = 7", [])?;
                db.execute("UPDATE no_such_table SET x = 1", [])
            })
            .await;
        assert_eq!(failed.unwrap_err().code(), ErrorCode::DatabaseModuleModifyDatabaseError);
        let pos: i64 = store.read(|db| db.query_row("SELECT pos FROM device", [], |row| row.get(0))).await.unwrap();
        assert_eq!(pos, 0);
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = Store::open(Some(&path)).unwrap();
        store.write(|db| db.execute("UPDATE device SET pos = 7", [])).await.unwrap();
        let read = |db: &Connection| db.query_row("SELECT pos FROM device", [], |row| row.get::<_, i64>(0));
        assert_eq!(store.read(read).await.unwrap(), 7);
        store.close().await;
        assert_eq!(store.read(read).await.unwrap_err().code(), ErrorCode::DatabaseModuleDbIsNotOpened);
        let store = Store::open(Some(&path)).unwrap();
        assert_eq!(store.read(read).await.unwrap(), 7);
    }
}
