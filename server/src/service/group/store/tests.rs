//! A page of members costs the same wherever it is in the list, and however large the group is.

use super::*;
use crate::db::tests::{with_postgres, with_sqlite};
use crate::db::{Database, Dialect, Scope};
use crate::journal::tests::{BOB, CHAT, Fixture};

/// The members of the group, by their places. Of few rows a planner reads all.
const MEMBERS: i64 = 20_000;
/// Every so many of them is muted.
const MUTED_EVERY: i64 = 40;
const PAGE: usize = 100;
/// The time of the reads.
const NOW: i64 = 1_000;

/// Makes the conversation of the fixture a group with [`MEMBERS`].
async fn fill(fixture: &Fixture) {
    let numbers = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) ";
    let statements = [
        "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
         SELECT 1000 + i, 7, 'user' || i, 0, '', '', '', 0, 0 FROM n"
            .to_owned(),
        format!(
            "INSERT INTO group_member (conversation, account, role, nickname, enter_type, entered_at, operator, place, \
             mute_until) SELECT {}, 1000 + i, 3, '', 1, 0, 1, i, CASE WHEN i % {MUTED_EVERY} = 0 THEN -1 ELSE 0 END FROM n",
            CHAT.0
        ),
    ];
    let filled = fixture.db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        for statement in &statements {
            let added = tx.execute(&format!("{numbers}{statement}"), &params![MEMBERS]).await?;
            assert_eq!(added, MEMBERS.unsigned_abs());
        }
        // SQLite has no statistics here, and PostgreSQL collects them by itself.
        if tx.dialect() == Dialect::Postgres {
            for table in ["account", "group_member"] {
                tx.execute(&format!("ANALYZE {table}"), &[]).await?;
            }
        }
        Ok(())
    });
    filled.await.unwrap();
}

/// How the database reads the page after a place.
async fn plan(fixture: &Fixture, which: Which, after: i64) -> String {
    let mut params = params![CHAT, after, i64::try_from(PAGE).unwrap() + 1].to_vec();
    if which == Which::Muted {
        params.push(NOW.into());
    }
    fixture.plan(members_sql(which), params).await
}

