//! The data folder: everything that a server keeps outside its database. Only its owner can read the secrets in it.
//!
//! Whoever can write to the folder has the rights of an operator, because a planted key would be accepted. So the server uses the
//! folder, the keys and the database only if they belong to its user or to root, and no one else can write to them. It uses
//! keys only if no one else can read them. It does not check the parent folders: a user who can write to one of them can remove
//! the data folder, but cannot put a folder of their own in its place that passes the check.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zim_files::{DRAFT, Exposed, Others, Owner};

use crate::config::Config;

/// An open data folder. While it exists, no other server can open the same folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    is_insecure_allowed: bool,
    _lock: File,
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another server has it open.
    #[error("another server uses the data folder {0}")]
    InUse(PathBuf),
    /// Other users can change its contents, or read its secrets.
    #[error(
        "{0}. If you trust its contents: {repair}. On a volume with fixed modes, the setting allow_insecure_data_dir = true lets \
         the server start",
        repair = .0.repair()
    )]
    Exposed(#[from] Exposed),
    /// Other users can change its contents, and they may need the folder: closing it could break the machine.
    #[error(
        "{exposed}. Put the {what} into a folder of its own that only the server's user can write to. On a volume with fixed \
         modes, the setting allow_insecure_data_dir = true lets the server start"
    )]
    SharedFolder {
        /// How the folder is exposed.
        exposed: Exposed,
        /// What the server keeps there.
        what: &'static str,
    },
    /// An error of the system.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl FolderError {
    pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

impl Folder {
    /// Opens the folder, and creates it if it does not exist.
    pub(crate) fn open(config: &Config) -> Result<Self, FolderError> {
        let path = &config.data_dir;
        zim_files::create_folder(path).map_err(FolderError::at(path))?;
        let is_insecure_allowed = config.allow_insecure_data_dir;
        let lock_path = path.join("lock");
        check_if_there(path, Others::Read, is_insecure_allowed).map_err(shared_folder)?;
        check_if_there(&lock_path, Others::Read, is_insecure_allowed)?;
        let lock = private_file(&lock_path).map_err(FolderError::at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), is_insecure_allowed, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(FolderError::Io { path: lock_path, source }),
        }
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the secret file `name`. If it does not exist, it is first written with what `make` returns, atomically.
    pub(crate) fn secret<E>(&self, name: &str, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E>
    where
        E: From<FolderError>,
    {
        self.remove_drafts(name)?;
        match self.read_secret(&self.file(name)) {
            Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let bytes = make()?;
                self.write(name, &bytes)?;
                Ok(bytes)
            }
            read => Ok(read?),
        }
    }

    /// Reads a secret file, in this folder or elsewhere.
    pub(crate) fn read_secret(&self, path: &Path) -> Result<Vec<u8>, FolderError> {
        read_secret(path, self.is_insecure_allowed)
    }

    /// Like [`Folder::secret`], with `N` random bytes.
    pub(crate) fn random<const N: usize>(&self, name: &str) -> Result<[u8; N], FolderError> {
        let path = self.file(name);
        let bytes = self.secret(name, || {
            let mut bytes = vec![0; N];
            getrandom::fill(&mut bytes).map_err(|error| FolderError::at(&path)(io::Error::other(error)))?;
            Ok::<_, FolderError>(bytes)
        })?;
        bytes.try_into().map_err(|bytes: Vec<u8>| {
            FolderError::at(&path)(io::Error::other(format!("the file has {} bytes instead of {N}", bytes.len())))
        })
    }

