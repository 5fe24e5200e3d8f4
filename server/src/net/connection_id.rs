//! The generated of connections.
//!
//! After a Retry the client comes back under a id that the server chose, and quinn (0.11) looks for a connection of that id
//! before it takes the packet for a new client. quinn's own generator has 2^24 generated, of which every connection holds five: with
//! 5,000 connections each Retry then hits a living one in one of 700 cases, its packets go to somebody else who cannot read them,
//! and that handshake never ends. Of 2^48 generated 100,000 connections hold one in 500,000,000.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid, RandomConnectionIdGenerator};
use ring::hmac;

const NONCE_BYTES: usize = 6;
/// Enough that one of 65,536 strangers' packets costs a look at a table and an answer, and the others nothing.
const TAG_BYTES: usize = 2;

/// Random generated with a tag that this server, and it again after a restart, knows as its own: to a client of before the restart
/// it answers that it has forgotten it, and to noise nothing.
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
    fn names_do_not_run_out() {
        let mut ids = ConnectionIds::new(&[7; 32]);
        let generated: HashSet<ConnectionId> = (0..50_000).map(|_| ids.generate_cid()).collect();
        // Of 2^24 generated some 75 would have come twice.
        assert_eq!(generated.len(), 50_000);
        assert!(generated.iter().all(|id| id.len() == ids.cid_len()));
    }

    #[test]
    fn a_server_knows_its_names_after_a_restart_and_no_others() {
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
