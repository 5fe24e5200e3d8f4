//! `zim friend`: friends and friend applications.

mod about;

use clap::{Args, Subcommand};
use zim_client_sdk::Zim;
use zim_protocol::{
    FriendAddConfig, FriendApplicationAcceptConfig, FriendApplicationInfo, FriendApplicationListQueryConfig,
    FriendApplicationRejectConfig, FriendApplicationSendConfig, FriendApplicationState, FriendApplicationType,
    FriendDeleteConfig, FriendDeleteType, FriendInfo, FriendListQueryConfig, FriendRelationCheckConfig,
    FriendRelationCheckType, FriendSearchConfig, UserRelationType,
};

use crate::attribute::attribute;
use crate::context::{Context, now_ms};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Ink, Output, Table, when};
use crate::text::preview;

/// The limit of users in a request.
const MAX_USERS: usize = 20;
/// The limit of entries in a page of a list.
const PAGE: i64 = 100;
/// The limit of entries in a page of a search.
const SEARCH_PAGE: i64 = 30;

/// `zim friend`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim friend apply bob --wording \"it's Ann\"
  zim --profile bob friend accept ann
  zim friend list | jq -r .userID
  zim friend applications
  zim friend alias bob Bobby
  zim friend attributes bob k0=work
  zim friend check bob
  zim friend show bob
  zim friend search bob
  zim friend add carol
  zim friend delete carol
  zim friend apply mallory
  zim --profile mallory friend reject ann")]
pub(crate) enum FriendCommand {
    /// Become friends with a user at once, without an application
    Add(RequestArgs),
    /// Send a friend application to a user
    Apply(RequestArgs),
    /// Accept the application of a user
    Accept {
        /// The user
        user: String,
        /// Alias for this friend
        #[arg(long, value_name = "NAME", default_value = "")]
        alias: String,
    },
    /// Reject the application of a user
    Reject {
        /// The user
        user: String,
    },
    /// End friendships, for both sides
    Delete {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
        /// Only on your list: you stay on theirs
        #[arg(long)]
        single: bool,
    },
    /// List friends, newest first
    List(ListArgs),
    /// Search friends by name and alias
    Search {
        /// Text that must occur, ignoring case
        #[arg(value_name = "KEYWORD", required = true, num_args = 1..=5)]
        keywords: Vec<String>,
    },
    /// List friend applications, last updated first
    Applications(ListArgs),
    /// Change the alias of a friend
    Alias {
        /// The user
        user: String,
        /// The alias; omit it to remove the alias
        #[arg(default_value = "")]
        alias: String,
    },
    /// Set attributes of a friend that only you see
    Attributes {
        /// The user
        user: String,
        /// k0 to k4, each with a value; an empty value removes the attribute
        #[arg(value_name = "KEY=VALUE", required = true, num_args = 1..=5, value_parser = attribute)]
        attributes: Vec<(String, String)>,
    },
    /// Show friends with alias, name, attributes and wording
    Show {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
    },
    /// Show whether users are on your list and you on theirs
    Check {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
        /// Check only your list
        #[arg(long)]
        single: bool,
    },
}

/// `zim friend add`, `zim friend apply`
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// The user
    user: String,
    /// A message to the user
    #[arg(long, value_name = "TEXT", default_value = "")]
    wording: String,
    /// Alias for this friend
    #[arg(long, value_name = "NAME", default_value = "")]
    alias: String,
}

/// `zim friend list`, `zim friend applications`, `zim group members`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Maximum number to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    pub(super) count: i64,
}

pub(crate) async fn run(command: FriendCommand, context: &Context) -> Result<(), Failure> {
    let session = match command {
        FriendCommand::Search { .. } => context.one_shot_synced().await?,
        _ => context.one_shot().await?,
    };
    let (zim, output) = (&session.zim, context.output);
    let outcome = match command {
        FriendCommand::Add(args) => add(args, zim, output).await,
        FriendCommand::Apply(args) => apply(args, zim, output).await,
        FriendCommand::Accept { user, alias } => accept(&user, alias, zim, output).await,
        FriendCommand::Reject { user } => reject(&user, zim, output).await,
        FriendCommand::Delete { users, single } => delete(&users, single, zim, output).await,
        FriendCommand::List(args) => list(&args, zim, output).await,
        FriendCommand::Search { keywords } => search(&keywords, zim, output).await,
        FriendCommand::Applications(args) => applications(&args, zim, output).await,
        FriendCommand::Alias { user, alias } => rename(&user, &alias, zim, output).await,
        FriendCommand::Attributes { user, attributes } => about::update(&user, attributes, zim, output).await,
        FriendCommand::Show { users } => about::show(&users, zim, output).await,
        FriendCommand::Check { users, single } => check(&users, single, zim, output).await,
    };
    session.end().await;
    outcome
}

