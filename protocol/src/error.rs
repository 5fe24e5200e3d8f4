use std::fmt;

use crate::v1::{self, Error, ErrorCode};

include!(concat!(env!("OUT_DIR"), "/errors.rs"));

impl Error {
    /// Returns an error of the reference with a sentence about its cause.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into(), details: std::collections::HashMap::new() }
    }

    /// Returns the reference's name of the code, or an empty string for a code of a later version.
    pub fn name(&self) -> &'static str {
        ErrorCode::try_from(self.code).map_or("", ErrorCode::reference_name)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "" => write!(f, "{}: {}", self.code, self.message),
            name => write!(f, "{} {name}: {}", self.code, self.message),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_code_name_and_message() {
        let error = Error::new(ErrorCode::MessageModuleTargetDoesNotExist, "there is no user \"bob\"");
        assert_eq!(error.to_string(), "6000204 MessageModuleTargetDoesNotExist: there is no user \"bob\"");
        let later = Error { code: 9_999_999, ..error };
        assert_eq!(later.to_string(), "9999999: there is no user \"bob\"");
    }
}
