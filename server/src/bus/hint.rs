//! Hints as bytes. They are no part of the protocol of clients: only servers of one deployment read them. Servers of two
//! versions may run side by side, so a number is never used for something else; a hint that a server does not know counts as
//! missed.

mod look;
mod stay;

use std::sync::Arc;

use prost::{Message, Oneof};
use zim_protocol::{
    ChangeEntry, FeedEntry, MessageEntry, MessageFlag, MessagePriority, RoomPush, SessionEndReason, UserFullInfo,
    UserStatus,
};

use self::look::LookHint;
use self::stay::StayHint;
use super::numbers::SUBJECTS;
use crate::effect::{
    Audience, Effect, Look, MessageEffect, Queue, Receivers, RoomEffect, RoomReceivers, TransientEffect,
};
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};

/// Hints of one subject.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Packet {
    #[prost(uint32, tag = "1")]
    pub(super) node: u32,
    #[prost(int64, tag = "2")]
    pub(super) generation: i64,
    #[prost(uint64, tag = "3")]
    pub(super) number: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) hints: Vec<Hint>,
}

/// What a node sends every second.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Beat {
    #[prost(uint32, tag = "1")]
    pub(super) node: u32,
    #[prost(int64, tag = "2")]
    pub(super) generation: i64,
    #[prost(uint64, tag = "3")]
    pub(super) number: u64,
    /// The subjects on which packets were sent since the last beat, and the numbers of the last packets.
    #[prost(uint32, repeated, tag = "4")]
    pub(super) subjects: Vec<u32>,
    #[prost(uint64, repeated, tag = "5")]
    pub(super) numbers: Vec<u64>,
}

/// An effect.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Hint {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Message(MessageHint),
    #[prost(message, boxed, tag = "2")]
    Feed(Box<FeedHint>),
    #[prost(message, boxed, tag = "3")]
    Change(Box<ChangeHint>),
    #[prost(message, tag = "4")]
    Transient(TransientHint),
    #[prost(message, tag = "5")]
    Stay(StayHint),
    #[prost(message, tag = "6")]
    Profile(ProfileHint),
    #[prost(message, tag = "7")]
    Status(StatusHint),
    #[prost(message, tag = "8")]
    LoginEnded(EndHint),
    #[prost(message, tag = "9")]
    OneShotsEnded(EndHint),
    #[prost(message, tag = "10")]
    Due(DueHint),
    #[prost(int64, tag = "11")]
    App(i64),
    #[prost(message, tag = "12")]
    RoomStay(RoomStayHint),
    #[prost(message, boxed, tag = "13")]
    Room(Box<RoomHint>),
    #[prost(message, boxed, tag = "14")]
    RoomMessage(Box<RoomMessageHint>),
    #[prost(message, tag = "15")]
    Broadcast(BroadcastHint),
    /// A message for some of a group. A server that does not know of receivers would push it to all.
    #[prost(message, tag = "16")]
    TargetedMessage(MessageHint),
    /// A message that its sender is not to learn of. A server that does not know of such messages would push it to them.
    #[prost(message, tag = "17")]
    UnawareMessage(MessageHint),
    #[prost(message, tag = "18")]
    Look(LookHint),
}

/// A group or a room, if it has a conversation; otherwise the two users of a peer conversation.
#[derive(Clone, PartialEq, Message)]
struct AudienceHint {
    #[prost(int64, optional, tag = "1")]
    conversation: Option<i64>,
    #[prost(int64, repeated, tag = "2")]
    users: Vec<i64>,
    #[prost(string, repeated, tag = "3")]
    names: Vec<String>,
    #[prost(bool, tag = "4")]
    is_room: bool,
}

#[derive(Clone, PartialEq, Message)]
struct MessageHint {
    #[prost(message, optional, tag = "1")]
    audience: Option<AudienceHint>,
    #[prost(message, optional, tag = "2")]
    entry: Option<MessageEntry>,
    #[prost(int64, tag = "3")]
    app: i64,
    #[prost(int64, tag = "4")]
    conversation: i64,
    #[prost(int64, tag = "5")]
    cause: i64,
    /// The users whom a targeted message names. The flags of the entry say what they are.
    #[prost(int64, repeated, tag = "6")]
    listed: Vec<i64>,
    /// 0: nothing had ended, or the node is of an earlier version.
    #[prost(int64, tag = "7")]
    ended_rev: i64,
}

