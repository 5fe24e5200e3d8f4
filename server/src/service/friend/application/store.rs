//! Rows of applications. Each of the two users has one, which is read and locked with that user.

use std::collections::HashMap;

use zim_protocol::{
    FriendApplicationEntry, FriendApplicationInfo, FriendApplicationType as Kind, UserInfo, feed_entry::Detail,
};

use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::journal::FeedKind;
use crate::key::UserKey;
use crate::service::application::{self, LIFE, Life};
use crate::service::friend::rules::{Application, Remarks};
use crate::service::friend::store::{attributes, text};
use crate::service::rows::{Page, USER, about, user_info};

/// Returns the application between `account` and `peer`, as `account` sees it.
pub(in crate::service::friend) async fn find(
    tx: &mut Tx<'_>,
    account: UserKey,
    peer: UserKey,
) -> Result<Option<Application>, Error> {
    let sql = format!(
        "SELECT type, wording, alias, attributes, {LIFE} FROM friend_application WHERE account = $1 AND peer = $2"
    );
    let Some(row) = tx.fetch_one(&sql, &params![account, peer]).await? else { return Ok(None) };
    let kind = Kind::try_from(row.get::<i32>(0)?);
    Ok(Some(Application {
        kind: kind.map_err(|_| Error::internal_text("an application of an unknown kind"))?,
        wording: row.get(1)?,
        remarks: Remarks { alias: row.get(2)?, attributes: attributes(&row, 3)? },
        life: Life::read(&row, 4)?,
    }))
}

/// Stores the application between `account` and `peer`, as `account` sees it. `place` is the position in the feed of
/// `account`, as for friends.
pub(in crate::service::friend) async fn save(
    tx: &mut Tx<'_>,
    (account, peer): (UserKey, UserKey),
    row: Application,
    place: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO friend_application \
         (account, peer, type, state, wording, alias, attributes, created_at, updated_at, expires_at, place) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (account, peer) DO UPDATE SET type = excluded.type, state = excluded.state, \
         wording = excluded.wording, alias = excluded.alias, attributes = excluded.attributes, \
         created_at = excluded.created_at, updated_at = excluded.updated_at, expires_at = excluded.expires_at, \
         place = excluded.place",
        &params![
            account,
            peer,
            row.kind as i64,
            row.life.state as i64,
            row.wording,
            row.remarks.alias,
            text(&row.remarks.attributes)?,
            row.life.created_at,
            row.life.updated_at,
            row.life.expires_at,
            place
        ],
    )
    .await?;
    Ok(())
}

/// An application changed; the key is the other user.
pub(crate) static APPLICATION: FeedKind = FeedKind {
    number: 5,
    resolve: |tx, user, keys| {
        Box::pin(async move {
            let entries = entries(tx, user, keys).await?;
            Ok(entries.into_iter().map(|(key, entry)| (key, Detail::Application(entry))).collect())
        })
    },
};

/// The columns of an application; they are NULL if there is none.
const COLUMNS: &str = "p.type, p.state, p.wording, p.created_at, p.updated_at, p.expires_at, p.place";

/// Reads [`USER`] and [`COLUMNS`] from column 1 on.
fn info(row: &Row) -> Result<FriendApplicationInfo, Error> {
    Ok(FriendApplicationInfo {
        r#type: row.get(5)?,
        state: row.get(6)?,
        apply_user: Some(user_info(row, 1)?),
        wording: row.get(7)?,
        create_time: row.get(8)?,
        update_time: row.get(9)?,
    })
}

/// Returns the present applications between `account` and these users.
pub(in crate::service::friend) async fn entries(
    tx: &mut Tx<'_>,
    account: UserKey,
    keys: &[i64],
) -> Result<HashMap<i64, FriendApplicationEntry>, Error> {
    let sql = format!(
        "SELECT a.id, {USER}, {COLUMNS} FROM account a \
         LEFT JOIN friend_application p ON p.account = $1 AND p.peer = a.id WHERE a.id IN"
    );
    about(tx, account, keys, &sql, |row| {
        Ok(match row.get::<Option<i64>>(11)? {
            Some(place) => {
                FriendApplicationEntry { info: Some(info(row)?), is_deleted: false, place, expires_at: row.get(10)? }
            }
            None => {
                let peer = UserInfo { user_id: row.get(1)?, ..UserInfo::default() };
                let deleted = FriendApplicationInfo { apply_user: Some(peer), ..FriendApplicationInfo::default() };
                FriendApplicationEntry { info: Some(deleted), is_deleted: true, ..FriendApplicationEntry::default() }
            }
        })
    })
    .await
}

/// Returns a page of the list, the last changed first, and the flag of the next page.
pub(in crate::service::friend) async fn page(
    tx: &mut Tx<'_>,
    account: UserKey,
    page: Page,
    now: i64,
) -> Result<(Vec<FriendApplicationInfo>, i64), Error> {
    let sql = format!(
        "SELECT p.place, {USER}, {COLUMNS} FROM friend_application p JOIN account a ON a.id = p.peer \
         WHERE p.account = $1 AND p.place < $2 ORDER BY p.place DESC LIMIT $3"
    );
    application::page(tx, account, (page, now), &sql, |row| Ok((info(row)?, row.get(10)?))).await
}
