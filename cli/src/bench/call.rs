//! `zim bench call`: calls between pairs of users, a caller and a callee.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message as _;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{interval_at, sleep, timeout};
use zim_protocol::event_frame::Frame;
use zim_protocol::feed_entry::Detail;
use zim_protocol::{
    CallAcceptConfig, CallAcceptRequest, CallEndRequest, CallInfo, CallInvitationMode, CallInviteConfig,
    CallInviteRequest, CallState, CallUserState, EventFrame,
};

use super::histogram::{Histogram, Latency};
use super::load::{DRAIN, LOGINS_AT_ONCE};
use super::meter::{Meter, SharedMeter, is_final, sent_at, text};
use super::process::Cost;
use super::raw::{Dialer, Events, Raw};
use super::show::{latency_columns, latency_row, show_cost, show_errors, stage_row, thousands};
use super::target::Target;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, Table};
use crate::progress;

/// The role of the users in their names.
const ROLE: &str = "c";
/// Seconds in which a call that is measured is answered.
const ANSWERED_WITHIN_S: i64 = 60;
/// The digits of a time.
const STAMP: usize = 16;

/// `zim bench call`
#[derive(Clone, Debug, Args)]
pub(crate) struct CallArgs {
    /// Pairs of users, each with one call at a time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = pairs)]
    pairs: usize,
    /// Let this number of calls ring until their time is up, and measure how late the callers learn of it
    #[arg(long, value_name = "N", value_parser = ringing)]
    ringing: Option<usize>,
    /// Time in which these calls are not answered, 1 to 600 seconds
    #[arg(long, value_name = "TIME", default_value = "5s", requires = "ringing", value_parser = answer_time)]
    timeout: Duration,
    /// Invitations to these calls a second, and so many timeouts a second later [default: as many as the server takes]
    #[arg(long, value_name = "N", requires = "ringing", value_parser = rate)]
    rate: Option<u32>,
    /// Duration of the measurement
    #[arg(long = "for", value_name = "TIME", default_value = "5s", conflicts_with = "ringing", value_parser = duration::parse)]
    time: Duration,
    /// Duration of the load before the measurement
    #[arg(long, value_name = "TIME", default_value = "1s", conflicts_with = "ringing", value_parser = duration::parse)]
    warm_up: Duration,
}

fn pairs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(pairs @ 1..=10_000) => Ok(pairs),
        _ => Err("1 to 10000".to_owned()),
    }
}

fn ringing(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(ringing @ 1..=1_000_000) => Ok(ringing),
        _ => Err("1 to 1000000".to_owned()),
    }
}

fn rate(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rate @ 1..=100_000) => Ok(rate),
        _ => Err("1 to 100000".to_owned()),
    }
}

fn answer_time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text)?;
    if (1..=600).contains(&time.as_secs()) { Ok(time) } else { Err("1 to 600 seconds".to_owned()) }
}

/// What is measured of a call.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The answer to the caller who invites.
    Invited,
    /// Since then, until the callee has it.
    Rings,
    /// From the callee's acceptance until the caller has it.
    Accepted,
    /// The answer to the caller who ends it.
    Ended,
    /// All of it.
    Whole,
}

const STAGES: usize = 5;

/// The result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    pairs: usize,
    seconds: f64,
    calls_per_second: u64,
    invited: Latency,
    rings: Latency,
    accepted: Latency,
    ended: Latency,
    call: Latency,
    errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
    /// Processor time of the server for each call.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_us_per_call: Option<f64>,
}

/// The result with `--ringing`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RingingReport {
    bench: &'static str,
    pairs: usize,
    ringing: usize,
    timeout_s: u64,
    invitations_per_second: u64,
    invited: Latency,
    /// How long after its time the caller learns that a call was not answered.
    late: Latency,
    /// Calls of which the caller did not learn that.
    missing: usize,
    errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

