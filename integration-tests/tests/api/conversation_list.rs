//! Conversations leave the list and return: deleting, drafts, and marking all as read.

use futures_util::StreamExt;
use zim_integration_tests::{Device, World, eventually, group, is_text, refusal, soon, texts};
use zim_protocol::{
    ClearConversationTotalUnreadMessageCountRequest, ConversationBaseInfo, ConversationDeleteConfig, ConversationEvent,
    ConversationFilterOption, ConversationPinnedFilter, ConversationQueryConfig, ConversationType,
    DeleteAllConversationsRequest, DeleteConversationRequest, ErrorCode, Event, EventKind,
};

use crate::conversation_settings::{changes, names, told};
use crate::group::create;

const PEER: ConversationType = ConversationType::Peer;
const GROUP: ConversationType = ConversationType::Group;
const UNKNOWN: ErrorCode = ErrorCode::ConversationModuleConversationDoesNotExist;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;
const EVERYWHERE: ConversationDeleteConfig = ConversationDeleteConfig { is_also_delete_server_conversation: true };
const HERE: ConversationDeleteConfig = ConversationDeleteConfig { is_also_delete_server_conversation: false };

fn base(id: &str, kind: ConversationType) -> ConversationBaseInfo {
    ConversationBaseInfo { conversation_id: id.to_owned(), conversation_type: kind as i32 }
}

/// The last total of unread messages that a device was told of.
fn total(device: &Device) -> Option<i64> {
    device.seen().into_iter().rev().find_map(|event| match event {
        Event::ConversationTotalUnreadMessageCountUpdated(event) => Some(event.total_unread_message_count),
        _ => None,
    })
}

async fn listed(device: &Device) -> Vec<String> {
    names(&device.conversations().await).into_iter().map(str::to_owned).collect()
}

async fn lists(device: &Device, expected: &[&str]) {
    eventually(&format!("a list of {expected:?}"), async || (listed(device).await == expected).then_some(())).await;
}

fn deleted(device: &Device, id: &str) -> usize {
    changes(device, id).iter().filter(|(event, _)| *event == ConversationEvent::Deleted).count()
}

#[tokio::test]
async fn delete_conversation_removes_it_from_all_devices_until_there_is_a_message() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    bob.say("ann", "one").await;
    world.clock.advance(1_000);
    carl.say("ann", "two").await;
    for device in [&phone, &laptop] {
        device.has_unread("bob", 1).await;
        device.has_unread("carl", 1).await;
    }
    soon(phone.update_conversation_pinned_state(true, "bob", PEER)).await.unwrap();
    soon(phone.set_conversation_mark(7, true, vec![base("bob", PEER)])).await.unwrap();
    told(&laptop, "the mark", "bob", |_, one| one.marks == [7]).await;
    let result = soon(phone.delete_conversation("bob", PEER, EVERYWHERE)).await.unwrap();
    assert_eq!((result.conversation_id.as_str(), result.conversation_type), ("bob", PEER as i32));
    assert_eq!(listed(&phone).await, ["carl"]);
    for device in [&phone, &laptop] {
        let gone = told(device, "the end", "bob", |event, _| event == ConversationEvent::Deleted).await;
        assert!(gone.is_pinned);
        assert_eq!(listed(device).await, ["carl"]);
        assert_eq!(refusal(soon(device.query_conversation("bob", PEER)).await), UNKNOWN);
        // Its unread messages leave the total, its messages stay.
        device.until("a total of 1", |_| (total(device) == Some(1)).then_some(())).await;
        assert_eq!(device.total_unread().await, 1);
        assert_eq!(texts(&device.history("bob").await), ["one"]);
    }
    let fresh = world.device("ann").await;
    assert_eq!(listed(&fresh).await, ["carl"]);
    assert_eq!(deleted(&fresh, "bob"), 0, "a new device never showed it");
    // A second time changes nothing.
    soon(laptop.delete_conversation("bob", PEER, EVERYWHERE)).await.unwrap();
    // A new message brings it back, with its pin and its marks.
    world.clock.advance(1_000);
    bob.say("ann", "three").await;
    for device in [&phone, &laptop, &fresh] {
        let back = told(device, "the return", "bob", |event, one| {
            event == ConversationEvent::Added && one.last_message.as_ref().is_some_and(|last| is_text(last, "three"))
        });
        let back = back.await;
        assert_eq!((back.is_pinned, back.marks, back.unread_message_count), (true, vec![7], 2));
        assert_eq!(listed(device).await, ["bob", "carl"]);
        assert_eq!(device.total_unread().await, 3);
    }
    assert_eq!((deleted(&phone, "bob"), deleted(&laptop, "bob")), (1, 1));
    // The other side learns nothing of all this.
    phone.say("bob", "after").await;
    bob.receives("after").await;
    assert_eq!(deleted(&bob, "ann"), 0);
    world.end().await;
}

