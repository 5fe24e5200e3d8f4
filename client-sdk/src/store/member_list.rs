//! The lists of the members of groups, in the order in which they entered. A list is held up to some place: that part was loaded from
//! the server, and follows the changes of the group.

use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::{GroupMemberInfo, PLACES_OF_CHANGE};

use super::group::{SELECT_MEMBERS, member_of, mute_at};
use super::to_sql;

/// The place up to which a list is held to its end: all who enter later belong to it.
const END: i64 = i64::MAX;

/// The part of a list that is held.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Listed {
    pub(crate) members: Vec<GroupMemberInfo>,
    /// The cursor of what comes behind it; `None`: nothing does.
    pub(crate) next: Option<i64>,
}

/// Returns the first `limit` members of a list, as far as it is held; `None`: the user is not in the group.
pub(crate) fn read(db: &Connection, group_id: &str, limit: usize, now_ms: i64) -> rusqlite::Result<Option<Listed>> {
    let Some(listed_to) = held(db, group_id)? else { return Ok(None) };
    let Some(to) = listed_to else { return Ok(Some(Listed { members: Vec::new(), next: Some(0) })) };
    // The condition of the index.
    let sql = format!(
        "{SELECT_MEMBERS} WHERE m.group_id = ?1 AND m.place IS NOT NULL AND m.place <= ?2 ORDER BY m.place LIMIT ?3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut members: Vec<GroupMemberInfo> = db
        .prepare_cached(&sql)?
        .query_map(params![group_id, to, limit], member_of)?
        .collect::<rusqlite::Result<_>>()?;
    members.iter_mut().for_each(|member| member.mute_expired_time = mute_at(member.mute_expired_time, now_ms));
    Ok(Some(Listed { members, next: (to != END).then_some(to) }))
}

/// Returns the place up to which a list is held; the outer `None`: the user is not in the group.
fn held(db: &Connection, group_id: &str) -> rusqlite::Result<Option<Option<i64>>> {
    let sql = "SELECT listed_to FROM chat_group WHERE group_id = ?1 AND role <> 0";
    db.prepare_cached(sql)?.query_row([group_id], |row| row.get(0)).optional()
}

/// Notes where users stand whom a change let in: `user_ids` are all of the change, in its order.
pub(crate) fn enter<'a>(
    db: &Connection,
    group_id: &str,
    rev: u64,
    user_ids: impl Iterator<Item = &'a str>,
) -> rusqlite::Result<()> {
    let first = to_sql(rev).saturating_mul(PLACES_OF_CHANGE);
    let sql = "UPDATE group_member SET place = ?3 WHERE group_id = ?1 AND user_id = ?2";
    let mut statement = db.prepare_cached(sql)?;
    for (index, user_id) in (0_i64..).zip(user_ids) {
        statement.execute(params![group_id, user_id, first.saturating_add(index)])?;
    }
    Ok(())
}

/// Forgets where the members of a group stand: changes were skipped, or the user is in the group anew.
pub(crate) fn forget(db: &Connection, group_id: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE group_member SET place = NULL WHERE group_id = ?1 AND place IS NOT NULL";
    db.prepare_cached(sql)?.execute([group_id])?;
    db.prepare_cached("UPDATE chat_group SET listed_to = NULL WHERE group_id = ?1")?.execute([group_id])?;
    Ok(())
}

/// A page of the list, as the server returned it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberPage {
    /// The cursor that it was requested with.
    pub(crate) after: i64,
    pub(crate) members: Vec<GroupMemberInfo>,
    /// The cursor of the next page; 0: this is the last.
    pub(crate) next: i64,
}

