//! `zim admin`: manages a server through its operator's service.

mod act;
mod app;
mod audit;
mod export;
mod group;
mod push;
mod retention;
mod log;
mod message;
mod user;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use zim_client_sdk::Trust;
use zim_protocol::admin::AdminClient;
use zim_protocol::{
    DisconnectUserRequest, ListAppsRequest, ListSessionsRequest, MintTokenRequest, PlatformType, SessionInfo, WorkQueue,
};

use crate::context::{Context, now_ms};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::operator::Target;
use crate::output::{Align, Output, Table, when};
use crate::profile::fingerprint;
use crate::secret;
use crate::start_file::StartFile;
use crate::text::preview;

/// `zim admin`
#[derive(Debug, Args)]
#[command(after_help = "\
The address and the key are found in the data folder of a server that runs on this machine: zim-data in this folder, or the \
folder of --server-data. For another server, pass --admin-url, and the key with --admin-key-file or ZIM_ADMIN_KEY. Another machine \
is reached only with TLS, because the key gives full access. Its certificate is verified by its fingerprint (--admin-fingerprint), \
by a certificate authority (--admin-ca), or by those of this system.

Examples:
  zim admin app create --name shop
  zim admin app rotate server-secret --overlap 24h
  zim admin user ban mallory
  zim admin message broadcast ann 'the server restarts at 8'
  zim admin sessions
  zim admin disconnect bob
  zim admin task list
  zim admin audit list
  zim admin --admin-url https://chat.example.org:4712 --admin-key-file admin.key app list")]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    access: AdminAccess,
    #[command(subcommand)]
    command: AdminCommand,
}

