use bytes::Bytes;
use prost::Message as _;
use rusqlite::Connection;
use zim_protocol::{
    AllCleared, ConversationCleared, ConversationHead, ConversationReceiptEntry, ConversationRef, ErrorCode, Event,
    EventKind, Message, MessageDeleteType, MessageDeletion, MessageEntry, MessageFlag, MessageReceiptStatus,
    MessageRepliedInfo, MessageRepliedInfoState, MessageState, MessageType, ReceiptEntry, feed_entry::Detail,
};

use crate::apply::{Attach, Deleted, Gone, Job, Local, Recent, Settle, Viewer, apply};
use crate::engine::{Batch, Change, Origin};
use crate::error::Error;
use crate::store::{memory, message, message_change, outgoing};
use crate::types::Name;

/// A device of Ann's.
struct Device {
    db: Connection,
    recent: Recent,
    viewer: Viewer,
}

impl Device {
    fn new() -> Self {
        let viewer = Viewer::in_test("ann", 10);
        Self { db: memory().unwrap(), recent: Recent::default(), viewer }
    }

    fn run(&mut self, job: Job) -> Vec<Event> {
        let applied = apply(&self.db, &self.viewer, &mut self.recent, job).unwrap();
        self.viewer.last_event = applied.last_event;
        applied.events.into_iter().map(|(_, event)| event).collect()
    }

    fn change(&mut self, change: Change) -> Vec<Event> {
        self.run(Job { batch: Batch { changes: vec![change], ..Batch::default() }, ..Job::default() })
    }

    fn feed(&mut self, detail: Detail) -> Vec<Event> {
        self.change(Change::Own { detail: Box::new(detail), origin: Origin::Other })
    }

    fn page(&mut self, entry: &MessageEntry) -> Vec<Event> {
        self.change(messages(entry, 0))
    }

    /// Begins to send a message that asks for a receipt.
    fn send(&mut self, to: &ConversationRef) {
        let (flags, content) = (ASKS, Message::text("hi").encode_to_vec().into());
        let (kind, local_data, config) = (MessageType::Text as i32, String::new(), Bytes::new());
        let pending = outgoing::Pending { key: KEY, ts: 5, kind, flags, content, local_data, config };
        self.run(Job { attach: vec![(Name::from(to), Attach::New(pending))], ..Job::default() });
    }

    fn status(&self) -> MessageReceiptStatus {
        let (_, row) = message::held(&self.db, 1, 1).unwrap().unwrap();
        row.into_message("ann", &peer()).receipt_status()
    }
}

const KEY: [u8; 16] = [3; 16];
const ASKS: u32 = MessageFlag::Receipt as u32 | MessageFlag::Counted as u32;

fn peer() -> ConversationRef {
    Name::new(0, "bob").to_ref()
}

fn crew() -> ConversationRef {
    Name::new(2, "crew").to_ref()
}

/// The first message of a conversation, which asks for a receipt.
fn asking(sender: &str) -> MessageEntry {
    MessageEntry {
        seq: 1,
        n: 1,
        message_id: 7,
        sender: sender.to_owned(),
        ts: 5,
        kind: MessageType::Text as i32,
        flags: ASKS,
        client_key: KEY.to_vec().into(),
        content: Message::text("hi").encode_to_vec().into(),
        ..MessageEntry::default()
    }
}

fn messages(entry: &MessageEntry, raise_after: u64) -> Change {
    messages_of(peer(), entry, raise_after)
}

fn messages_of(to: ConversationRef, entry: &MessageEntry, raise_after: u64) -> Change {
    Change::Messages { name: Name::from(&to), entries: vec![entry.clone()], raise_after, own_after: raise_after }
}

fn head(entry: &MessageEntry) -> Change {
    let last_message = Some(entry.clone());
    Change::Head(Box::new(ConversationHead { conversation: Some(peer()), last_message, ..Default::default() }))
}

/// A message was read by all who should, or by the user.
fn read(to: ConversationRef, is_self_operated: bool) -> Detail {
    Detail::Receipt(ReceiptEntry { conversation: Some(to), seq: 1, is_self_operated, ..ReceiptEntry::default() })
}

fn read_all(peer_seq: u64, own_seq: u64) -> Detail {
    let conversation = Some(peer());
    Detail::ConversationReceipt(ConversationReceiptEntry { conversation, peer_seq, own_seq, ..Default::default() })
}

