//! Starts a server from its settings, and stops it with all its tasks.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, VarInt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use zim_protocol::CbcTokens;
use zim_protocol::clock::Clock;
use zim_protocol::wire::CloseCode;

use crate::app::{App, read_apps_in_doubt};
use crate::bus::BusError;
use crate::config::{Config, ConfigError, Listen, PublicListen};
use crate::db::{Database, DbConfig, NodeConfig};
use crate::error::Error;
use crate::first_run::{self, Banner, Credentials, StartFileGuard};
use crate::folder::{Folder, FolderError};
use crate::media::Files;
use crate::meter;
use crate::net::{self, AdminAddr, KeyCheck, Net, NodeNumber, Tickets};
use crate::nodes::{self, Joined};
use crate::presence;
use crate::service::{self, group, status, user};
use crate::task::{self, Kinds, TaskKind};
use crate::tls::{Fingerprint, Identity, TlsError};

/// The file with the seed of the transport's keys.
const TRANSPORT_KEY: &str = "transport.key";
/// The file of the database, unless another is configured.
pub(crate) const SQLITE_FILE: &str = "zim.db";
/// The time limit of each step of a stop, in addition to the time for requests in flight.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// What is left of each step once the database is lost.
const LOST_GRACE: Duration = Duration::from_millis(500);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error("the data folder cannot be used: {0}")]
    Folder(#[from] FolderError),
    /// The certificate cannot be loaded.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database cannot be opened.
    #[error("the database cannot be opened: {}", cause(.0))]
    Database(Error),
    /// The database cannot be copied to another one.
    #[error("the database cannot be copied: {}", cause(.0))]
    Copy(Error),
    /// The bus between the nodes of the deployment cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The data folder is that of a server whose database is missing.
    #[error(
        "the database {0}, but first-app.toml shows that this data folder had one with users and messages. Restore the database \
         from a backup, or name the right one with --database. To give up what it held and create a new one, start once with \
         --new-database"
    )]
    DatabaseMissing(String),
    /// A new database is wanted where there is one.
    #[error(
        "--new-database creates a database only where there is none, but this one has apps; start without the flag"
    )]
    DatabaseExists,
    /// An address is in use, or does not belong to this machine.
    #[error("{what} cannot listen on {address}: {source}; choose another address with {flag}")]
    Listen {
        /// The service that should listen.
        what: &'static str,
        /// The address.
        address: String,
        /// The flag that sets the address.
        flag: &'static str,
        /// The error of the system.
        source: io::Error,
    },
}

fn cause(error: &Error) -> String {
    error.cause().map_or_else(|| error.to_string(), ToString::to_string)
}

/// A running server. Dropping it stops it at once; [`Server::stop`] lets requests in flight finish.
#[derive(Debug)]
pub struct Server {
    net: Arc<Net>,
    app: Arc<App>,
    endpoint: Endpoint,
    tasks: TaskTracker,
    /// Ends the acceptance of connections and requests.
    stopping: CancellationToken,
    /// Ends the background tasks and the HTTP and operator's services.
    stopped: CancellationToken,
    /// Ends the tasks of the QUIC endpoint.
    aborted: CancellationToken,
    joined: Option<Joined>,
    _on_drop: [DropGuard; 2],
    local_addr: SocketAddr,
    https_addr: Option<SocketAddr>,
    http_addr: Option<SocketAddr>,
    admin_addr: Option<AdminAddr>,
    fingerprint: Fingerprint,
    first_app: Credentials,
    is_first_start: bool,
    start_file: Option<StartFileGuard>,
    folder: Arc<Folder>,
}

/// Schedules the tasks that every server has.
async fn begin_tasks(app: &Arc<App>) -> Result<(), Error> {
    app.begin_to_look_for_lost_logins().await?;
    app.begin_to_look_for_lost_room_members().await?;
    app.begin_to_look_for_orphans().await?;
    app.begin_to_look_for_old_messages().await?;
    app.begin_to_clear_audit().await
}

