//! The blacklist: its entries, and their effect on messages.

use futures_util::future::join_all;
use zim_integration_tests::{Device, RawClient, World, code, hello, refusal, request, send_text, soon, texts};
use zim_protocol::{
    AddUsersToBlacklistRequest, BlacklistChangeAction, BlacklistQueriedResult, BlacklistQueryConfig,
    CheckUserIsInBlacklistRequest, ConversationType, ErrorCode, ErrorUserInfo, Event, EventKind, FillRequest, Message,
    MessageSentStatus, QueryBlacklistRequest, RemoveUsersFromBlacklistRequest, SendMessageRequest, client_frame,
    event_frame,
};

const ADDED: BlacklistChangeAction = BlacklistChangeAction::Added;
const REMOVED: BlacklistChangeAction = BlacklistChangeAction::Removed;
const BLOCKED: ErrorCode = ErrorCode::MessageModuleSenderInBlacklist;
const ALL: BlacklistQueryConfig = BlacklistQueryConfig { next_flag: 0, count: 100 };

/// The blacklist changes that a device has raised: the user, and whether they were added.
fn raised(device: &Device) -> Vec<(String, bool)> {
    changes(&device.seen_of(EventKind::BlacklistChanged))
}

fn changes(seen: &[Event]) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    for event in seen {
        if let Event::BlacklistChanged(event) = event {
            all.extend(event.user_list.iter().map(|user| (user.user_id.clone(), event.action() == ADDED)));
        }
    }
    all
}

/// Waits until a device has raised exactly these blacklist changes.
async fn raises(device: &Device, expected: &[(&str, BlacklistChangeAction)]) {
    let expected: Vec<(String, bool)> =
        expected.iter().map(|(user, action)| ((*user).to_owned(), *action == ADDED)).collect();
    device.until("changes of the blacklist", |seen| (changes(seen).len() >= expected.len()).then_some(())).await;
    assert_eq!(raised(device), expected);
}

fn ids(result: &BlacklistQueriedResult) -> Vec<&str> {
    result.blacklist.iter().map(|user| user.user_id.as_str()).collect()
}

async fn list(device: &Device) -> Vec<String> {
    let all = soon(device.query_blacklist(ALL)).await.unwrap();
    ids(&all).into_iter().map(str::to_owned).collect()
}

fn error(user_id: &str, code: ErrorCode) -> ErrorUserInfo {
    ErrorUserInfo { user_id: user_id.to_owned(), reason: i64::from(code as i32) }
}

async fn block(device: &Device, user: &str) {
    assert!(soon(device.add_users_to_blacklist([user])).await.unwrap().error_user_list.is_empty());
}

fn add(users: &[&str]) -> AddUsersToBlacklistRequest {
    AddUsersToBlacklistRequest { user_ids: users.iter().map(|user| (*user).to_owned()).collect() }
}

fn remove(users: &[&str]) -> RemoveUsersFromBlacklistRequest {
    RemoveUsersFromBlacklistRequest { user_ids: users.iter().map(|user| (*user).to_owned()).collect() }
}

