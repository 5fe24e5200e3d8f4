//! The connections of one-shot logins, as commands make them. They are no devices: they are not in the table of
//! connections that are online, and nothing is pushed to them. They are registered here so that their number per user
//! is limited, and so that they can be listed and ended.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use zim_protocol::SessionEndReason;

use super::end_message;
use crate::connection::ConnectionState;
use crate::key::UserKey;

/// Ends that are remembered for logins that are being admitted: more than can happen during one admission.
const ENDED: usize = 4_096;
const GAUGE: &str = "zim_one_shot_sessions";
/// The message for the client of an evicted login.
const EVICTED: &str = "this user has too many one-shot logins at once; the earliest was ended and may connect again";

/// The one-shot connections of this node, by user.
#[derive(Debug, Default)]
pub struct OneShots {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The connections of each user, the earliest first.
    users: HashMap<UserKey, Vec<OneShot>>,
    /// The users whose connections were ended, and why, the newest last.
    ended: VecDeque<(UserKey, SessionEndReason)>,
    /// The number of such ends, including those that are no longer remembered.
    end_count: u64,
    len: usize,
}

#[derive(Debug)]
struct OneShot {
    connection: Arc<ConnectionState>,
    /// Evicted because the user had too many: it no longer counts for the limit. It stays here until its connection has
    /// closed, so that it can still be ended.
    is_evicted: bool,
}

impl Inner {
    /// Returns why a login of `user` that began after the first `since` ends must not stay.
    fn ended_since(&self, user: UserKey, since: u64) -> Option<SessionEndReason> {
        let forgotten = self.end_count.saturating_sub(as_u64(self.ended.len()));
        let Some(skip) = since.checked_sub(forgotten) else {
            // The ends since then are no longer all remembered, and one of them may be this user's. The client may
            // connect again.
            return Some(SessionEndReason::Unspecified);
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.ended.iter().skip(skip).find(|(ended, _)| *ended == user).map(|(_, reason)| *reason)
    }
}

impl OneShots {
    /// Returns the number of ends so far; [`OneShots::register`] needs that of the time before the admission.
    pub fn end_count(&self) -> u64 {
        self.inner.lock().end_count
    }

    /// Registers a connection that is logged in as `user`. Its admission began after the first `since` ends: if a later
    /// one was of this user, the connection ends here. If the user now has more than `max`, the earliest is evicted.
    pub fn register(&self, user: UserKey, connection: Arc<ConnectionState>, since: u64, max: usize) {
        let mut inner = self.inner.lock();
        if let Some(reason) = inner.ended_since(user, since) {
            drop(inner);
            connection.queue.end(reason, end_message(reason));
            return;
        }
        inner.len += 1;
        metrics::gauge!(GAUGE).increment(1.0);
        let connections = inner.users.entry(user).or_default();
        connections.push(OneShot { connection, is_evicted: false });
        let surplus = connections.iter().filter(|one| !one.is_evicted).count().saturating_sub(max.max(1));
        for earliest in connections.iter_mut().filter(|one| !one.is_evicted).take(surplus) {
            earliest.is_evicted = true;
            earliest.connection.queue.retire(EVICTED);
        }
    }

    /// Removes a connection.
    pub fn unregister(&self, user: UserKey, connection: &Arc<ConnectionState>) {
        let mut inner = self.inner.lock();
        let Some(connections) = inner.users.get_mut(&user) else { return };
        let Some(index) = connections.iter().position(|one| Arc::ptr_eq(&one.connection, connection)) else { return };
        connections.remove(index);
        if connections.is_empty() {
            inner.users.remove(&user);
        }
        inner.len -= 1;
        metrics::gauge!(GAUGE).decrement(1.0);
    }

    /// Ends all connections of `user`, also those that are being admitted. Returns how many were registered.
    pub fn end(&self, user: UserKey, reason: SessionEndReason) -> usize {
        let mut inner = self.inner.lock();
        inner.end_count += 1;
        if inner.ended.len() == ENDED {
            inner.ended.pop_front();
        }
        inner.ended.push_back((user, reason));
        let connections = inner.users.remove(&user).unwrap_or_default();
        inner.len -= connections.len();
        drop(inner);
        for OneShot { connection, .. } in &connections {
            metrics::gauge!(GAUGE).decrement(1.0);
            connection.queue.end(reason, end_message(reason));
        }
        connections.len()
    }

    /// The number of connections of `user`, including evicted ones that have not closed yet.
    pub fn count(&self, user: UserKey) -> usize {
        self.inner.lock().users.get(&user).map_or(0, Vec::len)
    }

