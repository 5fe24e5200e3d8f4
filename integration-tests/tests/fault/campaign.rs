//! Short campaigns of `just fault`, and tests of the harness itself: the checks detect planted faults by name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zim_integration_tests::campaign::{
    self, Action, Batching, CLUB, ClubVerb, Database, Kind, MessageVerb, Outcome, Plan, Planted, Programs, RoomVerb,
    Settings, SharedCluster, SocialAction, Step,
};
use zim_integration_tests::postgres::Cluster;

fn settings(planted: Option<Planted>) -> Settings {
    let [server, client] = [env!("CARGO_BIN_EXE_test-server"), env!("CARGO_BIN_EXE_test-client")].map(Into::into);
    // With a planted fault some conditions never come true, so the wait for them is shorter.
    let limit = if planted.is_some() { Duration::from_secs(8) } else { campaign::TIMEOUT };
    Settings { programs: Programs { server, client }, planted, limit }
}

async fn run(plan: Plan, planted: Option<Planted>, cluster: Option<&SharedCluster>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (seed, database) = (plan.seed, plan.database);
    let outcome = campaign::run(plan, &settings(planted), folder.path(), cluster).await;
    let has_failed = outcome.as_ref().map_or(true, |outcome| planted.is_none() && !outcome.violations.is_empty());
    // The logs of a failed run say more than its record.
    let folder = if has_failed { folder.keep() } else { folder.path().to_owned() };
    if has_failed {
        zim_integration_tests::print_line(format!("see {}", folder.display()));
    }
    outcome.unwrap_or_else(|error| panic!("{}\nseed {seed} on {database:?}: {error:#}", record(&folder)))
}

fn record(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("record.txt")).unwrap_or_default()
}

/// Runs a plan without a planted fault and asserts that there are no violations.
async fn passes(plan: Plan) {
    let cluster = (plan.database == Database::Postgres).then(|| Arc::new(Mutex::new(Cluster::private().unwrap())));
    let outcome = run(plan, None, cluster.as_ref()).await;
    assert!(outcome.violations.is_empty(), "{}{}\n{:#?}", outcome.plan, outcome.record.text(), outcome.violations);
    assert!(outcome.tally.acknowledged > 20, "too few calls were acknowledged: {:?}", outcome.tally);
}

fn database() -> Database {
    match std::env::var("ZIM_TEST_DATABASE").as_deref() {
        Ok("postgres") => Database::Postgres,
        _ => Database::Sqlite,
    }
}

/// Runs a plan with a few kinds of faults, so that each test takes a few seconds and together they cover every kind.
async fn passes_with(seed: u64, kinds: &[Kind]) {
    passes(Plan::of(seed, database(), kinds.to_vec())).await;
}

#[tokio::test]
async fn a_campaign_of_kills() {
    passes_with(1, &[Kind::KillServer, Kind::KillDevice, Kind::Poison]).await;
}

#[tokio::test]
async fn a_campaign_of_bad_networks() {
    passes_with(2, &[Kind::Cut, Kind::BadNetwork, Kind::NewAddress, Kind::LastPush]).await;
}

#[tokio::test]
async fn a_campaign_of_bad_disks_or_a_killed_postgres() {
    match database() {
        Database::Sqlite => passes_with(3, &[Kind::DiskFull, Kind::WriteFails]).await,
        Database::Postgres => passes_with(3, &[Kind::KillPostgres]).await,
    }
}

#[tokio::test]
async fn a_campaign_of_devices_that_are_away() {
    passes_with(4, &[Kind::Reset, Kind::CloseDevice, Kind::StopServer]).await;
}

#[tokio::test]
async fn a_campaign_of_restored_backups_and_wrong_clocks() {
    passes_with(5, &[Kind::Restore, Kind::JumpServer, Kind::JumpDevice]).await;
}

/// As a long run, with 20 users and 30 devices, but with few messages.
#[tokio::test]
async fn a_campaign_of_many_devices() {
    passes(Plan::long(6, database(), 300)).await;
}

