//! The name of a conversation.

use std::sync::Arc;

use zim_protocol::ConversationRef;

/// The name of a conversation for this user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// `ConversationType`.
    pub kind: i32,
    /// The peer's user id, or the group's id.
    pub id: Arc<str>,
}

impl Name {
    /// Creates a name from a type and an id.
    pub fn new(kind: i32, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into() }
    }

    /// Returns the form of the protocol.
    pub fn to_ref(&self) -> ConversationRef {
        ConversationRef { r#type: self.kind, id: self.id.to_string() }
    }
}

impl From<&ConversationRef> for Name {
    fn from(name: &ConversationRef) -> Self {
        Self::new(name.r#type, name.id.as_str())
    }
}
