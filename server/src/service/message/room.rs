//! Messages to a room: they reach the devices that are in it. A job in the queue of the room gives each its place, so the messages of a
//! sender keep their order, and everybody gets all of them in the same one.
//!
//! Each node pushes what it commits to its own sessions before the others hear of it. So all messages of a room are handed over by one
//! node, its home: the one that made the room, or another one if that is gone. The other nodes send theirs there.
//!
//! If the room keeps what is said in it, the node of the sender stores the message first (`service/room/history`).

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ConversationRef, ConversationType, MessageEntry, MessageFlag, MessageQueriedResult, MessageSentResult, MessageType,
    QueryHistoryMessageRequest, SendBarrageRequest, SendMessageRequest, message::Body,
};

use super::history::{HistoryPage, queried};
use super::rules::{self, Draft};
use super::send::{Key, is_media, sent_entry};
use crate::app::App;
use crate::bus::BusState;
use crate::connection::{Caller, Identity, WriteTo};
use crate::db::Scope;
use crate::effect::{Audience, Effect, TransientEffect};
use crate::error::Error;
use crate::journal::{Sent, ToRoom};
use crate::key::{AppKey, ConversationKey, UserKey};
use crate::service::room;

/// A room that a message goes to.
#[derive(Debug)]
struct ToWrite {
    key: ConversationKey,
    name: ConversationRef,
    /// What is said in it is kept.
    is_kept: bool,
}

