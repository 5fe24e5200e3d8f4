//! Tasks and the outbox on both databases.

mod later;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::rows::{back_off_ms, failed, next};
use super::schedule::Tasks;
use super::*;
use crate::db::tests::postgres::Cluster;
use crate::db::{Database, DbConfig, MIGRATIONS, params};
use crate::key::UserKey;

const START: i64 = 1_000_000;
const DAY_MS: i64 = 86_400_000;

/// What the kinds of these tests share: which keys fail and how often, and what the outbox has delivered.
#[derive(Debug, Default)]
struct Context {
    failing: Mutex<HashSet<i64>>,
    failures: AtomicUsize,
    delivered: Mutex<Vec<Delivery>>,
    /// The last page of each delivery.
    pages: AtomicI64,
    /// How often [`AGAIN`] runs.
    left: AtomicI64,
}

impl Context {
    fn check(&self, key: i64) -> Result<(), Error> {
        if !self.failing.lock().contains(&key) {
            return Ok(());
        }
        self.failures.fetch_add(1, Ordering::SeqCst);
        Err(Error::internal_text("as asked"))
    }
}

/// Its effect is a row.
static NOTE: TaskKind<Context> = TaskKind {
    number: 1,
    name: "note",
    scope: |subject| Scope::user(UserKey(subject)),
    run: |context, tx, _, due| {
        Box::pin(async move {
            let sql = "INSERT INTO effect (place, subject, now) SELECT COUNT(*), $1, $2 FROM effect";
            tx.execute(sql, &params![due.subject, due.now]).await?;
            context.check(due.subject)
        })
    },
};

/// Schedules itself again.
static TICK: TaskKind<Context> = TaskKind {
    number: 2,
    name: "tick",
    scope: |_| Scope::none(),
    run: |_, tx, _, due| Box::pin(async move { schedule(tx, &TICK, due.subject, due.now + 1_000).await }),
};

/// Schedules itself again for the same time, until nothing is left.
static AGAIN: TaskKind<Context> = TaskKind {
    number: 4,
    name: "again",
    scope: |_| Scope::none(),
    run: |context, tx, _, due| {
        Box::pin(async move {
            if context.left.fetch_sub(1, Ordering::SeqCst) > 1 {
                schedule(tx, &AGAIN, due.subject, due.now).await?;
            }
            Ok(())
        })
    },
};

static PANIC: TaskKind<Context> =
    TaskKind { number: 3, name: "panic", scope: |_| Scope::none(), run: |_, _, _, _| panic!("as asked") };

static PAGES: OutboxKind<Context> = OutboxKind {
    number: 1,
    name: "pages",
    has_lanes: false,
    deliver: |context, delivery| {
        Box::pin(async move {
            context.check(delivery.cursor)?;
            context.delivered.lock().push(delivery);
            let has_more = delivery.cursor < context.pages.load(Ordering::SeqCst);
            Ok(if has_more { Next::After(delivery.cursor + 1) } else { Next::Nothing })
        })
    },
};

/// Delivers at once, or never: to those that are failing.
static LANES: OutboxKind<Context> = OutboxKind {
    number: 2,
    name: "lanes",
    has_lanes: true,
    deliver: |context, delivery| {
        Box::pin(async move {
            context.delivered.lock().push(delivery);
            if context.failing.lock().contains(&delivery.cause) {
                std::future::pending::<()>().await;
            }
            Ok(Next::Nothing)
        })
    },
};

fn kinds() -> Arc<Kinds<Context>> {
    Arc::new(Kinds { tasks: vec![&NOTE, &TICK, &PANIC, &AGAIN], outbox: vec![&PAGES, &LANES] })
}

/// A node: its connection to the database, its clock and its worker.
struct Node {
    db: Db<NewMessage>,
    clock: Clock,
    timers: Arc<Timers>,
    context: Arc<Context>,
}

impl Node {
    async fn open(database: &Database) -> Self {
        let timers = Arc::new(Timers::default());
        let noted = Arc::clone(&timers);
        let db = Db::open(DbConfig::new(database.clone()), move |effects: Vec<_>| noted.note(&effects)).await.unwrap();
        Self { db, clock: Clock::manual(START), timers, context: Arc::default() }
    }

