//! Uploading the files of a message, which is then sent like any other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use zim_protocol::clock::Clock;
use zim_protocol::media::MediaPart;
use zim_protocol::{
    CreateMediaUploadRequest, ErrorCode, Message, MessageSendConfig, MessageType, SendMessageRequest, message::Body,
};

use super::input::Done;
use super::remote::Remote;
use super::task::AccountTask;
use crate::apply::Settle;
use crate::error::Error;
use crate::media::{Failed, Http, LocalFile, Turn, changed, content};
use crate::outbox::{OnProgress, Outgoing, Place, Reply, is_network};
use crate::types::{Key, Name};

/// The pause before an upload goes on after a failure.
const PAUSE_MS: i64 = 1_000;
/// How often an upload begins again because the server got other bytes. What others do with the upload does not count.
const RESTARTS: usize = 3;
/// An upload of an earlier login goes on if it is not older than this: the server keeps what it has for a day.
const MAX_AGE_MS: i64 = 86_400_000;

/// A message whose files are being uploaded.
#[derive(Debug)]
pub(super) struct Uploading {
    /// Its number: a message that is sent again has another upload, and the one before may still be ending.
    number: u64,
    name: Name,
    config: MessageSendConfig,
    message: Message,
    reply: Reply,
    place: Option<Place>,
    /// A message to a room is stored nowhere.
    is_stored: bool,
    is_again: bool,
    may_be_stored: bool,
    cancelled: CancellationToken,
}

/// A message that is about to be sent, whose files must be uploaded first.
pub(super) struct ToUpload {
    pub(super) key: Key,
    pub(super) name: Name,
    pub(super) content: Bytes,
    pub(super) config: MessageSendConfig,
    pub(super) message: Message,
    pub(super) reply: Reply,
    pub(super) place: Option<Place>,
    pub(super) is_stored: bool,
    /// The server no longer had the files that were uploaded before.
    pub(super) is_again: bool,
    /// The server may have the message already, from another attempt.
    pub(super) may_be_stored: bool,
    pub(super) progress: OnProgress,
}

