//! The options that every command takes.

use std::path::PathBuf;

use clap::Args;

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
}

impl Global {
    /// Returns the requested format; `None` if neither was requested.
    pub(crate) fn format(&self) -> Option<Format> {
        match (self.json, self.plain) {
            (true, _) => Some(Format::Json),
            (_, true) => Some(Format::Plain),
            _ => None,
        }
    }
}
