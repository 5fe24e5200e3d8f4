//! The plan of a run: all decisions, derived from the seed alone before the run begins.

use std::fmt;

use super::action::{Action, GroupVerb, MessageVerb, SettingVerb, SocialAction};
use super::club_plan;
use super::kind::Kind;
use super::live_plan;
use super::long_plan;
use super::message_plan;
use super::node_plan::{NODES, NodeFault, with_nodes};
use crate::random::Random;

/// The users, each of whom writes to all others.
pub(super) const USERS: [&str; 4] = ["ann", "bob", "carl", "dora"];
/// The users of the devices.
pub(super) const DEVICES: [&str; 6] = ["ann", "ann", "bob", "bob", "carl", "dora"];
/// The group. The first three users are in it when the run begins, and the first one owns it.
pub const TEAM: &str = "team";
/// The second group, see `ClubVerb`. It begins as the first one does.
pub const CLUB: &str = "club";
/// The device that is away until the end of the run.
const AWAY: usize = 3;
/// A message that contains this cannot be stored.
pub(super) const POISON: &str = "poison";

/// The database of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// An SQLite file.
    Sqlite,
    /// A database of a PostgreSQL server.
    Postgres,
}

/// A fault, or the end of one. Numbers of devices are indexes of `DEVICES`.
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
    /// Reads everything and deletes what is read from the server.
    Retain,
    /// Of nodes.
    Node(NodeFault),
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A device starts an action without waiting for the answer.
    Action(usize, Action),
    /// A fault begins or ends.
    Fault(Fault),
    /// The server schedules tasks.
    Tasks {
        /// The number of tasks.
        count: u64,
        /// The time within which they are due, milliseconds.
        within_ms: u64,
    },
    /// Waits until a number of unanswered calls are answered, or until a time has passed.
    Wait {
        /// The number of answers.
        answers: usize,
        /// The time, milliseconds.
        at_most_ms: u64,
    },
    /// Waits until a device has raised the last message to its user that is acknowledged, or until a time has passed.
    Heard {
        /// The device.
        device: usize,
        /// The time, milliseconds.
        at_most_ms: u64,
    },
}

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that it is derived from.
    pub seed: u64,
    /// The server's database.
    pub database: Database,
    /// The number of servers that share it.
    pub nodes: usize,
    /// The kinds of faults.
    pub kinds: Vec<Kind>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The users of the devices.
    pub(super) devices: &'static [&'static str],
    /// Whether it is a long run.
    pub(super) is_long: bool,
}

