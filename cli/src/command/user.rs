//! `zim user`: users, and your own name, avatar, data and rules.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use zim_client_sdk::Zim;
use zim_protocol::{
    PlatformType, SelfUserInfo, UserFullInfo, UserInfo, UserOfflinePushRule, UserRule, UsersInfoQueryConfig,
};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Ink, Output, Table};
use crate::text::{preview, printable};

/// The limit of users in a request.
const MAX_USERS: usize = 10;

/// The names of the platforms on the command line.
const PLATFORMS: [(&str, PlatformType); 9] = [
    ("win", PlatformType::Win),
    ("macos", PlatformType::MacOs),
    ("linux", PlatformType::Linux),
    ("android", PlatformType::Android),
    ("iphone", PlatformType::IPhoneOs),
    ("ipad", PlatformType::IPadOs),
    ("ohos", PlatformType::Ohos),
    ("web", PlatformType::Web),
    ("mini-program", PlatformType::MiniProgram),
];

/// `zim user`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim user show bob carol
  zim user self
  zim user name \"Ann B.\"
  zim user avatar https://img.example/ann.png
  zim user data '{\"team\":\"red\"}'
  zim user push-rule --online win,macos,linux --no-push android,iphone")]
pub(crate) enum UserCommand {
    /// Show names, avatars and data of users
    Show {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
    },
    /// Show your own name, avatar, data and rules, and where you are online
    #[command(name = "self")]
    Own,
    /// Change your name
    Name {
        /// The new name
        name: String,
    },
    /// Change the URL of your avatar
    Avatar {
        /// The URL; omit it to remove the avatar
        #[arg(default_value = "")]
        url: String,
    },
    /// Change the app-defined data of your user
    Data {
        /// Any text; omit it to remove the data
        #[arg(default_value = "")]
        text: String,
    },
    /// Show or replace the offline push rule: which devices get no push while others are online
    PushRule(PushRuleArgs),
}

/// `zim user push-rule`
#[derive(Debug, Args)]
pub(crate) struct PushRuleArgs {
    /// While you are online on one of these ...
    #[arg(long, value_name = "PLATFORM,…", value_delimiter = ',', requires = "no_push", value_parser = platforms())]
    online: Vec<PlatformType>,
    /// ... these get no offline push
    #[arg(long, value_name = "PLATFORM,…", value_delimiter = ',', requires = "online", value_parser = platforms())]
    no_push: Vec<PlatformType>,
    /// Remove the rule: every device gets offline push
    #[arg(long, conflicts_with_all = ["online", "no_push"])]
    clear: bool,
}

fn platforms() -> impl TypedValueParser<Value = PlatformType> {
    PossibleValuesParser::new(PLATFORMS.map(|(name, _)| name)).map(|named| {
        let found = PLATFORMS.into_iter().find(|(name, _)| *name == named);
        found.map_or(PlatformType::Unknown, |(_, platform)| platform)
    })
}

pub(crate) async fn run(command: UserCommand, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let (zim, output) = (&session.zim, context.output);
    let outcome = match command {
        UserCommand::Show { users } => show(&users, zim, output).await,
        UserCommand::Own => own(zim, output).await,
        UserCommand::Name { name } => rename(&name, zim, output).await,
        UserCommand::Avatar { url } => avatar(&url, zim, output).await,
        UserCommand::Data { text } => data(&text, zim, output).await,
        UserCommand::PushRule(args) => push_rule(args, zim, output).await,
    };
    session.end().await;
    outcome
}

async fn show(users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let config = UsersInfoQueryConfig { is_query_from_server: true };
    let found = zim.query_users_info(users, config).await?;
    if output.is_json() {
        found.user_list.iter().try_for_each(|user| output.json(user))?;
    } else if !found.user_list.is_empty() {
        output.table(&table(&found.user_list))?;
    }
    let unknown: Vec<_> = found.error_user_list.iter().map(|error| preview(&error.user_id, 32)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("there is no user {}", unknown.join(", "))))
}

fn table(users: &[UserFullInfo]) -> Table {
    let mut table =
        Table::new(&[("USER", Align::Left), ("NAME", Align::Left), ("AVATAR", Align::Left), ("DATA", Align::Left)]);
    for user in users.iter().filter_map(|user| user.base_info.as_ref()) {
        table.row([
            preview(&user.user_id, 32),
            preview(&user.user_name, 40),
            preview(&user.user_avatar_url, 60),
            preview(&user.user_extended_data, 40),
        ]);
    }
    table
}

async fn own(zim: &Zim, output: Output) -> Result<(), Failure> {
    let found = zim.query_self_user_info().await?.self_user_info.unwrap_or_default();
    if output.is_json() {
        return output.json(&found);
    }
    own_lines(found).into_iter().try_for_each(|line| output.line(line))
}

