//! Messages that the operator revokes, edits and lists.

use tonic::Code;
use zim_integration_tests::{World, soon, texts};
use zim_protocol::{
    CallAsUserRequest, ConversationType, EditServerMessageRequest, Event, EventKind, ListMessagesRequest, Message,
    MessageRevokeStatus, MessageType, RevokeServerMessageRequest, Rpc, message::Body,
};

const PEER: ConversationType = ConversationType::Peer;

#[tokio::test]
async fn revoke_server_message_takes_back_any_message_at_any_time() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "rude").await;
    bob.receives("rude").await;
    // Long after a user could do it.
    world.clock.advance(12 * 3_600_000);
    let mut operator = world.admin().await;
    let request = RevokeServerMessageRequest {
        app_id: world.app_id(),
        user_id: "bob".into(),
        conversation_id: "ann".into(),
        conversation_type: PEER as i32,
        message_seq: sent.message_seq,
        revoke_extended_data: "rules".into(),
        push_config: None,
    };
    let revoked = soon(operator.revoke_server_message(request.clone())).await.unwrap().into_inner().message.unwrap();
    assert_eq!(revoked.r#type(), MessageType::Revoke);
    for device in [&ann, &bob] {
        let Event::MessageRevokeReceived(event) = device.next(EventKind::MessageRevokeReceived).await else {
            panic!("another event")
        };
        let Some(Body::Revoke(revoke)) = &event.message_list[0].body else { panic!("no revocation") };
        assert_eq!(revoke.revoke_status(), MessageRevokeStatus::ServerApiRevoke);
        assert_eq!(revoke.revoke_extended_data, "rules");
    }
    let again = soon(operator.revoke_server_message(request.clone())).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
    for (bad, code) in [
        (RevokeServerMessageRequest { message_seq: 9, ..request.clone() }, Code::InvalidArgument),
        (RevokeServerMessageRequest { message_seq: 0, ..request.clone() }, Code::InvalidArgument),
        (RevokeServerMessageRequest { user_id: "nobody".into(), ..request.clone() }, Code::NotFound),
        (RevokeServerMessageRequest { conversation_id: "cai".into(), ..request.clone() }, Code::FailedPrecondition),
        (RevokeServerMessageRequest { revoke_extended_data: "x".repeat(201), ..request }, Code::InvalidArgument),
    ] {
        let refused = soon(operator.revoke_server_message(bad)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn edit_server_message_is_an_edit_of_its_sender_at_any_time() {
    let world = World::with(|config| config.limits.edit_window_s = 60).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hallo").await;
    bob.receives("hallo").await;
    // Ann could not do it any more, for two reasons.
    soon(bob.add_users_to_blacklist(["ann"])).await.unwrap();
    world.clock.advance(3_600_000);
    let mut operator = world.admin().await;
    let request = |user: &str, with: &str, text: &str| EditServerMessageRequest {
        app_id: world.app_id(),
        user_id: user.into(),
        conversation_id: with.into(),
        conversation_type: PEER as i32,
        message_seq: sent.message_seq,
        message: Some(Message { extended_data: "fixed".into(), ..Message::text(text) }),
    };
    for (user, with, text) in [("bob", "ann", "hello"), ("ann", "bob", "hello!")] {
        world.clock.advance(1);
        let edited = soon(operator.edit_server_message(request(user, with, text))).await.unwrap().into_inner();
        assert_eq!(
            (texts(&edited.message), edited.message.unwrap().message_id),
            (vec![text.to_owned()], sent.message_id.clone())
        );
        for device in [&ann, &bob] {
            let Event::MessageEdited(event) = device.next(EventKind::MessageEdited).await else {
                panic!("another event")
            };
            let message = &event.message_list[0];
            assert_eq!((texts([message]), message.editor_user_id.as_str()), (vec![text.to_owned()], "ann"));
            assert_eq!((message.extended_data.as_str(), message.message_seq), ("fixed", sent.message_seq));
        }
    }
    assert_eq!(texts(&world.device("bob").await.history("ann").await), ["hello!"]);
    let custom = Some(Message::custom("{}", 1));
    for (bad, code) in [
        (EditServerMessageRequest { message: custom, ..request("ann", "bob", "") }, Code::InvalidArgument),
        (EditServerMessageRequest { message: None, ..request("ann", "bob", "") }, Code::InvalidArgument),
        (EditServerMessageRequest { message_seq: 0, ..request("ann", "bob", "x") }, Code::InvalidArgument),
        (EditServerMessageRequest { message_seq: 9, ..request("ann", "bob", "x") }, Code::InvalidArgument),
        (request("ann", "bob", &"x".repeat(32_769)), Code::InvalidArgument),
        (request("nobody", "bob", "x"), Code::NotFound),
        (request("ann", "cai", "x"), Code::FailedPrecondition),
    ] {
        let refused = soon(operator.edit_server_message(bad)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    // The user's own rules hold in their name.
    let by_client = Message { body: Message::text("own").body, conversation_id: "bob".into(), ..sent.clone() };
    let by_client = zim_protocol::EditMessageRequest { message: Some(by_client), config: None };
    let call = CallAsUserRequest {
        app_id: world.app_id(),
        user_id: "ann".into(),
        method: zim_protocol::EditMessageRequest::METHOD.path.into(),
        payload: prost::Message::encode_to_vec(&by_client).into(),
    };
    assert_eq!(soon(operator.call_as_user(call)).await.unwrap_err().code(), Code::FailedPrecondition);
    // What was revoked stays revoked.
    let revoke = RevokeServerMessageRequest {
        app_id: world.app_id(),
        user_id: "ann".into(),
        conversation_id: "bob".into(),
        message_seq: sent.message_seq,
        ..RevokeServerMessageRequest::default()
    };
    soon(operator.revoke_server_message(revoke)).await.unwrap();
    let refused = soon(operator.edit_server_message(request("ann", "bob", "again"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_messages_pages_back_as_one_user_sees_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=5 {
        ann.say("bob", &number.to_string()).await;
    }
    bob.receives("5").await;
    let mut operator = world.admin().await;
    let request = |before_seq, count| ListMessagesRequest {
        app_id: world.app_id(),
        user_id: "bob".into(),
        conversation_id: "ann".into(),
        conversation_type: PEER as i32,
        before_seq,
        count,
    };
    let (mut found, mut before, mut pages) = (Vec::new(), 0, 0);
    loop {
        let page = soon(operator.list_messages(request(before, 2))).await.unwrap().into_inner();
        found.splice(0..0, texts(&page.message_list));
        assert!(page.message_list.iter().all(|message| message.conversation_id == "ann"));
        (before, pages) = (page.next_seq, pages + 1);
        if before == 0 {
            break;
        }
    }
    assert_eq!((found, pages), (["1", "2", "3", "4", "5"].map(str::to_owned).to_vec(), 3));
    let all = soon(operator.list_messages(request(0, 0))).await.unwrap().into_inner();
    assert_eq!((all.message_list.len(), all.next_seq), (5, 0));
    let nobody = ListMessagesRequest { user_id: "nobody".into(), ..request(0, 0) };
    assert_eq!(soon(operator.list_messages(nobody)).await.unwrap_err().code(), Code::NotFound);
    for bad in [request(0, 101), request(-1, 1)] {
        assert_eq!(soon(operator.list_messages(bad)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    drop(operator);
    world.end().await;
}
