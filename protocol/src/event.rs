use std::fmt;
use std::str::FromStr;

use crate::v1;

include!(concat!(env!("OUT_DIR"), "/events.rs"));

mod sealed {
    #[expect(unnameable_types, reason = "only the payloads of events implement it")]
    pub trait Sealed {}
}

/// The payload of a kind of event, such as [`PeerMessageReceivedEvent`](crate::PeerMessageReceivedEvent). Each kind has a
/// type of its own.
///
/// ```
/// use zim_protocol::{Event, EventKind, EventType, TokenWillExpireEvent};
///
/// assert_eq!(TokenWillExpireEvent::KIND, EventKind::TokenWillExpire);
/// let event = Event::TokenWillExpire(TokenWillExpireEvent { second: 30 });
/// assert_eq!(TokenWillExpireEvent::of(&event).map(|event| event.second), Some(30));
/// ```
pub trait EventType: sealed::Sealed + Sized + Send + Sync + 'static {
    /// The kind of the event.
    const KIND: EventKind;

    /// Returns the payload of an event of this kind.
    fn of(event: &v1::event_record::Event) -> Option<&Self>;
}

/// A string is not the name of an event.
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
    /// Returns one object with the payload's fields beside the event's name: `{"name":"peerMessageReceived", …}`. No
    /// payload has a field called `name`; some have one called `event`.
    ///
    /// # Errors
    /// The payload cannot be written as JSON.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let mut object = serde_json::Map::new();
        object.insert("name".to_owned(), self.kind().name().into());
        if let serde_json::Value::Object(payload) = self.payload()? {
            object.extend(payload);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::ConnectionStateChangedEvent;

    #[test]
    fn the_name_of_an_event_overwrites_no_field_of_its_payload() {
        let event = v1::event_record::Event::ConnectionStateChanged(ConnectionStateChangedEvent {
            event: 4,
            ..Default::default()
        });
        let json = event.to_json().unwrap();
        assert_eq!((json["name"].as_str(), json["event"].as_i64()), (Some("connectionStateChanged"), Some(4)));
        assert_eq!("peerMessageReceived".parse(), Ok(EventKind::PeerMessageReceived));
        assert!("PeerMessageReceived".parse::<EventKind>().is_err());
    }

    #[test]
    fn no_payload_has_a_field_called_name() {
        let pages = include_str!("../../docs/reference/events.md");
        assert!(!pages.contains("| `name` |"));
    }
}
