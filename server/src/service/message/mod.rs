//! Sends and reads messages.

mod command;
mod revoke;
mod rules;

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zim_protocol::{
    ConversationRef, ConversationType, Message, MessageEntry, MessageQueriedResult, MessageRevokedResult,
    MessageSentResult, MessageType, ORDER_KEY_STEP, QueryHistoryMessageRequest, QueryMessagesRequest,
    RevokeMessageRequest, SendMessageRequest, server::MessageService,
};

use crate::app::App;
use crate::connection::{Answered, Caller, Identity, PushTarget, WriteTo};
use crate::db::{Scope, Tx};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{self, ChangedConversation, Direction, NewMessage, Sent, Viewer, message_push};
use crate::key::{ConversationKey, Scrambler, UserKey};
use crate::service::rows::PAGE_BYTES;

use self::revoke::Revocation;
use self::rules::Draft;

/// The most messages on a page of history, and the size of a page if none is given.
const MAX_PAGE: usize = 100;

impl App {
    /// Returns the other user of a peer conversation.
    async fn resolve_peer(&self, identity: &Identity, peer_id: &str) -> Result<UserKey, Error> {
        if peer_id == &*identity.user_id {
            return Err(Error::params_invalid(
                "toConversationID is your own userID; a message to yourself cannot be sent",
            ));
        }
        self.user_key(identity.app, peer_id).await?.ok_or_else(|| Error::target_not_found(peer_id))
    }

    /// Returns an existing conversation of the caller, and who is notified of what happens in it.
    async fn existing_conversation(
        &self,
        identity: &Identity,
        name: &ConversationRef,
    ) -> Result<(ConversationKey, Audience), Error> {
        let not_found = || Error::conversation_not_found(&name.id);
        let found = self.conversation_key(identity.app, identity.user, name.r#type, &name.id).await?;
        let conversation = found.ok_or_else(not_found)?;
        let audience = match name.r#type() {
            ConversationType::Group => Audience::Group { conversation, name: Arc::from(name.id.as_str()) },
            _ => {
                let peer = self.user_key(identity.app, &name.id).await?.ok_or_else(not_found)?;
                peers(identity, peer, &name.id)
            }
        };
        Ok((conversation, audience))
    }

    /// Returns a message as the caller sees it now.
    async fn stored_entry(
        &self,
        identity: &Identity,
        conversation: ConversationKey,
        seq: i64,
    ) -> Result<Option<MessageEntry>, Error> {
        let (user, scrambler) = (identity.user, Arc::clone(&self.tenants.of(identity.app)?.scrambler));
        let found = self.db.read(async move |tx| {
            let Some(viewer) = Viewer::of(tx, conversation, user).await? else { return Ok(Vec::new()) };
            journal::messages_at(tx, conversation, &scrambler, &viewer, &[seq]).await
        });
        Ok(found.await?.pop())
    }

    /// Returns a group and its audience.
    async fn group_of(&self, identity: &Identity, group_id: &str) -> Result<(ConversationKey, Audience), Error> {
        let group = self.group_key(identity.app, group_id).await?;
        let conversation = group.ok_or_else(|| Error::group_not_found(group_id))?;
        Ok((conversation, Audience::Group { conversation, name: Arc::from(group_id) }))
    }

    /// Submits a message; it gets its place in the queue before this returns.
    fn submit_send(
        &self,
        caller: &Caller,
        (conversation, name): (ConversationKey, &ConversationRef),
        audience: Audience,
        draft: &Draft,
        key: Key,
    ) -> Result<Answered<Sent>, Error> {
        let identity = caller.identity()?;
        let tenant = self.tenants.of(identity.app)?;
        let body = draft.content.clone();
        let digest = Sha256::new()
            .chain_update((draft.kind as i32).to_be_bytes())
            .chain_update(draft.flags.to_be_bytes())
            .chain_update(&body)
            .finalize();
        let hash = digest.iter().take(8).fold(0, |sum: i64, byte| (sum << 8) | i64::from(*byte));
        let sent = self.db.submit_bulk(NewMessage {
            app: identity.app,
            scrambler: Arc::clone(&tenant.scrambler),
            conversation,
            audience,
            sender: identity.user,
            sender_name: Arc::clone(&identity.user_id),
            login: identity.login,
            id: self.ids.next(),
            key: key.bits,
            hash,
            is_first_only: key.is_of_app,
            now: self.clock.now_ms(),
            kind: draft.kind as i32,
            flags: draft.flags,
            body,
        });
        caller.set_submitted();
        Ok(caller.answered(sent, PushTarget::Conversation(name.clone())))
    }
}

