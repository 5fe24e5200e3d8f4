//! What a login may still do. It belongs to the login and not to its connection: reconnecting brings no new burst.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Identity;
use crate::key::UserKey;
use crate::rate::Bucket;

/// Profiles that a login may query within [`QUERY_WINDOW_MS`].
const QUERIED_USERS: usize = 10;
const QUERY_WINDOW_MS: i64 = 10_000;

/// The remaining allowances of one login, or of a connection without one. Times are those of the steady clock.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    pub(crate) messages: Bucket,
    pub(crate) requests: Bucket,
    pub(crate) pulls: Bucket,
    pub(crate) syncs: Bucket,
    pub(crate) once_a_second: Bucket,
    pub(crate) refused: Bucket,
    queried_users: VecDeque<(i64, usize)>,
}

impl Allowance {
    fn buckets(&mut self) -> [&mut Bucket; 6] {
        let Self { messages, requests, pulls, syncs, once_a_second, refused, queried_users: _ } = self;
        [messages, requests, pulls, syncs, once_a_second, refused]
    }

    /// Counts a query of `users` profiles. Returns false if there would be more than 10 within 10 seconds.
    pub(crate) fn count_queried_users(&mut self, users: usize, now_ms: i64) -> bool {
        self.forget_queries(now_ms);
        let before: usize = self.queried_users.iter().map(|(_, users)| users).sum();
        let is_allowed = before + users <= QUERIED_USERS;
        if is_allowed {
            self.queried_users.push_back((now_ms, users));
        }
        is_allowed
    }

    fn forget_queries(&mut self, now_ms: i64) {
        while self.queried_users.front().is_some_and(|(at, _)| now_ms - at >= QUERY_WINDOW_MS) {
            self.queried_users.pop_front();
        }
    }

    /// Whether nothing is used up, so that the allowance need not be kept.
    fn is_full(&mut self, now_ms: i64) -> bool {
        self.forget_queries(now_ms);
        self.queried_users.is_empty() && self.buckets().into_iter().all(|bucket| bucket.is_full(now_ms))
    }

    /// Takes over what `other` has used up.
    pub(super) fn merge(&mut self, other: &mut Self) {
        for (bucket, other) in self.buckets().into_iter().zip(other.buckets()) {
            *bucket = bucket.emptier(*other);
        }
        self.queried_users.extend(other.queried_users.drain(..));
        self.queried_users.make_contiguous().sort_unstable();
    }
}

/// The number of allowances from which unused ones are removed.
const SWEEP_FROM: usize = 4_096;

/// The allowances of all logins. One without a connection is kept until it is full again, which takes seconds, so the rate of
/// logins bounds the memory.
#[derive(Debug, Default)]
pub(crate) struct Allowances(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    users: HashMap<UserKey, Vec<Entry>>,
    count: usize,
    sweep_at: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { users: HashMap::new(), count: 0, sweep_at: SWEEP_FROM }
    }
}

#[derive(Debug)]
struct Entry {
    /// The ticket of the login; `None` for the one-shot logins of the user, which share one allowance.
    ticket: Option<[u8; 16]>,
    allowance: Arc<Mutex<Allowance>>,
}

impl Entry {
    fn has_connection(&self) -> bool {
        Arc::strong_count(&self.allowance) > 1
    }
}

impl Allowances {
    /// Returns the allowance of a login. A login that is resumed keeps its own. A new one takes over what the user's logins
    /// without a connection have used up: logging in again brings no new burst either.
    pub(crate) fn of(&self, identity: &Identity, now_ms: i64) -> Arc<Mutex<Allowance>> {
        let kept = &mut *self.0.lock();
        if kept.count >= kept.sweep_at {
            kept.sweep(now_ms);
        }
        let entries = kept.users.entry(identity.user).or_default();
        let ticket = (!identity.one_shot).then_some(identity.ticket);
        if let Some(known) = entries.iter().find(|entry| entry.ticket == ticket) {
            return Arc::clone(&known.allowance);
        }
        let mut allowance = Allowance::default();
        if ticket.is_some() {
            let before = entries.len();
            entries.retain(|entry| {
                let is_kept = entry.ticket.is_none() || entry.has_connection();
                if !is_kept {
                    allowance.merge(&mut entry.allowance.lock());
                }
                is_kept
            });
            kept.count -= before - entries.len();
        }
        let allowance = Arc::new(Mutex::new(allowance));
        entries.push(Entry { ticket, allowance: Arc::clone(&allowance) });
        kept.count += 1;
        allowance
    }
}

