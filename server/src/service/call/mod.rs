//! Call invitations. A job changes a call under the lock of the call and of all users who are in it or asked into it, and adds
//! the call, as it is then, to the feed of each of them: so a device that was away and one on another node learn of it in the same
//! way. Devices compare the call with what they knew, and raise what is new.

#[cfg(test)]
mod model_tests;
mod rules;
#[cfg(test)]
mod rules_tests;
mod store;
mod timer;

use std::collections::HashMap;
use std::sync::Arc;

use zim_protocol::{
    CallAcceptRequest, CallAcceptanceSentResult, CallCancelRequest, CallCancelSentResult, CallEndRequest,
    CallEndSentResult, CallInvitationListQueriedResult, CallInvitationMode, CallInvitationSentResult,
    CallInviteRequest, CallJoinRequest, CallJoinSentResult, CallQuitRequest, CallQuitSentResult, CallRejectRequest,
    CallRejectionSentResult, CallingInvitationSentResult, CallingInviteRequest, QueryCallInvitationListRequest,
    server::CallService,
};

use self::rules::{Act, Actor, Call, Happening, Outcome, Refusal, Times};
pub(crate) use self::store::CALL;
use self::store::Stored;
pub(crate) use self::timer::{CALLER_LEFT, TIMER};
use crate::app::{App, Named};
use crate::connection::{Caller, ConnectionState};
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::{CallKey, UserKey};
use crate::push::{NewPush, PushKind};
use crate::service::rows::Page;

/// How long an invitee has for the answer if the caller does not say, seconds.
const DEFAULT_TIMEOUT_S: i64 = 90;
/// The most calls on a page.
const MAX_PAGE: i64 = 100;

impl CallService for App {
    async fn call_invite(
        &self,
        caller: &Caller,
        request: CallInviteRequest,
    ) -> Result<CallInvitationSentResult, Error> {
        let identity = caller.identity()?;
        let config = request.config.unwrap_or_default();
        let is_advanced = match config.mode() {
            CallInvitationMode::General => false,
            CallInvitationMode::Advanced => true,
            CallInvitationMode::Unknown => {
                return Err(Error::params_invalid("config.mode must be general or advanced"));
            }
        };
        let named = self.resolve_users(caller, request.invitees, Error::invitee_not_found).await?;
        let named = named.without(identity.user, || Refusal::InCall.error("that you begin"));
        let invitees = named.found.clone();
        let error_user_list = named.finish()?;
        let key = CallKey(self.ids.next());
        let public_id = self.tenants.of(identity.app)?.scrambler.public(key.0);
        let (actor, timeout_s) = (self.actor(caller)?, config.timeout.unwrap_or(DEFAULT_TIMEOUT_S));
        let users: Vec<UserKey> = invitees.iter().map(|(user, _)| *user).collect();
        let times = self.times(actor.now, timeout_s, config.enable_not_received_check);
        let closes_at = if is_advanced { actor.now + i64::from(self.config.limits.max_call_s) * 1_000 } else { 0 };
        let mut stored = Stored {
            key,
            app: identity.app,
            public_id,
            checks_received: config.enable_not_received_check,
            timeout_s,
            extended_data: config.extended_data.clone(),
            created_at: actor.now,
            ended_at: 0,
            operator: UserKey(0),
            operated_data: String::new(),
            has_new_operator: false,
            timer_at: 0,
            // Below 2^53, and different for two calls of one moment.
            place: actor.now * 1_024 + public_id % 1_024,
            call: Call::begin(actor, is_advanced, closes_at, (&users, times)),
            people: HashMap::new(),
        };
        stored.say(actor.user, &identity.user_id, &config.extended_data);
        invitees.iter().for_each(|(user, user_id)| stored.say(*user, user_id, ""));
        let push = self.new_push(identity, PushKind::CallInvitation, config.push_config.as_ref())?;
        let scope = Scope::user(actor.user).and_users(users.iter().copied());
        let call_id = stored.call_id();
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| {
            stored.insert(tx, log).await?;
            match push {
                Some(push) => push.insert(tx, (key, 0), &users).await,
                None => Ok(()),
            }
        };
        caller.write(&self.db, scope, job).await?;
        Ok(CallInvitationSentResult { call_id, timeout: timeout_s, error_user_list })
    }

