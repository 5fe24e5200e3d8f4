//! `zim login`: logs in, and saves the settings in a profile if that succeeds.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::admin::{local_apps, only_app};
use crate::context::{Context, one_shot};
use crate::exit::Failure;
use crate::output::{Ink, Output};
use crate::profile::{AREAS, Profile, fingerprint};
use crate::secret;
use crate::start_file::StartFile;

/// The options of which a login needs one, unless the profile or the folder has a secret.
const SECRET: &str = "--app-sign-file FILE or --token-file FILE";

/// `zim login`
#[derive(Debug, Args)]
#[command(after_help = "\
Missing options come from the profile, then from the profile in use, then from a server \
that was started in this folder.

Examples:
  zim login ann
  zim login ann --server chat.example.com:4710 --app-id 1 --token-file token
  zim login ann --server 10.0.0.5:4710 --app-id 1 --app-sign-file sign --fingerprint HEX
  make-token ann | zim login ann --server chat.example.com:4710 --app-id 1 --token -
  zim login ann --area europe
  zim login ann --area any
  zim --profile bob login bob")]
pub(crate) struct LoginArgs {
    /// Your user ID; the first login creates the user
    #[arg(value_name = "USER")]
    user_id: String,
    /// The server
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// The ID of the app
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
    /// A file with the app sign, for an app that trusts its clients; - is standard input
    #[arg(long, value_name = "FILE")]
    app_sign_file: Option<PathBuf>,
    /// The app sign itself; other users of this machine can see it in the process list
    #[arg(long, env = "ZIM_APP_SIGN", hide_env_values = true, value_name = "SIGN")]
    app_sign: Option<String>,
    /// A file with a token from the app's back end; - is standard input
    #[arg(long, conflicts_with_all = ["app_sign", "app_sign_file"], value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token itself, or - for standard input; other users of this machine can see it in the process list
    #[arg(
        long, env = "ZIM_TOKEN", hide_env_values = true, conflicts_with_all = ["app_sign", "app_sign_file"],
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// Trust the certificate with this SHA-256, as the server prints it
    #[arg(long, value_name = "HEX", value_parser = checked_fingerprint)]
    fingerprint: Option<String>,
    /// Trust the root certificates in this PEM file instead of those of the system
    #[arg(long, conflicts_with = "fingerprint", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust the root certificates of the system again
    #[arg(long, conflicts_with_all = ["fingerprint", "ca"])]
    system_roots: bool,
    /// Refuse the server if it says that it is elsewhere: china, north-america, europe, asia, india; any takes it back
    #[arg(long, value_name = "AREA", value_parser = area)]
    area: Option<Wanted>,
    /// The data folder of a server on this machine, in place of the options above
    #[arg(long, env = "ZIM_SERVER_DATA", hide_env_values = true, value_name = "FOLDER")]
    server_data: Option<PathBuf>,
}

/// Where the server has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Anywhere,
    /// In the area with this number.
    In(i64),
}

/// Parses the name of an area.
fn area(text: &str) -> Result<Wanted, String> {
    if text == "any" {
        return Ok(Wanted::Anywhere);
    }
    let found = AREAS.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, number)| Wanted::In(number)).ok_or_else(|| {
        let names = AREAS.map(|(name, _)| name).join(", ");
        format!("the areas are {names}, and any stands for all of them")
    })
}

fn checked_fingerprint(text: &str) -> Result<String, String> {
    fingerprint(text).map(|bytes| zim_protocol::id::hex(&bytes))
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    #[serde(rename = "userID")]
    user_id: &'a str,
    server: &'a str,
    #[serde(rename = "appID")]
    app_id: u32,
    profile: &'a str,
}

