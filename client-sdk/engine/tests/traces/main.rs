//! Traces: what the sync engine is told and what it does, as JSON, for clients in other languages. `protocol/traces`
//! holds 500 of them and explains the format. Each is replayed here, so a change of the engine's behaviour shows.
//!
//! `UPDATE=1 cargo nextest run -p zim-engine --test traces` writes them anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

/// The JSON of inputs and outputs.
mod json;
/// An engine and its store, driven by JSON.
mod player;
/// A small server, from whose logs the inputs come.
mod server;
/// The generator of traces.
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::player::Player;

const TRACES: u64 = 500;
/// Traces in a file.
const IN_A_FILE: u64 = 50;

/// A SplitMix64 generator, the same on every platform.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/traces")
}

fn file(index: u64) -> PathBuf {
    folder().join(format!("{:03}.jsonl", index * IN_A_FILE))
}

/// The recorded traces, in the order of their seeds.
fn recorded() -> Vec<Value> {
    let lines = |index| {
        let path = file(index);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let text: String = (0..TRACES / IN_A_FILE).map(lines).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn update() {
    for index in 0..TRACES / IN_A_FILE {
        let traces = (index * IN_A_FILE..(index + 1) * IN_A_FILE).map(script::record);
        let lines: String = traces.map(|trace| format!("{trace}\n")).collect();
        std::fs::write(file(index), lines).unwrap();
    }
}

#[test]
fn the_engine_does_what_the_traces_say() {
    if std::env::var_os("UPDATE").is_some() {
        update();
    }
    let traces = recorded();
    assert_eq!(traces.len() as u64, TRACES);
    let mut wrong = Vec::new();
    for trace in &traces {
        if let Err(difference) = Player::replay(trace) {
            wrong.push(format!("seed {}: {difference}", trace["seed"]));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} traces differ. If that is intended, write them anew with UPDATE=1 and say in the changelog what clients in \
         other languages must change.\n{}",
        wrong.len(),
        wrong.iter().take(3).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// What happens in all traces together: an input or an output that never occurs tests nothing.
#[test]
fn the_traces_contain_every_kind_of_input_and_output() {
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let traces = recorded();
    for step in traces.iter().flat_map(|trace| trace["steps"].as_array().unwrap()) {
        let input = step.as_object().unwrap().keys().find(|key| json::INPUTS.contains(&key.as_str()));
        found.entry("inputs").or_default().insert(input.expect("an input").clone());
        let then = &step["then"];
        for change in then["changes"].as_array().into_iter().flatten() {
            found.entry("changes").or_default().insert(change.as_object().unwrap().keys().next().unwrap().clone());
        }
        for progress in then["progress"].as_array().into_iter().flatten() {
            found.entry("progress").or_default().insert(progress.as_str().unwrap().to_owned());
        }
        let raised = |change: &Value| change["messages"]["raised"].is_array();
        if then["changes"].as_array().into_iter().flatten().any(raised) {
            found.entry("raised").or_default().insert("messages".to_owned());
        }
    }
    let of = |kind| found[kind].iter().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(of("inputs"), json::INPUTS.into());
    assert_eq!(of("changes"), json::CHANGES.into());
    assert_eq!(of("progress"), ["failed", "finished", "started"].into());
    assert_eq!(of("raised"), ["messages"].into());
}
