//! `zim chat` on a terminal: the keys and the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::common::TestEnv;

const WITHIN: Duration = Duration::from_secs(30);
const CONTROL_D: &str = "\x04";

/// A program on a terminal.
pub(crate) struct Terminal {
    keyboard: File,
    output: mpsc::UnboundedReceiver<Vec<u8>>,
    parser: vt100::Parser,
    /// Everything that the program wrote.
    raw: Vec<u8>,
    child: Child,
    /// The program's end, which stays open.
    slave: File,
}

impl Terminal {
    pub(crate) fn start(env: &TestEnv, term: &str, columns: u16, profile: &str, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let end = || Stdio::from(OwnedFd::from(slave.try_clone().unwrap()));
        let mut command = env.command(profile, arguments);
        let child = command.env("TERM", term).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let (sender, output) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 1_024];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let parser = vt100::Parser::new(24, columns, 0);
        Self { keyboard, output, parser, raw: Vec::new(), child, slave }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Returns what the terminal shows.
    pub(crate) fn shown(&self) -> String {
        self.parser.screen().contents()
    }

    /// Waits until the terminal shows a text.
    pub(crate) async fn until(&mut self, what: &str) {
        while !self.shown().contains(what) {
            let bytes = timeout(WITHIN, self.output.recv()).await;
            let bytes = bytes.unwrap_or_else(|_| panic!("{what:?} is not shown:\n{}", self.shown())).unwrap();
            self.parser.process(&bytes);
            self.raw.extend(bytes);
        }
    }

    /// Returns how often the terminal shows a text.
    fn count(&self, what: &str) -> usize {
        self.shown().matches(what).count()
    }

    pub(crate) async fn end(mut self) {
        self.press(CONTROL_D);
        let ended = timeout(WITHIN, self.child.wait()).await;
        assert!(ended.expect("the chat ends").unwrap().success());
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "the terminal is not restored");
    }
}

async fn two_users() -> TestEnv {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    env
}

#[tokio::test]
async fn a_message_that_arrives_keeps_the_text_that_is_being_typed() {
    let env = two_users().await;
    let mut chat = Terminal::start(&env, "xterm", 80, "ann", &["chat", "bob"]);
    chat.until("nothing new").await;
    chat.press("hello hal");
    chat.until("> hello hal").await;
    env.zim("bob", &["send", "ann", "are you there?"]).await.ok();
    chat.until("bob  are you there?").await;
    chat.until("\n> hello hal").await;
    chat.press("l\x7flo\n");
    chat.until("ann  hello hallo ✓").await;
    assert_eq!(chat.count("hello hal"), 1, "{}", chat.shown());
    // Commands of the chat, and a line that the server refuses.
    chat.press("/help\n");
    chat.until("✓ means stored").await;
    chat.press(&format!("{}\n", "x".repeat(2_049)));
    chat.until("not sent").await;
    chat.press("still here\n");
    chat.until("ann  still here ✓").await;
    chat.end().await;
    env.end().await;
}

#[tokio::test]
async fn a_line_appears_once_in_a_narrow_window() {
    let env = two_users().await;
    let mut chat = Terminal::start(&env, "xterm", 30, "ann", &["chat", "bob"]);
    chat.until("nothing new").await;
    let text = "first words of a line that is much longer than a row of the window, and its last words";
    chat.press(text);
    chat.until("last words").await;
    chat.press("\n");
    chat.until("✓").await;
    assert_eq!((chat.count("first words"), chat.count("last words")), (1, 1), "{}", chat.shown());
    env.zim("bob", &["send", "ann", "answer"]).await.ok();
    chat.until("bob  answer").await;
    assert_eq!(chat.count("first words"), 1, "{}", chat.shown());
    chat.end().await;
    env.end().await;
}

#[tokio::test]
async fn a_dumb_terminal_gets_no_control_sequences() {
    let env = two_users().await;
    for term in ["dumb", ""] {
        let mut chat = Terminal::start(&env, term, 80, "ann", &["chat", "bob", "--count", "0"]);
        chat.until("nothing new").await;
        env.zim("bob", &["send", "ann", "from bob"]).await.ok();
        chat.until("from bob").await;
        chat.press("from ann\n");
        chat.until("✓").await;
        assert_eq!(chat.count("from ann"), 1, "{}", chat.shown());
        assert!(!chat.raw.contains(&0x1b), "{:?}", String::from_utf8_lossy(&chat.raw));
        chat.press("/quit\n");
        assert!(timeout(WITHIN, chat.child.wait()).await.unwrap().unwrap().success());
    }
    assert_eq!(env.zim("bob", &["conversation", "unread"]).await.json()["unreadMessageCount"], 2);
    env.end().await;
}
