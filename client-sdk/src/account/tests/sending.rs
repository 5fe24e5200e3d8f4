//! Messages of this device.

use crate::store::Length;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use zim_protocol::message::Body;
use zim_protocol::{
    CombineMessage, ErrorCode, Event, Limits, LogKind, LoginResult, Message, MessageEntry, MessageSendConfig,
    MessageSentStatus, MessageType, Push, Welcome,
};

use super::fake::{Fake, ME, NOW, conversation_ref};
use super::{Answer, Login, numbered, text};
use crate::account::QUEUED;
use crate::message::{MessageSendNotification, submit};
use crate::store::{message, page};
use crate::types::Name;

#[tokio::test]
async fn fifty_sends_without_await_are_stored_in_the_order_of_the_calls() {
    let login = Login::online().await;
    let answers: Vec<Answer> = (1..=50).map(|number| login.send("bob", &number.to_string())).collect();
    for (index, answer) in answers.into_iter().enumerate() {
        let message = answer.await.unwrap().unwrap().message.unwrap();
        assert_eq!(message.message_seq, index as i64 + 1);
        assert_eq!(message.sent_status, MessageSentStatus::Success as i32);
        assert_eq!(message.order_key, (index as i64 + 1) * 100);
    }
    assert_eq!(login.history(100, true, None).await, numbered(1..=50));
    assert!(login.received().is_empty(), "the sending device gets only the status");
    login.until(|login| login.statuses().len() == 100).await;
    let list = login.list().await;
    assert_eq!((list.len(), list[0].unread_message_count), (1, 0));
    // The device asked for the name of the peer by itself.
    login.until(|login| login.fake.0.lock().requests.iter().filter(|path| **path == "Sync/Sync").count() >= 2).await;
}

#[tokio::test]
async fn a_message_without_an_answer_is_sent_again_and_stored_once() {
    let login = Login::online().await;
    login.fake.0.lock().lose_answers = 2;
    let first = login.send("bob", "1");
    let second = login.send("bob", "2");
    login.until(|login| login.fake.0.lock().lose_answers == 0).await;
    login.disconnect();
    let third = login.send("bob", "3");
    login.connect().await;
    for (answer, seq) in [(first, 1), (second, 2), (third, 3)] {
        assert_eq!(answer.await.unwrap().unwrap().message.unwrap().message_seq, seq);
    }
    assert_eq!(login.history(10, true, None).await, numbered(1..=3));
    assert!(login.received().is_empty());
}

fn keyed(key: &str) -> MessageSendConfig {
    MessageSendConfig { idempotency_key: key.to_owned(), ..MessageSendConfig::default() }
}

#[tokio::test]
async fn calls_with_one_key_wait_for_one_message_and_the_first_counts() {
    let login = Login::online().await;
    login.disconnect();
    let calls = [("first", "a"), ("second", "a"), ("other", "b"), ("third", "a")];
    let answers = calls.map(|(text, key)| login.send_message(Message::text(text), "bob", keyed(key)).unwrap());
    login.until(|login| login.statuses().len() >= 2).await;
    assert_eq!(login.history(10, true, None).await, ["first", "other"]);
    login.connect().await;
    let mut got = Vec::new();
    for answer in answers {
        let message = answer.await.unwrap().unwrap().message.unwrap();
        got.push((message.message_seq, text(&message)));
    }
    let expected = [(1, "first"), (1, "first"), (2, "other"), (1, "first")];
    assert_eq!(got, expected.map(|(seq, text)| (seq, text.to_owned())));
    // Afterwards the server knows the key, and what this device shows stays.
    let again = login.send_message(Message::text("first"), "bob", keyed("a")).unwrap().await.unwrap().unwrap();
    assert_eq!(again.message.unwrap().message_seq, 1);
    assert_eq!(login.history(10, true, None).await, ["first", "other"]);
    // In another conversation it is another key.
    let other = login.send_message(Message::text("hi"), "cem", keyed("a")).unwrap().await.unwrap().unwrap();
    assert_eq!(text(&other.message.unwrap()), "hi");
}

