//! Keeps count: every method has an SDK method and a test, every event that is raised is seen by a test, every error code that a
//! caller can meet is provoked by one. What of the reference is not there yet stands in `coverage/missing_*.txt`; those lists
//! can only get shorter, because a name that is there and still listed is a failure too.
//!
//! What is covered is read from the sources: a test is a `fn` in `integration-tests/tests` whose name begins with the method's;
//! an event is seen where a test names `Event::X` or `EventKind::X`, a code is provoked where a test names `ErrorCode::X`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use zim_protocol::{ErrorCode, EventKind, METHODS};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// This file names everything and proves nothing.
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

/// A crate's own sources, without its unit tests.
fn of_crate(name: &str) -> String {
    let all = sources(&PathBuf::from(HERE).join("..").join(name).join("src"), "tests.rs");
    let mut own = String::new();
    let mut lines = all.lines();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            own.push_str(line);
            own.push('\n');
        } else if lines.next().is_some_and(|item| item.ends_with('{')) {
            // What is formatted ends at the margin.
            lines.by_ref().find(|line| *line == "}");
        }
    }
    own
}

/// The names that follow `prefix` in a text.
fn names_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_name = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
    text.match_indices(prefix)
        .filter(|(at, _)| !text[..*at].ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_'))
        .map(|(at, _)| text[at + prefix.len()..].chars().take_while(is_name).collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}

/// A committed list: names, each perhaps with a reason.
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
    let there: Vec<&String> = listed.difference(missing).collect();
    assert!(there.is_empty(), "{file}: these are covered now; take them off the list: {there:?}");
    let gone: Vec<&String> = missing.difference(&listed).collect();
    assert!(gone.is_empty(), "{file}: write a test for these (see the head of coverage.rs): {gone:?}");
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
fn every_method_of_the_reference_is_there_with_a_test_or_known_to_be_missing() {
    let (tests, sdk) = (names_after(&tests(), "fn "), of_crate("client-sdk"));
    let mut public = names_after(&sdk, "pub fn ");
    public.extend(names_after(&sdk, "pub async fn "));
    let missing = list("reference_methods.txt")
        .into_iter()
        .filter(|(_, name)| !(public.contains(name) && has_test(&tests, name)))
        .map(|(reference, _)| reference)
        .collect();
    assert_list("missing_methods.txt", &missing);
}

#[test]
fn every_event_is_seen_by_a_test_or_known_to_be_missing() {
    let tests = tests();
    let mut seen = names_after(&tests, "EventKind::");
    seen.extend(names_after(&tests, "Event::"));
    let all: BTreeSet<String> = EventKind::ALL.iter().map(|kind| format!("{kind:?}")).collect();
    assert_eq!(all.len(), 60);
    let missing: BTreeSet<String> = all.difference(&seen).cloned().collect();
    assert_list("missing_events.txt", &missing);
    // What the SDK raises and nobody can see yet has its reason on the list.
    let raised = names_after(&of_crate("client-sdk"), "Event::");
    let reasons = list("missing_events.txt");
    for name in raised.intersection(&missing) {
        assert!(!reasons[name].is_empty(), "the SDK raises {name}: a test must see it");
    }
}

#[test]
fn every_error_code_that_can_be_met_is_provoked_by_a_test() {
    let provoked = names_after(&tests(), "ErrorCode::");
    let all: BTreeSet<String> = (0..2)
        .chain(6_000_000..6_001_000)
        .filter_map(|code| ErrorCode::try_from(code).ok())
        .map(|code| format!("{code:?}"))
        .collect();
    assert_eq!(all.len(), 169);
    let missing: BTreeSet<String> = all.difference(&provoked).cloned().collect();
    assert_list("missing_errors.txt", &missing);
    // What server, SDK or protocol can say and no test provokes has its reason on the list.
    let reasons = list("missing_errors.txt");
    for krate in ["server", "client-sdk", "protocol"] {
        for name in names_after(&of_crate(krate), "ErrorCode::").intersection(&missing) {
            assert!(!reasons[name].is_empty(), "{krate} can fail with {name}: a test must provoke it");
        }
    }
}
