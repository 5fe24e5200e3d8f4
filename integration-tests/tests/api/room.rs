//! Rooms: who enters and leaves, and who hears of it.

use zim_integration_tests::{Device, World, eventually, refusal, room, soon};
use zim_protocol::{
    CreateRoomRequest, EnterRoomRequest, ErrorCode, Event, EventKind, JoinRoomRequest, LeaveAllRoomRequest,
    LeaveRoomRequest, LoginRequest, ResumeRoomsRequest, RoomAdvancedConfig, RoomEvent, RoomInfo, RoomMemberQueryConfig,
    RoomRef, RoomState, SwitchRoomRequest,
};
use zim_server::db::Dialect;

const NOT_IN: ErrorCode = ErrorCode::RoomModuleUserIsNotInTheRoom;
const NONE: ErrorCode = ErrorCode::RoomModuleTheRoomDoesNotExist;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

pub(crate) fn info(room_id: &str) -> RoomInfo {
    RoomInfo { room_id: room_id.into(), room_name: format!("The {room_id}") }
}

/// Creates a room that ends with its last member.
pub(crate) async fn create(device: &Device, room_id: &str) {
    soon(device.create_room(info(room_id), RoomAdvancedConfig::default())).await.unwrap();
}

/// A config with a delay, seconds.
pub(crate) fn delay(seconds: i64) -> RoomAdvancedConfig {
    RoomAdvancedConfig { room_destroy_delay_time: seconds, ..RoomAdvancedConfig::default() }
}

/// Returns the next change of the device's own state in a room.
pub(crate) async fn state(device: &Device) -> (String, RoomState, RoomEvent) {
    match device.next(EventKind::RoomStateChanged).await {
        Event::RoomStateChanged(event) => (event.room_id.clone(), event.state(), event.event()),
        other => panic!("{other:?}"),
    }
}

/// All changes of the device's own state that it has seen.
pub(crate) fn states(device: &Device) -> Vec<(String, RoomState, RoomEvent)> {
    let seen = device.seen_of(EventKind::RoomStateChanged);
    let of = |event: &Event| match event {
        Event::RoomStateChanged(event) => (event.room_id.clone(), event.state(), event.event()),
        other => panic!("{other:?}"),
    };
    seen.iter().map(of).collect()
}

pub(crate) fn in_room(room_id: &str, state: RoomState, event: RoomEvent) -> (String, RoomState, RoomEvent) {
    (room_id.to_owned(), state, event)
}

/// Who entered and left, as the device was told: `+ann`, `-bob`, with the room.
pub(crate) fn told(device: &Device) -> Vec<String> {
    told_in(&device.seen())
}

fn told_in(seen: &[Event]) -> Vec<String> {
    let mut told = Vec::new();
    for event in seen {
        let (sign, room_id, members) = match event {
            Event::RoomMemberJoined(event) => ('+', &event.room_id, &event.member_list),
            Event::RoomMemberLeft(event) => ('-', &event.room_id, &event.member_list),
            _ => continue,
        };
        told.extend(members.iter().map(|member| format!("{room_id} {sign}{}", member.user_id)));
    }
    told
}

/// Waits until the device was told of this.
pub(crate) async fn is_told(device: &Device, what: &str) {
    let is_told = |seen: &[Event]| told_in(seen).iter().any(|one| one == what).then_some(());
    device.until(&format!("told of {what}"), is_told).await;
}

pub(crate) async fn list(device: &Device, room_id: &str) -> Vec<String> {
    let config = RoomMemberQueryConfig { next_flag: String::new(), count: 100 };
    let page = soon(device.query_room_member_list(room_id, config)).await.unwrap();
    assert_eq!((page.room_id.as_str(), page.next_flag.as_str()), (room_id, ""));
    page.member_list.into_iter().map(|member| member.user_id).collect()
}

pub(crate) async fn online(device: &Device, room_id: &str) -> i64 {
    soon(device.query_room_online_member_count(room_id)).await.unwrap().count
}

