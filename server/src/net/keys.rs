//! Transport keys that stay the same after a restart, derived from one seed in the data folder. With the session ticket
//! keys a deploy does not cause full handshakes by all clients. With the stateless reset key a client learns at once
//! that the server has lost its connection.

use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use rustls::server::ProducesTickets;
use zim_protocol::clock::Clock;

use super::connection_id::{ConnectionIds, NodeNumber};

fn derive(seed: &[u8; 32], label: &str, number: i64) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
    let mut context = hmac::Context::with_key(&key);
    context.update(label.as_bytes());
    context.update(&number.to_be_bytes());
    let mut derived = [0; 32];
    derived.copy_from_slice(context.sign().as_ref());
    derived
}

/// The endpoint's settings with keys that stay the same after a restart. With `node`, connection IDs carry its number.
pub(crate) fn endpoint_config(seed: &[u8; 32], node: Option<NodeNumber>) -> quinn::EndpointConfig {
    let reset = hmac::Key::new(hmac::HMAC_SHA256, &derive(seed, "stateless reset", 0));
    let mut config = quinn::EndpointConfig::new(Arc::new(reset));
    let ids = ConnectionIds::new(&derive(seed, "connection id", 0), node);
    config.cid_generator(move || Box::new(ids.clone()));
    config
}

/// How long a key seals tickets. It opens tickets for one more period, so no ticket is valid for longer than a day.
const ROTATION_S: i64 = 12 * 3_600;

/// Session tickets, sealed with AES-256-GCM. The key changes every half day.
pub struct Tickets {
    seed: [u8; 32],
    clock: Clock,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    /// Creates tickets that every server with the same seed accepts.
    pub fn new(seed: [u8; 32], clock: Clock) -> Self {
        Self { seed, clock }
    }

    fn period(&self) -> i64 {
        self.clock.now_s().div_euclid(ROTATION_S)
    }

    fn key(&self, period: i64) -> Option<LessSafeKey> {
        let key = derive(&self.seed, "session ticket", period);
        UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // Shorter than the time for which a key opens tickets.
        u32::try_from(ROTATION_S).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        self.key(self.period())?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        let now = self.period();
        [now, now - 1].into_iter().find_map(|period| {
            let mut bytes = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = self.key(period)?.open_in_place(nonce, Aad::empty(), &mut bytes).ok()?;
            Some(plain.to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_valid_after_a_restart_but_not_after_a_day() {
        let clock = Clock::manual(1_700_000_000_000);
        let ticket = Tickets::new([7; 32], clock.clone()).encrypt(b"session").unwrap();
        let after = Tickets::new([7; 32], clock.clone());
        assert_eq!(after.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        clock.advance(ROTATION_S * 1_000);
        assert!(after.decrypt(&ticket).is_some());
        clock.advance(ROTATION_S * 1_000);
        assert!(after.decrypt(&ticket).is_none());
    }

    #[test]
    fn a_ticket_of_another_seed_or_a_modified_one_is_refused() {
        let clock = Clock::manual(1_700_000_000_000);
        let tickets = Tickets::new([7; 32], clock.clone());
        let ticket = tickets.encrypt(b"session").unwrap();
        assert!(Tickets::new([8; 32], clock).decrypt(&ticket).is_none());
        for index in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[index] ^= 1;
            assert!(tickets.decrypt(&changed).is_none());
        }
        assert!(tickets.decrypt(&[]).is_none());
        assert!(!format!("{tickets:?}").contains('7'));
    }
}
