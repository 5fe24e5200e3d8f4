//! What a command works with: its output, its profile, and a login if it needs one.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use zim_client_sdk::{Area, Config, EventStream, Zim};
use zim_protocol::clock::Clock;
use zim_protocol::{Event, EventKind, GeofencingType, LoginConfig, PlatformType};

use crate::exit::{Exit, Failure};
use crate::options::{Global, NOWHERE};
use crate::output::Output;
use crate::profile::{Profile, Profiles};
use crate::signal::Signals;

/// The time limit for the first synchronization after a login.
const SYNC_WITHIN: Duration = Duration::from_secs(30);
/// The time limit for a logout. If it expires, the server notices the end of the connection by itself.
const LOGOUT_WITHIN: Duration = Duration::from_secs(2);

/// The time for a command that stays connected to end by itself after a signal. It does not if its output blocks.
const END_WITHIN: Duration = Duration::from_secs(3);

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) profiles: Profiles,
    /// The name of the profile.
    pub(crate) name: String,
    /// JSON was requested with `--json`, not chosen because standard output is a pipe.
    pub(crate) json_requested: bool,
    /// The time limit of the command.
    pub(crate) limit: Option<Duration>,
}

/// A logged-in user.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) zim: Zim,
    pub(crate) user_id: String,
    /// All events, also those of the login.
    pub(crate) events: EventStream,
}

impl Context {
    pub(crate) fn new(global: &Global, output: Output) -> Result<Self, Failure> {
        let profiles = Profiles::locate(global)?;
        let name = profiles.name(global)?;
        Ok(Self { output, profiles, name, json_requested: global.json, limit: global.timeout })
    }

    /// Logs in for a single command: not as a device, without local data, and without ending another login.
    pub(crate) async fn one_shot(&self) -> Result<Session, Failure> {
        one_shot(&self.profiles.logged_in(&self.name)?).await
    }

    /// Like [`Context::one_shot`], but waits until the local copy is complete: a search in an incomplete copy would find
    /// nothing.
    pub(crate) async fn one_shot_synced(&self) -> Result<Session, Failure> {
        let session = self.one_shot().await?;
        match session.synced().await {
            Ok(()) => Ok(session),
            Err(failure) => {
                session.end().await;
                Err(failure)
            }
        }
    }

    /// Logs in as a device with a local database, for a command that stays connected and ends at a signal.
    pub(crate) async fn device(&self) -> Result<(Session, Signals), Failure> {
        // The command and the login below both receive the signals.
        let signals = Signals::listen()?;
        let session = within(self.limit, self.device_session()).await?;
        session.end_at_signal(END_WITHIN)?;
        Ok((session, signals))
    }

    /// Logs in as the device of the profile for a command that changes something about the device. Fails if another command of this
    /// profile is connected as the device.
    pub(crate) async fn own_device(&self) -> Result<Session, Failure> {
        let profile = self.profiles.logged_in(&self.name)?;
        let folder = self.profiles.own_data_dir(&self.name)?;
        log_in(config(&profile)?.data_dir(folder), &profile).await
    }

    /// Opens the local database of the profile's device without the server: nothing is received that `zim listen` would show. A device
    /// that has never logged in has none, so it logs in.
    pub(crate) async fn own_device_offline(&self) -> Result<Session, Failure> {
        let profile = self.profiles.logged_in(&self.name)?;
        let folder = self.profiles.own_data_dir(&self.name)?;
        let user_id = profile.user_id.clone().unwrap_or_default();
        let nowhere = Profile { server: Some(NOWHERE.to_owned()), ..profile };
        let zim = Zim::new(config(&nowhere)?.data_dir(folder))?;
        let events = zim.events();
        let login = LoginConfig { is_offline_login: true, ..LoginConfig::default() };
        if zim.login(&user_id, login).await.is_ok() {
            return Ok(Session { zim, user_id, events });
        }
        zim.destroy();
        zim.closed().await;
        self.own_device().await
    }

    async fn device_session(&self) -> Result<Session, Failure> {
        let profile = self.profiles.logged_in(&self.name)?;
        let folder = self.profiles.own_data_dir(&self.name)?;
        let output = self.output;
        // Such as a local database that was damaged and replaced: the user did not ask, and should know.
        let report = move |zim: &Zim| {
            zim.on(EventKind::Error, move |_, event| {
                if let Event::Error(error) = event {
                    output.warn(&error.message);
                }
            });
        };
        match log_in_with(config(&profile)?.data_dir(folder), &profile, report).await {
            Err(failure) if failure.name() == "DatabaseModuleOpenDatabaseError" => {
                // The SDK knows the cause: another process uses the database, or it is damaged, newer or read-only.
                self.output.notice(format!("keeping the data of this command in memory: {}", failure.message));
                log_in(config(&profile)?, &profile).await
            }
            other => other,
        }
    }
}

