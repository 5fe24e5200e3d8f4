//! The bus fails and returns, and deployments that share it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zim_integration_tests::nats::Nats;
use zim_integration_tests::{eventually, soon};
use zim_protocol::clock::Clock;
use zim_protocol::{SessionEndReason, UserOnlineStatus};
use zim_server::Server;
use zim_server::bus::BusState;

use super::{Deployment, quiet, refused, status, user};

pub(super) async fn until(server: &Server, state: BusState) {
    eventually("the state of the bus", async || (server.app().bus().state() == state).then_some(())).await;
}

async fn ready(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.http_addr().unwrap()).await.unwrap();
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn without_its_bus_a_deployment_delivers_what_it_stores_a_little_later() {
    let mut bus = Nats::private(&[]).unwrap();
    let deployment = Deployment::new("outage", &bus);
    let (first, second) = (deployment.start(0).await, Server::start(quiet(deployment.config(1))));
    let second = second.await.unwrap();
    let (ann, bob) = (user(&first, "ann").await, user(&second, "bob").await);
    ann.say("bob", "one").await;
    bob.receives("one").await;
    assert!(ready(&first).await.ends_with("\r\n\r\nready\n"));
    bus.kill().unwrap();
    until(&first, BusState::Down).await;
    until(&second, BusState::Down).await;
    assert!(
        ready(&first).await.contains("200 OK") && ready(&first).await.ends_with("ready, degraded: the bus is down\n")
    );
    // Messages, changes, the feed and the end of a login arrive.
    let sent = ann.say("bob", "two").await;
    bob.receives("two").await;
    soon(ann.revoke_message(&sent, Default::default())).await.unwrap();
    let is_revoked = async || {
        let newest = bob.history("ann").await.pop()?;
        (!zim_integration_tests::is_text(&newest, "two")).then_some(())
    };
    eventually("the revocation", is_revoked).await;
    let tenant = first.app().tenants.get(first.first_app().app_id).unwrap();
    assert_eq!(soon(first.app().disconnect_user(&tenant, "bob")).await.unwrap(), 1);
    eventually("the end of the login", async || second.app().fanout.is_empty().then_some(())).await;
    bus.restart().unwrap();
    until(&first, BusState::Up).await;
    until(&second, BusState::Up).await;
    let bob = {
        bob.quit().await;
        user(&second, "bob").await
    };
    ann.say("bob", "three").await;
    bob.receives("three").await;
    assert_eq!(soon(status(&ann, "bob")).await, Some(UserOnlineStatus::Online));
    for device in [ann, bob] {
        device.quit().await;
    }
    assert_eq!((first.stop().await, second.stop().await), (0, 0));
}

/// The bus comes back with another password. A wrong one at the start is an error (`bad_input.rs`).
#[tokio::test]
async fn nodes_whose_password_the_bus_no_longer_accepts_go_on_without_it() {
    let right = ["--user", "zim", "--pass", "one"];
    let mut bus = Nats::private(&right).unwrap();
    let mut deployment = Deployment::new("password", &bus);
    deployment.bus = bus.url().replace("nats://", "nats://zim:one@");
    let (first, second) = (deployment.start(0).await, Server::start(quiet(deployment.config(1))).await.unwrap());
    let (ann, bob) = (user(&first, "ann").await, user(&second, "bob").await);
    ann.say("bob", "one").await;
    bob.receives("one").await;
    bus.kill().unwrap();
    bus.restart_with(&["--user", "zim", "--pass", "other"]).unwrap();
    until(&first, BusState::Down).await;
    until(&second, BusState::Down).await;
    let message = refused(quiet(deployment.config(2))).await;
    assert!(message.contains("NATS refuses the user"), "{message}");
    assert!(ready(&first).await.ends_with("ready, degraded: the bus is down\n"));
    ann.say("bob", "two").await;
    bob.receives("two").await;
    bus.kill().unwrap();
    bus.restart_with(&right).unwrap();
    until(&first, BusState::Up).await;
    until(&second, BusState::Up).await;
    assert!(ready(&first).await.ends_with("\r\n\r\nready\n"));
    ann.say("bob", "three").await;
    bob.receives("three").await;
    for device in [ann, bob] {
        device.quit().await;
    }
    assert_eq!((first.stop().await, second.stop().await), (0, 0));
}

