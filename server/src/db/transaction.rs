//! Shared commits. The jobs that wait when the previous commit returns share the next transaction, each in a savepoint, and
//! are answered after its commit. No job waits for a batch to fill: a single write commits at once.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::backend::{Access, Backend};
use super::error::{DbError, DbErrorKind};
use super::job::{Bulk, Job, Reply};
use super::locks::{LockLimit, Locks};
use super::savepoint::{Lost, Outcome, Savepoints};
use super::tx::Tx;
use crate::effect::Effect;
use crate::error::Error;

/// The largest number of jobs in one transaction, and the largest number of their bytes, unless a single job has more. They
/// keep transactions short, so locks are released soon.
const MAX_JOBS: usize = 1024;
const MAX_BYTES: usize = 4 << 20;

/// Receives the effects of commits. A function of the effects is one.
pub trait Sink: Send + Sync + 'static {
    /// Takes the effects of a commit before its callers are answered, in commit order within a partition. Must not block.
    fn take(&self, effects: Vec<Effect>);

    /// The callers of the commits whose effects were taken are answered.
    fn answered(&self) {}

    /// A commit with these effects has failed, and nobody knows whether it was carried out. Called once that is decided, so who
    /// reads from now on sees what it did. Its callers may be answered already. Must not block.
    fn doubt(&self, _: &[Effect]) {}
}

impl<F: Fn(Vec<Effect>) + Send + Sync + 'static> Sink for F {
    fn take(&self, effects: Vec<Effect>) {
        self(effects);
    }
}

/// A sink that the threads share.
pub(super) type SharedSink = Arc<dyn Sink>;

/// A commit that has failed, and may still be going on.
pub(super) struct Doubt {
    effects: Vec<Effect>,
    /// The database frees them when the commit is decided. They are marked, so there is always one that tells it.
    locks: Locks,
}

/// Asks about commits in doubt up to the first that is still going on, and tells the sink of those that are decided. That one is asked
/// about last the next time: it does not hold up the others. Returns whether there are none left. It does not wait for that: what needs
/// other rows goes on meanwhile.
pub(super) async fn settle<S: Backend>(backend: &mut S, doubts: &mut VecDeque<Doubt>, sink: &SharedSink) -> bool {
    while let Some(doubt) = doubts.pop_front() {
        if !backend.are_free(&doubt.locks).await {
            doubts.push_back(doubt);
            return false;
        }
        guarded(|| sink.doubt(&doubt.effects));
    }
    true
}

/// An entry of a partition's queue.
pub(super) enum Entry<B: Bulk> {
    Bulk(B, Locks, Reply<B::Out>),
    Job(Box<dyn Job>, Locks),
}

/// What runs in one savepoint: a job, or consecutive bulk ops.
enum Unit<B: Bulk> {
    Bulk(Run<B>),
    Job(Single),
}

struct Single {
    job: Box<dyn Job>,
    locks: Locks,
    /// Why the job has no result, or why its result does not count.
    failure: Option<DbError>,
}

struct Run<B: Bulk> {
    ops: Vec<B>,
    locks: Locks,
    replies: Vec<Reply<B::Out>>,
    results: Vec<Result<B::Out, Error>>,
}

impl<B: Bulk> Entry<B> {
    /// Answers with `error` without running the entry.
    pub(super) fn refuse(self, error: &DbError) {
        match self {
            // The caller may have dropped the receiver.
            Self::Bulk(_, _, reply) => drop(reply.send(Err(error.clone().into()))),
            Self::Job(job, _) => job.finish(Err(error.clone())),
        }
    }
}

/// Returns a function that decides whether another entry, with its bytes, joins a transaction.
pub(super) fn limit<B: Bulk>(has_locks: bool) -> impl FnMut(&Entry<B>, usize) -> bool {
    let (mut jobs, mut bytes) = (0, 0_usize);
    let mut locks = has_locks.then(LockLimit::default);
    move |entry, more| {
        jobs += 1;
        bytes = bytes.saturating_add(more);
        jobs <= MAX_JOBS
            && bytes <= MAX_BYTES
            && locks.as_mut().is_none_or(|limit| match entry {
                Entry::Bulk(_, locks, _) | Entry::Job(_, locks) => limit.admits(locks),
            })
    }
}

/// Runs a batch until every entry is answered. Commits that may have been carried out become `doubts`.
pub(super) async fn run<S: Backend, B: Bulk>(
    backend: &mut S,
    entries: Vec<Entry<B>>,
    sink: &SharedSink,
    doubts: &mut VecDeque<Doubt>,
) {
    #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
    metrics::histogram!("zim_db_batch_size").record(entries.len() as f64);
    let mut waiting = units(entries);
    while !waiting.is_empty() {
        doubts.extend(transaction(backend, &mut waiting, sink).await);
    }
}

