//! What one call does, and what it refuses. A file per service; a test is named after the method that it is about, and a
//! sentence. `coverage.rs` keeps count.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod admin;
mod authorisation;
mod blacklist;
mod conversation;
mod coverage;
mod friend;
mod friend_application;
mod friend_bounds;
mod friend_search;
mod isolation;
mod message;
mod session;
mod status;
mod sync;
mod user;