pub(crate) async fn run(args: LoginArgs, context: &Context) -> Result<(), Failure> {
    if !zim_protocol::id::is_id(&args.user_id) {
        return Err(Failure::usage(format!("{:?} is not a valid user ID", args.user_id))
            .hint("use ASCII letters, digits and !#$%&()+-:;<=.>?@[]^_{}|~"));
    }
    let profile = profile(args, context).await?;
    let session = one_shot(&profile).await?;
    session.end().await;
    context.profiles.save(&context.name, &profile)?;
    let (user_id, server) = (profile.user_id.as_deref().unwrap_or(""), profile.server.as_deref().unwrap_or(""));
    let app_id = profile.app_id.unwrap_or(0);
    if context.output.is_json() {
        return context.output.json(&LoggedIn { user_id, server, app_id, profile: &context.name });
    }
    let name = context.output.paint(Ink::Name, user_id);
    context.output.line(format!("Logged in as {name} at {server} (app {app_id}, profile {:?}).", context.name))
}

/// Returns the profile, updated by the options.
async fn profile(args: LoginArgs, context: &Context) -> Result<Profile, Failure> {
    let known = context.profiles.load(&context.name)?;
    let is_new = known.is_none();
    let mut profile = match known {
        Some(known) => known,
        None => context.profiles.template()?,
    };
    // A named folder takes precedence over the profile; a server in the current folder does not. Below, it gives a profile of that
    // server the app sign that the profile lacks.
    let local = match (&args.server_data, &args.server, &profile.server) {
        (Some(folder), _, _) => StartFile::find(Some(folder))?,
        (None, None, None) => StartFile::here()?,
        _ => None,
    };
    let is_of_folder = local.is_some();
    if let Some(local) = local {
        context.output.notice(format!("using the server on this machine, {}", local.server));
        if args.app_id.is_none()
            && let Some(apps) = local_apps(&local).await
        {
            only_app(&apps)?;
        }
        profile = Profile { token: profile.token, user_id: profile.user_id, ..local.profile()? };
    } else if is_new
        && args.server.is_none()
        && let Some(server) = &profile.server
    {
        context.output.notice(format!("using the server of the profile in use, {server}"));
    }
    merge(&mut profile, args, context.output)?;
    if profile.server.is_none() {
        return Err(missing("--server HOST:PORT"));
    }
    if profile.app_id.is_none() {
        return Err(missing("--app-id N"));
    }
    if profile.app_sign.is_none() && profile.token.is_none() {
        if is_of_folder {
            return Err(missing(SECRET));
        }
        profile.app_sign = Some(app_sign_here(&profile, context.output)?);
    }
    Ok(profile)
}

fn missing(what: &str) -> Failure {
    Failure::usage(format!("{what} is missing"))
        .hint("a server prints a command for the login when it starts; see also `zim login --help`")
}

/// Returns the app sign of the server in the current folder, if the profile is of that server.
fn app_sign_here(profile: &Profile, output: Output) -> Result<String, Failure> {
    // The profile may be of a server elsewhere: an error about the folder is not all that the user needs to know.
    let here = StartFile::here()
        .map_err(|unused| Failure { message: format!("{SECRET} is missing, and {}", unused.message), ..unused })?;
    let here = here.ok_or_else(|| missing(SECRET))?;
    let sign = here.app_sign_for(profile)?;
    output.notice(format!("using the app sign of the server on this machine, {}", here.server));
    Ok(sign)
}

