//! The rules of calls, without a store: what each state allows, what follows from it, and who is told.

use zim_protocol::{CallUserState as State, ErrorCode};

use crate::db::USERS_OF_CALL;
use crate::error::Error;
use crate::key::UserKey;

/// The ID of an installation.
pub(super) type Device = [u8; 16];

/// The most users that a call ever had: their list is in every entry about the call.
pub(super) const MAX_EVER: usize = 100;

/// A call, as far as the rules need it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) is_advanced: bool,
    pub(super) caller: UserKey,
    pub(super) has_ended: bool,
    /// When the call ends that nobody ends; 0: it ends by the answers.
    pub(super) closes_at: i64,
    /// Everybody who ever was in the call or was asked into it. The caller comes first.
    pub(super) members: Vec<Member>,
}

/// A user of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) user: UserKey,
    pub(super) state: State,
    /// The device on which the user is in the call.
    pub(super) device: Option<Device>,
    pub(super) inviter: UserKey,
    /// When the user came into the call; 0: never.
    pub(super) accepted_at: i64,
    /// When the invitation ends.
    pub(super) expires_at: i64,
    /// When the others are told that the invitation is not received; 0: never.
    pub(super) check_at: i64,
}

impl Member {
    /// Whether the user is asked into the call and has not answered.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, State::Inviting | State::Received | State::NotYetReceived)
    }

    /// Whether an answer of the user counts. The time may be over before the task that says so has run.
    fn can_answer(&self, now: i64) -> bool {
        self.is_pending() && self.expires_at > now
    }

    /// Whether the user is in the call or asked into it: whoever is gets the news.
    pub(super) fn is_present(&self) -> bool {
        self.is_pending() || self.state == State::Accepted
    }
}

/// Who acts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    pub(super) user: UserKey,
    /// `None`: the server acts for the user.
    pub(super) device: Option<Device>,
    pub(super) now: i64,
}

/// The times of new invitations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) expires_at: i64,
    /// 0: nobody is told.
    pub(super) check_at: i64,
}

/// What a user does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Asks more users into the call.
    Invite(Vec<UserKey>, Times),
    /// Comes into the call, or makes another device the main one.
    Join,
    /// Takes back the invitations of these users; `None`: the call as a whole.
    Cancel(Option<Vec<UserKey>>),
    Accept,
    Reject,
    Quit,
    End,
}

/// What happens without a user's doing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    /// A device of this user has stored the invitation.
    Received(UserKey),
    /// It is this late.
    Time(i64),
    /// The caller went offline.
    CallerLeft,
}

/// What followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The users who changed.
    pub(super) changed: Vec<UserKey>,
    /// The users who are told, each once: those who were present before, and those who changed.
    pub(super) told: Vec<UserKey>,
    /// The users whom the act could not concern.
    pub(super) refused: Vec<UserKey>,
}

/// Why a user may not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such call, or it has ended.
    NoCall,
    /// The user is not in the call.
    NotIn,
    /// Only the caller may do this.
    NotCaller,
    /// The user was not invited.
    NotInvited,
    /// There is no invitation that waits for the user's answer.
    NoInvitation,
    /// Somebody has accepted.
    Accepted,
    /// None of the named users has an invitation that could be cancelled.
    NothingToCancel,
    /// The user is in the call, on this device.
    InCall,
    /// None of the named users can be invited: all are in the call, or asked into it.
    AllInCall,
    /// A call in general mode has no such thing.
    GeneralMode,
    /// There is no room for so many users.
    Full,
}

