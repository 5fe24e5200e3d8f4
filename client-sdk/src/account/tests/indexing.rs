//! When messages are indexed for search.

use super::Login;
use crate::store::message_search;

async fn is_behind(login: &Login) -> bool {
    login.account.store().read(message_search::is_behind).await.unwrap()
}

#[tokio::test]
async fn messages_are_indexed_in_batches_some_time_after_they_arrived() {
    let login = Login::online().await;
    for number in 0..450 {
        login.fake.0.lock().write("bob", "bob", &number.to_string());
    }
    login.disconnect();
    login.connect().await;
    login.until(|login| login.received().len() == 450).await;
    assert!(is_behind(&login).await, "receiving does not wait for it");
    let rest = async || -> i64 {
        let sql = "SELECT (SELECT MAX(id) FROM message) - through FROM message_indexed";
        login.account.store().read(|db| db.query_row(sql, [], |row| row.get(0))).await.unwrap()
    };
    // The first batch comes after two seconds, the others a tenth of a second later each.
    let mut left = rest().await;
    for (pause_ms, expected) in [(2_000, 250), (100, 50), (100, 0)] {
        login.clock.advance(pause_ms);
        while rest().await == left {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        left = rest().await;
        assert_eq!(left, expected);
    }
    assert!(!is_behind(&login).await);
}

#[tokio::test]
async fn messages_are_not_indexed_while_many_arrive() {
    let login = Login::online().await;
    let mut written = 0;
    let mut arrive = async |count: usize| {
        for _ in 0..count {
            login.fake.0.lock().write("bob", "bob", "hi");
        }
        written += count;
        login.disconnect();
        login.connect().await;
        login.until(|login| login.received().len() == written).await;
    };
    let through = async || -> i64 {
        let sql = "SELECT through FROM message_indexed";
        login.account.store().read(|db| db.query_row(sql, [], |row| row.get(0))).await.unwrap()
    };
    arrive(450).await;
    login.clock.advance(1_500);
    arrive(30).await;
    // Two seconds after the first ones. The second message is sent when the first one has let the index have its turn.
    login.clock.advance(500);
    for _ in 0..2 {
        login.send("bob", "hi").await.unwrap().unwrap();
    }
    assert_eq!(through().await, 0);
    login.clock.advance(2_000);
    while through().await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
