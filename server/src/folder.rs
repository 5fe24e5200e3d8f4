//! The data folder: everything that a server keeps outside its database. What is secret is readable by its owner alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// An opened data folder. While it exists, no other server opens the same one.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another server runs in it.
    #[error("another server uses the data folder {0}")]
    InUse(PathBuf),
    /// The system says no.
    #[error("{path}: {source}")]
    Io {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FolderError {
    pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

impl Folder {
    /// Opens the folder, and makes it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        make_private_folder(path).map_err(FolderError::at(path))?;
        let lock_path = path.join("lock");
        let lock = private_file(&lock_path, false).map_err(FolderError::at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(FolderError::Io { path: lock_path, source }),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What the file `name` holds; if it is not there, what `make` makes is written to it first, completely or not at all.
    pub(crate) fn secret<E>(&self, name: &str, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E>
    where
        E: From<FolderError>,
    {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = make()?;
                write_secret(&path, &bytes).map_err(FolderError::at(&path))?;
                Ok(bytes)
            }
            Err(source) => Err(FolderError::Io { path, source }.into()),
        }
    }

    /// As [`Folder::secret`], with `N` random bytes.
    pub(crate) fn random<const N: usize>(&self, name: &str) -> Result<[u8; N], FolderError> {
        let path = self.file(name);
        let bytes = self.secret(name, || {
            let mut bytes = vec![0; N];
            getrandom::fill(&mut bytes).map_err(|error| FolderError::at(&path)(io::Error::other(error)))?;
            Ok::<_, FolderError>(bytes)
        })?;
        bytes.try_into().map_err(|bytes: Vec<u8>| {
            FolderError::at(&path)(io::Error::other(format!("{} bytes where {N} belong", bytes.len())))
        })
    }

    /// Writes the file `name`, completely or not at all, over what is there.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.file(name);
        write_secret(&path, bytes).map_err(FolderError::at(&path))
    }

    /// Makes an empty file that its owner alone can read, unless it is there: a database then keeps that mode.
    pub(crate) fn reserve(path: &Path) -> Result<(), FolderError> {
        private_file(path, false).map(drop).map_err(FolderError::at(path))
    }
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = private_file(&new, true)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn private_file(path: &Path, truncate: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(truncate);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("a/b")).unwrap();
        let one: [u8; 32] = folder.random("key").unwrap();
        assert_ne!(one, [0; 32]);
        assert_eq!(folder.random::<32>("key").unwrap(), one);
        assert!(folder.random::<16>("key").unwrap_err().to_string().contains("32 bytes where 16 belong"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&folder.file("key")), 0o600);
            assert_eq!(mode(folder.path()), 0o700);
        }
    }

    #[test]
    fn two_servers_do_not_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(dir.path()).unwrap();
        let said = Folder::open(dir.path()).unwrap_err().to_string();
        assert!(said.contains("another server uses the data folder"), "{said}");
        drop(first);
        Folder::open(dir.path()).unwrap();
    }
}
