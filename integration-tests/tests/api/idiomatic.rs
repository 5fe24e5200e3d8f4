//! Handles of conversations: `zim.peer("bob")` and `zim.group("crew")`.

use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use zim_client_sdk::Chat;
use zim_integration_tests::{Device, World, eventually, group, is_text, refusal, soon, texts};
use zim_protocol::{
    ConversationType, ErrorCode, GroupAdvancedConfig, GroupMemberInfo, Message, MessagePriority, MessageQueryMode,
    MessageSentStatus, MessageType,
};

use crate::group::{create, is_disabled};
use crate::large_group::add_members;

/// Sends `count` numbered texts at once.
async fn fill(chat: &Chat, count: i64) {
    let calls: Vec<_> = (1..=count).map(|number| chat.send(number.to_string()).into_future()).collect();
    let sent = soon(join_all(calls)).await;
    let seqs: Vec<i64> = sent.into_iter().map(|sent| sent.unwrap().message_seq).collect();
    assert_eq!(seqs, (1..=count).collect::<Vec<_>>());
}

fn numbers(range: impl IntoIterator<Item = i64>) -> Vec<String> {
    range.into_iter().map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn peer_sends_when_it_is_awaited_and_yields_the_stored_message() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let chat = ann.peer("bob");
    assert_eq!((chat.id(), chat.conversation_type()), ("bob", ConversationType::Peer));
    drop(chat.send("never"));
    let sent = soon(chat.send("hi").into_future()).await.unwrap();
    assert_eq!((sent.message_seq, sent.as_text(), sent.sent_status()), (1, Some("hi"), MessageSentStatus::Success));
    assert_eq!(bob.receives("hi").await.message_id, sent.message_id);
    // Any message, and every way to name the other side.
    let of_app =
        soon(ann.chat(String::from("bob"), ConversationType::Peer).send(Message::custom("{}", 7)).into_future());
    assert_eq!(of_app.await.unwrap().r#type(), MessageType::Custom);
    assert_eq!(ann.history("bob").await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn peer_send_has_the_options_of_the_reference() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let attached = Arc::new(Mutex::new(None));
    let shown = Arc::clone(&attached);
    let send = ann
        .peer("bob")
        .send("hi")
        .priority(MessagePriority::High)
        .extended_data("{\"color\":\"red\"}")
        .local_extended_data("draft 3")
        .mention(["bob"])
        .mention_all()
        .notify_mentioned(false)
        .receipt()
        .disable_unread()
        .on_attached(move |message| *shown.lock() = Some(message.clone()));
    let sent = soon(send.into_future()).await.unwrap();
    assert_eq!((sent.extended_data.as_str(), sent.is_mention_all), ("{\"color\":\"red\"}", true));
    assert_eq!(
        (sent.mentioned_user_ids.as_slice(), sent.local_extended_data.as_str()),
        (&["bob".to_owned()][..], "draft 3")
    );
    let attached = attached.lock().take().unwrap();
    assert_eq!(attached.local_message_id, sent.local_message_id);
    assert_eq!(attached.sent_status(), MessageSentStatus::Sending);
    let got = bob.receives("hi").await;
    assert_eq!(got.extended_data, sent.extended_data);
    // It does not count as unread; the next one does.
    ann.say("bob", "hello?").await;
    bob.has_unread("ann", 1).await;
    // The config of the reference as a whole.
    let config = zim_protocol::MessageSendConfig { priority: 9, ..Default::default() };
    let refused = soon(ann.peer("bob").send("x").config(config).into_future()).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn peer_sends_in_the_order_in_which_the_calls_are_started() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let chat = ann.peer("bob");
    let (first, second) = (chat.send("1").into_future(), chat.send("2").into_future());
    drop(chat.send("3").into_future());
    assert_eq!(soon(second).await.unwrap().message_seq, 2);
    assert_eq!(soon(first).await.unwrap().message_seq, 1);
    // A future that is dropped loses the answer only.
    eventually("the third", async || (ann.history("bob").await.len() == 3).then_some(())).await;
    assert_eq!(texts(&ann.history("bob").await), ["1", "2", "3"]);
    world.end().await;
}

#[tokio::test]
async fn peer_sends_a_failed_message_again() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let error = soon(ann.peer("bob").send("first try").into_future()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageModuleTargetDoesNotExist);
    let failed = error.failed_message().unwrap().clone();
    let bob = world.user("bob").await;
    let sent = soon(ann.peer("bob").send(failed.clone()).retry().into_future()).await.unwrap();
    assert_eq!(sent.local_message_id, failed.local_message_id);
    bob.receives("first try").await;
    let refused = soon(ann.peer("bob").send(sent).retry().into_future()).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "it was sent");
    assert_eq!(texts(&ann.history("bob").await), ["first try"]);
    world.end().await;
}

