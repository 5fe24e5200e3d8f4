//! Members who do things to a group at the same moment: there is one outcome, the same for everybody.

use futures_util::future::join_all;
use zim_integration_tests::{Device, World, eventually, group, refusal, soon, texts};
use zim_protocol::{
    ErrorCode, Event, EventKind, GroupAdvancedConfig, GroupEvent, GroupMemberMuteConfig, GroupMemberQueryConfig,
    GroupMuteConfig, Message,
};

use crate::group::{create, info};

/// The members and their roles, and that the count is their number, as a device's server says.
async fn roles(device: &Device) -> Vec<(String, i64)> {
    let config = GroupMemberQueryConfig { next_flag: 0, count: 100 };
    let list = soon(device.query_group_member_list("crew", config)).await.unwrap().user_list;
    let count = soon(device.query_group_member_count("crew")).await.unwrap().count;
    assert_eq!(i64::try_from(list.len()).unwrap(), count);
    list.into_iter().map(|member| (member.user_id, member.member_role)).collect()
}

fn owners(roles: &[(String, i64)]) -> usize {
    roles.iter().filter(|(_, role)| *role == 1).count()
}

#[tokio::test]
async fn join_group_by_ten_users_fills_the_last_places() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let config = GroupAdvancedConfig { max_member_count: 5, ..GroupAdvancedConfig::default() };
    soon(ann.create_group(info("crew"), [""; 0], config)).await.unwrap();
    let mut devices = Vec::new();
    for index in 0..10 {
        devices.push(world.user(&format!("u{index}")).await);
    }
    let joins: Vec<_> = devices.iter().map(|device| device.join_group("crew")).collect();
    let joined = soon(join_all(joins)).await;
    let (inside, outside): (Vec<_>, Vec<_>) = joined.into_iter().partition(Result::is_ok);
    assert_eq!((inside.len(), outside.len()), (4, 6));
    for refused in outside {
        assert_eq!(refusal(refused), ErrorCode::GroupModuleGroupMemberHasReachedLimit);
    }
    assert_eq!(roles(&ann).await.len(), 5);
    world.end().await;
}

#[tokio::test]
async fn leave_group_while_the_group_is_transferred_leaves_one_owner() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let phone = world.device("ann").await;
    for round in 0..5 {
        let id = if round == 0 { "crew".to_owned() } else { format!("crew{round}") };
        create(&ann, &id, &["bob", "cai"]).await;
        // A call begins when it is made, so each of them is the first one at times.
        let (leave, transfer) = match round % 2 {
            0 => {
                let leave = phone.leave_group(&id);
                (leave, ann.transfer_group_owner("cai", &id))
            }
            _ => {
                let transfer = ann.transfer_group_owner("cai", &id);
                (phone.leave_group(&id), transfer)
            }
        };
        let (left, transferred) = (soon(leave).await, soon(transfer).await);
        left.unwrap();
        let config = GroupMemberQueryConfig { next_flag: 0, count: 100 };
        let mut seen = Vec::new();
        for device in [&bob, &cai] {
            let list = soon(device.query_group_member_list(&id, config)).await.unwrap().user_list;
            let list: Vec<_> = list.into_iter().map(|member| (member.user_id, member.member_role)).collect();
            assert_eq!(owners(&list), 1, "{list:?}");
            seen.push(list);
        }
        let heir = if transferred.is_ok() { "cai" } else { "bob" };
        assert!(seen[0].contains(&(heir.to_owned(), 1)), "{:?} {transferred:?}", seen[0]);
        assert_eq!(seen[0], seen[1]);
        for device in [&bob, &cai] {
            let is_told = |event: &Event| match event {
                Event::GroupMemberInfoUpdated(it) if it.group_id == id => {
                    it.user_list.iter().any(|member| member.member_role == 1 && member.user_id == heir)
                }
                _ => false,
            };
            device.until("the new owner", |seen| seen.iter().any(is_told).then_some(())).await;
        }
        if let Err(error) = transferred {
            assert_eq!(error.code(), ErrorCode::GroupModuleUserIsNotInTheGroup);
        }
    }
    world.end().await;
}

