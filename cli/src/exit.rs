//! Exit codes, and why a command failed.

use std::io;
use std::process::ExitCode;

use zim_protocol::{ErrorCode, ErrorUserInfo};

use crate::text::preview;

/// The part of `zim --help` about exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0  success
  1  any other error
  2  the command line is wrong
  3  not logged in, or the server does not accept the login
  4  the server cannot be reached, or does not answer
  5  the server refused the request
  128+N  ended by signal N, after a logout: 130 is Ctrl-C; `zim listen` and `zim chat` end with 0";

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing more to do and nothing to print: the reader of the output closed the pipe.
    Done = 0,
    Other = 1,
    Usage = 2,
    Auth = 3,
    Network = 4,
    Refused = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Fails if a request for several users failed for some of them. The message is `what`, followed by those users.
pub(crate) fn all_done(errors: &[ErrorUserInfo], what: &str) -> Result<(), Failure> {
    if errors.is_empty() {
        return Ok(());
    }
    let failed: Vec<String> =
        errors.iter().map(|error| format!("{} ({})", preview(&error.user_id, 32), reason(error.reason))).collect();
    Err(Failure::new(Exit::Refused, format!("{what}: {}", failed.join(", "))))
}

/// Says why a request failed for one of several users. The server sends only a code.
fn reason(code: i64) -> String {
    use ErrorCode as E;
    let known = i32::try_from(code).ok().and_then(|code| ErrorCode::try_from(code).ok());
    let known = match known {
        Some(E::CommonModuleUserIsNotExist | E::MessageModuleTargetDoesNotExist) => "no such user",
        Some(E::CallModuleInviteUserDoesNotExist) => "no such user",
        Some(E::CallModuleUserAlreadyInTheCall) => "in the call already, or asked into it",
        Some(E::GroupModuleUserIsNotInTheGroup) => "not a member",
        Some(E::GroupModuleJoinGroupError) => "in too many groups",
        Some(E::GroupModuleGroupNoCorrespondingOperationAuthority) => "your role does not allow it",
        Some(known) => known.reference_name(),
        None => return code.to_string(),
    };
    format!("{code}: {known}")
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The error code of the reference, if there is one.
    pub(crate) code: Option<i32>,
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: None, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(Exit::Other, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error with a code of the reference.
    pub(crate) fn coded(code: i32, message: impl Into<String>) -> Self {
        let known = ErrorCode::try_from(code).ok();
        Self {
            exit: exit_of(known),
            code: Some(code),
            message: message.into(),
            hint: known.and_then(hint_of).map(str::to_owned),
        }
    }

    /// Returns the failure as `--json` prints it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut error = serde_json::json!({ "message": self.message, "exitCode": self.exit as u8 });
        let name = Some(self.name()).filter(|name| !name.is_empty());
        for (field, value) in [
            ("code", self.code.map(serde_json::Value::from)),
            ("name", name.map(serde_json::Value::from)),
            ("hint", self.hint.clone().map(serde_json::Value::from)),
        ] {
            if let Some(value) = value {
                error[field] = value;
            }
        }
        serde_json::json!({ "error": error })
    }

    /// Returns the reference's name of the code; empty if there is none.
    pub(crate) fn name(&self) -> &'static str {
        self.code.and_then(|code| ErrorCode::try_from(code).ok()).map_or("", |code| code.reference_name())
    }
}

