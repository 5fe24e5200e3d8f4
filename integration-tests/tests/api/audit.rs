//! The audit log: what the operator has changed.

use tonic::Code;
use zim_integration_tests::{OperatorClient, World, eventually, soon};
use zim_protocol::{
    AuditRow, BanUserRequest, CallAsUserRequest, CreateAppRequest, DeleteAppRequest, DisconnectUserRequest,
    GetUserRequest, ListAuditRequest, Message, MintTokenRequest, RegisterUserRequest, Rpc, SendServerMessageRequest,
    UpdateUserNameRequest,
};
use zim_server::db::{Note, Scope, Value, params};

fn all(app_id: u32) -> ListAuditRequest {
    ListAuditRequest { app_id, ..ListAuditRequest::default() }
}

pub(crate) async fn rows(operator: &mut OperatorClient, request: ListAuditRequest) -> Vec<AuditRow> {
    soon(operator.list_audit(request)).await.unwrap().into_inner().rows
}

/// What was done to whom, the newest first.
pub(crate) fn actions(rows: &[AuditRow]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (row.action.as_str(), row.user_id.as_str())).collect()
}

fn message(from: &str, to: &str) -> SendServerMessageRequest {
    SendServerMessageRequest {
        from_user_id: from.into(),
        to_conversation_id: to.into(),
        message: Some(Message::text("hi")),
        ..SendServerMessageRequest::default()
    }
}

#[tokio::test]
async fn list_audit_has_a_row_for_each_call_that_changed_something() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    // The conversation exists: to make one is a change.
    ann.say("bob", "first").await;
    bob.receives("first").await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    assert_eq!(rows(&mut operator, all(0)).await, []);

    // What only reads leaves no row, and what is refused neither.
    let user = |user_id: &str| GetUserRequest { app_id, user_id: user_id.into() };
    soon(operator.get_user(user("ann"))).await.unwrap();
    let ban = |user_id: &str| BanUserRequest { app_id, user_id: user_id.into(), seconds: 60 };
    assert_eq!(soon(operator.ban_user(ban("nobody"))).await.unwrap_err().code(), Code::NotFound);
    soon(ann.add_users_to_blacklist(["bob"])).await.unwrap();
    let refused = SendServerMessageRequest { app_id, ..message("bob", "ann") };
    assert_eq!(soon(operator.send_server_message(refused)).await.unwrap_err().code(), Code::FailedPrecondition);
    // The first row is a barrier: what comes before it would be in the list.
    world.clock.advance(1_000);
    soon(operator.ban_user(ban("ann"))).await.unwrap();
    let found = rows(&mut operator, all(0)).await;
    assert_eq!(actions(&found), [("BanUser", "ann")]);
    let row = &found[0];
    assert_eq!((row.app_id, row.at, row.detail.as_str()), (app_id, world.clock.now_ms(), "for 60 s"));
    assert!(!row.actor.is_empty());

    world.clock.advance(1_000);
    let sent = SendServerMessageRequest { app_id, ..message("ann", "bob") };
    soon(operator.send_server_message(sent)).await.unwrap();
    bob.receives("hi").await;
    world.clock.advance(1_000);
    let rename = UpdateUserNameRequest { user_name: "Bobby".into() };
    let call = CallAsUserRequest {
        app_id,
        user_id: "bob".into(),
        method: UpdateUserNameRequest::METHOD.path.into(),
        payload: prost::Message::encode_to_vec(&rename).into(),
    };
    soon(operator.call_as_user(call)).await.unwrap();
    world.clock.advance(1_000);
    let token = MintTokenRequest { app_id, user_id: "bob".into(), effective_seconds: 60 };
    let token = soon(operator.mint_token(token)).await.unwrap().into_inner().token;
    let found = rows(&mut operator, all(app_id)).await;
    let expected = [("MintToken", "bob"), ("CallAsUser", "bob"), ("SendServerMessage", "ann"), ("BanUser", "ann")];
    assert_eq!(actions(&found), expected);
    assert_eq!(found[1].detail, "User/UpdateUserName");
    assert!(found.iter().all(|row| !row.detail.contains(&token)));
    let of_bob = rows(&mut operator, ListAuditRequest { user_id: "bob".into(), ..all(app_id) }).await;
    assert_eq!(of_bob, found[..2]);
    let without_app = ListAuditRequest { user_id: "bob".into(), ..all(0) };
    assert_eq!(soon(operator.list_audit(without_app)).await.unwrap_err().code(), Code::InvalidArgument);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_audit_has_the_rows_of_an_app_that_is_deleted() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    soon(operator.create_app(CreateAppRequest { app_id: 77, name: "Chess".into() })).await.unwrap();
    world.clock.advance(1_000);
    soon(operator.delete_app(DeleteAppRequest { app_id: 77, confirm: 77 })).await.unwrap();
    let found = rows(&mut operator, all(77)).await;
    assert_eq!(
        actions(&found),
        [("DeleteApp", ""), ("CreateApp", "")],
        "each call has one row, however much it writes"
    );
    assert_eq!(found[1].detail, "name \"Chess\"");
    assert_eq!(rows(&mut operator, all(world.app_id())).await, []);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_audit_has_pages() {
    let world = World::new().await;
    let _ann = world.user("ann").await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    for _ in 0..5 {
        world.clock.advance(1_000);
        let disconnect = DisconnectUserRequest { app_id, user_id: "ann".into() };
        soon(operator.disconnect_user(disconnect)).await.unwrap();
    }
    let (mut times, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListAuditRequest { after, count: 2, ..all(0) };
        let page = soon(operator.list_audit(request)).await.unwrap().into_inner();
        times.extend(page.rows.iter().map(|row| row.at));
        (after, pages) = (page.next, pages + 1);
        if after.is_empty() {
            break;
        }
    }
    let now = world.clock.now_ms();
    assert_eq!((times, pages), ((0..5).map(|ago| now - ago * 1_000).collect(), 3));
    let bad = ListAuditRequest { after: "x".into(), ..all(0) };
    assert_eq!(soon(operator.list_audit(bad)).await.unwrap_err().code(), Code::InvalidArgument);
    drop(operator);
    world.end().await;
}

