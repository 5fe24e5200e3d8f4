//! `zim bench members`: joins into a large group and a small one, and the first and the last page of the list of members.

use std::time::{Duration, Instant};

use clap::Args;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use zim_protocol::{
    GroupMemberListQueriedResult, GroupMemberQueryConfig, InviteUsersIntoGroupRequest, JoinGroupRequest,
    QueryGroupMemberListRequest,
};

use super::histogram::{Histogram, Latency};
use super::members::{LOGINS_AT_ONCE, ROLE, create, group_id};
use super::process::Cost;
use super::raw::{Dialer, Raw};
use super::show::{latency_columns, latency_row, show_cost, thousands};
use super::target::Target;
use crate::exit::Failure;
use crate::output::{Output, Table, span};
use crate::progress;

/// Users of an invitation.
const INVITED: usize = 100;

/// `zim bench members`
#[derive(Clone, Debug, Args)]
pub(crate) struct MembersArgs {
    /// Members of the large group before the joins; each logs in once, some 1,300 a second
    #[arg(long, value_name = "N", default_value_t = 99_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    large: u32,
    /// Members of the small group before the joins
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    small: u32,
    /// Users who join both groups, one after the other
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    joins: u32,
    /// Members in a page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100))]
    page: i64,
    /// Pages of each kind
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    samples: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    joins: Joins,
    pages: Pages,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Joins {
    count: u32,
    small_members: u32,
    large_members: u32,
    small: Latency,
    large: Latency,
    /// The time of all joins together.
    small_seconds: f64,
    large_seconds: f64,
    /// The time of the joins into the large group, divided by that of those into the small one.
    ratio: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pages {
    members: u32,
    page: i64,
    first: Latency,
    last: Latency,
    /// The p50 of the last page, divided by that of the first.
    ratio: f64,
}

pub(crate) async fn run(args: MembersArgs, target: &Target, output: Output) -> Result<(), Failure> {
    if args.small >= args.large || args.large.saturating_add(args.joins) > 100_000 {
        return Err(Failure::usage("--large must be more than --small, and with --joins at most 100000"));
    }
    if args.page > i64::from(args.large + args.joins) {
        return Err(Failure::usage("--page must be at most --large and --joins together"));
    }
    let dialer = Dialer::new(target, 4)?;
    let ids = [args.small, args.large].map(|size| group_id(target, usize::try_from(size).unwrap_or(0)));
    fill(&args, &ids, target, &dialer, output).await?;
    let before = target.sample();
    let joins = join(&args, &ids, target, &dialer).await?;
    let [_, large] = &ids;
    let pages = pages(&args, large, target, &dialer).await?;
    let report = Report { bench: "members", joins, pages, server: target.cost(before) };
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
}

/// Registers the users, and fills both groups. Nobody is online afterwards.
async fn fill(
    args: &MembersArgs,
    ids: &[String; 2],
    target: &Target,
    dialer: &Dialer,
    output: Output,
) -> Result<(), Failure> {
    let users: Vec<String> = (0..args.large + args.joins).map(|number| user(target, number)).collect();
    output.note(format!("{} users log in once, and become members", thousands(users.len() as u64)));
    let bar = &progress::counting(users.len() as u64, "users");
    stream::iter(users.iter())
        .map(|user| async move {
            dialer.log_in_with_retries(user).await?.close();
            bar.inc(1);
            Ok::<_, Failure>(())
        })
        .buffer_unordered(LOGINS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    let mut owner = dialer.log_in_with_retries(&user(target, 0)).await?;
    for (group_id, size) in ids.iter().zip([args.small, args.large]) {
        create(&mut owner, group_id.clone(), Vec::new()).await?;
        let bar = progress::counting(size.into(), "members");
        let members = users.get(1..usize::try_from(size).unwrap_or(0)).unwrap_or_default();
        for some in members.chunks(INVITED) {
            let request = InviteUsersIntoGroupRequest { user_ids: some.to_vec(), group_id: group_id.clone() };
            if let Some(error) = owner.request(&request).await?.error_user_list.first() {
                return Err(Failure::other(format!("{} cannot be a member: {}", error.user_id, error.reason)));
            }
            bar.inc(some.len() as u64);
        }
        bar.finish_and_clear();
    }
    owner.close();
    Ok(())
}

fn user(target: &Target, number: u32) -> String {
    target.user(ROLE, usize::try_from(number).unwrap_or(usize::MAX))
}

async fn join(args: &MembersArgs, ids: &[String; 2], target: &Target, dialer: &Dialer) -> Result<Joins, Failure> {
    let mut measured = [Histogram::default(), Histogram::default()];
    let mut took = [Duration::ZERO; 2];
    let bar = progress::counting(args.joins.into(), "joins");
    for number in args.large..args.large + args.joins {
        let mut member = dialer.log_in_with_retries(&user(target, number)).await?;
        // Alternating, so that what comes first is not always the same, and a disturbance affects both.
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let began = Instant::now();
            member.request(&JoinGroupRequest { group_id: ids[which].clone() }).await?;
            measured[which].record(began.elapsed());
            took[which] += began.elapsed();
        }
        member.close();
        bar.inc(1);
    }
    bar.finish_and_clear();
    let [small, large] = measured.map(|histogram| histogram.summary());
    let [small_seconds, large_seconds] = took.map(|time| (time.as_secs_f64() * 1_000.0).round() / 1_000.0);
    let ratio = ratio(took[1], took[0]);
    let (small_members, large_members) = (args.small, args.large);
    Ok(Joins { count: args.joins, small_members, large_members, small, large, small_seconds, large_seconds, ratio })
}

fn ratio(of: Duration, to: Duration) -> f64 {
    (of.as_secs_f64() / to.as_secs_f64().max(f64::MIN_POSITIVE) * 100.0).round() / 100.0
}

async fn pages(args: &MembersArgs, group_id: &str, target: &Target, dialer: &Dialer) -> Result<Pages, Failure> {
    let mut reader = dialer.log_in_with_retries(&user(target, 0)).await?;
    // The last page that is as large as the first.
    let (mut flag, mut last, mut seen) = (0, 0, 0);
    let full = usize::try_from(args.page).unwrap_or(0);
    loop {
        let got = page(&mut reader, group_id, flag, args.page).await?;
        seen += got.user_list.len();
        if got.user_list.len() == full {
            last = flag;
        }
        flag = got.next_flag;
        if flag == 0 {
            break;
        }
    }
    let members = args.large + args.joins;
    if u32::try_from(seen) != Ok(members) {
        return Err(Failure::other(format!("the list has {seen} members instead of {members}")));
    }
    let mut measured = [Histogram::default(), Histogram::default()];
    let bar = progress::counting(args.samples, "pages");
    for _ in 0..args.samples {
        for (flag, histogram) in [0, last].into_iter().zip(&mut measured) {
            let began = Instant::now();
            let got = page(&mut reader, group_id, flag, args.page).await?;
            histogram.record(began.elapsed());
            if got.user_list.len() != full {
                return Err(Failure::other(format!("a page from {flag} has {} members", got.user_list.len())));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    reader.close();
    let [first, last] = measured.map(|histogram| histogram.summary());
    Ok(Pages { members, page: args.page, first, last, ratio: ratio(last.p50, first.p50) })
}

async fn page(
    reader: &mut Raw,
    group_id: &str,
    next_flag: i64,
    count: i64,
) -> Result<GroupMemberListQueriedResult, Failure> {
    let config = Some(GroupMemberQueryConfig { next_flag, count });
    reader.request(&QueryGroupMemberListRequest { group_id: group_id.to_owned(), config }).await
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    let Report { joins, pages, server, .. } = report;
    output.line(format!("{} users join, pages of {} members\n", thousands(joins.count.into()), pages.page))?;
    let mut table = Table::new(&latency_columns("", "MEMBERS"));
    for (what, members, latency) in [
        ("join, small", joins.small_members, &joins.small),
        ("join, large", joins.large_members, &joins.large),
        ("first page", pages.members, &pages.first),
        ("last page", pages.members, &pages.last),
    ] {
        table.row(latency_row(what, members.into(), latency));
    }
    output.table(&table)?;
    let spans = [joins.small_seconds, joins.large_seconds].map(|seconds| span(Duration::from_secs_f64(seconds)));
    output.line(format!(
        "\nThe joins into the large group take {} times as long as those into the small one ({} and {}).",
        joins.ratio, spans[1], spans[0]
    ))?;
    output.line(format!("The last page takes {} times as long as the first.", pages.ratio))?;
    show_cost(*server, output)
}
