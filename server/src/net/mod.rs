//! The network: the QUIC endpoint and its sessions, the checks around every request, HTTP for monitoring, and the
//! operator's service.

mod admin;
mod bounded_listener;
mod in_flight;
mod connection_id;
mod events;
mod timed_stream;
mod reassembly;
mod handler;
mod http;
mod https;
mod keys;
mod limits;
mod operator;
mod order;
mod peer;
mod slots;
mod quic;
mod session_stream;
mod unread;
mod writer;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::bounded_listener::listen;
pub(crate) use self::connection_id::NodeNumber;
pub(crate) use self::http::serve as serve_http;
pub(crate) use self::https::serve as serve_https;
// Public for the fuzzer alone: tickets are untrusted bytes from the network.
pub use self::keys::Tickets;
pub(crate) use self::keys::endpoint_config;
use self::limits::{Addresses, Rate};
pub use self::operator::AdminAddr;
pub(crate) use self::operator::{KeyCheck, bind as bind_admin, serve as serve_admin};
pub(crate) use self::quic::{accept, bind};
use self::reassembly::ReassemblyBudget;
use self::unread::UnreadBudget;
use self::writer::STALL_DIVISOR;
use crate::app::App;

/// The state that all connections of a server share.
#[derive(Debug)]
pub(crate) struct Net {
    app: Arc<App>,
    /// Every task of the server runs here, so that a shutdown can wait for all of them.
    tasks: TaskTracker,
    /// The tasks among them that serve connections.
    connections: TaskTracker,
    /// Cancelled when the server stops: it then accepts no connections and no requests.
    stopping: CancellationToken,
    addresses: Mutex<Addresses>,
    reassembly: ReassemblyBudget,
    /// Unauthenticated connections have a budget of their own, so that they cannot cause logged-in ones to be closed.
    unauthenticated_reassembly: ReassemblyBudget,
    unread: UnreadBudget,
    messages: Rate,
    requests: Rate,
    pulls: Rate,
    /// A sync reads a little of everything that a user has, and a pull reads one page. Syncs therefore get a twentieth
    /// of the pulls' rate and a tenth of their burst.
    syncs: Rate,
    once_a_second: Rate,
    /// Handshakes of unvalidated addresses, all together. The number of waiting handshakes alone does not limit them:
    /// clients that are served as fast as they come never wait, so they would never have to validate their address, and
    /// would not count against its limits.
    unvalidated_handshakes: Rate,
}

impl Net {
    pub(crate) fn new(app: Arc<App>, tasks: TaskTracker, stopping: CancellationToken) -> Arc<Self> {
        let limits = &app.config.limits;
        let per_second = limits.handshakes_per_second_per_address;
        let handshakes = Rate::new(per_second, per_second / 2);
        Arc::new(Self {
            tasks,
            connections: TaskTracker::new(),
            stopping,
            addresses: Mutex::new(Addresses::new(handshakes, limits.max_connections_per_address)),
            reassembly: ReassemblyBudget::new(limits.max_half_sent_bytes),
            unauthenticated_reassembly: ReassemblyBudget::new(limits.max_half_sent_bytes / 8),
            // By default a read waits one second before stalled sessions are closed for it: often it waits only for the
            // reads of others.
            unread: UnreadBudget::new(limits.max_unread_bytes, limits.write_timeout() / STALL_DIVISOR / 5),
            messages: Rate::new(limits.messages_per_second, limits.message_burst),
            requests: Rate::new(limits.requests_per_second, limits.request_burst),
            pulls: Rate::new(limits.pulls_per_second, limits.pull_burst),
            syncs: Rate::new(limits.pulls_per_second / 20, limits.pull_burst / 10),
            // The reference allows one a second. The burst is 2, because requests sent a second apart may arrive closer
            // together.
            once_a_second: Rate::new(1, 2),
            // The burst is so small that connected clients wait only a few milliseconds for these handshakes, whatever
            // their number.
            unvalidated_handshakes: Rate::new(per_second / 2, per_second / 8),
            app,
        })
    }

    /// Bytes of unread responses and of reservations for running reads, over all sessions.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.unread.bytes()
    }

    /// Refuses new connections and waits until all connections have ended.
    pub(crate) async fn connections_ended(&self) {
        self.connections.close();
        self.connections.wait().await;
    }
}

/// Waits until then; without a time, for ever.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
