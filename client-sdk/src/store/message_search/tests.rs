use std::collections::BTreeMap;

use proptest::prelude::*;
use zim_protocol::{CustomMessage, FileMessage, MessageEntry, MultipleMessage, TextMessage, TextMessageLiteInfo};

use super::*;
use crate::store::{conversation, file, message};

const TEXTS: [&str; 8] =
    ["", "Lunch on Monday", "lunch", "我们明天中午开会", "STRASSE", "straße 明天", "a", "No match: %_\"'"];
const KEYWORDS: [&str; 9] = ["lunch", "on", "n", "明天", "明", "STRASSE", "ß", "\"'", "zebra"];
const SENDERS: [&str; 3] = ["ann", "bob", "Bob"];

/// A message as the test stores it.
#[derive(Clone, Debug)]
struct Sent {
    conversation: i64,
    seq: u64,
    ts: i64,
    sender: usize,
    kind: i32,
    subtype: i64,
    text: usize,
}

fn content(kind: i32, subtype: i64, text: &str) -> Bytes {
    let text = text.to_owned();
    let body = match MessageType::try_from(kind).unwrap() {
        MessageType::Text => Body::Text(TextMessage { message: text }),
        MessageType::File => Body::File(Box::new(FileMessage { file_name: text, ..FileMessage::default() })),
        MessageType::Custom => {
            Body::Custom(CustomMessage {
                message: "lunch 明天".to_owned(), searched_content: text, sub_type: subtype
            })
        }
        MessageType::Multiple => {
            let part = |message: String| MessageLiteInfo {
                r#type: MessageType::Text as i32,
                body: Some(message_lite_info::Body::Text(TextMessageLiteInfo { message })),
            };
            let message_info_list = vec![part("lun".to_owned()), part(text)];
            Body::Multiple(MultipleMessage { message_info_list, ..MultipleMessage::default() })
        }
        _ => Body::Revoke(Box::default()),
    };
    Message { body: Some(body), ..Message::default() }.encode_to_vec().into()
}

impl Sent {
    fn message_id(&self) -> i64 {
        self.conversation * 1_000 + i64::try_from(self.seq).unwrap()
    }

    fn entry(&self) -> MessageEntry {
        MessageEntry {
            seq: self.seq,
            message_id: self.message_id(),
            sender: SENDERS[self.sender].to_owned(),
            ts: self.ts,
            kind: self.kind,
            content: content(self.kind, self.subtype, TEXTS[self.text]),
            ..MessageEntry::default()
        }
    }

