//! What a committed transaction notifies the rest of the server of. Plain data: it is collected in the transaction,
//! dropped with its savepoint, and handed over after the commit and before the caller gets its answer. Pushes follow
//! later; what ends a login is in force before the answer. The order is that of the commits within one partition; between
//! partitions there is none.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ConversationRef, ConversationType, MessageEntry, MessageFlag, MessagePriority, MessageState, SessionEndReason,
    room_push,
};

use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};

/// A notification for clients that are online.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The log of messages of a conversation grew by one.
    Message(Arc<MessageEffect>),
    /// The feed of a user grew.
    Feed {
        /// The owner of the feed.
        user: UserKey,
        /// The position of the entry.
        pos: i64,
        /// The entry; boxed, because most effects are messages and move in batches.
        entry: Box<zim_protocol::feed_entry::Detail>,
        /// The login that caused it: its response carries the entry.
        cause: LoginKey,
    },
    /// The log of changes of a conversation grew by one.
    Change {
        /// The users who are notified.
        audience: Audience,
        /// The entry, with its position.
        entry: Box<zim_protocol::ChangeEntry>,
        /// The login that caused it: its response carries the entry.
        cause: LoginKey,
        /// The last change of the group that ended a stay, this one included; 0: there is none.
        ended_rev: i64,
    },
    /// A message that is never stored, for the devices of a group that are online. It keeps its place.
    Transient(Box<TransientEffect>),
    /// A message for users of an app who are online. It is never stored and has no conversation.
    Broadcast {
        /// The app.
        app: AppKey,
        /// Who gets it; without any, all of them.
        users: Vec<UserKey>,
        /// The message.
        message: Box<MessageEntry>,
        /// What is dropped first under pressure.
        priority: MessagePriority,
    },
    /// A user's stay in a group began or ended. Pushes to the group follow it from the next effect on.
    Stay {
        /// The user.
        user: UserKey,
        /// The group.
        conversation: ConversationKey,
        /// The group's name.
        name: Arc<str>,
        /// The stay.
        stay: GroupStay,
        /// Of a stay that ends, what tells whether an earlier end is missing. A node of an earlier version does not say it.
        end: Option<StayEnd>,
    },
    /// A device entered or left a room. Pushes of the room follow it from the next effect on.
    RoomStay {
        /// The user of the device.
        user: UserKey,
        /// The device.
        device: [u8; 16],
        /// The room.
        conversation: ConversationKey,
        /// The room's ID.
        name: Arc<str>,
        /// The stay; only its changes count.
        stay: GroupStay,
    },
    /// Something happened in a room.
    Room(Arc<RoomEffect>),
    /// A message to a room that another node gives its place.
    RoomMessage {
        /// The number of the node.
        home: u8,
        /// The message, without its place. Its sender was in the room.
        transient: Box<TransientEffect>,
    },
    /// A user's profile changed. The users who know this user are looked up and notified later.
    Profile {
        /// The user whose profile changed.
        user: UserKey,
        /// The new profile.
        info: Box<zim_protocol::UserFullInfo>,
    },
    /// A user's status changed. The user's other devices are notified at once; the subscribers are looked up and
    /// notified later.
    Status {
        /// The user whose status changed.
        user: UserKey,
        /// The new status.
        status: Box<zim_protocol::UserStatus>,
        /// The login that caused it.
        cause: LoginKey,
    },
    /// A login has ended: kicked out by a newer one, ended by the operator, or resumed on another connection.
    LoginEnded {
        /// The user of the login.
        user: UserKey,
        /// The login.
        login: LoginKey,
        /// The reason that its client gets.
        reason: SessionEndReason,
    },
    /// Something is due at this time, Unix milliseconds.
    Due {
        /// The table that it is in.
        queue: Queue,
        /// The time.
        at: i64,
    },
    /// The operator created, changed or deleted an app. This node has done so in memory.
    AppChanged {
        /// The app.
        app: AppKey,
    },
    /// All one-shot logins of a user have ended, also those that are being admitted.
    OneShotsEnded {
        /// The user of the logins.
        user: UserKey,
        /// The reason that their clients get.
        reason: SessionEndReason,
    },
    /// A commit may have changed something, and nobody could be told what.
    Look(Look),
}