    /// Writes the file `name` atomically, and replaces an existing one.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        self.remove_drafts(name)?;
        let path = self.file(name);
        zim_files::write(&path, bytes).map_err(FolderError::at(&path))
    }

    /// Removes the drafts of the file `name` that a killed server left. No other server writes now: this one has the lock.
    fn remove_drafts(&self, name: &str) -> Result<(), FolderError> {
        let failed = FolderError::at(&self.path);
        let of_an_older_version = Path::new(name).with_extension(&DRAFT[1..]);
        for entry in fs::read_dir(&self.path).map_err(&failed)? {
            let found = entry.map_err(&failed)?.file_name();
            let rest = found.to_str().and_then(|found| found.strip_prefix(name)).unwrap_or_default();
            if found == of_an_older_version || (rest.starts_with('.') && rest.ends_with(DRAFT)) {
                let path = self.path.join(&found);
                fs::remove_file(&path).map_err(FolderError::at(&path))?;
            }
        }
        Ok(())
    }

    /// Creates the database file, unless it exists, so that only its owner can read it. SQLite gives the files beside it the same
    /// mode. If others can read an existing file, for example after a restore, its mode is changed to 0600 with a warning.
    pub(crate) fn prepare_database_file(&self, path: &Path) -> Result<(), FolderError> {
        // Follows links: the file is created where they lead, and its other files are beside it.
        let path = &resolve(path).map_err(FolderError::at(path))?;
        let folder = folder_of(path);
        check_if_there(folder, Others::Read, self.is_insecure_allowed).map_err(|error| match error {
            // The folder may have other uses: it was not created for the server.
            FolderError::Exposed(exposed) if !self.is_same(folder) => {
                FolderError::SharedFolder { exposed, what: "database" }
            }
            error => shared_folder(error),
        })?;
        let beside = ["-wal", "-shm", "-journal"].map(|end| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        });
        for file in beside.iter().chain([path]) {
            check_if_there(file, Others::Read, self.is_insecure_allowed)?;
            if zim_files::close_to_others(file) {
                tracing::warn!(file = %file.display(), "other users could read the database; its mode is 0600 now");
            }
        }
        private_file(path).map(drop).map_err(FolderError::at(path))
    }

    fn is_same(&self, folder: &Path) -> bool {
        matches!((folder.canonicalize(), self.path.canonicalize()), (Ok(one), Ok(other)) if one == other)
    }
}

