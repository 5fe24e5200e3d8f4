//! Search in the messages and conversations of a device.

use futures_util::StreamExt;
use zim_integration_tests::{Device, World, group, refusal, soon, texts};
use zim_protocol::message::Body;
use zim_protocol::{
    ConversationDeleteConfig, ConversationSearchConfig, ConversationSearchInfo, ConversationSearchMode,
    ConversationType, ErrorCode, Message, MessageOrder, MessageRevokeConfig, MessageSearchConfig, MessageType,
};

use crate::group::create;

const PEER: ConversationType = ConversationType::Peer;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

fn words(keywords: &[&str]) -> Vec<String> {
    keywords.iter().map(|keyword| (*keyword).to_owned()).collect()
}

fn asking(keywords: &[&str]) -> MessageSearchConfig {
    MessageSearchConfig { keywords: words(keywords), ..MessageSearchConfig::default() }
}

/// A custom message, in which `searched` is found.
fn custom(data: &str, sub_type: i64, searched: &str) -> Message {
    let mut message = Message::custom(data, sub_type);
    if let Some(Body::Custom(body)) = &mut message.body {
        body.searched_content = searched.to_owned();
    }
    message
}

async fn in_all(device: &Device, config: MessageSearchConfig) -> Vec<Message> {
    soon(device.search_global_local_messages(config)).await.unwrap().message_list
}

async fn with_peer(device: &Device, peer: &str, config: MessageSearchConfig) -> Vec<String> {
    let found = soon(device.search_local_messages(peer, PEER, config)).await.unwrap();
    assert_eq!((found.conversation_id.as_str(), found.conversation_type), (peer, PEER as i32));
    texts(&found.message_list)
}

#[tokio::test]
async fn search_local_messages_finds_all_keywords_in_any_script_newest_first() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    for text in
        ["Lunch on Monday?", "我们明天中午开会", "GROSSE Straße", "Zoe\u{308} 🇹🇷", "monday, after lunch", "x% _y\\"]
    {
        bob.say("ann", text).await;
        world.clock.advance(1_000);
    }
    carl.say("ann", "lunch on monday with Carl").await;
    ann.receives("lunch on monday with Carl").await;
    ann.receives("x% _y\\").await;
    for (keywords, expected) in [
        (&["lunch"][..], &["monday, after lunch", "Lunch on Monday?"][..]),
        (&["LUNCH", "after"], &["monday, after lunch"]),
        (&["lunch", "zebra"], &[]),
        (&["明天"], &["我们明天中午开会"]),
        (&["会"], &["我们明天中午开会"]),
        (&["grosse", "STRASSE"], &["GROSSE Straße"]),
        (&["ZOË"], &["Zoe\u{308} 🇹🇷"]),
        (&["🇹🇷"], &["Zoe\u{308} 🇹🇷"]),
        (&["% _"], &["x% _y\\"]),
        (&["zoe"], &[]),
        (&["?"], &["Lunch on Monday?"]),
    ] {
        assert_eq!(with_peer(&ann, "bob", asking(keywords)).await, expected, "{keywords:?}");
    }
    // Own messages are found, too, as soon as they are sent.
    ann.say("bob", "see you at lunch").await;
    assert_eq!(with_peer(&ann, "bob", asking(&["lunch"])).await.len(), 3);
    // Ascending, without keywords: everything.
    let all = MessageSearchConfig { order: MessageOrder::Ascending as i32, ..asking(&[]) };
    let found = with_peer(&ann, "bob", all).await;
    assert_eq!((found.len(), found[0].as_str(), found[6].as_str()), (7, "Lunch on Monday?", "see you at lunch"));
    // What the other has is not here.
    assert!(with_peer(&ann, "dora", asking(&["lunch"])).await.is_empty());
    assert_eq!(texts(&in_all(&ann, asking(&["monday"])).await).len(), 3);
    world.end().await;
}

