//! `zim admin room`, `zim admin call` and `zim admin event`: what the operator does with rooms, as a user, and to all.

use std::time::Duration;

use clap::{Args, Subcommand};
use prost::Message;
use zim_protocol::{
    AnyRequest, CallAsUserRequest, CreateServerRoomRequest, DestroyRoomRequest, KickRoomUsersRequest,
    ListRoomMembersRequest, ListRoomsRequest, RoomAdvancedConfig, Rpc, SendExperimentalEventRequest, response_to_json,
};

use super::{Operator, refused};
use crate::attribute::attribute;
use crate::command::call::{find, read_request};
use crate::context::{Context, now_ms};
use crate::exit::Failure;
use crate::output::{Align, Table, when};
use crate::text::{preview, printable_json};
use crate::unknown;

/// `zim admin room`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim admin room create host lobby --name 'The lobby' --attribute topic=news
  zim admin room list
  zim admin room members stage
  zim admin room kick stage bob
  zim admin room destroy stage")]
pub(crate) enum RoomCommand {
    /// Create a room that nobody is in yet; it ends if nobody enters it for an hour
    Create {
        /// The user to whom its attributes belong
        user: String,
        /// The room
        #[arg(value_name = "ROOM")]
        room: String,
        /// Its name
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        name: String,
        /// How long it lasts without members, as in 90s, 15m; at most 3h
        #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
        keep: Option<Duration>,
        /// An attribute of it; may be repeated
        #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = attribute)]
        attributes: Vec<(String, String)>,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// End a room, whoever is in it
    Destroy {
        /// The room
        #[arg(value_name = "ROOM")]
        room: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// List the rooms, with the number of users in each
    List {
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// List the users who are in a room, in the order in which they entered
    Members {
        /// The room
        #[arg(value_name = "ROOM")]
        room: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Remove users from a room; they may return
    Kick {
        /// The room
        #[arg(value_name = "ROOM")]
        room: String,
        /// The users
        #[arg(value_name = "USER", required = true)]
        users: Vec<String>,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
}

/// `zim admin call`
#[derive(Debug, Args)]
#[command(after_help = "\
The user needs no device. Methods that concern one fail, such as a login or entering a room. zim call --list lists the methods.

Example:
  zim admin call ann Group/UpdateGroupName '{\"groupName\":\"Crew\",\"groupID\":\"crew\"}'")]
pub(crate) struct CallArgs {
    /// The user
    user: String,
    /// The method, as in zim call
    #[arg(value_name = "METHOD")]
    method: String,
    /// The request; - reads standard input
    #[arg(value_name = "JSON", default_value = "{}", hide_default_value = true)]
    request: String,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// `zim admin event`
#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    /// The text
    #[arg(value_name = "TEXT")]
    content: String,
    /// Only these users, with commas between them [default: all of the app]
    #[arg(long, value_name = "USERS", value_delimiter = ',')]
    to: Vec<String>,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

impl Operator {
    /// Calls a method as a user.
    pub(super) async fn call_as<R: Rpc>(
        &mut self,
        app_id: u32,
        user: &str,
        request: &R,
    ) -> Result<R::Response, Failure> {
        let method = R::METHOD.path.to_owned();
        let request =
            CallAsUserRequest { app_id, user_id: user.to_owned(), method, payload: request.encode_to_vec().into() };
        let answer = self.client.call_as_user(request).await.map_err(|status| refused(&status))?.into_inner();
        R::Response::decode(answer.payload)
            .map_err(|error| Failure::other(format!("the answer cannot be read: {error}")))
    }
}

pub(super) async fn room(command: RoomCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    match command {
        RoomCommand::Create { user, room, name, keep, attributes, app_id } => {
            let app_id = operator.app(app_id).await?;
            let delay = i64::try_from(keep.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
            let config = RoomAdvancedConfig {
                room_destroy_delay_time: delay,
                room_attributes: attributes.into_iter().collect(),
            };
            let request = CreateServerRoomRequest {
                app_id,
                room_id: room.clone(),
                room_name: name,
                user_id: user,
                config: Some(config),
            };
            let made = operator.client.create_server_room(request).await.map_err(|status| refused(&status))?;
            if output.is_json() {
                return output.json(&made.into_inner());
            }
            output.line(format!("Created the room {}.", preview(&room, 32)))
        }
        RoomCommand::Destroy { room, app_id } => {
            let app_id = operator.app(app_id).await?;
            let request = DestroyRoomRequest { app_id, room_id: room.clone() };
            let done = operator.client.destroy_room(request).await.map_err(|status| refused(&status))?.into_inner();
            if output.is_json() {
                return output.json(&done);
            }
            let users = if done.users == 1 { "1 user was".to_owned() } else { format!("{} users were", done.users) };
            output.line(format!("Ended the room {}; {users} in it.", preview(&room, 32)))
        }
        RoomCommand::List { app_id } => rooms(operator.app(app_id).await?, operator, context).await,
        RoomCommand::Members { room, app_id } => {
            let app_id = operator.app(app_id).await?;
            room_members((app_id, room), operator, context).await
        }
        RoomCommand::Kick { room, users, app_id } => {
            let app_id = operator.app(app_id).await?;
            kick_from_room((app_id, room, users), operator, context).await
        }
    }
}

async fn rooms(app_id: u32, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let mut table =
        Table::new(&[("ROOM", Align::Left), ("NAME", Align::Left), ("USERS", Align::Right), ("CREATED", Align::Left)]);
    let (mut after, mut is_empty) = (String::new(), true);
    loop {
        let request = ListRoomsRequest { app_id, after, count: 0 };
        let page = operator.client.list_rooms(request).await.map_err(|status| refused(&status))?.into_inner();
        is_empty &= page.rooms.is_empty();
        for room in &page.rooms {
            if context.output.is_json() {
                context.output.json(room)?;
            }
            let (id, name) = (preview(&room.room_id, 32), preview(&room.room_name, 32));
            table.row([id, name, room.users.to_string(), when(room.created_at, now_ms())]);
        }
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    match (context.output.is_json(), is_empty) {
        (true, _) => Ok(()),
        (false, true) => context.output.line("There are no rooms."),
        (false, false) => context.output.table(&table),
    }
}

async fn room_members(
    (app_id, room_id): (u32, String),
    operator: &mut Operator,
    context: &Context,
) -> Result<(), Failure> {
    let mut table = Table::new(&[("USER", Align::Left), ("NAME", Align::Left), ("CONNECTED", Align::Left)]);
    let (mut after, mut is_empty) = (String::new(), true);
    loop {
        let request = ListRoomMembersRequest { app_id, room_id: room_id.clone(), after, count: 0 };
        let page = operator.client.list_room_members(request).await.map_err(|status| refused(&status))?.into_inner();
        is_empty &= page.members.is_empty();
        for member in &page.members {
            if context.output.is_json() {
                context.output.json(member)?;
                continue;
            }
            let connected = if member.is_connected { "yes" } else { "no" };
            table.row([preview(&member.user_id, 32), preview(&member.user_name, 40), connected.to_owned()]);
        }
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    match (context.output.is_json(), is_empty) {
        (true, _) => Ok(()),
        (false, true) => context.output.line(format!("Nobody is in the room {}.", preview(&room_id, 32))),
        (false, false) => context.output.table(&table),
    }
}

async fn kick_from_room(
    (app_id, room, users): (u32, String, Vec<String>),
    operator: &mut Operator,
    context: &Context,
) -> Result<(), Failure> {
    let request = KickRoomUsersRequest { app_id, room_id: room.clone(), user_ids: users };
    let done = operator.client.kick_room_users(request).await.map_err(|status| refused(&status))?.into_inner();
    if context.output.is_json() {
        return context.output.json(&done);
    }
    let room = preview(&room, 32);
    if done.user_ids.is_empty() {
        return context.output.line(format!("None of them is in the room {room}."));
    }
    let removed = done.user_ids.iter().map(|user| preview(user, 32)).collect::<Vec<_>>().join(", ");
    context.output.line(format!("Removed {removed} from the room {room}."))
}

pub(super) async fn call(args: CallArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let method = find(&args.method)?;
    let request = read_request(&args.request)?;
    let unknown = unknown::fields(method, &request)?;
    if !unknown.is_empty() {
        context.output.warn(format!("{} has no field {}; it is ignored", method.request, unknown.join(", ")));
    }
    let request = AnyRequest::from_json(method, request)
        .map_err(|error| Failure::usage(format!("this is no {}: {error}", method.request)))?;
    let app_id = operator.app(args.app_id).await?;
    let request = CallAsUserRequest {
        app_id,
        user_id: args.user,
        method: method.path.to_owned(),
        payload: request.encode().into(),
    };
    let answer = operator.client.call_as_user(request).await.map_err(|status| refused(&status))?.into_inner();
    let answer = response_to_json(method, &answer.payload)
        .map_err(|error| Failure::other(format!("the answer cannot be read: {error}")))?;
    if context.output.is_json() {
        return context.output.json(&answer);
    }
    context.output.line(printable_json(&serde_json::to_string_pretty(&answer)?))
}

pub(super) async fn event(args: EventArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(args.app_id).await?;
    let request = SendExperimentalEventRequest { app_id, user_ids: args.to, content: args.content };
    let sent = operator.client.send_experimental_event(request).await.map_err(|status| refused(&status))?.into_inner();
    if context.output.is_json() {
        return context.output.json(&sent);
    }
    context.output.line("Sent to those who are online.")
}
