//! The connections of this node, and what is pushed to them: what this node commits, and what others say that they have
//! committed.
//!
//! A push is a hint: it carries log entries and their positions, and a client that misses it pulls them. So nothing
//! here is durable, nothing blocks, and a slow connection costs a bounded amount of memory.
//!
//! A commit hands its effects over and goes on (`Publisher`); lanes push them, each to a part of the users. The devices
//! of one user get the entries of each log, and both logs of a conversation, in commit order. The answer to a write waits
//! for the handover and not for the pushes; the end of a login is in force before the answer.

mod conflated;
mod deliver;
mod ends;
mod feed;
mod feed_order;
mod group;
mod group_index;
mod lane;
mod one_shots;
mod passed;
mod walk;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use zim_protocol::{ConversationRef, ConversationType, SessionEndReason, UserFullInfo, UserStatus, room_push};

use self::conflated::Conflated;
pub use self::ends::Knows;
use self::group::Group;
use self::group_index::GroupIndex;
use self::lane::{Lane, Mark, Marks, TransientPush, View, Viewers, Work};
pub use self::one_shots::OneShots;
use self::passed::Passed;
use crate::connection::{ConnectionState, Happened};
use crate::effect::{Audience, Effect, Look, RoomEffect, RoomReceivers, TransientEffect};
use crate::key::{ConversationKey, LoginKey, UserKey};

/// Ended logins that are remembered: more than can be between the store and the table of connections at the same time.
const ENDED: usize = 4_096;

/// The locks of the table of connections: enough that two users rarely share one.
const SHARDS: usize = 64;

/// The most lanes. More only make the batches smaller.
const MAX_LANES: usize = 8;

/// The message for the client of a login that ended.
fn end_message(reason: SessionEndReason) -> &'static str {
    match reason {
        SessionEndReason::KickedOut => "kicked out by a newer login",
        SessionEndReason::EndedByOperator => "the operator ended this login",
        _ => "this login was resumed on another connection",
    }
}

type Shard = RwLock<HashMap<UserKey, Vec<Arc<ConnectionState>>>>;

/// The connections of this node, by user.
#[derive(Debug)]
pub struct Fanout {
    shards: Vec<Shard>,
    /// Each serves every so many-th shard.
    lanes: Vec<Lane>,
    /// The sessions of each lane by group.
    groups: Vec<GroupIndex>,
    hasher: RandomState,
    online: AtomicUsize,
    /// Logins that ended, the newest last: one of them may not be in the table yet.
    ended: Mutex<VecDeque<(LoginKey, SessionEndReason)>>,
    /// Logins that are being stored, and have no connection yet.
    storing: Mutex<HashSet<LoginKey>>,
    /// The messages that this node has pushed, if there are others.
    passed: OnceLock<Passed>,
    /// The connections of one-shot logins.
    pub one_shots: OneShots,
    /// Changed profiles that the user's watchers have not got yet.
    pub(crate) profiles: Conflated<UserFullInfo>,
    /// Changed statuses that the user's subscribers have not got yet.
    pub(crate) statuses: Conflated<UserStatus>,
    /// The users and groups, with the names of these, of which is to be read again whether the one is in the other.
    pub(crate) stays: Conflated<Arc<str>, (UserKey, ConversationKey)>,
    /// The groups in which something came before the end of a stay that precedes it, with their names and the change that ended it.
    pub(crate) unheard: Conflated<(Arc<str>, i64), ConversationKey>,
}

/// A login that is being stored.
#[derive(Debug)]
#[must_use = "the login is noted until this is dropped"]
pub struct Storing<'f> {
    fanout: &'f Fanout,
    login: LoginKey,
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        self.fanout.storing.lock().remove(&self.login);
    }
}

impl Default for Fanout {
    fn default() -> Self {
        let lanes = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_LANES);
        Self {
            groups: (0..lanes).map(|_| GroupIndex::default()).collect(),
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            online: AtomicUsize::new(0),
            ended: Mutex::default(),
            storing: Mutex::default(),
            passed: OnceLock::new(),
            one_shots: OneShots::default(),
            profiles: Conflated::default(),
            statuses: Conflated::default(),
            stays: Conflated::default(),
            unheard: Conflated::default(),
        }
    }
}

/// Hands committed effects to the fan-out. When it is dropped, the lanes push what they have and end.
#[derive(Debug)]
pub struct Publisher {
    fanout: Arc<Fanout>,
}

impl Publisher {
    /// Starts the lanes of `fanout` on the current runtime.
    pub fn start(fanout: Arc<Fanout>) -> Self {
        for lane in 0..fanout.lanes.len() {
            let fanout = Arc::clone(&fanout);
            drop(tokio::spawn(async move { fanout.serve(lane).await }));
        }
        Self { fanout }
    }

