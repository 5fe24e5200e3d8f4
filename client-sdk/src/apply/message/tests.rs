use bytes::Bytes;
use prost::Message as _;
use rusqlite::Connection;
use zim_protocol::message::Body;
use zim_protocol::{
    ChangeEntry, CombineMessage, ConversationCleared, ConversationHead, ConversationType, Event, EventKind,
    GroupFullInfo, GroupInfo, Message, MessageChange, MessageChangeKind, MessageDeletion, MessageEntry, MessageFlag,
    MessageReceiptStatus, MessageRepliedInfo, MessageRepliedInfoState, MessageState, MessageType, ReactionState,
    change_entry::Detail, feed_entry, message_lite_info,
};

use crate::apply::{Attach, Job, Local, Recent, Settle, Viewer, apply};
use crate::engine::{Batch, Change, Origin};
use crate::store::{group, memory, message, outgoing, pending};
use crate::types::Name;

/// Answers to own messages.
mod answers;
mod epochs;
/// What happens to groups.
mod groups;
/// What replies show of messages that change while the user is away.
mod replies;

fn entry(kind: MessageType, text: &str, edited_time: i64) -> MessageEntry {
    let state = (edited_time > 0).then(|| Box::new(MessageState { edited_time, ..MessageState::default() }));
    MessageEntry {
        seq: 1,
        n: 1,
        message_id: 7,
        sender: "bob".to_owned(),
        ts: 5,
        kind: kind as i32,
        content: Message::text(text).encode_to_vec().into(),
        state,
        ..MessageEntry::default()
    }
}

/// Begins to send a message with the key that all tests use.
fn attach(db: &Connection, recent: &mut Recent, content: Bytes) {
    attach_as(db, recent, MessageType::Text, content);
}

fn attach_as(db: &Connection, recent: &mut Recent, kind: MessageType, content: Bytes) {
    let (kind, local_data, config) = (kind as i32, String::new(), Bytes::new());
    let pending = outgoing::Pending { key: [3; 16], ts: 5, kind, flags: 1, content, local_data, config };
    let attach = vec![(Name::new(0, "bob"), Attach::New(pending))];
    all_events(db, recent, Job { attach, ..Job::default() }, &[]);
}

fn bob() -> Name {
    Name::new(0, "bob")
}

fn changing(change: Change) -> Job {
    Job { batch: Batch { changes: vec![change], ..Batch::default() }, ..Job::default() }
}

fn settling(settle: Settle) -> Job {
    Job { settle: vec![settle], ..Job::default() }
}

/// The kinds of the events about messages that follow from a change.
fn applied(db: &Connection, change: Change) -> Vec<EventKind> {
    applied_job(db, changing(change))
}

fn applied_job(db: &Connection, job: Job) -> Vec<EventKind> {
    let wanted = [
        EventKind::MessageRevokeReceived,
        EventKind::MessageEdited,
        EventKind::MessagePinStatusChanged,
        EventKind::MessageRepliedCountChanged,
    ];
    all_events(db, &mut Recent::default(), job, &wanted)
}

/// The kinds of the events that follow from a job, if they are among those wanted.
fn all_events(db: &Connection, recent: &mut Recent, job: Job, wanted: &[EventKind]) -> Vec<EventKind> {
    let viewer = Viewer { last_event: pending::last(db).unwrap(), ..Viewer::in_test("ann", 10) };
    let applied = apply(db, &viewer, recent, job).unwrap();
    let kinds = applied.events.iter().map(|(_, event)| event.kind());
    kinds.filter(|kind| wanted.contains(kind)).collect()
}

fn page(entry: MessageEntry) -> Change {
    Change::Messages { name: Name::new(0, "bob"), entries: vec![entry], raise_after: u64::MAX, own_after: u64::MAX }
}

fn head(entry: MessageEntry) -> Change {
    let conversation = Some(Name::new(0, "bob").to_ref());
    Change::Head(Box::new(ConversationHead { conversation, last_message: Some(entry), ..ConversationHead::default() }))
}

