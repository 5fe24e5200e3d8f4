//! What a committed transaction tells the rest of the server. Plain data: it is kept with the transaction, dropped with its
//! savepoint, and handed over in commit order, after the commit and before the caller hears of it.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::SessionEndReason;

use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};

/// Something to tell those who are online.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The log of messages of a conversation grew by one.
    Message(Arc<MessageEffect>),
    /// The feed of a user grew.
    Feed {
        /// Whose.
        user: UserKey,
        /// The new head.
        pos: i64,
        /// The entry; in a box, because most effects are messages and move in batches.
        entry: Box<zim_protocol::feed_entry::Detail>,
        /// The session that caused it: its response carries the entry.
        cause: LoginKey,
    },
    /// The log of changes of a conversation grew by one.
    Change {
        /// Who is told.
        audience: Audience,
        /// The entry, with its position.
        entry: Box<zim_protocol::ChangeEntry>,
        /// The session that caused it: its response carries the entry.
        cause: LoginKey,
    },
    /// A user's profile changed: those who know him are told, when they are found.
    Profile {
        /// Whose.
        user: UserKey,
        /// As it is now.
        info: Box<zim_protocol::UserFullInfo>,
    },
    /// What a user is seen as changed: his other devices are told, and those who subscribed, when they are found.
    Status {
        /// Whose.
        user: UserKey,
        /// As it is now.
        status: Box<zim_protocol::UserStatus>,
        /// The session that caused it.
        cause: LoginKey,
    },
    /// A login is over: pushed out by a newer one, ended by the operator, or resumed on another connection.
    LoginEnded {
        /// Whose login.
        user: UserKey,
        /// The login.
        login: LoginKey,
        /// What its client is told.
        reason: SessionEndReason,
    },
    /// All one-shot logins of a user are over, also those that are being admitted.
    OneShotsEnded {
        /// Whose.
        user: UserKey,
        /// What their clients are told.
        reason: SessionEndReason,
    },
}

/// The two sides of a peer conversation, or whoever listens to a group.
#[derive(Clone, Debug)]
pub enum Audience {
    /// Both users with their names: each sees the conversation under the other's name.
    Peers([(UserKey, Arc<str>); 2]),
}

/// A stored message, ready to be copied into frames.
#[derive(Debug)]
pub struct MessageEffect {
    /// The app.
    pub app: AppKey,
    /// The conversation.
    pub conversation: ConversationKey,
    /// Who is told.
    pub audience: Audience,
    /// Position.
    pub seq: i64,
    /// How many messages up to this one count as unread.
    pub n: i64,
    /// As clients see it.
    pub message_id: i64,
    /// Name of the sender.
    pub sender: Arc<str>,
    /// The session that sent it: it has the content.
    pub cause: LoginKey,
    /// Unix milliseconds.
    pub ts: i64,
    /// `MessageType`.
    pub kind: i32,
    /// `MessageFlag`s.
    pub flags: u32,
    /// The sender's key.
    pub client_key: [u8; 16],
    /// The stored body.
    pub content: Bytes,
}
