//! Writes that are done after their deadline: the response carries nothing, or comes too late, so the device is told which log
//! changed.

use zim_integration_tests::{RawClient, World, refusal, send_text, soon};
use zim_protocol::{ErrorCode, Event, EventKind, UpdateUserNameRequest, event_frame};
use zim_server::db::{Scope, Tx};
use zim_server::key::AppKey;

/// Holds the writes of a scope until the sender is dropped.
async fn hold(world: &World, scope: Scope) -> std::sync::mpsc::Sender<()> {
    let (gate, wait) = std::sync::mpsc::channel::<()>();
    let (arrived, here) = tokio::sync::oneshot::channel();
    let held = world.server().app().db.submit(scope, async move |_: &mut Tx<'_>| {
        arrived.send(()).unwrap();
        let _ = wait.recv();
        Ok(())
    });
    here.await.unwrap();
    drop(held);
    gate
}

async fn dirty(raw: &mut RawClient) -> zim_protocol::Dirty {
    loop {
        match raw.event().await.expect("an event") {
            event_frame::Frame::Dirty(dirty) => return dirty,
            event_frame::Frame::Push(push) => panic!("the device's own entry was pushed to it: {push:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_device_learns_which_log_a_late_write_of_its_own_changed() {
    // Long enough for a login on a busy machine, which has this deadline, too.
    let world = World::with(|config| config.limits.request_timeout_ms = 2_000).await;
    let mut bob = world.raw_user("bob", 2).await;
    let mut ann = world.raw_user("ann", 1).await;
    let app = world.server().app();
    let app_key = AppKey(world.app_id().into());
    let ann_key = app.user_key(app_key, "ann").await.unwrap().unwrap();
    let bob_key = app.user_key(app_key, "bob").await.unwrap().unwrap();
    let conversation = app.open_peer_conversation(app_key, ann_key, bob_key).await.unwrap();
    let timed_out = ErrorCode::NetworkModuleRequestTimeout as i32;

    let gate = hold(&world, Scope::user(ann_key)).await;
    let name = UpdateUserNameRequest { user_name: "Ann".to_owned() };
    assert_eq!(ann.call(&name).await.unwrap_err().code, timed_out);
    drop(gate);
    assert!(dirty(&mut ann).await.feed);

    let gate = hold(&world, Scope::conversation(conversation)).await;
    assert_eq!(ann.call(&send_text("bob", "late", 1)).await.unwrap_err().code, timed_out);
    drop(gate);
    let dirty = dirty(&mut ann).await;
    assert_eq!(dirty.conversations.iter().map(|name| name.id.as_str()).collect::<Vec<_>>(), ["bob"]);
    // Both writes took effect, and the other user got the message.
    let message = loop {
        if let event_frame::Frame::Push(push) = bob.event().await.expect("an event") {
            break push.messages.into_iter().next().unwrap();
        }
    };
    assert_eq!((message.sender.as_str(), message.seq), ("ann", 1));
    ann.end().await;
    bob.end().await;
    world.end().await;
}

/// The app is told of a timeout, and of the change once it is made: by the answer that comes too late, or by the hint of a server
/// that has given up. Nothing else would tell it: the clock stands still, and so does the audit.
#[tokio::test]
async fn a_device_shows_what_a_write_changed_after_its_timeout() {
    for (of_client_ms, of_server_ms) in [(2_000, 10_000), (10_000, 2_000)] {
        let world = World::with(|config| config.limits.request_timeout_ms = of_server_ms).await;
        let ann = world.client_with(|config| config.request_timeout_ms(of_client_ms));
        let ann = world.login(ann, "ann").await;
        let app = world.server().app();
        let key = app.user_key(AppKey(world.app_id().into()), "ann").await.unwrap().unwrap();
        let gate = hold(&world, Scope::user(key)).await;
        let timed_out = refusal(soon(ann.update_user_name("Ann")).await);
        assert_eq!(timed_out, ErrorCode::NetworkModuleRequestTimeout);
        assert!(ann.seen_of(EventKind::UserInfoUpdated).is_empty());
        drop(gate);
        match ann.next(EventKind::UserInfoUpdated).await {
            Event::UserInfoUpdated(event) => {
                assert_eq!(event.info.unwrap().base_info.unwrap().user_name, "Ann");
            }
            other => panic!("{other:?}"),
        }
        let states = ann.seen_of(EventKind::ConnectionStateChanged);
        assert_eq!(states.len(), 2, "a reconnect would tell it: {states:?}");
        world.end().await;
    }
}
