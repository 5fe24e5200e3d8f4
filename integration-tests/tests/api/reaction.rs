//! Reactions: counts, users, and who hears of them.

use zim_integration_tests::{Device, RawClient, World, eventually, group, refusal, soon};
use zim_protocol::{
    AddMessageReactionRequest, ConversationType, ErrorCode, Event, EventKind, Message, MessageReaction,
    MessageReactionAddConfig, MessageReactionUserChangeAction, MessageReactionUserQueryConfig,
    MessageReactionsChangedEvent, MessageRevokeConfig,
};

use super::group::create;

async fn add(device: &Device, kind: &str, message: &Message) -> Result<MessageReaction, zim_client_sdk::Error> {
    let added = device.add_message_reaction(kind, message, MessageReactionAddConfig::default());
    Ok(soon(added).await?.reaction.unwrap())
}

async fn changed(device: &Device) -> MessageReactionsChangedEvent {
    match device.next(EventKind::MessageReactionsChanged).await {
        Event::MessageReactionsChanged(event) => event,
        other => panic!("{other:?}"),
    }
}

fn users(reaction: &MessageReaction) -> Vec<&str> {
    reaction.user_list.iter().map(|user| user.user_id.as_str()).collect()
}

#[tokio::test]
async fn add_message_reaction_is_seen_by_everybody_as_their_own_or_not() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let phone = world.device("ann").await;
    let sent = ann.say("bob", "hi").await;
    let got = bob.receives("hi").await;
    phone.receives("hi").await;
    let result = add(&bob, "like", &got).await.unwrap();
    assert_eq!((result.total_count, result.sum_count, result.is_self_included), (1, 1, true));
    assert_eq!((users(&result), &*result.reaction_type, &result.message_id), (vec!["bob"], "like", &sent.message_id));
    for (device, is_own) in [(&ann, false), (&phone, false), (&bob, true)] {
        let event = changed(device).await;
        let reaction = &event.reactions[0];
        assert_eq!((reaction.total_count, reaction.is_self_included), (1, is_own));
        let change = &event.change_info_list[0];
        assert_eq!(change.message.as_ref().unwrap().reactions, event.reactions);
        let user = &change.user_change_info_list[0];
        assert_eq!((&*user.user_id, user.action(), user.sum_count), ("bob", MessageReactionUserChangeAction::Added, 1));
    }
    // Ann joins in. Each device knows which part is its user's.
    add(&ann, "like", &sent).await.unwrap();
    for (device, peer) in [(&ann, "bob"), (&phone, "bob"), (&bob, "ann")] {
        assert_eq!(changed(device).await.reactions[0].total_count, 2);
        let message = &device.history(peer).await[0];
        assert_eq!((users(&message.reactions[0]), message.reactions[0].is_self_included), (vec!["bob", "ann"], true));
        // The list shows it as well: it is the last message.
        assert_eq!(device.conversation(peer).await.last_message.unwrap().reactions.len(), 1);
    }
    let new = world.device("bob").await;
    let message = &new.history("ann").await[0];
    assert_eq!((message.reactions[0].total_count, message.reactions[0].is_self_included), (2, true));
    world.end().await;
}

#[tokio::test]
async fn delete_message_reaction_takes_back_only_ones_own() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    let got = bob.receives("hi").await;
    add(&bob, "a", &got).await.unwrap();
    add(&ann, "a", &sent).await.unwrap();
    add(&ann, "b", &sent).await.unwrap();
    assert_eq!(
        refusal(soon(bob.delete_message_reaction("b", &got)).await),
        ErrorCode::CommonModuleParamsInvalid,
        "it is Ann's"
    );
    let left = soon(bob.delete_message_reaction("a", &got)).await.unwrap().reaction.unwrap();
    assert_eq!((left.total_count, left.is_self_included, users(&left)), (1, false, vec!["ann"]));
    for _ in 0..3 {
        changed(&ann).await;
    }
    let event = changed(&ann).await;
    let user = &event.change_info_list[0].user_change_info_list[0];
    assert_eq!((&*user.user_id, user.action(), user.sum_count), ("bob", MessageReactionUserChangeAction::Deleted, 0));
    assert!(event.reactions[0].is_self_included, "Ann's own is still there");
    soon(ann.delete_message_reaction("b", &sent)).await.unwrap();
    let event = changed(&ann).await;
    assert_eq!((&*event.reactions[0].reaction_type, event.reactions[0].total_count), ("b", 0));
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        eventually("one type is left", async || (device.history(peer).await[0].reactions.len() == 1).then_some(()))
            .await;
    }
    world.end().await;
}

