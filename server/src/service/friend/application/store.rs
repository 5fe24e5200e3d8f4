//! Rows of applications. Each of the two users has one, which is read and locked with that user.

use std::collections::HashMap;

use zim_protocol::{
    FriendApplicationEntry, FriendApplicationInfo, FriendApplicationState as State, FriendApplicationType as Kind,
    UserInfo, feed_entry::Detail,
};

use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::key::UserKey;
use crate::service::friend;
use crate::service::friend::rules::{Application, Remarks, state_at};
use crate::service::friend::store::{attributes, text};

/// Returns the application between `account` and `peer`, as `account` sees it.
pub(in crate::service::friend) async fn find(
    tx: &mut Tx<'_>,
    account: UserKey,
    peer: UserKey,
) -> Result<Option<Application>, Error> {
    let sql = "SELECT type, state, wording, alias, attributes, created_at, updated_at, expires_at \
               FROM friend_application WHERE account = $1 AND peer = $2";
    let Some(row) = tx.fetch_one(sql, &params![account, peer]).await? else { return Ok(None) };
    let broken = |_| Error::internal_text("an application of an unknown kind");
    Ok(Some(Application {
        kind: Kind::try_from(row.get::<i32>(0)?).map_err(broken)?,
        state: State::try_from(row.get::<i32>(1)?).map_err(broken)?,
        wording: row.get(2)?,
        remarks: Remarks { alias: row.get(3)?, attributes: attributes(&row, 4)? },
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
        expires_at: row.get(7)?,
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
            row.state as i64,
            row.wording,
            row.remarks.alias,
            text(&row.remarks.attributes)?,
            row.created_at,
            row.updated_at,
            row.expires_at,
            place
        ],
    )
    .await?;
    Ok(())
}

const COLUMNS: &str = "a.id, a.name, a.user_name, a.avatar_url, a.extended_data, \
                       p.type, p.state, p.wording, p.created_at, p.updated_at, p.expires_at, p.place";

fn info(row: &Row) -> Result<FriendApplicationInfo, Error> {
    Ok(FriendApplicationInfo {
        r#type: row.get(5)?,
        state: row.get(6)?,
        apply_user: Some(UserInfo {
            user_id: row.get(1)?,
            user_name: row.get(2)?,
            user_avatar_url: row.get(3)?,
            user_extended_data: row.get(4)?,
        }),
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
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, account.into());
    let sql = format!(
        "SELECT {COLUMNS} FROM account a LEFT JOIN friend_application p ON p.account = $1 AND p.peer = a.id \
         WHERE a.id IN {list}"
    );
    let mut entries = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let entry = match row.get::<Option<i64>>(11)? {
            Some(place) => {
                FriendApplicationEntry { info: Some(info(&row)?), is_deleted: false, place, expires_at: row.get(10)? }
            }
            None => {
                let peer = UserInfo { user_id: row.get(1)?, ..UserInfo::default() };
                let deleted = FriendApplicationInfo { apply_user: Some(peer), ..FriendApplicationInfo::default() };
                FriendApplicationEntry { info: Some(deleted), is_deleted: true, ..FriendApplicationEntry::default() }
            }
        };
        entries.insert(row.get(0)?, entry);
    }
    Ok(entries)
}

/// Returns feed entries.
pub(crate) async fn feed_entries(
    tx: &mut Tx<'_>,
    account: UserKey,
    keys: &[i64],
) -> Result<HashMap<i64, Detail>, Error> {
    let entries = entries(tx, account, keys).await?;
    Ok(entries.into_iter().map(|(key, entry)| (key, Detail::Application(entry))).collect())
}

/// Returns a page of the list before the place `before`, the last changed first, and the place that the next page
/// starts after, 0 at the end.
pub(in crate::service::friend) async fn page(
    tx: &mut Tx<'_>,
    account: UserKey,
    (before, count): (i64, i64),
    now: i64,
) -> Result<(Vec<FriendApplicationInfo>, i64), Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM friend_application p JOIN account a ON a.id = p.peer \
         WHERE p.account = $1 AND p.place < $2 ORDER BY p.place DESC LIMIT $3"
    );
    let rows = tx.fetch(&sql, &params![account, before, count + 1]).await?;
    friend::page(&rows, count, 11, |row| {
        let info = info(row)?;
        let state = state_at(info.state(), row.get(10)?, now);
        Ok(FriendApplicationInfo { state: state as i32, ..info })
    })
}