impl Plan {
    /// Derives a plan from a seed.
    pub fn new(seed: u64, database: Database) -> Self {
        let mut random = Random::new(seed);
        let possible: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_possible(database)).collect();
        let mut kinds: Vec<Kind> = (0..=random.below(4)).map(|_| possible[pick(&mut random, possible.len())]).collect();
        // The kill of PostgreSQL is what runs on PostgreSQL are for.
        if database == Database::Postgres && random.chance(500) {
            kinds.push(Kind::KillPostgres);
        }
        kinds.sort();
        kinds.dedup();
        Self::of(seed, database, kinds)
    }

    /// Derives a plan for two nodes on one PostgreSQL database from a seed.
    pub fn on_nodes(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x2_0de5_0000);
        let possible: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_possible_on_nodes()).collect();
        let of_nodes: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_of_nodes()).collect();
        let mut kinds: Vec<Kind> = (0..random.below(4)).map(|_| possible[pick(&mut random, possible.len())]).collect();
        // They are what runs on nodes are for.
        kinds.push(of_nodes[pick(&mut random, of_nodes.len())]);
        kinds.sort();
        kinds.dedup();
        Self::of_nodes(seed, kinds)
    }

    /// Derives a plan for two nodes with these kinds of faults from a seed.
    pub fn of_nodes(seed: u64, kinds: Vec<Kind>) -> Self {
        Self::with(seed, (Database::Postgres, NODES), kinds)
    }

    /// Derives a plan for one server with these kinds of faults from a seed.
    pub fn of(seed: u64, database: Database, kinds: Vec<Kind>) -> Self {
        Self::with(seed, (database, 1), kinds)
    }

    fn with(seed: u64, (database, nodes): (Database, usize), kinds: Vec<Kind>) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let count = 12 + pick(&mut random, 10);
        let mut planner =
            Planner { random, rounds: vec![Vec::new(); count], has_poison: kinds.contains(&Kind::Poison) };
        planner.fill();
        for kind in &kinds {
            planner.plan(*kind);
        }
        let mut steps = with_tasks(seed, planner.rounds.into_iter().flatten());
        steps = live_plan::with_rooms_and_calls(seed, steps);
        steps = message_plan::with_more_verbs(seed, steps);
        steps = club_plan::with_club(seed, steps);
        if nodes > 1 {
            steps = with_nodes(seed, &kinds, steps);
        }
        if kinds.contains(&Kind::Reset) {
            steps.push(Step::Fault(Fault::Retain));
        }
        Self { seed, database, nodes, kinds, steps, devices: &DEVICES, is_long: false }
    }

    /// Derives a plan for a long run, of so many messages, from a seed.
    pub fn long(seed: u64, database: Database, messages: usize) -> Self {
        let (kinds, steps) = long_plan::steps(seed, database, messages);
        Self { seed, database, nodes: 1, kinds, steps, devices: &long_plan::DEVICES, is_long: true }
    }

    /// Whether the servers keep what is said in rooms.
    pub(super) fn keeps_rooms(&self) -> bool {
        self.seed.is_multiple_of(4)
    }

    /// Whether the plan contains this kind of fault.
    pub fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = if self.nodes == 1 { String::new() } else { format!(", {} nodes", self.nodes) };
        writeln!(f, "seed {} on {:?}{nodes}: {:?}", self.seed, self.database, self.kinds)?;
        self.steps.iter().enumerate().try_for_each(|(at, step)| writeln!(f, "{at:4} {step:?}"))
    }
}

/// Adds tasks that are due when a server is killed or stopped or its clock jumps, and some at other times.
fn with_tasks(seed: u64, steps: impl Iterator<Item = Step>) -> Vec<Step> {
    // Of their own, so that an older seed still has the plan that it had.
    let mut random = Random::new(seed ^ 0x7a5c);
    let mut all = Vec::new();
    for step in steps {
        let chance = match step {
            Step::Fault(
                Fault::KillServer | Fault::KillPostgres | Fault::StopServer | Fault::JumpServer { .. } | Fault::Restore,
            ) => 800,
            Step::Wait { .. } => 200,
            _ => 20,
        };
        if random.chance(chance) {
            all.push(Step::Tasks { count: 1 + random.below(60), within_ms: random.below(200) });
        }
        all.push(step);
    }
    all
}

pub(super) fn pick(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap_or(0)
}

struct Planner {
    random: Random,
    rounds: Vec<Vec<Step>>,
    has_poison: bool,
}

impl Planner {
    /// Adds the actions of all rounds.
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

    /// Chooses an action; the ranges are the frequencies in percent.
    fn action(&mut self, device: usize) -> Action {
        let user = self.peer(device);
        let peer = if self.random.chance(300) { TEAM } else { user };
        match self.random.below(100) {
            0..48 => Action::Send { peer, is_poison: self.has_poison && self.random.chance(150) },
            48..55 => Action::Clear { peer },
            55..58 => Action::Rename,
            58..60 => Action::Avatar,
            60..62 => Action::CustomStatus,
            62..72 => self.social(user),
            72..80 => self.group(user),
            80..96 => self.change(peer),
            _ => Action::Setting { peer, verb: self.setting() },
        }
    }

    fn group(&mut self, user: &'static str) -> Action {
        Action::Group { user, verb: GroupVerb::ALL[self.below(GroupVerb::ALL.len())] }
    }