#[tokio::test]
async fn delete_message_reaction_takes_back_the_whole_count() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    let got = bob.receives("hi").await;
    for (device, message, increase_count) in [(&bob, &got, 5), (&ann, &sent, 3), (&bob, &got, 2)] {
        let config = MessageReactionAddConfig { increase_count };
        soon(device.add_message_reaction("clap", message, config)).await.unwrap();
    }
    let left = soon(bob.delete_message_reaction("clap", &got)).await.unwrap().reaction.unwrap();
    assert_eq!((left.total_count, left.sum_count, users(&left)), (1, 3, vec!["ann"]));
    for device in [&ann, &bob] {
        let deleted = MessageReactionUserChangeAction::Deleted;
        let find = |event: &Event| match event {
            Event::MessageReactionsChanged(event)
                if event.change_info_list[0].user_change_info_list[0].action() == deleted =>
            {
                Some(event.reactions[0].clone())
            }
            _ => None,
        };
        let left = device.until("it is taken back", |seen| seen.iter().find_map(find)).await;
        assert_eq!((left.total_count, left.sum_count, users(&left)), (1, 3, vec!["ann"]));
    }
    let config = MessageReactionUserQueryConfig { next_flag: 0, count: 0, reaction_type: "clap".into() };
    let list = soon(bob.query_message_reaction_user_list(&got, config)).await.unwrap();
    assert_eq!((list.total_count, list.user_list.len()), (1, 1));
    assert_eq!(list.message.unwrap().reactions[0].sum_count, 3);
    // Bob begins anew.
    let again = add(&bob, "clap", &got).await.unwrap();
    assert_eq!((again.total_count, again.sum_count, users(&again)), (2, 4, vec!["ann", "bob"]));
    world.end().await;
}

#[tokio::test]
async fn delete_message_all_reactions_takes_back_all_of_ones_own() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (phone, away) = (world.device("bob").await, world.device("bob").await);
    let sent = ann.say("bob", "hi").await;
    let got = bob.receives("hi").await;
    add(&ann, "a", &sent).await.unwrap();
    for kind in ["b", "a", "c"] {
        add(&bob, kind, &got).await.unwrap();
    }
    for device in [&ann, &bob, &phone, &away] {
        for _ in 0..4 {
            changed(device).await;
        }
    }
    let dir = away.dir();
    away.quit().await;
    soon(bob.delete_message_all_reactions(&got)).await.unwrap();
    let away = world.user_at(dir, "bob").await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann"), (&phone, "ann"), (&away, "ann")] {
        let mut gone = Vec::new();
        for _ in 0..3 {
            let event = changed(device).await;
            let user = &event.change_info_list[0].user_change_info_list[0];
            let deleted = MessageReactionUserChangeAction::Deleted;
            assert_eq!((&*user.user_id, user.action(), user.sum_count), ("bob", deleted, 0));
            gone.push(user.reaction_type.clone());
        }
        assert_eq!(gone, ["b", "a", "c"], "in the order in which they reacted");
        let message = &device.history(peer).await[0];
        let left: Vec<_> = message.reactions.iter().map(|one| (&*one.reaction_type, users(one))).collect();
        assert_eq!(left, [("a", vec!["ann"])], "Ann's own stays");
    }
    // Nothing is left to take back, and nobody hears of it.
    soon(bob.peer("ann").unreact_all(&got)).await.unwrap();
    add(&bob, "d", &got).await.unwrap();
    let event = changed(&ann).await;
    assert_eq!(event.change_info_list[0].user_change_info_list[0].reaction_type, "d");
    let none = Message { message_id: "17".into(), message_seq: 0, ..got.clone() };
    let refused = refusal(soon(bob.delete_message_all_reactions(&none)).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    let unsent = refusal(soon(bob.delete_message_all_reactions(&Message::text("x"))).await);
    assert_eq!(unsent, ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn delete_message_all_reactions_is_for_members_of_the_group() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "g", &["bob"]).await;
    ann.say(group("g"), "hi").await;
    let got = bob.receives("hi").await;
    add(&bob, "a", &got).await.unwrap();
    soon(bob.leave_group("g")).await.unwrap();
    let refused = refusal(soon(bob.delete_message_all_reactions(&got)).await);
    assert_eq!(refused, ErrorCode::GroupModuleUserIsNotInTheGroup);
    world.end().await;
}

