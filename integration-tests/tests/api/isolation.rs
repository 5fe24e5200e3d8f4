//! Two apps on one server with the same user ids: neither sees anything of the other.

use zim_client_sdk::{Config as ClientConfig, Trust, Zim};
use zim_integration_tests::{OperatorClient, World, refusal, send_text, soon, texts};
use zim_protocol::{
    AcceptFriendApplicationRequest, AddFriendRequest, AddUsersToBlacklistRequest, App, CheckFriendsRelationRequest,
    ConversationRef, ConversationType, CreateAppRequest, DisconnectUserRequest, ErrorCode, EventKind, FillRequest,
    FriendApplicationAcceptConfig, FriendRelationCheckConfig, ListSessionsRequest, LoginConfig, LoginRequest, Message,
    MessageQueryConfig, MessageType, PullRequest, QueryUsersInfoRequest, SendFriendApplicationRequest,
    SendMessageRequest, SyncRequest, UpdateUserNameRequest, UserRelationType, UsersInfoQueryConfig, event_frame::Frame,
};
use zim_server::config::MultiDevice;

use crate::call::barrier;
use crate::media::noise;
use crate::media_tus::{create, patch, sent};

const PEER: ConversationType = ConversationType::Peer;

async fn second_app(operator: &mut OperatorClient) -> App {
    let made = CreateAppRequest { app_id: 0, name: "second".to_owned() };
    soon(operator.create_app(made)).await.unwrap().into_inner()
}

fn login(app: &App, user_id: &str) -> LoginRequest {
    let (app_id, app_sign) = (app.app_id, app.app_sign.clone());
    LoginRequest { user_id: user_id.to_owned(), app_id, app_sign, ..LoginRequest::default() }
}

fn block(user_id: &str) -> AddUsersToBlacklistRequest {
    AddUsersToBlacklistRequest { user_ids: vec![user_id.to_owned()] }
}