#[tokio::test]
async fn search_local_messages_selects_types_subtypes_senders_and_times() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    create(&ann, "crew", &["bob", "carl"]).await;
    let mut sent = Vec::new();
    for (from, message) in [
        (&bob, Message::text("note one")),
        (&carl, Message::text("note two")),
        (&bob, custom("note in the data", 3, "note three")),
        (&bob, custom("data", 4, "note four")),
        (&ann, Message::text("note five")),
    ] {
        world.clock.advance(1_000);
        sent.push(soon(from.send_to(group("crew"), message)).await.unwrap());
    }
    let last = sent.last().unwrap().timestamp;
    zim_integration_tests::eventually("all five", async || (ann.history(group("crew")).await.len() == 5).then_some(()))
        .await;
    let seqs = async |config: MessageSearchConfig| -> Vec<i64> {
        let found = soon(ann.search_local_messages("crew", ConversationType::Group, config)).await.unwrap();
        found.message_list.iter().map(|message| message.message_seq).collect()
    };
    let (text, custom) = (MessageType::Text as i32, MessageType::Custom as i32);
    let asked = || asking(&["note"]);
    assert_eq!(seqs(asked()).await, [5, 4, 3, 2, 1]);
    assert_eq!(seqs(asking(&["data"])).await, [0_i64; 0], "of a custom message the app says what is searched");
    assert_eq!(seqs(MessageSearchConfig { message_types: vec![text], ..asked() }).await, [5, 2, 1]);
    assert_eq!(seqs(MessageSearchConfig { message_types: vec![custom], ..asked() }).await, [4, 3]);
    assert_eq!(seqs(MessageSearchConfig { message_types: vec![text, custom], ..asked() }).await, [5, 4, 3, 2, 1]);
    let of_subtype = |types: &[i32], subtypes: &[i64]| MessageSearchConfig {
        message_types: types.to_vec(),
        sub_message_types: subtypes.to_vec(),
        ..asking(&[])
    };
    assert_eq!(seqs(of_subtype(&[custom], &[4])).await, [4]);
    assert_eq!(seqs(of_subtype(&[text, custom], &[3, 9])).await, [5, 3, 2, 1]);
    let of = |senders: &[&str]| MessageSearchConfig { sender_user_ids: words(senders), ..asked() };
    assert_eq!(seqs(of(&["carl"])).await, [2]);
    assert_eq!(seqs(of(&["carl", "ann", "nobody"])).await, [5, 2]);
    let within = |start_time, end_time| MessageSearchConfig { start_time, end_time, ..asked() };
    assert_eq!(seqs(within(last - 2_000, 0)).await, [5, 4, 3]);
    assert_eq!(seqs(within(0, last - 2_000)).await, [3, 2, 1]);
    assert_eq!(seqs(within(last - 3_000, last - 1_000)).await, [4, 3, 2]);
    assert_eq!(seqs(within(last - 2_999, last - 1_001)).await, [3]);
    assert_eq!(seqs(within(last + 1, 0)).await, [0_i64; 0]);
    // An ID that differs in case is another one.
    assert_eq!(seqs(of(&["CARL"])).await, [0_i64; 0]);
    world.end().await;
}

#[tokio::test]
async fn search_local_messages_is_paged_by_the_last_message() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..65 {
        bob.say("ann", &format!("note {number}")).await;
    }
    ann.receives("note 64").await;
    for order in [MessageOrder::Descending, MessageOrder::Ascending] {
        let (mut next, mut found, mut sizes) = (None, Vec::new(), Vec::new());
        loop {
            // More than 30 is a page of 30.
            let config = MessageSearchConfig {
                next_message: next,
                count: if sizes.is_empty() { 0 } else { 31 },
                order: order as i32,
                ..asking(&["note"])
            };
            let page = soon(ann.search_local_messages("bob", PEER, config)).await.unwrap();
            sizes.push(page.message_list.len());
            found.extend(page.message_list.iter().map(|message| message.message_seq));
            next = page.next_message;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(sizes, [30, 30, 5]);
        let mut expected: Vec<i64> = (1..=65).collect();
        if order == MessageOrder::Descending {
            expected.reverse();
        }
        assert_eq!(found, expected);
    }
    let five = MessageSearchConfig { count: 5, ..asking(&["note 1"]) };
    assert_eq!(with_peer(&ann, "bob", five).await, ["note 19", "note 18", "note 17", "note 16", "note 15"]);
    world.end().await;
}