#[tokio::test]
async fn add_message_reaction_counts_several_times_if_asked() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    let got = bob.receives("hi").await;
    add(&bob, "clap", &got).await.unwrap();
    assert_eq!(refusal(add(&bob, "clap", &got).await), ErrorCode::MessageModuleMessageReactionTypeExisted);
    let more = bob.add_message_reaction("clap", &got, MessageReactionAddConfig { increase_count: 4 });
    let reaction = soon(more).await.unwrap().reaction.unwrap();
    assert_eq!((reaction.total_count, reaction.sum_count), (1, 5));
    let most = MessageReactionAddConfig { increase_count: 1_000_000 };
    soon(ann.add_message_reaction("clap", &sent, most)).await.unwrap();
    let over = MessageReactionAddConfig { increase_count: 1_000_001 };
    let refused = refusal(soon(ann.add_message_reaction("clap", &sent, over)).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    let config = MessageReactionUserQueryConfig { next_flag: 0, count: 0, reaction_type: "clap".into() };
    let list = soon(ann.query_message_reaction_user_list(&sent, config)).await.unwrap();
    let sums: Vec<(&str, i64)> =
        list.user_info_list.iter().map(|user| (user.user_id.as_str(), user.reactions[0].sum_count)).collect();
    assert_eq!(sums, [("bob", 5), ("ann", 1_000_000)]);
    assert_eq!((list.total_count, list.next_flag, list.user_list.len()), (2, 0, 2));
    assert_eq!(list.message.unwrap().reactions[0].sum_count, 1_000_005);
    world.end().await;
}

