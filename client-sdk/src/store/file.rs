//! The database file: permissions, lock, settings, migrations.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use zim_protocol::ErrorCode;

use super::search;
use crate::error::Error;

/// Forward only: a released migration never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/001_init.sql"),
    include_str!("migrations/002_status.sql"),
    include_str!("migrations/003_folding.sql"),
    include_str!("migrations/004_delivery.sql"),
    include_str!("migrations/005_local_data.sql"),
    include_str!("migrations/006_revoked.sql"),
    include_str!("migrations/007_known_message.sql"),
    include_str!("migrations/008_history.sql"),
    include_str!("migrations/009_group.sql"),
    include_str!("migrations/010_message_state.sql"),
    include_str!("migrations/011_conversation_setting.sql"),
    include_str!("migrations/012_message_search.sql"),
    include_str!("migrations/013_group_data.sql"),
    include_str!("migrations/015_call.sql"),
    include_str!("migrations/016_mention.sql"),
    include_str!("migrations/017_receipt_before_message.sql"),
    include_str!("migrations/018_member_list.sql"),
    include_str!("migrations/019_entrance.sql"),
    include_str!("migrations/020_data_gap.sql"),
];
/// The longest wait for a lock. Only a checkpoint causes one, and a short one.
const BUSY: Duration = Duration::from_secs(5);
const STATEMENTS: usize = 128;
/// How much a database needs to open: its tables, its shared memory, and a page of its log.
const LEAST_SPACE: usize = 1 << 20;
/// What the names of the files end with that say that a database is damaged, or an index for search in it.
pub(super) const IS_DAMAGED: &str = "is-damaged";
pub(super) const SEARCH_IS_DAMAGED: &str = "search-is-damaged";

/// The lock of a database. While it lives, no other process and no other instance opens the same file.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    _lock: File,
}

impl DatabaseFile {
    /// Takes the lock of the database at `path`, and restricts the files to this user.
    pub(super) fn lock(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            let message = format!("the local database ({}) cannot be opened: {error}", path.display());
            Error::new(ErrorCode::DatabaseModuleOpenDatabaseError, message).with_source(error)
        };
        if let Some(folder) = path.parent() {
            zim_files::create_folder(folder).map_err(failed)?;
        }
        let lock = private(&path.with_extension("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorCode::DatabaseModuleOpenDatabaseError,
                    format!(
                        "the local database ({}) is in use: only one client at a time can log in this user with this \
                         data folder",
                        path.display()
                    ),
                ));
            }
        }
        // SQLite creates the files beside the database with the mode of the database. Files of an older version are
        // restricted as well. This needs the lock: closing a file that SQLite has open in this process would release
        // SQLite's own locks.
        private(path).map_err(failed)?;
        for beside in ["db-wal", "db-shm", "db-journal"] {
            zim_files::close_to_others(&path.with_extension(beside));
        }
        Ok(Self { _lock: lock })
    }
}

/// Opens or creates a file that only this user can read.
fn private(path: &Path) -> io::Result<File> {
    zim_files::open(path, OpenOptions::new().create(true).truncate(false).write(true))
}

/// Opens the connection that writes.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    if path.with_extension(IS_DAMAGED).exists() {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some("an earlier login found damage".to_owned())));
    }
    let note = path.with_extension(SEARCH_IS_DAMAGED);
    let connection = open_file(path, note.exists()).map_err(|error| explained(path, error))?;
    // There is rarely one. If it stays, the next login builds the indexes once more.
    let _ = std::fs::remove_file(note);
    Ok(connection)
}

/// Returns whether an error of SQLite means that the file is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};

    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Returns whether an error of SQLite means that an index for search is damaged. Nothing is lost with it: it is built again.
pub(super) fn is_damage_of_search(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CORRUPT_VTAB)
}

