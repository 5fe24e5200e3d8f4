//! Deletes the rows of an app, a page at a time, so that the writes of other apps do not wait long.

use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::AppKey;
use crate::media;

/// The most rows that one transaction deletes, apart from one row for each user and conversation that has no others.
const PAGE: u64 = 500;

/// Tables with rows of a user: the name, and a column that identifies a row of one user. Logins come first: the end of a connection
/// is not written if there is no row of its login.
const OF_USER: [(&str, &str); 18] = [
    ("session", "id"),
    ("feed", "pos"),
    ("friend", "friend"),
    ("friend_application", "peer"),
    ("block", "blocked"),
    ("subscription", "target"),
    ("member", "conversation"),
    ("span", "from_rev"),
    ("hidden", "seq"),
    ("presence", "account"),
    ("conversation_setting", "conversation"),
    ("all_deleted", "account"),
    ("call_user", "call"),
    ("chat_call", "id"),
    ("media_usage", "app"),
    ("push_id", "id"),
    ("push_log", "id"),
    ("push", "id"),
];
/// Tables with rows of a conversation, in the same way.
const OF_CONVERSATION: [(&str, &str); 16] = [
    ("message", "seq"),
    ("media_ref", "seq, media"),
    ("message_state", "seq"),
    ("reaction", "seq, account, type"),
    ("reaction_total", "seq, type"),
    ("receipt", "seq, account"),
    ("combine", "seq"),
    ("change", "rev"),
    ("target", "seq, account"),
    ("group_member", "account"),
    ("group_application", "id"),
    ("chat_group", "conversation"),
    ("room_member_attribute", "account, key"),
    ("room_attribute", "key"),
    ("room_member", "account"),
    ("room", "conversation"),
];

/// What a page deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) rows: u64,
    /// The app and everything that belongs to it is deleted.
    pub(crate) is_done: bool,
}

/// Deletes a page of an app's rows; with the last of them, the app.
pub(crate) async fn delete_page(tx: &mut Tx<'_>, app: AppKey, now: i64) -> Result<Deleted, Error> {
    let mut rows = 0;
    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
    for file in tx.fetch("SELECT id FROM media WHERE app = $1 LIMIT $2", &params![app, limit]).await? {
        media::delete(tx, file.get(0)?, now).await?;
        rows += 1;
    }
    for (owners, column, tables) in
        [("conversation", "conversation", &OF_CONVERSATION[..]), ("account", "account", &OF_USER[..])]
    {
        let next = format!("SELECT id FROM {owners} WHERE app = $1 LIMIT 1");
        while let Some(owner) = tx.fetch_one(&next, &params![app]).await? {
            let owner: i64 = owner.get(0)?;
            for (table, key) in tables {
                if rows >= PAGE {
                    return Ok(Deleted { rows, is_done: false });
                }
                let some = format!("SELECT {key} FROM {table} WHERE {column} = $1 LIMIT $2");
                let sql = format!("DELETE FROM {table} WHERE {column} = $1 AND ({key}) IN ({some})");
                let left = i64::try_from(PAGE - rows).unwrap_or(i64::MAX);
                rows += tx.execute(&sql, &params![owner, left]).await?;
            }
            if rows >= PAGE {
                // The last table may have more.
                return Ok(Deleted { rows, is_done: false });
            }
            rows += tx.execute(&format!("DELETE FROM {owners} WHERE id = $1"), &params![owner]).await?;
        }
    }
    rows += tx.execute("DELETE FROM push_provider WHERE app = $1", &params![app]).await?;
    rows += tx.execute("DELETE FROM media_total WHERE app = $1", &params![app]).await?;
    rows += tx.execute("DELETE FROM app WHERE id = $1", &params![app]).await?;
    Ok(Deleted { rows, is_done: true })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::db::MIGRATIONS;

    #[test]
    fn every_table_is_known() {
        let created = MIGRATIONS.iter().flat_map(|migration| migration.sql.lines()).filter_map(|line| {
            let (name, _) = line.strip_prefix("CREATE TABLE ")?.split_once(' ')?;
            Some(name)
        });
        let created: BTreeSet<_> = created.collect();
        let mut known = BTreeSet::from(["deployment", "app", "account", "conversation"]);
        // What is done later about a deleted user finds nothing to do, and is gone then.
        known.extend(["scheduled_task", "outbox"]);
        // What the operator did stays known, the deletion of the app as well.
        known.insert("audit");
        // Deleted first, with the files.
        known.insert("media");
        // Deleted last, with the app.
        known.extend(["push_provider", "media_total"]);
        known.extend(OF_USER.iter().chain(&OF_CONVERSATION).map(|(table, _)| *table));
        assert_eq!(created, known, "a table with rows of an app must be deleted with it");
    }
}
