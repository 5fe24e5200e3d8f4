//! Downloading files, and the files on this device.

use std::path::Path;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use zim_client_sdk::Zim;
use zim_integration_tests::{World, code_of, refusal, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    CacheConfig, ErrorCode, FileCacheClearConfig, FileCacheQueryConfig, ImageMessage, MediaDownloadConfig,
    MediaFileType, Message, MessageType,
};

use crate::media::{Files, download, noise, receives, send};
use crate::media_tus::sha256;

#[tokio::test]
async fn download_media_file_tells_why_it_fails() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::file(files.add("paper", &noise(300_000)))).await.unwrap();
    let received = receives(&bob, MessageType::File).await;
    let progress: Mutex<Vec<(i64, i64)>> = Mutex::default();
    let noted = |_: &Message, moved, size| progress.lock().push((moved, size));
    let config = MediaDownloadConfig::default;
    let downloaded = soon(bob.download_media_file(&received, MediaFileType::OriginalFile, config(), noted)).await;
    let message = downloaded.unwrap().message.unwrap();
    assert!(!message.clone().media_parts()[0].local_path.is_empty());
    assert_eq!(progress.lock().last(), Some(&(300_000, 300_000)));
    // What this device has is not downloaded again.
    progress.lock().clear();
    soon(bob.download_media_file(&received, MediaFileType::OriginalFile, config(), noted)).await.unwrap();
    assert!(progress.lock().is_empty());

    let code = async |message: &Message, kind| refusal(download(&bob, message, kind).await);
    for kind in [MediaFileType::Thumbnail, MediaFileType::VideoFirstFrame] {
        assert_eq!(code(&received, kind).await, ErrorCode::MessageModuleFileDownloadUrlNotFound);
    }
    let text = Message { conversation_id: "ann".to_owned(), ..Message::text("hi") };
    assert_eq!(code(&text, MediaFileType::OriginalFile).await, ErrorCode::MessageModuleFileDownloadUrlNotFound);
    let second = MediaDownloadConfig { message_info_index: 1 };
    let refused = soon(bob.download_media_file(&received, MediaFileType::OriginalFile, second, noted)).await;
    assert_eq!(refusal(refused), ErrorCode::MessageModuleFileDownloadUrlNotFound);
    let negative = MediaDownloadConfig { message_info_index: -1 };
    let refused = soon(bob.download_media_file(&received, MediaFileType::OriginalFile, negative, noted)).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);

    // Of a file elsewhere: one that is too large, a server that fails, and nobody who answers.
    let elsewhere = Elsewhere::new().await;
    for (path, code) in [
        ("large", ErrorCode::MessageModuleFileDownloadLimit),
        // As large as a file may be, it is only not complete.
        ("largest", ErrorCode::MessageModuleFileDownloadFailed),
        ("broken", ErrorCode::MessageModuleFileDownloadHttpRequestServerError),
        ("none", ErrorCode::MessageModuleFileDownloadFailed),
        ("short", ErrorCode::MessageModuleFileDownloadFailed),
    ] {
        let refused = refusal(download(&bob, &elsewhere.message(path), MediaFileType::OriginalFile).await);
        assert_eq!(refused, code, "{path}");
    }
    let path = download(&bob, &elsewhere.message("good"), MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"good");
    // A download that broke off goes on where it was.
    let parts = elsewhere.message("parts");
    let refused = refusal(download(&bob, &parts, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleFileDownloadFailed);
    let path = download(&bob, &parts, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"very good");
    let nobody = elsewhere.message("good");
    elsewhere.end();
    soon(bob.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    let refused = refusal(download(&bob, &nobody, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleFileDownloadFailed);
    world.end().await;
}

#[tokio::test]
async fn download_media_file_goes_on_where_it_was_cut() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let bytes = noise(8_000_000);
    send(&ann, Message::file(files.add("film", &bytes))).await.unwrap();
    let received = receives(&bob, MessageType::File).await;
    let (kind, config) = (MediaFileType::OriginalFile, MediaDownloadConfig::default);
    let (cut, is_cut) = oneshot::channel();
    let cut = Mutex::new(Some(cut));
    let until_cut = |_: &Message, moved: i64, _: i64| {
        if moved > 3_000_000
            && let Some(cut) = cut.lock().take()
        {
            cut.send(()).unwrap();
        }
    };
    tokio::select! {
        biased;
        cut = soon(is_cut) => cut.unwrap(),
        ended = bob.download_media_file(&received, kind, config(), until_cut) => {
            panic!("the download was too fast for this test: {ended:?}")
        }
    }
    assert!(bob.history("ann").await[0].media_parts()[0].local_path.is_empty(), "it is not there yet");
    let progress: Mutex<Vec<i64>> = Mutex::default();
    let noted = |_: &Message, moved: i64, _: i64| progress.lock().push(moved);
    let downloaded = soon(bob.download_media_file(&received, kind, config(), noted)).await.unwrap();
    assert!(std::fs::read(downloaded.file_local_path).unwrap() == bytes, "the file differs");
    // What was on its way to the disk when it was cut comes again, and no more.
    let progress = progress.lock().clone();
    assert!(progress[0] > 2_000_000 && progress.is_sorted(), "{:?}", &progress[..progress.len().min(9)]);
    assert_eq!(progress.last(), Some(&8_000_000));
    world.end().await;
}

#[tokio::test]
async fn download_media_file_needs_a_place() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let mut sent = send(&ann, Message::file(files.add("paper", b"paper"))).await.unwrap();
    let received = receives(&bob, MessageType::File).await;
    Zim::set_cache_config(CacheConfig { cache_path: files.add("file", b"") });
    let refused = refusal(download(&bob, &received, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleCacheFileOpenFailed);
    // The folder is there, but something else is where the file is to be written.
    let cache = files.path().join("cache");
    Zim::set_cache_config(CacheConfig { cache_path: cache.to_str().unwrap().to_owned() });
    let hash = sha256(sent.media_parts()[0].download_url.as_bytes());
    let taken = cache.join(format!("{}.part", zim_protocol::id::hex(&hash[..16])));
    std::fs::create_dir_all(&taken).unwrap();
    let error = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap_err();
    assert_eq!(code_of(&error), ErrorCode::MessageModuleFileDownloadFailed);
    assert!(error.to_string().contains("cannot be stored"), "{error}");
    std::fs::remove_dir(&taken).unwrap();
    let path = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!((path.parent(), std::fs::read(&path).unwrap()), (Some(&*cache), b"paper".to_vec()));
    world.end().await;
}

/// A server of files that are elsewhere.
struct Elsewhere {
    address: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Elsewhere {
    async fn new() -> Self {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4_096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let answer = match request.split(' ').nth(1) {
                    Some("/largest") => "200 OK\r\ncontent-length: 209715200\r\n\r\nhalf",
                    Some("/large") => "200 OK\r\ncontent-length: 209715201\r\n\r\n",
                    Some("/broken") => "503 Away\r\ncontent-length: 0\r\n\r\n",
                    Some("/short") => "200 OK\r\ncontent-length: 10\r\n\r\nhalf",
                    Some("/good") => "200 OK\r\ncontent-length: 4\r\n\r\ngood",
                    // Breaks off first, and has the rest then.
                    Some("/parts") if request.contains("bytes=4-") && request.contains("\"one\"") => {
                        "206 Part\r\ncontent-range: bytes 4-8/9\r\ncontent-length: 5\r\n\r\n good"
                    }
                    Some("/parts") => "200 OK\r\netag: \"one\"\r\ncontent-length: 9\r\n\r\nvery",
                    _ => "404 None\r\ncontent-length: 0\r\n\r\n",
                };
                let answer = format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nconnection: close\r\n", 1));
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        Self { address, task }
    }

    fn message(&self, path: &str) -> Message {
        let image =
            ImageMessage { file_download_url: format!("http://{}/{path}", self.address), ..ImageMessage::default() };
        let body = Some(Body::Image(Box::new(image)));
        Message { conversation_id: "ann".to_owned(), body, ..Message::default() }
    }

    fn end(self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn query_local_file_cache_counts_downloads() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::file(files.add("paper", &noise(30_000)))).await.unwrap();
    let size = async |until| {
        soon(bob.query_local_file_cache(FileCacheQueryConfig { end_time: until })).await.unwrap().total_file_size
    };
    assert_eq!(size(0).await, 0);
    download(&bob, &receives(&bob, MessageType::File).await, MediaFileType::OriginalFile).await.unwrap();
    // Until a second after 1970, nothing was downloaded; until the latest time, everything.
    assert_eq!((size(0).await, size(1_000).await, size(9_007_199_254_740_991).await), (30_000, 0, 30_000));
    for device in [&ann, &bob] {
        let negative = soon(device.query_local_file_cache(FileCacheQueryConfig { end_time: -1 })).await;
        assert_eq!(refusal(negative), ErrorCode::CommonModuleParamsInvalid);
    }
    world.end().await;
}

#[tokio::test]
async fn clear_local_file_cache_removes_downloads() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let mut sent = send(&ann, Message::file(files.add("paper", &noise(30_000)))).await.unwrap();
    let path = download(&bob, &receives(&bob, MessageType::File).await, MediaFileType::OriginalFile).await.unwrap();
    // What was downloaded later than the given time stays.
    soon(bob.clear_local_file_cache(FileCacheClearConfig { end_time: 1_000 })).await.unwrap();
    assert!(path.exists());
    soon(bob.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    assert!(!path.exists());
    assert!(bob.history("ann").await[0].media_parts()[0].local_path.is_empty());
    // The sender's own file is not a download.
    soon(ann.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    assert!(Path::new(&*sent.media_parts()[0].local_path).exists());
    let negative = soon(bob.clear_local_file_cache(FileCacheClearConfig { end_time: -1 })).await;
    assert_eq!(refusal(negative), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn set_cache_config_moves_the_folder_of_downloads() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::file(files.add("paper", b"paper"))).await.unwrap();
    let folder = files.path().join("cache");
    Zim::set_cache_config(CacheConfig { cache_path: folder.to_str().unwrap().to_owned() });
    let received = receives(&bob, MessageType::File).await;
    let path = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(path.parent(), Some(&*folder));
    // A folder that cannot be one.
    Zim::set_cache_config(CacheConfig { cache_path: files.add("file", b"") });
    let refused = refusal(download(&bob, &received, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleCacheFileOpenFailed);
    Zim::set_cache_config(CacheConfig::default());
    let path = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert!(path.starts_with(bob.dir().path()));
    world.end().await;
}
