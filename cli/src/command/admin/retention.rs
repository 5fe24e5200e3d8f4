//! `zim admin retention`: how long messages are kept.

use clap::{Args, Subcommand};
use zim_protocol::{GetRetentionRequest, Retention, SetRetentionRequest};

use super::{Operator, refused};
use crate::context::Context;
use crate::exit::Failure;
use crate::text::preview;

/// What a setting is for.
#[derive(Debug, Args)]
pub(crate) struct OfArgs {
    /// Of this group [default: of the app]
    #[arg(long, value_name = "GROUP", conflicts_with = "between")]
    group: Option<String>,
    /// Of the conversation of two users
    #[arg(long, value_name = "USER", num_args = 2)]
    between: Vec<String>,
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
}

/// `zim admin retention`
#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Show for how many days messages are kept
    Show {
        #[command(flatten)]
        of: OfArgs,
    },
    /// Keep messages for so many days
    #[command(after_help = "\
Older messages are removed within an hour or so: from the server with their files, and from the devices of the users. This cannot \
be undone. A conversation with a setting of its own does not have that of the app. Rooms have limits of their own.

Examples:
  zim admin retention set 90                        messages of the app
  zim admin retention set 7 --group crew
  zim admin retention set forever --between ann bob
  zim admin retention reset --group crew            as the app again")]
    Set {
        /// Days, or forever
        #[arg(value_name = "DAYS", value_parser = days)]
        days: i64,
        #[command(flatten)]
        of: OfArgs,
    },
    /// Give a conversation the setting of its app again
    Reset {
        #[command(flatten)]
        of: OfArgs,
    },
}

/// Parses a number of days; 0 stands for ever.
fn days(text: &str) -> Result<i64, String> {
    match text {
        "forever" => Ok(0),
        _ => match text.parse() {
            Ok(days @ 1..=36_500) => Ok(days),
            _ => Err("give a number of days from 1 to 36500, or forever".to_owned()),
        },
    }
}

pub(super) async fn run(command: RetentionCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let (of, days, is_set) = match command {
        RetentionCommand::Show { of } => (of, None, false),
        RetentionCommand::Set { of, days } => (of, Some(days), true),
        RetentionCommand::Reset { of } => (of, None, true),
    };
    if is_set && days.is_none() && of.group.is_none() && of.between.is_empty() {
        return Err(Failure::usage("an app has no other setting than its own")
            .hint("zim admin retention set forever keeps all messages of the app"));
    }
    let what = match (&of.group, &of.between[..]) {
        (Some(group), _) => format!("the group {}", preview(group, 32)),
        (None, [one, other]) => format!("{} and {}", preview(one, 32), preview(other, 32)),
        _ => "the app".to_owned(),
    };
    let app_id = operator.app(of.app_id).await?;
    let (group_id, user_ids) = (of.group.unwrap_or_default(), of.between);
    let answer = match is_set {
        true => operator.client.set_retention(SetRetentionRequest { app_id, group_id, user_ids, days }).await,
        false => operator.client.get_retention(GetRetentionRequest { app_id, group_id, user_ids }).await,
    };
    let retention = answer.map_err(|status| refused(&status))?.into_inner();
    if context.output.is_json() {
        context.output.json(&retention)
    } else {
        context.output.line(line(&what, &retention))
    }
}

fn line(what: &str, retention: &Retention) -> String {
    let time = match retention.days {
        0 => "for ever".to_owned(),
        1 => "for 1 day".to_owned(),
        days => format!("for {days} days"),
    };
    let whose = if retention.is_own { "" } else { ", as those of the app" };
    format!("Messages of {what} are kept {time}{whose}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_a_number_or_forever() {
        assert_eq!((days("forever"), days("90"), days("36500")), (Ok(0), Ok(90), Ok(36_500)));
        for wrong in ["0", "-1", "36501", "7d", ""] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
        let retention = Retention { days: 7, is_own: false };
        assert_eq!(
            line("the group crew", &retention),
            "Messages of the group crew are kept for 7 days, as those of the app."
        );
    }
}
