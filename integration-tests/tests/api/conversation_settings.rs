//! What a user sets for a conversation: pins, notification status, marks.

use zim_integration_tests::{Device, World, eventually, group, refusal, soon};
use zim_protocol::{
    Conversation, ConversationBaseInfo, ConversationDeleteConfig, ConversationEvent, ConversationFilterOption,
    ConversationNotificationStatus, ConversationPinnedFilter, ConversationQueryConfig,
    ConversationTotalUnreadMessageCountQueryConfig, ConversationType, ErrorCode, Event, EventKind, GroupAdvancedConfig,
    SetConversationMarkRequest, SetConversationNotificationStatusRequest, UpdateConversationPinnedStateRequest,
};

use crate::group::{create, info};

const PEER: ConversationType = ConversationType::Peer;
const GROUP: ConversationType = ConversationType::Group;
const QUIET: ConversationNotificationStatus = ConversationNotificationStatus::DoNotDisturb;
const UNKNOWN: ErrorCode = ErrorCode::ConversationModuleConversationDoesNotExist;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

pub(crate) fn names(list: &[Conversation]) -> Vec<&str> {
    list.iter().map(|conversation| conversation.conversation_id.as_str()).collect()
}

/// The changes of a conversation that a device was told of.
pub(crate) fn changes(device: &Device, id: &str) -> Vec<(ConversationEvent, Conversation)> {
    let mut found = Vec::new();
    for event in device.seen() {
        if let Event::ConversationChanged(event) = event {
            for info in event.info_list {
                let event = info.event();
                found.extend(info.conversation.filter(|changed| changed.conversation_id == id).map(|one| (event, one)));
            }
        }
    }
    found
}

/// Waits until an event shows a conversation as wanted; returns it.
pub(crate) async fn told(
    device: &Device,
    what: &str,
    id: &str,
    is_it: impl Fn(ConversationEvent, &Conversation) -> bool,
) -> Conversation {
    device
        .until(what, |_| changes(device, id).into_iter().find(|(event, one)| is_it(*event, one)).map(|(_, one)| one))
        .await
}

fn infos<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<ConversationBaseInfo> {
    let info = |id: &str| ConversationBaseInfo { conversation_id: id.to_owned(), conversation_type: PEER as i32 };
    ids.into_iter().map(info).collect()
}

fn group_infos(ids: impl IntoIterator<Item = String>) -> Vec<ConversationBaseInfo> {
    let info = |conversation_id| ConversationBaseInfo { conversation_id, conversation_type: GROUP as i32 };
    ids.into_iter().map(info).collect()
}

async fn pinned(device: &Device) -> Vec<String> {
    let found = soon(device.query_conversation_pinned_list(ConversationQueryConfig::default())).await.unwrap();
    names(&found.conversation_list).into_iter().map(str::to_owned).collect()
}