fn units<B: Bulk>(entries: Vec<Entry<B>>) -> VecDeque<Unit<B>> {
    let mut units: VecDeque<Unit<B>> = VecDeque::new();
    for entry in entries {
        match (entry, units.back_mut()) {
            (Entry::Bulk(op, locks, reply), Some(Unit::Bulk(run))) => {
                run.ops.push(op);
                run.locks.extend(&locks);
                run.replies.push(reply);
            }
            (Entry::Bulk(op, locks, reply), _) => {
                units.push_back(Unit::Bulk(Run { ops: vec![op], locks, replies: vec![reply], results: Vec::new() }));
            }
            (Entry::Job(job, locks), _) => units.push_back(Unit::Job(Single { job, locks, failure: None })),
        }
    }
    units
}

/// Runs one transaction with what waits. If a job ends the transaction, the jobs behind it stay in `waiting`.
async fn transaction<S: Backend, B: Bulk>(
    backend: &mut S,
    waiting: &mut VecDeque<Unit<B>>,
    sink: &SharedSink,
) -> Option<Doubt> {
    let locks = if S::LOCKS { locks(waiting) } else { Locks::none() };
    if let Err(error) = backend.begin(Access::Write, &locks).await {
        waiting.drain(..).for_each(|unit| unit.finish(Err(error.clone())));
        return None;
    }
    let mut savepoints = Savepoints::new(backend, waiting.len() > 1);
    let mut done = Vec::with_capacity(waiting.len());
    while let Some(mut unit) = waiting.pop_front() {
        let ran = unit.run(&mut savepoints, &locks).await;
        if let Err(Lost(error)) = ran {
            backend.rollback().await;
            unit.finish(Err(error.clone()));
            // The jobs before it did nothing wrong; their callers can retry.
            let error_of_others = if error.affects_all_jobs() {
                error
            } else {
                DbError::new(DbErrorKind::Conflict, format!("another job ended the shared transaction: {error}"))
            };
            done.into_iter().for_each(|unit: Unit<B>| unit.finish(Err(error_of_others.clone())));
            return None;
        }
        done.push(unit);
    }
    metrics::counter!("zim_db_statements_total").increment(savepoints.statements);
    let effects = savepoints.effects;
    let committed = commit(backend).await;
    let has_effects = committed.is_ok() && !effects.is_empty();
    let is_in_doubt = committed.as_ref().is_err_and(DbError::may_be_carried_out) && !effects.is_empty();
    let doubt = if has_effects {
        guarded(|| sink.take(effects));
        None
    } else {
        is_in_doubt.then_some(Doubt { effects, locks })
    };
    done.into_iter().for_each(|unit| unit.finish(committed.clone()));
    if has_effects {
        guarded(|| sink.answered());
    }
    doubt
}

/// Commits, unless a single job failed and its transaction is already rolled back.
async fn commit<S: Backend>(backend: &mut S) -> Result<(), DbError> {
    if !backend.is_in_transaction() {
        return Ok(());
    }
    let begun = Instant::now();
    let done = backend.commit().await;
    metrics::histogram!("zim_db_commit_seconds").record(begun.elapsed().as_secs_f64());
    done.inspect_err(|error| tracing::error!(%error, "commit failed"))
}

/// Calls the sink. Whatever it does, the commit stands: a push is only a hint, and a client that misses it pulls.
fn guarded(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("the effects of a commit are lost: their sink panicked");
    }
}

fn locks<B: Bulk>(units: &VecDeque<Unit<B>>) -> Locks {
    Locks::of_all(units.iter().map(|unit| match unit {
        Unit::Bulk(run) => &run.locks,
        Unit::Job(single) => &single.locks,
    }))
}

impl<B: Bulk> Unit<B> {
    async fn run<S: Backend>(&mut self, savepoints: &mut Savepoints<'_, S>, locks: &Locks) -> Result<(), Lost> {
        match self {
            Self::Bulk(run) => run.run(savepoints, locks).await,
            Self::Job(single) => single.run(savepoints).await,
        }
    }

    fn finish(self, committed: Result<(), DbError>) {
        match self {
            Self::Bulk(run) => run.finish(&committed),
            Self::Job(single) => single.job.finish(single.failure.map_or(committed, Err)),
        }
    }
}

impl Single {
    async fn run<S: Backend>(&mut self, savepoints: &mut Savepoints<'_, S>) -> Result<(), Lost> {
        let Self { job, locks, .. } = self;
        let run = async |tx: &mut Tx<'_>| {
            tx.set_locked(locks);
            job.run(tx).await
        };
        let outcome = savepoints.run(run, |is_ok| *is_ok).await?;
        // A job that returns an error has its own reason. A job that returns Ok after a failed statement has ignored it.
        if !outcome.is_kept && outcome.value != Some(false) {
            self.failure = outcome.failure.or_else(|| Some(DbError::other("a job did not finish a statement")));
        }
        Ok(())
    }
}