#[tokio::test]
async fn a_failed_message_is_sent_by_the_next_call_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = Login::with(Fake::default(), Some(&file));
    login.connect().await;
    login.disconnect();
    let first = login.send_message(Message::text("first"), "bob", keyed("a")).unwrap();
    login.until(|login| !login.statuses().is_empty()).await;
    login.clock.advance(30_000);
    assert!(first.await.unwrap().is_err());
    let waiting = login.send_message(Message::text("second"), "bob", keyed("a")).unwrap();
    login.until(|login| login.statuses().len() == 3).await;
    // The process ends and starts again.
    login.account.close(true).await;
    assert!(waiting.await.unwrap().is_err());
    let login = Login::with(login.fake.clone(), Some(&file));
    let third = login.send_message(Message::text("third"), "bob", keyed("a")).unwrap();
    login.connect().await;
    let sent = third.await.unwrap().unwrap().message.unwrap();
    assert_eq!((sent.message_seq, text(&sent)), (1, "first".to_owned()));
    assert_eq!(login.history(10, true, None).await, ["first"]);
    login.account.close(false).await;
}

#[tokio::test]
async fn a_key_of_the_app_has_a_limit_and_is_not_for_commands() {
    let login = Login::online().await;
    for (message, key) in [(Message::text("hi"), "x".repeat(129)), (Message::command(vec![1]), "a".to_owned())] {
        let error = login.send_message(message, "bob", keyed(&key)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::CommonModuleParamsInvalid);
    }
    login.send_message(Message::text("hi"), "bob", keyed(&"x".repeat(128))).unwrap().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_message_fails_after_its_resend_window_and_can_be_retried() {
    let login = Login::online().await;
    login.disconnect();
    let answer = login.send("bob", "1");
    login
        .until(|login| login.events(|event| matches!(event, Event::ConversationChanged(_)).then_some(())).len() == 1)
        .await;
    let waiting = login.page(1, true, None).await.remove(0);
    assert_eq!(waiting.sent_status, MessageSentStatus::Sending as i32);
    assert_eq!(waiting.order_key, 1);
    // A message that is being sent cannot be sent again.
    let again = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let refused = login.send_message(waiting.clone(), "bob", again.clone()).unwrap().await.unwrap();
    assert_eq!(refused.unwrap_err().code(), ErrorCode::CommonModuleParamsInvalid);
    // The time of day does not matter.
    login.clock.jump(7_200_000);
    login.clock.advance(29_999);
    assert_eq!(login.page(1, true, None).await[0].sent_status, MessageSentStatus::Sending as i32);
    login.clock.jump(-14_400_000);
    login.clock.advance(1);
    let failed = answer.await.unwrap().unwrap_err();
    assert_eq!(failed.code(), ErrorCode::NetworkModuleNetworkError);
    let message = login.page(1, true, None).await.remove(0);
    assert_eq!(message.sent_status, MessageSentStatus::Failed as i32);
    login.connect().await;
    login.send("bob", "2").await.unwrap().unwrap();
    let sent = login.send_message(message, "bob", again).unwrap().await.unwrap().unwrap();
    assert_eq!(sent.message.unwrap().message_seq, 2);
    assert_eq!(login.history(10, true, None).await, ["2", "1"]);
    let failed = MessageSentStatus::Failed as i32;
    assert_eq!(login.statuses(), [0, failed, 0, 1, 0, 1]);
}

#[tokio::test]
async fn a_message_to_an_unknown_user_fails_and_disables_its_conversation() {
    let login = Login::online().await;
    let error = login.send("nobody", "hi").await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageModuleTargetDoesNotExist);
    let list = login.list().await;
    assert!(list[0].is_disabled);
    assert_eq!(list[0].last_message.as_ref().unwrap().sent_status, MessageSentStatus::Failed as i32);
    let kinds = login.events(|event| match event {
        Event::ConversationChanged(event) => Some(event.info_list[0].event),
        _ => None,
    });
    assert_eq!(kinds, [0, 2]);
}

#[tokio::test]
async fn invalid_messages_are_refused_at_the_call() {
    let login = Login::online().await;
    let refused = |message: Message, peer: &str| {
        let error = login.send_message(message, peer, MessageSendConfig::default()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::CommonModuleParamsInvalid, "{error}");
    };
    refused(Message::text("hi"), ME);
    refused(Message::text(" \n"), "bob");
    refused(Message::command(Vec::new()), "bob");
    refused(Message::default(), "bob");
    refused(Message::text("hi"), "");
    let again = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    assert!(login.send_message(Message::text("hi"), "bob", again).is_err());
    assert!(login.list().await.is_empty());
}

