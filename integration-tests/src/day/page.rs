//! The page about a day: what stands in the book, then the figures and graphs of one run.

use std::fmt::Write;
use std::path::Path;

use super::graph::{Graph, Line};
use super::minutes::Minute;
use super::run::Day;
use crate::grouped::grouped;

/// The page in the book.
const PAGE: &str = include_str!("../../../docs/operations/day.md");
/// Where the figures begin.
const FIGURES: &str = "<!-- figures -->";
const MB: f64 = 1_000_000.0;

/// Writes `day.md` and the graphs in `day/` to a folder.
///
/// # Errors
/// A file cannot be written.
pub fn write_page(day: &Day, folder: &Path) -> std::io::Result<()> {
    let graphs = folder.join("day");
    std::fs::create_dir_all(&graphs)?;
    for (name, graph) in all_graphs(day) {
        std::fs::write(graphs.join(format!("{name}.svg")), graph.svg())?;
    }
    std::fs::write(folder.join("day.md"), text(day))
}

/// Returns the page: what stands before the figures stays.
fn text(day: &Day) -> String {
    let (before, _) = PAGE.split_once(FIGURES).unwrap_or((PAGE, ""));
    let mut text = format!("{before}{FIGURES}\n");
    tables(day, &mut text);
    for (name, graph) in all_graphs(day) {
        add(&mut text, format_args!("\n![{}](day/{name}.svg)", graph.title));
    }
    text
}

fn tables(day: &Day, text: &mut String) {
    let settings = &day.settings;
    let minutes = settings.length.as_secs_f64() / 60.0;
    add(
        text,
        format_args!(
            "\n{} users with {} devices, {minutes:.0} minutes, seed {}.",
            settings.users, day.devices, settings.seed
        ),
    );
    add(
        text,
        format_args!("\n| what users did | times | not acknowledged | events that were due and came | other events |"),
    );
    add(text, format_args!("|---|---:|---:|---:|---:|"));
    for (name, count) in &day.counts {
        let cells = [count.done, count.failed, count.raised, count.besides].map(grouped).join(" | ");
        add(text, format_args!("| {name} | {cells} |"));
    }
    add(text, format_args!("\n| | |\n|---|---:|"));
    let events: u64 = day.events.values().sum();
    for (what, number) in [
        ("messages that devices sent", grouped(day.sent.0)),
        ("of these, acknowledged", grouped(day.sent.1)),
        ("events that devices raised, of all kinds", grouped(events)),
        ("files downloaded and compared", grouped(day.files)),
        ("receipts and reactions that came with their message instead of an event", grouped(day.by_state)),
        ("events raised again after a client was closed", grouped(day.again)),
        ("times that a phone slept or was logged out", grouped(day.away.0)),
        ("connections lost by the restart", grouped(day.away.1)),
        ("seconds that the restart took", format!("{:.1}", day.restart.1 - day.restart.0)),
        ("seconds that the backup took", format!("{:.1}", day.backup.1 - day.backup.0)),
        ("messages in the backup", grouped(day.backup.2)),
        ("warnings in the log of the server", grouped(day.warnings)),
    ] {
        add(text, format_args!("| {what} | {number} |"));
    }
    add(text, format_args!("\n| error that the restart explains | times |\n|---|---:|"));
    for (what, times) in &day.explained {
        add(text, format_args!("| {} | {} |", what.replace('|', "/"), grouped(*times)));
    }
    if day.violations.is_empty() {
        add(text, format_args!("\nNo event was lost, and no other error came."));
    } else {
        add(text, format_args!("\nViolations:\n"));
        day.violations.iter().for_each(|violation| add(text, format_args!("- {violation}")));
    }
}

fn all_graphs(day: &Day) -> Vec<(&'static str, Graph)> {
    let marks = || vec![(day.restart.0 / 60.0, "restart"), (day.backup.0 / 60.0, "backup")];
    let line = |name, value: &dyn Fn(&Minute) -> Option<f64>| {
        let point = |minute: &Minute| Some((minute.at_seconds / 60.0, value(minute)?));
        Line { name, points: day.minutes.iter().filter_map(point).collect() }
    };
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / MB);
    let graph = |title, unit, lines| Graph { title, unit, lines, marks: marks() };
    vec![
        ("server", graph("Memory of the server", "MB", vec![line("server", &|minute| bytes(minute.server_bytes))])),
        ("clients", graph("Memory of all clients", "MB", vec![line("clients", &|minute| bytes(minute.clients_bytes))])),
        (
            "messages",
            graph(
                "Messages",
                "a second",
                vec![
                    line("acknowledged", &|minute| Some(minute.acknowledged_per_second)),
                    line("raised by devices", &|minute| Some(minute.delivered_per_second)),
                ],
            ),
        ),
        (
            "latency",
            graph(
                "Time until a message is acknowledged",
                "ms",
                vec![line("p50", &|minute| minute.p50_ms), line("p99", &|minute| minute.p99_ms)],
            ),
        ),
        (
            "sessions",
            graph(
                "Devices that are logged in",
                "number",
                vec![line("sessions", &|it| it.sessions.map(|it| it as f64))],
            ),
        ),
        ("errors", graph("Calls that failed", "a minute", vec![line("errors", &|minute| Some(minute.errors as f64))])),
    ]
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_book_says_where_its_figures_begin() {
        assert_eq!(PAGE.matches(FIGURES).count(), 1);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
