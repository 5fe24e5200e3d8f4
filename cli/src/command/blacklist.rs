//! `zim blacklist`: blocks and unblocks users.

use clap::Subcommand;
use zim_client_sdk::Zim;
use zim_protocol::{BlacklistQueryConfig, UserInfo};

use crate::context::Context;
use crate::exit::{Failure, all_done};
use crate::output::{Align, Output, Table};
use crate::text::preview;

/// The limit of users in a request.
const MAX_USERS: usize = 20;
/// The limit of users in a page of the list.
const PAGE: i64 = 100;

/// `zim blacklist`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim blacklist add mallory
  zim blacklist list | jq -r .userID
  zim blacklist check mallory
  zim blacklist remove mallory")]
pub(crate) enum BlacklistCommand {
    /// Block users: they can no longer write to you, and are not notified
    Add {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
    },
    /// Unblock users
    Remove {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
    },
    /// List blocked users, newest first
    List,
    /// Show whether a user is blocked
    Check {
        /// The user
        user: String,
    },
}

pub(crate) async fn run(command: BlacklistCommand, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let (zim, output) = (&session.zim, context.output);
    let outcome = match command {
        BlacklistCommand::Add { users } => add(&users, zim, output).await,
        BlacklistCommand::Remove { users } => remove(&users, zim, output).await,
        BlacklistCommand::List => list(zim, output).await,
        BlacklistCommand::Check { user } => check(&user, zim, output).await,
    };
    session.end().await;
    outcome
}

async fn add(users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let added = zim.add_users_to_blacklist(users).await?;
    if output.is_json() {
        output.json(&added)?;
    } else {
        output.done("Blocked", users, &added.error_user_list)?;
    }
    all_done(&added.error_user_list, "not blocked")
}

async fn remove(users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let removed = zim.remove_users_from_blacklist(users).await?;
    if output.is_json() {
        output.json(&removed)?;
    } else {
        output.done("Unblocked", users, &removed.error_user_list)?;
    }
    all_done(&removed.error_user_list, "not unblocked")
}

async fn list(zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<UserInfo>, i64) = (Vec::new(), 0);
    loop {
        let page = zim.query_blacklist(BlacklistQueryConfig { next_flag, count: PAGE }).await?;
        all.extend(page.blacklist);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    if output.is_json() {
        return all.iter().try_for_each(|user| output.json(user));
    }
    if all.is_empty() {
        return output.line("Nobody is blocked.");
    }
    let mut table = Table::new(&[("USER", Align::Left), ("NAME", Align::Left)]);
    for user in &all {
        table.row([preview(&user.user_id, 32), preview(&user.user_name, 60)]);
    }
    output.table(&table)
}

async fn check(user: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let checked = zim.check_user_is_in_blacklist(user).await?;
    if output.is_json() {
        return output.json(&checked);
    }
    let user = preview(user, 32);
    output.line(if checked.is_user_in_blacklist {
        format!("{user} is blocked.")
    } else {
        format!("{user} is not blocked.")
    })
}
