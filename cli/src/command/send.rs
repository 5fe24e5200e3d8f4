//! `zim send`: sends messages.

use std::io::Read;

use clap::{Args, ValueEnum};
use zim_protocol::{Message, MessageSendConfig, MessageSentResult, PushConfig, Validate};

use crate::context::{Context, Session};
use crate::deliver::deliver;
use crate::describe;
use crate::exit::Failure;
use crate::input::{BadLine, Check, Lines, MAX_BYTES};
use crate::output::{Ink, clock_time};
use crate::progress;
use crate::target::Target;
use crate::text::{preview, without_mark};

/// The characters of a message that its push shows.
const MAX_PUSH_CHARS: usize = 200;

/// `zim send`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim send bob \"see you at 8\"
  zim send --group crew \"hi all\"
  zim send bob \"read this, please\" --receipt
  zim send --group crew \"look at this\" --mention bob
  date | zim send bob -
  tail -f log | zim send bob --lines -
  zim send bob --lines - < notes
  zim send bob \"the backup of May is done\" --idempotency-key backup-may
  zim send bob --type custom --custom-type 7 '{\"poll\":\"pizza?\"}'

With --lines, a file is checked to its end before anything is sent; a pipe is sent as it is read. Lines are sent one \
after the other, as fast as the server allows. The first one that fails ends the command: it is named, and nothing after it is sent.

Success means that the message is stored: the output shows it with its final sequence number.")]
pub(crate) struct SendArgs {
    #[command(flatten)]
    to: Target,
    /// The message; several words are joined; - reads standard input
    #[arg(value_name = "TEXT", required = true)]
    text: Vec<String>,
    /// text, command (delivered at most once, not stored) or custom
    #[arg(long = "type", value_name = "TYPE", default_value = "text", hide_default_value = true)]
    kind: Kind,
    /// The app-defined type of a custom message, 0 to 200
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..=200))]
    custom_type: i64,
    /// App-defined text of up to 1 KB to attach to the message
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    extended_data: String,
    /// Send each line of standard input as a message
    #[arg(long)]
    lines: bool,
    /// Ask for a receipt: zim message receipts shows who has read it
    #[arg(long)]
    receipt: bool,
    /// Mention a user: they are notified even if they do not want to be disturbed; may be repeated
    #[arg(long = "mention", value_name = "USER")]
    mentions: Vec<String>,
    /// Mention everybody in the conversation
    #[arg(long)]
    mention_all: bool,
    /// Do not count the message as unread
    #[arg(long)]
    quiet: bool,
    /// Push the message to devices that are away, under this title
    #[arg(long, value_name = "TITLE")]
    push: Option<String>,
    /// A key of your own: of all messages to this conversation with the same key, only the first is sent
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true, conflicts_with = "lines")]
    idempotency_key: String,
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Text,
    Command,
    Custom,
}

impl Kind {
    pub(crate) fn message(self, text: String, custom_type: i64) -> Message {
        match self {
            Self::Text => Message::text(text),
            Self::Command => Message::command(text.into_bytes()),
            Self::Custom => Message::custom(text, custom_type),
        }
    }
}

/// Checks the limits of a message before it is sent.
pub(crate) fn checked(message: &Message) -> Result<(), Failure> {
    message.validate().map_err(|violation| Failure::coded(violation.code as i32, violation.to_string()))
}

impl SendArgs {
    fn is_from_stdin(&self) -> bool {
        self.text == ["-"]
    }

    fn message(&self, text: String) -> Message {
        let message = self.kind.message(text, self.custom_type);
        Message {
            extended_data: self.extended_data.clone(),
            mentioned_user_ids: self.mentions.clone(),
            is_mention_all: self.mention_all,
            ..message
        }
    }

    /// Returns the check of a line.
    fn check(&self) -> Check {
        let (kind, custom_type) = (self.kind, self.custom_type);
        Box::new(move |text| checked(&kind.message(text.to_owned(), custom_type)))
    }

    /// Returns what a push of the message says. Standard input and lines are not known yet, so their pushes have a title only.
    fn push_config(&self, title: &str) -> PushConfig {
        let text = if self.is_from_stdin() { String::new() } else { self.text.join(" ") };
        push_config(title, self.kind, &text)
    }

    fn config(&self) -> MessageSendConfig {
        MessageSendConfig {
            disable_unread_message_count: self.quiet,
            has_receipt: self.receipt,
            idempotency_key: self.idempotency_key.clone(),
            push_config: self.push.as_ref().map(|title| self.push_config(title)),
            ..MessageSendConfig::default()
        }
    }
}

/// Returns what the push of a message of this type says. Only a text is shown.
pub(crate) fn push_config(title: &str, kind: Kind, text: &str) -> PushConfig {
    let content = if kind == Kind::Text { preview(text, MAX_PUSH_CHARS) } else { String::new() };
    PushConfig { title: title.to_owned(), content, enable_badge: true, ..PushConfig::default() }
}

