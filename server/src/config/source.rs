//! Reads the settings: flags override variables, which override the file, which overrides the defaults.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use toml::{Table, Value};

use super::Config;
use super::variable::{CONFIG_FILE, PREFIX, check_variables, variable};

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An error of the command line, or its help or version: clap prints it.
    #[error(transparent)]
    Args(#[from] clap::Error),
    /// The settings file cannot be read.
    #[error("the settings file {file} cannot be read: {source}")]
    Read {
        /// The path of the file.
        file: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The settings file has an unknown setting or a malformed value.
    #[error("in the settings file {file}: {message}")]
    File {
        /// The path of the file.
        file: PathBuf,
        /// The line and the error.
        message: String,
    },
    /// A flag or variable names an unknown setting or has a malformed value.
    #[error("{0}")]
    Setting(String),
    /// Values out of range, or settings that contradict each other.
    #[error("the settings are not valid:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
}

/// The chat server. It runs without any arguments; the first start creates the data folder.
///
/// Every setting of the file is also an environment variable: `limits.max_text_bytes` is ZIM_LIMITS_MAX_TEXT_BYTES. Flags
/// override variables, and variables override the file.
#[derive(Debug, Parser)]
#[command(name = "zim-server", version)]
pub struct Args {
    /// A TOML file with settings [variable: ZIM_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address where clients connect (UDP) [default: 0.0.0.0:4710]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder of the database, the certificate and the keys [default: zim-data]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// sqlite://FILE or postgres://… [default: SQLite in the data folder]. All users of this machine can see arguments: give
    /// an address with a password in the settings file or in ZIM_DATABASE, or the password in PGPASSFILE
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// nats://… or tls://…, for several servers on one PostgreSQL database [default: none]
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// Address of the public HTTPS listener (TCP), HOST:PORT, or off [default: that of --listen]
    #[arg(long, value_name = "ADDRESS")]
    https: Option<String>,
    /// Address of /health, /ready and /metrics, or off [default: 127.0.0.1:4711]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Address of the operator's service: local (a socket in the data folder), unix:PATH, HOST:PORT or off [default: local]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// A PEM file with a certificate, instead of the self-signed one
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// A PEM file with its private key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// pretty or json [default: pretty]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Log filter, such as info,zim_server::net=debug
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Any other setting, such as limits.max_text_bytes=4096
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Create a new database although this data folder had one, whose messages, users and apps are lost. For one start
    #[arg(long)]
    new_database: bool,
    /// With migrate: the SQLite database, sqlite://FILE [default: that of the data folder]
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// With migrate: an empty PostgreSQL database, postgres://…
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// A command to run instead of the server
    #[arg(value_enum)]
    pub command: Option<Command>,
}

/// A command that the program runs instead of the server. A value and not clap's subcommand, so that flags may stand on both sides
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// Check the settings and the files that they name, and print the settings
    CheckConfig,
    /// Make every client synchronize anew, after a backup was restored. No server may run on the database
    NewEpoch,
    /// Copy an SQLite database to PostgreSQL (--from, --to). No server may run on either. If it is interrupted, repeat it
    Migrate,
}

impl Args {
    /// Parses the command line.
    ///
    /// # Errors
    /// The command line is wrong, or asks for help or the version.
    pub fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        Ok(<Self as Parser>::try_parse_from(arguments)?)
    }

    /// Returns the settings file of the flag, else of the variable.
    pub(crate) fn file(&self, variables: &[(String, String)]) -> Option<PathBuf> {
        let in_variable =
            || variables.iter().find(|(name, _)| name == CONFIG_FILE).map(|(_, file)| PathBuf::from(file));
        self.config.clone().or_else(in_variable)
    }

    fn settings(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let named = [
            ("listen", &self.listen),
            ("data_dir", &self.data_dir),
            ("database", &self.database),
            ("bus", &self.bus),
            ("https", &self.https),
            ("http", &self.http),
            ("admin", &self.admin),
            ("tls.cert", &self.tls_cert),
            ("tls.key", &self.tls_key),
            ("log.format", &self.log_format),
            ("log.filter", &self.log),
        ];
        let mut settings: Vec<_> = named
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| (name.to_owned(), value.clone())))
            .collect();
        for set in &self.set {
            let (name, value) = set
                .split_once('=')
                .ok_or_else(|| ConfigError::Setting(format!("--set {set:?} is malformed; it must be NAME=VALUE")))?;
            settings.push((name.to_owned(), value.to_owned()));
        }
        Ok(settings)
    }
}

