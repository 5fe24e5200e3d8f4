//! What the operator does with users: ending their stay in a room, and calls in their name.

use tonic::Code;
use zim_integration_tests::{World, eventually, group, refusal, room, soon};
use zim_protocol::{
    CallAsUserRequest, CreateGroupRequest, ErrorCode, Event, EventKind, GroupInfo, KickRoomUsersRequest, Message,
    RegisterUserRequest, RoomEvent, Rpc,
};

use super::room::create as create_room;

#[tokio::test]
async fn kick_room_users_ends_their_stay() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let _cai = world.user("cai").await;
    create_room(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let mut operator = world.admin().await;
    let request = |users: &[&str]| KickRoomUsersRequest {
        app_id: world.app_id(),
        room_id: "stage".into(),
        user_ids: users.iter().map(|user| (*user).into()).collect(),
    };
    let kicked = soon(operator.kick_room_users(request(&["bob", "cai", "bob"]))).await.unwrap().into_inner();
    assert_eq!(kicked.user_ids, ["bob"]);
    bob.until("the end of the stay", |events| {
        events.iter().find_map(|event| match event {
            Event::RoomStateChanged(event) if event.event() == RoomEvent::KickedOut => Some(()),
            _ => None,
        })
    })
    .await;
    ann.next(EventKind::RoomMemberLeft).await;
    assert_eq!(
        refusal(soon(bob.send_to(room("stage"), Message::text("hi"))).await),
        ErrorCode::MessageModuleSendMessageFailed
    );
    // They may return.
    soon(bob.join_room("stage")).await.unwrap();
    for (bad, code) in [
        (request(&["nobody"]), Code::NotFound),
        (request(&[]), Code::InvalidArgument),
        (KickRoomUsersRequest { room_id: "none".into(), ..request(&["bob"]) }, Code::FailedPrecondition),
    ] {
        assert_eq!(soon(operator.kick_room_users(bad)).await.unwrap_err().code(), code);
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn call_as_user_does_what_the_user_may() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    let register = RegisterUserRequest { app_id, user_id: "bot".into(), user_name: String::new() };
    soon(operator.register_user(register)).await.unwrap();
    let call = |user: &str, method: &str, payload: Vec<u8>| CallAsUserRequest {
        app_id,
        user_id: user.into(),
        method: method.into(),
        payload: payload.into(),
    };
    let info = GroupInfo { group_id: "crew".into(), ..GroupInfo::default() };
    let make = CreateGroupRequest { group_info: Some(info), user_ids: vec!["bob".into()], ..Default::default() };
    let method = CreateGroupRequest::METHOD.path;
    let made = soon(operator.call_as_user(call("bot", method, prost::Message::encode_to_vec(&make)))).await.unwrap();
    let made: zim_protocol::GroupCreatedResult = prost::Message::decode(made.into_inner().payload).unwrap();
    assert_eq!(made.group_info.unwrap().base_info.unwrap().group_id, "crew");
    bob.next(EventKind::GroupStateChanged).await;
    let list =
        bob.query_group_member_list("crew", zim_protocol::GroupMemberQueryConfig { count: 10, ..Default::default() });
    assert_eq!(soon(list).await.unwrap().user_list.len(), 2);
    // The rules are those of the user: Bob is not the owner.
    let dismiss = zim_protocol::DismissGroupRequest { group_id: "crew".into() };
    let dismiss = prost::Message::encode_to_vec(&dismiss);
    for (user, method, payload, code) in [
        ("bob", "Group/DismissGroup", dismiss.clone(), Code::FailedPrecondition),
        ("nobody", "Group/DismissGroup", dismiss.clone(), Code::NotFound),
        ("bob", "Group/CreateGroup", Vec::new(), Code::InvalidArgument),
        ("bob", "Group/CreateGroup", vec![0xff], Code::InvalidArgument),
        ("bob", "Session/Logout", Vec::new(), Code::InvalidArgument),
        ("bob", "Session/Login", Vec::new(), Code::FailedPrecondition),
        ("bob", "Admin/ListApps", Vec::new(), Code::FailedPrecondition),
        ("bob", "Group/Explode", Vec::new(), Code::FailedPrecondition),
        ("bob", "", Vec::new(), Code::InvalidArgument),
    ] {
        let refused = soon(operator.call_as_user(call(user, method, payload))).await.unwrap_err();
        assert_eq!(refused.code(), code, "{user} {method}: {refused}");
    }
    soon(operator.call_as_user(call("bot", "Group/DismissGroup", dismiss))).await.unwrap();
    eventually("the end of the group", async || bob.conversation(group("crew")).await.is_disabled.then_some(())).await;
    drop(operator);
    world.end().await;
}
