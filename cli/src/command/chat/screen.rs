//! The output of a chat: interactive on a terminal, as plain text, or as JSON.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthStr;
use zim_protocol::{Message, MessageDirection, MessageSentResult};

use super::Typed;
use crate::context::now_ms;
use crate::describe;
use crate::exit::Failure;
use crate::output::{Ink, Output, clock_time};

/// Moves to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// The screen of a chat.
#[derive(Debug)]
pub(super) struct Screen {
    output: Output,
    me: String,
    with: String,
    /// Input and output are terminals.
    interactive: bool,
    /// Typed lines that are not acknowledged yet.
    waiting: VecDeque<String>,
    /// The echo of the typed line is still the last line on the screen.
    echo_is_last: bool,
    has_sent: bool,
    /// The newest message shown at the start: events for it and for earlier messages show nothing new.
    opened_at: i64,
}

impl Screen {
    pub(super) fn new(output: Output, me: &str, with: &str) -> Self {
        Self {
            output,
            me: me.to_owned(),
            with: with.to_owned(),
            interactive: Self::is_interactive(output),
            waiting: VecDeque::new(),
            echo_is_last: false,
            has_sent: false,
            opened_at: 0,
        }
    }

    /// Returns true if input and output are terminals.
    pub(super) fn is_interactive(output: Output) -> bool {
        !output.is_json() && io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    pub(super) fn with(&self) -> &str {
        &self.with
    }

    pub(super) fn command(&self, line: &str) -> Typed {
        Typed::of(line, self.interactive)
    }

    /// Shows the earlier messages; the last `unread` received ones are new.
    pub(super) fn begin(&mut self, earlier: &[Message], unread: i64) -> Result<(), Failure> {
        let unread = usize::try_from(unread).unwrap_or(0);
        if self.interactive {
            let what = match unread {
                0 => "nothing new".to_owned(),
                count => format!("{count} unread"),
            };
            self.output.line(self.output.paint(Ink::Bold, &format!("{} and {}: {what}", self.me, self.with)))?;
        }
        self.opened_at = earlier.last().map_or(0, |message| message.message_seq);
        let received = |message: &Message| message.direction() == MessageDirection::Receive;
        let mut left = earlier.iter().filter(|message| received(message)).count();
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
        self.prompt()
    }

    fn rule(&self, text: &str) -> Result<(), Failure> {
        if self.output.is_json() {
            return Ok(());
        }
        self.output.line(self.output.paint(Ink::Dim, &format!("---- {text} ----")))
    }

    fn columns(&self) -> usize {
        self.me.chars().count().max(self.with.chars().count()).min(32)
    }

    fn message(&self, message: &Message) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.output.json(message);
        }
        describe::message(self.output, message, self.columns()).into_iter().try_for_each(|line| self.output.line(line))
    }

    /// Clears the prompt, to print above the line that is being typed.
    fn above(&mut self) -> Result<(), Failure> {
        self.echo_is_last = false;
        self.raw(CLEAR_LINE)
    }

    fn raw(&self, text: &str) -> Result<(), Failure> {
        if !self.interactive {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
    }

    pub(super) fn prompt(&self) -> Result<(), Failure> {
        self.raw("> ")
    }

    /// Shows received messages.
    pub(super) fn messages(&mut self, messages: &[Message]) -> Result<(), Failure> {
        // A message without a sequence number is not stored and is received once.
        let is_new = |message: &&Message| message.message_seq == 0 || message.message_seq > self.opened_at;
        let new: Vec<_> = messages.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.above()?;
        new.into_iter().try_for_each(|message| self.message(message))?;
        self.prompt()
    }

    /// Notes a typed line that is being sent.
    pub(super) fn typed(&mut self, text: &str) {
        // The message can replace the echo if the echo fits in one line and nothing is printed in between.
        let columns = terminal_size::terminal_size().map_or(0, |(width, _)| usize::from(width.0));
        self.echo_is_last = self.interactive && self.waiting.is_empty() && text.width() + 2 < columns;
        self.waiting.push_back(text.to_owned());
    }

    /// Shows the result of the oldest typed line.
    pub(super) fn sent(&mut self, outcome: Result<MessageSentResult, zim_client_sdk::Error>) -> Result<(), Failure> {
        let text = self.waiting.pop_front().unwrap_or_default();
        match outcome {
            Ok(sent) => self.stored(sent.message.unwrap_or_default()),
            Err(error) => {
                let failure = Failure::from(error);
                if !self.interactive {
                    return Err(failure);
                }
                self.above()?;
                let label = self.output.paint(Ink::Bad, "not sent");
                let shown = describe::short(&Message::text(text));
                self.output.line(format!(
                    "{label}: {shown}\n  {} {}",
                    failure.name(),
                    describe::line(&failure.message)
                ))?;
                self.prompt()
            }
        }
    }

    fn stored(&mut self, message: Message) -> Result<(), Failure> {
        self.has_sent = true;
        if !self.interactive {
            return self.message(&message);
        }
        let tick = self.output.paint(Ink::Good, " ✓");
        if self.echo_is_last {
            // Overwrites the echo of the typed line.
            self.raw("\x1b[1A")?;
        }
        self.above()?;
        let mut lines = describe::message(self.output, &message, self.columns());
        if let Some(last) = lines.last_mut() {
            last.push_str(&tick);
        }
        lines.into_iter().try_for_each(|line| self.output.line(line))?;
        self.prompt()
    }

    /// Shows that the other user has read the sent messages.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        if !self.has_sent || self.output.is_json() {
            return Ok(());
        }
        let text = format!("read by {}", self.with);
        self.aside(&text)
    }

    /// Shows a remark that is not a message.
    pub(super) fn aside(&mut self, text: &str) -> Result<(), Failure> {
        if !self.interactive {
            self.output.note(text);
            return Ok(());
        }
        self.above()?;
        let remark = format!("{}  {}", clock_time(now_ms()), describe::line(text));
        self.output.line(self.output.paint(Ink::Dim, &remark))?;
        self.prompt()
    }

    pub(super) fn help(&mut self) -> Result<(), Failure> {
        self.aside("each line is sent as a message; ✓ means stored; /quit or Ctrl-D ends the chat")
    }

    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.raw("\r\x1b[K")
    }
}
