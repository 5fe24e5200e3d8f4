//! Call invitations: each method, what it refuses, and who is told of it.

use zim_integration_tests::{Device, World, refusal, soon};
use zim_protocol::{
    CallAcceptConfig, CallCancelConfig, CallEndConfig, CallInvitationCreatedEvent, CallInvitationMode as Mode,
    CallInvitationQueryConfig, CallInvitationReceivedEvent, CallInviteConfig, CallInviteRequest, CallJoinConfig,
    CallQuitConfig, CallRejectConfig, CallState, CallUserInfo, CallUserState as State, CallingInviteConfig, ErrorCode,
    Event, EventKind,
};

pub(crate) const NONE: ErrorCode = ErrorCode::CallModuleDoesNotExist;
pub(crate) const NOT_CALLER: ErrorCode = ErrorCode::CallModuleIsNotInvitor;
pub(crate) const NOT_INVITED: ErrorCode = ErrorCode::CallModuleIsNotInvitee;
pub(crate) const TOO_LATE: ErrorCode = ErrorCode::CallModuleCancelError;
pub(crate) const IN_CALL: ErrorCode = ErrorCode::CallModuleUserAlreadyInTheCall;
pub(crate) const TOO_MANY: ErrorCode = ErrorCode::CallModuleServerError;
pub(crate) const UNREGISTERED: ErrorCode = ErrorCode::CallModuleInviteUserDoesNotExist;
/// The reference has one number for this and for an edit that comes too late.
pub(crate) const NOT_ADVANCED: ErrorCode = ErrorCode::MessageModuleMessageExceedsEditTime;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

/// A user of a call as a test compares them.
pub(crate) type Shown = (String, State);

pub(crate) fn shown(users: &[(&str, State)]) -> Vec<Shown> {
    users.iter().map(|(user, state)| ((*user).to_owned(), *state)).collect()
}

pub(crate) fn show(users: &[CallUserInfo]) -> Vec<Shown> {
    users.iter().map(|user| (user.user_id.clone(), user.state())).collect()
}

pub(crate) fn config(mode: Mode) -> CallInviteConfig {
    CallInviteConfig { mode: mode as i32, extended_data: "video".to_owned(), ..CallInviteConfig::default() }
}

/// Begins a call. Returns its ID.
pub(crate) async fn invite(device: &Device, mode: Mode, invitees: &[&str]) -> String {
    let sent = soon(device.call_invite(invitees.iter().copied(), config(mode))).await.unwrap();
    assert_eq!(sent.error_user_list, []);
    sent.call_id
}

pub(crate) async fn accept(device: &Device, call_id: &str) -> Result<(), zim_client_sdk::Error> {
    let config = CallAcceptConfig { extended_data: "yes".to_owned() };
    soon(device.call_accept(call_id, config)).await.map(|sent| assert_eq!(sent.call_id, call_id))
}

pub(crate) async fn reject(device: &Device, call_id: &str) -> Result<(), zim_client_sdk::Error> {
    let config = CallRejectConfig { extended_data: "no".to_owned() };
    soon(device.call_reject(call_id, config)).await.map(|sent| assert_eq!(sent.call_id, call_id))
}

/// Cancels invitations, or the call. Returns those that could not be cancelled.
pub(crate) async fn cancel(
    device: &Device,
    call_id: &str,
    invitees: &[&str],
) -> Result<Vec<String>, zim_client_sdk::Error> {
    let config = CallCancelConfig { extended_data: "sorry".to_owned(), ..CallCancelConfig::default() };
    let sent = soon(device.call_cancel(invitees.iter().copied(), call_id, config)).await?;
    assert_eq!(sent.call_id, call_id);
    Ok(sent.error_invitees)
}

/// Invites more. Returns those who could not be invited, with the reasons.
pub(crate) async fn invite_more(
    device: &Device,
    call_id: &str,
    invitees: &[&str],
) -> Result<Vec<(String, i64)>, zim_client_sdk::Error> {
    let config = CallingInviteConfig::default();
    let sent = soon(device.calling_invite(invitees.iter().copied(), call_id, config)).await?;
    assert_eq!(sent.call_id, call_id);
    Ok(sent.error_user_list.into_iter().map(|user| (user.user_id, user.reason)).collect())
}

