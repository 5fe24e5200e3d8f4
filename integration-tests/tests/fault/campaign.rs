//! Short campaigns of `just fault`, and the harness itself put to the test: a server with a fault is caught, by name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zim_integration_tests::campaign::{
    self, Action, Database, Kind, Outcome, Plan, Planted, Programs, Settings, SharedCluster, SocialAction, Step,
};
use zim_integration_tests::postgres::Cluster;

fn settings(planted: Option<Planted>) -> Settings {
    let [server, client] = [env!("CARGO_BIN_EXE_test-server"), env!("CARGO_BIN_EXE_test-client")].map(Into::into);
    // What a fault keeps from ever happening need not be waited for as long as what must happen.
    let limit = if planted.is_some() { Duration::from_secs(8) } else { campaign::TIMEOUT };
    Settings { programs: Programs { server, client }, planted, limit }
}

async fn run(plan: Plan, planted: Option<Planted>, cluster: Option<&SharedCluster>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (seed, database) = (plan.seed, plan.database);
    let outcome = campaign::run(plan, &settings(planted), folder.path(), cluster).await;
    outcome.unwrap_or_else(|error| {
        panic!("{}\nseed {seed} on {database:?}: {error:#}", record(folder.path()));
    })
}

fn record(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("record.txt")).unwrap_or_default()
}

/// A plan and nothing planted: nothing is wrong.
async fn plays_well(plan: Plan) {
    let cluster = (plan.database == Database::Postgres).then(|| Arc::new(Mutex::new(Cluster::private().unwrap())));
    let outcome = run(plan, None, cluster.as_ref()).await;
    assert!(outcome.violations.is_empty(), "{}{}\n{:#?}", outcome.plan, outcome.record.text(), outcome.violations);
    assert!(outcome.tally.acknowledged > 20, "hardly anything was tested: {:?}", outcome.tally);
}

fn database() -> Database {
    match std::env::var("ZIM_TEST_DATABASE").as_deref() {
        Ok("postgres") => Database::Postgres,
        _ => Database::Sqlite,
    }
}

/// A few kinds at a time, so that each test takes a few seconds and every kind is met in every test run.
async fn meets(seed: u64, kinds: &[Kind]) {
    plays_well(Plan::of(seed, database(), kinds.to_vec())).await;
}

#[tokio::test]
async fn a_campaign_of_kills() {
    meets(1, &[Kind::KillServer, Kind::KillDevice, Kind::Poison]).await;
}

#[tokio::test]
async fn a_campaign_of_bad_networks() {
    meets(2, &[Kind::Cut, Kind::BadNetwork, Kind::NewAddress, Kind::LastPush]).await;
}

#[tokio::test]
async fn a_campaign_of_bad_disks_or_a_killed_postgres() {
    match database() {
        Database::Sqlite => meets(3, &[Kind::DiskFull, Kind::WriteFails]).await,
        Database::Postgres => meets(3, &[Kind::KillPostgres]).await,
    }
}

#[tokio::test]
async fn a_campaign_of_devices_that_are_away() {
    meets(4, &[Kind::Reset, Kind::CloseDevice, Kind::StopServer]).await;
}

#[tokio::test]
async fn a_campaign_of_restored_backups_and_wrong_clocks() {
    meets(5, &[Kind::Restore, Kind::JumpServer, Kind::JumpDevice]).await;
}

/// The same seed with the fault and without: caught by its name, and only because of it.
async fn is_caught(planted: Planted, kinds: &[Kind], name: &str) {
    is_caught_in(Plan::of(11, Database::Sqlite, kinds.to_vec()), planted, name).await;
}

async fn is_caught_in(plan: Plan, planted: Planted, name: &str) {
    let outcome = run(plan.clone(), Some(planted), None).await;
    let names: Vec<&str> = outcome.violations.iter().map(|violation| violation.name).collect();
    assert!(names.contains(&name), "{planted:?} was not caught as {name}: {:#?}", outcome.violations);
    plays_well(plan).await;
}

#[tokio::test]
async fn an_ack_before_the_commit_is_caught() {
    is_caught(Planted::AckBeforeCommit, &[Kind::KillServer], "acknowledged_lost").await;
}

#[tokio::test]
async fn a_push_without_its_position_is_caught() {
    is_caught(Planted::PushWithoutPosition, &[], "device_behind").await;
}

#[tokio::test]
async fn a_reused_key_with_the_old_answer_is_caught() {
    is_caught(Planted::ReusedKeyAnswersOld, &[], "reused_key_answered").await;
}

#[tokio::test]
async fn a_block_that_is_answered_before_it_takes_effect_is_caught() {
    let mut plan = Plan::of(11, Database::Sqlite, Vec::new());
    let (ann, bob) = (0, 2);
    let send = Step::Action(bob, Action::Send { peer: "ann", is_poison: false });
    let action = |action| Step::Action(ann, Action::Social { peer: "bob", action });
    let all = Step::Wait { answers: usize::MAX, at_most_ms: 10_000 };
    plan.steps.extend([
        action(SocialAction::Unblock),
        all.clone(),
        action(SocialAction::Block),
        all.clone(),
        send.clone(),
        send,
        all,
    ]);
    is_caught_in(plan, Planted::AnswerBeforeBlock, "passed_a_block").await;
}

#[tokio::test]
async fn a_feed_push_without_entries_is_caught() {
    is_caught(Planted::FeedWithoutEntries, &[], "lists_differ").await;
}
