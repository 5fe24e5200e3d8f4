//! Signals end commands gracefully.

use rustix::process::Signal;

use crate::common::TestEnv;

const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Waits until the server lists one session of the user.
async fn until_logged_in(env: &TestEnv, user: &str) {
    env.until(async || sessions(env, user).await == 1).await;
}

async fn sessions(env: &TestEnv, user: &str) -> usize {
    env.zim("ann", &["admin", "sessions", user, "--server-data", env.data()]).await.ok().lines().len()
}

#[tokio::test]
async fn a_signal_takes_the_user_offline_at_once() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    for signal in SIGNALS {
        for command in [&["listen"][..], &["chat", "ann"]] {
            let mut running = env.start("bob", command);
            until_logged_in(&env, "bob").await;
            // The command waits for events or input once its local copy is complete.
            env.until(async || env.zim("ann", &["status", "show", "bob"]).await.json()["onlineStatus"] == 0).await;
            running.signal(signal);
            running.finish_with_open_input().await.ok();
            let status = env.zim("ann", &["status", "show", "bob"]).await.json();
            assert_ne!(status["onlineStatus"], 0, "{command:?} {signal:?}");
        }
    }
    env.end().await;
}

#[tokio::test]
async fn a_signal_ends_the_login_of_a_short_command() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    for signal in SIGNALS {
        let mut running = env.start("bob", &["send", "ann", "--lines", "-"]);
        until_logged_in(&env, "bob").await;
        running.write("one\n").await;
        env.until(async || env.zim("ann", &["conversation", "unread"]).await.json()["unreadMessageCount"] == 1).await;
        running.signal(signal);
        let ended = running.finish_with_open_input().await;
        assert_eq!(ended.code, Some(128 + signal.as_raw()), "{}", ended.stderr);
        assert_eq!(sessions(&env, "bob").await, 0);
        env.zim("ann", &["conversation", "clear", "bob"]).await.ok();
    }
    env.end().await;
}

#[tokio::test]
async fn nohup_keeps_a_listener() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let listen = ["listen", "--event", "peerMessageReceived", "--count", "1"];
    let mut running = env.start_after("trap '' HUP", "bob", &listen);
    until_logged_in(&env, "bob").await;
    running.signal(Signal::HUP);
    env.zim("ann", &["send", "bob", "still there?"]).await.ok();
    assert!(running.finish().await.ok().stdout.contains("still there?"));
    env.end().await;
}
