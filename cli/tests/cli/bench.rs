//! Benchmarks of groups: what happens beside the messages, and how a group grows. And of files.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::common::{TestEnv, server_binary};

#[tokio::test]
async fn a_busy_group_is_measured_in_parts() {
    let (env, binary) = (TestEnv::without_server(), server_binary());
    let group = ["bench", "group", "--server-bin", &binary, "--members", "30", "--online", "5", "--rate", "50"];
    let life = ["--churn", "2", "--reactions", "20", "--receipts", "20"];
    let time = ["--for", "2s", "--warm-up", "1s", "--parts", "2"];
    let measured = env.zim("x", &[&group[..], &life, &time].concat()).await.json();
    let busy = &measured["groups"][0];
    for number in ["movesPerSecond", "reactionsPerSecond", "receiptsPerSecond"] {
        assert!(busy[number].as_u64().unwrap() > 0, "{number}: {measured}");
    }
    assert_eq!((&busy["missing"], &busy["errors"]), (&0.into(), &json!({})), "{measured}");
    assert!(busy["pairRatio"].as_f64().unwrap() > 0.0, "{measured}");
    let parts = busy["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{measured}");
    for part in parts {
        assert!(part["deliveries"].as_u64().unwrap() > 0, "{part}");
        assert!(part["delivery"]["p50Ms"].as_f64().unwrap() > 0.0, "{part}");
        assert!(part["mostWaitingJobs"].is_u64() && part["mostUnreadBytes"].is_u64(), "{part}");
    }
}

#[tokio::test]
async fn joins_and_pages_of_members_are_measured() {
    let (env, binary) = (TestEnv::without_server(), server_binary());
    let members = ["bench", "members", "--server-bin", &binary, "--large", "205", "--small", "3", "--page", "10"];
    let measured = env.zim("x", &[&members[..], &["--joins", "4", "--samples", "5"]].concat()).await.json();
    let (joins, pages) = (&measured["joins"], &measured["pages"]);
    assert_eq!((&joins["count"], &pages["members"]), (&4.into(), &209.into()), "{measured}");
    for latency in [&joins["small"], &joins["large"], &pages["first"], &pages["last"]] {
        assert!(latency["p50Ms"].as_f64().unwrap() > 0.0, "{measured}");
    }
    for ratio in [&joins["ratio"], &pages["ratio"]] {
        assert!(ratio.as_f64().unwrap() > 0.0, "{measured}");
    }
    let refused = env.zim("x", &[&members[..], &["--joins", "99796"]].concat()).await;
    assert!(refused.stderr.contains("at most 100000"), "{}", refused.stderr);
}

#[tokio::test]
async fn nodes_that_cannot_be_measured_are_refused() {
    let (env, binary) = (TestEnv::without_server(), server_binary());
    let cluster = ["bench", "cluster", "--server-bin", &binary, "--bus", "nats://127.0.0.1:1"];
    for (arguments, expected) in [
        (&["--database", "sqlite://zim.db"][..], "several nodes need PostgreSQL"),
        (&["--nodes", "1"], "2 to 8"),
        (&["--seconds", "0"], "at least a second"),
    ] {
        let refused = env.zim("x", &[&cluster[..], arguments].concat()).await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    let running = ["bench", "cluster", "--server", "127.0.0.1:4710"];
    let refused = env.zim("x", &running).await;
    assert!(refused.code == Some(2) && refused.stderr.contains("starts the servers"), "{}", refused.stderr);
}

/// What a plain file server has done.
#[derive(Default)]
struct Kept {
    file: Vec<u8>,
    puts: usize,
    gets: usize,
}

/// A plain file server: it keeps the last file that it gets, and gives it to everybody.
async fn plain_server() -> (String, Arc<Mutex<Kept>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/files", listener.local_addr().unwrap());
    let kept = Arc::<Mutex<Kept>>::default();
    let shared = Arc::clone(&kept);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(stream.read_line(&mut head).await.unwrap() > 0, "{head}");
            }
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).await.unwrap();
            let file = {
                let mut kept = shared.lock();
                if head.starts_with("PUT /files/zim-bench-") {
                    (kept.file, kept.puts) = (body, kept.puts + 1);
                    Vec::new()
                } else {
                    assert!(head.starts_with("GET /files/zim-bench-"), "{head}");
                    kept.gets += 1;
                    kept.file.clone()
                }
            };
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", file.len());
            stream.write_all(&[head.as_bytes(), &file].concat()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (url, kept)
}