impl Kept {
    fn sweep(&mut self, now_ms: i64) {
        self.users.retain(|_, entries| {
            entries.retain(|entry| entry.has_connection() || !entry.allowance.lock().is_full(now_ms));
            !entries.is_empty()
        });
        self.count = self.users.values().map(Vec::len).sum();
        self.sweep_at = (self.count * 2).max(SWEEP_FROM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{AppKey, LoginKey};
    use crate::rate::Rate;

    const RATE: fn() -> Rate = || Rate::new(1, 2);

    fn login(user: i64, ticket: u8) -> Identity {
        Identity {
            app: AppKey(7),
            user: UserKey(user),
            user_id: "ann".into(),
            login: LoginKey(ticket.into()),
            ticket: [ticket; 16],
            login_at: 0,
            one_shot: false,
        }
    }

    fn one_shot(user: i64, ticket: u8) -> Identity {
        Identity { one_shot: true, ..login(user, ticket) }
    }

    /// Sends until no message is allowed; returns how many were.
    fn send(allowance: &Mutex<Allowance>, now_ms: i64) -> usize {
        (0..10).take_while(|_| allowance.lock().messages.take(RATE(), now_ms).is_ok()).count()
    }

    #[test]
    fn a_resumed_login_has_the_allowance_that_it_had() {
        let allowances = Allowances::default();
        let before = allowances.of(&login(1, 1), 0);
        assert_eq!(send(&before, 0), 2);
        // The server has not noticed the end of the connection before.
        assert_eq!(send(&allowances.of(&login(1, 1), 0), 0), 0);
        drop(before);
        assert_eq!(send(&allowances.of(&login(1, 1), 0), 0), 0);
        assert_eq!(send(&allowances.of(&login(1, 1), 1_000), 1_000), 1);
        // Other devices and other users have their own.
        let first = allowances.of(&login(1, 1), 1_000);
        assert_eq!(send(&allowances.of(&login(1, 2), 1_000), 1_000), 2);
        assert_eq!(send(&allowances.of(&login(2, 1), 1_000), 1_000), 2);
        drop(first);
    }

    #[test]
    fn a_new_login_takes_over_what_ended_ones_have_used_up() {
        let allowances = Allowances::default();
        let (first, second) = (allowances.of(&login(1, 1), 0), allowances.of(&login(1, 2), 0));
        assert_eq!(send(&first, 0), 2);
        assert!(second.lock().count_queried_users(10, 0));
        drop((first, second));
        let third = allowances.of(&login(1, 3), 0);
        assert_eq!(send(&third, 0), 0);
        assert!(!third.lock().count_queried_users(1, 9_999));
        assert!(third.lock().count_queried_users(1, 10_000));
        assert_eq!(send(&third, 2_000), 2);
    }

    #[test]
    fn the_one_shot_logins_of_a_user_share_an_allowance() {
        let allowances = Allowances::default();
        assert_eq!(send(&allowances.of(&one_shot(1, 1), 0), 0), 2);
        assert_eq!(send(&allowances.of(&one_shot(1, 2), 0), 0), 0);
        assert_eq!(send(&allowances.of(&one_shot(2, 2), 0), 0), 2);
        // Scripts of a user do not slow down the user's devices.
        assert_eq!(send(&allowances.of(&login(1, 3), 0), 0), 2);
    }

    #[test]
    fn full_allowances_are_removed() {
        let allowances = Allowances::default();
        let connected = allowances.of(&login(-1, 1), 0);
        for user in 1..i64::try_from(SWEEP_FROM).unwrap() {
            assert_eq!(send(&allowances.of(&login(user, 1), 0), 0), 2);
        }
        assert_eq!(send(&allowances.of(&login(0, 1), 1_500), 1_500), 2);
        assert_eq!(allowances.0.lock().count, SWEEP_FROM + 1, "none is full yet");
        allowances.0.lock().sweep_at = 0;
        drop(allowances.of(&login(0, 2), 2_000));
        let kept = allowances.0.lock();
        assert_eq!((kept.count, kept.users.len()), (2, 2));
        drop(connected);
    }
}
