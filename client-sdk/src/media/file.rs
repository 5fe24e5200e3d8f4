//! Files on this device that are about to be sent.

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use zim_protocol::media::{HEAD_BYTES, MediaFormat};
use zim_protocol::{ErrorCode, MessageType};

use crate::error::Error;

/// The bytes that are read at once.
const PIECE: usize = 256 << 10;

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
    /// Reads a file that a message of this type is to have.
    ///
    /// # Errors
    /// 6000211: there is no such file. 6000216: it cannot be read. 6000210: it is no regular file. 6000214: it is empty.
    /// 6000213: its content is not of a format that the message can have.
    pub(crate) async fn read(path: String, kind: MessageType) -> Result<Self, Error> {
        let read = tokio::task::spawn_blocking(move || read(Path::new(&path), kind));
        read.await.unwrap_or_else(|error| Err(client_error("the file cannot be read").with_source(error)))
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

fn read(path: &Path, kind: MessageType) -> Result<LocalFile, Error> {
    let failed = |error| unusable(path, error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let message = format!("{} is not a regular file", path.display());
        return Err(Error::new(ErrorCode::MessageModuleFileError, message));
    }
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let (mut hash, mut size, mut head) = (Sha256::new(), 0, Vec::new());
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(failed)?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if head.is_empty() {
            head = bytes.get(..HEAD_BYTES).unwrap_or(bytes).to_vec();
        }
        hash.update(bytes);
        size += bytes.len() as u64;
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
    let modified = metadata.modified().ok();
    Ok(LocalFile { path: path.to_owned(), name, size, sha256: hash.finalize().into(), modified })
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
        let read = LocalFile::read(path(&file), MessageType::Image).await.unwrap();
        assert_eq!((read.name.as_str(), read.size), ("cat.png", 8));
        assert_eq!(read.sha256[..], Sha256::digest(b"\x89PNG\r\n\x1a\n")[..]);
        assert!(read.is_unchanged().await);
        let code = async |at: &Path, kind| LocalFile::read(path(at), kind).await.unwrap_err().code();
        assert_eq!(code(&file, MessageType::Audio).await, ErrorCode::MessageModuleFileTypeUnsupported);
        std::fs::write(&file, b"").unwrap();
        assert!(!read.is_unchanged().await);
        assert_eq!(code(&file, MessageType::File).await, ErrorCode::MessageModuleFileSizeInvalid);
        assert_eq!(code(dir.path(), MessageType::File).await, ErrorCode::MessageModuleFileError);
        assert_eq!(code(&dir.path().join("none"), MessageType::File).await, ErrorCode::MessageModuleFileNotExist);
    }
}
