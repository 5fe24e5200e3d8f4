//! One-shot logins: commands that come and go. They are no devices, so they are not in the table of those who are online, and
//! nothing is pushed to them. They are here so that a user cannot have any number of them, and so that they can be listed and
//! ended.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use zim_protocol::SessionEndReason;

use super::words;
use crate::connection::ConnectionState;
use crate::key::UserKey;

/// Ends that are remembered for logins that are being admitted: more than can happen during one admission.
const ENDED: usize = 4_096;
const GAUGE: &str = "zim_one_shot_sessions";
/// What the client of a login is told that had to make room.
const GIVES_WAY: &str = "this user has too many one-shot logins at once: the earliest gives way and may connect again";

/// The one-shot sessions of this node, by user.
#[derive(Debug, Default)]
pub struct OneShots {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The sessions of a user, the earliest first.
    users: HashMap<UserKey, Vec<OneShot>>,
    /// Whose sessions were ended lately, and why, the newest last.
    ended: VecDeque<(UserKey, SessionEndReason)>,
    /// How many such ends there were, with those that are forgotten.
    ends: u64,
    len: usize,
}

#[derive(Debug)]
struct OneShot {
    session: Arc<ConnectionState>,
    /// It had to make room: it does not count for the user any more. It stays here until its connection is over, so that it
    /// can still be ended.
    is_retired: bool,
}

impl Inner {
    /// Why a login of `user` must not stay that began after the first `since` ends.
    fn ended_since(&self, user: UserKey, since: u64) -> Option<SessionEndReason> {
        let forgotten = self.ends.saturating_sub(as_u64(self.ended.len()));
        let Some(skip) = since.checked_sub(forgotten) else {
            // Nobody knows any more whose ends those were. The client may connect again.
            return Some(SessionEndReason::Unspecified);
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.ended.iter().skip(skip).find(|(ended, _)| *ended == user).map(|(_, reason)| *reason)
    }
}

impl OneShots {
    /// What [`OneShots::register`] needs to know of the time before the login was admitted.
    pub fn ends(&self) -> u64 {
        self.inner.lock().ends
    }

    /// `session` is logged in as `user`. The admission began when there had been `since` ends: if one of the ends after them
    /// was of this user, the session ends here. If the user has more than `most` now, the earliest gives way.
    pub fn register(&self, user: UserKey, session: Arc<ConnectionState>, since: u64, most: usize) {
        let mut inner = self.inner.lock();
        if let Some(reason) = inner.ended_since(user, since) {
            drop(inner);
            session.queue.end(reason, words(reason));
            return;
        }
        inner.len += 1;
        metrics::gauge!(GAUGE).increment(1.0);
        let sessions = inner.users.entry(user).or_default();
        sessions.push(OneShot { session, is_retired: false });
        let surplus = sessions.iter().filter(|one| !one.is_retired).count().saturating_sub(most.max(1));
        for earliest in sessions.iter_mut().filter(|one| !one.is_retired).take(surplus) {
            earliest.is_retired = true;
            earliest.session.queue.retire(GIVES_WAY);
        }
    }

    /// `session` is gone.
    pub fn unregister(&self, user: UserKey, session: &Arc<ConnectionState>) {
        let mut inner = self.inner.lock();
        let Some(sessions) = inner.users.get_mut(&user) else { return };
        let Some(index) = sessions.iter().position(|one| Arc::ptr_eq(&one.session, session)) else { return };
        sessions.remove(index);
        if sessions.is_empty() {
            inner.users.remove(&user);
        }
        inner.len -= 1;
        metrics::gauge!(GAUGE).decrement(1.0);
    }

    /// Ends all sessions of `user`, also those that are being admitted at this moment; returns how many were there.
    pub fn end(&self, user: UserKey, reason: SessionEndReason) -> usize {
        let mut inner = self.inner.lock();
        inner.ends += 1;
        if inner.ended.len() == ENDED {
            inner.ended.pop_front();
        }
        inner.ended.push_back((user, reason));
        let sessions = inner.users.remove(&user).unwrap_or_default();
        inner.len -= sessions.len();
        drop(inner);
        for OneShot { session, .. } in &sessions {
            metrics::gauge!(GAUGE).decrement(1.0);
            session.queue.end(reason, words(reason));
        }
        sessions.len()
    }

    /// How many sessions `user` has.
    pub fn of(&self, user: UserKey) -> usize {
        self.inner.lock().users.get(&user).map_or(0, Vec::len)
    }

