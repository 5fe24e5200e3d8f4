//! Downloaded files on this device: a folder. A file's name follows from its URL, so it is found again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use zim_protocol::ErrorCode;

use crate::error::Error;

/// The folder of downloaded files.
#[derive(Clone, Debug)]
pub(crate) struct Cache(pub(crate) PathBuf);

impl Cache {
    /// The folder of a client without a data folder.
    pub(crate) fn temporary() -> Self {
        Self(std::env::temp_dir().join(format!("zim-media-{}", std::process::id())))
    }

    /// Returns where the file of a URL is, or will be.
    pub(crate) fn path(&self, url: &str, name: &str) -> PathBuf {
        let hash = Sha256::digest(url);
        let extension: String = Path::new(name)
            .extension()
            .map(|end| end.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).take(8).collect())
            .unwrap_or_default();
        let hash = zim_protocol::id::hex(hash.get(..16).unwrap_or_default());
        self.0.join(if extension.is_empty() { hash } else { format!("{hash}.{extension}") })
    }

    /// Creates the folder.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        let folder = self.0.clone();
        let made = tokio::task::spawn_blocking(move || zim_files::create_folder(&folder));
        made.await.map_err(io::Error::other).flatten().map_err(|error| self.failed("be created", error))
    }

    /// Writes bytes to a file whose name follows from them.
    pub(crate) async fn keep(&self, bytes: Vec<u8>) -> Result<PathBuf, Error> {
        let folder = self.0.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let hash = Sha256::digest(&bytes);
            let path = folder.join(zim_protocol::id::hex(hash.get(..16).unwrap_or_default()));
            zim_files::write(&path, &bytes)?;
            Ok::<_, io::Error>(path)
        });
        kept.await.map_err(io::Error::other).flatten().map_err(|error| self.failed("be written to", error))
    }

    /// Returns the bytes of the files that were downloaded until `until_ms`; 0: of all.
    pub(crate) async fn size(&self, until_ms: i64) -> Result<u64, Error> {
        let cache = self.clone();
        let found = tokio::task::spawn_blocking(move || {
            Ok::<_, io::Error>(files(&cache.0, until_ms)?.into_iter().map(|(_, size)| size).sum())
        });
        found.await.map_err(io::Error::other).flatten().map_err(|error| self.failed("be read", error))
    }

    /// Removes the files that were downloaded until `until_ms`, or all of them for 0. Returns their paths.
    pub(crate) async fn clear(&self, until_ms: i64) -> Result<Vec<PathBuf>, Error> {
        let cache = self.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            let mut removed = Vec::new();
            for (path, _) in files(&cache.0, until_ms)? {
                std::fs::remove_file(&path)?;
                removed.push(path);
            }
            Ok::<_, io::Error>(removed)
        });
        cleared.await.map_err(io::Error::other).flatten().map_err(|error| self.failed("be cleared", error))
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        let message = format!("the folder {} cannot {what}", self.0.display());
        Error::new(ErrorCode::MessageModuleCacheFileOpenFailed, message).with_source(error)
    }
}

/// Returns the files of a folder that were written until a time, with their sizes.
fn files(folder: &Path, until_ms: i64) -> io::Result<Vec<(PathBuf, u64)>> {
    let until = u64::try_from(until_ms).ok().filter(|until| *until > 0);
    let until = until.map(|until| SystemTime::UNIX_EPOCH + Duration::from_millis(until));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let is_before = until.is_none_or(|until| metadata.modified().is_ok_and(|at| at <= until));
        if metadata.is_file() && is_before {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(files)
}
