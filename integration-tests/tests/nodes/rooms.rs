//! Rooms whose members are on several nodes.

use std::collections::HashMap;

use futures_util::FutureExt;
use futures_util::future::join_all;
use zim_integration_tests::nats::Nats;
use zim_integration_tests::{Device, Proxy, eventually, room, soon, texts};
use zim_protocol::{
    ConnectionState, Event, EventKind, Message, MessageType, RoomAdvancedConfig, RoomAttributesSetConfig, RoomEvent,
    RoomInfo, RoomMemberAttributesSetConfig, RoomMemberQueryConfig, RoomState, message::Body,
};
use zim_server::Server;
use zim_server::bus::BusState;
use zim_server::config::AdminListen;
use zim_server::db::{Scope, Tx};
use zim_server::key::ConversationKey;

use super::bus::until;
use super::doubt::{decision_is_awaited, two_nodes};
use super::processes::{LEASE_MS, Pair};
use super::{Deployment, quiet, user};

async fn enter(device: &Device) {
    let info = RoomInfo { room_id: "stage".into(), room_name: String::new() };
    soon(device.enter_room(info, RoomAdvancedConfig::default())).await.unwrap();
}

/// Two devices on two nodes enter the room, and hear each other: each node knows of the other then.
async fn meet(one: &Device, other: &Device) {
    for device in [one, other] {
        enter(device).await;
    }
    one.say(room("stage"), "hi").await;
    other.receives("hi").await;
    other.say(room("stage"), "hello").await;
    one.receives("hello").await;
}