/// Adds a page to what is held. Of users for whom `is_changed` says so, a change came after the request: it counts, and the page does
/// not. Returns false if the page does not continue what is held.
pub(crate) fn add_page(
    db: &Connection,
    group_id: &str,
    page: &MemberPage,
    is_changed: impl Fn(&str) -> bool,
) -> rusqlite::Result<bool> {
    let Some(listed_to) = held(db, group_id)? else { return Ok(false) };
    if listed_to.unwrap_or(0) != page.after {
        return Ok(false);
    }
    let write = "INSERT INTO group_member (group_id, user_id, info, place) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (group_id, user_id) DO UPDATE SET info = excluded.info, place = excluded.place";
    // Who has left stays away, and who has entered has a place.
    let keep = "UPDATE group_member SET place = ?3 WHERE group_id = ?1 AND user_id = ?2 AND place IS NULL";
    let (mut write, mut keep) = (db.prepare_cached(write)?, db.prepare_cached(keep)?);
    let last = page.members.len().saturating_sub(1);
    for (index, member) in page.members.iter().enumerate() {
        // Only the order of places matters, and that no place is above that of a later page or change: no two members have the same, so
        // each has at least this one.
        let place = match page.next {
            next if next != 0 && index == last => next,
            _ => page.after.saturating_add(i64::try_from(index).unwrap_or(i64::MAX)).saturating_add(1),
        };
        if is_changed(&member.user_id) {
            keep.execute(params![group_id, member.user_id, place])?;
        } else {
            let info = prost::Message::encode_to_vec(member);
            write.execute(params![group_id, member.user_id, info, place])?;
        }
    }
    let listed_to = if page.next == 0 { END } else { page.next };
    db.prepare_cached("UPDATE chat_group SET listed_to = ?2 WHERE group_id = ?1")?
        .execute(params![group_id, listed_to])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use zim_protocol::{GroupFullInfo, GroupInfo};

    use super::*;
    use crate::store::{file, group};

    fn member(user_id: &str, nickname: &str) -> GroupMemberInfo {
        GroupMemberInfo {
            user_id: user_id.to_owned(),
            member_nickname: nickname.to_owned(),
            member_role: 3,
            ..GroupMemberInfo::default()
        }
    }

    fn page(after: i64, user_ids: &[&str], next: i64) -> MemberPage {
        MemberPage { after, members: user_ids.iter().map(|id| member(id, "")).collect(), next }
    }

    fn crew() -> Connection {
        let db = file::memory().unwrap();
        let base_info = Some(GroupInfo { group_id: "crew".into(), ..GroupInfo::default() });
        group::write(&db, &GroupFullInfo { base_info, ..GroupFullInfo::default() }).unwrap();
        group::write_own(&db, "crew", (3, 0)).unwrap();
        db
    }

    fn enter(db: &Connection, rev: u64, user_ids: &[&str]) {
        for user_id in user_ids {
            group::write_member(db, "crew", &member(user_id, "")).unwrap();
        }
        super::enter(db, "crew", rev, user_ids.iter().copied()).unwrap();
    }

    /// The members and the next cursor.
    fn listed(db: &Connection, limit: usize) -> (Vec<String>, Option<i64>) {
        let Listed { members, next } = read(db, "crew", limit, 0).unwrap().unwrap();
        (members.into_iter().map(|member| member.user_id).collect(), next)
    }

    fn owned(user_ids: &[&str]) -> Vec<String> {
        user_ids.iter().map(|id| (*id).to_owned()).collect()
    }

    const NEVER: fn(&str) -> bool = |_| false;

    #[test]
    fn pages_and_changes_make_one_list() {
        let db = crew();
        assert_eq!(listed(&db, 9), (vec![], Some(0)));
        // A change before the first page: where they stand is known, but nothing is held yet.
        enter(&db, 9, &["zoe"]);
        assert_eq!(listed(&db, 9), (vec![], Some(0)));
        assert!(add_page(&db, "crew", &page(0, &["ann", "bob"], 300), NEVER).unwrap());
        assert_eq!(listed(&db, 9), (owned(&["ann", "bob"]), Some(300)));
        assert_eq!(listed(&db, 1), (owned(&["ann"]), Some(300)));
        // It does not continue what is held.
        assert!(!add_page(&db, "crew", &page(0, &["ann", "bob"], 300), NEVER).unwrap());
        assert!(add_page(&db, "crew", &page(300, &["cem", "dan", "zoe"], 0), NEVER).unwrap());
        assert_eq!(listed(&db, 9), (owned(&["ann", "bob", "cem", "dan", "zoe"]), None));
        enter(&db, 10, &["eva", "abe"]);
        group::forget_member(&db, "crew", "bob").unwrap();
        assert_eq!(listed(&db, 9).0, owned(&["ann", "cem", "dan", "zoe", "eva", "abe"]));
        // Somebody returns, and stands at the end.
        group::forget_member(&db, "crew", "ann").unwrap();
        enter(&db, 12, &["ann"]);
        assert_eq!(listed(&db, 9).0, owned(&["cem", "dan", "zoe", "eva", "abe", "ann"]));
    }

    #[test]
    fn a_change_after_the_request_counts_and_the_page_does_not() {
        let db = crew();
        // Since the request dan has entered, bob has left and ann has a nickname.
        enter(&db, 20, &["dan"]);
        group::write_member(&db, "crew", &member("ann", "Annie")).unwrap();
        let is_changed = |user: &str| ["ann", "bob", "dan"].contains(&user);
        assert!(add_page(&db, "crew", &page(0, &["ann", "bob", "cem", "dan"], 0), is_changed).unwrap());
        let Listed { members, .. } = read(&db, "crew", 9, 0).unwrap().unwrap();
        let names: Vec<_> = members.iter().map(|one| (one.user_id.as_str(), one.member_nickname.as_str())).collect();
        assert_eq!(names, [("ann", "Annie"), ("cem", ""), ("dan", "")]);
    }

    #[test]
    fn a_query_of_the_app_does_not_change_who_follows_the_changes() {
        let db = crew();
        assert!(add_page(&db, "crew", &page(0, &["ann"], 0), NEVER).unwrap());
        group::write_requested(&db, "crew", &member("ann", "old")).unwrap();
        group::write_requested(&db, "crew", &member("bob", "")).unwrap();
        let Listed { members, .. } = read(&db, "crew", 9, 0).unwrap().unwrap();
        assert_eq!(members, [member("ann", "")]);
    }

    #[test]
    fn what_is_not_followed_is_not_shown() {
        let db = crew();
        assert!(add_page(&db, "crew", &page(0, &["ann", "bob"], 0), NEVER).unwrap());
        forget(&db, "crew").unwrap();
        assert_eq!(listed(&db, 9), (vec![], Some(0)));
        assert!(add_page(&db, "crew", &page(0, &["bob", "ann"], 0), NEVER).unwrap());
        assert_eq!(listed(&db, 9), (owned(&["bob", "ann"]), None));
        group::forget_members(&db, "crew").unwrap();
        assert_eq!(listed(&db, 9), (vec![], Some(0)));
        group::write_own(&db, "crew", (0, 0)).unwrap();
        assert_eq!(read(&db, "crew", 9, 0).unwrap(), None);
        assert!(!add_page(&db, "crew", &page(0, &["ann"], 0), NEVER).unwrap());
    }

    #[test]
    fn a_mute_is_shown_until_it_ends() {
        let db = crew();
        let muted = GroupMemberInfo { mute_expired_time: 500, ..member("ann", "") };
        let page = MemberPage { after: 0, members: vec![muted], next: 0 };
        assert!(add_page(&db, "crew", &page, NEVER).unwrap());
        let until = |now_ms| read(&db, "crew", 9, now_ms).unwrap().unwrap().members[0].mute_expired_time;
        assert_eq!((until(499), until(500)), (500, 0));
    }
}
