//! `zim conversation`: lists, shows, reads and arranges conversations.

use clap::{Args, Subcommand};
use zim_protocol::{
    Conversation, ConversationBaseInfo, ConversationDeleteConfig, ConversationFilterOption,
    ConversationNotificationStatus, ConversationPinnedFilter, ConversationQueryConfig,
    ConversationTotalUnreadMessageCountQueryConfig, ConversationType,
};

use crate::context::{Context, Session, now_ms};
use crate::describe;
use crate::exit::Failure;
use crate::output::{Align, Ink, Table, when};
use crate::target::Target;
use crate::text::{lines, preview};

/// `zim conversation`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim conversation list
  zim conversation list --unread | jq -r .conversationID
  zim conversation clear bob
  zim conversation receipt bob
  zim conversation clear --all
  zim conversation mark bob 3
  zim conversation mark bob 3 --also carl --also dora
  zim conversation list --mark 3
  zim conversation unmark bob 3
  zim conversation list --type group --unpinned
  zim conversation pin bob
  zim conversation pinned
  zim conversation unpin bob
  zim conversation mute --group crew
  zim conversation unmute --group crew
  zim conversation unread
  zim conversation draft bob \"see you at\"
  zim conversation draft bob
  zim conversation show --group crew
  zim conversation delete bob
  zim conversation delete --all")]
pub(crate) enum ConversationCommand {
    /// List conversations, newest first
    List(ListArgs),
    /// List the pinned conversations
    Pinned(PageArgs),
    /// Show a conversation
    Show(Target),
    /// Mark all messages of a conversation, or of all, as read, on all of your devices
    Clear(ClearArgs),
    /// Tell the other user of a conversation that you have read everything
    Receipt(Target),
    /// Pin a conversation to the top of the list
    Pin(Target),
    /// Unpin a conversation
    Unpin(Target),
    /// Do not disturb: leave the unread messages of a conversation out of the total
    Mute(Target),
    /// Be disturbed again
    Unmute(Target),
    /// Give a conversation one of the marks 1 to 20
    Mark(MarkArgs),
    /// Remove a mark of a conversation
    Unmark(MarkArgs),
    /// Show or set a draft: what you have written and not sent; it never leaves this device
    Draft(DraftArgs),
    /// Delete a conversation, or all, from the list, until there is a new message; its messages stay
    Delete(DeleteArgs),
    /// Show the total number of unread messages, of all conversations or of some
    Unread(WhichArgs),
}

/// `zim conversation list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those with unread messages
    #[arg(long)]
    unread: bool,
    /// Only pinned ones
    #[arg(long)]
    pinned: bool,
    /// Only those that are not pinned
    #[arg(long, conflicts_with = "pinned")]
    unpinned: bool,
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    page: PageArgs,
}

impl ListArgs {
    fn filter(&self) -> ConversationFilterOption {
        let pinned = match (self.pinned, self.unpinned) {
            (true, _) => ConversationPinnedFilter::OnlyPinned,
            (_, true) => ConversationPinnedFilter::OnlyUnpinned,
            _ => ConversationPinnedFilter::All,
        };
        ConversationFilterOption {
            conversation_types: self.which.types(),
            marks: self.which.marks.clone(),
            is_only_unread_conversation: self.unread,
            pinned_filter: pinned as i32,
        }
    }
}

/// How many conversations are listed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct PageArgs {
    /// Maximum number to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..1_000_000))]
    count: i64,
}

impl PageArgs {
    /// One more tells whether there are more.
    fn config(self) -> ConversationQueryConfig {
        ConversationQueryConfig { count: self.count + 1, ..ConversationQueryConfig::default() }
    }

    /// Shows a list that has one more than is wanted if there are more.
    fn show(
        self,
        mut found: Vec<Conversation>,
        none: &str,
        context: &Context,
        session: &Session,
    ) -> Result<(), Failure> {
        let wanted = usize::try_from(self.count).unwrap_or(usize::MAX);
        let has_more = found.len() > wanted;
        found.truncate(wanted);
        match (context.output.is_json(), found.is_empty()) {
            (true, _) => found.iter().try_for_each(|conversation| context.output.json(conversation))?,
            (false, true) => context.output.line(none)?,
            (false, false) => context.output.table(&table(&found, &session.user_id, now_ms()))?,
        }
        if has_more {
            context.output.notice(format!("There are more than {wanted}: --count N lists more."));
        }
        Ok(())
    }
}

/// Parses the type of a conversation.
fn parse_type(text: &str) -> Result<ConversationType, String> {
    match text {
        "peer" => Ok(ConversationType::Peer),
        "group" => Ok(ConversationType::Group),
        _ => Err("the types are peer and group".to_owned()),
    }
}

/// `zim conversation draft`
#[derive(Debug, Args)]
pub(crate) struct DraftArgs {
    #[command(flatten)]
    with: Target,
    /// The draft; without it, the draft is shown
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Remove the draft
    #[arg(long, conflicts_with = "text")]
    clear: bool,
}