fn pairs(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

async fn attributes(device: &Device) -> Vec<(String, String)> {
    let found = soon(device.query_room_all_attributes("stage")).await.unwrap();
    let mut all: Vec<_> = found.room_attributes.into_iter().collect();
    all.sort();
    all
}

async fn members(device: &Device) -> Vec<String> {
    let config = RoomMemberQueryConfig { next_flag: String::new(), count: 100 };
    let found = soon(device.query_room_member_list("stage", config)).await.unwrap();
    let mut all: Vec<_> = found.member_list.into_iter().map(|member| member.user_id).collect();
    all.sort();
    all
}

/// Who left, as a device was told.
fn left(device: &Device) -> Vec<String> {
    let mut left = Vec::new();
    for event in device.seen() {
        if let Event::RoomMemberLeft(event) = event {
            left.extend(event.member_list.into_iter().map(|member| member.user_id));
        }
    }
    left.sort();
    left
}

fn heard(device: &Device) -> Vec<String> {
    texts(device.received_from("stage").iter().map(|(message, _)| message))
}

#[tokio::test]
async fn a_message_arrives_although_its_sender_leaves_before_it_has_its_place() {
    let bus = Nats::start().unwrap();
    // The home of the room is paused for less than its lease.
    let pair = Pair::with_lease("bye", &bus, 30_000).await;
    let (ann, bob, cai) = (
        pair.user(&pair.first, "ann").await,
        pair.user(&pair.second, "bob").await,
        pair.user(&pair.second, "cai").await,
    );
    for device in [&ann, &bob, &cai] {
        enter(device).await;
    }
    // Each node knows of the other.
    ann.say(room("stage"), "hi").await;
    bob.receives("hi").await;
    bob.say(room("stage"), "hello").await;
    ann.receives("hello").await;
    pair.first.signal("STOP").unwrap();
    bob.say(room("stage"), "bye").await;
    soon(bob.leave_room("stage")).await.unwrap();
    pair.first.signal("CONT").unwrap();
    for device in [&ann, &cai] {
        device.receives("bye").await;
        assert_eq!(heard(device).iter().filter(|text| *text == "bye").count(), 1);
    }
    assert_eq!(members(&cai).await, ["ann", "cai"]);
    for device in [ann, bob, cai] {
        device.quit().await;
    }
}

#[tokio::test]
async fn a_room_survives_the_death_of_its_home() {
    let bus = Nats::start().unwrap();
    let mut pair = Pair::start("home", &bus).await;
    let (ann, dan) = (pair.user(&pair.first, "ann").await, pair.user(&pair.first, "dan").await);
    let (bob, cai) = (pair.user(&pair.second, "bob").await, pair.user(&pair.second, "cai").await);
    // The room is made on the first node, so this is its home.
    for device in [&ann, &bob, &cai, &dan] {
        enter(device).await;
    }
    soon(ann.set_room_attributes(pairs("song", "one"), "stage", RoomAttributesSetConfig::default())).await.unwrap();
    soon(bob.set_room_attributes(pairs("light", "on"), "stage", RoomAttributesSetConfig::default())).await.unwrap();
    let config = RoomMemberAttributesSetConfig::default();
    soon(bob.set_room_members_attributes(pairs("seat", "1"), ["ann", "bob"], "stage", config)).await.unwrap();
    // Two who only listen, on two nodes, hear two who speak at once in one order.
    let speak = async |device: &Device, who: &str| {
        join_all((0..20).map(async |number| drop(device.say(room("stage"), &format!("{who} {number}")).await))).await;
    };
    tokio::join!(speak(&ann, "ann"), speak(&bob, "bob"));
    eventually("all messages", async || (heard(&cai).len() == 40 && heard(&dan).len() == 40).then_some(())).await;
    assert_eq!(heard(&cai), heard(&dan));

    pair.first.signal("KILL").unwrap();
    // What was said to the dead node is lost; then the other one is the home.
    let is_heard = async || {
        bob.say(room("stage"), "is anybody there?").await;
        (heard(&cai).len() > 40).then_some(())
    };
    eventually("a message on the node that is left", is_heard).await;
    assert_eq!(members(&cai).await, ["ann", "bob", "cai", "dan"], "they may return");
    let both = [("light", "on"), ("song", "one")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attributes(&cai).await, both);
    let found = soon(cai.query_room_members_attributes(["ann", "bob"], "stage")).await.unwrap();
    assert!(
        found.infos.iter().all(|info| info.attributes == pairs("seat", "1")) && found.infos.len() == 2,
        "{found:?}"
    );
    // They do not return: their time ends, once for each.
    let is_told = async || [&cai, &bob].iter().all(|device| left(device).len() >= 2).then_some(());
    pair.advance_second("ann and dan have left", is_told).await;
    assert_eq!((left(&cai), left(&bob)), (vec!["ann".to_owned(), "dan".to_owned()], left(&cai)));
    assert_eq!(members(&bob).await, ["bob", "cai"]);
    for device in [ann, bob, cai, dan] {
        device.quit().await;
    }
}

/// The states of a device in the room, as it was told.
fn states(device: &Device) -> Vec<(RoomState, RoomEvent)> {
    let of = |event: &Event| match event {
        Event::RoomStateChanged(event) => (event.state(), event.event()),
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::RoomStateChanged).iter().map(of).collect()
}

/// Waits until a device has had these states. What it sends shows it that its connection is gone.
async fn has_had(device: &Device, expected: &[(RoomState, RoomEvent)]) {
    drop(tokio::spawn(device.query_room_online_member_count("stage")));
    eventually("the states in the room", async || (states(device) == expected).then_some(())).await;
    let connection = |event: &Event| match event {
        Event::ConnectionStateChanged(event) => event.state(),
        other => panic!("{other:?}"),
    };
    let connections: Vec<_> = device.seen_of(EventKind::ConnectionStateChanged).iter().map(connection).collect();
    assert!(connections.ends_with(&[ConnectionState::Reconnecting, ConnectionState::Connected]), "{connections:?}");
}

#[tokio::test]
async fn who_returns_in_time_from_a_dead_node_is_still_in_the_room_and_who_returns_too_late_is_not() {
    let entered = [(RoomState::Connecting, RoomEvent::ActiveEnter), (RoomState::Connected, RoomEvent::Success)];
    let interrupted = (RoomState::Connecting, RoomEvent::NetworkInterrupted);
    let bus = Nats::start().unwrap();
    let mut pair = Pair::start("returns", &bus).await;
    let (of_ann, of_dan) = (Proxy::to(pair.first.address(), 1).await, Proxy::to(pair.first.address(), 2).await);
    let (ann, dan) = (pair.user_at(of_ann.address(), "ann").await, pair.user_at(of_dan.address(), "dan").await);
    let cai = pair.user(&pair.second, "cai").await;
    for device in [&ann, &cai, &dan] {
        enter(device).await;
    }
    pair.first.signal("KILL").unwrap();
    of_ann.set_server(pair.second.address());
    has_had(&ann, &[entered[0], entered[1], interrupted, entered[1]]).await;
    assert_eq!(members(&cai).await, ["ann", "cai", "dan"]);
    // What was said to the dead node is lost; then the other one is the home.
    let is_heard = async || {
        ann.say(room("stage"), "here I am").await;
        heard(&cai).contains(&"here I am".to_owned()).then_some(())
    };
    eventually("a message of the device that is back", is_heard).await;
    // Dan's time ends, and Ann's does not.
    pair.advance_second("Dan has left", async || (!left(&cai).is_empty()).then_some(())).await;
    eventually("Ann is told", async || (!left(&ann).is_empty()).then_some(())).await;
    assert_eq!((left(&cai), left(&ann)), (vec!["dan".to_owned()], vec!["dan".to_owned()]));
    of_dan.set_server(pair.second.address());
    let too_late = (RoomState::Disconnected, RoomEvent::ConnectTimeout);
    has_had(&dan, &[entered[0], entered[1], interrupted, too_late]).await;
    assert_eq!(members(&cai).await, ["ann", "cai"]);
    // Behind all that was told: nobody entered again, and nobody else left.
    ann.say(room("stage"), "end").await;
    cai.receives("end").await;
    let is_ann = |event: &Event| match event {
        Event::RoomMemberJoined(event) => event.member_list.iter().any(|member| member.user_id == "ann"),
        _ => false,
    };
    assert!(!cai.seen().iter().any(is_ann) && left(&cai) == ["dan"]);
    for device in [ann, cai, dan] {
        device.quit().await;
    }
}

#[tokio::test]
async fn a_message_for_which_the_home_of_its_room_has_no_place_is_reported_there() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("full", &bus);
    let first = Server::start(quiet(deployment.config(0))).await.unwrap();
    let second = Server::start(quiet(deployment.config(1))).await.unwrap();
    // The room is made on the first node, so this is its home.
    let (ann, cai) = (user(&first, "ann").await, user(&second, "cai").await);
    meet(&ann, &cai).await;
    let key = ConversationKey(deployment.sql("SELECT id FROM conversation WHERE type = 1").parse().unwrap());
    let (gate, closed) = std::sync::mpsc::channel::<()>();
    let (arrived, here) = tokio::sync::oneshot::channel();
    let held = first.app().db.submit(Scope::conversation(key), async move |_: &mut Tx<'_>| {
        arrived.send(()).unwrap();
        let _ = closed.recv();
        Ok(())
    });
    soon(here).await.unwrap();
    let mut waiting = Vec::new();
    loop {
        let mut next = first.app().db.submit(Scope::conversation(key), async |_: &mut Tx<'_>| Ok(()));
        match (&mut next).now_or_never() {
            None => waiting.push(next),
            Some(refused) => {
                refused.unwrap_err();
                break;
            }
        }
    }
    cai.say(room("stage"), "lost").await;
    let report = |event: &Event| if let Event::Error(error) = event { Some(error.message.clone()) } else { None };
    let report = ann.until("a report", |seen| seen.iter().find_map(report)).await;
    assert!(report.contains(" 1 "), "{report}");
    drop(gate);
    soon(held).await.unwrap();
    for done in waiting {
        soon(done).await.unwrap();
    }
    cai.say(room("stage"), "later").await;
    ann.receives("later").await;
    assert_eq!(heard(&ann), ["hello", "later"]);
    for device in [ann, cai] {
        device.quit().await;
    }
    first.stop().await;
    second.stop().await;
}

