//! `zim bench cluster`: messages between users on different nodes, compared with one server on the same PostgreSQL.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tempfile::TempDir;
use tokio::time::sleep;

use super::cluster_report::{Bus, Measured, Report, Round};
use super::load::{Load, nodes_load};
use super::meter::Meter;
use super::peer::window;
use super::process::Sample;
use super::queues::{metrics, sum};
use super::raw::Dialer;
use super::services::Services;
use super::target::{RAISED, Target, TargetArgs};
use crate::duration;
use crate::exit::Failure;
use crate::local_server::{Shared, copy_identity, private_folder};
use crate::output::Output;
use crate::progress;

/// The files of messages are not measured, and nodes need a common folder for them.
const NO_FILES: &str = "https=off";
/// The sockets of the clients, for each node of the larger deployment. With one server the clients have as many.
const SOCKETS: usize = 2;

/// `zim bench cluster`
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Nodes that are compared with one server
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = nodes)]
    nodes: usize,
    /// Pairs of users. With several nodes, those of a pair are on different ones
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = pairs)]
    pairs: usize,
    /// Messages in flight of each sender
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = window)]
    window: usize,
    /// Size of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    size: usize,
    /// Duration of each measurement; a number without a unit is seconds
    #[arg(long = "for", visible_alias = "seconds", value_name = "TIME", default_value = "10s", value_parser = time)]
    time: Duration,
    /// Duration of the load before each measurement
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration::parse)]
    warm_up: Duration,
    /// Rounds: each measures one server, then the nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The bus [default: a server of NATS that is started]; use the variable for a URL with a password, because other users of
    /// this machine can see arguments
    #[arg(long, env = "ZIM_BENCH_BUS", hide_env_values = true, value_name = "URL")]
    bus: Option<String>,
    /// In each round, also measure one message at a time on one server, and one node that is alone on the bus: the calculation in
    /// integration-tests needs it to predict the nodes from one server
    #[arg(long)]
    costs: bool,
}

fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes @ 2..=8) => Ok(nodes),
        _ => Err("2 to 8".to_owned()),
    }
}

fn pairs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(pairs @ 1..=100_000) => Ok(pairs),
        _ => Err("1 to 100000".to_owned()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).or_else(|wrong| text.parse().map(Duration::from_secs).map_err(|_| wrong))?;
    if time.is_zero() { Err("a measurement takes at least a second".to_owned()) } else { Ok(time) }
}

pub(crate) async fn run(args: &ClusterArgs, target: &TargetArgs, output: Output) -> Result<(), Failure> {
    if target.is_running() {
        return Err(Failure::usage("this benchmark starts the servers: omit --server and --server-data"));
    }
    let services = Services::start(target.database(), args.bus.as_deref(), output).await?;
    let bench = Bench { args, target, services, identity: private_folder()? };
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        output.note(format!("round {number} of {}", args.rounds));
        rounds.push(bench.round(number == 1).await?);
    }
    bench.services.stop().await?;
    let seconds = args.time.as_secs();
    let report = Report::of(args.nodes, [args.pairs, args.window, args.size], seconds, &rounds);
    if output.is_json() { output.json(&report) } else { report.show(output) }
}

struct Bench<'a> {
    args: &'a ClusterArgs,
    target: &'a TargetArgs,
    services: Services,
    /// What the first server made, and all have in common.
    identity: TempDir,
}

