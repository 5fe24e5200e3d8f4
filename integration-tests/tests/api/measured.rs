//! Compares what the tests were told and answered with the tables of the reference: each event was told, each error code answered
//! to a test that took it, each method of the wire answered without one, and each method answered with each code that its documentation
//! lists. `just coverage` runs all tests, which note it (`src/coverage.rs`), and then this one. What has not come does not count, whatever the text
//! of a test says.
//!
//! The lists of exceptions (`coverage/missing_*.txt`) say why something cannot come. They can only get shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use zim_protocol::{ErrorCode, EventKind, METHODS};

use crate::coverage::{list, methods, reference};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// What all tests noted.
#[derive(Debug, Default, PartialEq)]
struct Noted {
    events: BTreeSet<String>,
    errors: BTreeSet<i32>,
    /// The paths of methods, with the codes that servers answered.
    answers: BTreeSet<(String, i32)>,
    /// The functions of tests, with the codes that they took.
    taken: BTreeSet<(String, i32)>,
}

impl Noted {
    /// Adds the notes of a test.
    fn add(&mut self, test: &str, notes: &str) {
        let code = |word: &str| word.parse::<i32>().unwrap();
        for line in notes.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["event", name] => {
                    self.events.insert(name.to_owned());
                }
                ["error", number] => {
                    self.errors.insert(code(number));
                    self.taken.insert((test.to_owned(), code(number)));
                }
                ["answer", method, number] => {
                    self.answers.insert((method.to_owned(), code(number)));
                }
                _ => panic!("{test}: {line:?} is no note"),
            }
        }
    }

    fn read() -> Self {
        let folder = std::env::var_os("ZIM_TEST_COVERAGE").map(PathBuf::from);
        let folder = folder.unwrap_or_else(|| panic!("ZIM_TEST_COVERAGE is not set: run `just coverage`"));
        let mut noted = Self::default();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let test = name.rsplit('.').next().unwrap_or_default();
            noted.add(test, &fs::read_to_string(&path).unwrap());
        }
        if may_read_everything() {
            noted.add("send_media_message", &format!("error {}", ErrorCode::MessageModuleFilePermissionDenied as i32));
        }
        noted
    }
}

/// Whether the tests run as a user who may read every file: then no file can be refused.
fn may_read_everything() -> bool {
    #[cfg(unix)]
    let is_root = rustix::process::geteuid().is_root();
    #[cfg(not(unix))]
    let is_root = true;
    is_root
}

fn table(file: &str) -> String {
    fs::read_to_string(PathBuf::from(HERE).join("../protocol/tests/contract/reference").join(file)).unwrap()
}

/// The events of the reference, and those of ours.
fn events() -> BTreeSet<String> {
    let table = table("events.txt");
    let of_reference = table.lines().filter(|line| !line.is_empty() && !line.starts_with(' '));
    let of_reference = of_reference.map(|line| line.trim_end_matches(" (deprecated)"));
    of_reference.chain(EventKind::ALL.iter().map(|kind| kind.name())).map(str::to_owned).collect()
}

/// The error codes of the reference, with our names.
fn errors() -> BTreeMap<i32, String> {
    let code = |line: &str| line.split('\t').next().unwrap_or_default().parse::<i32>().unwrap();
    let name = |code: i32| (code, format!("{:?}", ErrorCode::try_from(code).unwrap()));
    table("errors.tsv").lines().skip(1).map(code).map(name).collect()
}

/// The codes under `# Errors` in the documentation of each method of the SDK.
fn documented(source: &str) -> BTreeMap<String, BTreeSet<i32>> {
    let (mut all, mut codes, mut is_errors) = (BTreeMap::new(), BTreeSet::new(), false);
    for line in source.lines().map(str::trim_start) {
        if let Some(text) = line.strip_prefix("///") {
            if let Some(title) = text.trim().strip_prefix("# ") {
                is_errors = title == "Errors";
            }
            let numbers = text.split(|letter: char| !letter.is_ascii_digit());
            let found = numbers.filter(|number| is_errors && number.len() == 7 && number.starts_with("60"));
            codes.extend(found.filter_map(|number| number.parse::<i32>().ok()));
        } else if !line.starts_with("#[") {
            let rest = ["pub fn ", "pub async fn "].into_iter().find_map(|start| line.strip_prefix(start));
            if let Some(rest) = rest.filter(|_| !codes.is_empty()) {
                let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                all.insert(name, std::mem::take(&mut codes));
            }
            codes.clear();
            is_errors = false;
        }
    }
    all
}

/// The methods of the reference with the codes of their documentation: `join_room:6000326`.
fn refusals() -> BTreeMap<String, (String, i32)> {
    let names: BTreeSet<String> = reference().into_iter().map(|row| row[2].clone()).collect();
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(PathBuf::from(HERE).join("../client-sdk/src")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "rs") {
            for (name, codes) in documented(&fs::read_to_string(path).unwrap()) {
                let of_reference = codes.into_iter().filter(|_| names.contains(&name));
                all.extend(of_reference.map(|code| (format!("{name}:{code}"), (name.clone(), code))));
            }
        }
    }
    all
}

