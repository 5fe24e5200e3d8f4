//! How many logins of an address and of an app may fail, and what happens to further ones.
//!
//! A client with a genuine AES-GCM token or the right app sign is admitted however many other logins fail: nobody can
//! lock a user out, and 128-bit secrets cannot be guessed. AES-CBC tokens carry no authentication tag, so guesses
//! matter there: beyond the allowance such a token is not even verified.

use std::net::{IpAddr, SocketAddr};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use zim_protocol::clock::Clock;

use crate::config::Limits;
use crate::key::AppKey;
use crate::rate::{Buckets, Rate, Subnet};
use crate::repeated::{self, Repeated, Summary};

/// The allowances for failed logins and for first logins.
#[derive(Debug)]
pub(crate) struct LoginAllowances {
    failed_by_address: Buckets<Subnet>,
    failed_by_app: Buckets<AppKey>,
    first_by_address: Buckets<Subnet>,
    /// Failures that the log has not reported.
    failures: Mutex<Repeated<IpAddr>>,
    /// Apps that got AES-CBC tokens and do not accept them. Logged apart from the failures, because the log must name
    /// the setting whatever else fails.
    cbc_refused: Mutex<Repeated<u32>>,
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
            cbc_refused: Mutex::new(Repeated::new()),
        }
    }

    /// Logs that a login failed, and why: the first failure of a minute at once, the others together.
    pub(crate) fn log_failure(&self, address: SocketAddr, app_id: u32, reason: &str, now_ms: i64) {
        if let Some(Summary { count, addresses }) = self.failures.lock().note(now_ms, address.ip()) {
            tracing::warn!(
                count,
                addresses,
                app_id,
                reason,
                "logins failed; app and reason are those of the last failure"
            );
        }
    }

    /// Logs that an AES-CBC token was refused because the app does not accept it.
    pub(crate) fn log_cbc_refused(&self, app_id: u32, now_ms: i64) {
        let summary = self.cbc_refused.lock().note(now_ms, app_id);
        summary.into_iter().for_each(log_cbc_summary);
    }

    /// Logs what was counted and not logged, until `end`.
    pub(crate) async fn log_summaries(&self, clock: &Clock, end: &CancellationToken) {
        let failures = repeated::report_remaining(&self.failures, clock, end, |Summary { count, addresses }| {
            tracing::warn!(count, addresses, "logins failed");
        });
        tokio::join!(failures, repeated::report_remaining(&self.cbc_refused, clock, end, log_cbc_summary));
    }

    /// Returns the wait until another login may fail, milliseconds; 0 for none.
    pub(crate) fn wait_ms(&self, address: SocketAddr, app: AppKey, now_ms: i64) -> i64 {
        self.failed_by_address.wait_ms(&address.into(), now_ms).max(self.failed_by_app.wait_ms(&app, now_ms))
    }

    /// Counts a failed login. Beyond the allowance, returns the wait in milliseconds. A failure beyond the address's
    /// allowance does not count for the app: one address cannot use up the allowance of an app.
    pub(crate) fn fail(&self, address: SocketAddr, app: AppKey, now_ms: i64) -> Result<(), i64> {
        self.failed_by_address.take(address.into(), now_ms)?;
        self.failed_by_app.take(app, now_ms)
    }

    /// Counts the first login of a user. Beyond the allowance, returns the wait in milliseconds.
    pub(crate) fn first_login(&self, address: SocketAddr, now_ms: i64) -> Result<(), i64> {
        self.first_by_address.take(address.into(), now_ms)
    }
}

fn log_cbc_summary(Summary { count, addresses: apps }: Summary) {
    tracing::warn!(
        count,
        apps,
        "AES-CBC tokens were refused; to accept them: zim admin app set --app-id N --cbc-tokens on"
    );
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
        assert_eq!(allowances.fail(address(1), AppKey(1), 0), Err(30_000), "the allowance of the address is used up");
        assert_eq!(allowances.wait_ms(address(1), AppKey(9), 0), 30_000);
        // The failure beyond the address's allowance did not count for the app.
        assert_eq!(allowances.wait_ms(address(2), AppKey(1), 0), 0);
        assert!(allowances.fail(address(2), AppKey(1), 0).is_ok());
        assert_eq!(allowances.fail(address(3), AppKey(1), 0), Err(20_000), "the allowance of the app is used up");
        assert_eq!(allowances.wait_ms(address(4), AppKey(1), 0), 20_000);
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
