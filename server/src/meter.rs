//! Metrics for Prometheus. The recorder belongs to the process: several servers in one process (in tests) share it.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zim_protocol::{METHODS, Method, SERVER_METHODS};

/// In seconds: from a read in memory to the default deadline.
const BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counts requests. The handles for successful requests are cached, because looking them up costs more than counting. A
/// method without requests has none, so that it takes no space in each scrape.
pub(crate) struct Meter {
    methods: HashMap<&'static str, OnceLock<PerMethod>>,
}

struct PerMethod {
    ok: Counter,
    seconds: Histogram,
}

impl PerMethod {
    fn of(method: &'static Method) -> Self {
        Self {
            ok: counter!(REQUESTS, "method" => method.path, "code" => "0"),
            seconds: histogram!(SECONDS, "method" => method.path),
        }
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

const REQUESTS: &str = "zim_requests_total";
const SECONDS: &str = "zim_request_seconds";
/// Bytes of partially received frames.
pub(crate) const REASSEMBLY_BYTES: &str = "zim_half_sent_bytes";
/// Bytes of responses that clients have not read.
pub(crate) const UNREAD_BYTES: &str = "zim_unread_bytes";
/// Metrics of the operator's service.
pub(crate) const ADMIN_CALLS: &str = "zim_admin_calls_total";
pub(crate) const ADMIN_REFUSED: &str = "zim_admin_refused_total";

impl Meter {
    pub(crate) fn new() -> Self {
        recorder();
        Self { methods: METHODS.iter().chain(SERVER_METHODS).map(|method| (method.path, OnceLock::new())).collect() }
    }

    /// Records a request of `method` that took `took` and ended with `code`.
    pub(crate) fn record(&self, method: &'static Method, code: i32, took: Duration) {
        let Some(per_method) = self.methods.get(method.path) else { return };
        let per_method = per_method.get_or_init(|| PerMethod::of(method));
        per_method.seconds.record(took);
        if code == 0 {
            per_method.ok.increment(1);
        } else {
            counter!(REQUESTS, "method" => method.path, "code" => code.to_string()).increment(1);
        }
    }

    /// Records a request for an unknown method. The name that the client sent is not used as a label, because labels
    /// are never removed.
    pub(crate) fn unknown_method(&self, code: i32) {
        counter!(REQUESTS, "method" => "unknown", "code" => code.to_string()).increment(1);
    }
}

/// The recorder of this process, which the first caller installs; `None` if the program has one of its own.
pub(crate) fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE.get_or_init(install).as_ref()
}

/// Returns the metrics of this process as text.
pub(crate) fn render() -> String {
    recorder().map_or_else(String::new, |handle| {
        // Includes the values of the last second.
        handle.run_upkeep();
        handle.render()
    })
}

/// How often histograms are updated from the recorded values.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Updates the histograms from the recorded values until `end`. A histogram keeps every value until then, and
/// `/metrics` may never be scraped.
pub(crate) async fn run(end: CancellationToken) {
    let Some(handle) = recorder() else { return };
    while timeout(UPKEEP_INTERVAL, end.cancelled()).await.is_err() {
        handle.run_upkeep();
    }
}

fn install() -> Option<PrometheusHandle> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS).ok()?;
    let handle = builder.install_recorder().ok()?;
    describe_counter!(REQUESTS, "Requests by method and code; 0 is success");
    describe_histogram!(SECONDS, "Seconds from the arrival of a request to its response");
    describe_counter!(ADMIN_CALLS, "Requests to the operator's service with its key, by method and gRPC status");
    describe_counter!(
        ADMIN_REFUSED,
        "Requests to the operator's service that were refused because of the key, by reason"
    );
    describe_gauge!("zim_connections", "Connections with a complete handshake");
    describe_gauge!("zim_sessions", "Devices that are logged in");
    describe_gauge!("zim_one_shot_sessions", "One-shot logins");
    describe_counter!("zim_fanout_dropped_total", "Bodies of pushes that were dropped because the fan-out was behind");
    describe_counter!(
        "zim_transients_dropped_total",
        "Commands that were dropped for slow clients, and reported to them"
    );
    describe_gauge!(REASSEMBLY_BYTES, "Bytes of partially received frames that count against the limit");
    describe_gauge!(
        UNREAD_BYTES,
        "Bytes of responses that clients have not read, and bytes reserved for pages being read"
    );
    describe_gauge!("zim_media_store_up", "1 if the object store of the files of messages works");
    describe_gauge!("zim_node_number", "The number that this node holds, which its connection IDs carry");
    describe_counter!("zim_media_frames_total", "First frames of films that were made or are missing, by result");
    describe_gauge!("zim_bus_up", "1 if the hints of all other nodes arrive");
    describe_counter!("zim_bus_hints_total", "Hints that this node has sent to the others, several in a packet");
    describe_counter!("zim_bus_packets_total", "Packets that this node has sent to the others");
    describe_counter!("zim_bus_bytes_total", "Bytes that this node has sent to the others");
    describe_counter!("zim_bus_dropped_total", "Packets that were not sent because the bus was down or behind");
    describe_counter!("zim_bus_gaps_total", "Times that packets of other nodes were missing");
    describe_counter!("zim_tasks_total", "Tasks and deliveries that ended, by kind and result");
    describe_counter!("zim_handshakes_total", "Handshakes by outcome");
    describe_counter!("zim_closed_total", "Connections that the server closed, by close code");
    Some(handle)
}
