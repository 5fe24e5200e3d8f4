//! JSON with the reference's names: requests of `zim call`, events and messages.

use zim_protocol::AnyRequest;

use super::{messages, named, protobuf::method_of};

/// Reads a line with the path of a method or the name of a message, then its JSON. The value survives a round trip, as
/// JSON and as bytes.
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
        assert_eq!(again.encode().len(), bytes.len(), "{}: its own bytes decode differently", method.path);
        assert_eq!(again.order(), request.order(), "{}: its own bytes have another order", method.path);
        assert_eq!(
            again.validate().is_ok(),
            request.validate().is_ok(),
            "{}: its own bytes validate differently",
            method.path
        );
    }
}
