//! What happened to messages, as text.

use zim_protocol::{
    Event, MessageDeleteType, MessagePinStatus, MessageReactionUserChangeAction, MessageReceiptInfo,
    MessageReceiptStatus,
};

use super::short;
use crate::text::preview;

/// Describes an event about messages that were sent before; `None`: it is another event.
pub(super) fn changed(event: &Event) -> Option<Vec<String>> {
    Some(match event {
        Event::MessageEdited(change) => change
            .message_list
            .iter()
            .map(|message| {
                format!("{} edited message {}: {}", user(&message.editor_user_id), message.message_seq, short(message))
            })
            .collect(),
        Event::MessagePinStatusChanged(change) => change
            .infos
            .iter()
            .filter_map(|info| Some((info.pin_status(), info.message.as_ref()?)))
            .map(|(status, message)| match status {
                MessagePinStatus::NotPinned => format!("message {} is no longer pinned", message.message_seq),
                _ => format!("{} pinned message {}", user(&message.pinned_user_id), message.message_seq),
            })
            .collect(),
        Event::MessageReactionsChanged(change) => change
            .change_info_list
            .iter()
            .flat_map(|info| {
                let seq = info.message.as_ref().map_or(0, |message| message.message_seq);
                info.user_change_info_list.iter().map(move |change| {
                    let (user, reaction) = (user(&change.user_id), preview(&change.reaction_type, 32));
                    match change.action() {
                        MessageReactionUserChangeAction::Added => {
                            format!("{user} reacted with {reaction} to message {seq}")
                        }
                        MessageReactionUserChangeAction::Deleted => {
                            format!("{user} took {reaction} back from message {seq}")
                        }
                    }
                })
            })
            .collect(),
        Event::MessageReceiptChanged(change) => change.infos.iter().map(receipt).collect(),
        Event::ConversationMessageReceiptChanged(change) => change
            .infos
            .iter()
            .map(|info| match info.is_self_operated {
                true => format!("you told {} that you have read everything", user(&info.conversation_id)),
                false => format!("{} has read everything", user(&info.conversation_id)),
            })
            .collect(),
        Event::MessageDeleted(change) => vec![match change.message_delete_type() {
            MessageDeleteType::MessageListDeleted => {
                let seqs: Vec<String> =
                    change.message_list.iter().map(|message| message.message_seq.to_string()).collect();
                format!("another device of yours deleted message {}", seqs.join(", "))
            }
            MessageDeleteType::ConversationAllMessagesDeleted => {
                format!("another device of yours deleted all messages with {}", user(&change.conversation_id))
            }
            MessageDeleteType::AllConversationMessagesDeleted => {
                "another device of yours deleted all messages".to_owned()
            }
        }],
        Event::MessageRepliedCountChanged(change) => {
            change.infos.iter().map(|info| format!("a message has {} replies now", info.count)).collect()
        }
        Event::MessageRepliedInfoChanged(change) => change
            .message_list
            .iter()
            .map(|message| format!("what message {} replies to has changed", message.message_seq))
            .collect(),
        _ => return None,
    })
}

fn receipt(info: &MessageReceiptInfo) -> String {
    let with = user(&info.conversation_id);
    if info.is_self_operated {
        return format!("you sent a receipt for a message with {with}");
    }
    match info.status() {
        MessageReceiptStatus::Done => format!("a message with {with} was read by everybody"),
        _ => format!("{} have read a message in {with}, {} have not", info.read_member_count, info.unread_member_count),
    }
}

fn user(id: &str) -> String {
    preview(id, 32)
}
