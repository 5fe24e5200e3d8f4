//! The three logs: messages and changes of a conversation, and the feed of a user. Each is dense and numbered by one
//! head row in the transaction that commits, so a range of positions says exactly what a client has not seen.

mod append;
mod change;
mod feed;
mod read;
pub mod rules;
#[cfg(test)]
pub(crate) mod tests;

pub use self::append::{NewMessage, Sent};
pub use self::change::{ChangeKind, append as append_change, changes};
pub use self::feed::{
    FeedKind, FeedRow, append as append_feed, append_all as append_feed_all, full_info, head as feed_head,
    move_read_mark, read_marks, rows as feed_rows,
};
pub use self::read::{Direction, Member, around, member, messages, messages_at, seq_of};
