//! The invariants of rooms. As for social actions, the calls alone determine which attributes are possible in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::action::{Action, BATCH_KEYS, Batching, GOES_WITH_OWNER, ROOM_KEYS, RoomVerb};
use super::checks::{EndState, origin, user_of};
use super::live_plan::other_room;
use super::plan::USERS;
use super::record::{Call, Moment, RaisedEvent};
use super::room_view::{RoomView, RoomViews, is_torn};
use super::settle::LiveDevice;
use super::social::{Write, may_remain, write};
use super::store_live::StoredRoom;

/// The messages of an event of a room: the room and the texts.
pub(super) fn heard(raised: &RaisedEvent) -> Option<(&str, impl Iterator<Item = &str>)> {
    let event = Some(&raised.event).filter(|event| event["name"] == "roomMessageReceived")?;
    let texts = event["messageList"].as_array().into_iter().flatten();
    Some((event["fromConversationID"].as_str()?, texts.filter_map(|message| message["extendedData"].as_str())))
}

/// Returns the view of a device of a room, of the present run of its app.
fn view_of<'v>(views: &'v RoomViews, device: &LiveDevice, room: &str) -> Option<&'v RoomView> {
    views.of.get(&(device.number, room.to_owned())).filter(|view| view.incarnation == device.incarnation)
}

/// Returns how what devices show of rooms differs from what the server stores.
pub(super) fn differences(
    views: &RoomViews,
    devices: &[LiveDevice],
    rooms: &BTreeMap<String, StoredRoom>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let none = StoredRoom::default();
    let known = views.of.keys().map(|(_, room)| room);
    for name in rooms.keys().chain(known).collect::<BTreeSet<_>>() {
        let stored = rooms.get(name).unwrap_or(&none);
        let of_devices = |user: &String, installation: &String| {
            devices.iter().any(|device| device.user == user && device.installation == *installation)
        };
        if stored.count != stored.members.len() || !stored.members.iter().all(|(user, of)| of_devices(user, of)) {
            wrong.push(format!("{name}: {stored:?}"));
        }
        for device in devices {
            let view = view_of(views, device, name);
            let is_member = stored.members.get(device.user) == Some(&device.installation);
            let is_in = view.is_some_and(RoomView::is_in);
            if is_in != is_member || view.is_some_and(|view| !view.is_settled()) {
                wrong.push(format!("device {} shows {view:?} of {name}; stored: {stored:?}", device.number));
            } else if is_in && let Some(view) = view {
                let how = view.differences(stored);
                wrong.extend(how.iter().map(|how| format!("device {} shows of {name} {how}", device.number)));
            }
        }
    }
    wrong
}

fn views(end: &EndState) -> RoomViews {
    RoomViews::new(end.raised.iter().filter(|one| one.at < end.live.until))
}

pub(super) fn room_views_differ(end: &EndState) -> Vec<String> {
    differences(&views(end), &end.live.devices, &end.live.rooms)
}

/// What a device asks, the server answers with what it stores.
pub(super) fn room_answer_wrong(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((device, room), answer) in &end.live.answers {
        let stored = end.live.rooms.get(room).cloned().unwrap_or_default();
        let listed = answer["members"].as_array().into_iter().flatten();
        let listed: Vec<&str> = listed.filter_map(Value::as_str).collect();
        let members: BTreeSet<&str> = stored.members.keys().map(String::as_str).collect();
        let is_same = listed.len() == members.len() && listed.iter().all(|user| members.contains(user));
        if !is_same || answer["attributes"] != json!(stored.attributes) {
            wrong.push(format!("device {device} is told of {room}: {answer}; stored: {stored:?}"));
        }
    }
    wrong
}

pub(super) fn room_outside(end: &EndState) -> Vec<String> {
    views(end).outside
}

/// A batch happens at once: no device sees a part of one, and no part is stored.
pub(super) fn batch_torn(end: &EndState) -> Vec<String> {
    let stored = end.live.rooms.iter().filter(|(_, stored)| is_torn(&stored.attributes));
    let stored = stored.map(|(room, stored)| format!("stored of {room}: {:?}", stored.attributes));
    views(end).torn.into_iter().chain(stored).collect()
}

/// What each device heard in each room, in its order: the texts by device and room.
type Heard<'e> = BTreeMap<&'e str, BTreeMap<usize, Vec<&'e str>>>;

fn all_heard(end: &EndState) -> Heard<'_> {
    let mut all = Heard::new();
    for one in &end.raised {
        if let Some((room, texts)) = heard(one) {
            all.entry(room).or_default().entry(one.device).or_default().extend(texts);
        }
    }
    all
}

