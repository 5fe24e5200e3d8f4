//! What friend applications and group applications have in common: one that waits expires when it is read, without an event. The
//! states of both have the same numbers.

use zim_protocol::GroupApplicationState as State;

/// Returns the state of an application at a time.
pub(crate) fn state_at(state: i32, expires_at: i64, now: i64) -> i32 {
    if state == State::Waiting as i32 && expires_at <= now { State::Expired as i32 } else { state }
}

/// Whether an application can still be answered.
pub(crate) fn answerable(state: i32, expires_at: i64, now: i64) -> bool {
    state_at(state, expires_at, now) == State::Waiting as i32
}

#[cfg(test)]
mod tests {
    use zim_protocol::FriendApplicationState as FriendState;

    use super::*;

    #[test]
    fn the_states_of_both_have_the_same_numbers() {
        let friends = [FriendState::Waiting, FriendState::Accepted, FriendState::Rejected, FriendState::Expired]
            .map(|state| state as i32);
        assert_eq!(
            friends,
            [State::Waiting, State::Accepted, State::Rejected, State::Expired].map(|state| state as i32)
        );
    }

    #[test]
    fn one_that_waits_expires() {
        let waiting = State::Waiting as i32;
        assert!(answerable(waiting, 11, 10));
        assert_eq!(state_at(waiting, 10, 10), State::Expired as i32);
        assert_eq!(state_at(State::Accepted as i32, 10, 10), State::Accepted as i32);
        assert!(!answerable(State::Rejected as i32, 11, 10));
    }
}
