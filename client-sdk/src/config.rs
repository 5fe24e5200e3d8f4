//! The settings of a client: the server, how it is trusted, and where data is stored.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use zim_protocol::PlatformType;
use zim_protocol::clock::Clock;

/// Which server certificate is trusted. There is no "accept anything".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// A certificate that is signed by an authority of the system.
    #[default]
    System,
    /// A certificate that is signed by an authority in this PEM file.
    CaFile(PathBuf),
    /// Exactly this certificate: the SHA-256 of its DER form, as `zim-server` prints it.
    Fingerprint([u8; 32]),
}

impl Trust {
    /// Parses a fingerprint of 64 hexadecimal digits. Colons between the digits are ignored.
    pub fn fingerprint(hex: &str) -> Option<Self> {
        let digits: String = hex.chars().filter(|letter| *letter != ':').collect();
        zim_protocol::id::from_hex(&digits).map(Self::Fingerprint)
    }
}

/// The areas of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Area {
    /// Mainland China.
    China = 2,
    /// North America.
    NorthAmerica = 3,
    /// Europe, with the United Kingdom.
    Europe = 4,
    /// Asia without mainland China and India.
    Asia = 5,
    /// India.
    India = 6,
}

impl Area {
    const ALL: [Self; 5] = [Self::China, Self::NorthAmerica, Self::Europe, Self::Asia, Self::India];

    /// Returns the area with this number in the reference.
    pub fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|area| *area as i64 == number)
    }
}

/// The settings of a client: the reference's `ZIMAppConfig`, and what your own server needs.
///
/// ```
/// use zim_client_sdk::{Config, Trust};
///
/// let config = Config::new(123_456_789, "chat.example.org:4710")
///     .trust(Trust::System)
///     .data_dir("chat-data");
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) app_id: u32,
    pub(crate) app_sign: String,
    pub(crate) server: String,
    pub(crate) servers: Vec<(Area, String)>,
    pub(crate) forbidden_hosts: Vec<crate::host::Host>,
    pub(crate) server_name: Option<String>,
    pub(crate) trust: Trust,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) platform: PlatformType,
    pub(crate) one_shot: bool,
    pub(crate) clock: Clock,
    pub(crate) resend_window_ms: i64,
    pub(crate) connect_timeout_ms: u64,
    pub(crate) request_timeout_ms: u64,
    pub(crate) retries_login: bool,
    pub(crate) token_provider: Option<TokenProvider>,
}

/// Returns a token for a user.
pub(crate) type TokenProvider = Arc<dyn Fn(String) -> BoxFuture<'static, Result<String, BoxedError>> + Send + Sync>;

/// Why a token could not be provided.
type BoxedError = Box<dyn std::error::Error + Send + Sync>;

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The app sign stays out of logs.
        f.debug_struct("Config")
            .field("app_id", &self.app_id)
            .field("server", &self.server)
            .field("trust", &self.trust)
            .field("data_dir", &self.data_dir)
            .field("platform", &self.platform)
            .field("one_shot", &self.one_shot)
            .finish_non_exhaustive()
    }
}

/// Returns the platform that this crate is compiled for.
const fn this_platform() -> PlatformType {
    if cfg!(target_os = "windows") {
        PlatformType::Win
    } else if cfg!(target_os = "macos") {
        PlatformType::MacOs
    } else if cfg!(target_os = "ios") {
        PlatformType::IPhoneOs
    } else if cfg!(target_os = "android") {
        PlatformType::Android
    } else if cfg!(target_os = "linux") {
        PlatformType::Linux
    } else {
        PlatformType::Unknown
    }
}

impl Config {
    /// Creates the settings for an app on a server, `host:port`. The host must be a name of the server's certificate,
    /// unless [`Config::server_name`] sets another.
    pub fn new(app_id: u32, server: impl Into<String>) -> Self {
        Self {
            app_id,
            app_sign: String::new(),
            server: server.into(),
            servers: Vec::new(),
            forbidden_hosts: Vec::new(),
            server_name: None,
            trust: Trust::System,
            data_dir: None,
            platform: this_platform(),
            one_shot: false,
            clock: Clock::system(),
            resend_window_ms: 30_000,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 10_000,
            retries_login: false,
            token_provider: None,
        }
    }

