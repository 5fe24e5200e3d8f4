//! Input that the SDK never sends. Each gets an answer or a close code, and other clients are not affected.

use futures_util::future::select_all;
use prost::Message as _;
use zim_integration_tests::{Random, RawClient, World, code, eventually, hello, request, send_text, texts};
use zim_protocol::wire::{CloseCode, MAX_FRAME_BYTES};
use zim_protocol::{
    Ack, ClientFrame, ErrorCode, Hello, LoginRequest, METHODS, Request, SendMessageRequest, client_frame,
};

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = varint(payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test]
async fn a_frame_that_is_too_long_closes_the_connection_as_soon_as_it_is_announced() {
    let world = World::new().await;
    for length in [MAX_FRAME_BYTES as u64 + 1, u64::from(u32::MAX), 1 << 34] {
        let mut raw = world.raw_user("ann", 1).await;
        raw.write_bytes(&varint(length)).await;
        assert_eq!(raw.closed().await, CloseCode::Protocol, "{length}");
        raw.end().await;
    }
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn a_length_that_does_not_end_closes_the_connection() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    raw.write_bytes(&[0xff; 10]).await;
    assert_eq!(raw.closed().await, CloseCode::Protocol);
    raw.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn a_truncated_frame_is_no_request() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let whole = {
        let frame = ClientFrame { frame: Some(request(9, &send_text("bob", "whole", 1))) };
        framed(&frame.encode_to_vec())
    };
    for cut in [1, 2, whole.len() / 2, whole.len() - 1] {
        let mut raw = world.raw_user("ann", 1).await;
        raw.write_bytes(&whole[..cut]).await;
        raw.finish();
        // Only the end of the stream follows.
        assert_eq!(raw.read().await, None, "cut at {cut}");
        raw.end().await;
    }
    let mut raw = world.raw_user("ann", 1).await;
    // Sent byte by byte it is a valid request.
    for byte in &whole {
        raw.write_bytes(std::slice::from_ref(byte)).await;
    }
    assert_eq!(code(&raw.response().await), 0);
    raw.end().await;
    assert_eq!(texts(&bob.history("ann").await), ["whole"]);
    world.end().await;
}

/// A request frame of an unknown method, with a payload of `bytes`.
fn call_of(bytes: usize) -> Vec<u8> {
    let (method, payload) = ("No/Such".to_owned(), vec![0; bytes].into());
    let request = Request { id: 7, method, payload, ack: 0 };
    framed(&ClientFrame { frame: Some(client_frame::Frame::Request(request)) }.encode_to_vec())
}

