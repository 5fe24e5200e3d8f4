//! The cases for both databases.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use zim_protocol::ErrorCode;

use super::*;

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(&super::TestDb::new(None, stringify!($case))).await;
                }
            )*
        }

        /// Runs all cases on PostgreSQL.
        pub(super) async fn all(cluster: &Cluster) {
            $(
                $case(&TestDb::new(Some(cluster), stringify!($case))).await;
            )*
        }
    };
}

cases![
    waiting_jobs_share_a_commit,
    a_failing_job_fails_alone,
    a_bulk_op_fails_alone,
    bulk_ops_run_together_and_in_order,
    a_failing_commit_fails_for_everybody,
    closing_finishes_waiting_jobs,
    a_full_queue_refuses_jobs,
    an_app_does_not_fill_the_queue_for_others,
    a_transaction_is_limited_in_bytes,
    a_transaction_is_limited_in_users,
    many_concurrent_jobs,
    a_read_is_one_snapshot,
    a_read_writes_nothing,
    values_round_trip,
    a_job_runs_although_its_caller_is_gone,
    dropping_the_database_ends_its_threads,
    the_sink_is_called_before_and_after_the_callers_are_answered,
    rows_of_any_number_are_written_and_found,
    statements_run_together,
];

async fn waiting_jobs_share_a_commit(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let (gate, held) = store.hold().await;
    let jobs: Vec<_> = (1..=5).map(|id| store.put(id)).collect();
    assert_eq!(store.db.waiting(), 5);
    drop(gate);
    held.await.unwrap();
    for (job, id) in jobs.into_iter().zip(1..) {
        assert_eq!(job.await.unwrap(), id);
    }
    // The effects arrive once, in order, and before the first job is answered.
    assert_eq!(store.take_effects(), [[1, 2, 3, 4, 5]]);
    assert_eq!(store.ids().await, [1, 2, 3, 4, 5]);
    assert_eq!(store.put(6).await.unwrap(), 6);
    assert_eq!(store.take_effects(), [[6]]);
}

/// Counts, at each call of the sink, how many of two callers are answered.
struct Callers {
    calls: std::sync::mpsc::Sender<(&'static str, usize)>,
    waiting: Arc<Mutex<Vec<Submitted<i64>>>>,
}

impl Callers {
    fn note(&self, call: &'static str) {
        let mut waiting = self.waiting.lock();
        waiting.retain_mut(|answer| answer.now_or_never().is_none());
        self.calls.send((call, 2 - waiting.len())).unwrap();
    }
}

impl Sink for Callers {
    fn take(&self, effects: Vec<Effect>) {
        assert_eq!(effects.iter().map(number).collect::<Vec<_>>(), [1, 2]);
        self.note("take");
    }