/// Where to look after a commit that was in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    /// The clients of these users look at the conversation.
    Conversation(Audience),
    /// The clients of this user look at their feed.
    Feed(UserKey),
    /// The client of this login connects again, and learns whether the login has ended.
    Login {
        /// The user of the login.
        user: UserKey,
        /// The login.
        login: LoginKey,
    },
    /// The nodes read again whether a user is in a group.
    Stay {
        /// The user.
        user: UserKey,
        /// The group.
        conversation: ConversationKey,
        /// The group's name.
        name: Arc<str>,
    },
}

impl Look {
    /// Returns what is told instead of the effects of a commit that was in doubt, now that it is decided: not what happened, but where
    /// to look. Profiles and statuses are found with the next login.
    pub fn instead_of(effects: &[Effect]) -> Vec<Effect> {
        let (mut looks, mut told) = (HashSet::new(), Vec::new());
        for effect in effects {
            let room = |key, name: &Arc<str>| Audience::Room { conversation: key, name: Arc::clone(name) };
            let look = match effect {
                Effect::Message(message) => Self::Conversation(message.audience.clone()),
                Effect::Change { audience, .. } => Self::Conversation(audience.clone()),
                Effect::RoomStay { conversation, name, .. } => Self::Conversation(room(*conversation, name)),
                Effect::Room(effect) => Self::Conversation(room(effect.conversation, &effect.name)),
                Effect::Feed { user, .. } => Self::Feed(*user),
                Effect::LoginEnded { user, login, .. } => Self::Login { user: *user, login: *login },
                Effect::Stay { user, conversation, name, .. } => {
                    Self::Stay { user: *user, conversation: *conversation, name: Arc::clone(name) }
                }
                // Who is told of these reads what there is.
                Effect::Due { .. } | Effect::AppChanged { .. } => {
                    told.push(effect.clone());
                    continue;
                }
                _ => continue,
            };
            if looks.insert(look.clone()) {
                told.push(Effect::Look(look));
            }
        }
        told
    }
}

/// A user's stay in a group, in both of its logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStay {
    /// The first message of the stay.
    pub from_seq: i64,
    /// The first message after the user entered. With the history, the stay begins before it.
    pub entered_seq: i64,
    /// The first change of the stay.
    pub from_rev: i64,
    /// The last message and the last change, once the stay is over.
    pub to: Option<(i64, i64)>,
    /// The user was in the group before: earlier messages may belong to an earlier stay.
    pub is_return: bool,
}

impl GroupStay {
    /// Whether the stay includes a message.
    pub fn has_message(&self, seq: i64) -> bool {
        self.from_seq <= seq && self.to.is_none_or(|(to, _)| seq <= to)
    }

    /// Whether a message came while the user was a member. What came before is history: they load it, and it is not pushed.
    pub fn is_news(&self, seq: i64) -> bool {
        seq >= self.entered_seq && self.has_message(seq)
    }

    /// Whether the user was a member right after a change.
    pub fn is_member_after(&self, rev: i64) -> bool {
        self.from_rev <= rev && self.to.is_none_or(|(_, to)| rev < to)
    }

    /// Whether the user was a member right before a change and right after it.
    pub fn is_member_throughout(&self, rev: i64) -> bool {
        self.from_rev < rev && self.is_member_after(rev)
    }

    /// Whether the stay includes a change.
    pub fn has_change(&self, rev: i64) -> bool {
        self.from_rev <= rev && self.to.is_none_or(|(_, to)| rev <= to)
    }
}

/// The place of a change that ends stays among all that do so in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StayEnd {
    /// The last change before it that ended a stay; 0: there is none.
    pub before: i64,
    /// How many stays it ends. Each of them is told.
    pub of: u32,
}

/// A table of what a worker does later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Tasks that take effect once.
    Tasks,
    /// What leaves the deployment.
    Outbox,
}

/// The users who get the pushes of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Both users of a peer conversation with their names: each sees the conversation under the other's name.
    Peers([(UserKey, Arc<str>); 2]),
    /// The members of a group, the one who acts among them.
    Group {
        /// The group.
        conversation: ConversationKey,
        /// The group's name, which is the same for all.
        name: Arc<str>,
    },
    /// The devices in a room.
    Room {
        /// The room.
        conversation: ConversationKey,
        /// The room's ID.
        name: Arc<str>,
    },
}

impl Audience {
    /// Returns the others of a conversation of two users. Those of a group or a room are not named.
    pub fn others(&self, user: UserKey) -> Vec<UserKey> {
        let Self::Peers(peers) = self else { return Vec::new() };
        peers.iter().map(|(peer, _)| *peer).filter(|peer| *peer != user).collect()
    }

