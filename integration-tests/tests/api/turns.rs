//! Many members of a group open it at the same moment.

use std::sync::mpsc;

use zim_integration_tests::{World, eventually, group};
use zim_protocol::{ClearConversationUnreadMessageCountRequest, ConversationType, QueryUsersInfoRequest};
use zim_server::db::{Scope, Tx, params};
use zim_server::key::ConversationKey;

use super::group::create;

const READERS: usize = 100;
/// Those of one conversation who wait for the database at once, on each node.
const AT_ONCE: usize = 32;

#[tokio::test]
async fn clear_conversation_unread_message_count_of_many_members_leaves_room_for_others() {
    let world = World::with(|config| config.limits.handshakes_per_second_per_address = 1_000_000).await;
    let ann = world.user("ann").await;
    let names: Vec<String> = (0..READERS).map(|number| format!("reader{number}")).collect();
    let mut readers = Vec::new();
    for name in &names {
        readers.push(world.raw_user(name, 1).await);
    }
    create(&ann, "crew", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    ann.say(group("crew"), "news").await;
    let db = &world.server().app().db;
    let key = db.read(async move |tx: &mut Tx<'_>| {
        let sql = "SELECT id FROM conversation WHERE type = 2 AND name = $1";
        Ok(ConversationKey(tx.fetch_one(sql, &params!["crew"]).await?.unwrap().get(0)?))
    });
    let key = key.await.unwrap();
    // Nothing is written to the group until this ends.
    let (end, ended) = mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let held = db.submit(Scope::conversation(key), async move |_: &mut Tx<'_>| {
        let _ = begin.send(());
        let _ = ended.recv();
        Ok(())
    });
    begun.await.unwrap();
    let clear = ClearConversationUnreadMessageCountRequest {
        conversation_id: "crew".to_owned(),
        conversation_type: ConversationType::Group as i32,
        through_seq: 0,
    };
    for reader in &mut readers {
        reader.send_request(&clear).await;
    }
    // When the second answer is there, whatever a read mark reads before it is written has been read.
    for _ in 0..2 {
        for reader in &mut readers {
            reader.send_request(&QueryUsersInfoRequest { user_ids: vec!["ann".to_owned()], config: None }).await;
            reader.responses(1).await;
        }
    }
    let waiting = || world.servers().map(|server| server.app().db.waiting()).sum::<usize>();
    eventually("those whose turn it is", async || (waiting() >= AT_ONCE - 1).then_some(())).await;
    assert!(waiting() <= AT_ONCE * world.servers().count(), "{}", waiting());
    end.send(()).unwrap();
    held.await.unwrap();
    for mut reader in readers {
        reader.responses(1).await;
        reader.end().await;
    }
    world.end().await;
}
