//! The place of commands among the messages of their sender. The event stream has them in order, but a device that catches
//! up gets messages in answers, which have no order with events. A command waits for them. It tells the position after which
//! it was sent: if a later message of its sender was raised before it, it is dropped.

use std::collections::HashSet;

use prost::Message as _;
use zim_protocol::{
    BroadcastMessageReceivedEvent, ConversationRef, ConversationType, Event, ExperimentalEventReceivedEvent,
    MessageEntry, MessageFlag, MessageReceivedInfo, Transient, message::Body,
};

use super::remote::Remote;
use super::task::AccountTask;
use crate::store;
use crate::types::Name;

/// The most commands that wait; later ones are dropped.
const MAX_WAITING: usize = 256;
/// A command that has waited longer is dropped.
const MAX_WAIT_MS: i64 = 10_000;

/// A command that waits until its conversation has caught up.
pub(super) struct WaitingTransient {
    name: Name,
    message: MessageEntry,
    after_seq: u64,
    since_ms: i64,
}

impl<L: Remote> AccountTask<L> {
    pub(super) async fn transient(&mut self, transient: Transient) {
        if let Some(room) = transient.conversation.as_ref().filter(|name| name.r#type() == ConversationType::Room) {
            if self.shared.rooms.accepts(&room.id, &transient)
                && let Some(message) = transient.message
            {
                let message = store::message::shown(message, &self.viewer.user_id, room);
                let info = MessageReceivedInfo { is_offline_message: false };
                let event = store::message::received(room, vec![message], info);
                event.into_iter().for_each(|event| self.remote.raise(event, None));
            }
            return;
        }
        if let Some(event) = transient.message.as_ref().filter(|message| message.has(MessageFlag::Experimental)) {
            let content = match zim_protocol::Message::decode(event.content.clone()).unwrap_or_default().body {
                Some(Body::Text(text)) => text.message,
                _ => return,
            };
            let event = ExperimentalEventReceivedEvent { content };
            self.remote.raise(Event::ExperimentalEventReceived(event), None);
            return;
        }
        if let Some(message) = transient.message.as_ref().filter(|message| message.has(MessageFlag::Broadcast)) {
            // It is in no conversation.
            let nowhere = ConversationRef { r#type: ConversationType::Unknown as i32, id: String::new() };
            let message = store::message::shown(message.clone(), &self.viewer.user_id, &nowhere);
            let event = BroadcastMessageReceivedEvent { message: Some(message) };
            self.remote.raise(Event::BroadcastMessageReceived(event), None);
            return;
        }
        let (Some(name), Some(message)) = (transient.conversation, transient.message) else { return };
        let name = Name::from(&name);
        let (after_seq, since_ms) = (transient.after_seq, self.clock.steady_ms());
        let transient = WaitingTransient { name, message, after_seq, since_ms };
        let is_behind_another = self.transients.iter().any(|waiting| waiting.name == transient.name);
        if !is_behind_another && !self.engine.lacks_before(&transient.name, after_seq) {
            // It keeps its place behind the messages that arrived before it.
            self.commit().await;
            self.raise_transient(transient).await;
        } else if self.transients.len() < MAX_WAITING {
            self.transients.push(transient);
        } else {
            tracing::warn!("too many commands wait for messages before them: one is dropped");
        }
    }

    /// Raises the commands that need not wait any longer, after a commit.
    pub(super) async fn release_transients(&mut self) {
        if self.transients.is_empty() {
            return;
        }
        let earliest_ms = self.clock.steady_ms() - MAX_WAIT_MS;
        let mut blocked = HashSet::new();
        for transient in std::mem::take(&mut self.transients) {
            let lacks = self.engine.lacks_before(&transient.name, transient.after_seq);
            if !lacks && !blocked.contains(&transient.name) {
                self.raise_transient(transient).await;
            } else if transient.since_ms < earliest_ms {
                tracing::warn!("a command waited too long for the messages before it: it is dropped");
            } else {
                blocked.insert(transient.name.clone());
                self.transients.push(transient);
            }
        }
    }

    async fn raise_transient(&mut self, transient: WaitingTransient) {
        let WaitingTransient { name, message, after_seq, .. } = transient;
        let is_behind = self.engine.state(&name).is_some_and(|state| state.seq > after_seq);
        if after_seq > 0 && is_behind {
            let (of, sender) = (name.clone(), message.sender.clone());
            let found = self.store.read(move |db| store::message::is_sent_after(db, &of, &sender, after_seq)).await;
            if found.unwrap_or(false) {
                tracing::warn!("a later message overtook a command: it is dropped");
                return;
            }
        }
        let name = name.to_ref();
        let message = store::message::shown(message, &self.viewer.user_id, &name);
        let info = MessageReceivedInfo { is_offline_message: false };
        if let Some(event) = store::message::received(&name, vec![message], info) {
            self.remote.raise(event, None);
        }
    }
}
