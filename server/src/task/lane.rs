//! Who runs which entries, and how many at once.
//!
//! Entries that are delivered to others have lanes: one for each receiver of an app, as far as they are told apart. Each lane and
//! each app has so many places, so whoever is slow delays nobody else. The others of the outbox never wait for them.

use std::collections::{HashMap, HashSet};

use super::rows::{self, Entry, NEVER};
use crate::db::{Tx, params};
use crate::effect::Queue;
use crate::error::Error;
use crate::key::AppKey;

/// The lanes of an app. Receivers whose numbers are the same modulo this share one.
const LANES_OF_APP: i64 = 1_024;

/// Returns the lane of what is delivered to a receiver of an app.
pub fn lane(app: AppKey, receiver: u64) -> i64 {
    let own = i64::try_from(receiver % LANES_OF_APP.unsigned_abs()).unwrap_or(0);
    app.0.clamp(0, i64::MAX / LANES_OF_APP - 1) * LANES_OF_APP + own
}

fn app_of(lane: i64) -> i64 {
    lane / LANES_OF_APP
}

/// What a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Tasks,
    /// What the server does itself, or another server of the deployment.
    Outbox,
    /// What is delivered to others.
    Lanes,
}

/// The most entries that run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) all: usize,
    of_app: usize,
    of_lane: usize,
}

impl Share {
    pub(super) fn queue(self) -> Queue {
        match self {
            Self::Tasks => Queue::Tasks,
            Self::Outbox | Self::Lanes => Queue::Outbox,
        }
    }

    pub(super) fn places(self) -> Places {
        match self {
            Self::Tasks | Self::Outbox => Places { all: 256, of_app: 256, of_lane: 256 },
            // Most of them wait for an answer. Sixteen apps all of whose receivers are slow take all places.
            Self::Lanes => Places { all: 1_024, of_app: 64, of_lane: 32 },
        }
    }
}

/// The entries that run.
#[derive(Debug)]
pub(super) struct InFlight {
    places: Places,
    /// By kind and key: the entry as it was started, and whether a look found it due anew meanwhile. Its job has been committed
    /// then, and this worker has not heard of it yet.
    entries: HashMap<(i64, i64), (Entry, bool)>,
    lanes: HashMap<i64, usize>,
    apps: HashMap<i64, usize>,
}

impl InFlight {
    pub(super) fn new(share: Share) -> Self {
        let (entries, lanes, apps) = Default::default();
        Self { places: share.places(), entries, lanes, apps }
    }

    /// Whether an entry runs. If it is not as it was started, it is due anew.
    pub(super) fn is_running(&mut self, entry: &Entry) -> bool {
        let Some((started, is_due_anew)) = self.entries.get_mut(&(entry.kind, entry.key)) else { return false };
        *is_due_anew |= started != entry;
        true
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        *self.lanes.entry(entry.lane).or_default() += 1;
        *self.apps.entry(app_of(entry.lane)).or_default() += 1;
        self.entries.insert((entry.kind, entry.key), (entry, false));
    }

    /// Removes an entry that has ended. Returns whether it is due anew.
    pub(super) fn remove(&mut self, entry: &Entry) -> bool {
        let Some((_, is_due_anew)) = self.entries.remove(&(entry.kind, entry.key)) else { return false };
        for (counts, key) in [(&mut self.lanes, entry.lane), (&mut self.apps, app_of(entry.lane))] {
            let left = counts.get(&key).map_or(0, |count| count.saturating_sub(1));
            if left == 0 {
                counts.remove(&key);
            } else {
                counts.insert(key, left);
            }
        }
        is_due_anew
    }

    fn counts(&self, lane: i64) -> (usize, usize) {
        let count = |counts: &HashMap<i64, usize>, key| counts.get(&key).copied().unwrap_or(0);
        (count(&self.lanes, lane), count(&self.apps, app_of(lane)))
    }

    /// Whether another entry can run at all.
    pub(super) fn has_place(&self) -> bool {
        self.entries.len() < self.places.all
    }

    /// Whether another entry of a lane can run.
    pub(super) fn has_place_in(&self, lane: i64) -> bool {
        let (of_lane, of_app) = self.counts(lane);
        self.has_place() && of_lane < self.places.of_lane && of_app < self.places.of_app
    }

    /// Whether so many of the lane, or of its app, have ended that it is time for another look.
    pub(super) fn has_drained(&self, lane: i64) -> bool {
        let (of_lane, of_app) = self.counts(lane);
        of_lane <= self.places.of_lane / 2 || of_app <= self.places.of_app / 2
    }

