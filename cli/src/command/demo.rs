//! `zim demo`: a short demonstration with a real server and two users.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::time::timeout;
use zim_client_sdk::MessageSendNotification;
use zim_protocol::{
    Conversation, ConversationFilterOption, ConversationQueryConfig, ConversationType, Event, Message,
    MessageQueryConfig, MessageSendConfig,
};

use crate::context::{Session, config, log_in};
use crate::describe;
use crate::exit::{Exit, Failure};
use crate::local_server::{LocalServer, Shared};
use crate::output::{Ink, Output, span};
use crate::profile::Profile;
use crate::signal::Signals;

/// The time limit of each step. A step takes milliseconds.
const STEP_WITHIN: Duration = Duration::from_secs(10);

/// `zim demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The server binary [default: zim-server in the folder of this program]
    #[arg(long, value_name = "FILE")]
    server_bin: Option<PathBuf>,
}

pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<(), Failure> {
    // The demo prints text in every format.
    let printer = Printer { output: output.as_plain(), began: Instant::now() };
    let server = LocalServer::start(args.server_bin.as_deref(), &[], Shared::default()).await?;
    let mut signals = Signals::listen()?;
    let result = tokio::select! {
        result = run_steps(&printer, &server) => result,
        _ = signals.next() => Err(Failure::other("interrupted")),
    };
    let stopped = server.stop().await;
    result.and(stopped)?;
    printer.step("server", format!("stopped and removed after {}", span(printer.began.elapsed())))?;
    printer.output.line(
        "\nTry it yourself. In one terminal: zim-server\n\
         In another, in the same folder: zim login ann, then zim --profile bob login bob, then zim chat bob",
    )
}

/// Prints the steps of the demo.
#[derive(Debug)]
struct Printer {
    output: Output,
    began: Instant,
}

impl Printer {
    fn step(&self, who: &str, what: impl AsRef<str>) -> Result<(), Failure> {
        let ink = if who == "server" { Ink::Dim } else { Ink::Name };
        self.output.line(format!("{}  {}", self.output.paint(ink, &format!("{who:<6}")), what.as_ref()))
    }

    fn dim(&self, text: impl AsRef<str>) -> String {
        self.output.paint(Ink::Dim, text.as_ref())
    }
}

async fn run_steps(printer: &Printer, server: &LocalServer) -> Result<(), Failure> {
    printer.step(
        "server",
        format!("ready in {} at {}, with all data in a temporary folder", span(server.ready_in()), server.address()),
    )?;
    let mut ann = log_in_as("ann", server).await?;
    let mut bob = log_in_as("bob", server).await?;
    printer.step("ann", "logged in")?;
    printer.step("bob", "logged in")?;

    send(printer, &ann, "bob", "hi bob, pizza at 8?").await?;
    let received = receive(&mut bob, 1).await?;
    show_received(printer, "bob", &received)?;
    let listed = conversations(&bob).await?;
    for conversation in &listed {
        let last = conversation.last_message.as_ref().map(describe::short).unwrap_or_default();
        let count = conversation.unread_message_count;
        printer.step("bob", format!("has {count} unread from {}: {last}", describe::name(conversation)))?;
    }
    bob.zim.clear_conversation_unread_message_count("ann", ConversationType::Peer).await?;
    let unread: i64 = conversations(&bob).await?.iter().map(|conversation| conversation.unread_message_count).sum();
    printer.step("bob", format!("reads the message: {unread} unread"))?;
    send(printer, &bob, "ann", "of course!").await?;
    show_received(printer, "ann", &receive(&mut ann, 1).await?)?;

    bob.end().await;
    printer.step("bob", printer.dim("goes offline"))?;
    send(printer, &ann, "bob", "bring your sister").await?;
    send(printer, &ann, "bob", "and something to drink").await?;
    let mut bob = log_in_as("bob", server).await?;
    printer.step("bob", printer.dim("comes back online"))?;
    let missed = receive(&mut bob, 2).await?;
    show_received(printer, "bob", &missed)?;

    let query = MessageQueryConfig { count: 10, reverse: true, ..MessageQueryConfig::default() };
    let history = bob.zim.query_history_message("ann", ConversationType::Peer, query).await?.message_list;
    printer.step("bob", format!("reads the history, {} messages:", history.len()))?;
    for message in &history {
        for line in describe::message(printer.output, message, describe::sender_columns(&history)) {
            printer.output.line(format!("        {line}"))?;
        }
    }
    bob.end().await;
    ann.end().await;
    Ok(())
}

async fn log_in_as(user_id: &str, server: &LocalServer) -> Result<Session, Failure> {
    let profile = Profile { user_id: Some(user_id.to_owned()), ..server.profile()? };
    let device = server.folder().join(user_id);
    let session = log_in(config(&profile)?.data_dir(device), &profile).await?;
    session.synced().await?;
    Ok(session)
}

async fn send(printer: &Printer, from: &Session, to: &str, text: &str) -> Result<(), Failure> {
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    let began = Instant::now();
    from.zim.send_message(Message::text(text), to, ConversationType::Peer, config, notification).await?;
    let stored = printer.dim(format!("stored in {}", span(began.elapsed())));
    printer.step(&from.user_id, format!("> {text:<24}  {stored}"))
}

fn show_received(printer: &Printer, who: &str, received: &[(Message, bool)]) -> Result<(), Failure> {
    received.iter().try_for_each(|(message, offline)| {
        let note = if *offline { "sent while offline" } else { "received at once" };
        printer.step(who, format!("< {:<24}  {}", describe::short(message), printer.dim(note)))
    })
}

/// Waits for `count` messages; returns each with whether it was sent while the user was offline.
async fn receive(session: &mut Session, count: usize) -> Result<Vec<(Message, bool)>, Failure> {
    let mut messages = Vec::new();
    let receiving = async {
        while messages.len() < count {
            if let Event::PeerMessageReceived(received) = next(session).await? {
                let offline = received.info.is_some_and(|info| info.is_offline_message);
                messages.extend(received.message_list.into_iter().map(|message| (message, offline)));
            }
        }
        Ok::<_, Failure>(())
    };
    let timed_out = |_| Failure::new(Exit::Network, "a message did not arrive in time");
    timeout(STEP_WITHIN, receiving).await.map_err(timed_out)??;
    Ok(messages)
}

async fn next(session: &mut Session) -> Result<Event, Failure> {
    match session.events.next().await {
        Some(Ok(event)) => Ok(event),
        Some(Err(lagged)) => Err(Failure::other(lagged.to_string())),
        None => Err(Failure::other("the events ended")),
    }
}

async fn conversations(session: &Session) -> Result<Vec<Conversation>, Failure> {
    let config = ConversationQueryConfig { count: 10, ..ConversationQueryConfig::default() };
    let listed = session.zim.query_conversation_list(config, ConversationFilterOption::default()).await?;
    Ok(listed.conversation_list)
}
