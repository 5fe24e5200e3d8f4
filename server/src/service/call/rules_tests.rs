//! The rules, cell by cell: whoever stands to a call in whatever way tries everything.

use zim_protocol::CallUserState as State;

use super::rules::{Act, Actor, Call, Device, Happening, MAX_EVER, Outcome, Refusal, Times};
use crate::db::USERS_OF_CALL;
use crate::key::UserKey;

const ANN: UserKey = UserKey(1);
const BOB: UserKey = UserKey(2);
const EVE: UserKey = UserKey(3);
const DAN: UserKey = UserKey(4);
const GUS: UserKey = UserKey(5);

const HERE: Device = [1; 16];
const THERE: Device = [2; 16];

const BEGUN: i64 = 1_000;
const TIMES: Times = Times { expires_at: 91_000, check_at: 6_000 };
const CLOSES: i64 = 1_000_000;

fn actor(user: UserKey, device: Device) -> Actor {
    Actor { user, device: Some(device), now: BEGUN }
}

/// Ann's call to Bob and Eve.
fn call(is_advanced: bool) -> Call {
    Call::begin(actor(ANN, HERE), is_advanced, if is_advanced { CLOSES } else { 0 }, (&[BOB, EVE], TIMES))
}

/// The same, in which a user has this state.
fn with(is_advanced: bool, user: UserKey, state: State) -> Call {
    let mut call = call(is_advanced);
    let member = call.members.iter_mut().find(|member| member.user == user).unwrap();
    member.state = state;
    if matches!(state, State::Accepted | State::Quit) {
        (member.device, member.accepted_at) = (Some(HERE), BEGUN);
    }
    call
}

/// What each user may do. A cell is the state of the user afterwards, with `!` if the call has ended, or why it is refused.
const ADVANCED: &str = "\
| who            | invite   | join     | switch   | cancel    | cancel some | accept       | reject       | quit  | end    |
| outsider       | NotIn    | Accepted | Accepted | NotCaller | NotCaller   | NotInvited   | NotInvited   | NotIn | NotIn  |
| caller         | Accepted | InCall   | Accepted | Cancelled!| Accepted    | NotInvited   | NotInvited   | Quit  | Ended! |
| answered       | Accepted | InCall   | Accepted | Accepted? | Accepted?   | NotInvited   | NotInvited   | Quit  | Ended! |
| caller left    | NotIn    | Accepted | Accepted | NotIn     | NotIn       | NotInvited   | NotInvited   | NotIn | NotIn  |
| Inviting       | NotIn    | Accepted | Accepted | NotCaller | NotCaller   | Accepted     | Rejected     | NotIn | NotIn  |
| Received       | NotIn    | Accepted | Accepted | NotCaller | NotCaller   | Accepted     | Rejected     | NotIn | NotIn  |
| NotYetReceived | NotIn    | Accepted | Accepted | NotCaller | NotCaller   | Accepted     | Rejected     | NotIn | NotIn  |
| Accepted       | Accepted | InCall   | Accepted | NotCaller | NotCaller   | InCall       | NoInvitation | Quit  | Ended! |
| Rejected       | NotIn    | Accepted | Accepted | NotCaller | NotCaller   | NoInvitation | NoInvitation | NotIn | NotIn  |
| Timeout        | NotIn    | Accepted | Accepted | NotCaller | NotCaller   | NoInvitation | NoInvitation | NotIn | NotIn  |
| BeCancelled    | NotIn    | Accepted | Accepted | NotCaller | NotCaller   | NoInvitation | NoInvitation | NotIn | NotIn  |
| Quit           | NotIn    | Accepted | Accepted | NotCaller | NotCaller   | NoInvitation | NoInvitation | NotIn | NotIn  |
| ended          | NoCall   | NoCall   | NoCall   | NoCall    | NoCall      | NoCall       | NoCall       | NoCall| NoCall |
";

