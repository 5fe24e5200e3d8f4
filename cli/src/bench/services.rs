//! PostgreSQL and NATS of a benchmark: those that are given, or servers of its own in temporary folders, which end with it.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::process::cpu_with_children;
use crate::exit::Failure;
use crate::local_server::private_folder;
use crate::output::Output;

/// The account of PostgreSQL, and the user that it runs as where this program is root: PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";
/// The longest start, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The database and the bus of a deployment.
#[derive(Debug)]
pub(crate) struct Services {
    database: Service<Postgres>,
    bus: Service<Nats>,
}

#[derive(Debug)]
enum Service<S> {
    Given(String),
    Own(S),
}

impl Services {
    /// Takes the servers that are given, and starts the others.
    pub(crate) async fn start(database: Option<&str>, bus: Option<&str>, output: Output) -> Result<Self, Failure> {
        // What is wrong or missing is said before anything is started.
        let is_postgres = |url: &str| ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        if database.is_some_and(|url| !is_postgres(url)) {
            return Err(Failure::usage("several nodes need PostgreSQL: --database postgres://USER@HOST/NAME"));
        }
        let tools = if database.is_none() { Some(Tools::find()?) } else { None };
        let program = if bus.is_none() { Some(nats_program()?) } else { None };
        let database = match tools {
            Some(tools) => Service::Own(Postgres::start(tools).await?),
            None => Service::Given(database.unwrap_or_default().to_owned()),
        };
        let bus = match program {
            Some(program) => Service::Own(Nats::start(&program).await?),
            None => Service::Given(bus.unwrap_or_default().to_owned()),
        };
        for (name, is_own) in
            [("PostgreSQL", matches!(database, Service::Own(_))), ("NATS", matches!(bus, Service::Own(_)))]
        {
            if is_own {
                output.note(format!("started {name} with its default settings"));
            }
        }
        Ok(Self { database, bus })
    }

    pub(crate) fn database(&self) -> &str {
        match &self.database {
            Service::Given(url) => url,
            Service::Own(own) => &own.url,
        }
    }

    pub(crate) fn bus(&self) -> &str {
        match &self.bus {
            Service::Given(url) => url,
            Service::Own(own) => &own.url,
        }
    }

    /// Returns the processor time of PostgreSQL so far, if it was started here.
    pub(crate) fn database_cpu(&self) -> Option<Duration> {
        match &self.database {
            Service::Given(_) => None,
            Service::Own(own) => cpu_with_children(own.pid),
        }
    }

    /// Returns the processor time of NATS so far, if it was started here.
    pub(crate) fn bus_cpu(&self) -> Option<Duration> {
        match &self.bus {
            Service::Given(_) => None,
            Service::Own(own) => cpu_with_children(own.server.id()?),
        }
    }

    /// Ends the servers that were started here.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        if let Service::Own(mut nats) = self.bus {
            nats.server.kill().await?;
        }
        Ok(())
    }
}

/// A cluster of PostgreSQL, with its files in a temporary folder. It ends when it is dropped.
#[derive(Debug)]
struct Postgres {
    tools: Tools,
    folder: TempDir,
    pid: u32,
    url: String,
}