pub(super) fn room_twice(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, by_device) in all_heard(end) {
        for (device, texts) in by_device {
            let mut seen = BTreeSet::new();
            let twice = texts.into_iter().filter(|text| !seen.insert(*text));
            wrong.extend(twice.map(|text| format!("device {device} in {room}: {text:?}")));
        }
    }
    wrong
}

/// In a room that keeps what is said, what is kept and what is not are compared apart: they come to their places in different ways.
pub(super) fn room_order_differs(end: &EndState) -> Vec<String> {
    let all = all_heard(end);
    if !end.plan.keeps_rooms() {
        return order_differs(all);
    }
    let says =
        |call: &Call| matches!(call.action, Action::Room { verb: RoomVerb::Say(saying), .. } if saying.is_kept());
    let kept: BTreeSet<&str> = end.calls.iter().filter(|call| says(call)).map(|call| call.text.as_str()).collect();
    let part = |is_kept: bool| {
        let mut part = all.clone();
        let texts = part.values_mut().flat_map(BTreeMap::values_mut);
        texts.for_each(|texts| texts.retain(|text| kept.contains(text) == is_kept));
        part
    };
    [order_differs(part(true)), order_differs(part(false))].concat()
}

fn order_differs(all: Heard<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, by_device) in all {
        for (device, texts) in &by_device {
            let mut last: HashMap<(usize, u32), u64> = HashMap::new();
            for (of, incarnation, number) in texts.iter().filter_map(|text| origin(text)) {
                let before = last.insert((of, incarnation), number).filter(|before| *before > number);
                if let Some(before) = before {
                    wrong.push(format!("device {device} in {room}: call {before} of {of} before call {number}"));
                }
            }
            for (other, others) in by_device.range(device + 1..) {
                let places: HashMap<&str, usize> = others.iter().zip(0..).map(|(text, at)| (*text, at)).collect();
                let common: Vec<(&str, usize)> =
                    texts.iter().filter_map(|text| Some((*text, *places.get(text)?))).collect();
                let falls = common.windows(2).find(|pair| pair[0].1 > pair[1].1);
                wrong.extend(falls.map(|pair| {
                    format!("{room}: device {device} heard {} and {}, device {other} not", pair[0].0, pair[1].0)
                }));
            }
        }
    }
    wrong
}

/// The actions in a room: the call, the user who acts, the user whom it concerns and the verb.
fn acts<'e>(end: &'e EndState, of: &str) -> impl Iterator<Item = (&'e Call, &'static str, &'static str, RoomVerb)> {
    end.calls.iter().filter_map(move |call| match call.action {
        Action::Room { room, user, verb } if room == of => Some((call, user_of(call), user, verb)),
        _ => None,
    })
}

/// Since when a room has lasted for certain, and each of its users has been in it: a device says so that is in it.
fn since(end: &EndState, views: &RoomViews, room: &str) -> (Moment, HashMap<&'static str, Moment>) {
    let of_device = |device: &LiveDevice| {
        let view = view_of(views, device, room).filter(|view| view.is_in())?;
        Some((device.user, view.since))
    };
    let of_users: HashMap<&str, Moment> = end.live.devices.iter().filter_map(of_device).collect();
    (of_users.values().min().copied().unwrap_or(Moment::MAX), of_users)
}

