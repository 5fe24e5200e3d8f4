//! Messages, changes, heads and profiles may arrive in any order: the newest state stays.

use bytes::Bytes;
use zim_protocol::{
    ChangeEntry, ConversationHead, ConversationType, Dirty, ExpiredMessages, FeedEntry, FillResult, GroupFullInfo,
    LogKind, MessageEntry, Page, PullRequest, Push, Snapshot, Sums, SyncResult, UserFullInfo, UserInfo, UserStatus,
    change_entry, feed_entry::Detail,
};

use super::name::Name;
use super::state::{Change, Origin, Position, Request, State, Uncounted};
use super::sync_engine::SyncEngine;

/// Groups that show their members what was said before they entered.
mod history;

fn name() -> Name {
    Name::new(ConversationType::Peer as i32, "bob")
}

fn message(seq: u64) -> MessageEntry {
    MessageEntry { seq, n: seq, sender: "bob".to_owned(), content: Bytes::from_static(b"x"), ..MessageEntry::default() }
}

/// A push of a change of the message at `seq`.
fn change(rev: u64, seq: u64) -> Push {
    let detail = Some(change_entry::Detail::Message(message(seq)));
    Push {
        log: LogKind::Changes as i32,
        conversation: Some(name().to_ref()),
        from: rev,
        to: rev,
        changes: vec![ChangeEntry { rev, detail, ..ChangeEntry::default() }],
        ..Push::default()
    }
}

/// The pulls that were requested since the last call, with their tickets.
fn pulls(engine: &mut SyncEngine) -> Vec<(u64, PullRequest)> {
    let of = |request| match request {
        Request::Pull { ticket, request } => Some((ticket, request)),
        Request::Sync { .. } => None,
    };
    engine.take().requests.into_iter().filter_map(of).collect()
}

/// A device that has raised the messages up to `seq` and knows of three, connected to a server without changes.
fn device(seq: u64) -> SyncEngine {
    let state = State { seq, head_seq: 3, known: true, ..State::default() };
    let mut engine = SyncEngine::new("ann", Position::default(), [(name(), state)]);
    engine.online(&Bytes::from_static(&[1; 16]));
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    let sums = Some(Sums { count: 1, seq: 3, rev: 0 });
    let head =
        ConversationHead { conversation: Some(name().to_ref()), end_seq: 3, n: 3, ..ConversationHead::default() };
    engine.synced(ticket, SyncResult { epoch: vec![1; 16].into(), sums, heads: vec![head], ..SyncResult::default() });
    engine
}

/// The positions of the messages that are raised since the last call.
fn raised(engine: &mut SyncEngine) -> Vec<u64> {
    let of = |change| match change {
        Change::Messages { entries, raise_after, .. } => {
            entries.iter().map(|entry| entry.seq).filter(|seq| *seq > raise_after).collect()
        }
        _ => Vec::new(),
    };
    engine.take().batch.changes.into_iter().flat_map(of).collect()
}

/// A push of the messages `from..=to`.
fn messages(from: u64, to: u64) -> Push {
    Push {
        log: LogKind::Messages as i32,
        conversation: Some(name().to_ref()),
        from,
        to,
        messages: (from..=to).map(message).collect(),
        ..Push::default()
    }
}

/// The connection ends after the first messages of a conversation were pushed and before the server has described it. Meanwhile
/// they change.
#[test]
fn changes_of_messages_that_came_before_the_head_are_pulled() {
    let mut engine = SyncEngine::new("ann", Position { is_settled: true, ..Position::default() }, []);
    engine.online(&Bytes::from_static(&[1; 16]));
    engine.push(messages(1, 4), Origin::Other);
    engine.offline();
    engine.online(&Bytes::from_static(&[1; 16]));
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    let head = ConversationHead {
        conversation: Some(name().to_ref()),
        end_seq: 5,
        end_rev: 2,
        n: 5,
        ..ConversationHead::default()
    };
    let sums = Some(Sums { count: 1, seq: 5, rev: 2 });
    engine.synced(ticket, SyncResult { epoch: vec![1; 16].into(), sums, heads: vec![head], ..SyncResult::default() });
    let asked = pulls(&mut engine);
    assert_eq!(asked.iter().map(|(_, pull)| (pull.after_seq, pull.after_rev)).collect::<Vec<_>>(), [(4, 0)]);
}