impl<L: Remote> AccountTask<L> {
    /// Begins to upload the files of a message, if it has any. Returns it otherwise.
    pub(super) fn upload(&mut self, message: ToUpload) -> Option<ToUpload> {
        if message.message.r#type == MessageType::Combine as i32 {
            return Some(ToUpload { content: content::for_server(&message.content), ..message });
        }
        if !content::is_media(message.message.r#type) {
            return Some(message);
        }
        let mut decoded = Message::decode(message.content.clone()).unwrap_or_default();
        if !content::needs_upload(&mut decoded) {
            return Some(ToUpload { content: content::for_server(&message.content), ..message });
        }
        let ToUpload {
            key,
            name,
            content: _,
            config,
            message,
            reply,
            mut place,
            is_stored,
            is_again,
            may_be_stored,
            progress,
        } = message;
        if let Some(place) = &mut place {
            place.wait_for_files();
        }
        let cancelled = CancellationToken::new();
        self.last_upload += 1;
        let number = self.last_upload;
        let work = Work {
            remote: self.remote.clone(),
            http: Arc::clone(&self.media),
            clock: self.clock.clone(),
            window_ms: self.resend_window_ms,
            may_fail: config.is_allow_multiple_message_partial_failed,
            progress: Arc::new(Mutex::new(Progress { message: message.clone(), on: progress, of_parts: Vec::new() })),
            cancelled: cancelled.clone(),
        };
        let upload =
            Uploading { number, name, config, message, reply, place, is_stored, is_again, may_be_stored, cancelled };
        self.uploads.insert(key, upload);
        self.in_flight.push(Box::pin(async move {
            let result = work.run(decoded).await;
            Done::Uploaded { key, number, result }
        }));
        None
    }

    /// Goes on with an upload of an earlier login. Returns false if it is too old.
    pub(super) fn resume_upload(&mut self, message: ToUpload, age_ms: i64) -> Option<ToUpload> {
        if age_ms > MAX_AGE_MS {
            // It is sent if its files are uploaded, and otherwise refused.
            return Some(ToUpload { content: content::for_server(&message.content), ..message });
        }
        self.upload(message)
    }

    /// An upload has ended. One that was cancelled is no longer that of its message.
    pub(super) fn upload_ended(&mut self, key: Key, number: u64, result: Result<Message, Error>) {
        if self.uploads.get(&key).is_some_and(|upload| upload.number == number) {
            self.uploaded(key, result);
        }
    }

    /// The files of a message are uploaded, or cannot be.
    fn uploaded(&mut self, key: Key, result: Result<Message, Error>) {
        let Some(upload) = self.uploads.remove(&key) else { return };
        let Uploading { name, config, mut message, reply, place, is_stored, is_again, may_be_stored, .. } = upload;
        let is_gone = |error: &Error| error.code() == ErrorCode::MessageModuleFileNotExist;
        let (result, unless_stored) = match result {
            // Without its file, only the message of another attempt can be on the server: it is asked.
            Err(error) if may_be_stored && is_gone(&error) => (Ok(message.clone()), Some(error)),
            result => (result, None),
        };
        let content = result.as_ref().map(|content| Bytes::from(content.encode_to_vec())).unwrap_or_default();
        if let Ok(uploaded) = &result {
            message.body.clone_from(&uploaded.body);
        }
        let request = content::for_server(&content);
        let outgoing = Outgoing {
            is_barrage: false,
            key,
            request: super::sending::request(&name, key, &request, config),
            name: name.clone(),
            content: request,
            message,
            is_stored,
            is_again: is_again || unless_stored.is_some(),
            unless_stored,
            deadline_ms: self.clock.steady_ms().saturating_add(self.resend_window_ms),
            reply,
            place,
        };
        match result {
            Ok(_) => {
                if is_stored && outgoing.unless_stored.is_none() {
                    self.job.settle.push(Settle::Uploaded { name, key, content });
                }
                self.sends.push(outgoing);
            }
            Err(error) => self.fail(outgoing, error),
        }
    }

    /// The server no longer has a file of a message: uploads the files that are on this device again, once. Returns the
    /// message if that is not possible.
    pub(super) fn upload_again(&mut self, outgoing: Outgoing) -> Option<Outgoing> {
        let mut message = outgoing.message.clone();
        let is_sent = |part: &MediaPart<'_>| !part.local_path.is_empty() && !part.download_url.is_empty();
        let lost: Vec<_> = message.media_parts().into_iter().filter(is_sent).collect();
        if outgoing.is_again || lost.is_empty() {
            return Some(outgoing);
        }
        lost.into_iter().for_each(|part| part.download_url.clear());
        let request = SendMessageRequest::decode(outgoing.request.clone()).unwrap_or_default();
        let Outgoing { key, name, reply, place, is_stored, .. } = outgoing;
        self.upload(ToUpload {
            key,
            name,
            content: message.encode_to_vec().into(),
            config: request.config.unwrap_or_default(),
            message,
            reply,
            place,
            is_stored,
            is_again: true,
            may_be_stored: false,
            progress: OnProgress::default(),
        });
        None
    }

    /// Ends the upload of a message, which fails. Returns false if nothing of this message is being uploaded.
    pub(super) fn cancel_upload(&mut self, key: &Key) -> bool {
        let Some(upload) = self.uploads.get(key) else { return false };
        upload.cancelled.cancel();
        let message = "the sending of the message was cancelled";
        self.uploaded(*key, Err(Error::new(ErrorCode::MessageModuleSendMessageFailedForCancelled, message)));
        true
    }

    /// The app has deleted a message that is being sent: it is not sent, unless it is on its way already.
    pub(super) fn withdraw(&mut self, message: &Message) {
        let Some(key) = zim_protocol::id::from_hex::<16>(&message.local_message_id) else { return };
        let error = || {
            Error::new(
                ErrorCode::MessageModuleSendMessageFailedForCancelled,
                "the message was deleted before it was sent",
            )
        };
        if let Some(upload) = self.uploads.remove(&key) {
            upload.cancelled.cancel();
            upload.reply.send(Err(error()));
        } else if let Some(outgoing) = self.sends.withdraw(&key) {
            outgoing.reply.send(Err(error()));
        }
    }

    /// The login ends: uploads end as well, and their messages fail unless the next login goes on with them.
    pub(super) fn end_uploads(&mut self, error: &Error) {
        for (key, upload) in std::mem::take(&mut self.uploads) {
            if self.keeps_unsent && upload.is_stored {
                upload.reply.send(Err(error.clone()));
            } else {
                self.uploads.insert(key, upload);
                self.uploaded(key, Err(error.clone()));
            }
        }
    }

    /// Adds a caller who waits for a message whose files are being uploaded, or returns it if there is no such message.
    pub(super) fn join_upload(
        &mut self,
        key: &Key,
        reply: oneshot::Sender<crate::outbox::SendResult>,
    ) -> Result<(), oneshot::Sender<crate::outbox::SendResult>> {
        match self.uploads.get_mut(key) {
            Some(upload) => {
                upload.reply.join(reply);
                Ok(())
            }
            None => Err(reply),
        }
    }
}