    /// Creates the table of effects, and users with these keys.
    async fn prepare(&self, users: i64) {
        let prepared = self.db.submit(Scope::none(), async move |tx| {
            tx.execute("CREATE TABLE effect (place BIGINT NOT NULL, subject BIGINT NOT NULL, now BIGINT NOT NULL)", &[])
                .await?;
            tx.execute("INSERT INTO app (id, name, app_sign, server_secret, created_at) VALUES (7, '', '', '', 0)", &[])
                .await?;
            for user in 1..=users {
                let sql =
                    "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
                     VALUES ($1, 7, $2, 0, '', '', '', 0, 0)";
                tx.execute(sql, &params![user, user.to_string()]).await?;
            }
            Ok(())
        });
        prepared.await.unwrap();
    }

    fn start(&self) -> (JoinHandle<()>, CancellationToken) {
        let stopped = CancellationToken::new();
        let work = run(
            Arc::clone(&self.context),
            kinds(),
            (self.db.clone(), self.clock.clone()),
            Arc::clone(&self.timers),
            stopped.clone(),
        );
        (tokio::spawn(work), stopped)
    }

    async fn schedule(&self, subject: i64, at: i64) {
        let scope = Scope::user(UserKey(subject));
        self.db.submit(scope, async move |tx| schedule(tx, &NOTE, subject, at).await).await.unwrap();
    }

    async fn effects(&self) -> Vec<(i64, i64)> {
        let read = self.db.read(async |tx| {
            let rows = tx.fetch("SELECT subject, now FROM effect ORDER BY place", &[]).await?;
            rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<Vec<_>, Error>>()
        });
        read.await.unwrap()
    }

    async fn list(&self, queue: Queue, failed_only: bool) -> Vec<Entry> {
        self.db.read(async move |tx| list(tx, queue, (0, 0), failed_only, 1_000).await).await.unwrap()
    }

    /// Waits until the database is as it should be.
    async fn until(&self, what: &str, mut is: impl AsyncFnMut(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !is(self).await {
                tokio::task::yield_now().await;
            }
        });
        if waited.await.is_err() {
            let (tasks, effects) = (self.list(Queue::Tasks, false).await, self.effects().await);
            panic!("{what}: {tasks:?} {effects:?} {:?}", self.list(Queue::Outbox, false).await);
        }
    }
}

async fn stop((worker, stopped): (JoinHandle<()>, CancellationToken)) {
    stopped.cancel();
    worker.await.unwrap();
}

/// What is overdue runs first, and nothing runs before its time.
async fn in_time(database: Database) {
    let node = Node::open(&database).await;
    node.prepare(10).await;
    // Before the worker starts, as after a restart.
    for (subject, at) in [(1, START + 500), (2, START - 10), (3, START - 30), (4, START), (5, START - 20)] {
        node.schedule(subject, at).await;
    }
    let worker = node.start();
    node.until("all that is overdue", async |node| node.effects().await.len() == 4).await;
    if matches!(database, Database::Sqlite(_)) {
        // PostgreSQL has partitions, which run side by side.
        assert_eq!(node.effects().await, [3, 5, 2, 4].map(|subject| (subject, START)));
    }
    // Scheduled while the worker waits, before and after what it waits for.
    node.schedule(6, START + 400).await;
    node.schedule(7, START + 600).await;
    node.clock.advance(399);
    node.schedule(8, START).await;
    node.until("what is due at once", async |node| node.effects().await.len() == 5).await;
    assert_eq!(node.effects().await[4], (8, START + 399));
    node.clock.advance(1);
    node.until("one", async |node| node.effects().await.last() == Some(&(6, START + 400))).await;
    // A clock that is set forward makes everything due, one that is set back nothing.
    node.clock.jump(-7_200_000);
    node.schedule(9, START).await;
    node.clock.jump(7_200_000);
    node.until("what is due again", async |node| node.effects().await.last() == Some(&(9, START + 400))).await;
    assert_eq!(node.effects().await.len(), 7);
    node.clock.jump(7_200_000);
    node.until("the rest", async |node| node.effects().await.len() == 9).await;
    assert!(node.list(Queue::Tasks, false).await.is_empty());
    stop(worker).await;
    node.db.close().await;
}

