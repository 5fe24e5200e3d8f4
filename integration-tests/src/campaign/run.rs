//! The execution of a run, from its plan to the violations found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use zim_protocol::clock::Clock;
use zim_protocol::{ConversationType, ErrorCode, LoginRequest, Message, SendMessageRequest};

use super::action::{Action, SocialAction};
use super::checks::{self, DeviceState, EndState, Violation};
use super::club;
use super::device::Device;
use super::frame_proxy::Planted;
use super::here::{self, Gone};
use super::kind::Kind;
use super::lease;
use super::lists::{self, DeviceLists};
use super::local::{self, LocalRows};
use super::long;
use super::node_plan::NodeFault;
use super::plan::{CLUB, Fault, Plan, TEAM, USERS};
use super::raised;
use super::record::Record;
use super::rows::{self, Spared};
use super::settle;
use super::social;
use super::store::{SharedCluster, StoredConversation};
use super::store_club::{self, ClubRows};
use super::testbed::{FRAME_PROXY_DEVICE, Programs, Testbed};
use crate::raw::{RawClient, hello};

/// The user of the raw client, which reuses a client key.
pub(super) const RAW_USER: &str = "mallory";
/// How often a condition is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The interval of a device's audits, in which it compares sums with the server, milliseconds.
const AUDIT_MS: i64 = 600_000;
/// The longest time that pushes, pulls and a sync take that failed once: it is repeated after ten seconds.
const BEFORE_AN_AUDIT: Duration = Duration::from_secs(25);
/// The number of the first fresh device.
pub(super) const FRESH_DEVICES: usize = 100;

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The programs.
    pub programs: Programs,
    /// A fault that the frame proxy simulates.
    pub planted: Option<Planted>,
    /// The longest wait for anything at the end.
    pub limit: Duration,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The plan.
    pub plan: Plan,
    /// The violations found.
    pub violations: Vec<Violation>,
    /// What happened, as numbers.
    pub tally: Tally,
    /// The record of everything that happened.
    pub record: Record,
}

/// Counts of a run, which a report sums up.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Tally {
    pub calls: usize,
    pub acknowledged: usize,
    pub failed: usize,
    pub messages: usize,
    pub events: usize,
    pub tasks: usize,
    pub rows: usize,
    pub server_kills: usize,
    pub lost_leases: usize,
    pub client_kills: usize,
    pub cuts: usize,
    /// Of a long run: how long it and its checks took, and the most memory of a server and of a client.
    pub played: Duration,
    pub checked: Duration,
    pub server_bytes: u64,
    pub client_bytes: u64,
}

/// Executes a plan.
///
/// # Errors
/// The harness itself fails.
pub async fn run(
    plan: Plan,
    settings: &Settings,
    folder: &Path,
    cluster: Option<&SharedCluster>,
) -> anyhow::Result<Outcome> {
    if plan.is_long {
        return Box::pin(long::run(plan, settings, folder, cluster)).await;
    }
    let mut testbed = Testbed::new(&plan, settings.planted, &settings.programs, folder, cluster).await?;
    let record = testbed.record.clone();
    let played = execute(&mut testbed, &plan, settings).await;
    let end = match played {
        Ok(end) => end,
        Err(error) => {
            record.note(format!("the run did not end: {error:#}"));
            std::fs::write(folder.join("record.txt"), format!("{plan}\n{}", record.text()))?;
            // What a node does after its lease may be the reason.
            let written = if plan.nodes > 1 { lease::late(&testbed.store).unwrap_or_default() } else { Vec::new() };
            let late = [written, std::mem::take(&mut testbed.servers.undead)].concat();
            if late.is_empty() {
                return Err(error);
            }
            let violations = late.into_iter().map(|what| Violation { name: lease::LATE, what }).collect();
            return Ok(Outcome { plan, violations, tally: Tally::default(), record });
        }
    };
    let (end, mut violations) = end;
    violations.extend(checks::check(&end));
    let tally = tally(&end, &record);
    if !violations.is_empty() {
        std::fs::write(folder.join("record.txt"), format!("{}\n{}\n{violations:#?}\n", end.plan, record.text()))?;
    }
    Ok(Outcome { plan: end.plan, violations, tally, record })
}

