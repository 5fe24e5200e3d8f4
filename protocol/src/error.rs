//! The error of a call, as it travels.

use std::fmt;

use crate::v1::{Error, ErrorCode};

impl Error {
    /// An error of the reference, with a sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into(), details: std::collections::HashMap::new() }
    }

    /// The reference's name of the code; empty for a code of a later version.
    pub fn name(&self) -> &'static str {
        ErrorCode::try_from(self.code).map_or("", ErrorCode::reference_name)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.name(), self.message)
    }
}

impl std::error::Error for Error {}
