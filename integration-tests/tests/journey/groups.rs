//! A group in which members come and go while one of their devices is away.

use zim_integration_tests::{Device, World, eventually, group, soon, texts};
use zim_protocol::{
    ConversationType, Event, EventKind, GroupAdvancedConfig, GroupEvent, GroupInfo, GroupMemberEvent, Message,
    MessageEditConfig, MessagePinConfig, MessageQueryConfig, MessageReactionAddConfig, MessageRevokeConfig,
    MessageType,
};

async fn create(owner: &Device, users: &[&str]) {
    let info = GroupInfo { group_id: "crew".into(), group_name: "The crew".into(), ..GroupInfo::default() };
    soon(owner.create_group(info, users.iter().copied(), GroupAdvancedConfig::default())).await.unwrap();
}

/// The changes of the device's own membership so far.
fn states(device: &Device) -> Vec<GroupEvent> {
    let of = |event: Event| match event {
        Event::GroupStateChanged(event) => event.event(),
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::GroupStateChanged).into_iter().map(of).collect()
}

/// The changes of members so far: what, and who.
fn passages(device: &Device) -> Vec<(GroupMemberEvent, String)> {
    let of = |event: Event| match event {
        Event::GroupMemberStateChanged(event) => (event.event(), event.user_list[0].user_id.clone()),
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::GroupMemberStateChanged).into_iter().map(of).collect()
}

async fn has_states(device: &Device, expected: &[GroupEvent]) {
    eventually("changes of the own membership", async || (states(device) == expected).then_some(())).await;
}

fn received(device: &Device) -> Vec<(String, bool)> {
    let all = device.received_from("crew");
    all.iter().map(|(message, is_offline)| (texts([message]).remove(0), *is_offline)).collect()
}

async fn is_disabled(device: &Device) -> bool {
    device.conversation(group("crew")).await.is_disabled
}

#[tokio::test]
async fn a_member_is_removed_and_returns_while_a_device_is_away() {
    let world = World::new().await;
    let (ann, cai) = (world.user("ann").await, world.user("cai").await);
    let (phone, tablet) = (world.user("bob").await, world.device("bob").await);
    create(&ann, &["bob", "cai"]).await;
    let first = ann.say(group("crew"), "1").await;
    for device in [&phone, &tablet] {
        device.receives("1").await;
    }
    tablet.quit().await;
    let (dir, count) = (tablet.dir(), 1);
    world.clock.advance(1_000);

    ann.say(group("crew"), "2").await;
    soon(ann.kick_group_members(["bob"], "crew")).await.unwrap();
    // Bob sees nothing of this, not even after rejoining.
    ann.say(group("crew"), "3").await;
    soon(ann.revoke_message(&first, MessageRevokeConfig::default())).await.unwrap();
    soon(cai.leave_group("crew")).await.unwrap();
    has_states(&phone, &[GroupEvent::Invited, GroupEvent::KickedOut]).await;
    assert!(is_disabled(&phone).await);
    soon(phone.join_group("crew")).await.unwrap();
    has_states(&phone, &[GroupEvent::Invited, GroupEvent::KickedOut, GroupEvent::Joined]).await;
    assert!(!is_disabled(&phone).await);
    phone.has_unread(group("crew"), 0).await;
    ann.say(group("crew"), "4").await;
    phone.receives("4").await;
    assert_eq!(received(&phone), [("1", false), ("2", false), ("4", false)].map(|(text, off)| (text.to_owned(), off)));

    world.clock.advance(1_000);
    let tablet = world.user_at(dir, "bob").await;
    tablet.receives("4").await;
    has_states(&tablet, &[GroupEvent::KickedOut, GroupEvent::Joined]).await;
    assert_eq!(received(&tablet), [("2", true), ("4", true)].map(|(text, off)| (text.to_owned(), off)));
    let bob = "bob".to_owned();
    let seen = [(GroupMemberEvent::KickedOut, bob.clone()), (GroupMemberEvent::Joined, bob)];
    assert_eq!(passages(&tablet), seen, "Cai left while Bob was out");
    assert!(!is_disabled(&tablet).await);
    // Both stays are there and the gap is not. What changed meanwhile is served without its content.
    let new = world.device("bob").await;
    for device in [&phone, &tablet, &new] {
        device.has_unread(group("crew"), count).await;
        let history = device.history(group("crew")).await;
        assert_eq!(history.iter().map(|message| message.message_seq).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(texts(&history[1..]), ["2", "4"]);
        let revoked = format!("{:?}", history[0]);
        assert!(!revoked.contains("\"1\""), "{revoked}");
    }
    phone.read(group("crew")).await;
    for device in [&phone, &tablet, &new] {
        device.has_unread(group("crew"), 0).await;
    }
    assert!(states(&new).is_empty(), "what was before a device is no news to it");
    world.end().await;
}

/// A read goes through all stays of a user, so their number has a bound.
#[tokio::test]
async fn a_user_who_comes_and_goes_keeps_the_last_100_stays() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, &["bob"]).await;
    for round in 0..101 {
        ann.say(group("crew"), &round.to_string()).await;
        soon(bob.leave_group("crew")).await.unwrap();
        soon(bob.join_group("crew")).await.unwrap();
        world.clock.advance(1_000);
    }
    ann.say(group("crew"), "last").await;
    let new = world.device("bob").await;
    new.has_unread(group("crew"), 1).await;
    let (mut seen, mut next) = (Vec::new(), None);
    loop {
        let config =
            MessageQueryConfig { next_message: next, count: 60, reverse: true, ..MessageQueryConfig::default() };
        let page = soon(new.query_history_message("crew", ConversationType::Group, config)).await.unwrap().message_list;
        let Some(first) = page.first() else { break };
        next = Some(first.clone());
        seen.splice(0..0, texts(&page));
    }
    // 100 earlier stays with a message each, and the present one.
    let expected: Vec<_> = (1..101).map(|round| round.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(seen, expected);
    world.end().await;
}

