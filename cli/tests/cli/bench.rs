//! Benchmarks: `zim bench` by what each measures, and what happens beside the messages.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
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
        // It stands beside what both sides do until the disk has the file, if that is known.
        assert_eq!(transfers[what]["sdk"]["ratioSynced"].is_number(), ways.contains(&"plainSynced"), "{measured}");
        assert!(transfers[what]["plain"]["ratioSynced"].is_null(), "{measured}");
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

#[tokio::test]
async fn every_bench_measures() {
    let env = TestEnv::without_server();
    let binary = server_binary();
    let data = env.folder().join("sdk");
    let data = data.to_str().unwrap();
    for client in [&[][..], &["--sdk"], &["--sdk", "--sdk-data", data]] {
        let args = [
            "bench",
            "peer",
            "--server-bin",
            &binary,
            "--pairs",
            "2",
            "--window",
            "4",
            "--for",
            "1s",
            "--warm-up",
            "0s",
        ];
        let measured = env.zim("x", &[&args[..], client].concat()).await.json();
        assert!(measured["acknowledgedPerSecond"].as_u64().unwrap() > 0, "{measured}");
        assert!(measured["deliveredPerSecond"].as_u64().unwrap() > 0, "{measured}");
        assert_eq!(measured["errors"], serde_json::json!({}), "{measured}");
        assert_eq!(measured["missing"], 0, "{measured}");
        assert!(measured["ack"]["p50Ms"].as_f64().unwrap() > 0.0, "{measured}");
    }
    let login =
        env.zim("x", &["bench", "login", "--server-bin", &binary, "--clients", "4", "--for", "1s"]).await.json();
    assert!(login["loginsPerSecond"].as_u64().unwrap() > 0, "{login}");
    if cfg!(target_os = "linux") {
        assert_eq!(login["clientsNiceness"], 19, "{login}");
    }
    let idle = ["bench", "idle", "--server-bin", &binary, "--connections", "20", "--for", "1s", "--groups", "2"];
    assert_eq!(env.zim("x", &idle).await.json()["lost"], 0);
    let group = ["bench", "group", "--server-bin", &binary, "--for", "1s", "--warm-up", "0s"];
    for (sizes, pace) in [
        (&[3, 12][..], &["--members", "3,12", "--senders", "2"][..]),
        (&[12], &["--members", "12", "--online", "2", "--rate", "50"]),
        // Most members are a process of their own.
        (&[12], &["--members", "12", "--online", "6", "--rate", "50", "--senders", "2", "--parts", "2"]),
    ] {
        let measured = env.zim("x", &[&group[..], pace].concat()).await.json();
        assert_eq!(measured["groups"].as_array().unwrap().len(), sizes.len(), "{measured}");
        for (group, members) in measured["groups"].as_array().unwrap().iter().zip(sizes) {
            assert_eq!((&group["members"], &group["missing"]), (&(*members).into(), &0.into()), "{measured}");
            let numbers = ["messagesPerSecond", "deliveriesPerSecond"].map(|name| group[name].as_u64().unwrap());
            assert!(numbers.iter().all(|number| *number > 0), "{measured}");
            assert_eq!(group["errors"], serde_json::json!({}), "{measured}");
            assert!(group["lastDelivery"]["p50Ms"].as_f64().unwrap() > 0.0, "{measured}");
            let has_crowd = pace.contains(&"--rate");
            assert_eq!(group["pair"].is_object(), has_crowd, "{measured}");
            // Each message is counted in both processes: all who are online but its sender have it.
            if has_crowd {
                let receivers = group["online"].as_u64().unwrap() - 1;
                assert!(numbers[1] * 2 > numbers[0] * receivers, "{measured}");
            }
            if cfg!(target_os = "linux") {
                let niceness = if has_crowd { json!(19) } else { Value::Null };
                assert_eq!(group["crowdNiceness"], niceness, "{measured}");
                assert!(group["clientsUsPerDelivery"].is_number(), "{measured}");
            }
        }
    }
    let room = ["bench", "room", "--server-bin", &binary, "--for", "1s", "--warm-up", "0s", "--members", "3,12"];
    for kept in [&[][..], &["--set", "rooms.history=true"]] {
        let measured = env.zim("x", &[&room[..], kept].concat()).await.json();
        assert_eq!(measured["rooms"].as_array().unwrap().len(), 2, "{measured}");
        for (room, members) in measured["rooms"].as_array().unwrap().iter().zip([3, 12]) {
            assert_eq!((&room["online"], &room["missing"]), (&members.into(), &0.into()), "{measured}");
            assert!(room["deliveriesPerSecond"].as_u64().unwrap() > 0, "{measured}");
            assert_eq!(room["errors"], serde_json::json!({}), "{measured}");
            assert!(room["lastDelivery"]["p50Ms"].as_f64().unwrap() > 0.0, "{measured}");
        }
    }
    let readers = ["bench", "readers", "--server-bin", &binary, "--readers", "5", "--rounds", "2"];
    let measured = env.zim("x", &readers).await.json();
    for times in ["answered", "last", "pair", "pairMeanwhile"] {
        assert!(measured[times]["p50Ms"].as_f64().unwrap() > 0.0, "{times}: {measured}");
    }
    assert!(measured["pairRatio"].as_f64().unwrap() > 0.0, "{measured}");
    assert_eq!(measured["errors"], serde_json::json!({}), "{measured}");
    if cfg!(target_os = "linux") {
        assert_eq!(measured["crowdNiceness"], 19, "{measured}");
    }
    let call = ["bench", "call", "--server-bin", &binary, "--pairs", "2"];
    let measured = env.zim("x", &[&call[..], &["--for", "1s", "--warm-up", "0s"]].concat()).await.json();
    assert!(measured["callsPerSecond"].as_u64().unwrap() > 0, "{measured}");
    assert_eq!(measured["errors"], serde_json::json!({}), "{measured}");
    for stage in ["invited", "rings", "accepted", "ended", "call"] {
        assert!(measured[stage]["p50Ms"].as_f64().unwrap() > 0.0, "{stage}: {measured}");
    }
    let measured = env.zim("x", &[&call[..], &["--ringing", "20", "--timeout", "1s"]].concat()).await.json();
    assert_eq!((&measured["missing"], &measured["errors"]), (&0.into(), &serde_json::json!({})), "{measured}");
    assert!(measured["late"]["p50Ms"].as_f64().unwrap() > 0.0, "{measured}");
    let history = ["bench", "history", "--server-bin", &binary, "--depth", "1000", "--samples", "10"];
    assert!(env.zim("x", &history).await.json()["depth"].as_i64().unwrap() >= 1_000);
    let start = ["bench", "start", "--server-bin", &binary, "--for", "0s"];
    assert!(env.zim("x", &start).await.json()["readyMs"].as_u64().unwrap() > 0);
    let attack = ["bench", "attack", "--server-bin", &binary, "--only", "floods", "--for", "1s", "--live-pairs", "2"];
    let attack = env.zim("x", &attack).await.json();
    let responses = &attack["attacks"][0]["told"];
    assert!(responses["6000005 CommonModuleTriggerServerFrequencyLimit"].as_u64().unwrap() >= 1_000, "{attack}");
}

