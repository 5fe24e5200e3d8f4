//! What a later version of the server has stored: a node that does not know its kind leaves it for one that does, and runs the rest.

use super::*;
use crate::db::tests::{with_postgres, with_sqlite};

/// A kind that no version has yet.
const LATER: i64 = 9_999;
/// More than a look reads at once.
const COUNT: i64 = 300;

async fn left_alone(database: Database) {
    let node = Node::open(&database).await;
    node.prepare(1).await;
    // All of them have been due for longer than the rest.
    let stored = node.db.submit(Scope::none(), async |tx| {
        for key in 1..=COUNT {
            let sql = "INSERT INTO scheduled_task (kind, subject, generation, at, next_at, attempts, last_error) \
                       VALUES ($1, $2, 1, $3, $3, 0, '')";
            tx.execute(sql, &params![LATER, key, START - 1_000]).await?;
            let sql = "INSERT INTO outbox (id, kind, cause, cursor, next_at, attempts, last_error) \
                       VALUES ($1, $2, 5, 0, $3, 0, '')";
            tx.execute(sql, &params![key, LATER, START - 1_000]).await?;
        }
        enqueue(tx, &PAGES, (777, 5), START).await
    });
    stored.await.unwrap();
    node.schedule(1, START).await;
    let worker = node.start();
    let left = async |node: &Node, queue| {
        let entries = node.list(queue, false).await;
        entries.into_iter().map(|entry| (entry.kind, entry.key, entry.next_at, entry.attempts)).collect::<Vec<_>>()
    };
    let expected: Vec<_> = (1..=COUNT).map(|key| (LATER, key, START - 1_000, 0_i64)).collect();
    node.until("the task that it knows", async |node| left(node, Queue::Tasks).await == expected).await;
    node.until("the entry that it knows", async |node| left(node, Queue::Outbox).await == expected).await;
    assert_eq!((node.effects().await.len(), node.context.delivered.lock().len()), (1, 1));
    stop(worker).await;
    node.db.close().await;
}

#[tokio::test]
async fn what_a_later_version_has_stored_is_left_alone_on_sqlite() {
    with_sqlite(left_alone).await;
}

#[tokio::test]
async fn what_a_later_version_has_stored_is_left_alone_on_postgresql() {
    with_postgres("task_later", left_alone).await;
}
