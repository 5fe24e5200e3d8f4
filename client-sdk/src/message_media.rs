//! Sending messages with files, and downloading the files.

use std::path::PathBuf;
use std::pin::Pin;

use parking_lot::Mutex;
use zim_protocol::{
    CacheConfig, ConversationType, ErrorCode, FileCacheClearConfig, FileCacheQueriedResult, FileCacheQueryConfig,
    MediaDownloadConfig, MediaDownloadedResult, MediaFileType, Message, MessageSendConfig, MessageSentResult,
    SendingMessageCancelConfig, Validate,
};

use crate::apply::Local;
use crate::error::Error;
use crate::media::{Cache, Wanted, downloading};
use crate::message::{MessageSendNotification, conversation_name, invalid};
use crate::message_local::found;
use crate::types::Key;
use crate::zim::Zim;

/// The folder of downloaded files that the app has set.
static CACHE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Callbacks for a media message that is being sent. A closure alone is about the progress of the upload, as in the
/// reference's second form of `sendMediaMessage`.
#[derive(Debug, Default)]
pub struct MediaMessageSendNotification(MessageSendNotification);

impl From<MessageSendNotification> for MediaMessageSendNotification {
    fn from(notification: MessageSendNotification) -> Self {
        Self(notification)
    }
}

impl<F: FnMut(&Message, i64, i64) + Send + 'static> From<F> for MediaMessageSendNotification {
    fn from(progress: F) -> Self {
        Self(MessageSendNotification::default().on_media_uploading_progress(progress))
    }
}

impl Zim {
    /// Sends a message with a file (reference: both forms of `sendMediaMessage`). It is [`Zim::send_message`] for image, file,
    /// audio, video and multiple messages; `notification` is a [`MessageSendNotification`], or a closure that gets the
    /// progress.
    ///
    /// The message takes its place in the conversation at once. Its file, `fileLocalPath`, is then uploaded, and the message is
    /// sent when the server has the file; other messages do not wait for that. An upload that breaks off goes on where it was,
    /// also after a restart of the app or of the server. A file that the user has uploaded before is not uploaded again. A
    /// message with a `fileDownloadUrl` is sent as it is.
    ///
    /// # Errors
    /// Those of [`Zim::send_message`], and
    /// - 6000211: there is no such file. 6000210: it is not a regular file. 6000216: it may not be read.
    /// - 6000214: the file is empty or too large. 6000213: its content is of another type than the message. 6000215: the
    ///   duration is too long.
    /// - 6000206: [`Zim::cancel_sending_message`] ended it.
    /// - 6000251: the server's HTTPS port could not be reached. 6000252, 6000212: the server refused or could not store the
    ///   file. 6000253: the file changed while it was uploaded. 6000254: the file could not be read.
    pub fn send_media_message(
        &self,
        message: Message,
        to_conversation_id: &str,
        conversation_type: ConversationType,
        config: MessageSendConfig,
        notification: impl Into<MediaMessageSendNotification>,
    ) -> Pin<Box<dyn Future<Output = Result<MessageSentResult, Error>> + Send>> {
        let MediaMessageSendNotification(notification) = notification.into();
        Box::pin(self.send_message(message, to_conversation_id, conversation_type, config, notification))
    }

    /// Cancels the sending of a message whose files are being uploaded (reference: `cancelSendingMessage`). The message fails
    /// with 6000206.
    ///
    /// # Errors
    /// 6000207: no file of the message is being uploaded: it was sent, has failed, or has no file.
    pub async fn cancel_sending_message(
        &self,
        message: &Message,
        config: SendingMessageCancelConfig,
    ) -> Result<(), Error> {
        // It has no fields yet.
        let SendingMessageCancelConfig {} = config;
        let account = self.account()?;
        let key: Option<Key> = zim_protocol::id::from_hex(&message.local_message_id);
        let key = key.ok_or_else(|| invalid("the message is not one that is being sent"))?;
        if account.cancel(key).await? {
            return Ok(());
        }
        let text = "no file of this message is being uploaded: it was sent, has failed, or has no file";
        Err(Error::new(ErrorCode::MessageModuleCancelSendingMessageFailed, text))
    }

