//! `zim media`: messages with files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_protocol::media::{HEAD_BYTES, MediaFormat};
use zim_protocol::{
    CacheConfig, FileCacheClearConfig, FileCacheQueryConfig, MediaDownloadConfig, MediaFileType, Message,
    MessageSendConfig, MessageType,
};

use crate::context::{Context, Session, now_ms};
use crate::describe;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Ink, clock_time};
use crate::progress;
use crate::target::Target;
use crate::text::{is_unsafe, preview};

/// `zim media`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim media send bob cat.jpg
  zim media send --group crew song.mp3 --duration 180
  zim media send bob notes.pdf --type file
  zim media download bob 118
  zim media download bob 118 --version thumbnail --to small.jpg
  zim media cache
  zim media cache --folder saved-files
  zim media cache --clear

An upload that breaks off goes on where it was when the command is repeated.")]
pub(crate) enum MediaCommand {
    /// Send a file
    Send(SendArgs),
    /// Download the file of a message
    Download(DownloadArgs),
    /// Show how much space the files take that chat has saved on this device, or remove them
    Cache(CacheArgs),
}

/// `zim media cache`
#[derive(Args, Debug)]
pub(crate) struct CacheArgs {
    /// Remove the files
    #[arg(long)]
    clear: bool,
    /// Only files that were downloaded at least so long ago, such as 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    older: Option<Duration>,
    /// The folder of the files [default: that of the profile]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// `zim media send`
#[derive(Args, Debug)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    to: Target,
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The type of the message; by default the content of the file decides
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// The duration of a sound or a film, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..))]
    duration: i64,
}

/// `zim media download`
#[derive(Args, Debug)]
pub(crate) struct DownloadArgs {
    #[command(flatten)]
    with: Target,
    /// The sequence number of the message
    #[arg(value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    seq: i64,
    /// Which version of the file
    #[arg(long, value_name = "VERSION", default_value = "original", hide_default_value = true)]
    version: Version,
    /// Of a message with several parts: which one, from 0
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..=1000))]
    part: i64,
    /// Where the file goes; by default it has its own name, in the current folder
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// The type of a message with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Image,
    File,
    Audio,
    Video,
}

/// A version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    Original,
    Large,
    Thumbnail,
    FirstFrame,
}

impl Kind {
    /// Returns the type that fits the content of a file.
    fn of(head: &[u8]) -> Self {
        let format = MediaFormat::detect(head);
        let fits = |kind| format.is_some_and(|format| format.fits(kind));
        match () {
            () if fits(MessageType::Image) => Self::Image,
            () if fits(MessageType::Audio) => Self::Audio,
            () if fits(MessageType::Video) => Self::Video,
            () => Self::File,
        }
    }

    fn message(self, path: String, duration: i64) -> Message {
        match self {
            Self::Image => Message::image(path),
            Self::File => Message::file(path),
            Self::Audio => Message::audio(path, duration),
            Self::Video => Message::video(path, duration),
        }
    }
}

pub(crate) async fn run(command: MediaCommand, context: &Context) -> Result<(), Failure> {
    let command = match command {
        MediaCommand::Cache(args) => return cache(args, context).await,
        command => command,
    };
    let session = context.one_shot().await?;
    let outcome = match command {
        MediaCommand::Cache(_) => Ok(()),
        MediaCommand::Send(args) => send(&args, context, &session).await,
        MediaCommand::Download(args) => download(&args, context, &session).await,
    };
    session.end().await;
    outcome
}

fn head(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut head = Vec::new();
    let limit = u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX);
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut head))
        .map_err(|error| Failure::usage(format!("the file {} cannot be read: {error}", path.display())))?;
    Ok(head)
}

/// Returns the message with a file, of the type that fits its content.
pub(super) fn message(file: &Path) -> Result<Message, Failure> {
    let kind = Kind::of(&head(file)?);
    Ok(kind.message(std::path::absolute(file)?.to_string_lossy().into_owned(), 0))
}

async fn send(args: &SendArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let kind = match args.kind {
        Some(kind) => kind,
        None => Kind::of(&head(&args.file)?),
    };
    let path = std::path::absolute(&args.file)?.to_string_lossy().into_owned();
    let (message, bar) = (kind.message(path, args.duration), progress::bytes());
    let shown = bar.clone();
    let notification = MessageSendNotification::default().on_media_uploading_progress(move |_, moved, size| {
        shown.set_length(u64::try_from(size).unwrap_or(0));
        shown.set_position(u64::try_from(moved).unwrap_or(0));
    });
    let config = MessageSendConfig::default();
    let sent = session.zim.send_media_message(message, &args.to.id, args.to.kind(), config, notification).await;
    bar.finish_and_clear();
    let sent = sent?;
    if context.output.is_json() {
        return context.output.json(&sent);
    }
    let message = sent.message.unwrap_or_default();
    let to = context.output.paint(Ink::Name, &args.to.name());
    let at = clock_time(message.timestamp);
    context.output.line(format!("Sent to {to} at {at}, number {}: {}", message.message_seq, describe::short(&message)))
}