    async fn calling_invite(
        &self,
        caller: &Caller,
        request: CallingInviteRequest,
    ) -> Result<CallingInvitationSentResult, Error> {
        let call_id = request.call_id;
        let key = self.call_key(caller, &call_id)?;
        let named = self.resolve_users(caller, request.invitees, Error::invitee_not_found).await?;
        if named.found.is_empty() {
            return named.finish().map(|error_user_list| CallingInvitationSentResult { call_id, error_user_list });
        }
        let new = named.found.clone();
        // The times follow from the call, in the job.
        let act = Act::Invite(named.keys(), NO_TIMES);
        let config = request.config.unwrap_or_default();
        let push = self.new_push(caller.identity()?, PushKind::CallInvitation, config.push_config.as_ref())?;
        let change = Change { new, push, ..Change::new(key, &call_id, act) };
        let (_, outcome) = self.change(caller, change).await?;
        let error_user_list = left_out(named, &outcome, Refusal::AllInCall, &call_id).finish()?;
        Ok(CallingInvitationSentResult { call_id, error_user_list })
    }

    async fn call_join(&self, caller: &Caller, request: CallJoinRequest) -> Result<CallJoinSentResult, Error> {
        let (identity, call_id) = (caller.identity()?, request.call_id);
        let key = self.call_key(caller, &call_id)?;
        let new = vec![(identity.user, identity.user_id.to_string())];
        let said = request.config.unwrap_or_default().extended_data;
        let change = Change { new, said, ..Change::new(key, &call_id, Act::Join) };
        let (stored, _) = self.change(caller, change).await?;
        Ok(CallJoinSentResult {
            call_id,
            create_time: stored.created_at,
            join_time: accepted_at(&stored, identity.user),
            extended_data: stored.extended_data.clone(),
            call_user_list: stored.users(),
        })
    }

    async fn call_cancel(&self, caller: &Caller, request: CallCancelRequest) -> Result<CallCancelSentResult, Error> {
        let call_id = request.call_id;
        let key = self.call_key(caller, &call_id)?;
        let is_whole = request.invitees.is_empty();
        let named = self.resolve_users(caller, request.invitees, Error::invitee_not_found).await?;
        let act = Act::Cancel((!is_whole).then(|| named.keys()));
        let config = request.config.unwrap_or_default();
        let push = self.new_push(caller.identity()?, PushKind::CallCancellation, config.push_config.as_ref())?;
        let change = Change { said: config.extended_data, push, ..Change::new(key, &call_id, act) };
        let (stored, outcome) = self.change(caller, change).await?;
        // A call in general mode is cancelled as a whole, whoever is named.
        if is_whole || !stored.call.is_advanced {
            return Ok(CallCancelSentResult { call_id, error_invitees: Vec::new() });
        }
        let left_out = left_out(named, &outcome, Refusal::NothingToCancel, &call_id).finish()?;
        Ok(CallCancelSentResult { call_id, error_invitees: left_out.into_iter().map(|user| user.user_id).collect() })
    }

    async fn call_accept(
        &self,
        caller: &Caller,
        request: CallAcceptRequest,
    ) -> Result<CallAcceptanceSentResult, Error> {
        let call_id = request.call_id;
        let said = request.config.unwrap_or_default().extended_data;
        let key = self.call_key(caller, &call_id)?;
        self.change(caller, Change { said, ..Change::new(key, &call_id, Act::Accept) }).await?;
        Ok(CallAcceptanceSentResult { call_id })
    }

    async fn call_reject(&self, caller: &Caller, request: CallRejectRequest) -> Result<CallRejectionSentResult, Error> {
        let call_id = request.call_id;
        let said = request.config.unwrap_or_default().extended_data;
        let key = self.call_key(caller, &call_id)?;
        self.change(caller, Change { said, ..Change::new(key, &call_id, Act::Reject) }).await?;
        Ok(CallRejectionSentResult { call_id })
    }

