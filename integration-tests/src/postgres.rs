//! PostgreSQL for tests: a temporary cluster on a free port, removed on drop; or the server that `ZIM_TEST_POSTGRES`
//! names (`postgres://user@host:port/postgres`, where the user may create databases).
//!
//! The unit tests of the server include this file by its path, so it uses no other module of this crate.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::port::free_port;

/// The variable that names an existing server.
const VARIABLE: &str = "ZIM_TEST_POSTGRES";
/// The account of the server where tests run as root: PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";
/// The longest start, on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A database server. Dropping it removes the databases that it created.
#[derive(Debug)]
pub struct Cluster {
    tools: Tools,
    admin_url: String,
    /// `None` for an existing server.
    own: Option<Own>,
    created: Mutex<Vec<String>>,
    session: Mutex<Option<Session>>,
}

#[derive(Debug)]
struct Own {
    server: Child,
    /// Its files, removed on drop.
    dir: TempDir,
    port: u16,
}

impl Cluster {
    /// Connects to the configured server, or starts a private one.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start; the message says what to do.
    pub fn start() -> anyhow::Result<Self> {
        let tools = Tools::find()?;
        let created = Mutex::new(Vec::new());
        if let Ok(admin_url) = env::var(VARIABLE) {
            return Ok(Self { tools, admin_url, own: None, created, session: Mutex::default() });
        }
        Self::start_private(tools)
    }