#[tokio::test]
async fn create_room_lets_the_creator_in_and_refuses_a_second_one() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let tablet = world.device("ann").await;
    let created = soon(ann.create_room(info("stage"), RoomAdvancedConfig::default())).await.unwrap();
    assert_eq!(created.room_info.unwrap().base_info.unwrap(), info("stage"));
    assert_eq!(
        states(&ann),
        [
            in_room("stage", RoomState::Connecting, RoomEvent::ActiveCreate),
            in_room("stage", RoomState::Connected, RoomEvent::Success)
        ]
    );
    assert_eq!((list(&ann, "stage").await, online(&ann, "stage").await), (vec!["ann".to_owned()], 1));
    let exists = ErrorCode::RoomModuleTheRoomAlreadyExists;
    assert_eq!(refusal(soon(bob.create_room(info("stage"), RoomAdvancedConfig::default())).await), exists);
    assert_eq!(state(&bob).await, in_room("stage", RoomState::Connecting, RoomEvent::ActiveCreate));
    assert_eq!(state(&bob).await, in_room("stage", RoomState::Disconnected, RoomEvent::CreateFailed));
    // The device is in it and stays there.
    assert_eq!(refusal(soon(ann.create_room(info("stage"), RoomAdvancedConfig::default())).await), exists);
    assert_eq!(states(&ann).len(), 2);
    assert!(states(&tablet).is_empty() && told(&tablet).is_empty() && told(&bob).is_empty());
    world.end().await;
}

#[tokio::test]
async fn create_room_takes_an_id_and_a_name_of_the_longest_length() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let longest = RoomInfo { room_id: "r".repeat(128), room_name: "é".repeat(32) };
    soon(ann.create_room(longest.clone(), delay(10_800))).await.unwrap();
    let bad = [
        (RoomInfo { room_id: "r".repeat(129), ..info("x") }, delay(0)),
        (RoomInfo { room_id: String::new(), ..info("x") }, delay(0)),
        (RoomInfo { room_id: "a room".into(), ..info("x") }, delay(0)),
        (RoomInfo { room_name: "é".repeat(32) + "x", ..info("x") }, delay(0)),
        (info("x"), delay(10_801)),
        (info("x"), delay(-1)),
    ];
    let mut raw = world.raw_user("bob", 1).await;
    for (info, config) in bad {
        assert_eq!(refusal(soon(ann.create_room(info.clone(), config.clone())).await), INVALID);
        let request = CreateRoomRequest { room_info: Some(info), config: Some(config), entry_number: 0 };
        assert_eq!(raw.call(&request).await.unwrap_err().code, INVALID as i32);
    }
    raw.end().await;
    assert_eq!(states(&ann).len(), 2, "a wrong parameter is no attempt");
    world.end().await;
}

#[tokio::test]
async fn join_room_tells_the_members_and_nobody_else() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (tablet, dan) = (world.device("bob").await, world.user("dan").await);
    create(&ann, "stage").await;
    create(&dan, "other").await;
    assert_eq!(refusal(soon(bob.join_room("none")).await), NONE);
    assert_eq!(state(&bob).await, in_room("none", RoomState::Connecting, RoomEvent::ActiveEnter));
    assert_eq!(state(&bob).await, in_room("none", RoomState::Disconnected, RoomEvent::RoomNotExist));
    let joined = soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(joined.room_info.unwrap().base_info.unwrap(), info("stage"));
    assert_eq!(state(&bob).await, in_room("stage", RoomState::Connecting, RoomEvent::ActiveEnter));
    assert_eq!(state(&bob).await, in_room("stage", RoomState::Connected, RoomEvent::Success));
    // Again changes nothing.
    let again = soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(again.room_info.unwrap().base_info.unwrap(), info("stage"));
    soon(cai.join_room("stage")).await.unwrap();
    is_told(&ann, "stage +cai").await;
    is_told(&bob, "stage +cai").await;
    soon(cai.leave_room("stage")).await.unwrap();
    is_told(&ann, "stage -cai").await;
    is_told(&bob, "stage -cai").await;
    assert_eq!(told(&ann), ["stage +bob", "stage +cai", "stage -cai"]);
    assert_eq!(told(&bob), ["stage +cai", "stage -cai"]);
    crate::call::barrier(&ann, &[("bob", &tablet), ("cai", &cai), ("dan", &dan)], "later").await;
    assert_eq!([&cai, &tablet, &dan].map(told).concat(), [""; 0]);
    assert!(states(&tablet).is_empty());
    assert_eq!(states(&bob).len(), 4);
    world.end().await;
}

