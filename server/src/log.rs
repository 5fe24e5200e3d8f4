//! The log: lines for people or for machines, on standard error.

use std::io::IsTerminal;
use std::panic;

use crate::config::{Log, LogFormat};

/// Sets the log of this process up. A program that has one already keeps it.
pub(crate) fn init(log: &Log) {
    // The filter was checked with the other settings.
    let filter = log.env_filter().unwrap_or_default();
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

/// A panic belongs into the log like everything else.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("of an unknown kind");
        tracing::error!(place, text, "panic");
    }));
}
