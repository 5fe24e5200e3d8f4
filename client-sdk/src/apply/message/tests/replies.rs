use super::*;

/// The second message, which replies to the first.
fn reply(shows: Option<&str>) -> MessageEntry {
    let message_info = shows.and_then(|text| Message::text(text).lite(MessageType::Text as i32));
    let info = MessageRepliedInfo { message_id: "7".into(), message_seq: 1, message_info, ..Default::default() };
    let state = MessageState { replied_info: Some(info), is_personal: true, ..MessageState::default() };
    let state = Some(Box::new(state));
    MessageEntry {
        seq: 2,
        n: 2,
        message_id: 8,
        client_key: vec![4; 16].into(),
        state,
        ..entry(MessageType::Text, "re", 0)
    }
}

/// What the reply shows of its source.
fn shown(db: &Connection) -> Option<String> {
    let (_, row) = message::held(db, 1, 2).unwrap().expect("the reply");
    let info = row.into_message("ann", &bob().to_ref()).replied_info.expect("a source").message_info?;
    match info.body {
        Some(message_lite_info::Body::Text(text)) => Some(text.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_source_that_the_server_withholds_is_shown_as_this_device_holds_it() {
    for (held, expected) in [(true, Some("hi".to_owned())), (false, None)] {
        for of_reply in [page, head] {
            let db = memory().unwrap();
            if held {
                applied(&db, page(entry(MessageType::Text, "hi", 0)));
            }
            applied(&db, of_reply(reply(None)));
            assert_eq!(shown(&db), expected, "{held}");
        }
    }
}

/// The reply is the last message of the user's stay, and its source was edited later: each sync brings the reply again.
#[test]
fn a_reply_that_comes_again_without_its_source_shows_what_it_has_shown() {
    for is_held in [true, false] {
        for again in [page, head] {
            let db = memory().unwrap();
            if is_held {
                applied(&db, page(entry(MessageType::Text, "hi", 0)));
            }
            applied(&db, page(reply(Some("hi"))));
            applied(&db, again(reply(None)));
            assert_eq!(shown(&db).as_deref(), Some("hi"), "{is_held}");
        }
    }
}

#[test]
fn an_edit_that_is_withheld_leaves_what_a_reply_shows() {
    let db = memory().unwrap();
    applied(&db, page(reply(Some("hi"))));
    let withheld = MessageEntry { flags: MessageFlag::Withheld as u32, ..entry(MessageType::Text, "", 0) };
    applied(&db, change(MessageChangeKind::Edited, withheld));
    assert_eq!(shown(&db).as_deref(), Some("hi"));
    applied(&db, change(MessageChangeKind::Edited, entry(MessageType::Text, "hello", 9)));
    assert_eq!(shown(&db).as_deref(), Some("hello"));
}
