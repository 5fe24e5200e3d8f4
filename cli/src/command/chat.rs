//! `zim chat`: a conversation with a user or in a group, line by line.

mod editor;
mod keys;
mod screen;

use std::collections::VecDeque;

use clap::Args;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use zim_protocol::{
    ConnectionState, ConversationType, Event, GroupEvent, Message, MessageDirection, MessageQueryConfig,
    MessageSendConfig, MessageSentResult,
};

use self::editor::Entered;
use self::keys::{Keys, Pressed};
use self::screen::{Mode, Screen};
use super::listen;
use super::send::checked;
use crate::context::{Context, Session};
use crate::deliver::deliver;
use crate::describe;
use crate::exit::Failure;
use crate::input::{BadLine, Line, Lines};
use crate::progress;
use crate::signal::Signals;
use crate::target::Target;

/// The limit of typed lines that wait for those before them.
const MAX_WAITING: usize = 64;

/// `zim chat`
#[derive(Debug, Args)]
#[command(after_help = "\
Type a line and press Enter to send it. Backspace, Ctrl-W and Ctrl-U delete a character, a word, the line. Ctrl-D or \
/quit ends the chat, /help shows help. Messages that are shown are marked as read on all of your devices. If standard input is a file or a pipe, every line is sent, \
and its end ends the chat. A file is checked to its end before anything is sent. The first line that fails ends the \
chat: it is named, and nothing after it is sent.

Examples:
  zim chat bob
  zim chat --group crew
  printf 'hi\\nhow are you?\\n' | zim chat bob")]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    with: Target,
    /// Number of earlier messages to show first
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i64).range(0..=100))]
    count: i64,
}

/// Where the lines come from.
enum Input {
    Lines(Lines),
    Keys(Keys),
}

/// A piece of input.
enum Piece {
    End,
    Line(Line),
    Pressed(Pressed),
}

impl Input {
    /// Cancel safe.
    async fn next(&mut self) -> Result<Piece, BadLine> {
        match self {
            Self::Lines(lines) => Ok(lines.next().await?.map_or(Piece::End, Piece::Line)),
            Self::Keys(keys) => keys.next().await.map(Piece::Pressed).map_err(|failure| BadLine { number: 0, failure }),
        }
    }

    /// Returns the number of lines that are left, if it is known.
    fn left(&self) -> Option<usize> {
        match self {
            Self::Lines(lines) => lines.left(),
            Self::Keys(_) => None,
        }
    }
}

/// The number of a line, and the message that was made of it.
type Sending = BoxFuture<'static, (usize, Result<MessageSentResult, zim_client_sdk::Error>)>;

pub(crate) async fn run(args: ChatArgs, context: &Context) -> Result<(), Failure> {
    let mode = Mode::of(context.output);
    // A typed line that fails does not end the chat: the screen shows the failure.
    let check = move |text: &str| if mode == Mode::Pipe { checked(&Message::text(text)) } else { Ok(()) };
    let lines = if mode == Mode::Live { None } else { Some(Lines::open(Box::new(check)).await?) };
    let (mut session, signals) = context.device().await?;
    let outcome = async {
        session.synced().await?;
        // What was raised before is in the history, which is shown next.
        session.events = session.zim.events();
        let input = match lines {
            Some(mut lines) => {
                if mode == Mode::Pipe {
                    lines.limit(session.zim.server_limits().await?.max_text_bytes)?;
                }
                Input::Lines(lines)
            }
            None => Input::Keys(Keys::open()?),
        };
        let mut screen = Screen::new(context.output, mode, &session.user_id, &args.with);
        open(&args, &session, &mut screen).await?;
        Box::pin(chat(&args, &mut session, &mut screen, input, signals)).await
    }
    .await;
    session.end().await;
    outcome
}

