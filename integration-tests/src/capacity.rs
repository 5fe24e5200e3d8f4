//! What a deployment of several nodes reaches, calculated from measurements of one server.
//!
//! The model is a sum of processor times. A message costs each part of the deployment (clients, servers, PostgreSQL, the bus) some
//! time of its own, and a share of the time that a commit costs, however many messages are in it. On one machine all parts share
//! the processors, so a message takes the sum of its costs, divided by the processors, and a time in which they wait for the disk.
//! With more nodes
//!
//! - the messages in flight are divided among more queues, so that a commit has fewer messages;
//! - each message is a hint, which its node encodes, NATS passes on, and each other node decodes.
//!
//! `zim bench cluster --costs` measures what goes in, and what several nodes do reach. It measures what sending a hint costs;
//! hearing it is assumed to cost the same.

use serde::Deserialize;

/// A measured value: the median of the rounds, the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest value.
    pub low: f64,
    /// The highest value.
    pub high: f64,
}

/// What a deployment reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Messages a second.
    pub acknowledged_per_second: Spread,
    /// Messages in a commit.
    pub messages_per_commit: Spread,
    /// Processor time of the servers for a message, microseconds.
    pub servers_us_per_message: Spread,
    /// The same of the clients.
    pub clients_us_per_message: Spread,
    /// The same of PostgreSQL.
    pub database_us_per_message: Spread,
    /// What went over the bus, if there was one.
    pub bus: Option<MeasuredBus>,
}

/// What went over the bus.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredBus {
    /// Hints a second.
    pub state_hints_per_second: Spread,
    /// Bytes of the bus for a message.
    pub bytes_per_message: Spread,
    /// Processor time of NATS for a message, microseconds.
    pub us_per_message: Spread,
}

/// The output of `zim bench cluster --costs --json`, with PostgreSQL and NATS that it has started.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// Processors of the machine, which all parts share.
    pub cores: u32,
    /// The nodes of `many`.
    pub nodes: u32,
    /// One server without a bus.
    pub one: Measured,
    /// Several nodes.
    pub many: Measured,
    /// One server with one message at a time.
    pub calm: Measured,
    /// One node that is alone on the bus.
    pub alone: Measured,
    /// The nodes divided by the one server.
    pub throughput_ratio: Spread,
}

/// Processor time of a part, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// For each message.
    pub message: f64,
    /// For each commit.
    pub commit: f64,
}

impl Cost {
    /// Takes apart what was measured with a few messages in a commit and with many: each is the number of messages in a commit and
    /// the time for a message.
    pub fn of(few: (f64, f64), many: (f64, f64)) -> Self {
        let (more, parts) = (few.1 - many.1, few.0.recip() - many.0.recip());
        let commit = if parts > 0.0 { more / parts } else { 0.0 };
        // Neither part is less than nothing.
        let commit = commit.clamp(0.0, many.1 * many.0);
        Self { message: many.1 - commit / many.0, commit }
    }

    /// Returns the time for a message, with so many messages in a commit.
    pub fn at(self, batch: f64) -> f64 {
        self.message + self.commit / batch
    }
}

/// What a message costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Processors of the machine on which it was measured.
    pub cores: f64,
    /// Messages a second of one server.
    pub per_second: f64,
    /// Messages in a commit of one server.
    pub batch: f64,
    /// The servers.
    pub servers: Cost,
    /// The clients.
    pub clients: Cost,
    /// PostgreSQL.
    pub database: Cost,
    /// What a node has to do more for a message because it is one: to encode and send a hint.
    pub send: f64,
    /// What PostgreSQL has to do more for a message because a node has written it: to check the lease.
    pub lease: f64,
    /// What a node does for a hint of another. Assumed to be as much as sending it.
    pub hear: f64,
    /// What NATS does for a packet that arrives or leaves, for each message in it.
    pub pass: f64,
    /// Bytes of the bus for a message.
    pub bytes: f64,
}