impl From<zim_client_sdk::Error> for Failure {
    fn from(error: zim_client_sdk::Error) -> Self {
        let failure = Self::coded(error.number(), error.message());
        match error.detail("reason").and_then(hint_of_reason) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// A hint for an error whose code is not specific enough.
fn hint_of_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "banned" => "the server's operator can lift the ban: zim admin user unban USER",
        "revoked" => "get a new token and log in with it: zim login USER --token TOKEN",
        "notRegistered" => "the server's operator registers users: zim admin user register USER",
        "appSignOff" => "get a token and log in with it: zim login USER --token TOKEN",
        "cbcTokensOff" => "`zim token` makes AES-GCM tokens; the setting is explained in: zim admin app set --help",
        "certificateUnknownIssuer" => {
            "log in with the fingerprint that zim-server prints when it starts (--fingerprint HEX), or with its authority or \
             certificate as a file (--ca FILE)"
        }
        "certificateOtherName" => {
            "connect to a name of the certificate (--server NAME:PORT), use the certificate's fingerprint (--fingerprint HEX), \
             or make one for this name: openssl req -x509 … -addext subjectAltName=DNS:NAME,IP:ADDRESS"
        }
        "certificateExpired" => "renew the server's certificate; if it is valid, the clock of this machine is ahead",
        "certificateNotValidYet" => {
            "the clock of this machine is behind, or that of the machine that made the certificate was ahead"
        }
        "certificateOfAuthority" => {
            "pass this very certificate as a file (--ca FILE) or its fingerprint (--fingerprint HEX), or give the server a \
             certificate that the authority signed"
        }
        "certificateOtherFingerprint" => {
            "compare it with the fingerprint that zim-server prints when it starts; if it did not change there, another server \
             answers at this address. Log in with the new one: --fingerprint HEX"
        }
        "trust" => {
            "the file must have the authority's or the server's certificate in PEM; without one, use the fingerprint that \
             zim-server prints when it starts"
        }
        "certificate" => "give the server another certificate, or use its fingerprint: --fingerprint HEX",
        "endedByOperator" => "the server's operator ended this session: log in again with `zim login`",
        _ => return None,
    })
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // `zim listen | head -1` succeeds.
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Done } else { Exit::Other };
        Self::new(exit, error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::other(format!("not JSON: {error}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::other(format!("{error:#}"))
    }
}

fn exit_of(code: Option<ErrorCode>) -> Exit {
    use ErrorCode as E;
    match code {
        Some(
            E::CommonModuleInvalidAppId
            | E::NetworkModuleCommonError
            | E::NetworkModuleTokenInvalid
            | E::NetworkModuleTokenExpired
            | E::NetworkModuleTokenVersionError
            | E::NetworkModuleTokenTimeIsTooShort
            | E::NetworkModuleRspProtoParseError
            | E::NetworkModuleUserHasAlreadyLogged
            | E::NetworkModuleUserIsNotLogged
            | E::NetworkModuleUserHasAlreadyLoggedOut
            | E::NetworkModuleUserIdError,
        ) => Exit::Auth,
        Some(
            E::NetworkModuleNetworkError
            | E::NetworkModuleRequestTimeout
            | E::NetworkModuleUserOffline
            | E::CommonModuleImServerDisconnect,
        ) => Exit::Network,
        _ => Exit::Refused,
    }
}

fn hint_of(code: ErrorCode) -> Option<&'static str> {
    use ErrorCode as E;
    Some(match code {
        E::NetworkModuleNetworkError | E::NetworkModuleRequestTimeout | E::NetworkModuleUserOffline => {
            "is the server running, and is the address right? `zim profile show` prints it"
        }
        E::NetworkModuleTokenExpired | E::NetworkModuleTokenTimeIsTooShort => {
            "get a new token and log in with it: zim login USER --token-file FILE"
        }
        E::NetworkModuleTokenInvalid | E::NetworkModuleTokenVersionError | E::NetworkModuleCommonError => {
            "the app sign or token is not valid for this app, user and server: log in again with `zim login`"
        }
        E::CommonModuleInvalidAppId => "`zim admin app list` lists the apps of this server",
        E::MessageModuleTargetDoesNotExist | E::CommonModuleUserIsNotExist => {
            "a user is created by the first login, for example: zim --profile bob login bob; for a group, use --group"
        }
        E::CommonModuleTriggerServerFrequencyLimit | E::CommonModuleTriggerSdkFrequencyLimit => {
            "too many requests: wait a moment; the server's operator sets limits.messages_per_second and limits.requests_per_second"
        }
        E::ConversationModuleConversationDoesNotExist => {
            "a conversation is created by its first message; `zim conversation list` shows all"
        }
        _ => return None,
    })
}

/// Returns what is wrong with the command line, without the usage that clap adds.
pub(crate) fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let what = text.split("\n\n").next().unwrap_or_default();
    let message = what.strip_prefix("error: ").unwrap_or(what).trim();
    Failure::usage(message).hint("zim --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_maps_to_its_exit_code() {
        let exit = |code: ErrorCode| Failure::coded(code as i32, "x").exit;
        assert_eq!(exit(ErrorCode::NetworkModuleTokenExpired), Exit::Auth);
        assert_eq!(exit(ErrorCode::NetworkModuleNetworkError), Exit::Network);
        assert_eq!(exit(ErrorCode::NetworkModuleRequestTimeout), Exit::Network);
        assert_eq!(exit(ErrorCode::MessageModuleTargetDoesNotExist), Exit::Refused);
        assert_eq!(exit(ErrorCode::CommonModuleParamsInvalid), Exit::Refused);
        assert_eq!(Failure::coded(9_999_999, "of a later version").exit, Exit::Refused);
        assert_eq!(Failure::usage("x").exit, Exit::Usage);
        assert_eq!(Failure::from(io::Error::other("x")).exit, Exit::Other);
    }

    #[test]
    fn a_known_code_has_a_name_and_may_have_a_hint() {
        let failure = Failure::coded(6_000_204, "there is no user \"bob\"");
        assert_eq!(failure.name(), "MessageModuleTargetDoesNotExist");
        assert!(failure.hint.is_some_and(|hint| hint.contains("login bob")));
        assert_eq!(Failure::coded(9_999_999, "x").name(), "");
        assert_eq!(Failure::other("x").name(), "");
    }

    #[test]
    fn a_failure_as_json_has_what_is_known() {
        let json = Failure::coded(6_000_204, "there is no user \"bob\"").hint("x").to_json();
        let expected = serde_json::json!({ "error": {
            "code": 6_000_204, "name": "MessageModuleTargetDoesNotExist", "message": "there is no user \"bob\"",
            "hint": "x", "exitCode": 5,
        }});
        assert_eq!(json, expected);
        assert_eq!(Failure::other("x").to_json(), serde_json::json!({ "error": { "message": "x", "exitCode": 1 } }));
    }

    #[test]
    fn a_reason_has_a_hint_of_its_own() {
        let mut wire = zim_protocol::Error::new(ErrorCode::NetworkModuleTokenInvalid, "this user is banned");
        wire.details.insert("reason".to_owned(), "banned".to_owned());
        let failure = Failure::from(zim_client_sdk::Error::from(wire));
        assert!(failure.hint.is_some_and(|hint| hint.contains("unban")));
        let failure = Failure::coded(ErrorCode::NetworkModuleTokenInvalid as i32, "x");
        assert!(failure.hint.is_some_and(|hint| hint.contains("is not valid for")));
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        for exit in [Exit::Other, Exit::Usage, Exit::Auth, Exit::Network, Exit::Refused] {
            assert!(HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