impl Server {
    /// Starts a server on the system clock.
    ///
    /// # Errors
    /// The settings are not valid, an address is in use, or the data folder or the database cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Clock::system()).await
    }

    /// Starts a server on the given clock.
    ///
    /// # Errors
    /// The same as [`Server::start`].
    pub async fn start_with(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_with_kinds(config, clock, service::kinds()).await
    }

    /// Starts a server with tasks of its program besides its own.
    ///
    /// # Errors
    /// The same as [`Server::start`].
    pub async fn start_with_tasks(
        config: Config,
        clock: Clock,
        tasks: &[&'static TaskKind<App>],
    ) -> Result<Self, StartError> {
        let mut kinds = service::kinds();
        kinds.tasks.extend(tasks);
        Self::start_with_kinds(config, clock, kinds).await
    }

    async fn start_with_kinds(config: Config, clock: Clock, kinds: Kinds<App>) -> Result<Self, StartError> {
        config.validate()?;
        // Nodes follow the clock of their database.
        let clock = if config.bus.is_set() { clock.correctable() } else { clock };
        let folder = Arc::new(Folder::open(&config)?);
        let identity = Identity::load(&config, &folder)?;
        let fingerprint = identity.fingerprint;
        let seed: [u8; 32] = folder.random(TRANSPORT_KEY)?;
        let tls = identity.server_config(Arc::new(Tickets::new(seed, clock.clone())))?;
        let admin_key = first_run::admin_key(&folder)?;

        let tasks = TaskTracker::new();
        let (stopping, stopped, aborted) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        // Bind the addresses first: one that is in use is found before the database is created or migrated.
        let http = listen("the HTTP service", config.http, "--http")?;
        let admin = net::bind_admin(&config.admin, &folder).await.map_err(|(address, source)| StartError::Listen {
            what: "the operator's service",
            address: address.to_string(),
            flag: "--admin",
            source,
        })?;
        let has_admin_tls = admin.as_ref().is_some_and(|admin| matches!(admin.address, AdminAddr::Tls(_)));
        let admin_tls = if has_admin_tls { Some(identity.operator_config()?) } else { None };
        let node = config.bus.is_set().then(NodeNumber::default);
        let quic = net::endpoint_config(&seed, node.clone());
        let endpoint = net::bind(config.listen, tls, quic, &config.limits, &tasks, &aborted).map_err(|source| {
            StartError::Listen { what: "the server", address: config.listen.to_string(), flag: "--listen", source }
        })?;
        let local_addr = endpoint.local_addr().unwrap_or(config.listen);
        let https = listen_https(&config, local_addr)?;
        let https_addr = https.as_ref().map(|(_, address)| *address);
        let https_tls = identity.https_config()?;
        // URLs need the port.
        let config = Config { https: https_addr.map_or(PublicListen::Off, PublicListen::Tcp), ..config };

        let app = open_app(config, clock, &folder, kinds).await?;
        let number = app.db.lease().map(|lease| lease.number());
        if let (Some(node), Some(lease)) = (node, app.db.lease().cloned()) {
            node.set(lease.number(), move |other| lease.has_peer(other));
        }
        let joined = match Box::pin(nodes::join(&app)).await {
            Ok(joined) => joined,
            Err(error) => {
                app.db.close().await;
                return Err(error.into());
            }
        };
        let (first_app, is_first_start) = first_run::first_app(&app, &folder).await.map_err(StartError::Database)?;

        begin_tasks(&app).await.map_err(StartError::Database)?;

        let net = Net::new(Arc::clone(&app), tasks.clone(), stopping.clone());
        tasks.spawn(net::accept(Arc::clone(&net), endpoint.clone()));
        tasks.spawn(user::notify_of_profiles(Arc::clone(&app), stopped.clone()));
        tasks.spawn(status::notify_of_statuses(Arc::clone(&app), stopped.clone()));
        tasks.spawn(group::read_stays_in_doubt(Arc::clone(&app), stopped.clone()));
        tasks.spawn(read_apps_in_doubt(Arc::clone(&app), stopped.clone()));
        tasks.spawn(presence::mark_unmarked_logins(Arc::clone(&app), stopped.clone()));
        tasks.spawn(presence::watch_logins(Arc::clone(&app), stopped.clone()));
        tasks.spawn({
            let (app, end) = (Arc::clone(&app), stopped.clone());
            let (kinds, timers) = (Arc::clone(&app.kinds), Arc::clone(&app.timers));
            let store = (app.db.clone(), app.clock.clone());
            async move { task::run(app, kinds, store, timers, end).await }
        });
        tasks.spawn(nodes::stop_when_lost(Arc::clone(&app), endpoint.clone(), stopped.clone()));
        tasks.spawn(meter::run(stopped.clone()));
        tasks.spawn(Arc::clone(&app.files).watch(stopped.clone()));
        let (of_file, folder_of_file) = (Arc::clone(&app), Arc::clone(&folder));
        tasks.spawn(first_run::update_first_app_file(of_file, folder_of_file, first_app.app_id, stopped.clone()));
        tasks.spawn({
            let (app, end) = (Arc::clone(&app), stopped.clone());
            async move { app.logins.log_summaries(&app.clock, &end).await }
        });
        if let Some((listener, _)) = https {
            tasks.spawn(net::serve_https(Arc::clone(&net), listener, https_tls, stopped.clone()));
        }
        let http_addr = http.as_ref().map(|(_, address)| *address);
        if let Some((listener, _)) = http {
            tasks.spawn(net::serve_http(Arc::clone(&net), listener, stopped.clone()));
        }
        let admin_addr = admin.as_ref().map(|admin| admin.address.clone());
        if let Some(admin) = admin {
            let check = KeyCheck::new(&admin_key, &seed, &app.clock);
            tasks.spawn(net::serve_admin(Arc::clone(&app), admin, admin_tls, check, stopped.clone()));
        }
        if let Some(address) = http_addr.filter(|address| !address.ip().to_canonical().is_loopback()) {
            tracing::warn!(
                %address,
                "health and metrics are over plain HTTP on a network address; everyone who can reach it can read them"
            );
        }
        tracing::info!(
            %local_addr,
            https = https_addr.map(tracing::field::display),
            http = http_addr.map(tracing::field::display),
            admin = admin_addr.as_ref().map(tracing::field::display),
            %fingerprint,
            app_id = first_app.app_id,
            node = number,
            data_dir = %folder.path().display(),
            "the server is ready"
        );
        let mut server = Self {
            net,
            app,
            endpoint,
            tasks,
            joined,
            _on_drop: [stopping.clone().drop_guard(), stopped.clone().drop_guard()],
            stopping,
            stopped,
            aborted,
            local_addr,
            https_addr,
            http_addr,
            admin_addr,
            fingerprint,
            first_app,
            is_first_start,
            start_file: None,
            folder,
        };
        server.start_file = Some(first_run::write_start_file(&server.folder, &server.banner_with(false))?);
        Ok(server)
    }

    /// Returns the address where clients connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns the address of the public HTTPS listener.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https_addr
    }

    /// Returns the address of `/health`, `/ready` and `/metrics`.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Returns the metrics as `/metrics` shows them. Several servers in one process share them.
    pub fn metrics() -> String {
        meter::render()
    }

    /// Returns the address of the operator's service.
    pub fn admin_addr(&self) -> Option<&AdminAddr> {
        self.admin_addr.as_ref()
    }

    /// Returns the SHA-256 hash of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the app that was created at the first start.
    pub fn first_app(&self) -> &Credentials {
        &self.first_app
    }

    /// Returns the state of the services, for a program that runs a server and operates it.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Returns the number of running tasks: those of the endpoint, those of the services, and one or two for each connection.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Returns the bytes of unread responses of all sessions, and of the room reserved for pages being read.
    pub fn unread_bytes(&self) -> usize {
        self.net.unread_bytes()
    }

    /// Explains in a few lines how to connect. The text contains the app sign if it goes to a terminal, or if the app was created
    /// just now: at any other start it may go to a log that others read.
    pub fn banner(&self, to_terminal: bool) -> String {
        self.banner_with(to_terminal || self.is_first_start).to_string()
    }

    fn banner_with(&self, shows_app_sign: bool) -> Banner<'_> {
        let database = match self.app.config.database.to_string() {
            unset if unset.is_empty() => "SQLite".to_owned(),
            set => set,
        };
        let data_dir = self.folder.path();
        Banner {
            listen: self.local_addr,
            http: self.http_addr,
            admin: self.admin_addr.as_ref(),
            app: &self.first_app,
            shows_app_sign,
            cbc_tokens: self.app.tenants.access(self.first_app.app_id).cbc_tokens != CbcTokens::Off,
            fingerprint: self.fingerprint,
            data_dir: std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned()),
            database,
        }
    }

    /// Waits until another server has taken the database over, and returns what happened. The server has to be stopped: it can
    /// neither read nor write any more.
    pub async fn database_lost(&self) -> String {
        self.app.db.lost().await
    }

    /// Stops the server: it refuses new connections, lets requests in flight finish for a limited time, notifies the clients, and
    /// closes the database. Returns the number of tasks that did not end: 0, unless there is a bug. Once the database is lost, before the
    /// stop or during it, what is in flight waits for a database that may not respond, and can store nothing; the server leaves it
    /// behind.
    pub async fn stop(self) -> usize {
        let Self { net, app, endpoint, tasks, stopping, stopped, aborted, start_file, folder, joined, .. } = self;
        tracing::info!("the server is stopping");
        drop(start_file);
        endpoint.set_server_config(None);
        stopping.cancel();
        let calls = Duration::from_millis(app.config.limits.stop_timeout_ms.into());
        step(&app, calls + STOP_GRACE, net.connections_ended()).await;
        stopped.cancel();
        endpoint.close(VarInt::from_u32(CloseCode::GoingAway.code()), b"the server stops");
        step(&app, STOP_GRACE, endpoint.wait_idle()).await;
        aborted.cancel();
        // The task of the endpoint ends when its last handle is dropped.
        drop((endpoint, net));
        tasks.close();
        step(&app, STOP_GRACE, tasks.wait()).await;
        let close = async {
            app.db.close().await;
            if let Some(joined) = joined {
                joined.leave().await;
            }
        };
        step(&app, Duration::MAX, close).await;
        let left = tasks.len();
        if left > 0 && !app.db.is_lost() {
            tracing::error!(left, "some tasks did not end when the server stopped");
        }
        // Only now may another server open the folder.
        drop(folder);
        left
    }
}

