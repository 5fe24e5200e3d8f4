//! Tasks: when they are due, and how they run.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use zim_protocol::clock::Clock;

use super::lane::Share;
use super::rows::{self, Entry, NEVER};
use super::{Due, Kinds, Queue, Source, TaskKind};
use crate::db::{Db, Tx, Value, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::{LogWriter, NewMessage};

/// The most tasks that one statement inserts.
const MAX_ROWS: usize = 256;

const INSERT: &str = "INSERT INTO scheduled_task (kind, subject, generation, at, next_at, attempts, last_error) VALUES";

/// What a task is after it was replaced.
const REPLACE: &str = "ON CONFLICT (kind, subject) DO UPDATE SET generation = excluded.generation, \
                       at = excluded.at, next_at = excluded.next_at, attempts = 0, last_error = ''";

/// Draws the generation of a task. It tells the task from all others of its kind and subject, also from one for the same time that
/// has run: otherwise a worker that has not heard of that end takes the two for one.
fn generation() -> Result<i64, Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(Error::internal)?;
    Ok(i64::from_le_bytes(random))
}

/// Schedules the task of this kind for `subject`, whose scope the job has, at `at`. It replaces the one before, if there is
/// one.
///
/// # Errors
/// The store fails.
pub async fn schedule<C>(tx: &mut Tx<'_>, kind: &TaskKind<C>, subject: impl Into<i64>, at: i64) -> Result<(), Error> {
    put(tx, kind, subject.into(), at, "").await
}

/// Schedules the task like [`schedule`], unless there is one that runs at `at` or before.
///
/// # Errors
/// The store fails.
pub async fn schedule_by<C>(
    tx: &mut Tx<'_>,
    kind: &TaskKind<C>,
    subject: impl Into<i64>,
    at: i64,
) -> Result<(), Error> {
    put(tx, kind, subject.into(), at, "WHERE scheduled_task.next_at > excluded.next_at").await
}

async fn put<C>(tx: &mut Tx<'_>, kind: &TaskKind<C>, subject: i64, at: i64, only: &str) -> Result<(), Error> {
    tx.assert_covers(&(kind.scope)(subject));
    let at = at.min(NEVER - 1);
    let sql = format!("{INSERT} ($1, $2, $3, $4, $4, 0, '') {REPLACE} {only}");
    if tx.execute(&sql, &params![kind.number, subject, generation()?, at]).await? > 0 {
        tx.emit(Effect::Due { queue: Queue::Tasks, at });
    }
    Ok(())
}

/// Schedules the task of this kind for each of these subjects that has none. Other than [`schedule`], it needs no scope: it
/// leaves the tasks that exist as they are.
///
/// # Errors
/// The store fails.
pub async fn schedule_missing<C>(tx: &mut Tx<'_>, kind: &TaskKind<C>, subjects: &[i64], at: i64) -> Result<(), Error> {
    let generation = generation()?;
    for subjects in subjects.chunks(MAX_ROWS) {
        let list = tx.dialect().values_list(subjects.len(), 7, 1);
        let row = |subject: &i64| params![kind.number, *subject, generation, at, at, 0, ""];
        let values: Vec<Value> = subjects.iter().flat_map(row).collect();
        tx.execute(&format!("{INSERT} {list} ON CONFLICT (kind, subject) DO NOTHING"), &values).await?;
        tx.emit(Effect::Due { queue: Queue::Tasks, at });
    }
    Ok(())
}

/// Tasks of a kind that a noun above the caller defines.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// The number of the kind.
    pub kind: i64,
    /// A query for the subjects, whose parameter $3 is their owner.
    pub subjects: &'static str,
}

impl Numbered {
    /// Schedules the task for each of the subjects that has none, like [`schedule_missing`], in one statement.
    ///
    /// # Errors
    /// The store fails.
    pub async fn schedule(self, tx: &mut Tx<'_>, owner: impl Into<i64>, at: i64) -> Result<(), Error> {
        self.insert(tx, owner.into(), at, "ON CONFLICT (kind, subject) DO NOTHING").await
    }