impl<B: Bulk> Run<B> {
    /// Runs all ops together. If they fail, it runs them in halves.
    async fn run<S: Backend>(&mut self, savepoints: &mut Savepoints<'_, S>, locks: &Locks) -> Result<(), Lost> {
        let mut todo = vec![(0, self.ops.len(), true)];
        while let Some((from, to, is_fresh)) = todo.pop() {
            let ops = &self.ops[from..to];
            let is_complete = |results: &Result<Vec<_>, Error>| results.as_ref().is_ok_and(|r| r.len() == ops.len());
            let run = async |tx: &mut Tx<'_>| {
                tx.set_locked(&self.locks);
                B::run(tx, ops).await
            };
            let outcome = savepoints.run(run, is_complete).await?;
            let kind = outcome.failure.as_ref().map(DbError::kind);
            match outcome {
                Outcome { is_kept: true, value: Some(Ok(results)), .. } => {
                    self.results.extend(results);
                    continue;
                }
                Outcome { failure: Some(error), .. } if error.affects_all_jobs() => {
                    self.results.extend(ops.iter().map(|_| Err(error.clone().into())));
                }
                _ if kind == Some(DbErrorKind::Conflict) && is_fresh => todo.push((from, to, false)),
                outcome if to - from == 1 => self.results.push(Err(reason(outcome))),
                _ => {
                    let middle = from.midpoint(to);
                    todo.push((middle, to, true));
                    todo.push((from, middle, true));
                }
            }
            if !todo.is_empty() {
                savepoints.continue_nested(locks).await?;
            }
        }
        Ok(())
    }

    fn finish(self, committed: &Result<(), DbError>) {
        let mut results = self.results.into_iter();
        for reply in self.replies {
            let result = match committed {
                Ok(()) => results.next().unwrap_or_else(|| Err(DbError::other("a job was not run").into())),
                Err(error) => Err(error.clone().into()),
            };
            // The caller may have dropped the receiver.
            let _ = reply.send(result);
        }
    }
}

/// Returns why a single op failed.
fn reason<T>(outcome: Outcome<Result<T, Error>>) -> Error {
    match outcome {
        Outcome { value: Some(Err(error)), .. } => error,
        Outcome { failure: Some(failure), .. } => failure.into(),
        _ => DbError::other("a bulk run returned more or fewer results than it has ops").into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::super::backend::Limits;
    use super::*;
    use crate::key::AppKey;

    /// A database in which somebody holds these locks.
    struct Held(Vec<Locks>);

    impl Backend for Held {
        const LOCKS: bool = true;

        async fn begin(&mut self, _: Access, _: &Locks) -> Result<(), DbError> {
            Ok(())
        }

        async fn are_free(&mut self, locks: &Locks) -> bool {
            !self.0.contains(locks)
        }

        async fn savepoint(&mut self) -> Result<(), DbError> {
            Ok(())
        }

        async fn rollback_to_savepoint(&mut self) -> Result<(), DbError> {
            Ok(())
        }

        async fn commit(&mut self) -> Result<(), DbError> {
            Ok(())
        }

        async fn rollback(&mut self) {}

        fn tx<'a>(&'a mut self, _: &'a mut Vec<Effect>) -> Option<Tx<'a>> {
            None
        }

        fn is_in_transaction(&self) -> bool {
            false
        }

        fn limits(&self) -> Limits {
            Limits { statement: Duration::MAX, job: Duration::MAX }
        }

        fn discard(&mut self) {}

        async fn limit<T>(_: Limits, job: impl Future<Output = T>) -> Result<T, DbError> {
            Ok(job.await)
        }
    }

    /// Notes the commits in doubt of which it is told.
    #[derive(Default)]
    struct Told(Mutex<Vec<Vec<Effect>>>);

    impl Sink for Told {
        fn take(&self, _: Vec<Effect>) {}

        fn doubt(&self, effects: &[Effect]) {
            self.0.lock().push(effects.to_vec());
        }
    }

    #[tokio::test]
    async fn a_commit_that_stays_in_doubt_does_not_hold_up_others() {
        let doubt = |id| Doubt { effects: vec![Effect::AppChanged { app: AppKey(id) }], locks: Locks::user(id) };
        let told = Arc::new(Told::default());
        let sink: SharedSink = Arc::<Told>::clone(&told);
        let apps = || {
            let effects = told.0.lock().concat();
            let apps = effects.iter().map(|effect| match effect {
                Effect::AppChanged { app } => app.0,
                other => panic!("{other:?}"),
            });
            apps.collect::<Vec<_>>()
        };
        let (mut backend, mut doubts) = (Held(vec![Locks::user(2)]), VecDeque::from([doubt(1), doubt(2), doubt(3)]));
        assert!(!settle(&mut backend, &mut doubts, &sink).await);
        assert_eq!(apps(), [1]);
        assert!(!settle(&mut backend, &mut doubts, &sink).await);
        assert_eq!(apps(), [1, 3]);
        backend.0.clear();
        assert!(settle(&mut backend, &mut doubts, &sink).await);
        assert_eq!(apps(), [1, 3, 2]);
    }
}
