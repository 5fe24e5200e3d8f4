//! `zim bench start`: the time from the start of the process until it accepts connections, and the cost of an idle server.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use super::process::Cost;
use super::show::mb;
use super::target::Target;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, span};

/// `zim bench start`
#[derive(Clone, Debug, Args)]
pub(crate) struct StartArgs {
    /// Idle time before the measurement
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = duration::parse)]
    time: Duration,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    /// From an empty folder: includes creating a certificate, keys, a database and an app.
    ready_ms: u64,
    /// During the idle time.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

pub(crate) async fn run(args: StartArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let ready = target
        .ready_in()
        .ok_or_else(|| Failure::usage("this benchmark starts a server: omit --server and --server-data"))?;
    let before = target.sample();
    sleep(args.time).await;
    let ready_ms = u64::try_from(ready.as_millis()).unwrap_or(u64::MAX);
    let report = Report { bench: "start", ready_ms, server: target.cost(before) };
    if output.is_json() {
        return output.json(&report);
    }
    output.line(format!("ready    in {}, from an empty folder", span(ready)))?;
    match report.server {
        Some(cost) => {
            output.line(format!("idle     {} of memory, {:.0} % of a core", mb(cost.rss_bytes), cost.cpu_percent))
        }
        None => Ok(()),
    }
}
