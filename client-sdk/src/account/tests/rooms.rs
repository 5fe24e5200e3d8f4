//! The rooms of a device: requests without an answer, entrances that do not arrive, and answers that come late.

use std::cell::RefCell;
use std::collections::BTreeMap;

use zim_protocol::{
    ConversationRef, ConversationType, Dirty, ErrorCode, Event, EventFrame, LostRoom, MessageEntry, RoomAllLeftResult,
    RoomEntrance, RoomEvent, RoomExit, RoomFullInfo, RoomInfo, RoomPush, RoomState, Transient, event_frame::Frame,
    room_push::Detail,
};

use super::Login;
use crate::account::rooms::{Answered, Entering, LeavingAll, Rooms, Start, Wish};
use crate::error::Error;
use crate::room::leave;
use crate::store::Length;

pub(super) const ROOM: &str = "lobby";
const NUMBER: i64 = 7;

pub(super) fn timeout() -> Error {
    Error::new(ErrorCode::NetworkModuleRequestTimeout, "late")
}

pub(super) fn info(room_id: &str) -> RoomInfo {
    RoomInfo { room_id: room_id.to_owned(), room_name: String::new() }
}

pub(super) fn entrance(room_id: &str, entry_number: u64, rev: u64) -> RoomPush {
    let entrance = RoomEntrance { entry_number, ..RoomEntrance::default() };
    RoomPush { room_id: room_id.to_owned(), number: NUMBER, rev, detail: Some(Detail::Entrance(entrance)) }
}

pub(super) fn exit(rev: u64) -> RoomPush {
    let exit = RoomExit { event: RoomEvent::Success as i32, extended_data: String::new() };
    RoomPush { room_id: ROOM.to_owned(), number: NUMBER, rev, detail: Some(Detail::Exit(exit)) }
}

/// Rooms without a server, and the states that they raised.
#[derive(Default)]
pub(super) struct Device {
    pub(super) rooms: Rooms,
    states: RefCell<Vec<(RoomState, RoomEvent)>>,
}

impl Device {
    pub(super) fn raise(&self, event: Event) {
        if let Event::RoomStateChanged(event) = event {
            self.states.borrow_mut().push((event.state(), event.event()));
        }
    }

    pub(super) fn begin(&self, room_id: &str) -> Result<u64, Error> {
        match self.rooms.begin((info(room_id), None), Entering::Enter, |event| self.raise(event))? {
            Start::Request(entry, _) => Ok(entry),
            Start::Inside(_) => panic!("the device is in the room"),
        }
    }

    pub(super) fn answered(&self, entry: u64, answer: Result<(), Error>) -> Answered {
        let answer = answer.map(|()| RoomFullInfo { base_info: Some(info(ROOM)) });
        self.rooms.answered((ROOM, entry), answer.as_ref(), |event| self.raise(event))
    }

    pub(super) fn pushed(&self, push: RoomPush) -> Option<Wish> {
        self.rooms.pushed(push, |event| self.raise(event))
    }

    /// Enters the room. Returns the number of the stay.
    pub(super) fn enter(&self) -> u64 {
        let entry = self.begin(ROOM).unwrap();
        assert_eq!(self.answered(entry, Ok(())), Answered::default());
        assert_eq!(self.pushed(entrance(ROOM, entry, entry)), None);
        entry
    }

    /// Returns the entry number of a request to resume.
    fn resume(&self, only: Option<&str>) -> Option<u64> {
        let requests = self.rooms.resume(only);
        requests.first().map(|request| request.rooms[0].entry_number)
    }

    pub(super) fn begin_leaving(&self) -> u64 {
        self.rooms.begin_leaving((ROOM, None), true, |event| self.raise(event)).unwrap().unwrap()
    }

    fn has_left(&self, stay: u64, error: Option<&Error>) -> bool {
        self.rooms.has_left((ROOM, stay), error, |event| self.raise(event))
    }

    /// Places the answer to a request to leave all rooms. Returns what the app gets, and the rooms that have to be resumed.
    pub(super) fn have_left_all(
        &self,
        leaving: &LeavingAll,
        answer: Result<&[&str], Error>,
    ) -> (Result<Vec<String>, ErrorCode>, Vec<String>) {
        let answer =
            answer.map(|left| RoomAllLeftResult { room_ids: left.iter().copied().map(str::to_owned).collect() });
        let (answer, unclear) = self.rooms.have_left_all(leaving, answer, |event| self.raise(event));
        (answer.map(|left| left.room_ids).map_err(|error| error.code()), unclear)
    }