/// The address of the operator's service, and the key to it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Operator's service")]
pub(crate) struct AdminAccess {
    /// The address, as in unix:zim-data/admin.sock or `https://chat.example.org:4712`
    #[arg(long, global = true, env = "ZIM_ADMIN_URL", hide_env_values = true, value_name = "URL")]
    admin_url: Option<String>,
    /// The fingerprint of the certificate, as zim-server prints it, for an https address
    #[arg(long, global = true, env = "ZIM_ADMIN_FINGERPRINT", hide_env_values = true, value_name = "HEX")]
    admin_fingerprint: Option<String>,
    /// A PEM file with the certificate authority, for an https address
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "admin_fingerprint")]
    admin_ca: Option<PathBuf>,
    /// A file with the key, such as admin.key of the server's data folder; - is standard input
    #[arg(long, global = true, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
    /// The key itself; other users of this machine can see it in the process list
    #[arg(long, global = true, env = "ZIM_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    admin_key: Option<String>,
    /// The data folder of a server on this machine
    #[arg(long, global = true, env = "ZIM_SERVER_DATA", hide_env_values = true, value_name = "FOLDER")]
    server_data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Manage apps: secrets, and who may log in
    #[command(subcommand)]
    App(app::AppCommand),
    /// Manage users: list, register, ban, revoke tokens, export, erase
    #[command(subcommand)]
    User(user::UserCommand),
    /// Set up the services that deliver offline push, and see what became of pushes
    #[command(subcommand)]
    Push(push::PushCommand),
    /// Send messages as a user or to everybody, edit or revoke them, or read a conversation
    #[command(subcommand)]
    Message(message::MessageCommand),
    /// List groups and their members, create or dismiss one, add members or remove them
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Create rooms, list or end them, see who is in one, or remove users from it
    #[command(subcommand)]
    Room(act::RoomCommand),
    /// Call any method of the contract as a user, without a device
    Call(act::CallArgs),
    /// List the logs that clients have uploaded, or fetch one
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Set how long messages are kept
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// See what the operator has changed
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Send an experimental event, a text that the app understands, to users who are online
    Event(act::EventArgs),
    /// Make a token for the login of a user
    Token {
        /// The user
        user: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
        /// How long it is valid, as in 90s, 15m, 12h, 7d; at most 24 days
        #[arg(long = "for", value_name = "TIME", default_value = "1d", value_parser = validity)]
        valid: Duration,
    },
    /// List the connected sessions
    Sessions {
        /// Only those of this user
        user: Option<String>,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// See what the server does at a time, such as ending a custom status, and what of it has failed
    #[command(subcommand)]
    Task(work::WorkCommand),
    /// See what the server delivers to other systems, and what of it has failed
    #[command(subcommand)]
    Outbox(work::WorkCommand),
    /// End all sessions of a user; the user may log in again
    Disconnect {
        /// The user
        user: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
}

type Client = AdminClient<InterceptedService<Channel, Key>>;

/// Adds the key to every request.
#[derive(Clone)]
pub(crate) struct Key(MetadataValue<tonic::metadata::Ascii>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection to the operator's service.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) client: Client,
}

impl AdminAccess {
    /// Returns the access to the server on this machine, by the files in its data folder.
    fn local() -> Self {
        Self {
            admin_url: None,
            admin_fingerprint: None,
            admin_ca: None,
            admin_key_file: None,
            admin_key: None,
            server_data: None,
        }
    }

    pub(crate) async fn connect(&self, output: Output) -> Result<Operator, Failure> {
        let local = match (&self.admin_url, &self.server_data) {
            // An explicit address is not that of the server in this folder.
            (Some(_), None) => None,
            (_, folder) => StartFile::find(folder.as_ref())?,
        };
        if let (Some(local), None) = (&local, &self.server_data) {
            output.notice(format!("using the server on this machine, {}", local.server));
        }
        let given = secret::read(self.admin_key.clone(), self.admin_key_file.as_deref(), output)?;
        self.connect_to(local.as_ref(), given).await
    }

    async fn connect_to(&self, local: Option<&StartFile>, given: Option<String>) -> Result<Operator, Failure> {
        let (target, key) = self.choose(local, given)?;
        let mut bearer: MetadataValue<_> =
            format!("Bearer {key}").parse().map_err(|_| Failure::usage("the key contains invalid characters"))?;
        bearer.set_sensitive(true);
        let channel = target.connect(&self.trust(local)?).await?;
        Ok(Operator { client: AdminClient::with_interceptor(channel, Key(bearer)) })
    }

    fn choose(&self, local: Option<&StartFile>, given: Option<String>) -> Result<(Target, String), Failure> {
        let target = match (&self.admin_url, local) {
            (Some(url), _) => Target::parse(url)?,
            (None, Some(StartFile { admin: Some(url), .. })) => Target::parse(url)?,
            (None, Some(_)) => {
                return Err(Failure::other("the server on this machine runs without an operator's service"));
            }
            (None, None) => {
                return Err(Failure::other("no server to manage was found").hint(
                    "start zim-server in this folder, or name the server: --server-data FOLDER or --admin-url URL",
                ));
            }
        };
        let from_folder = || local.map_or(Ok(None), StartFile::admin_key);
        let key = given.map_or_else(from_folder, |key| Ok(Some(key)))?.ok_or_else(|| {
            Failure::new(Exit::Auth, "the operator's key is missing")
                .hint("it is in admin.key of the server's data folder: --server-data FOLDER, or --admin-key-file FILE")
        })?;
        Ok((target, key))
    }

    /// Returns how the server's certificate is verified.
    fn trust(&self, local: Option<&StartFile>) -> Result<Trust, Failure> {
        let known = self.admin_fingerprint.as_ref().or_else(|| local.map(|local| &local.fingerprint));
        Ok(match (&self.admin_ca, known) {
            (Some(file), _) => Trust::CaFile(file.clone()),
            (None, Some(text)) => Trust::Fingerprint(fingerprint(text).map_err(Failure::usage)?),
            (None, None) => Trust::System,
        })
    }
}

impl Operator {
    /// Returns the IDs of all apps.
    pub(crate) async fn apps(&mut self) -> Result<Vec<u32>, Failure> {
        let listed = self.client.list_apps(ListAppsRequest {}).await.map_err(|status| refused(&status))?;
        Ok(listed.into_inner().apps.iter().map(|app| app.app_id).collect())
    }

    /// Returns the app to use: the given one, or the only one of the server.
    async fn app(&mut self, given: Option<u32>) -> Result<u32, Failure> {
        match given {
            Some(app_id) => Ok(app_id),
            None => only_app(&self.apps().await?),
        }
    }
}

/// Parses the validity of a token: 1 second to 24 days.
pub(crate) fn validity(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        valid if (1..=2_073_600).contains(&valid.as_secs()) => Ok(valid),
        _ => Err("a token is valid for 1 second to 24 days".to_owned()),
    }
}

