//! The users and their devices: some stay with a node, and come back to it; others take another node when theirs is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use zim_client_sdk::Config;
use zim_protocol::{Event, LoginConfig, Message, MessageSentStatus, RoomAdvancedConfig, RoomInfo, RoomState};

use super::ledger::{Ledger, Line, To};
use crate::device::{Chat, DataDir, Device, group, room};
use crate::process::FirstApp;
use crate::proxy::Proxy;

/// All users.
pub(super) const USERS: [&str; 4] = ["ann", "bob", "cat", "dan"];
/// The group of all users.
pub(super) const GROUP: &str = "crew";
/// The room.
const ROOM: &str = "stage";
/// How long the room lasts without members, seconds.
const ROOM_LASTS: i64 = 600;

/// How long a device pauses between two messages: it sends fewer than it may.
const PAUSE: Duration = Duration::from_millis(150);
/// The longest wait for something that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a message into a room may take before another one is sent, and how many are.
const ROOM_PATIENCE: Duration = Duration::from_secs(3);
const ROOM_TRIES: usize = 10;
pub(super) const POLL: Duration = Duration::from_millis(50);

/// A device of a user, and the node that it connects to first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) label: &'static str,
    pub(super) user: &'static str,
    pub(super) node: usize,
    /// It takes another node when its own is gone, as with several addresses of a name.
    pub(super) roams: bool,
    /// One device of a user can be in a room.
    pub(super) is_in_room: bool,
}

/// The devices. The first two stay with one node each.
pub(super) const PLACES: [Place; 5] = [
    Place { label: "telephone", user: "ann", node: 0, roams: false, is_in_room: true },
    Place { label: "telephone", user: "bob", node: 1, roams: false, is_in_room: true },
    Place { label: "tablet", user: "ann", node: 1, roams: true, is_in_room: false },
    Place { label: "telephone", user: "cat", node: 0, roams: true, is_in_room: true },
    Place { label: "telephone", user: "dan", node: 1, roams: true, is_in_room: true },
];

/// A device that is logged in.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) place: Place,
    /// Its number in the ledger.
    number: usize,
    device: Device,
    /// The way to the node, which can be changed.
    proxy: Proxy,
}

impl Person {
    /// Logs a device in at a node, and waits until it has caught up.
    pub(super) async fn log_in(
        number: usize,
        place: Place,
        app: &FirstApp,
        node: SocketAddr,
    ) -> anyhow::Result<Arc<Self>> {
        let proxy = Proxy::to(node, u64::try_from(number)?).await;
        let config = Config::new(app.app_id, proxy.address().to_string()).app_sign(app.app_sign.as_str());
        let device = Device::with_config(config.trust(app.trust()), DataDir::default());
        Box::pin(device.login(place.user, LoginConfig::default())).await?;
        device.caught_up(0).await;
        Ok(Arc::new(Self { place, number, device, proxy }))
    }

    /// The client.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Says whose device it is.
    pub(super) fn name(&self) -> String {
        format!("{}'s {}", self.place.user, self.place.label)
    }

    /// Leads the device to another node, if it does not stay with its own.
    pub(super) fn moves_to(&self, node: SocketAddr) {
        if self.place.roams {
            self.proxy.set_server(node);
        }
    }

    /// Returns the number of the device in the ledger, and its user.
    pub(super) fn in_ledger(&self) -> (usize, &'static str) {
        (self.number, self.place.user)
    }

