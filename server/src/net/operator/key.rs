//! Access to the operator's service: a request must have the key. Wrong keys are counted and logged, and when an
//! address sends many of them, its requests are refused for a while.
//!
//! Nobody guesses a key of 256 bits. The limit is for a key that an operator chose, and for the log. It counts each
//! address on its own, so that no other machine can lock the operator out. Processes on one machine share its addresses
//! and cannot be distinguished: there the right key always works, and only wrong ones are refused.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::counter;
use parking_lot::Mutex;
use ring::hmac;
use tokio_util::sync::CancellationToken;
use tonic::service::Interceptor;
use tonic::{Extensions, Request, Status};
use zim_protocol::clock::Clock;

use super::Caller;
use crate::meter::ADMIN_REFUSED;
use crate::net::limits::{Bucket, Rate, Subnet};
use crate::net::peer::Peer;
use crate::repeated::{self, Repeated, Summary};

/// Wrong keys of one address: on average in a second, and in a burst.
const WRONG_PER_SECOND: u32 = 1;
const WRONG_AT_ONCE: u32 = 10;

/// Why a request is refused, as the metrics say it.
const MISSING: &str = "missing";
const WRONG: &str = "wrong";
const LIMITED: &str = "limited";

/// Checks the key of each request.
#[derive(Clone)]
pub(crate) struct KeyCheck {
    /// Comparing tags instead of keys takes the same time for every input.
    mac_key: hmac::Key,
    tag: hmac::Tag,
    refused: Arc<Refused>,
}

/// The requests without the right key.
struct Refused {
    clock: Clock,
    failures: Mutex<Failures>,
    warnings: Mutex<Repeated<String>>,
}

impl std::fmt::Debug for KeyCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCheck").finish_non_exhaustive()
    }
}

impl KeyCheck {
    /// `seed` is any secret of the server.
    pub(crate) fn new(key: &str, seed: &[u8; 32], clock: &Clock) -> Self {
        let mac_key = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let tag = hmac::sign(&mac_key, key.as_bytes());
        // A series that begins with its first refusal hides that refusal: nothing has grown.
        for reason in [MISSING, WRONG, LIMITED] {
            counter!(ADMIN_REFUSED, "reason" => reason).increment(0);
        }
        let (failures, warnings) = (Mutex::new(Failures::new()), Mutex::new(Repeated::new()));
        Self { mac_key, tag, refused: Arc::new(Refused { clock: clock.clone(), failures, warnings }) }
    }

    fn is_right(&self, authorization: &str) -> bool {
        let given = authorization.strip_prefix("Bearer ").unwrap_or_default();
        hmac::verify(&self.mac_key, given.as_bytes(), self.tag.as_ref()).is_ok()
    }

    /// Logs the warnings that are due, until `end`.
    pub(super) async fn run_warnings(&self, end: &CancellationToken) {
        repeated::report_remaining(&self.refused.warnings, &self.refused.clock, end, warn).await;
    }

    fn refuse(&self, peer: Option<Peer>, refusal: Refusal) -> Status {
        let reason = match refusal {
            Refusal::Missing => MISSING,
            Refusal::Wrong => WRONG,
            Refusal::Limited(_) => LIMITED,
        };
        counter!(ADMIN_REFUSED, "reason" => reason).increment(1);
        let source = peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.source());
        let summary = self.refused.warnings.lock().note(self.refused.clock.steady_ms(), source);
        summary.into_iter().for_each(warn);
        match refusal {
            Refusal::Missing => Status::unauthenticated("the header `authorization: Bearer KEY` is missing"),
            Refusal::Wrong => Status::unauthenticated("the key is wrong"),
            Refusal::Limited(ms) => {
                Status::resource_exhausted(format!("this address sent too many wrong keys; try again in {ms} ms"))
            }
        }
    }
}

enum Refusal {
    Missing,
    Wrong,
    /// For this many milliseconds.
    Limited(i64),
}

fn warn(Summary { count, addresses }: Summary) {
    tracing::warn!(
        count,
        addresses,
        "requests to the operator's service were refused because they did not have its key"
    );
}

impl Interceptor for KeyCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let peer = peer(request.extensions());
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let is_right = given.is_some_and(|given| self.is_right(given));
        let address = match peer {
            Some(Peer::Tcp(address)) => Some(address),
            _ => None,
        };
        let is_shared = address.is_none_or(|address| address.ip().to_canonical().is_loopback());
        if is_right && is_shared {
            return Ok(request);
        }
        let subnet = address.map(Subnet::from);
        let now_ms = self.refused.clock.steady_ms();
        let allowed = self.refused.failures.lock().attempt(subnet, is_right, now_ms);
        match (allowed, given) {
            (Err(ms), _) => Err(self.refuse(peer, Refusal::Limited(ms))),
            (Ok(()), _) if is_right => Ok(request),
            (Ok(()), Some(_)) => Err(self.refuse(peer, Refusal::Wrong)),
            (Ok(()), None) => Err(self.refuse(peer, Refusal::Missing)),
        }
    }
}

fn peer(extensions: &Extensions) -> Option<Peer> {
    extensions.get::<Caller>().map(|caller| caller.peer)
}

/// The wrong keys of each address. Processes on this machine that use the Unix socket share one entry, without an
/// address.
struct Failures {
    rate: Rate,
    buckets: HashMap<Option<Subnet>, Bucket>,
    sweep_at: usize,
}