async fn add(args: RequestArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let config = FriendAddConfig { friend_alias: args.alias, wording: args.wording, ..FriendAddConfig::default() };
    let added = zim.add_friend(&args.user, config).await?;
    if output.is_json() {
        return output.json(&added);
    }
    show_new_friend(&added.friend_info.unwrap_or_default(), output)
}

async fn apply(args: RequestArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let config = FriendApplicationSendConfig {
        friend_alias: args.alias,
        wording: args.wording,
        ..FriendApplicationSendConfig::default()
    };
    let sent = zim.send_friend_application(&args.user, config).await?;
    if output.is_json() {
        return output.json(&sent);
    }
    let name = output.paint(Ink::Name, &preview(&args.user, 32));
    let info = sent.application_info.unwrap_or_default();
    output.line(match info.state() {
        FriendApplicationState::Accepted => format!("You were already on the list of {name}: you are friends now."),
        _ => format!("The application to {name} is sent."),
    })
}

async fn accept(user: &str, alias: String, zim: &Zim, output: Output) -> Result<(), Failure> {
    let config = FriendApplicationAcceptConfig { friend_alias: alias, ..FriendApplicationAcceptConfig::default() };
    let accepted = zim.accept_friend_application(user, config).await?;
    if output.is_json() {
        return output.json(&accepted);
    }
    show_new_friend(&accepted.friend_info.unwrap_or_default(), output)
}

fn show_new_friend(info: &FriendInfo, output: Output) -> Result<(), Failure> {
    output.line(format!("{} is now your friend.", output.paint(Ink::Name, &name(info))))
}

async fn reject(user: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let rejected = zim.reject_friend_application(user, FriendApplicationRejectConfig::default()).await?;
    if output.is_json() {
        return output.json(&rejected);
    }
    output.line(format!("The application of {} is rejected.", output.paint(Ink::Name, &preview(user, 32))))
}

