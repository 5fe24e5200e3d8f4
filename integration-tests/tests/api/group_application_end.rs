//! What entering a group ends, and who hears of applications where many decide.

use zim_integration_tests::{World, eventually, refusal, soon};
use zim_protocol::{
    ConnectionState, Event, GroupApplicationState as State, GroupApplicationType as Kind, GroupBeInviteMode,
    GroupInviteMode, GroupJoinMode, GroupState,
};
use zim_server::db::{Scope, Tx};

use crate::group_application::{
    Crew, NO_INVITE, NO_JOIN, accept, added, agree, answers, apply, ask, barrier, decline, is_member, list, shown, told,
};
use crate::large_group::add_members;

async fn execute(world: &World, sql: &'static str) -> u64 {
    let done =
        world.server().app().db.submit(Scope::none(), async move |tx: &mut Tx<'_>| Ok(tx.execute(sql, &[]).await?));
    done.await.unwrap()
}

async fn count(world: &World, sql: &'static str) -> i64 {
    let read = world.server().app().db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        Ok(tx.fetch_one(sql, &[]).await?.unwrap().get::<i64>(0)?)
    });
    read.await.unwrap()
}

/// An invitation that is left would let somebody in again who was removed.
#[tokio::test]
async fn accept_group_invite_application_ends_what_else_waits() {
    let mut crew = Crew::asking().await;
    let (tablet, laptop) = (crew.world.device("dan").await, crew.world.device("dan").await);
    ask(&crew.ann, &["dan"], "come").await.unwrap();
    added(&laptop).await;
    ask(&crew.mia, &["dan"], "do").await.unwrap();
    added(&laptop).await;
    apply(&crew.dan, "me").await.unwrap();
    added(&crew.adam).await;
    barrier(&crew.ann, &[("dan", &laptop)], "then").await;
    let (laptop_dir, adam_dir) = (laptop.dir(), crew.adam.dir());
    laptop.quit().await;
    crew.adam.quit().await;

    agree(&crew.dan, "ann").await.unwrap();
    let adam = crew.world.user_at(adam_dir, "adam").await;
    let laptop = crew.world.user_at(laptop_dir, "dan").await;
    let by_dan = |one| (one, "dan".to_owned());
    let own = [
        shown(Kind::BeInvite, State::Accepted, "ann", "come"),
        shown(Kind::BeInvite, State::Disabled, "mia", "do"),
        shown(Kind::Join, State::Disabled, "dan", "me"),
    ];
    // What waits ends in the order of its places. Two nodes may give those of one moment in another order.
    let sorted = |mut all: Vec<_>| {
        all.sort();
        all
    };
    for device in [&crew.dan, &tablet, &laptop] {
        assert_eq!(sorted(answers(device, 3).await), sorted(own.clone().map(by_dan).to_vec()));
    }
    let sent = shown(Kind::Invite, State::Accepted, "dan", "come");
    assert_eq!(answers(&crew.ann, 2).await, [sent, own[2].clone()].map(by_dan));
    assert_eq!(answers(&adam, 1).await, [by_dan(own[2].clone())]);
    // A plain member neither hears of the application nor of what they sent.
    barrier(&crew.ann, &[("mia", &crew.mia)], "now").await;
    assert_eq!(told(&crew.mia), (0, 0));
    let feed = "SELECT COUNT(*) FROM feed f JOIN account a ON a.id = f.account WHERE a.name = 'mia' AND f.kind = 41";
    assert_eq!(count(&crew.world, feed).await, 0);

    soon(crew.ann.kick_group_members(["dan"], "crew")).await.unwrap();
    assert_eq!(refusal(agree(&crew.dan, "mia").await), NO_INVITE);
    assert_eq!(refusal(decline(&crew.dan, "mia").await), NO_INVITE);
    assert_eq!(refusal(accept(&crew.ann, "dan").await), NO_JOIN);
    assert!(!is_member(&crew.dan).await);
    // A new one counts.
    ask(&crew.mia, &["dan"], "again").await.unwrap();
    agree(&crew.dan, "mia").await.unwrap();
    assert!(is_member(&crew.dan).await);
    let last = shown(Kind::BeInvite, State::Accepted, "mia", "again");
    let all = [last.clone(), own[2].clone(), own[0].clone()];
    for device in [&crew.dan, &tablet, &laptop] {
        assert_eq!(answers(device, 4).await[3], by_dan(last.clone()));
        assert_eq!(list(device).await, all);
    }
    // What each of them has stored is the same.
    crew.world.stop_server().await;
    for device in [&crew.dan, &tablet, &laptop] {
        eventually("the end of the connection", async || {
            (device.connection_state() != ConnectionState::Connected).then_some(())
        })
        .await;
        assert_eq!(list(device).await, all);
    }
    crew.world.end().await;
}