#[tokio::test]
async fn a_panic_in_the_task_fails_what_waits_and_is_reported() {
    let login = Login::online().await;
    login.fake.0.lock().is_broken = true;
    let answer = login.send("bob", "hi");
    assert_eq!(login.account.panicked().await.code(), ErrorCode::Failed);
    assert!(answer.await.is_err(), "its sender is dropped");
    // The database is closed, although the task did not end in an orderly way.
    login.account.close(false).await;
    let read = login.account.store().read(|_| Ok(())).await;
    assert_eq!(read.unwrap_err().code(), ErrorCode::DatabaseModuleDbIsNotOpened);
}

#[tokio::test]
async fn a_panic_in_a_callback_of_the_app_does_not_end_the_account() {
    let login = Login::online().await;
    let notification = MessageSendNotification::default().on_message_attached(|_| panic!("a bug of the app"));
    let (message, config) = (Message::text("hi"), MessageSendConfig::default());
    let answer = submit(&login.account, message, Name::new(0, "bob"), config, notification).unwrap();
    assert!(answer.await.unwrap().is_ok());
}

fn command(login: &Login, text: &str) -> Answer {
    login.send_message(Message::command(text.as_bytes().to_vec()), "bob", MessageSendConfig::default()).unwrap()
}

#[tokio::test]
async fn nothing_overtakes_across_a_reconnect_during_a_commit() {
    let login = Login::online().await;
    login.fake.0.lock().swallows_sends = true;
    let first = login.send("bob", "1");
    login.until(|login| login.fake.0.lock().swallowed == 1).await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let account = Arc::clone(&login.account);
    let holding = tokio::spawn(async move {
        let hold = move |_: &rusqlite::Connection| {
            begun.send(()).unwrap();
            // Ends when the test does, too.
            let _ = held.recv();
            Ok(())
        };
        account.store().write(Length::Long, hold).await
    });
    has_begun.await.unwrap();
    let second = login.send("bob", "2");
    // Lets the task begin the commit, which waits for the write before it.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    login.fake.0.lock().swallows_sends = false;
    login.account.disconnected();
    let welcome = Arc::new(Welcome { server_time: NOW, epoch: vec![0; 16].into(), ..Welcome::default() });
    login.account.connected(login.next_connection(), &LoginResult::default(), false, &welcome);
    release.send(()).unwrap();
    holding.await.unwrap().unwrap();
    for (answer, seq) in [(first, 1), (second, 2)] {
        assert_eq!(answer.await.unwrap().unwrap().message.unwrap().message_seq, seq);
    }
    assert_eq!(login.fake.0.lock().arrived, ["1", "2"]);
}

#[tokio::test]
async fn commands_keep_their_place_among_messages() {
    let login = Login::online().await;
    let answers = [login.send("bob", "1"), command(&login, "2"), login.send("bob", "3"), command(&login, "4")];
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    login.disconnect();
    let answers = [login.send("bob", "5"), command(&login, "6"), login.send("bob", "7")];
    login.connect().await;
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(login.fake.0.lock().arrived, numbered(1..=7));
    // Commands are stored nowhere.
    assert_eq!(login.history(10, true, None).await, ["1", "3", "5", "7"]);
}

#[tokio::test]
async fn a_command_whose_answer_is_lost_fails_and_is_not_sent_again() {
    let login = Login::online().await;
    login.fake.0.lock().lose_answers = 1;
    let failed = command(&login, "once").await.unwrap().unwrap_err();
    assert_eq!(failed.code(), ErrorCode::NetworkModuleNetworkError);
    login.disconnect();
    login.connect().await;
    login.send("bob", "after").await.unwrap().unwrap();
    assert_eq!(login.fake.0.lock().arrived, ["once", "after"]);
    assert!(
        login.list().await.iter().all(|shown| shown.last_message.as_ref().is_none_or(|last| text(last) == "after"))
    );
}

/// A login to a server that allows 10 messages per second, and 20 at once.
async fn limited() -> Login {
    let login = Login::new();
    {
        let mut world = login.fake.0.lock();
        world.limits = Some(Limits { messages_per_second: 10, message_burst: 20, ..Limits::default() });
        world.clock = Some((login.clock.clone(), login.clock.steady_ms()));
    }
    login.connect().await;
    login
}

