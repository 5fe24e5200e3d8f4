//! Rows of blacklists.

use std::collections::{HashMap, HashSet};

use zim_protocol::{BlockEntry, ErrorCode, UserInfo, feed_entry::Detail};

use super::rules::{self, Edit, EntryState};
use crate::db::{Row, Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::{FeedKind, append_feed_all, rules::blocks_bit};
use crate::key::{ConversationKey, LoginKey, UserKey};

/// The result of an edit.
#[derive(Debug)]
pub(super) struct Edited {
    /// The entries of the user's feed with their positions.
    pub entries: Vec<(i64, Detail)>,
    /// The users for whom the edit failed.
    pub refused: Vec<(UserKey, ErrorCode)>,
}

/// Whether `account` has blocked `other`.
pub(crate) async fn is_blocked(tx: &mut Tx<'_>, account: UserKey, other: UserKey) -> Result<bool, Error> {
    let row = tx.fetch_one("SELECT 1 FROM block WHERE account = $1 AND blocked = $2", &params![account, other]).await?;
    Ok(row.is_some())
}

/// Edits the blacklist of `user`. The job has locked the user's head and the heads of `conversations`: all
/// conversations between the user and `users`.
pub(super) async fn edit(
    tx: &mut Tx<'_>,
    user: UserKey,
    users: &[UserKey],
    edit: Edit,
    conversations: &[(ConversationKey, UserKey)],
    cause: LoginKey,
) -> Result<Edited, Error> {
    let (accepted, refused) = check_each(tx, user, users, edit).await?;
    if accepted.is_empty() {
        return Ok(Edited { entries: Vec::new(), refused });
    }
    let first = append_feed_all(tx, user, FeedKind::Block, &accepted).await?;
    let (list, mut params) = tx.dialect().in_list(accepted.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = match edit {
        // The place of each row is the position of its feed entry.
        Edit::Add { .. } => format!(
            "INSERT INTO block (account, blocked, pos) SELECT account, key, pos FROM feed \
             WHERE account = $1 AND kind = {} AND key IN {list}",
            FeedKind::Block as i64
        ),
        Edit::Remove => format!("DELETE FROM block WHERE account = $1 AND blocked IN {list}"),
    };
    tx.execute(&sql, &params).await?;
    set_block_bits(tx, user, &accepted, edit, conversations).await?;
    let mut details = feed_entries(tx, user, &accepted).await?;
    let mut entries = Vec::with_capacity(accepted.len());
    for (pos, key) in (first..).zip(&accepted) {
        let entry = details.remove(key).ok_or_else(|| Error::internal_text("a blocked user without an account"))?;
        tx.emit(Effect::Feed { user, pos, entry: Box::new(entry.clone()), cause });
        entries.push((pos, entry));
    }
    Ok(Edited { entries, refused })
}

/// Splits the users into those for whom the edit is possible and those for whom it is not, with the reason.
async fn check_each(
    tx: &mut Tx<'_>,
    user: UserKey,
    users: &[UserKey],
    edit: Edit,
) -> Result<(Vec<i64>, Vec<(UserKey, ErrorCode)>), Error> {
    let (list, mut params) = tx.dialect().in_list(users.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!("SELECT blocked FROM block WHERE account = $1 AND blocked IN {list}");
    let listed = keys(&tx.fetch(&sql, &params).await?)?;
    // A feed entry stays after its user is removed from the list.
    let kind = FeedKind::Block as i64;
    let sql = format!("SELECT key FROM feed WHERE account = $1 AND kind = {kind} AND key IN {list}");
    let known = keys(&tx.fetch(&sql, &params).await?)?;
    let row = tx.fetch_one("SELECT COUNT(*) FROM block WHERE account = $1", &params![user]).await?;
    let mut size: i64 = row.map_or(Ok(0), |row| row.get(0))?;
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for other in users {
        let state = EntryState { is_listed: listed.contains(&other.0), was_listed: known.contains(&other.0) };
        match rules::refusal(edit, user, *other, state, size) {
            Some(code) => refused.push((*other, code)),
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
pub(crate) async fn feed_entries(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let sql = format!(
        "SELECT a.id, a.name, a.user_name, a.avatar_url, a.extended_data, b.pos FROM account a \
         LEFT JOIN block b ON b.account = $1 AND b.blocked = a.id WHERE a.id IN {list}"
    );
    let mut entries = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let pos: Option<i64> = row.get(5)?;
        let entry = BlockEntry { user: Some(user_info(&row)?), is_deleted: pos.is_none(), place: pos.unwrap_or(0) };
        entries.insert(row.get(0)?, Detail::Block(entry));
    }
    Ok(entries)
}

/// Returns up to `count` users of the list after `next_flag`, the last added first, and the flag of the next page, 0 at
/// the end.
pub(super) async fn page(
    tx: &mut Tx<'_>,
    user: UserKey,
    next_flag: i64,
    count: i64,
) -> Result<(Vec<UserInfo>, i64), Error> {
    let before = if next_flag > 0 { next_flag } else { i64::MAX };
    let rows = tx
        .fetch(
            "SELECT b.pos, a.name, a.user_name, a.avatar_url, a.extended_data FROM block b \
             JOIN account a ON a.id = b.blocked WHERE b.account = $1 AND b.pos < $2 ORDER BY b.pos DESC LIMIT $3",
            &params![user, before, count + 1],
        )
        .await?;
    let wanted = usize::try_from(count).unwrap_or(0);
    let page = &rows[..rows.len().min(wanted)];
    let next_flag = match page.last() {
        Some(last) if rows.len() > wanted => last.get(0)?,
        _ => 0,
    };
    Ok((page.iter().map(user_info).collect::<Result<_, _>>()?, next_flag))
}

/// Reads columns 1 to 4.
fn user_info(row: &Row) -> Result<UserInfo, Error> {
    Ok(UserInfo {
        user_id: row.get(1)?,
        user_name: row.get(2)?,
        user_avatar_url: row.get(3)?,
        user_extended_data: row.get(4)?,
    })
}
