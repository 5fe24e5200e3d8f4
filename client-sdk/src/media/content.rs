//! What only this device knows of messages. The local database keeps paths of this device in the content of a message. They never
//! leave the device, and what comes from the server does not remove them. Messages that are forwarded have more of this kind.

use bytes::Bytes;
use prost::Message as _;
use zim_protocol::{Message, MessageType, message::Body};

/// Whether messages of this type can have files.
pub(crate) fn is_media(kind: i32) -> bool {
    use MessageType::{Audio, File, Image, Multiple, Video};
    MessageType::try_from(kind).is_ok_and(|kind| matches!(kind, Image | File | Audio | Video | Multiple))
}

/// Whether a message has a file on this device that must be uploaded before it is sent.
pub(crate) fn needs_upload(message: &mut Message) -> bool {
    message.media_parts().iter().any(|part| part.download_url.is_empty())
}

/// Returns the content of a message without the paths of this device.
pub(crate) fn without_paths(content: &Bytes) -> Bytes {
    let Ok(mut message) = Message::decode(content.clone()) else { return content.clone() };
    message.media_parts().into_iter().for_each(|part| part.local_path.clear());
    message.encode_to_vec().into()
}

/// Returns what the server gets of the content of a message.
pub(crate) fn for_server(content: &Bytes) -> Bytes {
    let Ok(mut message) = Message::decode(content.clone()) else { return content.clone() };
    strip(&mut message);
    message.encode_to_vec().into()
}

/// Removes from a message what only this device has: paths, and parts that could not be uploaded. Of messages that it combines, only
/// what others get of them remains.
pub(crate) fn strip(message: &mut Message) {
    message.media_parts().into_iter().for_each(|part| part.local_path.clear());
    match &mut message.body {
        Some(Body::Multiple(multiple)) => {
            let failed = std::mem::take(&mut multiple.failed_index_list);
            let mut index = 0;
            multiple.message_info_list.retain(|_| {
                index += 1;
                !failed.contains(&(index - 1))
            });
        }
        Some(Body::Combine(combine)) => {
            for item in &mut combine.message_list {
                *item = forwarded(std::mem::take(item));
                strip(item);
            }
        }
        _ => {}
    }
}

/// Returns what others get of a message that another one combines. What this device and its user know of it stays here: the local
/// data, the receipt, the reactions.
fn forwarded(message: Message) -> Message {
    Message {
        r#type: message.r#type,
        message_id: message.message_id,
        message_seq: message.message_seq,
        sender_user_id: message.sender_user_id,
        conversation_id: message.conversation_id,
        conversation_type: message.conversation_type,
        timestamp: message.timestamp,
        extended_data: message.extended_data,
        body: message.body,
        // The server combines neither.
        is_user_inserted: message.is_user_inserted,
        is_broadcast_message: message.is_broadcast_message,
        ..Message::default()
    }
}

/// Returns what says at which message a page begins. The rest of the message does not travel.
pub(crate) fn place(message: &Message) -> Message {
    Message {
        message_id: message.message_id.clone(),
        message_seq: message.message_seq,
        order_key: message.order_key,
        ..Message::default()
    }
}

