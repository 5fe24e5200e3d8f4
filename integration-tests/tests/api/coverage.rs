//! Checks the coverage: every method has an SDK method and a test, a test sees every event that is raised, and a test
//! provokes every error code that a caller can get. `coverage/missing_*.txt` lists what is missing of the reference.
//! The lists can only get shorter, because a listed name that is covered fails too.
//!
//! Coverage is read from the sources: a test is a `fn` in `integration-tests/tests` whose name begins with the
//! method's; an event is seen where a test names `Event::X` or `EventKind::X`; a code is provoked where a test names
//! `ErrorCode::X`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use zim_protocol::{ErrorCode, EventKind, METHODS};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// This file, which names everything and covers nothing.
const THIS: &str = "coverage.rs";

/// The text of all Rust files under a folder, without comments.
fn sources(folder: &Path, skip: &str) -> String {
    let mut all = String::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(skip) {
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
    sources(&PathBuf::from(HERE).join("tests"), THIS)
}

/// The sources of a crate, without unit tests.
fn of_crate(name: &str) -> String {
    let all = sources(&PathBuf::from(HERE).join("..").join(name).join("src"), "tests.rs");
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

/// Returns the names that follow `prefix` in a text.
fn names_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_name = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
    text.match_indices(prefix)
        .filter(|(at, _)| !text[..*at].ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_'))
        .map(|(at, _)| text[at + prefix.len()..].chars().take_while(is_name).collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Reads a committed list of names, each with an optional reason.
fn list(file: &str) -> BTreeMap<String, String> {
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

fn has_test(tests: &BTreeSet<String>, method: &str) -> bool {
    tests.iter().any(|name| name.strip_prefix(method).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')))
}

#[test]
fn every_method_of_the_wire_has_an_sdk_method_and_a_test() {
    let (tests, sdk) = (names_after(&tests(), "fn "), names_after(&of_crate("client-sdk"), "pub fn "));
    let asynchronous = names_after(&of_crate("client-sdk"), "pub async fn ");
    for method in METHODS {
        assert!(has_test(&tests, method.name), "no test of {}: name one {}_…", method.path, method.name);
        let is_in_sdk = sdk.contains(method.name) || asynchronous.contains(method.name);
        assert!(method.internal || is_in_sdk, "no SDK method {} for {}", method.name, method.path);
    }
}

#[test]
fn every_method_of_the_reference_has_a_test_or_is_listed_as_missing() {
    let (tests, sdk) = (names_after(&tests(), "fn "), of_crate("client-sdk"));
    let mut public = names_after(&sdk, "pub fn ");
    public.extend(names_after(&sdk, "pub async fn "));
    let table =
        fs::read_to_string(PathBuf::from(HERE).join("../protocol/tests/contract/reference/methods.tsv")).unwrap();
    let rows = table.lines().skip(1).map(|row| row.split('\t').collect::<Vec<_>>());
    let missing = rows
        .filter(|row| !(public.contains(row[2]) && has_test(&tests, row[2])))
        .map(|row| row[1].to_owned())
        .collect();
    assert_list("missing_methods.txt", &missing);
}

#[test]
fn every_event_is_seen_by_a_test_or_listed_as_missing() {
    let tests = tests();
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
    let provoked = names_after(&tests(), "ErrorCode::");
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
