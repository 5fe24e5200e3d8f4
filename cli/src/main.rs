//! `zim`: chat from a terminal and from scripts.

mod args;
mod bench;
mod command;
mod context;
mod describe;
mod duration;
mod exit;
mod local_server;
mod operator;
mod options;
mod output;
mod profile;
mod secret;
mod start_file;
mod text;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

use crate::args::Args;
use crate::exit::Failure;

/// The clients of a bench share the machine with the server.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    let output = output::Output::from_env(args.global.format());
    match run(args, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}

fn run(args: Args, output: output::Output) -> Result<(), Failure> {
    // Libraries write nothing unless asked: standard error belongs to the command.
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("ZIM_CLI_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(Box::pin(args.run(output)));
    // A blocked read of standard input must not keep the program from ending.
    runtime.shutdown_background();
    outcome
}
