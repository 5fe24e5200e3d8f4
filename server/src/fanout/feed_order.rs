//! Puts the entries of a feed in order. Two partitions publish their commits independently, so a later position may come
//! first. A client that gets it asks for the one before, which is on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use zim_protocol::feed_entry::Detail;

use crate::key::{LoginKey, UserKey};

/// How long an entry waits for those before it. This is machine time, not the server's clock: it only saves requests.
const WAIT: Duration = Duration::from_millis(20);
/// Entries that wait at the same time; beyond it they are pushed out of order.
const MAX_HELD: usize = 1_000;

/// An entry of a feed.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) entry: Box<Detail>,
    pub(super) cause: LoginKey,
}

/// The entries that wait for those before them.
#[derive(Debug, Default)]
pub(super) struct FeedOrder {
    held: BTreeMap<(UserKey, i64), (Instant, Fed)>,
}

impl FeedOrder {
    /// Returns what can be pushed now that `fed` has arrived; `last` is the last position that was pushed to the user, or
    /// 0 if that is not known.
    pub(super) fn arrive(&mut self, user: UserKey, last: i64, pos: i64, fed: Fed, now: Instant) -> Vec<(i64, Fed)> {
        if last > 0 && pos > last + 1 && self.held.len() < MAX_HELD {
            self.held.insert((user, pos), (now + WAIT, fed));
            return Vec::new();
        }
        let mut ready = vec![(pos, fed)];
        let mut next = pos.max(last) + 1;
        while let Some((_, fed)) = self.held.remove(&(user, next)) {
            ready.push((next, fed));
            next += 1;
        }
        ready
    }

    /// Returns when the first entry has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.values().map(|(until, _)| *until).min()
    }

    /// Takes the entries that have waited long enough, and those that waited for them, in order.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(UserKey, i64, Fed)> {
        let mut followed = None;
        let is_over = |(user, pos): &(UserKey, i64), (until, _): &mut (Instant, Fed)| {
            let is_over = *until <= now || followed == Some((*user, *pos));
            if is_over {
                followed = Some((*user, *pos + 1));
            }
            is_over
        };
        self.held.extract_if(.., is_over).map(|((user, pos), (_, fed))| (user, pos, fed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::ReadMark;

    use super::*;

    const ANN: UserKey = UserKey(1);
    const BOB: UserKey = UserKey(2);

    fn fed() -> Fed {
        Fed { entry: Box::new(Detail::Read(ReadMark::default())), cause: LoginKey(0) }
    }

    fn positions(ready: &[(i64, Fed)]) -> Vec<i64> {
        ready.iter().map(|(pos, _)| *pos).collect()
    }

    #[test]
    fn an_entry_waits_for_those_before_it() {
        let (mut order, now) = (FeedOrder::default(), Instant::now());
        let mut arrive = |user, last, pos| positions(&order.arrive(user, last, pos, fed(), now));
        assert_eq!(arrive(ANN, 0, 7), [7], "nothing is known of what was before");
        assert_eq!(arrive(ANN, 7, 8), [8]);
        assert!(arrive(ANN, 8, 11).is_empty());
        assert!(arrive(BOB, 8, 10).is_empty(), "each user has a feed of their own");
        assert!(arrive(ANN, 8, 10).is_empty());
        assert_eq!(arrive(ANN, 8, 9), [9, 10, 11]);
        assert_eq!(arrive(ANN, 11, 9), [9], "an entry that comes too late");
        assert_eq!(arrive(BOB, 8, 9), [9, 10]);
        assert_eq!(order.deadline(), None);
    }

    #[test]
    fn an_entry_does_not_wait_long() {
        let (mut order, start) = (FeedOrder::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        for (pos, ms) in [(13, 0), (16, 0), (14, 5)] {
            assert!(order.arrive(ANN, 10, pos, fed(), after(ms)).is_empty());
        }
        assert!(order.arrive(BOB, 10, 15, fed(), after(10)).is_empty());
        assert_eq!(order.deadline(), Some(after(20)));
        assert!(order.expire(after(19)).is_empty());
        let expired: Vec<_> = order.expire(after(20)).into_iter().map(|(user, pos, _)| (user, pos)).collect();
        assert_eq!(expired, [(ANN, 13), (ANN, 14), (ANN, 16)], "what follows one that has waited does not wait longer");
        assert_eq!(order.deadline(), Some(after(30)));
    }

    #[test]
    fn only_so_many_wait() {
        let (mut order, now) = (FeedOrder::default(), Instant::now());
        let mut arrive = |pos| order.arrive(ANN, 1, pos, fed(), now).len();
        let most = i64::try_from(MAX_HELD).unwrap();
        assert_eq!((3..most + 3).map(&mut arrive).sum::<usize>(), 0);
        assert_eq!(arrive(most + 9), 1);
    }
}
