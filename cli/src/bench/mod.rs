//! `zim bench …`: measures a server, one of its own unless another is named.

mod attack;
mod histogram;
mod history;
mod idle;
mod load;
mod login;
mod meter;
mod offenders;
mod peer;
mod process;
mod progress;
mod raw;
mod sdk;
mod show;
mod spread;
mod start;
mod target;

use clap::{Args, Subcommand};

use crate::exit::Failure;
use crate::output::Output;

/// `zim bench`
#[derive(Debug, Args)]
#[command(after_help = "\
Without --server or --server-data it starts the server binary in a temporary folder, with limits that do not limit
(attack and start: those of a server as it comes).
Client and server share the machine: a figure is what both reach together.

Examples:
  zim bench peer --pairs 50 --window 8
  zim bench peer --pairs 1 --window 1
  zim bench peer --conversations 50000
  zim bench login --seconds 5 --live-pairs 5
  zim bench idle --connections 5000
  zim bench history --depth 1000000
  zim bench attack --seconds 5
  zim bench start
  zim bench peer --database postgres://zim@localhost/bench --json")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    target: target::TargetArgs,
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Pairs of users: messages a second, and how long they take
    Peer(peer::PeerArgs),
    /// Logins a second, each with a new connection
    Login(login::LoginArgs),
    /// What a session that does nothing costs
    Idle(idle::IdleArgs),
    /// What a page of history costs, at the end and deep down
    History(history::HistoryArgs),
    /// What bad clients cost the others, with the limits that a server has by default
    Attack(attack::AttackArgs),
    /// How soon a server is ready, and what it costs before anybody comes
    Start(start::StartArgs),
}

pub(crate) async fn run(args: BenchArgs, output: Output) -> Result<(), Failure> {
    let settings = match &args.command {
        BenchCommand::Attack(_) => &attack::SETTINGS[..],
        BenchCommand::Start(_) => &[],
        _ => &target::RAISED,
    };
    let target = target::Target::open(&args.target, settings, output).await?;
    let measured = tokio::select! {
        measured = measure(args.command, &target, output) => measured,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Err(Failure::other("interrupted")),
            Err(error) => Err(error.into()),
        },
    };
    // The server is stopped whatever came of it.
    let closed = target.close().await;
    measured.and(closed)
}

async fn measure(command: BenchCommand, target: &target::Target, output: Output) -> Result<(), Failure> {
    match command {
        BenchCommand::Peer(args) => Box::pin(peer::run(args, target, output)).await,
        BenchCommand::Login(args) => Box::pin(login::run(args, target, output)).await,
        BenchCommand::Idle(args) => Box::pin(idle::run(args, target, output)).await,
        BenchCommand::History(args) => Box::pin(history::run(args, target, output)).await,
        BenchCommand::Attack(args) => Box::pin(attack::run(args, target, output)).await,
        BenchCommand::Start(args) => Box::pin(start::run(args, target, output)).await,
    }
}
