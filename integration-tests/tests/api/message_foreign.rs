//! Messages that a user may not touch: those of other conversations and of other apps, those from before their time in a group, and
//! those that they deleted. Every method refuses them, and nothing changes.

use bytes::Bytes;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Chat, Device, RawClient, World, group, soon};
use zim_protocol::message::Body;
use zim_protocol::response::Outcome;
use zim_protocol::{
    AddMessageReactionRequest, App, CombineMessage, ConversationType, CreateAppRequest, DeleteAllMessageRequest,
    DeleteMessageAllReactionsRequest, DeleteMessageReactionRequest, DeleteMessagesRequest, EditMessageRequest,
    ErrorCode, LoginRequest, Message, MessageDeleteConfig, MessageQueryConfig, MessageReactionUserQueryConfig,
    MessageReceiptStatus, MessageReceiptsInfoQueriedResult, MessageSendConfig, PinMessageRequest,
    QueryCombineMessageDetailRequest, QueryGroupMessageReceiptReadMemberListRequest,
    QueryGroupMessageReceiptUnreadMemberListRequest, QueryHistoryMessageRequest, QueryMessageReactionUserListRequest,
    QueryMessageReceiptsInfoRequest, QueryMessageRepliedListRequest, ReplyMessageRequest, RevokeMessageRequest, Rpc,
    SendConversationMessageReceiptReadRequest, SendMessageReceiptsReadRequest,
};

use super::group::create;

const PEER: ConversationType = ConversationType::Peer;
const GROUP: ConversationType = ConversationType::Group;
const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };

