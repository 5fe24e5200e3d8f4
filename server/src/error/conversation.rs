//! Errors of conversations.

use zim_protocol::ErrorCode;

use super::Error;

/// Failures of conversations.
impl Error {
    /// The conversation has ended, or the caller was never a member: the error does not reveal which.
    pub fn conversation_closed() -> Self {
        Self::new(ErrorCode::ConversationModuleConversationDoesNotExist, "you are not a member of this conversation")
    }

    /// The caller has pinned as many conversations as a user can.
    pub fn pinned_full(limit: i64) -> Self {
        let message = format!("{limit} conversations are pinned already; unpin one first");
        Self::new(ErrorCode::ConversationModuleConversationPinnedListReachedLimit, message)
    }

    /// The caller has no such conversation.
    pub fn conversation_not_found(id: &str) -> Self {
        Self::new(ErrorCode::ConversationModuleConversationDoesNotExist, format!("there is no conversation with {id}"))
    }
}
