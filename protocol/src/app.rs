#[cfg(feature = "clock")]
pub use crate::clock::Clock;
pub use crate::event::{EventKind, EventType, UnknownEvent};
pub use crate::v1::Limits;
pub use crate::v1::event_record::Event;

include!(concat!(env!("OUT_DIR"), "/app.rs"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    fn names() -> BTreeSet<&'static str> {
        let text = include_str!(concat!(env!("OUT_DIR"), "/app.rs"));
        let (_, list) = text.split_once('{').unwrap();
        list.split_once('}').unwrap().0.split(", ").collect()
    }

    #[test]
    fn an_app_sees_the_reference_and_nothing_of_the_wire() {
        let names = names();
        for name in
            ["Message", "message", "LoginConfig", "TokenRenewedResult", "ErrorCode", "ConversationType", "GroupInfo"]
        {
            assert!(names.contains(name), "{name}");
        }
        for name in
            ["Hello", "Push", "SyncResult", "ClientFrame", "LoginResult", "MessageFlag", "Access", "App", "Error"]
        {
            assert!(!names.contains(name), "{name}");
        }
        assert!(names.iter().all(|name| !name.ends_with("Request")), "{names:?}");
    }

    #[test]
    fn each_kind_of_event_has_its_payload() {
        let names = names();
        let events = names.iter().filter(|name| name.ends_with("Event") && **name != "ConnectionEvent").count();
        assert!(events >= crate::EventKind::ALL.len(), "{events}");
    }
}