/// Whether a message is kept if its room keeps any.
fn is_storable(kind: MessageType) -> bool {
    !matches!(kind, MessageType::Command | MessageType::Barrage)
}

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
        let identity = caller.identity()?;
        let room = self.room_for_message(identity.app, request.to_conversation_id).await?;
        if room.is_kept {
            self.complete_combined(identity, &mut message).await?;
        }
        let files = self.complete_media(identity, &mut message).await?;
        let mut draft = rules::room_draft(message, &config, (&self.config.limits, room.is_kept))?;
        // A message that is not stored does not keep its files.
        draft.files = files;
        if caller.is_server() {
            draft.flags |= MessageFlag::Server as u32;
        }
        if sender_unaware {
            draft.flags |= MessageFlag::SenderUnaware as u32;
        }
        let omits_content = request.omit_content && draft.combined.is_none() && !is_media(draft.kind);
        self.send_to_room(caller, room, draft, (&request.client_key, omits_content)).await
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
        let message = request.message.unwrap_or_default();
        let draft = rules::room_draft(message, &config, (&self.config.limits, false))?;
        if draft.kind != MessageType::Barrage {
            return Err(Error::params_invalid("Message/SendBarrage takes barrage messages"));
        }
        let room = self.room_for_message(caller.identity()?.app, request.to_conversation_id).await?;
        self.send_to_room(caller, room, draft, (&request.client_key, request.omit_content)).await
    }

    async fn room_for_message(&self, app: AppKey, room_id: String) -> Result<ToWrite, Error> {
        let (key, is_kept) = self.room_to_write(app, &room_id).await?;
        Ok(ToWrite { key, name: ConversationRef { r#type: ConversationType::Room as i32, id: room_id }, is_kept })
    }

    /// Returns a page of what is kept of a room.
    pub(super) async fn room_history(
        &self,
        caller: &Caller,
        request: QueryHistoryMessageRequest,
    ) -> Result<MessageQueriedResult, Error> {
        let (identity, page) = (caller.identity()?, HistoryPage::of(request.config.unwrap_or_default()));
        let ToWrite { key, name, is_kept } = self.room_for_message(identity.app, request.conversation_id).await?;
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let (user, most, not_in) = (identity.user, self.config.limits.max_room_history, Error::not_in_room(&name.id));
        let entries = self.db.read(async move |tx| {
            let viewer = room::viewer(tx, key, user, most).await?.ok_or(not_in)?;
            if is_kept { page.read(tx, key, &scrambler, &viewer).await } else { Ok(Vec::new()) }
        });
        queried(identity, name, entries.await?)
    }

    async fn send_to_room(
        &self,
        caller: &Caller,
        room: ToWrite,
        draft: Draft,
        (client_key, omits_content): (&[u8], bool),
    ) -> Result<MessageSentResult, Error> {
        let (identity, is_kept) = (caller.identity()?, room.is_kept);
        let ToWrite { key: conversation, name, .. } = room;
        let key = Key::of(&name, &zim_protocol::MessageSendConfig::default(), client_key)?;
        if is_kept && is_storable(draft.kind) {
            let sent = self.store_in_room(caller, (conversation, &name), &draft, key).await?;
            return sent_to_room(identity, &draft, (key, sent, omits_content), &name);
        }
        let sent = self.command(identity)?;
        let message = sent_entry(identity, &draft, key.bits, sent, draft.content.clone());
        let number = self.tenants.of(identity.app)?.scrambler.public(conversation.0);
        // The operator's messages need nobody in the room.
        let me = if caller.is_server() { UserKey(0) } else { identity.user };
        let (cause, priority) = (identity.login, draft.priority);
        let audience = Audience::Room { conversation, name: Arc::from(name.id.as_str()) };
        let not_in = Error::not_in_room(&name.id);
        let target = WriteTo::conversation(Scope::conversation(conversation), name.clone());
        // Without its place, which the home of the room gives it.
        let transient = TransientEffect {
            audience,
            message,
            after_seq: 0,
            after_rev: 0,
            priority,
            cause,
            room: number,
            ended_rev: 0,
        };
        if let Some(home) = self.other_home(conversation) {
            if is_kept || self.room_sends.has(conversation) {
                // In the queue of the room, between what is stored or waits before it and what comes after it.
                let _waits = self.room_sends.begin(conversation);
                let sending = caller.write(&self.db, target, async move |tx, _| {
                    room::rev_for_member(tx, conversation, me).await?.ok_or(not_in)?;
                    tx.emit(Effect::RoomMessage { home, transient: Box::new(transient) });
                    Ok(())
                });
                sending.await?;
                return sent_to_room(identity, &draft, (key, sent, omits_content), &name);
            }
            // The next message of the connection waits for this one.
            let found = self.db.read(async move |tx| room::rev_for_member(tx, conversation, me).await).await?;
            found.ok_or(not_in)?;
            self.bus().publish(&[Effect::RoomMessage { home, transient: Box::new(transient) }]);
            return sent_to_room(identity, &draft, (key, sent, omits_content), &name);
        }
        let (room_id, scrambler) = (Arc::from(name.id.as_str()), Arc::clone(&self.tenants.of(identity.app)?.scrambler));
        let _waits = self.db.lease().map(|_| self.room_sends.begin(conversation));
        let sending = caller.write(&self.db, target, async move |tx, _| {
            if is_kept {
                // What was stored before is heard before.
                room::hand_over(tx, (conversation, &room_id), |_| Ok(scrambler), (i64::MAX, None)).await?;
            }
            let after_rev = room::rev_for_member(tx, conversation, me).await?.ok_or(not_in)?;
            tx.emit(Effect::Transient(Box::new(TransientEffect { after_rev, ..transient })));
            Ok(())
        });
        sending.await?;
        sent_to_room(identity, &draft, (key, sent, omits_content), &name)
    }

    /// Stores a message to a room that keeps what is said in it.
    async fn store_in_room(
        &self,
        caller: &Caller,
        (conversation, name): (ConversationKey, &ConversationRef),
        draft: &Draft,
        key: Key,
    ) -> Result<Sent, Error> {
        let room_id: Arc<str> = Arc::from(name.id.as_str());
        let audience = Audience::Room { conversation, name: Arc::clone(&room_id) };
        let mut new = self.new_message(caller, conversation, audience, draft, (key, None))?;
        let (home, scrambler) = (self.other_home(conversation), Arc::clone(&new.scrambler));
        new.extra.get_or_insert_default().room = ToRoom { priority: draft.priority, home };
        let sent = self.submit_send(caller, name, new)?.await?;
        if home.is_none() && sent.n < sent.seq {
            // Something before it is on the way here from another node, or was left by one. If the job fails, the next message takes
            // both along.
            drop(self.db.submit(Scope::conversation(conversation), async move |tx| {
                room::hand_over(tx, (conversation, &room_id), |_| Ok(scrambler), (sent.seq, None)).await
            }));
        }
        self.bound_room_history(conversation, sent.seq);
        Ok(sent)
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
    pub(crate) fn place_room_message(self: &Arc<Self>, home: u8, transient: TransientEffect) {
        let Audience::Room { conversation, name } = &transient.audience else { return };
        if self.db.lease().is_none_or(|lease| lease.number() != home) {
            return;
        }
        let (conversation, name, seq) = (*conversation, Arc::clone(name), transient.message.seq.cast_signed());
        let app = Arc::clone(self);
        let MessageEntry { sender, flags, .. } = &transient.message;
        let message = MessageEntry { sender: sender.clone(), flags: *flags, ..MessageEntry::default() };
        let lost = TransientEffect { message, audience: transient.audience.clone(), ..transient };
        // The sender was in the room when they sent it. They may have left since, as after a last word. Nobody waits for it: if it
        // fails, the message is lost, as a message to a room may be.
        let placed = self.db.submit(Scope::conversation(conversation), async move |tx| {
            if seq > 0 {
                let scrambler = |of| Ok(Arc::clone(&app.tenants.of(of)?.scrambler));
                return room::hand_over(tx, (conversation, &name), scrambler, (seq, Some(transient))).await;
            }
            if let Some(rev) = room::rev(tx, conversation).await? {
                tx.emit(Effect::Transient(Box::new(TransientEffect { after_rev: rev, ..transient })));
            }
            Ok(())
        });
        // What is kept comes with the next message.
        if placed.is_refused() && seq == 0 {
            self.fanout.lose(lost);
        }
    }
}

/// Returns the answer to the sender.
fn sent_to_room(
    identity: &Identity,
    draft: &Draft,
    (key, sent, omits_content): (Key, Sent, bool),
    name: &ConversationRef,
) -> Result<MessageSentResult, Error> {
    let content = if omits_content { Bytes::new() } else { draft.content_of(sent.message_id)? };
    let entry = sent_entry(identity, draft, key.bits, sent, content);
    let message = entry.into_message(&identity.user_id, name).map_err(Error::internal)?;
    Ok(MessageSentResult { message: Some(message) })
}
