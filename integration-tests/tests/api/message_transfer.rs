//! Exporting the messages of a device, and importing them.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use prost::Message as _;
use serde_json::Value;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, World, is_text, refusal, soon, texts};
use zim_protocol::{
    ConversationType, ErrorCode, EventKind, MediaFileType, Message, MessageDeleteConfig, MessageEditConfig,
    MessageExportConfig, MessageImportConfig, MessagePinConfig, MessageQueryMode, MessageReceiptStatus,
    MessageRevokeConfig, MessageSearchConfig, MessageSendConfig, MessageSentStatus, MessageType,
};

use crate::media::{Files, download, send};

const PEER: ConversationType = ConversationType::Peer;

const FILE: &str = "zim-messages.jsonl";

async fn export(device: &Device, folder: &Path) -> Result<Vec<(u64, u64)>, zim_client_sdk::Error> {
    let mut progress = Vec::new();
    let noted = |done, all| progress.push((done, all));
    soon(device.export_local_messages(folder.to_str().unwrap(), MessageExportConfig {}, noted)).await?;
    Ok(progress)
}

async fn import(device: &Device, folder: &Path) -> Result<Vec<(u64, u64)>, zim_client_sdk::Error> {
    let mut progress = Vec::new();
    let noted = |done, all| progress.push((done, all));
    soon(device.import_local_messages(folder.to_str().unwrap(), MessageImportConfig {}, noted)).await?;
    Ok(progress)
}

async fn found(device: &Device, word: &str) -> usize {
    let config = MessageSearchConfig { keywords: vec![word.to_owned()], ..MessageSearchConfig::default() };
    soon(device.search_local_messages("bob", ConversationType::Peer, config)).await.unwrap().message_list.len()
}

#[tokio::test]
async fn import_local_messages_brings_messages_to_a_new_device() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    let sent = ann.say("bob", "the secret").await;
    let sends: Vec<_> = (0..250).map(|number| ann.send("bob", Message::text(format!("message {number}")))).collect();
    for send in sends {
        soon(send).await.unwrap();
    }
    bob.say("ann", "hi").await;
    ann.receives("hi").await;
    let inserted = ann.insert_message_to_local_db(Message::text("note"), "bob", ConversationType::Peer, "bob");
    soon(inserted).await.unwrap();
    soon(ann.update_message_local_extended_data("starred", &sent)).await.unwrap();
    let progress = export(&ann, &folder.path().join("deep/folder")).await.unwrap();
    assert_eq!(progress, [(200, 253), (253, 253)]);
    let folder = folder.path().join("deep/folder");

    let new = world.device("ann").await;
    assert_eq!(found(&new, "note").await, 0);
    assert_eq!(import(&new, &folder).await.unwrap(), [(200, 253), (253, 253)]);
    assert_eq!((found(&new, "note").await, found(&new, "secret").await, found(&new, "message 249").await), (1, 1, 1));
    // Twice is once, and a device that has everything keeps it.
    import(&new, &folder).await.unwrap();
    import(&ann, &folder).await.unwrap();
    for device in [&new, &ann] {
        let local = device.history_by("bob", MessageQueryMode::OnlyLocal).await;
        assert_eq!(local.len(), 253);
        let secret = local.iter().find(|message| is_text(message, "the secret")).unwrap();
        assert_eq!(secret.local_extended_data, "starred");
        assert!(local.iter().any(|message| message.is_user_inserted && is_text(message, "note")));
    }
    world.end().await;
}

#[tokio::test]
async fn import_local_messages_does_not_bring_back_what_the_server_took_back() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    let sent = ann.say("bob", "a mistake").await;
    ann.say("bob", "no mistake").await;
    export(&ann, folder.path()).await.unwrap();
    soon(ann.revoke_message(&sent, MessageRevokeConfig::default())).await.unwrap();
    let new = world.device("ann").await;
    import(&new, folder.path()).await.unwrap();
    assert_eq!(texts(&new.history("bob").await), ["type 31", "no mistake"]);
    import(&ann, folder.path()).await.unwrap();
    assert_eq!(texts(&ann.history("bob").await), ["type 31", "no mistake"]);
    world.end().await;
}