/// While the bus is down, a message waits in the queue of its sender's node. When it is up, the home of the room is another node.
#[tokio::test]
async fn a_message_to_a_room_does_not_overtake_one_that_was_sent_while_the_bus_was_down() {
    let mut bus = Nats::private(&[]).unwrap();
    let deployment = Deployment::new("overtakes", &bus);
    let first = Server::start(quiet(deployment.config(0))).await.unwrap();
    let mut config = quiet(deployment.config(1));
    config.limits.max_text_bytes = 5;
    let second = Server::start(config).await.unwrap();
    let (ann, cai) = (user(&first, "ann").await, user(&second, "cai").await);
    meet(&ann, &cai).await;
    bus.kill().unwrap();
    until(&second, BusState::Down).await;
    // All queues of this node wait. Not for the room: its home could not go on either.
    let gate = tokio::sync::watch::Sender::new(false);
    let held: Vec<_> = (1..=64)
        .map(|key| {
            let mut gate = gate.subscribe();
            second.app().db.submit(Scope::conversation(ConversationKey(key)), async move |_: &mut Tx<'_>| {
                drop(gate.wait_for(|is_open| *is_open).await);
                Ok(())
            })
        })
        .collect();
    // The server refuses a text that is too long once the message before it has its place.
    let is_placed = async || {
        let refused = soon(cai.send_to(room("stage"), Message::text("too long"))).await.unwrap_err();
        assert!(refused.to_string().contains("at most 5 are allowed"), "{refused}");
    };
    let one = cai.send_to(room("stage"), Message::text("one"));
    is_placed().await;
    bus.restart().unwrap();
    for server in [&first, &second] {
        until(server, BusState::Up).await;
    }
    let two = cai.send_to(room("stage"), Message::text("two"));
    is_placed().await;
    gate.send_replace(true);
    for held in held {
        soon(held).await.unwrap();
    }
    for sent in [soon(one).await, soon(two).await] {
        sent.unwrap();
    }
    ann.receives("two").await;
    cai.say(room("stage"), "end").await;
    ann.receives("end").await;
    assert_eq!(heard(&ann), ["hello", "one", "two", "end"]);
    for device in [ann, cai] {
        device.quit().await;
    }
    first.stop().await;
    second.stop().await;
}