    /// Takes over what was committed, in commit order within a partition. Never waits for the pushes, which begin with
    /// `wake`.
    pub fn publish(&self, effects: Vec<Effect>) {
        self.fanout.publish(effects);
    }

    /// Lets the lanes push what was taken over. It comes after the answers: the lanes of a large group would take the
    /// processors from them.
    pub fn wake(&self) {
        self.fanout.lanes.iter().for_each(Lane::wake);
    }
}

#[cfg(test)]
impl Publisher {
    /// Publishes a commit without callers.
    fn push(&self, effects: Vec<Effect>) {
        self.publish(effects);
        self.wake();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.fanout.lanes.iter().for_each(Lane::close);
    }
}

impl Fanout {
    /// Notes that there are other nodes, whose commits arrive in an order of their own.
    pub fn share(&self) {
        // It may be noted already.
        let _ = self.passed.set(Passed::default());
    }

    /// Pushes what another node has committed.
    pub fn hear(&self, effects: Vec<Effect>) {
        if let Some(passed) = self.passed.get() {
            for effect in &effects {
                if let Effect::Room(effect) = effect {
                    passed.note_room(effect.conversation, effect.rev);
                }
            }
        }
        self.publish(effects);
        self.lanes.iter().for_each(Lane::wake);
    }

    /// Tells the sessions that would have got a message to a room that it is lost.
    pub fn lose(&self, transient: TransientEffect) {
        let TransientEffect { audience, message, after_seq, after_rev, priority, cause, room, .. } = transient;
        let Audience::Room { conversation, name } = audience else { return };
        let (to, frame) = (Viewers::Group(Group::room(conversation, name)), OnceLock::new());
        let push = TransientPush { to, message, after_seq, after_rev, priority, cause, room, frame };
        for (lane, index) in self.lanes.iter().zip(&self.groups) {
            if index.has(conversation) {
                lane.lose(&push);
                lane.wake();
            }
        }
    }

    /// Returns the devices that have entered a room, or asked what it is, with the change after which that was said.
    fn entered(&self, effects: &[Effect]) -> Vec<(UserKey, Arc<RoomEffect>)> {
        if self.passed.get().is_none() {
            return Vec::new();
        }
        let entered = effects.iter().filter_map(|effect| match effect {
            Effect::Room(room) => match (&room.to, &room.detail) {
                (RoomReceivers::Device(user, _), room_push::Detail::Entrance(_)) => Some((*user, Arc::clone(room))),
                _ => None,
            },
            _ => None,
        });
        entered.collect()
    }

    /// Lets those devices ask again whose rooms another node has changed since, if this node heard of that before the device was told.
    /// They are told by now: what this node hears from now on comes afterwards.
    fn look_after_entrances(&self, entered: Vec<(UserKey, Arc<RoomEffect>)>) {
        let Some(passed) = self.passed.get() else { return };
        for (user, room) in entered {
            // Other nodes tell of their devices, too.
            if passed.has_room_after(room.conversation, room.rev) && !self.connections(user).is_empty() {
                let view = View { user, kind: ConversationType::Room, name: Arc::clone(&room.name) };
                self.lanes[self.shard_index(user) % self.lanes.len()].add([Work::Look(room.conversation, view)]);
            }
        }
    }

    /// Lets those look whom a commit may concern of which nobody could tell them.
    fn look(&self, look: Look) {
        match look {
            Look::Conversation(Audience::Group { conversation, name }) => self.look_in(&Group::new(conversation, name)),
            Look::Conversation(Audience::Room { conversation, name }) => self.look_in(&Group::room(conversation, name)),
            Look::Conversation(Audience::Peers([one, two])) => {
                for (user, name) in [(one.0, two.1), (two.0, one.1)] {
                    let view = View { user, kind: ConversationType::Peer, name };
                    let lane = self.shard_index(user) % self.lanes.len();
                    self.lanes[lane].add([Work::Pull(Viewers::User(view))]);
                }
            }
            Look::Feed(user) => self.mark(0, &Marks::Of([Mark::Feed(user)].into())),
            Look::Login { user, login } => self.look_at_login(user, login),
            // Who comes online later reads it then.
            Look::Stay { user, .. } if self.connections(user).is_empty() => {}
            Look::Stay { user, conversation, name } => self.stays.add((user, conversation), name, |_, _| false),
        }
    }

    /// Ends the connection of a login that may have ended. Its client connects again, and loses nothing if it has not.
    fn look_at_login(&self, user: UserKey, login: LoginKey) {
        for online in self.connections(user) {
            if online.identity().is_some_and(|identity| identity.login == login) {
                online.queue.retire("connect again: this login may have ended");
            }
        }
    }

