//! Events: their kinds, and their JSON: the event's name beside its payload.

use std::fmt;
use std::str::FromStr;

use crate::v1;

include!(concat!(env!("OUT_DIR"), "/events.rs"));
include!(concat!(env!("OUT_DIR"), "/errors.rs"));

/// Not the name of an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no event {0:?}")]
pub struct UnknownEvent(String);

impl FromStr for EventKind {
    type Err = UnknownEvent;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| UnknownEvent(name.to_owned()))
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl v1::event_record::Event {
    /// `{"event":"peerMessageReceived", …}`: one object, the payload's fields beside the name.
    ///
    /// # Errors
    /// The payload has no JSON.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let mut object = serde_json::Map::new();
        object.insert("event".to_owned(), self.kind().name().into());
        if let serde_json::Value::Object(payload) = self.payload()? {
            // `connectionStateChanged` has a field of the same name; the payload's stays, the name is told by `name`.
            for (key, value) in payload {
                if key == "event" {
                    object.insert("name".to_owned(), self.kind().name().into());
                }
                object.insert(key, value);
            }
        }
        Ok(object.into())
    }
}
