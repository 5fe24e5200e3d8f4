//! Rows of friends.

use std::collections::{HashMap, HashSet};

use zim_protocol::{FriendEntry, FriendInfo, feed_entry::Detail};

use super::rules::{Attributes, Remarks};
use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::journal::FeedKind;
use crate::key::UserKey;
use crate::service::counter::Counter;
use crate::service::rows::{Page, USER, about, user_info};

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
    Counter::FRIENDS.add(tx, account, 1).await
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
    let removed =
        tx.execute("DELETE FROM friend WHERE account = $1 AND friend = $2", &params![account, friend]).await?;
    Counter::FRIENDS.add(tx, account, -removed.cast_signed()).await
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

/// A friend was added, removed or changed; the key is the other user.
pub(crate) static FRIEND: FeedKind = FeedKind {
    number: 4,
    resolve: |tx, user, keys| {
        Box::pin(async move {
            let entries = entries(tx, user, keys).await?;
            Ok(entries.into_iter().map(|(key, entry)| (key, Detail::Friend(entry))).collect())
        })
    },
};

/// The columns of a friend; they are NULL if the user is no friend.
const COLUMNS: &str = "f.alias, f.attributes, f.wording, f.created_at, f.place";

/// Reads [`USER`] and [`COLUMNS`] from column 1 on.
fn info(row: &Row) -> Result<FriendInfo, Error> {
    let user = user_info(row, 1)?;
    Ok(FriendInfo {
        user_id: user.user_id,
        user_name: user.user_name,
        user_avatar_url: user.user_avatar_url,
        user_extended_data: user.user_extended_data,
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
    let sql = format!(
        "SELECT a.id, {USER}, {COLUMNS} FROM account a LEFT JOIN friend f ON f.account = $1 AND f.friend = a.id \
         WHERE a.id IN"
    );
    about(tx, account, keys, &sql, |row| {
        Ok(match row.get::<Option<i64>>(9)? {
            Some(place) => FriendEntry { info: Some(info(row)?), is_deleted: false, place },
            None => {
                let deleted = FriendInfo { user_id: row.get(1)?, ..FriendInfo::default() };
                FriendEntry { info: Some(deleted), is_deleted: true, place: 0 }
            }
        })
    })
    .await
}

/// Returns a page of the list, the newest friend first, and the flag of the next page.
pub(super) async fn page(tx: &mut Tx<'_>, account: UserKey, page: Page) -> Result<(Vec<FriendInfo>, i64), Error> {
    let sql = format!(
        "SELECT f.place, {USER}, {COLUMNS} FROM friend f JOIN account a ON a.id = f.friend \
         WHERE f.account = $1 AND f.place < $2 ORDER BY f.place DESC LIMIT $3"
    );
    page.fetch(tx, account, &sql, info).await
}

/// Encodes attributes for their column.
pub(super) fn text(attributes: &Attributes) -> Result<String, Error> {
    serde_json::to_string(attributes).map_err(Error::internal)
}

/// Decodes the attributes of a column.
pub(super) fn attributes(row: &Row, column: usize) -> Result<Attributes, Error> {
    serde_json::from_str(&row.get::<String>(column)?).map_err(Error::internal)
}
