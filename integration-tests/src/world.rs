//! A server with its clients, for the duration of one test. `ZIM_TEST_NODES=2` makes it two servers that share a database: users
//! and their devices then alternate between them, and no test knows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use zim_client_sdk::{Config as ClientConfig, Trust, Zim};
use zim_protocol::admin::AdminClient;
use zim_protocol::clock::Clock;
use zim_protocol::token::Token;
use zim_protocol::{LoginConfig, LoginRequest};
use zim_server::Server;
use zim_server::config::{AdminListen, Config, Listen, PublicListen};
use zim_server::db::Tx;

use crate::coverage;
use crate::database::TestDatabase;
use crate::device::{DataDir, Device};
use crate::fixture::{App, Fixture};
use crate::folder::{copy_private, share_identity};
use crate::logs::Logged;
use crate::port::free_port;
use crate::proxy::Proxy;
use crate::raw::{RawClient, hello};
use crate::s3_server::S3Server;
use crate::wait::{eventually, soon};

/// The time at the start of every test, Unix milliseconds.
pub const START_MS: i64 = 1_800_000_000_000;
/// The step by which [`World::advance_until`] moves the clock, milliseconds.
const STEP_MS: i64 = 250;
/// The validity of tokens, seconds: longer than any test that is not about it.
const TOKEN_S: i64 = 24 * 3_600;

/// Users whose counters do not agree with their rows.
const WRONG_COUNTERS: &str = "SELECT name FROM account WHERE \
    friend_count <> (SELECT COUNT(*) FROM friend WHERE friend.account = account.id) \
    OR block_count <> (SELECT COUNT(*) FROM block WHERE block.account = account.id) \
    OR subscription_count <> (SELECT COUNT(*) FROM subscription WHERE subscription.account = account.id)";

/// A client of the operator's service, with the key.
pub type OperatorClient = AdminClient<InterceptedService<Channel, OperatorKey>>;

/// An interceptor that adds the operator's key to every call.
#[derive(Clone)]
pub struct OperatorKey(pub String);

impl std::fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorKey").finish_non_exhaustive()
    }
}

impl Interceptor for OperatorKey {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.0).parse().unwrap());
        Ok(request)
    }
}

/// Whether the files of messages are in an object store in this run. `ZIM_TEST_MEDIA` says so.
fn is_media_in_s3() -> bool {
    match std::env::var("ZIM_TEST_MEDIA").unwrap_or_default().as_str() {
        "" | "folder" => false,
        "s3" => true,
        other => panic!("ZIM_TEST_MEDIA is {other:?}; it must be folder or s3"),
    }
}

/// The server of one test, its clock and its clients.
#[derive(Debug)]
pub struct World {
    /// The clock of server and clients. It stands still until the test moves it.
    pub clock: Clock,
    server: Option<Server>,
    /// The second node, if there are two.
    second: Option<Box<Server>>,
    settings: Config,
    second_settings: Option<Box<Config>>,
    /// How many clients were created.
    created: AtomicUsize,
    data: TempDir,
    clients: Mutex<Vec<Zim>>,
    /// Tasks of the test itself: event recorders and proxies.
    tasks: Mutex<Vec<AbortHandle>>,
    logged: Logged,
    tasks_before: usize,
    is_ended: bool,
    fixture: Option<Fixture>,
    /// Where the files of messages are, if they are in no folder.
    s3: Option<S3Server>,
    // Dropped last: the server must have closed it.
    _database: TestDatabase,
}

impl World {
    /// Starts a server whose rate limits no test meets by accident.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a server with settings of the test. Rate limits are very high unless it sets them, because the clock
    /// stands still.
    pub async fn with(edit: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let database = TestDatabase::fresh(data.path());
        Self::open(data, database, Clock::manual(START_MS), None, edit).await
    }

    /// Starts a server on a copy of what an earlier build wrote, at the time when it was written. See [`Fixture`].
    pub async fn of_fixture(name: &str) -> Self {
        let fixture = Fixture::named(name);
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("data");
        copy_private(&fixture.server(), &folder);
        let database = TestDatabase::of_fixture(&folder.join("zim.db"), &fixture.dump());
        let clock = Clock::manual(fixture.made_at_ms());
        Self::open(data, database, clock, Some(fixture), |_| {}).await
    }

