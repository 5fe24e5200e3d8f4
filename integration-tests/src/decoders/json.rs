//! JSON with the reference's names: what `zim call` takes, and what events and messages look like.

use zim_protocol::AnyRequest;

use super::{messages, named, protobuf::method_of};

/// A line with the path of a method or the name of a message; then its JSON. What is read, written and read again is the
/// same, as JSON and as bytes.
pub fn json(input: &[u8]) {
    let (name, text) = named(input);
    let Ok(text) = str::from_utf8(text) else { return };
    if !name.contains(&b'/') {
        (messages::kind(name).json)(text);
        return;
    }
    let Ok(value) = serde_json::from_str(text) else { return };
    let method = method_of(name);
    if let Ok(request) = AnyRequest::from_json(method, value) {
        let bytes = request.encode();
        let again = AnyRequest::decode(method, bytes.clone().into()).unwrap();
        assert_eq!(again.encode().len(), bytes.len(), "{}: its own bytes say otherwise", method.path);
        assert_eq!(again.order(), request.order(), "{}: its own bytes are ordered otherwise", method.path);
        assert_eq!(again.validate().is_ok(), request.validate().is_ok(), "{}: a limit", method.path);
    }
}
