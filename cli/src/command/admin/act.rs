//! `zim admin group`, `zim admin room` and `zim admin call`: the operator acts for a user.

use clap::{Args, Subcommand};
use prost::Message;
use zim_protocol::{
    AnyRequest, CallAsUserRequest, CreateGroupRequest, DismissGroupRequest, GroupInfo, KickGroupMembersRequest,
    KickRoomUsersRequest, Rpc, SendExperimentalEventRequest, response_to_json,
};

use super::{Operator, refused};
use crate::command::call::{find, read_request};
use crate::context::Context;
use crate::exit::Failure;
use crate::text::{preview, printable_json};
use crate::unknown;

/// `zim admin group`
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Create a group, whose owner is USER
    Create {
        /// The owner
        user: String,
        /// The group
        #[arg(value_name = "GROUP")]
        group: String,
        /// Its first members
        #[arg(value_name = "MEMBER")]
        members: Vec<String>,
        /// Its name
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        name: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Dismiss a group, as its owner
    Dismiss {
        /// The owner
        user: String,
        /// The group
        #[arg(value_name = "GROUP")]
        group: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Remove members from a group, as its owner or as an admin
    Kick {
        /// The owner, or an admin
        user: String,
        /// The group
        #[arg(value_name = "GROUP")]
        group: String,
        /// The members
        #[arg(value_name = "MEMBER", required = true)]
        members: Vec<String>,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
}

/// `zim admin room`
#[derive(Debug, Subcommand)]
pub(crate) enum RoomCommand {
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
    async fn call_as<R: Rpc>(&mut self, app_id: u32, user: &str, request: &R) -> Result<R::Response, Failure> {
        let method = R::METHOD.path.to_owned();
        let request =
            CallAsUserRequest { app_id, user_id: user.to_owned(), method, payload: request.encode_to_vec().into() };
        let answer = self.client.call_as_user(request).await.map_err(|status| refused(&status))?.into_inner();
        R::Response::decode(answer.payload)
            .map_err(|error| Failure::other(format!("the answer cannot be read: {error}")))
    }
}

pub(super) async fn group(command: GroupCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    match command {
        GroupCommand::Create { user, group, members, name, app_id } => {
            let app_id = operator.app(app_id).await?;
            let info = GroupInfo { group_id: group.clone(), group_name: name, ..GroupInfo::default() };
            let request =
                CreateGroupRequest { group_info: Some(info), user_ids: members, ..CreateGroupRequest::default() };
            let made = operator.call_as(app_id, &user, &request).await?;
            if output.is_json() {
                return output.json(&made);
            }
            output.line(format!("Created the group {}, owned by {}.", preview(&group, 32), preview(&user, 32)))
        }
        GroupCommand::Dismiss { user, group, app_id } => {
            let app_id = operator.app(app_id).await?;
            let done = operator.call_as(app_id, &user, &DismissGroupRequest { group_id: group.clone() }).await?;
            if output.is_json() {
                return output.json(&done);
            }
            output.line(format!("Dismissed the group {}.", preview(&group, 32)))
        }
        GroupCommand::Kick { user, group, members, app_id } => {
            let app_id = operator.app(app_id).await?;
            let request = KickGroupMembersRequest { user_ids: members, group_id: group.clone() };
            let done = operator.call_as(app_id, &user, &request).await?;
            if output.is_json() {
                return output.json(&done);
            }
            let removed = done.kicked_user_ids.iter().map(|user| preview(user, 32)).collect::<Vec<_>>().join(", ");
            output.line(format!("Removed {removed} from the group {}.", preview(&group, 32)))
        }
    }
}

pub(super) async fn room(command: RoomCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let RoomCommand::Kick { room, users, app_id } = command;
    let app_id = operator.app(app_id).await?;
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
