//! All settings, with their defaults and reasons. `source.rs` reads them. `Welcome` tells clients the ones that they need.

mod bus;
mod limits;
mod media;
mod media_store;
mod push;
mod source;
mod value;
mod variable;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

pub use self::bus::BusUrl;
pub use self::limits::Limits;
pub use self::media::Media;
pub use self::media_store::MediaStore;
pub use self::push::Push;
pub use self::source::{Args, Command, ConfigError};
pub use self::value::{AdminListen, DatabaseUrl, Listen, PublicListen};
pub(crate) use self::variable::texts;

/// The settings of one server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address where clients connect, over QUIC (UDP). Default: port 4710 of every IPv4 address.
    pub listen: SocketAddr,
    /// The address of the public HTTPS listener (TCP), which carries the files of messages: `auto`, `HOST:PORT` or `off`. Default:
    /// `auto`, the address and the port number of `listen`. Without it, nobody can upload or download files.
    pub https: PublicListen,
    /// The folder of the database, the certificate and the keys. Default: `zim-data` in the current folder: easy to see, to
    /// mount and to delete.
    pub data_dir: PathBuf,
    /// Start although other users can write to the data folder, its keys or the database, or read the keys: for volumes with
    /// fixed modes. Such users have the rights of an operator. Default: no; the server does not start, and its error says why.
    pub allow_insecure_data_dir: bool,
    /// `sqlite://FILE` or `postgres://USER:PASSWORD@HOST/NAME`. Without a bus it is for this server alone: a second server on the
    /// same database does not start. Default: SQLite in the data folder.
    pub database: DatabaseUrl,
    /// `nats://USER:PASSWORD@HOST:PORT`, or `tls://` for TLS: the NATS server over which several servers on one PostgreSQL database
    /// tell each other what they have committed. A name without a password is a token. Several addresses are separated by commas.
    /// Parameters name files: `?credentials=FILE&ca=FILE`. Default: none; the server is alone.
    pub bus: BusUrl,
    /// Milliseconds after which a server with a bus that does not renew its lease counts as dead: its logins end. The server itself
    /// stops after four fifths of it. 1,000 to 60,000. Default: 10,000: longer than a database needs to fail over or a machine to
    /// swap, and short enough that nobody seems online for long who is not.
    pub node_lease_ms: u32,
    /// The address of `/health`, `/ready` and `/metrics`, or `off`. Default: port 4711 on loopback, because they are not for the
    /// public.
    pub http: Listen,
    /// The address of the operator's service, which requires the key in the data folder: `local`, `unix:PATH`, `HOST:PORT` or
    /// `off`. On any but a loopback address it uses TLS with the server's certificate. Default: `local`, the Unix socket
    /// `admin.sock` in the data folder, because no other user of the machine can connect to it.
    pub admin: AdminListen,
    /// The area that the server is in, by its number in the reference: 2 mainland China, 3 North America, 4 Europe, 5 Asia without
    /// mainland China and India, 6 India. Clients with a geofence refuse a server in an area that they may not use. Default: 0, it
    /// does not say.
    pub area: u32,
    /// Network threads, at most 1,024; 0 means one for each core. Default: 0.
    pub workers: usize,
    /// The connections to PostgreSQL that write, at most 64; 0 means one for each two cores, at most 4. Messages to different
    /// conversations are committed side by side on them. More make the transactions smaller, and each message dearer.
    /// SQLite has one writer. Default: 0.
    pub database_partitions: usize,
    /// The certificate.
    pub tls: Tls,
    /// The log.
    pub log: Log,
    /// The devices of one user.
    pub login: Login,
    /// The files of messages.
    pub media: Media,
    /// Groups.
    pub groups: Groups,
    /// Rooms.
    pub rooms: Rooms,
    /// Offline push.
    pub push: Push,
    /// Limits.
    pub limits: Limits,
    /// Create a new database although the data folder had one, for one start. A flag and not a setting, which would remain in
    /// effect: a database that is lost later must be noticed.
    #[serde(skip)]
    pub new_database: bool,
}

/// The certificate. Without files the server makes a self-signed one that does not expire, and clients trust its fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// A PEM file with the certificate and its intermediate certificates. Default: none.
    pub cert: PathBuf,
    /// A PEM file with its private key. Default: none.
    pub key: PathBuf,
    /// Further names and addresses for the self-signed certificate. It always contains `localhost`, the loopback addresses and
    /// the address that the server listens on. Default: none.
    pub names: Vec<String>,
}

/// The log, which goes to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The format of its lines. Default: for people.
    pub format: LogFormat,
    /// A filter such as `info,zim_server::net=debug`. Default: `info`, and warnings of QUIC, TLS and the database driver.
    pub filter: String,
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Pretty,
    /// JSON for machines.
    Json,
}

