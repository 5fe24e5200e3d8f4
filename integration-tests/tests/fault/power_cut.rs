//! The power is cut, and the disk loses what the server had not synced. A kill loses nothing of that.
//!
//! A server runs once, and a trace has what it writes. From that the data is rebuilt as a power cut would leave it, at every moment
//! around a sync and after an answer.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;
use zim_integration_tests::{
    Acknowledged, Chat, Device, PowerCuts, ServerInstallation, ServerProcess, eventually, group, soon,
};
use zim_protocol::{GroupAdvancedConfig, GroupInfo, Message};

use crate::killed_server::user;

const SEED: u64 = 13;
/// The server empties a log that is longer than this, in a pause.
const LONG_LOG: u64 = 4 << 20;
/// How long to wait for that before there is another pause.
const AGAIN: Duration = Duration::from_secs(2);

/// A server with a trace, and what it has acknowledged.
struct Run {
    folder: PathBuf,
    installation: ServerInstallation,
    server: ServerProcess,
    ann: Device,
    bob: Device,
    acknowledged: Vec<Acknowledged>,
    _dir: TempDir,
}

impl Run {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The trace has the real paths.
        let folder = dir.path().canonicalize().unwrap();
        let mut installation = ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), folder.join("data"), "");
        installation.trace = Some(folder.join("trace"));
        let server = installation.start().await.unwrap();
        let (ann, bob) = (user(&installation, &server, "ann").await, user(&installation, &server, "bob").await);
        let info = GroupInfo { group_id: "crew".into(), group_name: "The crew".into(), ..GroupInfo::default() };
        soon(ann.create_group(info, ["bob"], GroupAdvancedConfig::default())).await.unwrap();
        Self { folder, installation, server, ann, bob, acknowledged: Vec::new(), _dir: dir }
    }

    /// Notes in the trace that what is acknowledged is acknowledged.
    async fn mark(&mut self) {
        self.server.run(&format!("mark {}", self.acknowledged.len())).await.unwrap();
    }

    /// Sends a message and waits for the answer.
    async fn say(&mut self, to: Chat<'_>) {
        let text = format!("{} {}", self.acknowledged.len(), "x".repeat(1_800));
        let seq = self.ann.say(to, &text).await.message_seq;
        self.acknowledged.push(Acknowledged { text, seq });
        self.mark().await;
    }

    /// Sends many messages at once: the server stores several in one transaction.
    async fn burst(&mut self) {
        let first = self.acknowledged.len();
        let texts: Vec<String> = (first..first + 20).map(|number| format!("{number} of a burst")).collect();
        let calls: Vec<_> = texts.iter().map(|text| self.ann.send("bob", Message::text(text.as_str()))).collect();
        for (text, call) in texts.into_iter().zip(calls) {
            let seq = soon(call).await.unwrap().message_seq;
            self.acknowledged.push(Acknowledged { text, seq });
        }
        self.mark().await;
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.installation.folder.join("zim.db-wal")).map_or(0, |log| log.len())
    }

    /// Sends messages until the log is long and the server has emptied it.
    async fn until_the_log_is_emptied(&mut self) {
        let mut before = 0;
        loop {
            self.say("bob".into()).await;
            let now = self.log_bytes();
            if now > LONG_LOG || now < before {
                break;
            }
            before = now;
        }
        loop {
            let emptied = eventually("a short log", async || (self.log_bytes() <= LONG_LOG).then_some(()));
            if timeout(AGAIN, emptied).await.is_ok() {
                return;
            }
            // A reader was in the way. The server tries it again in the next pause.
            self.say("bob".into()).await;
        }
    }

    /// Rebuilds the data as after a power cut before an operation. A server starts on it, has what was acknowledged, and goes on.
    async fn goes_on(&self, cuts: &PowerCuts, at: usize) {
        let folder = self.folder.join(format!("after{at}"));
        let count = cuts.rebuild(at, SEED, &folder).unwrap();
        let mut installation = ServerInstallation::new(&self.installation.program, folder, "");
        let server = installation.start().await.unwrap_or_else(|error| panic!("after a cut at {at}: {error:#}"));
        let (ann, bob) = (user(&installation, &server, "ann").await, user(&installation, &server, "bob").await);
        let expected = &self.acknowledged[..count];
        eventually(&format!("the messages before a cut at {at}"), async || {
            let mut found = bob.history("ann").await;
            // The group was there before the first message.
            if count > 0 {
                found.extend(bob.history(group("crew")).await);
            }
            let has = |one: &Acknowledged| {
                found.iter().any(|message| message.message_seq == one.seq && message.as_text() == Some(&*one.text))
            };
            expected.iter().all(has).then_some(())
        })
        .await;
        ann.say("bob", "afterwards").await;
        bob.receives("afterwards").await;
        for device in [ann, bob] {
            device.quit().await;
        }
        server.kill();
    }

    async fn quit(&self) {
        self.ann.quit().await;
        self.bob.quit().await;
    }

    async fn cuts(&self) -> PowerCuts {
        let trace = self.installation.trace.as_ref().unwrap();
        PowerCuts::of(trace, &self.installation.folder).await.unwrap()
    }
}

#[tokio::test]
async fn acknowledged_messages_survive_every_power_cut() {
    let mut run = Run::start().await;
    for _ in 0..10 {
        run.say("bob".into()).await;
        run.say(group("crew")).await;
    }
    run.burst().await;
    run.until_the_log_is_emptied().await;
    run.say(group("crew")).await;
    run.burst().await;
    run.quit().await;
    // At its end the server copies the log into the database and removes it.
    run.server.run("stop").await.unwrap();
    let cuts = run.cuts().await;
    assert!(cuts.has_emptied("zim.db-wal"), "the log was never emptied");
    let (losses, reads) = cuts.losses(&run.acknowledged, SEED).unwrap();
    assert!(losses.is_empty(), "{losses:#?}");
    assert!(reads > run.acknowledged.len(), "only {reads} databases were read");
    // While it starts for the first time, while it runs, and at its end.
    let syncs = cuts.syncs();
    for sync in [2, 5, 9, syncs.len() / 2, syncs.len() - 1] {
        run.goes_on(&cuts, syncs[sync]).await;
    }
}

/// The names of what is lost by power cuts if SQLite waits for the disk as this level says.
async fn lost_with(level: &str) -> Vec<&'static str> {
    let mut run = Run::start().await;
    run.server.run(&format!("synchronous {level}")).await.unwrap();
    for _ in 0..5 {
        run.say("bob".into()).await;
    }
    run.quit().await;
    run.server.signal("KILL").unwrap();
    let (losses, _) = run.cuts().await.losses(&run.acknowledged, SEED).unwrap();
    losses.iter().map(|loss| loss.name).collect()
}

#[tokio::test]
async fn a_server_that_never_waits_for_the_disk_is_caught() {
    let lost = lost_with("OFF").await;
    assert!(lost.contains(&"acknowledged_lost"), "{lost:?}");
}

#[tokio::test]
async fn a_server_that_waits_for_the_disk_only_when_it_empties_the_log_is_caught() {
    let lost = lost_with("NORMAL").await;
    assert!(lost.contains(&"acknowledged_lost"), "{lost:?}");
}

/// The same with the level of the server shows that it is the level that is caught.
#[tokio::test]
async fn a_server_that_waits_for_the_disk_loses_nothing() {
    let lost = lost_with("FULL").await;
    assert!(lost.is_empty(), "{lost:?}");
}
