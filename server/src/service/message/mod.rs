//! Sends and reads messages.

mod again;
mod combine;
mod command;
mod delete;
mod edit;
mod erase;
mod history;
mod operator;
mod pin;
mod reaction;
mod receipt;
mod reply;
mod revoke;
mod room;
mod rules;
mod send;
mod target;
mod typing;
mod unaware;

use std::sync::Arc;

use zim_protocol::{
    CombineMessageDetailQueriedResult, ConversationMessagesAllDeletedResult, ConversationRef, ConversationType,
    DeleteAllConversationMessagesRequest, DeleteAllMessageRequest, DeleteMessagesRequest, EditMessageRequest, Message,
    MessageDeletedResult, MessageEditedResult, MessageEntry, MessageFlag, MessagePinnedResult, MessageQueriedResult,
    MessageRepliedInfo, MessageRepliedListQueriedResult, MessageRevokedResult, MessageSentResult, PinMessageRequest,
    PinnedMessageListQueriedResult, QueryCombineMessageDetailRequest, QueryHistoryMessageRequest,
    QueryMessageRepliedListRequest, QueryMessagesRequest, QueryPinnedMessageListRequest, ReplyMessageRequest,
    RevokeMessageRequest, SendBarrageRequest, SendMessageRequest, server::MessageService,
};

use crate::app::App;
use crate::connection::{Caller, Identity, WriteTo};
use crate::db::{Scope, Tx, params};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{self, LogWriter, Viewer};
use crate::key::{ConversationKey, UserKey};
use crate::push::PushKind;

pub(crate) use self::delete::{ALL_CLEARED, CLEARED, DELETION};
use self::edit::By;
use self::history::HistoryPage;
pub(crate) use self::receipt::{CONVERSATION_RECEIPT, RECEIPT};
use self::rules::Draft;
use self::send::{Key, Shown};
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
}

/// The audience of the conversation between the caller and another user.
fn peers(identity: &Identity, peer: UserKey, peer_id: &str) -> Audience {
    Audience::Peers([(identity.user, Arc::clone(&identity.user_id)), (peer, Arc::from(peer_id))])
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
}
