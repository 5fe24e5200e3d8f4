//! `zim log`: the log of this machine, for the operator of the server.

use std::path::PathBuf;

use clap::Subcommand;
use zim_client_sdk::{LogConfig, LogLevel};

use crate::context::Context;
use crate::exit::Failure;
use crate::text::preview;

/// `zim log`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Every command writes a log with --log-folder. The operator reads what was uploaded with `zim admin log`.

Examples:
  zim ping --log-folder logs
  zim log upload logs")]
pub(crate) enum LogCommand {
    /// Upload the log files of a folder for the operator of the server
    Upload {
        /// The folder
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

pub(crate) async fn run(command: LogCommand, context: &Context) -> Result<(), Failure> {
    let LogCommand::Upload { folder } = command;
    if !folder.is_dir() {
        return Err(Failure::usage(format!("there is no folder {}", folder.display())));
    }
    let session = context.one_shot().await?;
    session.zim.set_log_config(&LogConfig { log_level: LogLevel::Warn, log_path: Some(folder.clone()) });
    let uploaded = session.zim.upload_log().await;
    session.end().await;
    uploaded?;
    let folder = folder.to_string_lossy();
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({ "folder": folder }));
    }
    context.output.line(format!("The log in {} is uploaded.", preview(&folder, 200)))
}