    async fn call_quit(&self, caller: &Caller, request: CallQuitRequest) -> Result<CallQuitSentResult, Error> {
        let call_id = request.call_id;
        let config = request.config.unwrap_or_default();
        let key = self.call_key(caller, &call_id)?;
        let push = self.new_push(caller.identity()?, PushKind::CallQuit, config.push_config.as_ref())?;
        let change = Change { said: config.extended_data, push, ..Change::new(key, &call_id, Act::Quit) };
        let (stored, _) = self.change(caller, change).await?;
        Ok(CallQuitSentResult {
            call_id,
            create_time: stored.created_at,
            accept_time: accepted_at(&stored, caller.identity()?.user),
            quit_time: stored.changed_at,
        })
    }

    async fn call_end(&self, caller: &Caller, request: CallEndRequest) -> Result<CallEndSentResult, Error> {
        let call_id = request.call_id;
        let config = request.config.unwrap_or_default();
        let key = self.call_key(caller, &call_id)?;
        let push = self.new_push(caller.identity()?, PushKind::CallEnd, config.push_config.as_ref())?;
        let change = Change { said: config.extended_data, push, ..Change::new(key, &call_id, Act::End) };
        let (stored, _) = self.change(caller, change).await?;
        Ok(CallEndSentResult {
            call_id,
            create_time: stored.created_at,
            accept_time: accepted_at(&stored, caller.identity()?.user),
            end_time: stored.ended_at,
        })
    }

    async fn query_call_invitation_list(
        &self,
        caller: &Caller,
        request: QueryCallInvitationListRequest,
    ) -> Result<CallInvitationListQueriedResult, Error> {
        let (user, config) = (caller.identity()?.user, request.config.unwrap_or_default());
        let page = Page::new(config.next_flag, config.count.min(MAX_PAGE));
        let (call_list, next_flag) = self.db.read(async move |tx| store::page(tx, user, page).await).await?;
        Ok(CallInvitationListQueriedResult { call_list, next_flag })
    }
}

/// Times that the job replaces.
const NO_TIMES: Times = Times { expires_at: 0, check_at: 0 };

/// What a user asks of a call.
#[derive(Clone, Debug)]
struct Change {
    key: CallKey,
    call_id: String,
    act: Act,
    /// What the user says.
    said: String,
    /// Users who may be new to the call.
    new: Vec<(UserKey, String)>,
    /// What devices are told that are away.
    push: Option<NewPush>,
}

impl Change {
    fn new(key: CallKey, call_id: &str, act: Act) -> Self {
        Self { key, call_id: call_id.to_owned(), act, said: String::new(), new: Vec::new(), push: None }
    }
}

impl App {
    /// Returns the key of a call that a request names, which need not exist.
    fn call_key(&self, caller: &Caller, call_id: &str) -> Result<CallKey, Error> {
        let scrambler = &self.tenants.of(caller.identity()?.app)?.scrambler;
        let public = call_id.parse::<i64>().ok().filter(|id| *id >= 0 && id.to_string() == call_id);
        let key =
            public.map(|public| scrambler.stored(public)).filter(|key| scrambler.public(*key).to_string() == call_id);
        key.map(CallKey).ok_or_else(|| Refusal::NoCall.error(call_id))
    }

    fn actor(&self, caller: &Caller) -> Result<Actor, Error> {
        let identity = caller.identity()?;
        // A one-shot login is no device: all devices of its user get the events.
        let connection = caller.connection().ok().filter(|_| !identity.one_shot);
        let device = connection.map(|connection| connection.device);
        Ok(Actor { user: identity.user, device, now: self.clock.now_ms() })
    }

    fn times(&self, now: i64, timeout_s: i64, checks_received: bool) -> Times {
        let check_at = now + i64::from(self.config.limits.call_received_within_ms);
        Times { expires_at: now + timeout_s * 1_000, check_at: if checks_received { check_at } else { 0 } }
    }

