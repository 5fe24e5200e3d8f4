//! A long run: 20 users with 30 devices send 10,000 messages in pairs and three groups, with faults all along. Beside what is stored,
//! shown and raised, it checks that memory and files stay bounded.
//!
//! It has checks of its own, which take time in proportion to the run. The verbs other than sending are for the short runs.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use zim_protocol::{ConversationType, Message};

use super::checks::Violation;
use super::device::Device;
use super::frame_proxy::Planted;
use super::long_check::{Found, Kept, Truth, chat, check_raised, check_stored, difference, heard, peers, unheard};
use super::long_plan::{DEVICES, USERS, groups};
use super::plan::{Fault, Plan, Step};
use super::record::Record;
use super::run::{
    FRESH_DEVICES, Outcome, Settings, Tally, faults_of, poll_until, wait_for_first_sync, wait_for_logins,
};
use super::store::{SharedCluster, Store, decoded};
use super::testbed::{Programs, Testbed};

/// The longest wait at the end. There are five times as many devices as in a short run.
const PATIENCE: u32 = 4;
/// Of so many calls one must be acknowledged. A run in which nearly all fail shows nothing.
const ACKNOWLEDGED_OF: usize = 2;
/// The server empties its log when it is longer, in a pause.
const LONG_LOG: u64 = 4 << 20;

/// The most that a run may need.
const SERVER_BYTES: u64 = 256 << 20;
const CLIENT_BYTES: u64 = 128 << 20;
/// For each message that is stored, beside what an empty database has.
const BYTES_PER_MESSAGE: u64 = 8 << 10;
const EMPTY_BYTES: u64 = 16 << 20;

/// The most that processes and files needed.
#[derive(Clone, Copy, Debug, Default)]
struct Peaks {
    server: u64,
    client: u64,
}

/// Executes the plan of a long run.
pub(super) async fn run(
    plan: Plan,
    settings: &Settings,
    folder: &Path,
    cluster: Option<&SharedCluster>,
) -> anyhow::Result<Outcome> {
    let (planted, programs): (Option<Planted>, &Programs) = (settings.planted, &settings.programs);
    let mut testbed = Testbed::new(&plan, planted, programs, folder, cluster).await?;
    let record = testbed.record.clone();
    let keep = |what: &str| std::fs::write(folder.join("record.txt"), format!("{plan}\n{}\n{what}\n", record.text()));
    let (begun, mut peaks) = (Instant::now(), Peaks::default());
    let limit = settings.limit * PATIENCE;
    let played = play(&mut testbed, &plan, limit, &mut peaks).await;
    let lasted = begun.elapsed();
    let checked = match played {
        Ok(()) => check(&mut testbed, limit, &mut peaks).await,
        Err(error) => Err(error),
    };
    let (mut violations, messages) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            keep(&format!("the run did not end: {error:#}"))?;
            return Err(error);
        }
    };
    let (calls, acknowledged, events) = record.read(|events| {
        let acknowledged = events.calls.iter().filter(|call| call.acknowledged().is_some()).count();
        (events.calls.len(), acknowledged, events.raised.len())
    });
    violations.extend(too_few(calls, acknowledged));
    if !violations.is_empty() {
        keep(&format!("{violations:#?}"))?;
    }
    let tally = Tally {
        calls,
        acknowledged,
        failed: calls - acknowledged,
        messages,
        events,
        played: lasted,
        checked: begun.elapsed() - lasted,
        server_bytes: peaks.server,
        client_bytes: peaks.client,
        ..faults_of(&record)
    };
    Ok(Outcome { plan, violations, tally, record })
}

/// What is wrong if few calls are acknowledged.
fn too_few(calls: usize, acknowledged: usize) -> Option<Violation> {
    let what = format!("{acknowledged} of {calls} calls were acknowledged");
    (acknowledged * ACKNOWLEDGED_OF < calls).then_some(Violation { name: "few_acknowledged", what })
}

async fn play(testbed: &mut Testbed, plan: &Plan, limit: Duration, peaks: &mut Peaks) -> anyhow::Result<()> {
    let record = testbed.record.clone();
    wait_for_logins(&testbed.devices, &record, limit).await?;
    wait_for_first_sync(testbed, limit).await?;
    for (group, members) in groups() {
        let [owner, others @ ..] = members else { continue };
        let at = DEVICES.iter().position(|user| user == owner).unwrap_or(0);
        let create = json!({"do": "create_group", "group": group, "members": others});
        testbed.devices[at].query(create, &record).await?;
    }
    for step in &plan.steps {
        testbed.execute(step).await?;
        if matches!(step, Step::Wait { .. }) {
            peaks.look(testbed);
        }
    }
    testbed.recover().await?;
    for device in &mut testbed.devices {
        device.open(&testbed.programs.client, &testbed.app, &record)?;
    }
    Ok(())
}

