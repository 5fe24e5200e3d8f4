//! A day from its morning to its evening: everybody logs in, lives, and is asked in the end what they were told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use zim_client_sdk::{Config, Zim};
use zim_protocol::{CacheConfig, ConversationType, GroupAdvancedConfig, GroupInfo, Message, MessageReceiptStatus};

use super::backup;
use super::device::{Device, allow_files};
use super::judge::{Count, Missing};
use super::ledger::{Kind, Ms, mark};
use super::minutes::{Minute, measure};
use super::plan::Plan;
use super::record::Record;
use super::server::{Host, ServerProgram};
use super::town::Town;
use crate::logs::Logged;

/// How many devices log in at once in the morning, and are closed at once in the evening.
const AT_ONCE: usize = 16;
/// The longest wait for the last events.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
/// When the server restarts: before the memory is first looked at, so that it is that of one process.
const RESTART: Duration = Duration::from_secs(180);
/// When the memory is first looked at, seconds.
const SETTLED_S: f64 = 300.0;
/// A day of this length says something about memory.
const LONG: Duration = Duration::from_secs(600);
/// How much more memory the server may have in the evening.
const MOST_GROWTH: f64 = 1.2;
/// Users whom the default limits let register from one address at once.
const REGISTER_AT_ONCE: usize = 500;
/// Files that a device has open at most, and those of everything else.
const FILES_OF_A_DEVICE: usize = 16;
const OTHER_FILES: usize = 512;

/// What a day is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long the day is.
    pub length: Duration,
    /// How many users there are.
    pub users: usize,
    /// What they do.
    pub seed: u64,
    /// How long a user pauses between two actions, on average.
    pub pause: Duration,
    /// How long a minute is.
    pub minute: Duration,
    /// The server.
    pub server: ServerProgram,
    /// An empty folder for the server, the devices and the files.
    pub folder: PathBuf,
    /// A file for what is measured each minute, a line of JSON for each.
    pub lines: Option<PathBuf>,
}

/// A day that is over.
#[derive(Debug)]
pub struct Day {
    /// Its settings.
    pub settings: Settings,
    /// How many devices there were.
    pub devices: usize,
    /// What was measured.
    pub minutes: Vec<Minute>,
    /// What is wrong; empty if nothing is.
    pub violations: Vec<String>,
    /// Errors that the scenario explains, by their text.
    pub explained: BTreeMap<String, usize>,
    pub(super) counts: BTreeMap<&'static str, Count>,
    /// Events of all devices, by their names.
    pub(super) events: BTreeMap<&'static str, u64>,
    /// Messages that devices sent, and those that were acknowledged.
    pub(super) sent: (u64, u64),
    /// Times that devices were away, without the morning: asleep or logged out, and without a connection.
    pub(super) away: (usize, usize),
    /// Receipts and reactions that a device had with the message instead of an event.
    pub(super) by_state: usize,
    /// Events that were raised again after a client was closed.
    pub(super) again: usize,
    pub(super) files: usize,
    /// When the server was down, seconds since the morning.
    pub(super) restart: (f64, f64),
    /// When the backup began and ended, and the messages in it.
    pub(super) backup: (f64, f64, usize),
    pub(super) warnings: usize,
}

impl Day {
    /// Returns for each kind how often users did it, and how many events of devices were due to it.
    pub fn totals(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        self.counts.iter().map(|(kind, count)| (*kind, count.done, count.raised))
    }

    /// Returns how often users did something of a kind, such as `receipts`, and how many events of devices were due to it.
    pub fn count(&self, kind: &str) -> (u64, u64) {
        self.counts.get(kind).map_or((0, 0), |count| (count.done, count.raised))
    }
}

