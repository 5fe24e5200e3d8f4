use bytes::Bytes;
use prost::Message as _;
use rusqlite::Connection;
use zim_protocol::{
    ConversationEvent, ConversationSetting, Event, Message, MessageEntry, MessageFlag, MessageType, UserFullInfo,
    UserInfo, feed_entry,
};

use crate::apply::{Edit, Job, Recent, Settle, Viewer, apply};
use crate::engine::{Batch, Change, Origin, Saved, State, Tally};
use crate::store::{self, memory};
use crate::types::Name;

fn bob() -> Name {
    Name::new(0, "bob")
}

fn saved(state: State) -> Saved {
    Saved { name: bob(), state, held: Vec::new() }
}

/// Applies changes and a state of the conversation with Bob; returns what the app is told of conversations.
fn run(
    db: &Connection,
    recent: &mut Recent,
    changes: Vec<Change>,
    state: Option<State>,
) -> Vec<(ConversationEvent, String)> {
    let batch = Batch { changes, states: state.map(saved).into_iter().collect(), ..Batch::default() };
    let applied = apply(db, &Viewer::in_test("ann", 10), recent, Job { batch, ..Job::default() }).unwrap();
    let mut told = Vec::new();
    for (_, event) in applied.events {
        if let Event::ConversationChanged(event) = event {
            told.extend(
                event.info_list.into_iter().map(|info| (info.event(), info.conversation.unwrap().conversation_id)),
            );
        }
    }
    told
}

fn first_message() -> Change {
    let entry = MessageEntry {
        seq: 1,
        n: 1,
        message_id: 7,
        sender: "bob".into(),
        ts: 5,
        kind: MessageType::Text as i32,
        flags: MessageFlag::Counted as u32,
        client_key: vec![3; 16].into(),
        content: Message::text("hi").encode_to_vec().into(),
        ..MessageEntry::default()
    };
    Change::Messages { name: bob(), entries: vec![entry], raise_after: 0, own_after: 0 }
}

#[test]
fn a_conversation_that_the_server_has_no_more_is_told_once() {
    let gone = [(ConversationEvent::Deleted, "bob".to_owned())];
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let there = State { head_seq: 1, seq: 1, known: true, last_ts: 5, ..State::default() };
    let added = run(&db, &mut recent, vec![first_message()], Some(there));
    assert_eq!(added, [(ConversationEvent::Added, "bob".to_owned())]);
    // What a full sync does at its end.
    let told = run(&db, &mut recent, vec![Change::Drop(bob()), Change::Sweep], Some(State::default()));
    assert_eq!(told, gone);
    assert_eq!(store::conversation::id(&db, &bob()).unwrap(), None);
    assert!(run(&db, &mut recent, vec![Change::Sweep], None).is_empty());
}

#[test]
fn an_empty_conversation_that_is_not_touched_is_told_once_as_well() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let id = store::conversation::add(&db, &bob()).unwrap();
    db.execute("UPDATE conversation SET is_listed = 1 WHERE id = ?1", [id]).unwrap();
    let told = run(&db, &mut recent, vec![Change::Sweep], None);
    assert_eq!(told, [(ConversationEvent::Deleted, "bob".to_owned())]);
}

/// Only this device had the conversation when it asked the server to delete all, and the first message comes before the answer.
#[test]
fn deleting_all_keeps_a_conversation_that_the_server_has_got_meanwhile() {
    for is_on_server in [true, false] {
        let (db, mut recent) = (memory().unwrap(), Recent::default());
        let draft = Settle::Edit(Edit::Draft { name: bob(), draft: "a draft".to_owned() });
        let edit = |recent: &mut Recent, settle| {
            apply(&db, &Viewer::in_test("ann", 10), recent, Job { settle: vec![settle], ..Job::default() }).unwrap();
        };
        edit(&mut recent, draft);
        let seen = store::conversation_setting::listed(&db).unwrap();
        assert_eq!(seen, [(bob(), None)]);
        if is_on_server {
            let there = State { head_seq: 1, seq: 1, known: true, last_ts: 5, ..State::default() };
            run(&db, &mut recent, vec![first_message()], Some(there));
        }
        edit(&mut recent, Settle::Edit(Edit::HideAll { seen: Some(seen) }));
        let left = store::conversation_setting::listed(&db).unwrap();
        let expected = if is_on_server { vec![(bob(), Some(2))] } else { Vec::new() };
        assert_eq!(left, expected);
    }
}

