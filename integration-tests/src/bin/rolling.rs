//! A rolling upgrade with two versions side by side: `just rolling-upgrade OLD`. It takes the two servers as programs.
//!
//! `rolling serve` is the server itself, as `zim-server` is; a test uses it, because it cannot count on the other program.

#![expect(clippy::print_stdout, reason = "prints what happened")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use zim_integration_tests::day::{ServerProgram, serve};
use zim_integration_tests::rolling::{self, Settings};

/// Replaces two nodes of one version by another, one after the other, and checks that nothing is lost
#[derive(Debug, Parser)]
struct Args {
    /// The server of the version before
    #[arg(long, value_name = "FILE")]
    old: PathBuf,
    /// The server of the version after [default: zim-server in the folder of this program]
    #[arg(long, value_name = "FILE")]
    new: Option<PathBuf>,
    /// Seconds for which users write to each other before, between and after the two restarts
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Folder for the data and the logs of the nodes, which stay [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    if let Some(ended) = serve() {
        return Ok(ended);
    }
    let args = Args::parse();
    let temporary = tempfile::tempdir()?;
    let folder = std::path::absolute(args.folder.clone().unwrap_or_else(|| temporary.path().to_owned()))?;
    ensure!(!folder.join("node-0").exists(), "{} has the data of an earlier upgrade", folder.display());
    let settings = Settings {
        old: ServerProgram::at(Some(&args.old))?,
        new: ServerProgram::at(args.new.as_deref())?,
        stage: Duration::try_from_secs_f64(args.seconds)?,
        folder,
        planted: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let upgrade = runtime.block_on(Box::pin(rolling::run(settings)))?;
    let (before, after) = upgrade.schemas;
    println!("migrations: {before} of the old version, {after} of the new one");
    println!("messages: {} sent, {} acknowledged", upgrade.sent, upgrade.acknowledged);
    for (why, count) in &upgrade.refusals {
        println!("not acknowledged: {count} ({why})");
    }
    for error in &upgrade.errors {
        println!("in a log: {error}");
    }
    for violation in &upgrade.violations {
        println!("VIOLATION {violation}");
    }
    println!("{}", if upgrade.violations.is_empty() { "passed" } else { "FAILED" });
    Ok(if upgrade.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