/// Lets time pass until all messages are sent, and returns their texts in the order of their arrival.
async fn all_sent(login: &Login, answers: Vec<Answer>) -> Vec<String> {
    let all = async {
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
    };
    let mut all = std::pin::pin!(all);
    while futures_util::poll!(&mut all).is_pending() {
        login.clock.advance(10);
        tokio::task::yield_now().await;
    }
    login.fake.0.lock().arrived.clone()
}

#[tokio::test]
async fn messages_that_are_sent_too_fast_wait_and_keep_their_order() {
    let login = limited().await;
    let answers = (1..=60).map(|number| login.send("bob", &number.to_string())).collect();
    assert_eq!(all_sent(&login, answers).await, numbered(1..=60));
    assert_eq!(login.fake.0.lock().refused, 0);
}

#[tokio::test]
async fn messages_that_waited_for_a_connection_do_not_fail_for_the_rate() {
    let login = limited().await;
    login.disconnect();
    let answers = (1..=400).map(|number| login.send("bob", &number.to_string())).collect();
    login
        .until(|login| !login.events(|event| matches!(event, Event::ConversationChanged(_)).then_some(())).is_empty())
        .await;
    // Sending all of them takes longer than a message waits for a connection.
    login.clock.advance(29_000);
    login.connect().await;
    assert_eq!(all_sent(&login, answers).await, numbered(1..=400));
}

#[tokio::test]
async fn a_refusal_for_the_rate_is_retried_at_the_given_time() {
    let login = limited().await;
    // Another client of this login has used the allowance.
    login.fake.0.lock().spent = 30;
    let answers = (1..=5).map(|number| login.send("bob", &number.to_string())).collect();
    login.until(|login| login.fake.0.lock().refused > 0).await;
    assert_eq!(all_sent(&login, answers).await, numbered(1..=5));
}

#[tokio::test]
async fn a_message_is_dated_by_the_server_even_while_it_is_on_its_way() {
    let login = Login::online().await;
    login.clock.jump(3_600_000);
    login.disconnect();
    let waiting = login.send("bob", "1");
    login.until(|login| login.statuses() == [MessageSentStatus::Sending as i32]).await;
    assert_eq!(login.page(1, true, None).await[0].timestamp, NOW);
    login.clock.advance(30_000);
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(login.list().await[0].order_key, NOW);
}

#[tokio::test]
async fn a_failed_message_of_a_wrong_clock_does_not_stay_on_top() {
    let login = Login::new();
    login.clock.jump(3_600_000);
    // The server's time is not known yet.
    let waiting = login.send("bob", "1");
    login.until(|login| !login.statuses().is_empty()).await;
    login.clock.advance(30_000);
    assert!(waiting.await.unwrap().is_err());
    assert!(login.list().await[0].order_key > NOW);
    let push = login.fake.0.lock().write("cem", "cem", "later");
    login.connect().await;
    login.frame(push).await;
    login.until(|login| login.received().len() == 1).await;
    let names: Vec<String> = login.list().await.into_iter().map(|shown| shown.conversation_id).collect();
    assert_eq!(names, ["cem", "bob"]);
}

#[tokio::test]
async fn a_failure_that_cannot_be_stored_is_stored_later() {
    let login = Login::online().await;
    login.disconnect();
    let waiting = login.send("bob", "1");
    login.until(|login| !login.statuses().is_empty()).await;
    let full = "CREATE TEMP TRIGGER full BEFORE UPDATE OF status ON message BEGIN SELECT RAISE(FAIL, 'no room'); END";
    login.account.store().write(Length::Short, |db| db.execute_batch(full)).await.unwrap();
    login.clock.advance(30_000);
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(login.page(1, true, None).await[0].sent_status, MessageSentStatus::Sending as i32);
    login.account.store().write(Length::Short, |db| db.execute_batch("DROP TRIGGER full")).await.unwrap();
    login.connect().await;
    let message = login.page(1, true, None).await.remove(0);
    assert_eq!(message.sent_status, MessageSentStatus::Failed as i32);
    let again = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    login.send_message(message, "bob", again).unwrap().await.unwrap().unwrap();
}

/// Fails to send a message; returns the message from the error.
async fn failed(login: &Login, text: &str) -> Message {
    login.disconnect();
    let answer = login.send("bob", text);
    let sending = |login: &Login| login.statuses().last() == Some(&(MessageSentStatus::Sending as i32));
    login.until(sending).await;
    login.clock.advance(30_000);
    let error = answer.await.unwrap().unwrap_err();
    error.failed_message().unwrap().clone()
}

