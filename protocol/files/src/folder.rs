use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// An open folder. Its files are opened in the folder that was opened, even if another one has taken its place since. So a
/// check of [`OpenFolder::metadata`] holds for the files that are read.
#[derive(Debug)]
pub struct OpenFolder {
    path: PathBuf,
    #[cfg(unix)]
    handle: File,
}

impl OpenFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// The system refuses it, or the path is not a folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use rustix::fs::{Mode, OFlags};

            // A folder can be searchable without being readable.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            let access = OFlags::PATH;
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            let access = OFlags::RDONLY;
            let handle = rustix::fs::open(path, access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            Ok(Self { path: path.to_owned(), handle: handle.into() })
        }
        #[cfg(not(unix))]
        Ok(Self { path: path.to_owned() })
    }

    /// Returns the path with which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the metadata of the folder that was opened.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn metadata(&self) -> io::Result<Metadata> {
        #[cfg(unix)]
        return self.handle.metadata();
        #[cfg(not(unix))]
        std::fs::metadata(&self.path)
    }

    /// Opens a file of the folder for reading. It never blocks, even if the file is a pipe.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn file(&self, name: &str) -> io::Result<File> {
        #[cfg(unix)]
        {
            use rustix::fs::{Mode, OFlags};

            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(&self.handle, name, flags, Mode::empty())?.into())
        }
        #[cfg(not(unix))]
        File::open(self.path.join(name))
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_folder_that_replaces_an_open_one_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let [place, first, second] = ["place", "first", "second"].map(|name| dir.path().join(name));
        for folder in [&first, &second] {
            crate::create_folder(folder).unwrap();
            fs::write(folder.join("file"), folder.display().to_string()).unwrap();
        }
        std::os::unix::fs::symlink(&first, &place).unwrap();
        let open = OpenFolder::open(&place).unwrap();
        fs::remove_file(&place).unwrap();
        fs::rename(&second, &place).unwrap();
        let mut text = String::new();
        open.file("file").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, first.display().to_string());
        let ino = |found: Metadata| std::os::unix::fs::MetadataExt::ino(&found);
        assert_eq!(ino(open.metadata().unwrap()), ino(fs::metadata(&first).unwrap()));
        assert_eq!(open.path(), place);
        assert_eq!(open.file("missing").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_a_folder_is_opened_and_a_pipe_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        assert_eq!(OpenFolder::open(&dir.path().join("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(OpenFolder::open(&dir.path().join("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let mut bytes = Vec::new();
        OpenFolder::open(dir.path()).unwrap().file("pipe").unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes.is_empty());
    }
}
