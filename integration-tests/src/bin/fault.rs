//! A campaign against a real server: `just fault --runs 100`. A run with violations keeps its folder, with the record
//! of every call, answer and event, and prints the command that repeats it.

#![expect(clippy::print_stdout, reason = "prints a table")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use parking_lot::Mutex;
use zim_integration_tests::campaign::{
    self, Database, Outcome, Plan, Programs, Report, Settings, SharedCluster, TIMEOUT,
};
use zim_integration_tests::postgres::Cluster;

/// Runs clients and a server, injects faults, and checks that nothing is lost
#[derive(Debug, Parser)]
struct Args {
    /// Number of runs, each with its own seed
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// First seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// A single seed; prints its plan
    #[arg(long)]
    seed: Option<u64>,
    /// Database of the server [default: sqlite]
    #[arg(long, value_enum)]
    database: Option<Which>,
    /// Number of servers: 1, or 2 that share a PostgreSQL database and a NATS server
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: u8,
    /// Long runs: 20 users with 30 devices and three groups send 10,000 messages each
    #[arg(long, conflicts_with = "nodes")]
    long: bool,
    /// Number of concurrent runs
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Seconds of a run with a bot, which answers while it and the server are killed; 0 leaves it out, as --seed and --long do
    #[arg(long, default_value_t = 300)]
    bot_seconds: u64,
    /// Folder for the runs with violations
    #[arg(long, default_value = "target/fault")]
    folder: PathBuf,
    /// File for the report, as Markdown
    #[arg(long)]
    page: Option<PathBuf>,
}

/// The messages of a long run.
const LONG: usize = 10_000;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Sqlite,
    Postgres,
    /// Every fifth seed on PostgreSQL
    Both,
}

impl Args {
    fn plan(&self, seed: u64) -> Plan {
        match self.nodes {
            1 if self.long => Plan::long(seed, self.database.unwrap_or(Which::Sqlite).of(seed), LONG),
            1 => Plan::new(seed, self.database.unwrap_or(Which::Sqlite).of(seed)),
            _ => Plan::on_nodes(seed),
        }
    }

    /// Returns the options that repeat a seed.
    fn repeat(&self, seed: u64) -> String {
        match self.nodes {
            1 => {
                let long = if self.long { "--long " } else { "" };
                format!("just fault {long}--seed {seed} --database {:?}", self.plan(seed).database).to_lowercase()
            }
            nodes => format!("just fault --seed {seed} --nodes {nodes}"),
        }
    }
}

impl Which {
    const fn of(self, seed: u64) -> Database {
        match self {
            Self::Postgres => Database::Postgres,
            Self::Both if seed.is_multiple_of(5) => Database::Postgres,
            Self::Sqlite | Self::Both => Database::Sqlite,
        }
    }
}

/// What the workers share.
struct Campaign {
    args: Args,
    settings: Settings,
    next: AtomicU64,
    end: u64,
    begun: Instant,
    report: Mutex<Report>,
}