fn tally(end: &EndState, record: &Record) -> Tally {
    Tally {
        calls: end.calls.len(),
        acknowledged: end.calls.iter().filter(|call| call.acknowledged().is_some()).count(),
        failed: end.calls.iter().filter(|call| call.acknowledged().is_none()).count(),
        messages: end.kept.iter().map(|kept| kept.messages.len()).sum(),
        events: end.raised.len(),
        tasks: end.tasks.len(),
        rows: end.devices.iter().map(|seen| seen.rows.len()).sum(),
        lost_leases: end.lost_leases,
        ..faults_of(record)
    }
}

/// Counts the faults of a run.
pub(super) fn faults_of(record: &Record) -> Tally {
    let faults = |is: fn(&Fault) -> bool| record.read(|events| events.faults.iter().filter(|(_, one)| is(one)).count());
    Tally {
        server_kills: faults(|one| {
            matches!(
                one,
                Fault::KillServer | Fault::KillPostgres | Fault::Node(NodeFault::Kill(_) | NodeFault::KillBus)
            )
        }),
        client_kills: faults(|one| matches!(one, Fault::KillDevice(_))),
        cuts: faults(|one| matches!(one, Fault::Cut(_))),
        ..Tally::default()
    }
}

async fn execute(
    testbed: &mut Testbed,
    plan: &Plan,
    settings: &Settings,
) -> anyhow::Result<(EndState, Vec<Violation>)> {
    let mut wrong = Vec::new();
    let begun_ms = Clock::system().now_ms();
    wait_for_logins(&testbed.devices, &testbed.record, settings.limit).await?;
    wait_for_first_sync(testbed, settings.limit).await?;
    for group in [TEAM, CLUB] {
        let create = json!({"do": "create_group", "group": group, "members": &USERS[1..3]});
        testbed.devices[0].query(create, &testbed.record.clone()).await?;
    }
    for step in &plan.steps {
        testbed.execute(step).await?;
    }
    testbed.recover().await?;
    let record = testbed.record.clone();
    for device in &mut testbed.devices {
        device.open(&testbed.programs.client, &testbed.app, &record)?;
    }
    if !testbed.wait(usize::MAX, settings.limit).await {
        let calls = record.read(|events| events.calls.clone());
        let waiting = calls.into_iter().filter(|call| call.answer.is_none());
        wrong.extend(waiting.map(|call| Violation { name: "no_answer", what: format!("{call:?}") }));
    }
    wrong.extend(reuse_a_key(testbed).await?);
    let mut fresh = Vec::new();
    for (at, user) in USERS.into_iter().enumerate() {
        fresh.push(testbed.fresh_device(FRESH_DEVICES + at, user).await?);
    }
    let everybody = testbed.devices.iter().chain(&fresh);
    wait_for_logins(everybody, &record, settings.limit).await?;
    wrong.extend(converge(testbed, &mut fresh, settings.limit).await?);
    if plan.has(Kind::LastPush) {
        wrong.extend(lose_the_last_push(testbed, settings.limit).await?);
        wrong.extend(converge(testbed, &mut fresh, settings.limit).await?);
    }
    wait_for_events(testbed, settings.limit).await?;
    testbed.servers.free_clocks(&testbed.store).await?;
    wait_for_tasks(testbed, settings.limit).await?;
    let (live, found) = settle::settle(testbed, &mut fresh, settings.limit).await?;
    wrong.extend(found);
    if wrong.is_empty() {
        wait_until_equal(testbed, &mut fresh, settings.limit).await?;
    }
    let mut seen = Vec::new();
    let mut devices = std::mem::take(&mut testbed.devices);
    for device in devices.iter_mut().chain(&mut fresh) {
        let (view, histories) = observe(device, &record).await?;
        let (number, user, rows, known) = (device.number, device.user, BTreeSet::new(), DeviceLists::default());
        let (local, club) = (LocalRows::default(), ClubRows::default());
        seen.push(DeviceState { number, user, view, histories, rows, known, local, club });
        device.close(&record).await?;
    }
    testbed.execute(&super::plan::Step::Fault(Fault::StopServer)).await?;
    let kept = testbed.store.conversations()?;
    for (seen, device) in seen.iter_mut().zip(devices.iter().chain(&fresh)) {
        seen.rows = rows::read(&device.folder, &spared(&kept, seen.user, gone_of_user(testbed, &kept, seen.user)))?;
        seen.known = lists::held(&device.folder)?;
        seen.local = local::held(&device.folder)?;
        seen.club = store_club::held(&device.folder)?;
    }
    let (lists, profiles) = lists::kept(&testbed.store)?;
    let (subscriptions, custom_statuses) = lists::presence(&testbed.store)?;
    let tasks = testbed.store.tasks()?;
    let fresh = seen.split_off(devices.len());
    let (calls, raised, faults) =
        record.read(|events| (events.calls.clone(), events.raised.clone(), events.faults.clone()));
    let late = if plan.nodes > 1 { lease::late(&testbed.store)? } else { Vec::new() };
    let late = [late, std::mem::take(&mut testbed.servers.undead)].concat();
    let (restored, servers, lasted_ms) = (testbed.restored, &testbed.servers, (begun_ms, Clock::system().now_ms()));
    let (log, crashed, leaked_tasks) = (servers.logs(), servers.crashed, servers.leaked_tasks);
    let lost_leases = servers.lost_leases;
    let (plan, devices) = (plan.clone(), seen);
    Ok((
        EndState {
            plan,
            calls,
            raised,
            faults,
            restored,
            kept,
            lists,
            profiles,
            subscriptions,
            custom_statuses,
            tasks,
            live,
            devices,
            fresh,
            log,
            crashed,
            leaked_tasks,
            late,
            lost_leases,
            lasted_ms,
        },
        wrong,
    ))
}

