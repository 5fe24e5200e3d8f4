//! `zim profile`: lists and chooses the profiles on this machine.

use clap::Subcommand;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Failure;
use crate::output::{Align, Table};
use crate::profile::{AREAS, Profile};

/// `zim profile`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim --profile bob login bob      make a profile
  zim profile use bob              use it for all commands
  zim --profile ann send bob hi    use another one for one command")]
pub(crate) enum ProfileCommand {
    /// List the profiles
    List,
    /// Show a profile, without its secrets
    Show {
        /// The profile [default: the one in use]
        name: Option<String>,
    },
    /// Choose the profile that is used when none is named
    Use {
        /// The profile
        name: String,
    },
    /// Remove a profile and its local copies of messages
    Remove {
        /// The profile
        name: String,
    },
}

/// A profile without its secrets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    profile: String,
    in_use: bool,
    #[serde(rename = "userID")]
    user_id: Option<String>,
    server: Option<String>,
    #[serde(rename = "appID")]
    app_id: Option<u32>,
    login: &'static str,
    trust: String,
    /// The area that the server must be in.
    area: Option<&'static str>,
    file: String,
}

fn shown(name: String, profile: Profile, context: &Context) -> Shown {
    let login = match (&profile.app_sign, &profile.token) {
        (Some(_), _) => "app sign",
        (None, Some(_)) => "token",
        (None, None) => "logged out",
    };
    let trust = match (&profile.fingerprint, &profile.ca) {
        (Some(fingerprint), _) => format!("fingerprint {fingerprint}"),
        (None, Some(file)) => format!("roots in {}", file.display()),
        (None, None) => "roots of the system".to_owned(),
    };
    let area = AREAS.into_iter().find(|(_, number)| Some(*number) == profile.area).map(|(name, _)| name);
    Shown {
        area,
        in_use: name == context.name,
        file: context.profiles.file(&name).display().to_string(),
        profile: name,
        user_id: profile.user_id,
        server: profile.server,
        app_id: profile.app_id,
        login,
        trust,
    }
}

pub(crate) fn run(command: &ProfileCommand, context: &Context) -> Result<(), Failure> {
    match command {
        ProfileCommand::List => list(context),
        ProfileCommand::Show { name } => show(name.as_ref().unwrap_or(&context.name), context),
        ProfileCommand::Use { name } => {
            existing(name, context)?;
            context.profiles.choose(name)?;
            report(context, name, "is now in use")
        }
        ProfileCommand::Remove { name } => {
            // A profile that cannot be read can be removed.
            if !context.profiles.list()?.contains(name) {
                existing(name, context)?;
            }
            context.profiles.remove(name)?;
            report(context, name, "is removed")
        }
    }
}

fn existing(name: &str, context: &Context) -> Result<Profile, Failure> {
    context.profiles.load(name)?.ok_or_else(|| {
        Failure::usage(format!("there is no profile {name:?}"))
            .hint(format!("create it: zim --profile {name} login USER"))
    })
}

fn report(context: &Context, name: &str, what: &str) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({ "profile": name }));
    }
    context.output.line(format!("Profile {name:?} {what}."))
}

fn list(context: &Context) -> Result<(), Failure> {
    let mut table =
        Table::new(&[("", Align::Left), ("PROFILE", Align::Left), ("USER", Align::Left), ("SERVER", Align::Left)]);
    let mut unreadable = Vec::new();
    for name in context.profiles.list()? {
        let profile = match context.profiles.load(&name) {
            Ok(Some(profile)) => profile,
            Ok(None) => continue,
            Err(failure) => {
                unreadable.push((name, failure.message));
                continue;
            }
        };
        let shown = shown(name, profile, context);
        if context.output.is_json() {
            context.output.json(&shown)?;
            continue;
        }
        let mark = if shown.in_use { "*" } else { " " };
        table.row([
            mark.to_owned(),
            shown.profile,
            shown.user_id.unwrap_or_default(),
            shown.server.unwrap_or_default(),
        ]);
    }
    if !context.output.is_json() && !table.is_empty() {
        context.output.table(&table)?;
    }
    match unreadable.first() {
        Some((first, _)) => {
            let all: Vec<_> =
                unreadable.iter().map(|(name, why)| format!("profile {name:?}: {}", why.trim())).collect();
            let hint = format!("correct the file, or remove the profile: zim profile remove {first}");
            Err(Failure::other(all.join("\n")).hint(hint))
        }
        None if !context.output.is_json() && table.is_empty() => {
            context.output.line("There are no profiles yet: create one with zim login USER.")
        }
        None => Ok(()),
    }
}

fn show(name: &str, context: &Context) -> Result<(), Failure> {
    let shown = shown(name.to_owned(), existing(name, context)?, context);
    if context.output.is_json() {
        return context.output.json(&shown);
    }
    let app_id = shown.app_id.map(|id| id.to_string());
    let rows = [
        ("profile", Some(shown.profile)),
        ("user", shown.user_id),
        ("server", shown.server),
        ("app id", app_id),
        ("logs in by", Some(shown.login.to_owned())),
        ("trusts", Some(shown.trust)),
        ("file", Some(shown.file)),
    ];
    for (what, value) in rows {
        context.output.line(format!("{what:<12}{}", value.unwrap_or_else(|| "-".to_owned())))?;
    }
    match shown.area {
        Some(area) => context.output.line(format!("{:<12}{area}", "must be in")),
        None => Ok(()),
    }
}
