//! Those who come to a call later: invited ones, those who come by themselves, and other devices.

use zim_integration_tests::{World, refusal, soon};
use zim_protocol::{CallInvitationMode as Mode, CallJoinConfig, CallUserState as State, ErrorCode};

use crate::call::{
    IN_CALL, NONE, NOT_ADVANCED, TOO_MANY, UNREGISTERED, accept, barrier, becomes, cancel, changed, end, invite,
    invite_more, join, list, quit, received, reject, show, shown, told,
};

const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

#[tokio::test]
async fn calling_invite_asks_more_users_and_those_who_left() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (eve, dan) = (world.user("eve").await, world.user("dan").await);
    let call_id = invite(&ann, Mode::Advanced, &["bob", "dan"]).await;
    assert_eq!(refusal(invite_more(&bob, &call_id, &["eve"]).await), NONE, "not in the call yet");
    assert_eq!(refusal(invite_more(&eve, &call_id, &["eve"]).await), NONE);
    accept(&bob, &call_id).await.unwrap();
    reject(&dan, &call_id).await.unwrap();
    world.clock.advance(10_000);
    let failed = invite_more(&bob, &call_id, &["eve", "ann", "nobody", "dan"]).await.unwrap();
    let reason = |code: ErrorCode| i64::from(code as i32);
    assert_eq!(failed, [("nobody".to_owned(), reason(UNREGISTERED)), ("ann".to_owned(), reason(IN_CALL))]);
    let event = received(&eve).await;
    assert_eq!((event.caller.as_str(), event.inviter.as_str(), event.timeout), ("ann", "bob", 90));
    let users =
        [("ann", State::Accepted), ("bob", State::Accepted), ("dan", State::Inviting), ("eve", State::Inviting)];
    assert_eq!(show(&event.call_user_list), shown(&users));
    for _ in 0..2 {
        assert_eq!(received(&dan).await.call_id, call_id);
    }
    for device in [&ann, &bob] {
        becomes(device, &call_id, "eve", State::Inviting).await;
        becomes(device, &call_id, "eve", State::Received).await;
    }
    assert_eq!(refusal(invite_more(&ann, &call_id, &["eve", "bob"]).await), IN_CALL);
    assert_eq!(refusal(invite_more(&ann, &call_id, &["nobody"]).await), UNREGISTERED);
    assert_eq!(refusal(invite_more(&ann, &call_id, &["x"; 10]).await), TOO_MANY);
    assert_eq!(refusal(invite_more(&ann, &call_id, &[]).await), INVALID);
    let general = invite(&ann, Mode::General, &["bob"]).await;
    assert_eq!(refusal(invite_more(&ann, &general, &["eve"]).await), NOT_ADVANCED);
    assert_eq!(refusal(invite_more(&ann, "1", &["eve"]).await), NONE);
    world.end().await;
}

#[tokio::test]
async fn calling_invite_and_call_join_keep_to_10_users() {
    let world = World::new().await;
    let (ann, eve) = (world.user("ann").await, world.user("eve").await);
    let names: Vec<String> = (0..10).map(|number| format!("user{number}")).collect();
    world.register(&names).await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let call_id = invite(&ann, Mode::Advanced, &names[..8]).await;
    assert_eq!(refusal(invite_more(&ann, &call_id, &names[8..]).await), TOO_MANY);
    assert_eq!(invite_more(&ann, &call_id, &names[8..9]).await.unwrap(), []);
    assert_eq!(refusal(join(&eve, &call_id).await), TOO_MANY);
    assert_eq!(refusal(invite_more(&ann, &call_id, &names[9..]).await), TOO_MANY);
    // Those who are asked count until their time is up.
    assert_eq!(cancel(&ann, &call_id, &names[8..9]).await.unwrap(), [] as [String; 0]);
    assert_eq!(join(&eve, &call_id).await.unwrap().len(), 11);
    world.end().await;
}

#[tokio::test]
async fn call_join_comes_in_without_an_invitation() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let begun_at = world.clock.now_ms();
    let call_id = invite(&ann, Mode::Advanced, &["bob"]).await;
    received(&bob).await;
    becomes(&ann, &call_id, "bob", State::Received).await;
    world.clock.advance(700);
    let joined = soon(eve.call_join(&call_id, CallJoinConfig { extended_data: "x".repeat(2_048) })).await.unwrap();
    assert_eq!((joined.create_time, joined.join_time), (begun_at, begun_at + 700));
    let users = [("ann", State::Accepted), ("bob", State::Received), ("eve", State::Accepted)];
    assert_eq!((show(&joined.call_user_list), joined.extended_data.as_str()), (shown(&users), "video"));
    for device in [&ann, &bob] {
        becomes(device, &call_id, "eve", State::Accepted).await;
    }
    assert_eq!(refusal(join(&eve, &call_id).await), IN_CALL);
    // Who joins is told of all users, and from now on of what they do, and may do what others may.
    assert_eq!(changed(&eve).await, shown(&users));
    accept(&bob, &call_id).await.unwrap();
    assert_eq!(changed(&eve).await, shown(&[("bob", State::Accepted)]));
    quit(&eve, &call_id).await.unwrap();
    assert_eq!(join(&eve, &call_id).await.unwrap()[2].1, State::Accepted);
    assert_eq!(list(&eve).await[0].0, call_id);
    end(&eve, &call_id).await.unwrap();
    assert_eq!(refusal(join(&eve, &call_id).await), NONE);
    assert_eq!(refusal(join(&eve, "1").await), NONE);
    let general = invite(&ann, Mode::General, &["bob"]).await;
    assert_eq!(refusal(join(&eve, &general).await), NOT_ADVANCED);
    let long = CallJoinConfig { extended_data: "x".repeat(2_049) };
    assert_eq!(refusal(soon(eve.call_join(&general, long)).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn call_join_makes_another_device_the_main_one() {
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    let eve = world.user("eve").await;
    let call_id = invite(&ann, Mode::Advanced, &["bob", "eve"]).await;
    accept(&bob, &call_id).await.unwrap();
    becomes(&ann, &call_id, "bob", State::Accepted).await;
    becomes(&phone, &call_id, "bob", State::Accepted).await;
    for device in [&ann, &bob] {
        becomes(device, &call_id, "eve", State::Received).await;
    }
    let before = (told(&ann), told(&bob));
    let users = [("ann", State::Accepted), ("bob", State::Accepted), ("eve", State::Received)];
    assert_eq!(join(&phone, &call_id).await.unwrap(), shown(&users));
    assert_eq!(refusal(join(&phone, &call_id).await), IN_CALL);
    barrier(&eve, &[("ann", &ann), ("bob", &bob)], "now").await;
    assert_eq!((told(&ann), told(&bob)), before, "nobody else is told");
    accept(&eve, &call_id).await.unwrap();
    becomes(&phone, &call_id, "eve", State::Accepted).await;
    becomes(&ann, &call_id, "eve", State::Accepted).await;
    barrier(&ann, &[("bob", &bob)], "then").await;
    assert_eq!(told(&bob), before.1, "it is no longer the main device");
    // Also from the other device of the user.
    quit(&bob, &call_id).await.unwrap();
    becomes(&phone, &call_id, "bob", State::Quit).await;
    world.end().await;
}
