//! The logs of clients, which the operator reads.

use std::io::{Cursor, Read};
use std::path::Path;

use reqwest::StatusCode;
use tempfile::TempDir;
use tonic::Code;
use zim_client_sdk::{LogConfig, LogLevel};
use zim_integration_tests::{Device, OperatorClient, World, refusal, soon};
use zim_protocol::{CreateLogUploadRequest, ErrorCode, ListLogsRequest, LogInfo, ReadLogRequest};

use crate::media_tus::{patch, sent, sha256};

/// Lets the log of this process go to a folder, and writes to it what the test says.
pub(crate) fn log_to(device: &Device, folder: &Path, text: &str) {
    device.set_log_config(&LogConfig { log_level: LogLevel::Error, log_path: Some(folder.to_owned()) });
    std::fs::write(folder.join("zim.log"), text).unwrap();
}

async fn logs(world: &World, operator: &mut OperatorClient, user: &str) -> Vec<LogInfo> {
    let request = ListLogsRequest { app_id: world.app_id(), user_id: user.into(), next_flag: 0, count: 0 };
    soon(operator.list_logs(request)).await.unwrap().into_inner().logs
}

async fn read(world: &World, operator: &mut OperatorClient, log: &LogInfo) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let offset = i64::try_from(all.len()).unwrap();
        let request = ReadLogRequest { app_id: world.app_id(), log_id: log.log_id.clone(), offset };
        let part = soon(operator.read_log(request)).await.unwrap().into_inner().data;
        if part.is_empty() {
            return all;
        }
        all.extend(part);
    }
}

/// Bytes that do not get smaller: more than one part of an answer.
fn noise() -> String {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + u8::try_from(state >> 58).unwrap())
    };
    (0..1 << 20).map(|_| next()).collect()
}

/// Opens a package with another program than the one that made it. Returns the files in it with their contents, whose checksums fit.
fn unzipped(bytes: Vec<u8>) -> Vec<(String, String)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        files.push((file.name().to_owned(), content));
    }
    files
}

#[tokio::test]
async fn upload_log_packs_all_files_oldest_first() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let folder = TempDir::new().unwrap();
    log_to(&ann, folder.path(), "new\n");
    std::fs::write(folder.path().join("zim.1.log"), "older\n".repeat(100_000)).unwrap();
    std::fs::write(folder.path().join("zim.2.log"), "oldest: \u{e9}\n").unwrap();
    soon(ann.upload_log()).await.unwrap();
    let mut operator = world.admin().await;
    let log = logs(&world, &mut operator, "ann").await.remove(0);
    let files = unzipped(read(&world, &mut operator, &log).await);
    let expected = [
        ("zim.2.log", "oldest: \u{e9}\n".to_owned()),
        ("zim.1.log", "older\n".repeat(100_000)),
        ("zim.log", "new\n".to_owned()),
    ];
    assert_eq!(files, expected.map(|(name, content)| (name.to_owned(), content)));
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn upload_log_gives_the_operator_the_last_one_of_ten_minutes() {
    let world = World::new().await;
    let (ann, phone) = (world.user("ann").await, world.device("ann").await);
    let mut operator = world.admin().await;
    let folder = TempDir::new().unwrap();
    log_to(&ann, folder.path(), "first");
    soon(ann.upload_log()).await.unwrap();
    let first = logs(&world, &mut operator, "ann").await.remove(0);
    assert_eq!((first.user_id.as_str(), first.uploaded_at, first.device_id.len()), ("ann", world.clock.now_ms(), 32));
    // The same again is the same log.
    soon(ann.upload_log()).await.unwrap();
    assert_eq!(logs(&world, &mut operator, "").await, std::slice::from_ref(&first));
    world.clock.advance(599_999);
    log_to(&ann, folder.path(), &noise());
    soon(ann.upload_log()).await.unwrap();
    let second = logs(&world, &mut operator, "ann").await;
    assert_eq!((second.len(), second[0].uploaded_at), (1, world.clock.now_ms()), "it replaces the first");
    assert_ne!(second[0].log_id, first.log_id);
    let zipped = read(&world, &mut operator, &second[0]).await;
    assert_eq!((&zipped[..4], i64::try_from(zipped.len()).unwrap()), (&b"PK\x03\x04"[..], second[0].size));
    assert!(zipped.len() > 512 << 10, "it takes two answers");
    assert_eq!(unzipped(zipped), [("zim.log".to_owned(), noise())]);
    let gone = ReadLogRequest { app_id: world.app_id(), log_id: first.log_id.clone(), offset: 0 };
    assert_eq!(soon(operator.read_log(gone)).await.unwrap_err().code(), Code::InvalidArgument);
    // Another device has a log of its own, and so has the same one later.
    log_to(&phone, folder.path(), "of the phone");
    soon(phone.upload_log()).await.unwrap();
    world.clock.advance(600_000);
    log_to(&ann, folder.path(), "third");
    soon(ann.upload_log()).await.unwrap();
    let all = logs(&world, &mut operator, "ann").await;
    let devices: Vec<&str> = all.iter().map(|log| log.device_id.as_str()).collect();
    assert_eq!((devices.len(), devices[0] == devices[2], devices[0] == devices[1]), (3, true, false));
    let mut page = ListLogsRequest { app_id: world.app_id(), count: 2, ..ListLogsRequest::default() };
    let mut paged = Vec::new();
    loop {
        let found = soon(operator.list_logs(page.clone())).await.unwrap().into_inner();
        paged.extend(found.logs);
        page.next_flag = found.next_flag;
        if page.next_flag == 0 {
            break;
        }
    }
    assert_eq!(paged, all);
    // Only the log files are left in the folder.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn create_log_upload_keeps_the_one_that_began_last() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, mut operator) = (world.https(), world.admin().await);
    let texts: [&[u8]; 2] = [b"PK\x03\x04older", b"PK\x03\x04newer"];
    let mut urls = Vec::new();
    for text in texts {
        let file_size = i64::try_from(text.len()).unwrap();
        let request = CreateLogUploadRequest { file_size, sha256: sha256(text), host: "127.0.0.1".into() };
        urls.push(raw.call(&request).await.unwrap().upload_url);
        world.clock.advance(1_000);
    }
    // The older one is complete after the newer one.
    for at in [1, 0] {
        assert_eq!(sent(patch(&client, &urls[at], 0, texts[at])).await.status(), StatusCode::NO_CONTENT);
    }
    let left = logs(&world, &mut operator, "ann").await;
    assert_eq!(left.len(), 1);
    assert_eq!(read(&world, &mut operator, &left[0]).await, texts[1]);
    raw.end().await;
    drop((operator, client));
    world.end().await;
}

