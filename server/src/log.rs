//! Sets up the log on standard error.

use std::io::IsTerminal;
use std::panic;

use crate::config::{Log, LogFormat};

/// Sets up the log of this process, unless it has one already.
pub(crate) fn init(log: &Log) {
    // The filter was validated with the other settings.
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

/// Sends panics to the log.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, text, "panic");
    }));
}
