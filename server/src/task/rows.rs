//! Rows of both tables: what is due, what has failed, and what the operator does about it.

use super::outbox::Delivery;
use crate::db::{Dialect, Row, Tx, Value, params};
use crate::effect::{Effect, Queue};
use crate::error::Error;

/// After so many failures an entry is dead.
pub const MAX_ATTEMPTS: i64 = 10;

/// The time of what is dead.
pub(super) const NEVER: i64 = i64::MAX;

/// The wait after the first failure; each later one is four times as long as the one before.
const FIRST_BACK_OFF_MS: i64 = 1_000;
const MAX_BACK_OFF_MS: i64 = 3_600_000;

/// Bytes of an error that are stored.
const MAX_ERROR_BYTES: usize = 500;

/// A task, or an entry of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number of its kind.
    pub kind: i64,
    /// The subject of a task; the id of an entry of the outbox.
    pub key: i64,
    /// When it runs next, Unix milliseconds. The present time or earlier: it is due.
    pub next_at: i64,
    /// How often it has failed.
    pub attempts: i64,
    /// Why it has failed the last time.
    pub last_error: String,
    /// What an entry of the outbox is delivered to, as `lane` says; 0 for all others.
    pub lane: i64,
    /// The generation and the time of a task; the cause and the cursor of an entry of the outbox.
    own: (i64, i64),
}

impl Entry {
    /// Whether it has failed too often and waits for the operator.
    pub fn is_dead(&self) -> bool {
        self.next_at == NEVER
    }

    /// Returns what an entry of the outbox is about.
    pub fn cause(&self) -> i64 {
        self.own.0
    }

    pub(super) fn generation(&self) -> i64 {
        self.own.0
    }

    /// When it may run at the earliest, whatever has failed: a task not before the time for which it was scheduled.
    fn earliest(&self, queue: Queue) -> i64 {
        match queue {
            Queue::Tasks => self.own.1,
            Queue::Outbox => i64::MIN,
        }
    }

    pub(super) fn delivery(&self) -> Delivery {
        Delivery { id: self.key, cause: self.own.0, cursor: self.own.1 }
    }

    #[cfg(test)]
    pub(super) fn sample(key: i64, lane: i64) -> Self {
        Self { kind: 1, key, next_at: 0, attempts: 0, last_error: String::new(), own: (0, 0), lane }
    }
}

/// The table, the column that tells entries of one kind apart, and the columns of `Entry::own`.
fn names(queue: Queue) -> (&'static str, &'static str, &'static str) {
    match queue {
        Queue::Tasks => ("scheduled_task", "subject", "generation, at, 0"),
        Queue::Outbox => ("outbox", "id", "cause, cursor, lane"),
    }
}

/// The expression for this time, but for a task not before the time for which it was scheduled.
fn not_before(queue: Queue, time: &str) -> String {
    match queue {
        Queue::Tasks => format!("CASE WHEN at > {time} THEN at ELSE {time} END"),
        Queue::Outbox => time.to_owned(),
    }
}

fn entry(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        kind: row.get(0)?,
        key: row.get(1)?,
        next_at: row.get(2)?,
        attempts: row.get(3)?,
        last_error: row.get(4)?,
        own: (row.get(5)?, row.get(6)?),
        lane: row.get(7)?,
    })
}

/// Returns up to `limit` entries of these kinds that are due, by the time at which they run, and the next one that is not. Each look
/// reads them, so it does not read what only a later one needs.
pub(super) async fn next(
    tx: &mut Tx<'_>,
    queue: Queue,
    kinds: &[i64],
    now: i64,
    limit: usize,
) -> Result<Vec<Entry>, Error> {
    let (sql, values) = next_sql(queue, tx.dialect(), (kinds, now, limit));
    let mut entries = tx.fetch(&sql, &values).await?.iter().map(entry).collect::<Result<Vec<Entry>, Error>>()?;
    entries.sort_by_key(|entry| entry.next_at);
    Ok(entries)
}

