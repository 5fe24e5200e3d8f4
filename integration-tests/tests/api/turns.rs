//! Many read at the same moment: members of a group who open it, or devices of two users.

use std::sync::mpsc;

use futures_util::future::join_all;
use zim_client_sdk::message::MessageSendNotification;
use zim_integration_tests::{Device, RawClient, World, code, eventually, group, soon};
use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, ConversationType, Message, MessageSendConfig, QueryUsersInfoRequest,
    Rpc, SendConversationMessageReceiptReadRequest, SendMessageReceiptsReadRequest,
};
use zim_server::db::{Scope, Tx};
use zim_server::key::ConversationKey;

use super::group::create;

const READERS: usize = 100;
/// Those of one conversation who wait for the database at once, on each node.
const AT_ONCE: usize = 8;
/// The threads of each node that read the database.
const DB_READERS: usize = 4;

async fn world() -> World {
    World::with(|config| {
        config.limits.handshakes_per_second_per_address = 1_000_000;
        config.limits.max_one_shots_per_user = READERS;
    })
    .await
}

/// Creates a group "crew" of ann and many members; returns all of them.
async fn crew(world: &World) -> (Device, Vec<RawClient>) {
    let ann = world.user("ann").await;
    let names: Vec<String> = (0..READERS).map(|number| format!("reader{number}")).collect();
    let readers = world.raw_users(&names).await;
    create(&ann, "crew", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    (ann, readers)
}

/// Lets ann say something to the group "crew" that asks for receipts; returns the request of whoever has read it.
async fn receipt_of_news(ann: &Device) -> SendMessageReceiptsReadRequest {
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let (kind, notification) = (ConversationType::Group, MessageSendNotification::default());
    let sent = soon(ann.send_message(Message::text("news"), "crew", kind, config, notification)).await.unwrap();
    SendMessageReceiptsReadRequest {
        message_list: vec![Message { message_id: sent.message.unwrap().message_id, ..Message::default() }],
        conversation_id: "crew".to_owned(),
        conversation_type: kind as i32,
    }
}

/// Returns the only conversation of a type.
async fn only(world: &World, kind: ConversationType) -> ConversationKey {
    let sql = format!("SELECT id FROM conversation WHERE type = {}", kind as i32);
    let found = world
        .server()
        .app()
        .db
        .read(async move |tx: &mut Tx<'_>| Ok(ConversationKey(tx.fetch_one(&sql, &[]).await?.unwrap().get(0)?)));
    found.await.unwrap()
}

/// Sends all requests while nothing is written to the conversation, and asserts that only some of them wait for the database.
async fn leave_room<R: Rpc>(world: World, conversation: ConversationKey, readers: Vec<(RawClient, R)>) {
    // Nothing is written to the conversation until this ends.
    let (end, ended) = mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let held = world.server().app().db.submit(Scope::conversation(conversation), async move |_: &mut Tx<'_>| {
        let _ = begin.send(());
        let _ = ended.recv();
        Ok(())
    });
    begun.await.unwrap();
    let mut waiting_readers = Vec::with_capacity(readers.len());
    for (mut reader, request) in readers {
        reader.send_request(&request).await;
        waiting_readers.push(reader);
    }
    // A request reads up to three times before it writes. When the last of these answers is there, all of that has been read.
    for _ in 0..4 {
        for reader in &mut waiting_readers {
            reader.send_request(&QueryUsersInfoRequest { user_ids: vec!["ann".to_owned()], config: None }).await;
            reader.responses(1).await;
        }
    }
    let waiting = || world.servers().map(|server| server.app().db.waiting()).sum::<usize>();
    eventually("those whose turn it is", async || (waiting() >= AT_ONCE - 1).then_some(())).await;
    assert!(waiting() <= AT_ONCE * world.servers().count(), "{}", waiting());
    end.send(()).unwrap();
    held.await.unwrap();
    for reader in &mut waiting_readers {
        assert_eq!(code(&reader.response().await), 0);
    }
    RawClient::end_all(waiting_readers).await;
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_unread_message_count_of_many_members_leaves_room_for_others() {
    let world = world().await;
    let (ann, readers) = crew(&world).await;
    ann.say(group("crew"), "news").await;
    let clear = ClearConversationUnreadMessageCountRequest {
        conversation_id: "crew".to_owned(),
        conversation_type: ConversationType::Group as i32,
        through_seq: 0,
    };
    let readers = readers.into_iter().map(|reader| (reader, clear.clone())).collect();
    let conversation = only(&world, ConversationType::Group).await;
    leave_room(world, conversation, readers).await;
}

#[tokio::test]
async fn send_message_receipts_read_of_many_members_leaves_room_for_others() {
    let world = world().await;
    let (ann, readers) = crew(&world).await;
    let read = receipt_of_news(&ann).await;
    let readers = readers.into_iter().map(|reader| (reader, read.clone())).collect();
    let conversation = only(&world, ConversationType::Group).await;
    leave_room(world, conversation, readers).await;
}

#[tokio::test]
async fn send_conversation_message_receipt_read_of_many_sessions_leaves_room_for_others() {
    let world = world().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "news").await;
    bob.receives("news").await;
    let log_in = |number: usize| {
        let world = &world;
        // Two users have few devices, and many one-shot logins.
        let (user, peer) = if number.is_multiple_of(2) { ("ann", "bob") } else { ("bob", "ann") };
        async move {
            let mut reader = world.raw_after_hello(1).await;
            reader.call(&world.one_shot_request(user)).await.unwrap();
            let read = SendConversationMessageReceiptReadRequest {
                conversation_id: peer.to_owned(),
                conversation_type: ConversationType::Peer as i32,
                through_seq: None,
            };
            (reader, read)
        }
    };
    let mut readers = Vec::with_capacity(READERS);
    for some in (0..READERS).collect::<Vec<_>>().chunks(25) {
        readers.extend(join_all(some.iter().map(|number| log_in(*number))).await);
    }
    let conversation = only(&world, ConversationType::Peer).await;
    leave_room(world, conversation, readers).await;
}

/// All members of a group read the same message. The first of them looks who has sent it, and the others do not: here the
/// database answers no read.
#[tokio::test]
async fn send_message_receipts_read_of_a_message_that_is_known_reads_nothing_before_it_writes() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut reader = world.raw_user("reader", 1).await;
    create(&ann, "crew", &["reader"]).await;
    let read = receipt_of_news(&ann).await;
    assert!(reader.call(&read).await.unwrap().error_message_ids.is_empty());
    // More reads than there are threads for them.
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let mut ends = Vec::new();
    let mut held = Vec::new();
    for server in world.servers() {
        for _ in 0..4 * DB_READERS {
            let ((end, ended), begin) = (mpsc::channel::<()>(), begin.clone());
            ends.push(end);
            held.push(server.app().db.read(async move |_: &mut Tx<'_>| {
                let _ = begin.send(());
                let _ = ended.recv();
                Ok(())
            }));
        }
    }
    for _ in 0..DB_READERS * world.servers().count() {
        begun.recv().await.unwrap();
    }
    assert!(reader.call(&read).await.unwrap().error_message_ids.is_empty());
    drop(ends);
    for read in held {
        read.await.unwrap();
    }
    reader.end().await;
    world.end().await;
}
