//! What a message costs in a large group.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{World, group, soon};
use zim_protocol::{
    ConversationNotificationStatus, ConversationType, Event, EventKind, GroupAdvancedConfig, GroupEvent, GroupInfo,
    GroupMemberQueryConfig, GroupMuteConfig, GroupMuteMode, Message, MessageReactionAddConfig, MessageRevokeConfig,
    MessageSendConfig,
};
use zim_server::db::{Dialect, Scope, Tx, params};

const GROUP: ConversationType = ConversationType::Group;

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

/// How many rows something writes, and how many it adds.
type Cost = (i64, i64);

async fn cost<T>(world: &World, what: impl Future<Output = T>) -> (T, Cost) {
    let since = transaction(world).await;
    let before = state(world, since).await;
    let done = what.await;
    let after = state(world, since).await;
    (done, (after.written - before.written, after.rows - before.rows))
}

/// Returns what a message costs in a group, and what happens to it and to the group then. Two members are online.
async fn costs(members: i64) -> [(&'static str, Cost); 11] {
    let world = World::with(|config| config.limits.max_group_members = 100_000).await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let info = GroupInfo { group_id: "crew".into(), ..GroupInfo::default() };
    soon(ann.create_group(info, ["bob"], GroupAdvancedConfig::default())).await.unwrap();
    ann.say(group("crew"), "first").await;
    bob.receives("first").await;
    // And one who comes later.
    add_members(&world, members - 3).await;
    let ((), plain) = cost(&world, async {
        ann.say(group("crew"), "plain").await;
        bob.receives("plain").await;
    })
    .await;
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let (got, message) = cost(&world, async {
        let message = Message::text("second");
        soon(ann.send_message(message, "crew", GROUP, config, MessageSendNotification::default())).await.unwrap();
        bob.receives("second").await
    })
    .await;
    let ((), receipt) = cost(&world, async {
        soon(bob.send_message_receipts_read(std::slice::from_ref(&got), "crew", GROUP)).await.unwrap();
        ann.next(EventKind::MessageReceiptChanged).await;
    })
    .await;
    let ((), reaction) = cost(&world, async {
        soon(bob.add_message_reaction("+1", &got, MessageReactionAddConfig::default())).await.unwrap();
        ann.next(EventKind::MessageReactionsChanged).await;
    })
    .await;
    let ((), revoke) = cost(&world, async {
        soon(ann.revoke_message(&got, MessageRevokeConfig::default())).await.unwrap();
        bob.next(EventKind::MessageRevokeReceived).await;
    })
    .await;
    let ((), join) = cost(&world, async {
        soon(cai.join_group("crew")).await.unwrap();
        bob.next(EventKind::GroupMemberStateChanged).await;
    })
    .await;
    let ((), role) = cost(&world, async {
        soon(ann.set_group_member_role(2, "cai", "crew")).await.unwrap();
        bob.next(EventKind::GroupMemberInfoUpdated).await;
    })
    .await;
    let ((), leave) = cost(&world, async {
        soon(cai.leave_group("crew")).await.unwrap();
        bob.next(EventKind::GroupMemberStateChanged).await;
    })
    .await;
    let ((), disturb) = cost(&world, async {
        let no = ConversationNotificationStatus::DoNotDisturb;
        soon(bob.set_conversation_notification_status(no, "crew", GROUP)).await.unwrap();
    })
    .await;
    let ((), mute) = cost(&world, async {
        let config = GroupMuteConfig { mode: Some(GroupMuteMode::All as i32), ..GroupMuteConfig::default() };
        soon(ann.mute_group(true, "crew", config)).await.unwrap();
        bob.next(EventKind::GroupMutedInfoUpdated).await;
    })
    .await;
    let ((), dismiss) = cost(&world, async {
        soon(ann.dismiss_group("crew")).await.unwrap();
        bob.until("the end of the group", |seen| {
            seen.iter().find_map(|event| match event {
                Event::GroupStateChanged(event) if event.event() == GroupEvent::Dismissed => Some(()),
                _ => None,
            })
        })
        .await;
    })
    .await;
    world.end().await;
    [
        ("message", plain),
        ("message with a receipt", message),
        ("receipt", receipt),
        ("reaction", reaction),
        ("revoke", revoke),
        ("join", join),
        ("role", role),
        ("leave", leave),
        ("do not disturb", disturb),
        ("mute", mute),
        ("dismiss", dismiss),
    ]
}

/// A message writes itself, the conversation that has it, and the sender's count of sent messages.
#[tokio::test]
async fn what_happens_in_a_group_writes_as_many_rows_however_many_members_it_has() {
    let few = costs(4).await;
    assert_eq!(few[0], ("message", (3, 1)));
    assert_eq!(few[1], ("message with a receipt", (4, 2)));
    // None of them writes rows by the dozen.
    assert!(few.iter().all(|(_, (written, _))| (1..=12).contains(written)), "{few:?}");
    assert_eq!(costs(100_000).await, few);
}

/// Repeats the last change of the crew in its log.
pub(crate) async fn repeat_last_change(world: &World, times: i64) {
    let repeated = world.server().app().db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        let sql = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
                   INSERT INTO change (conversation, rev, kind, actor, at, subject, detail) \
                   SELECT h.conversation, h.rev + i, h.kind, h.actor, h.at, h.subject, h.detail FROM n \
                   CROSS JOIN change h JOIN conversation c ON c.id = h.conversation AND c.rev = h.rev \
                   WHERE c.type = 2 AND c.name = 'crew'";
        let rows = tx.execute(sql, &params![times]).await?;
        let sql = "UPDATE conversation SET rev = rev + $1 WHERE type = 2 AND name = 'crew'";
        tx.execute(sql, &params![times]).await?;
        Ok(rows)
    });
    assert_eq!(repeated.await.unwrap(), times.unsigned_abs());
}