/// Lets everybody catch up, and returns what is wrong then, and how many messages are stored.
async fn check(testbed: &mut Testbed, limit: Duration, peaks: &mut Peaks) -> anyhow::Result<(Vec<Violation>, usize)> {
    let record = testbed.record.clone();
    let mut found = Found::default();
    if !testbed.wait(usize::MAX, limit).await {
        record.read(|events| {
            let waiting = events.calls.iter().filter(|call| call.answer.is_none());
            waiting.for_each(|call| found.add("no_answer", format!("{call:?}")));
        });
    }
    let mut fresh = Vec::new();
    for (at, user) in USERS.into_iter().enumerate() {
        fresh.push(testbed.fresh_device(FRESH_DEVICES + at, user).await?);
    }
    wait_for_logins(testbed.devices.iter().chain(&fresh), &record, limit).await?;
    let (stored, truth) = settle(testbed, &mut fresh, limit, &mut found).await?;
    let messages = stored.messages.len();
    let is_heard =
        poll_until(limit, async || Ok(record.read(|events| unheard(&truth, &heard(&events.raised))).is_empty()));
    if !is_heard.await? {
        let missing = record.read(|events| unheard(&truth, &heard(&events.raised)));
        missing.iter().for_each(|(device, text)| found.add("never_raised", format!("device {device}: {text:?}")));
    }
    record.read(|events| check_raised(&events.raised, &mut found));
    check_sizes(testbed, &fresh, messages, limit, (peaks, &mut found)).await?;
    for device in testbed.devices.iter_mut().chain(&mut fresh) {
        device.close(&record).await?;
    }
    testbed.execute(&Step::Fault(Fault::StopServer)).await?;
    let servers = &testbed.servers;
    for line in servers.logs().lines().filter(|line| line.contains("panicked")) {
        found.add("server_crashed", line);
    }
    if servers.crashed > 0 || servers.leaked_tasks > 0 {
        let what = format!("{} ended by themselves, {} tasks were left", servers.crashed, servers.leaked_tasks);
        found.add("server_crashed", what);
    }
    Ok((found.into_violations(), messages))
}

/// Reads what the server has stored.
fn kept(store: &Store) -> anyhow::Result<Kept> {
    let room = ConversationType::Room as i32;
    let number = |text: &String| text.parse::<i64>();
    let mut kept = Kept::default();
    let heads = "SELECT CAST(id AS TEXT), CAST(floor_seq AS TEXT), CAST(seq AS TEXT) FROM conversation";
    for row in store.rows(&format!("{heads} WHERE type <> {room}"))? {
        kept.heads.push((number(&row[0])?, number(&row[1])?, number(&row[2])?));
    }
    let messages = format!(
        "SELECT CAST(m.conversation AS TEXT), CAST(m.seq AS TEXT), {} FROM message m \
         JOIN conversation c ON c.id = m.conversation WHERE c.type <> {room} ORDER BY m.conversation, m.seq",
        store.hex("m.body")
    );
    for row in store.rows(&messages)? {
        let message: Message = decoded(&row[2])?;
        let text = message.as_text().unwrap_or_default().to_owned();
        kept.messages.push((number(&row[0])?, number(&row[1])?, text));
    }
    Ok(kept)
}

/// Waits until every device shows what is stored, and counts it as unread. Returns what is stored, and adds what is wrong. A device
/// that was killed sends again what it had not sent, so more may be stored than calls are answered.
async fn settle(
    testbed: &mut Testbed,
    fresh: &mut [Device],
    limit: Duration,
    found: &mut Found,
) -> anyhow::Result<(Kept, Truth)> {
    let Testbed { devices, store, record, .. } = testbed;
    let (calls, faults) = record.read(|events| (events.calls.clone(), events.faults.clone()));
    let (mut stored, mut truth, mut wrong) = (Kept::default(), Truth::default(), Found::default());
    poll_until(limit, async || {
        wrong = Found::default();
        stored = kept(store)?;
        truth = check_stored(&stored, &calls, &faults, &mut wrong);
        for device in devices.iter_mut().chain(&mut *fresh) {
            let differs = differences(device, &truth, record).await?;
            if !differs.is_empty() {
                let number = device.number;
                differs.iter().for_each(|what| wrong.add("histories_differ", format!("device {number}: {what}")));
                return Ok(false);
            }
        }
        Ok(kept(store)?.messages.len() == stored.messages.len())
    })
    .await?;
    found.extend(wrong);
    Ok((stored, truth))
}

