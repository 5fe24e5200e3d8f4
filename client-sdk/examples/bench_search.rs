//! Local search over a million rows: the bigram index against FTS5's trigram tokenizer, which scans for keywords that
//! are too short for it. The results are in docs/decisions/0011-search-by-bigrams.md.
//!
//! `cargo run --release -p zim-client-sdk --example bench_search [ROWS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark with a database of its own"
)]

#[path = "../src/store/search.rs"]
#[expect(dead_code, reason = "the benchmark builds no index again")]
mod search;

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

const WORDS: &str = "the meeting is at noon and lunch after that see you there please bring charger photos from Saturday thanks \
                     Ann says hello to everybody we will go on Monday if it does not rain ok great where are you now almost home";
const HAN: &str = "我们明天中午开会然后一起吃饭请带上充电器照片很好看谢谢大家周一见如果不下雨就去公园你在哪里快到家了今天天气不错東京駅前で会いましょう";
/// Rows per page.
const PAGE: i64 = 30;
const RUNS: u32 = 5;

/// A random generator with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Half of the messages are English and half Chinese, of realistic length; one in 100,000 contains the rare keywords.
fn message(random: &mut Random, number: usize) -> String {
    let rare = if number.is_multiple_of(100_000) { " 鑫q Zanzibar " } else { "" };
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

fn size(db: &Connection) -> i64 {
    let number = |name| db.pragma_query_value::<i64, _>(None, name, |row| row.get(0)).unwrap();
    number("page_count") * number("page_size")
}

fn build(db: &Connection, name: &str, rows: &[String], schema: &str, insert: &str) {
    let before = size(db);
    let begun = Instant::now();
    db.execute_batch(schema).unwrap();
    for (number, rows) in rows.chunks(1_000).enumerate() {
        db.execute_batch("BEGIN").unwrap();
        let mut insert = db.prepare_cached(insert).unwrap();
        for (place, text) in rows.iter().enumerate() {
            insert.execute(params![i64::try_from(number * 1_000 + place).unwrap(), text]).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }
    let bytes = (size(db) - before) / 1_000_000;
    println!("{name}: {:.1} s, {bytes} MB", begun.elapsed().as_secs_f64());
}

fn ask(db: &Connection, sql: &str, query: &str) -> (Duration, usize) {
    let mut best = Duration::MAX;
    let mut found = 0;
    for _ in 0..RUNS {
        let begun = Instant::now();
        let mut statement = db.prepare_cached(sql).unwrap();
        let rows = statement.query_map(params![query, PAGE], |row| row.get::<_, i64>(0)).unwrap();
        found = rows.count();
        best = best.min(begun.elapsed());
    }
    (best, found)
}

fn main() {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let mut random = Random(7);
    let rows: Vec<String> = (0..rows).map(|number| message(&mut random, number)).collect();
    let file = std::env::temp_dir().join(format!("zim-search-{}.db", std::process::id()));
    let db = Connection::open(&file).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;").unwrap();
    search::install(&db).unwrap();
    build(
        &db,
        "texts",
        &rows,
        "CREATE TABLE text (id INTEGER PRIMARY KEY, body TEXT NOT NULL)",
        "INSERT INTO text (id, body) VALUES (?1, ?2)",
    );
    build(
        &db,
        "trigrams",
        &rows,
        "CREATE VIRTUAL TABLE trigram USING fts5 (body, content='', contentless_delete=1, tokenize='trigram')",
        "INSERT INTO trigram (rowid, body) VALUES (?1, ?2)",
    );
    build(
        &db,
        "bigrams",
        &rows,
        "CREATE VIRTUAL TABLE bigram USING fts5 (body, content='', contentless_delete=1, tokenize='ascii', prefix='4')",
        "INSERT INTO bigram (rowid, body) VALUES (?1, search_text(?2))",
    );
    println!("{:<12} {:>10} {:>10}", "keyword", "trigrams", "bigrams");
    for keyword in
        ["a", "鑫", "我", "會", "on", "q ", "明天", "鑫q", "饭我", "zanzibar", "monday", "中午开会", "nowhere"]
    {
        let long = keyword.chars().count() >= 3;
        let (sql, question) = if long {
            ("SELECT rowid FROM trigram WHERE trigram MATCH ?1 ORDER BY rowid DESC LIMIT ?2", format!("\"{keyword}\""))
        } else {
            ("SELECT id FROM text WHERE body LIKE '%' || ?1 || '%' ORDER BY id DESC LIMIT ?2", keyword.to_owned())
        };
        let (trigrams, theirs) = ask(&db, sql, &question);
        let query = search::query(&["body"], &[keyword]).unwrap();
        let sql = "SELECT rowid FROM bigram WHERE bigram MATCH ?1 ORDER BY rowid DESC LIMIT ?2";
        let (bigrams, ours) = ask(&db, sql, &query);
        assert_eq!(ours, theirs, "{keyword:?}");
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1_000.0);
        println!("{keyword:<12} {:>10} {:>10}   {ours} rows", ms(trigrams), ms(bigrams));
    }
    drop(db);
    for end in ["db", "db-wal", "db-shm"] {
        // The last two are normally removed by SQLite.
        let _ = std::fs::remove_file(file.with_extension(end));
    }
}
