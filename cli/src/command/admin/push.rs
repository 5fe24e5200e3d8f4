//! `zim admin push`: the services that deliver offline push, and what became of pushes.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use zim_protocol::{
    ListPushLogRequest, ListPushProvidersRequest, PlatformType, PushLogRow, PushOutcome, PushSource, PushTest,
    RemovePushProviderRequest, SetPushProviderRequest, TestPushRequest,
};

use super::{Operator, refused};
use crate::command::push::{parse_source, source_name};
use crate::context::{Context, now_ms};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Output, Table, when};
use crate::secret;
use crate::text::preview;

/// `zim admin push`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim admin push set webhook --url https://app.example/push --secret-file secret
  zim admin push set web-push --subject mailto:ops@example.org
  zim admin push list
  zim admin push log bob")]
pub(crate) enum PushCommand {
    /// Store the credentials of an app at a push service; they are used at once
    #[command(subcommand)]
    Set(SetCommand),
    /// List the push services of an app, without their secrets
    List {
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Remove the credentials of an app at a push service: apns, fcm, web-push or webhook
    Remove {
        /// The push service
        #[arg(value_name = "SERVICE", value_parser = parse_source)]
        source: PushSource,
        #[command(flatten)]
        of: Of,
    },
    /// Show what became of the pushes to a user
    Log {
        /// The user
        user: String,
        /// The number of pushes to show
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        count: usize,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
    /// Send a push to each device of a user now, and say which step fails
    Test {
        /// The user
        user: String,
        /// The title of the push
        #[arg(long, default_value = "zim")]
        title: String,
        /// The text of the push
        #[arg(long, default_value = "This is a test.")]
        content: String,
        /// The app [default: the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
    },
}

/// Which credentials.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Of {
    /// The app [default: the only one]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
    /// Tells several credentials of the app for one service apart, as devices register with it
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..=100))]
    app_type: i64,
}

/// `zim admin push set`
#[derive(Debug, Subcommand)]
pub(crate) enum SetCommand {
    /// Your own back end, which gets each push as JSON; also for the tokens of Huawei, Xiaomi, Oppo, Vivo and Honor
    Webhook {
        /// Where pushes are posted
        #[arg(long)]
        url: String,
        /// A file with the key of the signatures, at least 16 characters; - is standard input
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// A PEM file with the certificate authority [default: those of the server's system]
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        #[command(flatten)]
        of: Of,
    },
    /// Firebase Cloud Messaging, for Android
    Fcm {
        /// The service account, as Google's console exports it (JSON)
        #[arg(long, value_name = "FILE")]
        service_account: PathBuf,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        of: Of,
    },
    /// Apple's push service
    Apns {
        /// The key, a .p8 file of Apple's console
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// The ID of the key
        #[arg(long, value_name = "ID")]
        key_id: String,
        /// The ID of the team
        #[arg(long, value_name = "ID")]
        team_id: String,
        /// The bundle ID of the app; calls ring through the same with .voip
        #[arg(long, value_name = "BUNDLE")]
        topic: String,
        /// For builds that are under development
        #[arg(long)]
        sandbox: bool,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        of: Of,
    },
    /// Browsers; the server makes a key the first time, and keeps it
    WebPush {
        /// Whom a push service may write to: mailto:… or https://…
        #[arg(long, value_name = "URL")]
        subject: String,
        /// A PEM file with the certificate authority [default: those of the server's system]
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        #[command(flatten)]
        of: Of,
    },
}

/// Where a push service is, if it is not where it usually is, and what the names of pushes stand for there.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// A file with what the resourcesID of a push stands for (JSON)
    #[arg(long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Another address than the usual one, such as that of a proxy
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    endpoint: String,
    /// A PEM file with the certificate authority [default: those of the server's system]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Runs a command.
pub(super) async fn run(command: PushCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    match command {
        PushCommand::Set(command) => {
            let (source, of, settings) = settings(command, output)?;
            set((source, of), settings, operator, output).await
        }
        PushCommand::List { app_id } => list(app_id, operator, output).await,
        PushCommand::Remove { source, of } => {
            let app_id = operator.app(of.app_id).await?;
            let request = RemovePushProviderRequest { app_id, source: source as i32, app_type: of.app_type };
            let done = operator.client.remove_push_provider(request).await.map_err(|status| refused(&status))?;
            let done = done.into_inner();
            if !done.is_found {
                return Err(Failure::new(Exit::Refused, "there are no such credentials").hint("zim admin push list"));
            }
            if output.is_json() { output.json(&done) } else { output.line("The credentials are removed.") }
        }
        PushCommand::Log { user, count, app_id } => {
            let app_id = operator.app(app_id).await?;
            show_log((app_id, user), count, operator, output).await
        }
        PushCommand::Test { user, title, content, app_id } => {
            let app_id = operator.app(app_id).await?;
            let request = TestPushRequest { app_id, user_id: user, title, content };
            let done = operator.client.test_push(request).await.map_err(|status| refused(&status))?.into_inner();
            show_tests(&done.tests, output)
        }
    }
}

