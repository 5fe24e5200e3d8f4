//! Files and folders that one user alone may read: keys, profiles, messages. Server, SDK and command line share this, so that
//! there is one place where modes are set and checked.
//!
//! - What is made here has mode 0600, folders 0700, whatever the umask says.
//! - A file that an older version left open to others is closed when it is opened. A folder that was there before is never
//!   changed by [`create_folder`]: it may be the app's or the home folder. [`own_folder`] is for folders of the program alone.
//! - [`Owner::check`] tells whether others can change or read what is there. With [`OpenFolder`] what is checked is what is read.
//!
//! On systems without unix modes files are made as the system makes them, and every check passes.

#![warn(missing_docs)]

mod check;
mod folder;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

pub use self::check::{Exposed, Others, Owner};
pub use self::folder::OpenFolder;

/// How the name of a file ends that [`write()`] has not finished.
pub const DRAFT: &str = ".new";

/// Makes a folder, and those above it that are missing. One that is there stays as it is.
///
/// # Errors
/// The system says no.
pub fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a folder that belongs to this program alone. One that is there is closed to others, if it is this user's.
///
/// # Errors
/// The system says no.
pub fn own_folder(path: &Path) -> io::Result<()> {
    create_folder(path)?;
    close_to_others(path);
    Ok(())
}

/// Opens a file as `options` say. If it is made, it is its owner's alone; if it is there and this user's, it is closed to others.
///
/// # Errors
/// The system says no.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    let file = options.open(path)?;
    // What was opened, also where a link led to it.
    close_open_file(&file);
    Ok(file)
}

/// Writes a file completely or not at all, over what is there. It is its owner's alone.
///
/// # Errors
/// The system says no.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut prefix = name.to_owned();
    prefix.push(".");
    // Mode 0600, and never through a link that somebody has put there.
    let mut draft = tempfile::Builder::new().prefix(&prefix).suffix(DRAFT).tempfile_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Takes from others what they may do to a file or folder of this user, and tells whether there was something to take. What is
/// not there, a link, or another user's stays as it is, and so does a file whose file system knows no modes.
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

/// As [`close_to_others`], for the file that is open.
fn close_open_file(file: &File) {
    #[cfg(unix)]
    if let Some(closed) = file.metadata().ok().and_then(|found| closed(&found)) {
        // A file system that knows no modes is no reason to do without the file.
        let _ = file.set_permissions(closed);
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// What to change the mode to, if this user's file is open to others.
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
    fn what_is_made_is_its_owners_whatever_the_umask() {
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
    fn a_file_that_was_open_to_others_is_closed_and_a_shared_folder_is_not() {
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
        assert!(!close_to_others(&file), "there is nothing left to take");
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
    fn a_write_in_vain_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("taken")).unwrap();
        assert!(write(&dir.path().join("taken"), b"x").is_err());
        assert!(write(&dir.path().join("missing/file"), b"x").is_err());
        assert!(write(Path::new(".."), b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
    }
}