/// The number of stored messages from a user, as the receiver sees it.
async fn stored(raw: &mut RawClient, peer: &str) -> usize {
    let conversation =
        Some(zim_protocol::ConversationRef { r#type: ConversationType::Peer as i32, id: peer.to_owned() });
    let mut count = 0;
    loop {
        let page = FillRequest { conversation: conversation.clone(), reverse: false, anchor: count, count: 100 };
        match raw.call(&page).await {
            Ok(page) if page.messages.is_empty() => break,
            Ok(page) => count = page.to,
            Err(error) => {
                assert_eq!(error.code, ErrorCode::ConversationModuleConversationDoesNotExist as i32);
                break;
            }
        }
    }
    usize::try_from(count).unwrap()
}

/// The n-th message of a sender, with a unique key.
fn nth(to: &str, message: Message, sender: u8, n: u32) -> SendMessageRequest {
    let mut key = [sender; 16];
    key[..4].copy_from_slice(&n.to_be_bytes());
    SendMessageRequest { message: Some(message), client_key: key.to_vec().into(), ..send_text(to, "", 0) }
}

/// The number of messages that a device writes at once.
const BURST: u32 = 40;

fn burst(to: &str, message: &Message, sender: u8, round: u32) -> Vec<client_frame::Frame> {
    (round * BURST..(round + 1) * BURST)
        .map(|n| request(u64::from(n) + 1_000, &nth(to, message.clone(), sender, n)))
        .collect()
}

#[tokio::test]
async fn add_users_to_blacklist_reaches_all_own_devices_and_nobody_else() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl, dora) = (world.user("bob").await, world.user("carl").await, world.user("dora").await);
    soon(bob.update_user_name("Bob")).await.unwrap();
    let added = soon(phone.add_users_to_blacklist(["bob", "carl", "bob"])).await.unwrap();
    assert!(added.error_user_list.is_empty());
    for device in [&phone, &laptop] {
        raises(device, &[("bob", ADDED), ("carl", ADDED)]).await;
        let found = soon(device.query_blacklist(ALL)).await.unwrap();
        assert_eq!((ids(&found), found.next_flag), (vec!["carl", "bob"], 0));
        assert_eq!(found.blacklist[1].user_name, "Bob");
    }
    // The calling device raises one event for one call.
    assert_eq!(phone.seen_of(EventKind::BlacklistChanged).len(), 1);
    soon(laptop.remove_users_from_blacklist(["carl"])).await.unwrap();
    for device in [&phone, &laptop] {
        raises(device, &[("bob", ADDED), ("carl", ADDED), ("carl", REMOVED)]).await;
        assert_eq!(list(device).await, ["bob"]);
    }
    // A later message has arrived everywhere, and nobody else has raised an event.
    for (device, name) in [(&bob, "bob"), (&carl, "carl"), (&dora, "dora")] {
        phone.say(name, "done").await;
        device.receives("done").await;
        assert!(raised(device).is_empty());
        assert!(list(device).await.is_empty());
    }
    world.end().await;
}

#[tokio::test]
async fn add_users_to_blacklist_blocks_their_messages_and_nothing_else() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    bob.say("ann", "before").await;
    ann.receives("before").await;
    block(&ann, "bob").await;
    assert_eq!(refusal(soon(bob.send("ann", Message::text("unwanted"))).await), BLOCKED);
    assert_eq!(refusal(soon(bob.send("ann", Message::command(vec![1]))).await), BLOCKED);
    assert_eq!(refusal(soon(bob.send("ann", Message::custom("unwanted", 7))).await), BLOCKED);
    // The sender sees that the message failed; the conversation is unchanged.
    bob.until("a failed message", |seen| {
        seen.iter().find_map(|event| match event {
            Event::MessageSentStatusChanged(event) => event
                .infos
                .iter()
                .find(|info| info.status == MessageSentStatus::Failed as i32 && !info.reason.is_empty())
                .map(|info| info.message.clone().unwrap()),
            _ => None,
        })
    })
    .await;
    let history = bob.history("ann").await;
    assert_eq!(
        history.iter().map(Message::sent_status).collect::<Vec<_>>(),
        [MessageSentStatus::Success, MessageSentStatus::Failed, MessageSentStatus::Failed]
    );
    assert!(!bob.conversation("ann").await.is_disabled);
    // Ann can write to bob, bob to others, and others to ann.
    ann.say("bob", "I can").await;
    bob.receives("I can").await;
    bob.say("carl", "is she well?").await;
    carl.receives("is she well?").await;
    carl.say("ann", "are you well?").await;
    ann.receives("are you well?").await;
    assert_eq!(texts(ann.received_from("bob").iter().map(|(message, _)| message)), ["before"]);
    let fresh = world.device("ann").await;
    assert_eq!(texts(&fresh.history("bob").await), ["before", "I can"]);
    world.end().await;
}

