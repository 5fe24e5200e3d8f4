//! The user's own rules.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::{UserOfflinePushRule, UserRule};

/// Returns the rules; defaults until they are set.
pub(crate) fn read(db: &Connection) -> rusqlite::Result<UserRule> {
    let bytes: Option<Vec<u8>> =
        db.prepare_cached("SELECT rule FROM rule")?.query_row([], |row| row.get(0)).optional()?;
    // An unreadable row counts as empty: the server has the rules.
    let mut rule = bytes.and_then(|bytes| UserRule::decode(&bytes[..]).ok()).unwrap_or_default();
    rule.offline_push_rule.get_or_insert_with(UserOfflinePushRule::default);
    Ok(rule)
}

/// Stores the rules from the server; returns whether they are new.
pub(crate) fn write(db: &Connection, rule: &UserRule) -> rusqlite::Result<bool> {
    if read(db)? == *rule {
        return Ok(false);
    }
    db.prepare_cached(
        "INSERT INTO rule (id, rule) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET rule = excluded.rule",
    )?
    .execute(params![rule.encode_to_vec()])?;
    Ok(true)
}
