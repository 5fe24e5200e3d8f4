//! `zim admin user`: lists, registers and bans users, and revokes their tokens.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use zim_protocol::{
    BanUserRequest, EraseUserRequest, GetUserRequest, ListBannedUsersRequest, ListUsersRequest, RegisterUserRequest,
    RevokeTokensRequest, UnbanUserRequest, UserAccess, UserRow,
};

use super::{Operator, export, refused};
use crate::context::{Context, now_ms};
use crate::duration;
use crate::exit::Failure;
use crate::output::{Align, Table, when};
use crate::text::preview;

/// The user of a command.
#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    /// The user
    user: String,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// `zim admin user`
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Register a user, for apps that do not register users at their first login
    Register {
        #[command(flatten)]
        target: UserArgs,
        /// The name that other users see
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
    },
    /// List the users of the app, in the order of their IDs
    List {
        /// Only those whose IDs begin with this
        #[arg(value_name = "BEGINNING", default_value = "", hide_default_value = true)]
        prefix: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Show whether a user is registered or banned, and which tokens are revoked
    Show {
        #[command(flatten)]
        target: UserArgs,
    },
    /// Refuse the logins of a user, and end their sessions
    Ban {
        #[command(flatten)]
        target: UserArgs,
        /// How long, as in 90s, 15m, 12h, 7d [default: until it is lifted]
        #[arg(long = "for", value_name = "TIME", value_parser = ban)]
        time: Option<Duration>,
    },
    /// Write what the server has of a user as JSON: profile, lists, messages, files
    #[command(after_help = "\
The messages are those that the user can see, with the URLs of their files; the files themselves are not included. The export \
leaves a row in the audit log.

Example:
  zim admin user export ann --output ann.json")]
    Export {
        #[command(flatten)]
        target: UserArgs,
        /// A new file that nobody else can read [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Erase a user: profile, lists, files, and the content of their messages
    #[command(after_help = "\
The sessions of the user end for ever, and the ID is not used again. Their messages stay in their places without content, as if they \
had been revoked. The work goes on after the command: zim admin outbox list --all shows it as erasure. Copies of \
the database from before still have everything. Export the user first if somebody may ask for it: nothing can be restored.

Example:
  zim admin user erase ann --confirm ann")]
    Erase {
        #[command(flatten)]
        target: UserArgs,
        /// The user again: what is erased cannot be restored
        #[arg(long, value_name = "USER")]
        confirm: Option<String>,
    },
    /// Lift a ban
    Unban {
        #[command(flatten)]
        target: UserArgs,
    },
    /// List the users who are banned
    Banned {
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Refuse the existing tokens of a user, and end the sessions that they opened
    #[command(after_help = "\
Tokens that the app's back end makes later are accepted. The app sign is not a token: while it is accepted, anyone who has it \
can log in as any user (zim admin app set --app-sign off).

Examples:
  zim admin user revoke ann               after the loss of a phone
  zim admin user revoke ann --older 2h    only tokens that are older than two hours")]
    Revoke {
        #[command(flatten)]
        target: UserArgs,
        /// Only tokens older than this, as in 90s, 15m, 12h, 7d
        #[arg(long, value_name = "TIME", default_value = "0s", hide_default_value = true, value_parser = duration::parse)]
        older: Duration,
    },
}

/// Parses the time of a ban, which must not be 0.
fn ban(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        time if (1..=3_155_760_000).contains(&time.as_secs()) => Ok(time),
        _ => {
            Err("a ban is at least 1 second and at most 100 years; without --for it lasts until it is lifted"
                .to_owned())
        }
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn sessions(count: u32) -> String {
    match count {
        0 => "No sessions were connected".to_owned(),
        1 => "1 session has ended".to_owned(),
        many => format!("{many} sessions have ended"),
    }
}

pub(super) async fn run(command: UserCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    match command {
        UserCommand::Register { target, name } => {
            let (app_id, user) = (operator.app(target.app_id).await?, preview(&target.user, 32));
            let request = RegisterUserRequest { app_id, user_id: target.user, user_name: name };
            let done = operator.client.register_user(request).await.map_err(|status| refused(&status))?.into_inner();
            if output.is_json() {
                return output.json(&done);
            }
            output.line(if done.is_new {
                format!("{user} is registered.")
            } else {
                format!("{user} was already registered; nothing has changed.")
            })
        }
        UserCommand::List { prefix, app_id } => list((operator.app(app_id).await?, prefix), operator, context).await,
        UserCommand::Show { target } => {
            let request = GetUserRequest { app_id: operator.app(target.app_id).await?, user_id: target.user };
            let user = operator.client.get_user(request).await.map_err(|status| refused(&status))?.into_inner();
            if output.is_json() { output.json(&user) } else { show(context, &user) }
        }
        UserCommand::Ban { target, time } => {
            let (app_id, user) = (operator.app(target.app_id).await?, preview(&target.user, 32));
            let request = BanUserRequest { app_id, user_id: target.user, seconds: time.map_or(0, seconds) };
            let done = operator.client.ban_user(request).await.map_err(|status| refused(&status))?.into_inner();
            if output.is_json() {
                return output.json(&done);
            }
            let until = match done.ban_ends_at {
                0 => "until the ban is lifted".to_owned(),
                at => format!("until {}", when(at, now_ms())),
            };
            output.line(format!("{user} is banned {until}. {}.", sessions(done.sessions)))
        }
        UserCommand::Unban { target } => {
            let (app_id, user) = (operator.app(target.app_id).await?, preview(&target.user, 32));
            let request = UnbanUserRequest { app_id, user_id: target.user };
            let done = operator.client.unban_user(request).await.map_err(|status| refused(&status))?.into_inner();
            if output.is_json() {
                return output.json(&done);
            }
            output.line(if done.was_banned {
                format!("{user} may log in again.")
            } else {
                format!("{user} was not banned.")
            })
        }
        UserCommand::Erase { target, confirm } => {
            let (app_id, user) = (operator.app(target.app_id).await?, preview(&target.user, 32));
            if confirm.as_ref() != Some(&target.user) {
                return Err(Failure::usage(format!("{user} would be erased, which cannot be undone"))
                    .hint(format!("zim admin user erase {user} --confirm {user}")));
            }
            let request = EraseUserRequest { app_id, confirm: confirm.unwrap_or_default(), user_id: target.user };
            let done = operator.client.erase_user(request).await.map_err(|status| refused(&status))?.into_inner();
            if output.is_json() {
                return output.json(&done);
            }
            output.line(format!(
                "{user} is being erased: zim admin outbox list --all shows what is left. {}.",
                sessions(done.sessions)
            ))
        }
        UserCommand::Export { target, output } => {
            let user = (operator.app(target.app_id).await?, target.user);
            export::run(user, output.as_deref(), operator, context).await
        }
        UserCommand::Banned { app_id } => banned(operator.app(app_id).await?, operator, context).await,
        UserCommand::Revoke { target, older } => {
            let (app_id, user) = (operator.app(target.app_id).await?, preview(&target.user, 32));
            // Without a time the server uses its own clock, so that the clocks need not agree.
            let made_until = match older {
                Duration::ZERO => 0,
                older => (now_ms() / 1_000).saturating_sub(seconds(older)).max(1),
            };
            let request = RevokeTokensRequest { app_id, user_id: target.user, made_until };
            let done = operator.client.revoke_tokens(request).await.map_err(|status| refused(&status))?.into_inner();
            if output.is_json() {
                return output.json(&done);
            }
            let since = when(done.tokens_revoked_at.saturating_mul(1_000), now_ms());
            output.line(format!("Tokens of {user} made until {since} are refused. {}.", sessions(done.sessions)))
        }
    }
}

fn show(context: &Context, user: &UserAccess) -> Result<(), Failure> {
    let ban = match (user.is_banned, user.ban_ends_at) {
        (false, _) => "no".to_owned(),
        (true, 0) => format!("since {}, until it is lifted", when(user.banned_at, now_ms())),
        (true, at) => format!("since {}, until {}", when(user.banned_at, now_ms()), when(at, now_ms())),
    };
    let revoked = match user.tokens_revoked_at {
        0 => "none".to_owned(),
        at => format!("those made until {}", when(at.saturating_mul(1_000), now_ms())),
    };
    let rows = [
        ("user", preview(&user.user_id, 32)),
        ("name", preview(&user.user_name, 60)),
        ("registered", when(user.registered_at, now_ms())),
        ("banned", ban),
        ("revoked", revoked),
        ("erased", if user.erased_at == 0 { "no".to_owned() } else { when(user.erased_at, now_ms()) }),
    ];
    rows.into_iter().try_for_each(|(what, value)| context.output.line(format!("{what:<12}{value}")))
}

async fn list((app_id, prefix): (u32, String), operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("USER", Align::Left),
        ("NAME", Align::Left),
        ("REGISTERED", Align::Left),
        ("SEEN", Align::Left),
        ("BANNED", Align::Left),
    ]);
    let (mut after, mut is_empty) = (String::new(), true);
    loop {
        let request = ListUsersRequest { app_id, after, count: 0, prefix: prefix.clone() };
        let page = operator.client.list_users(request).await.map_err(|status| refused(&status))?.into_inner();
        is_empty &= page.users.is_empty();
        for user in &page.users {
            if context.output.is_json() {
                context.output.json(user)?;
            } else {
                table.row(row(user, now_ms()));
            }
        }
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    match (context.output.is_json(), is_empty) {
        (true, _) => Ok(()),
        (false, true) => context.output.line("There are no such users."),
        (false, false) => context.output.table(&table),
    }
}

fn row(user: &UserRow, now_ms: i64) -> [String; 5] {
    let seen = match (user.is_online, user.seen_at) {
        (true, _) => "online".to_owned(),
        (false, 0) => "never".to_owned(),
        (false, at) => when(at, now_ms),
    };
    [
        preview(&user.user_id, 32),
        preview(&user.user_name, 40),
        when(user.registered_at, now_ms),
        seen,
        if user.is_banned { "yes" } else { "no" }.to_owned(),
    ]
}

async fn banned(app_id: u32, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let mut table =
        Table::new(&[("USER", Align::Left), ("NAME", Align::Left), ("SINCE", Align::Left), ("UNTIL", Align::Left)]);
    let (mut next_flag, mut is_empty) = (0, true);
    loop {
        let request = ListBannedUsersRequest { app_id, next_flag, count: 0 };
        let page = operator.client.list_banned_users(request).await.map_err(|status| refused(&status))?.into_inner();
        is_empty &= page.users.is_empty();
        for user in &page.users {
            if context.output.is_json() {
                context.output.json(user)?;
            }
            let until =
                if user.ban_ends_at == 0 { "it is lifted".to_owned() } else { when(user.ban_ends_at, now_ms()) };
            table.row([
                preview(&user.user_id, 32),
                preview(&user.user_name, 40),
                when(user.banned_at, now_ms()),
                until,
            ]);
        }
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    match (context.output.is_json(), is_empty) {
        (true, _) => Ok(()),
        (false, true) => context.output.line("Nobody is banned."),
        (false, false) => context.output.table(&table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_ban_has_limits() {
        assert_eq!(ban("1s"), Ok(Duration::from_secs(1)));
        assert!(ban("0s").is_err() && ban("40000d").is_err());
    }
}