pub(super) fn room_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let views = views(end);
    for (room, stored) in &end.live.rooms {
        let (lasts_since, in_since) = since(end, &views, room);
        let user_since = |user: &str| in_since.get(user).copied().unwrap_or(Moment::MAX);
        for key in 0..ROOM_KEYS {
            let one = |(call, _, _, verb): (&Call, &str, &str, RoomVerb)| match verb {
                RoomVerb::Set { key: of, .. } if of == key => write(end, call, true, Some(call.text.clone())),
                RoomVerb::Remove { key: of, .. } if of == key => write(end, call, true, None),
                _ => None,
            };
            let mut writes: Vec<Write<Option<String>>> = acts(end, room).filter_map(one).collect();
            // It ends with the room, and some with the stay of their owner.
            let owners = USERS.iter().map(|user| user_since(user)).max().unwrap_or(Moment::MAX);
            let until = if key < GOES_WITH_OWNER { lasts_since } else { owners };
            writes.push(Write::possible_until(until, None));
            let value = stored.attributes.get(&format!("k{key}")).cloned();
            if !may_remain(&writes, &value, &None) {
                wrong.push(format!("{room}: the attribute k{key} is {value:?}"));
            }
        }
        for key in BATCH_KEYS {
            let one = |(call, _, _, verb): (&Call, &str, &str, RoomVerb)| match verb {
                RoomVerb::Batch(Batching::SetsAll) => write(end, call, true, Some(call.text.clone())),
                RoomVerb::Batch(Batching::RemovesLast) if key != BATCH_KEYS[2] => {
                    write(end, call, true, Some(call.text.clone()))
                }
                RoomVerb::Batch(_) => write(end, call, true, None),
                _ => None,
            };
            let mut writes: Vec<Write<Option<String>>> = acts(end, room).filter_map(one).collect();
            writes.push(Write::possible_until(lasts_since, None));
            let value = stored.attributes.get(key).cloned();
            if !may_remain(&writes, &value, &None) {
                wrong.push(format!("{room}: the attribute {key} is {value:?}"));
            }
        }
        for user in stored.members.keys() {
            let until = user_since(user).max(lasts_since);
            for key in 0..ROOM_KEYS {
                let one = |(call, _, whom, verb): (&Call, &str, &str, RoomVerb)| match verb {
                    RoomVerb::SetOf { key: of, .. } if of == key && whom == user => {
                        write(end, call, true, Some(call.text.clone()))
                    }
                    _ => None,
                };
                let mut writes: Vec<Write<Option<String>>> = acts(end, room).filter_map(one).collect();
                writes.push(Write::possible_until(until, None));
                let value = stored.of_members.get(user).and_then(|of| of.get(&format!("k{key}"))).cloned();
                if !may_remain(&writes, &value, &None) {
                    wrong.push(format!("{room}: the attribute k{key} of {user} is {value:?}"));
                }
            }
        }
    }
    wrong.extend(still_in(end, &views));
    wrong
}

/// Whoever has left a room, or switched to the other one, and has not tried to enter it since, is out. Whoever has switched has been in
/// the other one.
fn still_in(end: &EndState, views: &RoomViews) -> Vec<String> {
    let mut wrong = Vec::new();
    for device in &end.live.devices {
        let switches = end.calls.iter().filter(|call| call.device == device.number && call.acknowledged().is_some());
        for call in switches.filter(|call| call.incarnation == device.incarnation) {
            let Action::Room { room, verb: RoomVerb::Switch, .. } = call.action else { continue };
            if !view_of(views, device, room).is_some_and(RoomView::was_in) {
                wrong.push(format!("device {} has never been in {room}: {call:?}", device.number));
            }
        }
        for (_, room) in views.of.keys().filter(|(of, _)| *of == device.number) {
            let own = |call: &&Call| call.device == device.number && call.incarnation == device.incarnation;
            let leaves = |call: &&Call| match call.action {
                Action::Room { room: of, verb: RoomVerb::Leave, .. } => of == room,
                Action::Room { room: of, verb: RoomVerb::Switch, .. } => other_room(of) == room,
                Action::Room { verb: RoomVerb::LeaveAll, .. } => {
                    let left = call.acknowledged().and_then(|(_, answer)| answer["roomIDs"].as_array());
                    left.is_some_and(|left| left.iter().any(|of| of == room))
                }
                _ => false,
            };
            let mut left = end.calls.iter().filter(own).filter(leaves).filter(|call| call.acknowledged().is_some());
            let Some(left) = left.next_back() else { continue };
            let enters = |call: &&Call| match call.action {
                Action::Room { room: of, verb: RoomVerb::Switch, .. } => of == room,
                Action::Room { verb, .. } => matches!(verb, RoomVerb::Enter | RoomVerb::Join),
                _ => false,
            };
            let is_later = |call: &&Call| call.answer.as_ref().is_none_or(|(at, _)| *at > left.called);
            let has_entered = end.calls.iter().filter(own).filter(enters).any(|call| is_later(&call));
            let is_in = view_of(views, device, room).is_some_and(RoomView::is_in);
            if is_in && !has_entered {
                wrong.push(format!("device {} has left {room} and is in it: {left:?}", device.number));
            }
        }
    }
    wrong
}

/// Returns who lacks something that was said in a room: these devices heard it from others.
pub(super) fn unheard(devices: &[usize], raised: &[RaisedEvent], room: &str, said: &[(usize, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for device in devices {
        let of = raised.iter().filter(|one| one.device == *device).filter_map(heard);
        let texts: BTreeSet<&str> = of.filter(|(of, _)| *of == room).flat_map(|(_, texts)| texts).collect();
        let missing = said.iter().filter(|(from, text)| from != device && !texts.contains(text.as_str()));
        wrong.extend(missing.map(|(from, text)| format!("device {device} lacks {text:?} of device {from}")));
    }
    wrong
}
