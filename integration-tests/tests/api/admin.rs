//! The operator's service, method by method.

use tonic::Code;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;
use zim_integration_tests::{World, eventually, send_text, soon};
use zim_protocol::{
    ConnectionEvent, ConnectionState, CreateAppRequest, DeleteAppRequest, DisconnectUserRequest, DropWorkRequest,
    Event, GetAppRequest, ListAppsRequest, ListSessionsRequest, ListWorkRequest, LoginConfig, MintTokenRequest,
    RegisterUserRequest, RetryWorkRequest, UpdateAppRequest, Work, WorkQueue,
};
use zim_server::db::{Scope, params};

#[tokio::test]
async fn create_app_returns_credentials_that_work() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let made =
        soon(operator.create_app(CreateAppRequest { app_id: 77, name: "Chess".into() })).await.unwrap().into_inner();
    assert_eq!((made.app_id, made.name.as_str(), made.server_secret.len()), (77, "Chess", 32));
    let mut raw = world.raw_after_hello(1).await;
    let login = zim_protocol::LoginRequest {
        user_id: "ann".into(),
        app_id: 77,
        app_sign: made.app_sign.clone(),
        ..Default::default()
    };
    raw.call(&login).await.unwrap();
    let twice = soon(operator.create_app(CreateAppRequest { app_id: 77, name: "Again".into() })).await.unwrap_err();
    assert!(matches!(twice.code(), Code::AlreadyExists | Code::InvalidArgument), "{twice}");
    let chosen =
        soon(operator.create_app(CreateAppRequest { app_id: 0, name: String::new() })).await.unwrap().into_inner();
    assert!(chosen.app_id != 0 && chosen.app_id != 77);
    raw.end().await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_apps_shows_no_secrets() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let apps = soon(operator.list_apps(ListAppsRequest {})).await.unwrap().into_inner().apps;
    assert_eq!(apps.len(), 1);
    assert_eq!((apps[0].app_id, apps[0].app_sign.as_str(), apps[0].server_secret.as_str()), (world.app_id(), "", ""));
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn get_app_shows_a_renamed_app_and_how_much_it_is_used() {
    let mut world = World::new().await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    let named = |name: &str| UpdateAppRequest { app_id, name: Some(name.into()), ..UpdateAppRequest::default() };
    let app = soon(operator.update_app(named("Games"))).await.unwrap().into_inner();
    assert_eq!((app.name.as_str(), app.app_sign_login), ("Games", true));
    for wrong in ["a\nb", &"x".repeat(257)] {
        let refused = soon(operator.update_app(named(wrong))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let (_ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let register = RegisterUserRequest { app_id, user_id: "eve".into(), user_name: String::new() };
    soon(operator.register_user(register)).await.unwrap();
    let details = soon(operator.get_app(GetAppRequest { app_id })).await.unwrap().into_inner();
    assert_eq!((details.users, details.sessions, details.created_at), (3, 2, world.clock.now_ms()));
    let app = details.app.unwrap();
    assert_eq!((app.name.as_str(), app.app_sign.as_str(), app.server_secret.as_str()), ("Games", "", ""));
    let missing = soon(operator.get_app(GetAppRequest { app_id: app_id ^ 1 })).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    drop(operator);
    world.stop_server().await;
    world.start_server().await;
    let apps = soon(world.admin().await.list_apps(ListAppsRequest {})).await.unwrap().into_inner().apps;
    assert_eq!(apps[0].name, "Games");
    world.end().await;
}

/// Every table with rows of an app.
const TABLES: [&str; 13] = [
    "app",
    "account",
    "conversation",
    "member",
    "message",
    "change",
    "feed",
    "friend",
    "friend_application",
    "session",
    "block",
    "presence",
    "subscription",
];

/// Returns the number of rows of every table.
async fn count_rows(world: &World) -> Vec<i64> {
    let counts = world.server().app().db.read(async move |tx| {
        let mut counts = Vec::new();
        for table in TABLES {
            let row = tx.fetch_one(&format!("SELECT COUNT(*) FROM {table}"), &[]).await?;
            counts.push(row.unwrap().get(0)?);
        }
        Ok(counts)
    });
    counts.await.unwrap()
}

/// Adds rows of the users and of the conversation of an app to the tables that have few: more than one page of messages.
async fn add_rows(world: &World, app_id: u32) {
    let added = world.server().app().db.submit(Scope::none(), async move |tx| {
        let accounts = tx.fetch("SELECT id FROM account WHERE app = $1 ORDER BY id", &params![app_id]).await?;
        let (one, other): (i64, i64) = (accounts[0].get(0)?, accounts[1].get(0)?);
        let row = tx.fetch_one("SELECT id FROM conversation WHERE app = $1", &params![app_id]).await?;
        let conversation: i64 = row.unwrap().get(0)?;
        let message = "INSERT INTO message (id, conversation, seq, n, sender, key_hi, key_lo, hash, ts, kind, flags, body) \
                       VALUES ($1, $2, $3, 0, 0, 0, 0, 0, 0, 1, 0, $4)";
        for seq in 1_000..2_200 {
            tx.execute(message, &params![i64::from(app_id) * 10_000 + seq, conversation, seq, vec![0_u8]]).await?;
        }
        for sql in [
            "INSERT INTO change (conversation, rev, kind, actor, at, subject) VALUES ($3, 9000, 0, $1, $2, 0)",
            "INSERT INTO feed (account, pos, kind, key) VALUES ($1, 9000, 9, $2 + $3)",
            "INSERT INTO friend (account, friend, alias, attributes, wording, created_at, place) \
             VALUES ($1, $2, '', '', '', $3, 9000)",
            "INSERT INTO friend_application (account, peer, type, state, wording, alias, attributes, created_at, updated_at, \
             expires_at, place) VALUES ($1, $2, 1, 1, '', '', '', $3, 0, 0, 9000)",
            "INSERT INTO block (account, blocked, pos) VALUES ($1, $2, $3)",
            "INSERT INTO subscription (account, target, place, expires_at) VALUES ($1, $2, 9000, $3)",
        ] {
            tx.execute(sql, &params![one, other, conversation]).await?;
        }
        let counters = "UPDATE account SET friend_count = 1, block_count = 1, subscription_count = 1 WHERE id = $1";
        tx.execute(counters, &params![one]).await?;
        Ok(())
    });
    added.await.unwrap();
}

#[tokio::test]
async fn delete_app_leaves_nothing_of_it_and_all_of_the_others() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let first = world.app_id();
    let new = CreateAppRequest { app_id: first ^ 1, name: "Other".into() };
    let other = soon(operator.create_app(new)).await.unwrap().into_inner();
    let delete = |app_id, confirm| DeleteAppRequest { app_id, confirm };
    let login = |user_id: &str| zim_protocol::LoginRequest {
        user_id: user_id.into(),
        app_id: other.app_id,
        app_sign: other.app_sign.clone(),
        ..Default::default()
    };
    let (mut other_ann, mut other_bob) = (world.raw_after_hello(1).await, world.raw_after_hello(2).await);
    for (raw, user) in [(&mut other_ann, "ann"), (&mut other_bob, "bob")] {
        raw.call(&login(user)).await.unwrap();
    }
    other_ann.call(&send_text("bob", "in the other", 1)).await.unwrap();
    add_rows(&world, other.app_id).await;
    // The app of the other users, and then, without its rows, that of ann and bob.
    let of_other = count_rows(&world).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "in the first").await;
    bob.receives("in the first").await;
    add_rows(&world, first).await;
    let before = count_rows(&world).await;
    for (table, (all, of_other)) in TABLES.iter().zip(before.iter().zip(&of_other)).skip(1) {
        assert!(all > of_other && *of_other > 0, "{table}: {all} of {of_other}");
    }

    for (app_id, confirm, code) in
        [(first, 0, Code::InvalidArgument), (first, other.app_id, Code::InvalidArgument), (5, 5, Code::NotFound)]
    {
        assert_eq!(soon(operator.delete_app(delete(app_id, confirm))).await.unwrap_err().code(), code);
    }
    assert_eq!(count_rows(&world).await, before, "an unconfirmed deletion must delete nothing");
    let mut rows = 0;
    loop {
        let done = soon(operator.delete_app(delete(first, first))).await.unwrap().into_inner();
        rows += done.rows;
        if done.is_done {
            break;
        }
    }
    let mut left = of_other.clone();
    left[0] -= 1;
    assert_eq!(count_rows(&world).await, left);
    assert_eq!(rows, before.iter().zip(&left).map(|(before, left)| before.abs_diff(*left)).sum::<u64>());
    for ended in [&ann, &bob] {
        let Event::ConnectionStateChanged(end) = ended
            .until("the end of the session", |seen| {
                let end = |event: &&Event| matches!(event, Event::ConnectionStateChanged(it) if it.state() == ConnectionState::Disconnected);
                seen.iter().find(end).cloned()
            })
            .await
        else {
            panic!("another event")
        };
        assert_eq!(end.event(), ConnectionEvent::KickedOut);
    }
    let mut raw = world.raw_after_hello(3).await;
    let gone = zim_protocol::LoginRequest { app_id: first, ..login("ann") };
    assert!(raw.call(&gone).await.is_err());
    // The other app works, and is the first one now.
    other_ann.call(&send_text("bob", "still here", 2)).await.unwrap();
    let file = || std::fs::read_to_string(world.data_dir().join("first-app.toml")).unwrap();
    let start = || std::fs::read_to_string(world.data_dir().join("server.json")).unwrap();
    let id = other.app_id.to_string();
    eventually("the files name the other app", async || {
        (file().contains(&format!("app_id = {id}")) && start().contains(&id)).then_some(())
    })
    .await;
    assert!(file().contains(&other.app_sign));
    let last = soon(operator.delete_app(delete(other.app_id, other.app_id))).await.unwrap_err();
    assert!(last.code() == Code::InvalidArgument && last.message().contains("last app"), "{last}");
    for raw in [other_ann, other_bob, raw] {
        raw.end().await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn mint_token_makes_a_token_that_logs_in() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let request = MintTokenRequest { app_id: world.app_id(), user_id: "ann".into(), effective_seconds: 60 };
    let minted = soon(operator.mint_token(request)).await.unwrap().into_inner();
    assert_eq!(minted.expires_at, world.clock.now_s() + 60);
    let ann = world.client();
    soon(ann.login("ann", LoginConfig { token: minted.token, ..LoginConfig::default() })).await.unwrap();
    for (app_id, user_id, effective_seconds, code) in [
        (world.app_id() ^ 1, "ann", 60, Code::NotFound),
        (world.app_id(), "", 60, Code::InvalidArgument),
        (world.app_id(), "ann", -1, Code::InvalidArgument),
        (world.app_id(), "ann", 25 * 24 * 3_600, Code::InvalidArgument),
    ] {
        let request = MintTokenRequest { app_id, user_id: user_id.into(), effective_seconds };
        assert_eq!(soon(operator.mint_token(request)).await.unwrap_err().code(), code, "{user_id} {effective_seconds}");
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_sessions_shows_connected_users() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let all = ListSessionsRequest { app_id: world.app_id(), user_id: String::new() };
    assert!(soon(operator.list_sessions(all.clone())).await.unwrap().into_inner().sessions.is_empty());
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let sessions = soon(operator.list_sessions(all.clone())).await.unwrap().into_inner().sessions;
    assert_eq!(sessions.iter().map(|one| one.user_id.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(sessions[0].login_at_ms, world.clock.now_ms());
    assert!(sessions[0].address.starts_with("127.0.0.1:"));
    let of_bob = ListSessionsRequest { user_id: "bob".into(), ..all.clone() };
    assert_eq!(soon(operator.list_sessions(of_bob)).await.unwrap().into_inner().sessions.len(), 1);
    soon(ann.logout()).await;
    let sessions = soon(operator.list_sessions(all)).await.unwrap().into_inner().sessions;
    assert_eq!(sessions.iter().map(|one| one.user_id.as_str()).collect::<Vec<_>>(), ["bob"]);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn disconnect_user_ends_all_sessions_and_allows_a_new_login() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    // A login without a connection: it ends as well, and is neither listed nor counted.
    world.device("ann").await.quit().await;
    let listed = ListSessionsRequest { app_id: world.app_id(), user_id: "ann".into() };
    eventually("the end of a connection", async || {
        let sessions = soon(operator.clone().list_sessions(listed.clone())).await.unwrap().into_inner().sessions;
        (sessions.len() == 2).then_some(())
    })
    .await;
    let out = DisconnectUserRequest { app_id: world.app_id(), user_id: "ann".into() };
    assert_eq!(soon(operator.disconnect_user(out.clone())).await.unwrap().into_inner().sessions, 2);
    for device in [&phone, &laptop] {
        device
            .until("kicked out", |seen| {
                let is_it = |event: &Event| {
                    matches!(event, Event::ConnectionStateChanged(changed)
                        if changed.state() == ConnectionState::Disconnected && changed.event() == ConnectionEvent::KickedOut)
                };
                seen.iter().any(is_it).then_some(())
            })
            .await;
    }
    bob.say("ann", "come back").await;
    let phone = world.login(phone, "ann").await;
    phone.receives("come back").await;
    let nobody = DisconnectUserRequest { user_id: "nobody".into(), ..out };
    assert_eq!(soon(operator.disconnect_user(nobody)).await.unwrap_err().code(), Code::NotFound);
    drop(operator);
    world.end().await;
}

/// The names of all methods of the contract.
fn methods() -> Vec<&'static str> {
    let contract = include_str!("../../../protocol/proto/zim/v1/admin.proto");
    let methods = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    let methods: Vec<_> = methods.collect();
    assert!(methods.len() >= 5, "{methods:?}");
    methods
}

/// Stores tasks that have failed too often, one for each of these subjects.
async fn add_dead_tasks(world: &World, subjects: std::ops::Range<i64>) {
    let added = world.server().app().db.submit(Scope::none(), async move |tx| {
        for subject in subjects {
            let sql = "INSERT INTO scheduled_task (kind, subject, generation, at, next_at, attempts, last_error) \
                       VALUES (1, $1, 1, 5, $2, 10, 'as asked')";
            tx.execute(sql, &params![subject, i64::MAX]).await?;
        }
        Ok(())
    });
    added.await.unwrap();
}

#[tokio::test]
async fn list_work_shows_what_has_failed_and_retry_work_and_drop_work_end_that() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    add_dead_tasks(&world, 1..102).await;
    let tasks = WorkQueue::Tasks as i32;
    let list = |after: &str| ListWorkRequest { queue: tasks, after: after.into(), ..ListWorkRequest::default() };
    let first = soon(operator.list_work(list(""))).await.unwrap().into_inner();
    assert_eq!(first.works.len(), 100);
    let dead = Work {
        kind: "custom-status-end".into(),
        id: "1".into(),
        next_at: 0,
        attempts: 10,
        last_error: "as asked".into(),
    };
    assert_eq!(first.works[0], dead);
    let rest = soon(operator.list_work(list(&first.next))).await.unwrap().into_inner();
    assert_eq!((rest.works.len(), rest.works[0].id.as_str(), rest.next.as_str()), (1, "101", ""));
    // What has not failed is listed on request: the server always looks for lost logins.
    let all = ListWorkRequest { all: true, ..list("1/101") };
    let all = soon(operator.list_work(all)).await.unwrap().into_inner().works;
    assert_eq!((all[0].kind.as_str(), all[0].attempts), ("lost-logins", 0));
    let outbox = ListWorkRequest { queue: WorkQueue::Outbox as i32, all: true, ..ListWorkRequest::default() };
    assert!(soon(operator.list_work(outbox)).await.unwrap().into_inner().works.is_empty());

    let work = |kind: &str, id: &str| (tasks, kind.to_owned(), id.to_owned());
    let retry = async |(queue, kind, id)| {
        let done = soon(world.admin().await.retry_work(RetryWorkRequest { queue, kind, id })).await;
        done.map(|done| done.into_inner().is_found).map_err(|status| status.code())
    };
    let drop_it = async |(queue, kind, id)| {
        let done = soon(world.admin().await.drop_work(DropWorkRequest { queue, kind, id })).await;
        done.map(|done| done.into_inner().is_found).map_err(|status| status.code())
    };
    assert_eq!(retry(work("custom-status-end", "1")).await, Ok(true));
    // By its number, as the kind of a newer server is shown.
    assert_eq!(drop_it(work("1", "2")).await, Ok(true));
    eventually("the first two are gone", async || {
        let mut operator = world.admin().await;
        let works = soon(operator.list_work(list(""))).await.unwrap().into_inner().works;
        (works[0].id == "3").then_some(())
    })
    .await;
    assert_eq!(retry(work("custom-status-end", "1")).await, Ok(false));
    assert_eq!(retry(work("lost-logins", "0")).await, Ok(false), "it has not failed");
    assert_eq!(drop_it(work("custom-status-end", "2")).await, Ok(false));
    for (kind, id) in [("make-coffee", "1"), ("custom-status-end", "x"), ("", "1")] {
        assert_eq!(retry(work(kind, id)).await, Err(Code::InvalidArgument), "{kind} {id}");
        assert_eq!(drop_it(work(kind, id)).await, Err(Code::InvalidArgument), "{kind} {id}");
    }
    let unknown = soon(operator.list_work(ListWorkRequest { queue: 0, ..list("") })).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    drop(operator);
    world.end().await;
}

/// Calls a method with an empty request, which every method can decode.
async fn call(channel: &Channel, method: &str, key: Option<&str>) -> Code {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    if let Some(key) = key {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    let path = format!("/zim.v1.Admin/{method}").parse().unwrap();
    let answer: Result<tonic::Response<()>, _> = soon(client.unary(request, path, ProstCodec::default())).await;
    answer.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn every_admin_method_requires_the_key() {
    let world = World::new().await;
    let keyless = world.admin_channel().await;
    for method in methods() {
        for key in [None, Some("wrong")] {
            let code = call(&keyless, method, key).await;
            // Repeated refusals reach the limit of the address.
            assert!(matches!(code, Code::Unauthenticated | Code::ResourceExhausted), "{method}: {code:?}");
        }
    }
    assert_eq!(world.audit(), Vec::<String>::new(), "calls without the key are logged");
    drop(keyless);
    eventually("no session is open", async || world.server().app().fanout.all().is_empty().then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn every_admin_method_writes_an_audit_line() {
    let world = World::new().await;
    let (operator, key) = (world.admin_channel().await, world.admin_key());
    for method in methods() {
        let code = call(&operator, method, Some(&key)).await;
        let lines = world.audit();
        let [line] = lines.as_slice() else { panic!("{method}: {lines:?}") };
        let parts = [format!("method={method:?}"), "peer=uid ".into(), format!("code=\"{code:?}\""), "ms=".into()];
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
        assert!(!line.contains(&key), "{line}");
    }
    let unknown = call(&operator, "MakeCoffee", Some(&key)).await;
    assert_eq!((unknown, world.audit().len()), (Code::Unimplemented, 1));
    let metrics = world.metrics().await;
    assert!(metrics.contains(r#"zim_admin_calls_total{method="ListApps",code="Ok"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"zim_admin_calls_total{method="unknown",code="Unimplemented"} 1"#), "{metrics}");
    drop(operator);
    world.end().await;
}
