//! The modules of each crate stand in dependency order in `lib.rs` (or `main.rs`): a module uses only modules above it, so there
//! are no cycles, and a reader can start at the top. Every file has fewer than 600 lines, and a plain method takes few lines of the
//! server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// A module, and one below it that it uses.
type Use = (&'static str, &'static str);

/// The crates, each with the modules whose submodules are ordered as well, and with the uses that are still upside down.
const CRATES: [(&str, &[&str], &[Use]); 5] = [
    ("protocol", &[], &[]),
    ("server", &["service"], &[]),
    ("client-sdk", &[], &[]),
    ("cli", &[], &[]),
    ("integration-tests", &[], &[]),
];

/// A source file has fewer lines.
const LINES: usize = 600;

/// The nouns whose methods mostly read and write rows, with their services.
const PLAIN_NOUNS: [(&str, &str); 4] = [
    ("blacklist", "BlacklistService"),
    ("friend", "FriendService"),
    ("status", "StatusService"),
    ("user", "UserService"),
];

/// One of their methods has at most so many lines in the server. More would mean that it repeats what others have.
const LINES_OF_METHOD: usize = 85;

/// Folders with sources that nobody edits: what is built, and the programs that made the files of old builds.
const NOT_EDITED: [&str; 2] = ["target", "fixtures"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The modules that a file declares, in order.
fn declared(text: &str) -> Vec<String> {
    let declarations = text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    declarations.map(str::to_owned).collect()
}

/// One crate's modules, those of `nested` modules as `module/submodule`.
struct Layout {
    source: PathBuf,
    nested: &'static [&'static str],
    order: Vec<String>,
    /// Names that the root re-exports, and the modules that they come from.
    exported: HashMap<String, String>,
}

impl Layout {
    fn of(name: &str, nested: &'static [&'static str]) -> Self {
        let source = root().join(name).join("src");
        let top = ["lib.rs", "main.rs"].map(|file| source.join(file)).into_iter().find(|file| file.exists()).unwrap();
        let text = read(&top);
        let mut order = Vec::new();
        for module in declared(&text) {
            if nested.contains(&&*module) {
                let inner = declared(&read(&source.join(&module).join("mod.rs")));
                order.extend(inner.into_iter().map(|inner| format!("{module}/{inner}")));
            }
            order.push(module);
        }
        let mut exported = HashMap::new();
        for path in paths(&without_comments(&text), "self::") {
            if let [module, name] = &path.1[..] {
                exported.insert(name.clone(), module.clone());
            }
        }
        Self { source, nested, order, exported }
    }

    /// The module that a path of names leads to.
    fn module(&self, path: &[String]) -> Option<String> {
        let first = path.first()?;
        let first = self.exported.get(first).unwrap_or(first);
        match path.get(1) {
            Some(second) if self.nested.contains(&&**first) => Some(format!("{first}/{second}")),
            _ => Some(first.clone()),
        }
    }

    fn position(&self, module: &str) -> Option<usize> {
        self.order.iter().position(|other| other == module)
    }

    /// Uses of modules below: the using module, the used one, and where.
    fn upside_down(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        for file in rust_files(&self.source) {
            let relative = file.strip_prefix(&self.source).unwrap().with_extension("");
            let mut names: Vec<String> =
                relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            names.retain(|name| name != "mod");
            if names.iter().any(|name| name == "tests") {
                continue;
            }
            let Some(module) = self.module(&names) else { continue };
            let Some(own) = self.position(&module) else { continue };
            let text = without_comments(&read(&file));
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for (line, path) in paths(text, "crate::") {
                let Some(used) = self.module(&path) else { continue };
                if self.position(&used).is_some_and(|used| used > own) {
                    found.push((module.clone(), used, format!("{}:{line}", file.display())));
                }
            }
        }
        found
    }
}

/// The sources under a folder, without hidden folders and those that nobody edits.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && !NOT_EDITED.contains(&&*name) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The same lines, without what follows `//`.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// All paths that begin with `prefix`, without it, with their lines. Groups in braces are taken apart.
fn paths(text: &str, prefix: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let line = text[..at].lines().count().max(1);
        let mut all = Vec::new();
        expand(&text[at + prefix.len()..], &[], &mut all);
        found.extend(all.into_iter().map(|path| (line, path)));
    }
    found
}

/// The paths at the beginning of `text` go to `all`, each behind `before`. Returns what follows them.
fn expand<'a>(text: &'a str, before: &[String], all: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = before.to_vec();
    let mut rest = text;
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            loop {
                group = expand(group.trim_start(), &path, all).trim_start();
                match group.strip_prefix(',') {
                    Some(more) => group = more,
                    None => return group.strip_prefix('}').unwrap_or(group),
                }
            }
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !name.is_empty() && name != "self" {
            path.push(name.to_owned());
        }
        match after.strip_prefix("::") {
            Some(more) if end > 0 => rest = more,
            _ => {
                if path.len() > before.len() || name == "self" {
                    all.push(path);
                }
                return after;
            }
        }
    }
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let mut wrong = Vec::new();
    for (name, nested, known) in CRATES {
        let layout = Layout::of(name, nested);
        assert!(layout.order.len() > 5, "{name}: {:?}", layout.order);
        let found = layout.upside_down();
        let pairs: BTreeSet<_> = found.iter().map(|(module, used, _)| (module.as_str(), used.as_str())).collect();
        for (module, used, place) in &found {
            if !known.contains(&(module, used)) {
                wrong.push(format!("{place}: {module} uses {used}, which {name} declares below it"));
            }
        }
        wrong.extend(known.iter().filter(|pair| !pairs.contains(*pair)).map(|(module, used)| {
            format!("{name}: {module} no longer uses {used}: take the pair off the list in this test")
        }));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that grows beyond it is split by what its parts are about.
#[test]
fn a_source_file_has_fewer_than_600_lines() {
    let files = rust_files(&root());
    assert!(files.len() > 500, "{}", files.len());
    let long: Vec<String> = files
        .iter()
        .map(|file| (file, read(file).lines().count()))
        .filter(|(_, lines)| *lines >= LINES)
        .map(|(file, lines)| format!("{} has {lines} lines: split it by what its parts are about", file.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn paths_are_found_in_groups_and_in_code() {
    let text = "use crate::{a, b::{self, C}, d::e};\nfn f() { crate::g::h(); $crate::i; }";
    let found: Vec<String> =
        paths(text, "crate::").into_iter().map(|(line, path)| format!("{line} {}", path.join("::"))).collect();
    assert_eq!(found, ["1 a", "1 b", "1 b::C", "1 d::e", "2 g::h"]);
}

#[test]
fn a_plain_method_takes_few_lines_of_the_server() {
    for (noun, service) in PLAIN_NOUNS {
        let contract = read(&root().join("protocol/proto/zim/v1").join(noun).with_extension("proto"));
        let (_, service) = contract.split_once(&format!("\nservice {service} {{\n")).unwrap();
        let of_service = service.lines().take_while(|line| *line != "}");
        let methods = of_service.filter(|line| line.starts_with("  rpc ")).count();
        let files = rust_files(&root().join("server/src/service").join(noun));
        let sources = files.iter().filter(|file| !file.to_string_lossy().ends_with("tests.rs"));
        let lines = |file: &PathBuf| read(file).split("\n#[cfg(test)]\nmod tests {").next().unwrap().lines().count();
        let lines: usize = sources.map(lines).sum();
        assert!(methods > 0 && lines > 0, "{noun}: {lines} lines for {methods} methods");
        assert!(lines <= LINES_OF_METHOD * methods, "{noun}: {lines} lines for {methods} methods");
    }
}
