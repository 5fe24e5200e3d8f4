//! The program as a process: what it prints, signals, and what it refuses to start with.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zim-server");
/// What a server needs to run beside others.
const BESIDE: [&str; 4] = ["--listen", "127.0.0.1:0", "--http", "off"];

/// Runs the program to its end, in an empty environment.
fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env_clear().output().unwrap()
}

/// Returns the error of a run that must fail with this exit code.
fn refused(arguments: &[&str], code: i32) -> String {
    let ran = run(arguments);
    let error = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(code), "{error}");
    error
}

/// A running server, killed on drop.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    log: String,
}

/// What a server left behind.
struct Ended {
    status: ExitStatus,
    stdout: String,
    log: String,
}

impl Running {
    /// Starts a server and waits until it is ready.
    fn start(data: &Path, flags: &[&str]) -> Self {
        Self::start_by(Command::new(PROGRAM), data, flags)
    }

    fn start_by(mut command: Command, data: &Path, flags: &[&str]) -> Self {
        command
            .arg("--data-dir")
            .arg(data)
            .args(BESIDE)
            .args(flags)
            .args(["--log", "info,zim_server::run=debug"])
            .env_clear();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, stderr, log: String::new() };
        running.until("receives signals");
        running
    }

    /// Reads the log up to a line with this text.
    fn until(&mut self, text: &str) {
        let from = self.log.len();
        while !self.log[from..].contains(text) {
            assert_ne!(self.stderr.read_line(&mut self.log).unwrap(), 0, "the server has ended: {}", self.log);
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    fn end(mut self) -> Ended {
        let (mut stdout, mut log) = (String::new(), std::mem::take(&mut self.log));
        self.stderr.read_to_string(&mut log).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        Ended { status: self.child.wait().unwrap(), stdout, log }
    }

    fn stop(self) -> Ended {
        self.signal("TERM");
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn data(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("data")
}

#[test]
fn every_stop_signal_stops_the_server_gracefully() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(&dir);
    for signal in ["HUP", "INT", "TERM"] {
        let running = Running::start(&data, &[]);
        assert!(data.join("server.json").exists());
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.status.code(), Some(0), "{signal}: {}", ended.log);
        assert!(ended.log.contains(&format!("SIG{signal}")), "{}", ended.log);
        assert!(!data.join("server.json").exists(), "{signal}");
    }
}

#[test]
fn nohup_keeps_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", PROGRAM]);
    let running = Running::start_by(shell, &data(&dir), &[]);
    running.signal("HUP");
    let ended = running.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(ended.log.contains("SIGTERM") && !ended.log.contains("SIGHUP"), "{}", ended.log);
}

#[test]
fn only_the_first_start_prints_the_app_sign_and_json_logs_are_all_that_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(&dir);
    let first = Running::start(&data, &[]).stop();
    let app: toml::Table = fs::read_to_string(data.join("first-app.toml")).unwrap().parse().unwrap();
    let [sign, secret] = ["app_sign", "server_secret"].map(|name| app[name].as_str().unwrap());
    assert!(first.stdout.contains(sign) && !first.stdout.contains(secret), "{}", first.stdout);
    let second = Running::start(&data, &[]).stop();
    assert!(second.stdout.contains("is ready") && !second.stdout.contains(sign), "{}", second.stdout);
    for log in [&first.log, &second.log] {
        assert!(!log.contains(sign) && !log.contains(secret), "{log}");
    }

    let other = dir.path().join("other");
    for _start in 0..2 {
        let json = Running::start(&other, &["--log-format", "json"]).stop();
        assert_eq!(json.stdout, "");
        for line in json.log.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    }
}