    /// Schedules the task for each of the subjects, unless there is one that runs at `at` or before, in one statement.
    ///
    /// # Errors
    /// The store fails.
    pub async fn schedule_by(self, tx: &mut Tx<'_>, owner: impl Into<i64>, at: i64) -> Result<(), Error> {
        let replace = format!("{REPLACE} WHERE scheduled_task.next_at > excluded.next_at");
        self.insert(tx, owner.into(), at, &replace).await
    }

    async fn insert(self, tx: &mut Tx<'_>, owner: i64, at: i64, on_conflict: &str) -> Result<(), Error> {
        let Self { kind, subjects } = self;
        let into = INSERT.trim_end_matches(" VALUES");
        // SQLite needs the condition: otherwise ON would belong to the query.
        let sql = format!("{into} SELECT $1, s.id, $4, $2, $2, 0, '' FROM ({subjects}) AS s WHERE 1 = 1 {on_conflict}");
        if tx.execute(&sql, &params![kind, at, owner, generation()?]).await? > 0 {
            tx.emit(Effect::Due { queue: Queue::Tasks, at });
        }
        Ok(())
    }
}

/// Schedules the task for `subject` and cancels all others of its kind: for a task that schedules its successor, at the start
/// of the server.
///
/// # Errors
/// The store fails.
pub async fn schedule_only<C>(
    tx: &mut Tx<'_>,
    kind: &TaskKind<C>,
    subject: impl Into<i64>,
    at: i64,
) -> Result<(), Error> {
    tx.execute("DELETE FROM scheduled_task WHERE kind = $1", &params![kind.number]).await?;
    schedule(tx, kind, subject, at).await
}

/// Cancels the task of this kind for `subject`, whose scope the job has. Returns false if there was none.
///
/// # Errors
/// The store fails.
pub async fn cancel<C>(tx: &mut Tx<'_>, kind: &TaskKind<C>, subject: impl Into<i64>) -> Result<bool, Error> {
    let subject = subject.into();
    tx.assert_covers(&(kind.scope)(subject));
    rows::remove(tx, Queue::Tasks, kind.number, subject).await
}

/// Decides whether a task is still due, and deletes it if so: it may have been replaced, cancelled or run since it was read,
/// or the clock was set back.
pub(super) async fn claim(tx: &mut Tx<'_>, task: &Entry, now: i64) -> Result<bool, Error> {
    let sql = "DELETE FROM scheduled_task WHERE kind = $1 AND subject = $2 AND generation = $3 AND next_at <= $4";
    Ok(tx.execute(sql, &params![task.kind, task.key, task.generation(), now]).await? > 0)
}

/// The tasks, for a worker.
#[derive(Debug)]
pub(super) struct Tasks<C: 'static> {
    pub(super) context: Arc<C>,
    pub(super) kinds: Arc<Kinds<C>>,
}

impl<C: Send + Sync> Source<C> for Tasks<C> {
    fn share(&self) -> Share {
        Share::Tasks
    }

    fn start(&self, db: &Db<NewMessage>, clock: &Clock, task: &Entry) -> BoxFuture<'static, Result<bool, Error>> {
        let Some(kind) = self.kinds.tasks.iter().find(|kind| kind.number == task.kind).copied() else {
            return async { Ok(true) }.boxed();
        };
        let (context, clock, task) = (Arc::clone(&self.context), clock.clone(), task.clone());
        // Submitted here and not in the future, so that what is due first has its place in the queue first.
        let done = db.submit((kind.scope)(task.key), async move |tx| {
            let now = clock.now_ms();
            if !claim(tx, &task, now).await? {
                return Ok(false);
            }
            let mut log = LogWriter::new(None);
            (kind.run)(&context, tx, &mut log, Due { subject: task.key, now }).await?;
            log.finish(tx).await?;
            Ok(true)
        });
        done.boxed()
    }
}