/// The methods of the reference that the wire has, with their paths.
fn wire() -> BTreeMap<String, &'static str> {
    let names: BTreeSet<String> = reference().into_iter().map(|row| row[2].clone()).collect();
    let all = METHODS.iter().map(|method| (method.name.to_owned(), method.path));
    all.filter(|(name, _)| names.contains(name)).collect()
}

/// Compares what is missing with a list of exceptions; returns what is wrong.
fn compare(what: &str, file: &str, missing: &BTreeSet<String>) -> Vec<String> {
    let listed: BTreeSet<String> = list(file).into_keys().collect();
    let mut wrong: Vec<String> = missing.difference(&listed).map(|one| format!("{what}: {one:?}")).collect();
    let covered = listed.difference(missing);
    wrong.extend(covered.map(|one| format!("{one:?} is covered now: remove it from coverage/{file}")));
    wrong
}

/// Returns what the notes lack.
fn wrong(noted: &Noted) -> Vec<String> {
    let missing: BTreeSet<String> = events().difference(&noted.events).cloned().collect();
    let mut wrong = compare("no test was told", "missing_events.txt", &missing);
    let untaken = errors().into_iter().filter(|(code, _)| !noted.errors.contains(code));
    let missing: BTreeSet<String> = untaken.map(|(_, name)| name).collect();
    wrong.extend(compare("no test took", "missing_errors.txt", &missing));
    let wire = wire();
    for (method, path) in &wire {
        if !noted.answers.contains(&((*path).to_owned(), 0)) {
            wrong.push(format!("no server answered {method} without an error"));
        }
    }
    let all = methods();
    let taken: BTreeSet<(&str, i32)> = noted
        .taken
        .iter()
        .flat_map(|(test, code)| all.all(test).into_iter().map(move |method| (method, *code)))
        .collect();
    let is_answered = |name: &str, code: i32| {
        taken.contains(&(name, code))
            || wire.get(name).is_some_and(|path| noted.answers.contains(&((*path).to_owned(), code)))
    };
    let open = refusals().into_iter().filter(|(_, (name, code))| !is_answered(name, *code));
    let missing: BTreeSet<String> = open.map(|(pair, _)| pair).collect();
    let what = "no test of the method took the code of its documentation, and no server answered it";
    wrong.extend(compare(what, "missing_refusals.txt", &missing));
    wrong
}

#[test]
#[ignore = "`just coverage` runs it after all others"]
fn all_that_the_reference_has_was_told_and_answered() {
    let wrong = wrong(&Noted::read());
    assert!(wrong.is_empty(), "write tests for these (docs/testing.md says what counts):\n{}", wrong.join("\n"));
}

#[test]
fn without_notes_everything_is_missing() {
    let wrong = wrong(&Noted::default());
    for expected in [
        "no test was told: \"peerMessageReceived\"",
        "no test was told: \"receivePeerMessage\"",
        "no test took: \"RoomModuleTheRoomDoesNotExist\"",
        "no server answered join_room without an error",
    ] {
        assert!(wrong.iter().any(|one| one == expected), "{expected}");
    }
    assert!(wrong.iter().any(|one| one.ends_with(": \"join_room:6000322\"")), "{wrong:#?}");
    // What nothing provokes is not asked for.
    assert!(!wrong.iter().any(|one| one.contains("CommonModuleExceedDauLimit")));
}

#[test]
fn a_refusal_counts_for_the_methods_of_its_test_or_with_the_answer_of_a_server() {
    let missing = |noted: &Noted| wrong(noted).iter().any(|one| one.ends_with(": \"join_room:6000322\""));
    let mut of_another = Noted::default();
    of_another.add("leave_room_fails", "error 6000322\nanswer Room/LeaveRoom 6000322\nanswer Room/JoinRoom 0\n");
    assert!(missing(&of_another));
    let mut of_its_test = Noted::default();
    of_its_test.add("leave_room_and_join_room_fail", "error 6000322\n");
    assert!(!missing(&of_its_test));
    let mut of_a_server = Noted::default();
    of_a_server.add("a_table_of_refusals", "event roomStateChanged\nanswer Room/JoinRoom 6000322\n");
    assert!(!missing(&of_a_server));
    assert!(of_a_server.events.contains("roomStateChanged"));
}

#[test]
fn the_codes_under_errors_are_found() {
    let source = "    /// Joins 6000001.\n    ///\n    /// # Errors\n    /// - 6000322: none. 6000326: it\n    /// connects, 5 times.\n\
                  \n    #[must_use]\n    pub fn join(&self) {}\n    /// # Errors\n    /// 6000001: x.\n    #[must_use]\n    \
                  pub async fn leave_room(\n    /// # Errors\n    /// 6000001\n    fn own() {}\n    pub fn plain() {}\n";
    let found = documented(source);
    assert_eq!(found, BTreeMap::from([("leave_room".to_owned(), BTreeSet::from([6_000_001]))]));
    let found = documented(&source.replace("times.\n\n", "times.\n"));
    assert_eq!(found["join"], BTreeSet::from([6_000_322, 6_000_326]));
}
