//! The files of messages: what is on this device, and how it travels over HTTPS.

/// What is in messages about files.
pub(crate) mod content;
/// Files on this device that are about to be sent.
mod file;
/// Messages go before the bytes of files.
mod first;
/// The hosts that a geofence keeps a client away from.
mod fenced;
/// Uploads and downloads.
mod http;
/// Downloaded files on this device.
mod cache;
/// Who uploads or downloads what.
mod turns;

pub(crate) use self::cache::Cache;
pub(crate) use self::file::{LocalFile, changed};
pub(crate) use self::first::Passing;
pub(crate) use self::http::{Failed, Http, Wanted, downloading};
pub(crate) use self::turns::Turn;
