//! The program: loads the settings, and runs a command, or a server until a signal stops it.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zim_files::{Exposed, Others, Owner};
use zim_protocol::clock::Clock;

use crate::config::{Args, Command, Config, ConfigError, LogFormat, texts};
use crate::server::{Server, StartError};
use crate::signal::Signals;
use crate::{log, maintenance};

/// Runs the program. The exit code is 0 for success, 2 for wrong settings, and 1 for any other failure.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let args = match Args::parse_from(arguments) {
        Ok(args) => args,
        Err(ConfigError::Args(error)) => {
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
        Err(error) => return fail(error, 2),
    };
    let loaded = texts(variables).and_then(|variables| {
        let file = args.file(&variables);
        Ok((file, Config::load(&args, variables)?))
    });
    let (file, config) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return fail(error, 2),
    };
    let outcome = match args.command {
        Some(Command::CheckConfig) => {
            return match maintenance::check_files(&config) {
                Ok(()) => print(toml::to_string(&config).unwrap_or_default()),
                Err(error) => fail(error, 2),
            };
        }
        Some(Command::NewEpoch) => on_runtime(&config, new_epoch(config.clone())),
        Some(Command::Migrate) => on_runtime(&config, migrate(config.clone(), args.from, args.to)),
        None => on_runtime(&config, serve(config.clone(), file)),
    };
    match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(StartError::Config(error))) => fail(error, 2),
        Ok(Err(error)) => fail(error, 1),
        Err(error) => fail(error, 1),
    }
}

fn on_runtime<T>(config: &Config, work: impl Future<Output = T>) -> io::Result<T> {
    log::init(&config.log);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // The threads of the database wake whoever waits for an answer. By default that is looked at after up to 61 tasks: those
    // of a push to a large group would come first.
    builder.global_queue_interval(5);
    if config.workers > 0 {
        builder.worker_threads(config.workers);
    }
    Ok(builder.enable_all().build()?.block_on(work))
}

/// Returns how others can read the database password in the settings file, if they can.
fn password_exposure(config: &Config, file: &Path) -> Option<Exposed> {
    let found = std::fs::metadata(file).ok().filter(|_| config.database.has_password())?;
    Owner::this_user().check(file, &found, Others::Nothing).err()
}

async fn serve(config: Config, file: Option<PathBuf>) -> Result<ExitCode, StartError> {
    if let Some(exposed) = file.and_then(|file| password_exposure(&config, &file)) {
        tracing::warn!(%exposed, repair = exposed.repair(), "the settings file contains the database password");
    }
    let format = config.log.format;
    let server = Server::start(config).await?;
    let mut signals = Signals::listen()
        .inspect_err(|error| tracing::warn!(%error, "the server cannot receive a stop signal; kill it to stop it"))
        .ok();
    tracing::debug!("the server receives signals");
    print(announcement(&server, format, io::stdout().is_terminal()));
    let lost = tokio::select! {
        signal = stop_signal(&mut signals) => {
            tracing::info!(signal, "a signal stops the server");
            None
        }
        reason = server.database_lost() => Some(reason),
    };
    tokio::select! {
        left = server.stop() => Ok(match lost {
            Some(reason) => fail(format!("the server has stopped: {reason}"), 1),
            None if left == 0 => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        }),
        // A second signal stops the server at once.
        _ = stop_signal(&mut signals) => Ok(ExitCode::FAILURE),
    }
}

/// Waits for a signal. A server that cannot receive one runs until it is killed.
async fn stop_signal(signals: &mut Option<Signals>) -> &'static str {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// Returns what a ready server prints on standard output. With the JSON format that is nothing: the log line "the server is
/// ready" has the same facts.
fn announcement(server: &Server, format: LogFormat, to_terminal: bool) -> String {
    match format {
        LogFormat::Pretty => server.banner(to_terminal),
        LogFormat::Json => String::new(),
    }
}

async fn new_epoch(config: Config) -> Result<ExitCode, StartError> {
    let epoch = maintenance::new_epoch(config, Clock::system()).await?;
    Ok(print(format!("The new epoch is {}. Every client will synchronize anew.\n", zim_protocol::id::hex(&epoch))))
}

async fn migrate(config: Config, from: Option<String>, to: Option<String>) -> Result<ExitCode, StartError> {
    let rows = maintenance::migrate(config, from, to).await?;
    Ok(print(format!(
        "{rows} rows are copied and compared. Set `database` to the new address, and start the server with the same data folder. \
         Clients continue, and synchronize anew.\n"
    )))
}

fn print(text: String) -> ExitCode {
    // Standard output may be closed, which is not a failure of the server.
    drop(io::stdout().lock().write_all(text.as_bytes()));
    ExitCode::SUCCESS
}

fn fail(error: impl Display, code: u8) -> ExitCode {
    drop(writeln!(io::stderr().lock(), "zim-server: {error}"));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_password_in_a_file_that_others_can_read_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zim.toml");
        std::fs::write(&file, "").unwrap();
        let with = |url: &str| Config { database: url.parse().unwrap(), ..Config::default() };
        let is_exposed = |url: &str, mode| {
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            password_exposure(&with(url), &file).is_some()
        };
        assert!(is_exposed("postgres://zim:hunter2@localhost/zim", 0o644));
        assert!(!is_exposed("postgres://zim:hunter2@localhost/zim", 0o600));
        assert!(!is_exposed("postgres://zim@localhost/zim", 0o644));
        assert!(password_exposure(&with("postgres://zim:hunter2@localhost/zim"), &dir.path().join("none")).is_none());
    }

    #[tokio::test]
    async fn the_app_sign_is_shown_at_the_first_start_and_on_terminals() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::local(dir.path().join("data"));
        let mut server = Server::start(config.clone()).await.unwrap();
        let sign = server.first_app().app_sign.clone();
        assert!(announcement(&server, LogFormat::Pretty, false).contains(&sign), "no app sign at the first start");
        for (start, to_terminal) in [("first", true), ("second", false), ("third", true)] {
            assert_eq!(announcement(&server, LogFormat::Json, to_terminal), "", "at the {start} start");
            server.stop().await;
            server = Server::start(config.clone()).await.unwrap();
            let banner = announcement(&server, LogFormat::Pretty, to_terminal);
            assert!(banner.contains("is ready") && banner.contains("--server-data"), "{banner}");
            assert_eq!(banner.contains(&sign), to_terminal, "{banner}");
        }
        server.stop().await;
    }
}
