//! `zim ping`: how fast the server answers.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::context::{Context, Session};
use crate::exit::Failure;
use crate::output::span;

/// A request that the server answers from its database.
const METHOD: &str = "User/QuerySelfUserInfo";

/// `zim ping`
#[derive(Debug, Args)]
#[command(after_help = "\
Connects, logs in, and sends requests one after the other. The exit code says what is wrong: 4 if the server cannot be \
reached, 3 if it does not accept the login.

Examples:
  zim ping
  zim ping --count 10
  zim ping --timeout 2s --json | jq .loginMs")]
pub(crate) struct PingArgs {
    /// Number of requests
    #[arg(long, short = 'n', value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    count: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    server: String,
    #[serde(rename = "userID")]
    user_id: String,
    /// Until the connection was open and the user logged in.
    login_ms: f64,
    /// The time of each answer.
    answers_ms: Vec<f64>,
}

pub(crate) async fn run(args: PingArgs, context: &Context) -> Result<(), Failure> {
    let server = context.profiles.logged_in(&context.name)?.server.unwrap_or_default();
    let began = Instant::now();
    let session = context.one_shot().await?;
    let login = began.elapsed();
    let answers = ping(args.count, &session).await;
    let user_id = session.user_id.clone();
    session.end().await;
    let answers = answers?;
    if context.output.is_json() {
        let answers_ms = answers.into_iter().map(ms).collect();
        return context.output.json(&Report { server, user_id, login_ms: ms(login), answers_ms });
    }
    let (least, most) = (answers.iter().min().copied(), answers.iter().max().copied());
    let (least, most) = (span(least.unwrap_or_default()), span(most.unwrap_or_default()));
    context.output.line(format!("{server} answers {user_id} in {least} to {most}; the login took {}.", span(login)))
}

async fn ping(count: u16, session: &Session) -> Result<Vec<Duration>, Failure> {
    let mut answers = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        session.zim.call_json(METHOD, serde_json::json!({})).await?;
        answers.push(began.elapsed());
    }
    Ok(answers)
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
