//! The end of a run, as far as rooms and calls are concerned. They are gone when devices are closed, so here the harness waits until
//! all devices agree, and notes what they and the server hold. Meanwhile nothing fails: what is said in a room must arrive, and
//! whoever is called must ring.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use zim_protocol::CallState;

use super::action::{Action, CallVerb, RoomVerb, Saying};
use super::call;
use super::checks::Violation;
use super::device::Device;
use super::live_plan::ROOMS;
use super::plan::{DEVICES, USERS};
use super::record::{Call, Moment};
use super::room;
use super::room_view::{RoomView, RoomViews};
use super::run::poll_until;
use super::store_live::{StoredCall, StoredRoom};
use super::testbed::Testbed;

/// The devices that meet in a room, one of each user.
const MEETING: [usize; 4] = [0, 2, 4, 5];
/// Who begins the last calls, who accepts one and who rejects it.
const CALLER: usize = 0;
const ACCEPTS: usize = 2;
const REJECTS: usize = 4;

/// A device at the end.
#[derive(Clone, Debug)]
pub(super) struct LiveDevice {
    /// Its number.
    pub(super) number: usize,
    /// Its user.
    pub(super) user: &'static str,
    /// The run of its app.
    pub(super) incarnation: u32,
    /// The ID of the installation, as the server stores it.
    pub(super) installation: String,
}

/// Rooms and calls at the end.
#[derive(Debug, Default)]
pub(super) struct LiveState {
    /// What happens to rooms later is that the devices are closed.
    pub(super) until: Moment,
    /// All devices, also fresh ones.
    pub(super) devices: Vec<LiveDevice>,
    /// The rooms that the server stores.
    pub(super) rooms: BTreeMap<String, StoredRoom>,
    /// What devices are told of rooms that they are in.
    pub(super) answers: BTreeMap<(usize, String), Value>,
    /// The calls that the server stores.
    pub(super) calls: BTreeMap<String, StoredCall>,
    /// The lists of calls that devices are told.
    pub(super) lists: BTreeMap<usize, Value>,
}

/// Waits until all devices agree about rooms and calls, and returns what they agree about; the checks report what still differs.
///
/// # Errors
/// The harness itself fails.
pub(super) async fn settle(
    testbed: &mut Testbed,
    fresh: &mut [Device],
    limit: Duration,
) -> anyhow::Result<(LiveState, Vec<Violation>)> {
    let record = testbed.record.clone();
    let mut state = LiveState::default();
    for device in testbed.devices.iter().chain(&*fresh) {
        let Device { number, user, incarnation, .. } = *device;
        state.devices.push(LiveDevice { number, user, incarnation, installation: device.installation()? });
    }
    if testbed.servers.are_nodes() {
        // Who came and left while hints were lost, a device learns only if it asks.
        for device in &mut testbed.devices {
            device.query(json!({"do": "look_again", "rooms": ROOMS}), &record).await?;
        }
    }
    poll_until(limit, async || Ok(room_differences(testbed, &state)?.is_empty())).await?;
    let mut lost = None;
    for _ in 0..2 {
        let begun = record.note("a device of each user enters a room");
        lost = meet(testbed, limit).await?;
        // The clock of a device that lacked a push was set forward. It may notice that only now, and begin a new connection.
        let is_undisturbed = record.read(|events| {
            !events.raised.iter().any(|one| one.at > begun && one.event["name"] == "connectionStateChanged")
        });
        if lost.is_none() || is_undisturbed {
            break;
        }
    }
    let mut wrong: Vec<Violation> = lost.into_iter().collect();
    wrong.extend(room_history(testbed).await?);
    wrong.extend(call_everybody(testbed, &state, limit).await?);
    poll_until(limit, async || {
        // Sets the clock forward to the next timeout.
        testbed.servers.set_forward("calls_due", &testbed.store).await?;
        Ok(testbed.store.calls()?.values().all(|call| call.state == CallState::Ended as i64))
    })
    .await?;
    poll_until(limit, async || {
        let calls = testbed.store.calls()?;
        let restored = testbed.restored;
        let differ = record.read(|events| {
            !call::differences((&events.raised, &events.calls), restored, &state.devices, &calls).is_empty()
        });
        Ok(!differ && room_differences(testbed, &state)?.is_empty())
    })
    .await?;
    (state.rooms, state.calls) = (testbed.store.rooms()?, testbed.store.calls()?);
    state.until = record.note("rooms and calls have settled");
    let views = record.read(|events| RoomViews::new(events.raised.iter()));
    for device in testbed.devices.iter_mut().chain(fresh) {
        for room in ROOMS {
            let is_in = |view: &RoomView| view.incarnation == device.incarnation && view.is_in();
            if views.of.get(&(device.number, room.to_owned())).is_some_and(is_in) {
                // A device that is in no room, contrary to what it shows, is refused.
                let answer = device.query(json!({"do": "room_as_answered", "room": room}), &record).await;
                let answer = answer.unwrap_or_else(|error| Value::String(format!("{error:#}")));
                state.answers.insert((device.number, room.to_owned()), answer);
            }
        }
        state.lists.insert(device.number, device.query(json!({"do": "call_list"}), &record).await?);
    }
    Ok((state, wrong))
}

