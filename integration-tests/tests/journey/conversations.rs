//! What a user sets for conversations, on several devices.

use futures_util::join;
use zim_integration_tests::{Device, Random, World, eventually, soon};
use zim_protocol::{
    ConversationBaseInfo, ConversationDeleteConfig, ConversationEvent, ConversationNotificationStatus,
    ConversationType, Event, EventKind,
};
use zim_server::db::{Scope, params};

use crate::assert_same;

const PEER: ConversationType = ConversationType::Peer;
const QUIET: ConversationNotificationStatus = ConversationNotificationStatus::DoNotDisturb;
const EVERYWHERE: ConversationDeleteConfig = ConversationDeleteConfig { is_also_delete_server_conversation: true };
const HERE: ConversationDeleteConfig = ConversationDeleteConfig { is_also_delete_server_conversation: false };

fn info(id: &str) -> Vec<ConversationBaseInfo> {
    vec![ConversationBaseInfo { conversation_id: id.to_owned(), conversation_type: PEER as i32 }]
}

async fn names(device: &Device) -> Vec<String> {
    device.conversations().await.into_iter().map(|one| one.conversation_id).collect()
}

/// Changes something at random, and does not care whether that is refused: the conversation may be deleted.
async fn change_something(device: &Device, random: &mut Random) {
    let id = ["bob", "carl", "dora"][usize::try_from(random.below(3)).unwrap()];
    let is_on = random.below(2) == 0;
    let mark = i64::try_from(random.below(3)).unwrap() + 1;
    let status = if is_on { QUIET } else { ConversationNotificationStatus::Notify };
    match random.below(7) {
        0 | 1 => drop(soon(device.update_conversation_pinned_state(is_on, id, PEER)).await),
        2 => drop(soon(device.set_conversation_mark(mark, is_on, info(id))).await),
        3 => drop(soon(device.set_conversation_notification_status(status, id, PEER)).await),
        4 => drop(soon(device.clear_conversation_unread_message_count(id, PEER)).await),
        5 if is_on => drop(soon(device.clear_conversation_total_unread_message_count()).await),
        6 if is_on => drop(soon(device.delete_all_conversations(EVERYWHERE)).await),
        _ => drop(soon(device.delete_conversation(id, PEER, EVERYWHERE)).await),
    }
}

#[tokio::test]
async fn two_devices_that_change_the_same_at_once_end_equal() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let others = [world.user("bob").await, world.user("carl").await, world.user("dora").await];
    for other in &others {
        other.say("ann", "hi").await;
        phone.has_unread(&other.user_id().unwrap(), 1).await;
        laptop.has_unread(&other.user_id().unwrap(), 1).await;
    }
    let one = async {
        let mut random = Random::new(1);
        for _ in 0..60 {
            change_something(&phone, &mut random).await;
        }
    };
    let two = async {
        let mut random = Random::new(2);
        for _ in 0..60 {
            change_something(&laptop, &mut random).await;
        }
    };
    let messages = async {
        for number in 0..20 {
            for other in &others {
                world.clock.advance(1);
                other.say("ann", &number.to_string()).await;
            }
        }
    };
    join!(one, two, messages);
    // With the last message each conversation is in the list again.
    for other in &others {
        world.clock.advance(1);
        let last = format!("last of {}", other.user_id().unwrap());
        other.say("ann", &last).await;
        phone.receives(&last).await;
        laptop.receives(&last).await;
    }
    assert_eq!(names(&phone).await.len(), 3);
    // The feed has a path of its own: a change of each device is the last one there.
    soon(phone.set_conversation_mark(19, true, info("bob"))).await.unwrap();
    soon(laptop.set_conversation_mark(20, true, info("bob"))).await.unwrap();
    for device in [&phone, &laptop] {
        eventually("both marks", async || device.conversation("bob").await.marks.ends_with(&[19, 20]).then_some(()))
            .await;
    }
    assert_same(&phone, &laptop).await;
    assert_same(&phone, &world.device("ann").await).await;
    world.end().await;
}

