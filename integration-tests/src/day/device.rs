//! A device of a day: a client of the SDK whose events go to the ledger. It sleeps and wakes: its client ends, and another one begins on
//! the same folder.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::sleep;
use zim_client_sdk::{Config, Error, Zim};
use zim_protocol::message::Body;
use zim_protocol::{
    ConnectionState, ErrorCode, Event, EventKind, GroupState, LoginConfig, MediaDownloadConfig, MediaFileType, Message,
    RoomAdvancedConfig, RoomInfo, RoomState,
};

use super::failure::Area;
use super::ledger::{Download, number_of};
use super::plan::{Number, Place, Plan};
use super::record::Record;
use crate::random::Random;

/// The messages that a device remembers, to read them and to react to them.
const REMEMBERED: usize = 8;
/// How often something is tried that may fail while the server restarts, and the pause between.
const TRIES: usize = 60;
const RETRY: Duration = Duration::from_millis(500);
/// How long a room lasts without members, seconds.
const ROOM_LASTS: i64 = 600;
/// The sizes of files.
const LEAST_BYTES: u64 = 4_096;
const MORE_BYTES: u64 = 60_000;

/// The prefix of a room's ID, before its number.
const ROOM: &str = "room-";

/// What a device did and raised.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Messages that it sent.
    pub(super) sent: u64,
    /// Those that were acknowledged.
    pub(super) acknowledged: u64,
    /// The events that it raised, by their names.
    pub(super) events: BTreeMap<&'static str, u64>,
}

/// A device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) number: Number,
    pub(super) place: Place,
    name: String,
    config: Config,
    record: Arc<Record>,
    /// `None` while it sleeps. Whoever uses the client holds the lock, so that it does not fall asleep meanwhile.
    zim: RwLock<Option<Zim>>,
    life: AtomicU32,
    is_asleep: AtomicBool,
    /// It is about to enter the room that it is in all day.
    is_entering: AtomicBool,
    seed: u64,
    inbox: Mutex<VecDeque<(u32, Message)>>,
    counts: Mutex<Counts>,
}

