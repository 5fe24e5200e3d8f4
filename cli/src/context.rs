//! What a command works with: where it prints, whose profile it uses, and a connection when it needs one.

use std::time::Duration;

use tokio::time::timeout;
use zim_client_sdk::{Config, EventStream, Zim};
use zim_protocol::clock::Clock;
use zim_protocol::{ConversationSyncState, Event, LoginConfig, PlatformType};

use crate::exit::{Exit, Failure};
use crate::options::Global;
use crate::output::Output;
use crate::profile::{Profile, Profiles};

/// How long the first synchronization after a login may take.
const SYNC_WITHIN: Duration = Duration::from_secs(30);
/// How long a farewell may take: the server notices an absence by itself.
const LOGOUT_WITHIN: Duration = Duration::from_secs(2);

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) profiles: Profiles,
    /// The name of the profile.
    pub(crate) name: String,
    /// JSON was asked for by name, and not chosen because nobody watches.
    pub(crate) asked_for_json: bool,
}

/// A logged-in user.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) zim: Zim,
    pub(crate) user_id: String,
    /// Everything since before the login.
    pub(crate) events: EventStream,
}

impl Context {
    pub(crate) fn new(global: &Global, output: Output) -> Result<Self, Failure> {
        let profiles = Profiles::locate(global)?;
        let name = profiles.name(global)?;
        Ok(Self { output, profiles, name, asked_for_json: global.json })
    }

    /// For a command that comes and goes: no device, nothing kept, and nobody is pushed out.
    pub(crate) async fn one_shot(&self) -> Result<Session, Failure> {
        let profile = self.profiles.logged_in(&self.name)?;
        log_in(config(&profile)?.one_shot(true), &profile).await
    }

    /// As [`Context::one_shot`], with the local copy complete: without it nobody would be found, and that would look like an
    /// answer.
    pub(crate) async fn one_shot_synced(&self) -> Result<Session, Failure> {
        let mut session = self.one_shot().await?;
        match session.synced().await {
            Ok(()) => Ok(session),
            Err(failure) => {
                session.end().await;
                Err(failure)
            }
        }
    }

    /// For a command that stays: a device with a local database, which remembers what was seen.
    pub(crate) async fn device(&self) -> Result<Session, Failure> {
        let profile = self.profiles.logged_in(&self.name)?;
        let folder = self.profiles.own_data_dir(&self.name)?;
        match log_in(config(&profile)?.data_dir(folder), &profile).await {
            Err(failure) if failure.name() == "DatabaseModuleOpenDatabaseError" => {
                self.output.note(format!(
                    "another zim of profile {:?} has the local database; this one keeps its data in memory",
                    self.name
                ));
                log_in(config(&profile)?, &profile).await
            }
            other => other,
        }
    }
}

/// The SDK's settings for a profile.
pub(crate) fn config(profile: &Profile) -> Result<Config, Failure> {
    let missing = |what: &str, flag: &str| {
        Failure::new(Exit::Auth, format!("the profile does not say {what}")).hint(format!("zim login USER {flag}"))
    };
    let server = profile.server.as_deref().ok_or_else(|| missing("which server", "--server HOST:PORT"))?;
    let app_id = profile.app_id.ok_or_else(|| missing("which app", "--app-id N"))?;
    let mut config = Config::new(app_id, server).trust(profile.trust()?).platform(platform());
    if let Some(sign) = &profile.app_sign {
        config = config.app_sign(sign);
    }
    Ok(config)
}

/// Logs in the user of a profile.
pub(crate) async fn log_in(config: Config, profile: &Profile) -> Result<Session, Failure> {
    let user_id = profile.user_id.clone().unwrap_or_default();
    let zim = Zim::new(config)?;
    let events = zim.events();
    let login = LoginConfig { token: profile.token.clone().unwrap_or_default(), ..LoginConfig::default() };
    Box::pin(zim.login(&user_id, login)).await?;
    Ok(Session { zim, user_id, events })
}

impl Session {
    /// Waits until the conversations are as the server has them.
    pub(crate) async fn synced(&mut self) -> Result<(), Failure> {
        let late = || Failure::new(Exit::Network, "the conversations are not synchronized in time");
        timeout(SYNC_WITHIN, async {
            while let Some(event) = self.events.next().await {
                let Ok(Event::ConversationSyncStateChanged(change)) = event else { continue };
                match change.state() {
                    ConversationSyncState::Started => {}
                    ConversationSyncState::Finished => return Ok(()),
                    ConversationSyncState::Failed => break,
                }
            }
            Err(late())
        })
        .await
        .map_err(|_| late())?
    }

    /// Says farewell, so that the server need not find out.
    pub(crate) async fn end(self) {
        let farewell = async {
            self.zim.logout().await;
            self.zim.destroy();
            self.zim.closed().await;
        };
        drop(timeout(LOGOUT_WITHIN, farewell).await);
    }
}

pub(crate) fn platform() -> PlatformType {
    match std::env::consts::OS {
        "macos" => PlatformType::MacOs,
        "windows" => PlatformType::Win,
        _ => PlatformType::Linux,
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    Clock::system().now_ms()
}
