//! Downloaded files on this device: a folder. A file's name follows from its URL, so it is found again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use zim_protocol::ErrorCode;

use crate::error::Error;

/// The folder of downloaded files.
#[derive(Clone, Debug)]
pub(crate) struct Cache(pub(crate) PathBuf);

impl Cache {
    /// The folder of clients without a data folder, which lasts as long as the process. Nobody can guess its name and create it
    /// first.
    pub(crate) fn temporary() -> Self {
        static NAME: OnceLock<String> = OnceLock::new();
        let name = NAME.get_or_init(|| {
            let mut random = [0; 16];
            // Without random bytes the name is that of another process at worst, whose folder this user cannot open.
            let _ = getrandom::fill(&mut random);
            format!("zim-media-{}-{}", std::process::id(), zim_protocol::id::hex(&random))
        });
        Self(std::env::temp_dir().join(name))
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

/// Whether a file is one that was downloaded, by its name. The app may have chosen a folder with files of the user's.
fn is_downloaded(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (hash, rest) = name.split_at_checked(32).unwrap_or_default();
    let is_extension =
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|end| !end.contains('.') && end.len() <= 8);
    // Parts of downloads that go on are not touched.
    let is_part = rest.ends_with(".part") || rest.ends_with(".tag");
    hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && is_extension && !is_part
}

/// Returns the downloaded files of a folder that were written until a time, with their sizes.
fn files(folder: &Path, until_ms: i64) -> io::Result<Vec<(PathBuf, u64)>> {
    let until = u64::try_from(until_ms).ok().filter(|until| *until > 0);
    // A time that the system does not know is later than all of its own.
    let until = until.and_then(|until| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(until)));
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
        if metadata.is_file() && is_before && is_downloaded(&entry.path()) {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_that_were_not_downloaded_are_neither_counted_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache(folder.path().to_owned());
        let downloaded = cache.path("https://chat.example.com/media/1", "cat.jpg");
        let part = PathBuf::from(format!("{}.part", downloaded.display()));
        let own = [folder.path().join("holiday.jpg"), folder.path().join(format!("{}.tar.gz", "a".repeat(32))), part];
        for path in own.iter().chain([&downloaded]) {
            std::fs::write(path, b"12345").unwrap();
        }
        assert_eq!(cache.size(0).await.unwrap(), 5);
        assert_eq!(cache.clear(0).await.unwrap(), std::slice::from_ref(&downloaded));
        assert!(own.iter().all(|path| path.exists()) && !downloaded.exists());
    }
}