/// Commits that concern rooms wait as long as there is a row in `gate`, and draw a number before.
const GATE: [&str; 6] = [
    "CREATE TABLE gate (id BIGINT)",
    "INSERT INTO gate VALUES (1)",
    "CREATE SEQUENCE waits",
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''waits''); \
     WHILE EXISTS (SELECT 1 FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NULL; END'",
    "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON room_attribute DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
     EXECUTE FUNCTION wait()",
    "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON room_member DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
     EXECUTE FUNCTION wait()",
];

/// The commit is carried out, and its answer does not arrive: nobody is told what it did.
#[tokio::test]
async fn a_room_is_the_same_for_all_although_the_answer_to_a_commit_is_lost() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("doubt", &bus);
    let (relay, first, second) = two_nodes(&deployment, AdminListen::Off).await;
    let (ann, bob) = (user(&first, "ann").await, user(&first, "bob").await);
    let (cai, dan) = (user(&second, "cai").await, user(&first, "dan").await);
    for device in [&ann, &bob, &cai] {
        enter(device).await;
    }
    for statement in GATE {
        deployment.sql(statement);
    }
    let loses_its_answer = async |nth: &str| {
        eventually("the commit waits", async || (deployment.sql("SELECT last_value FROM waits") == nth).then_some(()))
            .await;
        relay.cut();
    };
    // The sequence says 1 before its first number, too.
    deployment.sql("SELECT nextval('waits')");
    let setting = ann.set_room_attributes(pairs("song", "one"), "stage", RoomAttributesSetConfig::default());
    let (set, ()) = soon(async { tokio::join!(setting, loses_its_answer("2")) }).await;
    set.unwrap_err();
    // Otherwise the members could read what was there before the commit, and hear nothing later.
    decision_is_awaited(&deployment).await;
    deployment.sql("DELETE FROM gate");
    for device in [&ann, &bob, &cai] {
        let is_told = |event: &Event| match event {
            Event::RoomAttributesUpdated(event) => event.infos[0].room_attributes == pairs("song", "one"),
            _ => false,
        };
        device.until("the attribute", |seen| seen.iter().any(is_told).then_some(())).await;
    }
    // Dan cannot know whether they are in the room: they are let out again.
    deployment.sql("INSERT INTO gate VALUES (1)");
    let info = RoomInfo { room_id: "stage".into(), room_name: String::new() };
    let entering = dan.enter_room(info, RoomAdvancedConfig::default());
    let (entered, ()) = soon(async { tokio::join!(entering, loses_its_answer("3")) }).await;
    entered.unwrap_err();
    decision_is_awaited(&deployment).await;
    deployment.sql("DELETE FROM gate");
    eventually("Dan is let out", async || (left(&bob) == ["dan"]).then_some(())).await;
    assert_eq!(members(&bob).await, ["ann", "bob", "cai"]);
    let enters = async || {
        let info = RoomInfo { room_id: "stage".into(), room_name: String::new() };
        soon(dan.enter_room(info, RoomAdvancedConfig::default())).await.ok()
    };
    eventually("Dan enters", enters).await;
    for device in [&ann, &bob, &cai] {
        let is_dan = |event: &Event| match event {
            Event::RoomMemberJoined(event) => event.member_list.iter().any(|member| member.user_id == "dan"),
            _ => false,
        };
        device.until("Dan is in the room", |seen| seen.iter().any(is_dan).then_some(())).await;
    }
    for device in [ann, bob, cai, dan] {
        device.quit().await;
    }
    first.stop().await;
    second.stop().await;
}