async fn delete(users: &[String], single: bool, zim: &Zim, output: Output) -> Result<(), Failure> {
    let kind = if single { FriendDeleteType::Single } else { FriendDeleteType::Both };
    let deleted = zim.delete_friends(users, FriendDeleteConfig { r#type: kind as i32 }).await?;
    if output.is_json() {
        output.json(&deleted)?;
    } else {
        output.done("Deleted", users, &deleted.error_user_list)?;
    }
    let failed: Vec<String> = deleted.error_user_list.iter().map(|error| preview(&error.user_id, 32)).collect();
    if failed.is_empty() { Ok(()) } else { Err(not_listed(&failed)) }
}

fn not_listed(users: &[String]) -> Failure {
    Failure::new(Exit::Refused, format!("not on your list: {}", users.join(", ")))
}

async fn list(args: &ListArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<FriendInfo>, i64) = (Vec::new(), 0);
    while let Some(count) = next_count(args.count, all.len()) {
        let page = zim.query_friend_list(FriendListQueryConfig { next_flag, count }).await?;
        all.extend(page.friend_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    if output.is_json() {
        return all.iter().try_for_each(|friend| output.json(friend));
    }
    if all.is_empty() {
        return output.line("You have no friends yet: apply to a user with zim friend apply USER.");
    }
    output.table(&friend_table(&all, now_ms()))
}

async fn search(keywords: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<FriendInfo>, i64) = (Vec::new(), 0);
    loop {
        let keywords = keywords.to_vec();
        let config = FriendSearchConfig { next_flag, count: SEARCH_PAGE, keywords, is_also_match_friend_alias: true };
        let page = zim.search_local_friends(config).await?;
        all.extend(page.friend_info_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    if output.is_json() {
        return all.iter().try_for_each(|friend| output.json(friend));
    }
    if all.is_empty() {
        return output.line("No friends match.");
    }
    output.table(&friend_table(&all, now_ms()))
}

fn friend_table(list: &[FriendInfo], now_ms: i64) -> Table {
    let mut table =
        Table::new(&[("FRIEND", Align::Left), ("ALIAS", Align::Left), ("NAME", Align::Left), ("SINCE", Align::Left)]);
    for friend in list {
        table.row([
            preview(&friend.user_id, 32),
            preview(&friend.friend_alias, 40),
            preview(&friend.user_name, 40),
            when(friend.create_time, now_ms),
        ]);
    }
    table
}

async fn applications(args: &ListArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<FriendApplicationInfo>, i64) = (Vec::new(), 0);
    while let Some(count) = next_count(args.count, all.len()) {
        let page = zim.query_friend_application_list(FriendApplicationListQueryConfig { next_flag, count }).await?;
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
        return output.line("There are no friend applications.");
    }
    output.table(&application_table(&all, now_ms()))
}

/// Returns the size of the next page, or `None` if enough entries are fetched.
pub(super) fn next_count(wanted: i64, have: usize) -> Option<i64> {
    let rest = wanted.saturating_sub(i64::try_from(have).unwrap_or(i64::MAX));
    (rest > 0).then(|| rest.min(PAGE))
}

fn application_table(list: &[FriendApplicationInfo], now_ms: i64) -> Table {
    let mut table = Table::new(&[
        ("USER", Align::Left),
        ("", Align::Left),
        ("STATE", Align::Left),
        ("WHEN", Align::Left),
        ("WORDING", Align::Left),
    ]);
    for application in list {
        let user = application.apply_user.as_ref().map_or("", |user| user.user_id.as_str());
        table.row([
            preview(user, 32),
            application_direction(application.r#type()).to_owned(),
            format!("{:?}", application.state()).to_lowercase(),
            when(application.update_time, now_ms),
            preview(&application.wording, 60),
        ]);
    }
    table
}

fn application_direction(kind: FriendApplicationType) -> &'static str {
    match kind {
        FriendApplicationType::Received => "applied to you",
        FriendApplicationType::Sent => "you applied",
        FriendApplicationType::Both => "you both applied",
        FriendApplicationType::None | FriendApplicationType::Unknown => "",
    }
}

async fn rename(user: &str, alias: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let updated = zim.update_friend_alias(alias, user).await?;
    if output.is_json() {
        return output.json(&updated);
    }
    let info = updated.friend_info.unwrap_or_default();
    let user = output.paint(Ink::Name, &preview(&info.user_id, 32));
    output.line(match info.friend_alias.as_str() {
        "" => format!("{user} has no alias now."),
        alias => format!("The alias of {user} is now {}.", output.paint(Ink::Name, &preview(alias, 60))),
    })
}

async fn check(users: &[String], single: bool, zim: &Zim, output: Output) -> Result<(), Failure> {
    let check = if single { FriendRelationCheckType::Single } else { FriendRelationCheckType::Both };
    let checked = zim.check_friends_relation(users, FriendRelationCheckConfig { r#type: check as i32 }).await?;
    if output.is_json() {
        checked.relation_infos.iter().try_for_each(|info| output.json(info))?;
    } else {
        let mut table = Table::new(&[("USER", Align::Left), ("", Align::Left)]);
        for info in &checked.relation_infos {
            table.row([preview(&info.user_id, 32), relation(info.r#type()).to_owned()]);
        }
        output.table(&table)?;
    }
    let unknown: Vec<String> = checked.error_user_list.iter().map(|error| preview(&error.user_id, 32)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("there is no user {}", unknown.join(", "))))
}

fn relation(relation: UserRelationType) -> &'static str {
    match relation {
        UserRelationType::Unknown => "unknown",
        UserRelationType::SingleNo => "is not on your list",
        UserRelationType::SingleHave => "is on your list",
        UserRelationType::BothAllNo => "neither is on the other's list",
        UserRelationType::BothSelfHave => "is on your list, but you are not on theirs",
        UserRelationType::BothOtherHave => "is not on your list, but you are on theirs",
        UserRelationType::BothAllHave => "you are friends",
    }
}

/// Returns the user ID of a friend with the alias or name.
fn name(info: &FriendInfo) -> String {
    let named = [&info.friend_alias, &info.user_name];
    match named.into_iter().find(|name| !name.is_empty() && **name != info.user_id) {
        Some(name) => preview(&format!("{} ({name})", info.user_id), 40),
        None => preview(&info.user_id, 40),
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::UserInfo;

    use super::*;

    #[test]
    fn a_list_is_fetched_in_pages() {
        assert_eq!(next_count(250, 0), Some(100));
        assert_eq!(next_count(250, 200), Some(50));
        assert_eq!(next_count(250, 250), None);
    }

    #[test]
    fn friends_and_applications_are_shown_as_tables() {
        let bob = FriendInfo {
            user_id: "bob".into(),
            friend_alias: "Bobby".into(),
            user_name: "Robert".into(),
            ..FriendInfo::default()
        };
        assert_eq!(name(&bob), "bob (Bobby)");
        assert_eq!(friend_table(&[bob], 0).render(), ["FRIEND  ALIAS  NAME    SINCE", "bob     Bobby  Robert"]);
        let application = FriendApplicationInfo {
            r#type: FriendApplicationType::Received as i32,
            state: FriendApplicationState::Waiting as i32,
            apply_user: Some(UserInfo { user_id: "bob".into(), ..UserInfo::default() }),
            wording: "it's\nme".into(),
            ..FriendApplicationInfo::default()
        };
        let rows = application_table(&[application], 0).render();
        assert_eq!(
            rows[1].split_whitespace().collect::<Vec<_>>(),
            ["bob", "applied", "to", "you", "waiting", "it's", "me"]
        );
    }
}
