//! `zim admin group`: the groups of an app, and what the operator does with them, by themselves or as a user.

use clap::{Args, Subcommand};
use zim_protocol::{
    CreateGroupRequest, DismissGroupRequest, DismissServerGroupRequest, GetGroupRequest, GroupInfo, GroupRow,
    InviteUsersIntoGroupRequest, KickGroupMembersRequest, KickServerGroupMembersRequest, ListGroupMembersRequest,
    ListGroupsRequest,
};

use super::{Operator, refused};
use crate::command::group::{info_rows, member_table};
use crate::context::{Context, now_ms};
use crate::exit::{Failure, all_done};
use crate::output::{Align, Table, when};
use crate::text::preview;

/// The group of a command.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    /// The group
    #[arg(value_name = "GROUP")]
    group: String,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// `zim admin group`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim admin group list
  zim admin group create ann team bob
  zim admin group add ann crew mallory
  zim admin group show crew
  zim admin group members crew
  zim admin group kick crew bob
  zim admin group kick crew mallory --as ann
  zim admin group dismiss crew")]
pub(crate) enum GroupCommand {
    /// List the groups of the app, the newest first
    List {
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Show what a group is
    Show(GroupArgs),
    /// List the members of a group, in the order in which they entered
    Members(GroupArgs),
    /// Create a group, whose owner is USER
    Create {
        /// The owner
        user: String,
        #[command(flatten)]
        target: GroupArgs,
        /// Its first members
        #[arg(value_name = "MEMBER")]
        members: Vec<String>,
        /// Its name
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        name: String,
    },
    /// Add members to a group, as one of its members
    Add {
        /// The owner, an admin, or a member who may invite others
        user: String,
        #[command(flatten)]
        target: GroupArgs,
        /// The new members
        #[arg(value_name = "MEMBER", required = true)]
        members: Vec<String>,
    },
    /// Dismiss a group
    Dismiss {
        #[command(flatten)]
        target: GroupArgs,
        /// As the owner, and not as the operator
        #[arg(long = "as", value_name = "USER")]
        user: Option<String>,
    },
    /// Remove members from a group, whatever their role
    Kick {
        #[command(flatten)]
        target: GroupArgs,
        /// The members
        #[arg(value_name = "MEMBER", required = true)]
        members: Vec<String>,
        /// As the owner or an admin, and not as the operator
        #[arg(long = "as", value_name = "USER")]
        user: Option<String>,
    },
}

pub(super) async fn run(command: GroupCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    match command {
        GroupCommand::List { app_id } => list(operator.app(app_id).await?, operator, context).await,
        GroupCommand::Show(target) => show(target, operator, context).await,
        GroupCommand::Members(target) => members_of(target, operator, context).await,
        GroupCommand::Create { user, target, members, name } => {
            let (app_id, group) = (operator.app(target.app_id).await?, target.group);
            let info = GroupInfo { group_id: group.clone(), group_name: name, ..GroupInfo::default() };
            let request =
                CreateGroupRequest { group_info: Some(info), user_ids: members, ..CreateGroupRequest::default() };
            let made = operator.call_as(app_id, &user, &request).await?;
            if output.is_json() {
                output.json(&made)?;
            } else {
                output.line(format!("Created the group {}, owned by {}.", preview(&group, 32), preview(&user, 32)))?;
            }
            all_done(&made.error_user_list, "not added")
        }
        GroupCommand::Add { user, target, members } => {
            let app_id = operator.app(target.app_id).await?;
            let request = InviteUsersIntoGroupRequest { user_ids: members.clone(), group_id: target.group };
            let done = operator.call_as(app_id, &user, &request).await?;
            if output.is_json() {
                output.json(&done)?;
            } else {
                output.done("Added", &members, &done.error_user_list)?;
            }
            all_done(&done.error_user_list, "not added")
        }
        GroupCommand::Dismiss { target, user } => dismiss(target, user, operator, context).await,
        GroupCommand::Kick { target, members, user } => kick((target, members), user, operator, context).await,
    }
}

async fn list(app_id: u32, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("GROUP", Align::Left),
        ("NAME", Align::Left),
        ("OWNER", Align::Left),
        ("MEMBERS", Align::Right),
        ("CREATED", Align::Left),
    ]);
    let (mut after, mut is_empty) = (String::new(), true);
    loop {
        let request = ListGroupsRequest { app_id, after, count: 0 };
        let page = operator.client.list_groups(request).await.map_err(|status| refused(&status))?.into_inner();
        is_empty &= page.groups.is_empty();
        for group in &page.groups {
            if context.output.is_json() {
                context.output.json(group)?;
            } else {
                table.row(row(group, now_ms()));
            }
        }
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    match (context.output.is_json(), is_empty) {
        (true, _) => Ok(()),
        (false, true) => context.output.line("There are no groups."),
        (false, false) => context.output.table(&table),
    }
}

