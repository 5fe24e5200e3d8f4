//! A server and its clients, from the first to the last moment of a test.

use std::net::SocketAddr;
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
use zim_server::config::Config;

use crate::database::TestDatabase;
use crate::device::{Device, Home};
use crate::fixture::{App, Fixture, copy_private};
use crate::link::Link;
use crate::logs::Logged;
use crate::raw::{Raw, hello};
use crate::wait::{eventually, soon};

/// When every test begins, Unix milliseconds.
pub const START_MS: i64 = 1_800_000_000_000;
/// How far the clock moves at a step where a test lets time pass.
const STEP_MS: i64 = 250;
/// A token that outlives every test that does not test it, seconds.
const TOKEN_S: i64 = 24 * 3_600;

/// The operator.
pub type Operator = AdminClient<InterceptedService<Channel, Key>>;

/// Shows the operator's key with every call.
#[derive(Clone)]
pub struct Key(pub String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Interceptor for Key {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.0).parse().unwrap());
        Ok(request)
    }
}

/// The server of one test, its clock and its clients.
#[derive(Debug)]
pub struct World {
    /// The time of server and clients: it moves when the test says so.
    pub clock: Clock,
    server: Option<Server>,
    settings: Config,
    data: TempDir,
    clients: Mutex<Vec<Zim>>,
    /// Of the test itself: what records events, and links.
    tasks: Mutex<Vec<AbortHandle>>,
    logged: Logged,
    tasks_before: usize,
    is_ended: bool,
    fixture: Option<Fixture>,
    // The last to go: the server must have closed it.
    _database: TestDatabase,
}

impl World {
    /// A server with settings that no well-behaved test meets the bounds of.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A server with settings of the test's own. Rates are far away unless it sets them, because the clock stands still.
    pub async fn with(edit: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let database = TestDatabase::fresh(data.path());
        Self::open(data, database, Clock::manual(START_MS), None, edit).await
    }

    /// A server on a copy of what an earlier build wrote, at the time when it was written. See [`Fixture`].
    pub async fn of_fixture(name: &str) -> Self {
        Self::of_fixture_with(name, |_| {}).await
    }

    /// As [`World::of_fixture`], with settings of the test's own.
    pub async fn of_fixture_with(name: &str, edit: impl FnOnce(&mut Config)) -> Self {
        let fixture = Fixture::named(name);
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("data");
        copy_private(&fixture.server(), &folder);
        let database = TestDatabase::of_fixture(&folder.join("zim.db"), &fixture.dump());
        let clock = Clock::manual(fixture.made_at_ms());
        Self::open(data, database, clock, Some(fixture), edit).await
    }

    async fn open(
        data: TempDir,
        database: TestDatabase,
        clock: Clock,
        fixture: Option<Fixture>,
        edit: impl FnOnce(&mut Config),
    ) -> Self {
        let logged = Logged::listen();
        drop(logged.errors());
        let tasks_before = Handle::current().metrics().num_alive_tasks();
        let mut settings = Config::local(data.path().join("data"));
        settings.database = database.url().parse().unwrap();
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
        let mut world = Self {
            clock,
            server: None,
            settings,
            data,
            clients: Mutex::default(),
            tasks: Mutex::default(),
            logged,
            tasks_before,
            is_ended: false,
            fixture,
            _database: database,
        };
        world.start_server().await;
        world
    }

