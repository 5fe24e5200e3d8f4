//! A logout that the server does not know of: there was no connection, or no answer. The next login of the app on this device tells it,
//! whoever logs in, so that what the device is registered for ends.

use std::path::PathBuf;

use crate::config::Config;

fn file(config: &Config) -> Option<PathBuf> {
    config.folder().filter(|_| !config.one_shot).map(|folder| folder.join(format!("logged-out-{}", config.app_id)))
}

/// Notes that the app logs out.
pub(crate) fn note(config: &Config) {
    let Some(file) = file(config) else { return };
    if let Err(error) = zim_files::write(&file, b"") {
        tracing::warn!(%error, file = %file.display(), "the logout cannot be stored; if the server does not learn of it now, pushes go on");
    }
}

/// Returns whether the server has to be told of a logout.
pub(crate) fn is_noted(config: &Config) -> bool {
    file(config).is_some_and(|file| file.exists())
}

/// The server knows.
pub(crate) fn forget(config: &Config) {
    if let Some(file) = file(config) {
        // If the file stays, the next login ends the pushes of this device once more; the app registers it after each login.
        let _ = std::fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logout_is_noted_per_app_until_the_server_knows() {
        let folder = tempfile::tempdir().unwrap();
        let config = |app_id| Config::new(app_id, "host:1").data_dir(folder.path());
        assert!(!is_noted(&config(1)));
        note(&config(1));
        assert!(is_noted(&config(1)) && !is_noted(&config(2)));
        // A command is no device.
        assert!(!is_noted(&config(1).one_shot(true)));
        forget(&config(1));
        assert!(!is_noted(&config(1)));
        let without_folder = Config::new(1, "host:1");
        note(&without_folder);
        assert!(!is_noted(&without_folder));
    }
}