#[tokio::test]
async fn a_device_that_was_away_has_what_the_other_one_set() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let others = [world.user("bob").await, world.user("carl").await, world.user("dora").await];
    for other in &others {
        world.clock.advance(1_000);
        other.say("ann", "hi").await;
        laptop.has_unread(&other.user_id().unwrap(), 1).await;
        phone.has_unread(&other.user_id().unwrap(), 1).await;
    }
    let dir = laptop.dir();
    laptop.quit().await;
    soon(phone.update_conversation_pinned_state(true, "bob", PEER)).await.unwrap();
    soon(phone.set_conversation_mark(4, true, info("bob"))).await.unwrap();
    soon(phone.set_conversation_notification_status(QUIET, "bob", PEER)).await.unwrap();
    soon(phone.delete_conversation("carl", PEER, EVERYWHERE)).await.unwrap();
    let laptop = world.user_at(dir, "ann").await;
    assert_eq!(names(&laptop).await, ["bob", "dora"]);
    assert_same(&phone, &laptop).await;
    let bob = laptop.conversation("bob").await;
    assert_eq!((bob.is_pinned, bob.marks, bob.notification_status), (true, vec![4], QUIET as i32));
    let kinds = |id: &str| -> Vec<ConversationEvent> {
        let mut kinds = Vec::new();
        for event in laptop.seen() {
            if let Event::ConversationChanged(event) = event {
                let of = event.info_list.iter();
                let of = of.filter(|info| info.conversation.as_ref().is_some_and(|one| one.conversation_id == id));
                kinds.extend(of.map(zim_protocol::ConversationChangeInfo::event));
            }
        }
        kinds
    };
    eventually("the events", async || (kinds("bob").len() + kinds("carl").len() >= 2).then_some(())).await;
    assert_eq!(kinds("bob"), [ConversationEvent::Updated]);
    assert_eq!(kinds("carl"), [ConversationEvent::Deleted]);

    let dir = laptop.dir();
    laptop.quit().await;
    soon(phone.delete_all_conversations(EVERYWHERE)).await.unwrap();
    world.clock.advance(1_000);
    others[1].say("ann", "again").await;
    phone.receives("again").await;
    let laptop = world.user_at(dir, "ann").await;
    laptop.receives("again").await;
    match laptop.next(EventKind::ConversationsAllDeleted).await {
        Event::ConversationsAllDeleted(event) => assert_eq!(event.count, 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&laptop).await, ["carl"]);
    assert_same(&phone, &laptop).await;
    // Another device starts with the list as it is, and hears nothing of what was before.
    let fresh = world.device("ann").await;
    assert_same(&phone, &fresh).await;
    assert!(fresh.seen_of(EventKind::ConversationsAllDeleted).is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_restored_backup_takes_settings_back_but_not_what_only_the_device_has() {
    let mut world = World::new().await;
    let ann = world.user("ann").await;
    let others =
        [world.user("bob").await, world.user("carl").await, world.user("dora").await, world.user("emil").await];
    for other in &others {
        world.clock.advance(1_000);
        other.say("ann", "hi").await;
        ann.has_unread(&other.user_id().unwrap(), 1).await;
    }
    soon(ann.update_conversation_pinned_state(true, "bob", PEER)).await.unwrap();
    soon(ann.set_conversation_mark(4, true, info("bob"))).await.unwrap();
    soon(ann.set_conversation_draft("not sent", "bob", PEER)).await.unwrap();
    soon(ann.set_conversation_draft("never sent", "fritz", PEER)).await.unwrap();
    soon(ann.delete_conversation("carl", PEER, HERE)).await.unwrap();
    soon(ann.delete_conversation("dora", PEER, EVERYWHERE)).await.unwrap();
    soon(ann.delete_conversation("emil", PEER, EVERYWHERE)).await.unwrap();
    // A backup of before the pin and before the end of Emil's conversation, as far as settings are concerned.
    let written = world.server().app().db.submit(Scope::none(), async |tx| {
        tx.execute("UPDATE deployment SET epoch = $1 WHERE id = 1", &params![vec![7_u8; 16]]).await?;
        let sql = "DELETE FROM conversation_setting WHERE pinned_at > 0 OR conversation IN \
                   (SELECT m.conversation FROM member m JOIN account p ON p.id = m.peer WHERE p.name = 'emil')";
        tx.execute(sql, &[]).await?;
        Ok(())
    });
    written.await.unwrap();
    world.stop_server().await;
    world.start_server().await;
    ann.next(EventKind::EpochChanged).await;
    eventually("the restored list", async || {
        let mut list = names(&ann).await;
        list.sort();
        (list == ["bob", "emil", "fritz"]).then_some(())
    })
    .await;
    let bob = ann.conversation("bob").await;
    assert_eq!((bob.is_pinned, bob.marks, bob.draft.as_str()), (false, vec![], "not sent"));
    assert_eq!(ann.conversation("fritz").await.draft, "never sent");
    // Both deleted conversations return with a message.
    world.clock.advance(1_000);
    others[1].say("ann", "again").await;
    others[2].say("ann", "again").await;
    eventually("all of them", async || (names(&ann).await.len() == 5).then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn a_conversation_that_is_deleted_while_messages_arrive_has_the_last_one() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    bob.say("ann", "first").await;
    phone.receives("first").await;
    let deleting = async {
        for _ in 0..20 {
            // There may be no message since the last time.
            drop(soon(phone.delete_conversation("bob", PEER, EVERYWHERE)).await);
        }
    };
    let sending = async {
        for number in 0..20 {
            bob.say("ann", &number.to_string()).await;
        }
    };
    join!(deleting, sending);
    bob.say("ann", "last").await;
    for device in [&phone, &laptop] {
        device.receives("last").await;
        device.has_unread("bob", 22).await;
    }
    assert_same(&phone, &laptop).await;
    world.end().await;
}