#[tokio::test]
async fn add_users_to_blacklist_applies_before_the_conversation_exists() {
    let world = World::new().await;
    // Both registration orders of the two accounts.
    for (ann, bob) in [("ann1", "bob1"), ("ann2", "bob2")] {
        if ann == "ann2" {
            world.register([bob]).await;
        }
        let (a, b) = (world.user(ann).await, world.user(bob).await);
        block(&a, bob).await;
        assert_eq!(refusal(soon(b.send(ann, Message::command(vec![1]))).await), BLOCKED);
        assert_eq!(refusal(soon(b.send(ann, Message::text("first"))).await), BLOCKED);
        assert_eq!(refusal(soon(b.send(ann, Message::text("second"))).await), BLOCKED);
        assert!(a.conversations().await.is_empty());
        a.say(bob, "mine is the first").await;
        b.receives("mine is the first").await;
        assert_eq!(refusal(soon(b.send(ann, Message::text("third"))).await), BLOCKED);
        soon(a.remove_users_from_blacklist([bob])).await.unwrap();
        b.say(ann, "at last").await;
        a.receives("at last").await;
        // Both can block each other.
        block(&a, bob).await;
        block(&b, ann).await;
        soon(a.remove_users_from_blacklist([bob])).await.unwrap();
        b.say(ann, "still open this way").await;
        assert_eq!(refusal(soon(a.send(bob, Message::text("closed that way"))).await), BLOCKED);
    }
    world.end().await;
}

#[tokio::test]
async fn add_users_to_blacklist_reports_an_error_for_each_refused_user() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    world.register(["bob", "carl"]).await;
    for (user, code) in
        [("ann", ErrorCode::FriendModuleCannotAddSelfToBlacklist), ("nobody", ErrorCode::CommonModuleUserIsNotExist)]
    {
        assert_eq!(refusal(soon(ann.add_users_to_blacklist([user])).await), code);
    }
    block(&ann, "bob").await;
    let again = soon(ann.add_users_to_blacklist(["bob"])).await;
    assert_eq!(refusal(again), ErrorCode::FriendModuleAlreadyAddToBlacklist);
    // All are refused, for different reasons.
    let none = soon(ann.add_users_to_blacklist(["ann", "bob", "nobody"])).await;
    assert_eq!(refusal(none), ErrorCode::FriendModuleAddBlacklistFail);
    let some = soon(ann.add_users_to_blacklist(["nobody", "ann", "carl", "bob"])).await.unwrap();
    let expected = [
        error("nobody", ErrorCode::CommonModuleUserIsNotExist),
        error("ann", ErrorCode::FriendModuleCannotAddSelfToBlacklist),
        error("bob", ErrorCode::FriendModuleAlreadyAddToBlacklist),
    ];
    assert_eq!(some.error_user_list, expected);
    assert_eq!(list(&ann).await, ["carl", "bob"]);
    raises(&ann, &[("bob", ADDED), ("carl", ADDED)]).await;
    world.end().await;
}

#[tokio::test]
async fn remove_users_from_blacklist_reports_an_error_for_each_refused_user() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    world.register(["bob", "carl", "dora"]).await;
    soon(ann.add_users_to_blacklist(["bob", "carl"])).await.unwrap();
    for (user, code) in [
        ("dora", ErrorCode::FriendModuleUserNotInBlacklist),
        ("ann", ErrorCode::FriendModuleUserNotInBlacklist),
        ("nobody", ErrorCode::CommonModuleUserIsNotExist),
    ] {
        assert_eq!(refusal(soon(ann.remove_users_from_blacklist([user])).await), code, "{user}");
    }
    soon(ann.remove_users_from_blacklist(["bob"])).await.unwrap();
    let again = soon(ann.remove_users_from_blacklist(["bob"])).await;
    assert_eq!(refusal(again), ErrorCode::FriendModuleAlreadyDeleteFromBlacklist);
    let none = soon(ann.remove_users_from_blacklist(["bob", "dora"])).await;
    assert_eq!(refusal(none), ErrorCode::FriendModuleDelBlacklistFail);
    let some = soon(ann.remove_users_from_blacklist(["dora", "carl"])).await.unwrap();
    assert_eq!(some.error_user_list, [error("dora", ErrorCode::FriendModuleUserNotInBlacklist)]);
    assert!(list(&ann).await.is_empty());
    raises(&ann, &[("bob", ADDED), ("carl", ADDED), ("bob", REMOVED), ("carl", REMOVED)]).await;
    world.end().await;
}

