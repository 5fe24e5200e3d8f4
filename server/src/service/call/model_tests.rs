//! Everything that three users with five devices can do in eight steps, and everything that can happen to them meanwhile.

use std::collections::{BTreeMap, HashSet, VecDeque};

use zim_protocol::CallUserState as State;

use super::rules::{Act, Actor, Call, Happening, Member, Outcome, Refusal, Times};
use crate::key::UserKey;

const DEPTH: usize = 8;
/// The users, and how many devices each has.
const DEVICES: [(UserKey, u8); 3] = [(UserKey(1), 2), (UserKey(2), 2), (UserKey(3), 1)];
const CALLER: UserKey = DEVICES[0].0;
/// How long an invitation lasts, when its receipt is checked, and how long a call lasts.
const LASTS: i64 = 10;
const CHECKED: i64 = 3;
const CLOSES: i64 = 1_000;

/// A call, the time, and what each user was told last.
#[derive(Clone, Debug)]
struct World {
    call: Call,
    now: i64,
    told: BTreeMap<UserKey, Call>,
}

/// One step.
#[derive(Clone, Debug)]
enum Step {
    Act(Actor, Act),
    Happens(Happening),
}

fn times(now: i64) -> Times {
    Times { expires_at: now + LASTS, check_at: now + CHECKED }
}

fn device(number: u8) -> [u8; 16] {
    [number + 1; 16]
}

impl World {
    fn begin(is_advanced: bool, invitees: &[UserKey]) -> Self {
        let caller = Actor { user: CALLER, device: Some(device(0)), now: 1 };
        let closes_at = if is_advanced { CLOSES } else { 0 };
        let call = Call::begin(caller, is_advanced, closes_at, (invitees, times(1)));
        let told = call.members.iter().map(|member| (member.user, call.clone())).collect();
        Self { call, now: 1, told }
    }

    /// What tells this state from others: times count from now on.
    fn key(&self) -> Call {
        let mut call = self.call.clone();
        for member in &mut call.members {
            let waits = member.is_pending();
            member.expires_at = if waits { member.expires_at - self.now } else { 0 };
            member.check_at = if waits { (member.check_at - self.now).max(-1) } else { 0 };
            member.accepted_at = member.accepted_at.min(1);
        }
        call.closes_at = 0;
        call
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (user, devices) in DEVICES {
            let others: Vec<UserKey> = DEVICES.into_iter().map(|(other, _)| other).filter(|one| *one != user).collect();
            for number in 0..devices {
                let actor = Actor { user, device: Some(device(number)), now: self.now };
                let some = [vec![others[0]], vec![others[1]], others.clone()];
                let mut acts = vec![Act::Join, Act::Cancel(None), Act::Accept, Act::Reject, Act::Quit, Act::End];
                acts.extend(some.iter().map(|users| Act::Invite(users.clone(), times(self.now))));
                acts.extend(some.iter().map(|users| Act::Cancel(Some(users.clone()))));
                steps.extend(acts.into_iter().map(|act| Step::Act(actor, act)));
            }
            steps.push(Step::Happens(Happening::Received(user)));
        }
        steps.push(Step::Happens(Happening::CallerLeft));
        steps.extend(self.call.next_at().map(|at| Step::Happens(Happening::Time(at))));
        steps
    }

    /// Takes a step. Returns `None` if it is refused, or nothing follows.
    fn after(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        let outcome = match step {
            Step::Act(actor, act) => {
                let done = next.call.act(*actor, act.clone());
                if let Err(refusal) = done {
                    assert_eq!(next.call, self.call, "what is refused changes nothing: {step:?}");
                    let is_over = matches!(refusal, Refusal::NoCall | Refusal::GeneralMode);
                    assert!(is_over || !self.call.has_ended, "{refusal:?} of a call that has ended");
                    return None;
                }
                assert!(!self.call.has_ended, "nobody acts in a call that has ended: {step:?}");
                done.ok()?
            }
            Step::Happens(happening) => {
                if let Happening::Time(at) = happening {
                    assert!(*at > self.now, "time goes on: {step:?}");
                    next.now = *at;
                }
                let Some(outcome) = next.call.happen(*happening) else {
                    assert_eq!(next.call, self.call);
                    assert!(!matches!(happening, Happening::Time(_)), "the timer rang for nothing");
                    return None;
                };
                assert!(!self.call.has_ended, "nothing happens to a call that has ended: {step:?}");
                outcome
            }
        };
        next.check(self, step, &outcome);
        for user in &outcome.told {
            next.told.insert(*user, next.call.clone());
        }
        for member in next.call.members.iter().filter(|member| member.is_present()) {
            assert_eq!(next.told[&member.user], next.call, "{:?} knows the call as it is: {step:?}", member.user);
        }
        Some(next)
    }

