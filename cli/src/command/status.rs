//! `zim status …`

use clap::Subcommand;
use zim_client_sdk::Zim;
use zim_protocol::{
    SubscribedUserStatusQueryConfig, UserCustomStatusUpdateConfig, UserStatus, UserStatusSubscribeConfig,
};

use crate::context::{Context, now_ms};
use crate::describe;
use crate::exit::{Failure, all_done};
use crate::output::{Align, Output, Table, when};
use crate::text::preview;

/// What one call takes.
const MOST: usize = 100;

/// `zim status`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim status show bob carol
  zim status set busy --for 3600
  zim status subscribe bob carol --minutes 1440
  zim listen --event userStatusUpdated")]
pub(crate) enum StatusCommand {
    /// Show who is online where, and what they say of themselves
    Show {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=200)]
        users: Vec<String>,
    },
    /// Say something of yourself, such as "busy"
    Set {
        /// What others see, up to 64 bytes
        text: String,
        /// For so many seconds; -1 until it is changed [default: a day]
        #[arg(
            long = "for",
            value_name = "SECONDS",
            default_value_t = 0,
            hide_default_value = true,
            allow_negative_numbers = true
        )]
        seconds: i64,
    },
    /// Say nothing of yourself any more
    Clear,
    /// Hear of the status of users for a while, on all of your devices
    Subscribe {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MOST)]
        users: Vec<String>,
        /// For so many minutes, up to 43200
        #[arg(long, value_name = "N", default_value_t = 1440)]
        minutes: i64,
    },
    /// Hear no more of the status of users
    Unsubscribe {
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MOST)]
        users: Vec<String>,
    },
    /// List whom you have subscribed to, the earliest first
    List,
}

pub(crate) async fn run(command: StatusCommand, context: &Context) -> Result<(), Failure> {
    let session = match command {
        StatusCommand::List => context.one_shot_synced().await?,
        _ => context.one_shot().await?,
    };
    let (zim, output) = (&session.zim, context.output);
    let outcome = match command {
        StatusCommand::Show { users } => show(&users, zim, output).await,
        StatusCommand::Set { text, seconds } => set(&text, seconds, zim, output).await,
        StatusCommand::Clear => set("", 0, zim, output).await,
        StatusCommand::Subscribe { users, minutes } => subscribe(&users, minutes, zim, output).await,
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
    let columns = [("USER", Align::Left), ("IS", Align::Left), ("SINCE", Align::Left), ("SAYS", Align::Left)];
    let mut table = Table::new(&columns);
    for status in statuses {
        let since = when(status.last_online_status_update_time, now_ms());
        let says = preview(&status.custom_status, 64);
        table.row([preview(&status.user_id, 32), describe::online(status), since, says]);
    }
    table
}

async fn set(text: &str, seconds: i64, zim: &Zim, output: Output) -> Result<(), Failure> {
    let updated = zim.update_user_custom_status(text, UserCustomStatusUpdateConfig { duration: seconds }).await?;
    if output.is_json() {
        return output.json(&updated);
    }
    if updated.custom_status.is_empty() {
        return output.line("You say nothing of yourself.");
    }
    let ends_at = updated.status.as_ref().map_or(0, |status| status.custom_status_expired_time);
    let until =
        if ends_at == 0 { "until you change it".to_owned() } else { format!("until {}", when(ends_at, now_ms())) };
    output.line(format!("You say {:?}, {until}.", preview(&updated.custom_status, 64)))
}

async fn subscribe(users: &[String], minutes: i64, zim: &Zim, output: Output) -> Result<(), Failure> {
    let config = UserStatusSubscribeConfig { subscription_duration: minutes };
    let subscribed = zim.subscribe_users_status(users, config).await?;
    if output.is_json() {
        output.json(&subscribed)?;
    }
    all_done(&subscribed.error_user_list, "not subscribed to")
}

async fn unsubscribe(users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let unsubscribed = zim.unsubscribe_users_status(users).await?;
    if output.is_json() {
        output.json(&unsubscribed)?;
    }
    all_done(&unsubscribed.error_user_list, "there was no subscription to")
}

async fn list(zim: &Zim, output: Output) -> Result<(), Failure> {
    let found = zim.query_subscribed_user_status_list(SubscribedUserStatusQueryConfig::default()).await?;
    let subscriptions = found.user_status_subscription_list;
    if output.is_json() {
        return subscriptions.iter().try_for_each(|subscription| output.json(subscription));
    }
    if subscriptions.is_empty() {
        return output.line("You have subscribed to nobody's status.");
    }
    let columns = [("USER", Align::Left), ("IS", Align::Left), ("SAYS", Align::Left), ("UNTIL", Align::Left)];
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