/// The devices of one user. Beyond a limit the earliest login ends, never the new one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// The devices on which one user may be logged in. Default: `multi`: people have a telephone and a computer.
    pub multi_device: MultiDevice,
    /// Native devices of one user with `multi`. Default and maximum: 10.
    pub max_native: u32,
    /// Browsers of one user with `multi`. Default and maximum: 10.
    pub max_web: u32,
}

/// Groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Groups {
    /// Add a message of the type Tips to a group when something happens to it: it is created or dismissed, members come or go, its
    /// name, notice, picture or mute changes, a role, a mute or the owner changes, somebody pins or unpins a message. Default: no,
    /// as in the reference.
    pub tips: bool,
    /// New members see the messages from before they came, and whoever returns those of the time between. Applies to those who
    /// enter from now on. Default: no, as in the reference.
    pub history_for_new_members: bool,
}

/// Rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rooms {
    /// Keep what is said in a room, for those who are in it, until the room ends. Applies to rooms that are created from now on; while
    /// it is off, nothing is kept of any room. Default: no, as in the reference.
    pub history: bool,
}

/// The devices on which one user may be logged in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MultiDevice {
    /// One device.
    Single,
    /// One native device and one browser.
    Dual,
    /// Several devices, up to the limits for native devices and browsers.
    #[default]
    Multi,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 4710)),
            https: PublicListen::Auto,
            data_dir: PathBuf::from("zim-data"),
            allow_insecure_data_dir: false,
            database: DatabaseUrl::default(),
            bus: BusUrl::default(),
            node_lease_ms: 10_000,
            http: Listen(Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4711)))),
            admin: AdminListen::Local,
            area: 0,
            workers: 0,
            database_partitions: 0,
            tls: Tls::default(),
            log: Log::default(),
            login: Login::default(),
            media: Media::default(),
            groups: Groups::default(),
            rooms: Rooms::default(),
            push: Push::default(),
            limits: Limits::default(),
            new_database: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, filter: "info,quinn=warn,quinn_proto=warn,rustls=warn,sqlx=warn".to_owned() }
    }
}

impl Default for Login {
    fn default() -> Self {
        Self { multi_device: MultiDevice::Multi, max_native: 10, max_web: 10 }
    }
}

impl Config {
    /// Returns settings for a server inside another process, mostly a test: it listens on loopback ports that the system
    /// chooses, and keeps everything in `data_dir`.
    pub fn local(data_dir: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        let admin = if cfg!(unix) { AdminListen::Local } else { AdminListen::Tcp(any) };
        Self { listen: any, data_dir: data_dir.into(), http: Listen(Some(any)), admin, ..Self::default() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A sentence for each invalid setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut wrong = self.limits.problems();
        if self.data_dir.as_os_str().is_empty() {
            wrong.push("data_dir is empty; it must name a folder".to_owned());
        }
        wrong.extend(self.database.problem());
        wrong.extend(self.bus.problem());
        if self.bus.is_set() && self.database.postgres().is_none() {
            wrong.push(
                "bus is set, but database is not PostgreSQL: several servers share a database, and an SQLite file has one server"
                    .to_owned(),
            );
        }
        if !matches!(self.area, 0 | 2..=6) {
            wrong.push(format!("area is {}; it must be 2, 3, 4, 5, 6, or 0 for none", self.area));
        }
        if !(1_000..=60_000).contains(&self.node_lease_ms) {
            wrong.push(format!("node_lease_ms is {}; 1000 to 60000 are allowed", self.node_lease_ms));
        }
        wrong.extend(self.admin.problem());
        wrong.extend(self.media.problems());
        wrong.extend(self.push.problems());
        if self.bus.is_set() && !self.media.store.is_set() && self.https != PublicListen::Off {
            wrong.push(
                "bus is set, but media.store is not: several servers need one folder or bucket for the files of messages, which \
                 all of them can write to. Name it, or set https = \"off\""
                    .to_owned(),
            );
        }
        if self.workers > 1_024 {
            wrong.push(format!("workers is {}; at most 1024 are allowed", self.workers));
        }
        if self.database_partitions > 64 {
            wrong.push(format!("database_partitions is {}; at most 64 are allowed", self.database_partitions));
        }
        if is_set(&self.tls.cert) != is_set(&self.tls.key) {
            wrong.push("tls.cert and tls.key belong together; set both or neither".to_owned());
        }
        for (name, value) in [("login.max_native", self.login.max_native), ("login.max_web", self.login.max_web)] {
            if !(1..=10).contains(&value) {
                wrong.push(format!("{name} is {value}; 1 to 10 are allowed"));
            }
        }
        if let Err(error) = self.log.env_filter() {
            wrong.push(format!("log.filter is {:?}: {error}", self.log.filter));
        }
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(wrong)) }
    }
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

