//! A server of one's own for a while: the real binary, in a temporary folder, on ports that the system chooses.

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
/// No server needs so long; one that does will never be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// A server that this program has started and will stop.
#[derive(Debug)]
pub(crate) struct LocalServer {
    child: Child,
    folder: TempDir,
    file: StartFile,
    ready_in: Duration,
}

impl LocalServer {
    /// Starts the binary with further arguments and perhaps a database elsewhere, and waits until it is ready.
    pub(crate) async fn start(
        binary: Option<&Path>,
        arguments: &[String],
        database: Option<&str>,
    ) -> Result<Self, Failure> {
        let binary = match binary {
            Some(binary) => binary.to_owned(),
            None => beside_this_program()?,
        };
        let mut folder = tempfile::Builder::new();
        folder.prefix("zim-");
        #[cfg(unix)]
        folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let folder = folder.tempdir()?;
        let started = Instant::now();
        let mut child = command(&binary, folder.path(), arguments, database)
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

    pub(crate) fn pid(&self) -> u32 {
        self.file.pid
    }

    /// From the start of the process until it took connections.
    pub(crate) fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// How to reach it.
    pub(crate) fn profile(&self) -> Result<Profile, Failure> {
        self.file.profile()
    }

    /// Stops it as an operator would, and removes its folder.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        ask_to_stop(&self.child);
        if timeout(STOPPED_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(self.folder.close()?)
    }
}

fn command(binary: &Path, folder: &Path, arguments: &[String], database: Option<&str>) -> Command {
    let mut command = Command::new(binary);
    command.arg("--data-dir").arg(folder);
    // The operator's socket is in the folder, where the system has such sockets.
    let admin = if cfg!(unix) { "local" } else { "127.0.0.1:0" };
    command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", admin]).args(arguments);
    // The settings of another server on this machine are not this one's.
    let settings = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ZIM_"));
    settings.for_each(|(name, _)| {
        command.env_remove(name);
    });
    if let Some(database) = database {
        // It may have a password, and arguments are seen by everybody.
        command.env("ZIM_DATABASE", database);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(folder)).kill_on_drop(true);
    command
}

/// Where the server's log goes; it is shown if the server does not start.
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
            let said = log.trim().lines().last().unwrap_or("it said nothing").to_owned();
            return Err(Failure::other(format!("the server ended at once ({status}): {said}")));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// The server that was built or installed together with this program.
fn beside_this_program() -> Result<PathBuf, Failure> {
    let this = std::env::current_exe()?;
    let name = format!("{BINARY}{}", std::env::consts::EXE_SUFFIX);
    let folder = this.parent().unwrap_or_else(|| Path::new("."));
    // A test's own binary is one folder below the programs.
    let places = [Some(folder), folder.parent()].into_iter().flatten().map(|folder| folder.join(&name));
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        Failure::other(format!("there is no {name} in {}", folder.display()))
            .hint("build it (cargo build --bin zim-server), or say where it is: --server-bin FILE")
    })
}

#[cfg(unix)]
fn ask_to_stop(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // If it is gone already, that is what was wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

#[cfg(not(unix))]
fn ask_to_stop(_child: &Child) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_an_argument() {
        let url = "postgres://zim:hunter2@127.0.0.1/bench";
        let command = command(Path::new("zim-server"), Path::new("data"), &[], Some(url));
        let command = command.as_std();
        assert!(command.get_args().all(|argument| !argument.to_string_lossy().contains("hunter2")), "{command:?}");
        let given = command.get_envs().find(|(name, _)| *name == "ZIM_DATABASE");
        assert_eq!(given.and_then(|(_, value)| value?.to_str()), Some(url));
    }
}
