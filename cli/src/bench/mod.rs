//! `zim bench`: measures a server, by default one that it starts itself.

mod apart;
mod arrivals;
mod attack;
mod attackers;
mod call;
mod cluster;
mod cluster_report;
mod crowd;
mod crowd_members;
mod group;
mod group_life;
mod group_load;
mod group_parts;
mod growth;
mod histogram;
mod history;
mod idle;
mod load;
mod login;
mod media;
mod media_beside;
mod media_files;
mod media_plain;
mod media_transfers;
mod members;
mod meter;
mod moment;
mod peer;
mod process;
mod queues;
mod raw;
mod readers;
mod sdk;
mod services;
mod show;
mod spread;
mod start;
mod target;

use clap::{Args, Subcommand};

use crate::exit::Failure;
use crate::output::Output;
use crate::signal::Signals;

/// `zim bench`
#[derive(Debug, Args)]
#[command(after_help = "\
Without --server or --server-data the command starts the server binary in a temporary folder, with very high limits \
(attack and start: with the default limits). Clients and server share the machine: a figure is what both reach together.

Examples:
  zim bench peer --pairs 50 --window 8
  zim bench peer --pairs 1 --window 1
  zim bench peer --conversations 50000
  zim bench group --members 100,1000
  zim bench group --members 10000 --online 500 --rate 20
  zim bench group --members 10000 --online 2000 --rate 50 --churn 20 --reactions 50 --receipts 200
  zim bench members --large 99000 --small 100 --joins 1000
  zim bench room --members 100,1000,5000
  zim bench room --members 1000 --set rooms.history=true
  zim bench readers
  zim bench readers --same-priority
  zim bench call --pairs 20
  zim bench call --ringing 1000 --timeout 10s
  zim bench cluster --nodes 2
  zim bench login --for 5s --live-pairs 5
  zim bench idle --connections 5000
  zim bench idle --connections 1000 --groups 200
  zim bench history --depth 1000000
  zim bench media
  zim bench media --only memory --uploads 50
  zim bench attack --for 5s
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
    #[command(flatten)]
    OneServer(OneServer),
    /// Measure messages between users on different nodes, compared with one server on the same PostgreSQL
    Cluster(cluster::ClusterArgs),
    /// Be the members of a group or a room, as another benchmark says that starts this one
    #[command(hide = true)]
    Crowd(apart::PriorityArgs),
}

/// The benchmarks of one server.
#[derive(Debug, Subcommand)]
enum OneServer {
    /// Measure messages a second between pairs of users, and their latency
    Peer(peer::PeerArgs),
    /// Measure messages to groups and their deliveries to all members, and the latency until the last one has it
    Group(group::GroupArgs),
    /// Measure joins into a large group and a small one, and the first and the last page of members
    Members(growth::MembersArgs),
    /// Measure messages to rooms and their deliveries to all who are in them
    Room(group::RoomArgs),
    /// Measure answers to members of a group who all open it at once, and messages of others meanwhile
    Readers(readers::ReadersArgs),
    /// Measure calls a second, from the invitation to the end, or how late the timeouts of calls are that nobody answers
    Call(call::CallArgs),
    /// Measure logins a second, each on a new connection
    Login(login::LoginArgs),
    /// Measure the cost of an idle session
    Idle(idle::IdleArgs),
    /// Measure pages of history, new and old
    History(history::HistoryArgs),
    /// Measure files of messages, compared with curl and nginx, and texts and the server's memory during uploads
    Media(media::MediaArgs),
    /// Measure the effect of misbehaving clients, with the default limits
    Attack(attack::AttackArgs),
    /// Measure the start of a server, and the cost of an idle one
    Start(start::StartArgs),
}

pub(crate) async fn run(args: BenchArgs, output: Output) -> Result<(), Failure> {
    let command = match args.command {
        BenchCommand::OneServer(command) => command,
        BenchCommand::Crowd(args) => return Box::pin(crowd_members::serve(args.priority())).await,
        BenchCommand::Cluster(cluster) => {
            // It starts several servers, one after the other. They end when the measurement is dropped.
            let mut signals = Signals::listen()?;
            return tokio::select! {
                measured = Box::pin(cluster::run(&cluster, &args.target, output)) => measured,
                _ = signals.next() => Err(Failure::other("interrupted")),
            };
        }
    };
    let settings = match &command {
        OneServer::Attack(_) => &attack::SETTINGS[..],
        OneServer::Start(_) => &[],
        _ => &target::RAISED,
    };
    let target = target::Target::open(&args.target, settings, output).await?;
    let mut signals = Signals::listen()?;
    let measured = tokio::select! {
        measured = measure(command, &target, output) => measured,
        _ = signals.next() => Err(Failure::other("interrupted")),
    };
    // The server is stopped even if the measurement failed.
    let closed = target.close().await;
    measured.and(closed)
}

async fn measure(command: OneServer, target: &target::Target, output: Output) -> Result<(), Failure> {
    match command {
        OneServer::Peer(args) => Box::pin(peer::run(args, target, output)).await,
        OneServer::Group(args) => Box::pin(group::run(args, target, output)).await,
        OneServer::Members(args) => Box::pin(growth::run(args, target, output)).await,
        OneServer::Room(args) => Box::pin(group::run_rooms(args, target, output)).await,
        OneServer::Readers(args) => Box::pin(readers::run(args, target, output)).await,
        OneServer::Call(args) => Box::pin(call::run(args, target, output)).await,
        OneServer::Login(args) => Box::pin(login::run(args, target, output)).await,
        OneServer::Idle(args) => Box::pin(idle::run(args, target, output)).await,
        OneServer::History(args) => Box::pin(history::run(args, target, output)).await,
        OneServer::Media(args) => Box::pin(media::run(args, target, output)).await,
        OneServer::Attack(args) => Box::pin(attack::run(args, target, output)).await,
        OneServer::Start(args) => Box::pin(start::run(args, target, output)).await,
    }
}