async fn filtered(device: &Device, filter: ConversationFilterOption) -> Vec<String> {
    let found = soon(device.query_conversation_list(ConversationQueryConfig::default(), filter)).await.unwrap();
    names(&found.conversation_list).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn update_conversation_pinned_state_puts_a_conversation_first_on_all_devices() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let others = [world.user("bob").await, world.user("carl").await, world.user("dora").await];
    for other in &others {
        other.say("ann", "hi").await;
        world.clock.advance(1_000);
    }
    phone.receives("hi").await;
    for name in ["bob", "carl", "dora"] {
        phone.has_unread(name, 1).await;
        laptop.has_unread(name, 1).await;
    }
    assert_eq!(names(&phone.conversations().await), ["dora", "carl", "bob"]);
    let before = phone.conversation("bob").await;
    let at = world.clock.now_ms();
    let result = soon(phone.update_conversation_pinned_state(true, "bob", PEER)).await.unwrap();
    assert_eq!((result.conversation_id.as_str(), result.conversation_type), ("bob", PEER as i32));
    // The device that asked shows it at once, and gets the event like the others.
    assert_eq!(names(&phone.conversations().await), ["bob", "dora", "carl"]);
    for device in [&phone, &laptop] {
        let told = told(device, "the pin", "bob", |event, one| event == ConversationEvent::Updated && one.is_pinned);
        let told = told.await;
        assert_eq!(told.pinned_time, at);
        assert_eq!(told.order_key, before.order_key + 1_000_000_000_000);
        assert_eq!(names(&device.conversations().await), ["bob", "dora", "carl"]);
        assert_eq!(pinned(device).await, ["bob"]);
    }
    // Among pinned ones, the newest message counts, not the pin.
    world.clock.advance(1_000);
    soon(laptop.update_conversation_pinned_state(true, "dora", PEER)).await.unwrap();
    assert_eq!(pinned(&laptop).await, ["dora", "bob"]);
    // Pinning it again changes nothing.
    world.clock.advance(1_000);
    soon(phone.update_conversation_pinned_state(true, "bob", PEER)).await.unwrap();
    assert_eq!(phone.conversation("bob").await.pinned_time, at);
    let only = |filter: ConversationPinnedFilter| ConversationFilterOption {
        pinned_filter: filter as i32,
        ..ConversationFilterOption::default()
    };
    assert_eq!(filtered(&laptop, only(ConversationPinnedFilter::OnlyUnpinned)).await, ["carl"]);
    assert_eq!(filtered(&laptop, only(ConversationPinnedFilter::OnlyPinned)).await, ["dora", "bob"]);
    // In pages.
    let config = ConversationQueryConfig { next_conversation: Some(laptop.conversation("dora").await), count: 1 };
    let second = soon(laptop.query_conversation_pinned_list(config)).await.unwrap().conversation_list;
    assert_eq!(names(&second), ["bob"]);

    soon(phone.update_conversation_pinned_state(false, "bob", PEER)).await.unwrap();
    let unpinned = |event, one: &Conversation| {
        event == ConversationEvent::Updated && !one.is_pinned && one.order_key == before.order_key
    };
    eventually("bob is unpinned", async || {
        let found = laptop.conversation("bob").await;
        (!found.is_pinned && found.pinned_time == 0 && found.order_key == before.order_key).then_some(())
    })
    .await;
    told(&laptop, "the end of the pin", "bob", unpinned).await;
    assert_eq!(names(&laptop.conversations().await), ["dora", "carl", "bob"]);
    // The other side learns nothing: a later message is the first event about the conversation since.
    phone.say("bob", "after").await;
    others[0].receives("after").await;
    assert!(changes(&others[0], "ann").iter().all(|(_, one)| !one.is_pinned));
    assert!(!others[0].conversation("ann").await.is_pinned);
    world.end().await;
}

#[tokio::test]
async fn update_conversation_pinned_state_takes_100_and_not_one_more() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let ids: Vec<String> = (0..=100).map(|number| format!("g{number}")).collect();
    for id in &ids {
        create(&ann, id, &[]).await;
    }
    for id in &ids[..100] {
        soon(ann.update_conversation_pinned_state(true, id, GROUP)).await.unwrap();
    }
    let full = ErrorCode::ConversationModuleConversationPinnedListReachedLimit;
    assert_eq!(refusal(soon(ann.update_conversation_pinned_state(true, &ids[100], GROUP)).await), full);
    // One that is pinned already is no further one.
    soon(ann.update_conversation_pinned_state(true, &ids[0], GROUP)).await.unwrap();
    soon(ann.update_conversation_pinned_state(false, &ids[0], GROUP)).await.unwrap();
    soon(ann.update_conversation_pinned_state(true, &ids[100], GROUP)).await.unwrap();
    assert_eq!(refusal(soon(ann.update_conversation_pinned_state(true, &ids[0], GROUP)).await), full);
    let config = ConversationQueryConfig { next_conversation: None, count: 200 };
    let all = soon(ann.query_conversation_pinned_list(config)).await.unwrap().conversation_list;
    assert_eq!(all.len(), 100);
    world.end().await;
}

