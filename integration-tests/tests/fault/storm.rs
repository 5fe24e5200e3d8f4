//! Crowds at the door: handshakes that never end, more of them than an address may have, streams that are opened and left.

use std::collections::HashSet;

use futures_util::future::join_all;
use quinn::ConnectionError;
use tokio::net::UdpSocket;
use zim_integration_tests::{RawClient, World, eventually, hello, request, send_text, soon};
use zim_protocol::wire::CloseCode;
use zim_protocol::{ClientFrame, client_frame, frame::encode_frame};

/// Clients who send the first packet of a handshake and fall silent, as those do who lie about their address.
struct Strangers {
    from: UdpSocket,
}

impl Strangers {
    async fn knock(world: &World, count: usize) -> Self {
        let any = ("127.0.0.1", 0);
        let (post_box, from) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
        let endpoint = world.quic();
        let to = post_box.local_addr().unwrap();
        let shaking: Vec<_> = (0..count).map(|_| endpoint.connect(to, "localhost").unwrap()).collect();
        let (mut names, mut datagram) = (HashSet::new(), [0; 2_048]);
        while names.len() < count {
            let length = soon(post_box.recv(&mut datagram)).await.unwrap();
            // The name that the client gives the server in its first packet; who gets no answer repeats it.
            let name = datagram[6..6 + usize::from(datagram[5])].to_vec();
            if names.insert(name) {
                from.send_to(&datagram[..length], world.address()).await.unwrap();
            }
        }
        drop(shaking);
        Self { from }
    }

    /// Waits until the server has answered once.
    async fn are_noticed(self) {
        soon(self.from.recv(&mut [0; 2_048])).await.unwrap();
    }
}

#[tokio::test]
async fn incomplete_handshakes_do_not_block_other_clients() {
    // Longer than any test waits: nobody's turn comes because a stranger's time is over.
    let world = World::with(|config| config.limits.handshake_timeout_ms = 60_000).await;
    let strangers = Strangers::knock(&world, 40).await;
    strangers.are_noticed().await;
    world.assert_serves_others().await;
    // And the server does not wait for them when it stops.
    world.end().await;
}

#[tokio::test]
async fn incomplete_handshakes_are_bounded_and_time_out() {
    let world = World::with(|config| config.limits.handshake_timeout_ms = 1_500).await;
    let before = world.server().tasks();
    let strangers = Strangers::knock(&world, 400).await;
    strangers.are_noticed().await;
    // The first 16 cost a task of ours and one of QUIC's each; the others are asked to prove who they are, which costs none.
    assert!(world.server().tasks() <= before + 2 * 16, "{} tasks", world.server().tasks());
    world.assert_serves_others().await;
    eventually("they are forgotten", async || (world.server().tasks() <= before).then_some(())).await;
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
        "only {refused} of 200 were refused: ten may prove their address, a few come before it is asked"
    );
    assert!(refused < 200, "nobody was let in");
    drop(storm);
    soon(endpoint.wait_idle()).await;
    drop(endpoint);
    // Time heals.
    world.clock.advance(10_000);
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn a_client_has_one_stream_however_many_it_opens() {
    let world = World::new().await;
    let raw = world.raw_user("ann", 1).await;
    let opening: Vec<_> = (0..1_000).map(|_| raw.connection.open_bi()).collect();
    let mut opening = join_all(opening);
    world.assert_serves_others().await;
    assert!(futures_util::poll!(&mut opening).is_pending(), "QUIC let a second stream pass");
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), raw.connection.open_uni()).await.is_err());
    drop(opening);
    raw.end().await;
    world.end().await;
}

/// The first half of a frame.
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
    let crowd: Vec<RawClient> = join_all((0..30u8).map(async |number| {
        let mut raw = world.raw().await;
        raw.write_bytes(&half(client_frame::Frame::Hello(hello(number)))).await;
        raw
    }))
    .await;
    ann.say("bob", "meanwhile").await;
    bob.receives("meanwhile").await;
    for raw in &crowd {
        assert_eq!(raw.closed().await, CloseCode::HelloTimeout);
    }
    eventually("nothing is left of them", async || (world.server().tasks() <= before).then_some(())).await;
    join_all(crowd.into_iter().map(RawClient::end)).await;
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
    // Whose frames are whole may be silent.
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
    let mut stranger = world.raw_after_hello(1).await;
    stranger.write([long(1)]).await;
    assert_eq!(stranger.closed().await, CloseCode::Protocol);
    stranger.end().await;
    let mut user = world.raw_user("ann", 1).await;
    user.write([long(1)]).await;
    assert!(zim_integration_tests::code(&user.response().await) != 0);
    user.call(&send_text("bob", "hi", 1)).await.unwrap();
    bob.receives("hi").await;
    user.end().await;
    world.end().await;
}
