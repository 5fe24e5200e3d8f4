//! Finds a server on this machine by the files in its data folder: `server.json`, which is there while the server runs and says
//! how to reach it, and the files with the keys, which only the owner can read.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zim_files::{Exposed, OpenFolder, Others, Owner};

use crate::exit::Failure;
use crate::profile::{Profile, fingerprint};

const NAME: &str = "server.json";
const ADMIN_KEY: &str = "admin.key";
const FIRST_APP: &str = "first-app.toml";
/// The data folder of a server that is started without arguments, relative to where it is started.
const USUAL_FOLDER: &str = "zim-data";

/// A running server on this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartFile {
    pub(crate) pid: u32,
    /// `host:port` for clients.
    pub(crate) server: String,
    /// `host:port` of the metrics, if there is one.
    pub(crate) http: Option<String>,
    /// The URL of the operator's service, if there is one.
    pub(crate) admin: Option<String>,
    pub(crate) fingerprint: String,
    #[serde(skip)]
    folder: PathBuf,
    /// Read together with `server.json`, so that the files that were checked are the ones that are used.
    #[serde(skip)]
    first_app: Contents,
    #[serde(skip)]
    admin_key: Contents,
}

/// The contents of a file, if it exists, or why it cannot be read. The error is kept because not every command needs the file.
#[derive(Clone, Debug)]
struct Contents(Result<Option<Vec<u8>>, String>);

impl Default for Contents {
    fn default() -> Self {
        Self(Ok(None))
    }
}

impl Contents {
    fn get(&self) -> Result<Option<&[u8]>, Failure> {
        self.0.as_ref().map(Option::as_deref).map_err(Failure::other)
    }
}

/// The fields of the file of the first app that a client needs.
#[derive(Deserialize)]
struct FirstApp {
    app_id: u32,
    app_sign: String,
}