/// What the tasks of all pairs share.
#[derive(Debug)]
struct Calls {
    meter: SharedMeter,
    done: AtomicU64,
    latencies: [Mutex<Histogram>; STAGES],
}

impl Calls {
    fn new() -> Arc<Self> {
        Arc::new(Self { meter: Meter::new(), done: AtomicU64::new(0), latencies: Default::default() })
    }

    fn record(&self, stage: Stage, latency: Duration) {
        if self.meter.is_measuring() {
            self.latencies[stage as usize].lock().record(latency);
        }
    }

    /// Records how long ago a time was that somebody has sent.
    fn record_since(&self, stage: Stage, stamp: &str) {
        if let Some(at) = sent_at(stamp) {
            self.record(stage, self.meter.since.elapsed().saturating_sub(at));
        }
    }

    fn latency(&self, stage: Stage) -> Latency {
        self.latencies[stage as usize].lock().summary()
    }

    fn stamp(&self) -> String {
        text(self.meter.since, STAMP)
    }
}

/// The news about calls of a session.
struct News {
    events: Events,
    waiting: Vec<CallInfo>,
}

impl News {
    fn of(raw: &Raw) -> Self {
        Self { events: Events::of(raw), waiting: Vec::new() }
    }

    /// Waits for the next call that has changed, as it is now.
    async fn next(&mut self) -> Result<CallInfo, Failure> {
        loop {
            if let Some(call) = self.waiting.pop() {
                return Ok(call);
            }
            let frame = EventFrame::decode(self.events.next().await?).unwrap_or_default();
            let Some(Frame::Push(push)) = frame.frame else { continue };
            let calls = push.feed.into_iter().rev().filter_map(|entry| match entry.detail {
                Some(Detail::Call(call)) => call.info,
                _ => None,
            });
            self.waiting.extend(calls);
        }
    }
}

fn state(call: &CallInfo, user: &str) -> Option<CallUserState> {
    call.call_user_list.iter().find(|one| one.user_id == user).map(zim_protocol::CallUserInfo::state)
}

/// Two users.
struct Pair {
    caller: Raw,
    callee: Raw,
    callee_id: String,
}

async fn log_in(pairs: usize, target: &Target, dialer: &Dialer) -> Result<Vec<Pair>, Failure> {
    stream::iter(0..pairs)
        .map(|pair| async move {
            let callee_id = target.user(ROLE, 2 * pair + 1);
            let callee = dialer.log_in_with_retries(&callee_id).await?;
            let caller = dialer.log_in_with_retries(&target.user(ROLE, 2 * pair)).await?;
            Ok::<_, Failure>(Pair { caller, callee, callee_id })
        })
        .buffered(LOGINS_AT_ONCE)
        .try_collect()
        .await
}

async fn invite(caller: &mut Raw, callee: &str, stamp: String, timeout_s: i64) -> Result<String, Failure> {
    let config = CallInviteConfig {
        timeout: Some(timeout_s),
        mode: CallInvitationMode::Advanced as i32,
        extended_data: stamp,
        ..CallInviteConfig::default()
    };
    let request = CallInviteRequest { invitees: vec![callee.to_owned()], config: Some(config) };
    Ok(caller.request(&request).await?.call_id)
}

pub(crate) async fn run(args: CallArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let dialer = Dialer::new(target, 2)?;
    let pairs = log_in(args.pairs, target, &dialer).await?;
    match args.ringing {
        Some(ringing) => ring(&args, ringing, pairs, target, output).await,
        None => call(&args, pairs, target, output).await,
    }
}

