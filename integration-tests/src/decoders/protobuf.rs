//! Protobuf: requests as the server reads them, answers and other messages as a client does.

use prost_reflect::DynamicMessage;
use zim_protocol::{AnyRequest, METHODS, Method, method, response_to_json};

use super::{any_of, limits, messages, named};

/// Reads a line with the path of a method, `answer` and such a path, or the name of a message, then its bytes. The
/// value survives a round trip, as bytes and as JSON, and a request is refused exactly when it breaks a limit.
pub fn protobuf(input: &[u8]) {
    let (name, bytes) = named(input);
    if let Some(path) = name.strip_prefix(b"answer ") {
        let _ = response_to_json(method_of(path), bytes);
    } else if name.contains(&b'/') {
        request(method_of(name), bytes);
    } else {
        (messages::kind(name).bytes)(bytes);
    }
}

/// Returns the method with this path; any other path maps to one of them.
pub(super) fn method_of(path: &[u8]) -> &'static Method {
    let named = str::from_utf8(path).ok().and_then(method);
    named.unwrap_or_else(|| &METHODS[any_of(path, METHODS.len())])
}

fn request(method: &'static Method, bytes: &[u8]) {
    let Ok(request) = AnyRequest::decode(method, bytes.to_vec().into()) else { return };
    let written = request.encode();
    let again = AnyRequest::decode(method, written.clone().into()).unwrap();
    assert_eq!(again.order(), request.order(), "{}: its own bytes have another order", method.path);
    let reflected = DynamicMessage::decode(limits::descriptor(method.request), written.as_slice()).unwrap();
    let read_again = DynamicMessage::decode(limits::descriptor(method.request), again.encode().as_slice()).unwrap();
    assert_eq!(reflected, read_again, "{}: its own bytes decode differently", method.path);
    match request.validate() {
        Ok(()) => assert!(limits::are_kept(&reflected), "{} breaks a limit: {reflected:?}", method.path),
        Err(violation) => {
            assert!(!violation.field.is_empty() && !violation.problem.is_empty());
            assert!(!limits::are_kept(&reflected), "{} keeps its limits: {violation}", method.path);
        }
    }
}