/// Lives a day.
///
/// # Errors
/// The server does not start or stop, a device cannot log in, or the backup cannot be made. What is wrong with what happened is in
/// the day.
pub async fn run(settings: Settings) -> anyhow::Result<Day> {
    let logged = Logged::capture();
    drop(logged.errors());
    let plan = Plan::new(settings.seed, settings.users);
    let files = plan.devices.len() * FILES_OF_A_DEVICE + OTHER_FILES;
    allow_files(u64::try_from(files)?)?;
    let sent = settings.folder.join("files");
    std::fs::create_dir_all(&sent)?;
    let mut host = Host::new(settings.server.clone(), &settings.folder.join("server"), server_settings(&plan));
    host.start().await?;
    let record = Arc::new(Record::new(plan.devices.len()));
    let devices = devices(&plan, &host, &settings.folder, &record)?;
    let mut town = Town { plan, devices, record, files: sent, pause: settings.pause, morning: 0, evening: 0 };
    Box::pin(morning(&town)).await?;
    town.morning = town.record.now();
    town.evening = town.morning + Ms::try_from(settings.length.as_millis())?;
    let (town, host) = (Arc::new(town), Arc::new(Mutex::new(host)));
    let measured = tokio::spawn(measure(Arc::clone(&town), Arc::clone(&host), settings.minute, settings.lines.clone()));
    let directed = tokio::spawn(direct(Arc::clone(&town), Arc::clone(&host), settings.clone()));
    let lived = Box::pin(live(Arc::clone(&town)));
    let (minutes, backup, ()) = tokio::try_join!(ended(measured), ended(directed), lived)?;
    let (left, by_state) = Box::pin(evening(&town)).await;
    let mut day = judge(settings, &town, minutes, (&left, by_state), backup);
    day.violations.extend(growth(&day.minutes, day.settings.length));
    // What nobody explained is found by now: closing is no part of the day.
    let all = stream::iter(town.devices.clone());
    all.for_each_concurrent(AT_ONCE, |device| async move { device.sleep(false).await }).await;
    host.lock().await.stop().await?;
    let (errors, warnings) = host.lock().await.complaints();
    day.warnings = warnings;
    day.violations.extend(errors.into_iter().map(|line| format!("errors in the log of the server: {line}")));
    day.violations.extend(logged.errors().into_iter().map(|line| format!("errors in the log of the clients: {line}")));
    Ok(day)
}

/// The settings of the server: the defaults, unless there are more users than may register from one address.
fn server_settings(plan: &Plan) -> Vec<String> {
    let is_large = plan.users > REGISTER_AT_ONCE;
    is_large.then(|| format!("limits.first_login_burst_per_address={}", plan.users)).into_iter().collect()
}

fn devices(plan: &Plan, host: &Host, folder: &Path, record: &Arc<Record>) -> anyhow::Result<Vec<Arc<Device>>> {
    let app = host.first_app()?;
    let downloads = folder.join("downloads").to_string_lossy().into_owned();
    Zim::set_cache_config(CacheConfig { cache_path: downloads });
    let config = Config::new(app.app_id, host.address()).app_sign(app.app_sign.as_str()).trust(app.trust());
    let config = config.retry_login(true);
    let numbers = (0..).take(plan.devices.len());
    Ok(numbers.map(|number| Device::new(plan, number, config.clone(), folder, record)).collect())
}

/// Waits for a task of its own.
async fn ended<T>(task: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    task.await?
}

/// Everybody logs in, the groups are made, and some enter the rooms.
async fn morning(town: &Town) -> anyhow::Result<()> {
    let all = town.devices.iter().map(Arc::clone);
    let waking = stream::iter(all).map(|device| async move { device.wake().await });
    waking.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    for club in &town.plan.clubs {
        let owner = &town.devices[club.members[0]];
        let zim = owner.awake().context("the owner of a group sleeps")?;
        let names: Vec<String> = club.members[1..].iter().copied().map(Plan::name).collect();
        let info = GroupInfo { group_id: club.id.clone(), group_name: club.id.clone(), ..GroupInfo::default() };
        Box::pin(zim.create_group(info, names, GroupAdvancedConfig::default())).await?;
    }
    for device in &town.devices {
        let Some(room) = device.place.room else { continue };
        Arc::clone(device).enter(room).await?;
        anyhow::ensure!(device.is_in(room).await, "device {} was not told that it is in a room", device.number);
    }
    Ok(())
}

/// Lets all users live until the evening.
async fn live(town: Arc<Town>) -> anyhow::Result<()> {
    let mut users = JoinSet::new();
    for user in 0..town.plan.users {
        users.spawn(Arc::clone(&town).live(user));
    }
    while let Some(ended) = users.join_next().await {
        ended?;
    }
    Ok(())
}