fn room_differences(testbed: &Testbed, state: &LiveState) -> anyhow::Result<Vec<String>> {
    let rooms = testbed.store.rooms()?;
    let views = testbed.record.read(|events| RoomViews::new(events.raised.iter()));
    Ok(room::differences(&views, &state.devices, &rooms))
}

/// One device of each user enters the first room, and says something in it, which all others must hear.
async fn meet(testbed: &mut Testbed, limit: Duration) -> anyhow::Result<Option<Violation>> {
    let (record, room) = (testbed.record.clone(), ROOMS[0]);
    let all_act = async |testbed: &mut Testbed, verb: RoomVerb| {
        for device in MEETING {
            let action = Action::Room { room, user: testbed.devices[device].user, verb };
            testbed.devices[device].perform(&action, &record);
        }
        anyhow::ensure!(testbed.wait(usize::MAX, limit).await, "no answer");
        Ok(record.read(|events| events.calls[events.calls.len() - MEETING.len()..].to_vec()))
    };
    let mut said = Vec::new();
    let mut refused = Vec::new();
    let set = RoomVerb::Set { key: 0, is_forced: true, takes: false };
    for verb in [
        RoomVerb::Enter,
        set,
        RoomVerb::Say(Saying::Text),
        RoomVerb::Say(Saying::High),
        RoomVerb::Say(Saying::Command),
        RoomVerb::Say(Saying::Barrage),
    ] {
        for call in all_act(testbed, verb).await? {
            match call.acknowledged() {
                Some(_) if matches!(verb, RoomVerb::Say(_)) => said.push((call.device, call.text)),
                Some(_) => {}
                None => refused.push(format!("{call:?}")),
            }
        }
    }
    let lost = || record.read(|events| room::unheard(&MEETING, &events.raised, room, &said));
    poll_until(limit, async || Ok(lost().is_empty())).await?;
    let what = [refused, lost()].concat();
    Ok((!what.is_empty()).then(|| Violation { name: "room_message_lost", what: what.join("; ") }))
}