/// Waits until all tasks have taken effect; the checks report which have not. A clock that was set back has put them off, so it
/// is set forward.
async fn wait_for_tasks(testbed: &mut Testbed, limit: Duration) -> anyhow::Result<()> {
    poll_until(limit, async || {
        testbed.servers.set_forward("tasks_due", &testbed.store).await?;
        Ok(testbed.store.tasks()?.values().all(|task| !task.effects.is_empty()))
    })
    .await?;
    Ok(())
}

/// Waits until every device has caught up for the first time: messages from before then raise no events.
pub(super) async fn wait_for_first_sync(testbed: &Testbed, limit: Duration) -> anyhow::Result<()> {
    let is_equal = |device: &Device| {
        testbed.record.read(|events| {
            let mut of = events.raised.iter().filter(|one| one.device == device.number);
            of.any(|one| one.event["name"] == "conversationSyncStateChanged" && one.event["state"] == 1)
        })
    };
    let all = poll_until(limit, async || Ok(testbed.devices.iter().all(is_equal))).await?;
    anyhow::ensure!(all, "a device does not catch up");
    Ok(())
}

/// Waits until every device holds what a fresh device holds and what the server stores; the checks report what still
/// differs. If the server does not know whether a broken commit took effect, it pushes nothing, and a device finds the
/// change with its next audit. Therefore the ten minutes to the audit pass here if they must.
async fn wait_until_equal(testbed: &mut Testbed, fresh: &mut [Device], limit: Duration) -> anyhow::Result<()> {
    if poll_until(limit.min(BEFORE_AN_AUDIT), async || Ok(unequal(testbed, fresh)?.is_none())).await? {
        return Ok(());
    }
    let record = testbed.record.clone();
    for device in testbed.devices.iter_mut().chain(fresh.iter_mut()) {
        device.query(json!({"do": "advance", "ms": AUDIT_MS}), &record).await?;
    }
    poll_until(limit, async || Ok(unequal(testbed, fresh)?.is_none())).await?;
    if let Some(what) = unequal(testbed, fresh)? {
        record.note(what);
    }
    Ok(())
}

