//! Rows of logins on both databases: which logins are kicked out, and which can be resumed.

use bytes::Bytes;
use zim_protocol::id::login_name;
use zim_protocol::{ErrorCode, LoggedOut, LoginRequest, SessionEndReason};

use super::logged_out;
use super::rules::DevicePolicy;
use super::store::{
    Admitted, NewAccount, NewLogin, Until, admit, banned_users, end_all, lift_ban, log_out, register, renew,
    revoke_tokens, set_ban, user_access,
};
use crate::db::tests::{with_postgres, with_sqlite};
use crate::db::{Database, Scope, Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::LogWriter;
use crate::journal::tests::{ANN, Fixture};
use crate::key::{AppKey, LoginKey, UserKey};

/// A login of Ann on a device of its own.
fn login(id: i64) -> NewLogin {
    NewLogin {
        app: AppKey(7),
        user_id: "ann".to_owned(),
        user_name: None,
        custom: None,
        account_id: 1_000,
        login_id: id,
        ticket: id.to_be_bytes().repeat(2).try_into().unwrap(),
        resume: None,
        platform: 5,
        device: id.to_le_bytes().repeat(2).try_into().unwrap(),
        now: 1_000 + id,
        changed_at: 1_000 + id,
        token_ctime: None,
        is_vouched: false,
        one_shot: false,
        logged_out: Vec::new(),
        policy: DevicePolicy::Single,
        is_locked: true,
    }
}

async fn try_admit(fixture: &Fixture, login: NewLogin) -> Result<Admitted, Error> {
    let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| admit(tx, log, login).await;
    let (admitted, _) = fixture.write(ANN, Scope::user(ANN), job).await?;
    Ok(admitted.unwrap())
}

/// Takes the logins that have ended since the last call.
fn ended(fixture: &Fixture) -> Vec<(i64, SessionEndReason)> {
    let effects = std::mem::take(&mut *fixture.effects.lock());
    let of = |effect| match effect {
        Effect::LoginEnded { login, reason, .. } => Some((login.0, reason)),
        // The effects on the user's status and on one-shot logins are tested elsewhere.
        Effect::Status { .. } | Effect::OneShotsEnded { .. } => None,
        other => panic!("{other:?}"),
    };
    effects.into_iter().filter_map(of).collect()
}

async fn rows(fixture: &Fixture) -> i64 {
    let count = fixture.db.read(async |tx: &mut Tx<'_>| {
        Ok(tx.fetch_one("SELECT COUNT(*) FROM session", &[]).await?.unwrap().get::<i64>(0)?)
    });
    count.await.unwrap()
}

