//! Connection IDs.
//!
//! After a Retry the client uses a connection ID that the server chose. quinn (0.11) first looks for a connection with
//! that ID, and only then takes the packet for a new client. quinn's own generator has 2^24 IDs, of which every
//! connection holds five. With 5,000 connections, one Retry in 700 therefore hits the ID of a live connection: its
//! packets go to that connection, which cannot decrypt them, and the handshake never completes. With 2^48 IDs and
//! 100,000 connections the chance is one in 500,000,000.
//!
//! The IDs of a server that shares its database with others carry the number of the node, so that a load balancer can send
//! the packets of a client to the same node after the client's address has changed. They have the format for routing in
//! plaintext of draft-ietf-quic-load-balancers:
//!
//! | octets | content |
//! |---|---|
//! | 1 | three bits: the configuration, 0; five bits: how many octets follow, 9 |
//! | 1 | the server ID: the number of the node |
//! | 8 | the nonce of the draft: 6 random octets and our tag |

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid, RandomConnectionIdGenerator};
use ring::hmac;

const NONCE_BYTES: usize = 6;
/// Enough that of 65,536 packets with random IDs, only one costs a table look-up and a stateless reset.
const TAG_BYTES: usize = 2;
/// The octets in front of the nonce that a load balancer reads.
const ROUTE_BYTES: usize = 2;
/// The first octet: configuration 0, and how many octets follow.
const ROUTABLE: u8 = 9;
/// The first octet of an ID that carries no node: the draft reserves the configuration 7 for those.
const UNROUTABLE: u8 = (7 << 5) | ROUTABLE;

/// The number of this node. The endpoint is there before the server takes a number. A server takes one number in its life: if it
/// loses the lease, it ends its connections and exits.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeNumber(Arc<OnceLock<Held>>);

/// A number that was taken.
struct Held {
    number: u8,
    /// Whether another node holds a number now.
    is_of_another: Box<dyn Fn(u8) -> bool + Send + Sync>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("number", &self.number).finish_non_exhaustive()
    }
}

impl NodeNumber {
    /// Notes the number that the server has taken, and how to learn which numbers other nodes hold.
    pub(crate) fn set(&self, number: u8, is_of_another: impl Fn(u8) -> bool + Send + Sync + 'static) {
        // Taken once.
        let _ = self.0.set(Held { number, is_of_another: Box::new(is_of_another) });
    }

    /// Whether another node may have a connection with an ID that begins like this.
    fn may_be_elsewhere(&self, id: &[u8]) -> bool {
        let [ROUTABLE, number, ..] = id else { return false };
        self.0.get().is_none_or(|held| (held.is_of_another)(*number))
    }

    /// The octets that a load balancer reads. Before the server has its number, it accepts no connection, so that no client uses
    /// an ID without it.
    fn route(&self) -> [u8; ROUTE_BYTES] {
        self.0.get().map_or([UNROUTABLE, 0], |held| [ROUTABLE, held.number])
    }
}

/// Generates random connection IDs with a keyed tag. After a restart the server recognises its own IDs and answers with
/// a stateless reset; it ignores everything else. The nodes of a deployment have the same key, so a node also recognises the IDs
/// of one that has ended: its clients learn at once that they must connect again. It does not answer for a node that runs. Whoever
/// sees the packets of a client could otherwise send one of them to another node, and the answer would have the secret token that
/// ends the connection (RFC 9000, section 21.11).
#[derive(Clone, Debug)]
pub(crate) struct ConnectionIds {
    nonces: RandomConnectionIdGenerator,
    key: hmac::Key,
    /// The node whose number the IDs carry. All IDs of an endpoint have one length, because packets do not say it.
    node: Option<NodeNumber>,
}

impl ConnectionIds {
    pub(crate) fn new(key: &[u8; 32], node: Option<NodeNumber>) -> Self {
        let nonces = RandomConnectionIdGenerator::new(NONCE_BYTES);
        Self { nonces, key: hmac::Key::new(hmac::HMAC_SHA256, key), node }
    }

