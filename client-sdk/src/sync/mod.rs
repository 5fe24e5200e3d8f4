//! Synchronisation: the pure engine, what it changes in the store, and the task that runs it.
//!
//! The pure part is public for tests: the model checker drives the same code. It is not for apps, and the book does not
//! document it.

/// Sets of positions.
mod ranges;
/// Unread counts.
mod unread;
/// What the engine knows, and what it wants done.
mod state;
/// The engine.
mod engine;
/// Which entries of the logs are new.
mod positions;
/// Which conversations are pulled, and in which order.
mod pulls;
/// Syncs at login, after hints, and by the audit.
mod catch_up;
/// The transaction of a turn, and its events.
pub(crate) mod apply;
/// The task that runs the engine.
pub(crate) mod account_task;
/// Sending messages.
pub(crate) mod outbox;
#[cfg(test)]
mod tests;

pub use self::engine::SyncEngine;
pub use self::ranges::Ranges;
pub use self::state::{Batch, Change, Name, Origin, Output, Position, Progress, Request, Saved, State};
pub use self::unread::Tally;
