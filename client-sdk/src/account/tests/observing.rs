//! Observed lists: what they tell, one situation at a time.

use std::sync::Arc;
use std::time::Duration;

use zim_protocol::{Message, MessageSentStatus};

use super::fake::{Fake, ME};
use super::{Login, numbered, text};
use crate::observe::{ConversationList, Diff, Timeline};
use crate::types::Name;

impl Login {
    pub(super) async fn timeline(&self, limit: usize) -> Timeline {
        Timeline::open(Arc::clone(&self.account), Name::new(0, "bob"), limit).await.unwrap()
    }

    pub(super) async fn conversations(&self, limit: usize) -> ConversationList {
        ConversationList::open(Arc::clone(&self.account), limit).await.unwrap()
    }

    async fn hears(&self, text: &str) {
        let push = self.fake.0.lock().write("bob", "bob", text);
        self.frame(push).await;
    }
}

/// Waits for changes until the timeline shows this; returns them.
async fn shows(timeline: &mut Timeline, expected: &[&str]) -> Vec<Diff<Message>> {
    let mut all = Vec::new();
    while timeline.items().iter().map(text).collect::<Vec<_>>() != expected {
        let diffs = tokio::time::timeout(Duration::from_secs(10), timeline.next()).await;
        let shown: Vec<String> = timeline.items().iter().map(text).collect();
        all.extend(diffs.unwrap_or_else(|_| panic!("{shown:?} instead of {expected:?}")).expect("the login"));
    }
    all
}

/// What a change does, to which place, and with which texts.
fn told(diffs: &[Diff<Message>]) -> Vec<String> {
    let told = |diff: &Diff<Message>| match diff {
        Diff::Insert { index, item } => format!("insert {index} {}", text(item)),
        Diff::Update { index, item } => format!("update {index} {}", text(item)),
        Diff::Remove { index } => format!("remove {index}"),
        Diff::Reset { items } => format!("reset {}", items.iter().map(text).collect::<Vec<_>>().join(" ")),
    };
    diffs.iter().map(told).collect()
}

/// The names of the conversations, and their unread counts.
fn named(list: &ConversationList) -> Vec<(&str, i64)> {
    list.items().iter().map(|shown| (shown.conversation_id.as_str(), shown.unread_message_count)).collect()
}

/// Waits for changes until the list shows these conversations with these unread counts.
async fn lists(list: &mut ConversationList, expected: &[(&str, i64)]) {
    while named(list) != expected {
        let in_time = tokio::time::timeout(Duration::from_secs(10), list.next()).await;
        in_time.unwrap_or_else(|_| panic!("{:?} instead of {expected:?}", named(list))).expect("the login");
    }
}

#[tokio::test]
async fn messages_are_appended_and_older_ones_stay() {
    let login = Login::online().await;
    for number in 1..=5 {
        login.hears(&number.to_string()).await;
    }
    login.until(|login| login.received().len() == 5).await;
    let mut timeline = login.timeline(2).await;
    assert_eq!(timeline.items().iter().map(text).collect::<Vec<_>>(), numbered(4..=5));
    login.hears("6").await;
    assert_eq!(told(&shows(&mut timeline, &["4", "5", "6"]).await), ["insert 2 6"]);
    let older = timeline.load_older(2);
    assert_eq!(told(&shows(&mut timeline, &["2", "3", "4", "5", "6"]).await), ["insert 0 2", "insert 1 3"]);
    assert_eq!(older.await.unwrap(), 2);
    login.hears("7").await;
    shows(&mut timeline, &["2", "3", "4", "5", "6", "7"]).await;
    assert_eq!(timeline.load_older(10).await.unwrap(), 1);
    shows(&mut timeline, &["1", "2", "3", "4", "5", "6", "7"]).await;
    assert_eq!(timeline.load_older(10).await.unwrap(), 0);
}

