//! A short day of life: a few users, the server restarts and is backed up, and no event is lost.

use std::time::Duration;

use zim_integration_tests::day::{self, ServerProgram, Settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_day_loses_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("minutes.jsonl");
    let server = ServerProgram::that_serves(env!("CARGO_BIN_EXE_day"));
    let settings = Settings {
        length: Duration::from_secs(10),
        users: 12,
        seed: 1,
        pause: Duration::from_millis(300),
        minute: Duration::from_secs(1),
        server,
        folder: folder.path().join("day"),
        lines: Some(lines.clone()),
    };
    let day = Box::pin(day::run(settings)).await.unwrap();
    assert!(day.violations.is_empty(), "{:#?}", day.violations);
    // The last words alone are as many.
    for (kind, least) in [("messages to users", 12), ("messages to groups", 2)] {
        let (done, raised) = day.count(kind);
        assert!(done >= least && raised > least, "{done} {kind}, {raised} events");
    }
    let minutes = std::fs::read_to_string(&lines).unwrap();
    assert_eq!(minutes.lines().count(), day.minutes.len());
    let first: serde_json::Value = serde_json::from_str(minutes.lines().next().unwrap()).unwrap();
    assert!(first["atSeconds"].as_f64().is_some_and(|at| at > 0.0), "{first}");
    // The page has the figures of this day, and all its graphs.
    day::write_page(&day, folder.path()).unwrap();
    let page = std::fs::read_to_string(folder.path().join("day.md")).unwrap();
    assert!(page.contains("No event was lost") && page.contains("12 users with 18 devices"), "{page}");
    let graphs: Vec<&str> = page.split("](day/").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert_eq!(graphs.len(), 6, "{graphs:?}");
    for graph in graphs {
        let svg = std::fs::read_to_string(folder.path().join("day").join(graph)).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("<polyline "), "{graph}: {svg}");
    }
}
