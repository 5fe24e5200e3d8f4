//! Profiles: a server, a user and the secret for the login, saved under a name. Each is a TOML file that only its owner can
//! read.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use zim_client_sdk::Trust;

use crate::exit::{Exit, Failure};
use crate::options::Global;

/// The profile that is used if none is named or chosen.
const DEFAULT: &str = "default";
/// The file with the name that `zim profile use` chose.
const CURRENT: &str = "current";
/// The folder of the profile files.
const PROFILES: &str = "profiles";

/// The contents of a profile.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_id: Option<String>,
    /// `host:port`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app_sign: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// SHA-256 of the server's certificate in hex. Without it and `ca`, the system's roots are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<String>,
    /// A PEM file with the roots to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// The area that the server must be in, by its number in the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) area: Option<i64>,
}

/// The names of the areas on the command line, with their numbers in the reference.
pub(crate) const AREAS: [(&str, i64); 5] =
    [("china", 2), ("north-america", 3), ("europe", 4), ("asia", 5), ("india", 6)];

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("user_id", &self.user_id).field("server", &self.server).finish_non_exhaustive()
    }
}

impl Profile {
    /// Returns how the certificate of the server is verified.
    pub(crate) fn trust(&self) -> Result<Trust, Failure> {
        Ok(match (&self.fingerprint, &self.ca) {
            (Some(text), _) => Trust::Fingerprint(fingerprint(text).map_err(Failure::usage)?),
            (None, Some(file)) => Trust::CaFile(file.clone()),
            (None, None) => Trust::System,
        })
    }

    /// Replaces the trust settings, of either kind, if a new one is given.
    pub(crate) fn set_trust(&mut self, fingerprint: Option<String>, ca: Option<PathBuf>) {
        if fingerprint.is_some() || ca.is_some() {
            (self.fingerprint, self.ca) = (fingerprint, ca);
        }
    }
}

/// Parses the SHA-256 of a certificate: 64 hex digits, with or without colons.
pub(crate) fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    match Trust::fingerprint(text) {
        Some(Trust::Fingerprint(bytes)) => Ok(bytes),
        _ => Err("a fingerprint is a SHA-256: 64 hexadecimal digits".to_owned()),
    }
}

/// The folders of the profiles and of their local databases.
#[derive(Clone, Debug)]
pub(crate) struct Profiles {
    config: PathBuf,
    data: PathBuf,
}

