//! Wrong settings, and a bus that is none: a clear message at the start.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use zim_integration_tests::eventually;
use zim_integration_tests::nats::Nats;
use zim_protocol::SessionEndReason;
use zim_server::Server;
use zim_server::config::{BusUrl, Config};
use zim_server::effect::Effect;

use super::{Deployment, quiet, refused, user};

fn with_bus(config: Config, bus: &str) -> Config {
    Config { bus: bus.parse::<BusUrl>().unwrap(), ..config }
}

#[tokio::test]
async fn a_bus_that_cannot_be_used_is_named_at_the_start() {
    let bus = Nats::private(&["--user", "zim", "--pass", "p@ss"]).unwrap();
    let deployment = Deployment::new("refused", &bus);
    let host = bus.url().strip_prefix("nats://").unwrap();
    for (address, problem) in [
        (format!("nats://{host}"), "NATS refuses the user, the password, the token or the credentials"),
        (format!("nats://zim:wrong@{host}"), "NATS refuses the user"),
        (format!("nats://token@{host}"), "NATS refuses the user"),
        (format!("nats://zim:p%40ss@{host}?credentials=/nowhere"), "credentials is /nowhere: "),
        (format!("tls://zim:p%40ss@{host}"), "there is no server of NATS"),
        ("nats://127.0.0.1:1".to_owned(), "there is no server of NATS"),
    ] {
        let message = refused(with_bus(deployment.config(0), &address)).await;
        assert!(message.contains(problem) && message.contains(" cannot be used: "), "{address}: {message}");
        assert!(!message.contains("wrong") && !message.contains("p%40ss"), "{message}");
    }
    let server = Server::start(with_bus(deployment.config(0), &format!("nats://zim:p%40ss@{host}"))).await.unwrap();
    assert_eq!(server.stop().await, 0);
    // The attempts hold no node number.
    assert_eq!(deployment.sql("SELECT COUNT(*) FROM server_node WHERE lease_until > 0"), "0");
}

#[tokio::test]
async fn the_certificate_of_the_bus_must_be_trusted() {
    // Any certificate will do: that of a server.
    let plain = Nats::start().unwrap();
    let deployment = Deployment::new("tls", &plain);
    assert_eq!(deployment.start(0).await.stop().await, 0);
    let file = |name: &str| deployment.folder(0).join(name).display().to_string();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let bus = Nats::private(&["--tls", "--tlscert", &cert, "--tlskey", &key]).unwrap();
    let address = bus.url().replace("nats://", "tls://");
    let message = refused(with_bus(deployment.config(0), &address)).await;
    assert!(message.contains("certificate"), "{message}");
    let server = Server::start(with_bus(deployment.config(0), &format!("{address}?ca={cert}"))).await.unwrap();
    assert_eq!(server.stop().await, 0);
}

#[tokio::test]
async fn a_service_that_does_not_speak_nats_is_no_bus() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("http", &bus);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let web = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    let message = refused(with_bus(deployment.config(0), &format!("nats://{address}"))).await;
    assert!(message.contains("there is no server of NATS") || message.contains("no answer"), "{message}");
    web.abort();
    // One that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let message = refused(with_bus(deployment.config(0), &format!("nats://{address}"))).await;
    assert!(message.contains("there is no answer as of a server of NATS"), "{message}");
}

/// The credentials are those of a user who has the rights that `docs/operations/cluster.md` names, and no others.
#[tokio::test]
async fn a_token_and_credentials_open_the_bus() {
    let file = |name: &str| format!("{}/tests/nodes/nats/{name}", env!("CARGO_MANIFEST_DIR"));
    let token = Nats::private(&["--auth", "s3cr3t"]).unwrap();
    let with_users = Nats::private(&["-c", &file("nats.conf")]).unwrap();
    let deployment = Deployment::new("opened", &token);
    let host = token.url().strip_prefix("nats://").unwrap();
    for (wrong, right) in [
        // One of the servers of a cluster is gone.
        (format!("nats://other@{host}"), format!("nats://s3cr3t@127.0.0.1:1,nats://{host}")),
        (with_users.url().to_owned(), format!("{}?credentials={}", with_users.url(), file("node.creds"))),
    ] {
        let message = refused(with_bus(deployment.config(0), &wrong)).await;
        assert!(message.contains("NATS refuses the user, the password, the token or the credentials"), "{message}");
        let first = Server::start(with_bus(deployment.config(0), &right)).await.unwrap();
        let second = Server::start(with_bus(quiet(deployment.config(1)), &right)).await.unwrap();
        // A hint without a commit: only the bus carries it.
        let bob = user(&second, "bob").await;
        let identity = second.app().fanout.all()[0].identity().cloned().unwrap();
        let reason = SessionEndReason::EndedByOperator;
        first.app().bus().publish(&[Effect::LoginEnded { user: identity.user, login: identity.login, reason }]);
        eventually("the end of the login", async || second.app().fanout.is_empty().then_some(())).await;
        bob.quit().await;
        assert_eq!((first.stop().await, second.stop().await), (0, 0));
    }
}

#[tokio::test]
async fn a_server_without_the_bus_is_refused_while_nodes_run_and_the_other_way_round() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("mixed", &bus);
    let node = deployment.start(0).await;
    let alone = with_bus(deployment.config(1), "");
    let message = refused(alone.clone()).await;
    assert!(message.contains("another server uses this PostgreSQL database"), "{message}");
    assert!(message.contains("give both the same --bus"), "{message}");
    assert_eq!(node.stop().await, 0);
    let alone = Server::start(alone).await.unwrap();
    let message = refused(quiet(deployment.config(0))).await;
    assert!(message.contains("it has no --bus: stop it, and give both the same --bus"), "{message}");
    assert_eq!(alone.stop().await, 0);
}

#[tokio::test]
async fn an_sqlite_file_has_no_bus() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let message = refused(with_bus(Config::local(&data), "nats://127.0.0.1:4222")).await;
    assert!(message.contains("bus is set, but database is not PostgreSQL"), "{message}");
    // The start has left nothing behind.
    assert!(!data.exists());
}

/// A newer server has migrated the database: those that run go on, and no other of their version starts.
#[tokio::test]
async fn a_node_whose_version_is_older_than_the_schema_does_not_start_and_the_others_go_on() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("newer", &bus);
    let first = deployment.start(0).await;
    let (ann, bob) = (user(&first, "ann").await, user(&first, "bob").await);
    deployment.sql("INSERT INTO schema_migration (version, name, checksum) VALUES (9999, '9999_newer', 'x')");
    let message = refused(quiet(deployment.config(1))).await;
    assert!(message.contains("the database is newer than this server"), "{message}");
    assert!(message.contains("9999_newer") && message.contains("start the newer server"), "{message}");
    ann.say("bob", "still here").await;
    bob.receives("still here").await;
    // The refused one holds no number.
    let held = "SELECT COUNT(*) FROM server_node WHERE lease_until > 0";
    eventually("its number is free", async || (deployment.sql(held) == "1").then_some(())).await;
    for device in [ann, bob] {
        device.quit().await;
    }
    assert_eq!(first.stop().await, 0);
}
