//! Retention: messages that are too old leave the server and the devices, and nothing else changes.

use tonic::Code;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Chat, Device, OperatorClient, World, eventually, group, soon, texts};
use zim_protocol::{
    ConversationType, EventKind, GetRetentionRequest, ListAuditRequest, Message, MessageDeleteConfig, MessageQueryMode,
    MessageReceiptStatus, MessageRepliedInfoState, MessageRepliedListQueryConfig, MessageRevokeConfig,
    MessageSendConfig, Retention, SetRetentionRequest,
};
use zim_server::db::{Scope, Tx, params};

use crate::audit::{actions, rows as audit_rows};
use crate::group::create;
use crate::media::{Files, png, send};

const DAY_MS: i64 = 86_400_000;
const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
const PLAIN: MessageRevokeConfig = MessageRevokeConfig { push_config: None, revoke_extended_data: String::new() };

/// Makes all messages that there are eight days older: the clients' tokens are not valid for as long.
async fn age(world: &World) {
    let aged = world.server().app().db.submit(Scope::none(), async |tx: &mut Tx<'_>| {
        tx.execute("UPDATE message SET ts = ts - $1", &params![8 * DAY_MS]).await?;
        Ok(())
    });
    soon(aged).await.unwrap();
}

async fn count(world: &World, sql: &'static str) -> i64 {
    let counting = world.server().app().db.read(async move |tx: &mut Tx<'_>| {
        let row = tx.fetch_one(sql, &[]).await?;
        Ok(row.unwrap().get::<i64>(0)?)
    });
    soon(counting).await.unwrap()
}

fn of_app(world: &World, days: i64) -> SetRetentionRequest {
    SetRetentionRequest { app_id: world.app_id(), days: Some(days), ..SetRetentionRequest::default() }
}

fn between(world: &World, one: &str, other: &str, days: Option<i64>) -> SetRetentionRequest {
    SetRetentionRequest { user_ids: vec![one.into(), other.into()], days, ..of_app(world, 0) }
}

fn of_group(world: &World, group_id: &str, days: Option<i64>) -> SetRetentionRequest {
    SetRetentionRequest { group_id: group_id.into(), days, ..of_app(world, 0) }
}

async fn set(operator: &mut OperatorClient, request: SetRetentionRequest) -> Retention {
    soon(operator.set_retention(request)).await.unwrap().into_inner()
}

/// Waits until a device itself has these messages and no others.
async fn holds(device: &Device, with: Chat<'_>, expected: &[&str]) {
    let mut last = Vec::new();
    eventually(&format!("{expected:?} on the device"), async || {
        last = texts(&device.history_by(with, MessageQueryMode::OnlyLocal).await);
        (last == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn set_retention_of_an_app_removes_messages_from_the_server_and_the_devices() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::image(files.add("cat.png", &png(10, 10)))).await.unwrap();
    for text in ["old 1", "old 2"] {
        ann.say("bob", text).await;
    }
    bob.receives("old 2").await;
    age(&world).await;
    ann.say("bob", "new").await;
    bob.receives("new").await;
    let mut operator = world.admin().await;
    assert_eq!(set(&mut operator, of_app(&world, 7)).await, Retention { days: 7, is_own: true });
    for (device, peer) in [(&bob, "ann"), (&ann, "bob")] {
        holds(device, peer.into(), &["new"]).await;
        assert_eq!(texts(&device.history(peer).await), ["new"]);
    }
    eventually("the rows are gone", async || (count(&world, "SELECT COUNT(*) FROM message").await == 1).then_some(()))
        .await;
    assert_eq!(count(&world, "SELECT COUNT(*) FROM media_ref").await, 0);
    // What is unread stays so, until it is read.
    let new = world.device("bob").await;
    assert_eq!(texts(&new.history("ann").await), ["new"]);
    for device in [&bob, &new] {
        device.has_unread("ann", 4).await;
    }
    bob.read("ann").await;
    ann.say("bob", "newer").await;
    for device in [&bob, &new] {
        device.receives("newer").await;
        device.has_unread("ann", 1).await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn set_retention_leaves_a_reply_whose_source_is_not_found() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "old").await;
    let got = bob.receives("old").await;
    age(&world).await;
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    soon(bob.reply_message(Message::text("re"), &got, config, notification)).await.unwrap();
    ann.receives("re").await;
    let mut operator = world.admin().await;
    set(&mut operator, of_app(&world, 7)).await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        holds(device, peer.into(), &["re"]).await;
    }
    let new = world.device("bob").await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann"), (&new, "ann")] {
        let reply = device.history(peer).await.remove(0);
        let info = reply.replied_info.as_ref().unwrap();
        assert_eq!((info.state(), &info.message_info), (MessageRepliedInfoState::NotFound, &None));
        let config = MessageRepliedListQueryConfig::default();
        let page = soon(device.query_message_replied_list(&reply, config)).await.unwrap();
        let info = page.root_replied_info.unwrap();
        assert_eq!((info.state(), info.message), (MessageRepliedInfoState::NotFound, None));
    }
    drop(operator);
    world.end().await;
}

