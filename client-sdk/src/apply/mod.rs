//! The transaction of a turn: the output of the engine and the app's own requests are stored, and events result.

mod blacklist;
mod call;
mod conversation;
mod deleting;
mod friend;
mod group;
mod group_application;
mod local;
mod message;
mod message_change;
mod receipt;
mod recent;
mod rosters;
mod shown;
mod status;
mod user;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use zim_protocol::{
    BlacklistChangeAction, CallEntry, ChangeEntry, Conversation, ConversationChangeInfo, ConversationChangedEvent,
    ConversationEvent, EpochChangedEvent, Event, GroupMemberInfo, Message, MessageEntry, MessageSentStatusChangeInfo,
    MessageSentStatusChangedEvent, Snapshot, UserFullInfo, UserInfoUpdatedEvent, UserRuleUpdatedEvent, UserStatus,
    change_entry, feed_entry::Detail,
};

pub(crate) use self::conversation::Edit;
use self::conversation::disturbing;
pub(crate) use self::deleting::{Deleted, Deleting, Gone, OwnDeletion};
pub(crate) use self::local::Local;
use self::recent::Known;
pub(crate) use self::recent::Recent;
pub(crate) use self::rosters::{Awaited, Rosters};
use self::shown::Changed;
use crate::engine::{Batch, Change, Origin, Uncounted};
use crate::events::Heard;
use crate::store::member_list::MemberPage;
use crate::store::outgoing::{Pending, Place};
use crate::store::pending::Durable;
use crate::store::{self, Length, block, pending, rule};
use crate::types::{Key, Name};

/// The most rows of a short transaction: some milliseconds on a slow device.
const SHORT: usize = 64;

/// Work for a message of the app, before the batch.
#[derive(Debug)]
pub(crate) enum Attach {
    /// A message that is about to be sent.
    New(Pending),
    /// A message that is about to be sent, unless one with its key is waiting: then that one is sent.
    First(Pending),
    /// A command, which is stored nowhere. It takes its place among the others.
    Transient(Box<Message>),
    /// A failed message that is about to be sent again.
    Retry {
        /// The key of the message.
        key: Key,
        /// The message to send if there is none with this key.
        otherwise: Option<Pending>,
        /// The current time.
        ts: i64,
    },
}

/// Work for an answer to a request of the app, after the batch.
#[derive(Clone, Debug)]
pub(crate) enum Settle {
    /// The server stored a message of a conversation; the entry has its position.
    Sent(Name, MessageEntry),
    /// A message could not be sent.
    Failed {
        /// The conversation.
        name: Name,
        /// The key of the message.
        key: Key,
        /// The reason, for the app.
        reason: String,
        /// The conversation is disabled: nothing can be sent to it.
        is_disabled: bool,
    },
    /// The files of a message are uploaded: its content has their URLs now.
    Uploaded {
        /// The conversation.
        name: Name,
        /// The key of the message.
        key: Key,
        /// The content.
        content: Bytes,
    },
    /// The server's time is known: no message of this device is later.
    ServerTime(i64),
    /// Profiles that were requested.
    Users(Vec<UserFullInfo>),
    /// Members of a group that were requested.
    Members {
        /// The group.
        group_id: String,
        /// The members.
        members: Vec<GroupMemberInfo>,
    },
    /// A page of the list of members of a group.
    MemberPage {
        /// The group.
        group_id: String,
        /// The page.
        page: MemberPage,
        /// What happened since the request.
        awaited: Arc<Awaited>,
    },
    /// Current profiles and statuses of other users.
    Snapshot(Snapshot),
    /// The user's own status, as a request of this device changed it: not news to its app.
    OwnStatus(UserStatus),
    /// The app changes what this device has.
    Local(Box<Local>),
    /// What only this device does to its list of conversations.
    Edit(Edit),
    /// A call, as the answer to a request of this device has it. The entries of the feed before it are missing.
    Call(Box<CallEntry>),
    /// The same, when the feed has passed that.
    LateCall(Box<CallEntry>),
}

/// The work of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub(crate) attach: Vec<(Name, Attach)>,
    pub(crate) batch: Batch,
    pub(crate) settle: Vec<Settle>,
}

impl Job {
    pub(crate) fn is_empty(&self) -> bool {
        self.attach.is_empty() && self.batch.is_empty() && self.settle.is_empty()
    }

