//! What will happen in a run: everything that is decided, from the seed alone and before it begins.

use std::fmt;

use crate::random::Random;

/// Those who talk, each with everybody.
pub(super) const USERS: [&str; 4] = ["ann", "bob", "carl", "dora"];
/// Their devices.
pub(super) const DEVICES: [&str; 6] = ["ann", "ann", "bob", "bob", "carl", "dora"];
/// The device that is away for long.
const AWAY: usize = 3;
/// A message that says this cannot be stored.
pub(super) const POISON: &str = "poison";

/// Which database the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

/// What somebody does. A new noun begins here: what is done, in `Deed`; how, in `bin/test-client.rs`; how often, in
/// `Planner::deed`; what must have come of it, in `checks.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A text to a user.
    Send {
        /// Whom.
        peer: &'static str,
        /// It cannot be stored.
        is_poison: bool,
    },
    /// Reads the conversation with a user.
    Clear {
        /// With whom.
        peer: &'static str,
    },
    /// Takes another name.
    Rename,
    /// Takes another avatar.
    Avatar,
    /// Says something else of himself.
    CustomStatus,
    /// Something between two people.
    Social {
        /// With whom.
        peer: &'static str,
        /// What.
        action: SocialAction,
    },
}

/// What somebody does about somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum SocialAction {
    AddFriend,
    Apply,
    Accept,
    Reject,
    /// Only the one list, or both.
    DeleteFriend {
        is_mutual: bool,
    },
    /// Calls a friend by another name.
    Alias,
    Block,
    Unblock,
    /// Hears of the other's status, until he unfollows.
    Subscribe,
    Unsubscribe,
}

impl SocialAction {
    /// Each as often as it is wished for: few who are blocked stay so for long.
    const ALL: [Self; 18] = [
        Self::AddFriend,
        Self::Apply,
        Self::Apply,
        Self::Apply,
        Self::Accept,
        Self::Accept,
        Self::Reject,
        Self::DeleteFriend { is_mutual: true },
        Self::DeleteFriend { is_mutual: false },
        Self::Alias,
        Self::Alias,
        Self::Block,
        Self::Unblock,
        Self::Unblock,
        Self::Subscribe,
        Self::Subscribe,
        Self::Subscribe,
        Self::Unsubscribe,
    ];
}

/// What goes wrong; numbers of devices are places in `DEVICES`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Fault {
    Cut(usize),
    Reconnect(usize),
    BadNetwork(usize),
    GoodNetwork(usize),
    NewAddress(usize),
    KillServer,
    StopServer,
    StartServer,
    KillDevice(usize),
    CloseDevice(usize),
    OpenDevice(usize),
    DiskFull {
        pages: u64,
    },
    DiskFreed,
    WriteFails {
        bytes: u64,
    },
    WriteWorks,
    JumpServer {
        ms: i64,
    },
    JumpDevice {
        device: usize,
        ms: i64,
    },
    KillPostgres,
    StartPostgres,
    Backup,
    Restore,
    /// Everything is read, and what is read is no longer kept.
    Retain,
}

/// A kind of fault, as the table at the end counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "`title` says what each is")]
pub enum Kind {
    Cut,
    BadNetwork,
    NewAddress,
    KillServer,
    StopServer,
    KillDevice,
    CloseDevice,
    DiskFull,
    WriteFails,
    Poison,
    LastPush,
    JumpServer,
    JumpDevice,
    KillPostgres,
    Restore,
    Away,
    Reset,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Cut,
        Self::BadNetwork,
        Self::NewAddress,
        Self::KillServer,
        Self::StopServer,
        Self::KillDevice,
        Self::CloseDevice,
        Self::DiskFull,
        Self::WriteFails,
        Self::Poison,
        Self::LastPush,
        Self::JumpServer,
        Self::JumpDevice,
        Self::KillPostgres,
        Self::Restore,
        Self::Away,
        Self::Reset,
    ];

    /// What it is, in a few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cut => "a device's link is cut, and restored later",
            Self::BadNetwork => "a device's datagrams are lost, doubled, delayed and reordered",
            Self::NewAddress => "a device turns up under another address",
            Self::KillServer => "SIGKILL to the server, in the middle of commits",
            Self::StopServer => "the server stops as an operator stops it",
            Self::KillDevice => "SIGKILL to a client, in the middle of sending",
            Self::CloseDevice => "a client ends, and its database is opened again",
            Self::DiskFull => "the database has no room left (SQLITE_FULL)",
            Self::WriteFails => "writes to the database's files fail in the middle (EFBIG)",
            Self::Poison => "a statement fails in the middle of a batch",
            Self::LastPush => "the last push of a conversation is dropped, and nothing follows",
            Self::JumpServer => "the server's clock jumps",
            Self::JumpDevice => "a device's clock jumps",
            Self::KillPostgres => "SIGKILL to PostgreSQL",
            Self::Restore => "a backup is restored: another epoch",
            Self::Away => "a device is away for the rest of the run",
            Self::Reset => "a device is away until what it lacks is no longer kept: reset",
        }
    }

    /// Whether a server with this database can meet it.
    const fn is_possible(self, database: Database) -> bool {
        match self {
            Self::DiskFull | Self::WriteFails => matches!(database, Database::Sqlite),
            Self::KillPostgres => matches!(database, Database::Postgres),
            _ => true,
        }
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A device does something, and does not wait for the answer.
    Action(usize, Action),
    /// Something goes wrong, or right again.
    Fault(Fault),
    /// Until so many of the calls so far unanswered are answered, or so many milliseconds have passed.
    Wait {
        /// Answers.
        answers: usize,
        /// Milliseconds.
        at_most_ms: u64,
    },
}

