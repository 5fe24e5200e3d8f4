//! `zim message`: what can be done with messages that were sent.

mod local;

use clap::{Args, Subcommand};
use zim_client_sdk::message::MessageSendNotification;
use zim_protocol::message::Body;
use zim_protocol::{
    CombineMessage, ConversationType, GroupMessageReceiptMemberQueryConfig, Message, MessageDeleteConfig,
    MessageEditConfig, MessagePinConfig, MessageReactionAddConfig, MessageReactionUserQueryConfig, MessageReceiptInfo,
    MessageRepliedListQueryConfig, MessageSendConfig,
};

use self::local::LocalCommand;
use crate::context::{Context, Session};
use crate::describe;
use crate::exit::Failure;
use crate::target::Target;
use crate::text::{cut, preview};

/// The limit of messages in a request for messages by their numbers.
const MAX_QUERIED: usize = 10;
/// The longest summary of a combined message, unless the server has another limit.
const MAX_SUMMARY_BYTES: usize = 100;
/// The messages of which a summary shows something.
const SUMMARISED: usize = 3;

/// `zim message`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A message is named by its conversation and its number in zim history.

Examples:
  zim message show bob 116 118
  zim message edit bob 118 'what I meant'
  zim message reply bob 118 yes
  zim message replies bob 118
  zim message react --group crew 2 like
  zim message reactions --group crew 2 like
  zim message unreact --group crew 2 like
  zim message unreact --group crew 2 --all
  zim message pin bob 118
  zim message pinned bob
  zim message unpin bob 118
  zim --profile bob message receipt ann 118
  zim message receipts bob 118
  zim message receipts --group crew 2
  zim message receipts --group crew 2 --unread
  zim message combine bob 116 118 --title 'The plan' --to-group crew
  zim message detail --group crew $(zim history --group crew -n 1 | jq -r .messageSeq)
  zim message delete bob 116 117
  zim message delete mallory --all
  zim message note bob 118 'ask again on Monday'
  zim message insert bob 'You are friends now.' --from bob
  zim message export messages
  zim message import messages")]
pub(crate) enum MessageCommand {
    /// Show messages by their numbers
    Show(ShowArgs),
    /// Replace the text of a message that you sent
    Edit(TextArgs),
    /// Reply to a message
    Reply(TextArgs),
    /// List the replies to a message, and to these
    Replies(OneArgs),
    /// React to a message
    React(ReactionArgs),
    /// Take a reaction back, or all of them
    Unreact(UnreactArgs),
    /// List the users who reacted with a type
    Reactions(ReactionArgs),
    /// Pin a message to its conversation
    Pin(PinArgs),
    /// Unpin a message
    Unpin(OneArgs),
    /// List the pinned messages of a conversation, the last one first
    Pinned(Target),
    /// Tell the sender of a message that you have read it
    Receipt(OneArgs),
    /// Show who has read a message that you sent with a receipt
    Receipts(ReceiptsArgs),
    /// Delete messages for yourself, on all of your devices
    Delete(DeleteArgs),
    /// Delete all messages of all conversations for yourself, on all of your devices
    #[command(after_help = "\
Examples:
  zim message delete-everywhere")]
    DeleteEverywhere,
    /// Combine messages and send them as one
    Combine(CombineArgs),
    /// Show what a combined message combines
    Detail(DetailArgs),
    #[command(flatten)]
    Local(LocalCommand),
}

/// One message.
#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    with: Target,
    /// The sequence number of the message
    #[arg(value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    seq: i64,
}

/// Messages to show.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    with: Target,
    /// The sequence numbers of the messages
    #[arg(value_name = "SEQ", required = true, num_args = 1..=100, value_parser = clap::value_parser!(i64).range(1..))]
    seqs: Vec<i64>,
}

