//! Sends and reads messages.

mod again;
mod combine;
mod command;
mod delete;
mod edit;
mod erase;
mod operator;
mod pin;
mod reaction;
mod receipt;
mod reply;
mod revoke;
mod room;
mod rules;
mod target;
mod typing;
mod unaware;

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zim_protocol::{
    CombineMessageDetailQueriedResult, ConversationMessagesAllDeletedResult, ConversationRef, ConversationType,
    DeleteAllConversationMessagesRequest, DeleteAllMessageRequest, DeleteMessagesRequest, EditMessageRequest, Message,
    MessageDeletedResult, MessageEditedResult, MessageEntry, MessageFlag, MessagePinnedResult, MessageQueriedResult,
    MessageQueryConfig, MessageRepliedInfo, MessageRepliedListQueriedResult, MessageRevokedResult, MessageSendConfig,
    MessageSentResult, MessageType, ORDER_KEY_STEP, PinMessageRequest, PinnedMessageListQueriedResult,
    QueryCombineMessageDetailRequest, QueryHistoryMessageRequest, QueryMessageRepliedListRequest, QueryMessagesRequest,
    QueryPinnedMessageListRequest, ReplyMessageRequest, RevokeMessageRequest, SendBarrageRequest, SendMessageRequest,
    server::MessageService,
};

use crate::app::App;
use crate::connection::{Answered, Caller, Identity, PushTarget, WriteTo};
use crate::db::{Scope, Tx, params};
use crate::effect::{Audience, Receivers};
use crate::error::Error;
use crate::journal::{self, Direction, Extra, LogWriter, NewMessage, Sent, Viewer, message_push};
use crate::key::{ConversationKey, Scrambler, UserKey};
use crate::push::PushKind;
use crate::service::rows::PAGE_BYTES;