fn change(kind: MessageChangeKind, entry: MessageEntry) -> Change {
    changes(&[kind], entry, Origin::Other)
}

/// Changes of one message, each with the message as it is after all of them, as a pull has them.
fn changes(kinds: &[MessageChangeKind], entry: MessageEntry, origin: Origin) -> Change {
    let entries = kinds.iter().zip(1..).map(|(kind, rev)| {
        let change = Some(MessageChange { kind: *kind as i32, ..MessageChange::default() });
        let detail = Some(Detail::Message(entry.clone()));
        ChangeEntry { rev, actor: "bob".into(), detail, change, ..ChangeEntry::default() }
    });
    Change::Changes { name: Name::new(0, "bob"), entries: entries.collect(), origin }
}

/// The first entry that shows the message as edited or revoked tells it, although another entry is about it.
#[test]
fn an_earlier_change_that_shows_a_later_one_tells_it_once() {
    use MessageChangeKind::{Edited, Pinned, Revoked, Unpinned};
    let revoked = || entry(MessageType::Revoke, "", 0);
    let edited = || entry(MessageType::Text, "hello", 9);
    let cases = [
        (vec![Pinned, Revoked], revoked(), vec![EventKind::MessageRevokeReceived]),
        (vec![Edited, Pinned, Revoked], revoked(), vec![EventKind::MessageRevokeReceived]),
        (vec![Pinned, Edited], edited(), vec![EventKind::MessageEdited]),
        (vec![Edited, Edited], edited(), vec![EventKind::MessageEdited]),
    ];
    for (kinds, now, told) in cases {
        for (origin, told) in [(Origin::Other, &told[..]), (Origin::Own, &[])] {
            let db = memory().unwrap();
            applied(&db, page(entry(MessageType::Text, "hi", 0)));
            assert_eq!(applied(&db, changes(&kinds, now.clone(), origin)), told, "{kinds:?} {origin:?}");
            assert!(applied(&db, changes(&kinds, now.clone(), Origin::Other)).is_empty(), "{kinds:?} again");
        }
    }
    // Another user revoked it before this device pinned it.
    let db = memory().unwrap();
    applied(&db, page(entry(MessageType::Text, "hi", 0)));
    let told = applied(&db, changes(&[Unpinned], revoked(), Origin::Own));
    assert_eq!(told, [EventKind::MessagePinStatusChanged, EventKind::MessageRevokeReceived]);
}

/// A refusal may come after the user was let in.
#[test]
fn a_refused_message_disables_a_group_only_if_the_user_is_not_in_it() {
    for (role, is_disabled) in [(0, true), (3, false)] {
        let (db, name) = (memory().unwrap(), Name::new(ConversationType::Group as i32, "crew"));
        let base_info = Some(GroupInfo { group_id: "crew".into(), ..GroupInfo::default() });
        group::write(&db, &GroupFullInfo { base_info, ..GroupFullInfo::default() }).unwrap();
        group::write_own(&db, "crew", (role, 0)).unwrap();
        let failed = Settle::Failed { name, key: [1; 16], reason: String::new(), is_disabled: true };
        applied_job(&db, Job { settle: vec![failed], ..Job::default() });
        let found: bool =
            db.query_row("SELECT is_disabled FROM conversation WHERE name = 'crew'", [], |row| row.get(0)).unwrap();
        assert_eq!(found, is_disabled, "role {role}");
    }
}