const GENERAL: &str = "\
| who            | invite      | join        | switch      | cancel     | cancel some | accept       | reject       | quit        | end         |
| outsider       | GeneralMode | GeneralMode | GeneralMode | NotCaller  | NotCaller   | NotInvited   | NotInvited   | GeneralMode | GeneralMode |
| caller         | GeneralMode | GeneralMode | GeneralMode | Cancelled! | Cancelled!  | NotInvited   | NotInvited   | GeneralMode | GeneralMode |
| answered       | GeneralMode | GeneralMode | GeneralMode | Accepted?  | Accepted?   | NotInvited   | NotInvited   | GeneralMode | GeneralMode |
| Inviting       | GeneralMode | GeneralMode | GeneralMode | NotCaller  | NotCaller   | Accepted     | Rejected     | GeneralMode | GeneralMode |
| Received       | GeneralMode | GeneralMode | GeneralMode | NotCaller  | NotCaller   | Accepted     | Rejected     | GeneralMode | GeneralMode |
| NotYetReceived | GeneralMode | GeneralMode | GeneralMode | NotCaller  | NotCaller   | Accepted     | Rejected     | GeneralMode | GeneralMode |
| Accepted       | GeneralMode | GeneralMode | GeneralMode | NotCaller  | NotCaller   | InCall       | NoInvitation | GeneralMode | GeneralMode |
| Rejected       | GeneralMode | GeneralMode | GeneralMode | NotCaller  | NotCaller   | NoInvitation | NoInvitation | GeneralMode | GeneralMode |
| Timeout        | GeneralMode | GeneralMode | GeneralMode | NotCaller  | NotCaller   | NoInvitation | NoInvitation | GeneralMode | GeneralMode |
| ended          | GeneralMode | GeneralMode | GeneralMode | NoCall     | NoCall      | NoCall       | NoCall       | GeneralMode | GeneralMode |
";

const INVITED: [State; 8] = [
    State::Inviting,
    State::Received,
    State::NotYetReceived,
    State::Accepted,
    State::Rejected,
    State::Timeout,
    State::BeCancelled,
    State::Quit,
];

/// The call of a row, and who acts.
fn row(is_advanced: bool, who: &str) -> (Call, UserKey) {
    match who {
        "outsider" => (call(is_advanced), DAN),
        "caller" => (call(is_advanced), ANN),
        "answered" => (with(is_advanced, BOB, State::Accepted), ANN),
        "caller left" => (with(is_advanced, ANN, State::Quit), ANN),
        "ended" => (Call { has_ended: true, ..with(is_advanced, BOB, State::Received) }, BOB),
        state => {
            let state = INVITED.into_iter().find(|one| format!("{one:?}") == state);
            (with(is_advanced, BOB, state.unwrap_or_else(|| panic!("{who}"))), BOB)
        }
    }
}

/// The act of a column.
fn act(what: &str, user: UserKey, device: Device) -> (Actor, Act) {
    let here = actor(user, device);
    match what {
        "invite" => (here, Act::Invite(vec![GUS], TIMES)),
        "join" => (here, Act::Join),
        "switch" => (actor(user, THERE), Act::Join),
        "cancel" => (here, Act::Cancel(None)),
        "cancel some" => (here, Act::Cancel(Some(vec![EVE]))),
        "accept" => (here, Act::Accept),
        "reject" => (here, Act::Reject),
        "quit" => (here, Act::Quit),
        "end" => (here, Act::End),
        other => panic!("{other}"),
    }
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn every_cell_of_the_tables_is_as_it_says() {
    for (is_advanced, table) in [(true, ADVANCED), (false, GENERAL)] {
        let mut lines = table.lines();
        let columns = cells(lines.next().unwrap());
        let mut seen = 0;
        for line in lines {
            let row_cells = cells(line);
            assert_eq!(row_cells.len(), columns.len(), "{line}");
            for (what, expected) in columns.iter().zip(&row_cells).skip(1) {
                let (before, user) = row(is_advanced, row_cells[0]);
                let mut call = before.clone();
                let (actor, act) = act(what, user, HERE);
                let found = match call.act(actor, act) {
                    Ok(outcome) => {
                        assert!(!outcome.changed.is_empty(), "{what} {line}");
                        let end = if call.has_ended { "!" } else { "" };
                        format!("{:?}{end}", call.member(user).unwrap().state)
                    }
                    // In the table it is told from the state of this name.
                    Err(Refusal::Accepted) => "Accepted?".to_owned(),
                    Err(refusal) => format!("{refusal:?}"),
                };
                assert_eq!(&found, expected, "{what} in {line}");
                let is_allowed = State::from_str_name(&format!("CALL_USER_STATE_{}", shout(&found))).is_some();
                assert_eq!(call == before, !is_allowed, "what is refused changes nothing: {what} in {line}");
                seen += 1;
            }
        }
        assert_eq!(seen, (table.lines().count() - 1) * 9);
    }
}

/// Returns a name as an enum of the contract has it.
fn shout(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.trim_end_matches('!').chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            text.push('_');
        }
        text.extend(letter.to_uppercase());
    }
    text
}

