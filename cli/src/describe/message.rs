//! What happened to messages, as text.

use zim_protocol::message::Body;
use zim_protocol::message_lite_info::Body as Lite;
use zim_protocol::{
    Event, Message, MessageDeleteType, MessagePinStatus, MessageReaction, MessageReactionUserChangeAction,
    MessageReceiptInfo, MessageReceiptStatus, MessageRepliedInfo, MessageRepliedInfoState,
};

use super::{PREVIEW, file, sender, short};
use crate::target::Target;
use crate::text::preview;

/// Describes an event about messages that were sent before; `None`: it is another event.
pub(crate) fn changed(event: &Event) -> Option<Vec<String>> {
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
        Event::MessageRevokeReceived(change) => change.message_list.iter().map(revoked).collect(),
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

/// Describes who revoked which message.
fn revoked(message: &Message) -> String {
    let operator = match &message.body {
        Some(Body::Revoke(revoke)) => user(&revoke.operated_user_id),
        _ => sender(message),
    };
    let target = Target::of(&message.conversation_id, message.conversation_type());
    format!("{operator} revoked message {} {}", message.message_seq, target.place("with"))
}

/// Describes what a message replies to: `bob: see you at 8`.
pub(crate) fn quoted(replied: &MessageRepliedInfo) -> String {
    let body = replied.message_info.as_ref().and_then(|info| info.body.as_ref());
    let said = match (replied.state(), body) {
        (MessageRepliedInfoState::Normal, Some(body)) => match body {
            Lite::Text(text) => text.message.clone(),
            Lite::Custom(custom) => format!("[custom {}] {}", custom.sub_type, custom.message),
            Lite::Combine(combine) => format!("[combined] {}", combine.title),
            Lite::Revoke(_) => "[revoked]".to_owned(),
            Lite::Image(image) => file("image", &image.file_name, image.file_size),
            Lite::File(of) => file("file", &of.file_name, of.file_size),
            Lite::Audio(audio) => file("audio", &audio.file_name, audio.file_size),
            Lite::Video(video) => file("video", &video.file_name, video.file_size),
            Lite::Multiple(multiple) => format!("[{} parts]", multiple.message_info_list.len()),
        },
        _ => "[a message that is gone]".to_owned(),
    };
    format!("{}: {}", user(&replied.sender_user_id), preview(&said, PREVIEW))
}

/// Describes the reactions to a message: `👍 2  like 1`.
pub(crate) fn reactions(reactions: &[MessageReaction]) -> String {
    let one = |reaction: &MessageReaction| format!("{} {}", preview(&reaction.reaction_type, 32), reaction.total_count);
    reactions.iter().map(one).collect::<Vec<_>>().join("  ")
}

fn user(id: &str) -> String {
    preview(id, 32)
}

#[cfg(test)]
mod tests {
    use zim_protocol::{
        FileMessageLiteInfo, MessageLiteInfo, MessageRevokeReceivedEvent, RevokeMessage, TextMessageLiteInfo,
    };

    use super::*;

    fn replied(body: Lite) -> MessageRepliedInfo {
        let info = MessageLiteInfo { body: Some(body), ..MessageLiteInfo::default() };
        MessageRepliedInfo { message_info: Some(info), sender_user_id: "bob".into(), ..MessageRepliedInfo::default() }
    }

    #[test]
    fn a_reply_shows_what_it_replies_to() {
        let text = replied(Lite::Text(TextMessageLiteInfo { message: "see\nyou".into() }));
        assert_eq!(quoted(&text), "bob: see you");
        let notes = FileMessageLiteInfo { file_name: "a.pdf".into(), file_size: 7, ..FileMessageLiteInfo::default() };
        assert_eq!(quoted(&replied(Lite::File(notes))), "bob: [file] a.pdf, 7 bytes");
        let gone = MessageRepliedInfo { state: MessageRepliedInfoState::Deleted as i32, ..text };
        assert_eq!(quoted(&gone), "bob: [a message that is gone]");
    }

    #[test]
    fn reactions_are_counted() {
        let one = |kind: &str, total_count| MessageReaction {
            reaction_type: kind.into(),
            total_count,
            ..MessageReaction::default()
        };
        assert_eq!(reactions(&[one("👍", 2), one("like", 1)]), "👍 2  like 1");
        assert_eq!(reactions(&[]), "");
    }

    #[test]
    fn a_revocation_names_who_did_it() {
        let revoke = RevokeMessage { operated_user_id: "ann".into(), ..RevokeMessage::default() };
        let message = Message {
            body: Some(Body::Revoke(Box::new(revoke))),
            conversation_id: "bob".into(),
            message_seq: 7,
            sender_user_id: "bob".into(),
            ..Message::default()
        };
        let event = Event::MessageRevokeReceived(MessageRevokeReceivedEvent { message_list: vec![message] });
        assert_eq!(changed(&event), Some(vec!["ann revoked message 7 with bob".to_owned()]));
    }
}
