//! Stays in groups and rooms as bytes.

use std::sync::Arc;

use prost::Message;

use crate::effect::{GroupStay, StayEnd};
use crate::key::{ConversationKey, UserKey};

/// A stay of a user.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StayHint {
    #[prost(int64, tag = "1")]
    pub(super) user: i64,
    #[prost(int64, tag = "2")]
    pub(super) conversation: i64,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(int64, tag = "4")]
    from_seq: i64,
    #[prost(int64, tag = "5")]
    from_rev: i64,
    #[prost(int64, optional, tag = "6")]
    to_seq: Option<i64>,
    #[prost(int64, optional, tag = "7")]
    to_rev: Option<i64>,
    #[prost(bool, tag = "8")]
    is_return: bool,
    /// Of a stay that ends, unless the node is of an earlier version.
    #[prost(int64, optional, tag = "9")]
    ended_before: Option<i64>,
    /// How many stays end with it.
    #[prost(uint32, tag = "10")]
    ended: u32,
    /// 0 from a node of an earlier version.
    #[prost(int64, tag = "11")]
    entered_seq: i64,
}

impl StayHint {
    pub(super) fn of(
        user: UserKey,
        conversation: ConversationKey,
        name: &Arc<str>,
        (stay, end): (GroupStay, Option<StayEnd>),
    ) -> Self {
        Self {
            user: user.0,
            conversation: conversation.0,
            name: name.to_string(),
            from_seq: stay.from_seq,
            from_rev: stay.from_rev,
            to_seq: stay.to.map(|(seq, _)| seq),
            to_rev: stay.to.map(|(_, rev)| rev),
            is_return: stay.is_return,
            ended_before: end.map(|end| end.before),
            ended: end.map_or(0, |end| end.of),
            entered_seq: stay.entered_seq,
        }
    }

    pub(super) fn stay(&self) -> GroupStay {
        GroupStay {
            from_seq: self.from_seq,
            entered_seq: self.entered_seq,
            from_rev: self.from_rev,
            to: self.to_seq.zip(self.to_rev),
            is_return: self.is_return,
        }
    }

    pub(super) fn end(&self) -> Option<StayEnd> {
        self.ended_before.map(|before| StayEnd { before, of: self.ended })
    }
}