/// A note that cannot be stored takes the change with it.
#[tokio::test]
async fn what_is_changed_and_its_note_are_stored_together() {
    let world = World::new().await;
    let db = &world.server().app().db;
    let app_id = i64::from(world.app_id());
    let rename = async |name: &'static str, sql: &'static str, values: Vec<Value>| {
        let note = Note::new(move || (sql, values.clone()));
        let renamed = async {
            let job = db.submit(Scope::none(), async move |tx| {
                tx.execute("UPDATE app SET name = $1 WHERE id = $2", &params![name, app_id]).await?;
                Ok(())
            });
            job.await
        };
        soon(note.beside(renamed)).await
    };
    let name = async || {
        let read = db.read(async move |tx| {
            let row = tx.fetch_one("SELECT name FROM app WHERE id = $1", &params![app_id]).await?;
            Ok(row.unwrap().get::<String>(0)?)
        });
        soon(read).await.unwrap()
    };
    // At a time that is not old, or the row is deleted.
    let insert = "INSERT INTO audit (id, app, at, actor, action, target, detail) \
                  VALUES ($1, 0, 4000000000000, '', 'x', '', '')";
    rename("first", insert, params![5_i64].to_vec()).await.unwrap();
    assert_eq!(name().await, "first");
    // The row is there already.
    rename("second", insert, params![5_i64].to_vec()).await.unwrap_err();
    assert_eq!(name().await, "first");
    world.end().await;
}

#[tokio::test]
async fn old_rows_of_the_audit_log_are_deleted() {
    let mut world = World::new().await;
    let app_id = world.app_id();
    let register = |user_id: &str| RegisterUserRequest { app_id, user_id: user_id.into(), user_name: String::new() };
    soon(world.admin().await.register_user(register("ann"))).await.unwrap();
    world.stop_server().await;
    world.clock.advance(729 * 86_400_000);
    world.start_server().await;
    soon(world.admin().await.register_user(register("bob"))).await.unwrap();
    assert_eq!(rows(&mut world.admin().await, all(0)).await.len(), 2);
    world.clock.advance(2 * 86_400_000);
    let left = eventually("the old row is gone", async || {
        let found = rows(&mut world.admin().await, all(0)).await;
        (found.len() < 2).then_some(found)
    });
    assert_eq!(actions(&left.await), [("RegisterUser", "bob")]);
    world.end().await;
}