#[tokio::test]
async fn kick_group_members_by_two_administrators_at_once_has_one_outcome() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let dan = world.user("dan").await;
    create(&ann, "crew", &["bob", "cai", "dan"]).await;
    for admin in ["bob", "cai"] {
        soon(ann.set_group_member_role(2, admin, "crew")).await.unwrap();
    }
    // One mutes the group while the other ends that, and both remove Dan.
    let (muted, unmuted) = (bob.mute_group(true, "crew", normal()), cai.mute_group(false, "crew", normal()));
    let kicks = (bob.kick_group_members(["dan"], "crew"), cai.kick_group_members(["dan"], "crew"));
    soon(muted).await.unwrap();
    soon(unmuted).await.unwrap();
    let kicks = [soon(kicks.0).await, soon(kicks.1).await];
    assert_eq!(kicks.iter().filter(|kick| kick.is_ok()).count(), 1);
    let refused = kicks.into_iter().find(Result::is_err).unwrap();
    assert_eq!(refusal(refused), ErrorCode::GroupModuleUserIsNotInTheGroup);
    dan.until("the removal", |seen| {
        let is_out =
            |event: &&Event| matches!(event, Event::GroupStateChanged(event) if event.event() == GroupEvent::KickedOut);
        seen.iter().find(is_out).map(drop)
    })
    .await;
    assert_eq!(dan.seen_of(EventKind::GroupStateChanged).len(), 2);
    // What the server says and what each device was told last is the same.
    ann.say(group("crew"), "end").await;
    let info = soon(ann.query_group_info("crew")).await.unwrap().group_info.unwrap().muted_info.unwrap();
    for device in [&bob, &cai] {
        device.receives("end").await;
        let events = device.seen_of(EventKind::GroupMutedInfoUpdated);
        let Some(Event::GroupMutedInfoUpdated(last)) = events.last() else { panic!("{events:?}") };
        assert_eq!(last.muted_info.as_ref(), Some(&info));
    }
    assert_eq!(owners(&roles(&ann).await), 1);
    assert_eq!(roles(&bob).await.len(), 3);
    world.end().await;
}

fn normal() -> GroupMuteConfig {
    GroupMuteConfig { mode: Some(1), ..GroupMuteConfig::default() }
}

#[tokio::test]
async fn invite_users_into_group_of_somebody_who_was_removed_while_away() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    ann.say(group("crew"), "1").await;
    bob.receives("1").await;
    let dir = bob.dir();
    bob.quit().await;
    world.clock.advance(1_000);
    soon(ann.kick_group_members(["bob"], "crew")).await.unwrap();
    ann.say(group("crew"), "2").await;
    soon(ann.update_group_name("Unseen", "crew")).await.unwrap();
    soon(ann.invite_users_into_group(["bob"], "crew")).await.unwrap();
    soon(ann.update_group_notice("welcome back", "crew")).await.unwrap();
    ann.say(group("crew"), "3").await;
    world.clock.advance(1_000);
    let bob = world.user_at(dir, "bob").await;
    bob.receives("3").await;
    eventually("both changes of the membership", async || {
        let of = |event: Event| match event {
            Event::GroupStateChanged(event) => event.event(),
            other => panic!("{other:?}"),
        };
        let seen: Vec<_> = bob.seen_of(EventKind::GroupStateChanged).into_iter().map(of).collect();
        (seen == [GroupEvent::KickedOut, GroupEvent::Invited]).then_some(())
    })
    .await;
    bob.next(EventKind::GroupNoticeUpdated).await;
    // The name changed while the member was out: they see the name and get no event.
    assert!(bob.seen_of(EventKind::GroupNameUpdated).is_empty());
    let conversation = bob.conversation(group("crew")).await;
    assert_eq!((conversation.conversation_name.as_str(), conversation.is_disabled), ("Unseen", false));
    assert_eq!(texts(&bob.history(group("crew")).await), ["1", "3"]);
    bob.has_unread(group("crew"), 1).await;
    world.end().await;
}

/// Leaving and coming back does not end a mute.
#[tokio::test]
async fn join_group_again_leaves_a_member_muted() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "g", &["bob"]).await;
    soon(ann.mute_group_members(true, ["bob"], "g", GroupMemberMuteConfig { duration: -1 })).await.unwrap();
    soon(bob.leave_group("g")).await.unwrap();
    soon(bob.join_group("g")).await.unwrap();
    let muted = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
    assert_eq!(refusal(soon(bob.send_to(group("g"), Message::text("hi"))).await), muted);
    soon(ann.mute_group_members(false, ["bob"], "g", GroupMemberMuteConfig { duration: 0 })).await.unwrap();
    bob.say(group("g"), "hi").await;
    world.end().await;
}
