//! Nodes that are killed, and nodes that are paused for longer than their lease.

use std::net::SocketAddr;

use quinn::ConnectionError;
use zim_client_sdk::Config as ClientConfig;
use zim_client_sdk::Event;
use zim_integration_tests::nats::Nats;
use zim_integration_tests::{
    Device, RawClient, ServerInstallation, ServerProcess, eventually, hello, share_identity, soon,
};
use zim_protocol::wire::CloseCode;
use zim_protocol::{ConnectionState, LoginRequest, Message, UserOnlineStatus};

use super::{Deployment, logged_in, status};

/// The lease of the nodes, milliseconds.
pub(super) const LEASE_MS: u32 = 2_000;

/// Two nodes as processes, the second beside the first.
pub(super) struct Pair {
    deployment: Deployment,
    installations: [ServerInstallation; 2],
    pub(super) first: ServerProcess,
    pub(super) second: ServerProcess,
}

impl Pair {
    pub(super) async fn start(name: &str, bus: &Nats) -> Self {
        Self::with_lease(name, bus, LEASE_MS).await
    }

    pub(super) async fn with_lease(name: &str, bus: &Nats, lease_ms: u32) -> Self {
        Self::with_rooms(name, bus, lease_ms, false).await
    }

    /// `keeps_rooms`: what is said in rooms is kept.
    pub(super) async fn with_rooms(name: &str, bus: &Nats, lease_ms: u32, keeps_rooms: bool) -> Self {
        let deployment = Deployment::new(name, bus);
        let installation = |node| {
            let program = env!("CARGO_BIN_EXE_test-server");
            let installation = ServerInstallation::new(program, deployment.folder(node), deployment.url.clone());
            ServerInstallation { node: Some((deployment.bus.clone(), lease_ms)), keeps_rooms, ..installation }
        };
        let mut installations = [installation(0), installation(1)];
        let first = installations[0].start().await.unwrap();
        share_identity(&deployment.folder(0), &deployment.folder(1));
        let second = installations[1].start().await.unwrap();
        Self { deployment, installations, first, second }
    }

    pub(super) async fn user(&self, node: &ServerProcess, name: &str) -> Device {
        self.user_at(node.address(), name).await
    }

    /// Logs a user in at an address of a node, or of a proxy.
    pub(super) async fn user_at(&self, address: SocketAddr, name: &str) -> Device {
        let app = self.installations[0].first_app().unwrap();
        let config = ClientConfig::new(app.app_id, address.to_string()).trust(app.trust()).app_sign(app.app_sign);
        logged_in(config, name).await
    }

    /// Logs a user in at a node without the SDK, which does not show why a connection ends.
    async fn raw_user(&self, node: &ServerProcess, name: &str) -> RawClient {
        let mut client = RawClient::connect(node.address(), self.installations[0].certificate().unwrap()).await;
        client.handshake(hello(1)).await;
        let (app, user_id) = (self.installations[0].first_app().unwrap(), name.to_owned());
        let login =
            LoginRequest { user_id, app_id: app.app_id, app_sign: app.app_sign.clone(), ..LoginRequest::default() };
        client.call(&login).await.unwrap();
        client
    }

    /// Sets the clock of the second node forward until something is true.
    pub(super) async fn advance_second<T>(&mut self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        for _ in 0..300 {
            if let Some(found) = look().await {
                return found;
            }
            self.second.run("jump 1000").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{what}")
    }

    async fn until_offline(&self, seen_by: &Device, user: &str) {
        let offline = Some(UserOnlineStatus::Offline);
        eventually("the user is offline", async || (status(seen_by, user).await == offline).then_some(())).await;
    }
}

#[tokio::test]
async fn the_logins_of_a_killed_node_end_and_its_tasks_are_taken_over() {
    let bus = Nats::start().unwrap();
    let mut pair = Pair::start("killed", &bus).await;
    let (ann, bob) = (pair.user(&pair.first, "ann").await, pair.user(&pair.second, "bob").await);
    ann.say("bob", "one").await;
    bob.receives("one").await;
    assert_eq!(soon(status(&bob, "ann")).await, Some(UserOnlineStatus::Online));
    pair.first.run("tasks 20 60000").await.unwrap();
    pair.first.signal("KILL").unwrap();
    pair.until_offline(&bob, "ann").await;
    assert_eq!(pair.deployment.sql("SELECT COUNT(*) FROM session WHERE connected = 1"), "1");
    // What the dead node has scheduled runs here, once.
    pair.second.run("tasks_due").await.unwrap();
    let done = "SELECT COUNT(*), COUNT(DISTINCT subject) FROM task_effect";
    eventually("the tasks", async || (pair.deployment.sql(done) == "20|20").then_some(())).await;
    // Nothing that was acknowledged is lost, and the user may come back anywhere.
    soon(bob.send("ann", Message::text("two"))).await.unwrap();
    let back = pair.user(&pair.second, "ann").await;
    eventually("both messages", async || (back.history("bob").await.len() == 2).then_some(())).await;
    for device in [ann, bob, back] {
        device.quit().await;
    }
}

#[tokio::test]
async fn a_node_that_was_paused_for_longer_than_its_lease_stores_nothing_and_ends_its_sessions() {
    let bus = Nats::start().unwrap();
    let mut pair = Pair::start("paused", &bus).await;
    let (ann, bob) = (pair.user(&pair.first, "ann").await, pair.user(&pair.second, "bob").await);
    let cai = pair.raw_user(&pair.first, "cai").await;
    ann.say("bob", "before").await;
    bob.receives("before").await;
    pair.first.signal("STOP").unwrap();
    pair.until_offline(&bob, "ann").await;
    // It waits in the buffers of the paused node.
    let late = ann.send("bob", Message::text("while it was paused"));
    pair.first.signal("CONT").unwrap();
    let error = pair.first.run("tasks 1 1").await.unwrap_err().to_string();
    assert!(error.contains("database"), "{error}");
    let is_over = |event: &Event| matches!(event, Event::ConnectionStateChanged(changed) if changed.state() == ConnectionState::Reconnecting);
    ann.until("the session ends", |seen| seen.iter().any(is_over).then_some(())).await;
    assert_eq!(cai.closed().await, CloseCode::GoingAway);
    match cai.connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(closed)) => {
            assert_eq!(closed.reason, "this server has lost its database");
        }
        other => panic!("{other:?}"),
    }
    drop(late);
    assert_eq!(pair.deployment.sql("SELECT COUNT(*) FROM message"), "1");
    assert_eq!(pair.deployment.sql("SELECT COUNT(*) FROM pg_tables WHERE tablename = 'task_wanted'"), "0");
    // The other one serves.
    bob.say("ann", "after").await;
    cai.end().await;
    for device in [ann, bob] {
        device.quit().await;
    }
}
