//! What a job locks before it begins. All transactions lock in the same order, so they do not deadlock.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::key::AppKey;

/// The largest number of users that one transaction locks. A change that concerns more users is an entry of the
/// conversation, or is done in pages.
pub const MAX_LOCKED_USERS: usize = 102;

/// The most users who are in a call or asked into it.
pub const USERS_OF_CALL: usize = 10;

/// The class of the advisory locks of names, "name" in ASCII.
const NAMES: i32 = 0x6e61_6d65;
/// The class of the advisory locks of marks, "mark" in ASCII.
pub(super) const MARKS: i32 = 0x6d61_726b;

/// The next mark. Two nodes do not begin with the same one: equal marks would do no harm, but wait for each other.
static NEXT_MARK: LazyLock<AtomicU32> = LazyLock::new(|| {
    let mut first = [0; 4];
    // Without a random number it begins with 0.
    let _ = getrandom::fill(&mut first);
    AtomicU32::new(u32::from_ne_bytes(first))
});

/// The rows whose locks allow a job to number what it appends. On PostgreSQL a transaction first takes the locks of its
/// whole batch. SQLite has one writer and needs no locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Locks {
    /// Conversations.
    pub(super) conversations: Vec<i64>,
    /// Calls, each with all users who are in it or asked into it.
    pub(super) calls: Vec<i64>,
    /// Users.
    pub(super) users: Vec<i64>,
    /// Users whose rows the job only reads, and which must not change until it is done.
    pub(super) shared_users: Vec<i64>,
    /// Hashes of names of users that may be registered: without a row there is nothing else to lock.
    names: Vec<i32>,
    /// What one transaction locks by which the others cannot tell that it is over; see [`Locks::of_all`].
    mark: Option<i32>,
}

impl Locks {
    /// Returns no locks, for a job that appends to no log.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// Locks the head of a conversation.
    pub(super) fn conversation(id: i64) -> Self {
        Self { conversations: vec![id], ..Self::default() }
    }

    /// Locks a call and those who are in it or asked into it.
    pub(super) fn call(id: i64) -> Self {
        Self { calls: vec![id], ..Self::default() }
    }

    /// Locks the head of a user's feed.
    pub(super) fn user(id: i64) -> Self {
        Self { users: vec![id], ..Self::default() }
    }

    /// Locks the name of a user who is registered.
    pub(super) fn name(app: AppKey, user_id: &str) -> Self {
        Self { names: vec![name_hash(app, user_id)], ..Self::default() }
    }

