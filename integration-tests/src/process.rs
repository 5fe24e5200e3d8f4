//! Servers and clients as child processes, which a test controls by lines and may kill.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::mpsc;
use zim_client_sdk::Trust;

use crate::port::free_port;
use crate::trace::{self, traced};
use crate::wait::TIMEOUT;

/// The exit code of a supervised node that no longer may use its database.
pub const DATABASE_LOST: u8 = 9;

/// A child process, killed on drop.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    child: Child,
    stdin: ChildStdin,
    reader: Option<JoinHandle<()>>,
}

impl ChildProcess {
    /// Starts a program. A thread passes each line that it prints to `on_line`; its stderr is appended to the file
    /// `log`.
    pub(crate) fn start(
        command: &mut Command,
        log: &Path,
        mut on_line: impl FnMut(String) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be run", command.get_program().display()))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let reader = std::thread::spawn(move || {
            // Ends at a line that is not UTF-8, as a kill may leave one.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                on_line(line);
            }
        });
        Ok(Self { child, stdin, reader: Some(reader) })
    }

    /// Writes a line to its stdin. Ignores errors: the answer is missing then.
    pub(crate) fn write_line(&mut self, line: &str) {
        let _ = writeln!(self.stdin, "{line}");
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The code with which it has ended; `None`: it runs, or a signal has ended it.
    fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok()??.code()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What it printed before its end is passed on before a successor prints anything.
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// The program, data and port of a server, whether or not its process runs.
#[derive(Clone, Debug)]
pub struct ServerInstallation {
    /// The program `test-server`.
    pub program: PathBuf,
    /// The data folder.
    pub folder: PathBuf,
    /// The address of the database; empty means SQLite in the data folder.
    pub database: String,
    /// The port it listens on.
    pub port: u16,
    /// The address of the bus and the lease of a node, milliseconds.
    pub node: Option<(String, u32)>,
    /// It keeps what is said in rooms.
    pub keeps_rooms: bool,
    /// Times of rooms and calls pass within a run: who has no connection leaves a room soon.
    pub is_hasty: bool,
    /// As in production, its clock follows that of the database, and it ends when it may no longer use the database.
    pub is_supervised: bool,
    /// How far ahead its clock is when it starts, milliseconds.
    pub ahead_ms: i64,
    /// The file for a trace of what it writes, for [`PowerCuts`](crate::PowerCuts). It needs `strace`.
    pub trace: Option<PathBuf>,
}

/// The first app of a server, as clients need it.
#[derive(Clone, Debug)]
pub struct FirstApp {
    /// The app id.
    pub app_id: u32,
    /// The app sign.
    pub app_sign: String,
    /// The fingerprint of the certificate, in hex.
    pub fingerprint: String,
}

impl FirstApp {
    /// Returns how the SDK trusts the server.
    pub fn trust(&self) -> Trust {
        Trust::fingerprint(&self.fingerprint).expect("a fingerprint")
    }
}

impl ServerInstallation {
    /// A server that has not run yet; `folder` need not exist.
    pub fn new(program: impl Into<PathBuf>, folder: impl Into<PathBuf>, database: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            folder: folder.into(),
            database: database.into(),
            port: free_port(),
            node: None,
            keeps_rooms: false,
            is_hasty: false,
            is_supervised: false,
            ahead_ms: 0,
            trace: None,
        }
    }

    /// Reads the first app, which the server writes when it starts.
    ///
    /// # Errors
    /// The server has not started yet.
    pub fn first_app(&self) -> anyhow::Result<FirstApp> {
        let server: serde_json::Value = serde_json::from_slice(&std::fs::read(self.folder.join("server.json"))?)?;
        let app_id = u32::try_from(server["appID"].as_u64().context("no appID")?)?;
        let fingerprint = server["fingerprint"].as_str().context("no fingerprint")?.to_owned();
        let app: toml::Table = toml::from_str(&std::fs::read_to_string(self.folder.join("first-app.toml"))?)?;
        let app_sign = app.get("app_sign").and_then(toml::Value::as_str).context("no app_sign")?.to_owned();
        Ok(FirstApp { app_id, app_sign, fingerprint })
    }

    /// Reads the server's certificate.
    ///
    /// # Errors
    /// The server has not started yet.
    pub fn certificate(&self) -> anyhow::Result<CertificateDer<'static>> {
        Ok(CertificateDer::from_pem_file(self.folder.join("cert.pem"))?)
    }

    /// Returns the path of its log.
    pub fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// Starts the server, on the same port as before.
    ///
    /// # Errors
    /// It does not start; the log says why.
    pub async fn start(&mut self) -> anyhow::Result<ServerProcess> {
        let mut tries = 0;
        loop {
            let before = std::fs::metadata(self.log()).map_or(0, |log| log.len());
            let started = self.start_once().await;
            let is_busy = || {
                let log = std::fs::read(self.log()).unwrap_or_default();
                let new = log.get(usize::try_from(before).unwrap_or(0)..).unwrap_or_default();
                String::from_utf8_lossy(new).contains("another server uses this PostgreSQL database")
            };
            // PostgreSQL takes a moment to notice that a killed server is gone, and a second one does not start.
            if started.is_ok() || tries == 50 || !is_busy() {
                return started;
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The end of the log, which says why the server did not start. The folder may be temporary.
    fn last_of_log(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let last = log.get(log.len().saturating_sub(2_000)..).unwrap_or_default();
        format!("{} ends with: {}", self.log().display(), String::from_utf8_lossy(last))
    }

    async fn start_once(&mut self) -> anyhow::Result<ServerProcess> {
        // Ignores SIGXFSZ, so that a write beyond the limit of `ServerProcess::limit_files` fails with an error.
        let mut command = match &self.trace {
            Some(trace) => traced("sh", trace)?,
            None => Command::new("sh"),
        };
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        command.arg(&self.program).arg(&self.folder).arg(&self.database).arg(self.port.to_string());
        if let Some((bus, lease_ms)) = &self.node {
            command.arg(bus).arg(lease_ms.to_string());
        }
        command.args(self.keeps_rooms.then_some("keeps-rooms"));
        command.args(self.is_hasty.then_some("hasty"));
        if self.is_supervised {
            command.arg(format!("supervised={}", self.ahead_ms));
        }
        let (sender, mut lines) = mpsc::unbounded_channel();
        // Fails when the receiver is dropped.
        let process = ChildProcess::start(&mut command, &self.log(), move |line| drop(sender.send(line)))?;
        let address = next_line(&mut lines).await.with_context(|| self.last_of_log())?;
        if let Some(trace) = &self.trace {
            trace::check(trace).with_context(|| self.last_of_log())?;
        }
        let address: SocketAddr = address.parse()?;
        Ok(ServerProcess { process, lines, owed: 0, address })
    }

    /// Copies its SQLite database to PostgreSQL, as an operator does.
    ///
    /// # Errors
    /// The command fails.
    pub fn migrate(&self, to: &str) -> anyhow::Result<String> {
        let done = Command::new(&self.program).arg("migrate").arg(&self.folder).arg(to).output()?;
        if !done.status.success() {
            bail!("migrate failed: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Runs `new-epoch`, as an operator does after a restore.
    ///
    /// # Errors
    /// The command fails.
    pub(crate) fn new_epoch(&self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        let done = command.arg("new-epoch").arg(&self.folder).arg(&self.database).output()?;
        if !done.status.success() {
            bail!("new-epoch failed: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }
}

async fn next_line(lines: &mut mpsc::UnboundedReceiver<String>) -> anyhow::Result<String> {
    let line = tokio::time::timeout(TIMEOUT, lines.recv()).await.context("no answer in time")?;
    line.context("the server has ended")
}

/// A server as a child process, killed on drop.
#[derive(Debug)]
pub struct ServerProcess {
    process: ChildProcess,
    lines: mpsc::UnboundedReceiver<String>,
    /// Commands without an answer, because nobody waits for it any more.
    owed: usize,
    address: SocketAddr,
}

impl ServerProcess {
    /// Returns its process ID.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }

    /// Whether it has ended because it may no longer use its database.
    pub fn has_lost_its_database(&mut self) -> bool {
        self.process.exit_code() == Some(i32::from(DATABASE_LOST))
    }

    /// Runs a command of `test-server` and waits for its end. If it is cancelled, its answer is not taken for that of a later one.
    ///
    /// # Errors
    /// The process has ended, or the command fails.
    pub async fn run(&mut self, command: &str) -> anyhow::Result<String> {
        self.process.write_line(command);
        self.owed += 1;
        let mut answer = String::new();
        while self.owed > 0 {
            answer = next_line(&mut self.lines).await.with_context(|| command.to_owned())?;
            self.owed -= 1;
        }
        answer.strip_prefix("done").map(|rest| rest.trim().to_owned()).with_context(|| format!("{command}: {answer}"))
    }

    /// Stops the server as an operator does; returns how many tasks it left behind.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(mut self) -> anyhow::Result<usize> {
        Ok(self.run("stop").await?.parse()?)
    }

    /// Limits the size of every file that it writes to `bytes`: writes fail in the middle, as on a failing disk. `None`
    /// removes the limit.
    ///
    /// # Errors
    /// The system has no `prlimit`.
    pub fn limit_files(&self, bytes: Option<u64>) -> anyhow::Result<()> {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let mut command = Command::new("prlimit");
        let done = command.arg(format!("--pid={}", self.process.id())).arg(format!("--fsize={limit}:unlimited"));
        let done = done.output().context("prlimit cannot be run")?;
        if !done.status.success() {
            bail!("prlimit failed: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// Sends a signal, such as `STOP`, which pauses it.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status()?;
        if sent.success() { Ok(()) } else { bail!("the process has ended") }
    }

    /// Sends SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}
