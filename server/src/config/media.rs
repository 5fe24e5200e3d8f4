//! The files of messages: where they are, how clients reach them, and how long they are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::media_store::MediaStore;
use crate::media::Options;

/// The files of messages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// The folder for the files, or a bucket of an object store that speaks S3:
    /// `s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION&credentials=FILE`. Several servers on one database need one place
    /// that all of them share. Default: `media` in the data folder.
    pub store: MediaStore,
    /// Seconds for which a client can use the URL of the object store to which a download is redirected, 60 to 86,400; 0: the server
    /// sends the files itself. Default: 0, because many object stores cannot be reached by clients.
    pub redirect_s: u32,
    /// How clients reach the HTTPS listener, such as `https://chat.example`: the URLs of files begin with it, and they stay in
    /// messages for good. Default: none; a URL then has the host that the uploading client connects to.
    pub public_url: String,
    /// Bytes of the files of one user; 0: no limit. A file counts as at least 4 KB. Default: 10 GiB.
    pub max_user_bytes: u64,
    /// Bytes of the files of one app; 0: no limit. Default: no limit.
    pub max_app_bytes: u64,
    /// Seconds after which an upload that was not completed is removed. Default: a day.
    pub upload_valid_s: u32,
    /// Seconds for which a file is kept that no message has: it was just uploaded, or its messages were revoked. Default: a day.
    pub unused_kept_s: u32,
    /// Days after which a file is removed although messages have it, from when it was announced or sent last; 0: never.
    /// Default: 0.
    pub kept_days: u32,
    /// Days for which the log that a client has uploaded is kept. Default: 14.
    pub logs_kept_days: u32,
    /// The most pieces of an upload in an object store, 1,000 to 10,000: each is an object. An upload with more begins again.
    /// Default: 10,000.
    pub max_pieces: u32,
    /// Days after which what is in the store is removed if no row of the database knows it; 0: never. Default: 7.
    pub orphans_kept_days: u32,
    /// The program that makes the first frames of films: the absolute path of ffmpeg. It runs for each film that is uploaded, as the
    /// user of the server, with limits. Default: none; films have no first frames then.
    pub video_frame_program: PathBuf,
    /// Seconds that it has for a film, 1 to 30. Default: 10.
    pub video_frame_s: u32,
    /// Milliseconds after which an object store that does not work is tried again: five seconds. No setting; tests do not wait so long.
    #[serde(skip)]
    pub recheck_ms: u32,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            store: MediaStore::default(),
            redirect_s: 0,
            public_url: String::new(),
            max_user_bytes: 10 << 30,
            max_app_bytes: 0,
            upload_valid_s: 86_400,
            unused_kept_s: 86_400,
            kept_days: 0,
            logs_kept_days: 14,
            max_pieces: 10_000,
            orphans_kept_days: 7,
            video_frame_program: PathBuf::new(),
            video_frame_s: 10,
            recheck_ms: 5_000,
        }
    }
}

impl Media {
    /// Returns how files are kept.
    pub(crate) fn options(&self, data_dir: &Path) -> Options<'_> {
        let program = Some(&self.video_frame_program).filter(|program| !program.as_os_str().is_empty());
        Options {
            location: self.store.location(data_dir),
            max_pieces: self.max_pieces,
            frames: program.map(|program| (program.clone(), Duration::from_secs(self.video_frame_s.into()))),
            films: data_dir.join("films"),
            recheck: Duration::from_millis(self.recheck_ms.into()),
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self.store.problem().into_iter().collect();
        if self.redirect_s != 0 && !(60..=86_400).contains(&self.redirect_s) {
            wrong.push(format!("media.redirect_s is {}; 60 to 86400 are allowed, or 0", self.redirect_s));
        }
        if self.redirect_s != 0 && self.store.bucket().is_none() {
            wrong.push(
                "media.redirect_s is set, but media.store is a folder: only an object store has URLs of its own"
                    .to_owned(),
            );
        }
        let is_url = self.public_url.strip_prefix("https://").is_some_and(|host| !host.is_empty());
        if !self.public_url.is_empty() && (!is_url || self.public_url.ends_with('/') || self.public_url.len() > 300) {
            wrong.push(format!(
                "media.public_url is {:?}; it must have the form https://HOST or https://HOST:PORT, without a slash at the end",
                self.public_url
            ));
        }
        for (name, value, most) in
            [("upload_valid_s", self.upload_valid_s, 30 * 86_400), ("unused_kept_s", self.unused_kept_s, 366 * 86_400)]
        {
            if !(1..=most).contains(&value) {
                wrong.push(format!("media.{name} is {value}; 1 to {most} are allowed"));
            }
        }
        if !(1..=366).contains(&self.logs_kept_days) {
            wrong.push(format!("media.logs_kept_days is {}; 1 to 366 are allowed", self.logs_kept_days));
        }
        for (name, value) in [("kept_days", self.kept_days), ("orphans_kept_days", self.orphans_kept_days)] {
            if value > 36_500 {
                wrong.push(format!("media.{name} is {value}; at most 36500 are allowed"));
            }
        }
        if !(1_000..=10_000).contains(&self.max_pieces) {
            wrong.push(format!("media.max_pieces is {}; 1000 to 10000 are allowed", self.max_pieces));
        }
        let program = &self.video_frame_program;
        if !program.as_os_str().is_empty() && !program.is_absolute() {
            wrong.push(format!("media.video_frame_program is {}; it must be an absolute path", program.display()));
        }
        if !(1..=30).contains(&self.video_frame_s) {
            wrong.push(format!("media.video_frame_s is {}; 1 to 30 are allowed", self.video_frame_s));
        }
        let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
        if self.max_user_bytes > most || self.max_app_bytes > most {
            wrong.push("media.max_user_bytes and media.max_app_bytes are limited to 9223372036854775807".to_owned());
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_its_bounds() {
        let problems = |edit: fn(&mut Media)| {
            let mut media = Media::default();
            edit(&mut media);
            media.problems()
        };
        assert!(problems(|_| {}).is_empty());
        assert!(problems(|media| media.video_frame_program = "/usr/bin/ffmpeg".into()).is_empty());
        for (wrong, what) in [
            (problems(|media| media.video_frame_program = "ffmpeg".into()), "must be an absolute path"),
            (problems(|media| media.video_frame_s = 0), "1 to 30 are allowed"),
            (problems(|media| media.video_frame_s = 31), "1 to 30 are allowed"),
            (problems(|media| media.max_pieces = 999), "1000 to 10000 are allowed"),
            (problems(|media| media.max_pieces = 10_001), "1000 to 10000 are allowed"),
            (problems(|media| media.orphans_kept_days = 36_501), "media.orphans_kept_days is 36501"),
        ] {
            assert!(wrong.len() == 1 && wrong[0].contains(what), "{wrong:?}");
        }
    }
}