/// With fewer addresses than this, none is removed.
const SWEEP_FROM: usize = 1_024;

impl Failures {
    fn new() -> Self {
        Self { rate: Rate::new(WRONG_PER_SECOND, WRONG_AT_ONCE), buckets: HashMap::new(), sweep_at: SWEEP_FROM }
    }

    /// Counts an attempt; only wrong keys take from the allowance. Fails with the milliseconds to wait if there were
    /// too many wrong ones.
    fn attempt(&mut self, from: Option<Subnet>, is_right: bool, now_ms: i64) -> Result<(), i64> {
        if is_right {
            // A copy: the right key takes nothing.
            return self.buckets.get(&from).copied().unwrap_or_default().take(self.rate, now_ms);
        }
        if self.buckets.len() >= self.sweep_at {
            self.buckets.retain(|_, bucket| !bucket.is_full(now_ms));
            self.sweep_at = (self.buckets.len() * 2).max(SWEEP_FROM);
        }
        self.buckets.entry(from).or_default().take(self.rate, now_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio_util::sync::CancellationToken;
    use tonic::Code;

    use super::*;
    use crate::net::slots::Slots;

    fn check() -> (KeyCheck, Clock) {
        let clock = Clock::manual(0);
        (KeyCheck::new("secret", &[3; 32], &clock), clock)
    }

    /// Returns the status of a request from `peer` with this key.
    fn status(check: &KeyCheck, peer: Peer, key: &str) -> Code {
        let activity = Arc::clone(Slots::new(1).acquire(peer, &CancellationToken::new()).0.activity());
        let mut request = Request::new(());
        request.extensions_mut().insert(Caller { peer, activity });
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        check.clone().call(request).map_or_else(|status| status.code(), |_| Code::Ok)
    }

    fn at(address: &str) -> Peer {
        Peer::Tcp(address.parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn only_the_key_is_accepted() {
        let (check, _) = check();
        assert!(check.is_right("Bearer secret"));
        for wrong in ["", "secret", "Bearer ", "Bearer Secret", "Bearer secret ", "bearer secret"] {
            assert!(!check.is_right(wrong), "{wrong:?}");
        }
        assert!(!format!("{check:?}").contains("secret"));
    }

    #[test]
    fn refusals_are_counted_from_zero_on() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let (mut check, _) = check();
            for reason in [MISSING, WRONG, LIMITED] {
                let series = format!("{ADMIN_REFUSED}{{reason=\"{reason}\"}} 0\n");
                assert!(metrics.render().contains(&series), "{}", metrics.render());
            }
            check.call(Request::new(())).unwrap_err();
            let series = format!("{ADMIN_REFUSED}{{reason=\"{MISSING}\"}} 1\n");
            assert!(metrics.render().contains(&series), "{}", metrics.render());
        });
    }

    #[test]
    fn a_request_without_a_key_is_refused() {
        let (mut check, _) = check();
        assert_eq!(check.call(Request::new(())).unwrap_err().code(), Code::Unauthenticated);
        let mut request = Request::new(());
        request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
        assert!(check.call(request).is_ok());
    }

    #[test]
    fn only_the_address_with_many_wrong_keys_must_wait() {
        let (check, clock) = check();
        let (guesses, operates) = (at("192.0.2.1:1"), at("192.0.2.2:1"));
        for _ in 0..10 {
            assert_eq!(status(&check, guesses, "wrong"), Code::Unauthenticated);
        }
        for key in ["wrong", "secret"] {
            assert_eq!(status(&check, at("192.0.2.1:2"), key), Code::ResourceExhausted, "{key}");
        }
        assert_eq!(status(&check, operates, "secret"), Code::Ok);
        clock.advance(999);
        assert_eq!(status(&check, guesses, "secret"), Code::ResourceExhausted);
        clock.advance(1);
        // The right key takes nothing, and the first wrong one takes all that is left.
        for key in ["secret", "secret", "wrong"] {
            assert_ne!(status(&check, guesses, key), Code::ResourceExhausted);
        }
        assert_eq!(status(&check, guesses, "secret"), Code::ResourceExhausted);
    }

    #[test]
    fn another_process_on_the_machine_cannot_lock_the_operator_out() {
        let (check, _) = check();
        let mut peers = vec![at("127.0.0.1:1"), at("[::1]:1"), at("[::ffff:127.0.0.1]:1")];
        #[cfg(unix)]
        peers.push(Peer::Unix(Some(1_000)));
        for peer in peers {
            let codes: Vec<_> = (0..100).map(|_| status(&check, peer, "wrong")).collect();
            assert_eq!(codes.last(), Some(&Code::ResourceExhausted), "{peer}");
            assert_eq!(status(&check, peer, "secret"), Code::Ok, "{peer}");
        }
    }

    #[test]
    fn addresses_without_recent_wrong_keys_are_removed() {
        let mut failures = Failures::new();
        for address in 0..u32::try_from(SWEEP_FROM).unwrap() {
            let address = SocketAddr::from((address.to_be_bytes(), 1));
            failures.attempt(Some(Subnet::from(address)), false, 0).unwrap();
        }
        assert_eq!(failures.buckets.len(), SWEEP_FROM);
        failures.attempt(None, false, 1_000).unwrap();
        assert_eq!(failures.buckets.len(), 1);
    }
}
