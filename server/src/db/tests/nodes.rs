//! Servers that share a PostgreSQL database.

use std::time::Duration;

use super::ownership::until;
use super::*;
use crate::db::migrate::LOCK;

/// Long enough for a slow machine.
const LEASE: Duration = Duration::from_secs(60);
/// A test waits until it is over.
const SHORT: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(60);
/// The schema of the next version.
const WIDER: &[Migration] = &[
    SCHEMA[0],
    Migration {
        name: "0002_wider",
        sql: "ALTER TABLE account ADD COLUMN m BIGINT NOT NULL DEFAULT 0; ALTER TABLE item ADD COLUMN m BIGINT NOT NULL DEFAULT 0",
    },
];

/// A schema of which a part waits as long as there is a row in `gate`.
const SLOW: &[Migration] = &[
    SCHEMA[0],
    Migration {
        name: "0002_slow",
        sql: "DO 'BEGIN WHILE EXISTS (SELECT 1 FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP; END'; \
              CREATE TABLE slow (id BIGINT PRIMARY KEY)",
    },
];

pub(super) async fn all(cluster: &Cluster) {
    nodes_have_numbers_of_their_own(&TestDb::new(Some(cluster), "numbers")).await;
    more_nodes_than_there_are_numbers_do_not_start(cluster, &TestDb::new(Some(cluster), "full")).await;
    a_server_alone_and_a_node_exclude_each_other(&TestDb::new(Some(cluster), "exclude")).await;
    nothing_is_stored_after_the_generation_was_raised(cluster, &TestDb::new(Some(cluster), "raised")).await;
    a_node_whose_lease_has_ended_stores_nothing(cluster, &TestDb::new(Some(cluster), "ended")).await;
    a_dead_node_is_noticed_and_its_number_is_free(cluster, &TestDb::new(Some(cluster), "dead")).await;
    a_node_goes_on_beside_one_that_migrates(cluster, &TestDb::new(Some(cluster), "wider")).await;
    a_node_waits_for_one_that_migrates(cluster, &TestDb::new(Some(cluster), "slow")).await;
}

fn node(config: &DbConfig, lease: Duration) -> DbConfig {
    DbConfig { node: Some(NodeConfig { lease, clock: Clock::system() }), ..config.clone() }
}

fn number(store: &Store) -> (u8, i64) {
    let lease = store.db.lease().unwrap();
    (lease.number(), lease.generation())
}

fn url(config: &DbConfig) -> &str {
    let Database::Postgres(url) = &config.database else { unreachable!() };
    url
}

async fn nodes_have_numbers_of_their_own(test_db: &TestDb<'_>) {
    let config = node(&test_db.config(), LEASE);
    let stores = futures_util::future::join_all((0..4).map(|_| Store::open(config.clone()))).await;
    let mut numbers: Vec<_> = stores.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [(0, 1), (1, 1), (2, 1), (3, 1)]);
    for (id, store) in (1..).zip(&stores) {
        store.put(id).await.unwrap();
    }
    assert_eq!(stores[0].ids().await, [1, 2, 3, 4]);
    // A number that was given back is the next that is taken.
    let (one, others): (Vec<_>, Vec<_>) = stores.into_iter().partition(|store| number(store).0 == 1);
    one[0].db.close().await;
    let again = Store::open(config).await;
    assert_eq!(number(&again), (1, 2));
    again.db.close().await;
    for store in others {
        store.db.close().await;
    }
}

async fn more_nodes_than_there_are_numbers_do_not_start(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = node(&test_db.config(), LEASE);
    let first = Store::open(config.clone()).await;
    let others = "INSERT INTO server_node (number, generation, lease_until) \
                  SELECT number, 1, 9000000000000000 FROM generate_series(1, 63) AS number";
    cluster.sql_in(url(&config), others).unwrap();
    let message = Db::<Put>::open(config.clone(), |_| {}).await.map(drop).unwrap_err().to_string();
    assert!(message.contains("64 servers use this PostgreSQL database; there are no more numbers"), "{message}");
    first.put(1).await.unwrap();
    // One of them is given back.
    cluster.sql_in(url(&config), "UPDATE server_node SET lease_until = 0 WHERE number = 63").unwrap();
    let last = Store::open(config).await;
    assert_eq!(number(&last), (63, 2));
    last.db.close().await;
    first.db.close().await;
}

