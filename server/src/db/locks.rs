//! Heads that a job needs, locked before it begins. All transactions lock in one order, so none waits for another crosswise.

use std::fmt::Write;

/// Users that one job locks at most. What concerns more is an entry of the conversation, or a due job in pages.
pub const MAX_LOCKED_USERS: usize = 101;

/// The rows whose lock gives a job the right to number what it appends. On PostgreSQL the queue locks those of a whole batch
/// first; SQLite has one writer, who needs none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    /// Conversations.
    pub conversations: Vec<i64>,
    /// Users.
    pub users: Vec<i64>,
}

impl Locks {
    /// The job appends to no log.
    pub fn none() -> Self {
        Self::default()
    }

    /// The head of a conversation.
    pub fn conversation(id: i64) -> Self {
        Self { conversations: vec![id], users: Vec::new() }
    }

    /// The head of a user's feed.
    pub fn user(id: i64) -> Self {
        Self { conversations: Vec::new(), users: vec![id] }
    }

    /// The heads of several users' feeds.
    pub fn users(ids: impl IntoIterator<Item = i64>) -> Self {
        Self { conversations: Vec::new(), users: ids.into_iter().collect() }
    }

    /// And of this conversation.
    #[must_use]
    pub fn and_conversation(mut self, id: i64) -> Self {
        self.conversations.push(id);
        self
    }

    /// And of this user's feed.
    #[must_use]
    pub fn and_user(mut self, id: i64) -> Self {
        self.users.push(id);
        self
    }

    /// And of these users' feeds.
    #[must_use]
    pub fn and_users(mut self, ids: impl IntoIterator<Item = i64>) -> Self {
        self.users.extend(ids);
        self
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.conversations.extend(&other.conversations);
        self.users.extend(&other.users);
    }

    /// Each once, ascending.
    pub(super) fn sort(&mut self) {
        for ids in [&mut self.conversations, &mut self.users] {
            ids.sort_unstable();
            ids.dedup();
        }
    }

    /// The statements that take them. The ids stand in the text, so that all of it goes with `BEGIN` in one round trip.
    pub(super) fn append_sql(&self, sql: &mut String) {
        for (table, ids) in [("conversation", &self.conversations), ("account", &self.users)] {
            if ids.is_empty() {
                continue;
            }
            // PostgreSQL locks in the order of the rows only if they are sorted before they are locked: ORDER BY does that,
            // UPDATE … IN does not. Writing to a String does not fail.
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
        let mut locks = Locks::user(9).and_conversation(5).and_user(-3);
        locks.extend(&Locks::conversation(2).and_conversation(5));
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
