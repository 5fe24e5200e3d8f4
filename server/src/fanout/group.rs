//! What the members of a group or of a room get. All of them see the same frame, so it is encoded once for all lanes, and each
//! lane walks its own sessions of the group.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use zim_protocol::change_entry::Detail;
use zim_protocol::{
    ChangeEntry, ConversationRef, ConversationType, MessageFlag, RoomMembersChange, RoomPush, event_frame::Frame,
    room_push,
};

use super::Fanout;
use super::deliver::{RUN_BYTES, RUN_ENTRY_BYTES, encode};
use super::ends::Knows;
use super::group_index::{Entered, GroupIndex};
use super::lane::{View, Work};
use crate::connection::{ConnectionState, PushTarget};
use crate::effect::{GroupStay, MessageEffect, RoomEffect, RoomReceivers, StayEnd};
use crate::journal::{change_push, message_push_of};
use crate::key::{ConversationKey, LoginKey, UserKey};

/// Sessions that are taken from the index at once. Registrations and membership changes wait no longer than this takes.
const PAGE: usize = 256;

/// Changes of members of a room in one frame.
const MAX_MEMBER_CHANGES: usize = 100;

/// A group or a room, and its name, which is the same for all members.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) key: ConversationKey,
    pub(super) kind: ConversationType,
    pub(super) name: Arc<str>,
}

impl Group {
    pub(super) fn new(key: ConversationKey, name: Arc<str>) -> Self {
        Self { key, kind: ConversationType::Group, name }
    }

    pub(super) fn room(key: ConversationKey, name: Arc<str>) -> Self {
        Self { key, kind: ConversationType::Room, name }
    }

    pub(super) fn conversation(&self) -> ConversationRef {
        ConversationRef { r#type: self.kind as i32, id: self.name.to_string() }
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
    /// The last change that had ended a stay when these entries were stored; 0: there is none.
    pub(super) ended_rev: i64,
    entries: Entries,
    /// The frame for all who see every entry with its content.
    shared: OnceLock<Bytes>,
}

#[derive(Debug)]
enum Entries {
    /// Successive messages.
    Messages(Vec<Arc<MessageEffect>>),
    Change(Box<ChangeEntry>, LoginKey),
    /// What happened in a room: one thing, or members who entered and left, one after the other.
    Room(Vec<Arc<RoomEffect>>),
}

/// What a push tells a device of its own stay in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It is in the room, as that is after this change.
    Entrance(i64),
    /// It is no longer in the room.
    Exit,
}

/// Whether members entered or left.
fn is_of_members(effect: &RoomEffect) -> bool {
    matches!((&effect.detail, &effect.to), (room_push::Detail::Members(_), RoomReceivers::All(_)))
}

impl GroupPush {
    pub(super) fn message(group: Group, message: Arc<MessageEffect>) -> Self {
        let ended_rev = message.ended_rev;
        Self { group, ended_rev, entries: Entries::Messages(vec![message]), shared: OnceLock::new() }
    }

    pub(super) fn change(group: Group, entry: Box<ChangeEntry>, (cause, ended_rev): (LoginKey, i64)) -> Self {
        Self { group, ended_rev, entries: Entries::Change(entry, cause), shared: OnceLock::new() }
    }

    pub(super) fn of_room(effect: Arc<RoomEffect>) -> Self {
        let group = Group::room(effect.conversation, Arc::clone(&effect.name));
        Self { group, ended_rev: 0, entries: Entries::Room(vec![effect]), shared: OnceLock::new() }
    }

    /// Whether it only tells of members who entered and left a room.
    pub(super) fn is_of_members(&self) -> bool {
        matches!(&self.entries, Entries::Room(effects) if effects.iter().all(|effect| is_of_members(effect)))
    }

    /// Returns what it tells of the own stay of a device, and the user of that device, if it tells this alone.
    pub(super) fn passage(&self) -> Option<(UserKey, Passage)> {
        let Entries::Room(effects) = &self.entries else { return None };
        let [effect] = &effects[..] else { return None };
        let RoomReceivers::Device(user, _) = effect.to else { return None };
        match effect.detail {
            room_push::Detail::Entrance(_) => Some((user, Passage::Entrance(effect.rev))),
            room_push::Detail::Exit(_) => Some((user, Passage::Exit)),
            _ => None,
        }
    }

    /// Returns this push and the next one in one frame, if members of a room entered or left in both.
    pub(super) fn merged(&self, next: &Self) -> Option<Self> {
        let (Entries::Room(first), Entries::Room(more)) = (&self.entries, &next.entries) else { return None };
        let fits = first.len() + more.len() <= MAX_MEMBER_CHANGES && self.bytes() + next.bytes() <= RUN_BYTES;
        let merges = fits && first.iter().chain(more).all(|effect| is_of_members(effect));
        merges.then(|| {
            let effects = first.iter().chain(more).cloned().collect();
            Self { group: self.group.clone(), ended_rev: 0, entries: Entries::Room(effects), shared: OnceLock::new() }
        })
    }

