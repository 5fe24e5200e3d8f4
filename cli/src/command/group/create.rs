//! `zim group create`.

use clap::{Args, ValueEnum};
use zim_client_sdk::Zim;
use zim_protocol::{GroupAdvancedConfig, GroupBeInviteMode, GroupInfo, GroupInviteMode, GroupJoinMode};

use super::MAX_USERS;
use crate::attribute::attribute;
use crate::describe::group::{name, users};
use crate::exit::{Failure, all_done};
use crate::output::{Ink, Output};

/// `zim group create`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim group create family
  zim group create team bob carol --name \"The team\" --notice \"be kind\"
  zim group create --any-id bob carol
  zim group create club --join-mode forbid --max-members 50 --attribute city=Bern

An ID is used once, also after the group has ended. It must not begin with #: such IDs are given by the server.")]
pub(crate) struct CreateArgs {
    /// The ID of the group
    #[arg(value_name = "GROUP", required_unless_present = "any_id")]
    group: Option<String>,
    /// The users to invite, who are members at once
    #[arg(value_name = "USER", num_args = 0..=MAX_USERS)]
    users: Vec<String>,
    /// Let the server give an ID; all arguments are users
    #[arg(long)]
    any_id: bool,
    /// Name of the group
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    name: String,
    /// Address of an image
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    avatar: String,
    /// Notice that members see, up to 300 bytes
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    notice: String,
    /// Attribute of the group; may be repeated
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Maximum number of members; the server has a limit, too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    max_members: Option<i64>,
    /// Who joins: any (everybody), auth (by application) or forbid (nobody)
    #[arg(long, value_name = "MODE", default_value = "any", hide_possible_values = true)]
    join_mode: JoinMode,
    /// Who invites: any (every member) or admin (owner and administrators)
    #[arg(long, value_name = "MODE", default_value = "any", hide_possible_values = true)]
    invite_mode: InviteMode,
    /// Whether invited users must agree: none or auth
    #[arg(long, value_name = "MODE", default_value = "none", hide_possible_values = true)]
    be_invite_mode: BeInviteMode,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum JoinMode {
    Any,
    Auth,
    Forbid,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum InviteMode {
    Any,
    Admin,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum BeInviteMode {
    None,
    Auth,
}

impl From<JoinMode> for GroupJoinMode {
    fn from(mode: JoinMode) -> Self {
        match mode {
            JoinMode::Any => Self::Any,
            JoinMode::Auth => Self::Auth,
            JoinMode::Forbid => Self::Forbid,
        }
    }
}

impl From<InviteMode> for GroupInviteMode {
    fn from(mode: InviteMode) -> Self {
        match mode {
            InviteMode::Any => Self::Any,
            InviteMode::Admin => Self::Admin,
        }
    }
}

impl From<BeInviteMode> for GroupBeInviteMode {
    fn from(mode: BeInviteMode) -> Self {
        match mode {
            BeInviteMode::None => Self::None,
            BeInviteMode::Auth => Self::Auth,
        }
    }
}

impl CreateArgs {
    fn request(self) -> (GroupInfo, Vec<String>, GroupAdvancedConfig) {
        let (group_id, users) = match self.group {
            Some(first) if self.any_id => (String::new(), [vec![first], self.users].concat()),
            group => (group.unwrap_or_default(), self.users),
        };
        let info = GroupInfo { group_id, group_name: self.name, group_avatar_url: self.avatar };
        let config = GroupAdvancedConfig {
            group_notice: self.notice,
            group_attributes: self.attributes.into_iter().collect(),
            max_member_count: self.max_members.unwrap_or(0),
            join_mode: GroupJoinMode::from(self.join_mode) as i32,
            invite_mode: GroupInviteMode::from(self.invite_mode) as i32,
            be_invite_mode: GroupBeInviteMode::from(self.be_invite_mode) as i32,
        };
        (info, users, config)
    }
}

pub(super) async fn run(args: CreateArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let (info, invited, config) = args.request();
    let created = zim.create_group(info, invited, config).await?;
    if output.is_json() {
        output.json(&created)?;
    } else {
        let group = created.group_info.unwrap_or_default().base_info.unwrap_or_default();
        let group = output.paint(Ink::Name, &name(&group));
        // The first one is the owner.
        output.line(match created.user_list.get(1..).unwrap_or_default() {
            [] => format!("You created the group {group}; you are its only member."),
            others => format!("You created the group {group} with {}.", users(others)),
        })?;
    }
    all_done(&created.error_user_list, "not added")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn request(line: &str) -> Result<(GroupInfo, Vec<String>, GroupAdvancedConfig), clap::Error> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.args.request())
    }

    #[test]
    fn the_first_argument_is_the_group_unless_the_server_gives_the_id() {
        for (line, id, users) in [
            ("create crew", "crew", &[][..]),
            ("create crew bob cai", "crew", &["bob", "cai"]),
            ("create --any-id bob cai", "", &["bob", "cai"]),
            ("create --any-id", "", &[]),
        ] {
            let (info, invited, _) = request(line).unwrap();
            assert_eq!((info.group_id.as_str(), invited), (id, users.iter().map(|user| (*user).to_owned()).collect()));
        }
        assert!(request("create").is_err());
        assert!(request("create crew --max-members 0").is_err());
    }

    #[test]
    fn every_option_is_sent() {
        let line = "create crew --name N --avatar a.png --notice hi --attribute a=1 --attribute b=2 --max-members 7 \
                    --join-mode forbid --invite-mode admin --be-invite-mode auth";
        let (info, _, config) = request(line).unwrap();
        assert_eq!((info.group_name.as_str(), info.group_avatar_url.as_str()), ("N", "a.png"));
        let expected = GroupAdvancedConfig {
            group_notice: "hi".into(),
            group_attributes: [("a", "1"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            max_member_count: 7,
            join_mode: GroupJoinMode::Forbid as i32,
            invite_mode: GroupInviteMode::Admin as i32,
            be_invite_mode: GroupBeInviteMode::Auth as i32,
        };
        assert_eq!(config, expected);
    }
}
