//! `zim status`: who is online, and custom statuses.

use std::time::Duration;

use clap::Subcommand;
use zim_client_sdk::Zim;
use zim_protocol::{
    SubscribedUserStatusQueryConfig, UserCustomStatusUpdateConfig, UserStatus, UserStatusSubscribeConfig,
};

use crate::context::{Context, now_ms};
use crate::describe;
use crate::duration;
use crate::exit::{Failure, all_done};
use crate::output::{Align, Output, Table, when};
use crate::text::preview;

/// The limit of users in a subscription request.
const MAX_USERS: usize = 100;

/// `zim status`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim status show bob carol
  zim status set busy --for 1h
  zim status set \"on holiday\" --for forever
  zim status subscribe bob carol --for 7d
  zim listen --event userStatusUpdated
  zim status list
  zim status unsubscribe carol
  zim status clear")]
pub(crate) enum StatusCommand {
    /// Show whether users are online, where, and their custom statuses
    Show {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=200)]
        users: Vec<String>,
    },
    /// Set your custom status, such as "busy"
    Set {
        /// The text that others see, up to 64 bytes
        text: String,
        /// How long it lasts, as in 15m or 12h; forever is until it is changed [default: a day]
        #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
        time: Option<Lasting>,
    },
    /// Remove your custom status
    Clear,
    /// Subscribe to the status of users for a time, on all of your devices
    Subscribe {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
        /// How long, as in 12h; at most 30 days
        #[arg(long = "for", value_name = "TIME", default_value = "1d", value_parser = subscription)]
        time: Duration,
    },
    /// Unsubscribe from the status of users
    Unsubscribe {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
    },
    /// List your subscriptions, oldest first
    List,
}

/// How long a custom status lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    For(Duration),
    Forever,
}

fn lasting(text: &str) -> Result<Lasting, String> {
    match text {
        "forever" => Ok(Lasting::Forever),
        _ => match duration::parse(text)? {
            Duration::ZERO => Err("a status lasts at least a second; `zim status clear` removes it".to_owned()),
            time => Ok(Lasting::For(time)),
        },
    }
}

impl Lasting {
    /// Returns the number of the reference.
    fn seconds(self) -> i64 {
        match self {
            Self::For(time) => i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            Self::Forever => -1,
        }
    }
}

/// Parses the time of a subscription: a minute to 30 days.
fn subscription(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        time if (60..=30 * 86_400).contains(&time.as_secs()) => Ok(time),
        _ => Err("a subscription lasts a minute to 30 days".to_owned()),
    }
}

pub(crate) async fn run(command: StatusCommand, context: &Context) -> Result<(), Failure> {
    let session = match command {
        StatusCommand::List => context.one_shot_synced().await?,
        _ => context.one_shot().await?,
    };
    let (zim, output) = (&session.zim, context.output);
    let outcome = match command {
        StatusCommand::Show { users } => show(&users, zim, output).await,
        StatusCommand::Set { text, time } => set(&text, time.map_or(0, Lasting::seconds), zim, output).await,
        StatusCommand::Clear => set("", 0, zim, output).await,
        StatusCommand::Subscribe { users, time } => subscribe(&users, time, zim, output).await,
        StatusCommand::Unsubscribe { users } => unsubscribe(&users, zim, output).await,
        StatusCommand::List => list(zim, output).await,
    };
    session.end().await;
    outcome
}

async fn show(users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let found = zim.query_users_status(users).await?;
    if output.is_json() {
        found.user_status_list.iter().try_for_each(|status| output.json(status))?;
    } else {
        output.table(&table(&found.user_status_list))?;
    }
    all_done(&found.error_user_list, "there is no user")
}

fn table(statuses: &[UserStatus]) -> Table {
    let columns =
        [("USER", Align::Left), ("STATUS", Align::Left), ("SINCE", Align::Left), ("CUSTOM STATUS", Align::Left)];
    let mut table = Table::new(&columns);
    for status in statuses {
        let since = when(status.last_online_status_update_time, now_ms());
        let custom = preview(&status.custom_status, 64);
        table.row([preview(&status.user_id, 32), describe::online(status), since, custom]);
    }
    table
}

async fn set(text: &str, seconds: i64, zim: &Zim, output: Output) -> Result<(), Failure> {
    let updated = zim.update_user_custom_status(text, UserCustomStatusUpdateConfig { duration: seconds }).await?;
    if output.is_json() {
        return output.json(&updated);
    }
    if updated.custom_status.is_empty() {
        return output.line("You have no custom status now.");
    }
    let ends_at = updated.status.as_ref().map_or(0, |status| status.custom_status_expired_time);
    let until =
        if ends_at == 0 { "until you change it".to_owned() } else { format!("until {}", when(ends_at, now_ms())) };
    output.line(format!("Your status is {:?} {until}.", preview(&updated.custom_status, 64)))
}

async fn subscribe(users: &[String], time: Duration, zim: &Zim, output: Output) -> Result<(), Failure> {
    // The reference counts in minutes.
    let subscription_duration = i64::try_from(time.as_secs().div_ceil(60)).unwrap_or(i64::MAX);
    let config = UserStatusSubscribeConfig { subscription_duration };
    let subscribed = zim.subscribe_users_status(users, config).await?;
    if output.is_json() {
        output.json(&subscribed)?;
    } else {
        output.done("Subscribed to", users, &subscribed.error_user_list)?;
    }
    all_done(&subscribed.error_user_list, "could not subscribe to")
}

async fn unsubscribe(users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let unsubscribed = zim.unsubscribe_users_status(users).await?;
    if output.is_json() {
        output.json(&unsubscribed)?;
    } else {
        output.done("Unsubscribed from", users, &unsubscribed.error_user_list)?;
    }
    all_done(&unsubscribed.error_user_list, "not subscribed to")
}

async fn list(zim: &Zim, output: Output) -> Result<(), Failure> {
    let found = zim.query_subscribed_user_status_list(SubscribedUserStatusQueryConfig::default()).await?;
    let subscriptions = found.user_status_subscription_list;
    if output.is_json() {
        return subscriptions.iter().try_for_each(|subscription| output.json(subscription));
    }
    if subscriptions.is_empty() {
        return output.line("You have no status subscriptions.");
    }
    let columns =
        [("USER", Align::Left), ("STATUS", Align::Left), ("CUSTOM STATUS", Align::Left), ("UNTIL", Align::Left)];
    let mut table = Table::new(&columns);
    for subscription in &subscriptions {
        let status = subscription.user_status.clone().unwrap_or_default();
        table.row([
            preview(&status.user_id, 32),
            describe::online(&status),
            preview(&status.custom_status, 64),
            when(subscription.subscribe_expired_time, now_ms()),
        ]);
    }
    output.table(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_lasts_for_a_time_or_forever() {
        assert_eq!(lasting("1h").map(Lasting::seconds), Ok(3_600));
        assert_eq!(lasting("forever").map(Lasting::seconds), Ok(-1));
        assert!(lasting("0s").is_err() && lasting("3600").is_err() && lasting("-1").is_err());
    }

    #[test]
    fn a_subscription_lasts_a_minute_to_30_days() {
        assert_eq!(subscription("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(subscription("30d"), Ok(Duration::from_secs(2_592_000)));
        assert!(subscription("59s").is_err() && subscription("2592001s").is_err());
    }
}
