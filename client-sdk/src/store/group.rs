//! Rows of groups and of their members, as far as this device knows them.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, Row, params};
use zim_protocol::{
    ConversationType, GroupAliasEntry, GroupFullInfo, GroupInfo, GroupMemberInfo, GroupMessageNotificationStatus,
    GroupMuteMode, GroupSearchInfo,
};

use super::search::Keywords;
use crate::types::Name;

/// The role that the mode `Normal` mutes.
const MEMBER: i64 = 3;

/// Returns the end of a mute at a time; 0 if it is over.
pub(crate) fn mute_at(until: i64, now_ms: i64) -> i64 {
    if until == -1 || until > now_ms { until } else { 0 }
}

/// Stores what a group is.
pub(crate) fn write(db: &Connection, info: &GroupFullInfo) -> rusqlite::Result<()> {
    let Some(base) = &info.base_info else { return Ok(()) };
    db.prepare_cached(
        "INSERT INTO chat_group (group_id, group_name, avatar_url, info) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (group_id) DO UPDATE SET group_name = ?2, avatar_url = ?3, info = ?4",
    )?
    .execute(params![base.group_id, base.group_name, base.group_avatar_url, info.encode_to_vec()])?;
    settle_mute(db, &base.group_id)
}

/// Stores the user's own role, and until when the user alone may not write.
pub(crate) fn write_own(db: &Connection, group_id: &str, (role, mute_until): (i64, i64)) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE chat_group SET role = ?2, mute_until = ?3 WHERE group_id = ?1")?
        .execute(params![group_id, role, mute_until])?;
    settle_mute(db, group_id)
}

/// Returns the user's `GroupMessageNotificationStatus` of a group, which has the numbers of `ConversationNotificationStatus`.
pub(crate) fn notification(db: &Connection, group_id: &str) -> rusqlite::Result<i32> {
    let sql = "SELECT notification FROM conversation WHERE type = 2 AND name = ?1";
    let found = db.prepare_cached(sql)?.query_row([group_id], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(GroupMessageNotificationStatus::Notify as i32))
}

/// Returns whether a conversation is a group that the user is in, as far as this device knows.
pub(crate) fn is_member(db: &Connection, name: &Name) -> rusqlite::Result<bool> {
    if name.kind != ConversationType::Group as i32 {
        return Ok(false);
    }
    db.prepare_cached("SELECT 1 FROM chat_group WHERE group_id = ?1 AND role <> 0")?.exists([&*name.id])
}

/// Computes until when the user may not write: the later end of their own mute and of that of their role.
fn settle_mute(db: &Connection, group_id: &str) -> rusqlite::Result<()> {
    let sql = "SELECT info, role, mute_until FROM chat_group WHERE group_id = ?1";
    let found = db
        .prepare_cached(sql)?
        .query_row([group_id], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let Some((info, role, own)) = found else { return Ok(()) };
    let mute = GroupFullInfo::decode(&*info).unwrap_or_default().muted_info.unwrap_or_default();
    let is_meant = role != 0
        && match mute.mode() {
            GroupMuteMode::None => false,
            GroupMuteMode::Normal => role == MEMBER,
            GroupMuteMode::All => true,
            GroupMuteMode::Custom => mute.roles.contains(&role),
        };
    let of_group = if is_meant { mute.expired_time } else { 0 };
    let until = if own == -1 || of_group == -1 { -1 } else { own.max(of_group) };
    db.prepare_cached("UPDATE chat_group SET muted_until = ?2 WHERE group_id = ?1")?
        .execute(params![group_id, until])?;
    Ok(())
}

/// Stores the name that the user gave a group. Returns false if it was the same.
pub(crate) fn write_alias(db: &Connection, entry: &GroupAliasEntry) -> rusqlite::Result<bool> {
    // The entry may come before the group.
    db.prepare_cached(
        "INSERT INTO chat_group (group_id, group_name, avatar_url, info) VALUES (?1, '', '', x'') \
         ON CONFLICT (group_id) DO NOTHING",
    )?
    .execute([&entry.group_id])?;
    let sql = "UPDATE chat_group SET alias = ?2 WHERE group_id = ?1 AND alias <> ?2";
    Ok(db.prepare_cached(sql)?.execute([&entry.group_id, &entry.alias])? > 0)
}

/// Returns what a group is, if this device knows it.
pub(crate) fn read(db: &Connection, group_id: &str) -> rusqlite::Result<Option<GroupFullInfo>> {
    let found: Option<(Vec<u8>, String)> = db
        .prepare_cached("SELECT info, alias FROM chat_group WHERE group_id = ?1")?
        .query_row([group_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.and_then(|(info, group_alias)| {
        let info = GroupFullInfo::decode(&*info).ok().filter(|info| info.base_info.is_some())?;
        Some(GroupFullInfo { group_alias, ..info })
    }))
}

/// Stores a member as a request returned them. Those whose place is known follow the changes, which may be newer.
pub(crate) fn write_requested(db: &Connection, group_id: &str, member: &GroupMemberInfo) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO group_member (group_id, user_id, info) VALUES (?1, ?2, ?3) \
         ON CONFLICT (group_id, user_id) DO UPDATE SET info = excluded.info WHERE place IS NULL",
    )?
    .execute(params![group_id, member.user_id, member.encode_to_vec()])?;
    Ok(())
}

/// Stores a member as a change tells them.
pub(crate) fn write_member(db: &Connection, group_id: &str, member: &GroupMemberInfo) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO group_member (group_id, user_id, info) VALUES (?1, ?2, ?3) \
         ON CONFLICT (group_id, user_id) DO UPDATE SET info = excluded.info",
    )?
    .execute(params![group_id, member.user_id, member.encode_to_vec()])?;
    Ok(())
}