fn next_sql(queue: Queue, dialect: Dialect, (kinds, now, limit): (&[i64], i64, usize)) -> (String, Vec<Value>) {
    let (table, key, own) = names(queue);
    let (list, mut values) = dialect.in_list(kinds.iter().copied(), 4);
    values.splice(0..0, params![now, i64::try_from(limit).unwrap_or(i64::MAX), NEVER]);
    // All tasks are of these kinds, and the plus sign lets both databases read them by time: by kind, each look would sort them all. The
    // outbox has entries of other kinds, of which many may wait.
    let kind = if queue == Queue::Tasks { "+kind" } else { "kind" };
    let part = |times: &str, limit: &str| {
        format!(
            "SELECT kind, {key}, next_at, attempts, last_error, {own} FROM {table} \
             WHERE {times} AND {kind} IN {list} ORDER BY next_at LIMIT {limit}"
        )
    };
    let (due, later) = (part("next_at <= $1", "$2"), part("next_at > $1 AND next_at < $3", "1"));
    (format!("SELECT * FROM ({due}) AS due UNION ALL SELECT * FROM ({later}) AS later"), values)
}

/// Returns up to `limit` entries of a lane of the outbox, by the time at which they run.
pub(super) async fn next_in(tx: &mut Tx<'_>, kind: i64, lane: i64, limit: usize) -> Result<Vec<Entry>, Error> {
    let (table, key, own) = names(Queue::Outbox);
    let sql = format!(
        "SELECT kind, {key}, next_at, attempts, last_error, {own} FROM {table} \
         WHERE kind = $1 AND lane = $2 AND next_at < $3 ORDER BY next_at LIMIT $4"
    );
    let values = params![kind, lane, NEVER, i64::try_from(limit).unwrap_or(i64::MAX)];
    tx.fetch(&sql, &values).await?.iter().map(entry).collect()
}

/// Notes that an entry has failed at `now`. Returns how often by now, or `None` if it was replaced or cancelled. `may_die` is
/// false for a failure of the store, which is no fault of the entry.
pub(super) async fn failed(
    tx: &mut Tx<'_>,
    (queue, failed): (Queue, &Entry),
    error: &str,
    now: i64,
    may_die: bool,
) -> Result<Option<i64>, Error> {
    let (table, key, _) = names(queue);
    let attempts = failed.attempts + i64::from(may_die || failed.attempts + 1 < MAX_ATTEMPTS);
    // The clock may have been set back since the entry was due: the end of a back-off is no time at which a task is due.
    let again = now.saturating_add(back_off_ms(attempts)).max(failed.earliest(queue));
    let next_at = if attempts < MAX_ATTEMPTS { again } else { NEVER };
    let error = &error[..error.floor_char_boundary(MAX_ERROR_BYTES)];
    let unchanged = match queue {
        Queue::Tasks => "AND generation = $6",
        // Pages may have been delivered since it was read.
        Queue::Outbox => "AND cause = $6",
    };
    let sql = format!(
        "UPDATE {table} SET attempts = $3, next_at = $4, last_error = $5 WHERE kind = $1 AND {key} = $2 {unchanged}"
    );
    let noted = tx.execute(&sql, &params![failed.kind, failed.key, attempts, next_at, error, failed.own.0]).await?;
    tx.emit(Effect::Due { queue, at: next_at });
    Ok((noted > 0).then_some(attempts))
}

/// The wait after this many failures.
pub(super) fn back_off_ms(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.saturating_sub(1).clamp(0, 20) * 2).unwrap_or(0);
    (FIRST_BACK_OFF_MS << doublings).min(MAX_BACK_OFF_MS)
}

