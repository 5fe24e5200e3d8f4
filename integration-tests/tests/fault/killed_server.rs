//! The server's process is killed. What was acknowledged is there when it comes back, and no more and no less.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use zim_client_sdk::{Config as ClientConfig, Trust};
use zim_integration_tests::{Device, Home, TestDatabase, eventually, soon, texts};
use zim_protocol::{LoginConfig, Message};

/// A server in a process of its own.
struct Victim {
    process: Child,
    address: SocketAddr,
}

impl Victim {
    fn start(folder: &Path, database: &str, port: u16) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_victim"))
            .arg(folder)
            .arg(database)
            .arg(port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, address: line.trim().parse().expect("the address") }
    }

    /// Without a last word.
    fn kill(mut self) -> SocketAddr {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.address
    }
}

fn first_app(folder: &Path) -> (u32, String, Trust) {
    let text = std::fs::read_to_string(folder.join("server.json")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let app_id = u32::try_from(told["appID"].as_u64().unwrap()).unwrap();
    let trust = Trust::fingerprint(told["fingerprint"].as_str().unwrap()).unwrap();
    (app_id, told["appSign"].as_str().unwrap().to_owned(), trust)
}

async fn user(folder: &Path, address: SocketAddr, name: &str) -> Device {
    let (app_id, app_sign, trust) = first_app(folder);
    let config = ClientConfig::new(app_id, address.to_string()).app_sign(app_sign).trust(trust);
    let device = Device::make(config, Home::default());
    soon(device.login(name, LoginConfig::default())).await.unwrap();
    device.caught_up(0).await;
    device
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(dir.path());
    let folder = dir.path().join("data");
    let mut victim = Victim::start(&folder, database.url(), 0);
    let (ann, bob) = (user(&folder, victim.address, "ann").await, user(&folder, victim.address, "bob").await);
    let mut expected = Vec::new();
    for round in 0..3 {
        let texts: Vec<String> = (0..100).map(|number| format!("{round}.{number}")).collect();
        let calls: Vec<_> = texts.iter().map(|text| ann.send("bob", Message::text(text.as_str()))).collect();
        // In the middle of it: some are acknowledged, some are stored, some have not left.
        bob.hears(&format!("{round}.{}", 20 * round)).await;
        let address = victim.kill();
        victim = Victim::start(&folder, database.url(), address.port());
        for call in calls {
            // The SDK sends again what was not acknowledged.
            soon(call).await.unwrap();
        }
        bob.hears(&format!("{round}.99")).await;
        expected.extend(texts);
    }
    assert_eq!(texts(bob.heard_from("ann").iter().map(|(message, _)| message)), expected);
    let fresh = user(&folder, victim.address, "bob").await;
    eventually("all of it", async || (fresh.history("ann").await.len() >= expected.len()).then_some(())).await;
    assert_eq!(texts(&fresh.history("ann").await), expected);
    assert_eq!(texts(&ann.history("bob").await), expected);
    for device in [ann, bob, fresh] {
        device.quit().await;
    }
    victim.kill();
}
