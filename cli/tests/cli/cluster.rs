//! The benchmark of several nodes, which needs PostgreSQL and NATS: `just test-nodes` runs it.

use serde_json::{Value, json};

use crate::common::{TestEnv, server_binary};

/// The median of a measured value.
fn median(value: &Value) -> f64 {
    value["median"].as_f64().unwrap_or_else(|| panic!("no median: {value}"))
}

#[tokio::test]
async fn two_nodes_are_measured_and_compared_with_one_server() {
    let (env, binary) = (TestEnv::without_server(), server_binary());
    // Several deployments may share a bus, but not a database: that one is started for the benchmark.
    let bus = std::env::var("ZIM_TEST_NATS").ok();
    let mut arguments = vec!["bench", "cluster", "--server-bin", &binary, "--pairs", "3", "--window", "4"];
    arguments.extend(["--seconds", "1", "--warm-up", "0s", "--rounds", "1", "--costs"]);
    arguments.extend(bus.iter().flat_map(|bus| ["--bus", bus.as_str()]));
    let measured = env.zim("x", &arguments).await.json();
    assert_eq!((&measured["nodes"], &measured["rounds"]), (&2.into(), &1.into()), "{measured}");
    for deployment in ["one", "many", "calm", "alone"] {
        let deployment = &measured[deployment];
        assert_eq!((&deployment["missing"], &deployment["errors"]), (&0.into(), &json!({})), "{measured}");
        for name in ["acknowledgedPerSecond", "deliveredPerSecond", "ackP50Ms", "deliveryP99Ms"] {
            assert!(median(&deployment[name]) > 0.0, "{name}: {measured}");
        }
        assert!(median(&deployment["messagesPerCommit"]) >= 1.0, "{measured}");
        #[cfg(target_os = "linux")]
        for name in ["serversUsPerMessage", "clientsUsPerMessage", "databaseUsPerMessage"] {
            assert!(median(&deployment[name]) > 0.0, "{name}: {measured}");
        }
    }
    // One message at a time: hardly any commit has something else in it.
    assert!(median(&measured["calm"]["messagesPerCommit"]) < 2.0, "{measured}");
    for name in ["throughputRatio", "ackP99Ratio", "deliveryP99Ratio"] {
        assert!(median(&measured[name]) > 0.0, "{name}: {measured}");
    }
    // A server without a bus tells nobody. A message of 200 bytes is in its hint.
    assert!(measured["one"].get("bus").is_none(), "{measured}");
    for nodes in ["alone", "many"] {
        let bus = &measured[nodes]["bus"];
        assert!(median(&bus["stateHintsPerSecond"]) > 0.0, "{measured}");
        assert!(median(&bus["bytesPerMessage"]) > 200.0, "{measured}");
        assert!(bus["gaps"].is_u64() && bus["dropped"] == 0, "{measured}");
    }
}