/// Returns how many times clients have pulled.
async fn pulls(world: &World) -> u64 {
    let metrics = world.metrics().await;
    let of_pulls = metrics.lines().filter(|line| line.starts_with("zim_requests_total{method=\"Sync/Pull\""));
    of_pulls.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_device_that_missed_ten_thousand_joins_catches_up_in_one_page_and_loses_no_message() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let info = GroupInfo { group_id: "crew".into(), ..GroupInfo::default() };
    soon(ann.create_group(info, ["bob"], GroupAdvancedConfig::default())).await.unwrap();
    ann.say(group("crew"), "before").await;
    bob.receives("before").await;
    let dir = bob.dir();
    bob.quit().await;
    soon(cai.join_group("crew")).await.unwrap();
    // That join, ten thousand times.
    repeat_last_change(&world, 9_999).await;
    let texts: Vec<String> = (1..=5).map(|number| number.to_string()).collect();
    for text in &texts {
        ann.say(group("crew"), text).await;
    }
    let before = pulls(&world).await;
    let bob = world.user_at(dir, "bob").await;
    bob.receives("5").await;
    bob.caught_up(0).await;
    assert_eq!(pulls(&world).await - before, 1);
    let received: Vec<String> =
        bob.received_from("crew").iter().map(|(message, _)| message.as_text().unwrap().to_owned()).collect();
    assert_eq!(received, texts);
    assert!(bob.seen_of(EventKind::GroupMemberStateChanged).is_empty());
    // What happens from now on is told.
    soon(cai.leave_group("crew")).await.unwrap();
    bob.next(EventKind::GroupMemberStateChanged).await;
    let config = GroupMemberQueryConfig { next_flag: 0, count: 10 };
    let members = soon(bob.query_group_member_list("crew", config)).await.unwrap().user_list;
    assert_eq!(members.iter().map(|member| member.user_id.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    world.end().await;
}
