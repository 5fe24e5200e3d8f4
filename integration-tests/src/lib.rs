//! Test support: a whole server in process, real clients over real QUIC, a clock that the test sets, and a proxy that
//! makes the network between them lossy.
//!
//! The modules are declared in dependency order: a module uses only modules above it.
//!
//! ```no_run
//! # async fn example() {
//! use zim_integration_tests::World;
//!
//! let world = World::new().await;
//! let (ann, bob) = (world.user("ann").await, world.user("bob").await);
//! ann.say("bob", "hi").await;
//! assert_eq!(bob.receives("hi").await.sender_user_id, "ann");
//! world.end().await;
//! # }
//! ```

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

/// Notes what a test was told and answered.
mod coverage;
/// Waiting for a condition, with a deadline.
mod wait;
/// Random numbers that a seed determines.
mod random;
/// Folders that only their owner can read.
mod folder;
/// Captures the log of the server and the SDK.
mod logs;
/// Ports for servers that a test starts again.
mod port;
/// Programs of the system.
mod program;
/// A capture of packets.
mod capture;
/// A trace of what a process writes.
mod trace;
/// A disk that loses what was not synced.
mod disk;
/// What is left of a server's data after a power cut.
mod power_cut;
/// PostgreSQL servers for tests.
pub mod postgres;
/// NATS servers for tests.
pub mod nats;
/// A database for one test.
mod database;
/// A UDP relay between a client and the server, with network conditions that a test sets.
mod proxy;
/// A client without the SDK: frames on a QUIC stream.
mod raw;
/// A client with its own local database, which records its events.
mod device;
/// A push service whose answers the test sets.
mod push_server;
/// An object store for the files of messages.
mod s3_server;
/// Databases and data folders that earlier builds wrote.
mod fixture;
/// A server in process with its clients, for the duration of one test.
mod world;
/// The child's side of `process`: lines in, lines out, and a clock that the test sets.
mod child;
/// Servers and clients as child processes.
mod process;
/// The examples of the guide.
pub mod guide;
/// What several nodes reach, calculated from one server.
pub mod capacity;
/// The fuzz targets.
pub mod decoders;
/// Numbers in reports.
mod grouped;
/// Seeded runs with injected faults.
pub mod campaign;
/// A day of life: many users, one server, no lost event.
pub mod day;
/// A rolling upgrade: two versions side by side.
pub mod rolling;

pub use self::capture::{Capture, Packet, Protocol};
pub use self::child::{print_line, stdin_lines, ticking_clock};
pub use self::database::{TEMPLATE, TestDatabase};
pub use self::device::{Chat, DataDir, Device, code_of, group, is_text, reason_of, refusal, room, texts};
pub use self::fixture::{App, Fixture, assert_same, to_json, view, without_device_state};
pub use self::folder::share_identity;
pub use self::logs::Logged;
pub use self::port::free_port;
pub use self::power_cut::{Acknowledged, Loss, PowerCuts};
pub use self::process::{DATABASE_LOST, FirstApp, ServerInstallation, ServerProcess};
pub use self::program::ffmpeg;
pub use self::proxy::{NetworkConditions, Proxy};
pub use self::push_server::{PushAnswer, PushRequest, PushServer};
pub use self::random::Random;
pub use self::raw::{RawClient, code, hello, request, send_text};
pub use self::s3_server::{S3Fault, S3Server};
pub use self::wait::{TIMEOUT, eventually, soon};
pub use self::world::{OperatorClient, OperatorKey, START_MS, World};

/// The guide's examples, which must compile. Those that use [`guide::example`] run as well.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/getting-started.md")]
struct GettingStarted;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/sdk.md")]
struct Sdk;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/media.md")]
struct Media;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/bots.md")]
struct Bots;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/lists-and-timelines.md")]
struct ListsAndTimelines;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/messages.md")]
struct Messages;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/conversations.md")]
struct Conversations;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/users.md")]
struct Users;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/friends.md")]
struct Friends;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/search.md")]
struct Search;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/groups.md")]
struct Groups;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/calls.md")]
struct Calls;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/rooms.md")]
struct Rooms;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/push.md")]
struct Push;
