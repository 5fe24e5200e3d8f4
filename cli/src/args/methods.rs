//! The page of methods and commands says the truth: it is compared with the contract, the command line and the sources.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

use super::Args;

const PAGE: &str = include_str!("../../../docs/guide/commands.md");
const CONTRACT: &str = include_str!("../../../protocol/tests/contract/reference/methods.tsv");

/// Methods that need no command.
const NONE: [&str; 2] = ["getInstance", "off"];
/// Methods that commands call in the form of the SDK: one of several, a page, or with a token of the push service.
const CALLED_AS: [(&str, &str); 4] = [
    ("create", "new"),
    ("query_group_list", "query_group_list_page"),
    ("register", "register_push"),
    ("unregister", "unregister_push"),
];

/// What all commands share.
const SHARED: [&str; 4] = ["args.rs", "context.rs", "deliver.rs", "options.rs"];

/// A method of the contract.
struct Method {
    module: &'static str,
    name: &'static str,
    rust_name: &'static str,
    is_deprecated: bool,
}

/// The methods in the order of the contract. One with several forms stands there several times.
fn methods() -> Vec<Method> {
    let mut methods: Vec<Method> = Vec::new();
    for row in CONTRACT.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let (module, name, rust_name) = (cells[0], cells[1], cells[2]);
        let is_deprecated = cells.last().is_some_and(|flags| flags.contains("deprecated"));
        match methods.iter_mut().find(|method| (method.module, method.name) == (module, name)) {
            Some(method) => method.is_deprecated &= is_deprecated,
            None => methods.push(Method { module, name, rust_name, is_deprecated }),
        }
    }
    methods
}

/// The rows of the page: module, method, and what it says of the command.
fn rows() -> Vec<(&'static str, &'static str, &'static str)> {
    let (mut rows, mut module) = (Vec::new(), "");
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            module = heading;
        } else if let Some((name, said)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) {
            rows.push((module, name, said.trim_end_matches(" |")));
        }
    }
    rows
}

/// The sources of the commands of a noun, and of what all commands share, without tests.
fn sources(noun: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<PathBuf> = SHARED.iter().map(|file| root.join(file)).collect();
    let mut paths = vec![root.join("command").join(noun), root.join("command").join(format!("{noun}.rs"))];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            files.push(path);
        }
    }
    let mut all = String::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        text.lines().filter(|line| !line.trim_start().starts_with("//")).for_each(|line| all.push_str(line));
    }
    all
}

/// What the page says of commands: those that stand in backticks.
fn said_commands(said: &'static str) -> impl Iterator<Item = &'static str> {
    said.split('`').skip(1).step_by(2).filter(|code| code.starts_with("zim "))
}

/// The examples in the help of a command and of all below it.
fn examples(command: &Command, all: &mut Vec<String>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    all.extend(lines.take_while(|line| line.starts_with("  ")).map(str::to_owned));
    command.get_subcommands().for_each(|command| examples(command, all));
}

/// Whether an example calls a command with all of its options, such as `zim group set --name`.
fn calls(example: &str, command: &str) -> bool {
    let (options, words): (Vec<&str>, Vec<&str>) = command.split(' ').skip(1).partition(|word| word.starts_with("--"));
    let is_called = example.split("zim ").skip(1).any(|call| {
        // Who calls stands before the command.
        let call = call.strip_prefix("--profile ").and_then(|rest| rest.split_once(' ')).map_or(call, |(_, rest)| rest);
        call.split_whitespace().take(words.len()).eq(words.iter().copied())
    });
    is_called && options.iter().all(|option| example.split_whitespace().any(|word| word == *option))
}

/// Returns the command that a line such as `zim room enter --commands` names, whose options must exist.
fn command<'a>(program: &'a Command, line: &str) -> &'a Command {
    let mut command = program;
    for word in line.split(' ').skip(1) {
        if let Some(long) = word.strip_prefix("--") {
            let is_known = command.get_arguments().any(|argument| argument.get_long() == Some(long));
            assert!(is_known, "{line}: there is no option {word}");
        } else {
            command = command.find_subcommand(word).unwrap_or_else(|| panic!("{line}: there is no command {word}"));
        }
    }
    command
}

#[test]
fn every_method_of_the_contract_is_on_the_page() {
    let methods = methods();
    assert!(methods.len() > 140, "{}", methods.len());
    let expected: Vec<(&str, &str)> = methods.iter().map(|method| (method.module, method.name)).collect();
    let listed: Vec<(&str, &str)> = rows().into_iter().map(|(module, name, _)| (module, name)).collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_command_on_the_page_exists() {
    let mut program = Args::command();
    program.build();
    for (_, name, said) in rows() {
        let mut typed = None;
        let mut commands = 0;
        // What stands in backticks: a command, or a line that is typed in the command that follows.
        for code in said.split('`').skip(1).step_by(2) {
            if code.starts_with('/') {
                typed = Some(code);
                continue;
            }
            assert!(code.starts_with("zim "), "{name}: {code} is no command");
            commands += 1;
            let command = command(&program, code);
            if let Some(typed) = typed.take() {
                let help = command.clone().render_long_help().to_string();
                let mut words = help.split(|letter: char| !letter.is_alphanumeric() && !"/-".contains(letter));
                assert!(words.any(|word| word == typed), "{name}: {code} does not explain {typed}");
            }
        }
        assert_eq!(typed, None, "{name}: where is it typed?");
        assert_eq!(commands == 0, NONE.contains(&name), "{name}: {said}");
    }
}

#[test]
fn the_commands_call_every_method() {
    let rows = rows();
    for method in methods() {
        let said = rows.iter().find(|(module, name, _)| (*module, *name) == (method.module, method.name));
        let said = said.map_or("", |(.., said)| *said);
        assert_eq!(said.starts_with("deprecated, for "), method.is_deprecated, "{}: {said}", method.name);
        if method.is_deprecated || NONE.contains(&method.name) {
            continue;
        }
        let called = CALLED_AS.into_iter().find(|(name, _)| *name == method.rust_name);
        let called = called.map_or(method.rust_name, |(_, called)| called);
        for command in said_commands(said) {
            let sources = sources(command.split(' ').nth(1).unwrap());
            let is_called = [".", "::"].into_iter().any(|before| sources.contains(&format!("{before}{called}(")));
            assert!(is_called, "nothing of {command} calls {}", method.name);
        }
    }
}

#[test]
fn the_help_has_an_example_of_every_command_on_the_page() {
    let mut all = Vec::new();
    examples(&Args::command(), &mut all);
    // Another test runs the examples.
    for (_, name, said) in rows() {
        for command in said_commands(said) {
            // Options of all commands are explained in the help of `zim`.
            let is_of_all = command.starts_with("zim --");
            let has_one = is_of_all || all.iter().any(|example| calls(example, command));
            assert!(has_one, "{name}: no help has an example of {command}");
        }
    }
}