#[test]
fn a_server_whose_database_is_gone_does_not_start_as_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(&dir);
    Running::start(&data, &[]).stop();
    let folder = data.to_str().unwrap();
    let (database, first_app) = (data.join("zim.db"), data.join("first-app.toml"));
    let before = fs::read_to_string(&first_app).unwrap();
    let again = [&["--data-dir", folder][..], &BESIDE].concat();
    fs::rename(&database, dir.path().join("backup.db")).unwrap();
    for command in [&[][..], &["new-epoch"]] {
        let error = refused(&[&again[..], command].concat(), 1);
        assert!(error.contains("zim.db is missing") && error.contains("--new-database"), "{error}");
        assert!(!database.exists(), "a database was created");
    }
    fs::write(&database, "").unwrap();
    let error = refused(&again, 1);
    assert!(error.contains("zim.db is empty") && error.contains("Restore the database"), "{error}");
    assert_eq!(fs::metadata(&database).unwrap().len(), 0, "the database was written");
    // Another database without apps is not that of this folder either.
    let elsewhere = format!("sqlite://{}", dir.path().join("elsewhere.db").display());
    refused(&[&again[..], &["--database", &elsewhere]].concat(), 1);
    assert_eq!(fs::read_to_string(&first_app).unwrap(), before);

    // With the backup the server starts as before, and a new database needs the flag.
    fs::rename(dir.path().join("backup.db"), &database).unwrap();
    let error = refused(&[&again[..], &["--new-database"]].concat(), 1);
    assert!(error.contains("start without the flag"), "{error}");
    Running::start(&data, &[]).stop();
    assert_eq!(fs::read_to_string(&first_app).unwrap(), before);
    fs::remove_file(&database).unwrap();
    let started = Running::start(&data, &["--new-database"]).stop();
    let app: toml::Table = fs::read_to_string(&first_app).unwrap().parse().unwrap();
    assert!(started.stdout.contains(app["app_sign"].as_str().unwrap()), "{}", started.stdout);
    assert_ne!(fs::read_to_string(&first_app).unwrap(), before, "the file must be of the new app");
    Running::start(&data, &[]).stop();
}

/// A file that may not grow stands in for a disk without space: filling one needs a file system of its own.
#[test]
fn a_start_without_space_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(&dir);
    let start = |limit: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("trap '' XFSZ; {limit}; exec \"$0\" \"$@\""), PROGRAM, "--data-dir"]);
        shell.arg(&data).args(BESIDE).env_clear();
        String::from_utf8(shell.output().unwrap().stderr).unwrap()
    };
    // Room for the keys, and not for the database.
    let error = start("ulimit -f 16");
    assert!(error.contains("there is no space for") && error.contains("zim.db: file too large; free some"), "{error}");
    Running::start(&data, &[]).stop();
    let error = start("ulimit -f 16");
    assert!(error.contains("there is no space for"), "{error}");
    let names = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.contains("probe")), "the attempt to write is left");
    Running::start(&data, &[]).stop();
}

#[test]
fn an_interrupted_first_start_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(&dir);
    Running::start(&data, &[]).stop();
    // Killed before the first app was created: keys, and an empty database.
    fs::remove_file(data.join("first-app.toml")).unwrap();
    fs::write(data.join("zim.db"), "").unwrap();
    Running::start(&data, &[]).stop();
}

#[test]
fn a_new_certificate_for_an_old_key_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(&dir);
    for _start in 0..2 {
        let log = Running::start(&data, &[]).stop().log;
        assert!(!log.contains("new fingerprint"), "{log}");
    }
    fs::remove_file(data.join("cert.pem")).unwrap();
    let log = Running::start(&data, &[]).stop().log;
    assert!(log.contains("WARN") && log.contains("new fingerprint") && log.contains("cert.pem"), "{log}");
}