#[tokio::test]
async fn an_own_message_appears_at_once_and_changes_in_place() {
    let login = Login::online().await;
    login.hears("hi").await;
    login.until(|login| login.received().len() == 1).await;
    let mut timeline = login.timeline(10).await;
    login.disconnect();
    let answer = login.send("bob", "hello");
    assert_eq!(told(&shows(&mut timeline, &["hi", "hello"]).await), ["insert 1 hello"]);
    let status = |timeline: &Timeline| timeline.items()[1].sent_status();
    assert_eq!(status(&timeline), MessageSentStatus::Sending);
    login.clock.advance(30_000);
    assert_eq!(told(&timeline.next().await.unwrap()), ["update 1 hello"]);
    assert_eq!(status(&timeline), MessageSentStatus::Failed);
    let failed = answer.await.unwrap().unwrap_err().failed_message().unwrap().clone();
    login.connect().await;
    login.send_message(failed, "bob", Default::default()).unwrap().await.unwrap().unwrap();
    while status(&timeline) != MessageSentStatus::Success {
        let diffs = timeline.next().await.unwrap();
        assert_eq!(told(&diffs), ["update 1 hello"]);
    }
}

#[tokio::test]
async fn a_revoked_message_is_replaced_in_its_place() {
    let login = Login::online().await;
    for number in 1..=3 {
        login.hears(&number.to_string()).await;
    }
    login.until(|login| login.received().len() == 3).await;
    let (mut timeline, mut list) = (login.timeline(10).await, login.conversations(10).await);
    let push = login.fake.0.lock().revoke("bob", 2).unwrap();
    login.frame(push).await;
    assert_eq!(told(&shows(&mut timeline, &["1", "revoked", "3"]).await), ["update 1 revoked"]);
    lists(&mut list, &[("bob", 2)]).await;
}

#[tokio::test]
async fn after_a_short_absence_what_was_missed_is_appended() {
    let login = Login::online().await;
    login.hears("1").await;
    login.until(|login| login.received().len() == 1).await;
    let mut timeline = login.timeline(3).await;
    login.disconnect();
    for number in 2..=4 {
        login.fake.0.lock().write("bob", "bob", &number.to_string());
    }
    login.connect().await;
    let diffs = shows(&mut timeline, &["1", "2", "3", "4"]).await;
    assert_eq!(told(&diffs), ["insert 1 2", "insert 2 3", "insert 3 4"]);
}

#[tokio::test]
async fn after_a_long_absence_it_starts_anew_at_the_newest_messages() {
    let login = Login::online().await;
    login.hears("1").await;
    login.until(|login| login.received().len() == 1).await;
    let mut timeline = login.timeline(3).await;
    login.disconnect();
    for number in 2..=1_500 {
        login.fake.0.lock().write("bob", "bob", &number.to_string());
    }
    login.connect().await;
    let diffs = shows(&mut timeline, &["1498", "1499", "1500"]).await;
    assert_eq!(told(&diffs), ["reset 1498 1499 1500"]);
    // What lies between comes from the server.
    assert_eq!(timeline.load_older(1_496).await.unwrap(), 1_496);
    timeline.next().await.unwrap();
    assert_eq!(timeline.items().iter().map(text).collect::<Vec<_>>(), numbered(2..=1_500));
}

#[tokio::test]
async fn an_own_message_does_not_wait_for_those_before_it() {
    let login = Login::online().await;
    login.hears("1").await;
    login.until(|login| login.received().len() == 1).await;
    let mut timeline = login.timeline(10).await;
    {
        let mut world = login.fake.0.lock();
        // Its push is lost, and so are the first attempts to catch up.
        world.write("bob", "bob", "2");
        world.limit_pulls = 1;
    }
    login.send("bob", "3").await.unwrap().unwrap();
    login.until(|login| login.fake.0.lock().limit_pulls == 0).await;
    shows(&mut timeline, &["1", "3"]).await;
    login
        .until(|login| {
            login.clock.advance(1_000);
            login.received().len() == 2
        })
        .await;
    let diffs = shows(&mut timeline, &["1", "2", "3"]).await;
    assert_eq!(told(&diffs).last().unwrap(), "insert 1 2");
}

