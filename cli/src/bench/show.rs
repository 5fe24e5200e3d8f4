//! Shows the results of a benchmark.

use super::histogram::Latency;
use super::process::Cost;
use crate::exit::Failure;
use crate::output::{Align, Output, span};

/// Returns the columns of a table of latencies.
pub(crate) fn latency_columns(what: &'static str, count: &'static str) -> [(&'static str, Align); 6] {
    let right = |name| (name, Align::Right);
    [(what, Align::Left), right(count), right("P50"), right("P95"), right("P99"), right("MAX")]
}

/// Returns a row of a table of latencies.
pub(crate) fn latency_row(what: &str, count: u64, latency: &Latency) -> [String; 6] {
    let Latency { p50, p95, p99, max } = *latency;
    [what.to_owned(), thousands(count), span(p50), span(p95), span(p99), span(max)]
}

/// Returns such a row of what is not counted.
pub(crate) fn stage_row(what: &str, latency: &Latency) -> [String; 6] {
    let mut row = latency_row(what, 0, latency);
    row[1].clear();
    row
}

/// Formats a number as `25,000`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn show_errors(errors: &std::collections::BTreeMap<String, u64>, output: Output) -> Result<(), Failure> {
    if errors.is_empty() {
        return output.line("errors   none");
    }
    errors.iter().try_for_each(|(name, count)| output.line(format!("errors   {} {name}", thousands(*count))))
}

pub(crate) fn show_cost(cost: Option<Cost>, output: Output) -> Result<(), Failure> {
    let Some(cost) = cost else { return Ok(()) };
    output.line(format!(
        "server   {} of memory ({} before), {:.0} % of a core",
        mb(cost.rss_bytes),
        mb(cost.rss_before_bytes),
        cost.cpu_percent
    ))
}

/// Formats a size as `13.1 MB`.
pub(crate) fn mb(bytes: u64) -> String {
    format!("{}.{} MB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }
}
