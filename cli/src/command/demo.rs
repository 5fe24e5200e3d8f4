//! `zim demo`: what a newcomer wants to see, with a real server and two people.

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
use crate::local_server::LocalServer;
use crate::output::{Ink, Output, span};
use crate::profile::Profile;

/// Everything here takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// `zim demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The server to start [default: zim-server beside this program]
    #[arg(long, value_name = "FILE")]
    server_bin: Option<PathBuf>,
}

pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<(), Failure> {
    // It is a show, wherever it is shown.
    let stage = Stage { output: output.for_people(), began: Instant::now() };
    let server = LocalServer::start(args.server_bin.as_deref(), &[], None).await?;
    let played = tokio::select! {
        played = play(&stage, &server) => played,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Err(Failure::other("interrupted")),
            Err(error) => Err(error.into()),
        },
    };
    let stopped = server.stop().await;
    played.and(stopped)?;
    stage.say("server", format!("stopped and removed; that took {}", span(stage.began.elapsed())))?;
    stage.output.line(
        "\nNow yours. In one terminal: zim-server\n\
         In another, in the same folder: zim login ann, and zim --profile bob login bob, then zim chat bob",
    )
}

/// Where it is shown.
#[derive(Debug)]
struct Stage {
    output: Output,
    began: Instant,
}

impl Stage {
    fn say(&self, who: &str, what: impl AsRef<str>) -> Result<(), Failure> {
        let ink = if who == "server" { Ink::Dim } else { Ink::Name };
        self.output.line(format!("{}  {}", self.output.paint(ink, &format!("{who:<6}")), what.as_ref()))
    }

    fn soft(&self, text: impl AsRef<str>) -> String {
        self.output.paint(Ink::Dim, text.as_ref())
    }
}

async fn play(stage: &Stage, server: &LocalServer) -> Result<(), Failure> {
    stage.say(
        "server",
        format!("ready in {} at {}, all it keeps is in a temporary folder", span(server.ready_in()), server.address()),
    )?;
    let mut ann = log_in_as("ann", server).await?;
    let mut bob = log_in_as("bob", server).await?;
    stage.say("ann", "logged in")?;
    stage.say("bob", "logged in")?;

    send(stage, &ann, "bob", "hi bob, pizza at 8?").await?;
    let came = receive(&mut bob, 1).await?;
    heard(stage, "bob", &came)?;
    let listed = conversations(&bob).await?;
    for conversation in &listed {
        let last = conversation.last_message.as_ref().map(describe::short).unwrap_or_default();
        let count = conversation.unread_message_count;
        stage.say("bob", format!("has {count} unread from {}: {last}", describe::name(conversation)))?;
    }
    bob.zim.clear_conversation_unread_message_count("ann", ConversationType::Peer).await?;
    let unread: i64 = conversations(&bob).await?.iter().map(|conversation| conversation.unread_message_count).sum();
    stage.say("bob", format!("reads it: {unread} unread"))?;
    send(stage, &bob, "ann", "of course!").await?;
    heard(stage, "ann", &receive(&mut ann, 1).await?)?;

    bob.end().await;
    stage.say("bob", stage.soft("goes offline"))?;
    send(stage, &ann, "bob", "bring your sister").await?;
    send(stage, &ann, "bob", "and something to drink").await?;
    let mut bob = log_in_as("bob", server).await?;
    stage.say("bob", stage.soft("comes back"))?;
    let missed = receive(&mut bob, 2).await?;
    heard(stage, "bob", &missed)?;

    let query = MessageQueryConfig { count: 10, reverse: true, ..MessageQueryConfig::default() };
    let history = bob.zim.query_history_message("ann", ConversationType::Peer, query).await?.message_list;
    stage.say("bob", format!("looks at the history, {} messages:", history.len()))?;
    for message in &history {
        for line in describe::message(stage.output, message, describe::who_columns(&history)) {
            stage.output.line(format!("        {line}"))?;
        }
    }
    bob.end().await;
    ann.end().await;
    Ok(())
}

async fn log_in_as(user_id: &str, server: &LocalServer) -> Result<Session, Failure> {
    let profile = Profile { user_id: Some(user_id.to_owned()), ..server.profile()? };
    let device = server.folder().join(user_id);
    let mut session = log_in(config(&profile)?.data_dir(device), &profile).await?;
    session.synced().await?;
    Ok(session)
}

async fn send(stage: &Stage, from: &Session, to: &str, text: &str) -> Result<(), Failure> {
    let (config, told) = (MessageSendConfig::default(), MessageSendNotification::default());
    let began = Instant::now();
    from.zim.send_message(Message::text(text), to, ConversationType::Peer, config, told).await?;
    let stored = stage.soft(format!("stored for good in {}", span(began.elapsed())));
    stage.say(&from.user_id, format!("> {text:<24}  {stored}"))
}

fn heard(stage: &Stage, who: &str, came: &[(Message, bool)]) -> Result<(), Failure> {
    came.iter().try_for_each(|(message, offline)| {
        let note = if *offline { "came while away" } else { "came by itself" };
        stage.say(who, format!("< {:<24}  {}", describe::short(message), stage.soft(note)))
    })
}

/// The next `count` messages, and whether each was sent while nobody was there.
async fn receive(session: &mut Session, count: usize) -> Result<Vec<(Message, bool)>, Failure> {
    let mut came = Vec::new();
    let receiving = async {
        while came.len() < count {
            if let Event::PeerMessageReceived(received) = next(session).await? {
                let offline = received.info.is_some_and(|info| info.is_offline_message);
                came.extend(received.message_list.into_iter().map(|message| (message, offline)));
            }
        }
        Ok::<_, Failure>(())
    };
    let late = |_| Failure::new(Exit::Network, "a message did not arrive in time");
    timeout(PATIENCE, receiving).await.map_err(late)??;
    Ok(came)
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