/// A run before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it comes from.
    pub seed: u64,
    /// What the server has.
    pub database: Database,
    /// What goes wrong.
    pub kinds: Vec<Kind>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, database: Database) -> Self {
        let mut random = Random::new(seed);
        let possible: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_possible(database)).collect();
        let mut kinds: Vec<Kind> = (0..=random.below(4)).map(|_| possible[pick(&mut random, possible.len())]).collect();
        // On PostgreSQL that is what is to be shown.
        if database == Database::Postgres && random.chance(500) {
            kinds.push(Kind::KillPostgres);
        }
        kinds.sort();
        kinds.dedup();
        Self::of(seed, database, kinds)
    }

    /// The plan of a seed in which these things go wrong.
    pub fn of(seed: u64, database: Database, kinds: Vec<Kind>) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let count = 12 + pick(&mut random, 10);
        let mut planner =
            Planner { random, rounds: vec![Vec::new(); count], has_poison: kinds.contains(&Kind::Poison) };
        planner.fill();
        for kind in &kinds {
            planner.plan(*kind);
        }
        let mut steps: Vec<Step> = planner.rounds.into_iter().flatten().collect();
        if kinds.contains(&Kind::Reset) {
            steps.push(Step::Fault(Fault::Retain));
        }
        Self { seed, database, kinds, steps }
    }

    /// Whether the plan has this in it.
    pub fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} on {:?}: {:?}", self.seed, self.database, self.kinds)?;
        self.steps.iter().enumerate().try_for_each(|(at, step)| writeln!(f, "{at:4} {step:?}"))
    }
}

fn pick(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap_or(0)
}

struct Planner {
    random: Random,
    rounds: Vec<Vec<Step>>,
    has_poison: bool,
}

impl Planner {
    /// What people do when nothing goes wrong.
    fn fill(&mut self) {
        for round in 0..self.rounds.len() {
            for _ in 0..=self.below(3) {
                let device = self.below(DEVICES.len());
                for _ in 0..=self.below(5) {
                    let action = self.action(device);
                    self.rounds[round].push(Step::Action(device, action));
                }
            }
            let (answers, at_most_ms) = (self.below(8), 20 + self.random.below(120));
            self.rounds[round].push(Step::Wait { answers, at_most_ms });
        }
    }

    /// One thing that somebody does, and how often what.
    fn action(&mut self, device: usize) -> Action {
        let peer = self.peer(device);
        match self.random.below(100) {
            0..66 => Action::Send { peer, is_poison: self.has_poison && self.random.chance(150) },
            66..78 => Action::Clear { peer },
            78..82 => Action::Rename,
            82..84 => Action::Avatar,
            84..87 => Action::CustomStatus,
            _ => self.social(peer),
        }
    }

    fn social(&mut self, peer: &'static str) -> Action {
        Action::Social { peer, action: SocialAction::ALL[self.below(SocialAction::ALL.len())] }
    }

