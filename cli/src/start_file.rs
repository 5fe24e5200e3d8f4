//! What a server writes into its data folder when it is ready: how to reach it and, for its owner, the keys.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::Failure;
use crate::profile::Profile;

const NAME: &str = "server.json";
/// Where a server that is started without arguments keeps everything, seen from where it was started.
const USUAL_FOLDER: &str = "zim-data";

/// A server on this machine.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartFile {
    pub(crate) pid: u32,
    /// `host:port` for clients.
    pub(crate) server: String,
    /// `host:port` of the operator's service, where there is one.
    pub(crate) admin: Option<String>,
    pub(crate) admin_key: Option<String>,
    pub(crate) fingerprint: String,
    #[serde(rename = "appID")]
    pub(crate) app_id: u32,
    pub(crate) app_sign: String,
}

impl std::fmt::Debug for StartFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartFile").field("pid", &self.pid).field("server", &self.server).finish_non_exhaustive()
    }
}

impl StartFile {
    /// Of the server with this data folder, if it runs.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let file = folder.join(NAME);
        match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Failure::other(format!("{} cannot be read: {error}", file.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::other(format!("{}: {error}", file.display()))),
        }
    }

    /// Of the server that was started in this folder, if there is one.
    pub(crate) fn here() -> Result<Option<Self>, Failure> {
        Self::read(Path::new(USUAL_FOLDER))
    }

    /// Of the named folder, where it must be; else of this one, where it may be.
    pub(crate) fn find(folder: Option<&PathBuf>) -> Result<Option<Self>, Failure> {
        let Some(folder) = folder else { return Self::here() };
        let found = Self::read(folder)?;
        found.map(Some).ok_or_else(|| {
            Failure::other(format!("no server runs with the data folder {}", folder.display()))
                .hint("it is the folder that zim-server was given as --data-dir, or zim-data where it was started")
        })
    }

    /// A profile that reaches it, without a user.
    pub(crate) fn profile(&self) -> Profile {
        Profile {
            server: Some(self.server.clone()),
            app_id: Some(self.app_id),
            app_sign: Some(self.app_sign.clone()),
            fingerprint: Some(self.fingerprint.clone()),
            ..Profile::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_server_is_found_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(StartFile::read(dir.path()).unwrap().is_none());
        assert!(StartFile::find(Some(&dir.path().to_owned())).is_err());
        let text = format!(
            r#"{{"pid":1,"server":"127.0.0.1:4710","http":null,"admin":null,"adminKey":"k","fingerprint":"{}","appID":7,"appSign":"s","serverSecret":"x"}}"#,
            "ab".repeat(32)
        );
        std::fs::write(dir.path().join(NAME), text).unwrap();
        let profile = StartFile::read(dir.path()).unwrap().unwrap().profile();
        assert_eq!(profile.server.as_deref(), Some("127.0.0.1:4710"));
        assert_eq!(profile.app_id, Some(7));
        assert!(profile.user_id.is_none());
    }
}
