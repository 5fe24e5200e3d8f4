//! The rules of messages that a client sends, without a store.

use bytes::Bytes;
use prost::Message as _;
use zim_protocol::message_lite_info::Body as Lite;
use zim_protocol::{
    Message, MessageFlag, MessagePriority, MessageSendConfig, MessageType, MultipleMessage, message::Body,
};

use super::combine;
use crate::config::Limits;
use crate::effect::Receivers;
use crate::error::Error;

/// The bytes of a multiple message.
const MAX_MULTIPLE_BYTES: u32 = 32_768;

/// The sender's part of a message, without the fields that the server fills.
#[derive(Debug)]
pub(super) struct Draft {
    /// The stored body: an encoded `Message`, which takes a fraction of the memory of a decoded one and is kept until
    /// the request is answered.
    pub content: Bytes,
    /// The type of the message.
    pub kind: MessageType,
    /// `MessageFlag`s.
    pub flags: u32,
    /// What is dropped last when a device reads too slowly. Only commands are ever dropped.
    pub priority: MessagePriority,
    /// What a combined message combines, as an encoded `CombineMessage`.
    pub combined: Option<Bytes>,
    /// The files of this server that the message has.
    pub files: Vec<i64>,
    /// Who of a group sees the message.
    pub receivers: Receivers,
}

impl Draft {
    /// Says who of a group sees the message. If they are not all, it is not counted as unread and asks for no receipt.
    ///
    /// # Errors
    /// A command is for all.
    pub(super) fn set_receivers(&mut self, receivers: Receivers) -> Result<(), Error> {
        if receivers != Receivers::All {
            if self.kind == MessageType::Command {
                return Err(Error::params_invalid("a command is for all members of a group"));
            }
            self.flags &= !(MessageFlag::Counted as u32 | MessageFlag::Receipt as u32);
            self.flags |= receivers.flag();
        }
        self.receivers = receivers;
        Ok(())
    }

    /// Returns the content of the message with this ID: a combined message has it in its content.
    ///
    /// # Errors
    /// The content is no message.
    pub(super) fn content_of(&self, message_id: i64) -> Result<Bytes, Error> {
        if self.combined.is_none() {
            return Ok(self.content.clone());
        }
        let mut message = Message::decode(self.content.clone()).map_err(Error::internal)?;
        if let Some(Body::Combine(combine)) = &mut message.body {
            combine.combine_id = message_id.to_string();
        }
        Ok(message.encode_to_vec().into())
    }
}

/// Checks a message to a user or to a group.
///
/// # Errors
/// A type of message that cannot be sent this way, or a body over its limit.
pub(super) fn draft(message: Message, config: &MessageSendConfig, limits: &Limits) -> Result<Draft, Error> {
    if matches!(message.body, Some(Body::Barrage(_))) {
        return Err(Error::params_invalid("a barrage message goes to a room only"));
    }
    checked(message, config, limits)
}

/// Checks a message to a room. It may not be stored.
///
/// # Errors
/// A type of message that cannot be sent this way, or a body over its limit.
pub(super) fn room_draft(
    message: Message,
    config: &MessageSendConfig,
    (limits, is_kept): (&Limits, bool),
) -> Result<Draft, Error> {
    if matches!(message.body, Some(Body::Combine(_))) && !is_kept {
        return Err(Error::params_invalid("a combined message cannot be sent to a room: nothing of it is kept"));
    }
    if message.replied_info.is_some() {
        return Err(Error::message_type_unsupported("a reply in a room"));
    }
    if !config.idempotency_key.is_empty() {
        return Err(Error::params_invalid(
            "a message to a room may not be stored, so config.idempotencyKey cannot be kept",
        ));
    }
    Ok(Draft { flags: 0, ..checked(message, config, limits)? })
}

