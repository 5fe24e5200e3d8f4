//! Settings by name, for clients that are created later.

use parking_lot::Mutex;
use zim_protocol::ErrorCode;

use crate::config::Config;
use crate::error::Error;

/// The settings for clients that are created from now on.
static SETTINGS: Mutex<Vec<Setting>> = Mutex::new(Vec::new());

/// The least and the most milliseconds of a time limit.
const TIME_MS: std::ops::RangeInclusive<u64> = 100..=600_000;

/// A setting that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    ConnectTimeout(u64),
    RequestTimeout(u64),
    ResendWindow(i64),
    RetryLogin(bool),
}

impl Setting {
    fn parse(key: &str, value: &str) -> Result<Self, Error> {
        let wrong = |expected: &str| invalid(format!("{key} is {value:?}; it must be {expected}"));
        let ms = || {
            let ms = value.parse().ok().filter(|ms| TIME_MS.contains(ms));
            ms.ok_or_else(|| wrong("a number of milliseconds from 100 to 600000"))
        };
        match key {
            "connect_timeout_ms" => ms().map(Self::ConnectTimeout),
            "request_timeout_ms" => ms().map(Self::RequestTimeout),
            "resend_window_ms" => ms().map(|ms| Self::ResendWindow(i64::try_from(ms).unwrap_or(i64::MAX))),
            "retry_login" => value.parse().map(Self::RetryLogin).map_err(|_| wrong("true or false")),
            _ => Err(invalid(format!("there is no advanced setting {key:?}"))),
        }
    }

    fn apply(self, config: &mut Config) {
        match self {
            Self::ConnectTimeout(ms) => config.connect_timeout_ms = ms,
            Self::RequestTimeout(ms) => config.request_timeout_ms = ms,
            Self::ResendWindow(ms) => config.resend_window_ms = ms,
            Self::RetryLogin(retries) => config.retries_login = retries,
        }
    }
}

/// Changes the settings of a client that is about to be created.
pub(crate) fn apply(config: &mut Config) {
    SETTINGS.lock().iter().for_each(|setting| setting.apply(config));
}

/// Sets a setting for the clients that are created from now on.
pub(crate) fn set(key: &str, value: &str) -> Result<(), Error> {
    let setting = Setting::parse(key, value)?;
    SETTINGS.lock().push(setting);
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::CommonModuleParamsInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_a_name_and_bounds() {
        for (key, value) in [
            ("connect_timeout_ms", "100"),
            ("request_timeout_ms", "600000"),
            ("resend_window_ms", "5000"),
            ("retry_login", "true"),
        ] {
            let mut config = Config::new(1, "host:1");
            Setting::parse(key, value).unwrap().apply(&mut config);
            let found = match key {
                "connect_timeout_ms" => config.connect_timeout_ms.to_string(),
                "request_timeout_ms" => config.request_timeout_ms.to_string(),
                "resend_window_ms" => config.resend_window_ms.to_string(),
                _ => config.retries_login.to_string(),
            };
            assert_eq!(found, value, "{key}");
        }
        for (key, value) in [
            ("connect_timeout_ms", "99"),
            ("request_timeout_ms", "600001"),
            ("resend_window_ms", "-1"),
            ("resend_window_ms", ""),
            ("retry_login", "yes"),
            ("unknown", "1"),
            ("", ""),
        ] {
            assert_eq!(Setting::parse(key, value).unwrap_err().code(), ErrorCode::CommonModuleParamsInvalid, "{key}");
        }
    }
}
