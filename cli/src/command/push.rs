//! `zim push`: where devices get offline push.

use clap::{Args, Subcommand};
use serde_json::Value;
use zim_client_sdk::{PushToken, Zim};
use zim_protocol::{PlatformType, PushRegistration, PushSource};

use crate::context::{Context, now_ms};
use crate::exit::Failure;
use crate::output::{Align, Output, Table, when};
use crate::text::preview;

/// The names of the push services on the command line.
pub(crate) const SOURCES: [(&str, PushSource); 10] = [
    ("apns", PushSource::Apns),
    ("apns-voip", PushSource::ApnsVoip),
    ("fcm", PushSource::Fcm),
    ("web-push", PushSource::WebPush),
    ("webhook", PushSource::Webhook),
    ("huawei", PushSource::Huawei),
    ("xiaomi", PushSource::Xiaomi),
    ("oppo", PushSource::Oppo),
    ("vivo", PushSource::Vivo),
    ("honor", PushSource::Honor),
];

/// `zim push`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
The profile becomes a device that is away: messages with a push reach it by the push service until it logs out, as zim listen \
and zim chat do at their end. Which push services the server knows is up to its operator: zim admin push.

Examples:
  zim push register --source webhook my-terminal
  zim push list
  zim push badge 0
  zim push unregister")]
pub(crate) enum PushCommand {
    /// Let this device get pushes
    Register(RegisterArgs),
    /// End the pushes to this device
    Unregister,
    /// List where your devices get pushes
    List,
    /// Set the number that the next push counts on from
    Badge {
        /// The number
        #[arg(value_name = "N", value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
        badge: i64,
    },
}

/// `zim push register`
#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// What the push service knows the device by
    token: String,
    /// The push service
    #[arg(long, value_name = "SERVICE", default_value = "webhook", value_parser = parse_source)]
    source: PushSource,
    /// Which of the app's credentials for the service are used
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..=100))]
    app_type: i64,
}

/// Parses the name of a push service.
pub(crate) fn parse_source(text: &str) -> Result<PushSource, String> {
    let found = SOURCES.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, source)| source).ok_or_else(|| {
        let names: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
        format!("the push services are {}", names.join(", "))
    })
}

/// Returns the name of a push service.
pub(crate) fn source_name(source: i32) -> &'static str {
    SOURCES.into_iter().find(|(_, known)| *known as i32 == source).map_or("?", |(name, _)| name)
}

pub(crate) async fn run(command: PushCommand, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    match command {
        PushCommand::Register(args) => {
            let session = context.own_device().await?;
            let registered = register(args, &session.zim, output).await;
            if registered.is_ok() {
                session.leave().await;
            } else {
                session.end().await;
            }
            registered
        }
        PushCommand::Unregister => {
            let session = context.own_device().await?;
            let done = session.zim.unregister_push().await;
            session.end().await;
            let done = done?;
            if output.is_json() { output.json(&done) } else { output.line("This device gets no pushes any more.") }
        }
        PushCommand::List => {
            let session = context.one_shot().await?;
            let found = session.zim.query_push_list().await;
            session.end().await;
            list(&found?.push_list, output)
        }
        PushCommand::Badge { badge } => {
            let session = context.one_shot().await?;
            let done = session.zim.update_user_badge(badge).await;
            session.end().await;
            let done = done?;
            if output.is_json() { output.json(&done) } else { output.line(format!("The badge is {badge}.")) }
        }
    }
}

async fn register(args: RegisterArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let RegisterArgs { token, source, app_type } = args;
    let done = zim.register_push(PushToken::of(source, token).app_type(app_type)).await?;
    if output.is_json() {
        return output.json(&done);
    }
    let id = preview(&done.push_id, 20);
    output.line(format!(
        "This device gets pushes by {} until it logs out; its push ID is {id}.",
        source_name(source as i32)
    ))
}

/// Returns a registration without what is about the device that asks: a short command is none.
fn shown(registration: &PushRegistration) -> Result<Value, Failure> {
    let mut shown = serde_json::to_value(registration)?;
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("isOwnDevice");
    }
    Ok(shown)
}

fn list(found: &[PushRegistration], output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return found.iter().try_for_each(|registration| output.json(&shown(registration)?));
    }
    if found.is_empty() {
        return output.line("No device of yours gets pushes.");
    }
    let mut table = Table::new(&[
        ("PUSH ID", Align::Left),
        ("SERVICE", Align::Left),
        ("PLATFORM", Align::Left),
        ("APP TYPE", Align::Right),
        ("SINCE", Align::Left),
    ]);
    for registration in found {
        let platform = PlatformType::try_from(registration.platform);
        table.row([
            preview(&registration.push_id, 20),
            source_name(registration.source).to_owned(),
            platform.map_or_else(|_| "?".to_owned(), |known| format!("{known:?}")),
            registration.app_type.to_string(),
            when(registration.registered_time, now_ms()),
        ]);
    }
    output.table(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_push_service_has_a_name() {
        for (name, source) in SOURCES {
            assert_eq!((parse_source(name), source_name(source as i32)), (Ok(source), name));
        }
        assert!(parse_source("pigeon").unwrap_err().contains("apns-voip, fcm"));
    }
}
