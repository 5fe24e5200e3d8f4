//! The place of received commands among messages.

use prost::Message as _;
use zim_protocol::{Dirty, Event, EventFrame, Message, MessageEntry, MessageType, Transient, event_frame::Frame};

use super::Login;
use super::fake::{NOW, conversation_ref};

#[tokio::test]
async fn received_commands_keep_their_place_among_messages() {
    let login = Login::online().await;
    let (one, two) = {
        let mut world = login.fake.0.lock();
        (world.write("bob", "bob", "1"), world.write("bob", "bob", "3"))
    };
    for frame in [Frame::Push(one), command_from_bob(1), Frame::Push(two)] {
        login.account.event_frame(EventFrame { frame: Some(frame) }).await;
    }
    login.until(|login| login.received().len() == 3).await;
    assert_eq!(kinds(&login), [TEXT, COMMAND, TEXT]);
}

const TEXT: i32 = MessageType::Text as i32;
const COMMAND: i32 = MessageType::Command as i32;

/// A command that was sent after the message at a position.
fn command_from_bob(after_seq: u64) -> Frame {
    let entry = MessageEntry {
        sender: "bob".to_owned(),
        ts: NOW,
        kind: COMMAND,
        content: Message::command(b"2".to_vec()).encode_to_vec().into(),
        ..MessageEntry::default()
    };
    Frame::Transient(Transient {
        conversation: Some(conversation_ref("bob")),
        message: Some(entry),
        after_seq,
        ..Transient::default()
    })
}

/// The types of the messages that were received, in their order.
fn kinds(login: &Login) -> Vec<i32> {
    let kinds = login.events(|event| match event {
        Event::PeerMessageReceived(event) => Some(event.message_list.iter().map(|one| one.r#type).collect::<Vec<_>>()),
        _ => None,
    });
    kinds.concat()
}

/// A login that has received a message of bob, and has to pull the next ones.
async fn behind(missing: u64) -> Login {
    let login = Login::online().await;
    let first = login.fake.0.lock().write("bob", "bob", "1");
    login.frame(first).await;
    login.until(|login| login.received().len() == 1).await;
    for number in 0..missing {
        login.fake.0.lock().write("bob", "bob", &number.to_string());
    }
    let dirty = Dirty { conversations: vec![conversation_ref("bob")], ..Dirty::default() };
    login.account.event_frame(EventFrame { frame: Some(Frame::Dirty(dirty)) }).await;
    login
}

#[tokio::test]
async fn a_command_waits_for_messages_that_are_pulled() {
    let login = behind(1).await;
    for _ in 0..2 {
        login.account.event_frame(EventFrame { frame: Some(command_from_bob(2)) }).await;
    }
    login.until(|login| login.received().len() == 4).await;
    assert_eq!(kinds(&login), [TEXT, TEXT, COMMAND, COMMAND]);
}

#[tokio::test]
async fn a_command_that_a_later_message_overtook_is_dropped() {
    let login = behind(2).await;
    // The pull returns the message that was sent after the command as well.
    login.account.event_frame(EventFrame { frame: Some(command_from_bob(2)) }).await;
    login.account.event_frame(EventFrame { frame: Some(command_from_bob(3)) }).await;
    login.until(|login| login.received().len() == 4).await;
    assert_eq!(kinds(&login), [TEXT, TEXT, TEXT, COMMAND]);
    // An own message is no later message of the sender.
    login.send("bob", "mine").await.unwrap().unwrap();
    login.account.event_frame(EventFrame { frame: Some(command_from_bob(3)) }).await;
    login.until(|login| login.received().len() == 5).await;
    assert_eq!(kinds(&login)[4], COMMAND);
}

#[tokio::test]
async fn a_command_does_not_wait_long() {
    let login = Login::online().await;
    login.fake.0.lock().limit_pulls = usize::MAX;
    let first = login.fake.0.lock().write("bob", "bob", "1");
    login.fake.0.lock().write("bob", "bob", "2");
    login.frame(first).await;
    let dirty = Dirty { conversations: vec![conversation_ref("bob")], ..Dirty::default() };
    login.account.event_frame(EventFrame { frame: Some(Frame::Dirty(dirty)) }).await;
    login.account.event_frame(EventFrame { frame: Some(command_from_bob(2)) }).await;
    login.until(|login| login.fake.0.lock().handled == 3).await;
    login.clock.advance(10_001);
    login.fake.0.lock().limit_pulls = 0;
    let dirty = Dirty { conversations: vec![conversation_ref("bob")], ..Dirty::default() };
    login.account.event_frame(EventFrame { frame: Some(Frame::Dirty(dirty)) }).await;
    login.until(|login| login.received().len() == 2).await;
    login.account.event_frame(EventFrame { frame: Some(command_from_bob(2)) }).await;
    login.until(|login| login.received().len() == 3).await;
    assert_eq!(kinds(&login), [TEXT, TEXT, COMMAND]);
}