fn rev(engine: &SyncEngine) -> u64 {
    engine.state(&name()).unwrap().rev
}

/// The head of a group that the user entered with the fifth change, as the feed has it.
fn entered() -> ConversationHead {
    let conversation = Some(Name::new(ConversationType::Group as i32, "crew").to_ref());
    let group = Some(GroupFullInfo::default());
    let (from_seq, from_rev) = (1, 5);
    ConversationHead { conversation, group, from_seq, from_rev, end_rev: 5, ..ConversationHead::default() }
}

fn feed(head: ConversationHead, pos: u64) -> Push {
    let entry = FeedEntry { pos, detail: Some(Detail::Conversation(head)) };
    Push { log: LogKind::Feed as i32, from: pos, to: pos, feed: vec![entry], ..Push::default() }
}

#[test]
fn entering_a_group_that_only_this_device_knew_is_news() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let rev = |engine: &SyncEngine| engine.state(&crew).unwrap().rev;
    for is_stored in [false, true] {
        let mut engine = device(3);
        // The app wrote to the group before its user was a member.
        engine.open(&crew);
        if is_stored {
            let saved = engine.state(&crew).unwrap().clone();
            let saved = State { is_local: false, ..saved };
            engine.restore(engine.position().clone(), [(crew.clone(), saved)]);
        }
        engine.push(feed(entered(), 1), Origin::Other);
        assert_eq!(rev(&engine), 4, "the change that let them in follows");
        // Another head is no news.
        engine.push(feed(ConversationHead { end_rev: 9, ..entered() }, 2), Origin::Other);
        assert_eq!(rev(&engine), 4);
    }
    // What a device knew before its positions were reset is no news either.
    let mut engine = device(3);
    engine.push(feed(entered(), 1), Origin::Other);
    engine.audit();
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    let epoch = Bytes::from_static(&[9; 16]);
    engine.synced(ticket, SyncResult { reset: true, epoch, heads: vec![entered()], ..SyncResult::default() });
    assert_eq!(rev(&engine), 5);
}

/// An own message is pushed, its user leaves and returns, and then its answer comes: the row is dropped.
#[test]
fn an_answer_that_comes_after_its_row_was_dropped_holds_nothing() {
    let mut engine = device(3);
    let saved = engine.state(&name()).unwrap().clone();
    let saved = State { from_seq: 1, held: [(1, 3)].into_iter().collect(), ..saved };
    engine.restore(engine.position().clone(), [(name(), saved)]);
    let conversation = Some(name().to_ref());
    let returned = ConversationHead { conversation, from_seq: 4, end_seq: 3, n: 3, ..ConversationHead::default() };
    engine.push(feed(returned, 1), Origin::Other);
    let held = |engine: &SyncEngine| engine.state(&name()).unwrap().held.iter().collect::<Vec<_>>();
    for answered in [3, 4] {
        engine.answered(&name(), answered);
        assert_eq!(held(&engine), [], "{answered}");
    }
    // The one that was not there yet is pulled.
    assert!(engine.take().requests.iter().any(|request| matches!(request, Request::Pull { .. })));
}

/// A device whose first messages were stored before its connection broke learns from the head where the conversation is. The answers
/// that it gets when it sends them again do not say what others have done to them: a page does.
#[test]
fn an_answer_below_the_head_holds_nothing() {
    let mut engine = SyncEngine::new("ann", Position::default(), []);
    engine.open(&name());
    engine.online(&Bytes::from_static(&[1; 16]));
    let conversation = Some(name().to_ref());
    let head =
        ConversationHead { conversation, from_seq: 1, end_seq: 4, end_rev: 2, n: 4, ..ConversationHead::default() };
    engine.push(feed(head, 1), Origin::Other);
    for seq in 1..=4 {
        engine.answered(&name(), seq);
    }
    let held: Vec<_> = engine.state(&name()).unwrap().held.iter().collect();
    assert!(!held.iter().any(|(from, _)| *from < 4), "{held:?}");
}

