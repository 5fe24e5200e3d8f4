//! `zim bench attack`: what a misbehaving client, or many of them, costs the server and the other clients, and how the server
//! responds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::time::sleep;

use super::apart::Apart;
use super::attackers::{Attackers, Outcomes};
use super::load::Load;
use super::login::live;
use super::process::Sample;
use super::show::mb;
use super::target::Target;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Align, Output, Table, span};
use crate::progress;

/// Default settings with shorter timeouts: with the defaults, a row would take half a minute.
pub(crate) const SETTINGS: [&str; 2] = ["limits.write_timeout_ms=2000", "limits.hello_timeout_ms=2000"];
/// The pause of a live sender between messages, to stay below the limit of ten a second.
const PAUSE: Duration = Duration::from_millis(110);

/// `zim bench attack`
#[derive(Clone, Debug, Args)]
pub(crate) struct AttackArgs {
    /// Duration of each attack, and of the measurement before it
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = a_second_or_more)]
    time: Duration,
    /// Pairs of users that exchange messages meanwhile, nine a second each
    #[arg(long, value_name = "N", default_value_t = 30)]
    live_pairs: usize,
    /// Sessions in the one-shots attack
    #[arg(long, value_name = "N", default_value_t = 100)]
    sessions: usize,
    /// Run only this attack
    #[arg(long, value_name = "ATTACK")]
    only: Option<Attack>,
}

fn a_second_or_more(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        time if time >= Duration::from_secs(1) => Ok(time),
        _ => Err("a second or more".to_owned()),
    }
}

/// The attacks in order, each with two roles for the live pairs: before it and during it.
const ATTACKS: [(Attack, [&str; 2]); 6] = [
    (Attack::NeverReads, ["na", "nb"]),
    (Attack::OneShots, ["sa", "sb"]),
    (Attack::Floods, ["fa", "fb"]),
    (Attack::Handshakes, ["ha", "hb"]),
    (Attack::HalfOpen, ["oa", "ob"]),
    (Attack::InFlight, ["ia", "ib"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Attack {
    /// Requests pages and reads none.
    NeverReads,
    /// The same, on many one-shot sessions of one user.
    OneShots,
    /// Sends requests as fast as the server accepts them.
    Floods,
    /// Opens 2,000 connections a second from one address.
    Handshakes,
    /// Opens a thousand connections that send half a Hello.
    HalfOpen,
    /// Sends 10,000 requests before it reads the first response.
    InFlight,
}

impl Attack {
    const fn name(self) -> &'static str {
        match self {
            Self::NeverReads => "never reads",
            Self::OneShots => "many one-shots never read",
            Self::Floods => "floods",
            Self::Handshakes => "2,000 handshakes a second",
            Self::HalfOpen => "1,000 half-open streams",
            Self::InFlight => "10,000 requests in flight",
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    attack: Attack,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_before_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_most_bytes: Option<u64>,
    /// Latency of the messages of the live pairs, from sender to receiver.
    p99_alone_ms: f64,
    p99_ms: f64,
    /// Processor time of the server; 100 is one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_alone_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    /// How often the attacker got each response.
    #[serde(rename = "told")]
    outcomes: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    seconds: u64,
    live_pairs: usize,
    attacks: Vec<Row>,
}

pub(crate) async fn run(args: AttackArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let wanted = || ATTACKS.into_iter().filter(|(attack, _)| args.only.is_none_or(|only| only == *attack));
    let bar = progress::counting(u64::try_from(wanted().count()).unwrap_or(0), "attacks");
    let mut attacks = Vec::new();
    for (attack, roles) in wanted() {
        bar.set_message(attack.name());
        attacks.push(measure(attack, roles, &args, target).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = Report { bench: "attack", seconds: args.time.as_secs(), live_pairs: args.live_pairs, attacks };
    if output.is_json() {
        return output.json(&report);
    }
    output.line(format!(
        "{} live pairs, {} s without and {1} s with each attack\n",
        args.live_pairs,
        args.time.as_secs()
    ))?;
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("ATTACK", Align::Left),
        right("MEMORY"),
        right("PEAK"),
        right("P99 ALONE"),
        right("P99"),
        right("SERVER ALONE"),
        right("SERVER"),
        ("RESPONSES", Align::Left),
    ]);
    for row in &report.attacks {
        let memory = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), mb);
        let ms = |ms: f64| span(Duration::from_secs_f64(ms / 1_000.0));
        let percent =
            |percent: Option<f64>| percent.map_or_else(|| "?".to_owned(), |percent| format!("{percent:.0} %"));
        let outcomes: Vec<String> = row.outcomes.iter().map(|(what, count)| format!("{count} {what}")).collect();
        table.row([
            row.attack.name().to_owned(),
            memory(row.memory_before_bytes),
            memory(row.memory_most_bytes),
            ms(row.p99_alone_ms),
            ms(row.p99_ms),
            percent(row.cpu_alone_percent),
            percent(row.cpu_percent),
            outcomes.join("; "),
        ]);
    }
    output.table(&table)
}

async fn measure(
    attack: Attack,
    [alone, meanwhile]: [&'static str; 2],
    args: &AttackArgs,
    target: &Target,
) -> Result<Row, Failure> {
    let load = |role| Load::calm(role, args.live_pairs, PAUSE);
    let pairs = Apart::pairs(target)?;
    let quiet = async {
        let before = target.sample();
        sleep(args.time).await;
        target.cost(before)
    };
    let (without, cost_alone) = live(&load(alone), target, &pairs, quiet).await?;
    let outcomes = Arc::<Outcomes>::default();
    let attackers = Attackers::new(target)?;
    let memory = || target.sample().map(Sample::rss_bytes);
    let peak = AtomicU64::new(0);
    let under_attack = async {
        let (before, first) = (memory(), target.sample());
        let watch = async {
            loop {
                peak.fetch_max(memory().unwrap_or(0), Ordering::Relaxed);
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = watch => {}
            result = attackers.run(attack, args.sessions, Instant::now() + args.time, Arc::clone(&outcomes)) => result?,
        }
        Ok::<_, Failure>((before, target.cost(first)))
    };
    let (with, ended) = live(&load(meanwhile), target, &pairs, under_attack).await?;
    let ms = |time: Duration| (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0;
    let (before, cost) = ended?;
    Ok(Row {
        attack,
        memory_before_bytes: before,
        memory_most_bytes: before.map(|_| peak.load(Ordering::Relaxed)),
        p99_alone_ms: ms(without.p99),
        p99_ms: ms(with.p99),
        cpu_alone_percent: cost_alone.map(|cost| cost.cpu_percent),
        cpu_percent: cost.map(|cost| cost.cpu_percent),
        outcomes: outcomes.take(),
    })
}
