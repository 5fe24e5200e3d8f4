//! The cases for SQLite only.

use std::time::{Duration, Instant};

use super::*;

#[tokio::test]
async fn a_job_that_awaits_anything_but_its_tx_fails() {
    let test_db = TestDb::new(None, "");
    let store = test_db.open().await;
    let (gate, held) = store.hold().await;
    let first = store.put(1);
    let (_never, other) = tokio::sync::oneshot::channel::<()>();
    let waits = store.db.submit(Scope::none(), async move |tx| {
        insert(tx, 2, "two").await?;
        let _ = other.await;
        Ok(())
    });
    let last = store.put(3);
    drop(gate);
    held.await.unwrap();
    assert_eq!((first.await.unwrap(), last.await.unwrap()), (1, 3));
    assert!(waits.await.unwrap_err().cause().unwrap().to_string().contains("not its Tx"));
    assert_eq!(store.ids().await, [1, 3]);
    let (_never, other) = tokio::sync::oneshot::channel::<()>();
    let read = store.db.read(async move |_| {
        let _ = other.await;
        Ok(())
    });
    assert!(read.await.is_err());
}

#[tokio::test]
async fn a_job_has_a_time_limit() {
    let test_db = TestDb::new(None, "");
    let store = Store::open(DbConfig { job_limit: Duration::from_millis(100), ..test_db.config() }).await;
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";
    let begun = Instant::now();
    let (gate, held) = store.hold().await;
    let first = store.put(1);
    let writes = store.db.submit(Scope::none(), async move |tx| Ok(tx.fetch(endless, &[]).await?.len()));
    let last = store.put(2);
    drop(gate);
    held.await.unwrap();
    assert_eq!((first.await.unwrap(), last.await.unwrap()), (1, 2));
    let error = writes.await.unwrap_err();
    assert!(error.cause().unwrap().downcast_ref::<DbError>().unwrap().kind() == DbErrorKind::Timeout, "{error:?}");
    assert!(store.db.read(async move |tx| Ok(tx.fetch(endless, &[]).await?.len())).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(store.ids().await, [1, 2]);
}

#[tokio::test]
async fn a_full_disk_is_reported_and_survived() {
    let test_db = TestDb::new(None, "");
    let store = test_db.open().await;
    store.put(1).await.unwrap();
    let pages = async |count: i64| {
        let limit =
            async move |tx: &mut Tx<'_>| Ok(tx.fetch(&format!("PRAGMA max_page_count = {count}"), &[]).await?.len());
        store.db.submit(Scope::none(), limit).await.unwrap();
    };
    pages(1).await;
    let (gate, held) = store.hold().await;
    let fill = async |tx: &mut Tx<'_>| {
        tx.execute("INSERT INTO item (id, name, body) VALUES (2, 'big', $1)", &params![vec![7_u8; 1 << 20]]).await?;
        Ok(())
    };
    let full = store.db.submit(Scope::none(), fill);
    let neighbour = store.db.submit(Scope::none(), async |_| Ok(()));
    drop(gate);
    held.await.unwrap();
    let error = full.await.unwrap_err();
    assert!(error.cause().unwrap().downcast_ref::<DbError>().unwrap().is_full(), "{error:?}");
    // The other job may fail, too: nothing is acknowledged that is not stored.
    let _ = neighbour.await;
    assert_eq!(store.ids().await, [1]);
    pages(1_000_000).await;
    store.db.submit(Scope::none(), fill).await.unwrap();
    assert_eq!(store.ids().await, [1, 2]);
}

#[tokio::test]
async fn the_log_is_emptied_in_a_pause() {
    let test_db = TestDb::new(None, "");
    let store = test_db.open().await;
    let log = test_db.dir.path().join("test.db-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    let (gate, held) = store.hold().await;
    let fill = async |tx: &mut Tx<'_>| {
        tx.execute("INSERT INTO item (id, name, body) VALUES (1, 'big', $1)", &params![vec![7_u8; 5 << 20]]).await?;
        Ok(())
    };
    let filled = store.db.submit(Scope::none(), fill);
    drop(gate);
    held.await.unwrap();
    filled.await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while length() > 0 {
        assert!(Instant::now() < deadline, "the log still has {} bytes", length());
        tokio::task::yield_now().await;
    }
    assert_eq!(store.ids().await, [1]);
    // A short log stays: emptying it costs more than it saves.
    store.put(2).await.unwrap();
    let before = length();
    assert!(before > 0);
    store.put(3).await.unwrap();
    assert_eq!(store.ids().await, [1, 2, 3]);
    assert!(length() > before);
}

#[tokio::test]
async fn acknowledged_writes_survive_a_restart() {
    let test_db = TestDb::new(None, "");
    let store = test_db.open().await;
    for id in 1..=10 {
        store.put(id).await.unwrap();
    }
    store.db.close().await;
    let names: Vec<_> =
        std::fs::read_dir(test_db.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["test.db"], "the log was not checkpointed into the file");
    assert_eq!(test_db.open().await.ids().await.len(), 10);
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused() {
    let test_db = TestDb::new(None, "");
    std::fs::write(test_db.dir.path().join("test.db"), "this is a letter to my aunt".repeat(100)).unwrap();
    let error = Db::<Put>::open(test_db.config(), |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), DbErrorKind::Corrupt, "{error}");
}

#[expect(clippy::disallowed_methods, reason = "the other program has pragmas of its own")]
#[tokio::test]
async fn a_database_of_another_program_is_refused_and_not_changed() {
    let test_db = TestDb::new(None, "");
    let path = test_db.dir.path().join("test.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE bookmark (url TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Db::<Put>::open(test_db.config(), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("test.db is an SQLite database of another program"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
