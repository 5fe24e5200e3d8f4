//! A file that is uploaded and downloaded by clients with the SDK.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::timeout;
use zim_client_sdk::{EventStream, MessageSendNotification, Zim};
use zim_protocol::{ConversationType, Event, MediaDownloadConfig, MediaFileType, Message, MessageSendConfig};

use super::load::DRAIN;
use crate::exit::Failure;

/// The bytes that are written at once.
const PIECE: usize = 1 << 20;
/// The bytes that change between two uploads.
const STAMP: usize = 16;

/// A file to upload.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// A message whose file was uploaded.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) message: Message,
    /// The whole call.
    pub(crate) took: Duration,
    /// From the first byte of the file on the way until the server has accepted the last one.
    pub(crate) transfer: Duration,
}

impl Source {
    /// Writes a file of random bytes.
    pub(crate) async fn make(path: PathBuf, bytes: u64) -> Result<Self, Failure> {
        let source = Self { path, bytes };
        let path = source.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::create(path)?;
            let mut piece = vec![0; PIECE];
            getrandom::fill(&mut piece).map_err(|error| std::io::Error::other(error.to_string()))?;
            let mut left = bytes;
            while left > 0 {
                let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                file.write_all(&piece[..length])?;
                left -= length as u64;
            }
            // The disk is not to be busy with it during the measurement.
            file.sync_all()
        });
        written.await.map_err(|error| Failure::other(error.to_string()))??;
        Ok(source)
    }

    /// Makes it another file: the server would not take the same one twice.
    pub(crate) fn renew(&self) -> Result<(), Failure> {
        let mut stamp = [0; STAMP];
        getrandom::fill(&mut stamp).map_err(|error| Failure::other(error.to_string()))?;
        let mut file = std::fs::OpenOptions::new().write(true).open(&self.path)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&stamp)?;
        Ok(file.sync_all()?)
    }

    /// Sends it with the SDK. `on_begin` is called when its first bytes are on the way.
    pub(crate) async fn upload(
        &self,
        zim: &Zim,
        to: &str,
        on_begin: impl FnOnce() + Send + 'static,
    ) -> Result<Uploaded, Failure> {
        let moved = Arc::new(Mutex::new(None));
        let (seen, mut on_begin) = (Arc::clone(&moved), Some(on_begin));
        let notification = MessageSendNotification::default().on_media_uploading_progress(move |_, _, _| {
            let now = Instant::now();
            if let Some(on_begin) = on_begin.take() {
                on_begin();
            }
            seen.lock().get_or_insert((now, now)).1 = now;
        });
        let message = Message::file(self.path.to_string_lossy());
        let began = Instant::now();
        let config = MessageSendConfig::default();
        let sent = zim.send_message(message, to, ConversationType::Peer, config, notification).await?;
        let took = began.elapsed();
        let message = sent.message.ok_or_else(|| Failure::other("a message with a file was sent, but is not known"))?;
        let moved: Option<(Instant, Instant)> = *moved.lock();
        let transfer = moved.map_or(took, |(first, last)| last.duration_since(first));
        Ok(Uploaded { message, took, transfer })
    }

    /// Fails unless a download has its size.
    pub(crate) fn check(&self, downloaded: &Path) -> Result<(), Failure> {
        let bytes = std::fs::metadata(downloaded)?.len();
        if bytes == self.bytes {
            return Ok(());
        }
        Err(Failure::other(format!("a download has {bytes} bytes instead of {}", self.bytes)))
    }
}

/// Waits until the message that was sent arrives.
pub(crate) async fn arrived(events: &mut EventStream, sent: &Message) -> Result<Message, Failure> {
    let arrived = async {
        while let Some(event) = events.next().await {
            if let Ok(Event::PeerMessageReceived(received)) = event {
                let mut messages = received.message_list.into_iter();
                if let Some(message) = messages.find(|message| message.message_id == sent.message_id) {
                    return Some(message);
                }
            }
        }
        None
    };
    let arrived = timeout(DRAIN, arrived).await.ok().flatten();
    arrived.ok_or_else(|| Failure::other("a message with a file was sent, but did not arrive"))
}

/// Downloads the file of a message with the SDK. Returns where it is, and how long that took.
pub(crate) async fn download(zim: &Zim, message: &Message) -> Result<(PathBuf, Duration), Failure> {
    let config = MediaDownloadConfig::default();
    let began = Instant::now();
    let done = zim.download_media_file(message, MediaFileType::OriginalFile, config, |_, _, _| {}).await?;
    Ok((PathBuf::from(done.file_local_path), began.elapsed()))
}

/// Ends clients. They no longer use their folders then, which can be removed.
pub(crate) async fn end(clients: [Zim; 2]) {
    for zim in clients {
        zim.close().await;
    }
}

/// Returns the URL of the file of a message.
pub(crate) fn url_of(message: &Message) -> String {
    let mut message = message.clone();
    message.media_part(0).map(|part| part.download_url.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_has_its_size_and_is_another_one_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::make(folder.path().join("source"), 1_500_000).await.unwrap();
        source.check(&source.path).unwrap();
        let before = std::fs::read(&source.path).unwrap();
        source.renew().unwrap();
        let after = std::fs::read(&source.path).unwrap();
        assert_ne!(before, after);
        assert_eq!((after.len(), before[STAMP..] == after[STAMP..]), (1_500_000, true));
        std::fs::write(&source.path, b"short").unwrap();
        assert!(source.check(&source.path).unwrap_err().message.contains("5 bytes instead of 1500000"));
    }
}