#[tokio::test]
async fn delete_conversation_without_the_server_is_for_one_device() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    bob.say("ann", "one").await;
    phone.has_unread("bob", 1).await;
    laptop.has_unread("bob", 1).await;
    soon(phone.delete_conversation("bob", PEER, HERE)).await.unwrap();
    told(&phone, "the end", "bob", |event, _| event == ConversationEvent::Deleted).await;
    assert!(listed(&phone).await.is_empty());
    assert_eq!(phone.total_unread().await, 0);
    assert_eq!(refusal(soon(phone.delete_conversation("bob", PEER, HERE)).await), UNKNOWN);
    // A setting of the server would have come before Carl's message.
    world.clock.advance(1_000);
    carl.say("ann", "two").await;
    laptop.has_unread("carl", 1).await;
    assert_eq!(listed(&laptop).await, ["carl", "bob"]);
    assert_eq!(deleted(&laptop, "bob"), 0);
    // It stays away on this device after a restart, and an own message brings it back.
    phone.has_unread("carl", 1).await;
    let dir = phone.dir();
    phone.quit().await;
    let phone = world.user_at(dir, "ann").await;
    assert_eq!(listed(&phone).await, ["carl"]);
    world.clock.advance(1_000);
    phone.say("bob", "mine").await;
    assert_eq!(listed(&phone).await, ["bob", "carl"]);
    told(&phone, "the return", "bob", |event, _| event == ConversationEvent::Added).await;
    world.end().await;
}

/// The server has it as deleted already, and has nothing to tell: the device does it by itself.
#[tokio::test]
async fn delete_conversation_again_after_a_draft_has_brought_it_back() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    bob.say("ann", "hi").await;
    ann.receives("hi").await;
    for _ in 0..2 {
        soon(ann.delete_conversation("bob", PEER, EVERYWHERE)).await.unwrap();
        lists(&ann, &[]).await;
        soon(ann.set_conversation_draft("well", "bob", PEER)).await.unwrap();
        lists(&ann, &["bob"]).await;
    }
    soon(ann.delete_conversation("bob", PEER, EVERYWHERE)).await.unwrap();
    lists(&ann, &[]).await;
    bob.say("ann", "again").await;
    lists(&ann, &["bob"]).await;
    assert_eq!(ann.conversation("bob").await.draft, "");
    world.end().await;
}