/// A task runs as it is now, not as it was read.
async fn replaced_and_cancelled(database: Database) {
    let node = Node::open(&database).await;
    node.prepare(2).await;
    let tasks = Tasks { context: Arc::clone(&node.context), kinds: kinds() };
    let read = async || {
        let found = node.db.read(async |tx| next(tx, Queue::Tasks, &[1], START, 10).await).await.unwrap();
        found.into_iter().next().unwrap()
    };
    let start = async |task: &Entry| tasks.start(&node.db, &node.clock, task).await.unwrap();
    node.schedule(1, START).await;
    let first = read().await;
    // To the same time: only the generation tells that it is another one.
    node.schedule(1, START).await;
    let second = read().await;
    assert_ne!(first.generation(), second.generation());
    assert!(!start(&first).await);
    assert!(node.effects().await.is_empty());
    assert!(start(&second).await && !start(&second).await);
    assert_eq!(node.effects().await.len(), 1);
    // Also one that is scheduled for that time when it has run.
    node.schedule(1, START).await;
    let third = read().await;
    assert_ne!(second, third);
    assert!(!start(&second).await && start(&third).await);
    assert_eq!(node.effects().await.len(), 2);
    node.schedule(1, START + 1).await;
    assert!(!start(&third).await);
    assert_eq!(read().await.next_at, START + 1);
    // It is due when it is read, and the clock is set back before it runs.
    node.clock.jump(1);
    let due = read().await;
    node.clock.jump(-1);
    assert!(!start(&due).await);
    node.clock.jump(1);
    assert!(start(&due).await);
    assert_eq!(node.effects().await.len(), 3);

    // No later than a time.
    let by = async |at: i64| {
        let scope = Scope::user(UserKey(1));
        node.db.submit(scope, async move |tx| schedule_by(tx, &NOTE, 1, at).await).await.unwrap();
        read().await
    };
    let first = by(START + 50).await;
    assert_eq!((first.next_at, by(START + 60).await), (START + 50, first.clone()));
    let earlier = by(START + 40).await;
    assert_eq!(earlier.next_at, START + 40);
    assert_ne!(earlier.generation(), first.generation());
    let missing = node.db.submit(Scope::none(), async |tx| schedule_missing(tx, &NOTE, &[1, 2], START + 30).await);
    missing.await.unwrap();
    let at: Vec<i64> = node.list(Queue::Tasks, false).await.iter().map(|task| task.next_at).collect();
    assert_eq!(at, [START + 40, START + 30]);
    let cancelled = async || {
        let scope = Scope::user(UserKey(1));
        node.db.submit(scope, async |tx| cancel(tx, &NOTE, 1).await).await.unwrap()
    };
    assert!(cancelled().await && !cancelled().await);
    let only = node.db.submit(Scope::user(UserKey(1)), async |tx| schedule_only(tx, &NOTE, 1, START).await);
    only.await.unwrap();
    let left: Vec<i64> = node.list(Queue::Tasks, false).await.iter().map(|task| task.key).collect();
    assert_eq!(left, [1]);

    // It fails, and the clock is set back before that is noted: it was not for a time before its own.
    let fails = async |now: i64| {
        let (task, scope) = (read().await, Scope::user(UserKey(1)));
        let noted = async move |tx: &mut Tx<'_>| failed(tx, (Queue::Tasks, &task), "as asked", now, true).await;
        assert!(node.db.submit(scope, noted).await.unwrap().is_some());
        read().await.next_at
    };
    assert_eq!(fails(START - 5_000).await, START);
    assert_eq!(fails(START).await, START + back_off_ms(2));
    let again = node.db.submit(Scope::none(), async |tx| retry(tx, Queue::Tasks, NOTE.number, 1, START - 1).await);
    assert!(again.await.unwrap());
    assert_eq!(read().await.next_at, START, "the operator does not let it run before its time");
    node.db.close().await;
}

/// Hundreds of tasks of two workers, while they are cancelled: each is either cancelled or takes effect, and once.
async fn once(database: Database) {
    let node = Node::open(&database).await;
    // A second worker, as of another node: it reads the same tasks.
    let second =
        Node { db: node.db.clone(), clock: node.clock.clone(), timers: Arc::default(), context: Arc::default() };
    let users = 600;
    node.prepare(users).await;
    for user in 1..=users {
        node.schedule(user, START + user % 3).await;
    }
    let workers = [node.start(), second.start()];
    node.clock.jump(10);
    // Each job locks two users, in any order: the transactions of workers and of these must not deadlock.
    let cancels = (1..=users).map(|user| {
        let scope = Scope::user(UserKey(users + 1 - user)).and_user(UserKey(user));
        node.db.submit(scope, async move |tx| Ok(cancel(tx, &NOTE, user).await?.then_some(user)))
    });
    let cancelled: Vec<i64> = join_all(cancels).await.into_iter().filter_map(|done| done.unwrap()).collect();
    node.until("all", async |node| node.list(Queue::Tasks, false).await.is_empty()).await;
    for worker in workers {
        stop(worker).await;
    }
    let mut all: Vec<i64> = node.effects().await.into_iter().map(|(subject, _)| subject).collect();
    all.extend(&cancelled);
    all.sort_unstable();
    assert_eq!(all, (1..=users).collect::<Vec<_>>(), "{} were cancelled", cancelled.len());
    node.db.close().await;
}