    /// Whether no row is locked.
    pub(super) fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.calls.is_empty() && self.users.is_empty() && self.shared_users.is_empty()
    }

    /// Whether all names of others are among these.
    #[cfg(test)]
    pub(super) fn has_names(&self, others: &Self) -> bool {
        others.names.iter().all(|name| self.names.contains(name))
    }

    /// Returns the number of users, those that are named twice included.
    pub(super) fn user_count(&self) -> usize {
        self.users.len() + self.shared_users.len() + self.names.len() + self.calls.len() * USERS_OF_CALL
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.conversations.extend(&other.conversations);
        self.calls.extend(&other.calls);
        self.users.extend(&other.users);
        self.shared_users.extend(&other.shared_users);
        self.names.extend(&other.names);
    }

    /// Sorts the ids and removes duplicates.
    pub(super) fn sort(&mut self) {
        for ids in [&mut self.conversations, &mut self.calls, &mut self.users, &mut self.shared_users] {
            ids.sort_unstable();
            ids.dedup();
        }
        self.names.sort_unstable();
        self.names.dedup();
        let users = &self.users;
        self.shared_users.retain(|id| users.binary_search(id).is_err());
    }

    /// Returns the locks of a transaction that does the work that wants these, sorted. Whoever gets the same locks later knows that the
    /// transaction has ended. Work that wants none, or such that others share, does not show that, and what the rest wants may not exist:
    /// then the transaction also has a mark.
    pub(super) fn of_all<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut all, mut is_shown) = (Self::none(), true);
        for part in parts {
            is_shown &= part.show_the_end();
            all.extend(part);
        }
        all.sort();
        if !is_shown {
            all.mark();
        }
        all
    }

    /// Whether these locks show when the transaction that takes them has ended. A row that does not exist is not locked, so it shows
    /// nothing. Most jobs that name one change nothing. One that does is the removal of what is kept of a room that has ended: if its
    /// commit is in doubt, that may count as decided too early.
    fn show_the_end(&self) -> bool {
        let mut rows = [&self.conversations, &self.calls, &self.users].into_iter();
        rows.any(|ids| !ids.is_empty()) || !self.names.is_empty()
    }

    /// Adds a lock that no other transaction wants.
    fn mark(&mut self) {
        self.mark = Some(NEXT_MARK.fetch_add(1, Ordering::Relaxed).cast_signed());
    }

    /// Appends the statements that take the locks, which are sorted. The text contains the ids, so that one round trip sends
    /// it with `BEGIN`.
    pub(super) fn append_sql(&self, sql: &mut String) {
        if let Some(mark) = self.mark {
            // Writing to a String does not fail.
            let _ = write!(sql, "; SELECT pg_advisory_xact_lock({MARKS}, {mark})");
        }
        for (index, name) in self.names.iter().enumerate() {
            // The expressions of a SELECT are evaluated from left to right.
            let start = if index == 0 { "; SELECT " } else { ", " };
            // Writing to a String does not fail.
            let _ = write!(sql, "{start}pg_advisory_xact_lock({NAMES}, {name})");
        }
        append_rows(sql, "conversation", &self.conversations, "FOR UPDATE");
        if !self.calls.is_empty() {
            append_rows(sql, "chat_call", &self.calls, "FOR UPDATE");
            return self.append_users_of_calls(sql);
        }
        // Rows of both kinds are locked in one order, so each change of the kind begins another statement.
        let mut users: Vec<(i64, bool)> = self.users.iter().map(|id| (*id, false)).collect();
        users.extend(self.shared_users.iter().map(|id| (*id, true)));
        users.sort_unstable();
        for run in users.chunk_by(|(_, one), (_, other)| one == other) {
            let ids: Vec<i64> = run.iter().map(|(id, _)| *id).collect();
            let is_shared = run.first().is_some_and(|(_, is_shared)| *is_shared);
            append_rows(sql, "account", &ids, if is_shared { "FOR SHARE" } else { "FOR UPDATE" });
        }
    }

    /// Locks the users of the calls together with the others. The calls are locked by now, so nobody enters them meanwhile. Where
    /// the users of calls stand among the shared ones is not known before, so all are locked alike.
    fn append_users_of_calls(&self, sql: &mut String) {
        let (calls, mut users) = (list(&self.calls), self.users.clone());
        users.extend(&self.shared_users);
        users.sort_unstable();
        let users = list(&users);
        // An array instead of `IN`: it is computed first, and the users are found by their key.
        let _ = write!(
            sql,
            "; SELECT id FROM account WHERE id = ANY(ARRAY(SELECT account FROM call_user WHERE call IN ({calls}) \
             AND state IN (0,1,5,9)) || ARRAY[{users}]::BIGINT[]) ORDER BY id FOR UPDATE"
        );
    }
}

/// Returns ids with commas between them.
fn list(ids: &[i64]) -> String {
    let mut text = String::new();
    for (index, id) in ids.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String does not fail.
        let _ = write!(text, "{comma}{id}");
    }
    text
}

fn append_rows(sql: &mut String, table: &str, ids: &[i64], mode: &str) {
    if ids.is_empty() {
        return;
    }
    // PostgreSQL locks rows in the order in which it reads them. ORDER BY sorts them first; UPDATE … IN does not.
    let _ = write!(sql, "; SELECT id FROM {table} WHERE id IN ({}) ORDER BY id {mode}", list(ids));
}

/// A hash (FNV-1a) that is the same on every server. Two names with one hash only wait for each other.
fn name_hash(app: AppKey, user_id: &str) -> i32 {
    let add = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    app.0.to_be_bytes().iter().chain(user_id.as_bytes()).fold(0x811c_9dc5, add).cast_signed()
}

/// Decides which jobs share a transaction, so that no transaction locks more than [`MAX_LOCKED_USERS`] users.
#[derive(Debug, Default)]
pub(super) struct LockLimit {
    users: HashSet<i64>,
    /// Names need no ids of their own: a name that is counted twice ends a batch a little earlier. The same goes for the users of
    /// calls, whose ids are not known here.
    unnamed: usize,
}

