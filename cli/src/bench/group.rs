//! `zim bench group` and `zim bench room`: messages to groups and rooms of several sizes, and their deliveries to all members who are
//! online.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::time::sleep;
use zim_protocol::ConversationType;

use super::apart::{self, Apart, Priority, Size};
use super::crowd::{Crowd, Receive};
use super::group_life::{Done, Life, Rates};
use super::group_load::{self, Ended, GroupLoad, GroupRunning, last_deliveries};
use super::group_parts::{self, Part};
use super::histogram::{Histogram, Latency};
use super::load::Load;
use super::login::live;
use super::members::{self, group_id, room_id};
use super::meter::{Meter, SharedMeter};
use super::moment;
use super::peer::window;
use super::process::{Cost, Sample};
use super::raw::{Dialer, SharedDialer};
use super::show::{latency_columns, latency_row, show_cost, show_errors, stage_row, thousands};
use super::target::Target;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, Table};

/// Members of each group who are online, unless `--online` says otherwise: each costs a connection on both sides.
const ONLINE: usize = 1_000;
/// The pause of the sender of the pair that a group is compared with.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);
/// How long the pair is measured alone, at most.
const ALONE: Duration = Duration::from_secs(30);

/// `zim bench group`
#[derive(Clone, Debug, Args)]
pub(crate) struct GroupArgs {
    /// Sizes of the groups, measured one after the other; 10000 takes some 20 seconds to set up, because each member logs in
    /// and joins
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "10,100,1000", value_parser = members)]
    members: Vec<usize>,
    /// Members who are online, each with a session [default: all, but at most 1000]
    #[arg(long, value_name = "N", value_parser = members)]
    online: Option<usize>,
    /// Further users who join the group, and as many who leave it, each second
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    churn: u32,
    /// Reactions to messages, each second, of further members who are online
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    reactions: u32,
    /// Receipts for messages, each second, of further members who are online; all messages ask for them then
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    receipts: u32,
    #[command(flatten)]
    load: LoadArgs,
}

/// `zim bench room`
#[derive(Clone, Debug, Args)]
pub(crate) struct RoomArgs {
    /// Sizes of the rooms, measured one after the other; all members are online
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "100,1000,5000", value_parser = members)]
    members: Vec<usize>,
    /// Further users who enter the room, and as many who leave it, each second
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    churn: u32,
    #[command(flatten)]
    load: LoadArgs,
}

/// What is sent, and how often.
#[derive(Clone, Debug, Args)]
struct LoadArgs {
    /// Messages a second of all senders together, and a pair of users to compare with [default: as many as the window allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Members who send; they receive the messages of the others, too
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = senders)]
    senders: usize,
    /// Messages of each sender that are not delivered to all yet
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = window, conflicts_with = "rate")]
    window: usize,
    /// Size of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    size: usize,
    /// Duration of the measurement of each size
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    time: Duration,
    /// Duration of the load before each measurement
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    warm_up: Duration,
    /// Equal parts of the measurement, each with its latencies and with what waits in the server: shows whether a queue grows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    parts: u32,
    /// Give the members who only receive the priority of the pair [default: on Linux the lowest, because they stand for other
    /// machines]
    #[arg(long, requires = "rate")]
    same_priority: bool,
}

fn members(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(members @ 2..=100_000) => Ok(members),
        _ => Err("2 to 100000".to_owned()),
    }
}

fn senders(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(senders @ 1..=1_000) => Ok(senders),
        _ => Err("1 to 1000".to_owned()),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Measured>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rooms: Vec<Measured>,
}

/// The result for a size.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    members: usize,
    online: usize,
    senders: usize,
    seconds: f64,
    messages_per_second: u64,
    deliveries_per_second: u64,
    /// The answer to the sender.
    ack: Latency,
    /// Each receiver, since the message was sent.
    delivery: Latency,
    /// The last receiver of each message, since it was sent.
    last_delivery: Latency,
    /// A pair of users, alone, before the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<Latency>,
    /// The same pair during the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pair_meanwhile: Option<Latency>,
    /// Users who entered or left during the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    moves_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reactions_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts_per_second: Option<u64>,
    /// The p99 of an answer to a sender, divided by that of the pair alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    /// The p99 of the pair during the load, divided by that of the pair alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pair_ratio: Option<f64>,
    /// The parts of the measurement, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    /// Deliveries of acknowledged messages that did not arrive before the end.
    missing: u64,
    /// How often the server told a session to pull, because it was too slow for pushes.
    told_to_pull: u64,
    /// Deliveries in a room that the server dropped, because a session was too slow.
    dropped: u64,
    errors: BTreeMap<String, u64>,
    /// The priority of the process of the members who only receive, if they have one: 19 is the lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    crowd_niceness: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
    /// Processor time of the server and of all clients for each delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_us_per_delivery: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients_us_per_delivery: Option<f64>,
}

