//! Programs of their own that a test talks to in lines: a server that it kills, clients that it kills.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::mpsc;
use zim_client_sdk::Trust;

use crate::wait::TIMEOUT;

/// A process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    child: Child,
    stdin: ChildStdin,
}

impl ChildProcess {
    /// Starts a program. Each line that it prints goes to `hear`, on a thread of its own; what it logs goes to the end of
    /// the file `log`.
    pub(crate) fn start(
        command: &mut Command,
        log: &Path,
        mut hear: impl FnMut(String) + Send + 'static,
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
        std::thread::spawn(move || {
            // A line that a kill cut in two is no line.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                hear(line);
            }
        });
        Ok(Self { child, stdin })
    }

    /// Says a line. That nobody receives it shows in the missing answer.
    pub(crate) fn say(&mut self, line: &str) {
        let _ = writeln!(self.stdin, "{line}");
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a server lives, whatever becomes of its process.
#[derive(Clone, Debug)]
pub struct ServerInstallation {
    /// The program: `test-server`.
    pub program: PathBuf,
    /// Its data folder.
    pub folder: PathBuf,
    /// Its database's address; empty is SQLite in the folder.
    pub database: String,
    /// Where it listens; 0 until it was started once.
    pub port: u16,
}

/// How clients reach a server.
#[derive(Clone, Debug)]
pub struct FirstApp {
    /// The app.
    pub app_id: u32,
    /// Its secret.
    pub app_sign: String,
    /// The fingerprint of the certificate, in hex.
    pub fingerprint: String,
}

impl FirstApp {
    /// How the SDK trusts the server.
    pub fn trust(&self) -> Trust {
        Trust::fingerprint(&self.fingerprint).expect("a fingerprint")
    }
}

impl ServerInstallation {
    /// A server that never ran; `folder` need not be there.
    pub fn new(program: impl Into<PathBuf>, folder: impl Into<PathBuf>, database: impl Into<String>) -> Self {
        Self { program: program.into(), folder: folder.into(), database: database.into(), port: 0 }
    }

    /// What it told of itself when it started.
    ///
    /// # Errors
    /// It never started.
    pub fn first_app(&self) -> anyhow::Result<FirstApp> {
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(self.folder.join("server.json"))?)?;
        let app_id = u32::try_from(told["appID"].as_u64().context("no appID")?)?;
        let fingerprint = told["fingerprint"].as_str().context("no fingerprint")?.to_owned();
        let app: toml::Table = toml::from_str(&std::fs::read_to_string(self.folder.join("first-app.toml"))?)?;
        let app_sign = app.get("app_sign").and_then(toml::Value::as_str).context("no app_sign")?.to_owned();
        Ok(FirstApp { app_id, app_sign, fingerprint })
    }

    /// Its certificate.
    ///
    /// # Errors
    /// It never started.
    pub fn certificate(&self) -> anyhow::Result<CertificateDer<'static>> {
        Ok(CertificateDer::from_pem_file(self.folder.join("cert.pem"))?)
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// Starts it, where it was before.
    ///
    /// # Errors
    /// It does not start; the log says why.
    pub async fn start(&mut self) -> anyhow::Result<ServerProcess> {
        // Without a signal a write beyond the limit that `ServerProcess::limit_files` sets is an error like any other.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        command.arg(&self.program).arg(&self.folder).arg(&self.database).arg(self.port.to_string());
        let (tell, mut told) = mpsc::unbounded_channel();
        // Fails when nobody listens any more.
        let process = ChildProcess::start(&mut command, &self.log(), move |line| drop(tell.send(line)))?;
        let address = listen(&mut told).await.with_context(|| format!("see {}", self.log().display()))?;
        let address: SocketAddr = address.parse()?;
        self.port = address.port();
        Ok(ServerProcess { process, told, address })
    }

    /// After a restore: clients synchronize anew.
    ///
    /// # Errors
    /// The command fails.
    pub fn new_epoch(&self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        let done = command.arg("new-epoch").arg(&self.folder).arg(&self.database).output()?;
        if !done.status.success() {
            bail!("new-epoch failed: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }
}

async fn listen(told: &mut mpsc::UnboundedReceiver<String>) -> anyhow::Result<String> {
    let line = tokio::time::timeout(TIMEOUT, told.recv()).await.context("no answer in time")?;
    line.context("the server has ended")
}

/// A server in a process of its own. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    process: ChildProcess,
    told: mpsc::UnboundedReceiver<String>,
    address: SocketAddr,
}

impl ServerProcess {
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }

    /// Has it do something that `test-server` knows, and waits until it is done.
    ///
    /// # Errors
    /// It has ended, or says no.
    pub async fn tell(&mut self, command: &str) -> anyhow::Result<String> {
        self.process.say(command);
        let answer = listen(&mut self.told).await.with_context(|| command.to_owned())?;
        answer.strip_prefix("done").map(|rest| rest.trim().to_owned()).with_context(|| format!("{command}: {answer}"))
    }

    /// Stops it as an operator does; the answer is how many tasks it left behind.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(mut self) -> anyhow::Result<usize> {
        Ok(self.tell("stop").await?.parse()?)
    }

    /// From now on no file of its grows beyond so many bytes: writes fail in the middle, as on a failing disk. `None` lifts
    /// it.
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

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}
