//! The settings of a server: a file, variables, flags, and values with a syntax.

use std::fs;

use zim_client_sdk::Trust;
use zim_server::config::{AdminListen, Args, Config, ConfigError, DatabaseUrl, Listen};

use super::folder;

/// Reads, by the first byte, a file, lines of `NAME=VALUE` as variables, lines of flags, or a value. Accepted settings
/// are valid, printed settings are accepted again, and a password is never printed.
pub fn config(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let Ok(text) = str::from_utf8(rest) else { return };
    match mode % 4 {
        0 => check(file(text)),
        1 => {
            let variables = text.lines().filter_map(|line| line.split_once('='));
            // This one would read a file of any name.
            let variables = variables.filter(|(name, _)| *name != "ZIM_CONFIG");
            let variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let args = Args::parse_from(["zim-server".into()]).unwrap();
            check(Config::load(&args, variables));
        }
        2 => {
            let is_safe = |flag: &&str| !flag.starts_with("--c");
            let flags = std::iter::once("zim-server").chain(text.lines().take_while(is_safe));
            if let Ok(args) = Args::parse_from(flags.map(Into::into)) {
                check(Config::load(&args, []));
            }
        }
        _ => value(text),
    }
}

fn file(text: &str) -> Result<Config, ConfigError> {
    let name = folder().join("zim.toml");
    fs::write(&name, text).unwrap();
    let args = Args::parse_from(["zim-server".into(), "--config".into(), name.into()])?;
    Config::load(&args, [])
}

/// Accepted settings are valid, and what `zim-server check-config` prints is accepted as a file, except for secrets.
fn check(loaded: Result<Config, ConfigError>) {
    let Ok(mut config) = loaded else { return };
    config.validate().unwrap();
    let printed = toml::to_string(&config).unwrap();
    config.database = config.database.to_string().parse().unwrap();
    assert_eq!(file(&printed).unwrap(), config, "{printed}");
}

fn value(text: &str) {
    if let Ok(listen) = text.parse::<Listen>() {
        let shown = toml::Value::try_from(listen).unwrap();
        assert_eq!(shown.as_str().unwrap().parse(), Ok(listen));
    }
    if let Ok(listen) = text.parse::<AdminListen>() {
        let shown = toml::Value::try_from(&listen).unwrap();
        assert_eq!(shown.as_str().unwrap().parse(), Ok(listen));
    }
    if let Some(Trust::Fingerprint(bytes)) = Trust::fingerprint(text) {
        assert_eq!(text.replace(':', "").to_lowercase(), zim_protocol::id::hex(&bytes));
    }
    // A user, a password, and the rest of an address: no password is shown.
    if let [user, password, rest] = text.splitn(3, '\n').collect::<Vec<_>>()[..] {
        for scheme in ["postgres://", ""] {
            let shown = |password: &str| {
                let address = format!("{scheme}{user}:{password}@{rest}");
                address.parse::<DatabaseUrl>().unwrap().to_string()
            };
            let (with, without) = (shown(password), shown(""));
            // Either nothing after the scheme is shown, or all but user and password. A password that begins with two
            // slashes makes the text before it a scheme.
            let only_scheme = with.strip_suffix('…').is_some_and(|scheme| without.starts_with(scheme));
            let is_hidden = with == without || only_scheme || password.starts_with("//");
            assert!(is_hidden, "a password is shown: {with}");
        }
    }
}
