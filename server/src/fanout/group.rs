//! What the members of a group get. All of them see the same frame, so it is encoded once for all lanes, and each lane walks
//! its own sessions of the group.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use zim_protocol::change_entry::Detail;
use zim_protocol::{ChangeEntry, ConversationRef, ConversationType, event_frame::Frame};

use super::Fanout;
use super::deliver::{RUN_BYTES, RUN_ENTRY_BYTES, encode};
use super::group_index::GroupIndex;
use crate::connection::{ConnectionState, PushTarget};
use crate::effect::{GroupStay, MessageEffect};
use crate::journal::{change_push, message_push};
use crate::key::{ConversationKey, LoginKey, UserKey};

/// Sessions that are taken from the index at once. Registrations and membership changes wait no longer than this takes.
const PAGE: usize = 256;

/// A group, and its name, which is the same for all members.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) key: ConversationKey,
    pub(super) name: Arc<str>,
}

impl Group {
    pub(super) fn conversation(&self) -> ConversationRef {
        ConversationRef { r#type: ConversationType::Group as i32, id: self.name.to_string() }
    }
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Group {}

impl std::hash::Hash for Group {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Entries of a group that are pushed in one frame.
#[derive(Debug)]
pub(super) struct GroupPush {
    pub(super) group: Group,
    entries: Entries,
    /// The frame for all who see every entry with its content.
    shared: OnceLock<Bytes>,
}

#[derive(Debug)]
enum Entries {
    /// Successive messages.
    Messages(Vec<Arc<MessageEffect>>),
    Change(Box<ChangeEntry>, LoginKey),
}

impl GroupPush {
    pub(super) fn message(group: Group, message: Arc<MessageEffect>) -> Self {
        Self { group, entries: Entries::Messages(vec![message]), shared: OnceLock::new() }
    }

    pub(super) fn change(group: Group, entry: Box<ChangeEntry>, cause: LoginKey) -> Self {
        Self { group, entries: Entries::Change(entry, cause), shared: OnceLock::new() }
    }

    /// The bytes of the contents.
    pub(super) fn bytes(&self) -> usize {
        match &self.entries {
            Entries::Messages(run) => run.iter().map(|message| message.bytes() + RUN_ENTRY_BYTES).sum(),
            Entries::Change(entry, _) => prost::Message::encoded_len(&**entry),
        }
    }

    /// Adds a message if it follows the others and fits.
    pub(super) fn join(&mut self, message: &Arc<MessageEffect>) -> bool {
        let fits = self.bytes() + message.bytes() <= RUN_BYTES;
        let Entries::Messages(run) = &mut self.entries else { return false };
        let joins = fits && run.last().is_some_and(|last| last.seq + 1 == message.seq);
        if joins {
            run.push(Arc::clone(message));
        }
        joins
    }

    /// Whether this is a change of a message that the user may know from an earlier stay. The index knows only the last one.
    pub(super) fn may_be_of_earlier_stay(&self, stay: &GroupStay, login: LoginKey) -> bool {
        match &self.entries {
            Entries::Change(entry, cause) => {
                let is_earlier = matches!(&entry.detail, Some(Detail::Message(message)) if !stay.has_message(message.seq.cast_signed()));
                stay.is_return && *cause != login && is_earlier && stay.has_change(entry.rev.cast_signed())
            }
            Entries::Messages(_) => false,
        }
    }

    /// Returns the frame for a session, if it gets one: what it caused itself comes with its responses.
    pub(super) fn frame(&self, stay: &GroupStay, login: LoginKey) -> Option<Bytes> {
        let conversation = || self.group.conversation();
        match &self.entries {
            Entries::Messages(run) => {
                let is_visible = |message: &&Arc<MessageEffect>| stay.has_message(message.seq);
                let (visible, own) = run
                    .iter()
                    .filter(is_visible)
                    .fold((0, 0), |(visible, own), message| (visible + 1, own + usize::from(message.cause == login)));
                if own == visible {
                    return None;
                }
                let entries = run.iter().filter(is_visible).map(|message| message.entry(message.cause != login));
                let encode = || encode(Frame::Push(message_push(entries.collect(), conversation())));
                Some(if own == 0 && visible == run.len() { self.shared.get_or_init(encode).clone() } else { encode() })
            }
            Entries::Change(entry, cause) => {
                let position = i64::try_from(entry.rev).unwrap_or(i64::MAX);
                if *cause == login || !stay.has_change(position) {
                    return None;
                }
                let encoded = |entry| encode(Frame::Push(change_push(entry, conversation())));
                // A message from before the stay stays unseen: the entry only advances the position.
                Some(match &entry.detail {
                    Some(Detail::Message(message)) if !stay.has_message(message.seq.cast_signed()) => {
                        encoded(ChangeEntry { detail: None, ..(**entry).clone() })
                    }
                    _ => self.shared.get_or_init(|| encoded((**entry).clone())).clone(),
                })
            }
        }
    }
}

/// Calls `visit` for the sessions of a group, with their stays. No lock is held meanwhile.
pub(super) fn for_group(
    index: &GroupIndex,
    key: ConversationKey,
    mut visit: impl FnMut(&Arc<ConnectionState>, &GroupStay),
) {
    let mut after = None;
    loop {
        let (page, next) = index.page(key, after, PAGE);
        page.iter().for_each(|(session, stay)| visit(session, stay));
        if next.is_none() {
            return;
        }
        after = next;
    }
}

impl Fanout {
    /// Notes a user's stay in a group for a session that is registered. To be called for each of the user's groups after
    /// [`Fanout::register`] and before the client is answered: what the client then reads and what is pushed to it leave no
    /// gap. A read that a change of the membership has overtaken does no harm.
    pub fn enter_group(&self, group: (ConversationKey, &Arc<str>), session: &Arc<ConnectionState>, stay: GroupStay) {
        let Some(user) = session.identity().map(|identity| identity.user) else { return };
        let shard = self.shard_index(user);
        // Held until the session is in the index: a session that ends meanwhile is removed from it afterwards.
        let connections = self.shards[shard].read();
        let is_registered = connections.get(&user).is_some_and(|all| all.iter().any(|one| Arc::ptr_eq(one, session)));
        if is_registered && self.groups[shard % self.lanes.len()].enter(group.0, user, session, stay) {
            let group = Group { key: group.0, name: Arc::clone(group.1) };
            session.queue.mark_dirty(&PushTarget::Conversation(group.conversation()));
        }
    }

    /// Notes a stay that has begun or ended, for all sessions that the user has now.
    pub(super) fn set_stay(&self, user: UserKey, group: (ConversationKey, &Arc<str>), stay: GroupStay) {
        for session in self.connections(user) {
            self.enter_group(group, &session, stay);
        }
    }
}