impl StartFile {
    /// Reads the files of the server with this data folder, if it runs. The user named the folder, so its owner is not checked.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        match OpenFolder::open(folder) {
            Ok(open) => Self::load(&open, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(folder, &error)),
        }
    }

    /// Reads the files of the server that was started in the current folder, if there is one. The user did not name the folder,
    /// so it must belong to the user: otherwise anyone who can write here could choose the server.
    pub(crate) fn here() -> Result<Option<Self>, Failure> {
        Self::own(Path::new(USUAL_FOLDER))
    }

    fn own(folder: &Path) -> Result<Option<Self>, Failure> {
        match OpenFolder::open(folder) {
            Ok(open) => Self::load(&open, Some(Owner::this_user())),
            // There is no server of this user here.
            Err(error) if is_inaccessible(&error) || error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(unreadable(folder, &error)),
        }
    }

    /// Reads the files of a folder. With an owner, all of them must belong to that owner.
    fn load(folder: &OpenFolder, owner: Option<Owner>) -> Result<Option<Self>, Failure> {
        let path = folder.path();
        let trusted = |path: &Path, found: io::Result<Metadata>| -> Result<(), Failure> {
            let Some(owner) = owner else { return Ok(()) };
            let found = found.map_err(|error| unreadable(path, &error))?;
            owner.check(path, &found, Others::Read).map_err(|exposed| not_trusted(folder.path(), &exposed))
        };
        // Checks the open file, not its name, which may be replaced meanwhile.
        let contents = |name: &str| -> Result<Contents, Failure> {
            match folder.file(name) {
                Ok(file) => {
                    trusted(&path.join(name), file.metadata())?;
                    Ok(Contents(bytes(file).map(Some).map_err(|error| describe(&path.join(name), &error))))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contents(Ok(None))),
                Err(error) => Ok(Contents(Err(describe(&path.join(name), &error)))),
            }
        };
        match folder.file(NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // The folder of another user, without access for this user.
            Err(error) if owner.is_some() && is_inaccessible(&error) => return Ok(None),
            _ => trusted(path, folder.metadata())?,
        }
        let started = contents(NAME)?;
        let Some(text) = started.get()? else { return Ok(None) };
        let found: Self = serde_json::from_slice(text)
            .map_err(|error| Failure::other(format!("{} cannot be read: {error}", path.join(NAME).display())))?;
        let (first_app, admin_key) = (contents(FIRST_APP)?, contents(ADMIN_KEY)?);
        Ok(Some(Self { folder: path.to_owned(), first_app, admin_key, ..found }))
    }

    /// Finds the server of the named folder, which must run; without a folder, that of the current one, if there is any.
    pub(crate) fn find(folder: Option<&PathBuf>) -> Result<Option<Self>, Failure> {
        let Some(folder) = folder else { return Self::here() };
        let found = Self::read(folder)?;
        found.map(Some).ok_or_else(|| {
            Failure::other(format!("no server runs with the data folder {}", folder.display())).hint(
                "name the folder of zim-server --data-dir; by default it is zim-data where zim-server was started",
            )
        })
    }

    /// Returns a profile for this server, without a user.
    pub(crate) fn profile(&self) -> Result<Profile, Failure> {
        let app = self.first_app()?;
        Ok(Profile {
            server: Some(self.server.clone()),
            app_id: Some(app.app_id),
            app_sign: Some(app.app_sign),
            fingerprint: Some(self.fingerprint.clone()),
            ..Profile::default()
        })
    }

    /// Returns the app sign for a profile of this server. Says what differs if the profile is of another server or app. A profile
    /// without a fingerprint knows no certificate; the login verifies it in the way of the profile.
    pub(crate) fn app_sign_for(&self, profile: &Profile) -> Result<String, Failure> {
        let (folder, server) = (self.folder.display(), profile.server.as_deref().unwrap_or_default());
        let differs = |what: String, way: String| {
            Failure::usage(format!("the app sign is missing: {what}")).hint(format!(
                "for what this folder has: {way}; for what the profile says: --app-sign-file FILE or --token-file FILE"
            ))
        };
        let this_server = || format!("--server-data {folder}");
        if server != self.server {
            let here = &self.server;
            let what = format!("the profile's server is {server}, and {folder} is the folder of another, {here}");
            return Err(differs(what, this_server()));
        }
        if profile.fingerprint.as_ref().is_some_and(|known| !self.has_certificate(known)) {
            let what = format!(
                "{folder} is the folder of another server at {server}: its certificate is not the one that the profile trusts"
            );
            return Err(differs(what, this_server()));
        }
        let app = self.first_app()?;
        if profile.app_id != Some(app.app_id) {
            let of_profile = profile.app_id.unwrap_or_default();
            let what = format!("the profile's app is {of_profile}, and {folder} has the app sign of {}", app.app_id);
            return Err(differs(what, format!("--app-id {}", app.app_id)));
        }
        Ok(app.app_sign)
    }

    /// Whether a fingerprint is that of this server's certificate, in whatever form it is written.
    fn has_certificate(&self, known: &str) -> bool {
        fingerprint(known).is_ok_and(|known| fingerprint(&self.fingerprint) == Ok(known))
    }

    fn first_app(&self) -> Result<FirstApp, Failure> {
        let path = self.folder.join(FIRST_APP);
        let missing = || Failure::other(format!("{} is missing", path.display()));
        let text = String::from_utf8(self.first_app.get()?.ok_or_else(missing)?.to_owned());
        text.map_err(|error| error.to_string())
            .and_then(|text| toml::from_str(&text).map_err(|error| error.to_string()))
            .map_err(|error| Failure::other(format!("{} cannot be read: {error}", path.display())))
    }

    /// Returns the key to the operator's service.
    pub(crate) fn admin_key(&self) -> Result<Option<String>, Failure> {
        Ok(self.admin_key.get()?.map(|key| String::from_utf8_lossy(key).trim().to_owned()))
    }
}

