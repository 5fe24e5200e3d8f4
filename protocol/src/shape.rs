//! An empty message takes two bytes on the wire and up to a kilobyte in memory. Without a bound, a frame of 1 MB would
//! become half a gigabyte before any limit is checked.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The maximum number of messages inside a request, at all depths together.
pub const MAX_PARTS: usize = 8_192;
/// The depth at which prost stops decoding.
const MAX_DEPTH: usize = 100;

/// The fields of a message that hold messages, with the shapes of those.
#[derive(Clone, Copy)]
pub(crate) struct Shape(&'static [(u32, &'static Self)]);

impl Shape {
    /// Whether the bytes contain at most [`MAX_PARTS`] messages. Where they are not protobuf the count ends, as decoding
    /// does.
    pub(crate) fn is_bounded(&self, bytes: &[u8]) -> bool {
        let mut left = MAX_PARTS + 1;
        self.count(bytes, MAX_DEPTH, &mut left);
        left > 0
    }

    /// Subtracts the number of messages inside from `left`, and ends when it is 0.
    fn count(&self, mut bytes: &[u8], depth: usize, left: &mut usize) {
        if self.0.is_empty() || depth == 0 {
            return;
        }
        while !bytes.is_empty() && *left > 0 {
            let Ok((number, wire_type)) = decode_key(&mut bytes) else { return };
            let inner = self.0.iter().find(|(field, _)| *field == number).map(|(_, shape)| shape);
            let Some(inner) = inner.filter(|_| wire_type == WireType::LengthDelimited) else {
                if skip_field(wire_type, number, &mut bytes, DecodeContext::default()).is_err() {
                    return;
                }
                continue;
            };
            let length = decode_varint(&mut bytes).ok().and_then(|length| usize::try_from(length).ok());
            let Some((part, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else { return };
            *left -= 1;
            inner.count(part, depth - 1, left);
            bytes = rest;
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));