/// A backup: when it was made, and how many messages it has.
type Backup = (Ms, Ms, usize);

/// Restarts the server, and makes a backup.
async fn direct(town: Arc<Town>, host: Arc<Mutex<Host>>, settings: Settings) -> anyhow::Result<Backup> {
    let begun = Instant::now();
    sleep(RESTART.min(settings.length.mul_f64(0.3))).await;
    {
        let mut host = host.lock().await;
        let now = town.record.now();
        town.record.ledger().restarts.push((now, None));
        host.stop().await?;
        host.start().await?;
        let now = town.record.now();
        for (_, end) in &mut town.record.ledger().restarts {
            end.get_or_insert(now);
        }
    }
    sleep(settings.length.mul_f64(0.6).saturating_sub(begun.elapsed())).await;
    let from = town.record.now();
    let acknowledged: Vec<u32> = {
        let ledger = town.record.ledger();
        let facts = ledger.facts.iter().zip(0..);
        let is_kept = |fact: &super::ledger::Fact| fact.kind.is_kept_message() && fact.done.is_some_and(|at| at < from);
        facts.filter(|(fact, _)| is_kept(fact)).map(|(_, number)| number).collect()
    };
    let (data, to) = (host.lock().await.folder().to_owned(), settings.folder.join("backup.db"));
    let copied = tokio::task::spawn_blocking(move || backup::copy(&data, &to)).await??;
    for number in acknowledged.iter().filter(|number| !copied.contains(number)) {
        town.record.note(format!("message {number} was acknowledged before the backup, which does not have it"));
    }
    Ok((from, town.record.now(), copied.len()))
}

/// Everybody says a last word, so that what comes late has come. Then waits for the last events. Returns what is missing, and how
/// many devices have a message as it is now instead of an event.
async fn evening(town: &Town) -> (Vec<Missing>, usize) {
    stream::iter(0..town.plan.users).for_each_concurrent(AT_ONCE, |user| Box::pin(last_words(town, user))).await;
    let begun = Instant::now();
    let missing = loop {
        let (missing, is_complete) = {
            let ledger = town.record.ledger();
            let missing = ledger.missing();
            let is_complete = missing.iter().all(|missing| missing.or_state) && ledger.not_downloaded().is_empty();
            (missing, is_complete)
        };
        if is_complete || begun.elapsed() > PATIENCE {
            break missing;
        }
        sleep(POLL).await;
    };
    let (mut left, mut by_state) = (Vec::new(), 0);
    for missing in missing {
        if missing.or_state && Box::pin(has_state(town, missing)).await {
            by_state += 1;
        } else {
            left.push(missing);
        }
    }
    (left, by_state)
}

/// A user writes to the first friend, to the groups that they own, and to their room.
async fn last_words(town: &Town, user: usize) {
    let device = &town.devices[user];
    let Some(zim) = device.awake() else {
        town.record.note(format!("device {user} sleeps in the evening"));
        return;
    };
    if let Some(friend) = town.plan.friends(user).first() {
        town.say_to(device, &zim, *friend).await;
    }
    for (number, club) in town.plan.clubs.iter().enumerate() {
        if club.members.first() == Some(&user) {
            town.say_in_club(device, &zim, number).await;
        }
    }
    let room = device.place.room.filter(|room| town.record.ledger().is_in(device.number, *room));
    if let Some(room) = room {
        town.say_in_room(device, &zim, room).await;
    }
}

/// Whether a device has a message with a receipt, or a reaction.
async fn has_state(town: &Town, missing: Missing) -> bool {
    let Missing { number, device, .. } = missing;
    let asked = {
        let ledger = town.record.ledger();
        let about = ledger.fact(number).and_then(|fact| Some((fact.kind, fact.seq, ledger.fact(fact.of?)?.clone())));
        about.map(|(kind, seq, message)| (kind, seq, message.kind, message.by, message.to))
    };
    let Some((kind, seq, of, by, to)) = asked else { return false };
    let (sender, user) = (town.devices[usize::from(by)].place.user, town.devices[usize::from(device)].place.user);
    let (conversation, id) = match of {
        Kind::Group => (ConversationType::Group, to),
        // A device of the other user names the conversation after the sender.
        _ if sender != user => (ConversationType::Peer, Plan::name(sender)),
        _ => (ConversationType::Peer, to),
    };
    let Some(zim) = town.devices[usize::from(device)].awake() else { return false };
    let found = Box::pin(zim.query_messages(&[seq], &id, conversation)).await;
    let has = |message: &Message| match kind {
        Kind::Receipt => message.receipt_status == MessageReceiptStatus::Done as i32,
        _ => message.reactions.iter().any(|reaction| reaction.reaction_type == mark(number)),
    };
    found.is_ok_and(|found| found.message_list.first().is_some_and(has))
}