#[tokio::test]
async fn files_are_measured_and_compared_with_a_plain_server() {
    let (env, binary) = (TestEnv::without_server(), server_binary());
    let (url, kept) = plain_server().await;
    let folder = env.folder().to_str().unwrap();
    let media = ["bench", "media", "--server-bin", &binary, "--folder", folder];
    let small = ["--bytes", "200000", "--rounds", "2", "--uploads", "3", "--upload-bytes", "150000"];
    let measured = env.zim("x", &[&media[..], &small, &["--against", &url]].concat()).await.json();
    let transfers = &measured["transfers"];
    assert_eq!((&transfers["against"], &transfers["tls"]), (&json!(url), &json!(false)), "{measured}");
    for (what, ways) in
        [("upload", &["plain", "sdk", "sdkTransfer"][..]), ("download", &["curl", "plain", "plainSynced", "sdk"][..])]
    {
        let measured_ways: Vec<&String> = transfers[what].as_object().unwrap().keys().collect();
        assert_eq!(measured_ways, ways, "{measured}");
        for way in ways {
            let rate = &transfers[what][way];
            let number = |name: &str| rate[name].as_u64().unwrap();
            let median = number("medianBytesPerSecond");
            assert!(number("lowestBytesPerSecond") > 0, "{way}: {measured}");
            let range = number("lowestBytesPerSecond")..=number("highestBytesPerSecond");
            assert!(range.contains(&median), "{way}: {measured}");
        }
        assert_eq!(transfers[what]["plain"]["ratio"], 1.0, "{measured}");
    }
    {
        // Each time in three rounds, of which the first does not count.
        let kept = kept.lock();
        assert_eq!((kept.file.len(), kept.puts, kept.gets), (200_000, 3, 3));
    }
    let texts = &measured["texts"];
    for (times, count) in [("alone", "aloneCount"), ("meanwhile", "meanwhileCount")] {
        assert!(texts[times]["p99Ms"].as_f64().unwrap() > 0.0, "{measured}");
        assert!(texts[count].as_u64().unwrap() > 0, "{measured}");
    }
    assert!(texts["ratio"].as_f64().unwrap() > 0.0, "{measured}");
    let memory = &measured["memory"];
    assert_eq!((&memory["uploads"], &memory["bytes"]), (&json!(3), &json!(150_000)), "{measured}");
    assert!((1..=3).contains(&memory["mostAtOnce"].as_u64().unwrap()), "{measured}");
    if cfg!(target_os = "linux") {
        let of = |name: &str| memory[name].as_u64().unwrap();
        assert_eq!(of("mostBytes") - of("idleBytes"), of("moreBytes"), "{measured}");
        assert!(of("idleBytes") > 0, "{measured}");
    }
    // Nothing is left behind.
    let left = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("zim-bench-")).collect();
    assert!(left.is_empty(), "{left:?}");

    let texts = env.zim("x", &[&media[..], &small, &["--only", "texts"]].concat()).await.json();
    assert!(texts["texts"].is_object() && texts["transfers"].is_null() && texts["memory"].is_null(), "{texts}");
    let nowhere = ["--only", "transfers", "--nginx", "/nowhere/nginx"];
    let refused = env.zim("x", &[&media[..], &small, &nowhere].concat()).await;
    assert!(refused.stderr.contains("/nowhere/nginx cannot be started"), "{}", refused.stderr);
    let refused = env.zim("x", &[&media[..], &["--against", "ftp://127.0.0.1"]].concat()).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}
