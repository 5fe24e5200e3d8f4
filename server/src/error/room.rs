//! Errors of rooms.

use zim_protocol::ErrorCode;

use super::Error;

/// Failures of rooms.
impl Error {
    /// There is no such room, or it has ended.
    pub fn room_not_found(room_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleTheRoomDoesNotExist, format!("there is no room {room_id}"))
    }

    /// There is such a room.
    pub fn room_exists(room_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleTheRoomAlreadyExists, format!("the room {room_id} exists already"))
    }

    /// The caller is not in the room.
    pub fn not_in_room(room_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleUserIsNotInTheRoom, format!("you are not in the room {room_id}"))
    }

    /// Another user is not in the room.
    pub fn not_a_room_member(user_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleUserIsNotInTheRoom, format!("{user_id} is not in this room"))
    }

    /// This device is in the room.
    pub fn already_in_room(room_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleUserIsAlreadyInTheRoom, format!("you are in the room {room_id} already"))
    }

    /// A one-shot login cannot be in a room.
    pub fn room_needs_device() -> Self {
        let message = "a one-shot login is no device, and cannot enter a room";
        Self::new(ErrorCode::RoomModuleJoinRoomError, message)
    }

    /// A one-shot login cannot create a room either: it would be in it.
    pub fn new_room_needs_device() -> Self {
        let message = "a one-shot login is no device, and cannot create a room";
        Self::new(ErrorCode::RoomModuleCreateRoomError, message)
    }

    /// The room has as many members as it may have.
    pub fn room_full(most: i64) -> Self {
        let message = format!("the room is full: it has at most {most} members");
        Self::new(ErrorCode::RoomModuleJoinRoomError, message)
    }

    /// The app has as many rooms as it may have.
    pub fn too_many_rooms(most: i64) -> Self {
        let message = format!("there are {most} rooms, and there can be no more");
        Self::new(ErrorCode::RoomModuleTheNumberOfExistingRoomsHasReachedLimit, message)
    }

    /// The caller is in as many rooms as a user may be.
    pub fn too_many_own_rooms(most: i64) -> Self {
        let message = format!("you are in {most} rooms, and can be in no more; leave one first");
        Self::new(ErrorCode::RoomModuleTheNumberOfJoinedRoomsHasReachedLimit, message)
    }

    /// None of the users that the caller asks for is in the room.
    pub fn no_such_room_members() -> Self {
        let message = "none of these users is in the room";
        Self::new(ErrorCode::RoomModuleTheRoomMembersQueryFailedCompletely, message)
    }

    /// No attribute could be changed: they have other owners, or there are none.
    pub fn room_attributes_refused() -> Self {
        let message = "none of the attributes could be changed; others own them, or they do not exist";
        Self::new(ErrorCode::RoomModuleRoomAttributesOperationFailedCompletely, message)
    }

    /// The room would have more attributes than it may have.
    pub fn too_many_room_attributes(most: usize) -> Self {
        let message = format!("a room has at most {most} attributes");
        Self::new(ErrorCode::RoomModuleTheNumberOfRoomAttributesExceedsLimit, message)
    }

    /// The key of an attribute of a room is empty or too long.
    pub fn room_attribute_key(most: usize) -> Self {
        let message = format!("the key of an attribute of a room has 1 to {most} bytes");
        Self::new(ErrorCode::RoomModuleTheLengthOfRoomAttributeKeyExceedsLimit, message)
    }

    /// The value of an attribute of a room is too long.
    pub fn room_attribute_value(most: usize) -> Self {
        let message = format!("the value of an attribute of a room has at most {most} bytes");
        Self::new(ErrorCode::RoomModuleTheLengthOfRoomAttributeValueExceedsLimit, message)
    }

    /// The attributes of a room would be too long together.
    pub fn room_attributes_total(most: usize) -> Self {
        let message = format!("the keys and values of the attributes of a room have at most {most} bytes together");
        Self::new(ErrorCode::RoomModuleTheTotalLengthOfRoomAttributesValueExceedsLimit, message)
    }

    /// A member would have more attributes than a member may have.
    pub fn too_many_room_member_attributes(most: usize) -> Self {
        let message = format!("a member of a room has at most {most} attributes");
        Self::new(ErrorCode::RoomModuleRoomMemberAttributesCommonError, message)
    }

    /// The key of an attribute of a member is empty or too long.
    pub fn room_member_attribute_key(most: usize) -> Self {
        let message = format!("the key of an attribute of a member has 1 to {most} bytes");
        Self::new(ErrorCode::RoomModuleTheLengthOfRoomMemberAttributesKeyExceedsLimit, message)
    }

    /// The value of an attribute of a member is too long.
    pub fn room_member_attribute_value(most: usize) -> Self {
        let message = format!("the value of an attribute of a member has at most {most} bytes");
        Self::new(ErrorCode::RoomModuleTheLengthOfRoomMemberAttributesValueExceedsLimit, message)
    }

    /// The attributes of a member would be too long together.
    pub fn room_member_attributes_total(most: usize) -> Self {
        let message = format!("the keys and values of the attributes of a member have at most {most} bytes together");
        Self::new(ErrorCode::RoomModuleTheTotalLengthOfRoomMemberAttributesExceedsLimit, message)
    }

    /// The room has as many members with attributes as it may have.
    pub fn too_many_attributed_members(most: i64) -> Self {
        let message = format!("at most {most} members of a room have attributes");
        Self::new(ErrorCode::RoomModuleTheMemberNumberOfRoomMemberAttributesExceedsLimit, message)
    }
}
