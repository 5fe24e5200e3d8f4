//! Erasing a user: what is removed, what others keep, and that it survives a restart.

use tonic::Code;
use zim_client_sdk::{MessageSendNotification, PushToken};
use zim_integration_tests::{Device, OperatorClient, PushServer, World, eventually, group, is_text, soon, texts};
use zim_protocol::message::Body;
use zim_protocol::server::{MessageService, UserService};
use zim_protocol::{
    CallInvitationMode as Mode, CallUserState as State, ConnectionEvent, ConversationDeleteConfig, ConversationType,
    EraseUserRequest, ErrorCode, Event, EventKind, FriendApplicationListQueryConfig, FriendApplicationSendConfig,
    FriendDeleteConfig, FriendDeleteType, GetGroupRequest, GetUserRequest, ListAuditRequest, ListWorkRequest, Message,
    MessageDeleteConfig, MessageQueryMode, MessageRevokeConfig, MessageSendConfig, PlatformType, SendMessageRequest,
    SendServerMessageRequest, UnbanUserRequest, UpdateUserNameRequest, UserOfflinePushRule, Work, WorkQueue,
};
use zim_server::connection::{Audit, Caller, Identity};
use zim_server::db::{Tx, params};
use zim_server::key::{AppKey, LoginKey};

use crate::audit::{actions, rows};
use crate::call::{accept, becomes, end, invite};
use crate::export::export;
use crate::friend::{add, friends};
use crate::group::create;
use crate::group_application::{Crew, apply, ask, list};
use crate::media::{Files, png, send, stored};
use crate::push_delivery::{self, DELAY_MS, set_webhook, titled};
use crate::status::{set_custom_status, subscribe};

fn erase(world: &World, user_id: &str, confirm: &str) -> EraseUserRequest {
    EraseUserRequest { app_id: world.app_id(), user_id: user_id.into(), confirm: confirm.into() }
}

/// The time from the call to the second round.
const LATE_MS: i64 = 60_000;

/// Waits until every erasure is as `expected`.
async fn erasures(world: &World, what: &str, expected: impl Fn(&Work) -> bool) {
    let mut operator = world.admin().await;
    eventually(what, async || {
        let list = ListWorkRequest { queue: WorkQueue::Outbox as i32, all: true, ..ListWorkRequest::default() };
        let works = soon(operator.list_work(list)).await.unwrap().into_inner().works;
        works.iter().filter(|work| work.kind == "erasure").all(&expected).then_some(())
    })
    .await;
}

/// Waits until nothing is left to do but to look again for what comes late.
async fn is_done(world: &World) {
    let now = world.clock.now_ms();
    erasures(world, "the erasure is done", |work| work.attempts == 0 && work.next_at > now).await;
}

/// The number of rows of a user in a table.
async fn count(world: &World, table: &'static str, user_id: &'static str) -> i64 {
    let counting = world.server().app().db.read(async move |tx: &mut Tx<'_>| {
        let sql = format!("SELECT COUNT(*) FROM {table} t JOIN account a ON a.id = t.account WHERE a.name = $1");
        let row = tx.fetch_one(&sql, &params![user_id]).await?;
        Ok(row.unwrap().get::<i64>(0)?)
    });
    soon(counting).await.unwrap()
}

async fn owner(operator: &mut OperatorClient, world: &World, group_id: &str) -> (String, u32) {
    let request = GetGroupRequest { app_id: world.app_id(), group_id: group_id.into() };
    let details = soon(operator.get_group(request)).await.unwrap().into_inner();
    (details.owner_user_id, details.members)
}

fn is_erased(message: &Message) -> bool {
    match &message.body {
        Some(Body::Revoke(revoke)) => {
            assert_eq!(revoke.original_text_message_content, "");
            revoke.revoke_extended_data == "{\"reason\":\"erased\"}"
        }
        _ => false,
    }
}

