//! Uploads that meet others, or are cut.

use reqwest::StatusCode;
use zim_integration_tests::{World, eventually, soon};
use zim_protocol::MessageType;

use crate::media::noise;
use crate::media_tus::{create, header, offset, patch, patch_slowly, sent};

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
    let whole = sent(client.get(&created.file_download_url)).await;
    assert!(soon(whole.bytes()).await.unwrap() == bytes, "the file differs");
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
    let whole = sent(client.get(&created.file_download_url)).await;
    assert!(soon(whole.bytes()).await.unwrap() == bytes, "the file differs");
    drop(more);
    raw.end().await;
    drop(client);
    world.end().await;
}
