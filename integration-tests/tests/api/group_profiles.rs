//! Groups whose members have long profiles. The logs have the keys of users; who they are is read with each page and each answer.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, World, group, soon};
use zim_protocol::{
    ConversationType, Event, EventKind, FriendAddConfig, FriendListQueryConfig, GroupMemberEvent,
    GroupMessageReceiptMemberQueryConfig, Message, MessageSendConfig, UsersInfoQueryConfig,
};
use zim_server::db::{Scope, Tx, params};

use crate::group::create;
use crate::large_group::{add_members, repeat_last_change};

/// A page of changes ends before it is too long for a frame: otherwise a device would ask for it again and again, and get no message
/// either.
#[tokio::test]
async fn a_device_that_missed_the_joins_of_users_with_long_profiles_catches_up() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    soon(cai.update_user_extended_data(&"x".repeat(2_048))).await.unwrap();
    create(&ann, "crew", &["bob"]).await;
    ann.say(group("crew"), "before").await;
    bob.receives("before").await;
    let dir = bob.dir();
    bob.quit().await;
    soon(cai.join_group("crew")).await.unwrap();
    // Not so many that the device goes without them: two megabytes.
    repeat_last_change(&world, 899).await;
    ann.say(group("crew"), "after").await;
    let bob = world.user_at(dir, "bob").await;
    bob.receives("after").await;
    let joins = |seen: &[Event]| seen.iter().filter(|event| event.kind() == EventKind::GroupMemberStateChanged).count();
    bob.until("all joins", |seen| (joins(seen) >= 900).then_some(())).await;
    bob.caught_up(0).await;
    assert_eq!(joins(&bob.seen()), 900);
    world.end().await;
}

/// A write is answered with what it changed in the logs. What does not fit beside the answer is pulled.
#[tokio::test]
async fn an_invitation_of_users_with_long_profiles_is_answered() {
    let world = World::with(|config| config.limits.max_user_extended_data_bytes = 32_768).await;
    let ann = world.user("ann").await;
    let users = users_with_long_profiles(&world).await;
    create(&ann, "crew", &[]).await;
    let invited = soon(ann.invite_users_into_group(&users, "crew")).await.unwrap();
    assert_eq!((invited.user_list.len(), invited.error_user_list.len()), (20, 0));
    ann.until("the arrival of all", |seen| seen.iter().any(are_in).then_some(())).await;
    world.end().await;
}

/// With what each of the members says of the user who has brought them in, the change would be longer than a frame.
#[tokio::test]
async fn an_invitation_by_a_user_with_a_long_profile_is_answered_and_told_to_the_members() {
    let world = World::with(|config| config.limits.max_user_extended_data_bytes = 32_768).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(ann.update_user_extended_data(&"x".repeat(32_000))).await.unwrap();
    let users = users_with_long_profiles(&world).await;
    create(&ann, "crew", &["bob"]).await;
    let invited = soon(ann.invite_users_into_group(&users, "crew")).await.unwrap();
    assert_eq!((invited.user_list.len(), invited.error_user_list.len()), (20, 0));
    assert!(invited.user_list.iter().all(|member| member.user_extended_data.len() == 32_000));
    ann.say(group("crew"), "after").await;
    bob.receives("after").await;
    for device in [&ann, &bob] {
        device.until("the arrival of all", |seen| seen.iter().any(are_in).then_some(())).await;
    }
    world.end().await;
}

async fn users_with_long_profiles(world: &World) -> Vec<String> {
    let users: Vec<String> = (0..20).map(|number| format!("u{number}")).collect();
    for user in &users {
        let device = world.user(user).await;
        soon(device.update_user_extended_data(&"x".repeat(32_000))).await.unwrap();
    }
    users
}

/// Whether twenty users have been brought into a group.
fn are_in(event: &Event) -> bool {
    match event {
        Event::GroupMemberStateChanged(event) => {
            event.event() == GroupMemberEvent::Invited && event.user_list.len() == 20
        }
        _ => false,
    }
}

/// Gives users whose names match extended data of 32,000 times this letter.
async fn set_extended_data(world: &World, names: &'static str, letter: &str) {
    let data = letter.repeat(32_000);
    let written = world.server().app().db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        Ok(tx.execute("UPDATE account SET extended_data = $2 WHERE name LIKE $1", &params![names, data]).await?)
    });
    assert!(written.await.unwrap() > 0);
}