/// Shortens waits that are longer than any back-off, because the clock was set back since they began.
pub(super) async fn shorten_back_offs(tx: &mut Tx<'_>, queue: Queue, now: i64) -> Result<(), Error> {
    let ((table, ..), at_once) = (names(queue), not_before(queue, "$1"));
    let sql = format!(
        "UPDATE {table} SET next_at = {at_once} \
         WHERE attempts > 0 AND next_at > $2 AND next_at < $3 AND next_at > {at_once}"
    );
    tx.execute(&sql, &params![now, now.saturating_add(MAX_BACK_OFF_MS), NEVER]).await?;
    Ok(())
}

/// Returns up to `limit` entries that come after (kind, key), ascending; with `failed_only`, only those that have failed.
///
/// # Errors
/// The store fails.
pub async fn list(
    tx: &mut Tx<'_>,
    queue: Queue,
    (kind, after): (i64, i64),
    failed_only: bool,
    limit: u32,
) -> Result<Vec<Entry>, Error> {
    let (table, key, own) = names(queue);
    let only = if failed_only { "AND attempts > 0" } else { "" };
    let sql = format!(
        "SELECT kind, {key}, next_at, attempts, last_error, {own} FROM {table} \
         WHERE (kind > $1 OR (kind = $1 AND {key} > $2)) {only} ORDER BY kind, {key} LIMIT $3"
    );
    tx.fetch(&sql, &params![kind, after, i64::from(limit)]).await?.iter().map(entry).collect()
}

/// Lets an entry run at once, as if it had not failed; a task not before its time, which is ahead if the clock was set back. Returns
/// false if there is no such entry.
///
/// # Errors
/// The store fails.
pub async fn retry(tx: &mut Tx<'_>, queue: Queue, kind: i64, key: i64, now: i64) -> Result<bool, Error> {
    let ((table, column, _), at_once) = (names(queue), not_before(queue, "$3"));
    let sql = format!(
        "UPDATE {table} SET attempts = 0, next_at = {at_once} WHERE kind = $1 AND {column} = $2 AND attempts > 0"
    );
    tx.emit(Effect::Due { queue, at: now });
    Ok(tx.execute(&sql, &params![kind, key, now]).await? > 0)
}

/// Lets an entry of the outbox run at a time, as if it had not failed. If another node has put it off as well, the earlier time
/// counts: one of the two knows less.
///
/// # Errors
/// The store fails.
pub(super) async fn put_off(tx: &mut Tx<'_>, id: i64, at: i64, now: i64) -> Result<(), Error> {
    let sql = "UPDATE outbox SET attempts = 0, last_error = '', next_at = $2 WHERE id = $1 \
               AND (next_at <= $3 OR next_at > $2)";
    tx.execute(sql, &params![id, at, now]).await?;
    tx.emit(Effect::Due { queue: Queue::Outbox, at });
    Ok(())
}

/// Deletes an entry. Returns false if there is no such entry.
///
/// # Errors
/// The store fails.
pub async fn remove(tx: &mut Tx<'_>, queue: Queue, kind: i64, key: i64) -> Result<bool, Error> {
    let (table, column, _) = names(queue);
    Ok(tx.execute(&format!("DELETE FROM {table} WHERE kind = $1 AND {column} = $2"), &params![kind, key]).await? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Database;
    use crate::journal::tests::Fixture;

    /// A look costs the same, however many tasks wait for a later time.
    #[tokio::test]
    async fn tasks_that_are_due_are_read_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
        let plan = async |queue| {
            let (sql, values) = next_sql(queue, Dialect::Sqlite, (&[1, 2, 50], 9, 257));
            fixture.plan(sql, values).await
        };
        let tasks = plan(Queue::Tasks).await;
        for times in ["next_at<?", "next_at>? AND next_at<?"] {
            assert!(tasks.contains(&format!("USING INDEX scheduled_task_next ({times})")), "{tasks}");
        }
        assert!(!tasks.contains("TEMP B-TREE"), "{tasks}");
        // However many entries of the outbox wait that others run.
        let outbox = plan(Queue::Outbox).await;
        assert!(outbox.contains("USING INDEX outbox_lane (kind=?"), "{outbox}");
        fixture.db.close().await;
    }
}