#[tokio::test]
async fn history_has_pages_from_new_to_old_until_an_empty_one() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    fill(&ann.peer("bob"), 45).await;
    bob.receives("45").await;
    // The second one is a device that holds none of it.
    let fresh = world.device("bob").await;
    let mut first = None;
    for (device, late) in [(&bob, "late"), (&fresh, "later")] {
        let mut history = device.peer("ann").history();
        if first.is_some() {
            history = history.before(first.take().unwrap());
        }
        let newest = soon(history.next_page(20)).await.unwrap();
        assert_eq!(texts(&newest), numbers(26..=45));
        // What arrives meanwhile shifts nothing.
        ann.say("bob", late).await;
        first = Some(device.receives(late).await);
        assert_eq!(texts(&soon(history.next_page(20)).await.unwrap()), numbers(6..=25));
        assert_eq!(texts(&soon(history.next_page(20)).await.unwrap()), numbers(1..=5));
        for _ in 0..2 {
            assert!(soon(history.next_page(20)).await.unwrap().is_empty());
        }
    }
    world.end().await;
}

#[tokio::test]
async fn history_comes_from_this_device_alone_if_the_app_wants_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    fill(&ann.peer("bob"), 45).await;
    bob.receives("45").await;
    // A client that fetches nothing by itself.
    let fresh = world.login(world.client_with(|config| config.one_shot(true)), "bob").await;
    let held = soon(fresh.peer("ann").history().mode(MessageQueryMode::OnlyLocal).next_page(20)).await.unwrap();
    assert!(held.len() <= 1, "{held:?}");
    assert_eq!(soon(fresh.peer("ann").history().next_page(20)).await.unwrap().len(), 20);
    let held = soon(fresh.peer("ann").history().mode(MessageQueryMode::OnlyLocal).next_page(30)).await.unwrap();
    assert!(texts(&held).ends_with(&numbers(26..=45)), "{held:?}");
    world.end().await;
}

#[tokio::test]
async fn history_as_a_stream_has_all_messages_of_peer_and_group() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    let of_group = |device: &Device| device.chat("crew", ConversationType::Group);
    fill(&ann.peer("bob"), 205).await;
    fill(&of_group(&ann), 150).await;
    bob.has_unread("ann", 205).await;
    bob.has_unread(group("crew"), 150).await;
    for (at, last) in [(bob.peer("ann"), 205), (of_group(&bob), 150)] {
        let all: Vec<Message> = soon(at.history().all().try_collect()).await.unwrap();
        assert_eq!(texts(&all), numbers((1..=last).rev()), "{}", at.id());
    }
    // Without futures-util, and an empty conversation.
    let mut all = ann.peer("bob").history().all();
    assert!(is_text(&soon(all.next()).await.unwrap().unwrap(), "205"));
    let mut none = ann.peer("nobody").history().all();
    assert!(soon(none.next()).await.is_none());
    assert!(soon(none.next()).await.is_none());
    // It ends after an error.
    let mut refused = ann.peer("").history().all();
    assert_eq!(refusal(soon(refused.next()).await.unwrap()), ErrorCode::CommonModuleParamsInvalid);
    assert!(soon(refused.next()).await.is_none());
    world.end().await;
}

