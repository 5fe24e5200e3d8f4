//! What the tests stand on: a whole server in process, real clients over real QUIC, a clock that the test moves, and bad
//! weather on the way between them.
//!
//! ```no_run
//! # async fn example() {
//! use zim_integration_tests::World;
//!
//! let world = World::new().await;
//! let (ann, bob) = (world.user("ann").await, world.user("bob").await);
//! ann.say("bob", "hi").await;
//! assert_eq!(bob.hears("hi").await.sender_user_id, "ann");
//! world.end().await;
//! # }
//! ```

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod campaign;
mod database;
pub mod decoders;
mod device;
mod fixture;
mod link;
mod logs;
pub mod postgres;
mod puppet;
mod random;
mod raw;
mod strings;
mod wait;
mod world;

pub use self::database::TestDatabase;
pub use self::device::{Device, Home, is_text, texts};
pub use self::fixture::{App, Fixture, as_stored, assert_same, said, view};
pub use self::link::{Link, Weather};
pub use self::logs::Logged;
pub use self::puppet::{FirstApp, ServerHome, ServerProcess};
pub use self::random::Random;
pub use self::raw::{Raw, code, hello, request, send_text};
pub use self::strings::{clock, lines, say};
pub use self::wait::{PATIENCE, eventually, soon};
pub use self::world::{Key, Operator, START_MS, World};

use zim_protocol::ErrorCode;

/// The reference's code of a call of the SDK that failed.
///
/// # Panics
/// It did not fail.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, zim_client_sdk::Error>) -> ErrorCode {
    result.expect_err("it should have been refused").code()
}

/// The guide's examples, which must compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/getting-started.md")]
struct GettingStarted;
