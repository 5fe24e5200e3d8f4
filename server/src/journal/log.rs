//! Writes a job's entries into logs. Entries are appended as the job proceeds and resolved at its end, so that each shows
//! the state after the job.

use std::collections::HashMap;

use zim_protocol::{FeedEntry, Push, feed_entry::Detail};

use super::feed::{self, FeedKind};
use super::push::feed_push;
use crate::db::Tx;
use crate::effect::Effect;
use crate::error::Error;
use crate::key::{LoginKey, UserKey};

/// The log entries of one job.
#[derive(Debug)]
pub struct LogWriter {
    cause: Option<Cause>,
    entries: Vec<Entry>,
}

/// The login that asked for a change. It gets the entries of the change with its response, not as a push.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// The user.
    pub user: UserKey,
    /// The login.
    pub login: LoginKey,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    user: UserKey,
    pos: i64,
    kind: &'static FeedKind,
    key: i64,
}

impl LogWriter {
    /// Creates a writer for a job that a login asked for, or else the server itself.
    pub fn new(cause: Option<Cause>) -> Self {
        Self { cause, entries: Vec::new() }
    }

    /// Returns the login that asked for the job; 0 stands for the server.
    pub fn login(&self) -> LoginKey {
        self.cause.map_or(LoginKey(0), |cause| cause.login)
    }

    /// Appends an entry to the feed of `user`, who is in the scope of the job. Returns its position.
    ///
    /// # Errors
    /// The store fails.
    pub async fn feed(
        &mut self,
        tx: &mut Tx<'_>,
        user: UserKey,
        kind: &'static FeedKind,
        key: impl Into<i64>,
    ) -> Result<i64, Error> {
        self.feed_all(tx, user, kind, &[key.into()]).await
    }

    /// Appends an entry for each of these keys, which are distinct, to the feed of `user`. Returns the position of the
    /// first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn feed_all(
        &mut self,
        tx: &mut Tx<'_>,
        user: UserKey,
        kind: &'static FeedKind,
        keys: &[i64],
    ) -> Result<i64, Error> {
        let first = feed::append(tx, user, kind, keys).await?;
        self.entries.extend((first..).zip(keys).map(|(pos, key)| Entry { user, pos, kind, key: *key }));
        Ok(first)
    }

    /// Resolves and emits all entries. Returns the pushes for the response. Takes one statement for each user and kind.
    ///
    /// # Errors
    /// The store fails.
    pub async fn finish(self, tx: &mut Tx<'_>) -> Result<Vec<Push>, Error> {
        let mut details: HashMap<(UserKey, i64, i64), Detail> = HashMap::with_capacity(self.entries.len());
        let mut groups: Vec<(UserKey, &'static FeedKind, Vec<i64>)> = Vec::new();
        for entry in &self.entries {
            match groups.iter_mut().find(|group| group.0 == entry.user && group.1.number == entry.kind.number) {
                Some(group) => group.2.push(entry.key),
                None => groups.push((entry.user, entry.kind, vec![entry.key])),
            }
        }
        for (user, kind, keys) in groups {
            let found = (kind.resolve)(tx, user, &keys).await?;
            details.extend(found.into_iter().map(|(key, detail)| ((user, kind.number, key), detail)));
        }
        let mut own = Vec::new();
        for Entry { user, pos, kind, key } in self.entries {
            let Some(detail) = details.get(&(user, kind.number, key)) else { continue };
            if self.cause.is_some_and(|cause| cause.user == user) {
                own.push(FeedEntry { pos: pos.unsigned_abs(), detail: Some(detail.clone()) });
            }
            let cause = self.cause.map_or(LoginKey(0), |cause| cause.login);
            tx.emit(Effect::Feed { user, pos, entry: Box::new(detail.clone()), cause });
        }
        // The positions of one request are mostly consecutive: they need one push, not one each.
        Ok(own.chunk_by(|one, next| one.pos + 1 == next.pos).map(|run| feed_push(run.to_vec())).collect())
    }
}
