//! `zim admin app`: apps, their secrets, and who may log in.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use zim_protocol::{
    App, AppDetails, CbcTokens, CreateAppRequest, DeleteAppRequest, GetAppRequest, ListAppsRequest, Registration,
    RotateSecretRequest, SecretKind, UpdateAppRequest,
};

use super::{Operator, refused};
use crate::context::{Context, now_ms};
use crate::duration;
use crate::exit::Failure;
use crate::output::{Align, Table, when};
use crate::text::preview;

/// `zim admin app`
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Create an app, and print its secrets
    Create {
        /// The name, shown to the operator
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        /// The ID [default: chosen by the server]
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        app_id: u32,
    },
    /// List the apps and their settings, without the secrets
    List,
    /// Show an app: its settings, and how much it is used, without the secrets
    Show {
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Give an app another name
    Rename {
        /// The new name, shown to the operator
        name: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Delete an app with all its users and messages
    #[command(after_help = "\
All sessions of the app end, and nobody can log in to it any more. An interrupted deletion is continued by the same command. \
The last app of a server cannot be deleted. The file of an SQLite database keeps its size: the server uses the space again.

Example:
  zim admin app delete 860873044 --confirm 860873044")]
    Delete {
        /// The app
        #[arg(value_name = "N")]
        app_id: u32,
        /// The app again: a deletion cannot be undone
        #[arg(long, value_name = "N")]
        confirm: Option<u32>,
    },
    /// Change who may log in to an app; sessions that are no longer allowed end at once
    #[command(after_help = "\
AES-CBC tokens carry no authentication tag: a client can modify one, and the server can detect that only by its contents. \
Accept them only while a back end still makes them, and move that back end to AES-GCM tokens.
  off   refuse them
  on    accept those of ZEGO's generators in Python, Node and Go, and in C# without a payload. A client with several
        tokens can make one for a user ID that was never issued, with up to 16 random characters in a row
  java  also accept those of ZEGO's generator in Java without a payload. A client with such a token can change the
        first four characters of the user ID, and remove 16 at a time before them: use it only where this is harmless

Who becomes a user of the app by logging in for the first time:
  anyone    anyone with a token for the user, or with the app sign
  token     anyone with an AES-GCM token for the user: the app's back end decides which users exist
  operator  no one: users are registered with zim admin user register

Examples:
  zim admin app set --cbc-tokens on
  zim admin app set --app-sign off --registration token")]
    Set {
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
        /// Which AES-CBC tokens are accepted
        #[arg(long, value_name = "WHICH")]
        cbc_tokens: Option<Cbc>,
        /// Whether the app sign is accepted for a login
        #[arg(long, value_name = "ON|OFF")]
        app_sign: Option<Switch>,
        /// Who becomes a user by logging in
        #[arg(long, value_name = "WHO")]
        registration: Option<Who>,
    },
    /// Replace a secret of an app, and print the new one
    #[command(after_help = "\
During the overlap both secrets are accepted. Then the old one is refused, and the sessions that it opened end. Without an \
overlap this happens at once. A second rotation during an overlap ends the oldest secret at once.

Examples:
  zim admin app rotate server-secret --overlap 24h
  zim admin app rotate app-sign                      after a leak")]
    Rotate {
        /// The secret to replace
        secret: Which,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
        /// How long the old secret is still accepted, as in 90s, 15m, 12h, 7d; at most 30 days
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = overlap)]
        overlap: Duration,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Cbc {
    Off,
    On,
    Java,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Who {
    Anyone,
    Token,
    Operator,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Which {
    AppSign,
    ServerSecret,
}

impl From<Cbc> for CbcTokens {
    fn from(cbc: Cbc) -> Self {
        match cbc {
            Cbc::Off => Self::Off,
            Cbc::On => Self::On,
            Cbc::Java => Self::Java,
        }
    }
}

impl From<Who> for Registration {
    fn from(who: Who) -> Self {
        match who {
            Who::Anyone => Self::Anyone,
            Who::Token => Self::Token,
            Who::Operator => Self::Operator,
        }
    }
}

impl From<Which> for SecretKind {
    fn from(which: Which) -> Self {
        match which {
            Which::AppSign => Self::AppSign,
            Which::ServerSecret => Self::ServerSecret,
        }
    }
}

fn overlap(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        overlap if overlap.as_secs() <= 30 * 86_400 => Ok(overlap),
        _ => Err("an overlap is at most 30 days".to_owned()),
    }
}

pub(super) async fn run(command: AppCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    match command {
        AppCommand::Create { name, app_id } => {
            let request = CreateAppRequest { app_id, name };
            let made = operator.client.create_app(request).await.map_err(|status| refused(&status))?;
            show_new(context, &made.into_inner())
        }
        AppCommand::List => {
            let apps = operator.client.list_apps(ListAppsRequest {}).await.map_err(|status| refused(&status))?;
            show_all(context, &apps.into_inner().apps)
        }
        AppCommand::Set { app_id, cbc_tokens, app_sign, registration } => {
            if cbc_tokens.is_none() && app_sign.is_none() && registration.is_none() {
                return Err(Failure::usage("nothing to set: give --cbc-tokens, --app-sign or --registration"));
            }
            let request = UpdateAppRequest {
                app_id: operator.app(app_id).await?,
                cbc_tokens: cbc_tokens.map(|cbc| CbcTokens::from(cbc) as i32),
                app_sign_login: app_sign.map(|switch| matches!(switch, Switch::On)),
                registration: registration.map(|who| Registration::from(who) as i32),
                name: None,
            };
            let app = operator.client.update_app(request).await.map_err(|status| refused(&status))?.into_inner();
            show_all(context, std::slice::from_ref(&app))
        }
        AppCommand::Show { app_id } => {
            let app_id = operator.app(app_id).await?;
            show(context, &details(operator, app_id).await?)
        }
        AppCommand::Rename { name, app_id } => {
            let request = UpdateAppRequest {
                app_id: operator.app(app_id).await?,
                name: Some(name),
                ..UpdateAppRequest::default()
            };
            let app = operator.client.update_app(request).await.map_err(|status| refused(&status))?.into_inner();
            show_all(context, std::slice::from_ref(&app))
        }
        AppCommand::Delete { app_id, confirm } => delete(app_id, confirm, operator, context).await,
        AppCommand::Rotate { secret, app_id, overlap } => {
            let request = RotateSecretRequest {
                app_id: operator.app(app_id).await?,
                secret: SecretKind::from(secret) as i32,
                overlap_seconds: i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX),
            };
            let rotated = operator.client.rotate_secret(request).await.map_err(|status| refused(&status))?.into_inner();
            if context.output.is_json() {
                return context.output.json(&rotated);
            }
            context.output.line(&rotated.secret)?;
            context.output.note(match rotated.old_ends_at {
                0 => "The old secret is no longer accepted.".to_owned(),
                at => format!("The old secret is accepted until {}.", when(at, now_ms())),
            });
            Ok(())
        }
    }
}

fn show_new(context: &Context, app: &App) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.json(app);
    }
    let rows = [
        ("app id", app.app_id.to_string()),
        ("name", preview(&app.name, 60)),
        ("app sign", app.app_sign.clone()),
        ("secret", app.server_secret.clone()),
    ];
    rows.into_iter().try_for_each(|(what, value)| context.output.line(format!("{what:<12}{value}")))
}