#[tokio::test]
async fn delete_conversation_keeps_one_with_a_message_that_the_device_has_not_seen() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for text in ["1", "2", "3"] {
        bob.say("ann", text).await;
    }
    ann.has_unread("bob", 3).await;
    let mut raw = world.raw_user("ann", 1).await;
    let through = |through_seq| DeleteConversationRequest {
        conversation_id: "bob".into(),
        conversation_type: PEER as i32,
        config: Some(EVERYWHERE),
        through_seq: Some(through_seq),
    };
    // Another device had seen two of three messages.
    raw.call(&through(2)).await.unwrap();
    bob.say("ann", "4").await;
    ann.has_unread("bob", 4).await;
    assert_eq!(deleted(&ann, "bob"), 0);
    // It had seen all, or more than there are.
    raw.call(&through(1_000)).await.unwrap();
    told(&ann, "the end", "bob", |event, _| event == ConversationEvent::Deleted).await;
    bob.say("ann", "5").await;
    told(&ann, "the return", "bob", |event, one| event == ConversationEvent::Added && one.unread_message_count == 5)
        .await;
    // An earlier position does not take the later deletion back, and without a position all messages count.
    raw.call(&through(1)).await.unwrap();
    raw.call(&DeleteConversationRequest { through_seq: None, ..through(0) }).await.unwrap();
    eventually("a second end", async || (deleted(&ann, "bob") == 2).then_some(())).await;
    assert_eq!(raw.call(&through(-1)).await.unwrap_err().code, INVALID as i32);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn delete_conversation_that_does_not_exist_is_refused() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&bob, "crew", &[]).await;
    let mut raw = world.raw_user("ann", 1).await;
    for (id, kind) in [("bob", PEER), ("nobody", PEER), ("crew", GROUP)] {
        for config in [EVERYWHERE, HERE] {
            assert_eq!(refusal(soon(ann.delete_conversation(id, kind, config)).await), UNKNOWN, "{id}");
        }
        let (conversation_id, conversation_type) = (id.to_owned(), kind as i32);
        let config = Some(EVERYWHERE);
        let request = DeleteConversationRequest { conversation_id, conversation_type, config, through_seq: None };
        assert_eq!(raw.call(&request).await.unwrap_err().code, UNKNOWN as i32, "{id}");
    }
    assert_eq!(refusal(soon(ann.delete_conversation("", PEER, HERE)).await), INVALID);
    assert_eq!(refusal(soon(ann.delete_conversation("bob", ConversationType::Room, HERE)).await), INVALID);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn delete_conversation_of_a_group_ends_when_the_user_enters_it_again() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    create(&bob, "crew", &["ann"]).await;
    lists(&laptop, &["crew"]).await;
    lists(&phone, &["crew"]).await;
    // There is no message yet.
    soon(phone.delete_conversation("crew", GROUP, EVERYWHERE)).await.unwrap();
    lists(&laptop, &[]).await;
    // What happens to the group does not bring it back; being in it anew does.
    soon(phone.leave_group("crew")).await.unwrap();
    laptop
        .until("the group left", |seen| {
            seen.iter().any(|event| event.kind() == EventKind::GroupStateChanged).then_some(())
        })
        .await;
    assert!(listed(&laptop).await.is_empty());
    // A former member deletes it, too, and sets what only the user sees.
    soon(phone.update_conversation_pinned_state(true, "crew", GROUP)).await.unwrap();
    soon(phone.join_group("crew")).await.unwrap();
    for device in [&phone, &laptop] {
        lists(device, &["crew"]).await;
        assert!(device.conversation(group("crew")).await.is_pinned);
    }
    world.end().await;
}

#[tokio::test]
async fn delete_all_conversations_tells_other_devices_once() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    bob.say("ann", "one").await;
    carl.say("ann", "two").await;
    create(&carl, "crew", &["ann"]).await;
    for device in [&phone, &laptop] {
        device.has_unread("bob", 1).await;
        device.has_unread("carl", 1).await;
        eventually("the group", async || device.query_conversation("crew", GROUP).await.ok()).await;
    }
    soon(phone.set_conversation_draft("a draft", "dora", PEER)).await.unwrap();
    soon(phone.delete_all_conversations(EVERYWHERE)).await.unwrap();
    assert!(listed(&phone).await.is_empty());
    let all = match laptop.next(EventKind::ConversationsAllDeleted).await {
        Event::ConversationsAllDeleted(event) => event.count,
        other => panic!("{other:?}"),
    };
    assert_eq!(all, 3);
    assert!(listed(&laptop).await.is_empty());
    for device in [&phone, &laptop] {
        device.until("a total of 0", |_| (total(device) == Some(0)).then_some(())).await;
    }
    // The next message of each brings it back; only then all events of before have come.
    bob.say("ann", "three").await;
    carl.say(group("crew"), "four").await;
    for device in [&phone, &laptop] {
        told(device, "bob", "bob", |event, one| event == ConversationEvent::Added && one.unread_message_count == 2)
            .await;
        told(device, "the group", "crew", |event, one| {
            event == ConversationEvent::Added && one.unread_message_count == 1
        })
        .await;
        for id in ["bob", "carl", "crew", "dora"] {
            assert_eq!(deleted(device, id), 0, "{id}");
        }
    }
    assert_eq!(laptop.seen_of(EventKind::ConversationsAllDeleted).len(), 1);
    assert!(phone.seen_of(EventKind::ConversationsAllDeleted).is_empty());
    assert!(bob.seen_of(EventKind::ConversationsAllDeleted).is_empty());
    assert_eq!(bob.conversations().await.len(), 1);
    // An empty list stays one, without an event.
    soon(phone.delete_all_conversations(EVERYWHERE)).await.unwrap();
    soon(phone.delete_all_conversations(EVERYWHERE)).await.unwrap();
    bob.say("ann", "five").await;
    laptop.receives("five").await;
    assert_eq!(laptop.seen_of(EventKind::ConversationsAllDeleted).len(), 2);
    // Without the flag the server does nothing.
    let mut raw = world.raw_user("ann", 1).await;
    raw.call(&DeleteAllConversationsRequest { config: Some(HERE) }).await.unwrap();
    raw.call(&DeleteAllConversationsRequest { config: None }).await.unwrap();
    raw.end().await;
    assert_eq!(listed(&world.device("ann").await).await, ["bob"]);
    world.end().await;
}

