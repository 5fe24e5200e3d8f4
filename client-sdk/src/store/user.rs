//! Rows of the users that this device knows.

use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::{UserFullInfo, UserInfo};

/// Returns the known profile of a user.
pub(crate) fn read(db: &Connection, user_id: &str) -> rusqlite::Result<Option<UserFullInfo>> {
    db.prepare_cached("SELECT user_name, avatar_url, extended_data FROM user WHERE user_id = ?1")?
        .query_row([user_id], |row| {
            let (user_avatar_url, extended_data): (String, String) = (row.get(1)?, row.get(2)?);
            Ok(UserFullInfo {
                base_info: Some(UserInfo {
                    user_id: user_id.to_owned(),
                    user_name: row.get(0)?,
                    user_avatar_url: user_avatar_url.clone(),
                    user_extended_data: extended_data.clone(),
                }),
                user_avatar_url,
                extended_data,
            })
        })
        .optional()
}

/// Stores a profile from the server; returns whether it is new.
pub(crate) fn write(db: &Connection, info: &UserFullInfo) -> rusqlite::Result<bool> {
    let Some(base) = info.base_info.as_ref().filter(|base| !base.user_id.is_empty()) else { return Ok(false) };
    let changed = db
        .prepare_cached(
            "INSERT INTO user (user_id, user_name, avatar_url, extended_data) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (user_id) DO UPDATE SET user_name = excluded.user_name, avatar_url = excluded.avatar_url, \
             extended_data = excluded.extended_data WHERE user_name <> excluded.user_name \
             OR avatar_url <> excluded.avatar_url OR extended_data <> excluded.extended_data",
        )?
        .execute(params![base.user_id, base.user_name, base.user_avatar_url, base.user_extended_data])?;
    Ok(changed > 0)
}
