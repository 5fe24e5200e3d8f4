//! Rooms: limits, and what happens to many members.

use std::sync::Arc;

use futures_util::future::join_all;
use zim_integration_tests::{Device, RawClient, World, eventually, refusal, room, soon};
use zim_protocol::server::RoomService;
use zim_protocol::{
    ErrorCode, JoinRoomRequest, LeaveAllRoomRequest, LeaveRoomRequest, QueryRoomMemberAttributesListRequest,
    QueryRoomMembersAttributesRequest, RoomEvent, RoomMemberAttributesQueryConfig, RoomMemberQueryConfig, RoomState,
};
use zim_server::connection::{Caller, ConnectionState};
use zim_server::db::{Scope, Tx, params};

use crate::room::{create, delay, in_room, info, is_told, list, online, state, states, told};

/// The user is in as many rooms as they may be.
const OWN: ErrorCode = ErrorCode::RoomModuleTheNumberOfJoinedRoomsHasReachedLimit;
/// The app has as many rooms as it may have.
const ALL: ErrorCode = ErrorCode::RoomModuleTheNumberOfExistingRoomsHasReachedLimit;

/// Lets users enter the room with clients of their own: `u0` and so on.
async fn crowd(world: &World, count: u8) -> Vec<RawClient> {
    let mut crowd = Vec::new();
    for number in 0..count {
        let mut raw = world.raw_user(&format!("u{number}"), number).await;
        raw.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
        crowd.push(raw);
    }
    crowd
}

/// Who left the room, as the device was told.
fn left(device: &Device) -> Vec<String> {
    told(device).into_iter().filter_map(|one| one.strip_prefix("stage -").map(str::to_owned)).collect()
}

#[tokio::test]
async fn create_room_has_limits_of_rooms() {
    let world = World::with(|config| {
        config.limits.max_rooms = 3;
        config.limits.max_rooms_of_user = 2;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "one").await;
    create(&ann, "two").await;
    assert_eq!(refusal(soon(ann.create_room(info("three"), delay(0))).await), OWN);
    create(&bob, "three").await;
    assert_eq!(refusal(soon(ann.join_room("three")).await), OWN);
    assert_eq!(refusal(soon(bob.create_room(info("four"), delay(0))).await), ALL);
    // Who switches leaves one.
    soon(ann.switch_room("one", info("three"), false, delay(0))).await.unwrap();
    soon(bob.create_room(info("four"), delay(0))).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn create_room_at_once_keeps_to_the_limit_of_rooms() {
    let world = World::with(|config| config.limits.max_rooms = 3).await;
    let crowd = join_all((0..8).map(|number| {
        let world = &world;
        async move { world.user(&format!("u{number}")).await }
    }))
    .await;
    let rooms =
        crowd.iter().enumerate().map(|(number, device)| device.create_room(info(&format!("room{number}")), delay(0)));
    let created = soon(join_all(rooms)).await;
    let refused: Vec<ErrorCode> = created.into_iter().filter(Result::is_err).map(refusal).collect();
    assert_eq!(refused, [ALL; 5]);
    world.end().await;
}

#[tokio::test]
async fn switch_room_at_the_limit_may_create_the_other_room() {
    for most in [1, 2] {
        let world = World::with(|config| config.limits.max_rooms_of_user = most).await;
        let ann = world.user("ann").await;
        for number in 0..most {
            create(&ann, &format!("room{number}")).await;
        }
        assert_eq!(refusal(soon(ann.enter_room(info("other"), delay(0))).await), OWN);
        soon(ann.switch_room("room0", info("other"), true, delay(0))).await.unwrap();
        assert_eq!(list(&ann, "other").await, ["ann"]);
        // The first one has ended, and the other one has taken its place.
        let ended = soon(ann.query_room_online_member_count("room0")).await;
        assert_eq!(refusal(ended), ErrorCode::RoomModuleTheRoomDoesNotExist);
        assert_eq!(refusal(soon(ann.enter_room(info("room0"), delay(0))).await), OWN);
        world.end().await;
    }
}

#[tokio::test]
async fn join_room_refuses_one_more_than_the_room_holds() {
    let world = World::with(|config| config.limits.max_room_members = 2).await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(refusal(soon(cai.join_room("stage")).await), ErrorCode::RoomModuleJoinRoomError);
    assert_eq!(state(&cai).await.2, RoomEvent::ActiveEnter);
    assert_eq!(state(&cai).await, in_room("stage", RoomState::Disconnected, RoomEvent::EnterFailed));
    soon(bob.leave_room("stage")).await.unwrap();
    soon(cai.join_room("stage")).await.unwrap();
    world.end().await;
}

/// Lets users into the room who are not online, as if they had entered.
async fn fill(world: &World, count: i64) {
    let users = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) ";
    let statements = [
        "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
         SELECT i, a.app, 'user' || i, 0, '', '', '', 0, 0 FROM n CROSS JOIN account a WHERE a.name = 'ann'",
        "INSERT INTO room_member (conversation, account, device, place, leaves_at) \
         SELECT m.conversation, i, m.device, 1000000 + i, 0 FROM n CROSS JOIN room_member m \
         JOIN account a ON a.id = m.account WHERE a.name = 'ann'",
    ];
    let filled = world.server().app().db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        for statement in statements {
            assert_eq!(tx.execute(&format!("{users}{statement}"), &params![count]).await?, count.unsigned_abs());
        }
        tx.execute("UPDATE room SET members = members + $1", &params![count]).await?;
        Ok(())
    });
    filled.await.unwrap();
}

