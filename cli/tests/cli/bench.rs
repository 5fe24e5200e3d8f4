//! Benchmarks of groups: what happens beside the messages, and how a group grows.

use serde_json::json;

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
