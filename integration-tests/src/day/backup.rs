//! A backup of the database of the running server, as an operator makes one, and what is in it.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use rusqlite::{Connection, OpenFlags};

/// The longest wait for a lock of the server.
const LOCKED: Duration = Duration::from_secs(30);
/// What every message of the day begins with, before its number.
const MARK: &[u8] = b"day ";

/// Copies the database in a data folder while the server writes to it. Returns the numbers of the messages in the copy.
pub(super) fn copy(data: &Path, to: &Path) -> anyhow::Result<HashSet<u32>> {
    let database = Connection::open_with_flags(data.join("zim.db"), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.busy_timeout(LOCKED)?;
    database.execute("VACUUM INTO ?1", [to.to_str().context("the path of the backup is not UTF-8")?])?;
    drop(database);
    let copy = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(check == "ok", "the backup is not whole: {check}");
    let mut statement = copy.prepare("SELECT body FROM message")?;
    let mut rows = statement.query([])?;
    let mut numbers = HashSet::new();
    while let Some(row) = rows.next()? {
        let body: Vec<u8> = row.get(0)?;
        numbers.extend(number_in(&body));
    }
    Ok(numbers)
}

/// Returns the number of a message, from its stored bytes.
fn number_in(body: &[u8]) -> Option<u32> {
    let number = |at: usize| {
        let digits = body.get(at + MARK.len()..)?;
        let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
        std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
    };
    let mut places = (0..body.len()).filter(|at| body[*at..].starts_with(MARK));
    places.find_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_message_says_its_number() {
        assert_eq!(number_in(b"\x0a\x07day 17: hello"), Some(17));
        assert_eq!(number_in(b"a day or day 9.bin"), Some(9));
        assert_eq!(number_in(b"day 12"), Some(12));
        assert_eq!(number_in(b"a day off"), None);
        assert_eq!(number_in(b""), None);
    }

    #[test]
    fn a_copy_has_what_was_committed() {
        let folder = tempfile::tempdir().unwrap();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let database = Connection::open_with_flags(folder.path().join("zim.db"), flags).unwrap();
        database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE message (body BLOB NOT NULL)").unwrap();
        for text in ["day 1: a", "b", "day 3.bin"] {
            database.execute("INSERT INTO message VALUES (?1)", [text.as_bytes()]).unwrap();
        }
        let found = copy(folder.path(), &folder.path().join("copy.db")).unwrap();
        assert_eq!(found, HashSet::from([1, 3]));
    }
}
