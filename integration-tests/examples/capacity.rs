//! Compares what several nodes reached with what is calculated from one server, and says how far the parts of a large deployment go.
//!
//! `zim bench cluster --costs --json > FILE && cargo run --release -p zim-integration-tests --example capacity -- FILE`

#![expect(clippy::print_stdout, reason = "a calculation for people")]

use anyhow::Context;
use zim_integration_tests::capacity::{Machine, Model, Recording};

/// Machines of a large deployment: 16 processors, and a network of 10 gigabit a second.
const MACHINE: Machine = Machine { cores: 16.0, bytes: 1.25e9 };

fn main() -> anyhow::Result<()> {
    let file = std::env::args_os().nth(1).context("no file given: the output of zim bench cluster --costs --json")?;
    let recording: Recording = serde_json::from_slice(&std::fs::read(file)?)?;
    let (model, nodes) = (Model::of(&recording), recording.nodes);
    println!("Microseconds of a processor for a message, measured with one server:\n");
    for (part, cost) in [("servers", model.servers), ("clients", model.clients), ("PostgreSQL", model.database)] {
        println!("  {part:<12} {:>6.1}, and {:>6.1} for each commit", cost.message, cost.commit);
    }
    println!(
        "  {:<12} {:>6.1} to send, {:.1} to check the lease, {:.1} in NATS",
        "a hint", model.send, model.lease, model.pass
    );
    println!("  {:<12} {:>6.1} in a commit, {:.1} µs of waiting for each", "messages", model.batch, model.idle());
    let (calculated, measured) = (model.ratio(nodes), recording.throughput_ratio);
    let (one, many) = (recording.one.acknowledged_per_second.median, recording.many.acknowledged_per_second.median);
    println!("\n{nodes} nodes on this machine, as a part of what one server reaches ({one:.0} a second):\n");
    println!("  calculated {calculated:.2}, {:.0} a second", one * calculated);
    println!("  measured   {:.2} ({:.2} to {:.2}), {many:.0} a second", measured.median, measured.low, measured.high);
    println!("  off by {:.0} %", (calculated / measured.median - 1.0) * 100.0);
    println!(
        "\nMessages a second at which a part is used up, each part on a machine with 16 processors and 10 Gbit/s:"
    );
    for nodes in [4, 16, 64] {
        println!("\n  {nodes} nodes");
        for limit in model.limits(nodes, MACHINE) {
            println!("  {:>12.0}  {}", limit.per_second, limit.part);
        }
    }
    Ok(())
}
