//! The message that a request is about, and what every method about a stored message checks first.

use std::sync::Arc;

use zim_protocol::{ConversationRef, Message, MessageEntry, MessageFlag, MessageType};

use crate::app::App;
use crate::connection::Caller;
use crate::db::{Tx, params};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{self, ChangedConversation, Viewer, rules};
use crate::key::{ConversationKey, Scrambler, UserKey};
use crate::service::group::{check_may_write, role};

/// Which message a request is about, and who asks.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// The conversation as the caller names it.
    pub(super) name: ConversationRef,
    pub(super) conversation: ChangedConversation,
    /// The stored ID, or else the position.
    id: Option<i64>,
    seq: i64,
    pub(super) user: UserKey,
    pub(super) user_id: Arc<str>,
    pub(super) now: i64,
}

/// A stored message that the caller sees, and how they see its conversation.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: i64,
    pub(super) seq: i64,
    pub(super) sender: UserKey,
    pub(super) kind: i32,
    pub(super) flags: u32,
    pub(super) ts: i64,
    pub(super) body: Vec<u8>,
    pub(super) viewer: Viewer,
}

impl App {
    /// Returns which message of an existing conversation a request is about.
    pub(super) async fn reference(&self, caller: &Caller, message: &Message) -> Result<Reference, Error> {
        let identity = caller.identity()?;
        let name = ConversationRef { r#type: message.conversation_type, id: message.conversation_id.clone() };
        let (key, audience) = self.existing_conversation(identity, &name).await?;
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let id = match (message.message_id.is_empty(), message.message_seq) {
            (true, ..=0) => return Err(Error::params_invalid("message has neither a messageID nor a messageSeq")),
            (true, _) => None,
            (false, _) => Some(scrambler.stored(message.message_id.parse().map_err(|_| Error::message_not_found())?)),
        };
        Ok(Reference {
            name,
            conversation: ChangedConversation { key, audience, scrambler },
            id,
            seq: message.message_seq,
            user: identity.user,
            user_id: Arc::clone(&identity.user_id),
            now: self.clock.now_ms(),
        })
    }
}

impl Reference {
    /// What the server itself changes in a conversation, whoever sees it.
    pub(super) fn of_server(name: ConversationRef, conversation: ChangedConversation, now: i64) -> Self {
        Self { name, conversation, id: None, seq: 0, user: UserKey(0), user_id: Arc::from(""), now }
    }

    /// Finds the message, if the caller sees it.
    pub(super) async fn find(&self, tx: &mut Tx<'_>) -> Result<Target, Error> {
        let conversation = self.conversation.key;
        let viewer = Viewer::of(tx, conversation, self.user).await?.ok_or_else(Error::conversation_closed)?;
        let (column, wanted) = self.id.map_or(("seq", self.seq), |id| ("id", id));
        let sql = format!(
            "SELECT m.id, m.seq, m.sender, m.kind, m.flags, m.ts, m.body FROM message m \
             WHERE m.conversation = $1 AND m.{column} = $2 AND {}",
            journal::is_shown("m", "$3")
        );
        let row = tx.fetch_one(&sql, &params![conversation, wanted, self.user]).await?;
        let row = row.ok_or_else(Error::message_not_found)?;
        let seq: i64 = row.get(1)?;
        if !viewer.is_in_stay(seq) {
            return Err(Error::message_not_found());
        }
        Ok(Target {
            id: row.get(0)?,
            seq,
            sender: UserKey(row.get(2)?),
            kind: row.get(3)?,
            flags: row.get(4)?,
            ts: row.get(5)?,
            body: row.get(6)?,
            viewer,
        })
    }

    /// Finds the message for a change of it: the conversation is open, and the caller is a member. Returns their role in a
    /// group.
    pub(super) async fn find_to_change(&self, tx: &mut Tx<'_>) -> Result<(Target, Option<i64>), Error> {
        let target = self.find(tx).await?;
        let (conversation, user) = (self.conversation.key, self.user);
        let Audience::Group { name, .. } = &self.conversation.audience else {
            return match target.viewer.message_log.end {
                Some(_) => Err(Error::conversation_closed()),
                None => Ok((target, None)),
            };
        };
        if target.viewer.message_log.end.is_some() {
            return Err(Error::group_not_found(name));
        }
        let role = role(tx, conversation, user).await?.ok_or_else(|| Error::not_in_group(name))?;
        Ok((target, Some(role)))
    }