async fn a_server_alone_and_a_node_exclude_each_other(test_db: &TestDb<'_>) {
    let alone = DbConfig { owner_wait: Duration::from_millis(100), ..test_db.config() };
    let node = node(&alone, LEASE);
    for (first, second, remedy) in [
        (&alone, &node, "it has no --bus: stop it, and give both the same --bus"),
        (&node, &alone, "To run both on this database, give both the same --bus"),
    ] {
        let store = Store::open(first.clone()).await;
        let message = Db::<Put>::open(second.clone(), |_| {}).await.map(drop).unwrap_err().to_string();
        assert!(message.contains("another server uses this PostgreSQL database (from "), "{message}");
        assert!(message.contains(remedy), "{message}");
        store.db.close().await;
    }
}

/// As when a paused node wakes: its connections work, and it believes that it holds its lease.
async fn nothing_is_stored_after_the_generation_was_raised(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = node(&test_db.config(), LEASE);
    let store = Store::open(config.clone()).await;
    store.put(1).await.unwrap();
    let (gate, held) = store.hold().await;
    let (one, other) = (store.put(2), store.put(3));
    cluster.sql_in(url(&config), "UPDATE server_node SET generation = generation + 1").unwrap();
    drop(gate);
    for error in [held.await.unwrap_err(), one.await.unwrap_err(), other.await.unwrap_err()] {
        let error = error.cause().unwrap().downcast_ref::<DbError>().unwrap();
        assert!(error.is_unavailable() && error.to_string().contains("lease has ended"), "{error}");
    }
    assert!(store.put(4).await.is_err() && store.db.read(async |_| Ok(())).await.is_err());
    tokio::time::timeout(SOON, store.db.lost()).await.unwrap();
    assert_eq!(cluster.sql_in(url(&config), "SELECT id FROM item").unwrap(), "1");
}

async fn a_node_whose_lease_has_ended_stores_nothing(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = node(&test_db.config(), LEASE);
    let store = Store::open(config.clone()).await;
    cluster.sql_in(url(&config), "UPDATE server_node SET lease_until = 1").unwrap();
    // It finds this out by a commit or by the renewal, whichever is first.
    assert!(store.put(1).await.is_err());
    let reason = tokio::time::timeout(SOON, store.db.lost()).await.unwrap();
    assert!(reason.contains("lease has ended") || reason.contains("node number"), "{reason}");
    assert_eq!(cluster.sql_in(url(&config), "SELECT COUNT(*) FROM item").unwrap(), "0");
}

async fn a_dead_node_is_noticed_and_its_number_is_free(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = test_db.config();
    let first = Store::open(node(&config, LEASE)).await;
    let sql = "INSERT INTO server_node (number, generation, lease_until) VALUES (7, 3, 5)";
    let mut deaths = first.db.lease().unwrap().deaths();
    cluster.sql_in(url(&config), sql).unwrap();
    tokio::time::timeout(SOON, deaths.changed()).await.unwrap().unwrap();
    let row = "SELECT generation, lease_until FROM server_node WHERE number = 7";
    assert_eq!(cluster.sql_in(url(&config), row).unwrap(), "4|-1");
    // A node that renews its lease lives for longer than one lease.
    let second = Store::open(node(&config, SHORT)).await;
    let until_of = "SELECT lease_until FROM server_node WHERE number = 1";
    let end: i64 = cluster.sql_in(url(&config), until_of).unwrap().parse().unwrap();
    until("the lease is not renewed", || {
        cluster.sql_in(url(&config), until_of).unwrap().parse::<i64>().unwrap() > end + 2_000
    })
    .await;
    second.put(1).await.unwrap();
    first.db.close().await;
    second.db.close().await;
    assert_eq!(cluster.sql_in(url(&config), "SELECT COUNT(*) FROM server_node WHERE lease_until > 0").unwrap(), "0");
}