pub(crate) async fn join(device: &Device, call_id: &str) -> Result<Vec<Shown>, zim_client_sdk::Error> {
    let joined = soon(device.call_join(call_id, CallJoinConfig::default())).await?;
    assert_eq!((joined.call_id.as_str(), joined.extended_data.as_str()), (call_id, "video"));
    Ok(show(&joined.call_user_list))
}

pub(crate) async fn quit(device: &Device, call_id: &str) -> Result<(), zim_client_sdk::Error> {
    soon(device.call_quit(call_id, CallQuitConfig::default())).await.map(drop)
}

pub(crate) async fn end(device: &Device, call_id: &str) -> Result<(), zim_client_sdk::Error> {
    let config = CallEndConfig { extended_data: "bye".to_owned(), ..CallEndConfig::default() };
    soon(device.call_end(call_id, config)).await.map(drop)
}

/// The users of the next `callUserStateChanged`.
pub(crate) async fn changed(device: &Device) -> Vec<Shown> {
    match device.next(EventKind::CallUserStateChanged).await {
        Event::CallUserStateChanged(event) => show(&event.call_user_list),
        other => panic!("{other:?}"),
    }
}

/// Waits until a user of the call has this state, as far as a device was told.
pub(crate) async fn becomes(device: &Device, call_id: &str, user: &str, state: State) {
    let is = |event: &Event| match event {
        Event::CallUserStateChanged(event) => {
            event.call_id == call_id
                && event.call_user_list.iter().any(|one| one.user_id == user && one.state() == state)
        }
        _ => false,
    };
    device.until(&format!("{user} is {state:?}"), |seen| seen.iter().any(is).then_some(())).await;
}

