//! The server of a day: a process with its data in a folder, and the same ports before and after a restart. The nodes of a rolling
//! upgrade are such servers, too.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::process::{FirstApp, ServerInstallation};

/// The longest wait for a server that starts or stops.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// The longest wait for the metrics, or another page.
const METRICS: Duration = Duration::from_secs(10);

/// The program of a server, and its arguments before those of the day.
#[derive(Clone, Debug)]
pub struct ServerProgram {
    /// The program: `zim-server`, or one that acts as it.
    pub path: PathBuf,
    /// What makes it a server.
    pub arguments: Vec<String>,
}

/// The first argument of a program that is to act as the server.
const SERVE: &str = "serve";

/// Runs the server, as `zim-server` does, if the arguments of this program say so. Tests use it, because they cannot count on the other
/// program.
pub fn serve() -> Option<ExitCode> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    arguments.get(1).filter(|first| *first == SERVE)?;
    arguments.remove(1);
    Some(zim_server::run::run(arguments, std::env::vars_os()))
}

impl ServerProgram {
    /// A program that begins with [`serve`].
    pub fn that_serves(path: &str) -> Self {
        Self { path: path.into(), arguments: vec![SERVE.to_owned()] }
    }

    /// A program like `zim-server`; without a path, the one that was built together with this program.
    ///
    /// # Errors
    /// There is no such program.
    pub fn at(path: Option<&Path>) -> anyhow::Result<Self> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()?.with_file_name(format!("zim-server{}", std::env::consts::EXE_SUFFIX)),
        };
        ensure!(path.is_file(), "there is no program {} (cargo build --bin zim-server makes one)", path.display());
        // A name without a folder would be looked for on the path.
        Ok(Self { path: std::path::absolute(path)?, arguments: Vec::new() })
    }
}

/// A server that was started, or will be.
#[derive(Debug)]
pub(crate) struct Host {
    program: ServerProgram,
    installation: ServerInstallation,
    settings: Vec<String>,
    child: Option<Child>,
    http: String,
}

impl Host {
    /// A server with its data in a folder, which need not exist, and these settings.
    pub(crate) fn new(program: ServerProgram, folder: &Path, settings: Vec<String>) -> Self {
        let installation = ServerInstallation::new(&program.path, folder, "");
        Self { program, installation, settings, child: None, http: String::new() }
    }

    /// Runs another program from the next start on, with the same data and address.
    pub(crate) fn replace(&mut self, program: ServerProgram) {
        self.program = program;
    }

    /// Starts the process, and waits until it is ready.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let folder = &self.installation.folder;
        let log = File::options().create(true).append(true).open(self.installation.log())?;
        let mut command = Command::new(&self.program.path);
        command.args(&self.program.arguments).arg("--data-dir").arg(folder);
        command.args(["--listen", self.address().as_str(), "--http", "127.0.0.1:0", "--admin", "off"]);
        command.args(self.settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
        // The settings of another server on this machine must not apply to this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ZIM_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().with_context(|| format!("{} cannot be run", self.program.path.display()))?;
        let pid = child.id();
        self.child = Some(child);
        let begun = Instant::now();
        while !self.is_ready(pid) {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().transpose()).transpose()?;
            if let Some(status) = ended {
                bail!("the server ended while starting ({status}): {}", self.last_of_log());
            }
            ensure!(begun.elapsed() < PATIENCE, "the server is not ready: {}", self.last_of_log());
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether the process has written where it listens.
    fn is_ready(&mut self, pid: u32) -> bool {
        let Ok(bytes) = std::fs::read(self.installation.folder.join("server.json")) else { return false };
        let Ok(file) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return false };
        let is_own = file["pid"].as_u64() == Some(pid.into());
        if let Some(http) = file["http"].as_str().filter(|_| is_own) {
            http.clone_into(&mut self.http);
        }
        is_own
    }