/// Returns the priority of what this thread starts.
#[cfg(target_os = "linux")]
fn niceness() -> i64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // Field 19, counted from the end of the name, which may contain anything.
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_clients_of_a_load_can_have_the_priority_of_the_pair() {
    let (env, binary) = (TestEnv::without_server(), server_binary());
    let same = ["--server-bin", &binary, "--same-priority"];
    let login = ["bench", "login", "--clients", "2", "--for", "1s", "--live-pairs", "1"];
    let login = env.zim("x", &[&login[..], &same].concat()).await.json();
    assert!(login["loginsPerSecond"].as_u64().unwrap() > 0, "{login}");
    #[cfg(target_os = "linux")]
    assert_eq!(login["clientsNiceness"], niceness(), "{login}");
    // Their process is told so, too.
    let readers = ["bench", "readers", "--readers", "3", "--rounds", "1", "--plain"];
    let shown = env.zim("x", &[&readers[..], &same].concat()).await;
    assert!(
        shown.stdout.contains("priority the members have the same as the pair"),
        "{}{}",
        shown.stdout,
        shown.stderr
    );
    // Without a rate nobody is measured beside the members.
    let refused = env.zim("x", &[&["bench", "group"][..], &same].concat()).await;
    assert!(refused.code == Some(2) && refused.stderr.contains("--rate"), "{}", refused.stderr);
}

/// The members of a benchmark are a process of their own, which it starts itself.
#[tokio::test]
async fn a_crowd_without_a_bench_is_refused() {
    let env = TestEnv::without_server();
    let refused = env.zim("x", &["bench", "crowd"]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(!env.zim("x", &["bench", "--help"]).await.stdout.contains("crowd"));
}

#[tokio::test]
async fn a_bench_takes_the_addresses_that_clients_take() {
    let env = TestEnv::new().await;
    let port = env.address().rsplit_once(':').unwrap().1.to_owned();
    let (app_id, fingerprint) = (env.app_id().to_string(), env.fingerprint());
    let bench = async |server: &str| {
        let server_args = ["--server", server, "--app-id", &app_id, "--app-sign", env.app_sign()];
        let idle = ["bench", "idle", "--fingerprint", &fingerprint, "--connections", "2", "--for", "0s"];
        env.zim("x", &[&idle[..], &server_args].concat()).await
    };
    // The letters in circles are an internationalized form of localhost.
    for host in ["127.0.0.1", "\u{24db}\u{24de}\u{24d2}\u{24d0}\u{24db}\u{24d7}\u{24de}\u{24e2}\u{24e3}"] {
        assert_eq!(bench(&format!("{host}:{port}")).await.json()["lost"], 0);
    }
    for (server, expected) in [
        (format!("0.0.0.0:{port}"), "a server listens on this address, but nothing can connect to it"),
        ("here".to_owned(), "it must have the form host:port"),
        ("no such host:1".to_owned(), "its host is not a valid name"),
    ] {
        let ran = bench(&server).await;
        assert!(ran.stderr.contains(&format!("{server:?}; {expected}")), "{}", ran.stderr);
    }
}
