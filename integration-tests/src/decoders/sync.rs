//! What a device believes of a server that tells it anything: the sync core, fed with pushes and answers that fit nothing.

use std::collections::VecDeque;

use prost::Message;
use zim_client_sdk::sync::{Name, Origin, Position, Request, SyncEngine};
use zim_protocol::{Dirty, FillResult, Page, Push, SyncResult};

/// What is asked for in one step at most: four pulls and a sync, and what a sync that differs asks again.
const MOST_REQUESTS: usize = 16;

/// Steps: a byte that says what comes, a length of two bytes, and so much protobuf. The device neither panics nor asks
/// without end; what it has seen of the feed never goes back but by a reset; what it holds is a set of positions.
pub fn sync(input: &[u8]) {
    let mut core = SyncEngine::new("ann", Position::default(), []);
    let mut asked = VecDeque::new();
    core.online(&vec![1; 16].into());
    take(&mut core, &mut asked);
    let mut rest = input;
    while let Some(([what, high, low], more)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (bytes, after) = more.split_at(length);
        rest = after;
        let (generation, pos) = (core.generation(), core.position().pos);
        step(&mut core, &mut asked, *what, bytes);
        take(&mut core, &mut asked);
        assert!(core.generation() > generation || core.position().pos >= pos, "the feed goes back");
        check(&core);
    }
}

fn step(core: &mut SyncEngine, asked: &mut VecDeque<Request>, what: u8, bytes: &[u8]) {
    match what % 10 {
        0 => with(bytes, |push: Push| core.push(push, Origin::Other)),
        1 => with(bytes, |push: Push| core.push(push, Origin::Own)),
        2 => with(bytes, |dirty: Dirty| core.dirtied(&dirty)),
        // The answer to the oldest question, or no answer.
        3..=5 => match asked.pop_front() {
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
            asked.clear();
            core.online(&bytes.to_vec().into());
        }
        8 => {
            let position = core.position().clone();
            let states: Vec<_> = core.states().map(|(name, state)| (name.clone(), state.clone())).collect();
            core.restore(position, states);
            asked.clear();
        }
        _ => core.audit(),
    }
}

fn with<T: Message + Default>(bytes: &[u8], apply: impl FnOnce(T)) {
    if let Ok(message) = T::decode(bytes) {
        apply(message);
    }
}

fn take(core: &mut SyncEngine, asked: &mut VecDeque<Request>) {
    let output = core.take();
    assert!(output.requests.len() <= MOST_REQUESTS, "{} questions at once", output.requests.len());
    asked.extend(output.requests);
}

fn check(core: &SyncEngine) {
    let sums = core.sums();
    assert!(usize::try_from(sums.count).unwrap() <= core.states().count());
    for (_, state) in core.states() {
        let held: Vec<_> = state.held.iter().collect();
        assert!(held.iter().all(|(lo, hi)| lo <= hi), "{held:?}");
        assert!(held.windows(2).all(|pair| pair[0].1.saturating_add(1) < pair[1].0), "{held:?}");
        // Computed, never counted: it cannot wrap.
        assert!(state.tally.unread() <= state.tally.n);
    }
}
