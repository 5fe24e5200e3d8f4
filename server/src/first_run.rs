//! The first start: creates the operator's key and the first app, and tells the operator how to connect.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::Error;
use crate::folder::{Folder, FolderError};
use crate::net::AdminAddr;
use crate::tenant::Tenant;
use crate::tls::Fingerprint;

/// The file of the operator's key.
const ADMIN_KEY: &str = "admin.key";
/// The minimum length of the operator's key. A shorter one could be guessed.
const MIN_KEY: usize = 16;
/// The file of the first app with its secrets, for the app's own back end.
const FIRST_APP: &str = "first-app.toml";
/// The file with the addresses of the running server. It has no secrets, because it remains if the server is killed.
const START_FILE: &str = "server.json";

/// An app with its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The app ID.
    pub app_id: u32,
    /// The app sign, with which the clients of an app that trusts them log in: 64 hexadecimal digits.
    pub app_sign: String,
    /// The key of the app's tokens: 32 characters.
    pub server_secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

/// Whether the folder has a first app, so that its database must have one too.
pub(crate) fn has_first_app(folder: &Folder) -> bool {
    folder.file(FIRST_APP).exists()
}

/// Returns the first app of the server, and whether it was created now. It is the app in the file of the first app, also if
/// another one has a lower ID.
pub(crate) async fn first_app(app: &App, folder: &Folder) -> Result<(Credentials, bool), Error> {
    let in_file = app_in_file(folder);
    let first = in_file.and_then(|app_id| app.tenants.get(app_id)).or_else(|| app.tenants.list().into_iter().next());
    if let (Some(app_id), Some(first)) = (in_file, &first)
        && i64::from(app_id) != first.key.0
    {
        tracing::warn!(
            app_id,
            now = first.key.0,
            "{FIRST_APP} was of an app that the database does not have; it is rewritten"
        );
    }
    let (tenant, is_new) = match first {
        Some(tenant) => (tenant, false),
        None => (app.create_app(0, "first").await?, true),
    };
    let credentials = Credentials::of(&tenant);
    write_first_app(folder, &credentials).map_err(Error::internal)?;
    Ok((credentials, is_new))
}

/// Rewrites the file of the first app when its secrets are rotated, until `end`. If the app is deleted, another one takes its
/// place.
pub(crate) async fn update_first_app_file(app: Arc<App>, folder: Arc<Folder>, mut app_id: u32, end: CancellationToken) {
    let mut changes = app.tenants.changes.subscribe();
    while let Some(Ok(())) = end.run_until_cancelled(changes.changed()).await {
        let Some(tenant) = app.tenants.get(app_id).or_else(|| app.tenants.list().into_iter().next()) else { return };
        let first = Credentials::of(&tenant);
        let is_other = first.app_id != app_id;
        app_id = first.app_id;
        let written = write_first_app(&folder, &first)
            .and_then(|()| if is_other { change_start_file(&folder, app_id) } else { Ok(()) });
        if let Err(error) = written {
            tracing::error!(%error, "{FIRST_APP} has an outdated secret; the next start rewrites it");
        }
    }
}

/// Returns the app that the file of the first app is of.
fn app_in_file(folder: &Folder) -> Option<u32> {
    // Whatever is wrong with the file is reported when it is written.
    let bytes = folder.read_secret(&folder.file(FIRST_APP)).ok()?;
    let file: toml::Table = toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()?;
    u32::try_from(file.get("app_id")?.as_integer()?).ok()
}

/// Writes the file of the first app if it has changed. The command line on this machine reads it.
fn write_first_app(folder: &Folder, credentials: &Credentials) -> Result<(), FolderError> {
    let wanted = credentials.to_file().into_bytes();
    let found = folder.secret(FIRST_APP, || Ok::<_, FolderError>(wanted.clone()))?;
    if found == wanted { Ok(()) } else { folder.write(FIRST_APP, &wanted) }
}

impl Credentials {
    fn of(tenant: &Tenant) -> Self {
        let access = tenant.access();
        Self {
            // An app's key is its app ID.
            app_id: u32::try_from(tenant.key.0).unwrap_or_default(),
            app_sign: access.app_sign.value.clone(),
            server_secret: access.server_secret.value.clone(),
        }
    }

    fn to_file(&self) -> String {
        let Self { app_id, app_sign, server_secret } = self;
        format!(
            "# The first app, for you and for the command line. The server keeps its own copy. It rewrites this file when it \
             starts and when a secret is rotated.\n\
             app_id = {app_id}\napp_sign = \"{app_sign}\"\nserver_secret = \"{server_secret}\"\n"
        )
    }
}

