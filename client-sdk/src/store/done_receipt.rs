//! Receipts that arrive before their messages. The logs have no order among each other: the feed may tell that a message is read
//! before this device has a row for it, or knows the position of one that it sends. The position is kept until then.

use rusqlite::{Connection, params};

use super::to_sql;

/// The most positions. Answers of the server have the receipts of their messages, so only the last ones matter.
const MOST: i64 = 10_000;

/// Notes that the message at a position is read.
pub(crate) fn note(db: &Connection, conversation: i64, seq: u64) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO done_receipt (conversation, seq) VALUES (?1, ?2)";
    if db.prepare_cached(sql)?.execute(params![conversation, to_sql(seq)])? > 0 {
        let earliest = db.last_insert_rowid() - MOST;
        db.prepare_cached("DELETE FROM done_receipt WHERE id <= ?1")?.execute([earliest])?;
    }
    Ok(())
}

/// Returns whether the message at a position is read, as far as this device has heard. `is_own`: the user sent it.
pub(crate) fn is_done(db: &Connection, conversation: i64, seq: u64, is_own: bool) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM done_receipt WHERE conversation = ?1 AND seq = ?2) OR EXISTS (SELECT 1 \
         FROM conversation WHERE id = ?1 AND CASE WHEN ?3 THEN peer_receipt_seq ELSE own_receipt_seq END >= ?2)",
    )?
    .query_row(params![conversation, to_sql(seq), is_own], |row| row.get(0))
}

/// Forgets all positions, because they begin anew.
pub(crate) fn forget(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM done_receipt", [])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    #[test]
    fn the_last_positions_are_kept() {
        let db = memory().unwrap();
        let most = u64::try_from(MOST).unwrap();
        for seq in 1..=most + 5 {
            note(&db, 1, seq).unwrap();
        }
        // What is known takes no place.
        note(&db, 1, most).unwrap();
        let kept: i64 = db.query_row("SELECT COUNT(*) FROM done_receipt", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, MOST);
        assert_eq!((5..=6).map(|seq| is_done(&db, 1, seq, true).unwrap()).collect::<Vec<_>>(), [false, true]);
        assert!(is_done(&db, 1, most + 5, true).unwrap() && !is_done(&db, 2, 6, true).unwrap());
        forget(&db).unwrap();
        assert!(!is_done(&db, 1, 6, true).unwrap());
    }
}
