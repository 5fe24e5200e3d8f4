//! How many messages are inside of a request, counted before it is decoded. An empty message takes two bytes on the wire and
//! up to a kilobyte in memory: without a bound, a frame of 1 MB would become half a gigabyte before any limit is looked at.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// No request has more messages inside of it, at any depth.
pub const MAX_PARTS: usize = 8_192;
/// prost enters no deeper.
const MAX_DEPTH: usize = 100;

/// Which fields of a message hold messages, and their shapes.
#[derive(Clone, Copy)]
pub(crate) struct Shape(&'static [(u32, &'static Self)]);

impl Shape {
    /// Whether there are no more than [`MAX_PARTS`]. Where the bytes are no protobuf the count ends, as decoding them does.
    pub(crate) fn is_bounded(&self, bytes: &[u8]) -> bool {
        let mut left = MAX_PARTS + 1;
        self.count(bytes, MAX_DEPTH, &mut left);
        left > 0
    }

    /// Takes what is inside from `left`; ends when nothing is left.
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