/// Reads a secret file.
pub(crate) fn read_secret(path: &Path, is_insecure_allowed: bool) -> Result<Vec<u8>, FolderError> {
    let failed = FolderError::at(path);
    let mut file = File::open(path).map_err(&failed)?;
    // Checks the file that is open, even if its name is changed in the meantime.
    check(path, &file.metadata().map_err(&failed)?, Others::Nothing, is_insecure_allowed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(&failed)?;
    Ok(bytes)
}

/// Follows links to the final path, which need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    /// The number of links that Linux follows.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..=MOST {
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            return Ok(path);
        }
        path = folder_of(&path).join(fs::read_link(&path)?);
    }
    Err(io::Error::other("too many links"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Changes the error if the data folder is a shared place such as `/tmp`.
fn shared_folder(error: FolderError) -> FolderError {
    match error {
        FolderError::Exposed(exposed) if exposed.is_shared_place() => {
            FolderError::SharedFolder { exposed, what: "data" }
        }
        error => error,
    }
}

fn check_if_there(path: &Path, others: Others, is_insecure_allowed: bool) -> Result<(), FolderError> {
    match fs::metadata(path) {
        Ok(found) => check(path, &found, others, is_insecure_allowed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FolderError::at(path)(source)),
    }
}

fn check(path: &Path, found: &Metadata, others: Others, is_insecure_allowed: bool) -> Result<(), FolderError> {
    match Owner::this_user().check(path, found, others) {
        Err(exposed) if is_insecure_allowed => {
            tracing::warn!(%exposed, "allowed by allow_insecure_data_dir");
            Ok(())
        }
        checked => Ok(checked?),
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    zim_files::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &Path) -> Result<Folder, FolderError> {
        Folder::open(&Config::local(path))
    }

    #[test]
    fn a_secret_is_generated_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(&dir.path().join("a/b")).unwrap();
        let one: [u8; 32] = folder.random("key").unwrap();
        assert_ne!(one, [0; 32]);
        assert_eq!(folder.random::<32>("key").unwrap(), one);
        assert!(folder.random::<16>("key").unwrap_err().to_string().contains("32 bytes instead of 16"));
    }

    #[test]
    fn two_servers_do_not_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = folder(&path).unwrap();
        let message = folder(&path).unwrap_err().to_string();
        assert!(message.contains("another server uses the data folder"), "{message}");
        drop(first);
        folder(&path).unwrap();
    }

    #[cfg(unix)]
    mod on_unix {
        use std::os::unix::fs::{PermissionsExt, symlink};

        use super::*;

        fn mode(path: &Path) -> u32 {
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        }

        fn set_mode(path: &Path, mode: u32) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }

        fn refused<T: std::fmt::Debug>(outcome: Result<T, FolderError>) -> String {
            match outcome {
                Err(error @ (FolderError::Exposed(_) | FolderError::SharedFolder { .. })) => error.to_string(),
                other => panic!("not refused: {other:?}"),
            }
        }

        fn make(_: &Folder) -> Result<Vec<u8>, FolderError> {
            Ok(b"made".to_vec())
        }

        #[test]
        fn only_the_owner_can_read_the_files() {
            let dir = tempfile::tempdir().unwrap();
            let folder = folder(&dir.path().join("a/b")).unwrap();
            folder.random::<32>("key").unwrap();
            folder.prepare_database_file(&folder.file("zim.db")).unwrap();
            for name in ["key", "lock", "zim.db"] {
                assert_eq!(mode(&folder.file(name)), 0o600, "{name}");
            }
            assert_eq!((mode(folder.path()), mode(&dir.path().join("a"))), (0o700, 0o700));
        }

        #[test]
        fn a_folder_that_others_can_write_to_is_refused_unless_that_is_allowed() {
            let dir = tempfile::tempdir().unwrap();
            let (path, link) = (dir.path().join("data"), dir.path().join("link"));
            fs::create_dir(&path).unwrap();
            symlink(&path, &link).unwrap();
            for open in [0o777, 0o770, 0o702, 0o1777] {
                set_mode(&path, open);
                let message = refused(folder(&path));
                let command = format!("chmod 700 {}", path.display());
                // The repair is not to close a shared place such as /tmp.
                assert_eq!(message.contains(&command), open != 0o1777, "{message}");
                assert_eq!(message.contains("Put the data into a folder of its own"), open == 0o1777, "{message}");
                assert!(
                    message.contains(&format!("(mode {open:04o})")) && message.contains("allow_insecure_data_dir"),
                    "{message}"
                );
                // The check follows links.
                refused(folder(&link));
            }
            let allowed = Config { allow_insecure_data_dir: true, ..Config::local(&path) };
            let opened = Folder::open(&allowed).unwrap();
            fs::write(opened.file("key"), "known").unwrap();
            set_mode(&opened.file("key"), 0o660);
            assert_eq!(opened.secret("key", || make(&opened)).unwrap(), b"known");
            drop(opened);
            for closed in [0o755, 0o750, 0o700] {
                set_mode(&path, closed);
                drop(folder(&link).unwrap());
            }
        }

        #[test]
        fn a_key_that_others_can_write_or_read_is_refused() {
            let dir = tempfile::tempdir().unwrap();
            let folder = folder(&dir.path().join("data")).unwrap();
            let key = folder.file("admin.key");
            fs::write(&key, "planted").unwrap();
            for open in [0o666, 0o620, 0o644, 0o604] {
                set_mode(&key, open);
                let message = refused(folder.secret("admin.key", || make(&folder)));
                assert!(message.contains("data/admin.key (mode 0"), "{message}");
            }
            set_mode(&key, 0o400);
            assert_eq!(folder.secret("admin.key", || make(&folder)).unwrap(), b"planted");
        }

        #[test]
        fn nothing_is_written_through_a_link_and_no_draft_is_left() {
            let dir = tempfile::tempdir().unwrap();
            let folder = folder(&dir.path().join("data")).unwrap();
            let mine = dir.path().join("mine");
            fs::write(&mine, "mine").unwrap();
            for draft in ["server.new", "server.json.AbCdEf.new", "server.json"] {
                symlink(&mine, folder.file(draft)).unwrap();
            }
            fs::write(folder.file("notes.new"), "the operator's").unwrap();
            folder.write("server.json", b"secret").unwrap();
            assert_eq!(fs::read(&mine).unwrap(), b"mine");
            assert_eq!(fs::read(folder.file("server.json")).unwrap(), b"secret");
            let mut left: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            left.sort();
            assert_eq!(left, ["lock", "notes.new", "server.json"]);
        }

        #[test]
        fn a_restored_database_is_closed_to_readers_and_one_that_others_write_is_refused() {
            let dir = tempfile::tempdir().unwrap();
            let folder = folder(&dir.path().join("data")).unwrap();
            let elsewhere = dir.path().join("elsewhere");
            zim_files::create_folder(&elsewhere).unwrap();
            let database = elsewhere.join("zim.db");
            for name in ["zim.db", "zim.db-wal", "zim.db-shm", "zim.db-journal"] {
                let file = elsewhere.join(name);
                fs::write(&file, "restored").unwrap();
                set_mode(&file, 0o644);
                folder.prepare_database_file(&database).unwrap();
                assert_eq!(mode(&file), 0o600, "{name}");
                set_mode(&file, 0o660);
                assert!(refused(folder.prepare_database_file(&database)).contains(name));
                set_mode(&file, 0o600);
            }
            // The check follows a link to the database, as SQLite does.
            let link = folder.file("zim.db");
            symlink(&database, &link).unwrap();
            set_mode(&elsewhere.join("zim.db-wal"), 0o666);
            refused(folder.prepare_database_file(&link));
            set_mode(&elsewhere.join("zim.db-wal"), 0o600);
            for open in [0o777, 0o775, 0o1777] {
                set_mode(&elsewhere, open);
                let message = refused(folder.prepare_database_file(&link));
                assert!(
                    message.contains("Put the database into a folder of its own") && !message.contains("chmod"),
                    "{message}"
                );
            }
            set_mode(&elsewhere, 0o755);
            folder.prepare_database_file(&link).unwrap();
            assert_eq!(fs::read(&database).unwrap(), b"restored");
            // The repair closes the server's own folder, also under another name.
            let own = dir.path().join("own");
            symlink(folder.path(), &own).unwrap();
            set_mode(folder.path(), 0o770);
            assert!(refused(folder.prepare_database_file(&own.join("new.db"))).contains("chmod 700"));
        }

        #[test]
        fn no_database_is_made_in_an_open_folder_that_a_link_leads_to() {
            let dir = tempfile::tempdir().unwrap();
            let folder = folder(&dir.path().join("data")).unwrap();
            let (open, closed) = (dir.path().join("open"), dir.path().join("closed"));
            for path in [&open, &closed] {
                zim_files::create_folder(path).unwrap();
            }
            set_mode(&open, 0o777);
            let link = folder.file("zim.db");
            symlink("next", &link).unwrap();
            symlink("../open/new.db", folder.file("next")).unwrap();
            assert!(refused(folder.prepare_database_file(&link)).contains("open"));
            assert_eq!(fs::read_dir(&open).unwrap().count(), 0, "the database was created");
            // In a folder that only its owner can write to, the file is created.
            fs::remove_file(folder.file("next")).unwrap();
            symlink("../closed/new.db", folder.file("next")).unwrap();
            folder.prepare_database_file(&link).unwrap();
            assert_eq!(mode(&closed.join("new.db")), 0o600);
            fs::remove_file(folder.file("next")).unwrap();
            symlink("zim.db", folder.file("next")).unwrap();
            assert!(folder.prepare_database_file(&link).unwrap_err().to_string().contains("zim.db: "));
        }
    }
}
