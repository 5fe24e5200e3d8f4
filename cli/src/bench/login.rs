//! `zim bench login`: logins a second, and their effect on the messages of other clients.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::apart::{self, Apart, PriorityArgs, Size};
use super::histogram::{Histogram, Latency};
use super::load::{Load, raw_load};
use super::meter::{Meter, SharedMeter};
use super::process::Cost;
use super::raw::SharedDialer;
use super::show::{latency_columns, latency_row, show_cost, show_errors, stage_row};
use super::target::Target;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, Table};
use crate::progress;

/// How long the live pairs are measured without logins.
const ALONE: Duration = Duration::from_secs(2);
/// How long the live pairs run before the measurement.
const WARM_UP: Duration = Duration::from_millis(500);
/// The pause of a live sender between messages.
const PAUSE: Duration = Duration::from_millis(10);

/// `zim bench login`
#[derive(Clone, Debug, Args)]
pub(crate) struct LoginArgs {
    /// Clients that log in repeatedly
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// Users of each client, in turn
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    users: u16,
    /// Duration of the measurement
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    time: Duration,
    /// Pairs of users that exchange messages meanwhile, up to 100 a second each
    #[arg(long, value_name = "N", default_value_t = 5)]
    live_pairs: usize,
    #[command(flatten)]
    priority: PriorityArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    clients: u16,
    seconds: f64,
    logins_per_second: u64,
    login: Latency,
    /// Latency of the messages of the live pairs, before the logins and during them.
    live_alone: Latency,
    live: Latency,
    errors: std::collections::BTreeMap<String, u64>,
    /// The priority of the threads of the clients that log in: 19 is the lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    clients_niceness: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

/// The shared state of the clients.
#[derive(Debug, Default)]
struct Logins {
    stopping: AtomicBool,
    done: AtomicU64,
}

pub(crate) async fn run(args: LoginArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let clients = Apart::new(target, Size { threads, sockets: 2 }, args.priority.priority())?;
    let (dialer, pairs) = (clients.dialer(), Apart::pairs(target)?);
    let load = |role| Load::calm(role, args.live_pairs, PAUSE);
    let (live_alone, ()) = live(&load("a"), target, &pairs, sleep(ALONE)).await?;
    let (logins, meter) = (Arc::<Logins>::default(), Meter::new());
    let before = target.sample();
    let storm = async {
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for client in 0..args.clients {
            let users = (0..args.users)
                .map(|user| target.user("l", usize::from(client) * usize::from(args.users) + usize::from(user)));
            let (dialer, logins, meter) = (Arc::clone(dialer), Arc::clone(&logins), Arc::clone(&meter));
            tasks.spawn_on(log_in_repeatedly(users.collect(), dialer, logins, meter), clients.handle());
        }
        progress::during(args.time, "logins", &logins.done).await;
        logins.stopping.store(true, Ordering::Relaxed);
        while tasks.join_next().await.is_some() {}
        began.elapsed()
    };
    let (live, elapsed) = live(&load("b"), target, &pairs, storm).await?;
    let done = logins.done.load(Ordering::Relaxed);
    let report = Report {
        bench: "login",
        clients: args.clients,
        seconds: (elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
        logins_per_second: done.saturating_mul(1_000) / u64::try_from(elapsed.as_millis()).unwrap_or(1).max(1),
        login: meter.latencies().0,
        live_alone,
        live,
        errors: meter.errors(),
        clients_niceness: clients.niceness().await,
        server: target.cost(before),
    };
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    output.line(format!("{} clients log in repeatedly, {:.0} s\n", report.clients, report.seconds))?;
    let mut table = Table::new(&latency_columns("", "A SECOND"));
    table.row(latency_row("login", report.logins_per_second, &report.login));
    for (what, latency) in [("message, without logins", &report.live_alone), ("message, with logins", &report.live)] {
        table.row(stage_row(what, latency));
    }
    output.table(&table)?;
    output.line("")?;
    show_errors(&report.errors, output)?;
    apart::show("the clients that log in", report.clients_niceness, output)?;
    show_cost(report.server, output)
}

/// Measures the latency of messages from sender to receiver while `meanwhile` runs. Nothing else is on the threads of the pairs.
pub(crate) async fn live<T>(
    load: &Load,
    target: &Target,
    pairs: &Apart,
    meanwhile: impl Future<Output = T>,
) -> Result<(Latency, T), Failure> {
    let meter = Meter::new();
    let running = pairs.within(raw_load(load, target, pairs.dialer(), &meter)).await?;
    // The first message of each pair creates its conversation.
    sleep(WARM_UP).await;
    meter.measure(true);
    let output = meanwhile.await;
    meter.measure(false);
    running.end(&meter).await;
    Ok((meter.latencies().1, output))
}

async fn log_in_repeatedly(users: Vec<String>, dialer: SharedDialer, logins: Arc<Logins>, meter: SharedMeter) {
    let mut mine = Histogram::default();
    for user in users.iter().cycle() {
        if logins.stopping.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        match dialer.log_in(user).await {
            Ok(raw) => {
                mine.record(began.elapsed());
                logins.done.fetch_add(1, Ordering::Relaxed);
                raw.close();
            }
            Err(failure) => {
                meter.fail(&failure);
                // Limits the rate of attempts while the server refuses all of them.
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
    meter.add(&mine, &Histogram::default());
}
