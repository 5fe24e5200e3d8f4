//! A day of life: hundreds of users with the SDK write to each other, meet in groups and rooms, call, send files, log out and in, and
//! let their phones sleep, while the server is restarted once and a backup is made. A ledger that knows nothing of the server says
//! which events each device must get. At the end no event is missing, and each error has its reason in the scenario.
//!
//! The seed decides who the users are, whom they know, and what they do. The operating system decides what happens first.

/// The people of a day, their devices, and where they meet.
mod plan;
/// What was done, and what each device must be told of it.
mod ledger;
/// What is wrong with a day.
mod judge;
/// Calls that failed, and whether the scenario explains them.
mod failure;
/// The server of a day: a process.
mod server;
/// What all tasks of a day write to.
mod record;
/// A device of a day: a client of the SDK whose events go to the ledger.
mod device;
/// What all tasks of a day share.
mod town;
/// What the users write, read and say.
mod talk;
/// Calls, files, and devices that sleep.
mod deeds;
/// A backup of the running server.
mod backup;
/// What was measured each minute.
mod minutes;
/// Graphs, as SVG.
mod graph;
/// The page about a day.
mod page;
/// A day from its morning to its evening.
mod run;

pub use self::minutes::Minute;
pub use self::page::write_page;
pub use self::run::{Day, Settings, run};
pub(crate) use self::server::Host;
pub use self::server::{ServerProgram, serve};