    /// Stops the process as an operator does, and waits until it has ended.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the server does not run")?;
        let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status()?;
        ensure!(sent.success(), "the server has ended by itself: {}", self.last_of_log());
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}: {}", self.last_of_log());
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                bail!("the server does not stop: {}", self.last_of_log());
            }
            sleep(POLL).await;
        }
    }

    /// The address that clients connect to.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.installation.port)
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.installation.folder
    }

    /// Returns the first app of a server that has started.
    pub(crate) fn first_app(&self) -> anyhow::Result<FirstApp> {
        self.installation.first_app()
    }

    /// Whether the process runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Returns what the server says of itself on `/ready`; `None` if it does not answer.
    pub(crate) async fn readiness(&self) -> Option<String> {
        let answer = timeout(METRICS, get(&self.http, "/ready")).await.ok()?.ok()?;
        answer.rsplit("\r\n\r\n").next().map(|body| body.trim().to_owned())
    }

    /// Returns the memory of the process; `None` if it does not run, or on other systems than Linux.
    pub(super) fn rss_bytes(&self) -> Option<u64> {
        rss_bytes(self.child.as_ref()?.id())
    }

    /// Returns the number of devices that are logged in, by the server's metrics; `None` if the server does not answer.
    pub(super) async fn sessions(&self) -> Option<u64> {
        let metrics = timeout(METRICS, get(&self.http, "/metrics")).await.ok()?.ok()?;
        gauge(&metrics, "zim_sessions")
    }

    /// Returns the lines of the log that are errors, and how many warnings it has.
    pub(crate) fn complaints(&self) -> (Vec<String>, usize) {
        let log = std::fs::read(self.installation.log()).unwrap_or_default();
        complaints(&String::from_utf8_lossy(&log))
    }

    /// Returns the end of the log.
    pub(crate) fn last_of_log(&self) -> String {
        let log = std::fs::read(self.installation.log()).unwrap_or_default();
        let last = log.get(log.len().saturating_sub(2_000)..).unwrap_or_default();
        String::from_utf8_lossy(last).into_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns the memory of a process; `None` if there is none, or on other systems than Linux.
pub(super) fn rss_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// Reads a page of a server, with the head of the answer.
async fn get(http: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Returns the sum of a gauge over its labels, from metrics in the format of Prometheus.
fn gauge(metrics: &str, name: &str) -> Option<u64> {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.split_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<u64>().ok()
    });
    values.fold(None, |sum: Option<u64>, value| Some(sum.unwrap_or(0) + value))
}

/// Returns the lines of a log that are errors, and how many are warnings. A line begins with its time and its level.
fn complaints(log: &str) -> (Vec<String>, usize) {
    let level = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let errors = log.lines().filter(|line| level(line) == "ERROR").map(str::to_owned).collect();
    (errors, log.lines().filter(|line| level(line) == "WARN").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_summed_over_its_labels() {
        let metrics =
            "# TYPE zim_sessions gauge\nzim_sessions{app=\"1\"} 3\nzim_sessions{app=\"2\"} 4\nzim_sessions_x 9\n";
        assert_eq!(gauge(metrics, "zim_sessions"), Some(7));
        assert_eq!(gauge("zim_sessions 5\n", "zim_sessions"), Some(5));
        assert_eq!(gauge("", "zim_sessions"), None);
    }

    #[test]
    fn errors_of_a_log_are_found_by_their_level() {
        let log = "2026-01-01T00:00:00Z  INFO zim_server: ERROR is a word here\n\
                   2026-01-01T00:00:01Z ERROR zim_server: broken\n2026-01-01T00:00:02Z  WARN zim_server: odd\n";
        let (errors, warnings) = complaints(log);
        assert_eq!((errors.len(), warnings), (1, 1));
        assert!(errors[0].ends_with("broken"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        assert!(rss_bytes(std::process::id()).unwrap() > 100_000 && rss_bytes(u32::MAX).is_none());
    }
}