async fn details(operator: &mut Operator, app_id: u32) -> Result<AppDetails, Failure> {
    let found = operator.client.get_app(GetAppRequest { app_id }).await.map_err(|status| refused(&status))?;
    Ok(found.into_inner())
}

fn show(context: &Context, details: &AppDetails) -> Result<(), Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Shown<'a> {
        #[serde(flatten)]
        app: Listed<'a>,
        created_at: i64,
        users: u64,
        sessions: u32,
    }
    let app = details.app.clone().unwrap_or_default();
    let AppDetails { created_at, users, sessions, .. } = *details;
    if context.output.is_json() {
        return context.output.json(&Shown { app: Listed::of(&app), created_at, users, sessions });
    }
    let rows = [
        ("app id", app.app_id.to_string()),
        ("name", preview(&app.name, 60)),
        ("created", when(created_at, now_ms())),
        ("users", users.to_string()),
        ("sessions", sessions.to_string()),
        ("app sign", on_or_off(app.app_sign_login).to_owned()),
        ("cbc tokens", cbc(&app).to_owned()),
        ("registration", registration(&app).to_owned()),
    ];
    rows.into_iter().try_for_each(|(what, value)| context.output.line(format!("{what:<14}{value}")))
}

async fn delete(app_id: u32, confirm: Option<u32>, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let Some(confirm) = confirm.filter(|confirm| *confirm == app_id) else {
        let AppDetails { app, users, .. } = details(operator, app_id).await?;
        let name = preview(&app.unwrap_or_default().name, 60);
        let message =
            format!("the app {app_id} ({name:?}) has {users} users; they and all their messages would be deleted");
        return Err(Failure::usage(message).hint(format!(
            "a deletion cannot be undone; to confirm: zim admin app delete {app_id} --confirm {app_id}"
        )));
    };
    let mut rows = 0;
    loop {
        let request = DeleteAppRequest { app_id, confirm };
        let done = operator.client.delete_app(request).await.map_err(|status| refused(&status))?.into_inner();
        rows += done.rows;
        if done.is_done {
            break;
        }
        context.output.note(format!("{rows} rows are deleted"));
    }
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({ "appID": app_id, "rows": rows }));
    }
    context.output.line(format!("The app {app_id} is deleted, with {rows} rows."))
}

