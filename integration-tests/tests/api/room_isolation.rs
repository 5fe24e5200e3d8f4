//! Nothing of a room reaches a connection that is not in it, and who is not in it can do nothing there. With clients that, other
//! than the SDK, show whatever the server sends them.

use std::collections::HashMap;

use zim_integration_tests::{Device, RawClient, World, room, send_text, soon};
use zim_protocol::{
    ConversationType, CreateAppRequest, CreateRoomRequest, DeleteRoomAttributesRequest,
    EndRoomAttributesBatchOperationRequest, ErrorCode, EventKind, JoinRoomRequest, LeaveAllRoomRequest,
    LeaveRoomRequest, LoginRequest, Message, QueryRoomAllAttributesRequest, QueryRoomMemberAttributesListRequest,
    QueryRoomMemberListRequest, QueryRoomMembersAttributesRequest, QueryRoomMembersRequest,
    QueryRoomOnlineMemberCountRequest, ResumeRoomsRequest, RoomAttributesSetConfig, RoomAttributesUpdateAction,
    RoomAttributesUpdateInfo, RoomEvent, RoomInfo, RoomMemberAttributesQueryConfig, RoomMemberAttributesSetConfig,
    RoomMemberQueryConfig, RoomPush, RoomRef, Rpc, SendBarrageRequest, SendMessageRequest, SetRoomAttributesRequest,
    SetRoomMembersAttributesRequest, SwitchRoomRequest, SyncRequest, event_frame::Frame, room_push::Detail,
};

use crate::room::{create, is_told};

const ROOM: i32 = ConversationType::Room as i32;