/// The receipts and the statuses of the messages that events show.
fn shown(events: &[Event]) -> Vec<MessageReceiptStatus> {
    let of = |event: &Event| match event {
        Event::PeerMessageReceived(event) => event.message_list.clone(),
        Event::GroupMessageReceived(event) => event.message_list.clone(),
        Event::MessageSentStatusChanged(event) => event.infos.iter().filter_map(|info| info.message.clone()).collect(),
        _ => Vec::new(),
    };
    events.iter().flat_map(of).map(|message| message.receipt_status()).collect()
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    let wanted = [
        EventKind::MessageReceiptChanged,
        EventKind::ConversationMessageReceiptChanged,
        EventKind::MessageDeleted,
        EventKind::EpochChanged,
    ];
    events.iter().map(Event::kind).filter(|kind| wanted.contains(kind)).collect()
}

/// The logs have no order among each other, and a page may have been read before the receipt.
#[test]
fn a_receipt_that_comes_before_its_message_counts() {
    use MessageReceiptStatus::{Done, Processing};
    let cases = [
        ("ann", read(peer(), false), Done),
        ("ann", read_all(1, 0), Done),
        ("bob", read(peer(), true), Done),
        ("bob", read_all(0, 1), Done),
        // What the other one has read says nothing of what they have sent.
        ("ann", read_all(0, 1), Processing),
        ("bob", read_all(1, 0), Processing),
    ];
    for (sender, receipt, status) in cases {
        let mut device = Device::new();
        device.feed(receipt.clone());
        let events = device.page(&asking(sender));
        assert_eq!((device.status(), shown(&events)), (status, vec![status]), "{sender} {receipt:?}");
        // A second page, which is as old.
        device.page(&asking(sender));
        assert_eq!(device.status(), status, "{sender} {receipt:?}");
    }
    for is_self_operated in [false, true] {
        let mut device = Device::new();
        device.feed(read(crew(), is_self_operated));
        let sender = if is_self_operated { "bob" } else { "ann" };
        assert_eq!(shown(&device.change(messages_of(crew(), &asking(sender), 0))), [Done], "in a group, {sender}");
    }
}

#[test]
fn a_receipt_that_comes_before_the_answer_counts() {
    use MessageReceiptStatus::{Done, Processing};
    let without_content = || MessageEntry { content: Bytes::new(), ..asking("ann") };
    for (receipt, status) in [(Some(read(peer(), false)), Done), (Some(read_all(1, 0)), Done), (None, Processing)] {
        for is_answer in [false, true] {
            // Whether this process has sent it, or the one before.
            for is_remembered in [false, true] {
                let mut device = Device::new();
                device.send(&peer());
                if !is_remembered {
                    device.recent.clear();
                }
                receipt.clone().map(|receipt| device.feed(receipt));
                let events = match is_answer {
                    true => device.run(Job {
                        settle: vec![Settle::Sent(Name::from(&peer()), without_content())],
                        ..Job::default()
                    }),
                    false => device.change(messages(&without_content(), 0)),
                };
                let case = format!("{receipt:?} {is_answer} {is_remembered}");
                assert_eq!((device.status(), shown(&events)), (status, vec![status]), "{case}");
            }
        }
    }
}

#[test]
fn an_epoch_ends_what_is_known_of_positions_that_are_read() {
    for receipt in [read(peer(), false), read_all(1, 0)] {
        let mut device = Device::new();
        device.feed(receipt);
        device.change(Change::DropAll { epoch: Bytes::new() });
        device.page(&asking("ann"));
        assert_eq!(device.status(), MessageReceiptStatus::Processing);
    }
}

fn deletion() -> Detail {
    Detail::MessageDeletion(MessageDeletion { conversation: Some(peer()), seq: 1, ..MessageDeletion::default() })
}

fn cleared() -> Detail {
    cleared_to(1)
}

fn cleared_to(cleared_seq: u64) -> Detail {
    Detail::Cleared(ConversationCleared { conversation: Some(peer()), cleared_seq, ..ConversationCleared::default() })
}

/// The second message, which replies to the first, as all see it or as the user sees it.
fn reply(is_personal: bool) -> MessageEntry {
    let source = Message::text("hi").lite(MessageType::Text as i32);
    let info =
        MessageRepliedInfo { message_id: "7".into(), message_seq: 1, message_info: source, ..Default::default() };
    let state = Some(Box::new(MessageState { replied_info: Some(info), is_personal, ..MessageState::default() }));
    MessageEntry { seq: 2, n: 2, message_id: 8, client_key: vec![4; 16].into(), state, ..asking("bob") }
}

