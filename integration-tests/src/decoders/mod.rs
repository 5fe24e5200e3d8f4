//! The fuzz targets: a function for each decoder of bytes from outside, which asserts its invariants for any input. The
//! fuzzer calls them with generated inputs (`fuzz/`, `docs/fuzzing.md`); the tests call them with the corpus
//! (`fuzz/corpus`).

mod config;
mod frame;
mod http;
mod json;
mod limits;
mod messages;
mod protobuf;
mod sync;
mod token;

use std::path::PathBuf;

use parking_lot::Mutex;
use tempfile::TempDir;

pub use self::config::config;
pub use self::frame::frame;
pub use self::http::http;
pub use self::json::json;
pub use self::protobuf::protobuf;
pub use self::sync::sync;
pub use self::token::token;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name: `fuzz/fuzz_targets/NAME.rs`, `fuzz/corpus/NAME/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config),
    ("frame", frame),
    ("http", http),
    ("json", json),
    ("protobuf", protobuf),
    ("sync", sync),
    ("token", token),
];

/// The folder for files of the targets.
static FOLDER: Mutex<Option<TempDir>> = Mutex::new(None);

/// Returns the folder, in memory where possible: some targets write a file for every input.
fn folder() -> PathBuf {
    let mut folder = FOLDER.lock();
    let in_memory = || TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    folder.get_or_insert_with(in_memory).path().to_owned()
}

/// Stops and removes what the targets keep between inputs.
pub fn end() {
    http::end();
    drop(FOLDER.lock().take());
}

/// Splits an input into its first line, a name, and the rest.
fn named(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (name, rest) = input.split_at(end);
    (name, rest.get(1..).unwrap_or_default())
}

/// Maps an unknown name to one of `count` items, so that a fuzzer that does not know the names reaches all of them.
fn any_of(name: &[u8], count: usize) -> usize {
    name.iter().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % count.max(1)
}
