//! The messages of the wire by name, as bytes and as JSON.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zim_protocol as v1;
use zim_protocol::{ConversationRef, ConversationType, EventRecord, Message, MessageEntry, MessageLiteInfo};

use super::any_of;

/// A message of the contract.
pub(super) struct Kind {
    name: &'static str,
    /// Reads bytes.
    pub(super) bytes: fn(&[u8]),
    /// Reads JSON.
    pub(super) json: fn(&str),
}

macro_rules! kinds {
    ($($name:ident),+ $(,)?) => {
        &[$(Kind { name: stringify!($name), bytes: from_bytes::<v1::$name>, json: from_json::<v1::$name> }),+]
    };
}

/// The top-level messages, which contain the others.
const KINDS: &[Kind] = kinds![
    Message,
    MessageEntry,
    EventRecord,
    Push,
    SyncResult,
    Page,
    FillResult,
    Welcome,
    Response,
    Transient,
    Conversation,
    ConversationHead,
    MessageSendConfig,
    UserFullInfo,
    CreateAppRequest,
    MintTokenRequest,
    ListSessionsResult,
];

/// Returns the message with this name; any other name maps to one of them.
pub(super) fn kind(name: &[u8]) -> &'static Kind {
    let named = KINDS.iter().find(|kind| kind.name.as_bytes() == name);
    named.unwrap_or_else(|| &KINDS[any_of(name, KINDS.len())])
}

trait Wire: prost::Message + Default + PartialEq + Debug + Serialize + DeserializeOwned + 'static {}

impl<T: prost::Message + Default + PartialEq + Debug + Serialize + DeserializeOwned + 'static> Wire for T {}

fn from_bytes<T: Wire>(bytes: &[u8]) {
    let Ok(message) = T::decode(bytes) else { return };
    assert_eq!(
        T::decode(message.encode_to_vec().as_slice()).as_ref(),
        Ok(&message),
        "its own bytes decode differently"
    );
    // JSON changes a message whose `type` and body disagree, but only once.
    let once = through_json(&message);
    assert_eq!(through_json(&once), once, "JSON changes it");
    let any: &dyn std::any::Any = &message;
    if let Some(message) = any.downcast_ref::<Message>() {
        let mut message = message.clone();
        agree(&mut message);
        assert_eq!(through_json(&message), message, "JSON loses something");
    }
    if let Some(entry) = any.downcast_ref::<MessageEntry>() {
        let name = ConversationRef { r#type: ConversationType::Peer as i32, id: "bob".to_owned() };
        if let Ok(message) = entry.clone().into_message("ann", &name) {
            assert_eq!(message.conversation_id, "bob");
            through_json(&message);
        }
    }
    if let Some(EventRecord { event: Some(event) }) = any.downcast_ref::<EventRecord>() {
        let json = event.to_json().unwrap();
        assert_eq!(json["name"], event.kind().name(), "the event's name");
    }
}

fn from_json<T: Wire>(text: &str) {
    let Ok(message) = serde_json::from_str::<T>(text) else { return };
    assert_eq!(through_json(&message), message, "JSON changes it");
    let bytes = message.encode_to_vec();
    assert_eq!(T::decode(bytes.as_slice()).as_ref(), Ok(&message), "bytes change it");
}

/// Writes a message as JSON and reads it again.
fn through_json<T: Wire>(message: &T) -> T {
    let text = serde_json::to_string(message).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Sets `type` to match the body, also in nested messages.
fn agree(message: &mut Message) {
    use zim_protocol::message::Body;
    match &mut message.body {
        Some(Body::Combine(combine)) => combine.message_list.iter_mut().for_each(agree),
        Some(Body::Multiple(multiple)) => multiple.message_info_list.iter_mut().for_each(agree_lite),
        _ => {}
    }
    if let Some(lite) = message.replied_info.as_mut().and_then(|replied| replied.message_info.as_mut()) {
        agree_lite(lite);
    }
    message.r#type = 0;
    message.r#type = type_in_json(message);
}

fn agree_lite(lite: &mut MessageLiteInfo) {
    use zim_protocol::message_lite_info::Body;
    if let Some(Body::Multiple(multiple)) = &mut lite.body {
        multiple.message_info_list.iter_mut().for_each(agree_lite);
    }
    lite.r#type = 0;
    lite.r#type = type_in_json(lite);
}

fn type_in_json(message: &impl Serialize) -> i32 {
    let json = serde_json::to_value(message).unwrap();
    json["type"].as_i64().and_then(|kind| i32::try_from(kind).ok()).unwrap()
}