#[tokio::test]
async fn add_message_reaction_has_limits() {
    let world = World::with(|config| {
        config.limits.max_reaction_types = 2;
        config.limits.reaction_window_s = 60;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    let got = bob.receives("hi").await;
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    let longest = "é".repeat(16);
    add(&ann, &longest, &sent).await.unwrap();
    let mut raw = world.raw_user("bob", 1).await;
    for bad in [String::new(), format!("{longest}x")] {
        assert_eq!(refusal(add(&ann, &bad, &sent).await), invalid, "{bad:?}");
        let message = Message { conversation_id: "ann".into(), message_seq: 1, ..Message::default() };
        let request = AddMessageReactionRequest { reaction_type: bad, message: Some(message), config: None };
        assert_eq!(raw.call(&request).await.unwrap_err().code, invalid as i32);
    }
    raw.end().await;
    add(&ann, "2", &sent).await.unwrap();
    assert_eq!(refusal(add(&bob, "3", &got).await), invalid, "a third type");
    add(&bob, "2", &got).await.unwrap();
    // A type that nobody uses any more makes room.
    soon(ann.delete_message_reaction(&longest, &sent)).await.unwrap();
    add(&bob, "3", &got).await.unwrap();
    world.clock.advance(60_000);
    soon(bob.delete_message_reaction("3", &got)).await.unwrap();
    add(&bob, "3", &got).await.unwrap();
    world.clock.advance(1);
    soon(bob.delete_message_reaction("3", &got)).await.unwrap();
    assert_eq!(refusal(add(&bob, "3", &got).await), invalid, "the message is too old");
    soon(bob.add_users_to_blacklist(["ann"])).await.unwrap();
    let next = soon(bob.send("ann", Message::text("x"))).await.unwrap();
    let of_ann = ann.receives("x").await;
    assert_eq!(refusal(add(&ann, "2", &of_ann).await), ErrorCode::MessageModuleSenderInBlacklist);
    soon(bob.revoke_message(&next, MessageRevokeConfig::default())).await.unwrap();
    assert_eq!(refusal(add(&bob, "2", &next).await), ErrorCode::MessageModuleMessageHasBeenRevoked);
    let none = Message { message_id: "17".into(), message_seq: 0, ..sent.clone() };
    assert_eq!(refusal(add(&ann, "2", &none).await), invalid);
    world.end().await;
}

#[tokio::test]
async fn add_message_reaction_is_for_messages_of_the_last_seven_days() {
    const WINDOW_MS: i64 = 7 * 86_400_000;
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    bob.receives("hi").await;
    world.clock.advance(sent.timestamp + WINDOW_MS - world.clock.now_ms());
    // The tokens of the other devices are no longer valid.
    let bob = world.device("bob").await;
    let got = bob.history("ann").await.remove(0);
    add(&bob, "like", &got).await.unwrap();
    world.clock.advance(1);
    assert_eq!(refusal(add(&bob, "late", &got).await), ErrorCode::CommonModuleParamsInvalid);
    let more = bob.add_message_reaction("like", &got, MessageReactionAddConfig { increase_count: 1 });
    assert_eq!(refusal(soon(more).await), ErrorCode::CommonModuleParamsInvalid);
    // Taking it back is always possible.
    soon(bob.delete_message_reaction("like", &got)).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn query_message_reaction_user_list_pages_in_order() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let names: Vec<String> = (0..7).map(|number| format!("user{number}")).collect();
    let mut members = Vec::new();
    for name in &names {
        members.push(world.user(name).await);
    }
    create(&ann, "g", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let sent = ann.say(group("g"), "hi").await;
    for device in &members {
        add(device, "like", &device.receives("hi").await).await.unwrap();
    }
    let mut found = Vec::new();
    let mut next_flag = 0;
    loop {
        let config = MessageReactionUserQueryConfig { next_flag, count: 3, reaction_type: "like".into() };
        let page = soon(ann.query_message_reaction_user_list(&sent, config)).await.unwrap();
        assert_eq!(page.total_count, 7);
        found.extend(page.user_info_list.into_iter().map(|user| user.user_id));
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    assert_eq!(found, names);
    // The message itself has the first five.
    let message = eventually("seven reactions", async || {
        let message = ann.history(group("g")).await.remove(0);
        (message.reactions.first()?.total_count == 7).then_some(message)
    })
    .await;
    assert_eq!(users(&message.reactions[0]), names[..5].iter().map(String::as_str).collect::<Vec<_>>());
    // When the first of them takes theirs back, the sixth moves up.
    soon(members[0].delete_message_reaction("like", &members[0].receives("hi").await)).await.unwrap();
    let message = eventually("six reactions", async || {
        let message = ann.history(group("g")).await.remove(0);
        (message.reactions[0].total_count == 6).then_some(message)
    })
    .await;
    assert_eq!(users(&message.reactions[0]), names[1..6].iter().map(String::as_str).collect::<Vec<_>>());
    let none = MessageReactionUserQueryConfig { next_flag: 0, count: 0, reaction_type: String::new() };
    let refused = soon(ann.query_message_reaction_user_list(&sent, none)).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

/// Its reactions are gone with it, for everybody.
#[tokio::test]
async fn delete_message_reaction_and_delete_message_all_reactions_refuse_a_message_that_was_revoked() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    let got = bob.receives("hi").await;
    add(&bob, "a", &got).await.unwrap();
    assert_eq!(changed(&ann).await.reactions[0].message_id, sent.message_id);
    soon(ann.revoke_message(&sent, MessageRevokeConfig::default())).await.unwrap();
    let revoked = ErrorCode::MessageModuleMessageHasBeenRevoked;
    assert_eq!(refusal(soon(bob.delete_message_reaction("a", &got)).await), revoked);
    assert_eq!(refusal(soon(bob.delete_message_all_reactions(&got)).await), revoked);
    // The next that anybody hears of is a reaction to another message.
    let next = ann.say("bob", "next").await;
    add(&bob, "b", &bob.receives("next").await).await.unwrap();
    assert_eq!(changed(&ann).await.reactions[0].message_id, next.message_id);
    world.end().await;
}

#[tokio::test]
async fn query_message_reaction_user_list_has_a_hundred_users_on_a_page() {
    let world = World::with(|config| config.limits.handshakes_per_second_per_address = 1_000_000).await;
    let ann = world.user("ann").await;
    let names: Vec<String> = (0..101).map(|number| format!("user{number}")).collect();
    let mut users = world.raw_users(&names).await;
    create(&ann, "g", &[]).await;
    for some in names.chunks(100) {
        let invited = soon(ann.invite_users_into_group(some.to_vec(), "g")).await.unwrap();
        assert!(invited.error_user_list.is_empty(), "{invited:?}");
    }
    let sent = ann.say(group("g"), "hi").await;
    let named = Message {
        conversation_id: "g".into(),
        conversation_type: ConversationType::Group as i32,
        message_seq: sent.message_seq,
        ..Message::default()
    };
    for user in &mut users {
        let request =
            AddMessageReactionRequest { reaction_type: "like".into(), message: Some(named.clone()), config: None };
        user.call(&request).await.unwrap();
    }
    RawClient::end_all(users).await;
    let page = async |next_flag, count| {
        let config = MessageReactionUserQueryConfig { next_flag, count, reaction_type: "like".into() };
        let page = soon(ann.query_message_reaction_user_list(&sent, config)).await.unwrap();
        assert_eq!(page.total_count, 101);
        (page.user_info_list.into_iter().map(|user| user.user_id).collect::<Vec<_>>(), page.next_flag)
    };
    for count in [0, 100, 101] {
        let (first, next_flag) = page(0, count).await;
        assert_eq!(first, names[..100], "{count}");
        assert_eq!(page(next_flag, count).await, (names[100..].to_vec(), 0), "{count}");
    }
    world.end().await;
}