    /// Finds the message for something that others get to see: it was not revoked, and the caller could send a message, too. The
    /// other user of a peer conversation has not blocked them, and they are not muted in the group.
    pub(super) async fn find_to_show(&self, tx: &mut Tx<'_>) -> Result<Target, Error> {
        let target = self.find_unrevoked(tx).await?;
        self.check_may_write(tx).await?;
        Ok(target)
    }

    /// Finds the message for something that all get to see who see the conversation: it was not revoked, and it is for all.
    pub(super) async fn find_unrevoked(&self, tx: &mut Tx<'_>) -> Result<Target, Error> {
        let (target, _) = self.find_to_change(tx).await?;
        if target.kind == MessageType::Revoke as i32 {
            return Err(Error::already_revoked());
        }
        if target.flags & (MessageFlag::TargetOnly as u32 | MessageFlag::TargetExcept as u32) != 0 {
            return Err(Error::message_is_targeted());
        }
        Ok(target)
    }

    async fn check_may_write(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        let peers = match &self.conversation.audience {
            Audience::Peers(peers) => peers,
            Audience::Group { name, .. } => {
                return check_may_write(tx, (self.conversation.key, name), self.user, self.now).await;
            }
            Audience::Room { name, .. } => return Err(Error::not_in_room(name)),
        };
        let sql = "SELECT blocks FROM conversation WHERE id = $1";
        let row = tx.fetch_one(sql, &params![self.conversation.key]).await?;
        let blocks: i64 = row.map_or(Ok(0), |row| row.get(0))?;
        let is_blocked =
            peers.iter().any(|(peer, _)| *peer != self.user && rules::is_refused(blocks, self.user.0, peer.0));
        if is_blocked { Err(Error::sender_blocked()) } else { Ok(()) }
    }

    /// Returns the message as the caller sees it now.
    pub(super) async fn entry(&self, tx: &mut Tx<'_>, target: &Target) -> Result<MessageEntry, Error> {
        let ChangedConversation { key, scrambler, .. } = &self.conversation;
        let found = journal::messages_at(tx, *key, scrambler, &target.viewer, &[target.seq]).await?;
        // The caller may have deleted it for themselves meanwhile, on another device.
        found.into_iter().next().ok_or_else(Error::message_not_found)
    }

    /// Returns an entry as a message for the caller.
    pub(super) fn message(&self, entry: MessageEntry) -> Result<Message, Error> {
        entry.into_message(&self.user_id, &self.name).map_err(Error::internal)
    }
}

/// Returns the messages of a conversation that a list of a request names, as far as the caller sees them, and the IDs of the
/// others. Takes one statement for the list.
pub(super) async fn find_all(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: &Viewer,
    messages: &[Message],
) -> Result<(Vec<Found>, Vec<String>), Error> {
    let ids: Vec<i64> =
        messages.iter().filter_map(|message| message.message_id.parse().ok()).map(|id| scrambler.stored(id)).collect();
    let (list, mut params) = tx.dialect().in_list(ids, 3);
    params.splice(0..0, params![conversation, viewer.user]);
    let sql = format!(
        "SELECT m.id, m.seq, m.sender, m.kind, m.flags FROM message m WHERE m.conversation = $1 AND m.id IN {list} AND {}",
        journal::is_shown("m", "$2")
    );
    let mut found = Vec::with_capacity(messages.len());
    for row in tx.fetch(&sql, &params).await? {
        let message = Found {
            id: row.get(0)?,
            seq: row.get(1)?,
            sender: UserKey(row.get(2)?),
            kind: row.get(3)?,
            flags: row.get(4)?,
            is_of_earlier_stay: viewer.was_there_before(row.get(1)?),
        };
        if viewer.is_in_stay(message.seq) {
            found.push(message);
        }
    }
    found.sort_unstable_by_key(|message| message.seq);
    let is_missing =
        |id: &str| id.parse().map_or(true, |id| !found.iter().any(|message| message.id == scrambler.stored(id)));
    let missing: Vec<String> =
        messages.iter().map(|message| message.message_id.clone()).filter(|id| is_missing(id)).collect();
    Ok((found, missing))
}

/// A message that [`find_all`] found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) seq: i64,
    pub(super) sender: UserKey,
    pub(super) kind: i32,
    pub(super) flags: u32,
    /// The caller was a member when it was sent, and has left and returned since.
    pub(super) is_of_earlier_stay: bool,
}
