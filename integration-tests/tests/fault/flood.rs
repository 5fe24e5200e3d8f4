//! Clients that exceed their rates, and many connections at once.

use futures_util::future::join_all;
use zim_integration_tests::{RawClient, World, code, hello, request, send_text, soon, texts};
use zim_protocol::response::Outcome;
use zim_protocol::{ErrorCode, LoginRequest, Message, QueryMessagesRequest, QueryUsersInfoRequest, client_frame};

/// How far an operator's mistake may set a clock back, milliseconds.
const BACK_MS: i64 = -7_200_000;
const TOO_FAST: i32 = ErrorCode::CommonModuleTriggerServerFrequencyLimit as i32;

fn default_rates(config: &mut zim_server::config::Config) {
    let (rates, limits) = (zim_server::config::Limits::default(), &mut config.limits);
    limits.messages_per_second = rates.messages_per_second;
    limits.message_burst = rates.message_burst;
    limits.requests_per_second = rates.requests_per_second;
    limits.request_burst = rates.request_burst;
    limits.pulls_per_second = rates.pulls_per_second;
    limits.pull_burst = rates.pull_burst;
}

#[tokio::test]
async fn messages_beyond_the_rate_are_refused_with_the_time_to_retry() {
    let world = World::with(default_rates).await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    raw.write((0..80u8).map(|key| request(u64::from(key) + 1, &send_text("bob", &key.to_string(), key)))).await;
    let answers = raw.responses(80).await;
    let sent = answers.iter().filter(|answer| code(answer) == 0).count();
    assert_eq!(sent, 50, "the burst");
    for refused in &answers[50..] {
        assert_eq!(code(refused), TOO_FAST);
        match &refused.outcome {
            Some(Outcome::Error(error)) => {
                let after: i64 = error.details["retry_after_ms"].parse().unwrap();
                assert!((1..=1_000).contains(&after), "{after}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Ten per second are refilled.
    world.clock.advance(1_000);
    raw.write((100..120u8).map(|key| request(u64::from(key), &send_text("bob", &key.to_string(), key)))).await;
    assert_eq!(raw.responses(20).await.iter().filter(|answer| code(answer) == 0).count(), 10);
    bob.receives("109").await;
    assert_eq!(bob.history("ann").await.len(), 60);
    // Other users are not delayed.
    world.assert_serves_others().await;
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_new_connection_of_a_login_brings_no_new_burst() {
    let world = World::with(default_rates).await;
    world.user("bob").await;
    let send = async |raw: &mut RawClient, key: u8| {
        raw.write((key..key + 60).map(|key| request(u64::from(key) + 1_000, &send_text("bob", "hi", key)))).await;
        raw.responses(60).await.iter().filter(|answer| code(answer) == 0).count()
    };
    // A login that is resumed, and one-shot logins of one user.
    for login in [world.login_request("ann"), world.one_shot_request("eve")] {
        let mut raw = world.raw_after_hello(1).await;
        let resume = raw.call(&login).await.unwrap().session;
        assert_eq!(send(&mut raw, 0).await, 50, "the burst");
        raw.end().await;
        let mut raw = world.raw_after_hello(1).await;
        raw.call(&LoginRequest { resume, ..login }).await.unwrap();
        assert_eq!(send(&mut raw, 100).await, 0);
        world.clock.advance(1_000);
        assert_eq!(send(&mut raw, 190).await, 10, "what is refilled");
        raw.end().await;
    }
    world.end().await;
}

#[tokio::test]
async fn requests_beyond_the_rate_are_refused_until_the_allowance_refills() {
    let world = World::with(default_rates).await;
    let mut raw = world.raw_user("ann", 1).await;
    let ask = QueryMessagesRequest { message_seqs: vec![1], conversation_id: "bob".into(), conversation_type: 0 };
    raw.write((1..=300).map(|id| request(id, &ask))).await;
    let answers = raw.responses(300).await;
    let refused = answers.iter().filter(|answer| code(answer) == TOO_FAST).count();
    assert!((195..=205).contains(&refused), "{refused} of 300");
    world.clock.advance(10_000);
    assert!(raw.call(&ask).await.is_ok());
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_reduce_allowances() {
    let world = World::with(default_rates).await;
    world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    let user_ids = (0..10).map(|number| format!("user{number}")).collect();
    let users = QueryUsersInfoRequest { user_ids, config: None };
    raw.call(&send_text("bob", "first", 0)).await.unwrap();
    raw.call(&users).await.unwrap();
    world.clock.jump(BACK_MS);
    raw.write((1..50u8).map(|key| request(u64::from(key), &send_text("bob", &key.to_string(), key)))).await;
    let sent = raw.responses(49).await.iter().filter(|answer| code(answer) == 0).count();
    assert_eq!(sent, 49, "the rest of the burst");
    let refused = raw.call(&users).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CommonModuleUserInfoQueriedLimit as i32);
    world.clock.advance(10_000);
    raw.call(&users).await.unwrap();
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn login_attempts_are_rate_limited() {
    let world = World::with(default_rates).await;
    let mut raw = world.raw_after_hello(1).await;
    let mut wrong = world.login_request("ann");
    wrong.app_sign = "0".repeat(64);
    raw.write((1..=300).map(|id| request(id, &wrong))).await;
    let answers = raw.responses(300).await;
    assert!(answers.iter().all(|answer| code(answer) != 0));
    assert!(answers.iter().any(|answer| code(answer) == TOO_FAST), "no attempt was refused by the rate");
    raw.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn a_thousand_requests_in_flight_are_all_answered() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    let mut id = 0;
    let mut frames = Vec::new();
    for high in 0..4u8 {
        for low in 0..250u8 {
            id += 1;
            let mut message = send_text("bob", &format!("{id}"), low);
            message.client_key = [vec![high; 8], vec![low; 8]].concat().into();
            frames.push(request(id, &message));
        }
    }
    raw.write(frames).await;
    let answers = raw.responses(1_000).await;
    assert!(answers.iter().all(|answer| code(answer) == 0));
    bob.receives("1000").await;
    let expected: Vec<String> = (1..=1_000).map(|number| number.to_string()).collect();
    assert_eq!(texts(&bob.history("ann").await), expected);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn ten_thousand_requests_in_flight_are_all_answered_and_do_not_delay_others() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "asked for").await;
    bob.receives("asked for").await;
    let mut raw = world.raw_user("bob", 9).await;
    let ask = QueryMessagesRequest { message_seqs: vec![1], conversation_id: "ann".into(), conversation_type: 0 };
    let flood = async {
        raw.write((1..=10_000).map(|id| request(id, &ask))).await;
        raw.responses(10_000).await
    };
    let talk = async {
        for number in 0..20 {
            ann.say("bob", &number.to_string()).await;
            bob.receives(&number.to_string()).await;
        }
    };
    let (answers, ()) = tokio::join!(flood, talk);
    assert!(answers.iter().all(|answer| code(answer) == 0));
    // Each exactly once.
    assert!(answers.iter().map(|answer| answer.id).eq(1..=10_000));
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn after_a_thousand_refusals_reading_from_the_client_pauses() {
    let world = World::with(default_rates).await;
    let mut raw = world.raw_user("ann", 1).await;
    let ask = QueryMessagesRequest { message_seqs: vec![1], conversation_id: "bob".into(), conversation_type: 0 };
    let most = 3_000;
    raw.write((1..=most).map(|id| request(id, &ask))).await;
    // 99 calls beside the login, a thousand refusals, and the refusal that starts the pause.
    let answered = 99 + 1_000 + 1;
    let answers = raw.responses(answered).await;
    assert_eq!(answers.iter().filter(|answer| code(answer) == TOO_FAST).count(), 1_001);
    world.assert_serves_others().await;
    assert!(!raw.receives_anything().await, "reading was not paused");
    // Each second, whatever the wall clock says, it is read on for 200 requests.
    world.clock.jump(BACK_MS);
    let mut left = usize::try_from(most).unwrap() - answered;
    while left > 0 {
        world.clock.advance(1_000);
        left -= raw.responses(left.min(150)).await.len();
    }
    // Whoever asks no more is served again.
    world.clock.advance(10_000);
    let answer = raw.call(&ask).await;
    assert!(answer.as_ref().err().is_none_or(|error| error.code != TOO_FAST), "{answer:?}");
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn many_new_connections_do_not_disturb_existing_ones() {
    let world = World::with(|config| config.limits.handshakes_per_second_per_address = 10_000).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let clients = join_all((0..60u8).map(|number| {
        let world = &world;
        async move {
            let mut raw = world.raw().await;
            raw.handshake(hello(number)).await;
            raw.call(&world.login_request(&format!("clients{number}"))).await.unwrap();
            raw
        }
    }));
    let talk = async {
        for number in 0..20 {
            ann.say("bob", &number.to_string()).await;
            bob.receives(&number.to_string()).await;
        }
    };
    let (clients, ()) = soon(async { tokio::join!(clients, talk) }).await;
    assert_eq!(clients.len(), 60);
    join_all(clients.into_iter().map(RawClient::end)).await;
    world.end().await;
}

#[tokio::test]
async fn connections_per_address_are_limited() {
    let world = World::with(|config| config.limits.max_connections_per_address = 3).await;
    let (a, b, c) = (world.raw_after_hello(1).await, world.raw_after_hello(2).await, world.raw_after_hello(3).await);
    let over = world.raw().await;
    assert_eq!(over.closed().await, zim_protocol::wire::CloseCode::Busy);
    over.end().await;
    a.end().await;
    zim_integration_tests::eventually("a free place", async || {
        let mut raw = world.raw().await;
        raw.write([client_frame::Frame::Hello(hello(4))]).await;
        let is_served = raw.read().await.is_some();
        raw.end().await;
        is_served.then_some(())
    })
    .await;
    b.end().await;
    c.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_sdk_waits_for_the_rate_and_loses_nothing() {
    let world = World::with(default_rates).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let calls: Vec<_> = (0..70).map(|number| ann.send("bob", Message::text(number.to_string()))).collect();
    bob.receives("0").await;
    // The clock stands still, so the allowance does not grow.
    assert!(bob.received_from("ann").len() < 70, "the rate was not reached");
    world.advance_until("all messages", async || (bob.received_from("ann").len() == 70).then_some(())).await;
    for call in calls {
        soon(call).await.unwrap();
    }
    let texts: Vec<String> = bob.received_from("ann").iter().map(|(message, _)| texts([message])[0].clone()).collect();
    assert_eq!(texts, (0..70).map(|number| number.to_string()).collect::<Vec<_>>());
    world.end().await;
}
