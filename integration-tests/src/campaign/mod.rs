//! A campaign: many runs, each from a seed. In a run several devices of several users talk over a bad network with a real
//! server; processes are killed, disks fill up, clocks jump, backups are restored. Afterwards the invariants of the protocol
//! must hold (docs/protocol/sync.md).
//!
//! `plan.rs` decides everything from the seed, `stage.rs` is where it happens, `record.rs` remembers it, `play.rs` brings it
//! to an end, `checks.rs` and `social.rs` say what is wrong. The clients are processes of their own (`bin/test-client.rs`), and so is the server
//! (`bin/test-server.rs`): a kill is a kill.

mod checks;
mod device;
mod lists;
mod frame_proxy;
mod plan;
mod run;
mod record;
mod report;
mod rows;
mod social;
mod testbed;
mod store;

use std::time::Duration;

pub use self::checks::{CHECKS, DeviceState, EndState, Violation, WAITS};
pub use self::frame_proxy::Planted;
pub use self::lists::{Application, DeviceLists, Friend, Lists, Profile, Subscriptions};
pub use self::plan::{Action, Database, Fault, Kind, Plan, SocialAction, Step};
pub use self::record::{Call, Events, Failure, Moment, RaisedEvent, Record};
pub use self::report::Report;
pub use self::run::{Outcome, Settings, Tally, run};
pub use self::store::{SharedCluster, StoredConversation, StoredMessage};
pub use self::testbed::{Programs, Restored};

/// How long anything may take at the end of a run.
pub const TIMEOUT: Duration = Duration::from_secs(30);
