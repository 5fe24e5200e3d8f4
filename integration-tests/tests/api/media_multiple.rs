//! Multiple messages: several parts, some of them files.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{World, code_of, eventually, refusal, send_text, soon, texts};
use zim_protocol::message::Body;
use zim_protocol::message_lite_info::Body as Lite;
use zim_protocol::{
    ConversationType, CustomMessageLiteInfo, ErrorCode, Event, EventKind, FileMessageLiteInfo, ImageMessageLiteInfo,
    MediaDownloadConfig, MediaFileType, Message, MessageEditConfig, MessageLiteInfo, MessageQueryMode,
    MessageSendConfig, MessageSentStatus, MessageType, MultipleMessage, SendMessageRequest, SendingMessageCancelConfig,
    TextMessageLiteInfo,
};

use crate::media::{Files, noise, png, receives, stored};

fn text(text: &str) -> MessageLiteInfo {
    let body = Lite::Text(TextMessageLiteInfo { message: text.to_owned() });
    MessageLiteInfo { r#type: MessageType::Text as i32, body: Some(body) }
}

fn image(path: &str) -> MessageLiteInfo {
    let image = ImageMessageLiteInfo { file_local_path: path.to_owned(), ..ImageMessageLiteInfo::default() };
    MessageLiteInfo { r#type: MessageType::Image as i32, body: Some(Lite::Image(image)) }
}

fn file(path: &str) -> MessageLiteInfo {
    let file = FileMessageLiteInfo { file_local_path: path.to_owned(), ..FileMessageLiteInfo::default() };
    MessageLiteInfo { r#type: MessageType::File as i32, body: Some(Lite::File(file)) }
}

fn multiple(message_info_list: Vec<MessageLiteInfo>) -> Message {
    let body = Body::Multiple(MultipleMessage { message_info_list, ..MultipleMessage::default() });
    Message { r#type: MessageType::Multiple as i32, body: Some(body), ..Message::default() }
}

fn parts(message: &Message) -> &MultipleMessage {
    match &message.body {
        Some(Body::Multiple(multiple)) => multiple,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn send_message_takes_several_parts() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let (cat, paper) = (files.add("cat.png", &png(300, 300)), files.add("paper", &noise(20_000)));
    let progress: Arc<Mutex<Vec<[i64; 5]>>> = Arc::default();
    let noted = Arc::clone(&progress);
    let notification = MessageSendNotification::default().on_multiple_media_uploading_progress(
        move |message, moved, all, index, of_part, size| {
            assert_eq!(message.r#type(), MessageType::Multiple);
            noted.lock().push([moved, all, index, of_part, size]);
        },
    );
    let message = multiple(vec![text("look"), image(&cat), file(&paper)]);
    let sent = ann.send_message(message, "bob", ConversationType::Peer, MessageSendConfig::default(), notification);
    let mut sent = soon(sent).await.unwrap().message.unwrap();
    let all = i64::try_from(std::fs::metadata(&cat).unwrap().len()).unwrap() + 20_000;
    assert_eq!(progress.lock().last(), Some(&[all, all, 2, 20_000, 20_000]));
    assert!(progress.lock().iter().any(|[.., index, _, _]| *index == 1));
    let paths: Vec<String> = sent.media_parts().iter().map(|part| part.local_path.clone()).collect();
    assert_eq!(paths, [cat, paper.clone()]);

    let mut received = receives(&bob, MessageType::Multiple).await;
    assert_eq!(parts(&received).message_info_list[0], text("look"));
    let picture = received.media_part(1).unwrap().picture.map(|picture| *picture.thumbnail.1);
    assert_eq!(picture, Some(198));
    let second = MediaDownloadConfig { message_info_index: 2 };
    let downloaded = bob.download_media_file(&received, MediaFileType::OriginalFile, second, |_, _, _| {});
    let downloaded = soon(downloaded).await.unwrap();
    assert_eq!(std::fs::read(&downloaded.file_local_path).unwrap(), std::fs::read(paper).unwrap());
    let mut held = bob.history("ann").await.remove(0);
    let paths: Vec<bool> = held.media_parts().iter().map(|part| part.local_path.is_empty()).collect();
    assert_eq!(paths, [true, false]);
    // A text part is no file.
    let first =
        bob.download_media_file(&received, MediaFileType::OriginalFile, MediaDownloadConfig::default(), |_, _, _| {});
    assert_eq!(refusal(soon(first).await), ErrorCode::MessageModuleFileDownloadUrlNotFound);
    world.end().await;
}

#[tokio::test]
async fn send_message_may_leave_out_parts_that_fail() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let other = world.device("ann").await;
    let files = Files::new();
    let (good, missing) = (files.add("good", b"good"), files.add("missing", b"x"));
    std::fs::remove_file(&missing).unwrap();
    // Only the server finds out that it is no picture.
    let broken = files.add("broken.png", &png(50, 50)[..40]);
    let message = || multiple(vec![file(&missing), text("and"), file(&good), image(&broken)]);
    let send = async |message, config| {
        soon(ann.send_message(message, "bob", ConversationType::Peer, config, MessageSendNotification::default())).await
    };
    let all_or_nothing = send(message(), MessageSendConfig::default()).await;
    assert_eq!(refusal(all_or_nothing), ErrorCode::MessageModuleFileNotExist);
    let partial =
        || MessageSendConfig { is_allow_multiple_message_partial_failed: true, ..MessageSendConfig::default() };
    let sent = send(message(), partial()).await.unwrap().message.unwrap();
    // The sender sees what failed, also later; everybody else sees the rest.
    let own = ann.history("bob").await.pop().unwrap();
    for message in [&sent, &own] {
        assert_eq!(parts(message).failed_index_list, [0, 3]);
        assert_eq!(parts(message).message_info_list.len(), 4);
    }
    let received = receives(&bob, MessageType::Multiple).await;
    let elsewhere = other.history("bob").await.pop().unwrap();
    for message in [&received, &elsewhere] {
        assert_eq!((parts(message).failed_index_list.len(), parts(message).message_info_list.len()), (0, 2));
        assert_eq!(parts(message).message_info_list[0], text("and"));
    }
    // It can be edited as the sender has it.
    let changed = Message { extended_data: "again".to_owned(), ..own };
    soon(ann.edit_message(&changed, MessageEditConfig {})).await.unwrap();
    match bob.next(EventKind::MessageEdited).await {
        Event::MessageEdited(event) => {
            let edited = &event.message_list[0];
            assert_eq!((&*edited.extended_data, parts(edited).message_info_list.len()), ("again", 2));
        }
        other => panic!("{other:?}"),
    }
    // Not if nothing is left.
    for (nothing, code) in [
        (vec![file(&missing)], ErrorCode::MessageModuleFileNotExist),
        (vec![image(&broken), file(&missing)], ErrorCode::MessageModuleFileTypeUnsupported),
    ] {
        assert_eq!(refusal(send(multiple(nothing), partial()).await), code);
    }
    world.end().await;
}

#[tokio::test]
async fn cancel_sending_message_ends_all_parts_of_a_message() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let (small, large) = (files.add("small", b"small"), files.add("large", &vec![b'#'; 60_000_000]));
    let (begun, begins) = oneshot::channel();
    let mut begun = Some(begun);
    let notification =
        MessageSendNotification::default().on_multiple_media_uploading_progress(move |message, _, _, index, _, _| {
            // The first part is there, and the second one is on its way.
            if index == 2
                && let Some(begun) = begun.take()
            {
                drop(begun.send(message.clone()));
            }
        });
    let message = multiple(vec![text("look"), file(&small), file(&large)]);
    // A part that is cancelled is none that may fail.
    let config = MessageSendConfig { is_allow_multiple_message_partial_failed: true, ..MessageSendConfig::default() };
    let sending = ann.send_message(message, "bob", ConversationType::Peer, config, notification);
    let message = soon(begins).await.unwrap();
    soon(ann.cancel_sending_message(&message, SendingMessageCancelConfig {})).await.unwrap();
    let error = soon(sending).await.unwrap_err();
    assert_eq!(code_of(&error), ErrorCode::MessageModuleSendMessageFailedForCancelled);
    assert_eq!(error.failed_message().unwrap().sent_status(), MessageSentStatus::Failed);
    // The server forgets the part that was on its way; the one that is there goes after a day.
    eventually("one file is left", async || (stored(&world) == 1).then_some(())).await;
    ann.say("bob", "the end").await;
    bob.receives("the end").await;
    assert_eq!(texts(&bob.history("ann").await), ["the end"]);
    world.end().await;
}

#[tokio::test]
async fn send_message_limits_the_parts() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let one = files.add("one", b"one");
    let many = |part: &MessageLiteInfo, count| vec![part.clone(); count];
    let custom = |message: &str, searched: usize, sub_type| {
        let (message, searched_content) = (message.to_owned(), "x".repeat(searched));
        let custom = CustomMessageLiteInfo { message, searched_content, sub_type };
        MessageLiteInfo { r#type: MessageType::Custom as i32, body: Some(Lite::Custom(custom)) }
    };
    for good in [vec![custom("{}", 64, 200)], many(&text("x"), 20), many(&file(&one), 10)] {
        soon(ann.send("bob", multiple(good))).await.unwrap();
    }
    let lies = MessageLiteInfo { r#type: MessageType::Image as i32, ..text("x") };
    let nothing = MessageLiteInfo::default();
    let mut raw = world.raw_user("ann", 9).await;
    for bad in [
        Vec::new(),
        many(&text("x"), 21),
        many(&file(&one), 11),
        vec![text("")],
        vec![text("  ")],
        vec![custom(" ", 0, 0)],
        vec![custom("{}", 65, 0)],
        vec![custom("{}", 0, -1)],
        vec![custom("{}", 0, 201)],
        vec![lies],
        vec![nothing],
    ] {
        let refused = refusal(soon(ann.send("bob", multiple(bad.clone()))).await);
        assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid, "{bad:?}");
        // For the server, the files are there.
        let mut message = multiple(bad.clone());
        for part in message.media_parts() {
            *part.download_url = "https://files.example/one".to_owned();
        }
        let request = SendMessageRequest { message: Some(message), ..send_text("bob", "", 1) };
        let refused = raw.call(&request).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "by the server: {bad:?}");
    }
    raw.end().await;
    let refused = refusal(soon(ann.send("bob", multiple(vec![file("")]))).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    // The client refuses all of these before they are in the conversation, and before it uploads a file.
    assert_eq!(ann.history_by("bob", MessageQueryMode::OnlyLocal).await.len(), 3);
    // Only the server knows how long a part may be.
    let refused = refusal(soon(ann.send("bob", multiple(vec![text(&"x".repeat(2_049))]))).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn edit_message_replaces_the_parts_of_a_multiple_message() {
    let world = World::with(|config| config.media.unused_kept_s = 60).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let sent = soon(ann.send("bob", multiple(vec![file(&files.add("one", b"one")), text("one")]))).await.unwrap();
    let mut edited = sent.clone();
    if let Some(Body::Multiple(multiple)) = &mut edited.body {
        multiple.message_info_list.remove(0);
    }
    soon(ann.edit_message(&edited, MessageEditConfig {})).await.unwrap();
    eventually("bob sees the edited message", async || {
        let now = bob.history("ann").await;
        now.first().is_some_and(|now| parts(now).message_info_list == [text("one")]).then_some(())
    })
    .await;
    // No message has the file any more.
    world.clock.advance(60_000);
    world
        .advance_until("the file is removed", async || {
            let url = sent.clone().media_parts()[0].download_url.clone();
            let answer = soon(world.https().get(url).send()).await.unwrap();
            (answer.status() == reqwest::StatusCode::NOT_FOUND).then_some(())
        })
        .await;
    world.end().await;
}
