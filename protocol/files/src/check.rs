use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// The user whose files are trusted, besides root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u32);

/// What users other than the owner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They may read it.
    Read,
    /// Nothing. A file of root may be readable by its group: that is how a server reads a key that root owns.
    Nothing,
}

/// Why a file or a folder cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Exposed {
    /// It belongs to another user.
    #[error(
        "{path} belongs to user {owner}, and not to {}",
        if *user == ROOT { "root".to_owned() } else { format!("user {user} or to root") },
        path = path.display()
    )]
    Foreign {
        /// What was checked.
        path: PathBuf,
        /// The user who owns it.
        owner: u32,
        /// The user who should own it.
        user: u32,
        /// Whether it is a folder.
        is_folder: bool,
    },
    /// Others can change it.
    #[error("others can write to {path} (mode {mode:04o})", path = path.display())]
    Writable {
        /// What was checked.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whether it is a folder.
        is_folder: bool,
    },
    /// Others can read a secret.
    #[error("others can read {path} (mode {mode:04o}), which is secret", path = path.display())]
    Readable {
        /// What was checked.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl Exposed {
    /// Returns what to do about it: a command, except for a shared folder.
    pub fn repair(&self) -> String {
        match self {
            Self::Foreign { path, user, is_folder: true, .. } => format!("chown -R {user} {}", path.display()),
            Self::Foreign { path, user, .. } => format!("chown {user} {}", path.display()),
            _ if self.is_shared_place() => "use a folder of its own that only its user can write to".to_owned(),
            Self::Writable { path, is_folder: true, .. } => format!("chmod 700 {}", path.display()),
            Self::Writable { path, .. } => format!("chmod go-w {}", path.display()),
            Self::Readable { path, .. } => format!("chmod 600 {}", path.display()),
        }
    }

    /// Whether it is a folder for the files of all users, such as `/tmp` (the sticky bit). Closing it would break the
    /// machine.
    pub fn is_shared_place(&self) -> bool {
        matches!(self, Self::Writable { mode, is_folder: true, .. } if mode & STICKY != 0)
    }
}

const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

#[cfg(unix)]
pub(crate) fn this_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl Owner {
    /// Returns the user of this process.
    pub fn this_user() -> Self {
        #[cfg(unix)]
        return Self(this_user());
        #[cfg(not(unix))]
        Self(0)
    }

    /// Returns the owner of a file.
    pub fn of(found: &Metadata) -> Self {
        #[cfg(unix)]
        return Self(std::os::unix::fs::MetadataExt::uid(found));
        #[cfg(not(unix))]
        {
            let _ = found;
            Self(0)
        }
    }

    /// Checks that the file or folder at `path` belongs to this owner or to root, and that others can do no more than
    /// allowed.
    ///
    /// The folders above are not checked. A user who can write to one of them can put another file in this place, but none
    /// that belongs to this owner and passes.
    ///
    /// # Errors
    /// It belongs to another user, or is open to others.
    pub fn check(self, path: &Path, found: &Metadata, others: Others) -> Result<(), Exposed> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;

            judge(self.0, path, (found.uid(), found.mode(), found.is_dir()), others)
        }
        #[cfg(not(unix))]
        {
            let _ = (path, found, others);
            Ok(())
        }
    }
}

#[cfg(unix)]
fn judge(user: u32, path: &Path, (owner, mode, is_folder): (u32, u32, bool), others: Others) -> Result<(), Exposed> {
    let (path, mode) = (path.to_owned(), mode & 0o7777);
    if owner != user && owner != ROOT {
        return Err(Exposed::Foreign { path, owner, user, is_folder });
    }
    // With access lists, the group's bits are the maximum that any entry grants.
    if mode & 0o022 != 0 {
        return Err(Exposed::Writable { path, mode, is_folder });
    }
    let allowed = match others {
        Others::Read => 0o777,
        Others::Nothing if owner == ROOT => 0o740,
        Others::Nothing => 0o700,
    };
    if mode & 0o777 & !allowed != 0 {
        return Err(Exposed::Readable { path, mode });
    }
    Ok(())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn judged(owner: u32, mode: u32, others: Others) -> Result<(), String> {
        let path = Path::new("data/admin.key");
        judge(1_000, path, (owner, 0o100_000 | mode, false), others)
            .map_err(|error| format!("{error}; {}", error.repair()))
    }

    #[test]
    fn a_secret_belongs_to_its_owner_or_to_root() {
        for mode in [0o600, 0o400, 0o700] {
            judged(1_000, mode, Others::Nothing).unwrap();
            judged(0, mode, Others::Nothing).unwrap();
        }
        judged(0, 0o640, Others::Nothing).unwrap();
        for (owner, mode) in [(1_000, 0o640), (1_000, 0o604), (1_000, 0o601), (0, 0o644), (0, 0o650)] {
            let message = judged(owner, mode, Others::Nothing).unwrap_err();
            assert!(
                message.contains("others can read data/admin.key") && message.contains("chmod 600 data/admin.key"),
                "{message}"
            );
        }
        let message = judged(1_001, 0o600, Others::Nothing).unwrap_err();
        assert!(message.contains("belongs to user 1001") && message.contains("chown 1000 data/admin.key"), "{message}");
    }

    #[test]
    fn files_that_others_may_read_must_not_be_writable_for_them() {
        judged(1_000, 0o755, Others::Read).unwrap();
        judged(0, 0o644, Others::Read).unwrap();
        for (owner, mode) in [(1_000, 0o660), (1_000, 0o602), (0, 0o620), (0, 0o1777)] {
            for others in [Others::Read, Others::Nothing] {
                let message = judged(owner, mode, others).unwrap_err();
                assert!(message.contains("others can write to data/admin.key"), "{message}");
            }
        }
        assert!(judged(1_001, 0o755, Others::Read).unwrap_err().contains("and not to user 1000 or to root"));
        let error = judge(ROOT, Path::new("data"), (1_000, 0o40_700, true), Others::Read).unwrap_err();
        assert!(error.to_string().ends_with("belongs to user 1000, and not to root"), "{error}");
        let error = judge(1_000, Path::new("data"), (1_000, 0o40_770, true), Others::Read).unwrap_err();
        assert!(error.to_string().ends_with("(mode 0770)"), "{error}");
        assert_eq!(error.repair(), "chmod 700 data");
    }

    #[test]
    fn the_repair_does_not_break_the_machine() {
        let repair =
            |owner, mode| judge(1_000, Path::new("data"), (owner, mode, true), Others::Read).unwrap_err().repair();
        assert_eq!(repair(0, 0o40_777), "chmod 700 data");
        assert_eq!(repair(0, 0o41_777), "use a folder of its own that only its user can write to");
        // The contents need the owner too.
        assert_eq!(repair(1_001, 0o40_700), "chown -R 1000 data");
    }

    #[test]
    fn a_new_folder_belongs_to_the_user_of_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made");
        crate::create_folder(&folder).unwrap();
        let found = std::fs::metadata(&folder).unwrap();
        assert_eq!(Owner::of(&found), Owner::this_user());
        Owner::this_user().check(&folder, &found, Others::Nothing).unwrap();
    }
}
