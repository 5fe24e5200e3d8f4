//! Writes a job's entries into logs. Entries are appended as the job proceeds and resolved at its end, so that each shows
//! the state after the job.

use std::collections::HashMap;
use std::sync::Arc;

use zim_protocol::{ChangeEntry, ExpiredMessages, FeedEntry, GroupChange, MessageChange, Push, feed_entry::Detail};

use super::change::{self, Subject};
use super::feed::{self, FeedKind};
use super::push::{change_push, feed_push};
use super::roster::{RosterEvent, RosterRecord};
use super::visible::Viewer;
use crate::db::Tx;
use crate::effect::{Audience, Effect};
use crate::error::Error;
use crate::key::{ConversationKey, LoginKey, Scrambler, UserKey};

/// The log entries of one job.
#[derive(Debug)]
pub struct LogWriter {
    cause: Option<Cause>,
    entries: Vec<Entry>,
    /// Entries whose values are known.
    resolved: Vec<(UserKey, i64, Detail)>,
    /// Each with its position, and the last one at which a stay ended.
    changes: Vec<(ChangedConversation, i64, i64)>,
}

/// A conversation that a job changes.
#[derive(Clone, Debug)]
pub struct ChangedConversation {
    /// The conversation.
    pub key: ConversationKey,
    /// The users who are notified.
    pub audience: Audience,
    /// Scrambles the IDs that the app's clients see.
    pub scrambler: Arc<Scrambler>,
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
        Self { cause, entries: Vec::new(), resolved: Vec::new(), changes: Vec::new() }
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

    /// Appends an entry with this kind and key to the feed of each of these users, who are in the scope of the job, with its value
    /// for each: that at the end of the job. Takes three statements, whatever the number of users.
    ///
    /// # Errors
    /// The store fails.
    pub async fn feed_each(
        &mut self,
        tx: &mut Tx<'_>,
        kind: &'static FeedKind,
        key: impl Into<i64>,
        entries: Vec<(UserKey, Detail)>,
    ) -> Result<(), Error> {
        let users: Vec<UserKey> = entries.iter().map(|(user, _)| *user).collect();
        let positions = feed::append_each(tx, &users, kind, key.into()).await?;
        let placed = entries.into_iter().filter_map(|(user, detail)| Some((user, *positions.get(&user)?, detail)));
        self.resolved.extend(placed);
        Ok(())
    }

    /// Appends an entry about a message to the log of changes of a conversation, which is in the scope of the job. Returns its
    /// position.
    ///
    /// # Errors
    /// The conversation is dismissed, or the store fails.
    pub async fn change_message(
        &mut self,
        tx: &mut Tx<'_>,
        conversation: &ChangedConversation,
        seq: i64,
        change: MessageChange,
        (actor, at): (UserKey, i64),
    ) -> Result<i64, Error> {
        self.change(tx, conversation, &Subject::Message(seq, change), (actor, at)).await
    }

    /// Appends an entry about members of a group, which is in the scope of the job. Returns its position.
    ///
    /// # Errors
    /// The group is dismissed, or the store fails.
    pub async fn change_roster(
        &mut self,
        tx: &mut Tx<'_>,
        conversation: &ChangedConversation,
        event: RosterEvent,
        users: impl IntoIterator<Item = UserKey>,
        (actor, at): (UserKey, i64),
    ) -> Result<i64, Error> {
        self.change(tx, conversation, &Subject::Roster(RosterRecord::new(event, users)), (actor, at)).await
    }

    /// Appends an entry about what a group is, which is in the scope of the job. Returns its position.
    ///
    /// # Errors
    /// The group is dismissed, or the store fails.
    pub async fn change_group(
        &mut self,
        tx: &mut Tx<'_>,
        conversation: &ChangedConversation,
        change: GroupChange,
        (actor, at): (UserKey, i64),
    ) -> Result<i64, Error> {
        self.change(tx, conversation, &Subject::Group(change), (actor, at)).await
    }

    /// Appends an entry that the messages of a conversation, which is in the scope of the job, are no longer kept up to a position.
    /// Returns the position of the entry.
    ///
    /// # Errors
    /// The conversation is dismissed, or the store fails.
    pub async fn change_floor(
        &mut self,
        tx: &mut Tx<'_>,
        conversation: &ChangedConversation,
        through: i64,
        at: i64,
    ) -> Result<i64, Error> {
        let expired = ExpiredMessages { through_seq: through.unsigned_abs() };
        self.change(tx, conversation, &Subject::Expired(expired), (UserKey(0), at)).await
    }

    async fn change(
        &mut self,
        tx: &mut Tx<'_>,
        conversation: &ChangedConversation,
        subject: &Subject,
        (actor, at): (UserKey, i64),
    ) -> Result<i64, Error> {
        let (rev, ended_rev) = change::append(tx, conversation.key, subject, actor, at).await?;
        self.changes.push((conversation.clone(), rev, ended_rev));
        Ok(rev)
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
        let found = self.entries.into_iter().filter_map(|Entry { user, pos, kind, key }| {
            Some((user, pos, details.get(&(user, kind.number, key))?.clone()))
        });
        let mut resolved: Vec<(UserKey, i64, Detail)> = found.chain(self.resolved).collect();
        resolved.sort_by_key(|(_, pos, _)| *pos);
        let mut own = Vec::new();
        for (user, pos, detail) in resolved {
            if self.cause.is_some_and(|cause| cause.user == user) {
                own.push(FeedEntry { pos: pos.unsigned_abs(), detail: Some(detail.clone()) });
            }
            let cause = self.cause.map_or(LoginKey(0), |cause| cause.login);
            tx.emit(Effect::Feed { user, pos, entry: Box::new(detail), cause });
        }
        // The positions of one request are mostly consecutive: they need one push, not one each.
        let mut pushes: Vec<Push> =
            own.chunk_by(|one, next| one.pos + 1 == next.pos).map(|run| feed_push(run.to_vec())).collect();
        // After the feed, which tells a client of a conversation that is new to it.
        for (conversation, rev, ended_rev) in &self.changes {
            let ChangedConversation { key, audience, scrambler } = conversation;
            let found = change::changes(tx, *key, scrambler, None, (rev - 1, *rev), usize::MAX).await?;
            let Some(entry) = found.entries.into_iter().next() else { continue };
            if let Some(user) = self.cause.map(|cause| cause.user)
                && let Some(name) = audience.name_for(user)
            {
                let own = match audience {
                    Audience::Peers(_) | Audience::Room { .. } => Some(entry.clone()),
                    Audience::Group { .. } => as_seen(tx, conversation, user, *rev).await?,
                };
                pushes.extend(own.map(|own| change_push(own, name)));
            }
            let cause = self.cause.map_or(LoginKey(0), |cause| cause.login);
            let (audience, entry, ended_rev) = (audience.clone(), Box::new(entry), *ended_rev);
            tx.emit(Effect::Change { audience, entry, cause, ended_rev });
        }
        Ok(pushes)
    }
}

/// Returns a change of a group as a user gets it who pulls: none if the user has left before it.
async fn as_seen(
    tx: &mut Tx<'_>,
    conversation: &ChangedConversation,
    user: UserKey,
    rev: i64,
) -> Result<Option<ChangeEntry>, Error> {
    let ChangedConversation { key, scrambler, .. } = conversation;
    let Some(viewer) = Viewer::of(tx, *key, user).await? else { return Ok(None) };
    let page = change::changes(tx, *key, scrambler, Some(&viewer), (rev - 1, rev), usize::MAX).await?;
    Ok(page.entries.into_iter().next())
}
