//! Files in an object store. `ZIM_TEST_MEDIA=s3` runs the other tests of files on one as well.

use reqwest::{Client, StatusCode};
use zim_integration_tests::{S3Server, World, eventually, refusal, soon};
use zim_protocol::{ErrorCode, MediaFileType, Message, MessageRevokeConfig, MessageType};
use zim_server::config::Config;

use crate::media::{Files, download, image_of, noise, png, receives, send};
use crate::media_tus::{create, header, offset, patch, patch_slowly, sent, tus};

/// Starts a server whose files are in this object store.
pub(crate) async fn world_on(s3: &S3Server, edit: impl FnOnce(&mut Config)) -> World {
    let store = s3.store().parse().unwrap();
    let edit = |config: &mut Config| {
        config.media.store = store;
        edit(config);
    };
    World::with(edit).await
}

/// Waits until the bucket has this many objects.
pub(crate) async fn has_objects(s3: &S3Server, count: usize) {
    eventually("the objects", async || (s3.objects().len() == count).then_some(())).await;
}

/// The URL at which another node has the same upload, if there are two.
fn at_other_node(world: &World, url: &str) -> String {
    let ports: Vec<u16> = world.servers().map(|server| server.https_addr().unwrap().port()).collect();
    let other = ports.iter().find(|port| !url.contains(&format!(":{port}/")));
    let own = ports.iter().find(|port| url.contains(&format!(":{port}/"))).unwrap();
    url.replace(&format!(":{own}/"), &format!(":{}/", other.unwrap_or(own)))
}