    /// What it was opened on.
    ///
    /// # Panics
    /// It is not [`World::of_fixture`].
    pub fn fixture(&self) -> &Fixture {
        self.fixture.as_ref().expect("a world of a fixture")
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// Starts it again, with what it stored.
    pub async fn start_server(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let server = Server::start_with(self.settings.clone(), self.clock.clone()).await.expect("a server");
        // A client that reconnects finds it where it was.
        self.settings.listen = server.local_addr();
        self.server = Some(server);
    }

    /// Stops it as an operator does.
    pub async fn stop_server(&mut self) {
        let server = self.server.take().expect("the server runs");
        assert_eq!(soon(server.stop()).await, 0, "tasks that the server left behind");
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.settings.listen
    }

    /// The first app.
    pub fn app_id(&self) -> u32 {
        self.server().first_app().app_id
    }

    /// A token of the first app for `user_id`, good for a day.
    pub fn token(&self, user_id: &str) -> String {
        self.token_for(user_id, TOKEN_S)
    }

    /// A token of the first app, good for so many seconds.
    pub fn token_for(&self, user_id: &str, seconds: i64) -> String {
        let app = self.server().first_app();
        Token::generate(app.app_id, user_id, &app.server_secret, self.clock.now_s(), seconds).unwrap()
    }

    /// A login with a token of the first app.
    pub fn with_token(&self, user_id: &str) -> LoginConfig {
        LoginConfig { token: self.token(user_id), ..LoginConfig::default() }
    }

    /// The settings of a client of the first app, in memory until told otherwise.
    pub fn client_config(&self) -> ClientConfig {
        self.client_config_at(self.address())
    }

    fn client_config_at(&self, address: SocketAddr) -> ClientConfig {
        ClientConfig::new(self.app_id(), address.to_string())
            .trust(Trust::Fingerprint(self.server().fingerprint().0))
            .clock(self.clock.clone())
    }

    /// A client that is not logged in.
    pub fn client(&self) -> Device {
        self.client_with(|config| config)
    }

    /// As [`World::client`], with settings of the test's own.
    pub fn client_with(&self, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        self.client_at(Home::default(), edit)
    }

    /// A client on a device that was there before.
    pub fn client_at(&self, home: Home, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        self.client_to(self.address(), home, edit)
    }

    /// As [`World::client_at`], over a link.
    pub fn client_via(&self, link: &Link, home: Home, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        self.client_to(link.address(), home, edit)
    }

    /// A client of an app of the fixture that need not be the first.
    pub fn client_of(&self, app: &App, home: Home, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        let config = ClientConfig::new(app.app_id, self.address().to_string())
            .trust(Trust::Fingerprint(self.server().fingerprint().0))
            .clock(self.clock.clone());
        self.keep(edit(config.data_dir(home.path())), home)
    }

    fn client_to(&self, to: SocketAddr, home: Home, edit: impl FnOnce(ClientConfig) -> ClientConfig) -> Device {
        self.keep(edit(self.client_config_at(to).data_dir(home.path())), home)
    }

    fn keep(&self, config: ClientConfig, home: Home) -> Device {
        let zim = Zim::new(config).expect("a client");
        self.clients.lock().push(zim.clone());
        let device = Device::new(zim, home);
        self.tasks.lock().push(device.recorder());
        device
    }

    /// A client of `user_id`, logged in and caught up.
    pub async fn user(&self, user_id: &str) -> Device {
        self.login(self.client(), user_id).await
    }

    /// Another device of somebody.
    pub async fn device(&self, user_id: &str) -> Device {
        self.user(user_id).await
    }

    /// As [`World::user`], on a device that was there before.
    pub async fn user_at(&self, home: Home, user_id: &str) -> Device {
        self.login(self.client_at(home, |config| config), user_id).await
    }

    /// As [`World::user`], over a link.
    pub async fn user_via(&self, link: &Link, user_id: &str) -> Device {
        self.login(self.client_via(link, Home::default(), |config| config), user_id).await
    }

    /// Logs a client in, and waits until it has caught up.
    pub async fn login(&self, device: Device, user_id: &str) -> Device {
        let before = device.times_caught_up();
        soon(device.login(user_id, self.with_token(user_id))).await.expect("a login");
        device.caught_up(before).await;
        device
    }

    /// A link to this server.
    pub async fn link(&self, seed: u64) -> Link {
        let link = Link::to(self.address(), seed).await;
        self.tasks.lock().push(link.task());
        link
    }

    /// A connection that has said nothing.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address(), self.certificate()).await
    }

    /// As [`World::raw`], with QUIC settings of the test's own.
    pub async fn raw_with(&self, edit: impl FnOnce(&mut quinn::TransportConfig)) -> Raw {
        let mut transport = quinn::TransportConfig::default();
        edit(&mut transport);
        Raw::connect_with(self.address(), self.certificate(), transport).await
    }

    /// As [`World::raw`], over a link.
    pub async fn raw_via(&self, link: &Link) -> Raw {
        Raw::connect(link.address(), self.certificate()).await
    }

