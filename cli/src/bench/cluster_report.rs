//! The result of `zim bench cluster`: medians over the rounds, each with the lowest and the highest value.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::histogram::Latency;
use super::show::{show_errors, thousands};
use crate::exit::Failure;
use crate::output::{Align, Output, Table, span};

/// One measurement of a server or of several nodes.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) acknowledged_per_second: f64,
    pub(crate) delivered_per_second: f64,
    pub(crate) ack: Latency,
    pub(crate) delivery: Latency,
    /// Messages in a commit.
    pub(crate) batch: f64,
    /// Processor time for each acknowledged message, where it is known.
    pub(crate) servers_us_per_message: Option<f64>,
    pub(crate) clients_us_per_message: Option<f64>,
    pub(crate) database_us_per_message: Option<f64>,
    pub(crate) bus: Option<Bus>,
    pub(crate) missing: u64,
    pub(crate) errors: BTreeMap<String, u64>,
}

/// What went over the bus.
#[derive(Clone, Debug)]
pub(crate) struct Bus {
    pub(crate) hints_per_second: f64,
    pub(crate) packets_per_second: f64,
    pub(crate) bytes_per_message: f64,
    pub(crate) us_per_message: Option<f64>,
    pub(crate) gaps: u64,
    pub(crate) dropped: u64,
}

/// The measurements of one round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) one: Measured,
    pub(crate) many: Measured,
    /// One server with one message at a time.
    pub(crate) calm: Option<Measured>,
    /// One node with the full load, and nobody else on the bus.
    pub(crate) alone: Option<Measured>,
}

/// The median of some values, the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// Returns `None` for no values.
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let other = if values.len().is_multiple_of(2) { middle - 1 } else { middle };
        let median = f64::midpoint(values[middle], values[other]);
        let [median, low, high] = [median, low, high].map(|value| (value * 1_000.0).round() / 1_000.0);
        Some(Self { median, low, high })
    }

    fn text(&self, form: impl Fn(f64) -> String) -> String {
        format!("{} ({} to {})", form(self.median), form(self.low), form(self.high))
    }
}

/// All rounds of a deployment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    acknowledged_per_second: Option<Spread>,
    delivered_per_second: Option<Spread>,
    ack_p50_ms: Option<Spread>,
    ack_p99_ms: Option<Spread>,
    delivery_p50_ms: Option<Spread>,
    delivery_p99_ms: Option<Spread>,
    messages_per_commit: Option<Spread>,
    servers_us_per_message: Option<Spread>,
    clients_us_per_message: Option<Spread>,
    database_us_per_message: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bus: Option<BusSummary>,
    /// Messages that were acknowledged but not delivered before the end.
    missing: u64,
    errors: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BusSummary {
    /// Each is about something that a commit has stored.
    state_hints_per_second: Option<Spread>,
    packets_per_second: Option<Spread>,
    /// What all nodes send together, without the protocol of NATS.
    bytes_per_message: Option<Spread>,
    /// Processor time of NATS.
    us_per_message: Option<Spread>,
    gaps: u64,
    dropped: u64,
}

/// The result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    bench: &'static str,
    nodes: usize,
    pairs: usize,
    window: usize,
    size: usize,
    seconds: u64,
    rounds: usize,
    /// Processors of the machine.
    cores: usize,
    one: Summary,
    many: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    calm: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alone: Option<Summary>,
    /// The nodes divided by the one server of the same round.
    throughput_ratio: Option<Spread>,
    ack_p99_ratio: Option<Spread>,
    delivery_p99_ratio: Option<Spread>,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

impl Summary {
    fn of(all: &[&Measured]) -> Self {
        let spread = |value: fn(&Measured) -> Option<f64>| Spread::of(all.iter().filter_map(|one| value(one)));
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in all.iter().flat_map(|one| &one.errors) {
            *errors.entry(name.clone()).or_default() += count;
        }
        let on_bus: Vec<&Bus> = all.iter().filter_map(|one| one.bus.as_ref()).collect();
        Self {
            acknowledged_per_second: spread(|one| Some(one.acknowledged_per_second)),
            delivered_per_second: spread(|one| Some(one.delivered_per_second)),
            ack_p50_ms: spread(|one| Some(ms(one.ack.p50))),
            ack_p99_ms: spread(|one| Some(ms(one.ack.p99))),
            delivery_p50_ms: spread(|one| Some(ms(one.delivery.p50))),
            delivery_p99_ms: spread(|one| Some(ms(one.delivery.p99))),
            messages_per_commit: spread(|one| Some(one.batch)),
            servers_us_per_message: spread(|one| one.servers_us_per_message),
            clients_us_per_message: spread(|one| one.clients_us_per_message),
            database_us_per_message: spread(|one| one.database_us_per_message),
            bus: (!on_bus.is_empty()).then(|| BusSummary::of(&on_bus)),
            missing: all.iter().map(|one| one.missing).sum(),
            errors,
        }
    }
}