/// What is kept of the room, as a member reads it.
async fn kept(device: &Device) -> Vec<String> {
    texts(&device.history(room("stage")).await)
}

/// What a device has heard of that.
fn heard_of_kept(device: &Device) -> Vec<String> {
    let all: Vec<Message> = device.received_from("stage").into_iter().map(|(message, _)| message).collect();
    texts(all.iter().filter(|message| message.message_seq > 0))
}

/// Whether these are in the order of `all`, each once.
fn is_part_of(part: &[String], all: &[String]) -> bool {
    let mut all = all.iter();
    part.iter().all(|one| all.any(|other| other == one))
}

#[tokio::test]
async fn the_history_of_a_room_has_the_order_that_was_heard_on_both_nodes() {
    let bus = Nats::start().unwrap();
    let pair = Pair::with_rooms("kept", &bus, 30_000, true).await;
    let (ann, dan) = (pair.user(&pair.first, "ann").await, pair.user(&pair.first, "dan").await);
    let (bob, cai) = (pair.user(&pair.second, "bob").await, pair.user(&pair.second, "cai").await);
    for device in [&ann, &bob, &cai, &dan] {
        enter(device).await;
    }
    ann.say(room("stage"), "hi").await;
    bob.receives("hi").await;
    bob.say(room("stage"), "hello").await;
    ann.receives("hello").await;
    // They speak at once on two nodes, and what each says keeps its order, also what is not kept.
    let speak = |device: &Device, who: &str| -> Vec<_> {
        let texts = (0..60).map(|number| match number % 3 {
            0 => Message::barrage(format!("{who} {number}")),
            _ => Message::text(format!("{who} {number}")),
        });
        texts.map(|message| device.send_to(room("stage"), message)).collect()
    };
    let (of_ann, of_bob) = (speak(&ann, "ann"), speak(&bob, "bob"));
    for sent in join_all(of_ann.into_iter().chain(of_bob)).await {
        let sent = sent.unwrap();
        assert_eq!(sent.message_seq > 0, sent.r#type() == MessageType::Text, "{sent:?}");
    }
    eventually("all messages", async || (heard(&cai).len() == 122 && heard(&dan).len() == 122).then_some(())).await;
    let all = kept(&cai).await;
    assert_eq!((&heard_of_kept(&cai), &heard_of_kept(&dan)), (&all, &all));
    for who in ["ann", "bob"] {
        let own: Vec<_> = all.iter().filter(|text| text.starts_with(&format!("{who} "))).cloned().collect();
        let said = (0..60).filter(|number| number % 3 > 0).map(|number| format!("{who} {number}"));
        assert_eq!(own, said.collect::<Vec<_>>());
    }
    for (device, who) in [(&cai, "bob"), (&dan, "ann"), (&cai, "ann"), (&dan, "bob")] {
        let received = device.received_from("stage");
        let numbers = received.iter().filter_map(|(message, _)| {
            let text = match &message.body {
                Some(Body::Barrage(barrage)) => &barrage.message,
                Some(Body::Text(text)) => &text.message,
                _ => return None,
            };
            text.strip_prefix(who)?.trim().parse::<i32>().ok()
        });
        // What is not kept may come after later messages that are.
        let (barrages, kept): (Vec<i32>, Vec<i32>) = numbers.partition(|number| number % 3 == 0);
        assert_eq!(barrages, (0..60).filter(|number| number % 3 == 0).collect::<Vec<_>>(), "in the order of the calls");
        assert_eq!(kept, (0..60).filter(|number| number % 3 > 0).collect::<Vec<_>>(), "in the order of the calls");
    }
    // Nobody hears what they say themselves.
    cai.say(room("stage"), "end").await;
    for (device, who) in [(&ann, "ann "), (&bob, "bob ")] {
        device.receives("end").await;
        assert!(heard(device).iter().all(|text| !text.starts_with(who)));
    }
    for device in [ann, bob, cai, dan] {
        device.quit().await;
    }
}

#[tokio::test]
async fn what_a_room_keeps_survives_the_death_of_its_home() {
    let bus = Nats::start().unwrap();
    let pair = Pair::with_rooms("keeps", &bus, LEASE_MS, true).await;
    let ann = pair.user(&pair.first, "ann").await;
    let (bob, cai) = (pair.user(&pair.second, "bob").await, pair.user(&pair.second, "cai").await);
    for device in [&ann, &bob, &cai] {
        enter(device).await;
    }
    ann.say(room("stage"), "before").await;
    cai.receives("before").await;
    bob.say(room("stage"), "hello").await;
    ann.receives("hello").await;
    pair.first.signal("KILL").unwrap();
    // What is said until the death is noticed is kept, and heard with what is said next.
    let mut said = vec!["before".to_owned(), "hello".to_owned()];
    let is_heard = async || {
        let text = format!("is anybody there? {}", bob.history(room("stage")).await.len());
        bob.say(room("stage"), &text).await;
        (heard(&cai).last() == Some(&text)).then_some(())
    };
    eventually("a message on the node that is left", is_heard).await;
    let all = kept(&cai).await;
    said.extend(all.iter().filter(|text| text.starts_with("is anybody")).cloned());
    assert_eq!(all, said);
    assert_eq!(heard(&cai), all, "nothing that was stored is missing");
    assert!(is_part_of(&heard(&ann), &all));
    for device in [ann, bob, cai] {
        device.quit().await;
    }
}