    fn matches(&self, query: &Query) -> bool {
        let texts: &[&str] = if self.kind == MessageType::Multiple as i32 { &["lun"] } else { &[] };
        let texts = [texts, &[TEXTS[self.text]]].concat();
        self.kind != REVOKE
            && search::contain(&texts, &query.keywords)
            && (query.kinds.is_empty() || query.kinds.contains(&self.kind))
            && (query.subtypes.is_empty() || self.kind != CUSTOM || query.subtypes.contains(&self.subtype))
            && (query.senders.is_empty() || query.senders.iter().any(|sender| sender == SENDERS[self.sender]))
            && query.is_in_time(self.ts)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Store(Sent),
    Revoke(i64, u64),
    Edit(i64, u64, usize),
    Drop(i64),
    DropAll,
    Index(usize),
}

fn kinds() -> impl Strategy<Value = i32> {
    let kinds = [MessageType::Text, MessageType::File, MessageType::Custom, MessageType::Multiple];
    proptest::sample::select(kinds.map(|kind| kind as i32).to_vec())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sent = (1..3_i64, 1..12_u64, 0..6_i64, 0..SENDERS.len(), kinds(), 0..3_i64, 0..TEXTS.len());
    let sent = sent.prop_map(|(conversation, seq, ts, sender, kind, subtype, text)| Sent {
        conversation,
        seq,
        ts,
        sender,
        kind,
        subtype,
        text,
    });
    let step = prop_oneof![
        12 => sent.prop_map(Step::Store),
        1 => (1..3_i64, 1..12_u64).prop_map(|(conversation, seq)| Step::Revoke(conversation, seq)),
        2 => (1..3_i64, 1..12_u64, 0..TEXTS.len()).prop_map(|(conversation, seq, text)| Step::Edit(conversation, seq, text)),
        1 => (1..3_i64).prop_map(Step::Drop),
        1 => Just(Step::DropAll),
        3 => (1..5_usize).prop_map(Step::Index),
    ];
    proptest::collection::vec(step, 0..60)
}

fn queries() -> impl Strategy<Value = Query> {
    let keywords = proptest::collection::vec(proptest::sample::select(KEYWORDS.to_vec()), 0..3);
    let senders = proptest::collection::vec(proptest::sample::select(SENDERS.to_vec()), 0..2);
    let times = (proptest::option::weighted(0.3, 0..6_i64), proptest::option::weighted(0.3, 1..6_i64));
    let types = (proptest::collection::vec(kinds(), 0..2), proptest::collection::vec(0..3_i64, 0..2));
    (keywords, senders, types, times).prop_map(|(keywords, senders, (kinds, subtypes), (start, end))| Query {
        keywords: keywords.into_iter().map(str::to_owned).collect(),
        kinds,
        subtypes,
        senders: senders.into_iter().map(str::to_owned).collect(),
        start: start.unwrap_or(0),
        end: end.unwrap_or(0),
    })
}

fn run(db: &Connection, there: &mut BTreeMap<(i64, u64), Sent>, step: Step) {
    match step {
        Step::Store(sent) => {
            message::store(db, sent.conversation, "me", &sent.entry()).unwrap();
            // A message that was revoked stays so, whatever an older page has.
            if there.get(&(sent.conversation, sent.seq)).is_some_and(|before| before.kind == REVOKE) {
                return;
            }
            // Neither the sender nor the conversation of a stored message changes.
            let sender = there.get(&(sent.conversation, sent.seq)).map_or(sent.sender, |before| before.sender);
            there.insert((sent.conversation, sent.seq), Sent { sender, ..sent });
        }
        Step::Revoke(conversation, seq) => {
            if let Some(sent) = there.get_mut(&(conversation, seq)) {
                sent.kind = REVOKE;
                assert!(message::change(db, conversation, "me", &sent.entry()).unwrap());
            }
        }
        Step::Edit(conversation, seq, text) => {
            if let Some(sent) = there.get_mut(&(conversation, seq)).filter(|sent| sent.kind != REVOKE) {
                sent.text = text;
                assert!(message::change(db, conversation, "me", &sent.entry()).unwrap());
            }
        }
        Step::Drop(conversation) => {
            message::drop_stored(db, conversation).unwrap();
            there.retain(|(of, _), _| *of != conversation);
        }
        Step::DropAll => {
            conversation::drop_all(db).unwrap();
            there.clear();
        }
        Step::Index(count) => drop(index(db, count).unwrap()),
    }
}

fn ids(found: &[Found]) -> Vec<i64> {
    let mut ids: Vec<i64> = found.iter().map(|found| found.row.message_id).collect();
    ids.sort_unstable();
    ids
}

/// All pages, of two messages each.
fn pages(db: &Connection, query: &Query, conversation: Option<i64>, is_ascending: bool) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    loop {
        let place = all.last().map(|last: &Found| {
            let name = conversation::name(db, last.conversation).unwrap();
            anchor(db, &last.row.clone().into_message("me", &name.to_ref()), None, is_ascending).unwrap()
        });
        let next = page(db, query, conversation, (place, is_ascending), 2).unwrap();
        if next.is_empty() {
            return all;
        }
        all.extend(next);
    }
}

