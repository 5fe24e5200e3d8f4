//! Files in an object store that fails.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zim_integration_tests::{S3Fault, S3Server, World, eventually, refusal, soon};
use zim_protocol::{ErrorCode, Message, MessageRevokeConfig, MessageSentStatus, MessageType};

use crate::media::{Files, noise, receives, send};
use crate::media_s3::{has_objects, world_on};
use crate::media_tus::{assert_there, code, create, header, offset, patch, patch_slowly, sent, tus};

async fn ready(world: &World) -> String {
    let mut stream = TcpStream::connect(world.server().http_addr().unwrap()).await.unwrap();
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn is_degraded(world: &World) {
    eventually("the server is degraded", async || {
        let answer = ready(world).await;
        assert!(answer.contains("200 OK"), "{answer}");
        answer.ends_with("ready, degraded: the store of the files does not work\n").then_some(())
    })
    .await;
}

/// Takes the errors of the log, and asserts that they say what is wrong, and no secret.
fn assert_told(world: &World, s3: &S3Server, what: &str) {
    let errors = world.logged().errors();
    assert!(errors.iter().any(|line| line.contains("the store of the files of messages does not work")), "{errors:?}");
    for line in errors.iter().chain(&world.warnings()) {
        assert!(line.contains(what) || !line.contains("object store"), "{line}");
        assert!(!s3.secrets().iter().any(|secret| line.contains(secret)), "{line}");
    }
}

#[tokio::test]
async fn send_media_message_waits_for_an_object_store_that_is_away() {
    let s3 = S3Server::start();
    s3.fail(S3Fault::Away);
    // The server starts all the same, and says what is wrong.
    let world = world_on(&s3, |_| {}).await;
    is_degraded(&world).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let mut sending = std::pin::pin!(send(&ann, Message::file(files.add("paper", &noise(400_000)))));
    assert!(futures_util::poll!(&mut sending).is_pending());
    // Other messages overtake it.
    ann.say("bob", "hi").await;
    bob.receives("hi").await;
    let mut raw = world.raw_user("carl", 1).await;
    let (client, bytes) = (world.https(), noise(400_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    for refused in [
        sent(tus(&client, "HEAD", &created.upload_url)).await,
        sent(patch(&client, &created.upload_url, 0, &bytes)).await,
    ] {
        assert_eq!(
            (refused.status(), code(&refused)),
            (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::MessageModuleFileServerError)
        );
    }
    assert_told(&world, &s3, "the object store cannot be reached");
    s3.fail(S3Fault::None);
    let done = world.advance_until("the message is sent", async || match futures_util::poll!(&mut sending) {
        std::task::Poll::Ready(sent) => Some(sent.unwrap()),
        std::task::Poll::Pending => None,
    });
    assert_eq!(done.await.sent_status(), MessageSentStatus::Success);
    receives(&bob, MessageType::File).await;
    assert!(ready(&world).await.ends_with("\r\n\r\nready\n"));
    // It goes away while a file is downloaded and another is uploaded.
    assert_eq!(sent(patch(&client, &created.upload_url, 0, &bytes[..300_000])).await.status(), StatusCode::NO_CONTENT);
    s3.fail(S3Fault::Away);
    let refused = sent(patch(&client, &created.upload_url, 300_000, &bytes[300_000..])).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    is_degraded(&world).await;
    assert_told(&world, &s3, "the object store cannot be reached");
    s3.fail(S3Fault::None);
    assert_eq!(offset(&client, &created.upload_url).await, "300000");
    let rest = sent(patch(&client, &created.upload_url, 300_000, &bytes[300_000..])).await;
    assert_eq!(rest.status(), StatusCode::NO_CONTENT);
    s3.fail(S3Fault::Away);
    let refused = sent(client.get(&created.file_download_url)).await;
    assert_eq!(
        (refused.status(), code(&refused)),
        (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::MessageModuleFileServerError)
    );
    s3.fail(S3Fault::None);
    assert_there(&client, &created, &bytes).await;
    assert_told(&world, &s3, "the object store cannot be reached");
    raw.end().await;
    drop((client, refused, rest));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_tells_what_is_wrong_with_an_object_store() {
    let s3 = S3Server::start();
    let bytes = noise(1_000);
    for (what, store) in [("NoSuchBucket", s3.store_of("zim-others")), ("SignatureDoesNotMatch", s3.store())] {
        if what == "SignatureDoesNotMatch" {
            s3.spoil_credentials();
        }
        let world = World::with(|config| config.media.store = store.parse().unwrap()).await;
        is_degraded(&world).await;
        let mut raw = world.raw_user("ann", 1).await;
        let client = world.https();
        let created = create(&mut raw, MessageType::File, &bytes).await;
        let refused = sent(patch(&client, &created.upload_url, 0, &bytes)).await;
        assert_eq!(
            (refused.status(), code(&refused)),
            (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::MessageModuleFileServerError),
            "{what}"
        );
        let text = soon(refused.text()).await.unwrap();
        assert_eq!(text, "the server cannot store or read the file\n");
        let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
        let files = Files::new();
        let failed = send(&ann, Message::file(files.add("paper", &bytes))).await;
        assert_eq!(refusal(failed), ErrorCode::MessageModuleFileServerError);
        assert_told(&world, &s3, what);
        raw.end().await;
        drop(client);
        world.end().await;
    }
}

#[tokio::test]
async fn create_media_upload_goes_on_when_an_object_store_has_room_again() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |_| {}).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(400_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    assert_eq!(sent(patch(&client, url, 0, &bytes[..300_000])).await.status(), StatusCode::NO_CONTENT);
    s3.fail(S3Fault::AnswerTo("PUT", "", 400, "XMinioAdminBucketQuotaExceeded"));
    let refused = sent(patch(&client, url, 300_000, &bytes[300_000..])).await;
    assert_eq!(
        (refused.status(), code(&refused)),
        (StatusCode::INSUFFICIENT_STORAGE, ErrorCode::MessageModuleFileServerError)
    );
    assert_told(&world, &s3, "XMinioAdminBucketQuotaExceeded");
    assert_eq!(offset(&client, url).await, "300000");
    // All bytes are there, but the file cannot be joined: an empty request does so later.
    s3.fail(S3Fault::AnswerTo("GET", ".parts/", 500, "InternalError"));
    let rest = sent(patch(&client, url, 300_000, &bytes[300_000..])).await;
    assert_eq!(rest.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(offset(&client, url).await, "400000");
    s3.fail(S3Fault::None);
    let rest = sent(patch(&client, url, 400_000, b"")).await;
    assert_eq!((rest.status(), header(&rest, "upload-offset")), (StatusCode::NO_CONTENT, "400000".to_owned()));
    has_objects(&s3, 1).await;
    assert_told(&world, &s3, "the object store answers");
    // An object that somebody has removed.
    s3.objects().iter().for_each(|object| std::fs::remove_file(object).unwrap());
    let gone = sent(client.get(&created.file_download_url)).await;
    assert_eq!((gone.status(), code(&gone)), (StatusCode::NOT_FOUND, ErrorCode::MessageModuleFileNotExist));
    assert!(ready(&world).await.ends_with("\r\n\r\nready\n"));
    raw.end().await;
    drop((client, refused, rest, gone));
    world.end().await;
}

#[tokio::test]
async fn revoke_message_removes_a_file_when_its_object_store_is_back() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |config| config.media.unused_kept_s = 60).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let message = send(&ann, Message::file(files.add("paper", &noise(5_000)))).await.unwrap();
    has_objects(&s3, 1).await;
    s3.fail(S3Fault::Away);
    soon(ann.revoke_message(&message, MessageRevokeConfig::default())).await.unwrap();
    s3.take_requests();
    world.advance_until("the removal is tried", async || (!s3.take_requests().is_empty()).then_some(())).await;
    // Longer than what fails is tried again, while everything else goes on.
    for hour in 0..12 {
        world.clock.advance(3_600_000);
        let text = format!("hour {hour}");
        ann.say("bob", &text).await;
        bob.receives(&text).await;
    }
    assert_eq!(s3.objects().len(), 1);
    // Until then, the first request may still be tried again.
    is_degraded(&world).await;
    s3.fail(S3Fault::None);
    world.advance_until("the file is removed", async || s3.objects().is_empty().then_some(())).await;
    assert_told(&world, &s3, "the object store cannot be reached");
    world.end().await;
}

#[tokio::test]
async fn send_message_does_not_wait_for_a_slow_object_store() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |_| {}).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    // Until the test says otherwise, but not longer than the server waits.
    s3.fail(S3Fault::Slow(Duration::from_secs(8)));
    let path = files.add("paper", &noise(5_000));
    let mut sending = std::pin::pin!(send(&ann, Message::file(&path)));
    s3.take_requests();
    eventually("the object store is asked", async || {
        assert!(futures_util::poll!(&mut sending).is_pending());
        (!s3.take_requests().is_empty()).then_some(())
    })
    .await;
    ann.say("bob", "hi").await;
    bob.receives("hi").await;
    assert!(futures_util::poll!(&mut sending).is_pending(), "the file is not there yet");
    // Until then, the sender alone has the message, where they sent it.
    let shown = ann.history("bob").await.into_iter().find(|message| message.r#type() == MessageType::File);
    let mut shown = shown.unwrap();
    assert_eq!(shown.sent_status(), MessageSentStatus::Sending);
    assert_eq!(*shown.media_parts()[0].local_path, path);
    assert_eq!(bob.history("ann").await.len(), 1);
    s3.fail(S3Fault::None);
    assert_eq!(soon(sending).await.unwrap().sent_status(), MessageSentStatus::Success);
    receives(&bob, MessageType::File).await;
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_is_refused_by_an_object_store_that_lists_but_takes_nothing() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |config| config.media.recheck_ms = 500).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(1_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    s3.fail(S3Fault::AnswerTo("PUT", "", 400, "XMinioAdminBucketQuotaExceeded"));
    let refused = sent(patch(&client, &created.upload_url, 0, &bytes)).await;
    assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
    is_degraded(&world).await;
    // What it lists says nothing: the server tries to store something.
    s3.take_requests();
    for _ in 0..2 {
        eventually("the server looks whether it has room", async || {
            let asked = s3.take_requests();
            asked.iter().any(|request| request.starts_with("PUT") && request.ends_with("/probe")).then_some(())
        })
        .await;
        is_degraded(&world).await;
    }
    assert_told(&world, &s3, "XMinioAdminBucketQuotaExceeded");
    s3.fail(S3Fault::None);
    eventually("the server is ready", async || ready(&world).await.ends_with("\r\n\r\nready\n").then_some(())).await;
    let probe = s3.folder().join("probe");
    eventually("what was stored is removed", async || (!probe.exists()).then_some(())).await;
    assert_eq!(sent(patch(&client, &created.upload_url, 0, &bytes)).await.status(), StatusCode::NO_CONTENT);
    raw.end().await;
    drop((client, refused));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_goes_on_before_what_an_object_store_has_lost() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |_| {}).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(400_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    let (more, uploading) = patch_slowly(&client, url, &bytes[..300_000]).await;
    eventually("a piece is stored", async || (offset(&client, url).await != "0").then_some(())).await;
    std::fs::remove_file(s3.objects().remove(0)).unwrap();
    more.send(Ok(bytes[300_000..].to_vec().into())).await.unwrap();
    drop(more);
    let refused = soon(uploading).await.unwrap().unwrap();
    assert_eq!((refused.status(), code(&refused)), (StatusCode::CONFLICT, ErrorCode::MessageModuleFileServerError));
    assert_eq!(offset(&client, url).await, "0");
    assert_eq!(sent(patch(&client, url, 0, &bytes)).await.status(), StatusCode::NO_CONTENT);
    assert_there(&client, &created, &bytes).await;
    has_objects(&s3, 1).await;
    raw.end().await;
    drop((client, refused));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_begins_again_if_an_object_store_has_too_many_pieces() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |config| config.media.max_pieces = 1_000).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(5_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    // As many requests as that would take minutes: a byte each.
    let fill = async || {
        assert_eq!(sent(patch(&client, url, 0, &bytes[..1])).await.status(), StatusCode::NO_CONTENT);
        let first = s3.objects().pop().unwrap();
        let name = first.file_name().unwrap().to_str().unwrap().to_owned();
        for at in 1..1_000 {
            let piece = name.replacen("000000000000", &format!("{at:012}"), 1);
            std::fs::write(first.with_file_name(piece), &bytes[at..=at]).unwrap();
        }
        assert_eq!(offset(&client, url).await, "1000");
        assert_eq!(sent(patch(&client, url, 1_000, &bytes[1_000..1_001])).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(offset(&client, url).await, "0", "it begins again");
    };
    fill().await;
    let refused = sent(patch(&client, url, 1_001, &bytes[1_001..])).await;
    assert_eq!(
        (refused.status(), code(&refused)),
        (StatusCode::INSUFFICIENT_STORAGE, ErrorCode::MessageModuleFileServerError)
    );
    has_objects(&s3, 0).await;
    fill().await;
    assert_eq!(sent(patch(&client, url, 0, &bytes)).await.status(), StatusCode::NO_CONTENT);
    assert_there(&client, &created, &bytes).await;
    has_objects(&s3, 1).await;
    raw.end().await;
    drop((client, refused));
    world.end().await;
}
