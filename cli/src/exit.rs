//! How a command fails: what is said on standard error, and with which code the program ends.

use std::io;
use std::process::ExitCode;

use zim_protocol::{ErrorCode, ErrorUserInfo};

use crate::text::preview;

/// Shown by `zim --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  any other trouble
  2  the command line is wrong
  3  not logged in, or the server does not accept who you are
  4  the server cannot be reached, or does not answer
  5  the server says no";

/// The code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing more to do and nothing to say: who read the output has read enough.
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

/// Fails if a call for several users left some out: `what` says that it did, and the list of them follows.
pub(crate) fn all_done(errors: &[ErrorUserInfo], what: &str) -> Result<(), Failure> {
    if errors.is_empty() {
        return Ok(());
    }
    let left: Vec<String> =
        errors.iter().map(|error| format!("{} ({})", preview(&error.user_id, 32), error.reason)).collect();
    Err(Failure::new(Exit::Refused, format!("{what}: {}", left.join(", "))))
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The reference's code, when there is one.
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

    /// An error of the reference.
    pub(crate) fn coded(code: i32, message: impl Into<String>) -> Self {
        let known = ErrorCode::try_from(code).ok();
        Self {
            exit: exit_of(known),
            code: Some(code),
            message: message.into(),
            hint: known.and_then(hint_of).map(str::to_owned),
        }
    }

    /// The reference's name of the code; empty where there is none.
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

/// What to do about an error whose code alone does not tell.
fn hint_of_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "banned" => "the server's operator can lift the ban: zim admin user unban USER",
        "revoked" => "get a new token and give it: zim login USER --token TOKEN",
        "notRegistered" => "the server's operator registers users: zim admin user register USER",
        "appSignOff" => "get a token and give it: zim login USER --token TOKEN",
        "cbcTokensOff" => "`zim token` makes AES-GCM tokens; what the setting means: zim admin app set --help",
        "endedByOperator" => "the server's operator ended this session: log in again with `zim login`",
        _ => return None,
    })
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // `zim listen | head -1` has done what it should.
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
            "is the server running, and is the address right? `zim profile show` says what is used"
        }
        E::NetworkModuleTokenExpired | E::NetworkModuleTokenTimeIsTooShort => {
            "get a new token and give it: zim login USER --token-file FILE"
        }
        E::NetworkModuleTokenInvalid | E::NetworkModuleTokenVersionError | E::NetworkModuleCommonError => {
            "the app sign or token does not fit this app, user and server: log in again with `zim login`"
        }
        E::CommonModuleInvalidAppId => "`zim admin app list` says which apps this server has",
        E::MessageModuleTargetDoesNotExist | E::CommonModuleUserIsNotExist => {
            "a user exists from the first login on, for example: zim --profile bob login bob"
        }
        E::CommonModuleTriggerServerFrequencyLimit | E::CommonModuleTriggerSdkFrequencyLimit => {
            "too fast: wait a moment; the server's operator sets limits.messages_per_second and limits.requests_per_second"
        }
        E::ConversationModuleConversationDoesNotExist => {
            "a conversation exists from its first message on; `zim conversation list` shows all"
        }
        E::DatabaseModuleOpenDatabaseError => "another `zim` of this profile has its local database open",
        _ => return None,
    })
}

/// What clap has to say: help goes to standard output and is no failure.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be said if this cannot be printed.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trouble_has_its_code() {
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
    fn a_code_has_its_name_and_often_a_hint() {
        let failure = Failure::coded(6_000_204, "there is no user \"bob\"");
        assert_eq!(failure.name(), "MessageModuleTargetDoesNotExist");
        assert!(failure.hint.is_some_and(|hint| hint.contains("login bob")));
        assert_eq!(Failure::coded(9_999_999, "x").name(), "");
        assert_eq!(Failure::other("x").name(), "");
    }

    #[test]
    fn a_reason_says_more_than_its_code() {
        let mut wire = zim_protocol::Error::new(ErrorCode::NetworkModuleTokenInvalid, "this user is banned");
        wire.details.insert("reason".to_owned(), "banned".to_owned());
        let failure = Failure::from(zim_client_sdk::Error::from(wire));
        assert!(failure.hint.is_some_and(|hint| hint.contains("unban")));
        let failure = Failure::coded(ErrorCode::NetworkModuleTokenInvalid as i32, "x");
        assert!(failure.hint.is_some_and(|hint| hint.contains("does not fit")));
    }

    #[test]
    fn the_help_names_every_code() {
        for exit in [Exit::Other, Exit::Usage, Exit::Auth, Exit::Network, Exit::Refused] {
            assert!(HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