impl Device {
    /// A device that sleeps. `folder` is for the databases of devices that sleep.
    pub(super) fn new(plan: &Plan, number: Number, config: Config, folder: &Path, record: &Arc<Record>) -> Arc<Self> {
        let place = plan.devices[usize::from(number)];
        let config = if place.sleeps { config.data_dir(folder.join(format!("device-{number}"))) } else { config };
        Arc::new(Self {
            number,
            place,
            name: Plan::name(place.user),
            config,
            record: Arc::clone(record),
            zim: RwLock::new(None),
            life: AtomicU32::new(0),
            is_asleep: AtomicBool::new(true),
            is_entering: AtomicBool::new(false),
            seed: plan.seed,
            inbox: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// Returns the client, unless the device sleeps, or is about to.
    pub(super) fn awake(&self) -> Option<RwLockReadGuard<'_, Zim>> {
        let guard = self.zim.try_read().ok()?;
        RwLockReadGuard::try_map(guard, Option::as_ref).ok()
    }

    /// Returns what it did and raised so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    /// Counts a message that it sends.
    pub(super) fn sends(&self) {
        self.counts.lock().sent += 1;
    }

    /// Counts a message of it that was acknowledged.
    pub(super) fn is_acknowledged(&self) {
        self.counts.lock().acknowledged += 1;
    }

    /// Returns a message that the device raised lately, and its number.
    pub(super) fn remembered(&self, random: &mut Random) -> Option<(u32, Message)> {
        let inbox = self.inbox.lock();
        let index = random.below(u64::try_from(inbox.len()).unwrap_or(0));
        inbox.get(usize::try_from(index).unwrap_or(0)).cloned()
    }

    /// Starts a client, logs in, and waits until it has caught up.
    pub(super) async fn wake(self: &Arc<Self>) -> anyhow::Result<()> {
        let mut slot = self.zim.write().await;
        let zim = Zim::new(self.config.clone())?;
        let life = self.life.fetch_add(1, Ordering::AcqRel) + 1;
        self.is_asleep.store(false, Ordering::Release);
        for kind in EventKind::ALL.iter().copied().filter(|kind| !is_deprecated(*kind)) {
            let device = Arc::downgrade(self);
            zim.on(kind, move |_, event| {
                if let Some(device) = device.upgrade() {
                    device.notice(event, life);
                }
            });
        }
        for _ in 0..TRIES {
            let begun = self.record.now();
            match Box::pin(log_in(&zim, &self.name)).await {
                Ok(()) => {
                    *slot = Some(zim);
                    return Ok(());
                }
                Err(error) => self.record.failed(Area::Session, begun, &[self.number], &error),
            }
            sleep(RETRY).await;
        }
        anyhow::bail!("device {} cannot log in", self.number)
    }

    /// Ends the client, as a phone does with an app that nobody looks at; with `logs_out`, as its user does.
    pub(super) async fn sleep(&self, logs_out: bool) {
        let mut slot = self.zim.write().await;
        self.is_asleep.store(true, Ordering::Release);
        let now = self.record.now();
        self.record.ledger().leaves(self.number, now, true);
        if let Some(zim) = slot.take() {
            if logs_out {
                zim.logout().await;
            }
            zim.close().await;
        }
    }

    /// Enters a room, and tries again while the server restarts.
    pub(super) async fn enter(self: Arc<Self>, room: u16) -> anyhow::Result<()> {
        for _ in 0..TRIES {
            let guard = self.zim.read().await;
            let Some(zim) = guard.as_ref() else { return Ok(()) };
            let begun = self.record.now();
            let info = RoomInfo { room_id: Plan::room_id(room), room_name: String::new() };
            let config = RoomAdvancedConfig { room_destroy_delay_time: ROOM_LASTS, ..RoomAdvancedConfig::default() };
            match Box::pin(zim.enter_room(info, config)).await {
                Ok(_) => return Ok(()),
                Err(error) => self.record.failed(Area::Room, begun, &[self.number], &error),
            }
            drop(guard);
            sleep(RETRY).await;
        }
        anyhow::bail!("device {} cannot enter room {room}", self.number)
    }

    /// Waits until the device was told that it is in a room. False: that takes too long.
    pub(super) async fn is_in(&self, room: u16) -> bool {
        for _ in 0..TRIES {
            if self.record.ledger().is_in(self.number, room) {
                return true;
            }
            sleep(RETRY / 10).await;
        }
        false
    }

    /// Notes an event.
    fn notice(self: &Arc<Self>, event: &Event, life: u32) {
        *self.counts.lock().events.entry(event.kind().name()).or_default() += 1;
        match event {
            Event::PeerMessageReceived(event) => self.received(&event.message_list, life),
            Event::GroupMessageReceived(event) => self.received(&event.message_list, life),
            Event::RoomMessageReceived(event) => self.received(&event.message_list, life),
            Event::MessageReceiptChanged(event) => {
                for info in &event.infos {
                    let receipt = self.record.ledger().receipt_of(&info.message_id);
                    self.raised(receipt, life);
                }
            }
            Event::MessageReactionsChanged(event) => {
                for reaction in &event.reactions {
                    self.raised(number_of(&reaction.reaction_type), life);
                }
            }
            Event::GroupNameUpdated(event) => {
                self.raised(number_of(&event.group_name), life);
            }
            Event::GroupStateChanged(event) if event.state == GroupState::Enter as i32 => {
                let info = event.group_info.as_ref().and_then(|info| info.base_info.as_ref());
                self.raised(info.and_then(|info| number_of(&info.group_id)), life);
            }
            Event::CallInvitationReceived(event) => {
                self.raised(number_of(&event.extended_data), life);
            }
            Event::CallInvitationEnded(event) => {
                self.raised(number_of(&event.extended_data), life);
            }
            Event::ConnectionStateChanged(event) => {
                self.connection(event.state == ConnectionState::Connected as i32, life);
            }
            Event::RoomStateChanged(event) => {
                if let Some(room) = event.room_id.strip_prefix(ROOM).and_then(|room| room.parse().ok()) {
                    self.room(room, event.state);
                }
            }
            Event::Error(event) => {
                let code = ErrorCode::try_from(event.code).unwrap_or(ErrorCode::Failed);
                let error = Error::new(code, event.message.as_str());
                self.record.failed(Area::Session, self.record.now(), &[self.number], &error);
            }
            _ => {}
        }
    }

    /// Notes that the device raised something. Returns whether it is the first time.
    fn raised(&self, number: Option<u32>, life: u32) -> bool {
        let Some(number) = number else { return false };
        let now = self.record.now();
        let mut ledger = self.record.ledger();
        let is_first = ledger.seen_by(self.number, number).is_none();
        ledger.raised(self.number, number, now, life);
        is_first
    }

    /// Notes messages.
    fn received(self: &Arc<Self>, messages: &[Message], life: u32) {
        for message in messages {
            let text = match &message.body {
                Some(Body::File(file)) => Some(file.file_name.as_str()),
                _ => message.as_text(),
            };
            let Some(number) = text.and_then(number_of) else { continue };
            self.record.delivered();
            if !self.raised(Some(number), life) || message.sender_user_id == self.name {
                continue;
            }
            if self.record.ledger().downloader_of(number) == Some(self.number) {
                tokio::spawn(Arc::clone(self).download(number, message.clone()));
            }
            let mut inbox = self.inbox.lock();
            inbox.push_back((number, message.clone()));
            if inbox.len() > REMEMBERED {
                inbox.pop_front();
            }
        }
    }

    /// Notes the state of the connection.
    fn connection(&self, is_connected: bool, life: u32) {
        if self.is_asleep.load(Ordering::Acquire) || self.life.load(Ordering::Acquire) != life {
            return;
        }
        let now = self.record.now();
        let mut ledger = self.record.ledger();
        if is_connected { ledger.returns(self.number, now) } else { ledger.leaves(self.number, now, false) }
    }

    /// Notes the state of a room. A device that is in it all day enters it again.
    fn room(self: &Arc<Self>, room: u16, state: i32) {
        let now = self.record.now();
        if state == RoomState::Connected as i32 {
            self.record.ledger().enters(self.number, room, now);
            return;
        }
        self.record.ledger().exits(self.number, room, now);
        let is_resident = self.place.room == Some(room) && !self.is_asleep.load(Ordering::Acquire);
        // In the morning somebody else lets it enter.
        let was_in = self.record.ledger().has_entered(self.number, room, now);
        let is_out = state == RoomState::Disconnected as i32 && is_resident && was_in;
        if is_out && !self.is_entering.swap(true, Ordering::AcqRel) {
            let device = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = Arc::clone(&device).enter(room).await {
                    device.record.note(format!("{error:#}"));
                }
                device.is_entering.store(false, Ordering::Release);
            });
        }
    }

