//! A copy of an object on the disk of this server, for a program that reads files only.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use tokio::io::AsyncWriteExt;

use super::Bucket;
use crate::media::{COPY, Version};

/// A copy of an object. It is removed when it is dropped.
#[derive(Debug)]
pub(in crate::media) struct Fetched(PathBuf);

impl Fetched {
    /// Returns where it is.
    pub(in crate::media) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // It fails if there is none yet. A copy that stays is removed at the next start.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Bucket {
    /// Copies a file into a folder. Nobody else copies the same file: whoever does completes its upload.
    pub(in crate::media) async fn fetch(&self, id: i64, folder: &Path) -> io::Result<Fetched> {
        let (copy, folder) = (Fetched(folder.join(format!("{id}{COPY}"))), folder.to_owned());
        let path = copy.0.clone();
        let created = tokio::task::spawn_blocking(move || {
            zim_files::create_folder(&folder)?;
            zim_files::open(&path, OpenOptions::new().write(true).create(true).truncate(true))
        });
        let mut file = tokio::fs::File::from_std(created.await.map_err(io::Error::other)??);
        let path = self.path(id, Version::Original);
        let mut pieces = self.get_all(&path).await?;
        while let Some(piece) = pieces.try_next().await? {
            file.write_all(&piece).await?;
        }
        file.flush().await?;
        Ok(copy)
    }
}
