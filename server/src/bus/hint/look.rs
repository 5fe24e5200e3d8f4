//! Where to look after a commit that was in doubt.

use std::sync::Arc;

use prost::Message;

use super::AudienceHint;
use crate::effect::Look;
use crate::key::{ConversationKey, LoginKey, UserKey};

/// A conversation, or something of a user.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LookHint {
    #[prost(message, optional, tag = "1")]
    audience: Option<AudienceHint>,
    #[prost(int64, tag = "2")]
    user: i64,
    /// The group, if it is whether the user is in it. Without a group and a login it is their feed.
    #[prost(int64, optional, tag = "3")]
    group: Option<i64>,
    #[prost(string, tag = "4")]
    name: String,
    /// The login, if it is whether that has ended.
    #[prost(int64, optional, tag = "5")]
    login: Option<i64>,
}

impl LookHint {
    pub(super) fn of(look: &Look) -> Self {
        match look {
            Look::Conversation(audience) => Self { audience: Some(AudienceHint::of(audience)), ..Self::default() },
            Look::Feed(user) => Self { user: user.0, ..Self::default() },
            Look::Login { user, login } => Self { user: user.0, login: Some(login.0), ..Self::default() },
            Look::Stay { user, conversation, name } => {
                let (group, name) = (Some(conversation.0), name.to_string());
                Self { user: user.0, group, name, ..Self::default() }
            }
        }
    }

    pub(super) fn look(self) -> Option<Look> {
        let user = UserKey(self.user);
        Some(match (self.audience, self.group, self.login) {
            (Some(audience), ..) => Look::Conversation(audience.audience()?),
            (None, Some(group), _) => {
                Look::Stay { user, conversation: ConversationKey(group), name: Arc::from(self.name) }
            }
            (None, None, Some(login)) => Look::Login { user, login: LoginKey(login) },
            (None, None, None) => Look::Feed(user),
        })
    }
}