impl Config {
    /// Loads the settings of this process: flags override variables, which override the file, which overrides the defaults.
    ///
    /// # Errors
    /// A source cannot be read or names an unknown setting, or the settings are not valid.
    pub fn load(args: &Args, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut settings = table_of(&Self::default())?;
        let variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        if let Some(file) = args.file(&variables) {
            merge(&mut settings, read_file(&file)?);
        }
        // In the order of the settings, so that the result does not depend on the order of the environment.
        let names = names(&settings);
        for name in &names {
            let variable = variable(name);
            if let Some((_, value)) = variables.iter().find(|(given, _)| *given == variable) {
                set(&mut settings, name, value, &variable)?;
            }
        }
        check_variables(&variables, &names)?;
        for (name, value) in args.settings()? {
            set(&mut settings, &name, &value, &name)?;
        }
        let mut config: Self =
            Value::Table(settings).try_into().map_err(|error: toml::de::Error| setting_error(&error))?;
        config.new_database = args.new_database;
        config.validate()?;
        Ok(config)
    }
}

fn setting_error(error: &toml::de::Error) -> ConfigError {
    ConfigError::Setting(error.to_string().trim_end().to_owned())
}

fn table_of(config: &Config) -> Result<Table, ConfigError> {
    Table::try_from(config).map_err(|error| ConfigError::Setting(error.to_string()))
}

fn read_file(file: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    let wrong = |error: toml::de::Error| ConfigError::File { file: file.to_owned(), message: error.to_string() };
    // Parsed twice: strictly, for errors that name the line, and as a table, for the settings that are present.
    toml::from_str::<Config>(&text).map_err(wrong)?;
    toml::from_str::<Table>(&text).map_err(wrong)
}

fn merge(into: &mut Table, from: Table) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// Returns the name of every setting, as `section.name`.
fn names(table: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => names.extend(section.keys().map(|key| format!("{name}.{key}"))),
            _ => names.push(name.clone()),
        }
    }
    names
}

