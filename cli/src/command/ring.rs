//! `zim ring`: calls, from the invitation to the end.

use std::time::Duration;

use clap::{Args, Subcommand};
use zim_client_sdk::Zim;
use zim_protocol::{
    CallAcceptConfig, CallCancelConfig, CallEndConfig, CallInfo, CallInvitationMode, CallInvitationQueryConfig,
    CallInviteConfig, CallJoinConfig, CallQuitConfig, CallRejectConfig, CallState, CallingInviteConfig,
};

use super::friend::{ListArgs, next_count};
use crate::context::{Context, now_ms};
use crate::describe::call::{names, users};
use crate::duration;
use crate::exit::{Failure, all_done};
use crate::output::{Align, Output, Table, when};
use crate::text::preview;

/// The limit of users in a request.
const MAX_USERS: usize = 9;

/// `zim ring`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A call in general mode is over once everybody has answered. One in advanced mode (--advanced) goes on until its users end or \
leave it.

Examples:
  zim ring start bob --data video
  zim ring start bob carol --advanced --for 5m | jq -r .callID
  zim listen --event callInvitationReceived | jq -r .callID
  zim --profile bob ring accept $(zim --profile bob ring list -n 1 | jq -r .callID)
  zim ring invite $(zim ring list -n 1 | jq -r .callID) mallory
  zim --profile carol ring join $(zim --profile carol ring list -n 1 | jq -r .callID)
  zim --profile carol ring quit $(zim --profile carol ring list -n 1 | jq -r .callID)
  zim ring end $(zim ring list -n 1 | jq -r .callID)
  zim ring start bob carol
  zim --profile bob ring reject $(zim --profile bob ring list -n 1 | jq -r .callID)
  zim ring cancel $(zim ring list -n 1 | jq -r .callID)")]
pub(crate) enum RingCommand {
    /// Begin a call and invite up to 9 users
    Start(StartArgs),
    /// Invite more users into a call in advanced mode
    Invite {
        /// The call
        call: String,
        /// The users
        #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
        users: Vec<String>,
    },
    /// Come into a call in advanced mode without an invitation
    Join(AnswerArgs),
    /// Accept an invitation
    Accept(AnswerArgs),
    /// Reject an invitation
    Reject(AnswerArgs),
    /// Take back a call before anybody accepts it, or some of its invitations
    Cancel {
        #[command(flatten)]
        answer: AnswerArgs,
        /// The users whose invitations are cancelled, in advanced mode; omit them to cancel the call. A call in general mode is
        /// cancelled for everybody
        #[arg(value_name = "USER", num_args = 0..=MAX_USERS)]
        users: Vec<String>,
    },
    /// Leave a call in advanced mode
    Quit(AnswerArgs),
    /// End a call in advanced mode for everybody
    End(AnswerArgs),
    /// List your calls, newest first
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The users
    #[arg(value_name = "USER", required = true, num_args = 1..=MAX_USERS)]
    users: Vec<String>,
    /// The call goes on after the answers: users invite others, come and go
    #[arg(long)]
    advanced: bool,
    /// How long the users have for the answer, up to 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, default_value = "90s")]
    time: Duration,
    /// Data of the app that the users see
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    data: String,
    /// Tell who has not received the invitation after five seconds
    #[arg(long)]
    check_received: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// The call
    call: String,
    /// Data of the app that the others see
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    data: String,
}

pub(crate) async fn run(command: RingCommand, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let outcome = run_in(command, &session.zim, context.output).await;
    session.end().await;
    outcome
}

async fn run_in(command: RingCommand, zim: &Zim, output: Output) -> Result<(), Failure> {
    match command {
        RingCommand::Start(args) => start(args, zim, output).await,
        RingCommand::Invite { call, users } => invite(&call, users, zim, output).await,
        RingCommand::Join(AnswerArgs { call, data }) => {
            let joined = zim.call_join(&call, CallJoinConfig { extended_data: data }).await?;
            if output.is_json() {
                return output.json(&joined);
            }
            let call = preview(&joined.call_id, 20);
            output.line(format!("You are in the call {call}: {}.", users(&joined.call_user_list)))
        }
        RingCommand::Accept(AnswerArgs { call, data }) => {
            let accepted = zim.call_accept(&call, CallAcceptConfig { extended_data: data }).await?;
            if output.is_json() {
                return output.json(&accepted);
            }
            output.line(format!("You have accepted the call {}.", preview(&call, 20)))
        }
        RingCommand::Reject(AnswerArgs { call, data }) => {
            let rejected = zim.call_reject(&call, CallRejectConfig { extended_data: data }).await?;
            if output.is_json() {
                return output.json(&rejected);
            }
            output.line(format!("You have rejected the call {}.", preview(&call, 20)))
        }
        RingCommand::Cancel { answer, users } => cancel(answer, users, zim, output).await,
        RingCommand::Quit(AnswerArgs { call, data }) => {
            let config = CallQuitConfig { extended_data: data, ..CallQuitConfig::default() };
            let left = zim.call_quit(&call, config).await?;
            if output.is_json() {
                return output.json(&left);
            }
            output.line(format!("You have left the call {}.", preview(&call, 20)))
        }
        RingCommand::End(AnswerArgs { call, data }) => {
            let config = CallEndConfig { extended_data: data, ..CallEndConfig::default() };
            let ended = zim.call_end(&call, config).await?;
            if output.is_json() {
                return output.json(&ended);
            }
            output.line(format!("The call {} has ended.", preview(&call, 20)))
        }
        RingCommand::List(args) => list(&args, zim, output).await,
    }
}

