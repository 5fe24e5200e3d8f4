//! 500 members of a group open it at once: each clears its unread messages and sends a receipt. How long until the last of them has
//! its answers, and what other users notice. A server and its clients in one process.
//!
//! `cargo run --release -p zim-integration-tests --example bench_readers`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, RawClient, World};
use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, ConversationType, GroupAdvancedConfig, GroupInfo, JoinGroupRequest,
    Message, MessageSendConfig, SendMessageReceiptsReadRequest,
};

const READERS: usize = 500;
const ROUNDS: usize = 20;
/// Between two messages of the other users.
const PAUSE: Duration = Duration::from_millis(2);

/// One reader opens the group; returns when it has both answers.
async fn opens(client: &mut RawClient, message: &Message) -> Instant {
    let (conversation_id, conversation_type) = ("crew".to_owned(), ConversationType::Group as i32);
    let clear = ClearConversationUnreadMessageCountRequest {
        conversation_id: conversation_id.clone(),
        conversation_type,
        through_seq: 0,
    };
    let receipt =
        SendMessageReceiptsReadRequest { message_list: vec![message.clone()], conversation_id, conversation_type };
    client.send_request(&clear).await;
    client.send_request(&receipt).await;
    client.responses(2).await;
    Instant::now()
}

/// Another pair of users writes until it is told to stop; returns how long each answer took.
async fn writes(cai: Arc<Device>, is_over: Arc<AtomicBool>) -> Vec<Duration> {
    let mut times = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        cai.say("dan", "hi").await;
        times.push(begun.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    times
}

fn percentile(times: &mut [Duration], permille: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * permille / 1_000).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

#[tokio::main]
async fn main() {
    let world = World::with(|config| {
        config.limits.max_group_members = 1_000;
        config.limits.handshakes_per_second_per_address = 1_000_000;
        config.limits.first_logins_per_second_per_address = 1_000_000;
        config.limits.first_login_burst_per_address = 1_000_000;
    })
    .await;
    let (ann, cai, _dan) = (world.user("ann").await, Arc::new(world.user("cai").await), world.user("dan").await);
    let info = GroupInfo { group_id: "crew".to_owned(), ..GroupInfo::default() };
    ann.create_group(info, Vec::<String>::new(), GroupAdvancedConfig::default()).await.unwrap();
    let mut readers = Vec::new();
    for number in 0..READERS {
        let mut reader = world.raw_user(&format!("reader{number}"), 0).await;
        reader.call(&JoinGroupRequest { group_id: "crew".to_owned() }).await.unwrap();
        readers.push(reader);
    }
    let (mut last, mut quiet, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
        let notification = MessageSendNotification::default();
        let sent = ann.send_message(Message::text("news"), "crew", ConversationType::Group, config, notification).await;
        let message = sent.unwrap().message.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let is_over = Arc::new(AtomicBool::new(false));
        let pair = tokio::spawn(writes(Arc::clone(&cai), Arc::clone(&is_over)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        is_over.store(true, Ordering::Relaxed);
        quiet.extend(pair.await.unwrap());
        let is_over = Arc::new(AtomicBool::new(false));
        let pair = tokio::spawn(writes(Arc::clone(&cai), Arc::clone(&is_over)));
        let begun = Instant::now();
        let done = join_all(readers.iter_mut().map(|reader| opens(reader, &message))).await;
        is_over.store(true, Ordering::Relaxed);
        busy.extend(pair.await.unwrap());
        last.extend(done.into_iter().max().map(|at| at - begun));
    }
    println!(
        "{READERS} readers: the last has its answers after {:.0} ms (median of {ROUNDS} rounds; at most {:.0} ms)",
        percentile(&mut last, 500),
        percentile(&mut last, 1_000)
    );
    println!(
        "another pair: p50 {:.2} ms, p99 {:.2} ms; meanwhile {:.2} ms and {:.2} ms ({} answers)",
        percentile(&mut quiet, 500),
        percentile(&mut quiet, 990),
        percentile(&mut busy, 500),
        percentile(&mut busy, 990),
        busy.len()
    );
    drop((readers, ann, cai));
}
