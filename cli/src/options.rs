//! The options that every command takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use tracing_subscriber::EnvFilter;

use crate::duration;
use crate::output::Format;

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
}

impl Global {
    /// Returns what is logged: `-v`, or else the filter in ZIM_CLI_LOG.
    pub(crate) fn log_filter(&self) -> Option<EnvFilter> {
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
