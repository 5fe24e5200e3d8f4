//! A server that was restored from a backup: what it has is of another epoch.

use futures_util::FutureExt;
use zim_protocol::{Event, Message, MessageSendConfig};

use super::{Login, numbered, text};
use crate::store::friend;

#[tokio::test]
async fn a_device_starts_again_after_a_restored_backup() {
    let login = Login::online().await;
    let push = login.fake.0.lock().write("bob", "bob", "1");
    login.frame(push).await;
    login.until(|login| login.received().len() == 1).await;
    login.disconnect();
    {
        let mut world = login.fake.0.lock();
        world.restore_backup();
        world.write("cem", "cem", "2");
    }
    login.connect().await;
    login.until(|login| login.received().len() == 2).await;
    let names: Vec<String> = login.list().await.into_iter().map(|shown| shown.conversation_id).collect();
    assert_eq!(names, ["cem"]);
}

#[tokio::test]
async fn messages_of_a_restored_backup_that_the_app_knows_are_not_news() {
    let login = Login::online().await;
    for text in ["1", "2"] {
        let push = login.fake.0.lock().write("bob", "bob", text);
        login.frame(push).await;
    }
    login.send("bob", "own").await.unwrap().unwrap();
    login.until(|login| login.received().len() == 2).await;
    login.disconnect();
    // The backup has all of them, and one that this device has not seen.
    {
        let mut world = login.fake.0.lock();
        world.epoch += 1;
        world.write("bob", "bob", "3");
    }
    login.connect().await;
    login.until(|login| login.received().len() >= 3).await;
    assert_eq!(login.history(10, true, None).await, ["1", "2", "own", "3"]);
    let push = login.fake.0.lock().write("bob", "bob", "4");
    login.frame(push).await;
    login.until(|login| login.received().last().is_some_and(|(text, _)| text == "4")).await;
    let texts: Vec<String> = login.received().into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, numbered(1..=4));
}

fn epochs(login: &Login) -> Vec<String> {
    login.events(|event| match event {
        Event::EpochChanged(event) => Some(event.epoch.clone()),
        _ => None,
    })
}

/// Between the end of the old positions and the first sync there is nothing to list and nothing to mark as read.
#[tokio::test]
async fn queries_wait_until_a_new_epoch_is_listed() {
    let login = Login::online().await;
    login.disconnect();
    {
        let mut world = login.fake.0.lock();
        world.restore_backup();
        world.write("cem", "cem", "1");
        world.holds_syncs = true;
    }
    login.begin_to_connect();
    login.until(|login| !epochs(login).is_empty()).await;
    assert!(login.account.listed().now_or_never().is_none());
    login.fake.0.lock().holds_syncs = false;
    login.account.listed().await;
    let names: Vec<String> = login.list().await.into_iter().map(|shown| shown.conversation_id).collect();
    assert_eq!(names, ["cem"]);
    // A reconnect in the same epoch ends nothing.
    login.disconnect();
    let started = login.states().len();
    login.fake.0.lock().holds_syncs = true;
    login.begin_to_connect();
    login.until(|login| login.states().len() > started).await;
    login.account.listed().now_or_never().unwrap();
    login.fake.0.lock().holds_syncs = false;
}

/// The server is restored from a backup of before a message while the answer to that is on its way.
#[tokio::test]
async fn an_answer_from_an_ended_epoch_places_nothing() {
    let login = Login::online().await;
    login.fake.0.lock().holds_answers = true;
    let answer = login.send("bob", "own");
    login.until(|login| login.fake.0.lock().arrived.len() == 1).await;
    login.disconnect();
    {
        let mut world = login.fake.0.lock();
        world.restore_backup();
        world.write("bob", "bob", "1");
    }
    login.begin_to_connect();
    login.until(|login| !epochs(login).is_empty()).await;
    login.fake.0.lock().holds_answers = false;
    answer.await.unwrap().unwrap();
    assert_eq!(login.history(10, true, None).await, ["1", "own"]);
    assert_eq!(login.fake.0.lock().arrived, ["own", "own"]);
}

