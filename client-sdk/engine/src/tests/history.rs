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

/// Changes overtake the head that tells of a stay, and so does the next one the head that is asked for. What the group became while the
/// user was out is in no change.
#[test]
fn what_a_group_is_comes_with_a_head_that_nothing_has_overtaken() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let groups = |changes: &[Change]| {
        let of = |change: &Change| matches!(change, Change::Head(head) if head.group.is_some());
        changes.iter().filter(|change| of(change)).count()
    };
    let (epoch, sums) = (Bytes::from_static(&[1; 16]), |rev| Some(Sums { count: 1, seq: 1, rev }));
    for is_known in [false, true] {
        let mut engine = SyncEngine::new("ann", Position { is_settled: true, ..Position::default() }, []);
        engine.online(&epoch);
        let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
        let earlier = ConversationHead { from_rev: 1, end_seq: 1, end_rev: 2, n: 1, ..entered() };
        let first = match is_known {
            true => SyncResult { heads: vec![earlier], sums: sums(2), ..SyncResult::default() },
            false => SyncResult { sums: Some(Sums::default()), ..SyncResult::default() },
        };
        engine.synced(ticket, SyncResult { epoch: epoch.clone(), ..first });
        // The app wrote to the group before its user was a member.
        engine.open(&crew);
        // It lacks changes of the earlier stay, or is told that something waits.
        engine.dirtied(&Dirty { conversations: vec![crew.to_ref()], ..Dirty::default() });
        let (pull, _) = pulls(&mut engine).remove(0);
        let ends = Page { through_seq: 1, end_seq: 1, through_rev: 7, end_rev: 7, ..Page::default() };
        engine.page(pull, Page { messages: vec![message(1)], ..ends });
        engine.push(feed(ConversationHead { end_seq: 1, n: 1, ..entered() }, 1), Origin::Other);
        let taken = engine.take();
        assert_eq!(groups(&taken.batch.changes), 0, "{is_known}: it may be older than what was applied");
        let Some(Request::Sync { ticket, .. }) = taken.requests.last().cloned() else { panic!("no sync: {is_known}") };
        let head = |end_rev| ConversationHead { end_seq: 1, n: 1, end_rev, ..entered() };
        let answer = |rev| SyncResult {
            epoch: epoch.clone(),
            pos: 1,
            heads: vec![head(rev)],
            sums: sums(rev),
            ..SyncResult::default()
        };
        engine.push(Push { conversation: Some(crew.to_ref()), ..change(8, 1) }, Origin::Other);
        engine.synced(ticket, answer(7));
        let taken = engine.take();
        assert_eq!(groups(&taken.batch.changes), 0, "{is_known}");
        let Some(Request::Sync { ticket, .. }) = taken.requests.last().cloned() else { panic!("no sync: {is_known}") };
        engine.synced(ticket, answer(8));
        let taken = engine.take();
        assert_eq!(groups(&taken.batch.changes), 1, "{is_known}");
        // It was asked for once more meanwhile, and then no more.
        let Some(Request::Sync { ticket, .. }) = taken.requests.last().cloned() else { panic!("no sync: {is_known}") };
        engine.synced(ticket, answer(8));
        let requests = engine.take().requests;
        assert!(requests.is_empty(), "{is_known}: {requests:?}");
    }
}

/// The app ends before a head says what the group is, and members enter meanwhile.
#[test]
fn a_restart_before_the_group_is_known_passes_over_no_changes() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let epoch = Bytes::from_static(&[1; 16]);
    let saved = State { known: true, lacks_group: true, rev: 7, head_rev: 7, ..State::default() };
    let saved = State { from_seq: 1, from_rev: 5, ..saved };
    let position = Position { is_settled: true, epoch: epoch.clone(), ..Position::default() };
    let mut engine = SyncEngine::new("ann", position, [(crew, saved)]);
    engine.online(&epoch);
    let Some(Request::Sync { ticket, request }) = engine.take().requests.pop() else { panic!("no sync") };
    assert_eq!(request.sums, None, "the head comes also if nothing has moved");
    let heads = vec![ConversationHead { end_rev: 10, ..entered() }];
    let sums = Some(Sums { count: 1, seq: 0, rev: 10 });
    engine.synced(ticket, SyncResult { epoch, heads, sums, ..SyncResult::default() });
    let taken = engine.take();
    let has_group = |change: &Change| matches!(change, Change::Head(head) if head.group.is_some());
    assert!(taken.batch.changes.iter().any(has_group));
    let [Request::Pull { request, .. }] = taken.requests.as_slice() else { panic!("{:?}", taken.requests) };
    assert_eq!(request.after_rev, 7);
}

/// The server's clock is set back between two stays without messages.
#[test]
fn a_return_has_the_time_of_its_head() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let saved = State { known: true, rev: 2, head_rev: 2, from_seq: 1, from_rev: 1, last_ts: 9, ..State::default() };
    for (from_rev, last_ts) in [(1, 9), (5, 4)] {
        let mut engine = device(3);
        engine.restore(engine.position().clone(), [(crew.clone(), saved.clone())]);
        engine.push(feed(ConversationHead { from_rev, last_ts: 4, ..entered() }, 1), Origin::Other);
        assert_eq!(engine.state(&crew).unwrap().last_ts, last_ts, "from {from_rev}");
    }
}
