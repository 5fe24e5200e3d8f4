//! `zim admin log`: the logs that clients have uploaded.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use tempfile::NamedTempFile;
use zim_protocol::{ListLogsRequest, LogInfo, ReadLogRequest};

use super::{Operator, refused};
use crate::context::{Context, now_ms};
use crate::exit::Failure;
use crate::output::{Align, Table, when};
use crate::text::preview;

/// `zim admin log`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim admin log list
  zim admin log list ann")]
pub(crate) enum LogCommand {
    /// List the logs, the newest first
    List {
        /// Only those of this user
        user: Option<String>,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Fetch a log, a zip file
    Get {
        /// The log, as listed
        #[arg(value_name = "LOG")]
        log: String,
        /// The file to write [default: LOG.zip in this folder]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
}

pub(super) async fn run(command: LogCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    match command {
        LogCommand::List { user, app_id } => list(user.unwrap_or_default(), app_id, operator, context).await,
        LogCommand::Get { log, output, app_id } => {
            let app_id = operator.app(app_id).await?;
            let to = output.unwrap_or_else(|| PathBuf::from(format!("{}.zip", preview(&log, 20))));
            let size = get(&log, app_id, &to, operator).await?;
            if context.output.is_json() {
                return context.output.json(&serde_json::json!({ "file": to, "size": size }));
            }
            context.output.line(format!("Wrote {size} bytes to {}.", to.display()))
        }
    }
}

async fn list(user_id: String, app_id: Option<u32>, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let app_id = operator.app(app_id).await?;
    let mut table = Table::new(&[
        ("LOG", Align::Left),
        ("USER", Align::Left),
        ("DEVICE", Align::Left),
        ("UPLOADED", Align::Left),
        ("BYTES", Align::Right),
    ]);
    let (mut next_flag, mut is_empty) = (0, true);
    loop {
        let request = ListLogsRequest { app_id, user_id: user_id.clone(), next_flag, count: 0 };
        let page = operator.client.list_logs(request).await.map_err(|status| refused(&status))?.into_inner();
        is_empty &= page.logs.is_empty();
        for log in &page.logs {
            if context.output.is_json() {
                context.output.json(log)?;
            }
            table.row(row(log, now_ms()));
        }
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    match (context.output.is_json(), is_empty) {
        (true, _) => Ok(()),
        (false, true) => context.output.line("No logs were uploaded."),
        (false, false) => context.output.table(&table),
    }
}

fn row(log: &LogInfo, now_ms: i64) -> [String; 5] {
    [
        preview(&log.log_id, 20),
        preview(&log.user_id, 32),
        preview(&log.device_id, 32),
        when(log.uploaded_at, now_ms),
        log.size.to_string(),
    ]
}

/// Writes a log to a file that is new and that nobody else can read. Returns its size.
async fn get(log: &str, app_id: u32, to: &Path, operator: &mut Operator) -> Result<i64, Failure> {
    let mut file = NewFile::at(to)?;
    let mut offset = 0;
    loop {
        let request = ReadLogRequest { app_id, log_id: log.to_owned(), offset };
        let part = operator.client.read_log(request).await.map_err(|status| refused(&status))?.into_inner().data;
        if part.is_empty() {
            return file.finish().map(|()| offset);
        }
        file.append(&part)?;
        offset += i64::try_from(part.len()).unwrap_or(i64::MAX);
    }
}

/// A file that is there once it is complete. Until then its parts are in a file beside it, which is removed if there is no end.
pub(super) struct NewFile<'a> {
    to: &'a Path,
    draft: NamedTempFile,
}

impl<'a> NewFile<'a> {
    pub(super) fn at(to: &'a Path) -> Result<Self, Failure> {
        if to.exists() {
            return Err(Failure::other(format!("{} exists already", to.display())).hint("--output names another file"));
        }
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        // Nobody else can read it.
        let draft = NamedTempFile::with_prefix_in(".zim-part-", folder).map_err(|error| cannot(to, error))?;
        Ok(Self { to, draft })
    }

    pub(super) fn append(&mut self, part: &[u8]) -> Result<(), Failure> {
        self.draft.write_all(part).map_err(|error| cannot(self.to, error))
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        self.draft.persist_noclobber(self.to).map(drop).map_err(|error| cannot(self.to, error.error))
    }
}

fn cannot(to: &Path, error: std::io::Error) -> Failure {
    Failure::other(format!("{} cannot be written: {error}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_complete_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("1.zip");
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut broken = NewFile::at(&to).unwrap();
        broken.append(b"part").unwrap();
        drop(broken);
        assert_eq!(names(), 0, "what broke off is gone");
        let mut file = NewFile::at(&to).unwrap();
        file.append(b"one ").unwrap();
        assert!(!to.exists());
        file.append(b"two").unwrap();
        file.finish().unwrap();
        assert_eq!((std::fs::read(&to).unwrap().as_slice(), names()), (&b"one two"[..], 1));
        assert!(NewFile::at(&to).is_err(), "it replaces nothing");
    }
}