/// Reads the settings of a push service from options and files.
fn settings(command: SetCommand, output: Output) -> Result<(PushSource, Of, Value), Failure> {
    let mut fields = Map::new();
    if let SetCommand::Fcm { place, .. } | SetCommand::Apns { place, .. } = &command
        && let Some(file) = &place.resources
    {
        let resources = serde_json::from_str(&pem(Some(file))?)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        fields.insert("resources".to_owned(), resources);
    }
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            fields.insert(name.to_owned(), Value::String(value));
        }
    };
    let (source, of) = match command {
        SetCommand::Webhook { url, secret_file, ca_file, of } => {
            put("url", url);
            put("secret", secret::read(None, Some(&secret_file), output)?.unwrap_or_default());
            put("ca", pem(ca_file.as_deref())?);
            (PushSource::Webhook, of)
        }
        SetCommand::Fcm { service_account, place, of } => {
            // Among its fields are those that the server needs.
            let account: Map<String, Value> = serde_json::from_str(&pem(Some(&service_account))?)
                .map_err(|error| Failure::usage(format!("{}: {error}", service_account.display())))?;
            for name in ["project_id", "client_email", "private_key", "token_uri"] {
                put(name, account.get(name).and_then(Value::as_str).unwrap_or_default().to_owned());
            }
            put("endpoint", place.endpoint);
            put("ca", pem(place.ca_file.as_deref())?);
            (PushSource::Fcm, of)
        }
        SetCommand::Apns { key_file, key_id, team_id, topic, sandbox, place, of } => {
            put("privateKey", pem(Some(&key_file))?);
            put("keyId", key_id);
            put("teamId", team_id);
            put("topic", topic);
            put("endpoint", place.endpoint);
            put("ca", pem(place.ca_file.as_deref())?);
            fields.insert("sandbox".to_owned(), sandbox.into());
            (PushSource::Apns, of)
        }
        SetCommand::WebPush { subject, ca_file, of } => {
            put("subject", subject);
            put("ca", pem(ca_file.as_deref())?);
            (PushSource::WebPush, of)
        }
    };
    Ok((source, of, Value::Object(fields)))
}

/// Reads a file, if there is one.
fn pem(file: Option<&Path>) -> Result<String, Failure> {
    let Some(file) = file else { return Ok(String::new()) };
    fs::read_to_string(file).map_err(|error| Failure::other(format!("{}: {error}", file.display())))
}

async fn set(
    (source, of): (PushSource, Of),
    settings: Value,
    operator: &mut Operator,
    output: Output,
) -> Result<(), Failure> {
    let app_id = operator.app(of.app_id).await?;
    let settings = settings.to_string();
    let request = SetPushProviderRequest { app_id, source: source as i32, app_type: of.app_type, settings };
    let done = operator.client.set_push_provider(request).await.map_err(|status| refused(&status))?.into_inner();
    if output.is_json() {
        return output.json(&done);
    }
    output.line(format!("Pushes of app {app_id} go out by {} from now on.", source_name(source as i32)))?;
    let shown: Map<String, Value> = serde_json::from_str(&done.settings).unwrap_or_default();
    match shown.get("publicKey").and_then(Value::as_str) {
        Some(key) => output.line(format!("Browsers subscribe with the applicationServerKey {key}")),
        None => Ok(()),
    }
}

async fn list(app_id: Option<u32>, operator: &mut Operator, output: Output) -> Result<(), Failure> {
    let app_id = operator.app(app_id).await?;
    let request = ListPushProvidersRequest { app_id };
    let found = operator.client.list_push_providers(request).await.map_err(|status| refused(&status))?.into_inner();
    if output.is_json() {
        return found.providers.iter().try_for_each(|provider| output.json(provider));
    }
    if found.providers.is_empty() {
        return output.line("The app has no push service: nothing is pushed.");
    }
    let mut table = Table::new(&[
        ("SERVICE", Align::Left),
        ("APP TYPE", Align::Right),
        ("SINCE", Align::Left),
        ("SETTINGS", Align::Left),
    ]);
    for provider in &found.providers {
        table.row([
            source_name(provider.source).to_owned(),
            provider.app_type.to_string(),
            when(provider.changed_at, now_ms()),
            preview(&provider.settings, 100),
        ]);
    }
    output.table(&table)
}

