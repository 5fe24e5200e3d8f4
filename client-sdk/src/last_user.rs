//! Who was last logged in on this device: the only one who may log in without network.

use std::path::PathBuf;

use crate::config::Config;

fn file(config: &Config) -> Option<PathBuf> {
    config.folder().map(|folder| folder.join(format!("last-user-{}", config.app_id)))
}

/// The last user of this app on this device.
pub(crate) fn get(config: &Config) -> Option<String> {
    std::fs::read_to_string(file(config)?).ok()
}

/// A login succeeded.
pub(crate) fn set(config: &Config, user_id: &str) {
    let Some(file) = file(config).filter(|_| get(config).as_deref() != Some(user_id)) else { return };
    if let Err(error) = std::fs::write(&file, user_id) {
        tracing::warn!(%error, file = %file.display(), "an offline login will not know the last user");
    }
}