#[tokio::test]
async fn remove_users_from_blacklist_takes_effect_at_once() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for round in 0..5 {
        block(&ann, "bob").await;
        assert_eq!(refusal(soon(bob.send("ann", Message::text("closed"))).await), BLOCKED);
        soon(ann.remove_users_from_blacklist(["bob"])).await.unwrap();
        let text = format!("open {round}");
        bob.say("ann", &text).await;
        ann.receives(&text).await;
        soon(bob.send("ann", Message::command(vec![round]))).await.unwrap();
    }
    world.end().await;
}

#[tokio::test]
async fn add_users_to_blacklist_and_remove_users_from_blacklist_take_1_to_20_users() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let users: Vec<String> = (0..21).map(|number| format!("user{number:02}")).collect();
    world.register(&users).await;
    let mut raw = world.raw_user("ann", 9).await;
    let all: Vec<&str> = users.iter().map(String::as_str).collect();
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    let too_long = "x".repeat(33);
    for bad in [&all[..], &[], &["a b"], &[""], &[too_long.as_str()]] {
        assert_eq!(refusal(soon(ann.add_users_to_blacklist(bad.iter().copied())).await), invalid, "{bad:?}");
        assert_eq!(refusal(soon(ann.remove_users_from_blacklist(bad.iter().copied())).await), invalid, "{bad:?}");
        assert_eq!(raw.call(&add(bad)).await.unwrap_err().code, invalid as i32, "{bad:?}");
        assert_eq!(raw.call(&remove(bad)).await.unwrap_err().code, invalid as i32, "{bad:?}");
    }
    assert!(soon(ann.add_users_to_blacklist(&users[..20])).await.unwrap().error_user_list.is_empty());
    let newest_first: Vec<&str> = all[..20].iter().rev().copied().collect();
    assert_eq!(list(&ann).await, newest_first);
    assert!(soon(ann.remove_users_from_blacklist(&users[..20])).await.unwrap().error_user_list.is_empty());
    assert!(list(&ann).await.is_empty());
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn add_users_to_blacklist_is_refused_when_the_list_is_full() {
    let world = World::with(|config| {
        assert_eq!(config.limits.max_blocked_users, 1_000);
        config.limits.max_blocked_users = 3;
    })
    .await;
    let ann = world.user("ann").await;
    world.register((0..6).map(|number| format!("u{number}"))).await;
    soon(ann.add_users_to_blacklist(["u0", "u1"])).await.unwrap();
    // One place is left; the first user of the call gets it.
    let some = soon(ann.add_users_to_blacklist(["u2", "u3", "u0"])).await.unwrap();
    let full = ErrorCode::FriendModuleBlacklistListQuantityLimit;
    assert_eq!(some.error_user_list, [error("u3", full), error("u0", ErrorCode::FriendModuleAlreadyAddToBlacklist)]);
    assert_eq!(refusal(soon(ann.add_users_to_blacklist(["u4", "u5"])).await), full);
    soon(ann.remove_users_from_blacklist(["u1"])).await.unwrap();
    block(&ann, "u4").await;
    assert_eq!(list(&ann).await, ["u4", "u2", "u0"]);
    world.end().await;
}