#[tokio::test]
async fn upload_log_fails_with_a_code_of_its_own() {
    let world = World::with(|config| config.media.max_user_bytes = 1).await;
    let stranger = world.client();
    assert_eq!(refusal(soon(stranger.upload_log()).await), ErrorCode::NetworkModuleUserIsNotLogged);
    let ann = world.user("ann").await;
    let failed = ErrorCode::CommonModuleUploadLogError;
    assert_eq!(refusal(soon(ann.upload_log()).await), failed, "the log goes to no folder");
    let folder = TempDir::new().unwrap();
    log_to(&ann, folder.path(), "");
    assert_eq!(refusal(soon(ann.upload_log()).await), failed, "it is empty");
    log_to(&ann, folder.path(), "something");
    assert_eq!(refusal(soon(ann.upload_log()).await), failed, "the user has no room for it");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the package is removed");
    world.end().await;
}

#[tokio::test]
async fn create_log_upload_takes_16_mb_and_not_one_byte_more() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let request =
        |file_size| CreateLogUploadRequest { file_size, sha256: vec![7; 32].into(), host: "127.0.0.1".into() };
    let answer = raw.call(&request(16 << 20)).await.unwrap();
    assert!(answer.upload_url.contains("/uploads/"));
    for (bad, code) in [
        (request((16 << 20) + 1), ErrorCode::MessageModuleFileSizeInvalid),
        (request(0), ErrorCode::CommonModuleParamsInvalid),
        (CreateLogUploadRequest { sha256: vec![7; 31].into(), ..request(1) }, ErrorCode::CommonModuleParamsInvalid),
    ] {
        assert_eq!(raw.call(&bad).await.unwrap_err().code, code as i32);
    }
    // What was announced and did not arrive is no log.
    let mut operator = world.admin().await;
    assert!(logs(&world, &mut operator, "").await.is_empty());
    let nobody = ListLogsRequest { app_id: world.app_id(), user_id: "nobody".into(), next_flag: 0, count: 0 };
    assert_eq!(soon(operator.list_logs(nobody)).await.unwrap_err().code(), Code::NotFound);
    let none = ReadLogRequest { app_id: world.app_id(), log_id: "x".into(), offset: 0 };
    assert_eq!(soon(operator.read_log(none)).await.unwrap_err().code(), Code::InvalidArgument);
    raw.end().await;
    drop(operator);
    world.end().await;
}