impl Campaign {
    /// Adds a run to the report. The page is written after each run, so that an interrupted campaign has one.
    fn report(&self, add: impl FnOnce(&mut Report)) -> anyhow::Result<()> {
        let mut report = self.report.lock();
        add(&mut report);
        report.took(self.begun.elapsed());
        self.args.page.as_ref().map_or(Ok(()), |page| Ok(std::fs::write(page, report.text())?))
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    anyhow::ensure!(
        args.nodes == 1 || matches!(args.database, None | Some(Which::Postgres)),
        "two nodes share a PostgreSQL database: leave --database out"
    );
    let own = std::env::current_exe()?;
    let beside = own.parent().context("no folder")?;
    let programs = Programs { server: beside.join("test-server"), client: beside.join("test-client") };
    for program in [&programs.server, &programs.client] {
        anyhow::ensure!(program.exists(), "{} is not built", program.display());
    }
    let is_answering = args.seed.is_some() || args.long || args.bot_seconds == 0 || answers(&args, &programs, beside)?;
    let (first, runs) = args.seed.map_or((args.first, args.runs), |seed| (seed, 1));
    let campaign = Campaign {
        args,
        settings: Settings { programs, planted: None, limit: TIMEOUT },
        next: AtomicU64::new(first),
        end: first + runs,
        begun: Instant::now(),
        report: Mutex::default(),
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..campaign.args.jobs.max(1)).map(|_| scope.spawn(|| work(&campaign))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    let report = campaign.report.into_inner();
    println!("\n{}", report.text());
    Ok(if report.is_clean() && is_answering { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lets users write to a bot for a while. Returns whether each message has exactly one answer.
fn answers(args: &Args, programs: &Programs, beside: &Path) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = std::path::absolute(&args.folder)?.join("bot");
    // The folder of an earlier campaign.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let (begun, length) = (Instant::now(), Duration::from_secs(args.bot_seconds));
    let bot = beside.join("test-bot");
    let goes_on = |_| begun.elapsed() < length;
    match runtime.block_on(campaign::run_bot((&programs.server, &bot), (&folder, ""), args.first, goes_on)) {
        Ok(tally) => {
            std::fs::remove_dir_all(&folder)?;
            println!(
                "bot: passed, {} messages with one answer each; the bot was killed {} times and the server {} times",
                tally.messages, tally.bot_kills, tally.server_kills
            );
            Ok(true)
        }
        Err(error) => {
            println!("bot: FAILED, see {}: {error:#}", folder.display());
            Ok(false)
        }
    }
}

/// Executes runs until none are left.
fn work(campaign: &Campaign) -> anyhow::Result<()> {
    let args = &campaign.args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut cluster: Option<SharedCluster> = None;
    loop {
        let seed = campaign.next.fetch_add(1, Ordering::Relaxed);
        if seed >= campaign.end {
            return Ok(());
        }
        let plan = args.plan(seed);
        if plan.database == Database::Postgres && cluster.is_none() {
            cluster = Some(Arc::new(Mutex::new(Cluster::private()?)));
        }
        // A long one has thousands of steps. The record of a failed run has them.
        if args.seed.is_some() && !args.long {
            println!("{plan}");
        }
        let begun = Instant::now();
        // What the harness waits for in vain ends this run and no other.
        let run = || runtime.block_on(one(plan, &campaign.settings, &args.folder, cluster.as_ref()));
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
        print_outcome(args, seed, &outcome, begun);
        match &outcome {
            Ok(outcome) => campaign.report(|report| report.add(outcome))?,
            Err(error) => {
                campaign.report(|report| report.add_failure(seed, error))?;
                // It may be broken.
                cluster = None;
            }
        }
    }
}

async fn one(
    plan: Plan,
    settings: &Settings,
    folder: &Path,
    cluster: Option<&SharedCluster>,
) -> anyhow::Result<Outcome> {
    let folder = std::path::absolute(folder)?.join(format!("seed-{}", plan.seed));
    // The folder of an earlier campaign.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let outcome = campaign::run(plan, settings, &folder, cluster).await?;
    if outcome.violations.is_empty() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(outcome)
}

fn print_outcome(args: &Args, seed: u64, outcome: &anyhow::Result<Outcome>, begun: Instant) {
    let took = begun.elapsed().as_millis();
    let again = args.repeat(seed);
    match outcome {
        Ok(outcome) if outcome.violations.is_empty() => {
            let tally = &outcome.tally;
            println!(
                "seed {seed}: passed, {} of {} requests acknowledged in {took} ms",
                tally.acknowledged, tally.calls
            );
            if args.long {
                println!(
                    "    {} s of faults, {} s of checks; at most {} MB in a server and {} MB in a client",
                    tally.played.as_secs(),
                    tally.checked.as_secs(),
                    tally.server_bytes >> 20,
                    tally.client_bytes >> 20
                );
            }
        }
        Ok(outcome) => {
            println!("seed {seed}: FAILED ({took} ms), see {}; repeat with: {again}", args.folder.display());
            for violation in &outcome.violations {
                println!("    {}: {}", violation.name, violation.what);
            }
        }
        Err(error) => println!("seed {seed}: ABORTED ({took} ms): {error:#}; repeat with: {again}"),
    }
}
