//! The options that every command takes.

use std::path::PathBuf;

use clap::Args;

use crate::output::Format;

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Global {
    /// Whose: a name under which `zim login` remembers [default: as `zim profile use` says]
    #[arg(long, short = 'p', global = true, env = "ZIM_PROFILE", hide_env_values = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Where profiles are kept [default: ~/.config/zim]
    #[arg(long, global = true, env = "ZIM_CONFIG_DIR", hide_env_values = true, value_name = "FOLDER")]
    pub(crate) config_dir: Option<PathBuf>,
    /// JSON, one object a line: the default in a pipe
    #[arg(long, global = true, conflicts_with = "plain")]
    pub(crate) json: bool,
    /// Text for people, even in a pipe
    #[arg(long, global = true)]
    pub(crate) plain: bool,
}

impl Global {
    /// What was asked for, if anything was.
    pub(crate) fn format(&self) -> Option<Format> {
        match (self.json, self.plain) {
            (true, _) => Some(Format::Json),
            (_, true) => Some(Format::Plain),
            _ => None,
        }
    }
}