    /// QUIC alone: an endpoint that believes this server.
    pub fn quic(&self) -> quinn::Endpoint {
        crate::raw::endpoint(self.certificate())
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.data.path().join("data/cert.pem")).unwrap()
    }

    /// A connection after Hello.
    pub async fn raw_greeted(&self, device: u8) -> Raw {
        let mut raw = self.raw().await;
        raw.greet(hello(device)).await;
        raw
    }

    /// A connection on which `user_id` is logged in. Devices with different numbers are different.
    pub async fn raw_user(&self, user_id: &str, device: u8) -> Raw {
        let mut raw = self.raw_greeted(device).await;
        raw.call(&self.login_request(user_id)).await.expect("a login");
        raw
    }

    /// A one-shot login by app sign, as it travels.
    pub fn one_shot_request(&self, user_id: &str) -> LoginRequest {
        LoginRequest { one_shot: true, ..self.login_request(user_id) }
    }

    /// A login by app sign, as it travels.
    pub fn login_request(&self, user_id: &str) -> LoginRequest {
        let app = self.server().first_app();
        let (app_id, app_sign) = (app.app_id, app.app_sign.clone());
        LoginRequest { user_id: user_id.to_owned(), app_id, app_sign, ..LoginRequest::default() }
    }

    /// The operator's key.
    pub fn admin_key(&self) -> String {
        std::fs::read_to_string(self.data.path().join("data/admin.key")).unwrap().trim().to_owned()
    }

    /// The server's data folder.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    /// What `look` finds while time passes: for what waits for the clock, as a reconnect does.
    pub async fn in_time<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        eventually(what, async || {
            let found = look().await;
            if found.is_none() {
                self.clock.advance(STEP_MS);
            }
            found
        })
        .await
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.server().http_addr().expect("the HTTP service")).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut metrics = String::new();
        soon(stream.read_to_string(&mut metrics)).await.unwrap();
        metrics
    }

    /// The operator's service, with his key.
    pub async fn admin(&self) -> Operator {
        AdminClient::with_interceptor(self.admin_channel().await, Key(self.admin_key()))
    }

    /// A connection to the operator's service, without the key.
    pub async fn admin_channel(&self) -> Channel {
        soon(self.admin_endpoint().connect()).await.unwrap()
    }

    /// How to connect to the operator's service.
    pub fn admin_endpoint(&self) -> Endpoint {
        let address = self.server().admin_addr().expect("the operator's service").to_string();
        Endpoint::from_shared(address).unwrap()
    }

    /// Takes the errors that were logged, because the test provoked them.
    ///
    /// # Panics
    /// There are none.
    pub fn expect_errors(&self) -> Vec<String> {
        let errors = self.logged.errors();
        assert!(!errors.is_empty(), "no error was logged");
        errors
    }

    /// What is logged, also after the end of the world.
    pub fn logged(&self) -> Logged {
        self.logged.clone()
    }

    /// Takes the server's warnings that were logged.
    pub fn warnings(&self) -> Vec<String> {
        self.logged.warnings()
    }

    /// Takes the lines that the operator's calls left in the log.
    pub fn audit(&self) -> Vec<String> {
        self.logged.audit()
    }

    /// A well-behaved user is served: what the test did to the server did nothing to others.
    pub async fn is_well(&self) {
        let (carl, dora) = (self.user("carl.control").await, self.user("dora.control").await);
        let text = format!("all is well {}", carl.history("dora.control").await.len());
        carl.say("dora.control", &text).await;
        dora.hears(&text).await;
        soon(carl.logout()).await;
        soon(dora.logout()).await;
    }

    /// Ends the test: clients go, the server stops, nothing is left and nothing went wrong unseen.
    pub async fn end(mut self) {
        self.is_ended = true;
        let clients = std::mem::take(&mut *self.clients.lock());
        clients.iter().for_each(Zim::destroy);
        // Each says goodbye and waits a moment for the answer: all at once.
        soon(join_all(clients.iter().map(Zim::closed))).await;
        drop(clients);
        if self.server.is_some() {
            self.stop_server().await;
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        let errors = self.logged.errors();
        assert!(errors.is_empty(), "logged as errors: {errors:#?}");
        let before = self.tasks_before;
        let left = tokio::time::timeout(Duration::from_secs(5), async {
            while Handle::current().metrics().num_alive_tasks() > before {
                tokio::task::yield_now().await;
            }
        });
        let now = Handle::current().metrics();
        assert!(left.await.is_ok(), "{} tasks are left, {before} were there before", now.num_alive_tasks());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        assert!(self.is_ended || std::thread::panicking(), "a test must `end` its world: that is where it is checked");
    }
}
