//! Environment variables: which of them are settings, and which are for others.

use std::ffi::OsString;

use super::ConfigError;

/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "ZIM_";
/// The variable that names the settings file.
pub(super) const CONFIG_FILE: &str = "ZIM_CONFIG";
/// The variables of the command line, which may be set in the same shell.
const OF_OTHERS: [&str; 12] = [
    "ZIM_ADMIN_FINGERPRINT",
    "ZIM_ADMIN_KEY",
    "ZIM_ADMIN_URL",
    "ZIM_APP_SIGN",
    "ZIM_BENCH_BUS",
    "ZIM_BENCH_DATABASE",
    "ZIM_CLI_LOG",
    "ZIM_CONFIG_DIR",
    "ZIM_PROFILE",
    "ZIM_SERVER_DATA",
    "ZIM_SERVER_SECRET",
    "ZIM_TOKEN",
];
/// What the variables of the tests begin with.
const OF_TESTS: [&str; 2] = ["ZIM_TEST_", "ZIM_MODEL_"];

/// Returns the variable of the setting `section.name`.
pub(super) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('.', "_").to_uppercase())
}

/// Refuses variables that name no setting: they are typos.
pub(super) fn check_variables(variables: &[(String, String)], names: &[String]) -> Result<(), ConfigError> {
    let is_known = |given: &str| given == CONFIG_FILE || names.iter().any(|name| variable(name) == *given);
    let unknown = variables.iter().find(|(name, value)| !is_known(name) && !is_of_others(name, value));
    unknown.map_or(Ok(()), |(given, _)| {
        Err(ConfigError::Setting(format!(
            "the variable {given} does not name a setting; check its spelling, or unset it"
        )))
    })
}

/// Returns true for a variable with the prefix that is not for the server.
fn is_of_others(name: &str, value: &str) -> bool {
    OF_OTHERS.contains(&name) || OF_TESTS.iter().any(|prefix| name.starts_with(prefix)) || is_of_kubernetes(name, value)
}

/// Returns true for the variables that Kubernetes and Docker links set for a service whose name begins with `zim`, as in
/// `ZIM_SERVICE_HOST` and `ZIM_PORT_4710_UDP=udp://10.0.0.1:4710`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let numbered_port =
        name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|it: char| it.is_ascii_digit()));
    let is_address = value.starts_with("udp://") || value.starts_with("tcp://");
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || numbered_port
        || (name.ends_with("_PORT") && is_address)
}

/// Returns the variables as text. One that is not valid Unicode and may be a setting is an error.
pub(crate) fn texts(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut texts = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => texts.push((name, value)),
            Err(_) if name.starts_with(PREFIX) && !is_of_others(&name, "") => {
                return Err(ConfigError::Setting(format!("the variable {name} is not valid UTF-8")));
            }
            Err(_) => {}
        }
    }
    Ok(texts)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_not_text_is_reported_unless_it_is_not_for_the_server() {
        let broken = || std::os::unix::ffi::OsStringExt::from_vec(b"data-\xff".to_vec());
        let texts = |name: &str| texts([(OsString::from(name), broken()), ("A".into(), "b".into())]);
        let message = texts("ZIM_DATA_DIR").unwrap_err().to_string();
        assert!(message.contains("the variable ZIM_DATA_DIR is not valid UTF-8"), "{message}");
        for other in ["HOME", "ZIM_CONFIG_DIR"] {
            assert_eq!(texts(other).unwrap(), [("A".to_owned(), "b".to_owned())]);
        }
    }
}