/// A conversation, or all of them.
#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    /// The user; with --group, the group
    #[arg(value_name = "ID", required_unless_present = "all")]
    id: Option<String>,
    /// ID is a group
    #[arg(long, short, requires = "id")]
    group: bool,
    /// All conversations
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

impl ClearArgs {
    /// Returns the conversation; `None`: all of them.
    fn target(&self) -> Option<Target> {
        let kind = if self.group { ConversationType::Group } else { ConversationType::Peer };
        self.id.as_ref().map(|id| Target::of(id, kind))
    }
}

/// `zim conversation delete`
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    which: ClearArgs,
}

/// `zim conversation mark`
#[derive(Debug, Args)]
pub(crate) struct MarkArgs {
    #[command(flatten)]
    with: Target,
    /// The mark
    #[arg(value_name = "MARK", value_parser = clap::value_parser!(i64).range(1..=20))]
    mark: i64,
    /// A further conversation of the same type
    #[arg(long, value_name = "ID")]
    also: Vec<String>,
}

/// Which conversations are meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct WhichArgs {
    /// Only those of this type: peer, with a user, or group
    #[arg(long, value_name = "TYPE", value_parser = parse_type)]
    r#type: Option<ConversationType>,
    /// Only those with one of these marks, with commas between them; -1: with any mark, 0: without
    #[arg(
        long = "mark",
        value_name = "MARKS",
        value_delimiter = ',',
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..=20)
    )]
    marks: Vec<i64>,
}

impl WhichArgs {
    fn types(&self) -> Vec<i32> {
        self.r#type.iter().map(|kind| *kind as i32).collect()
    }
}

pub(crate) async fn run(command: ConversationCommand, context: &Context) -> Result<(), Failure> {
    if let ConversationCommand::Draft(args) = command {
        return draft(args, context).await;
    }
    let session = context.one_shot_synced().await?;
    let outcome = match command {
        ConversationCommand::Draft(_) => Ok(()),
        ConversationCommand::List(args) => list(&args, context, &session).await,
        ConversationCommand::Pinned(page) => pinned(page, context, &session).await,
        ConversationCommand::Show(with) => show(&with, context, &session).await,
        ConversationCommand::Clear(args) => clear(args.target(), context, &session).await,
        ConversationCommand::Receipt(with) => receipt(&with, context, &session).await,
        ConversationCommand::Pin(with) => pin(&with, true, context, &session).await,
        ConversationCommand::Unpin(with) => pin(&with, false, context, &session).await,
        ConversationCommand::Mute(with) => mute(&with, true, context, &session).await,
        ConversationCommand::Unmute(with) => mute(&with, false, context, &session).await,
        ConversationCommand::Mark(args) => mark(&args, true, context, &session).await,
        ConversationCommand::Unmark(args) => mark(&args, false, context, &session).await,
        ConversationCommand::Delete(args) => delete(args.which.target(), context, &session).await,
        ConversationCommand::Unread(args) => unread(args, context, &session).await,
    };
    session.end().await;
    outcome
}

async fn list(args: &ListArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let filter = args.filter();
    let is_filtered =
        filter != ConversationFilterOption { is_only_unread_conversation: args.unread, ..Default::default() };
    let none = match (is_filtered, args.unread) {
        (true, _) => "There are no such conversations.",
        (false, true) => "There are no unread messages.",
        (false, false) => "There are no conversations yet: start one with zim send USER \"hi\".",
    };
    let found = session.zim.query_conversation_list(args.page.config(), filter).await?;
    args.page.show(found.conversation_list, none, context, session)
}

async fn pinned(page: PageArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let found = session.zim.query_conversation_pinned_list(page.config()).await?;
    page.show(found.conversation_list, "There are no pinned conversations.", context, session)
}

/// Shows or sets a draft, as the device of the profile, which keeps it.
async fn draft(args: DraftArgs, context: &Context) -> Result<(), Failure> {
    let session = context.own_device_offline().await?;
    let outcome = draft_on(&args, context, &session).await;
    // Nothing about the device changes: one that gets pushes goes on getting them.
    session.leave().await;
    outcome
}

async fn draft_on(args: &DraftArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let (with, output) = (&args.with, context.output);
    let name = output.paint(Ink::Name, &with.place("with"));
    let text = if args.clear { Some("") } else { args.text.as_deref() };
    if let Some(text) = text {
        let result = session.zim.set_conversation_draft(text, &with.id, with.kind()).await?;
        let line = match text {
            "" => format!("There is no draft {name} any more."),
            text => format!("The draft {name} is kept on this device: {}", preview(text, 60)),
        };
        return done(context, &result, line);
    }
    let draft = match session.zim.query_conversation(&with.id, with.kind()).await {
        Ok(found) => found.conversation.unwrap_or_default().draft,
        Err(error) => match Failure::from(error) {
            failure if failure.name() == "ConversationModuleConversationDoesNotExist" => String::new(),
            failure => return Err(failure),
        },
    };
    match (output.is_json(), draft.is_empty()) {
        (true, _) => output.json(&serde_json::json!({ "draft": draft })),
        (false, true) => output.line(format!("There is no draft {name}.")),
        (false, false) => lines(&draft).into_iter().try_for_each(|line| output.line(line)),
    }
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
    if conversation.is_pinned {
        rows.push(("pinned", when(conversation.pinned_time, now)));
    }
    if conversation.notification_status() == ConversationNotificationStatus::DoNotDisturb {
        rows.push(("muted", "its unread messages are not in the total".to_owned()));
    }
    if !conversation.marks.is_empty() {
        let marks: Vec<String> = conversation.marks.iter().map(ToString::to_string).collect();
        rows.push(("marks", marks.join(", ")));
    }
    if conversation.is_disabled {
        rows.push(("read only", "you are not a member".to_owned()));
    }
    if let Some(last) = &conversation.last_message {
        rows.push(("last", format!("number {}, {}", last.message_seq, when(last.timestamp, now))));
        rows.push(("", format!("{}: {}", describe::sender(last), describe::short(last))));
    }
    rows.into_iter().try_for_each(|(what, value)| context.output.line(format!("{what:<12}{value}")))
}

