//! What the text of a test shows: the names of events that it sees and of errors that it provokes. What it says not to have come is none
//! of them, and neither is what a helper would see of which it says so.

use std::collections::{BTreeMap, BTreeSet};

/// Returns code without comments and without what is in literals, with one space where there is any between words.
pub(crate) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(length) = raw_string(rest).filter(|_| !code.ends_with(is_word)) {
            code.push_str("\"\"");
            rest = &rest[length..];
        } else if first == '"' {
            code.push_str("\"\"");
            rest = &rest[closing(rest, '"')..];
        } else if let Some(length) = letter(rest) {
            code.push_str("' '");
            rest = &rest[length..];
        } else if first.is_whitespace() {
            rest = rest.trim_start();
            // A chain of calls goes on in the next line.
            if !rest.starts_with('.') && !code.ends_with('(') {
                code.push(' ');
            }
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// The length of the raw string at the beginning of a text.
fn raw_string(text: &str) -> Option<usize> {
    let marks = text.strip_prefix('r').or_else(|| text.strip_prefix("br"))?;
    let hashes = marks.len() - marks.trim_start_matches('#').len();
    let body = marks[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text.len() - body.len() + body.find(&end)? + end.len())
}

/// Where a literal ends that begins with a mark.
fn closing(text: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if letter == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character literal at the beginning of a text. A lifetime is none.
fn letter(text: &str) -> Option<usize> {
    let mut letters = text.strip_prefix('\'')?.chars();
    let (first, second) = (letters.next()?, letters.next()?);
    (first == '\\' || second == '\'').then(|| closing(text, '\''))
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Whether a word begins here.
fn is_start(code: &str, at: usize) -> bool {
    !code[..at].ends_with(is_word)
}

/// The place after the bracket that closes the one at `open`.
fn after_bracket(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in code[open..].char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return open + at + letter.len_utf8();
        }
    }
    code.len()
}

/// Where the call begins that ends at `end`, with what it is a method of.
fn call_start(code: &str, end: usize) -> usize {
    let (mut depth, mut start) = (0_usize, end);
    for (at, letter) in code[..end].char_indices().rev() {
        match letter {
            ')' | ']' => depth += 1,
            '(' | '[' if depth == 0 => break,
            '(' | '[' => depth -= 1,
            _ if depth > 0 || is_word(letter) || matches!(letter, '.' | ':' | '?') => {}
            _ => break,
        }
        start = at;
    }
    start
}

/// Splits the arguments of a call.
fn arguments(code: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0_usize, 0);
    for (at, letter) in code.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(code[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(code[begin..].trim());
    parts
}

/// The arguments of each call of a macro or method, with the places before it and after it.
fn calls<'a>(code: &'a str, name: &str) -> Vec<(usize, &'a str, usize)> {
    let of = |(at, _): (usize, &str)| {
        let open = at + name.len() - 1;
        let end = after_bracket(code, open);
        (at, code.get(open + 1..end - 1).unwrap_or_default(), end)
    };
    let is_whole = |(at, _): &(usize, &str)| name.starts_with('.') || is_start(code, *at);
    code.match_indices(name).filter(is_whole).map(of).collect()
}

/// Whether it says that there is nothing: 0, an empty list, or several of them.
fn is_nothing(code: &str) -> bool {
    !code.is_empty() && code.chars().all(|letter| "0[](), ".contains(letter))
}

/// Returns what a text says to have come: code without what it says not to have.
pub(crate) fn shown(text: &str) -> String {
    let code = code(text);
    let mut absent: Vec<(usize, usize)> = Vec::new();
    let is_absent = |spans: &[(usize, usize)], at: usize| spans.iter().any(|(from, to)| (*from..*to).contains(&at));
    // `a.seen_of(kind).is_empty()`, and the same of a helper.
    for (at, _) in code.match_indices(").is_empty()") {
        let start = call_start(&code, at + 1);
        if !code[..start].trim_end_matches(['&', '*']).ends_with('!') {
            absent.push((start, at + 1));
        }
    }
    // `assert_eq!(a.seen_of(kind).len(), 0)`
    for (_, inside, end) in calls(&code, "assert_eq!(") {
        let parts = arguments(inside);
        if let [found, expected, ..] = parts[..]
            && is_nothing(expected)
        {
            let begin = end - 1 - inside.len();
            absent.push((begin, begin + inside.find(found).unwrap_or_default() + found.len()));
        }
    }
    // `assert!(!seen.iter().any(…))`
    for (at, inside, end) in calls(&code, "assert!(") {
        let first = arguments(inside)[0];
        if first.starts_with('!') && !first.ends_with(".is_empty()") {
            absent.push((at, end));
        }
    }
    absent.extend(calls(&code, "assert_ne!(").into_iter().map(|(at, _, end)| (at, end)));
    absent.extend(calls(&code, ".off(").into_iter().map(|(at, _, end)| (at, end)));
    // `for kind in [A, B] { assert!(a.seen_of(kind).is_empty()) }`
    for (at, _) in code.match_indices("for ").filter(|(at, _)| is_start(&code, *at)) {
        let Some((name, list)) = code[at + 4..].split_once(" in [") else { continue };
        if !name.chars().all(is_word) {
            continue;
        }
        let open = code.len() - list.len() - 1;
        let end = after_bracket(&code, open);
        let Some(body) = code[end..].find('{').map(|brace| end + brace) else { continue };
        let body_end = after_bracket(&code, body);
        let uses: Vec<usize> = words(&code, name).filter(|place| (body..body_end).contains(place)).collect();
        let asked = format!("seen_of({name})");
        let are_absent = uses.iter().filter(|place| is_absent(&absent, **place)).count();
        if code[body..body_end].contains(&asked) && are_absent > 0 && uses.len() == are_absent {
            absent.push((open, end));
        }
    }
    absent.sort_unstable();
    let (mut left, mut at) = (String::with_capacity(code.len()), 0);
    for (from, to) in absent {
        if from > at {
            left.push_str(&code[at..from]);
        }
        at = at.max(to);
    }
    left.push_str(&code[at..]);
    left
}

/// The places of a word in code.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_whole = move |at: &usize| is_start(code, *at) && !code[*at + word.len()..].starts_with(is_word);
    code.match_indices(word).map(|(at, _)| at).filter(is_whole)
}

