//! Offline push: when a device counts as away, and how long a push is tried.

use serde::{Deserialize, Serialize};

/// Offline push. The credentials at the push services are those of each app: `zim admin push`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Push {
    /// Milliseconds that a device has to say that it has stored a message before the message is pushed to it. Of the messages of a
    /// conversation within the same interval of this length only the last is pushed. Default: 2,000; at most 60,000.
    pub delay_ms: u32,
    /// How long an answer of a push service may take, milliseconds. Default: 10,000; at most 25,000.
    pub timeout_ms: u32,
    /// Seconds for which a push is tried again, and for which a push service keeps it for a device that it does not reach. An
    /// invitation to a call has until it ends. Default: a day; at most 28 days.
    pub valid_s: u32,
    /// Days for which it is kept what became of each push. Default: 7.
    pub log_days: u32,
    /// Push to browsers through services at private addresses. A client names the address, so it could reach what only this machine
    /// can. Default: no.
    pub allow_private_addresses: bool,
}

impl Default for Push {
    fn default() -> Self {
        Self { delay_ms: 2_000, timeout_ms: 10_000, valid_s: 86_400, log_days: 7, allow_private_addresses: false }
    }
}

impl Push {
    pub(super) fn problems(&self) -> Vec<String> {
        let rows = [
            ("delay_ms", self.delay_ms, 0, 60_000),
            ("timeout_ms", self.timeout_ms, 100, 25_000),
            ("valid_s", self.valid_s, 1, 28 * 86_400),
            ("log_days", self.log_days, 1, 366),
        ];
        let wrong = rows.into_iter().filter(|(_, value, least, most)| !(*least..=*most).contains(value));
        wrong
            .map(|(name, value, least, most)| format!("push.{name} is {value}; {least} to {most} are allowed"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_bounds() {
        assert!(Push::default().problems().is_empty());
        assert!(Push { delay_ms: 0, timeout_ms: 25_000, ..Push::default() }.problems().is_empty());
        let wrong = Push { delay_ms: 60_001, timeout_ms: 99, valid_s: 0, log_days: 367, ..Push::default() };
        let problems = wrong.problems();
        assert_eq!(problems.len(), 4);
        assert_eq!(problems[0], "push.delay_ms is 60001; 0 to 60000 are allowed");
    }
}