    /// Returns the name under which a user sees the conversation, if the user is among those who are notified.
    pub fn name_for(&self, user: UserKey) -> Option<ConversationRef> {
        let (one, two) = match self {
            Self::Peers([one, two]) => (one, two),
            Self::Group { name, .. } => {
                return Some(ConversationRef { r#type: ConversationType::Group as i32, id: name.to_string() });
            }
            Self::Room { name, .. } => {
                return Some(ConversationRef { r#type: ConversationType::Room as i32, id: name.to_string() });
            }
        };
        let other = if one.0 == user { &two.1 } else { &one.1 };
        let is_member = one.0 == user || two.0 == user;
        is_member.then(|| ConversationRef { r#type: ConversationType::Peer as i32, id: other.to_string() })
    }
}

/// A message that is never stored.
#[derive(Clone, Debug)]
pub struct TransientEffect {
    /// The users who get it.
    pub audience: Audience,
    /// The message.
    pub message: MessageEntry,
    /// The last message and the last change of the conversation when it was sent.
    pub after_seq: i64,
    /// See `after_seq`.
    pub after_rev: i64,
    /// What is dropped first under pressure.
    pub priority: MessagePriority,
    /// The login that sends it: it gets no copy.
    pub cause: LoginKey,
    /// The number of the room; 0: it is not for a room.
    pub room: i64,
    /// The last change of the group that had ended a stay when it was sent; 0: there is none, or it is for no group.
    pub ended_rev: i64,
}

/// Something that happened in a room.
#[derive(Clone, Debug)]
pub struct RoomEffect {
    /// The room.
    pub conversation: ConversationKey,
    /// The room's ID.
    pub name: Arc<str>,
    /// What tells it from others that had its ID.
    pub number: i64,
    /// The change of the room.
    pub rev: i64,
    /// Who gets it.
    pub to: RoomReceivers,
    /// What happened.
    pub detail: room_push::Detail,
}

/// The devices in a room that get a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomReceivers {
    /// All of them, except that of this login; 0: without exception.
    All(LoginKey),
    /// Those of these users.
    Users(Vec<UserKey>),
    /// One.
    Device(UserKey, [u8; 16]),
}

/// A stored message, ready to be copied into frames.
#[derive(Debug)]
pub struct MessageEffect {
    /// The app.
    pub app: AppKey,
    /// The conversation.
    pub conversation: ConversationKey,
    /// The users who are notified.
    pub audience: Audience,
    /// The position in the log of messages.
    pub seq: i64,
    /// How many messages up to this one count as unread.
    pub n: i64,
    /// The ID that clients see.
    pub message_id: i64,
    /// The name of the sender.
    pub sender: Arc<str>,
    /// The login that sent it: its client has the content.
    pub cause: LoginKey,
    /// The time of the message, Unix milliseconds.
    pub ts: i64,
    /// `MessageType`.
    pub kind: i32,
    /// `MessageFlag`s.
    pub flags: u32,
    /// The client's key of the message.
    pub client_key: [u8; 16],
    /// The stored body.
    pub content: Bytes,
    /// What the message replies to.
    pub state: Option<Box<MessageState>>,
    /// Who of the group sees it.
    pub receivers: Receivers,
    /// The last change of the group that had ended a stay when it was stored; 0: there is none, or it is for no group.
    pub ended_rev: i64,
}

/// Who of a conversation sees a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Receivers {
    /// All.
    #[default]
    All,
    /// These users; ascending.
    Only(Arc<[UserKey]>),
    /// All but these users; ascending.
    Except(Arc<[UserKey]>),
}

impl Receivers {
    /// Makes those of a list.
    pub fn of(mut users: Vec<UserKey>, is_except: bool) -> Self {
        users.sort_unstable();
        users.dedup();
        if is_except { Self::Except(users.into()) } else { Self::Only(users.into()) }
    }

    /// Whether a user is among them. The sender of the message always is.
    pub fn has(&self, user: UserKey) -> bool {
        match self {
            Self::All => true,
            Self::Only(users) => users.binary_search(&user).is_ok(),
            Self::Except(users) => users.binary_search(&user).is_err(),
        }
    }

    /// The users of the list.
    pub fn listed(&self) -> &[UserKey] {
        match self {
            Self::All => &[],
            Self::Only(users) | Self::Except(users) => users,
        }
    }

    /// The flag of the message.
    pub fn flag(&self) -> u32 {
        match self {
            Self::All => 0,
            Self::Only(_) => MessageFlag::TargetOnly as u32,
            Self::Except(_) => MessageFlag::TargetExcept as u32,
        }
    }
}
