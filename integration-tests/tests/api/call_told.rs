//! Calls: who hears nothing of them, and both sides of what a request may have.

use zim_integration_tests::{Device, RawClient, World, refusal, soon};
use zim_protocol::{
    CallCancelConfig, CallEndConfig, CallInfo, CallInvitationMode as Mode, CallRejectRequest, CallUserState as State,
    ErrorCode, Event, EventKind, FeedEntry, SyncRequest, event_frame::Frame, feed_entry::Detail,
};

use crate::call::{
    NONE, TOO_MANY, accept, becomes, cancel, created, end, invite, invite_more, join, list, quit, received,
};

const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

/// What a connection is told of calls before it is told of this one.
async fn told_before(raw: &mut RawClient, call_id: &str) -> Vec<CallInfo> {
    let call = |entry: &FeedEntry| match &entry.detail {
        Some(Detail::Call(call)) => call.info.clone(),
        _ => None,
    };
    let mut told: Vec<CallInfo> = Vec::new();
    loop {
        if let Frame::Push(push) = raw.event().await.unwrap() {
            told.extend(push.feed.iter().filter_map(call));
        }
        if let Some(at) = told.iter().position(|call| call.call_id == call_id) {
            told.truncate(at);
            return told;
        }
    }
}

/// The events of a call that a device has had.
fn kinds(device: &Device, call_id: &str) -> Vec<EventKind> {
    let is_of_call = |event: &Event| match event {
        Event::CallInvitationCreated(event) => event.call_id == call_id,
        Event::CallInvitationReceived(event) => event.call_id == call_id,
        Event::CallInvitationCancelled(event) => event.call_id == call_id,
        Event::CallInvitationTimeout(event) => event.call_id == call_id,
        Event::CallInvitationEnded(event) => event.call_id == call_id,
        Event::CallUserStateChanged(event) => event.call_id == call_id,
        _ => false,
    };
    device.seen().iter().filter(|event| is_of_call(event)).map(Event::kind).collect()
}

#[tokio::test]
async fn nothing_of_a_call_reaches_those_who_are_not_in_it() {
    let world = World::new().await;
    let (ann, tablet, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let (eve, fay) = (world.user("eve").await, world.user("fay").await);
    // One who is never asked, and one who refuses. Other than the SDK, these clients show whatever the server sends them.
    let mut never = world.raw_user("gus", 1).await;
    let mut gone = world.raw_user("dan", 2).await;
    for raw in [&mut never, &mut gone] {
        raw.call(&SyncRequest::default()).await.unwrap();
    }
    let call_id = invite(&ann, Mode::Advanced, &["bob", "dan"]).await;
    assert_eq!(received(&bob).await.call_id, call_id);
    gone.call(&CallRejectRequest { call_id: call_id.clone(), config: None }).await.unwrap();
    becomes(&bob, &call_id, "dan", State::Rejected).await;
    invite_more(&ann, &call_id, &["eve"]).await.unwrap();
    assert_eq!(received(&eve).await.call_id, call_id);
    cancel(&ann, &call_id, &["eve"]).await.unwrap();
    eve.next(EventKind::CallInvitationCancelled).await;
    accept(&bob, &call_id).await.unwrap();
    join(&fay, &call_id).await.unwrap();
    becomes(&ann, &call_id, "fay", State::Accepted).await;
    quit(&fay, &call_id).await.unwrap();
    becomes(&fay, &call_id, "fay", State::Quit).await;
    end(&bob, &call_id).await.unwrap();
    for device in [&ann, &bob] {
        device.next(EventKind::CallInvitationEnded).await;
    }
    // A later call comes to all of them on the same path.
    let later = invite(&ann, Mode::General, &["bob", "dan", "eve", "fay", "gus"]).await;
    for device in [&ann, &tablet] {
        assert_eq!(created(device).await.call_id, call_id);
        assert_eq!(created(device).await.call_id, later);
    }
    for device in [&bob, &eve, &fay] {
        assert_eq!(received(device).await.call_id, later);
    }
    assert_eq!(told_before(&mut never, &later).await, []);
    let of_dan = told_before(&mut gone, &later).await;
    // Their own answer has the refusal.
    assert_eq!(of_dan.len(), 1, "only the invitation: {of_dan:?}");
    assert_eq!(kinds(&tablet, &call_id), [EventKind::CallInvitationCreated]);
    assert_eq!(kinds(&eve, &call_id).last(), Some(&EventKind::CallInvitationCancelled));
    for (device, others) in [
        (&ann, &[EventKind::CallInvitationReceived, EventKind::CallInvitationCancelled][..]),
        (&bob, &[EventKind::CallInvitationCreated, EventKind::CallInvitationCancelled][..]),
        (&eve, &[EventKind::CallInvitationCreated, EventKind::CallInvitationEnded][..]),
        (&fay, &[EventKind::CallInvitationReceived, EventKind::CallInvitationEnded][..]),
    ] {
        let had = kinds(device, &call_id);
        assert!(!had.contains(&EventKind::CallInvitationTimeout), "{had:?}");
        assert!(others.iter().all(|other| !had.contains(other)), "{had:?}");
    }
    never.end().await;
    gone.end().await;
    world.end().await;
}

#[tokio::test]
async fn nine_users_are_cancelled_and_invited_again_at_once_and_no_more() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let names: Vec<String> = (0..10).map(|number| format!("user{number}")).collect();
    world.register(&names).await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let call_id = invite(&ann, Mode::Advanced, &names[..9]).await;
    assert_eq!(refusal(cancel(&ann, &call_id, &names).await), TOO_MANY);
    assert_eq!(cancel(&ann, &call_id, &names[..9]).await.unwrap(), [] as [String; 0]);
    assert_eq!(refusal(invite_more(&ann, &call_id, &names).await), TOO_MANY);
    assert_eq!(invite_more(&ann, &call_id, &names[..9]).await.unwrap(), []);
    assert_eq!(list(&ann).await[0].2.len(), 10);
    world.end().await;
}

#[tokio::test]
async fn the_last_words_of_a_call_have_2_kb_and_its_id_has_20_bytes() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let longest = || "x".repeat(2_048);
    let cancelled = invite(&ann, Mode::General, &["bob"]).await;
    received(&bob).await;
    let config = CallCancelConfig { extended_data: longest(), ..CallCancelConfig::default() };
    soon(ann.call_cancel([""; 0], &cancelled, config)).await.unwrap();
    match bob.next(EventKind::CallInvitationCancelled).await {
        Event::CallInvitationCancelled(event) => assert_eq!(event.extended_data, longest()),
        other => panic!("{other:?}"),
    }
    let ended = invite(&ann, Mode::Advanced, &["bob"]).await;
    received(&bob).await;
    let config = CallEndConfig { extended_data: longest(), ..CallEndConfig::default() };
    soon(ann.call_end(&ended, config)).await.unwrap();
    match bob.next(EventKind::CallInvitationEnded).await {
        Event::CallInvitationEnded(event) => assert_eq!(event.extended_data, longest()),
        other => panic!("{other:?}"),
    }
    for (digits, code) in [(20, NONE), (21, INVALID)] {
        let id = "9".repeat(digits);
        assert_eq!(refusal(cancel(&ann, &id, &[]).await), code);
        assert_eq!(refusal(invite_more(&ann, &id, &["bob"]).await), code);
        assert_eq!(refusal(join(&ann, &id).await), code);
        assert_eq!(refusal(quit(&ann, &id).await), code);
        assert_eq!(refusal(end(&ann, &id).await), code);
    }
    world.end().await;
}
