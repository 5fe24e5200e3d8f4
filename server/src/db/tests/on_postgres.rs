//! All cases on PostgreSQL, in one test: starting a server takes longer than running the cases.

use std::time::{Duration, Instant};

use super::*;
use crate::db::locks::MARKS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_on_postgres() {
    let cluster = Cluster::start().unwrap();
    cases::all(&cluster).await;
    migrations::all(&cluster).await;
    let own = TestDb::new(Some(&cluster), "own");
    Store::open(DbConfig { migrations: MIGRATIONS, ..own.config() }).await.db.close().await;
    partitions_never_lock_crosswise(&TestDb::new(Some(&cluster), "partitions")).await;
    readers_of_a_user_do_not_wait_for_each_other(&TestDb::new(Some(&cluster), "shared")).await;
    registrations_do_not_deadlock(&TestDb::new(Some(&cluster), "names")).await;
    only_one_row_is_fetched(&TestDb::new(Some(&cluster), "one_row")).await;
    rows_are_found_by_their_keys_in_a_small_table_too(&TestDb::new(Some(&cluster), "plans")).await;
    a_deadlock_between_jobs_fails_one_of_them(&TestDb::new(Some(&cluster), "deadlock")).await;
    a_statement_has_a_time_limit(&TestDb::new(Some(&cluster), "time_limit")).await;
    a_job_has_a_time_limit(&TestDb::new(Some(&cluster), "job_limit")).await;
    the_sink_learns_of_a_commit_in_doubt(&TestDb::new(Some(&cluster), "doubt")).await;
    others_do_not_wait_for_a_commit_in_doubt(&TestDb::new(Some(&cluster), "undecided")).await;
    a_commit_in_doubt_that_locks_no_row_is_decided_first(&TestDb::new(Some(&cluster), "unlocked")).await;
    ownership::all(&cluster).await;
    nodes::all(&cluster).await;
    a_lost_connection_is_replaced(&cluster, &TestDb::new(Some(&cluster), "lost")).await;
    let gone = TestDb::new(Some(&cluster), "gone");
    let store = gone.open().await;
    drop(cluster);
    an_unreachable_server_is_reported(&store).await;
}

/// Increments the counter of a row whose lock the job holds.
async fn count_up(tx: &mut Tx<'_>, table: &str, id: i64) -> Result<(), Error> {
    let n = tx.fetch_one(&format!("SELECT n FROM {table} WHERE id = $1"), &params![id]).await?;
    let n: i64 = n.unwrap().get(0)?;
    tx.execute(&format!("UPDATE {table} SET n = $2 WHERE id = $1"), &params![id, n + 1]).await?;
    Ok(())
}

async fn seed(store: &Store) {
    let seeded = store.db.submit(Scope::none(), async |tx| {
        for table in ["conversation", "account"] {
            let list = tx.dialect().values_list(10, 2, 1);
            let params: Vec<Value> = (0..10).flat_map(|id| params![id, 0]).collect();
            tx.execute(&format!("INSERT INTO {table} (id, n) VALUES {list}"), &params).await?;
        }
        Ok(())
    });
    seeded.await.unwrap();
}

async fn partitions_never_lock_crosswise(test_db: &TestDb<'_>) {
    let store = Store::open(DbConfig { partitions: 4, ..test_db.config() }).await;
    seed(&store).await;
    let mut answers = Vec::new();
    for job in 0..400_i64 {
        // Three users and three conversations, in varying order, in varying partitions.
        let ids = [job * 7 % 10, (job * 3 + 1) % 10, (job / 10) % 10];
        let scope = Scope::none().and_users(ids.map(UserKey)).and_conversations(ids.map(ConversationKey));
        let scope = scope.and_shared_users([UserKey(job * 3 % 10), UserKey(job * 9 % 10)]);
        answers.push(store.db.submit(scope.in_partition(job.unsigned_abs() * 31 % 4), async move |tx| {
            for id in ids {
                count_up(tx, "account", id).await?;
                count_up(tx, "conversation", id).await?;
            }
            Ok(())
        }));
    }
    for answer in answers {
        answer.await.unwrap();
    }
    let sum = store.db.read(async |tx| {
        let sql = "SELECT CAST(SUM(c.n) AS BIGINT), CAST(SUM(a.n) AS BIGINT) FROM conversation c JOIN account a ON a.id = c.id";
        let row = tx.fetch_one(sql, &[]).await?.unwrap();
        Ok((row.get::<i64>(0)?, row.get::<i64>(1)?))
    });
    assert_eq!(sum.await.unwrap(), (1200, 1200), "an increment was lost");
}

