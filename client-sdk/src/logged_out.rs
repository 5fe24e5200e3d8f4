//! Logouts that the server does not know of: there was no connection, or no answer. The next login of the app on this device tells it who
//! has logged out, whoever logs in, so that the pushes to the device for that user end.

use std::path::{Path, PathBuf};

use crate::config::Config;

/// As many as the server is told at once.
const MAX_OTHERS: usize = 16;

/// The notes of a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The user who logs in has logged out before.
    pub(crate) is_own: bool,
    /// Others who have.
    pub(crate) others: Vec<String>,
    files: Vec<PathBuf>,
}

fn folder(config: &Config) -> Option<&Path> {
    config.folder().filter(|_| !config.one_shot)
}

/// The note of an earlier version, which does not say who has logged out.
fn unnamed(config: &Config) -> String {
    format!("logged-out-{}", config.app_id)
}

/// Each user has a note of their own: several clients may share the folder.
fn name(config: &Config, user_id: &str) -> String {
    format!("{}-{}", unnamed(config), zim_protocol::id::hex(user_id.as_bytes()))
}

/// Notes that a user logs out.
pub(crate) fn note(config: &Config, user_id: &str) {
    let Some(file) = folder(config).map(|folder| folder.join(name(config, user_id))) else { return };
    if let Err(error) = zim_files::write(&file, user_id.as_bytes()) {
        tracing::warn!(%error, file = %file.display(), "the logout cannot be stored; if the server does not learn of it now, pushes go on");
    }
}

/// Returns what the server has to be told when this user logs in.
pub(crate) fn noted(config: &Config, user_id: &str) -> Noted {
    let mut noted = Noted::default();
    let Some(folder) = folder(config) else { return noted };
    // Whose logout an earlier version has noted is not known: it counts for the one who logs in next.
    for own in [unnamed(config), name(config, user_id)] {
        let file = folder.join(own);
        if file.exists() {
            noted.is_own = true;
            noted.files.push(file);
        }
    }
    let start = format!("{}-", unnamed(config));
    // Without a folder there are no notes.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.path();
        let is_note = entry.file_name().to_str().is_some_and(|name| name.starts_with(&start));
        if !is_note || noted.files.contains(&file) || noted.others.len() == MAX_OTHERS {
            continue;
        }
        // A file that is being written, or is damaged, does not have the name of its user.
        let user = std::fs::read_to_string(&file).ok().filter(|user| folder.join(name(config, user)) == file);
        if let Some(user) = user {
            noted.others.push(user);
            noted.files.push(file);
        }
    }
    noted
}

/// The server knows of this user's logout.
pub(crate) fn forget(config: &Config, user_id: &str) {
    if let Some(folder) = folder(config) {
        remove(&folder.join(name(config, user_id)));
    }
}

impl Noted {
    /// The server knows of all of these.
    pub(crate) fn forget(&self) {
        self.files.iter().for_each(|file| remove(file));
    }
}

fn remove(file: &Path) {
    // If the file stays, the next login ends the pushes of this device once more; the app registers it after each login.
    let _ = std::fs::remove_file(file);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logout_is_noted_per_app_and_user_until_the_server_knows() {
        let folder = tempfile::tempdir().unwrap();
        let config = |app_id| Config::new(app_id, "host:1").data_dir(folder.path());
        let (one, other) = (config(1), config(12));
        let told = |config: &Config, user: &str| {
            let Noted { is_own, mut others, .. } = noted(config, user);
            others.sort();
            (is_own, others)
        };
        let nothing = || (false, Vec::new());
        assert_eq!(told(&one, "ann"), nothing());
        note(&one, "ann");
        note(&one, "a/n");
        assert_eq!(told(&one, "ann"), (true, vec!["a/n".to_owned()]));
        assert_eq!(told(&one, "bob"), (false, vec!["a/n".to_owned(), "ann".to_owned()]));
        assert_eq!(told(&other, "ann"), nothing());
        // A command is no device.
        assert_eq!(told(&config(1).one_shot(true), "ann"), nothing());
        forget(&one, "a/n");
        assert_eq!(told(&one, "bob"), (false, vec!["ann".to_owned()]));
        noted(&one, "bob").forget();
        assert_eq!(told(&one, "ann"), nothing());
        let without_folder = Config::new(1, "host:1");
        note(&without_folder, "ann");
        assert_eq!(told(&without_folder, "ann"), nothing());
    }

    #[test]
    fn the_note_of_an_earlier_version_counts_for_whoever_logs_in() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(1, "host:1").data_dir(folder.path());
        std::fs::write(folder.path().join("logged-out-1"), "").unwrap();
        let found = noted(&config, "bob");
        assert!(found.is_own && found.others.is_empty());
        found.forget();
        assert_eq!(noted(&config, "bob"), Noted::default());
    }

    #[test]
    fn what_is_no_note_of_a_user_is_told_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(1, "host:1").data_dir(folder.path());
        std::fs::write(folder.path().join("logged-out-1-616e6e"), "").unwrap();
        assert_eq!(noted(&config, "bob"), Noted::default());
        for number in 0..=MAX_OTHERS {
            note(&config, &number.to_string());
        }
        let found = noted(&config, "bob");
        assert_eq!(found.others.len(), MAX_OTHERS);
        found.forget();
        assert_eq!(noted(&config, "bob").others.len(), 1, "the rest is told the next time");
    }
}
