//! The heads that a job needs, locked before it begins. All transactions lock in the same order, so they do not deadlock.

use std::fmt::Write;

/// The largest number of users that one job locks. A change that concerns more users is an entry of the conversation, or is
/// done in pages.
pub const MAX_LOCKED_USERS: usize = 101;

/// The rows whose locks allow a job to number what it appends. On PostgreSQL a transaction first locks the rows of its whole
/// batch. SQLite has one writer and needs no locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Locks {
    /// Conversations.
    pub(super) conversations: Vec<i64>,
    /// Users.
    pub(super) users: Vec<i64>,
}

impl Locks {
    /// Returns no locks, for a job that appends to no log.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// Locks the head of a conversation.
    pub(super) fn conversation(id: i64) -> Self {
        Self { conversations: vec![id], users: Vec::new() }
    }

    /// Locks the head of a user's feed.
    pub(super) fn user(id: i64) -> Self {
        Self { conversations: Vec::new(), users: vec![id] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.users.is_empty()
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.conversations.extend(&other.conversations);
        self.users.extend(&other.users);
    }

    /// Sorts the ids and removes duplicates.
    pub(super) fn sort(&mut self) {
        for ids in [&mut self.conversations, &mut self.users] {
            ids.sort_unstable();
            ids.dedup();
        }
    }

    /// Appends the statements that take the locks. The text contains the ids, so that one round trip sends it with `BEGIN`.
    pub(super) fn append_sql(&self, sql: &mut String) {
        for (table, ids) in [("conversation", &self.conversations), ("account", &self.users)] {
            if ids.is_empty() {
                continue;
            }
            // PostgreSQL locks rows in the order in which it reads them. ORDER BY sorts them first; UPDATE … IN does not.
            // Writing to a String does not fail.
            let _ = write!(sql, "; SELECT id FROM {table} WHERE id IN (");
            for (index, id) in ids.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(sql, "{comma}{id}");
            }
            sql.push_str(") ORDER BY id FOR UPDATE");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_locked_in_one_order() {
        let mut locks = Locks::user(9);
        for more in [Locks::conversation(5), Locks::user(-3), Locks::conversation(2), Locks::conversation(5)] {
            locks.extend(&more);
        }
        locks.sort();
        let mut sql = "BEGIN".to_owned();
        locks.append_sql(&mut sql);
        assert_eq!(
            sql,
            "BEGIN; SELECT id FROM conversation WHERE id IN (2,5) ORDER BY id FOR UPDATE; \
             SELECT id FROM account WHERE id IN (-3,9) ORDER BY id FOR UPDATE"
        );
    }
}
