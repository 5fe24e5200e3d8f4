//! The worker: reads what is due without locks, starts it, and notes what failed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use zim_protocol::ErrorCode;
use zim_protocol::clock::Clock;

use super::Kinds;
use super::rows::{self, Entry, MAX_ATTEMPTS};
use super::timer::{Timer, Timers};
use crate::db::{Db, Scope};
use crate::effect::Queue;
use crate::error::Error;
use crate::journal::NewMessage;

/// The most entries that run at once.
const MAX_RUNNING: usize = 256;
/// The longest time without a look, in case something was missed: another node may have scheduled it.
const LOOK_INTERVAL_MS: i64 = 60_000;
/// The pause after the store has failed. This is machine time, not the server's clock, because it only saves work.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A table of entries, and how they run.
pub(super) trait Source<C> {
    /// The table.
    const QUEUE: Queue;

    /// Starts an entry. If it ends well, it has deleted the entry. Returns false if the entry is gone or no longer due.
    fn start(&self, db: &Db<NewMessage>, clock: &Clock, entry: &Entry) -> BoxFuture<'static, Result<bool, Error>>;
}

/// Runs the entries of one table.
#[derive(Debug)]
pub(super) struct Worker<C: 'static, S> {
    source: S,
    kinds: Arc<Kinds<C>>,
    /// The numbers and the names of the kinds in this table. Entries of others are left alone.
    names: Vec<(i64, &'static str)>,
    db: Db<NewMessage>,
    clock: Clock,
    timers: Arc<Timers>,
}

/// The entries that run, by kind and key: the entry as it was started, and whether a look found it due anew meanwhile. Its job has
/// been committed then, and this worker has not heard of it yet.
type InFlight = HashMap<(i64, i64), (Entry, bool)>;
/// The entries that run: what they are, and how they end.
type Running = FuturesUnordered<BoxFuture<'static, (Entry, Result<bool, Error>)>>;

impl<C, S: Source<C>> Worker<C, S> {
    pub(super) fn new(
        source: S,
        (kinds, db, clock): (Arc<Kinds<C>>, Db<NewMessage>, Clock),
        timers: Arc<Timers>,
    ) -> Self {
        Self { names: kinds.names(S::QUEUE), source, kinds, db, clock, timers }
    }

    fn timer(&self) -> &Timer {
        self.timers.of(S::QUEUE)
    }

    /// Runs whatever is due, for ever. Dropping it loses nothing.
    pub(super) async fn work(&self) {
        if self.names.is_empty() {
            return;
        }
        let (mut running, mut in_flight) = (Running::new(), InFlight::new());
        // The time of the last look. Before the first one the clock may have been set back as well.
        let mut looked_at = i64::MAX;
        loop {
            self.timer().reset();
            let has_more = match self.look(&mut looked_at, &mut running, &mut in_flight).await {
                Ok(has_more) => has_more,
                Err(error) => {
                    tracing::warn!(%error, cause = ?error.cause(), "cannot read what is due; retrying");
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            loop {
                tokio::select! {
                    () = self.timer().wait(&self.clock), if running.len() < MAX_RUNNING => break,
                    () = self.clock.sleep(LOOK_INTERVAL_MS) => break,
                    Some((entry, done)) = running.next(), if !running.is_empty() => {
                        let is_due_anew = in_flight.remove(&(entry.kind, entry.key)).is_some_and(|(_, is)| is);
                        if !self.ended(&entry, done).await {
                            tokio::time::sleep(RETRY_PAUSE).await;
                            break;
                        }
                        if is_due_anew || has_more && running.len() <= MAX_RUNNING / 2 {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Starts what is due and does not run yet, as much as may run at once. Sets the timer to the next time. Returns whether
    /// more is due.
    async fn look(&self, looked_at: &mut i64, running: &mut Running, in_flight: &mut InFlight) -> Result<bool, Error> {
        let now = self.clock.now_ms();
        if now < std::mem::replace(looked_at, now) {
            self.db.submit(Scope::none(), async move |tx| rows::shorten_back_offs(tx, S::QUEUE, now).await).await?;
        }
        let kinds: Vec<i64> = self.names.iter().map(|(number, _)| *number).collect();
        let limit = MAX_RUNNING + 1;
        let found = self.db.read(async move |tx| rows::next(tx, S::QUEUE, &kinds, limit).await).await?;
        for entry in found {
            if entry.next_at > now {
                self.timer().note(entry.next_at);
                return Ok(false);
            }
            let key = (entry.kind, entry.key);
            if let Some((started, is_due_anew)) = in_flight.get_mut(&key) {
                *is_due_anew |= *started != entry;
                continue;
            }
            if running.len() >= MAX_RUNNING {
                return Ok(true);
            }
            in_flight.insert(key, (entry.clone(), false));
            let done = self.source.start(&self.db, &self.clock, &entry);
            running.push(Box::pin(async move { (entry, done.await) }));
        }
        Ok(false)
    }

    /// Handles the end of an entry. Returns false if the store fails: the entry is found again.
    async fn ended(&self, entry: &Entry, done: Result<bool, Error>) -> bool {
        let kind = self.names.iter().find(|(number, _)| *number == entry.kind).map_or("", |(_, name)| *name);
        let count = |result| metrics::counter!("zim_tasks_total", "kind" => kind, "result" => result).increment(1);
        let error = match done {
            Ok(true) => {
                count("done");
                return true;
            }
            // It was replaced or cancelled. Or the clock was set back, and it is due when the time comes again.
            Ok(false) => {
                self.timer().note(entry.next_at);
                return true;
            }
            Err(error) => error,
        };
        count("failed");
        let is_of_store = error.code() == ErrorCode::CommonModuleImDatabaseError;
        let text = error.cause().map_or_else(|| error.to_string(), ToString::to_string);
        let (failed, now) = (entry.clone(), self.clock.now_ms());
        let noted = self.db.submit(self.kinds.scope(S::QUEUE, entry.kind, entry.key), {
            let text = text.clone();
            async move |tx| rows::failed(tx, (S::QUEUE, &failed), &text, now, !is_of_store).await
        });
        match noted.await {
            Ok(Some(attempts)) if attempts >= MAX_ATTEMPTS => {
                let key = entry.key;
                tracing::error!(
                    kind,
                    key,
                    attempts,
                    error = text,
                    "work failed too often and is not tried again; see zim admin"
                );
                true
            }
            Ok(Some(attempts)) => {
                tracing::warn!(kind, key = entry.key, attempts, error = text, "work failed; retrying later");
                true
            }
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(kind, %error, cause = ?error.cause(), "cannot note that work failed; retrying");
                false
            }
        }
    }
}
