//! The invitations to calls that a client was sent and has not stored yet, as far as it has said.

use std::collections::VecDeque;

use zim_protocol::{CallEntry, CallUserState};

/// The most invitations that wait. An older one counts as not received.
const MAX_WAITING: usize = 64;

/// The calls, by the IDs that clients see, with the positions of the entries that ask the user into them.
#[derive(Debug, Default)]
pub(super) struct Ringing {
    waiting: VecDeque<(i64, i64)>,
}

impl Ringing {
    /// Notes an entry of a user's feed, if it is an invitation that is not received.
    pub(super) fn add(&mut self, pos: i64, call: &CallEntry, user_id: &str) {
        let Some(info) = &call.info else { return };
        let user = info.call_user_list.iter().find(|user| user.user_id == user_id);
        let is_waiting = user
            .is_some_and(|user| matches!(user.state(), CallUserState::Inviting | CallUserState::NotYetReceived))
            && info.end_time == 0;
        let Some(id) = info.call_id.parse().ok().filter(|_| is_waiting) else { return };
        self.waiting.retain(|(_, call)| *call != id);
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((pos, id));
    }

    /// Takes the calls whose invitations are stored by a client that has stored its feed up to `through`.
    pub(super) fn take(&mut self, through: i64) -> Vec<i64> {
        let (stored, waiting): (VecDeque<_>, _) = self.waiting.drain(..).partition(|(pos, _)| *pos <= through);
        self.waiting = waiting;
        stored.into_iter().map(|(_, call)| call).collect()
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::{CallInfo, CallUserInfo};

    use super::*;

    fn entry(id: i64, state: CallUserState) -> CallEntry {
        let other = CallUserInfo { user_id: "bob".to_owned(), ..CallUserInfo::default() };
        let user = CallUserInfo { user_id: "ann".to_owned(), state: state as i32, ..CallUserInfo::default() };
        let info = CallInfo { call_id: id.to_string(), call_user_list: vec![other, user], ..CallInfo::default() };
        CallEntry { info: Some(info), ..CallEntry::default() }
    }

    #[test]
    fn an_invitation_is_received_once_its_position_is_stored() {
        let mut ringing = Ringing::default();
        ringing.add(5, &entry(50, CallUserState::Inviting), "ann");
        ringing.add(7, &entry(70, CallUserState::NotYetReceived), "ann");
        assert!(ringing.take(4).is_empty());
        assert_eq!(ringing.take(6), [50]);
        assert_eq!((ringing.take(7), ringing.take(99)), (vec![70], vec![]));
    }

    #[test]
    fn only_who_has_not_received_it_waits() {
        let mut ringing = Ringing::default();
        for state in [CallUserState::Received, CallUserState::Accepted, CallUserState::Timeout] {
            ringing.add(1, &entry(1, state), "ann");
        }
        ringing.add(1, &entry(1, CallUserState::Inviting), "eve");
        let mut ended = entry(1, CallUserState::Inviting);
        ended.info.as_mut().unwrap().end_time = 9;
        ringing.add(1, &ended, "ann");
        assert!(ringing.take(9).is_empty());
        // A later entry of the same call takes the place of the one before.
        ringing.add(1, &entry(1, CallUserState::Inviting), "ann");
        ringing.add(4, &entry(1, CallUserState::NotYetReceived), "ann");
        assert_eq!((ringing.take(3), ringing.take(4)), (vec![], vec![1]));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut ringing = Ringing::default();
        let count = i64::try_from(MAX_WAITING).unwrap() + 1;
        (0..count).for_each(|id| ringing.add(id, &entry(id, CallUserState::Inviting), "ann"));
        assert_eq!(ringing.take(count), (1..count).collect::<Vec<i64>>());
    }
}
