//! The chat server. `zim-server --help` tells what can be set; without arguments it makes what it needs and runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    zim_server::run::run(std::env::args_os(), std::env::vars_os())
}
