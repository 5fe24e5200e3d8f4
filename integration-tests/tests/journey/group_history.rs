//! What users keep of a group that they are no longer in, and what they have of one to which they returned.

use zim_integration_tests::{Device, World, eventually, group, soon, texts};
use zim_protocol::{
    ConversationType, Event, EventKind, GroupAdvancedConfig, GroupEvent, GroupInfo, Message, MessageQueryConfig,
    MessageQueryMode,
};

const MODES: [MessageQueryMode; 3] =
    [MessageQueryMode::General, MessageQueryMode::PreferServer, MessageQueryMode::OnlyLocal];

async fn create(owner: &Device, id: &str, users: &[&str]) {
    let info = GroupInfo { group_id: id.into(), group_name: format!("The {id}"), ..GroupInfo::default() };
    soon(owner.create_group(info, users.iter().copied(), GroupAdvancedConfig::default())).await.unwrap();
}

/// The messages of the crew as a device gets them two by two, in ascending order.
async fn in_pages(device: &Device, reverse: bool, mode: MessageQueryMode) -> Vec<Message> {
    let mut all: Vec<Message> = Vec::new();
    loop {
        let next_message = if reverse { all.first().cloned() } else { all.last().cloned() };
        let config = MessageQueryConfig { next_message, count: 2, reverse, mode: mode as i32 };
        let page = soon(device.query_history_message("crew", ConversationType::Group, config)).await.unwrap();
        if page.message_list.is_empty() {
            return all;
        }
        let at = if reverse { 0 } else { all.len() };
        all.splice(at..at, page.message_list);
    }
}

/// Asserts that the crew's history on a device is this, whichever way it is read.
async fn has_history(device: &Device, expected: &[&str], what: &str) {
    for mode in MODES {
        assert_eq!(texts(&device.history_by(group("crew"), mode).await), expected, "{what}, {mode:?}");
        for reverse in [true, false] {
            let pages = in_pages(device, reverse, mode).await;
            assert_eq!(texts(&pages), expected, "{what}, {mode:?} in pages, {reverse}");
        }
    }
}

/// The texts of those messages with these positions that a device gets.
async fn at(device: &Device, seqs: &[i64]) -> Vec<String> {
    let found = soon(device.query_messages(seqs, "crew", ConversationType::Group)).await.unwrap();
    texts(&found.message_list)
}

/// The changes of the device's own membership in the crew so far.
fn states(device: &Device) -> Vec<GroupEvent> {
    let of = |event: Event| match event {
        Event::GroupStateChanged(event) => {
            let is_crew = event.group_info.clone().unwrap().base_info.unwrap().group_id == "crew";
            is_crew.then(|| event.event())
        }
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::GroupStateChanged).into_iter().filter_map(of).collect()
}

async fn has_state(device: &Device, expected: GroupEvent) {
    eventually("a change of the own membership", async || (states(device).last() == Some(&expected)).then_some(()))
        .await;
}

/// The messages of the crew that a device was told of.
fn received(device: &Device) -> Vec<String> {
    device.received_from("crew").iter().map(|(message, _)| texts([message]).remove(0)).collect()
}

/// How a user goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Leaves,
    IsKicked,
    GroupEnds,
}

impl Way {
    fn event(self) -> GroupEvent {
        match self {
            Self::Leaves => GroupEvent::Left,
            Self::IsKicked => GroupEvent::KickedOut,
            Self::GroupEnds => GroupEvent::Dismissed,
        }
    }
}

/// Bob goes. They have a phone, a tablet, and a computer that is away since the first message.
async fn goes(way: Way) {
    let world = World::new().await;
    let (ann, cai) = (world.user("ann").await, world.user("cai").await);
    let (phone, tablet) = (world.user("bob").await, world.device("bob").await);
    let computer = world.device("bob").await;
    create(&ann, "all", &["bob"]).await;
    create(&ann, "crew", &["bob", "cai"]).await;
    ann.say(group("crew"), "1").await;
    for device in [&phone, &tablet, &computer] {
        device.receives("1").await;
    }
    let dir = computer.dir();
    computer.quit().await;
    world.clock.advance(1_000);
    phone.say(group("crew"), "2").await;
    ann.say(group("crew"), "3").await;
    for device in [&phone, &tablet, &cai] {
        device.receives("3").await;
    }
    match way {
        Way::Leaves => drop(soon(phone.leave_group("crew")).await.unwrap()),
        Way::IsKicked => drop(soon(ann.kick_group_members(["bob"], "crew")).await.unwrap()),
        Way::GroupEnds => drop(soon(ann.dismiss_group("crew")).await.unwrap()),
    }
    if !matches!(way, Way::GroupEnds) {
        for text in ["after", "long after"] {
            ann.say(group("crew"), text).await;
            cai.receives(text).await;
        }
        soon(ann.update_group_notice("Bob is gone", "crew")).await.unwrap();
    }
    ann.say(group("all"), "barrier").await;

    let stay = ["1", "2", "3"];
    for device in [&phone, &tablet] {
        has_state(device, way.event()).await;
        device.receives("barrier").await;
        has_history(device, &stay, &format!("{way:?}: there")).await;
        assert!(device.seen_of(EventKind::GroupNoticeUpdated).is_empty(), "{way:?}");
    }
    assert_eq!(received(&phone), ["1", "3"], "{way:?}");
    assert_eq!(received(&tablet), stay, "{way:?}");

    // The computer has the whole stay, and nothing of what followed.
    world.clock.advance(1_000);
    let computer = world.user_at(dir, "bob").await;
    computer.receives("barrier").await;
    has_state(&computer, way.event()).await;
    ann.say(group("all"), "second barrier").await;
    computer.receives("second barrier").await;
    assert_eq!(received(&computer), ["2", "3"], "{way:?}");
    has_history(&computer, &stay, &format!("{way:?}: away")).await;
    assert!(computer.seen_of(EventKind::GroupNoticeUpdated).is_empty(), "{way:?}");

    // So has a device that is new, and one that starts again.
    let new = world.device("bob").await;
    let dir = phone.dir();
    phone.quit().await;
    let phone = world.user_at(dir, "bob").await;
    for (device, what) in [(&new, "new"), (&phone, "again"), (&tablet, "there"), (&computer, "away")] {
        has_history(device, &stay, &format!("{way:?}: {what}")).await;
        assert_eq!(at(device, &[1, 2, 3, 4, 5]).await, stay, "{way:?}: {what}");
        let conversation = device.conversation(group("crew")).await;
        let last = texts(&conversation.last_message);
        assert_eq!((conversation.is_disabled, last), (true, vec!["3".to_owned()]), "{way:?}: {what}");
        device.has_unread(group("crew"), 2).await;
    }
    // What goes on without Bob is there for the others.
    let expected: &[&str] = if matches!(way, Way::GroupEnds) { &stay } else { &["1", "2", "3", "after", "long after"] };
    for device in [&ann, &cai] {
        has_history(device, expected, &format!("{way:?}: others")).await;
    }
    world.end().await;
}