async fn readers_of_a_user_do_not_wait_for_each_other(test_db: &TestDb<'_>) {
    let store = Store::open(DbConfig { partitions: 2, ..test_db.config() }).await;
    seed(&store).await;
    let scope = |partition, user| Scope::user(UserKey(user)).in_partition(partition);
    let (gate, wait) = gate();
    let (arrived, here) = tokio::sync::oneshot::channel();
    let first = store.db.submit(scope(0, 1).and_shared_users([UserKey(5)]), async move |_| {
        arrived.send(()).unwrap();
        let _ = wait.recv();
        Ok(())
    });
    here.await.unwrap();
    let other = store.db.submit(scope(1, 2).and_shared_users([UserKey(5)]), async |_| Ok(()));
    tokio::time::timeout(Duration::from_secs(8), other).await.expect("a reader waits for another").unwrap();
    // A job that changes the user waits for the readers.
    let changed = Arc::new(Mutex::new(false));
    let changing = Arc::clone(&changed);
    let writer = store.db.submit(scope(1, 5), async move |_| {
        *changing.lock() = true;
        Ok(())
    });
    let waits = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
    ownership::until("the writer does not wait", || test_db.cluster.unwrap().sql(waits).unwrap() != "0").await;
    assert!(!*changed.lock());
    drop(gate);
    first.await.unwrap();
    writer.await.unwrap();
}

/// Two jobs that share a transaction register two users; in the other partition two others register the same users in the
/// other order.
async fn registrations_do_not_deadlock(test_db: &TestDb<'_>) {
    let store = Store::open(DbConfig { partitions: 2, ..test_db.config() }).await;
    let inserted = Arc::new(Mutex::new([false; 2]));
    let mut gates = Vec::new();
    let mut answers = Vec::new();
    for (partition, names) in [["ann", "bob"], ["bob", "ann"]].into_iter().enumerate() {
        let key = partition as u64;
        gates.push(store.hold_partition(key).await);
        for (index, name) in names.into_iter().enumerate() {
            let inserted = Arc::clone(&inserted);
            answers.push(store.db.submit(Scope::name(AppKey(1), name).in_partition(key), async move |tx| {
                let id = i64::try_from(partition * 2 + index).unwrap();
                let sql = "INSERT INTO item (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
                let count = tx.execute(sql, &params![id, name]).await?;
                inserted.lock()[partition] = true;
                // Goes on when the other one has inserted, too, or waits.
                let waits = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
                while !inserted.lock().iter().all(|inserted| *inserted) {
                    if tx.fetch_one(waits, &[]).await?.unwrap().get::<i64>(0)? > 0 {
                        break;
                    }
                }
                Ok(count)
            }));
        }
    }
    for (gate, held) in gates {
        drop(gate);
        held.await.unwrap();
    }
    let mut registered = 0;
    for answer in answers {
        registered += answer.await.unwrap();
    }
    assert_eq!(registered, 2);
}

async fn only_one_row_is_fetched(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    store.put(1).await.unwrap();
    store.put(2).await.unwrap();
    let first = store.db.submit(Scope::none(), async |tx| {
        // All rows would take minutes.
        let row = tx.fetch_one("SELECT CAST(generate_series(1, 1000000000) AS BIGINT)", &[]).await?.unwrap();
        assert_eq!(row.get::<i64>(0)?, 1);
        let row = tx.fetch_one("SELECT id FROM item ORDER BY id DESC FOR UPDATE", &[]).await?.unwrap();
        assert_eq!(row.get::<i64>(0)?, 2);
        let row = tx.fetch_one("SELECT id FROM item ORDER BY id LIMIT 1 OFFSET 1", &[]).await?.unwrap();
        assert_eq!(row.get::<i64>(0)?, 2);
        let sql = "INSERT INTO item (id, name) VALUES (3, 'three'), (4, 'four') RETURNING id";
        Ok(tx.fetch_one(sql, &[]).await?.unwrap().get::<i64>(0)?)
    });
    assert_eq!(first.await.unwrap(), 3);
    assert_eq!(store.ids().await, [1, 2, 3, 4]);
}