#[tokio::test]
async fn the_same_user_ids_in_two_apps_are_different_users() {
    let world = World::with(|config| config.login.multi_device = MultiDevice::Single).await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut other_ann = world.raw_after_hello(1).await;
    let mut other_bob = world.raw_after_hello(2).await;
    // Only one device is allowed, but a login in the other app ends no login here.
    other_ann.call(&login(&other, "ann")).await.unwrap();
    other_bob.call(&login(&other, "bob")).await.unwrap();
    ann.say("bob", "in the first").await;
    other_ann.call(&send_text("bob", "in the second", 1)).await.unwrap();
    bob.receives("in the first").await;
    assert_eq!(texts(&bob.history("ann").await), ["in the first"]);
    assert_eq!(bob.total_unread().await, 1);
    let sync = other_bob.call(&SyncRequest::default()).await.unwrap();
    assert_eq!(sync.heads.len(), 1);
    assert_eq!(sync.heads[0].unread, 1);
    // User names are separate.
    soon(ann.update_user_name("Ann of the first")).await.unwrap();
    let found = other_bob.call(&QueryUsersInfoRequest { user_ids: vec!["ann".into()], config: None }).await.unwrap();
    assert_eq!(found.user_list[0].base_info.as_ref().unwrap().user_name, "");
    // A block in one app has no effect in the other.
    other_ann.call(&block("bob")).await.unwrap();
    let refused = other_bob.call(&send_text("ann", "in the second", 1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MessageModuleSenderInBlacklist as i32);
    bob.say("ann", "in the first").await;
    ann.receives("in the first").await;
    assert!(ann.seen_of(zim_protocol::EventKind::BlacklistChanged).is_empty());
    // Disconnecting a user of one app does not affect the other.
    let out = DisconnectUserRequest { app_id: other.app_id, user_id: "ann".into() };
    assert_eq!(operator.disconnect_user(out).await.unwrap().into_inner().sessions, 1);
    ann.say("bob", "still here").await;
    let here = operator.list_sessions(ListSessionsRequest { app_id: world.app_id(), user_id: String::new() }).await;
    let here = here.unwrap().into_inner().sessions;
    assert_eq!(here.iter().map(|session| session.user_id.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    drop(operator);
    other_ann.end().await;
    other_bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_user_of_one_app_does_not_exist_in_the_other() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "a secret").await;
    let mut other_ann = world.raw_after_hello(1).await;
    other_ann.call(&login(&other, "ann")).await.unwrap();
    assert!(other_ann.call(&SyncRequest::default()).await.unwrap().heads.is_empty());
    let refused = other_ann.call(&send_text("bob", "hello?", 1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MessageModuleTargetDoesNotExist as i32);
    let found = other_ann.call(&QueryUsersInfoRequest { user_ids: vec!["bob".into()], config: None }).await.unwrap();
    assert!(found.user_list.is_empty());
    assert_eq!(found.error_user_list.len(), 1);
    let nobody = ErrorCode::CommonModuleUserIsNotExist as i32;
    assert_eq!(other_ann.call(&block("bob")).await.unwrap_err().code, nobody);
    let users = || vec!["bob".to_owned()];
    let query = zim_protocol::QueryUsersStatusRequest { user_ids: users() };
    assert_eq!(other_ann.call(&query).await.unwrap_err().code, nobody);
    let config = Some(zim_protocol::UserStatusSubscribeConfig { subscription_duration: 60 });
    let follow = zim_protocol::SubscribeUsersStatusRequest { user_ids: users(), config };
    assert_eq!(other_ann.call(&follow).await.unwrap_err().code, nobody);
    let conversation = Some(ConversationRef { r#type: PEER as i32, id: "bob".into() });
    let none = ErrorCode::ConversationModuleConversationDoesNotExist as i32;
    let pull = PullRequest { conversation: conversation.clone(), ..PullRequest::default() };
    assert_eq!(other_ann.call(&pull).await.unwrap_err().code, none);
    let fill = FillRequest { conversation, reverse: true, anchor: 0, count: 10 };
    assert_eq!(other_ann.call(&fill).await.unwrap_err().code, none);
    let history = zim_protocol::QueryHistoryMessageRequest {
        conversation_id: "bob".into(),
        conversation_type: PEER as i32,
        config: Some(MessageQueryConfig { count: 10, ..MessageQueryConfig::default() }),
    };
    assert!(other_ann.call(&history).await.unwrap().message_list.is_empty());
    let clear = zim_protocol::ClearConversationUnreadMessageCountRequest {
        conversation_id: "bob".into(),
        ..Default::default()
    };
    assert_eq!(other_ann.call(&clear).await.unwrap_err().code, none);
    drop(operator);
    other_ann.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_credentials_of_one_app_are_refused_by_the_other() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let first = world.server().first_app().clone();
    // The other app's id with this app's sign, and with a token that this app's secret made.
    let mut raw = world.raw_after_hello(1).await;
    let request = LoginRequest { app_sign: first.app_sign.clone(), ..login(&other, "ann") };
    assert_eq!(raw.call(&request).await.unwrap_err().code, ErrorCode::NetworkModuleTokenInvalid as i32);
    let token = LoginConfig { token: world.token("ann"), ..LoginConfig::default() };
    let request = LoginRequest { app_sign: String::new(), config: Some(token.clone()), ..login(&other, "ann") };
    assert_eq!(raw.call(&request).await.unwrap_err().code, ErrorCode::NetworkModuleTokenInvalid as i32);
    raw.end().await;
    let config = ClientConfig::new(other.app_id, world.address().to_string())
        .trust(Trust::Fingerprint(world.server().fingerprint().0))
        .clock(world.clock.clone());
    let zim = Zim::new(config).unwrap();
    assert_eq!(refusal(soon(zim.login("ann", token)).await), ErrorCode::NetworkModuleTokenInvalid);
    zim.destroy();
    soon(zim.closed()).await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn a_session_of_one_app_cannot_be_resumed_in_the_other() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let mut raw = world.raw_after_hello(1).await;
    let session = raw.call(&world.login_request("ann")).await.unwrap().session;
    let mut other_ann = world.raw_after_hello(2).await;
    let own = other_ann.call(&LoginRequest { resume: session.clone(), ..login(&other, "ann") }).await.unwrap();
    assert_ne!(own.session, session);
    drop(operator);
    raw.end().await;
    other_ann.end().await;
    world.end().await;
}

#[tokio::test]
async fn ids_on_the_wire_do_not_reveal_the_activity_of_others() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let mut ann = world.raw_user("ann", 1).await;
    world.raw_user("bob", 2).await.end().await;
    let mut other_ann = world.raw_after_hello(3).await;
    other_ann.call(&login(&other, "ann")).await.unwrap();
    let mut friend = world.raw_after_hello(4).await;
    friend.call(&login(&other, "bob")).await.unwrap();
    let mut ids = Vec::new();
    for key in 0..6 {
        let sent = ann.call(&send_text("bob", "x", key)).await.unwrap().message.unwrap();
        ids.push(sent.message_id.parse::<i64>().unwrap());
        let request: SendMessageRequest = send_text("bob", "x", key);
        let sent = other_ann.call(&request).await.unwrap().message.unwrap();
        ids.push(sent.message_id.parse::<i64>().unwrap());
        // Positions are counted per conversation, whatever the other app does.
        assert_eq!(sent.message_seq, i64::from(key) + 1);
    }
    let steps: std::collections::HashSet<i64> = ids.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert_eq!(steps.len(), ids.len() - 1, "the ids increase in equal steps: {ids:?}");
    drop(operator);
    for raw in [ann, other_ann, friend] {
        raw.end().await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_profile_change_is_sent_only_within_its_app() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let config = ClientConfig::new(other.app_id, world.address().to_string())
        .app_sign(&other.app_sign)
        .trust(Trust::Fingerprint(world.server().fingerprint().0))
        .clock(world.clock.clone());
    let other_ann = Zim::new(config).unwrap();
    soon(other_ann.login("ann", LoginConfig::default())).await.unwrap();
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    soon(phone.update_user_name("Ann")).await.unwrap();
    laptop.next(zim_protocol::EventKind::UserInfoUpdated).await;
    let fresh = UsersInfoQueryConfig { is_query_from_server: true };
    let found = soon(other_ann.query_users_info(["ann"], fresh)).await.unwrap();
    assert_eq!(found.user_list[0].base_info.as_ref().unwrap().user_name, "");
    other_ann.destroy();
    soon(other_ann.closed()).await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn friends_in_one_app_are_not_friends_in_the_other() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let (ann, bob, _carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let mut other_ann = world.raw_after_hello(1).await;
    other_ann.call(&login(&other, "ann")).await.unwrap();
    let mut other_bob = world.raw_after_hello(2).await;
    other_bob.call(&login(&other, "bob")).await.unwrap();
    let asks = |user_id: &str| SendFriendApplicationRequest { user_id: user_id.to_owned(), config: None };
    other_ann.call(&asks("bob")).await.unwrap();
    // Carl exists in the first app only.
    let nobody = ErrorCode::FriendModuleFriendAreUnregistered as i32;
    assert_eq!(other_ann.call(&asks("carl")).await.unwrap_err().code, nobody);
    let adds = AddFriendRequest { user_id: "carl".to_owned(), config: None };
    assert_eq!(other_ann.call(&adds).await.unwrap_err().code, nobody);
    let status = ErrorCode::FriendModuleFriendApplicationStatusError;
    let accepted = soon(bob.accept_friend_application("ann", FriendApplicationAcceptConfig::default())).await;
    assert_eq!(refusal(accepted), status);
    let accepts = AcceptFriendApplicationRequest { user_id: "ann".to_owned(), config: None };
    other_bob.call(&accepts).await.unwrap();
    let checks = CheckFriendsRelationRequest { user_ids: vec!["bob".to_owned()], config: None };
    let relation = other_ann.call(&checks).await.unwrap().relation_infos[0].r#type();
    assert_eq!(relation, UserRelationType::BothAllHave);
    let checked = soon(ann.check_friends_relation(["bob"], FriendRelationCheckConfig::default())).await.unwrap();
    assert_eq!(checked.relation_infos[0].r#type(), UserRelationType::BothAllNo);
    // Later messages have arrived, and no user of the first app has raised an event.
    barrier(&ann, &[("bob", &bob)], "done").await;
    barrier(&bob, &[("ann", &ann)], "done, too").await;
    for device in [&ann, &bob] {
        assert!(device.seen_of(EventKind::FriendListChanged).is_empty());
        assert!(device.seen_of(EventKind::FriendApplicationListChanged).is_empty());
    }
    drop(operator);
    other_ann.end().await;
    other_bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_profile_change_does_not_reach_peers_of_the_same_user_id_in_another_app() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (mut other_ann, mut other_bob) = (world.raw_after_hello(1).await, world.raw_after_hello(2).await);
    other_ann.call(&login(&other, "ann")).await.unwrap();
    other_bob.call(&login(&other, "bob")).await.unwrap();
    ann.say("bob", "in the first").await;
    other_ann.call(&send_text("bob", "in the second", 1)).await.unwrap();
    assert!(matches!(other_bob.event().await, Some(Frame::Push(_))));
    soon(ann.update_user_name("Ann of the first")).await.unwrap();
    zim_integration_tests::eventually("the new name", async || {
        (bob.conversation("ann").await.conversation_name == "Ann of the first").then_some(())
    })
    .await;
    // The next event of bob of the second app is of that app.
    other_ann.call(&UpdateUserNameRequest { user_name: "Ann of the second".to_owned() }).await.unwrap();
    let Some(Frame::Snapshot(snapshot)) = other_bob.event().await else { panic!("no snapshot") };
    assert_eq!(snapshot.profiles.len(), 1);
    assert_eq!(snapshot.profiles[0].base_info.as_ref().unwrap().user_name, "Ann of the second");
    // A sync returns no profile of the first app either.
    let request = SyncRequest { profiles_since: 1, ..SyncRequest::default() };
    let profiles = other_bob.call(&request).await.unwrap().profiles;
    assert_eq!(profiles, snapshot.profiles);
    assert_eq!(bob.conversation("ann").await.conversation_name, "Ann of the first");
    drop(operator);
    other_ann.end().await;
    other_bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_file_of_one_app_is_not_there_for_the_other() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let other = second_app(&mut operator).await;
    let (mut ann, _bob) = (world.raw_user("ann", 1).await, world.user("bob").await);
    let (mut other_ann, mut other_bob) = (world.raw_after_hello(2).await, world.raw_after_hello(3).await);
    other_ann.call(&login(&other, "ann")).await.unwrap();
    other_bob.call(&login(&other, "bob")).await.unwrap();
    let (client, bytes) = (world.https(), noise(1_000));
    let created = create(&mut ann, MessageType::File, &bytes).await;
    assert!(sent(patch(&client, &created.upload_url, 0, &bytes)).await.status().is_success());
    let message = || {
        let mut message = Message::file("");
        message.media_parts()[0].download_url.clone_from(&created.file_download_url);
        let message = Some(message);
        SendMessageRequest { message, to_conversation_id: "bob".to_owned(), ..SendMessageRequest::default() }
    };
    let refused = other_ann.call(&message()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MessageModuleFileNotExist as i32);
    ann.call(&message()).await.unwrap();
    // Nor does its hash lead to it.
    let own = create(&mut other_ann, MessageType::File, &bytes).await;
    assert!(!own.upload_url.is_empty() && own.file_download_url != created.file_download_url);
    drop((operator, client));
    for raw in [ann, other_ann, other_bob] {
        raw.end().await;
    }
    world.end().await;
}
