//! The examples of the SDK, as processes that somebody starts and kills.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use tokio::sync::mpsc;
use zim_integration_tests::{Device, World, group, soon, texts};
use zim_protocol::UserCustomStatusUpdateConfig;

/// A running example. It is killed on drop.
struct Example {
    child: Child,
    /// What it prints.
    lines: mpsc::UnboundedReceiver<String>,
    /// What it has printed so far.
    printed: Vec<String>,
}

impl Example {
    /// Starts it for the first app of the server, with further arguments.
    fn start(program: &str, world: &World, arguments: &[&str]) -> Self {
        let app = world.server().first_app();
        let mut child = Command::new(program)
            .args([world.address().to_string(), app.app_id.to_string(), app.app_sign.clone()])
            .arg(world.server().fingerprint().to_string())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Fails when the test does not read any more.
                let _ = sender.send(line);
            }
        });
        Self { child, lines, printed: Vec::new() }
    }

    /// Waits until it has printed this line.
    async fn prints(&mut self, expected: &str) {
        while !self.printed.iter().any(|line| line == expected) {
            let Some(line) = soon(self.lines.recv()).await else {
                panic!("it ended before it printed {expected:?}: {:?}", self.printed);
            };
            self.printed.push(line);
        }
    }

    /// Types a line.
    fn types(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends the input, and waits until it has ended by itself.
    async fn ends(mut self) {
        drop(self.child.stdin.take());
        while soon(self.lines.recv()).await.is_some() {}
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chat_shows_what_came_meanwhile_and_sends_what_is_typed() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    world.register(["ann"]).await;
    bob.say("ann", "are you there?").await;
    let mut chat = Example::start(env!("CARGO_BIN_EXE_test-chat"), &world, &["ann", "bob"]);
    chat.prints("bob: are you there?").await;
    // What others write does not control the terminal.
    bob.say("ann", "ring\u{7}").await;
    chat.prints("bob: ring ").await;
    for line in ["yes", "and now?"] {
        chat.types(line);
        bob.receives(line).await;
    }
    chat.ends().await;
    assert_eq!(texts(&bob.history("ann").await), ["are you there?", "ring\u{7}", "yes", "and now?"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_presence_board_shows_each_change_once() {
    let world = World::new().await;
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    let arguments = ["bob", "carl", "nobody"];
    let mut board = Example::start(env!("CARGO_BIN_EXE_test-presence-board"), &world, &arguments);
    board.prints("bob: online").await;
    board.prints("carl: online").await;
    soon(bob.update_user_custom_status("lunch", UserCustomStatusUpdateConfig::default())).await.unwrap();
    board.prints("bob: online, lunch").await;
    soon(bob.logout()).await;
    board.prints("bob: logged out, lunch").await;
    // Whatever the board prints of bob comes before this.
    soon(carl.logout()).await;
    board.prints("carl: logged out").await;
    let of_bob: Vec<&String> = board.printed.iter().filter(|line| line.starts_with("bob")).collect();
    assert_eq!(of_bob, ["bob: online", "bob: online, lunch", "bob: logged out, lunch"]);
    let refused = board.printed.iter().any(|line| line.starts_with("nobody: there is no such user"));
    assert!(refused, "{:?}", board.printed);
    board.kill();
    world.end().await;
}

/// Replies to a message in the group of the agents.
async fn reply(agent: &Device, to: &str, text: &str) {
    let message = agent.receives(to).await;
    let reply = agent.group(message.conversation_id.as_str()).reply(&message, text);
    soon(reply.into_future()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_support_desk_passes_each_message_on_once() {
    let world = World::new().await;
    let (ann, carl, eve) = (world.user("ann").await, world.user("carl").await, world.user("eve").await);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("desk");
    let arguments = [data.to_str().unwrap(), "eve"];
    let start = || Example::start(env!("CARGO_BIN_EXE_test-support-desk"), &world, &arguments);
    let mut desk = start();
    desk.prints("ready").await;

    ann.say("support", "my parcel is late").await;
    carl.say("support", "hello").await;
    reply(&eve, "ann: my parcel is late", "on it").await;
    ann.receives("on it").await;
    // What is no reply is for the agents alone, and a reply goes to one customer.
    eve.say(group("support-inbox"), "carl again").await;
    reply(&eve, "carl: hello", "good morning").await;
    carl.receives("good morning").await;
    desk.kill();

    ann.say("support", "are you there?").await;
    let mut desk = start();
    desk.prints("ready").await;
    reply(&eve, "ann: are you there?", "yes").await;
    ann.receives("yes").await;
    assert_eq!(texts(&ann.history("support").await), ["my parcel is late", "on it", "are you there?", "yes"]);
    assert_eq!(texts(&carl.history("support").await), ["hello", "good morning"]);
    let mut inbox = texts(&eve.history(group("support-inbox")).await);
    // Ann and carl wrote at the same time.
    inbox.sort();
    let mut expected = ["ann: my parcel is late", "carl: hello", "on it", "carl again", "good morning"].to_vec();
    expected.extend(["ann: are you there?", "yes"]);
    expected.sort_unstable();
    assert_eq!(inbox, expected);

    // Who is no agent any more is out, and a stranger does not get in.
    desk.kill();
    let without = [data.to_str().unwrap(), "carl"];
    let mut desk = Example::start(env!("CARGO_BIN_EXE_test-support-desk"), &world, &without);
    desk.prints("ready").await;
    soon(eve.group("support-inbox").members().next()).await.unwrap().unwrap_err();
    soon(ann.group("support-inbox").join()).await.unwrap_err();
    assert_eq!(soon(carl.group("support-inbox").member_count()).await.unwrap(), 2);
    desk.kill();
    world.end().await;
}
