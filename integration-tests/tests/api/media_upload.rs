//! Uploads that meet others, are cut, or are strange.

use bytes::Bytes;
use futures_util::future::{join, join_all};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zim_integration_tests::{World, eventually, soon};
use zim_protocol::{Message, MessageType, SendMessageRequest};

use crate::media::noise;
use crate::media_tus::{assert_there, create, header, offset, patch, patch_slowly, sent, tus};

#[tokio::test]
async fn create_media_upload_is_written_by_one_request_at_a_time() {
    // A request that gets no bytes does not give way during this test.
    let world = World::with(|config| config.limits.https_stall_timeout_ms = 600_000).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(600_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    let (more, first) = patch_slowly(&client, url, &bytes[..300_000]).await;
    eventually("some of it is stored", async || (offset(&client, url).await != "0").then_some(())).await;
    let reached = offset(&client, url).await.parse().unwrap();
    for at in [0, reached] {
        let second = sent(patch(&client, url, at, &vec![7; 600_000 - at])).await;
        assert_eq!(second.status(), StatusCode::LOCKED, "{at}");
    }
    more.send(Ok(bytes[300_000..].to_vec().into())).await.unwrap();
    drop(more);
    let first = soon(first).await.unwrap().unwrap();
    assert_eq!((first.status(), header(&first, "upload-offset")), (StatusCode::NO_CONTENT, "600000".to_owned()));
    assert_there(&client, &created, &bytes).await;
    raw.end().await;
    drop((client, first));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_goes_on_after_a_request_that_was_cut() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(600_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    let (more, first) = patch_slowly(&client, url, &bytes[..400_000]).await;
    eventually("some of it is stored", async || (offset(&client, url).await != "0").then_some(())).await;
    first.abort();
    // What had arrived is written to its end before another request may write.
    eventually("the rest is stored", async || {
        let at: usize = offset(&client, url).await.parse().unwrap();
        let rest = sent(patch(&client, url, at, &bytes[at..])).await;
        let known = [StatusCode::NO_CONTENT, StatusCode::CONFLICT, StatusCode::LOCKED];
        assert!(known.contains(&rest.status()), "{rest:?}");
        (rest.status() == StatusCode::NO_CONTENT).then_some(())
    })
    .await;
    assert_there(&client, &created, &bytes).await;
    drop(more);
    raw.end().await;
    drop(client);
    world.end().await;
}

/// The hash of a file is computed while its bytes arrive, whichever connection they come over.
#[tokio::test]
async fn create_media_upload_refuses_other_bytes_of_any_of_its_requests() {
    let mut world = World::new().await;
    let bytes = noise(3_000_000);
    let mut wrong = bytes.clone();
    wrong[1_500_000] ^= 1;
    let pieces = [0..1_000_000, 1_000_000..2_000_000, 2_000_000..3_000_000];
    for is_restarted in [false, true] {
        // Of each user, so that the file is another one.
        let user = if is_restarted { "ann" } else { "bob" };
        let mut raw = world.raw_user(user, 1).await;
        let created = create(&mut raw, MessageType::File, &bytes).await;
        raw.end().await;
        let url = &created.upload_url;
        for (bytes, expected) in [(&wrong, 460), (&bytes, 204)] {
            for piece in pieces.clone() {
                let (client, is_last) = (world.https(), piece.end == bytes.len());
                let lies = format!("sha256 {}", "A".repeat(43) + "=");
                if piece.start == 1_000_000 {
                    // What is refused leaves no trace.
                    let refused = patch(&client, url, piece.start, &bytes[piece.clone()]);
                    let refused = sent(refused.header("upload-checksum", lies)).await;
                    assert_eq!(refused.status().as_u16(), 460);
                }
                let answer = sent(patch(&client, url, piece.start, &bytes[piece])).await;
                assert_eq!(answer.status().as_u16(), if is_last { expected } else { 204 });
                drop((client, answer));
                if is_restarted && !is_last {
                    // It has forgotten what it knew of the hash.
                    world.stop_server().await;
                    world.start_server().await;
                }
            }
        }
        let client = world.https();
        assert_there(&client, &created, &bytes).await;
        drop(client);
    }
    world.end().await;
}

/// Those who send one byte after another hold nobody up.
#[tokio::test]
async fn create_media_upload_serves_others_while_many_uploads_wait_for_their_bytes() {
    let world = World::with(|config| config.limits.https_stall_timeout_ms = 600_000).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(5_000_000));
    let mut waiting = Vec::new();
    for number in 0..50 {
        let slow = [noise(600_000), vec![number]].concat();
        let created = create(&mut raw, MessageType::File, &slow).await;
        waiting.push((patch_slowly(&client, &created.upload_url, &slow[..500_000]).await, created, slow));
    }
    for (_, created, _) in &waiting {
        let begun = async || (offset(&client, &created.upload_url).await != "0").then_some(());
        eventually("some of it is stored", begun).await;
    }
    let created = create(&mut raw, MessageType::File, &bytes).await;
    assert_eq!(sent(patch(&client, &created.upload_url, 0, &bytes)).await.status(), StatusCode::NO_CONTENT);
    for ((more, first), created, slow) in waiting {
        more.send(Ok(slow[500_000..].to_vec().into())).await.unwrap();
        drop(more);
        assert_eq!(soon(first).await.unwrap().unwrap().status(), StatusCode::NO_CONTENT);
        assert_there(&client, &created, &slow).await;
    }
    raw.end().await;
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_serves_fifty_uploads_at_once() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let client = world.https();
    let mut uploads = Vec::new();
    for number in 0..50 {
        let bytes = [noise(100_000), vec![number]].concat();
        let created = create(&mut raw, MessageType::File, &bytes).await;
        uploads.push((created, bytes));
    }
    join_all(uploads.iter().map(async |(created, bytes)| {
        let uploaded = sent(patch(&client, &created.upload_url, 0, bytes)).await;
        assert_eq!(uploaded.status(), StatusCode::NO_CONTENT);
        assert_there(&client, created, bytes).await;
    }))
    .await;
    raw.end().await;
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_ends_a_request_whose_bytes_come_too_slowly() {
    let world = World::with(|config| {
        config.limits.https_stall_timeout_ms = 200;
        config.limits.https_min_bytes_per_second = 1_000_000;
    })
    .await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(500_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let (more, hanging) = patch_slowly(&client, &created.upload_url, &bytes[..1]).await;
    // A byte now and then is some progress, but too little.
    let dripping = async {
        for byte in &bytes[1..] {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            if more.send(Ok(Bytes::copy_from_slice(&[*byte]))).await.is_err() {
                break;
            }
        }
    };
    let (ended, ()) = soon(join(hanging, dripping)).await;
    assert!(ended.unwrap().map_or(true, |answer| answer.status() == StatusCode::REQUEST_TIMEOUT));
    // What came counts.
    let at: usize = offset(&client, &created.upload_url).await.parse().unwrap();
    assert!(at > 0);
    let rest = sent(patch(&client, &created.upload_url, at, &bytes[at..])).await;
    assert_eq!(rest.status(), StatusCode::NO_CONTENT);
    raw.end().await;
    drop((client, more, rest));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_gives_urls_to_scripts_in_browsers() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(1_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    // A refusal can be read as well.
    let refused = sent(client.get(&created.file_download_url)).await;
    let head = sent(tus(&client, "HEAD", &created.upload_url)).await;
    let uploaded = sent(patch(&client, &created.upload_url, 0, &bytes)).await;
    let part = sent(client.get(&created.file_download_url).header("range", "bytes=0-9")).await;
    for (answer, status, exposed) in [
        (&refused, 404, "zim-error-code"),
        (&head, 200, "upload-offset"),
        (&uploaded, 204, "upload-offset"),
        (&part, 206, "content-range"),
    ] {
        assert_eq!(answer.status(), status);
        assert_eq!(header(answer, "access-control-allow-origin"), "*");
        let names = header(answer, "access-control-expose-headers");
        assert!(names.split(", ").any(|name| name == exposed) && answer.headers().contains_key(exposed), "{names}");
    }
    for url in [created.file_download_url.clone(), format!("{}/large", created.file_download_url)] {
        let asked = sent(client.request(Method::OPTIONS, url)).await;
        assert_eq!(asked.status(), StatusCode::NO_CONTENT);
        assert_eq!(header(&asked, "access-control-allow-methods"), "GET, HEAD");
        assert!(header(&asked, "access-control-allow-headers").split(", ").any(|name| name == "range"));
    }
    raw.end().await;
    drop((client, refused, head, uploaded, part));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_gives_nothing_but_files() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(1_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    sent(patch(&client, &created.upload_url, 0, &bytes)).await;
    let secret = created.file_download_url.rsplit('/').next().unwrap().to_owned();
    let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(world.https_tls()));
    // Other clients tidy a path up before they send it.
    let get = async |path: &str| {
        let stream = tokio::net::TcpStream::connect(world.server().https_addr().unwrap()).await.unwrap();
        let mut stream = tls.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server may close the connection without the end of TLS.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned()
    };
    assert_eq!(soon(get(&format!("/media/{secret}"))).await, "HTTP/1.1 200");
    for path in [
        "/media/../../server.toml",
        "/media/..",
        "/media/%2e%2e%2f%2e%2e%2fserver.toml",
        "/media/..%5c..%5cserver.toml",
        &format!("/media/{secret}/../../../server.toml"),
        &format!("/media/{secret}/..%2f..%2fserver.toml"),
        &format!("/media/{secret}/original"),
        &format!("/media/{secret}%00"),
        &format!("//media/{secret}"),
    ] {
        assert_eq!(soon(get(path)).await, "HTTP/1.1 404", "{path}");
    }
    raw.end().await;
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn send_message_passes_urls_of_other_servers() {
    let world = World::new().await;
    let (mut raw, _bob) = (world.raw_user("ann", 1).await, world.user("bob").await);
    // Another server of this kind may give URLs like those of this one.
    let url = format!("https://elsewhere.example/media/{}", "0".repeat(32));
    let mut message = Message::file("");
    *message.media_parts()[0].download_url = url.clone();
    let request = SendMessageRequest {
        message: Some(message),
        to_conversation_id: "bob".to_owned(),
        ..SendMessageRequest::default()
    };
    let mut stored = raw.call(&request).await.unwrap().message.unwrap();
    assert_eq!(*stored.media_parts()[0].download_url, url);
    raw.end().await;
    world.end().await;
}