/// Where the messages go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) kind: ConversationType,
    pub(crate) members: usize,
    /// Those who are online.
    pub(crate) online: usize,
    /// What happens beside the messages.
    pub(crate) rates: Rates,
}

pub(crate) async fn run(args: GroupArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let dialer = Arc::new(Dialer::new(target, 4)?);
    members::join_all(&args.members, target, &dialer, output).await?;
    let mut groups = Vec::with_capacity(args.members.len());
    for members in args.members {
        let online = args.online.unwrap_or(ONLINE).min(members);
        let rates = Rates { churn: args.churn, reactions: args.reactions, receipts: args.receipts };
        let place = Place { kind: ConversationType::Group, members, online, rates };
        groups.push(Box::pin(measure(&args.load, place, target, &dialer)).await?);
    }
    report(Report { groups, ..Report::new("group", &args.load) }, output)
}

pub(crate) async fn run_rooms(args: RoomArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let dialer = Arc::new(Dialer::new(target, 4)?);
    let mut rooms = Vec::with_capacity(args.members.len());
    for members in args.members {
        let rates = Rates { churn: args.churn, ..Rates::default() };
        let place = Place { kind: ConversationType::Room, members, online: members, rates };
        rooms.push(Box::pin(measure(&args.load, place, target, &dialer)).await?);
    }
    report(Report { rooms, ..Report::new("room", &args.load) }, output)
}

impl Report {
    fn new(bench: &'static str, load: &LoadArgs) -> Self {
        let window = load.rate.is_none().then_some(load.window);
        Self { bench, size: load.size, rate: load.rate, window, groups: Vec::new(), rooms: Vec::new() }
    }
}

fn report(report: Report, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
}