/// Otherwise every message that was ever read would leave a row for its sender and for each reader.
#[tokio::test]
async fn set_retention_removes_what_feeds_say_of_receipts() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let is_read = async |text: &str| {
        let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
        let (message, notification) = (Message::text(text), MessageSendNotification::default());
        soon(ann.send_message(message, "bob", ConversationType::Peer, config, notification)).await.unwrap();
        let got = bob.receives(text).await;
        soon(bob.send_message_receipts_read(std::slice::from_ref(&got), "ann", ConversationType::Peer)).await.unwrap();
        ann.next(EventKind::MessageReceiptChanged).await;
    };
    is_read("old").await;
    age(&world).await;
    is_read("new").await;
    let told = "SELECT COUNT(*) FROM feed WHERE kind = 20";
    assert_eq!(count(&world, told).await, 4, "each of the two is told of both");
    set(&mut world.admin().await, of_app(&world, 7)).await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        holds(device, peer.into(), &["new"]).await;
    }
    eventually("the rows are gone", async || (count(&world, told).await == 2).then_some(())).await;
    let of_new = "SELECT COUNT(*) FROM feed f JOIN message m ON m.id = f.key WHERE f.kind = 20";
    assert_eq!(count(&world, of_new).await, 2);
    assert_eq!(count(&world, "SELECT COUNT(*) FROM receipt").await, 1);
    // A device that comes later lacks nothing.
    let new = world.device("bob").await;
    let left = new.history("ann").await;
    assert_eq!(texts(&left), ["new"]);
    assert_eq!(left[0].receipt_status(), MessageReceiptStatus::Done);
    world.end().await;
}

#[tokio::test]
async fn set_retention_is_looked_after_every_hour() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut operator = world.admin().await;
    set(&mut operator, of_app(&world, 7)).await;
    ann.say("bob", "young").await;
    bob.receives("young").await;
    age(&world).await;
    ann.say("bob", "new").await;
    bob.receives("new").await;
    world.clock.advance(3_600_001);
    holds(&bob, "ann".into(), &["new"]).await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn set_retention_keeps_what_is_taken_out_of_unread_counts() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut sent = Vec::new();
    for number in 0..6 {
        sent.push(ann.say("bob", &format!("n {number}")).await);
    }
    bob.receives("n 5").await;
    soon(ann.revoke_message(&sent[1], PLAIN)).await.unwrap();
    bob.has_unread("ann", 5).await;
    let held = bob.history("ann").await;
    soon(bob.delete_messages(&held[2..3], "ann", ConversationType::Peer, EVERYWHERE)).await.unwrap();
    bob.has_unread("ann", 4).await;
    age(&world).await;
    set(&mut world.admin().await, of_app(&world, 7)).await;
    holds(&bob, "ann".into(), &[]).await;
    let left = "SELECT COUNT(*) FROM message WHERE LENGTH(body) > 0";
    eventually("no content is left", async || (count(&world, left).await == 0).then_some(())).await;
    assert_eq!(count(&world, "SELECT COUNT(*) FROM message").await, 2, "the two that do not count");
    let new = world.device("bob").await;
    for device in [&bob, &new] {
        device.has_unread("ann", 4).await;
    }
    ann.say("bob", "new").await;
    for device in [&bob, &new] {
        device.has_unread("ann", 5).await;
    }
    new.read("ann").await;
    for device in [&bob, &new] {
        device.has_unread("ann", 0).await;
    }
    world.end().await;
}

