//! A model of the sync protocol: the SDK's sync engine against the server's rules, with a network that loses, duplicates
//! and reorders, two nodes, three devices, members who join, leave, are removed and rejoin, targeted messages, revocations, whatever
//! else changes a message (edits, reactions, pins and replies are all entries of one log, with the message as it is now), deletions,
//! of one message, of a conversation and of all conversations, receipts for a message and for a conversation, retention, dismissal, and
//! a restored backup. After each round everything is delivered, and then the state of the devices must match the server.
//!
//! A seed repeats a simulation: `ZIM_MODEL_SEED=17 cargo nextest run -p zim-integration-tests --test model`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a simulation has a thousand positions")]

mod device;
mod server;
mod simulation;

use self::simulation::Simulation;

/// Steps of a simulation.
const STEPS: usize = 1_000;
/// Simulations, together a million steps.
const SIMULATIONS: u64 = 1_000;

/// A SplitMix64 generator, the same on every platform.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }
}

#[test]
fn devices_match_the_server_after_a_million_steps() {
    let only: Option<u64> = std::env::var("ZIM_MODEL_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let count = std::env::var("ZIM_MODEL_GAMES").ok().map_or(SIMULATIONS, |count| count.parse().expect("a number"));
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let outcome = std::panic::catch_unwind(|| Simulation::new(seed).run(STEPS));
        if let Err(panic) = outcome {
            eprintln!("the simulation with seed {seed} failed; ZIM_MODEL_SEED={seed} repeats it");
            std::panic::resume_unwind(panic);
        }
    }
}