    /// Sets the address of the server, `host:port`.
    #[must_use]
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.server = server.into();
        self
    }

    /// Adds a server, `host:port`, and the area that it is in. [`Zim::set_geofencing_config`](crate::Zim::set_geofencing_config)
    /// says which areas a client may use; it uses the first server that it may, in the order of the calls, and
    /// [`Config::server`] before them. Servers in several areas are deployments of their own: give each a
    /// [data folder](Config::data_dir) of its own.
    #[must_use]
    pub fn server_in(mut self, area: Area, server: impl Into<String>) -> Self {
        self.servers.push((area, server.into()));
        self
    }

    /// Sets the app's secret, for apps that trust their clients: a login then needs no token.
    #[must_use]
    pub fn app_sign(mut self, app_sign: impl Into<String>) -> Self {
        self.app_sign = app_sign.into();
        self
    }

    /// Sets which server certificate is trusted. Default: [`Trust::System`].
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets the name that the server's certificate must have. Default: the host of the server's address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets the folder for the local database and the id of this device. Default: none; everything is lost when the
    /// process ends.
    ///
    /// On Unix, files that the SDK creates in the folder are readable by this user only, and a folder that it has to
    /// create can be entered by this user only. An existing folder keeps its mode: the app may have other things in it,
    /// and other users may list it.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Sets the platform that other users see. Default: the platform that the SDK is compiled for.
    #[must_use]
    pub fn platform(mut self, platform: PlatformType) -> Self {
        self.platform = platform;
        self
    }

    /// Makes this a short-lived session, such as one command: it is not a device, has no presence, gets no pushes, and
    /// disconnects no other session. Default: false.
    #[must_use]
    pub fn one_shot(mut self, one_shot: bool) -> Self {
        self.one_shot = one_shot;
        self
    }

    /// Sets the source of the time. Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets for how long a message is retried without a connection, in milliseconds. Default: 30,000, as in the
    /// reference.
    #[must_use]
    pub fn resend_window_ms(mut self, ms: i64) -> Self {
        self.resend_window_ms = ms;
        self
    }

    /// Sets the timeout of one attempt to connect, in milliseconds. Default: 10,000.
    #[must_use]
    pub fn connect_timeout_ms(mut self, ms: u64) -> Self {
        self.connect_timeout_ms = ms;
        self
    }

    /// Sets where tokens come from: your back end, which signs them. The client asks for a token when a login has none,
    /// before its token expires, and when the server refuses it, because it has expired or the operator has revoked it or
    /// replaced the server secret. It asks until it gets one; if the server refuses that, too, the login ends. With it, a
    /// client stays logged in for ever without calling [`Zim::renew_token`](crate::Zim::renew_token).
    ///
    /// ```
    /// # async fn token_of(user_id: &str) -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # let config = zim_client_sdk::Config::new(1, "host:1");
    /// let config = config.token_provider(|user_id| async move { token_of(&user_id).await.map_err(Into::into) });
    /// ```
    #[must_use]
    pub fn token_provider<F, T>(mut self, provider: F) -> Self
    where
        F: Fn(String) -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        self.token_provider = Some(Arc::new(move |user_id| Box::pin(provider(user_id))));
        self
    }

    /// Retries the first login of a user like a reconnect, without a limit, while the server cannot be reached, or accepts no
    /// logins for now: its database does not answer, or too many users log in. Default: false; the login fails after the
    /// connect timeout, or with that refusal, as in the reference. A refusal of the user, of the token or app sign, or of
    /// the server's certificate ends the login in either case.
    #[must_use]
    pub fn retry_login(mut self, retry: bool) -> Self {
        self.retries_login = retry;
        self
    }

    /// Sets how long a request waits for its answer, in milliseconds. Default: 10,000.
    #[must_use]
    pub fn request_timeout_ms(mut self, ms: u64) -> Self {
        self.request_timeout_ms = ms;
        self
    }
}

/// For the modules of this crate.
impl Config {
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    pub(crate) fn has_app_sign(&self) -> bool {
        !self.app_sign.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_sign_is_not_printed() {
        let config = Config::new(1, "localhost:1").app_sign("secret");
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_fingerprint_is_64_digits() {
        let hex = "ab".repeat(32);
        assert_eq!(Trust::fingerprint(&hex), Some(Trust::Fingerprint([0xab; 32])));
        assert_eq!(Trust::fingerprint(&vec!["ab"; 32].join(":")), Some(Trust::Fingerprint([0xab; 32])));
        assert_eq!(Trust::fingerprint("ab"), None);
    }
}