/// Waits for a step of a stop, for a time at most. Once the database is lost, little of that time is left.
async fn step(app: &App, limit: Duration, step: impl Future) {
    let lost = async {
        drop(app.db.lost().await);
        sleep(LOST_GRACE).await;
    };
    tokio::select! {
        _ = timeout(limit, step) => {}
        () = lost => {}
    }
}

/// Listens for HTTPS. By default at the same address as QUIC, with the same number of the port. If the system chose that number,
/// the port may be in use for TCP; then any other does.
fn listen_https(config: &Config, quic: SocketAddr) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let at = match config.https {
        PublicListen::Off => return Ok(None),
        PublicListen::Tcp(address) => address,
        PublicListen::Auto => quic,
    };
    let (what, flag) = ("the public HTTPS listener", "--https");
    let listened = listen(what, Listen(Some(at)), flag);
    if listened.is_err() && config.https == PublicListen::Auto && config.listen.port() == 0 {
        return listen(what, Listen(Some(SocketAddr::new(at.ip(), 0))), flag);
    }
    listened
}

fn listen(what: &'static str, at: Listen, flag: &'static str) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(address) = at.0 else { return Ok(None) };
    let wrong = |source| StartError::Listen { what, address: address.to_string(), flag, source };
    let listener = net::listen(address).map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    Ok(Some((listener, address)))
}