/// Removes a member.
pub(crate) fn forget_member(db: &Connection, group_id: &str, user_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM group_member WHERE group_id = ?1 AND user_id = ?2")?.execute([group_id, user_id])?;
    Ok(())
}

/// Removes the members of a group that the user is no longer in.
pub(crate) fn forget_members(db: &Connection, group_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM group_member WHERE group_id = ?1")?.execute([group_id])?;
    db.prepare_cached("UPDATE chat_group SET listed_to = NULL WHERE group_id = ?1")?.execute([group_id])?;
    Ok(())
}

/// Forgets the members of all groups, and what is the user's own in them: positions begin anew, and the heads and the feed tell it
/// again.
pub(crate) fn forget_all(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM group_member", [])?;
    db.execute("UPDATE chat_group SET alias = '', role = 0, mute_until = 0, muted_until = 0, listed_to = NULL", [])?;
    Ok(())
}

/// What a search compares of a member beside or instead of the name of the group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberNames {
    pub(crate) user_name: bool,
    pub(crate) nickname: bool,
}

impl MemberNames {
    fn of(self, member: &GroupMemberInfo) -> impl Iterator<Item = &str> {
        let names = [(self.user_name, &member.user_name), (self.nickname, &member.member_nickname)];
        names.into_iter().filter_map(|(is_compared, name)| is_compared.then_some(name.as_str()))
    }
}

/// A page: the cursor, which is the number of hits before it, and how many hits it has.
pub(crate) type HitPage = (i64, i64);

/// Returns the groups that the user is in and whose name contains all keywords, or in which a member's names do, with these
/// members. In the order of their names.
pub(crate) fn search(
    db: &Connection,
    keywords: &Keywords,
    names: MemberNames,
    page: HitPage,
) -> rusqlite::Result<(Vec<GroupSearchInfo>, i64)> {
    let sql = "SELECT g.group_id, g.group_name, g.avatar_url FROM chat_group g JOIN conversation c ON c.type = 2 \
               AND c.name = g.group_id AND c.is_disabled = 0 AND g.role <> 0 ORDER BY g.group_name, g.group_id";
    let mut statement = db.prepare_cached(sql)?;
    let groups = statement.query_map([], |row| {
        Ok(GroupInfo { group_id: row.get(0)?, group_name: row.get(1)?, group_avatar_url: row.get(2)? })
    })?;
    let mut hits = Hits::new(page);
    for group in groups {
        let group = group?;
        let user_list = if names.user_name || names.nickname {
            members_with(db, &group.group_id, keywords, names)?
        } else {
            Vec::new()
        };
        if (keywords.are_in([group.group_name.as_str()]) || !user_list.is_empty())
            && !hits.add(GroupSearchInfo { group_info: Some(group), user_list })
        {
            break;
        }
    }
    Ok(hits.into_page())
}

/// Returns the known members of a group whose names contain all keywords, in the order of their IDs.
pub(crate) fn search_members(
    db: &Connection,
    group_id: &str,
    keywords: &Keywords,
    names: MemberNames,
    page: HitPage,
) -> rusqlite::Result<(Vec<GroupMemberInfo>, i64)> {
    let mut hits = Hits::new(page);
    for member in members_with(db, group_id, keywords, names)? {
        if !hits.add(member) {
            break;
        }
    }
    Ok(hits.into_page())
}

/// Selects members `m` with their profiles.
pub(super) const SELECT_MEMBERS: &str = "SELECT m.info, u.user_name, u.avatar_url, u.extended_data FROM group_member m \
     LEFT JOIN user u ON u.user_id = m.user_id";

/// Reads a row of [`SELECT_MEMBERS`].
pub(super) fn member_of(row: &Row<'_>) -> rusqlite::Result<GroupMemberInfo> {
    let mut member = GroupMemberInfo::decode(&*row.get::<_, Vec<u8>>(0)?).unwrap_or_default();
    if let Some(user_name) = row.get::<_, Option<String>>(1)? {
        member.user_name = user_name;
        member.user_avatar_url = row.get(2)?;
        member.member_avatar_url.clone_from(&member.user_avatar_url);
        member.user_extended_data = row.get(3)?;
    }
    Ok(member)
}

fn members_with(
    db: &Connection,
    group_id: &str,
    keywords: &Keywords,
    names: MemberNames,
) -> rusqlite::Result<Vec<GroupMemberInfo>> {
    let mut statement = db.prepare_cached(&format!("{SELECT_MEMBERS} WHERE m.group_id = ?1 ORDER BY m.user_id"))?;
    let mut rows = statement.query([group_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let member = member_of(row)?;
        if keywords.are_in(names.of(&member)) {
            found.push(member);
        }
    }
    Ok(found)
}

/// Collects one page of hits.
struct Hits<T> {
    skipped: i64,
    page: HitPage,
    found: Vec<T>,
    has_more: bool,
}

impl<T> Hits<T> {
    fn new(page: HitPage) -> Self {
        Self { skipped: 0, page, found: Vec::new(), has_more: false }
    }

    /// Adds a hit; returns false when the page is full.
    fn add(&mut self, hit: T) -> bool {
        let (before, count) = self.page;
        if self.skipped < before {
            self.skipped += 1;
        } else if i64::try_from(self.found.len()).is_ok_and(|len| len < count) {
            self.found.push(hit);
        } else {
            self.has_more = true;
        }
        !self.has_more
    }

    fn into_page(self) -> (Vec<T>, i64) {
        let next = if self.has_more { self.page.0 + self.page.1 } else { 0 };
        (self.found, next)
    }
}
