//! The sync engine of a device, fed with arbitrary pushes and answers of a server.

use std::collections::VecDeque;

use prost::Message;
use zim_client_sdk::engine::{Name, Origin, Position, Request, SyncEngine};
use zim_protocol::{Dirty, FillResult, Page, Push, SyncResult};

/// The most requests of one step: four pulls and a sync, and the repeated requests of a sync that differs.
const MOST_REQUESTS: usize = 16;

/// Reads steps: a byte for the kind, a length of two bytes, and protobuf of that length. The device neither panics nor
/// sends requests without end; its feed position decreases only with a reset; its ranges are disjoint and ordered.
pub fn sync(input: &[u8]) {
    let mut core = SyncEngine::new("ann", Position::default(), []);
    let mut requests = VecDeque::new();
    core.online(&vec![1; 16].into());
    take(&mut core, &mut requests);
    let mut rest = input;
    while let Some(([what, high, low], more)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (bytes, after) = more.split_at(length);
        rest = after;
        let (generation, pos) = (core.generation(), core.position().pos);
        step(&mut core, &mut requests, *what, bytes);
        take(&mut core, &mut requests);
        assert!(core.generation() > generation || core.position().pos >= pos, "the feed position decreases");
        check(&core);
    }
}

fn step(core: &mut SyncEngine, requests: &mut VecDeque<Request>, what: u8, bytes: &[u8]) {
    match what % 10 {
        0 => with(bytes, |push: Push| core.push(push, Origin::Other)),
        1 => with(bytes, |push: Push| core.push(push, Origin::Own)),
        2 => with(bytes, |dirty: Dirty| core.dirtied(&dirty)),
        // An answer to the oldest request, or a failure.
        3..=5 => match requests.pop_front() {
            Some(Request::Sync { ticket, .. }) => match SyncResult::decode(bytes) {
                Ok(result) => core.synced(ticket, result),
                Err(_) => core.sync_failed(ticket),
            },
            Some(Request::Pull { ticket, .. }) => match Page::decode(bytes) {
                Ok(page) => core.page(ticket, page),
                Err(_) => core.pull_failed(ticket),
            },
            None => {}
        },
        6 => with(bytes, |fill: FillResult| {
            let generation = core.generation();
            core.filled(&Name::new(0, "bob"), generation, fill);
        }),
        7 => {
            core.offline();
            requests.clear();
            core.online(&bytes.to_vec().into());
        }
        8 => {
            let position = core.position().clone();
            let states: Vec<_> = core.states().map(|(name, state)| (name.clone(), state.clone())).collect();
            core.restore(position, states);
            requests.clear();
        }
        _ => core.audit(),
    }
}

fn with<T: Message + Default>(bytes: &[u8], apply: impl FnOnce(T)) {
    if let Ok(message) = T::decode(bytes) {
        apply(message);
    }
}

fn take(core: &mut SyncEngine, requests: &mut VecDeque<Request>) {
    let output = core.take();
    assert!(output.requests.len() <= MOST_REQUESTS, "{} requests at once", output.requests.len());
    requests.extend(output.requests);
}

fn check(core: &SyncEngine) {
    let sums = core.sums();
    assert!(usize::try_from(sums.count).unwrap() <= core.states().count());
    for (_, state) in core.states() {
        let held: Vec<_> = state.held.iter().collect();
        assert!(held.iter().all(|(lo, hi)| lo <= hi), "{held:?}");
        assert!(held.windows(2).all(|pair| pair[0].1.saturating_add(1) < pair[1].0), "{held:?}");
        // It is computed, never decremented, so it cannot wrap.
        assert!(state.tally.unread() <= state.tally.n);
    }
}