    fn peer(&mut self, device: usize) -> &'static str {
        let others: Vec<&str> = USERS.into_iter().filter(|user| *user != DEVICES[device]).collect();
        others[self.below(others.len())]
    }

    fn below(&mut self, end: usize) -> usize {
        pick(&mut self.random, end)
    }

    fn round(&mut self) -> usize {
        self.below(self.rounds.len())
    }

    /// In a round: before what is done in it, or after.
    fn put(&mut self, round: usize, fault: Fault) {
        let steps = &mut self.rounds[round];
        let at = pick(&mut self.random, steps.len() + 1);
        steps.insert(at, Step::Fault(fault));
    }

    /// From one round to another, which may be the same; what is not mended is mended at the end.
    fn span(&mut self, begin: Fault, end: Option<Fault>, longest: usize) {
        let from = self.round();
        self.put(from, begin);
        if let Some(end) = end {
            let to = from + 1 + self.below(longest);
            if to < self.rounds.len() {
                self.put(to, end);
            }
        }
    }

    /// When many write, and some of them have been answered.
    fn in_the_middle(&mut self, fault: Fault, sender: Option<usize>, end: Option<Fault>) {
        let round = self.round();
        let mut steps = Vec::new();
        let senders = 1 + self.below(3);
        for _ in 0..senders {
            let device = sender.unwrap_or_else(|| pick(&mut self.random, DEVICES.len()));
            for _ in 0..4 + self.below(12) {
                let peer = self.peer(device);
                let is_social = self.random.chance(150);
                let action = if is_social { self.social(peer) } else { Action::Send { peer, is_poison: false } };
                steps.push(Step::Action(device, action));
            }
        }
        let answers = self.below(steps.len());
        steps.push(Step::Wait { answers, at_most_ms: 150 });
        steps.push(Step::Fault(fault));
        if let Some(end) = end {
            match self.below(3) {
                0 => steps.push(Step::Fault(end)),
                later if round + later < self.rounds.len() => self.put(round + later, end),
                _ => {}
            }
        }
        self.rounds[round].extend(steps);
    }

    fn plan(&mut self, kind: Kind) {
        let times = 1 + self.below(2);
        let device = self.below(DEVICES.len());
        let jump = |random: &mut Random| {
            let ms = i64::try_from(random.below(7_200_000)).unwrap_or(0);
            if random.chance(500) { ms } else { -ms }
        };
        match kind {
            Kind::Cut => {
                for _ in 0..times {
                    let device = self.below(DEVICES.len());
                    self.span(Fault::Cut(device), Some(Fault::Reconnect(device)), 5);
                }
            }
            Kind::BadNetwork => {
                for _ in 0..times {
                    let device = self.below(DEVICES.len());
                    self.span(Fault::BadNetwork(device), Some(Fault::GoodNetwork(device)), 8);
                }
            }
            Kind::NewAddress => (0..times).for_each(|_| self.span(Fault::NewAddress(device), None, 1)),
            Kind::KillServer => {
                (0..times).for_each(|_| self.in_the_middle(Fault::KillServer, None, Some(Fault::StartServer)));
            }
            Kind::StopServer => self.in_the_middle(Fault::StopServer, None, Some(Fault::StartServer)),
            Kind::KillDevice => (0..times).for_each(|_| {
                self.in_the_middle(Fault::KillDevice(device), Some(device), Some(Fault::OpenDevice(device)));
            }),
            Kind::CloseDevice => (0..times).for_each(|_| {
                self.in_the_middle(Fault::CloseDevice(device), Some(device), Some(Fault::OpenDevice(device)));
            }),
            Kind::DiskFull => {
                let pages = self.random.below(6);
                self.span(Fault::DiskFull { pages }, Some(Fault::DiskFreed), 4);
            }
            Kind::WriteFails => {
                let bytes = self.random.below(60_000);
                self.span(Fault::WriteFails { bytes }, Some(Fault::WriteWorks), 4);
            }
            // In `deed`, and at the end of the run.
            Kind::Poison | Kind::LastPush => {}
            Kind::JumpServer => (0..times).for_each(|_| {
                let ms = jump(&mut self.random);
                self.span(Fault::JumpServer { ms }, None, 1);
            }),
            Kind::JumpDevice => (0..times).for_each(|_| {
                let ms = jump(&mut self.random);
                self.span(Fault::JumpDevice { device, ms }, None, 1);
            }),
            Kind::KillPostgres => {
                (0..times).for_each(|_| self.in_the_middle(Fault::KillPostgres, None, Some(Fault::StartPostgres)));
            }
            Kind::Restore => {
                let (backup, rounds) = (self.below(self.rounds.len() / 2), self.rounds.len());
                self.put(backup, Fault::Backup);
                let restore = backup + 1 + self.below(rounds - backup - 1);
                self.put(restore, Fault::Restore);
            }
            Kind::Away | Kind::Reset => {
                let early = 1 + self.below(4);
                let is_killed = self.random.chance(500);
                self.put(early, if is_killed { Fault::KillDevice(AWAY) } else { Fault::CloseDevice(AWAY) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        for seed in 0..200 {
            for database in [Database::Sqlite, Database::Postgres] {
                let plan = Plan::new(seed, database);
                assert_eq!(plan.to_string(), Plan::new(seed, database).to_string());
                assert!(plan.kinds.iter().all(|kind| kind.is_possible(database)));
            }
        }
        assert_ne!(Plan::new(1, Database::Sqlite).steps, Plan::new(2, Database::Sqlite).steps);
    }

    #[test]
    fn a_few_hundred_seeds_have_everything() {
        let plans: Vec<Plan> = (0..300).map(|seed| Plan::new(seed, Database::Sqlite)).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_possible(Database::Sqlite)) {
            assert!(plans.iter().filter(|plan| plan.has(kind)).count() > 10, "{kind:?}");
        }
    }
}