#[tokio::test]
async fn query_blacklist_pages_newest_first_online_and_offline() {
    let mut world = World::new().await;
    let ann = world.user("ann").await;
    world.register((0..6).map(|number| format!("u{number}"))).await;
    soon(ann.add_users_to_blacklist(["u0", "u1", "u2"])).await.unwrap();
    soon(ann.add_users_to_blacklist(["u3", "u4"])).await.unwrap();
    // A user who is added again is at the top.
    soon(ann.remove_users_from_blacklist(["u1"])).await.unwrap();
    block(&ann, "u1").await;
    let mut raw = world.raw_user("ann", 9).await;
    for count in [0, -1, 101] {
        let config = BlacklistQueryConfig { next_flag: 0, count };
        assert_eq!(refusal(soon(ann.query_blacklist(config)).await), ErrorCode::CommonModuleParamsInvalid);
        let refused = raw.call(&QueryBlacklistRequest { config: Some(config) }).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    }
    let refused = raw.call(&QueryBlacklistRequest { config: None }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    raw.end().await;
    let mut flags = Vec::new();
    for is_online in [true, false] {
        if !is_online {
            world.stop_server().await;
            ann.until("the end of the connection", |seen| {
                seen.iter()
                    .any(|event| {
                        event.kind() == EventKind::ConnectionStateChanged
                            && matches!(event, Event::ConnectionStateChanged(changed)
                        if changed.state() == zim_protocol::ConnectionState::Reconnecting)
                    })
                    .then_some(())
            })
            .await;
        }
        let first = soon(ann.query_blacklist(BlacklistQueryConfig { next_flag: 0, count: 2 })).await.unwrap();
        assert_eq!(ids(&first), ["u1", "u4"]);
        let second = BlacklistQueryConfig { next_flag: first.next_flag, count: 2 };
        let second = soon(ann.query_blacklist(second)).await.unwrap();
        assert_eq!(ids(&second), ["u3", "u2"]);
        let third = BlacklistQueryConfig { next_flag: second.next_flag, count: 2 };
        let third = soon(ann.query_blacklist(third)).await.unwrap();
        assert_eq!((ids(&third), third.next_flag), (vec!["u0"], 0));
        // The last page has no next flag.
        let whole = soon(ann.query_blacklist(BlacklistQueryConfig { next_flag: 0, count: 5 })).await.unwrap();
        assert_eq!((whole.blacklist.len(), whole.next_flag), (5, 0));
        flags.push((first.next_flag, second.next_flag));
        // The device answers this without a connection too.
        for (user, is_listed) in [("u1", true), ("u5", false)] {
            let checked = soon(ann.check_user_is_in_blacklist(user)).await.unwrap();
            assert_eq!(checked.is_user_in_blacklist, is_listed, "{user}");
        }
    }
    assert_eq!(flags[0], flags[1]);
    world.end().await;
}

#[tokio::test]
async fn check_user_is_in_blacklist_answers_for_registered_users() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let is_listed = async |device: &Device, user: &str| {
        soon(device.check_user_is_in_blacklist(user)).await.map(|checked| checked.is_user_in_blacklist)
    };
    assert!(!is_listed(&ann, "bob").await.unwrap());
    block(&ann, "bob").await;
    assert!(is_listed(&ann, "bob").await.unwrap());
    assert!(!is_listed(&ann, "ann").await.unwrap());
    // The blacklist applies in one direction.
    assert!(!is_listed(&bob, "ann").await.unwrap());
    assert_eq!(refusal(is_listed(&ann, "nobody").await), ErrorCode::CommonModuleUserIsNotExist);
    let mut raw = world.raw_user("ann", 9).await;
    for bad in ["", "a b"] {
        assert_eq!(refusal(is_listed(&ann, bad).await), ErrorCode::CommonModuleParamsInvalid);
        let request = CheckUserIsInBlacklistRequest { user_id: bad.to_owned() };
        assert_eq!(raw.call(&request).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    }
    raw.end().await;
    world.end().await;
}

/// Many devices of one sender send as fast as they can while the sender is blocked. After the answer to the block
/// nothing more is stored.
#[tokio::test]
async fn add_users_to_blacklist_stores_no_message_after_its_answer() {
    const SENDERS: u8 = 8;
    let world = World::new().await;
    let mut ann = world.raw_user("ann", 100).await;
    let mut senders = Vec::new();
    for device in (0..SENDERS).step_by(2) {
        senders.push(world.raw_user("bob", device).await);
        let mut elsewhere = world.raw_elsewhere().await;
        elsewhere.handshake(hello(device + 1)).await;
        elsewhere.call(&world.login_request("bob")).await.unwrap();
        senders.push(elsewhere);
    }
    let mut accepted = 0;
    for round in 0..10_u32 {
        let mut writes = Vec::new();
        for (device, sender) in (0..SENDERS).zip(&mut senders) {
            writes.push(sender.write(burst("ann", &Message::text("let me in"), device, round)));
        }
        // The block arrives between the messages.
        let blocking = async {
            ann.call(&add(&["bob"])).await.unwrap();
            stored(&mut ann, "bob").await
        };
        let (at_answer, _) = futures_util::join!(blocking, join_all(writes));
        let answers = join_all(senders.iter_mut().map(|sender| sender.responses(BURST as usize))).await;
        let codes: Vec<i32> = answers.concat().iter().map(code).collect();
        accepted += codes.iter().filter(|code| **code == 0).count();
        assert!(codes.iter().all(|code| *code == 0 || *code == BLOCKED as i32), "{codes:?}");
        assert_eq!(stored(&mut ann, "bob").await, at_answer, "round {round}: something was stored after the answer");
        assert_eq!(accepted, at_answer, "round {round}: exactly the acknowledged messages are stored");
        ann.call(&remove(&["bob"])).await.unwrap();
    }
    join_all(senders.into_iter().map(RawClient::end)).await;
    ann.end().await;
    world.end().await;
}

/// The same while the first message creates the conversation.
#[tokio::test]
async fn add_users_to_blacklist_stores_no_first_message_after_its_answer() {
    let world = World::new().await;
    let mut ann = world.raw_user("ann", 100).await;
    for round in 0..12 {
        let bob = format!("bob{round}");
        let mut senders = Vec::new();
        for device in 0..4 {
            senders.push(world.raw_user(&bob, device).await);
        }
        let mut calls = Vec::new();
        for (device, sender) in (0..4).zip(&mut senders) {
            let hello = nth("ann", Message::text("hello"), device, 0);
            calls.push(async move { sender.call(&hello).await.map(drop).map_err(|error| error.code) });
        }
        let block = add(&[&bob]);
        let blocking = async {
            ann.call(&block).await.unwrap();
            stored(&mut ann, &bob).await
        };
        let (sent, at_answer) = futures_util::join!(join_all(calls), blocking);
        let accepted = sent.iter().filter(|sent| sent.is_ok()).count();
        assert!(sent.iter().all(|sent| sent.is_ok() || *sent == Err(BLOCKED as i32)), "{sent:?}");
        assert_eq!((stored(&mut ann, &bob).await, accepted), (at_answer, at_answer), "round {round}");
        let late = senders[0].call(&nth("ann", Message::text("late"), 0, 1)).await.unwrap_err();
        assert_eq!(late.code, BLOCKED as i32);
        join_all(senders.into_iter().map(RawClient::end)).await;
    }
    ann.end().await;
    world.end().await;
}

/// Commands are not stored. A command that a third user sends after the answer to the block arrives after all that
/// passed.
#[tokio::test]
async fn add_users_to_blacklist_delivers_no_command_after_its_answer() {
    const SENDERS: u8 = 6;
    let world = World::new().await;
    let mut ann = world.raw_user("ann", 100).await;
    let mut carl = world.raw_user("carl", 101).await;
    let mut senders = Vec::new();
    for device in 0..SENDERS {
        senders.push(world.raw_user("bob", device).await);
    }
    for round in 0..10_u32 {
        let mut writes = Vec::new();
        for (device, sender) in (0..SENDERS).zip(&mut senders) {
            writes.push(sender.write(burst("ann", &Message::command(vec![1]), device, round)));
        }
        let blocking = async {
            ann.call(&add(&["bob"])).await.unwrap();
            carl.call(&nth("ann", Message::command(vec![2]), 50, 0)).await.unwrap();
        };
        futures_util::join!(blocking, join_all(writes));
        let answers = join_all(senders.iter_mut().map(|sender| sender.responses(BURST as usize))).await;
        let accepted = answers.concat().iter().filter(|response| code(response) == 0).count();
        // The accepted commands arrive before the third user's; nothing is left for the next round.
        let mut arrived = 0;
        loop {
            match ann.event().await.unwrap() {
                event_frame::Frame::Transient(transient) if transient.message.as_ref().unwrap().sender == "bob" => {
                    arrived += 1;
                }
                event_frame::Frame::Transient(_) => break,
                _ => {}
            }
        }
        assert_eq!(arrived, accepted, "round {round}");
        ann.call(&remove(&["bob"])).await.unwrap();
    }
    join_all(senders.into_iter().map(RawClient::end)).await;
    carl.end().await;
    ann.end().await;
    world.end().await;
}
