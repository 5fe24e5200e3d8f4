//! Rooms that the operator makes, lists and ends.

use std::collections::HashMap;

use tonic::Code;
use zim_integration_tests::{World, eventually, refusal, room, soon};
use zim_protocol::{
    CreateServerRoomRequest, DestroyRoomRequest, ErrorCode, ListRoomsRequest, Message, RoomAdvancedConfig, RoomEvent,
    RoomState,
};

use super::room::{create, state, states};

fn wanted(world: &World, room_id: &str) -> CreateServerRoomRequest {
    CreateServerRoomRequest {
        app_id: world.app_id(),
        room_id: room_id.into(),
        room_name: format!("The {room_id}"),
        user_id: "host".into(),
        config: None,
    }
}

fn end(world: &World, room_id: &str) -> DestroyRoomRequest {
    DestroyRoomRequest { app_id: world.app_id(), room_id: room_id.into() }
}

#[tokio::test]
async fn create_server_room_makes_one_that_nobody_is_in() {
    let world = World::new().await;
    let (host, bob) = (world.user("host").await, world.user("bob").await);
    let mut operator = world.admin().await;
    let attributes = HashMap::from([("topic".to_owned(), "news".to_owned())]);
    let config = RoomAdvancedConfig { room_attributes: attributes.clone(), room_destroy_delay_time: 0 };
    let request = CreateServerRoomRequest { config: Some(config), ..wanted(&world, "stage") };
    let made = soon(operator.create_server_room(request.clone())).await.unwrap().into_inner();
    let base = made.room_info.unwrap().base_info.unwrap();
    assert_eq!((base.room_id.as_str(), base.room_name.as_str()), ("stage", "The stage"));
    // The host is not in it.
    let own = soon(host.send_to(room("stage"), Message::text("hi"))).await;
    assert_eq!(refusal(own), ErrorCode::MessageModuleSendMessageFailed);
    assert!(states(&host).is_empty());
    let entered = soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(entered.room_info.unwrap().base_info.unwrap().room_name, "The stage");
    let found = soon(bob.query_room_all_attributes("stage")).await.unwrap().room_attributes;
    assert_eq!(found, attributes);
    assert_eq!(soon(bob.query_room_online_member_count("stage")).await.unwrap().count, 1);
    // It is a room like any other: it ends with its last member.
    soon(bob.leave_room("stage")).await.unwrap();
    assert_eq!(refusal(soon(bob.join_room("stage")).await), ErrorCode::RoomModuleTheRoomDoesNotExist);
    soon(operator.create_server_room(request.clone())).await.unwrap();
    let many = (0..21).map(|number| (number.to_string(), String::new())).collect();
    let many = RoomAdvancedConfig { room_attributes: many, room_destroy_delay_time: 0 };
    let long = RoomAdvancedConfig { room_destroy_delay_time: 10_801, ..RoomAdvancedConfig::default() };
    for (bad, code) in [
        (request.clone(), Code::FailedPrecondition),
        (CreateServerRoomRequest { app_id: 1, ..request.clone() }, Code::NotFound),
        (CreateServerRoomRequest { user_id: "nobody".into(), ..wanted(&world, "other") }, Code::NotFound),
        (wanted(&world, ""), Code::InvalidArgument),
        (wanted(&world, &"x".repeat(129)), Code::InvalidArgument),
        (CreateServerRoomRequest { room_name: "x".repeat(65), ..wanted(&world, "other") }, Code::InvalidArgument),
        (CreateServerRoomRequest { config: Some(many), ..wanted(&world, "other") }, Code::FailedPrecondition),
        (CreateServerRoomRequest { config: Some(long), ..wanted(&world, "other") }, Code::InvalidArgument),
    ] {
        let refused = soon(operator.create_server_room(bad)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn create_server_room_ends_a_room_that_nobody_enters() {
    let world = World::new().await;
    let (host, _bob) = (world.user("host").await, world.user("bob").await);
    let mut operator = world.admin().await;
    let delay = |seconds| Some(RoomAdvancedConfig { room_destroy_delay_time: seconds, ..Default::default() });
    for (room_id, config) in [("short", delay(0)), ("used", delay(0)), ("long", delay(7_200))] {
        let request = CreateServerRoomRequest { config, ..wanted(&world, room_id) };
        soon(operator.create_server_room(request)).await.unwrap();
    }
    soon(host.join_room("used")).await.unwrap();
    let listed = async |operator: &mut zim_integration_tests::OperatorClient| {
        let request = ListRoomsRequest { app_id: world.app_id(), ..ListRoomsRequest::default() };
        let rooms = soon(operator.list_rooms(request)).await.unwrap().into_inner().rooms;
        rooms.into_iter().map(|room| room.room_id).collect::<Vec<_>>()
    };
    world.clock.advance(3_599_000);
    assert_eq!(listed(&mut operator).await, ["long", "short", "used"]);
    world.clock.advance(2_000);
    eventually("the end of the room", async || {
        let mut operator = world.admin().await;
        (listed(&mut operator).await == ["long", "used"]).then_some(())
    })
    .await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn destroy_room_tells_all_who_are_in_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    for device in [&ann, &bob] {
        while state(device).await.1 != RoomState::Connected {}
    }
    let mut operator = world.admin().await;
    assert_eq!(soon(operator.destroy_room(end(&world, "stage"))).await.unwrap().into_inner().users, 2);
    for device in [&ann, &bob] {
        let expected = ("stage".to_owned(), RoomState::Disconnected, RoomEvent::RoomNotExist);
        assert_eq!(state(device).await, expected);
        let sent = soon(device.send_to(room("stage"), Message::text("hi"))).await;
        assert_eq!(refusal(sent), ErrorCode::MessageModuleSendMessageFailed);
        assert_eq!(refusal(soon(device.join_room("stage")).await), ErrorCode::RoomModuleTheRoomDoesNotExist);
    }
    // Nobody has left it: it is gone.
    assert_eq!(states(&ann).len(), states(&bob).len());
    // The ID is free, and what comes is another room.
    create(&bob, "stage").await;
    assert_eq!(soon(bob.query_room_online_member_count("stage")).await.unwrap().count, 1);
    for (bad, code) in [
        (end(&world, "none"), Code::FailedPrecondition),
        (end(&world, ""), Code::InvalidArgument),
        (DestroyRoomRequest { app_id: 1, ..end(&world, "stage") }, Code::NotFound),
    ] {
        assert_eq!(soon(operator.destroy_room(bad)).await.unwrap_err().code(), code);
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_rooms_pages_in_the_order_of_their_ids() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for room_id in ["c", "a", "b"] {
        create(&ann, room_id).await;
    }
    soon(bob.join_room("b")).await.unwrap();
    let mut operator = world.admin().await;
    let request = |after: &str, count| ListRoomsRequest { app_id: world.app_id(), after: after.into(), count };
    let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = soon(operator.list_rooms(request(&after, 2))).await.unwrap().into_inner();
        found.extend(page.rooms);
        (after, pages) = (page.next, pages + 1);
        if after.is_empty() {
            break;
        }
    }
    let rows: Vec<_> = found.iter().map(|row| (row.room_id.as_str(), row.room_name.as_str(), row.users)).collect();
    assert_eq!((rows, pages), (vec![("a", "The a", 1), ("b", "The b", 2), ("c", "The c", 1)], 2));
    assert!(found.iter().all(|row| row.created_at > 0));
    assert_eq!(soon(operator.list_rooms(request("", 0))).await.unwrap().into_inner().rooms.len(), 3);
    for (bad, code) in [
        (request("", 101), Code::InvalidArgument),
        (request(&"x".repeat(129), 1), Code::InvalidArgument),
        (ListRoomsRequest { app_id: 1, ..request("", 1) }, Code::NotFound),
    ] {
        assert_eq!(soon(operator.list_rooms(bad)).await.unwrap_err().code(), code);
    }
    drop(operator);
    world.end().await;
}