#[tokio::test]
async fn an_app_that_is_created_or_changed_on_one_node_is_known_on_the_others() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("apps", &bus);
    let (first, second) = (deployment.start(0).await, Server::start(quiet(deployment.config(1))).await.unwrap());
    first.app().create_app(77, "shop").await.unwrap();
    eventually("the app", async || second.app().tenants.get(77).map(drop)).await;
    assert_eq!(second.app().tenants.get(77).unwrap().name(), "shop");
    // A ban on one node ends a login on the other.
    let bob = user(&second, "bob").await;
    let tenant = first.app().tenants.get(first.first_app().app_id).unwrap();
    assert_eq!(soon(first.app().ban_user(&tenant, "bob", 0)).await.unwrap(), 1);
    eventually("the end of the login", async || second.app().fanout.is_empty().then_some(())).await;
    bob.quit().await;
    assert_eq!((first.stop().await, second.stop().await), (0, 0));
}

/// The clock of this node is ten minutes ahead until it joins.
#[tokio::test]
async fn stored_times_follow_the_clock_of_the_database() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("clock", &bus);
    let (machine, wrong) = (Clock::system(), Clock::system().correctable());
    let minute = 60_000;
    wrong.correct(machine.now_ms() + 10 * minute);
    let server = Server::start_with(deployment.config(0), wrong.clone()).await.unwrap();
    let ann = user(&server, "ann").await;
    let bob = user(&server, "bob").await;
    // The database has the clock of this machine.
    let sent = ann.say("bob", "hi").await;
    assert!((sent.timestamp - machine.now_ms()).abs() < 5 * minute, "{} now {}", sent.timestamp, machine.now_ms());
    // It is corrected again and again.
    wrong.correct(machine.now_ms() - 10 * minute);
    let is_right = async || ((wrong.now_ms() - machine.now_ms()).abs() < minute).then_some(());
    eventually("the clock is corrected", is_right).await;
    for device in [ann, bob] {
        device.quit().await;
    }
    assert_eq!(server.stop().await, 0);
}

/// A copy of a database has the same secret, and an epoch of its own.
#[tokio::test]
async fn two_deployments_on_one_bus_do_not_hear_each_other() {
    let bus = Nats::start().unwrap();
    let (one, other) = (Deployment::new("one", &bus), Deployment::new("other", &bus));
    let (first, second) = (one.start(0).await, Server::start(quiet(one.config(1))).await.unwrap());
    let stranger = other.start(0).await;
    // Both have the same keys, so that a hint would be understood. The stranger has the number of the first node, and would take a hint of
    // that for its own.
    let ann = user(&stranger, "ann").await;
    let identity = stranger.app().fanout.all()[0].identity().cloned().unwrap();
    let end = zim_server::effect::Effect::LoginEnded {
        user: identity.user,
        login: identity.login,
        reason: SessionEndReason::EndedByOperator,
    };
    second.app().bus().publish(std::slice::from_ref(&end));
    second.app().create_app(78, "theirs").await.unwrap();
    eventually("the app", async || first.app().tenants.get(78).map(drop)).await;
    // NATS has passed that on. What a node of its own deployment tells the stranger from now on comes after it.
    let sibling = Server::start(quiet(other.config(1))).await.unwrap();
    sibling.app().create_app(79, "its own").await.unwrap();
    eventually("its own app", async || stranger.app().tenants.get(79).map(drop)).await;
    assert_eq!(stranger.app().fanout.len(), 1);
    ann.quit().await;
    for server in [first, second, stranger, sibling] {
        assert_eq!(server.stop().await, 0);
    }
}
