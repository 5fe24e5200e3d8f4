//! The plan of a long run: thousands of messages in pairs and in groups of many users, with faults all along.

use super::action::Action;
use super::kind::Kind;
use super::plan::{Database, Fault, Step, TEAM, pick};
use crate::random::Random;

/// The users, each of whom writes to all others.
pub(super) static USERS: [&str; 20] = [
    "ada", "ben", "cleo", "dan", "eve", "finn", "gina", "hugo", "ida", "jon", "kim", "leo", "mia", "nils", "olga",
    "pia", "quinn", "rosa", "sven", "tess",
];
/// The users of the devices: each has one, and the first ten have another.
pub(super) static DEVICES: [&str; 30] = {
    let mut all = [""; 30];
    let mut at = 0;
    while at < all.len() {
        all[at] = USERS[at % USERS.len()];
        at += 1;
    }
    all
};
/// The most messages that a device sends at once.
const BURST: u64 = 12;
/// The most rounds for which a fault lasts.
const LONGEST: usize = 4;
/// After so many rounds, the devices wait for their answers.
const ROUNDS: usize = 20;

/// The groups with their members. The first one is the owner. Nobody leaves.
pub(super) fn groups() -> [(&'static str, &'static [&'static str]); 3] {
    [("team1", &USERS[..8]), ("team2", &USERS[6..16]), ("team3", &USERS[12..])]
}

/// Derives the kinds of faults and the steps from a seed.
pub(super) fn steps(seed: u64, database: Database, messages: usize) -> (Vec<Kind>, Vec<Step>) {
    let mut planner = Planner {
        random: Random::new(seed ^ 0x10_6e57),
        database,
        steps: Vec::new(),
        kinds: Vec::new(),
        closed: vec![false; DEVICES.len()],
        ends: Vec::new(),
        round: 0,
        sent: 0,
    };
    while planner.sent < messages {
        planner.plan_round();
    }
    planner.kinds.sort();
    planner.kinds.dedup();
    (planner.kinds, planner.steps)
}

struct Planner {
    random: Random,
    database: Database,
    steps: Vec<Step>,
    kinds: Vec<Kind>,
    /// The devices that are closed.
    closed: Vec<bool>,
    /// The ends of faults, with their rounds.
    ends: Vec<(usize, Fault)>,
    round: usize,
    sent: usize,
}

impl Planner {
    fn plan_round(&mut self) {
        self.round += 1;
        let round = self.round;
        let due: Vec<Fault> = self.ends.extract_if(.., |(at, _)| *at <= round).map(|(_, end)| end).collect();
        for end in due {
            if let Fault::OpenDevice(device) = end {
                self.closed[device] = false;
            }
            self.steps.push(Step::Fault(end));
        }
        let before = self.steps.len();
        for _ in 0..=self.random.below(5) {
            let device = self.below(DEVICES.len());
            if self.closed[device] {
                continue;
            }
            for _ in 0..=self.random.below(BURST) {
                let peer = self.peer(DEVICES[device]);
                self.steps.push(Step::Action(device, Action::Send { peer, is_poison: false }));
            }
        }
        let count = self.steps.len() - before;
        self.sent += count;
        if self.random.chance(500) {
            // While some of these messages are in flight.
            let at = before + self.below(count + 1);
            self.begin_a_fault(at);
        }
        let (answers, at_most_ms) = (self.below(count + 1), 50 + self.random.below(250));
        self.steps.push(Step::Wait { answers, at_most_ms });
        if round.is_multiple_of(ROUNDS) {
            self.steps.push(Step::Wait { answers: usize::MAX, at_most_ms: 5_000 });
        }
    }

    fn below(&mut self, end: usize) -> usize {
        pick(&mut self.random, end)
    }

    /// Chooses to whom a user writes: in two of five cases to a group.
    fn peer(&mut self, user: &str) -> &'static str {
        let own: Vec<&str> =
            groups().into_iter().filter(|(_, members)| members.contains(&user)).map(|(group, _)| group).collect();
        if self.random.chance(400) {
            return own[self.below(own.len())];
        }
        let others: Vec<&str> = USERS.into_iter().filter(|other| *other != user).collect();
        others[self.below(others.len())]
    }

    /// Inserts a fault, which ends some rounds later.
    fn begin_a_fault(&mut self, at: usize) {
        let device = self.below(DEVICES.len());
        let (kind, fault, end) = match self.random.below(8) {
            0 => (Kind::Cut, Fault::Cut(device), Some(Fault::Reconnect(device))),
            1 => (Kind::BadNetwork, Fault::BadNetwork(device), Some(Fault::GoodNetwork(device))),
            2 => (Kind::NewAddress, Fault::NewAddress(device), None),
            3 | 4 if self.closed[device] => return,
            3 => (Kind::KillDevice, Fault::KillDevice(device), Some(Fault::OpenDevice(device))),
            4 => (Kind::CloseDevice, Fault::CloseDevice(device), Some(Fault::OpenDevice(device))),
            // The server has one fault at a time.
            _ if self.ends.iter().any(|(_, end)| is_of_server(end)) => return,
            _ => self.fault_of_server(),
        };
        if matches!(end, Some(Fault::OpenDevice(_))) {
            self.closed[device] = true;
        }
        self.kinds.push(kind);
        self.steps.insert(at, Step::Fault(fault));
        let until = self.round + 1 + self.below(LONGEST);
        self.ends.extend(end.map(|end| (until, end)));
    }

    fn fault_of_server(&mut self) -> (Kind, Fault, Option<Fault>) {
        match (self.random.below(4), self.database) {
            (0, Database::Sqlite) => {
                let fault = Fault::DiskFull { pages: self.random.below(6) };
                (Kind::DiskFull, fault, Some(Fault::DiskFreed))
            }
            (1, Database::Sqlite) => {
                let fault = Fault::WriteFails { bytes: self.random.below(60_000) };
                (Kind::WriteFails, fault, Some(Fault::WriteWorks))
            }
            (0 | 1, Database::Postgres) => (Kind::KillPostgres, Fault::KillPostgres, Some(Fault::StartPostgres)),
            (2, _) => (Kind::StopServer, Fault::StopServer, Some(Fault::StartServer)),
            _ => (Kind::KillServer, Fault::KillServer, Some(Fault::StartServer)),
        }
    }
}

/// Whether a fault of the server ends so.
fn is_of_server(end: &Fault) -> bool {
    matches!(end, Fault::StartServer | Fault::StartPostgres | Fault::DiskFreed | Fault::WriteWorks)
}

/// Whether a user or a group of a long run is called so.
pub(super) fn is_group(peer: &str) -> bool {
    peer.starts_with(TEAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send(step: &Step) -> bool {
        matches!(step, Step::Action(_, Action::Send { .. }))
    }

    #[test]
    fn a_seed_gives_one_plan_with_all_messages_and_faults_all_along() {
        for database in [Database::Sqlite, Database::Postgres] {
            let (kinds, all) = steps(7, database, 10_000);
            assert_eq!(steps(7, database, 10_000), (kinds.clone(), all.clone()));
            assert_ne!(steps(8, database, 10_000).1, all);
            let sent = all.iter().filter(|step| is_send(step)).count();
            assert!((10_000..10_100).contains(&sent), "{sent}");
            // No tenth of the run is without faults.
            for part in all.chunks(all.len() / 10 + 1) {
                let faults = part.iter().filter(|step| matches!(step, Step::Fault(_))).count();
                assert!(faults > 10, "{faults}");
            }
            assert!(kinds.len() >= 8, "{kinds:?}");
            assert!(kinds.iter().all(|kind| kind.is_possible(database)), "{kinds:?}");
        }
    }

    #[test]
    fn a_closed_device_does_nothing_until_it_is_opened() {
        let (_, all) = steps(3, Database::Sqlite, 5_000);
        let mut closed = [false; DEVICES.len()];
        let mut was_closed = 0;
        for (at, step) in all.iter().enumerate() {
            match step {
                Step::Fault(Fault::KillDevice(device) | Fault::CloseDevice(device)) => {
                    assert!(!closed[*device], "step {at}");
                    closed[*device] = true;
                    was_closed += 1;
                }
                Step::Fault(Fault::OpenDevice(device)) => closed[*device] = false,
                _ => {}
            }
        }
        assert!(was_closed > 10);
    }

    #[test]
    fn users_write_to_all_others_and_to_their_groups_only() {
        let (_, all) = steps(1, Database::Sqlite, 10_000);
        let mut pairs = std::collections::BTreeSet::new();
        for step in &all {
            let Step::Action(device, Action::Send { peer, .. }) = step else { continue };
            assert_ne!(DEVICES[*device], *peer);
            if is_group(peer) {
                let (_, members) = groups().into_iter().find(|(group, _)| group == peer).unwrap();
                assert!(members.contains(&DEVICES[*device]), "{} writes to {peer}", DEVICES[*device]);
            }
            pairs.insert((DEVICES[*device], *peer));
        }
        // 20 users with 19 others, and 26 memberships.
        assert_eq!(pairs.len(), 20 * 19 + 26);
        assert!(USERS.iter().all(|user| !is_group(user)));
    }
}