    fn change(&mut self, peer: &'static str) -> Action {
        let verb = MessageVerb::ALL[self.below(MessageVerb::ALL.len())];
        Action::Change { peer, verb, pick: self.random.below(1 << 20) }
    }

    fn setting(&mut self) -> SettingVerb {
        let is_on = self.random.chance(600);
        match self.below(3) {
            0 => SettingVerb::Pin(is_on),
            1 => SettingVerb::Mark(is_on),
            _ => SettingVerb::Quiet(is_on),
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

    /// Inserts a fault at a random place of a round.
    fn put(&mut self, round: usize, fault: Fault) {
        let steps = &mut self.rounds[round];
        let at = pick(&mut self.random, steps.len() + 1);
        steps.insert(at, Step::Fault(fault));
    }

    /// Adds a fault that lasts at most `longest` rounds. What has not ended by then ends with the run.
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

    /// Adds a fault while many calls are in flight, of which some have been answered.
    fn under_load(&mut self, fault: Fault, sender: Option<usize>, end: Option<Fault>) {
        let round = self.round();
        let mut steps = Vec::new();
        let senders = 1 + self.below(3);
        for _ in 0..senders {
            let device = sender.unwrap_or_else(|| pick(&mut self.random, DEVICES.len()));
            for _ in 0..4 + self.below(12) {
                let user = self.peer(device);
                let peer = if self.random.chance(300) { TEAM } else { user };
                let action = match self.below(10) {
                    0 => self.social(user),
                    1 => self.group(user),
                    2 | 3 => self.change(peer),
                    _ => Action::Send { peer, is_poison: false },
                };
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
                (0..times).for_each(|_| self.under_load(Fault::KillServer, None, Some(Fault::StartServer)));
            }
            Kind::StopServer => self.under_load(Fault::StopServer, None, Some(Fault::StartServer)),
            Kind::KillDevice => (0..times).for_each(|_| {
                self.under_load(Fault::KillDevice(device), Some(device), Some(Fault::OpenDevice(device)));
            }),
            Kind::CloseDevice => (0..times).for_each(|_| {
                self.under_load(Fault::CloseDevice(device), Some(device), Some(Fault::OpenDevice(device)));
            }),
            Kind::DiskFull => {
                let pages = self.random.below(6);
                self.span(Fault::DiskFull { pages }, Some(Fault::DiskFreed), 4);
            }
            Kind::WriteFails => {
                let bytes = self.random.below(60_000);
                self.span(Fault::WriteFails { bytes }, Some(Fault::WriteWorks), 4);
            }
            // Handled in `action`, and at the end of the run.
            Kind::Poison | Kind::LastPush => {}
            // `node_plan.rs` adds them.
            Kind::KillNode
            | Kind::KillNodes
            | Kind::PauseNode
            | Kind::CutDatabase
            | Kind::CutBus
            | Kind::KillBus
            | Kind::ClocksApart
            | Kind::ChangeNode => {}
            Kind::JumpServer => (0..times).for_each(|_| {
                let ms = jump(&mut self.random);
                self.span(Fault::JumpServer { ms }, None, 1);
            }),
            Kind::JumpDevice => (0..times).for_each(|_| {
                let ms = jump(&mut self.random);
                self.span(Fault::JumpDevice { device, ms }, None, 1);
            }),
            Kind::KillPostgres => {
                (0..times).for_each(|_| self.under_load(Fault::KillPostgres, None, Some(Fault::StartPostgres)));
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
    fn a_seed_determines_the_plan() {
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
    fn a_few_hundred_seeds_contain_every_fault() {
        let plans: Vec<Plan> = (0..300).map(|seed| Plan::new(seed, Database::Sqlite)).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_possible(Database::Sqlite)) {
            assert!(plans.iter().filter(|plan| plan.has(kind)).count() > 10, "{kind:?}");
        }
    }
}