/// What fails leaves nothing behind, is tried again, and is kept for the operator at last.
async fn failures(database: Database) {
    let node = Node::open(&database).await;
    node.prepare(3).await;
    node.context.failing.lock().insert(1);
    node.schedule(1, START).await;
    node.schedule(2, START).await;
    let panics = node.db.submit(Scope::none(), async |tx| schedule(tx, &PANIC, 1, START).await);
    panics.await.unwrap();
    let worker = node.start();
    let attempts = async |node: &Node, of: i64| {
        let found = node.list(Queue::Tasks, true).await;
        found.into_iter().find(|task| task.kind == of).map(|task| (task.attempts, task.next_at))
    };
    let mut at = START;
    for failures in 1..=MAX_ATTEMPTS {
        let next_at = if failures < MAX_ATTEMPTS { at + back_off_ms(failures) } else { i64::MAX };
        for kind in [NOTE.number, PANIC.number] {
            node.until("a failure", async |node| attempts(node, kind).await == Some((failures, next_at))).await;
        }
        if failures < MAX_ATTEMPTS {
            node.clock.advance(next_at - at);
            at = next_at;
        }
    }
    assert_eq!(node.context.failures.load(Ordering::SeqCst), 10);
    let dead = node.list(Queue::Tasks, true).await;
    assert!(dead.iter().all(Entry::is_dead) && dead.len() == 2);
    assert!(dead[0].last_error.contains("as asked") && dead[1].last_error.contains("panicked"), "{dead:?}");
    assert_eq!(node.effects().await, [(2, START)], "the effect of a failure is rolled back");

    // The operator lets one run again, and drops the other.
    node.context.failing.lock().clear();
    let operate = async |kind: i64, drops: bool| {
        let now = node.clock.now_ms();
        let done = node.db.submit(Scope::none(), async move |tx| match drops {
            true => remove(tx, Queue::Tasks, kind, 1).await,
            false => retry(tx, Queue::Tasks, kind, 1, now).await,
        });
        done.await.unwrap()
    };
    assert!(operate(NOTE.number, false).await && operate(PANIC.number, true).await);
    node.until("another try", async |node| node.list(Queue::Tasks, false).await.is_empty()).await;
    assert_eq!(node.effects().await[1..], [(1, at)]);
    assert!(!operate(NOTE.number, false).await && !operate(NOTE.number, true).await);

    // A new time makes a task that has failed a new one.
    node.context.failing.lock().insert(3);
    node.schedule(3, at).await;
    node.until("a failure", async |node| attempts(node, NOTE.number).await.is_some()).await;
    let scope = Scope::user(UserKey(3));
    node.db.submit(scope, async move |tx| schedule_by(tx, &NOTE, 3, at + 999).await).await.unwrap();
    assert_eq!(attempts(&node, NOTE.number).await, None);
    node.clock.advance(999);
    node.until("a failure", async |node| attempts(node, NOTE.number).await == Some((1, at + 1_999))).await;

    // A clock that is set back by a day does not make the wait a day longer, unless the task is for a time after that. The worker
    // sees it with its next look.
    node.context.failing.lock().insert(1);
    node.schedule(1, at - 2 * DAY_MS).await;
    node.until("a failure", async |node| node.list(Queue::Tasks, true).await.len() == 2).await;
    node.clock.jump(-DAY_MS);
    node.context.failing.lock().clear();
    let are = async |node: &Node, count: usize| {
        // In steps: the worker may not have begun to wait for its next look.
        node.clock.advance(100);
        node.list(Queue::Tasks, false).await.len() == count
    };
    node.until("the earlier one", async |node| are(node, 1).await).await;
    assert!(node.clock.now_ms() < at - DAY_MS / 2, "the wait became longer");
    let left = node.list(Queue::Tasks, false).await.remove(0);
    assert_eq!((left.key, left.next_at), (3, at + 999), "it is for a time that has not come again");
    node.clock.advance(at + 999 - node.clock.now_ms());
    node.until("the later one", async |node| are(node, 0).await).await;
    let last = node.effects().await.pop().unwrap();
    assert!(last.0 == 3 && last.1 >= at + 999, "{last:?}");
    stop(worker).await;
    node.db.close().await;
}

