//! What a command prints: text on a terminal, otherwise JSON, one object a line, with the names of the reference.

mod table;
mod time;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;
use zim_protocol::ErrorUserInfo;

pub(crate) use self::table::{Align, Table};
pub(crate) use self::time::{clock_time, date, span, when};
use crate::exit::{Exit, Failure};
use crate::text::{lines, preview, printable, printable_json};

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text.
    Plain,
    /// JSON, one object a line.
    Json,
}

/// A style of text.
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
    /// Standard error is JSON too: it was requested, not chosen because standard output is a pipe.
    json_errors: bool,
}

impl Output {
    /// Uses the requested format. By default, text if standard output is a terminal, and JSON otherwise.
    pub(crate) fn from_env(requested: Option<Format>) -> Self {
        let terminal = io::stdout().is_terminal();
        let format = requested.unwrap_or(if terminal { Format::Plain } else { Format::Json });
        let wanted = colour_wanted(|name| std::env::var_os(name).and_then(|value| value.into_string().ok()));
        Self {
            format,
            colour: terminal && wanted && format == Format::Plain,
            colour_of_errors: io::stderr().is_terminal() && wanted,
            json_errors: requested == Some(Format::Json),
        }
    }

    /// The same output with text as its format, for a command that has no JSON.
    pub(crate) fn as_plain(self) -> Self {
        Self { format: Format::Plain, ..self }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints one object on its own line and flushes, so that the reader of a pipe gets it at once.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(printable_json(&serde_json::to_string(value)?))
    }

    /// Prints a line of text.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<(), Failure> {
        write_out(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// Prints a choice that the command made by itself to standard error, in every format.
    pub(crate) fn notice(self, text: impl AsRef<str>) {
        self.remark("notice", text.as_ref(), |text| self.paint_error(Ink::Dim, text));
    }

    /// Prints a remark about progress to standard error; nothing with JSON.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.is_json() {
            self.notice(text);
        }
    }

    /// Prints a warning to standard error; the command goes on.
    pub(crate) fn warn(self, text: impl AsRef<str>) {
        self.remark("warning", text.as_ref(), |text| format!("{} {text}", self.paint_error(Ink::Bold, "warning:")));
    }

    fn remark(self, kind: &str, text: &str, as_text: impl FnOnce(&str) -> String) {
        write_err(&match self.json_errors {
            true => printable_json(&serde_json::json!({ kind: text }).to_string()),
            false => as_text(&printable(text)),
        });
    }

    /// Prints for which users a request was carried out, as text: those without an error.
    pub(crate) fn done(self, what: &str, users: &[String], errors: &[ErrorUserInfo]) -> Result<(), Failure> {
        let is_done = |user: &&String| !errors.iter().any(|error| error.user_id == **user);
        let names: Vec<String> =
            users.iter().filter(is_done).map(|user| self.paint(Ink::Name, &preview(user, 32))).collect();
        if names.is_empty() { Ok(()) } else { self.line(format!("{what}: {}.", names.join(", "))) }
    }

    /// Prints why the command failed to standard error, and returns the exit code.
    pub(crate) fn failure(self, failure: &Failure) -> ExitCode {
        if failure.exit == Exit::Done {
            return failure.exit.into();
        }
        if self.json_errors {
            write_err(&printable_json(&failure.to_json().to_string()));
        } else {
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

    /// Returns `text`, coloured if standard output shows colours.
    pub(crate) fn paint(self, ink: Ink, text: &str) -> String {
        painted(self.colour, ink, text)
    }

    fn paint_error(self, ink: Ink, text: &str) -> String {
        painted(self.colour_of_errors, ink, text)
    }

    /// Prints a table.
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
    // An error message may contain text of another user: it must not move the cursor.
    let message = lines(&failure.message).join("\n  ");
    match (failure.code, failure.name()) {
        (Some(code), "") => format!("{code}: {message}"),
        (Some(code), name) => format!("{code} {name}: {message}"),
        (None, _) => message,
    }
}

/// NO_COLOR turns colours off, and a dumb or unknown terminal has none.
fn colour_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && variable("TERM").is_none_or(|term| !term.is_empty() && term != "dumb")
}

fn painted(colour: bool, ink: Ink, text: &str) -> String {
    if colour && !text.is_empty() { format!("{}{text}\x1b[0m", ink.escape()) } else { text.to_owned() }
}

fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    Ok(out.write_all(bytes).and_then(|()| out.flush())?)
}

fn write_err(text: &str) {
    // If this fails, there is no other place to report it.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_code_name_and_message() {
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
    fn colours_can_be_turned_off() {
        let with =
            |name: &'static str, value: &'static str| move |queried: &str| (queried == name).then(|| value.to_owned());
        assert!(colour_wanted(|_| None));
        assert!(!colour_wanted(with("NO_COLOR", "1")));
        assert!(colour_wanted(with("NO_COLOR", "")));
        assert!(!colour_wanted(with("TERM", "dumb")));
        assert!(!colour_wanted(with("TERM", "")));
        assert!(colour_wanted(with("TERM", "xterm-256color")));
    }

    #[test]
    fn text_is_unchanged_without_colours() {
        assert_eq!(painted(false, Ink::Bad, "x"), "x");
        assert_eq!(painted(true, Ink::Bad, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(painted(true, Ink::Bad, ""), "");
    }
}
