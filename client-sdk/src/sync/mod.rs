//! How a device learns what happened: the pure engine, what it does to the store, and the task that drives both.
//!
//! The pure part is public, undocumented in the book and not for apps: the model checker of the tests drives the very same
//! code.

pub(crate) mod account_task;
pub(crate) mod apply;
mod catch_up;
mod engine;
mod positions;
pub(crate) mod outbox;
mod pulls;
mod ranges;
mod state;
#[cfg(test)]
mod tests;
mod unread;

pub use self::engine::SyncEngine;
pub use self::ranges::Ranges;
pub use self::state::{Batch, Change, Name, Origin, Output, Position, Progress, Request, Saved, State};
pub use self::unread::Tally;