#[tokio::test]
async fn join_room_by_another_device_of_the_user_ends_the_stay_of_the_first() {
    let world = World::new().await;
    let (ann, bob, tablet) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    soon(tablet.join_room("stage")).await.unwrap();
    let (connecting, connected) = (state(&bob).await, state(&bob).await);
    assert_eq!((connecting.1, connected.1), (RoomState::Connecting, RoomState::Connected));
    let kicked = in_room("stage", RoomState::Disconnected, RoomEvent::KickedOutByOtherDevice);
    assert_eq!(state(&bob).await, kicked);
    assert_eq!(list(&ann, "stage").await, ["ann", "bob"]);
    // The messages go to the tablet alone.
    ann.say(room("stage"), "to the tablet").await;
    tablet.receives("to the tablet").await;
    crate::call::barrier(&ann, &[("bob", &bob)], "later").await;
    assert!(bob.received_from("stage").is_empty());
    // And back.
    soon(bob.join_room("stage")).await.unwrap();
    eventually("the tablet is out", async || (states(&tablet).len() == 3).then_some(())).await;
    assert_eq!(states(&tablet)[2], kicked);
    ann.say(room("stage"), "to the phone").await;
    bob.receives("to the phone").await;
    assert_eq!(told(&ann), ["stage +bob"], "the user has been in the room all the time");
    world.end().await;
}

#[tokio::test]
async fn join_room_twice_on_one_connection_is_refused_by_the_server() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let mut raw = world.raw_user("bob", 1).await;
    let join = JoinRoomRequest { room_id: "stage".into(), entry_number: 7 };
    raw.call(&join).await.unwrap();
    assert_eq!(raw.call(&join).await.unwrap_err().code, ErrorCode::RoomModuleUserIsAlreadyInTheRoom as i32);
    // It tells again what the room is, for a client that has lost the answer.
    let room = RoomRef { room_id: "stage".into(), number: 0, entry_number: 8 };
    assert!(raw.call(&ResumeRoomsRequest { rooms: vec![room] }).await.unwrap().lost.is_empty());
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn login_leaves_the_rooms_that_it_does_not_name() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut raw = world.raw_after_hello(1).await;
    let resume = raw.call(&world.login_request("bob")).await.unwrap().session;
    for room_id in ["stage", "hall"] {
        create(&ann, room_id).await;
        raw.call(&JoinRoomRequest { room_id: room_id.into(), entry_number: 7 }).await.unwrap();
    }
    let mut again = world.raw_after_hello(1).await;
    let in_rooms = vec!["stage".into()];
    again.call(&LoginRequest { in_rooms, resume, ..world.login_request("bob") }).await.unwrap();
    assert_eq!(list(&ann, "stage").await, ["ann", "bob"]);
    assert_eq!(list(&ann, "hall").await, ["ann"]);
    raw.end().await;
    again.end().await;
    world.end().await;
}

