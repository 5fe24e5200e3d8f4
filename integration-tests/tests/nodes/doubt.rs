//! Commits whose answers are lost: they are carried out, and the node that wanted them does not know what they did.

use tonic::transport::Endpoint;
use zim_integration_tests::nats::Nats;
use zim_integration_tests::{OperatorKey, eventually, group, soon};
use zim_protocol::admin::AdminClient;
use zim_protocol::{ConversationType, GroupAdvancedConfig, GroupInfo, Message, UpdateAppRequest};
use zim_server::Server;
use zim_server::config::{AdminListen, Config};

use super::stop::Relay;
use super::{Deployment, quiet, user};

/// Commits that store a message, a member or an app wait as long as there is a row in `gate`.
const GATE: [&str; 5] = [
    "CREATE TABLE gate (id BIGINT)",
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
     'BEGIN WHILE EXISTS (SELECT 1 FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NULL; END'",
    "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON message DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
     EXECUTE FUNCTION wait()",
    "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON group_member DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
     EXECUTE FUNCTION wait()",
    "CREATE CONSTRAINT TRIGGER waits AFTER INSERT OR UPDATE ON app DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
     EXECUTE FUNCTION wait()",
];

/// Starts two nodes. The answers of the database to the first one can be lost.
pub(super) async fn two_nodes(deployment: &Deployment, admin: AdminListen) -> (Relay, Server, Server) {
    let relay = Relay::to(&deployment.url).await;
    let config = Config { database: relay.url.parse().unwrap(), admin, ..quiet(deployment.config(0)) };
    let first = Server::start(config).await.unwrap();
    let second = Server::start(quiet(deployment.config(1))).await.unwrap();
    (relay, first, second)
}

/// Waits until a connection to the database waits for this.
async fn waits(deployment: &Deployment, what: &str, event: &str) {
    let waiting = format!("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND {event}");
    eventually(what, async || (deployment.sql(&waiting) != "0").then_some(())).await;
}

/// Waits until a node waits for the decision about a commit.
pub(super) async fn decision_is_awaited(deployment: &Deployment) {
    waits(deployment, "a node waits for the end of the commit", "wait_event_type = 'Lock'").await;
}

/// Does something whose commit is carried out, but the answer to it is lost.
async fn without_answer<T>(deployment: &Deployment, relay: &Relay, act: impl AsyncFnOnce() -> T) -> T {
    deployment.sql("INSERT INTO gate VALUES (1)");
    let lose = async {
        waits(deployment, "the commit waits", "wait_event = 'PgSleep'").await;
        relay.cut();
        decision_is_awaited(deployment).await;
        deployment.sql("DELETE FROM gate");
    };
    soon(async { tokio::join!(act(), lose) }).await.0
}

#[tokio::test]
async fn those_whom_a_commit_concerns_learn_of_it_although_its_answer_is_lost() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("lost", &bus);
    let (relay, first, second) = two_nodes(&deployment, AdminListen::Off).await;
    let (ann, bob, dan) = (user(&first, "ann").await, user(&first, "bob").await, user(&first, "dan").await);
    let (cai, eve) = (user(&second, "cai").await, user(&second, "eve").await);
    let info = GroupInfo { group_id: "crew".into(), ..GroupInfo::default() };
    soon(ann.create_group(info, ["bob", "cai"], GroupAdvancedConfig::default())).await.unwrap();
    ann.say(group("crew"), "hi").await;
    ann.say("eve", "hi, eve").await;
    for device in [&bob, &cai] {
        device.receives("hi").await;
    }
    eve.receives("hi, eve").await;
    for statement in GATE {
        deployment.sql(statement);
    }

    // The client sends the message again, and the server finds it stored. Nobody writes after it.
    drop(without_answer(&deployment, &relay, async || ann.send_to(group("crew"), Message::text("to all")).await).await);
    for device in [&bob, &cai] {
        device.receives("to all").await;
    }
    drop(without_answer(&deployment, &relay, async || ann.send("eve", Message::text("to eve")).await).await);
    eve.receives("to eve").await;

    // Whoever comes in learns it, and gets what is said from then on.
    drop(without_answer(&deployment, &relay, async || ann.invite_users_into_group(["dan", "eve"], "crew").await).await);
    for device in [&dan, &eve] {
        eventually("the group", async || {
            device.query_conversation("crew", ConversationType::Group).await.ok()?.conversation
        })
        .await;
    }
    bob.say(group("crew"), "welcome").await;
    for device in [&dan, &eve, &cai] {
        device.receives("welcome").await;
    }
    for device in [ann, bob, cai, dan, eve] {
        device.quit().await;
    }
    first.stop().await;
    second.stop().await;
}

/// The operator learns that the answer is lost. What was stored is in force, also at the node that was asked.
#[tokio::test]
async fn a_change_of_an_app_is_in_force_on_all_nodes_although_its_answer_is_lost() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("apps", &bus);
    let (relay, first, second) = two_nodes(&deployment, AdminListen::Local).await;
    let endpoint = Endpoint::from_shared(first.admin_addr().unwrap().to_string()).unwrap();
    let channel = soon(endpoint.connect()).await.unwrap();
    let key = std::fs::read_to_string(deployment.folder(0).join("admin.key")).unwrap();
    let mut operator = AdminClient::with_interceptor(channel, OperatorKey(key.trim().to_owned()));
    let app_id = first.first_app().app_id;
    for statement in GATE {
        deployment.sql(statement);
    }

    without_answer(&deployment, &relay, async || first.app().create_app(0, "another").await).await.unwrap_err();
    for server in [&first, &second] {
        eventually("the new app", async || (server.app().tenants.list().len() == 2).then_some(())).await;
    }

    let update = UpdateAppRequest { app_id, app_sign_login: Some(false), ..UpdateAppRequest::default() };
    without_answer(&deployment, &relay, async || operator.update_app(update).await).await.unwrap_err();
    for server in [&first, &second] {
        let accepts = || server.app().tenants.get(app_id).unwrap().access().app_sign_login;
        eventually("the app sign is refused", async || (!accepts()).then_some(())).await;
    }
    first.stop().await;
    second.stop().await;
}