/// What happens to an invitee in each state: their state afterwards, `-` if nothing follows.
#[test]
fn every_state_has_what_happens_by_itself() {
    let check = TIMES.check_at;
    for (state, received, early, checked, late) in [
        (State::Inviting, "Received", "-", "NotYetReceived", "Timeout"),
        (State::Received, "-", "-", "-", "Timeout"),
        (State::NotYetReceived, "Received", "-", "-", "Timeout"),
        (State::Accepted, "-", "-", "-", "-"),
        (State::Rejected, "-", "-", "-", "-"),
        (State::Timeout, "-", "-", "-", "-"),
        (State::BeCancelled, "-", "-", "-", "-"),
        (State::Quit, "-", "-", "-", "-"),
    ] {
        for (happening, expected) in [
            (Happening::Received(BOB), received),
            (Happening::Time(check - 1), early),
            (Happening::Time(check), checked),
            (Happening::Time(TIMES.expires_at - 1), checked),
            (Happening::Time(TIMES.expires_at), late),
        ] {
            let before = with(true, BOB, state);
            let mut call = before.clone();
            // Nothing else happens.
            call.members[2].state = State::Rejected;
            let unchanged = call.clone();
            let found = match call.happen(happening) {
                Some(outcome) => {
                    assert_eq!(outcome.changed, [BOB], "{state:?} {happening:?}");
                    format!("{:?}", call.member(BOB).unwrap().state)
                }
                None => {
                    assert_eq!(call, unchanged);
                    "-".to_owned()
                }
            };
            assert_eq!(found, expected, "{state:?} {happening:?}");
        }
    }
    let mut unchecked = Call::begin(actor(ANN, HERE), true, CLOSES, (&[BOB], Times { check_at: 0, ..TIMES }));
    assert_eq!(unchecked.happen(Happening::Time(TIMES.expires_at - 1)), None);
    assert_eq!(unchecked.next_at(), Some(TIMES.expires_at));
    // The timer is at the first of the times.
    let mut checked = call(true);
    assert_eq!(checked.next_at(), Some(check));
    checked.happen(Happening::Received(BOB)).unwrap();
    assert_eq!(checked.next_at(), Some(check));
    checked.happen(Happening::Received(EVE)).unwrap();
    assert_eq!(checked.next_at(), Some(TIMES.expires_at));
    // Who is no invitee has nothing to receive.
    assert_eq!(call(true).happen(Happening::Received(DAN)), None);
    assert_eq!(call(true).happen(Happening::Received(ANN)), None);
}

#[test]
fn a_caller_who_left_and_is_asked_back_can_answer() {
    for (answer, state) in [(Act::Accept, State::Accepted), (Act::Reject, State::Rejected)] {
        let mut call = with(true, BOB, State::Accepted);
        call.act(actor(ANN, HERE), Act::Quit).unwrap();
        call.act(actor(BOB, HERE), Act::Invite(vec![ANN], TIMES)).unwrap();
        call.act(actor(ANN, THERE), answer).unwrap();
        assert_eq!(call.member(ANN).unwrap().state, state);
    }
}

/// The task that ends the invitation has not run yet: the server was down.
#[test]
fn an_invitation_that_is_over_cannot_be_answered() {
    let at = |now| Actor { now, ..actor(BOB, HERE) };
    for answer in [Act::Accept, Act::Reject] {
        assert_eq!(call(true).act(at(TIMES.expires_at), answer.clone()), Err(Refusal::NoInvitation));
        assert!(call(true).act(at(TIMES.expires_at - 1), answer).is_ok());
    }
}

#[test]
fn a_call_whose_time_is_up_leaves_nobody_ringing() {
    let mut call = call(true);
    let outcome = call.happen(Happening::Time(CLOSES)).unwrap();
    assert_eq!((call.has_ended, outcome.changed), (true, vec![BOB, EVE]));
    assert_eq!(call.member(EVE).unwrap().state, State::Timeout);
}

#[test]
fn the_caller_is_gone() {
    for (state, is_cancelled) in INVITED.into_iter().zip([true, true, true, false, true, true, true, false]) {
        let mut call = with(true, BOB, state);
        let outcome = call.happen(Happening::CallerLeft);
        assert_eq!((outcome.is_some(), call.has_ended), (is_cancelled, is_cancelled), "{state:?}");
        let expected = if is_cancelled { State::Cancelled } else { State::Accepted };
        assert_eq!(call.member(ANN).unwrap().state, expected);
    }
    let mut call = with(true, ANN, State::Quit);
    assert_eq!(call.happen(Happening::CallerLeft), None, "they have left already");
    let mut call = with(true, BOB, State::Received);
    call.members[0].device = None;
    assert_eq!(call.happen(Happening::CallerLeft), None, "they were never on a device");
}