#[test]
fn check_config_names_every_file_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    Running::start(Path::new(&path("data")), &[]).stop();
    let (cert, key, none) = (path("data/cert.pem"), path("data/key.pem"), path("none.pem"));
    let new = path("new");
    let run = |flags: &[&str]| {
        let ran = run(&[&["check-config"], flags].concat());
        (ran.status.code(), String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap())
    };
    let folder = format!("sqlite://{}", path("data"));
    let (sqlite, socket) = (format!("sqlite://{}", path("no/zim.db")), format!("unix:{}", path("no/socket")));
    for (flags, expected) in [
        (vec!["--tls-cert", &none, "--tls-key", &key], "none.pem: "),
        (vec!["--tls-cert", &cert, "--tls-key", &none], "none.pem: "),
        (vec!["--tls-cert", &cert, "--tls-key", &cert], "contains no private key"),
        (vec!["--database", &sqlite], "there is no folder"),
        (vec!["--database", &folder], "which is a folder"),
        (vec!["--admin", &socket], "there is no folder"),
        (vec!["--database", "postgres://db/zim?sslrootcert=none.pem"], "sslrootcert is none.pem"),
        (vec!["--data-dir", &cert], "which is not a folder"),
    ] {
        let (code, printed) = run(&flags);
        assert_eq!(code, Some(2), "{flags:?}: {printed}");
        assert!(printed.contains(expected), "{printed}");
    }
    let (_, printed) = run(&["--tls-cert", &none, "--tls-key", &none, "--database", &sqlite]);
    assert!(printed.contains("none.pem") && printed.contains("there is no folder"), "{printed}");
    let (code, printed) = run(&["--data-dir", &new, "--tls-cert", &cert, "--tls-key", &key]);
    assert!(code == Some(0) && printed.contains("[limits]"), "{printed}");
    assert!(!Path::new(&new).exists(), "the data folder was created");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the database of a server that runs is read as a tool of SQLite reads it"
)]
fn sqlite(file: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(file).unwrap()
}

/// The epoch in a database, in hexadecimal digits.
fn epoch(file: &Path) -> String {
    let bytes: Vec<u8> =
        sqlite(file).query_row("SELECT epoch FROM deployment WHERE id = 1", [], |row| row.get(0)).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the commands of the page, with stand-ins for a network namespace, the tool of SQLite and the command line.
#[test]
fn a_backup_is_tried_on_a_copy_as_the_page_says() {
    let page = include_str!("../../docs/operations/backup.md");
    let mut blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let (block, _) = blocks.find(|(block, _)| block.starts_with("cp -a backup check")).unwrap();
    let block = block.replace("--http off", &BESIDE.join(" "));

    let dir = tempfile::tempdir().unwrap();
    let (data, backup, programs) = (data(&dir), dir.path().join("backup"), dir.path().join("bin"));
    let running = Running::start(&data, &[]);
    for folder in [&backup, &programs] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).unwrap();
    }
    for name in ["cert.pem", "key.pem", "transport.key", "admin.key", "first-app.toml"] {
        fs::copy(data.join(name), backup.join(name)).unwrap();
    }
    // As `.backup` does, while the server runs.
    let copy = backup.join("zim.db");
    sqlite(&data.join("zim.db")).execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    let stand_ins = [
        ("unshare", "shift; exec \"$@\""),
        ("sqlite3", "test -f check/zim.db && echo ok"),
        ("zim", "test -S check/admin.sock && echo \"$@\" >>asked"),
    ];
    for (name, does) in stand_ins {
        fs::write(programs.join(name), format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(programs.join(name), PermissionsExt::from_mode(0o700)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let own = Path::new(PROGRAM).parent().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &block]).current_dir(dir.path()).env_clear();
    let ran = shell.env("PATH", format!("{}:{}:{path}", programs.display(), own.display())).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(said.lines().next(), Some("ok"));
    let (_, made) = said.split_once("The new epoch is ").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("asked")).unwrap().lines().count(), 3);

    // The copy alone was changed, and is gone.
    assert!(!dir.path().join("check").exists());
    assert_eq!(epoch(&copy), epoch(&data.join("zim.db")));
    assert_ne!(&made[..32], epoch(&copy));
    assert_eq!(running.stop().status.code(), Some(0));
}
