//! The blacklist with devices that are away, and over restarts of the server.

use zim_integration_tests::{DataDir, Device, World, refusal, soon, texts};
use zim_protocol::{
    BlacklistChangeAction, BlacklistQueryConfig, ConnectionState, ErrorCode, Event, EventKind, Message,
};

/// The blacklist changes that a device has raised: the user, and whether they were added.
fn changes(seen: &[Event]) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    for event in seen {
        if let Event::BlacklistChanged(event) = event {
            let is_added = event.action() == BlacklistChangeAction::Added;
            all.extend(event.user_list.iter().map(|user| (user.user_id.clone(), is_added)));
        }
    }
    all
}

async fn list(device: &Device) -> Vec<String> {
    let config = BlacklistQueryConfig { next_flag: 0, count: 100 };
    let found = soon(device.query_blacklist(config)).await.unwrap();
    found.blacklist.into_iter().map(|user| user.user_id).collect()
}

async fn loses_the_server(device: &Device) {
    device
        .until("the end of the connection", |seen| {
            let is_it = |event: &Event| {
                matches!(event, Event::ConnectionStateChanged(changed)
                    if changed.state() == ConnectionState::Reconnecting)
            };
            seen.iter().any(is_it).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_device_that_was_away_receives_the_changes_of_its_blacklist() {
    let mut world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl, dora) = (world.user("bob").await, world.user("carl").await, world.user("dora").await);
    soon(phone.add_users_to_blacklist(["carl"])).await.unwrap();
    laptop.next(EventKind::BlacklistChanged).await;
    let dir = laptop.dir();
    laptop.quit().await;
    soon(phone.add_users_to_blacklist(["bob", "dora"])).await.unwrap();
    soon(phone.remove_users_from_blacklist(["carl"])).await.unwrap();
    soon(phone.remove_users_from_blacklist(["dora"])).await.unwrap();
    let laptop = world.user_at(dir, "ann").await;
    let expected = [("bob".to_owned(), true), ("carl".to_owned(), false)];
    laptop.until("the missed changes", |seen| (changes(seen).len() >= 2).then_some(())).await;
    // A new device raises nothing: it has no earlier state.
    let tablet = world.user_at(DataDir::default(), "ann").await;
    for device in [&phone, &laptop, &tablet] {
        assert_eq!(list(device).await, ["bob"]);
    }
    world.stop_server().await;
    for device in [&phone, &laptop, &tablet] {
        loses_the_server(device).await;
        assert_eq!(list(device).await, ["bob"]);
    }
    assert_eq!(changes(&laptop.seen_of(EventKind::BlacklistChanged)), expected);
    assert!(tablet.seen_of(EventKind::BlacklistChanged).is_empty());
    for device in [&bob, &carl, &dora] {
        assert!(device.seen_of(EventKind::BlacklistChanged).is_empty());
    }
    world.end().await;
}

#[tokio::test]
async fn a_restart_keeps_the_blacklist() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    bob.say("ann", "before").await;
    soon(ann.add_users_to_blacklist(["bob"])).await.unwrap();
    world.stop_server().await;
    loses_the_server(&bob).await;
    // The message waits for the server, which refuses it.
    let waiting = bob.send("ann", Message::text("while nobody was there"));
    world.start_server().await;
    assert_eq!(refusal(soon(waiting).await), ErrorCode::MessageModuleSenderInBlacklist);
    let refused = soon(bob.send("ann", Message::command(vec![1]))).await;
    assert_eq!(refusal(refused), ErrorCode::MessageModuleSenderInBlacklist);
    let fresh = world.device("ann").await;
    assert_eq!(texts(&fresh.history("bob").await), ["before"]);
    assert_eq!(list(&fresh).await, ["bob"]);
    world.end().await;
}