/// Returns the operator's key; generates it if there is none.
pub(crate) fn admin_key(folder: &Folder) -> Result<String, FolderError> {
    let bytes = folder.secret(ADMIN_KEY, || {
        let mut random = [0; 32];
        let failed = |error| FolderError::at(&folder.file(ADMIN_KEY))(io::Error::other(error));
        getrandom::fill(&mut random).map_err(failed)?;
        Ok::<_, FolderError>(zim_protocol::id::hex(&random).into_bytes())
    })?;
    let key = String::from_utf8_lossy(&bytes).trim().to_owned();
    if key.len() < MIN_KEY {
        let problem = format!(
            "the key has {} characters; at least {MIN_KEY} are required. Remove the file to generate one",
            key.len()
        );
        return Err(FolderError::at(&folder.file(ADMIN_KEY))(io::Error::other(problem)));
    }
    Ok(key)
}

/// The content of the start file. The file exists while the server runs, so that a tool on the same machine needs only the data
/// folder.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartFile<'a> {
    pid: u32,
    version: &'a str,
    server: String,
    http: Option<String>,
    admin: Option<String>,
    fingerprint: String,
    #[serde(rename = "appID")]
    app_id: u32,
}

/// Removes the start file when it is dropped.
#[derive(Debug)]
pub(crate) struct StartFileGuard(PathBuf);

impl Drop for StartFileGuard {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, "the start file cannot be removed");
        }
    }
}

/// Writes the start file.
pub(crate) fn write_start_file(folder: &Folder, banner: &Banner<'_>) -> Result<StartFileGuard, FolderError> {
    let file = StartFile {
        pid: std::process::id(),
        server: reachable(banner.listen).to_string(),
        version: env!("CARGO_PKG_VERSION"),
        http: banner.http.map(|address| reachable(address).to_string()),
        admin: banner.admin.map(reachable_operator),
        fingerprint: banner.fingerprint.to_string(),
        app_id: banner.app.app_id,
    };
    let failed = |error| FolderError::at(&folder.file(START_FILE))(io::Error::other(error));
    folder.write(START_FILE, &serde_json::to_vec_pretty(&file).map_err(failed)?)?;
    Ok(StartFileGuard(folder.file(START_FILE)))
}

/// Writes another app into the start file.
fn change_start_file(folder: &Folder, app_id: u32) -> Result<(), FolderError> {
    let file = folder.file(START_FILE);
    let failed = FolderError::at(&file);
    let mut content: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&file).map_err(&failed)?)
            .map_err(|error| failed(io::Error::other(error)))?;
    content.insert("appID".to_owned(), app_id.into());
    let bytes = serde_json::to_vec_pretty(&content).map_err(|error| failed(io::Error::other(error)))?;
    folder.write(START_FILE, &bytes)
}

/// Explains in a few lines how to connect.
#[derive(Debug)]
pub(crate) struct Banner<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) admin: Option<&'a AdminAddr>,
    pub(crate) app: &'a Credentials,
    /// Whether to show the app sign, which must not end up in a log that others read.
    pub(crate) shows_app_sign: bool,
    /// Whether the app accepts AES-CBC tokens.
    pub(crate) cbc_tokens: bool,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) data_dir: PathBuf,
    pub(crate) database: String,
}

/// Returns the address by which a client on this machine reaches a server that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}

