//! The three logs: messages and changes of a conversation, and the feed of a user. Each is dense and numbered by one
//! head row in the transaction that commits, so a range of positions says exactly what a client has not seen.

mod append;
mod change;
mod feed;
mod log;
mod push;
mod read;
pub mod rules;
#[cfg(test)]
pub(crate) mod tests;

pub use self::append::{NewMessage, Sent};
pub use self::change::{ChangeKind, append as append_change, changes};
pub use self::feed::{FeedKind, FeedRow, READ, Resolving, head as feed_head, move_read_mark, rows as feed_rows};
pub use self::log::{Cause, ChangedConversation, LogWriter};
pub use self::push::{change_push, feed_push, message_push};
pub use self::read::{Direction, Member, REVOKED, around, last_seq, member, messages, messages_at, revoked, seq_of};
