//! The options that every command takes.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use tracing_subscriber::EnvFilter;
use zim_client_sdk::{Config, LogConfig, LogLevel, Zim};

use crate::duration;
use crate::exit::Failure;
use crate::output::Format;

/// An address where there is no server.
pub(crate) const NOWHERE: &str = "127.0.0.1:1";

/// The common options.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Global {
    /// Profile to use [default: the one chosen with `zim profile use`]
    #[arg(long, short = 'p', global = true, env = "ZIM_PROFILE", hide_env_values = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Folder of the profiles [default: ~/.config/zim]
    #[arg(long, global = true, env = "ZIM_CONFIG_DIR", hide_env_values = true, value_name = "FOLDER")]
    pub(crate) config_dir: Option<PathBuf>,
    /// Print JSON, one object a line: the default in a pipe
    #[arg(long, global = true, conflicts_with = "plain")]
    pub(crate) json: bool,
    /// Print text, even in a pipe
    #[arg(long, global = true)]
    pub(crate) plain: bool,
    /// Give up after this time, as in 30s or 5m; `zim listen` ends then
    #[arg(long, global = true, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Log to standard error what the command does; -vv logs more
    #[arg(long, short = 'v', global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log to files in this folder instead: zim.log, zim.1.log and zim.2.log, of 5 MB each
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) log_folder: Option<PathBuf>,
    /// Set a setting of the SDK by its name, such as connect_timeout_ms=2000; may be repeated
    #[arg(long = "setting", global = true, value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
}

/// Parses a setting such as `connect_timeout_ms=2000`.
fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting has the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Global {
    /// Sets what holds for all clients of the process. It needs a runtime.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        for (name, value) in &self.settings {
            Zim::set_advanced_config(name, value).map_err(|error| Failure::usage(error.message()))?;
        }
        if let Some(folder) = &self.log_folder {
            // The SDK logs nothing if it cannot, and says nothing of it.
            let file = folder.join("zim.log");
            zim_files::create_folder(folder)
                .and_then(|()| zim_files::open(&file, OpenOptions::new().create(true).append(true)))
                .map_err(|error| Failure::other(format!("{}: {error}", file.display())))?;
            // The log is the process's: this client connects to nothing.
            let zim = Zim::new(Config::new(1, NOWHERE))?;
            zim.set_log_config(&LogConfig { log_level: LogLevel::Debug, log_path: Some(folder.clone()) });
            zim.destroy();
        }
        Ok(())
    }

    /// Returns what is logged to standard error: `-v`, or else the filter in ZIM_CLI_LOG.
    pub(crate) fn log_filter(&self) -> Option<EnvFilter> {
        if self.log_folder.is_some() {
            return None;
        }
        match self.verbose {
            0 => EnvFilter::try_from_env("ZIM_CLI_LOG").ok(),
            1 => Some(EnvFilter::new("zim=debug,zim_client_sdk=debug")),
            2 => Some(EnvFilter::new("debug")),
            _ => Some(EnvFilter::new("trace")),
        }
    }

    /// Returns the requested format; `None` if neither was requested.
    pub(crate) fn format(&self) -> Option<Format> {
        match (self.json, self.plain) {
            (true, _) => Some(Format::Json),
            (_, true) => Some(Format::Plain),
            _ => None,
        }
    }
}
