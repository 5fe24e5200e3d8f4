//! What a device keeps of messages over retries, restarts and epochs.

use std::path::Path;

use zim_protocol::{ErrorCode, Event, Message, MessageSendConfig, MessageSentStatus};

use super::fake::Fake;
use super::{Answer, Login, text};
use crate::account::input::Input;
use crate::apply::Local;
use crate::store::{Length, outgoing};
use crate::types::Name;

fn bob() -> Name {
    Name::new(0, "bob")
}

async fn receive(login: &Login, text: &str) {
    let push = login.fake.0.lock().write("bob", "bob", text);
    login.frame(push).await;
    login.until(|login| login.received().iter().any(|(one, _)| one == text)).await;
}

async fn failed(login: &Login, text: &str) -> Message {
    login.disconnect();
    let answer = login.send("bob", text);
    login.until(|login| !login.statuses().is_empty()).await;
    login.clock.advance(30_000);
    let error = answer.await.unwrap().unwrap_err();
    login.connect().await;
    error.failed_message().unwrap().clone()
}

fn retry(login: &Login, message: &Message) -> Answer {
    let config = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    login.send_message(message.clone(), "bob", config).unwrap()
}

#[tokio::test]
async fn a_deletion_in_the_turn_of_a_retry_stops_it_and_a_retry_after_it_is_refused() {
    for is_deleted_first in [false, true] {
        let login = Login::online().await;
        let message = failed(&login, "1").await;
        let delete = || {
            let local = Box::new(Local::Delete { name: bob(), messages: vec![message.clone()] });
            login.account.send(Input::Local(local, Some(Vec::new()), Box::new(|_| ())));
        };
        // The task sees both in one turn.
        let answer = match is_deleted_first {
            true => {
                delete();
                retry(&login, &message)
            }
            false => {
                let answer = retry(&login, &message);
                delete();
                answer
            }
        };
        let expected = match is_deleted_first {
            true => ErrorCode::CommonModuleParamsInvalid,
            false => ErrorCode::MessageModuleSendMessageFailedForCancelled,
        };
        assert_eq!(answer.await.unwrap().unwrap_err().code(), expected, "{is_deleted_first}");
        login.send("bob", "2").await.unwrap().unwrap();
        assert_eq!(login.fake.0.lock().arrived, ["2"], "{is_deleted_first}");
        assert_eq!(login.history(10, true, None).await, ["2"], "{is_deleted_first}");
    }
}

#[tokio::test]
async fn what_only_this_device_has_deleted_does_not_count_in_a_new_epoch() {
    for is_all in [false, true] {
        let login = Login::online().await;
        for text in ["1", "2", "3"] {
            receive(&login, text).await;
        }
        let second = login.page(10, true, None).await.remove(1);
        let (local, seqs, left) = match is_all {
            true => (Local::Clear(bob()), None, 0),
            false => (Local::Delete { name: bob(), messages: vec![second] }, Some(vec![2]), 2),
        };
        login.account.change_here(local, seqs).await.unwrap();
        assert_eq!(login.list().await[0].unread_message_count, left, "{is_all}");
        login.disconnect();
        login.fake.0.lock().epoch += 1;
        login.connect().await;
        let unread = async || login.list().await.first().map_or(0, |bob| bob.unread_message_count);
        // The head counts it until the message is here.
        let mut waited = 0;
        while unread().await != left && waited < 2_000 {
            waited += 1;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(unread().await, left, "{is_all}");
        // What comes next counts, and the engine knows it as the store does.
        receive(&login, "4").await;
        assert_eq!(unread().await, left + 1, "{is_all}");
    }
}

/// Ends the process before a handler returns; returns the events of messages that are raised again.
async fn raised_again(login: Login, file: &Path) -> Vec<Event> {
    let fake = login.fake.clone();
    login.account.close(false).await;
    {
        let mut world = fake.0.lock();
        world.receipts.clear();
        world.events.clear();
        world.is_online = false;
    }
    let login = Login::with(fake, Some(file));
    login.connect().await;
    let events = login.events(|event| matches!(event, Event::PeerMessageReceived(_)).then(|| event.clone()));
    login.account.close(false).await;
    events
}

#[tokio::test]
async fn an_event_that_is_raised_again_has_the_messages_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let fake = Fake::default();
    {
        let mut world = fake.0.lock();
        world.write("bob", "ann", "mine of long ago");
        world.is_slow = true;
    }
    let login = Login::with(fake, Some(&file));
    login.connect().await;
    login.disconnect();
    // While the device was away, another device of the user wrote between messages that are news. The app here has had it from a
    // backup of an earlier epoch.
    let known = {
        let mut world = login.fake.0.lock();
        world.write("bob", "bob", "1");
        let known = world.write("bob", "bob", "known").messages[0].message_id;
        world.write("bob", "bob", "2");
        known
    };
    let note = move |db: &rusqlite::Connection| {
        db.execute("INSERT INTO known_message (message_id, ts) VALUES (?1, 0)", [known]).map(drop)
    };
    login.account.store().write(Length::Short, note).await.unwrap();
    login.connect().await;
    login.until(|login| !login.received().is_empty()).await;
    let raised = login.events(|event| matches!(event, Event::PeerMessageReceived(_)).then(|| event.clone()));
    let texts = |event: &Event| match event {
        Event::PeerMessageReceived(event) => event.message_list.iter().map(text).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    assert_eq!(raised.iter().map(texts).collect::<Vec<_>>(), [["1", "2"]]);
    assert_eq!(raised_again(login, &file).await, raised);
}

/// The time that it may wait for a connection begins when its file is uploaded.
#[tokio::test]
async fn a_message_whose_file_was_just_uploaded_is_not_too_old_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = Login::with(Fake::default(), Some(&file));
    login.connect().await;
    login.disconnect();
    let message = login.send("bob", "1");
    login.until(|login| !login.statuses().is_empty()).await;
    let sending = login.page(1, true, None).await.remove(0);
    let key: crate::types::Key = zim_protocol::id::from_hex(&sending.local_message_id).unwrap();
    login.clock.advance(29_000);
    // A text stands for the message that has its file now.
    let content = prost::Message::encode_to_vec(&Message::text("1"));
    let now_ms = login.clock.now_ms();
    let uploaded = move |db: &rusqlite::Connection| outgoing::set_uploaded(db, &key, &content, now_ms);
    login.account.store().write(Length::Short, uploaded).await.unwrap();
    login.account.close(true).await;
    assert!(message.await.unwrap().is_err());
    let login = Login::at(login.fake.clone(), Some(&file), now_ms + 20_000);
    login.connect().await;
    login.until(|login| login.fake.0.lock().arrived == ["1"]).await;
    login.until(|login| login.statuses().contains(&(MessageSentStatus::Success as i32))).await;
    login.account.close(false).await;
}