/// Messages to combine, and who gets them.
#[derive(Args, Debug)]
pub(crate) struct CombineArgs {
    #[command(flatten)]
    with: Target,
    /// The sequence numbers of the messages, in the order in which they are shown
    #[arg(value_name = "SEQ", required = true, num_args = 1..=100, value_parser = clap::value_parser!(i64).range(1..))]
    seqs: Vec<i64>,
    /// The title of the combined message
    #[arg(long, value_name = "TEXT")]
    title: String,
    /// What its receivers see before they open it; by default the senders and the first words of three messages
    #[arg(long, value_name = "TEXT")]
    summary: Option<String>,
    /// The user who gets it
    #[arg(long, value_name = "USER", required_unless_present = "to_group")]
    to: Option<String>,
    /// The group that gets it
    #[arg(long, value_name = "GROUP", conflicts_with = "to")]
    to_group: Option<String>,
}

/// One combined message, and which of its messages to open.
#[derive(Args, Debug)]
pub(crate) struct DetailArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Open the combined message that it shows at this place; once for each level
    #[arg(long = "inner", value_name = "PLACE", value_parser = clap::value_parser!(u32).range(1..))]
    inner: Vec<u32>,
}

/// One message and a text.
#[derive(Args, Debug)]
pub(crate) struct TextArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The text
    #[arg(value_name = "TEXT")]
    text: String,
}

/// One message and a type of reaction.
#[derive(Args, Debug)]
pub(crate) struct ReactionArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Your word for the reaction, up to 32 bytes
    #[arg(value_name = "TYPE")]
    reaction: String,
}

/// One message, and which reaction to take back.
#[derive(Args, Debug)]
pub(crate) struct UnreactArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Your word for the reaction, up to 32 bytes
    #[arg(value_name = "TYPE", required_unless_present = "all")]
    reaction: Option<String>,
    /// All your reactions to the message
    #[arg(long, conflicts_with = "reaction")]
    all: bool,
}

/// One message to pin.
#[derive(Args, Debug)]
pub(crate) struct PinArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Fail if the conversation has as many pinned messages as it can have, instead of unpinning the first
    #[arg(long)]
    no_replace: bool,
}

/// One message, and which of its readers.
#[derive(Args, Debug)]
pub(crate) struct ReceiptsArgs {
    #[command(flatten)]
    one: OneArgs,
    /// In a group, list who has not read it
    #[arg(long)]
    unread: bool,
}

/// Messages to delete.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    with: Target,
    /// The sequence numbers of up to 10 messages
    #[arg(value_name = "SEQ", required_unless_present = "all", num_args = 1..=10,
        value_parser = clap::value_parser!(i64).range(1..))]
    seqs: Vec<i64>,
    /// All messages of the conversation
    #[arg(long, conflicts_with = "seqs")]
    all: bool,
}

pub(crate) async fn run(command: MessageCommand, context: &Context) -> Result<(), Failure> {
    let command = match command {
        MessageCommand::Local(command) => return local::run(command, context).await,
        command => command,
    };
    let session = context.one_shot().await?;
    let outcome = match command {
        MessageCommand::Local(_) => Ok(()),
        MessageCommand::Show(args) => numbered(&args, context, &session).await,
        MessageCommand::Edit(args) => edit(args, context, &session).await,
        MessageCommand::Reply(args) => reply(args, context, &session).await,
        MessageCommand::Replies(args) => replies(&args, context, &session).await,
        MessageCommand::React(args) => react(&args, context, &session).await,
        MessageCommand::Unreact(args) => unreact(&args, context, &session).await,
        MessageCommand::Reactions(args) => reactions(&args, context, &session).await,
        MessageCommand::Pin(args) => pin(&args.one, true, args.no_replace, context, &session).await,
        MessageCommand::Unpin(args) => pin(&args, false, false, context, &session).await,
        MessageCommand::Pinned(with) => pinned(&with, context, &session).await,
        MessageCommand::Receipt(args) => receipt(&args, context, &session).await,
        MessageCommand::Receipts(args) => receipts(&args, context, &session).await,
        MessageCommand::Delete(args) => delete(&args, context, &session).await,
        MessageCommand::DeleteEverywhere => delete_everywhere(context, &session).await,
        MessageCommand::Combine(args) => combine(args, context, &session).await,
        MessageCommand::Detail(args) => detail(&args, context, &session).await,
    };
    session.end().await;
    outcome
}

