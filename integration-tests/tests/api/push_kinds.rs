//! What is pushed besides messages: friend applications, applications and invitations to groups, and what happens to calls.

use serde_json::json;
use zim_client_sdk::PushToken;
use zim_integration_tests::{PushServer, World, soon};
use zim_protocol::{
    CallAcceptConfig, CallEndConfig, CallInvitationMode, CallInviteConfig, CallQuitConfig, ConversationType,
    FriendApplicationAcceptConfig, FriendApplicationRejectConfig, FriendApplicationSendConfig, GroupAdvancedConfig,
    GroupBeInviteMode, GroupInfo, GroupInviteApplicationAcceptConfig, GroupInviteApplicationRejectConfig,
    GroupInviteApplicationSendConfig, GroupInviteMode, GroupJoinApplicationAcceptConfig,
    GroupJoinApplicationRejectConfig, GroupJoinApplicationSendConfig, GroupJoinMode, PushConfig, PushOutcome,
    RevokeServerMessageRequest,
};

use crate::push_delivery::{all_done, away, log, set_webhook};

const DELAY_MS: i64 = 2_000;

fn says(title: &str) -> Option<PushConfig> {
    Some(PushConfig { title: title.to_owned(), ..PushConfig::default() })
}

/// A push service, and users whose telephones are away.
async fn with_phones(users: &[&str]) -> (World, PushServer) {
    let (world, server) = (World::new().await, PushServer::http());
    set_webhook(&world, &server).await;
    for user in users {
        away(&world, user, PushToken::webhook(*user)).await;
    }
    (world, server)
}

/// Waits for pushes to the telephones of these users: of what kind they are, by whom, and in which group. No other push comes.
async fn gets(world: &World, server: &PushServer, users: &[&str], (kind, sender, group): (&str, &str, &str)) {
    world.clock.advance(DELAY_MS);
    let mut tokens = Vec::new();
    for _ in users {
        let body = server.next().await.json();
        let data = &body["data"];
        assert_eq!((&data["kind"], &data["senderUserID"]), (&json!(kind), &json!(sender)), "{body}");
        let conversation = if group.is_empty() { json!(null) } else { json!(group) };
        assert_eq!(data["conversationID"], conversation, "{body}");
        assert_eq!(body["title"], json!(kind));
        tokens.push(body["token"].as_str().unwrap().to_owned());
    }
    tokens.sort();
    assert_eq!(tokens, users);
    all_done(world).await;
    assert_eq!(server.waiting(), 0);
}

