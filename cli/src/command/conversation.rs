//! `zim conversation`: lists, shows and reads conversations.

use clap::{Args, Subcommand};
use zim_protocol::{
    Conversation, ConversationFilterOption, ConversationQueryConfig, ConversationTotalUnreadMessageCountQueryConfig,
    ConversationType,
};

use crate::context::{Context, Session, now_ms};
use crate::describe;
use crate::exit::Failure;
use crate::output::{Align, Ink, Table, when};
use crate::target::Target;

/// `zim conversation`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim conversation list
  zim conversation list --unread | jq -r .conversationID
  zim conversation clear bob
  zim conversation show --group crew")]
pub(crate) enum ConversationCommand {
    /// List conversations, newest first
    List(ListArgs),
    /// Show a conversation
    Show(Target),
    /// Mark all messages of a conversation as read, on all of your devices
    Clear(Target),
    /// Show the total number of unread messages
    Unread,
}

/// `zim conversation list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those with unread messages
    #[arg(long)]
    unread: bool,
    /// Maximum number to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    count: i64,
}

pub(crate) async fn run(command: ConversationCommand, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot_synced().await?;
    let outcome = match command {
        ConversationCommand::List(args) => list(&args, context, &session).await,
        ConversationCommand::Show(with) => show(&with, context, &session).await,
        ConversationCommand::Clear(with) => clear(&with, context, &session).await,
        ConversationCommand::Unread => unread(context, &session).await,
    };
    session.end().await;
    outcome
}

async fn list(args: &ListArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let config = ConversationQueryConfig { count: args.count, ..ConversationQueryConfig::default() };
    let filter =
        ConversationFilterOption { is_only_unread_conversation: args.unread, ..ConversationFilterOption::default() };
    let found = session.zim.query_conversation_list(config, filter).await?.conversation_list;
    if context.output.is_json() {
        return found.iter().try_for_each(|conversation| context.output.json(conversation));
    }
    if found.is_empty() {
        return context.output.line(if args.unread {
            "There are no unread messages."
        } else {
            "There are no conversations yet: start one with zim send USER \"hi\"."
        });
    }
    context.output.table(&table(&found, &session.user_id, now_ms()))
}

/// Returns a table of conversations.
pub(crate) fn table(conversations: &[Conversation], me: &str, now_ms: i64) -> Table {
    let mut table = Table::new(&[
        ("UNREAD", Align::Right),
        ("WITH", Align::Left),
        ("WHEN", Align::Left),
        ("LAST MESSAGE", Align::Left),
    ]);
    for conversation in conversations {
        let unread = match conversation.unread_message_count {
            0 => "-".to_owned(),
            count => count.to_string(),
        };
        let (at, last) = match &conversation.last_message {
            Some(last) if last.sender_user_id == me => (last.timestamp, format!("you: {}", describe::short(last))),
            Some(last) if conversation.r#type() == ConversationType::Group => {
                (last.timestamp, format!("{}: {}", describe::sender(last), describe::short(last)))
            }
            Some(last) => (last.timestamp, describe::short(last)),
            None => (0, String::new()),
        };
        table.row([unread, describe::name(conversation), when(at, now_ms), last]);
    }
    table
}

async fn show(with: &Target, context: &Context, session: &Session) -> Result<(), Failure> {
    let found = session.zim.query_conversation(&with.id, with.kind()).await?;
    if context.output.is_json() {
        return context.output.json(&found);
    }
    let conversation = found.conversation.unwrap_or_default();
    let now = now_ms();
    let mut rows = vec![
        ("with", describe::name(&conversation)),
        ("unread", conversation.unread_message_count.to_string()),
        ("read up to", conversation.read_message_seq.to_string()),
    ];
    if conversation.is_disabled {
        rows.push(("read only", "you are not a member".to_owned()));
    }
    if let Some(last) = &conversation.last_message {
        rows.push(("last", format!("number {}, {}", last.message_seq, when(last.timestamp, now))));
        rows.push(("", format!("{}: {}", describe::sender(last), describe::short(last))));
    }
    rows.into_iter().try_for_each(|(what, value)| context.output.line(format!("{what:<12}{value}")))
}

async fn clear(with: &Target, context: &Context, session: &Session) -> Result<(), Failure> {
    let cleared = session.zim.clear_conversation_unread_message_count(&with.id, with.kind()).await?;
    if context.output.is_json() {
        return context.output.json(&cleared);
    }
    let place = context.output.paint(Ink::Name, &with.place("from"));
    context.output.line(format!("All messages {place} are marked as read."))
}

async fn unread(context: &Context, session: &Session) -> Result<(), Failure> {
    let config = ConversationTotalUnreadMessageCountQueryConfig::default();
    let total = session.zim.query_conversation_total_unread_message_count(config).await?;
    if context.output.is_json() {
        return context.output.json(&total);
    }
    context.output.line(format!("{} unread", total.unread_message_count))
}

#[cfg(test)]
mod tests {
    use zim_protocol::Message;

    use super::*;

    #[test]
    fn the_list_shows_unread_counts_and_the_last_sender() {
        let conversation = |id: &str, unread, sender: &str| Conversation {
            conversation_id: id.into(),
            unread_message_count: unread,
            last_message: Some(Message { sender_user_id: sender.into(), ..Message::text("hi\nthere") }),
            ..Conversation::default()
        };
        let group = Conversation { r#type: ConversationType::Group as i32, ..conversation("crew", 1, "bob") };
        let rows = table(&[conversation("bob", 2, "bob"), conversation("carol", 0, "ann"), group], "ann", 0).render();
        assert_eq!(
            rows,
            [
                "UNREAD  WITH        WHEN  LAST MESSAGE",
                "     2  bob               hi there",
                "     -  carol             you: hi there",
                "     1  group crew        bob: hi there"
            ]
        );
    }
}
