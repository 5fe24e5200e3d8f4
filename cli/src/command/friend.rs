//! `zim friend …`

mod about;

use clap::{Args, Subcommand};
use zim_client_sdk::Zim;
use zim_protocol::{
    FriendAddConfig, FriendApplicationAcceptConfig, FriendApplicationInfo, FriendApplicationListQueryConfig,
    FriendApplicationRejectConfig, FriendApplicationSendConfig, FriendApplicationState, FriendApplicationType,
    FriendDeleteConfig, FriendDeleteType, FriendInfo, FriendListQueryConfig, FriendRelationCheckConfig,
    FriendRelationCheckType, FriendSearchConfig, UserRelationType,
};

use crate::context::{Context, now_ms};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Ink, Output, Table, when};
use crate::text::preview;

/// What one call takes.
const MOST: usize = 20;
/// What one page of a list holds at most.
const PAGE: i64 = 100;
/// What one page of a search holds at most.
const FOUND: i64 = 30;

/// `zim friend`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim friend apply bob --wording \"it's Ann\"
  zim --profile bob friend accept ann
  zim friend list | jq -r .userID")]
pub(crate) enum FriendCommand {
    /// Become friends with a user at once, without asking
    Add(SayArgs),
    /// Ask a user to become a friend
    Apply(SayArgs),
    /// Say yes to a user who asked
    Accept {
        /// The user
        user: String,
        /// What you call this friend
        #[arg(long, value_name = "NAME", default_value = "")]
        alias: String,
    },
    /// Say no to a user who asked
    Reject {
        /// The user
        user: String,
    },
    /// End friendships, for both sides
    Delete {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MOST)]
        users: Vec<String>,
        /// Only on your own list: you stay on theirs
        #[arg(long)]
        single: bool,
    },
    /// List friends, the newest first
    List(ListArgs),
    /// Find friends by their names and aliases
    Search {
        /// What must be there, in any case
        #[arg(value_name = "KEYWORD", required = true, num_args = 1..=5)]
        keywords: Vec<String>,
    },
    /// List applications, what moved last first
    Applications(ListArgs),
    /// Change what you call a friend
    Alias {
        /// The user
        user: String,
        /// The name; none removes it
        #[arg(default_value = "")]
        alias: String,
    },
    /// Set attributes of a friend, for yourself
    Attributes {
        /// The user
        user: String,
        /// k0 to k4, each with a value; none removes it
        #[arg(value_name = "KEY=VALUE", required = true, num_args = 1..=5, value_parser = about::attribute)]
        attributes: Vec<(String, String)>,
    },
    /// What you know of friends
    Show {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MOST)]
        users: Vec<String>,
    },
    /// Who is on whose list
    Check {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MOST)]
        users: Vec<String>,
        /// Look only at your own list
        #[arg(long)]
        single: bool,
    },
}

/// `zim friend add`, `zim friend apply`
#[derive(Debug, Args)]
pub(crate) struct SayArgs {
    /// The user
    user: String,
    /// What you tell the user
    #[arg(long, value_name = "TEXT", default_value = "")]
    wording: String,
    /// What you call this friend
    #[arg(long, value_name = "NAME", default_value = "")]
    alias: String,
}

/// `zim friend list`, `zim friend applications`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    count: i64,
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

async fn add(args: SayArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let config = FriendAddConfig { friend_alias: args.alias, wording: args.wording, ..FriendAddConfig::default() };
    let added = zim.add_friend(&args.user, config).await?;
    if output.is_json() {
        return output.json(&added);
    }
    befriended(&added.friend_info.unwrap_or_default(), output)
}

async fn apply(args: SayArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
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
        FriendApplicationState::Accepted => format!("You were on the list of {name} already: you are friends."),
        _ => format!("{name} is asked."),
    })
}

async fn accept(user: &str, alias: String, zim: &Zim, output: Output) -> Result<(), Failure> {
    let config = FriendApplicationAcceptConfig { friend_alias: alias, ..FriendApplicationAcceptConfig::default() };
    let accepted = zim.accept_friend_application(user, config).await?;
    if output.is_json() {
        return output.json(&accepted);
    }
    befriended(&accepted.friend_info.unwrap_or_default(), output)
}