#[tokio::test]
async fn a_user_is_invited_and_removed_while_their_device_is_away() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    for device in [&bob, &cai] {
        device.quit().await;
    }
    let (bob_dir, cai_dir) = (bob.dir(), cai.dir());
    world.clock.advance(1_000);
    create(&ann, &["bob", "cai"]).await;
    ann.say(group("crew"), "1").await;
    soon(ann.kick_group_members(["cai"], "crew")).await.unwrap();
    ann.say(group("crew"), "2").await;

    world.clock.advance(1_000);
    let bob = world.user_at(bob_dir, "bob").await;
    bob.receives("2").await;
    has_states(&bob, &[GroupEvent::Invited]).await;
    assert_eq!(received(&bob), [("1".to_owned(), true), ("2".to_owned(), true)]);
    bob.has_unread(group("crew"), 2).await;
    assert_eq!(bob.conversation(group("crew")).await.conversation_name, "The crew");

    let cai = world.user_at(cai_dir, "cai").await;
    cai.receives("1").await;
    has_states(&cai, &[GroupEvent::Invited, GroupEvent::KickedOut]).await;
    assert_eq!(received(&cai), [("1".to_owned(), true)]);
    assert!(is_disabled(&cai).await);
    let new = world.device("cai").await;
    for device in [&cai, &new] {
        device.has_unread(group("crew"), 1).await;
        assert_eq!(texts(&device.history(group("crew")).await), ["1"]);
        assert!(soon(device.query_conversation("crew", ConversationType::Group)).await.is_ok());
    }
    cai.read(group("crew")).await;
    for device in [&cai, &new] {
        device.has_unread(group("crew"), 0).await;
    }
    // What follows does not reach those who are out, and those who are in.
    ann.say(group("crew"), "3").await;
    bob.receives("3").await;
    assert_eq!(received(&cai).len(), 1);
    world.end().await;
}

/// What a push carries and what a pull carries is the same, also for messages of an earlier stay.
#[tokio::test]
async fn a_message_of_an_earlier_stay_is_revoked() {
    let world = World::new().await;
    let (ann, phone, tablet) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    create(&ann, &["bob"]).await;
    let rude = ann.say(group("crew"), "rude").await;
    let own = phone.say(group("crew"), "own").await;
    soon(phone.leave_group("crew")).await.unwrap();
    soon(phone.join_group("crew")).await.unwrap();
    for device in [&phone, &tablet] {
        has_states(device, &[GroupEvent::Invited, GroupEvent::Left, GroupEvent::Joined]).await;
        assert_eq!(texts(&device.history(group("crew")).await), ["rude", "own"]);
    }
    soon(ann.revoke_message(&rude, MessageRevokeConfig::default())).await.unwrap();
    soon(phone.revoke_message(&own, MessageRevokeConfig::default())).await.unwrap();
    for device in [&phone, &tablet] {
        eventually("two revoked messages", async || {
            let history = device.history(group("crew")).await;
            history.iter().all(|message| message.r#type() == MessageType::Revoke).then_some(())
        })
        .await;
        device.has_unread(group("crew"), 0).await;
    }
    world.end().await;
}

/// Otherwise a device that saw the user enter would sort the group by that time, and a new one by that of the message.
#[tokio::test]
async fn a_message_is_not_older_than_the_entrance_of_those_who_see_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, &[]).await;
    soon(bob.join_group("crew")).await.unwrap();
    let entered = bob.conversation(group("crew")).await.order_key;
    world.clock.jump(-60_000);
    let sent = ann.say(group("crew"), "hi").await;
    assert!(sent.timestamp >= entered, "{} is before {entered}", sent.timestamp);
    bob.receives("hi").await;
    let fresh = world.device("bob").await;
    let keys = [bob.conversation(group("crew")).await.order_key, fresh.conversation(group("crew")).await.order_key];
    assert_eq!(keys, [sent.timestamp; 2]);
    world.end().await;
}

/// Changes the text of a message. Returns the new text as the device that edits has it from the answer.
async fn edit(device: &Device, message: &Message, text: &str) -> String {
    let edited = Message { body: Message::text(text).body, ..message.clone() };
    let result = soon(device.edit_message(&edited, MessageEditConfig {})).await.unwrap();
    texts(&result.message).remove(0)
}