#[tokio::test]
async fn erase_user_removes_what_is_theirs_and_the_content_of_their_messages() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    soon(ann.update_user_name("Ann A.")).await.unwrap();
    add(&ann, "bob").await;
    soon(ann.add_users_to_blacklist(["eve"])).await.unwrap();
    create(&ann, "crew", &["bob", "eve"]).await;
    create(&ann, "alone", &[]).await;
    let away = world.device("bob").await;
    let files = Files::new();
    ann.say("bob", "secret").await;
    send(&ann, Message::image(files.add("cat.png", &png(10, 10)))).await.unwrap();
    bob.say("ann", "of bob").await;
    ann.say(group("crew"), "secret, too").await;
    bob.say(group("crew"), "of bob, too").await;
    for device in [&eve, &away] {
        device.receives("of bob, too").await;
    }
    away.receives("secret").await;
    away.quit().await;

    let mut operator = world.admin().await;
    for (request, code) in
        [(erase(&world, "ann", "bob"), Code::InvalidArgument), (erase(&world, "nobody", "nobody"), Code::NotFound)]
    {
        assert_eq!(soon(operator.erase_user(request)).await.unwrap_err().code(), code);
    }
    let done = soon(operator.erase_user(erase(&world, "ann", "ann"))).await.unwrap().into_inner();
    assert_eq!(done.sessions, 1);
    ann.until("the end of the session", |seen| {
        let end = |event: &Event| {
            matches!(event, Event::ConnectionStateChanged(it) if it.event() == ConnectionEvent::KickedOut)
        };
        seen.iter().any(end).then_some(())
    })
    .await;
    is_done(&world).await;

    // Others lose the content, and keep what is theirs.
    bob.next(EventKind::MessageRevokeReceived).await;
    let with_ann = eventually("bob has no content of ann", async || {
        let held = bob.history_by("ann", MessageQueryMode::OnlyLocal).await;
        (held.len() == 3 && is_erased(&held[0]) && is_erased(&held[1])).then_some(held)
    });
    assert_eq!(texts(&with_ann.await[2..]), ["of bob"]);
    let in_group = eventually("eve has no content of ann", async || {
        let held = eve.history_by(group("crew"), MessageQueryMode::OnlyLocal).await;
        (held.len() == 2 && is_erased(&held[0])).then_some(held)
    });
    assert_eq!(texts(&in_group.await[1..]), ["of bob, too"]);
    let back = world.user_at(away.dir(), "bob").await;
    eventually("a device that was away has no content of ann", async || {
        let held = back.history_by("ann", MessageQueryMode::OnlyLocal).await;
        (held.len() == 3 && is_erased(&held[0]) && is_erased(&held[1])).then_some(())
    })
    .await;
    let of_bob = export(&mut operator, world.app_id(), "bob").await;
    assert!(of_bob.iter().all(|part| part.friends.is_empty()));
    let (owner, members) = owner(&mut operator, &world, "crew").await;
    assert!(["bob", "eve"].contains(&owner.as_str()) && members == 2, "{owner} of {members}");
    let alone = GetGroupRequest { app_id: world.app_id(), group_id: "alone".into() };
    assert_eq!(soon(operator.get_group(alone)).await.unwrap_err().code(), Code::FailedPrecondition);

    // Nothing of ann is left on the server but the ID.
    for table in ["session", "feed", "friend", "block", "media", "push_id", "conversation_setting", "group_member"] {
        assert_eq!(count(&world, table, "ann").await, 0, "{table}");
    }
    eventually("the files are gone", async || (stored(&world) == 0).then_some(())).await;
    let of_ann = export(&mut operator, world.app_id(), "ann").await;
    let own = of_ann[0].self_user_info.clone().unwrap().user_full_info.unwrap().base_info.unwrap();
    assert_eq!((own.user_id.as_str(), own.user_name.as_str()), ("ann", ""));

    // The ID is not used again, and a lifted ban changes nothing.
    let app_id = world.app_id();
    let unban = UnbanUserRequest { app_id, user_id: "ann".into() };
    assert!(!soon(operator.unban_user(unban)).await.unwrap().into_inner().was_banned);
    let mut raw = world.raw_after_hello(7).await;
    let refused = raw.call(&world.login_request("ann")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NetworkModuleTokenInvalid as i32);
    raw.end().await;
    let access = GetUserRequest { app_id, user_id: "ann".into() };
    let access = soon(operator.get_user(access)).await.unwrap().into_inner();
    assert!(access.is_banned && access.erased_at == world.clock.now_ms());
    // Once more has no further effect.
    world.clock.advance(1_000);
    soon(operator.erase_user(erase(&world, "ann", "ann"))).await.unwrap();
    is_done(&world).await;
    let again = GetUserRequest { app_id, user_id: "ann".into() };
    assert_eq!(soon(operator.get_user(again)).await.unwrap().into_inner().erased_at, access.erased_at);
    assert_eq!(texts(&bob.history("ann").await[2..]), ["of bob"]);
    let log = rows(&mut operator, ListAuditRequest { app_id, user_id: "ann".into(), ..Default::default() }).await;
    let expected = ["EraseUser", "UnbanUser", "ExportUser", "EraseUser"].map(|action| (action, "ann"));
    assert_eq!(actions(&log), expected);
    drop(operator);
    world.end().await;
}