#[tokio::test]
async fn send_media_message_keeps_files_in_an_object_store() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |config| config.media.unused_kept_s = 60).await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let files = Files::new();
    let path = files.add("cat.png", &png(1_000, 500));
    let message = send(&ann, Message::image(&path)).await.unwrap();
    let image = image_of(&message);
    assert_eq!((image.large_image_width, image.thumbnail_height), (720, 99));
    let received = receives(&bob, MessageType::Image).await;
    let original = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(original).unwrap(), std::fs::read(&path).unwrap());
    for (kind, width) in [(MediaFileType::LargeImage, 720), (MediaFileType::Thumbnail, 198)] {
        let version = std::fs::read(download(&bob, &received, kind).await.unwrap()).unwrap();
        assert_eq!(image::load_from_memory(&version).unwrap().width(), width);
    }
    // Nothing is left of the upload, and the file is where a folder would have it.
    has_objects(&s3, 3).await;
    let names: Vec<String> =
        s3.objects().iter().map(|path| path.file_name().unwrap().to_string_lossy().into()).collect();
    let own = names.iter().filter(|name| !name.contains('.')).collect::<Vec<_>>();
    assert!(own.len() == 1 && own[0].parse::<i64>().is_ok(), "{names:?}");
    assert!(names.contains(&format!("{}.large", own[0])) && names.contains(&format!("{}.thumbnail", own[0])));
    // A forwarded message keeps it, and with the last message it goes.
    let forwarded = Message { body: received.body.clone(), ..Message::default() };
    let forwarded = soon(bob.send("carl", forwarded)).await.unwrap();
    receives(&carl, MessageType::Image).await;
    soon(ann.revoke_message(&message, MessageRevokeConfig::default())).await.unwrap();
    world.clock.advance(61_000);
    assert!(download(&carl, &receives(&carl, MessageType::Image).await, MediaFileType::LargeImage).await.is_ok());
    soon(bob.revoke_message(&forwarded, MessageRevokeConfig::default())).await.unwrap();
    world.advance_until("the file is removed", async || s3.objects().is_empty().then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_goes_on_in_an_object_store_after_the_server_has_stopped() {
    let s3 = S3Server::start();
    let mut world = world_on(&s3, |_| {}).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(3_000_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    raw.end().await;
    assert_eq!(offset(&client, url).await, "0");
    // A request that the stop cuts. What it has put counts.
    let (more, cut) = patch_slowly(&client, url, &bytes[..300_000]).await;
    eventually("some of it is stored", async || (offset(&client, url).await != "0").then_some(())).await;
    world.stop_server().await;
    drop((more, cut));
    world.start_server().await;
    let reached: usize = offset(&client, url).await.parse().unwrap();
    assert!((1..=300_000).contains(&reached), "{reached}");
    // The rest arrives at another node, if there is one.
    let rest = sent(patch(&client, &at_other_node(&world, url), reached, &bytes[reached..2_000_000])).await;
    assert_eq!(header(&rest, "upload-offset"), "2000000");
    let again = sent(patch(&client, url, reached, &bytes[reached..])).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    // Its pieces are few, because they grow.
    let pieces = s3.objects().len();
    assert!((3..=8).contains(&pieces), "{pieces}");
    let rest = sent(patch(&client, url, 2_000_000, &bytes[2_000_000..])).await;
    assert_eq!(rest.status(), StatusCode::NO_CONTENT);
    let whole = sent(client.get(at_other_node(&world, &created.file_download_url))).await;
    assert!(soon(whole.bytes()).await.unwrap() == bytes, "the file differs");
    has_objects(&s3, 1).await;
    drop((client, again, rest));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_joins_a_large_file_in_an_object_store() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |_| {}).await;
    let mut raw = world.raw_user("ann", 1).await;
    // Three parts, the last of which is small.
    let (client, bytes) = (world.https(), noise((16 << 20) + 100));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    let other = [&bytes[..bytes.len() - 1], b"?"].concat();
    let refused = sent(patch(&client, url, 0, &other)).await;
    assert_eq!(refused.status().as_u16(), 460);
    assert_eq!(offset(&client, url).await, "0");
    has_objects(&s3, 0).await;
    s3.take_requests();
    assert_eq!(sent(patch(&client, url, 0, &bytes)).await.status(), StatusCode::NO_CONTENT);
    let parts = s3.take_requests().iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(parts, 2, "a multipart upload begins and ends");
    let url = &created.file_download_url;
    let whole = sent(client.get(url)).await;
    assert_eq!(header(&whole, "content-length"), bytes.len().to_string());
    assert!(soon(whole.bytes()).await.unwrap() == bytes, "the file differs");
    for (range, part) in [("bytes=8388600-8388700", 8_388_600..8_388_701), ("bytes=-50", bytes.len() - 50..bytes.len())]
    {
        let answer = sent(client.get(url).header("range", range)).await;
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(soon(answer.bytes()).await.unwrap(), bytes[part], "{range}");
    }
    has_objects(&s3, 1).await;
    raw.end().await;
    drop((client, refused));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_leaves_nothing_in_an_object_store_if_it_is_ended() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |_| {}).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(600_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    let (more, hanging) = patch_slowly(&client, url, &bytes[..300_000]).await;
    eventually("some of it is stored", async || (offset(&client, url).await != "0").then_some(())).await;
    // The request that writes stops, and puts what it has got before.
    eventually("it is ended", async || {
        let ended = sent(tus(&client, "DELETE", url)).await;
        (ended.status() == StatusCode::NO_CONTENT).then_some(())
    })
    .await;
    has_objects(&s3, 0).await;
    // An abandoned one goes after a day.
    let created = create(&mut raw, MessageType::File, &bytes).await;
    sent(patch(&client, &created.upload_url, 0, &bytes[..300_000])).await;
    assert!(!s3.objects().is_empty());
    world.clock.advance(86_400_000);
    world.advance_until("the pieces are removed", async || s3.objects().is_empty().then_some(())).await;
    raw.end().await;
    drop((client, more, hanging));
    world.end().await;
}

/// A client that follows no redirection.
fn without_redirection(world: &World) -> Client {
    let builder = Client::builder().tls_backend_preconfigured(world.https_tls()).no_proxy();
    builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

#[tokio::test]
async fn create_media_upload_gives_a_url_that_leads_to_the_object_store() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |config| config.media.redirect_s = 300).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes, picture) = (without_redirection(&world), noise(5_000), png(900, 900));
    let file = create(&mut raw, MessageType::File, &bytes).await;
    // What is not complete leads nowhere.
    assert_eq!(sent(client.get(&file.file_download_url)).await.status(), StatusCode::NOT_FOUND);
    sent(patch(&client, &file.upload_url, 0, &bytes)).await;
    let image = create(&mut raw, MessageType::Image, &picture).await;
    sent(patch(&client, &image.upload_url, 0, &picture)).await;
    let led = async |url: &str| {
        let moved = sent(client.get(url)).await;
        assert_eq!(moved.status(), StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(header(&moved, "cache-control"), "private, max-age=150");
        header(&moved, "location")
    };
    let location = led(&file.file_download_url).await;
    assert!(location.contains("X-Amz-Expires=300"));
    let whole = sent(client.get(&location)).await;
    assert_eq!(header(&whole, "content-disposition"), "attachment; filename*=UTF-8''paper.bin");
    assert_eq!(header(&whole, "content-type"), "application/octet-stream");
    assert_eq!(soon(whole.bytes()).await.unwrap(), bytes);
    let part = sent(client.get(&location).header("range", "bytes=10-19")).await;
    assert_eq!(
        (part.status(), soon(part.bytes()).await.unwrap()),
        (StatusCode::PARTIAL_CONTENT, bytes[10..20].to_vec().into())
    );
    // What is only asked about the file, the server answers itself.
    let asked = sent(client.head(&file.file_download_url)).await;
    assert_eq!((asked.status(), header(&asked, "content-length")), (StatusCode::OK, "5000".to_owned()));
    // A URL is for one object only.
    let other = led(&image.file_download_url).await;
    let (at, _) = other.split_once('?').unwrap();
    let (_, query) = location.split_once('?').unwrap();
    assert_eq!(sent(client.get(format!("{at}?{query}"))).await.status(), StatusCode::FORBIDDEN);
    let thumbnail = sent(client.get(led(&format!("{}/thumbnail", image.file_download_url)).await)).await;
    assert_eq!(header(&thumbnail, "content-type"), "image/jpeg");
    assert_eq!(image::load_from_memory(&soon(thumbnail.bytes()).await.unwrap()).unwrap().width(), 198);
    let missing = sent(client.get(format!("{}/thumbnail", file.file_download_url))).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    // The SDK does not follow from HTTPS to HTTP.
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::file(files.add("paper", &bytes))).await.unwrap();
    let received = receives(&bob, MessageType::File).await;
    let refused = refusal(download(&bob, &received, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleFileDownloadFailed);
    raw.end().await;
    drop((client, asked, missing));
    world.end().await;
}
