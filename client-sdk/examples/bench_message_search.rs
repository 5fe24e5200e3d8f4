//! Local search in a million messages, through the SDK: how long they take to index, and the first page of each search.
//! Also how long the list takes with many conversations, and a change of one of them.
//!
//! `cargo run --release -p zim-client-sdk --example bench_message_search [MESSAGES] [CONVERSATIONS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark with a database of its own"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message as _;
use rusqlite::{Connection, params};
use zim_client_sdk::{
    Config, ConversationFilterOption, ConversationQueryConfig, ConversationSearchConfig, ConversationType, LoginConfig,
    Message, MessageSearchConfig, Trust, Zim,
};

const WORDS: &str = "the meeting is at noon and lunch after that see you there please bring charger photos from Saturday thanks \
                     Ann says hello to everybody we will go on Monday if it does not rain ok great where are you now almost home";
const HAN: &str = "我们明天中午开会然后一起吃饭请带上充电器照片很好看谢谢大家周一见如果不下雨就去公园你在哪里快到家了今天天气不错东京駅前で会いましょう";
const RUNS: u32 = 5;
const APP: u32 = 1;
const USER: &str = "ann";
const START: i64 = 1_700_000_000_000;

/// A random generator with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Half of the messages are English and half Chinese, of realistic length; one in 100,000 contains the rare keywords.
fn text(random: &mut Random, number: i64) -> String {
    let rare = if number % 100_000 == 0 { " 鑫q Zanzibar " } else { "" };
    let mut text = String::new();
    if random.below(2) == 0 {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        for _ in 0..3 + random.below(12) {
            text.push_str(words[random.below(words.len())]);
            text.push(' ');
        }
    } else {
        let characters: Vec<char> = HAN.chars().collect();
        text.extend((0..5 + random.below(20)).map(|_| characters[random.below(characters.len())]));
    }
    text + rare
}

/// A client without a server: the login is an offline login.
async fn client(folder: &Path) -> Zim {
    let config = Config::new(APP, "127.0.0.1:1").app_sign("0".repeat(64)).trust(Trust::Fingerprint([0; 32]));
    let zim = Zim::new(config.data_dir(folder)).unwrap();
    zim.login(USER, LoginConfig { is_offline_login: true, ..LoginConfig::default() }).await.unwrap();
    zim
}

fn database(folder: &Path) -> std::path::PathBuf {
    let file = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    file.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "db")).unwrap()
}

/// Fills a database that the SDK made. Half of the messages are in the first conversation.
fn fill(folder: &Path, conversations: i64, messages: i64) {
    let mut db = Connection::open(database(folder)).unwrap();
    let mut random = Random(7);
    let tx = db.transaction().unwrap();
    for id in 1..=conversations {
        tx.prepare_cached(
            "INSERT INTO conversation (id, type, name, is_known, last_ts, order_key, is_listed) VALUES (?1, 0, ?2, 1, ?3, ?3, 1)",
        )
        .unwrap()
        .execute(params![id, format!("peer-{id}"), START + id])
        .unwrap();
    }
    for number in 0..messages {
        let other = i64::try_from(random.below(usize::try_from(conversations).unwrap())).unwrap() + 1;
        let id = if number % 2 == 0 { 1 } else { other };
        let content = Message::text(text(&mut random, number)).encode_to_vec();
        tx.prepare_cached(
            "INSERT INTO message (conversation, order_key, tie, seq, message_id, client_key, sender, ts, kind, flags, \
             status, is_local, content, local_data) VALUES (?1, ?2 * 100, 0, ?2, ?2, zeroblob(16), ?3, ?4, 1, 1, 1, 0, ?5, '')",
        )
        .unwrap()
        .execute(params![id, number + 1, format!("peer-{id}"), START + number * 30_000, content])
        .unwrap();
    }
    tx.execute(
        "UPDATE conversation AS c SET head_seq = (SELECT MAX(seq) FROM message WHERE conversation = c.id), seq = head_seq",
        [],
    )
    .unwrap();
    tx.commit().unwrap();
}