#[tokio::test]
async fn incomplete_frames_are_bounded_over_all_sessions() {
    let world = World::with(|config| {
        config.limits.max_half_sent_bytes = 2 << 20;
        config.limits.hello_timeout_ms = 60_000;
    })
    .await;
    // Nearly the longest frame.
    let call = call_of(MAX_FRAME_BYTES - 1_000);
    let (begin, rest) = call.split_at(1_000_000);
    let mut some = Vec::new();
    for (name, device) in [("ann", 1), ("bob", 2), ("carl", 3)] {
        let mut raw = world.raw_user(name, device).await;
        raw.write_bytes(begin).await;
        some.push(raw);
    }
    // Two fit; the network decides which arrives last.
    let closed = select_all(some.iter().map(|raw| Box::pin(raw.closed())));
    let (why, offender, _) = closed.await;
    assert_eq!(why, CloseCode::Busy);
    some.remove(offender).end().await;
    holds_incomplete(&world, 2_000_000).await;
    // Unauthenticated clients have an eighth of the limit; complete frames are not affected.
    let mut unauthenticated = Vec::new();
    for _ in 0..22 {
        // Most of a Hello of 16 KB: 21 of them fit.
        let mut raw = world.raw().await;
        raw.write_bytes(&[&varint(16_000)[..], &[0; 12_000]].concat()).await;
        unauthenticated.push(raw);
    }
    let closed = select_all(unauthenticated.iter().map(|raw| Box::pin(raw.closed())));
    assert_eq!(closed.await.0, CloseCode::Busy);
    holds_incomplete(&world, 2_000_000 + 21 * 12_002).await;
    world.assert_serves_others().await;
    // A user has the rest of the users' share.
    let mut user = world.raw_user("emil", 5).await;
    let shorter = call_of(90_000);
    let (begin_of_emil, rest_of_emil) = shorter.split_at(80_000);
    user.write_bytes(begin_of_emil).await;
    holds_incomplete(&world, 2_000_000 + 21 * 12_002 + 80_000).await;
    user.write_bytes(rest_of_emil).await;
    assert_eq!(code(&user.response().await), ErrorCode::CommonModuleUnsupportedRequest as i32);
    user.end().await;
    let mut late = world.raw_user("dora", 4).await;
    late.write_bytes(begin).await;
    assert_eq!(late.closed().await, CloseCode::Busy);
    late.end().await;
    RawClient::end_all(unauthenticated).await;
    // The other sessions are unaffected. A closed connection and a completed frame free their bytes.
    holds_incomplete(&world, 2_000_000).await;
    for mut raw in some {
        raw.write_bytes(rest).await;
        assert_eq!(code(&raw.response().await), ErrorCode::CommonModuleUnsupportedRequest as i32);
        raw.end().await;
    }
    holds_incomplete(&world, 0).await;
    world.end().await;
}

/// Waits until the server holds `bytes` of incomplete frames.
async fn holds_incomplete(world: &World, bytes: usize) {
    let line = format!("zim_half_sent_bytes {bytes}");
    eventually(&line, async || world.metrics().await.lines().any(|metric| metric == line).then_some(())).await;
}