#[tokio::test]
async fn join_room_is_for_devices() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let mut raw = world.raw_after_hello(9).await;
    raw.call(&world.one_shot_request("ann")).await.unwrap();
    let refused = ErrorCode::RoomModuleJoinRoomError as i32;
    let join = JoinRoomRequest { room_id: "stage".into(), entry_number: 0 };
    assert_eq!(raw.call(&join).await.unwrap_err().code, refused);
    let create = CreateRoomRequest { room_info: Some(info("x")), config: None, entry_number: 0 };
    assert_eq!(raw.call(&create).await.unwrap_err().code, ErrorCode::RoomModuleCreateRoomError as i32);
    let enter = EnterRoomRequest { room_info: Some(info("x")), config: None, entry_number: 0 };
    assert_eq!(raw.call(&enter).await.unwrap_err().code, refused);
    // It leaves for the user, wherever they are.
    raw.call(&LeaveRoomRequest { room_id: "stage".into() }).await.unwrap();
    eventually("ann is out", async || (states(&ann).len() == 3).then_some(())).await;
    assert_eq!(states(&ann)[2], in_room("stage", RoomState::Disconnected, RoomEvent::Success));
    assert!(raw.call(&LeaveAllRoomRequest {}).await.unwrap().room_ids.is_empty());
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn enter_room_creates_the_room_or_joins_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let entered = soon(ann.enter_room(info("stage"), delay(60))).await.unwrap();
    assert_eq!(entered.room_info.unwrap().base_info.unwrap(), info("stage"));
    let other = RoomInfo { room_name: "another name".into(), ..info("stage") };
    let entered = soon(bob.enter_room(other, delay(0))).await.unwrap();
    assert_eq!(entered.room_info.unwrap().base_info.unwrap(), info("stage"), "the creator's name counts");
    is_told(&ann, "stage +bob").await;
    for device in [&ann, &bob] {
        let (connecting, connected) = (RoomEvent::ActiveEnter, RoomEvent::Success);
        assert_eq!(
            states(device),
            [in_room("stage", RoomState::Connecting, connecting), in_room("stage", RoomState::Connected, connected)]
        );
    }
    // Many at once create one room.
    let crowd: Vec<Device> = futures_util::future::join_all((0..8).map(|number| {
        let world = &world;
        async move { world.user(&format!("u{number}")).await }
    }))
    .await;
    let all = crowd.iter().map(|device| device.enter_room(info("rush"), delay(0)));
    for entered in futures_util::future::join_all(all).await {
        entered.unwrap();
    }
    assert_eq!(list(&crowd[0], "rush").await.len(), 8);
    world.end().await;
}

#[tokio::test]
async fn switch_room_enters_one_room_and_leaves_another() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "one").await;
    create(&bob, "two").await;
    soon(cai.join_room("one")).await.unwrap();
    let before = states(&cai).len();
    // There is no such room, and none is made.
    assert_eq!(refusal(soon(cai.switch_room("one", info("none"), false, delay(0))).await), NONE);
    assert_eq!(refusal(soon(cai.switch_room("two", info("one"), false, delay(0))).await), NOT_IN);
    let failed: Vec<_> = states(&cai).split_off(before);
    assert_eq!(
        failed,
        [
            in_room("none", RoomState::Connecting, RoomEvent::ActiveSwitch),
            in_room("none", RoomState::Disconnected, RoomEvent::RoomNotExist)
        ],
        "the device is in the room that it would have switched to"
    );
    let switched = soon(cai.switch_room("one", info("two"), false, delay(0))).await.unwrap();
    assert_eq!(switched.room_info.unwrap().base_info.unwrap(), info("two"));
    let done: Vec<_> = states(&cai).split_off(before + failed.len());
    assert_eq!(
        done,
        [
            in_room("two", RoomState::Connecting, RoomEvent::ActiveSwitch),
            in_room("two", RoomState::Connected, RoomEvent::Success),
            in_room("one", RoomState::Disconnected, RoomEvent::Success)
        ]
    );
    is_told(&ann, "one -cai").await;
    is_told(&bob, "two +cai").await;
    soon(cai.switch_room("two", info("three"), true, delay(0))).await.unwrap();
    assert_eq!(list(&cai, "three").await, ["cai"]);
    let mut raw = world.raw_user("dan", 1).await;
    let same = SwitchRoomRequest {
        from_room_id: "one".into(),
        to_room_info: Some(info("one")),
        ..SwitchRoomRequest::default()
    };
    assert_eq!(raw.call(&same).await.unwrap_err().code, INVALID as i32);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn leave_room_ends_the_room_with_its_last_member() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    assert_eq!(refusal(soon(ann.leave_room("stage")).await), NOT_IN);
    create(&ann, "stage").await;
    let mut raw = world.raw_user("cai", 1).await;
    let code = |code: ErrorCode| code as i32;
    assert_eq!(raw.call(&LeaveRoomRequest { room_id: "stage".into() }).await.unwrap_err().code, code(NOT_IN));
    assert_eq!(raw.call(&LeaveRoomRequest { room_id: "none".into() }).await.unwrap_err().code, code(NONE));
    raw.end().await;
    assert_eq!(soon(ann.leave_room("stage")).await.unwrap().room_id, "stage");
    assert_eq!(states(&ann)[2], in_room("stage", RoomState::Disconnected, RoomEvent::Success));
    assert_eq!(refusal(soon(bob.join_room("stage")).await), NONE);
    // The ID names another room then.
    soon(bob.create_room(RoomInfo { room_name: "another".into(), ..info("stage") }, delay(0))).await.unwrap();
    let joined = soon(ann.join_room("stage")).await.unwrap();
    assert_eq!(joined.room_info.unwrap().base_info.unwrap().room_name, "another");
    bob.say(room("stage"), "in the second one").await;
    ann.receives("in the second one").await;
    assert_eq!(told(&bob), ["stage +ann"]);
    world.end().await;
}