#[tokio::test]
async fn update_conversation_pinned_state_of_what_the_user_does_not_have_is_refused() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&bob, "crew", &[]).await;
    for (id, kind) in [("bob", PEER), ("nobody", PEER), ("crew", GROUP), ("nothing", GROUP)] {
        assert_eq!(refusal(soon(ann.update_conversation_pinned_state(true, id, kind)).await), UNKNOWN, "{id}");
        assert_eq!(refusal(soon(ann.set_conversation_notification_status(QUIET, id, kind)).await), UNKNOWN, "{id}");
        let info = ConversationBaseInfo { conversation_id: id.to_owned(), conversation_type: kind as i32 };
        assert_eq!(refusal(soon(ann.set_conversation_mark(1, true, vec![info])).await), UNKNOWN, "{id}");
    }
    let mut raw = world.raw_user("ann", 1).await;
    for (id, kind) in [("", PEER as i32), ("bob", ConversationType::Room as i32), ("bob", 7), (&"x".repeat(129), 0)] {
        let bad = UpdateConversationPinnedStateRequest {
            is_pinned: true,
            conversation_id: id.to_owned(),
            conversation_type: kind,
        };
        assert_eq!(raw.call(&bad).await.unwrap_err().code, INVALID as i32, "{id} {kind}");
        let bad = SetConversationNotificationStatusRequest {
            status: QUIET as i32,
            conversation_id: id.to_owned(),
            conversation_type: kind,
        };
        assert_eq!(raw.call(&bad).await.unwrap_err().code, INVALID as i32, "{id} {kind}");
    }
    for status in [0, 3] {
        let bad = SetConversationNotificationStatusRequest {
            status,
            conversation_id: "bob".into(),
            conversation_type: PEER as i32,
        };
        assert_eq!(raw.call(&bad).await.unwrap_err().code, INVALID as i32, "status {status}");
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn query_conversation_pinned_list_is_empty_without_pins_and_refuses_a_wrong_page() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    bob.say("ann", "hi").await;
    ann.has_unread("bob", 1).await;
    assert!(pinned(&ann).await.is_empty());
    let next = Conversation { conversation_id: "nobody".into(), ..Conversation::default() };
    for bad in [
        ConversationQueryConfig { next_conversation: None, count: -1 },
        ConversationQueryConfig { next_conversation: Some(next), count: 1 },
    ] {
        assert_eq!(refusal(soon(ann.query_conversation_pinned_list(bad)).await), INVALID);
    }
    world.end().await;
}

#[tokio::test]
async fn set_conversation_notification_status_takes_a_conversation_out_of_the_total() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    bob.say("ann", "1").await;
    carl.say("ann", "2").await;
    create(&carl, "crew", &["ann"]).await;
    carl.say(group("crew"), "3").await;
    for device in [&phone, &laptop] {
        device.has_unread("bob", 1).await;
        device.has_unread(group("crew"), 1).await;
        device.has_unread("carl", 1).await;
        assert_eq!(device.total_unread().await, 3);
    }
    let total = |device: &Device| {
        device.seen().into_iter().rev().find_map(|event| match event {
            Event::ConversationTotalUnreadMessageCountUpdated(event) => Some(event.total_unread_message_count),
            _ => None,
        })
    };
    let result = soon(phone.set_conversation_notification_status(QUIET, "bob", PEER)).await.unwrap();
    assert_eq!((result.conversation_id.as_str(), result.conversation_type), ("bob", PEER as i32));
    soon(phone.set_conversation_notification_status(QUIET, "crew", GROUP)).await.unwrap();
    for device in [&phone, &laptop] {
        told(device, "the status", "crew", |_, one| one.notification_status == QUIET as i32).await;
        device.until("a total of 1", |_| (total(device) == Some(1)).then_some(())).await;
        assert_eq!(device.total_unread().await, 1);
    }
    // Its own count goes on, and the total does not change: the message of Carl after it changes it to 2, not to 3.
    bob.say("ann", "more").await;
    carl.say("ann", "and more").await;
    for device in [&phone, &laptop] {
        device.has_unread("bob", 2).await;
        device.has_unread("carl", 2).await;
        device.until("a total of 2", |_| (total(device) == Some(2)).then_some(())).await;
        assert_eq!(device.total_unread().await, 2);
        let all: Vec<i64> = device
            .seen()
            .into_iter()
            .filter_map(|event| match event {
                Event::ConversationTotalUnreadMessageCountUpdated(event) => Some(event.total_unread_message_count),
                _ => None,
            })
            .collect();
        assert!(all.ends_with(&[1, 2]), "{all:?}");
    }
    let notify = ConversationNotificationStatus::Notify;
    soon(laptop.set_conversation_notification_status(notify, "bob", PEER)).await.unwrap();
    for device in [&phone, &laptop] {
        device.until("a total of 4", |_| (total(device) == Some(4)).then_some(())).await;
    }
    // The other side learns nothing.
    phone.say("bob", "after").await;
    bob.receives("after").await;
    assert!(changes(&bob, "ann").iter().all(|(_, one)| one.notification_status == notify as i32));
    world.end().await;
}

