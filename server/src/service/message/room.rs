//! Messages to a room: they reach the devices that are in it, and are not stored. A job in the queue of the room gives each its
//! place, so the messages of a sender keep their order, and everybody gets all of them in the same one.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ConversationRef, ConversationType, MessageSentResult, MessageType, SendBarrageRequest, SendMessageRequest,
    message::Body,
};

use super::rules::{self, Draft};
use super::{Key, sent_entry};
use crate::app::App;
use crate::connection::{Caller, WriteTo};
use crate::db::Scope;
use crate::effect::{Audience, Effect, TransientEffect};
use crate::error::Error;
use crate::service::room;

impl App {
    /// Sends a message to a room, except a barrage message.
    pub(super) async fn send_room_message(
        &self,
        caller: &Caller,
        request: SendMessageRequest,
    ) -> Result<MessageSentResult, Error> {
        let message = request.message.unwrap_or_default();
        if matches!(message.body, Some(Body::Barrage(_))) {
            return Err(Error::params_invalid("a barrage message is sent with Message/SendBarrage"));
        }
        let config = request.config.unwrap_or_default();
        let draft = rules::room_draft(message, &config, &self.config.limits)?;
        self.send_to_room(caller, request.to_conversation_id, draft, (&request.client_key, request.omit_content)).await
    }

    /// Sends a barrage message to a room.
    pub(super) async fn send_barrage_message(
        &self,
        caller: &Caller,
        request: SendBarrageRequest,
    ) -> Result<MessageSentResult, Error> {
        if request.conversation_type() != ConversationType::Room {
            return Err(Error::params_invalid("a barrage message goes to a room only"));
        }
        let config = request.config.unwrap_or_default();
        let draft = rules::room_draft(request.message.unwrap_or_default(), &config, &self.config.limits)?;
        if draft.kind != MessageType::Barrage {
            return Err(Error::params_invalid("Message/SendBarrage takes barrage messages"));
        }
        self.send_to_room(caller, request.to_conversation_id, draft, (&request.client_key, request.omit_content)).await
    }

    async fn send_to_room(
        &self,
        caller: &Caller,
        room_id: String,
        draft: Draft,
        (client_key, omits_content): (&[u8], bool),
    ) -> Result<MessageSentResult, Error> {
        let identity = caller.identity()?;
        let name = ConversationRef { r#type: ConversationType::Room as i32, id: room_id };
        let key = Key::of(&name, &zim_protocol::MessageSendConfig::default(), client_key)?;
        let found = self.room_key(identity.app, &name.id).await?;
        let conversation = found.ok_or_else(|| Error::room_not_found(&name.id))?;
        let sent = self.command(identity)?;
        let message = sent_entry(identity, &draft, key.bits, sent, draft.content.clone());
        let number = self.tenants.of(identity.app)?.scrambler.public(conversation.0);
        let (me, cause, priority) = (identity.user, identity.login, draft.priority);
        let audience = Audience::Room { conversation, name: Arc::from(name.id.as_str()) };
        let not_in = Error::not_in_room(&name.id);
        let target = WriteTo::conversation(Scope::conversation(conversation), name.clone());
        let sending = caller.write(&self.db, target, async move |tx, _| {
            let rev = room::rev_for_member(tx, conversation, me).await?.ok_or(not_in)?;
            let effect =
                TransientEffect { audience, message, after_seq: 0, after_rev: rev, priority, cause, room: number };
            tx.emit(Effect::Transient(Box::new(effect)));
            Ok(())
        });
        sending.await?;
        let content = if omits_content { Bytes::new() } else { draft.content.clone() };
        let entry = sent_entry(identity, &draft, key.bits, sent, content);
        let message = entry.into_message(&identity.user_id, &name).map_err(Error::internal)?;
        Ok(MessageSentResult { message: Some(message) })
    }
}
