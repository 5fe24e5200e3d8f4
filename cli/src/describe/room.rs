//! Events of rooms as text.

use zim_protocol::{
    RoomAttributesUpdateAction, RoomAttributesUpdateInfo, RoomEvent, RoomMemberAttributesUpdatedEvent, RoomState,
    RoomStateChangedEvent, UserInfo,
};

use crate::attribute::attributes_text;
use crate::text::preview;

fn room(id: &str) -> String {
    format!("room {}", preview(id, 32))
}

/// Describes a change of the device's own stay.
pub(crate) fn state_changed(change: &RoomStateChangedEvent) -> String {
    let what = match (change.state(), change.event()) {
        (RoomState::Connected, _) => "you are in it",
        (RoomState::Connecting, RoomEvent::NetworkInterrupted) => "the connection is lost, returning",
        (RoomState::Connecting, _) => "entering",
        (RoomState::Disconnected, RoomEvent::Success) => "you have left",
        (RoomState::Disconnected, RoomEvent::RoomNotExist) => "there is no such room any more",
        (RoomState::Disconnected, RoomEvent::ConnectTimeout) => "you were away for too long",
        (RoomState::Disconnected, RoomEvent::KickedOut) => "you were removed",
        (RoomState::Disconnected, RoomEvent::KickedOutByOtherDevice) => "another device of yours has entered",
        (RoomState::Disconnected, _) => "you could not enter, or have lost it",
    };
    format!("{}: {what}", room(&change.room_id))
}

/// Describes who entered or left.
pub(crate) fn members(room_id: &str, members: &[UserInfo], what: &str) -> String {
    let users: Vec<_> = members.iter().map(|member| preview(&member.user_id, 32)).collect();
    format!("{}: {} {what}", room(room_id), preview(&users.join(", "), 200))
}

/// Describes what became of the attributes of a room.
pub(super) fn attributes(room_id: &str, infos: &[RoomAttributesUpdateInfo]) -> Vec<String> {
    let one = |info: &RoomAttributesUpdateInfo| {
        let what = match info.action() {
            RoomAttributesUpdateAction::Set => "set",
            RoomAttributesUpdateAction::Delete => "removed",
        };
        format!("{}: {what} {}", room(room_id), attributes_text(&info.room_attributes))
    };
    infos.iter().map(one).collect()
}

/// Describes what became of the attributes of members.
pub(super) fn member_attributes(change: &RoomMemberAttributesUpdatedEvent) -> Vec<String> {
    let infos = change.infos.iter().filter_map(|info| info.attributes_info.as_ref());
    let one = |info: &zim_protocol::RoomMemberAttributesInfo| {
        format!("{}: {} has {}", room(&change.room_id), preview(&info.user_id, 32), attributes_text(&info.attributes))
    };
    infos.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_rooms_are_described() {
        let change = RoomStateChangedEvent {
            room_id: "stage".into(),
            state: RoomState::Disconnected as i32,
            event: RoomEvent::ConnectTimeout as i32,
            extended_data: String::new(),
        };
        assert_eq!(state_changed(&change), "room stage: you were away for too long");
        let users = ["ann", "bob"].map(|user_id| UserInfo { user_id: user_id.into(), ..UserInfo::default() });
        assert_eq!(members("stage", &users, "entered"), "room stage: ann, bob entered");
        let info = RoomAttributesUpdateInfo {
            action: RoomAttributesUpdateAction::Delete as i32,
            room_attributes: [("song".to_owned(), "x".to_owned())].into(),
        };
        assert_eq!(attributes("stage", &[info]), ["room stage: removed song=x"]);
    }
}