    /// Estimates how long the transaction takes.
    pub(crate) fn length(&self) -> Length {
        let entries = |change: &Change| match change {
            Change::Messages { entries, .. } => entries.len(),
            Change::Changes { entries, .. } => entries.iter().map(rows_of).sum(),
            Change::Profiles(profiles) => profiles.len(),
            Change::Statuses(statuses) => statuses.len(),
            Change::DropAll { .. } | Change::Drop(_) | Change::Skipped(_) | Change::Sweep => usize::MAX,
            _ => 1,
        };
        let rows = self.batch.changes.iter().map(entries).fold(self.batch.states.len(), usize::saturating_add);
        let settled = |settle: &Settle| match settle {
            Settle::Users(users) => users.len(),
            Settle::Members { members, .. } => members.len(),
            Settle::MemberPage { page, .. } => page.members.len(),
            Settle::Snapshot(snapshot) => snapshot.profiles.len() + snapshot.statuses.len(),
            Settle::Edit(Edit::HideAll { .. }) => usize::MAX,
            _ => 1,
        };
        let settled = self.settle.iter().map(settled).fold(0, usize::saturating_add);
        let rows = rows.saturating_add(self.attach.len()).saturating_add(settled);
        if rows <= SHORT { Length::Short } else { Length::Long }
    }
}

/// Returns how many rows an entry of the log of changes concerns.
fn rows_of(entry: &ChangeEntry) -> usize {
    match &entry.detail {
        Some(change_entry::Detail::Roster(change)) => change.user_list.len().max(1),
        _ => 1,
    }
}

/// The user, and what their app has seen.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    pub(crate) user_id: Arc<str>,
    /// The ID of this installation.
    pub(crate) device: Bytes,
    /// Messages before this time are offline messages.
    pub(crate) login_ms: i64,
    /// Messages before this time are history, not news.
    pub(crate) horizon_ms: i64,
    /// The time of the turn, by the server's clock.
    pub(crate) now_ms: i64,
    /// Handlers have had the pending events up to this id.
    pub(crate) delivered: Option<i64>,
    /// The id of the last pending event. Ids are not used again, not even after their rows are deleted.
    pub(crate) last_event: i64,
    /// The app knows the status of all subscribed users of this login; from now on changes are news.
    pub(crate) is_caught_up: bool,
    /// The kinds of events that have a handler. The others are not stored.
    pub(crate) heard: Heard,
    /// What this device is deleting.
    pub(crate) deleting: Arc<Deleting>,
    /// The pages of members that are on their way.
    pub(crate) rosters: Arc<Rosters>,
}

#[cfg(test)]
impl Viewer {
    /// A user whose app has handlers for all events and knows of none yet.
    fn in_test(user_id: &str, now_ms: i64) -> Self {
        Self {
            user_id: user_id.into(),
            device: Bytes::new(),
            login_ms: 0,
            horizon_ms: 0,
            now_ms,
            delivered: None,
            last_event: 0,
            is_caught_up: true,
            heard: Heard::all(),
            deleting: Arc::default(),
            rosters: Arc::default(),
        }
    }
}

/// A message that is in its conversation.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) message: Message,
    pub(crate) next: Next,
}

/// What follows for a message that is in its conversation.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is sent for the first time.
    Send,
    /// It is sent again, with the config and the content of the first attempt. `is_sending`: it probably is being sent.
    SendAgain { config: Bytes, content: Bytes, is_sending: bool },
    /// The server has it already.
    Nothing,
}

/// The result of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// One result per message to attach; `None`: there is no such failed message.
    pub(crate) attached: Vec<Option<Attached>>,
    /// The events to raise, in this order; those that are raised at least once with their ids.
    pub(crate) events: Vec<(Option<i64>, Event)>,
    /// The id of the last pending event.
    pub(crate) last_event: i64,
    /// The change of the total of unread messages.
    pub(crate) unread_delta: i64,
    /// Own messages that the server has stored.
    pub(crate) settled: Vec<Message>,
    /// Something arrived that may be older than what is known, or refers to something that has not arrived. A sync
    /// resolves it.
    pub(crate) needs_audit: bool,
    /// What this device has deleted and that does not count as unread. It is stored; the engine does not know it.
    pub(crate) uncounted: HashMap<Name, Uncounted>,
    /// The conversations that may have changed, and their messages, with their rows.
    pub(crate) touched: HashMap<Name, i64>,
}

