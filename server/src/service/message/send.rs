//! Sending: what all messages to users and groups have in common.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zim_protocol::{
    ConversationRef, ConversationType, Message, MessageEntry, MessageFlag, MessageSendConfig, MessageSentResult,
    MessageType,
};

use super::peers;
use super::rules::{self, Draft};
use crate::app::App;
use crate::connection::{Answered, Caller, Identity, PushTarget};
use crate::effect::{Audience, Receivers};
use crate::error::Error;
use crate::journal::{Extra, NewMessage, Sent, message_push};
use crate::key::ConversationKey;
use crate::push::PushKind;

impl App {
    /// Builds a message to store.
    pub(super) fn new_message(
        &self,
        caller: &Caller,
        conversation: ConversationKey,
        audience: Audience,
        draft: &Draft,
        (key, replied): (Key, Option<&Message>),
    ) -> Result<NewMessage, Error> {
        let identity = caller.identity()?;
        let tenant = self.tenants.of(identity.app)?;
        let mut digest = Sha256::new()
            .chain_update((draft.kind as i32).to_be_bytes())
            .chain_update(draft.flags.to_be_bytes())
            .chain_update(&draft.content);
        if let Some(replied) = replied {
            digest.update(replied.message_id.as_bytes());
            digest.update(replied.message_seq.to_be_bytes());
        }
        if let Some(combined) = &draft.combined {
            digest.update(combined);
        }
        for user in draft.receivers.listed() {
            digest.update(user.0.to_be_bytes());
        }
        let hash = digest.finalize().iter().take(8).fold(0, |sum: i64, byte| (sum << 8) | i64::from(*byte));
        let id = self.ids.next();
        let (combined, files) = (draft.combined.clone(), draft.files.clone());
        let receivers = draft.receivers.clone();
        let has_extra = combined.is_some() || !files.is_empty() || receivers != Receivers::All;
        let extra = has_extra.then(|| Box::new(Extra { combined, files, receivers, ..Extra::default() }));
        Ok(NewMessage {
            app: identity.app,
            scrambler: Arc::clone(&tenant.scrambler),
            conversation,
            audience,
            sender: identity.user,
            sender_name: Arc::clone(&identity.user_id),
            login: identity.login,
            id,
            key: key.bits,
            hash,
            is_first_only: key.is_of_app,
            now: self.clock.now_ms(),
            kind: draft.kind as i32,
            flags: draft.flags,
            body: draft.content_of(tenant.scrambler.public(id))?,
            extra,
        })
    }

    /// Submits a message; it gets its place in the queue before this returns.
    pub(super) fn submit_send(
        &self,
        caller: &Caller,
        name: &ConversationRef,
        message: NewMessage,
    ) -> Result<Answered<Sent>, Error> {
        let sent = self.db.submit_bulk(message);
        caller.set_submitted();
        Ok(caller.answered(sent, PushTarget::Conversation(name.clone())))
    }