    async fn open(
        data: TempDir,
        database: TestDatabase,
        clock: Clock,
        fixture: Option<Fixture>,
        edit: impl FnOnce(&mut Config),
    ) -> Self {
        let logged = Logged::capture();
        drop(logged.errors());
        let tasks_before = Handle::current().metrics().num_alive_tasks();
        let mut settings = Config::local(data.path().join("data"));
        // Several on any machine, so that they meet.
        settings.database_partitions = 4;
        settings.database = database.url().parse().unwrap();
        settings.listen.set_port(free_port());
        let many = 1_000_000;
        settings.limits.messages_per_second = many;
        settings.limits.message_burst = many;
        settings.limits.requests_per_second = many;
        settings.limits.request_burst = many;
        settings.limits.pulls_per_second = many;
        settings.limits.pull_burst = many;
        settings.limits.failed_logins_per_minute_per_address = many;
        settings.limits.failed_logins_per_minute_per_app = many;
        settings.limits.first_login_burst_per_address = many;
        edit(&mut settings);
        let s3 = (is_media_in_s3() && !settings.media.store.is_set()).then(S3Server::start);
        if let Some(s3) = &s3 {
            settings.media.store = s3.store().parse().unwrap();
        }
        let second_settings = database.bus().map(|bus| {
            settings.bus = bus.parse().unwrap();
            // Longer than a slow machine pauses.
            settings.node_lease_ms = 60_000;
            let (data_dir, admin) = (data.path().join("data-2"), AdminListen::Off);
            // All nodes share the folder of the files.
            if !settings.media.store.is_set() {
                settings.media.store = data.path().join("media").to_string_lossy().parse().unwrap();
            }
            let listen = SocketAddr::new(settings.listen.ip(), free_port());
            Box::new(Config {
                data_dir,
                admin,
                listen,
                http: Listen(None),
                https: PublicListen::Auto,
                ..settings.clone()
            })
        });
        let mut world = Self {
            clock,
            server: None,
            second: None,
            settings,
            second_settings,
            created: AtomicUsize::new(0),
            data,
            clients: Mutex::default(),
            tasks: Mutex::default(),
            logged,
            tasks_before,
            is_ended: false,
            fixture,
            s3,
            _database: database,
        };
        world.start_server().await;
        world
    }

    /// Returns the fixture that it was started on.
    ///
    /// # Panics
    /// It was not started by [`World::of_fixture`].
    pub fn fixture(&self) -> &Fixture {
        self.fixture.as_ref().expect("a world of a fixture")
    }

