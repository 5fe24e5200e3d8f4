use super::*;

/// The hint that something waits may overtake the head of the group to which the user has returned.
#[test]
fn what_a_pull_brings_of_before_the_user_entered_is_history() {
    let cases = [
        ((0, 0), vec![2, 3]),
        ((1, 3), vec![3]),
        ((1, 4), vec![]),
        // The second is of the stay before, and the device has missed it.
        ((3, 4), vec![2]),
    ];
    for ((history_from, entered_seq), expected) in cases {
        let mut engine = device(1);
        let (pull, _) = pulls(&mut engine).remove(0);
        let messages = vec![message(2), message(3)];
        engine.page(pull, Page { messages, through_seq: 3, end_seq: 3, entered_seq, history_from, ..Page::default() });
        assert_eq!(raised(&mut engine), expected, "{history_from} {entered_seq}");
    }
}

/// The head, which says what counts as unread, may come later.
#[test]
fn what_a_pull_brings_of_before_the_user_entered_is_not_unread() {
    for (entered_seq, unread) in [(0, 6), (5, 2), (6, 1), (7, 0)] {
        let mut engine = device(3);
        // Others are missing before it.
        engine.push(messages(6, 6), Origin::Other);
        let (pull, _) = pulls(&mut engine).remove(0);
        let messages = (4..=6).map(message).collect();
        engine.page(pull, Page { messages, through_seq: 6, end_seq: 6, entered_seq, ..Page::default() });
        assert_eq!(engine.state(&name()).unwrap().tally.unread(), unread, "{entered_seq}");
    }
}

/// A device that knows the first message hears that its user has left and returned.
#[test]
fn a_head_leaves_history_unraised_but_not_what_was_missed_of_the_stay_before() {
    for (from_seq, seq, pulled) in [(2, 3, vec![]), (3, 1, vec![1])] {
        let saved = State { seq: 1, head_seq: 1, known: true, from_seq: 1, from_rev: 1, ..State::default() };
        let mut engine =
            SyncEngine::new("ann", Position { is_settled: true, ..Position::default() }, [(name(), saved)]);
        engine.online(&Bytes::from_static(&[1; 16]));
        let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
        let conversation = Some(name().to_ref());
        let head = ConversationHead {
            conversation,
            from_seq,
            entered_seq: 4,
            end_seq: 3,
            n: 3,
            ..ConversationHead::default()
        };
        let sums = Some(Sums { count: 1, seq: 3, rev: 0 });
        let epoch = Bytes::from_static(&[1; 16]);
        engine.synced(ticket, SyncResult { epoch, sums, heads: vec![head], ..SyncResult::default() });
        assert_eq!(engine.state(&name()).unwrap().seq, seq, "from {from_seq}");
        let asked: Vec<u64> = pulls(&mut engine).iter().map(|(_, pull)| pull.after_seq).collect();
        assert_eq!(asked, pulled, "from {from_seq}");
    }
}