/// Returns the only app; fails if there are several, because each of them may be meant.
pub(crate) fn only_app(apps: &[u32]) -> Result<u32, Failure> {
    match apps {
        [app_id] => Ok(*app_id),
        _ => Err(Failure::usage(format!("the server has {} apps: choose one with --app-id", apps.len()))
            .hint("zim admin app list")),
    }
}

/// Returns the IDs of the apps of a server on this machine. `None` if its operator's service is off, or open to another user
/// only.
pub(crate) async fn local_apps(local: &StartFile) -> Option<Vec<u32>> {
    let mut operator = AdminAccess::local().connect_to(Some(local), None).await.ok()?;
    operator.apps().await.ok()
}

/// Converts an error of the operator's service.
pub(crate) fn refused(status: &Status) -> Failure {
    if std::error::Error::source(status).is_some() {
        // The error is not from the service: the connection broke, or something else listens at the address.
        return Failure::new(Exit::Network, format!("the operator's service does not answer: {}", status.message()))
            .hint("is the address right? On addresses other than this machine's it requires TLS: https://");
    }
    let exit = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Exit::Auth,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Exit::Network,
        _ => Exit::Refused,
    };
    let failure = Failure::new(exit, status.message());
    match exit {
        Exit::Auth => failure.hint("the key is in admin.key of the server's data folder"),
        _ => failure,
    }
}

pub(crate) async fn run(args: AdminArgs, context: &Context) -> Result<(), Failure> {
    let mut operator = args.access.connect(context.output).await?;
    match args.command {
        AdminCommand::App(command) => app::run(command, &mut operator, context).await,
        AdminCommand::User(command) => user::run(command, &mut operator, context).await,
        AdminCommand::Push(command) => push::run(command, &mut operator, context).await,
        AdminCommand::Message(command) => message::run(command, &mut operator, context).await,
        AdminCommand::Group(command) => group::run(command, &mut operator, context).await,
        AdminCommand::Room(command) => act::room(command, &mut operator, context).await,
        AdminCommand::Log(command) => log::run(command, &mut operator, context).await,
        AdminCommand::Retention(command) => retention::run(command, &mut operator, context).await,
        AdminCommand::Audit(command) => audit::run(command, &mut operator, context).await,
        AdminCommand::Event(args) => act::event(args, &mut operator, context).await,
        AdminCommand::Call(args) => act::call(args, &mut operator, context).await,
        AdminCommand::Task(command) => work::run(WorkQueue::Tasks, command, &mut operator, context).await,
        AdminCommand::Outbox(command) => work::run(WorkQueue::Outbox, command, &mut operator, context).await,
        AdminCommand::Token { user, app_id, valid } => {
            let app_id = operator.app(app_id).await?;
            let effective_seconds = i64::try_from(valid.as_secs()).unwrap_or(i64::MAX);
            let request = MintTokenRequest { app_id, user_id: user, effective_seconds };
            let minted = operator.client.mint_token(request).await.map_err(|status| refused(&status))?.into_inner();
            if context.output.is_json() {
                return context.output.json(&minted);
            }
            context.output.line(&minted.token)
        }
        AdminCommand::Sessions { user, app_id } => {
            let app_id = operator.app(app_id).await?;
            let request = ListSessionsRequest { app_id, user_id: user.unwrap_or_default() };
            let found = operator.client.list_sessions(request).await.map_err(|status| refused(&status))?;
            list_sessions(context, &found.into_inner().sessions)
        }
        AdminCommand::Disconnect { user, app_id } => {
            let app_id = operator.app(app_id).await?;
            let request = DisconnectUserRequest { app_id, user_id: user.clone() };
            let done = operator.client.disconnect_user(request).await.map_err(|status| refused(&status))?.into_inner();
            if context.output.is_json() {
                return context.output.json(&done);
            }
            let user = preview(&user, 32);
            context.output.line(match done.sessions {
                0 => format!("{user} was not connected."),
                1 => format!("1 session of {user} has ended."),
                many => format!("{many} sessions of {user} have ended."),
            })
        }
    }
}