fn on_or_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

fn cbc(app: &App) -> &'static str {
    match app.cbc_tokens() {
        CbcTokens::Off => "off",
        CbcTokens::On => "on",
        CbcTokens::Java => "java",
    }
}

fn registration(app: &App) -> &'static str {
    match app.registration() {
        Registration::Anyone => "anyone",
        Registration::Token => "token",
        Registration::Operator => "operator",
    }
}

/// An app without the fields of its secrets: they would be empty.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    #[serde(rename = "appID")]
    app_id: u32,
    name: &'a str,
    app_sign_login: bool,
    cbc_tokens: &'static str,
    registration: &'static str,
    old_app_sign_ends_at: i64,
    old_server_secret_ends_at: i64,
}

impl<'a> Listed<'a> {
    fn of(app: &'a App) -> Self {
        Self {
            app_id: app.app_id,
            name: &app.name,
            app_sign_login: app.app_sign_login,
            cbc_tokens: cbc(app),
            registration: registration(app),
            old_app_sign_ends_at: app.old_app_sign_ends_at,
            old_server_secret_ends_at: app.old_server_secret_ends_at,
        }
    }
}

fn show_all(context: &Context, apps: &[App]) -> Result<(), Failure> {
    if context.output.is_json() {
        return apps.iter().try_for_each(|app| context.output.json(&Listed::of(app)));
    }
    let left = |name| (name, Align::Left);
    let mut table = Table::new(&[
        ("APP ID", Align::Right),
        left("NAME"),
        left("APP SIGN"),
        left("CBC TOKENS"),
        left("REGISTRATION"),
    ]);
    for app in apps {
        table.row([
            app.app_id.to_string(),
            preview(&app.name, 60),
            on_or_off(app.app_sign_login).to_owned(),
            cbc(app).to_owned(),
            registration(app).to_owned(),
        ]);
    }
    context.output.table(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_is_at_most_30_days() {
        assert_eq!(overlap("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(overlap("0s"), Ok(Duration::ZERO));
        assert!(overlap("2592001s").is_err());
    }
}
