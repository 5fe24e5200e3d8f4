//! What a command prints: for people on a terminal, JSON for everything else. One object a line, named as in the reference.

mod table;
mod time;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

pub(crate) use self::table::{Align, Table};
pub(crate) use self::time::{clock_time, date, span, when};
use crate::exit::{Exit, Failure};
use crate::text::{lines, printable, printable_json};

/// Who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A person.
    Plain,
    /// A program.
    Json,
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Bold,
    Dim,
    Good,
    Bad,
    Name,
}

impl Ink {
    fn escape(self) -> &'static str {
        match self {
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[1;31m",
            Self::Name => "\x1b[36m",
        }
    }
}

/// Standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    colour: bool,
    colour_of_errors: bool,
}

impl Output {
    /// As asked for; else for people if standard output is a terminal, and JSON if not.
    pub(crate) fn from_env(asked: Option<Format>) -> Self {
        let terminal = io::stdout().is_terminal();
        let format = asked.unwrap_or(if terminal { Format::Plain } else { Format::Json });
        let wanted = colour_wanted(|name| std::env::var_os(name).and_then(|value| value.into_string().ok()));
        Self {
            format,
            colour: terminal && wanted && format == Format::Plain,
            colour_of_errors: io::stderr().is_terminal() && wanted,
        }
    }

    /// The same, for people: for a command whose output is a text by nature.
    pub(crate) fn for_people(self) -> Self {
        Self { format: Format::Plain, ..self }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// One object on a line of its own, at once: who follows a pipe sees it when it happens.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(printable_json(&serde_json::to_string(value)?))
    }

    /// A line for people.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<(), Failure> {
        write_out(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// What was chosen without being asked for: on standard error, also when programs read.
    pub(crate) fn tell(self, text: impl AsRef<str>) {
        write_err(&self.paint_error(Ink::Dim, &printable(text.as_ref())));
    }

    /// For people who wait, beside what the command answers: on standard error, and not when programs read.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.is_json() {
            self.tell(text);
        }
    }

    /// What went wrong, but not so much that the command ends.
    pub(crate) fn warn(self, text: impl AsRef<str>) {
        write_err(&format!("{} {}", self.paint_error(Ink::Bold, "warning:"), printable(text.as_ref())));
    }

    /// Says why the command failed, and with which code the program ends.
    pub(crate) fn failure(self, failure: &Failure) -> ExitCode {
        if failure.exit != Exit::Done {
            let mut text = self.paint_error(Ink::Bad, "error:");
            text.push(' ');
            text.push_str(&sentence(failure));
            if let Some(hint) = &failure.hint {
                text.push_str(&format!("\n{} {}", self.paint_error(Ink::Dim, "hint:"), printable(hint)));
            }
            write_err(&text);
        }
        failure.exit.into()
    }

    /// `text`, coloured if colours are seen and wanted.
    pub(crate) fn paint(self, ink: Ink, text: &str) -> String {
        painted(self.colour, ink, text)
    }

    fn paint_error(self, ink: Ink, text: &str) -> String {
        painted(self.colour_of_errors, ink, text)
    }

    /// A table for people.
    pub(crate) fn table(self, table: &Table) -> Result<(), Failure> {
        let mut rows = table.render().into_iter();
        if let Some(head) = rows.next() {
            self.line(self.paint(Ink::Dim, &head))?;
        }
        rows.try_for_each(|row| self.line(row))
    }
}

/// `6000204 MessageModuleTargetDoesNotExist: there is no user "bob"`.
fn sentence(failure: &Failure) -> String {
    // What a server says may have come from another user: nothing in it moves the cursor.
    let message = lines(&failure.message).join("\n  ");
    match (failure.code, failure.name()) {
        (Some(code), "") => format!("{code}: {message}"),
        (Some(code), name) => format!("{code} {name}: {message}"),
        (None, _) => message,
    }
}

/// NO_COLOR wins; a dumb terminal has none.
fn colour_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && variable("TERM").is_none_or(|term| term != "dumb")
}

fn painted(colour: bool, ink: Ink, text: &str) -> String {
    if colour && !text.is_empty() { format!("{}{text}\x1b[0m", ink.escape()) } else { text.to_owned() }
}

fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    Ok(out.write_all(bytes).and_then(|()| out.flush())?)
}

fn write_err(text: &str) {
    // There is nowhere left to say that this failed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_code_name_and_sentence() {
        let failure = Failure::coded(6_000_204, "there is no user \"bob\"");
        assert_eq!(sentence(&failure), "6000204 MessageModuleTargetDoesNotExist: there is no user \"bob\"");
        assert_eq!(sentence(&Failure::coded(9_999_999, "new")), "9999999: new");
        assert_eq!(sentence(&Failure::other("no such file")), "no such file");
    }

    #[test]
    fn an_error_cannot_move_the_cursor() {
        assert_eq!(sentence(&Failure::other("a\x1b[2Jb")), "a\\u{1b}[2Jb");
    }

    #[test]
    fn colours_can_be_refused() {
        let with =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        assert!(colour_wanted(|_| None));
        assert!(!colour_wanted(with("NO_COLOR", "1")));
        assert!(colour_wanted(with("NO_COLOR", "")));
        assert!(!colour_wanted(with("TERM", "dumb")));
        assert!(colour_wanted(with("TERM", "xterm-256color")));
    }

    #[test]
    fn paint_adds_nothing_without_colours() {
        assert_eq!(painted(false, Ink::Bad, "x"), "x");
        assert_eq!(painted(true, Ink::Bad, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(painted(true, Ink::Bad, ""), "");
    }
}
