//! Who may be put on a blacklist, and who can be taken off it, without any store.

use zim_protocol::ErrorCode;

use crate::key::UserKey;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// Put users on the list.
    Add {
        /// Users on one list.
        limit: i64,
    },
    /// Take users off it.
    Remove,
}

impl Edit {
    /// What the call fails with when it can be done for nobody, for various reasons.
    pub(super) fn all_refused(self) -> ErrorCode {
        match self {
            Self::Add { .. } => ErrorCode::FriendModuleAddBlacklistFail,
            Self::Remove => ErrorCode::FriendModuleDelBlacklistFail,
        }
    }
}

/// Somebody's blacklist, as far as it matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryState {
    /// Whether he is on it.
    pub is_listed: bool,
    /// Whether he ever was.
    pub was_listed: bool,
}

/// Why it cannot be done for `other`, if it cannot. `size` is that of the list, with those that were added before him.
pub(super) fn refusal(edit: Edit, user: UserKey, other: UserKey, state: EntryState, size: i64) -> Option<ErrorCode> {
    match edit {
        Edit::Add { .. } if other == user => Some(ErrorCode::FriendModuleCannotAddSelfToBlacklist),
        Edit::Add { .. } if state.is_listed => Some(ErrorCode::FriendModuleAlreadyAddToBlacklist),
        Edit::Add { limit } if size >= limit => Some(ErrorCode::FriendModuleBlacklistListQuantityLimit),
        Edit::Remove if state.is_listed => None,
        Edit::Remove if state.was_listed => Some(ErrorCode::FriendModuleAlreadyDeleteFromBlacklist),
        Edit::Remove => Some(ErrorCode::FriendModuleUserNotInBlacklist),
        Edit::Add { .. } => None,
    }
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