/// Returns in what a device differs from what is stored.
async fn differences(device: &mut Device, truth: &Truth, record: &Record) -> anyhow::Result<Vec<String>> {
    let (mut all, user) = (Vec::new(), device.user);
    let view = device.query(json!({"do": "view"}), record).await?;
    for peer in peers(user) {
        let Some(stored) = truth.get(&chat(user, peer)) else { continue };
        let shown = device.query(json!({"do": "history", "peer": peer}), record).await?;
        let one = |message: &Value| {
            let text = message["text"].as_str().filter(|text| !text.is_empty())?;
            Some((message["seq"].as_i64().unwrap_or(0), text.to_owned()))
        };
        let shown: Vec<(i64, String)> = shown.as_array().into_iter().flatten().filter_map(one).collect();
        all.extend(difference(&shown, stored).map(|what| format!("{peer}: {what}")));
        // Nobody reads anything.
        let is_of_others = |text: &str| super::checks::origin(text).is_some_and(|(of, ..)| DEVICES[of] != user);
        let unread = stored.iter().filter(|(_, text)| is_of_others(text)).count();
        let counted = &view["conversations"][peer]["unread"];
        if *counted != unread {
            all.push(format!("{peer}: {counted} unread; stored: {unread}"));
        }
    }
    Ok(all)
}

/// Checks that processes and files have not grown without bounds.
async fn check_sizes(
    testbed: &Testbed,
    fresh: &[Device],
    messages: usize,
    limit: Duration,
    (peaks, found): (&mut Peaks, &mut Found),
) -> anyhow::Result<()> {
    peaks.look(testbed);
    // What was not measured is not bounded.
    if cfg!(target_os = "linux") && (peaks.server == 0 || peaks.client == 0) {
        found.add("too_large", format!("nobody has measured the memory of all: {peaks:?}"));
    }
    let mut bounded = |what: &str, bytes: u64, most: u64| {
        testbed.record.note(format!("{what}: {bytes} bytes; at most {most} are allowed"));
        if bytes > most {
            found.add("too_large", format!("{what} has {bytes} bytes; at most {most} are allowed"));
        }
    };
    bounded("the memory of a server", peaks.server, SERVER_BYTES);
    bounded("the memory of a client", peaks.client, CLIENT_BYTES);
    let of_messages = BYTES_PER_MESSAGE * messages as u64 + EMPTY_BYTES;
    bounded("the database of the server", testbed.store.bytes()?, of_messages);
    // The server empties it when nothing is written for a moment.
    let is_short = poll_until(limit, async || Ok(testbed.store.log_bytes() <= LONG_LOG)).await?;
    if !is_short {
        bounded("the log of the database", testbed.store.log_bytes(), LONG_LOG);
    }
    for device in testbed.devices.iter().chain(fresh) {
        bounded(&format!("the data of device {}", device.number), folder_bytes(&device.folder)?, of_messages);
    }
    Ok(())
}

fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // SQLite may remove one of them meanwhile.
        let Ok(found) = entry.metadata() else { continue };
        bytes += if found.is_dir() { folder_bytes(&entry.path())? } else { found.len() };
    }
    Ok(bytes)
}

impl Peaks {
    fn look(&mut self, testbed: &Testbed) {
        let largest = |processes: &mut dyn Iterator<Item = u32>| processes.filter_map(memory).max().unwrap_or(0);
        self.server = self.server.max(largest(&mut testbed.servers.processes()));
        self.client = self.client.max(largest(&mut testbed.devices.iter().filter_map(Device::process)));
    }
}

/// Returns the bytes of a process in memory, where the system says it.
fn memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_memory_of_a_process_is_read() {
        let before = memory(std::process::id()).unwrap();
        let more = vec![1_u8; 64 << 20];
        let after = memory(std::process::id()).unwrap();
        assert!(after >= before + more.len() as u64 / 2, "{before} {after}");
        assert_eq!(memory(u32::MAX), None);
    }

    #[test]
    fn a_run_in_which_most_calls_fail_shows_nothing() {
        assert!(too_few(10, 5).is_none());
        assert_eq!(too_few(11, 5).unwrap().name, "few_acknowledged");
    }

    #[test]
    fn a_folder_is_as_large_as_its_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), [0; 10]).unwrap();
        std::fs::write(dir.path().join("c"), [0; 5]).unwrap();
        assert_eq!(folder_bytes(dir.path()).unwrap(), 15);
    }
}
