//! The sync engine of a zim client: which entries of the three logs are new, what to store, and what to ask the server
//! for. Pure: no IO, no clock, no tasks. The account task of the SDK runs it.
//!
//! It is a crate of its own because it needs no runtime, no network and no database, and so that tests drive the same
//! code: a model checker, and the traces in `protocol/traces/`, against which clients in other languages are tested. It
//! is not for apps, and the book does not document it.

#![warn(missing_docs)]

/// The name of a conversation.
mod name;
/// Sets of positions.
mod ranges;
/// Unread counts.
mod unread;
/// What the engine knows, and what it wants done.
mod state;
/// The engine.
mod sync_engine;
/// Which entries of the logs are new.
mod positions;
/// Which conversations are pulled, and in which order.
mod pulls;
/// Syncs at login, after hints, and by the audit.
mod catch_up;
#[cfg(test)]
mod tests;

pub use self::name::Name;
pub use self::ranges::Ranges;
pub use self::state::{Batch, Change, Origin, Output, Position, Progress, Request, Saved, State, Uncounted};
pub use self::sync_engine::SyncEngine;
pub use self::unread::Tally;