/// A task may schedule itself.
async fn recurring(database: Database) {
    let node = Node::open(&database).await;
    node.prepare(0).await;
    node.db.submit(Scope::none(), async |tx| schedule(tx, &TICK, 1, START).await).await.unwrap();
    let worker = node.start();
    for tick in 1..4 {
        let is_next = async |node: &Node| node.list(Queue::Tasks, false).await[0].next_at == START + tick * 1_000;
        node.until("a tick", is_next).await;
        node.clock.advance(1_000);
    }
    stop(worker).await;
    node.db.close().await;
}

/// A task may schedule itself for the time for which it was: the next one runs as well, however soon the worker looks.
async fn again(database: Database) {
    let node = Node::open(&database).await;
    node.prepare(0).await;
    node.context.left.store(100, Ordering::SeqCst);
    node.db.submit(Scope::none(), async |tx| schedule(tx, &AGAIN, 1, START).await).await.unwrap();
    let worker = node.start();
    node.until("the last one", async |node| node.list(Queue::Tasks, false).await.is_empty()).await;
    assert!(node.context.left.load(Ordering::SeqCst) <= 0);
    stop(worker).await;
    node.db.close().await;
}

/// Each page of recipients is delivered at least once, and not again because a later one fails.
async fn outbox(database: Database) {
    let node = Node::open(&database).await;
    node.prepare(0).await;
    node.context.pages.store(3, Ordering::SeqCst);
    node.context.failing.lock().insert(2);
    let worker = node.start();
    let queued = node.db.submit(Scope::none(), async |tx| enqueue(tx, &PAGES, (77, 5), START).await);
    queued.await.unwrap();
    node.until("a failure", async |node| node.list(Queue::Outbox, true).await.len() == 1).await;
    let page = |cursor| Delivery { id: 77, cause: 5, cursor };
    assert_eq!(*node.context.delivered.lock(), [page(0), page(1)]);
    let failed = node.list(Queue::Outbox, true).await.remove(0);
    assert_eq!((failed.attempts, failed.next_at, failed.delivery()), (1, START + 1_000, page(2)));
    // Killed after a delivery and before it was noted: the page is delivered again, with the same id.
    stop(worker).await;
    node.context.failing.lock().clear();
    node.clock.advance(1_000);
    let rewound = node.db.submit(Scope::none(), async |tx| Ok(tx.execute("UPDATE outbox SET cursor = 1", &[]).await?));
    assert_eq!(rewound.await.unwrap(), 1);
    let worker = node.start();
    node.until("the rest", async |node| node.list(Queue::Outbox, false).await.is_empty()).await;
    assert_eq!(*node.context.delivered.lock(), [0, 1, 1, 2, 3].map(page));
    // What fails too often waits for the operator.
    node.context.failing.lock().insert(0);
    let now = node.clock.now_ms();
    let queued = node.db.submit(Scope::none(), async move |tx| enqueue(tx, &PAGES, (78, 6), now).await);
    queued.await.unwrap();
    for failures in 1..=MAX_ATTEMPTS {
        let has_failed = async |node: &Node| {
            let failed = node.list(Queue::Outbox, true).await;
            failed.iter().any(|entry| entry.attempts == failures)
        };
        node.until("a failure", has_failed).await;
        node.clock.advance(back_off_ms(failures));
    }
    assert!(node.list(Queue::Outbox, true).await[0].is_dead());
    stop(worker).await;
    node.db.close().await;
}