#[tokio::test]
async fn delete_all_conversations_without_the_server_is_for_one_device() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    bob.say("ann", "one").await;
    phone.has_unread("bob", 1).await;
    soon(phone.delete_all_conversations(HERE)).await.unwrap();
    assert!(listed(&phone).await.is_empty());
    carl.say("ann", "two").await;
    phone.receives("two").await;
    laptop.receives("two").await;
    lists(&phone, &["carl"]).await;
    assert_eq!(listed(&laptop).await.len(), 2);
    assert!(laptop.seen_of(EventKind::ConversationsAllDeleted).is_empty());
    assert_eq!(deleted(&phone, "bob"), 0);
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_total_unread_message_count_reads_everything_on_all_devices() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    for text in ["1", "2"] {
        bob.say("ann", text).await;
    }
    create(&carl, "crew", &["ann"]).await;
    carl.say(group("crew"), "3").await;
    carl.say("ann", "read").await;
    phone.has_unread("carl", 1).await;
    phone.read("carl").await;
    for device in [&phone, &laptop] {
        device.has_unread("bob", 2).await;
        device.has_unread(group("crew"), 1).await;
        device.has_unread("carl", 0).await;
    }
    soon(phone.clear_conversation_total_unread_message_count()).await.unwrap();
    assert_eq!(phone.total_unread().await, 0);
    for device in [&phone, &laptop] {
        device.until("a total of 0", |_| (total(device) == Some(0)).then_some(())).await;
        for (id, seq) in [("bob", 2), ("crew", 1)] {
            let read = told(device, "no unread message", id, |event, one| {
                event == ConversationEvent::Updated && one.unread_message_count == 0 && one.read_message_seq == seq
            });
            read.await;
        }
    }
    bob.say("ann", "4").await;
    for device in [&phone, &laptop] {
        device.has_unread("bob", 1).await;
        assert_eq!(device.total_unread().await, 1);
    }
    let mut raw = world.raw_user("ann", 1).await;
    raw.call(&ClearConversationTotalUnreadMessageCountRequest {}).await.unwrap();
    laptop.has_unread("bob", 0).await;
    // With nothing to read, nothing changes.
    raw.call(&ClearConversationTotalUnreadMessageCountRequest {}).await.unwrap();
    raw.end().await;
    // Nobody else learns of it.
    phone.say("bob", "after").await;
    bob.receives("after").await;
    assert_eq!(bob.conversation("ann").await.unread_message_count, 1);
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_total_unread_message_count_takes_several_steps_for_many_conversations() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..101 {
        let id = format!("g{number}");
        create(&bob, &id, &["ann"]).await;
        bob.say(group(&id), "hi").await;
    }
    eventually("101 unread", async || (ann.total_unread().await == 101).then_some(())).await;
    soon(ann.clear_conversation_total_unread_message_count()).await.unwrap();
    assert_eq!(ann.total_unread().await, 0);
    assert_eq!(world.device("ann").await.total_unread().await, 0);
    world.end().await;
}

