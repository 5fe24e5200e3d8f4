//! `zim group set`, `alias`, `attributes`: what a group is.

use clap::{Args, Subcommand};
use zim_client_sdk::Zim;

use super::create::{BeInviteMode, InviteMode, JoinMode};
use crate::attribute::{attribute, attributes_text};
use crate::exit::Failure;
use crate::output::{Ink, Output};
use crate::text::preview;

/// Changes of what a group is.
#[derive(Debug, Subcommand)]
pub(crate) enum ChangeCommand {
    /// Change what a group is: its name, avatar, notice; for the owner and administrators, who enters
    Set(SetArgs),
    /// Change the name that only you see for a group
    #[command(after_help = "\
Examples:
  zim group alias crew2 pals
  zim group alias crew2")]
    Alias {
        /// The group
        group: String,
        /// The alias; omit it to remove the alias
        #[arg(default_value = "")]
        alias: String,
    },
    /// Show, set and delete attributes of a group
    #[command(after_help = "\
Examples:
  zim group attributes crew2 city=Bern day=Monday
  zim group attributes crew2
  zim group attributes crew2 --only city
  zim group attributes crew2 --delete day")]
    Attributes {
        /// The group
        group: String,
        /// Attributes to set
        #[arg(value_name = "KEY=VALUE", num_args = 0..=10, value_parser = attribute)]
        attributes: Vec<(String, String)>,
        /// Attribute to delete; may be repeated
        #[arg(long = "delete", value_name = "KEY")]
        delete: Vec<String>,
        /// Show only this attribute; may be repeated
        #[arg(long = "only", value_name = "KEY")]
        only: Vec<String>,
    },
}

/// `zim group set`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim group set crew2 --notice \"We meet on Monday\" --avatar https://img.example/crew.png
  zim group set crew2 --join-mode auth --invite-mode admin --be-invite-mode auth")]
#[group(required = true, multiple = true)]
pub(crate) struct SetArgs {
    /// The group
    #[arg(required = true)]
    group: String,
    /// Name of the group
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Address of an image
    #[arg(long, value_name = "URL")]
    avatar: Option<String>,
    /// Notice that members see, up to 300 bytes
    #[arg(long, value_name = "TEXT")]
    notice: Option<String>,
    /// Who joins: any (everybody), auth (by application) or forbid (nobody)
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    join_mode: Option<JoinMode>,
    /// Who invites: any (every member) or admin (owner and administrators)
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    invite_mode: Option<InviteMode>,
    /// Whether invited users must agree: none or auth
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    be_invite_mode: Option<BeInviteMode>,
}

pub(super) async fn run(command: ChangeCommand, zim: &Zim, output: Output) -> Result<(), Failure> {
    match command {
        ChangeCommand::Set(args) => set(args, zim, output).await,
        ChangeCommand::Alias { group, alias } => {
            let result = zim.update_group_alias(&alias, &group).await?;
            if output.is_json() {
                return output.json(&result);
            }
            let group = output.paint(Ink::Name, &preview(&group, 32));
            output.line(match alias.is_empty() {
                true => format!("The group {group} has no alias now."),
                false => format!("You call the group {group} {} now.", preview(&alias, 100)),
            })
        }
        ChangeCommand::Attributes { group, attributes, delete, only } => {
            if !attributes.is_empty() {
                zim.set_group_attributes(attributes.into_iter().collect(), &group).await?;
            }
            if !delete.is_empty() {
                zim.delete_group_attributes(delete, &group).await?;
            }
            let found = match only.is_empty() {
                true => zim.query_group_all_attributes(&group).await?,
                false => zim.query_group_attributes(&only, &group).await?,
            };
            if output.is_json() {
                return output.json(&found);
            }
            output.line(match found.group_attributes.is_empty() {
                true if only.is_empty() => "The group has no attributes.".to_owned(),
                true => "The group has none of these attributes.".to_owned(),
                false => attributes_text(&found.group_attributes),
            })
        }
    }
}

/// Makes the changes one after the other, up to the first that fails.
async fn set(args: SetArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let group = args.group;
    if let Some(name) = args.name {
        zim.update_group_name(&name, &group).await?;
    }
    if let Some(url) = args.avatar {
        zim.update_group_avatar_url(&url, &group).await?;
    }
    if let Some(notice) = args.notice {
        zim.update_group_notice(&notice, &group).await?;
    }
    if let Some(mode) = args.join_mode {
        zim.update_group_join_mode(mode.into(), &group).await?;
    }
    if let Some(mode) = args.invite_mode {
        zim.update_group_invite_mode(mode.into(), &group).await?;
    }
    if let Some(mode) = args.be_invite_mode {
        zim.update_group_be_invite_mode(mode.into(), &group).await?;
    }
    if output.is_json() {
        return output.json(&zim.query_group_info(&group).await?);
    }
    output.line(format!("The group {} is changed.", output.paint(Ink::Name, &preview(&group, 32))))
}
