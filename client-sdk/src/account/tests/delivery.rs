//! Events reach the handlers of the app at least once.

use crate::store::Length;
use std::path::Path;

use zim_protocol::id::{hex, message_key};
use zim_protocol::{Event, Message, MessageSendConfig};

use super::fake::Fake;
use super::{Answer, Login, numbered};
use crate::account::QUEUED;
use crate::types::Name;

/// A login whose handlers do not return.
async fn slow(fake: &Fake, file: &Path) -> Login {
    fake.0.lock().is_slow = true;
    let login = Login::with(fake.clone(), Some(file));
    login.connect().await;
    login
}

/// Ends the login without letting a handler return, and logs in again; returns the events.
async fn again(login: Login, file: &Path) -> (Login, Vec<Event>) {
    let fake = login.fake.clone();
    login.account.close(false).await;
    {
        let mut world = login.fake.0.lock();
        world.receipts.clear();
        world.events.clear();
        world.is_online = false;
    }
    let login = Login::with(fake, Some(file));
    // The account raises what is pending before anything else. A connection marks the end of that.
    login.connect().await;
    let raised = |event: &Event| {
        let is_durable =
            matches!(event, Event::PeerMessageReceived(_) | Event::FriendListChanged(_) | Event::EpochChanged(_));
        is_durable.then(|| event.clone())
    };
    let events = login.events(raised);
    (login, events)
}

async fn receive(login: &Login, text: &str) {
    let push = login.fake.0.lock().write("bob", "bob", text);
    login.frame(push).await;
    login.until(|login| login.received().last().is_some_and(|(last, _)| last == text)).await;
}

fn texts(login: &Login) -> Vec<String> {
    login.received().into_iter().map(|(text, _)| text).collect()
}

#[tokio::test]
async fn events_without_a_receipt_are_raised_again_in_order_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = slow(&Fake::default(), &file).await;
    receive(&login, "1").await;
    receive(&login, "2").await;
    login.fake.0.lock().befriend("cem", "", false);
    login.clock.advance(600_000);
    login
        .until(|login| !login.events(|event| matches!(event, Event::FriendListChanged(_)).then_some(())).is_empty())
        .await;
    receive(&login, "3").await;
    let raised = login.events(|event| {
        matches!(event, Event::PeerMessageReceived(_) | Event::FriendListChanged(_)).then(|| event.clone())
    });
    assert_eq!(raised.len(), 4);
    let (login, events) = again(login, &file).await;
    assert_eq!(events, raised);

    // The first handlers return: the next start raises the others.
    for receipt in login.fake.0.lock().receipts.drain(..2) {
        receipt.sign();
    }
    let (login, events) = again(login, &file).await;
    assert_eq!(events, raised[2..]);

    // All return: nothing is raised again.
    for receipt in login.fake.0.lock().receipts.drain(..) {
        receipt.sign();
    }
    let (login, events) = again(login, &file).await;
    assert_eq!(events, []);
    receive(&login, "4").await;
    let (login, _) = again(login, &file).await;
    assert_eq!(texts(&login), ["4"]);
    login.account.close(false).await;
}

/// The answer of a handler, with a key of the app, to the conversation with bob.
fn answer(login: &Login, key: &str) -> Answer {
    let config = MessageSendConfig { idempotency_key: key.to_owned(), ..MessageSendConfig::default() };
    login.send_message(Message::text("answer"), "bob", config).unwrap()
}

#[tokio::test]
async fn an_event_stays_until_what_its_handler_sent_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = slow(&Fake::default(), &file).await;
    receive(&login, "1").await;
    let key = hex(&message_key(&Name::new(0, "bob").to_ref(), "to 1"));
    let poison = move |db: &rusqlite::Connection| {
        let sql = "CREATE TRIGGER poison BEFORE INSERT ON message WHEN NEW.client_key = X'KEY' \
                   BEGIN SELECT RAISE(ABORT, 'poison'); END";
        db.execute_batch(&sql.replace("KEY", &key))
    };
    login.account.store().write(Length::Short, poison).await.unwrap();
    // More than the task takes up in one turn.
    let others: Vec<Answer> = (0..300).map(|number| login.send("bob", &number.to_string())).collect();
    let answer = answer(&login, "to 1");
    login.fake.0.lock().receipts.remove(0).sign();
    // The process could end after any turn, so a turn must not forget the event before the answer is stored.
    assert!(answer.await.unwrap().is_err());
    let (login, events) = again(login, &file).await;
    assert!(matches!(events.as_slice(), [Event::PeerMessageReceived(_)]), "{events:?}");
    drop(others);
    login.account.close(false).await;
}