    fn tag(&self, before: &[u8]) -> [u8; TAG_BYTES] {
        let hmac = hmac::sign(&self.key, before);
        std::array::from_fn(|index| hmac.as_ref().get(index).copied().unwrap_or_default())
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = self.node.as_ref().map_or_else(Vec::new, |node| node.route().to_vec());
        id.extend_from_slice(&self.nonces.generate_cid());
        let tag = self.tag(&id);
        id.extend_from_slice(&tag);
        ConnectionId::new(&id)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        match cid.split_last_chunk::<TAG_BYTES>() {
            Some((before, tag)) if cid.len() == self.cid_len() && *tag == self.tag(before) => {
                let is_elsewhere = self.node.as_ref().is_some_and(|node| node.may_be_elsewhere(before));
                if is_elsewhere { Err(InvalidCid) } else { Ok(()) }
            }
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        let route = if self.node.is_some() { ROUTE_BYTES } else { 0 };
        route + NONCE_BYTES + TAG_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn node(number: u8) -> Option<NodeNumber> {
        let node = NodeNumber::default();
        node.set(number, |_| false);
        Some(node)
    }

    /// What a load balancer finds in an ID: the server ID, one octet long, of configuration 0.
    fn server_id(id: &[u8]) -> Option<u8> {
        let (first, rest) = id.split_first()?;
        assert_eq!(usize::from(first & 0b0001_1111), rest.len(), "the length that the first octet says");
        (first >> 5 == 0).then(|| rest[0])
    }

    #[test]
    fn many_ids_are_distinct() {
        for node in [None, node(0), node(63)] {
            let mut ids = ConnectionIds::new(&KEY, node);
            let generated: HashSet<ConnectionId> = (0..50_000).map(|_| ids.generate_cid()).collect();
            // With 2^24 IDs some 75 would be duplicates.
            assert_eq!(generated.len(), 50_000);
            assert!(generated.iter().all(|id| id.len() == ids.cid_len()));
        }
    }

    #[test]
    fn a_server_recognises_only_its_own_ids_after_a_restart() {
        for node in [None, node(5)] {
            let mut ids = ConnectionIds::new(&KEY, node.clone());
            let (after, other) = (ids.clone(), ConnectionIds::new(&[8; 32], node));
            let generated: Vec<ConnectionId> = (0..100).map(|_| ids.generate_cid()).collect();
            assert!(generated.iter().all(|id| after.validate(id).is_ok()));
            assert!(generated.iter().filter(|id| other.validate(id).is_ok()).count() < 5);
            for wrong in [&[][..], &[1; 6], &[1; 7], &[1; 20], &generated[0][1..]] {
                assert!(ids.validate(&ConnectionId::new(wrong)).is_err());
            }
        }
    }

    #[test]
    fn the_ids_of_a_node_carry_its_number() {
        for number in 0..64 {
            let mut ids = ConnectionIds::new(&KEY, node(number));
            for _ in 0..10 {
                let id = ids.generate_cid();
                assert_eq!((id.len(), server_id(&id)), (10, Some(number)));
            }
        }
        assert_eq!(ConnectionIds::new(&KEY, None).cid_len(), 8);
    }

    #[test]
    fn an_id_that_says_another_node_is_not_recognised() {
        let mut ids = ConnectionIds::new(&KEY, node(3));
        let changed = (0..100).map(|_| {
            let mut bytes = ids.generate_cid().to_vec();
            bytes[1] = 4;
            ConnectionId::new(&bytes)
        });
        let changed: Vec<ConnectionId> = changed.collect();
        assert!(changed.iter().filter(|id| ids.validate(id).is_ok()).count() < 5);
    }

    #[test]
    fn a_node_recognises_the_ids_of_one_that_has_ended_and_not_those_of_one_that_runs() {
        let number = NodeNumber::default();
        let here = ConnectionIds::new(&KEY, Some(number.clone()));
        let ids = |number| (0..100).map(|_| ConnectionIds::new(&KEY, node(number)).generate_cid()).collect::<Vec<_>>();
        let (own, of_running, of_ended) = (ids(2), ids(1), ids(3));
        // It does not know yet who else runs.
        assert!(of_ended.iter().all(|id| here.validate(id).is_err()));
        number.set(2, |other| other == 1);
        assert!(own.iter().all(|id| here.validate(id).is_ok()));
        assert!(of_ended.iter().all(|id| here.validate(id).is_ok()));
        assert!(of_running.iter().all(|id| here.validate(id).is_err()));
    }

    #[test]
    fn before_a_node_has_its_number_its_ids_are_unroutable_and_of_the_same_length() {
        let number = NodeNumber::default();
        // quinn makes the generator when the endpoint is bound.
        let mut ids = ConnectionIds::new(&KEY, Some(number.clone()));
        let (early, length) = (ids.generate_cid(), ids.cid_len());
        assert_eq!((server_id(&early), early.len(), early[0] >> 5), (None, length, 7));
        number.set(9, |_| false);
        number.set(10, |_| false);
        let id = ids.generate_cid();
        assert_eq!((server_id(&id), id.len()), (Some(9), length));
        assert!(ids.validate(&early).is_ok());
    }
}
