//! `zim message note`, `insert`, `export` and `import`: what the device of the profile alone has of messages.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use zim_protocol::{Message, MessageExportConfig, MessageImportConfig, MessageQueryConfig};

use super::OneArgs;
use crate::context::{Context, Session};
use crate::exit::Failure;
use crate::output::Output;
use crate::progress;
use crate::target::Target;
use crate::text::preview;

/// What never leaves the device.
#[derive(Debug, Subcommand)]
pub(crate) enum LocalCommand {
    /// Keep a note about a message on this device: chat and listen have it in their JSON, as localExtendedData
    Note(NoteArgs),
    /// Add a text to a conversation on this device only: chat shows it
    Insert(InsertArgs),
    /// Export the messages that this device has to the file zim-messages.jsonl
    Export {
        /// The folder of the file; it is created if there is none
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Import messages that the same user has exported, on any device
    Import {
        /// The folder of the file
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// `zim message note`
#[derive(Args, Debug)]
pub(crate) struct NoteArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The note, up to 128 KB
    #[arg(value_name = "TEXT", required_unless_present = "clear")]
    text: Option<String>,
    /// Remove the note
    #[arg(long, conflicts_with = "text")]
    clear: bool,
}

/// `zim message insert`
#[derive(Args, Debug)]
pub(crate) struct InsertArgs {
    #[command(flatten)]
    with: Target,
    /// The text
    #[arg(value_name = "TEXT")]
    text: String,
    /// The user who seems to have written it [default: you]
    #[arg(long, value_name = "USER")]
    from: Option<String>,
}

pub(super) async fn run(command: LocalCommand, context: &Context) -> Result<(), Failure> {
    let session = match command {
        // The message may have to be fetched.
        LocalCommand::Note(_) => context.own_device().await?,
        _ => context.own_device_offline().await?,
    };
    let outcome = match command {
        LocalCommand::Note(args) => note(&args, context.output, &session).await,
        LocalCommand::Insert(args) => insert(args, context.output, &session).await,
        LocalCommand::Export { folder } => export(&folder, context.output, &session).await,
        LocalCommand::Import { folder } => import(&folder, context.output, &session).await,
    };
    // Nothing about the device changes: one that gets pushes goes on getting them.
    session.leave().await;
    outcome
}

async fn note(args: &NoteArgs, output: Output, session: &Session) -> Result<(), Failure> {
    session.synced().await?;
    let OneArgs { with, seq } = &args.one;
    // What history shows is on the device afterwards.
    let config = MessageQueryConfig {
        next_message: Some(with.message(seq.saturating_add(1))),
        count: 1,
        reverse: true,
        ..MessageQueryConfig::default()
    };
    session.zim.query_history_message(&with.id, with.kind(), config).await?;
    let text = args.text.as_deref().unwrap_or_default();
    let updated = session.zim.update_message_local_extended_data(text, &with.message(*seq)).await?;
    if output.is_json() {
        return output.json(&updated);
    }
    let place = with.place("with");
    output.line(match text {
        "" => format!("There is no note about message {seq} {place} any more."),
        text => format!("The note about message {seq} {place} is kept on this device: {}", preview(text, 60)),
    })
}

async fn insert(args: InsertArgs, output: Output, session: &Session) -> Result<(), Failure> {
    let InsertArgs { with, text, from } = args;
    let from = from.unwrap_or_else(|| session.user_id.clone());
    let inserted = session.zim.insert_message_to_local_db(Message::text(text), &with.id, with.kind(), &from).await?;
    if output.is_json() {
        return output.json(&inserted);
    }
    let place = with.place("with");
    output.line(format!("Added a message of {} {place}, on this device only.", preview(&from, 32)))
}

/// The folder as the SDK takes it.
fn absolute(folder: &Path) -> Result<String, Failure> {
    Ok(std::path::absolute(folder)?.to_string_lossy().into_owned())
}

async fn export(folder: &Path, output: Output, session: &Session) -> Result<(), Failure> {
    zim_files::create_folder(folder)?;
    let (bar, mut all) = (progress::counting(0, "messages"), 0);
    let progress = |done: u64, total: u64| {
        all = total;
        bar.set_length(total);
        bar.set_position(done);
    };
    let exported = session.zim.export_local_messages(&absolute(folder)?, MessageExportConfig {}, progress).await;
    bar.finish_and_clear();
    exported?;
    moved("Exported", all, "to", folder, output)
}

async fn import(folder: &Path, output: Output, session: &Session) -> Result<(), Failure> {
    let (bar, mut all) = (progress::counting(0, "messages"), 0);
    let progress = |done: u64, total: u64| {
        all = total;
        bar.set_length(total);
        bar.set_position(done);
    };
    let imported = session.zim.import_local_messages(&absolute(folder)?, MessageImportConfig {}, progress).await;
    bar.finish_and_clear();
    imported?;
    moved("Read", all, "from", folder, output)
}

fn moved(done: &str, count: u64, place: &str, folder: &Path, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&serde_json::json!({ "messages": count, "folder": folder.to_string_lossy() }));
    }
    let folder = preview(&folder.to_string_lossy(), 200);
    output.line(format!("{done} {count} messages {place} {folder}."))
}
