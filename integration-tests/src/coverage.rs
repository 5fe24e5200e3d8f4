//! Notes what a test was told and what it was answered, for `just coverage`: a file for each test, in the folder that
//! `ZIM_TEST_COVERAGE` names. Without it nothing is noted. `tests/api/measured.rs` compares the notes with the reference.
//!
//! - `event NAME`: a wait of the test would have gone on without this event, a handler of the test had it, or the test asked for
//!   those of its kind and there were some.
//! - `error CODE`: the test took this code from a call that failed.
//! - `answer METHOD CODE`: a server in the process of the test answered so.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;

use parking_lot::Mutex;
use zim_protocol::{ErrorEvent, Event, EventKind, TokenWillExpireEvent};
use zim_server::Server;

/// Names the folder of the notes.
const FOLDER: &str = "ZIM_TEST_COVERAGE";

/// The most events of a wait that is looked into. Longer waits cost more than they tell: others have the same kinds.
const MOST_EVENTS: usize = 1_000;

/// The longest name of a file.
const MOST_CHARS: usize = 200;

#[derive(Debug)]
struct Notes {
    file: File,
    lines: HashSet<String>,
}

impl Notes {
    fn open() -> Option<Mutex<Self>> {
        let folder = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty())?;
        fs::create_dir_all(&folder).unwrap();
        let file = File::create(Path::new(&folder).join(name_of_process())).unwrap();
        Some(Mutex::new(Self { file, lines: HashSet::new() }))
    }
}

/// Returns the notes of this process, which runs one test; `None` if nothing is noted.
fn notes() -> Option<&'static Mutex<Notes>> {
    static NOTES: OnceLock<Option<Mutex<Notes>>> = OnceLock::new();
    NOTES.get_or_init(Notes::open).as_ref()
}

/// Returns the name of the file of this process.
fn name_of_process() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let test = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    file_name(&program, &test)
}

/// Returns the name of the file of a test, with dots between its parts. The last part is the test's function.
fn file_name(program: &str, test: &str) -> String {
    // Cargo adds a hash to the name of a test's program.
    let program = program.rsplit_once('-').map_or(program, |(name, _)| name);
    let name = format!("{program}.{}", test.replace("::", "."));
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
    name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).take(MOST_CHARS).collect()
}

/// Writes a line, once.
fn note(line: impl FnOnce() -> String) {
    let Some(notes) = notes() else { return };
    let (line, mut notes) = (line(), notes.lock());
    if !notes.lines.contains(&line) {
        writeln!(notes.file, "{line}").unwrap();
        notes.lines.insert(line);
    }
}

fn line_of(kind: EventKind) -> String {
    format!("event {kind}")
}

/// Notes that a test was told of an event.
pub(crate) fn note_event(kind: EventKind) {
    note(|| line_of(kind));
}

/// Notes that a test took this code from a call that failed.
pub(crate) fn note_error(code: i32) {
    note(|| format!("error {code}"));
}

/// Notes the kinds of events that a wait needed. `seen` is what met its condition.
pub(crate) fn note_needed(seen: &[Event], is_met: impl Fn(&[Event]) -> bool) {
    let Some(notes) = notes() else { return };
    if seen.len() > MOST_EVENTS {
        return;
    }
    let mut kinds = all_kinds(seen);
    kinds.retain(|kind| !notes.lock().lines.contains(&line_of(*kind)));
    if !kinds.is_empty() {
        needed(seen, &kinds, is_met).into_iter().for_each(note_event);
    }
}

/// Returns the kinds of these events.
fn all_kinds(seen: &[Event]) -> Vec<EventKind> {
    let mut kinds: Vec<EventKind> = seen.iter().map(Event::kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Returns which of these kinds a condition needs: with other events in their places it is not met.
fn needed(seen: &[Event], kinds: &[EventKind], is_met: impl Fn(&[Event]) -> bool) -> Vec<EventKind> {
    let mut changed = seen.to_vec();
    let mut needed = Vec::new();
    for kind in kinds {
        for event in changed.iter_mut().filter(|event| event.kind() == *kind) {
            *event = another_than(*kind);
        }
        // A condition that cannot even be asked needs the event as well.
        if !catch_unwind(AssertUnwindSafe(|| is_met(&changed))).unwrap_or(false) {
            needed.push(*kind);
        }
        for (changed, event) in changed.iter_mut().zip(seen).filter(|(_, event)| event.kind() == *kind) {
            *changed = event.clone();
        }
    }
    needed
}

/// An event that says nothing, of another kind.
fn another_than(kind: EventKind) -> Event {
    if kind == EventKind::TokenWillExpire {
        Event::Error(ErrorEvent::default())
    } else {
        Event::TokenWillExpire(TokenWillExpireEvent::default())
    }
}

/// Notes what the servers of this process have answered so far.
pub(crate) fn note_answers() {
    if notes().is_none() {
        return;
    }
    for line in Server::metrics().lines() {
        if let Some((method, code)) = answer(line) {
            note(|| format!("answer {method} {code}"));
        }
    }
}

/// Reads the method and the code of a line of the metrics that counts answers.
fn answer(line: &str) -> Option<(&str, &str)> {
    let (method, rest) = line.strip_prefix("zim_requests_total{method=\"")?.split_once("\",code=\"")?;
    Some((method, rest.split_once('"')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_a_server_are_read_from_its_metrics() {
        let line = r#"zim_requests_total{method="Group/JoinGroup",code="6000523"} 2"#;
        assert_eq!(answer(line), Some(("Group/JoinGroup", "6000523")));
        assert_eq!(answer(r#"zim_request_seconds_count{method="Group/JoinGroup"} 3"#), None);
        assert_eq!(answer("# TYPE zim_requests_total counter"), None);
    }

    #[test]
    fn a_file_is_named_after_the_program_and_the_test() {
        assert_eq!(file_name("api-0123456789abcdef", "group::join_group_twice"), "api.group.join_group_twice");
        assert_eq!(file_name("test-client", "/some/a b"), "test._some_a_b");
    }

    #[test]
    fn a_wait_needs_the_kinds_without_which_it_goes_on() {
        let seen = [
            Event::TokenWillExpire(TokenWillExpireEvent { second: 30 }),
            Event::Error(ErrorEvent { code: 1, message: "old".into() }),
            Event::Error(ErrorEvent { code: 2, message: "new".into() }),
        ];
        let is_two = |event: &Event| matches!(event, Event::Error(error) if error.code == 2);
        let all = all_kinds(&seen);
        assert_eq!(all, [EventKind::Error, EventKind::TokenWillExpire]);
        assert_eq!(needed(&seen, &all, |seen| seen.iter().any(is_two)), [EventKind::Error]);
        assert_eq!(needed(&seen, &all, |seen| is_two(seen.last().unwrap())), [EventKind::Error]);
        assert!(needed(&seen, &all, |seen| seen.len() == 3).is_empty());
        let is_absent = |seen: &[Event]| seen.iter().all(|event| event.kind() != EventKind::UserInfoUpdated);
        assert!(needed(&seen, &all, is_absent).is_empty());
        let both = |seen: &[Event]| seen[0].kind() == EventKind::TokenWillExpire && is_two(&seen[2]);
        assert_eq!(needed(&seen, &all, both), all);
        // The condition takes the event for granted.
        let taken = |seen: &[Event]| match &seen[1] {
            Event::Error(error) => error.code == 1,
            other => panic!("{other:?}"),
        };
        assert_eq!(needed(&seen, &all, taken), [EventKind::Error]);
    }
}