/// The shortest of some runs.
async fn best<T>(mut run: impl AsyncFnMut() -> T) -> (f64, T) {
    let mut shortest = Duration::MAX;
    let mut last = None;
    for _ in 0..RUNS {
        let begun = Instant::now();
        last = Some(run().await);
        shortest = shortest.min(begun.elapsed());
    }
    (shortest.as_secs_f64() * 1_000.0, last.unwrap())
}

#[tokio::main]
async fn main() {
    let arguments: Vec<i64> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let messages = arguments.first().copied().unwrap_or(1_000_000);
    let conversations = arguments.get(1).copied().unwrap_or(10_000);
    let folder = std::env::temp_dir().join(format!("zim-bench-message-search-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // Only the last user can log in without a server.
    std::fs::write(folder.join(format!("last-user-{APP}")), USER).unwrap();
    let zim = client(&folder).await;
    zim.destroy();
    zim.closed().await;
    fill(&folder, conversations, messages);
    let before = std::fs::metadata(database(&folder)).unwrap().len();
    let zim = client(&folder).await;
    let asking = |keywords: &[&str]| MessageSearchConfig {
        keywords: keywords.iter().map(|keyword| (*keyword).to_owned()).collect(),
        ..MessageSearchConfig::default()
    };
    let begun = Instant::now();
    zim.search_global_local_messages(asking(&["a"])).await.unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let size = (std::fs::metadata(database(&folder)).unwrap().len() - before) / 1_000_000;
    println!("{messages} messages in {conversations} conversations: indexed in {seconds:.1} s, {size} MB more");
    println!(
        "{:<24} {:>12} {:>12} {:>16} {:>12}",
        "keywords", "everywhere", "in the first", "in a small one", "ascending"
    );
    for keywords in [
        &["a"][..],
        &["我"],
        &["鑫"],
        &["會"],
        &["on"],
        &["明天"],
        &["鑫q"],
        &["饭我"],
        &["zanzibar"],
        &["monday"],
        &["中午开会"],
        &["nowhere"],
        &["monday", "lunch"],
        &["a", "on", "t"],
        &[],
    ] {
        let config = asking(keywords);
        let (everywhere, found) = best(async || zim.search_global_local_messages(config.clone()).await.unwrap()).await;
        let of = async |name: &str| {
            best(async || zim.search_local_messages(name, ConversationType::Peer, config.clone()).await.unwrap())
                .await
                .0
        };
        let (large, small) = (of("peer-1").await, of("peer-77").await);
        let oldest = MessageSearchConfig { order: 1, ..config.clone() };
        let (ascending, _) = best(async || zim.search_global_local_messages(oldest.clone()).await.unwrap()).await;
        let rows = found.message_list.len();
        println!(
            "{:<24} {everywhere:>9.2} ms {large:>9.2} ms {small:>13.2} ms {ascending:>9.2} ms   {rows} rows",
            keywords.join(" ")
        );
    }
    for keywords in [&["a"][..], &["monday"], &["zanzibar"]] {
        let config = ConversationSearchConfig {
            keywords: keywords.iter().map(|keyword| (*keyword).to_owned()).collect(),
            conversation_message_count: 3,
            ..ConversationSearchConfig::default()
        };
        let (time, found) = best(async || zim.search_local_conversations(config.clone()).await.unwrap()).await;
        let most = found.conversation_search_info_list.iter().map(|info| info.total_message_count).max();
        println!("conversations with {}: {time:.2} ms, up to {most:?} matches", keywords.join(" "));
    }
    let config = ConversationQueryConfig { count: 100, ..ConversationQueryConfig::default() };
    let list = async || zim.query_conversation_list(config.clone(), ConversationFilterOption::default()).await.unwrap();
    println!("a list of 100: {:.2} ms", best(list).await.0);
    let marked = ConversationFilterOption { marks: vec![3], ..ConversationFilterOption::default() };
    let list = async || zim.query_conversation_list(config.clone(), marked.clone()).await.unwrap();
    println!("a filtered list that finds nothing: {:.2} ms", best(list).await.0);
    let draft = async || zim.set_conversation_draft("draft", "peer-77", ConversationType::Peer).await.unwrap();
    println!("a change of one conversation: {:.2} ms", best(draft).await.0);
    zim.destroy();
    zim.closed().await;
    std::fs::remove_dir_all(&folder).unwrap();
}