/// The first message of a conversation that only this device had is stored while the conversation is deleted. The server has it then, and
/// is asked to delete it; hidden on this device alone, it would stay in the lists of the user's other devices.
#[test]
fn a_conversation_that_the_server_has_got_meanwhile_is_not_deleted_here_alone() {
    for (is_everywhere, is_left) in [(true, true), (false, false)] {
        let (db, mut recent) = (memory().unwrap(), Recent::default());
        let there = State { head_seq: 1, seq: 1, known: true, last_ts: 5, ..State::default() };
        run(&db, &mut recent, vec![first_message()], Some(there));
        let settle = vec![Settle::Edit(Edit::Hide { name: bob(), is_everywhere })];
        apply(&db, &Viewer::in_test("ann", 10), &mut recent, Job { settle, ..Job::default() }).unwrap();
        let left = store::conversation_setting::listed(&db).unwrap();
        assert_eq!(!left.is_empty(), is_left, "{is_everywhere}");
    }
}

/// An epoch has begun while the answer to the deletion was on its way, and the conversation has fewer messages in it.
#[test]
fn a_deletion_in_an_ended_epoch_hides_nothing_of_the_next() {
    for below in [2, 12] {
        let (db, mut recent) = (memory().unwrap(), Recent::default());
        let there = State { head_seq: 1, seq: 1, known: true, last_ts: 5, ..State::default() };
        run(&db, &mut recent, vec![first_message()], Some(there.clone()));
        let settle = vec![Settle::Edit(Edit::HideBelow(bob(), below))];
        apply(&db, &Viewer::in_test("ann", 10), &mut recent, Job { settle, ..Job::default() }).unwrap();
        assert_eq!(store::conversation_setting::listed(&db).unwrap(), []);
        run(&db, &mut recent, Vec::new(), Some(State { head_seq: 2, seq: 2, ..there }));
        assert_eq!(store::conversation_setting::listed(&db).unwrap(), [(bob(), Some(3))], "below {below}");
    }
}

/// The deletion is answered, and its entry of the feed has not come when an epoch begins in which nobody has deleted anything.
#[test]
fn a_deletion_that_a_restored_server_does_not_know_is_undone() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let there = counted(1, 0);
    run(&db, &mut recent, vec![message(1, false)], Some(there.clone()));
    let settle = vec![Settle::Edit(Edit::HideBelow(bob(), 2))];
    apply(&db, &Viewer::in_test("ann", 10), &mut recent, Job { settle, ..Job::default() }).unwrap();
    run(&db, &mut recent, vec![Change::DropAll { epoch: Bytes::new() }], None);
    let told = run(&db, &mut recent, vec![message(1, false), Change::Sweep], Some(there));
    assert_eq!(told, [(ConversationEvent::Added, "bob".to_owned())]);
    assert_eq!(store::conversation_setting::listed(&db).unwrap(), [(bob(), Some(2))]);
}

/// The app ends between the head that tells of a stay and the one that says what the group is.
#[test]
fn a_restart_keeps_that_a_head_came_and_what_it_did_not_say() {
    for (known, lacks_group, expected) in [
        (false, false, (false, false)),
        (true, false, (true, false)),
        (true, true, (true, true)),
        (false, true, (false, false)),
    ] {
        let (db, mut recent) = (memory().unwrap(), Recent::default());
        let state = State { rev: 7, head_rev: 7, known, lacks_group, ..State::default() };
        run(&db, &mut recent, Vec::new(), Some(state));
        let (_, states) = store::conversation::load(&db).unwrap();
        let found: Vec<(bool, bool)> = states.iter().map(|(_, state)| (state.known, state.lacks_group)).collect();
        assert_eq!(found, [expected], "{known} {lacks_group}");
    }
}

/// A message of Bob, which may mention Ann.
fn message(seq: u64, is_mention: bool) -> Change {
    let mentioned_user_ids = if is_mention { vec!["ann".to_owned()] } else { Vec::new() };
    let entry = MessageEntry {
        seq,
        n: seq,
        message_id: 100 + i64::try_from(seq).unwrap(),
        sender: "bob".into(),
        ts: 1_000 + i64::try_from(seq).unwrap(),
        kind: MessageType::Text as i32,
        flags: MessageFlag::Counted as u32,
        client_key: vec![3; 16].into(),
        content: Message { mentioned_user_ids, ..Message::text(seq.to_string()) }.encode_to_vec().into(),
        ..MessageEntry::default()
    };
    Change::Messages { name: bob(), entries: vec![entry], raise_after: u64::MAX, own_after: u64::MAX }
}

/// Bob's messages up to a position are known, and those up to `read_seq` are read.
fn counted(head_seq: u64, read_seq: u64) -> State {
    let tally = Tally { n: head_seq, base_seq: read_seq, base_n: read_seq, read_seq, ..Tally::default() };
    State { seq: head_seq, head_seq, known: true, last_ts: 1_000, tally, ..State::default() }
}

