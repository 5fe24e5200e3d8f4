//! `zim group invite`, `role`, `mute` and the like: members.

use std::time::Duration;

use clap::{Args, Subcommand};
use zim_client_sdk::Zim;
use zim_protocol::{
    ErrorCode, ErrorUserInfo, GroupInviteApplicationSendConfig, GroupMemberInfo, GroupMemberMuteConfig,
    GroupMemberQueryConfig, GroupMuteConfig, GroupMuteMode,
};

use super::{MAX_USERS, until};
use crate::command::friend::{ListArgs, next_count};
use crate::context::now_ms;
use crate::describe::group::role;
use crate::duration;
use crate::exit::{Failure, all_done};
use crate::output::{Align, Ink, Output, Table};
use crate::text::preview;

/// Changes of members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Bring users into a group, or ask them if they must agree
    #[command(after_help = "\
With --be-invite-mode auth in `zim group set`, users must agree: zim group agree.

Examples:
  zim group invite crew2 mallory --wording \"come to us\"")]
    Invite {
        /// The group
        group: String,
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
        /// A message to users who must agree, who are at most 20 then
        #[arg(long, value_name = "TEXT")]
        wording: Option<String>,
    },
    /// Make another member the owner of a group, for its owner
    #[command(after_help = "\
Examples:
  zim group transfer trip bob")]
    Transfer {
        /// The group
        group: String,
        /// The member
        user: String,
    },
    /// Give a member a role, for the owner
    Role {
        /// The group
        group: String,
        /// The member
        user: String,
        /// admin, member, or a number from 4 on, of your own
        #[arg(value_parser = parse_role)]
        role: i64,
    },
    /// Give a member of a group a nickname
    #[command(after_help = "\
Examples:
  zim group nickname crew2 bob Bobby
  zim group nickname crew2 bob")]
    Nickname {
        /// The group
        group: String,
        /// The member
        user: String,
        /// The nickname; omit it to remove the nickname
        #[arg(default_value = "")]
        nickname: String,
    },
    /// Mute members of a group, or without users everybody or some roles
    Mute(MuteArgs),
    /// Let members write again, or without users end the mute of the group
    #[command(after_help = "\
Examples:
  zim group unmute crew2 bob carol
  zim group unmute crew2")]
    Unmute {
        /// The group
        group: String,
        /// The members
        #[arg(value_name = "USER", num_args = 0..=MAX_USERS)]
        users: Vec<String>,
    },
    /// List the members of a group who are muted themselves
    #[command(after_help = "\
Examples:
  zim group muted crew2 | jq -r .userID")]
    Muted {
        /// The group
        group: String,
        #[command(flatten)]
        list: ListArgs,
    },
}

/// `zim group mute`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim group mute crew2 bob carol --for 15m
  zim group mute crew2 --role member --for 1h
  zim group mute crew2")]
pub(crate) struct MuteArgs {
    /// The group
    group: String,
    /// The members
    #[arg(value_name = "USER", num_args = 0..=MAX_USERS)]
    users: Vec<String>,
    /// For how long, as in 90s, 15m, 12h or 7d, which is the longest; without it, for good
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Everybody in this role instead of all: owner, admin, member or a number; may be repeated
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "users", value_parser = parse_any_role)]
    roles: Vec<i64>,
}

fn parse_any_role(text: &str) -> Result<i64, String> {
    match text {
        "owner" => Ok(1),
        "admin" => Ok(2),
        "member" => Ok(3),
        number => match number.parse() {
            Ok(number) if number >= 1 => Ok(number),
            _ => Err("a role is owner, admin, member or a number from 1 on".to_owned()),
        },
    }
}

fn parse_role(text: &str) -> Result<i64, String> {
    match parse_any_role(text)? {
        1 => Err("the owner is made with: zim group transfer".to_owned()),
        number => Ok(number),
    }
}

