//! Commands: messages that are delivered at most once, to devices that are online, and never stored.

use std::sync::Arc;

use zim_protocol::{ConversationRef, ConversationType};

use super::rules::Draft;
use super::send::sent_entry;
use crate::app::App;
use crate::bus::BusState;
use crate::connection::{Caller, Identity, WriteTo};
use crate::db::Scope;
use crate::effect::{Audience, Effect, TransientEffect};
use crate::error::Error;
use crate::journal::{self, Sent};
use crate::key::{ConversationKey, UserKey};
use crate::service::blacklist::is_blocked;
use crate::service::group;

impl App {
    /// Delivers a command.
    pub(super) async fn send_command(
        &self,
        caller: &Caller,
        name: &ConversationRef,
        draft: &Draft,
        key: [u8; 16],
    ) -> Result<Sent, Error> {
        let identity = caller.identity()?;
        if name.r#type() == ConversationType::Group {
            return self.send_group_command(caller, name, draft, key).await;
        }
        let peer = self.resolve_peer(identity, &name.id).await?;
        self.send_peer_command(caller, (peer, Arc::from(name.id.as_str())), draft, key).await
    }

    /// The check of the membership and the command take the place of a message in the queue of the group. So a command keeps its
    /// place, and a member who was removed sends no more.
    async fn send_group_command(
        &self,
        caller: &Caller,
        name: &ConversationRef,
        draft: &Draft,
        key: [u8; 16],
    ) -> Result<Sent, Error> {
        let identity = caller.identity()?;
        let (conversation, audience) = self.group_of(identity, &name.id).await?;
        let sent = self.command(identity)?;
        let message = sent_entry(identity, draft, key, sent, draft.content.clone());
        let (me, cause, priority) = (identity.user, identity.login, draft.priority);
        let (closed, group_id, now) = (Error::group_not_found(&name.id), name.id.clone(), sent.ts);
        let target = WriteTo::conversation(Scope::conversation(conversation), name.clone());
        let sending = caller.write(&self.db, target, async move |tx, _| {
            let (after_seq, after_rev, ended_rev) = journal::open_ends(tx, conversation).await?.ok_or(closed)?;
            group::check_may_write(tx, (conversation, &group_id), me, now).await?;
            let effect =
                TransientEffect { audience, message, after_seq, after_rev, priority, cause, room: 0, ended_rev };
            tx.emit(Effect::Transient(Box::new(effect)));
            Ok(())
        });
        sending.await?;
        Ok(sent)
    }

    /// Returns the place of a command, which has no position.
    pub(super) fn command(&self, identity: &Identity) -> Result<Sent, Error> {
        let tenant = self.tenants.of(identity.app)?;
        let message_id = tenant.scrambler.public(self.ids.next());
        Ok(Sent { seq: 0, n: 0, message_id, ts: self.clock.now_ms(), is_changed: false, is_new: true })
    }

    /// Waits until what this connection has submitted to the peer conversation is handed to the fan-out.
    async fn settle(&self, caller: &Caller, conversation: ConversationKey) -> Result<(), Error> {
        if caller.connection().is_ok_and(|connection| connection.has_unsettled_writes()) {
            // An empty job: it ends after those that wait before it in the queue of the conversation.
            let scope = Scope::conversation(conversation).for_app(caller.identity()?.app, 0);
            self.db.submit(scope, async |_| Ok(())).await?;
        }
        Ok(())
    }

    /// It keeps its place among the messages that the connection sends to the same user: it waits for the earlier ones here, and
    /// the later ones wait for it.
    pub(super) async fn send_peer_command(
        &self,
        caller: &Caller,
        (peer, name): (UserKey, Arc<str>),
        draft: &Draft,
        key: [u8; 16],
    ) -> Result<Sent, Error> {
        let identity = caller.identity()?;
        let sent = self.command(identity)?;
        let entry = sent_entry(identity, draft, key, sent, draft.content.clone());
        let (sender, login) = (identity.user, identity.login);
        let conversation = self.peer_conversation(identity.app, sender, peer).await?;
        if let Some(conversation) = conversation {
            self.settle(caller, conversation).await?;
        }
        loop {
            let epoch = self.block_fence.epoch(peer);
            let read = self.db.read(async move |tx| {
                let after_seq = match conversation {
                    Some(conversation) => journal::open_ends(tx, conversation).await?.map_or(0, |ends| ends.0),
                    None => 0,
                };
                Ok((is_blocked(tx, peer, sender).await?, after_seq))
            });
            let (is_blocked, after_seq) = read.await?;
            if is_blocked {
                return Err(Error::sender_blocked());
            }
            let is_delivered = self.block_fence.deliver_if(peer, epoch, || {
                for (user, name) in [(peer, &identity.user_id), (sender, &name)] {
                    let view = (ConversationType::Peer, name);
                    self.fanout.send_transient(user, view, (entry.clone(), after_seq), draft.priority, login);
                }
                if self.bus().state() != BusState::Alone {
                    let audience =
                        Audience::Peers([(sender, Arc::clone(&identity.user_id)), (peer, Arc::clone(&name))]);
                    let (message, priority) = (entry.clone(), draft.priority);
                    let effect = TransientEffect {
                        audience,
                        message,
                        after_seq,
                        after_rev: 0,
                        priority,
                        cause: login,
                        room: 0,
                        ended_rev: 0,
                    };
                    self.bus().publish(&[Effect::Transient(Box::new(effect))]);
                }
            });
            if is_delivered {
                return Ok(sent);
            }
        }
    }
}