#[test]
fn those_who_are_present_and_those_who_change_are_told() {
    let mut call = with(true, EVE, State::Rejected);
    let told = |outcome: Outcome| outcome.told;
    assert_eq!(told(call.happen(Happening::Received(BOB)).unwrap()), [ANN, BOB]);
    assert_eq!(told(call.act(actor(DAN, HERE), Act::Join).unwrap()), [ANN, BOB, DAN]);
    assert_eq!(told(call.act(actor(BOB, HERE), Act::Accept).unwrap()), [ANN, BOB, DAN]);
    assert_eq!(told(call.act(actor(ANN, HERE), Act::Quit).unwrap()), [ANN, BOB, DAN]);
    assert_eq!(told(call.act(actor(BOB, HERE), Act::Invite(vec![EVE, GUS], TIMES)).unwrap()), [BOB, EVE, DAN, GUS]);
    assert_eq!(told(call.happen(Happening::Time(TIMES.expires_at)).unwrap()), [BOB, EVE, DAN, GUS]);
    assert_eq!(told(call.act(actor(DAN, HERE), Act::End).unwrap()), [BOB, DAN]);
}

#[test]
fn who_cannot_be_concerned_is_named() {
    let mut call = with(true, EVE, State::Rejected);
    let outcome = call.act(actor(ANN, HERE), Act::Cancel(Some(vec![EVE, BOB, DAN, ANN]))).unwrap();
    assert_eq!((outcome.changed, outcome.refused), (vec![BOB], vec![EVE, DAN, ANN]));
    let nobody = call.act(actor(ANN, HERE), Act::Cancel(Some(vec![EVE, BOB])));
    assert_eq!(nobody, Err(Refusal::NothingToCancel));
    assert_eq!(call.act(actor(ANN, HERE), Act::Cancel(Some(Vec::new()))), Err(Refusal::NothingToCancel));
    let outcome = call.act(actor(ANN, HERE), Act::Invite(vec![ANN, EVE, BOB], TIMES)).unwrap();
    assert_eq!((outcome.changed, outcome.refused), (vec![EVE, BOB], vec![ANN]));
    assert_eq!(call.act(actor(ANN, HERE), Act::Invite(vec![ANN, EVE], TIMES)), Err(Refusal::AllInCall));
}

/// The task that says so may run later.
#[test]
fn an_invitation_whose_time_is_over_cannot_be_cancelled() {
    let at = |now| Actor { now, ..actor(ANN, HERE) };
    let (last, late) = (at(TIMES.expires_at - 1), at(TIMES.expires_at));
    assert_eq!(call(true).act(late, Act::Cancel(Some(vec![BOB]))), Err(Refusal::NothingToCancel));
    assert_eq!(call(true).act(last, Act::Cancel(Some(vec![BOB]))).unwrap().changed, [BOB]);
    for some in [None, Some(vec![BOB])] {
        // In general mode, the call is over with its invitations.
        assert_eq!(call(false).act(late, Act::Cancel(some.clone())), Err(Refusal::NoCall));
        assert_eq!(call(false).act(last, Act::Cancel(some)).unwrap().changed, [ANN, BOB, EVE]);
    }
    // In advanced mode, its caller is still in it.
    assert_eq!(call(true).act(late, Act::Cancel(None)).unwrap().changed, [ANN, BOB, EVE]);
    let later = Times { expires_at: TIMES.expires_at + 1, check_at: 0 };
    let mut both = call(true);
    both.act(actor(ANN, HERE), Act::Invite(vec![DAN], later)).unwrap();
    let outcome = both.act(late, Act::Cancel(Some(vec![BOB, DAN]))).unwrap();
    assert_eq!((outcome.changed, outcome.refused), (vec![DAN], vec![BOB]));
}

/// Also of a user who has left since and is asked again.
#[test]
fn a_call_that_was_accepted_once_cannot_be_cancelled() {
    let mut call = call(true);
    call.act(actor(BOB, HERE), Act::Accept).unwrap();
    call.act(actor(BOB, HERE), Act::Quit).unwrap();
    assert_eq!(call.act(actor(ANN, HERE), Act::Cancel(None)), Err(Refusal::Accepted));
    call.act(actor(ANN, HERE), Act::Invite(vec![BOB], TIMES)).unwrap();
    assert_eq!(call.act(actor(ANN, HERE), Act::Cancel(Some(vec![BOB]))), Err(Refusal::Accepted));
}

