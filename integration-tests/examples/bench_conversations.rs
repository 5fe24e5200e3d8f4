//! What it costs to arrange one conversation of many: pinning, marking and clearing one, with 10 and with 10,000 conversations, and
//! how long a device takes that logs in for the first time. A server and its devices in one process.
//!
//! `cargo run --release -p zim-integration-tests --example bench_conversations`

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

use std::path::Path;
use std::time::{Duration, Instant};

use zim_integration_tests::{Device, World, eventually, group};
use zim_protocol::{
    ConversationBaseInfo, ConversationFilterOption, ConversationQueryConfig, ConversationType, GroupAdvancedConfig,
    GroupInfo, Message, MessageSearchConfig,
};

const KIND: ConversationType = ConversationType::Group;
/// How often each change is measured.
const RUNS: usize = 200;

/// The median of some durations, milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1_000.0
}

async fn timed<T>(what: impl Future<Output = Result<T, zim_client_sdk::Error>>) -> Duration {
    let begun = Instant::now();
    what.await.unwrap();
    begun.elapsed()
}

async fn listed(device: &Device, count: i64) -> usize {
    let config = ConversationQueryConfig { count, ..ConversationQueryConfig::default() };
    device.query_conversation_list(config, ConversationFilterOption::default()).await.unwrap().conversation_list.len()
}

async fn run(count: usize) -> [f64; 4] {
    let world = World::with(|config| {
        config.limits.max_groups = 10_000;
        config.limits.requests_per_second = 1_000_000;
        config.limits.request_burst = 1_000_000;
        config.limits.messages_per_second = 1_000_000;
        config.limits.message_burst = 1_000_000;
    })
    .await;
    let (phone, bob) = (world.user("ann").await, world.user("bob").await);
    for some in (0..count).collect::<Vec<_>>().chunks(50) {
        let made = some.iter().map(|number| {
            let info = GroupInfo { group_id: format!("g{number}"), ..GroupInfo::default() };
            // Bob writes to the first ones.
            let members = (*number < 5).then_some("bob");
            phone.create_group(info, members, GroupAdvancedConfig::default())
        });
        for one in futures_util::future::join_all(made).await {
            one.unwrap();
        }
    }
    let (mut pins, mut marks, mut clears) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let id = format!("g{}", run % 5);
        let is_pinned = run / 5 % 2 == 0;
        pins.push(timed(phone.update_conversation_pinned_state(is_pinned, &id, KIND)).await);
        let info = ConversationBaseInfo { conversation_id: id.clone(), conversation_type: KIND as i32 };
        marks.push(timed(phone.set_conversation_mark(3, is_pinned, vec![info])).await);
        bob.say(group(&id), &format!("hi {run}")).await;
        phone.receives(&format!("hi {run}")).await;
        clears.push(timed(phone.clear_conversation_unread_message_count(&id, KIND)).await);
    }
    let begun = Instant::now();
    let fresh = world.device("ann").await;
    let first = listed(&fresh, 100).await;
    let first_login = begun.elapsed();
    assert_eq!(first, count.min(100));
    eventually("all conversations", async || (listed(&fresh, 20_000).await == count).then_some(())).await;
    world.end().await;
    [median(pins), median(marks), median(clears), first_login.as_secs_f64() * 1_000.0]
}

/// Returns how many messages a device has indexed.
fn indexed(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "db")).unwrap();
    let db = rusqlite::Connection::open(file).unwrap();
    let count: i64 = db.query_row("SELECT COUNT(*) FROM message_doc", [], |row| row.get(0)).unwrap();
    usize::try_from(count).unwrap()
}

/// Receives messages, of which a part is indexed for the search meanwhile. Returns how many arrived in a second, and which part of
/// the time their indexing took, judged by what the search needs for the rest.
async fn receive(count: usize) -> (f64, f64) {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let begun = Instant::now();
    for some in (0..count).collect::<Vec<_>>().chunks(200) {
        let text = |number| format!("message {number} about a meeting at noon and lunch after that");
        let sends = some.iter().map(|number| ann.send("bob", Message::text(text(number))));
        for sent in futures_util::future::join_all(sends).await {
            sent.unwrap();
        }
    }
    bob.receives(&format!("message {} about a meeting at noon and lunch after that", count - 1)).await;
    let elapsed = begun.elapsed();
    let indexed = indexed(bob.dir().path());
    let search = MessageSearchConfig { keywords: vec!["lunch".to_owned()], ..MessageSearchConfig::default() };
    let rest = timed(bob.search_global_local_messages(search)).await;
    world.end().await;
    let each = rest.as_secs_f64() / (count - indexed).max(1) as f64;
    (count as f64 / elapsed.as_secs_f64(), each * indexed as f64 / elapsed.as_secs_f64())
}

#[tokio::main]
async fn main() {
    let (rate, part) = receive(100_000).await;
    println!("{rate:.0} messages received in a second; their indexing takes {:.1} % of the time", part * 100.0);
    println!("{:>14} {:>9} {:>9} {:>9} {:>12}", "conversations", "pin", "mark", "clear", "first login");
    // The first run warms up.
    for count in [10, 10, 10_000, 10, 10_000] {
        let [pin, mark, clear, login] = run(count).await;
        println!("{count:>14} {pin:>6.2} ms {mark:>6.2} ms {clear:>6.2} ms {login:>9.1} ms");
    }
}
