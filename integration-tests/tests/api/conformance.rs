//! Generates the page of the book that says, for each method of the reference, which tests show what it does: the events that they
//! see and the errors that they provoke. It is read from the sources, as in `coverage.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use zim_protocol::EventKind;

use crate::coverage::reference;
use crate::owner::in_tests;
use crate::seen::{calls_function, constants, imported, imports, names_after, shown, uses};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const PAGE: &str = "../docs/reference/conformance.md";
const FOLDERS: [&str; 4] = ["api", "journey", "nodes", "upgrade"];

/// A function of a test file: its name with the file's, and what its text shows.
struct Function {
    path: String,
    name: String,
    is_test: bool,
    text: String,
}

/// The functions and macros at the margin of a file. In formatted code each ends with a brace there.
fn functions(folder: &str, file: &Path) -> Vec<Function> {
    let text = fs::read_to_string(file).unwrap();
    let module = file.file_stem().unwrap().to_string_lossy().into_owned();
    let (mut found, mut attributes) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("#[") {
            attributes.push_str(line);
            continue;
        }
        let begin = [
            "macro_rules! ",
            "async fn ",
            "fn ",
            "pub(crate) async fn ",
            "pub(crate) fn ",
            "pub(super) async fn ",
            "pub(super) fn ",
        ]
        .into_iter()
        .find_map(|start| line.strip_prefix(start));
        if let Some(rest) = begin {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let body: String = lines.by_ref().take_while(|line| *line != "}").map(|line| format!("{line}\n")).collect();
            let is_test = attributes.contains("test]");
            let path = format!("{folder}::{module}::{name}");
            found.push(Function { path, name, is_test, text: shown(&format!("{line}\n{body}")) });
        }
        if !line.starts_with("//") {
            attributes.clear();
        }
    }
    found
}

/// What the text of a function shows, with that of the helpers of its file that it calls.
fn whole(function: &Function, helpers: &[&Function]) -> String {
    let (mut text, mut used) = (function.text.clone(), BTreeSet::new());
    loop {
        let next = helpers.iter().find(|helper| {
            !used.contains(&helper.name) && helper.name != function.name && calls_function(&text, &helper.name)
        });
        let Some(helper) = next else { return text };
        used.insert(helper.name.clone());
        text.push_str(&helper.text);
    }
}

/// Whether it is an event, and no constant of the type.
fn is_event(name: &str) -> bool {
    EventKind::ALL.iter().any(|kind| format!("{kind:?}") == name)
}

/// What the tests of a method show.
#[derive(Default)]
struct Shown {
    events: BTreeSet<String>,
    errors: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// The files of tests in a folder.
fn files(folder: &str) -> Vec<PathBuf> {
    let path = PathBuf::from(HERE).join("tests").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "rs"));
    files.sort();
    files
}

/// What each function of a file shows, with the helpers of the file, and with the codes that it names by constants.
fn texts(functions: &[Function], source: &str, public: &BTreeMap<String, String>) -> Vec<String> {
    let helpers: Vec<&Function> = functions.iter().filter(|function| !function.is_test).collect();
    let mut texts: Vec<String> = functions.iter().map(|function| whole(function, &helpers)).collect();
    let mut codes: BTreeMap<&String, String> = BTreeMap::new();
    codes.extend(public.iter().filter(|(name, _)| imports(source, name)).map(|(name, code)| (name, code.clone())));
    let own = constants(source, false);
    codes.extend(own.iter().map(|(name, code)| (name, code.clone())));
    for text in &mut texts {
        let used: String =
            codes.iter().filter(|(name, _)| uses(text, name)).map(|(_, code)| format!(" ErrorCode::{code}")).collect();
        text.push_str(&used);
    }
    texts
}