#[tokio::test]
async fn revoke_server_message_is_pushed_to_the_other_user_whoever_sent_it() {
    let (world, server) = with_phones(&["ann", "bob"]).await;
    let ann = world.user("ann").await;
    let sent = ann.say("bob", "hi").await;
    let again = ann.say("bob", "hi again").await;
    let mut operator = world.admin().await;
    for (user, other, message) in [("ann", "bob", sent), ("bob", "ann", again)] {
        let request = RevokeServerMessageRequest {
            app_id: world.app_id(),
            user_id: user.to_owned(),
            conversation_id: other.to_owned(),
            conversation_type: ConversationType::Peer as i32,
            message_seq: message.message_seq,
            push_config: says("revoke"),
            ..RevokeServerMessageRequest::default()
        };
        soon(operator.revoke_server_message(request)).await.unwrap();
        gets(&world, &server, &[other], ("revoke", user, user)).await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn friend_applications_and_their_answers_are_pushed() {
    let (world, server) = with_phones(&["ann", "bob", "carl"]).await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let applies = |title: &str| FriendApplicationSendConfig { push_config: says(title), ..Default::default() };
    soon(ann.send_friend_application("bob", applies("friendApplication"))).await.unwrap();
    gets(&world, &server, &["bob"], ("friendApplication", "ann", "")).await;
    let kind = "friendApplicationAcceptance";
    let accepts = FriendApplicationAcceptConfig { push_config: says(kind), ..Default::default() };
    soon(bob.accept_friend_application("ann", accepts)).await.unwrap();
    gets(&world, &server, &["ann"], (kind, "bob", "")).await;
    // One that is answered before it is pushed is not pushed.
    soon(ann.send_friend_application("carl", applies("friendApplication"))).await.unwrap();
    let kind = "friendApplicationRejection";
    soon(carl.reject_friend_application("ann", FriendApplicationRejectConfig { push_config: says(kind) }))
        .await
        .unwrap();
    gets(&world, &server, &["ann"], (kind, "carl", "")).await;
    let row = log(&world, "carl", 1).await.remove(0);
    assert_eq!((row.outcome(), row.detail.as_str()), (PushOutcome::Skipped, "the application does not wait any more"));
    world.end().await;
}

#[tokio::test]
async fn applications_and_invitations_to_a_group_and_their_answers_are_pushed() {
    let (world, server) = with_phones(&["ann", "bob", "carl", "dan", "eve"]).await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let (dan, eve) = (world.user("dan").await, world.user("eve").await);
    let info = GroupInfo { group_id: "crew".to_owned(), ..GroupInfo::default() };
    let config = GroupAdvancedConfig {
        join_mode: GroupJoinMode::Auth as i32,
        invite_mode: GroupInviteMode::Any as i32,
        be_invite_mode: GroupBeInviteMode::Auth as i32,
        ..GroupAdvancedConfig::default()
    };
    soon(bob.create_group(info, ["dan"], config)).await.unwrap();
    let invites =
        || GroupInviteApplicationSendConfig { push_config: says("groupInviteApplication"), ..Default::default() };
    // A plain member may invite, and does not decide on who applies.
    soon(dan.send_group_invite_applications(["ann"], "crew", invites())).await.unwrap();
    gets(&world, &server, &["ann"], ("groupInviteApplication", "dan", "crew")).await;
    let applies = || GroupJoinApplicationSendConfig { push_config: says("groupJoinApplication"), ..Default::default() };
    for (device, user, is_accepted) in [(&ann, "ann", true), (&eve, "eve", false)] {
        soon(device.send_group_join_application("crew", applies())).await.unwrap();
        gets(&world, &server, &["bob"], ("groupJoinApplication", user, "crew")).await;
        let kind = if is_accepted { "groupJoinApplicationAcceptance" } else { "groupJoinApplicationRejection" };
        let push_config = says(kind);
        if is_accepted {
            let accepts = GroupJoinApplicationAcceptConfig { push_config };
            soon(bob.accept_group_join_application(user, "crew", accepts)).await.unwrap();
        } else {
            let rejects = GroupJoinApplicationRejectConfig { push_config };
            soon(bob.reject_group_join_application(user, "crew", rejects)).await.unwrap();
        }
        gets(&world, &server, &[user], (kind, "bob", "crew")).await;
    }
    for kind in ["groupInviteApplicationRejection", "groupInviteApplicationAcceptance"] {
        soon(bob.send_group_invite_applications(["carl"], "crew", invites())).await.unwrap();
        gets(&world, &server, &["carl"], ("groupInviteApplication", "bob", "crew")).await;
        let push_config = says(kind);
        if kind.ends_with("Acceptance") {
            let accepts = GroupInviteApplicationAcceptConfig { push_config };
            soon(carl.accept_group_invite_application("bob", "crew", accepts)).await.unwrap();
        } else {
            let rejects = GroupInviteApplicationRejectConfig { push_config };
            soon(carl.reject_group_invite_application("bob", "crew", rejects)).await.unwrap();
        }
        gets(&world, &server, &["bob"], (kind, "carl", "crew")).await;
    }
    world.end().await;
}

#[tokio::test]
async fn the_end_of_a_call_is_pushed_and_that_somebody_has_left_it() {
    let (world, server) = with_phones(&["ann", "bob", "carl"]).await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let config = CallInviteConfig { mode: CallInvitationMode::Advanced as i32, ..CallInviteConfig::default() };
    let call = soon(ann.call_invite(["bob", "carl"], config)).await.unwrap().call_id;
    for device in [&bob, &carl] {
        soon(device.call_accept(&call, CallAcceptConfig::default())).await.unwrap();
    }
    let quits = CallQuitConfig { push_config: says("callQuit"), ..CallQuitConfig::default() };
    soon(bob.call_quit(&call, quits)).await.unwrap();
    gets(&world, &server, &["ann", "carl"], ("callQuit", "bob", "")).await;
    let ends = CallEndConfig { push_config: says("callEnd"), ..CallEndConfig::default() };
    soon(ann.call_end(&call, ends)).await.unwrap();
    gets(&world, &server, &["carl"], ("callEnd", "ann", "")).await;
    world.end().await;
}