    /// The server says that a stay is over.
    pub(super) fn lost(&self, stay: u64, event: RoomEvent) {
        let lost = LostRoom { room_id: ROOM.to_owned(), event: event as i32 };
        let stays = BTreeMap::from([(ROOM.to_owned(), stay)]);
        self.rooms.lost(&stays, vec![lost], |event| self.raise(event));
    }

    pub(super) fn lose(&self) {
        self.rooms.disconnected(|event| self.raise(event));
    }

    pub(super) fn is_connected(&self) -> bool {
        self.rooms.check_sending(ROOM).is_ok()
    }

    pub(super) fn last(&self) -> (RoomState, RoomEvent) {
        *self.states.borrow().last().unwrap()
    }
}

const INTERRUPTED: (RoomState, RoomEvent) = (RoomState::Connecting, RoomEvent::NetworkInterrupted);
pub(super) const LEFT: (RoomState, RoomEvent) = (RoomState::Disconnected, RoomEvent::Success);

#[test]
fn the_state_says_why_a_room_could_not_be_entered() {
    for (entering, code, event) in [
        (Entering::Create, ErrorCode::RoomModuleTheRoomAlreadyExists, RoomEvent::CreateFailed),
        (Entering::Enter, ErrorCode::RoomModuleJoinRoomError, RoomEvent::EnterFailed),
        (Entering::Switch, ErrorCode::RoomModuleJoinRoomError, RoomEvent::SwitchFailed),
        (Entering::Enter, ErrorCode::RoomModuleTheRoomDoesNotExist, RoomEvent::RoomNotExist),
        (Entering::Switch, ErrorCode::RoomModuleTheRoomDoesNotExist, RoomEvent::RoomNotExist),
        (Entering::Create, ErrorCode::NetworkModuleRequestTimeout, RoomEvent::NetworkDisconnected),
        (Entering::Enter, ErrorCode::NetworkModuleRequestTimeout, RoomEvent::NetworkDisconnected),
        (Entering::Switch, ErrorCode::NetworkModuleNetworkError, RoomEvent::NetworkDisconnected),
    ] {
        let device = Device::default();
        let begun = device.rooms.begin((info(ROOM), None), entering, |event| device.raise(event));
        let Ok(Start::Request(entry, _)) = begun else { panic!("the device cannot enter") };
        device.answered(entry, Err(Error::new(code, "refused")));
        assert_eq!(device.last(), (RoomState::Disconnected, event), "{entering:?}: {code:?}");
    }
}

#[test]
fn an_entrance_that_was_dropped_is_asked_for_again() {
    let device = Device::default();
    device.enter();
    device.lose();
    let first = device.resume(None).unwrap();
    let second = device.resume(Some(ROOM)).unwrap();
    device.pushed(entrance(ROOM, first, 9));
    assert!(!device.is_connected());
    device.pushed(entrance(ROOM, second, 9));
    assert!(device.is_connected());
}

#[test]
fn what_was_dropped_before_the_answer_is_asked_for_after_it() {
    for (is_lost, has_entered) in [(false, false), (false, true), (true, false), (true, true)] {
        let device = Device::default();
        let entry = device.begin(ROOM).unwrap();
        if is_lost {
            device.lose();
        } else {
            assert_eq!(device.resume(Some(ROOM)), None);
        }
        if has_entered {
            device.pushed(entrance(ROOM, entry, entry));
        }
        assert!(device.answered(entry, Ok(())).resumes);
        assert!(device.resume(Some(ROOM)).is_some());
    }
}

#[test]
fn a_room_is_interrupted_while_nobody_knows_whether_it_was_left() {
    let device = Device::default();
    device.enter();
    let stay = device.begin_leaving();
    assert!(device.has_left(stay, Some(&timeout())));
    assert_eq!(device.last(), INTERRUPTED);
    // The app learns that it has to wait.
    assert!(device.begin(ROOM).is_err());
    let asked = device.resume(Some(ROOM)).unwrap();
    device.pushed(entrance(ROOM, asked, 9));
    assert!(device.is_connected());
    // A refusal changes nothing.
    let stay = device.begin_leaving();
    assert!(!device.has_left(stay, Some(&Error::new(ErrorCode::Failed, "refused"))));
    assert!(device.is_connected());
}

