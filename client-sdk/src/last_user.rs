//! The user who logged in last on this device: the only one who can log in without a network.

use std::path::PathBuf;

use crate::config::Config;

fn file(config: &Config) -> Option<PathBuf> {
    config.folder().map(|folder| folder.join(format!("last-user-{}", config.app_id)))
}

/// Returns the last user of this app on this device.
pub(crate) fn get(config: &Config) -> Option<String> {
    let file = file(config)?;
    zim_files::close_to_others(&file);
    std::fs::read_to_string(file).ok()
}

/// Stores the user of a login that succeeded.
pub(crate) fn set(config: &Config, user_id: &str) {
    let Some(file) = file(config).filter(|_| get(config).as_deref() != Some(user_id)) else { return };
    if let Err(error) = zim_files::write(&file, user_id.as_bytes()) {
        tracing::warn!(%error, file = %file.display(), "the last user cannot be stored; an offline login of this user will be refused");
    }
}

/// Removes the user if it is the stored one: there is no local data for an offline login any more.
pub(crate) fn forget(config: &Config, user_id: &str) {
    if let Some(file) = file(config).filter(|_| get(config).as_deref() == Some(user_id)) {
        // If the file stays, the next login overwrites it.
        let _ = std::fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_user_is_stored_per_app() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(1, "host:1").data_dir(folder.path());
        assert_eq!(get(&config), None);
        set(&config, "ann");
        set(&config, "bob");
        assert_eq!(get(&config).as_deref(), Some("bob"));
        assert_eq!(get(&Config::new(2, "host:1").data_dir(folder.path())), None);
        forget(&config, "ann");
        assert_eq!(get(&config).as_deref(), Some("bob"));
        forget(&config, "bob");
        assert_eq!(get(&config), None);
        set(&Config::new(1, "host:1"), "ann");
        assert_eq!(get(&Config::new(1, "host:1")), None);
    }

    #[cfg(unix)]
    #[test]
    fn other_users_cannot_read_the_last_user() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(1, "host:1").data_dir(folder.path());
        let file = file(&config).unwrap();
        let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        set(&config, "ann");
        assert_eq!(mode(), 0o600);
        // As an older version left it.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(get(&config).as_deref(), Some("ann"));
        assert_eq!(mode(), 0o600);
    }
}