    /// The bytes of the contents.
    pub(super) fn bytes(&self) -> usize {
        match &self.entries {
            Entries::Room(effects) => effects.iter().map(|effect| effect.detail.encoded_len() + RUN_ENTRY_BYTES).sum(),
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
            self.ended_rev = self.ended_rev.max(message.ended_rev);
        }
        joins
    }

    /// Whether only a pull tells what the user may see of it: a change of a message that the user may know from an earlier stay, as
    /// the index knows only the last one; or of a message for some of the members; or what has to do with a message of theirs that
    /// they are not to learn of.
    pub(super) fn needs_pull(&self, stay: &GroupStay, (login, user_id): (LoginKey, &str)) -> bool {
        let (entry, cause) = match &self.entries {
            Entries::Room(_) => return false,
            Entries::Messages(run) => {
                let is_unaware = |message: &Arc<MessageEffect>| {
                    message.flags & MessageFlag::SenderUnaware as u32 != 0 && *message.sender == *user_id
                };
                return run.iter().any(|message| stay.is_news(message.seq) && is_unaware(message));
            }
            Entries::Change(entry, cause) => (entry, cause),
        };
        let Some(Detail::Message(message)) = &entry.detail else { return false };
        let is_earlier = stay.is_return && !stay.has_message(message.seq.cast_signed());
        let is_targeted = message.has(MessageFlag::TargetOnly) || message.has(MessageFlag::TargetExcept);
        let is_unaware = message.has(MessageFlag::SenderUnaware) && message.sender == user_id;
        *cause != login && (is_earlier || is_targeted || is_unaware) && stay.has_change(entry.rev.cast_signed())
    }

