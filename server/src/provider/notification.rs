//! What a push says, and to which device.

use serde::Serialize;
use sha2::{Digest, Sha256};
use zim_protocol::{PlatformType, PushConfig, PushSource};

use crate::push::PushKind;

/// A device that gets pushes.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) source: PushSource,
    pub(crate) platform: PlatformType,
    pub(crate) app_type: i64,
    /// What the push service knows the device by.
    pub(crate) token: String,
    /// The keys of Web Push.
    pub(crate) p256dh: Vec<u8>,
    pub(crate) auth: Vec<u8>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever has a token and the app's credentials can push to the device.
        f.debug_struct("Device").field("source", &self.source).finish_non_exhaustive()
    }
}

/// What a push says.
#[derive(Clone, Debug)]
pub(crate) struct Notification {
    pub(crate) app_id: i64,
    /// The receiver.
    pub(crate) user_id: String,
    /// The ID that the app knows the device by.
    pub(crate) push_id: String,
    pub(crate) config: PushConfig,
    pub(crate) data: Data,
    /// The number on the icon; `None` leaves it as it is.
    pub(crate) badge: Option<i64>,
    /// Until when it is worth delivering, Unix milliseconds.
    pub(crate) expires_at: i64,
    pub(crate) kind: PushKind,
}

/// What the app on the device needs to know where the push comes from. All of it is text, because FCM takes nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Data {
    /// The same for each attempt to send this push.
    #[serde(rename = "id")]
    pub(crate) id: String,
    pub(crate) kind: String,
    #[serde(rename = "senderUserID", skip_serializing_if = "String::is_empty")]
    pub(crate) sender_user_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) conversation_type: String,
    #[serde(rename = "conversationID", skip_serializing_if = "String::is_empty")]
    pub(crate) conversation_id: String,
    #[serde(rename = "messageID", skip_serializing_if = "String::is_empty")]
    pub(crate) message_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message_seq: String,
    #[serde(rename = "callID", skip_serializing_if = "String::is_empty")]
    pub(crate) call_id: String,
    /// The app's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) payload: String,
}

impl Notification {
    /// Returns what a later push of the same conversation or call has too: it replaces this one on the device. 32 characters of the
    /// URL-safe alphabet, which all push services take.
    pub(crate) fn collapse_id(&self) -> String {
        let Data { conversation_type, conversation_id, call_id, sender_user_id, .. } = &self.data;
        let of = match self.kind {
            kind if kind.is_of_message() => format!("{conversation_type}/{conversation_id}"),
            kind if kind.is_of_call() => call_id.clone(),
            // Of two who apply, neither takes the place of the other.
            kind => format!("{}/{conversation_id}/{sender_user_id}", kind.name()),
        };
        let digest = Sha256::new()
            .chain_update(self.app_id.to_be_bytes())
            .chain_update(&self.user_id)
            .chain_update([0])
            .chain_update(of)
            .finalize();
        zim_protocol::id::hex(&digest[..16])
    }

    /// Returns what groups notifications on the device.
    pub(crate) fn thread_id(&self) -> String {
        match self.config.thread_id.as_str() {
            "" => self.collapse_id(),
            thread => thread.to_owned(),
        }
    }

    /// Returns what a push service is sent, in at most this many bytes: services refuse what is longer. If it is too long, the app's
    /// own data is left out, and then what is shown is cut.
    pub(crate) fn fitted(&self, most: usize, encode: impl Fn(&Self) -> Vec<u8>) -> Vec<u8> {
        let mut bytes = encode(self);
        if bytes.len() <= most {
            return bytes;
        }
        let mut push = self.clone();
        push.data.payload.clear();
        bytes = encode(&push);
        while bytes.len() > most {
            // Characters that are escaped take more room than they have bytes: a title alone may be too long.
            let PushConfig { title, content, .. } = &mut push.config;
            let text = if content.is_empty() { title } else { content };
            if text.is_empty() {
                break;
            }
            text.truncate(text.floor_char_boundary(text.len() / 2));
            bytes = encode(&push);
        }
        bytes
    }

    /// Returns how long it is worth delivering, seconds.
    pub(crate) fn seconds_left(&self, now_ms: i64) -> i64 {
        (self.expires_at - now_ms).max(0) / 1_000
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message of ann to bob.
    pub(crate) fn message() -> Notification {
        Notification {
            app_id: 7,
            user_id: "bob".to_owned(),
            push_id: "1".to_owned(),
            config: PushConfig {
                title: "Ann".to_owned(),
                content: "hi".to_owned(),
                payload: "p".to_owned(),
                ..PushConfig::default()
            },
            data: Data {
                id: "5".to_owned(),
                kind: "message".to_owned(),
                sender_user_id: "ann".to_owned(),
                conversation_type: "0".to_owned(),
                conversation_id: "ann".to_owned(),
                message_id: "9".to_owned(),
                message_seq: "3".to_owned(),
                payload: "p".to_owned(),
                ..Data::default()
            },
            badge: Some(4),
            expires_at: 1_800_000_060_000,
            kind: PushKind::Message,
        }
    }

    #[test]
    fn pushes_of_a_conversation_replace_each_other() {
        let (first, mut other) = (message(), message());
        other.data.message_seq = "4".to_owned();
        assert_eq!(first.collapse_id(), other.collapse_id());
        assert_eq!(first.collapse_id().len(), 32);
        other.data.conversation_id = "eve".to_owned();
        assert_ne!(first.collapse_id(), other.collapse_id());
        let applied = |sender: &str, kind| {
            let mut push = message();
            (push.data.sender_user_id, push.kind) = (sender.to_owned(), kind);
            push.collapse_id()
        };
        let (join, friend) = (PushKind::GroupJoinApplication, PushKind::FriendApplication);
        assert_eq!(applied("carl", join), applied("carl", join));
        assert_ne!(applied("carl", join), applied("dora", join));
        assert_ne!(applied("carl", join), applied("carl", friend));
    }

    #[test]
    fn what_is_too_long_loses_the_apps_data_and_then_its_end() {
        let encode = |push: &Notification| format!("{}|{}", push.config.content, push.data.payload).into_bytes();
        let mut push = message();
        push.config.content = "é".repeat(100);
        assert_eq!(push.fitted(202, encode), encode(&push), "as long as allowed");
        push.data.payload = "pp".to_owned();
        assert_eq!(push.fitted(202, encode), format!("{}|", push.config.content).into_bytes());
        assert_eq!(push.fitted(200, encode), format!("{}|", "é".repeat(50)).into_bytes());
        let escaped = |push: &Notification| {
            let PushConfig { title, content, .. } = &push.config;
            serde_json::json!([title, content]).to_string().into_bytes()
        };
        (push.config.title, push.config.content) = ("\u{1}".repeat(100), "text".to_owned());
        let cut = serde_json::json!(["\u{1}".repeat(50), ""]).to_string();
        assert_eq!(push.fitted(400, escaped), cut.into_bytes());
        assert_eq!(push.fitted(1, escaped), br#"["",""]"#, "nothing more can be left out");
    }

    #[test]
    fn what_has_expired_has_no_time_left() {
        assert_eq!(message().seconds_left(1_800_000_000_000), 60);
        assert_eq!(message().seconds_left(1_900_000_000_000), 0);
    }
}
