//! Tests of the migrations.

use super::*;

const SECOND: Migration = Migration { name: "0002_more", sql: "CREATE TABLE more (id BIGINT PRIMARY KEY, body BYTEA)" };
const CHANGED: &[Migration] = &[Migration { name: "0001_test", sql: "CREATE TABLE other (id BIGINT PRIMARY KEY)" }];
const BOTH: &[Migration] = &[SCHEMA[0], SECOND];
const BROKEN: &[Migration] = &[
    SCHEMA[0],
    Migration { name: "0002_broken", sql: "CREATE TABLE half (id BIGINT PRIMARY KEY); CREATE TABLE half (" },
];
const LATE: &[Migration] =
    &[SCHEMA[0], Migration { name: "0003_late", sql: "CREATE TABLE late_one (id BIGINT PRIMARY KEY)" }];
const BETWEEN: &[Migration] = &[SCHEMA[0], SECOND, LATE[1]];

async fn steps(test_db: &TestDb<'_>) {
    let config = test_db.config();
    let open = async |migrations| Db::<Put>::open(DbConfig { migrations, ..config.clone() }, |_| {}).await;
    let refused = async |migrations| open(migrations).await.map(drop).unwrap_err().to_string();
    open(SCHEMA).await.unwrap().close().await;
    open(SCHEMA).await.unwrap().close().await;
    let message = refused(CHANGED).await;
    assert!(message.contains("0001_test differs"), "{message}");
    // All or nothing: the part that worked is rolled back, too.
    refused(BROKEN).await;
    refused(BROKEN).await;
    let db = open(BOTH).await.unwrap();
    db.submit(Scope::none(), async |tx| {
        tx.execute("INSERT INTO more (id, body) VALUES (1, $1)", &params![vec![1_u8]]).await?;
        assert!(tx.fetch("SELECT id FROM item", &[]).await?.is_empty());
        Ok(())
    })
    .await
    .unwrap();
    db.close().await;
    let message = refused(SCHEMA).await;
    assert!(message.contains("newer than this server") && message.contains("0002_more"), "{message}");
}

async fn out_of_order(test_db: &TestDb<'_>) {
    let config = test_db.config();
    let open = async |migrations| Db::<Put>::open(DbConfig { migrations, ..config.clone() }, |_| {}).await;
    open(LATE).await.unwrap().close().await;
    let message = open(BETWEEN).await.map(drop).unwrap_err().to_string();
    assert!(message.contains("0002_more is older"), "{message}");
}

#[tokio::test]
async fn steps_on_sqlite() {
    steps(&TestDb::new(None, "steps")).await;
    out_of_order(&TestDb::new(None, "out_of_order")).await;
}

/// Runs all cases on PostgreSQL, and nodes that start at the same time.
pub(super) async fn all(cluster: &Cluster) {
    steps(&TestDb::new(Some(cluster), "steps")).await;
    out_of_order(&TestDb::new(Some(cluster), "out_of_order")).await;
    let config = TestDb::new(Some(cluster), "two_nodes").config();
    let nodes = (0..4).map(|_| Store::open(config.clone()));
    let nodes = futures_util::future::join_all(nodes).await;
    for (node, id) in nodes.iter().zip(1..) {
        node.put(id).await.unwrap();
    }
    assert_eq!(nodes[0].ids().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn the_servers_own_schema_applies() {
    let test_db = TestDb::new(None, "own");
    Store::open(DbConfig { migrations: MIGRATIONS, ..test_db.config() }).await.db.close().await;
}