async fn logins_are_admitted_and_ended(database: Database) {
    let fixture = Fixture::open(database).await;
    let first = try_admit(&fixture, login(1)).await.unwrap();
    assert!(ended(&fixture).is_empty());

    // A resumed login replaces its former connection under a new key: what still runs there is not taken for its own
    // and does not end it.
    let resume = |id, ticket| NewLogin { resume: Some(ticket), ..login(id) };
    let again = try_admit(&fixture, resume(2, first.ticket)).await.unwrap();
    assert_eq!((again.login, again.ticket, again.login_at), (LoginKey(2), first.ticket, first.login_at));
    assert_eq!(ended(&fixture), [(1, SessionEndReason::Unspecified)]);
    fixture
        .db
        .submit(Scope::user(ANN), async move |tx: &mut Tx<'_>| log_out(tx, ANN, first.login, 3).await)
        .await
        .unwrap();
    assert_eq!(try_admit(&fixture, resume(3, first.ticket)).await.unwrap().login, LoginKey(3));
    assert_eq!((ended(&fixture), rows(&fixture).await), (vec![(2, SessionEndReason::Unspecified)], 1));

    // A login that was kicked out or ended cannot be resumed; after a logout a new one begins.
    let second = try_admit(&fixture, login(4)).await.unwrap();
    assert_eq!(ended(&fixture), [(3, SessionEndReason::KickedOut)]);
    assert!(try_admit(&fixture, resume(5, first.ticket)).await.is_err());
    let count = fixture.db.submit(Scope::user(ANN), async |tx: &mut Tx<'_>| end_all(tx, ANN, 3).await).await.unwrap();
    assert_eq!((count, ended(&fixture)), (1, vec![(4, SessionEndReason::EndedByOperator)]));
    assert!(try_admit(&fixture, resume(6, second.ticket)).await.is_err());
    let third = try_admit(&fixture, login(7)).await.unwrap();
    fixture
        .db
        .submit(Scope::user(ANN), async move |tx: &mut Tx<'_>| log_out(tx, ANN, third.login, 3).await)
        .await
        .unwrap();
    assert_eq!(try_admit(&fixture, resume(8, third.ticket)).await.unwrap().ticket, login(8).ticket);
    assert!(ended(&fixture).is_empty());

    // Without the lock nothing is done for a registered user; a user who is not registered has nothing to lock.
    let unlocked = async |login: NewLogin| {
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| admit(tx, log, login).await;
        fixture.write(ANN, Scope::none(), job).await.map(|(admitted, _)| admitted)
    };
    let before = rows(&fixture).await;
    assert!(unlocked(NewLogin { is_locked: false, ..login(9) }).await.unwrap().is_none());
    assert_eq!((rows(&fixture).await, ended(&fixture)), (before, vec![]));
    let new = NewLogin { is_locked: false, user_id: "new".to_owned(), ..login(9) };
    assert!(unlocked(new.clone()).await.unwrap().is_some());
    assert!(unlocked(new).await.unwrap().is_none());
    assert_eq!(rows(&fixture).await, before + 1);
    fixture.execute("DELETE FROM session WHERE account = 1000").await;

    // Repeated logins do not fill the table.
    for id in 10..60 {
        try_admit(&fixture, login(id)).await.unwrap();
    }
    assert_eq!(rows(&fixture).await, 33, "the active one, and 32 that were kicked out");
    the_operators_decisions_apply_at_once(&fixture).await;
    fixture.db.close().await;
}

/// Runs a job under Ann's lock.
macro_rules! locked {
    ($fixture:expr, $tx:ident => $job:expr) => {
        $fixture.db.submit(Scope::user(ANN), async move |$tx: &mut Tx<'_>| $job.await).await
    };
}

async fn the_operators_decisions_apply_at_once(fixture: &Fixture) {
    const BY_OPERATOR: SessionEndReason = SessionEndReason::EndedByOperator;
    fixture.execute("DELETE FROM session").await;
    let policy = DevicePolicy::Multi { native: 10, web: 10 };
    let of_token = |id, ctime| NewLogin { policy, token_ctime: Some(ctime), ..login(id) };
    let of_sign = |id, second: i64| NewLogin { policy, now: second * 1_000, ..login(id) };
    drop(ended(fixture));

    // A revocation ends the logins by older tokens and by the app sign, and refuses those tokens; newer ones are not
    // affected.
    let old = try_admit(fixture, of_token(101, 500)).await.unwrap();
    try_admit(fixture, of_token(102, 501)).await.unwrap();
    try_admit(fixture, of_sign(103, 500)).await.unwrap();
    assert_eq!(locked!(fixture, tx => revoke_tokens(tx, ANN, Until::Made(500), 9)).unwrap(), (2, 500, true));
    assert_eq!(ended(fixture), [(101, BY_OPERATOR), (103, BY_OPERATOR)]);
    let code = |refused: Result<Admitted, Error>| refused.unwrap_err().code();
    assert_eq!(code(try_admit(fixture, of_token(104, 500)).await), ErrorCode::NetworkModuleTokenExpired);
    try_admit(fixture, of_token(104, 501)).await.unwrap();
    try_admit(fixture, of_sign(105, 501)).await.unwrap();
    // A device that was offline learns that its login was ended.
    let back = NewLogin { resume: Some(old.ticket), ..of_token(106, 501) };
    let refused = try_admit(fixture, back).await.unwrap_err();
    assert_eq!(refused.to_wire().details["reason"], "endedByOperator");
    // A revocation up to an earlier second changes nothing.
    assert_eq!(locked!(fixture, tx => revoke_tokens(tx, ANN, Until::Made(400), 9)).unwrap(), (0, 500, false));
    // A renewal needs a token that a login would accept, and makes the login as new as its token.
    assert!(locked!(fixture, tx => renew(tx, ANN, LoginKey(102), 500, 9)).is_err());
    locked!(fixture, tx => renew(tx, ANN, LoginKey(102), 600, 9)).unwrap();
    drop(ended(fixture));
    assert_eq!(locked!(fixture, tx => revoke_tokens(tx, ANN, Until::Made(501), 9)).unwrap(), (2, 501, true));
    assert_eq!(ended(fixture), [(104, BY_OPERATOR), (105, BY_OPERATOR)]);

    // A ban refuses every login until it ends or is lifted.
    let now = login(0).now;
    locked!(fixture, tx => set_ban(tx, ANN, now, now + 210)).unwrap();
    assert_eq!(locked!(fixture, tx => end_all(tx, ANN, 9)).unwrap(), 1);
    assert_eq!(ended(fixture), [(102, BY_OPERATOR)]);
    for request in [of_token(209, 999), NewLogin { policy, ..login(209) }, NewLogin { one_shot: true, ..login(209) }] {
        assert_eq!(code(try_admit(fixture, request).await), ErrorCode::NetworkModuleTokenInvalid);
    }
    assert!(locked!(fixture, tx => renew(tx, ANN, LoginKey(102), 999, now + 209)).is_err());
    try_admit(fixture, of_token(210, 999)).await.unwrap();
    locked!(fixture, tx => set_ban(tx, ANN, now, 0)).unwrap();
    let access = locked!(fixture, tx => user_access(tx, ANN, now)).unwrap().unwrap();
    assert_eq!((access.is_banned, access.banned_at, access.ban_ends_at, access.tokens_revoked_at), (true, now, 0, 501));
    let page = locked!(fixture, tx => banned_users(tx, AppKey(7), UserKey(0), 1, now)).unwrap();
    assert_eq!((page.users.len(), page.next_flag), (1, 0));
    assert!(locked!(fixture, tx => banned_users(tx, AppKey(8), UserKey(0), 1, now)).unwrap().users.is_empty());
    assert!(locked!(fixture, tx => lift_ban(tx, ANN, now)).unwrap());
    assert!(!locked!(fixture, tx => lift_ban(tx, ANN, now)).unwrap());
    try_admit(fixture, of_sign(211, 1)).await.unwrap();

    // All tokens that the user has now: one by a clock that is ahead, and one made in the second of a revocation.
    fixture.execute("DELETE FROM session").await;
    try_admit(fixture, of_token(220, 900)).await.unwrap();
    drop(ended(fixture));
    assert_eq!(locked!(fixture, tx => revoke_tokens(tx, ANN, Until::Now(700), 9)).unwrap(), (1, 900, true));
    assert_eq!(ended(fixture), [(220, BY_OPERATOR)]);
    assert_eq!(code(try_admit(fixture, of_token(221, 900)).await), ErrorCode::NetworkModuleTokenExpired);
    assert_eq!(locked!(fixture, tx => revoke_tokens(tx, ANN, Until::Now(900), 9)).unwrap(), (0, 901, true));
    assert_eq!(code(try_admit(fixture, of_token(222, 901)).await), ErrorCode::NetworkModuleTokenExpired);
    try_admit(fixture, of_token(223, 902)).await.unwrap();

    // A second registration does nothing.
    let dora = NewAccount {
        app: AppKey(7),
        user_id: "dora".to_owned(),
        user_name: "Dora".to_owned(),
        id: 2_000,
        now,
        changed_at: now,
    };
    let again = dora.clone();
    assert!(locked!(fixture, tx => register(tx, dora)).unwrap());
    assert!(!locked!(fixture, tx => register(tx, again)).unwrap());
}

/// The device of all logins in a test of pushes.
const DEVICE: [u8; 16] = [9; 16];

/// Ann registers for pushes with a login; `None`: as before logins were noted.
async fn registers(fixture: &Fixture, id: Option<i64>) {
    let login = id.map_or_else(Vec::new, |id| login_name(&login(id).ticket).to_vec());
    let job = async move |tx: &mut Tx<'_>| {
        let sql = "INSERT INTO push_id (id, app, account, device, slot, platform, source, app_type, token, token_hash, p256dh, auth, \
                   registered_at, login) VALUES (1, 7, $1, $2, 0, 5, 1, 0, 'token', $2, $2, $2, 1, $3)";
        tx.execute(sql, &params![ANN, DEVICE.to_vec(), login]).await?;
        tx.execute("UPDATE push_id SET login = NULL WHERE login = $1", &params![Vec::<u8>::new()]).await?;
        Ok(())
    };
    fixture.db.submit(Scope::user(ANN), job).await.unwrap();
}

/// Logs Ann in on the device, which tells that these logins have ended; 0: it does not know which. Returns how many registrations are
/// left, and removes them.
async fn left_after(fixture: &Fixture, id: i64, resume: Option<i64>, noted: &[i64]) -> i64 {
    let note = |noted: &i64| LoggedOut {
        user_id: "ann".to_owned(),
        login: match noted {
            0 => Bytes::new(),
            id => Bytes::copy_from_slice(&login_name(&login(*id).ticket)),
        },
    };
    let resume = resume.map(|id| login(id).ticket);
    let logged_out = noted.iter().map(note).collect();
    try_admit(fixture, NewLogin { device: DEVICE, resume, logged_out, ..login(id) }).await.unwrap();
    let left = fixture.db.submit(Scope::user(ANN), async |tx: &mut Tx<'_>| {
        let left = tx.fetch_one("SELECT COUNT(*) FROM push_id", &[]).await?.unwrap().get::<i64>(0)?;
        tx.execute("DELETE FROM push_id", &[]).await?;
        Ok(left)
    });
    left.await.unwrap()
}

async fn a_note_of_a_logout_ends_the_pushes_of_its_login(database: Database) {
    let fixture = Fixture::open(database).await;
    left_after(&fixture, 1, None, &[]).await;
    // Its own, that of before, and without a name any.
    for (registered, noted, left) in [
        (Some(1), &[1][..], 0),
        (None, &[1], 0),
        (Some(1), &[0], 0),
        (Some(1), &[2], 1),
        (Some(1), &[2, 3], 1),
        (Some(1), &[2, 1], 0),
        (Some(1), &[2, 0], 0),
        (Some(1), &[], 1),
        (None, &[], 1),
    ] {
        registers(&fixture, registered).await;
        // The login goes on after a lost connection.
        assert_eq!(left_after(&fixture, 9, Some(1), noted).await, left, "{registered:?} {noted:?}");
    }
    // A later login of the device takes the registration over: the end of an earlier one is none of it any more, but its own is.
    registers(&fixture, Some(1)).await;
    let takes_over = NewLogin { device: DEVICE, ..login(10) };
    try_admit(&fixture, takes_over).await.unwrap();
    assert_eq!(left_after(&fixture, 11, Some(10), &[1]).await, 1);
    registers(&fixture, None).await;
    try_admit(&fixture, NewLogin { device: DEVICE, ..login(12) }).await.unwrap();
    assert_eq!(left_after(&fixture, 13, Some(12), &[12]).await, 0);
    // A login that is told of the end of the one before does not take over what that has registered.
    registers(&fixture, Some(12)).await;
    assert_eq!(left_after(&fixture, 14, None, &[12]).await, 0);
    fixture.db.close().await;
}

#[tokio::test]
async fn a_note_of_a_logout_ends_the_pushes_of_its_login_on_sqlite() {
    with_sqlite(a_note_of_a_logout_ends_the_pushes_of_its_login).await;
}

#[tokio::test]
async fn a_note_of_a_logout_ends_the_pushes_of_its_login_on_postgresql() {
    with_postgres("note", a_note_of_a_logout_ends_the_pushes_of_its_login).await;
}

#[test]
fn an_sdk_of_before_names_no_login() {
    let note = |user_id: &str, login: &'static [u8]| LoggedOut {
        user_id: user_id.to_owned(),
        login: Bytes::from_static(login),
    };
    let request = LoginRequest {
        user_id: "ann".to_owned(),
        logged_out_user_ids: vec!["bob".to_owned()],
        ..LoginRequest::default()
    };
    assert_eq!(logged_out(&request), [note("bob", &[])]);
    let request = LoginRequest { was_logged_out: true, ..request };
    assert_eq!(logged_out(&request), [note("ann", &[]), note("bob", &[])]);
    let request = LoginRequest { logged_out: vec![note("ann", &[1; 16])], ..request };
    assert_eq!(logged_out(&request), [note("ann", &[1; 16])]);
}

#[tokio::test]
async fn logins_are_admitted_and_ended_on_sqlite() {
    with_sqlite(logins_are_admitted_and_ended).await;
}

#[tokio::test]
async fn logins_are_admitted_and_ended_on_postgresql() {
    with_postgres("session", logins_are_admitted_and_ended).await;
}
