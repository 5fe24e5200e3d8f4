//! Messages of the operator: sent as a user, to all users of an app, or revoked. The rules are those of the user, who has no
//! connection.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use zim_protocol::{
    BroadcastMessageRequest, ConversationRef, ConversationType, EditServerMessageRequest, ListMessagesRequest,
    ListMessagesResult, Message, MessageBroadcastResult, MessageEntry, MessageFlag, MessagePriority,
    MessageQueryConfig, MessageReceivers, MessageRevokeConfig, MessageSendConfig, MessageType,
    QueryHistoryMessageRequest, RevokeMessageRequest, RevokeServerMessageRequest, SendMessageRequest,
    SendServerMessageRequest, SendServerMessageToUsersRequest, ServerMessageEditedResult, ServerMessageOutcome,
    ServerMessageRevokedResult, ServerMessageSentResult, message::Body, server::MessageService,
};

use super::edit::By;
use super::send::{Key, Shown, sent_entry};
use super::{MAX_PAGE, rules};
use crate::app::App;
use crate::connection::{Caller, Identity};
use crate::db::{Scope, params};
use crate::effect::{Effect, Receivers};
use crate::error::Error;
use crate::key::LoginKey;
use crate::tenant::Tenant;

/// The messages of a request to several users that are stored at the same time.
const SENT_AT_ONCE: usize = 50;

/// A sender who does not learn of a message cannot learn who has read it.
fn check_unaware(sender_unaware: bool, config: &MessageSendConfig) -> Result<(), Error> {
    if sender_unaware && config.has_receipt {
        return Err(Error::params_invalid("a sender who is unaware of the message gets no receipt of it"));
    }
    Ok(())
}

impl App {
    /// Returns a user as the caller, for whom the operator acts.
    ///
    /// # Errors
    /// There is no such user, or they are erased.
    pub(crate) async fn acting(&self, operator: &Caller, tenant: &Tenant, user_id: &str) -> Result<Caller, Error> {
        let caller = self.standing_for(operator, tenant, user_id).await?;
        let user = caller.identity()?.user;
        let sql = "SELECT 1 FROM account WHERE id = $1 AND erased_at > 0";
        let is_erased = self.db.read(async move |tx| Ok(tx.fetch_one(sql, &params![user]).await?.is_some()));
        if is_erased.await? { Err(Error::user_not_found(user_id)) } else { Ok(caller) }
    }

    /// Returns a user as the caller, also one who is erased: to see what there is of them, or to remove it.
    ///
    /// # Errors
    /// There is no such user.
    pub(crate) async fn standing_for(
        &self,
        operator: &Caller,
        tenant: &Tenant,
        user_id: &str,
    ) -> Result<Caller, Error> {
        let user = self.user_key(tenant.key, user_id).await?.ok_or_else(|| Error::user_not_found(user_id))?;
        let identity = Identity {
            app: tenant.key,
            user,
            user_id: Arc::from(user_id),
            // No login has this key.
            login: LoginKey(0),
            ticket: [0; 16],
            login_at: self.clock.now_ms(),
            one_shot: true,
        };
        Ok(Caller::acting(identity, operator.audit()))
    }