/// Describes the own user, in lines.
fn own_lines(own: SelfUserInfo) -> Vec<String> {
    let UserInfo { user_id, user_name, user_avatar_url, user_extended_data } =
        own.user_full_info.and_then(|info| info.base_info).unwrap_or_default();
    let rule = own.user_rule.and_then(|rule| rule.offline_push_rule).unwrap_or_default();
    let status = own.user_status.unwrap_or_default();
    let rows = [
        ("user", user_id),
        ("name", user_name),
        ("avatar", user_avatar_url),
        ("data", user_extended_data),
        ("online on", names(status.online_platforms())),
        ("push rule", rule_text(&rule)),
    ];
    let line = |(what, value): (&str, String)| match value.as_str() {
        "" => format!("{what:<11}-"),
        value => format!("{what:<11}{}", printable(value)),
    };
    rows.into_iter().map(line).collect()
}

/// Describes a rule; empty without one.
fn rule_text(rule: &UserOfflinePushRule) -> String {
    let silent = names(rule.not_to_receive_offline_push_platforms());
    let online = names(rule.online_platforms());
    if silent.is_empty() || online.is_empty() {
        return String::new();
    }
    format!("no offline push to {silent} while online on {online}")
}

fn names(platforms: impl Iterator<Item = PlatformType>) -> String {
    let names = platforms.map(|platform| {
        let known = PLATFORMS.into_iter().find(|(_, listed)| *listed == platform);
        known.map_or("other", |(name, _)| name)
    });
    names.collect::<Vec<_>>().join(", ")
}

async fn rename(name: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let updated = zim.update_user_name(name).await?;
    if output.is_json() {
        return output.json(&updated);
    }
    report("name", &updated.user_name, output)
}

async fn avatar(url: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let updated = zim.update_user_avatar_url(url).await?;
    if output.is_json() {
        return output.json(&updated);
    }
    report("avatar", &updated.user_avatar_url, output)
}

async fn data(text: &str, zim: &Zim, output: Output) -> Result<(), Failure> {
    let updated = zim.update_user_extended_data(text).await?;
    if output.is_json() {
        return output.json(&updated);
    }
    report("data", &updated.extended_data, output)
}

fn report(what: &str, value: &str, output: Output) -> Result<(), Failure> {
    match value {
        "" => output.line(format!("You have no {what} now.")),
        value => output.line(format!("Your {what} is now {}", output.paint(Ink::Name, &preview(value, 60)))),
    }
}

async fn push_rule(args: PushRuleArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let PushRuleArgs { online, no_push, clear } = args;
    let rule = if clear || !online.is_empty() {
        let as_numbers = |platforms: Vec<PlatformType>| platforms.into_iter().map(|one| one as i32).collect();
        let rule = UserOfflinePushRule {
            online_platforms: as_numbers(online),
            not_to_receive_offline_push_platforms: as_numbers(no_push),
        };
        zim.update_user_offline_push_rule(rule).await?.offline_push_rule
    } else {
        let own = zim.query_self_user_info().await?.self_user_info.unwrap_or_default();
        own.user_rule.and_then(|rule| rule.offline_push_rule)
    };
    let rule = rule.unwrap_or_default();
    if output.is_json() {
        return output.json(&UserRule { offline_push_rule: Some(rule) });
    }
    match rule_text(&rule).as_str() {
        "" => output.line("There is no rule: every device gets offline push."),
        text => output.line(format!("The rule: {text}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_of_a_device_has_a_name() {
        let all = (0..=32).filter_map(|number| PlatformType::try_from(number).ok());
        let unnamed: Vec<_> = all.filter(|one| names([*one].into_iter()) == "other").collect();
        assert_eq!(unnamed, [PlatformType::Unspecified, PlatformType::Unknown]);
    }

    #[test]
    fn the_own_user_is_described_in_lines() {
        let own = SelfUserInfo {
            user_full_info: Some(UserFullInfo {
                base_info: Some(UserInfo { user_id: "ann".into(), user_name: "An\nn".into(), ..UserInfo::default() }),
                ..UserFullInfo::default()
            }),
            ..SelfUserInfo::default()
        };
        let lines =
            ["user       ann", "name       An n", "avatar     -", "data       -", "online on  -", "push rule  -"];
        assert_eq!(own_lines(own), lines);
    }

    #[test]
    fn a_rule_is_described() {
        let rule = UserOfflinePushRule {
            online_platforms: vec![PlatformType::Win as i32, PlatformType::MacOs as i32],
            not_to_receive_offline_push_platforms: vec![PlatformType::Android as i32],
        };
        assert_eq!(rule_text(&rule), "no offline push to android while online on win, macos");
        assert_eq!(rule_text(&UserOfflinePushRule::default()), "");
    }
}
