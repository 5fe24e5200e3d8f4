//! A device that joins a call before the entries of the feed before it have arrived.

use bytes::Bytes;
use zim_protocol::{
    CallEntry, CallInfo, CallInvitationMode, CallJoinRequest, CallState, CallUserInfo, CallUserState as State, Event,
};

use super::Login;
use super::fake::{ME, NOW};

/// A call that the user is in with this device.
fn call(state: CallState, bob: State) -> CallEntry {
    let users = [("bob", bob), (ME, if state == CallState::Ended { State::Ended } else { State::Accepted })];
    let user = |(user, state): (&str, State)| CallUserInfo {
        user_id: user.to_owned(),
        state: state as i32,
        ..CallUserInfo::default()
    };
    let info = CallInfo {
        call_id: "7".to_owned(),
        caller: "bob".to_owned(),
        create_time: NOW,
        state: state as i32,
        mode: CallInvitationMode::Advanced as i32,
        call_user_list: users.map(user).into(),
        ..CallInfo::default()
    };
    CallEntry { info: Some(info), main_device: Bytes::from_static(&[7; 16]), ..CallEntry::default() }
}

/// What the app was told of calls: the states of bob and the user, or the end.
fn told(login: &Login) -> Vec<Vec<(String, State)>> {
    login.events(|event| match event {
        Event::CallUserStateChanged(event) => {
            Some(event.call_user_list.iter().map(|user| (user.user_id.clone(), user.state())).collect())
        }
        Event::CallInvitationEnded(_) => Some(Vec::new()),
        event if event.kind().name().starts_with("call") => panic!("{event:?}"),
        _ => None,
    })
}

fn users(users: &[(&str, State)]) -> Vec<(String, State)> {
    users.iter().map(|(user, state)| ((*user).to_owned(), *state)).collect()
}

/// The user joins. An earlier entry of the feed has not arrived, and the sync that brings it is not answered yet.
async fn joined() -> (Login, tokio::task::JoinHandle<()>) {
    let login = Login::online().await;
    {
        let mut world = login.fake.0.lock();
        world.block(&["dan"]);
        world.holds_syncs = true;
        world.call = call(CallState::Started, State::Received);
    }
    let request = CallJoinRequest { call_id: "7".to_owned(), ..CallJoinRequest::default() };
    let answer = login.account.request(request);
    let answer = tokio::spawn(async move { drop(answer.await.unwrap()) });
    login.until(|login| login.fake.0.lock().requests.contains(&"Call/CallJoin")).await;
    // The account has the answer before it serves what comes behind it.
    drop(login.account.store_users(Vec::new()).await);
    assert!(!answer.is_finished(), "the answer waits for the feed");
    (login, answer)
}

#[tokio::test]
async fn it_hears_the_end_that_comes_while_it_has_no_connection() {
    let (login, answer) = joined().await;
    login.disconnect();
    answer.await.unwrap();
    assert_eq!(told(&login), [users(&[("bob", State::Received), (ME, State::Accepted)])]);
    {
        let mut world = login.fake.0.lock();
        world.call = call(CallState::Ended, State::Ended);
        world.changes_call();
        world.holds_syncs = false;
    }
    login.connect().await;
    let all = users(&[("bob", State::Ended), (ME, State::Ended)]);
    login.until(|login| told(login).len() >= 3).await;
    assert_eq!(told(&login)[1..], [Vec::new(), all]);
}

#[tokio::test]
async fn it_hears_the_end_that_the_sync_brings_for_which_the_answer_waits() {
    let (login, answer) = joined().await;
    {
        let mut world = login.fake.0.lock();
        world.call = call(CallState::Ended, State::Ended);
        world.changes_call();
        world.holds_syncs = false;
    }
    answer.await.unwrap();
    let all = users(&[("bob", State::Ended), (ME, State::Ended)]);
    assert_eq!(told(&login), [users(&[("bob", State::Received), (ME, State::Accepted)]), Vec::new(), all]);
}

#[tokio::test]
async fn it_hears_the_end_after_the_answer_that_comes_later_than_the_feed() {
    let login = Login::online().await;
    {
        let mut world = login.fake.0.lock();
        world.holds_answers = true;
        world.call = call(CallState::Started, State::Received);
    }
    let answer = login.account.request(CallJoinRequest { call_id: "7".to_owned(), ..CallJoinRequest::default() });
    let answer = tokio::spawn(async move { drop(answer.await.unwrap()) });
    login.until(|login| login.fake.0.lock().requests.contains(&"Call/CallJoin")).await;
    let end = {
        let mut world = login.fake.0.lock();
        world.call = call(CallState::Ended, State::Ended);
        world.changes_call()
    };
    // The push of the end has a gap before it, and the sync brings it.
    let feeds = login.fake.0.lock().pos;
    login.frame(end).await;
    login.until(|login| login.fake.0.lock().feeds.contains(&feeds)).await;
    assert!(told(&login).is_empty(), "the app does not know yet that it is in the call");
    login.fake.0.lock().holds_answers = false;
    answer.await.unwrap();
    let all = users(&[("bob", State::Ended), (ME, State::Ended)]);
    assert_eq!(told(&login), [users(&[("bob", State::Received), (ME, State::Accepted)]), Vec::new(), all]);
}

#[tokio::test]
async fn it_hears_what_is_new_since_it_has_joined() {
    let (login, answer) = joined().await;
    login.disconnect();
    answer.await.unwrap();
    {
        let mut world = login.fake.0.lock();
        world.call = call(CallState::Started, State::Accepted);
        world.changes_call();
        world.holds_syncs = false;
    }
    login.connect().await;
    let first = users(&[("bob", State::Received), (ME, State::Accepted)]);
    assert_eq!(told(&login), [first, users(&[("bob", State::Accepted)])]);
}

#[tokio::test]
async fn it_hears_everything_once_if_the_connection_lasts() {
    let (login, answer) = joined().await;
    assert!(told(&login).is_empty());
    login.fake.0.lock().holds_syncs = false;
    answer.await.unwrap();
    assert_eq!(told(&login), [users(&[("bob", State::Received), (ME, State::Accepted)])]);
}