impl Profiles {
    /// Uses the folder of `--config-dir` for everything; by default, the user's folders for configuration and for data.
    pub(crate) fn locate(global: &Global) -> Result<Self, Failure> {
        if let Some(folder) = &global.config_dir {
            return Ok(Self { config: folder.clone(), data: folder.join("data") });
        }
        let home = std::env::home_dir();
        let base = |variable: &str, below_home: &str| {
            let absolute = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            absolute.or_else(|| Some(home.as_ref()?.join(below_home))).map(|path| path.join("zim"))
        };
        base("XDG_CONFIG_HOME", ".config")
            .zip(base("XDG_DATA_HOME", ".local/share"))
            .map(|(config, data)| Self { config, data })
            .ok_or_else(|| Failure::other("there is no home folder").hint("choose a folder: --config-dir FOLDER"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.config.join(PROFILES).join(format!("{name}.toml"))
    }

    fn data_dir(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Returns the folder for the local databases of a profile, and closes it to others: an older version left it open.
    pub(crate) fn own_data_dir(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.data_dir(name);
        for own in [&self.data, &folder] {
            zim_files::own_folder(own).with_context(|| own.display().to_string())?;
        }
        Ok(folder)
    }

    /// Returns the name of the profile to use: the one named, else the one chosen, else the default.
    pub(crate) fn name(&self, global: &Global) -> Result<String, Failure> {
        let name = match &global.profile {
            Some(name) => name.clone(),
            None => self.current(),
        };
        check_name(&name)?;
        Ok(name)
    }

    fn current(&self) -> String {
        let chosen = fs::read_to_string(self.config.join(CURRENT)).unwrap_or_default();
        let chosen = chosen.trim();
        if chosen.is_empty() { DEFAULT.to_owned() } else { chosen.to_owned() }
    }

    pub(crate) fn choose(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        zim_files::create_folder(&self.config)?;
        Ok(zim_files::write(&self.config.join(CURRENT), format!("{name}\n").as_bytes())?)
    }

    /// Reads a profile; `None` if there is none of this name.
    pub(crate) fn load(&self, name: &str) -> Result<Option<Profile>, Failure> {
        let file = self.file(name);
        // A file restored from a backup may be readable by others.
        zim_files::close_to_others(&file);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::other(format!("{}: {error}", file.display()))),
        };
        let read = toml::from_str(&text).with_context(|| format!("{} cannot be read", file.display()));
        Ok(Some(read?))
    }

    /// Like [`Profiles::load`], but fails if the profile has no user.
    pub(crate) fn logged_in(&self, name: &str) -> Result<Profile, Failure> {
        let profile = self.load(name)?.filter(|profile| profile.user_id.is_some());
        profile.ok_or_else(|| {
            let (what, how) = match name {
                DEFAULT => ("not logged in".to_owned(), "zim login USER".to_owned()),
                _ => (format!("profile {name:?} is not logged in"), format!("zim --profile {name} login USER")),
            };
            Failure::new(Exit::Auth, what).hint(format!("{how} --server HOST:PORT --app-id N --app-sign-file FILE"))
        })
    }

    /// Returns the defaults for a new profile: those of the chosen profile, because most people use one server.
    pub(crate) fn template(&self) -> Result<Profile, Failure> {
        let known = self.load(&self.current())?.unwrap_or_default();
        // The token and the name belong to one user.
        Ok(Profile { user_id: None, token: None, ..known })
    }

    pub(crate) fn save(&self, name: &str, profile: &Profile) -> Result<(), Failure> {
        let text = toml::to_string(profile).context("a profile cannot be written")?;
        let file = self.file(name);
        let write = || {
            zim_files::own_folder(&self.config.join(PROFILES))?;
            zim_files::write(&file, text.as_bytes())
        };
        Ok(write().with_context(|| file.display().to_string())?)
    }

    /// Returns the names of all profiles, sorted.
    pub(crate) fn list(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(self.config.join(PROFILES)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry?.file_name();
            names.extend(file.to_str().and_then(|file| file.strip_suffix(".toml")).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Removes a profile and its local databases.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        fs::remove_file(self.file(name))?;
        match fs::remove_dir_all(self.data_dir(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    let good = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(good) {
        return Err(Failure::usage(format!("{name:?} is not a name for a profile: use letters, digits, - _ and .")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles() -> (tempfile::TempDir, Profiles, Global) {
        let dir = tempfile::tempdir().unwrap();
        let global = Global { config_dir: Some(dir.path().join("zim")), ..Global::default() };
        let profiles = Profiles::locate(&global).unwrap();
        (dir, profiles, global)
    }

    fn ann() -> Profile {
        Profile {
            user_id: Some("ann".into()),
            server: Some("chat.example:4710".into()),
            app_id: Some(7),
            app_sign: Some("secret sign".into()),
            token: Some("secret token".into()),
            fingerprint: Some("ab".repeat(32)),
            ca: None,
            area: None,
        }
    }

    #[test]
    fn a_saved_profile_is_loaded_and_only_its_owner_can_read_it() {
        let (_dir, profiles, _) = profiles();
        assert_eq!(profiles.load("ann").unwrap(), None);
        profiles.save("ann", &ann()).unwrap();
        assert_eq!(profiles.load("ann").unwrap(), Some(ann()));
        assert_eq!(profiles.list().unwrap(), ["ann"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            use std::path::Path;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&profiles.file("ann")), 0o600);
            assert_eq!(mode(profiles.file("ann").parent().unwrap()), 0o700);
        }
        profiles.remove("ann").unwrap();
        assert_eq!(profiles.load("ann").unwrap(), None);
    }

    #[test]
    fn a_named_profile_precedes_the_chosen_one_and_the_default() {
        let (_dir, profiles, mut global) = profiles();
        assert_eq!(profiles.name(&global).unwrap(), "default");
        profiles.choose("work").unwrap();
        assert_eq!(profiles.name(&global).unwrap(), "work");
        global.profile = Some("bob".into());
        assert_eq!(profiles.name(&global).unwrap(), "bob");
        for bad in ["", "../x", "a/b", ".hidden", "a b"] {
            global.profile = Some(bad.into());
            assert_eq!(profiles.name(&global).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
    }

    #[test]
    fn a_missing_profile_is_not_logged_in() {
        let (_dir, profiles, _) = profiles();
        let failure = profiles.logged_in("default").unwrap_err();
        assert_eq!(failure.exit, Exit::Auth);
        assert!(failure.hint.unwrap().starts_with("zim login USER"));
        assert!(profiles.logged_in("bob").unwrap_err().hint.unwrap().starts_with("zim --profile bob login"));
    }

    #[test]
    fn a_new_profile_takes_the_server_and_not_the_token() {
        let (_dir, profiles, _) = profiles();
        profiles.save("default", &ann()).unwrap();
        let template = profiles.template().unwrap();
        assert_eq!(template, Profile { user_id: None, token: None, ..ann() });
    }

    #[test]
    fn an_error_names_the_file_and_the_field() {
        let (_dir, profiles, _) = profiles();
        profiles.save("ann", &ann()).unwrap();
        fs::write(profiles.file("ann"), "user = \"ann\"").unwrap();
        let failure = profiles.load("ann").unwrap_err();
        assert!(failure.message.contains("ann.toml") && failure.message.contains("user"), "{}", failure.message);
    }

    #[test]
    fn trust_is_a_fingerprint_a_ca_file_or_the_system() {
        let mut profile = ann();
        assert!(matches!(profile.trust().unwrap(), Trust::Fingerprint(bytes) if bytes == [0xab; 32]));
        profile.set_trust(None, None);
        assert!(profile.fingerprint.is_some());
        profile.set_trust(None, Some("ca.pem".into()));
        assert!(matches!(profile.trust().unwrap(), Trust::CaFile(_)));
        profile.ca = None;
        assert!(matches!(profile.trust().unwrap(), Trust::System));
        assert!(fingerprint("AB:cd").is_err());
        assert_eq!(fingerprint(&["AB"; 32].join(":")).unwrap(), [0xab; 32]);
    }

    #[test]
    fn debug_shows_no_secrets() {
        assert!(!format!("{:?}", ann()).contains("secret"));
    }
}
