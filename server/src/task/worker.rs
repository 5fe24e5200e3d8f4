//! The worker: reads what is due without locks, starts it, and notes what failed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use zim_protocol::ErrorCode;
use zim_protocol::clock::Clock;

use super::Kinds;
use super::lane::{self, Found, InFlight, Share};
use super::rows::{self, Entry, MAX_ATTEMPTS};
use super::timer::{Timer, Timers};
use crate::db::{Db, Scope};
use crate::effect::Queue;
use crate::error::Error;
use crate::journal::NewMessage;

/// The longest time without a look, in case something was missed: another node may have scheduled it.
const LOOK_INTERVAL_MS: i64 = 60_000;
/// The pause after the store has failed. This is machine time, not the server's clock, because it only saves work.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The results that are counted.
const DONE: &str = "done";
const FAILED: &str = "failed";

/// Returns the counter of the entries of a kind that ended like this.
fn counter(kind: &'static str, result: &'static str) -> metrics::Counter {
    metrics::counter!("zim_tasks_total", "kind" => kind, "result" => result)
}

/// A table of entries, and how they run.
pub(super) trait Source<C> {
    /// Which entries of which table.
    fn share(&self) -> Share;

    /// Starts an entry. If it ends well, it has deleted the entry. Returns false if the entry is gone or no longer due.
    fn start(&self, db: &Db<NewMessage>, clock: &Clock, entry: &Entry) -> BoxFuture<'static, Result<bool, Error>>;
}

/// Runs the entries of one table, or a share of them.
#[derive(Debug)]
pub(super) struct Worker<C: 'static, S> {
    source: S,
    kinds: Arc<Kinds<C>>,
    /// The numbers and the names of the kinds that it runs. Entries of others are left alone.
    names: Vec<(i64, &'static str)>,
    db: Db<NewMessage>,
    clock: Clock,
    timers: Arc<Timers>,
}

/// The entries that run: what they are, and how they end.
type Running = FuturesUnordered<BoxFuture<'static, (Entry, Result<bool, Error>)>>;

impl<C, S: Source<C>> Worker<C, S> {
    pub(super) fn new(
        source: S,
        (kinds, db, clock): (Arc<Kinds<C>>, Db<NewMessage>, Clock),
        timers: Arc<Timers>,
    ) -> Self {
        Self { names: kinds.names_of(source.share()), source, kinds, db, clock, timers }
    }

    fn queue(&self) -> Queue {
        self.source.share().queue()
    }

    fn timer(&self) -> &Timer {
        self.timers.of_share(self.source.share())
    }

    /// Runs whatever is due, for ever. Dropping it loses nothing.
    pub(super) async fn work(&self) {
        if self.names.is_empty() {
            return;
        }
        // A series that begins with its first failure hides that failure: nothing has grown.
        for &(_, kind) in &self.names {
            for result in [DONE, FAILED] {
                counter(kind, result).increment(0);
            }
        }
        let (mut running, mut in_flight) = (Running::new(), InFlight::new(self.source.share()));
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
                    () = self.timer().wait(&self.clock), if in_flight.has_place() => break,
                    () = self.clock.sleep(LOOK_INTERVAL_MS) => break,
                    Some((entry, done)) = running.next(), if !running.is_empty() => {
                        let is_due_anew = in_flight.remove(&entry);
                        if !self.ended(&entry, done).await {
                            tokio::time::sleep(RETRY_PAUSE).await;
                            break;
                        }
                        if is_due_anew || has_more && in_flight.has_drained(entry.lane) {
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
            let queue = self.queue();
            self.db.submit(Scope::none(), async move |tx| rows::shorten_back_offs(tx, queue, now).await).await?;
        }
        let kinds: Vec<i64> = self.names.iter().map(|(number, _)| *number).collect();
        let Found { entries, mut has_more } = self.found(kinds, now, in_flight).await?;
        for entry in entries {
            if entry.next_at > now {
                self.timer().note(entry.next_at);
                continue;
            }
            if in_flight.is_running(&entry) {
                continue;
            }
            if !in_flight.has_place_in(entry.lane) {
                has_more = true;
                continue;
            }
            in_flight.insert(entry.clone());
            let done = self.source.start(&self.db, &self.clock, &entry);
            running.push(Box::pin(async move { (entry, done.await) }));
        }
        Ok(has_more)
    }

    /// Reads what is due, and what is next.
    async fn found(&self, kinds: Vec<i64>, now: i64, in_flight: &InFlight) -> Result<Found, Error> {
        let (queue, limit) = (self.queue(), Share::Outbox.places().all + 1);
        if self.source.share() != Share::Lanes {
            let entries = self.db.read(async move |tx| rows::next(tx, queue, &kinds, now, limit).await).await?;
            return Ok(Found { entries, has_more: false });
        }
        let full = in_flight.full();
        self.db.read(async move |tx| lane::next(tx, &kinds, now, &full).await).await
    }

    /// Handles the end of an entry. Returns false if the store fails: the entry is found again.
    async fn ended(&self, entry: &Entry, done: Result<bool, Error>) -> bool {
        let kind = self.names.iter().find(|(number, _)| *number == entry.kind).map_or("", |(_, name)| *name);
        let error = match done {
            Ok(true) => {
                counter(kind, DONE).increment(1);
                return true;
            }
            // It was replaced or cancelled. Or the clock was set back, and it is due when the time comes again.
            Ok(false) => {
                self.timer().note(entry.next_at);
                return true;
            }
            Err(error) => error,
        };
        counter(kind, FAILED).increment(1);
        let is_of_store = error.code() == ErrorCode::CommonModuleImDatabaseError;
        let text = error.cause().map_or_else(|| error.to_string(), ToString::to_string);
        let (failed, now) = (entry.clone(), self.clock.now_ms());
        let queue = self.queue();
        let noted = self.db.submit(self.kinds.scope(queue, entry.kind, entry.key), {
            let text = text.clone();
            async move |tx| rows::failed(tx, (queue, &failed), &text, now, !is_of_store).await
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