fn row(group: &GroupRow, now_ms: i64) -> [String; 5] {
    [
        preview(&group.group_id, 32),
        preview(&group.group_name, 40),
        preview(&group.owner_user_id, 32),
        group.members.to_string(),
        when(group.created_at, now_ms),
    ]
}

async fn show(target: GroupArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let request = GetGroupRequest { app_id: operator.app(target.app_id).await?, group_id: target.group };
    let found = operator.client.get_group(request).await.map_err(|status| refused(&status))?.into_inner();
    if context.output.is_json() {
        return context.output.json(&found);
    }
    let mut rows = info_rows(&found.group_info.unwrap_or_default(), now_ms());
    rows.insert(1, ("owner", preview(&found.owner_user_id, 32)));
    rows.insert(2, ("members", found.members.to_string()));
    rows.into_iter().try_for_each(|(what, value)| context.output.line(format!("{what:<13}{value}")))
}

async fn members_of(target: GroupArgs, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(target.app_id).await?;
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let request = ListGroupMembersRequest { app_id, group_id: target.group.clone(), after, count: 0 };
        let page = operator.client.list_group_members(request).await.map_err(|status| refused(&status))?.into_inner();
        if context.output.is_json() {
            page.members.iter().try_for_each(|member| context.output.json(member))?;
        } else {
            all.extend(page.members);
        }
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    if context.output.is_json() { Ok(()) } else { context.output.table(&member_table(&all, now_ms())) }
}

async fn dismiss(
    target: GroupArgs,
    user: Option<String>,
    operator: &mut Operator,
    context: &Context,
) -> Result<(), Failure> {
    let (app_id, group_id) = (operator.app(target.app_id).await?, target.group);
    let done = match user {
        Some(user) => operator.call_as(app_id, &user, &DismissGroupRequest { group_id }).await?,
        None => {
            let request = DismissServerGroupRequest { app_id, group_id };
            operator.client.dismiss_server_group(request).await.map_err(|status| refused(&status))?.into_inner()
        }
    };
    if context.output.is_json() {
        return context.output.json(&done);
    }
    context.output.line(format!("Dismissed the group {}.", preview(&done.group_id, 32)))
}

async fn kick(
    (target, user_ids): (GroupArgs, Vec<String>),
    user: Option<String>,
    operator: &mut Operator,
    context: &Context,
) -> Result<(), Failure> {
    let (app_id, group_id) = (operator.app(target.app_id).await?, target.group);
    let done = match user {
        Some(user) => operator.call_as(app_id, &user, &KickGroupMembersRequest { user_ids, group_id }).await?,
        None => {
            let request = KickServerGroupMembersRequest { app_id, group_id, user_ids };
            operator.client.kick_server_group_members(request).await.map_err(|status| refused(&status))?.into_inner()
        }
    };
    let removed = done.kicked_user_ids.iter().map(|user| preview(user, 32)).collect::<Vec<_>>().join(", ");
    if context.output.is_json() {
        context.output.json(&done)?;
    } else if !removed.is_empty() {
        context.output.line(format!("Removed {removed} from the group {}.", preview(&done.group_id, 32)))?;
    }
    all_done(&done.error_user_list, "not removed")
}