/// The audience of the conversation between the caller and another user.
fn peers(identity: &Identity, peer: UserKey, peer_id: &str) -> Audience {
    Audience::Peers([(identity.user, Arc::clone(&identity.user_id)), (peer, Arc::from(peer_id))])
}

/// The key of a message.
#[derive(Clone, Copy)]
struct Key {
    bits: [u8; 16],
    /// It was made from a key of the app, and not by its client.
    is_of_app: bool,
}

impl Key {
    /// The app's key of the message, or the client's, or a new one if there is none.
    fn of(request: &SendMessageRequest) -> Result<Self, Error> {
        let of_app = request.config.as_ref().map_or("", |config| &config.idempotency_key);
        if !of_app.is_empty() {
            let name = ConversationRef { r#type: request.conversation_type, id: request.to_conversation_id.clone() };
            return Ok(Self { bits: zim_protocol::id::message_key(&name, of_app), is_of_app: true });
        }
        if let Ok(bits) = <[u8; 16]>::try_from(&request.client_key[..]) {
            return Ok(Self { bits, is_of_app: false });
        }
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(Error::internal)?;
        Ok(Self { bits, is_of_app: false })
    }
}

/// Returns the position of the message at which a page of history begins; 0: there is none.
async fn anchor(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    direction: Direction,
    next: &Message,
) -> Result<i64, Error> {
    if next.message_seq > 0 {
        return Ok(next.message_seq);
    }
    if next.order_key > 0 {
        // The key of a message that only its sender has is between those of stored ones.
        let before = next.order_key / ORDER_KEY_STEP;
        let is_between = next.order_key % ORDER_KEY_STEP > 0 && direction == Direction::Older;
        return Ok(before.saturating_add(i64::from(is_between)));
    }
    if next.message_id.is_empty() {
        return Ok(0);
    }
    let found = match next.message_id.parse() {
        Ok(id) => journal::seq_of(tx, conversation, scrambler.stored(id)).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Error::params_invalid("config.nextMessage is not a message of this conversation"))
}

impl MessageService for App {
    async fn send_message(&self, caller: &Caller, request: SendMessageRequest) -> Result<MessageSentResult, Error> {
        let identity = caller.identity()?;
        let kind = request.conversation_type();
        if !matches!(kind, ConversationType::Peer | ConversationType::Group) {
            return Err(Error::params_invalid("conversationType must be 0 (one other user) or 2 (a group)"));
        }
        let key = Key::of(&request)?;
        let omits_content = request.omit_content;
        let config = request.config.unwrap_or_default();
        let draft = rules::draft(request.message.unwrap_or_default(), &config, &self.config.limits)?;
        let name = ConversationRef { r#type: request.conversation_type, id: request.to_conversation_id };
        let sent = if draft.kind == MessageType::Command {
            self.send_command(caller, &name, &draft, key.bits).await?
        } else {
            let (conversation, audience) = if kind == ConversationType::Group {
                self.group_of(identity, &name.id).await?
            } else {
                let peer = self.resolve_peer(identity, &name.id).await?;
                let conversation = self.open_peer_conversation(identity.app, identity.user, peer).await?;
                (conversation, peers(identity, peer, &name.id))
            };
            let sent = self.submit_send(caller, (conversation, &name), audience, &draft, key)?.await?;
            if sent.is_changed {
                // The sender may no longer see it: after leaving the group, or after deleting it.
                let entry = self.stored_entry(identity, conversation, sent.seq).await?;
                let entry = entry.ok_or_else(Error::message_not_found)?;
                caller.add_push(message_push(vec![entry.clone()], name.clone()));
                let message = entry.into_message(&identity.user_id, &name).map_err(Error::internal)?;
                return Ok(MessageSentResult { message: Some(message) });
            }
            let own = sent_entry(identity, &draft, key.bits, sent, Bytes::new());
            caller.add_push(message_push(vec![own], name.clone()));
            sent
        };
        let content = if omits_content { Bytes::new() } else { draft.content.clone() };
        let entry = sent_entry(identity, &draft, key.bits, sent, content);
        let message = entry.into_message(&identity.user_id, &name).map_err(Error::internal)?;
        Ok(MessageSentResult { message: Some(message) })
    }

    async fn revoke_message(
        &self,
        caller: &Caller,
        request: RevokeMessageRequest,
    ) -> Result<MessageRevokedResult, Error> {
        let identity = caller.identity()?;
        let (message, config) = (request.message.unwrap_or_default(), request.config.unwrap_or_default());
        let name = ConversationRef { r#type: message.conversation_type, id: message.conversation_id };
        let (conversation, audience) = self.existing_conversation(identity, &name).await?;
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let id = match (message.message_id.is_empty(), message.message_seq) {
            (true, ..=0) => return Err(Error::params_invalid("message has neither a messageID nor a messageSeq")),
            (true, _) => None,
            (false, _) => Some(scrambler.stored(message.message_id.parse().map_err(|_| Error::message_not_found())?)),
        };
        let revocation = Revocation {
            id,
            seq: message.message_seq,
            user: identity.user,
            user_id: identity.user_id.to_string(),
            now: self.clock.now_ms(),
            window_ms: i64::from(self.config.limits.revoke_window_s) * 1_000,
            extended_data: config.revoke_extended_data,
        };
        let changed = ChangedConversation { key: conversation, audience, scrambler: Arc::clone(&scrambler) };
        let entry = caller.write(
            &self.db,
            WriteTo::conversation(Scope::conversation(conversation), name.clone()),
            async move |tx, log| {
                let (seq, viewer) = revoke::revoke(tx, log, &changed, revocation).await?;
                let found = journal::messages_at(tx, conversation, &scrambler, &viewer, &[seq]).await?;
                found.into_iter().next().ok_or_else(|| Error::internal_text("a revoked message is missing"))
            },
        );
        let message = entry.await?.into_message(&identity.user_id, &name).map_err(Error::internal)?;
        Ok(MessageRevokedResult { message: Some(message) })
    }

    async fn query_history_message(
        &self,
        caller: &Caller,
        request: QueryHistoryMessageRequest,
    ) -> Result<MessageQueriedResult, Error> {
        let config = request.config.unwrap_or_default();
        let count = usize::try_from(config.count).ok().filter(|count| *count > 0).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let direction = if config.reverse { Direction::Older } else { Direction::Newer };
        let next = config.next_message.unwrap_or_default();
        self.read_messages(caller, (request.conversation_type, request.conversation_id), {
            async move |tx, conversation, scrambler, viewer| {
                let anchor = anchor(tx, conversation, scrambler, direction, &next).await?;
                let page = (anchor, direction);
                journal::around(tx, conversation, scrambler, viewer, page, count, PAGE_BYTES).await
            }
        })
        .await
    }

    async fn query_messages(
        &self,
        caller: &Caller,
        request: QueryMessagesRequest,
    ) -> Result<MessageQueriedResult, Error> {
        let seqs = request.message_seqs;
        self.read_messages(caller, (request.conversation_type, request.conversation_id), {
            async move |tx, conversation, scrambler, viewer| {
                journal::messages_at(tx, conversation, scrambler, viewer, &seqs).await
            }
        })
        .await
    }
}

impl App {
    /// Reads messages of a conversation as the caller sees them; none if the conversation does not exist.
    async fn read_messages<F>(
        &self,
        caller: &Caller,
        (kind, id): (i32, String),
        read: F,
    ) -> Result<MessageQueriedResult, Error>
    where
        F: AsyncFnOnce(&mut Tx<'_>, ConversationKey, &Scrambler, &Viewer) -> Result<Vec<MessageEntry>, Error>
            + Send
            + 'static,
    {
        let identity = caller.identity()?;
        let (app, user) = (identity.app, identity.user);
        let scrambler = Arc::clone(&self.tenants.of(app)?.scrambler);
        let entries = match self.conversation_key(app, user, kind, &id).await? {
            None => Vec::new(),
            Some(conversation) => {
                self.db
                    .read(async move |tx| {
                        let Some(viewer) = Viewer::of(tx, conversation, user).await? else {
                            return Ok(Vec::new());
                        };
                        read(tx, conversation, &scrambler, &viewer).await
                    })
                    .await?
            }
        };
        let name = ConversationRef { r#type: kind, id };
        let message_list = entries
            .into_iter()
            .map(|entry| entry.into_message(&identity.user_id, &name).map_err(Error::internal))
            .collect::<Result<_, _>>()?;
        Ok(MessageQueriedResult { conversation_id: name.id, conversation_type: kind, message_list })
    }
}

/// Builds the entry of a message for its sender, without the content if their client has it.
fn sent_entry(identity: &Identity, draft: &Draft, key: [u8; 16], sent: Sent, content: Bytes) -> MessageEntry {
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
    }
}
