//! Runs a command with `ZIM_TEST_POSTGRES` set: to the server that it names already, or to a private one that lives as long
//! as the command. Installs Debian's package where PostgreSQL is missing and may be installed.
//!
//! `cargo run --bin with-postgres -- cargo nextest run`

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use zim_integration_tests::postgres::Cluster;

/// Names a server that is there already; the tests look for it too.
const VARIABLE: &str = "ZIM_TEST_POSTGRES";

fn main() -> anyhow::Result<ExitCode> {
    let mut words = env::args_os().skip(1);
    let program = words.next().context("what shall be run? with-postgres COMMAND [ARGUMENT …]")?;
    let arguments: Vec<OsString> = words.collect();
    let cluster = Cluster::start().or_else(|missing| if install() { Cluster::start() } else { Err(missing) })?;
    let status = Command::new(&program)
        .args(arguments)
        .env(VARIABLE, cluster.url())
        .status()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    drop(cluster);
    // A signal has no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Installs PostgreSQL; false if that is not ours to do, or fails.
fn install() -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    let is_installed = Path::new("/usr/lib/postgresql").exists();
    if !is_root || is_installed || env::var_os(VARIABLE).is_some() {
        return false;
    }
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("-qq").args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command.status().is_ok_and(|status| status.success())
    };
    apt(&["update"]) && apt(&["install", "-y", "--no-install-recommends", "postgresql"])
}
