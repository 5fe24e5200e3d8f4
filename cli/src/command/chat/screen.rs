//! What a chat looks like: on a terminal, in a pipe for people, and as JSON.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthStr;
use zim_protocol::{Message, MessageDirection, MessageSentResult};

use super::Typed;
use crate::context::now_ms;
use crate::describe;
use crate::exit::Failure;
use crate::output::{Ink, Output, clock_time};

/// Goes to the begin of the line and empties it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Where a chat is shown.
#[derive(Debug)]
pub(super) struct Screen {
    output: Output,
    me: String,
    with: String,
    /// Somebody types and sees what is typed.
    interactive: bool,
    /// Lines that were typed and are not answered yet, and whether their echo is still the last line on the screen.
    waiting: VecDeque<String>,
    echo_is_last: bool,
    has_sent: bool,
    /// The newest message that was shown at the beginning: an event for it, or for what came before, shows nothing new.
    opened_at: i64,
}

impl Screen {
    pub(super) fn new(output: Output, me: &str, with: &str) -> Self {
        let interactive = !output.is_json() && io::stdin().is_terminal() && io::stdout().is_terminal();
        Self {
            output,
            me: me.to_owned(),
            with: with.to_owned(),
            interactive,
            waiting: VecDeque::new(),
            echo_is_last: false,
            has_sent: false,
            opened_at: 0,
        }
    }

    pub(super) fn with(&self) -> &str {
        &self.with
    }

    pub(super) fn command(&self, line: &str) -> Typed {
        Typed::of(line, self.interactive)
    }

    /// The messages of before; the last `unread` are new.
    pub(super) fn begin(&mut self, before: &[Message], unread: i64) -> Result<(), Failure> {
        let unread = usize::try_from(unread).unwrap_or(0);
        if self.interactive {
            let what = match unread {
                0 => "nothing new".to_owned(),
                count => format!("{count} unread"),
            };
            self.output.line(self.output.paint(Ink::Bold, &format!("{} and {}: {what}", self.me, self.with)))?;
        }
        self.opened_at = before.last().map_or(0, |message| message.message_seq);
        let received = |message: &Message| message.direction() == MessageDirection::Receive;
        let mut left = before.iter().filter(|message| received(message)).count();
        let mut told = unread == 0;
        for message in before {
            if received(message) {
                if left <= unread && !told {
                    self.rule("new")?;
                    told = true;
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

    /// Makes room above the line that is being typed.
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

    /// Messages that came.
    pub(super) fn messages(&mut self, messages: &[Message]) -> Result<(), Failure> {
        // What has no number is kept nowhere and comes once.
        let is_new = |message: &&Message| message.message_seq == 0 || message.message_seq > self.opened_at;
        let new: Vec<_> = messages.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.above()?;
        new.into_iter().try_for_each(|message| self.message(message))?;
        self.prompt()
    }

    /// A line was typed; what becomes of it is not known yet.
    pub(super) fn typed(&mut self, text: &str) {
        // The echo can be replaced by the message if it did not fill the line, and nothing was printed since.
        let columns = terminal_size::terminal_size().map_or(0, |(width, _)| usize::from(width.0));
        self.echo_is_last = self.interactive && self.waiting.is_empty() && text.width() + 2 < columns;
        self.waiting.push_back(text.to_owned());
    }

    /// What became of the line that was typed first.
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
                let said = self.output.paint(Ink::Bad, "not sent");
                let shown = describe::short(&Message::text(text));
                self.output.line(format!(
                    "{said}: {shown}\n  {} {}",
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
            // Over the echo of what was typed.
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

    /// The other side has read what was sent.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        if !self.has_sent || self.output.is_json() {
            return Ok(());
        }
        let text = format!("read by {}", self.with);
        self.aside(&text)
    }

    /// Something beside the conversation.
    pub(super) fn aside(&mut self, text: &str) -> Result<(), Failure> {
        if !self.interactive {
            self.output.note(text);
            return Ok(());
        }
        self.above()?;
        let said = format!("{}  {}", clock_time(now_ms()), describe::line(text));
        self.output.line(self.output.paint(Ink::Dim, &said))?;
        self.prompt()
    }

    pub(super) fn help(&mut self) -> Result<(), Failure> {
        self.aside("a line is a message; ✓ is stored; /quit or Ctrl-D ends")
    }

    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.raw("\r\x1b[K")
    }
}
