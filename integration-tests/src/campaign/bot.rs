//! A run with the bot of the guide: users write to it while it and the server are killed. In the end each message has
//! exactly one answer, and the answers are in the order of the messages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use zim_client_sdk::{Config, MessageSendNotification, Zim};
use zim_protocol::clock::Clock;
use zim_protocol::token::Token;
use zim_protocol::{
    ConversationType, Event, EventKind, LoginConfig, Message, MessageQueryConfig, MessageSendConfig, MessageSentResult,
};

use crate::process::{ChildProcess, FirstApp, ServerInstallation};
use crate::random::Random;

const BOT: &str = "bot";
const USERS: [&str; 3] = ["ann", "cem", "dan"];
const PEER: ConversationType = ConversationType::Peer;
/// The most messages of a user between two kills.
const MOST_MESSAGES: u64 = 5;
/// The longest time that a process runs between two kills, milliseconds. A bot needs less to log in and to answer.
const MOST_MS: u64 = 400;
/// The longest wait for the last answers.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a token is valid, seconds.
const TOKEN_S: i64 = 86_400;
/// Messages of a page of history.
const PAGE: i64 = 100;

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct BotTally {
    /// The messages that were sent to the bot, each with one answer.
    pub messages: usize,
    /// How often the bot was killed.
    pub bot_kills: usize,
    /// How often the server was killed.
    pub server_kills: usize,
}

/// The bot as a child process.
struct Bot {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    lines: mpsc::UnboundedReceiver<String>,
    process: ChildProcess,
}

impl Bot {
    fn start(program: &Path, arguments: Vec<String>, log: PathBuf) -> anyhow::Result<Self> {
        let (sender, lines) = mpsc::unbounded_channel();
        let mut command = Command::new(program);
        // Fails when the receiver is dropped.
        let process = ChildProcess::start(command.args(&arguments), &log, move |line| drop(sender.send(line)))?;
        Ok(Self { program: program.to_owned(), arguments, log, lines, process })
    }

    /// Kills the process, whatever it does, and starts it again.
    fn kill(self) -> anyhow::Result<Self> {
        let Self { program, arguments, log, process, .. } = self;
        drop(process);
        Self::start(&program, arguments, log)
    }

    /// Waits until it has caught up after its first login: it does not answer what is older.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let line = timeout(PATIENCE, self.lines.recv()).await.context("the bot is not ready")?;
        ensure!(line.as_deref() == Some("ready"), "the bot says {line:?}");
        Ok(())
    }
}

/// A user who writes to the bot.
struct User {
    zim: Zim,
    name: &'static str,
    sent: Vec<String>,
    answers: Arc<Mutex<Vec<String>>>,
    calls: Vec<tokio::task::JoinHandle<Result<MessageSentResult, zim_client_sdk::Error>>>,
}