/// A receiver who never answers delays neither other receivers, nor other apps, nor the rest of the outbox.
async fn lanes(database: Database) {
    let node = Node::open(&database).await;
    node.prepare(0).await;
    // Of the app 1 the receivers 1 to 3 never answer.
    node.context.failing.lock().extend([1, 2, 3]);
    let put = async |(first, count): (i64, i64), (app, receiver): (i64, u64)| {
        let lane = lane(crate::key::AppKey(app), receiver);
        let cause = if app == 1 { receiver.cast_signed() } else { 99 };
        let stored = node.db.submit(Scope::none(), async move |tx| {
            for id in first..first + count {
                let sql = "INSERT INTO outbox (id, kind, cause, cursor, next_at, attempts, last_error, lane) \
                           VALUES ($1, 2, $2, 0, $3, 0, '', $4)";
                tx.execute(sql, &params![id, cause, START - 1_000 + id, lane]).await?;
            }
            Ok(())
        });
        stored.await.unwrap();
    };
    // More than there are places, and all of them have waited longer than the rest.
    put((1, 300), (1, 1)).await;
    put((401, 100), (1, 9)).await;
    put((501, 100), (2, 1)).await;
    let now = START;
    node.db.submit(Scope::none(), async move |tx| enqueue(tx, &PAGES, (777, 5), now).await).await.unwrap();
    let worker = node.start();
    let left = async |node: &Node| node.list(Queue::Outbox, false).await.iter().map(|entry| entry.key).collect();
    let slow = |count: i64| (1..=count).collect::<Vec<i64>>();
    node.until("all but the slow receiver", async |node| Vec::<i64>::eq(&left(node).await, &slow(300))).await;
    let begun = |cause| node.context.delivered.lock().iter().filter(|delivery| delivery.cause == cause).count();
    assert_eq!(begun(1), 32, "a receiver has so many places");
    // With two more, all places of the app are taken.
    put((301, 40), (1, 2)).await;
    put((341, 40), (1, 3)).await;
    put((601, 40), (3, 1)).await;
    node.timers.look();
    node.until("another app", async |node| Vec::<i64>::eq(&left(node).await, &slow(380))).await;
    node.until("two receivers", async |_| begun(1) + begun(2) + begun(3) == 64).await;
    stop(worker).await;
    node.db.close().await;
}

/// What was stored before there were tasks gets them.
async fn migrated(database: Database) {
    let before = DbConfig { migrations: &MIGRATIONS[..3], ..DbConfig::new(database.clone()) };
    let db = Db::<NewMessage>::open(before, |_| {}).await.unwrap();
    let stored = db.submit(Scope::none(), async |tx| {
        for sql in [
            "INSERT INTO app (id, name, app_sign, server_secret, created_at, old_app_sign, old_app_sign_ends_at) \
             VALUES (7, '', '', '', 0, 'x', 900), (8, '', '', '', 0, '', 0)",
            "INSERT INTO presence (account, online, platforms, online_at, custom, custom_at, custom_ends_at, changed_at) \
             VALUES (1, 0, 0, 0, 'busy', 1, 500, 1), (2, 0, 0, 0, 'here', 1, 0, 1)",
            "INSERT INTO subscription (account, target, place, expires_at) \
             VALUES (1, 2, 1, 700), (1, 3, 1, 600), (3, 1, 1, 800)",
        ] {
            tx.execute(sql, &[]).await?;
        }
        Ok(())
    });
    stored.await.unwrap();
    db.close().await;
    let node = Node::open(&database).await;
    let all = node.list(Queue::Tasks, false).await;
    let all: Vec<_> = all.iter().map(|task| (task.kind, task.key, task.next_at, task.attempts)).collect();
    let kind = |index: usize| crate::service::kinds().tasks[index].number;
    assert_eq!(all, [(kind(0), 1, 500, 0), (kind(1), 1, 600, 0), (kind(1), 3, 800, 0), (kind(4), 7, 0, 0)]);
    node.db.close().await;
}

macro_rules! on_both {
    ($($case:ident)*) => {
    $(
        mod $case {
            use super::*;

            #[tokio::test]
            async fn on_sqlite() {
                let dir = tempfile::tempdir().unwrap();
                super::$case(Database::Sqlite(dir.path().join("test.db"))).await;
            }
        }
    )*

    #[tokio::test]
    async fn all_on_postgresql() {
        let cluster = Cluster::start().unwrap();
        $($case(Database::Postgres(cluster.create_database(concat!("task_", stringify!($case))).unwrap())).await;)*
    }
    };
}

on_both!(in_time replaced_and_cancelled once failures recurring again outbox lanes migrated);

#[test]
fn the_kinds_of_the_server_have_numbers_and_names_of_their_own() {
    let kinds = crate::service::kinds().tasks;
    let numbers: HashSet<i64> = kinds.iter().map(|kind| kind.number).collect();
    let names: HashSet<&str> = kinds.iter().map(|kind| kind.name).collect();
    assert_eq!((numbers.len(), names.len()), (kinds.len(), kinds.len()));
}

#[test]
fn a_back_off_grows_up_to_an_hour() {
    let waits = [0, 1, 2, 3, 6, 7, 9, 1_000].map(back_off_ms);
    assert_eq!(waits, [1_000, 1_000, 4_000, 16_000, 1_024_000, 3_600_000, 3_600_000, 3_600_000]);
}
