//! Upgrades of the local databases of clients.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{
    DataDir, Device, Fixture, World, assert_same, eventually, refusal, soon, texts, to_json, view, without_device_state,
};
use zim_protocol::{
    ConnectionState, ConversationType, ErrorCode, Event, EventKind, LoginConfig, Message, MessageQueryMode,
    MessageSendConfig, MessageSentStatus, PlatformType,
};

use crate::FIXTURE;

/// The events to compare. Leaves out events of the connection and the sync, whose number varies, and the fate of
/// messages that were under way.
fn compared(seen: &[Event]) -> Vec<Value> {
    let ignored = [
        EventKind::ConnectionStateChanged,
        EventKind::ConversationSyncStateChanged,
        EventKind::ConversationChanged,
        EventKind::ConversationTotalUnreadMessageCountUpdated,
        EventKind::MessageSentStatusChanged,
    ];
    let kept = seen.iter().filter(|event| !ignored.contains(&event.kind()));
    kept.map(|event| to_json(&event.to_json().unwrap())).collect()
}

/// A list field of the facts.
fn list<'a>(facts: &'a Value, name: &str) -> &'a [Value] {
    facts[name].as_array().unwrap_or_else(|| panic!("no {name}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// The positions by conversation that a device has not raised yet, without its own messages.
fn missed(fixture: &Fixture, device: &str, user: &str) -> BTreeMap<String, Vec<i64>> {
    let facts = fixture.facts(device, user);
    let own: Vec<&Value> = list(facts, "unsent").iter().map(|message| &message["localMessageID"]).collect();
    let histories = fixture.users("first")[user]["histories"].as_object().unwrap();
    let of = |(peer, history): (&String, &Value)| {
        let raised_to = facts["raisedTo"][peer].as_i64().unwrap_or(0);
        let others = history.as_array().unwrap().iter().filter(|message| !own.contains(&&message["localMessageID"]));
        let seqs =
            others.map(|message| message["messageSeq"].as_i64().unwrap()).filter(|seq| *seq > raised_to).collect();
        (peer.clone(), seqs)
    };
    histories.iter().map(of).filter(|(_, seqs): &(String, Vec<i64>)| !seqs.is_empty()).collect()
}

/// The positions by conversation of the messages that a device has raised, offline messages or others.
fn raised(device: &Device, peers: impl IntoIterator<Item = String>, is_offline: bool) -> BTreeMap<String, Vec<i64>> {
    let of = |peer: String| {
        let messages = device.received_from(&peer).into_iter().filter(|(_, offline)| *offline == is_offline);
        let seqs: Vec<i64> = messages.map(|(message, _)| message.message_seq).collect();
        (peer, seqs)
    };
    peers.into_iter().map(of).filter(|(_, seqs)| !seqs.is_empty()).collect()
}

fn peers(fixture: &Fixture, user: &str) -> Vec<String> {
    fixture.users("first")[user]["histories"].as_object().unwrap().keys().cloned().collect()
}

/// Sends a failed message again.
async fn again(device: &Device, message: Message) -> Result<Message, zim_client_sdk::Error> {
    let (to, config) =
        (message.conversation_id.clone(), MessageSendConfig { is_retry_send: true, ..Default::default() });
    let sent = device.send_message(message, &to, ConversationType::Peer, config, MessageSendNotification::default());
    soon(sent).await.map(|sent| sent.message.unwrap())
}

async fn failed(device: &Device, unsent: &Value) -> Message {
    // The queue of outgoing messages is opened first, and gives up what is too old.
    let message = eventually("the message is given up", async || {
        let history = device.history(text(unsent, "peer")).await;
        let message = history.into_iter().find(|message| message.local_message_id == text(unsent, "localMessageID"));
        let message = message.unwrap_or_else(|| panic!("the unsent message is missing: {unsent}"));
        (message.sent_status() == MessageSentStatus::Failed).then_some(message)
    })
    .await;
    assert_eq!(message.message_seq, 0);
    assert_eq!(message.local_extended_data, text(unsent, "localExtendedData"));
    assert_eq!(message.extended_data, text(unsent, "extendedData"));
    message
}

#[tokio::test]
async fn every_device_ends_up_equal_to_a_new_one() {
    let mut world = World::of_fixture(FIXTURE).await;
    let mut pairs = Vec::new();
    for (name, user) in world.fixture().devices() {
        let device = world.user_at(world.fixture().device(&name), &user).await;
        pairs.push((format!("{user} on {name}"), device, world.user(&user).await));
    }
    assert!(pairs.len() >= 3);
    for (what, old, new) in &pairs {
        let expected = without_device_state(view(new).await);
        eventually(&format!("{what} has caught up"), async || {
            (without_device_state(view(old).await) == expected).then_some(())
        })
        .await;
    }
    // The local data of both is the same too.
    world.stop_server().await;
    for (what, old, new) in &pairs {
        for device in [old, new] {
            eventually("offline", async || (device.connection_state() == ConnectionState::Reconnecting).then_some(()))
                .await;
        }
        assert_same(what, &without_device_state(view(old).await), &without_device_state(view(new).await));
    }
    world.end().await;
}

#[tokio::test]
async fn every_device_raises_exactly_what_it_missed() {
    let world = World::of_fixture(FIXTURE).await;
    for (name, user) in world.fixture().devices() {
        let (fixture, peers) = (world.fixture(), peers(world.fixture(), &user));
        let device = world.user_at(fixture.device(&name), &user).await;
        let expected = missed(fixture, &name, &user);
        let all = async || (raised(&device, peers.clone(), true) == expected).then_some(());
        eventually(&format!("{user} on {name} receives {expected:?}"), all).await;
        // Events that may not have been raised are raised unchanged.
        let facts = fixture.facts(&name, &user);
        let again: Vec<&Value> =
            list(facts, "pendingEvents").iter().flat_map(|event| event["messageList"].as_array()).flatten().collect();
        let live: usize = raised(&device, peers.clone(), false).values().map(Vec::len).sum();
        assert_eq!(live, again.len(), "{user} on {name}");
        soon(device.logout()).await;
    }
    world.end().await;
}

#[tokio::test]
async fn the_device_that_was_away_raises_all_changes() {
    let world = World::of_fixture(FIXTURE).await;
    let dir = world.fixture().device("tablet");
    let tablet = world.user_at(dir, "ann").await;
    // Messages arrive later, see above.
    let news = compared(&tablet.seen()).into_iter().filter(|event| event["name"] != "peerMessageReceived");
    let news: Vec<Value> = news.collect();
    let expected = [
        ("userInfoUpdated", "/info/baseInfo/userName", json!("Ann the second")),
        ("friendInfoUpdated", "/friendList/0/friendAlias", json!("Bob the friend")),
        ("blacklistChanged", "/userList/0/userID", json!("fay")),
        ("userRuleUpdated", "/userRule/offlinePushRule/onlinePlatforms/0", json!(PlatformType::Web as i32)),
        ("friendApplicationListChanged", "/applicationList/0/applyUser/userID", json!("hal")),
        ("blacklistChanged", "/userList/0/userID", json!("dan")),
        ("userStatusUpdated", "/userStatusList/0/customStatus", json!("out to lunch")),
    ];
    for (event, (name, at, value)) in news.iter().zip(&expected) {
        assert_eq!((text(event, "name"), event.pointer(at)), (*name, Some(value)), "{event}");
    }
    assert_eq!(news.len(), expected.len(), "{news:#?}");
    // From now on it works like any other device.
    let bob = world.user("bob").await;
    bob.say("ann", "welcome back").await;
    tablet.receives("welcome back").await;
    tablet.say("bob", "thank you").await;
    bob.receives("thank you").await;
    world.end().await;
}

#[tokio::test]
async fn pending_events_are_raised_first_and_once() {
    let world = World::of_fixture(FIXTURE).await;
    let facts = world.fixture().facts("laptop", "ann").clone();
    let pending = list(&facts, "pendingEvents");
    assert!(!pending.is_empty());
    let dir = world.fixture().device("laptop");
    // The process was killed: its last writes are in the write-ahead log.
    let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    assert!(left.into_iter().any(|path| path.to_str().unwrap().ends_with("-wal")));
    let laptop = world.user_at(dir.clone(), "ann").await;
    let expected = missed(world.fixture(), "laptop", "ann");
    eventually("the missed messages", async || {
        (raised(&laptop, peers(world.fixture(), "ann"), true) == expected).then_some(())
    })
    .await;
    let seen = compared(&laptop.seen());
    assert!(seen.len() >= pending.len(), "{seen:#?}");
    for (number, (event, expected)) in seen.iter().zip(pending).enumerate() {
        assert_same(&format!("event {number}"), event, expected);
    }
    for expected in pending {
        assert_eq!(seen.iter().filter(|event| *event == expected).count(), 1, "{expected}");
    }
    laptop.quit().await;
    let laptop = world.user_at(dir, "ann").await;
    let seen = compared(&laptop.seen());
    assert!(!seen.iter().any(|event| pending.contains(event)), "{seen:#?}");
    world.end().await;
}

#[tokio::test]
async fn pending_events_are_raised_without_a_network() {
    let mut world = World::of_fixture(FIXTURE).await;
    let facts = world.fixture().facts("laptop", "ann").clone();
    let pending = list(&facts, "pendingEvents");
    let login = LoginConfig { is_offline_login: true, ..world.with_token("ann") };
    let laptop = world.client_at(world.fixture().device("laptop"), |config| config);
    world.stop_server().await;
    soon(laptop.login("ann", login)).await.unwrap();
    laptop.until("the pending events", |seen| (compared(seen).len() >= pending.len()).then_some(())).await;
    assert_eq!(compared(&laptop.seen()), pending);
    // All local data can be read.
    let held = laptop.history_by("bob", MessageQueryMode::OnlyLocal).await;
    let raised_to = facts["raisedTo"]["bob"].as_i64().unwrap();
    assert_eq!(held.iter().filter(|message| message.message_seq > 0).last().unwrap().message_seq, raised_to);
    for unsent in list(&facts, "unsent") {
        failed(&laptop, unsent).await;
    }
    // Those that were under way have waited too long, and the app learns it.
    let statuses = laptop.seen_of(EventKind::MessageSentStatusChanged);
    let of = |event: &Event| match event {
        Event::MessageSentStatusChanged(event) => event.infos.clone(),
        other => panic!("{other:?}"),
    };
    let infos: Vec<_> = statuses.iter().flat_map(of).collect();
    assert!(!infos.is_empty() && infos.iter().all(|info| info.status() == MessageSentStatus::Failed), "{infos:?}");
    world.start_server().await;
    let expected = missed(world.fixture(), "laptop", "ann");
    world
        .advance_until("the missed messages", async || {
            (raised(&laptop, peers(world.fixture(), "ann"), true) == expected).then_some(())
        })
        .await;
    world.end().await;
}

#[tokio::test]
async fn messages_in_flight_at_a_kill_are_settled() {
    let world = World::of_fixture(FIXTURE).await;
    let bob = world.user("bob").await;
    let laptop = world.user_at(world.fixture().device("laptop"), "ann").await;
    let facts = world.fixture().facts("laptop", "ann");
    let [arrived, never] = list(facts, "unsent") else { panic!("{facts}") };
    // The server had stored one message: it is settled as sent, once, with its local data.
    let found = eventually("the message is settled", async || {
        let history = laptop.history("bob").await;
        let mut same = history.into_iter().filter(|message| message.as_text() == Some(text(arrived, "text")));
        let found = same.next().unwrap();
        assert_eq!(same.count(), 0);
        (found.sent_status() == MessageSentStatus::Success).then_some(found)
    })
    .await;
    assert!(found.message_seq > 0);
    assert_eq!(found.local_message_id, text(arrived, "localMessageID"));
    assert_eq!(found.local_extended_data, text(arrived, "localExtendedData"));
    // The other was never sent; it can be sent now.
    let sent = again(&laptop, failed(&laptop, never).await).await.unwrap();
    assert_eq!(sent.local_extended_data, text(never, "localExtendedData"));
    let received = bob.receives(text(never, "text")).await;
    assert_eq!(received.extended_data, text(never, "extendedData"));
    assert_eq!(to_json(&received.mentioned_user_ids), never["mentionedUserIDs"]);
    assert_eq!(received.local_extended_data, "");
    world.end().await;
}

#[tokio::test]
async fn failed_messages_can_be_sent_again() {
    let world = World::of_fixture(FIXTURE).await;
    let (bob, eve) = (world.user("bob").await, world.user("eve").await);
    let phone = world.user_at(world.fixture().device("phone"), "ann").await;
    let facts = world.fixture().facts("phone", "ann");
    let unsent = list(facts, "unsent");
    assert_eq!(unsent.len(), 4);
    for unsent in unsent {
        let message = failed(&phone, unsent).await;
        let sent = again(&phone, message.clone()).await;
        match text(unsent, "peer") {
            "bob" => {
                assert_eq!(sent.unwrap().local_extended_data, text(unsent, "localExtendedData"));
                let received = bob.receives(text(unsent, "text")).await;
                assert_eq!(received.extended_data, text(unsent, "extendedData"));
                assert_eq!(to_json(&received.mentioned_user_ids), unsent["mentionedUserIDs"]);
            }
            "eve" => {
                assert_eq!(sent.unwrap().body, message.body);
                let received = eve
                    .until("it", |seen| {
                        seen.iter().find_map(|event| match event {
                            Event::PeerMessageReceived(event) => {
                                event.message_list.iter().find(|received| received.body == message.body).cloned()
                            }
                            _ => None,
                        })
                    })
                    .await;
                assert_eq!(received.sender_user_id, "ann");
            }
            // With the same error as before.
            "cat" => assert_eq!(refusal(sent), ErrorCode::MessageModuleSenderInBlacklist),
            "nobody" => assert_eq!(refusal(sent), ErrorCode::MessageModuleTargetDoesNotExist),
            other => panic!("to {other}?"),
        }
    }
    assert!(phone.conversation("nobody").await.is_disabled);
    world.end().await;
}

#[tokio::test]
async fn local_extended_data_is_kept() {
    let world = World::of_fixture(FIXTURE).await;
    let phone = world.user_at(world.fixture().device("phone"), "ann").await;
    let notes = list(world.fixture().facts("phone", "ann"), "localData");
    assert_eq!(notes.len(), 2);
    for note in notes {
        let history = phone.history(text(note, "peer")).await;
        let seq = note["messageSeq"].as_i64().unwrap();
        let message = history.iter().find(|message| message.message_seq == seq).unwrap();
        assert_eq!(message.local_extended_data, text(note, "localExtendedData"));
    }
    world.end().await;
}

#[tokio::test]
async fn a_device_of_two_apps_has_both() {
    let world = World::of_fixture(FIXTURE).await;
    let app = world.fixture().app("second");
    let dir = world.fixture().device("phone");
    let first = world.user_at(dir.clone(), "ann").await;
    let second = world.client_of(&app, dir, |config| config);
    soon(second.login("ann", app.with_token("ann", &world.clock))).await.unwrap();
    second.caught_up(0).await;
    let messages = second.history_by("bob", MessageQueryMode::OnlyLocal).await;
    assert_eq!(texts(&messages), ["hello of the second app", "and back"]);
    assert!(first.history("bob").await.len() > messages.len());
    world.end().await;
}

#[tokio::test]
async fn only_the_last_user_of_a_device_logs_in_without_a_network() {
    let mut world = World::of_fixture(FIXTURE).await;
    if !world.fixture().devices().contains(&("bob".to_owned(), "cat".to_owned())) {
        // Only the SQLite fixture contains such a device, because it does not depend on the server's database.
        return world.end().await;
    }
    let dir: DataDir = world.fixture().device("bob");
    let offline = |user| LoginConfig { is_offline_login: true, ..world.with_token(user) };
    let (as_bob, as_cat) = (offline("bob"), offline("cat"));
    let device = world.client_at(dir, |config| config);
    world.stop_server().await;
    assert_eq!(refusal(soon(device.login("bob", as_bob)).await), ErrorCode::NetworkModuleUserIdError);
    soon(device.login("cat", as_cat)).await.unwrap();
    assert_eq!(texts(&device.history("dan").await), ["not for ann"]);
    world.end().await;
}
