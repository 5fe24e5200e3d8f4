//! Exporting the messages of this device to a file, and importing them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use zim_protocol::{ErrorCode, MessageExportConfig, MessageImportConfig};

use crate::apply::Local;
use crate::error::Error;
use crate::store::message_transfer::{self, Exported};
use crate::zim::Zim;

/// The name of the file in the folder.
const FILE: &str = "zim-messages.jsonl";
/// The version of its form.
const FORMAT: u32 = 1;
/// Messages that are read or added at once.
const PAGE: usize = 200;

/// The first line of the file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    zim_messages: u32,
    #[serde(rename = "appID")]
    app_id: u32,
    #[serde(rename = "userID")]
    user_id: String,
    /// Positions of another epoch are those of other messages.
    epoch: String,
    count: u64,
}

impl Zim {
    /// Exports the messages of all conversations that this device has to the file `zim-messages.jsonl` in a folder (reference:
    /// `exportLocalMessages`): a line of JSON for each. `progress` gets the messages that are exported, and their number. An
    /// earlier export in the folder is replaced when this one is complete. Files of messages stay where they are.
    ///
    /// # Errors
    /// 6000241: an export or an import is in progress. 6000243: the file cannot be written.
    pub async fn export_local_messages(
        &self,
        folder_path: &str,
        config: MessageExportConfig,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<(), Error> {
        // It has no fields yet.
        let MessageExportConfig {} = config;
        let account = self.account()?;
        let _turn = account.transfer().try_lock().map_err(|_| in_progress())?;
        let folder = Path::new(folder_path).to_owned();
        let (draft, file) = (folder.join(format!("{FILE}.new")), folder.join(FILE));
        let cannot = |error: io::Error| {
            let message = format!("the messages cannot be exported to {}", folder.display());
            Error::new(ErrorCode::MessageModuleCacheFileExportFailed, message).with_source(error)
        };
        let total = account.store().read(message_transfer::count).await?;
        let header = Header {
            zim_messages: FORMAT,
            app_id: self.client().config.app_id,
            user_id: account.user_id().to_string(),
            epoch: self.epoch().await?,
            count: total,
        };
        let mut out = blocking({
            let (folder, draft) = (folder.clone(), draft.clone());
            move || {
                zim_files::create_folder(&folder)?;
                let options = &mut std::fs::OpenOptions::new();
                let mut out = BufWriter::new(zim_files::open(&draft, options.write(true).create(true).truncate(true))?);
                write_line(&mut out, &header)?;
                Ok(out)
            }
        })
        .await
        .map_err(cannot)?;
        let (mut after, mut done) = (0, 0);
        loop {
            let count = i64::try_from(PAGE).unwrap_or(i64::MAX);
            let (page, last) = account.store().read(move |db| message_transfer::page(db, after, count)).await?;
            if page.is_empty() {
                break;
            }
            (after, done) = (last, done + page.len() as u64);
            out = blocking(move || {
                page.iter().try_for_each(|message| write_line(&mut out, message))?;
                Ok(out)
            })
            .await
            .map_err(cannot)?;
            progress(done, total.max(done));
        }
        blocking(move || {
            let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            out.sync_all()?;
            std::fs::rename(draft, file)
        })
        .await
        .map_err(cannot)
    }

    /// Imports messages that [`Zim::export_local_messages`] has exported on any device of the same user (reference:
    /// `importLocalMessages`). `progress` gets the messages that are read, and their number. Messages that this device has stay as
    /// they are, but get their `localExtendedData` if they have none; those that were deleted, and those of conversations that
    /// it does not have, are left out. What the server has as well is as the server has it when history is read with a connection; no
    /// event tells what happened to it since the export.
    ///
    /// # Errors
    /// 6000240: there is no export in the folder. 6000242: it is another user's. 6000244: it is no export of messages, or one from
    /// before a backup of the server was restored. 6000245: a line is not valid. 6000241: an export or an import is in progress.
    pub async fn import_local_messages(
        &self,
        folder_path: &str,
        config: MessageImportConfig,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<(), Error> {
        // It has no fields yet.
        let MessageImportConfig {} = config;
        let account = self.account()?;
        let _turn = account.transfer().try_lock().map_err(|_| in_progress())?;
        let file = Path::new(folder_path).join(FILE);
        let cannot = |error: io::Error| {
            let message = format!("{} cannot be read", file.display());
            Error::new(ErrorCode::MessageModuleCacheFileOpenFailed, message).with_source(error)
        };
        let path = file.clone();
        let (mut lines, first) = blocking(move || {
            let mut lines = BufReader::new(File::open(path)?);
            let first = read_line(&mut lines)?;
            Ok((lines, first))
        })
        .await
        .map_err(cannot)?;
        let header: Header = serde_json::from_slice(&first).map_err(|error| not_valid(1, error))?;
        self.check(&header, account.user_id()).await?;
        account.listed().await;
        let mut done = 0;
        loop {
            let page;
            (lines, page) = blocking(move || {
                let mut page = Vec::with_capacity(PAGE);
                while page.len() < PAGE {
                    let line = read_line(&mut lines)?;
                    if line.is_empty() {
                        break;
                    }
                    page.push(line);
                }
                Ok((lines, page))
            })
            .await
            .map_err(cannot)?;
            if page.is_empty() {
                return Ok(());
            }
            let mut messages: Vec<Exported> = Vec::with_capacity(page.len());
            for line in page {
                done += 1;
                messages.push(serde_json::from_slice(&line).map_err(|error| not_valid(done + 1, error))?);
            }
            account.change_here(Local::Import(messages), Some(Vec::new())).await?;
            progress(done, header.count.max(done));
        }
    }

    async fn check(&self, header: &Header, user_id: &str) -> Result<(), Error> {
        let failed = |message: &str| Error::new(ErrorCode::MessageModuleCacheFileImportFailed, message);
        if header.zim_messages != FORMAT {
            return Err(failed("the file is of a version that this one does not know"));
        }
        if header.app_id != self.client().config.app_id || header.user_id != user_id {
            let message = format!("the messages are those of {} in app {}", header.user_id, header.app_id);
            return Err(Error::new(ErrorCode::MessageModuleCacheFileOnlyCanImportCacheOfOneself, message));
        }
        if header.epoch != self.epoch().await? {
            return Err(failed("the messages are from before a backup of the server was restored"));
        }
        Ok(())
    }
}

fn in_progress() -> Error {
    let message = "an export or an import of messages is in progress; wait until it has ended";
    Error::new(ErrorCode::MessageModuleCacheFileExportOrImportIsInProgressCurrently, message)
}

fn not_valid(line: u64, error: serde_json::Error) -> Error {
    let message = format!("line {line} of the file is not valid");
    Error::new(ErrorCode::MessageModuleCacheFileJsonParseFailed, message).with_source(error)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Returns the next line, or nothing at the end. A line has at most the length of the longest message.
fn read_line(lines: &mut impl BufRead) -> io::Result<Vec<u8>> {
    use io::Read;
    const MOST: u64 = 8 << 20;
    let mut line = Vec::new();
    lines.take(MOST).read_until(b'\n', &mut line)?;
    Ok(line)
}
