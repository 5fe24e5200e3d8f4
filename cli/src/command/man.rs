//! `zim man`: prints the manual pages.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;

use crate::exit::Failure;
use crate::output::Output;
use crate::text::preview;

/// `zim man`
#[derive(Debug, Args)]
#[command(after_help = "\
A page says what --help says. `zim man group create | man -l -` shows one.

Examples:
  zim man --folder ~/.local/share/man/man1    then: man zim, man zim-group-create
  zim man group create")]
pub(crate) struct ManArgs {
    /// The command whose page is printed, such as group create [default: zim itself]
    #[arg(value_name = "COMMAND", conflicts_with = "folder")]
    command: Vec<String>,
    /// Write the pages of all commands to this folder; it is created if there is none
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// A page: the name of its file, and its text.
type Page = (String, Vec<u8>);

/// Prints or writes pages of `program`, the whole command line.
pub(crate) fn run(args: &ManArgs, program: Command, output: Output) -> Result<(), Failure> {
    let program = built(program);
    let Some(folder) = &args.folder else {
        let (_, text) = page(find(&program, &args.command)?)?;
        return Ok(io::stdout().lock().write_all(&text)?);
    };
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut pages = Vec::new();
    collect(&program, &mut pages)?;
    for (name, text) in &pages {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    if output.is_json() {
        return output.json(&serde_json::json!({ "folder": folder.to_string_lossy(), "pages": pages.len() }));
    }
    output.line(format!("Wrote {} pages to {}.", pages.len(), preview(&folder.to_string_lossy(), 200)))
}

/// Lets the commands below know how they are called.
fn built(program: Command) -> Command {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    program
}

fn find<'a>(program: &'a Command, words: &[String]) -> Result<&'a Command, Failure> {
    words.iter().try_fold(program, |command, word| {
        let missing = || Failure::usage(format!("there is no command {:?}", preview(&words.join(" "), 60)));
        command.find_subcommand(word).ok_or_else(missing)
    })
}

fn page(command: &Command) -> io::Result<Page> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut text = Vec::new();
    Man::new(command.clone()).title(name).render(&mut text)?;
    Ok((format!("{name}.1"), text))
}

/// Adds the page of a command, and those of the commands below it.
fn collect(command: &Command, pages: &mut Vec<Page>) -> io::Result<()> {
    pages.push(page(command)?);
    let is_shown = |command: &&Command| command.get_name() != "help" && !command.is_hide_set();
    let mut below = command.get_subcommands().filter(is_shown);
    below.try_for_each(|command| collect(command, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let create = Command::new("create").about("Create a group").after_help("Examples:\n  zim group create crew");
        let group = Command::new("group").about("Groups").subcommand(create);
        built(Command::new("zim").subcommand(group).subcommand(Command::new("inner").hide(true)))
    }

    #[test]
    fn every_command_has_a_page() {
        let mut pages = Vec::new();
        collect(&program(), &mut pages).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["zim.1", "zim-group.1", "zim-group-create.1"]);
        let create = String::from_utf8(pages.pop().unwrap().1).unwrap();
        assert!(create.contains("Create a group") && create.contains("zim group create crew"), "{create}");
    }

    #[test]
    fn a_page_is_found_by_the_words_of_its_command() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let program = program();
        let found = |line: &str| find(&program, &words(line)).map(|command| command.get_name().to_owned());
        assert_eq!(found("").unwrap(), "zim");
        assert_eq!(found("group create").unwrap(), "create");
        assert!(found("group destroy").unwrap_err().message.contains("group destroy"));
    }
}