async fn start(args: StartArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let StartArgs { users, advanced, time, data, check_received } = args;
    let mode = if advanced { CallInvitationMode::Advanced } else { CallInvitationMode::General };
    let config = CallInviteConfig {
        timeout: Some(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
        mode: mode as i32,
        extended_data: data,
        enable_not_received_check: check_received,
        push_config: None,
    };
    let sent = zim.call_invite(users.clone(), config).await?;
    if output.is_json() {
        output.json(&sent)?;
    } else {
        let left_out = |user: &&String| sent.error_user_list.iter().all(|one| one.user_id != **user);
        let ringing = names(users.iter().filter(left_out).map(String::as_str));
        output.line(format!("The call {} rings for {} s: {ringing}.", preview(&sent.call_id, 20), sent.timeout))?;
    }
    all_done(&sent.error_user_list, "not invited")
}

async fn invite(call: &str, users: Vec<String>, zim: &Zim, output: Output) -> Result<(), Failure> {
    let sent = zim.calling_invite(users.clone(), call, CallingInviteConfig::default()).await?;
    if output.is_json() {
        output.json(&sent)?;
    } else {
        output.done("Invited", &users, &sent.error_user_list)?;
    }
    all_done(&sent.error_user_list, "not invited")
}

async fn cancel(answer: AnswerArgs, users: Vec<String>, zim: &Zim, output: Output) -> Result<(), Failure> {
    let AnswerArgs { call, data } = answer;
    let config = CallCancelConfig { extended_data: data, ..CallCancelConfig::default() };
    let cancelled = zim.call_cancel(users.clone(), &call, config).await?;
    if output.is_json() {
        return output.json(&cancelled);
    }
    let call = preview(&cancelled.call_id, 20);
    if users.is_empty() {
        return output.line(format!("The call {call} is cancelled."));
    }
    if is_general(&cancelled.call_id, zim).await {
        return output.line(format!("The call {call} is cancelled for everybody, because it is in general mode."));
    }
    let done = users.iter().filter(|user| !cancelled.error_invitees.contains(user)).map(String::as_str);
    output.line(format!("The invitations to the call {call} are cancelled: {}.", names(done)))?;
    match &cancelled.error_invitees[..] {
        [] => Ok(()),
        failed => output.line(format!("Nothing to cancel: {}.", names(failed.iter().map(String::as_str)))),
    }
}

/// Whether a call is in general mode, and so one of the newest: then it is cancelled as a whole, whoever is named.
async fn is_general(call: &str, zim: &Zim) -> bool {
    let newest = zim.query_call_invitation_list(CallInvitationQueryConfig { count: 100, next_flag: 0 }).await;
    let is_it = |one: &CallInfo| one.call_id == call && one.mode() == CallInvitationMode::General;
    newest.is_ok_and(|newest| newest.call_list.iter().any(is_it))
}

async fn list(args: &ListArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let (mut all, mut next_flag): (Vec<CallInfo>, i64) = (Vec::new(), 0);
    while let Some(count) = next_count(args.count, all.len()) {
        let page = zim.query_call_invitation_list(CallInvitationQueryConfig { count, next_flag }).await?;
        all.extend(page.call_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    if output.is_json() {
        return all.iter().try_for_each(|call| output.json(call));
    }
    if all.is_empty() {
        return output.line("There are no calls.");
    }
    output.table(&table(&all, now_ms()))
}

fn table(calls: &[CallInfo], now_ms: i64) -> Table {
    let mut table = Table::new(&["BEGAN", "CALL", "MODE", "STATE", "USERS"].map(|name| (name, Align::Left)));
    for call in calls {
        let mode = match call.mode() {
            CallInvitationMode::Advanced => "advanced",
            _ => "general",
        };
        let state = match call.state() {
            CallState::Ended => format!("ended {}", when(call.end_time, now_ms)),
            _ => "running".to_owned(),
        };
        let row = [when(call.create_time, now_ms), preview(&call.call_id, 20), mode.to_owned(), state];
        table.row([&row[..], &[users(&call.call_user_list)]].concat());
    }
    table
}
