//! Faults, hostile clients and overload, and what must keep working.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod bot;
mod campaign;
mod chaos;
mod flood;
mod killed_server;
mod late_answers;
mod logins;
mod lossy;
mod media;
mod one_shots;
#[cfg(unix)]
mod operator;
#[cfg(target_os = "linux")]
mod power_cut;
mod registration;
#[cfg(unix)]
mod slow_http;
mod slow_handler;
mod slow_reader;
mod storm;
mod unread;