/// How PostgreSQL would find the rows of a table that it takes for a small one.
async fn plan(tx: &mut Tx<'_>) -> Result<String, Error> {
    let ids: Vec<[Value; 1]> = (0..500).map(|id| params![id]).collect();
    let sql = |rows: &str| format!("EXPLAIN SELECT i.body FROM ({rows}) AS v JOIN item i ON i.id = v.column1");
    let rows = tx.fetch_rows(&ids, sql).await?;
    let lines = rows.iter().map(|row| Ok(row.get::<String>(0)?)).collect::<Result<Vec<_>, Error>>()?;
    Ok(lines.join("; "))
}

/// A prepared statement keeps its plan while the table grows.
async fn rows_are_found_by_their_keys_in_a_small_table_too(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let writes = store.db.submit(Scope::none(), async |tx| plan(tx).await).await.unwrap();
    let reads = store.db.read(async |tx| plan(tx).await).await.unwrap();
    for plan in [writes, reads] {
        assert!(plan.contains("Index Scan using item_pkey") && !plan.contains("Seq Scan"), "{plan}");
    }
}

async fn a_deadlock_between_jobs_fails_one_of_them(test_db: &TestDb<'_>) {
    let store = Store::open(DbConfig { partitions: 2, ..test_db.config() }).await;
    seed(&store).await;
    let (arrived_one, one_here) = channel();
    let (arrived_two, two_here) = channel();
    let first = store.db.submit(Scope::none(), async move |tx| {
        count_up(tx, "account", 1).await?;
        arrived_one.send(()).unwrap();
        two_here.recv().unwrap();
        count_up(tx, "account", 2).await
    });
    let second = store.db.submit(Scope::none().in_partition(1), async move |tx| {
        count_up(tx, "account", 2).await?;
        arrived_two.send(()).unwrap();
        one_here.recv().unwrap();
        count_up(tx, "account", 1).await
    });
    let (first, second) = (first.await, second.await);
    let error = match (first, second) {
        (Ok(()), Err(error)) | (Err(error), Ok(())) => error,
        other => panic!("{other:?}"),
    };
    let cause = error.cause().unwrap().downcast_ref::<DbError>().unwrap();
    assert!(cause.kind() == DbErrorKind::Conflict && cause.is_unavailable(), "{cause:?}");
    store.put(1).await.unwrap();
}

async fn a_statement_has_a_time_limit(test_db: &TestDb<'_>) {
    let store = Store::open(DbConfig { statement_limit: Duration::from_millis(200), ..test_db.config() }).await;
    let (gate, held) = store.hold().await;
    let first = store.put(1);
    let slow =
        store.db.submit(Scope::none(), async |tx| Ok(tx.fetch("SELECT CAST(pg_sleep(60) AS TEXT)", &[]).await?.len()));
    let last = store.put(2);
    drop(gate);
    held.await.unwrap();
    assert_eq!((first.await.unwrap(), last.await.unwrap()), (1, 2));
    let error = slow.await.unwrap_err();
    let cause = error.cause().unwrap().downcast_ref::<DbError>().unwrap();
    assert_eq!(cause.kind(), DbErrorKind::Timeout, "{cause}");
}

async fn a_job_has_a_time_limit(test_db: &TestDb<'_>) {
    let store = Store::open(DbConfig { job_limit: Duration::from_millis(300), ..test_db.config() }).await;
    let (gate, held) = store.hold().await;
    let first = store.put(1);
    let idle = store.db.submit(Scope::none(), async |tx| {
        insert(tx, 2, "two").await?;
        std::future::pending::<()>().await;
        Ok(())
    });
    let last = store.put(3);
    drop(gate);
    held.await.unwrap();
    assert!(idle.await.is_err());
    // The job that shared its transaction gets a true answer: stored, or an error.
    let first = first.await;
    assert_eq!(last.await.unwrap(), 3);
    assert_eq!(store.ids().await, if first.is_ok() { vec![1, 3] } else { vec![3] });
}