#[tokio::test]
async fn set_retention_of_a_conversation_goes_before_that_of_the_app() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    create(&ann, "crew", &["bob"]).await;
    let away = world.device("bob").await;
    ann.say(group("crew"), "old").await;
    for device in [&bob, &away] {
        device.receives("old").await;
    }
    ann.say("bob", "kept").await;
    ann.say("eve", "old, too").await;
    for device in [&bob, &away] {
        device.receives("kept").await;
    }
    eve.receives("old, too").await;
    away.quit().await;
    age(&world).await;
    let mut operator = world.admin().await;
    assert_eq!(set(&mut operator, of_group(&world, "crew", Some(7))).await, Retention { days: 7, is_own: true });
    holds(&bob, group("crew"), &[]).await;
    // Only the group has a setting so far.
    assert_eq!(texts(&eve.history("ann").await), ["old, too"]);
    assert_eq!(set(&mut operator, between(&world, "bob", "ann", Some(0))).await, Retention { days: 0, is_own: true });
    set(&mut operator, of_app(&world, 7)).await;
    holds(&eve, "ann".into(), &[]).await;
    assert_eq!(texts(&bob.history("ann").await), ["kept"]);
    // A device that was away learns it when it returns.
    let back = world.user_at(away.dir(), "bob").await;
    holds(&back, group("crew"), &[]).await;
    assert_eq!(texts(&back.history_by("ann", MessageQueryMode::OnlyLocal).await), ["kept"]);

    let get = GetRetentionRequest {
        app_id: world.app_id(),
        user_ids: vec!["ann".into(), "bob".into()],
        ..GetRetentionRequest::default()
    };
    let found = soon(operator.get_retention(get.clone())).await.unwrap().into_inner();
    assert_eq!(found, Retention { days: 0, is_own: true });
    assert_eq!(set(&mut operator, between(&world, "ann", "bob", None)).await, Retention { days: 7, is_own: false });
    holds(&bob, "ann".into(), &[]).await;
    let log = audit_rows(&mut operator, ListAuditRequest::default()).await;
    assert_eq!(actions(&log), [("SetRetention", ""); 4]);
    drop(operator);
    world.end().await;
}

/// The place of a group in the list of a device that has never run before.
async fn place(world: &World, user_id: &str) -> i64 {
    let new = world.device(user_id).await;
    let crew = eventually("the group on the device", async || {
        new.query_conversation("crew", ConversationType::Group).await.ok()?.conversation
    })
    .await;
    new.quit().await;
    crew.order_key
}

#[tokio::test]
async fn set_retention_leaves_a_group_its_place_in_the_list() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    create(&ann, "crew", &["bob", "eve"]).await;
    for text in ["first", "last for eve"] {
        ann.say(group("crew"), text).await;
    }
    eve.receives("last for eve").await;
    soon(eve.leave_group("crew")).await.unwrap();
    world.clock.advance(1_000);
    for text in ["old", "last"] {
        ann.say(group("crew"), text).await;
    }
    bob.receives("last").await;
    age(&world).await;
    let before = [place(&world, "bob").await, place(&world, "eve").await];
    assert!(before[1] < before[0], "{before:?}");
    set(&mut world.admin().await, of_group(&world, "crew", Some(7))).await;
    holds(&bob, group("crew"), &[]).await;
    let left = "SELECT COUNT(*) FROM message WHERE LENGTH(body) > 0";
    eventually("no content is left", async || (count(&world, left).await == 0).then_some(())).await;
    assert_eq!(count(&world, "SELECT COUNT(*) FROM message").await, 2, "the last of the group, and of the stay of eve");
    assert_eq!([place(&world, "bob").await, place(&world, "eve").await], before);

    // When newer messages are no longer kept, theirs is the row that dates the group.
    ann.say(group("crew"), "newer").await;
    bob.receives("newer").await;
    age(&world).await;
    let before = [place(&world, "bob").await, place(&world, "eve").await];
    set(&mut world.admin().await, of_group(&world, "crew", Some(7))).await;
    holds(&bob, group("crew"), &[]).await;
    eventually("no content is left", async || (count(&world, left).await == 0).then_some(())).await;
    assert_eq!(count(&world, "SELECT COUNT(*) FROM message").await, 2, "the newest of the group, and that of the stay");
    assert_eq!([place(&world, "bob").await, place(&world, "eve").await], before);
    world.end().await;
}

#[tokio::test]
async fn set_retention_refuses_what_it_cannot_set() {
    let world = World::new().await;
    let (_ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let mut operator = world.admin().await;
    for (request, code) in [
        (SetRetentionRequest { days: None, ..of_app(&world, 0) }, Code::InvalidArgument),
        (of_app(&world, -1), Code::InvalidArgument),
        (of_app(&world, 36_501), Code::InvalidArgument),
        (SetRetentionRequest { user_ids: vec!["ann".into()], ..of_app(&world, 1) }, Code::InvalidArgument),
        (SetRetentionRequest { group_id: "crew".into(), ..between(&world, "ann", "bob", None) }, Code::InvalidArgument),
        (between(&world, "nobody", "bob", Some(1)), Code::NotFound),
        // They have not written to each other.
        (between(&world, "ann", "bob", Some(1)), Code::FailedPrecondition),
        (of_group(&world, "crew", Some(1)), Code::FailedPrecondition),
        (SetRetentionRequest { app_id: world.app_id() ^ 1, ..of_app(&world, 1) }, Code::NotFound),
    ] {
        let refused = soon(operator.set_retention(request.clone())).await.unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}");
    }
    let get = GetRetentionRequest { app_id: world.app_id(), ..GetRetentionRequest::default() };
    let found = soon(operator.get_retention(get)).await.unwrap().into_inner();
    assert_eq!(found, Retention { days: 0, is_own: true });
    drop(operator);
    world.end().await;
}
