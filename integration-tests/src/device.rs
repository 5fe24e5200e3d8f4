//! A real client with its own local database, which records every event that it raises.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zim_client_sdk::{EventStream, HandlerGuard, MessageSendNotification, Zim};
use zim_protocol::message::Body;
use zim_protocol::{
    Conversation, ConversationFilterOption, ConversationQueryConfig, ConversationSyncState,
    ConversationTotalUnreadMessageCountQueryConfig, ConversationType, ErrorCode, ErrorUserInfo, Event, EventKind,
    EventType, Message, MessageQueryConfig, MessageQueryMode, MessageSendConfig,
};

use crate::coverage;
use crate::folder::copy_private;
use crate::wait::{eventually, soon};

/// The folder of a device's local database. It outlives the client and is removed with the last clone.
#[derive(Clone, Debug)]
pub struct DataDir(Arc<TempDir>);

impl Default for DataDir {
    fn default() -> Self {
        Self(Arc::new(tempfile::tempdir().unwrap()))
    }
}

impl DataDir {
    /// Copies a folder that another client wrote.
    pub(crate) fn copy_of(folder: &Path) -> Self {
        let dir = Self::default();
        copy_private(folder, dir.path());
        dir
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Moves events from the client's stream into the record.
#[derive(Debug)]
struct Recording {
    events: EventStream,
    seen: watch::Sender<Vec<Event>>,
}

impl Recording {
    /// Records the next event; false when the stream has ended.
    async fn next(&mut self) -> bool {
        let Some(event) = self.events.next().await else { return false };
        let event = event.expect("the recorder was too slow for the events");
        self.seen.send_modify(|seen| seen.push(event));
        true
    }
}

/// A conversation: the user whom it is with, a group, or a room.
#[derive(Clone, Copy, Debug)]
pub struct Chat<'a> {
    /// Its type.
    pub kind: ConversationType,
    /// Its ID.
    pub id: &'a str,
}

/// The conversation of a group.
pub fn group(id: &str) -> Chat<'_> {
    Chat { kind: ConversationType::Group, id }
}

/// A room.
pub fn room(id: &str) -> Chat<'_> {
    Chat { kind: ConversationType::Room, id }
}

impl<'a> From<&'a str> for Chat<'a> {
    fn from(id: &'a str) -> Self {
        Self { kind: ConversationType::Peer, id }
    }
}

impl<'a> From<&'a String> for Chat<'a> {
    fn from(id: &'a String) -> Self {
        id.as_str().into()
    }
}

impl<'a> From<&&'a str> for Chat<'a> {
    fn from(id: &&'a str) -> Self {
        (*id).into()
    }
}

/// A client that records its events; derefs to [`Zim`].
#[derive(Debug)]
pub struct Device {
    zim: Zim,
    dir: DataDir,
    seen: watch::Receiver<Vec<Event>>,
    taken: Mutex<HashMap<EventKind, usize>>,
    stream: Arc<tokio::sync::Mutex<Recording>>,
    recorder: JoinHandle<()>,
}

impl Deref for Device {
    type Target = Zim;

    fn deref(&self) -> &Zim {
        &self.zim
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.recorder.abort();
    }
}

impl Device {
    pub(crate) fn new(zim: Zim, dir: DataDir) -> Self {
        let (sender, seen) = watch::channel(Vec::new());
        let stream = Arc::new(tokio::sync::Mutex::new(Recording { events: zim.events(), seen: sender }));
        let recorder = tokio::spawn({
            let stream = Arc::clone(&stream);
            async move { while stream.lock().await.next().await {} }
        });
        Self { zim, dir, seen, taken: Mutex::default(), stream, recorder }
    }

    /// Creates a client with these settings and its local database in `dir`, for tests without a `World`.
    pub fn with_config(config: zim_client_sdk::Config, dir: DataDir) -> Self {
        let zim = Zim::new(config.data_dir(dir.path())).expect("a client");
        Self::new(zim, dir)
    }

    pub(crate) fn recorder(&self) -> tokio::task::AbortHandle {
        self.recorder.abort_handle()
    }

    /// Destroys the client, waits until it has ended, and records the remaining events.
    pub async fn quit(&self) {
        soon(self.zim.close()).await;
        self.recorder.abort();
        let mut stream = soon(self.stream.lock()).await;
        while stream.next().now_or_never() == Some(true) {}
    }

    /// Returns the folder of its local database.
    pub fn dir(&self) -> DataDir {
        self.dir.clone()
    }