impl OneArgs {
    fn message(&self) -> Message {
        self.with.message(self.seq)
    }

    fn what(&self, done: &str) -> String {
        format!("{done} message {} {}.", self.seq, self.with.place("with"))
    }

    /// Fetches the message: some methods take its ID.
    async fn fetch(&self, session: &Session) -> Result<Message, Failure> {
        Ok(fetch(&self.with, &[self.seq], session).await?.remove(0))
    }
}

/// Fetches messages, all of which must be there.
async fn fetch(with: &Target, seqs: &[i64], session: &Session) -> Result<Vec<Message>, Failure> {
    let mut found = Vec::with_capacity(seqs.len());
    for some in seqs.chunks(MAX_QUERIED) {
        found.extend(session.zim.query_messages(some, &with.id, with.kind()).await?.message_list);
    }
    match seqs.iter().find(|seq| !found.iter().any(|message| message.message_seq == **seq)) {
        Some(missing) => Err(Failure::other(format!("there is no message {missing} {}", with.place("with")))),
        None => Ok(found),
    }
}

/// Shows messages as `zim history` does.
fn show(context: &Context, messages: &[Message], nothing: String) -> Result<(), Failure> {
    if context.output.is_json() {
        return messages.iter().try_for_each(|message| context.output.json(message));
    }
    if messages.is_empty() {
        context.output.notice(nothing);
    }
    let columns = describe::sender_columns(messages);
    let lines = messages.iter().flat_map(|message| describe::message(context.output, message, columns));
    lines.into_iter().try_for_each(|line| context.output.line(line))
}

async fn numbered(args: &ShowArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let mut found = fetch(&args.with, &args.seqs, session).await?;
    found.sort_by_key(|message| message.message_seq);
    show(context, &found, String::new())
}

async fn edit(args: TextArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    // What else the message has stays.
    let edited = Message { body: Message::text(args.text).body, ..args.one.fetch(session).await? };
    let edited = session.zim.edit_message(&edited, MessageEditConfig {}).await?;
    if context.output.is_json() {
        return context.output.json(&edited);
    }
    context.output.line(args.one.what("Edited"))
}

async fn reply(args: TextArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let original = args.one.fetch(session).await?;
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    let sent = session.zim.reply_message(Message::text(args.text), &original, config, notification).await?;
    if context.output.is_json() {
        return context.output.json(&sent);
    }
    let seq = sent.message.map_or(0, |message| message.message_seq);
    context.output.line(format!("Sent message {seq}, a reply to message {}.", args.one.seq))
}