#[tokio::test]
async fn a_frame_that_is_no_protobuf_closes_the_connection() {
    let world = World::new().await;
    for garbage in [vec![0xff; 20], vec![0x0a, 0x7f, 1], vec![0x00], vec![0x12, 0x05, 0x08]] {
        let mut raw = world.raw_user("ann", 1).await;
        raw.write_bytes(&framed(&garbage)).await;
        assert_eq!(raw.closed().await, CloseCode::Protocol, "{garbage:?}");
        raw.end().await;
    }
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn random_bytes_do_no_harm() {
    let world = World::new().await;
    let mut random = Random::new(42);
    for round in 0..40 {
        let mut raw = if round % 2 == 0 { world.raw().await } else { world.raw_user("ann", 1).await };
        let length = usize::try_from(random.below(300)).unwrap();
        let mut bytes = random.bytes(length);
        if round % 4 == 1 {
            bytes = framed(&bytes);
        }
        raw.write_bytes(&bytes).await;
        raw.finish();
        while raw.read().await.is_some() {}
        raw.end().await;
    }
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn random_payloads_of_every_method_get_an_answer() {
    let world = World::new().await;
    let mut random = Random::new(43);
    let mut raw = world.raw_user("ann", 1).await;
    for method in METHODS.iter().filter(|method| method.path != "Session/Logout") {
        for _ in 0..20 {
            let length = usize::try_from(random.below(60)).unwrap();
            raw.call_bytes(method.path, random.bytes(length)).await;
        }
    }
    raw.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn an_unknown_method_is_refused_and_the_session_goes_on() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    let long = "x".repeat(10_000);
    for method in [
        "",
        "Message",
        "Message/",
        "/SendMessage",
        "message/sendMessage",
        "Message/SendMessage/",
        "Group/Explode",
        "\0",
        &long,
    ] {
        let refused = raw.call_bytes(method, Vec::new()).await;
        assert_eq!(code(&refused), ErrorCode::CommonModuleUnsupportedRequest as i32, "{refused:?}");
    }
    raw.call(&send_text("bob", "still here", 1)).await.unwrap();
    bob.receives("still here").await;
    // The SDK refuses it itself.
    let refused = bob.call_json("Group/Explode", serde_json::json!({})).await;
    assert_eq!(zim_integration_tests::refusal(refused), ErrorCode::CommonModuleUnsupportedRequest);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn unknown_fields_and_frames_are_skipped() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    // Field 2047, a string, after a valid request and inside its message.
    let later = [0xfa, 0x7f, 3, b'n', b'e', b'w'];
    let mut payload = send_text("bob", "from the future", 1).encode_to_vec();
    payload.extend_from_slice(&later);
    let answer = raw.call_bytes("Message/SendMessage", payload).await;
    assert_eq!(code(&answer), 0);
    // A frame of an unknown kind.
    raw.write_bytes(&framed(&later)).await;
    raw.write_bytes(&framed(&[])).await;
    raw.call(&send_text("bob", "still here", 2)).await.unwrap();
    bob.receives("still here").await;
    assert_eq!(texts(&bob.history("ann").await), ["from the future", "still here"]);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_body_of_an_unknown_kind_is_refused() {
    let world = World::new().await;
    world.raw_user("bob", 2).await.end().await;
    let mut raw = world.raw_user("ann", 1).await;
    // A message whose body is field 99.
    let mut message = Vec::new();
    message.extend_from_slice(&[0x9a, 0x06, 2, b'h', b'i']);
    let mut payload = vec![0x0a, u8::try_from(message.len()).unwrap()];
    payload.extend_from_slice(&message);
    payload.extend_from_slice(&SendMessageRequest { message: None, ..send_text("bob", "", 1) }.encode_to_vec());
    let refused = raw.call_bytes("Message/SendMessage", payload).await;
    assert_eq!(code(&refused), ErrorCode::CommonModuleParamsInvalid as i32, "{refused:?}");
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_request_that_would_be_huge_in_memory_is_refused_undecoded() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    // A frame of empty messages, two bytes each, which would take half a gigabyte in memory.
    let list = [0x22, 0x00].repeat(500_000);
    let within = |field: u32, inside: &[u8]| {
        let mut bytes = varint(u64::from(field << 3 | 2));
        bytes.extend(varint(inside.len() as u64));
        [&bytes, inside].concat()
    };
    let payload = within(1, &within(51, &list));
    let refused = raw.call_bytes("Message/SendMessage", payload).await;
    assert_eq!(code(&refused), ErrorCode::CommonModuleParamsInvalid as i32, "{refused:?}");
    assert!(format!("{refused:?}").contains("more than 8192 messages"), "{refused:?}");
    raw.call(&send_text("bob", "still here", 1)).await.unwrap();
    bob.receives("still here").await;
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_invalid_hello_closes_the_connection() {
    let world = World::new().await;
    let before_hello = [
        client_frame::Frame::Request(Request { id: 1, method: "Session/Login".into(), ..Request::default() }),
        client_frame::Frame::Ack(Ack::default()),
        client_frame::Frame::Hello(Hello { device_id: vec![1; 15].into(), ..hello(1) }),
        client_frame::Frame::Hello(Hello { device_id: Default::default(), ..hello(1) }),
    ];
    for frame in before_hello {
        let mut raw = world.raw().await;
        raw.write([frame.clone()]).await;
        assert_eq!(raw.closed().await, CloseCode::Protocol, "{frame:?}");
        raw.end().await;
    }
    let mut twice = world.raw_after_hello(1).await;
    twice.write([client_frame::Frame::Hello(hello(1))]).await;
    assert_eq!(twice.closed().await, CloseCode::Protocol);
    twice.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let world = World::with(|config| config.limits.hello_timeout_ms = 200).await;
    let silent = world.raw().await;
    // A connection that sends nothing, and one that does not log in after its Hello.
    assert_eq!(silent.closed().await, CloseCode::HelloTimeout);
    let unauthenticated = world.raw_after_hello(1).await;
    world.clock.advance(30_000);
    assert_eq!(unauthenticated.closed().await, CloseCode::LoginTimeout);
    silent.end().await;
    unauthenticated.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn one_bad_message_among_good_ones_fails_alone() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    raw.call(&send_text("bob", "used", 200)).await.unwrap();
    let bad: Vec<(SendMessageRequest, ErrorCode)> = vec![
        (send_text("bob", "", 100), ErrorCode::CommonModuleParamsInvalid),
        (send_text("bob", "with \0 inside", 101), ErrorCode::CommonModuleParamsInvalid),
        (send_text("bob", &"x".repeat(2_049), 102), ErrorCode::CommonModuleParamsInvalid),
        (send_text("ann", "to myself", 103), ErrorCode::CommonModuleParamsInvalid),
        (send_text("nobody", "hello?", 104), ErrorCode::MessageModuleTargetDoesNotExist),
        (send_text("b ob", "no id", 105), ErrorCode::CommonModuleParamsInvalid),
        (send_text("bob", "another body", 200), ErrorCode::CommonModuleParamsInvalid),
        (SendMessageRequest { message: None, ..send_text("bob", "", 106) }, ErrorCode::CommonModuleParamsInvalid),
        (
            SendMessageRequest { conversation_type: 9, ..send_text("bob", "x", 107) },
            ErrorCode::CommonModuleParamsInvalid,
        ),
    ];
    // All in one write, each between two valid messages.
    let (mut frames, mut expected, mut good) = (Vec::new(), Vec::new(), vec!["used".to_owned()]);
    let mut id = 1_000;
    let mut add = |frames: &mut Vec<client_frame::Frame>, message: &SendMessageRequest, outcome: i32| {
        id += 1;
        frames.push(request(id, message));
        expected.push((id, outcome));
    };
    for (key, (message, refused)) in (0u8..).zip(&bad) {
        good.push(format!("good {key}"));
        add(&mut frames, &send_text("bob", &format!("good {key}"), key), 0);
        add(&mut frames, message, *refused as i32);
    }
    good.push("last".to_owned());
    add(&mut frames, &send_text("bob", "last", 99), 0);
    raw.write(frames).await;
    let answers: Vec<(u64, i32)> =
        raw.responses(expected.len()).await.iter().map(|response| (response.id, code(response))).collect();
    assert_eq!(answers, expected);
    bob.receives("last").await;
    assert_eq!(texts(&bob.history("ann").await), good);
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), good);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_client_cannot_open_further_streams() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    // QUIC allows a client one stream, which it has, and no other in either direction.
    let mut opened = 0;
    for _ in 0..1_000 {
        let (both, one) = (raw.connection.open_bi(), raw.connection.open_uni());
        tokio::select! {
            biased;
            stream = both => { if stream.is_ok() { opened += 1; } }
            stream = one => { if stream.is_ok() { opened += 1; } }
            () = tokio::task::yield_now() => {}
        }
    }
    raw.call(&send_text("bob", "one stream is enough", 1)).await.unwrap();
    bob.receives("one stream is enough").await;
    assert_eq!(opened, 0);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_ack_of_what_was_never_sent_closes_the_connection() {
    let world = World::new().await;
    for count in [1_000, u64::MAX] {
        let mut raw = world.raw_user("ann", 1).await;
        raw.write([client_frame::Frame::Ack(Ack { count, ..Ack::default() })]).await;
        assert_eq!(raw.closed().await, CloseCode::Protocol);
        raw.end().await;
    }
    // A frame is at most 1 MB, and as many empty positions as fit would take far more memory.
    for (length, is_refused) in [(16 << 10, false), ((16 << 10) + 2, true)] {
        let mut raw = world.raw_user("ann", 1).await;
        let stored = [0x0a, 0].repeat(length / 2).into();
        raw.write([client_frame::Frame::Ack(Ack { count: 0, stored })]).await;
        if is_refused {
            assert_eq!(raw.closed().await, CloseCode::Protocol);
        } else {
            raw.call(&send_text("bob", "still here", 1)).await.unwrap_err();
        }
        raw.end().await;
    }
    let mut raw = world.raw_user("ann", 1).await;
    raw.write([client_frame::Frame::Ack(Ack { count: 0, stored: vec![0xff; 3].into() })]).await;
    assert_eq!(raw.closed().await, CloseCode::Protocol);
    raw.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn two_requests_with_one_id_are_both_answered() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    raw.write([request(7, &send_text("bob", "one", 1)), request(7, &send_text("bob", "two", 2))]).await;
    for response in raw.responses(2).await {
        assert_eq!((response.id, code(&response)), (7, 0));
    }
    bob.receives("two").await;
    assert_eq!(texts(&bob.history("ann").await), ["one", "two"]);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn ids_and_texts_with_sql_in_them_do_no_harm() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    // Combinations of allowed characters that look like SQL.
    for name in ["';--", "$1", "%", "_", "a;b", "(SELECT", "[0]", "{}", "|", "~", "NULL", "null", "0", "-1", "1=1"] {
        if zim_protocol::id::is_id(name) {
            let other = world.raw_user(name, 2).await;
            other.end().await;
            raw.call(&send_text(name, "';DROP TABLE message;-- $1 %s \u{1f4a5}", 1)).await.unwrap();
        } else {
            let refused = raw.call(&send_text(name, "hi", 1)).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
        }
    }
    raw.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn a_half_closed_stream_still_gets_its_answers() {
    let world = World::new().await;
    world.raw_user("bob", 2).await.end().await;
    let mut raw = world.raw_user("ann", 1).await;
    for key in 0..20 {
        raw.send_request(&send_text("bob", "x", key)).await;
    }
    raw.finish();
    assert_eq!(raw.responses(20).await.iter().filter(|response| code(response) == 0).count(), 20);
    assert_eq!(raw.read().await, None);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn many_logins_on_one_connection_are_one_login() {
    let world = World::new().await;
    let mut raw = world.raw_after_hello(1).await;
    let login: LoginRequest = world.login_request("ann");
    raw.write((1..=10).map(|id| request(id, &login))).await;
    let answers = raw.responses(10).await;
    assert_eq!(answers.iter().filter(|answer| code(answer) == 0).count(), 1);
    let already = ErrorCode::NetworkModuleUserHasAlreadyLogged as i32;
    assert_eq!(answers.iter().filter(|answer| code(answer) == already).count(), 9, "{answers:?}");
    // Two users cannot log in on one connection.
    let mut other = world.raw_after_hello(2).await;
    other.write([request(1, &world.login_request("bob")), request(2, &world.login_request("carl"))]).await;
    let answers = other.responses(2).await;
    assert_eq!(answers.iter().filter(|answer| code(answer) == 0).count(), 1);
    raw.end().await;
    other.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_welcome_describes_the_server() {
    let world = World::with(|config| config.limits.max_text_bytes = 100).await;
    let mut raw = world.raw().await;
    let welcome = raw.handshake(hello(1)).await;
    let limits = welcome.limits.unwrap();
    assert_eq!((limits.max_text_bytes, limits.max_frame_bytes), (100, 1 << 20));
    assert_eq!(welcome.server_time, world.clock.now_ms());
    raw.call(&world.login_request("ann")).await.unwrap();
    world.raw_user("bob", 2).await.end().await;
    raw.call(&send_text("bob", &"x".repeat(100), 1)).await.unwrap();
    assert!(raw.call(&send_text("bob", &"x".repeat(101), 2)).await.is_err());
    match raw.call_bytes("Session/Login", Vec::new()).await.outcome {
        Some(zim_protocol::response::Outcome::Error(error)) => assert!(!error.message.is_empty()),
        other => panic!("{other:?}"),
    }
    raw.end().await;
    world.end().await;
}
