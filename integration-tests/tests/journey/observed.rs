//! Observed lists: an app that only applies what it is told shows what a query returns.

use zim_client_sdk::{ConversationList, Timeline};
use zim_integration_tests::{DataDir, Device, World, eventually, soon, texts};
use zim_protocol::{
    ConnectionState, Conversation, ConversationType, EventKind, LoginConfig, Message, MessageRevokeConfig,
    MessageSentStatus,
};
use zim_server::config::Config;
use zim_server::db::{Scope, params};

/// The messages that a timeline shows at first.
const LIMIT: usize = 5;

/// An app that shows what it is told.
struct App {
    list: ConversationList,
    timeline: Timeline,
    listed: Vec<Conversation>,
    messages: Vec<Message>,
}

impl App {
    /// Observes the list, and the conversation with `peer`.
    async fn of(device: &Device, peer: &str) -> Self {
        let list = soon(device.observe_conversations(10)).await.unwrap();
        let timeline = soon(device.observe_timeline(peer, ConversationType::Peer, LIMIT)).await.unwrap();
        let (listed, messages) = (list.items().to_vec(), timeline.items().to_vec());
        Self { list, timeline, listed, messages }
    }

    /// Waits for changes until what it shows is as wanted.
    async fn until(&mut self, what: &str, is_met: impl Fn(&[Conversation], &[Message]) -> bool) {
        let wait = async {
            while !is_met(&self.listed, &self.messages) {
                tokio::select! {
                    diffs = self.list.next() => {
                        diffs.expect(what).into_iter().for_each(|diff| diff.apply(&mut self.listed));
                    }
                    diffs = self.timeline.next() => {
                        diffs.expect(what).into_iter().for_each(|diff| diff.apply(&mut self.messages));
                    }
                }
            }
        };
        let in_time = tokio::time::timeout(zim_integration_tests::TIMEOUT, wait).await;
        assert!(in_time.is_ok(), "timed out: {what}; shown: {:?}, {:#?}", texts(&self.messages), self.listed);
        assert_eq!(self.listed, self.list.items());
        assert_eq!(self.messages, self.timeline.items());
    }

    /// Waits until it shows these messages last.
    async fn ends_with(&mut self, expected: &[&str]) {
        let is_met = |_: &[Conversation], messages: &[Message]| texts(messages).ends_with(&owned(expected));
        self.until(&format!("messages that end with {expected:?}"), is_met).await;
    }

    /// Waits until it shows exactly these messages.
    async fn shows(&mut self, expected: &[&str]) {
        let is_met = |_: &[Conversation], messages: &[Message]| texts(messages) == owned(expected);
        self.until(&format!("the messages {expected:?}"), is_met).await;
    }