/// The texts that messages were edited to, in the order in which the device was told.
fn edits(device: &Device) -> Vec<String> {
    let of = |event: Event| match event {
        Event::MessageEdited(event) => texts(&event.message_list),
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::MessageEdited).into_iter().flat_map(of).collect()
}

async fn shows(device: &Device, expected: &[&str]) {
    let what = format!("the history {expected:?}");
    eventually(&what, async || (texts(&device.history(group("crew")).await) == expected).then_some(())).await;
}

async fn leave_and_return(devices: &[&Device], meanwhile: impl AsyncFnOnce()) {
    soon(devices[0].leave_group("crew")).await.unwrap();
    meanwhile().await;
    soon(devices[0].join_group("crew")).await.unwrap();
    for device in devices {
        has_states(device, &[GroupEvent::Invited, GroupEvent::Left, GroupEvent::Joined]).await;
    }
}

/// Somebody who is a member again sees what happens to messages of their earlier stay.
#[tokio::test]
async fn messages_of_an_earlier_stay_change_after_the_return() {
    let world = World::new().await;
    let (ann, phone, tablet) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    create(&ann, &["bob"]).await;
    let hers = ann.say(group("crew"), "hers").await;
    let own = phone.say(group("crew"), "own").await;
    leave_and_return(&[&phone, &tablet], async || {}).await;
    for device in [&phone, &tablet] {
        shows(device, &["hers", "own"]).await;
    }
    assert_eq!(edit(&phone, &own, "my own").await, "my own");
    edit(&ann, &hers, "still hers").await;
    soon(ann.add_message_reaction("+1", &hers, MessageReactionAddConfig::default())).await.unwrap();
    soon(ann.pin_message(&own, true, MessagePinConfig::default())).await.unwrap();
    for (device, told) in [(&phone, &["still hers"][..]), (&tablet, &["my own", "still hers"])] {
        device.next(EventKind::MessagePinStatusChanged).await;
        assert_eq!(edits(device), told);
    }
    let new = world.device("bob").await;
    for device in [&phone, &tablet, &new] {
        shows(device, &["still hers", "my own"]).await;
        let history = device.history(group("crew")).await;
        assert_eq!((history[0].reactions.len(), &*history[0].editor_user_id), (1, "ann"));
        assert_eq!((&*history[1].pinned_user_id, &*history[1].editor_user_id), ("ann", "bob"));
        let last = device.conversation(group("crew")).await.last_message.unwrap();
        assert_eq!(last.as_text(), Some("my own"));
    }
    assert!(edits(&new).is_empty(), "what was before a device is no news to it");
    world.end().await;
}

/// What a message became while its reader was away is not for them, until it changes again.
#[tokio::test]
async fn a_message_of_an_earlier_stay_changes_during_the_absence() {
    let world = World::new().await;
    let (ann, phone, tablet) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    create(&ann, &["bob"]).await;
    let hers = ann.say(group("crew"), "hers").await;
    phone.say(group("crew"), "own").await;
    let edit_meanwhile = async || drop(edit(&ann, &hers, "secret").await);
    leave_and_return(&[&phone, &tablet], edit_meanwhile).await;
    // A change of something else does not show it either.
    soon(ann.pin_message(&hers, true, MessagePinConfig::default())).await.unwrap();
    let new = world.device("bob").await;
    for device in [&phone, &tablet, &new] {
        eventually("the pin", async || {
            let history = device.history(group("crew")).await;
            let is_pinned = history.first().is_some_and(|hers| hers.pinned_time > 0 && hers.edited_time == 0);
            (is_pinned && texts(&history) == ["", "own"]).then_some(())
        })
        .await;
        assert!(!format!("{:?}", device.seen()).contains("secret"), "{:?}", device.seen());
    }
    edit(&ann, &hers, "for all").await;
    for device in [&phone, &tablet, &new] {
        device.next(EventKind::MessageEdited).await;
        assert_eq!(edits(device), ["for all"]);
        shows(device, &["for all", "own"]).await;
    }
    world.end().await;
}

/// A device keeps the text that it has, and tells nothing, when the text changes after its user has left.
#[tokio::test]
async fn the_last_message_changes_after_the_user_has_left() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, &["bob"]).await;
    let last = ann.say(group("crew"), "goodbye").await;
    bob.receives("goodbye").await;
    soon(bob.leave_group("crew")).await.unwrap();
    has_states(&bob, &[GroupEvent::Invited, GroupEvent::Left]).await;
    let dir = bob.dir();
    bob.quit().await;
    world.clock.advance(1_000);
    edit(&ann, &last, "good riddance").await;
    ann.say("bob", "are you there?").await;
    let bob = world.user_at(dir, "bob").await;
    bob.receives("are you there?").await;
    assert_eq!(edits(&bob), [""; 0]);
    shows(&bob, &["goodbye"]).await;
    assert_eq!(bob.conversation(group("crew")).await.last_message.unwrap().as_text(), Some("goodbye"));
    // Another device has never had it.
    shows(&world.device("bob").await, &[""]).await;
    world.end().await;
}