    /// Sends a message as a user.
    pub(crate) async fn send_as(
        &self,
        user: &Caller,
        request: SendServerMessageRequest,
    ) -> Result<ServerMessageSentResult, Error> {
        let SendServerMessageRequest { to_conversation_id, conversation_type, message, config, receivers, .. } =
            request;
        let sender_unaware = request.sender_unaware;
        let name = ConversationRef { r#type: conversation_type, id: to_conversation_id };
        let (kind, config) = (name.r#type(), config.unwrap_or_default());
        if receivers.is_some() && kind != ConversationType::Group {
            return Err(Error::params_invalid("receivers are for a message to a group"));
        }
        check_unaware(sender_unaware, &config)?;
        let sent = match kind {
            ConversationType::Peer | ConversationType::Group => {
                let receivers = match receivers {
                    Some(receivers) => self.receivers(user, receivers).await?,
                    None => Receivers::All,
                };
                let key = Key::of(&name, &config, &[])?;
                let shown = Shown { receivers, sender_unaware };
                self.send(user, name, message.unwrap_or_default(), &config, (key, false), shown).await?
            }
            ConversationType::Room => {
                let request = SendMessageRequest {
                    to_conversation_id: name.id,
                    conversation_type,
                    message,
                    config: Some(config),
                    ..SendMessageRequest::default()
                };
                self.send_room_message(user, request, sender_unaware).await?
            }
            _ => return Err(Error::unknown_conversation_type()),
        };
        Ok(ServerMessageSentResult { message: sent.message })
    }

    /// Sends a message as a user to each of several users. Returns what became of each.
    ///
    /// # Errors
    /// The message could be sent to nobody.
    pub(crate) async fn send_to_users_as(
        &self,
        user: &Caller,
        request: SendServerMessageToUsersRequest,
    ) -> Result<Vec<ServerMessageOutcome>, Error> {
        let SendServerMessageToUsersRequest { to_user_ids, message, config, sender_unaware, .. } = request;
        let config = config.unwrap_or_default();
        check_unaware(sender_unaware, &config)?;
        let message = message.unwrap_or_default();
        // The content of a combined one is read for each.
        if !matches!(message.body, Some(Body::Combine(_))) {
            rules::draft(message.clone(), &config, &self.config.limits)?;
        }
        let mut seen = HashSet::with_capacity(to_user_ids.len());
        let users: Vec<&String> = to_user_ids.iter().filter(|user_id| seen.insert(user_id.as_str())).collect();
        let send = async |user_id: &String| {
            let request = SendServerMessageRequest {
                to_conversation_id: user_id.clone(),
                conversation_type: ConversationType::Peer as i32,
                message: Some(message.clone()),
                config: Some(config.clone()),
                sender_unaware,
                ..SendServerMessageRequest::default()
            };
            let outcome = ServerMessageOutcome { user_id: user_id.clone(), ..ServerMessageOutcome::default() };
            match self.send_as(user, request).await {
                Ok(sent) => {
                    let Message { message_id, message_seq, .. } = sent.message.unwrap_or_default();
                    ServerMessageOutcome { message_id, message_seq, ..outcome }
                }
                Err(error) => {
                    ServerMessageOutcome { code: error.code() as i32, error: error.message().to_owned(), ..outcome }
                }
            }
        };
        let (mut outcomes, mut rest) = (Vec::with_capacity(users.len()), &users[..]);
        // The first message that is stored has the row of the audit log beside it. Transactions that store the same row would wait for
        // each other, and two calls for one another.
        while let Some((user_id, others)) = rest.split_first() {
            let outcome = send(user_id).await;
            let is_sent = outcome.code == 0;
            outcomes.push(outcome);
            rest = others;
            if is_sent {
                break;
            }
        }
        for part in rest.chunks(SENT_AT_ONCE) {
            outcomes.extend(join_all(part.iter().map(|user_id| send(user_id))).await);
        }
        Ok(outcomes)
    }

    async fn receivers(&self, sender: &Caller, receivers: MessageReceivers) -> Result<Receivers, Error> {
        let identity = sender.identity()?;
        let mut users = Vec::with_capacity(receivers.user_ids.len());
        for user_id in &receivers.user_ids {
            let user = self.user_key(identity.app, user_id).await?.ok_or_else(|| Error::user_not_found(user_id))?;
            if user == identity.user {
                return Err(Error::params_invalid("receivers has the sender, who always sees the message"));
            }
            users.push(user);
        }
        Ok(Receivers::of(users, receivers.is_except))
    }

    /// Sends a message to all who are online.
    pub(crate) async fn broadcast(
        &self,
        user: &Caller,
        request: BroadcastMessageRequest,
    ) -> Result<MessageBroadcastResult, Error> {
        let identity = user.identity()?;
        let priority = request.priority();
        let mut message = request.message.unwrap_or_default();
        self.complete_media(identity, &mut message).await?;
        let mut draft = rules::room_draft(message, &MessageSendConfig::default(), (&self.config.limits, false))?;
        if matches!(draft.kind, MessageType::Barrage | MessageType::Command) {
            return Err(Error::params_invalid("a broadcast is a text, a custom message, or has files"));
        }
        draft.flags |= MessageFlag::Server as u32 | MessageFlag::Broadcast as u32;
        let key = Key::of(&ConversationRef::default(), &MessageSendConfig::default(), &[])?;
        let sent = self.command(identity)?;
        let entry = sent_entry(identity, &draft, key.bits, sent, draft.content.clone());
        let (app, message) = (identity.app, Box::new(entry));
        let scope = Scope::user(identity.user).for_app(app, draft.content.len());
        let sending = self.db.submit(scope, async move |tx| {
            tx.emit(Effect::Broadcast { app, users: Vec::new(), message, priority });
            Ok(())
        });
        sending.await?;
        Ok(MessageBroadcastResult { message_id: sent.message_id.to_string() })
    }

    /// Tells users who are online of an experimental event.
    pub(crate) async fn tell_experimental(
        &self,
        tenant: &Tenant,
        user_ids: &[String],
        content: String,
    ) -> Result<(), Error> {
        let mut users = Vec::with_capacity(user_ids.len());
        for user_id in user_ids {
            let user = self.user_key(tenant.key, user_id).await?;
            users.push(user.ok_or_else(|| Error::user_not_found(user_id))?);
        }
        // Who is named twice is told once.
        users.sort_unstable();
        users.dedup();
        let message = MessageEntry {
            ts: self.clock.now_ms(),
            kind: MessageType::Text as i32,
            flags: MessageFlag::Experimental as u32,
            content: prost::Message::encode_to_vec(&Message::text(content)).into(),
            ..MessageEntry::default()
        };
        let (app, message, priority) = (tenant.key, Box::new(message), MessagePriority::High);
        let scope = Scope::none().for_app(app, message.content.len());
        let telling = self.db.submit(scope, async move |tx| {
            tx.emit(Effect::Broadcast { app, users, message, priority });
            Ok(())
        });
        telling.await
    }

    /// Revokes a message, whoever sent it.
    pub(crate) async fn revoke_as_server(
        &self,
        user: &Caller,
        request: RevokeServerMessageRequest,
    ) -> Result<ServerMessageRevokedResult, Error> {
        let message = Message {
            conversation_id: request.conversation_id,
            conversation_type: request.conversation_type,
            message_seq: request.message_seq,
            ..Message::default()
        };
        let RevokeServerMessageRequest { revoke_extended_data, push_config, .. } = request;
        let config = MessageRevokeConfig { push_config, revoke_extended_data };
        let request = RevokeMessageRequest { message: Some(message), config: Some(config) };
        let revoked = self.revoke_message(user, request).await?;
        Ok(ServerMessageRevokedResult { message: revoked.message })
    }

    /// Edits a message as its sender, whoever that is.
    pub(crate) async fn edit_as_server(
        &self,
        user: &Caller,
        request: EditServerMessageRequest,
    ) -> Result<ServerMessageEditedResult, Error> {
        let message = Message {
            conversation_id: request.conversation_id,
            conversation_type: request.conversation_type,
            message_seq: request.message_seq,
            message_id: String::new(),
            ..request.message.unwrap_or_default()
        };
        let message = self.edit(user, message, By::Operator).await?;
        Ok(ServerMessageEditedResult { message: Some(message) })
    }

    /// Returns a page of a conversation, as a user sees it.
    pub(crate) async fn messages_of(
        &self,
        user: &Caller,
        request: ListMessagesRequest,
    ) -> Result<ListMessagesResult, Error> {
        let most = i64::try_from(MAX_PAGE).unwrap_or(i64::MAX);
        let count = if request.count == 0 { most } else { request.count };
        let next_message = Message { message_seq: request.before_seq, ..Message::default() };
        let config = MessageQueryConfig {
            next_message: Some(next_message),
            count,
            reverse: true,
            ..MessageQueryConfig::default()
        };
        let request = QueryHistoryMessageRequest {
            conversation_id: request.conversation_id,
            conversation_type: request.conversation_type,
            config: Some(config),
        };
        let message_list = self.query_history_message(user, request).await?.message_list;
        // A page may end early because it is long.
        let next_seq = message_list.first().map_or(0, |first| first.message_seq);
        let next_seq = if next_seq > 1 { next_seq } else { 0 };
        Ok(ListMessagesResult { message_list, next_seq })
    }
}
