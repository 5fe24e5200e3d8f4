//! The commands that the book shows: each of them exists, with its options.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

use super::Args;

/// All pages of the book, and those beside it.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|page| root.join(page)).into();
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// Returns what follows `zim`, if a line calls it.
fn called(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    line.strip_prefix("just zim ").or_else(|| line.strip_prefix("zim "))
}

/// The calls of `zim` on a page: lines for a shell, and what stands in backticks.
fn calls(page: &str) -> Vec<&str> {
    let (mut found, mut language) = (Vec::new(), None);
    for line in page.lines() {
        match (line.trim().strip_prefix("```"), language) {
            (Some(begun), None) => language = Some(begun),
            (Some(_), Some(_)) => language = None,
            (None, Some("sh" | "text")) => found.extend(called(line)),
            (None, Some(_)) => {}
            (None, None) => found.extend(line.split('`').skip(1).step_by(2).filter_map(called)),
        }
    }
    found
}

/// Returns the first word of a call that is no command, or no option of its command. What a command takes is not looked at.
fn unknown<'a>(program: &Command, call: &'a str) -> Option<&'a str> {
    let (mut command, mut words) = (program, call.split_whitespace());
    while let Some(word) = words.next() {
        if word.starts_with(['|', '>', '<', '&', '#']) {
            break;
        }
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split_once('=').map_or(option, |(name, _)| name);
            let argument = command.get_arguments().find(|argument| argument.get_long() == Some(name));
            let Some(argument) = argument else { return Some(word) };
            if argument.get_action().takes_values() && name == option {
                words.next();
            }
        } else if command.has_subcommands() && !word.starts_with('-') {
            let Some(found) = command.find_subcommand(word) else { return Some(word) };
            command = found;
        }
    }
    None
}

#[test]
fn every_command_in_the_book_exists() {
    let mut program = Args::command();
    program.build();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        // What stands for any command.
        for call in calls(&text).into_iter().filter(|call| !call.starts_with("COMMAND")) {
            count += 1;
            assert_eq!(unknown(&program, call), None, "{}: zim {call}", page.display());
        }
    }
    assert!(count > 300, "{count}");
}

#[test]
fn what_does_not_exist_is_found() {
    let mut program = Args::command();
    program.build();
    let page = "`zim send bob hi`, `zim fly`\n```sh\n$ zim --profile bob group mute crew --fore 1h  # no\n```\n\
                ```rust\nzim nowhere\n```\n`zim admin user export ann --json > file`\n";
    let found: Vec<_> = calls(page).into_iter().map(|call| unknown(&program, call)).collect();
    assert_eq!(found, [None, Some("fly"), Some("--fore"), None]);
}
