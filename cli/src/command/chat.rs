//! `zim chat`: a conversation with a user, in a group or in a room, line by line.

mod deed;
mod editor;
mod heard;
mod keys;
mod screen;
mod shown;
mod typed;

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use tokio::time::timeout;
use zim_protocol::{ConversationType, Message, MessageQueryConfig, RoomAdvancedConfig, RoomInfo};

use self::deed::{Changing, Sending, Telling, Upload, Waiting};
use self::editor::Entered;
use self::keys::{Keys, Pressed};
use self::screen::{Mode, Screen};
use self::typed::{Outgoing, Typed};
use super::listen;
use super::send::checked;
use crate::context::{Context, Session};
use crate::exit::Failure;
use crate::input::{BadLine, Line, Lines};
use crate::progress;
use crate::signal::Signals;
use crate::target::Target;

/// The limit of typed lines that wait for those before them.
const MAX_WAITING: usize = 64;
/// The longest wait for the server when the chat leaves its room.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// `zim chat`
#[derive(Debug, Args)]
#[command(after_help = "\
Type a line and press Enter to send it. Backspace, Ctrl-W and Ctrl-U delete a character, a word, the line. Ctrl-D or \
/quit ends the chat, /help lists the commands: a reply is /reply 12 yes, a reaction /react 12 👍, with the number before \
the message; /unreact, /edit, /revoke, /file, /cancel, /save; @bob mentions a user. Messages that are shown are marked as read on all of \
your devices, and those who asked for a receipt get it. The other user sees that you are writing, and you see it of them. \
A room is entered with the chat, created if there is none, and left at the end. If standard input is a file or a pipe, every line is sent, \
and its end ends the chat. A file is checked to its end before anything is sent. The first line that fails ends the \
chat: it is named, and nothing after it is sent.

Examples:
  zim chat bob
  zim chat --group crew
  zim chat --room stage
  printf 'hi\\nhow are you?\\n' | zim chat bob")]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    with: Target,
    /// ID is a room: enter it, and leave it at the end
    #[arg(long, conflicts_with = "group")]
    room: bool,
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

/// What a chat is doing.
struct Chat<'a> {
    with: &'a Target,
    session: &'a mut Session,
    screen: &'a mut Screen,
    waiting: VecDeque<Waiting>,
    /// One message is in flight at most, so that nothing is sent after one that fails.
    sending: FuturesOrdered<Sending>,
    /// The upload of the message in flight.
    upload: Option<Upload>,
    /// Changes of messages that were sent.
    changing: FuturesOrdered<Changing>,
    /// Receipts, and that the user is writing: nothing waits for the results.
    telling: FuturesUnordered<Telling>,
}

pub(crate) async fn run(args: ChatArgs, context: &Context) -> Result<(), Failure> {
    let mode = Mode::of(context.output);
    let with = Target { room: args.room, ..args.with };
    // A typed line that fails does not end the chat: the screen shows the failure.
    let check = move |text: &str| if mode == Mode::Pipe { checked(&Message::text(text)) } else { Ok(()) };
    let lines = if mode == Mode::Live { None } else { Some(Lines::open(Box::new(check)).await?) };
    let (mut session, signals) = context.device().await?;
    let outcome = async {
        session.synced().await?;
        // What was raised before is in the history, which is shown next.
        session.events = session.zim.events();
        if with.room {
            let info = RoomInfo { room_id: with.id.clone(), room_name: String::new() };
            session.zim.enter_room(info, RoomAdvancedConfig::default()).await?;
        }
        let input = match lines {
            Some(mut lines) => {
                if mode == Mode::Pipe {
                    lines.limit(session.zim.server_limits().await?.max_text_bytes)?;
                }
                Input::Lines(lines)
            }
            None => Input::Keys(Keys::open()?),
        };
        let mut screen = Screen::new(context.output, mode, &session.user_id, &with);
        open(args.count, &with, &session, &mut screen).await?;
        let chat = Chat::new(&with, &mut session, &mut screen);
        Box::pin(chat.run(input, signals)).await
    }
    .await;
    if with.room {
        // The room may be gone, and so may the server.
        drop(timeout(LEAVE_WITHIN, session.zim.leave_room(&with.id)).await);
    }
    session.end().await;
    outcome
}

/// Returns the number of unread messages. What is said in a room is not counted.
async fn unread(with: &Target, session: &Session) -> Result<i64, Failure> {
    if with.kind() == ConversationType::Room {
        return Ok(0);
    }
    match session.zim.query_conversation(&with.id, with.kind()).await {
        Ok(found) => Ok(found.conversation.map_or(0, |conversation| conversation.unread_message_count)),
        Err(error) => match Failure::from(error) {
            // The first message creates the conversation.
            failure if failure.name() == "ConversationModuleConversationDoesNotExist" => Ok(0),
            failure => Err(failure),
        },
    }
}

/// Shows the earlier messages, and which of them are unread.
async fn open(count: i64, with: &Target, session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let unread = unread(with, session).await?;
    let count = count.max(unread.min(100));
    // The newest message is needed even if none is shown: events for it show nothing new.
    let config = MessageQueryConfig { count: count.max(1), reverse: true, ..MessageQueryConfig::default() };
    let earlier = session.zim.query_history_message(&with.id, with.kind(), config).await?.message_list;
    let newest = earlier.iter().map(|message| message.message_seq).max().unwrap_or(0);
    let shown = earlier.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    let shown = earlier.get(shown..).unwrap_or_default();
    screen.begin(shown, newest, unread)?;
    if unread > 0 || shown.iter().any(deed::asks) {
        deed::read(session.zim.clone(), with.clone(), shown.to_vec()).await?;
    }
    Ok(())
}

