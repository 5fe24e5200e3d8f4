//! What the server learns of what is stored here.

use crate::store::Length;
use zim_protocol::Dirty;

use super::fake::conversation_ref;
use super::*;

fn stored(login: &Login) -> Vec<(String, u64)> {
    let world = login.fake.0.lock();
    world.stored.iter().map(|(name, seq)| (name.id.to_string(), *seq)).collect()
}

#[tokio::test]
async fn events_are_acknowledged_when_they_are_stored() {
    let login = Login::online().await;
    let (one, two) = {
        let mut world = login.fake.0.lock();
        (world.write("bob", "bob", "1"), world.write("bob", "bob", "2"))
    };
    login.frame(one).await;
    login.frame(two).await;
    login.until(|login| login.fake.0.lock().handled == 2).await;
    assert_eq!(stored(&login).last(), Some(&("bob".to_owned(), 2)));
    // What this device pulls it acknowledges too.
    let dirty = {
        let mut world = login.fake.0.lock();
        world.write("bob", "bob", "3");
        Dirty { conversations: vec![conversation_ref("bob")], ..Dirty::default() }
    };
    login.account.event_frame(EventFrame { frame: Some(Frame::Dirty(dirty)) }).await;
    login.until(|login| stored(login).last() == Some(&("bob".to_owned(), 3))).await;
    assert_eq!(login.fake.0.lock().handled, 3);
}

#[tokio::test]
async fn the_feed_is_acknowledged_as_far_as_it_is_stored() {
    let login = Login::online().await;
    login.disconnect();
    {
        let mut world = login.fake.0.lock();
        world.block(&["bob", "cem"]);
        world.feeds.clear();
    }
    // What this device was given after the connection was made.
    login.connect().await;
    login.until(|login| login.fake.0.lock().feeds.last() == Some(&2)).await;
    let push = {
        let mut world = login.fake.0.lock();
        world.block(&["dan"]);
        let feed = world.feed[2..].to_vec();
        Push { log: zim_protocol::LogKind::Feed as i32, from: 3, to: 3, feed, ..Push::default() }
    };
    login.frame(push).await;
    login.until(|login| login.fake.0.lock().feeds.last() == Some(&3)).await;
}

/// A gap is no stored position, whatever comes after it.
#[tokio::test]
async fn a_position_with_a_gap_before_it_is_not_acknowledged() {
    let login = Login::online().await;
    let (one, three) = {
        let mut world = login.fake.0.lock();
        let one = world.write("bob", "bob", "1");
        world.write("bob", "bob", "2");
        world.limit_pulls = usize::MAX;
        (one, world.write("bob", "bob", "3"))
    };
    login.frame(one).await;
    login.frame(three).await;
    login.until(|login| login.fake.0.lock().handled == 2).await;
    assert!(stored(&login).iter().all(|(_, seq)| *seq == 1), "{:?}", stored(&login));
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged() {
    let login = Login::online().await;
    let full = "CREATE TEMP TRIGGER full BEFORE INSERT ON message BEGIN SELECT RAISE(FAIL, 'no room'); END";
    login.account.store().write(Length::Short, |db| db.execute_batch(full)).await.unwrap();
    let one = login.fake.0.lock().write("bob", "bob", "1");
    login.frame(one).await;
    // The account reports the failure before it serves what comes behind the frame.
    drop(login.account.store_users(Vec::new()).await);
    assert_eq!(stored(&login), []);
    login.account.store().write(Length::Short, |db| db.execute_batch("DROP TRIGGER full")).await.unwrap();
    login.clock.advance(10_000);
    login.until(|login| stored(login).last() == Some(&("bob".to_owned(), 1))).await;
}