/// A method that names a message, its request, and how it is refused if there is no such message.
type Attempt = (&'static str, Bytes, ErrorCode);

fn attempt<R: Rpc>(request: &R, code: ErrorCode) -> Attempt {
    (R::METHOD.path, request.encode_to_vec().into(), code)
}

/// Every method that names a message of a conversation.
fn attempts(named: &Message) -> Vec<Attempt> {
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    let (id, kind) = (named.conversation_id.clone(), named.conversation_type);
    let message = || Some(named.clone());
    let combined = CombineMessage { combine_id: named.message_id.clone(), ..CombineMessage::default() };
    let text = Message::text("forged").body;
    let mut all = vec![
        attempt(&RevokeMessageRequest { message: message(), config: None }, invalid),
        attempt(
            &EditMessageRequest { message: Some(Message { body: text.clone(), ..named.clone() }), config: None },
            invalid,
        ),
        attempt(&PinMessageRequest { message: message(), is_pinned: true, config: None }, invalid),
        attempt(
            &ReplyMessageRequest {
                message: Some(Message { body: text, ..Message::default() }),
                to_original_message: message(),
                client_key: vec![7; 16].into(),
                ..ReplyMessageRequest::default()
            },
            invalid,
        ),
        attempt(&QueryMessageRepliedListRequest { message: message(), config: None }, invalid),
        attempt(
            &QueryCombineMessageDetailRequest {
                message: Some(Message { body: Some(Body::Combine(Box::new(combined))), ..named.clone() }),
            },
            invalid,
        ),
        attempt(&AddMessageReactionRequest { reaction_type: "+1".into(), message: message(), config: None }, invalid),
        attempt(&DeleteMessageReactionRequest { reaction_type: "+1".into(), message: message() }, invalid),
        attempt(&DeleteMessageAllReactionsRequest { message: message() }, invalid),
        attempt(
            &QueryMessageReactionUserListRequest {
                message: message(),
                config: Some(MessageReactionUserQueryConfig {
                    reaction_type: "+1".into(),
                    ..MessageReactionUserQueryConfig::default()
                }),
            },
            invalid,
        ),
        attempt(
            &DeleteMessagesRequest {
                message_list: vec![named.clone()],
                conversation_id: id.clone(),
                conversation_type: kind,
                config: Some(EVERYWHERE),
            },
            invalid,
        ),
        attempt(
            &SendMessageReceiptsReadRequest {
                message_list: vec![named.clone()],
                conversation_id: id.clone(),
                conversation_type: kind,
            },
            ErrorCode::MessageModuleReceiptReadError,
        ),
    ];
    if kind == GROUP as i32 {
        all.extend([
            attempt(
                &QueryGroupMessageReceiptReadMemberListRequest {
                    message: message(),
                    group_id: id.clone(),
                    config: None,
                },
                invalid,
            ),
            attempt(
                &QueryGroupMessageReceiptUnreadMemberListRequest { message: message(), group_id: id, config: None },
                invalid,
            ),
        ]);
    }
    all
}

#[track_caller]
fn code(outcome: Option<Outcome>) -> i32 {
    match outcome {
        Some(Outcome::Error(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

/// Tries everything with a message that there is not for the caller.
async fn finds_no_message(raw: &mut RawClient, what: &str, named: &Message) {
    for (method, request, expected) in attempts(named) {
        let answer = raw.call_bytes(method, request).await;
        assert_eq!(code(answer.outcome), expected as i32, "{what}: {method}");
    }
    let request = QueryMessageReceiptsInfoRequest {
        message_list: vec![named.clone()],
        conversation_id: named.conversation_id.clone(),
        conversation_type: named.conversation_type,
    };
    let found: MessageReceiptsInfoQueriedResult = raw.call(&request).await.unwrap();
    assert!(found.infos.is_empty(), "{what}: {found:?}");
    assert_eq!(found.error_message_ids.len(), 1, "{what}: {found:?}");
}

/// Tries everything in a conversation that the caller is not in.
async fn finds_no_conversation(raw: &mut RawClient, what: &str, named: &Message) {
    let missing = ErrorCode::ConversationModuleConversationDoesNotExist;
    let (conversation_id, conversation_type) = (named.conversation_id.clone(), named.conversation_type);
    let mut all = attempts(named);
    all.push(attempt(
        &DeleteAllMessageRequest {
            conversation_id: conversation_id.clone(),
            conversation_type,
            config: Some(EVERYWHERE),
            through_seq: None,
        },
        missing,
    ));
    if conversation_type == PEER as i32 {
        all.push(attempt(
            &SendConversationMessageReceiptReadRequest {
                conversation_id: conversation_id.clone(),
                conversation_type,
                through_seq: None,
            },
            missing,
        ));
    }
    let info =
        QueryMessageReceiptsInfoRequest { message_list: vec![named.clone()], conversation_id, conversation_type };
    all.push(attempt(&info, missing));
    for (method, request, _) in all {
        // A reply may be the first message of a conversation of two.
        if method == ReplyMessageRequest::METHOD.path && conversation_type == PEER as i32 {
            continue;
        }
        // The ID of a combined message says alone which one it is.
        let is_missing = method != QueryCombineMessageDetailRequest::METHOD.path;
        let expected = if is_missing { missing } else { ErrorCode::CommonModuleParamsInvalid };
        let answer = raw.call_bytes(method, request).await;
        let text = format!("{what}: {method}: {:?}", answer.outcome);
        assert_eq!(code(answer.outcome), expected as i32, "{text}");
    }
}

/// Asks for the page of history before a message. Returns how many messages it has, or the error.
async fn page_before(raw: &mut RawClient, named: &Message) -> Result<usize, i32> {
    let config = MessageQueryConfig {
        next_message: Some(named.clone()),
        count: 10,
        reverse: true,
        ..MessageQueryConfig::default()
    };
    let request = QueryHistoryMessageRequest {
        conversation_id: named.conversation_id.clone(),
        conversation_type: named.conversation_type,
        config: Some(config),
    };
    raw.call(&request).await.map(|page| page.message_list.len()).map_err(|error| error.code)
}

async fn send(device: &Device, chat: Chat<'_>, message: Message) -> Message {
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let sent = device.send_message(message, chat.id, chat.kind, config, MessageSendNotification::default());
    soon(sent).await.unwrap().message.unwrap()
}

/// Names a message as one of this conversation.
fn in_conversation(message: &Message, id: &str, kind: ConversationType) -> Message {
    Message {
        message_id: message.message_id.clone(),
        conversation_id: id.to_owned(),
        conversation_type: kind as i32,
        ..Message::default()
    }
}

fn by_position(message: &Message, named: &Message) -> Message {
    Message { message_id: String::new(), message_seq: message.message_seq, ..named.clone() }
}

fn login(app: &App, user_id: &str) -> LoginRequest {
    let (app_id, app_sign) = (app.app_id, app.app_sign.clone());
    LoginRequest { user_id: user_id.to_owned(), app_id, app_sign, ..LoginRequest::default() }
}

#[tokio::test]
async fn no_method_finds_messages_of_other_conversations_and_apps_or_messages_that_the_caller_may_not_see() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (mut carl, mut dan) = (world.raw_user("carl", 1).await, world.raw_user("dan", 1).await);
    create(&ann, "crew", &["bob"]).await;
    create(&ann, "club", &["carl"]).await;
    let mut sent = Vec::new();
    for chat in [Chat::from("bob"), group("crew")] {
        let one = send(&ann, chat, Message::text("mine")).await;
        let combine = CombineMessage {
            title: "title".into(),
            summary: "summary".into(),
            message_list: vec![one.clone()],
            ..CombineMessage::default()
        };
        let combine = Message { body: Some(Body::Combine(Box::new(combine))), ..Message::default() };
        sent.push([one, send(&ann, chat, combine).await]);
    }
    let [peer, crew] = &sent[..] else { panic!("{sent:?}") };
    // Conversations of their own, whose first position has another message.
    ann.say("carl", "another").await;
    ann.say(group("club"), "another").await;
    let before = [ann.history("bob").await, ann.history(group("crew")).await];
    let invalid = ErrorCode::CommonModuleParamsInvalid as i32;
    for message in peer.iter().chain(crew) {
        for (id, kind) in [("ann", PEER), ("club", GROUP)] {
            let named = in_conversation(message, id, kind);
            finds_no_message(&mut carl, "another conversation", &named).await;
            assert_eq!(page_before(&mut carl, &named).await, Err(invalid), "another conversation: {id}");
        }
        for (id, kind) in [("bob", PEER), ("crew", GROUP)] {
            let named = in_conversation(message, id, kind);
            finds_no_conversation(&mut carl, "not in it", &named).await;
            assert_eq!(page_before(&mut carl, &named).await, Ok(0), "not in it: {id}");
        }
    }
    // Who comes later does not see what came before.
    soon(ann.invite_users_into_group(["dan"], "crew")).await.unwrap();
    for message in crew {
        let named = in_conversation(message, "crew", GROUP);
        finds_no_message(&mut dan, "before the stay", &named).await;
        assert_eq!(page_before(&mut dan, &named).await, Ok(0), "before the stay");
        let named = by_position(message, &named);
        // Its ID is not known to somebody who names its position.
        for (method, request, expected) in attempts(&named) {
            assert_eq!(code(dan.call_bytes(method, request).await.outcome), expected as i32, "by position: {method}");
        }
    }
    // The same names in another app, whose users have a conversation with a message at the same position.
    let mut operator = world.admin().await;
    let made = CreateAppRequest { app_id: 0, name: "second".to_owned() };
    let app = soon(operator.create_app(made)).await.unwrap().into_inner();
    drop(operator);
    let (mut other_ann, mut other_bob) = (world.raw_after_hello(2).await, world.raw_after_hello(3).await);
    other_ann.call(&login(&app, "ann")).await.unwrap();
    other_bob.call(&login(&app, "bob")).await.unwrap();
    other_ann.call(&zim_integration_tests::send_text("bob", "theirs", 1)).await.unwrap();
    for message in peer.iter().chain(crew) {
        let named = in_conversation(message, "ann", PEER);
        finds_no_message(&mut other_bob, "another app", &named).await;
        assert_eq!(page_before(&mut other_bob, &named).await, Err(invalid), "another app");
    }
    // Nothing of it did anything.
    assert_eq!([ann.history("bob").await, ann.history(group("crew")).await], before);
    for (message, chat) in [(&peer[0], Chat::from("ann")), (&crew[0], group("crew"))] {
        let got = bob.history(chat).await.into_iter().find(|one| one.message_id == message.message_id).unwrap();
        assert_eq!((got.as_text(), got.receipt_status()), (Some("mine"), MessageReceiptStatus::Processing));
        assert_eq!((got.reactions.len(), got.pinned_time, got.root_replied_count), (0, 0, 0));
    }
    // What a user has deleted is not there for them, and the same for everybody else.
    let history = bob.history("ann").await;
    soon(bob.delete_messages(&history, "ann", PEER, EVERYWHERE)).await.unwrap();
    let mut raw_bob = world.raw_user("bob", 4).await;
    for message in peer {
        let named = in_conversation(message, "ann", PEER);
        for (method, request, expected) in attempts(&named) {
            // That it is deleted twice is no error: the request may be one that was sent again.
            let is_deletion = method == DeleteMessagesRequest::METHOD.path;
            match raw_bob.call_bytes(method, request).await.outcome {
                Some(Outcome::Ok(_)) if is_deletion => {}
                outcome => assert_eq!(code(outcome), expected as i32, "deleted: {method}"),
            }
        }
    }
    assert_eq!(ann.history("bob").await, before[0]);
    for raw in [carl, dan, other_ann, other_bob, raw_bob] {
        raw.end().await;
    }
    world.end().await;
}