async fn download(args: &DownloadArgs, context: &Context, session: &Session) -> Result<(), Failure> {
    let found = session.zim.query_messages(&[args.seq], &args.with.id, args.with.kind()).await?.message_list.pop();
    let missing = || Failure::other(format!("there is no message {} {}", args.seq, args.with.place("with")));
    let mut message = found.ok_or_else(missing)?;
    let part = message.media_part(usize::try_from(args.part).unwrap_or(0));
    let name = part.map(|part| part.name.clone()).unwrap_or_default();
    let to = args.to.clone().unwrap_or_else(|| own_name(&name, args.seq, args.version));
    if !args.force && to.exists() {
        let failure = Failure::usage(format!("{} exists already", to.display()));
        return Err(failure.hint("--to names another file, --force replaces it"));
    }
    let bar = progress::bytes();
    let on_progress = |_: &Message, moved: i64, size: i64| {
        bar.set_length(u64::try_from(size).unwrap_or(0));
        bar.set_position(u64::try_from(moved).unwrap_or(0));
    };
    let kind = match args.version {
        Version::Original => MediaFileType::OriginalFile,
        Version::Large => MediaFileType::LargeImage,
        Version::Thumbnail => MediaFileType::Thumbnail,
        Version::FirstFrame => MediaFileType::VideoFirstFrame,
    };
    let config = MediaDownloadConfig { message_info_index: args.part };
    let downloaded = session.zim.download_media_file(&message, kind, config, on_progress).await;
    bar.finish_and_clear();
    let mut downloaded = downloaded?;
    // The session keeps nothing on this machine, so the file is moved out of its folder.
    let from = PathBuf::from(&downloaded.file_local_path);
    std::fs::copy(&from, &to)
        .map_err(|error| Failure::other(format!("{} cannot be written: {error}", to.display())))?;
    drop(std::fs::remove_file(from));
    downloaded.file_local_path = to.to_string_lossy().into_owned();
    if context.output.is_json() {
        return context.output.json(&downloaded);
    }
    let bytes = std::fs::metadata(&to)?.len();
    context.output.line(format!("Saved {bytes} bytes as {}.", preview(&downloaded.file_local_path, 200)))
}

/// Shows or clears what the device of the profile keeps.
async fn cache(args: CacheArgs, context: &Context) -> Result<(), Failure> {
    if let Some(folder) = &args.folder {
        Zim::set_cache_config(CacheConfig { cache_path: folder.to_string_lossy().into_owned() });
    }
    let ago = args.older.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    // 0 stands for all files.
    let end_time = ago.map_or(0, |ago| now_ms().saturating_sub(ago).max(1));
    let session = context.own_device_offline().await?;
    let outcome = async {
        let found = session.zim.query_local_file_cache(FileCacheQueryConfig { end_time }).await?;
        if args.clear {
            session.zim.clear_local_file_cache(FileCacheClearConfig { end_time }).await?;
        }
        Ok::<_, Failure>(found)
    }
    .await;
    session.leave().await;
    let found = outcome?;
    if context.output.is_json() {
        return context.output.json(&found);
    }
    let what = if args.clear { "are removed" } else { "are kept on this device" };
    context.output.line(format!("{} bytes of files {what}.", found.total_file_size))
}

/// Returns the file's own name, without what leads out of the folder, hides the file or disguises it, or one of the message.
fn own_name(name: &str, seq: i64, version: Version) -> PathBuf {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().filter(|letter| !is_unsafe(*letter)).collect();
    let name = match name.trim_start_matches('.') {
        "" => format!("message-{seq}"),
        name => name.to_owned(),
    };
    PathBuf::from(match version {
        Version::Original => name,
        Version::Large => format!("large-{name}"),
        Version::Thumbnail => format!("thumbnail-{name}"),
        // A picture, whatever the film is.
        Version::FirstFrame => format!("first-frame-{}.jpg", name.rsplit_once('.').map_or(&*name, |(stem, _)| stem)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_decides_the_type() {
        assert_eq!(Kind::of(b"\xff\xd8\xff\xe0"), Kind::Image);
        assert_eq!(Kind::of(b"ID3\x04"), Kind::Audio);
        assert_eq!(Kind::of(b"\0\0\0\x18ftypmp42"), Kind::Video);
        assert_eq!(Kind::of(b"%PDF-1.7"), Kind::File);
    }

    #[test]
    fn a_name_stays_in_the_folder() {
        assert_eq!(own_name("cat.jpg", 7, Version::Original), PathBuf::from("cat.jpg"));
        assert_eq!(own_name("../../etc/passwd", 7, Version::Large), PathBuf::from("large-passwd"));
        assert_eq!(own_name("film.mp4", 7, Version::FirstFrame), PathBuf::from("first-frame-film.jpg"));
        assert_eq!(own_name("", 7, Version::FirstFrame), PathBuf::from("first-frame-message-7.jpg"));
        assert_eq!(own_name(".profile", 7, Version::Original), PathBuf::from("profile"));
        assert_eq!(own_name("cat\u{202e}gpj.exe", 7, Version::Original), PathBuf::from("catgpj.exe"));
        for none in ["", "..", "a/..", "\n"] {
            assert_eq!(own_name(none, 7, Version::Original), PathBuf::from("message-7"));
        }
    }
}
