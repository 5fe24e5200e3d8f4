//! What the server pushes of the rooms that this device is in.

use zim_protocol::{
    Event, RoomAttributesChange, RoomAttributesUpdateAction, RoomEntrance, RoomEvent, RoomMemberAttributesUpdatedEvent,
    RoomMemberJoinedEvent, RoomMemberLeftEvent, RoomMembersChange, RoomPush, RoomState, RoomStateChangedEvent,
    Transient, UserInfo, room_push::Detail,
};

use super::attributes::{attributes, difference};
use super::{Phase, Room, Rooms, Wish, state};

impl Rooms {
    /// Whether a message that was sent to a room is for this stay. While a node of the server comes or goes, a message that is kept may
    /// arrive behind a later one: it is not heard then, so that what is heard has the order of the history.
    pub(in crate::account) fn accepts(&self, room_id: &str, transient: &Transient) -> bool {
        let mut inner = self.0.lock();
        let room = inner.rooms.get_mut(room_id);
        let Some(room) = room.filter(|room| room.takes(transient.room) && transient.after_rev >= room.from_rev) else {
            return false;
        };
        match transient.message.as_ref().map_or(0, |message| message.seq) {
            0 => true,
            seq if seq > room.heard => {
                room.heard = seq;
                true
            }
            _ => false,
        }
    }

    /// Handles a push of a room.
    pub(in crate::account) fn pushed(&self, push: RoomPush, raise: impl Fn(Event)) -> Option<Wish> {
        let inner = &mut *self.0.lock();
        let RoomPush { room_id, number, rev, detail } = push;
        let Some(room) = inner.rooms.get_mut(&room_id) else {
            let Some(Detail::Entrance(entrance)) = detail else { return None };
            // The device has given up to enter, and the server has let it in since.
            let is_stray = !inner.is_one_shot && !inner.has_ended(&room_id, entrance.entry_number);
            return (is_stray && inner.strays.insert(room_id.clone())).then_some(Wish::Leave(room_id));
        };
        if let Some(Detail::Entrance(entrance)) = detail {
            if entrance.entry_number == room.asked {
                entered(&room_id, room, (number, rev), entrance, raise);
            }
            return None;
        }
        if !room.takes(number) || rev <= room.rev {
            return None;
        }
        match detail {
            // The changes of two nodes may arrive in reverse.
            Some(Detail::Attributes(_)) if rev < room.attributes_rev => return Some(Wish::Resume(room_id)),
            Some(Detail::Members(change)) => members(&room_id, change, raise),
            Some(Detail::Attributes(RoomAttributesChange { infos })) => {
                room.attributes_rev = rev;
                for info in &infos {
                    let is_set = info.action() == RoomAttributesUpdateAction::Set;
                    for (key, value) in &info.room_attributes {
                        match is_set {
                            true => drop(room.attributes.insert(key.clone(), value.clone())),
                            false => drop(room.attributes.remove(key)),
                        }
                    }
                }
                attributes(&room_id, infos).into_iter().for_each(raise);
            }
            Some(Detail::MemberAttributes(change)) => {
                raise(Event::RoomMemberAttributesUpdated(RoomMemberAttributesUpdatedEvent {
                    room_id,
                    infos: change.infos,
                    operated_info: change.operated_info,
                }));
            }
            Some(Detail::Exit(exit)) => {
                let stay = room.stay;
                inner.end(&room_id, stay);
                raise(Event::RoomStateChanged(RoomStateChangedEvent {
                    room_id,
                    state: RoomState::Disconnected as i32,
                    event: exit.event,
                    extended_data: exit.extended_data,
                }));
            }
            Some(Detail::Entrance(_)) | None => {}
        }
        None
    }
}

/// The server has let the device in, or says what the room is now.
fn entered(room_id: &str, room: &mut Room, (number, rev): (i64, u64), entrance: RoomEntrance, raise: impl Fn(Event)) {
    if room.number == 0 {
        room.from_rev = rev;
    }
    (room.number, room.rev) = (number, rev);
    room.may_be_left &= entrance.entry_number == room.stay;
    if let Some(info) = entrance.info {
        room.info = info;
    }
    if matches!(room.phase, Phase::Entering(_) | Phase::Interrupted) {
        room.phase = Phase::Connected;
        raise(state(room_id, RoomState::Connected, RoomEvent::Success));
    }
    let infos = difference(&room.attributes, &entrance.attributes);
    (room.attributes, room.attributes_rev) = (entrance.attributes, rev);
    attributes(room_id, infos).into_iter().for_each(raise);
}

/// Raises who entered and who left, those of one direction together.
fn members(room_id: &str, change: RoomMembersChange, raise: impl Fn(Event)) {
    for run in change.changes.chunk_by(|one, other| one.has_left == other.has_left) {
        let member_list: Vec<UserInfo> = run.iter().filter_map(|change| change.user.clone()).collect();
        let room_id = room_id.to_owned();
        raise(match run.first() {
            Some(first) if first.has_left => Event::RoomMemberLeft(RoomMemberLeftEvent { room_id, member_list }),
            _ => Event::RoomMemberJoined(RoomMemberJoinedEvent { room_id, member_list }),
        });
    }
}
