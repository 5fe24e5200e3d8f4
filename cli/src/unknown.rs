//! Finds the fields of a JSON request that its method does not have: reading ignores them.

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};
use zim_protocol::{DESCRIPTOR, Method};

use crate::exit::Failure;

/// Messages whose JSON holds the fields of a `body` beside the common fields; `type` chooses the body.
const WITH_BODY: [&str; 3] = ["zim.v1.Message", "zim.v1.MessageLiteInfo", CHANGE];
/// The one of them whose types share bodies.
const CHANGE: &str = "zim.v1.TipsMessageChangeInfo";

/// Returns the unknown fields of a request as paths, such as `message.txt`, each with the known field of the same letters.
pub(crate) fn fields(method: &Method, request: &Value) -> Result<Vec<String>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::other(format!("the contract cannot be read: {error}"));
    let pool = DescriptorPool::decode(DESCRIPTOR).map_err(|error| failed(&error))?;
    let name = format!("zim.v1.{}Service", method.service);
    let service = pool.get_service_by_name(&name).ok_or_else(|| failed(&name))?;
    let rpc = service.methods().find(|rpc| rpc.name() == method.rpc).ok_or_else(|| failed(&method.path))?;
    let mut unknown = Vec::new();
    in_message(&rpc.input(), request, "", &mut unknown);
    Ok(unknown)
}

fn in_message(message: &MessageDescriptor, value: &Value, path: &str, unknown: &mut Vec<String>) {
    // A value of another type is an error of its own.
    let Value::Object(object) = value else { return };
    let bodies = bodies(message, object);
    let known: Vec<_> = own_fields(message).chain(bodies.iter().flat_map(MessageDescriptor::fields)).collect();
    for (key, value) in object {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match known.iter().find(|field| field.json_name() == key) {
            Some(field) => in_field(&field.kind(), field.is_map(), value, &path, unknown),
            None => match known.iter().find(|field| field.json_name().eq_ignore_ascii_case(key)) {
                Some(similar) => unknown.push(format!("{path} (did you mean {}?)", similar.json_name())),
                None => unknown.push(path),
            },
        }
    }
}

fn in_field(kind: &Kind, is_map: bool, value: &Value, path: &str, unknown: &mut Vec<String>) {
    let Kind::Message(message) = kind else { return };
    match value {
        Value::Object(entries) if is_map => {
            for (key, value) in entries {
                let kind = message.map_entry_value_field().kind();
                in_field(&kind, false, value, &format!("{path}.{key}"), unknown);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                in_message(message, item, &format!("{path}[{index}]"), unknown);
            }
        }
        value => in_message(message, value, path, unknown),
    }
}

/// Returns the fields whose names are keys of the message itself.
fn own_fields(message: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> {
    let has_body = WITH_BODY.contains(&message.full_name());
    message.fields().filter(move |field| {
        let oneof = field.containing_oneof();
        !has_body || oneof.is_none_or(|oneof| oneof.name() != "body")
    })
}

/// Returns the bodies that the message may have.
fn bodies(message: &MessageDescriptor, object: &Map<String, Value>) -> Vec<MessageDescriptor> {
    if message.full_name() != CHANGE {
        return body(message, object).into_iter().collect();
    }
    let of = |field: FieldDescriptor| match field.kind() {
        Kind::Message(body) => Some(body),
        _ => None,
    };
    message.fields().filter_map(of).collect()
}

/// Returns the message of the body that `type` chooses.
fn body(message: &MessageDescriptor, object: &Map<String, Value>) -> Option<MessageDescriptor> {
    if !WITH_BODY.contains(&message.full_name()) {
        return None;
    }
    let kind = i32::try_from(object.get("type")?.as_i64()?).ok()?;
    let kinds = message.parent_pool().get_enum_by_name("zim.v1.MessageType")?;
    let kind = kinds.get_value(kind)?.name().strip_prefix("MESSAGE_TYPE_")?.to_lowercase();
    match message.get_field_by_name(&kind)?.kind() {
        Kind::Message(body) => Some(body),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unknown(path: &str, request: &Value) -> Vec<String> {
        fields(zim_protocol::method(path).unwrap(), request).unwrap()
    }

    #[test]
    fn a_field_of_the_method_is_known() {
        for (path, request) in [
            ("User/QueryUsersInfo", json!({ "userIDs": ["ann"], "config": null })),
            (
                "Message/QueryHistoryMessage",
                json!({
                    "conversationID": "bob", "conversationType": 0,
                    "config": { "nextMessage": { "type": 32, "changeInfo": { "type": 3, "groupName": "chess" } } }
                }),
            ),
            (
                "Message/SendMessage",
                json!({
                    "message": { "type": 1, "message": "hi", "extendedData": "x", "mentionedUserIDs": ["bob"] },
                    "toConversationID": "bob", "conversationType": 0, "config": { "priority": 1 }
                }),
            ),
            ("Message/SendMessage", json!({ "message": { "type": 200, "message": "hi", "subType": 7 } })),
            ("Friend/AddFriend", json!({ "userID": "bob", "config": { "friendAttributes": { "k0": "any key" } } })),
        ] {
            assert_eq!(unknown(path, &request), Vec::<String>::new(), "{path}");
        }
    }

    #[test]
    fn an_unknown_field_is_found_at_any_depth() {
        let request = json!({
            "message": {
                "type": 1, "message": "hi", "subType": 7, "text": { "message": "not flat" },
                "repliedInfo": { "messageInfo": { "type": 200, "message": "", "subtype": 7 } },
                "reactions": [{}, { "emoji": "x" }]
            },
            "to": "bob",
        });
        let expected = [
            "message.reactions[1].emoji",
            "message.repliedInfo.messageInfo.subtype (did you mean subType?)",
            "message.subType",
            "message.text",
            "to",
        ];
        assert_eq!(unknown("Message/SendMessage", &request), expected);
        // Without its type, a message has no body.
        let request = json!({ "message": { "message": "hi" } });
        assert_eq!(unknown("Message/SendMessage", &request), ["message.message"]);
    }

    /// Every type of a message has its body, and reading a request ignores just the fields that are found.
    #[test]
    fn the_bodies_are_those_of_the_types() {
        let pool = DescriptorPool::decode(DESCRIPTOR).unwrap();
        for name in WITH_BODY {
            let message = pool.get_message_by_name(name).unwrap();
            let fields = message.oneofs().find(|oneof| oneof.name() == "body").unwrap();
            let kinds = pool.get_enum_by_name("zim.v1.MessageType").unwrap();
            let of = |kind: i32| bodies(&message, json!({ "type": kind }).as_object().unwrap());
            // The types of a change share its bodies.
            let found: Vec<_> = match name {
                CHANGE => of(0),
                _ => kinds.values().flat_map(|kind| of(kind.number())).collect(),
            };
            assert_eq!(found.len(), fields.fields().count(), "{name}");
        }
    }
}