    /// Returns all events recorded so far.
    pub fn seen(&self) -> Vec<Event> {
        self.seen.borrow().clone()
    }

    /// Returns all events of a kind recorded so far.
    pub fn seen_of(&self, kind: EventKind) -> Vec<Event> {
        let seen: Vec<Event> = self.seen.borrow().iter().filter(|event| event.kind() == kind).cloned().collect();
        if !seen.is_empty() {
            coverage::note_event(kind);
        }
        seen
    }

    /// Sets a handler as [`Zim::on`] does, and notes when it has an event.
    pub fn on(&self, kind: EventKind, listener: impl Fn(&Zim, &Event) + Send + Sync + 'static) {
        self.zim.on(kind, move |zim, event| {
            coverage::note_event(kind);
            listener(zim, event);
        });
    }

    /// Adds a handler as [`Zim::on_event`] does, and notes when it has an event.
    pub fn on_event<E: EventType>(&self, mut handler: impl FnMut(&Zim, &E) + Send + 'static) -> HandlerGuard {
        self.zim.on_event(move |zim, event: &E| {
            coverage::note_event(E::KIND);
            handler(zim, event);
        })
    }

    /// Waits for the next event of a kind that [`Device::next`] has not returned yet.
    pub async fn next(&self, kind: EventKind) -> Event {
        let at = {
            let mut taken = self.taken.lock();
            let taken = taken.entry(kind).or_default();
            *taken += 1;
            *taken - 1
        };
        self.until(&format!("event {at} of {kind}"), |seen| {
            seen.iter().filter(|event| event.kind() == kind).nth(at).cloned()
        })
        .await
    }

    /// Waits until `look` finds something among all events; returns it.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&[Event]) -> Option<T>) -> T {
        let look = move |seen: &[Event]| {
            let found = look(seen)?;
            coverage::note_needed(seen, |seen| look(seen).is_some());
            Some(found)
        };
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(crate::wait::TIMEOUT, async move {
            loop {
                if let Some(found) = look(&seen.borrow_and_update()) {
                    return found;
                }
                // Fails when the client is destroyed; then no event follows.
                if seen.changed().await.is_err() {
                    return look(&seen.borrow()).unwrap_or_else(|| panic!("{what}: the events have ended"));
                }
            }
        })
        .await;
        let kinds: Vec<&str> = self.seen.borrow().iter().map(|event| event.kind().name()).collect();
        found.unwrap_or_else(|_| panic!("timed out: {what}; seen: {kinds:?}"))
    }

    /// Sends a text and returns the message as the server stored it.
    pub async fn say(&self, to: impl Into<Chat<'_>>, text: &str) -> Message {
        let sent = soon(self.send_to(to.into(), Message::text(text))).await;
        sent.unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    /// Sends a message.
    pub fn send(
        &self,
        to: &str,
        message: Message,
    ) -> impl Future<Output = Result<Message, zim_client_sdk::Error>> + use<> {
        self.send_to(to.into(), message)
    }

    /// Sends a message to a conversation.
    pub fn send_to(
        &self,
        Chat { kind, id }: Chat<'_>,
        message: Message,
    ) -> impl Future<Output = Result<Message, zim_client_sdk::Error>> + use<> {
        let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
        let sent = self.zim.send_message(message, id, kind, config, notification);
        async move { sent.await.map(|sent| sent.message.expect("the message")) }
    }

    /// Waits for a message with this text; returns the first.
    pub async fn receives(&self, text: &str) -> Message {
        self.until(&format!("a message {text:?}"), |seen| {
            received(seen).into_iter().map(|(message, _)| message).find(|message| is_text(message, text))
        })
        .await
    }

    /// Returns every message received in a conversation, in order, and whether it was an offline message.
    pub fn received_from(&self, peer: &str) -> Vec<(Message, bool)> {
        let all = received(&self.seen.borrow());
        all.into_iter().filter(|(message, _)| message.conversation_id == peer).collect()
    }

    /// Waits until it has caught up with the server more than `before` times.
    pub async fn caught_up(&self, before: usize) {
        self.until("catching up", |seen| {
            let finished = seen.iter().filter(|event| {
                matches!(event, Event::ConversationSyncStateChanged(event)
                    if event.state == ConversationSyncState::Finished as i32)
            });
            (finished.count() > before).then_some(())
        })
        .await;
    }

    /// Returns how often it has caught up.
    pub fn times_caught_up(&self) -> usize {
        let of_state = |event: &Event| {
            matches!(event, Event::ConversationSyncStateChanged(event)
                if event.state == ConversationSyncState::Finished as i32)
        };
        self.seen.borrow().iter().filter(|event| of_state(event)).count()
    }

    /// Queries a whole conversation in pages from the newest to the oldest; returns it in ascending order.
    pub async fn history(&self, with: impl Into<Chat<'_>>) -> Vec<Message> {
        self.history_by(with, MessageQueryMode::General).await
    }

    /// Queries as [`Device::history`] does, in the given mode.
    pub async fn history_by(&self, with: impl Into<Chat<'_>>, mode: MessageQueryMode) -> Vec<Message> {
        let Chat { kind, id } = with.into();
        let mut all: Vec<Message> = Vec::new();
        loop {
            let config =
                MessageQueryConfig { next_message: all.first().cloned(), count: 100, reverse: true, mode: mode as i32 };
            let page = soon(self.zim.query_history_message(id, kind, config)).await.unwrap();
            if page.message_list.is_empty() {
                return all;
            }
            all.splice(0..0, page.message_list);
        }
    }

    /// Returns a conversation.
    pub async fn conversation(&self, with: impl Into<Chat<'_>>) -> Conversation {
        let Chat { kind, id } = with.into();
        let found = soon(self.zim.query_conversation(id, kind)).await.unwrap();
        found.conversation.expect("a conversation")
    }

    /// Returns the first 100 conversations.
    pub async fn conversations(&self) -> Vec<Conversation> {
        let config = ConversationQueryConfig { next_conversation: None, count: 100 };
        let filter = ConversationFilterOption::default();
        soon(self.zim.query_conversation_list(config, filter)).await.unwrap().conversation_list
    }

    /// Returns the total number of unread messages.
    pub async fn total_unread(&self) -> i64 {
        let config = ConversationTotalUnreadMessageCountQueryConfig::default();
        let found = soon(self.zim.query_conversation_total_unread_message_count(config)).await;
        found.unwrap().unread_message_count
    }

    /// Waits until a conversation has `count` unread messages.
    pub async fn has_unread(&self, with: impl Into<Chat<'_>>, count: i64) {
        let Chat { kind, id } = with.into();
        let mut last = None;
        eventually(&format!("{count} unread in {id}"), async || {
            let found = self.zim.query_conversation(id, kind).await.ok()?;
            last = found.conversation.map(|conversation| conversation.unread_message_count);
            (last == Some(count)).then_some(())
        })
        .await;
    }

    /// Clears a conversation's unread count.
    pub async fn read(&self, with: impl Into<Chat<'_>>) {
        let Chat { kind, id } = with.into();
        soon(self.zim.clear_conversation_unread_message_count(id, kind)).await.unwrap();
    }
}

