//! Presence in rows, on both databases.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use zim_protocol::clock::Clock;
use zim_protocol::{FeedEntry, Push, UserOnlineStatus, UserStatus, feed_entry::Detail};

use super::subscription::{delete_expired, next_expiry, statuses_since, subscribe, unsubscribe};
use crate::app::App;
use crate::config::Config;
use crate::connection::{ConnectionState, Identity};
use crate::db::tests::{with_postgres, with_sqlite};
use crate::db::{Database, DbConfig, Scope, Tx, Value, params};
use crate::effect::{Effect, Queue};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::journal::tests::{ANN, BOB, Fixture};
use crate::key::{AppKey, LoginKey, UserKey};
use crate::media::Files;
use crate::presence::{
    CONNECTED_LOGINS, CONNECTED_PLATFORMS, Change, Connections, Custom, bit, change, connected, connected_of,
    connections, disconnected, end_custom_status, mark_unmarked_logins, own,
};
use crate::service::kinds;
use crate::task;

const ME: LoginKey = LoginKey(9);

/// Runs a job under Ann's lock.
async fn write<T: Send + 'static>(
    fixture: &Fixture,
    job: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
) -> T {
    fixture.db.submit(Scope::user(ANN), job).await.unwrap()
}

async fn set_custom(fixture: &Fixture, text: &'static str, duration_s: i64, now: i64) -> UserStatus {
    let custom = Some(Custom::new(text.to_owned(), duration_s, now));
    write(fixture, async move |tx: &mut Tx<'_>| change(tx, ANN, Change { connections: None, custom }, now, ME).await)
        .await
}

/// Takes the statuses that were published since the last call.
fn statuses(fixture: &Fixture) -> Vec<UserStatus> {
    let effects = std::mem::take(&mut *fixture.effects.lock());
    let of = |effect| match effect {
        Effect::Status { status, .. } => Some(*status),
        _ => None,
    };
    effects.into_iter().filter_map(of).collect()
}

/// The tasks: the names of their kinds, their subjects and their times.
async fn tasks(fixture: &Fixture) -> Vec<(&'static str, i64, i64)> {
    let all = fixture.db.read(async |tx: &mut Tx<'_>| task::list(tx, Queue::Tasks, (0, 0), false, 100).await);
    let name = |number| kinds().tasks.iter().find(|kind| kind.number == number).unwrap().name;
    all.await.unwrap().into_iter().map(|task| (name(task.kind), task.key, task.next_at)).collect()
}

/// The user of each entry of a push, and whether the subscription is deleted.
fn entries(push: &Push) -> Vec<(String, bool)> {
    let details = push.feed.iter().filter_map(|entry| entry.detail.clone());
    details
        .map(|detail| match detail {
            Detail::Subscription(entry) => (entry.status.unwrap().user_id, entry.is_deleted),
            other => panic!("{other:?}"),
        })
        .collect()
}

async fn add_login(fixture: &Fixture, login: i64, platform: i64) {
    write(fixture, async move |tx: &mut Tx<'_>| {
        tx.execute(
            "INSERT INTO session (id, ticket, account, platform, device, login_at, state, connected) \
             VALUES ($1, $2, $3, $4, $5, 0, 0, 1)",
            &params![login, login.to_be_bytes().to_vec(), ANN, platform, Vec::new()],
        )
        .await?;
        let connections = Some(connections(tx, ANN, false).await?);
        change(tx, ANN, Change { connections, custom: None }, 100 + login, LoginKey(login)).await
    })
    .await;
}

async fn presence_follows_from_rows(database: Database) {
    let fixture = Fixture::open(database).await;

    // Two devices of one platform are one platform. The end of a connection that was replaced changes nothing.
    add_login(&fixture, 10, 5).await;
    add_login(&fixture, 11, 5).await;
    add_login(&fixture, 12, 6).await;
    let published: Vec<(i64, Vec<i32>)> =
        statuses(&fixture).into_iter().map(|status| (status.last_update_time, status.online_platforms)).collect();
    assert_eq!(published, [(110, vec![5]), (112, vec![5, 6])]);
    let disconnect = async |login: i64, now: i64| {
        write(&fixture, async move |tx: &mut Tx<'_>| disconnected(tx, ANN, LoginKey(login), now).await).await;
    };
    disconnect(99, 200).await;
    disconnect(10, 201).await;
    assert!(statuses(&fixture).is_empty());
    disconnect(12, 202).await;
    disconnect(12, 203).await;
    let of_ann = fixture.db.read(async |tx: &mut Tx<'_>| connected_of(tx, ANN).await).await.unwrap();
    assert_eq!(of_ann, [LoginKey(11)]);
    assert_eq!(statuses(&fixture).len(), 1);
    let left = fixture.db.read(async |tx: &mut Tx<'_>| connected(tx, LoginKey(0), 10).await).await.unwrap();
    assert_eq!(left, [(LoginKey(11), ANN)]);
    disconnect(11, 204).await;
    let offline = statuses(&fixture).remove(0);
    assert_eq!((offline.online_status(), offline.last_update_time), (UserOnlineStatus::Offline, 204));

    // A custom status expires at its time, not before, and only once.
    set_custom(&fixture, "busy", 1, 1_000).await;
    let due = async || tasks(&fixture).await;
    assert_eq!(due().await, [("custom-status-end", ANN.0, 2_000)]);
    let at = async |now: i64| fixture.db.read(async move |tx: &mut Tx<'_>| own(tx, ANN, now).await).await.unwrap();
    assert_eq!((at(1_999).await.custom_status.as_str(), at(2_000).await.custom_status.as_str()), ("busy", ""));
    statuses(&fixture);
    let end = async |now: i64| {
        write(&fixture, async move |tx: &mut Tx<'_>| end_custom_status(tx, ANN, (now, now)).await).await;
        statuses(&fixture).len()
    };
    assert_eq!((end(1_999).await, due().await.len(), end(2_000).await, due().await.len()), (0, 1, 1, 0));
    // A change replaces the end, and a status without one has no task.
    set_custom(&fixture, "busy", 1, 3_000).await;
    set_custom(&fixture, "busy", 9, 3_000).await;
    assert_eq!(due().await, [("custom-status-end", ANN.0, 12_000)]);
    set_custom(&fixture, "always", -1, 3_000).await;
    assert!(due().await.is_empty());
    set_custom(&fixture, "", 0, 2_000).await;
    statuses(&fixture);

    // Changes since a time are found: the user's own and those of users subscribed to.
    let subscribe_one = async |user: UserKey, target: UserKey| {
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| {
            subscribe(tx, log, user, &[target], (2_000, 9_000), 100).await
        };
        let (_, mut pushes) = fixture.write(user, Scope::user(user).and_user(target), job).await.unwrap();
        pushes.remove(0)
    };
    let push = subscribe_one(BOB, ANN).await;
    assert_eq!((push.from, push.to, push.feed.len()), (1, 1, 1));
    let since = async |user: UserKey, since: i64, now: i64| {
        let found = fixture.db.read(async move |tx: &mut Tx<'_>| statuses_since(tx, user, (since, now), 0, 10).await);
        found.await.unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!((since(ANN, 2_000, 2_000).await, since(ANN, 2_001, 2_000).await), (vec![ANN.0], vec![]));
    assert_eq!((since(BOB, 2_000, 8_999).await, since(BOB, 0, 9_000).await), (vec![ANN.0], vec![]));

    // Expired subscriptions are deleted, and every device is notified.
    fixture
        .execute(
            "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
             VALUES (3, 7, 'carl', 0, '', '', '', 0, 0)",
        )
        .await;
    let carl = UserKey(3);
    let (_, later) = fixture
        .write(BOB, Scope::user(BOB).and_user(carl), async move |tx: &mut Tx<'_>, log: &mut LogWriter| {
            subscribe(tx, log, BOB, &[carl], (9_000, 20_000), 100).await
        })
        .await
        .unwrap();
    assert_eq!(entries(&later[0]), [("carl".to_owned(), false)]);
    let next = async || fixture.db.read(async |tx: &mut Tx<'_>| next_expiry(tx, BOB).await).await.unwrap();
    // One task for all of them, at the minute after the first one.
    assert_eq!((next().await, due().await), (Some(9_000), vec![("subscriptions-end", BOB.0, 60_000)]));
    let sweep = async move |tx: &mut Tx<'_>, log: &mut LogWriter| delete_expired(tx, log, BOB, 9_000).await;
    fixture.write(BOB, Scope::user(BOB), sweep).await.unwrap();
    assert_eq!(next().await, Some(20_000));
    let swept = std::mem::take(&mut *fixture.effects.lock()).into_iter().filter_map(|effect| match effect {
        Effect::Feed { user: BOB, pos, entry, .. } => Some((pos, *entry)),
        _ => None,
    });
    let (pos, entry) = swept.last().unwrap();
    let feed = vec![FeedEntry { pos: pos.unsigned_abs(), detail: Some(entry) }];
    assert_eq!(entries(&Push { feed, ..Push::default() }), [("ann".to_owned(), true)]);
    let (ended, pushes) = fixture
        .write(BOB, Scope::user(BOB), async move |tx: &mut Tx<'_>, log: &mut LogWriter| {
            unsubscribe(tx, log, BOB, &[carl, ANN], 20_000).await
        })
        .await
        .unwrap();
    assert!(ended.is_empty());
    assert_eq!(entries(&pushes[0]), [("carl".to_owned(), true)]);

    // An expired subscription that was not swept yet counts, so that short ones do not accumulate, and is the first to
    // be evicted.
    let subscribe_one = async |target: UserKey, now: i64, until: i64, most: i64| {
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| {
            subscribe(tx, log, BOB, &[target], (now, until), most).await
        };
        entries(&fixture.write(BOB, Scope::user(BOB).and_user(target), job).await.unwrap().1[0])
    };
    let entry = |name: &str, is_deleted: bool| (name.to_owned(), is_deleted);
    assert_eq!(subscribe_one(ANN, 30_000, 90_000, 2).await, [entry("ann", false)]);
    assert_eq!(subscribe_one(carl, 30_000, 31_000, 2).await, [entry("carl", false)]);
    fixture
        .execute(
            "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
             VALUES (4, 7, 'dora', 0, '', '', '', 0, 0)",
        )
        .await;
    assert_eq!(subscribe_one(UserKey(4), 31_000, 90_000, 2).await, [entry("carl", true), entry("dora", false)]);
    assert_eq!(subscribe_one(carl, 31_000, 90_000, 2).await, [entry("ann", true), entry("carl", false)]);
    fixture.db.close().await;
}

/// The limit is checked with the counter: no list is counted on the thread that writes.
#[tokio::test]
async fn subscriptions_are_counted_in_the_row_of_their_user() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
    let count = async || {
        let sql = "SELECT subscription_count FROM account WHERE id = 2";
        let found =
            fixture.db.read(async |tx: &mut Tx<'_>| Ok(tx.fetch_one(sql, &[]).await?.unwrap().get::<i64>(0)?));
        found.await.unwrap()
    };
    let subscribe_to_ann = async |most: i64| {
        let job =
            async move |tx: &mut Tx<'_>, log: &mut LogWriter| subscribe(tx, log, BOB, &[ANN], (0, 100), most).await;
        entries(&fixture.write(BOB, Scope::user(BOB).and_user(ANN), job).await.unwrap().1[0])
    };
    let entry = |name: &str, is_deleted: bool| (name.to_owned(), is_deleted);
    for _ in 0..2 {
        assert_eq!((subscribe_to_ann(2).await, count().await), (vec![entry("ann", false)], 1), "renewing adds none");
    }
    let sql = "INSERT INTO subscription (account, target, place, expires_at) VALUES (2, 2, 0, 100)";
    fixture.execute(sql).await;
    assert_eq!(subscribe_to_ann(1).await, [entry("ann", false)], "nothing is evicted that is not counted");
    fixture.execute("UPDATE account SET subscription_count = 2 WHERE id = 2").await;
    assert_eq!(subscribe_to_ann(1).await, [entry("bob", true), entry("ann", false)]);
    assert_eq!(count().await, 1);
    let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| delete_expired(tx, log, BOB, 100).await;
    fixture.write(BOB, Scope::user(BOB), job).await.unwrap();
    assert_eq!(count().await, 0);
    fixture.db.close().await;
}

#[tokio::test]
async fn presence_follows_from_rows_on_sqlite() {
    with_sqlite(presence_follows_from_rows).await;
}

#[tokio::test]
async fn presence_follows_from_rows_on_postgresql() {
    with_postgres("status", presence_follows_from_rows).await;
}

/// Counted by the database itself: 10,000 subscribers do not make a change more expensive.
#[tokio::test]
async fn a_change_is_one_row_written_however_many_have_subscribed() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
    let written = async || {
        write(&fixture, async |tx: &mut Tx<'_>| {
            Ok(tx.fetch_one("SELECT total_changes()", &[]).await?.unwrap().get::<i64>(0)?)
        })
        .await
    };
    set_custom(&fixture, "alone", -1, 1_000).await;
    let before = written().await;
    set_custom(&fixture, "no subscribers", -1, 2_000).await;
    assert_eq!(written().await - before, 1);
    write(&fixture, async |tx: &mut Tx<'_>| {
        for user in 1_000..11_000 {
            let row = [user, ANN.0, user, i64::MAX].map(Value::from);
            tx.execute("INSERT INTO subscription (account, target, place, expires_at) VALUES ($1, $2, $3, $4)", &row)
                .await?;
        }
        Ok(())
    })
    .await;
    let before = written().await;
    set_custom(&fixture, "10,000 subscribers", -1, 3_000).await;
    let connections = Some(Connections { platforms: bit(5), has_logged_out: false });
    write(&fixture, async move |tx: &mut Tx<'_>| {
        change(tx, ANN, Change { connections, custom: None }, 4_000, ME).await
    })
    .await;
    assert_eq!(written().await - before, 2, "two changes");
    // A change to the same status writes nothing.
    write(&fixture, async move |tx: &mut Tx<'_>| {
        change(tx, ANN, Change { connections, custom: None }, 5_000, ME).await
    })
    .await;
    assert_eq!(written().await - before, 2);
    fixture.db.close().await;
}

/// Without statistics, which nothing collects here, a planner takes a wrong index rather than none.
#[tokio::test]
async fn the_reads_of_every_login_use_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
    let platforms = fixture.plan(CONNECTED_PLATFORMS, params![ANN].to_vec()).await;
    assert!(platforms.contains("USING INDEX session_account (account=?)"), "{platforms}");
    let connected = fixture.plan(CONNECTED_LOGINS, params![0, 10].to_vec()).await;
    assert!(connected.contains("USING INDEX session_connected (id>?)"), "{connected}");
    fixture.db.close().await;
}

const START_MS: i64 = 1_800_000_000_000;
const WAITING: usize = 16;

/// A login that lost its connection while the write queue was full does not wait for the next look for lost logins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_that_the_full_queue_refuses_is_repeated_soon() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(dir.path().join("test.db"));
    Fixture::open(database.clone()).await.db.close().await;
    let clock = Clock::manual(START_MS);
    let settings = DbConfig { queue: WAITING, ..DbConfig::new(database) };
    let config = Config::default();
    let files = Files::open(config.media.options(dir.path())).unwrap();
    let app = App::open(Arc::new(config), clock.clone(), settings, files, kinds()).await.unwrap();
    app.db
        .submit(Scope::user(ANN), async |tx: &mut Tx<'_>| {
            let sql = "INSERT INTO session (id, ticket, account, platform, device, login_at, state, connected) \
                       VALUES ($1, $2, $3, 5, $2, 0, 0, 1)";
            Ok(tx.execute(sql, &params![ME, vec![1_u8; 16], ANN]).await?)
        })
        .await
        .unwrap();
    let connection = ConnectionState::new("127.0.0.1:1".parse().unwrap(), 5, [1; 16], String::new(), 1_000);
    let connection = Arc::new(connection);
    connection.log_in(Identity {
        app: AppKey(7),
        user: ANN,
        user_id: "ann".into(),
        login: ME,
        ticket: [1; 16],
        login_at: 0,
        one_shot: false,
    });
    app.fanout.register(ANN, Arc::clone(&connection));
    let stopped = CancellationToken::new();
    let maintenance = tokio::spawn(mark_unmarked_logins(Arc::clone(&app), stopped.clone()));
    // One job runs and the others fill the queue.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (arrived, here) = tokio::sync::oneshot::channel();
    let running = app.db.submit(Scope::none(), async move |_| {
        arrived.send(()).unwrap();
        let _ = gate.recv();
        Ok(())
    });
    here.await.unwrap();
    let waiting: Vec<_> = (0..WAITING).map(|_| app.db.submit(Scope::none(), async |_| Ok(()))).collect();
    app.disconnected(&connection);
    drop(open);
    running.await.unwrap();
    for job in waiting {
        job.await.unwrap();
    }
    let is_connected = async || {
        let found = app.db.read(async |tx: &mut Tx<'_>| connected(tx, LoginKey(0), 10).await);
        !found.await.unwrap().is_empty()
    };
    assert!(is_connected().await, "the job was not refused");
    // The time after which lost logins are looked for again is 35 s, and is not reached.
    let marked = tokio::time::timeout(Duration::from_secs(60), async {
        while is_connected().await {
            if clock.now_ms() < START_MS + 30_000 {
                clock.advance(20);
            }
            tokio::task::yield_now().await;
        }
    });
    marked.await.expect("the disconnect was not repeated");
    stopped.cancel();
    maintenance.await.unwrap();
    app.db.close().await;
}
