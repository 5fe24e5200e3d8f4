//! Completes the files of a message that is about to be sent, by what is known of them.

use std::collections::HashMap;

use zim_protocol::media::MediaPart;
use zim_protocol::message::Body;
use zim_protocol::{Message, MessageType};

use super::{rules, store};
use crate::app::App;
use crate::config::PublicListen;
use crate::connection::Identity;
use crate::error::Error;
use crate::media::Version;
use crate::service::media::File;

impl App {
    /// Fills in what the server knows of the files of a message. Returns the IDs of those that this server has.
    ///
    /// # Errors
    /// A file has no URL, or is of another type than the message; or this server does not have it, although the URL is one
    /// of this server.
    pub(crate) async fn complete_media(&self, identity: &Identity, message: &mut Message) -> Result<Vec<i64>, Error> {
        let (mut parts, mut combined) = (Vec::new(), Vec::new());
        if matches!(message.body, Some(Body::Combine(_))) {
            collect(message, &mut combined);
        } else {
            parts = message.media_parts();
        }
        if parts.is_empty() && combined.is_empty() {
            return Ok(Vec::new());
        }
        let secrets = parts.iter().chain(&combined).filter_map(|part| rules::secret_of(part.download_url));
        let secrets: Vec<String> = secrets.map(str::to_owned).collect();
        let mut found = HashMap::new();
        if !secrets.is_empty() {
            let app = identity.app;
            found = self.db.read(async move |tx| store::files(tx, app, &secrets).await).await?;
        }
        let mut ids = Vec::new();
        for part in &mut parts {
            // It says where the file is on the sender's device.
            part.local_path.clear();
            check_duration(part, self.config.limits.max_audio_s)?;
            if part.download_url.is_empty() {
                return Err(Error::params_invalid(
                    "a media message has neither a fileDownloadUrl nor an uploaded file",
                ));
            }
            match rules::secret_of(part.download_url).map(|secret| found.get(secret)) {
                Some(Some(file)) => {
                    if file.kind != part.kind as i32 {
                        return Err(Error::file_type_unsupported());
                    }
                    fill(part, file);
                    ids.push(file.id);
                }
                Some(None) if self.is_own_url(part.download_url) => return Err(Error::file_not_found()),
                // What the app says about a file elsewhere is passed through.
                _ => {
                    rules::check_url(part.download_url)?;
                    other_urls(part)
                        .into_iter()
                        .filter(|url| !url.is_empty())
                        .try_for_each(|url| rules::check_url(url))?;
                    *part.name = rules::name(part.name);
                }
            }
        }
        for part in &mut combined {
            part.local_path.clear();
            other_urls(part).into_iter().for_each(clear_unless_checked);
            clear_unless_checked(part.download_url);
            // A message is combined as it is: a file that was removed is missing there as well.
            let file = rules::secret_of(part.download_url).and_then(|secret| found.get(secret));
            if let Some(file) = file.filter(|file| file.kind == part.kind as i32) {
                fill(part, file);
                ids.push(file.id);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Whether a URL is one of this server.
    fn is_own_url(&self, url: &str) -> bool {
        let PublicListen::Tcp(address) = self.config.https else { return false };
        rules::is_own(url, &self.config.media.public_url, address.port())
    }
}

/// Adds the files of a message that is combined, and of all that it combines itself.
fn collect<'a>(message: &'a mut Message, parts: &mut Vec<MediaPart<'a>>) {
    if matches!(message.body, Some(Body::Combine(_))) {
        if let Some(Body::Combine(combine)) = &mut message.body {
            combine.message_list.iter_mut().for_each(|item| collect(item, parts));
        }
    } else {
        parts.extend(message.media_parts());
    }
}

/// The URLs of a part besides that of the file itself.
fn other_urls<'p>(part: &'p mut MediaPart<'_>) -> Vec<&'p mut String> {
    let picture = part.picture.as_mut().map(|picture| [&mut *picture.large.0, &mut *picture.thumbnail.0]);
    let frame = part.first_frame.as_mut().map(|(url, ..)| &mut **url);
    picture.into_iter().flatten().chain(frame).collect()
}

/// Apps open URLs: none that is not one of HTTP reaches them.
fn clear_unless_checked(url: &mut String) {
    if rules::check_url(url).is_err() {
        url.clear();
    }
}

fn check_duration(part: &MediaPart<'_>, max_audio_s: u32) -> Result<(), Error> {
    let Some(duration) = part.duration.as_deref().copied() else { return Ok(()) };
    let most = if part.kind == MessageType::Audio { max_audio_s } else { u32::MAX };
    if (0..=i64::from(most)).contains(&duration) {
        return Ok(());
    }
    Err(Error::file_duration_invalid(duration, most))
}

/// Fills in what is known of a file. The app may give it another name.
fn fill(part: &mut MediaPart<'_>, file: &File) {
    *part.download_url = file.url();
    *part.size = file.size;
    let name = rules::name(part.name);
    *part.name = if name.is_empty() { file.name.clone() } else { name };
    if let Some(uid) = &mut part.uid {
        uid.clone_from(&file.secret);
    }
    let versions = file.versions;
    let sides = |(width, height): (u32, u32)| (i64::from(width), i64::from(height));
    let (original, large, thumbnail) = (sides(versions.original), sides(versions.large), sides(versions.thumbnail));
    if let Some((url, width, height)) = &mut part.first_frame {
        if large.0 > 0 {
            **url = file.url_of(Version::Large);
            (**width, **height) = large;
        } else {
            // The app may have one elsewhere.
            clear_unless_checked(url);
        }
    }
    let Some(picture) = &mut part.picture else { return };
    (*picture.original.0, *picture.original.1) = original;
    let url = |version, sides: (i64, i64)| if sides.0 > 0 { file.url_of(version) } else { String::new() };
    *picture.large.0 = url(Version::Large, large);
    (*picture.large.1, *picture.large.2) = large;
    *picture.thumbnail.0 = url(Version::Thumbnail, thumbnail);
    (*picture.thumbnail.1, *picture.thumbnail.2) = thumbnail;
}