    /// Returns what has no place left.
    pub(super) fn full(&self) -> Full {
        let full = |counts: &HashMap<i64, usize>, most| {
            counts.iter().filter(|(_, count)| **count >= most).map(|(key, _)| *key).collect()
        };
        Full { lanes: full(&self.lanes, self.places.of_lane), apps: full(&self.apps, self.places.of_app) }
    }
}

/// The lanes, and the apps, that have no place left.
#[derive(Clone, Debug)]
pub(super) struct Full {
    lanes: HashSet<i64>,
    apps: HashSet<i64>,
}

/// What a look has found: what is due, and what is next.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// More may be due.
    pub(super) has_more: bool,
}

/// Returns the entries of the lanes that have places left, those lanes first whose entries have waited longest. Of each lane not more
/// than it has places, and one of those that are not yet due.
pub(super) async fn next(tx: &mut Tx<'_>, kinds: &[i64], now: i64, full: &Full) -> Result<Found, Error> {
    let Places { all, of_lane, .. } = Share::Lanes.places();
    let mut found = Found { entries: Vec::new(), has_more: false };
    for kind in kinds {
        // From one lane to the next by the index, however many entries a lane has.
        let sql = "WITH RECURSIVE lanes (lane) AS (SELECT MIN(lane) FROM outbox WHERE kind = $1 UNION ALL \
                   SELECT (SELECT MIN(o.lane) FROM outbox o WHERE o.kind = $1 AND o.lane > lanes.lane) FROM lanes \
                   WHERE lanes.lane IS NOT NULL) \
                   SELECT lane, (SELECT MIN(o.next_at) FROM outbox o WHERE o.kind = $1 AND o.lane = lanes.lane) \
                   FROM lanes WHERE lane IS NOT NULL";
        let rows = tx.fetch(sql, &params![*kind]).await?;
        let lanes = rows.iter().map(|row| Ok((row.get(1)?, row.get(0)?))).collect::<Result<Vec<(i64, i64)>, Error>>();
        let mut lanes = lanes?;
        lanes.sort_unstable();
        for (next_at, lane) in lanes.into_iter().filter(|(next_at, _)| *next_at < NEVER) {
            if next_at > now {
                // The lanes after this one are later.
                found.entries.extend(rows::next_in(tx, *kind, lane, 1).await?);
                break;
            }
            if full.lanes.contains(&lane) || full.apps.contains(&app_of(lane)) || found.entries.len() > 2 * all {
                found.has_more = true;
                continue;
            }
            found.entries.extend(rows::next_in(tx, *kind, lane, of_lane + 1).await?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_that_of_its_app_and_receiver() {
        let app = AppKey(i64::from(u32::MAX));
        assert_eq!(app_of(lane(app, u64::MAX)), app.0);
        assert_eq!(lane(AppKey(1), 5), 1_029);
        assert_eq!(lane(AppKey(1), 5), lane(AppKey(1), 5 + LANES_OF_APP.unsigned_abs()));
        assert_ne!(lane(AppKey(1), 5), lane(AppKey(2), 5));
    }

    fn entry(key: i64, lane: i64) -> Entry {
        Entry::sample(key, lane)
    }

    #[test]
    fn a_lane_and_an_app_have_so_many_places() {
        let mut running = InFlight::new(Share::Lanes);
        let lane = |receiver| lane(AppKey(7), receiver);
        (0..32).for_each(|key| running.insert(entry(key, lane(1))));
        assert!(!running.has_place_in(lane(1)) && running.has_place_in(lane(2)));
        (32..64).for_each(|key| running.insert(entry(key, lane(2))));
        assert!(!running.has_place_in(lane(3)) && running.has_place_in(super::lane(AppKey(8), 1)));
        let full = running.full();
        assert!(full.lanes.len() == 2 && full.apps.contains(&7));
        assert!(!running.has_drained(lane(1)));
        (0..16).for_each(|key| assert!(!running.remove(&entry(key, lane(1)))));
        assert!(running.has_drained(lane(1)) && running.has_place_in(lane(3)) && !running.has_place_in(lane(2)));
    }

    #[test]
    fn an_entry_that_has_changed_while_it_ran_is_due_anew() {
        let mut running = InFlight::new(Share::Outbox);
        running.insert(entry(1, 0));
        assert!(running.is_running(&entry(1, 0)) && !running.is_running(&entry(2, 0)));
        let mut changed = entry(1, 0);
        changed.next_at = 9;
        assert!(running.is_running(&changed));
        assert!(running.remove(&entry(1, 0)) && !running.remove(&entry(1, 0)));
        assert!(running.lanes.is_empty() && running.apps.is_empty());
    }
}