#[tokio::test]
async fn a_new_epoch_is_raised_once() {
    let login = Login::online().await;
    login.disconnect();
    login.connect().await;
    assert!(epochs(&login).is_empty(), "the first epoch is no change, and neither is a reconnect");
    login.disconnect();
    login.fake.0.lock().restore_backup();
    login.connect().await;
    assert_eq!(epochs(&login), ["01".repeat(16)]);
    login.disconnect();
    login.connect().await;
    assert_eq!(epochs(&login).len(), 1);
    // A server whose operator forgot to change the epoch lacks what this device has.
    login.disconnect();
    login.fake.0.lock().is_behind = true;
    login.connect().await;
    assert_eq!(epochs(&login), ["01".repeat(16), "01".repeat(16)]);
}

#[tokio::test]
async fn local_data_survives_a_new_epoch() {
    let login = Login::online().await;
    let message = Message { local_extended_data: "mine".to_owned(), ..Message::text("hi") };
    login.send_message(message, "bob", MessageSendConfig::default()).unwrap().await.unwrap().unwrap();
    login.disconnect();
    // A backup with all messages is restored.
    login.fake.0.lock().epoch += 1;
    login.connect().await;
    let page = login.page(10, true, None).await;
    assert_eq!(page.iter().map(text).collect::<Vec<_>>(), ["hi"]);
    assert_eq!(page[0].local_extended_data, "mine");
}

fn friend_changes(event: &Event) -> Option<(i32, Vec<String>)> {
    let Event::FriendListChanged(event) = event else { return None };
    Some((event.action, event.friend_list.iter().map(|friend| friend.user_id.clone()).collect()))
}

#[tokio::test]
async fn friends_that_a_restored_backup_lacks_are_removed() {
    let login = Login::new();
    {
        let mut world = login.fake.0.lock();
        world.befriend("bob", "", false);
        world.befriend("cem", "", false);
        world.befriend("dan", "", false);
        world.befriend("dan", "", true);
    }
    login.connect().await;
    assert!(login.events(friend_changes).is_empty(), "a new device raises no events for existing friends");
    login.disconnect();
    login.fake.0.lock().befriend("eva", "", false);
    login.connect().await;
    assert_eq!(login.events(friend_changes), [(0, vec!["eva".to_owned()])]);
    login.disconnect();
    login.fake.0.lock().events.clear();
    {
        let mut world = login.fake.0.lock();
        world.restore_backup();
        world.befriend("cem", "", false);
        world.befriend("fay", "", false);
    }
    login.connect().await;
    let expected = [(0, vec!["fay".to_owned()]), (1, vec!["bob".to_owned(), "eva".to_owned()])];
    assert_eq!(login.events(friend_changes), expected);
    let (list, _) = login.account.store().read(|db| friend::page(db, 0, 10)).await.unwrap();
    let names: Vec<&str> = list.iter().map(|friend| friend.user_id.as_str()).collect();
    assert_eq!(names, ["fay", "cem"]);
}

#[tokio::test]
async fn the_blacklist_is_compared_after_a_restored_backup() {
    let login = Login::new();
    login.fake.0.lock().block(&["bob", "cem"]);
    login.connect().await;
    let changes = |login: &Login| {
        let lists = login.events(|event| match event {
            Event::BlacklistChanged(event) => {
                Some(event.user_list.iter().map(|user| (user.user_id.clone(), event.action)).collect::<Vec<_>>())
            }
            _ => None,
        });
        lists.concat()
    };
    // Existing entries raise no events on a new device.
    assert!(changes(&login).is_empty());
    login.disconnect();
    login.fake.0.lock().block(&["dan"]);
    login.connect().await;
    assert_eq!(changes(&login), [("dan".to_owned(), 0)]);
    login.disconnect();
    {
        let mut world = login.fake.0.lock();
        world.restore_backup();
        world.block(&["eve", "cem"]);
    }
    login.connect().await;
    // A user who is still blocked raises no event either.
    login.until(|login| changes(login).len() == 4).await;
    assert_eq!(changes(&login)[1..], [("eve".to_owned(), 0), ("bob".to_owned(), 1), ("dan".to_owned(), 1)]);
    let (list, _) = login.account.store().read(|db| crate::store::block::page(db, 0, 10)).await.unwrap();
    assert_eq!(list.iter().map(|user| user.user_id.as_str()).collect::<Vec<_>>(), ["cem", "eve"]);
}