#[tokio::test]
async fn join_group_and_invite_users_into_group_end_an_application() {
    let crew = Crew::new(GroupJoinMode::Auth, GroupInviteMode::Any, GroupBeInviteMode::None).await;
    let fay = crew.world.user("fay").await;
    for device in [&crew.dan, &crew.eve, &fay] {
        apply(device, "me").await.unwrap();
    }
    // One is brought in. Then the group opens: one joins, and one enters when they apply once more.
    soon(crew.mia.invite_users_into_group(["dan"], "crew")).await.unwrap();
    soon(crew.ann.update_group_join_mode(GroupJoinMode::Any, "crew")).await.unwrap();
    soon(crew.eve.join_group("crew")).await.unwrap();
    apply(&fay, "again").await.unwrap();
    let ended = [("dan", "mia"), ("eve", "eve"), ("fay", "fay")]
        .map(|(user, by)| (shown(Kind::Join, State::Disabled, user, "me"), by.to_owned()));
    for device in [&crew.ann, &crew.adam] {
        assert_eq!(answers(device, 3).await, ended);
    }
    for (device, ended) in [&crew.dan, &crew.eve, &fay].into_iter().zip(ended) {
        assert!(is_member(device).await);
        assert_eq!(list(device).await, std::slice::from_ref(&ended.0));
        assert_eq!(answers(device, 1).await, [ended]);
    }
    for user in ["dan", "eve", "fay"] {
        assert_eq!(refusal(accept(&crew.ann, user).await), NO_JOIN);
    }
    barrier(&crew.ann, &[("mia", &crew.mia)], "now").await;
    assert_eq!(told(&crew.mia), (0, 0));
    crew.world.end().await;
}

/// An administrator is invited by mistake, together with an applicant. They are refused as a member, and hear what becomes of the
/// application nevertheless.
#[tokio::test]
async fn invite_users_into_group_tells_an_administrator_who_is_named_as_well() {
    let crew = Crew::new(GroupJoinMode::Auth, GroupInviteMode::Any, GroupBeInviteMode::None).await;
    apply(&crew.dan, "me").await.unwrap();
    added(&crew.adam).await;
    let invited = soon(crew.ann.invite_users_into_group(["adam", "dan"], "crew")).await.unwrap();
    assert_eq!(invited.error_user_list.len(), 1);
    let ended = (shown(Kind::Join, State::Disabled, "dan", "me"), "ann".to_owned());
    for device in [&crew.ann, &crew.adam] {
        assert_eq!(answers(device, 1).await, std::slice::from_ref(&ended));
    }
    crew.world.end().await;
}

/// The server tells nobody of each application that ends with its group; a device knows it from the end of the group.
#[tokio::test]
async fn query_group_application_list_without_a_connection_knows_what_ended_with_its_group() {
    let mut crew = Crew::asking().await;
    apply(&crew.dan, "me").await.unwrap();
    added(&crew.adam).await;
    apply(&crew.eve, "late").await.unwrap();
    added(&crew.adam).await;
    // Eve's has expired, by the clock of the server, before the group ends.
    assert_eq!(execute(&crew.world, "UPDATE group_application SET expires_at = 1 WHERE wording = 'late'").await, 1);
    soon(crew.ann.dismiss_group("crew")).await.unwrap();
    let has_ended = |event: &Event| matches!(event, Event::GroupStateChanged(it) if it.state() == GroupState::Quit);
    crew.adam.until("the end of the group", |seen| seen.iter().any(has_ended).then_some(())).await;
    let all = [shown(Kind::Join, State::Expired, "eve", "late"), shown(Kind::Join, State::Disabled, "dan", "me")];
    assert_eq!(list(&crew.adam).await, all);
    crew.world.stop_server().await;
    eventually("the end of the connection", async || {
        (crew.adam.connection_state() != ConnectionState::Connected).then_some(())
    })
    .await;
    // The device was told of Eve's with the time that it had then.
    assert_eq!(list(&crew.adam).await[1], all[1]);
    crew.world.end().await;
}

/// As if it had expired by the clock of the node on which they entered, and not by that of the one on which it is answered.
#[tokio::test]
async fn accept_group_join_application_and_accept_group_invite_application_change_nothing_for_a_member() {
    let crew = Crew::asking().await;
    apply(&crew.dan, "me").await.unwrap();
    ask(&crew.ann, &["eve"], "come").await.unwrap();
    accept(&crew.ann, "dan").await.unwrap();
    agree(&crew.eve, "ann").await.unwrap();
    assert_eq!(execute(&crew.world, "UPDATE group_application SET state = 1").await, 2);
    accept(&crew.ann, "dan").await.unwrap();
    agree(&crew.eve, "ann").await.unwrap();
    assert_eq!(soon(crew.ann.query_group_member_count("crew")).await.unwrap().count, 5);
    crew.world.end().await;
}

/// After a transfer the owner may be the last who entered.
#[tokio::test]
async fn send_group_join_application_tells_the_owner_before_a_hundred_administrators() {
    let crew = Crew::asking().await;
    let tablet = crew.world.device("adam").await;
    add_members(&crew.world, 100).await;
    assert_eq!(execute(&crew.world, "UPDATE group_member SET role = 2 WHERE account <= 100").await, 100);
    let last = "UPDATE group_member SET place = place + 10000000 WHERE account > 100";
    assert_eq!(execute(&crew.world, last).await, 3);
    apply(&crew.dan, "me").await.unwrap();
    let waiting = shown(Kind::Join, State::Waiting, "dan", "me");
    assert_eq!(added(&crew.ann).await, waiting);
    // The others find it in their lists, and their devices hear of their own answer.
    barrier(&crew.ann, &[("adam", &crew.adam)], "now").await;
    tablet.receives("now").await;
    for device in [&crew.adam, &tablet] {
        assert_eq!(told(device), (0, 0));
        assert_eq!(list(device).await, std::slice::from_ref(&waiting));
    }
    accept(&crew.adam, "dan").await.unwrap();
    let accepted = (shown(Kind::Join, State::Accepted, "dan", "me"), "adam".to_owned());
    for device in [&crew.ann, &crew.adam, &tablet, &crew.dan] {
        assert_eq!(answers(device, 1).await, std::slice::from_ref(&accepted));
    }
    crew.world.end().await;
}
