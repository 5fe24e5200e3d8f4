//! Checks the coverage: every method has an SDK method and a test, a test sees every event that is raised, and a test
//! provokes every error code that a caller can get. `coverage/missing_*.txt` lists what is missing of the reference.
//! The lists can only get shorter, because a listed name that is covered fails too.
//!
//! Coverage is read from the sources: a test is a `fn` in `integration-tests/tests` whose name begins with the
//! method's, and with that of no longer one (`owner.rs`); an event is seen where a test names `Event::X` or `EventKind::X`, and a code is
//! provoked where a test names `ErrorCode::X`, unless it says that they have not come (`seen.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use zim_protocol::{ErrorCode, EventKind, METHODS};

use crate::owner::{Methods, in_tests};
use crate::seen::{names_after, shown};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// These files name everything and cover nothing.
const OURS: [&str; 4] = ["coverage.rs", "conformance.rs", "measured.rs", "seen.rs"];

/// The text of all Rust files under a folder, without comments.
fn sources(folder: &Path, skip: &[&str]) -> String {
    let mut all = String::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !skip.iter().any(|name| path.ends_with(name))
            {
                for line in
                    fs::read_to_string(&path).unwrap().lines().filter(|line| !line.trim_start().starts_with("//"))
                {
                    all.push_str(line);
                    all.push('\n');
                }
            }
        }
    }
    all
}

fn tests() -> String {
    sources(&PathBuf::from(HERE).join("tests"), &OURS)
}

/// The sources of a crate, without unit tests.
fn of_crate(name: &str) -> String {
    let all = sources(&PathBuf::from(HERE).join("..").join(name).join("src"), &["tests.rs"]);
    let mut own = String::new();
    let mut lines = all.lines();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            own.push_str(line);
            own.push('\n');
        } else if lines.next().is_some_and(|item| item.ends_with('{')) {
            // In formatted code an item ends with a brace at the margin.
            lines.by_ref().find(|line| *line == "}");
        }
    }
    own
}

/// Reads a committed list of names, each with an optional reason.
pub(crate) fn list(file: &str) -> BTreeMap<String, String> {
    let path = PathBuf::from(HERE).join("tests/api/coverage").join(file);
    let lines = fs::read_to_string(path).unwrap();
    lines
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').map_or((line, ""), |(name, rest)| (name, rest.trim())))
        .map(|(name, rest)| (name.to_owned(), rest.trim_start_matches("- ").to_owned()))
        .collect()
}

fn assert_list(file: &str, missing: &BTreeSet<String>) {
    let listed: BTreeSet<String> = list(file).into_keys().collect();
    let covered: Vec<&String> = listed.difference(missing).collect();
    assert!(covered.is_empty(), "{file}: these are covered now, remove them from the list: {covered:?}");
    let uncovered: Vec<&String> = missing.difference(&listed).collect();
    assert!(uncovered.is_empty(), "{file}: write tests for these (see the head of coverage.rs): {uncovered:?}");
}

/// The rows of the reference's table of methods.
pub(crate) fn reference() -> Vec<Vec<String>> {
    let table =
        fs::read_to_string(PathBuf::from(HERE).join("../protocol/tests/contract/reference/methods.tsv")).unwrap();
    table.lines().skip(1).map(|row| row.split('\t').map(str::to_owned).collect()).collect()
}

/// The names of the SDK's methods.
fn sdk() -> BTreeSet<String> {
    let sdk = of_crate("client-sdk");
    let mut public = names_after(&sdk, "pub fn ");
    public.extend(names_after(&sdk, "pub async fn "));
    public
}

/// The names of the methods of the wire, with those of the operator's service.
fn wire() -> BTreeSet<String> {
    let protos = fs::read_dir(PathBuf::from(HERE).join("../protocol/proto/zim/v1")).unwrap();
    let texts = protos.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let names: BTreeSet<String> = texts.flat_map(|text| names_after(&text, "  rpc ")).collect();
    let snake = |name: &String| {
        let words = name.chars().flat_map(|letter| {
            letter.is_ascii_uppercase().then_some('_').into_iter().chain([letter.to_ascii_lowercase()])
        });
        words.collect::<String>().trim_start_matches('_').to_owned()
    };
    names.iter().map(snake).collect()
}

/// All methods that a test can belong to.
pub(crate) fn methods() -> Methods {
    let rows = reference();
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row[0].as_str(), row[2].as_str())).collect();
    let of_reference: Vec<String> = rows.iter().map(|row| in_tests(&rows, *row)).collect();
    let wire = wire();
    assert!(METHODS.iter().all(|method| wire.contains(method.name)));
    Methods::new(of_reference.iter().chain(&wire).map(String::as_str), sdk())
}

/// The methods that have a test of their own.
fn tested() -> BTreeSet<String> {
    let methods = methods();
    names_after(&tests(), "fn ").iter().filter_map(|test| methods.owner(test)).map(str::to_owned).collect()
}

#[test]
fn every_method_of_the_wire_has_an_sdk_method_and_a_test() {
    let (tested, sdk) = (tested(), sdk());
    for method in METHODS {
        assert!(tested.contains(method.name), "no test of {}: name one {}_…", method.path, method.name);
        assert!(method.internal || sdk.contains(method.name), "no SDK method {} for {}", method.name, method.path);
    }
}

#[test]
fn every_method_of_the_reference_has_a_test_or_is_listed_as_missing() {
    let (tested, sdk, table) = (tested(), sdk(), reference());
    let rows: Vec<(&str, &str)> = table.iter().map(|row| (row[0].as_str(), row[2].as_str())).collect();
    let missing = rows
        .iter()
        .zip(&table)
        .filter(|(row, _)| !(sdk.contains(row.1) && tested.contains(&in_tests(&rows, **row))))
        .map(|(_, row)| row[1].clone())
        .collect();
    assert_list("missing_methods.txt", &missing);
}

#[test]
fn every_event_is_seen_by_a_test_or_listed_as_missing() {
    let tests = shown(&tests());
    let mut seen = names_after(&tests, "EventKind::");
    seen.extend(names_after(&tests, "Event::"));
    let all: BTreeSet<String> = EventKind::ALL.iter().map(|kind| format!("{kind:?}")).collect();
    assert_eq!(all.len(), 62);
    let missing: BTreeSet<String> = all.difference(&seen).cloned().collect();
    assert_list("missing_events.txt", &missing);
    // An event that the SDK raises but no test can see has a reason on the list.
    let raised = names_after(&of_crate("client-sdk"), "Event::");
    let reasons = list("missing_events.txt");
    for name in raised.intersection(&missing) {
        assert!(!reasons[name].is_empty(), "the SDK raises {name}: a test must see it");
    }
}

#[test]
fn every_error_code_is_provoked_by_a_test_or_listed_as_missing() {
    let provoked = names_after(&shown(&tests()), "ErrorCode::");
    let all: BTreeSet<String> = (0..2)
        .chain(6_000_000..6_001_000)
        .filter_map(|code| ErrorCode::try_from(code).ok())
        .map(|code| format!("{code:?}"))
        .collect();
    assert_eq!(all.len(), 169);
    let missing: BTreeSet<String> = all.difference(&provoked).cloned().collect();
    assert_list("missing_errors.txt", &missing);
    let reasons = list("missing_errors.txt");
    for name in &missing {
        assert!(!reasons[name].is_empty(), "say why no test provokes {name}");
    }
}
