//! The local database: one file per app and user, or memory. One connection writes; readers have their own connections
//! and never wait for it.
//!
//! Durability: WAL with `synchronous = NORMAL`. A power cut may undo the last transactions, but never half of one.
//! Positions, rows and events share transactions, so what was undone is pulled again.

pub(crate) mod block;
pub(crate) mod call;
pub(crate) mod conversation;
pub(crate) mod conversation_setting;
pub(crate) mod done_receipt;
mod file;
pub(crate) mod friend;
pub(crate) mod friend_application;
pub(crate) mod group;
pub(crate) mod group_application;
pub(crate) mod member_list;
pub(crate) mod message;
pub(crate) mod message_change;
pub(crate) mod message_search;
pub(crate) mod message_transfer;
pub(crate) mod outgoing;
pub(crate) mod page;
pub(crate) mod pending;
pub(crate) mod rule;
pub(crate) mod search;
pub(crate) mod status;
pub(crate) mod timeline;
pub(crate) mod user;
mod writer;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode as RusqliteCode, params_from_iter};
use tokio::sync::Semaphore;
use zim_protocol::ErrorCode;

use self::file::DatabaseFile;
#[cfg(test)]
pub(crate) use self::file::memory;
pub(crate) use self::writer::Length;
use self::writer::Writer;
use crate::error::Error;

/// The most readers at a time; more would only compete for the disk.
const READERS: usize = 4;
/// What the names of the files beside a database end with.
pub(crate) const BESIDE: [&str; 4] = ["db-wal", "db-shm", file::IS_DAMAGED, file::SEARCH_IS_DAMAGED];

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
    /// Opens `file`, or a database in memory, and migrates it.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = file else {
            // A database in memory belongs to its connection, so reads go through the writer too.
            let connection = file::memory().map_err(|error| opening("in memory", error))?;
            return Ok(Self { writer: Writer::new(connection, None), readers: None });
        };
        let database = DatabaseFile::lock(path)?;
        let connection = file::open(path).map_err(|error| opening(&path.display().to_string(), error))?;
        let idle = Mutex::new(Vec::new());
        let readers = Readers { file: path.to_owned(), idle, permits: Semaphore::new(READERS) };
        Ok(Self { writer: Writer::new(connection, Some(database)), readers: Some(Arc::new(readers)) })
    }

    /// Runs `job` in a transaction and commits it.
    pub(crate) async fn write<T, F>(&self, length: Length, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let done = self.writer.run(length, move |connection| in_transaction(connection, job)).await?;
        done.map_err(|error| writing(self.noted(error)))
    }

    /// Like [`Store::write`], for a write whose result no caller waits for.
    pub(crate) fn write_later<F>(&self, job: F)
    where
        F: FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    {
        let readers = self.readers.clone();
        self.writer.run_later(move |connection| {
            if let Err(error) = job(connection) {
                tracing::warn!(%error, "a write to the local database failed");
                if let Some(readers) = readers {
                    file::note_damage(&readers.file, &error);
                }
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
            let read = move |connection: &mut Connection| job(&*connection.transaction()?);
            return self.writer.run(Length::Long, read).await?.map_err(reading);
        };
        // Fails only when the semaphore is closed, that is, when the database is closed.
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
        done.await.map_err(|_| closed())?.map_err(|error| reading(self.noted(error)))
    }

    /// Like [`Store::write`], but blocks until it is done: for opening, before the database is shared.
    pub(crate) fn write_now<T>(&self, job: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let done = self.writer.run_now(move |connection| in_transaction(connection, job))?;
        done.map_err(|error| writing(self.noted(error)))
    }

    /// Notes damage that an error shows. Returns the error.
    fn noted(&self, error: rusqlite::Error) -> rusqlite::Error {
        if let Some(readers) = &self.readers {
            file::note_damage(&readers.file, &error);
        }
        error
    }

    /// Waits until a write panics: the database is closed then. Never returns if none does.
    pub(crate) async fn panicked(&self) -> Error {
        self.writer.panicked().await;
        Error::new(
            ErrorCode::DatabaseModuleDbIsNotOpened,
            "the local database was closed because a write to it panicked, which is a bug of the SDK; log in again",
        )
    }

    /// Closes the database and blocks until that is done: for opening, before the database is shared.
    pub(crate) fn close_now(self) {
        self.writer.close_now();
    }

    /// Closes the database after the writes before it.
    pub(crate) async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.permits.close();
            readers.idle.lock().clear();
        }
        self.writer.close().await;
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    job: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let connection = &*connection;
    // `Connection::transaction` parses both statements each time. After a panic in the job the connection is closed.
    connection.prepare_cached("BEGIN")?.execute([])?;
    let done = job(connection).and_then(|value| connection.prepare_cached("COMMIT")?.execute([]).map(|_| value));
    // After some errors SQLite has undone it already.
    if done.is_err() && !connection.is_autocommit() {
        // If this fails, the next transaction does. The first error says why.
        let _ = connection.execute_batch("ROLLBACK");
    }
    done
}