/// Opens the database. A new SQLite file is created so that only its owner can read it. Fails if the data folder had a database
/// and this one is new: a server that started with it would seem to have lost everything.
pub(crate) async fn open_app(
    config: Config,
    clock: Clock,
    folder: &Folder,
    kinds: Kinds<App>,
) -> Result<Arc<App>, StartError> {
    let (must_exist, must_be_new) = (!config.new_database && first_run::has_first_app(folder), config.new_database);
    let (database, name) = match config.database.postgres() {
        Some(url) => (Database::Postgres(url.to_owned()), config.database.to_string()),
        None => {
            let file = config.database.sqlite().map_or_else(|| folder.file(SQLITE_FILE), Path::to_owned);
            // Checked before the file is created, so that a backup can be restored as it is.
            let name = file.display().to_string();
            if must_exist && let Some(state) = missing(&file) {
                return Err(StartError::DatabaseMissing(format!("{name} {state}")));
            }
            folder.prepare_database_file(&file)?;
            (Database::Sqlite(file), name)
        }
    };
    let partitions = match config.database_partitions {
        0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 4),
        partitions => partitions,
    };
    let lease = Duration::from_millis(config.node_lease_ms.into());
    let node = config.bus.is_set().then(|| NodeConfig { lease, clock: clock.clone() });
    let database = DbConfig { partitions, node, ..DbConfig::new(database) };
    let files = Files::open(config.media.options(&config.data_dir));
    let files = files.map_err(|problem| ConfigError::Invalid(vec![problem]))?;
    let app = App::open(Arc::new(config), clock, database, files, kinds).await.map_err(StartError::Database)?;
    let is_new = app.tenants.list().is_empty();
    if is_new && must_exist {
        app.db.close().await;
        return Err(StartError::DatabaseMissing(format!("{name} has no apps")));
    }
    if !is_new && must_be_new {
        app.db.close().await;
        return Err(StartError::DatabaseExists);
    }
    Ok(app)
}

/// Returns what is wrong with the file of a database that must exist.
fn missing(file: &Path) -> Option<&'static str> {
    match std::fs::metadata(file) {
        Ok(found) if found.len() == 0 => Some("is empty"),
        Ok(_) => None,
        Err(error) => (error.kind() == io::ErrorKind::NotFound).then_some("is missing"),
    }
}
