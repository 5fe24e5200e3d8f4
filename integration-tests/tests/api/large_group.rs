//! What a message costs in a large group.

use zim_integration_tests::{World, group, soon};
use zim_protocol::{GroupAdvancedConfig, GroupInfo};
use zim_server::db::{Dialect, Scope, Tx, params};

/// Adds members who are not online: users, their stays in the group, and their places in its list.
pub(crate) async fn add_members(world: &World, count: i64) {
    let users = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) ";
    let owner = "FROM n CROSS JOIN group_member g JOIN account a ON a.id = g.account \
                 JOIN conversation c ON c.id = g.conversation WHERE a.name = 'ann'";
    let statements = [
        "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
         SELECT i, a.app, 'user' || i, 0, '', '', '', 0, 0",
        "INSERT INTO member (conversation, account, peer, from_seq, from_rev, cleared_seq, read_seq, base_seq, base_n, \
         base_sent, sent, deducted) SELECT c.id, i, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0",
        "INSERT INTO group_member (conversation, account, role, nickname, enter_type, entered_at, operator, place) \
         SELECT c.id, i, 3, '', 1, 0, 0, 1000000 + i",
    ];
    let added = world.server().app().db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        for statement in statements {
            assert_eq!(
                tx.execute(&format!("{users}{statement} {owner}"), &params![count]).await?,
                count.unsigned_abs()
            );
        }
        tx.execute("UPDATE chat_group SET members = members + $1", &params![count]).await?;
        Ok(())
    });
    added.await.unwrap();
}

/// The state of the whole database.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Counts up with each row that is written.
    written: i64,
    /// The number of rows.
    rows: i64,
}

/// Returns the state of the database. `since` is the number of a transaction on PostgreSQL, after which rows count as written.
async fn state(world: &World, since: i64) -> State {
    let db = &world.server().app().db;
    let state = db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        let (tables, counted) = match tx.dialect() {
            Dialect::Sqlite => ("SELECT name FROM sqlite_schema WHERE type = 'table'", "0"),
            Dialect::Postgres => (
                // Nodes renew their leases meanwhile.
                "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'server_node'",
                "COUNT(CASE WHEN CAST(CAST(xmin AS TEXT) AS BIGINT) > $1 THEN 1 END)",
            ),
        };
        let mut state = State { written: 0, rows: 0 };
        for table in tx.fetch(tables, &[]).await? {
            let table: String = table.get(0)?;
            let sql = format!("SELECT COUNT(*), {counted} FROM {table} WHERE $1 >= 0");
            let row = tx.fetch_one(&sql, &params![since]).await?.unwrap();
            state.rows += row.get::<i64>(0)?;
            state.written += row.get::<i64>(1)?;
        }
        if tx.dialect() == Dialect::Sqlite {
            // The connection that writes everything.
            state.written = tx.fetch_one("SELECT total_changes()", &[]).await?.unwrap().get(0)?;
        }
        Ok(state)
    });
    state.await.unwrap()
}

/// Returns the number of the present transaction; 0 on SQLite.
async fn transaction(world: &World) -> i64 {
    let db = &world.server().app().db;
    let number = db.submit(Scope::none(), async |tx: &mut Tx<'_>| match tx.dialect() {
        Dialect::Sqlite => Ok(0),
        Dialect::Postgres => {
            let sql = "SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)";
            Ok(tx.fetch_one(sql, &[]).await?.unwrap().get(0)?)
        }
    });
    number.await.unwrap()
}

/// Returns how many rows a message to a group writes, and how many it adds. Two members are online.
async fn cost(members: i64) -> (i64, i64) {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let info = GroupInfo { group_id: "crew".into(), ..GroupInfo::default() };
    soon(ann.create_group(info, ["bob"], GroupAdvancedConfig::default())).await.unwrap();
    ann.say(group("crew"), "first").await;
    bob.receives("first").await;
    add_members(&world, members - 2).await;
    let since = transaction(&world).await;
    let before = state(&world, since).await;
    ann.say(group("crew"), "second").await;
    bob.receives("second").await;
    let after = state(&world, since).await;
    world.end().await;
    (after.written - before.written, after.rows - before.rows)
}

/// The message, the conversation that has it, and the sender's count of sent messages.
#[tokio::test]
async fn send_message_writes_three_rows_however_many_members_a_group_has() {
    assert_eq!(cost(3).await, (3, 1));
    assert_eq!(cost(100_000).await, (3, 1));
}