    /// Waits until it shows the conversations that a query returns, and asserts that the messages are those of a query.
    async fn agrees(&mut self, device: &Device, peer: &str) {
        let queried = device.conversations().await;
        self.until("the queried conversations", |listed, _| listed == queried).await;
        let history = device.history(peer).await;
        self.until("the queried messages", |_, messages| !messages.is_empty() && history.ends_with(messages)).await;
        assert!(self.messages.len() >= LIMIT.min(history.len()));
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn another_device_is_seen_at_once() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let mut app = App::of(&phone, "bob").await;
    assert!(app.listed.is_empty() && app.messages.is_empty());
    laptop.say("bob", "from the laptop").await;
    app.shows(&["from the laptop"]).await;
    let sent = bob.say("ann", "hi ann").await;
    app.shows(&["from the laptop", "hi ann"]).await;
    app.until("an unread message", |listed, _| listed.first().is_some_and(|shown| shown.unread_message_count == 1))
        .await;
    laptop.receives("hi ann").await;
    laptop.read("bob").await;
    app.until("none", |listed, _| listed.first().is_some_and(|shown| shown.unread_message_count == 0)).await;
    soon(bob.revoke_message(&sent, MessageRevokeConfig::default())).await.unwrap();
    app.shows(&["from the laptop", "type 31"]).await;
    soon(bob.update_user_name("Bob")).await.unwrap();
    app.until("the new name", |listed, _| listed.first().is_some_and(|shown| shown.conversation_name == "Bob")).await;
    app.agrees(&phone, "bob").await;
    world.end().await;
}

#[tokio::test]
async fn own_messages_are_shown_while_they_are_sent() {
    let world = World::with(|config: &mut Config| config.limits.offline_after_ms = 2_000).await;
    let (proxy, bob) = (world.proxy(21).await, world.user("bob").await);
    let ann = world.user_via(&proxy, "ann").await;
    let mut app = App::of(&ann, "bob").await;
    proxy.cut();
    let call = ann.send("bob", Message::text("are you there?"));
    app.shows(&["are you there?"]).await;
    assert_eq!(app.messages[0].sent_status(), MessageSentStatus::Sending);
    proxy.restore();
    soon(call).await.unwrap();
    app.until("success", |_, messages| messages[0].sent_status() == MessageSentStatus::Success).await;
    bob.receives("are you there?").await;
    app.agrees(&ann, "bob").await;
    world.end().await;
}

#[tokio::test]
async fn what_happened_during_a_reconnect_is_told() {
    let world = World::with(|config: &mut Config| config.limits.offline_after_ms = 2_000).await;
    let (proxy, bob) = (world.proxy(22).await, world.user("bob").await);
    let ann = world.user_via(&proxy, "ann").await;
    let mut app = App::of(&ann, "bob").await;
    for number in 1..=3 {
        bob.say("ann", &number.to_string()).await;
    }
    app.shows(&["1", "2", "3"]).await;
    for absence in [2, 40] {
        let before = ann.times_caught_up();
        proxy.cut();
        let is_noticed = async || (ann.connection_state() == ConnectionState::Reconnecting).then_some(());
        eventually("the loss of the connection", is_noticed).await;
        for number in 1..=absence {
            bob.say("ann", &format!("{number} of {absence}")).await;
        }
        proxy.restore();
        ann.caught_up(before).await;
        app.ends_with(&[&format!("{absence} of {absence}")]).await;
        app.agrees(&ann, "bob").await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_restored_backup_is_followed() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut app = App::of(&bob, "ann").await;
    for number in 1..=8 {
        ann.say("bob", &number.to_string()).await;
    }
    app.ends_with(&["4", "5", "6", "7", "8"]).await;
    // What `zim-server new-epoch` does.
    let written = world.server().app().db.submit(Scope::none(), async |tx| {
        tx.execute("UPDATE deployment SET epoch = $1 WHERE id = 1", &params![vec![7_u8; 16]]).await?;
        Ok(())
    });
    written.await.unwrap();
    world.stop_server().await;
    world.start_server().await;
    bob.next(EventKind::EpochChanged).await;
    ann.say("bob", "after").await;
    app.ends_with(&["7", "8", "after"]).await;
    app.agrees(&bob, "ann").await;
    soon(app.timeline.load_older(20)).await.unwrap();
    app.shows(&["1", "2", "3", "4", "5", "6", "7", "8", "after"]).await;
    world.end().await;
}

#[tokio::test]
async fn a_fresh_device_loads_what_it_shows() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=30 {
        bob.say("ann", &number.to_string()).await;
    }
    ann.receives("30").await;
    let fresh = world.client();
    soon(fresh.login("ann", world.with_token("ann"))).await.unwrap();
    let mut app = App::of(&fresh, "bob").await;
    app.ends_with(&["26", "27", "28", "29", "30"]).await;
    app.agrees(&fresh, "bob").await;
    let shown = app.messages.len();
    let found = soon(app.timeline.load_older(7)).await.unwrap();
    app.until("older messages", |_, messages| messages.len() == shown + found).await;
    app.agrees(&fresh, "bob").await;
    world.end().await;
}

#[tokio::test]
async fn an_offline_login_shows_what_is_stored() {
    let mut world = World::new().await;
    let dir = DataDir::default();
    let (ann, bob) = (world.user_at(dir.clone(), "ann").await, world.user("bob").await);
    bob.say("ann", "stored").await;
    ann.receives("stored").await;
    ann.quit().await;
    let login = world.with_token("ann");
    let ann = world.client_at(dir, |config| config);
    world.stop_server().await;
    soon(ann.login("ann", LoginConfig { is_offline_login: true, ..login })).await.unwrap();
    let mut app = App::of(&ann, "bob").await;
    assert_eq!(texts(&app.messages), ["stored"]);
    assert_eq!(app.listed.len(), 1);
    world.start_server().await;
    bob.say("ann", "hi again").await;
    app.shows(&["stored", "hi again"]).await;
    app.agrees(&ann, "bob").await;
    world.end().await;
}

#[tokio::test]
async fn lists_end_with_the_login_and_with_the_client() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut app = App::of(&ann, "bob").await;
    soon(ann.logout()).await;
    while soon(app.list.next()).await.is_some() {}
    while soon(app.timeline.next()).await.is_some() {}
    assert!(soon(ann.observe_conversations(1)).await.is_err());
    let ann = world.login(ann, "ann").await;
    let mut app = App::of(&ann, "bob").await;
    ann.destroy();
    while soon(app.list.next()).await.is_some() {}
    while soon(app.timeline.next()).await.is_some() {}
    world.end().await;
}