/// A push may have been made before changes that this device has passed over, because it did not have the message: of a head, or of
/// the log. A pull brings the message as it is now.
#[test]
fn a_push_that_may_be_older_than_changes_holds_nothing() {
    let held = |engine: &SyncEngine| engine.state(&name()).unwrap().held.iter().collect::<Vec<_>>();
    let connected = |end_rev: u64| {
        let mut engine = SyncEngine::new("ann", Position::default(), []);
        engine.open(&name());
        engine.online(&Bytes::from_static(&[1; 16]));
        let conversation = Some(name().to_ref());
        let head =
            ConversationHead { conversation, from_seq: 1, end_seq: 2, end_rev, n: 2, ..ConversationHead::default() };
        engine.push(feed(head, 1), Origin::Other);
        engine
    };
    // Nothing has been changed.
    let mut engine = connected(0);
    engine.push(messages(1, 2), Origin::Own);
    assert_eq!(held(&engine), [(1, 2)]);
    // The head skips a change.
    let mut engine = connected(1);
    engine.push(messages(1, 2), Origin::Own);
    assert_eq!(held(&engine), []);
    assert_eq!(pulls(&mut engine).len(), 1);
    // The change overtakes the answer with the message.
    let mut engine = connected(0);
    engine.push(change(1, 2), Origin::Other);
    engine.push(messages(1, 2), Origin::Own);
    assert_eq!(held(&engine), []);
    let [(pull, _)] = pulls(&mut engine)[..] else { panic!("not one pull") };
    // The change is in a page that does not reach the message, and the pull of the rest has not begun.
    let mut behind = connected(0);
    behind.answered(&name(), 2);
    let [(first, _)] = pulls(&mut behind)[..] else { panic!("not one pull") };
    let changes = change(1, 2).changes;
    let begun = Page { through_seq: 1, through_rev: 1, end_seq: 2, end_rev: 1, ..Page::default() };
    behind.page(first, Page { messages: vec![message(1)], changes, ..begun });
    behind.push(messages(2, 2), Origin::Own);
    assert_eq!(held(&behind), [(1, 1)]);
    assert_eq!(pulls(&mut behind).len(), 1);
    // Those after them are not older.
    let page = Page {
        through_seq: 2,
        through_rev: 1,
        end_seq: 2,
        end_rev: 1,
        messages: vec![message(1), message(2)],
        ..Page::default()
    };
    engine.page(pull, page);
    engine.push(messages(3, 3), Origin::Own);
    assert_eq!(held(&engine), [(1, 3)]);
}