/// Shows the earlier messages, and which of them are unread.
async fn open(args: &ChatArgs, session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let unread = match session.zim.query_conversation(&args.with.id, args.with.kind()).await {
        Ok(found) => found.conversation.map_or(0, |conversation| conversation.unread_message_count),
        // The first message creates the conversation.
        Err(error) => {
            let failure = Failure::from(error);
            if failure.name() != "ConversationModuleConversationDoesNotExist" {
                return Err(failure);
            }
            0
        }
    };
    let count = args.count.max(unread.min(100));
    // The newest message is needed even if none is shown: events for it show nothing new.
    let config = MessageQueryConfig { count: count.max(1), reverse: true, ..MessageQueryConfig::default() };
    let earlier = session.zim.query_history_message(&args.with.id, args.with.kind(), config).await?.message_list;
    let newest = earlier.iter().map(|message| message.message_seq).max().unwrap_or(0);
    let shown = earlier.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    screen.begin(earlier.get(shown..).unwrap_or_default(), newest, unread)?;
    if unread > 0 {
        session.zim.clear_conversation_unread_message_count(&args.with.id, args.with.kind()).await?;
    }
    Ok(())
}

async fn chat(
    args: &ChatArgs,
    session: &mut Session,
    screen: &mut Screen,
    mut input: Input,
    mut signals: Signals,
) -> Result<(), Failure> {
    // One message is in flight at most, so that nothing is sent after one that fails.
    let mut sending = FuturesOrdered::<Sending>::new();
    let mut waiting = VecDeque::<Line>::new();
    // Requests in flight that mark messages as read: nothing waits for their results.
    let mut reading = FuturesOrdered::new();
    let progress = progress::sending(input.left());
    let (mut more, mut failed, mut sent) = (true, None, 0);
    loop {
        if sending.is_empty()
            && let Some(line) = waiting.pop_front()
        {
            sending.push_back(send(args, session, line));
        }
        if !more && sending.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            Some(_) = reading.next() => {}
            Some((number, outcome)) = sending.next() => {
                let is_stored = outcome.is_ok();
                screen.sent(outcome).map_err(|failure| BadLine { number, failure }.after(sent))?;
                if is_stored {
                    sent += 1;
                    progress.inc(1);
                }
            }
            event = session.events.next() => match event {
                None => return Ok(()),
                Some(Err(lagged)) => screen.aside(&lagged.to_string())?,
                Some(Ok(event)) => {
                    if show(&event, screen)? {
                        reading.push_back(session.zim.clear_conversation_unread_message_count(&args.with.id, args.with.kind()));
                    }
                    listen::ended(&event)?;
                }
            },
            piece = input.next(), if more && waiting.len() < MAX_WAITING => match piece {
                Ok(Piece::End) => more = false,
                // The lines before are sent first.
                Err(line) => (more, failed) = (false, Some(line.after(sent + waiting.len() + sending.len()))),
                Ok(Piece::Line(line)) => more = typed(line, screen, &mut waiting)?,
                Ok(Piece::Pressed(Pressed::Resumed)) => screen.redraw()?,
                Ok(Piece::Pressed(Pressed::Keys(keys))) => {
                    more = !keys.is_empty();
                    for entered in screen.keys(&keys)? {
                        more = more && match entered {
                            Entered::Line(text) => typed(Line { number: 0, text }, screen, &mut waiting)?,
                            Entered::End => false,
                        };
                    }
                }
            },
            _ = signals.next() => {
                let left = waiting.len() + sending.len() + input.left().unwrap_or(0);
                if left > 0 {
                    failed = Some(Failure::other(format!("interrupted: {left} lines were not sent")));
                }
                break;
            }
        }
    }
    progress.finish_and_clear();
    while let Some(_read) = reading.next().await {}
    screen.end()?;
    failed.map_or(Ok(()), Err)
}

/// Takes a line; returns false if it ends the chat.
fn typed(line: Line, screen: &mut Screen, waiting: &mut VecDeque<Line>) -> Result<bool, Failure> {
    match screen.command(&line.text) {
        Typed::Nothing => {}
        Typed::Quit => return Ok(false),
        Typed::Help => screen.help()?,
        Typed::Text(text) => {
            screen.typed(&text)?;
            waiting.push_back(Line { text, ..line });
        }
    }
    Ok(true)
}