/// Sets `section.name` to `text`, parsed as the type of the setting.
fn set(settings: &mut Table, name: &str, text: &str, given_as: &str) -> Result<(), ConfigError> {
    let place = match name.split_once('.') {
        Some((section, key)) => {
            settings.get_mut(section).and_then(Value::as_table_mut).and_then(|section| section.get_mut(key))
        }
        None => settings.get_mut(name).filter(|value| !value.is_table()),
    };
    let Some(place) = place else {
        return Err(ConfigError::Setting(format!("there is no setting {name}; check its spelling")));
    };
    let wrong = |what| ConfigError::Setting(format!("{given_as} is {text:?}; it must be {what}"));
    *place = match place {
        Value::Integer(_) => Value::Integer(text.replace('_', "").parse().map_err(|_| wrong("a whole number"))?),
        Value::Boolean(_) => Value::Boolean(text.parse().map_err(|_| wrong("true or false"))?),
        Value::Array(_) => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        _ => Value::String(text.to_owned()),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let arguments = std::iter::once("zim-server").chain(arguments.iter().copied()).map(OsString::from);
        let args = Args::parse_from(arguments)?;
        Config::load(&args, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zim.toml");
        std::fs::write(&file, text).unwrap();
        let name = file.to_str().unwrap().to_owned();
        (dir, name)
    }

    #[test]
    fn no_settings_give_the_defaults() {
        assert_eq!(load(&[], &[("HOME", "/"), ("ZIM_TOKEN", "of another program")]).unwrap(), Config::default());
    }

    #[test]
    fn flags_override_variables_override_the_file() {
        let (_dir, name) =
            file("listen = '127.0.0.1:1'\nhttp = 'off'\n[limits]\nmax_text_bytes = 1\nmax_custom_bytes = 1");
        let variables =
            [("ZIM_LISTEN", "127.0.0.1:2"), ("ZIM_LIMITS_MAX_TEXT_BYTES", "2"), ("ZIM_CONFIG", name.as_str())];
        let config = load(&["--listen", "127.0.0.1:3", "--set", "tls.names=a.example, b.example"], &variables).unwrap();
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.limits.max_text_bytes, 2);
        assert_eq!(config.limits.max_custom_bytes, 1);
        assert_eq!(config.http.0, None);
        assert_eq!(config.limits.max_command_bytes, 5_120);
        assert_eq!(config.tls.names, ["a.example", "b.example"]);
        // The flag overrides the variable that names another file.
        let (_other_dir, other) = file("workers = 3");
        let config = load(&["--config", &other], &[("ZIM_CONFIG", &name)]).unwrap();
        assert_eq!((config.workers, config.limits.max_text_bytes), (3, 2_048));
    }

    #[test]
    fn an_unknown_name_is_an_error_in_every_source() {
        let (_dir, name) = file("[limits]\nmax_txt_bytes = 1");
        let message = load(&["--config", &name], &[]).unwrap_err().to_string();
        assert!(message.contains("max_txt_bytes") && message.contains("line 2"), "{message}");
        let message = load(&[], &[("ZIM_LIMITS_MAX_TXT_BYTES", "1")]).unwrap_err().to_string();
        assert!(message.contains("ZIM_LIMITS_MAX_TXT_BYTES does not name a setting"), "{message}");
        for typo in ["ZIM_LISTN", "ZIM_LIMIT_MESSAGES_PER_SECOND", "ZIM_PORT", "ZIM_TEST", "ZIM_LIMITS", "ZIM_"] {
            let message = load(&[], &[(typo, "1")]).unwrap_err().to_string();
            assert!(message.contains(&format!("the variable {typo} does not name a setting")), "{message}");
        }
        let message = load(&["--set", "limits.max_txt_bytes=1"], &[]).unwrap_err().to_string();
        assert!(message.contains("there is no setting limits.max_txt_bytes"), "{message}");
        assert!(load(&["--set", "limits"], &[]).is_err());
        assert!(load(&["--set", "limits=1"], &[]).is_err());
        assert!(load(&["--colour"], &[]).is_err());
        assert!(load(&["--config", "not/there.toml"], &[]).unwrap_err().to_string().contains("not/there.toml"));
    }

    /// Kubernetes sets them for a service that is called `zim` or `zim-server`.
    #[test]
    fn variables_of_kubernetes_are_not_taken_for_settings() {
        let set = [
            ("ZIM_SERVICE_HOST", "10.0.0.1"),
            ("ZIM_SERVICE_PORT", "4710"),
            ("ZIM_SERVICE_PORT_QUIC", "4710"),
            ("ZIM_PORT", "udp://10.0.0.1:4710"),
            ("ZIM_PORT_4710_UDP", "udp://10.0.0.1:4710"),
            ("ZIM_PORT_4710_UDP_ADDR", "10.0.0.1"),
            ("ZIM_SERVER_PORT", "tcp://10.0.0.1:4711"),
        ];
        assert_eq!(load(&[], &set).unwrap(), Config::default());
    }

    #[test]
    fn flags_may_stand_before_and_after_a_command() {
        let expected = Config { data_dir: "there".into(), workers: 2, ..Config::default() };
        for arguments in [
            ["--data-dir", "there", "--set", "workers=2", "check-config"],
            ["check-config", "--data-dir", "there", "--set", "workers=2"],
            ["--set", "workers=2", "check-config", "--data-dir", "there"],
        ] {
            let args = Args::parse_from(["zim-server"].into_iter().chain(arguments).map(OsString::from)).unwrap();
            assert_eq!(args.command, Some(Command::CheckConfig), "{arguments:?}");
            assert_eq!(load(&arguments, &[]).unwrap(), expected, "{arguments:?}");
        }
        assert!(load(&["check-conf"], &[]).is_err());
    }

    #[test]
    fn a_malformed_value_is_reported_with_its_setting() {
        let message = load(&[], &[("ZIM_LIMITS_MAX_TEXT_BYTES", "many")]).unwrap_err().to_string();
        assert!(message.contains("ZIM_LIMITS_MAX_TEXT_BYTES is \"many\"; it must be a whole number"), "{message}");
        let message = load(&["--listen", "here"], &[]).unwrap_err().to_string();
        assert!(message.contains("listen"), "{message}");
        let message = load(&["--set", "limits.max_text_bytes=40000"], &[]).unwrap_err().to_string();
        assert!(message.contains("max_text_bytes is 40000; at most 32768 is allowed"), "{message}");
        assert!(load(&["--set", "login.multi_device=triple"], &[]).is_err());
        assert!(load(&["--log-format", "json", "--set", "login.multi_device=multi"], &[]).is_ok());
    }

    #[test]
    fn a_loaded_database_address_keeps_its_password() {
        let config = load(&["--database", "postgres://zim:hunter2@db/zim"], &[]).unwrap();
        assert_eq!(config.database.postgres(), Some("postgres://zim:hunter2@db/zim"));
    }
}
