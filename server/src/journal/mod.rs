//! The three logs: messages and changes of a conversation, and the feed of a user. Each is dense and numbered by one
//! head row in the transaction that commits, so a range of positions says exactly what a client has not seen.

mod append;
mod change;
mod feed;
mod log;
pub mod mute;
mod push;
mod read;
mod roster;
pub mod rules;
pub mod state;
mod visible;
#[cfg(test)]
pub(crate) mod tests;

pub use self::append::{Extra, NewMessage, Sent, ToRoom, halves};
pub use self::change::{Changes, Subject, append as append_change, changes};
pub use self::feed::{
    FeedKind, FeedRow, READ, Resolving, clear_messages, head as feed_head, move_read_mark, rows as feed_rows,
};
pub use self::log::{Cause, ChangedConversation, LogWriter};
pub use self::push::{change_push, feed_push, message_push, message_push_of};
pub use self::read::{Direction, around, messages, messages_at, newest, open_ends, seq_of, shown_content};
pub use self::roster::{MEMBER, MEMBERS, RosterEvent, RosterRecord, enter_type, member_info, members, shorten_members};
pub use self::visible::{
    IS_LATER, LAST_MESSAGE_DEPTH, Viewer, Visit, dating_messages, deducted, deducted_positions, is_shown, last_message,
    last_time,
};