    /// All sessions.
    pub fn all(&self) -> Vec<Arc<ConnectionState>> {
        self.inner.lock().users.values().flatten().map(|one| Arc::clone(&one.session)).collect()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.inner.lock().len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use futures_util::FutureExt;

    use super::*;

    const ANN: UserKey = UserKey(1);
    const BOB: UserKey = UserKey(2);

    fn session() -> Arc<ConnectionState> {
        Arc::new(ConnectionState::new("127.0.0.1:1".parse().unwrap(), 5, [1; 16], String::new(), 1_000))
    }

    /// What the client of `session` is told at its end.
    fn told(session: &ConnectionState) -> Option<SessionEndReason> {
        session.queue.next_batch(&mut BytesMut::new(), 1_000).now_or_never()?.1
    }

    #[test]
    fn beyond_the_cap_the_earliest_gives_way_and_may_come_again() {
        let shots = OneShots::default();
        let (first, second, third, other) = (session(), session(), session(), session());
        shots.register(ANN, Arc::clone(&first), 0, 2);
        shots.register(ANN, Arc::clone(&second), 0, 2);
        shots.register(BOB, Arc::clone(&other), 0, 2);
        assert_eq!((told(&first), shots.len(), shots.of(ANN)), (None, 3, 2));
        shots.register(ANN, Arc::clone(&third), 0, 2);
        assert_eq!(told(&first), Some(SessionEndReason::Unspecified));
        assert!(!first.queue.is_ended(), "what it has sent already is still done");
        assert_eq!((told(&second), told(&third), told(&other)), (None, None, None));
        // It does not count any more, so its own end makes no room for another.
        shots.unregister(ANN, &first);
        shots.register(ANN, session(), 0, 2);
        assert_eq!((told(&second), told(&third)), (Some(SessionEndReason::Unspecified), None));
        // One that ends by itself does.
        shots.unregister(ANN, &third);
        shots.register(ANN, session(), 0, 2);
        assert_eq!(shots.of(ANN), 3, "with the second, whose connection is not over yet");
    }

    #[test]
    fn all_of_a_user_end_even_one_that_gave_way() {
        let shots = OneShots::default();
        let (first, second, other) = (session(), session(), session());
        shots.register(ANN, Arc::clone(&first), 0, 1);
        shots.register(ANN, Arc::clone(&second), 0, 1);
        shots.register(BOB, Arc::clone(&other), 0, 1);
        assert_eq!(shots.all().len(), 3);
        assert_eq!(shots.end(ANN, SessionEndReason::KickedOut), 2);
        assert!(first.queue.is_ended() && second.queue.is_ended() && !other.queue.is_ended());
        assert_eq!(
            (told(&first), told(&second)),
            (Some(SessionEndReason::KickedOut), Some(SessionEndReason::KickedOut))
        );
        assert_eq!((shots.len(), shots.of(ANN)), (1, 0));
        assert_eq!(shots.end(ANN, SessionEndReason::KickedOut), 0);
        shots.unregister(ANN, &first);
        assert_eq!(shots.len(), 1);
        shots.unregister(BOB, &other);
        assert!(shots.is_empty() && shots.all().is_empty());
    }

    #[test]
    fn a_login_that_is_being_admitted_meanwhile_ends_too() {
        let shots = OneShots::default();
        let (before, during, after) = (shots.ends(), session(), session());
        shots.end(BOB, SessionEndReason::KickedOut);
        shots.end(ANN, SessionEndReason::Unregistered);
        shots.register(ANN, Arc::clone(&during), before, 10);
        assert_eq!(told(&during), Some(SessionEndReason::Unregistered));
        assert!(during.queue.is_ended() && shots.is_empty());
        shots.register(ANN, Arc::clone(&after), shots.ends(), 10);
        assert_eq!((told(&after), shots.len()), (None, 1));
    }

    #[test]
    fn ends_that_are_forgotten_let_nobody_in_who_may_have_been_meant() {
        let shots = OneShots::default();
        shots.end(ANN, SessionEndReason::KickedOut);
        for _ in 0..ENDED {
            shots.end(BOB, SessionEndReason::KickedOut);
        }
        let (early, late) = (session(), session());
        shots.register(ANN, Arc::clone(&early), 0, 10);
        assert_eq!(told(&early), Some(SessionEndReason::Unspecified));
        shots.register(ANN, Arc::clone(&late), 1, 10);
        assert_eq!((told(&late), shots.len()), (None, 1));
    }
}
