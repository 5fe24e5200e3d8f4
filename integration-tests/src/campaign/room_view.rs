//! What a device's events say about the rooms that it is in: whether it is, who else is, and the attributes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use zim_protocol::{RoomAttributesUpdateAction, RoomEvent, RoomState};

use super::action::BATCH_KEYS;
use super::live::{LOOKED, LOOKS_AGAIN};
use super::record::{Moment, RaisedEvent};
use super::store_live::{Attributes, StoredRoom};

const OUT: i64 = RoomState::Disconnected as i64;
const CONNECTING: i64 = RoomState::Connecting as i64;
const CONNECTED: i64 = RoomState::Connected as i64;

/// What a device knows of a room.
#[derive(Clone, Debug, Default)]
pub(super) struct RoomView {
    /// The incarnation of the device.
    pub(super) incarnation: u32,
    /// `RoomState`.
    pub(super) state: i64,
    /// Whether it is still in the room, as far as it knows, while it has no connection to it.
    is_interrupted: bool,
    /// When it entered.
    pub(super) since: Moment,
    /// How often it was connected to the room.
    connected: u64,
    /// The attributes.
    attributes: Attributes,
    /// Who was in the room when the device looked.
    looked: Option<BTreeSet<String>>,
    /// Who entered (true) or left since it was connected.
    changed: BTreeMap<String, bool>,
    /// The attributes of members when the device looked.
    looked_of: Option<BTreeMap<String, Attributes>>,
    /// Those that were set since.
    changed_of: BTreeMap<String, Attributes>,
}

/// The rooms of all devices, by device and room; and the events that a device raised of a room that it was not in.
#[derive(Debug, Default)]
pub(super) struct RoomViews {
    /// The rooms.
    pub(super) of: BTreeMap<(usize, String), RoomView>,
    /// The events.
    pub(super) outside: Vec<String>,
    /// The events after which a device knew a part of a batch.
    pub(super) torn: Vec<String>,
}

/// Whether attributes have a part of a batch.
pub(super) fn is_torn(attributes: &Attributes) -> bool {
    let [first, second, last] = BATCH_KEYS.map(|key| attributes.get(key));
    first != second || (last.is_some() && last != first)
}

fn word(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().into_iter().flatten()
}

fn attributes(value: &Value) -> Attributes {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

impl RoomViews {
    /// Applies the events of all devices, in order.
    pub(super) fn new<'e>(raised: impl Iterator<Item = &'e RaisedEvent>) -> Self {
        let mut views = Self::default();
        for one in raised {
            views.apply(one);
        }
        views
    }

    fn apply(&mut self, one: &RaisedEvent) {
        let event = &one.event;
        let name = event["name"].as_str().unwrap_or_default();
        let room = match name {
            "roomMessageReceived" => word(event, "fromConversationID"),
            name if name.starts_with("room") || [LOOKED, LOOKS_AGAIN].contains(&name) => word(event, "roomID"),
            _ => return,
        };
        let view = self.of.entry((one.device, room)).or_default();
        if view.incarnation < one.incarnation {
            // A new run of the app is in no room.
            *view = RoomView { incarnation: one.incarnation, ..RoomView::default() };
        }
        match name {
            "roomStateChanged" => view.change_state(event, one.at),
            LOOKED => view.look(event),
            LOOKS_AGAIN => view.forget_members(),
            _ if view.state != CONNECTED && !view.is_interrupted => {
                self.outside.push(format!("device {} at {}: {event}", one.device, one.at));
            }
            "roomMemberJoined" | "roomMemberLeft" => {
                for user in list(event, "memberList").map(|user| word(user, "userID")) {
                    view.changed_of.remove(&user);
                    if let Some(looked_of) = &mut view.looked_of {
                        looked_of.remove(&user);
                    }
                    view.changed.insert(user, name == "roomMemberJoined");
                }
            }
            "roomAttributesUpdated" | "roomAttributesBatchUpdated" => {
                for info in list(event, "infos") {
                    let is_set = info["action"] == RoomAttributesUpdateAction::Set as i32;
                    for (key, value) in attributes(&info["roomAttributes"]) {
                        match is_set {
                            true => drop(view.attributes.insert(key, value)),
                            false => drop(view.attributes.remove(&key)),
                        }
                    }
                }
                if is_torn(&view.attributes) {
                    self.torn.push(format!("device {} at {}: {event}", one.device, one.at));
                }
            }
            "roomMemberAttributesUpdated" => {
                for info in list(event, "infos").map(|info| &info["attributesInfo"]) {
                    let of = view.changed_of.entry(word(info, "userID")).or_default();
                    of.extend(attributes(&info["attributes"]));
                }
            }
            _ => {}
        }
    }
}

