//! The network: the QUIC endpoint and its sessions, the ring around every call, HTTP for the operator's machines, and the
//! operator's own service.

mod admin;
mod bounded;
mod calls;
mod cid;
mod events;
mod exchange;
mod half_sent;
mod handler;
mod http;
mod keys;
mod limits;
mod meter;
mod operator;
mod order;
mod peer;
mod places;
mod quic;
mod session;
mod unread;
mod writer;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::bounded::listen;
pub(crate) use self::http::serve as serve_http;
// Public for the fuzzer alone: tickets are bytes that any stranger may bring.
use self::half_sent::HalfSent;
pub use self::keys::Tickets;
pub(crate) use self::keys::endpoint_config;
use self::limits::{Addresses, Rate};
use self::meter::Meter;
pub(crate) use self::meter::keep as keep_meter;
pub use self::operator::AdminAddr;
pub(crate) use self::operator::{KeyCheck, bind as bind_admin, serve as serve_admin};
pub(crate) use self::quic::{accept, bind};
use self::unread::Unread;
use self::writer::STALLED;
use crate::app::App;

/// What every connection of a server needs.
#[derive(Debug)]
pub(crate) struct Net {
    app: Arc<App>,
    meter: Meter,
    /// Every task of the server runs here, so that a stop can wait for all of them.
    tasks: TaskTracker,
    /// Those of them that are connections.
    connections: TaskTracker,
    /// The server stops: no new connections, no new calls.
    stopping: CancellationToken,
    addresses: Mutex<Addresses>,
    half_sent: HalfSent,
    /// Strangers have a share of their own, so that they close out nobody who has logged in.
    half_sent_of_strangers: HalfSent,
    unread: Unread,
    messages: Rate,
    requests: Rate,
    pulls: Rate,
    /// A sync reads what one has of everything, where a pull reads a page: a twentieth and a tenth as many.
    syncs: Rate,
    custom_statuses: Rate,
    /// Handshakes with addresses that are not proved, all together: one client who is served as fast as he comes would
    /// otherwise never be asked, and never count.
    unproved: Rate,
}

impl Net {
    pub(crate) fn new(app: Arc<App>, tasks: TaskTracker, stopping: CancellationToken) -> Arc<Self> {
        let limits = &app.config.limits;
        let per_second = limits.handshakes_per_second_per_address;
        let handshakes = Rate::new(per_second, per_second / 2);
        Arc::new(Self {
            meter: Meter::new(),
            tasks,
            connections: TaskTracker::new(),
            stopping,
            addresses: Mutex::new(Addresses::new(handshakes, limits.max_connections_per_address)),
            half_sent: HalfSent::new(limits.max_half_sent_bytes),
            half_sent_of_strangers: HalfSent::new(limits.max_half_sent_bytes / 8),
            // A read waits a second by default before a session is closed for it: many wait for the reads of others alone.
            unread: Unread::new(limits.max_unread_bytes, limits.write_timeout() / STALLED / 5),
            messages: Rate::new(limits.messages_per_second, limits.message_burst),
            requests: Rate::new(limits.requests_per_second, limits.request_burst),
            pulls: Rate::new(limits.pulls_per_second, limits.pull_burst),
            syncs: Rate::new(limits.pulls_per_second / 20, limits.pull_burst / 10),
            // As the reference; and one more, because calls that left a second apart may arrive closer.
            custom_statuses: Rate::new(1, 2),
            // So few at once that those who talk wait a few milliseconds for them, however many come.
            unproved: Rate::new(per_second / 2, per_second / 8),
            app,
        })
    }

    /// Bytes of unread answers, and of room for those that are being read, of all sessions.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.unread.bytes()
    }

    /// Waits until every connection is over; from now on none may begin.
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
