//! The log: lines for people or for machines, on standard error.

use std::io::IsTerminal;
use std::panic;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

/// Sets the log of this process up. A program that has one already keeps it.
pub(crate) fn init(log: &Log) {
    // The filter was checked with the other settings.
    let filter = filter(&log.filter).unwrap_or_default();
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let set = match log.format {
        LogFormat::Pretty => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if set.is_ok() {
        log_panics();
    }
}

/// A filter as it is set. The value of a field is taken as it is: as a regular expression, one line of settings could keep a
/// server from starting for minutes.
pub(crate) fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().with_regex(false).parse(directives)
}

/// A panic belongs into the log like everything else.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("of an unknown kind");
        tracing::error!(place, text, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_a_field_is_no_regular_expression() {
        assert!(filter("info,[call{user=ann}]=debug").is_ok());
        // As an expression this one has no end, and one with an end could take minutes.
        assert!(filter("info,[call{user=(}]=debug").is_ok());
        assert!(filter("loud").is_ok_and(|filter| filter.to_string() == "loud=trace"));
        assert!(filter("info,zim=loud").is_err());
    }
}
