//! What a member sees of a conversation that they are part of for a time only, on both databases.

use std::sync::Arc;

use futures_util::future::join_all;
use zim_protocol::{ConversationHead, Page};

use super::{heads, pull_page, sums, viewer};
use crate::db::tests::{with_postgres, with_sqlite};
use crate::db::{Database, Tx};
use crate::journal::tests::{ANN, BOB, CHAT, Fixture};
use crate::journal::{Direction, LAST_MESSAGE_DEPTH, around};

async fn head(fixture: &Fixture) -> ConversationHead {
    let scrambler = Arc::clone(&fixture.scrambler);
    let found = fixture.db.read(async move |tx: &mut Tx<'_>| heads(tx, BOB, &scrambler, (0, 0), 10).await);
    found.await.unwrap().0.remove(0)
}

async fn pull(fixture: &Fixture, after: (i64, i64)) -> Page {
    let scrambler = Arc::clone(&fixture.scrambler);
    let page = fixture.db.read(async move |tx: &mut Tx<'_>| {
        let viewer = viewer(tx, CHAT, BOB).await?;
        pull_page(tx, CHAT, &viewer, &scrambler, after, 1 << 20).await
    });
    page.await.unwrap()
}

fn revs(page: &Page) -> Vec<u64> {
    page.changes.iter().map(|change| change.rev).collect()
}

async fn heads_and_pages_show_the_members_part(database: Database) {
    let fixture = Fixture::open(database).await;
    for id in 1..=4 {
        fixture.db.submit_bulk(fixture.message(id.into(), id, "hi")).await.unwrap();
        fixture.change(1).await;
    }
    // The conversation's time is that of the changes, which are later than this message.
    fixture.db.submit_bulk(fixture.message(5, 5, "hi")).await.unwrap();
    let (all, touched) = fixture.db.read(async |tx: &mut Tx<'_>| sums(tx, BOB).await).await.unwrap();
    assert_eq!((all.count, all.seq, all.rev, touched), (1, 5, 4, 5_000));
    let whole = head(&fixture).await;
    assert_eq!((whole.end_seq, whole.n, whole.unread, whole.last_message.map(|last| last.seq)), (5, 5, 5, Some(5)));
    assert_eq!(revs(&pull(&fixture, (5, 0)).await), [1, 2, 3, 4]);

    // Changes below the floor are lost, so what the client holds cannot be trusted.
    fixture.execute("UPDATE conversation SET floor_rev = 2").await;
    assert!(!pull(&fixture, (5, 2)).await.reset);
    let behind = pull(&fixture, (5, 1)).await;
    assert_eq!((behind.reset, revs(&behind), behind.through_rev), (true, vec![3, 4], 4));

    // A new member sees nothing from before the stay: no last message and no change.
    fixture
        .execute(
            "UPDATE member SET from_seq = 6, from_rev = 5, read_seq = 5, base_seq = 5, base_n = 5 WHERE account = 2",
        )
        .await;
    let new = head(&fixture).await;
    assert_eq!((new.end_seq, new.unread, new.last_message), (5, 0, None));
    let page = pull(&fixture, (0, 2)).await;
    assert_eq!((page.messages.len(), revs(&page), page.through_seq, page.through_rev), (0, vec![], 5, 4));

    // For a member who has left, later messages do not count.
    fixture.execute("UPDATE member SET from_seq = 1, to_seq = 2, to_rev = 3, read_seq = 1, base_seq = 1, base_n = 1 WHERE account = 2").await;
    let left = head(&fixture).await;
    assert_eq!((left.end_seq, left.n, left.unread, left.last_message.map(|last| last.seq)), (2, 2, 1, Some(2)));
    let (mine, _) = fixture.db.read(async |tx: &mut Tx<'_>| sums(tx, BOB).await).await.unwrap();
    assert_eq!((mine.count, mine.seq, mine.rev), (1, 2, 3));
    let (others, _) = fixture.db.read(async |tx: &mut Tx<'_>| sums(tx, ANN).await).await.unwrap();
    assert_eq!((others.seq, others.rev), (5, 4));
    fixture.db.close().await;
}

#[tokio::test]
async fn a_member_sees_only_their_part_on_sqlite() {
    with_sqlite(heads_and_pages_show_the_members_part).await;
}

#[tokio::test]
async fn a_member_sees_only_their_part_on_postgresql() {
    with_postgres("sync", heads_and_pages_show_the_members_part).await;
}

/// A head has the newest message that the user sees, if it is near the end. Otherwise a page of history has it.
async fn a_head_looks_for_the_last_message_near_the_end(database: Database) {
    let fixture = Fixture::open(database).await;
    let count = u8::try_from(LAST_MESSAGE_DEPTH + 1).unwrap();
    let sent = (1..=count).map(|id| fixture.db.submit_bulk(fixture.message(id.into(), id, "hi")));
    for sent in join_all(sent).await {
        sent.unwrap();
    }
    // Only the first one is further from the end than the search goes.
    let hide = "INSERT INTO hidden (account, conversation, seq) SELECT 2, conversation, seq FROM message WHERE seq > 2";
    fixture.execute(hide).await;
    let near = head(&fixture).await;
    assert_eq!((near.end_seq, near.last_message.map(|last| last.seq)), (count.into(), Some(2)));
    let hide = "INSERT INTO hidden (account, conversation, seq) SELECT 2, conversation, seq FROM message WHERE seq = 2";
    fixture.execute(hide).await;
    let far = head(&fixture).await;
    assert_eq!((far.end_seq, far.last_message), (count.into(), None));
    let scrambler = Arc::clone(&fixture.scrambler);
    let page = fixture.db.read(async move |tx: &mut Tx<'_>| {
        let viewer = viewer(tx, CHAT, BOB).await?;
        around(tx, CHAT, &scrambler, &viewer, (0, Direction::Older), 1, 1 << 20).await
    });
    let seqs: Vec<u64> = page.await.unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [1]);
    fixture.db.close().await;
}

#[tokio::test]
async fn a_head_has_the_last_message_that_is_near_on_sqlite() {
    with_sqlite(a_head_looks_for_the_last_message_near_the_end).await;
}

#[tokio::test]
async fn a_head_has_the_last_message_that_is_near_on_postgresql() {
    with_postgres("sync_last", a_head_looks_for_the_last_message_near_the_end).await;
}
