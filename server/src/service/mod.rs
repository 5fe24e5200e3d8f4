//! The methods of the reference: one module for each noun, with its rules and its SQL. A noun uses only nouns above it.

use crate::app::{App, OLD_SECRETS_END};
use crate::presence;
use crate::task::Kinds;

/// What several nouns read in the same way.
pub(crate) mod rows;
/// What friend and group applications have in common.
mod application;
/// How many rows of a kind a user has.
pub(crate) mod counter;
/// Custom statuses, and subscriptions to presence.
pub(crate) mod status;
/// Profiles, and the users who are notified when one changes.
pub(crate) mod user;
/// Conversations as one member sees them, and how they are made.
pub(crate) mod conversation;
/// Groups and their members.
pub(crate) mod group;
/// The files of media messages.
pub(crate) mod media;
/// Rooms and the devices in them.
pub(crate) mod room;
/// Logging in and out.
pub mod session;
/// Offline push.
pub(crate) mod push;
/// Blacklists.
pub(crate) mod blacklist;
/// Friends and friend applications.
pub(crate) mod friend;
/// Call invitations.
pub(crate) mod call;
/// Sends and reads messages.
pub(crate) mod message;
/// Brings a client up to date.
pub(crate) mod sync;
/// What is done later, for the operator.
mod work;
/// Runs a request, whoever the caller is.
pub(crate) mod invoke;
/// How long messages are kept.
pub(crate) mod retention;
/// Erases users.
pub(crate) mod erasure;
/// What the operator has changed.
pub(crate) mod audit;
/// What the server has of a user.
mod export;
/// What the operator does.
pub(crate) mod admin;

/// Returns the kinds of what the server does later.
pub(crate) fn kinds() -> Kinds<App> {
    Kinds {
        tasks: vec![
            &presence::CUSTOM_STATUS_END,
            &status::SUBSCRIPTIONS_END,
            &presence::LOST_LOGINS,
            &presence::LOST_LOGINS_OF_USER,
            &OLD_SECRETS_END,
            &call::TIMER,
            &call::CALLER_LEFT,
            &room::ROOM_END,
            &room::ROOM_MEMBERS_LEAVE,
            &room::ROOM_MEMBERS_LOST,
            &room::LOST_ROOM_MEMBERS,
            &room::ROOM_HISTORY,
            &media::MEDIA_UNUSED,
            &media::MEDIA_EXPIRED,
            &media::ORPHANS,
            &push::PUSH_LOG_END,
            &audit::AUDIT_END,
            &retention::RETENTION,
            &retention::RETENTION_OF_CONVERSATION,
        ],
        outbox: vec![
            &media::FILE_REMOVAL,
            &media::PIECE_REMOVAL,
            &media::ORPHAN_REMOVAL,
            &push::PUSH,
            &push::PUSH_DELIVERY,
            &erasure::ERASURE,
        ],
    }
}