#[tokio::test]
async fn it_starts_without_a_connection_and_loads_what_is_missing_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = Login::with(Fake::default(), Some(&file));
    for number in 1..=1_500 {
        login.fake.0.lock().write("bob", "bob", &number.to_string());
    }
    login.connect().await;
    login.until(|login| login.received().len() == 1_000).await;
    login.account.close(false).await;
    login.fake.0.lock().is_online = false;

    let login = Login::with(login.fake.clone(), Some(&file));
    let (mut timeline, list) = (login.timeline(1_200).await, login.conversations(5).await);
    assert_eq!(timeline.items().iter().map(text).collect::<Vec<_>>(), numbered(501..=1_500));
    assert_eq!(named(&list), [("bob", 1_500)]);
    login.connect().await;
    while timeline.items().len() < 1_200 {
        timeline.next().await.unwrap();
    }
    assert_eq!(timeline.items().iter().map(text).collect::<Vec<_>>(), numbered(301..=1_500));
    login.account.close(false).await;
}

#[tokio::test]
async fn a_restored_backup_replaces_everything() {
    let login = Login::online().await;
    for number in 1..=5 {
        login.hears(&number.to_string()).await;
    }
    login.until(|login| login.received().len() == 5).await;
    let (mut timeline, mut list) = (login.timeline(2).await, login.conversations(5).await);
    login.disconnect();
    {
        let mut world = login.fake.0.lock();
        world.restore_backup();
        world.write("cem", "cem", "hi");
        world.elapsed_ms += 1_000;
        world.write("bob", ME, "again");
    }
    login.connect().await;
    shows(&mut timeline, &["again"]).await;
    lists(&mut list, &[("bob", 0), ("cem", 1)]).await;
    login.disconnect();
    login.fake.0.lock().restore_backup();
    login.connect().await;
    shows(&mut timeline, &[]).await;
    lists(&mut list, &[]).await;
}

#[tokio::test]
async fn changes_that_nobody_waited_for_come_together() {
    let login = Login::online().await;
    let (mut timeline, mut list) = (login.timeline(10).await, login.conversations(10).await);
    for number in 1..=5 {
        login.hears(&number.to_string()).await;
        login.until(|login| login.received().len() == number).await;
    }
    assert_eq!(told(&timeline.next().await.unwrap()), ["reset 1 2 3 4 5"]);
    assert_eq!(list.next().await.unwrap().len(), 1);
    assert_eq!(named(&list), [("bob", 5)]);
}

#[tokio::test]
async fn a_list_shows_as_many_as_wanted() {
    let login = Login::online().await;
    let mut list = login.conversations(2).await;
    for peer in ["bob", "cem", "dan", "eva"] {
        let push = login.fake.0.lock().write(peer, peer, "hi");
        login.frame(push).await;
        login.fake.0.lock().elapsed_ms += 1_000;
    }
    login.until(|login| login.received().len() == 4).await;
    lists(&mut list, &[("eva", 1), ("dan", 1)]).await;
    list.load_more(1);
    lists(&mut list, &[("eva", 1), ("dan", 1), ("cem", 1)]).await;
    list.load_more(usize::MAX);
    lists(&mut list, &[("eva", 1), ("dan", 1), ("cem", 1), ("bob", 1)]).await;
}

#[tokio::test]
async fn everything_ends_with_the_login() {
    let login = Login::online().await;
    let (mut timeline, mut list) = (login.timeline(10).await, login.conversations(10).await);
    login.account.close(false).await;
    while timeline.next().await.is_some() {}
    while list.next().await.is_some() {}
    assert_eq!(timeline.next().await, None);
    assert_eq!(list.next().await, None);
    assert!(timeline.load_older(1).await.is_err());
}