/// The app ends before it knows that a message was sent, and another device deletes the message meanwhile.
#[test]
fn a_message_that_was_deleted_before_its_answer_came_does_not_stay() {
    let text = || entry(MessageType::Text, "hi", 0);
    let mine = || MessageEntry { sender: "ann".into(), client_key: vec![3; 16].into(), ..text() };
    let to = Name::new(0, "bob").to_ref();
    let single = feed_entry::Detail::MessageDeletion(MessageDeletion {
        conversation: Some(to.clone()),
        seq: 1,
        ..MessageDeletion::default()
    });
    let all = feed_entry::Detail::Cleared(ConversationCleared {
        conversation: Some(to),
        cleared_seq: 1,
        ..ConversationCleared::default()
    });
    let wanted = [EventKind::MessageSentStatusChanged, EventKind::MessageDeleted];
    let job = |db: &Connection, recent: &mut Recent, job: Job| all_events(db, recent, job, &wanted);
    let answer = Settle::Sent(bob(), MessageEntry { content: Bytes::new(), ..mine() });
    for (deletion, told) in [(single, &[EventKind::MessageDeleted][..]), (all, &[])] {
        for is_page in [false, true] {
            for is_remembered in [false, true] {
                let (db, mut recent) = (memory().unwrap(), Recent::default());
                attach(&db, &mut recent, text().content);
                if !is_remembered {
                    recent.clear();
                }
                let deleted = Change::Own { detail: Box::new(deletion.clone()), origin: Origin::Other };
                assert!(job(&db, &mut recent, changing(deleted)).is_empty());
                let last = match is_page {
                    true => changing(page(mine())),
                    false => settling(answer.clone()),
                };
                let expected = [told, &[EventKind::MessageSentStatusChanged]].concat();
                assert_eq!(job(&db, &mut recent, last), expected, "{is_page} {is_remembered} {deletion:?}");
                let rows: i64 = db.query_row("SELECT COUNT(*) FROM message", [], |row| row.get(0)).unwrap();
                assert_eq!(rows, 0, "{is_page} {is_remembered} {deletion:?}");
            }
        }
    }
}

/// The push of an own message has no content, and may overtake the answer, which has what the server made of the message.
#[test]
fn an_answer_completes_a_message_that_a_push_has_settled() {
    use MessageChangeKind::{Edited, Revoked};
    let own = |kind: MessageType, text: &str, edited_time: i64| MessageEntry {
        sender: "ann".into(),
        client_key: vec![3; 16].into(),
        ..entry(kind, text, edited_time)
    };
    let bare = || page(MessageEntry { content: Bytes::new(), ..own(MessageType::Text, "", 0) });
    let made = || Settle::Sent(bob(), own(MessageType::Text, "made", 0));
    let push = || changing(bare());
    let answer = || settling(made());
    let together = || Job { settle: vec![made()], ..changing(bare()) };
    let edit = || changing(change(Edited, own(MessageType::Text, "edited", 9)));
    let revoke = || changing(change(Revoked, own(MessageType::Revoke, "revoked", 0)));
    type Way<'a> = (&'a str, &'a [&'a dyn Fn() -> Job]);
    let ways: [Way<'_>; 5] = [
        ("made", &[&answer, &push]),
        ("made", &[&push, &answer]),
        ("made", &[&together]),
        ("edited", &[&push, &edit, &answer]),
        ("revoked", &[&push, &revoke, &answer]),
    ];
    for (text, jobs) in ways {
        for is_remembered in [false, true] {
            let (db, mut recent) = (memory().unwrap(), Recent::default());
            attach(&db, &mut recent, Message::text("sent").encode_to_vec().into());
            if !is_remembered {
                recent.clear();
            }
            for job in jobs {
                all_events(&db, &mut recent, job(), &[]);
            }
            let (_, row) = message::held(&db, 1, 1).unwrap().unwrap();
            assert_eq!(row.content, Message::text(text).encode_to_vec(), "{text} {} {is_remembered}", jobs.len());
        }
    }
}