    fn look_in(&self, group: &Group) {
        for (lane, index) in self.lanes.iter().zip(&self.groups) {
            if index.has(group.key) {
                lane.add([Work::Pull(Viewers::Group(group.clone()))]);
            }
        }
    }

    fn shard_index(&self, user: UserKey) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any part of the hash will do")]
        let hash = self.hasher.hash_one(user) as usize;
        hash % SHARDS
    }

    fn shard(&self, user: UserKey) -> &Shard {
        &self.shards[self.shard_index(user)]
    }

    /// Registers a connection for the pushes of `user`. Comes before the connection reads anything, so that nothing is
    /// missed between the read and the first push. If the login has ended since it was stored, the connection ends
    /// here, so that it does not stay online.
    pub fn register(&self, user: UserKey, connection: Arc<ConnectionState>) {
        let login = connection.identity().map(|identity| identity.login);
        {
            let mut shard = self.shard(user).write();
            shard.entry(user).or_default().push(Arc::clone(&connection));
        }
        self.online.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("zim_sessions").increment(1.0);
        // Checked after the insert: whatever ends the login from now on finds it in the table.
        let reason = self.ended.lock().iter().find(|(ended, _)| Some(*ended) == login).map(|(_, reason)| *reason);
        if let Some(reason) = reason {
            connection.queue.end(reason, end_message(reason));
            self.unregister(user, &connection);
        }
    }

    /// Remembers the end of a login, which may not be in the table yet.
    fn remember_ended(&self, login: LoginKey, reason: SessionEndReason) {
        let mut ended = self.ended.lock();
        if ended.len() == ENDED {
            ended.pop_front();
        }
        ended.push_back((login, reason));
    }

    /// Removes a connection. Returns true if it was online; a one-shot connection never is.
    pub fn unregister(&self, user: UserKey, connection: &Arc<ConnectionState>) -> bool {
        if connection.identity().is_some_and(|identity| identity.one_shot) {
            self.one_shots.unregister(user, connection);
            return false;
        }
        let mut shard = self.shard(user).write();
        let Some(connections) = shard.get_mut(&user) else { return false };
        let before = connections.len();
        connections.retain(|other| !Arc::ptr_eq(other, connection));
        let removed = before - connections.len();
        if connections.is_empty() {
            shard.remove(&user);
        }
        drop(shard);
        if removed > 0 {
            // After the removal from the table: no group takes the session from now on.
            self.groups[self.shard_index(user) % self.groups.len()].leave(user, connection);
            self.online.fetch_sub(removed, Ordering::Relaxed);
            metrics::gauge!("zim_sessions").decrement(1.0);
        }
        removed > 0
    }

    /// The number of connections that are online on this node; one-shot connections are not.
    pub fn len(&self) -> usize {
        self.online.load(Ordering::Relaxed)
    }

    /// Whether no connection is online on this node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the connections of a user.
    pub fn connections(&self, user: UserKey) -> Vec<Arc<ConnectionState>> {
        self.shard(user).read().get(&user).cloned().unwrap_or_default()
    }

    /// Whether a device of `user` has stored a message of a conversation, which the user calls `conversation`. Known for
    /// the connections of this node only: what a connection said is lost with it, and then counts as not stored.
    pub fn is_delivered(&self, user: UserKey, conversation: &ConversationRef, seq: u64) -> bool {
        let shard = self.shard(user).read();
        shard.get(&user).into_iter().flatten().any(|connection| connection.has_stored(conversation, seq))
    }

    /// Returns the logins of these users on this node that have stored a message of a conversation, which all of them call
    /// `conversation`.
    pub fn stored_by(
        &self,
        conversation: &ConversationRef,
        seq: u64,
        users: impl IntoIterator<Item = UserKey>,
    ) -> Vec<LoginKey> {
        self.logins(users, |connection| connection.has_stored(conversation, seq))
    }

    /// Returns the logins of these users on this node that have what happened: see [`ConnectionState::has_handled`].
    pub fn handled_by(&self, what: Happened, users: impl IntoIterator<Item = UserKey>) -> Vec<LoginKey> {
        self.logins(users, |connection| connection.has_handled(what))
    }

    fn logins(
        &self,
        users: impl IntoIterator<Item = UserKey>,
        is_meant: impl Fn(&ConnectionState) -> bool,
    ) -> Vec<LoginKey> {
        let connections = users.into_iter().flat_map(|user| self.connections(user));
        let meant = connections.filter(|connection| is_meant(connection));
        meant.filter_map(|connection| connection.identity().map(|identity| identity.login)).collect()
    }

    /// Whether a login has a connection to this node.
    pub fn is_online(&self, user: UserKey, login: LoginKey) -> bool {
        let shard = self.shard(user).read();
        let mut connections = shard.get(&user).into_iter().flatten();
        connections.any(|connection| connection.identity().is_some_and(|identity| identity.login == login))
    }

    /// Notes that a login is being stored, until the guard is dropped. It comes before the login is in the store, and the
    /// guard goes when its connection is registered: so at no time does a login seem to have lost its connection.
    pub fn storing(&self, login: LoginKey) -> Storing<'_> {
        self.storing.lock().insert(login);
        Storing { fanout: self, login }
    }

    /// Whether a login has a connection to this node, or is about to have one.
    pub fn is_online_or_stored(&self, user: UserKey, login: LoginKey) -> bool {
        // In this order: a login that is not being stored any more is registered.
        self.storing.lock().contains(&login) || self.is_online(user, login)
    }

    /// Returns the connections that are online on this node.
    pub fn online(&self) -> Vec<Arc<ConnectionState>> {
        self.shards.iter().flat_map(|shard| shard.read().values().flatten().cloned().collect::<Vec<_>>()).collect()
    }

    /// Returns all connections that are logged in, including one-shot ones, for the operator.
    pub fn all(&self) -> Vec<Arc<ConnectionState>> {
        self.online().into_iter().chain(self.one_shots.all()).collect()
    }
}