async fn call(args: &CallArgs, pairs: Vec<Pair>, target: &Target, output: Output) -> Result<(), Failure> {
    let calls = Calls::new();
    let mut tasks = JoinSet::new();
    for Pair { caller, callee, callee_id } in pairs {
        tasks.spawn(answer_calls(callee, callee_id.clone(), Arc::clone(&calls)));
        tasks.spawn(make_calls(caller, callee_id, Arc::clone(&calls)));
    }
    sleep(args.warm_up).await;
    let before = target.sample();
    let began = Instant::now();
    calls.meter.measure(true);
    progress::during(args.time, "calls", &calls.done).await;
    calls.meter.measure(false);
    let (elapsed, server) = (began.elapsed(), target.cost(before));
    let done = calls.done.load(Ordering::Relaxed);
    calls.meter.stop();
    // The callers end their last calls, and then the callees are not called any more.
    sleep(Duration::from_millis(100)).await;
    calls.meter.finish();
    drop(timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await);
    tasks.shutdown().await;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let us_per_call = |cost: Cost| {
        let us = cost.cpu_percent * 10_000.0 * elapsed.as_secs_f64() / done.max(1) as f64;
        (us * 10.0).round() / 10.0
    };
    let report = Report {
        bench: "call",
        pairs: args.pairs,
        seconds: (elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
        calls_per_second: per_second(done, elapsed),
        invited: calls.latency(Stage::Invited),
        rings: calls.latency(Stage::Rings),
        accepted: calls.latency(Stage::Accepted),
        ended: calls.latency(Stage::Ended),
        call: calls.latency(Stage::Whole),
        errors: calls.meter.errors(),
        server,
        server_us_per_call: server.map(us_per_call),
    };
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    count.saturating_mul(1_000) / u64::try_from(elapsed.as_millis()).unwrap_or(1).max(1)
}

/// Calls until the load ends, one call after the other.
async fn make_calls(mut caller: Raw, callee: String, calls: Arc<Calls>) {
    let mut news = News::of(&caller);
    while !calls.meter.is_stopping() {
        match make_call(&mut caller, &mut news, &callee, &calls).await {
            Ok(()) if calls.meter.is_measuring() => drop(calls.done.fetch_add(1, Ordering::Relaxed)),
            Ok(()) => {}
            Err(failure) => {
                calls.meter.fail(&failure);
                if is_final(&failure) {
                    break;
                }
            }
        }
    }
    caller.close();
}

async fn make_call(caller: &mut Raw, news: &mut News, callee: &str, calls: &Calls) -> Result<(), Failure> {
    let began = Instant::now();
    let call_id = invite(caller, callee, calls.stamp(), ANSWERED_WITHIN_S).await?;
    calls.record(Stage::Invited, began.elapsed());
    let accepted = async {
        loop {
            let call = news.next().await?;
            let answer = call.call_user_list.iter().find(|user| user.user_id == callee);
            let answer = answer.filter(|user| call.call_id == call_id && user.state() == CallUserState::Accepted);
            if let Some(answer) = answer {
                return Ok::<_, Failure>(answer.extended_data.clone());
            }
        }
    };
    let accepted = timeout(DRAIN, accepted).await.map_err(|_| Failure::other("nobody has answered"))??;
    calls.record_since(Stage::Accepted, &accepted);
    let ending = Instant::now();
    caller.request(&CallEndRequest { call_id, config: None }).await?;
    calls.record(Stage::Ended, ending.elapsed());
    calls.record(Stage::Whole, began.elapsed());
    Ok(())
}

/// Accepts each call, until the load ends.
async fn answer_calls(mut callee: Raw, user_id: String, calls: Arc<Calls>) {
    let mut news = News::of(&callee);
    loop {
        let call = tokio::select! {
            call = news.next() => call,
            () = calls.meter.finished() => break,
        };
        let answered = match call {
            Ok(call) if is_ringing(&call, &user_id) => {
                calls.record_since(Stage::Rings, &call.extended_data);
                let config = Some(CallAcceptConfig { extended_data: calls.stamp() });
                callee.request(&CallAcceptRequest { call_id: call.call_id, config }).await.map(drop)
            }
            other => other.map(drop),
        };
        if let Err(failure) = answered {
            calls.meter.fail(&failure);
            if is_final(&failure) {
                break;
            }
        }
    }
    callee.close();
}

fn is_ringing(call: &CallInfo, user_id: &str) -> bool {
    call.state() == CallState::Started && state(call, user_id) == Some(CallUserState::Inviting)
}

async fn ring(
    args: &CallArgs,
    ringing: usize,
    pairs: Vec<Pair>,
    target: &Target,
    output: Output,
) -> Result<(), Failure> {
    let calls = Calls::new();
    calls.meter.measure(true);
    let before = target.sample();
    let bar = &progress::counting(u64::try_from(ringing).unwrap_or(u64::MAX), "calls ring");
    let (began, timeout_s) = (Instant::now(), i64::try_from(args.timeout.as_secs()).unwrap_or(i64::MAX));
    let (mut inviting, mut waiting) = (JoinSet::new(), JoinSet::new());
    let mut callees = Vec::with_capacity(pairs.len());
    for (index, Pair { mut caller, callee, callee_id }) in pairs.into_iter().enumerate() {
        callees.push(callee);
        let count = ringing / args.pairs + usize::from(index < ringing % args.pairs);
        let news = News::of(&caller);
        waiting.spawn(hear_of_timeouts(news, callee_id.clone(), (count, args.timeout), Arc::clone(&calls)));
        let (calls, bar) = (Arc::clone(&calls), bar.clone());
        let turns = args.rate.map(|rate| turns(rate, (index, args.pairs)));
        let mut pace = turns.map(|(first, step)| interval_at(tokio::time::Instant::now() + first, step));
        inviting.spawn(async move {
            for _ in 0..count {
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
                let asked = Instant::now();
                match invite(&mut caller, &callee_id, calls.stamp(), timeout_s).await {
                    Ok(_) => calls.record(Stage::Invited, asked.elapsed()),
                    Err(failure) => calls.meter.fail(&failure),
                }
                bar.inc(1);
            }
            caller
        });
    }
    let mut callers = Vec::with_capacity(callees.len());
    while let Some(caller) = inviting.join_next().await {
        callers.extend(caller);
    }
    let elapsed = began.elapsed();
    bar.finish_and_clear();
    let mut heard = 0;
    let all = async {
        while let Some(count) = waiting.join_next().await {
            heard += count.unwrap_or(0);
        }
    };
    drop(timeout(args.timeout + DRAIN, all).await);
    calls.meter.finish();
    while let Some(count) = waiting.join_next().await {
        heard += count.unwrap_or(0);
    }
    let server = target.cost(before);
    callers.into_iter().chain(callees).for_each(Raw::close);
    let report = RingingReport {
        bench: "call",
        pairs: args.pairs,
        ringing,
        timeout_s: args.timeout.as_secs(),
        invitations_per_second: per_second(u64::try_from(ringing).unwrap_or(u64::MAX), elapsed),
        invited: calls.latency(Stage::Invited),
        late: calls.latency(Stage::Whole),
        missing: ringing.saturating_sub(heard),
        errors: calls.meter.errors(),
        server,
    };
    if output.is_json() {
        return output.json(&report);
    }
    show_ringing(&report, output)
}

/// When one of the pairs invites for the first time, and how often from then on, if all of them together do so many times a second.
fn turns(rate: u32, (index, pairs): (usize, usize)) -> (Duration, Duration) {
    let [index, pairs] = [index, pairs].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let step = Duration::from_secs(1) / rate;
    (step * index, step * pairs)
}

/// Waits until the caller has heard of so many calls that nobody has answered, or the load ends. Returns how many these are.
async fn hear_of_timeouts(
    mut news: News,
    callee: String,
    (count, time): (usize, Duration),
    calls: Arc<Calls>,
) -> usize {
    let mut over = HashSet::with_capacity(count);
    while over.len() < count {
        let call = tokio::select! {
            call = news.next() => call,
            () = calls.meter.finished() => break,
        };
        match call {
            Ok(call) if state(&call, &callee) == Some(CallUserState::Timeout) => {
                let due = sent_at(&call.extended_data).map(|asked| asked + time);
                if let Some(due) = due.filter(|_| over.insert(call.call_id)) {
                    calls.record(Stage::Whole, calls.meter.since.elapsed().saturating_sub(due));
                }
            }
            Ok(_) => {}
            Err(failure) => {
                calls.meter.fail(&failure);
                break;
            }
        }
    }
    over.len()
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    output.line(format!(
        "{} pairs, a call at a time each, {:.0} s\n",
        thousands(report.pairs as u64),
        report.seconds
    ))?;
    let mut table = Table::new(&latency_columns("", "A SECOND"));
    table.row(latency_row("a call", report.calls_per_second, &report.call));
    let stages = [
        ("the invitation is answered", &report.invited),
        ("the callee has it", &report.rings),
        ("the caller knows of the acceptance", &report.accepted),
        ("the end is answered", &report.ended),
    ];
    for (what, latency) in stages {
        table.row(stage_row(what, latency));
    }
    output.table(&table)?;
    output.line("")?;
    show_errors(&report.errors, output)?;
    show_cost(report.server, output)?;
    match report.server_us_per_call {
        Some(server) => output.line(format!("per call {server} µs of the server")),
        None => Ok(()),
    }
}

fn show_ringing(report: &RingingReport, output: Output) -> Result<(), Failure> {
    output.line(format!(
        "{} calls of {} pairs ring for {} s, and nobody answers\n",
        thousands(report.ringing as u64),
        thousands(report.pairs as u64),
        report.timeout_s
    ))?;
    let mut table = Table::new(&latency_columns("", "A SECOND"));
    table.row(latency_row("the invitation is answered", report.invitations_per_second, &report.invited));
    table.row(stage_row("the caller knows of the timeout, late by", &report.late));
    output.table(&table)?;
    output.line("")?;
    show_errors(&report.errors, output)?;
    if report.missing > 0 {
        output.line(format!("missing  {} timeouts", thousands(report.missing as u64)))?;
    }
    show_cost(report.server, output)
}

#[cfg(test)]
mod tests {
    use zim_protocol::CallUserInfo;

    use super::*;

    #[test]
    fn pairs_take_turns() {
        let ms = Duration::from_millis;
        assert_eq!((turns(4, (0, 2)), turns(4, (1, 2))), ((ms(0), ms(500)), (ms(250), ms(500))));
    }

    #[test]
    fn the_options_have_the_limits_of_the_server() {
        assert_eq!((pairs("20"), ringing("1000")), (Ok(20), Ok(1_000)));
        assert!(pairs("0").is_err() && pairs("10001").is_err() && ringing("0").is_err() && ringing("x").is_err());
        assert_eq!((rate("1"), rate("100000")), (Ok(1), Ok(100_000)));
        assert!(rate("0").is_err() && rate("100001").is_err() && rate("-1").is_err());
        assert_eq!(answer_time("10m"), Ok(Duration::from_secs(600)));
        assert!(answer_time("0s").is_err() && answer_time("601s").is_err() && answer_time("5").is_err());
    }

    #[test]
    fn only_a_call_that_has_not_ended_rings() {
        let call = |state: CallState, user: CallUserState| CallInfo {
            state: state as i32,
            call_user_list: vec![CallUserInfo { user_id: "bob".into(), state: user as i32, ..CallUserInfo::default() }],
            ..CallInfo::default()
        };
        assert!(is_ringing(&call(CallState::Started, CallUserState::Inviting), "bob"));
        for other in [
            call(CallState::Ended, CallUserState::Inviting),
            call(CallState::Started, CallUserState::Accepted),
            CallInfo::default(),
        ] {
            assert!(!is_ringing(&other, "bob"));
        }
    }
}
