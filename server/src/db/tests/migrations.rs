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

/// Runs all cases on PostgreSQL.
pub(super) async fn all(cluster: &Cluster) {
    steps(&TestDb::new(Some(cluster), "steps")).await;
    out_of_order(&TestDb::new(Some(cluster), "out_of_order")).await;
    counters_are_filled(&TestDb::new(Some(cluster), "counters")).await;
    nothing_waits_for_a_member(&TestDb::new(Some(cluster), "waiting")).await;
    earlier_stays_ask_for_no_receipt(&TestDb::new(Some(cluster), "stays")).await;
}

/// Lists that an earlier build wrote are counted.
async fn counters_are_filled(test_db: &TestDb<'_>) {
    let config = test_db.config();
    let open = async |migrations| Db::<Put>::open(DbConfig { migrations, ..config.clone() }, |_| {}).await.unwrap();
    let first = MIGRATIONS.iter().position(|migration| migration.name == "0005_counters").unwrap();
    let db = open(&MIGRATIONS[..first]).await;
    db.submit(Scope::none(), async |tx| {
        tx.execute("INSERT INTO app (id, name, app_sign, server_secret, created_at) VALUES (7, '', '', '', 0)", &[]).await?;
        for (id, name) in [(1, "ann"), (2, "bob")] {
            let sql = "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
                       VALUES ($1, 7, $2, 0, '', '', '', 0, 0)";
            tx.execute(sql, &params![id, name]).await?;
        }
        for other in 10..13 {
            let sql = "INSERT INTO friend (account, friend, alias, attributes, wording, created_at, place) \
                       VALUES (1, $1, '', '{}', '', 0, $1)";
            tx.execute(sql, &params![other]).await?;
        }
        tx.execute("INSERT INTO block (account, blocked, pos) VALUES (1, 10, 1), (1, 11, 2)", &[]).await?;
        tx.execute("INSERT INTO subscription (account, target, place, expires_at) VALUES (1, 10, 1, 9)", &[]).await?;
        Ok(())
    })
    .await
    .unwrap();
    db.close().await;
    let db = open(MIGRATIONS).await;
    let found = db.read(async |tx| {
        let sql = "SELECT friend_count, block_count, subscription_count FROM account ORDER BY id";
        let rows = tx.fetch(sql, &[]).await?;
        rows.iter().map(|row| Ok([row.get::<i64>(0)?, row.get(1)?, row.get(2)?])).collect::<Result<Vec<_>, Error>>()
    });
    assert_eq!(found.await.unwrap(), [[3, 2, 1], [0, 0, 0]]);
    db.close().await;
}

#[tokio::test]
async fn counters_are_filled_on_sqlite() {
    counters_are_filled(&TestDb::new(None, "counters")).await;
}

/// What an earlier build left waiting for a member no longer waits. What had expired before they entered has still expired.
async fn nothing_waits_for_a_member(test_db: &TestDb<'_>) {
    let config = test_db.config();
    let open = async |migrations| Db::<Put>::open(DbConfig { migrations, ..config.clone() }, |_| {}).await.unwrap();
    let first = MIGRATIONS.iter().position(|migration| migration.name == "0021_group_application").unwrap();
    let db = open(&MIGRATIONS[..first]).await;
    db.submit(Scope::none(), async |tx| {
        let member = "INSERT INTO group_member (conversation, account, role, nickname, enter_type, entered_at, operator, place) \
                      VALUES (64, 1, 3, '', 1, 5, 0, 1)";
        tx.execute(member, &[]).await?;
        // Of the member, of the member in another group, of somebody else; one that was rejected, and one that had expired.
        for (id, conversation, account, state, expires_at) in
            [(1, 64, 1, 1, 6), (2, 65, 1, 1, 9), (3, 64, 2, 1, 9), (4, 64, 1, 3, 9), (5, 64, 1, 1, 5)]
        {
            let sql = "INSERT INTO group_application (id, conversation, account, inviter, state, wording, created_at, \
                       updated_at, expires_at, operator, place) VALUES ($1, $2, $3, $1, $4, '', 0, 0, $5, 0, $1)";
            tx.execute(sql, &params![id, conversation, account, state, expires_at]).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    db.close().await;
    let db = open(MIGRATIONS).await;
    let found = db.read(async |tx| {
        let rows = tx.fetch("SELECT state FROM group_application ORDER BY id", &[]).await?;
        rows.iter().map(|row| Ok(row.get::<i64>(0)?)).collect::<Result<Vec<_>, Error>>()
    });
    assert_eq!(found.await.unwrap(), [5, 1, 1, 3, 1]);
    db.close().await;
}

#[tokio::test]
async fn nothing_waits_for_a_member_on_sqlite() {
    nothing_waits_for_a_member(&TestDb::new(None, "waiting")).await;
}

/// Nobody knows what was history in an earlier stay that an earlier build has stored, before the upgrade or beside nodes that are
/// upgraded already.
async fn earlier_stays_ask_for_no_receipt(test_db: &TestDb<'_>) {
    let config = test_db.config();
    let open = async |migrations| Db::<Put>::open(DbConfig { migrations, ..config.clone() }, |_| {}).await.unwrap();
    let stay = async |db: &Db<Put>, from: i64| {
        db.submit(Scope::none(), async move |tx| {
            let sql = "INSERT INTO span (account, conversation, from_seq, from_rev, to_seq, to_rev) \
                       VALUES (1, 64, $1, $1, $2, $2)";
            tx.execute(sql, &params![from, from + 5]).await?;
            Ok(())
        })
        .await
        .unwrap();
    };
    let first = MIGRATIONS.iter().position(|migration| migration.name == "0020_return").unwrap();
    let db = open(&MIGRATIONS[..first]).await;
    stay(&db, 1).await;
    db.close().await;
    let db = open(MIGRATIONS).await;
    stay(&db, 10).await;
    let found = db.read(async |tx| {
        let rows = tx.fetch("SELECT from_seq FROM span WHERE entered_seq > to_seq ORDER BY from_seq", &[]).await?;
        rows.iter().map(|row| Ok(row.get::<i64>(0)?)).collect::<Result<Vec<_>, Error>>()
    });
    assert_eq!(found.await.unwrap(), [1, 10]);
    db.close().await;
}

#[tokio::test]
async fn earlier_stays_ask_for_no_receipt_on_sqlite() {
    earlier_stays_ask_for_no_receipt(&TestDb::new(None, "stays")).await;
}

#[tokio::test]
async fn the_servers_own_schema_applies() {
    let test_db = TestDb::new(None, "own");
    Store::open(DbConfig { migrations: MIGRATIONS, ..test_db.config() }).await.db.close().await;
}