fn befriended(info: &FriendInfo, output: Output) -> Result<(), Failure> {
    output.line(format!("{} is your friend now.", output.paint(Ink::Name, &name(info))))
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
        return output.json(&deleted);
    }
    let left: Vec<String> = deleted.error_user_list.iter().map(|error| preview(&error.user_id, 32)).collect();
    if left.is_empty() { Ok(()) } else { Err(no_friends(&left)) }
}

fn no_friends(users: &[String]) -> Failure {
    Failure::new(Exit::Refused, format!("not on your list: {}", users.join(", ")))
}

async fn list(args: &ListArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<FriendInfo>, i64) = (Vec::new(), 0);
    while let Some(count) = rest(args.count, all.len()) {
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
        return output.line("There are no friends yet: zim friend apply USER asks somebody.");
    }
    output.table(&friends(&all, now_ms()))
}

async fn search(keywords: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<FriendInfo>, i64) = (Vec::new(), 0);
    loop {
        let keywords = keywords.to_vec();
        let config = FriendSearchConfig { next_flag, count: FOUND, keywords, is_also_match_friend_alias: true };
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
        return output.line("No friend is called that.");
    }
    output.table(&friends(&all, now_ms()))
}

fn friends(list: &[FriendInfo], now_ms: i64) -> Table {
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
    while let Some(count) = rest(args.count, all.len()) {
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
        return output.line("Nobody has asked yet.");
    }
    output.table(&asked(&all, now_ms()))
}

/// How much of what was asked for is still to be fetched.
fn rest(wanted: i64, have: usize) -> Option<i64> {
    let rest = wanted.saturating_sub(i64::try_from(have).unwrap_or(i64::MAX));
    (rest > 0).then(|| rest.min(PAGE))
}

fn asked(list: &[FriendApplicationInfo], now_ms: i64) -> Table {
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
            who_asked(application.r#type()).to_owned(),
            format!("{:?}", application.state()).to_lowercase(),
            when(application.update_time, now_ms),
            preview(&application.wording, 60),
        ]);
    }
    table
}

fn who_asked(kind: FriendApplicationType) -> &'static str {
    match kind {
        FriendApplicationType::Received => "asks you",
        FriendApplicationType::Sent => "is asked by you",
        FriendApplicationType::Both => "and you ask each other",
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
        "" => format!("{user} has no alias any more."),
        alias => format!("You call {user} {} now.", output.paint(Ink::Name, &preview(alias, 60))),
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
        UserRelationType::BothSelfHave => "is on your list, and you are not on theirs",
        UserRelationType::BothOtherHave => "is not on your list, but you are on theirs",
        UserRelationType::BothAllHave => "you are friends",
    }
}

/// The name that a friend is shown under.
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
        assert_eq!(rest(250, 0), Some(100));
        assert_eq!(rest(250, 200), Some(50));
        assert_eq!(rest(250, 250), None);
    }

    #[test]
    fn friends_and_applications_stand_in_columns() {
        let bob = FriendInfo {
            user_id: "bob".into(),
            friend_alias: "Bobby".into(),
            user_name: "Robert".into(),
            ..FriendInfo::default()
        };
        assert_eq!(name(&bob), "bob (Bobby)");
        assert_eq!(friends(&[bob], 0).render(), ["FRIEND  ALIAS  NAME    SINCE", "bob     Bobby  Robert"]);
        let application = FriendApplicationInfo {
            r#type: FriendApplicationType::Received as i32,
            state: FriendApplicationState::Waiting as i32,
            apply_user: Some(UserInfo { user_id: "bob".into(), ..UserInfo::default() }),
            wording: "it's\nme".into(),
            ..FriendApplicationInfo::default()
        };
        let rows = asked(&[application], 0).render();
        assert_eq!(rows[1].split_whitespace().collect::<Vec<_>>(), ["bob", "asks", "you", "waiting", "it's", "me"]);
    }
}
