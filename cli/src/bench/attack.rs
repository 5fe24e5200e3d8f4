//! `zim bench attack`: what a client that behaves badly, or a crowd of them, costs the server and those who talk meanwhile,
//! and what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::time::sleep;

use super::load::Load;
use super::login::live;
use super::offenders::{Crowd, Told};
use super::process::Sample;
use super::progress;
use super::raw::Dialer;
use super::show::mb;
use super::target::Target;
use crate::exit::Failure;
use crate::output::{Align, Output, Table, span};

/// A server as it comes, but for patience: nobody wants to wait half a minute for a row.
pub(crate) const SETTINGS: [&str; 2] = ["limits.write_timeout_ms=2000", "limits.hello_timeout_ms=2000"];
/// Of one sender of those who talk: less than the ten messages a second that he may send.
const PAUSE: Duration = Duration::from_millis(110);

/// `zim bench attack`
#[derive(Clone, Debug, Args)]
pub(crate) struct AttackArgs {
    /// How long each lasts, and how long it is measured without one before
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Pairs of users that talk meanwhile, nine messages a second each
    #[arg(long, value_name = "N", default_value_t = 30)]
    live_pairs: usize,
    /// One-shot sessions of the user who has many
    #[arg(long, value_name = "N", default_value_t = 100)]
    sessions: usize,
    /// This one alone
    #[arg(long, value_name = "ATTACK")]
    only: Option<Attack>,
}

/// In their order; two roles each for those who talk, before and meanwhile.
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
    /// Asks for pages and reads none.
    NeverReads,
    /// Likewise, on many one-shot sessions of one user.
    OneShots,
    /// Asks as fast as the server takes it.
    Floods,
    /// 2,000 a second from one address.
    Handshakes,
    /// A thousand connections that say half a Hello.
    HalfOpen,
    /// 10,000 calls before the first answer is read.
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
            Self::InFlight => "10,000 calls in flight",
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
    /// Messages of others, from sender to receiver.
    p99_alone_ms: f64,
    p99_ms: f64,
    /// Processor time of the server, 100 is one core: what of it all is the server's part.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_alone_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    /// What the offender heard, and how often.
    told: BTreeMap<String, u64>,
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
    let report = Report { bench: "attack", seconds: args.seconds, live_pairs: args.live_pairs, attacks };
    if output.is_json() {
        return output.json(&report);
    }
    output.line(format!("{} pairs talk, {} s without and {0} s with each attack\n", args.live_pairs, args.seconds))?;
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("ATTACK", Align::Left),
        right("MEMORY"),
        right("AT MOST"),
        right("P99 ALONE"),
        right("P99"),
        right("SERVER ALONE"),
        right("SERVER"),
        ("TOLD", Align::Left),
    ]);
    for row in &report.attacks {
        let memory = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), mb);
        let ms = |ms: f64| span(Duration::from_secs_f64(ms / 1_000.0));
        let percent =
            |percent: Option<f64>| percent.map_or_else(|| "?".to_owned(), |percent| format!("{percent:.0} %"));
        let told: Vec<String> = row.told.iter().map(|(what, count)| format!("{count} {what}")).collect();
        table.row([
            row.attack.name().to_owned(),
            memory(row.memory_before_bytes),
            memory(row.memory_most_bytes),
            ms(row.p99_alone_ms),
            ms(row.p99_ms),
            percent(row.cpu_alone_percent),
            percent(row.cpu_percent),
            told.join("; "),
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
    let time = Duration::from_secs(args.seconds);
    let load = |role| Load::calm(role, args.live_pairs, PAUSE);
    let talking = Arc::new(Dialer::new(target, 1)?);
    let quiet = async {
        let before = target.sample();
        sleep(time).await;
        target.cost(before)
    };
    let (without, cost_alone) = live(&load(alone), target, &talking, quiet).await?;
    let told = Arc::<Told>::default();
    let crowd = Crowd::new(target)?;
    let memory = || target.sample().map(Sample::rss_bytes);
    let most = AtomicU64::new(0);
    let under_attack = async {
        let (before, at_first) = (memory(), target.sample());
        let watch = async {
            loop {
                most.fetch_max(memory().unwrap_or(0), Ordering::Relaxed);
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = watch => {}
            result = crowd.strike(attack, args.sessions, Instant::now() + time, Arc::clone(&told)) => result?,
        }
        Ok::<_, Failure>((before, target.cost(at_first)))
    };
    let (with, ended) = live(&load(meanwhile), target, &talking, under_attack).await?;
    let ms = |time: Duration| (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0;
    let (before, cost) = ended?;
    Ok(Row {
        attack,
        memory_before_bytes: before,
        memory_most_bytes: before.map(|_| most.load(Ordering::Relaxed)),
        p99_alone_ms: ms(without.p99),
        p99_ms: ms(with.p99),
        cpu_alone_percent: cost_alone.map(|cost| cost.cpu_percent),
        cpu_percent: cost.map(|cost| cost.cpu_percent),
        told: told.take(),
    })
}
