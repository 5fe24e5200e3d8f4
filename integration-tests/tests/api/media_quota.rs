//! The space that the files of an app may take when many users want it at once.

use futures_util::future::join_all;
use reqwest::StatusCode;
use zim_client_sdk::Error;
use zim_integration_tests::{RawClient, World, code_of, hello, soon};
use zim_protocol::{ErrorCode, MediaUploadCreatedResult, Message, MessageRevokeConfig, MessageType};
use zim_server::db::{Scope, Tx, params};

use crate::media::{Files, noise, send};
use crate::media_tus::{create, patch, request, sent, tus};

/// Three files of 10,000 bytes fit, and a fourth does not.
const QUOTA: u64 = 35_000;

/// Returns the only number of the only row.
pub(crate) async fn number(world: &World, sql: &'static str) -> i64 {
    let read = world.server().app().db.read(async move |tx: &mut Tx<'_>| {
        let row = tx.fetch_one(sql, &[]).await?;
        Ok(row.unwrap().get::<i64>(0)?)
    });
    read.await.unwrap()
}

/// Returns what the files of all users take.
async fn used(world: &World) -> i64 {
    number(world, "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM media_usage").await
}

/// Returns what the files of the app take at most, as its row says.
async fn total(world: &World) -> i64 {
    number(world, "SELECT bytes FROM media_total").await
}

/// Lets the row of the app say something else.
async fn set_total(world: &World, bytes: i64) {
    let set = world.server().app().db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        assert_eq!(tx.execute("UPDATE media_total SET bytes = $1", &params![bytes]).await?, 1);
        Ok(())
    });
    set.await.unwrap();
}

fn assert_is_full(refused: &zim_protocol::Error) {
    let reason = refused.details.get("reason").map(String::as_str);
    assert_eq!((refused.code, reason), (ErrorCode::MessageModuleFileServerError as i32, Some("quota")));
}

/// Lets a user announce a file, who must be refused.
async fn is_refused(raw: &mut RawClient, bytes: &[u8]) {
    assert_is_full(&raw.call(&request(MessageType::File, bytes)).await.unwrap_err());
}

/// Logs users in, half of them at the second node if there are two.
async fn crowd(world: &World, count: u8) -> Vec<RawClient> {
    join_all((0..count).map(|number| async move {
        let mut raw = if number % 2 == 0 { world.raw().await } else { world.raw_elsewhere().await };
        raw.handshake(hello(number)).await;
        raw.call(&world.login_request(&format!("u{number}"))).await.unwrap();
        raw
    }))
    .await
}