/// Applies a job. If it fails, or the commit does, the caller clears `recent`.
pub(crate) fn apply(db: &Connection, viewer: &Viewer, recent: &mut Recent, job: Job) -> rusqlite::Result<Applied> {
    let mut tx = Transaction::new(db, viewer, recent);
    if let Some(id) = viewer.delivered {
        pending::forget(db, id)?;
    }
    let mut applied = Applied::default();
    for (name, attach) in job.attach {
        applied.attached.push(tx.attach(&name, attach)?);
    }
    let is_sweep = job.batch.changes.contains(&Change::Sweep);
    for change in job.batch.changes {
        tx.change(change)?;
    }
    for mut saved in job.batch.states {
        let id = tx.touch_messages(&saved.name)?;
        if let Some(uncounted) = tx.uncounted.get(&saved.name) {
            saved.state.uncount(uncounted);
        }
        store::conversation::save(db, id, &saved)?;
        tx.changed.counted(id, &saved.state);
    }
    if let Some(position) = &job.batch.position {
        store::conversation::save_position(db, position)?;
    }
    for settle in job.settle {
        tx.settle(settle)?;
    }
    tx.finish(applied, is_sweep)
}

/// A transaction in progress.
struct Transaction<'a> {
    db: &'a Connection,
    viewer: &'a Viewer,
    recent: &'a mut Recent,
    /// The conversations that were touched, in this order, as the app saw them before.
    touched: Vec<(Name, Known)>,
    /// What has changed of them.
    changed: Changed,
    ids: HashMap<Name, i64>,
    /// The last message that was attached, with its conversation. Nothing else is written between two of them.
    last_place: Option<(i64, Place)>,
    /// The keys of own messages that the log settled.
    settled: HashSet<Key>,
    durable: Vec<Durable>,
    /// The IDs of the messages that are raised, and their times.
    raised: Vec<(i64, i64)>,
    statuses: Vec<MessageSentStatusChangeInfo>,
    /// Own messages that the server has stored.
    sent: Vec<Message>,
    /// Statuses that are news.
    status_news: Vec<UserStatus>,
    needs_audit: bool,
    uncounted: HashMap<Name, Uncounted>,
    /// The conversations that leave the list together with all others: no event tells of each.
    quiet: HashSet<i64>,
}

impl<'a> Transaction<'a> {
    fn new(db: &'a Connection, viewer: &'a Viewer, recent: &'a mut Recent) -> Self {
        Self {
            db,
            viewer,
            recent,
            touched: Vec::new(),
            changed: Changed::default(),
            ids: HashMap::new(),
            last_place: None,
            settled: HashSet::new(),
            durable: Vec::new(),
            raised: Vec::new(),
            statuses: Vec::new(),
            sent: Vec::new(),
            status_news: Vec::new(),
            needs_audit: false,
            uncounted: HashMap::new(),
            quiet: HashSet::new(),
        }
    }

    /// Returns the row of a conversation of which anything may change in this transaction; adds it if there is none.
    fn touch(&mut self, name: &Name) -> rusqlite::Result<i64> {
        let id = self.touch_messages(name)?;
        self.changed.anything(id);
        Ok(id)
    }

