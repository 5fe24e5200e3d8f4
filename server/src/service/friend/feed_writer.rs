//! Writes a job's entries into the feeds of the two users. Entries are appended as the job proceeds and resolved at its
//! end, so that each shows the state after the job.

use std::collections::HashMap;

use zim_protocol::{Push, feed_entry::Detail};

use super::{application, store};
use crate::db::Tx;
use crate::effect::Effect;
use crate::error::Error;
use crate::fanout::feed_push;
use crate::journal::{FeedKind, append_feed};
use crate::key::{LoginKey, UserKey};

/// The feed entries of one job.
#[derive(Debug)]
pub(super) struct FeedWriter {
    caller: UserKey,
    login: LoginKey,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    user: UserKey,
    pos: i64,
    kind: FeedKind,
    key: i64,
}

impl FeedWriter {
    /// Creates a writer for a request of `caller` on `login`.
    pub(super) fn new(caller: UserKey, login: LoginKey) -> Self {
        Self { caller, login, entries: Vec::new() }
    }

    /// Appends an entry about `other` to the feed of `user`, whose head the job has locked. Returns its position.
    pub(super) async fn add(
        &mut self,
        tx: &mut Tx<'_>,
        user: UserKey,
        kind: FeedKind,
        other: UserKey,
    ) -> Result<i64, Error> {
        let pos = append_feed(tx, user, kind, other.0).await?;
        self.entries.push(Entry { user, pos, kind, key: other.0 });
        Ok(pos)
    }

    /// Emits all entries. Returns the pushes for the response to the caller. Takes one statement for each user and
    /// kind.
    pub(super) async fn emit(self, tx: &mut Tx<'_>) -> Result<Vec<Push>, Error> {
        let mut details: HashMap<(UserKey, i64, i64), Detail> = HashMap::with_capacity(self.entries.len());
        let mut groups: Vec<(UserKey, FeedKind, Vec<i64>)> = Vec::new();
        for entry in &self.entries {
            match groups.iter_mut().find(|group| group.0 == entry.user && group.1 == entry.kind) {
                Some(group) => group.2.push(entry.key),
                None => groups.push((entry.user, entry.kind, vec![entry.key])),
            }
        }
        for (user, kind, keys) in groups {
            let found = match kind {
                FeedKind::Application => application::feed_entries(tx, user, &keys).await?,
                _ => store::feed_entries(tx, user, &keys).await?,
            };
            details.extend(found.into_iter().map(|(key, detail)| ((user, kind as i64, key), detail)));
        }
        let mut pushes = Vec::new();
        for Entry { user, pos, kind, key } in self.entries {
            let Some(detail) = details.get(&(user, kind as i64, key)) else { continue };
            if user == self.caller {
                pushes.push(feed_push(pos, detail.clone()));
            }
            tx.emit(Effect::Feed { user, pos, entry: Box::new(detail.clone()), cause: self.login });
        }
        Ok(pushes)
    }
}