impl RoomView {
    fn change_state(&mut self, event: &Value, at: Moment) {
        let state = event["state"].as_i64().unwrap_or(OUT);
        let is_cut = event["event"] == RoomEvent::NetworkInterrupted as i32;
        if state == CONNECTED {
            if !self.is_interrupted {
                self.since = at;
            }
            self.forget_members();
        } else if state == OUT || !is_cut {
            self.attributes.clear();
        }
        self.is_interrupted = state == CONNECTING && is_cut;
        self.state = state;
    }

    /// Nobody knows who came and left, until the device looks again.
    fn forget_members(&mut self) {
        self.connected += 1;
        (self.looked, self.looked_of) = (None, None);
        self.changed.clear();
        self.changed_of.clear();
    }

    fn look(&mut self, event: &Value) {
        // A later connection asks anew.
        if event["number"] == self.connected && self.state == CONNECTED {
            self.looked =
                Some(list(event, "members").map(|user| user.as_str().unwrap_or_default().to_owned()).collect());
            let returned: BTreeSet<&String> = self.changed.keys().collect();
            let of = event["ofMembers"].as_object().map(|all| {
                let all = all.iter().filter(|(user, _)| !returned.contains(user));
                all.map(|(user, of)| (user.clone(), attributes(of))).collect()
            });
            self.looked_of = of;
        }
    }

    /// Whether the device is in the room.
    pub(super) fn is_in(&self) -> bool {
        self.state == CONNECTED
    }

    /// Whether the device has ever been in the room.
    pub(super) fn was_in(&self) -> bool {
        self.connected > 0
    }

    /// Whether it has settled: the device is in the room or not.
    pub(super) fn is_settled(&self) -> bool {
        self.state != CONNECTING
    }

    /// Returns who is in the room; `None` if the device has not learned that.
    fn members(&self) -> Option<BTreeSet<String>> {
        let mut members = self.looked.clone()?;
        for (user, is_in) in &self.changed {
            match is_in {
                true => drop(members.insert(user.clone())),
                false => drop(members.remove(user)),
            }
        }
        Some(members)
    }

