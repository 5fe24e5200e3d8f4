//! Login, reconnection, logout: the state of a login, and the task that keeps it alive.

/// The state of a login, shared by its callers and its task.
mod login;
/// Why a login ended.
mod end;
/// The task of a login.
mod login_task;
/// The state of the connection as a stream.
mod states;
/// The client behind the handles of the app.
mod client;
#[cfg(test)]
mod tests;

pub(crate) use self::client::{Client, Started};
pub(crate) use self::login::Login;
pub use self::states::ConnectionStates;
use crate::net::LinkRemote;

/// The account of a real client.
pub(crate) type Account = crate::account::Account<LinkRemote>;
