//! `zim bench media`: files of messages, compared with `curl` and a plain file server; and what uploads do to everything else.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::media_beside::{self, Memory, Texts};
use super::media_files::Source;
use super::media_transfers::{self, Transfers};
use super::process::Cost;
use super::show::{show_cost, thousands};
use super::target::Target;
use crate::exit::Failure;
use crate::output::Output;

/// `zim bench media`
#[derive(Clone, Debug, Args)]
pub(crate) struct MediaArgs {
    /// Bytes of a file; more than 104857600 need --set limits.max_file_bytes=N
    #[arg(long, value_name = "BYTES", default_value_t = 100_000_000, value_parser = bytes())]
    pub(crate) bytes: u64,
    /// How often each is measured, in turns, after a round that does not count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) rounds: u16,
    /// Uploads at once while the memory of the server is measured, each of a user of its own
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) uploads: u16,
    /// Bytes of the file of each of these uploads
    #[arg(long, value_name = "BYTES", default_value_t = 20_000_000, value_parser = bytes())]
    upload_bytes: u64,
    /// The plain file server to compare with, which stores files by PUT and gives them by GET. Its certificate is not checked.
    /// By default nginx is started, with the certificate of the server
    #[arg(long, value_name = "URL", value_parser = web_url, conflicts_with = "nginx")]
    pub(crate) against: Option<String>,
    /// The nginx to start [default: that of the system]
    #[arg(long, value_name = "FILE")]
    pub(crate) nginx: Option<PathBuf>,
    /// The folder for the files of the clients and of nginx, which should be on the disk of the server [default: that of the system
    /// for temporary files, where a server that is started has its own]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Measure only this
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The memory of the server during many uploads.
    Memory,
    /// Uploads and downloads, in turns with those of a plain file server.
    Transfers,
    /// Texts of a client that uploads.
    Texts,
}

/// The sizes of files: at least a few pieces, and at most what the SDK downloads.
fn bytes() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(100_000..=200 << 20)
}

fn web_url(text: &str) -> Result<String, String> {
    let is_web =
        ["https://", "http://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|host| !host.is_empty()));
    if is_web { Ok(text.trim_end_matches('/').to_owned()) } else { Err("a URL with https:// or http://".to_owned()) }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    bytes: u64,
    rounds: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfers: Option<Transfers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    texts: Option<Texts>,
    /// From the beginning to the end of all parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

pub(crate) async fn run(args: MediaArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let mut temporary = tempfile::Builder::new();
    temporary.prefix("zim-bench-");
    #[cfg(unix)]
    temporary.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let base = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let temporary = temporary.tempdir_in(std::path::absolute(base)?)?;
    let folder = temporary.path();
    let measures = |part| args.only.is_none_or(|only| only == part);
    let before = target.sample();
    let mut report = Report {
        bench: "media",
        bytes: args.bytes,
        rounds: args.rounds,
        memory: None,
        transfers: None,
        texts: None,
        server: None,
    };
    // First, because a server that was busy before has memory that it uses again.
    if measures(Part::Memory) {
        let source = Source::make(folder.join("source"), args.upload_bytes).await?;
        report.memory = Some(Box::pin(media_beside::memory(&args, target, &source)).await?);
    }
    let source = Source::make(folder.join("source"), args.bytes).await?;
    if measures(Part::Transfers) {
        report.transfers = Some(Box::pin(media_transfers::measure(&args, target, folder, &source)).await?);
    }
    if measures(Part::Texts) {
        report.texts = Some(Box::pin(media_beside::texts(&args, target, folder, &source)).await?);
    }
    report.server = target.cost(before);
    temporary.close()?;
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    output.line(format!("files of {} bytes, {} rounds\n", thousands(report.bytes), report.rounds))?;
    if let Some(transfers) = &report.transfers {
        media_transfers::show(transfers, output)?;
    }
    if let Some(texts) = &report.texts {
        media_beside::show_texts(texts, output)?;
    }
    if let Some(memory) = &report.memory {
        media_beside::show_memory(memory, output)?;
    }
    show_cost(report.server, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_server_has_a_url_of_the_web() {
        assert_eq!(web_url("https://127.0.0.1:8443/files/").as_deref(), Ok("https://127.0.0.1:8443/files"));
        assert_eq!(web_url("http://host").as_deref(), Ok("http://host"));
        for bad in ["", "host:80", "https://", "ftp://host"] {
            assert!(web_url(bad).is_err(), "{bad}");
        }
    }
}