/// Runs a seed with the planted fault and without it: the named check fails only with the fault.
async fn is_caught(planted: Planted, kinds: &[Kind], name: &str) {
    is_caught_in(Plan::of(11, Database::Sqlite, kinds.to_vec()), planted, name).await;
}

async fn is_caught_in(plan: Plan, planted: Planted, name: &str) {
    is_caught_as(plan, planted, &[name]).await;
}

async fn is_caught_as(plan: Plan, planted: Planted, names: &[&str]) {
    let outcome = run(plan.clone(), Some(planted), None).await;
    let found: Vec<&str> = outcome.violations.iter().map(|violation| violation.name).collect();
    for name in names {
        assert!(found.contains(name), "{planted:?} was not detected by {name}: {:#?}", outcome.violations);
    }
    passes(plan).await;
}

#[tokio::test]
async fn an_ack_before_the_commit_is_caught() {
    is_caught(Planted::AckBeforeCommit, &[Kind::KillServer], "acknowledged_lost").await;
}

#[tokio::test]
async fn a_push_without_its_position_is_caught() {
    let mut plan = Plan::of(11, Database::Sqlite, Vec::new());
    let (ann, bob) = (0, 2);
    let all = Step::Wait { answers: usize::MAX, at_most_ms: 10_000 };
    // Nothing comes after the last push that would let a device look.
    plan.steps.extend([
        all.clone(),
        Step::Action(ann, Action::Social { peer: "bob", action: SocialAction::Unblock }),
        all.clone(),
        Step::Action(bob, Action::Send { peer: "ann", is_poison: false }),
        all,
    ]);
    is_caught_in(plan, Planted::PushWithoutPosition, "device_behind").await;
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

#[tokio::test]
async fn attributes_of_rooms_that_nobody_is_told_of_are_caught() {
    is_caught(Planted::RoomAttributesHidden, &[], "room_views_differ").await;
}

#[tokio::test]
async fn messages_to_a_room_in_two_orders_are_caught() {
    is_caught(Planted::RoomMessagesReordered, &[], "room_order_differs").await;
}

#[tokio::test]
async fn a_call_whose_end_is_not_told_is_caught() {
    is_caught(Planted::CallEndsHidden, &[], "call_views_differ").await;
}

/// A plan at whose end ann sends bob a text, and bob's first device does these things with their conversation, one after the other.
fn with_verbs(verbs: &[MessageVerb]) -> Plan {
    let mut plan = Plan::of(11, Database::Sqlite, Vec::new());
    let (ann, bob) = (0, 2);
    let unblock = Action::Social { peer: "ann", action: SocialAction::Unblock };
    let send = Action::Send { peer: "bob", is_poison: false };
    let verbs = verbs.iter().map(|verb| (bob, Action::Change { peer: "ann", verb: *verb, pick: 11 }));
    add(&mut plan, [(bob, unblock), (ann, send)].into_iter().chain(verbs));
    plan
}

/// Adds what devices do, one after the other.
fn add(plan: &mut Plan, actions: impl IntoIterator<Item = (usize, Action)>) {
    for (device, action) in actions {
        plan.steps.push(Step::Action(device, action));
        plan.steps.push(Step::Wait { answers: usize::MAX, at_most_ms: 10_000 });
    }
}

#[tokio::test]
async fn answers_without_effect_are_caught() {
    let mut plan = with_verbs(&[]);
    let (ann, bob) = (0, 2);
    let change = |verb| (bob, Action::Change { peer: "ann", verb, pick: 11 });
    // A device has what it has sent, whatever it has received by then.
    add(
        &mut plan,
        [
            (ann, Action::Social { peer: "bob", action: SocialAction::Unblock }),
            (bob, Action::Send { peer: "ann", is_poison: false }),
            change(MessageVerb::ReceiptAll),
            change(MessageVerb::DeleteAll),
        ],
    );
    let names = ["room_lost", "call_lost", "receipts_lost", "deletion_lost"];
    is_caught_as(plan, Planted::AnswersWithoutEffect, &names).await;
}

/// A device that only receives has what it has raised.
#[tokio::test]
async fn answers_without_effect_to_a_device_that_only_receives_are_caught() {
    let mut plan = with_verbs(&[]);
    let bob = 2;
    let of_all = [MessageVerb::ReceiptAll, MessageVerb::DeleteAll];
    // Nobody else does it, and the device sends nothing.
    plan.steps.retain(|step| match step {
        Step::Action(_, Action::Change { verb, .. }) if of_all.contains(verb) => false,
        Step::Action(device, Action::Send { .. } | Action::Change { .. }) => *device != bob,
        _ => true,
    });
    plan.steps.push(Step::Heard { device: bob, at_most_ms: 10_000 });
    add(&mut plan, of_all.map(|verb| (bob, Action::Change { peer: "ann", verb, pick: 11 })));
    is_caught_as(plan, Planted::AnswersWithoutEffect, &["receipts_lost", "deletion_lost"]).await;
}

/// A plan at whose end devices do these things to the second group, to which nothing has happened before.
fn with_club(acts: &[(usize, Action)]) -> Plan {
    let mut plan = Plan::of(11, Database::Sqlite, Vec::new());
    plan.steps.retain(|step| match step {
        Step::Action(_, Action::Club { .. }) => false,
        Step::Action(_, Action::Send { peer, .. }) => *peer != CLUB,
        _ => true,
    });
    add(&mut plan, acts.iter().cloned());
    plan
}

fn club(user: &'static str, verb: ClubVerb) -> Action {
    Action::Club { user, verb }
}

#[tokio::test]
async fn a_mute_and_a_dismissal_without_effect_are_caught() {
    let (ann, bob, carl) = (0, 2, 4);
    let send = || Action::Send { peer: CLUB, is_poison: false };
    let plan = with_club(&[
        (bob, send()),
        (ann, club("ann", ClubVerb::MuteAll { lasts: true })),
        (bob, send()),
        (ann, club("ann", ClubVerb::Dismiss)),
        (carl, send()),
    ]);
    is_caught_as(plan, Planted::AnswersWithoutEffect, &["passed_a_mute", "dismissal_lost"]).await;
}

#[tokio::test]
async fn an_application_whose_end_is_not_told_is_caught() {
    let (ann, dora) = (0, 5);
    let plan = with_club(&[
        (ann, club("ann", ClubVerb::JoinMode(1))),
        (dora, club("dora", ClubVerb::Apply)),
        (ann, club("dora", ClubVerb::AcceptApplicant)),
    ]);
    is_caught_in(plan, Planted::ApplicationEndsHidden, "application_waits").await;
}

#[tokio::test]
async fn a_part_of_a_batch_is_caught() {
    let mut plan = with_club(&[]);
    let act = |device, verb| (device, Action::Room { room: "stage", user: "ann", verb });
    let set = RoomVerb::Batch(Batching::SetsAll);
    add(&mut plan, [act(0, RoomVerb::Enter), act(2, RoomVerb::Enter), act(0, set)]);
    is_caught_in(plan, Planted::BatchesTorn, "batch_torn").await;
}

/// Nothing is planted here: what a device alone has deleted is on its user's other device.
#[tokio::test]
async fn what_one_device_deletes_stays_on_the_others() {
    let here = [
        MessageVerb::Uncounted,
        MessageVerb::ReactMore,
        MessageVerb::ReactMore,
        MessageVerb::TakeBackAll,
        MessageVerb::DeleteHere,
        MessageVerb::DeleteAllHere,
        MessageVerb::Uncounted,
        MessageVerb::DeleteEverythingHere,
        MessageVerb::DeleteEverything,
    ];
    passes(with_verbs(&here)).await;
}

#[tokio::test]
async fn deletions_that_other_devices_are_not_told_of_are_caught() {
    let plan = with_verbs(&[MessageVerb::React, MessageVerb::DeleteSome]);
    is_caught_as(plan, Planted::DeletionsHidden, &["rows_differ", "deletion_not_raised"]).await;
}

#[tokio::test]
async fn a_message_that_combines_something_else_is_caught() {
    is_caught_in(with_verbs(&[MessageVerb::Combine]), Planted::CombinesOther, "combined_changed").await;
}