fn list_sessions(context: &Context, sessions: &[SessionInfo]) -> Result<(), Failure> {
    if context.output.is_json() {
        return sessions.iter().try_for_each(|session| context.output.json(session));
    }
    if sessions.is_empty() {
        return context.output.line("No sessions are connected.");
    }
    let mut table = Table::new(&[
        ("USER", Align::Left),
        ("PLATFORM", Align::Left),
        ("SINCE", Align::Left),
        ("ADDRESS", Align::Left),
        ("SDK", Align::Left),
        ("BEHIND", Align::Right),
    ]);
    for session in sessions {
        let mut platform =
            PlatformType::try_from(session.platform).map_or_else(|_| "?".to_owned(), |known| format!("{known:?}"));
        if session.one_shot {
            platform.push_str(", one-shot");
        }
        table.row([
            preview(&session.user_id, 32),
            platform,
            when(session.login_at_ms, now_ms()),
            preview(&session.address, 60),
            preview(&session.sdk_version, 20),
            session.events_behind.to_string(),
        ]);
    }
    context.output.table(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: Option<&str>) -> AdminAccess {
        AdminAccess { admin_url: url.map(str::to_owned), ..AdminAccess::local() }
    }

    fn local(admin: Option<&str>) -> StartFile {
        let text = format!(
            r#"{{"pid":1,"server":"127.0.0.1:4710","admin":{},"fingerprint":"{}","appID":7}}"#,
            serde_json::to_string(&admin).unwrap(),
            "ab".repeat(32)
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn options_take_precedence_over_the_data_folder() {
        let choose = |url, key: Option<&str>, local: Option<&StartFile>| {
            let given = key.map(str::to_owned);
            access(url).choose(local, given).map(|(target, key)| (target.to_string(), key))
        };
        let (remote, local_url) = ("https://10.0.0.5:4712", "unix:/data/admin.sock");
        let local = |admin| Some(local(admin));
        for (url, key, local, expected) in [
            (Some("10.0.0.5:4712"), Some("k"), None, (remote, "k")),
            (Some(remote), Some("k"), local(Some(local_url)), (remote, "k")),
            (None, Some("k"), local(Some(local_url)), (local_url, "k")),
        ] {
            assert_eq!(choose(url, key, local.as_ref()).unwrap(), (expected.0.to_owned(), expected.1.to_owned()));
        }
        assert_eq!(choose(Some(remote), None, None).unwrap_err().exit, Exit::Auth);
        assert_eq!(choose(None, Some("k"), None).unwrap_err().exit, Exit::Other);
        assert_eq!(choose(None, Some("k"), local(None).as_ref()).unwrap_err().exit, Exit::Other);
        assert_eq!(choose(Some("http://10.0.0.5:4712"), Some("k"), None).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_server_on_this_machine_is_trusted_by_its_fingerprint() {
        let mut access = access(None);
        assert_eq!(access.trust(None).unwrap(), Trust::System);
        assert_eq!(access.trust(Some(&local(None))).unwrap(), Trust::Fingerprint([0xab; 32]));
        access.admin_fingerprint = Some("cd".repeat(32));
        assert_eq!(access.trust(Some(&local(None))).unwrap(), Trust::Fingerprint([0xcd; 32]));
        access.admin_ca = Some("ca.pem".into());
        assert_eq!(access.trust(Some(&local(None))).unwrap(), Trust::CaFile("ca.pem".into()));
        access = AdminAccess { admin_ca: None, admin_fingerprint: Some("cd".to_owned()), ..access };
        assert_eq!(access.trust(None).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn an_error_of_the_service_has_its_exit_code() {
        assert_eq!(refused(&Status::unauthenticated("x")).exit, Exit::Auth);
        assert_eq!(refused(&Status::unavailable("x")).exit, Exit::Network);
        assert_eq!(refused(&Status::not_found("x")).exit, Exit::Refused);
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", Key(MetadataValue::from_static("Bearer secret"))).contains("secret"));
    }
}
