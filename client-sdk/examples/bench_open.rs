//! How soon a client with much history shows its list of conversations, and the memory that it takes.
//!
//! `cargo run --release -p zim-client-sdk --example bench_open [CONVERSATIONS] [MESSAGES]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark with a database of its own"
)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use prost::Message as _;
use rusqlite::{Connection, params};
use zim_client_sdk::{
    Config, ConversationFilterOption, ConversationQueryConfig, ConversationType, LoginConfig, MessageQueryConfig,
    Trust, Zim,
};
use zim_protocol::Message;

const RUNS: usize = 5;
const APP: u32 = 1;
const USER: &str = "ann";

/// A client without a server: the login is an offline login.
fn client(folder: &Path) -> Zim {
    let config = Config::new(APP, "127.0.0.1:1").app_sign("0".repeat(64)).trust(Trust::Fingerprint([0; 32]));
    Zim::new(config.data_dir(folder)).unwrap()
}

async fn log_in(zim: &Zim) {
    zim.login(USER, LoginConfig { is_offline_login: true, ..LoginConfig::default() }).await.unwrap();
}

/// Fills a database that the SDK made.
fn fill(folder: &Path, conversations: i64, messages: i64) {
    let file = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "db")).unwrap();
    let mut db = Connection::open(file).unwrap();
    let content = Message::text("x".repeat(60)).encode_to_vec();
    let tx = db.transaction().unwrap();
    let each = (messages / conversations).max(1);
    let start = 1_700_000_000_000_i64;
    for id in 1..=conversations {
        let (peer, last_ts) = (format!("peer-{id}"), start + id);
        tx.prepare_cached(
            "INSERT INTO conversation (id, type, name, seq, head_seq, is_known, last_ts, n, order_key, is_listed) \
             VALUES (?1, 0, ?2, ?3, ?3, 1, ?4, ?3, ?4, 1)",
        )
        .unwrap()
        .execute(params![id, peer, each, last_ts])
        .unwrap();
        tx.prepare_cached("INSERT INTO held (conversation, lo, hi) VALUES (?1, 1, ?2)")
            .unwrap()
            .execute([id, each])
            .unwrap();
        for seq in 1..=each {
            tx.prepare_cached(
                "INSERT INTO message (conversation, order_key, tie, seq, message_id, client_key, sender, ts, kind, flags, \
                 status, is_local, content, local_data) VALUES (?1, ?2 * 100, 0, ?2, ?3, zeroblob(16), ?4, ?5, 1, 1, 1, 0, ?6, '')",
            )
            .unwrap()
            .execute(params![id, seq, id * 10_000_000 + seq, peer, last_ts, content])
            .unwrap();
        }
    }
    tx.commit().unwrap();
}

/// The memory of this process in megabytes.
fn memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1_000.0
}

/// Opens a database in this process, which has done nothing else.
async fn measure(folder: &Path) {
    let zim = client(folder);
    let before = memory_mb();
    let began = Instant::now();
    log_in(&zim).await;
    let open = began.elapsed();
    let config = ConversationQueryConfig { count: 100, ..ConversationQueryConfig::default() };
    let list =
        zim.query_conversation_list(config, ConversationFilterOption::default()).await.unwrap().conversation_list;
    let listed = began.elapsed();
    let first = &list[0].conversation_id;
    let page = MessageQueryConfig { count: 30, reverse: true, ..MessageQueryConfig::default() };
    let page = zim.query_history_message(first, ConversationType::Peer, page).await.unwrap().message_list;
    println!(
        "open {:.1} ms, a list of {} {:.1} ms, a page of {} {:.1} ms, {:.1} MB more memory",
        open.as_secs_f64() * 1_000.0,
        list.len(),
        listed.as_secs_f64() * 1_000.0,
        page.len(),
        began.elapsed().as_secs_f64() * 1_000.0,
        memory_mb() - before
    );
    zim.destroy();
    zim.closed().await;
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, folder] = &arguments[..]
        && mode == "measure"
    {
        return measure(Path::new(folder)).await;
    }
    let number = |index: usize, default| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let (conversations, messages) = (number(0, 10_000), number(1, 1_000_000));
    let folder = std::env::temp_dir().join(format!("zim-bench-open-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // Only the last user can log in without a server.
    std::fs::write(folder.join(format!("last-user-{APP}")), USER).unwrap();
    let zim = client(&folder);
    log_in(&zim).await;
    zim.destroy();
    zim.closed().await;
    fill(&folder, conversations, messages);
    println!("{conversations} conversations, {messages} messages");
    for _ in 0..RUNS {
        let program = std::env::current_exe().unwrap();
        let status = Command::new(program).arg("measure").arg(&folder).status().unwrap();
        assert!(status.success());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
