//! What a job may change.

use super::locks::Locks;
use super::queue::Cost;
use crate::key::{AppKey, CallKey, ConversationKey, UserKey};

/// The users, conversations and calls whose logs a job may append to, and whose state it changes. It fixes both the queue that the
/// job waits in and the rows that are locked before it begins.
///
/// Jobs whose scope begins with the same user or conversation run in the order of their submission. Jobs whose scopes have a
/// user or a conversation in common never run at the same time.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    partition: u64,
    locks: Locks,
    cost: Cost,
}

impl Scope {
    /// Returns the scope of a job that appends to no log.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the scope of a job that registers a user: jobs for one name run in the order of their submission. There is no row
    /// yet, so the name itself is locked: two transactions that register the same users do not wait for each other crosswise.
    pub fn name(app: AppKey, user_id: &str) -> Self {
        let add = |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte));
        let partition = user_id.bytes().fold(0, add);
        Self { partition, locks: Locks::name(app, user_id), cost: Cost::default() }
    }

    /// Returns the scope of a job that changes a user.
    pub fn user(user: UserKey) -> Self {
        Self { partition: user.0.unsigned_abs(), locks: Locks::user(user.0), cost: Cost::default() }
    }

    /// Returns the scope of a job that changes a conversation.
    pub fn conversation(conversation: ConversationKey) -> Self {
        let locks = Locks::conversation(conversation.0);
        Self { partition: conversation.0.unsigned_abs(), locks, cost: Cost::default() }
    }

    /// Returns the scope of a job that changes a call. It includes all users who are in the call or asked into it.
    pub fn call(call: CallKey) -> Self {
        Self { partition: call.0.unsigned_abs(), locks: Locks::call(call.0), cost: Cost::default() }
    }

    /// Puts the job into the queue of a conversation that it makes: what it commits is handed over before what later jobs append.
    #[must_use]
    pub fn makes(self, conversation: ConversationKey) -> Self {
        Self { partition: Self::conversation(conversation).partition, ..self }
    }

    /// Adds a name, which is that of no user.
    #[must_use]
    pub fn and_name(mut self, app: AppKey, name: &str) -> Self {
        self.locks.extend(&Locks::name(app, name));
        self
    }

    /// Adds a user.
    #[must_use]
    pub fn and_user(self, user: UserKey) -> Self {
        self.and_users([user])
    }

    /// Adds users.
    #[must_use]
    pub fn and_users(mut self, users: impl IntoIterator<Item = UserKey>) -> Self {
        self.locks.users.extend(users.into_iter().map(|user| user.0));
        self
    }

    /// Adds users whose rows the job only reads, and which must not change until it is done. Such jobs do not wait for each other.
    #[must_use]
    pub fn and_shared_users(mut self, users: impl IntoIterator<Item = UserKey>) -> Self {
        self.locks.shared_users.extend(users.into_iter().map(|user| user.0));
        self
    }

    /// Adds conversations.
    #[must_use]
    pub fn and_conversations(mut self, conversations: impl IntoIterator<Item = ConversationKey>) -> Self {
        self.locks.conversations.extend(conversations.into_iter().map(|conversation| conversation.0));
        self
    }

    /// The job is the app's and holds `bytes` of payload while it waits. It takes from the app's share of the queue. Without this
    /// it is the server's own work, which has no share.
    #[must_use]
    pub fn for_app(self, app: AppKey, bytes: usize) -> Self {
        Self { cost: Cost { app: Some(app), bytes }, ..self }
    }

    /// Puts the job into the queue of `partition`.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn in_partition(self, partition: u64) -> Self {
        Self { partition, ..self }
    }

    /// Whether the job waits for all others with this name.
    #[cfg(test)]
    pub(crate) fn has_name(&self, app: AppKey, name: &str) -> bool {
        self.locks.has_names(&Locks::name(app, name))
    }

    /// Whether no row is locked for the job.
    pub(crate) fn is_unlocked(&self) -> bool {
        self.locks.is_empty()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = UserKey> {
        self.locks.users.iter().copied().map(UserKey)
    }

    pub(super) fn conversations(&self) -> impl Iterator<Item = ConversationKey> {
        self.locks.conversations.iter().copied().map(ConversationKey)
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = CallKey> {
        self.locks.calls.iter().copied().map(CallKey)
    }

    pub(super) fn into_parts(self) -> (u64, Locks, Cost) {
        (self.partition, self.locks, self.cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_makes_a_conversation_is_in_its_queue() {
        let (conversation, user) = (ConversationKey(7), UserKey(3));
        let scope = Scope::name(AppKey(1), "group/crew").and_user(user);
        let (_, locks, _) = scope.clone().into_parts();
        let (partition, same_locks, _) = scope.makes(conversation).into_parts();
        assert_eq!((partition, same_locks), (Scope::conversation(conversation).into_parts().0, locks));
    }
}
