//! Tests of the store on both databases. On SQLite each case is a separate test; on PostgreSQL one test runs all of them on one
//! server.

mod cases;
mod migrations;
mod nodes;
mod on_postgres;
mod on_sqlite;
mod ownership;
#[path = "../../../../integration-tests/src/port.rs"]
#[expect(unreachable_pub, reason = "the module belongs to the integration tests")]
mod port;
#[path = "../../../../integration-tests/src/postgres.rs"]
#[expect(unreachable_pub, dead_code, reason = "the module belongs to the integration tests")]
pub(crate) mod postgres;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use tempfile::TempDir;
use zim_protocol::SessionEndReason;
use zim_protocol::clock::Clock;

use self::postgres::Cluster;
use super::*;
use crate::effect::Effect;
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};

const SCHEMA: &[Migration] = &[Migration {
    name: "0001_test",
    sql: "CREATE TABLE conversation (id BIGINT PRIMARY KEY, n BIGINT NOT NULL);
          CREATE TABLE account (id BIGINT PRIMARY KEY, n BIGINT NOT NULL);
          CREATE TABLE item (id BIGINT PRIMARY KEY, name TEXT NOT NULL, body BYTEA, small SMALLINT, size DOUBLE PRECISION);
          CREATE UNIQUE INDEX item_name ON item (name);
          CREATE TABLE late (id BIGINT PRIMARY KEY, item BIGINT REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED);",
}];

/// Runs a case on a new SQLite database.
pub(crate) async fn with_sqlite(case: impl AsyncFnOnce(Database)) {
    let dir = tempfile::tempdir().unwrap();
    Box::pin(case(Database::Sqlite(dir.path().join("test.db")))).await;
}

/// Runs a case on a new PostgreSQL database with a name that no other test has.
pub(crate) async fn with_postgres(name: &str, case: impl AsyncFnOnce(Database)) {
    let cluster = Cluster::start().unwrap();
    Box::pin(case(Database::Postgres(cluster.create_database(name).unwrap()))).await;
}

/// The database of one case.
struct TestDb<'a> {
    dir: TempDir,
    cluster: Option<&'a Cluster>,
    name: &'a str,
}

impl<'a> TestDb<'a> {
    fn new(cluster: Option<&'a Cluster>, name: &'a str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), cluster, name }
    }

    /// Returns the settings of a new database with one partition, so that all writes run in order.
    fn config(&self) -> DbConfig {
        let database = match self.cluster {
            Some(cluster) => Database::Postgres(cluster.create_database(self.name).unwrap()),
            None => Database::Sqlite(self.dir.path().join("test.db")),
        };
        DbConfig { partitions: 1, readers: 2, migrations: SCHEMA, ..DbConfig::new(database) }
    }

    async fn open(&self) -> Store {
        Store::open(self.config()).await
    }
}

/// An open database, and the effects of its commits.
struct Store {
    db: Db<Put>,
    effects: Arc<Mutex<Vec<Vec<i64>>>>,
}

impl Store {
    async fn open(config: DbConfig) -> Self {
        let effects = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&effects);
        let sink = move |effects: Vec<Effect>| collected.lock().push(effects.iter().map(number).collect());
        Self { db: Db::open(config, sink).await.unwrap(), effects }
    }

    /// Blocks the partition until the gate is opened or dropped. Jobs submitted in the meantime share the next commit.
    async fn hold(&self) -> (Gate, Submitted<()>) {
        self.hold_partition(0).await
    }

    async fn hold_partition(&self, partition: u64) -> (Gate, Submitted<()>) {
        let (gate, wait) = gate();
        let (arrived, here) = tokio::sync::oneshot::channel();
        let held = self.db.submit(Scope::none().in_partition(partition), async move |_| {
            arrived.send(()).unwrap();
            let _ = wait.recv();
            Ok(())
        });
        here.await.unwrap();
        (gate, held)
    }

    fn put(&self, id: i64) -> Submitted<i64> {
        self.db.submit(Scope::none(), async move |tx| insert(tx, id, &format!("item {id}")).await)
    }

    async fn ids(&self) -> Vec<i64> {
        self.db
            .read(async |tx| {
                let rows = tx.fetch("SELECT id FROM item ORDER BY id", &params![]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
            })
            .await
            .unwrap()
    }

    fn take_effects(&self) -> Vec<Vec<i64>> {
        std::mem::take(&mut *self.effects.lock())
    }
}