pub(crate) async fn run(args: SendArgs, context: &Context) -> Result<(), Failure> {
    if args.lines && !args.is_from_stdin() {
        return Err(Failure::usage("--lines reads standard input: zim send ID --lines -"));
    }
    if args.custom_type != 0 && args.kind != Kind::Custom {
        return Err(Failure::usage("--custom-type requires --type custom"));
    }
    if args.lines {
        let lines = Lines::open(args.check()).await?;
        let session = context.one_shot().await?;
        let sent = send_lines(&args, context, &session, lines).await;
        session.end().await;
        return sent;
    }
    // Standard input is read before the login: typing may take minutes.
    let text = if args.is_from_stdin() { read_stdin()? } else { args.text.join(" ") };
    let session = context.one_shot().await?;
    let sent = send(&args, &session, text).await;
    session.end().await;
    show(&args, context, &sent?)
}

async fn send(args: &SendArgs, session: &Session, text: String) -> Result<MessageSentResult, Failure> {
    let message = args.message(text);
    Ok(deliver(session.zim.clone(), message, args.to.clone(), args.config()).await?)
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    if std::io::stdin().lock().take(limit + 1).read_to_string(&mut text)? > MAX_BYTES {
        return Err(Failure::usage("standard input is longer than the limit of a message, 32 KB")
            .hint("--lines sends each line as a message of its own"));
    }
    // The line break that `echo` adds is not part of the message.
    Ok(without_mark(&text).trim_end_matches(['\n', '\r']).to_owned())
}

/// Sends lines one after the other, so that nothing is sent after one that fails.
async fn send_lines(args: &SendArgs, context: &Context, session: &Session, mut lines: Lines) -> Result<(), Failure> {
    let limits = session.zim.server_limits().await?;
    lines.limit(match args.kind {
        Kind::Text => limits.max_text_bytes,
        Kind::Command => limits.max_command_bytes,
        Kind::Custom => limits.max_custom_bytes,
    })?;
    let progress = progress::sending(lines.left());
    let mut sent = 0;
    while let Some(line) = lines.next().await.map_err(|bad| bad.after(sent))? {
        if line.is_blank() {
            continue;
        }
        let shown = send(args, session, line.text).await.and_then(|stored| show(args, context, &stored));
        shown.map_err(|failure| BadLine { number: line.number, failure }.after(sent))?;
        sent += 1;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

fn show(args: &SendArgs, context: &Context, sent: &MessageSentResult) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.json(sent);
    }
    let message = sent.message.clone().unwrap_or_default();
    let at = clock_time(message.timestamp);
    let seq = if message.message_seq > 0 { format!(", number {}", message.message_seq) } else { String::new() };
    let to = context.output.paint(Ink::Name, &args.to.name());
    context.output.line(format!("Sent to {to} at {at}{seq}: {}", describe::short(&message)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SendArgs,
    }

    fn args(line: &[&str]) -> SendArgs {
        Line::try_parse_from([&["send"], line].concat()).unwrap().args
    }

    #[test]
    fn words_are_joined_to_one_message() {
        let args = args(&["bob", "see", "you", "at 8"]);
        assert_eq!(args.message(args.text.join(" ")).as_text(), Some("see you at 8"));
        assert!(!args.is_from_stdin());
    }

    #[test]
    fn the_type_decides_the_message() {
        let custom = args(&["bob", "--type", "custom", "--custom-type", "7", "{}"]);
        assert_eq!(custom.message("{}".into()), Message::custom("{}", 7));
        let command = args(&["bob", "--type", "command", "-"]);
        assert!(command.is_from_stdin());
        assert_eq!(command.message("ring".into()), Message::command("ring"));
        let extended = args(&["bob", "hi", "--extended-data", "x", "--quiet"]);
        assert_eq!(extended.message("hi".into()).extended_data, "x");
        assert!(extended.config().disable_unread_message_count);
        assert_eq!(args(&["bob", "hi", "--idempotency-key", "7"]).config().idempotency_key, "7");
        let asked = args(&["-g", "crew", "hi", "--receipt", "--mention", "ann", "--mention", "bob", "--mention-all"]);
        let message = asked.message("hi".into());
        assert!(asked.config().has_receipt && message.is_mention_all && !args(&["bob", "hi"]).config().has_receipt);
        assert_eq!(message.mentioned_user_ids, ["ann", "bob"]);
    }

    #[test]
    fn invalid_options_are_refused() {
        for line in [
            &["send", "bob"][..],
            &["send", "bob", "hi", "--type", "song"],
            &["send", "bob", "hi", "--custom-type", "201"],
            &["send", "bob", "--lines", "-", "--idempotency-key", "7"],
        ] {
            assert!(Line::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