/// The ID of what it combines is that of the message, which the push has. The answer may come later.
#[test]
fn a_combined_message_that_a_push_has_settled_is_told_with_the_id_of_what_it_combines() {
    let content = |combine_id: &str, message_list: Vec<Message>| {
        let (title, summary, combine_id) = ("t".to_owned(), "s".to_owned(), combine_id.to_owned());
        let combine = CombineMessage { title, summary, combine_id, message_list };
        Message { body: Some(Body::Combine(Box::new(combine))), ..Message::default() }
    };
    // The object of the app may be one that it has received, with the ID of another message.
    for before in ["", "6"] {
        for is_remembered in [false, true] {
            let (db, mut recent) = (memory().unwrap(), Recent::default());
            let sent = content(before, vec![Message::text("one")]).encode_to_vec();
            attach_as(&db, &mut recent, MessageType::Combine, sent.into());
            if !is_remembered {
                recent.clear();
            }
            let push = MessageEntry {
                sender: "ann".into(),
                client_key: vec![3; 16].into(),
                content: Bytes::new(),
                ..entry(MessageType::Combine, "", 0)
            };
            let applied = apply(&db, &Viewer::in_test("ann", 10), &mut recent, changing(page(push))).unwrap();
            let told = applied.events.iter().find_map(|(_, event)| match event {
                Event::MessageSentStatusChanged(event) => event.infos[0].message.clone(),
                _ => None,
            });
            let expected = content("7", Vec::new());
            assert_eq!(told.unwrap().body, expected.body, "{before:?} {is_remembered}");
            let (_, row) = message::held(&db, 1, 1).unwrap().unwrap();
            assert_eq!(row.content, expected.encode_to_vec(), "{before:?} {is_remembered}");
        }
    }
}

/// Its state has that, and follows the source, which may be revoked. The content is what this device has sent.
#[test]
fn an_own_reply_keeps_what_it_replies_to_only_once() {
    let info = || Some(Box::new(MessageRepliedInfo { message_seq: 9, ..MessageRepliedInfo::default() }));
    let bare = Message::text("hi").encode_to_vec();
    let sent = Message { replied_info: info(), ..Message::text("hi") }.encode_to_vec();
    let state = Some(Box::new(MessageState { replied_info: info().map(|info| *info), ..MessageState::default() }));
    let told = |content: Bytes| MessageEntry {
        sender: "ann".into(),
        client_key: vec![3; 16].into(),
        content,
        state: state.clone(),
        ..entry(MessageType::Text, "", 0)
    };
    let (empty, whole) = (told(Bytes::new()), told(bare.clone().into()));
    let answer = || settling(Settle::Sent(bob(), MessageEntry { state: None, ..empty.clone() }));
    let (push, page) = (|| changing(page(empty.clone())), || changing(page(whole.clone())));
    let pin = || changing(change(MessageChangeKind::Pinned, empty.clone()));
    type Way<'a> = (&'a str, &'a [&'a dyn Fn() -> Job]);
    let ways: [Way<'_>; 5] = [
        ("a push", &[&push]),
        ("a page", &[&page]),
        ("an answer, then a push", &[&answer, &push]),
        ("an answer, then a page", &[&answer, &page]),
        ("an answer, then a change", &[&answer, &pin]),
    ];
    for (way, jobs) in ways {
        // Whether this process has sent it, or the one before.
        for is_remembered in [false, true] {
            let (db, mut recent) = (memory().unwrap(), Recent::default());
            attach(&db, &mut recent, sent.clone().into());
            if !is_remembered {
                recent.clear();
            }
            for job in jobs {
                all_events(&db, &mut recent, job(), &[]);
            }
            let (_, row) = message::held(&db, 1, 1).unwrap().unwrap();
            assert_eq!(row.content, bare, "{way} {is_remembered}");
            let message = row.into_message("ann", &Name::new(0, "bob").to_ref());
            assert_eq!(message.replied_info.map(|info| info.message_seq), Some(9), "{way} {is_remembered}");
        }
    }
}

