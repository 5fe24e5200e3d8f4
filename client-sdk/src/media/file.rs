//! Files on this device that are about to be sent.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join;
use sha2::{Digest, Sha256};
use zim_protocol::media::{HEAD_BYTES, MediaFormat};
use zim_protocol::{ErrorCode, MessageType};

use super::first::First;
use crate::error::Error;

/// The bytes that are read at once. A piece is hashed while the next one is read. With small ones, the threads wait for each other for a
/// noticeable part of the time: between two pieces nothing is hashed.
const PIECE: usize = 1 << 20;

/// A file on this device, as it was when its hash was computed.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    pub(crate) path: PathBuf,
    /// Its name, without the folder.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) sha256: [u8; 32],
    modified: Option<SystemTime>,
}

impl LocalFile {
    /// Reads a file that a message of this type is to have. Messages go first.
    ///
    /// # Errors
    /// 6000211: there is no such file. 6000216: it cannot be read. 6000210: it is no regular file. 6000214: it is empty.
    /// 6000213: its content is not of a format that the message can have.
    pub(super) async fn read(path: String, kind: MessageType, first: &First) -> Result<Self, Error> {
        read(PathBuf::from(path), kind, first).await
    }

    /// Whether the file is as it was, as far as the file system knows.
    pub(crate) async fn is_unchanged(&self) -> bool {
        let found = tokio::fs::metadata(&self.path).await;
        found.is_ok_and(|found| found.len() == self.size && found.modified().ok() == self.modified)
    }
}

/// Returns the error for a file that is not as it was when its hash was computed.
pub(crate) fn changed(path: &Path) -> Error {
    let message = format!("the file {} changed while it was uploaded", path.display());
    Error::new(ErrorCode::MessageModuleFileVerificationError, message)
}

fn client_error(message: &str) -> Error {
    Error::new(ErrorCode::MessageModuleFileClientError, message)
}

/// Returns the error for a file that cannot be used.
pub(super) fn unusable(path: &Path, error: io::Error) -> Error {
    let (code, what) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => (ErrorCode::MessageModuleFileNotExist, "does not exist"),
        ErrorKind::PermissionDenied => (ErrorCode::MessageModuleFilePermissionDenied, "may not be read"),
        _ => (ErrorCode::MessageModuleFileClientError, "cannot be read"),
    };
    Error::new(code, format!("the file {} {what}", path.display())).with_source(error)
}

/// Opens a regular file. Returns when it was changed last, too.
fn open(path: &Path) -> Result<(File, Option<SystemTime>), Error> {
    let failed = |error| unusable(path, error);
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        let message = format!("{} is not a regular file", path.display());
        return Err(Error::new(ErrorCode::MessageModuleFileError, message));
    }
    let file = File::open(path).map_err(failed)?;
    let modified = file.metadata().map_err(failed)?.modified().ok();
    Ok((file, modified))
}

/// Reads the next piece of a file into a buffer. It is empty at the end.
fn read_piece(file: &File, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    buffer.clear();
    buffer.reserve_exact(PIECE);
    file.take(PIECE as u64).read_to_end(&mut buffer)?;
    Ok(buffer)
}

/// Does something on a thread that may wait for the disk.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(client_error("the file cannot be read").with_source(error)))
}

async fn read(path: PathBuf, kind: MessageType, first: &First) -> Result<LocalFile, Error> {
    let opened = path.clone();
    let (file, modified) = on_thread(move || open(&opened)).await?;
    let file = Arc::new(file);
    let next = |buffer| {
        let (file, path) = (Arc::clone(&file), path.clone());
        on_thread(move || read_piece(&file, buffer).map_err(|error| unusable(&path, error)))
    };
    let (mut hash, mut size, mut head) = (Sha256::new(), 0, Vec::new());
    let (mut piece, mut spare) = (next(Vec::new()).await?, Vec::new());
    while !piece.is_empty() {
        if head.is_empty() {
            head = piece.get(..HEAD_BYTES).unwrap_or(&piece).to_vec();
        }
        size += piece.len() as u64;
        first.give_way().await;
        // The next piece is read meanwhile.
        let hashing = on_thread(move || {
            hash.update(&piece);
            Ok((hash, piece))
        });
        let (hashed, read) = join(hashing, next(spare)).await;
        (hash, spare) = hashed?;
        piece = read?;
    }
    if size == 0 {
        let message = format!("the file {} is empty", path.display());
        return Err(Error::new(ErrorCode::MessageModuleFileSizeInvalid, message));
    }
    if kind != MessageType::File && !MediaFormat::detect(&head).is_some_and(|format| format.fits(kind)) {
        let message =
            format!("the content of {} is not of a format that a message of this type can have", path.display());
        return Err(Error::new(ErrorCode::MessageModuleFileTypeUnsupported, message));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(LocalFile { path, name, size, sha256: hash.finalize().into(), modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_or_the_reason_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cat.png");
        std::fs::write(&file, b"\x89PNG\r\n\x1a\n").unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let first = First::default();
        let read = LocalFile::read(path(&file), MessageType::Image, &first).await.unwrap();
        assert_eq!((read.name.as_str(), read.size), ("cat.png", 8));
        assert_eq!(read.sha256[..], Sha256::digest(b"\x89PNG\r\n\x1a\n")[..]);
        assert!(read.is_unchanged().await);
        let code = async |at: &Path, kind| LocalFile::read(path(at), kind, &first).await.unwrap_err().code();
        assert_eq!(code(&file, MessageType::Audio).await, ErrorCode::MessageModuleFileTypeUnsupported);
        std::fs::write(&file, b"").unwrap();
        assert!(!read.is_unchanged().await);
        assert_eq!(code(&file, MessageType::File).await, ErrorCode::MessageModuleFileSizeInvalid);
        assert_eq!(code(dir.path(), MessageType::File).await, ErrorCode::MessageModuleFileError);
        assert_eq!(code(&dir.path().join("none"), MessageType::File).await, ErrorCode::MessageModuleFileNotExist);
    }

    #[tokio::test]
    async fn a_file_of_several_pieces_is_hashed_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        for (name, length) in [("less", PIECE - 1), ("one", PIECE), ("more", 2 * PIECE + 7)] {
            let path = dir.path().join(name);
            let bytes: Vec<u8> = (0..length).map(|index| (index / 7).to_le_bytes()[0]).collect();
            std::fs::write(&path, &bytes).unwrap();
            let first = First::default();
            // A message that hangs does not hold it up for ever.
            let _hanging = first.pass();
            let path = path.to_str().unwrap().to_owned();
            let read = LocalFile::read(path, MessageType::File, &first).await.unwrap();
            assert_eq!(read.size, length as u64);
            assert_eq!(read.sha256[..], Sha256::digest(&bytes)[..], "{name}");
        }
    }
}