/// Nobody wrote in the last stay, so the next one begins with the same message. What changed in between belongs to no stay.
#[test]
fn a_return_after_a_stay_without_messages_drops_what_may_have_changed() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let held = |engine: &SyncEngine| engine.state(&crew).unwrap().held.iter().collect::<Vec<_>>();
    // The stay has ended with the fifth change.
    for (from_rev, kept) in [(6, vec![(1, 3)]), (7, vec![])] {
        let mut engine = device(3);
        let saved = State { seq: 3, rev: 5, head_seq: 3, head_rev: 5, known: true, from_seq: 4, ..State::default() };
        let saved = State { held: [(1, 3)].into_iter().collect(), ..saved };
        engine.restore(engine.position().clone(), [(crew.clone(), saved)]);
        let returned = ConversationHead { from_seq: 4, from_rev, end_seq: 3, end_rev: from_rev, n: 3, ..entered() };
        engine.push(feed(returned.clone(), 1), Origin::Other);
        assert_eq!(held(&engine), kept, "{from_rev}");
        let changes = engine.take().batch.changes;
        let is_dropped = changes.iter().any(|change| matches!(change, Change::Drop(name) if *name == crew));
        assert_eq!(is_dropped, kept.is_empty(), "{from_rev}");
        // What comes from then on stays, also if the changes have not come yet.
        engine.push(Push { conversation: Some(crew.to_ref()), ..messages(4, 4) }, Origin::Other);
        let with_next = if kept.is_empty() { vec![(4, 4)] } else { vec![(1, 4)] };
        assert_eq!(held(&engine), with_next, "{from_rev}");
        engine.push(feed(returned, 2), Origin::Other);
        assert_eq!(held(&engine), with_next, "{from_rev}");
    }
    // A pull was faster than the head, and the device knows where its stay began.
    let mut engine = device(3);
    let saved = State { seq: 3, rev: 10, head_seq: 3, head_rev: 10, known: true, from_seq: 4, ..State::default() };
    let saved = State { from_rev: 2, held: [(1, 3)].into_iter().collect(), ..saved };
    engine.restore(engine.position().clone(), [(crew.clone(), saved)]);
    let returned = ConversationHead { from_seq: 4, from_rev: 9, end_seq: 3, end_rev: 10, n: 3, ..entered() };
    for pos in [1, 2] {
        engine.push(feed(returned.clone(), pos), Origin::Other);
        assert_eq!(held(&engine), []);
        let changes = engine.take().batch.changes;
        let is_dropped = changes.iter().any(|change| matches!(change, Change::Drop(name) if *name == crew));
        assert_eq!(is_dropped, pos == 1, "once");
    }
}

#[test]
fn a_group_that_the_user_enters_during_a_full_sync_is_not_dropped_by_it() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let mut engine = SyncEngine::new("ann", Position::default(), []);
    engine.online(&Bytes::from_static(&[1; 16]));
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    engine.push(feed(entered(), 1), Origin::Other);
    // This answer was read before the user entered.
    let (epoch, sums) = (Bytes::from_static(&[1; 16]), Some(Sums::default()));
    engine.synced(ticket, SyncResult { epoch, sums, ..SyncResult::default() });
    let state = engine.state(&crew).unwrap();
    assert_eq!((state.known, state.head_rev), (true, 5));
}

#[test]
fn pushes_before_a_reset_are_requested_after_it() {
    let state = State { seq: 3, head_seq: 3, known: true, ..State::default() };
    let position = Position { epoch: Bytes::from_static(&[2; 16]), ..Position::default() };
    let mut engine = SyncEngine::new("ann", position, [(name(), state)]);
    engine.online(&Bytes::from_static(&[2; 16]));
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    // A backup was restored without a new epoch. This is the first message after that, stored when the answer to the
    // sync was already built.
    let (log, conversation, messages) = (LogKind::Messages as i32, Some(name().to_ref()), vec![message(1)]);
    engine.push(Push { log, conversation, from: 1, to: 1, messages, ..Push::default() }, Origin::Other);
    let (epoch, sums) = (vec![2; 16].into(), Some(Sums::default()));
    engine.synced(ticket, SyncResult { reset: true, epoch, sums, ..SyncResult::default() });
    let requests = engine.take().requests;
    assert!(matches!(requests.as_slice(), [Request::Sync { .. }]), "{requests:?}");
}

#[test]
fn a_push_before_the_first_sync_is_not_judged_by_positions_of_another_epoch() {
    let state = State { seq: 3, head_seq: 3, known: true, ..State::default() };
    let position = Position { epoch: Bytes::from_static(&[1; 16]), pos: 9, touched: 9, ..Position::default() };
    let mut engine = SyncEngine::new("ann", position, [(name(), state)]);
    engine.online(&Bytes::from_static(&[2; 16]));
    let mut output = engine.take();
    let Some(Request::Sync { ticket, request }) = output.requests.pop() else { panic!("no sync") };
    assert_eq!((request.epoch.as_ref(), request.pos, request.since), ([2; 16].as_slice(), 0, 0));
    assert!(matches!(output.batch.changes.as_slice(), [Change::DropAll { .. }]), "{:?}", output.batch.changes);
    // The first message after a restore, before the sync is answered.
    let (log, conversation, messages) = (LogKind::Messages as i32, Some(name().to_ref()), vec![message(1)]);
    engine.push(Push { log, conversation, from: 1, to: 1, messages, ..Push::default() }, Origin::Other);
    assert_eq!((raised(&mut engine), engine.state(&name()).unwrap().seq), (vec![1], 1));
    let head =
        ConversationHead { conversation: Some(name().to_ref()), end_seq: 1, n: 1, ..ConversationHead::default() };
    let (epoch, sums) = (vec![2; 16].into(), Some(Sums { count: 1, seq: 1, rev: 0 }));
    engine.synced(ticket, SyncResult { epoch, sums, heads: vec![head], ..SyncResult::default() });
    // The message stays and is not raised again.
    assert_eq!((raised(&mut engine), engine.state(&name()).unwrap().seq), (Vec::new(), 1));
}

