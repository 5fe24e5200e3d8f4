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