fn send(args: &ChatArgs, session: &Session, line: Line) -> Sending {
    // In a group there are no receipts to ask for.
    let config = MessageSendConfig { has_receipt: !args.with.group, ..MessageSendConfig::default() };
    let sending = deliver(session.zim.clone(), Message::text(line.text), args.with.clone(), config);
    Box::pin(async move { (line.number, sending.await) })
}

/// Shows an event that concerns the chat; returns true if messages are to be marked as read.
fn show(event: &Event, screen: &mut Screen) -> Result<bool, Failure> {
    match event {
        Event::PeerMessageReceived(received) => {
            messages(&received.from_conversation_id, ConversationType::Peer, &received.message_list, screen)
        }
        Event::GroupMessageReceived(received) => {
            messages(&received.from_conversation_id, ConversationType::Group, &received.message_list, screen)
        }
        Event::GroupMemberStateChanged(change) if screen.is_of(&change.group_id, ConversationType::Group) => {
            screen.aside(&describe::group::members_changed(change))?;
            Ok(false)
        }
        Event::GroupMemberInfoUpdated(change) if screen.is_of(&change.group_id, ConversationType::Group) => {
            describe::group::members_updated(change).iter().try_for_each(|line| screen.aside(line))?;
            Ok(false)
        }
        Event::GroupStateChanged(change) if change.event() == GroupEvent::Dismissed => {
            let group = change.group_info.as_ref().and_then(|info| info.base_info.as_ref());
            if group.is_some_and(|group| screen.is_of(&group.group_id, ConversationType::Group)) {
                screen.aside(&describe::group::state_changed(change))?;
            }
            Ok(false)
        }
        Event::MessageReceiptChanged(changed) => {
            let read = changed
                .infos
                .iter()
                .any(|info| screen.is_of(&info.conversation_id, ConversationType::Peer) && !info.is_self_operated);
            if read {
                screen.read()?;
            }
            Ok(false)
        }
        Event::ConversationMessageReceiptChanged(changed) => {
            let read = changed
                .infos
                .iter()
                .any(|info| screen.is_of(&info.conversation_id, ConversationType::Peer) && !info.is_self_operated);
            if read {
                screen.read()?;
            }
            Ok(false)
        }
        Event::ConnectionStateChanged(change) => {
            match change.state() {
                ConnectionState::Reconnecting => {
                    screen.aside("connection lost; what you type is sent after the reconnect")?;
                }
                ConnectionState::Connected => screen.aside("connected")?,
                _ => {}
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Shows messages of this chat, or that there are some of another; returns true if messages are to be marked as read.
fn messages(id: &str, kind: ConversationType, list: &[Message], screen: &mut Screen) -> Result<bool, Failure> {
    if screen.is_of(id, kind) {
        screen.messages(list)?;
        return Ok(list.iter().any(|message| message.direction() == MessageDirection::Receive));
    }
    let target = Target { id: id.to_owned(), group: kind == ConversationType::Group };
    let (place, argument) = (target.place("from"), target.argument());
    screen.aside(&format!("{} new {place}: zim chat {argument}", list.len()))?;
    Ok(false)
}

/// The meaning of a typed line.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Nothing,
    Quit,
    Help,
    Text(String),
}

impl Typed {
    /// Parses a line. Only an interactive chat has commands: a pipe is all text.
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
    fn only_an_interactive_chat_has_commands() {
        assert_eq!(Typed::of("  ", true), Typed::Nothing);
        assert_eq!(Typed::of("/quit", true), Typed::Quit);
        assert_eq!(Typed::of("/quit", false), Typed::Text("/quit".into()));
        assert_eq!(Typed::of("/help ", true), Typed::Help);
        assert_eq!(Typed::of("/home is a folder", true), Typed::Text("/home is a folder".into()));
        assert_eq!(Typed::of(" indented", true), Typed::Text(" indented".into()));
    }
}