#[tokio::test]
async fn a_room_has_500_members_and_a_user_5_rooms_unless_a_setting_says_otherwise() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "stage").await;
    fill(&world, 498).await;
    soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(refusal(soon(cai.join_room("stage")).await), ErrorCode::RoomModuleJoinRoomError);
    // Bob is in one room already.
    for number in 1..5 {
        create(&bob, &format!("room{number}")).await;
    }
    assert_eq!(refusal(soon(bob.create_room(info("room5"), delay(0))).await), OWN);
    world.end().await;
}

#[tokio::test]
async fn query_room_member_list_has_the_first_500_members() {
    for others in [499, 500] {
        let world = World::new().await;
        let ann = world.user("ann").await;
        create(&ann, "stage").await;
        fill(&world, others).await;
        let page = async |next_flag: String| {
            let config = RoomMemberQueryConfig { next_flag, count: 100 };
            soon(ann.query_room_member_list("stage", config)).await.unwrap()
        };
        let (mut listed, mut next_flag) = (Vec::new(), String::new());
        loop {
            let found = page(next_flag).await;
            listed.extend(found.member_list.into_iter().map(|member| member.user_id));
            next_flag = found.next_flag;
            if next_flag.is_empty() {
                break;
            }
        }
        let expected: Vec<String> =
            std::iter::once("ann".to_owned()).chain((1..500).map(|number| format!("user{number}"))).collect();
        assert_eq!(listed, expected, "of {others} others");
        // Who makes up a flag sees no more.
        let after = page("1000499".to_owned()).await;
        assert!(after.member_list.is_empty() && after.next_flag.is_empty(), "{after:?}");
        let last = page("1000498".to_owned()).await;
        assert_eq!((last.member_list.len(), last.next_flag.as_str()), (1, ""));
        world.end().await;
    }
}

#[tokio::test]
async fn a_room_of_50_000_takes_the_last_one_and_no_other_and_shows_its_members() {
    let world = World::with(|config| config.limits.max_room_members = 50_000).await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "stage").await;
    fill(&world, 49_998).await;
    soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(online(&ann, "stage").await, 50_000);
    assert_eq!(refusal(soon(cai.join_room("stage")).await), ErrorCode::RoomModuleJoinRoomError);
    ann.say(room("stage"), "hi").await;
    bob.receives("hi").await;
    let (mut listed, mut next_flag) = (Vec::new(), String::new());
    loop {
        let config = RoomMemberQueryConfig { next_flag, count: 100 };
        let found = soon(bob.query_room_member_list("stage", config)).await.unwrap();
        listed.extend(found.member_list.into_iter().map(|member| member.user_id));
        next_flag = found.next_flag;
        if next_flag.is_empty() {
            break;
        }
    }
    let expected = ["ann", "bob"].map(str::to_owned).into_iter().chain((1..499).map(|number| format!("user{number}")));
    assert_eq!(listed, expected.collect::<Vec<_>>());
    // Those whom the list does not have are found by name.
    let found = soon(bob.query_room_members(["user49998", "cai", "user30000"], "stage")).await.unwrap();
    let mut found: Vec<_> = found.member_list.into_iter().map(|member| member.user_id).collect();
    found.sort_unstable();
    assert_eq!(found, ["user30000", "user49998"]);
    soon(bob.leave_room("stage")).await.unwrap();
    soon(cai.join_room("stage")).await.unwrap();
    assert_eq!(online(&ann, "stage").await, 50_000);
    world.end().await;
}