/// The server resolved the reply before the source was revoked or edited, and its answer came after that.
#[test]
fn a_reply_shows_its_source_as_this_device_holds_it() {
    use MessageRepliedInfoState::{Deleted, Normal};
    let cases = [
        (MessageChangeKind::Revoked, entry(MessageType::Revoke, "", 0), (Deleted, None)),
        (MessageChangeKind::Edited, entry(MessageType::Text, "hello", 9), (Normal, Some("hello"))),
    ];
    for (kind, now, (state, text)) in cases {
        let db = memory().unwrap();
        applied(&db, page(entry(MessageType::Text, "hi", 0)));
        applied(&db, change(kind, now));
        let quoted = Message::text("hi").lite(MessageType::Text as i32);
        let info =
            MessageRepliedInfo { message_seq: 1, state: Normal as i32, message_info: quoted, ..Default::default() };
        let state_of_reply = MessageState { replied_info: Some(info), ..MessageState::default() };
        let reply = MessageEntry { seq: 2, message_id: 8, ..entry(MessageType::Text, "reply", 0) };
        applied(&db, page(MessageEntry { state: Some(Box::new(state_of_reply)), ..reply }));
        let (_, row) = message::held(&db, 1, 2).unwrap().unwrap();
        let shown = row.into_message("ann", &Name::new(0, "bob").to_ref()).replied_info.unwrap();
        assert_eq!(shown.state(), state);
        let quoted = shown.message_info.and_then(|info| info.body).map(|body| match body {
            message_lite_info::Body::Text(text) => text.message,
            other => panic!("{other:?}"),
        });
        assert_eq!(quoted.as_deref(), text);
    }
}

#[test]
fn a_message_that_is_deleted_while_it_is_sent_does_not_come_back() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    attach(&db, &mut recent, entry(MessageType::Text, "hi", 0).content);
    let own = Message { local_message_id: zim_protocol::id::hex(&[3; 16]), ..Message::default() };
    let delete = Local::Delete { name: Name::new(0, "bob"), messages: vec![own] };
    all_events(&db, &mut recent, settling(Settle::Local(Box::new(delete))), &[]);
    let mine =
        MessageEntry { sender: "ann".into(), client_key: vec![3; 16].into(), ..entry(MessageType::Text, "hi", 0) };
    for _ in 0..2 {
        let entries = vec![mine.clone()];
        let name = Name::new(0, "bob");
        let push = Change::Messages { name, entries, raise_after: 0, own_after: 0 };
        let told = [EventKind::PeerMessageReceived, EventKind::MessageSentStatusChanged];
        assert!(all_events(&db, &mut recent, changing(push), &told).is_empty());
        assert!(message::held(&db, 1, 1).unwrap().is_none());
        // Another run of the app.
        recent.clear();
    }
    // The same key again is a message again.
    attach(&db, &mut recent, entry(MessageType::Text, "hi", 0).content);
    all_events(
        &db,
        &mut recent,
        settling(Settle::Sent(bob(), MessageEntry { content: Bytes::new(), ..mine.clone() })),
        &[],
    );
    all_events(&db, &mut recent, changing(Change::Drop(Name::new(0, "bob"))), &[]);
    all_events(&db, &mut recent, changing(page(mine.clone())), &[]);
    assert!(message::held(&db, 1, 1).unwrap().is_some());
    // The app deletes it by the object that it had while it was sent.
    let own = Message { local_message_id: zim_protocol::id::hex(&[3; 16]), ..Message::default() };
    let delete = || Local::Delete { name: Name::new(0, "bob"), messages: vec![own.clone()] };
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    attach(&db, &mut recent, entry(MessageType::Text, "hi", 0).content);
    all_events(&db, &mut recent, settling(Settle::Sent(bob(), MessageEntry { content: Bytes::new(), ..mine })), &[]);
    all_events(&db, &mut recent, settling(Settle::Local(Box::new(delete()))), &[]);
    assert!(message::held(&db, 1, 1).unwrap().is_none());
}