#[test]
fn a_page_from_before_a_change_pulls_the_change_again() {
    let mut engine = device(1);
    let (ticket, request) = pulls(&mut engine).pop().unwrap();
    assert_eq!(request.after_seq, 1);
    engine.push(change(1, 2), Origin::Other);
    assert_eq!(rev(&engine), 1);
    let page = Page { messages: vec![message(2), message(3)], through_seq: 3, end_seq: 3, ..Page::default() };
    engine.page(ticket, page);
    let again = pulls(&mut engine);
    assert_eq!((rev(&engine), again.len(), again[0].1.after_rev), (0, 1, 0));
    let changes = change(1, 2).changes;
    engine
        .page(again[0].0, Page { through_seq: 3, end_seq: 3, changes, through_rev: 1, end_rev: 1, ..Page::default() });
    assert_eq!((rev(&engine), pulls(&mut engine).len()), (1, 0));
}

#[test]
fn a_fill_from_before_a_change_pulls_the_change_again() {
    for (filled_at, asked) in [(0, 1), (1, 0)] {
        let mut engine = device(3);
        engine.push(change(1, 2), Origin::Other);
        assert_eq!((rev(&engine), pulls(&mut engine).len()), (1, 0));
        let generation = engine.generation();
        let messages = vec![message(1), message(2)];
        engine.filled(&name(), generation, FillResult { messages, from: 1, to: 2, end: true, rev: filled_at });
        assert_eq!((rev(&engine), pulls(&mut engine).len()), (filled_at, asked));
    }
}

#[test]
fn a_head_from_before_a_change_has_no_last_message() {
    let mut engine = device(3);
    engine.push(change(1, 3), Origin::Other);
    engine.audit();
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    let head = ConversationHead {
        conversation: Some(name().to_ref()),
        end_seq: 3,
        n: 3,
        last_message: Some(message(3)),
        ..ConversationHead::default()
    };
    engine.synced(ticket, SyncResult { epoch: vec![1; 16].into(), heads: vec![head], ..SyncResult::default() });
    let heads: Vec<_> = engine
        .take()
        .batch
        .changes
        .into_iter()
        .filter_map(|change| if let Change::Head(head) = change { Some(head.last_message) } else { None })
        .collect();
    assert_eq!(heads, [None]);
}