impl Postgres {
    async fn start(tools: Tools) -> Result<Self, Failure> {
        let (folder, port) = (private_folder()?, free_port()?);
        let url = format!("postgres://{ACCOUNT}@127.0.0.1:{port}/postgres");
        // From here on it is stopped, however far it has come.
        let mut started = Self { tools, folder, pid: 0, url };
        let (folder, data) = (started.folder.path(), started.data());
        if started.tools.is_root {
            let mut chown = StdCommand::new("chown");
            chown.arg(ACCOUNT).arg(folder);
            run(chown).await?;
        }
        let mut initdb = started.tools.command("initdb");
        initdb.args(["-A", "trust", "-U", ACCOUNT, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]).arg(&data);
        run(initdb).await?;
        // It listens on TCP only: the path of a socket may be too long.
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=");
        let mut start = started.tools.command("pg_ctl");
        let log = folder.join("log");
        start.args(["start", "-w", "-o", &options, "-t", &READY_WITHIN.as_secs().to_string()]);
        start.arg("-D").arg(&data).arg("-l").arg(&log);
        if let Err(failure) = run(start).await {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let last = log.trim().lines().last().unwrap_or_default();
            let why = format!("PostgreSQL does not start: {}; its log ends: {last}", failure.message);
            return Err(Failure::other(why));
        }
        let file = std::fs::read_to_string(data.join("postmaster.pid"))?;
        let pid = file.lines().next().and_then(|pid| pid.trim().parse().ok());
        started.pid = pid.ok_or_else(|| Failure::other("PostgreSQL does not say its process ID"))?;
        Ok(started)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = self.tools.command("pg_ctl");
        stop.args(["stop", "-m", "immediate", "-w", "-D"]).arg(self.data());
        // It may have ended already.
        let _ = stop.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// PostgreSQL's programs.
#[derive(Debug)]
struct Tools {
    folder: PathBuf,
    is_root: bool,
}

impl Tools {
    fn find() -> Result<Self, Failure> {
        // Debian does not put them on the path; the newest version is tried first.
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        versions.sort_by_key(|path| path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok()));
        let folders = on_path().into_iter().chain(versions.into_iter().rev().map(|version| version.join("bin")));
        let has_all = |folder: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|it| folder.join(it).exists());
        let folder = folders.into_iter().find(has_all).ok_or_else(|| {
            Failure::other("PostgreSQL is not installed here")
                .hint("apt-get install postgresql, or name a database that may be filled: --database URL")
        })?;
        Ok(Self { folder, is_root: is_root() })
    }

    /// Returns a program as a user that it accepts.
    fn command(&self, name: &str) -> StdCommand {
        let program = self.folder.join(name);
        if !self.is_root {
            return StdCommand::new(program);
        }
        let mut command = StdCommand::new("runuser");
        command.args(["-u", ACCOUNT, "--"]).arg(program);
        // That user may not be able to read the current folder.
        command.current_dir("/");
        command
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// A server of NATS, which ends when it is dropped.
#[derive(Debug)]
struct Nats {
    server: Child,
    url: String,
    /// Its log, and the file that it writes when it listens.
    _folder: TempDir,
}

impl Nats {
    async fn start(program: &Path) -> Result<Self, Failure> {
        let (folder, port) = (private_folder()?, free_port()?);
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "--ports_file_dir"]).arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let mut server = command.spawn().map_err(|error| cannot_run(&program.display(), &error))?;
        if !matches!(timeout(READY_WITHIN, listens(&mut server, folder.path())).await, Ok(Ok(()))) {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            let last = log.trim().lines().last().unwrap_or("its log is empty").to_owned();
            return Err(Failure::other(format!("NATS does not start: {last}")));
        }
        Ok(Self { server, url: format!("nats://127.0.0.1:{port}"), _folder: folder })
    }
}

/// Waits for the file of its ports, which it writes when it listens. Fails if it ends before.
async fn listens(server: &mut Child, folder: &Path) -> Result<(), Failure> {
    loop {
        let is_ports = |path: PathBuf| path.extension().is_some_and(|end| end == "ports");
        if std::fs::read_dir(folder)?.flatten().any(|file| is_ports(file.path())) {
            return Ok(());
        }
        if server.try_wait()?.is_some() {
            return Err(Failure::other("it has ended"));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn nats_program() -> Result<PathBuf, Failure> {
    // Debian's folder of servers is not on everybody's path.
    let folders = on_path().into_iter().chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join("nats-server")).find(|program| program.exists()).ok_or_else(|| {
        Failure::other("NATS is not installed here")
            .hint("apt-get install nats-server, or name a server: --bus nats://HOST:PORT")
    })
}

fn on_path() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

/// Returns a port that nobody uses at this moment.
fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn run(command: StdCommand) -> Result<(), Failure> {
    let name = command.get_program().display().to_string();
    let mut command = Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let done = command.output().await.map_err(|error| cannot_run(&name, &error))?;
    if done.status.success() {
        return Ok(());
    }
    Err(Failure::other(format!("{name} failed: {}", String::from_utf8_lossy(&done.stderr).trim())))
}

fn cannot_run(program: &impl std::fmt::Display, error: &std::io::Error) -> Failure {
    Failure::other(format!("{program} cannot be run: {error}"))
}
