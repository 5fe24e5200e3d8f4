//! `zim group apply`, `accept`, `agree` and the like: applications to groups.

use clap::Subcommand;
use zim_client_sdk::Zim;
use zim_protocol::{
    GroupApplicationInfo, GroupApplicationListQueryConfig, GroupInviteApplicationAcceptConfig,
    GroupInviteApplicationRejectConfig, GroupJoinApplicationAcceptConfig, GroupJoinApplicationRejectConfig,
    GroupJoinApplicationSendConfig,
};

use crate::command::friend::{ListArgs, next_count};
use crate::context::now_ms;
use crate::describe::group::application;
use crate::exit::Failure;
use crate::output::{Align, Ink, Output, Table, when};
use crate::text::preview;

/// Applications to groups.
#[derive(Debug, Subcommand)]
pub(crate) enum ApplicationCommand {
    /// Apply to join a group
    Apply {
        /// The group
        group: String,
        /// A message to those who decide
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        wording: String,
    },
    /// Let an applicant into a group, for the owner and administrators
    Accept {
        /// The group
        group: String,
        /// The applicant
        user: String,
    },
    /// Reject an applicant, for the owner and administrators
    #[command(after_help = "\
Examples:
  zim group reject crew2 bob")]
    Reject {
        /// The group
        group: String,
        /// The applicant
        user: String,
    },
    /// Enter a group that a member has asked you to enter
    #[command(after_help = "\
Examples:
  zim --profile mallory group agree crew2 ann")]
    Agree {
        /// The group
        group: String,
        /// The member who asked you
        inviter: String,
    },
    /// Tell a member that you do not want to enter a group
    #[command(after_help = "\
Examples:
  zim --profile mallory group decline crew2 ann")]
    Decline {
        /// The group
        group: String,
        /// The member who asked you
        inviter: String,
    },
    /// List applications to join groups and invitations, last updated first
    Applications(ListArgs),
}

pub(super) async fn run(command: ApplicationCommand, zim: &Zim, output: Output) -> Result<(), Failure> {
    let name = |text: &str| output.paint(Ink::Name, &preview(text, 32));
    match command {
        ApplicationCommand::Apply { group, wording } => {
            let config = GroupJoinApplicationSendConfig { wording, ..Default::default() };
            let sent = zim.send_group_join_application(&group, config).await?;
            if output.is_json() {
                return output.json(&sent);
            }
            output.line(format!("You applied to join the group {}; you are in it if it is open.", name(&group)))
        }
        ApplicationCommand::Accept { group, user } => {
            let config = GroupJoinApplicationAcceptConfig::default();
            let accepted = zim.accept_group_join_application(&user, &group, config).await?;
            if output.is_json() {
                return output.json(&accepted);
            }
            output.line(format!("{} is in the group now.", name(&user)))
        }
        ApplicationCommand::Reject { group, user } => {
            let config = GroupJoinApplicationRejectConfig::default();
            let rejected = zim.reject_group_join_application(&user, &group, config).await?;
            if output.is_json() {
                return output.json(&rejected);
            }
            output.line(format!("The application of {} is rejected.", name(&user)))
        }
        ApplicationCommand::Agree { group, inviter } => {
            let config = GroupInviteApplicationAcceptConfig::default();
            let accepted = zim.accept_group_invite_application(&inviter, &group, config).await?;
            if output.is_json() {
                return output.json(&accepted);
            }
            output.line(format!("You are in the group {} now.", name(&group)))
        }
        ApplicationCommand::Decline { group, inviter } => {
            let config = GroupInviteApplicationRejectConfig::default();
            let rejected = zim.reject_group_invite_application(&inviter, &group, config).await?;
            if output.is_json() {
                return output.json(&rejected);
            }
            output.line(format!("The invitation of {} is rejected.", name(&inviter)))
        }
        ApplicationCommand::Applications(args) => list(&args, zim, output).await,
    }
}

async fn list(args: &ListArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<GroupApplicationInfo>, i64) = (Vec::new(), 0);
    while let Some(count) = next_count(args.count, all.len()) {
        let page = zim.query_group_application_list(GroupApplicationListQueryConfig { next_flag, count }).await?;
        all.extend(page.application_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    if output.is_json() {
        return all.iter().try_for_each(|application| output.json(application));
    }
    if all.is_empty() {
        return output.line("There are no applications.");
    }
    output.table(&table(&all, now_ms()))
}

fn table(list: &[GroupApplicationInfo], now_ms: i64) -> Table {
    let mut table = Table::new(&["UPDATED", "APPLICATION"].map(|name| (name, Align::Left)));
    for info in list {
        table.row([when(info.update_time, now_ms), application(info)]);
    }
    table
}
