//! `zim history`: messages of a conversation.

use clap::Args;
use zim_client_sdk::Zim;
use zim_protocol::{ConversationType, Message, MessageQueryConfig};

use crate::context::Context;
use crate::describe;
use crate::exit::Failure;
use crate::output::{Ink, date};
use crate::target::Target;

/// The limit of messages in a request.
const PAGE: i64 = 100;

/// `zim history`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim history bob                     the last 20 messages
  zim history bob --before 120        the 20 before message 120
  zim history bob --all | jq -r .message
  zim history --group crew")]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    with: Target,
    #[command(flatten)]
    range: RangeArgs,
}

/// Which messages of a conversation are shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct RangeArgs {
    /// Number of messages to show
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..))]
    count: i64,
    /// Show messages before this sequence number
    #[arg(long, value_name = "SEQ", conflicts_with = "after", value_parser = clap::value_parser!(i64).range(1..))]
    before: Option<i64>,
    /// Show messages after this sequence number; 0 starts with the first message
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
    /// Show all messages
    #[arg(long, conflicts_with = "count")]
    all: bool,
}

impl RangeArgs {
    /// Returns true if pages are fetched from old to new. They are then shown as they arrive.
    fn forward(&self) -> bool {
        self.after.is_some() || (self.all && self.before.is_none())
    }

    /// Says that there is nothing to show.
    fn nothing(&self, place: &str) -> String {
        match (self.after.filter(|after| *after > 0), self.before) {
            (Some(after), _) => format!("There is nothing newer than message {after} {place}."),
            (_, Some(before)) => format!("There is nothing older than message {before} {place}."),
            _ => format!("There are no messages {place}."),
        }
    }

    fn wanted(&self) -> i64 {
        if self.all { i64::MAX } else { self.count }
    }
}

/// A conversation whose messages are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) zim: &'a Zim,
    pub(crate) id: &'a str,
    pub(crate) kind: ConversationType,
    /// Where it is, in a sentence.
    pub(crate) place: &'a str,
}

pub(crate) async fn run(args: HistoryArgs, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let place = args.with.place("with");
    let of = Shown { zim: &session.zim, id: &args.with.id, kind: args.with.kind(), place: &place };
    let shown = of.show(&args.range, context).await;
    session.end().await;
    shown
}

impl Shown<'_> {
    pub(crate) async fn show(self, range: &RangeArgs, context: &Context) -> Result<(), Failure> {
        let shown = match range.forward() {
            true => self.forward(range, context).await?,
            false => self.backward(range, context).await?,
        };
        if shown == 0 && !context.output.is_json() {
            context.output.line(range.nothing(self.place))?;
        }
        Ok(())
    }

    async fn page(self, anchor: i64, count: i64, reverse: bool) -> Result<Vec<Message>, Failure> {
        let anchor = (anchor > 0).then(|| Message {
            conversation_id: self.id.to_owned(),
            conversation_type: self.kind as i32,
            message_seq: anchor,
            ..Message::default()
        });
        let config = MessageQueryConfig { next_message: anchor, count, reverse, ..MessageQueryConfig::default() };
        Ok(self.zim.query_history_message(self.id, self.kind, config).await?.message_list)
    }

    async fn forward(self, range: &RangeArgs, context: &Context) -> Result<usize, Failure> {
        let (mut left, mut anchor) = (range.wanted(), range.after.unwrap_or(0));
        let (mut shown, mut day) = (0, String::new());
        while left > 0 {
            let messages = self.page(anchor, left.min(PAGE), false).await?;
            let Some(last) = messages.last() else { break };
            (anchor, left) = (last.message_seq, left - i64::try_from(messages.len()).unwrap_or(left));
            shown += messages.len();
            show(context, &messages, &mut day)?;
        }
        Ok(shown)
    }

    async fn backward(self, range: &RangeArgs, context: &Context) -> Result<usize, Failure> {
        let (mut left, mut anchor) = (range.wanted(), range.before.unwrap_or(0));
        let mut pages = Vec::new();
        while left > 0 {
            let messages = self.page(anchor, left.min(PAGE), true).await?;
            let Some(first) = messages.first() else { break };
            (anchor, left) = (first.message_seq, left - i64::try_from(messages.len()).unwrap_or(left));
            pages.push(messages);
            if anchor <= 1 {
                break;
            }
        }
        pages.reverse();
        let messages = pages.concat();
        show(context, &messages, &mut String::new())?;
        Ok(messages.len())
    }
}

/// Shows messages with a heading for each day. `day` is the last heading that was shown.
pub(crate) fn show(context: &Context, messages: &[Message], day: &mut String) -> Result<(), Failure> {
    let columns = describe::sender_columns(messages);
    let digits = messages.iter().map(|message| message.message_seq.to_string().len()).max().unwrap_or(0);
    for message in messages {
        if context.output.is_json() {
            context.output.json(message)?;
            continue;
        }
        let on = date(message.timestamp);
        if on != *day {
            context.output.line(context.output.paint(Ink::Dim, &on))?;
            *day = on;
        }
        // Revoking a message takes its number.
        let mut number = context.output.paint(Ink::Dim, &format!("{:>digits$}", message.message_seq));
        for line in describe::message(context.output, message, columns) {
            context.output.line(format!("{number}  {line}"))?;
            number = " ".repeat(digits);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: HistoryArgs,
    }

    fn args(line: &str) -> Result<HistoryArgs, clap::Error> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.args)
    }

    #[test]
    fn the_options_decide_the_direction() {
        for (line, forward, wanted) in [
            ("history bob", false, 20),
            ("history bob --before 5 -n 3", false, 3),
            ("history bob --after 5", true, 20),
            ("history bob --all", true, i64::MAX),
            ("history bob --all --before 5", false, i64::MAX),
        ] {
            let args = args(line).unwrap();
            assert_eq!((args.range.forward(), args.range.wanted()), (forward, wanted), "{line}");
        }
        for bad in
            ["history", "history bob --count 0", "history bob --before 3 --after 1", "history bob --all --count 3"]
        {
            assert!(args(bad).is_err(), "{bad}");
        }
    }
}