impl Refusal {
    /// Returns the error for the caller of the method.
    pub(super) fn error(self, call_id: &str) -> Error {
        let (code, message) = match self {
            Self::NoCall => (ErrorCode::CallModuleDoesNotExist, format!("there is no running call {call_id}")),
            Self::NotIn => (ErrorCode::CallModuleDoesNotExist, format!("you are not in the call {call_id}")),
            Self::NotCaller => (ErrorCode::CallModuleIsNotInvitor, "only the caller can cancel the call".to_owned()),
            Self::NotInvited => {
                (ErrorCode::CallModuleIsNotInvitee, format!("you are not invited to the call {call_id}"))
            }
            Self::NoInvitation => {
                let message = format!("no invitation to the call {call_id} waits for your answer");
                (ErrorCode::CallModuleDoesNotExist, message)
            }
            Self::Accepted => {
                let message = "somebody has accepted, so the call can no longer be cancelled".to_owned();
                (ErrorCode::CallModuleCancelError, message)
            }
            Self::NothingToCancel => {
                let message = "none of these users has an invitation that waits for an answer".to_owned();
                (ErrorCode::CallModuleCancelError, message)
            }
            Self::InCall => {
                (ErrorCode::CallModuleUserAlreadyInTheCall, format!("you are in the call {call_id} already"))
            }
            Self::AllInCall => {
                let message = "all these users are in the call, or asked into it".to_owned();
                (ErrorCode::CallModuleUserAlreadyInTheCall, message)
            }
            Self::GeneralMode => {
                let message = "this is possible only in calls in advanced mode".to_owned();
                (ErrorCode::MessageModuleMessageExceedsEditTime, message)
            }
            Self::Full => {
                let message = format!("at most {USERS_OF_CALL} users are in a call or asked into it");
                (ErrorCode::CallModuleServerError, message)
            }
        };
        Error::new(code, message)
    }
}

impl Call {
    /// Begins a call.
    pub(super) fn begin(
        caller: Actor,
        is_advanced: bool,
        closes_at: i64,
        (invitees, times): (&[UserKey], Times),
    ) -> Self {
        let mut members = vec![Member {
            user: caller.user,
            state: State::Accepted,
            device: caller.device,
            inviter: caller.user,
            accepted_at: caller.now,
            expires_at: 0,
            check_at: 0,
        }];
        members.extend(invitees.iter().map(|user| invited(*user, caller.user, times)));
        Self { is_advanced, caller: caller.user, has_ended: false, closes_at, members }
    }

    /// Returns a user of the call.
    pub(super) fn member(&self, user: UserKey) -> Option<&Member> {
        self.members.iter().find(|member| member.user == user)
    }

