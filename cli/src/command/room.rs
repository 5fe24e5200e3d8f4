//! `zim room`: rooms, their members and their attributes.

mod attributes;
mod enter;
mod typed;

use clap::{Subcommand, ValueEnum};
use zim_client_sdk::Zim;
use zim_protocol::{ConversationType, Message, MessagePriority, MessageSendConfig, RoomMemberQueryConfig};

use self::attributes::{AttributesArgs, MembersArgs};
use self::enter::{CreateArgs, EnterArgs, Entry};
use super::friend::ListArgs;
use super::history::{RangeArgs, Shown};
use super::send::checked;
use crate::context::Context;
use crate::describe;
use crate::exit::{Failure, all_done};
use crate::output::{Align, Ink, Output, Table};
use crate::text::preview;

/// The size of a page of members.
const PAGE: i64 = 100;
/// The limit of users in a request.
const MAX_USERS: usize = 10;

/// `zim room`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A room lasts as long as somebody is in it. `zim room enter` and `zim room create` stay in it and show what happens until \
Ctrl-C; with --commands they also take lines such as `/switch hall`. To write to those who are in it, use `zim chat \
--room stage`. The other commands are for users who are in the room.

Examples:
  zim room enter stage --name \"The stage\"
  zim room send stage \"hi all\"
  zim room send stage --type barrage \"wow\"
  zim room members stage | jq -r .userID
  zim room members stage ann bob
  zim room count stage
  zim room history stage --before 120
  zim room attributes stage song=Blackbird
  zim room attributes stage --delete song
  zim room of stage bob --set seat=1
  zim room of stage
  zim room leave stage
  zim room leave --all")]
pub(crate) enum RoomCommand {
    /// Enter a room, and show what happens in it
    Enter(EnterArgs),
    /// Create a room that does not exist yet, and stay in it like enter
    Create(CreateArgs),
    /// Send a message to those who are in a room
    Send {
        /// The room
        room: String,
        /// The message; several words are joined
        #[arg(value_name = "TEXT", required = true)]
        text: Vec<String>,
        /// text, command, custom or barrage
        #[arg(long = "type", value_name = "TYPE", default_value = "text", hide_default_value = true)]
        kind: Kind,
        /// What is dropped first for devices that are too slow: low, then medium, then high
        #[arg(long, value_name = "PRIORITY", default_value = "low", hide_default_value = true)]
        priority: Priority,
    },
    /// Show what was said in a room, if the server keeps it
    History {
        /// The room
        room: String,
        #[command(flatten)]
        range: RangeArgs,
    },
    /// Leave a room, with whichever device is in it
    Leave {
        /// The room
        #[arg(required_unless_present = "all")]
        room: Option<String>,
        /// Leave all rooms
        #[arg(long, conflicts_with = "room")]
        all: bool,
    },
    /// List the members of a room, in the order in which they entered, or show some of them
    Members {
        /// The room
        room: String,
        /// Only these users; those who are not in the room are an error
        #[arg(value_name = "USER", num_args = 0..=MAX_USERS)]
        users: Vec<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show how many members of a room are online
    Count {
        /// The room
        room: String,
    },
    /// Show, set and delete attributes of a room
    Attributes(AttributesArgs),
    /// Show and set attributes of members of a room
    Of(MembersArgs),
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Text,
    Command,
    Custom,
    Barrage,
}

/// The priority of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Priority {
    Low,
    Medium,
    High,
}

pub(crate) async fn run(command: RoomCommand, context: &Context) -> Result<(), Failure> {
    match command {
        RoomCommand::Enter(args) => {
            let entry = if args.join { Entry::Join } else { Entry::Enter };
            enter::run(args.stay, entry, context).await
        }
        RoomCommand::Create(args) => enter::run(args.stay, Entry::Create, context).await,
        command => of_those_in_it(command, context).await,
    }
}

