//! A day of life against a release build of the server: `just day`, `just day 5 100 7` for five minutes, a hundred users and seed 7.
//!
//! `day serve` is the server itself, as `zim-server` is; a test uses it, because it cannot count on the other program.

#![expect(clippy::print_stdout, reason = "prints what happened")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use zim_integration_tests::day::{self, ServerProgram, Settings, serve};

/// Lets users live with a server for a while, and checks that nothing is lost
#[derive(Debug, Parser)]
struct Args {
    /// Minutes
    #[arg(default_value_t = 20.0)]
    minutes: f64,
    /// Users; two of five have a second device
    #[arg(default_value_t = 500)]
    users: usize,
    /// What the users do
    #[arg(default_value_t = 1)]
    seed: u64,
    /// Seconds that a user pauses between two actions, on average
    #[arg(long, default_value_t = 10.0)]
    pause: f64,
    /// Folder for the page day.md and its graphs, such as docs/operations
    #[arg(long, value_name = "FOLDER")]
    page: Option<PathBuf>,
    /// File for what is measured each minute, a line of JSON for each
    #[arg(long, value_name = "FILE", default_value = "target/day/minutes.jsonl")]
    json: PathBuf,
    /// The server [default: zim-server in the folder of this program]
    #[arg(long, value_name = "FILE")]
    server_bin: Option<PathBuf>,
    /// Folder for the data of the server and the devices, which stays [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    if let Some(ended) = serve() {
        return Ok(ended);
    }
    let args = Args::parse();
    ensure!(args.minutes > 0.0 && args.pause > 0.0, "the day and the pauses must be longer than 0");
    let server = ServerProgram::at(args.server_bin.as_deref())?;
    let temporary = tempfile::tempdir()?;
    let folder = args.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let folder = std::path::absolute(folder)?;
    ensure!(!folder.join("server").exists(), "{} has the data of an earlier day", folder.display());
    let length = Duration::try_from_secs_f64(args.minutes * 60.0)?;
    let settings = Settings {
        length,
        users: args.users,
        seed: args.seed,
        pause: Duration::try_from_secs_f64(args.pause)?,
        minute: Duration::from_secs(60).min(length / 10),
        server,
        folder,
        lines: Some(args.json.clone()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let day = runtime.block_on(Box::pin(day::run(settings)))?;
    if let Some(page) = &args.page {
        day::write_page(&day, page)?;
    }
    for (kind, done, raised) in day.totals() {
        println!("{done:>9} {kind}, {raised} events due to them");
    }
    println!("{:>9} kinds of errors that the restart explains", day.explained.len());
    for violation in &day.violations {
        println!("VIOLATION {violation}");
    }
    println!("{}", if day.violations.is_empty() { "passed" } else { "FAILED" });
    Ok(if day.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