/// The server carries out the request after the device has asked whether it is still in the room.
#[test]
fn a_room_that_is_left_after_the_device_has_asked_is_left() {
    let device = Device::default();
    device.enter();
    let stay = device.begin_leaving();
    assert!(device.has_left(stay, Some(&timeout())));
    let asked = device.resume(Some(ROOM)).unwrap();
    device.pushed(entrance(ROOM, asked, 9));
    assert!(device.is_connected());
    assert_eq!(device.pushed(exit(10)), None);
    assert_eq!(device.last(), LEFT);
    // The exit from one stay does not end the next one, and is told once.
    let count = device.states.borrow().len();
    assert_eq!(device.pushed(exit(10)), None);
    assert_eq!(device.states.borrow().len(), count);
    let stay = device.begin(ROOM).unwrap();
    assert_eq!(device.pushed(exit(10)), None);
    device.pushed(entrance(ROOM, stay, 11));
    device.answered(stay, Ok(()));
    assert_eq!(device.pushed(exit(10)), None);
    assert!(device.is_connected());
    assert_eq!(device.begin_leaving(), stay);
    assert_eq!(device.pushed(exit(12)), None);
    assert!(!device.has_left(stay, None));
    assert_eq!(device.states.borrow().iter().filter(|state| **state == LEFT).count(), 2);
}

#[test]
fn a_connection_that_is_lost_interrupts_rooms_that_are_left() {
    let device = Device::default();
    device.enter();
    let stay = device.begin_leaving();
    assert_eq!(device.rooms.inside(), [ROOM]);
    device.lose();
    assert_eq!(device.last(), INTERRUPTED);
    assert!(!device.has_left(stay, Some(&timeout())));
    assert!(!device.is_connected());
    assert!(device.resume(None).is_some());
}

#[test]
fn all_rooms_are_left_or_none_is_known_to_be() {
    let device = Device::default();
    device.enter();
    for error in [timeout(), Error::new(ErrorCode::CommonModuleImServerError, "in the middle")] {
        let (code, leaving) = (error.code(), device.rooms.begin_leaving_all());
        assert_eq!(device.have_left_all(&leaving, Err(error)), (Err(code), vec![ROOM.to_owned()]));
        assert_eq!(device.last(), INTERRUPTED);
        let asked = device.resume(Some(ROOM)).unwrap();
        device.pushed(entrance(ROOM, asked, 9));
        assert!(device.is_connected());
    }
    let leaving = device.rooms.begin_leaving_all();
    assert_eq!(device.have_left_all(&leaving, Ok(&[])), (Ok(Vec::new()), Vec::new()));
    assert_eq!(device.last(), LEFT);
    assert!(device.rooms.inside().is_empty());
}

#[test]
fn a_late_answer_does_not_end_a_later_stay() {
    let device = Device::default();
    let first = device.enter();
    let leaving = device.rooms.begin_leaving_all();
    assert!(!device.has_left(first, None));
    assert_eq!(device.last(), LEFT);
    device.enter();
    device.has_left(first, None);
    assert!(device.have_left_all(&leaving, Ok(&[])).0.is_ok());
    device.lost(first, RoomEvent::ConnectTimeout);
    assert!(device.is_connected());
    device.lost(device.begin_leaving(), RoomEvent::ConnectTimeout);
    assert_eq!(device.last(), (RoomState::Disconnected, RoomEvent::ConnectTimeout));
}

#[test]
fn a_device_that_is_let_in_too_late_leaves() {
    let device = Device::default();
    let late = device.begin(ROOM).unwrap();
    device.answered(late, Err(timeout()));
    assert_eq!(device.pushed(entrance(ROOM, late, 1)), Some(Wish::Leave(ROOM.to_owned())));
    assert_eq!(device.pushed(entrance(ROOM, late, 1)), None);
    assert!(device.begin(ROOM).is_err());
    device.rooms.stray_left(ROOM);
    let stay = device.enter();
    device.has_left(stay, None);
    // The push of a stay that the device has ended itself comes late.
    assert_eq!(device.pushed(entrance(ROOM, stay, 2)), None);
}

/// The server does not know whether it has let the device in, and tells nobody: no entrance comes.
#[test]
fn a_device_leaves_if_the_server_does_not_know_whether_it_let_it_in() {
    for code in [ErrorCode::CommonModuleImDatabaseError, ErrorCode::CommonModuleImServerError] {
        let device = Device::default();
        let entry = device.begin(ROOM).unwrap();
        assert!(device.answered(entry, Err(Error::new(code, "in doubt"))).leaves);
        assert_eq!(device.last(), (RoomState::Disconnected, RoomEvent::EnterFailed));
        assert!(device.begin(ROOM).is_err());
        // The device leaves already.
        assert_eq!(device.pushed(entrance(ROOM, entry, 1)), None);
        device.rooms.stray_left(ROOM);
        device.enter();
    }
    let device = Device::default();
    let refused = Error::new(ErrorCode::RoomModuleServerError, "full");
    assert!(!device.answered(device.begin(ROOM).unwrap(), Err(refused)).leaves);
    device.enter();
}