fn merge(profile: &mut Profile, args: LoginArgs, output: Output) -> Result<(), Failure> {
    let app_sign = secret::read(args.app_sign, args.app_sign_file.as_deref(), output)?;
    let token = secret::read(args.token, args.token_file.as_deref(), output)?;
    if profile.user_id.as_ref().is_some_and(|before| *before != args.user_id) {
        // A token belongs to one user.
        profile.token = None;
    }
    profile.user_id = Some(args.user_id);
    let server_changes = args.server.is_some() && args.server != profile.server;
    if server_changes {
        // The secrets and trust settings of one server must not be used with another.
        *profile = Profile { user_id: profile.user_id.take(), ..Profile::default() };
    }
    if args.app_id.is_some_and(|app_id| profile.app_id.is_some_and(|before| before != app_id)) {
        // The secrets belong to one app.
        (profile.app_sign, profile.token) = (None, None);
    }
    profile.server = args.server.or_else(|| profile.server.take());
    profile.app_id = args.app_id.or(profile.app_id);
    match (app_sign, token) {
        (Some(sign), _) => (profile.app_sign, profile.token) = (Some(sign), None),
        (None, Some(token)) => (profile.app_sign, profile.token) = (None, Some(token)),
        (None, None) => {}
    }
    profile.set_trust(args.fingerprint, args.ca.map(|file| std::path::absolute(&file).unwrap_or(file)));
    if args.system_roots {
        (profile.fingerprint, profile.ca) = (None, None);
    }
    match args.area {
        Some(Wanted::In(number)) => profile.area = Some(number),
        Some(Wanted::Anywhere) => profile.area = None,
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: LoginArgs,
    }

    fn args(line: &str) -> LoginArgs {
        Line::try_parse_from(line.split_whitespace()).unwrap().args
    }

    fn merged(mut profile: Profile, line: &str) -> Profile {
        merge(&mut profile, args(line), Output::from_env(None)).unwrap();
        profile
    }

    #[test]
    fn saved_options_need_not_be_repeated() {
        let first = merged(Profile::default(), "login ann --server s:1 --app-id 7 --app-sign x");
        let again = merged(first.clone(), "login ann");
        assert_eq!(again, first);
        assert_eq!(first.app_id, Some(7));
    }

    #[test]
    fn a_token_replaces_an_app_sign_and_belongs_to_one_user() {
        let first = merged(Profile::default(), "login ann --server s:1 --app-id 7 --app-sign x");
        let token = merged(first, "login ann --token t");
        assert_eq!((token.app_sign.as_deref(), token.token.as_deref()), (None, Some("t")));
        assert_eq!(merged(token, "login bob").token, None);
    }

    #[test]
    fn settings_are_not_used_for_another_server() {
        let fingerprint = "ab".repeat(32);
        let first = merged(
            Profile::default(),
            &format!("login ann --server s:1 --app-id 7 --app-sign x --fingerprint {fingerprint}"),
        );
        assert_eq!(first.fingerprint.as_deref(), Some(fingerprint.as_str()));
        let other = merged(first.clone(), "login ann --server t:1 --app-id 7 --app-sign y");
        assert_eq!(other.fingerprint, None);
        assert_eq!(merged(first.clone(), "login ann --ca ca.pem").fingerprint, None);
        assert_eq!(merged(first, "login ann --system-roots").fingerprint, None);
    }

    #[test]
    fn an_area_holds_until_it_is_taken_back_or_the_server_is_another() {
        let first = merged(Profile::default(), "login ann --server s:1 --app-id 7 --app-sign x --area europe");
        assert_eq!(first.area, Some(4));
        assert_eq!(merged(first.clone(), "login ann").area, Some(4));
        assert_eq!(merged(first.clone(), "login ann --area any").area, None);
        assert_eq!(merged(first, "login ann --server t:1").area, None);
        assert!(Line::try_parse_from(["login", "ann", "--area", "moon"]).unwrap_err().to_string().contains("india"));
        // The SDK knows them all.
        assert!(AREAS.iter().all(|(_, number)| zim_client_sdk::Area::of(*number).is_some()));
    }

    #[test]
    fn secrets_are_not_used_for_another_app() {
        for secret in ["--app-sign x", "--token x"] {
            let first = merged(Profile::default(), &format!("login ann --server s:1 --app-id 7 {secret}"));
            assert_eq!(merged(first.clone(), "login ann --app-id 7"), first);
            let other = merged(first.clone(), "login ann --app-id 8");
            assert_eq!((other.app_id, other.app_sign, other.token), (Some(8), None, None), "{secret}");
            assert_eq!(merged(first, "login ann --app-id 8 --app-sign y").app_sign.as_deref(), Some("y"));
        }
    }

    #[test]
    fn conflicting_options_are_refused() {
        for line in [
            "login ann --token t --app-sign s",
            "login ann --token-file t --app-sign-file s",
            "login ann --token-file t --app-sign s",
            "login ann --token t --app-sign-file s",
            "login ann --fingerprint ab",
            "login ann --ca x --system-roots",
            "login",
        ] {
            assert!(Line::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
