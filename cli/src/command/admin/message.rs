//! `zim admin message`: messages of the operator.

use clap::{Args, Subcommand};
use zim_protocol::{
    BroadcastMessageRequest, ConversationType, EditServerMessageRequest, ListMessagesRequest, Message, MessagePriority,
    MessageReceivers, MessageSendConfig, PushConfig, RevokeServerMessageRequest, SendServerMessageRequest,
    SendServerMessageToUsersRequest,
};

use super::{Operator, refused};
use crate::command::history;
use crate::command::send::{Kind, checked, push_config};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::target::Target;
use crate::text::preview;

/// `zim admin message`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim admin message send support bob 'how can we help?'
  zim admin message send support --group crew 'for two of you' --only ann,bob
  zim admin message send host --room stage 'the show begins'
  zim admin message send support bob 'ann is on holiday' --unaware
  zim admin message send-each support 'your order is on its way' --to ann,bob --push Support
  zim admin message broadcast support 'the server restarts at 8'
  zim admin message list ann --group crew
  zim admin message edit bob ann 117 'as it was meant'
  zim admin message revoke ann bob 118")]
pub(crate) enum MessageCommand {
    /// Send a message as a user; it has isServerMessage
    Send(SendArgs),
    /// Send a message as a user to each of several users, and say what became of each
    SendEach(SendEachArgs),
    /// Send a message to all users who are online; it is not stored
    Broadcast(BroadcastArgs),
    /// Replace the content of a message, as its sender, whoever that is
    Edit(EditArgs),
    /// Revoke a message, whoever sent it
    Revoke(RevokeArgs),
    /// List messages of a conversation as one of its users sees it
    List(ListArgs),
}

/// What a message says.
#[derive(Args, Debug)]
pub(crate) struct TextArgs {
    /// The message
    #[arg(value_name = "TEXT")]
    text: String,
    /// text or custom
    #[arg(long = "type", value_name = "TYPE", default_value = "text", hide_default_value = true)]
    kind: Kind,
    /// The app-defined type of a custom message, 0 to 200
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..=200))]
    custom_type: i64,
    /// App-defined text of up to 1 KB to attach to the message
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    extended_data: String,
}

impl TextArgs {
    fn message(self) -> Result<Message, Failure> {
        let message = self.kind.message(self.text, self.custom_type);
        let message = Message { extended_data: self.extended_data, ..message };
        checked(&message).map(|()| message)
    }

    fn push_config(&self, title: &str) -> PushConfig {
        push_config(title, self.kind, &self.text)
    }
}

/// A message as a user.
#[derive(Args, Debug)]
pub(crate) struct SendArgs {
    /// The user who sends it
    #[arg(value_name = "FROM")]
    from: String,
    #[command(flatten)]
    to: Target,
    #[command(flatten)]
    text: TextArgs,
    /// ID is a room
    #[arg(long, conflicts_with = "group")]
    room: bool,
    /// Only these members of the group see it, with commas between them
    #[arg(long, value_name = "USERS", value_delimiter = ',', requires = "group", conflicts_with = "except")]
    only: Vec<String>,
    /// All members of the group see it but these
    #[arg(long, value_name = "USERS", value_delimiter = ',', requires = "group")]
    except: Vec<String>,
    /// Do not count the message as unread
    #[arg(long)]
    quiet: bool,
    /// The sender does not learn of the message: it is not on their devices
    #[arg(long)]
    unaware: bool,
    /// A key of your own: of all messages of this user to this conversation with the same key, only the first is sent
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true, conflicts_with = "room")]
    idempotency_key: String,
    /// Push the message to devices that are away, under this title
    #[arg(long, value_name = "TITLE")]
    push: Option<String>,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// A message to each of several users.