impl BusSummary {
    fn of(all: &[&Bus]) -> Self {
        Self {
            state_hints_per_second: Spread::of(all.iter().map(|one| one.hints_per_second)),
            packets_per_second: Spread::of(all.iter().map(|one| one.packets_per_second)),
            bytes_per_message: Spread::of(all.iter().map(|one| one.bytes_per_message)),
            us_per_message: Spread::of(all.iter().filter_map(|one| one.us_per_message)),
            gaps: all.iter().map(|one| one.gaps).sum(),
            dropped: all.iter().map(|one| one.dropped).sum(),
        }
    }
}

impl Report {
    pub(crate) fn of(nodes: usize, [pairs, window, size]: [usize; 3], seconds: u64, rounds: &[Round]) -> Self {
        let ratio = |value: fn(&Measured) -> f64| {
            Spread::of(rounds.iter().map(|round| value(&round.many) / value(&round.one).max(f64::MIN_POSITIVE)))
        };
        let extra = |measured: fn(&Round) -> Option<&Measured>| {
            let all: Vec<&Measured> = rounds.iter().filter_map(measured).collect();
            (!all.is_empty()).then(|| Summary::of(&all))
        };
        Self {
            bench: "cluster",
            nodes,
            pairs,
            window,
            size,
            seconds,
            rounds: rounds.len(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            one: Summary::of(&rounds.iter().map(|round| &round.one).collect::<Vec<_>>()),
            many: Summary::of(&rounds.iter().map(|round| &round.many).collect::<Vec<_>>()),
            calm: extra(|round| round.calm.as_ref()),
            alone: extra(|round| round.alone.as_ref()),
            throughput_ratio: ratio(|one| one.acknowledged_per_second),
            ack_p99_ratio: ratio(|one| ms(one.ack.p99)),
            delivery_p99_ratio: ratio(|one| ms(one.delivery.p99)),
        }
    }

    /// Prints it as text.
    pub(crate) fn show(&self, output: Output) -> Result<(), Failure> {
        let Self { nodes, pairs, window, size, seconds, rounds, .. } = self;
        output.line(format!(
            "One server and {nodes} nodes on the same PostgreSQL, {pairs} pairs, {window} in flight each, {size} bytes, \
             {rounds} rounds of {seconds} s: medians (lowest to highest)\n"
        ))?;
        let right = |name| (name, Align::Right);
        let mut table = Table::new(&[("", Align::Left), right("ONE SERVER"), right("NODES"), right("RATIO")]);
        let cell =
            |spread: Option<Spread>, form: fn(f64) -> String| spread.map_or_else(String::new, |it| it.text(form));
        let (one, many) = (&self.one, &self.many);
        let bus = many.bus.as_ref();
        let mut row = |what: &str, one, many, ratio, form: fn(f64) -> String| {
            table.row([what.to_owned(), cell(one, form), cell(many, form), cell(ratio, hundredths)]);
        };
        let throughput = self.throughput_ratio;
        row("acknowledged a second", one.acknowledged_per_second, many.acknowledged_per_second, throughput, whole);
        row("delivered a second", one.delivered_per_second, many.delivered_per_second, None, whole);
        row("answer, p50", one.ack_p50_ms, many.ack_p50_ms, None, time);
        row("answer, p99", one.ack_p99_ms, many.ack_p99_ms, self.ack_p99_ratio, time);
        row("delivery, p50", one.delivery_p50_ms, many.delivery_p50_ms, None, time);
        row("delivery, p99", one.delivery_p99_ms, many.delivery_p99_ms, self.delivery_p99_ratio, time);
        row("messages in a commit", one.messages_per_commit, many.messages_per_commit, None, tenths);
        row("µs of the servers", one.servers_us_per_message, many.servers_us_per_message, None, tenths);
        row("µs of the clients", one.clients_us_per_message, many.clients_us_per_message, None, tenths);
        row("µs of PostgreSQL", one.database_us_per_message, many.database_us_per_message, None, tenths);
        row("µs of NATS", None, bus.and_then(|bus| bus.us_per_message), None, tenths);
        row("state hints a second", None, bus.and_then(|bus| bus.state_hints_per_second), None, whole);
        row("bytes of the bus", None, bus.and_then(|bus| bus.bytes_per_message), None, whole);
        output.table(&table)?;
        output.line("\nµs: processor time for each message; bytes: for each message, of all nodes together")?;
        let mut errors = one.errors.clone();
        for (name, count) in &many.errors {
            *errors.entry(name.clone()).or_default() += count;
        }
        show_errors(&errors, output)?;
        let missing = one.missing + many.missing;
        if missing > 0 {
            output.line(format!("missing  {missing} acknowledged messages were not delivered"))?;
        }
        match bus {
            Some(bus) if bus.gaps + bus.dropped > 0 => output.line(format!(
                "the bus  {} gaps, {} packets dropped: the nodes could not follow",
                thousands(bus.gaps),
                thousands(bus.dropped)
            )),
            _ => Ok(()),
        }
    }
}

fn whole(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, or a rate")]
    let number = number.round() as u64;
    thousands(number)
}

fn tenths(number: f64) -> String {
    format!("{number:.1}")
}

fn hundredths(number: f64) -> String {
    format!("{number:.2}")
}

fn time(ms: f64) -> String {
    span(Duration::from_secs_f64(ms / 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(per_second: f64, p99: u64, bus: Option<Bus>) -> Measured {
        let p99 = Duration::from_millis(p99);
        let latency = Latency { p99, ..Latency::default() };
        Measured {
            acknowledged_per_second: per_second,
            delivered_per_second: per_second,
            ack: latency,
            delivery: Latency { p99: 2 * p99, ..latency },
            batch: 10.0,
            servers_us_per_message: Some(20.0),
            clients_us_per_message: None,
            database_us_per_message: None,
            bus,
            missing: 1,
            errors: BTreeMap::from([("other".to_owned(), 2)]),
        }
    }

    fn bus(hints: f64) -> Option<Bus> {
        let (us_per_message, gaps, dropped) = (Some(1.0), 3, 0);
        let (packets_per_second, bytes_per_message) = (10.0, 300.0);
        Some(Bus { hints_per_second: hints, packets_per_second, bytes_per_message, us_per_message, gaps, dropped })
    }

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        let spread = |values: &[f64]| serde_json::to_value(Spread::of(values.iter().copied())).unwrap();
        assert_eq!(spread(&[3.0, 1.0, 2.0]), serde_json::json!({ "median": 2.0, "low": 1.0, "high": 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), serde_json::json!({ "median": 2.5, "low": 1.0, "high": 4.0 }));
        assert_eq!(spread(&[0.123_46]), serde_json::json!({ "median": 0.123, "low": 0.123, "high": 0.123 }));
        assert_eq!(spread(&[]), serde_json::Value::Null);
        assert_eq!(Spread::of([1_500.0, 900.0]).unwrap().text(whole), "1,200 (900 to 1,500)");
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // A fast round and a slow one: the nodes reach 0.9 and 0.8 of the one server, and not 450 of 1,000.
        let round = |one: f64, many: f64| Round {
            one: measured(one, 10, None),
            many: measured(many, 12, bus(many)),
            calm: None,
            alone: None,
        };
        let rounds = [round(1_000.0, 900.0), round(500.0, 400.0)];
        let report = serde_json::to_value(Report::of(2, [50, 8, 200], 10, &rounds)).unwrap();
        assert_eq!(report["throughputRatio"], serde_json::json!({ "median": 0.85, "low": 0.8, "high": 0.9 }));
        assert_eq!((&report["ackP99Ratio"]["median"], &report["deliveryP99Ratio"]["high"]), (&1.2.into(), &1.2.into()));
        let many = &report["many"];
        assert_eq!((&many["deliveryP99Ms"]["median"], &many["missing"]), (&24.0.into(), &2.into()));
        assert_eq!((&many["errors"], &many["bus"]["gaps"]), (&serde_json::json!({ "other": 4 }), &6.into()));
        assert_eq!(many["bus"]["stateHintsPerSecond"]["high"], 900.0);
        // What was not measured is not said.
        assert!(report["one"].get("bus").is_none() && report.get("calm").is_none(), "{report}");
        assert_eq!(report["one"]["clientsUsPerMessage"], serde_json::Value::Null);
    }
}