#[test]
fn a_profile_pushed_during_a_sync_is_not_overwritten_by_it() {
    let profile = |user_id: &str, name: &str| {
        let base_info = UserInfo { user_id: user_id.into(), user_name: name.into(), ..UserInfo::default() };
        UserFullInfo { base_info: Some(base_info), ..UserFullInfo::default() }
    };
    let mut engine = device(3);
    engine.audit();
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    engine.snapshot_pushed(&Snapshot { profiles: vec![profile("bob", "Bob B.")], ..Snapshot::default() });
    let of = |bob: &str| SyncResult {
        epoch: vec![1; 16].into(),
        sums: Some(Sums { count: 1, seq: 3, rev: 0 }),
        heads: vec![ConversationHead {
            conversation: Some(name().to_ref()),
            end_seq: 3,
            n: 3,
            peer: Some(profile("bob", bob)),
            ..ConversationHead::default()
        }],
        profiles: vec![profile("bob", bob), profile("carl", "Carl")],
        ..SyncResult::default()
    };
    let learnt = |engine: &mut SyncEngine| {
        let output = engine.take();
        let of = |change| match change {
            Change::Head(head) => head.peer.into_iter().collect(),
            Change::Profiles(profiles) => profiles,
            _ => Vec::new(),
        };
        (output.batch.changes.into_iter().flat_map(of).collect::<Vec<_>>(), output.requests)
    };
    // This answer was read before the push was made.
    engine.synced(ticket, of("Bob"));
    let (profiles, requests) = learnt(&mut engine);
    assert_eq!(profiles, [profile("carl", "Carl")]);
    // A status carries its time, so one that arrives during a sync does not cause another sync.
    engine.snapshot_pushed(&Snapshot { statuses: vec![UserStatus::default()], ..Snapshot::default() });
    // An answer to a request after the push is no older than the push.
    let [Request::Sync { ticket, .. }] = requests.as_slice() else { panic!("{requests:?}") };
    engine.synced(*ticket, of("Bob B."));
    let (profiles, requests) = learnt(&mut engine);
    assert_eq!(profiles, [profile("bob", "Bob B."), profile("bob", "Bob B."), profile("carl", "Carl")]);
    assert!(requests.is_empty(), "{requests:?}");
}

#[test]
fn that_messages_are_no_longer_kept_is_stored_without_a_pull() {
    let mut engine = device(3);
    engine.take();
    let detail = Some(change_entry::Detail::Expired(ExpiredMessages { through_seq: 2 }));
    let entry = ChangeEntry { rev: 1, detail, ..ChangeEntry::default() };
    engine.push(Push { changes: vec![entry.clone()], ..change(1, 2) }, Origin::Other);
    let output = engine.take();
    assert!(output.requests.is_empty());
    let is_stored =
        |change: &Change| matches!(change, Change::Changes { entries, .. } if entries[..] == [entry.clone()]);
    assert!(output.batch.changes.iter().any(is_stored));
}

#[test]
fn a_change_that_overtakes_its_message_is_pulled_with_it() {
    let mut engine = device(3);
    engine.push(change(1, 4), Origin::Other);
    assert_eq!((rev(&engine), pulls(&mut engine).len()), (0, 1));
}

/// A device without conversations, and the ticket of the sync that follows its first push: the messages up to `through`.
fn begun(through: u64) -> (SyncEngine, u64) {
    let mut engine = SyncEngine::new("ann", Position { is_settled: true, ..Position::default() }, []);
    engine.online(&Bytes::from_static(&[1; 16]));
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    engine
        .synced(ticket, SyncResult { epoch: vec![1; 16].into(), sums: Some(Sums::default()), ..SyncResult::default() });
    engine.push(messages(1, through), Origin::Other);
    assert_eq!(raised(&mut engine), (1..=through).collect::<Vec<_>>());
    (engine, ticket + 1)
}

/// The answer to the sync that asks about the conversation: it has messages up to `end_seq`.
fn describe(engine: &mut SyncEngine, ticket: u64, end_seq: u64) {
    let (conversation, sums) = (Some(name().to_ref()), Some(Sums { count: 1, seq: end_seq, rev: 0 }));
    let head = ConversationHead { conversation, end_seq, n: end_seq, ..ConversationHead::default() };
    engine.synced(ticket, SyncResult { epoch: vec![1; 16].into(), sums, heads: vec![head], ..SyncResult::default() });
}

/// Commands travel among the pushes, and a pull would overtake them.
#[test]
fn a_conversation_that_pushes_have_begun_awaits_the_next_ones() {
    let (mut engine, ticket) = begun(1);
    describe(&mut engine, ticket, 5);
    assert!(pulls(&mut engine).is_empty() && engine.awaits_pushes());
    assert!(engine.lacks_before(&name(), 3), "a command after the third message waits");
    engine.push(messages(2, 3), Origin::Other);
    assert_eq!(raised(&mut engine), [2, 3]);
    // Another conversation moves, and the server describes this one again.
    engine.dirtied(&zim_protocol::Dirty { snapshots: true, ..Default::default() });
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    describe(&mut engine, ticket, 5);
    assert!(pulls(&mut engine).is_empty() && engine.awaits_pushes());
    engine.push(messages(4, 5), Origin::Other);
    assert_eq!(raised(&mut engine), [4, 5]);
    assert!(!engine.lacks_before(&name(), 5) && !engine.awaits_pushes());
    // What comes later is a known conversation's.
    engine.push(messages(7, 7), Origin::Other);
    assert_eq!(pulls(&mut engine).len(), 1);
}

