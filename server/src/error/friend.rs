//! Errors of friends and friend applications.

use zim_protocol::ErrorCode;

use super::Error;

/// Failures of friends and friend applications.
impl Error {
    /// A friend list is full.
    pub fn friends_full(whose: &str, most: u64) -> Self {
        let message = format!("{whose} friend list is full; at most {most} friends are allowed");
        Self::new(ErrorCode::FriendModuleFriendNumsLimit, message)
    }

    /// The other user has no pending application that the caller could answer.
    pub fn no_application_waits() -> Self {
        let message = "there is no pending application from this user";
        Self::new(ErrorCode::FriendModuleFriendApplicationStatusError, message)
    }

    /// The application was not answered in time.
    pub fn application_expired() -> Self {
        Self::new(ErrorCode::FriendModuleFriendApplicationExpired, "the application from this user has expired")
    }

    /// The other user is on the caller's list.
    pub fn already_friends() -> Self {
        Self::new(ErrorCode::FriendModuleIsAlreadyYourFriend, "this user is already your friend")
    }

    /// The other user has blocked the caller.
    pub fn blocked_by_friend() -> Self {
        Self::new(ErrorCode::CommonModuleBlacklistLimit, "this user has blocked you")
    }

    /// Users cannot be their own friends.
    pub fn cannot_befriend_self() -> Self {
        Self::new(ErrorCode::FriendModuleCannotAddSelfToFriendList, "you cannot add yourself as a friend")
    }

    /// There is no such user in the app.
    pub fn friend_unregistered(user_id: &str) -> Self {
        Self::new(ErrorCode::FriendModuleFriendAreUnregistered, format!("there is no user {user_id}"))
    }

    /// The other user is not on the caller's list.
    pub fn not_friends(user_id: &str) -> Self {
        Self::new(ErrorCode::FriendModuleNotYourFriend, format!("{user_id} is not on your friend list"))
    }

    /// Users are not on their own lists.
    pub fn cannot_delete_self() -> Self {
        Self::new(
            ErrorCode::FriendModuleCannotDeleteSelf,
            "you cannot delete yourself; you are not on your own friend list",
        )
    }

    /// The new attributes and the existing ones are too long together.
    pub fn friend_attributes_too_long(bytes: usize, most: usize) -> Self {
        let message = format!("the friend would have {bytes} bytes of attributes; at most {most} are allowed");
        Self::params_invalid(message)
    }
}
