//! The chat server. `zim-server --help` lists the settings. It runs without any arguments.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A message takes some thirty allocations. Most of them are made by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    zim_server::run::run(std::env::args_os(), std::env::vars_os())
}
