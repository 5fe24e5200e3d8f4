//! The faults of nodes, and when they happen. Derived from the seed alone, as `plan.rs` is.

use super::action::Action;
use super::kind::Kind;
use super::plan::{DEVICES, Fault, Step, TEAM, USERS, pick};
use super::servers::LEASE_MS;
use super::testbed::FRAME_PROXY_DEVICE;
use crate::random::Random;

/// The number of nodes.
pub(super) const NODES: usize = 2;
/// The longest bus outage, milliseconds: longer than it takes nodes to notice one.
const BUS_OUTAGE_MS: u64 = 7_000;

/// A fault of nodes, or the end of one. One that ends waits until it has lasted for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum NodeFault {
    Kill(usize),
    Stop(usize),
    Start(usize),
    Pause(usize),
    Resume {
        node: usize,
        after_ms: u64,
    },
    CutDatabase {
        node: usize,
        /// Connections do not break.
        hangs: bool,
    },
    JoinDatabase {
        node: usize,
        after_ms: u64,
    },
    CutBus {
        node: usize,
        /// Connections do not break.
        hangs: bool,
    },
    JoinBus {
        node: usize,
        after_ms: u64,
    },
    KillBus,
    StartBus {
        after_ms: u64,
    },
    Jump {
        node: usize,
        ms: i64,
    },
    /// A device uses another node from now on.
    Move {
        device: usize,
        node: usize,
    },
    /// Not planned: the harness notes that a node has started, or serves again.
    Serves(usize),
}

/// Turns the plan of one server into that of two nodes: its faults concern one of them, and those of nodes are added.
pub(super) fn with_nodes(seed: u64, kinds: &[Kind], steps: Vec<Step>) -> Vec<Step> {
    let mut random = Random::new(seed ^ 0x2_0de5);
    let mut rounds = vec![Vec::new()];
    let mut stopped = 0;
    for step in steps {
        let is_end = matches!(step, Step::Wait { .. });
        let step = match step {
            Step::Fault(Fault::StopServer) => {
                stopped = pick(&mut random, NODES);
                of_node(NodeFault::Stop(stopped))
            }
            Step::Fault(Fault::StartServer) => of_node(NodeFault::Start(stopped)),
            Step::Fault(Fault::JumpServer { ms }) => of_node(NodeFault::Jump { node: pick(&mut random, NODES), ms }),
            other => other,
        };
        if let Some(round) = rounds.last_mut() {
            round.push(step);
        }
        if is_end {
            rounds.push(Vec::new());
        }
    }
    let stays = kinds.contains(&Kind::LastPush).then_some(FRAME_PROXY_DEVICE);
    let mut planner = NodePlanner { random, rounds, stays };
    for kind in kinds {
        planner.plan(*kind);
    }
    planner.rounds.into_iter().flatten().collect()
}

const fn of_node(fault: NodeFault) -> Step {
    Step::Fault(Fault::Node(fault))
}

struct NodePlanner {
    random: Random,
    rounds: Vec<Vec<Step>>,
    /// A device that uses one node all the time.
    stays: Option<usize>,
}

impl NodePlanner {
    fn below(&mut self, end: usize) -> usize {
        pick(&mut self.random, end)
    }

