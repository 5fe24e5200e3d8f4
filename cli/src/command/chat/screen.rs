//! The output of a chat: on a terminal, as plain text, or as JSON.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IsTerminal, Write};

use zim_protocol::{ConversationType, Message, MessageDirection, MessageSentResult};

use super::editor::{Editor, Entered};
use super::shown::Form;
use super::typed::{HELP, Typed};
use crate::context::now_ms;
use crate::describe;
use crate::exit::Failure;
use crate::output::{Ink, Output, clock_time};
use crate::target::Target;
use crate::text::preview;

/// The most waiting lines above the prompt.
const MAX_SHOWN: usize = 3;

/// What the screen can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A terminal. Its last rows show the lines that wait and the line that is being typed.
    Live,
    /// A terminal without control sequences, which echoes what is typed by itself.
    Dumb,
    /// Text or JSON in a file or a pipe, or from one.
    Pipe,
}

impl Mode {
    pub(super) fn of(output: Output) -> Self {
        let is_terminal = !output.is_json() && io::stdin().is_terminal() && io::stdout().is_terminal();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match (is_terminal, is_dumb || !cfg!(unix)) {
            (false, _) => Self::Pipe,
            (true, true) => Self::Dumb,
            (true, false) => Self::Live,
        }
    }
}

/// The screen of a chat.
#[derive(Debug)]
pub(super) struct Screen {
    output: Output,
    me: String,
    with: Target,
    /// The width of the column of senders. It grows with the names of a group.
    columns: usize,
    mode: Mode,
    editor: Editor,
    /// Typed lines that are not acknowledged yet.
    waiting: VecDeque<String>,
    /// The number of rows above the prompt that show waiting lines.
    rows: usize,
    /// Whether the other user is writing.
    is_writing: bool,
    /// The numbers of the messages that were sent, by their IDs: receipts name these.
    sent: HashMap<String, i64>,
    /// The position of the newest message at the start: events for it and for earlier messages show nothing new.
    opened_at: i64,
}

impl Screen {
    pub(super) fn new(output: Output, mode: Mode, me: &str, with: &Target) -> Self {
        let names = [me, if with.group || with.room { "" } else { &with.id }];
        let columns = names.into_iter().map(|name| name.chars().count().min(32)).max().unwrap_or(0);
        Self {
            output,
            me: me.to_owned(),
            with: with.clone(),
            columns,
            mode,
            editor: Editor::default(),
            waiting: VecDeque::new(),
            rows: 0,
            is_writing: false,
            sent: HashMap::new(),
            opened_at: 0,
        }
    }

    /// Whether this is the conversation of the chat.
    pub(super) fn is_of(&self, id: &str, kind: ConversationType) -> bool {
        self.with.id == id && self.with.kind() == kind
    }

    /// The other user, the group or the room, in a sentence.
    pub(super) fn name(&self) -> String {
        self.with.name()
    }

    /// Returns the number of a message that was sent, if it was shown.
    pub(super) fn number_of(&self, message_id: &str) -> Option<i64> {
        self.sent.get(message_id).copied()
    }

    /// Whether a message is being typed.
    pub(super) fn is_typing(&self) -> bool {
        self.editor.is_message()
    }

    pub(super) fn command(&self, line: &str) -> Typed {
        Typed::of(line, self.mode != Mode::Pipe)
    }

    /// Takes bytes from the terminal; returns the lines that they end.
    pub(super) fn keys(&mut self, bytes: &[u8]) -> Result<Vec<Entered>, Failure> {
        let entered = bytes.iter().filter_map(|byte| self.editor.byte(*byte)).collect();
        self.raw(&format!("\r{}", self.prompt()))?;
        Ok(entered)
    }

    /// Shows the earlier messages; the last `unread` received ones are new. `newest` is the greatest position of all.
    pub(super) fn begin(&mut self, earlier: &[Message], newest: i64, unread: i64) -> Result<(), Failure> {
        let unread = usize::try_from(unread).unwrap_or(0);
        let received = |message: &Message| message.direction() == MessageDirection::Receive;
        let mut left = earlier.iter().filter(|message| received(message)).count();
        if self.mode != Mode::Pipe {
            let what = unread_of(unread, left);
            self.output
                .line(self.output.paint(Ink::Bold, &format!("{} {}: {what}", self.me, self.with.place("and"))))?;
        }
        self.opened_at = newest;
        self.columns = self.columns.max(describe::sender_columns(earlier));
        let mut marked = unread == 0;
        for message in earlier {
            if received(message) {
                if left <= unread && !marked {
                    self.rule("new")?;
                    marked = true;
                }
                left -= 1;
            }
            self.message(message)?;
        }
        self.draw()
    }

