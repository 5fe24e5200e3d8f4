//! A rolling upgrade, as `just rolling-upgrade` does it with two versions; here with one. It checks the order of the restarts, and
//! what is checked.

use std::time::Duration;

use zim_integration_tests::day::ServerProgram;
use zim_integration_tests::rolling::{self, Planted, Settings, Upgrade};

async fn upgrade(planted: Option<Planted>) -> Upgrade {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerProgram::that_serves(env!("CARGO_BIN_EXE_rolling"));
    let settings = Settings {
        old: server.clone(),
        new: server,
        stage: Duration::from_secs(1),
        folder: folder.path().to_owned(),
        planted,
    };
    let upgrade = Box::pin(rolling::run(settings)).await;
    upgrade.unwrap_or_else(|error| panic!("{error:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_replaced_one_after_the_other_and_nothing_is_lost() {
    let upgrade = upgrade(None).await;
    assert!(upgrade.violations.is_empty(), "{:#?}", upgrade.violations);
    // Without those that everybody writes to each other meanwhile there are 38.
    assert!(upgrade.acknowledged > 40 && upgrade.sent >= upgrade.acknowledged, "{upgrade:?}");
    assert_eq!(upgrade.schemas.0, upgrade.schemas.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_gone_after_an_upgrade_is_noticed() {
    let upgrade = upgrade(Some(Planted::ForgetsAMessage)).await;
    let is_found = |what: &str| upgrade.violations.iter().any(|violation| violation.contains(what));
    assert!(is_found("lacks messages that were acknowledged, 1 of them"), "{:#?}", upgrade.violations);
    assert!(is_found("have other histories"), "{:#?}", upgrade.violations);
}