/// Sends a text to the user of a connection; returns what came of rooms before it.
async fn heard(raw: &mut RawClient, from: &Device, user: &str, text: &str) -> Vec<Frame> {
    from.say(user, text).await;
    let mut heard = Vec::new();
    loop {
        let frame = raw.event().await.unwrap();
        let is_of_room = match &frame {
            Frame::Room(_) => true,
            Frame::Transient(transient) => transient.conversation.as_ref().is_some_and(|name| name.r#type == ROOM),
            Frame::Dirty(dirty) => dirty.conversations.iter().any(|name| name.r#type == ROOM),
            Frame::Push(push) => {
                let is_it = |content: &[u8]| content.windows(text.len()).any(|bytes| bytes == text.as_bytes());
                if push.messages.iter().any(|message| is_it(&message.content)) {
                    return heard;
                }
                push.conversation.as_ref().is_some_and(|name| name.r#type == ROOM)
            }
            _ => false,
        };
        if is_of_room {
            heard.push(frame);
        }
    }
}

/// Lets all that can happen in a room happen.
async fn everything(ann: &Device, bob: &Device) {
    soon(bob.join_room("stage")).await.unwrap();
    is_told(ann, "stage +bob").await;
    ann.say(room("stage"), "a secret").await;
    soon(bob.send_to(room("stage"), Message::command(vec![1]))).await.unwrap();
    soon(bob.send_to(room("stage"), Message::barrage("wow"))).await.unwrap();
    let pairs = || HashMap::from([("key".to_owned(), "value".to_owned())]);
    soon(ann.set_room_attributes(pairs(), "stage", RoomAttributesSetConfig::default())).await.unwrap();
    let config = RoomMemberAttributesSetConfig::default();
    soon(bob.set_room_members_attributes(pairs(), ["ann", "bob"], "stage", config)).await.unwrap();
    ann.next(EventKind::RoomMemberAttributesUpdated).await;
    soon(bob.leave_room("stage")).await.unwrap();
    is_told(ann, "stage -bob").await;
}

#[tokio::test]
async fn nothing_of_a_room_reaches_a_connection_that_is_not_in_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    // One that never was in it, another device of a member, one that has left, and one of another app that has a room with
    // the same ID.
    let mut never = world.raw_user("eve", 1).await;
    let mut other_device = world.raw_user("ann", 2).await;
    let mut gone = world.raw_user("cai", 3).await;
    for raw in [&mut never, &mut other_device, &mut gone] {
        raw.call(&SyncRequest::default()).await.unwrap();
    }
    gone.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
    ann.say(room("stage"), "hello").await;
    let before = heard(&mut gone, &ann, "cai", "in it").await;
    assert!(before.iter().any(|frame| matches!(frame, Frame::Room(_))), "{before:?}");
    assert!(before.iter().any(|frame| matches!(frame, Frame::Transient(_))), "{before:?}");
    gone.call(&LeaveRoomRequest { room_id: "stage".into() }).await.unwrap();
    is_told(&ann, "stage -cai").await;
    let last = heard(&mut gone, &ann, "cai", "out of it").await.pop();
    // Its answer may come too late.
    assert!(matches!(last, Some(Frame::Room(RoomPush { detail: Some(Detail::Exit(_)), .. }))), "{last:?}");
    let mut operator = world.admin().await;
    let made = CreateAppRequest { app_id: 0, name: "second".to_owned() };
    let app = soon(operator.create_app(made)).await.unwrap().into_inner();
    let login = |user: &str| LoginRequest {
        user_id: user.to_owned(),
        app_id: app.app_id,
        app_sign: app.app_sign.clone(),
        ..LoginRequest::default()
    };
    let (mut stranger, mut their_friend) = (world.raw_after_hello(4).await, world.raw_after_hello(5).await);
    stranger.call(&login("ann")).await.unwrap();
    their_friend.call(&login("bob")).await.unwrap();
    stranger.call(&SyncRequest::default()).await.unwrap();
    let info = Some(RoomInfo { room_id: "stage".into(), room_name: "theirs".into() });
    stranger.call(&CreateRoomRequest { room_info: info, config: None, entry_number: 9 }).await.unwrap();

    everything(&ann, &bob).await;
    for (raw, user) in [(&mut never, "eve"), (&mut other_device, "ann"), (&mut gone, "cai")] {
        let heard = heard(raw, &bob, user, "the end").await;
        assert!(heard.is_empty(), "{user}: {heard:?}");
    }
    // Their own entrance is all that they hear.
    their_friend.call(&send_text("ann", "the end", 1)).await.unwrap();
    let mut of_rooms = 0;
    loop {
        match stranger.event().await.unwrap() {
            Frame::Push(push) if !push.messages.is_empty() => break,
            Frame::Room(push) => {
                assert_eq!(push.room_id, "stage");
                of_rooms += 1;
            }
            Frame::Transient(transient) => panic!("{transient:?}"),
            _ => {}
        }
    }
    assert_eq!(of_rooms, 1);
    drop(operator);
    for raw in [never, other_device, gone, stranger, their_friend] {
        raw.end().await;
    }
    world.end().await;
}

/// Returns what comes next of a room.
async fn next_of_room(raw: &mut RawClient) -> Frame {
    loop {
        let frame = raw.event().await.unwrap();
        if matches!(frame, Frame::Room(_) | Frame::Transient(_)) {
            return frame;
        }
    }
}

/// Not all members are told of it, but the one who leaves is: the answer may come too late, or never.
#[tokio::test]
async fn who_leaves_a_large_room_gets_what_was_said_before_and_the_exit_and_nothing_more() {
    let world = World::with(|config| config.limits.max_room_members_told = 1).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    let mut cai = world.raw_user("cai", 3).await;
    cai.call(&SyncRequest::default()).await.unwrap();
    cai.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
    ann.say(room("stage"), "before").await;
    let entered = next_of_room(&mut cai).await;
    assert!(matches!(entered, Frame::Room(RoomPush { detail: Some(Detail::Entrance(_)), .. })), "{entered:?}");
    let said = next_of_room(&mut cai).await;
    assert!(matches!(said, Frame::Transient(_)), "{said:?}");
    cai.send_request(&LeaveAllRoomRequest {}).await;
    let left = next_of_room(&mut cai).await;
    let Frame::Room(RoomPush { detail: Some(Detail::Exit(exit)), .. }) = &left else { panic!("{left:?}") };
    assert_eq!(exit.event(), RoomEvent::Success);
    is_told(&ann, "stage -cai").await;
    everything(&ann, &bob).await;
    let after = heard(&mut cai, &bob, "cai", "the end").await;
    assert!(after.is_empty(), "{after:?}");
    cai.end().await;
    world.end().await;
}

#[tokio::test]
async fn nothing_of_a_room_reaches_a_connection_that_was_away_for_too_long() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    let mut cai = world.raw_user("cai", 3).await;
    cai.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
    is_told(&ann, "stage +cai").await;
    cai.end().await;
    let left = async || crate::room::told(&ann).contains(&"stage -cai".to_owned()).then_some(());
    world.advance_until("cai has left", left).await;
    // The client believes that it is still in the room.
    let mut back = world.raw_after_hello(3).await;
    let login = LoginRequest { in_rooms: vec!["stage".into()], ..world.login_request("cai") };
    back.call(&login).await.unwrap();
    back.call(&SyncRequest::default()).await.unwrap();
    everything(&ann, &bob).await;
    let before = heard(&mut back, &bob, "cai", "one").await;
    assert!(before.is_empty(), "{before:?}");
    let rooms = vec![RoomRef { room_id: "stage".into(), number: 0, entry_number: 2 }];
    let lost = back.call(&ResumeRoomsRequest { rooms }).await.unwrap().lost;
    assert_eq!(lost.len(), 1);
    everything(&ann, &bob).await;
    let after = heard(&mut back, &bob, "cai", "two").await;
    assert!(after.is_empty(), "{after:?}");
    back.end().await;
    world.end().await;
}

/// As after a backup was restored in which the device is in the room that has the ID now.
#[tokio::test]
async fn a_device_that_resumes_another_room_with_the_same_id_is_let_out_of_the_present_one() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let mut cai = world.raw_user("cai", 3).await;
    cai.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
    is_told(&ann, "stage +cai").await;
    let resume =
        |number| ResumeRoomsRequest { rooms: vec![RoomRef { room_id: "stage".into(), number, entry_number: 2 }] };
    assert!(cai.call(&resume(0)).await.unwrap().lost.is_empty());
    let lost = cai.call(&resume(1)).await.unwrap().lost;
    assert_eq!(lost.iter().map(zim_protocol::LostRoom::event).collect::<Vec<_>>(), [RoomEvent::RoomNotExist]);
    is_told(&ann, "stage -cai").await;
    cai.end().await;
    world.end().await;
}

