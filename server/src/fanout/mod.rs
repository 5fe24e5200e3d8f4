//! Who is online where, and what they are told. This is the one place that knows that this node is alone: hints to the
//! sessions of other nodes leave from here as well.
//!
//! A push is a hint: it carries the log entries and their positions, and a client that misses it pulls. So nothing here is
//! durable, nothing blocks, and a slow session costs a bounded amount of memory.

mod deliver;
mod queue;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

pub(crate) use self::deliver::{feed_push, message_push};
pub use self::queue::{LogRef, SessionQueue};
use crate::key::UserKey;
use crate::session::SessionState;

/// Locks of the table of sessions: enough that two users rarely share one.
const SHARDS: usize = 64;

type Shard = RwLock<HashMap<UserKey, Vec<Arc<SessionState>>>>;

/// The sessions of this node, by user.
#[derive(Debug)]
pub struct Fanout {
    shards: Vec<Shard>,
    hasher: RandomState,
    online: AtomicUsize,
}

impl Default for Fanout {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            online: AtomicUsize::new(0),
        }
    }
}

impl Fanout {
    fn shard(&self, user: UserKey) -> &Shard {
        #[expect(clippy::cast_possible_truncation, reason = "any part of the hash will do")]
        let index = self.hasher.hash_one(user) as usize % SHARDS;
        &self.shards[index]
    }

    /// From now on `session` is told what concerns `user`. Comes before the session reads anything, so that nothing falls
    /// between the two.
    pub fn register(&self, user: UserKey, session: Arc<SessionState>) {
        self.shard(user).write().entry(user).or_default().push(session);
        self.online.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("zim_sessions").increment(1.0);
    }

    /// `session` is gone. True if it was registered.
    pub fn unregister(&self, user: UserKey, session: &Arc<SessionState>) -> bool {
        let mut shard = self.shard(user).write();
        let Some(sessions) = shard.get_mut(&user) else { return false };
        let before = sessions.len();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        let gone = before - sessions.len();
        if sessions.is_empty() {
            shard.remove(&user);
        }
        drop(shard);
        if gone > 0 {
            self.online.fetch_sub(gone, Ordering::Relaxed);
            metrics::gauge!("zim_sessions").decrement(1.0);
        }
        gone > 0
    }

    /// Sessions that are logged in on this node.
    pub fn len(&self) -> usize {
        self.online.load(Ordering::Relaxed)
    }

    /// Whether nobody is logged in on this node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sessions of a user.
    pub fn sessions(&self, user: UserKey) -> Vec<Arc<SessionState>> {
        self.shard(user).read().get(&user).cloned().unwrap_or_default()
    }

    /// All sessions, for the operator.
    pub fn all(&self) -> Vec<Arc<SessionState>> {
        self.shards.iter().flat_map(|shard| shard.read().values().flatten().cloned().collect::<Vec<_>>()).collect()
    }
}
