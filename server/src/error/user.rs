//! Errors of users: their profiles and their statuses.

use zim_protocol::ErrorCode;

use super::Error;

/// Failures of users, their profiles and their statuses.
impl Error {
    /// There is no such user in the app.
    pub fn user_not_found(user_id: &str) -> Self {
        Self::new(ErrorCode::CommonModuleUserIsNotExist, format!("there is no user {user_id}"))
    }

    /// The extended data of a profile is too long for this server.
    pub fn user_extended_data_too_long(bytes: usize, most: u32) -> Self {
        Self::params_invalid(format!("extendedData is {bytes} bytes long; at most {most} are allowed"))
    }

    /// The session queried too many profiles.
    pub fn users_queried_too_often() -> Self {
        Self::new(ErrorCode::CommonModuleUserInfoQueriedLimit, "at most 10 users can be queried in 10 seconds")
    }

    /// Users cannot subscribe to their own status.
    pub fn own_status() -> Self {
        Self::params_invalid("you cannot subscribe to your own status; your devices receive it without a subscription")
    }

    /// There is no subscription to end.
    pub fn not_subscribed(user_id: &str) -> Self {
        Self::params_invalid(format!("you have not subscribed to the status of {user_id}"))
    }
}