    fn rule(&self, text: &str) -> Result<(), Failure> {
        if self.output.is_json() {
            return Ok(());
        }
        self.output.line(self.output.paint(Ink::Dim, &format!("---- {text} ----")))
    }

    /// Formats a message. The columns do not get narrower, so that the lines below each other stay aligned.
    fn formatted(&mut self, message: &Message) -> Vec<String> {
        self.columns = self.columns.max(describe::sender_columns([message]));
        let has_numbers = self.has_numbers();
        Form { output: self.output, me: &self.me, columns: self.columns, has_numbers }.lines(message)
    }

    /// Whether messages are shown with their numbers. Nothing can be done with those of a room, also if it keeps them.
    fn has_numbers(&self) -> bool {
        self.mode != Mode::Pipe && !self.with.room
    }

    /// Remembers a message that was sent.
    fn remember(&mut self, message: &Message) {
        if message.direction() == MessageDirection::Send && message.message_seq > 0 {
            self.sent.insert(message.message_id.clone(), message.message_seq);
        }
    }

    fn message(&mut self, message: &Message) -> Result<(), Failure> {
        self.remember(message);
        if self.output.is_json() {
            return self.output.json(message);
        }
        self.formatted(message).into_iter().try_for_each(|line| self.output.line(line))
    }

