//! `zim group`: groups and their members.

mod application;
mod change;
mod create;
mod member;
mod members;

use clap::Subcommand;
use zim_client_sdk::Zim;
use zim_protocol::{
    Group, GroupBeInviteMode, GroupFullInfo, GroupInviteMode, GroupJoinMode, GroupListQueryConfig, GroupMemberInfo,
    GroupMuteInfo, GroupMuteMode, GroupSearchConfig, GroupVerifyInfo,
};

use self::application::ApplicationCommand;
use self::change::ChangeCommand;
use self::create::CreateArgs;
use self::member::MemberCommand;
use self::members::MembersArgs;
use super::friend::{ListArgs, next_count};
use crate::attribute::attributes_text;
use crate::context::{Context, now_ms};
use crate::describe::group::{name, role};
use crate::exit::{Failure, all_done};
use crate::output::{Align, Ink, Output, Table, when};
use crate::text::preview;

/// The limit of users in a request.
const MAX_USERS: usize = 100;

/// `zim group`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Groups are written to and read like users, with --group: zim send, history, chat, revoke, conversation.

Examples:
  zim group create crew2 bob carol --name \"The crew\"
  zim send --group crew2 \"hi all\"
  zim --profile carol group leave crew2
  zim group members crew2 | jq -r .userID
  zim group invite crew2 carol
  zim group set crew2 --name \"Crew of Bern\" --join-mode auth
  zim group attributes crew2 city=Bern
  zim group role crew2 carol admin
  zim group mute crew2 bob --for 1h
  zim group kick crew2 bob
  zim --profile bob group apply crew2 --wording \"let me in\"
  zim group applications
  zim group accept crew2 bob
  zim group list --with carol")]