    /// What holds for each step.
    fn check(&self, before: &Self, step: &Step, outcome: &Outcome) {
        let state = |world: &Self, user| world.call.member(user).map(|member| member.state);
        let device_of = |world: &Self, user| world.call.member(user).and_then(|member| member.device);
        for (user, _) in DEVICES {
            let was_present = before.call.member(user).is_some_and(Member::is_present);
            let has_changed =
                state(before, user) != state(self, user) || device_of(before, user) != device_of(self, user);
            assert!(!has_changed || outcome.changed.contains(&user), "{user:?} changed unnoticed: {step:?}");
            assert_eq!(outcome.told.contains(&user), was_present || outcome.changed.contains(&user), "{step:?}");
            let enters = state(self, user) == Some(State::Accepted) && has_changed;
            let acts = matches!(step, Step::Act(actor, Act::Join | Act::Accept) if actor.user == user);
            assert!(!enters || acts, "{user:?} is in the call without their doing: {step:?}");
        }
        let Call { is_advanced, has_ended, members, .. } = &self.call;
        assert_eq!(members[0].user, CALLER);
        assert!(members[1..].iter().all(|member| member.state != State::Cancelled));
        assert_ne!(members[0].state, State::BeCancelled);
        assert!(members.iter().filter(|member| member.state == State::Ended).count() <= usize::from(*has_ended));
        let goes_on = members.iter().any(|member| if *is_advanced { member.is_present() } else { member.is_pending() });
        assert!(goes_on || *has_ended, "a call that nobody is in goes on: {step:?}");
        // The timer rings exactly as long as there is something to wait for.
        assert_eq!(self.call.next_at().is_none(), *has_ended, "{step:?}");
        for member in members.iter().filter(|member| member.state == State::Accepted) {
            assert!(member.device.is_some() && member.accepted_at > 0, "{member:?}");
        }
    }

    /// Nothing happens by itself before the timer rings.
    fn check_timer(&self) {
        if let Some(at) = self.call.next_at() {
            assert_eq!(self.call.clone().happen(Happening::Time(at - 1)), None, "the timer rings too late: {self:?}");
        }
    }

    /// Nobody does anything more: the call ends all the same.
    fn check_that_it_ends(&self) {
        let (mut world, mut steps) = (self.clone(), 0);
        while let Some(at) = world.call.next_at() {
            world = world.after(&Step::Happens(Happening::Time(at))).unwrap();
            steps += 1;
            assert!(steps <= 2 * DEVICES.len() + 1, "the call does not end: {self:?}");
        }
        assert!(world.call.has_ended);
    }
}

#[test]
fn all_runs_of_eight_steps_keep_the_rules_and_every_call_ends() {
    let (bob, eve) = (DEVICES[1].0, DEVICES[2].0);
    let mut states = 0;
    for (is_advanced, invitees) in
        [(true, vec![bob, eve]), (true, vec![bob]), (false, vec![bob, eve]), (false, vec![bob])]
    {
        let begin = World::begin(is_advanced, &invitees);
        let (mut seen, mut waiting) = (HashSet::from([begin.key()]), VecDeque::from([(begin, 0)]));
        let mut endings = HashSet::new();
        while let Some((world, depth)) = waiting.pop_front() {
            world.check_that_it_ends();
            world.check_timer();
            if world.call.has_ended {
                endings.insert(world.call.members.iter().map(|member| member.state as i32).collect::<Vec<_>>());
            }
            if depth == DEPTH {
                continue;
            }
            for step in world.steps() {
                if let Some(next) = world.after(&step)
                    && seen.insert(next.key())
                {
                    waiting.push_back((next, depth + 1));
                }
            }
        }
        states += seen.len();
        // It is no proof of anything if hardly anything was tried.
        assert!(endings.len() >= if is_advanced { 50 } else { 4 }, "{is_advanced} {}", endings.len());
    }
    assert!(states > 5_000, "{states}");
}
