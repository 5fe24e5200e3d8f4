//! What a server writes into its data folder: how to reach it while it runs, and beside it, for its owner, the keys.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zim_files::{Exposed, Others, Owner};

use crate::exit::Failure;
use crate::profile::Profile;

const NAME: &str = "server.json";
const ADMIN_KEY: &str = "admin.key";
const FIRST_APP: &str = "first-app.toml";
/// Where a server that is started without arguments keeps everything, seen from where it was started.
const USUAL_FOLDER: &str = "zim-data";

/// A server on this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartFile {
    pub(crate) pid: u32,
    /// `host:port` for clients.
    pub(crate) server: String,
    /// The URL of the operator's service, where there is one.
    pub(crate) admin: Option<String>,
    pub(crate) fingerprint: String,
    #[serde(rename = "appID")]
    pub(crate) app_id: u32,
    #[serde(skip)]
    folder: PathBuf,
}

/// The file of the first app, as far as a client needs it.
#[derive(Deserialize)]
struct FirstApp {
    app_id: u32,
    app_sign: String,
}

impl StartFile {
    /// Of the server with this data folder, if it runs. The folder was named: whose it is does not matter.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let Some(bytes) = contents(&folder.join(NAME))? else { return Ok(None) };
        let found: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::other(format!("{} cannot be read: {error}", folder.join(NAME).display())))?;
        Ok(Some(Self { folder: folder.to_owned(), ..found }))
    }

    /// Of the server that was started in this folder, if there is one. Nobody has named it: it must be this user's own, or
    /// somebody who can write here would choose the server.
    pub(crate) fn here() -> Result<Option<Self>, Failure> {
        Self::own(Path::new(USUAL_FOLDER))
    }

    fn own(folder: &Path) -> Result<Option<Self>, Failure> {
        if !folder.join(NAME).exists() {
            return Ok(None);
        }
        for path in [folder.to_owned(), folder.join(NAME), folder.join(FIRST_APP), folder.join(ADMIN_KEY)] {
            let found = match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found.map_err(|error| unreadable(&path, &error))?,
            };
            Owner::this_user().check(&path, &found, Others::Read).map_err(|exposed| not_trusted(folder, &exposed))?;
        }
        Self::read(folder)
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
    pub(crate) fn profile(&self) -> Result<Profile, Failure> {
        let path = self.folder.join(FIRST_APP);
        let missing = || Failure::other(format!("{} is not there", path.display()));
        let text = String::from_utf8(contents(&path)?.ok_or_else(missing)?);
        let app: FirstApp = text
            .map_err(|error| error.to_string())
            .and_then(|text| toml::from_str(&text).map_err(|error| error.to_string()))
            .map_err(|error| Failure::other(format!("{} cannot be read: {error}", path.display())))?;
        Ok(Profile {
            server: Some(self.server.clone()),
            app_id: Some(app.app_id),
            app_sign: Some(app.app_sign),
            fingerprint: Some(self.fingerprint.clone()),
            ..Profile::default()
        })
    }

    /// The key to the operator's service.
    pub(crate) fn admin_key(&self) -> Result<Option<String>, Failure> {
        let key = contents(&self.folder.join(ADMIN_KEY))?;
        Ok(key.map(|key| String::from_utf8_lossy(&key).trim().to_owned()))
    }
}

/// What a file holds, if it is there.
fn contents(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    /// None of these files is longer.
    const MOST: u64 = 64 << 10;
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::other(format!("{}: {error}", path.display()))
}

fn not_trusted(folder: &Path, exposed: &Exposed) -> Failure {
    Failure::other(format!("the server of the folder {} is not used: {exposed}", folder.display())).hint(format!(
        "if you trust it, name it: --server-data {}; or {}",
        folder.display(),
        exposed.repair()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data folder as an older server left it, with secrets in `server.json`.
    fn folder(dir: &Path) -> PathBuf {
        let folder = dir.join("zim-data");
        zim_files::create_folder(&folder).unwrap();
        let started = format!(
            r#"{{"pid":1,"server":"127.0.0.1:4710","http":null,"admin":null,"adminKey":"old","fingerprint":"{}","appID":7,"appSign":"old","serverSecret":"old"}}"#,
            "ab".repeat(32)
        );
        let app = "# a comment\napp_id = 7\napp_sign = \"sign\"\nserver_secret = \"x\"\n";
        for (name, text) in [(NAME, started.as_str()), (FIRST_APP, app), (ADMIN_KEY, "key\n")] {
            zim_files::write(&folder.join(name), text.as_bytes()).unwrap();
        }
        folder
    }

    #[test]
    fn a_running_server_is_found_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(StartFile::read(dir.path()).unwrap().is_none());
        assert!(StartFile::find(Some(&dir.path().to_owned())).is_err());
        let folder = folder(dir.path());
        let found = StartFile::find(Some(&folder)).unwrap().unwrap();
        let profile = found.profile().unwrap();
        assert_eq!(profile.server.as_deref(), Some("127.0.0.1:4710"));
        assert_eq!((profile.app_id, profile.app_sign.as_deref()), (Some(7), Some("sign")));
        assert!(profile.user_id.is_none());
        assert_eq!(found.admin_key().unwrap().as_deref(), Some("key"));
        fs::remove_file(folder.join(ADMIN_KEY)).unwrap();
        fs::write(folder.join(FIRST_APP), "app_id = 7").unwrap();
        assert_eq!(found.admin_key().unwrap(), None);
        assert!(found.profile().unwrap_err().message.contains("app_sign"));
        fs::remove_file(folder.join(FIRST_APP)).unwrap();
        assert!(found.profile().unwrap_err().message.contains("first-app.toml is not there"));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_to_chooses_nobodys_server() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        assert!(StartFile::own(&dir.path().join("zim-data")).unwrap().is_none());
        let folder = folder(dir.path());
        assert!(StartFile::own(&folder).unwrap().is_some());
        let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for name in ["", NAME, FIRST_APP, ADMIN_KEY] {
            let path = if name.is_empty() { folder.clone() } else { folder.join(name) };
            let before = fs::metadata(&path).unwrap().permissions().mode();
            set_mode(&path, before | 0o020);
            let failure = StartFile::own(&folder).unwrap_err();
            assert!(failure.message.contains("others can write to"), "{}", failure.message);
            assert!(failure.hint.unwrap().contains("--server-data"));
            // Who names it has chosen.
            assert!(StartFile::find(Some(&folder)).unwrap().is_some());
            set_mode(&path, before);
        }
        assert!(StartFile::own(&folder).unwrap().is_some());
    }
}