#[tokio::test]
async fn leave_room_keeps_a_room_for_its_delay() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(ann.create_room(info("stage"), delay(100))).await.unwrap();
    soon(ann.leave_room("stage")).await.unwrap();
    world.clock.advance(99_000);
    // Somebody returns in time: the delay begins anew when they leave.
    let joined = soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(joined.room_info.unwrap().base_info.unwrap(), info("stage"));
    world.clock.advance(50_000);
    assert_eq!(list(&bob, "stage").await, ["bob"]);
    soon(bob.leave_room("stage")).await.unwrap();
    world.clock.advance(99_000);
    soon(ann.join_room("stage")).await.unwrap();
    soon(ann.leave_room("stage")).await.unwrap();
    world.clock.advance(100_000);
    eventually("the room has ended", async || {
        let joined = bob.join_room("stage").await;
        if joined.is_ok() {
            bob.leave_room("stage").await.unwrap();
            world.clock.advance(100_000);
        }
        joined.err().map(|error| assert_eq!(error.code(), NONE))
    })
    .await;
    world.end().await;
}

/// Nobody can leave these rooms while `is_on`.
async fn hold(world: &World, rooms: &[&str], is_on: bool) {
    let names = rooms.iter().map(|room_id| format!("'{room_id}'")).collect::<Vec<_>>().join(", ");
    let held = format!("OLD.conversation IN (SELECT id FROM conversation WHERE type = 1 AND name IN ({names}))");
    let done = world.server().app().db.submit(zim_server::db::Scope::none(), async move |tx| {
        let statements = match (tx.dialect(), is_on) {
            (Dialect::Sqlite, true) => vec![format!(
                "CREATE TRIGGER held BEFORE DELETE ON room_member WHEN {held} BEGIN SELECT RAISE(ABORT, 'held'); END"
            )],
            (Dialect::Sqlite, false) => vec!["DROP TRIGGER held".to_owned()],
            (Dialect::Postgres, true) => vec![
                format!(
                    "CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF {held} THEN \
                     RAISE EXCEPTION 'held'; END IF; RETURN OLD; END$$"
                ),
                "CREATE TRIGGER held BEFORE DELETE ON room_member FOR EACH ROW EXECUTE FUNCTION held()".to_owned(),
            ],
            (Dialect::Postgres, false) => {
                vec!["DROP TRIGGER held ON room_member".to_owned(), "DROP FUNCTION held".to_owned()]
            }
        };
        for statement in statements {
            tx.execute(&statement, &[]).await?;
        }
        Ok(())
    });
    done.await.unwrap();
}