#[tokio::test]
async fn revoke_is_for_messages_of_its_conversation() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let sent = ann.say("bob", "secret").await;
    let other = ann.say("carl", "secret too").await;
    carl.receives("secret too").await;
    bob.receives("secret").await;
    drop(ann.peer("bob").revoke(&sent));
    let refused = soon(ann.peer("bob").revoke(&other).into_future()).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    let refused = soon(ann.group("bob").revoke(&sent).into_future()).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(texts(&ann.history("bob").await), ["secret"]);
    let revoked = soon(ann.peer("bob").revoke(&sent).extended_data("sorry").into_future()).await.unwrap();
    assert_eq!((revoked.r#type(), revoked.message_seq), (MessageType::Revoke, 1));
    let Some(zim_client_sdk::message::Body::Revoke(revoke)) = revoked.body else { panic!("{revoked:?}") };
    assert_eq!(revoke.revoke_extended_data, "sorry");
    assert_eq!(texts(&carl.history("ann").await), ["secret too"]);
    world.end().await;
}

#[tokio::test]
async fn chat_does_to_its_messages_what_the_reference_does() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let (to_bob, to_ann) = (ann.peer("bob"), bob.peer("ann"));
    let sent = soon(to_bob.send("hey").receipt().into_future()).await.unwrap();
    let other = ann.say("carl", "elsewhere").await;
    carl.receives("elsewhere").await;
    let got = bob.receives("hey").await;
    let edited = soon(to_bob.edit(&sent, "hello")).await.unwrap();
    assert_eq!((edited.as_text(), &edited.message_id), (Some("hello"), &sent.message_id));
    let reply = soon(to_ann.reply(&got, "yes").into_future()).await.unwrap();
    assert_eq!(reply.replied_info.as_ref().unwrap().message_id, sent.message_id);
    let replies = soon(to_bob.replies(&sent, 0, 10)).await.unwrap();
    assert_eq!((texts(&replies.message_list), replies.next_flag), (vec!["yes".to_owned()], 0));
    let reaction = soon(to_ann.react(&got, "like")).await.unwrap();
    assert_eq!((reaction.total_count, reaction.is_self_included), (1, true));
    assert_eq!(soon(to_ann.unreact(&got, "like")).await.unwrap().total_count, 0);
    soon(to_bob.pin_message(&sent)).await.unwrap();
    assert_eq!(texts(&soon(to_ann.pinned_messages()).await.unwrap()), ["hello"]);
    soon(to_ann.unpin_message(&got)).await.unwrap();
    assert!(soon(to_bob.pinned_messages()).await.unwrap().is_empty());
    // One's own message asks for none.
    let left = soon(to_ann.send_receipts(&[got.clone(), reply.clone()])).await.unwrap();
    assert_eq!(left, [reply.message_id.as_str()]);
    let info = soon(ann.query_message_receipts_info(std::slice::from_ref(&sent), "bob", ConversationType::Peer));
    assert_eq!(info.await.unwrap().infos[0].read_member_count, 1);
    soon(to_ann.delete_messages(std::slice::from_ref(&got))).await.unwrap();
    assert_eq!(texts(&bob.history("ann").await), ["yes"]);
    soon(to_ann.delete_all_messages()).await.unwrap();
    for device in [&bob, &world.device("bob").await] {
        assert!(device.history("ann").await.is_empty());
    }
    assert_eq!(texts(&ann.history("bob").await), ["hello", "yes"]);
    // A message of another conversation is refused here.
    let refused = [
        refusal(soon(to_bob.edit(&other, "x")).await),
        refusal(soon(to_bob.reply(&other, "x").into_future()).await),
        refusal(soon(to_bob.replies(&other, 0, 0)).await),
        refusal(soon(to_bob.react(&other, "x")).await),
        refusal(soon(to_bob.unreact(&other, "x")).await),
        refusal(soon(to_bob.unreact_all(&other)).await),
        refusal(soon(to_bob.pin_message(&other)).await),
        refusal(soon(to_bob.unpin_message(&other)).await),
    ];
    assert_eq!(refused, [ErrorCode::CommonModuleParamsInvalid; 8]);
    assert_eq!(texts(&carl.history("ann").await), ["elsewhere"]);
    world.end().await;
}

