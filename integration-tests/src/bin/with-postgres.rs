//! Runs a command with `ZIM_TEST_POSTGRES` set: to the server that it names already, or to a private server that runs
//! as long as the command. Installs Debian's package if PostgreSQL is missing and this process is root.
//!
//! `cargo run --bin with-postgres -- cargo nextest run`

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use zim_integration_tests::postgres::Cluster;

/// The variable that names an existing server; the tests read it too.
const VARIABLE: &str = "ZIM_TEST_POSTGRES";

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().context("no command given: with-postgres COMMAND [ARGUMENT …]")?;
    let arguments: Vec<OsString> = arguments.collect();
    let cluster = Cluster::start().or_else(|missing| if install() { Cluster::start() } else { Err(missing) })?;
    let status = Command::new(&program)
        .args(arguments)
        .env(VARIABLE, cluster.url())
        .status()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    drop(cluster);
    // A process that a signal ended has no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Installs PostgreSQL; false if this process is not root, a server exists, or the installation fails.
fn install() -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    let is_installed = Path::new("/usr/lib/postgresql").exists();
    if !is_root || is_installed || env::var_os(VARIABLE).is_some() {
        return false;
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("-qq").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.status().is_ok_and(|status| status.success())
    };
    apt(&["update"]) && apt(&["install", "-y", "--no-install-recommends", "postgresql"])
}