pub(crate) use self::delete::{ALL_CLEARED, CLEARED, DELETION};
use self::edit::By;
pub(crate) use self::receipt::{CONVERSATION_RECEIPT, RECEIPT};
use self::rules::Draft;
use self::target::Reference;

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

    /// Whether a user has deleted a message for themselves.
    async fn has_deleted(&self, user: UserKey, conversation: ConversationKey, seq: i64) -> Result<bool, Error> {
        let found = self.db.read(async move |tx| {
            // What is kept from them is not deleted by them.
            let unaware = MessageFlag::SenderUnaware as i64;
            let sql = "SELECT 1 FROM member m WHERE NOT EXISTS (SELECT 1 FROM message x WHERE x.conversation = $2 AND x.seq = $3 \
                       AND (x.flags & $4) <> 0) AND m.account = $1 AND m.conversation = $2 AND (m.cleared_seq >= $3 OR \
                       EXISTS (SELECT 1 FROM hidden h WHERE h.account = $1 AND h.conversation = $2 AND h.seq = $3))";
            Ok(tx.fetch_one(sql, &params![user, conversation, seq, unaware]).await?.is_some())
        });
        found.await
    }

    /// Returns a group and its audience.
    async fn group_of(&self, identity: &Identity, group_id: &str) -> Result<(ConversationKey, Audience), Error> {
        let group = self.group_key(identity.app, group_id).await?;
        let conversation = group.ok_or_else(|| Error::group_not_found(group_id))?;
        Ok((conversation, Audience::Group { conversation, name: Arc::from(group_id) }))
    }

    /// Builds a message to store.
    fn new_message(
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
    fn submit_send(
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
    async fn send(
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
        // A reply that is sent again is answered with what it replies to as it is now.
        let is_reply_again = replied.is_some() && state.is_none();
        // An unaware sender does not see what is stored.
        if (sent.is_changed || is_reply_again) && !shown.sender_unaware {
            match self.stored_entry(identity, conversation, sent.seq).await? {
                Some(entry) => {
                    caller.add_push(message_push(vec![entry.clone()], name.clone()));
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
        // What the client has is not the stored content if the server completed that.
        let content = draft.content_of(sent.message_id)?;
        let is_known = draft.combined.is_none() && !is_media(draft.kind);
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
fn is_media(kind: MessageType) -> bool {
    use MessageType::{Audio, File, Image, Multiple, Video};
    matches!(kind, Image | File | Audio | Video | Multiple)
}

/// Who sees a message.
#[derive(Debug, Default)]
struct Shown {
    /// Who of a group.
    receivers: Receivers,
    /// Not its sender, who does not learn of it.
    sender_unaware: bool,
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
    fn of(name: &ConversationRef, config: &MessageSendConfig, client_key: &[u8]) -> Result<Self, Error> {
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

/// A page of history.
#[derive(Debug)]
struct HistoryPage {
    count: usize,
    direction: Direction,
    next: Message,
}

impl HistoryPage {
    fn of(config: MessageQueryConfig) -> Self {
        Self {
            count: usize::try_from(config.count).ok().filter(|count| *count > 0).unwrap_or(MAX_PAGE).min(MAX_PAGE),
            direction: if config.reverse { Direction::Older } else { Direction::Newer },
            next: config.next_message.unwrap_or_default(),
        }
    }

    async fn read(
        self,
        tx: &mut Tx<'_>,
        conversation: ConversationKey,
        scrambler: &Scrambler,
        viewer: &Viewer,
    ) -> Result<Vec<MessageEntry>, Error> {
        let anchor = anchor(tx, conversation, scrambler, self.direction, &self.next).await?;
        let page = (anchor, self.direction);
        journal::around(tx, conversation, scrambler, viewer, page, self.count, PAGE_BYTES).await
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
        if request.conversation_type() == ConversationType::Room {
            return self.send_room_message(caller, request, false).await;
        }
        if !matches!(request.conversation_type(), ConversationType::Peer | ConversationType::Group) {
            return Err(Error::unknown_conversation_type());
        }
        let name = ConversationRef { r#type: request.conversation_type, id: request.to_conversation_id };
        let config = request.config.unwrap_or_default();
        let key = Key::of(&name, &config, &request.client_key)?;
        let message = request.message.unwrap_or_default();
        self.send(caller, name, message, &config, (key, request.omit_content), Shown::default()).await
    }

    async fn send_barrage(&self, caller: &Caller, request: SendBarrageRequest) -> Result<MessageSentResult, Error> {
        self.send_barrage_message(caller, request).await
    }

    async fn reply_message(&self, caller: &Caller, request: ReplyMessageRequest) -> Result<MessageSentResult, Error> {
        let original = request.to_original_message.unwrap_or_default();
        let name = ConversationRef { r#type: original.conversation_type, id: original.conversation_id };
        let config = request.config.unwrap_or_default();
        let key = Key::of(&name, &config, &request.client_key)?;
        let replied_info = MessageRepliedInfo {
            message_id: original.message_id,
            message_seq: original.message_seq,
            ..MessageRepliedInfo::default()
        };
        let message = Message { replied_info: Some(Box::new(replied_info)), ..request.message.unwrap_or_default() };
        self.send(caller, name, message, &config, (key, false), Shown::default()).await
    }

    async fn query_message_replied_list(
        &self,
        caller: &Caller,
        request: QueryMessageRepliedListRequest,
    ) -> Result<MessageRepliedListQueriedResult, Error> {
        self.replies(caller, request).await
    }

    async fn revoke_message(
        &self,
        caller: &Caller,
        request: RevokeMessageRequest,
    ) -> Result<MessageRevokedResult, Error> {
        let reference = self.reference(caller, &request.message.unwrap_or_default()).await?;
        let window_ms = i64::from(self.config.limits.revoke_window_s) * 1_000;
        let config = request.config.unwrap_or_default();
        let push = self.new_push(caller.identity()?, PushKind::Revoke, config.push_config.as_ref())?;
        let media = self.config.media.clone();
        let by_server = caller.is_server();
        let message = self.change_message(caller, reference, async move |tx, log, reference| {
            let entry =
                revoke::revoke(tx, log, reference, (window_ms, by_server, &media), config.revoke_extended_data).await?;
            if let Some(push) = push {
                let receivers = reference.conversation.audience.others(reference.user);
                push.insert(tx, (reference.conversation.key, entry.seq.cast_signed()), &receivers).await?;
            }
            Ok(entry)
        });
        Ok(MessageRevokedResult { message: Some(message.await?) })
    }

    async fn edit_message(&self, caller: &Caller, request: EditMessageRequest) -> Result<MessageEditedResult, Error> {
        let message = self.edit(caller, request.message.unwrap_or_default(), By::User).await?;
        Ok(MessageEditedResult { message: Some(message) })
    }

    async fn pin_message(&self, caller: &Caller, request: PinMessageRequest) -> Result<MessagePinnedResult, Error> {
        let reference = self.reference(caller, &request.message.unwrap_or_default()).await?;
        let replaces = !request.config.unwrap_or_default().disable_auto_replace;
        let limits = (self.config.limits.max_pinned_messages, replaces);
        let tips = self.tips(caller.identity()?.app);
        let target = WriteTo::conversation(Scope::conversation(reference.conversation.key), reference.name.clone());
        let pinning = caller.write(&self.db, target, async move |tx, log| {
            pin::pin(tx, log, &reference, request.is_pinned, (limits, tips)).await
        });
        pinning.await?;
        Ok(MessagePinnedResult {})
    }

    async fn query_pinned_message_list(
        &self,
        caller: &Caller,
        request: QueryPinnedMessageListRequest,
    ) -> Result<PinnedMessageListQueriedResult, Error> {
        let name = (request.conversation_type, request.conversation_id);
        let found = self.read_messages(caller, name, async move |tx, conversation, scrambler, viewer| {
            pin::list(tx, conversation, scrambler, viewer).await
        });
        Ok(PinnedMessageListQueriedResult { message_list: found.await?.message_list })
    }

    async fn delete_messages(
        &self,
        caller: &Caller,
        request: DeleteMessagesRequest,
    ) -> Result<MessageDeletedResult, Error> {
        let name = ConversationRef { r#type: request.conversation_type, id: request.conversation_id.clone() };
        self.delete_for_caller(caller, &name, request).await?;
        Ok(MessageDeletedResult { conversation_id: name.id, conversation_type: name.r#type })
    }

    async fn delete_all_message(
        &self,
        caller: &Caller,
        request: DeleteAllMessageRequest,
    ) -> Result<MessageDeletedResult, Error> {
        let name = ConversationRef { r#type: request.conversation_type, id: request.conversation_id.clone() };
        self.clear_for_caller(caller, &name, request).await?;
        Ok(MessageDeletedResult { conversation_id: name.id, conversation_type: name.r#type })
    }

    async fn delete_all_conversation_messages(
        &self,
        caller: &Caller,
        request: DeleteAllConversationMessagesRequest,
    ) -> Result<ConversationMessagesAllDeletedResult, Error> {
        self.clear_all_for_caller(caller, request).await?;
        Ok(ConversationMessagesAllDeletedResult {})
    }

    async fn query_combine_message_detail(
        &self,
        caller: &Caller,
        request: QueryCombineMessageDetailRequest,
    ) -> Result<CombineMessageDetailQueriedResult, Error> {
        self.combine_detail(caller, request).await
    }

    async fn query_history_message(
        &self,
        caller: &Caller,
        request: QueryHistoryMessageRequest,
    ) -> Result<MessageQueriedResult, Error> {
        if request.conversation_type() == ConversationType::Room {
            return self.room_history(caller, request).await;
        }
        let page = HistoryPage::of(request.config.unwrap_or_default());
        self.read_messages(caller, (request.conversation_type, request.conversation_id), {
            async move |tx, conversation, scrambler, viewer| page.read(tx, conversation, scrambler, viewer).await
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
    /// Edits a message and returns it as the caller sees it.
    async fn edit(&self, caller: &Caller, mut message: Message, by: By) -> Result<Message, Error> {
        let reference = self.reference(caller, &message).await?;
        let window_ms = i64::from(self.config.limits.edit_window_s) * 1_000;
        let files = self.complete_media(caller.identity()?, &mut message).await?;
        let draft = Draft { files, ..edit::draft(message, &self.config.limits)? };
        let media = self.config.media.clone();
        self.change_message(caller, reference, async move |tx, log, reference| {
            edit::edit(tx, log, reference, &draft, (by, window_ms, &media)).await
        })
        .await
    }

    /// Changes a message and returns it as the caller sees it afterwards.
    async fn change_message<F>(&self, caller: &Caller, reference: Reference, change: F) -> Result<Message, Error>
    where
        F: AsyncFnOnce(&mut Tx<'_>, &mut LogWriter, &Reference) -> Result<MessageEntry, Error> + Send + 'static,
    {
        let target = WriteTo::conversation(Scope::conversation(reference.conversation.key), reference.name.clone());
        let shown = reference.clone();
        let entry = caller.write(&self.db, target, async move |tx, log| change(tx, log, &reference).await);
        shown.message(entry.await?)
    }

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
        queried(identity, ConversationRef { r#type: kind, id }, entries)
    }
}

/// Returns messages as the caller sees them.
fn queried(
    identity: &Identity,
    name: ConversationRef,
    entries: Vec<MessageEntry>,
) -> Result<MessageQueriedResult, Error> {
    let message_list = entries
        .into_iter()
        .map(|entry| entry.into_message(&identity.user_id, &name).map_err(Error::internal))
        .collect::<Result<_, _>>()?;
    Ok(MessageQueriedResult { conversation_id: name.id, conversation_type: name.r#type, message_list })
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
        state: None,
    }
}