/// The logs have no order among each other, so a reply may come before the deletion of its source, and a page may have been read before.
#[test]
fn a_reply_shows_that_its_source_is_deleted_whichever_comes_first() {
    use MessageRepliedInfoState::{Deleted, NotFound};
    for (gone, state) in [(deletion(), Deleted), (cleared(), NotFound)] {
        // Whether this device holds the source.
        for (is_held, is_personal) in [(false, false), (false, true), (true, false), (true, true)] {
            for (is_reply_first, is_head) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut device = Device::new();
                if is_held {
                    device.page(&asking("ann"));
                }
                let again = match is_head {
                    true => head(&reply(is_personal)),
                    false => messages(&reply(is_personal), 0),
                };
                let mut events = Vec::new();
                if is_reply_first {
                    device.page(&reply(is_personal));
                    events = device.feed(gone.clone());
                } else {
                    device.feed(gone.clone());
                }
                // It was read before the deletion.
                device.change(again);
                let case = format!("{gone:?} {is_held} {is_personal} {is_reply_first} {is_head}");
                let (_, row) = message::held(&device.db, 1, 2).unwrap().expect("the reply");
                let info = row.into_message("ann", &peer()).replied_info.unwrap();
                assert_eq!((info.state(), &info.message_info, info.message_seq), (state, &None, 1), "{case}");
                let is_told = events.iter().any(|event| event.kind() == EventKind::MessageRepliedInfoChanged);
                assert_eq!(is_told, is_reply_first, "{case}");
            }
        }
    }
}

/// The server does not know what only this device has deleted, and shows it in every reply.
#[test]
fn a_reply_shows_that_this_device_has_deleted_its_source() {
    use MessageRepliedInfoState::{Deleted, NotFound};
    let name = Name::from(&peer());
    let by_seq = Message { message_seq: 1, ..Message::default() };
    let cases =
        [(Local::Delete { name: name.clone(), messages: vec![by_seq] }, Deleted), (Local::Clear(name), NotFound)];
    for (local, state) in cases {
        for is_personal in [false, true] {
            for (is_reply_first, is_head) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut device = Device::new();
                device.page(&asking("ann"));
                // All that is there is deleted, the reply as well.
                let is_reply_first = is_reply_first && state == Deleted;
                if is_reply_first {
                    device.page(&reply(is_personal));
                }
                device.db.execute("UPDATE conversation SET head_seq = 1", []).unwrap();
                device.run(Job { settle: vec![Settle::Local(Box::new(local.clone()))], ..Job::default() });
                device.change(match is_head {
                    true => head(&reply(is_personal)),
                    false => messages(&reply(is_personal), 0),
                });
                let case = format!("{local:?} {is_personal} {is_reply_first} {is_head}");
                let (_, row) = message::held(&device.db, 1, 2).unwrap().expect("the reply");
                let info = row.into_message("ann", &peer()).replied_info.unwrap();
                assert_eq!((info.state(), &info.message_info, info.message_seq), (state, &None, 1), "{case}");
            }
        }
    }
}