impl LockLimit {
    /// Adds the locks of another job; returns false if they are too many.
    pub(super) fn admits(&mut self, locks: &Locks) -> bool {
        if locks.user_count() == 0 {
            return true;
        }
        self.users.extend(locks.users.iter().chain(&locks.shared_users));
        self.unnamed += locks.names.len() + locks.calls.len() * USERS_OF_CALL;
        self.users.len() + self.unnamed <= MAX_LOCKED_USERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(all: &[Locks]) -> String {
        let mut locks = Locks::none();
        all.iter().for_each(|more| locks.extend(more));
        locks.sort();
        let mut sql = "BEGIN".to_owned();
        locks.append_sql(&mut sql);
        sql
    }

    fn users(ids: impl IntoIterator<Item = i64>) -> Locks {
        Locks { users: ids.into_iter().collect(), ..Locks::none() }
    }

    fn shared(ids: impl IntoIterator<Item = i64>) -> Locks {
        Locks { shared_users: ids.into_iter().collect(), ..Locks::none() }
    }

    #[test]
    fn heads_are_locked_in_one_order() {
        let conversations = [5, 2, 5].map(Locks::conversation);
        assert_eq!(
            sql(&[&[Locks::user(9), Locks::user(-3)][..], &conversations].concat()),
            "BEGIN; SELECT id FROM conversation WHERE id IN (2,5) ORDER BY id FOR UPDATE; \
             SELECT id FROM account WHERE id IN (-3,9) ORDER BY id FOR UPDATE"
        );
    }

    #[test]
    fn the_users_of_calls_are_locked_after_the_calls_and_among_the_other_users() {
        let (calls, users) = ([7, 4].map(Locks::call), [users([9]), shared([3])]);
        assert_eq!(
            sql(&[&calls[..], &users[..], &[Locks::conversation(5)]].concat()),
            "BEGIN; SELECT id FROM conversation WHERE id IN (5) ORDER BY id FOR UPDATE; \
             SELECT id FROM chat_call WHERE id IN (4,7) ORDER BY id FOR UPDATE; \
             SELECT id FROM account WHERE id = ANY(ARRAY(SELECT account FROM call_user WHERE call IN (4,7) \
             AND state IN (0,1,5,9)) || ARRAY[3,9]::BIGINT[]) ORDER BY id FOR UPDATE"
        );
    }

    #[test]
    fn shared_and_exclusive_rows_are_locked_in_one_order() {
        assert_eq!(
            sql(&[users([4, 2]), shared([3, 1, 5, 4, 6, 6])]),
            "BEGIN; SELECT id FROM account WHERE id IN (1) ORDER BY id FOR SHARE; \
             SELECT id FROM account WHERE id IN (2) ORDER BY id FOR UPDATE; \
             SELECT id FROM account WHERE id IN (3) ORDER BY id FOR SHARE; \
             SELECT id FROM account WHERE id IN (4) ORDER BY id FOR UPDATE; \
             SELECT id FROM account WHERE id IN (5,6) ORDER BY id FOR SHARE"
        );
    }

    #[test]
    fn names_are_locked_in_one_order() {
        let (one, other) = (Locks::name(AppKey(1), "ann"), Locks::name(AppKey(1), "bob"));
        let forward = sql(&[one.clone(), other.clone()]);
        assert_eq!(forward, sql(&[other, one.clone()]));
        assert_eq!(forward.matches("pg_advisory_xact_lock").count(), 2);
        assert_ne!(one, Locks::name(AppKey(2), "ann"));
    }

    /// Returns the mark of a transaction with these parts in the statements that take its locks.
    fn mark(parts: &[Locks]) -> Option<String> {
        let locks = Locks::of_all(parts);
        let mut sql = String::new();
        locks.append_sql(&mut sql);
        let (_, rest) = sql.split_once(&format!("pg_advisory_xact_lock({MARKS}, "))?;
        rest.split(')').next().map(str::to_owned)
    }

    #[test]
    fn a_transaction_that_nobody_would_wait_for_has_a_mark_of_its_own() {
        let marks = [Locks::none(), Locks::none(), shared([3])].map(|locks| mark(&[locks]).unwrap());
        assert_eq!(marks.iter().collect::<HashSet<_>>().len(), marks.len());
        for locks in [Locks::conversation(1), Locks::call(1), Locks::user(1), Locks::name(AppKey(1), "ann")] {
            assert_eq!(mark(&[locks.clone(), Locks::user(2)]), None, "{locks:?}");
        }
    }

    /// The rows of the other work may not exist.
    #[test]
    fn work_without_locks_has_a_mark_also_beside_other_work() {
        for others in [Locks::none(), shared([3])] {
            assert!(mark(&[Locks::user(1), others.clone()]).is_some(), "{others:?}");
            assert!(mark(&[others.clone(), Locks::user(1)]).is_some(), "{others:?}");
        }
    }

    #[test]
    fn a_transaction_locks_a_limited_number_of_users() {
        let mut limit = LockLimit::default();
        assert!(limit.admits(&users(0..60)));
        assert!(limit.admits(&Locks::conversation(1)), "conversations do not count");
        assert!(limit.admits(&Locks { users: (20..60).collect(), ..shared(60..100) }), "the same users count once");
        assert!(limit.admits(&Locks::name(AppKey(1), "ann")));
        assert!(limit.admits(&Locks::name(AppKey(1), "bob")));
        assert!(!limit.admits(&Locks::user(100)));
        let mut limit = LockLimit::default();
        assert!((0..10).all(|call| limit.admits(&Locks::call(call))));
        assert!(!limit.admits(&Locks::call(10)));
    }
}