#[tokio::test]
async fn chat_reads_its_conversation_and_single_messages() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let chat = bob.peer("ann");
    let unknown = ErrorCode::ConversationModuleConversationDoesNotExist;
    assert_eq!(refusal(soon(chat.conversation()).await), unknown);
    assert_eq!(refusal(soon(chat.clear_unread()).await), unknown);
    fill(&ann.peer("bob"), 3).await;
    bob.has_unread("ann", 3).await;
    let conversation = soon(chat.conversation()).await.unwrap();
    assert_eq!((conversation.conversation_id.as_str(), conversation.unread_message_count), ("ann", 3));
    soon(chat.clear_unread()).await.unwrap();
    assert_eq!(soon(chat.conversation()).await.unwrap().unread_message_count, 0);
    assert_eq!(texts(&soon(chat.messages(&[3, 1, 9])).await.unwrap()), ["1", "3"]);
    world.end().await;
}

#[tokio::test]
async fn group_joins_is_told_about_kicks_leaves_and_is_dismissed() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "crew", &[]).await;
    for device in [&bob, &cai] {
        let joined = soon(device.group("crew").join()).await.unwrap();
        assert_eq!(joined, soon(device.group("crew").info()).await.unwrap());
        assert_eq!(joined.base_info.unwrap().group_id, "crew");
    }
    soon(bob.group("crew").send("hi all").into_future()).await.unwrap();
    cai.receives("hi all").await;
    assert_eq!(soon(cai.group("crew").conversation()).await.unwrap().unread_message_count, 1);
    let kicked = soon(ann.group("crew").kick(["cai", "nobody"])).await.unwrap();
    assert_eq!((kicked.kicked_user_ids, kicked.error_user_list.len()), (vec!["cai".to_owned()], 1));
    is_disabled(&cai, "crew").await;
    soon(bob.group("crew").leave()).await.unwrap();
    is_disabled(&bob, "crew").await;
    let left: Vec<GroupMemberInfo> = soon(ann.group("crew").members().try_collect()).await.unwrap();
    assert_eq!(left.iter().map(|member| member.user_id.as_str()).collect::<Vec<_>>(), ["ann"]);
    let refused = soon(bob.group("crew").members().next()).await.unwrap();
    assert_eq!(refusal(refused), ErrorCode::GroupModuleUserIsNotInTheGroup);
    soon(ann.group("crew").dismiss()).await.unwrap();
    is_disabled(&ann, "crew").await;
    let gone = ErrorCode::GroupModuleGroupDoesNotExist;
    assert_eq!(refusal(soon(ann.group("crew").dismiss()).await), gone);
    assert_eq!(refusal(soon(bob.group("crew").join()).await), gone);
    assert_eq!(refusal(soon(bob.group("nothing").info()).await), gone);
    assert_eq!(refusal(soon(bob.group("nothing").leave()).await), gone);
    world.end().await;
}

#[tokio::test]
async fn group_members_are_paged_to_the_end() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let info = zim_protocol::GroupInfo { group_id: "crew".into(), ..Default::default() };
    soon(ann.create_group(info, Vec::<String>::new(), GroupAdvancedConfig::default())).await.unwrap();
    add_members(&world, 249).await;
    let members: Vec<GroupMemberInfo> = soon(ann.group("crew").members().try_collect()).await.unwrap();
    let expected = std::iter::once("ann".to_owned()).chain((1..=249).map(|number| format!("user{number}")));
    assert_eq!(members.into_iter().map(|member| member.user_id).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert!(ann.history(group("crew")).await.is_empty());
    world.end().await;
}
