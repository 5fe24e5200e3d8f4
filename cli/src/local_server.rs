//! A temporary server: the server binary in a temporary folder, on ports that the system chooses.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::exit::Failure;
use crate::profile::Profile;
use crate::start_file::StartFile;

const BINARY: &str = "zim-server";
/// Much longer than a server needs to start: one that takes longer will never be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// What all nodes of a deployment have in common: a certificate, keys and the first app.
const IDENTITY: [&str; 5] = ["cert.pem", "key.pem", "transport.key", "admin.key", "first-app.toml"];

/// What a server shares with others, or finds when it starts; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shared<'a> {
    /// The URL of another database than the one in the folder.
    pub(crate) database: Option<&'a str>,
    /// The URL of the bus, if the server is a node.
    pub(crate) bus: Option<&'a str>,
    /// A folder with the certificate, the keys and the first app of its deployment.
    pub(crate) identity: Option<&'a Path>,
}

/// A temporary folder for this user alone.
pub(crate) fn private_folder() -> io::Result<TempDir> {
    let mut folder = tempfile::Builder::new();
    folder.prefix("zim-");
    #[cfg(unix)]
    folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    folder.tempdir()
}

/// Gives a folder what the nodes of a deployment have in common, as an operator does.
pub(crate) fn copy_identity(from: &Path, to: &Path) -> io::Result<()> {
    IDENTITY.iter().try_for_each(|name| zim_files::write(&to.join(name), &std::fs::read(from.join(name))?))
}

/// A server that this program starts and stops.
#[derive(Debug)]
pub(crate) struct LocalServer {
    child: Child,
    folder: TempDir,
    file: StartFile,
    ready_in: Duration,
}

impl LocalServer {
    /// Starts the binary with additional arguments and waits until it is ready.
    pub(crate) async fn start(
        binary: Option<&Path>,
        arguments: &[String],
        shared: Shared<'_>,
    ) -> Result<Self, Failure> {
        let binary = match binary {
            Some(binary) => binary.to_owned(),
            None => beside_this_program()?,
        };
        let folder = private_folder()?;
        if let Some(identity) = shared.identity {
            copy_identity(identity, folder.path())?;
        }
        let started = Instant::now();
        let mut child = command(&binary, folder.path(), arguments, shared)
            .spawn()
            .map_err(|error| Failure::other(format!("{} cannot be started: {error}", binary.display())))?;
        let file = timeout(READY_WITHIN, ready(&mut child, folder.path())).await.map_err(|_| {
            Failure::other(format!("{} is not ready after {} s", binary.display(), READY_WITHIN.as_secs()))
        })??;
        Ok(Self { child, folder, file, ready_in: started.elapsed() })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn address(&self) -> &str {
        &self.file.server
    }

    /// Returns the address of the metrics.
    pub(crate) fn http(&self) -> Option<&str> {
        self.file.http.as_deref()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.file.pid
    }

    /// Returns the time from the start of the process until it accepted connections.
    pub(crate) fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// Returns a profile for this server, without a user.
    pub(crate) fn profile(&self) -> Result<Profile, Failure> {
        self.file.profile()
    }

    /// Stops the server like an operator, with SIGTERM, and removes its folder.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        ask_to_stop(&self.child);
        if timeout(STOPPED_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(self.folder.close()?)
    }
}

fn command(binary: &Path, folder: &Path, arguments: &[String], shared: Shared<'_>) -> Command {
    let mut command = Command::new(binary);
    command.arg("--data-dir").arg(folder);
    // On Unix the operator's service listens on a socket in the folder.
    let admin = if cfg!(unix) { "local" } else { "127.0.0.1:0" };
    command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", admin]).args(arguments);
    // The settings of another server on this machine must not apply to this one.
    let settings = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ZIM_"));
    settings.for_each(|(name, _)| {
        command.env_remove(name);
    });
    // A URL may contain a password, and every user of the machine can see arguments.
    for (name, url) in [("ZIM_DATABASE", shared.database), ("ZIM_BUS", shared.bus)] {
        if let Some(url) = url {
            command.env(name, url);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(folder)).kill_on_drop(true);
    command
}

/// Opens the file for the server's log. Its last line is shown if the server does not start.
fn log_file(folder: &Path) -> Stdio {
    let mut options = std::fs::OpenOptions::new();
    let file = zim_files::open(&folder.join("log"), options.create(true).append(true));
    file.map_or_else(|_| Stdio::null(), Stdio::from)
}

async fn ready(child: &mut Child, folder: &Path) -> Result<StartFile, Failure> {
    loop {
        if let Some(file) = StartFile::read(folder)? {
            return Ok(file);
        }
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            let last_line = log.trim().lines().last().unwrap_or("the log is empty").to_owned();
            return Err(Failure::other(format!("the server ended while starting ({status}): {last_line}")));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the server binary that was built or installed together with this program.
fn beside_this_program() -> Result<PathBuf, Failure> {
    let this = std::env::current_exe()?;
    let name = format!("{BINARY}{}", std::env::consts::EXE_SUFFIX);
    let folder = this.parent().unwrap_or_else(|| Path::new("."));
    // The binary of a test is one folder below the programs.
    let places = [Some(folder), folder.parent()].into_iter().flatten().map(|folder| folder.join(&name));
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        Failure::other(format!("there is no {name} in {}", folder.display()))
            .hint("build it (cargo build --bin zim-server), or name it: --server-bin FILE")
    })
}

#[cfg(unix)]
fn ask_to_stop(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // An error means that the process has ended already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

#[cfg(not(unix))]
fn ask_to_stop(_child: &Child) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_passwords_are_not_arguments() {
        let (database, bus) = ("postgres://zim:hunter2@127.0.0.1/bench", "nats://zim:hunter2@127.0.0.1");
        let shared = Shared { database: Some(database), bus: Some(bus), identity: None };
        let command = command(Path::new("zim-server"), Path::new("data"), &[], shared);
        let command = command.as_std();
        assert!(command.get_args().all(|argument| !argument.to_string_lossy().contains("hunter2")), "{command:?}");
        for (name, url) in [("ZIM_DATABASE", database), ("ZIM_BUS", bus)] {
            let given = command.get_envs().find(|(given, _)| *given == name);
            assert_eq!(given.and_then(|(_, value)| value?.to_str()), Some(url));
        }
    }

    #[test]
    fn nodes_have_the_same_identity() {
        let (one, two) = (private_folder().unwrap(), private_folder().unwrap());
        for name in IDENTITY {
            zim_files::write(&one.path().join(name), name.as_bytes()).unwrap();
        }
        zim_files::write(&one.path().join("zim.db"), b"not shared").unwrap();
        copy_identity(one.path(), two.path()).unwrap();
        for name in IDENTITY {
            assert_eq!(std::fs::read(two.path().join(name)).unwrap(), name.as_bytes());
        }
        assert!(!two.path().join("zim.db").exists());
        // A folder without keys is no identity.
        assert!(copy_identity(private_folder().unwrap().path(), two.path()).is_err());
    }
}
