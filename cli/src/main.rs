//! `zim`: chat from a terminal and from scripts.

// In dependency order: a module uses only those above it.

/// Durations on the command line: `90s`, `15m`, `12h`.
mod duration;
/// Makes text of other users safe to print on a terminal.
mod text;
/// Exit codes, and why a command failed.
mod exit;
/// Standard output and standard error: JSON, lines, tables, colours.
mod output;
/// The signals that end the program.
mod signal;
/// Lines of standard input, each of them a message.
mod input;
/// Progress bars on standard error.
mod progress;
/// The options that every command takes.
mod options;
/// Profiles: a server and a user, remembered under a name.
mod profile;
/// Finds a server on this machine by the files in its data folder.
mod start_file;
/// Reads secrets from options, variables, files and standard input.
mod secret;
/// Starts a server in a temporary folder and stops it.
mod local_server;
/// Connects to the operator's service of a server.
mod operator;
/// Finds unknown fields of JSON requests.
mod unknown;
/// Attributes on the command line.
mod attribute;
/// Which conversation a command means.
mod target;
/// Messages and events as text.
mod describe;
/// Sends a message, and waits when the server limits the rate.
mod deliver;
/// What a command works with: output, profile and a connection.
mod context;
/// `zim bench`: measures a server.
mod bench;
/// The other commands, one file each.
mod command;
/// The whole command line: the list of the commands, and how one is run.
mod args;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

use crate::args::Args;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};

/// Faster than the default: in a benchmark, clients and server share the machine.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return wrong_usage(&error),
    };
    let output = Output::from_env(args.global.format());
    match run(args, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}

/// Prints the message of clap. Help goes to standard output and is a success.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // If printing fails, there is no other place to report it.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let arguments = std::env::args_os().take_while(|argument| argument != "--");
    if arguments.into_iter().any(|argument| argument == "--json") {
        return Output::from_env(Some(Format::Json)).failure(&exit::usage(error));
    }
    let _ = error.print();
    Exit::Usage.into()
}

fn run(args: Args, output: Output) -> Result<(), Failure> {
    // Logs are off by default: standard error belongs to the command.
    if let Some(filter) = args.global.log_filter() {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(Box::pin(args.run(output)));
    // A blocked read of standard input must not delay the exit.
    runtime.shutdown_background();
    outcome
}
