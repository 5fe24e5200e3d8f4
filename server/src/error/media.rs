//! Errors of files: those of messages, and the logs of clients.

use std::error::Error as StdError;

use zim_protocol::ErrorCode;

use super::Error;

/// Failures of media messages, and of the logs of clients.
impl Error {
    /// The file is empty, or larger than a message of this type allows.
    pub fn file_size_invalid(bytes: i64, most: i64) -> Self {
        let message = format!("the file has {bytes} bytes; 1 to {most} are allowed for a message of this type");
        Self::new(ErrorCode::MessageModuleFileSizeInvalid, message)
    }

    /// The picture would take too much memory.
    pub fn too_many_pixels(most: u32) -> Self {
        let message = format!("the picture has too many pixels; at most {most} are allowed");
        Self::new(ErrorCode::MessageModuleFileSizeInvalid, message)
    }

    /// The content of the file is not of a format that a message of this type can have.
    pub fn file_type_unsupported() -> Self {
        let message = "the content of the file is not of a format that a message of this type can have";
        Self::new(ErrorCode::MessageModuleFileTypeUnsupported, message)
    }

    /// The sound is longer than a message allows.
    pub fn file_duration_invalid(seconds: i64, most: u32) -> Self {
        let message = format!("the duration is {seconds} seconds; 0 to {most} are allowed");
        Self::new(ErrorCode::MessageModuleFileDurationInvalid, message)
    }

    /// The file is not what its hash says.
    pub fn file_verification_failed() -> Self {
        let message = "the bytes that arrived do not have the announced hash; upload the file again";
        Self::new(ErrorCode::MessageModuleFileVerificationError, message)
    }

    /// The message names a file of this server that is not there, or not complete.
    pub fn file_not_found() -> Self {
        Self::new(
            ErrorCode::MessageModuleFileNotExist,
            "there is no such file; it may have been removed, or not be complete",
        )
    }

    /// The files of the user or of the app may not take more space.
    pub fn file_quota_used_up(whose: &'static str) -> Self {
        let message = format!("the files of {whose} take as much space as they may");
        Self::new(ErrorCode::MessageModuleFileServerError, message).with_detail("reason", "quota")
    }

    /// The server takes no files.
    pub fn files_off() -> Self {
        Self::new(ErrorCode::MessageModuleFileServerError, "this server takes no files").with_detail("reason", "off")
    }

    /// The store of the files fails.
    pub fn file_store_failed(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let message = "the server cannot store or read the file; try again later";
        Self::new(ErrorCode::MessageModuleFileServerError, message).caused_by(source)
    }

    /// There is no such log of a client.
    pub fn log_not_found() -> Self {
        Self::params_invalid("there is no such log; it may have been removed")
    }
}
