//! A campaign: many runs, each from a seed. In a run several devices of several users talk over a bad network with a real
//! server; processes are killed, disks fill up, clocks jump, backups are restored. Afterwards the invariants of the protocol
//! must hold (docs/protocol/sync.md).
//!
//! `plan.rs` decides everything from the seed, `stage.rs` is where it happens, `record.rs` remembers it, `play.rs` brings it
//! to an end, `checks.rs` and `social.rs` say what is wrong. The clients are processes of their own (`bin/actor.rs`), and so is the server
//! (`bin/victim.rs`): a kill is a kill.

mod checks;
mod device;
mod lists;
mod middle;
mod plan;
mod play;
mod record;
mod report;
mod rows;
mod social;
mod stage;
mod store;

use std::time::Duration;

pub use self::checks::{CHECKS, End, Seen, Violation, WAITS};
pub use self::lists::{Application, Followed, Friend, Known, Lists, Profile};
pub use self::middle::Planted;
pub use self::plan::{Act, Database, Deed, Fault, Kind, Plan, Step};
pub use self::play::{Outcome, Settings, Tally, run};
pub use self::record::{Call, Events, Failure, Moment, Raised, Record};
pub use self::report::Report;
pub use self::stage::{Programs, Restored};
pub use self::store::{Kept, SharedCluster, Stored};

/// How long anything may take at the end of a run.
pub const PATIENCE: Duration = Duration::from_secs(30);
