//! `zim search`: messages of a conversation that have all of some words.

use clap::Args;
use zim_protocol::{Message, MessageQueryConfig, MessageSearchConfig};

use super::history::show;
use crate::context::{Context, Session};
use crate::exit::Failure;
use crate::target::Target;

/// The limit of messages in a request.
const PAGE: i64 = 100;

/// `zim search`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim search bob lunch monday          messages with both
  zim search bob 明天 -n 5
  zim search --group crew \"see you\"   messages with these words in this order")]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    with: Target,
    /// What a message must have: up to 5 texts, in any order; case does not matter
    #[arg(value_name = "TEXT", required = true, num_args = 1..=5)]
    texts: Vec<String>,
    /// Number of messages to show, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Number of messages to look at, the newest ones
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    among: u32,
}

pub(crate) async fn run(args: SearchArgs, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot_synced().await?;
    let found = find(&args, &session).await;
    session.end().await;
    let found = found?;
    if found.is_empty() && !context.output.is_json() {
        return context.output.line(format!("There is no such message {}.", args.with.place("with")));
    }
    show(context, &found, &mut String::new())
}

/// Fetches the history, and searches it.
async fn find(args: &SearchArgs, session: &Session) -> Result<Vec<Message>, Failure> {
    let (zim, id, kind) = (&session.zim, &args.with.id, args.with.kind());
    let (mut left, mut oldest) = (i64::from(args.among), None);
    while left > 0 {
        let config = MessageQueryConfig {
            next_message: oldest.take(),
            count: left.min(PAGE),
            reverse: true,
            ..MessageQueryConfig::default()
        };
        let page = zim.query_history_message(id, kind, config).await?.message_list;
        let Some(first) = page.into_iter().next() else { break };
        left -= PAGE;
        if first.message_seq <= 1 {
            break;
        }
        oldest = Some(first);
    }
    let mut found: Vec<Message> = Vec::new();
    let wanted = usize::try_from(args.count).unwrap_or(usize::MAX);
    while found.len() < wanted {
        let config = MessageSearchConfig {
            keywords: args.texts.clone(),
            next_message: found.last().cloned(),
            ..MessageSearchConfig::default()
        };
        let page = zim.search_local_messages(id, kind, config).await?;
        found.extend(page.message_list);
        if page.next_message.is_none() {
            break;
        }
    }
    found.truncate(wanted);
    found.reverse();
    Ok(found)
}