/// Lets all users announce a file at once. Returns the uploads of those for whom there is space.
async fn announce(crowd: &mut [RawClient], bytes: &[u8]) -> Vec<MediaUploadCreatedResult> {
    let request = &request(MessageType::File, bytes);
    let answers = soon(join_all(crowd.iter_mut().map(|raw| raw.call(request)))).await;
    let (created, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    refused.into_iter().for_each(|refused| assert_is_full(&refused.unwrap_err()));
    created.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn create_media_upload_at_once_keeps_to_the_quota_of_the_app() {
    let world = World::with(|config| config.media.max_app_bytes = QUOTA).await;
    let mut crowd = crowd(&world, 16).await;
    let (client, bytes) = (world.https(), noise(10_000));
    for round in 0..10 {
        let uploads = announce(&mut crowd, &bytes).await;
        assert_eq!((uploads.len(), used(&world).await), (3, 30_000), "round {round}");
        // Those who end their uploads leave the space to others.
        let ended = join_all(uploads.iter().map(|upload| sent(tus(&client, "DELETE", &upload.upload_url)))).await;
        assert!(ended.iter().all(|answer| answer.status() == StatusCode::NO_CONTENT), "{ended:?}");
        assert_eq!(used(&world).await, 0);
        world.clock.advance(1_000);
    }
    let uploads = announce(&mut crowd, &bytes).await;
    assert_eq!(uploads.len(), 3);
    let done = join_all(uploads.iter().map(|upload| sent(patch(&client, &upload.upload_url, 0, &bytes)))).await;
    assert!(done.iter().all(|answer| answer.status() == StatusCode::NO_CONTENT), "{done:?}");
    assert_eq!(used(&world).await, 30_000);
    RawClient::end_all(crowd).await;
    drop((client, done));
    world.end().await;
}

fn assert_no_space(error: &Error) {
    assert_eq!((code_of(error), error.detail("reason")), (ErrorCode::MessageModuleFileServerError, Some("quota")));
}

#[tokio::test]
async fn send_media_message_at_once_keeps_to_the_quota_of_the_app() {
    let world = World::with(|config| {
        config.media.max_app_bytes = QUOTA;
        config.media.unused_kept_s = 60;
    })
    .await;
    let _bob = world.user("bob").await;
    let crowd = join_all((0..8).map(|number| {
        let world = &world;
        async move { world.user(&format!("u{number}")).await }
    }))
    .await;
    let files = Files::new();
    let path = files.add("paper", &noise(10_000));
    let outcomes = join_all(crowd.iter().map(|device| send(device, Message::file(&path)))).await;
    let (mut senders, mut others) = (Vec::new(), Vec::new());
    for (device, outcome) in crowd.iter().zip(outcomes) {
        match outcome {
            Ok(message) => senders.push((device, message)),
            Err(error) => {
                assert_no_space(&error);
                others.push(device);
            }
        }
    }
    assert_eq!((senders.len(), used(&world).await), (3, 30_000));
    // When a file goes, there is space for one of the others.
    let (first, message) = &senders[0];
    soon(first.revoke_message(message, MessageRevokeConfig::default())).await.unwrap();
    world.clock.advance(60_000);
    world.advance_until("the file is removed", async || (used(&world).await == 20_000).then_some(())).await;
    let outcomes = join_all(others.iter().map(|device| send(device, Message::file(&path)))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).for_each(assert_no_space);
    assert_eq!(used(&world).await, 30_000);
    world.end().await;
}

/// Adding up the files of all users takes long, so a row says how many bytes they are at most. Here it says something else than they are,
/// which shows when it is read and when it is not.
#[tokio::test]
async fn create_media_upload_adds_up_the_files_of_an_app_now_and_then() {
    let world = World::with(|config| config.media.max_app_bytes = QUOTA).await;
    let mut raw = world.raw_user("ann", 1).await;
    create(&mut raw, MessageType::File, &noise(5_000)).await;
    assert_eq!(total(&world).await, 5_000);
    // While it says that there is space, nothing is added up.
    set_total(&world, 7_000).await;
    create(&mut raw, MessageType::File, &noise(5_001)).await;
    assert_eq!((total(&world).await, used(&world).await), (12_001, 10_001));
    // Otherwise it is, once a second. This also shows that what a refusal has added up is kept.
    set_total(&world, 34_000).await;
    is_refused(&mut raw, &noise(5_002)).await;
    world.clock.advance(1_000);
    is_refused(&mut raw, &noise(25_000)).await;
    assert_eq!(total(&world).await, 10_001);
    set_total(&world, 34_000).await;
    world.clock.advance(999);
    is_refused(&mut raw, &noise(5_002)).await;
    assert_eq!(total(&world).await, 34_000);
    world.clock.advance(1);
    create(&mut raw, MessageType::File, &noise(5_002)).await;
    assert_eq!((total(&world).await, used(&world).await), (15_003, 15_003));
    // What a node of the version before adds is not in the row. An hour after the last time all is added up anyway.
    set_total(&world, 0).await;
    world.clock.advance(3_600_000);
    is_refused(&mut raw, &noise(20_000)).await;
    assert_eq!(total(&world).await, 15_003);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn create_media_upload_counts_what_was_uploaded_without_a_quota() {
    let mut world = World::with(|config| config.media.max_app_bytes = QUOTA).await;
    let mut raw = world.raw_user("ann", 1).await;
    create(&mut raw, MessageType::File, &noise(10_000)).await;
    raw.end().await;
    world.stop_server().await;
    world.edit_settings(|config| config.media.max_app_bytes = 0);
    world.start_server().await;
    let mut raw = world.raw_user("ann", 1).await;
    create(&mut raw, MessageType::File, &noise(20_000)).await;
    raw.end().await;
    world.stop_server().await;
    world.clock.advance(1);
    world.edit_settings(|config| config.media.max_app_bytes = QUOTA);
    world.start_server().await;
    let mut raw = world.raw_user("ann", 1).await;
    is_refused(&mut raw, &noise(10_001)).await;
    assert_eq!((total(&world).await, used(&world).await), (30_000, 30_000));
    create(&mut raw, MessageType::File, &noise(5_000)).await;
    raw.end().await;
    world.end().await;
}