async fn measure(args: &LoadArgs, place: Place, target: &Target, dialer: &SharedDialer) -> Result<Measured, Failure> {
    let Place { kind, members, online, rates } = place;
    let (to, room) = match kind {
        ConversationType::Room => (room_id(target, members), Some(room_id(target, members))),
        _ => (group_id(target, members), None),
    };
    let senders = args.senders.min(online);
    // With a rate, latencies are compared: the members who only receive are a process of their own. Without one it is measured how
    // much clients and server do together.
    let has_crowd = args.rate.is_some();
    let load = GroupLoad {
        to,
        kind,
        receivers: if has_crowd { senders - 1 } else { online - 1 },
        senders,
        rate: args.rate,
        window: args.window,
        size: args.size,
        has_receipt: rates.receipts > 0,
    };
    let meter = Meter::with_copies(online - 1);
    let mut sessions = members::log_in(0..senders, dialer, room.as_deref()).await?;
    let (mut crowd, receivers) = match has_crowd {
        true => (Some(Crowd::start(target, Priority::of_load(args.same_priority)).await?), None),
        false => (None, Some(Apart::new(target, RECEIVERS, Priority::Same)?)),
    };
    if let Some(receivers) = &receivers {
        let receiving = members::log_in(senders..online, receivers.dialer(), room.as_deref());
        sessions.extend(receivers.within(receiving).await?);
    }
    if let Some(crowd) = &mut crowd {
        crowd.log_in(senders..online, room.as_deref()).await?;
    }
    let calm = Load::calm("pair", 1, PAUSE);
    let pairs = if has_crowd { Some(Apart::pairs(target)?) } else { None };
    let pair = match &pairs {
        Some(pairs) => Some(live(&calm, target, pairs, sleep(args.time.min(ALONE))).await?.0),
        None => None,
    };
    let life = match &receivers {
        Some(receivers) => Some(receivers.within(start_life(receivers.dialer(), &load.to, place, &meter)).await?),
        None => None,
    };
    if let Some(crowd) = &mut crowd {
        let since = moment::to_time(meter.since);
        crowd.receive(Receive { to: load.to.clone(), kind: kind as i32, members, online, rates, since }).await?;
    }
    let receiving = receivers.as_ref().map_or_else(Handle::current, |receivers| receivers.handle().clone());
    let running = group_load::start(&load, sessions, &meter, &receiving)?;
    sleep(args.warm_up).await;
    let crowd_pid = crowd.as_ref().and_then(Crowd::pid);
    // It begins when the pair is there.
    let measuring = async {
        let done_before = done(life.as_ref(), crowd.as_mut(), &meter).await?;
        let (before, own_before) = (target.sample(), Clients::now(crowd_pid));
        if let Some(crowd) = &mut crowd {
            crowd.measure(true).await?;
        }
        let began = Instant::now();
        meter.measure(true);
        let parts = group_parts::measure((args.parts, args.time), &running, crowd.as_mut(), &meter, target).await?;
        meter.measure(false);
        let elapsed = began.elapsed();
        if let Some(crowd) = &mut crowd {
            crowd.measure(false).await?;
        }
        let clients = own_before.and_then(|before| before.until(Clients::now(crowd_pid)?));
        let done = done(life.as_ref(), crowd.as_mut(), &meter).await?;
        Ok::<_, Failure>((elapsed, done.since(done_before), target.cost(before), clients, parts))
    };
    let (pair_meanwhile, measured) = match &pairs {
        Some(pairs) => {
            let (latency, measured) = live(&calm, target, pairs, measuring).await?;
            (Some(latency), measured)
        }
        None => (None, measuring.await),
    };
    let (elapsed, done, server, clients, parts) = measured?;
    let Done { moves, reactions, receipts } = done;
    drop(life);
    let End { last_delivery, told_to_pull, dropped, crowd_niceness } = end(running, crowd, &meter).await?;
    let (ack, delivery) = meter.latencies();
    let (messages, deliveries) = meter.counts();
    let per_second = |count: u64| count.saturating_mul(1_000) / u64::try_from(elapsed.as_millis()).unwrap_or(1).max(1);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let us_per_delivery = |cost: Cost| {
        let us = cost.cpu_percent * 10_000.0 * elapsed.as_secs_f64() / deliveries.max(1) as f64;
        (us * 100.0).round() / 100.0
    };
    let to_pair = |latency: Latency| {
        let ratio = latency.p99.as_secs_f64() / pair?.p99.as_secs_f64().max(f64::MIN_POSITIVE);
        Some((ratio * 100.0).round() / 100.0)
    };
    // What is not asked for is not reported.
    let asked = |rate: u32, count: u64| (rate > 0).then(|| per_second(count));
    Ok(Measured {
        members,
        online,
        senders,
        seconds: (elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
        messages_per_second: per_second(messages),
        deliveries_per_second: per_second(deliveries),
        ack,
        delivery,
        last_delivery,
        pair,
        pair_meanwhile,
        moves_per_second: asked(rates.churn, moves),
        reactions_per_second: asked(rates.reactions, reactions),
        receipts_per_second: asked(rates.receipts, receipts),
        ratio: to_pair(ack),
        pair_ratio: pair_meanwhile.and_then(to_pair),
        parts,
        missing: meter.missing(),
        told_to_pull,
        dropped,
        errors: meter.errors(),
        crowd_niceness,
        server,
        server_us_per_delivery: server.map(us_per_delivery),
        clients_us_per_delivery: clients.map(us_per_delivery),
    })
}

/// What is known at the end of a load.
#[derive(Debug)]
struct End {
    last_delivery: Latency,
    told_to_pull: u64,
    dropped: u64,
    crowd_niceness: Option<i32>,
}

/// Ends a load, here and in the crowd.
async fn end(mut running: GroupRunning, crowd: Option<Crowd>, meter: &Meter) -> Result<End, Failure> {
    running.stop(meter).await;
    let crowd_niceness = crowd.as_ref().and_then(Crowd::niceness);
    let has_members = crowd.as_ref().is_some_and(Crowd::has_members);
    let told = match crowd {
        Some(crowd) => Some(crowd.end(meter).await?),
        None => None,
    };
    let Ended { lasts, mut told_to_pull, mut dropped } = running.end(meter).await;
    let of_crowd = told.as_ref().filter(|_| has_members).map(|told| &told.lasts[..]);
    let last_delivery = last_deliveries(&lasts, of_crowd).summary();
    if let Some(told) = told {
        meter.add(&Histogram::default(), &told.delivery);
        meter.fail_elsewhere(told.errors);
        told_to_pull += told.told_to_pull;
        dropped += told.dropped;
    }
    Ok(End { last_delivery, told_to_pull, dropped, crowd_niceness })
}

/// Returns what was done beside the messages until now.
async fn done(life: Option<&Life>, crowd: Option<&mut Crowd>, meter: &Meter) -> Result<Done, Failure> {
    match (life, crowd) {
        (Some(life), _) => Ok(life.done()),
        (None, Some(crowd)) => Ok(crowd.tell(meter).await?.done),
        (None, None) => Ok(Done::default()),
    }
}

/// Memory and processor time of all clients: of this process, and of the crowd if there is one.
#[derive(Clone, Copy, Debug)]
struct Clients {
    own: Sample,
    crowd: Option<Sample>,
}

impl Clients {
    fn now(crowd: Option<u32>) -> Option<Self> {
        let crowd = match crowd {
            Some(pid) => Some(Sample::of(pid)?),
            None => None,
        };
        Some(Self { own: Sample::of(std::process::id())?, crowd })
    }

    fn until(self, later: Self) -> Option<Cost> {
        let own = self.own.until(later.own);
        let Some(crowd) = self.crowd else { return Some(own) };
        Some(Cost { cpu_percent: own.cpu_percent + crowd.until(later.crowd?).cpu_percent, ..own })
    }
}

/// The members who only receive have a thread of their own, so that their work does not delay the senders' answers.
pub(crate) const RECEIVERS: Size = Size { threads: 1, sockets: 4 };

/// Starts what happens beside the messages, on the threads of those who only receive.
async fn start_life(dialer: &Dialer, to: &str, place: Place, meter: &SharedMeter) -> Result<Life, Failure> {
    let [movers, actors] = life_of(place);
    let movers = members::log_in(movers, dialer, None).await?;
    let actors = members::log_in(actors, dialer, None).await?;
    Ok(Life::start((to, place.kind), place.rates, (movers, actors), meter, &Handle::current()))
}

/// Returns the numbers of the users who come and go, and of the members who do something beside the messages.
pub(crate) fn life_of(place: Place) -> [Range<usize>; 2] {
    let Place { kind, members, online, rates } = place;
    // Members who are not online yet, if there are enough of them; otherwise further devices of members.
    let first = if online + rates.members() <= members { online } else { 0 };
    [MOVERS..MOVERS + rates.movers(kind), first..first + rates.members().min(members)]
}

/// The number of the first user who enters and leaves; the members have lower ones.
const MOVERS: usize = 200_000;

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    for (index, measured) in report.groups.iter().chain(&report.rooms).enumerate() {
        if index > 0 {
            output.line("")?;
        }
        show_group(report, measured, output)?;
    }
    Ok(())
}