impl User {
    async fn log_in(config: &Config, name: &'static str) -> anyhow::Result<Self> {
        let zim = Zim::new(config.clone())?;
        let answers: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&answers);
        zim.on(EventKind::PeerMessageReceived, move |_, event| {
            let Event::PeerMessageReceived(event) = event else { return };
            seen.lock().extend(event.message_list.iter().filter_map(|message| message.as_text().map(str::to_owned)));
        });
        zim.login(name, LoginConfig::default()).await?;
        Ok(Self { zim, name, sent: Vec::new(), answers, calls: Vec::new() })
    }

    fn write(&mut self) {
        let text = format!("{} {}", self.name, self.sent.len());
        let message = Message::text(text.as_str());
        let call =
            self.zim.send_message(message, BOT, PEER, MessageSendConfig::default(), MessageSendNotification::default());
        self.calls.push(tokio::spawn(call));
        self.sent.push(text);
    }

    /// Waits for the answers. Then the user writes once more: a second answer to an earlier message would come before the
    /// answer to this one.
    async fn answered(&mut self) -> anyhow::Result<()> {
        self.wait().await?;
        self.write();
        self.wait().await?;
        for call in self.calls.drain(..) {
            call.await??;
        }
        Ok(())
    }

    /// Waits for as many answers as messages.
    async fn wait(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let count = self.answers.lock().len();
            if count >= self.sent.len() {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{} has {count} answers to {} messages", self.name, self.sent.len());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Compares all answers that the server has with the messages.
    async fn check(&self) -> anyhow::Result<()> {
        let expected: Vec<String> = self.sent.iter().map(|text| format!("you said: {text}")).collect();
        let mut stored: Vec<String> = Vec::new();
        let mut next_message = None;
        loop {
            let config =
                MessageQueryConfig { next_message, count: PAGE, reverse: true, ..MessageQueryConfig::default() };
            let page = self.zim.query_history_message(BOT, PEER, config).await?.message_list;
            let answers = page.iter().filter(|message| message.sender_user_id == BOT);
            stored.splice(0..0, answers.filter_map(|message| message.as_text().map(str::to_owned)));
            match page.into_iter().next() {
                Some(first) => next_message = Some(first),
                None => break,
            }
        }
        if stored != expected {
            let wrong = stored.iter().zip(&expected).position(|(stored, expected)| stored != expected);
            let at = wrong.unwrap_or_else(|| stored.len().min(expected.len()));
            bail!(
                "{} has {} answers to {} messages; from number {at} they are {:?}",
                self.name,
                stored.len(),
                expected.len(),
                stored.iter().skip(at).take(3).collect::<Vec<_>>()
            );
        }
        Ok(())
    }
}

/// Runs until `goes_on` returns false for the number of a round. In each round the users write, and then the bot, the
/// server or both are killed and started again.
///
/// # Errors
/// A message has no answer or more than one, or a process does not start.
pub async fn run_bot(
    (server, bot): (&Path, &Path),
    (folder, database): (&Path, &str),
    seed: u64,
    mut goes_on: impl FnMut(u64) -> bool,
) -> anyhow::Result<BotTally> {
    let mut random = Random::new(seed);
    let mut tally = BotTally::default();
    let mut installation = ServerInstallation::new(server, folder.join("server"), database);
    let mut running = installation.start().await?;
    let address = running.address().to_string();
    let app = installation.first_app()?;
    let token = folder.join("token");
    std::fs::write(&token, token_of_bot(&installation, &app)?)?;
    let [bot_folder, token] = [folder.join("bot"), token].map(|path| path.display().to_string());
    let arguments = vec![address.clone(), app.app_id.to_string(), app.fingerprint.clone(), bot_folder, token];
    let mut bot = Bot::start(bot, arguments, folder.join("bot.log"))?;
    bot.ready().await?;
    let config = Config::new(app.app_id, address)
        .trust(app.trust())
        .app_sign(&app.app_sign)
        .retry_login(true)
        .resend_window_ms(i64::MAX);
    let mut users = Vec::new();
    for name in USERS {
        users.push(User::log_in(&config, name).await?);
    }
    for round in 0.. {
        if !goes_on(round) {
            break;
        }
        for user in &mut users {
            for _ in 0..random.below(MOST_MESSAGES + 1) {
                user.write();
            }
        }
        sleep(Duration::from_millis(random.below(MOST_MS))).await;
        let what = random.below(10);
        if what < 8 {
            bot = bot.kill()?;
            tally.bot_kills += 1;
        }
        if what > 6 {
            running.kill();
            sleep(Duration::from_millis(random.below(MOST_MS / 4))).await;
            running = installation.start().await?;
            tally.server_kills += 1;
        }
    }
    for user in &mut users {
        user.answered().await?;
        user.check().await?;
        tally.messages += user.sent.len();
    }
    ensure!(bot.process.is_alive(), "the bot has ended");
    for user in users {
        user.zim.logout().await;
    }
    Ok(tally)
}

/// A token of the bot, which its owner makes with the server secret.
fn token_of_bot(installation: &ServerInstallation, app: &FirstApp) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(installation.folder.join("first-app.toml"))?;
    let secret = toml::from_str::<toml::Table>(&text)?;
    let secret = secret.get("server_secret").and_then(toml::Value::as_str).context("no server_secret")?;
    Ok(Token::generate(app.app_id, BOT, secret, Clock::system().now_s(), TOKEN_S)?)
}
