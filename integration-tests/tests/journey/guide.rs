//! The first program of the guide, as a newcomer runs it.

use std::process::Command;

use zim_integration_tests::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_program_of_the_guide_runs() {
    let world = World::new().await;
    let (address, app) = (world.address().to_string(), world.server().first_app().clone());
    let arguments = [address, app.app_id.to_string(), app.app_sign.clone(), world.server().fingerprint().to_string()];
    let run = |arguments: Vec<String>| async move {
        let program = env!("CARGO_BIN_EXE_test-two-people");
        tokio::task::spawn_blocking(move || Command::new(program).args(arguments).output().unwrap()).await.unwrap()
    };
    let done = run(arguments.to_vec()).await;
    let (shown, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{errors}");
    let expected =
        ["sent: 1", "bob got a message from ann: hi bob", "bob has 1 unread from ann", "ann: hi bob", "bob: hi ann"];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    // A newcomer's mistakes are named.
    let refused = run(arguments[..3].to_vec()).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("pass the server's address"));
    world.end().await;
}