#[test]
fn what_awaited_pushes_do_not_bring_is_pulled() {
    type Case = (&'static str, fn(&mut SyncEngine));
    let lost: [Case; 4] = [
        ("a later push comes", |engine| engine.push(messages(3, 3), Origin::Other)),
        ("the next push after the head comes", |engine| engine.push(messages(6, 6), Origin::Other)),
        ("the server says so", |engine| {
            engine.dirtied(&zim_protocol::Dirty { conversations: vec![name().to_ref()], ..Default::default() });
        }),
        ("an audit ends", |engine| {
            engine.audit();
            let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
            describe(engine, ticket, 5);
        }),
    ];
    for (case, lose) in lost {
        let (mut engine, ticket) = begun(1);
        describe(&mut engine, ticket, 5);
        assert!(pulls(&mut engine).is_empty());
        lose(&mut engine);
        assert_eq!(pulls(&mut engine).into_iter().map(|(_, pull)| pull.after_seq).collect::<Vec<_>>(), [1], "{case}");
    }
    // Another connection brings no pushes of this one.
    let (mut engine, ticket) = begun(1);
    describe(&mut engine, ticket, 5);
    engine.offline();
    engine.online(&Bytes::from_static(&[1; 16]));
    let Some(Request::Sync { ticket, .. }) = engine.take().requests.pop() else { panic!("no sync") };
    describe(&mut engine, ticket, 5);
    assert_eq!(pulls(&mut engine).len(), 1);
}

/// What only this device has deleted counts in the head of a new epoch.
#[test]
fn what_this_device_has_deleted_does_not_count() {
    let unread = |engine: &SyncEngine| engine.state(&name()).unwrap().tally.unread();
    for (uncounted, left) in [
        (Uncounted { seqs: vec![2, 2], through: None }, 2),
        (Uncounted { seqs: vec![1, 3], through: None }, 1),
        (Uncounted { seqs: Vec::new(), through: Some((3, 0)) }, 0),
        // A message came later.
        (Uncounted { seqs: Vec::new(), through: Some((2, 0)) }, 3),
        (Uncounted { seqs: Vec::new(), through: Some((3, -1)) }, 3),
    ] {
        let mut engine = device(0);
        assert_eq!(unread(&engine), 3);
        engine.uncounted(&name(), &uncounted);
        assert_eq!(unread(&engine), left, "{uncounted:?}");
        assert!(!engine.take().batch.states.is_empty());
    }
}

/// What was counted while pushes came without a gap stays valid.
#[test]
fn heads_that_a_push_has_overtaken_do_not_make_a_conversation_unknown() {
    let mut engine = device(3);
    engine.push(messages(4, 4), Origin::Other);
    engine.take();
    for pos in 1..=2 {
        let conversation = Some(name().to_ref());
        let head = ConversationHead { conversation, end_seq: 3, n: 3, ..ConversationHead::default() };
        engine.push(feed(head, pos), Origin::Other);
        assert!(engine.state(&name()).unwrap().known, "{pos}");
    }
    assert!(engine.take().requests.is_empty(), "there is nothing to ask");
}

/// What this device lacked is no longer kept, and what it holds may have changed since.
#[test]
fn a_page_that_starts_anew_without_messages_holds_nothing() {
    let mut engine = device(1);
    let (ticket, _) = pulls(&mut engine).pop().unwrap();
    engine.page(ticket, Page { reset: true, through_seq: 3, end_seq: 3, ..Page::default() });
    let state = engine.state(&name()).unwrap();
    assert_eq!((state.seq, state.held.is_empty()), (3, true));
}