/// Returns what a device knows, or asks the server for.
async fn extended_data(device: &Device, user: &str, config: UsersInfoQueryConfig) -> String {
    let found = soon(device.query_users_info([user], config)).await.unwrap();
    found.user_list[0].extended_data.clone()
}

/// A change of forty members has no room for what their profiles say. That is not empty for the devices of the others.
#[tokio::test]
async fn query_users_info_asks_for_extended_data_that_a_change_of_a_group_had_no_room_for() {
    let world = World::with(|config| config.limits.max_user_extended_data_bytes = 32_768).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let users: Vec<String> = (0..40).map(|number| format!("u{number}")).collect();
    world.register(&users).await;
    set_extended_data(&world, "u%", "x").await;
    // Bob has a friend among them, and has met another one, whose profile changes unseen.
    soon(bob.add_friend("u0", FriendAddConfig::default())).await.unwrap();
    extended_data(&bob, "u1", UsersInfoQueryConfig { is_query_from_server: true }).await;
    set_extended_data(&world, "u1", "y").await;
    create(&ann, "crew", &["bob"]).await;
    let invited = soon(ann.invite_users_into_group(&users, "crew")).await.unwrap();
    assert_eq!((invited.user_list.len(), invited.error_user_list.len()), (40, 0));
    let members = bob.until("the arrival of all", |seen| {
        seen.iter().find_map(|event| match event {
            Event::GroupMemberStateChanged(event) if event.user_list.len() == 40 => Some(event.user_list.clone()),
            _ => None,
        })
    });
    let mut with_data: Vec<(String, String)> = members
        .await
        .into_iter()
        .filter(|member| !member.user_extended_data.is_empty())
        .map(|member| (member.user_id, member.user_extended_data))
        .collect();
    with_data.sort();
    let known = |user: &str| (user.to_owned(), "x".repeat(32_000));
    assert!(with_data == [known("u0"), known("u1")], "what bob knew before");
    assert!(bob.seen_of(EventKind::FriendInfoUpdated).is_empty(), "nothing of the friend has changed");
    let config = FriendListQueryConfig { count: 10, ..FriendListQueryConfig::default() };
    let friends = soon(bob.query_friend_list(config)).await.unwrap().friend_list;
    assert!(friends.len() == 1 && friends[0].user_extended_data == "x".repeat(32_000));
    // The server is asked once for each: a device may ask for ten users in ten seconds.
    for _ in 0..5 {
        for (user, letter) in [("u0", "x"), ("u1", "y"), ("u2", "x"), ("u39", "x")] {
            let data = extended_data(&bob, user, UsersInfoQueryConfig::default()).await;
            assert!(data == letter.repeat(32_000), "{user}: {} bytes", data.len());
        }
    }
    world.end().await;
}

#[tokio::test]
async fn members_with_long_profiles_who_have_not_read_a_message_come_in_pages() {
    let world = World::with(|config| config.limits.max_user_extended_data_bytes = 32_768).await;
    let ann = world.user("ann").await;
    create(&ann, "crew", &[]).await;
    add_members(&world, 40).await;
    let written = world.server().app().db.submit(Scope::none(), async |tx: &mut Tx<'_>| {
        let sql = "UPDATE account SET extended_data = $1 WHERE name <> 'ann'";
        Ok(tx.execute(sql, &params!["x".repeat(32_000)]).await?)
    });
    assert_eq!(written.await.unwrap(), 40);
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let (text, notification) = (Message::text("read me"), MessageSendNotification::default());
    let sent = ann.send_message(text, "crew", ConversationType::Group, config, notification);
    let sent = soon(sent).await.unwrap().message.unwrap();
    let (mut found, mut pages, mut next_flag) = (Vec::new(), 0, 0);
    loop {
        let config = GroupMessageReceiptMemberQueryConfig { next_flag, count: 100 };
        let page = soon(ann.query_group_message_receipt_unread_member_list(&sent, "crew", config)).await.unwrap();
        found.extend(page.user_list.into_iter().map(|member| member.user_id));
        (pages, next_flag) = (pages + 1, page.next_flag);
        if next_flag == 0 {
            break;
        }
    }
    assert_eq!(found, (1..=40).map(|number| format!("user{number}")).collect::<Vec<_>>());
    assert!(pages > 1, "{pages}");
    world.end().await;
}
