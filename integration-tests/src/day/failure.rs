//! Calls that failed, and whether the scenario explains them.

use zim_client_sdk::Error;
use zim_protocol::ErrorCode;

use super::ledger::{Ledger, Ms};
use super::plan::Number;

/// Errors of rooms while the device has no connection, or comes back: 6000203 not in the room, 6000321 the server does not know it
/// there, 6000322 the room is gone, 6000326 it is about to enter.
const OF_ROOMS: [i32; 4] = [6_000_203, 6_000_321, 6_000_322, 6_000_326];
/// Errors of calls that the restart has ended: 6000276 there is no such call, 6000271 it cannot be cancelled.
const OF_CALLS: [i32; 2] = [6_000_276, 6_000_271];
/// Errors of files without a connection: of uploads 6000212, 6000251 and 6000252, of downloads 6000217 and 6000220.
const OF_FILES: [i32; 5] = [6_000_212, 6_000_217, 6_000_220, 6_000_251, 6_000_252];

/// What a call that failed was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Area {
    Session,
    Message,
    Group,
    Room,
    Call,
    File,
}

/// A call that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) area: Area,
    pub(super) begun: Ms,
    pub(super) at: Ms,
    /// The devices whose connection it needed.
    pub(super) devices: Vec<Number>,
    pub(super) code: i32,
    pub(super) text: String,
    /// The connection or the server failed, and not the request.
    is_outage: bool,
}

impl Failure {
    pub(super) fn new(area: Area, (begun, at): (Ms, Ms), devices: Vec<Number>, error: &Error) -> Self {
        let is_outage = matches!(
            error.code(),
            ErrorCode::NetworkModuleNetworkError
                | ErrorCode::NetworkModuleRequestTimeout
                | ErrorCode::NetworkModuleUserOffline
                | ErrorCode::CommonModuleImServerDisconnect
        );
        Self { area, begun, at, devices, code: error.number(), text: error.to_string(), is_outage }
    }

    /// Whether the scenario explains it: the server was down, or a device had no connection for a reason that is in the scenario. A
    /// limit that was met never is.
    pub(super) fn is_explained(&self, ledger: &Ledger) -> bool {
        let is_of_area = match self.area {
            Area::Room => OF_ROOMS.contains(&self.code),
            Area::Call => OF_CALLS.contains(&self.code),
            Area::File => OF_FILES.contains(&self.code),
            Area::Session | Area::Message | Area::Group => false,
        };
        (self.is_outage || is_of_area) && ledger.is_restarting(self.begun, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(area: Area, at: Ms, code: ErrorCode) -> Failure {
        Failure::new(area, (at, at + 10), vec![0], &Error::new(code, "x"))
    }

    #[test]
    fn only_a_restart_explains_an_error_and_only_some_errors() {
        let mut ledger = Ledger::new(1);
        ledger.restarts.push((1_000, Some(2_000)));
        let lost = ErrorCode::NetworkModuleNetworkError;
        assert!(failure(Area::Message, 1_500, lost).is_explained(&ledger));
        assert!(failure(Area::Message, 3_000, lost).is_explained(&ledger));
        assert!(!failure(Area::Message, 100, lost).is_explained(&ledger));
        assert!(!failure(Area::Message, 900_000, lost).is_explained(&ledger));
        let limit = ErrorCode::CommonModuleTriggerServerFrequencyLimit;
        assert!(!failure(Area::Message, 1_500, limit).is_explained(&ledger));
    }

    #[test]
    fn an_area_has_errors_of_its_own() {
        let mut ledger = Ledger::new(1);
        ledger.restarts.push((1_000, None));
        let not_there = ErrorCode::RoomModuleUserIsNotInTheRoom;
        assert!(failure(Area::Room, 5_000, not_there).is_explained(&ledger));
        assert!(!failure(Area::Message, 5_000, not_there).is_explained(&ledger));
    }
}
