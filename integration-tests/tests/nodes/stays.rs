//! Members who leave a group on one node while another one does not hear of it.

use rusqlite::{Connection, OpenFlags};
use zim_integration_tests::nats::Nats;
use zim_integration_tests::{Device, eventually, group, is_text, soon};
use zim_protocol::{GroupAdvancedConfig, GroupInfo};
use zim_server::Server;
use zim_server::config::Config;

use super::stop::Relay;
use super::{Deployment, quiet, user};

/// The positions of a group on a device of bob that was closed: up to where messages are raised, and known of.
fn positions(device: &Device, app_id: u32) -> (i64, i64) {
    let file = device.dir().path().join(format!("{app_id}-{}.db", zim_protocol::id::hex(b"bob")));
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT seq, head_seq FROM conversation WHERE type = 2 AND name = 'club'";
    database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[tokio::test]
async fn nothing_is_pushed_to_somebody_who_has_left_on_a_node_that_is_not_heard() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("stays", &bus);
    let relay = Relay::to_bus(bus.url()).await;
    let config = Config { bus: relay.url.parse().unwrap(), ..quiet(deployment.config(0)) };
    let first = Server::start(config).await.unwrap();
    let second = Server::start(quiet(deployment.config(1))).await.unwrap();
    let (ann, cai) = (user(&first, "ann").await, user(&first, "cai").await);
    let (phone, tablet) = (user(&first, "bob").await, user(&second, "bob").await);
    let info = GroupInfo { group_id: "club".into(), ..GroupInfo::default() };
    soon(ann.create_group(info, ["bob", "cai"], GroupAdvancedConfig::default())).await.unwrap();
    ann.say(group("club"), "before").await;
    for device in [&phone, &tablet, &cai] {
        device.receives("before").await;
    }

    relay.silence();
    soon(tablet.leave_group("club")).await.unwrap();
    ann.say(group("club"), "after").await;
    // The other member gets it by asking for it.
    cai.receives("after").await;
    // What is pushed to the phone after the message. The second one comes after everything that was handed over with the first.
    for text in ["one", "two"] {
        ann.say("bob", text).await;
        phone.receives(text).await;
    }
    let is_told = |device: &Device| device.received_from("club").iter().any(|(message, _)| is_text(message, "after"));
    assert!(is_told(&cai) && !is_told(&phone) && !is_told(&tablet));
    eventually("the phone knows that its user has left", async || {
        phone.conversation(group("club")).await.is_disabled.then_some(())
    })
    .await;
    assert!(!phone.history(group("club")).await.iter().any(|message| is_text(message, "after")));
    phone.quit().await;
    assert!(!is_told(&phone));
    // It is not ahead of the server, which would let its positions start anew.
    let left = "SELECT m.to_seq FROM member m JOIN account a ON a.id = m.account JOIN conversation c ON c.id = m.conversation \
                WHERE a.name = 'bob' AND c.name = 'club'";
    let left: i64 = deployment.sql(left).parse().unwrap();
    assert_eq!(positions(&phone, first.first_app().app_id), (left, left));
    for device in [ann, cai, tablet] {
        device.quit().await;
    }
    first.stop().await;
    second.stop().await;
}