/// What happened since the export may be long known to the app.
#[tokio::test]
async fn import_local_messages_tells_nothing_again_and_brings_nothing_back_that_was_deleted() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let mut sent = Vec::new();
    for text in ["revoked", "edited", "deleted", "deleted here", "read"] {
        let notification = MessageSendNotification::default();
        let message = ann.send_message(Message::text(text), "bob", PEER, config.clone(), notification);
        sent.push(soon(message).await.unwrap().message.unwrap());
    }
    export(&ann, folder.path()).await.unwrap();
    soon(ann.revoke_message(&sent[0], MessageRevokeConfig::default())).await.unwrap();
    let new_text = Message { body: Message::text("new").body, ..sent[1].clone() };
    soon(ann.edit_message(&new_text, MessageEditConfig {})).await.unwrap();
    let everywhere = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    soon(ann.delete_messages(&sent[2..3], "bob", PEER, everywhere)).await.unwrap();
    bob.receives("read").await;
    soon(bob.send_conversation_message_receipt_read("ann", PEER)).await.unwrap();
    // Messages of long ago are left to history.
    world.clock.advance(8 * 86_400_000);
    let new = world.device("ann").await;
    import(&new, folder.path()).await.unwrap();
    let local = new.history_by("bob", MessageQueryMode::OnlyLocal).await;
    assert!(!local.iter().any(|message| is_text(message, "deleted")), "{:?}", texts(&local));
    let read = local.iter().find(|message| is_text(message, "read")).unwrap();
    assert_eq!(read.receipt_status(), MessageReceiptStatus::Done);
    // This device alone deletes one, and gets the file again.
    let here = local.iter().find(|message| is_text(message, "deleted here")).unwrap().clone();
    soon(new.delete_messages(&[here], "bob", PEER, MessageDeleteConfig::default())).await.unwrap();
    import(&new, folder.path()).await.unwrap();
    assert_eq!(texts(&new.history("bob").await), ["type 31", "new", "read"]);
    // What happens from now on is news. The other sessions have ended meanwhile.
    let bob = world.device("bob").await;
    let last = bob.history("ann").await.pop().unwrap();
    soon(bob.pin_message(&last, true, MessagePinConfig::default())).await.unwrap();
    new.next(EventKind::MessagePinStatusChanged).await;
    for kind in [EventKind::MessageRevokeReceived, EventKind::MessageEdited, EventKind::MessageDeleted] {
        assert!(new.seen_of(kind).is_empty(), "{kind:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn import_local_messages_refuses_what_is_not_an_own_export() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    let refused = refusal(import(&ann, folder.path()).await);
    assert_eq!(refused, ErrorCode::MessageModuleCacheFileOpenFailed);
    ann.say("bob", "hi").await;
    export(&ann, folder.path()).await.unwrap();
    let refused = refusal(import(&bob, folder.path()).await);
    assert_eq!(refused, ErrorCode::MessageModuleCacheFileOnlyCanImportCacheOfOneself);
    let file = folder.path().join(FILE);
    let good = std::fs::read_to_string(&file).unwrap();
    for (bad, code) in [
        (format!("{good}{{\n"), ErrorCode::MessageModuleCacheFileJsonParseFailed),
        ("a poem\n".to_owned(), ErrorCode::MessageModuleCacheFileJsonParseFailed),
        (String::new(), ErrorCode::MessageModuleCacheFileJsonParseFailed),
        (good.replace("\"zimMessages\":1", "\"zimMessages\":2"), ErrorCode::MessageModuleCacheFileImportFailed),
        (
            good.replacen(&format!("\"appID\":{}", world.app_id()), "\"appID\":1", 1),
            ErrorCode::MessageModuleCacheFileOnlyCanImportCacheOfOneself,
        ),
        (
            good.replace(&ann.epoch().await.unwrap(), "00000000000000000000000000000000"),
            ErrorCode::MessageModuleCacheFileImportFailed,
        ),
    ] {
        std::fs::write(&file, &bad).unwrap();
        assert_eq!(refusal(import(&ann, folder.path()).await), code, "{bad}");
    }
    std::fs::write(&file, good).unwrap();
    import(&ann, folder.path()).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn export_local_messages_fails_where_nothing_can_be_written() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = refusal(export(&ann, file.path()).await);
    assert_eq!(refused, ErrorCode::MessageModuleCacheFileExportFailed);
    // An earlier export stays until a new one is complete.
    let folder = tempfile::tempdir().unwrap();
    let exported = || std::fs::read(folder.path().join(FILE)).unwrap();
    ann.say("bob", "one").await;
    export(&ann, folder.path()).await.unwrap();
    let (first, draft) = (exported(), folder.path().join(format!("{FILE}.new")));
    ann.say("bob", "two").await;
    std::fs::create_dir(&draft).unwrap();
    assert_eq!(refusal(export(&ann, folder.path()).await), ErrorCode::MessageModuleCacheFileExportFailed);
    assert_eq!(exported(), first);
    std::fs::remove_dir(&draft).unwrap();
    export(&ann, folder.path()).await.unwrap();
    assert_ne!(exported(), first);
    assert!(!draft.exists());
    world.end().await;
}

/// The message of a line of the file.
fn content(line: &Value) -> Message {
    let content = STANDARD.decode(line["entry"]["content"].as_str().unwrap()).unwrap();
    Message::decode(&content[..]).unwrap()
}

/// A path would name another file there, and a message that is sent again would upload it.
#[tokio::test]
async fn export_local_messages_and_import_local_messages_leave_out_where_files_are() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let (folder, files) = (tempfile::tempdir().unwrap(), Files::new());
    let path = files.add("paper", b"paper");
    send(&ann, Message::file(&path)).await.unwrap();
    let missing = refusal(send(&ann, Message::file(format!("{path}.none"))).await);
    assert_eq!(missing, ErrorCode::MessageModuleFileNotExist);
    export(&ann, folder.path()).await.unwrap();
    let file = folder.path().join(FILE);
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    // Somebody writes paths into the file.
    for line in &mut lines[1..] {
        let mut message = content(line);
        assert_eq!(*message.media_parts()[0].local_path, "");
        message.media_parts()[0].local_path.clone_from(&path);
        line["entry"]["content"] = STANDARD.encode(message.encode_to_vec()).into();
    }
    let forged: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(&file, forged.join("\n")).unwrap();
    let new = world.device("ann").await;
    import(&new, folder.path()).await.unwrap();
    let mut held = new.history_by("bob", MessageQueryMode::OnlyLocal).await;
    assert_eq!(held.len(), 2);
    for message in &mut held {
        assert_eq!((message.r#type(), &**message.media_parts()[0].local_path), (MessageType::File, ""));
    }
    // What was sent can be downloaded; what has failed has no file here.
    let failed = held.iter().position(|message| message.sent_status() == MessageSentStatus::Failed);
    let failed = held.remove(failed.unwrap());
    let got = download(&new, &held[0], MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(got).unwrap(), b"paper");
    let retry = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let none = MessageSendNotification::default();
    assert!(soon(new.send_message(failed, "bob", PEER, retry, none)).await.is_err());
    world.end().await;
}

/// The others are begun while the first is at its only message.
#[tokio::test]
async fn export_local_messages_and_import_local_messages_run_one_at_a_time() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "a").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut refused = Vec::new();
    let within = |_, _| {
        let second = ann.export_local_messages(path, MessageExportConfig {}, |_, _| {}).now_or_never();
        let third = ann.import_local_messages(path, MessageImportConfig {}, |_, _| {}).now_or_never();
        refused.extend([second, third].map(|answer| refusal(answer.expect("it is refused at once"))));
    };
    soon(ann.export_local_messages(path, MessageExportConfig {}, within)).await.unwrap();
    let in_progress = ErrorCode::MessageModuleCacheFileExportOrImportIsInProgressCurrently;
    assert_eq!(refused, [in_progress, in_progress]);
    import(&ann, folder.path()).await.unwrap();
    world.end().await;
}