    /// Downloads the file of a message, and compares it with what was sent.
    async fn download(self: Arc<Self>, number: u32, message: Message) {
        let mut outcome = Download::Failed;
        let mut tries = 0;
        while tries < TRIES {
            let guard = self.zim.read().await;
            let Some(zim) = guard.as_ref() else {
                drop(guard);
                sleep(RETRY).await;
                continue;
            };
            let begun = self.record.now();
            let config = MediaDownloadConfig::default();
            let got = zim.download_media_file(&message, MediaFileType::OriginalFile, config, |_, _, _| {});
            match Box::pin(got).await {
                Ok(got) => {
                    let is_equal = is_content(&got.file_local_path, self.seed, number).await;
                    outcome = if is_equal { Download::Equal } else { Download::Different };
                    break;
                }
                Err(error) => self.record.failed(Area::File, begun, &[self.number], &error),
            }
            drop(guard);
            tries += 1;
            sleep(RETRY).await;
        }
        self.record.ledger().downloads.insert((number, self.number), outcome);
    }
}

/// Logs in, and waits until the device has caught up.
async fn log_in(zim: &Zim, name: &str) -> Result<(), Error> {
    zim.login(name, LoginConfig::default()).await?;
    zim.synced().await
}

/// Whether a kind of event repeats others in the words of earlier versions.
fn is_deprecated(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::ReceivePeerMessage
            | EventKind::ReceiveGroupMessage
            | EventKind::ReceiveRoomMessage
            | EventKind::CallInvitationAccepted
            | EventKind::CallInvitationRejected
            | EventKind::CallInviteesAnsweredTimeout
    )
}

/// The bytes of a file: each number has others.
pub(super) fn content(seed: u64, number: u32) -> Vec<u8> {
    let mut random = Random::new(seed ^ (u64::from(number) << 32));
    let count = LEAST_BYTES + random.below(MORE_BYTES);
    random.bytes(usize::try_from(count).unwrap_or(0))
}

/// Whether a file that was downloaded has the bytes that were sent. It is removed.
async fn is_content(path: &str, seed: u64, number: u32) -> bool {
    let is_equal = tokio::fs::read(path).await.is_ok_and(|bytes| bytes == content(seed, number));
    // A file that stays takes room for the rest of the day.
    let _ = tokio::fs::remove_file(path).await;
    is_equal
}

/// Raises the number of files that this process may have open: each client has a socket, and some have a database.
///
/// # Errors
/// The system allows fewer.
pub(super) fn allow_files(wanted: u64) -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current.is_some_and(|current| current < wanted) {
            ensure!(maximum.is_none_or(|maximum| maximum >= wanted), "the limit of open files is below {wanted}");
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
        }
    }
    #[cfg(not(unix))]
    ensure!(wanted > 0, "no files");
    Ok(())
}