impl Log {
    /// Parses the filter. The value of a field is taken literally, not as a regular expression: a setting could otherwise delay
    /// the start by minutes.
    pub(crate) fn env_filter(&self) -> Result<EnvFilter, ParseError> {
        EnvFilter::builder().with_regex(false).parse(&self.filter)
    }
}

impl Tls {
    /// Returns the files of the operator's certificate and key, if they are set.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        (is_set(&self.cert) && is_set(&self.key)).then_some((self.cert.as_path(), self.key.as_path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
        Config::local("anywhere").validate().unwrap();
    }

    #[test]
    fn each_invalid_setting_is_reported() {
        let mut config = Config::default();
        config.limits.max_text_bytes = 40_000;
        config.tls.cert = PathBuf::from("cert.pem");
        config.login.max_web = 11;
        config.workers = 1_025;
        config.database_partitions = 65;
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains("limits.max_text_bytes is 40000; at most 32768 is allowed"), "{message}");
        assert!(message.contains("tls.cert and tls.key belong together"), "{message}");
        assert!(message.contains("login.max_web is 11; 1 to 10 are allowed"), "{message}");
        assert!(message.contains("workers is 1025; at most 1024 are allowed"), "{message}");
        assert!(message.contains("database_partitions is 65; at most 64 are allowed"), "{message}");
        Config { workers: 1_024, database_partitions: 64, ..Config::default() }.validate().unwrap();
        config = Config::default();
        (config.limits.messages_per_second, config.limits.message_burst) = (51, 101);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains("raise limits.requests_per_second to at least 51"), "{message}");
        assert!(message.contains("raise limits.request_burst to at least 101"), "{message}");
        (config.limits.messages_per_second, config.limits.message_burst) = (50, 100);
        config.validate().unwrap();
        config = Config { database: "mysql://db".parse().unwrap(), ..Config::default() };
        assert!(config.validate().unwrap_err().to_string().contains("sqlite:// or postgres://"));
    }

    #[test]
    fn a_bus_needs_postgresql() {
        let config = |database: &str, bus: &str, node_lease_ms| {
            let (database, bus) = (database.parse().unwrap(), bus.parse().unwrap());
            let media = Media { store: "/shared".parse().unwrap(), ..Media::default() };
            let config = Config { database, bus, node_lease_ms, media, ..Config::default() };
            config.validate().map_err(|error| error.to_string())
        };
        assert_eq!(config("postgres://db/zim", "nats://bus:4222", 10_000), Ok(()));
        for database in ["", "sqlite://zim.db"] {
            assert!(config(database, "nats://bus", 10_000).unwrap_err().contains("an SQLite file has one server"));
        }
        assert!(config("postgres://db/zim", "bus:4222", 10_000).unwrap_err().contains("nats://HOST:PORT"));
        assert!(config("", "", 999).unwrap_err().contains("node_lease_ms is 999; 1000 to 60000 are allowed"));
    }

    #[test]
    fn nodes_share_the_folder_of_the_files() {
        let mut config = Config {
            database: "postgres://db/zim".parse().unwrap(),
            bus: "nats://bus".parse().unwrap(),
            ..Config::default()
        };
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains("media.store is not"), "{message}");
        config.https = PublicListen::Off;
        config.validate().unwrap();
        config.https = PublicListen::Auto;
        config.media.store = "/shared".parse().unwrap();
        config.validate().unwrap();
        for bad in ["http://h", "https://", "https://h/", "h"] {
            config.media.public_url = bad.to_owned();
            assert!(config.validate().unwrap_err().to_string().contains("media.public_url"), "{bad}");
        }
        config.media = Media { public_url: "https://chat.example:443".to_owned(), kept_days: 36_501, ..config.media };
        assert!(config.validate().unwrap_err().to_string().contains("media.kept_days is 36501"));
    }

    #[test]
    fn the_value_of_a_field_in_a_log_filter_is_not_a_regular_expression() {
        let filter = |directives: &str| Log { filter: directives.to_owned(), ..Log::default() }.env_filter();
        assert!(filter("info,[request{user=ann}]=debug").is_ok());
        // As a regular expression this one is incomplete, and a complete one could take minutes.
        assert!(filter("info,[request{user=(}]=debug").is_ok());
        assert!(filter("loud").is_ok_and(|filter| filter.to_string() == "loud=trace"));
        assert!(filter("info,zim=loud").is_err());
    }

    #[test]
    fn passwords_stay_out_of_logs() {
        let config = Config {
            database: "postgres://zim:hunter2@db/zim".parse().unwrap(),
            bus: "nats://zim:hunter2@bus".parse().unwrap(),
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!toml::to_string(&config).unwrap().contains("hunter2"));
    }
}