#[tokio::test]
async fn switch_room_that_fails_in_the_middle_leaves_the_device_where_it_is_told() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "one").await;
    create(&bob, "two").await;
    hold(&world, &["one", "two"], true).await;
    let switch = || ann.switch_room("one", info("two"), false, RoomAdvancedConfig::default());
    assert!(soon(switch()).await.is_err());
    // It is still in the first room, and as far as it knows in the second one.
    let last = |room_id: &str| states(&ann).into_iter().rfind(|(room, ..)| room == room_id).map(|(_, state, _)| state);
    assert_eq!(last("one"), Some(RoomState::Connected));
    assert_eq!(list(&ann, "one").await, ["ann"]);
    if last("two") == Some(RoomState::Connected) {
        assert_eq!(list(&ann, "two").await, ["bob", "ann"]);
    }
    hold(&world, &["one", "two"], false).await;
    soon(ann.leave_room("one")).await.unwrap();
    assert_eq!(last("one"), Some(RoomState::Disconnected));
    // It may still ask whether it is in the second one.
    let enters = async || soon(ann.enter_room(info("two"), RoomAdvancedConfig::default())).await.ok();
    eventually("Ann enters", enters).await;
    assert_eq!(list(&bob, "two").await, ["bob", "ann"]);
    assert!(!world.logged().errors().is_empty(), "the log has the failure");
    world.end().await;
}

#[tokio::test]
async fn leave_all_room_leaves_those_of_this_device() {
    let world = World::new().await;
    let (ann, bob, tablet) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    for room_id in ["one", "two", "three"] {
        create(&ann, room_id).await;
    }
    soon(bob.join_room("one")).await.unwrap();
    soon(bob.join_room("two")).await.unwrap();
    soon(tablet.join_room("three")).await.unwrap();
    let left = soon(bob.leave_all_room()).await.unwrap();
    assert_eq!(left.room_ids, ["one", "two"]);
    assert_eq!(
        states(&bob).split_off(4),
        ["one", "two"].map(|room_id| in_room(room_id, RoomState::Disconnected, RoomEvent::Success))
    );
    is_told(&ann, "one -bob").await;
    is_told(&ann, "two -bob").await;
    assert_eq!(list(&ann, "three").await, ["ann", "bob"]);
    assert!(soon(bob.leave_all_room()).await.unwrap().room_ids.is_empty());
    assert_eq!(states(&tablet).len(), 2);
    world.end().await;
}

#[tokio::test]
async fn leaving_all_rooms_tells_which_rooms_the_device_is_in_if_it_fails_in_the_middle() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for room_id in ["one", "two"] {
        create(&ann, room_id).await;
        soon(bob.join_room(room_id)).await.unwrap();
    }
    hold(&world, &["two"], true).await;
    assert!(soon(bob.leave_all_room()).await.is_err());
    let last =
        |id: &str| states(&bob).into_iter().rfind(|(room, ..)| room == id).map(|(_, state, event)| (state, event));
    for (room_id, expected) in [("one", RoomState::Disconnected), ("two", RoomState::Connected)] {
        let is = async || (last(room_id) == Some((expected, RoomEvent::Success))).then_some(());
        eventually("the room is left, or the device is back in it", is).await;
    }
    is_told(&ann, "one -bob").await;
    assert_eq!(list(&ann, "two").await, ["ann", "bob"]);
    hold(&world, &["two"], false).await;
    assert_eq!(soon(bob.leave_all_room()).await.unwrap().room_ids, ["two"]);
    assert!(!world.logged().errors().is_empty(), "the log has the failure");
    world.end().await;
}