impl MuteArgs {
    fn seconds(&self) -> i64 {
        self.duration.map_or(-1, |duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
    }

    fn config(&self) -> GroupMuteConfig {
        let mode = match self.roles[..] {
            [] => GroupMuteMode::All,
            [3] => GroupMuteMode::Normal,
            _ => GroupMuteMode::Custom,
        };
        let roles = if mode == GroupMuteMode::Custom { self.roles.clone() } else { Vec::new() };
        GroupMuteConfig { mode: Some(mode as i32), duration: Some(self.seconds()), roles }
    }
}

pub(super) async fn run(command: MemberCommand, zim: &Zim, output: Output) -> Result<(), Failure> {
    match command {
        MemberCommand::Invite { group, users, wording } => invite(&group, &users, wording, zim, output).await,
        MemberCommand::Transfer { group, user } => {
            let result = zim.transfer_group_owner(&user, &group).await?;
            if output.is_json() {
                return output.json(&result);
            }
            output.line(format!("{} is the owner of the group now.", output.paint(Ink::Name, &preview(&user, 32))))
        }
        MemberCommand::Role { group, user, role: number } => {
            let result = zim.set_group_member_role(number, &user, &group).await?;
            if output.is_json() {
                return output.json(&result);
            }
            output.line(format!("{} is {} now.", output.paint(Ink::Name, &preview(&user, 32)), role(number)))
        }
        MemberCommand::Nickname { group, user, nickname } => {
            let result = zim.set_group_member_nickname(&nickname, &user, &group).await?;
            if output.is_json() {
                return output.json(&result);
            }
            let user = output.paint(Ink::Name, &preview(&user, 32));
            output.line(match nickname.is_empty() {
                true => format!("{user} has no nickname now."),
                false => format!("{user} is called {} now.", preview(&nickname, 100)),
            })
        }
        MemberCommand::Mute(args) => mute(&args, zim, output).await,
        MemberCommand::Unmute { group, users } => unmute(&group, &users, zim, output).await,
        MemberCommand::Muted { group, list } => muted(&group, &list, zim, output).await,
    }
}

async fn invite(
    group: &str,
    users: &[String],
    wording: Option<String>,
    zim: &Zim,
    output: Output,
) -> Result<(), Failure> {
    if let Some(wording) = wording {
        let config = GroupInviteApplicationSendConfig { wording, ..Default::default() };
        let sent = zim.send_group_invite_applications(users, group, config).await?;
        if output.is_json() {
            output.json(&sent)?;
        } else {
            output.done("Invited", users, &sent.error_user_list)?;
        }
        return all_done(&sent.error_user_list, "not invited");
    }
    let invited = zim.invite_users_into_group(users, group).await?;
    // Who was asked is no failure.
    let need = i64::from(ErrorCode::GroupModuleNeedApplyInviteGroupError as i32);
    let is_asked = |user: &ErrorUserInfo| user.reason == need;
    let (asked, failed): (Vec<_>, Vec<_>) = invited.error_user_list.iter().cloned().partition(is_asked);
    if output.is_json() {
        output.json(&invited)?;
    } else {
        output.done("Invited", users, &failed)?;
        for user in asked {
            output.line(format!("{} must agree first.", output.paint(Ink::Name, &preview(&user.user_id, 32))))?;
        }
    }
    all_done(&failed, "not invited")
}

async fn mute(args: &MuteArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    if args.users.is_empty() {
        let muted = zim.mute_group(true, &args.group, args.config()).await?;
        if output.is_json() {
            return output.json(&muted);
        }
        let what = super::muted(muted.muted_info.unwrap_or_default(), now_ms());
        return output.line(format!("Muted: {what}."));
    }
    let config = GroupMemberMuteConfig { duration: args.seconds() };
    let muted = zim.mute_group_members(true, &args.users, &args.group, config).await?;
    if output.is_json() {
        output.json(&muted)?;
    } else {
        output.done("Muted", &args.users, &muted.error_user_list)?;
    }
    all_done(&muted.error_user_list, "not muted")
}

async fn unmute(group: &str, users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    if users.is_empty() {
        let ended = zim.mute_group(false, group, GroupMuteConfig::default()).await?;
        if output.is_json() {
            return output.json(&ended);
        }
        return output.line("The mute of the group has ended.");
    }
    let ended = zim.mute_group_members(false, users, group, GroupMemberMuteConfig::default()).await?;
    if output.is_json() {
        output.json(&ended)?;
    } else {
        output.done("Unmuted", users, &ended.error_user_list)?;
    }
    all_done(&ended.error_user_list, "not unmuted")
}

async fn muted(group: &str, args: &ListArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<GroupMemberInfo>, i64) = (Vec::new(), 0);
    while let Some(count) = next_count(args.count, all.len()) {
        let page = zim.query_group_member_muted_list(group, GroupMemberQueryConfig { next_flag, count }).await?;
        all.extend(page.user_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    if output.is_json() {
        return all.iter().try_for_each(|member| output.json(member));
    }
    if all.is_empty() {
        return output.line("Nobody is muted.");
    }
    let mut table = Table::new(&["MEMBER", "MUTED"].map(|name| (name, Align::Left)));
    for member in &all {
        table.row([preview(&member.user_id, 32), until(member.mute_expired_time, now_ms())]);
    }
    output.table(&table)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: MuteArgs,
    }

    #[test]
    fn a_mute_is_of_everybody_or_of_roles() {
        let config = |line: &str| {
            let args = Line::try_parse_from(line.split_whitespace()).unwrap().args;
            let config = args.config();
            (config.mode(), config.duration.unwrap(), config.roles)
        };
        assert_eq!(config("mute crew"), (GroupMuteMode::All, -1, vec![]));
        assert_eq!(config("mute crew --role member --for 2m"), (GroupMuteMode::Normal, 120, vec![]));
        assert_eq!(config("mute crew --role admin --role 77"), (GroupMuteMode::Custom, -1, vec![2, 77]));
        assert!(Line::try_parse_from(["mute", "crew", "bob", "--role", "admin"]).is_err());
    }

    #[test]
    fn roles_have_names_and_numbers() {
        assert_eq!([parse_role("admin"), parse_role("member"), parse_role("100")], [Ok(2), Ok(3), Ok(100)]);
        for bad in ["owner", "1", "0", "-3", "boss"] {
            assert!(parse_role(bad).is_err(), "{bad}");
        }
    }
}
