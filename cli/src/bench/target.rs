//! The server to measure.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use zim_client_sdk::Config;
use zim_client_sdk::net::Address;

use super::process::{Cost, Sample};
use crate::exit::{Exit, Failure};
use crate::local_server::{LocalServer, Shared};
use crate::output::Output;
use crate::profile::Profile;
use crate::secret;
use crate::start_file::StartFile;

/// Settings that raise the limits for a client: a benchmark exceeds the defaults.
pub(crate) const RAISED: [&str; 16] = [
    "limits.messages_per_second=1000000",
    "limits.message_burst=1000000",
    "limits.requests_per_second=1000000",
    "limits.request_burst=1000000",
    "limits.pulls_per_second=1000000",
    "limits.pull_burst=1000000",
    "limits.max_connections_per_address=1000000",
    "limits.handshakes_per_second_per_address=1000000",
    "limits.session_queue_bytes=4194304",
    "limits.max_group_members=100000",
    "limits.max_groups=10000",
    "limits.max_room_members=100000",
    "limits.max_rooms_of_user=1000",
    // Members enter before the measurement, and nobody reads yet.
    "limits.max_room_members_told=0",
    "limits.first_logins_per_second_per_address=1000000",
    "limits.first_login_burst_per_address=1000000",
];

/// The options that choose the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct TargetArgs {
    /// The address of a running server
    #[arg(long, global = true, value_name = "HOST:PORT")]
    server: Option<String>,
    /// The ID of the app
    #[arg(long, global = true, value_name = "N")]
    app_id: Option<u32>,
    /// A file with the app sign; - is standard input
    #[arg(long, global = true, value_name = "FILE")]
    app_sign_file: Option<PathBuf>,
    /// The app sign itself; other users of this machine can see it in the process list
    #[arg(long, global = true, env = "ZIM_APP_SIGN", hide_env_values = true, value_name = "SIGN")]
    app_sign: Option<String>,
    /// The SHA-256 of the server's certificate
    #[arg(long, global = true, value_name = "HEX")]
    fingerprint: Option<String>,
    /// A PEM file with the root certificates to trust
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "fingerprint")]
    ca: Option<PathBuf>,
    /// The data folder of a running server on this machine
    #[arg(long, global = true, value_name = "FOLDER", conflicts_with = "server")]
    server_data: Option<PathBuf>,
    /// The server binary to start [default: zim-server in the folder of this program]
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["server", "server_data"])]
    server_bin: Option<PathBuf>,
    /// The database of the server to start [default: SQLite in a temporary folder]; use the variable for a URL with a password,
    /// because other users of this machine can see arguments
    #[arg(
        long, alias = "db-url", global = true, env = "ZIM_BENCH_DATABASE", hide_env_values = true, value_name = "URL",
        conflicts_with_all = ["server", "server_data"]
    )]
    database: Option<String>,
    /// A setting of the server to start, as in workers=2
    #[arg(long = "set", global = true, value_name = "NAME=VALUE", conflicts_with_all = ["server", "server_data"])]
    set: Vec<String>,
}

impl TargetArgs {
    /// Whether they name a server that runs already.
    pub(crate) fn is_running(&self) -> bool {
        self.server.is_some() || self.server_data.is_some()
    }

    /// Returns the URL of the database of the server to start.
    pub(crate) fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }
}

/// What a bare client needs for a login.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) address: SocketAddr,
    /// The name that the certificate must have.
    pub(crate) name: String,
    pub(crate) app_id: u32,
    pub(crate) app_sign: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Returns the name of a user of a run.
pub(crate) fn user(run: &str, role: &str, number: usize) -> String {
    format!("bench-{run}-{role}{number}")
}

/// How another process of the benchmark reaches the server.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Reach {
    profile: Profile,
    address: SocketAddr,
    name: String,
    run: String,
}

/// The server to measure, and how to reach it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) profile: Profile,
    pub(crate) access: Access,
    /// A random name for the users of this run, so that several runs can use the same server.
    pub(crate) run: String,
    /// The process of the server, and the address of its metrics, if it is on this machine.
    pid: Option<u32>,
    http: Option<String>,
    /// Its data folder, likewise.
    data: Option<PathBuf>,
    own: Option<LocalServer>,
}

