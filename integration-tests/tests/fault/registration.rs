//! Logins while messages arrive.

use std::sync::atomic::{AtomicBool, Ordering};

use zim_integration_tests::{World, code, request, send_text};
use zim_protocol::{LogKind, SyncRequest, event_frame};

/// What a login reads and what is pushed to it leave no gap, even if messages are pushed at that moment.
#[tokio::test]
async fn a_session_that_registers_while_messages_are_pushed_misses_none() {
    const BURST: u64 = 20;
    let world = World::with(|config| {
        config.limits.messages_per_second = 1_000_000;
        config.limits.message_burst = 1_000_000;
        config.limits.requests_per_second = 1_000_000;
        config.limits.request_burst = 1_000_000;
    })
    .await;
    let (mut ann, bob) = (world.raw_user("ann", 1).await, world.user("bob").await);
    bob.say("ann", "first").await;
    bob.quit().await;
    let is_done = AtomicBool::new(false);
    let sending = async {
        let mut key = 0_u64;
        while !is_done.load(Ordering::Relaxed) {
            let burst: Vec<_> = (0..BURST)
                .map(|id| {
                    key += 1;
                    let key = [key.to_be_bytes(), [7; 8]].concat().into();
                    request(
                        id + 1_000,
                        &zim_protocol::SendMessageRequest { client_key: key, ..send_text("bob", "x", 0) },
                    )
                })
                .collect();
            ann.write(burst).await;
            for response in ann.responses(BURST as usize).await {
                assert_eq!(code(&response), 0);
            }
        }
    };
    let logins = async {
        for device in 10..40 {
            let mut bob = world.raw_user("bob", device).await;
            let sync = SyncRequest { epoch: vec![0; 16].into(), ..SyncRequest::default() };
            let heads = bob.call(&sync).await.unwrap().heads;
            let end = heads.iter().map(|head| head.end_seq).max().unwrap();
            loop {
                match bob.event().await.expect("an event") {
                    event_frame::Frame::Push(push) if push.log == LogKind::Messages as i32 => {
                        assert!(push.from <= end + 1, "read up to {end}, and then {} was pushed", push.from);
                        if push.to > end {
                            break;
                        }
                    }
                    _ => {}
                }
            }
            bob.end().await;
        }
        is_done.store(true, Ordering::Relaxed);
    };
    futures_util::join!(sending, logins);
    ann.end().await;
    world.end().await;
}