type Gate = Sender<()>;

fn gate() -> (Gate, Receiver<()>) {
    channel()
}

fn effect(number: i64) -> Effect {
    Effect::LoginEnded { user: UserKey(number), login: LoginKey(0), reason: SessionEndReason::Unspecified }
}

fn number(effect: &Effect) -> i64 {
    match effect {
        Effect::LoginEnded { user, .. } => user.0,
        other => panic!("{other:?}"),
    }
}

/// Stores an item and emits an effect.
async fn insert(tx: &mut Tx<'_>, id: i64, name: &str) -> Result<i64, Error> {
    tx.emit(effect(id));
    tx.execute("INSERT INTO item (id, name) VALUES ($1, $2)", &params![id, name]).await.on_unique(taken)?;
    Ok(id)
}

fn taken() -> Error {
    Error::params_invalid("taken")
}

/// How a [`Put`] fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    Refused,
    Panics,
}

/// The bulk op of these tests.
#[derive(Debug)]
struct Put {
    id: i64,
    name: String,
    flaw: Flaw,
    /// The number of ops in each run.
    runs: Arc<Mutex<Vec<usize>>>,
}

impl Bulk for Put {
    type Out = i64;

    fn scope(&self) -> Scope {
        Scope::conversation(ConversationKey(self.id)).in_partition(0)
    }

    async fn run(tx: &mut Tx<'_>, ops: &[Self]) -> Result<Vec<Result<i64, Error>>, Error> {
        ops[0].runs.lock().push(ops.len());
        let accepted: Vec<&Self> = ops.iter().filter(|op| op.flaw != Flaw::Refused).collect();
        if !accepted.is_empty() {
            let list = tx.dialect().values_list(accepted.len(), 2, 1);
            let params: Vec<Value> = accepted.iter().flat_map(|op| params![op.id, &op.name]).collect();
            accepted.iter().for_each(|op| tx.emit(effect(op.id)));
            tx.execute(&format!("INSERT INTO item (id, name) VALUES {list}"), &params).await?;
        }
        assert!(ops.iter().all(|op| op.flaw != Flaw::Panics), "as asked");
        Ok(ops.iter().map(|op| if op.flaw == Flaw::Refused { Err(taken()) } else { Ok(op.id) }).collect())
    }
}

/// Submits consecutive bulk ops.
fn put_all(store: &Store, ops: Vec<(i64, &str, Flaw)>) -> (Vec<Submitted<i64>>, Arc<Mutex<Vec<usize>>>) {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let put = |(id, name, flaw): (i64, &str, Flaw)| {
        store.db.submit_bulk(Put { id, name: name.to_owned(), flaw, runs: Arc::clone(&runs) })
    };
    (ops.into_iter().map(put).collect(), runs)
}

/// Keys of one node differ in their high bits only, and the partitions of PostgreSQL run side by side only if they share
/// the work.
#[test]
fn the_keys_of_each_node_are_spread_over_all_partitions() {
    for node in [0, 3, 63] {
        let ids = crate::key::IdGenerator::new(zim_protocol::clock::Clock::manual(1_800_000_000_000), node, 0);
        for count in [2, 3, 4, 7] {
            let mut keys = vec![0; count];
            (0..10_000).for_each(|_| keys[partition_index(ids.next().unsigned_abs(), count)] += 1);
            let least = 10_000 / count * 9 / 10;
            assert!(keys.iter().all(|keys| *keys > least), "node {node}, {count} partitions: {keys:?}");
        }
        assert_eq!(partition_index(u64::MAX, 1), 0);
    }
}