/// Runs a command that does not stay in the room.
async fn of_those_in_it(command: RoomCommand, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let (zim, output) = (&session.zim, context.output);
    let outcome = match command {
        RoomCommand::Enter(_) | RoomCommand::Create(_) => Ok(()),
        RoomCommand::Send { room, text, kind, priority } => {
            send(&room, (kind, priority), text.join(" "), zim, output).await
        }
        RoomCommand::History { room, range } => {
            let place = format!("in the room {}", preview(&room, 32));
            let of = Shown { zim, id: &room, kind: ConversationType::Room, place: &place };
            of.show(&range, context).await
        }
        RoomCommand::Leave { all: true, .. } => leave_all(zim, output).await,
        RoomCommand::Leave { room, .. } => leave(&room.unwrap_or_default(), zim, output).await,
        RoomCommand::Members { room, users, list } if users.is_empty() => members(&room, &list, zim, output).await,
        RoomCommand::Members { room, users, .. } => some_members(&room, users, zim, output).await,
        RoomCommand::Count { room } => count(&room, zim, output).await,
        RoomCommand::Attributes(args) => attributes::of_room(args, zim, output).await,
        RoomCommand::Of(args) => attributes::of_members(args, zim, output).await,
    };
    session.end().await;
    outcome
}

async fn send(
    room: &str,
    (kind, priority): (Kind, Priority),
    text: String,
    zim: &Zim,
    output: Output,
) -> Result<(), Failure> {
    let message = match kind {
        Kind::Text => Message::text(text),
        Kind::Command => Message::command(text.into_bytes()),
        Kind::Custom => Message::custom(text, 0),
        Kind::Barrage => Message::barrage(text),
    };
    checked(&message)?;
    let priority = match priority {
        Priority::Low => MessagePriority::Low,
        Priority::Medium => MessagePriority::Medium,
        Priority::High => MessagePriority::High,
    };
    let config = MessageSendConfig { priority: priority as i32, ..MessageSendConfig::default() };
    let sent = zim.room(room).send_with(message, config).await?;
    if output.is_json() {
        return output.json(&sent);
    }
    let message = sent.message.unwrap_or_default();
    output.line(format!("Sent to the room {}: {}", name(room, output), describe::short(&message)))
}

async fn leave(room: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let left = zim.leave_room(room).await?;
    if output.is_json() {
        return output.json(&left);
    }
    output.line(format!("You have left the room {}.", name(room, output)))
}

async fn leave_all(zim: &Zim, output: Output) -> Result<(), Failure> {
    let left = zim.leave_all_room().await?;
    if output.is_json() {
        return output.json(&left);
    }
    if left.room_ids.is_empty() {
        return output.line("You are in no room.");
    }
    let rooms: Vec<String> = left.room_ids.iter().map(|room| name(room, output)).collect();
    output.line(format!("You have left: {}.", rooms.join(", ")))
}

async fn members(room: &str, list: &ListArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let mut table = Table::new(&[("user", Align::Left), ("name", Align::Left)]);
    let (mut left, mut next_flag) = (list.count, String::new());
    while left > 0 {
        let config = RoomMemberQueryConfig { next_flag, count: left.min(PAGE) };
        let page = zim.query_room_member_list(room, config).await?;
        left -= i64::try_from(page.member_list.len()).unwrap_or(i64::MAX);
        for member in &page.member_list {
            if output.is_json() {
                output.json(member)?;
            } else {
                table.row([preview(&member.user_id, 32), preview(&member.user_name, 40)]);
            }
        }
        next_flag = page.next_flag;
        if next_flag.is_empty() {
            break;
        }
    }
    if output.is_json() { Ok(()) } else { output.table(&table) }
}

/// Shows some members.
async fn some_members(room: &str, users: Vec<String>, zim: &Zim, output: Output) -> Result<(), Failure> {
    let found = zim.query_room_members(users, room).await?;
    let mut table = Table::new(&[("user", Align::Left), ("name", Align::Left)]);
    for member in &found.member_list {
        if output.is_json() {
            output.json(member)?;
        } else {
            table.row([preview(&member.user_id, 32), preview(&member.user_name, 40)]);
        }
    }
    if !table.is_empty() {
        output.table(&table)?;
    }
    all_done(&found.error_user_list, "not in the room")
}

async fn count(room: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let found = zim.query_room_online_member_count(room).await?;
    if output.is_json() {
        return output.json(&found);
    }
    output.line(format!("{} online in the room {}", found.count, name(room, output)))
}

/// The ID of a room, for a sentence.
fn name(room: &str, output: Output) -> String {
    output.paint(Ink::Name, &preview(room, 32))
}