/// Returns the address by which the operator on this machine reaches the service.
fn reachable_operator(address: &AdminAddr) -> String {
    match address {
        AdminAddr::Tls(address) => AdminAddr::Tls(reachable(*address)).to_string(),
        local => local.to_string(),
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, http, admin, app, shows_app_sign, cbc_tokens, fingerprint, data_dir, database } = self;
        let data_dir = data_dir.display();
        writeln!(f, "zim-server {} is ready.\n", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  address      {listen} (QUIC, UDP)")?;
        writeln!(f, "  app id       {}", app.app_id)?;
        if *shows_app_sign {
            writeln!(f, "  app sign     {}", app.app_sign)?;
        }
        if *cbc_tokens {
            writeln!(f, "  tokens       AES-GCM and AES-CBC (to refuse AES-CBC: zim admin app set --cbc-tokens off)")?;
        } else {
            writeln!(f, "  tokens       AES-GCM (to accept AES-CBC, too: zim admin app set --cbc-tokens on)")?;
        }
        writeln!(f, "  fingerprint  {fingerprint}")?;
        writeln!(f, "  data         {data_dir} (database: {database})")?;
        writeln!(f, "  secrets      {data_dir}/{FIRST_APP}")?;
        if let Some(http) = http {
            writeln!(f, "  health       http://{http}/health")?;
        }
        if let Some(admin) = admin {
            writeln!(f, "  operator     {admin}, key in {data_dir}/{ADMIN_KEY}")?;
        }
        writeln!(f, "\nTo log in on this machine:\n")?;
        writeln!(f, "  zim login ann --server-data {data_dir}\n")?;
        writeln!(f, "To log in on another machine, with the app sign from {FIRST_APP}:\n")?;
        writeln!(
            f,
            "  ZIM_APP_SIGN=… zim login ann --server {} --app-id {} --fingerprint {fingerprint}\n",
            reachable(*listen),
            app.app_id,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const OPERATOR: &AdminAddr = &AdminAddr::Tls(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4712));

    fn app() -> Credentials {
        Credentials { app_id: 7, app_sign: "ab".repeat(32), server_secret: "0123456789abcdef".repeat(2) }
    }

    fn banner(app: &Credentials) -> Banner<'_> {
        Banner {
            listen: "0.0.0.0:4710".parse().unwrap(),
            http: None,
            admin: Some(OPERATOR),
            app,
            shows_app_sign: false,
            cbc_tokens: false,
            fingerprint: Fingerprint([1; 32]),
            data_dir: PathBuf::from("zim-data"),
            database: "SQLite".to_owned(),
        }
    }

    #[test]
    fn the_banner_explains_how_to_connect_and_shows_only_allowed_secrets() {
        let app = app();
        let mut banner = banner(&app);
        let text = banner.to_string();
        assert!(text.contains("--server 127.0.0.1:4710 --app-id 7 --fingerprint 0101"), "{text}");
        assert!(text.contains("--server-data zim-data") && text.contains("zim-data/first-app.toml"), "{text}");
        assert!(!text.contains(&app.app_sign), "{text}");
        assert!(text.contains("zim admin app set --cbc-tokens on"), "{text}");
        banner.shows_app_sign = true;
        let text = banner.to_string();
        assert_eq!(
            text.matches(&app.app_sign).count(),
            1,
            "the app sign must not be in a command, where others on the machine can see it: {text}"
        );
        assert!(!text.contains(&app.server_secret), "{text}");
        assert!(!format!("{app:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn the_start_file_exists_while_the_server_runs_and_has_no_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&Config::local(dir.path().join("data"))).unwrap();
        let app = app();
        let running = write_start_file(&folder, &banner(&app)).unwrap();
        let text = std::fs::read(folder.file(START_FILE)).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&file["server"], &file["admin"]), (&"127.0.0.1:4710".into(), &"https://127.0.0.1:4712".into()));
        assert_eq!(file["appID"], 7);
        assert!(file["http"].is_null());
        let names: Vec<&str> = file.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["admin", "appID", "fingerprint", "http", "pid", "server", "version"]);
        drop(running);
        assert!(!folder.file(START_FILE).exists());
    }

    #[test]
    fn the_file_of_the_first_app_is_updated() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&Config::local(dir.path().join("data"))).unwrap();
        let read =
            || -> toml::Table { toml::from_str(&std::fs::read_to_string(folder.file(FIRST_APP)).unwrap()).unwrap() };
        let mut app = app();
        write_first_app(&folder, &app).unwrap();
        assert_eq!(read()["app_sign"].as_str(), Some(app.app_sign.as_str()));
        // The file belongs to another database, or is older than a new secret.
        app.app_sign = "cd".repeat(32);
        write_first_app(&folder, &app).unwrap();
        assert_eq!(read()["app_sign"].as_str(), Some(app.app_sign.as_str()));
        assert_eq!(read()["server_secret"].as_str(), Some(app.server_secret.as_str()));
    }

    #[test]
    fn the_key_is_generated_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&Config::local(dir.path().join("data"))).unwrap();
        let key = admin_key(&folder).unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(admin_key(&folder).unwrap(), key);
        // The operator may choose another key, but not one that is too short.
        for short in ["", " \n", "0123456789abcde\n"] {
            folder.write(ADMIN_KEY, short.as_bytes()).unwrap();
            assert!(admin_key(&folder).unwrap_err().to_string().contains("at least 16 are required"), "{short:?}");
        }
        folder.write(ADMIN_KEY, b"0123456789abcdef\n").unwrap();
        assert_eq!(admin_key(&folder).unwrap(), "0123456789abcdef");
    }
}