/// Tables with rows that are of one user alone, beside logins and the feed.
const OWN: &[&str] = &["push_id", "push_log", "push", "conversation_setting", "all_deleted", "hidden", "subscription"];

/// What the profiles and the statuses of all users have: avatars, extended data, push rules, badges, custom statuses.
async fn profiles(world: &World) -> [i64; 5] {
    let read = world.server().app().db.read(async |tx: &mut Tx<'_>| {
        let sql = "SELECT (SELECT COUNT(*) FROM account WHERE avatar_url <> ''), \
                   (SELECT COUNT(*) FROM account WHERE extended_data <> ''), \
                   (SELECT COUNT(*) FROM account WHERE push_rule IS NOT NULL), \
                   (SELECT COUNT(*) FROM account WHERE badge <> 0), \
                   (SELECT COUNT(*) FROM presence WHERE custom <> '')";
        let row = tx.fetch_one(sql, &[]).await?.unwrap();
        Ok([row.get::<i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
    });
    soon(read).await.unwrap()
}

/// The number of messages on the server that have the word `secret`.
async fn secrets(world: &World) -> usize {
    let read = world.server().app().db.read(async |tx: &mut Tx<'_>| {
        let rows = tx.fetch("SELECT body FROM message", &[]).await?;
        let bodies = rows.iter().map(|row| row.get::<Vec<u8>>(0)).collect::<Result<Vec<_>, _>>()?;
        Ok(bodies.iter().filter(|body| body.windows(6).any(|text| text == b"secret")).count())
    });
    soon(read).await.unwrap()
}