    /// The same for a conversation in which messages are added, or get their positions or other content, and nothing else changes.
    fn touch_messages(&mut self, name: &Name) -> rusqlite::Result<i64> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let before = match self.recent.take_conversation(name) {
            Some(known) => known,
            None => match store::conversation::id(self.db, name)? {
                Some(id) => Known { id, shown: store::conversation::shown(self.db, id, &self.viewer.user_id)? },
                None => Known { id: store::conversation::add(self.db, name)?, shown: None },
            },
        };
        let id = before.id;
        self.ids.insert(name.clone(), id);
        self.touched.push((name.clone(), before));
        Ok(id)
    }

    /// Adds an event that is raised at least once.
    fn raise(&mut self, event: Event) {
        self.durable.push(Durable { event, span: None });
    }

    /// Returns the last such event of this transaction, to which an equal change may be added.
    fn last_event(&mut self) -> Option<&mut Event> {
        self.durable.last_mut().map(|durable| &mut durable.event)
    }

    /// Makes the events about messages of a conversation, or of all, independent of rows that are about to be deleted.
    fn detach_events(&mut self, conversation: Option<i64>) -> rusqlite::Result<()> {
        let is_of = |durable: &&mut Durable| {
            durable
                .span
                .as_ref()
                .is_some_and(|span| conversation.is_none_or(|conversation| span.conversation == conversation))
        };
        self.durable.iter_mut().filter(is_of).for_each(|durable| durable.span = None);
        pending::detach(self.db, &self.viewer.user_id, conversation)
    }

    fn change(&mut self, change: Change) -> rusqlite::Result<()> {
        match change {
            Change::Messages { name, entries, raise_after, own_after } => {
                self.messages(&name, entries, raise_after, own_after)
            }
            Change::Changes { name, entries, origin } => self.changes(&name, entries, origin),
            Change::Head(head) => self.head(*head),
            Change::Own { detail, origin } => self.own(*detail, origin),
            Change::LoggedIn { info, is_named } => self.logged_in(*info, is_named),
            Change::Profiles(profiles) => self.profiles(&profiles),
            Change::Statuses(statuses) => {
                // A status of a user without a subscription is ahead of the feed here; the subscription follows in this
                // sync, so no audit is needed.
                let needs_audit = self.needs_audit;
                statuses.into_iter().try_for_each(|status| self.user_status(status).map(drop))?;
                self.needs_audit = needs_audit;
                Ok(())
            }
            Change::Drop(name) => {
                let id = self.touch(&name)?;
                self.detach_events(Some(id))?;
                self.skipped(&name)?;
                store::message::drop_stored(self.db, id)
            }
            Change::DropAll { epoch } => {
                self.raise(Event::EpochChanged(EpochChangedEvent { epoch: zim_protocol::id::hex(&epoch) }));
                for name in store::conversation::names(self.db)? {
                    self.touch(&name)?;
                }
                self.detach_events(None)?;
                self.recent.forget_known();
                self.recent.set_told_again(self.db, true)?;
                store::message::keep_known(self.db, self.viewer.horizon_ms, &self.raised)?;
                store::friend::mark_stale(self.db)?;
                store::friend_application::mark_stale(self.db)?;
                store::group_application::mark_stale(self.db)?;
                store::call::mark_stale(self.db)?;
                block::mark_stale(self.db)?;
                store::status::mark_stale(self.db)?;
                store::conversation_setting::mark_stale(self.db)?;
                store::group::forget_all(self.db)?;
                self.viewer.rosters.void(None);
                store::conversation::drop_all(self.db)
            }
            Change::Skipped(name) => {
                self.touch(&name)?;
                self.skipped(&name)
            }
            // Conversations are swept at the end, when all states are stored.
            Change::Sweep => {
                self.recent.set_told_again(self.db, false)?;
                self.sweep_friends()?;
                self.sweep_settings()?;
                store::group_application::sweep(self.db)?;
                store::call::sweep(self.db)?;
                store::status::sweep(self.db)?;
                for user in block::sweep(self.db)? {
                    self.blacklist_changed(user, BlacklistChangeAction::Removed);
                }
                Ok(())
            }
        }
    }

    /// Applies an entry of the feed about the user. The local copy tells whether it is news.
    fn own(&mut self, detail: Detail, origin: Origin) -> rusqlite::Result<()> {
        match detail {
            Detail::Profile(info) => {
                if self.store_profile(&info)? && origin == Origin::Other {
                    self.raise(Event::UserInfoUpdated(UserInfoUpdatedEvent { info: Some(info) }));
                }
                Ok(())
            }
            Detail::Friend(entry) => self.friend(&entry, origin),
            Detail::Application(entry) => self.application(entry, origin),
            Detail::Block(entry) => self.block(entry, origin),
            Detail::Subscription(entry) => self.subscription(entry),
            Detail::GroupAlias(entry) => self.group_alias(entry, origin),
            Detail::GroupApplication(entry) => self.group_application(&entry, origin),
            Detail::Call(entry) => self.call(&entry, origin),
            Detail::Rule(rule) => {
                let is_news = rule::write(self.db, &rule)? && origin != Origin::First;
                if is_news {
                    // All devices get the event, including the one that changed the rule.
                    self.raise(Event::UserRuleUpdated(UserRuleUpdatedEvent { user_rule: Some(rule) }));
                }
                Ok(())
            }
            Detail::Receipt(entry) => self.receipt(entry, origin),
            Detail::ConversationReceipt(entry) => self.conversation_receipt(entry, origin),
            Detail::MessageDeletion(entry) => self.message_deletion(entry, origin),
            Detail::Cleared(entry) => self.cleared(entry, origin),
            Detail::AllCleared(all) => self.all_cleared(all, origin),
            Detail::Setting(setting) => self.setting(&setting),
            Detail::AllDeleted(all) => self.all_deleted(&all, origin),
            // The engine handles entries about conversations.
            Detail::Conversation(_) | Detail::Read(_) => Ok(()),
        }
    }

    fn settle(&mut self, settle: Settle) -> rusqlite::Result<()> {
        match settle {
            Settle::Sent(name, entry) => {
                if !self.settle_sent(&entry)? {
                    self.complete_sent(&name, &entry)?;
                }
            }
            Settle::Failed { name, key, reason, is_disabled } => {
                let id = self.touch(&name)?;
                self.recent.take_sending(&key);
                // The answer may be older than the change that let the user in, and whoever leaves is told by a change.
                if is_disabled && !store::group::is_member(self.db, &name)? {
                    store::conversation::set_disabled(self.db, id, true)?;
                }
                if let Some(row) = store::outgoing::fail(self.db, &key)? {
                    self.settled(row, &name.to_ref(), &reason)?;
                }
            }
            Settle::Uploaded { name, key, content } => {
                self.touch(&name)?;
                // What is remembered has another content.
                self.recent.take_sending(&key);
                store::outgoing::set_uploaded(self.db, &key, &content, self.viewer.now_ms)?;
            }
            Settle::ServerTime(now_ms) => {
                for conversation in store::outgoing::dated_after(self.db, now_ms)? {
                    self.touch(&store::conversation::name(self.db, conversation)?)?;
                }
                store::outgoing::date_back(self.db, now_ms)?;
            }
            Settle::Users(users) => users.iter().try_for_each(|info| self.store_incidental_profile(info))?,
            Settle::Members { group_id, members } => {
                members.into_iter().try_for_each(|member| self.store_member(&group_id, member))?;
            }
            Settle::MemberPage { group_id, page, awaited } => self.store_page(&group_id, page, &awaited)?,
            Settle::Snapshot(snapshot) => self.snapshot(snapshot)?,
            Settle::Local(local) => self.local(*local)?,
            Settle::OwnStatus(status) => drop(store::status::write(self.db, status)?),
            Settle::Edit(edit) => self.edit(edit)?,
            Settle::Call(entry) => self.call(&entry, Origin::Own)?,
            Settle::LateCall(entry) => self.late_call(&entry)?,
        }
        Ok(())
    }

    /// Completes the result: the events that follow from the touched rows.
    fn finish(self, mut applied: Applied, is_sweep: bool) -> rusqlite::Result<Applied> {
        let viewer = &self.viewer.user_id;
        let mut infos = Vec::new();
        let mut swept = if is_sweep { store::conversation::sweep(self.db, viewer)? } else { Vec::new() };
        if is_sweep {
            self.recent.forget_conversations();
            // Those that were touched are compared with what the app saw before.
            swept.retain(|gone| !self.ids.contains_key(&Name::new(gone.r#type, gone.conversation_id.as_str())));
        }
        for (name, Known { id, shown: mut before }) in self.touched {
            let after = match &mut before {
                Some(before) if !is_sweep => self.changed.shown(self.db, viewer, id, before)?,
                _ => store::conversation::reordered(self.db, id, viewer)?,
            };
            applied.unread_delta += disturbing(after.as_ref()) - disturbing(before.as_ref());
            if !is_sweep {
                self.recent.note_conversation(name, Known { id, shown: after.clone() });
            }
            let (event, conversation) = match (before, after) {
                (None, Some(after)) => (ConversationEvent::Added, after),
                (Some(before), Some(after)) if before == after => continue,
                (Some(before), Some(after)) if after.is_disabled && !before.is_disabled => {
                    (ConversationEvent::Disabled, after)
                }
                (Some(_), Some(after)) => (ConversationEvent::Updated, after),
                (Some(before), None) if !self.quiet.contains(&id) => (ConversationEvent::Deleted, before),
                (_, None) => continue,
            };
            infos.push((event, conversation));
        }
        infos.extend(swept.into_iter().map(|conversation| (ConversationEvent::Deleted, conversation)));
        applied.last_event = self.viewer.last_event;
        for durable in self.durable {
            if !self.viewer.heard.is_handled(durable.event.kind()) {
                // Without a handler it counts as delivered.
                applied.events.push((None, durable.event));
                continue;
            }
            applied.last_event += 1;
            pending::add(self.db, applied.last_event, &durable)?;
            applied.events.push((Some(applied.last_event), durable.event));
        }
        applied.needs_audit = self.needs_audit;
        applied.uncounted = self.uncounted;
        applied.touched = self.ids;
        applied.events.extend(Self::status_event(self.status_news).map(|event| (None, event)));
        applied.settled = self.sent;
        if !self.statuses.is_empty() {
            let event = Event::MessageSentStatusChanged(MessageSentStatusChangedEvent { infos: self.statuses });
            applied.events.push((None, event));
        }
        if !infos.is_empty() {
            let info = |(event, mut conversation): (ConversationEvent, Conversation)| {
                conversation.muted_expired_time =
                    store::group::mute_at(conversation.muted_expired_time, self.viewer.now_ms);
                ConversationChangeInfo { event: event as i32, conversation: Some(conversation) }
            };
            let info_list = infos.into_iter().map(info).collect();
            applied.events.push((None, Event::ConversationChanged(ConversationChangedEvent { info_list })));
        }
        Ok(applied)
    }
}