    /// Starts a private server, which may be killed, whatever is configured.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn private() -> anyhow::Result<Self> {
        Self::start_private(Tools::find()?)
    }

    fn start_private(tools: Tools) -> anyhow::Result<Self> {
        let created = Mutex::new(Vec::new());
        let dir = tempfile::Builder::new().prefix("zim-postgres-").tempdir()?;
        tools.chown(dir.path())?;
        let data = dir.path().join("data");
        let mut initdb = tools.server_tool("initdb");
        initdb.args(["-A", "trust", "-U", ACCOUNT, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]).arg(&data);
        run(&mut initdb)?;
        // Another process may take the port between its choice and the start.
        let mut tries = 0;
        loop {
            tries += 1;
            let port = free_port();
            match tools.start(&data, dir.path(), port) {
                Ok(server) => {
                    let admin_url = format!("postgres://{ACCOUNT}@127.0.0.1:{port}/postgres");
                    let own = Some(Own { server, dir, port });
                    return Ok(Self { tools, admin_url, own, created, session: Mutex::default() });
                }
                Err(error) if tries == 3 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Returns the address of the server's administrative database.
    pub fn url(&self) -> String {
        self.admin_url.clone()
    }

    /// Creates an empty database; returns its address. On an existing server the process id makes the name unique.
    ///
    /// # Errors
    /// The server cannot create it.
    pub fn create_database(&self, name: &str) -> anyhow::Result<String> {
        self.create_copy(name, "template0")
    }

    /// Creates a database as [`Cluster::create_database`] does, with what is in `template`, to which nobody may be connected.
    ///
    /// # Errors
    /// The server cannot create it.
    pub fn create_copy(&self, name: &str, template: &str) -> anyhow::Result<String> {
        let name = match self.own {
            Some(_) => name.to_owned(),
            None => format!("{name}_{}", std::process::id()),
        };
        self.sql(&format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\""))?;
        self.created.lock().push(name.clone());
        let (server, rest) = self.admin_url.rsplit_once('/').context("the server's address names no database")?;
        let options = rest.find('?').map_or("", |at| &rest[at..]);
        Ok(format!("{server}/{name}{options}"))
    }

    /// Runs a statement on the administrative database, for example to end a connection.
    ///
    /// # Errors
    /// The statement fails.
    pub fn sql(&self, sql: &str) -> anyhow::Result<String> {
        self.sql_in(&self.admin_url, sql)
    }

    /// Runs a statement on a database of this server; returns one line for each row, with values separated by `|`.
    ///
    /// # Errors
    /// The statement fails.
    pub fn sql_in(&self, url: &str, sql: &str) -> anyhow::Result<String> {
        let mut psql = Command::new(self.tools.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
        let done = run(&mut psql)?;
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Answers a query as [`Cluster::sql_in`] does, over a connection that stays open for the next one: a new connection takes a
    /// hundred times as long as a small query.
    ///
    /// # Errors
    /// The query fails.
    pub fn query_in(&self, url: &str, sql: &str) -> anyhow::Result<String> {
        let mut kept = self.session.lock();
        // The server may have been killed since.
        if let Some(mut session) = kept.take().filter(|session| session.url == url)
            && let Ok(answer) = session.query(sql)
        {
            *kept = Some(session);
            return Ok(answer);
        }
        let mut session = Session::begin(&self.tools, url)?;
        let answer = session.query(sql)?;
        *kept = Some(session);
        Ok(answer)
    }

    /// Runs an SQL file, such as a dump, on a database of this server.
    ///
    /// # Errors
    /// A statement fails.
    pub fn load(&self, url: &str, file: &Path) -> anyhow::Result<()> {
        let mut psql = Command::new(self.tools.bin.join("psql"));
        run(psql.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", url, "-f"]).arg(file)).map(drop)
    }

    /// Sends SIGKILL to a private server.
    ///
    /// # Errors
    /// The server is not private, or does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("only a private server can be killed")?;
        let file = fs::read_to_string(own.dir.path().join("data/postmaster.pid"))?;
        let pid = file.lines().next().context("no process id")?;
        run(Command::new("kill").args(["-KILL", pid]))?;
        own.server.wait()?;
        Ok(())
    }

    /// Starts a private server again after a kill, on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("only a private server can be started")?;
        let begun = Instant::now();
        loop {
            // The start fails until the child processes of the killed server have ended.
            match self.tools.start(&own.dir.path().join("data"), own.dir.path(), own.port) {
                Ok(server) => {
                    own.server = server;
                    return Ok(());
                }
                Err(error) if begun.elapsed() > START_LIMIT => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Copies a database, replacing `to` if it exists. Both must be unused.
    ///
    /// # Errors
    /// One of them is in use.
    pub fn copy_database(&self, from: &str, to: &str) -> anyhow::Result<()> {
        *self.session.lock() = None;
        self.sql(&format!("DROP DATABASE IF EXISTS \"{to}\" WITH (FORCE)"))?;
        self.sql(&format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{from}'"))?;
        self.sql(&format!("CREATE DATABASE \"{to}\" TEMPLATE \"{from}\""))?;
        self.created.lock().push(to.to_owned());
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        match &mut self.own {
            Some(own) => {
                let data = own.dir.path().join("data");
                let mut stop = self.tools.server_tool("pg_ctl");
                let stopped = run(stop.args(["-m", "immediate", "-w", "-D"]).arg(data).arg("stop"));
                if stopped.is_err() {
                    // It may have been killed already.
                    let _ = own.server.kill();
                }
                let _ = own.server.wait();
            }
            None => {
                let created = std::mem::take(&mut *self.created.lock());
                for name in created {
                    let _ = self.sql(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"));
                }
            }
        }
    }
}

/// What follows each answer.
const END: &str = "zim-end-of-answer";

/// A `psql` that stays connected to a database.
#[derive(Debug)]
struct Session {
    url: String,
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn begin(tools: &Tools, url: &str) -> anyhow::Result<Self> {
        let mut psql = Command::new(tools.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]);
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let input = psql.stdin.take().context("no input")?;
        let output = BufReader::new(psql.stdout.take().context("no output")?);
        Ok(Self { url: url.to_owned(), psql, input, output })
    }

    /// Fails if `psql` has ended, as it does after an error.
    fn query(&mut self, sql: &str) -> anyhow::Result<String> {
        // What it says before it ends is better than that it has ended.
        let _ = write!(self.input, "{sql};\n\\echo {END}\n").and_then(|()| self.input.flush());
        let mut answer = String::new();
        loop {
            let before = answer.len();
            if self.output.read_line(&mut answer)? == 0 {
                let mut why = String::new();
                if let Some(mut errors) = self.psql.stderr.take() {
                    errors.read_to_string(&mut why)?;
                }
                bail!("psql failed: {}", why.trim());
            }
            if answer[before..].trim_end() == END {
                answer.truncate(before);
                return Ok(answer.trim().to_owned());
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

/// PostgreSQL's programs.
#[derive(Debug)]
struct Tools {
    bin: PathBuf,
    is_root: bool,
}

impl Tools {
    fn find() -> anyhow::Result<Self> {
        let on_path = env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = env::split_paths(&on_path).collect();
        // Debian does not put them on the path; the newest version is tried first.
        let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        versions.sort_by_key(|path| path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok()));
        folders.extend(versions.iter().rev().map(|path| path.join("bin")));
        let needed = ["initdb", "postgres", "pg_ctl", "psql"];
        let bin = folders.into_iter().find(|folder| needed.iter().all(|tool| folder.join(tool).exists()));
        let Some(bin) = bin else {
            bail!(
                "PostgreSQL is not installed here: `apt-get install postgresql`, or set {VARIABLE} to a server's address"
            );
        };
        let user = run(Command::new("id").arg("-u"))?;
        Ok(Self { bin, is_root: user.stdout.trim_ascii() == b"0" })
    }

    /// Returns a program that must not run as root.
    fn server_tool(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        if !self.is_root {
            return Command::new(program);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", ACCOUNT, "--"]).arg(program);
        // That account may not be able to read the current folder.
        command.current_dir("/");
        command
    }

    fn chown(&self, dir: &Path) -> anyhow::Result<()> {
        if self.is_root {
            run(Command::new("chown").arg(ACCOUNT).arg(dir))?;
        }
        Ok(())
    }

    fn start(&self, data: &Path, dir: &Path, port: u16) -> anyhow::Result<Child> {
        let log = fs::File::create(dir.join("log"))?;
        let mut server = self
            .server_tool("postgres")
            .arg("-D")
            .arg(data)
            .arg("-k")
            .arg(dir)
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                // The files may be in memory.
                "-c",
                "max_wal_size=256MB",
                "-c",
                "max_connections=200",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("PostgreSQL does not start")?;
        let begun = Instant::now();
        let ready = format!("postgres://{ACCOUNT}@127.0.0.1:{port}/postgres");
        loop {
            let mut psql = Command::new(self.bin.join("psql"));
            if run(psql.args(["-X", "-q", "-d", &ready, "-c", "SELECT 1"])).is_ok() {
                return Ok(server);
            }
            if server.try_wait()?.is_some() || begun.elapsed() > START_LIMIT {
                let _ = server.kill();
                let _ = server.wait();
                let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                bail!("PostgreSQL does not start: {log}");
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "there is no other way to wait until another process is ready"
            )]
            sleep(Duration::from_millis(30));
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<Output> {
    let done =
        command.output().with_context(|| format!("{} cannot be run", command.get_program().to_string_lossy()))?;
    if !done.status.success() {
        bail!("{} failed: {}", command.get_program().to_string_lossy(), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(done)
}
