//! Rows of friends.

use std::collections::{HashMap, HashSet};

use zim_protocol::{FriendEntry, FriendInfo, feed_entry::Detail};

use super::rules::{Attributes, Remarks};
use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::key::UserKey;

/// A row of a list of friends.
#[derive(Debug)]
pub(super) struct Friend {
    pub(super) remarks: Remarks,
    pub(super) wording: String,
    pub(super) created_at: i64,
    /// The position in the owner's feed at which the friend was added. It orders the list and reveals nothing of other
    /// users.
    pub(super) place: i64,
}

/// Returns the remarks of `account` about `friend`, if they are on its list.
pub(super) async fn find(tx: &mut Tx<'_>, account: UserKey, friend: UserKey) -> Result<Option<Remarks>, Error> {
    let sql = "SELECT alias, attributes FROM friend WHERE account = $1 AND friend = $2";
    let Some(row) = tx.fetch_one(sql, &params![account, friend]).await? else { return Ok(None) };
    Ok(Some(Remarks { alias: row.get(0)?, attributes: attributes(&row, 1)? }))
}

/// Returns the number of friends of a user.
pub(super) async fn count(tx: &mut Tx<'_>, account: UserKey) -> Result<u64, Error> {
    let row = tx.fetch_one("SELECT COUNT(*) FROM friend WHERE account = $1", &params![account]).await?;
    row.map_or(Ok(0), |row| Ok(row.get::<i64>(0)?.unsigned_abs()))
}

/// Adds a row to a list.
pub(super) async fn insert(tx: &mut Tx<'_>, account: UserKey, friend: UserKey, row: Friend) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO friend (account, friend, alias, attributes, wording, created_at, place) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &params![
            account,
            friend,
            row.remarks.alias,
            text(&row.remarks.attributes)?,
            row.wording,
            row.created_at,
            row.place
        ],
    )
    .await?;
    Ok(())
}

/// Changes the remarks of `account` about a friend.
pub(super) async fn update(tx: &mut Tx<'_>, account: UserKey, friend: UserKey, remarks: Remarks) -> Result<(), Error> {
    tx.execute(
        "UPDATE friend SET alias = $3, attributes = $4 WHERE account = $1 AND friend = $2",
        &params![account, friend, remarks.alias, text(&remarks.attributes)?],
    )
    .await?;
    Ok(())
}

/// Removes a row from a list.
pub(super) async fn remove(tx: &mut Tx<'_>, account: UserKey, friend: UserKey) -> Result<(), Error> {
    tx.execute("DELETE FROM friend WHERE account = $1 AND friend = $2", &params![account, friend]).await?;
    Ok(())
}

/// Returns those of `others` who are on the list of `account`, and those on whose lists `account` is.
pub(super) async fn relations(
    tx: &mut Tx<'_>,
    account: UserKey,
    others: &[UserKey],
) -> Result<(HashSet<UserKey>, HashSet<UserKey>), Error> {
    let (list, mut params) = tx.dialect().in_list(others.iter().copied(), 2);
    params.insert(0, account.into());
    let on_mine = format!("SELECT friend FROM friend WHERE account = $1 AND friend IN {list}");
    let on_theirs = format!("SELECT account FROM friend WHERE friend = $1 AND account IN {list}");
    let (mine, theirs) = (tx.fetch(&on_mine, &params).await?, tx.fetch(&on_theirs, &params).await?);
    let keys = |rows: Vec<Row>| rows.iter().map(|row| Ok(UserKey(row.get(0)?))).collect::<Result<_, Error>>();
    Ok((keys(mine)?, keys(theirs)?))
}

/// The columns of a user and a friend; those from the sixth on are NULL if the user is no friend.
const COLUMNS: &str = "a.id, a.name, a.user_name, a.avatar_url, a.extended_data, \
                       f.alias, f.attributes, f.wording, f.created_at, f.place";

fn info(row: &Row) -> Result<FriendInfo, Error> {
    Ok(FriendInfo {
        user_id: row.get(1)?,
        user_name: row.get(2)?,
        user_avatar_url: row.get(3)?,
        user_extended_data: row.get(4)?,
        friend_alias: row.get(5)?,
        friend_attributes: attributes(row, 6)?.into_iter().collect(),
        wording: row.get(7)?,
        create_time: row.get(8)?,
    })
}

/// Returns these users as `account` sees them now; those who are no friends are marked as deleted.
pub(super) async fn entries(
    tx: &mut Tx<'_>,
    account: UserKey,
    keys: &[i64],
) -> Result<HashMap<i64, FriendEntry>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, account.into());
    let sql = format!(
        "SELECT {COLUMNS} FROM account a LEFT JOIN friend f ON f.account = $1 AND f.friend = a.id WHERE a.id IN {list}"
    );
    let mut entries = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let entry = match row.get::<Option<i64>>(9)? {
            Some(place) => FriendEntry { info: Some(info(&row)?), is_deleted: false, place },
            None => {
                let deleted = FriendInfo { user_id: row.get(1)?, ..FriendInfo::default() };
                FriendEntry { info: Some(deleted), is_deleted: true, place: 0 }
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
    Ok(entries.into_iter().map(|(key, entry)| (key, Detail::Friend(entry))).collect())
}

/// Returns a page of the list before the place `before`, the newest friend first, and the place that the next page
/// starts after, 0 at the end.
pub(super) async fn page(
    tx: &mut Tx<'_>,
    account: UserKey,
    before: i64,
    count: i64,
) -> Result<(Vec<FriendInfo>, i64), Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM friend f JOIN account a ON a.id = f.friend \
         WHERE f.account = $1 AND f.place < $2 ORDER BY f.place DESC LIMIT $3"
    );
    let rows = tx.fetch(&sql, &params![account, before, count + 1]).await?;
    super::page(&rows, count, 9, info)
}

/// Encodes attributes for their column.
pub(super) fn text(attributes: &Attributes) -> Result<String, Error> {
    serde_json::to_string(attributes).map_err(Error::internal)
}

/// Decodes the attributes of a column.
pub(super) fn attributes(row: &Row, column: usize) -> Result<Attributes, Error> {
    serde_json::from_str(&row.get::<String>(column)?).map_err(Error::internal)
}
