//! The files of media messages: who uploads what, which messages have it, and how long it is kept. `net/https` moves the bytes.

mod complete;
mod log;
mod rules;
mod space;
mod store;
mod sweep;
mod task;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use zim_protocol::media::MediaFormat;
use zim_protocol::{
    CreateLogUploadRequest, CreateMediaUploadRequest, ErrorCode, LogUploadCreatedResult, MediaUploadCreatedResult,
    MessageType, server::MediaService,
};

pub(crate) use self::log::LOG;
pub(crate) use self::store::{File, drop_refs, erase_files, files_of};
pub(crate) use self::sweep::{ORPHAN_REMOVAL, ORPHANS, put_off_orphans};
pub(crate) use self::task::{FILE_REMOVAL, MEDIA_EXPIRED, MEDIA_UNUSED, PIECE_REMOVAL};
use crate::app::App;
use crate::config::PublicListen;
use crate::connection::Caller;
use crate::db::Scope;
use crate::error::Error;
use crate::media::{PictureError, Version, Versions, Writing};

/// How long an announcement waits for the store.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// Bytes of the secrets in URLs.
const SECRET_BYTES: usize = 16;

impl MediaService for App {
    async fn create_media_upload(
        &self,
        caller: &Caller,
        request: CreateMediaUploadRequest,
    ) -> Result<MediaUploadCreatedResult, Error> {
        let kind = rules::check(request.r#type(), request.file_size, &self.config.limits)?;
        let (name, file) = (rules::name(&request.file_name), (request.file_size, request.sha256));
        let file = self.announce(caller, (kind as i32, name), file, &request.host).await?;
        let upload_url = if file.is_complete { String::new() } else { file.upload_url() };
        Ok(MediaUploadCreatedResult { upload_url, file_download_url: file.url() })
    }

    async fn create_log_upload(
        &self,
        caller: &Caller,
        request: CreateLogUploadRequest,
    ) -> Result<LogUploadCreatedResult, Error> {
        self.announce_log(caller, request).await
    }
}

fn secret() -> Result<String, Error> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(Error::internal)?;
    Ok(zim_protocol::id::hex(&bytes))
}

impl App {
    /// Adds a file that the caller is about to upload, or returns the one with the same content.
    async fn announce(
        &self,
        caller: &Caller,
        (kind, name): (i32, String),
        (size, hash): (i64, Bytes),
        host: &str,
    ) -> Result<File, Error> {
        let identity = caller.identity()?;
        let PublicListen::Tcp(address) = self.config.https else { return Err(Error::files_off()) };
        let base = match self.config.media.public_url.as_str() {
            "" => rules::base(host, address.port())?,
            url => url.to_owned(),
        };
        let new = store::New {
            id: self.ids.next(),
            app: identity.app,
            user: identity.user,
            secret: secret()?,
            token: secret()?,
            base,
            kind,
            name,
            size,
            hash,
            now: self.clock.now_ms(),
        };
        let create = async |new: store::New, is_lost: bool| {
            let (settings, started_at) = (self.config.media.clone(), self.started_at);
            let scope = space::announcing(identity.app, identity.user, &settings);
            let created = caller.write(&self.db, scope, async move |tx, _| {
                store::create(tx, new, is_lost, (&settings, started_at)).await
            });
            created.await.and_then(|file| file.ok_or_else(|| Error::file_quota_used_up("this app")))
        };
        let file = create(new.clone(), false).await?;
        if !file.is_complete || !self.has_lost(file.id).await {
            return Ok(file);
        }
        tracing::warn!(
            id = file.id,
            "the bytes of a file are not there; the client uploads them again, as another file"
        );
        create(new, true).await
    }

    /// Whether the bytes of a complete file are not there. If the store does not answer soon, they are taken to be.
    async fn has_lost(&self, id: i64) -> bool {
        matches!(timeout(LOOK_WITHIN, self.files.open_file(id, Version::Original)).await, Ok(Ok(None)))
    }

    /// Returns the upload with this token.
    pub(crate) async fn upload(&self, token: &str) -> Result<Option<File>, Error> {
        let token = token.to_owned();
        self.db.read(async move |tx| store::by(tx, "token", &token).await).await
    }