/// Notes damage that a query has found, for the next time that the database is opened. Opening reads a small part of it, and
/// reading everything would take long.
pub(super) fn note_damage(path: &Path, error: &rusqlite::Error) {
    let note = if is_damage_of_search(error) { SEARCH_IS_DAMAGED } else { IS_DAMAGED };
    if is_damage(error)
        && let Err(failed) = private(&path.with_extension(note))
    {
        // The next query that finds the damage notes it.
        tracing::warn!(error = %failed, "it cannot be noted that the local database is damaged");
    }
}

/// Replaces an error of opening if its cause is that there is no space: SQLite only says that a call of the system failed.
fn explained(path: &Path, error: rusqlite::Error) -> rusqlite::Error {
    let is_io = error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure);
    match if is_io { zim_files::lack_of_space(path, LEAST_SPACE) } else { None } {
        Some(cause) => {
            let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            rusqlite::Error::SqliteFailure(full, Some(cause.to_string()))
        }
        None => error,
    }
}

fn open_file(path: &Path, is_search_damaged: bool) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::default())?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // The writer does it, on a thread that may wait for the disk.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    prepare(connection, is_search_damaged)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    settle(&connection)?;
    Ok(connection)
}

/// Opens a database in memory, which lives as long as its connection.
pub(crate) fn memory() -> rusqlite::Result<Connection> {
    prepare(Connection::open_in_memory()?, false)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, flags)
}

fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

fn prepare(mut connection: Connection, is_search_damaged: bool) -> rusqlite::Result<Connection> {
    settle(&connection)?;
    search::install(&connection)?;
    migrate(&mut connection)?;
    if is_search_damaged {
        // No folding has this number, so the indexes are built again.
        connection.execute("UPDATE device SET folding = -1", [])?;
    }
    search::rebuild(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        // A newer version of the SDK wrote it. Refusing it is better than misreading it.
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISMATCH);
        let message = format!("the database has version {version}, which is newer than this SDK; update the SDK");
        return Err(rusqlite::Error::SqliteFailure(code, Some(message)));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_system_refuses_is_reported_with_the_cause() {
        let folder = tempfile::tempdir().unwrap();
        for taken in ["a.lock", "b.db"] {
            std::fs::create_dir(folder.path().join(taken)).unwrap();
            let path = folder.path().join(taken).with_extension("db");
            let error = DatabaseFile::lock(&path).unwrap_err();
            assert_eq!(error.code(), ErrorCode::DatabaseModuleOpenDatabaseError);
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(error.message().contains("cannot be opened: ") && error.message().ends_with(&cause), "{error}");
        }
    }

    #[test]
    fn migrations_run_once() {
        let mut connection = memory().unwrap();
        migrate(&mut connection).unwrap();
        let rows: i64 = connection.query_row("SELECT COUNT(*) FROM device", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }

    #[test]
    fn a_damaged_index_for_search_is_built_again_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let opened = || {
            let db = open(&path).unwrap();
            let sql = "SELECT pos, (SELECT COUNT(*) FROM friend_search WHERE friend_search MATCH 'lost') FROM device";
            let found: (i64, i64) = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            (db, found)
        };
        let damage = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let (db, _) = opened();
        db.execute("UPDATE device SET pos = 7", []).unwrap();
        let index = "INSERT INTO friend_search (rowid, user_name, alias) VALUES (1, 'lost', '')";
        db.execute(index, []).unwrap();
        drop(db);
        assert_eq!(opened().1, (7, 1));
        note_damage(&path, &damage(rusqlite::ffi::SQLITE_CORRUPT_VTAB));
        let (db, found) = opened();
        assert_eq!(found, (7, 0));
        db.execute(index, []).unwrap();
        drop(db);
        assert_eq!(opened().1, (7, 1), "it is built once");
        note_damage(&path, &damage(rusqlite::ffi::SQLITE_CORRUPT));
        assert!(is_damage(&open(&path).unwrap_err()));
    }

    #[test]
    fn a_newer_database_is_refused() {
        let mut connection = memory().unwrap();
        connection.pragma_update(None, "user_version", MIGRATIONS.len() as i64 + 1).unwrap();
        assert!(migrate(&mut connection).is_err());
    }
}
