//! Connection IDs.
//!
//! After a Retry the client uses a connection ID that the server chose. quinn (0.11) first looks for a connection with
//! that ID, and only then takes the packet for a new client. quinn's own generator has 2^24 IDs, of which every
//! connection holds five. With 5,000 connections, one Retry in 700 therefore hits the ID of a live connection: its
//! packets go to that connection, which cannot decrypt them, and the handshake never completes. With 2^48 IDs and
//! 100,000 connections the chance is one in 500,000,000.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid, RandomConnectionIdGenerator};
use ring::hmac;

const NONCE_BYTES: usize = 6;
/// Enough that of 65,536 packets with random IDs, only one costs a table look-up and a stateless reset.
const TAG_BYTES: usize = 2;

/// Generates random connection IDs with a keyed tag. After a restart the server recognises its own IDs and answers with
/// a stateless reset; it ignores everything else.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionIds {
    nonces: RandomConnectionIdGenerator,
    key: hmac::Key,
}

impl ConnectionIds {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let nonces = RandomConnectionIdGenerator::new(NONCE_BYTES);
        Self { nonces, key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    fn tag(&self, nonce: &[u8]) -> [u8; TAG_BYTES] {
        let hmac = hmac::sign(&self.key, nonce);
        std::array::from_fn(|index| hmac.as_ref().get(index).copied().unwrap_or_default())
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let nonce = self.nonces.generate_cid();
        ConnectionId::new(&[&nonce[..], &self.tag(&nonce)].concat())
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        match cid.split_at_checked(NONCE_BYTES) {
            Some((nonce, tag)) if tag == self.tag(nonce) => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        NONCE_BYTES + TAG_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn many_ids_are_distinct() {
        let mut ids = ConnectionIds::new(&[7; 32]);
        let generated: HashSet<ConnectionId> = (0..50_000).map(|_| ids.generate_cid()).collect();
        // With 2^24 IDs some 75 would be duplicates.
        assert_eq!(generated.len(), 50_000);
        assert!(generated.iter().all(|id| id.len() == ids.cid_len()));
    }

    #[test]
    fn a_server_recognises_only_its_own_ids_after_a_restart() {
        let mut ids = ConnectionIds::new(&[7; 32]);
        let (after, other) = (ids.clone(), ConnectionIds::new(&[8; 32]));
        let generated: Vec<ConnectionId> = (0..100).map(|_| ids.generate_cid()).collect();
        assert!(generated.iter().all(|id| after.validate(id).is_ok()));
        assert!(generated.iter().filter(|id| other.validate(id).is_ok()).count() < 5);
        for wrong in [&[][..], &[1; 6], &[1; 7], &[1; 20]] {
            assert!(ids.validate(&ConnectionId::new(wrong)).is_err());
        }
    }
}