fn show_group(report: &Report, measured: &Measured, output: Output) -> Result<(), Failure> {
    let pace = match (report.rate, report.window) {
        (Some(rate), _) => format!("{} messages a second", thousands(rate.into())),
        (None, window) => format!("{} in flight each", window.unwrap_or(0)),
    };
    output.line(format!(
        "{} members, {} online, {} senders, {pace}, {} bytes, {:.0} s\n",
        thousands(measured.members as u64),
        thousands(measured.online as u64),
        measured.senders,
        report.size,
        measured.seconds
    ))?;
    let mut table = Table::new(&latency_columns("", "A SECOND"));
    table.row(latency_row("acknowledged", measured.messages_per_second, &measured.ack));
    table.row(latency_row("delivered", measured.deliveries_per_second, &measured.delivery));
    for (what, latency) in [
        ("last delivery", Some(&measured.last_delivery)),
        ("a pair, alone", measured.pair.as_ref()),
        ("a pair, meanwhile", measured.pair_meanwhile.as_ref()),
    ] {
        if let Some(latency) = latency {
            table.row(stage_row(what, latency));
        }
    }
    output.table(&table)?;
    output.line("")?;
    show_errors(&measured.errors, output)?;
    if report.rate.is_some() {
        apart::show("the members who only receive", measured.crowd_niceness, output)?;
    }
    if measured.missing > 0 {
        output.line(format!("missing  {} deliveries of acknowledged messages", thousands(measured.missing)))?;
    }
    if measured.dropped > 0 {
        output.line(format!("dropped  {} deliveries to sessions that were too slow", thousands(measured.dropped)))?;
    }
    if measured.told_to_pull > 0 {
        output.line(format!("too slow {} times a session was told to pull", thousands(measured.told_to_pull)))?;
    }
    for (what, count, text) in [
        ("moves   ", measured.moves_per_second, "users a second enter or leave"),
        ("reacted ", measured.reactions_per_second, "reactions a second"),
        ("read    ", measured.receipts_per_second, "receipts a second"),
    ] {
        if let Some(count) = count {
            output.line(format!("{what} {} {text}", thousands(count)))?;
        }
    }
    if let Some(ratio) = measured.ratio {
        output.line(format!("ratio    the p99 of an answer to a sender is {ratio} times that of the pair alone"))?;
    }
    if let Some(ratio) = measured.pair_ratio {
        output.line(format!("         the p99 of the pair is {ratio} times that of the pair alone"))?;
    }
    group_parts::show(&measured.parts, output)?;
    show_cost(measured.server, output)?;
    match (measured.server_us_per_delivery, measured.clients_us_per_delivery) {
        (Some(server), Some(clients)) => {
            output.line(format!("per delivery  {server} µs of the server, {clients} µs of the clients"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_somebody_who_receives() {
        assert_eq!((members("2"), members("100000")), (Ok(2), Ok(100_000)));
        assert!(members("1").is_err() && members("100001").is_err() && members("x").is_err());
        assert!(senders("0").is_err() && senders("1001").is_err() && senders("1").is_ok());
    }
}