#[test]
fn there_is_room_for_so_many() {
    let users = |range: std::ops::Range<i64>| range.map(UserKey).collect::<Vec<_>>();
    let most = i64::try_from(USERS_OF_CALL).unwrap();
    let mut call = Call::begin(actor(ANN, HERE), true, CLOSES, (&users(2..most), TIMES));
    let before = call.clone();
    assert_eq!(call.act(actor(ANN, HERE), Act::Invite(users(most..most + 2), TIMES)), Err(Refusal::Full));
    assert_eq!(call, before);
    call.act(actor(UserKey(most), HERE), Act::Join).unwrap();
    assert_eq!(call.act(actor(UserKey(most + 1), HERE), Act::Join), Err(Refusal::Full));
    // Who is asked already takes no further room.
    call.act(actor(UserKey(2), HERE), Act::Join).unwrap();
    // Nobody is in it for ever, but their list has an end.
    let (mut now, mut next) = (0, most + 1);
    while call.members.len() < MAX_EVER {
        now += TIMES.expires_at;
        call.happen(Happening::Time(now));
        let times = Times { expires_at: now + 1, check_at: 0 };
        let room = (MAX_EVER - call.members.len()).min(5);
        let new = users(next..next + i64::try_from(room).unwrap());
        next += 5;
        call.closes_at = i64::MAX;
        call.act(actor(ANN, HERE), Act::Invite(new, times)).unwrap();
    }
    call.happen(Happening::Time(i64::MAX - 1));
    assert_eq!(call.act(actor(UserKey(9_999), HERE), Act::Join), Err(Refusal::Full));
    assert_eq!(call.act(actor(ANN, HERE), Act::Invite(users(9_999..10_000), TIMES)), Err(Refusal::Full));
    // Those who were in it before may come back.
    call.act(actor(UserKey(5), HERE), Act::Join).unwrap();
}

#[test]
fn a_call_in_general_mode_ends_with_the_last_answer_and_one_in_advanced_mode_with_the_last_user() {
    let mut general = call(false);
    general.act(actor(BOB, HERE), Act::Accept).unwrap();
    assert!(!general.has_ended);
    general.happen(Happening::Time(TIMES.expires_at)).unwrap();
    assert_eq!((general.has_ended, general.next_at()), (true, None));
    let mut advanced = call(true);
    advanced.happen(Happening::Time(TIMES.expires_at)).unwrap();
    assert_eq!((advanced.has_ended, advanced.next_at()), (false, Some(CLOSES)), "Ann is in it alone");
    advanced.act(actor(ANN, HERE), Act::Quit).unwrap();
    assert_eq!((advanced.has_ended, advanced.next_at()), (true, None));
    let mut forgotten = call(true);
    forgotten.act(actor(BOB, HERE), Act::Accept).unwrap();
    assert_eq!(
        forgotten.happen(Happening::Time(CLOSES)),
        Some(Outcome { told: vec![ANN, BOB, EVE], changed: vec![EVE], ..Outcome::default() })
    );
    assert!(forgotten.has_ended);
}

/// The only user whom the caller invited refuses by ending the call; with more users this is not their right.
#[test]
fn the_only_invitee_may_end_the_call() {
    for state in [State::Inviting, State::Received, State::NotYetReceived] {
        let mut one = Call::begin(actor(ANN, HERE), true, CLOSES, (&[BOB], TIMES));
        one.members[1].state = state;
        one.act(actor(BOB, HERE), Act::End).unwrap();
        assert_eq!((one.has_ended, one.members[1].state), (true, State::Ended));
    }
    let mut gone = Call::begin(actor(ANN, HERE), true, CLOSES, (&[BOB], TIMES));
    gone.members[1].state = State::Rejected;
    assert_eq!(gone.act(actor(BOB, HERE), Act::End), Err(Refusal::NotIn));
    // As with an answer, the time counts, and not the task that says so.
    for (now, expected) in [(TIMES.expires_at - 1, None), (TIMES.expires_at, Some(Refusal::NotIn))] {
        let mut one = Call::begin(actor(ANN, HERE), true, CLOSES, (&[BOB], TIMES));
        assert_eq!(one.act(Actor { now, ..actor(BOB, HERE) }, Act::End).err(), expected);
    }
}