/// What the app is told of the progress.
struct Progress {
    message: Message,
    on: OnProgress,
    /// How many bytes of each part have moved, and its size.
    of_parts: Vec<(Option<usize>, u64, u64)>,
}

impl Progress {
    /// Notes the progress of a part, and tells the app if it has advanced.
    fn note(&mut self, part: usize, bytes: u64) {
        let Some((index, moved, size)) = self.of_parts.get_mut(part) else { return };
        // A file that grows meanwhile is refused later. After a break some bytes are sent again.
        let bytes = bytes.min(*size);
        if bytes <= *moved {
            return;
        }
        *moved = bytes;
        let (index, size) = (*index, *size);
        let sum = |of: fn(&(Option<usize>, u64, u64)) -> u64| self.of_parts.iter().map(of).sum::<u64>();
        let (all_moved, all) = (sum(|part| part.1), sum(|part| part.2));
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (message, on) = (&self.message, &mut self.on);
        let told = catch_unwind(AssertUnwindSafe(|| match (index, &mut on.of_one, &mut on.of_parts) {
            (None, Some(on), _) => on(message, number(bytes), number(size)),
            (Some(index), _, Some(on)) => {
                let index = i64::try_from(index).unwrap_or(i64::MAX);
                on(message, number(all_moved), number(all), index, number(bytes), number(size));
            }
            _ => {}
        }));
        if told.is_err() {
            tracing::error!("a callback of the app about the progress of an upload panicked");
        }
    }
}

/// Uploads the files of one message.
struct Work<L: Remote> {
    remote: L,
    http: Arc<Http>,
    clock: Clock,
    /// How long an upload may make no progress.
    window_ms: i64,
    /// Parts may fail if others do not.
    may_fail: bool,
    progress: Arc<Mutex<Progress>>,
    cancelled: CancellationToken,
}

impl<L: Remote> Work<L> {
    /// Returns the message with the URLs of its files.
    async fn run(self, mut message: Message) -> Result<Message, Error> {
        // Waits for its turn.
        let _permit = Arc::clone(&self.http.uploads).acquire_owned().await.ok();
        let files = self.read(&mut message).await;
        let sizes = files.iter().map(|(index, file)| (*index, 0, file.as_ref().map_or(0, |file| file.size)));
        self.progress.lock().of_parts = sizes.collect();
        let (mut failed, mut first_error) = (Vec::new(), None);
        for (number, (index, file)) in files.into_iter().enumerate() {
            let uploaded = match file {
                Ok(file) => self.one(number, &file, &mut message, index).await,
                Err(error) => Err(error),
            };
            if let Err(error) = uploaded {
                failed.extend(index.and_then(|index| i64::try_from(index).ok()));
                first_error.get_or_insert(error);
                if !self.may_fail || self.cancelled.is_cancelled() {
                    break;
                }
            }
        }
        let Some(error) = first_error else { return Ok(message) };
        match &mut message.body {
            Some(Body::Multiple(multiple)) if self.may_fail && failed.len() < multiple.message_info_list.len() => {
                multiple.failed_index_list = failed;
                Ok(message)
            }
            _ => Err(error),
        }
    }

    /// Reads the files of the parts that have no URL.
    async fn read(&self, message: &mut Message) -> Vec<(Option<usize>, Result<LocalFile, Error>)> {
        let parts: Vec<_> = message
            .media_parts()
            .into_iter()
            .filter(|part| part.download_url.is_empty())
            .map(|part| (part.index, part.local_path.clone(), part.kind))
            .collect();
        let mut files = Vec::with_capacity(parts.len());
        for (index, path, kind) in parts {
            files.push((index, self.http.read(path, kind).await));
        }
        files
    }