async fn show_log(
    (app_id, user_id): (u32, String),
    count: usize,
    operator: &mut Operator,
    output: Output,
) -> Result<(), Failure> {
    let (mut rows, mut after): (Vec<PushLogRow>, String) = (Vec::new(), String::new());
    while rows.len() < count {
        let left = u32::try_from((count - rows.len()).min(100)).unwrap_or(100);
        let request = ListPushLogRequest { app_id, user_id: user_id.clone(), after, count: left };
        let page = operator.client.list_push_log(request).await.map_err(|status| refused(&status))?.into_inner();
        rows.extend(page.rows);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    if output.is_json() {
        return rows.iter().try_for_each(|row| output.json(row));
    }
    if rows.is_empty() {
        return output.line("Nothing was to be pushed to this user, or their devices are not registered for push.");
    }
    let mut table = Table::new(&[
        ("AT", Align::Left),
        ("FROM", Align::Left),
        ("WHAT", Align::Left),
        ("SERVICE", Align::Left),
        ("PUSH ID", Align::Left),
        ("OUTCOME", Align::Left),
        ("TRIED", Align::Right),
        ("NEXT", Align::Left),
        ("WHY", Align::Left),
    ]);
    for row in &rows {
        table.row(log_row(row, now_ms()));
    }
    output.table(&table)
}

fn log_row(row: &PushLogRow, now: i64) -> [String; 9] {
    [
        when(row.at, now),
        preview(&row.sender_user_id, 32),
        preview(&row.kind, 20),
        source_name(row.source).to_owned(),
        if row.push_id.is_empty() { "gone".to_owned() } else { preview(&row.push_id, 20) },
        outcome(row.outcome()).to_owned(),
        row.attempts.to_string(),
        when(row.next_at, now),
        preview(&row.detail, 80),
    ]
}

fn outcome(outcome: PushOutcome) -> &'static str {
    match outcome {
        PushOutcome::Waiting => "waits",
        PushOutcome::Sent => "sent",
        PushOutcome::Skipped => "skipped",
        PushOutcome::Failed => "failed",
    }
}

fn show_tests(tests: &[PushTest], output: Output) -> Result<(), Failure> {
    if tests.is_empty() {
        return Err(Failure::new(Exit::Refused, "no device of this user is registered for push")
            .hint("the app calls register after its login; zim push list shows the devices"));
    }
    for (number, test) in (1..).zip(tests) {
        match output.is_json() {
            true => output.json(test)?,
            false => test_lines(number, test).into_iter().try_for_each(|line| output.line(line))?,
        }
    }
    let failed = tests.iter().filter(|test| test.outcome() == PushOutcome::Failed).count();
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Refused, format!("{failed} of {} pushes failed", tests.len()))),
    }
}

/// Says step by step how far a push came.
fn test_lines(number: usize, test: &PushTest) -> Vec<String> {
    let platform = PlatformType::try_from(test.platform).map_or_else(|_| "?".to_owned(), |known| format!("{known:?}"));
    let mut lines = vec![format!(
        "Device {number}: {platform}, {}, push ID {}",
        source_name(test.source),
        preview(&test.push_id, 20)
    )];
    lines.push(match test.is_online {
        true => "  connected    yes: it gets messages without a push".to_owned(),
        false => "  connected    no".to_owned(),
    });
    lines.push(match test.has_provider {
        true => "  credentials  yes".to_owned(),
        false => "  credentials  MISSING: zim admin push set".to_owned(),
    });
    if test.has_provider {
        lines.push(format!("  {:<12} {}", outcome(test.outcome()), preview(&test.detail, 200)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn a_test_says_which_step_fails() {
        let test = PushTest { source: PushSource::Fcm as i32, detail: "404".into(), ..PushTest::default() };
        let lines = test_lines(1, &test);
        assert_eq!(lines.len(), 3);
        assert!(lines[2].contains("MISSING"), "{lines:?}");
        let test = PushTest { has_provider: true, outcome: PushOutcome::Failed as i32, ..test };
        assert!(test_lines(1, &test)[3].contains("failed       404"));
        for format in [Format::Plain, Format::Json] {
            assert!(show_tests(&[], Output::from_env(Some(format))).is_err());
            assert!(show_tests(std::slice::from_ref(&test), Output::from_env(Some(format))).is_err());
        }
    }

    #[test]
    fn a_row_of_the_log_says_why() {
        let row = PushLogRow { outcome: PushOutcome::Skipped as i32, detail: "read".into(), ..PushLogRow::default() };
        assert_eq!(log_row(&row, 0)[4..], ["gone", "skipped", "0", "", "read"]);
        // Years later, the time is a date.
        let (push_id, next_at) = ("77".to_owned(), 86_400_000 * 7);
        let waits = PushLogRow { outcome: PushOutcome::Waiting as i32, push_id, next_at, attempts: 2, ..row };
        assert_eq!(log_row(&waits, 1_800_000_000_000)[4..], ["77", "waits", "2", "1970-01-08", "read"]);
    }
}
