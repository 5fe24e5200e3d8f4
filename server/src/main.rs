//! The chat server. `zim-server --help` tells what can be set; without arguments it makes what it needs and runs.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A message passes through some thirty allocations, most of them made by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    zim_server::run::run(std::env::args_os(), std::env::vars_os())
}