#[cfg(test)]
mod group_ends_tests;
#[cfg(test)]
mod group_pushes_tests;
#[cfg(test)]
mod pushes_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Identity;
    use crate::key::AppKey;

    pub(super) fn connection(login: i64) -> Arc<ConnectionState> {
        connection_of(UserKey(1), login)
    }

    pub(super) fn connection_of(user: UserKey, login: i64) -> Arc<ConnectionState> {
        let state = ConnectionState::new("127.0.0.1:1".parse().unwrap(), 5, [1; 16], String::new(), 100_000);
        state.log_in(Identity {
            app: AppKey(1),
            user,
            user_id: "ann".into(),
            login: LoginKey(login),
            ticket: [0; 16],
            login_at: 0,
            one_shot: false,
        });
        Arc::new(state)
    }

    #[test]
    fn an_ended_login_loses_its_connection_registered_before_or_after() {
        let fanout = Fanout::default();
        let (first, second, other) = (connection(10), connection(20), connection(30));
        fanout.register(UserKey(1), Arc::clone(&first));
        fanout.end_login(UserKey(1), LoginKey(10), SessionEndReason::KickedOut);
        fanout.end_login(UserKey(1), LoginKey(20), SessionEndReason::Unspecified);
        fanout.register(UserKey(1), Arc::clone(&second));
        fanout.register(UserKey(1), Arc::clone(&other));
        assert!(first.queue.is_ended());
        assert!(second.queue.is_ended());
        assert!(!other.queue.is_ended());
        // The login is offline at once, before its client has read the reason.
        assert_eq!((fanout.len(), fanout.connections(UserKey(1)).len()), (1, 1));
    }

    /// Many logins can end while one of them is between the store and the table.
    #[test]
    fn the_last_4096_logins_that_ended_are_remembered() {
        let fanout = Fanout::default();
        let end = |login| fanout.end_login(UserKey(1), LoginKey(login), SessionEndReason::KickedOut);
        let is_ended = |login| {
            let late = connection(login);
            fanout.register(UserKey(1), Arc::clone(&late));
            late.queue.is_ended()
        };
        (1..=4_096).for_each(end);
        for login in [1, 2, 2_048, 4_096] {
            assert!(is_ended(login), "{login}");
        }
        assert!(!is_ended(4_097));
        // There is room for no more: the first is forgotten.
        end(4_097);
        assert_eq!([1, 2, 4_097].map(is_ended), [false, true, true]);
    }

    #[test]
    fn a_login_is_known_from_before_it_is_stored_until_its_connection_ends() {
        let (fanout, ann) = (Fanout::default(), connection(10));
        let is_known = || fanout.is_online_or_stored(UserKey(1), LoginKey(10));
        assert!(!is_known());
        let storing = fanout.storing(LoginKey(10));
        assert!(is_known() && !fanout.is_online_or_stored(UserKey(1), LoginKey(11)));
        fanout.register(UserKey(1), Arc::clone(&ann));
        drop(storing);
        assert!(is_known());
        fanout.unregister(UserKey(1), &ann);
        assert!(!is_known());
        // The request ended before the login was stored.
        drop(fanout.storing(LoginKey(10)));
        assert!(!is_known());
    }

    #[test]
    fn an_unregistered_connection_is_not_found() {
        let fanout = Fanout::default();
        let one = connection(10);
        fanout.register(UserKey(1), Arc::clone(&one));
        assert_eq!(fanout.connections(UserKey(1)).len(), 1);
        assert!(fanout.unregister(UserKey(1), &one));
        assert!(!fanout.unregister(UserKey(1), &one));
        assert!(fanout.is_empty() && fanout.connections(UserKey(1)).is_empty());
    }
}