/// Fails if `work` takes longer than the limit.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(limit) = limit else { return work.await };
    let timed_out = |_| Failure::new(Exit::Network, format!("timed out after {} s", limit.as_secs()));
    timeout(limit, work).await.map_err(timed_out)?
}

/// Returns the SDK configuration for a profile.
pub(crate) fn config(profile: &Profile) -> Result<Config, Failure> {
    let missing = |what: &str, flag: &str| {
        Failure::new(Exit::Auth, format!("the profile has no {what}")).hint(format!("zim login USER {flag}"))
    };
    let server = profile.server.as_deref().ok_or_else(|| missing("server", "--server HOST:PORT"))?;
    let app_id = profile.app_id.ok_or_else(|| missing("app ID", "--app-id N"))?;
    let config = match profile.area {
        None => Config::new(app_id, server),
        // The server says where it is, and the SDK refuses it if that is elsewhere.
        Some(number) => {
            let area = Area::of(number).filter(|_| Zim::set_geofencing_config(&[number], GeofencingType::Include));
            let area =
                area.ok_or_else(|| Failure::other(format!("the profile names the area {number}, which is none")))?;
            Config::new(app_id, "").server_in(area, server)
        }
    };
    let mut config = config.trust(profile.trust()?).platform(platform());
    if let Some(sign) = &profile.app_sign {
        config = config.app_sign(sign);
    }
    Ok(config)
}

/// Logs in the user of a profile for a single command. A signal ends the login and then the program, so that the server need
/// not detect the end of the connection.
pub(crate) async fn one_shot(profile: &Profile) -> Result<Session, Failure> {
    let session = log_in(config(profile)?.one_shot(true), profile).await?;
    session.end_at_signal(Duration::ZERO)?;
    Ok(session)
}

/// Logs in the user of a profile.
pub(crate) async fn log_in(config: Config, profile: &Profile) -> Result<Session, Failure> {
    log_in_with(config, profile, |_| {}).await
}

/// Logs in the user of a profile with a client that `prepare` has seen before.
async fn log_in_with(config: Config, profile: &Profile, prepare: impl FnOnce(&Zim)) -> Result<Session, Failure> {
    let user_id = profile.user_id.clone().unwrap_or_default();
    let zim = Zim::new(config)?;
    prepare(&zim);
    let events = zim.events();
    let login = LoginConfig { token: profile.token.clone().unwrap_or_default(), ..LoginConfig::default() };
    tracing::debug!(user = user_id, server = profile.server, app = profile.app_id, "logging in");
    let began = Instant::now();
    Box::pin(zim.login(&user_id, login)).await?;
    tracing::debug!(took = ?began.elapsed(), "logged in");
    Ok(Session { zim, user_id, events })
}

impl Session {
    /// Waits until the conversations are synchronized with the server.
    pub(crate) async fn synced(&self) -> Result<(), Failure> {
        let timed_out = |_| Failure::new(Exit::Network, "synchronizing the conversations took too long");
        Ok(timeout(SYNC_WITHIN, self.zim.synced()).await.map_err(timed_out)??)
    }

    /// Logs out, so that the server need not detect the end of the connection.
    pub(crate) async fn end(self) {
        log_out(&self.zim).await;
    }

    /// Ends without a logout: the device stays logged in, and is away.
    pub(crate) async fn leave(self) {
        drop(timeout(LOGOUT_WITHIN, self.zim.close()).await);
    }

    /// Logs out and ends the program at a signal, unless the command itself does so in time.
    fn end_at_signal(&self, time: Duration) -> Result<(), Failure> {
        let (mut signals, zim) = (Signals::listen()?, self.zim.clone());
        tokio::spawn(async move {
            let signal = signals.next().await;
            sleep(time).await;
            log_out(&zim).await;
            #[expect(
                clippy::disallowed_methods,
                reason = "the login has ended, and `main` may wait for input or output"
            )]
            std::process::exit(signal.exit_code());
        });
        Ok(())
    }
}

async fn log_out(zim: &Zim) {
    let logout = async {
        zim.logout().await;
        zim.close().await;
    };
    drop(timeout(LOGOUT_WITHIN, logout).await);
}

pub(crate) fn platform() -> PlatformType {
    match std::env::consts::OS {
        "macos" => PlatformType::MacOs,
        "windows" => PlatformType::Win,
        _ => PlatformType::Linux,
    }
}

/// Returns the current time in Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    Clock::system().now_ms()
}
