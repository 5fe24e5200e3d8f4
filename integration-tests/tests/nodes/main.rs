//! Several servers on one PostgreSQL database: what happens when one of them, or the bus between them, fails.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod balancer;
mod bus;
mod calls;
mod campaign;
mod doubt;
mod migrate;
mod processes;
mod rolling;
mod rooms;
mod stays;
mod stop;

use std::path::PathBuf;

use tempfile::TempDir;
use zim_client_sdk::{Config as ClientConfig, Trust};
use zim_integration_tests::nats::Nats;
use zim_integration_tests::postgres::Cluster;
use zim_integration_tests::{DataDir, Device, share_identity, soon};
use zim_protocol::{LoginConfig, UserOnlineStatus};
use zim_server::config::{AdminListen, Config, Listen};
use zim_server::{Server, StartError};

/// A database, a bus, and the data folders of the nodes.
struct Deployment {
    dir: TempDir,
    postgres: Cluster,
    url: String,
    bus: String,
}

impl Deployment {
    fn new(name: &str, bus: &Nats) -> Self {
        let postgres = Cluster::start().unwrap();
        let url = postgres.create_database(&format!("nodes_{name}_{}", std::process::id())).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), postgres, url, bus: bus.url().to_owned() }
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    /// Returns the settings of a node; the first one must have run before another starts.
    fn config(&self, node: usize) -> Config {
        let folder = self.folder(node);
        if node > 0 && !folder.exists() {
            share_identity(&self.folder(0), &folder);
        }
        let mut config = Config {
            database: self.url.parse().unwrap(),
            bus: self.bus.parse().unwrap(),
            admin: AdminListen::Off,
            node_lease_ms: 60_000,
            ..Config::local(folder)
        };
        config.media.store = self.folder(0).with_file_name("media").to_string_lossy().parse().unwrap();
        config
    }

    async fn start(&self, node: usize) -> Server {
        Server::start(self.config(node)).await.unwrap()
    }

    fn sql(&self, sql: &str) -> String {
        self.postgres.sql_in(&self.url, sql).unwrap()
    }
}

/// Logs a user in at a node.
async fn user(server: &Server, name: &str) -> Device {
    let app = server.first_app();
    let config = ClientConfig::new(app.app_id, server.local_addr().to_string())
        .trust(Trust::Fingerprint(server.fingerprint().0))
        .app_sign(app.app_sign.clone());
    logged_in(config, name).await
}

async fn logged_in(config: ClientConfig, name: &str) -> Device {
    let device = Device::with_config(config, DataDir::default());
    soon(device.login(name, LoginConfig::default())).await.unwrap();
    device.caught_up(0).await;
    device
}

/// Returns a user's status as another user sees it.
async fn status(device: &Device, of: &str) -> Option<UserOnlineStatus> {
    let found = device.query_users_status([of]).await.ok()?;
    found.user_status_list.first().map(zim_protocol::UserStatus::online_status)
}

async fn refused(config: Config) -> String {
    match Server::start(config).await {
        Ok(server) => {
            server.stop().await;
            panic!("the server has started")
        }
        Err(error) => StartError::to_string(&error),
    }
}

/// Without HTTP and the operator's service, as on a second node of one machine.
fn quiet(config: Config) -> Config {
    Config { http: Listen(None), ..config }
}