/// Returns a device that does not hold what it must, and what that is.
fn unequal(testbed: &Testbed, fresh: &[Device]) -> anyhow::Result<Option<String>> {
    let kept = testbed.store.conversations()?;
    let (lists, profiles) = lists::kept(&testbed.store)?;
    let (subscriptions, _) = lists::presence(&testbed.store)?;
    for device in &testbed.devices {
        let Some(other) = fresh.iter().find(|fresh| fresh.user == device.user) else { continue };
        let spared = spared(&kept, device.user, gone_of_user(testbed, &kept, device.user));
        let club = club::differences(device.user, &store_club::held(&device.folder)?, &kept);
        let (held, own) = (lists::held(&device.folder)?, lists.get(device.user).cloned().unwrap_or_default());
        let known = social::known_users(&own, &kept, device.user);
        let unequal = [
            ("events", !rows::is_delivered(&device.folder)?),
            ("rows", rows::read(&device.folder, &spared)? != rows::read(&other.folder, &spared)?),
            ("the second group", !club.is_empty()),
            ("lists", held.lists != own),
            ("subscriptions", held.subscriptions != subscriptions.get(device.user).cloned().unwrap_or_default()),
            ("profiles", !known.iter().all(|user| held.profiles.get(user) == profiles.get(user))),
        ];
        if let Some((what, _)) = unequal.iter().find(|(_, is_unequal)| *is_unequal) {
            return Ok(Some(format!("device {} differs: {what}", device.number)));
        }
    }
    Ok(None)
}

/// What any device of a user may have deleted by itself.
fn gone_of_user(testbed: &Testbed, kept: &[StoredConversation], user: &str) -> Gone {
    let is_restored = testbed.restored.is_some();
    testbed.record.read(|events| here::gone_of_user(&events.calls, is_restored, kept, user))
}

/// In what a user's devices may differ, by conversation. They may hold different messages of those that are no longer kept, of a group
/// that the user has left, because what changed after a stay is served without content, and of what one of them alone has deleted. They
/// may count different messages: what was revoked after a stay, and again what one of them has deleted.
fn spared(kept: &[StoredConversation], user: &str, mut gone: Gone) -> BTreeMap<String, Spared> {
    let mut all = BTreeMap::new();
    for one in kept {
        let Some(name) = one.called_by(user) else { continue };
        let (floor, counts) = match one.has_stayed(user) {
            true => (one.floor, false),
            false => (i64::MAX, one.may_have_revoked()),
        };
        all.insert(name.to_owned(), Spared { floor, counts, gone: gone.remove(name) });
    }
    all
}

/// Polls until `check` returns true; false on a timeout.
pub(super) async fn poll_until(
    limit: Duration,
    mut check: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let begun = Instant::now();
        if check().await? {
            return Ok(true);
        }
        if Instant::now() > end {
            return Ok(false);
        }
        // A check that reads the whole database leaves the processors to the server for most of the time.
        sleep(POLL_INTERVAL.max(begun.elapsed() * 3)).await;
    }
}

pub(super) async fn wait_for_logins(
    devices: impl IntoIterator<Item = &Device>,
    record: &Record,
    limit: Duration,
) -> anyhow::Result<()> {
    let devices: Vec<&Device> = devices.into_iter().collect();
    let is_in = |device: &&Device| record.is_logged_in(device.number, device.incarnation);
    let all = poll_until(limit, async || Ok(devices.iter().all(&is_in))).await?;
    let out: Vec<usize> = devices.iter().filter(|device| !is_in(device)).map(|device| device.number).collect();
    anyhow::ensure!(all, "devices {out:?} cannot log in");
    Ok(())
}

/// Returns what is to be equal of what the devices of a user show. Of a group that the user has left, those that were there count what
/// was revoked after the stay; and who has deleted it may see it again where it was written. What a device alone has deleted does not
/// count there.
fn compared(view: &Value, kept: &[StoredConversation], user: &str, gone: &Gone) -> Value {
    let mut view = view.clone();
    for one in kept {
        let Some(name) = one.called_by(user) else { continue };
        let has_left = !one.has_stayed(user);
        let is_deleted = has_left && one.deleted_below.contains_key(user);
        let counts = (has_left && one.may_have_revoked()) || gone.contains_key(name);
        if !is_deleted && !counts {
            continue;
        }
        let Some(shown) = view["conversations"].as_object_mut() else { return view };
        let unread = shown.get_mut(name).map_or(Value::Null, |one| one["unread"].take()).as_i64().unwrap_or(0);
        if is_deleted {
            shown.remove(name);
        }
        if !one.quiet.contains(user) {
            view["total"] = json!(view["total"].as_i64().unwrap_or(0) - unread);
        }
    }
    view
}