#[tokio::test]
async fn the_error_of_a_failed_message_has_the_message_to_retry() {
    for is_retry_send in [true, false] {
        let login = Login::online().await;
        let message = failed(&login, "1").await;
        assert_eq!(message.sent_status, MessageSentStatus::Failed as i32);
        assert_eq!(message, login.page(1, true, None).await[0]);
        login.connect().await;
        let config = MessageSendConfig { is_retry_send, ..MessageSendConfig::default() };
        let sent = login.send_message(message.clone(), "bob", config.clone()).unwrap().await.unwrap().unwrap();
        assert_eq!(sent.message.as_ref().unwrap().local_message_id, message.local_message_id);
        // Once more: it is not stored twice.
        let again = login.send_message(message.clone(), "bob", config).unwrap().await.unwrap().unwrap();
        assert_eq!(again.message.unwrap().message_seq, sent.message.unwrap().message_seq);
        assert_eq!(login.fake.0.lock().arrived, ["1"]);
        assert_eq!(login.history(10, true, None).await, ["1"]);
    }
}

#[tokio::test]
async fn a_message_that_is_passed_on_is_another_message() {
    let login = Login::online().await;
    let sent = login.send("bob", "1").await.unwrap().unwrap().message.unwrap();
    for (message, peer) in [(sent.clone(), "bob"), (sent, "cem"), (failed(&login, "2").await, "cem")] {
        login.connect().await;
        login.send_message(message, peer, MessageSendConfig::default()).unwrap().await.unwrap().unwrap();
    }
    assert_eq!(login.fake.0.lock().arrived, ["1", "1", "1", "2"]);
}

#[tokio::test]
async fn messages_that_wait_survive_the_end_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = Login::with(Fake::default(), Some(&file));
    // The server stores the first message, but its answer is lost.
    login.connect().await;
    login.fake.0.lock().lose_answers = 1;
    // Otherwise the device might learn from a sync that the first message was stored.
    login.fake.0.lock().refuse_syncs = usize::MAX;
    let answers = [login.send("bob", "1"), login.send("cem", "2")];
    login.until(|login| login.fake.0.lock().lose_answers == 0).await;
    login.disconnect();
    let waiting = login.send("bob", "3");
    login.until(|login| login.statuses().iter().filter(|status| **status == 0).count() == 3).await;
    login.account.close(true).await;
    drop((answers, waiting));
    let fake = login.fake.clone();
    fake.0.lock().events.clear();
    fake.0.lock().refuse_syncs = 0;

    let login = Login::with(fake, Some(&file));
    let sending: Vec<_> = login.page(10, true, None).await.iter().map(|message| message.sent_status).collect();
    assert_eq!(sending, [MessageSentStatus::Sending as i32; 2]);
    login.connect().await;
    let sent = |login: &Login| login.statuses().iter().filter(|status| **status == 1).count();
    login.until(|login| sent(login) == 2).await;
    assert_eq!(login.history(10, true, None).await, ["1", "3"]);
    let stored = login.page(10, true, None).await;
    assert_eq!(stored.iter().map(|message| message.message_seq).collect::<Vec<_>>(), [1, 2]);
    login.account.close(false).await;
}

#[tokio::test]
async fn messages_that_waited_too_long_for_a_restart_fail() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    for (away_ms, is_sent) in [(29_999, true), (30_000, false)] {
        let login = Login::with(Fake::default(), Some(&file));
        let waiting = login.send("bob", "1");
        login.until(|login| !login.statuses().is_empty()).await;
        login.account.close(true).await;
        drop(waiting);
        let fake = Fake::default();
        let login = Login::at(fake, Some(&file), NOW + away_ms);
        if !is_sent {
            login.until(|login| login.statuses() == [MessageSentStatus::Failed as i32]).await;
        }
        login.connect().await;
        let expected = if is_sent { MessageSentStatus::Success } else { MessageSentStatus::Failed };
        login.until(|login| login.statuses().last() == Some(&(expected as i32))).await;
        assert_eq!(login.fake.0.lock().arrived.len(), usize::from(is_sent));
        login.account.close(false).await;
    }
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let login = Login::new();
    let answers: Vec<Answer> = (0..QUEUED).map(|_| login.send("bob", "x")).collect();
    let refused = login.send_message(Message::text("one more"), "bob", MessageSendConfig::default()).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::CommonModuleTriggerSdkFrequencyLimit);
    login.connect().await;
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    login.send("bob", "now").await.unwrap().unwrap();
}

