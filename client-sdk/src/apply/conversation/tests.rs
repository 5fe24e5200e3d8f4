use prost::Message as _;
use rusqlite::Connection;
use zim_protocol::{ConversationEvent, Event, Message, MessageEntry, MessageFlag, MessageType};

use crate::apply::{Edit, Job, Recent, Settle, Viewer, apply};
use crate::engine::{Batch, Change, Saved, State};
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
