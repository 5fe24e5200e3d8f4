//! Errors of messages.

use zim_protocol::ErrorCode;

use super::Error;

/// Failures of messages.
impl Error {
    /// The client key belongs to another message.
    pub fn key_reused() -> Self {
        Self::params_invalid("another message was sent with this client key; use a new key for a new message")
    }

    /// There is no such message in the conversation, or the caller may not see it.
    pub fn message_not_found() -> Self {
        Self::params_invalid("there is no such message in this conversation")
    }

    /// The message was revoked before.
    pub fn already_revoked() -> Self {
        Self::new(ErrorCode::MessageModuleMessageHasBeenRevoked, "this message has been revoked already")
    }

    /// The message is another user's.
    pub fn revoke_not_allowed() -> Self {
        let message = "you can revoke your own messages only, and in a group those of members below your role";
        Self::new(ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority, message)
    }

    /// The message was sent too long ago.
    pub fn revoke_too_late(window_s: i64) -> Self {
        let message = format!("a message can be revoked within {window_s} seconds after it was sent");
        Self::new(ErrorCode::MessageModuleMessageExceedsRevokeTime, message)
    }

    /// The message is not the caller's own, or it is of a type that cannot be edited.
    pub fn edit_not_allowed() -> Self {
        let message = "you can edit your own text, custom and multiple messages only";
        Self::new(ErrorCode::MessageModuleEditNoCorrespondingOperationAuthority, message)
    }

    /// The message was sent too long ago.
    pub fn edit_too_late(window_s: i64) -> Self {
        let message = format!("a message can be edited within {window_s} seconds after it was sent");
        Self::new(ErrorCode::MessageModuleMessageExceedsEditTime, message)
    }

    /// The conversation has as many pinned messages as it can have.
    pub fn too_many_pinned(most: u32) -> Self {
        let message = format!("a conversation has at most {most} pinned messages");
        Self::new(ErrorCode::MessageModuleTheNumberOfPinnedMessagesExceedsLimit, message)
    }

    /// The message to unpin is not pinned.
    pub fn not_pinned() -> Self {
        Self::new(ErrorCode::MessageModuleMessageIsNotPinned, "the message is not pinned")
    }

    /// The user has reacted with this type.
    pub fn reaction_exists(reaction_type: &str) -> Self {
        let message = format!("you have reacted with {reaction_type}; config.increaseCount adds to it");
        Self::new(ErrorCode::MessageModuleMessageReactionTypeExisted, message)
    }

    /// The user has not reacted with this type.
    pub fn no_reaction(reaction_type: &str) -> Self {
        Self::params_invalid(format!("you have not reacted with {reaction_type}"))
    }

    /// The message has too many types of reactions.
    pub fn too_many_reactions(most: u32) -> Self {
        Self::params_invalid(format!("a message has at most {most} types of reactions"))
    }

    /// The message is too old for what is asked.
    pub fn message_too_old(window_ms: i64) -> Self {
        let age = match window_ms / 1_000 {
            seconds if seconds % 86_400 == 0 => format!("{} days", seconds / 86_400),
            seconds => format!("{seconds} seconds"),
        };
        Self::params_invalid(format!("the message is older than {age}"))
    }

    /// Messages of this type cannot have what is asked.
    pub fn message_type_unsupported(what: &str) -> Self {
        Self::params_invalid(format!("a message of this type cannot be {what}"))
    }

    /// The message is for some members of the group only.
    pub fn message_is_targeted() -> Self {
        Self::params_invalid("a message for some members of a group cannot be replied to, reacted to, edited or pinned")
    }

    /// The message does not ask for receipts, or not from or for this user.
    pub fn no_receipt() -> Self {
        Self::new(ErrorCode::MessageModuleReceiptReadError, "the message has no receipt for you")
    }

    /// The recipient has blocked the sender.
    pub fn sender_blocked() -> Self {
        Self::new(ErrorCode::MessageModuleSenderInBlacklist, "this user has blocked your messages")
    }

    /// There is no such recipient.
    pub fn target_not_found(id: &str) -> Self {
        Self::new(ErrorCode::MessageModuleTargetDoesNotExist, format!("there is no user {id} to send to"))
    }
}
