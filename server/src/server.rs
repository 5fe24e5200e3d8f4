//! A server that runs: started with settings, stopped without leaving anything behind.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, VarInt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use zim_protocol::CbcTokens;
use zim_protocol::clock::Clock;
use zim_protocol::wire::CloseCode;

use crate::app::App;
use crate::config::{Config, ConfigError, Listen};
use crate::db::{Database, DbConfig};
use crate::error::Error;
use crate::first_run::{self, Banner, Credentials, Started};
use crate::folder::{Folder, FolderError};
use crate::net::{self, AdminAddr, KeyCheck, Net, Tickets};
use crate::service::status;
use crate::service::user;
use crate::tls::{Fingerprint, Identity, TlsError};

/// The seed of the transport's keys.
const TRANSPORT_KEY: &str = "transport.key";
/// The database, unless another is configured.
const SQLITE_FILE: &str = "zim.db";
/// After the calls' own time: for farewells, and for what must be closed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder.
    #[error("the data folder cannot be used: {0}")]
    Folder(#[from] FolderError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database.
    #[error("the database cannot be opened: {}", cause(.0))]
    Database(Error),
    /// An address is taken, or not this machine's.
    #[error("{what} cannot listen on {address}: {source}; choose another address with {flag}")]
    Listen {
        /// Who.
        what: &'static str,
        /// Where.
        address: String,
        /// How to choose another.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn cause(error: &Error) -> String {
    error.cause().map_or_else(|| error.to_string(), ToString::to_string)
}

/// A running server. Dropping it stops it at once; [`Server::stop`] lets it finish.
#[derive(Debug)]
pub struct Server {
    net: Arc<Net>,
    app: Arc<App>,
    endpoint: Endpoint,
    tasks: TaskTracker,
    /// No new connections and calls.
    stopping: CancellationToken,
    /// Nothing at all.
    stopped: CancellationToken,
    /// Not even what QUIC still wants to do.
    cut: CancellationToken,
    _on_drop: [DropGuard; 2],
    local_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    admin_addr: Option<AdminAddr>,
    fingerprint: Fingerprint,
    first_app: Credentials,
    is_first_start: bool,
    started: Option<Started>,
    folder: Arc<Folder>,
}

impl Server {
    /// Starts a server on the clock of the machine.
    ///
    /// # Errors
    /// The settings make no sense, an address is taken, or the data folder or the database cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Clock::system()).await
    }

    /// Starts a server that takes its time from `clock`.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(config: Config, clock: Clock) -> Result<Self, StartError> {
        config.validate()?;
        let folder = Arc::new(Folder::open(&config)?);
        let identity = Identity::load(&config, &folder)?;
        let fingerprint = identity.fingerprint;
        let seed: [u8; 32] = folder.random(TRANSPORT_KEY)?;
        let tls = identity.server_config(Arc::new(Tickets::new(seed, clock.clone())))?;
        let admin_key = first_run::admin_key(&folder)?;

        let tasks = TaskTracker::new();
        let (stopping, stopped, cut) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        // The doors first: an address that is taken is found before anything is made in a database.
        let http = listen("the HTTP service", config.http, "--http")?;
        let admin = net::bind_admin(&config.admin, &folder).await.map_err(|(address, source)| StartError::Listen {
            what: "the operator's service",
            address: address.to_string(),
            flag: "--admin",
            source,
        })?;
        let admin_tls = match admin.as_ref().map(|admin| &admin.address) {
            Some(AdminAddr::Tls(_)) => Some(identity.operator_config()?),
            _ => None,
        };
        let endpoint = net::bind(config.listen, tls, net::endpoint_config(&seed), &config.limits, &tasks, &cut)
            .map_err(|source| StartError::Listen {
                what: "the server",
                address: config.listen.to_string(),
                flag: "--listen",
                source,
            })?;
        let local_addr = endpoint.local_addr().unwrap_or(config.listen);

        let app = open_app(config, clock, &folder).await?;
        app.forget_ended_secrets().await.map_err(StartError::Database)?;
        let (first_app, is_first_start) = first_run::first_app(&app, &folder).await.map_err(StartError::Database)?;

        let lost_logins = status::lost_logins(&app).await.map_err(StartError::Database)?;

        let net = Net::new(Arc::clone(&app), tasks.clone(), stopping.clone());
        tasks.spawn(net::accept(Arc::clone(&net), endpoint.clone()));
        tasks.spawn(user::notify_of_profiles(Arc::clone(&app), stopped.clone()));
        tasks.spawn(status::notify_of_statuses(Arc::clone(&app), stopped.clone()));
        tasks.spawn(status::keep(Arc::clone(&app), lost_logins, stopped.clone()));
        tasks.spawn(net::run_meter(stopped.clone()));
        let (of_file, folder_of_file) = (Arc::clone(&app), Arc::clone(&folder));
        tasks.spawn(first_run::keep_first_app(of_file, folder_of_file, first_app.app_id, stopped.clone()));
        tasks.spawn({
            let (app, end) = (Arc::clone(&app), stopped.clone());
            async move { app.logins.keep_log(&app.clock, &end).await }
        });
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
                "health and metrics are on an address of the network: over plain HTTP, and for everybody who reaches it"
            );
        }
        tracing::info!(
            %local_addr,
            http = http_addr.map(tracing::field::display),
            admin = admin_addr.as_ref().map(tracing::field::display),
            %fingerprint,
            app_id = first_app.app_id,
            data_dir = %folder.path().display(),
            "the server is ready"
        );
        let mut server = Self {
            net,
            app,
            endpoint,
            tasks,
            _on_drop: [stopping.clone().drop_guard(), stopped.clone().drop_guard()],
            stopping,
            stopped,
            cut,
            local_addr,
            http_addr,
            admin_addr,
            fingerprint,
            first_app,
            is_first_start,
            started: None,
            folder,
        };
        server.started = Some(first_run::started(&server.folder, &server.how_to_connect(false))?);
        Ok(server)
    }

    /// Where clients connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where `/health`, `/ready` and `/metrics` are.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Where the operator's service is.
    pub fn admin_addr(&self) -> Option<&AdminAddr> {
        self.admin_addr.as_ref()
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The app that was made at the first start.
    pub fn first_app(&self) -> &Credentials {
        &self.first_app
    }

    /// What the services work on, for a program that is server and operator at once.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// How many tasks run: the endpoint's, the services', and one or two a connection.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Bytes that all sessions hold of unread answers, and of room for answers that are being read.
    pub fn unread_bytes(&self) -> usize {
        self.net.unread_bytes()
    }

    /// How to connect, in a few lines. They have the app sign if somebody looks at a terminal, or if the app was made just now:
    /// at any other start they may go to a log that others read.
    pub fn banner(&self, to_terminal: bool) -> String {
        self.how_to_connect(to_terminal || self.is_first_start).to_string()
    }

    fn how_to_connect(&self, shows_app_sign: bool) -> Banner<'_> {
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

    /// Stops: no new connections; calls that run may finish, but not for ever; clients are told; the database is closed.
    /// Returns how many tasks had to be left: 0, unless something is wrong.
    pub async fn stop(self) -> usize {
        let Self { net, app, endpoint, tasks, stopping, stopped, cut, started, folder, .. } = self;
        tracing::info!("the server stops");
        drop(started);
        endpoint.set_server_config(None);
        stopping.cancel();
        let calls = Duration::from_millis(app.config.limits.stop_timeout_ms.into());
        drop(timeout(calls + STOP_GRACE, net.connections_ended()).await);
        stopped.cancel();
        endpoint.close(VarInt::from_u32(CloseCode::GoingAway.code()), b"the server stops");
        drop(timeout(STOP_GRACE, endpoint.wait_idle()).await);
        cut.cancel();
        // The endpoint's own task ends with its last handle.
        drop((endpoint, net));
        tasks.close();
        drop(timeout(STOP_GRACE, tasks.wait()).await);
        app.db.close().await;
        let left = tasks.len();
        if left > 0 {
            tracing::error!(left, "tasks are left after the stop");
        }
        // Only now may another server have it.
        drop(folder);
        left
    }
}

fn listen(what: &'static str, at: Listen, flag: &'static str) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(address) = at.0 else { return Ok(None) };
    let wrong = |source| StartError::Listen { what, address: address.to_string(), flag, source };
    let listener = net::listen(address).map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    Ok(Some((listener, address)))
}

/// Opens the store, with a database file that its owner alone can read.
pub(crate) async fn open_app(config: Config, clock: Clock, folder: &Folder) -> Result<Arc<App>, StartError> {
    let database = match config.database.postgres() {
        Some(url) => Database::Postgres(url.to_owned()),
        None => {
            let file = config.database.sqlite().map_or_else(|| folder.file(SQLITE_FILE), Path::to_owned);
            folder.reserve(&file)?;
            Database::Sqlite(file)
        }
    };
    App::open(Arc::new(config), clock, DbConfig::new(database)).await.map_err(StartError::Database)
}