async fn replies(args: &OneArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let (message, mut all, mut next_flag) = (args.message(), Vec::new(), 0);
    loop {
        let config = MessageRepliedListQueryConfig { next_flag, count: 100 };
        let page = session.zim.query_message_replied_list(&message, config).await?;
        all.extend(page.message_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    show(context, &all, format!("Nobody has replied to message {} {}.", args.seq, args.with.place("with")))
}

async fn react(args: &ReactionArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let config = MessageReactionAddConfig::default();
    let added = session.zim.add_message_reaction(&args.reaction, &args.one.message(), config).await?;
    if context.output.is_json() {
        return context.output.json(&added);
    }
    context.output.line(format!("Reacted with {} to message {}.", preview(&args.reaction, 32), args.one.seq))
}

async fn unreact(args: &UnreactArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let Some(reaction) = &args.reaction else {
        session.zim.delete_message_all_reactions(&args.one.message()).await?;
        if context.output.is_json() {
            return context.output.json(&serde_json::json!({}));
        }
        return context.output.line(format!("Took all your reactions back from message {}.", args.one.seq));
    };
    let deleted = session.zim.delete_message_reaction(reaction, &args.one.message()).await?;
    if context.output.is_json() {
        return context.output.json(&deleted);
    }
    context.output.line(format!("Took {} back from message {}.", preview(reaction, 32), args.one.seq))
}

async fn reactions(args: &ReactionArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let (message, mut next_flag, mut is_empty) = (args.one.message(), 0, true);
    loop {
        let reaction_type = args.reaction.clone();
        let config = MessageReactionUserQueryConfig { next_flag, count: 100, reaction_type };
        let page = session.zim.query_message_reaction_user_list(&message, config).await?;
        for user in &page.user_info_list {
            is_empty = false;
            match context.output.is_json() {
                true => context.output.json(user)?,
                false => context.output.line(preview(&user.user_id, 32))?,
            }
        }
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    if is_empty {
        context.output.notice(format!("Nobody has reacted with {}.", preview(&args.reaction, 32)));
    }
    Ok(())
}

async fn pin(
    args: &OneArgs,
    is_pinned: bool,
    keeps: bool,
    context: &Context,
    session: &Session,
) -> Result<(), Failure> {
    let config = MessagePinConfig { disable_auto_replace: keeps };
    session.zim.pin_message(&args.message(), is_pinned, config).await?;
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({}));
    }
    context.output.line(args.what(if is_pinned { "Pinned" } else { "Unpinned" }))
}

async fn pinned(with: &Target, context: &Context, session: &Session) -> Result<(), Failure> {
    let found = session.zim.query_pinned_message_list(&with.id, with.kind()).await?.message_list;
    show(context, &found, format!("There are no pinned messages {}.", with.place("with")))
}

async fn receipt(args: &OneArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let message = args.fetch(session).await?;
    let list = std::slice::from_ref(&message);
    let sent = session.zim.send_message_receipts_read(list, &args.with.id, args.with.kind()).await?;
    if context.output.is_json() {
        return context.output.json(&sent);
    }
    context.output.line(format!("Told {} that you have read message {}.", describe::sender(&message), args.seq))
}

async fn receipts(args: &ReceiptsArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let OneArgs { with, seq } = &args.one;
    let message = args.one.fetch(session).await?;
    if message.sender_user_id != session.user_id {
        return Err(Failure::other("only the sender of a message learns who has read it".to_owned()));
    }
    let list = std::slice::from_ref(&message);
    let found = session.zim.query_message_receipts_info(list, &with.id, with.kind()).await?;
    let Some(info) = found.infos.first() else {
        return Err(Failure::other(format!("message {seq} was sent without a receipt")));
    };
    if context.output.is_json() {
        context.output.json(info)?;
    } else {
        context.output.line(read_by(info))?;
    }
    if with.kind() != ConversationType::Group {
        return Ok(());
    }
    let mut next_flag = 0;
    loop {
        let config = GroupMessageReceiptMemberQueryConfig { next_flag, count: 100 };
        let page = if args.unread {
            session.zim.query_group_message_receipt_unread_member_list(&message, &with.id, config).await?
        } else {
            session.zim.query_group_message_receipt_read_member_list(&message, &with.id, config).await?
        };
        for member in &page.user_list {
            match context.output.is_json() {
                true => context.output.json(member)?,
                false => context.output.line(preview(&member.user_id, 32))?,
            }
        }
        next_flag = page.next_flag;
        if next_flag == 0 {
            return Ok(());
        }
    }
}

fn read_by(info: &MessageReceiptInfo) -> String {
    format!("{} have read it, {} have not.", info.read_member_count, info.unread_member_count)
}

async fn delete(args: &DeleteArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    let (id, kind) = (&args.with.id, args.with.kind());
    let done = if args.all {
        session.zim.delete_all_message(id, kind, config).await?
    } else {
        let messages = fetch(&args.with, &args.seqs, session).await?;
        session.zim.delete_messages(&messages, id, kind, config).await?
    };
    if context.output.is_json() {
        return context.output.json(&done);
    }
    let what = if args.all {
        "all messages".to_owned()
    } else {
        let seqs: Vec<String> = args.seqs.iter().map(i64::to_string).collect();
        format!("message {}", seqs.join(", "))
    };
    context.output.line(format!("Deleted {what} {}, for you alone.", args.with.place("with")))
}

async fn delete_everywhere(context: &Context, session: &Session) -> Result<(), Failure> {
    let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    session.zim.delete_all_conversation_messages(config).await?;
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({}));
    }
    context.output.line("Deleted all messages of all conversations, for you alone.")
}