/// Whether code calls a function or a macro of its own file. A method with the same name is none, and neither is a longer name that ends
/// so.
pub(crate) fn calls_function(code: &str, name: &str) -> bool {
    let is_call = |rest: &str| rest.starts_with('(') || rest.starts_with("!(");
    words(code, name).any(|at| is_call(&code[at + name.len()..]) && !code[..at].ends_with('.'))
}

/// The names that follow a prefix in code.
pub(crate) fn names_after(code: &str, prefix: &str) -> BTreeSet<String> {
    code.match_indices(prefix)
        .filter(|(at, _)| is_start(code, *at))
        .map(|(at, _)| code[at + prefix.len()..].chars().take_while(|letter| is_word(*letter)).collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The constants of error codes in a file, each with the name of its code; `is_public`: only those that other files can have.
pub(crate) fn constants(source: &str, is_public: bool) -> BTreeMap<String, String> {
    let source = code(source);
    let mut found = BTreeMap::new();
    for (at, _) in source.match_indices("const ").filter(|(at, _)| is_start(&source, *at)) {
        let rest = &source[at + "const ".len()..];
        let parts =
            rest.split_once(": ErrorCode = ErrorCode::").and_then(|(name, rest)| Some((name, rest.split_once(';')?.0)));
        if let Some((name, value)) = parts
            && name.chars().chain(value.chars()).all(is_word)
            && (!is_public || source[..at].ends_with("pub(crate) "))
        {
            found.insert(name.to_owned(), value.to_owned());
        }
    }
    found
}

/// Whether a file has a name from another one.
pub(crate) fn imports(source: &str, name: &str) -> bool {
    let source = code(source);
    let imports = source.match_indices("use ").filter_map(|(at, _)| source[at..].split_once(';'));
    imports
        .map(|(import, _)| import)
        .filter(|import| import.contains("crate::") || import.contains("super::"))
        .any(|import| uses(import, name))
}

/// The names that a file has from other files: each with the file, and with what this one calls it.
pub(crate) fn imported(source: &str) -> Vec<(String, String, String)> {
    let source = code(source);
    let mut found = Vec::new();
    for (at, _) in source.match_indices("use ").filter(|(at, _)| is_start(&source, *at)) {
        let Some((path, _)) = source[at + "use ".len()..].split_once(';') else { continue };
        let own = path.strip_prefix("crate::").or_else(|| path.strip_prefix("super::"));
        let Some((module, names)) = own.and_then(|path| path.split_once("::")) else { continue };
        for name in names.trim_matches(['{', '}']).split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let (name, here) = name.split_once(" as ").unwrap_or((name, name));
            found.push((module.to_owned(), name.to_owned(), here.to_owned()));
        }
    }
    found
}

/// Whether code has a name.
pub(crate) fn uses(code: &str, name: &str) -> bool {
    words(code, name).next().is_some()
}

#[test]
fn constants_of_error_codes_are_found() {
    let source = "use crate::call::{GONE, NONE};\npub(crate) const FULL: ErrorCode =\n    ErrorCode::RoomFull;\n\
                  const BAD: ErrorCode = ErrorCode::Invalid;\nconst KIND: Type = Type::Peer;\n";
    let all = [("BAD", "Invalid"), ("FULL", "RoomFull")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(constants(source, false), BTreeMap::from(all.clone()));
    assert_eq!(constants(source, true), BTreeMap::from([all[1].clone()]));
    assert!(imports(source, "NONE") && !imports(source, "NON") && !imports(source, "BAD"));
    assert!(uses("assert(refused, BAD)", "BAD") && !uses("NOT_BAD", "BAD"));
}

#[test]
fn names_from_other_files_are_found() {
    let source =
        "use super::room::create as enter;\nuse crate::call::{\n    GONE, end,\n};\nuse zim_protocol::Event;\n";
    let found: Vec<String> =
        imported(source).into_iter().map(|(module, name, here)| format!("{module} {name} {here}")).collect();
    assert_eq!(found, ["room create enter", "call GONE GONE", "call end end"]);
}

#[test]
fn what_is_said_to_be_absent_is_not_shown() {
    let seen = |text: &str| names_after(&shown(text), "EventKind::").into_iter().collect::<Vec<_>>().join(" ");
    for (text, expected) in [
        ("ann.next(EventKind::A).await;", "A"),
        ("assert!(ann.seen_of(EventKind::A).is_empty(), \"x\"); bob.next(EventKind::B)", "B"),
        ("assert!(\n    crew\n        .ann\n        .seen_of(zim_protocol::EventKind::A)\n        .is_empty()\n);", ""),
        ("(!ann.seen_of(EventKind::A).is_empty()).then_some(())", "A"),
        ("assert!(!ann.seen_of(EventKind::A).is_empty());", "A"),
        ("assert_eq!(ann.seen_of(EventKind::A).len(), 0, \"{x}\");", ""),
        ("assert_eq!((told(EventKind::A), told(EventKind::B)), (0, 0));", ""),
        ("assert_eq!((told(EventKind::A), told(EventKind::B)), (1, 0));", "A B"),
        ("assert_eq!(ann.seen_of(EventKind::A).len(), 1);", "A"),
        ("assert_ne!(kind, EventKind::A);", ""),
        ("assert!(!seen.iter().any(|event| event.kind() == EventKind::A), \"no\");", ""),
        ("for kind in [EventKind::A, EventKind::B] {\n    assert!(ann.seen_of(kind).is_empty(), \"{kind:?}\");\n}", ""),
        ("for kind in\n    [EventKind::A]\n{ ann.next(kind).await; assert!(bob.seen_of(kind).is_empty()); }", "A"),
        ("for kind in [EventKind::A] { assert_eq!(ann.seen_of(kind).len(), 1); }", "A"),
        ("bob.off(EventKind::A); bob.on(EventKind::B, |_| ());", "B"),
        ("// EventKind::A\n\"EventKind::B ( \"; r#\"EventKind::C\"#; ')'; let x: &'a str = EventKind::D;", "D"),
        ("assert!(list.is_empty() && ann.seen_of(EventKind::A).is_empty() && is(EventKind::B))", "B"),
    ] {
        assert_eq!(seen(text), expected, "{text}");
    }
}

#[test]
fn a_helper_counts_where_its_whole_name_is_called() {
    for (text, is_call) in [
        ("changes(&ann)", true),
        ("(changes(&ann), 1)", true),
        ("changes!(ann)", true),
        ("member_changes(&ann)", false),
        ("ann.changes()", false),
        ("changes_of(&ann)", false),
        ("let changes = 1;", false),
    ] {
        assert_eq!(calls_function(text, "changes"), is_call, "{text}");
    }
    assert!(!calls_function(&shown("assert!(changes(&ann).is_empty());"), "changes"), "it would see nothing");
}