/// A job has locked a table, and needs another one that the migration has locked.
async fn a_node_goes_on_beside_one_that_migrates(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = node(&test_db.config(), LEASE);
    let old = Store::open(config.clone()).await;
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let writing = old.db.submit(Scope::none(), async move |tx| {
        insert(tx, 1, "one").await?;
        locked.send(()).unwrap();
        let waits = "SELECT COUNT(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted";
        while tx.fetch_one(waits, &[]).await?.unwrap().get::<i64>(0)? == 0 {}
        tx.execute("INSERT INTO account (id, n) VALUES (1, 0)", &[]).await?;
        Ok(())
    });
    is_locked.await.unwrap();
    let (written, new) = tokio::join!(writing, Store::open(DbConfig { migrations: WIDER, ..config.clone() }));
    written.unwrap();
    old.put(2).await.unwrap();
    new.put(3).await.unwrap();
    assert_eq!((old.ids().await, new.ids().await), (vec![1, 2, 3], vec![1, 2, 3]));
    // Another node of the version before does not start, and gives its number back.
    let message = Db::<Put>::open(config.clone(), |_| {}).await.map(drop).unwrap_err().to_string();
    assert!(message.contains("newer than this server") && message.contains("0002_wider"), "{message}");
    let held = "SELECT COUNT(*) FROM server_node WHERE lease_until > 0";
    until("the number is held", || cluster.sql_in(url(&config), held).unwrap() == "2").await;
    old.put(4).await.unwrap();
    assert_eq!(new.ids().await, [1, 2, 3, 4]);
    old.db.close().await;
    new.db.close().await;
}

/// It does so although the database lets nobody else wait for long.
async fn a_node_waits_for_one_that_migrates(cluster: &Cluster, test_db: &TestDb<'_>) {
    let config = DbConfig { migrations: SLOW, ..node(&test_db.config(), LEASE) };
    let sql = |sql: &str| cluster.sql_in(url(&config), sql);
    sql("CREATE TABLE gate (id BIGINT); INSERT INTO gate VALUES (1)").unwrap();
    let own = sql("SELECT current_database()").unwrap();
    sql(&format!("ALTER DATABASE \"{own}\" SET lock_timeout = '100ms'")).unwrap();
    let found = |what: &str, column: &str| {
        let here = "datname = current_database() AND pid <> pg_backend_pid()";
        sql(&format!("SELECT {column} FROM pg_stat_activity WHERE {here} AND wait_event = '{what}'")).unwrap()
    };
    let first = Store::open(config.clone());
    let second = async {
        until("the first node does not migrate", || !found("PgSleep", "pid").is_empty()).await;
        Store::open(config.clone()).await
    };
    let open_gate = async {
        until("the second node does not wait", || !found("advisory", "pid").is_empty()).await;
        let waiting = found("advisory", "pid, xact_start");
        // Who begins to wait later, with the limit of the database, has waited for too long by now.
        let refused = sql(&format!("SELECT pg_advisory_lock({LOCK})")).unwrap_err().to_string();
        assert!(refused.contains("lock timeout"), "{refused}");
        assert_eq!(found("advisory", "pid, xact_start"), waiting, "the second node no longer waits as it did");
        sql("DELETE FROM gate").unwrap();
    };
    let (first, second, ()) = tokio::join!(first, second, open_gate);
    first.put(1).await.unwrap();
    second.put(2).await.unwrap();
    assert_eq!(first.ids().await, [1, 2]);
    assert_eq!(sql("SELECT COUNT(*) FROM slow").unwrap(), "0");
    first.db.close().await;
    second.db.close().await;
}
