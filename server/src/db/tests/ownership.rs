//! One server owns a PostgreSQL database.

use std::time::{Duration, Instant};

use super::super::backend::Limits;
use super::super::postgres;
use super::*;

const SOON: Duration = Duration::from_secs(60);

pub(super) async fn all(cluster: &Cluster) {
    a_second_server_is_refused(&TestDb::new(Some(cluster), "second")).await;
    servers_that_start_at_the_same_time(&TestDb::new(Some(cluster), "race")).await;
    the_lock_is_taken_again(cluster, &TestDb::new(Some(cluster), "again")).await;
    a_server_whose_lock_is_held_by_another_stops(cluster, &TestDb::new(Some(cluster), "held")).await;
    a_server_that_was_replaced_neither_reads_nor_writes(cluster, &TestDb::new(Some(cluster), "replaced")).await;
    a_server_stops_after_another_one_was_there(cluster, &TestDb::new(Some(cluster), "gone_again")).await;
    a_server_of_an_older_build_is_noticed(&TestDb::new(Some(cluster), "older")).await;
}

/// A server that waits long enough for another to stop.
fn patient(test_db: &TestDb<'_>) -> DbConfig {
    DbConfig { owner_wait: SOON, ..test_db.config() }
}

fn impatient(config: &DbConfig) -> DbConfig {
    DbConfig { owner_wait: Duration::from_millis(100), ..config.clone() }
}

async fn refused(config: DbConfig) -> String {
    Db::<Put>::open(config, |_| {}).await.map(drop).unwrap_err().to_string()
}

async fn a_second_server_is_refused(test_db: &TestDb<'_>) {
    let config = patient(test_db);
    let store = Store::open(config.clone()).await;
    store.put(1).await.unwrap();
    let message = refused(impatient(&config)).await;
    assert!(message.contains("another server uses this PostgreSQL database (from "), "{message}");
    // The attempt did no harm.
    store.put(2).await.unwrap();
    store.db.close().await;
    let store = Store::open(config).await;
    assert_eq!(store.ids().await, [1, 2]);
    store.db.close().await;
}

async fn servers_that_start_at_the_same_time(test_db: &TestDb<'_>) {
    let config = test_db.config();
    let open = || Db::<Put>::open(impatient(&config), |_| {});
    let opened = futures_util::future::join_all((0..4).map(|_| open())).await;
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1);
}

/// Returns the process IDs of the connections whose names begin with `name`.
fn connections(cluster: &Cluster, database: &str, name: &str) -> String {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE datname LIKE '{database}%' AND application_name LIKE '{name}%' ORDER BY pid"
    );
    cluster.sql(&sql).unwrap()
}

fn terminate_owner(cluster: &Cluster, database: &str) {
    let pid = connections(cluster, database, "zim-server owner");
    cluster.sql(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
}

pub(super) async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < SOON, "{what}");
        tokio::task::yield_now().await;
    }
}

async fn the_lock_is_taken_again(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = patient(test_db);
    let store = Store::open(config.clone()).await;
    let before = connections(cluster, test_db.name, "zim-server owner");
    terminate_owner(cluster, test_db.name);
    let has_lock = "SELECT COUNT(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                    WHERE l.locktype = 'advisory' AND l.granted AND a.datname LIKE 'again%'";
    until("the lock is not taken again", || {
        connections(cluster, test_db.name, "zim-server owner") != before && cluster.sql(has_lock).unwrap() == "1"
    })
    .await;
    store.put(1).await.unwrap();
    assert_eq!(store.ids().await, [1]);
    let message = refused(impatient(&config)).await;
    assert!(message.contains("another server"), "{message}");
    store.db.close().await;
}

async fn a_server_whose_lock_is_held_by_another_stops(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = patient(test_db);
    let store = Store::open(config.clone()).await;
    let Database::Postgres(url) = &config.database else { unreachable!() };
    let limits = Limits { statement: SOON, job: SOON };
    let (options, _) = postgres::options(url).unwrap();
    let mut other = postgres::Link::open(&options.application_name("other"), limits).await.unwrap();
    let wait = tokio::spawn(async move {
        other.simple(format!("SELECT pg_advisory_lock({})", postgres::LOCK)).await.unwrap();
        other
    });
    let waits = "SELECT COUNT(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                 WHERE l.locktype = 'advisory' AND NOT l.granted AND a.datname LIKE 'held%'";
    until("nobody waits for the lock", || cluster.sql(waits).unwrap() == "1").await;
    terminate_owner(cluster, test_db.name);
    let _other = wait.await.unwrap();
    let reason = tokio::time::timeout(SOON, store.db.lost()).await.unwrap();
    assert!(reason.contains("another server uses this PostgreSQL database"), "{reason}");
}

/// As after a long pause: its connections are still open when another server takes over.
async fn a_server_that_was_replaced_neither_reads_nor_writes(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = patient(test_db);
    let first = Store::open(config.clone()).await;
    first.put(1).await.unwrap();
    first.ids().await;
    let stored = connections(cluster, test_db.name, "zim-server store");
    let second = Store::open(config.clone());
    let second = async {
        let waits = "SELECT COUNT(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                     WHERE l.locktype = 'advisory' AND NOT l.granted AND a.datname LIKE 'replaced%'";
        let terminate = async {
            until("nobody waits for the lock", || cluster.sql(waits).unwrap() == "1").await;
            let holder = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                          WHERE l.locktype = 'advisory' AND l.granted AND a.datname LIKE 'replaced%'";
            cluster.sql(holder).unwrap();
        };
        tokio::join!(second, terminate).0
    }
    .await;
    let left = connections(cluster, test_db.name, "zim-server store");
    assert!(stored.lines().all(|pid| left.lines().all(|other| other != pid)), "connections were left open");
    for error in [first.put(2).await.unwrap_err(), first.db.read(async |_| Ok(())).await.unwrap_err()] {
        assert!(error.cause().unwrap().downcast_ref::<DbError>().unwrap().is_unavailable(), "{error:?}");
    }
    let reason = tokio::time::timeout(SOON, first.db.lost()).await.unwrap();
    assert!(reason.contains("another server"), "{reason}");
    assert_eq!(second.ids().await, [1]);
    second.put(2).await.unwrap();
    // It also stays away when the other has ended.
    second.db.close().await;
    assert!(first.put(3).await.is_err());
    let third = Store::open(config).await;
    assert_eq!(third.ids().await, [1, 2]);
}

/// The lock is free again, but what this server has in memory may be out of date.
async fn a_server_stops_after_another_one_was_there(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = test_db.config();
    let store = Store::open(config.clone()).await;
    let Database::Postgres(url) = &config.database else { unreachable!() };
    cluster.sql_in(url, "UPDATE server_owner SET token = 'another'").unwrap();
    terminate_owner(cluster, test_db.name);
    let reason = tokio::time::timeout(SOON, store.db.lost()).await.unwrap();
    assert_eq!(reason, "another server has taken the database over");
}

async fn a_server_of_an_older_build_is_noticed(test_db: &TestDb<'_>) {
    let config = test_db.config();
    let Database::Postgres(url) = &config.database else { unreachable!() };
    let limits = Limits { statement: SOON, job: SOON };
    let (options, _) = postgres::options(url).unwrap();
    let older = postgres::Link::open(&options.application_name("zim-server"), limits).await.unwrap();
    let message = refused(impatient(&config)).await;
    assert!(message.contains("a server of an older build"), "{message}");
    older.close().await;
    Store::open(DbConfig { owner_wait: SOON, ..config }).await.db.close().await;
}