fn bytes(file: File) -> io::Result<Vec<u8>> {
    /// More than the size of any of these files.
    const MAX_BYTES: u64 = 64 << 10;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_inaccessible(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

fn describe(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::other(describe(path, error))
}

fn not_trusted(folder: &Path, exposed: &Exposed) -> Failure {
    Failure::other(format!("the server of the folder {} is not used: {exposed}", folder.display())).hint(format!(
        "if you trust it, use --server-data {}; or {}",
        folder.display(),
        exposed.repair()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A data folder written by an older server, with secrets in `server.json`.
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
    fn a_running_server_is_found_by_its_folder() {
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
        let later = StartFile::read(&folder).unwrap().unwrap();
        assert_eq!(later.admin_key().unwrap(), None);
        assert!(later.profile().unwrap_err().message.contains("app_sign"));
        fs::remove_file(folder.join(FIRST_APP)).unwrap();
        fs::create_dir(folder.join(ADMIN_KEY)).unwrap();
        let later = StartFile::read(&folder).unwrap().unwrap();
        assert!(later.profile().unwrap_err().message.contains("first-app.toml is missing"));
        assert!(later.admin_key().unwrap_err().message.contains("admin.key: "));
        // The contents that were read and checked remain in use.
        assert_eq!(found.profile().unwrap().app_sign.as_deref(), Some("sign"));
        assert_eq!(found.admin_key().unwrap().as_deref(), Some("key"));
    }

    #[test]
    fn the_app_sign_is_only_for_profiles_of_this_server() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let found = StartFile::read(&folder).unwrap().unwrap();
        let kept = Profile { app_sign: None, ..found.profile().unwrap() };
        let written = ["AB"; 32].join(":");
        for same in [
            kept.clone(),
            Profile { fingerprint: Some(written), ..kept.clone() },
            Profile { fingerprint: None, ca: Some("ca.pem".into()), ..kept.clone() },
        ] {
            assert_eq!(found.app_sign_for(&same).unwrap(), "sign");
        }
        let (named, to_folder) = (folder.display(), format!("--server-data {}", folder.display()));
        for (other, what, way) in [
            (
                Profile { server: Some("10.0.0.5:4710".into()), ..kept.clone() },
                format!("server is 10.0.0.5:4710, and {named} is the folder of another, 127.0.0.1:4710"),
                &*to_folder,
            ),
            (
                Profile { fingerprint: Some("cd".repeat(32)), ..kept.clone() },
                format!("{named} is the folder of another server at 127.0.0.1:4710"),
                &*to_folder,
            ),
            (
                Profile { fingerprint: Some("none".into()), ..kept.clone() },
                "its certificate is not the one that the profile trusts".to_owned(),
                &*to_folder,
            ),
            (
                Profile { app_id: Some(8), ..kept.clone() },
                format!("app is 8, and {named} has the app sign of 7"),
                "--app-id 7",
            ),
        ] {
            let failure = found.app_sign_for(&other).unwrap_err();
            assert!(failure.message.contains(&what), "{what:?}: {}", failure.message);
            let hint = failure.hint.unwrap();
            assert!(hint.contains(way) && hint.contains("--app-sign-file FILE or --token-file FILE"), "{hint}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_replaces_a_checked_one_is_not_used() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let (trusted, empty, link) = (dir.path().join("trusted"), dir.path().join("empty"), dir.path().join("link"));
        fs::rename(folder(dir.path()), &trusted).unwrap();
        zim_files::create_folder(&empty).unwrap();
        let hostile = folder(dir.path());
        fs::write(hostile.join(FIRST_APP), "app_id = 8\napp_sign = \"hostile\"").unwrap();
        // The link names `first` while it is opened, and the hostile folder afterwards.
        let replaced = |first: &Path| {
            symlink(first, &link).unwrap();
            let open = OpenFolder::open(&link).unwrap();
            fs::remove_file(&link).unwrap();
            symlink(&hostile, &link).unwrap();
            let found = StartFile::load(&open, Some(Owner::this_user())).unwrap();
            fs::remove_file(&link).unwrap();
            found.map(|found| found.profile().unwrap().app_sign.unwrap())
        };
        assert_eq!(replaced(&trusted).as_deref(), Some("sign"));
        // A folder that passes the check and has no server, such as any folder of root.
        assert_eq!(replaced(&empty), None);
        // A file in the place of the folder counts as no server.
        assert!(StartFile::own(&hostile.join(NAME)).unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_to_is_not_used_unless_named() {
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
            // Naming the folder overrides the check.
            assert!(StartFile::find(Some(&folder)).unwrap().is_some());
            set_mode(&path, before);
        }
        assert!(StartFile::own(&folder).unwrap().is_some());
    }
}
