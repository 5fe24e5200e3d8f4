//! Rows of friends. Their profiles are in `user`.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use zim_protocol::{FriendEntry, FriendInfo};

use super::search;

/// The columns of a friend `f` and their profile `u`.
const COLUMNS: &str = "f.user_id, u.user_name, u.avatar_url, u.extended_data, f.alias, f.attributes, f.wording, \
                       f.created_at, f.place";

const FROM: &str = "FROM friend f LEFT JOIN user u ON u.user_id = f.user_id";

fn info(row: &Row<'_>) -> rusqlite::Result<FriendInfo> {
    let text = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(index)?.unwrap_or_default());
    Ok(FriendInfo {
        user_id: row.get(0)?,
        user_name: text(1)?,
        user_avatar_url: text(2)?,
        user_extended_data: text(3)?,
        friend_alias: row.get(4)?,
        friend_attributes: attributes(&row.get::<_, String>(5)?)?,
        wording: row.get(6)?,
        create_time: row.get(7)?,
    })
}

fn attributes(text: &str) -> rusqlite::Result<HashMap<String, String>> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(5, Type::Text, Box::new(error)))
}

/// Returns a friend.
pub(crate) fn read(db: &Connection, user_id: &str) -> rusqlite::Result<Option<FriendInfo>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE f.user_id = ?1"))?.query_row([user_id], info).optional()
}

/// Returns a page of the list after the cursor `next_flag`, newest friendship first, and the next cursor; 0 is the end.
pub(crate) fn page(db: &Connection, next_flag: i64, count: i64) -> rusqlite::Result<(Vec<FriendInfo>, i64)> {
    let sql = format!("SELECT {COLUMNS} {FROM} WHERE f.place < ?1 ORDER BY f.place DESC LIMIT ?2");
    super::paged(db, &sql, (next_flag, count), &[], 8, info)
}

/// Like [`page`], for friends whose name, or with `with_alias` whose alias, contains each of `keywords`.
pub(crate) fn search(
    db: &Connection,
    keywords: &[String],
    with_alias: bool,
    page: (i64, i64),
) -> rusqlite::Result<(Vec<FriendInfo>, i64)> {
    let columns: &[&str] = if with_alias { &["user_name", "alias"] } else { &["user_name"] };
    let Some(query) = search::query(columns, keywords) else { return Ok((Vec::new(), 0)) };
    let sql = format!(
        "SELECT {COLUMNS} {FROM} WHERE f.id IN (SELECT rowid FROM friend_search WHERE friend_search MATCH ?3) \
         AND f.place < ?1 ORDER BY f.place DESC LIMIT ?2"
    );
    super::paged(db, &sql, page, &[&query], 8, info)
}

/// Stores a friend from the server.
pub(crate) fn write(db: &Connection, entry: &FriendEntry) -> rusqlite::Result<()> {
    let Some(info) = &entry.info else { return Ok(()) };
    let attributes: BTreeMap<_, _> = info.friend_attributes.iter().collect();
    let attributes =
        serde_json::to_string(&attributes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    db.prepare_cached(
        "INSERT INTO friend (user_id, alias, attributes, wording, created_at, place) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (user_id) DO UPDATE SET alias = excluded.alias, attributes = excluded.attributes, \
         wording = excluded.wording, created_at = excluded.created_at, place = excluded.place, is_stale = 0",
    )?
    .execute(params![info.user_id, info.friend_alias, attributes, info.wording, info.create_time, entry.place])?;
    Ok(())
}

/// Removes a friend.
pub(crate) fn remove(db: &Connection, user_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM friend WHERE user_id = ?1")?.execute([user_id])?;
    Ok(())
}

/// Marks all rows as stale: the server will send its list again.
pub(crate) fn mark_stale(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE friend SET is_stale = 1", [])?;
    Ok(())
}

/// Returns the users of the rows that are still stale.
pub(crate) fn stale(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare_cached("SELECT user_id FROM friend WHERE is_stale = 1 ORDER BY place")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zim_protocol::{UserFullInfo, UserInfo};

    use super::*;
    use crate::store::{Store, user};

    const NAMES: [&str; 5] = ["", "Bob", "bobby", "張偉", "偉"];

    #[derive(Clone, Debug)]
    enum Step {
        Befriend(usize, usize),
        Name(usize, usize),
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3_usize, 0..NAMES.len()).prop_map(|(who, alias)| Step::Befriend(who, alias)),
            (0..3_usize, 0..NAMES.len()).prop_map(|(who, name)| Step::Name(who, name)),
            (0..3_usize).prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..20)
    }

    fn step(db: &Connection, place: i64, step: &Step) -> rusqlite::Result<()> {
        let id = |who: usize| format!("u{who}");
        match *step {
            Step::Befriend(who, alias) => {
                let info =
                    FriendInfo { user_id: id(who), friend_alias: NAMES[alias].to_owned(), ..FriendInfo::default() };
                write(db, &FriendEntry { info: Some(info), is_deleted: false, place })
            }
            Step::Name(who, name) => {
                let info = UserInfo { user_id: id(who), user_name: NAMES[name].to_owned(), ..UserInfo::default() };
                user::write(db, &UserFullInfo { base_info: Some(info), ..UserFullInfo::default() }).map(drop)
            }
            Step::Remove(who) => remove(db, &id(who)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Friends, aliases and names change in any order; a search finds what is in the list.
        #[test]
        fn a_search_finds_what_the_list_holds(steps in steps()) {
            let store = Store::open(None).unwrap();
            let (listed, found) = store
                .write_now(move |db| {
                    for (place, one) in (1..).zip(&steps) {
                        step(db, place, one)?;
                    }
                    let mut found = Vec::new();
                    for keyword in ["b", "bob", "偉", "張偉", "by"] {
                        for with_alias in [false, true] {
                            let keywords = [keyword.to_owned()];
                            found.push((keyword, with_alias, search(db, &keywords, with_alias, (0, 30))?.0));
                        }
                    }
                    Ok((page(db, 0, 30)?.0, found))
                })
                .unwrap();
            for (keyword, with_alias, found) in found {
                let is_in = |text: &str| text.to_lowercase().contains(keyword);
                let expected: Vec<FriendInfo> = listed
                    .iter()
                    .filter(|friend| is_in(&friend.user_name) || with_alias && is_in(&friend.friend_alias))
                    .cloned()
                    .collect();
                prop_assert_eq!(found, expected, "{} {}", keyword, with_alias);
            }
        }
    }
}
