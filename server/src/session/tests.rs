//! Rows of logins on both databases: who pushes whom out, who may come back.

use zim_protocol::SessionEndReason;

use super::rules::DevicePolicy;
use super::store::{Admitted, NewLogin, admit, end_all, forget};
use crate::db::tests::postgres::Cluster;
use crate::db::{Database, Locks, Tx};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::tests::{ANN, House};
use crate::key::{AppKey, SessionKey};

/// A login of ann on a device of its own.
fn login(id: i64) -> NewLogin {
    NewLogin {
        app: AppKey(7),
        user_id: "ann".to_owned(),
        user_name: None,
        custom: None,
        account_id: 1_000,
        session_id: id,
        ticket: id.to_be_bytes().repeat(2).try_into().unwrap(),
        resume: None,
        platform: 5,
        device: id.to_le_bytes().repeat(2).try_into().unwrap(),
        now: 1_000 + id,
        noted_at: 1_000 + id,
        one_shot: false,
        policy: DevicePolicy::Single,
        is_locked: true,
    }
}

async fn enter(house: &House, login: NewLogin) -> Result<Admitted, Error> {
    let admitted = house.db.submit(0, Locks::user(ANN.0), async move |tx: &mut Tx<'_>| admit(tx, login).await);
    Ok(admitted.await?.unwrap())
}

/// The logins that ended since the last look.
fn ended(house: &House) -> Vec<(i64, SessionEndReason)> {
    let told = std::mem::take(&mut *house.told.lock());
    let of = |effect| match effect {
        Effect::Ended { session, reason, .. } => Some((session.0, reason)),
        // What that means for how the user is seen is not tested here.
        Effect::Status { .. } => None,
        other => panic!("{other:?}"),
    };
    told.into_iter().filter_map(of).collect()
}

async fn rows(house: &House) -> i64 {
    let count = house.db.read(async |tx: &mut Tx<'_>| {
        Ok(tx.fetch_one("SELECT COUNT(*) FROM session", &[]).await?.unwrap().get::<i64>(0)?)
    });
    count.await.unwrap()
}

async fn everything(database: Database) {
    let house = House::open(database).await;
    let first = enter(&house, login(1)).await.unwrap();
    assert!(ended(&house).is_empty());

    // Who comes back takes the place of the connection before, under an id of its own: what is still on its way there is
    // neither taken for his own nor does it end him.
    let resume = |id, ticket| NewLogin { resume: Some(ticket), ..login(id) };
    let again = enter(&house, resume(2, first.ticket)).await.unwrap();
    assert_eq!((again.session, again.ticket, again.login_at), (SessionKey(2), first.ticket, first.login_at));
    assert_eq!(ended(&house), [(1, SessionEndReason::Unspecified)]);
    house
        .db
        .submit(0, Locks::user(ANN.0), async move |tx: &mut Tx<'_>| forget(tx, ANN, first.session, 3).await)
        .await
        .unwrap();
    assert_eq!(enter(&house, resume(3, first.ticket)).await.unwrap().session, SessionKey(3));
    assert_eq!((ended(&house), rows(&house).await), (vec![(2, SessionEndReason::Unspecified)], 1));

    // Who was pushed out, or ended, does not come back; who logged out begins anew.
    let second = enter(&house, login(4)).await.unwrap();
    assert_eq!(ended(&house), [(3, SessionEndReason::KickedOut)]);
    assert!(enter(&house, resume(5, first.ticket)).await.is_err());
    let count =
        house.db.submit(0, Locks::user(ANN.0), async |tx: &mut Tx<'_>| end_all(tx, ANN, 3).await).await.unwrap();
    assert_eq!((count, ended(&house)), (1, vec![(4, SessionEndReason::KickedOut)]));
    assert!(enter(&house, resume(6, second.ticket)).await.is_err());
    let third = enter(&house, login(7)).await.unwrap();
    house
        .db
        .submit(0, Locks::user(ANN.0), async move |tx: &mut Tx<'_>| forget(tx, ANN, third.session, 3).await)
        .await
        .unwrap();
    assert_eq!(enter(&house, resume(8, third.ticket)).await.unwrap().ticket, login(8).ticket);
    assert!(ended(&house).is_empty());

    // Without his lock nothing is done for somebody who is registered; who is not is nobody's to lock.
    let unlocked =
        |login: NewLogin| house.db.submit(0, Locks::none(), async move |tx: &mut Tx<'_>| admit(tx, login).await);
    let before = rows(&house).await;
    assert!(unlocked(NewLogin { is_locked: false, ..login(9) }).await.unwrap().is_none());
    assert_eq!((rows(&house).await, ended(&house)), (before, vec![]));
    let new = NewLogin { is_locked: false, user_id: "new".to_owned(), ..login(9) };
    assert!(unlocked(new.clone()).await.unwrap().is_some());
    assert!(unlocked(new).await.unwrap().is_none());
    assert_eq!(rows(&house).await, before + 1);
    house.execute("DELETE FROM session WHERE account = 1000").await;

    // Somebody who logs in again and again fills no table.
    for id in 10..60 {
        enter(&house, login(id)).await.unwrap();
    }
    assert_eq!(rows(&house).await, 33, "the good one, and 32 that were pushed out");
    house.db.close().await;
}

#[tokio::test]
async fn logins_come_and_go_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    everything(Database::Sqlite(dir.path().join("test.db"))).await;
}

#[tokio::test]
async fn logins_come_and_go_on_postgresql() {
    let cluster = Cluster::start().unwrap();
    everything(Database::Postgres(cluster.create_database("session").unwrap())).await;
}
