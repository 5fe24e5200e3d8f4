//! What is in the store of the files, and nobody needs.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use reqwest::StatusCode;
use zim_integration_tests::{S3Server, START_MS, World, eventually, soon};
use zim_protocol::MessageType;

use crate::media::noise;
use crate::media_s3::{has_objects, world_on};
use crate::media_tus::{assert_there, create, offset, patch, patch_slowly, sent};

const DAY_MS: i64 = 86_400_000;

/// Writes a file that looks as if it had been written at this time.
fn put(path: &Path, at_ms: i64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "left").unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(at_ms.unsigned_abs())).unwrap();
}

fn names(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

async fn is_gone(path: &Path) {
    eventually(&format!("{} is removed", path.display()), async || (!path.exists()).then_some(())).await;
}

#[tokio::test]
async fn create_media_upload_leaves_no_files_that_no_row_knows() {
    let world = World::with(|config| {
        config.media.orphans_kept_days = 2;
        config.media.unused_kept_s = 30 * 86_400;
        config.media.upload_valid_s = 30 * 86_400;
    })
    .await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(5_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    assert_eq!(sent(patch(&client, &created.upload_url, 0, &bytes)).await.status(), StatusCode::NO_CONTENT);
    let half = create(&mut raw, MessageType::File, &noise(6_000)).await;
    sent(patch(&client, &half.upload_url, 0, &noise(6_000)[..100])).await;
    // The number of the folder follows from that of the file. The last folder is looked at last.
    let media = world.media_dir();
    let (old, version, young) = (media.join("01/65"), media.join("01/65.large"), media.join("02/129"));
    let (last, others) = (media.join("ff/16320"), media.join("01/notes.txt"));
    for path in [&old, &version, &last, &others] {
        put(path, START_MS);
    }
    put(&young, START_MS + 2 * DAY_MS);
    // A folder that was not there at the start gets the name of the deployment first. What is removed, is removed a day later.
    world.clock.advance(2 * DAY_MS);
    let owners = media.join("owners");
    eventually("the name of the deployment", async || (names(&owners).len() == 1).then_some(())).await;
    world.clock.advance(DAY_MS);
    for path in [&old, &version, &last] {
        is_gone(path).await;
    }
    assert!(young.exists() && others.exists());
    // The next time is a day later.
    put(&last, START_MS);
    world.clock.advance(DAY_MS);
    is_gone(&young).await;
    is_gone(&last).await;
    assert!(others.exists(), "it is none of the server's");
    // Another deployment has files in the folder. None of them is removed.
    let foreign = owners.join("0123456789abcdef");
    for path in [&old, &foreign] {
        put(path, START_MS);
    }
    world.clock.advance(DAY_MS);
    let told = async || world.warnings().iter().any(|line| line.contains("another deployment")).then_some(());
    eventually("the operator is told", told).await;
    assert!(old.exists());
    // It has ended.
    std::fs::remove_file(&foreign).unwrap();
    world.clock.advance(DAY_MS);
    is_gone(&old).await;
    // What rows know stays, complete or not.
    assert_there(&client, &created, &bytes).await;
    assert_eq!(offset(&client, &half.upload_url).await, "100");
    raw.end().await;
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_leaves_no_pieces_beside_a_complete_file() {
    let s3 = S3Server::start();
    let world = world_on(&s3, |config| {
        config.media.orphans_kept_days = 1;
        config.media.unused_kept_s = 30 * 86_400;
    })
    .await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(5_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    assert_eq!(sent(patch(&client, &created.upload_url, 0, &bytes)).await.status(), StatusCode::NO_CONTENT);
    has_objects(&s3, 1).await;
    // As if a request at another node had put its last piece now.
    let piece = s3.objects().remove(0).with_extension("parts").join("000000000000-0a1b2c3d");
    put(&piece, START_MS);
    let late = sent(patch(&client, &created.upload_url, 4, &bytes[4..])).await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    is_gone(&piece).await;
    // And as if that had been killed at once.
    put(&piece, START_MS);
    world.clock.advance(DAY_MS);
    is_gone(&piece).await;
    assert_there(&client, &created, &bytes).await;
    raw.end().await;
    drop((client, late));
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_begins_again_if_the_file_vanishes_from_the_folder() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (client, bytes) = (world.https(), noise(400_000));
    let created = create(&mut raw, MessageType::File, &bytes).await;
    let url = &created.upload_url;
    let (more, uploading) = patch_slowly(&client, url, &bytes[..300_000]).await;
    eventually("some of it is stored", async || (offset(&client, url).await != "0").then_some(())).await;
    std::fs::remove_dir_all(world.media_dir()).unwrap();
    more.send(Ok(bytes[300_000..].to_vec().into())).await.unwrap();
    drop(more);
    let refused = soon(uploading).await.unwrap().unwrap();
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert_eq!(offset(&client, url).await, "0");
    assert_eq!(sent(patch(&client, url, 0, &bytes)).await.status(), StatusCode::NO_CONTENT);
    assert_there(&client, &created, &bytes).await;
    raw.end().await;
    drop((client, refused));
    world.end().await;
}
