//! Failed logins, which may be guesses: how many an address and an app may have before the server stops to say what was wrong
//! with them.
//!
//! A client with a genuine token or the right sign is let in however many others fail: nobody locks a user out. A client that
//! guesses learns nothing from answers beyond the allowance but whether it was let in.

use std::net::{IpAddr, SocketAddr};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use zim_protocol::clock::Clock;

use crate::config::Limits;
use crate::key::AppKey;
use crate::rate::{Buckets, Rate, Subnet};
use crate::repeated::{self, Repeated, Summary};

/// The allowances for logins that fail, and for first logins.
#[derive(Debug)]
pub(crate) struct LoginAllowances {
    failed_by_address: Buckets<Subnet>,
    failed_by_app: Buckets<AppKey>,
    first_by_address: Buckets<Subnet>,
    /// For the log.
    failures: Mutex<Repeated<IpAddr>>,
}

impl LoginAllowances {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            failed_by_address: Buckets::new(Rate::per_minute(limits.failed_logins_per_minute_per_address)),
            failed_by_app: Buckets::new(Rate::per_minute(limits.failed_logins_per_minute_per_app)),
            first_by_address: Buckets::new(Rate::new(
                limits.first_logins_per_second_per_address,
                limits.first_login_burst_per_address,
            )),
            failures: Mutex::new(Repeated::new()),
        }
    }

    /// Tells the log that a login failed, and why: the first of a minute at once, the others together.
    pub(crate) fn log_failure(&self, address: SocketAddr, app_id: u32, reason: &str, now_ms: i64) {
        if let Some(Summary { count, addresses }) = self.failures.lock().note(now_ms, address.ip()) {
            tracing::warn!(count, addresses, app_id, reason, "logins failed; app and reason are those of the last one");
        }
    }

    /// Tells the log what [`LoginAllowances::log_failure`] has counted and not told, until `end`.
    pub(crate) async fn keep_log(&self, clock: &Clock, end: &CancellationToken) {
        repeated::keep(&self.failures, clock, end, |Summary { count, addresses }| {
            tracing::warn!(count, addresses, "logins failed");
        })
        .await;
    }

    /// Counts a failed login; beyond the allowance, in how many milliseconds there is more.
    pub(crate) fn fail(&self, address: SocketAddr, app: AppKey, now_ms: i64) -> Result<(), i64> {
        // Both are counted, whichever of them is empty.
        let by_address = self.failed_by_address.take(address.into(), now_ms);
        let by_app = self.failed_by_app.take(app, now_ms);
        match (by_address, by_app) {
            (Ok(()), Ok(())) => Ok(()),
            (one, other) => Err(one.err().max(other.err()).unwrap_or_default()),
        }
    }

    /// Counts the first login of a user; beyond the allowance, in how many milliseconds there is more.
    pub(crate) fn first_login(&self, address: SocketAddr, now_ms: i64) -> Result<(), i64> {
        self.first_by_address.take(address.into(), now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_an_app_each_have_an_allowance() {
        let limits = Limits {
            failed_logins_per_minute_per_address: 2,
            failed_logins_per_minute_per_app: 3,
            ..Limits::default()
        };
        let allowances = LoginAllowances::new(&limits);
        let address = |last| SocketAddr::from(([192, 0, 2, last], 1));
        assert!(allowances.fail(address(1), AppKey(1), 0).is_ok());
        assert!(allowances.fail(address(1), AppKey(1), 0).is_ok());
        assert_eq!(allowances.fail(address(1), AppKey(2), 0), Err(30_000), "the address has none left");
        assert!(allowances.fail(address(2), AppKey(1), 0).is_ok());
        assert_eq!(allowances.fail(address(3), AppKey(1), 0), Err(20_000), "the app has none left");
        assert!(allowances.fail(address(3), AppKey(2), 0).is_ok());
        assert!(allowances.fail(address(4), AppKey(1), 20_000).is_ok());
    }

    #[test]
    fn first_logins_have_an_allowance_of_their_own() {
        let limits =
            Limits { first_logins_per_second_per_address: 1, first_login_burst_per_address: 2, ..Limits::default() };
        let allowances = LoginAllowances::new(&limits);
        let (one, other) = (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 1)));
        assert!(allowances.first_login(one, 0).is_ok() && allowances.first_login(one, 0).is_ok());
        assert_eq!(allowances.first_login(one, 0), Err(1_000));
        assert!(allowances.first_login(other, 0).is_ok());
        assert!(allowances.first_login(one, 1_000).is_ok());
    }
}
