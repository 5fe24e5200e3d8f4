//! The export of a user: everything that they see, and nothing else.

use tonic::Code;
use zim_client_sdk::PushToken;
use zim_integration_tests::{OperatorClient, World, eventually, group, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    CallInvitationMode as Mode, ConversationType, ExportUserRequest, ExportUserResult, FriendApplicationSendConfig,
    ListAuditRequest, Message, MessageDeleteConfig, MessageType,
};

use crate::audit::{actions, rows};
use crate::call::invite;
use crate::friend::add;
use crate::group::create;
use crate::group_application::{Crew, apply};
use crate::media::{Files, image_of, png, send};

pub(crate) async fn export(operator: &mut OperatorClient, app_id: u32, user_id: &str) -> Vec<ExportUserResult> {
    let (mut parts, mut after) = (Vec::new(), String::new());
    loop {
        let request = ExportUserRequest { app_id, user_id: user_id.into(), after: std::mem::take(&mut after) };
        let part = soon(operator.export_user(request)).await.unwrap().into_inner();
        after.clone_from(&part.next);
        parts.push(part);
        if after.is_empty() {
            return parts;
        }
    }
}

fn text(message: &Message) -> String {
    match &message.body {
        Some(Body::Text(text)) => text.message.clone(),
        other => panic!("{other:?}"),
    }
}

/// The conversations, each with the messages that follow it.
fn conversations(parts: &[ExportUserResult]) -> Vec<(String, Vec<Message>)> {
    let mut found: Vec<(String, Vec<Message>)> = Vec::new();
    for part in parts {
        if let Some(conversation) = &part.conversation {
            found.push((conversation.conversation_id.clone(), Vec::new()));
        }
        if !part.messages.is_empty() {
            found.last_mut().unwrap().1.extend(part.messages.iter().cloned());
        }
    }
    found
}

