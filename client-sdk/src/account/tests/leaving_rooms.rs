//! A device that leaves rooms: answers that are lost, and answers that come when it has entered a room again.

use zim_protocol::{ErrorCode, RoomEvent, RoomFullInfo, RoomPush, RoomState, SwitchRoomRequest};

use super::Login;
use super::rooms::{Device, LEFT, ROOM, asked, entrance, exit, info, inside, room_push, timeout};
use crate::account::rooms::{Answered, Entering, Rooms, Start};
use crate::error::Error;
use crate::room::enter;

/// The room to which a device switches, or in which it is besides.
const OTHER: &str = "other";

fn error(code: ErrorCode) -> Error {
    Error::new(code, "failed")
}

#[test]
fn what_the_device_was_told_counts_only_if_the_answer_says_nothing() {
    let device = Device::default();
    let stay = device.enter();
    assert_eq!(device.begin_leaving(), stay);
    assert!(!device.rooms.is_over((ROOM, stay), &timeout()));
    device.pushed(exit(2));
    for (code, is_over) in [
        (ErrorCode::NetworkModuleNetworkError, true),
        (ErrorCode::NetworkModuleRequestTimeout, true),
        (ErrorCode::CommonModuleImDatabaseError, true),
        (ErrorCode::CommonModuleImServerError, true),
        (ErrorCode::RoomModuleUserIsNotInTheRoom, false),
        (ErrorCode::CommonModuleTriggerServerFrequencyLimit, false),
    ] {
        assert_eq!(device.rooms.is_over((ROOM, stay), &error(code)), is_over, "{code:?}");
    }
    let later = device.begin(ROOM).unwrap();
    assert!(device.rooms.is_over((ROOM, stay), &timeout()));
    assert!(!device.rooms.is_over((ROOM, later), &timeout()));
}

/// No push has told the end of the first stay.
#[test]
fn a_stay_is_over_if_there_is_a_later_one() {
    let device = Device::default();
    let stay = device.enter();
    device.begin_leaving();
    device.lose();
    assert_eq!(device.rooms.begin_leaving((ROOM, None), false, |event| device.raise(event)).unwrap(), None);
    let later = device.begin(ROOM).unwrap();
    assert!(device.rooms.is_over((ROOM, stay), &timeout()));
    assert!(!device.rooms.is_over((ROOM, later), &timeout()));
}

#[test]
fn a_one_shot_login_knows_of_no_stay_that_is_over() {
    let rooms = Rooms::new(true);
    assert_eq!(rooms.begin_leaving((ROOM, None), true, |_| ()).unwrap(), Some(0));
    assert!(!rooms.is_over((ROOM, 0), &timeout()));
    let (left, unclear) = rooms.have_left_all(&rooms.begin_leaving_all(), Err(timeout()), |_| ());
    assert_eq!(left.unwrap_err().code(), ErrorCode::NetworkModuleRequestTimeout);
    assert!(unclear.is_empty());
}

/// The app enters a room again as soon as it hears that the device is out of it. The answer is about the stay before.
#[test]
fn a_stay_that_begins_while_all_rooms_are_left_ends_for_reasons_of_its_own() {
    for (is_lost, is_answered_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let device = Device::default();
        device.enter();
        let leaving = device.rooms.begin_leaving_all();
        device.pushed(exit(2));
        assert_eq!(device.last(), LEFT);
        let stay = device.begin(ROOM).unwrap();
        let enters = || {
            assert_eq!(device.answered(stay, Ok(())), Answered::default());
            device.pushed(entrance(ROOM, stay, 3));
        };
        if !is_answered_first {
            enters();
        }
        // If the server is slow, it has ended the later stay: the device asks.
        let answer: Result<&[&str], Error> = if is_lost { Err(timeout()) } else { Ok(&[ROOM]) };
        assert_eq!(device.have_left_all(&leaving, answer), (Ok(vec![ROOM.to_owned()]), vec![ROOM.to_owned()]));
        if is_answered_first {
            enters();
        }
        assert!(device.is_connected());
        device.lost(stay, RoomEvent::KickedOutByOtherDevice);
        assert_eq!(device.last(), (RoomState::Disconnected, RoomEvent::KickedOutByOtherDevice));
    }
}