/// Returns the content that the server has, with what only this device knows: where the files are, and which parts could not
/// be sent. `None`: this device knows nothing more.
pub(crate) fn merged(old: &[u8], new: &[u8]) -> Option<Bytes> {
    let (mut old, mut new) = (Message::decode(old).ok()?, Message::decode(new).ok()?);
    if std::mem::discriminant(old.body.as_ref()?) != std::mem::discriminant(new.body.as_ref()?) {
        return None;
    }
    if let (Some(Body::Multiple(old)), Some(Body::Multiple(new))) = (&old.body, &mut new.body)
        && !old.failed_index_list.is_empty()
        && old.message_info_list.len() == old.failed_index_list.len() + new.message_info_list.len()
    {
        let mut sent = std::mem::take(&mut new.message_info_list).into_iter();
        for (index, info) in (0..).zip(&old.message_info_list) {
            let is_failed = old.failed_index_list.contains(&index);
            new.message_info_list.extend(if is_failed { Some(info.clone()) } else { sent.next() });
        }
        new.failed_index_list.clone_from(&old.failed_index_list);
    }
    let mut is_changed = matches!(&new.body, Some(Body::Multiple(multiple)) if !multiple.failed_index_list.is_empty());
    let known = old.media_parts();
    for part in new.media_parts() {
        let before = known.iter().find(|known| known.index == part.index && !known.local_path.is_empty());
        // Of an edited message, another file may be at this place.
        let is_same = |url: &str| url.is_empty() || part.download_url.is_empty() || *url == **part.download_url;
        if let Some(before) = before.filter(|before| is_same(before.download_url)) {
            part.local_path.clone_from(before.local_path);
            is_changed = true;
        }
    }
    is_changed.then(|| new.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use zim_protocol::message_lite_info::Body as Lite;
    use zim_protocol::{CombineMessage, FileMessageLiteInfo, MessageLiteInfo, MessageReaction, MultipleMessage};

    use super::*;

    fn info(path: &str, url: &str) -> MessageLiteInfo {
        let file = FileMessageLiteInfo {
            file_local_path: path.to_owned(),
            file_download_url: url.to_owned(),
            ..FileMessageLiteInfo::default()
        };
        MessageLiteInfo { r#type: MessageType::File as i32, body: Some(Lite::File(file)) }
    }

    fn multiple(infos: Vec<MessageLiteInfo>, failed: Vec<i64>) -> Vec<u8> {
        let multiple = MultipleMessage { message_info_list: infos, failed_index_list: failed };
        Message { body: Some(Body::Multiple(multiple)), ..Message::default() }.encode_to_vec()
    }

    #[test]
    fn a_path_stays_on_this_device() {
        let mut message = Message::image("pictures/cat.jpg");
        assert!(needs_upload(&mut message));
        *message.media_parts()[0].download_url = "https://h/media/1".to_owned();
        assert!(!needs_upload(&mut message));
        let old: Bytes = message.encode_to_vec().into();
        let sent = for_server(&old);
        assert_eq!(*Message::decode(sent.clone()).unwrap().media_parts()[0].local_path, "");
        let merged = merged(&old, &sent).unwrap();
        assert_eq!(*Message::decode(merged).unwrap().media_parts()[0].local_path, "pictures/cat.jpg");
        // Nothing is known about another type of message, and a text has no path.
        let text = Message::text("hi").encode_to_vec();
        assert!(super::merged(&old, &text).is_none() && super::merged(&text, &text).is_none());
        assert!(!needs_upload(&mut Message::text("hi")));
    }

    #[test]
    fn parts_that_failed_are_the_senders_own() {
        let old = multiple(vec![info("/a", "https://h/1"), info("/b", ""), info("/c", "https://h/3")], vec![1]);
        let sent = for_server(&old.clone().into());
        let parts = |content: &[u8]| {
            let mut message = Message::decode(content).unwrap();
            message.media_parts().iter().map(|part| part.local_path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(parts(&sent), ["", ""]);
        let merged = merged(&old, &sent).unwrap();
        assert_eq!(parts(&merged), ["/a", "/b", "/c"]);
        let Some(Body::Multiple(merged)) = Message::decode(merged).unwrap().body else { panic!() };
        assert_eq!(merged.failed_index_list, [1]);
    }

    #[test]
    fn what_only_this_device_knows_of_a_message_is_not_forwarded() {
        let known = |body: Option<Body>| Message {
            message_id: "7".to_owned(),
            message_seq: 3,
            sender_user_id: "bob".to_owned(),
            timestamp: 5,
            extended_data: "of the app".to_owned(),
            body,
            local_message_id: "0a".to_owned(),
            local_extended_data: "a note of mine".to_owned(),
            receipt_status: 2,
            order_key: 300,
            reactions: vec![MessageReaction::default()],
            mentioned_user_ids: vec!["carl".to_owned()],
            ..Message::default()
        };
        let combine = |message_list| {
            let combine = CombineMessage { title: "t".to_owned(), message_list, ..CombineMessage::default() };
            Some(Body::Combine(Box::new(combine)))
        };
        let outer = Message {
            body: combine(vec![
                known(Message::image("pictures/cat.jpg").body),
                known(combine(vec![known(Message::text("inner").body)])),
            ]),
            ..Message::default()
        };
        let shared = |body| Message {
            message_id: "7".to_owned(),
            message_seq: 3,
            sender_user_id: "bob".to_owned(),
            timestamp: 5,
            extended_data: "of the app".to_owned(),
            body,
            ..Message::default()
        };
        let expected = Message {
            body: combine(vec![
                shared(Message::image("").body),
                shared(combine(vec![shared(Message::text("inner").body)])),
            ]),
            ..Message::default()
        };
        let sent = for_server(&outer.encode_to_vec().into());
        assert_eq!(Message::decode(sent).unwrap(), expected);
        let named = Message { message_id: "7".to_owned(), message_seq: 3, order_key: 300, ..Message::default() };
        assert_eq!(place(&known(None)), named);
    }
}
