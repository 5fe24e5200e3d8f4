//! The bytes of files: where they are on the disk, who writes to one, and small versions of pictures. The rows about them
//! belong to `service/media`.

mod picture;
mod refs;
mod writing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

pub(crate) use self::picture::{PictureError, Versions};
pub(crate) use self::refs::{lock, refer};
use self::writing::Turns;
pub(crate) use self::writing::Writing;
use crate::db::{Tx, params};
use crate::effect::{Effect, Queue};
use crate::error::Error;

/// The number of the kind of entries in the outbox that remove a file. The file is removed after the commit that deletes its row.
pub(crate) const REMOVAL: i64 = 70;

/// Pictures that are unpacked at the same time: each takes up to four bytes for each pixel.
const PICTURES_AT_ONCE: usize = 2;
/// The bytes that are read at once to compute a hash.
const HASHED_AT_ONCE: usize = 256 << 10;

/// A version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// As it was uploaded.
    Original,
    /// The large version of a picture.
    Large,
    /// The thumbnail of a picture.
    Thumbnail,
}

impl Version {
    /// All versions.
    pub(crate) const ALL: [Self; 3] = [Self::Original, Self::Large, Self::Thumbnail];

    /// Returns the last part of its URL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Original => "",
            Self::Large => "large",
            Self::Thumbnail => "thumbnail",
        }
    }
}

/// The files of a server.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    turns: Turns,
    pictures: Arc<Semaphore>,
}

impl Files {
    /// The files in this folder.
    pub(crate) fn new(root: PathBuf) -> Arc<Self> {
        Arc::new(Self { root, turns: Turns::default(), pictures: Arc::new(Semaphore::new(PICTURES_AT_ONCE)) })
    }

    /// Returns the path of a file. The files are spread over 256 folders.
    pub(crate) fn path(&self, id: i64, version: Version) -> PathBuf {
        let name = match version {
            Version::Original => id.to_string(),
            _ => format!("{id}.{}", version.name()),
        };
        // The lowest bits of an ID are the number of the node.
        self.root.join(format!("{:02x}", (id >> 6) & 0xff)).join(name)
    }

    /// Returns how many bytes of a file have arrived.
    pub(crate) async fn received(&self, id: i64) -> io::Result<u64> {
        match tokio::fs::metadata(self.path(id, Version::Original)).await {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Opens a file to read it; `None`: there is no such file.
    pub(crate) async fn open(&self, id: i64, version: Version) -> io::Result<Option<(tokio::fs::File, u64)>> {
        match tokio::fs::File::open(self.path(id, version)).await {
            Ok(file) => {
                let size = file.metadata().await?.len();
                Ok(Some((file, size)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the SHA-256 of a file and the bytes that it begins with.
    pub(crate) async fn examine(&self, id: i64) -> io::Result<([u8; 32], Vec<u8>)> {
        let path = self.path(id, Version::Original);
        tokio::task::spawn_blocking(move || examine(&path)).await.map_err(io::Error::other)?
    }

    /// Makes the small versions of a picture.
    pub(crate) async fn make_versions(&self, id: i64, max_pixels: u32) -> Result<Versions, PictureError> {
        let original = self.path(id, Version::Original);
        let (large, thumbnail) = (self.path(id, Version::Large), self.path(id, Version::Thumbnail));
        // Never closed.
        let permit = Arc::clone(&self.pictures).acquire_owned().await.ok();
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            picture::make(&original, (&large, &thumbnail), max_pixels)
        });
        // A decoder that panics has met a file that it cannot read.
        made.await.unwrap_or(Err(PictureError::Unreadable))
    }

    /// Removes a file with its versions.
    pub(crate) async fn remove(&self, id: i64) -> io::Result<()> {
        for version in Version::ALL {
            match tokio::fs::remove_file(self.path(id, version)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn examine(path: &Path) -> io::Result<([u8; 32], Vec<u8>)> {
    use std::io::Read;
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut head) = (Sha256::new(), Vec::new());
    let mut buffer = vec![0; HASHED_AT_ONCE];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if head.is_empty() {
            head = bytes.get(..zim_protocol::media::HEAD_BYTES).unwrap_or(bytes).to_vec();
        }
        hash.update(bytes);
    }
    Ok((hash.finalize().into(), head))
}

/// Deletes the row of a file, and removes the file after the commit.
///
/// # Errors
/// The store fails.
pub(crate) async fn delete(tx: &mut Tx<'_>, id: i64, now: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM media WHERE id = $1", &params![id]).await?;
    let sql = "INSERT INTO outbox (id, kind, cause, cursor, next_at, attempts, last_error) VALUES ($1, $2, $1, 0, $3, 0, '') \
               ON CONFLICT (id) DO NOTHING";
    tx.execute(sql, &params![id, REMOVAL, now]).await?;
    tx.emit(Effect::Due { queue: Queue::Outbox, at: now });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_written_examined_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path().join("media"));
        assert_eq!(files.received(65).await.unwrap(), 0);
        for (at, bytes) in [(0, "one "), (4, "two")] {
            let writing = files.write(65, std::time::Duration::ZERO).await.unwrap().unwrap();
            writing.write(at, bytes.into()).await.unwrap();
        }
        assert_eq!(files.received(65).await.unwrap(), 7);
        let (hash, head) = files.examine(65).await.unwrap();
        assert_eq!((hash, head), (Sha256::digest("one two").into(), b"one two".to_vec()));
        files.remove(65).await.unwrap();
        files.remove(65).await.unwrap();
        assert!(files.open(65, Version::Original).await.unwrap().is_none());
    }
}