#[tokio::test]
async fn search_local_messages_goes_on_after_a_message_that_is_deleted() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..7 {
        // All in one millisecond.
        bob.say("ann", &format!("note {number}")).await;
    }
    ann.receives("note 6").await;
    for (order, first, rest) in [
        (MessageOrder::Descending, ["note 6", "note 5"], ["note 4", "note 3", "note 2", "note 1", "note 0"]),
        (MessageOrder::Ascending, ["note 0", "note 1"], ["note 2", "note 3", "note 4", "note 5", "note 6"]),
    ] {
        let config = MessageSearchConfig { count: 2, order: order as i32, ..asking(&["note"]) };
        let page = soon(ann.search_local_messages("bob", PEER, config.clone())).await.unwrap();
        assert_eq!(texts(&page.message_list), first);
        let last = page.next_message.unwrap();
        let here = zim_protocol::MessageDeleteConfig { is_also_delete_server_message: Some(false) };
        soon(ann.delete_messages(std::slice::from_ref(&last), "bob", PEER, here)).await.unwrap();
        let config = MessageSearchConfig { next_message: Some(last), count: 0, ..config };
        let page = soon(ann.search_local_messages("bob", PEER, config)).await.unwrap();
        let gone = if order == MessageOrder::Ascending { &rest[..3] } else { &rest[..] };
        assert_eq!(texts(&page.message_list)[..gone.len()], *gone, "{order:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn search_local_messages_and_search_global_local_messages_take_5_keywords_and_5_senders() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    bob.say("ann", "a b c d e").await;
    ann.receives("a b c d e").await;
    let five = MessageSearchConfig {
        sender_user_ids: words(&["bob", "x", "y", "z", "w"]),
        ..asking(&["a", "b", "c", "d", "e"])
    };
    assert_eq!(in_all(&ann, five.clone()).await.len(), 1);
    let long = "é".repeat(128);
    assert!(in_all(&ann, asking(&[&long])).await.is_empty());
    for bad in [
        asking(&["a", "b", "c", "d", "e", "a"]),
        asking(&["a", ""]),
        asking(&["  "]),
        asking(&[&format!("{long}x")]),
        MessageSearchConfig { sender_user_ids: words(&["1", "2", "3", "4", "5", "6"]), ..asking(&["a"]) },
        MessageSearchConfig { count: -1, ..asking(&["a"]) },
        MessageSearchConfig { start_time: -1, ..asking(&["a"]) },
        MessageSearchConfig { end_time: -1, ..asking(&["a"]) },
        MessageSearchConfig { order: 2, ..asking(&["a"]) },
    ] {
        assert_eq!(refusal(soon(ann.search_local_messages("bob", PEER, bad.clone())).await), INVALID, "{bad:?}");
        assert_eq!(refusal(soon(ann.search_global_local_messages(bad)).await), INVALID);
    }
    for (id, kind) in [("", PEER), ("room", ConversationType::Room)] {
        assert_eq!(refusal(soon(ann.search_local_messages(id, kind, five.clone())).await), INVALID);
    }
    let conversations = |config: ConversationSearchConfig| ann.search_local_conversations(config);
    let asked = || ConversationSearchConfig { keywords: words(&["a"]), ..ConversationSearchConfig::default() };
    for bad in [
        ConversationSearchConfig { keywords: words(&["a", "b", "c", "d", "e", "f"]), ..asked() },
        ConversationSearchConfig { sender_user_ids: words(&["1", "2", "3", "4", "5", "6"]), ..asked() },
        ConversationSearchConfig { keywords: words(&[""]), ..asked() },
        ConversationSearchConfig { next_flag: -1, ..asked() },
        ConversationSearchConfig { total_conversation_count: -1, ..asked() },
        ConversationSearchConfig { conversation_message_count: -1, ..asked() },
        ConversationSearchConfig { mode: 2, ..asked() },
    ] {
        assert_eq!(refusal(soon(conversations(bad.clone())).await), INVALID, "{bad:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn search_global_local_messages_finds_neither_revoked_messages_nor_what_is_not_here() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&bob, "crew", &["ann"]).await;
    let secret = bob.say("ann", "a secret").await;
    world.clock.advance(1_000);
    bob.say(group("crew"), "another secret").await;
    ann.receives("a secret").await;
    ann.receives("another secret").await;
    let found = in_all(&ann, asking(&["secret"])).await;
    assert_eq!(texts(&found), ["another secret", "a secret"]);
    assert_eq!(
        (found[0].conversation_id.as_str(), found[0].conversation_type),
        ("crew", ConversationType::Group as i32)
    );
    soon(bob.revoke_message(&secret, MessageRevokeConfig::default())).await.unwrap();
    ann.next(zim_protocol::EventKind::MessageRevokeReceived).await;
    for device in [&ann, &bob] {
        assert_eq!(texts(&in_all(device, asking(&["secret"])).await), ["another secret"]);
        assert!(
            in_all(device, MessageSearchConfig { message_types: vec![MessageType::Revoke as i32], ..asking(&[]) })
                .await
                .is_empty()
        );
    }
    // A deleted conversation keeps its messages, so they are found.
    let here = ConversationDeleteConfig { is_also_delete_server_conversation: false };
    soon(ann.delete_conversation("crew", ConversationType::Group, here)).await.unwrap();
    assert_eq!(texts(&in_all(&ann, asking(&["secret"])).await), ["another secret"]);
    // And after a restart.
    let dir = ann.dir();
    ann.quit().await;
    let ann = world.user_at(dir, "ann").await;
    assert_eq!(texts(&in_all(&ann, asking(&["secret"])).await), ["another secret"]);
    world.end().await;
}

#[tokio::test]
async fn search_global_local_messages_in_pages_as_a_stream() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    for number in 0..40 {
        bob.say("ann", &format!("note {number}")).await;
        carl.say("ann", &format!("note {number}")).await;
    }
    zim_integration_tests::eventually("all", async || (ann.total_unread().await == 80).then_some(())).await;
    ann.receives("note 39").await;
    let found: Vec<Message> = soon(ann.search(["note"]).map(Result::unwrap).collect()).await;
    assert_eq!(found.len(), 80);
    assert!(found.is_sorted_by(|one, next| one.timestamp >= next.timestamp));
    let of_bob: Vec<Message> = soon(ann.peer("bob").search(["note", "1"]).map(Result::unwrap).collect()).await;
    assert_eq!(of_bob.len(), 13);
    world.end().await;
}

/// What was found of each conversation: its ID, the number of matches, and the messages that were asked for.
fn summary(list: &[ConversationSearchInfo]) -> Vec<(String, i64, Vec<String>)> {
    let one = |info: &ConversationSearchInfo| {
        let conversation = info.conversation.as_ref().unwrap();
        assert_eq!(
            (&conversation.conversation_id, conversation.r#type),
            (&info.conversation_id, info.conversation_type)
        );
        (info.conversation_id.clone(), info.total_message_count, texts(&info.message_list))
    };
    list.iter().map(one).collect()
}

#[tokio::test]
async fn search_local_conversations_counts_matching_messages() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    create(&carl, "crew", &["ann"]).await;
    for number in 0..4 {
        bob.say("ann", &format!("note {number}")).await;
        world.clock.advance(1_000);
    }
    carl.say("ann", "no match").await;
    let at = world.clock.now_ms();
    carl.say(group("crew"), "a note").await;
    world.clock.advance(1_000);
    bob.say("ann", "the last note").await;
    ann.receives("the last note").await;
    ann.receives("a note").await;
    let asked = ConversationSearchConfig {
        keywords: words(&["note"]),
        conversation_message_count: 2,
        ..ConversationSearchConfig::default()
    };
    let found = soon(ann.search_local_conversations(asked.clone())).await.unwrap();
    let of_bob = ("bob".to_owned(), 5, words(&["the last note", "note 3"]));
    let of_crew = ("crew".to_owned(), 1, words(&["a note"]));
    assert_eq!(
        (summary(&found.conversation_search_info_list), found.next_flag),
        (vec![of_bob.clone(), of_crew.clone()], 0)
    );
    // One conversation at a time.
    let first = ConversationSearchConfig { total_conversation_count: 1, ..asked.clone() };
    let page = soon(ann.search_local_conversations(first.clone())).await.unwrap();
    assert_eq!(summary(&page.conversation_search_info_list), [of_bob]);
    assert_ne!(page.next_flag, 0);
    let second = ConversationSearchConfig { next_flag: page.next_flag, ..first };
    let page = soon(ann.search_local_conversations(second)).await.unwrap();
    assert_eq!((summary(&page.conversation_search_info_list), page.next_flag), (vec![of_crew], 0));
    // The same conditions as in other searches.
    for (config, expected) in [
        (ConversationSearchConfig { sender_user_ids: words(&["carl"]), ..asked.clone() }, vec![("crew", 1)]),
        (ConversationSearchConfig { end_time: at, ..asked.clone() }, vec![("crew", 1), ("bob", 4)]),
        (ConversationSearchConfig { start_time: at + 1, ..asked.clone() }, vec![("bob", 1)]),
        (ConversationSearchConfig { message_types: vec![MessageType::Custom as i32], ..asked.clone() }, vec![]),
        (ConversationSearchConfig { keywords: words(&["note", "last"]), ..asked.clone() }, vec![("bob", 1)]),
    ] {
        let found = soon(ann.search_local_conversations(config)).await.unwrap().conversation_search_info_list;
        let found = summary(&found);
        let found: Vec<(&str, i64)> = found.iter().map(|(id, count, _)| (id.as_str(), *count)).collect();
        assert_eq!(found, expected);
    }
    let without = ConversationSearchConfig { conversation_message_count: 0, ..asked };
    let found = soon(ann.search_local_conversations(without)).await.unwrap().conversation_search_info_list;
    assert!(found.iter().all(|info| info.message_list.is_empty()));
    world.end().await;
}

#[tokio::test]
async fn search_local_conversations_shows_each_once_though_messages_arrive_between_pages() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut others = Vec::new();
    for user in ["bob", "carl", "dora"] {
        let other = world.user(user).await;
        other.say("ann", "a note").await;
        others.push(other);
        world.clock.advance(1_000);
    }
    zim_integration_tests::eventually("all", async || (ann.total_unread().await == 3).then_some(())).await;
    for (mode, last) in [
        (ConversationSearchMode::MatchMessage, &others[0]),
        (ConversationSearchMode::MatchConversationName, &others[1]),
    ] {
        let keywords = if mode == ConversationSearchMode::MatchMessage { words(&["note"]) } else { Vec::new() };
        let mut config = ConversationSearchConfig {
            mode: mode as i32,
            keywords,
            total_conversation_count: 1,
            ..ConversationSearchConfig::default()
        };
        let mut shown = Vec::new();
        loop {
            let page = soon(ann.search_local_conversations(config.clone())).await.unwrap();
            shown.extend(page.conversation_search_info_list.into_iter().map(|info| info.conversation_id));
            config.next_flag = page.next_flag;
            if page.next_flag == 0 {
                break;
            }
            // The last one comes to the top.
            world.clock.advance(1_000);
            let before = ann.total_unread().await;
            last.say("ann", "a further note").await;
            zim_integration_tests::eventually("it arrives", async || (ann.total_unread().await > before).then_some(()))
                .await;
        }
        shown.sort();
        assert_eq!(shown, ["bob", "carl", "dora"], "{mode:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn search_local_conversations_by_name_or_alias() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    soon(bob.update_user_name("Bob Straßer")).await.unwrap();
    soon(carl.update_user_name("張偉")).await.unwrap();
    create(&carl, "crew", &["ann"]).await;
    world.clock.advance(1_000);
    bob.say("ann", "carl").await;
    world.clock.advance(1_000);
    carl.say("ann", "bob").await;
    // A profile that came with the group may be older than the name, and is replaced by the next sync.
    zim_integration_tests::eventually("three conversations with their names", async || {
        let all = ann.conversations().await;
        let is_named = |name: &str| all.iter().any(|one| one.conversation_name == name);
        (all.len() == 3 && is_named("Bob Straßer") && is_named("張偉")).then_some(())
    })
    .await;
    soon(
        ann.add_friend("bob", zim_protocol::FriendAddConfig { friend_alias: "The boss".into(), ..Default::default() }),
    )
    .await
    .unwrap();
    let named = async |keywords: &[&str], (next_flag, count)| -> (Vec<String>, i64) {
        let config = ConversationSearchConfig {
            mode: ConversationSearchMode::MatchConversationName as i32,
            keywords: words(keywords),
            next_flag,
            total_conversation_count: count,
            ..ConversationSearchConfig::default()
        };
        let found = soon(ann.search_local_conversations(config)).await.unwrap();
        let ids = summary(&found.conversation_search_info_list).into_iter().map(|(id, count, list)| {
            assert_eq!((count, list.len()), (0, 0));
            id
        });
        (ids.collect(), found.next_flag)
    };
    for (keywords, expected) in [
        (&["STRASSER"][..], &["bob"][..]),
        (&["boss", "straß"], &["bob"]),
        (&["偉"], &["carl"]),
        (&["the"], &["bob", "crew"]),
        (&["the", "crew"], &["crew"]),
        (&["carl"], &[]),
        (&["z"], &[]),
    ] {
        assert_eq!(named(keywords, (0, 0)).await, (words(expected), 0), "{keywords:?}");
    }
    assert_eq!(named(&[], (0, 2)).await, (words(&["carl", "bob"]), 2));
    assert_eq!(named(&[], (2, 2)).await, (words(&["crew"]), 0));
    world.end().await;
}