#[test]
fn local_data_is_what_the_app_has_set_last() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let data = |db: &Connection| message::held(db, 1, 1).unwrap().unwrap().1.local_data;
    let set = |text: &str, message: Message| {
        let (name, data) = (Name::new(0, "bob"), text.to_owned());
        settling(Settle::Local(Box::new(Local::Data { name, message: Box::new(message), data })))
    };
    attach(&db, &mut recent, entry(MessageType::Text, "hi", 0).content);
    // While it is sent: what is remembered of it must not hide it.
    let pending = Message { local_message_id: zim_protocol::id::hex(&[3; 16]), ..Message::default() };
    all_events(&db, &mut recent, set("while", pending), &[]);
    let mine =
        MessageEntry { sender: "ann".into(), client_key: vec![3; 16].into(), ..entry(MessageType::Text, "hi", 0) };
    let answer = MessageEntry { content: Bytes::new(), ..mine.clone() };
    all_events(&db, &mut recent, settling(Settle::Sent(bob(), answer)), &[]);
    assert_eq!(data(&db), "while");
    // The rows are dropped and fetched again. An own row whose push has not come would stay.
    db.execute("UPDATE conversation SET seq = 1", []).unwrap();
    let stored = || Message { message_seq: 1, ..Message::default() };
    for text in ["a", "", "b", ""] {
        all_events(&db, &mut recent, set(text, stored()), &[]);
        all_events(&db, &mut recent, changing(Change::Drop(Name::new(0, "bob"))), &[]);
        all_events(&db, &mut recent, changing(page(mine.clone())), &[]);
        assert_eq!(data(&db), text);
    }
    // They were dropped after the app had found the message.
    let found = Message { message_id: mine.message_id.to_string(), ..stored() };
    for text in ["c", ""] {
        all_events(&db, &mut recent, changing(Change::Drop(Name::new(0, "bob"))), &[]);
        all_events(&db, &mut recent, set(text, found.clone()), &[]);
        all_events(&db, &mut recent, changing(page(mine.clone())), &[]);
        assert_eq!(data(&db), text);
    }
}

/// Whoever has read it before, and whatever a device learned first.
#[test]
fn a_revoked_message_has_no_receipt() {
    let shown = |db: &Connection| {
        let (_, row) = message::held(db, 1, 1).unwrap().unwrap();
        assert_eq!(row.kind, MessageType::Revoke as i32);
        row.into_message("ann", &Name::new(0, "bob").to_ref()).receipt_status()
    };
    let read = |kind: MessageType, receipt: MessageReceiptStatus| {
        let state = MessageState { receipt: receipt as i32, is_personal: true, ..MessageState::default() };
        MessageEntry { flags: MessageFlag::Receipt as u32, state: Some(Box::new(state)), ..entry(kind, "hi", 0) }
    };
    let revoked = MessageEntry { state: None, ..read(MessageType::Revoke, MessageReceiptStatus::None) };
    for before in [MessageReceiptStatus::Processing, MessageReceiptStatus::Done] {
        for after in [page(revoked.clone()), change(MessageChangeKind::Revoked, revoked.clone())] {
            let db = memory().unwrap();
            applied(&db, page(read(MessageType::Text, before)));
            applied(&db, after);
            assert_eq!(shown(&db), MessageReceiptStatus::None, "{before:?}");
        }
    }
    let db = memory().unwrap();
    applied(&db, page(revoked));
    assert_eq!(shown(&db), MessageReceiptStatus::None, "a fresh device");
    let db = memory().unwrap();
    applied(&db, page(read(MessageType::Revoke, MessageReceiptStatus::Done)));
    assert_eq!(shown(&db), MessageReceiptStatus::None, "although its state still has one");
}

