//! Rows of blacklists.

use std::collections::{HashMap, HashSet};

use zim_protocol::{BlockEntry, UserInfo, feed_entry::Detail};

use super::rules::{self, Edit, EntryState};
use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::journal::{FeedKind, LogWriter, rules::blocks_bit};
use crate::key::{ConversationKey, UserKey};
use crate::service::counter::Counter;
use crate::service::rows::{Page, USER, about, user_info};

/// The user blocked or unblocked another user; the key is that user.
pub(crate) static BLOCK: FeedKind = FeedKind { number: 6, resolve: |tx, user, keys| Box::pin(entries(tx, user, keys)) };

/// Whether `account` has blocked `other`.
pub(crate) async fn is_blocked(tx: &mut Tx<'_>, account: UserKey, other: UserKey) -> Result<bool, Error> {
    let row = tx.fetch_one("SELECT 1 FROM block WHERE account = $1 AND blocked = $2", &params![account, other]).await?;
    Ok(row.is_some())
}

/// Edits the blacklist of `user`. The scope of the job has the user and `conversations`: all conversations between the user
/// and `users`. Returns the users for whom the edit failed.
pub(super) async fn edit(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    users: &[UserKey],
    edit: Edit,
    conversations: &[(ConversationKey, UserKey)],
) -> Result<Vec<(UserKey, Error)>, Error> {
    let (accepted, refused) = check_each(tx, user, users, edit).await?;
    if accepted.is_empty() {
        return Ok(refused);
    }
    log.feed_all(tx, user, &BLOCK, &accepted).await?;
    let (list, mut params) = tx.dialect().in_list(accepted.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = match edit {
        // The place of each row is the position of its feed entry.
        Edit::Add { .. } => format!(
            "INSERT INTO block (account, blocked, pos) SELECT account, key, pos FROM feed \
             WHERE account = $1 AND kind = {} AND key IN {list}",
            BLOCK.number
        ),
        Edit::Remove => format!("DELETE FROM block WHERE account = $1 AND blocked IN {list}"),
    };
    let changed = tx.execute(&sql, &params).await?.cast_signed();
    Counter::BLOCKED.add(tx, user, if matches!(edit, Edit::Remove) { -changed } else { changed }).await?;
    set_block_bits(tx, user, &accepted, edit, conversations).await?;
    Ok(refused)
}

/// Splits the users into those for whom the edit is possible and those for whom it is not, with the reason.
async fn check_each(
    tx: &mut Tx<'_>,
    user: UserKey,
    users: &[UserKey],
    edit: Edit,
) -> Result<(Vec<i64>, Vec<(UserKey, Error)>), Error> {
    let (list, mut params) = tx.dialect().in_list(users.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!("SELECT blocked FROM block WHERE account = $1 AND blocked IN {list}");
    let listed = keys(&tx.fetch(&sql, &params).await?)?;
    // A feed entry stays after its user is removed from the list.
    let kind = BLOCK.number;
    let sql = format!("SELECT key FROM feed WHERE account = $1 AND kind = {kind} AND key IN {list}");
    let known = keys(&tx.fetch(&sql, &params).await?)?;
    let mut size = Counter::BLOCKED.get(tx, user).await?;
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for other in users {
        let state = EntryState { is_listed: listed.contains(&other.0), was_listed: known.contains(&other.0) };
        match rules::refusal(edit, user, *other, state, size) {
            Some(reason) => refused.push((*other, reason)),
            None => {
                accepted.push(other.0);
                size += 1;
            }
        }
    }
    Ok((accepted, refused))
}

fn keys(rows: &[Row]) -> Result<HashSet<i64>, Error> {
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// Sets or clears the bits in the conversations, where sending a message reads them. The user is the lower account of
/// some conversations and the higher of others.
async fn set_block_bits(
    tx: &mut Tx<'_>,
    user: UserKey,
    accepted: &[i64],
    edit: Edit,
    conversations: &[(ConversationKey, UserKey)],
) -> Result<(), Error> {
    for bit in [1, 2] {
        let ids: Vec<i64> = conversations
            .iter()
            .filter(|(_, peer)| accepted.contains(&peer.0) && blocks_bit(user.0, peer.0) == bit)
            .map(|(conversation, _)| conversation.0)
            .collect();
        if ids.is_empty() {
            continue;
        }
        let blocks = match edit {
            Edit::Add { .. } => format!("blocks | {bit}"),
            Edit::Remove => format!("blocks & {}", 3 - bit),
        };
        let (list, params) = tx.dialect().in_list(ids, 1);
        tx.execute(&format!("UPDATE conversation SET blocks = {blocks} WHERE id IN {list}"), &params).await?;
    }
    Ok(())
}

/// Returns the present entries of these users on the blacklist of `user`.
async fn entries(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let sql = format!(
        "SELECT a.id, {USER}, b.pos FROM account a LEFT JOIN block b ON b.account = $1 AND b.blocked = a.id \
         WHERE a.id IN"
    );
    about(tx, user, keys, &sql, |row| {
        let place: Option<i64> = row.get(5)?;
        let user = Some(user_info(row, 1)?);
        Ok(Detail::Block(BlockEntry { user, is_deleted: place.is_none(), place: place.unwrap_or(0) }))
    })
    .await
}

/// Returns a page of the list, the last added first, and the flag of the next page.
pub(super) async fn page(tx: &mut Tx<'_>, user: UserKey, page: Page) -> Result<(Vec<UserInfo>, i64), Error> {
    let sql = format!(
        "SELECT b.pos, {USER} FROM block b JOIN account a ON a.id = b.blocked \
         WHERE b.account = $1 AND b.pos < $2 ORDER BY b.pos DESC LIMIT $3"
    );
    page.fetch(tx, user, &sql, |row| user_info(row, 1)).await
}
