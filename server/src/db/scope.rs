//! What a job may change.

use super::locks::Locks;
use crate::key::{ConversationKey, UserKey};

/// The users and conversations whose logs a job may append to, and whose state it changes. It fixes both the queue that the
/// job waits in and the rows that are locked before it begins.
///
/// Jobs whose scope begins with the same user or conversation run in the order of their submission. Jobs whose scopes have a
/// user or a conversation in common never run at the same time.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    partition: u64,
    locks: Locks,
}

impl Scope {
    /// Returns the scope of a job that appends to no log.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the scope of a job that makes something of this name: jobs for one name run in the order of their submission.
    pub fn name(name: &str) -> Self {
        let add = |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte));
        Self::none().in_partition(name.bytes().fold(0, add))
    }

    /// Returns the scope of a job that changes a user.
    pub fn user(user: UserKey) -> Self {
        Self { partition: user.0.unsigned_abs(), locks: Locks::user(user.0) }
    }

    /// Returns the scope of a job that changes a conversation.
    pub fn conversation(conversation: ConversationKey) -> Self {
        Self { partition: conversation.0.unsigned_abs(), locks: Locks::conversation(conversation.0) }
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

    /// Adds conversations.
    #[must_use]
    pub fn and_conversations(mut self, conversations: impl IntoIterator<Item = ConversationKey>) -> Self {
        self.locks.conversations.extend(conversations.into_iter().map(|conversation| conversation.0));
        self
    }

    /// Puts the job into the queue of `partition`.
    #[must_use]
    pub(crate) fn in_partition(self, partition: u64) -> Self {
        Self { partition, ..self }
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

    pub(super) fn into_parts(self) -> (u64, Locks) {
        (self.partition, self.locks)
    }
}
