//! The command line: the list of the commands, and how one is run. The options of a command are in its own file.

use clap::{CommandFactory, Parser, Subcommand};
use zim_client_sdk::Zim;

use crate::bench::{self, BenchArgs};
use crate::command::{
    admin, blacklist, call, chat, completions, conversation, demo, friend, group, history, listen, log, login, logout,
    man, media, message, ping, profile, push, renew, revoke, ring, room, search, send, status, token, typing, user,
};
use crate::context::{Context, within};
use crate::exit::{self, Failure};
use crate::options::Global;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  zim login ann                     log in to the server that runs in this folder
  zim send bob \"hi\"                 send a message
  zim chat bob                      chat with bob
  zim group create trip bob         start a group with bob
  zim listen | jq -c .name          the names of events as they arrive
  zim --profile bob login bob       log in a second user on this machine
  zim demo                          see a demo in five seconds, with its own server";

/// In-app chat from a terminal and from scripts.
#[derive(Debug, Parser)]
#[command(name = "zim", version = Zim::get_version(), after_help = EXAMPLES, after_long_help = long_help(), max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, infer_subcommands = false)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Log in, and save server and user in a profile
    Login(login::LoginArgs),
    /// Remove the app sign and the token from a profile
    Logout(logout::LogoutArgs),
    /// Replace the token of a profile before it expires
    Renew(renew::RenewArgs),
    /// Send a message
    Send(send::SendArgs),
    /// Show events as they arrive
    Listen(listen::ListenArgs),
    /// Chat with a user, in a group or in a room, line by line
    Chat(chat::ChatArgs),
    /// Show messages of a conversation, oldest first
    History(history::HistoryArgs),
    /// Show a user for a moment that you are writing
    Typing(typing::TypingArgs),
    /// Find messages of a conversation by what they say
    Search(search::SearchArgs),
    /// Take back a message that you sent
    Revoke(revoke::RevokeArgs),
    /// Edit, reply to, react to, pin and delete messages
    #[command(subcommand, visible_alias = "msg")]
    Message(message::MessageCommand),
    /// Send and download files
    #[command(subcommand)]
    Media(media::MediaCommand),
    /// List, show, read and arrange conversations
    #[command(subcommand, visible_alias = "conv")]
    Conversation(conversation::ConversationCommand),
    /// Show users, and change your own name, avatar, data and rules
    #[command(subcommand)]
    User(user::UserCommand),
    /// Apply to, accept, list and rename friends
    #[command(subcommand)]
    Friend(friend::FriendCommand),
    /// Create, join, leave and show groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Begin, answer, end and list calls
    #[command(subcommand)]
    Ring(ring::RingCommand),
    /// Enter rooms, and show who and what is in them
    #[command(subcommand)]
    Room(room::RoomCommand),
    /// Get offline push on this device, or where a webhook leads
    #[command(subcommand)]
    Push(push::PushCommand),
    /// Block and unblock users
    #[command(subcommand)]
    Blacklist(blacklist::BlacklistCommand),
    /// Show who is online, and set your own status
    #[command(subcommand)]
    Status(status::StatusCommand),
    /// Give the operator of the server the log of this machine
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Measure how fast the server answers
    Ping(ping::PingArgs),
    /// Call any method of the server by name, with JSON
    Call(call::CallArgs),
    /// Make a token for the login of a user
    Token(token::TokenArgs),
    /// List and choose the profiles on this machine
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Manage a server as its operator: apps, users, tokens, sessions
    Admin(admin::AdminArgs),
    /// Show a demo: a server in a temporary folder and two users
    Demo(demo::DemoArgs),
    /// Measure a server
    Bench(BenchArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page of a command, or write those of all commands
    Man(man::ManArgs),
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        let Self { global, command } = self;
        global.prepare()?;
        let limit = global.timeout.filter(|_| command.ends_by_itself());
        within(limit, Box::pin(command.run(&global, output))).await
    }
}