impl Model {
    /// Takes what was measured of one server, of one that had one message at a time, and of one node alone on the bus. What several
    /// nodes reached is not used.
    pub fn of(recording: &Recording) -> Self {
        let Recording { one, calm, alone, .. } = recording;
        let batch = |measured: &Measured| measured.messages_per_commit.median.max(1.0);
        let cost = |us: fn(&Measured) -> Spread| Cost::of((batch(calm), us(calm).median), (batch(one), us(one).median));
        let servers = cost(|measured| measured.servers_us_per_message);
        let database = cost(|measured| measured.database_us_per_message);
        let more = |measured: Spread, cost: Cost| (measured.median - cost.at(batch(alone))).max(0.0);
        let send = more(alone.servers_us_per_message, servers);
        let bus = alone.bus.as_ref();
        Self {
            cores: f64::from(recording.cores),
            per_second: one.acknowledged_per_second.median,
            batch: batch(one),
            servers,
            clients: cost(|measured| measured.clients_us_per_message),
            database,
            send,
            lease: more(alone.database_us_per_message, database),
            hear: send,
            pass: bus.map_or(0.0, |bus| bus.us_per_message.median),
            bytes: bus.map_or(0.0, |bus| bus.bytes_per_message.median),
        }
    }

    /// Processor time of all parts for a message with so many nodes, microseconds. One is a server without a bus.
    pub fn busy(&self, nodes: u32) -> f64 {
        let batch = (self.batch / f64::from(nodes)).max(1.0);
        let parts = [self.servers, self.clients, self.database].map(|cost| cost.at(batch));
        parts.iter().sum::<f64>() + self.bus(nodes)
    }

    /// What the bus adds to it.
    fn bus(&self, nodes: u32) -> f64 {
        let others = f64::from(nodes) - 1.0;
        if others > 0.0 { self.send + self.lease + self.pass + others * (self.hear + self.pass) } else { 0.0 }
    }

    /// Time for each message in which the processors wait for the disk, microseconds. A commit of each node waits at the same time as
    /// those of the others, so it does not grow with the nodes.
    pub fn idle(&self) -> f64 {
        (1e6 / self.per_second - self.busy(1) / self.cores).max(0.0)
    }

    /// Returns what so many nodes reach on this machine, divided by what one server does.
    pub fn ratio(&self, nodes: u32) -> f64 {
        let time = |nodes| self.busy(nodes) / self.cores + self.idle();
        time(1) / time(nodes)
    }

    /// Returns the messages a second at which a part of a deployment on many machines has no more to give, beginning with the part
    /// that is first. The commits are as large as those of the measurement.
    pub fn limits(&self, nodes: u32, machine: Machine) -> Vec<Limit> {
        let (count, others) = (f64::from(nodes), f64::from(nodes) - 1.0);
        let second = machine.cores * 1e6;
        // A node hears the messages of the others, and not its own.
        let heard = others / count;
        let mut limits = vec![
            Limit { part: "processors of the nodes", per_second: count * second / self.node(others) },
            Limit { part: "the task of a node that hears", per_second: 1e6 / (heard * self.hear) },
            Limit { part: "network of a node, hints alone", per_second: machine.bytes / (heard * self.bytes) },
            Limit { part: "processors of NATS", per_second: second / (self.pass * count) },
            Limit { part: "network of NATS", per_second: machine.bytes / (others * self.bytes) },
            Limit {
                part: "processors of PostgreSQL",
                per_second: second / (self.database.at(self.batch) + self.lease),
            },
        ];
        limits.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
        limits
    }

    /// Processor time of all nodes for a message, microseconds.
    fn node(&self, others: f64) -> f64 {
        self.servers.at(self.batch) + self.send + others * self.hear
    }
}

/// A machine of a large deployment: each node, NATS and PostgreSQL have one of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Processors, as fast as those of the measurement.
    pub cores: f64,
    /// Bytes a second of its network, in one direction.
    pub bytes: f64,
}

/// How far a part goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The part.
    pub part: &'static str,
    /// Messages a second.
    pub per_second: f64,
}
