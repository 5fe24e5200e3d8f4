//! Whose a file is, and what others can do to it.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// Whose files are trusted, besides those of root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u32);

/// What others than the owner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Read it.
    Read,
    /// Nothing. A file of root's may be readable by its group: that is how a server gets a key that root keeps for it.
    Nothing,
}

/// Why a file or a folder is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Exposed {
    /// Somebody else can change it.
    #[error(
        "{path} belongs to user {owner}, and not to {}",
        if *user == ROOT { "root".to_owned() } else { format!("user {user} or to root") },
        path = path.display()
    )]
    Foreign {
        /// What was looked at.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: u32,
        /// Whether it is a folder.
        is_folder: bool,
    },
    /// Others can change it.
    #[error("others can write to {path} (mode {mode:04o})", path = path.display())]
    Writable {
        /// What was looked at.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whether it is a folder.
        is_folder: bool,
    },
    /// Others can read a secret.
    #[error("others can read {path} (mode {mode:04o}), and it is secret", path = path.display())]
    Readable {
        /// What was looked at.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl Exposed {
    /// What mends it: a command, except for a place that is there for everybody.
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

    /// Whether it is a folder where everybody puts files, such as `/tmp` (the sticky bit): to close it would break the machine.
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
    /// The user that this process runs as.
    pub fn this_user() -> Self {
        #[cfg(unix)]
        return Self(this_user());
        #[cfg(not(unix))]
        Self(0)
    }

    /// Whoever owns this.
    pub fn of(found: &Metadata) -> Self {
        #[cfg(unix)]
        return Self(std::os::unix::fs::MetadataExt::uid(found));
        #[cfg(not(unix))]
        {
            let _ = found;
            Self(0)
        }
    }

    /// Whether what was found at `path` is this owner's or root's, and others can do no more to it than they may.
    ///
    /// The folders above it are not looked at. Whoever can write to one of them can put something else in this place, but
    /// nothing that belongs to this owner and passes.
    ///
    /// # Errors
    /// Somebody else's, or open to others.
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
    // Where there are access lists, the group's bits are the most that any of them grants.
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
    fn a_secret_is_its_owners_or_roots() {
        for mode in [0o600, 0o400, 0o700] {
            judged(1_000, mode, Others::Nothing).unwrap();
            judged(0, mode, Others::Nothing).unwrap();
        }
        judged(0, 0o640, Others::Nothing).unwrap();
        for (owner, mode) in [(1_000, 0o640), (1_000, 0o604), (1_000, 0o601), (0, 0o644), (0, 0o650)] {
            let said = judged(owner, mode, Others::Nothing).unwrap_err();
            assert!(
                said.contains("others can read data/admin.key") && said.contains("chmod 600 data/admin.key"),
                "{said}"
            );
        }
        let said = judged(1_001, 0o600, Others::Nothing).unwrap_err();
        assert!(said.contains("belongs to user 1001") && said.contains("chown 1000 data/admin.key"), "{said}");
    }

    #[test]
    fn what_others_may_read_they_may_not_write() {
        judged(1_000, 0o755, Others::Read).unwrap();
        judged(0, 0o644, Others::Read).unwrap();
        for (owner, mode) in [(1_000, 0o660), (1_000, 0o602), (0, 0o620), (0, 0o1777)] {
            for others in [Others::Read, Others::Nothing] {
                let said = judged(owner, mode, others).unwrap_err();
                assert!(said.contains("others can write to data/admin.key"), "{said}");
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
    fn what_mends_it_does_not_break_the_machine() {
        let repair =
            |owner, mode| judge(1_000, Path::new("data"), (owner, mode, true), Others::Read).unwrap_err().repair();
        assert_eq!(repair(0, 0o40_777), "chmod 700 data");
        assert_eq!(repair(0, 0o41_777), "use a folder of its own that only its user can write to");
        // A folder is no use without what is in it.
        assert_eq!(repair(1_001, 0o40_700), "chown -R 1000 data");
    }

    #[test]
    fn what_is_found_is_compared_with_who_runs_this() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made");
        crate::create_folder(&folder).unwrap();
        let found = std::fs::metadata(&folder).unwrap();
        assert_eq!(Owner::of(&found), Owner::this_user());
        Owner::this_user().check(&folder, &found, Others::Nothing).unwrap();
    }
}