#[tokio::test]
async fn query_conversation_list_filters_by_type_and_all_conditions_together() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    for other in [&bob, &carl] {
        other.say("ann", "hi").await;
        world.clock.advance(1_000);
    }
    create(&bob, "crew", &["ann"]).await;
    world.clock.advance(1_000);
    bob.say(group("crew"), "hi").await;
    lists(&ann, &["crew", "carl", "bob"]).await;
    ann.has_unread(group("crew"), 1).await;
    ann.read("carl").await;
    soon(ann.update_conversation_pinned_state(true, "bob", PEER)).await.unwrap();
    soon(ann.set_conversation_mark(2, true, vec![base("bob", PEER), base("carl", PEER), base("crew", GROUP)]))
        .await
        .unwrap();
    let listed = async |filter: ConversationFilterOption| -> Vec<String> {
        let found = soon(ann.query_conversation_list(ConversationQueryConfig::default(), filter)).await.unwrap();
        names(&found.conversation_list).into_iter().map(str::to_owned).collect()
    };
    let of = |kinds: &[ConversationType]| ConversationFilterOption {
        conversation_types: kinds.iter().map(|kind| *kind as i32).collect(),
        ..ConversationFilterOption::default()
    };
    assert_eq!(listed(of(&[])).await, ["bob", "crew", "carl"]);
    assert_eq!(listed(of(&[PEER])).await, ["bob", "carl"]);
    assert_eq!(listed(of(&[GROUP])).await, ["crew"]);
    assert_eq!(listed(of(&[PEER, GROUP])).await, ["bob", "crew", "carl"]);
    assert!(listed(of(&[ConversationType::Room])).await.is_empty());
    let all = ConversationFilterOption {
        marks: vec![2],
        is_only_unread_conversation: true,
        pinned_filter: ConversationPinnedFilter::OnlyUnpinned as i32,
        ..of(&[PEER, GROUP])
    };
    assert_eq!(listed(all.clone()).await, ["crew"]);
    let wrong = ConversationFilterOption { pinned_filter: 3, ..all };
    assert_eq!(refusal(soon(ann.query_conversation_list(ConversationQueryConfig::default(), wrong)).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn a_chat_arranges_its_conversation() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    bob.say("ann", "hi").await;
    ann.has_unread("bob", 1).await;
    let chat = ann.peer("bob");
    soon(chat.pin()).await.unwrap();
    soon(chat.mark(1)).await.unwrap();
    soon(chat.mark(2)).await.unwrap();
    soon(chat.unmark(1)).await.unwrap();
    soon(chat.set_do_not_disturb(true)).await.unwrap();
    soon(chat.set_draft("later")).await.unwrap();
    let shown = soon(chat.conversation()).await.unwrap();
    assert_eq!(
        (shown.is_pinned, shown.marks, shown.notification_status, shown.draft.as_str()),
        (true, vec![2], 2, "later")
    );
    soon(chat.unpin()).await.unwrap();
    soon(chat.set_do_not_disturb(false)).await.unwrap();
    let shown = soon(chat.conversation()).await.unwrap();
    assert_eq!((shown.is_pinned, shown.notification_status), (false, 1));
    soon(chat.delete_here()).await.unwrap();
    assert_eq!(refusal(soon(chat.conversation()).await), UNKNOWN);
    // That is for this device alone.
    assert_eq!(listed(&world.device("ann").await).await, ["bob"]);
    bob.say("ann", "again").await;
    lists(&ann, &["bob"]).await;
    soon(chat.delete()).await.unwrap();
    assert!(listed(&world.device("ann").await).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn the_list_its_total_and_what_is_found_in_it_are_streams() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..101 {
        create(&bob, &format!("g{number}"), &["ann"]).await;
    }
    bob.say(group("g7"), "lunch").await;
    bob.say("ann", "lunch at one").await;
    eventually("all of them", async || {
        let all = (*ann).conversations(ConversationFilterOption::default()).collect::<Vec<_>>().await;
        (all.len() == 102 && (*ann).total_unread().await.unwrap() == 2).then_some(())
    })
    .await;
    let unread = ConversationFilterOption { is_only_unread_conversation: true, ..ConversationFilterOption::default() };
    let mut unread = (*ann).conversations(unread);
    for id in ["bob", "g7"] {
        assert_eq!(soon(unread.next()).await.unwrap().unwrap().conversation_id, id);
    }
    assert!(soon(unread.next()).await.is_none());
    let mut found = ann.search_conversations(["lunch"]);
    for (id, text) in [("bob", "lunch at one"), ("g7", "lunch")] {
        let info = soon(found.next()).await.unwrap().unwrap();
        assert_eq!((info.conversation_id.as_str(), texts(&info.message_list)), (id, vec![text.to_owned()]));
    }
    assert!(soon(found.next()).await.is_none());
    let named: Vec<_> = soon(ann.find_conversations(["g9"]).collect()).await;
    assert_eq!(named.len(), 11, "g9 and g90 to g99");
    let bad = ConversationFilterOption { marks: vec![21], ..ConversationFilterOption::default() };
    assert_eq!(refusal(soon((*ann).conversations(bad).next()).await.unwrap()), INVALID);
    world.end().await;
}

#[tokio::test]
async fn set_conversation_draft_never_leaves_the_device() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    bob.say("ann", "one").await;
    world.clock.advance(1_000);
    carl.say("ann", "two").await;
    phone.has_unread("bob", 1).await;
    phone.has_unread("carl", 1).await;
    let before = phone.conversation("bob").await;
    world.clock.advance(1_000);
    let result = soon(phone.set_conversation_draft("hello, Bo", "bob", PEER)).await.unwrap();
    assert_eq!((result.conversation_id.as_str(), result.conversation_type), ("bob", PEER as i32));
    let drafted =
        told(&phone, "the draft", "bob", |event, one| event == ConversationEvent::Updated && one.draft == "hello, Bo");
    let drafted = drafted.await;
    // It counts like a message of now.
    assert_eq!(drafted.order_key, world.clock.now_ms());
    assert_eq!(listed(&phone).await, ["bob", "carl"]);
    // It survives the process.
    let dir = phone.dir();
    phone.quit().await;
    let phone = world.user_at(dir, "ann").await;
    assert_eq!(phone.conversation("bob").await.draft, "hello, Bo");
    // A newer message counts more.
    world.clock.advance(1_000);
    carl.say("ann", "three").await;
    lists(&phone, &["carl", "bob"]).await;
    soon(phone.set_conversation_draft("", "bob", PEER)).await.unwrap();
    let cleared = phone.conversation("bob").await;
    assert_eq!((cleared.draft.as_str(), cleared.order_key), ("", before.order_key));
    // No other device ever had it: the same path brought messages since.
    laptop.receives("three").await;
    assert!(changes(&laptop, "bob").iter().all(|(_, one)| one.draft.is_empty()));
    assert!(changes(&bob, "ann").iter().all(|(_, one)| one.draft.is_empty()));
    world.end().await;
}

#[tokio::test]
async fn set_conversation_draft_makes_a_conversation_of_this_device() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    // Without a conversation there is nothing to remove.
    soon(phone.set_conversation_draft("", "bob", PEER)).await.unwrap();
    assert!(listed(&phone).await.is_empty());
    soon(phone.set_conversation_draft("first", "bob", PEER)).await.unwrap();
    let added = told(&phone, "the conversation", "bob", |event, _| event == ConversationEvent::Added).await;
    assert_eq!((added.draft.as_str(), added.last_message), ("first", None));
    assert_eq!(listed(&phone).await, ["bob"]);
    // The server has none.
    assert_eq!(refusal(soon(phone.update_conversation_pinned_state(true, "bob", PEER)).await), UNKNOWN);
    // It goes with the draft, and with its deletion.
    soon(phone.set_conversation_draft("", "bob", PEER)).await.unwrap();
    told(&phone, "its end", "bob", |event, _| event == ConversationEvent::Deleted).await;
    soon(phone.set_conversation_draft("second", "bob", PEER)).await.unwrap();
    soon(phone.delete_conversation("bob", PEER, EVERYWHERE)).await.unwrap();
    assert!(listed(&phone).await.is_empty());
    soon(phone.set_conversation_draft("third", "bob", PEER)).await.unwrap();
    assert_eq!(listed(&phone).await, ["bob"]);
    bob.say("ann", "hi").await;
    phone.has_unread("bob", 1).await;
    assert_eq!(phone.conversation("bob").await.draft, "third");
    // Deleting a conversation deletes its draft; another draft brings it back, on this device.
    laptop.has_unread("bob", 1).await;
    soon(phone.delete_conversation("bob", PEER, EVERYWHERE)).await.unwrap();
    lists(&laptop, &[]).await;
    soon(phone.set_conversation_draft("fourth", "bob", PEER)).await.unwrap();
    assert_eq!(phone.conversation("bob").await.draft, "fourth");
    assert!(listed(&laptop).await.is_empty());
    soon(phone.delete_conversation("bob", PEER, HERE)).await.unwrap();
    bob.say("ann", "hi again").await;
    phone.has_unread("bob", 2).await;
    assert_eq!(phone.conversation("bob").await.draft, "");
    for (id, kind) in [("", PEER), ("room", ConversationType::Room)] {
        assert_eq!(refusal(soon(phone.set_conversation_draft("x", id, kind)).await), INVALID);
    }
    world.end().await;
}