async fn combine(args: CombineArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let mut found = fetch(&args.with, &args.seqs, session).await?;
    found.sort_by_key(|message| args.seqs.iter().position(|seq| *seq == message.message_seq));
    let count = found.len();
    let combine = CombineMessage {
        title: args.title,
        summary: args.summary.unwrap_or_else(|| summary(&found)),
        message_list: found,
        ..CombineMessage::default()
    };
    let message = Message { body: Some(Body::Combine(Box::new(combine))), ..Message::default() };
    let to = match (args.to_group, args.to) {
        (Some(group), _) => Target::of(group, ConversationType::Group),
        (None, user) => Target::of(user.unwrap_or_default(), ConversationType::Peer),
    };
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    let sent = session.zim.send_message(message, &to.id, to.kind(), config, notification).await?;
    if context.output.is_json() {
        return context.output.json(&sent);
    }
    let seq = sent.message.map_or(0, |message| message.message_seq);
    context.output.line(format!("Sent message {seq} {}, which combines {count} messages.", to.place("to")))
}

/// Returns the senders and the first words of some messages, as far as a summary has room for them. A line gets its share of what the
/// lines before it leave.
fn summary(messages: &[Message]) -> String {
    let count = messages.len().min(SUMMARISED);
    let mut summary = String::new();
    for (index, message) in messages.iter().take(count).enumerate() {
        if index > 0 {
            summary.push('\n');
        }
        let left = count - index;
        // The lines that follow need their line breaks.
        let room = (MAX_SUMMARY_BYTES - summary.len() - (left - 1)) / left;
        summary.push_str(&cut(&format!("{}: {}", message.sender_user_id, describe::short(message)), room));
    }
    summary
}

async fn detail(args: &DetailArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let mut combined = combined(args.one.fetch(session).await?, session).await?;
    for place in &args.inner {
        let inner = combined.into_iter().nth(*place as usize - 1);
        let inner = inner.ok_or_else(|| Failure::other(format!("it combines no message at place {place}")))?;
        combined = self::combined(inner, session).await?;
    }
    if !context.output.is_json() {
        // Their places here: the positions that they have elsewhere say nothing to who reads this.
        for (place, message) in (1..).zip(&mut combined) {
            message.message_seq = place;
        }
    }
    show(context, &combined, "It combines no messages.".to_owned())
}

/// Returns what a message combines.
async fn combined(message: Message, session: &Session) -> Result<Vec<Message>, Failure> {
    let found = session.zim.query_combine_message_detail(&message).await?.message;
    Ok(match found.and_then(|message| message.body) {
        Some(Body::Combine(combine)) => combine.message_list,
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_fits_whatever_it_shows() {
        let from = |sender: &str, text: &str| Message { sender_user_id: sender.to_owned(), ..Message::text(text) };
        assert_eq!(summary(&[from("ann", "hi"), from("bob", "yes")]), "ann: hi\nbob: yes");
        let texts = ["x".repeat(300), "größer ".repeat(40), "你好".repeat(60), "🙂".repeat(50), "👨‍👩‍👧 ".repeat(30)];
        for text in &texts {
            for sender in ["ann".to_owned(), "s".repeat(32), "用户".repeat(5)] {
                for count in 1..=4 {
                    let all = vec![from(&sender, text); count];
                    let summary = summary(&all);
                    assert!(summary.len() <= MAX_SUMMARY_BYTES, "{} bytes: {summary}", summary.len());
                    assert_eq!(summary.lines().count(), count.min(SUMMARISED), "{summary}");
                    assert!(summary.lines().all(|line| line.ends_with('…')), "{summary}");
                }
            }
        }
        // What a short line leaves is for the next one.
        let line = summary(&[from("ann", "hi"), from("bob", &texts[0])]).lines().nth(1).unwrap().len();
        assert!(line > MAX_SUMMARY_BYTES / 2, "{line}");
    }
}
