//! Where to look after a commit that was in doubt.

use std::sync::Arc;

use prost::Message;

use super::AudienceHint;
use crate::effect::Look;
use crate::key::{ConversationKey, UserKey};

/// A conversation, or something of a user.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LookHint {
    #[prost(message, optional, tag = "1")]
    audience: Option<AudienceHint>,
    #[prost(int64, tag = "2")]
    user: i64,
    /// The group, if it is whether the user is in it; otherwise it is their feed.
    #[prost(int64, optional, tag = "3")]
    group: Option<i64>,
    #[prost(string, tag = "4")]
    name: String,
}

impl LookHint {
    pub(super) fn of(look: &Look) -> Self {
        match look {
            Look::Conversation(audience) => Self { audience: Some(AudienceHint::of(audience)), ..Self::default() },
            Look::Feed(user) => Self { user: user.0, ..Self::default() },
            Look::Stay { user, conversation, name } => {
                Self { audience: None, user: user.0, group: Some(conversation.0), name: name.to_string() }
            }
        }
    }

    pub(super) fn look(self) -> Option<Look> {
        let user = UserKey(self.user);
        Some(match (self.audience, self.group) {
            (Some(audience), _) => Look::Conversation(audience.audience()?),
            (None, None) => Look::Feed(user),
            (None, Some(group)) => {
                Look::Stay { user, conversation: ConversationKey(group), name: Arc::from(self.name) }
            }
        })
    }
}
