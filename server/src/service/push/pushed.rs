//! What is pushed, as it is stored now.

use std::collections::HashSet;

use prost::Message as _;
use zim_protocol::{ConversationRef, ConversationType, Message, MessageFlag, MessageType, PushConfig};

use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::{AppKey, UserKey};
use crate::push::PushKind;

/// A conversation that nobody can be in: its kind is of a later version.
const NOWHERE: ConversationType = ConversationType::Room;

/// What is pushed, and where it is from.
#[derive(Clone, Debug)]
pub(super) struct Pushed {
    pub(super) app: AppKey,
    pub(super) sender: UserKey,
    pub(super) sender_id: String,
    pub(super) kind: PushKind,
    /// The conversation, or the call.
    pub(super) about: i64,
    pub(super) seq: i64,
    pub(super) config: PushConfig,
    /// Those of what is about no message, ascending.
    pub(super) receivers: Vec<i64>,
    pub(super) created_at: i64,
    pub(super) conversation_type: ConversationType,
    /// The ID of the group.
    pub(super) group_id: String,
    pub(super) blocks: i64,
    pub(super) message: Option<Stored>,
}

/// The message as it is stored now.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) id: i64,
    is_revoked: bool,
    mentioned: HashSet<String>,
    mentions_all: bool,
}

impl Pushed {
    /// Reads what is pushed; `None` if it is gone.
    pub(super) async fn read(tx: &mut Tx<'_>, id: i64) -> Result<Option<Self>, Error> {
        let sql = "SELECT p.app, p.account, p.kind, p.conversation, p.seq, p.config, p.receivers, p.created_at, a.name, \
                   c.type, c.name, c.blocks FROM push p JOIN account a ON a.id = p.account \
                   LEFT JOIN conversation c ON c.id = p.conversation WHERE p.id = $1";
        let Some(row) = tx.fetch_one(sql, &params![id]).await? else { return Ok(None) };
        let Some(kind) = PushKind::of(row.get(2)?) else { return Ok(None) };
        let (about, seq): (i64, i64) = (row.get(3)?, row.get(4)?);
        let message = if kind.is_of_message() { Stored::read(tx, about, seq).await? } else { None };
        if kind.is_of_message() && message.is_none() {
            return Ok(None);
        }
        let bytes: Vec<u8> = row.get(6)?;
        let mut receivers: Vec<i64> = bytes.as_chunks::<8>().0.iter().map(|user| i64::from_be_bytes(*user)).collect();
        receivers.sort_unstable();
        let conversation_type = row.get::<Option<i32>>(9)?.and_then(|kind| ConversationType::try_from(kind).ok());
        Ok(Some(Self {
            app: AppKey(row.get(0)?),
            sender: UserKey(row.get(1)?),
            sender_id: row.get(8)?,
            kind,
            about,
            seq,
            config: PushConfig::decode(&*row.get::<Vec<u8>>(5)?).map_err(Error::internal)?,
            receivers,
            created_at: row.get(7)?,
            conversation_type: conversation_type.unwrap_or(NOWHERE),
            group_id: row.get::<Option<String>>(10)?.unwrap_or_default(),
            blocks: row.get::<Option<i64>>(11)?.unwrap_or_default(),
            message,
        }))
    }

    /// Returns the end of the interval in which it was made.
    pub(super) fn interval_end(&self, interval_ms: i64) -> i64 {
        (self.created_at.div_euclid(interval_ms) + 1) * interval_ms
    }

    /// Whether it is about a conversation that its receivers know.
    pub(super) fn has_conversation(&self) -> bool {
        self.conversation_type != NOWHERE
    }

    /// Returns the conversation as its receivers call it.
    pub(super) fn conversation(&self) -> ConversationRef {
        let id = match self.conversation_type {
            ConversationType::Group => self.group_id.clone(),
            _ => self.sender_id.clone(),
        };
        ConversationRef { r#type: self.conversation_type as i32, id }
    }

    pub(super) fn mentions(&self, user_id: &str) -> bool {
        self.message.as_ref().is_some_and(|message| message.mentions_all || message.mentioned.contains(user_id))
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.kind == PushKind::Message && self.message.as_ref().is_none_or(|message| message.is_revoked)
    }
}

impl Stored {
    async fn read(tx: &mut Tx<'_>, conversation: i64, seq: i64) -> Result<Option<Self>, Error> {
        let sql = "SELECT id, kind, flags, body FROM message WHERE conversation = $1 AND seq = $2";
        let Some(row) = tx.fetch_one(sql, &params![conversation, seq]).await? else { return Ok(None) };
        let flags: i64 = row.get(2)?;
        let notifies = flags & i64::from(MessageFlag::NotifyMentioned as u32) != 0;
        let body = Message::decode(&*row.get::<Vec<u8>>(3)?).map_err(Error::internal)?;
        Ok(Some(Self {
            id: row.get(0)?,
            is_revoked: row.get::<i32>(1)? == MessageType::Revoke as i32,
            mentioned: if notifies { body.mentioned_user_ids.into_iter().collect() } else { HashSet::new() },
            mentions_all: notifies && body.is_mention_all,
        }))
    }
}
