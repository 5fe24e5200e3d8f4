//! Short campaigns of `just fault --nodes 2`, and a test of their harness: a node that ignores its lease is caught by name.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zim_integration_tests::campaign::{
    self, Action, Fault, Kind, NodeFault, Outcome, Plan, Planted, Programs, Settings, Step,
};
use zim_integration_tests::postgres::Cluster;

async fn run(plan: Plan, planted: Option<Planted>) -> Outcome {
    let [server, client] = [env!("CARGO_BIN_EXE_test-server"), env!("CARGO_BIN_EXE_test-client")].map(Into::into);
    // With a planted fault some conditions never come true.
    let limit = if planted.is_some() { Duration::from_secs(8) } else { campaign::TIMEOUT };
    let settings = Settings { programs: Programs { server, client }, planted, limit };
    let (folder, seed) = (tempfile::tempdir().unwrap(), plan.seed);
    let cluster = Arc::new(Mutex::new(Cluster::private().unwrap()));
    let outcome = campaign::run(plan, &settings, folder.path(), Some(&cluster)).await;
    let has_failed = outcome.as_ref().map_or(true, |outcome| planted.is_none() && !outcome.violations.is_empty());
    if has_failed {
        zim_integration_tests::print_line(format!("see {}", folder.keep().display()));
    }
    outcome.unwrap_or_else(|error| panic!("seed {seed} on two nodes: {error:#}"))
}

async fn passes(plan: Plan) {
    let outcome = run(plan, None).await;
    assert!(outcome.violations.is_empty(), "{}{}\n{:#?}", outcome.plan, outcome.record.text(), outcome.violations);
    assert!(outcome.tally.acknowledged > 20, "too few calls were acknowledged: {:?}", outcome.tally);
}

#[tokio::test]
async fn a_campaign_of_paused_nodes_and_devices_that_change_nodes() {
    passes(Plan::of_nodes(1, vec![Kind::PauseNode, Kind::ChangeNode, Kind::ClocksApart])).await;
}

#[tokio::test]
async fn a_campaign_of_killed_nodes_and_lost_connections() {
    passes(Plan::of_nodes(2, vec![Kind::KillNode, Kind::CutDatabase, Kind::KillBus])).await;
}

#[tokio::test]
async fn a_node_that_ignores_its_lease_is_caught() {
    let mut plan = Plan::of_nodes(11, Vec::new());
    // The first node, whose lease is never renewed, has devices 0, 2 and 4.
    let send = |device| Step::Action(device, Action::Send { peer: "dora", is_poison: false });
    plan.steps.extend([
        Step::Fault(Fault::Node(NodeFault::CutBus { node: 1, hangs: false })),
        // By then the lease is over.
        Step::Fault(Fault::Node(NodeFault::JoinBus { node: 1, after_ms: 6_000 })),
        send(0),
        send(2),
        send(4),
        Step::Wait { answers: usize::MAX, at_most_ms: 5_000 },
    ]);
    let outcome = run(plan.clone(), Some(Planted::IgnoresLease)).await;
    let found: Vec<&str> = outcome.violations.iter().map(|violation| violation.name).collect();
    assert!(found.contains(&"written_after_the_lease"), "{:#?}", outcome.violations);
    passes(plan).await;
}
