//! Rows of the users that this device knows.

use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::{UserFullInfo, UserInfo};

/// What a row lacks of the extended data. A change of many members of a group may come without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// Nothing: it is that of the last profile.
    Nothing = 0,
    /// The last profile came without it: what is here may be older.
    Older = 1,
    /// All of it: each profile came without it.
    All = 2,
}

/// Returns the known profile of a user.
pub(crate) fn read(db: &Connection, user_id: &str) -> rusqlite::Result<Option<UserFullInfo>> {
    read_within(db, user_id, Gap::All)
}

/// Returns the known profile of a user if it lacks no more than that.
pub(crate) fn read_within(db: &Connection, user_id: &str, most: Gap) -> rusqlite::Result<Option<UserFullInfo>> {
    db.prepare_cached("SELECT user_name, avatar_url, extended_data FROM user WHERE user_id = ?1 AND data_gap <= ?2")?
        .query_row(params![user_id, most as i64], |row| {
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
    db.prepare_cached("UPDATE user SET data_gap = 0 WHERE user_id = ?1 AND data_gap <> 0")?.execute([&base.user_id])?;
    Ok(changed > 0)
}

/// Stores a profile that came without extended data. What is known of that stays, and may be older now. Returns whether the rest is
/// new.
pub(crate) fn write_without_data(db: &Connection, info: &UserFullInfo) -> rusqlite::Result<bool> {
    let Some(base) = info.base_info.as_ref().filter(|base| !base.user_id.is_empty()) else { return Ok(false) };
    db.prepare_cached("UPDATE user SET data_gap = 1 WHERE user_id = ?1 AND data_gap = 0")?.execute([&base.user_id])?;
    let changed = db
        .prepare_cached(
            "INSERT INTO user (user_id, user_name, avatar_url, extended_data, data_gap) VALUES (?1, ?2, ?3, '', 2) \
             ON CONFLICT (user_id) DO UPDATE SET user_name = excluded.user_name, avatar_url = excluded.avatar_url \
             WHERE user_name <> excluded.user_name OR avatar_url <> excluded.avatar_url",
        )?
        .execute(params![base.user_id, base.user_name, base.user_avatar_url])?;
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    fn profile(name: &str, data: &str) -> UserFullInfo {
        let base = UserInfo {
            user_id: "bob".to_owned(),
            user_name: name.to_owned(),
            user_extended_data: data.to_owned(),
            ..UserInfo::default()
        };
        UserFullInfo { base_info: Some(base), extended_data: data.to_owned(), ..UserFullInfo::default() }
    }

    #[test]
    fn a_profile_without_extended_data_leaves_what_is_known_of_it() {
        let db = memory().unwrap();
        // What is found if nothing may be missing, if it may be older, and in any case.
        let found = || [Gap::Nothing, Gap::Older, Gap::All].map(|most| read_within(&db, "bob", most).unwrap());
        let (bob, robert) = (profile("Bob", ""), profile("Robert", "chess"));
        assert!(write_without_data(&db, &bob).unwrap());
        assert!(!write_without_data(&db, &bob).unwrap());
        assert_eq!(found(), [None, None, Some(bob.clone())]);
        // It is known now that there is none.
        assert!(!write(&db, &bob).unwrap());
        assert_eq!(found(), [Some(bob.clone()), Some(bob.clone()), Some(bob)]);
        assert!(write(&db, &profile("Bob", "chess")).unwrap());
        assert!(write_without_data(&db, &profile("Robert", "")).unwrap());
        assert!(!write_without_data(&db, &profile("Robert", "")).unwrap());
        assert_eq!(found(), [None, Some(robert.clone()), Some(robert.clone())]);
        assert!(!write(&db, &robert).unwrap());
        assert_eq!(found(), [Some(robert.clone()), Some(robert.clone()), Some(robert)]);
    }
}