async fn page(fixture: &Fixture, which: Which, after: i64) -> (Vec<String>, i64) {
    let read = fixture.db.read(async move |tx: &mut Tx<'_>| members(tx, CHAT, which, (after, PAGE), NOW).await);
    let (members, next) = read.await.unwrap();
    (members.into_iter().map(|member| member.user_id).collect(), next)
}

/// The first page and the last one of each list: the place before it, and the places of its members.
fn pages(which: Which) -> [(i64, Vec<i64>); 2] {
    let every = if which == Which::Muted { MUTED_EVERY } else { 1 };
    let count = i64::try_from(PAGE).unwrap();
    let last = MEMBERS - count * every;
    let places = |after: i64| (1..=count).map(|index| after + index * every).collect();
    [(0, places(0)), (last, places(last))]
}

async fn pages_are_read_from_an_index(database: Database) {
    let fixture = Fixture::open(database).await;
    fill(&fixture).await;
    let dialect = fixture.db.read(async |tx: &mut Tx<'_>| Ok(tx.dialect())).await.unwrap();
    for (which, index) in [(Which::All, "group_member_place"), (Which::Muted, "group_member_muted")] {
        for (after, places) in pages(which) {
            let (members, next) = page(&fixture, which, after).await;
            let expected: Vec<_> = places.iter().map(|place| format!("user{place}")).collect();
            let end = places.last().copied().filter(|place| *place < MEMBERS).unwrap_or(0);
            assert_eq!((members, next), (expected, end), "{which:?} after {after}");
            let plan = plan(&fixture, which, after).await;
            let (found, wrong) = match (dialect, which) {
                (Dialect::Sqlite, _) => (
                    format!("SEARCH g USING INDEX {index} (conversation=? AND place>?)"),
                    // A whole table is scanned, or the rows are sorted.
                    &["SCAN", "TEMP B-TREE"][..],
                ),
                (Dialect::Postgres, Which::All) => {
                    (format!("Index Scan using {index} on group_member g"), &["Seq Scan", "Sort"][..])
                }
                // It estimates that a dozen members are muted, and sorts them.
                (Dialect::Postgres, Which::Muted) => (index.to_owned(), &["Seq Scan"][..]),
            };
            assert!(plan.contains(&found), "{which:?} after {after}: {plan}");
            assert!(!wrong.iter().any(|wrong| plan.contains(wrong)), "{which:?} after {after}: {plan}");
        }
    }
    fixture.db.close().await;
}

#[tokio::test]
async fn pages_of_members_are_read_from_an_index_on_sqlite() {
    with_sqlite(pages_are_read_from_an_index).await;
}

#[tokio::test]
async fn pages_of_members_are_read_from_an_index_on_postgresql() {
    with_postgres("members", pages_are_read_from_an_index).await;
}

const CREW: ConversationKey = ConversationKey(65);

/// Many decide, and the owner has entered last, as after a transfer.
async fn some_are_told(database: Database) {
    let fixture = Fixture::open(database).await;
    let fill = fixture.db.submit(Scope::none(), async |tx: &mut Tx<'_>| {
        let members = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                       INSERT INTO group_member (conversation, account, role, nickname, enter_type, entered_at, \
                       operator, place) SELECT 65, i, CASE WHEN i = 300 THEN 1 WHEN i > 50 THEN 2 ELSE 3 END, '', 1, 0, \
                       0, i FROM n";
        Ok(tx.execute(members, &[]).await?)
    });
    assert_eq!(fill.await.unwrap(), 300);
    let told = fixture.db.read(async |tx: &mut Tx<'_>| deciders(tx, CREW).await).await.unwrap();
    let expected: Vec<UserKey> = [300].into_iter().chain(51..150).map(UserKey).collect();
    assert_eq!(told, expected);
    fixture.db.close().await;
}

#[tokio::test]
async fn the_owner_and_ninety_nine_administrators_are_told() {
    with_sqlite(some_are_told).await;
}

#[tokio::test]
async fn the_owner_and_ninety_nine_administrators_are_told_on_postgresql() {
    with_postgres("told", some_are_told).await;
}

#[tokio::test]
async fn those_who_are_told_are_read_from_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
    let plan = fixture.plan(DECIDERS, params![CREW, MAX_TOLD].to_vec()).await;
    assert!(plan.contains("SEARCH group_member USING INDEX group_member_rank (conversation=?"), "{plan}");
    assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    fixture.db.close().await;
}

/// A node of an earlier build lets somebody in again and leaves what their stay before has shown. It would show them what changed while
/// they were out.
#[tokio::test]
async fn what_a_stay_has_shown_is_not_taken_for_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
    let enter_with_history = async |rev: i64| {
        let place = Place { role: 3, enter_type: 1, at: 0, operator: UserKey(0), rev };
        let entered = fixture.db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
            tx.execute("DELETE FROM group_member", &[]).await?;
            enter(tx, CHAT, &[(BOB, 1)], (place, true)).await
        });
        assert!(entered.await.unwrap()[0].1.is_return);
    };
    // The first stay is from 10 to 12. The second, from 20 to 30, began at an earlier build.
    let first =
        "INSERT INTO span (account, conversation, from_seq, from_rev, to_seq, to_rev) VALUES (2, 64, 1, 10, 0, 12)";
    fixture.execute(first).await;
    fixture.execute("UPDATE member SET from_rev = 20, shown_rev = 10, to_seq = 0, to_rev = 30 WHERE account = 2").await;
    enter_with_history(40).await;
    // The third shows what changed since the second.
    fixture.execute("UPDATE member SET to_seq = 0, to_rev = 50 WHERE account = 2").await;
    enter_with_history(60).await;
    let shown = fixture.db.read(async |tx: &mut Tx<'_>| {
        let rows = tx.fetch("SELECT from_rev, shown_rev FROM span WHERE account = 2 ORDER BY from_rev", &[]).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<Vec<(i64, i64)>, Error>>()
    });
    assert_eq!(shown.await.unwrap(), [(10, 0), (20, 0), (40, 31)]);
    fixture.db.close().await;
}