/// A push shows it among messages of others, without content, before the answer comes. The queue has the content as it was sent.
#[tokio::test]
async fn a_combined_message_whose_push_overtakes_its_answer_has_the_id_of_what_it_combines() {
    let content = |combine_id: &str, message_list: Vec<Message>| {
        let (title, summary, combine_id) = ("t".to_owned(), "s".to_owned(), combine_id.to_owned());
        let combine = CombineMessage { title, summary, combine_id, message_list };
        Message { body: Some(Body::Combine(Box::new(combine))), ..Message::default() }
    };
    let login = Login::online().await;
    {
        let mut world = login.fake.0.lock();
        (world.holds_answers, world.holds_syncs) = (true, true);
    }
    // Of what it combines, the queue has less than the row.
    let one = Message { message_id: "9".into(), message_seq: 3, order_key: 300, ..Message::text("one") };
    let answer = login.send_message(content("", vec![one]), "bob", MessageSendConfig::default()).unwrap();
    login.until(|login| login.statuses().len() == 1 && login.fake.0.lock().len("bob") == 1).await;
    let told = |login: &Login| {
        login.events(|event| match event {
            Event::MessageSentStatusChanged(event) => event.infos[0].message.clone(),
            _ => None,
        })
    };
    let key = zim_protocol::id::from_hex::<16>(&told(&login)[0].local_message_id).unwrap();
    let own = MessageEntry {
        seq: 1,
        n: 1,
        message_id: 7,
        sender: ME.to_owned(),
        ts: NOW,
        kind: MessageType::Combine as i32,
        client_key: key.to_vec().into(),
        ..MessageEntry::default()
    };
    let other = MessageEntry {
        seq: 2,
        n: 2,
        message_id: 8,
        sender: "bob".to_owned(),
        kind: MessageType::Text as i32,
        client_key: vec![8; 16].into(),
        content: Message::text("hi").encode_to_vec().into(),
        ..own.clone()
    };
    let (log, conversation) = (LogKind::Messages as i32, Some(conversation_ref("bob")));
    login.frame(Push { log, conversation, from: 1, to: 2, messages: vec![own, other], ..Push::default() }).await;
    // The app is told, and the call ends, without the answer.
    let sent = answer.await.unwrap().unwrap().message.unwrap();
    login.until(|login| login.statuses().len() == 2).await;
    let expected = content("7", Vec::new());
    assert_eq!((&sent.body, &told(&login)[1].body), (&expected.body, &expected.body));
    let held = login.account.store().read(|db| message::held(db, 1, 1)).await.unwrap();
    assert_eq!(held.unwrap().1.content, expected.encode_to_vec());
}

/// Its answer comes before a push of the message before it, and the pull for that one is refused. The push has both, and the own message
/// without content.
#[tokio::test]
async fn an_own_message_is_held_although_its_push_comes_after_its_answer() {
    let login = Login::new();
    login.fake.0.lock().write("bob", "bob", "one");
    login.connect().await;
    login.until(|login| login.received().len() == 1).await;
    let mut push = {
        let mut world = login.fake.0.lock();
        world.limit_pulls = 1;
        world.write("bob", "bob", "two")
    };
    let sent = login.send("bob", "three").await.unwrap().unwrap().message.unwrap();
    login.until(|login| login.fake.0.lock().limit_pulls == 0).await;
    let key = zim_protocol::id::from_hex::<16>(&sent.local_message_id).unwrap();
    push.messages.push(MessageEntry {
        seq: 3,
        n: 3,
        message_id: sent.message_id.parse().unwrap(),
        sender: ME.to_owned(),
        ts: sent.timestamp,
        client_key: key.to_vec().into(),
        content: Bytes::new(),
        ..push.messages[0].clone()
    });
    push.to = 3;
    login.frame(push).await;
    login.until(|login| login.received().len() == 2).await;
    let (rows, missing) = login.account.store().read(|db| page::at(db, 1, &[1, 2, 3])).await.unwrap();
    assert_eq!((rows.len(), missing), (3, Vec::new()));
}