/// The connection lasts. The server goes on with the request, and says nothing when it lets the device out of the first room.
#[test]
fn a_device_leaves_the_room_that_it_may_still_switch_to() {
    let lost = Error::new(ErrorCode::NetworkModuleNetworkError, "lost");
    for (entering, error, leaves) in [
        (Entering::Switch, timeout(), true),
        // The next connection asks for all rooms.
        (Entering::Switch, lost, false),
        // The entrance says it.
        (Entering::Enter, timeout(), false),
    ] {
        let device = Device::default();
        device.enter();
        let left = (entering == Entering::Switch).then_some(ROOM);
        let begin = || device.rooms.begin((info("other"), left), entering, |event| device.raise(event));
        let Ok(Start::Request(entry, _)) = begin() else { panic!("the device cannot enter") };
        let answered = device.rooms.answered(("other", entry), Err(&error), |event| device.raise(event));
        assert_eq!((answered.leaves, begin().is_err()), (leaves, leaves), "{entering:?}: {error:?}");
    }
}

#[test]
fn a_room_that_was_left_without_a_connection_is_left_over_the_next_one() {
    let device = Device::default();
    device.enter();
    device.lose();
    assert_eq!(device.rooms.begin_leaving((ROOM, None), false, |event| device.raise(event)).unwrap(), None);
    assert!(device.rooms.inside().is_empty());
    assert_eq!(device.rooms.left_offline(), [ROOM]);
    assert!(device.begin(ROOM).is_err());
    assert!(device.rooms.left_offline().is_empty());
}

#[test]
fn a_device_that_was_let_in_is_in_the_room_whatever_the_answer() {
    let device = Device::default();
    let entry = device.begin(ROOM).unwrap();
    device.pushed(entrance(ROOM, entry, 1));
    device.lose();
    let asked = device.resume(None).unwrap();
    assert!(device.answered(entry, Err(timeout())).inside.is_some());
    device.pushed(entrance(ROOM, asked, 1));
    assert!(device.is_connected());
}

/// A login in the room.
pub(super) async fn inside() -> Login {
    let login = Login::online().await;
    let raise = |event| login.account.raise(event);
    let start = login.account.rooms().begin((info(ROOM), None), Entering::Enter, raise).unwrap();
    let Start::Request(entry, _) = start else { panic!("the device is in the room") };
    room_push(&login, entrance(ROOM, entry, 1)).await;
    login.until(|login| login.account.rooms().check_sending(ROOM).is_ok()).await;
    login
}

pub(super) async fn room_push(login: &Login, push: RoomPush) {
    login.account.event_frame(EventFrame { frame: Some(Frame::Room(push)) }).await;
}

/// Returns how many requests of a kind have arrived. The pause before the next one passes.
pub(super) fn asked(login: &Login, path: &str) -> usize {
    login.clock.advance(1_000);
    login.fake.0.lock().requests.iter().filter(|one| **one == path).count()
}