#[tokio::test]
async fn erase_user_deletes_every_row_that_is_theirs_alone() {
    const PEER: ConversationType = ConversationType::Peer;
    let service = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &service).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(ann.update_user_avatar_url("https://img.example/ann.png")).await.unwrap();
    soon(ann.update_user_extended_data("of Bern")).await.unwrap();
    soon(ann.update_user_badge(7)).await.unwrap();
    let rule = UserOfflinePushRule {
        online_platforms: vec![PlatformType::Win as i32],
        not_to_receive_offline_push_platforms: vec![PlatformType::Android as i32],
    };
    soon(ann.update_user_offline_push_rule(rule)).await.unwrap();
    set_custom_status(&ann, "lunch").await;
    subscribe(&ann, "bob").await;
    // Ann is on the list of Bob, who is not on theirs.
    add(&ann, "bob").await;
    let single = FriendDeleteConfig { r#type: FriendDeleteType::Single as i32 };
    soon(ann.delete_friends(["bob"], single)).await.unwrap();
    eventually("bob has a friend", async || (friends(&bob).await == ["ann"]).then_some(())).await;

    ann.say("bob", "first").await;
    let all = ConversationDeleteConfig { is_also_delete_server_conversation: true };
    soon(ann.delete_all_conversations(all)).await.unwrap();
    for (device, token) in [(&ann, "phone-of-ann"), (&bob, "phone-of-bob")] {
        soon(device.register_push(PushToken::webhook(token))).await.unwrap();
    }
    let sent = push_delivery::send(&ann, "bob", "secret", titled("secret")).await;
    let source = bob.receives("secret").await;
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    soon(bob.reply_message(Message::text("an answer"), &source, config, notification)).await.unwrap();
    push_delivery::send(&bob, "ann", "of bob", titled("of bob")).await;
    ann.receives("of bob").await;
    soon(ann.update_conversation_pinned_state(true, "bob", PEER)).await.unwrap();
    let mistake = ann.say("bob", "secret, taken back").await;
    soon(ann.revoke_message(&mistake, MessageRevokeConfig::default())).await.unwrap();
    let everywhere = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    soon(ann.delete_messages(&[sent], "bob", PEER, everywhere)).await.unwrap();
    world.clock.advance(DELAY_MS);
    push_delivery::log(&world, "ann", 1).await;

    // There is something to erase.
    assert_eq!((profiles(&world).await, secrets(&world).await), ([1; 5], 2));
    for &table in OWN {
        assert!(count(&world, table, "ann").await > 0, "{table}");
    }
    let quote = async || {
        let held = bob.history_by("ann", MessageQueryMode::OnlyLocal).await;
        let answer = held.into_iter().find(|message| is_text(message, "an answer")).unwrap();
        format!("{:?}", answer.replied_info)
    };
    let quoted = quote().await;
    assert!(quoted.contains("secret"), "{quoted}");

    soon(world.admin().await.erase_user(erase(&world, "ann", "ann"))).await.unwrap();
    is_done(&world).await;
    assert_eq!((profiles(&world).await, secrets(&world).await), ([0; 5], 0));
    for &table in OWN {
        assert_eq!(count(&world, table, "ann").await, 0, "{table}");
    }
    eventually("bob has no friend", async || friends(&bob).await.is_empty().then_some(())).await;
    eventually("the answer quotes nothing", async || (!quote().await.contains("secret")).then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn erase_user_removes_applications_from_the_devices_of_others() {
    let Crew { world, ann, adam, mia: _mia, dan, eve } = Crew::asking().await;
    apply(&dan, "let dan in").await.unwrap();
    assert_eq!(ask(&adam, &["eve"], "eve is nice").await.unwrap(), []);
    soon(dan.send_friend_application("eve", FriendApplicationSendConfig::default())).await.unwrap();
    let friends = async |device: &Device| {
        let config = FriendApplicationListQueryConfig { next_flag: 0, count: 100 };
        soon(device.query_friend_application_list(config)).await.unwrap().application_list.len()
    };
    let until = async |device: &Device, expected: (usize, usize)| {
        let mut last = (0, 0);
        eventually(&format!("{expected:?} applications"), async || {
            last = (list(device).await.len(), friends(device).await);
            (last == expected).then_some(())
        })
        .await;
    };
    for (device, expected) in [(&ann, (1, 0)), (&adam, (2, 0)), (&eve, (1, 1))] {
        until(device, expected).await;
    }
    let away = world.device("eve").await;
    until(&away, (1, 1)).await;
    away.quit().await;
    let mut operator = world.admin().await;
    for user in ["dan", "adam"] {
        soon(operator.erase_user(erase(&world, user, user))).await.unwrap();
        is_done(&world).await;
    }
    for device in [&ann, &eve, &world.user_at(away.dir(), "eve").await] {
        until(device, (0, 0)).await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn erase_user_empties_names_in_groups_and_what_was_said_in_calls() {
    let world = World::with(|config| config.groups.tips = true).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(ann.update_user_name("Ann A.")).await.unwrap();
    create(&bob, "crew", &["ann"]).await;
    // The tip of a leave comes after the stay.
    create(&bob, "left", &["ann"]).await;
    soon(ann.leave_group("left")).await.unwrap();
    soon(ann.set_group_member_nickname("Nick", "ann", "crew")).await.unwrap();
    soon(ann.update_group_alias("secret alias", "crew")).await.unwrap();
    // Nobody leaves a group that was dismissed.
    soon(bob.dismiss_group("crew")).await.unwrap();
    // Ann ends the call of Bob.
    let call_id = invite(&bob, Mode::Advanced, &["ann"]).await;
    becomes(&bob, &call_id, "ann", State::Received).await;
    accept(&ann, &call_id).await.unwrap();
    end(&ann, &call_id).await.unwrap();
    let left = async || {
        let read = world.server().app().db.read(async |tx: &mut Tx<'_>| {
            let sql = "SELECT (SELECT COUNT(*) FROM chat_call WHERE operated_data <> ''), \
                       (SELECT COUNT(*) FROM group_member WHERE nickname <> ''), (SELECT COUNT(*) FROM member WHERE alias <> '')";
            let row = tx.fetch_one(sql, &[]).await?.unwrap();
            Ok((row.get::<i64>(0)?, row.get::<i64>(1)?, row.get::<i64>(2)?))
        });
        soon(read).await.unwrap()
    };
    let named = async || {
        let read = world.server().app().db.read(async |tx: &mut Tx<'_>| {
            let rows = tx.fetch("SELECT body FROM message", &[]).await?;
            let bodies = rows.iter().map(|row| row.get::<Vec<u8>>(0)).collect::<Result<Vec<_>, _>>()?;
            Ok(bodies.iter().filter(|body| body.windows(6).any(|text| text == b"Ann A.")).count())
        });
        soon(read).await.unwrap()
    };
    assert_eq!(left().await, (1, 1, 1));
    assert_eq!(named().await, 3, "the tips of two groups and of a leave");
    soon(world.admin().await.erase_user(erase(&world, "ann", "ann"))).await.unwrap();
    is_done(&world).await;
    assert_eq!((left().await, named().await), ((0, 0, 0), 0));
    world.end().await;
}

#[tokio::test]
async fn erase_user_looks_again_for_what_came_late() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "in time").await;
    bob.receives("in time").await;
    let mut operator = world.admin().await;
    soon(operator.erase_user(erase(&world, "ann", "ann"))).await.unwrap();
    is_done(&world).await;

    // Writes of the user that another node took before it heard of the call.
    let (app, app_key) = (world.server().app(), AppKey(world.app_id().into()));
    let late = Caller::acting(
        Identity {
            app: app_key,
            user: soon(app.user_key(app_key, "ann")).await.unwrap().unwrap(),
            user_id: "ann".into(),
            login: LoginKey(0),
            ticket: [0; 16],
            login_at: world.clock.now_ms(),
            one_shot: true,
        },
        Audit::none(),
    );
    let name = UpdateUserNameRequest { user_name: "Late".into() };
    soon(UserService::update_user_name(&**app, &late, name)).await.unwrap();
    let message = SendMessageRequest {
        to_conversation_id: "bob".into(),
        conversation_type: ConversationType::Peer as i32,
        message: Some(Message::text("late")),
        ..SendMessageRequest::default()
    };
    soon(MessageService::send_message(&**app, &late, message)).await.unwrap();
    bob.receives("late").await;
    world.clock.advance(LATE_MS);
    erasures(&world, "the erasure has ended", |_| false).await;
    eventually("bob has no content of ann", async || {
        let held = bob.history_by("ann", MessageQueryMode::OnlyLocal).await;
        (held.len() == 2 && held.iter().all(is_erased)).then_some(())
    })
    .await;
    let of_ann = export(&mut operator, world.app_id(), "ann").await;
    let own = of_ann[0].self_user_info.clone().unwrap().user_full_info.unwrap().base_info.unwrap();
    assert_eq!(own.user_name, "");
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn nobody_acts_as_a_user_who_is_erased() {
    let world = World::new().await;
    let (_ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut operator = world.admin().await;
    let send = |from: &str| SendServerMessageRequest {
        app_id: world.app_id(),
        from_user_id: from.into(),
        to_conversation_id: "bob".into(),
        conversation_type: ConversationType::Peer as i32,
        message: Some(Message::text("as a user")),
        ..SendServerMessageRequest::default()
    };
    soon(operator.send_server_message(send("ann"))).await.unwrap();
    bob.receives("as a user").await;
    soon(operator.erase_user(erase(&world, "ann", "ann"))).await.unwrap();
    for user in ["ann", "nobody"] {
        let refused = soon(operator.send_server_message(send(user))).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.message().contains(&format!("there is no user {user}")), "{refused:?}");
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn erase_user_goes_on_after_a_restart() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..250 {
        ann.say("bob", &format!("n {number}")).await;
    }
    bob.receives("n 249").await;
    soon(world.admin().await.erase_user(erase(&world, "ann", "ann"))).await.unwrap();
    world.stop_server().await;
    world.start_server().await;
    is_done(&world).await;
    let new = world.device("bob").await;
    let held = new.history("ann").await;
    assert!(held.len() == 250 && held.iter().all(is_erased));
    // Nothing is unread any more: revoked messages do not count.
    new.has_unread("ann", 0).await;
    world.end().await;
}