    /// Returns all connections.
    pub fn all(&self) -> Vec<Arc<ConnectionState>> {
        self.inner.lock().users.values().flatten().map(|one| Arc::clone(&one.connection)).collect()
    }

    /// The number of connections.
    pub fn len(&self) -> usize {
        self.inner.lock().len
    }

    /// Whether there are no connections.
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

    fn connection() -> Arc<ConnectionState> {
        Arc::new(ConnectionState::new("127.0.0.1:1".parse().unwrap(), 5, [1; 16], String::new(), 1_000))
    }

    /// The reason that the client of `connection` gets.
    fn end_reason(connection: &ConnectionState) -> Option<SessionEndReason> {
        connection.queue.next_batch(&mut BytesMut::new(), 1_000).now_or_never()?.1
    }

    #[test]
    fn beyond_the_cap_the_earliest_is_evicted_and_may_connect_again() {
        let one_shots = OneShots::default();
        let (first, second, third, other) = (connection(), connection(), connection(), connection());
        one_shots.register(ANN, Arc::clone(&first), 0, 2);
        one_shots.register(ANN, Arc::clone(&second), 0, 2);
        one_shots.register(BOB, Arc::clone(&other), 0, 2);
        assert_eq!((end_reason(&first), one_shots.len(), one_shots.count(ANN)), (None, 3, 2));
        one_shots.register(ANN, Arc::clone(&third), 0, 2);
        assert_eq!(end_reason(&first), Some(SessionEndReason::Unspecified));
        assert!(!first.queue.is_ended(), "requests that it has sent are still served");
        assert_eq!((end_reason(&second), end_reason(&third), end_reason(&other)), (None, None, None));
        // It no longer counts, so its own end makes no room for another.
        one_shots.unregister(ANN, &first);
        one_shots.register(ANN, connection(), 0, 2);
        assert_eq!((end_reason(&second), end_reason(&third)), (Some(SessionEndReason::Unspecified), None));
        // A connection that ends by itself makes room.
        one_shots.unregister(ANN, &third);
        one_shots.register(ANN, connection(), 0, 2);
        assert_eq!(one_shots.count(ANN), 3, "with the second, whose connection has not closed yet");
    }

    #[test]
    fn all_of_a_user_end_even_an_evicted_one() {
        let one_shots = OneShots::default();
        let (first, second, other) = (connection(), connection(), connection());
        one_shots.register(ANN, Arc::clone(&first), 0, 1);
        one_shots.register(ANN, Arc::clone(&second), 0, 1);
        one_shots.register(BOB, Arc::clone(&other), 0, 1);
        assert_eq!(one_shots.all().len(), 3);
        assert_eq!(one_shots.end(ANN, SessionEndReason::KickedOut), 2);
        assert!(first.queue.is_ended() && second.queue.is_ended() && !other.queue.is_ended());
        assert_eq!(
            (end_reason(&first), end_reason(&second)),
            (Some(SessionEndReason::KickedOut), Some(SessionEndReason::KickedOut))
        );
        assert_eq!((one_shots.len(), one_shots.count(ANN)), (1, 0));
        assert_eq!(one_shots.end(ANN, SessionEndReason::KickedOut), 0);
        one_shots.unregister(ANN, &first);
        assert_eq!(one_shots.len(), 1);
        one_shots.unregister(BOB, &other);
        assert!(one_shots.is_empty() && one_shots.all().is_empty());
    }

    #[test]
    fn a_login_that_is_being_admitted_ends_too() {
        let one_shots = OneShots::default();
        let (before, during, after) = (one_shots.end_count(), connection(), connection());
        one_shots.end(BOB, SessionEndReason::KickedOut);
        one_shots.end(ANN, SessionEndReason::Unregistered);
        one_shots.register(ANN, Arc::clone(&during), before, 10);
        assert_eq!(end_reason(&during), Some(SessionEndReason::Unregistered));
        assert!(during.queue.is_ended() && one_shots.is_empty());
        one_shots.register(ANN, Arc::clone(&after), one_shots.end_count(), 10);
        assert_eq!((end_reason(&after), one_shots.len()), (None, 1));
    }

    #[test]
    fn a_login_older_than_the_remembered_ends_is_refused() {
        let one_shots = OneShots::default();
        one_shots.end(ANN, SessionEndReason::KickedOut);
        for _ in 0..ENDED {
            one_shots.end(BOB, SessionEndReason::KickedOut);
        }
        let (early, late) = (connection(), connection());
        one_shots.register(ANN, Arc::clone(&early), 0, 10);
        assert_eq!(end_reason(&early), Some(SessionEndReason::Unspecified));
        one_shots.register(ANN, Arc::clone(&late), 1, 10);
        assert_eq!((end_reason(&late), one_shots.len()), (None, 1));
    }
}
