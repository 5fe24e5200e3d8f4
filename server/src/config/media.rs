//! The files of messages: where they are, how clients reach them, and how long they are kept.

use serde::{Deserialize, Serialize};

use super::media_store::MediaStore;

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
        }
    }
}

impl Media {
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
        if self.kept_days > 36_500 {
            wrong.push(format!("media.kept_days is {}; at most 36500 are allowed", self.kept_days));
        }
        let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
        if self.max_user_bytes > most || self.max_app_bytes > most {
            wrong.push("media.max_user_bytes and media.max_app_bytes are limited to 9223372036854775807".to_owned());
        }
        wrong
    }
}