/// Notes what the sink is told, and the numbers of the effects.
struct Doubts(std::sync::mpsc::Sender<(&'static str, Vec<i64>)>);

impl Sink for Doubts {
    fn take(&self, effects: Vec<Effect>) {
        self.0.send(("take", effects.iter().map(number).collect())).unwrap();
    }

    fn doubt(&self, effects: &[Effect]) {
        self.0.send(("doubt", effects.iter().map(number).collect())).unwrap();
    }
}

/// Lets the connection end when a transaction commits that stores the item 7.
async fn lose_item_7(store: &Store) {
    let prepared = store.db.submit(Scope::none(), async |tx| {
        let body = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS \
                    'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'";
        tx.execute(body, &[]).await?;
        let trigger = "CREATE CONSTRAINT TRIGGER lost AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
                       WHEN (NEW.id = 7) EXECUTE FUNCTION lose()";
        tx.execute(trigger, &[]).await?;
        Ok(())
    });
    prepared.await.unwrap();
}

async fn the_sink_learns_of_a_commit_in_doubt(test_db: &TestDb<'_>) {
    let (calls, called) = std::sync::mpsc::channel();
    let store = Store { db: Db::open(test_db.config(), Doubts(calls)).await.unwrap(), effects: Arc::default() };
    lose_item_7(&store).await;
    store.put(1).await.unwrap();
    store.put(7).await.unwrap_err();
    // It is decided when the connection has ended on the side of PostgreSQL, too.
    let told = || called.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!([told(), told()], [("take", vec![1]), ("doubt", vec![7])]);
    // A commit that is refused was not carried out.
    let dangling = store.db.submit(Scope::none(), async |tx| {
        tx.emit(effect(8));
        tx.execute("INSERT INTO late (id, item) VALUES (1, 999)", &params![]).await?;
        Ok(())
    });
    dangling.await.unwrap_err();
    store.put(2).await.unwrap();
    store.db.close().await;
    assert_eq!(called.try_iter().collect::<Vec<_>>(), [("take", vec![2])]);
}

/// What comes later in the same queue goes on, and the sink hears of it first.
async fn goes_on_meanwhile(store: &Store, called: &std::sync::mpsc::Receiver<(&'static str, Vec<i64>)>) {
    let other = store.db.submit(Scope::none().in_partition(0), async |tx| insert(tx, 2, "two").await);
    tokio::time::timeout(Duration::from_secs(60), other).await.expect("it waits for the decision").unwrap();
    assert_eq!(called.try_iter().collect::<Vec<_>>(), [("take", vec![2])]);
}

/// Somebody else holds the locks of a commit in doubt, so it seems to go on. What needs other rows does not wait for them.
async fn others_do_not_wait_for_a_commit_in_doubt(test_db: &TestDb<'_>) {
    let ((calls, called), long) = (channel(), Duration::from_secs(600));
    let config = DbConfig { partitions: 2, statement_limit: long, job_limit: long, ..test_db.config() };
    let store = Store { db: Db::open(config, Doubts(calls)).await.unwrap(), effects: Arc::default() };
    seed(&store).await;
    lose_item_7(&store).await;
    let scope = |partition| Scope::conversation(ConversationKey(1)).in_partition(partition);
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let in_doubt = store.db.submit(scope(0), async move |tx| {
        locked.send(()).unwrap();
        let waits = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted";
        while tx.fetch_one(waits, &[]).await?.unwrap().get::<i64>(0)? == 0 {}
        insert(tx, 7, "seven").await
    });
    is_locked.await.unwrap();
    let (open, wait) = tokio::sync::oneshot::channel::<()>();
    let holding = store.db.submit(scope(1), async move |_| {
        let _ = wait.await;
        Ok(())
    });
    in_doubt.await.unwrap_err();
    goes_on_meanwhile(&store, &called).await;
    open.send(()).unwrap();
    holding.await.unwrap();
    assert_eq!(called.recv_timeout(Duration::from_secs(60)).unwrap(), ("doubt", vec![7]));
    store.db.close().await;
}

/// Somebody else holds the mark of a commit in doubt that locks no row, so it seems to go on.
async fn a_commit_in_doubt_that_locks_no_row_is_decided_first(test_db: &TestDb<'_>) {
    let ((calls, called), long) = (channel(), Duration::from_secs(600));
    let config = DbConfig { partitions: 2, statement_limit: long, job_limit: long, ..test_db.config() };
    let store = Store { db: Db::open(config, Doubts(calls)).await.unwrap(), effects: Arc::default() };
    lose_item_7(&store).await;
    let (marked, mark) = tokio::sync::oneshot::channel();
    let in_doubt = store.db.submit(Scope::none().in_partition(0), async move |tx| {
        let own = "SELECT CAST(objid AS BIGINT) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() \
                   AND CAST(classid AS BIGINT) = $1";
        let mark: i64 = tx.fetch_one(own, &params![i64::from(MARKS)]).await?.unwrap().get(0)?;
        marked.send(mark).unwrap();
        let waits = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        while tx.fetch_one(waits, &[]).await?.unwrap().get::<i64>(0)? == 0 {}
        insert(tx, 7, "seven").await
    });
    let mark = u32::try_from(mark.await.unwrap()).unwrap().cast_signed();
    let (open, wait) = tokio::sync::oneshot::channel::<()>();
    let holding = store.db.submit(Scope::none().in_partition(1), async move |tx| {
        tx.fetch(&format!("SELECT CAST(pg_advisory_xact_lock({MARKS}, {mark}) AS TEXT)"), &[]).await?;
        let _ = wait.await;
        Ok(())
    });
    in_doubt.await.unwrap_err();
    goes_on_meanwhile(&store, &called).await;
    open.send(()).unwrap();
    holding.await.unwrap();
    assert_eq!(called.recv_timeout(Duration::from_secs(60)).unwrap(), ("doubt", vec![7]));
    store.db.close().await;
}

async fn a_lost_connection_is_replaced(cluster: &Cluster, test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    store.put(1).await.unwrap();
    store.ids().await;
    // Lost idle connections are replaced without an error.
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'lost'").unwrap();
    store.put(2).await.unwrap();
    assert_eq!(store.ids().await, [1, 2]);
    store.take_effects();
    // In the middle of a batch, the jobs that shared the transaction fail; those behind it do not.
    let (gate, held) = store.hold().await;
    let before = store.put(3);
    let terminating = store.db.submit(Scope::none(), async |tx| {
        insert(tx, 4, "four").await?;
        Ok(tx.fetch("SELECT CAST(pg_terminate_backend(pg_backend_pid()) AS TEXT)", &[]).await?.len())
    });
    let (after, _) = put_all(&store, vec![(5, "five", Flaw::None), (6, "six", Flaw::None)]);
    drop(gate);
    held.await.unwrap();
    for error in [before.await.unwrap_err(), terminating.await.map(|_| 0).unwrap_err()] {
        assert!(error.cause().unwrap().downcast_ref::<DbError>().unwrap().is_unavailable(), "{error:?}");
    }
    for answer in after {
        answer.await.unwrap();
    }
    assert_eq!(store.ids().await, [1, 2, 5, 6]);
    assert_eq!(store.take_effects(), [[5, 6]]);
}

async fn an_unreachable_server_is_reported(store: &Store) {
    let begun = Instant::now();
    for id in 0..20 {
        let error = store.put(id).await.unwrap_err();
        assert!(error.cause().unwrap().downcast_ref::<DbError>().unwrap().is_unavailable(), "{error:?}");
    }
    assert!(store.db.read(async |_| Ok(())).await.is_err());
    store.db.close().await;
    assert!(begun.elapsed() < Duration::from_secs(20), "a job waited too long for an unreachable server");
}