#[derive(Args, Debug)]
pub(crate) struct SendEachArgs {
    /// The user who sends it
    #[arg(value_name = "FROM")]
    from: String,
    #[command(flatten)]
    text: TextArgs,
    /// The users who get it, with commas between them
    #[arg(long, value_name = "USERS", value_delimiter = ',', required = true)]
    to: Vec<String>,
    /// Do not count the message as unread
    #[arg(long)]
    quiet: bool,
    /// The sender does not learn of the messages: they are not on their devices
    #[arg(long)]
    unaware: bool,
    /// A key of your own: of all messages of this user to the same user with the same key, only the first is sent
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    idempotency_key: String,
    /// Push the message to devices that are away, under this title
    #[arg(long, value_name = "TITLE")]
    push: Option<String>,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// New content of a message.
#[derive(Args, Debug)]
pub(crate) struct EditArgs {
    /// A user who sees the message
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    with: Target,
    /// The sequence number of the message
    #[arg(value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    seq: i64,
    #[command(flatten)]
    text: TextArgs,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// A message to everybody.
#[derive(Args, Debug)]
pub(crate) struct BroadcastArgs {
    /// The user who sends it
    #[arg(value_name = "FROM")]
    from: String,
    #[command(flatten)]
    text: TextArgs,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// A message to revoke.
#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// A user who sees the message
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    with: Target,
    /// The sequence number of the message
    #[arg(value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    seq: i64,
    /// What the clients are told besides, up to 200 bytes
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    extended_data: String,
    /// Tell devices that are away with a push, under this title
    #[arg(long, value_name = "TITLE")]
    push: Option<String>,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// A conversation to read.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// A user of the conversation
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    with: Target,
    /// The number of messages
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Messages before this one
    #[arg(long, value_name = "SEQ", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..))]
    before: i64,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

pub(super) async fn run(command: MessageCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    match command {
        MessageCommand::Send(args) => send(args, operator, context).await,
        MessageCommand::SendEach(args) => send_each(args, operator, context).await,
        MessageCommand::Edit(args) => edit(args, operator, context).await,
        MessageCommand::Broadcast(args) => broadcast(args, operator, context).await,
        MessageCommand::Revoke(args) => revoke(args, operator, context).await,
        MessageCommand::List(args) => list(args, operator, context).await,
    }
}

async fn send(args: SendArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(args.app_id).await?;
    let receivers = match (args.only.is_empty(), args.except.is_empty()) {
        (true, true) => None,
        (false, _) => Some(MessageReceivers { user_ids: args.only, is_except: false }),
        (true, false) => Some(MessageReceivers { user_ids: args.except, is_except: true }),
    };
    let kind = if args.room { ConversationType::Room } else { args.to.kind() };
    let config = MessageSendConfig {
        disable_unread_message_count: args.quiet,
        idempotency_key: args.idempotency_key,
        push_config: args.push.as_deref().map(|title| args.text.push_config(title)),
        ..MessageSendConfig::default()
    };
    let request = SendServerMessageRequest {
        app_id,
        from_user_id: args.from.clone(),
        to_conversation_id: args.to.id.clone(),
        conversation_type: kind as i32,
        message: Some(args.text.message()?),
        config: Some(config),
        receivers,
        sender_unaware: args.unaware,
    };
    let sent = operator.client.send_server_message(request).await.map_err(|status| refused(&status))?.into_inner();
    if context.output.is_json() {
        return context.output.json(&sent);
    }
    let from = preview(&args.from, 32);
    context.output.line(match sent.message.map_or(0, |message| message.message_seq) {
        _ if args.room => format!("Sent to the room {} as {from}.", preview(&args.to.id, 32)),
        seq => format!("Sent message {seq} to {} as {from}.", args.to.name()),
    })
}

/// The users of one request.
const USERS_AT_ONCE: usize = 500;

async fn send_each(args: SendEachArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(args.app_id).await?;
    let config = MessageSendConfig {
        disable_unread_message_count: args.quiet,
        idempotency_key: args.idempotency_key,
        push_config: args.push.as_deref().map(|title| args.text.push_config(title)),
        ..MessageSendConfig::default()
    };
    let message = args.text.message()?;
    let (mut sent, mut failed) = (0_usize, 0_usize);
    for users in args.to.chunks(USERS_AT_ONCE) {
        let request = SendServerMessageToUsersRequest {
            app_id,
            from_user_id: args.from.clone(),
            to_user_ids: users.to_vec(),
            message: Some(message.clone()),
            config: Some(config.clone()),
            sender_unaware: args.unaware,
        };
        let done = operator.client.send_server_message_to_users(request).await.map_err(|status| refused(&status))?;
        for outcome in done.into_inner().outcomes {
            if outcome.code == 0 {
                sent += 1;
            } else {
                failed += 1;
            }
            if context.output.is_json() {
                context.output.json(&outcome)?;
            } else if outcome.code != 0 {
                context.output.warn(format!("{}: {}", preview(&outcome.user_id, 32), preview(&outcome.error, 200)));
            }
        }
    }
    if !context.output.is_json() {
        let users = if sent == 1 { "user" } else { "users" };
        context.output.line(format!("Sent to {sent} {users} as {}.", preview(&args.from, 32)))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Refused, format!("{failed} of {} messages were not sent", sent + failed))),
    }
}

async fn edit(args: EditArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(args.app_id).await?;
    let request = EditServerMessageRequest {
        app_id,
        user_id: args.user,
        conversation_id: args.with.id.clone(),
        conversation_type: args.with.kind() as i32,
        message_seq: args.seq,
        message: Some(args.text.message()?),
    };
    let done = operator.client.edit_server_message(request).await.map_err(|status| refused(&status))?.into_inner();
    if context.output.is_json() {
        return context.output.json(&done);
    }
    context.output.line(format!("Edited message {} {}.", args.seq, args.with.place("with")))
}

async fn broadcast(args: BroadcastArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(args.app_id).await?;
    let request = BroadcastMessageRequest {
        app_id,
        from_user_id: args.from.clone(),
        message: Some(args.text.message()?),
        priority: MessagePriority::High as i32,
    };
    let sent = operator.client.broadcast_message(request).await.map_err(|status| refused(&status))?.into_inner();
    if context.output.is_json() {
        return context.output.json(&sent);
    }
    context.output.line(format!("Sent to all who are online, as {}.", preview(&args.from, 32)))
}

async fn revoke(args: RevokeArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(args.app_id).await?;
    let request = RevokeServerMessageRequest {
        app_id,
        user_id: args.user,
        conversation_id: args.with.id.clone(),
        conversation_type: args.with.kind() as i32,
        message_seq: args.seq,
        revoke_extended_data: args.extended_data,
        push_config: args.push.map(|title| PushConfig { title, ..PushConfig::default() }),
    };
    let done = operator.client.revoke_server_message(request).await.map_err(|status| refused(&status))?.into_inner();
    if context.output.is_json() {
        return context.output.json(&done);
    }
    context.output.line(format!("Revoked message {} {}.", args.seq, args.with.place("with")))
}

async fn list(args: ListArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(args.app_id).await?;
    let (mut left, mut before_seq, mut pages) = (i64::from(args.count), args.before, Vec::new());
    while left > 0 {
        let request = ListMessagesRequest {
            app_id,
            user_id: args.user.clone(),
            conversation_id: args.with.id.clone(),
            conversation_type: args.with.kind() as i32,
            before_seq,
            count: left.min(100),
        };
        let page = operator.client.list_messages(request).await.map_err(|status| refused(&status))?.into_inner();
        left -= i64::try_from(page.message_list.len()).unwrap_or(left);
        pages.push(page.message_list);
        before_seq = page.next_seq;
        if before_seq == 0 {
            break;
        }
    }
    pages.reverse();
    let messages = pages.concat();
    if messages.is_empty() && !context.output.is_json() {
        return context.output.line(format!("There are no messages {}.", args.with.place("with")));
    }
    history::show(context, &messages, &mut String::new())
}