#[tokio::test]
async fn set_conversation_mark_is_there_on_all_devices_and_filters_lists() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl, dora) = (world.user("bob").await, world.user("carl").await, world.user("dora").await);
    for other in [&bob, &carl, &dora] {
        other.say("ann", "hi").await;
        world.clock.advance(1_000);
    }
    for name in ["bob", "carl", "dora"] {
        phone.has_unread(name, 1).await;
        laptop.has_unread(name, 1).await;
    }
    let result = soon(phone.set_conversation_mark(20, true, infos(["bob", "carl", "nobody"]))).await.unwrap();
    assert_eq!(result.failed_conversation_infos, infos(["nobody"]));
    soon(phone.set_conversation_mark(1, true, infos(["bob", "bob"]))).await.unwrap();
    for device in [&phone, &laptop] {
        told(device, "both marks", "bob", |event, one| event == ConversationEvent::Updated && one.marks == [1, 20])
            .await;
        told(device, "a mark", "carl", |_, one| one.marks == [20]).await;
        assert!(device.conversation("dora").await.marks.is_empty());
        for (marks, expected, unread) in [
            (vec![], vec!["dora", "carl", "bob"], 3),
            (vec![1], vec!["bob"], 1),
            (vec![20], vec!["carl", "bob"], 2),
            (vec![1, 20], vec!["carl", "bob"], 2),
            (vec![-1], vec!["carl", "bob"], 2),
            (vec![0], vec!["dora"], 1),
            (vec![0, 1], vec!["dora", "bob"], 2),
            (vec![19], vec![], 0),
        ] {
            let filter = ConversationFilterOption { marks: marks.clone(), ..ConversationFilterOption::default() };
            assert_eq!(filtered(device, filter).await, expected, "{marks:?}");
            let config = ConversationTotalUnreadMessageCountQueryConfig { conversation_types: vec![], marks };
            let found = soon(device.query_conversation_total_unread_message_count(config)).await.unwrap();
            assert_eq!(found.unread_message_count, unread, "{expected:?}");
        }
    }
    soon(laptop.set_conversation_mark(20, false, infos(["carl", "dora"]))).await.unwrap();
    told(&phone, "no mark", "carl", |event, one| event == ConversationEvent::Updated && one.marks.is_empty()).await;
    phone.say("bob", "after").await;
    bob.receives("after").await;
    assert!(changes(&bob, "ann").iter().all(|(_, one)| one.marks.is_empty()));
    world.end().await;
}