#[tokio::test]
async fn a_request_about_rooms_is_repeated_until_it_is_answered() {
    let login = inside().await;
    login.fake.0.lock().late_for_rooms = 2;
    let name = ConversationRef { id: ROOM.to_owned(), r#type: ConversationType::Room as i32 };
    let dirty = Dirty { conversations: vec![name], ..Dirty::default() };
    login.account.event_frame(EventFrame { frame: Some(Frame::Dirty(dirty)) }).await;
    login.until(|login| asked(login, "Sync/ResumeRooms") == 3).await;
    login.fake.0.lock().late_for_rooms = 1;
    room_push(&login, entrance("other", 99, 1)).await;
    login.until(|login| asked(login, "Room/LeaveRoom") == 2).await;
    assert!(login.account.rooms().check_sending(ROOM).is_ok());
}

#[tokio::test]
async fn a_device_that_may_have_been_let_in_is_let_out() {
    let login = Login::online().await;
    login.fake.0.lock().late_for_rooms = 1;
    login.account.leave_stray(ROOM, None);
    login.until(|login| asked(login, "Room/LeaveRoom") == 2).await;
}

/// The server may carry out a request to switch after the answer to the question whether the device is still in the first room. It
/// does nothing else in the second one before that.
#[tokio::test]
async fn a_device_that_may_have_switched_asks_again_once_it_is_out_of_the_second_room() {
    let login = inside().await;
    let before = asked(&login, "Sync/ResumeRooms");
    login.fake.0.lock().late_for_rooms = 1;
    login.account.leave_stray("other", Some(ROOM));
    login.until(|login| asked(login, "Sync/ResumeRooms") == before + 1).await;
    assert_eq!(asked(&login, "Room/LeaveRoom"), 2);
}

#[tokio::test]
async fn a_device_has_left_a_room_if_the_push_of_its_exit_comes_and_the_answer_does_not() {
    for is_told in [true, false] {
        let login = inside().await;
        login.fake.0.lock().late_for_rooms = 1;
        let leaving = leave(&login.account, (ROOM, None)).unwrap().unwrap();
        if is_told {
            login.account.rooms().pushed(exit(2), |event| login.account.raise(event));
        }
        let left = leaving.await.map_err(|error| error.code());
        assert_eq!(left, if is_told { Ok(()) } else { Err(ErrorCode::NetworkModuleRequestTimeout) });
    }
}

/// The account asks nobody anything while it cannot read its database. The room must not be closed for that.
#[tokio::test]
async fn a_room_can_be_entered_although_the_local_database_is_lost() {
    let login = Login::online().await;
    let raise = |event| login.account.raise(event);
    let begin = || login.account.rooms().begin((info(ROOM), None), Entering::Enter, raise);
    let Start::Request(entry, _) = begin().unwrap() else { panic!("the device is in the room") };
    let lost = "ALTER TABLE conversation RENAME TO lost";
    login.account.store().write(Length::Short, |db| db.execute_batch(lost)).await.unwrap();
    // What cannot be stored shows it.
    login.send("bob", "hi").await.unwrap().unwrap_err();
    let in_doubt = Error::new(ErrorCode::CommonModuleImServerError, "in doubt");
    assert!(login.account.rooms().answered((ROOM, entry), Err(&in_doubt), raise).leaves);
    assert!(begin().is_err());
    login.account.leave_stray(ROOM, None);
    login.until(|_| begin().is_ok()).await;
    assert_eq!(asked(&login, "Room/LeaveRoom"), 0);
}

#[test]
fn a_message_that_is_kept_is_not_heard_behind_a_later_one() {
    let device = Device::default();
    device.enter();
    let hears = |seq| {
        let message = Some(MessageEntry { seq, ..MessageEntry::default() });
        device.rooms.accepts(ROOM, &Transient { room: NUMBER, after_rev: 9, message, ..Transient::default() })
    };
    assert_eq!([1, 3, 2, 3, 4].map(hears), [true, true, false, false, true]);
    // Messages that are not kept have no position.
    assert!(hears(0) && hears(0));
}

/// The user was in the room when the backup was made, left it and entered it again.
#[test]
fn a_message_is_heard_after_a_restore_although_the_room_counts_from_an_earlier_change() {
    let device = Device::default();
    let entry = device.begin(ROOM).unwrap();
    device.pushed(entrance(ROOM, entry, 30));
    let hears = |seq, after_rev| {
        let message = Some(MessageEntry { seq, ..MessageEntry::default() });
        device.rooms.accepts(ROOM, &Transient { room: NUMBER, after_rev, message, ..Transient::default() })
    };
    assert!(hears(5, 30) && !hears(0, 20));
    device.lose();
    device.rooms.count_anew();
    let asked = device.resume(None).unwrap();
    device.pushed(entrance(ROOM, asked, 20));
    assert!(hears(4, 20) && hears(0, 20));
}

/// The server lets the device in, and out again, before the answers come.
#[test]
fn a_room_that_is_left_while_it_is_entered_is_left() {
    for is_answered_first in [true, false] {
        let device = Device::default();
        let entry = device.begin(ROOM).unwrap();
        let leaving = device.rooms.begin_leaving_all();
        if is_answered_first {
            device.answered(entry, Ok(()));
        }
        assert_eq!(device.have_left_all(&leaving, Ok(&[ROOM])), (Ok(vec![ROOM.to_owned()]), vec![ROOM.to_owned()]));
        // The room is resumed now, or when the other answer has come.
        assert_eq!(device.resume(Some(ROOM)).is_some(), is_answered_first);
        if !is_answered_first {
            assert!(device.answered(entry, Ok(())).resumes);
        }
        // The entrance comes before what follows.
        device.pushed(entrance(ROOM, entry, 1));
        device.lost(entry, RoomEvent::ConnectTimeout);
        assert_eq!(device.last(), LEFT);
    }
}