    /// Returns how what the device knows of a room that it is in differs from what the server stores.
    pub(super) fn differences(&self, stored: &StoredRoom) -> Vec<String> {
        let mut wrong = Vec::new();
        let members: BTreeSet<String> = stored.members.keys().cloned().collect();
        if self.members().as_ref() != Some(&members) {
            wrong.push(format!("members {:?}; stored: {members:?}", self.members()));
        }
        if self.attributes != stored.attributes {
            wrong.push(format!("attributes {:?}; stored: {:?}", self.attributes, stored.attributes));
        }
        let nothing = Attributes::new();
        for user in &members {
            let stored = stored.of_members.get(user).unwrap_or(&nothing);
            let changed = self.changed_of.get(user).unwrap_or(&nothing);
            let is_known = self.looked_of.is_some() && !self.changed.contains_key(user);
            let looked = self.looked_of.as_ref().and_then(|of| of.get(user)).unwrap_or(&nothing);
            let known: Attributes =
                looked.iter().chain(changed).map(|(key, value)| (key.clone(), value.clone())).collect();
            let has = known.iter().all(|(key, value)| stored.get(key) == Some(value));
            // Whoever returns may have attributes from before, of which nobody is told.
            if !has || (is_known && known.len() != stored.len()) {
                wrong.push(format!("attributes {known:?} of {user}; stored: {stored:?}"));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn views(events: &[Value]) -> RoomViews {
        let raised: Vec<RaisedEvent> = events
            .iter()
            .zip(1..)
            .map(|(event, at)| RaisedEvent { device: 0, incarnation: 1, at, event: event.clone() })
            .collect();
        RoomViews::new(raised.iter())
    }

    fn state(state: i64, event: RoomEvent) -> Value {
        json!({"name": "roomStateChanged", "roomID": "r", "state": state, "event": event as i32})
    }

    fn joined(user: &str) -> Value {
        json!({"name": "roomMemberJoined", "roomID": "r", "memberList": [{"userID": user}]})
    }

    fn left(user: &str) -> Value {
        json!({"name": "roomMemberLeft", "roomID": "r", "memberList": [{"userID": user}]})
    }

    fn looked(number: u64, members: &[&str]) -> Value {
        json!({"name": LOOKED, "roomID": "r", "number": number, "members": members, "ofMembers": {}})
    }

    fn members(views: &RoomViews) -> Vec<String> {
        views.of[&(0, "r".to_owned())].members().unwrap().into_iter().collect()
    }

    #[test]
    fn a_look_is_amended_by_the_events_since_the_device_was_connected() {
        let entered = [state(CONNECTING, RoomEvent::ActiveEnter), state(CONNECTED, RoomEvent::Success)];
        let [connecting, connected] = entered.clone();
        let found =
            views(&[connecting.clone(), connected.clone(), joined("bob"), left("carl"), looked(1, &["ann", "carl"])]);
        assert_eq!((members(&found), found.outside.len()), (vec!["ann".to_owned(), "bob".to_owned()], 0));
        // After a loss of the connection nobody knows who came and left, until the device looks again.
        let cut = state(CONNECTING, RoomEvent::NetworkInterrupted);
        let back = [connecting, connected.clone(), joined("bob"), cut, connected, looked(1, &["dora"])];
        assert!(views(&back).of[&(0, "r".to_owned())].members().is_none());
        let found = views(&[&back[..], &[looked(2, &["ann"])]].concat());
        assert_eq!((members(&found), found.of[&(0, "r".to_owned())].since), (vec!["ann".to_owned()], 2));
    }

    #[test]
    fn a_device_that_looks_again_knows_what_it_had_missed() {
        let again = json!({"name": LOOKS_AGAIN, "roomID": "r"});
        let entered = [state(CONNECTING, RoomEvent::ActiveEnter), state(CONNECTED, RoomEvent::Success)];
        let before = [&entered[..], &[looked(1, &["ann"]), joined("bob"), again, left("ann")]].concat();
        assert!(views(&before).of[&(0, "r".to_owned())].members().is_none());
        let found = views(&[&before[..], &[looked(2, &["ann", "bob", "carl"])]].concat());
        assert_eq!(members(&found), ["bob", "carl"]);
    }

    #[test]
    fn a_part_of_a_batch_is_noticed() {
        let entered = [state(CONNECTING, RoomEvent::ActiveEnter), state(CONNECTED, RoomEvent::Success)];
        let changed = |infos: Value| json!({"name": "roomAttributesBatchUpdated", "roomID": "r", "infos": infos});
        let set = |pairs: Value| json!({"action": RoomAttributesUpdateAction::Set as i32, "roomAttributes": pairs});
        let removed = json!({"action": RoomAttributesUpdateAction::Delete as i32, "roomAttributes": {"b2": ""}});
        let all = changed(json!([set(json!({"b0": "x", "b1": "x", "b2": "x"}))]));
        let some = changed(json!([set(json!({"b0": "y", "b1": "y"})), removed]));
        let torn = |events: &[Value]| views(&[&entered[..], events].concat()).torn.len();
        assert_eq!((torn(&[]), torn(&[all.clone(), some])), (0, 0));
        assert_eq!(torn(&[changed(json!([set(json!({"b0": "x", "b2": "x"}))]))]), 1);
        assert_eq!(torn(&[all, changed(json!([set(json!({"b0": "y", "b1": "y"}))]))]), 1);
    }

    #[test]
    fn an_event_of_a_room_that_the_device_is_not_in_is_noticed() {
        let entering = state(CONNECTING, RoomEvent::ActiveEnter);
        assert_eq!(views(&[joined("bob")]).outside.len(), 1);
        assert_eq!(views(&[entering.clone(), joined("bob")]).outside.len(), 1);
        let out = state(OUT, RoomEvent::Success);
        let connected = state(CONNECTED, RoomEvent::Success);
        assert_eq!(views(&[entering, connected, joined("bob"), out, left("bob")]).outside.len(), 1);
    }
}
