//! Messages to a room: they reach the devices that are in it, and are not stored. A job in the queue of the room gives each its
//! place, so the messages of a sender keep their order, and everybody gets all of them in the same one.
//!
//! Each node pushes what it commits to its own sessions before the others hear of it. So all messages of a room get their place on one
//! node, its home: the one that made the room, or another one if that is gone. The other nodes send theirs there.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ConversationRef, ConversationType, MessageFlag, MessageSentResult, MessageType, SendBarrageRequest,
    SendMessageRequest, message::Body,
};

use super::rules::{self, Draft};
use super::{Key, is_media, sent_entry};
use crate::app::App;
use crate::bus::BusState;
use crate::connection::{Caller, Identity, WriteTo};
use crate::db::Scope;
use crate::effect::{Audience, Effect, TransientEffect};
use crate::error::Error;
use crate::journal::Sent;
use crate::key::{ConversationKey, UserKey};
use crate::service::room;

impl App {
    /// Sends a message to a room, except a barrage message. The devices of an unaware sender do not get it.
    pub(super) async fn send_room_message(
        &self,
        caller: &Caller,
        request: SendMessageRequest,
        sender_unaware: bool,
    ) -> Result<MessageSentResult, Error> {
        let mut message = request.message.unwrap_or_default();
        if matches!(message.body, Some(Body::Barrage(_))) {
            return Err(Error::params_invalid("a barrage message is sent with Message/SendBarrage"));
        }
        let config = request.config.unwrap_or_default();
        // The message is not stored, so it does not keep its files.
        self.complete_media(caller.identity()?, &mut message).await?;
        let mut draft = rules::room_draft(message, &config, &self.config.limits)?;
        if caller.is_server() {
            draft.flags |= MessageFlag::Server as u32;
        }
        if sender_unaware {
            draft.flags |= MessageFlag::SenderUnaware as u32;
        }
        let omits_content = request.omit_content && !is_media(draft.kind);
        self.send_to_room(caller, request.to_conversation_id, draft, (&request.client_key, omits_content)).await
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
        // The operator's messages need nobody in the room.
        let me = if caller.is_server() { UserKey(0) } else { identity.user };
        let (cause, priority) = (identity.login, draft.priority);
        let audience = Audience::Room { conversation, name: Arc::from(name.id.as_str()) };
        let not_in = Error::not_in_room(&name.id);
        if let Some(home) = self.other_home(conversation) {
            // The next message of the connection waits for this one.
            let found = self.db.read(async move |tx| room::rev_for_member(tx, conversation, me).await).await?;
            found.ok_or(not_in)?;
            let transient =
                TransientEffect { audience, message, after_seq: 0, after_rev: 0, priority, cause, room: number };
            let transient = Box::new(transient);
            self.bus().publish(&[Effect::RoomMessage { home, transient }]);
            return sent_to_room(identity, &draft, (key, sent, omits_content), &name);
        }
        let target = WriteTo::conversation(Scope::conversation(conversation), name.clone());
        let sending = caller.write(&self.db, target, async move |tx, _| {
            let rev = room::rev_for_member(tx, conversation, me).await?.ok_or(not_in)?;
            let effect =
                TransientEffect { audience, message, after_seq: 0, after_rev: rev, priority, cause, room: number };
            tx.emit(Effect::Transient(Box::new(effect)));
            Ok(())
        });
        sending.await?;
        sent_to_room(identity, &draft, (key, sent, omits_content), &name)
    }

    /// Returns the node where the messages of a room get their place, unless it is this one. All nodes agree as long as none comes or
    /// goes.
    fn other_home(&self, room: ConversationKey) -> Option<u8> {
        let own = self.db.lease()?.number();
        if self.bus().state() != BusState::Up {
            // The others hear nothing of it, wherever it gets its place.
            return None;
        }
        let mut live: Vec<u8> = self.db.lease()?.peers().into_iter().map(|(number, _)| number).collect();
        live.push(own);
        let maker = u8::try_from(room.0 & 63).ok()?;
        let home = if live.contains(&maker) { maker } else { live.into_iter().min()? };
        (home != own).then_some(home)
    }

    /// Gives a message to a room, which another node has sent here, its place.
    pub(crate) fn place_room_message(&self, home: u8, transient: TransientEffect) {
        let Audience::Room { conversation, .. } = transient.audience else { return };
        if self.db.lease().is_none_or(|lease| lease.number() != home) {
            return;
        }
        // The sender was in the room when they sent it. They may have left since, as after a last word. Nobody waits for it: if it
        // fails, the message is lost, as a message to a room may be.
        drop(self.db.submit(Scope::conversation(conversation), async move |tx| {
            if let Some(rev) = room::rev(tx, conversation).await? {
                tx.emit(Effect::Transient(Box::new(TransientEffect { after_rev: rev, ..transient })));
            }
            Ok(())
        }));
    }
}

/// Returns the answer to the sender.
fn sent_to_room(
    identity: &Identity,
    draft: &Draft,
    (key, sent, omits_content): (Key, Sent, bool),
    name: &ConversationRef,
) -> Result<MessageSentResult, Error> {
    let content = if omits_content { Bytes::new() } else { draft.content.clone() };
    let entry = sent_entry(identity, draft, key.bits, sent, content);
    let message = entry.into_message(&identity.user_id, name).map_err(Error::internal)?;
    Ok(MessageSentResult { message: Some(message) })
}