impl Bench<'_> {
    async fn round(&self, is_first: bool) -> Result<Round, Failure> {
        let full = Load { window: self.args.window, size: self.args.size, ..Load::full("p", self.args.pairs) };
        let lone = Load { window: 1, pairs: 1, role: "lone", ..full.clone() };
        let server = self.start((!is_first).then(|| self.identity.path()), None).await?;
        if is_first && let Some(folder) = server.folder() {
            copy_identity(folder, self.identity.path())?;
        }
        let servers = [server];
        let calm = match self.args.costs {
            true => Some(self.measure(&lone, &servers, false).await?),
            false => None,
        };
        let one = self.measure(&full, &servers, false).await?;
        close(servers).await?;
        let alone = match self.args.costs {
            true => Some(self.measure_nodes(&full, 1).await?),
            false => None,
        };
        let many = self.measure_nodes(&full, self.args.nodes).await?;
        Ok(Round { one, many, calm, alone })
    }

    async fn start(&self, identity: Option<&Path>, bus: Option<&str>) -> Result<Target, Failure> {
        let settings: Vec<&str> = RAISED.into_iter().chain([NO_FILES]).collect();
        let shared = Shared { database: Some(self.services.database()), bus, identity };
        Target::start(self.target, &settings, shared).await
    }

    /// Measures so many nodes, which are started for it.
    async fn measure_nodes(&self, load: &Load, count: usize) -> Result<Measured, Failure> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(self.start(Some(self.identity.path()), Some(self.services.bus())).await?);
        }
        let measured = self.measure(load, &nodes, true).await?;
        close(nodes).await?;
        Ok(measured)
    }

    async fn measure(&self, load: &Load, servers: &[Target], has_bus: bool) -> Result<Measured, Failure> {
        let sockets = SOCKETS * self.args.nodes / servers.len();
        let dialers: Vec<_> =
            servers.iter().map(|server| Dialer::new(server, sockets).map(Arc::new)).collect::<Result<_, _>>()?;
        let first = servers.first().ok_or_else(|| Failure::other("there is no server"))?;
        let meter = Meter::new();
        let running = nodes_load(load, first, &dialers, &meter).await?;
        sleep(self.args.warm_up).await;
        let before = Totals::read(servers, &self.services).await?;
        let began = Instant::now();
        meter.measure(true);
        progress::during(self.args.time, "messages", meter.acknowledged()).await;
        meter.measure(false);
        let elapsed = began.elapsed().as_secs_f64();
        let after = Totals::read(servers, &self.services).await?;
        running.end(&meter).await;
        let (acknowledged, delivered) = meter.counts();
        if acknowledged == 0 {
            let first = meter.errors().into_iter().next();
            let why = first.map_or_else(String::new, |(name, count)| format!(": {count} {name}"));
            return Err(Failure::other(format!("no message was acknowledged{why}")));
        }
        let [messages, delivered] = [acknowledged, delivered].map(|count| count as f64);
        let us = |before: Option<Duration>, after: Option<Duration>| {
            Some(after?.saturating_sub(before?).as_secs_f64() * 1e6 / messages)
        };
        let (ack, delivery) = meter.latencies();
        let bus = has_bus.then(|| Bus {
            hints_per_second: (after.hints - before.hints) / elapsed,
            packets_per_second: (after.packets - before.packets) / elapsed,
            bytes_per_message: (after.bytes - before.bytes) / messages,
            us_per_message: us(before.bus, after.bus),
            gaps: after.gaps.saturating_sub(before.gaps),
            dropped: after.dropped.saturating_sub(before.dropped),
        });
        Ok(Measured {
            acknowledged_per_second: messages / elapsed,
            delivered_per_second: delivered / elapsed,
            ack,
            delivery,
            batch: (after.jobs - before.jobs) / (after.batches - before.batches).max(1.0),
            servers_us_per_message: us(before.servers, after.servers),
            clients_us_per_message: us(before.clients, after.clients),
            database_us_per_message: us(before.database, after.database),
            bus,
            missing: meter.missing(),
            errors: meter.errors(),
        })
    }
}

/// Stops servers, all of them even if one fails.
async fn close(servers: impl IntoIterator<Item = Target>) -> Result<(), Failure> {
    let mut closed = Ok(());
    for server in servers {
        closed = closed.and(server.close().await);
    }
    closed
}

/// What the servers, the clients, PostgreSQL and NATS have used and done so far.
#[derive(Debug)]
struct Totals {
    servers: Option<Duration>,
    clients: Option<Duration>,
    database: Option<Duration>,
    bus: Option<Duration>,
    /// Commits, and the jobs in them.
    batches: f64,
    jobs: f64,
    hints: f64,
    packets: f64,
    bytes: f64,
    gaps: u64,
    dropped: u64,
}

impl Totals {
    async fn read(servers: &[Target], services: &Services) -> Result<Self, Failure> {
        let mut all = String::new();
        for server in servers {
            let http = server.http().ok_or_else(|| Failure::other("a server has no metrics: omit --set http"))?;
            all.push_str(&metrics(http).await?);
            all.push('\n');
        }
        let number = |name| sum::<f64>(&all, name);
        Ok(Self {
            servers: servers.iter().map(|server| server.sample().map(Sample::cpu)).sum(),
            clients: Sample::of(std::process::id()).map(Sample::cpu),
            database: services.database_cpu(),
            bus: services.bus_cpu(),
            batches: number("zim_db_batch_size_count"),
            jobs: number("zim_db_batch_size_sum"),
            hints: number("zim_bus_hints_total"),
            packets: number("zim_bus_packets_total"),
            bytes: number("zim_bus_bytes_total"),
            gaps: sum(&all, "zim_bus_gaps_total"),
            dropped: sum(&all, "zim_bus_dropped_total"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_seconds() {
        assert_eq!((time("10s"), time("10")), (Ok(Duration::from_secs(10)), Ok(Duration::from_secs(10))));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert!(time("0").is_err() && time("0s").is_err() && time("x").is_err());
    }

    #[test]
    fn one_node_is_no_cluster() {
        assert_eq!((nodes("2"), nodes("8")), (Ok(2), Ok(8)));
        assert!(nodes("1").is_err() && nodes("9").is_err() && nodes("x").is_err());
        assert!(pairs("1").is_ok() && pairs("0").is_err());
    }
}