    /// Returns the frame for a session, if it gets one: what it caused itself comes with its responses.
    pub(super) fn frame(&self, stay: &GroupStay, session: &ConnectionState) -> Option<Bytes> {
        let identity = session.identity()?;
        let login = identity.login;
        let conversation = || self.group.conversation();
        match &self.entries {
            Entries::Room(effects) => {
                // Who enters or leaves has a push of their own for that. Who else enters or leaves with the same change, and what that
                // does to the room, is for those who were in it before and still are: an exit is the last of its stay.
                let is_of_all = |effect: &RoomEffect| {
                    stay.is_member_throughout(effect.rev) || matches!(effect.detail, room_push::Detail::Exit(_))
                };
                let is_for = |effect: &&Arc<RoomEffect>| {
                    stay.has_change(effect.rev)
                        && match &effect.to {
                            RoomReceivers::All(except) => *except != login && is_of_all(effect),
                            RoomReceivers::Users(users) => users.contains(&identity.user),
                            RoomReceivers::Device(user, device) => *user == identity.user && *device == session.device,
                        }
                };
                match effects.iter().filter(is_for).count() {
                    0 => None,
                    all if all == effects.len() => Some(self.shared.get_or_init(|| room_frame(effects)).clone()),
                    _ => Some(room_frame(effects.iter().filter(is_for))),
                }
            }
            Entries::Messages(run) => {
                let in_stay = || run.iter().filter(|message| stay.is_news(message.seq));
                let (first, last) = (in_stay().next()?.seq, in_stay().next_back()?.seq);
                let is_own = |message: &&Arc<MessageEffect>| message.cause == login;
                if in_stay().all(|message| is_own(&message)) {
                    return None;
                }
                // What is not for this user is a blank position.
                let is_for = |message: &&Arc<MessageEffect>| {
                    message.receivers.has(identity.user) || message.sender == identity.user_id
                };
                let is_shared =
                    run.iter().all(|message| stay.is_news(message.seq) && is_for(&message) && !is_own(&message));
                let encode = || {
                    let entries = in_stay().filter(is_for).map(|message| message.entry(!is_own(&message)));
                    encode(Frame::Push(message_push_of(entries.collect(), conversation(), (first, last))))
                };
                Some(if is_shared { self.shared.get_or_init(encode).clone() } else { encode() })
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

/// Encodes what happened in a room. Several effects are those of members.
fn room_frame<'e>(effects: impl IntoIterator<Item = &'e Arc<RoomEffect>>) -> Bytes {
    let mut effects = effects.into_iter();
    let mut push = RoomPush::default();
    if let Some(first) = effects.next() {
        (push.room_id, push.number) = (first.name.to_string(), first.number);
        (push.rev, push.detail) = (first.rev.unsigned_abs(), Some(first.detail.clone()));
    }
    for effect in effects {
        push.rev = effect.rev.unsigned_abs();
        if let (Some(room_push::Detail::Members(RoomMembersChange { changes })), room_push::Detail::Members(more)) =
            (&mut push.detail, &effect.detail)
        {
            changes.extend(more.changes.iter().cloned());
        }
    }
    encode(Frame::Room(push))
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
    pub fn enter_group(
        &self,
        group: (ConversationKey, &Arc<str>),
        session: &Arc<ConnectionState>,
        (stay, knows): (GroupStay, Knows),
    ) {
        let Some(user) = session.identity().map(|identity| identity.user) else { return };
        let shard = self.shard_index(user);
        // Held until the session is in the index: a session that ends meanwhile is removed from it afterwards.
        let connections = self.shards[shard].read();
        let is_registered = connections.get(&user).is_some_and(|all| all.iter().any(|one| Arc::ptr_eq(one, session)));
        if !is_registered {
            return;
        }
        // Nobody else ends stays if there is no other node.
        let knows = if self.passed.get().is_some() { knows } else { Knows::Read(0) };
        match self.groups[shard % self.lanes.len()].enter_knowing((group.0, knows), user, session, stay) {
            Entered::Yes => {}
            Entered::Again => {
                let group = Group::new(group.0, Arc::clone(group.1));
                session.queue.mark_dirty(&PushTarget::Conversation(group.conversation()));
            }
            // Whoever reads it lets the client pull what is pushed to the group meanwhile.
            Entered::Stale => self.stays.add((user, group.0), Arc::clone(group.1), |_, _| false),
        }
    }

    /// Notes a stay that has begun or ended, for all sessions that the user has now.
    pub(crate) fn set_stay(&self, user: UserKey, group: (ConversationKey, &Arc<str>), stay: (GroupStay, Knows)) {
        for session in self.connections(user) {
            self.enter_group(group, &session, stay);
        }
    }

    /// Takes over a stay that is told. Its end counts for what is pushed to the group from the next effect on.
    pub(super) fn tell_stay(
        &self,
        user: UserKey,
        group: (ConversationKey, &Arc<str>),
        (stay, end): (GroupStay, Option<StayEnd>),
    ) {
        self.set_stay(user, group, (stay, Knows::told(&stay)));
        if self.passed.get().is_some()
            && let (Some((_, rev)), Some(end)) = (stay.to, end)
        {
            self.groups.iter().for_each(|index| index.tell_end(group.0, rev, end));
        }
    }

    /// Whether the stays of the sessions in a group take account of all ends up to a change.
    pub(crate) fn knows_ends(&self, conversation: ConversationKey, rev: i64) -> bool {
        self.groups.iter().all(|index| index.knows(conversation, rev) != Some(false))
    }

    /// Returns the sessions in a group, whose stays are to be read and to be noted with [`Fanout::enter_group`].
    pub(crate) fn begin_reading(&self, conversation: ConversationKey) -> Vec<Arc<ConnectionState>> {
        let mut sessions = Vec::new();
        for index in &self.groups {
            index.begin_reading(conversation);
            for_group(index, conversation, |session, _| sessions.push(Arc::clone(session)));
        }
        sessions
    }

    /// Notes that these stays are noted, and the last end that all of them take account of.
    pub(crate) fn end_reading(&self, conversation: ConversationKey, read: i64) {
        self.groups.iter().for_each(|index| index.end_reading(conversation, read));
    }

    /// Notes that a device has entered or left a room, and returns what its lane does once all of the commit is pushed. The device has
    /// at most one session that is not over, but the table may have an earlier one for a moment.
    pub(super) fn set_room_stay(
        &self,
        (user, device): (UserKey, [u8; 16]),
        room: (ConversationKey, &Arc<str>),
        stay: GroupStay,
    ) -> Vec<(usize, Work)> {
        let shard = self.shard_index(user);
        let lane = shard % self.lanes.len();
        let connections = self.shards[shard].read();
        let mut then = Vec::new();
        for session in connections.get(&user).into_iter().flatten().filter(|session| session.device == device) {
            // What another node tells may be older than what is known.
            let (newest, can_be_forgotten) =
                self.groups[lane].enter_room(room.0, (user, session), stay, self.passed.get().is_some());
            session.set_in_room((room.0, room.1), newest.to.is_none());
            if stay.to.is_none() && newest.to.is_some() {
                // Another node has ended the stay, and this node learns of that before it is told that its own commit has begun it.
                // The client takes what is pushed before the entrance for something of earlier. So it looks again after it.
                let view = View { user, kind: ConversationType::Room, name: Arc::clone(room.1) };
                then.push((lane, Work::Look(room.0, view)));
            }
            // Of a stay whose beginning is not told yet, the end stays known: until the session enters again or ends, if it never is.
            if let Some((_, rev)) = newest.to.filter(|_| can_be_forgotten) {
                then.push((lane, Work::Forget(room.0, user, rev)));
            }
        }
        then
    }
}
