//! `zim chat WITH`: lines in, lines out.

mod screen;

use std::pin::pin;

use clap::Args;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::io::{AsyncBufReadExt, BufReader};
use zim_protocol::{
    ConnectionState, ConversationType, Event, Message, MessageDirection, MessageQueryConfig, MessageSendConfig,
    MessageSentResult,
};

use self::screen::Screen;
use super::listen;
use crate::context::{Context, Session};
use crate::exit::Failure;

/// Lines that may be under way at once.
const UNDER_WAY: usize = 64;

/// `zim chat`
#[derive(Debug, Args)]
#[command(after_help = "\
Type a line and press Enter. Ctrl-D or /quit ends, /help helps. What is shown is read: on no device \
of yours it counts as unread any more. With standard input from a pipe every line is sent, and the \
end of it ends the chat.

Examples:
  zim chat bob
  printf 'hi\\nhow are you?\\n' | zim chat bob")]
pub(crate) struct ChatArgs {
    /// The user
    #[arg(value_name = "WITH")]
    with: String,
    /// Begin with so many messages of before
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i64).range(0..=100))]
    count: i64,
}

type Sending = BoxFuture<'static, Result<MessageSentResult, zim_client_sdk::Error>>;

pub(crate) async fn run(args: ChatArgs, context: &Context) -> Result<(), Failure> {
    let mut session = context.device().await?;
    let outcome = async {
        session.synced().await?;
        let mut screen = Screen::new(context.output, &session.user_id, &args.with);
        open(&args, &session, &mut screen).await?;
        Box::pin(talk(&args, &mut session, &mut screen)).await
    }
    .await;
    session.end().await;
    outcome
}

/// What was said before, and what of it is new.
async fn open(args: &ChatArgs, session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let unread = match session.zim.query_conversation(&args.with, ConversationType::Peer).await {
        Ok(found) => found.conversation.map_or(0, |conversation| conversation.unread_message_count),
        // The first message makes the conversation.
        Err(error) => {
            let failure = Failure::from(error);
            if failure.name() != "ConversationModuleConversationDoesNotExist" {
                return Err(failure);
            }
            0
        }
    };
    let count = args.count.max(unread.min(100));
    let config = MessageQueryConfig { count, reverse: true, ..MessageQueryConfig::default() };
    let before = match count {
        0 => Vec::new(),
        _ => session.zim.query_history_message(&args.with, ConversationType::Peer, config).await?.message_list,
    };
    screen.begin(&before, unread)?;
    if unread > 0 {
        session.zim.clear_conversation_unread_message_count(&args.with, ConversationType::Peer).await?;
    }
    Ok(())
}

async fn talk(args: &ChatArgs, session: &mut Session, screen: &mut Screen) -> Result<(), Failure> {
    let mut typed = BufReader::new(tokio::io::stdin()).lines();
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut sending = FuturesOrdered::<Sending>::new();
    // Reading marks that are under way: nobody waits for them.
    let mut reading = FuturesOrdered::new();
    let mut more = true;
    while more || !sending.is_empty() {
        tokio::select! {
            biased;
            Some(_) = reading.next() => {}
            Some(sent) = sending.next() => screen.sent(sent)?,
            event = session.events.next() => match event {
                None => return Ok(()),
                Some(Err(lagged)) => screen.aside(&lagged.to_string())?,
                Some(Ok(event)) => {
                    if show(&event, screen)? {
                        reading.push_back(session.zim.clear_conversation_unread_message_count(&args.with, ConversationType::Peer));
                    }
                    listen::ended(&event)?;
                }
            },
            line = typed.next_line(), if more && sending.len() < UNDER_WAY => match line? {
                None => more = false,
                Some(line) => match screen.command(&line) {
                    Typed::Nothing => screen.prompt()?,
                    Typed::Quit => more = false,
                    Typed::Help => screen.help()?,
                    Typed::Text(text) => {
                        screen.typed(&text);
                        sending.push_back(send(args, session, text));
                    }
                },
            },
            _ = &mut interrupted => break,
        }
    }
    while let Some(_read) = reading.next().await {}
    screen.end()
}

fn send(args: &ChatArgs, session: &Session, text: String) -> Sending {
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let notification = zim_client_sdk::MessageSendNotification::default();
    let message = Message::text(text);
    Box::pin(session.zim.send_message(message, &args.with, ConversationType::Peer, config, notification))
}

/// Shows an event, if it is one for here; true if it is to be read.
fn show(event: &Event, screen: &mut Screen) -> Result<bool, Failure> {
    match event {
        Event::PeerMessageReceived(received) if received.from_conversation_id == screen.with() => {
            screen.messages(&received.message_list)?;
            Ok(received.message_list.iter().any(|message| message.direction() == MessageDirection::Receive))
        }
        Event::PeerMessageReceived(received) => {
            let count = received.message_list.len();
            let from = &received.from_conversation_id;
            screen.aside(&format!("{count} new from {from}: zim chat {from}"))?;
            Ok(false)
        }
        Event::MessageReceiptChanged(changed) => {
            let read = changed.infos.iter().any(|info| info.conversation_id == screen.with() && !info.is_self_operated);
            if read {
                screen.read()?;
            }
            Ok(false)
        }
        Event::ConversationMessageReceiptChanged(changed) => {
            let read = changed.infos.iter().any(|info| info.conversation_id == screen.with() && !info.is_self_operated);
            if read {
                screen.read()?;
            }
            Ok(false)
        }
        Event::ConnectionStateChanged(change) => {
            match change.state() {
                ConnectionState::Reconnecting => {
                    screen.aside("connection lost; what you type is sent when it is back")?;
                }
                ConnectionState::Connected => screen.aside("connected")?,
                _ => {}
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Nothing,
    Quit,
    Help,
    Text(String),
}

impl Typed {
    /// Commands are for people: what comes from a pipe is all text.
    fn of(line: &str, commands: bool) -> Self {
        match line.trim() {
            "" => Self::Nothing,
            "/quit" | "/q" | "/exit" if commands => Self::Quit,
            "/help" | "/?" if commands => Self::Help,
            _ => Self::Text(line.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_for_people_only() {
        assert_eq!(Typed::of("  ", true), Typed::Nothing);
        assert_eq!(Typed::of("/quit", true), Typed::Quit);
        assert_eq!(Typed::of("/quit", false), Typed::Text("/quit".into()));
        assert_eq!(Typed::of("/help ", true), Typed::Help);
        assert_eq!(Typed::of("/home is a folder", true), Typed::Text("/home is a folder".into()));
        assert_eq!(Typed::of(" indented", true), Typed::Text(" indented".into()));
    }
}