/// Waits until every device shows what a fresh device of its user shows.
async fn converge(testbed: &mut Testbed, fresh: &mut [Device], limit: Duration) -> anyhow::Result<Vec<Violation>> {
    let record = testbed.record.clone();
    let mut behind = Vec::new();
    let kept = testbed.store.conversations()?;
    let gone = USERS.into_iter().map(|user| (user, gone_of_user(testbed, &kept, user)));
    let gone: BTreeMap<&str, Gone> = gone.collect();
    let devices = &mut testbed.devices;
    poll_until(limit, async || {
        behind.clear();
        let mut truth = BTreeMap::new();
        for device in &mut *fresh {
            truth.insert(device.user, device.query(json!({"do": "view"}), &record).await?);
        }
        for device in &mut *devices {
            let (user, gone) = (device.user, &gone[device.user]);
            let view = compared(&device.query(json!({"do": "view"}), &record).await?, &kept, user, gone);
            let truth = &compared(&truth[user], &kept, user, gone);
            // What could not be sent shows a deleted conversation again, with what is unread there.
            let has_more = |shown: &Value| {
                let mut all = shown["conversations"].as_object().into_iter().flatten();
                all.any(|(peer, _)| truth["conversations"][peer].is_null())
            };
            let is_same = (truth["total"] == view["total"] || has_more(&view))
                && truth["conversations"].as_object().is_some_and(|all| {
                    all.iter().all(|(peer, conversation)| view["conversations"][peer] == *conversation)
                });
            if !is_same {
                let what = format!("device {} shows {view}; fresh: {truth}", device.number);
                behind.push(Violation { name: "device_behind", what });
            }
        }
        Ok(behind.is_empty())
    })
    .await?;
    Ok(behind)
}

/// Waits until every device has raised what it must; the checks report what is missing.
async fn wait_for_events(testbed: &Testbed, limit: Duration) -> anyhow::Result<()> {
    let kept = testbed.store.conversations()?;
    if testbed.restored.is_some() {
        return Ok(());
    }
    poll_until(limit, async || {
        let raised = testbed.record.read(|events| events.raised.clone());
        Ok(testbed.devices.iter().all(|device| {
            let raised_here = raised::raised_by(&raised, device.number);
            let gone = testbed.record.read(|events| here::gone(&events.calls, false, &kept, device.number));
            let here = (device.number, &gone);
            let mut all = kept.iter().filter_map(|kept| raised::expected(kept, device.user, here));
            all.all(|(peer, seqs)| seqs.into_iter().all(|seq| raised_here.contains(&(peer.to_owned(), seq))))
        }))
    })
    .await?;
    Ok(())
}

type View = (Value, BTreeMap<String, Vec<(i64, String, String)>>);

/// Queries what a device shows: its conversations, and its histories by peer.
async fn observe(device: &mut Device, record: &Record) -> anyhow::Result<View> {
    let mut histories = BTreeMap::new();
    let user = device.user;
    for peer in USERS.into_iter().chain([RAW_USER, TEAM, CLUB]).filter(|peer| *peer != user) {
        let all = device.query(json!({"do": "history", "peer": peer}), record).await?;
        let one = |message: &Value| {
            let word = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
            (message["seq"].as_i64().unwrap_or(0), word("text"), word("from"))
        };
        histories.insert(peer.to_owned(), all.as_array().into_iter().flatten().map(one).collect());
    }
    Ok((device.query(json!({"do": "view"}), record).await?, histories))
}