    /// Writes a control sequence; nothing on other screens than a live one.
    fn raw(&self, text: &str) -> Result<(), Failure> {
        if self.mode != Mode::Live {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
    }

    /// Returns the width of the window, without its last column: a terminal wraps there, each in its own way.
    fn width() -> usize {
        let columns = terminal_size::terminal_size().map_or(0, |(width, _)| usize::from(width.0));
        if columns == 0 { 79 } else { columns.saturating_sub(1).max(4) }
    }

    /// Returns the prompt and the end of the line that is being typed. They fit in one row.
    fn prompt(&self) -> String {
        format!("> {}\x1b[K", self.editor.shown(Self::width() - 2))
    }

    /// Clears the last rows, to print above them.
    fn erase(&mut self) -> Result<(), Failure> {
        let up = match std::mem::take(&mut self.rows) {
            0 => String::new(),
            rows => format!("\x1b[{rows}A"),
        };
        self.raw(&format!("\r{up}\x1b[J"))
    }

    /// Draws the last rows: the lines that wait, who is writing, and the prompt.
    fn draw(&mut self) -> Result<(), Failure> {
        if self.mode != Mode::Live {
            return Ok(());
        }
        let mut rows: Vec<String> =
            self.waiting.iter().take(MAX_SHOWN).map(|text| format!("… {}", preview(text, Self::width() - 2))).collect();
        if self.waiting.len() > MAX_SHOWN {
            rows.push(preview(&format!("… and {} more", self.waiting.len() - MAX_SHOWN), Self::width()));
        }
        if self.is_writing {
            rows.push(preview(&format!("{} is writing …", self.name()), Self::width()));
        }
        self.rows = rows.len();
        let rows: String = rows.iter().map(|row| format!("{}\n", self.output.paint(Ink::Dim, row))).collect();
        self.raw(&format!("{rows}{}", self.prompt()))
    }

    /// Shows the last rows again, after something else wrote to the terminal.
    pub(super) fn redraw(&mut self) -> Result<(), Failure> {
        self.rows = 0;
        self.raw("\r\x1b[J")?;
        self.draw()
    }

    /// Prints lines above the last rows.
    fn above(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        self.erase()?;
        lines.into_iter().try_for_each(|line| self.output.line(line))?;
        self.draw()
    }

    /// Shows received messages.
    pub(super) fn messages(&mut self, messages: &[Message]) -> Result<(), Failure> {
        // A message without a sequence number is not stored and is received once.
        let is_new = |message: &&Message| message.message_seq == 0 || message.message_seq > self.opened_at;
        let new: Vec<_> = messages.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.erase()?;
        new.into_iter().try_for_each(|message| self.message(message))?;
        self.draw()
    }

    /// Shows a typed line that waits to be sent.
    pub(super) fn typed(&mut self, text: &str) -> Result<(), Failure> {
        self.erase()?;
        self.waiting.push_back(text.to_owned());
        self.draw()
    }

    /// Shows the result of the oldest typed line.
    pub(super) fn sent(&mut self, outcome: Result<MessageSentResult, Failure>) -> Result<(), Failure> {
        self.erase()?;
        let text = self.waiting.pop_front().unwrap_or_default();
        match outcome {
            Ok(sent) => self.stored(&sent.message.unwrap_or_default()),
            Err(failure) => {
                if self.mode == Mode::Pipe {
                    return Err(failure);
                }
                let label = self.output.paint(Ink::Bad, "not sent");
                let shown = describe::short(&Message::text(text));
                self.above([format!("{label}: {shown}"), why(&failure)])
            }
        }
    }

    fn stored(&mut self, message: &Message) -> Result<(), Failure> {
        self.remember(message);
        let tick = self.output.paint(Ink::Good, "✓");
        match self.mode {
            Mode::Pipe => self.message(message),
            // The terminal shows the line already.
            Mode::Dumb => {
                let (at, seq) = (clock_time(message.timestamp), message.message_seq);
                let is_numbered = seq > 0 && self.has_numbers();
                self.output.line(if is_numbered { format!("{at}  {tick} {seq}") } else { format!("{at}  {tick}") })
            }
            Mode::Live => {
                let mut lines = self.formatted(message);
                if let Some(last) = lines.last_mut() {
                    last.push_str(&format!(" {tick}"));
                }
                self.above(lines)
            }
        }
    }

    /// Shows who has read messages, once there are some that were sent.
    pub(super) fn receipt(&mut self, text: &str) -> Result<(), Failure> {
        if self.sent.is_empty() || self.output.is_json() {
            return Ok(());
        }
        self.aside(text)
    }

    /// Shows whether the other user is writing.
    pub(super) fn writing(&mut self, is_writing: bool) -> Result<(), Failure> {
        match self.mode {
            Mode::Pipe => Ok(()),
            Mode::Dumb if is_writing => self.aside(&format!("{} is writing …", self.name())),
            Mode::Dumb => Ok(()),
            Mode::Live => {
                self.erase()?;
                self.is_writing = is_writing;
                self.draw()
            }
        }
    }

    /// Shows that a command of the chat has failed.
    pub(super) fn failed(&mut self, failure: &Failure) -> Result<(), Failure> {
        let label = self.output.paint(Ink::Bad, "not done");
        self.above([format!("{label}:{}", why(failure))])
    }

    /// Shows a remark that is not a message.
    pub(super) fn aside(&mut self, text: &str) -> Result<(), Failure> {
        if self.mode == Mode::Pipe {
            self.output.note(text);
            return Ok(());
        }
        let remark = format!("{}  {}", clock_time(now_ms()), describe::line(text));
        self.above([self.output.paint(Ink::Dim, &remark)])
    }

    pub(super) fn help(&mut self) -> Result<(), Failure> {
        let output = self.output;
        self.above(HELP.map(|line| output.paint(Ink::Dim, line)))
    }

    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.erase()
    }
}

/// Says how many messages are unread. Those before the ones that are shown are in the history.
fn unread_of(unread: usize, shown: usize) -> String {
    match unread {
        0 => "nothing new".to_owned(),
        count if count > shown => format!("{count} unread, zim history shows those before"),
        count => format!("{count} unread"),
    }
}

/// Says why something has failed.
fn why(failure: &Failure) -> String {
    let name = failure.name();
    let space = if name.is_empty() { "" } else { " " };
    format!("  {name}{space}{}", describe::line(&failure.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_messages_that_are_not_shown_are_in_the_history() {
        assert_eq!((unread_of(0, 10), unread_of(2, 2)), ("nothing new".to_owned(), "2 unread".to_owned()));
        assert!(unread_of(101, 100).contains("zim history"));
    }
}
