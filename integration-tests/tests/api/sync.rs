//! Sync, pull and fill on the wire.

use std::collections::BTreeSet;

use prost::Message as _;
use zim_integration_tests::{RawClient, World, send_text, soon};
use zim_protocol::{
    ConversationRef, ConversationType, ErrorCode, FillRequest, Message, MessageEntry, PullRequest, Sums, SyncRequest,
    event_frame,
};
use zim_server::db::params;
use zim_server::error::Error;

fn with(id: &str) -> Option<ConversationRef> {
    Some(ConversationRef { r#type: ConversationType::Peer as i32, id: id.to_owned() })
}

fn pull(id: &str, after_seq: u64, bytes: u32) -> PullRequest {
    PullRequest { conversation: with(id), after_seq, after_rev: 0, bytes }
}

fn seqs(entries: &[MessageEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq).collect()
}

async fn send(raw: &mut RawClient, to: &str, count: u8) {
    for key in 1..=count {
        raw.call(&send_text(to, &format!("{key}"), key)).await.unwrap();
    }
}

#[tokio::test]
async fn sync_of_a_new_user_is_empty_and_names_the_epoch() {
    let world = World::new().await;
    let mut raw = world.raw().await;
    let welcome = raw.handshake(zim_integration_tests::hello(1)).await;
    raw.call(&world.login_request("ann")).await.unwrap();
    let result = raw.call(&SyncRequest::default()).await.unwrap();
    assert_eq!(result.epoch, welcome.epoch);
    assert_eq!(result.epoch.len(), 16);
    assert!(!result.reset && result.heads.is_empty() && !result.feed_more);
    assert_eq!(result.sums, Some(Sums::default()));
    raw.end().await;
    world.end().await;
}

/// A time ahead of the clock would let changes that another node stores meanwhile count as old.
#[tokio::test]
async fn sync_names_no_time_of_profiles_ahead_of_the_clock() {
    let world = World::new().await;
    let mut bob = world.raw_user("bob", 1).await;
    let margin_ms = 60_000;
    let first = bob.call(&SyncRequest::default()).await.unwrap();
    assert_eq!(first.profiles_at, world.clock.now_ms() - margin_ms);
    world.clock.jump(-3_600_000);
    let second = bob.call(&SyncRequest::default()).await.unwrap();
    assert_eq!(second.profiles_at, world.clock.now_ms() - margin_ms);
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn sync_returns_changed_heads_and_nothing_when_the_sums_match() {
    let world = World::new().await;
    let mut bob = world.raw_user("bob", 2).await;
    let mut ann = world.raw_user("ann", 1).await;
    send(&mut ann, "bob", 3).await;
    let first = bob.call(&SyncRequest::default()).await.unwrap();
    let head = &first.heads[0];
    assert_eq!((first.heads.len(), head.end_seq, head.n, head.unread), (1, 3, 3, 3));
    assert_eq!(head.conversation, with("ann"));
    assert_eq!(head.last_message.as_ref().unwrap().seq, 3);
    assert_eq!(head.peer.as_ref().unwrap().base_info.as_ref().unwrap().user_id, "ann");
    assert_eq!(first.sums, Some(Sums { count: 1, seq: 3, rev: head.end_rev }));
    let again = SyncRequest {
        pos: first.pos,
        sums: first.sums,
        since: first.touched,
        epoch: first.epoch.clone(),
        ..SyncRequest::default()
    };
    let second = bob.call(&again).await.unwrap();
    assert!(second.heads.is_empty() && second.feed.is_empty() && !second.reset);
    ann.end().await;
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn sync_of_another_epoch_or_of_a_client_that_is_ahead_starts_over() {
    let world = World::new().await;
    let mut bob = world.raw_user("bob", 2).await;
    let mut ann = world.raw_user("ann", 1).await;
    send(&mut ann, "bob", 2).await;
    let here = bob.call(&SyncRequest::default()).await.unwrap();
    let known = SyncRequest {
        pos: here.pos,
        sums: here.sums,
        since: here.touched,
        epoch: here.epoch.clone(),
        ..SyncRequest::default()
    };
    let sums = here.sums.unwrap();
    for (what, request) in [
        ("another epoch", SyncRequest { epoch: vec![9; 16].into(), ..known.clone() }),
        ("ahead in its feed", SyncRequest { pos: here.pos + 1, ..known.clone() }),
        ("ahead in a conversation", SyncRequest { sums: Some(Sums { seq: sums.seq + 1, ..sums }), ..known.clone() }),
        ("ahead in its changes", SyncRequest { sums: Some(Sums { rev: sums.rev + 1, ..sums }), ..known.clone() }),
    ] {
        let result = bob.call(&request).await.unwrap();
        assert!(result.reset, "{what}");
        assert_eq!(result.heads.len(), 1, "{what}");
    }
    assert!(!bob.call(&known).await.unwrap().reset);
    ann.end().await;
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn sync_with_impossible_positions_is_answered() {
    let world = World::new().await;
    let mut ann = world.raw_user("ann", 1).await;
    world.raw_user("bob", 2).await.end().await;
    send(&mut ann, "bob", 1).await;
    let wild = SyncRequest {
        pos: u64::MAX,
        sums: Some(Sums { count: u64::MAX, seq: u64::MAX, rev: u64::MAX }),
        since: i64::MIN,
        epoch: Default::default(),
        cursor: u64::MAX,
        profiles_since: i64::MIN,
        profiles_cursor: u64::MAX,
    };
    // Any answer but an internal error is right; `World` checks the log.
    let _ = ann.call(&wild).await;
    let _ = ann.call(&SyncRequest { since: i64::MAX, profiles_since: 1, ..wild }).await;
    let wild = PullRequest { conversation: with("bob"), after_seq: u64::MAX, after_rev: u64::MAX, bytes: u32::MAX };
    let _ = ann.call(&wild).await;
    for reverse in [true, false] {
        let wild = FillRequest { conversation: with("bob"), reverse, anchor: u64::MAX, count: 100 };
        let _ = ann.call(&wild).await;
    }
    ann.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn pull_returns_entries_after_a_position_in_pages() {
    let world = World::new().await;
    let mut bob = world.raw_user("bob", 2).await;
    let mut ann = world.raw_user("ann", 1).await;
    send(&mut ann, "bob", 9).await;
    let page = bob.call(&pull("ann", 0, 0)).await.unwrap();
    assert_eq!(seqs(&page.messages), (1..=9).collect::<Vec<_>>());
    assert_eq!((page.through_seq, page.end_seq, page.reset), (9, 9, false));
    let content = Message::decode(page.messages[4].content.clone()).unwrap();
    assert_eq!(content.as_text(), Some("5"));
    let page = bob.call(&pull("ann", 7, 0)).await.unwrap();
    assert_eq!(seqs(&page.messages), [8, 9]);
    assert!(bob.call(&pull("ann", 9, 0)).await.unwrap().messages.is_empty());
    // Small pages give the same result.
    let (mut all, mut after) = (Vec::new(), 0);
    while after < 9 {
        let page = bob.call(&pull("ann", after, 1)).await.unwrap();
        assert!(page.through_seq > after, "a pull without progress");
        all.extend(seqs(&page.messages));
        after = page.through_seq;
    }
    assert_eq!(all, (1..=9).collect::<Vec<_>>());
    ann.end().await;
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn pull_of_a_foreign_conversation_is_refused() {
    let world = World::new().await;
    let mut ann = world.raw_user("ann", 1).await;
    let mut carl = world.raw_user("carl", 3).await;
    world.raw_user("bob", 2).await.end().await;
    send(&mut ann, "bob", 1).await;
    let refused = ErrorCode::ConversationModuleConversationDoesNotExist as i32;
    for id in ["ann", "bob", "nobody", "carl"] {
        assert_eq!(carl.call(&pull(id, 0, 0)).await.unwrap_err().code, refused, "{id}");
        let fill = FillRequest { conversation: with(id), reverse: true, anchor: 0, count: 1 };
        assert_eq!(carl.call(&fill).await.unwrap_err().code, refused, "{id}");
    }
    let nothing = PullRequest { conversation: None, ..pull("", 0, 0) };
    assert_eq!(carl.call(&nothing).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    ann.end().await;
    carl.end().await;
    world.end().await;
}

#[tokio::test]
async fn fill_pages_in_both_directions_and_names_its_range() {
    let world = World::new().await;
    let mut bob = world.raw_user("bob", 2).await;
    let mut ann = world.raw_user("ann", 1).await;
    send(&mut ann, "bob", 9).await;
    let mut fill = async |reverse, anchor, count| {
        bob.call(&FillRequest { conversation: with("ann"), reverse, anchor, count }).await.unwrap()
    };
    let newest = fill(true, 0, 3).await;
    assert_eq!((seqs(&newest.messages), newest.from, newest.to, newest.end), (vec![7, 8, 9], 7, 9, false));
    let older = fill(true, 7, 100).await;
    assert_eq!((seqs(&older.messages), older.from, older.to, older.end), ((1..=6).collect(), 1, 6, true));
    let oldest = fill(false, 0, 2).await;
    assert_eq!((seqs(&oldest.messages), oldest.from, oldest.to, oldest.end), (vec![1, 2], 1, 2, false));
    let newer = fill(false, 7, 100).await;
    assert_eq!((seqs(&newer.messages), newer.from, newer.to, newer.end), (vec![8, 9], 8, 9, true));
    for count in [0, 101] {
        let request = FillRequest { conversation: with("ann"), reverse: true, anchor: 0, count };
        assert_eq!(bob.call(&request).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    }
    ann.end().await;
    bob.end().await;
    world.end().await;
}

/// The server reads them from its store in several steps.
#[tokio::test]
async fn fill_has_as_many_messages_as_it_is_asked_for() {
    let world = World::new().await;
    let mut bob = world.raw_user("bob", 2).await;
    let mut ann = world.raw_user("ann", 1).await;
    send(&mut ann, "bob", 110).await;
    for (reverse, expected) in [(true, 11..=110), (false, 1..=100)] {
        let request = FillRequest { conversation: with("ann"), reverse, anchor: 0, count: 100 };
        let page = bob.call(&request).await.unwrap();
        assert_eq!(seqs(&page.messages), expected.collect::<Vec<u64>>());
    }
    ann.end().await;
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn pushes_carry_the_messages_without_gaps() {
    let world = World::new().await;
    let mut bob = world.raw_user("bob", 2).await;
    let mut ann = world.raw_user("ann", 1).await;
    send(&mut ann, "bob", 20).await;
    let mut expected = 1;
    while expected <= 20 {
        match soon(bob.event()).await {
            Some(event_frame::Frame::Push(push)) => {
                assert_eq!(push.conversation, with("ann"));
                assert_eq!(push.from, expected, "a gap or a repetition");
                assert_eq!(seqs(&push.messages), (push.from..=push.to).collect::<Vec<_>>());
                expected = push.to + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    ann.end().await;
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn sync_pages_of_conversations_continue_at_a_cursor_that_is_no_key() {
    let world = World::with(|config| config.limits.max_text_bytes = 32_768).await;
    let mut ann = world.raw_user("ann", 1).await;
    let mut friends = Vec::new();
    for number in 0..10 {
        let mut friend = world.raw_user(&format!("friend{number}"), 1).await;
        friend.call(&send_text("ann", &"x".repeat(32_000), 1)).await.unwrap();
        friends.push(friend);
    }
    RawClient::end_all(friends).await;
    let keys = world.server().app().db.read(async |tx| {
        let rows = tx.fetch("SELECT id FROM conversation", &params![]).await?;
        rows.iter().map(|row| Ok(row.get::<i64>(0)?.unsigned_abs())).collect::<Result<Vec<u64>, Error>>()
    });
    let (keys, mut found, mut cursor) = (keys.await.unwrap(), BTreeSet::new(), 0);
    loop {
        let page = ann.call(&SyncRequest { cursor, ..SyncRequest::default() }).await.unwrap();
        found.extend(page.heads.into_iter().filter_map(|head| head.conversation).map(|conversation| conversation.id));
        if page.next_cursor == 0 {
            break;
        }
        cursor = page.next_cursor;
        assert!(!keys.contains(&cursor), "{cursor} is the key of a conversation");
    }
    assert!(cursor > 0, "all came in one page");
    assert_eq!(found.len(), 10, "{found:?}");
    ann.end().await;
    world.end().await;
}