/// A room that keeps what is said tells each device the same of it, and all that they have heard last. Of what was said before, some may
/// be no longer kept, or have had no place when it was heard.
async fn room_history(testbed: &mut Testbed) -> anyhow::Result<Option<Violation>> {
    if !testbed.servers.keep_rooms() {
        return Ok(None);
    }
    let (record, room) = (testbed.record.clone(), ROOMS[0]);
    let is_said = |call: &&Call| {
        let says = |verb: RoomVerb| matches!(verb, RoomVerb::Say(saying) if saying.is_kept());
        matches!(call.action, Action::Room { room: of, verb, .. } if of == room && says(verb))
    };
    // In the last meeting, each device has said two texts.
    let last: Vec<String> = record.read(|events| {
        let last = events.calls.iter().rev().filter(is_said).take(2 * MEETING.len());
        last.filter(|call| call.acknowledged().is_some()).map(|call| call.text.clone()).collect()
    });
    let mut kept = Vec::new();
    for device in MEETING {
        // Who cannot enter is reported already.
        let found = testbed.devices[device].query(json!({"do": "history", "peer": room}), &record).await;
        let Ok(found) = found else { return Ok(None) };
        let texts = found.as_array().into_iter().flatten().filter_map(|one| one["text"].as_str());
        let texts: Vec<String> = texts.filter(|text| last.iter().any(|said| said == text)).map(str::to_owned).collect();
        kept.push(texts);
    }
    let heard = record.read(|events| {
        let of = events.raised.iter().filter(|one| one.device == MEETING[1]).filter_map(room::heard);
        let texts = of.filter(|(of, _)| *of == room).flat_map(|(_, texts)| texts);
        texts.filter(|text| last.iter().any(|said| said == text)).map(str::to_owned).collect::<Vec<_>>()
    });
    let is_same = kept.iter().all(|texts| *texts == kept[0]) && kept[0].len() == last.len();
    // A device does not hear itself.
    let is_right = is_same && kept[0].iter().filter(|text| heard.contains(*text)).eq(&heard);
    let what = format!("said {last:?}; kept {kept:?}; heard {heard:?}");
    Ok((!is_right).then_some(Violation { name: "room_history_lost", what }))
}

/// One user calls all others twice. One call is accepted, rejected and ended; nobody answers the other.
async fn call_everybody(
    testbed: &mut Testbed,
    state: &LiveState,
    limit: Duration,
) -> anyhow::Result<Option<Violation>> {
    let record = testbed.record.clone();
    let users: Vec<&str> = USERS.into_iter().filter(|user| *user != DEVICES[CALLER]).collect();
    let act = |verb: CallVerb| Action::Call { users: users.clone(), verb, pick: 0 };
    for is_advanced in [false, true] {
        let invite = act(CallVerb::Invite { is_advanced, timeout_s: 60, is_checked: true });
        testbed.devices[CALLER].perform(&invite, &record);
    }
    anyhow::ensure!(testbed.wait(usize::MAX, limit).await, "no answer");
    let calls = record.read(|events| events.calls[events.calls.len() - 2..].to_vec());
    let id = |at: usize| calls[at].acknowledged().and_then(|(_, answer)| answer["callID"].as_str());
    let [Some(unanswered), Some(answered)] = [id(0), id(1)] else {
        return Ok(Some(Violation { name: "call_not_heard", what: format!("{calls:?}") }));
    };
    let called = || state.devices.iter().filter(|device| users.contains(&device.user));
    let silent = || {
        let rings = |device: usize, id: &str| {
            record.read(|events| {
                let mut of = events.raised.iter().rev().filter(|one| one.device == device);
                of.any(|one| one.event["name"] == "callInvitationReceived" && one.event["callID"] == id)
            })
        };
        let all = called().map(|device| device.number);
        all.filter(|device| !rings(*device, unanswered) || !rings(*device, answered)).collect::<Vec<_>>()
    };
    poll_until(limit, async || Ok(silent().is_empty())).await?;
    for (device, verb) in [(ACCEPTS, CallVerb::Accept), (REJECTS, CallVerb::Reject), (CALLER, CallVerb::End)] {
        testbed.devices[device].perform_about(&act(verb), answered, &record);
        anyhow::ensure!(testbed.wait(usize::MAX, limit).await, "no answer");
    }
    let refused = record.read(|events| {
        let last = events.calls[events.calls.len() - 3..].iter();
        last.filter(|call| call.acknowledged().is_none()).map(|call| format!("{call:?}")).collect::<Vec<_>>()
    });
    let silent = silent();
    let is_wrong = !silent.is_empty() || !refused.is_empty();
    let what = format!("devices {silent:?} do not ring for {unanswered} and {answered}; refused: {refused:?}");
    Ok(is_wrong.then_some(Violation { name: "call_not_heard", what }))
}