pub(crate) async fn received(device: &Device) -> CallInvitationReceivedEvent {
    match device.next(EventKind::CallInvitationReceived).await {
        Event::CallInvitationReceived(event) => event,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn created(device: &Device) -> CallInvitationCreatedEvent {
    match device.next(EventKind::CallInvitationCreated).await {
        Event::CallInvitationCreated(event) => event,
        other => panic!("{other:?}"),
    }
}

/// The calls of a user: their IDs, their states, the users.
pub(crate) async fn list(device: &Device) -> Vec<(String, CallState, Vec<Shown>)> {
    let config = CallInvitationQueryConfig { count: 100, next_flag: 0 };
    let found = soon(device.query_call_invitation_list(config)).await.unwrap();
    assert_eq!(found.next_flag, 0);
    found.call_list.iter().map(|call| (call.call_id.clone(), call.state(), show(&call.call_user_list))).collect()
}

/// How many events of calls a device has had.
pub(crate) fn told(device: &Device) -> usize {
    device.seen().iter().filter(|event| event.kind().name().starts_with("call")).count()
}

/// What was pushed to the devices before this has arrived.
pub(crate) async fn barrier(from: &Device, devices: &[(&str, &Device)], text: &str) {
    for (user, device) in devices {
        from.say(*user, text).await;
        device.receives(text).await;
    }
}

#[tokio::test]
async fn call_invite_rings_on_all_devices_of_the_invitees() {
    let world = World::new().await;
    let (ann, tablet) = (world.user("ann").await, world.device("ann").await);
    let (bob, phone, eve) = (world.user("bob").await, world.device("bob").await, world.user("eve").await);
    let sent = soon(ann.call_invite(["bob", "nobody"], config(Mode::General))).await.unwrap();
    let call_id = sent.call_id;
    assert!(call_id.len() <= 20 && call_id.bytes().all(|byte| byte.is_ascii_digit()), "{call_id}");
    assert_eq!(sent.timeout, 90);
    let failed: Vec<_> = sent.error_user_list.iter().map(|user| (user.user_id.as_str(), user.reason)).collect();
    assert_eq!(failed, [("nobody", i64::from(UNREGISTERED as i32))]);
    let users = shown(&[("ann", State::Accepted), ("bob", State::Inviting)]);
    for device in [&ann, &tablet] {
        let event = created(device).await;
        assert_eq!((event.call_id.as_str(), event.mode(), event.caller.as_str()), (&*call_id, Mode::General, "ann"));
        assert_eq!((event.extended_data.as_str(), event.timeout), ("video", 90));
        assert_eq!((event.create_time, show(&event.call_user_list)), (world.clock.now_ms(), users.clone()));
    }
    for device in [&bob, &phone] {
        let event = received(device).await;
        assert_eq!((event.call_id.as_str(), event.mode()), (&*call_id, Mode::General));
        assert_eq!((event.caller.as_str(), event.inviter.as_str()), ("ann", "ann"));
        assert_eq!((event.extended_data.as_str(), event.timeout), ("video", 90));
        assert_eq!((event.create_time, show(&event.call_user_list)), (world.clock.now_ms(), users.clone()));
    }
    // The device that called learns who is in the call, and then that the invitation has arrived; so do the invitee's devices.
    assert_eq!(changed(&ann).await, users);
    for device in [&ann, &bob, &phone] {
        assert_eq!(changed(device).await, shown(&[("bob", State::Received)]));
    }
    barrier(&ann, &[("bob", &bob), ("bob", &phone), ("eve", &eve), ("eve", &tablet)], "now").await;
    assert_eq!([&ann, &tablet, &bob, &phone, &eve].map(told), [3, 1, 2, 2, 0]);
    world.end().await;
}

#[tokio::test]
async fn call_invite_takes_9_invitees_10_minutes_and_2_kb() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut raw = world.raw_user("eve", 9).await;
    let names: Vec<String> = (0..9).map(|number| format!("user{number}")).collect();
    world.register(&names).await;
    let request = |invitees: &[String], config: CallInviteConfig| CallInviteRequest {
        invitees: invitees.to_vec(),
        config: Some(config),
    };
    let most = CallInviteConfig {
        timeout: Some(600),
        mode: Mode::Advanced as i32,
        extended_data: "x".repeat(2_048),
        ..CallInviteConfig::default()
    };
    assert_eq!(soon(ann.call_invite(names.clone(), most.clone())).await.unwrap().timeout, 600);
    assert_eq!(raw.call(&request(&names, most.clone())).await.unwrap().timeout, 600);
    let least = CallInviteConfig { timeout: Some(1), ..CallInviteConfig::default() };
    assert_eq!(soon(ann.call_invite(["user1"], least)).await.unwrap().timeout, 1);
    let too_many: Vec<String> = (0..10).map(|number| format!("user{number}")).collect();
    let with = |edit: &dyn Fn(&mut CallInviteConfig)| {
        let mut config = most.clone();
        edit(&mut config);
        config
    };
    let one = vec!["user1".to_owned()];
    for (invitees, config, code) in [
        (too_many, most.clone(), TOO_MANY),
        (Vec::new(), most.clone(), INVALID),
        (vec![String::new()], most.clone(), INVALID),
        (one.clone(), with(&|config| config.timeout = Some(0)), INVALID),
        (one.clone(), with(&|config| config.timeout = Some(601)), INVALID),
        (one.clone(), with(&|config| config.mode = -1), INVALID),
        (one.clone(), with(&|config| config.mode = 2), INVALID),
        (one.clone(), with(&|config| config.extended_data.push('x')), INVALID),
        (vec!["nobody".to_owned(), "none".to_owned()], most.clone(), UNREGISTERED),
    ] {
        assert_eq!(refusal(soon(ann.call_invite(invitees.clone(), config.clone())).await), code, "{config:?}");
        let refused = raw.call(&request(&invitees, config)).await.unwrap_err();
        assert_eq!(refused.code, code as i32, "{invitees:?}");
    }
    // Nobody calls themselves.
    assert_eq!(refusal(soon(ann.call_invite(["ann"], most.clone())).await), IN_CALL);
    world.clock.advance(1);
    let sent = soon(ann.call_invite(["ann", "user1", "user1"], most)).await.unwrap();
    assert_eq!(sent.error_user_list[0].reason, i64::from(IN_CALL as i32));
    assert_eq!((sent.error_user_list.len(), list(&ann).await[0].2.len()), (1, 2));
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn call_accept_stops_the_ringing_and_ends_a_call_in_general_mode() {
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    let eve = world.user("eve").await;
    let call_id = invite(&ann, Mode::General, &["bob", "eve"]).await;
    for device in [&bob, &phone, &eve] {
        received(device).await;
    }
    for user in ["bob", "eve"] {
        becomes(&ann, &call_id, user, State::Received).await;
    }
    accept(&phone, &call_id).await.unwrap();
    for device in [&ann, &bob, &phone, &eve] {
        becomes(device, &call_id, "bob", State::Accepted).await;
    }
    // Only once, and with what Bob said.
    let accepted = |event: &Event| match event {
        Event::CallUserStateChanged(event) => event.call_user_list.iter().any(|user| user.extended_data == "yes"),
        _ => false,
    };
    assert_eq!([&ann, &bob, &phone, &eve].map(|one| one.seen().into_iter().filter(accepted).count()), [1; 4]);
    assert_eq!(list(&eve).await[0].1, CallState::Started);
    let before = told(&bob);
    reject(&eve, &call_id).await.unwrap();
    for device in [&ann, &phone, &eve] {
        becomes(device, &call_id, "eve", State::Rejected).await;
    }
    barrier(&ann, &[("bob", &bob)], "now").await;
    assert_eq!(told(&bob), before, "Bob is in the call on the other device");
    let users = shown(&[("ann", State::Accepted), ("bob", State::Accepted), ("eve", State::Rejected)]);
    for device in [&ann, &bob, &eve] {
        assert_eq!(list(device).await, [(call_id.clone(), CallState::Ended, users.clone())]);
        assert!(device.seen_of(EventKind::CallInvitationEnded).is_empty());
    }
    world.end().await;
}

#[tokio::test]
async fn call_accept_and_call_reject_are_refused_without_an_invitation_that_waits() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (eve, dan) = (world.user("eve").await, world.user("dan").await);
    let call_id = invite(&ann, Mode::Advanced, &["bob", "eve"]).await;
    accept(&bob, &call_id).await.unwrap();
    reject(&eve, &call_id).await.unwrap();
    for (device, to_accept, to_reject) in
        [(&ann, NOT_INVITED, NOT_INVITED), (&bob, IN_CALL, NONE), (&eve, NONE, NONE), (&dan, NOT_INVITED, NOT_INVITED)]
    {
        assert_eq!(refusal(accept(device, &call_id).await), to_accept);
        assert_eq!(refusal(reject(device, &call_id).await), to_reject);
    }
    end(&ann, &call_id).await.unwrap();
    for device in [&ann, &bob, &eve, &dan] {
        assert_eq!(refusal(accept(device, &call_id).await), NONE);
        assert_eq!(refusal(reject(device, &call_id).await), NONE);
    }
    // No such call, in whatever words.
    for bad in ["1", "0", "-1", "007", "x", &format!("0{call_id}"), "99999999999999999999"] {
        assert_eq!(refusal(accept(&bob, bad).await), NONE, "{bad}");
        assert_eq!(refusal(reject(&bob, bad).await), NONE, "{bad}");
    }
    for bad in ["", "999999999999999999999"] {
        assert_eq!(refusal(accept(&bob, bad).await), INVALID, "{bad}");
        assert_eq!(refusal(reject(&bob, bad).await), INVALID, "{bad}");
    }
    let said = |bytes: usize| "x".repeat(bytes);
    let call_id = invite(&ann, Mode::Advanced, &["bob", "eve"]).await;
    for bytes in [2_049, 2_048] {
        let accepted = soon(bob.call_accept(&call_id, CallAcceptConfig { extended_data: said(bytes) })).await;
        let rejected = soon(eve.call_reject(&call_id, CallRejectConfig { extended_data: said(bytes) })).await;
        assert_eq!((accepted.is_ok(), rejected.is_ok()), (bytes == 2_048, bytes == 2_048));
    }
    world.end().await;
}

#[tokio::test]
async fn call_reject_tells_the_caller() {
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    let call_id = invite(&ann, Mode::General, &["bob"]).await;
    received(&phone).await;
    reject(&bob, &call_id).await.unwrap();
    for device in [&ann, &bob, &phone] {
        becomes(device, &call_id, "bob", State::Rejected).await;
    }
    let users = shown(&[("ann", State::Accepted), ("bob", State::Rejected)]);
    assert_eq!(list(&ann).await, [(call_id.clone(), CallState::Ended, users)]);
    assert_eq!(refusal(cancel(&ann, &call_id, &[]).await), NONE);
    world.end().await;
}

#[tokio::test]
async fn call_cancel_takes_a_call_in_general_mode_back_as_a_whole() {
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    let eve = world.user("eve").await;
    let call_id = invite(&ann, Mode::General, &["bob", "eve"]).await;
    received(&eve).await;
    assert_eq!(refusal(cancel(&bob, &call_id, &[]).await), NOT_CALLER);
    // Whoever is named.
    assert_eq!(cancel(&ann, &call_id, &["bob"]).await.unwrap(), [] as [String; 0]);
    let all = shown(&[("ann", State::Cancelled), ("bob", State::BeCancelled), ("eve", State::BeCancelled)]);
    for device in [&bob, &phone, &eve] {
        match device.next(EventKind::CallInvitationCancelled).await {
            Event::CallInvitationCancelled(event) => {
                assert_eq!((event.call_id.as_str(), event.mode()), (&*call_id, Mode::General));
                assert_eq!((event.inviter.as_str(), event.extended_data.as_str()), ("ann", "sorry"));
            }
            other => panic!("{other:?}"),
        }
        let is_last = |seen: &[Event]| match seen.last() {
            Some(Event::CallUserStateChanged(event)) => (show(&event.call_user_list) == all).then_some(()),
            _ => None,
        };
        device.until("all are cancelled", is_last).await;
    }
    let own = |seen: &[Event]| match seen.last() {
        Some(Event::CallUserStateChanged(event)) => {
            (show(&event.call_user_list) == shown(&[("ann", State::Cancelled)])).then_some(())
        }
        _ => None,
    };
    ann.until("the call is cancelled", own).await;
    assert!(ann.seen_of(EventKind::CallInvitationCancelled).is_empty(), "it was theirs to cancel");
    assert_eq!(list(&bob).await, [(call_id.clone(), CallState::Ended, all)]);
    assert_eq!(refusal(accept(&bob, &call_id).await), NONE);
    // Somebody has accepted: it is too late.
    let call_id = invite(&ann, Mode::General, &["bob", "eve"]).await;
    accept(&bob, &call_id).await.unwrap();
    assert_eq!(refusal(cancel(&ann, &call_id, &[]).await), TOO_LATE);
    assert_eq!(refusal(cancel(&eve, &call_id, &[]).await), NOT_CALLER);
    let long = CallCancelConfig { extended_data: "x".repeat(2_049), ..CallCancelConfig::default() };
    assert_eq!(refusal(soon(ann.call_cancel([""; 0], &call_id, long)).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn call_cancel_takes_some_invitations_back_in_advanced_mode() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (eve, dan) = (world.user("eve").await, world.user("dan").await);
    let call_id = invite(&ann, Mode::Advanced, &["bob", "eve", "dan"]).await;
    for user in ["bob", "eve", "dan"] {
        becomes(&ann, &call_id, user, State::Received).await;
    }
    reject(&dan, &call_id).await.unwrap();
    becomes(&eve, &call_id, "dan", State::Rejected).await;
    let before = told(&dan);
    let failed = cancel(&ann, &call_id, &["bob", "dan", "nobody"]).await.unwrap();
    assert_eq!(failed, ["nobody", "dan"]);
    bob.next(EventKind::CallInvitationCancelled).await;
    for device in [&ann, &eve] {
        becomes(device, &call_id, "bob", State::BeCancelled).await;
        assert!(device.seen_of(EventKind::CallInvitationCancelled).is_empty(), "it was Bob's alone");
    }
    for of_nobody in [&["bob", "dan"][..], &["nobody"], &["ann"]] {
        assert_eq!(refusal(cancel(&ann, &call_id, of_nobody).await), TOO_LATE, "{of_nobody:?}");
    }
    assert_eq!(refusal(cancel(&bob, &call_id, &["eve"]).await), NOT_CALLER);
    assert_eq!(refusal(cancel(&ann, &call_id, &["x"; 10]).await), TOO_MANY);
    assert_eq!(list(&ann).await[0].1, CallState::Started);
    assert_eq!(refusal(accept(&bob, &call_id).await), NONE);
    barrier(&ann, &[("dan", &dan)], "now").await;
    assert_eq!(told(&dan), before, "Dan has left");
    accept(&eve, &call_id).await.unwrap();
    for invitees in [&["eve"][..], &[]] {
        assert_eq!(refusal(cancel(&ann, &call_id, invitees).await), TOO_LATE);
    }
    world.end().await;
}

#[tokio::test]
async fn call_end_ends_a_call_for_everybody() {
    let world = World::new().await;
    let (ann, tablet, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let (eve, dan) = (world.user("eve").await, world.user("dan").await);
    let begun_at = world.clock.now_ms();
    let call_id = invite(&ann, Mode::Advanced, &["bob", "eve", "dan"]).await;
    for user in ["bob", "eve", "dan"] {
        becomes(&ann, &call_id, user, State::Received).await;
    }
    world.clock.advance(1_000);
    accept(&bob, &call_id).await.unwrap();
    reject(&dan, &call_id).await.unwrap();
    becomes(&eve, &call_id, "dan", State::Rejected).await;
    becomes(&bob, &call_id, "dan", State::Rejected).await;
    for outsider in [&dan, &eve] {
        assert_eq!(refusal(end(outsider, &call_id).await), NONE, "not in the call");
    }
    let before = (told(&dan), told(&tablet));
    world.clock.advance(1_000);
    let config = CallEndConfig { extended_data: "bye".to_owned(), ..CallEndConfig::default() };
    let ended = soon(bob.call_end(&call_id, config)).await.unwrap();
    assert_eq!((ended.create_time, ended.accept_time, ended.end_time), (begun_at, begun_at + 1_000, begun_at + 2_000));
    for device in [&ann, &bob, &eve] {
        match device.next(EventKind::CallInvitationEnded).await {
            Event::CallInvitationEnded(event) => {
                assert_eq!((event.call_id.as_str(), event.mode()), (&*call_id, Mode::Advanced));
                assert_eq!((event.caller.as_str(), event.operated_user_id.as_str()), ("ann", "bob"));
                assert_eq!((event.extended_data.as_str(), event.end_time), ("bye", begun_at + 2_000));
            }
            other => panic!("{other:?}"),
        }
        becomes(device, &call_id, "bob", State::Ended).await;
    }
    barrier(&ann, &[("dan", &dan), ("bob", &tablet)], "now").await;
    assert_eq!((told(&dan), told(&tablet)), before, "who has left, and another device");
    // The states of the others stay as they were.
    let last = [("ann", State::Accepted), ("bob", State::Ended), ("eve", State::Received), ("dan", State::Rejected)];
    assert_eq!(list(&ann).await, [(call_id.clone(), CallState::Ended, shown(&last))]);
    assert_eq!(refusal(end(&ann, &call_id).await), NONE);
    assert_eq!(refusal(accept(&eve, &call_id).await), NONE);
    // The only invitee refuses in this way.
    let call_id = invite(&ann, Mode::Advanced, &["bob"]).await;
    let ended = soon(bob.call_end(&call_id, CallEndConfig::default())).await.unwrap();
    assert_eq!(ended.accept_time, 0);
    ann.next(EventKind::CallInvitationEnded).await;
    let general = invite(&ann, Mode::General, &["bob"]).await;
    assert_eq!(refusal(end(&ann, &general).await), NOT_ADVANCED);
    let long = CallEndConfig { extended_data: "x".repeat(2_049), ..CallEndConfig::default() };
    assert_eq!(refusal(soon(ann.call_end(&general, long)).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn call_quit_leaves_a_call_that_goes_on_until_the_last_one_leaves() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let begun_at = world.clock.now_ms();
    let call_id = invite(&ann, Mode::Advanced, &["bob", "eve"]).await;
    assert_eq!(refusal(quit(&bob, &call_id).await), NONE, "not in the call yet");
    world.clock.advance(500);
    accept(&bob, &call_id).await.unwrap();
    reject(&eve, &call_id).await.unwrap();
    becomes(&bob, &call_id, "eve", State::Rejected).await;
    world.clock.advance(500);
    let config = CallQuitConfig { extended_data: "x".repeat(2_048), ..CallQuitConfig::default() };
    let left = soon(ann.call_quit(&call_id, config)).await.unwrap();
    assert_eq!((left.create_time, left.accept_time, left.quit_time), (begun_at, begun_at, begun_at + 1_000));
    for device in [&ann, &bob] {
        becomes(device, &call_id, "ann", State::Quit).await;
    }
    assert_eq!(refusal(quit(&ann, &call_id).await), NONE);
    assert_eq!(list(&bob).await[0].1, CallState::Started, "one user is enough");
    let before = told(&ann);
    quit(&bob, &call_id).await.unwrap();
    becomes(&bob, &call_id, "bob", State::Quit).await;
    let users = shown(&[("ann", State::Quit), ("bob", State::Quit), ("eve", State::Rejected)]);
    assert_eq!(list(&eve).await, [(call_id.clone(), CallState::Ended, users)]);
    barrier(&bob, &[("ann", &ann)], "now").await;
    assert_eq!(told(&ann), before);
    assert!(bob.seen_of(EventKind::CallInvitationEnded).is_empty());
    assert_eq!(refusal(quit(&bob, &call_id).await), NONE);
    let general = invite(&ann, Mode::General, &["bob"]).await;
    assert_eq!(refusal(quit(&ann, &general).await), NOT_ADVANCED);
    let long = CallQuitConfig { extended_data: "x".repeat(2_049), ..CallQuitConfig::default() };
    assert_eq!(refusal(soon(ann.call_quit(&general, long)).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn query_call_invitation_list_has_the_newest_calls_first() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let mut calls = Vec::new();
    for number in 0..5 {
        world.clock.advance(10);
        let (from, to) = if number % 2 == 0 { (&ann, "bob") } else { (&bob, "ann") };
        calls.push(invite(from, Mode::Advanced, &[to]).await);
    }
    calls.reverse();
    let query = async |device: &Device, count, next_flag| {
        let config = CallInvitationQueryConfig { count, next_flag };
        soon(device.query_call_invitation_list(config)).await
    };
    let page = query(&ann, 2, 0).await.unwrap();
    let next = query(&ann, 2, page.next_flag).await.unwrap();
    let last = query(&ann, 100, next.next_flag).await.unwrap();
    assert_eq!((page.call_list.len(), next.call_list.len(), last.next_flag), (2, 2, 0));
    let pages = [&page.call_list[..], &next.call_list, &last.call_list].concat();
    assert_eq!(pages.iter().map(|call| call.call_id.clone()).collect::<Vec<_>>(), calls);
    let newest = &pages[0];
    assert_eq!((newest.caller.as_str(), newest.inviter.as_str(), newest.mode()), ("ann", "ann", Mode::Advanced));
    assert_eq!((newest.create_time, newest.end_time), (world.clock.now_ms(), 0));
    assert_eq!((newest.state(), newest.extended_data.as_str()), (CallState::Started, "video"));
    assert_eq!(query(&bob, 1_000, 0).await.unwrap().call_list.len(), 5);
    assert!(list(&eve).await.is_empty());
    join(&eve, &calls[1]).await.unwrap();
    assert_eq!(list(&eve).await.len(), 1);
    for count in [0, -1] {
        assert_eq!(refusal(query(&ann, count, 0).await), INVALID);
    }
    world.end().await;
}

#[tokio::test]
async fn query_call_invitation_list_returns_100_calls_at_most() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let mut all = Vec::new();
    for _ in 0..101 {
        world.clock.advance(1);
        all.push(invite(&ann, Mode::General, &["bob"]).await);
    }
    let config = CallInvitationQueryConfig { count: 101, next_flag: 0 };
    let page = soon(ann.query_call_invitation_list(config)).await.unwrap();
    assert_eq!(page.call_list.len(), 100);
    let config = CallInvitationQueryConfig { count: 101, next_flag: page.next_flag };
    let rest = soon(ann.query_call_invitation_list(config)).await.unwrap();
    assert_eq!((rest.call_list.len(), rest.call_list[0].call_id.as_str(), rest.next_flag), (1, &*all[0], 0));
    world.end().await;
}