async fn clear(with: Option<Target>, context: &Context, session: &Session) -> Result<(), Failure> {
    let Some(with) = with else {
        let cleared = session.zim.clear_conversation_total_unread_message_count().await?;
        return done(context, &cleared, "All messages are marked as read.".to_owned());
    };
    let cleared = session.zim.clear_conversation_unread_message_count(&with.id, with.kind()).await?;
    let place = context.output.paint(Ink::Name, &with.place("from"));
    done(context, &cleared, format!("All messages {place} are marked as read."))
}

async fn receipt(with: &Target, context: &Context, session: &Session) -> Result<(), Failure> {
    let sent = session.zim.send_conversation_message_receipt_read(&with.id, with.kind()).await?;
    let name = context.output.paint(Ink::Name, &with.name());
    done(context, &sent, format!("{name} is told that you have read everything."))
}

/// Shows the result of a command.
fn done<T: serde::Serialize>(context: &Context, result: &T, line: String) -> Result<(), Failure> {
    if context.output.is_json() { context.output.json(result) } else { context.output.line(line) }
}

async fn pin(with: &Target, is_pinned: bool, context: &Context, session: &Session) -> Result<(), Failure> {
    let result = session.zim.update_conversation_pinned_state(is_pinned, &with.id, with.kind()).await?;
    let what = if is_pinned { "pinned" } else { "no longer pinned" };
    done(
        context,
        &result,
        format!("The conversation {} is {what}.", context.output.paint(Ink::Name, &with.place("with"))),
    )
}

async fn mute(with: &Target, is_muted: bool, context: &Context, session: &Session) -> Result<(), Failure> {
    let status = match is_muted {
        true => ConversationNotificationStatus::DoNotDisturb,
        false => ConversationNotificationStatus::Notify,
    };
    let result = session.zim.set_conversation_notification_status(status, &with.id, with.kind()).await?;
    let what = if is_muted { "muted" } else { "no longer muted" };
    done(
        context,
        &result,
        format!("The conversation {} is {what}.", context.output.paint(Ink::Name, &with.place("with"))),
    )
}

async fn mark(args: &MarkArgs, is_set: bool, context: &Context, session: &Session) -> Result<(), Failure> {
    let (with, mark) = (&args.with, args.mark);
    let info =
        |id: &String| ConversationBaseInfo { conversation_id: id.clone(), conversation_type: with.kind() as i32 };
    let mut infos: Vec<ConversationBaseInfo> = Vec::with_capacity(1 + args.also.len());
    for info in std::iter::once(&with.id).chain(&args.also).map(info) {
        if !infos.contains(&info) {
            infos.push(info);
        }
    }
    let count = infos.len();
    let result = session.zim.set_conversation_mark(mark, is_set, infos).await?;
    let failed: Vec<String> =
        result.failed_conversation_infos.iter().map(|info| preview(&info.conversation_id, 32)).collect();
    let line = if count == 1 {
        let what = if is_set { "has" } else { "no longer has" };
        let name = context.output.paint(Ink::Name, &with.place("with"));
        format!("The conversation {name} {what} the mark {mark}.")
    } else {
        let what = if is_set { "have" } else { "no longer have" };
        format!("{} conversations {what} the mark {mark}.", count - failed.len())
    };
    done(context, &result, line)?;
    if !failed.is_empty() {
        context.output.notice(format!("There is no conversation with {}.", failed.join(", ")));
    }
    Ok(())
}

async fn delete(with: Option<Target>, context: &Context, session: &Session) -> Result<(), Failure> {
    let config = ConversationDeleteConfig { is_also_delete_server_conversation: true };
    let Some(with) = with else {
        let deleted = session.zim.delete_all_conversations(config).await?;
        return done(context, &deleted, "All conversations are deleted from the list. Their messages stay.".to_owned());
    };
    let deleted = session.zim.delete_conversation(&with.id, with.kind(), config).await?;
    let name = context.output.paint(Ink::Name, &with.place("with"));
    done(context, &deleted, format!("The conversation {name} is deleted from the list. Its messages stay."))
}

async fn unread(args: WhichArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let config = ConversationTotalUnreadMessageCountQueryConfig { conversation_types: args.types(), marks: args.marks };
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
