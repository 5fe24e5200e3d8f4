//! The files in a folder.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::Version;
use super::content::{Content, FORMAT_BYTES};

/// A folder of files.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns where the folder is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, id: i64, version: Version) -> PathBuf {
        self.root.join(super::place(id, version))
    }

    pub(super) async fn received(&self, id: i64) -> io::Result<u64> {
        match tokio::fs::metadata(self.path(id, Version::Original)).await {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn open(&self, id: i64, version: Version) -> io::Result<Option<Content>> {
        let mut file = match tokio::fs::File::open(self.path(id, version)).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.metadata().await?.len();
        let mut first = Vec::new();
        (&mut file).take(FORMAT_BYTES).read_to_end(&mut first).await?;
        file.rewind().await?;
        Ok(Some(Content::of_file(file, size, first.into())))
    }

    pub(super) async fn put(&self, id: i64, version: Version, bytes: Vec<u8>) -> io::Result<()> {
        let path = self.path(id, version);
        // The row says that it is complete: no power cut may leave half of it.
        let written = tokio::task::spawn_blocking(move || zim_files::write(&path, &bytes));
        written.await.map_err(io::Error::other)?
    }

    pub(super) async fn remove(&self, id: i64) -> io::Result<()> {
        for version in Version::ALL {
            match tokio::fs::remove_file(self.path(id, version)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
