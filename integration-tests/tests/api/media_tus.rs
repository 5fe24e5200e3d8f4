//! Uploads and downloads over HTTPS, by a client that is not the SDK.

use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use ring::digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zim_integration_tests::{RawClient, World, eventually, soon};
use zim_protocol::{
    CreateMediaUploadRequest, ErrorCode, ImageMessage, MediaUploadCreatedResult, Message, MessageType,
    SendMessageRequest, message::Body,
};

use crate::media::{noise, png};

type Piece = Result<Bytes, std::io::Error>;
type Answer = Result<Response, reqwest::Error>;

pub(crate) fn sha256(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub(crate) fn request(kind: MessageType, bytes: &[u8]) -> CreateMediaUploadRequest {
    CreateMediaUploadRequest {
        r#type: kind as i32,
        file_name: "paper.bin".to_owned(),
        file_size: i64::try_from(bytes.len()).unwrap(),
        sha256: sha256(bytes),
        host: "127.0.0.1".to_owned(),
    }
}

pub(crate) async fn create(raw: &mut RawClient, kind: MessageType, bytes: &[u8]) -> MediaUploadCreatedResult {
    raw.call(&request(kind, bytes)).await.unwrap()
}

pub(crate) fn tus(client: &Client, method: &str, url: &str) -> RequestBuilder {
    client.request(Method::from_bytes(method.as_bytes()).unwrap(), url).header("tus-resumable", "1.0.0")
}

pub(crate) fn patch(client: &Client, url: &str, offset: usize, bytes: &[u8]) -> RequestBuilder {
    tus(client, "PATCH", url)
        .header("upload-offset", offset)
        .header("content-type", "application/offset+octet-stream")
        .body(bytes.to_vec())
}

/// Begins a request at the start of the file that sends these bytes, and then what comes over the channel.
pub(crate) async fn patch_slowly(
    client: &Client,
    url: &str,
    first: &[u8],
) -> (mpsc::Sender<Piece>, JoinHandle<Answer>) {
    let (more, pieces) = mpsc::channel::<Piece>(1);
    more.send(Ok(Bytes::copy_from_slice(first))).await.unwrap();
    let body =
        futures_util::stream::unfold(
            pieces,
            |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) },
        );
    let request = patch(client, url, 0, b"").body(reqwest::Body::wrap_stream(body));
    (more, tokio::spawn(request.send()))
}

pub(crate) async fn sent(request: RequestBuilder) -> Response {
    soon(request.send()).await.unwrap()
}

pub(crate) fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

pub(crate) async fn offset(client: &Client, url: &str) -> String {
    let head = sent(tus(client, "HEAD", url)).await;
    assert_eq!(head.status(), StatusCode::OK);
    header(&head, "upload-offset")
}

/// Asserts that the file of an upload is there, with these bytes.
pub(crate) async fn assert_there(client: &Client, created: &MediaUploadCreatedResult, bytes: &[u8]) {
    let whole = sent(client.get(&created.file_download_url)).await;
    assert!(soon(whole.bytes()).await.unwrap() == bytes, "the file differs");
}

pub(crate) fn code(response: &Response) -> ErrorCode {
    ErrorCode::try_from(header(response, "zim-error-code").parse::<i32>().unwrap()).unwrap()
}

