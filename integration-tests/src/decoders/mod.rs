//! Everything that reads bytes from outside, and what must hold whatever they are. A fuzzer feeds these functions with what it
//! makes up (`fuzz/`, `docs/fuzzing.md`); the tests feed them with what fuzzers found worth keeping
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

/// What a decoder is fed with.
pub type Target = fn(&[u8]);

/// Every target by its name: `fuzz/fuzz_targets/NAME.rs`, `fuzz/corpus/NAME/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config),
    ("frame", frame),
    ("http", http),
    ("json", json),
    ("protobuf", protobuf),
    ("sync", sync),
    ("token", token),
];

/// For files that targets need.
static FOLDER: Mutex<Option<TempDir>> = Mutex::new(None);

/// In memory where there is such a folder: some write a file for every input.
fn folder() -> PathBuf {
    let mut folder = FOLDER.lock();
    let in_memory = || TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    folder.get_or_insert_with(in_memory).path().to_owned()
}

/// Takes away what the targets have made and would use again.
pub fn end() {
    http::end();
    drop(FOLDER.lock().take());
}

/// The first line, which names something, and the rest.
fn named(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (name, rest) = input.split_at(end);
    (name, rest.get(1..).unwrap_or_default())
}

/// Which of `count` things a name that none of them has stands for: a fuzzer that does not know the names finds them all.
fn any_of(name: &[u8], count: usize) -> usize {
    name.iter().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % count.max(1)
}
