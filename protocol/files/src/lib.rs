//! Files and folders that only one user may read: keys, profiles, messages. Server, SDK and command line share this crate,
//! so that modes are set and checked in one place.
//!
//! - Files are created with mode 0600 and folders with 0700, whatever the umask.
//! - A file that an older version left open to others is closed to them when it is opened. [`create_folder`] never changes
//!   an existing folder: it may be the app's or the home folder. [`own_folder`] is for folders that belong to the program
//!   alone.
//! - [`Owner::check`] reports whether others can read or change a file or folder. With [`OpenFolder`], the folder that is
//!   checked is the folder that is read.
//!
//! On systems without Unix modes, files are created as the system does, and every check passes.

#![warn(missing_docs)]

/// Who owns a file, and what others can do to it.
mod check;
/// A folder that stays the same while its files are read.
mod folder;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

pub use self::check::{Exposed, Others, Owner};
pub use self::folder::OpenFolder;

/// The suffix of a file that [`write()`] has not finished.
pub const DRAFT: &str = ".new";

/// Creates a folder and its missing parents. An existing one stays as it is.
///
/// # Errors
/// The system refuses it.
pub fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Creates a folder that belongs to this program alone. An existing one is closed to others, if this user owns it.
///
/// # Errors
/// The system refuses it.
pub fn own_folder(path: &Path) -> io::Result<()> {
    create_folder(path)?;
    close_to_others(path);
    Ok(())
}

/// Opens a file with `options`. A new file is accessible to its owner only. An existing one is closed to others, if this
/// user owns it.
///
/// # Errors
/// The system refuses it.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    let file = options.open(path)?;
    // This changes the file that was opened, also behind a link.
    close_open_file(&file);
    Ok(file)
}

/// Writes a file completely or not at all, and replaces an existing one. It is accessible to its owner only. Afterwards it is there,
/// whatever happens to the machine.
///
/// # Errors
/// The system refuses it.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut prefix = name.to_owned();
    prefix.push(".");
    // Mode 0600, and never through a link that someone else placed there.
    let mut draft = tempfile::Builder::new().prefix(&prefix).suffix(DRAFT).tempfile_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    // Or a power cut could take the name away.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Writes `bytes` bytes beside a file and removes them; returns why that fails if space is lacking. A library may only say that a
/// call of the system failed.
pub fn lack_of_space(path: &Path, bytes: usize) -> Option<io::Error> {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};

    let probe = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).with_extension("probe");
    let written = write(&probe, &vec![0; bytes]);
    // There is none if the write failed.
    let _ = fs::remove_file(&probe);
    // The error itself names the file that was tried.
    let kind = written.err().map(|error| error.kind())?;
    matches!(kind, StorageFull | QuotaExceeded | FileTooLarge).then(|| kind.into())
}

/// Removes the permissions of others on a file or folder of this user, and returns whether there were any. It does nothing
/// to a missing file, to a link, to a file of another user, and on a file system without modes.
pub fn close_to_others(path: &Path) -> bool {
    #[cfg(unix)]
    {
        let closed =
            fs::symlink_metadata(path).ok().filter(|found| !found.is_symlink()).and_then(|found| closed(&found));
        closed.is_some_and(|closed| fs::set_permissions(path, closed).is_ok())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Does the same as [`close_to_others`], to an open file.
fn close_open_file(file: &File) {
    #[cfg(unix)]
    if let Some(closed) = file.metadata().ok().and_then(|found| closed(&found)) {
        // The file is usable also on a file system without modes.
        let _ = file.set_permissions(closed);
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// Returns the mode to set, if this user's file is open to others.
#[cfg(unix)]
fn closed(found: &fs::Metadata) -> Option<fs::Permissions> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let mode = found.permissions().mode();
    let is_open = found.uid() == check::this_user() && mode & 0o077 != 0;
    is_open.then(|| fs::Permissions::from_mode(mode & 0o700))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::Mode;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn new_files_are_accessible_to_their_owner_only_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let before = rustix::process::umask(Mode::empty());
        let folder = dir.path().join("a/b");
        create_folder(&folder).unwrap();
        own_folder(&folder.join("own")).unwrap();
        write(&folder.join("written"), b"secret").unwrap();
        open(&folder.join("opened"), OpenOptions::new().create(true).append(true)).unwrap();
        rustix::process::umask(before);
        for made in [dir.path().join("a"), folder.clone(), folder.join("own")] {
            assert_eq!(mode(&made), 0o700, "{}", made.display());
        }
        assert_eq!((mode(&folder.join("written")), mode(&folder.join("opened"))), (0o600, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "a draft is left");
    }

    #[test]
    fn a_file_that_is_open_to_others_is_closed_and_a_shared_folder_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, file) = (dir.path().join("shared"), dir.path().join("shared/file"));
        fs::create_dir(&shared).unwrap();
        set_mode(&shared, 0o755);
        fs::write(&file, "old").unwrap();
        set_mode(&file, 0o644);
        create_folder(&shared).unwrap();
        open(&file, OpenOptions::new().write(true)).unwrap();
        assert_eq!((mode(&shared), mode(&file)), (0o755, 0o600));
        own_folder(&shared).unwrap();
        assert_eq!(mode(&shared), 0o700);
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        set_mode(&file, 0o644);
        open(&link, OpenOptions::new().write(true)).unwrap();
        assert_eq!(mode(&file), 0o600, "behind a link");
        assert!(!close_to_others(&file), "others have no permissions left");
        assert!(!close_to_others(&dir.path().join("missing")));
    }

    #[test]
    fn a_link_is_neither_followed_nor_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (other, link) = (dir.path().join("other"), dir.path().join("link"));
        fs::write(&other, "somebody else's").unwrap();
        set_mode(&other, 0o644);
        symlink(&other, &link).unwrap();
        assert!(!close_to_others(&link));
        assert_eq!(mode(&other), 0o644);
        write(&link, b"mine").unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"somebody else's");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn an_attempt_to_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(lack_of_space(&dir.path().join("file.db"), 100).is_none());
        assert!(lack_of_space(&dir.path().join("missing/file.db"), 100).is_none(), "not for lack of space");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("taken")).unwrap();
        assert!(write(&dir.path().join("taken"), b"x").is_err());
        assert!(write(&dir.path().join("missing/file"), b"x").is_err());
        assert!(write(Path::new(".."), b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
    }
}