#[tokio::test]
async fn join_room_and_create_room_and_leave_room_wait_for_each_other() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    let joining = bob.join_room("stage");
    let connecting = ErrorCode::RoomModuleTheRoomIsConnecting;
    assert_eq!(refusal(soon(bob.join_room("stage")).await), connecting);
    assert_eq!(refusal(soon(bob.create_room(info("stage"), delay(0))).await), connecting);
    assert_eq!(refusal(soon(bob.leave_room("stage")).await), connecting);
    soon(joining).await.unwrap();
    let leaving = bob.leave_room("stage");
    assert_eq!(refusal(soon(bob.enter_room(info("stage"), delay(0))).await), connecting);
    soon(leaving).await.unwrap();
    soon(bob.join_room("stage")).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn query_room_members_returns_those_who_are_in_the_room() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let found = soon(ann.query_room_members(["bob", "cai", "nobody", "ann"], "stage")).await.unwrap();
    assert_eq!(found.room_id, "stage");
    assert_eq!(found.member_list.iter().map(|member| member.user_id.as_str()).collect::<Vec<_>>(), ["bob", "ann"]);
    let errors: Vec<_> = found.error_user_list.iter().map(|error| (error.user_id.as_str(), error.reason)).collect();
    let no_user = ErrorCode::CommonModuleUserIsNotExist as i64;
    assert_eq!(errors, [("nobody", no_user), ("cai", NOT_IN as i64)]);
    let nobody = ErrorCode::RoomModuleTheRoomMembersQueryFailedCompletely;
    assert_eq!(refusal(soon(ann.query_room_members(["cai"], "stage")).await), nobody);
    assert_eq!(refusal(soon(cai.query_room_members(["ann"], "stage")).await), NOT_IN);
    assert_eq!(refusal(soon(ann.query_room_members(["ann"], "none")).await), NONE);
    let many = |count: usize| (0..count).map(|number| format!("u{number}")).chain(["ann".to_owned()]);
    soon(ann.query_room_members(many(9), "stage")).await.unwrap();
    assert_eq!(refusal(soon(ann.query_room_members(many(10), "stage")).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn query_room_member_list_has_pages_in_the_order_of_entering() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let mut expected = vec!["ann".to_owned()];
    for number in 0..5 {
        let device = world.user(&format!("u{number}")).await;
        soon(device.join_room("stage")).await.unwrap();
        expected.push(format!("u{number}"));
    }
    let (mut listed, mut next_flag, mut sizes) = (Vec::new(), String::new(), Vec::new());
    loop {
        let config = RoomMemberQueryConfig { next_flag, count: 4 };
        let page = soon(ann.query_room_member_list("stage", config)).await.unwrap();
        sizes.push(page.member_list.len());
        listed.extend(page.member_list.into_iter().map(|member| member.user_id));
        next_flag = page.next_flag;
        if next_flag.is_empty() {
            break;
        }
    }
    assert_eq!((listed, sizes), (expected, vec![4, 2]));
    let query = |device: &Device, room_id: &str, next_flag: &str, count| {
        device.query_room_member_list(room_id, RoomMemberQueryConfig { next_flag: next_flag.into(), count })
    };
    for (flag, count) in [("", 0), ("", 101), ("x", 1), ("-1", 1), ("1.0", 1)] {
        assert_eq!(refusal(soon(query(&ann, "stage", flag, count)).await), INVALID, "{flag} {count}");
    }
    let stranger = world.user("dan").await;
    assert_eq!(refusal(soon(query(&stranger, "stage", "", 1)).await), NOT_IN);
    assert_eq!(refusal(soon(query(&ann, "none", "", 1)).await), NONE);
    world.end().await;
}

#[tokio::test]
async fn query_room_online_member_count_is_for_members() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    assert_eq!(refusal(soon(bob.query_room_online_member_count("stage")).await), NOT_IN);
    assert_eq!(refusal(soon(bob.query_room_online_member_count("none")).await), NONE);
    soon(bob.join_room("stage")).await.unwrap();
    assert_eq!((online(&ann, "stage").await, online(&bob, "stage").await), (2, 2));
    world.end().await;
}

#[tokio::test]
async fn resume_rooms_says_which_are_lost_and_why() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    create(&ann, "hall").await;
    soon(bob.join_room("stage")).await.unwrap();
    let mut raw = world.raw_user("bob", 1).await;
    let room = |room_id: &str, number| RoomRef { room_id: room_id.into(), number, entry_number: 1 };
    let rooms = vec![room("none", 0), room("stage", 0), room("hall", 0), room("stage", 1)];
    let lost = raw.call(&ResumeRoomsRequest { rooms }).await.unwrap().lost;
    let lost: Vec<_> = lost.iter().map(|lost| (lost.room_id.as_str(), lost.event())).collect();
    let expected = [
        ("none", RoomEvent::RoomNotExist),
        ("stage", RoomEvent::KickedOutByOtherDevice),
        ("hall", RoomEvent::ConnectTimeout),
        // Another room had the ID.
        ("stage", RoomEvent::RoomNotExist),
    ];
    assert_eq!(lost, expected);
    assert_eq!(raw.call(&ResumeRoomsRequest { rooms: vec![] }).await.unwrap_err().code, INVALID as i32);
    raw.end().await;
    world.end().await;
}
