//! A deployment moves from SQLite to PostgreSQL.

use zim_client_sdk::Config as ClientConfig;
use zim_integration_tests::postgres::Cluster;
use zim_integration_tests::{ServerInstallation, eventually, room, soon, texts};
use zim_protocol::Message;

use super::logged_in;

#[tokio::test]
async fn clients_continue_after_their_server_has_moved_to_postgresql() {
    let (dir, cluster) = (tempfile::tempdir().unwrap(), Cluster::start().unwrap());
    let url = cluster.create_database(&format!("moved_{}", std::process::id())).unwrap();
    let mut installation = ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), dir.path().join("data"), "");
    installation.keeps_rooms = true;
    let server = installation.start().await.unwrap();
    let app = installation.first_app().unwrap();
    let config = || {
        ClientConfig::new(app.app_id, server.address().to_string()).trust(app.trust()).app_sign(app.app_sign.clone())
    };
    let (ann, bob) = (logged_in(config(), "ann").await, logged_in(config(), "bob").await);
    ann.say("bob", "one").await;
    bob.say("ann", "two").await;
    ann.receives("two").await;
    for device in [&ann, &bob] {
        soon(device.room("stage").enter("")).await.unwrap();
    }
    ann.say(room("stage"), "kept").await;
    assert!(installation.migrate(&url).is_err(), "a server runs on the data folder");
    assert_eq!(server.stop().await.unwrap(), 0);
    assert!(installation.migrate(&url).unwrap().contains("rows are copied and compared"));
    installation.database = url;
    let server = installation.start().await.unwrap();
    ann.say("bob", "three").await;
    bob.receives("three").await;
    let expected = ["one", "two", "three"];
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        let has_all = async || (texts(&device.history(peer).await) == expected).then_some(());
        eventually("all messages, each once", has_all).await;
    }
    // They are in the room as before, and what was said in it goes on.
    eventually("the room", async || soon(ann.send_to(room("stage"), Message::text("and on"))).await.ok()).await;
    bob.receives("and on").await;
    assert_eq!(texts(&bob.history(room("stage")).await), ["kept", "and on"]);
    for device in [ann, bob] {
        device.quit().await;
    }
    server.kill();
}