    fn member_mut(&mut self, user: UserKey) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.user == user)
    }

    fn set_state(&mut self, user: UserKey, state: State) {
        if let Some(member) = self.member_mut(user) {
            member.state = state;
        }
    }

    /// Returns those for whom `is` holds.
    fn users(&self, is: impl Fn(&Member) -> bool) -> Vec<UserKey> {
        self.members.iter().filter(|member| is(member)).map(|member| member.user).collect()
    }

    /// A user does something. If it is refused, nothing changes.
    pub(super) fn act(&mut self, actor: Actor, act: Act) -> Result<Outcome, Refusal> {
        let is_of_advanced = matches!(act, Act::Invite(..) | Act::Join | Act::Quit | Act::End);
        if is_of_advanced && !self.is_advanced {
            return Err(Refusal::GeneralMode);
        }
        if self.has_ended {
            return Err(Refusal::NoCall);
        }
        let present = self.users(Member::is_present);
        let (changed, refused) = match act {
            Act::Invite(users, times) => self.invite(actor, users, times)?,
            Act::Join => (self.join(actor)?, Vec::new()),
            Act::Cancel(users) => self.cancel(actor, users)?,
            Act::Accept => (self.answer(actor, State::Accepted)?, Vec::new()),
            Act::Reject => (self.answer(actor, State::Rejected)?, Vec::new()),
            Act::Quit => (self.quit(actor)?, Vec::new()),
            Act::End => (self.end(actor)?, Vec::new()),
        };
        self.end_if_over();
        Ok(Outcome { told: told(present, &changed), changed, refused })
    }

    fn invite(
        &mut self,
        actor: Actor,
        users: Vec<UserKey>,
        times: Times,
    ) -> Result<(Vec<UserKey>, Vec<UserKey>), Refusal> {
        self.check_in_call(actor.user)?;
        let is_here = |user: &UserKey| self.member(*user).is_some_and(Member::is_present);
        let (refused, new): (Vec<UserKey>, Vec<UserKey>) = users.into_iter().partition(is_here);
        if new.is_empty() {
            return Err(Refusal::AllInCall);
        }
        let strangers = new.iter().filter(|user| self.member(**user).is_none()).count();
        self.check_room(new.len(), strangers)?;
        for user in &new {
            let invitation = invited(*user, actor.user, times);
            match self.member_mut(*user) {
                Some(member) => *member = Member { accepted_at: member.accepted_at, ..invitation },
                None => self.members.push(invitation),
            }
        }
        Ok((new, refused))
    }

    /// Checks that `more` users can be present, of whom `strangers` never were.
    fn check_room(&self, more: usize, strangers: usize) -> Result<(), Refusal> {
        let has_room =
            self.users(Member::is_present).len() + more <= USERS_OF_CALL && self.members.len() + strangers <= MAX_EVER;
        if has_room { Ok(()) } else { Err(Refusal::Full) }
    }

    fn check_in_call(&self, user: UserKey) -> Result<(), Refusal> {
        match self.member(user) {
            Some(member) if member.state == State::Accepted => Ok(()),
            _ => Err(Refusal::NotIn),
        }
    }

    fn join(&mut self, actor: Actor) -> Result<Vec<UserKey>, Refusal> {
        let (is_member, is_present) =
            self.member(actor.user).map_or((false, false), |member| (true, member.is_present()));
        let is_in = self.check_in_call(actor.user).is_ok();
        if is_in && self.member(actor.user).is_some_and(|member| member.device == actor.device) {
            return Err(Refusal::InCall);
        }
        self.check_room(usize::from(!is_present), usize::from(!is_member))?;
        if !is_member {
            let times = Times { expires_at: 0, check_at: 0 };
            self.members.push(invited(actor.user, self.caller, times));
        }
        self.enter(actor, !is_in);
        Ok(vec![actor.user])
    }

    /// Puts a user into the call on their device.
    fn enter(&mut self, actor: Actor, is_new: bool) {
        if let Some(member) = self.member_mut(actor.user) {
            member.state = State::Accepted;
            member.device = actor.device;
            if is_new {
                member.accepted_at = actor.now;
            }
        }
    }

    fn cancel(&mut self, actor: Actor, users: Option<Vec<UserKey>>) -> Result<(Vec<UserKey>, Vec<UserKey>), Refusal> {
        if actor.user != self.caller {
            return Err(Refusal::NotCaller);
        }
        self.check_in_call(actor.user)?;
        if self.has_an_acceptance() {
            return Err(Refusal::Accepted);
        }
        let can_answer = |member: &Member| member.can_answer(actor.now);
        let Some(users) = users.filter(|_| self.is_advanced) else {
            if !self.is_advanced && !self.members.iter().any(can_answer) {
                // The time of the last invitation is over, and so is the call.
                return Err(Refusal::NoCall);
            }
            return Ok((self.cancel_all(), Vec::new()));
        };
        let is_waiting = |user: &UserKey| self.member(*user).is_some_and(can_answer);
        let (cancelled, refused): (Vec<UserKey>, Vec<UserKey>) = users.into_iter().partition(is_waiting);
        if cancelled.is_empty() {
            return Err(Refusal::NothingToCancel);
        }
        cancelled.iter().for_each(|user| self.set_state(*user, State::BeCancelled));
        Ok((cancelled, refused))
    }

    /// Whether anybody but the caller has ever been in the call.
    fn has_an_acceptance(&self) -> bool {
        self.members.iter().any(|member| member.user != self.caller && member.accepted_at > 0)
    }

    /// The caller takes everything back.
    fn cancel_all(&mut self) -> Vec<UserKey> {
        let pending = self.users(Member::is_pending);
        pending.iter().for_each(|user| self.set_state(*user, State::BeCancelled));
        self.set_state(self.caller, State::Cancelled);
        self.has_ended = true;
        [self.caller].into_iter().chain(pending).collect()
    }

    /// The user answers their invitation.
    fn answer(&mut self, actor: Actor, answer: State) -> Result<Vec<UserKey>, Refusal> {
        // A caller who left may be asked back.
        let is_invited = |member: &&Member| member.user != self.caller || member.is_pending();
        let member = self.member(actor.user).filter(is_invited).ok_or(Refusal::NotInvited)?;
        match (member.state, answer) {
            (State::Accepted, State::Accepted) => return Err(Refusal::InCall),
            _ if !member.can_answer(actor.now) => return Err(Refusal::NoInvitation),
            (_, State::Accepted) => self.enter(actor, true),
            _ => self.set_state(actor.user, answer),
        }
        Ok(vec![actor.user])
    }

    fn quit(&mut self, actor: Actor) -> Result<Vec<UserKey>, Refusal> {
        self.check_in_call(actor.user)?;
        self.set_state(actor.user, State::Quit);
        Ok(vec![actor.user])
    }

    /// The states of the others stay as they are. The only invitee of a call refuses it in this way.
    fn end(&mut self, actor: Actor) -> Result<Vec<UserKey>, Refusal> {
        let can_answer = |member: &Member| member.can_answer(actor.now);
        let is_callee = self.members.len() == 2 && self.member(actor.user).is_some_and(can_answer);
        if !is_callee {
            self.check_in_call(actor.user)?;
        }
        self.set_state(actor.user, State::Ended);
        self.has_ended = true;
        Ok(vec![actor.user])
    }

    /// A call in general mode is over once nobody has to answer; one in advanced mode, once nobody is left.
    fn end_if_over(&mut self) {
        let goes_on = self.members.iter().any(|member| match self.is_advanced {
            true => member.is_present(),
            false => member.is_pending(),
        });
        self.has_ended |= !goes_on;
    }

    /// Something happens. Returns `None` if nothing follows from it.
    pub(super) fn happen(&mut self, happening: Happening) -> Option<Outcome> {
        if self.has_ended {
            return None;
        }
        let present = self.users(Member::is_present);
        let changed = match happening {
            Happening::Received(user) => {
                self.member(user).filter(|member| member.is_pending() && member.state != State::Received)?;
                self.set_state(user, State::Received);
                vec![user]
            }
            Happening::Time(now) => self.pass_time(now)?,
            Happening::CallerLeft => {
                // Who began it without a device is on none.
                let is_here = |member: &Member| member.state == State::Accepted && member.device.is_some();
                if !self.member(self.caller).is_some_and(is_here) || self.has_an_acceptance() {
                    return None;
                }
                self.cancel_all()
            }
        };
        self.end_if_over();
        Some(Outcome { told: told(present, &changed), changed, refused: Vec::new() })
    }

    fn pass_time(&mut self, now: i64) -> Option<Vec<UserKey>> {
        let mut changed = Vec::new();
        for member in &mut self.members {
            if member.is_pending() && member.expires_at <= now {
                member.state = State::Timeout;
            } else if member.state == State::Inviting && member.check_at > 0 && member.check_at <= now {
                member.state = State::NotYetReceived;
            } else {
                continue;
            }
            changed.push(member.user);
        }
        let closes = self.closes_at > 0 && self.closes_at <= now;
        self.has_ended |= closes;
        (closes || !changed.is_empty()).then_some(changed)
    }

    /// When something happens by itself next; `None`: never.
    pub(super) fn next_at(&self) -> Option<i64> {
        if self.has_ended {
            return None;
        }
        let of_member = |member: &Member| {
            let check_at = (member.state == State::Inviting && member.check_at > 0).then_some(member.check_at);
            member.is_pending().then(|| check_at.map_or(member.expires_at, |at| at.min(member.expires_at)))
        };
        let closes_at = (self.closes_at > 0).then_some(self.closes_at);
        self.members.iter().filter_map(of_member).chain(closes_at).min()
    }
}

fn invited(user: UserKey, inviter: UserKey, times: Times) -> Member {
    let Times { expires_at, check_at } = times;
    Member { user, state: State::Inviting, device: None, inviter, accepted_at: 0, expires_at, check_at }
}

/// Returns those who were present, and those who changed.
fn told(mut present: Vec<UserKey>, changed: &[UserKey]) -> Vec<UserKey> {
    present.extend(changed);
    present.sort_unstable();
    present.dedup();
    present
}