fn memory() -> Connection {
    let db = file::memory().unwrap();
    for name in ["one", "two"] {
        conversation::add(&db, &Name::new(0, name)).unwrap();
    }
    db
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Messages come, change and go, and are indexed at any time; a search finds what a look at all of them finds.
    #[test]
    fn a_search_finds_exactly_the_matching_messages(
        steps in steps(),
        queries in proptest::collection::vec(queries(), 1..6),
    ) {
        let db = memory();
        let mut there = BTreeMap::new();
        for step in steps {
            run(&db, &mut there, step);
        }
        while index(&db, 3).unwrap() {}
        prop_assert!(!is_behind(&db).unwrap());
        for query in queries {
            for conversation in [None, Some(1), Some(2)] {
                let matching = there.values().filter(|sent| conversation.is_none_or(|of| sent.conversation == of));
                let matching: Vec<&Sent> = matching.filter(|sent| sent.matches(&query)).collect();
                let mut expected: Vec<i64> = matching.iter().map(|sent| sent.message_id()).collect();
                expected.sort_unstable();
                let newest_first = pages(&db, &query, conversation, false);
                prop_assert_eq!(ids(&newest_first), &*expected, "{:?} in {:?}", &query, conversation);
                // Within a millisecond, the messages of a conversation are in the order of the conversation.
                let is_before = |one: &Found, next: &Found| {
                    one.row.ts > next.row.ts
                        || one.row.ts == next.row.ts
                            && (one.conversation != next.conversation || one.row.seq > next.row.seq)
                };
                prop_assert!(newest_first.is_sorted_by(is_before));
                let oldest_first = pages(&db, &query, conversation, true);
                prop_assert_eq!(ids(&oldest_first), expected);
                prop_assert!(oldest_first.is_sorted_by(|one, next| one.row.ts <= next.row.ts));
                if let Some(conversation) = conversation {
                    let counted = count(&db, &query, conversation).unwrap();
                    prop_assert_eq!(counted, i64::try_from(matching.len()).unwrap());
                }
            }
            // Page by page.
            let newest = |conversation| {
                let of = there.values().filter(|sent| sent.conversation == conversation && sent.matches(&query));
                of.map(|sent| sent.ts).max().map(|ts| (ts, conversation))
            };
            let expected: Vec<(i64, i64)> = [1, 2].into_iter().filter_map(newest).collect();
            let (mut found, mut below) = (Vec::new(), None);
            while let Some((conversation, doc)) = conversations(&db, &query, below, None, 1).unwrap().pop() {
                found.push((doc / SCALE, conversation));
                below = Some(doc);
            }
            prop_assert!(found.is_sorted_by(|one, next| one.0 >= next.0));
            found.sort_unstable_by_key(|(_, conversation)| *conversation);
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn more_messages_of_a_millisecond_than_it_has_places_are_all_found() {
    let db = memory();
    let sent = |seq: u64, ts| Sent {
        conversation: 1,
        seq,
        ts,
        sender: 0,
        kind: MessageType::Text as i32,
        subtype: 0,
        text: 2,
    };
    for seq in 1..=200 {
        message::store(&db, 1, "me", &sent(seq, 10).entry()).unwrap();
        if seq % 70 == 0 {
            index(&db, 1_000).unwrap();
        }
    }
    message::store(&db, 1, "me", &sent(201, 100).entry()).unwrap();
    while index(&db, 1_000).unwrap() {}
    let query = Query { keywords: vec!["lunch".to_owned()], end: 10, ..Query::default() };
    assert_eq!(page(&db, &query, Some(1), (None, false), 1_000).unwrap().len(), 200);
    assert_eq!(count(&db, &query, 1).unwrap(), 200);
    let query = Query { start: 11, end: 0, ..query };
    assert_eq!(ids(&page(&db, &query, None, (None, false), 1_000).unwrap()), [1_201]);
}

#[test]
fn what_was_revoked_leaves_the_index_at_once() {
    let db = memory();
    let mut sent =
        Sent { conversation: 1, seq: 1, ts: 1, sender: 0, kind: MessageType::Text as i32, subtype: 0, text: 2 };
    message::store(&db, 1, "me", &sent.entry()).unwrap();
    index(&db, 10).unwrap();
    let documents = |db: &Connection| -> i64 {
        let keyword = search::phrase_in_threes("lunch").unwrap();
        let sql = "SELECT COUNT(*) FROM message_search WHERE message_search MATCH ?1";
        db.query_row(sql, [keyword], |row| row.get(0)).unwrap()
    };
    assert_eq!(documents(&db), 1);
    sent.kind = REVOKE;
    message::change(&db, 1, "me", &sent.entry()).unwrap();
    assert_eq!(documents(&db), 0);
}

#[test]
fn messages_are_indexed_again_when_texts_are_folded_in_another_way() {
    let mut db = memory();
    let sent = Sent { conversation: 1, seq: 1, ts: 1, sender: 0, kind: MessageType::Text as i32, subtype: 0, text: 2 };
    message::store(&db, 1, "me", &sent.entry()).unwrap();
    index(&db, 10).unwrap();
    assert!(!is_behind(&db).unwrap());
    db.execute("UPDATE device SET folding = 0", []).unwrap();
    search::rebuild(&mut db).unwrap();
    assert!(is_behind(&db).unwrap());
    index(&db, 10).unwrap();
    let query = Query { keywords: vec!["lunch".to_owned()], ..Query::default() };
    assert_eq!(page(&db, &query, None, (None, false), 10).unwrap().len(), 1);
}

#[test]
fn messages_that_wait_are_counted() {
    let db = memory();
    let sent =
        |seq| Sent { conversation: 1, seq, ts: 1, sender: 0, kind: MessageType::Text as i32, subtype: 0, text: 2 };
    assert_eq!(waiting(&db).unwrap(), 0);
    for seq in 1..=3 {
        message::store(&db, 1, "me", &sent(seq).entry()).unwrap();
    }
    assert_eq!(waiting(&db).unwrap(), 3);
    index(&db, 10).unwrap();
    assert_eq!(waiting(&db).unwrap(), 0);
    // One that was indexed has changed, and another one is new.
    message::change(&db, 1, "me", &Sent { text: 3, ..sent(2) }.entry()).unwrap();
    message::store(&db, 1, "me", &sent(4).entry()).unwrap();
    assert_eq!(waiting(&db).unwrap(), 2);
}
