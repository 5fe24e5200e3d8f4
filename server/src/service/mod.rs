//! The reference's methods: one module for each noun, with its rules and its SQL. A noun uses only nouns above it.

/// Presence, and subscriptions to it.
pub(crate) mod status;
/// Profiles, and who is notified when one changes.
pub(crate) mod user;
/// Logging in and out.
pub mod session;
/// Conversations as one member sees them, and how they are made.
pub(crate) mod conversation;
/// Who blocks whom.
pub(crate) mod blacklist;
/// Friends and friend applications.
pub(crate) mod friend;
/// Brings a client up to date.
pub(crate) mod sync;
/// Sending and reading messages.
pub(crate) mod message;