/// It may have come after the deletion was asked for, which the entry of the feed does not tell. The caller knows.
#[test]
fn what_only_this_device_has_stays_until_the_caller_removes_it() {
    let name = || Name::from(&peer());
    for origin in [Origin::Own, Origin::Other] {
        let mut device = Device::new();
        device.page(&asking("bob"));
        let insert = |key: u8| {
            let (content, local_data, config) =
                (Message::text("note").encode_to_vec().into(), String::new(), Bytes::new());
            let kind = MessageType::Text as i32;
            let pending = outgoing::Pending { key: [key; 16], ts: 5, kind, flags: 0, content, local_data, config };
            let insert = Local::Insert { name: name(), sender: "ann".to_owned(), pending };
            Job { settle: vec![Settle::Local(Box::new(insert))], ..Job::default() }
        };
        device.run(insert(8));
        let last_row = message_change::last_row(&device.db).unwrap();
        let asked = device.viewer.deleting.begin(Deleted::Conversation(name(), 1), drop);
        device.run(insert(9));
        let rows = |device: &Device| -> Vec<i64> {
            let mut rows = device.db.prepare("SELECT id - ?1 FROM message ORDER BY id").unwrap();
            rows.query_map([last_row], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        device.change(Change::Own { detail: Box::new(cleared()), origin });
        assert_eq!(rows(&device), [0, 1], "{origin:?}");
        asked.done(Ok(())).unwrap();
        let clear = Settle::Local(Box::new(Local::ClearUnsent(name(), last_row)));
        device.run(Job { settle: vec![clear], ..Job::default() });
        assert_eq!(rows(&device), [1], "{origin:?}");
    }
}

/// The device did not get the answer, so it counts the message as failed, but the server may have stored it.
#[test]
fn a_failed_message_that_is_cleared_does_not_come_back() {
    let name = || Name::from(&peer());
    for local in [Local::Clear(name()), Local::ClearUnsent(name(), i64::MAX)] {
        for is_head in [false, true] {
            let mut device = Device::new();
            device.send(&peer());
            // Nothing is deleted, which is remembered.
            device.page(&reply(true));
            let failed = Settle::Failed { name: name(), key: KEY, reason: String::new(), is_disabled: false };
            device.run(Job { settle: vec![failed], ..Job::default() });
            device.run(Job { settle: vec![Settle::Local(Box::new(local.clone()))], ..Job::default() });
            let stored = MessageEntry { seq: 3, n: 3, ..asking("ann") };
            device.change(if is_head { head(&stored) } else { messages(&stored, 0) });
            assert!(message::held(&device.db, 1, 3).unwrap().is_none(), "{local:?} {is_head}");
            // Unless the app sends it again.
            device.send(&peer());
            device.change(messages(&stored, 0));
            assert!(message::held(&device.db, 1, 3).unwrap().is_some(), "{local:?} {is_head}");
        }
    }
}

/// Whoever waits for the answer needs no event, and if there is no answer, the event tells what was deleted.
#[test]
fn a_deletion_of_this_device_that_a_sync_brings_is_its_own() {
    let by_seq = Message { message_seq: 1, ..Message::default() };
    let by_id = Message { message_id: "7".into(), ..Message::default() };
    let name = || Name::from(&peer());
    let all = |deletion_number| Detail::AllCleared(AllCleared { deletion_number });
    let cases = [
        (Deleted::Messages(name(), vec![by_seq.clone()]), deletion(), true),
        (Deleted::Messages(name(), vec![by_id]), deletion(), true),
        (Deleted::Messages(Name::new(0, "cem"), vec![by_seq.clone()]), deletion(), false),
        (Deleted::Messages(name(), vec![Message { message_seq: 2, ..by_seq }]), deletion(), false),
        (Deleted::Conversation(name(), 1), deletion(), false),
        (Deleted::Conversation(name(), 1), cleared(), true),
        (Deleted::Conversation(name(), 2), cleared(), false),
        (Deleted::Conversation(Name::new(0, "cem"), 1), cleared(), false),
        (Deleted::All(7), cleared(), true),
        (Deleted::All(7), all(7), true),
        (Deleted::All(7), all(8), false),
        (Deleted::All(7), all(0), false),
        (Deleted::Conversation(name(), 1), all(7), false),
    ];
    for (deleted, detail, is_own) in cases {
        let case = format!("{deleted:?} {detail:?}");
        let mut device = Device::new();
        device.page(&asking("bob"));
        let asked = device.viewer.deleting.begin(deleted, drop);
        let told = if is_own { Vec::new() } else { vec![EventKind::MessageDeleted] };
        assert_eq!(kinds(&device.feed(detail.clone())), told, "{case}");
        // The request has ended.
        drop(asked);
        let mut other = Device { viewer: device.viewer, ..Device::new() };
        other.page(&asking("bob"));
        assert_eq!(kinds(&other.feed(detail)), [EventKind::MessageDeleted], "{case}");
    }
}

/// What an event tells of a deletion: the conversation, the type, and the positions of messages.
type Told = (String, MessageDeleteType, Vec<i64>);

/// All messages with a user are gone.
fn all(id: &str) -> Told {
    (id.to_owned(), MessageDeleteType::ConversationAllMessagesDeleted, Vec::new())
}

/// The second message.
fn second() -> MessageEntry {
    MessageEntry { seq: 2, n: 2, message_id: 8, client_key: vec![4; 16].into(), ..asking("bob") }
}

fn gone(events: &[Event]) -> Vec<Told> {
    let of = |event: &Event| match event {
        Event::MessageDeleted(event) => {
            let is_all = event.message_delete_type() != MessageDeleteType::MessageListDeleted;
            assert_eq!(event.is_delete_conversation_all_message, is_all);
            let seqs = event.message_list.iter().map(|message| message.message_seq).collect();
            Some((event.conversation_id.clone(), event.message_delete_type(), seqs))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// This device has seen the first message, and the other one the second, too. Both delete all that they have seen.
#[test]
fn what_another_device_deletes_beyond_is_news() {
    // How far the feed has got at each step, and whether that is news.
    type Told<'t> = &'t [(u64, bool)];
    let cases: [(u64, bool, Told<'_>); 5] = [
        (1, true, &[(2, true)]),
        (1, true, &[(1, false), (2, true)]),
        (2, true, &[(2, false)]),
        // The device does not have the second message.
        (1, false, &[(2, false)]),
        (0, true, &[(1, true), (2, true)]),
    ];
    for (own_seq, has_second, steps) in cases {
        let mut device = Device::new();
        device.page(&asking("bob"));
        if has_second {
            device.page(&second());
        }
        let own = device.viewer.deleting.begin(Deleted::Conversation(Name::from(&peer()), own_seq), drop);
        for (cleared_seq, is_news) in steps {
            let told = gone(&device.feed(cleared_to(*cleared_seq)));
            let expected = if *is_news { vec![all("bob")] } else { Vec::new() };
            assert_eq!(told, expected, "{own_seq} {has_second} {steps:?} {cleared_seq}");
        }
        for seq in [1, 2] {
            assert!(message::held(&device.db, 1, seq).unwrap().is_none());
        }
        let late: Result<(), Error> = Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "late"));
        assert!(own.done(late).is_ok(), "{own_seq} {steps:?}");
    }
}

/// This device deletes all messages. It hears of the end of that before the answer, and then of another deletion.
#[test]
fn what_another_device_deletes_after_the_end_of_a_deletion_of_everything_is_news() {
    let everything = |deletion_number| Detail::AllCleared(AllCleared { deletion_number });
    let mut device = Device::new();
    device.page(&asking("bob"));
    let own = device.viewer.deleting.begin(Deleted::All(7), drop);
    for detail in [cleared(), everything(7)] {
        assert!(gone(&device.feed(detail)).is_empty());
    }
    device.page(&second());
    assert_eq!(gone(&device.feed(cleared_to(2))), [all("bob")]);
    let told: Told = (String::new(), MessageDeleteType::AllConversationMessagesDeleted, Vec::new());
    assert_eq!(gone(&device.feed(everything(8))), [told]);
    drop(own);
}

/// Another device has deleted a part of what this one wants to delete, and the request of this one fails.
#[test]
fn what_is_gone_is_told_when_the_own_request_has_failed() {
    let from = |id: &str, messages: Vec<Message>| Gone { name: Name::new(0, id), messages };
    let one = |message_seq| vec![Message { message_seq, ..Message::default() }];
    let mut device = Device::new();
    let what = vec![from("bob", one(1)), from("bob", one(2)), from("cem", Vec::new()), from("dan", Vec::new())];
    let settle = vec![Settle::Local(Box::new(Local::Gone(what)))];
    let events = device.run(Job { settle, ..Job::default() });
    let two: Told = ("bob".to_owned(), MessageDeleteType::MessageListDeleted, vec![1, 2]);
    assert_eq!(gone(&events), [two, all("cem"), all("dan")]);
}

/// A restored backup begins an epoch, and its first sync reads the feed from the beginning.
#[test]
fn what_a_new_epoch_tells_again_is_no_news() {
    let mut device = Device::new();
    for is_again in [true, false] {
        if is_again {
            device.change(Change::DropAll { epoch: Bytes::new() });
        }
        // The process may end before the sync does.
        device.recent.clear();
        for (detail, kind) in [
            (read(peer(), true), EventKind::MessageReceiptChanged),
            (read_all(2, 1), EventKind::ConversationMessageReceiptChanged),
            (deletion(), EventKind::MessageDeleted),
            (Detail::AllCleared(AllCleared::default()), EventKind::MessageDeleted),
        ] {
            device.page(&asking("bob"));
            let told = if is_again { Vec::new() } else { vec![kind] };
            let detail = match detail {
                // A mark is news only if it moves.
                Detail::ConversationReceipt(entry) if !is_again => {
                    Detail::ConversationReceipt(ConversationReceiptEntry { own_seq: 2, ..entry })
                }
                detail => detail,
            };
            assert_eq!(kinds(&device.feed(detail.clone())), told, "{is_again} {detail:?}");
            device.db.execute("DELETE FROM hidden", []).unwrap();
        }
        device.change(Change::Sweep);
    }
}