fn tests() -> Vec<(Function, String)> {
    let mut tests = Vec::new();
    for folder in FOLDERS {
        let files: Vec<(PathBuf, String)> =
            files(folder).into_iter().map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect();
        let public: BTreeMap<String, String> = files.iter().flat_map(|(_, source)| constants(source, true)).collect();
        let of_files: Vec<(Vec<Function>, Vec<String>)> = files
            .iter()
            .map(|(file, source)| {
                let functions = functions(folder, file);
                let texts = texts(&functions, source, &public);
                (functions, texts)
            })
            .collect();
        let mut helpers: BTreeMap<String, String> = BTreeMap::new();
        for (functions, texts) in &of_files {
            let all = functions.iter().zip(texts).filter(|(function, _)| !function.is_test);
            helpers.extend(all.map(|(function, text)| (function.path.clone(), text.clone())));
        }
        for ((_, source), (functions, texts)) in files.iter().zip(of_files) {
            // The helpers of other files that a test calls.
            let imported: Vec<(String, &String)> = imported(source)
                .into_iter()
                .filter_map(|(module, name, here)| Some((here, helpers.get(&format!("{folder}::{module}::{name}"))?)))
                .collect();
            for (function, text) in functions.into_iter().zip(texts).filter(|(function, _)| function.is_test) {
                let others = imported.iter().filter(|(name, _)| calls_function(&text, name));
                let all = others.fold(text.clone(), |all, (_, other)| all + " " + other);
                tests.push((function, all));
            }
        }
    }
    tests
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What is beside the wire: `KIND NAME CLASS ITEM: reason`. The contract's test checks the form.
const ABSENT: &str = include_str!("../../../protocol/tests/contract/absent.txt");

/// The error codes that no test provokes: `CODE - reason`.
const MISSING: &str = include_str!("coverage/missing_errors.txt");

/// Returns what takes the place of a method or a type in the contract, and why.
fn absences(kind: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let read = |line: &'static str| {
        let (head, reason) = line.strip_prefix(kind)?.split_once(": ")?;
        let words: Vec<&str> = head.split_whitespace().collect();
        if let [name, _, item] = words[..] { Some((name, item, reason)) } else { None }
    };
    ABSENT.lines().filter_map(read).collect()
}

/// Lists the methods of the reference's table in its order, by module.
fn page() -> String {
    let mut page = "# Conformance\n\n\
        What the tests of this repository show of each method of the reference: the events that they see, the errors that they\n\
        provoke, and their names. A test belongs to the method with the longest name that its own begins with, and to those whose names\n\
        follow an `and` in it. What it sees of other methods along the way counts as well, and one that it says not to have come does not. The page is generated: `UPDATE=1 cargo nextest run -p zim-integration-tests -E 'test(conformance)'`.\n"
        .to_owned();
    let tests = tests();
    let table = reference();
    let mut methods: Vec<(&str, &str, &str)> = Vec::new();
    for row in &table {
        let method = (row[0].as_str(), row[1].as_str(), row[2].as_str());
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    let rows: Vec<(&str, &str)> = methods.iter().map(|(module, _, name)| (*module, *name)).collect();
    let all = crate::coverage::methods();
    let mut shown: BTreeMap<&str, Shown> = BTreeMap::new();
    for (test, text) in &tests {
        for method in all.all(&test.name) {
            let shown = shown.entry(method).or_default();
            let events = names_after(text, "EventKind::").into_iter().chain(names_after(text, "Event::"));
            shown.events.extend(events.filter(|name| is_event(name)));
            let errors = names_after(text, "ErrorCode::").into_iter();
            shown.errors.extend(errors.filter(|name| name.starts_with(|letter: char| letter.is_ascii_uppercase())));
            shown.tests.insert(test.path.clone());
        }
    }
    let (mut module, local) = ("", absences("method "));
    for (of_module, method, name) in methods {
        if of_module != module {
            module = of_module;
            let _ = writeln!(page, "\n## {module}");
        }
        let _ = writeln!(page, "\n### {method}");
        if let Some((_, _, reason)) = local.iter().find(|(name, ..)| *name == method) {
            let _ = writeln!(page, "- No request of its own: {reason}.");
        }
        match shown.get(in_tests(&rows, (of_module, name)).as_str()) {
            None => drop(writeln!(page, "Not there yet.")),
            Some(shown) => {
                for (what, names) in [("Events", &shown.events), ("Errors", &shown.errors), ("Tests", &shown.tests)] {
                    let names = if names.is_empty() { "none shown".to_owned() } else { list(names) };
                    let _ = writeln!(page, "- {what}: {names}");
                }
            }
        }
    }
    page.push_str("\n## Types that have another form\n\n| type of the reference | here | |\n|---|---|---|\n");
    for (name, item, reason) in absences("type ") {
        let _ = writeln!(page, "| `{name}` | `{item}` | {reason} |");
    }
    page.push_str("\n## Error codes that no test provokes\n\n| code | why |\n|---|---|\n");
    for (code, reason) in MISSING.lines().filter_map(|line| line.split_once(" - ")) {
        let _ = writeln!(page, "| `{code}` | {reason} |");
    }
    page
}

#[test]
fn the_page_of_conformance_is_current() {
    let (path, page) = (PathBuf::from(HERE).join(PAGE), page());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/reference/conformance.md is not current: run UPDATE=1 cargo nextest run -p zim-integration-tests -E 'test(conformance)'"
    );
}