    /// Returns the complete file with this secret in its URL.
    pub(crate) async fn file(&self, secret: &str) -> Result<Option<File>, Error> {
        let secret = secret.to_owned();
        let found = self.db.read(async move |tx| store::by(tx, "secret", &secret).await).await?;
        Ok(found.filter(|file| file.is_complete && file.kind != log::LOG))
    }

    /// Completes an upload whose bytes have all arrived: checks what they are, and makes the small versions of a picture.
    ///
    /// # Errors
    /// The file is not what was announced. If its bytes are other ones, the client may begin again; otherwise the upload ends.
    pub(crate) async fn complete_upload(&self, file: &File, writing: &Writing) -> Result<(), Error> {
        let found = self.examine(file, writing).await;
        match &found {
            Err(error) if error.code() == ErrorCode::MessageModuleFileVerificationError => {
                writing.truncate(0).await.map_err(Error::file_store_failed)?;
            }
            Err(error) if !error.may_have_effect() => drop(self.end_upload(file).await?),
            _ => {}
        }
        let (media_type, versions) = match found {
            // Another node has completed it meanwhile.
            Err(error) if error.may_have_effect() && self.is_complete(file).await? => {
                tracing::debug!(%error, "a file was completed by another node");
                // It removed the pieces that there were then.
                self.files.remove_rest(file.id).await.map_err(Error::file_store_failed)?;
                return Ok(());
            }
            found => found?,
        };
        let (id, user, now, settings) = (file.id, file.user, self.clock.now_ms(), self.config.media.clone());
        let pieces = self.files.has_pieces().then(|| self.ids.next());
        let done = self.db.submit(Scope::user(user).for_app(file.app, 0), async move |tx| {
            store::complete(tx, (id, user, pieces), (media_type, versions), now, &settings).await
        });
        done.await
    }

    async fn is_complete(&self, file: &File) -> Result<bool, Error> {
        Ok(self.upload(&file.token).await?.is_some_and(|file| file.is_complete))
    }

    async fn examine(&self, file: &File, writing: &Writing) -> Result<(&'static str, Versions), Error> {
        let finished = writing.finish(file.size.unsigned_abs(), file.hash.clone()).await;
        let head = finished.map_err(Error::file_store_failed)?.ok_or_else(Error::file_verification_failed)?;
        let format = MediaFormat::detect(&head);
        let kind = MessageType::try_from(file.kind).unwrap_or(MessageType::File);
        if kind == MessageType::File {
            return Ok((format.map_or("", MediaFormat::media_type), Versions::default()));
        }
        let format = format.filter(|format| format.fits(kind)).ok_or_else(Error::file_type_unsupported)?;
        let mut versions = Versions::default();
        // No library in Rust alone reads HEIF, and the memory that a TIFF takes does not follow from its number of pixels: such
        // pictures have no small versions.
        let has_versions = !matches!(format, MediaFormat::Heif | MediaFormat::Tiff);
        if kind == MessageType::Video {
            let frame = self.files.make_first_frame(file.id, self.config.limits.max_image_pixels).await;
            versions.large = frame.unwrap_or_default();
        }
        if kind == MessageType::Image && has_versions {
            let max_pixels = self.config.limits.max_image_pixels;
            versions = self.files.make_versions(file.id, max_pixels).await.map_err(|error| match error {
                PictureError::Unreadable => Error::file_type_unsupported(),
                PictureError::TooManyPixels => Error::too_many_pixels(max_pixels),
                PictureError::Io(error) => Error::file_store_failed(error),
            })?;
        }
        Ok((format.media_type(), versions))
    }

    /// Ends an upload that was not completed. Returns false if it was completed.
    pub(crate) async fn end_upload(&self, file: &File) -> Result<bool, Error> {
        let (id, user, now) = (file.id, file.user, self.clock.now_ms());
        let ended = self
            .db
            .submit(Scope::user(user).for_app(file.app, 0), async move |tx| store::end(tx, (id, user), now).await);
        ended.await
    }
}