    /// Uploads one file, and fills in its part.
    async fn one(
        &self,
        number: usize,
        file: &LocalFile,
        message: &mut Message,
        index: Option<usize>,
    ) -> Result<(), Error> {
        let lost = || Error::new(ErrorCode::MessageModuleFileError, "the message has no such part");
        let part = message.media_parts().into_iter().find(|part| part.index == index).ok_or_else(lost)?;
        let name = if part.name.is_empty() { file.name.clone() } else { part.name.clone() };
        let (kind, size) = (part.kind, i64::try_from(file.size).unwrap_or(i64::MAX));
        let url = self.until_done(number, file, (kind, &name)).await?;
        let MediaPart { download_url, name: of_part, size: of_size, .. } = part;
        (*download_url, *of_part, *of_size) = (url, name, size);
        Ok(())
    }

    /// Uploads a file, with pauses after failures, until it is there or there was no progress for too long.
    async fn until_done(
        &self,
        number: usize,
        file: &LocalFile,
        (kind, name): (MessageType, &str),
    ) -> Result<String, Error> {
        let cancelled = || {
            let message = "the sending of the message was cancelled";
            Error::new(ErrorCode::MessageModuleSendMessageFailedForCancelled, message)
        };
        // Of messages with the same file one uploads it, and the others find it then.
        let turn = tokio::select! {
            turn = self.http.uploading(file, kind) => turn,
            () = self.cancelled.cancelled() => return Err(cancelled()),
        };
        let moved = || self.progress.lock().of_parts.get(number).map_or(0, |part| part.1);
        let (mut best, mut since_ms, mut restarts) = (moved(), self.clock.steady_ms(), 0);
        loop {
            let error = match self.attempt(number, file, (kind, name), &turn).await {
                Ok(url) => return Ok(url),
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Restart(error)) => {
                    if !file.is_unchanged().await {
                        return Err(changed(&file.path));
                    }
                    restarts += 1;
                    if restarts > RESTARTS {
                        return Err(error);
                    }
                    error
                }
                Err(Failed::Later(error)) => error,
            };
            if moved() > best {
                (best, since_ms) = (moved(), self.clock.steady_ms());
            }
            if self.clock.steady_ms() - since_ms >= self.window_ms {
                return Err(error);
            }
            let pause = self.clock.sleep_until_steady(self.clock.steady_ms() + PAUSE_MS);
            tokio::select! {
                () = pause => {}
                () = self.cancelled.cancelled() => return Err(error),
            }
        }
    }

    async fn attempt(
        &self,
        number: usize,
        file: &LocalFile,
        (kind, name): (MessageType, &str),
        turn: &Turn,
    ) -> Result<String, Failed> {
        let request = CreateMediaUploadRequest {
            r#type: kind as i32,
            file_name: name.to_owned(),
            file_size: i64::try_from(file.size).unwrap_or(i64::MAX),
            sha256: Bytes::copy_from_slice(&file.sha256),
            host: self.http.host.clone(),
        };
        let created = match self.remote.request(None, request).await {
            Ok((created, _)) => created,
            Err(error) if is_network(&error) || error.is_retryable() => return Err(Failed::Later(error)),
            Err(error) => return Err(Failed::Finally(error)),
        };
        if !created.upload_url.is_empty() {
            let progress = Arc::clone(&self.progress);
            let size = file.size;
            // The last byte counts when the server has accepted the file.
            let on_bytes = Arc::new(move |bytes: u64| {
                if bytes < size {
                    progress.lock().note(number, bytes);
                }
            });
            tokio::select! {
                uploaded = self.http.upload(&created.upload_url, file, on_bytes) => uploaded?,
                () = self.cancelled.cancelled() => {
                    // Another message may go on with it.
                    if !turn.is_wanted() {
                        self.http.end_upload(&created.upload_url).await;
                    }
                    let message = "the sending of the message was cancelled";
                    let error = Error::new(ErrorCode::MessageModuleSendMessageFailedForCancelled, message);
                    return Err(Failed::Finally(error));
                }
            }
        }
        self.progress.lock().note(number, file.size);
        Ok(created.file_download_url)
    }
}