#[test]
fn all_rooms_are_left_although_the_answer_is_lost_if_all_exits_were_told() {
    let both = || Ok(vec![ROOM.to_owned(), OTHER.to_owned()]);
    let late = ErrorCode::NetworkModuleRequestTimeout;
    let limit = ErrorCode::CommonModuleTriggerServerFrequencyLimit;
    for (is_told_of_other, code, expected) in [
        (true, late, both()),
        (true, ErrorCode::NetworkModuleNetworkError, both()),
        (true, ErrorCode::CommonModuleImDatabaseError, both()),
        (true, limit, Err(limit)),
        (false, late, Err(late)),
    ] {
        let device = Device::default();
        device.enter();
        let entry = device.begin(OTHER).unwrap();
        device.pushed(entrance(OTHER, entry, 1));
        let leaving = device.rooms.begin_leaving_all();
        device.pushed(exit(2));
        if is_told_of_other {
            device.pushed(RoomPush { room_id: OTHER.to_owned(), ..exit(2) });
        }
        let unclear = if is_told_of_other { Vec::new() } else { vec![OTHER.to_owned()] };
        assert_eq!(device.have_left_all(&leaving, Err(error(code))), (expected, unclear), "{code:?}");
    }
}

/// Switches from the room to the other one. The request fails, once its answer is no longer held.
fn switch(login: &Login) -> impl Future<Output = Result<RoomFullInfo, Error>> + use<> {
    {
        let mut world = login.fake.0.lock();
        (world.late_for_rooms, world.holds_answers) = (1, true);
    }
    let request = |entry_number| SwitchRoomRequest {
        from_room_id: ROOM.to_owned(),
        to_room_info: Some(info(OTHER)),
        entry_number,
        ..SwitchRoomRequest::default()
    };
    let rooms = (info(OTHER), Some(ROOM.to_owned()));
    enter(&login.account, rooms, Entering::Switch, request, |result| result.room_info).unwrap()
}

/// The server lets the device into the other room.
async fn let_in(login: &Login) {
    login.until(|login| login.fake.0.lock().requests.contains(&"Room/SwitchRoom")).await;
    room_push(login, entrance(OTHER, 2, 1)).await;
    login.until(|login| login.account.rooms().check_sending(OTHER).is_ok()).await;
}

/// The server has carried the switch out and has told all of it.
#[tokio::test]
async fn a_switch_of_rooms_is_done_although_its_answer_is_lost() {
    for is_back in [false, true] {
        let login = inside().await;
        let switched = switch(&login);
        let_in(&login).await;
        room_push(&login, exit(2)).await;
        login.until(|login| login.account.rooms().inside() == [OTHER]).await;
        if is_back {
            // The app enters the first room again. The switch was not to end this stay.
            let raise = |event| login.account.raise(event);
            let start = login.account.rooms().begin((info(ROOM), None), Entering::Enter, raise).unwrap();
            assert!(matches!(start, Start::Request(3, None)), "{start:?}");
            room_push(&login, entrance(ROOM, 3, 3)).await;
            login.until(|login| login.account.rooms().check_sending(ROOM).is_ok()).await;
        }
        login.fake.0.lock().holds_answers = false;
        assert_eq!(switched.await.unwrap().base_info, Some(info(OTHER)));
        assert_eq!(asked(&login, "Room/LeaveRoom"), 0);
        assert_eq!(login.account.rooms().check_sending(ROOM).is_ok(), is_back);
    }
}

/// Nothing has told the device that it is out of the first room. It may be.
#[tokio::test]
async fn a_device_that_has_switched_without_an_answer_leaves_the_first_room() {
    for is_in_no_room in [false, true] {
        let login = inside().await;
        let switched = switch(&login);
        let_in(&login).await;
        {
            let mut world = login.fake.0.lock();
            (world.is_in_no_room, world.holds_answers) = (is_in_no_room, false);
        }
        assert_eq!(switched.await.unwrap().base_info, Some(info(OTHER)));
        assert_eq!(asked(&login, "Room/LeaveRoom"), 1);
        assert_eq!(login.account.rooms().inside(), [OTHER]);
    }
}

#[tokio::test]
async fn a_switch_of_rooms_fails_if_nobody_knows_whether_the_first_room_is_left() {
    let login = inside().await;
    let switched = switch(&login);
    let_in(&login).await;
    {
        let mut world = login.fake.0.lock();
        (world.late_for_rooms, world.holds_answers) = (1, false);
    }
    assert_eq!(switched.await.unwrap_err().code(), ErrorCode::NetworkModuleRequestTimeout);
    login.until(|login| asked(login, "Sync/ResumeRooms") == 1).await;
    assert_eq!(asked(&login, "Room/LeaveRoom"), 1);
    assert!(login.account.rooms().check_sending(OTHER).is_ok() && login.account.rooms().check_sending(ROOM).is_err());
}
