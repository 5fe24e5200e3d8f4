//! `zim send`: sends messages.

use std::io::Read;

use clap::{Args, ValueEnum};
use tokio::io::{AsyncBufReadExt, BufReader};
use zim_protocol::{ConversationType, Message, MessageSendConfig, MessageSentResult};

use crate::context::{Context, Session};
use crate::describe;
use crate::exit::Failure;
use crate::output::{Ink, clock_time};

/// The limit of messages in flight with `--lines`: enough to keep the connection busy, and few that may be lost.
const MAX_IN_FLIGHT: usize = 64;
/// The size limit of a message: no server accepts more.
const MAX_BYTES: u64 = 32 << 10;

/// `zim send`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim send bob \"see you at 8\"
  date | zim send bob -
  tail -f log | zim send bob --lines -
  zim send bob --type custom --custom-type 7 '{\"poll\":\"pizza?\"}'

Success means that the message is stored: the output shows it with its final sequence number.")]
pub(crate) struct SendArgs {
    /// The user
    #[arg(value_name = "TO")]
    to: String,
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
    /// Do not count the message as unread
    #[arg(long)]
    quiet: bool,
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Text,
    Command,
    Custom,
}

impl SendArgs {
    fn is_from_stdin(&self) -> bool {
        self.text == ["-"]
    }

    fn message(&self, text: String) -> Message {
        let message = match self.kind {
            Kind::Text => Message::text(text),
            Kind::Command => Message::command(text.into_bytes()),
            Kind::Custom => Message::custom(text, self.custom_type),
        };
        Message { extended_data: self.extended_data.clone(), ..message }
    }

    fn config(&self) -> MessageSendConfig {
        MessageSendConfig { disable_unread_message_count: self.quiet, ..MessageSendConfig::default() }
    }
}

pub(crate) async fn run(args: SendArgs, context: &Context) -> Result<(), Failure> {
    if args.lines && !args.is_from_stdin() {
        return Err(Failure::usage("--lines reads standard input: zim send TO --lines -"));
    }
    if args.custom_type != 0 && args.kind != Kind::Custom {
        return Err(Failure::usage("--custom-type requires --type custom"));
    }
    if args.lines {
        let session = context.one_shot().await?;
        let sent = send_lines(&args, context, &session).await;
        session.end().await;
        return sent;
    }
    // Standard input is read before the login: typing may take minutes.
    let text = if args.is_from_stdin() { read_stdin()? } else { args.text.join(" ") };
    let session = context.one_shot().await?;
    let sent = send(&args, &session, text).await;
    session.end().await;
    show(context, &sent?)
}

fn send(
    args: &SendArgs,
    session: &Session,
    text: String,
) -> impl Future<Output = Result<MessageSentResult, Failure>> + use<> {
    let sending = session.zim.send_message(
        args.message(text),
        &args.to,
        ConversationType::Peer,
        args.config(),
        zim_client_sdk::MessageSendNotification::default(),
    );
    async move { Ok(sending.await?) }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(Failure::usage("standard input is longer than the limit of a message, 32 KB")
            .hint("--lines sends each line as a message of its own"));
    }
    // The line break that `echo` adds is not part of the message.
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

/// Sends lines as they are read, several in flight. The server keeps their order.
async fn send_lines(args: &SendArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    use futures_util::StreamExt;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut in_flight = futures_util::stream::FuturesOrdered::new();
    let mut more = true;
    while more || !in_flight.is_empty() {
        tokio::select! {
            biased;
            Some(sent) = in_flight.next() => show(context, &sent?)?,
            line = lines.next_line(), if more && in_flight.len() < MAX_IN_FLIGHT => match line? {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => in_flight.push_back(send(args, session, line)),
                None => more = false,
            },
        }
    }
    Ok(())
}

fn show(context: &Context, sent: &MessageSentResult) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.json(sent);
    }
    let Some(message) = &sent.message else { return Ok(()) };
    let at = clock_time(message.timestamp);
    let seq = if message.message_seq > 0 { format!(", number {}", message.message_seq) } else { String::new() };
    let to = context.output.paint(Ink::Name, &message.conversation_id);
    context.output.line(format!("Sent to {to} at {at}{seq}: {}", describe::short(message)))
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
    }

    #[test]
    fn invalid_options_are_refused() {
        for line in [
            &["send", "bob"][..],
            &["send", "bob", "hi", "--type", "song"],
            &["send", "bob", "hi", "--custom-type", "201"],
        ] {
            assert!(Line::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
