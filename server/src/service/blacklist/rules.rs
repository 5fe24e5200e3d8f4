//! The rules of blacklists, without a store.

use zim_protocol::ErrorCode;

use crate::error::Error;
use crate::key::UserKey;

/// A change of a blacklist.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// Adds users.
    Add {
        /// The most users on one list.
        limit: i64,
    },
    /// Removes users.
    Remove,
}

impl Edit {
    /// Returns the code of the whole request if it fails for every user, for different reasons.
    pub(super) fn all_refused(self) -> ErrorCode {
        match self {
            Self::Add { .. } => ErrorCode::FriendModuleAddBlacklistFail,
            Self::Remove => ErrorCode::FriendModuleDelBlacklistFail,
        }
    }
}

/// What a blacklist says about one user.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryState {
    /// Whether the user is on the list.
    pub is_listed: bool,
    /// Whether the user ever was.
    pub was_listed: bool,
}

/// Returns why the edit fails for `other`, if it does. `size` is the size of the list with the users that this request
/// has added before.
pub(super) fn refusal(edit: Edit, user: UserKey, other: UserKey, state: EntryState, size: i64) -> Option<Error> {
    use ErrorCode::{
        FriendModuleAlreadyAddToBlacklist, FriendModuleAlreadyDeleteFromBlacklist,
        FriendModuleBlacklistListQuantityLimit, FriendModuleCannotAddSelfToBlacklist, FriendModuleUserNotInBlacklist,
    };
    let (code, message) = match edit {
        Edit::Add { .. } if other == user => (FriendModuleCannotAddSelfToBlacklist, "you cannot block yourself"),
        Edit::Add { .. } if state.is_listed => {
            (FriendModuleAlreadyAddToBlacklist, "you have blocked this user already")
        }
        Edit::Add { limit } if size >= limit => (FriendModuleBlacklistListQuantityLimit, "your blacklist is full"),
        Edit::Remove if state.was_listed && !state.is_listed => {
            (FriendModuleAlreadyDeleteFromBlacklist, "this user is no longer on your blacklist")
        }
        Edit::Remove if !state.is_listed => (FriendModuleUserNotInBlacklist, "this user is not on your blacklist"),
        Edit::Add { .. } | Edit::Remove => return None,
    };
    Some(Error::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: UserKey = UserKey(1);
    const OTHER: UserKey = UserKey(2);
    const NEVER: EntryState = EntryState { is_listed: false, was_listed: false };
    const LISTED: EntryState = EntryState { is_listed: true, was_listed: true };
    const ONCE: EntryState = EntryState { is_listed: false, was_listed: true };

    #[test]
    fn a_refusal_has_the_most_specific_code() {
        let refusal = |edit, me, other, state, size| refusal(edit, me, other, state, size).map(|error| error.code());
        let add = Edit::Add { limit: 3 };
        assert_eq!(refusal(add, ME, OTHER, NEVER, 2), None);
        assert_eq!(refusal(add, ME, OTHER, ONCE, 2), None);
        assert_eq!(refusal(add, ME, OTHER, NEVER, 3), Some(ErrorCode::FriendModuleBlacklistListQuantityLimit));
        assert_eq!(refusal(add, ME, OTHER, LISTED, 3), Some(ErrorCode::FriendModuleAlreadyAddToBlacklist));
        assert_eq!(refusal(add, ME, ME, NEVER, 3), Some(ErrorCode::FriendModuleCannotAddSelfToBlacklist));
        assert_eq!(refusal(Edit::Remove, ME, OTHER, LISTED, 3), None);
        assert_eq!(refusal(Edit::Remove, ME, OTHER, ONCE, 3), Some(ErrorCode::FriendModuleAlreadyDeleteFromBlacklist));
        assert_eq!(refusal(Edit::Remove, ME, OTHER, NEVER, 3), Some(ErrorCode::FriendModuleUserNotInBlacklist));
    }
}