#[tokio::test]
async fn export_user_has_what_the_user_sees() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    soon(ann.update_user_name("Ann A.")).await.unwrap();
    add(&ann, "bob").await;
    soon(ann.add_users_to_blacklist(["eve"])).await.unwrap();
    create(&bob, "crew", &["eve"]).await;
    bob.say(group("crew"), "before ann").await;
    soon(bob.invite_users_into_group(["ann"], "crew")).await.unwrap();
    bob.say(group("crew"), "with ann").await;
    eve.say("bob", "not for ann").await;
    for number in 0..120 {
        ann.say("bob", &format!("n {number}")).await;
    }
    let files = Files::new();
    let picture = Message::image(files.add("cat.png", &png(10, 10)));
    let picture = send(&ann, picture).await.unwrap();
    bob.say("ann", "nice").await;
    ann.receives("nice").await;
    let hidden = ann.history("bob").await.pop().unwrap();
    let everywhere = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    soon(ann.delete_messages(std::slice::from_ref(&hidden), "bob", ConversationType::Peer, everywhere)).await.unwrap();
    soon(ann.update_conversation_pinned_state(true, "bob", ConversationType::Peer)).await.unwrap();
    eventually("ann is in the group", async || ann.query_conversation("crew", ConversationType::Group).await.ok())
        .await;

    let mut operator = world.admin().await;
    let parts = export(&mut operator, world.app_id(), "ann").await;
    let first = &parts[0];
    assert_eq!(first.access.as_ref().unwrap().user_id, "ann");
    let own = first.self_user_info.clone().unwrap().user_full_info.unwrap().base_info.unwrap();
    assert_eq!(own.user_name, "Ann A.");
    let friends: Vec<&str> = parts.iter().flat_map(|part| &part.friends).map(|it| it.user_id.as_str()).collect();
    assert_eq!(friends, ["bob"]);
    let blocked: Vec<&str> = parts.iter().flat_map(|part| &part.blacklist).map(|it| it.user_id.as_str()).collect();
    assert_eq!(blocked, ["eve"]);
    assert_eq!(parts.iter().flat_map(|part| &part.groups).count(), 1);

    let found = conversations(&parts);
    let of = |id: &str| &found.iter().find(|(found, _)| found == id).unwrap().1;
    assert_eq!(found.len(), 2);
    let with_bob = of("bob");
    // The last one of them is hidden.
    assert_eq!(with_bob.len(), 121, "a conversation has more messages than a part");
    let texts: Vec<String> = with_bob[..120].iter().map(text).collect();
    assert_eq!(texts, (0..120).map(|number| format!("n {number}")).collect::<Vec<_>>());
    assert!(with_bob.iter().all(|message| message.message_id != hidden.message_id));
    assert_eq!(with_bob[120].r#type(), MessageType::Image);
    let url = image_of(&picture).file_download_url.as_str();
    let exported: Vec<&str> = parts.iter().flat_map(|part| &part.files).map(|file| file.url.as_str()).collect();
    assert_eq!(exported, [url]);
    let in_group: Vec<String> = of("crew").iter().map(text).collect();
    assert_eq!(in_group, ["with ann"]);
    let pinned = parts.iter().filter_map(|part| part.conversation.as_ref()).filter(|it| it.pinned_time > 0);
    assert_eq!(pinned.map(|it| it.conversation_id.as_str()).collect::<Vec<_>>(), ["bob"]);

    // Each export has one row in the audit log.
    let log = rows(&mut operator, ListAuditRequest::default()).await;
    assert_eq!(actions(&log), [("ExportUser", "ann")]);
    for (user_id, after, code) in [("nobody", "", Code::NotFound), ("ann", "coffee/1", Code::InvalidArgument)] {
        let request = ExportUserRequest { app_id: world.app_id(), user_id: user_id.into(), after: after.into() };
        assert_eq!(soon(operator.export_user(request)).await.unwrap_err().code(), code);
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn export_user_has_applications_calls_and_what_was_said_before_they_left() {
    let Crew { world, ann, adam: _adam, mia: _mia, dan, eve: _eve } = Crew::asking().await;
    apply(&dan, "let dan in").await.unwrap();
    let config = FriendApplicationSendConfig { wording: "it is Dan".into(), ..FriendApplicationSendConfig::default() };
    soon(dan.send_friend_application("eve", config)).await.unwrap();
    let push_id = soon(dan.register_push(PushToken::webhook("phone"))).await.unwrap().push_id;
    let call_id = invite(&dan, Mode::General, &["ann"]).await;
    create(&ann, "club", &["dan"]).await;
    ann.say(group("club"), "with dan").await;
    dan.receives("with dan").await;
    soon(dan.leave_group("club")).await.unwrap();
    ann.say(group("club"), "without dan").await;

    let mut operator = world.admin().await;
    let parts = export(&mut operator, world.app_id(), "dan").await;
    let registered: Vec<&str> = parts[0].push_registrations.iter().map(|it| it.push_id.as_str()).collect();
    assert_eq!(registered, [push_id]);
    let asked: Vec<&str> =
        parts.iter().flat_map(|part| &part.group_applications).map(|it| it.wording.as_str()).collect();
    assert_eq!(asked, ["let dan in"]);
    let asked: Vec<&str> =
        parts.iter().flat_map(|part| &part.friend_applications).map(|it| it.wording.as_str()).collect();
    assert_eq!(asked, ["it is Dan"]);
    let calls: Vec<&str> = parts.iter().flat_map(|part| &part.calls).map(|it| it.call_id.as_str()).collect();
    assert_eq!(calls, [call_id]);
    let left: Vec<(&str, bool)> = parts
        .iter()
        .filter_map(|part| part.conversation.as_ref())
        .map(|it| (it.conversation_id.as_str(), it.has_left))
        .collect();
    assert_eq!(left, [("club", true)]);
    let said: Vec<String> = conversations(&parts)[0].1.iter().map(text).collect();
    assert_eq!(said, ["with dan"]);
    drop(operator);
    world.end().await;
}