impl Target {
    /// Finds or starts the server. `settings` apply only to a server that is started.
    pub(crate) async fn open(args: &TargetArgs, settings: &[&str], output: Output) -> Result<Self, Failure> {
        if let Some(folder) = &args.server_data {
            let found =
                StartFile::find(Some(folder))?.ok_or_else(|| Failure::other("no server runs with this data folder"))?;
            let target = Self::new(found.profile()?, Some(found.pid), None).await?;
            return Ok(Self { http: found.http, data: Some(std::path::absolute(folder)?), ..target });
        }
        if args.server.is_some() {
            let mut profile = Profile {
                server: args.server.clone(),
                app_id: args.app_id,
                app_sign: secret::read(args.app_sign.clone(), args.app_sign_file.as_deref(), output)?,
                ..Profile::default()
            };
            profile.set_trust(args.fingerprint.clone(), args.ca.clone());
            return Self::new(profile, None, None).await;
        }
        let shared = Shared { database: args.database(), ..Shared::default() };
        let target = Self::start(args, settings, shared).await?;
        if let Some(own) = &target.own {
            output.note(format!("started a server on {}, ready in {} ms", own.address(), own.ready_in().as_millis()));
        }
        Ok(target)
    }

    /// Starts a server.
    pub(crate) async fn start(args: &TargetArgs, settings: &[&str], shared: Shared<'_>) -> Result<Self, Failure> {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).chain(args.set.iter().cloned());
        let arguments: Vec<String> = settings.flat_map(|setting| ["--set".to_owned(), setting]).collect();
        let own = LocalServer::start(args.server_bin.as_deref(), &arguments, shared).await?;
        let http = own.http().map(str::to_owned);
        let data = Some(own.folder().to_owned());
        let target = Self::new(own.profile()?, Some(own.pid()), Some(own)).await?;
        Ok(Self { http, data, ..target })
    }

    async fn new(profile: Profile, pid: Option<u32>, own: Option<LocalServer>) -> Result<Self, Failure> {
        let server = profile.server.clone().unwrap_or_default();
        let Address { given, host, port, name } = Address::of(&Config::new(0, server))?;
        let address = match tokio::net::lookup_host((host.as_str(), port)).await.map(|mut found| found.next()) {
            Ok(Some(address)) => address,
            Ok(None) => return Err(Failure::new(Exit::Network, format!("{given:?} has no address"))),
            Err(error) => return Err(Failure::new(Exit::Network, format!("{given:?} cannot be resolved: {error}"))),
        };
        let mut run = [0; 3];
        getrandom::fill(&mut run).map_err(|error| Failure::other(error.to_string()))?;
        let target = Self::reached(Reach { profile, address, name, run: zim_protocol::id::hex(&run) })?;
        Ok(Self { pid, own, ..target })
    }

    /// The server of the benchmark that has started this process.
    pub(crate) fn reached(Reach { profile, address, name, run }: Reach) -> Result<Self, Failure> {
        let (Some(app_id), Some(app_sign)) = (profile.app_id, profile.app_sign.clone()) else {
            return Err(Failure::usage("--app-id and --app-sign-file are needed to log in to this server"));
        };
        let access = Access { address, name, app_id, app_sign };
        Ok(Self { profile, access, run, pid: None, http: None, data: None, own: None })
    }

    /// How another process of this benchmark reaches the server.
    pub(crate) fn reach(&self) -> Reach {
        let Access { address, name, .. } = &self.access;
        Reach { profile: self.profile.clone(), address: *address, name: name.clone(), run: self.run.clone() }
    }

    /// Returns the name of a user of this run.
    pub(crate) fn user(&self, role: &str, number: usize) -> String {
        user(&self.run, role, number)
    }

    /// Returns a sample of the server, if it is on this machine.
    pub(crate) fn sample(&self) -> Option<Sample> {
        self.pid.and_then(Sample::of)
    }

    /// Returns the address of the server's metrics, if it is on this machine.
    pub(crate) fn http(&self) -> Option<&str> {
        self.http.as_deref()
    }

    /// Returns the data folder of the server, if it was started here.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.own.as_ref().map(LocalServer::folder)
    }

    /// Returns the files with the server's certificate and its key, if the server is on this machine and has made them.
    pub(crate) fn certificate(&self) -> Option<[PathBuf; 2]> {
        let data = self.data.as_ref()?;
        Some(["cert.pem", "key.pem"].map(|name| data.join(name)))
            .filter(|files| files.iter().all(|file| file.is_file()))
    }

    /// Returns the cost of the server since `before`.
    pub(crate) fn cost(&self, before: Option<Sample>) -> Option<Cost> {
        Some(before?.until(self.sample()?))
    }

    /// Returns the start-up time, if the server was started here.
    pub(crate) fn ready_in(&self) -> Option<std::time::Duration> {
        self.own.as_ref().map(LocalServer::ready_in)
    }

    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self.own {
            Some(own) => own.stop().await,
            None => Ok(()),
        }
    }
}
