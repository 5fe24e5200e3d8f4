//! Calls whose users are on several nodes.

use zim_integration_tests::nats::Nats;
use zim_integration_tests::{Device, eventually, soon};
use zim_protocol::{
    CallAcceptConfig, CallInvitationMode, CallInvitationQueryConfig, CallInviteConfig, CallState, CallUserState, Event,
    EventKind,
};

use super::processes::Pair;

/// The states of the users of a call, as the server has them.
async fn states(device: &Device, call_id: &str) -> Option<(CallState, Vec<(String, CallUserState)>)> {
    let config = CallInvitationQueryConfig { count: 10, next_flag: 0 };
    let found = device.query_call_invitation_list(config).await.ok()?.call_list;
    let call = found.into_iter().find(|call| call.call_id == call_id)?;
    let users = call.call_user_list.iter().map(|user| (user.user_id.clone(), user.state())).collect();
    Some((call.state(), users))
}

async fn becomes(device: &Device, call_id: &str, user: &str, state: CallUserState) {
    let is_so = async || {
        let (_, users) = states(device, call_id).await?;
        users.contains(&(user.to_owned(), state)).then_some(())
    };
    eventually(&format!("{user} is {state:?}"), is_so).await;
}

#[tokio::test]
async fn an_invitation_times_out_once_although_the_node_of_the_caller_is_dead() {
    let bus = Nats::start().unwrap();
    let mut pair = Pair::start("call", &bus).await;
    let ann = pair.user(&pair.first, "ann").await;
    let (bob, eve) = (pair.user(&pair.second, "bob").await, pair.user(&pair.second, "eve").await);
    let config = CallInviteConfig { mode: CallInvitationMode::Advanced as i32, ..CallInviteConfig::default() };
    let call_id = soon(ann.call_invite(["bob", "eve"], config)).await.unwrap().call_id;
    for device in [&bob, &eve] {
        match device.next(EventKind::CallInvitationReceived).await {
            Event::CallInvitationReceived(event) => assert_eq!((&event.call_id, &*event.inviter), (&call_id, "ann")),
            other => panic!("{other:?}"),
        }
    }
    soon(eve.call_accept(&call_id, CallAcceptConfig::default())).await.unwrap();
    // The caller learns of it on the other node.
    let accepted = |seen: &[Event]| {
        let of = |event: &Event| match event {
            Event::CallUserStateChanged(event) => event
                .call_user_list
                .iter()
                .any(|user| user.user_id == "eve" && user.state() == CallUserState::Accepted)
                .then_some(()),
            _ => None,
        };
        seen.iter().find_map(of)
    };
    ann.until("eve has accepted", accepted).await;
    becomes(&bob, &call_id, "bob", CallUserState::Received).await;

    pair.first.signal("KILL").unwrap();
    let timeouts = |device: &Device| device.seen_of(EventKind::CallInvitationTimeout).len();
    pair.advance_second("the timeout", async || (timeouts(&bob) > 0).then_some(())).await;
    becomes(&eve, &call_id, "bob", CallUserState::Timeout).await;
    // It goes on for those who are in it, and nothing happens twice.
    eve.say("bob", "where are you?").await;
    bob.receives("where are you?").await;
    assert_eq!((timeouts(&bob), timeouts(&eve)), (1, 0));
    let (state, users) = states(&eve, &call_id).await.unwrap();
    assert_eq!(state, CallState::Started);
    assert!(users.contains(&("ann".to_owned(), CallUserState::Accepted)), "{users:?}");
    for device in [ann, bob, eve] {
        device.quit().await;
    }
}