    /// Downloads a file of a message (reference: `downloadMediaFile`), unless this device has it. `progress` gets the message,
    /// the bytes that have arrived, and the size; 0: unknown. A download that breaks off goes on where it was, with the next
    /// call. Of an original file, the message has the place in `fileLocalPath` from then on. Up to five redirections are followed:
    /// to HTTPS, and from HTTP to the same host.
    ///
    /// # Errors
    /// - 6000219: the message has no such file, or no URL for it.
    /// - 6000218: the file has more than 200 MB.
    /// - 6000220: the server of the file fails. 6000217: the file could not be downloaded or stored.
    /// - 6000240: the folder of downloaded files cannot be created.
    pub async fn download_media_file(
        &self,
        message: &Message,
        file_type: MediaFileType,
        config: MediaDownloadConfig,
        progress: impl Fn(&Message, i64, i64) + Send + Sync,
    ) -> Result<MediaDownloadedResult, Error> {
        config.validate().map_err(|violation| invalid(&format!("config.{violation}")))?;
        let account = self.account()?;
        let index = usize::try_from(config.message_info_index).unwrap_or(0);
        let (url, name) = source(&mut message.clone(), file_type, index)?;
        let cache = self.cache();
        cache.open().await?;
        let path = cache.path(&url, &name);
        let _turn = downloading(&path).await;
        if tokio::fs::metadata(&path).await.is_err() {
            let number = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
            let on_bytes = |bytes, all| progress(message, number(bytes), number(all));
            account.media().download(Wanted { url: &url, to: &path }, on_bytes).await?;
        }
        let file_local_path = path.to_string_lossy().into_owned();
        let mut result = message.clone();
        if file_type == MediaFileType::OriginalFile {
            let kind = ConversationType::try_from(message.conversation_type).unwrap_or(ConversationType::Unknown);
            // Messages of rooms are stored nowhere, and one that another combines is not held.
            if let Ok(name) = conversation_name(&message.conversation_id, kind) {
                let change = Local::File {
                    name: name.clone(),
                    message: Box::new(message.clone()),
                    index,
                    url: url.clone(),
                    path: file_local_path.clone(),
                };
                account.change_here(change, Some(Vec::new())).await?;
                if let Ok(mut held) = found(&account, &name, message.clone()).await
                    && held.media_part(index).is_some_and(|part| *part.download_url == url)
                {
                    result = held;
                }
            }
            if let Some(part) = result.media_part(index) {
                part.local_path.clone_from(&file_local_path);
            }
        }
        Ok(MediaDownloadedResult { message: Some(result), file_local_path })
    }

    /// Writes bytes to a file in the folder of downloaded files, so that they can be sent: returns its path, for
    /// `fileLocalPath`. Set the name that the receiver sees in `fileName`. [`Zim::clear_local_file_cache`] removes the file; the
    /// message must be sent by then. The reference does not have this method.
    ///
    /// # Errors
    /// 6000240: the file cannot be written.
    pub async fn keep_media_bytes(&self, bytes: impl Into<Vec<u8>> + Send) -> Result<String, Error> {
        let (cache, bytes) = (self.cache(), bytes.into());
        cache.open().await?;
        let path = cache.keep(bytes).await?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Sets the folder for downloaded files (reference: `setCacheConfig`), for all clients of the process. Default: the
    /// folder `media` in the data folder of the client. A relative path begins at the folder in which the process is now.
    pub fn set_cache_config(config: CacheConfig) {
        // Messages keep paths to its files, also when the process changes its folder.
        let absolute = |path: String| std::path::absolute(&path).unwrap_or_else(|_| PathBuf::from(path));
        *CACHE.lock() = (!config.cache_path.is_empty()).then(|| absolute(config.cache_path));
    }

    /// Returns how much space downloaded files take on this device (reference: `queryLocalFileCache`).
    ///
    /// # Errors
    /// 6000240: the folder cannot be read.
    pub async fn query_local_file_cache(&self, config: FileCacheQueryConfig) -> Result<FileCacheQueriedResult, Error> {
        config.validate().map_err(|violation| invalid(&format!("config.{violation}")))?;
        self.account()?;
        let size = self.cache().size(config.end_time).await?;
        Ok(FileCacheQueriedResult { total_file_size: i64::try_from(size).unwrap_or(i64::MAX) })
    }

    /// Removes downloaded files from this device (reference: `clearLocalFileCache`). Messages no longer have their
    /// `fileLocalPath`. Files that the user sent stay: they are the user's own.
    ///
    /// # Errors
    /// 6000240: the folder cannot be cleared.
    pub async fn clear_local_file_cache(&self, config: FileCacheClearConfig) -> Result<(), Error> {
        config.validate().map_err(|violation| invalid(&format!("config.{violation}")))?;
        let account = self.account()?;
        let removed = self.cache().clear(config.end_time).await?;
        let paths = removed.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        account.change_here(Local::NoFiles(paths), Some(Vec::new())).await
    }

    fn cache(&self) -> Cache {
        let set = CACHE.lock().clone();
        let own = || self.client().config.folder().map(|folder| folder.join("media"));
        set.or_else(own).map_or_else(Cache::temporary, Cache)
    }
}

/// Returns the URL of a file of a message, and its name.
fn source(message: &mut Message, file_type: MediaFileType, index: usize) -> Result<(String, String), Error> {
    let missing = || {
        let text = "the message has no such file, or no URL for it";
        Error::new(ErrorCode::MessageModuleFileDownloadUrlNotFound, text)
    };
    let part = message.media_part(index).ok_or_else(missing)?;
    let url = match file_type {
        MediaFileType::OriginalFile => Some(part.download_url.clone()),
        MediaFileType::LargeImage => part.picture.map(|picture| picture.large.0.clone()),
        MediaFileType::Thumbnail => part.picture.map(|picture| picture.thumbnail.0.clone()),
        MediaFileType::VideoFirstFrame => part.first_frame.map(|(url, ..)| url.clone()),
        _ => None,
    };
    let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
    // Small versions are pictures whatever the original's name says.
    let name = if file_type == MediaFileType::OriginalFile { part.name.clone() } else { String::new() };
    Ok((url.filter(is_web).ok_or_else(missing)?, name))
}
