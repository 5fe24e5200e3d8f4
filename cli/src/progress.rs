//! Progress bars on standard error, if that is a terminal.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The interval between updates.
const STEP: Duration = Duration::from_millis(200);

/// Waits for `time` with a bar that shows the rate of `done`.
pub(crate) async fn during(time: Duration, what: &str, done: &AtomicU64) {
    let bar = bar(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), "{bar:30} {elapsed:>4}  {msg}");
    let began = Instant::now();
    let (mut before, mut at) = (done.load(Ordering::Relaxed), began);
    while began.elapsed() < time {
        tokio::time::sleep(STEP.min(time.saturating_sub(began.elapsed()))).await;
        let (now, count) = (Instant::now(), done.load(Ordering::Relaxed));
        let rate = count.saturating_sub(before) as f64 / now.duration_since(at).as_secs_f64();
        (before, at) = (count, now);
        bar.set_position(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        bar.set_message(format!("{rate:.0} {what}/s"));
    }
    bar.finish_and_clear();
}

/// Returns a bar for a count up to `total`.
pub(crate) fn counting(total: u64, what: &str) -> ProgressBar {
    let bar = bar(total, "{bar:30} {pos}/{len} {msg}  {elapsed}");
    bar.set_message(what.to_owned());
    bar
}

/// Returns a bar for messages that the command prints to standard output; `total` is the number of them, if it is known. On a
/// terminal, the printed messages show the progress, so there is no bar.
pub(crate) fn sending(total: Option<usize>) -> ProgressBar {
    if std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    match total.and_then(|total| u64::try_from(total).ok()) {
        Some(total) => counting(total, "messages"),
        None => styled(ProgressBar::no_length(), "{pos} messages  {elapsed}"),
    }
}

/// Returns a bar for bytes, whose number is set later.
pub(crate) fn bytes() -> ProgressBar {
    bar(0, "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}")
}

fn bar(total: u64, template: &str) -> ProgressBar {
    styled(ProgressBar::new(total), template)
}

/// Sets the template. The bar is hidden if standard error is not a terminal.
fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