/// A page of history and the head of a conversation have the message as it is now, and come before the change that made it so.
#[test]
fn a_page_or_a_head_tells_that_a_message_was_revoked_or_edited_and_the_change_does_not_tell_it_again() {
    let cases = [
        (EventKind::MessageRevokeReceived, MessageChangeKind::Revoked, entry(MessageType::Revoke, "revoked", 0)),
        (EventKind::MessageEdited, MessageChangeKind::Edited, entry(MessageType::Text, "hello", 9)),
    ];
    for (event, kind, now) in cases {
        for first in [page, head] {
            let db = memory().unwrap();
            assert!(applied(&db, page(entry(MessageType::Text, "hi", 0))).is_empty(), "{event:?}");
            assert_eq!(applied(&db, first(now.clone())), [event]);
            assert!(applied(&db, first(now.clone())).is_empty(), "{event:?}");
            assert!(applied(&db, change(kind, now.clone())).is_empty(), "{event:?}");
            // A page that was read earlier tells nothing either, and brings nothing back.
            assert!(applied(&db, page(entry(MessageType::Text, "hi", 0))).is_empty(), "{event:?}");
            let (_, row) = message::held(&db, 1, 1).unwrap().unwrap();
            assert_eq!((row.kind, &row.content), (now.kind, &now.content));
            assert!(applied(&db, change(kind, now.clone())).is_empty(), "{event:?}");
        }
    }
}

/// They come and go, and a page may be older than a change.
#[test]
fn pins_and_counts_of_replies_are_told_by_changes_alone_and_once() {
    use MessageChangeKind::{Pinned, Replied, Unpinned};
    let with = |state: MessageState| MessageEntry { state: Some(Box::new(state)), ..entry(MessageType::Text, "hi", 0) };
    let bare = || with(MessageState::default());
    let pinned = || with(MessageState { pinned_time: 9, ..MessageState::default() });
    let replied = || with(MessageState { replied_count: 2, ..MessageState::default() });
    let (pin, count) = (EventKind::MessagePinStatusChanged, EventKind::MessageRepliedCountChanged);
    let cases = [
        (vec![Pinned], bare(), pinned(), pin),
        (vec![Unpinned], pinned(), bare(), pin),
        (vec![Pinned, Unpinned], bare(), bare(), pin),
        (vec![Replied, Replied], bare(), replied(), count),
    ];
    for (kinds, before, now, event) in cases {
        for first in [page, head] {
            let db = memory().unwrap();
            applied(&db, page(before.clone()));
            assert!(applied(&db, first(now.clone())).is_empty(), "{kinds:?}");
            assert_eq!(applied(&db, changes(&kinds, now.clone(), Origin::Other)), [event], "{kinds:?}");
            assert!(applied(&db, page(before.clone())).is_empty(), "{kinds:?}: an older page");
            assert!(applied(&db, changes(&kinds, now.clone(), Origin::Other)).is_empty(), "{kinds:?} again");
        }
    }
}

