use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use serde_json::{Map, Value};

/// A oneof. In JSON, the variant that is set is a key beside the other fields.
pub(crate) trait Oneof: DeserializeOwned {
    /// The keys of the variants.
    const KEYS: &'static [&'static str];
}

/// Reads a flattened oneof. serde itself would read a malformed one as a missing one.
pub(crate) fn oneof<'de, D: Deserializer<'de>, T: Oneof>(from: D) -> Result<Option<T>, D::Error> {
    let mut fields = Map::deserialize(from)?;
    fields.retain(|key, value| T::KEYS.contains(&key.as_str()) && !value.is_null());
    match fields.len() {
        0 => Ok(None),
        1 => serde_json::from_value(Value::Object(fields)).map(Some).map_err(D::Error::custom),
        _ => Err(D::Error::custom(format_args!("only one of {} can be set", T::KEYS.join(", ")))),
    }
}

/// A number as decimal text.
pub(crate) mod decimal {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<N: Display, S: Serializer>(number: &N, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, N: FromStr<Err: Display>>(from: D) -> Result<N, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Bytes as base64 text.
pub(crate) mod base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::v1::{FeedEntry, Hello, MessageEntry, ReadMark, Response, feed_entry, response};

    #[test]
    fn an_id_beyond_the_exact_numbers_of_json_is_text() {
        let entry = MessageEntry { seq: 7, message_id: 2_794_113_785_280_691_269, ..MessageEntry::default() };
        let json = serde_json::to_value(&entry).unwrap();
        assert_eq!((&json["messageID"], &json["seq"]), (&json!("2794113785280691269"), &json!(7)));
        assert_eq!(serde_json::from_value::<MessageEntry>(json).unwrap(), entry);
        for bad in [json!({"messageID": "x"}), json!({"messageID": ""}), json!({"messageID": "9223372036854775808"})] {
            assert!(serde_json::from_value::<MessageEntry>(bad.clone()).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_value(Hello::default()).unwrap()["deviceID"], json!(""));
    }

    #[test]
    fn a_oneof_is_a_key_beside_the_other_fields() {
        let mark = ReadMark { read_seq: 4, ..ReadMark::default() };
        let entry = FeedEntry { pos: 7, detail: Some(feed_entry::Detail::Read(mark)) };
        let json = serde_json::to_value(&entry).unwrap();
        assert_eq!(json, json!({"pos": 7, "read": {"readSeq": 4}}));
        assert_eq!(serde_json::from_value::<FeedEntry>(json).unwrap(), entry);
        let ok = Response { outcome: Some(response::Outcome::Ok(vec![1, 2, 3].into())), ..Response::default() };
        let json = serde_json::to_value(&ok).unwrap();
        assert_eq!(json, json!({"id": 0, "ok": "AQID", "pushes": []}));
        assert_eq!(serde_json::from_value::<Response>(json).unwrap(), ok);
    }

    #[test]
    fn a_oneof_may_be_missing_but_not_malformed_or_set_twice() {
        for none in [json!({"pos": 7}), json!({"pos": 7, "read": null, "of a later version": {}})] {
            assert_eq!(serde_json::from_value::<FeedEntry>(none).unwrap(), FeedEntry { pos: 7, detail: None });
        }
        for bad in [json!({"read": 1}), json!({"read": {"readSeq": "x"}}), json!({"read": {}, "profile": {}})] {
            assert!(serde_json::from_value::<FeedEntry>(bad.clone()).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_value(FeedEntry { pos: 7, detail: None }).unwrap(), json!({"pos": 7}));
    }
}