fn received(seen: &[Event]) -> Vec<(Message, bool)> {
    let mut all = Vec::new();
    for event in seen {
        let (list, info) = match event {
            Event::PeerMessageReceived(event) => (&event.message_list, event.info),
            Event::GroupMessageReceived(event) => (&event.message_list, event.info),
            Event::RoomMessageReceived(event) => (&event.message_list, event.info),
            _ => continue,
        };
        let is_offline = info.is_some_and(|info| info.is_offline_message);
        all.extend(list.iter().map(|message| (message.clone(), is_offline)));
    }
    all
}

/// Returns the error code of an SDK call that failed.
///
/// # Panics
/// The call succeeded.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, zim_client_sdk::Error>) -> ErrorCode {
    code_of(&result.expect_err("it should have been refused"))
}

/// Returns the code of an error that a test looks at as a whole.
pub fn code_of(error: &zim_client_sdk::Error) -> ErrorCode {
    coverage::note_error(error.number());
    error.code()
}

/// Returns the code with which a call that succeeded has left out a user.
pub fn reason_of(left_out: &ErrorUserInfo) -> i64 {
    if let Ok(code) = i32::try_from(left_out.reason) {
        coverage::note_error(code);
    }
    left_out.reason
}

/// Whether a message is a text with these words.
pub fn is_text(message: &Message, text: &str) -> bool {
    matches!(&message.body, Some(Body::Text(body)) if body.message == text)
}

/// The texts of messages; for other messages their type.
pub fn texts<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<String> {
    let text = |message: &Message| match &message.body {
        Some(Body::Text(body)) => body.message.clone(),
        _ => format!("type {}", message.r#type),
    };
    messages.into_iter().map(text).collect()
}
