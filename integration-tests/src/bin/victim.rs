//! A server in a process of its own, for tests that kill it: `victim FOLDER DATABASE PORT` (an empty database is SQLite in
//! the folder, port 0 is any). Says where it listens on its first line.

#![expect(clippy::print_stdout, reason = "how the test learns the address")]

use std::env;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use zim_server::Server;
use zim_server::config::Config;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [folder, database, port] = words.as_slice() else { anyhow::bail!("victim FOLDER DATABASE PORT") };
    let mut config = Config::local(folder);
    config.database = database.parse()?;
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().context("PORT")?));
    config.limits.message_burst = 1_000_000;
    config.limits.request_burst = 1_000_000;
    let server = Server::start(config).await?;
    println!("{}", server.local_addr());
    // Until it is killed.
    std::future::pending().await
}