#[tokio::test]
async fn an_event_stays_if_there_is_no_place_for_what_its_handler_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let mut login = slow(&Fake::default(), &file).await;
    // A message without a key says nothing about events.
    for (text, is_keyed) in [("1", false), ("2", true)] {
        receive(&login, text).await;
        let places: Vec<_> = (0..QUEUED).map(|_| login.account.place().unwrap()).collect();
        let key = if is_keyed { "to 2" } else { "" };
        let config = MessageSendConfig { idempotency_key: key.to_owned(), ..MessageSendConfig::default() };
        assert!(login.send_message(Message::text("answer"), "bob", config).is_err());
        drop(places);
        login.fake.0.lock().receipts.remove(0).sign();
        let (next, events) = again(login, &file).await;
        assert_eq!(events.len(), usize::from(is_keyed), "{events:?}");
        login = next;
    }
    login.account.close(false).await;
}

#[tokio::test]
async fn ids_of_delivered_events_are_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let fake = Fake::default();
    let login = Login::with(fake.clone(), Some(&file));
    login.connect().await;
    for number in 1..=5 {
        receive(&login, &number.to_string()).await;
    }
    let left = async || {
        let count = |db: &rusqlite::Connection| {
            db.query_row("SELECT COUNT(*) FROM pending_event", [], |row| row.get::<_, i64>(0))
        };
        login.account.store().read(count).await.unwrap()
    };
    while left().await != 0 {
        tokio::task::yield_now().await;
    }
    fake.0.lock().is_slow = true;
    receive(&login, "6").await;
    let (login, _) = again(login, &file).await;
    assert_eq!(texts(&login), ["6"]);
    login.account.close(false).await;
}

#[tokio::test]
async fn messages_of_an_ended_epoch_are_still_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = slow(&Fake::default(), &file).await;
    receive(&login, "1").await;
    receive(&login, "2").await;
    login.disconnect();
    login.fake.0.lock().restore_backup();
    login.connect().await;
    receive(&login, "3").await;
    let (login, events) = again(login, &file).await;
    assert_eq!(texts(&login), numbered(1..=3));
    // The event about the epoch stands where the epoch changed.
    let is_epoch = |event: &Event| matches!(event, Event::EpochChanged(_));
    assert_eq!(events.iter().map(is_epoch).collect::<Vec<_>>(), [false, false, true, false]);
    login.account.close(false).await;
}

#[tokio::test]
async fn own_and_revoked_messages_are_not_raised_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = slow(&Fake::default(), &file).await;
    receive(&login, "1").await;
    login.send("bob", "own").await.unwrap().unwrap();
    receive(&login, "2").await;
    receive(&login, "3").await;
    let revoke = |db: &rusqlite::Connection| {
        db.execute("UPDATE message SET kind = ?1 WHERE seq = 3", [zim_protocol::MessageType::Revoke as i32])
    };
    login.account.store().write(Length::Short, revoke).await.unwrap();
    let (login, _) = again(login, &file).await;
    assert_eq!(texts(&login), ["1", "3"]);
    login.account.close(false).await;
}

/// A handler that runs while the login ends cannot send any more.
#[tokio::test]
async fn an_event_stays_if_its_answer_is_refused_because_the_login_is_ending() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    for is_refused in [false, true] {
        let login = slow(&Fake::default(), &file).await;
        receive(&login, "1").await;
        let receipt = login.fake.0.lock().receipts.remove(0);
        if is_refused {
            login.account.lost_message();
        }
        receipt.sign();
        let (next, events) = again(login, &file).await;
        assert_eq!(events.len(), usize::from(is_refused), "{events:?}");
        next.account.close(false).await;
        std::fs::remove_file(&file).unwrap();
    }
}