pub(crate) enum GroupCommand {
    /// Create a group, with yourself as its owner
    Create(CreateArgs),
    /// Join a group that is open to everybody
    #[command(after_help = "\
Examples:
  zim group join chess")]
    Join {
        /// The group
        group: String,
    },
    /// Leave a group; what you saw of it stays readable
    Leave {
        /// The group
        group: String,
    },
    /// End a group for all of its members, for its owner
    #[command(after_help = "\
Examples:
  zim group dismiss old-crew")]
    Dismiss {
        /// The group
        group: String,
    },
    /// Remove members, for the owner and administrators
    Kick {
        /// The group
        group: String,
        /// The members
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
    },
    /// Show what a group is
    #[command(after_help = "\
Examples:
  zim group info crew2")]
    Info {
        /// The group
        group: String,
    },
    /// List the members of a group in the order in which they entered, or show, search or count them
    Members(MembersArgs),
    /// List the groups that you are in, the last entered first
    List {
        /// Only groups that this user is in, too; may be repeated
        #[arg(long = "with", value_name = "USER")]
        with: Vec<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Search your groups by name, or by their members
    #[command(after_help = "\
Examples:
  zim group search crew
  zim group search bob --members")]
    Search {
        /// Text that must occur, ignoring case
        #[arg(value_name = "KEYWORD", required = true, num_args = 1..=5)]
        keywords: Vec<String>,
        /// Also find groups by the names and nicknames of their members, and show these members
        #[arg(long)]
        members: bool,
    },
    #[command(flatten)]
    Change(ChangeCommand),
    #[command(flatten)]
    Member(MemberCommand),
    #[command(flatten)]
    Application(ApplicationCommand),
}

pub(crate) async fn run(command: GroupCommand, context: &Context) -> Result<(), Failure> {
    let session = match &command {
        GroupCommand::Search { .. } => context.one_shot_synced().await?,
        GroupCommand::Members(args) if args.needs_copy() => context.one_shot_synced().await?,
        _ => context.one_shot().await?,
    };
    let (zim, output) = (&session.zim, context.output);
    let outcome = match command {
        GroupCommand::Create(args) => create::run(args, zim, output).await,
        GroupCommand::Join { group } => join(&group, zim, output).await,
        GroupCommand::Leave { group } => leave(&group, zim, output).await,
        GroupCommand::Dismiss { group } => dismiss(&group, zim, output).await,
        GroupCommand::Kick { group, users } => kick(&group, &users, zim, output).await,
        GroupCommand::Info { group } => info(&group, zim, output).await,
        GroupCommand::Members(args) => members::run(args, zim, output).await,
        GroupCommand::List { with, list } => groups(with, &list, zim, output).await,
        GroupCommand::Search { keywords, members } => search(keywords, members, zim, output).await,
        GroupCommand::Change(command) => change::run(command, zim, output).await,
        GroupCommand::Member(command) => member::run(command, zim, output).await,
        GroupCommand::Application(command) => application::run(command, zim, output).await,
    };
    session.end().await;
    outcome
}

async fn join(group: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let joined = zim.join_group(group).await?;
    if output.is_json() {
        return output.json(&joined);
    }
    let group = joined.group_info.unwrap_or_default().base_info.unwrap_or_default();
    output.line(format!("You are in the group {} now.", output.paint(Ink::Name, &name(&group))))
}

async fn leave(group: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let left = zim.leave_group(group).await?;
    if output.is_json() {
        return output.json(&left);
    }
    output.line(format!("You have left the group {}.", output.paint(Ink::Name, &preview(group, 32))))
}

async fn dismiss(group: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let dismissed = zim.dismiss_group(group).await?;
    if output.is_json() {
        return output.json(&dismissed);
    }
    output.line(format!("The group {} is dismissed.", output.paint(Ink::Name, &preview(group, 32))))
}

async fn kick(group: &str, users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let kicked = zim.kick_group_members(users, group).await?;
    if output.is_json() {
        output.json(&kicked)?;
    } else {
        output.done("Removed", users, &kicked.error_user_list)?;
    }
    all_done(&kicked.error_user_list, "not removed")
}

async fn info(group: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let found = zim.query_group_info(group).await?;
    if output.is_json() {
        return output.json(&found);
    }
    let rows = info_rows(&found.group_info.unwrap_or_default(), now_ms());
    rows.into_iter().try_for_each(|(what, value)| output.line(format!("{what:<13}{value}")))
}

/// Returns what a group is, without what is empty.
pub(crate) fn info_rows(info: &GroupFullInfo, now_ms: i64) -> Vec<(&'static str, String)> {
    let (base, rules) = (info.base_info.clone().unwrap_or_default(), info.verify_info.unwrap_or_default());
    let rows = [
        ("group", preview(&base.group_id, 32)),
        ("name", preview(&base.group_name, 100)),
        ("avatar", preview(&base.group_avatar_url, 200)),
        ("notice", preview(&info.group_notice, 300)),
        ("attributes", attributes_text(&info.group_attributes)),
        ("created", when(info.create_time, now_ms)),
        ("alias", preview(&info.group_alias, 100)),
        ("muted", muted(info.muted_info.clone().unwrap_or_default(), now_ms)),
        ("room", if info.max_member_count > 0 { format!("{} members", info.max_member_count) } else { String::new() }),
        ("who joins", joins(rules).to_owned()),
        ("who invites", invites(rules).to_owned()),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Says who may not write, and until when.
fn muted(mute: GroupMuteInfo, now_ms: i64) -> String {
    let who = match mute.mode() {
        GroupMuteMode::None => return String::new(),
        GroupMuteMode::Normal => "members".to_owned(),
        GroupMuteMode::All => "everybody".to_owned(),
        GroupMuteMode::Custom => mute.roles.iter().map(|one| role(*one)).collect::<Vec<_>>().join(", "),
    };
    format!("{who} {}", until(mute.expired_time, now_ms))
}

/// Says when a mute ends.
fn until(expired_time: i64, now_ms: i64) -> String {
    if expired_time == -1 { "for good".to_owned() } else { format!("until {}", when(expired_time, now_ms)) }
}

fn joins(rules: GroupVerifyInfo) -> &'static str {
    match rules.join_mode() {
        GroupJoinMode::Any => "everybody",
        GroupJoinMode::Auth => "those whose application an administrator accepts",
        GroupJoinMode::Forbid => "nobody without an invitation",
    }
}

fn invites(rules: GroupVerifyInfo) -> &'static str {
    match (rules.invite_mode(), rules.be_invite_mode()) {
        (GroupInviteMode::Any, GroupBeInviteMode::None) => "every member",
        (GroupInviteMode::Any, GroupBeInviteMode::Auth) => "every member; the invited user must agree",
        (GroupInviteMode::Admin, GroupBeInviteMode::None) => "the owner and administrators",
        (GroupInviteMode::Admin, GroupBeInviteMode::Auth) => {
            "the owner and administrators; the invited user must agree"
        }
    }
}

/// Returns up to `most` groups of the user; of these users, if there are any, too.
async fn own_groups(with: Vec<String>, most: i64, zim: &Zim) -> Result<Vec<Group>, Failure> {
    let (mut all, mut next_flag): (Vec<Group>, i64) = (Vec::new(), 0);
    while let Some(count) = next_count(most, all.len()) {
        let config = GroupListQueryConfig { next_flag, user_ids: with.clone() };
        let page = zim.query_group_list_page(count, config).await?;
        all.extend(page.group_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    Ok(all)
}

async fn groups(with: Vec<String>, args: &ListArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let all = own_groups(with, args.count, zim).await?;
    if output.is_json() {
        return all.iter().try_for_each(|group| output.json(group));
    }
    if all.is_empty() {
        return output.line("You are in no group.");
    }
    output.table(&group_table(&all))
}

fn group_table(groups: &[Group]) -> Table {
    let mut table = Table::new(&["GROUP", "NAME", "ALIAS"].map(|name| (name, Align::Left)));
    for group in groups {
        let base = group.base_info.clone().unwrap_or_default();
        table.row([preview(&base.group_id, 32), preview(&base.group_name, 40), preview(&group.group_alias, 40)]);
    }
    table
}

async fn search(keywords: Vec<String>, with_members: bool, zim: &Zim, output: Output) -> Result<(), Failure> {
    if with_members {
        for group in own_groups(Vec::new(), i64::MAX, zim).await? {
            members::read_all(&group.base_info.unwrap_or_default().group_id, zim).await?;
        }
    }
    let (mut all, mut next_flag) = (Vec::new(), 0);
    loop {
        let config = GroupSearchConfig {
            next_flag,
            count: 30,
            keywords: keywords.clone(),
            is_also_match_group_member_user_name: with_members,
            is_also_match_group_member_nickname: with_members,
        };
        let page = zim.search_local_groups(config).await?;
        all.extend(page.group_search_info_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    if output.is_json() {
        return all.iter().try_for_each(|hit| output.json(hit));
    }
    if all.is_empty() {
        return output.line("No group matches.");
    }
    let mut table = Table::new(&["GROUP", "NAME", "MEMBERS WHO MATCH"].map(|name| (name, Align::Left)));
    for hit in all {
        let group = hit.group_info.unwrap_or_default();
        let members: Vec<String> = hit.user_list.iter().map(|user| preview(&user.user_id, 32)).collect();
        table.row([preview(&group.group_id, 32), preview(&group.group_name, 40), members.join(", ")]);
    }
    output.table(&table)
}

/// Returns members as a table.
pub(crate) fn member_table(members: &[GroupMemberInfo], now_ms: i64) -> Table {
    let columns = ["MEMBER", "NAME", "ROLE", "SINCE", "INVITED BY"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for member in members {
        let named = if member.member_nickname.is_empty() { &member.user_name } else { &member.member_nickname };
        let entered = member.group_enter_info.clone().unwrap_or_default();
        let inviter = entered.operated_user.map_or_else(String::new, |user| preview(&user.user_id, 32));
        table.row([
            preview(&member.user_id, 32),
            preview(named, 40),
            role(member.member_role),
            when(entered.enter_time, now_ms),
            inviter,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use zim_protocol::{GroupEnterInfo, GroupInfo, GroupMemberSimpleInfo};

    use super::*;

    #[test]
    fn what_a_group_is_is_shown_without_what_is_empty() {
        let base_info = Some(GroupInfo { group_id: "crew".into(), ..GroupInfo::default() });
        let verify_info = Some(GroupVerifyInfo { join_mode: 2, invite_mode: 1, be_invite_mode: 1 });
        let info = GroupFullInfo {
            base_info,
            verify_info,
            group_attributes: [("color".to_owned(), "red".to_owned())].into(),
            ..GroupFullInfo::default()
        };
        let expected = [
            ("group", "crew"),
            ("attributes", "color=red"),
            ("who joins", "nobody without an invitation"),
            ("who invites", "the owner and administrators; the invited user must agree"),
        ];
        assert_eq!(info_rows(&info, 0), expected.map(|(what, value)| (what, value.to_owned())));
    }

    #[test]
    fn members_are_a_table_with_roles() {
        let ann = GroupMemberInfo { user_id: "ann".into(), member_role: 1, ..GroupMemberInfo::default() };
        let operated_user = Some(GroupMemberSimpleInfo { user_id: "ann".into(), ..Default::default() });
        let bob = GroupMemberInfo {
            user_id: "bob".into(),
            user_name: "Robert".into(),
            member_nickname: "Bobby".into(),
            member_role: 3,
            group_enter_info: Some(GroupEnterInfo { operated_user, ..GroupEnterInfo::default() }),
            ..GroupMemberInfo::default()
        };
        let expected =
            ["MEMBER  NAME   ROLE    SINCE  INVITED BY", "ann            owner", "bob     Bobby  member         ann"];
        assert_eq!(member_table(&[ann, bob], 0).render(), expected);
    }
}