impl Command {
    /// The others have another use for the time limit, or none.
    fn ends_by_itself(&self) -> bool {
        let stays = matches!(self, Self::Room(room::RoomCommand::Enter(_) | room::RoomCommand::Create(_)));
        !stays && !matches!(self, Self::Listen(_) | Self::Chat(_) | Self::Demo(_) | Self::Bench(_))
    }

    async fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let context = || Context::new(global, output);
        match self {
            Self::Login(args) => login::run(args, &context()?).await,
            Self::Logout(args) => logout::run(&args, &context()?),
            Self::Renew(args) => renew::run(args, &context()?).await,
            Self::Send(args) => send::run(args, &context()?).await,
            Self::Listen(args) => listen::run(args, &context()?).await,
            Self::Chat(args) => chat::run(args, &context()?).await,
            Self::History(args) => history::run(args, &context()?).await,
            Self::Typing(args) => typing::run(args, &context()?).await,
            Self::Search(args) => search::run(args, &context()?).await,
            Self::Revoke(args) => revoke::run(args, &context()?).await,
            Self::Message(command) => message::run(command, &context()?).await,
            Self::Media(command) => media::run(command, &context()?).await,
            Self::Conversation(command) => conversation::run(command, &context()?).await,
            Self::User(command) => user::run(command, &context()?).await,
            Self::Friend(command) => friend::run(command, &context()?).await,
            Self::Group(command) => group::run(command, &context()?).await,
            Self::Ring(command) => ring::run(command, &context()?).await,
            Self::Room(command) => room::run(command, &context()?).await,
            Self::Push(command) => push::run(command, &context()?).await,
            Self::Blacklist(command) => blacklist::run(command, &context()?).await,
            Self::Status(command) => status::run(command, &context()?).await,
            Self::Log(command) => log::run(command, &context()?).await,
            Self::Ping(args) => ping::run(args, &context()?).await,
            Self::Call(args) => call::run(args, &context()?).await,
            Self::Token(args) => token::run(args, &context()?).await,
            Self::Profile(command) => profile::run(&command, &context()?),
            Self::Admin(args) => admin::run(args, &context()?).await,
            Self::Demo(args) => demo::run(args, output).await,
            Self::Bench(args) => bench::run(args, output).await,
            Self::Completions(args) => completions::run(&args, Args::command()),
            Self::Man(args) => man::run(&args, Args::command(), output),
        }
    }
}

fn long_help() -> String {
    format!(
        "{EXAMPLES}\n\n{}\n\n\
Output:
  Commands print text on a terminal, otherwise JSON, one object a line, with the names of the
  reference documentation. --json and --plain override this. Errors go to standard error,
  with code and name; with --json they are JSON, too. NO_COLOR is honoured.

Times:
  A number and a unit, everywhere: 90s, 15m, 12h, 7d.

Logs:
  -v logs to standard error. ZIM_CLI_LOG takes a filter, such as zim_client_sdk=trace.
  --log-folder FOLDER logs to files instead.

Files:
  Profiles contain secrets: only their owner can read them. `zim profile show` prints where
  they are.",
        exit::HELP
    )
}

#[cfg(test)]
mod book;
#[cfg(test)]
mod methods;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn common_options_are_accepted_anywhere() {
        for line in ["zim --json --profile bob history ann", "zim history ann --profile bob --json"] {
            let args = parse(line).unwrap();
            assert_eq!(args.global.profile.as_deref(), Some("bob"));
            assert_eq!(args.global.format(), Some(Format::Json));
        }
        assert_eq!(parse("zim history ann --plain").unwrap().global.format(), Some(Format::Plain));
        assert_eq!(parse("zim history ann").unwrap().global.format(), None);
        assert!(parse("zim history ann --plain --json").is_err());
    }

    #[test]
    fn every_command_and_option_has_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} of {} has no help", argument.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Args::command());
    }

    #[test]
    fn the_long_help_lists_the_exit_codes() {
        assert!(Args::command().render_long_help().to_string().contains("3  not logged in"));
    }
}
