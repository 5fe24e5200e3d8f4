use zim_protocol::MessageSentStatus;

use super::*;
use crate::store::conversation_setting;

/// A user who returns to a group drops what they hold. The push of a message that they have sent since has no content.
#[test]
fn a_message_whose_answer_came_before_a_drop_stays_until_its_push_comes() {
    for has_push in [false, true] {
        let (db, recent) = (memory().unwrap(), &mut Recent::default());
        attach(&db, recent, Message::text("hi").encode_to_vec().into());
        let answer = MessageEntry {
            sender: "ann".into(),
            client_key: vec![3; 16].into(),
            content: Bytes::new(),
            ..entry(MessageType::Text, "hi", 0)
        };
        all_events(&db, recent, settling(Settle::Sent(bob(), answer.clone())), &[]);
        if has_push {
            db.execute("UPDATE conversation SET seq = 1", []).unwrap();
        }
        all_events(&db, recent, changing(Change::Drop(bob())), &[]);
        all_events(&db, recent, changing(page(answer)), &[]);
        let held = message::held(&db, 1, 1).unwrap().map(|(_, row)| row.into_message("ann", &bob().to_ref()));
        let expected = (!has_push).then(|| Message::text("hi").body.unwrap());
        assert_eq!(held.and_then(|message| message.body), expected, "{has_push}");
    }
}

/// The answer is lost, another device changes the message, and a page shows it as it is now.
#[test]
fn a_message_that_was_changed_before_its_answer_came_is_what_it_has_become() {
    for (kind, text, edited_time) in [(MessageType::Text, "edited", 9), (MessageType::Revoke, "revoked", 0)] {
        for is_remembered in [false, true] {
            let (db, mut recent) = (memory().unwrap(), Recent::default());
            attach(&db, &mut recent, Message::text("sent").encode_to_vec().into());
            if !is_remembered {
                recent.clear();
            }
            let now =
                MessageEntry { sender: "ann".into(), client_key: vec![3; 16].into(), ..entry(kind, text, edited_time) };
            all_events(&db, &mut recent, changing(page(now)), &[]);
            let (_, row) = message::held(&db, 1, 1).unwrap().unwrap();
            assert_eq!((row.kind, row.status), (kind as i32, MessageSentStatus::Success as i32), "{is_remembered}");
            assert_eq!(row.content, Message::text(text).encode_to_vec(), "{is_remembered}");
        }
    }
}

/// Whoever deletes all messages right after they have sent one deletes that one as well, and none that this device has not seen.
#[test]
fn a_message_whose_answer_has_come_is_known_if_nothing_is_missing_before_it() {
    for (seq, known) in [(1, 1), (2, 0)] {
        let (db, recent) = (memory().unwrap(), &mut Recent::default());
        attach(&db, recent, Message::text("hi").encode_to_vec().into());
        let answer = MessageEntry {
            seq,
            sender: "ann".into(),
            client_key: vec![3; 16].into(),
            content: Bytes::new(),
            ..entry(MessageType::Text, "hi", 0)
        };
        all_events(&db, recent, settling(Settle::Sent(bob(), answer)), &[]);
        let standing = conversation_setting::standing(&db, &bob()).unwrap().unwrap();
        assert_eq!(standing.head_seq, known, "the message is at {seq}");
    }
}

/// The own message lies behind one that this device does not have yet: that one was not deleted.
#[test]
fn a_message_that_was_deleted_here_behind_a_missing_one_does_not_come_back() {
    let (db, recent) = (memory().unwrap(), &mut Recent::default());
    attach(&db, recent, Message::text("hi").encode_to_vec().into());
    let own = MessageEntry {
        seq: 2,
        message_id: 8,
        sender: "ann".into(),
        client_key: vec![3; 16].into(),
        ..entry(MessageType::Text, "hi", 0)
    };
    let answer = MessageEntry { content: Bytes::new(), ..own.clone() };
    all_events(&db, recent, settling(Settle::Sent(bob(), answer)), &[]);
    all_events(&db, recent, settling(Settle::Local(Box::new(Local::Clear(bob())))), &[]);
    for _ in 0..2 {
        let entries = vec![entry(MessageType::Text, "hello", 0), own.clone()];
        let pulled = Change::Messages { name: bob(), entries, raise_after: 0, own_after: 0 };
        all_events(&db, recent, changing(pulled), &[]);
        let is_held = [1, 2].map(|seq| message::held(&db, 1, seq).unwrap().is_some());
        assert_eq!(is_held, [true, false]);
        // Another run of the app, in which the rows are fetched again.
        recent.clear();
        all_events(&db, recent, changing(Change::Drop(bob())), &[]);
    }
}

/// The answer to a reply has no state. Until one says what the message replies to, only the content that this device has sent does.
#[test]
fn a_change_that_does_not_say_what_an_own_reply_replies_to_takes_nothing_away() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let info = Box::new(MessageRepliedInfo { message_seq: 9, ..MessageRepliedInfo::default() });
    let sent = Message { replied_info: Some(info), ..Message::text("hi") }.encode_to_vec();
    attach(&db, &mut recent, sent.clone().into());
    let told = |state: Option<MessageState>| MessageEntry {
        sender: "ann".into(),
        client_key: vec![3; 16].into(),
        content: Bytes::new(),
        state: state.map(Box::new),
        ..entry(MessageType::Text, "", 0)
    };
    all_events(&db, &mut recent, settling(Settle::Sent(bob(), told(None))), &[]);
    let pinned = MessageState { pinned_time: 7, ..MessageState::default() };
    all_events(&db, &mut recent, changing(change(MessageChangeKind::Pinned, told(Some(pinned)))), &[]);
    let (_, row) = message::held(&db, 1, 1).unwrap().unwrap();
    assert_eq!(row.content, sent);
    assert_eq!(row.into_message("ann", &bob().to_ref()).pinned_time, 7);
}