/// Most of a conversation is not read again when messages arrive. It is as its rows say all the same.
#[test]
fn a_conversation_that_gets_messages_is_told_as_its_rows_are() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let marked = ConversationSetting {
        conversation: Some(bob().to_ref()),
        pinned_time: 7,
        notification_status: 1,
        ..ConversationSetting::default()
    };
    let named = UserInfo { user_id: "bob".into(), user_name: "Bob".into(), ..UserInfo::default() };
    let named = UserFullInfo { base_info: Some(named), ..UserFullInfo::default() };
    let steps = [
        // (changes, settled, the state), and then (unread, mentions, the last message, the name, pinned).
        ((vec![message(1, false)], None, counted(1, 0)), (1, 0, "1", "", false)),
        ((vec![message(2, false)], None, counted(2, 0)), (2, 0, "2", "", false)),
        ((vec![message(3, true)], None, counted(3, 0)), (3, 1, "3", "", false)),
        ((vec![message(4, false)], None, counted(4, 0)), (4, 1, "4", "", false)),
        // Read up to after the mention.
        ((vec![], None, counted(4, 3)), (1, 0, "4", "", false)),
        ((vec![message(5, false)], None, counted(5, 3)), (2, 0, "5", "", false)),
        ((vec![], None, counted(5, 5)), (0, 0, "5", "", false)),
        // All at once.
        ((vec![message(6, false)], Some(Settle::Users(vec![named])), counted(6, 5)), (1, 0, "6", "Bob", false)),
        ((vec![message(7, false)], None, counted(7, 5)), (2, 0, "7", "Bob", false)),
        ((vec![setting(marked), message(8, false)], None, counted(8, 5)), (3, 0, "8", "Bob", true)),
        ((vec![message(9, true), message(10, false)], None, counted(10, 5)), (5, 1, "10", "Bob", true)),
    ];
    for ((changes, settled, state), expected) in steps {
        let batch = Batch { changes, states: vec![saved(state)], ..Batch::default() };
        let job = Job { batch, settle: settled.into_iter().collect(), ..Job::default() };
        let applied = apply(&db, &Viewer::in_test("ann", 10), &mut recent, job).unwrap();
        let told = applied.events.into_iter().find_map(|(_, event)| match event {
            Event::ConversationChanged(event) => event.info_list.into_iter().next()?.conversation,
            _ => None,
        });
        let told = told.unwrap();
        let last = told.last_message.as_ref().and_then(Message::as_text).unwrap_or_default();
        let mentions = told.mentioned_info_list.len();
        let shown = (told.unread_message_count, mentions, last, told.conversation_name.as_str(), told.is_pinned);
        assert_eq!(shown, expected);
        let id = store::conversation::id(&db, &bob()).unwrap().unwrap();
        assert_eq!(store::conversation::shown(&db, id, "ann").unwrap(), Some(told));
    }
}

fn setting(setting: ConversationSetting) -> Change {
    Change::Own { detail: Box::new(feed_entry::Detail::Setting(setting)), origin: Origin::Other }
}

/// The list is in the order of the last messages also while nothing but messages changes.
#[test]
fn a_conversation_that_gets_a_message_moves_in_the_list() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let mut places = Vec::new();
    for seq in 1..=3 {
        run(&db, &mut recent, vec![message(seq, false)], Some(counted(seq, 0)));
        let place = db.query_row("SELECT order_key FROM conversation", [], |row| row.get::<_, i64>(0));
        places.push(place.unwrap());
    }
    assert_eq!(places, [1_001, 1_002, 1_003]);
}

/// The server tells all settings whenever one of them changes, with a deletion that is long done.
#[test]
fn a_setting_does_not_delete_again_what_a_draft_has_brought_back() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let listed = |db: &Connection| store::conversation_setting::listed(db).unwrap().len();
    let pinned_and_deleted = |pinned_time| {
        let conversation = Some(bob().to_ref());
        setting(ConversationSetting { conversation, pinned_time, deleted_below: 2, ..ConversationSetting::default() })
    };
    run(&db, &mut recent, vec![message(1, false)], Some(counted(1, 0)));
    run(&db, &mut recent, vec![pinned_and_deleted(0)], None);
    assert_eq!(listed(&db), 0);
    let settle = vec![Settle::Edit(Edit::Draft { name: bob(), draft: "well".to_owned() })];
    apply(&db, &Viewer::in_test("ann", 10), &mut recent, Job { settle, ..Job::default() }).unwrap();
    assert_eq!(listed(&db), 1);
    run(&db, &mut recent, vec![pinned_and_deleted(7)], None);
    assert_eq!(listed(&db), 1, "the deletion was before the draft");
}