/// What a message became while the user was not in the group is not for them, and what they had stays theirs.
#[test]
fn content_that_is_withheld_leaves_what_the_device_has_and_is_no_news() {
    use MessageChangeKind::{Edited, Pinned};
    let withheld = |kind| MessageEntry { flags: MessageFlag::Withheld as u32, ..entry(kind, "", 0) };
    let pinned = |change: MessageEntry| {
        let state = MessageState { pinned_time: 7, is_personal: true, ..MessageState::default() };
        MessageEntry { state: Some(Box::new(state)), ..change }
    };
    let shown = |db: &Connection| {
        let (_, row) = message::held(db, 1, 1).unwrap().unwrap();
        let shown = row.into_message("ann", &Name::new(0, "bob").to_ref());
        (shown.as_text().unwrap_or_default().to_owned(), shown.edited_time, shown.pinned_time)
    };
    let has = |text: &str, edited_time, pinned_time| (text.to_owned(), edited_time, pinned_time);
    let ways: [fn(MessageEntry) -> Change; 4] =
        [page, head, |entry| change(Edited, entry), |entry| change(Pinned, entry)];
    for edited_time in [0, 3] {
        for way in ways {
            let db = memory().unwrap();
            applied(&db, page(entry(MessageType::Text, "hi", edited_time)));
            let told = applied(&db, way(pinned(withheld(MessageType::Text))));
            assert!(!told.contains(&EventKind::MessageEdited), "{told:?}");
            assert_eq!(shown(&db), has("hi", edited_time, 7));
            // It changes while the user is a member again.
            assert_eq!(applied(&db, page(entry(MessageType::Text, "hello", 9))), [EventKind::MessageEdited]);
            assert_eq!(shown(&db), has("hello", 9, 0));
        }
    }
    // A revocation leaves nothing.
    let db = memory().unwrap();
    applied(&db, page(entry(MessageType::Text, "hi", 0)));
    assert_eq!(applied(&db, page(withheld(MessageType::Revoke))), [EventKind::MessageRevokeReceived]);
    assert_eq!(shown(&db), has("", 0, 0));
    // A device that has nothing but the type, also with the time of the edit, gets the content with the next entry that has it.
    for (blank, told) in
        [(withheld(MessageType::Text), &[EventKind::MessageEdited][..]), (entry(MessageType::Text, "", 9), &[])]
    {
        let db = memory().unwrap();
        applied(&db, page(blank));
        assert_eq!(shown(&db).0, "");
        assert_eq!(applied(&db, page(entry(MessageType::Text, "hello", 9))), told);
        assert_eq!(shown(&db), has("hello", 9, 0));
    }
}

/// A push shows the first five users of a type, and has nothing of a single viewer.
#[test]
fn a_reaction_to_a_message_that_is_not_held_is_told_if_it_is_known_whether_the_user_has_reacted() {
    let with = |count: i64, named: &[&str], own_count: i64| {
        let user_list = named.iter().map(|user| (*user).to_owned()).collect();
        let (reaction_type, user_count, sum_count) = ("like".to_owned(), count, count);
        let reactions = vec![ReactionState { reaction_type, user_count, sum_count, user_list, own_count }];
        let state = MessageState { reactions, is_personal: own_count > 0, ..MessageState::default() };
        MessageEntry { state: Some(Box::new(state)), ..entry(MessageType::Text, "hi", 0) }
    };
    let reacted = |db: &Connection, now: MessageEntry, actor: &str| {
        let kind = MessageChangeKind::Reacted as i32;
        let change = Some(MessageChange { kind, reaction_type: "like".into(), is_added: true, sum_count: 1 });
        let detail = Some(Detail::Message(now));
        let entries = vec![ChangeEntry { rev: 1, actor: actor.into(), detail, change, ..ChangeEntry::default() }];
        let job = changing(Change::Changes { name: bob(), entries, origin: Origin::Other });
        let applied = apply(db, &Viewer::in_test("ann", 10), &mut Recent::default(), job).unwrap();
        applied.events.iter().find_map(|(_, event)| match event {
            Event::MessageReactionsChanged(event) => Some(event.reactions[0].is_self_included),
            _ => None,
        })
    };
    let (others, few) = (["b", "c", "d", "e", "f"], ["bob", "ann"]);
    for (count, named, actor, told) in [
        (2, &few[..], "bob", Some(true)),
        (1, &few[..1], "bob", Some(false)),
        (6, &["ann", "c", "d", "e", "f"][..], "bob", Some(true)),
        (6, &others[..], "bob", None),
        // With another device of the user.
        (6, &others[..], "ann", Some(true)),
    ] {
        let now = with(count, named, 0);
        assert_eq!(reacted(&memory().unwrap(), now, actor), told, "{count} {named:?} {actor}");
    }
    // Of a message that it holds, it knows.
    for (before, told) in [(with(6, &others, 2), true), (entry(MessageType::Text, "hi", 0), false)] {
        let db = memory().unwrap();
        applied(&db, page(before));
        assert_eq!(reacted(&db, with(7, &others, 0), "bob"), Some(told));
    }
}
