//! The commands, one file each, named as on the command line.

pub(crate) mod admin;
pub(crate) mod blacklist;
pub(crate) mod call;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod conversation;
pub(crate) mod demo;
pub(crate) mod friend;
pub(crate) mod history;
pub(crate) mod listen;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod profile;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod user;

use crate::args::{Args, Command};
use crate::context::Context;
use crate::exit::Failure;
use crate::output::Output;

/// Runs the command.
pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let Args { global, command } = args;
    let output = *output;
    let context = || Context::new(&global, output);
    match command {
        Command::Login(args) => login::run(args, &context()?).await,
        Command::Logout(args) => logout::run(&args, &context()?),
        Command::Send(args) => send::run(args, &context()?).await,
        Command::Listen(args) => listen::run(args, &context()?).await,
        Command::Chat(args) => chat::run(args, &context()?).await,
        Command::History(args) => history::run(args, &context()?).await,
        Command::Conversation(command) => conversation::run(command, &context()?).await,
        Command::User(command) => user::run(command, &context()?).await,
        Command::Friend(command) => friend::run(command, &context()?).await,
        Command::Blacklist(command) => blacklist::run(command, &context()?).await,
        Command::Status(command) => status::run(command, &context()?).await,
        Command::Call(args) => call::run(args, &context()?).await,
        Command::Token(args) => token::run(args, &context()?).await,
        Command::Profile(command) => profile::run(&command, &context()?),
        Command::Admin(args) => admin::run(args, &context()?).await,
        Command::Demo(args) => demo::run(args, output).await,
        Command::Bench(args) => crate::bench::run(args, output).await,
        Command::Completions(args) => completions::run(&args),
    }
}
