//! A campaign of seeded runs. In a run several devices of several users use a real server over a bad network; processes
//! are killed, disks fill up, clocks jump, backups are restored. Afterwards the invariants of the protocol must hold
//! (docs/protocol/sync.md).
//!
//! `plan.rs` derives all decisions from the seed, `servers.rs` runs one server or two nodes, `testbed.rs` holds the devices, too, and
//! injects faults,
//! `record.rs` records what happens, `run.rs` executes a plan to its end, `settle.rs` waits until devices agree about rooms and
//! calls, `checks.rs`, `raised.rs`, `message.rs`, `deletion.rs`,
//! `combine.rs`, `counts.rs`, `here.rs`, `local.rs`, `social.rs`, `group.rs`, `club.rs`, `room.rs` and `call.rs` find violations.
//! A long run (`long.rs`) has more devices, its own plan (`long_plan.rs`) and its own checks (`long_check.rs`).
//! Each client (`bin/test-client.rs`) and the server (`bin/test-server.rs`) is a process, so that a kill is a real one.

mod action;
mod bot;
mod call;
mod call_view;
mod checks;
mod club;
mod club_plan;
mod club_verbs;
mod combine;
mod counts;
mod deletion;
mod device;
mod lists;
mod message;
mod frame_proxy;
mod group;
mod here;
mod kind;
mod lease;
mod link;
mod live;
mod live_plan;
mod local;
mod long;
mod long_check;
mod long_plan;
mod message_plan;
mod node_plan;
mod outage;
mod plan;
mod raised;
mod run;
mod record;
mod report;
mod room;
mod room_view;
mod rows;
mod servers;
mod settle;
mod social;
mod statements;
mod testbed;
mod store;
mod store_club;
mod store_live;
mod store_message;
mod verbs;

use std::time::Duration;

pub use self::action::{
    Action, Batching, CallVerb, ClubVerb, GroupVerb, MessageVerb, RoomVerb, Saying, SettingVerb, SocialAction,
};
pub use self::bot::{BotTally, run_bot};
pub use self::checks::Violation;
pub use self::club_verbs::act_in_club;
pub use self::frame_proxy::Planted;
pub use self::kind::Kind;
pub use self::live::{Looks, act_in_call, act_in_room, call_list, room_as_answered};
pub use self::node_plan::NodeFault;
pub use self::plan::{CLUB, Database, Fault, Plan, Step, TEAM};
pub use self::record::Record;
pub use self::report::Report;
pub use self::run::{Outcome, Settings, Tally, run};
pub use self::store::SharedCluster;
pub use self::testbed::Programs;
pub use self::verbs::{change_group, change_message, change_setting, create_group, kind_of, opened};

/// The longest wait for anything at the end of a run.
pub const TIMEOUT: Duration = Duration::from_secs(30);