#[tokio::test]
async fn what_one_has_of_a_group_stays_readable_after_leaving() {
    goes(Way::Leaves).await;
}

#[tokio::test]
async fn what_one_has_of_a_group_stays_readable_after_being_removed() {
    goes(Way::IsKicked).await;
}

#[tokio::test]
async fn what_one_has_of_a_group_stays_readable_after_its_end() {
    goes(Way::GroupEnds).await;
}

/// Two gaps: the first after leaving, the second after a removal. The computer is away from the first stay on; the laptop is there only in
/// the first gap.
#[tokio::test]
async fn a_member_who_left_and_returned_has_all_stays_and_no_gap() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let (phone, tablet) = (world.user("bob").await, world.device("bob").await);
    let (computer, laptop) = (world.device("bob").await, world.device("bob").await);
    create(&ann, "all", &["bob"]).await;
    create(&ann, "crew", &["bob"]).await;
    let say = async |texts: &[&str]| {
        for text in texts {
            ann.say(group("crew"), text).await;
        }
    };
    let barrier = async |text: &str, devices: &[&Device]| {
        ann.say(group("all"), text).await;
        for device in devices {
            device.receives(text).await;
        }
    };
    say(&["1"]).await;
    for device in [&phone, &tablet, &computer, &laptop] {
        device.receives("1").await;
    }
    let (computer_dir, laptop_dir) = (computer.dir(), laptop.dir());
    computer.quit().await;
    laptop.quit().await;
    say(&["2", "3"]).await;
    phone.receives("3").await;

    // The first gap.
    soon(phone.leave_group("crew")).await.unwrap();
    say(&["4", "5", "6"]).await;
    world.clock.advance(1_000);
    let laptop = world.user_at(laptop_dir, "bob").await;
    has_state(&laptop, GroupEvent::Left).await;
    barrier("in the gap", &[&phone, &tablet, &laptop]).await;
    for device in [&phone, &tablet, &laptop] {
        has_history(device, &["1", "2", "3"], "in the first gap").await;
    }
    let laptop_dir = laptop.dir();
    laptop.quit().await;

    // The second stay and the second gap.
    soon(ann.invite_users_into_group(["bob"], "crew")).await.unwrap();
    has_state(&phone, GroupEvent::Invited).await;
    say(&["7", "8"]).await;
    phone.receives("8").await;
    soon(ann.kick_group_members(["bob"], "crew")).await.unwrap();
    say(&["9"]).await;
    has_state(&phone, GroupEvent::KickedOut).await;
    barrier("in the second gap", &[&phone, &tablet]).await;
    for device in [&phone, &tablet] {
        has_history(device, &["1", "2", "3", "7", "8"], "in the second gap").await;
    }

    // The third stay.
    soon(phone.join_group("crew")).await.unwrap();
    say(&["10", "11"]).await;
    world.clock.advance(1_000);
    let (computer, laptop) = (world.user_at(computer_dir, "bob").await, world.user_at(laptop_dir, "bob").await);
    let new = world.device("bob").await;
    for device in [&phone, &tablet, &computer, &laptop] {
        device.receives("11").await;
        has_state(device, GroupEvent::Joined).await;
    }
    barrier("at the end", &[&phone, &tablet, &computer, &laptop, &new]).await;
    let all = ["1", "2", "3", "7", "8", "10", "11"];
    for (device, what) in
        [(&phone, "phone"), (&tablet, "tablet"), (&computer, "computer"), (&laptop, "laptop"), (&new, "new")]
    {
        has_history(device, &all, what).await;
        assert_eq!(at(device, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).await, all[..6], "{what}");
        assert!(!device.conversation(group("crew")).await.is_disabled, "{what}");
    }
    for (device, what, told) in [
        (&phone, "phone", &all[..]),
        (&tablet, "tablet", &all[..]),
        (&computer, "computer", &all[1..]),
        (&laptop, "laptop", &all[3..]),
    ] {
        assert_eq!(received(device), told, "{what}");
    }
    world.end().await;
}