/// Looks at the day as a whole.
fn judge(
    settings: Settings,
    town: &Town,
    minutes: Vec<Minute>,
    (left, by_state): (&[Missing], usize),
    (from, to, messages): Backup,
) -> Day {
    let ledger = town.record.ledger();
    let mut explained: BTreeMap<String, usize> = BTreeMap::new();
    for failure in ledger.failures.iter().filter(|failure| failure.is_explained(&ledger)) {
        *explained.entry(format!("{:?}: {}", failure.area, failure.text)).or_default() += 1;
    }
    let (mut events, mut sent): (BTreeMap<&'static str, u64>, _) = (BTreeMap::new(), (0, 0));
    for counts in town.devices.iter().map(|device| device.counts()) {
        sent = (sent.0 + counts.sent, sent.1 + counts.acknowledged);
        for (name, count) in counts.events {
            *events.entry(name).or_default() += count;
        }
    }
    let away: Vec<bool> = ledger.away.iter().flat_map(|away| away.iter().skip(1)).map(|away| away.is_asleep).collect();
    let asleep = away.iter().filter(|is_asleep| **is_asleep).count();
    let seconds = |at: Ms| at.saturating_sub(town.morning) as f64 / 1_000.0;
    let restart =
        ledger.restarts.first().map_or((0.0, 0.0), |(begin, end)| (seconds(*begin), seconds(end.unwrap_or(*begin))));
    let violations = ledger.violations(left);
    Day {
        settings,
        devices: town.devices.len(),
        minutes,
        violations,
        explained,
        counts: ledger.counts(),
        events,
        sent,
        away: (asleep, away.len() - asleep),
        by_state,
        again: ledger.raised_again(),
        files: ledger.downloads.len(),
        restart,
        backup: (seconds(from), seconds(to), messages),
        warnings: 0,
    }
}

/// Says whether the server's memory has grown too much: from five minutes after the morning to the evening, in a long day.
fn growth(minutes: &[Minute], length: Duration) -> Option<String> {
    if length < LONG {
        return None;
    }
    // A minute ends a moment late.
    let settled =
        minutes.iter().find(|minute| minute.at_seconds >= SETTLED_S - 1.0).and_then(|minute| minute.server_bytes);
    let (Some(settled), Some(last)) = (settled, minutes.last().and_then(|minute| minute.server_bytes)) else {
        return Some("memory: it could not be measured".to_owned());
    };
    let ratio = last as f64 / settled.max(1) as f64;
    (ratio > MOST_GROWTH).then(|| format!("memory: {ratio:.2} times as much in the evening as after five minutes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(at_seconds: f64, server_bytes: Option<u64>) -> Minute {
        Minute {
            at_seconds,
            server_bytes,
            clients_bytes: None,
            acknowledged_per_second: 0.0,
            delivered_per_second: 0.0,
            p50_ms: None,
            p99_ms: None,
            sessions: None,
            errors: 0,
        }
    }

    #[test]
    fn memory_may_grow_by_a_fifth_after_five_minutes() {
        let day = |last| vec![minute(60.0, Some(10)), minute(300.0, Some(100)), minute(1_200.0, last)];
        assert_eq!(growth(&day(Some(120)), LONG), None);
        assert!(growth(&day(Some(121)), LONG).is_some_and(|text| text.starts_with("memory: 1.21")));
        assert_eq!(growth(&day(Some(900)), LONG / 2), None, "a short day says nothing");
        assert!(growth(&day(None), LONG).is_some());
    }
}