impl<'a> Chat<'a> {
    fn new(with: &'a Target, session: &'a mut Session, screen: &'a mut Screen) -> Self {
        let (waiting, sending, upload) = (VecDeque::new(), FuturesOrdered::new(), None);
        let (changing, telling) = (FuturesOrdered::new(), FuturesUnordered::new());
        Self { with, session, screen, waiting, sending, upload, changing, telling }
    }

    async fn run(mut self, mut input: Input, mut signals: Signals) -> Result<(), Failure> {
        let progress = progress::sending(input.left());
        let (mut more, mut failed, mut sent) = (true, None, 0);
        loop {
            self.send_next();
            if !more && self.sending.is_empty() && self.changing.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some(()) = self.telling.next() => {}
                Some((number, outcome)) = self.sending.next() => {
                    let is_stored = outcome.is_ok();
                    self.upload = None;
                    self.screen.sent(outcome).map_err(|failure| BadLine { number, failure }.after(sent))?;
                    if is_stored {
                        sent += 1;
                        progress.inc(1);
                    }
                }
                Some(changed) = self.changing.next() => match changed {
                    Ok(said) => said.iter().try_for_each(|said| self.screen.aside(said))?,
                    Err(failure) => self.screen.failed(&failure)?,
                },
                event = self.session.events.next() => match event {
                    None => return Ok(()),
                    Some(Err(lagged)) => self.screen.aside(&lagged.to_string())?,
                    Some(Ok(event)) => {
                        let read = heard::show(&event, self.screen)?;
                        self.read(read);
                        listen::ended(&event)?;
                    }
                },
                piece = input.next(), if more && self.waiting.len() < MAX_WAITING => match piece {
                    Ok(Piece::End) => more = false,
                    // The lines before are sent first.
                    Err(line) => {
                        let before = sent + self.waiting.len() + self.sending.len();
                        (more, failed) = (false, Some(line.after(before)));
                    }
                    Ok(Piece::Line(line)) => more = self.typed(line)?,
                    Ok(Piece::Pressed(Pressed::Resumed)) => self.screen.redraw()?,
                    Ok(Piece::Pressed(Pressed::Keys(keys))) => more = self.pressed(&keys)?,
                },
                _ = signals.next() => {
                    let left = self.waiting.len() + self.sending.len() + input.left().unwrap_or(0);
                    if left > 0 {
                        failed = Some(Failure::other(format!("interrupted: {left} lines were not sent")));
                    }
                    break;
                }
            }
        }
        progress.finish_and_clear();
        while let Some(()) = self.telling.next().await {}
        self.screen.end()?;
        failed.map_or(Ok(()), Err)
    }

    /// Begins to send the next line, if none is in flight.
    fn send_next(&mut self) {
        if self.sending.is_empty()
            && let Some(line) = self.waiting.pop_front()
        {
            let (sending, upload) = deed::send(self.with, &self.session.zim, line);
            self.sending.push_back(sending);
            self.upload = upload;
        }
    }

    /// Marks what was shown as read.
    fn read(&mut self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let read = deed::read(self.session.zim.clone(), self.with.clone(), messages);
        self.telling.push(Box::pin(async move { drop(read.await) }));
    }

    /// Takes keys; returns false if they end the chat.
    fn pressed(&mut self, keys: &[u8]) -> Result<bool, Failure> {
        let mut more = !keys.is_empty();
        for entered in self.screen.keys(keys)? {
            more = more
                && match entered {
                    Entered::Line(text) => self.typed(Line { number: 0, text })?,
                    Entered::End => false,
                };
        }
        if self.with.kind() == ConversationType::Peer && self.screen.is_typing() {
            let told = self.session.zim.peer(&self.with.id).typing();
            self.telling.push(Box::pin(async move { drop(told.await) }));
        }
        Ok(more)
    }

    /// Takes a line; returns false if it ends the chat.
    fn typed(&mut self, line: Line) -> Result<bool, Failure> {
        let number = line.number;
        match self.screen.command(&line.text) {
            Typed::Nothing => {}
            Typed::Quit => return Ok(false),
            Typed::Help => self.screen.help()?,
            Typed::Wrong(form) => self.screen.failed(&Failure::usage(format!("it is written {form}")))?,
            Typed::Cancel => match self.upload.take() {
                Some(upload) => self.changing.push_back(deed::cancel(upload, self.session.zim.clone())),
                None => self.screen.failed(&Failure::usage("no file is being sent"))?,
            },
            Typed::Change(change) => {
                self.changing.push_back(deed::change(change, self.with, &self.session.zim));
            }
            Typed::Send(what) => self.wait(Waiting { number, what })?,
        }
        Ok(true)
    }

    /// Lets a line wait for those before it.
    fn wait(&mut self, line: Waiting) -> Result<(), Failure> {
        if self.with.room && matches!(line.what, Outgoing::Reply(..)) {
            return self.screen.failed(&Failure::usage("messages of a room have no numbers"));
        }
        self.screen.typed(&line.what.shown())?;
        self.waiting.push_back(line);
        Ok(())
    }
}
