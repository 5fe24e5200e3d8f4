//! NATS for tests: a server on a free port with a folder of its own, removed on drop; or the one that `ZIM_TEST_NATS` names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::port::free_port;
use crate::program::installed;

/// The variable that names an existing server.
pub const VARIABLE: &str = "ZIM_TEST_NATS";
/// The longest start, on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A NATS server. Dropping it ends one that this process started.
#[derive(Debug)]
pub struct Nats {
    url: String,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    server: Child,
    dir: TempDir,
    arguments: Vec<String>,
    port: u16,
}

impl Nats {
    /// Returns the configured server, or starts a private one.
    ///
    /// # Errors
    /// NATS is not installed, or does not start; the message says what to do.
    pub fn start() -> anyhow::Result<Self> {
        match env::var(VARIABLE) {
            Ok(url) => Ok(Self { url, own: None }),
            Err(_) => Self::private(&[]),
        }
    }

    /// Starts a private server with further arguments, whatever is configured.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub fn private(arguments: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("zim-nats-").tempdir()?;
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let port = free_port();
        let server = run(dir.path(), &arguments, port)?;
        Ok(Self { url: format!("nats://127.0.0.1:{port}"), own: Some(Own { server, dir, arguments, port }) })
    }

    /// Returns its address, without a user.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends SIGKILL to a private server.
    ///
    /// # Errors
    /// It is not private.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("only a private server can be killed")?;
        own.server.kill()?;
        own.server.wait()?;
        Ok(())
    }

    /// Starts a private server again after a kill, on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("only a private server can be started")?;
        own.server = run(own.dir.path(), &own.arguments, own.port)?;
        Ok(())
    }

    /// Starts a private server again as [`Nats::restart`] does, with other arguments.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart_with(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("only a private server can be started")?;
        own.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.restart()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            // It may have been killed already.
            let _ = own.server.kill();
            let _ = own.server.wait();
        }
    }
}

/// Starts a server on a port and waits until it listens.
fn run(dir: &Path, arguments: &[String], port: u16) -> anyhow::Result<Child> {
    let _ = fs::remove_dir_all(dir.join("ports"));
    fs::create_dir_all(dir.join("ports"))?;
    let log = fs::File::create(dir.join("log"))?;
    let mut server = Command::new(program()?)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "--ports_file_dir"])
        .arg(dir.join("ports"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("NATS does not start")?;
    let begun = Instant::now();
    loop {
        if is_listening(&dir.join("ports")) {
            return Ok(server);
        }
        if server.try_wait()?.is_some() || begun.elapsed() > START_LIMIT {
            let _ = server.kill();
            let _ = server.wait();
            bail!("NATS does not start: {}", fs::read_to_string(dir.join("log")).unwrap_or_default());
        }
        #[expect(clippy::disallowed_methods, reason = "there is no other way to wait until another process is ready")]
        sleep(Duration::from_millis(10));
    }
}

fn program() -> anyhow::Result<PathBuf> {
    installed("nats-server").with_context(|| {
        format!("NATS is not installed here: `apt-get install nats-server`, or set {VARIABLE} to a server's address")
    })
}

/// Tells whether the server has written the file of its ports, as it does when it listens.
fn is_listening(dir: &Path) -> bool {
    let mut files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.any(|file| file.path().extension().is_some_and(|end| end == "ports"))
}
