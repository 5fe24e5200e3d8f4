//! A chat client for the terminal. Start a server, then run this with the values that it prints, for two users in two
//! terminals:
//!
//! ```text
//! cargo run -p zim-client-sdk --example tui -- 127.0.0.1:4710 APP_ID APP_SIGN FINGERPRINT USER [DATA_FOLDER]
//! ```
//!
//! Up and Down choose a conversation, `/with USER` begins one, Page Up and Page Down scroll, Enter sends, and Escape ends the
//! program. With a data folder, messages are there at once the next time, also without a network.

use crossterm::event::{Event as TerminalEvent, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, List, ListState, Paragraph};
use zim_client_sdk::{
    Config, Conversation, ConversationList, ConversationType, Event, LoginConfig, Message, MessageSendConfig,
    MessageSendNotification, MessageSentStatus, MessageType, Timeline, Trust, Zim,
};

type Failure = Box<dyn std::error::Error>;

/// The conversations of the list, at first and with each step down.
const CONVERSATIONS: usize = 50;
/// The messages of a conversation, at first and with each step up.
const MESSAGES: usize = 50;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, app_id, app_sign, fingerprint, user, folder @ ..] = &arguments[..] else {
        return Err("pass the server's address, the app id, the app sign, the fingerprint and your user id".into());
    };
    let mut config = Config::new(app_id.parse()?, server)
        .app_sign(app_sign)
        .trust(Trust::fingerprint(fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")?);
    if let Some(folder) = folder.first() {
        config = config.data_dir(folder);
    }
    let zim = Zim::new(config)?;
    // Who was logged in before on this device gets what is stored, and the connection follows.
    let offline = LoginConfig { is_offline_login: true, ..LoginConfig::default() };
    if folder.is_empty() || zim.login(user, offline).await.is_err() {
        zim.login(user, LoginConfig::default()).await?;
    }
    let app = App::new(zim.clone(), user).await?;
    let terminal = ratatui::try_init()?;
    let ended = app.run(terminal).await;
    ratatui::try_restore()?;
    zim.logout().await;
    ended
}

/// What is on the screen.
struct App {
    zim: Zim,
    user: String,
    list: ConversationList,
    open: Option<Open>,
    input: String,
    is_done: bool,
}

/// The conversation that is open.
struct Open {
    id: String,
    kind: ConversationType,
    timeline: Timeline,
    /// The lines below the screen.
    below: usize,
    /// The lines above the screen, when it was drawn last.
    above: usize,
}

impl App {
    async fn new(zim: Zim, user: &str) -> Result<Self, Failure> {
        let list = zim.observe_conversations(CONVERSATIONS).await?;
        let mut app = Self { zim, user: user.to_owned(), list, open: None, input: String::new(), is_done: false };
        app.choose(0).await?;
        Ok(app)
    }

    async fn run(mut self, mut terminal: ratatui::DefaultTerminal) -> Result<(), Failure> {
        let mut keys = EventStream::new();
        // They report the state of the connection; the lists need none.
        let mut events = self.zim.events();
        while !self.is_done {
            terminal.draw(|frame| self.draw(frame))?;
            let messages = async {
                match &mut self.open {
                    Some(open) => open.timeline.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                key = keys.next() => match key {
                    Some(Ok(TerminalEvent::Key(key))) if key.kind == KeyEventKind::Press => self.press(key).await?,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => self.is_done = true,
                },
                changes = self.list.next() => {
                    self.is_done = changes.is_none();
                    if self.open.is_none() {
                        self.choose(0).await?;
                    }
                    self.read();
                }
                changes = messages => self.is_done = changes.is_none(),
                event = events.next() => {
                    if let Some(Ok(Event::ConnectionStateChanged(_))) = event {
                        self.read();
                    }
                }
            }
        }
        Ok(())
    }

    async fn press(&mut self, key: KeyEvent) -> Result<(), Failure> {
        match key.code {
            KeyCode::Esc => self.is_done = true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => self.is_done = true,
            KeyCode::Up => self.choose(self.place().unwrap_or(0).saturating_sub(1)).await?,
            KeyCode::Down => {
                let next = self.place().map_or(0, |place| place + 1);
                if next + 1 >= self.list.items().len() {
                    self.list.load_more(CONVERSATIONS);
                }
                self.choose(next).await?;
            }
            KeyCode::PageUp => self.scroll_up(),
            KeyCode::PageDown => {
                if let Some(open) = &mut self.open {
                    open.below = open.below.saturating_sub(10);
                }
            }
            KeyCode::Enter => self.enter().await?,
            KeyCode::Backspace => drop(self.input.pop()),
            KeyCode::Char(char) => self.input.push(char),
            _ => {}
        }
        Ok(())
    }

    /// Returns the place of the open conversation in the list.
    fn place(&self) -> Option<usize> {
        let open = self.open.as_ref()?;
        let is_open = |shown: &Conversation| shown.conversation_id == open.id && shown.r#type == open.kind as i32;
        self.list.items().iter().position(is_open)
    }

    /// Opens the conversation at a place of the list.
    async fn choose(&mut self, place: usize) -> Result<(), Failure> {
        let Some(shown) = self.list.items().get(place) else { return Ok(()) };
        let kind = ConversationType::try_from(shown.r#type).unwrap_or(ConversationType::Peer);
        let id = shown.conversation_id.clone();
        self.open(id, kind).await
    }

    async fn open(&mut self, id: String, kind: ConversationType) -> Result<(), Failure> {
        let timeline = self.zim.observe_timeline(&id, kind, MESSAGES).await?;
        self.open = Some(Open { id, kind, timeline, below: 0, above: 0 });
        self.read();
        Ok(())
    }

    /// Marks the open conversation as read, if it has unread messages.
    fn read(&self) {
        let shown = self.place().and_then(|place| self.list.items().get(place));
        if let (Some(open), true) = (&self.open, shown.is_some_and(|shown| shown.unread_message_count > 0)) {
            // Calls act when they are made, and the list shows the result. Without a connection the next one repeats it.
            drop(self.zim.clear_conversation_unread_message_count(&open.id, open.kind));
        }
    }

    fn scroll_up(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.below += open.above.min(10);
        if open.above <= 10 {
            // They come as changes.
            drop(open.timeline.load_older(MESSAGES));
        }
    }

    async fn enter(&mut self) -> Result<(), Failure> {
        let text = std::mem::take(&mut self.input);
        if let Some(peer) = text.strip_prefix("/with ") {
            return self.open(peer.trim().to_owned(), ConversationType::Peer).await;
        }
        if let (Some(open), false) = (&mut self.open, text.is_empty()) {
            open.below = 0;
            // The timeline shows the message, and what becomes of it.
            drop(self.zim.send_message(
                Message::text(text),
                &open.id,
                open.kind,
                MessageSendConfig::default(),
                MessageSendNotification::default(),
            ));
        }
        Ok(())
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [top, middle, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(3)]).areas(frame.area());
        let [left, right] = Layout::horizontal([Constraint::Percentage(30), Constraint::Fill(1)]).areas(middle);
        let state = format!(" {} · {:?} ", self.user, self.zim.connection_state());
        let help = "↑↓ choose  PgUp/PgDn scroll  /with USER  Esc end";
        frame.render_widget(Line::from(vec![state.bold(), help.dim()]), top);

        let rows = self.list.items().iter().map(|shown| row(shown, left.width));
        let rows =
            List::new(rows).block(Block::bordered().title("Conversations")).highlight_style(Style::new().reversed());
        frame.render_stateful_widget(rows, left, &mut ListState::default().with_selected(self.place()));

        if let Some(open) = &mut self.open {
            open.draw(frame, right, &self.user);
        } else {
            frame.render_widget(Paragraph::new("/with USER begins a conversation").block(Block::bordered()), right);
        }
        frame.render_widget(Paragraph::new(self.input.as_str()).block(Block::bordered().title("Message")), bottom);
        let column = u16::try_from(Line::from(self.input.as_str()).width()).unwrap_or(u16::MAX);
        frame.set_cursor_position((bottom.x.saturating_add(column).saturating_add(1), bottom.y + 1));
    }
}

impl Open {
    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, user: &str) {
        let block = Block::bordered().title(self.id.clone());
        let inner = block.inner(area);
        let (width, height) = (usize::from(inner.width).max(1), usize::from(inner.height));
        let lines: Vec<Line<'_>> =
            self.timeline.items().iter().flat_map(|message| lines(message, user, width)).collect();
        self.below = self.below.min(lines.len().saturating_sub(height));
        let end = lines.len() - self.below;
        self.above = end.saturating_sub(height);
        let shown = lines.into_iter().take(end).skip(self.above);
        frame.render_widget(Paragraph::new(shown.collect::<Vec<_>>()).block(block), area);
    }
}

/// The name of a conversation, its unread messages and its newest one.
fn row(shown: &Conversation, width: u16) -> Line<'static> {
    let names = [&shown.conversation_alias, &shown.conversation_name, &shown.conversation_id];
    let name = names.into_iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
    let unread = match shown.unread_message_count {
        0 => String::new(),
        count => format!(" ({count})"),
    };
    let last = shown.last_message.as_ref().map(said).unwrap_or_default();
    let last: String = format!("  {last}").chars().take(usize::from(width)).collect();
    Line::from(vec![name.bold(), unread.yellow().bold(), last.dim()])
}

/// What a message says.
fn said(message: &Message) -> String {
    match (message.r#type == MessageType::Revoke as i32, message.as_text()) {
        (true, _) => "(revoked)".to_owned(),
        (false, Some(text)) => text.to_owned(),
        (false, None) => format!("(message of type {})", message.r#type),
    }
}

/// The lines of a message.
fn lines(message: &Message, user: &str, width: usize) -> Vec<Line<'static>> {
    let is_own = message.sender_user_id == user;
    let style = if is_own { Style::new().cyan() } else { Style::new() };
    let mark = match (is_own, message.sent_status()) {
        (true, MessageSentStatus::Sending) => " …",
        (true, MessageSentStatus::Failed) => " ✗ not sent",
        (true, MessageSentStatus::Success) => " ✓",
        _ => "",
    };
    let text = format!("{}: {}{mark}", message.sender_user_id, said(message));
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let (mut line, mut column) = (String::new(), 0);
        for char in paragraph.chars() {
            let columns = Span::raw(char.to_string()).width();
            if column + columns > width {
                lines.push(Line::styled(std::mem::take(&mut line), style));
                column = 0;
            }
            line.push(char);
            column += columns;
        }
        lines.push(Line::styled(line, style));
    }
    lines
}