fn opening(what: &str, error: rusqlite::Error) -> Error {
    let message = format!("the local database ({what}) cannot be opened: {}", cause(&error));
    Error::new(ErrorCode::DatabaseModuleOpenDatabaseError, message).with_source(error)
}

fn writing(error: rusqlite::Error) -> Error {
    let message = format!("the local database cannot be written: {}", cause(&error));
    Error::new(ErrorCode::DatabaseModuleModifyDatabaseError, message).with_source(error)
}

fn reading(error: rusqlite::Error) -> Error {
    let message = format!("the local database cannot be read: {}", cause(&error));
    Error::new(ErrorCode::DatabaseModuleSeleteDatabaseError, message).with_source(error)
}

/// Says what is wrong, and what to do about it.
fn cause(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(RusqliteCode::ReadOnly) => "it is read-only; let this user write the data folder and its files".to_owned(),
        Some(RusqliteCode::DiskFull) => "the disk is full; free some space".to_owned(),
        Some(RusqliteCode::CannotOpen | RusqliteCode::PermissionDenied) => {
            "this user may not open it; check the permissions of the data folder and its files".to_owned()
        }
        Some(_) if file::is_damage_of_search(error) => {
            "an index for search is damaged; the next login builds it again".to_owned()
        }
        Some(RusqliteCode::DatabaseCorrupt | RusqliteCode::NotADatabase) => {
            "it is damaged; the next login replaces it".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Returns whether an error of the store means that its file is damaged.
pub(crate) fn is_damaged(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<rusqlite::Error>());
    source.is_some_and(file::is_damage)
}

/// Sets a damaged database aside, for whoever wants to look at it; returns the new name. It must be closed.
pub(crate) fn set_aside(path: &Path) -> std::io::Result<std::path::PathBuf> {
    let named =
        |number: u32| path.with_extension(if number == 1 { "damaged".into() } else { format!("damaged-{number}") });
    let log_of = |aside: &Path| {
        let mut log = aside.as_os_str().to_owned();
        log.push("-wal");
        std::path::PathBuf::from(log)
    };
    // An earlier one may hold what nobody has looked at yet.
    let is_free = |aside: &std::path::PathBuf| !aside.exists() && !log_of(aside).exists();
    let aside = (1..).map(named).find(is_free).unwrap_or_else(|| named(1));
    let unless_missing = |done: std::io::Result<()>| match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    std::fs::rename(path, &aside)?;
    // If the process was killed, the last rows are only in the log. SQLite finds it by this name.
    unless_missing(std::fs::rename(path.with_extension("db-wal"), log_of(&aside)))?;
    for beside in BESIDE {
        unless_missing(std::fs::remove_file(path.with_extension(beside)))?;
    }
    Ok(aside)
}

fn closed() -> Error {
    Error::new(ErrorCode::DatabaseModuleDbIsNotOpened, "the local database is closed")
}

/// Reads a page of a list that is sorted by its places, greatest first. The parameters of `sql` are the place where the
/// page begins (exclusive), the number of rows, and then `more`. Returns the page and the cursor of the next one, from
/// column `place`; 0 is the end.
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

/// Converts a position to an SQLite integer.
pub(crate) fn to_sql(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// Converts an SQLite integer to a position.
pub(crate) fn from_sql(position: i64) -> u64 {
    u64::try_from(position).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_is_open_cannot_be_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = Store::open(Some(&path)).unwrap();
        let error = Store::open(Some(&path)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatabaseModuleOpenDatabaseError);
        store.close().await;
        Store::open(Some(&path)).unwrap().close().await;
    }

    /// The names and modes of the files in a folder.
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
    async fn other_users_cannot_read_the_files_even_of_an_older_version() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let [made, old] = ["made", "old"].map(|name| folder.path().join(name));
        let store = Store::open(Some(&made.join("a.db"))).unwrap();
        store.write(Length::Short, |db| db.execute("UPDATE device SET pos = 7", [])).await.unwrap();
        let private: Vec<_> =
            ["a.db", "a.db-shm", "a.db-wal", "a.lock"].map(|name| (name.to_owned(), 0o600)).into_iter().collect();
        assert_eq!(modes(&made), private);
        assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);

        // The files of a killed process, with the modes of an older version.
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
        // An existing folder keeps its mode, because the app may have other things in it.
        assert_eq!(std::fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o755);
        store.close().await;
        opened.close().await;
    }

    #[tokio::test]
    async fn a_failed_transaction_leaves_nothing() {
        let store = Store::open(None).unwrap();
        let failed = store
            .write(Length::Short, |db| {
                db.execute("UPDATE device SET pos = 7", [])?;
                db.execute("UPDATE no_such_table SET x = 1", [])
            })
            .await;
        assert_eq!(failed.unwrap_err().code(), ErrorCode::DatabaseModuleModifyDatabaseError);
        let pos: i64 = store.read(|db| db.query_row("SELECT pos FROM device", [], |row| row.get(0))).await.unwrap();
        assert_eq!(pos, 0);
    }

    #[tokio::test]
    async fn committed_writes_survive_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = Store::open(Some(&path)).unwrap();
        store.write(Length::Short, |db| db.execute("UPDATE device SET pos = 7", [])).await.unwrap();
        let read = |db: &Connection| db.query_row("SELECT pos FROM device", [], |row| row.get::<_, i64>(0));
        assert_eq!(store.read(read).await.unwrap(), 7);
        store.close().await;
        assert_eq!(store.read(read).await.unwrap_err().code(), ErrorCode::DatabaseModuleDbIsNotOpened);
        let store = Store::open(Some(&path)).unwrap();
        assert_eq!(store.read(read).await.unwrap(), 7);
    }

    /// A process that was killed has left its last rows in the log.
    #[tokio::test]
    async fn a_damaged_database_is_set_aside_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let [open, killed] = ["open.db", "killed.db"].map(|name| folder.path().join(name));
        let store = Store::open(Some(&open)).unwrap();
        store.write(Length::Short, |db| db.execute("UPDATE device SET pos = 7", [])).await.unwrap();
        for kind in ["db", "db-wal"] {
            std::fs::copy(open.with_extension(kind), killed.with_extension(kind)).unwrap();
        }
        store.close().await;
        let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        file::note_damage(&killed, &rusqlite::Error::SqliteFailure(damage, None));
        assert!(is_damaged(&Store::open(Some(&killed)).unwrap_err()));
        let aside = set_aside(&killed).unwrap();
        for (path, expected) in [(&killed, 0), (&aside, 7)] {
            let store = Store::open(Some(path)).unwrap();
            let pos = store.read(|db| db.query_row("SELECT pos FROM device", [], |row| row.get::<_, i64>(0)));
            assert_eq!(pos.await.unwrap(), expected, "{}", path.display());
            store.close().await;
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&folder.path().join("a.db"))).unwrap();
        let full = store.write(Length::Short, |db| {
            let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
            db.pragma_update(None, "max_page_count", pages)?;
            db.execute("INSERT INTO rule (id, rule) VALUES (1, zeroblob(100000))", [])
        });
        let error = full.await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatabaseModuleModifyDatabaseError);
        assert!(error.message().contains("the disk is full"), "{error}");
        store.close().await;
    }

    #[tokio::test]
    async fn a_read_only_database_is_named() {
        let store = Store::open(None).unwrap();
        let refused = store.write(Length::Short, |db| {
            db.pragma_update(None, "query_only", true)?;
            db.execute("UPDATE device SET pos = 7", [])
        });
        let error = refused.await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatabaseModuleModifyDatabaseError);
        assert!(error.message().contains("read-only"), "{error}");
    }

    #[expect(clippy::disallowed_methods, reason = "the database of another version")]
    #[tokio::test]
    async fn a_newer_database_is_named_and_not_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Store::open(Some(&path)).unwrap().close().await;
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 1_000).unwrap();
        let error = Store::open(Some(&path)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatabaseModuleOpenDatabaseError);
        assert!(error.message().contains("newer than this SDK"), "{error}");
        assert!(!is_damaged(&error));
    }
}