#[tokio::test]
async fn create_media_upload_takes_a_file_in_pieces() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(300_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;

    let options = sent(client.request(Method::OPTIONS, url)).await;
    assert_eq!(header(&options, "tus-version"), "1.0.0");
    assert_eq!(header(&options, "tus-extension"), "creation,termination,checksum");
    assert_eq!(header(&options, "tus-checksum-algorithm"), "sha1,sha256");
    let posted = sent(tus(&client, "POST", url).header("upload-length", 300_000)).await;
    assert_eq!((posted.status(), header(&posted, "location")), (StatusCode::CREATED, url.clone()));
    let lies = sent(tus(&client, "POST", url).header("upload-length", 300_001)).await;
    assert_eq!(lies.status(), StatusCode::BAD_REQUEST);

    assert_eq!(offset(&client, url).await, "0");
    let first = sent(patch(&client, url, 0, &bytes[..100_000])).await;
    assert_eq!((first.status(), header(&first, "upload-offset")), (StatusCode::NO_CONTENT, "100000".to_owned()));
    // An offset that lies changes nothing.
    for wrong in [0, 99_999, 100_001, 300_000] {
        let lies = sent(patch(&client, url, wrong, b"x")).await;
        assert_eq!(lies.status(), StatusCode::CONFLICT, "{wrong}");
    }
    for none in ["", "-1", "x", "18446744073709551616"] {
        let lies = tus(&client, "PATCH", url).header("content-type", "application/offset+octet-stream");
        let lies = sent(lies.header("upload-offset", none).body("x")).await;
        assert_eq!(lies.status(), StatusCode::BAD_REQUEST, "{none}");
    }
    // Nor do more bytes than were announced, or a wrong type or version of the request.
    let more = [&bytes[100_000..], b"x"].concat();
    assert_eq!(sent(patch(&client, url, 100_000, &more)).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let version = client.head(url).header("tus-resumable", "0.2.2");
    assert_eq!(sent(version).await.status(), StatusCode::PRECONDITION_FAILED);
    let kind = tus(&client, "PATCH", url).header("upload-offset", 0).body("x");
    assert_eq!(sent(kind).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    // It is not there before it is complete.
    assert_eq!(sent(client.get(&created.file_download_url)).await.status(), StatusCode::NOT_FOUND);

    let reached: usize = offset(&client, url).await.parse().unwrap();
    let rest = sent(patch(&client, url, reached, &bytes[reached..])).await;
    assert_eq!((rest.status(), header(&rest, "upload-offset")), (StatusCode::NO_CONTENT, "300000".to_owned()));
    assert_there(&client, &created, &bytes).await;
    // Asked for again, it is there already.
    let again = create(&mut raw, MessageType::File, &bytes).await;
    assert_eq!((again.upload_url.as_str(), &again.file_download_url), ("", &created.file_download_url));
    raw.end().await;
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_checks_what_is_announced() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let good = request(MessageType::Image, b"x");
    let most = 10 << 20;
    for (bad, expected) in [
        (
            CreateMediaUploadRequest { r#type: MessageType::Text as i32, ..good.clone() },
            ErrorCode::CommonModuleParamsInvalid,
        ),
        (CreateMediaUploadRequest { r#type: 15, ..good.clone() }, ErrorCode::CommonModuleParamsInvalid),
        (
            CreateMediaUploadRequest { sha256: Bytes::from_static(b"short"), ..good.clone() },
            ErrorCode::CommonModuleParamsInvalid,
        ),
        (CreateMediaUploadRequest { file_name: "x".repeat(256), ..good.clone() }, ErrorCode::CommonModuleParamsInvalid),
        (
            CreateMediaUploadRequest { host: "evil/path".to_owned(), ..good.clone() },
            ErrorCode::CommonModuleParamsInvalid,
        ),
        (CreateMediaUploadRequest { file_size: 0, ..good.clone() }, ErrorCode::MessageModuleFileSizeInvalid),
        (CreateMediaUploadRequest { file_size: most + 1, ..good.clone() }, ErrorCode::MessageModuleFileSizeInvalid),
        (CreateMediaUploadRequest { file_size: -1, ..good.clone() }, ErrorCode::CommonModuleParamsInvalid),
    ] {
        assert_eq!(raw.call(&bad).await.unwrap_err().code, expected as i32, "{bad:?}");
    }
    raw.call(&CreateMediaUploadRequest { file_size: most, file_name: "x".repeat(255), ..good.clone() }).await.unwrap();
    for (kind, megabytes) in
        [(MessageType::Image, 10), (MessageType::File, 100), (MessageType::Audio, 6), (MessageType::Video, 100)]
    {
        let of = |file_size| CreateMediaUploadRequest { r#type: kind as i32, file_size, ..good.clone() };
        raw.call(&of(megabytes << 20)).await.unwrap();
        let refused = raw.call(&of((megabytes << 20) + 1)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::MessageModuleFileSizeInvalid as i32, "{kind:?}");
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_refuses_bytes_that_are_not_what_was_announced() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let client = world.https();
    let (bytes, other) = (noise(5_000), vec![7; 5_000]);
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    let refused = sent(patch(&client, url, 0, &other)).await;
    assert_eq!((refused.status().as_u16(), code(&refused)), (460, ErrorCode::MessageModuleFileVerificationError));
    // It begins again, and a checksum of a piece is checked as well.
    assert_eq!(offset(&client, url).await, "0");
    let checksum = |bytes: &[u8]| {
        use base64::Engine;
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        format!("sha1 {}", base64::engine::general_purpose::STANDARD.encode(digest))
    };
    let piece = patch(&client, url, 0, &bytes[..2_000]).header("upload-checksum", checksum(b"other"));
    let refused = sent(piece).await;
    assert_eq!((refused.status().as_u16(), code(&refused)), (460, ErrorCode::MessageModuleFileVerificationError));
    assert_eq!(offset(&client, url).await, "0");
    let unknown = sent(patch(&client, url, 0, b"x").header("upload-checksum", "crc32 AAAA")).await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    let piece = patch(&client, url, 0, &bytes[..2_000]).header("upload-checksum", checksum(&bytes[..2_000]));
    assert_eq!(sent(piece).await.status(), StatusCode::NO_CONTENT);
    let piece = patch(&client, url, 2_000, &bytes[2_000..]).header("upload-checksum", checksum(&bytes[2_000..]));
    assert_eq!(sent(piece).await.status(), StatusCode::NO_CONTENT);

    // A file that lies about its type, and a picture that is none.
    for (kind, bytes) in [(MessageType::Image, noise(100)), (MessageType::Video, png(1, 1))] {
        let created = create(&mut raw, kind, &bytes).await;
        let refused = sent(patch(&client, &created.upload_url, 0, &bytes)).await;
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(code(&refused), ErrorCode::MessageModuleFileTypeUnsupported);
        // Nothing is left of it.
        assert_eq!(sent(tus(&client, "HEAD", &created.upload_url)).await.status(), StatusCode::NOT_FOUND);
    }
    raw.end().await;
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_is_ended_and_abandoned() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let client = world.https();
    let bytes = noise(5_000);
    let created = create(&mut raw, MessageType::File, &bytes).await;
    sent(patch(&client, &created.upload_url, 0, &bytes[..100])).await;
    let deleted = sent(tus(&client, "DELETE", &created.upload_url)).await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    for method in ["HEAD", "DELETE", "PATCH"] {
        let gone = sent(
            tus(&client, method, &created.upload_url)
                .header("content-type", "application/offset+octet-stream")
                .header("upload-offset", 0),
        );
        assert_eq!(gone.await.status(), StatusCode::NOT_FOUND, "{method}");
    }
    // One that is left for a day.
    let created = create(&mut raw, MessageType::File, &bytes).await;
    sent(patch(&client, &created.upload_url, 0, &bytes[..100])).await;
    world.clock.advance(86_399_000);
    assert_eq!(offset(&client, &created.upload_url).await, "100");
    world.clock.advance(1_000);
    let gone = sent(tus(&client, "HEAD", &created.upload_url)).await;
    assert!([StatusCode::GONE, StatusCode::NOT_FOUND].contains(&gone.status()), "{gone:?}");
    let files = || walk(&world.media_dir());
    world.advance_until("the server forgets it", async || (files() == 0).then_some(())).await;
    // A complete upload is not ended: messages may have the file.
    let created = create(&mut raw, MessageType::File, &bytes).await;
    sent(patch(&client, &created.upload_url, 0, &bytes)).await;
    assert_eq!(sent(tus(&client, "DELETE", &created.upload_url)).await.status(), StatusCode::FORBIDDEN);
    // But a file that no message gets is removed after a day as well.
    world.clock.advance(86_400_000);
    world.advance_until("the file is removed", async || (files() == 0).then_some(())).await;
    assert_eq!(sent(client.get(&created.file_download_url)).await.status(), StatusCode::NOT_FOUND);
    raw.end().await;
    drop((client, deleted, gone));
    world.end().await;
}

fn walk(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    // Who uses the store is no file of a message.
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| !path.ends_with("owners"));
    paths.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn create_media_upload_gives_a_url_with_ranges() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(100_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    sent(patch(&client, &created.upload_url, 0, &bytes)).await;
    let url = &created.file_download_url;
    let whole = sent(client.get(url)).await;
    assert_eq!(whole.status(), StatusCode::OK);
    for (name, expected) in [
        ("content-length", "100000"),
        ("content-type", "application/octet-stream"),
        ("content-disposition", "attachment; filename*=UTF-8''paper.bin"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cache-control", "private, max-age=31536000, immutable"),
    ] {
        assert_eq!(header(&whole, name), expected, "{name}");
    }
    let tag = header(&whole, "etag");
    assert_eq!(soon(whole.bytes()).await.unwrap(), bytes);
    let head = sent(client.head(url)).await;
    assert_eq!((head.status(), header(&head, "content-length").as_str()), (StatusCode::OK, "100000"));
    for (range, expected, content_range) in [
        ("bytes=0-9", &bytes[..10], "bytes 0-9/100000"),
        ("bytes=99990-", &bytes[99_990..], "bytes 99990-99999/100000"),
        ("bytes=-5", &bytes[99_995..], "bytes 99995-99999/100000"),
    ] {
        let part = sent(client.get(url).header("range", range)).await;
        assert_eq!(
            (part.status(), header(&part, "content-range").as_str()),
            (StatusCode::PARTIAL_CONTENT, content_range)
        );
        assert_eq!(soon(part.bytes()).await.unwrap(), expected, "{range}");
    }
    let outside = sent(client.get(url).header("range", "bytes=100000-")).await;
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&outside, "content-range"), "bytes */100000");
    let known = sent(client.get(url).header("if-none-match", &tag)).await;
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    // A part of another version of the file is not mixed with this one.
    let other = sent(client.get(url).header("range", "bytes=5-").header("if-range", "\"other\"")).await;
    assert_eq!(other.status(), StatusCode::OK);
    let same = sent(client.get(url).header("range", "bytes=5-").header("if-range", &tag)).await;
    assert_eq!(
        (same.status(), header(&same, "content-range").as_str()),
        (StatusCode::PARTIAL_CONTENT, "bytes 5-99999/100000")
    );
    for missing in [format!("{url}/thumbnail"), format!("{url}/../../etc"), url.replace("/media/", "/media/0")] {
        assert_eq!(sent(client.get(&missing)).await.status(), StatusCode::NOT_FOUND, "{missing}");
    }
    raw.end().await;
    drop((client, head, outside, known, other, same));
    world.end().await;
}

#[tokio::test]
async fn send_message_takes_only_files_that_fit() {
    let world = World::new().await;
    let (mut raw, _bob) = (world.raw_user("ann", 1).await, world.user("bob").await);
    let client = world.https();
    let bytes = noise(1_000);
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let message = |image: bool, url: &str| {
        let mut message = if image { Message::image("") } else { Message::file("/secret/path") };
        *message.media_parts()[0].download_url = url.to_owned();
        // What the sender says about the file does not count.
        *message.media_parts()[0].size = 7;
        SendMessageRequest {
            message: Some(message),
            to_conversation_id: "bob".to_owned(),
            ..SendMessageRequest::default()
        }
    };
    // It is not complete yet.
    let refused = raw.call(&message(false, &created.file_download_url)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MessageModuleFileNotExist as i32);
    sent(patch(&client, &created.upload_url, 0, &bytes)).await;
    let refused = raw.call(&message(true, &created.file_download_url)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MessageModuleFileTypeUnsupported as i32);
    let mut stored = raw.call(&message(false, &created.file_download_url)).await.unwrap().message.unwrap();
    let part = stored.media_parts().remove(0);
    assert_eq!((part.local_path.as_str(), *part.size, part.name.as_str()), ("", 1_000, "paper.bin"));
    // A message needs a file.
    let image = Message { body: Some(Body::Image(Box::<ImageMessage>::default())), ..Message::default() };
    let empty = SendMessageRequest {
        message: Some(image),
        to_conversation_id: "bob".to_owned(),
        ..SendMessageRequest::default()
    };
    assert_eq!(raw.call(&empty).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    raw.end().await;
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_goes_on_over_a_newer_connection() {
    let world = World::with(|config| config.limits.https_stall_timeout_ms = 10_000).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(600_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    // A request that sends a part and then nothing, as after a cut that nobody has noticed.
    let (more, hanging) = patch_slowly(&client, &created.upload_url, &bytes[..300_000]).await;
    // It takes a moment until the server waits for more.
    let reached = async || offset(&client, &created.upload_url).await.parse::<usize>().unwrap();
    eventually("some of it is stored", async || (reached().await > 0).then_some(())).await;
    // The newer request ends the one before, which gets no bytes. More of them may be stored then.
    eventually("the rest is stored", async || {
        let at = reached().await;
        let rest = sent(patch(&client, &created.upload_url, at, &bytes[at..])).await;
        let known = [StatusCode::NO_CONTENT, StatusCode::CONFLICT, StatusCode::LOCKED];
        assert!(known.contains(&rest.status()), "{rest:?}");
        (rest.status() == StatusCode::NO_CONTENT).then_some(())
    })
    .await;
    let ended = soon(hanging).await.unwrap();
    assert!(ended.map_or(true, |answer| answer.status() == StatusCode::LOCKED));
    drop(more);
    raw.end().await;
    drop(client);
    world.end().await;
}

/// Carries the requests of the other client.
struct Carrier {
    client: Client,
    runtime: tokio::runtime::Handle,
}

impl tus_client::http::HttpHandler for Carrier {
    fn handle_request(
        &self,
        request: tus_client::http::HttpRequest<'_>,
    ) -> Result<tus_client::http::HttpResponse, tus_client::Error> {
        let method = Method::from_bytes(request.method.to_string().to_uppercase().as_bytes()).unwrap();
        let mut ours = self.client.request(method, &request.url);
        for (name, value) in &request.headers {
            ours = ours.header(name, value);
        }
        if let Some(body) = request.body {
            ours = ours.body(body.to_vec());
        }
        let answer = self.runtime.block_on(sent(ours));
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
        Ok(tus_client::http::HttpResponse { headers: headers.collect(), status_code: answer.status().as_u16().into() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn create_media_upload_serves_a_tus_client_of_others() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(300_000));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paper");
    std::fs::write(&path, &bytes).unwrap();
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let abandoned = create(&mut raw, MessageType::File, b"abandoned").await;
    // A part is there already: the other client goes on.
    sent(patch(&client, &created.upload_url, 0, &bytes[..70_000])).await;
    let carrier = Carrier { client: client.clone(), runtime: tokio::runtime::Handle::current() };
    let (url, other) = (created.upload_url.clone(), abandoned.upload_url.clone());
    let uploaded = tokio::task::spawn_blocking(move || {
        let tus = tus_client::Client::new(carrier);
        let info = tus.get_server_info(&url).unwrap();
        assert_eq!(info.supported_versions, ["1.0.0"]);
        let location = tus.create(&url, &path).unwrap();
        assert_eq!(tus.get_info(&location).unwrap().bytes_uploaded, 70_000);
        tus.upload_with_chunk_size(&location, &path, 100_000).unwrap();
        assert_eq!(tus.get_info(&location).unwrap().bytes_uploaded, 300_000);
        tus.delete(&other).unwrap();
        assert!(tus.get_info(&other).is_err());
    });
    soon(uploaded).await.unwrap();
    assert_there(&client, &created, &bytes).await;
    raw.end().await;
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_does_not_wait_for_ever() {
    let world = World::with(|config| config.limits.https_stall_timeout_ms = 100).await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(10_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let part = Ok::<_, std::io::Error>(Bytes::copy_from_slice(&bytes[..4_000]));
    let body = futures_util::stream::once(std::future::ready(part));
    let body = futures_util::StreamExt::chain(body, futures_util::stream::pending());
    let hanging = tus(&client, "PATCH", &created.upload_url)
        .header("upload-offset", 0)
        .header("content-type", "application/offset+octet-stream")
        .body(reqwest::Body::wrap_stream(body));
    let answer = soon(hanging.send()).await;
    // What came before counts, and the upload goes on.
    assert!(answer.as_ref().map_or(true, |answer| answer.status() == StatusCode::REQUEST_TIMEOUT), "{answer:?}");
    assert_eq!(offset(&client, &created.upload_url).await, "4000");
    let rest = sent(patch(&client, &created.upload_url, 4_000, &bytes[4_000..])).await;
    assert_eq!(rest.status(), StatusCode::NO_CONTENT);
    raw.end().await;
    drop((client, answer, rest));
    world.end().await;
}
