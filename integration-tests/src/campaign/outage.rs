//! The times at which a server cannot store anything.

use super::node_plan::NodeFault;
use super::plan::Fault;
use super::record::{Call, Moment};

/// Whether a call was waiting for its answer while the server could not store anything.
pub(super) fn is_caught_in(call: &Call, faults: &[(Moment, Fault)]) -> bool {
    let answered = call.answer.as_ref().map_or(Moment::MAX, |(at, _)| *at);
    faults.iter().enumerate().any(|(index, (at, fault))| {
        let later = faults[index..].iter().find(|(_, later)| lets_store_again(fault, later));
        let end = later.map_or(Moment::MAX, |(end, _)| *end);
        stops_storing(fault) && *at < answered && call.called < end
    })
}

/// Whether a fault keeps a server from storing anything while it answers.
pub(super) fn stops_storing(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::KillPostgres
            | Fault::DiskFull { .. }
            | Fault::WriteFails { .. }
            | Fault::Node(NodeFault::Pause(_) | NodeFault::CutDatabase { .. })
    )
}

fn lets_store_again(fault: &Fault, later: &Fault) -> bool {
    match (fault, later) {
        (Fault::KillPostgres, Fault::StartPostgres)
        | (Fault::DiskFull { .. }, Fault::DiskFreed)
        | (Fault::WriteFails { .. }, Fault::WriteWorks) => true,
        (
            Fault::Node(NodeFault::Pause(node) | NodeFault::CutDatabase { node, .. }),
            Fault::Node(NodeFault::Serves(again)),
        ) => node == again,
        _ => false,
    }
}
