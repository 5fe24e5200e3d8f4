//! A server in this process, profiles in a temporary folder, and runs of the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use zim_protocol::clock::Clock;
use zim_server::AdminAddr;
use zim_server::config::Config;
use zim_server::server::Server;

/// The time limit of a command.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// The environment of a test.
pub(crate) struct TestEnv {
    folder: TempDir,
    server: Option<Server>,
    data: String,
}

/// The folder of an environment that has ended.
#[cfg(unix)]
pub(crate) struct Left(TempDir);

/// The result of a command.
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

/// A running command.
pub(crate) struct Running(Option<Child>);

impl TestEnv {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a server with changed settings.
    pub(crate) async fn with(edit: impl FnOnce(&mut Config)) -> Self {
        let mut env = Self::without_server();
        env.start_server(edit).await;
        env
    }

    async fn start_server(&mut self, edit: impl FnOnce(&mut Config)) {
        let mut config = Config::local(&self.data);
        // Tests send faster than users.
        config.limits.messages_per_second = 10_000;
        config.limits.message_burst = 10_000;
        config.limits.requests_per_second = 10_000;
        config.limits.request_burst = 10_000;
        edit(&mut config);
        self.server = Some(Box::pin(Server::start(config)).await.unwrap());
    }

    /// Starts a server on a copy of what another environment has left, with its profiles.
    #[cfg(unix)]
    pub(crate) async fn of_left(left: &Left) -> Self {
        let mut env = Self::without_server();
        copy_private(left.0.path(), env.folder());
        env.start_server(|_| {}).await;
        env.move_profiles();
        env
    }

    /// Stops the server, and keeps what it and the profiles have left.
    #[cfg(unix)]
    pub(crate) async fn leave(self) -> Left {
        let Self { folder, server, .. } = self;
        if let Some(server) = server {
            assert_eq!(server.stop().await, 0, "tasks are left");
        }
        Left(folder)
    }

