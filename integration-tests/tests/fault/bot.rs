//! The bot of the guide answers each message exactly once.

use std::path::Path;

use zim_integration_tests::TestDatabase;
use zim_integration_tests::campaign::run_bot;

/// Users write, and the bot and the server are killed this often.
const ROUNDS: u64 = 12;

#[tokio::test]
async fn a_bot_answers_each_message_once_while_it_and_the_server_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(folder.path());
    let programs = (Path::new(env!("CARGO_BIN_EXE_test-server")), Path::new(env!("CARGO_BIN_EXE_test-bot")));
    let tally = run_bot(programs, (folder.path(), database.url()), 1, |round| round < ROUNDS).await.unwrap();
    assert!(tally.bot_kills > 5 && tally.server_kills > 1 && tally.messages > 50, "{tally:?}");
}