#[derive(Clone, PartialEq, Message)]
struct BroadcastHint {
    #[prost(int64, tag = "1")]
    app: i64,
    #[prost(message, optional, tag = "2")]
    message: Option<MessageEntry>,
    #[prost(enumeration = "MessagePriority", tag = "3")]
    priority: i32,
    #[prost(int64, repeated, tag = "4")]
    users: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct FeedHint {
    #[prost(int64, tag = "1")]
    user: i64,
    #[prost(message, optional, tag = "2")]
    entry: Option<FeedEntry>,
    #[prost(int64, tag = "3")]
    cause: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ChangeHint {
    #[prost(message, optional, tag = "1")]
    audience: Option<AudienceHint>,
    #[prost(message, optional, tag = "2")]
    entry: Option<ChangeEntry>,
    #[prost(int64, tag = "3")]
    cause: i64,
    #[prost(int64, tag = "4")]
    ended_rev: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TransientHint {
    #[prost(message, optional, tag = "1")]
    audience: Option<AudienceHint>,
    #[prost(message, optional, tag = "2")]
    message: Option<MessageEntry>,
    #[prost(int64, tag = "3")]
    after_seq: i64,
    #[prost(int64, tag = "4")]
    after_rev: i64,
    #[prost(enumeration = "MessagePriority", tag = "5")]
    priority: i32,
    #[prost(int64, tag = "6")]
    cause: i64,
    #[prost(int64, tag = "7")]
    room: i64,
    #[prost(int64, tag = "8")]
    ended_rev: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RoomMessageHint {
    #[prost(uint32, tag = "1")]
    home: u32,
    // 2 was the sender, whom the first node has checked.
    #[prost(message, optional, tag = "3")]
    transient: Option<TransientHint>,
}

#[derive(Clone, PartialEq, Message)]
struct RoomStayHint {
    #[prost(bytes = "bytes", tag = "1")]
    device: bytes::Bytes,
    #[prost(message, optional, tag = "2")]
    stay: Option<StayHint>,
}

#[derive(Clone, PartialEq, Message)]
struct RoomHint {
    #[prost(int64, tag = "1")]
    conversation: i64,
    #[prost(message, optional, tag = "2")]
    push: Option<RoomPush>,
    /// All get it, except this login.
    #[prost(int64, tag = "3")]
    except: i64,
    /// Only these get it.
    #[prost(int64, repeated, tag = "4")]
    users: Vec<i64>,
    /// Only this device of the one user gets it.
    #[prost(bytes = "bytes", tag = "5")]
    device: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct ProfileHint {
    #[prost(int64, tag = "1")]
    user: i64,
    #[prost(message, optional, tag = "2")]
    info: Option<UserFullInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusHint {
    #[prost(int64, tag = "1")]
    user: i64,
    #[prost(message, optional, tag = "2")]
    status: Option<UserStatus>,
    #[prost(int64, tag = "3")]
    cause: i64,
}

/// The end of a login, or of all one-shot logins of a user.
#[derive(Clone, PartialEq, Message)]
struct EndHint {
    #[prost(int64, tag = "1")]
    user: i64,
    #[prost(int64, tag = "2")]
    login: i64,
    #[prost(enumeration = "SessionEndReason", tag = "3")]
    reason: i32,
}

#[derive(Clone, PartialEq, Message)]
struct DueHint {
    #[prost(bool, tag = "1")]
    is_outbox: bool,
    #[prost(int64, tag = "2")]
    at: i64,
}

/// What a packet says.
#[derive(Debug)]
pub(super) struct Hints {
    /// What was committed.
    pub(super) effects: Vec<Effect>,
    /// Whether all of it is known.
    pub(super) is_complete: bool,
}

/// Returns what the other nodes are told of these effects, each with its subject.
pub(super) fn encode(effects: &[Effect]) -> Vec<(usize, Hint)> {
    effects.iter().map(|effect| (subject(effect), Hint { kind: Some(kind(effect)) })).collect()
}

fn of_key(key: i64) -> usize {
    // The low bits of a key are the node that made it, so all bits are mixed.
    let mixed = key.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    usize::try_from(mixed).unwrap_or_default() % SUBJECTS
}

fn of_audience(audience: &Audience) -> usize {
    match audience {
        Audience::Group { conversation, .. } | Audience::Room { conversation, .. } => of_key(conversation.0),
        // Both users have one conversation, whichever is named first.
        Audience::Peers([(one, _), (two, _)]) => of_key(one.0.wrapping_add(two.0)),
    }
}

fn subject(effect: &Effect) -> usize {
    match effect {
        Effect::Message(message) => of_audience(&message.audience),
        Effect::Change { audience, .. } | Effect::Look(Look::Conversation(audience)) => of_audience(audience),
        Effect::Transient(transient) | Effect::RoomMessage { transient, .. } => of_audience(&transient.audience),
        Effect::Stay { conversation, .. }
        | Effect::RoomStay { conversation, .. }
        | Effect::Look(Look::Stay { conversation, .. }) => of_key(conversation.0),
        Effect::Room(effect) => of_key(effect.conversation.0),
        Effect::Feed { user, .. }
        | Effect::Profile { user, .. }
        | Effect::Status { user, .. }
        | Effect::LoginEnded { user, .. }
        | Effect::OneShotsEnded { user, .. }
        | Effect::Look(Look::Feed(user) | Look::Login { user, .. }) => of_key(user.0),
        Effect::Broadcast { .. } | Effect::Due { .. } | Effect::AppChanged { .. } => 0,
    }
}

fn kind(effect: &Effect) -> Kind {
    match effect {
        Effect::Message(message) => {
            let hint = MessageHint {
                audience: Some(AudienceHint::of(&message.audience)),
                entry: Some(message.entry(true)),
                app: message.app.0,
                conversation: message.conversation.0,
                cause: message.cause.0,
                listed: message.receivers.listed().iter().map(|user| user.0).collect(),
                ended_rev: message.ended_rev,
            };
            match message.receivers {
                _ if message.flags & MessageFlag::SenderUnaware as u32 != 0 => Kind::UnawareMessage(hint),
                Receivers::All => Kind::Message(hint),
                _ => Kind::TargetedMessage(hint),
            }
        }
        Effect::Broadcast { app, users, message, priority } => Kind::Broadcast(BroadcastHint {
            app: app.0,
            users: users.iter().map(|user| user.0).collect(),
            message: Some((**message).clone()),
            priority: *priority as i32,
        }),
        Effect::Feed { user, pos, entry, cause } => {
            let entry = FeedEntry { pos: pos.unsigned_abs(), detail: Some((**entry).clone()) };
            Kind::Feed(Box::new(FeedHint { user: user.0, entry: Some(entry), cause: cause.0 }))
        }
        Effect::Change { audience, entry, cause, ended_rev } => Kind::Change(Box::new(ChangeHint {
            audience: Some(AudienceHint::of(audience)),
            entry: Some((**entry).clone()),
            cause: cause.0,
            ended_rev: *ended_rev,
        })),
        Effect::Transient(transient) => Kind::Transient(TransientHint::of(transient)),
        Effect::RoomMessage { home, transient } => Kind::RoomMessage(Box::new(RoomMessageHint {
            home: u32::from(*home),
            transient: Some(TransientHint::of(transient)),
        })),
        Effect::Stay { user, conversation, name, stay, end } => {
            Kind::Stay(StayHint::of(*user, *conversation, name, (*stay, *end)))
        }
        Effect::RoomStay { user, device, conversation, name, stay } => Kind::RoomStay(RoomStayHint {
            device: device.to_vec().into(),
            stay: Some(StayHint::of(*user, *conversation, name, (*stay, None))),
        }),
        Effect::Room(effect) => Kind::Room(Box::new(RoomHint::of(effect))),
        Effect::Profile { user, info } => Kind::Profile(ProfileHint { user: user.0, info: Some((**info).clone()) }),
        Effect::Status { user, status, cause } => {
            Kind::Status(StatusHint { user: user.0, status: Some((**status).clone()), cause: cause.0 })
        }
        Effect::LoginEnded { user, login, reason } => {
            Kind::LoginEnded(EndHint { user: user.0, login: login.0, reason: *reason as i32 })
        }
        Effect::OneShotsEnded { user, reason } => {
            Kind::OneShotsEnded(EndHint { user: user.0, login: 0, reason: *reason as i32 })
        }
        Effect::Due { queue, at } => Kind::Due(DueHint { is_outbox: *queue == Queue::Outbox, at: *at }),
        Effect::AppChanged { app } => Kind::App(app.0),
        Effect::Look(look) => Kind::Look(LookHint::of(look)),
    }
}

/// Reads the hints of a packet.
pub(super) fn effects(hints: Vec<Hint>) -> Hints {
    let count = hints.len();
    let effects: Vec<Effect> = hints.into_iter().filter_map(|hint| effect(hint.kind?)).collect();
    Hints { is_complete: effects.len() == count, effects }
}

fn effect(kind: Kind) -> Option<Effect> {
    Some(match kind {
        Kind::Message(hint) | Kind::TargetedMessage(hint) | Kind::UnawareMessage(hint) => {
            let entry = hint.entry?;
            let listed = hint.listed.into_iter().map(UserKey).collect();
            let receivers = match (entry.has(MessageFlag::TargetOnly), entry.has(MessageFlag::TargetExcept)) {
                (false, false) => Receivers::All,
                (_, is_except) => Receivers::of(listed, is_except),
            };
            Effect::Message(Arc::new(MessageEffect {
                receivers,
                app: AppKey(hint.app),
                conversation: ConversationKey(hint.conversation),
                audience: hint.audience?.audience()?,
                seq: entry.seq.cast_signed(),
                n: entry.n.cast_signed(),
                message_id: entry.message_id,
                sender: entry.sender.into(),
                cause: LoginKey(hint.cause),
                ts: entry.ts,
                kind: entry.kind,
                flags: entry.flags,
                client_key: <[u8; 16]>::try_from(&entry.client_key[..]).ok()?,
                content: entry.content,
                state: entry.state,
                ended_rev: hint.ended_rev,
            }))
        }
        Kind::Feed(hint) => {
            let entry = hint.entry?;
            let (user, pos, cause) = (UserKey(hint.user), entry.pos.cast_signed(), LoginKey(hint.cause));
            Effect::Feed { user, pos, entry: Box::new(entry.detail?), cause }
        }
        Kind::Change(hint) => Effect::Change {
            audience: hint.audience?.audience()?,
            entry: Box::new(hint.entry?),
            cause: LoginKey(hint.cause),
            ended_rev: hint.ended_rev,
        },
        Kind::Transient(hint) => Effect::Transient(Box::new(hint.effect()?)),
        Kind::Broadcast(hint) => {
            let priority = hint.priority();
            let (app, users) = (AppKey(hint.app), hint.users.into_iter().map(UserKey).collect());
            Effect::Broadcast { app, users, message: Box::new(hint.message?), priority }
        }
        Kind::RoomMessage(hint) => {
            Effect::RoomMessage { home: u8::try_from(hint.home).ok()?, transient: Box::new(hint.transient?.effect()?) }
        }
        Kind::Stay(hint) => {
            let (stay, end) = (hint.stay(), hint.end());
            let (user, conversation) = (UserKey(hint.user), ConversationKey(hint.conversation));
            Effect::Stay { user, conversation, name: hint.name.into(), stay, end }
        }
        Kind::RoomStay(RoomStayHint { device, stay }) => {
            let (device, hint) = (<[u8; 16]>::try_from(&device[..]).ok()?, stay?);
            let stay = hint.stay();
            let (user, conversation) = (UserKey(hint.user), ConversationKey(hint.conversation));
            Effect::RoomStay { user, device, conversation, name: hint.name.into(), stay }
        }
        Kind::Room(hint) => Effect::Room(Arc::new(hint.effect()?)),
        Kind::Profile(hint) => Effect::Profile { user: UserKey(hint.user), info: Box::new(hint.info?) },
        Kind::Status(hint) => {
            Effect::Status { user: UserKey(hint.user), status: Box::new(hint.status?), cause: LoginKey(hint.cause) }
        }
        Kind::LoginEnded(hint) => {
            Effect::LoginEnded { user: UserKey(hint.user), login: LoginKey(hint.login), reason: hint.reason() }
        }
        Kind::OneShotsEnded(hint) => Effect::OneShotsEnded { user: UserKey(hint.user), reason: hint.reason() },
        Kind::Due(hint) => {
            Effect::Due { queue: if hint.is_outbox { Queue::Outbox } else { Queue::Tasks }, at: hint.at }
        }
        Kind::App(app) => Effect::AppChanged { app: AppKey(app) },
        Kind::Look(hint) => Effect::Look(hint.look()?),
    })
}

impl TransientHint {
    fn of(transient: &TransientEffect) -> Self {
        Self {
            audience: Some(AudienceHint::of(&transient.audience)),
            message: Some(transient.message.clone()),
            after_seq: transient.after_seq,
            after_rev: transient.after_rev,
            priority: transient.priority as i32,
            cause: transient.cause.0,
            room: transient.room,
            ended_rev: transient.ended_rev,
        }
    }

    fn effect(self) -> Option<TransientEffect> {
        Some(TransientEffect {
            priority: self.priority(),
            audience: self.audience?.audience()?,
            message: self.message?,
            after_seq: self.after_seq,
            after_rev: self.after_rev,
            cause: LoginKey(self.cause),
            room: self.room,
            ended_rev: self.ended_rev,
        })
    }
}

impl RoomHint {
    fn of(effect: &RoomEffect) -> Self {
        let push = RoomPush {
            room_id: effect.name.to_string(),
            number: effect.number,
            rev: effect.rev.unsigned_abs(),
            detail: Some(effect.detail.clone()),
        };
        let hint = Self { conversation: effect.conversation.0, push: Some(push), ..Self::default() };
        match &effect.to {
            RoomReceivers::All(except) => Self { except: except.0, ..hint },
            RoomReceivers::Users(users) => Self { users: users.iter().map(|user| user.0).collect(), ..hint },
            RoomReceivers::Device(user, device) => Self { users: vec![user.0], device: device.to_vec().into(), ..hint },
        }
    }

    fn effect(self) -> Option<RoomEffect> {
        let push = self.push?;
        let to = match (&self.users[..], <[u8; 16]>::try_from(&self.device[..])) {
            ([], _) => RoomReceivers::All(LoginKey(self.except)),
            ([user], Ok(device)) => RoomReceivers::Device(UserKey(*user), device),
            (users, _) => RoomReceivers::Users(users.iter().copied().map(UserKey).collect()),
        };
        Some(RoomEffect {
            conversation: ConversationKey(self.conversation),
            name: push.room_id.into(),
            number: push.number,
            rev: push.rev.cast_signed(),
            to,
            detail: push.detail?,
        })
    }
}

impl AudienceHint {
    fn of(audience: &Audience) -> Self {
        match audience {
            Audience::Group { conversation, name } | Audience::Room { conversation, name } => Self {
                conversation: Some(conversation.0),
                users: Vec::new(),
                names: vec![name.to_string()],
                is_room: matches!(audience, Audience::Room { .. }),
            },
            Audience::Peers(peers) => Self {
                is_room: false,
                conversation: None,
                users: peers.iter().map(|(user, _)| user.0).collect(),
                names: peers.iter().map(|(_, name)| name.to_string()).collect(),
            },
        }
    }

    fn audience(self) -> Option<Audience> {
        let mut names = self.names.into_iter().map(Arc::<str>::from);
        match (self.conversation, &self.users[..]) {
            (Some(key), _) if self.is_room => {
                Some(Audience::Room { conversation: ConversationKey(key), name: names.next()? })
            }
            (Some(key), _) => Some(Audience::Group { conversation: ConversationKey(key), name: names.next()? }),
            (None, [one, two]) => {
                Some(Audience::Peers([(UserKey(*one), names.next()?), (UserKey(*two), names.next()?)]))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