fn checked(message: Message, config: &MessageSendConfig, limits: &Limits) -> Result<Draft, Error> {
    let Some(mut body) = message.body else {
        return Err(Error::params_invalid("the message has no body"));
    };
    let mut combined = None;
    let (kind, bytes, limit) = match &mut body {
        Body::Text(text) => (MessageType::Text, text.message.len(), limits.max_text_bytes),
        Body::Command(command) => (MessageType::Command, command.message.len(), limits.max_command_bytes),
        Body::Custom(custom) => (MessageType::Custom, custom.message.len(), limits.max_custom_bytes),
        Body::Combine(combine) => {
            combined = Some(combine::take(combine, limits)?);
            (MessageType::Combine, 0, 0)
        }
        Body::Image(_) => (MessageType::Image, 0, 0),
        Body::File(_) => (MessageType::File, 0, 0),
        Body::Audio(_) => (MessageType::Audio, 0, 0),
        Body::Video(_) => (MessageType::Video, 0, 0),
        Body::Multiple(multiple) => {
            check_multiple(multiple, limits)?;
            (MessageType::Multiple, multiple.encoded_len(), MAX_MULTIPLE_BYTES)
        }
        Body::Barrage(barrage) => (MessageType::Barrage, barrage.message.len(), limits.max_command_bytes),
        _ => return Err(Error::params_invalid("a message of this type cannot be sent")),
    };
    if message.r#type != 0 && message.r#type != kind as i32 {
        return Err(Error::params_invalid("message.type does not fit the body of the message"));
    }
    if bytes > limit as usize {
        return Err(Error::params_invalid(format!("message is {bytes} bytes long; at most {limit} are allowed")));
    }
    if kind == MessageType::Command && !config.idempotency_key.is_empty() {
        return Err(Error::params_invalid("a command is not stored, so config.idempotencyKey cannot be kept with it"));
    }
    let mut flags = 0;
    if kind != MessageType::Command {
        if !config.disable_unread_message_count {
            flags |= MessageFlag::Counted as u32;
        }
        if config.has_receipt {
            flags |= MessageFlag::Receipt as u32;
        }
        if config.is_notify_mentioned_users.unwrap_or(true) {
            flags |= MessageFlag::NotifyMentioned as u32;
        }
    }
    let content = Message {
        body: Some(body),
        extended_data: message.extended_data,
        mentioned_user_ids: message.mentioned_user_ids,
        is_mention_all: message.is_mention_all,
        ..Message::default()
    };
    Ok(Draft {
        content: content.encode_to_vec().into(),
        kind,
        flags,
        priority: config.priority(),
        combined,
        files: Vec::new(),
        receivers: Receivers::All,
    })
}

/// Checks the parts of a multiple message.
fn check_multiple(multiple: &mut MultipleMessage, limits: &Limits) -> Result<(), Error> {
    // What could not be sent is the sender's own.
    multiple.failed_index_list.clear();
    if let Err(problem) = multiple.check_parts() {
        return Err(Error::params_invalid(problem));
    }
    for info in &mut multiple.message_info_list {
        let (bytes, limit) = match &info.body {
            Some(Lite::Text(text)) => (text.message.len(), limits.max_text_bytes),
            Some(Lite::Custom(custom)) => (custom.message.len(), limits.max_custom_bytes),
            _ => (0, 0),
        };
        if bytes > limit as usize {
            return Err(Error::params_invalid(format!("a part is {bytes} bytes long; at most {limit} are allowed")));
        }
        if let Some(kind) = info.part_type() {
            info.r#type = kind as i32;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafted(message: Message) -> Result<Draft, Error> {
        draft(message, &MessageSendConfig::default(), &Limits::default())
    }

    #[test]
    fn a_text_at_the_limit_is_accepted_and_a_longer_one_is_not() {
        let limit = Limits::default().max_text_bytes as usize;
        assert!(drafted(Message::text("x".repeat(limit))).is_ok());
        assert!(drafted(Message::text("x".repeat(limit + 1))).is_err());
    }

    #[test]
    fn fields_that_the_server_fills_are_dropped() {
        let message = Message { message_seq: 7, sender_user_id: "mallory".into(), ..Message::text("hi") };
        let draft = drafted(message).unwrap();
        let body = Message::text("hi").body;
        assert_eq!(Message::decode(draft.content).unwrap(), Message { body, ..Message::default() });
        assert_eq!(draft.kind, MessageType::Text);
    }

    #[test]
    fn a_command_is_not_counted_as_unread() {
        assert_eq!(drafted(Message::command(vec![1])).unwrap().flags, 0);
        let flags = drafted(Message::text("hi")).unwrap().flags;
        assert_ne!(flags & MessageFlag::Counted as u32, 0);
    }

    #[test]
    fn a_command_has_no_key_of_the_app() {
        let config = MessageSendConfig { idempotency_key: "7".to_owned(), ..MessageSendConfig::default() };
        assert!(draft(Message::command(vec![1]), &config, &Limits::default()).is_err());
        assert!(draft(Message::text("hi"), &config, &Limits::default()).is_ok());
    }

    #[test]
    fn a_type_that_does_not_fit_the_body_is_refused() {
        let message = Message { r#type: MessageType::Custom as i32, ..Message::text("hi") };
        assert!(drafted(message).is_err());
    }
}