    /// Changes a call as its caller asks. Returns the call afterwards.
    async fn change(&self, caller: &Caller, change: Change) -> Result<(Changed, Outcome), Error> {
        let identity = caller.identity()?;
        let (app, actor, user_id) = (identity.app, self.actor(caller)?, Arc::clone(&identity.user_id));
        let within_ms = self.config.limits.call_received_within_ms;
        let Change { key, call_id, mut act, said, new, push } = change;
        let scope = Scope::call(key).and_users(new.iter().map(|(user, _)| *user));
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| {
            let no_call = || Refusal::NoCall.error(&call_id);
            let mut stored = store::find(tx, key, app).await?.ok_or_else(no_call)?;
            if let Act::Invite(_, times) = &mut act {
                let check_at = if stored.checks_received { actor.now + i64::from(within_ms) } else { 0 };
                *times = Times { expires_at: actor.now + stored.timeout_s * 1_000, check_at };
            }
            let is_partial = stored.call.is_advanced && matches!(act, Act::Cancel(Some(_)));
            let (says, operates) =
                (!is_partial && !matches!(act, Act::Invite(..)), matches!(act, Act::Cancel(_) | Act::End));
            let outcome = stored.call.act(actor, act).map_err(|refusal| refusal.error(&call_id))?;
            new.iter()
                .filter(|(user, _)| outcome.changed.contains(user))
                .for_each(|(user, id)| stored.say(*user, id, ""));
            if says {
                stored.say(actor.user, &user_id, &said);
            }
            if operates {
                stored.note_operator(actor.user, &said);
            }
            stored.save(tx, log, &outcome, actor.now).await?;
            if let Some(push) = push {
                // Who leaves or ends a call changes only themselves, and all others are told.
                let mut receivers = match push.kind {
                    PushKind::CallQuit | PushKind::CallEnd => {
                        stored.call.members.iter().map(|member| member.user).collect()
                    }
                    _ => outcome.changed.clone(),
                };
                receivers.retain(|user| *user != actor.user);
                if !receivers.is_empty() {
                    push.insert(tx, (key, 0), &receivers).await?;
                }
            }
            Ok((Changed { stored, changed_at: actor.now }, outcome))
        };
        caller.write(&self.db, scope, job).await
    }

    /// A device has stored its feed up to a position: the invitations in it are received.
    pub(crate) fn call_invitations_received(&self, connection: &ConnectionState, through: i64) {
        let Some(identity) = connection.identity() else { return };
        let Ok(tenant) = self.tenants.of(identity.app) else { return };
        let (user, now) = (identity.user, self.clock.now_ms());
        for public in connection.take_ringing(through) {
            let key = CallKey(tenant.scrambler.stored(public));
            // If the job fails, the invitation counts as not received.
            drop(self.db.submit(Scope::call(key).for_app(identity.app, 0), async move |tx| {
                let mut log = LogWriter::new(None);
                let Some(mut stored) = store::load(tx, key).await? else { return Ok(()) };
                timer::happen(tx, &mut log, &mut stored, Happening::Received(user), now).await?;
                log.finish(tx).await.map(drop)
            }));
        }
    }
}

/// A call after a change.
#[derive(Debug)]
struct Changed {
    stored: Stored,
    changed_at: i64,
}

impl std::ops::Deref for Changed {
    type Target = Stored;

    fn deref(&self) -> &Stored {
        &self.stored
    }
}

/// When a user came into the call.
fn accepted_at(stored: &Stored, user: UserKey) -> i64 {
    stored.call.member(user).map_or(0, |member| member.accepted_at)
}

/// Leaves out the users whom an act could not concern.
fn left_out(mut named: Named, outcome: &Outcome, reason: Refusal, call_id: &str) -> Named {
    named.leave_out(|user, _| outcome.refused.contains(&user).then(|| reason.error(call_id)));
    named
}