    /// Sends the next message. Returns its text if it was acknowledged.
    pub(super) async fn say(&self, ledger: &Mutex<Ledger>, to: To) -> Option<String> {
        let (number, text) = ledger.lock().begin(self.number, self.place.user, to);
        let chat: Chat<'_> = match to {
            To::User(user) => user.into(),
            To::Group => group(GROUP),
            To::Room => room(ROOM),
        };
        match Box::pin(self.device.send_to(chat, Message::text(text.as_str()))).await {
            Ok(_) => {
                ledger.lock().acknowledged(number);
                Some(text)
            }
            Err(error) => {
                ledger.lock().refused(number, error.to_string());
                None
            }
        }
    }

    /// Where the user's stored messages go: to each of the others, and to the group.
    pub(super) fn conversations(&self) -> Vec<To> {
        let others = USERS.into_iter().filter(|user| *user != self.place.user).map(To::User);
        others.chain([To::Group]).collect()
    }

    /// Writes to everybody, to the group and into the room, in turn, until it is over.
    pub(super) async fn talk(self: Arc<Self>, ledger: Arc<Mutex<Ledger>>, is_over: Arc<AtomicBool>) {
        let mut all = self.conversations();
        all.extend(self.place.is_in_room.then_some(To::Room));
        for to in all.into_iter().cycle() {
            if is_over.load(Ordering::Acquire) {
                return;
            }
            self.say(&ledger, to).await;
            sleep(PAUSE).await;
        }
    }

    /// Returns the texts of all messages that the device was told of, in order.
    pub(super) fn told(&self) -> Vec<String> {
        let mut texts = Vec::new();
        for event in &self.device.seen() {
            let messages = match event {
                Event::PeerMessageReceived(event) => &event.message_list,
                Event::GroupMessageReceived(event) => &event.message_list,
                Event::RoomMessageReceived(event) => &event.message_list,
                _ => continue,
            };
            texts.extend(messages.iter().filter_map(Message::as_text).map(str::to_owned));
        }
        texts
    }

    /// Returns the history of the user's conversation with another one, or of the group: what the server has.
    pub(super) async fn history(&self, with: Option<&str>) -> Vec<Line> {
        let chat = with.map_or_else(|| group(GROUP), Chat::from);
        let messages = Box::pin(self.device.history(chat)).await;
        let stored = messages.into_iter().filter(|message| message.sent_status == MessageSentStatus::Success as i32);
        let line = |message: Message| (message.message_id.clone(), message.as_text().unwrap_or("(no text)").to_owned());
        stored.map(line).collect()
    }

    /// Waits until the device was told of a text. False: that takes too long.
    async fn hears(&self, text: &str, patience: Duration) -> bool {
        let begun = Instant::now();
        while !self.told().iter().any(|told| told == text) {
            if begun.elapsed() > patience {
                return false;
            }
            sleep(POLL).await;
        }
        true
    }

    /// The state of the room, as the device was last told.
    fn room_state(&self) -> i32 {
        let last = self.device.seen().iter().rev().find_map(|event| match event {
            Event::RoomStateChanged(event) => Some(event.state),
            _ => None,
        });
        last.unwrap_or(RoomState::Disconnected as i32)
    }

    /// Lets the device enter the room, unless it is there, and waits until it is.
    pub(super) async fn enters(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut why = String::new();
        while self.room_state() != RoomState::Connected as i32 {
            ensure!(begun.elapsed() < PATIENCE, "{} does not get into the room: {why}", self.name());
            if self.room_state() == RoomState::Disconnected as i32 {
                let info = RoomInfo { room_id: ROOM.to_owned(), room_name: String::new() };
                let config =
                    RoomAdvancedConfig { room_destroy_delay_time: ROOM_LASTS, ..RoomAdvancedConfig::default() };
                if let Err(error) = Box::pin(self.device.enter_room(info, config)).await {
                    why = error.to_string();
                }
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// Lets two devices at two nodes write to each other in every way. Returns what does not arrive.
pub(super) async fn exchange([one, two]: [&Person; 2], ledger: &Mutex<Ledger>, when: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, to) in [(one, two), (two, one)] {
        let way = format!("{when}: from {} to {}", from.name(), to.name());
        for place in [To::User(to.place.user), To::Group] {
            let Some(text) = from.say(ledger, place).await else {
                wrong.push(format!("{way}, {place:?}: the message is not acknowledged"));
                continue;
            };
            if !to.hears(&text, PATIENCE).await {
                wrong.push(format!("{way}, {place:?}: {text} does not arrive"));
            }
        }
        match is_heard_in_room(from, to, ledger).await {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("{way}: nothing that is said in the room arrives")),
            Err(error) => wrong.push(format!("{way}: {error:#}")),
        }
    }
    wrong
}

/// Whether one device hears the other in the room. What is said while nodes come and go may be lost, so it is said again.
async fn is_heard_in_room(from: &Person, to: &Person, ledger: &Mutex<Ledger>) -> anyhow::Result<bool> {
    for _ in 0..ROOM_TRIES {
        from.enters().await?;
        to.enters().await?;
        if let Some(text) = from.say(ledger, To::Room).await
            && to.hears(&text, ROOM_PATIENCE).await
        {
            return Ok(true);
        }
    }
    Ok(false)
}