    /// Returns many messages of some devices.
    fn load(&mut self, devices: &[usize]) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..1 + self.below(3) {
            let device = devices[self.below(devices.len())];
            let others: Vec<&str> = USERS.into_iter().filter(|user| *user != DEVICES[device]).collect();
            for _ in 0..4 + self.below(8) {
                let peer = if self.random.chance(300) { TEAM } else { others[self.below(others.len())] };
                let action =
                    if self.random.chance(100) { Action::Rename } else { Action::Send { peer, is_poison: false } };
                steps.push(Step::Action(device, action));
            }
        }
        steps
    }

    /// Adds faults while many calls of devices are in flight, of which some have been answered; tasks are due at that time. Returns
    /// the round.
    fn under_load(&mut self, devices: &[usize], faults: impl IntoIterator<Item = NodeFault>) -> usize {
        let round = self.below(self.rounds.len());
        let mut steps = self.load(devices);
        let answers = self.below(steps.len());
        if self.random.chance(700) {
            steps.push(Step::Tasks { count: 1 + self.random.below(40), within_ms: self.random.below(200) });
        }
        steps.push(Step::Wait { answers, at_most_ms: 150 });
        steps.extend(faults.into_iter().map(of_node));
        self.rounds[round].extend(steps);
        round
    }

    /// Adds what ends a fault, in one of the next rounds. What has not ended by the end of the run ends then.
    fn end(&mut self, round: usize, within: usize, faults: impl IntoIterator<Item = NodeFault>) {
        let round = round + self.below(within);
        if let Some(steps) = self.rounds.get_mut(round) {
            steps.extend(faults.into_iter().map(of_node));
        }
    }

    /// Returns how long a fault lasts: longer than the lease, or not.
    fn around_the_lease(&mut self) -> u64 {
        if self.random.chance(650) {
            u64::from(LEASE_MS) + 300 + self.random.below(900)
        } else {
            self.random.below(2_500)
        }
    }

    /// The devices that use a node at first.
    fn devices_of(node: usize) -> Vec<usize> {
        (0..DEVICES.len()).filter(|device| device % NODES == node).collect()
    }

    /// The moves of devices to another node, as when apps find that theirs does not respond; or none.
    fn moves(&mut self, from: usize) -> Vec<NodeFault> {
        if self.random.chance(500) {
            return Vec::new();
        }
        let node = (from + 1) % NODES;
        let moving = Self::devices_of(from).into_iter().filter(|device| Some(*device) != self.stays);
        moving.map(|device| NodeFault::Move { device, node }).collect()
    }

    fn plan(&mut self, kind: Kind) {
        let (times, node) = (1 + self.below(2), self.below(NODES));
        let devices = Self::devices_of(node);
        match kind {
            Kind::KillNode => {
                for _ in 0..times {
                    let node = self.below(NODES);
                    let moves = self.moves(node);
                    let round =
                        self.under_load(&Self::devices_of(node), [NodeFault::Kill(node)].into_iter().chain(moves));
                    self.end(round, 4, [NodeFault::Start(node)]);
                }
            }
            Kind::KillNodes => {
                let all: Vec<usize> = (0..DEVICES.len()).collect();
                let round = self.under_load(&all, (0..NODES).map(NodeFault::Kill));
                self.end(round, 3, [NodeFault::Start(node), NodeFault::Start((node + 1) % NODES)]);
            }
            Kind::PauseNode => {
                let (moves, after_ms) = (self.moves(node), self.around_the_lease());
                let round = self.under_load(&devices, [NodeFault::Pause(node)].into_iter().chain(moves));
                self.end(round, 5, [NodeFault::Resume { node, after_ms }]);
            }
            Kind::CutDatabase => {
                let (moves, after_ms, hangs) = (self.moves(node), self.around_the_lease(), self.random.chance(500));
                let cut = NodeFault::CutDatabase { node, hangs };
                let round = self.under_load(&devices, [cut].into_iter().chain(moves));
                self.end(round, 5, [NodeFault::JoinDatabase { node, after_ms }]);
            }
            Kind::CutBus => {
                for _ in 0..times {
                    let (node, hangs) = (self.below(NODES), self.random.chance(500));
                    let round = self.under_load(&Self::devices_of(node), [NodeFault::CutBus { node, hangs }]);
                    let after_ms = self.random.below(BUS_OUTAGE_MS);
                    self.end(round, 5, [NodeFault::JoinBus { node, after_ms }]);
                }
            }
            Kind::KillBus => {
                for _ in 0..times {
                    let all: Vec<usize> = (0..DEVICES.len()).collect();
                    let round = self.under_load(&all, [NodeFault::KillBus]);
                    let after_ms = self.random.below(BUS_OUTAGE_MS);
                    self.end(round, 5, [NodeFault::StartBus { after_ms }]);
                }
            }
            Kind::ChangeNode => {
                for _ in 0..1 + self.below(3) {
                    let (device, node) = (self.below(DEVICES.len()), self.below(NODES));
                    if Some(device) == self.stays {
                        continue;
                    }
                    // At least one of them is a change.
                    let [first, second] = [node, (node + 1) % NODES].map(|node| NodeFault::Move { device, node });
                    let round = self.under_load(&[device], [first]);
                    let more = self.load(&[device]);
                    self.rounds[round].extend(more);
                    self.rounds[round].push(of_node(second));
                }
            }
            // `servers.rs` sets the clocks. The others are faults of one server, or of devices.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;

    #[test]
    fn a_seed_determines_the_plan_on_two_nodes() {
        for seed in 0..200 {
            let plan = Plan::on_nodes(seed);
            assert_eq!(plan.to_string(), Plan::on_nodes(seed).to_string());
            let of_one = |step: &Step| {
                matches!(step, Step::Fault(Fault::KillServer | Fault::StopServer | Fault::JumpServer { .. }))
            };
            assert!(!plan.steps.iter().any(of_one), "{plan}");
        }
    }

    #[test]
    fn a_few_hundred_seeds_on_two_nodes_contain_every_fault() {
        let plans: Vec<Plan> = (0..400).map(Plan::on_nodes).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_possible_on_nodes()) {
            assert!(plans.iter().filter(|plan| plan.has(kind)).count() > 10, "{kind:?}");
        }
        let count = |is: fn(&NodeFault) -> bool| {
            let steps = plans.iter().flat_map(|plan| &plan.steps);
            steps.filter(|step| matches!(step, Step::Fault(Fault::Node(fault)) if is(fault))).count()
        };
        let counts = [
            count(|fault| matches!(fault, NodeFault::Kill(_))),
            count(|fault| matches!(fault, NodeFault::Resume { after_ms, .. } if *after_ms > u64::from(LEASE_MS))),
            count(|fault| matches!(fault, NodeFault::Resume { after_ms, .. } if *after_ms < u64::from(LEASE_MS))),
            count(|fault| matches!(fault, NodeFault::CutDatabase { hangs: true, .. })),
            count(|fault| matches!(fault, NodeFault::CutDatabase { hangs: false, .. })),
            count(|fault| matches!(fault, NodeFault::CutBus { .. })),
            count(|fault| matches!(fault, NodeFault::KillBus)),
            count(|fault| matches!(fault, NodeFault::Jump { .. })),
            count(|fault| matches!(fault, NodeFault::Stop(_))),
            count(|fault| matches!(fault, NodeFault::Move { node: 1, .. })),
        ];
        assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    }
}
