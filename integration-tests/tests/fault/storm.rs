//! Handshakes that never complete, more connections than an address may open, and incomplete frames.

use std::collections::HashSet;

use futures_util::future::join_all;
use quinn::ConnectionError;
use tokio::net::UdpSocket;
use zim_integration_tests::{RawClient, World, eventually, hello, request, send_text, soon};
use zim_protocol::wire::CloseCode;
use zim_protocol::{ClientFrame, client_frame, frame::encode_frame};

/// Clients that send the first packet of a handshake and nothing more, as clients with a forged address do.
struct IncompleteHandshakes {
    from: UdpSocket,
}

impl IncompleteHandshakes {
    async fn start(world: &World, count: usize) -> Self {
        let any = ("127.0.0.1", 0);
        let (post_box, from) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
        let endpoint = world.quic();
        let to = post_box.local_addr().unwrap();
        let connecting: Vec<_> = (0..count).map(|_| endpoint.connect(to, "localhost").unwrap()).collect();
        let (mut ids, mut datagram) = (HashSet::new(), [0; 2_048]);
        while ids.len() < count {
            let length = soon(post_box.recv(&mut datagram)).await.unwrap();
            // The destination connection ID of the first packet; an unanswered client repeats it.
            let id = datagram[6..6 + usize::from(datagram[5])].to_vec();
            if ids.insert(id) {
                from.send_to(&datagram[..length], world.address()).await.unwrap();
            }
        }
        drop(connecting);
        Self { from }
    }

    /// Waits until the server has answered one of them.
    async fn wait_for_answer(self) {
        soon(self.from.recv(&mut [0; 2_048])).await.unwrap();
    }
}

#[tokio::test]
async fn incomplete_handshakes_do_not_block_other_clients() {
    // Longer than any test waits, so that no handshake times out.
    let world = World::with(|config| config.limits.handshake_timeout_ms = 60_000).await;
    let handshakes = IncompleteHandshakes::start(&world, 40).await;
    handshakes.wait_for_answer().await;
    world.assert_serves_others().await;
    // The stop does not wait for them either.
    world.end().await;
}

#[tokio::test]
async fn incomplete_handshakes_are_bounded_and_time_out() {
    let world = World::with(|config| config.limits.handshake_timeout_ms = 1_500).await;
    let before = world.server().tasks();
    let handshakes = IncompleteHandshakes::start(&world, 400).await;
    handshakes.wait_for_answer().await;
    // The first 16 take one task of the server and one of QUIC each; the others get a Retry packet, which takes none.
    assert!(world.server().tasks() <= before + 2 * 16, "{} tasks", world.server().tasks());
    world.assert_serves_others().await;
    eventually("the handshakes time out", async || (world.server().tasks() <= before).then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn a_connection_storm_from_one_address_is_refused_and_sessions_go_on() {
    let world = World::with(|config| {
        config.limits.handshakes_at_once = 1;
        config.limits.handshakes_per_second_per_address = 20;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let endpoint = world.quic();
    let storm = join_all((0..200).map(|_| {
        let connecting = endpoint.connect(world.address(), "localhost").unwrap();
        async move { soon(connecting).await }
    }));
    let talk = async {
        for number in 0..20 {
            ann.say("bob", &number.to_string()).await;
            bob.receives(&number.to_string()).await;
        }
    };
    let (storm, ()) = tokio::join!(storm, talk);
    let refused = storm.iter().filter(|shaken| match shaken {
        Ok(_) => false,
        Err(ConnectionError::ConnectionClosed(closed)) => {
            assert_eq!(closed.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
            true
        }
        Err(other) => panic!("{other}"),
    });
    let refused = refused.count();
    assert!(
        refused >= 150,
        "only {refused} of 200 were refused: ten may validate their address, a few arrive before that is required"
    );
    assert!(refused < 200, "every connection was refused");
    drop(storm);
    soon(endpoint.wait_idle()).await;
    drop(endpoint);
    // The allowance refills.
    world.clock.advance(10_000);
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn a_client_has_one_stream_however_many_it_opens() {
    let world = World::new().await;
    let raw = world.raw_user("ann", 1).await;
    let opening: Vec<_> = (0..1_000).map(|_| raw.connection.open_bi()).collect();
    let (mut opening, mut other) = (join_all(opening), Box::pin(raw.connection.open_uni()));
    world.assert_serves_others().await;
    assert!(futures_util::poll!(&mut opening).is_pending(), "a second stream was opened");
    assert!(futures_util::poll!(&mut other).is_pending(), "a stream in one direction was opened");
    drop((opening, other));
    raw.end().await;
    world.end().await;
}

/// Encodes the first half of a frame.
fn half(frame: client_frame::Frame) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    encode_frame(&ClientFrame { frame: Some(frame) }, &mut bytes);
    bytes[..bytes.len() / 2].to_vec()
}

#[tokio::test]
async fn connections_with_an_incomplete_hello_are_closed() {
    let world = World::with(|config| config.limits.hello_timeout_ms = 2_000).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let before = world.server().tasks();
    let clients: Vec<RawClient> = join_all((0..30u8).map(async |number| {
        let mut raw = world.raw().await;
        raw.write_bytes(&half(client_frame::Frame::Hello(hello(number)))).await;
        raw
    }))
    .await;
    ann.say("bob", "meanwhile").await;
    bob.receives("meanwhile").await;
    for raw in &clients {
        assert_eq!(raw.closed().await, CloseCode::HelloTimeout);
    }
    eventually("the connections leave no task", async || (world.server().tasks() <= before).then_some(())).await;
    join_all(clients.into_iter().map(RawClient::end)).await;
    world.end().await;
}

#[tokio::test]
async fn an_incomplete_frame_ends_the_session_and_a_slow_one_does_not() {
    let world = World::with(|config| config.limits.write_timeout_ms = 1_500).await;
    let bob = world.user("bob").await;
    let (mut slow, mut stuck) = (world.raw_user("ann", 1).await, world.raw_user("ann", 2).await);
    let whole = {
        let mut bytes = bytes::BytesMut::new();
        let frame = Some(request(7, &send_text("bob", "in pieces", 1)));
        encode_frame(&ClientFrame { frame }, &mut bytes);
        bytes
    };
    let (first, rest) = whole.split_at(whole.len() / 2);
    stuck.write_bytes(first).await;
    slow.write_bytes(first).await;
    slow.write_bytes(rest).await;
    bob.receives("in pieces").await;
    assert_eq!(stuck.closed().await, CloseCode::TooSlow);
    stuck.end().await;
    // A session with complete frames may be silent.
    assert_eq!(slow.response().await.id, 7);
    slow.call(&send_text("bob", "still here", 2)).await.unwrap();
    bob.receives("still here").await;
    slow.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_unauthenticated_client_has_a_smaller_frame_limit() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    // An unknown method with a long payload: a frame of 20 KB.
    let long = |id| {
        let request = zim_protocol::Request { id, method: "X/Y".into(), payload: vec![1; 20_000].into(), ack: 0 };
        client_frame::Frame::Request(request)
    };
    let mut unauthenticated = world.raw_after_hello(1).await;
    unauthenticated.write([long(1)]).await;
    assert_eq!(unauthenticated.closed().await, CloseCode::Protocol);
    unauthenticated.end().await;
    let mut user = world.raw_user("ann", 1).await;
    user.write([long(1)]).await;
    assert!(zim_integration_tests::code(&user.response().await) != 0);
    user.call(&send_text("bob", "hi", 1)).await.unwrap();
    bob.receives("hi").await;
    user.end().await;
    world.end().await;
}