    /// Opens the server data, profiles and local databases of an earlier build, with the clock at the time of that build. See
    /// `integration-tests/fixtures`. The profiles have the address of the old server until [`TestEnv::move_profiles`].
    pub(crate) async fn of_fixture(name: &str) -> Self {
        let mut env = Self::without_server();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration-tests/fixtures").join(name);
        copy_private(&fixture.join("sqlite/server"), Path::new(&env.data));
        copy_private(&fixture.join("cli"), &env.config());
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(fixture.join("sqlite/manifest.json")).unwrap()).unwrap();
        let clock = Clock::manual(manifest["madeAtMs"].as_i64().unwrap());
        env.server = Some(Server::start_with(Config::local(&env.data), clock).await.unwrap());
        env
    }

    /// Changes the address in the profiles to that of this server.
    pub(crate) fn move_profiles(&self) {
        for entry in std::fs::read_dir(self.config().join("profiles")).unwrap() {
            let file = entry.unwrap().path();
            let text = std::fs::read_to_string(&file).unwrap();
            let moved = text.lines().map(|line| match line.strip_prefix("server = ") {
                Some(_) => format!("server = \"{}\"\n", self.address()),
                None => format!("{line}\n"),
            });
            std::fs::write(&file, moved.collect::<String>()).unwrap();
        }
    }

    /// Returns the contents of the local databases of a profile by file.
    pub(crate) fn local_databases(&self, profile: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = std::fs::read_dir(self.config().join("data").join(profile)).unwrap();
        let files =
            entries.map(|entry| entry.unwrap().path()).filter(|file| file.extension().is_some_and(|it| it == "db"));
        files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub(crate) fn without_server() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("server").to_str().unwrap().to_owned();
        Self { folder, server: None, data }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> &str {
        &self.data
    }

    pub(crate) fn address(&self) -> String {
        self.server().local_addr().to_string()
    }

    pub(crate) fn admin_url(&self) -> String {
        self.server().admin_addr().unwrap().to_string()
    }

    pub(crate) fn admin_addr(&self) -> Option<AdminAddr> {
        self.server().admin_addr().cloned()
    }

    pub(crate) fn admin_key(&self) -> String {
        std::fs::read_to_string(format!("{}/admin.key", self.data)).unwrap()
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.server().fingerprint().to_string()
    }

    pub(crate) fn app_id(&self) -> u32 {
        self.server().first_app().app_id
    }

    pub(crate) fn app_sign(&self) -> &str {
        &self.server().first_app().app_sign
    }

    pub(crate) fn server_secret(&self) -> &str {
        &self.server().first_app().server_secret
    }

    /// Logs in `user` with a profile of the same name.
    pub(crate) async fn login(&self, user: &str) {
        self.zim(user, &["login", user, "--server-data", &self.data]).await.ok();
    }

    pub(crate) fn command(&self, profile: &str, arguments: &[&str]) -> Command {
        self.command_of(Command::new(env!("CARGO_BIN_EXE_zim")), profile, arguments)
    }

    /// Starts the program from a shell, after a command of the shell.
    #[cfg(unix)]
    pub(crate) fn start_after(&self, first: &str, profile: &str, arguments: &[&str]) -> Running {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{first}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_zim")]);
        Running(Some(self.command_of(shell, profile, arguments).spawn().unwrap()))
    }

    fn command_of(&self, mut command: Command, profile: &str, arguments: &[&str]) -> Command {
        let settings = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ZIM_"));
        settings.for_each(|(name, _)| {
            command.env_remove(name);
        });
        if !profile.is_empty() {
            command.args(["--profile", profile]);
        }
        command.arg("--config-dir").arg(self.config()).args(arguments);
        command.current_dir(self.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs the program to its end. An empty profile means the one in use.
    pub(crate) async fn zim(&self, profile: &str, arguments: &[&str]) -> Ran {
        self.zim_with(profile, arguments, "").await
    }

    /// Runs the program to its end with `input` as its standard input.
    pub(crate) async fn zim_with(&self, profile: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        let mut child = self.command(profile, arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input may end before.
        drop(stdin.write_all(input.as_ref()).await);
        drop(stdin);
        Running(Some(child)).finish().await
    }

    /// Runs the program to its end with a file of `input` as its standard input.
    pub(crate) async fn zim_with_file(&self, profile: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        let file = self.folder.path().join("input");
        std::fs::write(&file, input).unwrap();
        let mut command = self.command(profile, arguments);
        command.stdin(std::fs::File::open(file).unwrap());
        Running(Some(command.spawn().unwrap())).finish().await
    }

    /// Starts the program.
    pub(crate) fn start(&self, profile: &str, arguments: &[&str]) -> Running {
        Running(Some(self.command(profile, arguments).spawn().unwrap()))
    }

    /// Waits until a condition is true.
    pub(crate) async fn until(&self, condition: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !condition().await {
            assert!(began.elapsed() < COMMAND_WITHIN, "the condition did not become true in time");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn end(self) {
        if let Some(server) = self.server {
            assert_eq!(server.stop().await, 0, "tasks are left");
        }
    }
}

impl Running {
    /// Sends a signal to the program.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.0.as_ref().and_then(Child::id).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Writes to the standard input of the program, and leaves it open.
    pub(crate) async fn write(&mut self, text: &str) {
        self.0.as_mut().unwrap().stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    /// Waits for the end of the program, without ending its standard input.
    pub(crate) async fn finish_with_open_input(&mut self) -> Ran {
        let _input = self.0.as_mut().unwrap().stdin.take();
        self.finish().await
    }

    pub(crate) async fn finish(&mut self) -> Ran {
        let child = self.0.take().unwrap();
        let Output { status, stdout, stderr } =
            timeout(COMMAND_WITHIN, child.wait_with_output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { stdout: text(stdout), stderr: text(stderr), code: status.code() }
    }
}

impl Ran {
    /// Asserts success.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "the command failed: {}{}", self.stdout, self.stderr);
        self
    }

    /// Asserts failure with this exit code; returns standard error.
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "unexpected exit code: {}{}", self.stdout, self.stderr);
        assert!(self.stdout.is_empty() || code == 3, "standard output of a failed command: {}", self.stdout);
        self.stderr
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.stdout.lines().map(str::to_owned).collect()
    }

    /// Asserts success and a single line of output; returns it as JSON.
    pub(crate) fn json(self) -> Value {
        let ran = self.ok();
        let lines = ran.lines();
        let [line] = lines.as_slice() else { panic!("not a single line: {}", ran.stdout) };
        serde_json::from_str(line).expect("a line is JSON")
    }
}

/// Copies a folder. Only its owner can read the copy, whatever the modes in the checkout are.
fn copy_private(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    restrict(to, 0o700);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_private(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            restrict(&target, 0o600);
        }
    }
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) {}

/// Returns the server binary, and builds it if it is missing.
pub(crate) fn server_binary() -> String {
    let zim = Path::new(env!("CARGO_BIN_EXE_zim"));
    let folder = zim.parent().unwrap();
    let binary: PathBuf = folder.join(format!("zim-server{}", std::env::consts::EXE_SUFFIX));
    if !binary.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = std::process::Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--package", "zim-server", "--bin", "zim-server"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the server cannot be built");
    }
    binary.to_str().unwrap().to_owned()
}
