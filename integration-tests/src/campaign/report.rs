//! The report of a campaign, as tables in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::checks::{CHECKS, WAITS};
use super::kind::Kind;
use super::plan::Database;
use super::run::{Outcome, Tally};
use crate::grouped::grouped;

/// The sums over all runs of a campaign.
#[derive(Debug, Default)]
pub struct Report {
    runs: BTreeMap<&'static str, usize>,
    first: Option<u64>,
    last: u64,
    has_nodes: bool,
    total: Tally,
    kinds: BTreeMap<Kind, usize>,
    found: Vec<(u64, String)>,
    took: Duration,
}

impl Report {
    /// Adds the outcome of a run.
    pub fn add(&mut self, outcome: &Outcome) {
        let database = match (outcome.plan.database, outcome.plan.nodes) {
            (Database::Sqlite, _) => "SQLite",
            (Database::Postgres, 1) => "PostgreSQL",
            (Database::Postgres, _) => "two nodes with PostgreSQL and NATS",
        };
        self.has_nodes |= outcome.plan.nodes > 1;
        *self.runs.entry(database).or_default() += 1;
        self.seed(outcome.plan.seed);
        for kind in &outcome.plan.kinds {
            *self.kinds.entry(*kind).or_default() += 1;
        }
        let (total, tally) = (&mut self.total, &outcome.tally);
        total.calls += tally.calls;
        total.acknowledged += tally.acknowledged;
        total.failed += tally.failed;
        total.messages += tally.messages;
        total.events += tally.events;
        total.tasks += tally.tasks;
        total.rows += tally.rows;
        total.server_kills += tally.server_kills;
        total.lost_leases += tally.lost_leases;
        total.client_kills += tally.client_kills;
        total.cuts += tally.cuts;
        total.played += tally.played;
        total.checked += tally.checked;
        total.server_bytes = total.server_bytes.max(tally.server_bytes);
        total.client_bytes = total.client_bytes.max(tally.client_bytes);
        for violation in &outcome.violations {
            self.found.push((outcome.plan.seed, violation.name.to_owned()));
        }
    }

    /// Adds a run that the harness could not execute to its end.
    pub fn add_failure(&mut self, seed: u64, error: &anyhow::Error) {
        self.seed(seed);
        self.found.push((seed, format!("the run did not end: {error:#}")));
    }

    /// Sets how long the campaign took.
    pub fn took(&mut self, took: Duration) {
        self.took = took;
    }

    fn seed(&mut self, seed: u64) {
        self.first = Some(self.first.map_or(seed, |first| first.min(seed)));
        self.last = self.last.max(seed);
    }

    /// Whether there are no violations.
    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns tables in Markdown of what was done, what was checked and what was found.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |cells: &[&str]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        let runs: usize = self.runs.values().sum();
        row(&["", "number"]);
        row(&["---", "---:"]);
        row(&["seeds", &format!("{} to {}", self.first.unwrap_or(0), self.last)]);
        for (database, runs) in &self.runs {
            row(&[&format!("runs on {database}"), &grouped(*runs)]);
        }
        for (what, count) in [
            ("requests", self.total.calls),
            ("of these, acknowledged", self.total.acknowledged),
            ("of these, failed or not answered because a process was killed", self.total.failed),
            ("messages stored", self.total.messages),
            ("events recorded", self.total.events),
            ("tasks scheduled", self.total.tasks),
            ("device rows compared with those of fresh devices", self.total.rows),
            ("SIGKILLs to a server, its database or NATS", self.total.server_kills),
            ("nodes that ended because their lease had", self.total.lost_leases),
            ("SIGKILLs to a client", self.total.client_kills),
            ("links cut", self.total.cuts),
            ("minutes", usize::try_from(self.took.as_secs() / 60).unwrap_or(0)),
        ] {
            row(&[what, &grouped(count)]);
        }
        if !self.total.played.is_zero() {
            let [played, checked] = [self.total.played, self.total.checked].map(|took| took.as_secs());
            let [server, client] = [self.total.server_bytes, self.total.client_bytes].map(|bytes| bytes >> 20);
            row(&["seconds with faults", &played.to_string()]);
            row(&["seconds of checks", &checked.to_string()]);
            row(&["most memory of a server, MB", &server.to_string()]);
            row(&["most memory of a client, MB", &client.to_string()]);
        }
        let _ = writeln!(text);
        let mut row = |cells: &[&str]| {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        row(&["fault (a run often has several at once)", "runs with it"]);
        row(&["---", "---:"]);
        for kind in Kind::ALL.into_iter().filter(|kind| self.has_nodes || !kind.is_of_nodes()) {
            row(&[kind.title(), &grouped(self.kinds.get(&kind).copied().unwrap_or(0))]);
        }
        let _ = writeln!(text);
        let mut row = |cells: &[&str]| {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        row(&["checked after each run", "violations"]);
        row(&["---", "---:"]);
        let checks = CHECKS.iter().map(|(name, what, _)| (*name, *what)).chain(WAITS.iter().copied());
        for (name, what) in checks {
            let count = self.found.iter().filter(|(_, found)| found == name).count();
            row(&[what, &grouped(count)]);
        }
        if !self.found.is_empty() {
            let _ = writeln!(text, "\n{runs} runs, with violations in these:\n");
            for (seed, what) in &self.found {
                let _ = writeln!(text, "- seed {seed}: {what}");
            }
        }
        text
    }
}