    /// Returns the running server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// Returns the running nodes: the server, and another one if there are two.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.server.iter().chain(self.second.as_deref())
    }

    /// Starts the server again on its data.
    pub async fn start_server(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let start = Box::pin(Server::start_with(self.settings.clone(), self.clock.clone()));
        let server = start.await.expect("a server");
        // The same address, so that clients can reconnect.
        self.settings.listen = server.local_addr();
        self.settings.https = server.https_addr().map_or(PublicListen::Off, PublicListen::Tcp);
        self.server = Some(server);
        let data = self.data_dir();
        if let Some(settings) = &mut self.second_settings {
            share_identity(&data, &settings.data_dir);
            let start = Box::pin(Server::start_with((**settings).clone(), self.clock.clone()));
            let server = start.await.expect("a second node");
            settings.listen = server.local_addr();
            settings.https = server.https_addr().map_or(PublicListen::Off, PublicListen::Tcp);
            self.second = Some(Box::new(server));
        }
    }

    /// Stops the server as an operator does.
    pub async fn stop_server(&mut self) {
        coverage::note_answers();
        let server = self.server.take().expect("the server runs");
        for server in self.second.take().map(|second| *second).into_iter().chain([server]) {
            assert_eq!(soon(server.stop()).await, 0, "tasks that the server left behind");
        }
    }

    /// Changes the settings of a stopped server.
    pub fn edit_settings(&mut self, edit: impl Fn(&mut Config)) {
        assert!(self.server.is_none(), "the server runs");
        edit(&mut self.settings);
        self.second_settings.iter_mut().for_each(|settings| edit(settings));
    }

    /// Returns the address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.settings.listen
    }

    /// Returns the address for the next client: the nodes take turns.
    fn next_address(&self) -> SocketAddr {
        match &self.second_settings {
            Some(second) if self.created.fetch_add(1, Ordering::Relaxed) % 2 == 1 => second.listen,
            _ => self.address(),
        }
    }

    /// Returns the id of the first app.
    pub fn app_id(&self) -> u32 {
        self.server().first_app().app_id
    }

    /// Returns a token of the first app for `user_id`, valid for a day.
    pub fn token(&self, user_id: &str) -> String {
        self.token_for(user_id, TOKEN_S)
    }

    /// Returns a token of the first app, valid for `seconds`.
    pub fn token_for(&self, user_id: &str, seconds: i64) -> String {
        let app = self.server().first_app();
        Token::generate(app.app_id, user_id, &app.server_secret, self.clock.now_s(), seconds).unwrap()
    }

    /// Returns a login with a token of the first app.
    pub fn with_token(&self, user_id: &str) -> LoginConfig {
        LoginConfig { token: self.token(user_id), ..LoginConfig::default() }
    }

    /// Returns the settings of a client of the first app, without a data folder.
    pub fn client_config(&self) -> ClientConfig {
        self.client_config_at(self.next_address())
    }

    fn client_config_at(&self, address: SocketAddr) -> ClientConfig {
        ClientConfig::new(self.app_id(), address.to_string())
            .trust(Trust::Fingerprint(self.server().fingerprint().0))
            .clock(self.clock.clone())
    }

    /// Creates a client that is not logged in.
    pub fn client(&self) -> Device {
        self.client_with(|config| config)
    }

    /// Creates a client as [`World::client`] does, with settings of the test.
    pub fn client_with(&self, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        self.client_at(DataDir::default(), edit)
    }

    /// Creates a client on a device that has run before.
    pub fn client_at(&self, dir: DataDir, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        self.client_to(self.next_address(), dir, edit)
    }

    /// Creates a client as [`World::client_at`] does, through a proxy.
    pub fn client_via(&self, proxy: &Proxy, dir: DataDir, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        self.client_to(proxy.address(), dir, edit)
    }

    /// Creates a client of any app of the fixture.
    pub fn client_of(&self, app: &App, dir: DataDir, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        let config = ClientConfig::new(app.app_id, self.address().to_string())
            .trust(Trust::Fingerprint(self.server().fingerprint().0))
            .clock(self.clock.clone());
        self.start_client(edit(config.data_dir(dir.path())), dir)
    }

    fn client_to(&self, to: SocketAddr, dir: DataDir, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        self.start_client(edit(self.client_config_at(to).data_dir(dir.path())), dir)
    }

    fn start_client(&self, config: ClientConfig, dir: DataDir) -> Device {
        let zim = Zim::new(config).expect("a client");
        self.clients.lock().push(zim.clone());
        let device = Device::new(zim, dir);
        self.tasks.lock().push(device.recorder());
        device
    }

    /// Creates a client of `user_id` that is logged in and has caught up.
    pub async fn user(&self, user_id: &str) -> Device {
        self.login(self.client(), user_id).await
    }

    /// Creates another device of a user.
    pub async fn device(&self, user_id: &str) -> Device {
        self.user(user_id).await
    }

    /// Creates a client as [`World::user`] does, on a device that has run before.
    pub async fn user_at(&self, dir: DataDir, user_id: &str) -> Device {
        self.login(self.client_at(dir, |config| config), user_id).await
    }

    /// Creates a client as [`World::user`] does, through a proxy.
    pub async fn user_via(&self, proxy: &Proxy, user_id: &str) -> Device {
        self.login(self.client_via(proxy, DataDir::default(), |config| config), user_id).await
    }

    /// Logs a client in and waits until it has caught up.
    pub async fn login(&self, device: Device, user_id: &str) -> Device {
        let before = device.times_caught_up();
        soon(device.login(user_id, self.with_token(user_id))).await.expect("a login");
        device.caught_up(before).await;
        device
    }

    /// Starts a proxy to this server.
    pub async fn proxy(&self, seed: u64) -> Proxy {
        let proxy = Proxy::to(self.address(), seed).await;
        self.tasks.lock().push(proxy.task());
        proxy
    }

    /// Opens a connection that has sent nothing.
    pub async fn raw(&self) -> RawClient {
        RawClient::connect(self.address(), self.certificate()).await
    }

    /// Opens a connection as [`World::raw`] does, to the second node if there are two.
    pub async fn raw_elsewhere(&self) -> RawClient {
        let address = self.second_settings.as_ref().map_or(self.settings.listen, |second| second.listen);
        RawClient::connect(address, self.certificate()).await
    }

    /// Opens a connection as [`World::raw`] does, with QUIC settings of the test.
    pub async fn raw_with(&self, edit: impl FnOnce(&mut quinn::TransportConfig)) -> RawClient {
        let mut transport = quinn::TransportConfig::default();
        edit(&mut transport);
        RawClient::connect_with(self.address(), self.certificate(), transport).await
    }

    /// Opens a connection as [`World::raw`] does, through a proxy.
    pub async fn raw_via(&self, proxy: &Proxy) -> RawClient {
        RawClient::connect(proxy.address(), self.certificate()).await
    }

    /// Returns a QUIC endpoint that trusts this server.
    pub fn quic(&self) -> quinn::Endpoint {
        crate::raw::endpoint(self.certificate())
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.data.path().join("data/cert.pem")).unwrap()
    }

    /// Opens a connection and completes the Hello.
    pub async fn raw_after_hello(&self, device: u8) -> RawClient {
        let mut raw = self.raw().await;
        raw.handshake(hello(device)).await;
        raw
    }

    /// Opens a connection on which `user_id` is logged in on the device with this number.
    pub async fn raw_user(&self, user_id: &str, device: u8) -> RawClient {
        let mut raw = self.raw_after_hello(device).await;
        raw.call(&self.login_request(user_id)).await.expect("a login");
        raw
    }

    /// Opens connections as [`World::raw_user`] does, one for each user, in their order; some at once, which are not too many for the
    /// time that a handshake has.
    pub async fn raw_users(&self, users: &[String]) -> Vec<RawClient> {
        let mut clients = Vec::with_capacity(users.len());
        for some in users.chunks(25) {
            clients.extend(join_all(some.iter().map(|user| self.raw_user(user, 1))).await);
        }
        clients
    }

    /// Registers users by logins that end before this returns.
    pub async fn register(&self, users: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut clients = Vec::new();
        for user in users {
            clients.push(self.raw_user(user.as_ref(), 200).await);
        }
        RawClient::end_all(clients).await;
    }

    /// Returns the wire form of a one-shot login by app sign.
    pub fn one_shot_request(&self, user_id: &str) -> LoginRequest {
        LoginRequest { one_shot: true, ..self.login_request(user_id) }
    }

    /// Returns the wire form of a login by app sign.
    pub fn login_request(&self, user_id: &str) -> LoginRequest {
        let app = self.server().first_app();
        let (app_id, app_sign) = (app.app_id, app.app_sign.clone());
        LoginRequest { user_id: user_id.to_owned(), app_id, app_sign, ..LoginRequest::default() }
    }

    /// Returns the operator's key.
    pub fn admin_key(&self) -> String {
        std::fs::read_to_string(self.data.path().join("data/admin.key")).unwrap().trim().to_owned()
    }

    /// Returns the server's data folder.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    /// Returns the folder of the files of messages.
    pub fn media_dir(&self) -> std::path::PathBuf {
        match (&self.s3, &self.second_settings) {
            (Some(s3), _) => s3.folder(),
            (None, Some(_)) => self.data.path().join("media"),
            (None, None) => self.data_dir().join("media"),
        }
    }

    /// Returns an HTTPS client that trusts the server.
    pub fn https(&self) -> reqwest::Client {
        reqwest::Client::builder().tls_backend_preconfigured(self.https_tls()).no_proxy().build().unwrap()
    }

    /// Returns the TLS settings of a client that trusts the server.
    pub fn https_tls(&self) -> rustls::ClientConfig {
        let trust = Trust::Fingerprint(self.server().fingerprint().0);
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(zim_client_sdk::net::certificate_verifier(&trust).unwrap())
            .with_no_client_auth()
    }

    /// Advances the clock until `look` returns `Some`: for conditions that wait for the clock, such as a reconnect.
    pub async fn advance_until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        eventually(what, async || {
            let found = look().await;
            if found.is_none() {
                self.clock.advance(STEP_MS);
            }
            found
        })
        .await
    }

    /// Returns the text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.server().http_addr().expect("the HTTP service")).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut metrics = String::new();
        soon(stream.read_to_string(&mut metrics)).await.unwrap();
        metrics
    }

    /// Connects to the operator's service with the key.
    pub async fn admin(&self) -> OperatorClient {
        AdminClient::with_interceptor(self.admin_channel().await, OperatorKey(self.admin_key()))
    }

    /// Connects to the operator's service without the key.
    pub async fn admin_channel(&self) -> Channel {
        soon(self.admin_endpoint().connect()).await.unwrap()
    }

    /// Returns the endpoint of the operator's service.
    pub fn admin_endpoint(&self) -> Endpoint {
        let address = self.server().admin_addr().expect("the operator's service").to_string();
        Endpoint::from_shared(address).unwrap()
    }

    /// Returns the captured log, which can be read after [`World::end`] too.
    pub fn logged(&self) -> Logged {
        self.logged.clone()
    }

    /// Takes the server's warnings logged so far.
    pub fn warnings(&self) -> Vec<String> {
        self.logged.warnings()
    }

    /// Takes the audit lines of the operator's calls logged so far.
    pub fn audit(&self) -> Vec<String> {
        self.logged.audit()
    }

    /// Asserts that the server serves other users, whatever the test did to it.
    pub async fn assert_serves_others(&self) {
        let (carl, dora) = (self.user("carl.control").await, self.user("dora.control").await);
        let text = format!("control {}", carl.history("dora.control").await.len());
        carl.say("dora.control", &text).await;
        dora.receives(&text).await;
        soon(carl.logout()).await;
        soon(dora.logout()).await;
    }

    /// Ends the test: destroys the clients, stops the server, and asserts that no task is left and no error was logged.
    pub async fn end(mut self) {
        self.is_ended = true;
        let clients = std::mem::take(&mut *self.clients.lock());
        clients.iter().for_each(Zim::destroy);
        // Closing a connection takes a moment: all at once.
        soon(join_all(clients.iter().map(Zim::closed))).await;
        drop(clients);
        if self.server.is_some() {
            self.assert_counters().await;
            self.stop_server().await;
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        let errors = self.logged.errors();
        assert!(errors.is_empty(), "errors were logged: {errors:#?}");
        let before = self.tasks_before;
        let left = tokio::time::timeout(Duration::from_secs(5), async {
            while Handle::current().metrics().num_alive_tasks() > before {
                tokio::task::yield_now().await;
            }
        });
        let now = Handle::current().metrics();
        assert!(left.await.is_ok(), "{} tasks are left, {before} existed before", now.num_alive_tasks());
    }
}

impl World {
    /// Asserts that the counters in the rows of users are true.
    async fn assert_counters(&self) {
        let wrong = self.server().app().db.read(async |tx: &mut Tx<'_>| {
            let rows = tx.fetch(WRONG_COUNTERS, &[]).await?;
            Ok(rows.iter().map(|row| row.get::<String>(0)).collect::<Result<Vec<_>, _>>()?)
        });
        // The database may have failed on purpose.
        if let Ok(wrong) = soon(wrong).await {
            assert!(wrong.is_empty(), "the counters of these users are wrong: {wrong:?}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        assert!(self.is_ended || std::thread::panicking(), "a test must call `World::end`, which checks the server");
    }
}