/// Checks that a request is refused because the user is not in the room.
async fn is_refused<R: Rpc>(raw: &mut RawClient, request: &R) {
    let error = raw.call(request).await.err();
    let code = error.map(|error| error.code);
    assert_eq!(code, Some(ErrorCode::RoomModuleUserIsNotInTheRoom as i32), "{}", R::METHOD.path);
}

#[tokio::test]
async fn who_is_not_in_a_room_can_do_nothing_there() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    let mut eve = world.raw_user("eve", 1).await;
    let id = || "stage".to_owned();
    let pairs = || HashMap::from([("key".to_owned(), "value".to_owned())]);
    let users = || vec!["ann".to_owned(), "eve".to_owned()];
    let raw = &mut eve;
    let to_room_info = Some(RoomInfo { room_id: "other".into(), room_name: String::new() });
    let switch = SwitchRoomRequest {
        from_room_id: id(),
        to_room_info,
        is_create_when_room_not_existed: true,
        ..SwitchRoomRequest::default()
    };
    is_refused(raw, &switch).await;
    is_refused(raw, &LeaveRoomRequest { room_id: id() }).await;
    let config = Some(RoomMemberQueryConfig { count: 10, ..RoomMemberQueryConfig::default() });
    is_refused(raw, &QueryRoomMemberListRequest { room_id: id(), config }).await;
    is_refused(raw, &QueryRoomMembersRequest { room_id: id(), user_ids: users() }).await;
    is_refused(raw, &QueryRoomOnlineMemberCountRequest { room_id: id() }).await;
    is_refused(raw, &QueryRoomAllAttributesRequest { room_id: id() }).await;
    let config = Some(RoomAttributesSetConfig { is_force: true, ..RoomAttributesSetConfig::default() });
    is_refused(raw, &SetRoomAttributesRequest { room_id: id(), room_attributes: pairs(), config }).await;
    is_refused(raw, &DeleteRoomAttributesRequest { room_id: id(), keys: vec!["key".into()], config: None }).await;
    let action = RoomAttributesUpdateAction::Set as i32;
    let operations = vec![RoomAttributesUpdateInfo { action, room_attributes: pairs() }];
    is_refused(raw, &EndRoomAttributesBatchOperationRequest { room_id: id(), config: None, operations }).await;
    let set = SetRoomMembersAttributesRequest { room_id: id(), attributes: pairs(), user_ids: users(), config: None };
    is_refused(raw, &set).await;
    is_refused(raw, &QueryRoomMembersAttributesRequest { room_id: id(), user_ids: users() }).await;
    let config = Some(RoomMemberAttributesQueryConfig { count: 10, ..RoomMemberAttributesQueryConfig::default() });
    is_refused(raw, &QueryRoomMemberAttributesListRequest { room_id: id(), config }).await;
    let message =
        SendMessageRequest { conversation_type: ROOM, to_conversation_id: id(), ..send_text("stage", "let me in", 1) };
    is_refused(raw, &message).await;
    let barrage = SendBarrageRequest {
        message: Some(Message::barrage("let me in")),
        to_conversation_id: id(),
        conversation_type: ROOM,
        client_key: vec![2; 16].into(),
        ..SendBarrageRequest::default()
    };
    is_refused(raw, &barrage).await;
    // Nothing has changed, and nobody heard anything.
    soon(bob.join_room("stage")).await.unwrap();
    is_told(&ann, "stage +bob").await;
    assert!(soon(ann.query_room_all_attributes("stage")).await.unwrap().room_attributes.is_empty());
    for kind in
        [EventKind::RoomMessageReceived, EventKind::RoomAttributesUpdated, EventKind::RoomMemberAttributesUpdated]
    {
        assert!(ann.seen_of(kind).is_empty(), "{kind:?}");
    }
    eve.end().await;
    world.end().await;
}

#[tokio::test]
async fn nothing_of_a_room_reaches_a_connection_that_was_told_that_it_is_out() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    let mut cai = world.raw_user("cai", 3).await;
    cai.call(&SyncRequest::default()).await.unwrap();
    cai.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
    // As if the node of the connection had not heard of its exit.
    let removed = world.server().app().db.submit(zim_server::db::Scope::none(), async |tx| {
        let sql = "DELETE FROM room_member WHERE account IN (SELECT id FROM account WHERE name = $1)";
        tx.execute(sql, &zim_server::params!["cai"]).await?;
        Ok(())
    });
    removed.await.unwrap();
    ann.say(room("stage"), "still heard").await;
    assert!(!heard(&mut cai, &bob, "cai", "before").await.is_empty());
    let rooms = vec![RoomRef { room_id: "stage".into(), number: 0, entry_number: 2 }];
    assert_eq!(cai.call(&ResumeRoomsRequest { rooms }).await.unwrap().lost.len(), 1);
    everything(&ann, &bob).await;
    let after = heard(&mut cai, &bob, "cai", "after").await;
    assert!(after.is_empty(), "{after:?}");
    cai.end().await;
    world.end().await;
}
