//! An account with a server in memory.

mod acknowledging;
mod calls;
mod catch_up;
mod deleting;
mod delivery;
mod device_copy;
mod epochs;
mod fake;
mod indexing;
mod leaving_rooms;
mod observing;
mod observing_at_random;
mod rooms;
mod sending;
mod transients;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zim_protocol::{
    Conversation, Event, EventFrame, LoginResult, Message, MessageQueryConfig, MessageSendConfig, MessageSentResult,
    Push, Welcome, clock::Clock, event_frame::Frame,
};

use self::fake::{Fake, ME, NOW};
use super::{Account, Settings};
use crate::error::Error;
use crate::message::{MessageSendNotification, history, submit};
use crate::store::conversation;
use crate::types::Name;

struct Login {
    fake: Fake,
    clock: Clock,
    account: Arc<Account<Fake>>,
}

type Answer = tokio::sync::oneshot::Receiver<Result<MessageSentResult, Error>>;

impl Login {
    fn new() -> Self {
        Self::with(Fake::default(), None)
    }

    fn with(fake: Fake, file: Option<&Path>) -> Self {
        Self::at(fake, file, NOW)
    }

    fn at(fake: Fake, file: Option<&Path>, now_ms: i64) -> Self {
        let clock = Clock::manual(now_ms);
        let media = crate::media::Http::new("localhost".to_owned(), Vec::new(), || Err(crate::account::logged_out()));
        let (file, device) = (file.map(Path::to_owned), Bytes::from_static(&[7; 16]));
        let settings = Settings { file, device, is_one_shot: false, resend_window_ms: 30_000, media };
        let account = Account::start(settings, ME, fake.clone(), clock.clone()).unwrap();
        Self { fake, clock, account }
    }

    async fn online() -> Self {
        let login = Self::new();
        login.connect().await;
        login
    }

    async fn connect(&self) {
        let seen = self.states().len();
        self.begin_to_connect();
        self.until(|login| login.states().len() >= seen + 2).await;
    }

    /// Connects, and does not wait until it has caught up.
    fn begin_to_connect(&self) {
        self.fake.0.lock().is_online = true;
        let epoch = vec![self.fake.0.lock().epoch; 16].into();
        let limits = self.fake.0.lock().limits;
        let server_time = NOW + self.fake.0.lock().elapsed_ms;
        let welcome = Arc::new(Welcome { server_time, epoch, limits, ..Welcome::default() });
        self.account.connected(self.next_connection(), &LoginResult::default(), false, &welcome);
    }

    fn next_connection(&self) -> u64 {
        let mut world = self.fake.0.lock();
        world.connection += 1;
        world.connection
    }

    fn disconnect(&self) {
        self.fake.0.lock().is_online = false;
        self.account.disconnected();
    }

    async fn frame(&self, push: Push) {
        self.account.event_frame(EventFrame { frame: Some(Frame::Push(push)) }).await;
    }

    async fn until(&self, is_met: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_met(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .unwrap_or_else(|_| panic!("{:#?}", self.fake.0.lock().events));
    }

    fn send(&self, peer: &str, text: &str) -> Answer {
        self.send_message(Message::text(text), peer, MessageSendConfig::default()).unwrap()
    }

    fn send_message(&self, message: Message, peer: &str, config: MessageSendConfig) -> Result<Answer, Error> {
        submit(&self.account, message, Name::new(0, peer), config, MessageSendNotification::default())
    }

    fn events<T>(&self, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.fake.0.lock().events.iter().filter_map(pick).collect()
    }

    fn states(&self) -> Vec<i32> {
        self.events(|event| match event {
            Event::ConversationSyncStateChanged(event) => Some(event.state),
            _ => None,
        })
    }

    fn received(&self) -> Vec<(String, bool)> {
        let lists = self.events(|event| match event {
            Event::PeerMessageReceived(event) => {
                let is_offline = event.info.unwrap().is_offline_message;
                Some(event.message_list.iter().map(|message| (text(message), is_offline)).collect::<Vec<_>>())
            }
            _ => None,
        });
        lists.concat()
    }

    fn totals(&self) -> Vec<i64> {
        self.events(|event| match event {
            Event::ConversationTotalUnreadMessageCountUpdated(event) => Some(event.total_unread_message_count),
            _ => None,
        })
    }

    fn statuses(&self) -> Vec<i32> {
        let lists = self.events(|event| match event {
            Event::MessageSentStatusChanged(event) => {
                Some(event.infos.iter().map(|info| info.status).collect::<Vec<_>>())
            }
            _ => None,
        });
        lists.concat()
    }

    async fn list(&self) -> Vec<Conversation> {
        self.account
            .store()
            .read(|db| conversation::list(db, ME, None, 100, &Default::default()))
            .await
            .unwrap()
            .unwrap()
    }

    async fn history(&self, count: usize, reverse: bool, next_message: Option<Message>) -> Vec<String> {
        self.page(count, reverse, next_message).await.iter().map(text).collect()
    }

    async fn page(&self, count: usize, reverse: bool, next_message: Option<Message>) -> Vec<Message> {
        let config = MessageQueryConfig { next_message, reverse, count: count as i64, ..MessageQueryConfig::default() };
        history(&self.account, &Name::new(0, "bob"), &config, count).await.unwrap()
    }
}

fn text(message: &Message) -> String {
    message.as_text().unwrap_or_default().to_owned()
}

fn numbered(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
