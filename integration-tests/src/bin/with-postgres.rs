//! Runs a command with `ZIM_TEST_POSTGRES` set: to the server that it names already, or to a private server that runs
//! as long as the command. `ZIM_TEST_TEMPLATE` names a database with the schema, which the tests copy. Installs Debian's package if
//! PostgreSQL is missing and this process is root. With `ZIM_TEST_NODES=2` it does the same for NATS and `ZIM_TEST_NATS`.
//!
//! `cargo run --bin with-postgres -- cargo nextest run`

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use zim_integration_tests::TEMPLATE;
use zim_integration_tests::nats::{self, Nats};
use zim_integration_tests::postgres::Cluster;
use zim_server::app::Db;
use zim_server::db::DbConfig;

/// The variable that names an existing server; the tests read it too.
const VARIABLE: &str = "ZIM_TEST_POSTGRES";

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().context("no command given: with-postgres COMMAND [ARGUMENT …]")?;
    let arguments: Vec<OsString> = arguments.collect();
    let has_postgres = Path::new("/usr/lib/postgresql").exists() || env::var_os(VARIABLE).is_some();
    let cluster = Cluster::start()
        .or_else(|missing| if !has_postgres && install("postgresql") { Cluster::start() } else { Err(missing) })?;
    let mut command = Command::new(&program);
    command.args(arguments).env(VARIABLE, cluster.url()).env(TEMPLATE, template(&cluster)?);
    let bus = match env::var("ZIM_TEST_NODES").unwrap_or_default().as_str() {
        "" | "1" => None,
        _ => Some(Nats::start().or_else(|missing| if install("nats-server") { Nats::start() } else { Err(missing) })?),
    };
    if let Some(bus) = &bus {
        command.env(nats::VARIABLE, bus.url());
    }
    let status = command.status().with_context(|| format!("{} cannot be run", program.display()))?;
    drop((cluster, bus));
    // A process that a signal ended has no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Creates a database with the schema and without rows; returns its name.
fn template(cluster: &Cluster) -> anyhow::Result<String> {
    let url = cluster.create_database(&format!("zim_template_{}", std::process::id()))?;
    let config = DbConfig::new(url.parse()?);
    tokio::runtime::Runtime::new()?.block_on(async {
        let db: Db = Db::open(config, |_| {}).await?;
        db.close().await;
        anyhow::Ok(())
    })?;
    let (_, name) = url.rsplit_once('/').context("the address of a database without its name")?;
    let name = name.split('?').next().unwrap_or(name);
    // Whoever is connected, such as PostgreSQL's own cleaning, holds up a copy.
    cluster.sql(&format!("ALTER DATABASE \"{name}\" WITH ALLOW_CONNECTIONS false"))?;
    Ok(name.to_owned())
}

/// Installs a package; false if this process is not root, or the installation fails.
fn install(package: &str) -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("-qq").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.status().is_ok_and(|status| status.success())
    };
    is_root && apt(&["update"]) && apt(&["install", "-y", "--no-install-recommends", package])
}
