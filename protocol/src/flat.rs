//! The reference has a class for each type of message. In JSON, its fields stand beside `type` and the common fields.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

use crate::v1::{
    self, BarrageMessage, CommandMessage, CustomMessage, Message, MessageLiteInfo, MessageType, TextMessage,
    TipsMessageChangeInfo, TipsMessageChangeInfoType as Change, message::Body,
    tips_message_change_info::Body as Changed,
};

impl Message {
    /// Returns a text message.
    pub fn text(message: impl Into<String>) -> Self {
        let body = Body::Text(TextMessage { message: message.into() });
        Self { r#type: MessageType::Text as i32, body: Some(body), ..Self::default() }
    }

    /// Returns a command: bytes for the app on the other side, which are delivered at most once and never stored.
    pub fn command(message: impl Into<bytes::Bytes>) -> Self {
        let body = Body::Command(CommandMessage { message: message.into() });
        Self { r#type: MessageType::Command as i32, body: Some(body), ..Self::default() }
    }

    /// Returns a message of the app's own kind; `sub_type` is 0 to 200.
    pub fn custom(message: impl Into<String>, sub_type: i64) -> Self {
        let body = Body::Custom(CustomMessage { message: message.into(), sub_type, ..CustomMessage::default() });
        Self { r#type: MessageType::Custom as i32, body: Some(body), ..Self::default() }
    }

    /// Returns a barrage message, which goes to rooms only.
    pub fn barrage(message: impl Into<String>) -> Self {
        let body = Body::Barrage(BarrageMessage { message: message.into() });
        Self { r#type: MessageType::Barrage as i32, body: Some(body), ..Self::default() }
    }

    /// Returns the text of a text, custom, barrage or system message.
    pub fn as_text(&self) -> Option<&str> {
        match self.body.as_ref()? {
            Body::Text(body) => Some(&body.message),
            Body::Custom(body) => Some(&body.message),
            Body::Barrage(body) => Some(&body.message),
            Body::System(body) => Some(&body.message),
            _ => None,
        }
    }
}

/// A text message.
impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

/// A text message.
impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// A message with a `type` and a body that fits it. The generator writes the implementations where each type has a body
/// of its own.
pub(crate) trait WithBody {
    /// Returns the type if the body determines it.
    fn body_type(&self) -> Option<i32>;
    fn body_to_json(&self) -> serde_json::Result<Value>;
    fn body_from_json(&mut self, value: Value) -> serde_json::Result<()>;
}

/// Returns the common fields and those of the body in one object.
fn merged(common: Value, message: &impl WithBody) -> serde_json::Result<Value> {
    let (Value::Object(mut fields), body) = (common, message.body_to_json()?) else {
        return Err(ser::Error::custom("a message is an object"));
    };
    if let Value::Object(body) = body {
        fields.extend(body);
    }
    if let Some(kind) = message.body_type() {
        fields.insert("type".to_owned(), Value::from(kind));
    }
    Ok(Value::Object(fields))
}

macro_rules! flat_json {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                // This calls the derived functions, which know only the common fields.
                let common = Self::serialize(self, serde_json::value::Serializer).map_err(ser::Error::custom)?;
                merged(common, self).map_err(ser::Error::custom)?.serialize(to)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let value = Value::deserialize(from)?;
                let mut message = Self::deserialize(value.clone()).map_err(de::Error::custom)?;
                message.body_from_json(value).map_err(de::Error::custom)?;
                Ok(message)
            }
        }
    };
}

flat_json!(Message);
flat_json!(MessageLiteInfo);
flat_json!(TipsMessageChangeInfo);

include!(concat!(env!("OUT_DIR"), "/bodies.rs"));

impl WithBody for TipsMessageChangeInfo {
    fn body_type(&self) -> Option<i32> {
        None
    }

    fn body_to_json(&self) -> serde_json::Result<Value> {
        match &self.body {
            Some(Changed::Group(body)) => serde_json::to_value(body),
            Some(Changed::GroupMember(body)) => serde_json::to_value(body),
            Some(Changed::PinStatus(body)) => serde_json::to_value(body),
            None => Ok(Value::Null),
        }
    }

    fn body_from_json(&mut self, value: Value) -> serde_json::Result<()> {
        self.body = match self.r#type() {
            Change::Unknown => None,
            Change::GroupDataChanged
            | Change::GroupNoticeChanged
            | Change::GroupNameChanged
            | Change::GroupAvatarUrlChanged
            | Change::GroupMuteChanged => Some(Changed::Group(serde_json::from_value(value)?)),
            Change::GroupOwnerTransferred | Change::GroupMemberRoleChanged | Change::GroupMemberMuteChanged => {
                Some(Changed::GroupMember(serde_json::from_value(value)?))
            }
            Change::GroupMessagePinInfoChanged => Some(Changed::PinStatus(serde_json::from_value(value)?)),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_flat_and_the_type_chooses_the_body() {
        let json = serde_json::to_value(Message { message_id: "7".into(), ..Message::text("hi") }).unwrap();
        assert_eq!(json["type"], 1);
        assert_eq!(json["message"], "hi");
        assert_eq!(json["messageID"], "7");
        let custom = serde_json::json!({"type": 200, "message": "x", "subType": 3, "unknown": true});
        let message: Message = serde_json::from_value(custom).unwrap();
        assert_eq!(message, Message::custom("x", 3));
    }

    #[test]
    fn a_commands_bytes_are_base64() {
        let json = serde_json::to_value(Message::command(vec![1, 2, 3])).unwrap();
        assert_eq!(json["message"], "AQID");
        let back: Message = serde_json::from_value(json).unwrap();
        assert_eq!(back, Message::command(vec![1, 2, 3]));
    }

    #[test]
    fn a_change_shows_the_fields_of_its_kind_only() {
        use crate::v1::{TipsMessageGroupChangeInfo, TipsMessageGroupMemberChangeInfo, TipsMessagePinStatusChangeInfo};

        let group = TipsMessageGroupChangeInfo { group_name: "chess".into(), ..TipsMessageGroupChangeInfo::default() };
        let member = TipsMessageGroupMemberChangeInfo { member_role: 3, ..TipsMessageGroupMemberChangeInfo::default() };
        let pin = TipsMessagePinStatusChangeInfo { is_pinned: true };
        for (kind, body, fields) in [
            (
                Change::GroupNameChanged,
                Changed::Group(group),
                serde_json::json!({"groupName": "chess", "groupAvatarUrl": "", "groupDataFlag": 0, "groupNotice": ""}),
            ),
            (
                Change::GroupMemberRoleChanged,
                Changed::GroupMember(member),
                serde_json::json!({"memberRole": 3, "muteExpiredTime": 0}),
            ),
            (Change::GroupMessagePinInfoChanged, Changed::PinStatus(pin), serde_json::json!({"isPinned": true})),
        ] {
            let info = TipsMessageChangeInfo { r#type: kind as i32, body: Some(body) };
            let mut json = serde_json::to_value(&info).unwrap();
            assert_eq!(serde_json::from_value::<TipsMessageChangeInfo>(json.clone()).unwrap(), info);
            assert_eq!(json.as_object_mut().unwrap().remove("type"), Some(Value::from(kind as i32)));
            assert_eq!(json, fields);
        }
    }

    #[test]
    fn the_body_decides_the_type_in_json() {
        let json = serde_json::to_value(Message { r#type: 0, ..Message::text("hi") }).unwrap();
        assert_eq!(json["type"], 1);
    }
}