/// Drops exactly the last push of a conversation, which nothing follows. The device finds the message with its next
/// audit.
async fn lose_the_last_push(testbed: &mut Testbed, limit: Duration) -> anyhow::Result<Option<Violation>> {
    let record = testbed.record.clone();
    let peer = testbed.devices[FRAME_PROXY_DEVICE].user;
    // A blocked sender's message causes no push.
    let unblock = Action::Social { peer: testbed.devices[0].user, action: SocialAction::Unblock };
    testbed.devices[FRAME_PROXY_DEVICE].perform(&unblock, &record);
    anyhow::ensure!(testbed.wait(usize::MAX, limit).await, "no answer");
    let frame_proxy = testbed.frame_proxy.as_ref().context("no frame proxy")?;
    let before = frame_proxy.dropped();
    frame_proxy.set_drops_pushes(true);
    testbed.devices[0].perform(&Action::Send { peer, is_poison: false }, &record);
    let is_lost = poll_until(limit, async || Ok(frame_proxy.dropped() > before)).await?;
    frame_proxy.set_drops_pushes(false);
    anyhow::ensure!(is_lost, "there was no push to drop");
    anyhow::ensure!(testbed.wait(usize::MAX, limit).await, "no answer");
    let text = record.read(|events| events.calls.last().map(|call| call.text.clone())).unwrap_or_default();
    let is_received = || {
        record.read(|events| {
            let mut of = events.raised.iter().filter(|one| one.device == FRAME_PROXY_DEVICE);
            of.any(|one| one.event.to_string().contains(&text))
        })
    };
    anyhow::ensure!(!is_received(), "the push was not dropped");
    testbed.devices[FRAME_PROXY_DEVICE].query(json!({"do": "advance", "ms": AUDIT_MS}), &record).await?;
    let is_repaired = poll_until(limit, async || Ok(is_received())).await?;
    Ok((!is_repaired).then(|| Violation { name: "hint_not_repaired", what: format!("{text:?} never arrived") }))
}

/// Logs in a client that sends what it likes.
async fn raw_client(testbed: &Testbed, to: SocketAddr) -> anyhow::Result<RawClient> {
    let mut raw = RawClient::connect(to, testbed.servers.certificate()?).await;
    raw.handshake(hello(9)).await;
    let (app_id, app_sign) = (testbed.app.app_id, testbed.app.app_sign.clone());
    let login = LoginRequest { user_id: RAW_USER.to_owned(), app_id, app_sign, ..LoginRequest::default() };
    raw.call(&login).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(raw)
}

/// Sends from a raw client the same key with the same text again, and with another text.
async fn reuse_a_key(testbed: &mut Testbed) -> anyhow::Result<Option<Violation>> {
    // On two nodes, one of them has stored it, and the other answers.
    let [first_server, other_server] = [0, 1].map(|device| testbed.servers.address(device));
    let frame_proxy = testbed.frame_proxy.as_ref().map(super::frame_proxy::FrameProxy::address);
    let mut raw = raw_client(testbed, frame_proxy.unwrap_or(first_server)).await?;
    let send = |text: &str| SendMessageRequest {
        message: Some(Message::text(text)),
        to_conversation_id: USERS[0].to_owned(),
        conversation_type: ConversationType::Peer as i32,
        client_key: vec![7; 16].into(),
        ..SendMessageRequest::default()
    };
    let first = raw.call(&send("the first text")).await;
    if first_server != other_server {
        raw.end().await;
        raw = raw_client(testbed, other_server).await?;
    }
    let [again, other] = [raw.call(&send("the first text")).await, raw.call(&send("other text")).await];
    raw.end().await;
    let seq = |answer: &Result<zim_protocol::MessageSentResult, _>| {
        let message = answer.as_ref().ok().and_then(|result| result.message.as_ref());
        message.map(|message| message.message_seq)
    };
    let is_refused = other.as_ref().is_err_and(|error| error.code == ErrorCode::CommonModuleParamsInvalid as i32);
    let is_right = seq(&first).is_some() && seq(&first) == seq(&again) && is_refused;
    let what = format!("first {first:?}; again {again:?}; other text {other:?}");
    Ok((!is_right).then_some(Violation { name: "reused_key_answered", what }))
}