    fn answered(&self) {
        self.note("answered");
    }
}

async fn the_sink_is_called_before_and_after_the_callers_are_answered(test_db: &TestDb<'_>) {
    let (calls, called) = std::sync::mpsc::channel();
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let sink = Callers { calls, waiting: Arc::clone(&waiting) };
    let store = Store { db: Db::open(test_db.config(), sink).await.unwrap(), effects: Arc::default() };
    let (gate, held) = store.hold().await;
    waiting.lock().extend([store.put(1), store.put(2)]);
    drop(gate);
    held.await.unwrap();
    // A commit without effects does not concern the sink.
    assert!(store.ids().await.len() <= 2);
    drop(store);
    assert_eq!(called.iter().collect::<Vec<_>>(), [("take", 0), ("answered", 2)]);
}

async fn a_failing_job_fails_alone(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let (gate, held) = store.hold().await;
    let first = store.put(1);
    let refused = store.db.submit(Scope::none(), async |tx| {
        insert(tx, 2, "two").await?;
        Err::<(), _>(Error::params_invalid("no"))
    });
    let twice = store.db.submit(Scope::none(), async |tx| {
        insert(tx, 3, "three").await?;
        insert(tx, 4, "item 1").await
    });
    let panics = store.db.submit(Scope::none(), async |tx| {
        insert(tx, 5, "five").await?;
        if tx.statements() == 1 {
            panic!("as asked");
        }
        Ok(())
    });
    let ignoring = store.db.submit(Scope::none(), async |tx| {
        insert(tx, 6, "six").await?;
        let _ = tx.execute("INSERT INTO nowhere (id) VALUES ($1)", &params![1]).await;
        assert!(insert(tx, 7, "seven").await.is_err());
        Ok(())
    });
    let last = store.put(8);
    drop(gate);
    held.await.unwrap();
    assert_eq!(first.await.unwrap(), 1);
    assert_eq!(refused.await.unwrap_err().message(), "no");
    assert_eq!(twice.await.unwrap_err().message(), "taken");
    assert!(panics.await.unwrap_err().cause().unwrap().to_string().contains("as asked"));
    assert!(ignoring.await.unwrap_err().cause().unwrap().to_string().contains("nowhere"));
    assert_eq!(last.await.unwrap(), 8);
    assert_eq!(store.take_effects(), [[1, 8]]);
    assert_eq!(store.ids().await, [1, 8]);
    // The same with one job in each transaction.
    assert_eq!(store.put(1).await.unwrap_err().message(), "taken");
    assert!(store.db.submit(Scope::none(), async |_| -> Result<(), Error> { panic!("again") }).await.is_err());
    assert_eq!(store.put(9).await.unwrap(), 9);
    assert_eq!(store.take_effects(), [[9]]);
}

async fn a_bulk_op_fails_alone(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    store.put(100).await.unwrap();
    store.take_effects();
    for with_neighbours in [false, true] {
        let base = if with_neighbours { 10 } else { 0 };
        let names: Vec<String> = (base..base + 8).map(|id| format!("bulk {id}")).collect();
        let mut ops: Vec<_> = (base..base + 8).zip(&names).map(|(id, name)| (id, name.as_str(), Flaw::None)).collect();
        ops[2].1 = "item 100";
        ops[4].2 = Flaw::Refused;
        ops[7].2 = Flaw::Panics;
        let (gate, held) = store.hold().await;
        let before = with_neighbours.then(|| store.put(50));
        let (answers, runs) = put_all(&store, ops);
        let after = with_neighbours.then(|| store.put(51));
        drop(gate);
        held.await.unwrap();
        let mut accepted = Vec::new();
        for (answer, id) in answers.into_iter().zip(base..) {
            match answer.await {
                Ok(stored) => {
                    assert_eq!(stored, id);
                    accepted.push(id);
                }
                Err(error) => assert!(matches!(id - base, 2 | 4 | 7), "{id}: {error:?}"),
            }
        }
        assert_eq!(accepted, [0, 1, 3, 5, 6].map(|id| id + base));
        assert_eq!(*runs.lock(), [8, 4, 2, 2, 1, 1, 4, 2, 2, 1, 1]);
        let mut effects = accepted.clone();
        if let (Some(before), Some(after)) = (before, after) {
            assert_eq!((before.await.unwrap(), after.await.unwrap()), (50, 51));
            effects.insert(0, 50);
            effects.push(51);
        }
        assert_eq!(store.take_effects(), [effects]);
    }
    assert_eq!(store.ids().await.len(), 1 + 5 + 7);
}

async fn bulk_ops_run_together_and_in_order(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let (gate, held) = store.hold().await;
    let (first, runs_before) = put_all(&store, vec![(5, "a", Flaw::None), (3, "b", Flaw::None)]);
    let between = store.put(4);
    let (second, runs_after) = put_all(&store, vec![(2, "c", Flaw::None), (1, "d", Flaw::None), (6, "e", Flaw::None)]);
    drop(gate);
    held.await.unwrap();
    for answer in first.into_iter().chain([between]).chain(second) {
        answer.await.unwrap();
    }
    assert_eq!((runs_before.lock().clone(), runs_after.lock().clone()), (vec![2], vec![3]));
    assert_eq!(store.take_effects(), [[5, 3, 4, 2, 1, 6]]);
}

async fn a_failing_commit_fails_for_everybody(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let (gate, held) = store.hold().await;
    let first = store.put(1);
    let dangling = store.db.submit(Scope::none(), async |tx| {
        tx.execute("INSERT INTO late (id, item) VALUES (1, 999)", &params![]).await?;
        Ok(())
    });
    let refused = store.db.submit(Scope::none(), async |_| Err::<(), _>(Error::params_invalid("no")));
    drop(gate);
    held.await.unwrap();
    assert!(first.await.is_err());
    assert!(dangling.await.is_err());
    // The job may have failed because of a row that is no longer stored, so it gets the commit's error.
    assert_ne!(refused.await.unwrap_err().message(), "no");
    assert_eq!(store.take_effects(), Vec::<Vec<i64>>::new());
    assert_eq!(store.put(1).await.unwrap(), 1);
    assert_eq!(store.ids().await, [1]);
    assert_eq!(store.take_effects(), [[1]]);
}

async fn closing_finishes_waiting_jobs(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let (gate, held) = store.hold().await;
    let waiting: Vec<_> = (1..=3).map(|id| store.put(id)).collect();
    let db = store.db.clone();
    let closing = tokio::spawn(async move { db.close().await });
    while store.db.read(async |_| Ok(())).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // Not an error of the database: the client should connect again.
    assert_eq!(store.put(4).await.unwrap_err().code(), ErrorCode::CommonModuleImServerDisconnect);
    drop(gate);
    closing.await.unwrap();
    held.await.unwrap();
    for (job, id) in waiting.into_iter().zip(1..) {
        assert_eq!(job.await.unwrap(), id);
    }
    assert_eq!(store.take_effects(), [[1, 2, 3]]);
    // Closing it again is allowed.
    store.db.close().await;
}

async fn a_full_queue_refuses_jobs(test_db: &TestDb<'_>) {
    let store = Store::open(DbConfig { queue: 2, ..test_db.config() }).await;
    let (gate, held) = store.hold().await;
    let waiting = [store.put(1), store.put(2)];
    let refused = store.put(3).await.unwrap_err();
    assert!(refused.cause().unwrap().to_string().contains("the database queue is full: 2 jobs with "), "{refused:?}");
    let many = Scope::none().and_users((0..=i64::try_from(MAX_LOCKED_USERS).unwrap()).map(UserKey));
    assert!(store.db.submit(many, async |_| Ok(())).await.is_err());
    drop(gate);
    held.await.unwrap();
    for job in waiting {
        job.await.unwrap();
    }
    assert_eq!(store.put(3).await.unwrap(), 3);
}

async fn an_app_does_not_fill_the_queue_for_others(test_db: &TestDb<'_>) {
    let store = Store::open(DbConfig { queue: 4, queue_bytes: 1 << 20, ..test_db.config() }).await;
    let (gate, held) = store.hold().await;
    let put = |app, bytes, id| {
        let scope = Scope::none().for_app(AppKey(app), bytes);
        store.db.submit(scope, async move |tx| insert(tx, id, &format!("item {id}")).await)
    };
    let waiting = [put(1, 100, 1), put(1, 100, 2)];
    let refused = put(1, 100, 3).await.unwrap_err();
    assert!(refused.cause().unwrap().to_string().contains("its share of the database queue"), "{refused:?}");
    assert!(put(2, 2 << 20, 4).await.is_err(), "more bytes than the queue may hold");
    let (other, own) = (put(2, 100, 5), store.put(6));
    drop(gate);
    held.await.unwrap();
    for job in waiting.into_iter().chain([other, own]) {
        job.await.unwrap();
    }
    // The share is free again.
    assert_eq!(put(1, 100, 7).await.unwrap(), 7);
}

/// Submits these jobs behind one that is held, and returns the ids that each commit stored.
async fn commits(test_db: &TestDb<'_>, jobs: impl IntoIterator<Item = (i64, Scope)>) -> Vec<Vec<i64>> {
    let store = test_db.open().await;
    let (gate, held) = store.hold().await;
    let submit = |(id, scope): (i64, Scope)| {
        store.db.submit(scope.in_partition(0), async move |tx| insert(tx, id, &format!("item {id}")).await)
    };
    let submitted: Vec<_> = jobs.into_iter().map(submit).collect();
    drop(gate);
    held.await.unwrap();
    for job in submitted {
        job.await.unwrap();
    }
    store.take_effects()
}

async fn a_transaction_is_limited_in_bytes(test_db: &TestDb<'_>) {
    let scope = |bytes| Scope::none().for_app(AppKey(1), bytes);
    let (quarter, large) = ((1 << 20) - 1_000, 5 << 20);
    let sizes = [quarter, quarter, quarter, quarter, quarter, large, quarter];
    assert_eq!(commits(test_db, (1..).zip(sizes.map(scope))).await, [vec![1, 2, 3, 4], vec![5], vec![6], vec![7]]);
}

async fn a_transaction_is_limited_in_users(test_db: &TestDb<'_>) {
    // Two users for each job, all different, and one of the first ones again.
    let scope = |id: i64| Scope::user(UserKey(id * 2)).and_shared_users([UserKey(id * 2 + 1)]);
    let jobs = (1..=50).chain([1]).zip(1..).map(|(user, id)| (id, scope(user)));
    let more = [(60, scope(60).and_user(UserKey(500))), (61, Scope::conversation(ConversationKey(1)))];
    let commits = commits(test_db, jobs.chain(more)).await;
    let first = (1..=51).collect::<Vec<i64>>();
    match test_db.cluster {
        Some(_) => assert_eq!(commits, [first, vec![60, 61]]),
        None => assert_eq!(commits, [first.into_iter().chain([60, 61]).collect::<Vec<_>>()], "SQLite has no locks"),
    }
}

async fn many_concurrent_jobs(test_db: &TestDb<'_>) {
    let store = Arc::new(Store::open(DbConfig { partitions: 3, ..test_db.config() }).await);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16_i64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for round in 0..25 {
                let id = task * 25 + round;
                let stored = if round % 2 == 0 {
                    let partition = id.unsigned_abs();
                    store.db.submit(Scope::user(UserKey(id)).in_partition(partition), async move |tx| {
                        insert(tx, id, &format!("item {id}")).await
                    })
                } else {
                    let runs = Arc::default();
                    store.db.submit_bulk(Put { id, name: format!("bulk {id}"), flaw: Flaw::None, runs })
                };
                assert_eq!(stored.await.unwrap(), id);
                let found = store.db.read(async move |tx| {
                    Ok(tx.fetch_one("SELECT id FROM item WHERE id = $1", &params![id]).await?.is_some())
                });
                assert!(found.await.unwrap());
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(store.ids().await.len(), 400);
    let mut effects = store.take_effects().concat();
    effects.sort_unstable();
    assert_eq!(effects, (0..400).collect::<Vec<_>>());
}

async fn a_read_is_one_snapshot(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    store.put(1).await.unwrap();
    let (gate, wait) = gate();
    let (arrived, here) = tokio::sync::oneshot::channel();
    let count = "SELECT COUNT(*) FROM item";
    let reading = store.db.read(async move |tx| {
        let before: i64 = tx.fetch_one(count, &params![]).await?.unwrap().get(0)?;
        arrived.send(()).unwrap();
        let _ = wait.recv();
        let after: i64 = tx.fetch_one(count, &params![]).await?.unwrap().get(0)?;
        Ok((before, after))
    });
    here.await.unwrap();
    // Neither the writer nor another reader waits for this reader.
    store.put(2).await.unwrap();
    assert_eq!(store.ids().await, [1, 2]);
    drop(gate);
    assert_eq!(reading.await.unwrap(), (1, 1));
}

async fn a_read_writes_nothing(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    for _ in 0..3 {
        let wrote = store.db.read(async |tx| insert(tx, 1, "one").await);
        assert!(wrote.await.is_err());
    }
    assert_eq!(store.db.read(async |_| Err::<(), _>(taken())).await.unwrap_err().message(), "taken");
    assert!(store.db.read(async |_| -> Result<(), Error> { panic!("as asked") }).await.is_err());
    assert_eq!(store.ids().await, Vec::<i64>::new());
    assert_eq!(store.take_effects(), Vec::<Vec<i64>>::new());
}

async fn values_round_trip(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let job = store.db.submit(Scope::none(), async |tx| {
        let insert = "INSERT INTO item (id, name, body, small, size) VALUES ($1, $2, $3, $4, $5)";
        // NULL first: the statement prepared for it must not be reused for a number.
        tx.execute(insert, &params![1, "eins", None::<Bytes>, None::<i64>, None::<f64>]).await?;
        tx.execute(insert, &params![2, "", vec![0_u8, 255], 3, 0.5]).await?;
        tx.execute(insert, &params![i64::MAX, "ü$1 '", Bytes::new(), i32::from(i16::MIN), None::<f64>]).await?;
        let changed = tx.execute("UPDATE item SET small = $2 WHERE id > $1 AND name <> '$9'", &params![1, 4]).await?;
        assert_eq!(changed, 2);
        assert_eq!(tx.execute("DELETE FROM item WHERE id = $1 RETURNING id", &params![77]).await?, 0);
        assert_eq!(tx.execute("UPDATE item SET size = 1 WHERE id = $1 RETURNING id", &params![1]).await?, 1);
        let again = "INSERT INTO item (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        assert_eq!(tx.execute(again, &params![1, "other"]).await?, 0);
        Ok(())
    });
    job.await.unwrap();
    let rows = store.db.read(async |tx| {
        let (list, mut params) = tx.dialect().in_list([i64::MAX, 1, 2], 2);
        params.insert(0, "none".into());
        // Placeholders out of order, used twice, and beside a text that looks like one.
        let sql =
            format!("SELECT id, name, body, small, size, '$3' FROM item WHERE id IN {list} AND name <> $1 ORDER BY id");
        let rows = tx.fetch(&sql, &params).await?;
        let (list, params) = tx.dialect().in_list(Vec::<i64>::new(), 1);
        assert!(tx.fetch(&format!("SELECT id FROM item WHERE id IN {list}"), &params).await?.is_empty());
        let swapped = tx.fetch_one("SELECT name FROM item WHERE name <> $2 AND id = $1", &params![2, "x"]).await?;
        assert_eq!(swapped.unwrap().get::<String>(0)?, "");
        let pairs = tx.dialect().values_list(2, 2, 1);
        let sql = format!("SELECT id FROM item WHERE (id, name) IN (VALUES {pairs})");
        assert_eq!(tx.fetch(&sql, &params![1, "eins", 2, "zwei"]).await?.len(), 1);
        let sum = tx.fetch_one("SELECT CAST(COALESCE(SUM(small), 0) AS BIGINT) FROM item", &params![]).await?;
        assert_eq!(sum.unwrap().get::<u32>(0)?, 8);
        Ok(rows)
    });
    let rows = rows.await.unwrap();
    assert_eq!(rows[0].get::<i64>(0).unwrap(), 1);
    assert_eq!(rows[0].get::<Option<Bytes>>(2).unwrap(), None);
    assert_eq!(rows[0].get::<Option<i32>>(3).unwrap(), None);
    assert_eq!(rows[1].get::<Vec<u8>>(2).unwrap(), [0, 255]);
    assert_eq!(rows[1].get::<Option<f64>>(4).unwrap(), Some(0.5));
    assert_eq!(rows[2].get::<u64>(0).unwrap(), i64::MAX.unsigned_abs());
    assert_eq!(rows[2].get::<String>(1).unwrap(), "ü$1 '");
    assert_eq!(rows[2].get::<Bytes>(2).unwrap(), Bytes::new());
    assert_eq!((rows[2].get::<i64>(3).unwrap(), rows[2].get::<String>(5).unwrap()), (4, "$3".to_owned()));
    let nul = store.db.submit(Scope::none(), async |tx| insert(tx, 9, "a\0b").await).await.unwrap_err();
    assert!(nul.cause().unwrap().to_string().contains("U+0000"));
    let few = store.db.submit(Scope::none(), async |tx| Ok(tx.execute("DELETE FROM item WHERE id = $1", &[]).await?));
    assert!(few.await.is_err());
}

async fn a_job_runs_although_its_caller_is_gone(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let (gate, held) = store.hold().await;
    drop(store.put(1));
    let last = store.put(2);
    drop(gate);
    held.await.unwrap();
    last.await.unwrap();
    assert_eq!(store.ids().await, [1, 2]);
}

async fn dropping_the_database_ends_its_threads(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let alive = Arc::downgrade(&store.effects);
    let answer = store.put(1);
    drop(store);
    answer.await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while alive.upgrade().is_some() {
        assert!(tokio::time::Instant::now() < deadline, "a thread still holds the sink");
        tokio::task::yield_now().await;
    }
}

async fn rows_of_any_number_are_written_and_found(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    // Around the most rows of one statement, on either database.
    for count in [0, 1, 2, 3, 127, 128, 129, 255, 1_023, 1_024, 1_025, 2_100] {
        let done = store.db.submit(Scope::none(), async move |tx| {
            tx.execute("DELETE FROM item", &[]).await?;
            let row = |id: i64| params![id, format!("item {id}"), id.to_be_bytes(), id % 100];
            let rows: Vec<[Value; 4]> = (0..count).map(row).collect();
            let before = tx.statements();
            let written =
                tx.execute_rows(&rows, |rows| format!("INSERT INTO item (id, name, body, small) {rows}")).await?;
            let statements = tx.statements() - before;
            let wanted: Vec<[Value; 2]> = (0..count).map(|id| params![id, format!("item {id}")]).collect();
            let sql = |rows: &str| {
                format!(
                    "SELECT i.id, i.body, i.small FROM ({rows}) AS v JOIN item i ON i.id = v.column1 AND i.name = v.column2"
                )
            };
            let mut found = Vec::new();
            for row in tx.fetch_rows(&wanted, sql).await? {
                found.push((row.get::<i64>(0)?, row.get::<Vec<u8>>(1)?, row.get::<i64>(2)?));
            }
            found.sort();
            found.dedup();
            Ok((tx.dialect(), written, statements, found))
        });
        let (dialect, written, statements, found) = done.await.unwrap();
        assert_eq!(written, count.unsigned_abs());
        assert_eq!(found, (0..count).map(|id| (id, id.to_be_bytes().to_vec(), id % 100)).collect::<Vec<_>>());
        if dialect == Dialect::Postgres {
            assert_eq!(statements, count.unsigned_abs().div_ceil(1_024));
        }
    }
    let mixed = store.db.submit(Scope::none(), async |tx| {
        let rows = [params![1, "a\0b"]];
        Ok(tx.execute_rows(&rows, |rows| format!("INSERT INTO item (id, name) {rows}")).await?)
    });
    assert!(mixed.await.unwrap_err().cause().unwrap().to_string().contains("U+0000"));
}

/// On PostgreSQL in one round trip, unless there are too many rows for it.
async fn statements_run_together(test_db: &TestDb<'_>) {
    let store = test_db.open().await;
    let done = store.db.submit(Scope::none(), async |tx| {
        let rows = |ids: std::ops::Range<i64>| ids.map(|id| params![id, id * 10]).collect::<Vec<_>>();
        let accounts = |ids| Rows::new(rows(ids), |rows| format!("INSERT INTO account (id, n) {rows}"));
        let conversations = |ids| Rows::new(rows(ids), |rows| format!("INSERT INTO conversation (id, n) {rows}"));
        let mut costs = Vec::new();
        tx.execute_together(&[conversations(0..4), accounts(0..1_025)]).await?;
        costs.push(tx.statements());
        let more = Rows::new(vec![params![1, 5], params![3, 7]], |rows| {
            format!("UPDATE account SET n = account.n + v.column2 FROM ({rows}) AS v WHERE account.id = v.column1")
        });
        let items = Rows::new(vec![params![1, "one", 5]], |rows| format!("INSERT INTO item (id, name, small) {rows}"));
        tx.execute_together(&[items, conversations(4..4), more, conversations(4..6)]).await?;
        costs.push(tx.statements());
        tx.execute_together(&[conversations(0..0), accounts(0..0)]).await?;
        tx.execute_together(&[]).await?;
        tx.execute_together(&[conversations(6..7)]).await?;
        costs.push(tx.statements());
        let of_accounts =
            |rows: &str| format!("SELECT a.n, a.id FROM ({rows}) AS v JOIN account a ON a.id = v.column1");
        let of_items = |rows: &str| {
            format!("SELECT i.small, 7 FROM ({rows}) AS v JOIN item i ON i.id = v.column1 AND i.name = v.column2")
        };
        let (ids, names) = ([0, 1, 2, 3, 2_000].map(|id| params![id]), [params![1, "one"], params![1, "two"]]);
        let pairs = |rows: &[Row]| {
            let mut pairs: Vec<(i64, i64)> =
                rows.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap())).collect();
            pairs.sort_unstable();
            // Lists may be padded.
            pairs.dedup();
            pairs
        };
        let (found, others) = tx.fetch_both((&ids[..], of_accounts), (&names[..], of_items)).await?;
        costs.push(tx.statements());
        assert_eq!((pairs(&found), pairs(&others)), (vec![(0, 0), (15, 1), (20, 2), (37, 3)], vec![(5, 7)]));
        let (found, others) = tx.fetch_both((&ids[..0], of_accounts), (&names[..], of_items)).await?;
        assert_eq!((pairs(&found), pairs(&others)), (vec![], vec![(5, 7)]));
        let many: Vec<[Value; 1]> = (0..1_025).map(|id| params![id]).collect();
        let (found, others) = tx.fetch_both((&many[..], of_accounts), (&names[1..], of_items)).await?;
        assert_eq!((pairs(&found).len(), others.len()), (1_025, 0));
        let count = tx.fetch_one("SELECT COUNT(*) FROM conversation", &[]).await?.unwrap().get::<i64>(0)?;
        assert_eq!(count, 7);
        Ok((tx.dialect(), costs))
    });
    let (dialect, costs) = done.await.unwrap();
    match dialect {
        // 4 and then 128 rows as often as it takes; 1, 2 and 2; 1; two queries.
        Dialect::Sqlite => assert_eq!(costs, [10, 13, 14, 16]),
        Dialect::Postgres => assert_eq!(costs, [3, 4, 5, 6]),
    }
}