    /// Stores a message, which may reply to another one, and returns it as it is stored.
    pub(super) async fn send(
        &self,
        caller: &Caller,
        name: ConversationRef,
        message: Message,
        config: &MessageSendConfig,
        (key, omits_content): (Key, bool),
        shown: Shown,
    ) -> Result<MessageSentResult, Error> {
        let identity = caller.identity()?;
        let mut message = message;
        // A message with the reference to another one is a reply to it.
        let replied = message.replied_info.take().map(|info| Message {
            message_id: info.message_id,
            message_seq: info.message_seq,
            conversation_id: name.id.clone(),
            conversation_type: name.r#type,
            ..Message::default()
        });
        if replied.is_some() && shown.sender_unaware {
            // All learn how many replies a message has.
            return Err(Error::params_invalid("a reply is not kept from its sender"));
        }
        let completed = match self.complete_combined(identity, &mut message).await {
            Ok(()) => self.complete_media(identity, &mut message).await,
            Err(error) => Err(error),
        };
        let files = match completed {
            Ok(files) => files,
            Err(error) if shown.sender_unaware => return Err(error),
            // What is missing now may have been there when it was stored.
            Err(error) => return self.sent_before(caller, &name, key.bits).await?.ok_or(error),
        };
        let mut draft = rules::draft(message, config, &self.config.limits)?;
        draft.files = files;
        if caller.is_server() {
            draft.flags |= MessageFlag::Server as u32;
        }
        draft.set_receivers(shown.receivers)?;
        if shown.sender_unaware {
            draft.flags |= MessageFlag::SenderUnaware as u32;
        }
        if draft.kind == MessageType::Command {
            if replied.is_some() {
                return Err(Error::message_type_unsupported("a reply"));
            }
            let sent = self.send_command(caller, &name, &draft, key.bits).await?;
            let content = if omits_content { Bytes::new() } else { draft.content.clone() };
            let entry = sent_entry(identity, &draft, key.bits, sent, content);
            let message = entry.into_message(&identity.user_id, &name).map_err(Error::internal)?;
            return Ok(MessageSentResult { message: Some(message) });
        }
        let (conversation, audience) = if name.r#type() == ConversationType::Group {
            self.group_of(identity, &name.id).await?
        } else {
            let peer = self.resolve_peer(identity, &name.id).await?;
            let conversation = self.open_peer_conversation(identity.app, identity.user, peer).await?;
            (conversation, peers(identity, peer, &name.id))
        };
        let mut new = self.new_message(caller, conversation, audience, &draft, (key, replied.as_ref()))?;
        if let Some(push) = self.new_push(identity, PushKind::Message, config.push_config.as_ref())? {
            new.extra.get_or_insert_default().push = Some(push);
        }
        let mut state = None;
        let sent = match &replied {
            Some(replied) => {
                let reference = self.reference(caller, replied).await?;
                let (sent, reply) = self.send_reply(caller, reference, new).await?;
                draft.flags |= MessageFlag::State as u32;
                state = reply.map(Box::new);
                sent
            }
            None if shown.sender_unaware => self.send_unaware(caller, &name, new).await?,
            None => self.submit_send(caller, &name, new)?.await?,
        };
        // What the client has is not the stored content if the server completed that.
        let is_known = draft.combined.is_none() && !is_media(draft.kind);
        // A message that is sent again is answered as it is now: others may have changed it, and the client may have passed these changes
        // over. An unaware sender does not see what is stored.
        if !sent.is_new && !shown.sender_unaware {
            // Of a reply, the client does not know what it replies to.
            let is_known = is_known && !sent.is_changed && replied.is_none();
            match self.stored_entry(identity, conversation, sent.seq).await? {
                Some(entry) => {
                    let content = entry.content.clone();
                    let own = MessageEntry { content: if is_known { Bytes::new() } else { content.clone() }, ..entry };
                    caller.add_push(message_push(vec![own.clone()], name.clone()));
                    let content = if omits_content && is_known { Bytes::new() } else { content };
                    let entry = MessageEntry { content, ..own };
                    let message = entry.into_message(&identity.user_id, &name).map_err(Error::internal)?;
                    return Ok(MessageSentResult { message: Some(message) });
                }
                // They have left the group.
                None if sent.is_changed && !self.has_deleted(identity.user, conversation, sent.seq).await? => {
                    return Err(Error::message_not_found());
                }
                // They have deleted it for themselves.
                None => {}
            }
        }
        let content = draft.content_of(sent.message_id)?;
        let own = sent_entry(identity, &draft, key.bits, sent, if is_known { Bytes::new() } else { content.clone() });
        caller.add_push(message_push(vec![MessageEntry { state: state.clone(), ..own }], name.clone()));
        let content = if omits_content && is_known { Bytes::new() } else { content };
        let entry = sent_entry(identity, &draft, key.bits, sent, content);
        let entry = MessageEntry { state, ..entry };
        let message = entry.into_message(&identity.user_id, &name).map_err(Error::internal)?;
        Ok(MessageSentResult { message: Some(message) })
    }
}

/// Whether the server completes the content of such a message by what it knows of its files.
pub(super) fn is_media(kind: MessageType) -> bool {
    use MessageType::{Audio, File, Image, Multiple, Video};
    matches!(kind, Image | File | Audio | Video | Multiple)
}

/// Who sees a message.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Who of a group.
    pub(super) receivers: Receivers,
    /// Not its sender, who does not learn of it.
    pub(super) sender_unaware: bool,
}

/// The key of a message.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) bits: [u8; 16],
    /// It was made from a key of the app, and not by its client.
    is_of_app: bool,
}

impl Key {
    /// The app's key of the message, or the client's, or a new one if there is none.
    pub(super) fn of(name: &ConversationRef, config: &MessageSendConfig, client_key: &[u8]) -> Result<Self, Error> {
        let of_app = &config.idempotency_key;
        if !of_app.is_empty() {
            return Ok(Self { bits: zim_protocol::id::message_key(name, of_app), is_of_app: true });
        }
        if let Ok(bits) = <[u8; 16]>::try_from(client_key) {
            return Ok(Self { bits, is_of_app: false });
        }
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(Error::internal)?;
        Ok(Self { bits, is_of_app: false })
    }
}

/// Builds the entry of a message for its sender, without the content if their client has it.
pub(super) fn sent_entry(
    identity: &Identity,
    draft: &Draft,
    key: [u8; 16],
    sent: Sent,
    content: Bytes,
) -> MessageEntry {
    MessageEntry {
        seq: sent.seq.unsigned_abs(),
        n: sent.n.unsigned_abs(),
        message_id: sent.message_id,
        sender: identity.user_id.to_string(),
        ts: sent.ts,
        kind: draft.kind as i32,
        flags: draft.flags,
        client_key: Bytes::copy_from_slice(&key),
        content,
        state: None,
    }
}