#[tokio::test]
async fn set_conversation_mark_takes_1_to_20_and_100_conversations() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "hi").await;
    let mut raw = world.raw_user("ann", 1).await;
    let request =
        |mark_type, conversation_infos| SetConversationMarkRequest { mark_type, enable: true, conversation_infos };
    for mark in [0, 21, -1] {
        assert_eq!(refusal(soon(ann.set_conversation_mark(mark, true, infos(["bob"]))).await), INVALID);
        assert_eq!(raw.call(&request(mark, infos(["bob"]))).await.unwrap_err().code, INVALID as i32);
    }
    let many = |count: usize| {
        let mut list = infos(["bob"]);
        list.extend(infos((1..count).map(|_| "nobody")));
        list
    };
    assert_eq!(soon(ann.set_conversation_mark(1, true, many(100))).await.unwrap().failed_conversation_infos.len(), 99);
    for wrong in [many(101), vec![]] {
        assert_eq!(refusal(soon(ann.set_conversation_mark(1, true, wrong.clone())).await), INVALID);
        assert_eq!(raw.call(&request(1, wrong)).await.unwrap_err().code, INVALID as i32);
    }
    // A filter knows no other marks.
    for marks in [vec![-2], vec![21]] {
        let filter = ConversationFilterOption { marks: marks.clone(), ..ConversationFilterOption::default() };
        let listed = soon(ann.query_conversation_list(ConversationQueryConfig::default(), filter)).await;
        assert_eq!(refusal(listed), INVALID);
        let config = ConversationTotalUnreadMessageCountQueryConfig { conversation_types: vec![], marks };
        assert_eq!(refusal(soon(ann.query_conversation_total_unread_message_count(config)).await), INVALID);
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn set_conversation_mark_takes_no_marks_of_a_conversation_that_it_names() {
    let world = World::with(|config| config.limits.max_marked_conversations = 100).await;
    let phone = world.user("ann").await;
    let ids: Vec<String> = (0..=101).map(|number| format!("g{number}")).collect();
    for some in ids.chunks(50) {
        let made = some.iter().map(|id| phone.create_group(info(id), [""; 0], GroupAdvancedConfig::default()));
        for one in futures_util::future::join_all(made).await {
            one.unwrap();
        }
    }
    for some in [&ids[..1], &ids[1..100]] {
        soon(phone.set_conversation_mark(1, true, group_infos(some.iter().cloned()))).await.unwrap();
    }
    // The first has the mark already, and had it first. It is the next one that loses its mark.
    let named = [ids[0].clone(), ids[100].clone()];
    let result = soon(phone.set_conversation_mark(1, true, group_infos(named))).await.unwrap();
    assert!(result.failed_conversation_infos.is_empty());
    let marks = async |id: &String| phone.conversation(group(id)).await.marks;
    eventually("one has no marks any more", async || marks(&ids[1]).await.is_empty().then_some(())).await;
    assert_eq!((marks(&ids[0]).await, marks(&ids[100]).await), (vec![1], vec![1]));
    // Nor does one that gets a mark beside another.
    soon(phone.set_conversation_mark(2, true, group_infos([ids[0].clone(), ids[101].clone()]))).await.unwrap();
    assert_eq!(marks(&ids[0]).await, [1, 2]);
    world.end().await;
}

#[tokio::test]
async fn set_conversation_mark_on_the_1001st_conversation_takes_the_marks_of_the_first() {
    let world = World::with(|config| config.limits.max_groups = 2_000).await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let ids: Vec<String> = (0..=1_000).map(|number| format!("g{number}")).collect();
    for some in ids.chunks(50) {
        let made = some.iter().map(|id| phone.create_group(info(id), [""; 0], GroupAdvancedConfig::default()));
        for one in futures_util::future::join_all(made).await {
            one.unwrap();
        }
    }
    // The first gets its second mark later: that does not make it newer.
    soon(phone.set_conversation_mark(1, true, group_infos(ids[..1].iter().cloned()))).await.unwrap();
    for some in ids[1..1_000].chunks(100) {
        soon(phone.set_conversation_mark(3, true, group_infos(some.iter().cloned()))).await.unwrap();
    }
    soon(phone.set_conversation_mark(2, true, group_infos(ids[..1].iter().cloned()))).await.unwrap();
    let marked = ConversationFilterOption { marks: vec![-1], ..ConversationFilterOption::default() };
    let count = async |device: &Device| {
        let all = ConversationQueryConfig { next_conversation: None, count: 2_000 };
        soon(device.query_conversation_list(all, marked.clone())).await.unwrap().conversation_list.len()
    };
    assert_eq!(count(&phone).await, 1_000);
    assert_eq!(phone.conversation(group(&ids[0])).await.marks, [1, 2]);
    soon(phone.set_conversation_mark(5, true, group_infos(ids[1_000..].iter().cloned()))).await.unwrap();
    for device in [&phone, &laptop] {
        told(device, "the newest mark", &ids[1_000], |_, one| one.marks == [5]).await;
        eventually("the first has no marks", async || {
            device.conversation(group(&ids[0])).await.marks.is_empty().then_some(())
        })
        .await;
        assert_eq!(count(device).await, 1_000);
        assert_eq!(device.conversation(group(&ids[1])).await.marks, [3]);
    }
    // So many conversations are deleted in steps. It is one event, and marks stay.
    let everywhere = ConversationDeleteConfig { is_also_delete_server_conversation: true };
    soon(phone.delete_all_conversations(everywhere)).await.unwrap();
    match laptop.next(EventKind::ConversationsAllDeleted).await {
        Event::ConversationsAllDeleted(event) => assert_eq!(event.count, 1_001),
        other => panic!("{other:?}"),
    }
    assert_eq!((count(&phone).await, count(&laptop).await), (0, 0));
    phone.say(group(&ids[1]), "hi").await;
    let back = told(&laptop, "a group", &ids[1], |event, one| event == ConversationEvent::Added && one.marks == [3]);
    back.await;
    assert_eq!(laptop.seen_of(EventKind::ConversationsAllDeleted).len(), 1);
    world.end().await;
}