#[tokio::test]
async fn attributes_of_members_are_queried_1000_times_in_ten_seconds_in_a_room_and_5_times_in_30_by_a_user() {
    let world = World::with(|config| config.limits.handshakes_per_second_per_address = 10_000).await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let (most, per_user) = (1_000, 5);
    let query = QueryRoomMembersAttributesRequest { room_id: "stage".into(), user_ids: vec!["ann".into()] };
    let too_fast = ErrorCode::CommonModuleTriggerServerFrequencyLimit as i32;
    let asks = |number: usize| {
        let (world, query) = (&world, &query);
        async move {
            let mut raw = world.raw_user(&format!("u{number}"), 1).await;
            raw.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
            for _ in 0..per_user {
                raw.call(query).await.unwrap();
            }
            raw
        }
    };
    // Those of the room are not used up before the others have asked.
    let mut crowd = vec![asks(0).await];
    assert_eq!(crowd[0].call(&query).await.unwrap_err().code, too_fast, "the user's own are used up");
    let others: Vec<usize> = (1..most / per_user).collect();
    for some in others.chunks(25) {
        crowd.extend(join_all(some.iter().map(|number| asks(*number))).await);
    }
    // Those of the room are used up, of which there are a hundred more each second.
    let list = QueryRoomMemberAttributesListRequest {
        room_id: "stage".into(),
        config: Some(RoomMemberAttributesQueryConfig { next_flag: String::new(), count: 1 }),
    };
    let mut late = world.raw_user("late", 1).await;
    late.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
    assert_eq!(late.call(&query).await.unwrap_err().code, too_fast);
    assert_eq!(late.call(&list).await.unwrap_err().code, too_fast);
    world.clock.advance(10);
    late.call(&list).await.unwrap();
    assert_eq!(late.call(&query).await.unwrap_err().code, too_fast);
    crowd.push(late);
    RawClient::end_all(crowd).await;
    world.end().await;
}

#[tokio::test]
async fn join_room_in_a_large_room_tells_of_20_a_second() {
    let world = World::with(|config| config.limits.max_room_members_told = 2).await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let crowd = crowd(&world, 25).await;
    ann.say(room("stage"), "all").await;
    world.clock.advance(1_000);
    let last = world.user("last").await;
    soon(last.join_room("stage")).await.unwrap();
    is_told(&ann, "stage +last").await;
    // One before the room was large, twenty then, and the last.
    assert_eq!(told(&ann).len(), 22, "{:?}", told(&ann));
    assert_eq!(list(&ann, "stage").await.len(), 27);
    RawClient::end_all(crowd).await;
    world.end().await;
}

#[tokio::test]
async fn leave_room_in_a_large_room_tells_of_20_a_second() {
    let world = World::with(|config| config.limits.max_room_members_told = 1).await;
    let (ann, last) = (world.user("ann").await, world.user("last").await);
    create(&ann, "stage").await;
    soon(last.join_room("stage")).await.unwrap();
    let mut crowd = crowd(&world, 25).await;
    for raw in &mut crowd {
        raw.call(&LeaveRoomRequest { room_id: "stage".into() }).await.unwrap();
    }
    RawClient::end_all(crowd).await;
    world.clock.advance(1_000);
    soon(last.leave_room("stage")).await.unwrap();
    is_told(&ann, "stage -last").await;
    let expected = (0..20).map(|number| format!("u{number}")).chain(["last".to_owned()]);
    assert_eq!(left(&ann), expected.collect::<Vec<_>>());
    assert_eq!(list(&ann, "stage").await, ["ann"]);
    world.end().await;
}

/// The server carries out a request that the device has given up, after the device was told that it is still in the rooms.
#[tokio::test]
async fn a_device_in_large_rooms_that_gets_no_answer_is_told_that_it_has_left_them() {
    let world = World::with(|config| config.limits.max_room_members_told = 1).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let rooms = ["one", "two"];
    for room_id in rooms {
        create(&ann, room_id).await;
        soon(bob.join_room(room_id)).await.unwrap();
    }
    for server in world.servers() {
        let app = server.app();
        let is_bobs = |one: &Arc<ConnectionState>| one.identity().is_some_and(|who| *who.user_id == *"bob");
        for connection in app.fanout.all().into_iter().filter(is_bobs) {
            let caller = Caller::connected(connection);
            let left = soon(RoomService::leave_all_room(&**app, &caller, LeaveAllRoomRequest {})).await.unwrap();
            assert_eq!(left.room_ids, rooms);
        }
    }
    for room_id in rooms {
        let left = in_room(room_id, RoomState::Disconnected, RoomEvent::Success);
        eventually("Bob is told", async || states(&bob).contains(&left).then_some(())).await;
        is_told(&ann, &format!("{room_id} -bob")).await;
    }
    assert_eq!(states(&bob).len(), 6, "{:?}", states(&bob));
    world.end().await;
}

/// More members than one task lets out.
#[tokio::test]
async fn members_whose_time_ends_together_all_leave_the_room() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    // The clock stands still, so all of them leave at one time.
    RawClient::end_all(crowd(&world, 45).await).await;
    eventually("all are away", async || (online(&ann, "stage").await == 1).then_some(())).await;
    world.clock.advance(30_000);
    eventually("all have left", async || (list(&ann, "stage").await == ["ann"]).then_some(())).await;
    let mut all = eventually("told of all", async || Some(left(&ann)).filter(|all| all.len() == 45)).await;
    let mut expected: Vec<String> = (0..45).map(|number| format!("u{number}")).collect();
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
    world.end().await;
}
