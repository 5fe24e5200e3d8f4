//! Rows of groups and of their members.

use std::collections::HashMap;
use std::sync::Arc;

use zim_protocol::{
    Group, GroupFullInfo, GroupInfo, GroupMemberInfo, GroupMessageNotificationStatus, PLACES_OF_CHANGE,
};

use super::rules::{self, Settings};
use crate::db::{Tx, Value, params};
use crate::effect::GroupStay;
use crate::error::Error;
use crate::fanout::Knows;
use crate::journal::mute::{MUTE, Mute};
use crate::journal::{MEMBER, member_info};
use crate::key::{AppKey, ConversationKey, UserKey};
use crate::service::rows::{GROUP, PAGE_BYTES, Page, group_info};

/// The earlier stays of a user in a group that are kept. A read goes through all of them.
const MAX_SPANS: i64 = 100;

/// The most users who are told of an application because they may decide on it. Others find it in their lists, and hear of what they
/// decide.
const MAX_TOLD: i64 = 100;

/// `GroupMessageNotificationStatus` of a conversation for which nothing is set. It has the numbers of
/// `ConversationNotificationStatus`.
const NOTIFY: i32 = GroupMessageNotificationStatus::Notify as i32;

/// 1 if there are earlier stays of a row of `member`.
const IS_RETURN: &str = "CASE WHEN EXISTS (SELECT 1 FROM span sp WHERE sp.account = member.account \
     AND sp.conversation = member.conversation) THEN 1 ELSE 0 END";

/// What decides whether somebody may enter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) is_dismissed: bool,
    pub(super) members: i64,
    pub(super) max_members: i64,
    pub(super) join_mode: i32,
    pub(super) invite_mode: i32,
    pub(super) be_invite_mode: i32,
    /// The last change that ended a stay; 0: there is none.
    pub(super) ended_rev: i64,
}

/// Returns the head of a group.
pub(super) async fn head(tx: &mut Tx<'_>, group: ConversationKey) -> Result<Option<Head>, Error> {
    let sql = "SELECT c.end_seq, g.members, g.max_members, g.join_mode, g.invite_mode, g.be_invite_mode, \
               c.ended_rev FROM conversation c JOIN chat_group g ON g.conversation = c.id WHERE c.id = $1";
    let Some(row) = tx.fetch_one(sql, &params![group]).await? else { return Ok(None) };
    Ok(Some(Head {
        is_dismissed: row.get::<Option<i64>>(0)?.is_some(),
        members: row.get(1)?,
        max_members: row.get(2)?,
        join_mode: row.get(3)?,
        invite_mode: row.get(4)?,
        be_invite_mode: row.get(5)?,
        ended_rev: row.get(6)?,
    }))
}

/// Returns what a group is, as a user sees it at a time.
pub(super) async fn info(
    tx: &mut Tx<'_>,
    (group, group_id): (ConversationKey, &str),
    (user, now): (UserKey, i64),
) -> Result<Option<GroupFullInfo>, Error> {
    let sql = format!(
        "SELECT m.alias, COALESCE(s.notification, {NOTIFY}), {GROUP} FROM chat_group g \
         LEFT JOIN member m ON m.conversation = g.conversation AND m.account = $2 \
         LEFT JOIN conversation_setting s ON s.conversation = g.conversation AND s.account = $2 WHERE g.conversation = $1"
    );
    let Some(row) = tx.fetch_one(&sql, &params![group, user]).await? else { return Ok(None) };
    let mut info = group_info(&row, 2, group_id)?;
    info.group_alias = row.get::<Option<String>>(0)?.unwrap_or_default();
    info.notification_status = row.get(1)?;
    info.muted_info = info.muted_info.map(|mute| rules::mute_at(mute, now));
    Ok(Some(info))
}

/// Adds a group without members.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    (app, group): (AppKey, ConversationKey),
    (group_id, name, avatar_url): (&str, String, String),
    settings: Settings,
    now: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO conversation (id, app, type, name, seq, n, rev, last_ts, touched, floor_seq, floor_n, floor_rev, blocks) \
         VALUES ($1, $2, 2, $3, 0, 0, 0, $4, $4, 0, 0, 0, 0)",
        &params![group, app, group_id, now],
    )
    .await?;
    tx.made_conversation(group);
    let attributes = serde_json::to_string(&settings.attributes).map_err(Error::internal)?;
    tx.execute(
        "INSERT INTO chat_group (conversation, group_name, avatar_url, notice, attributes, created_at, max_members, join_mode, \
         invite_mode, be_invite_mode, members) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)",
        &params![
            group,
            name,
            avatar_url,
            settings.notice,
            attributes,
            now,
            settings.max_members,
            i64::from(settings.join_mode),
            i64::from(settings.invite_mode),
            i64::from(settings.be_invite_mode)
        ],
    )
    .await?;
    Ok(())
}

/// As what, when and how users enter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) role: i64,
    pub(super) enter_type: i32,
    pub(super) at: i64,
    /// Who brings them in; 0: they come by themselves.
    pub(super) operator: UserKey,
    /// The change that lets them in: the first that they see.
    pub(super) rev: i64,
}

/// Begins the stays of users, at most 100, who are no members. Each comes with the position in their feed that tells of it. Returns
/// the stays.
pub(super) async fn enter(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    users: &[(UserKey, i64)],
    (place, shows_history): (Place, bool),
) -> Result<Vec<(UserKey, GroupStay)>, Error> {
    let row = tx
        .fetch_one("SELECT seq, n FROM conversation WHERE id = $1", &params![group])
        .await?
        .ok_or_else(|| Error::internal_text("a group without a conversation"))?;
    let (seq, n): (i64, i64) = (row.get(0)?, row.get(1)?);
    let mut stays = Vec::with_capacity(users.len());
    for (index, (user, list_place)) in (0_i64..).zip(users.iter().copied()) {
        // Somebody who returns: the stay before becomes an earlier one.
        let earlier = tx
            .fetch_one(
                "INSERT INTO span (account, conversation, from_seq, from_rev, to_seq, to_rev, entered_seq, shown_rev) \
             SELECT account, conversation, from_seq, from_rev, to_seq, to_rev, entered_seq, CASE WHEN shown_rev > COALESCE(\
             (SELECT MAX(sp.to_rev) FROM span sp WHERE sp.account = member.account AND sp.conversation = member.conversation), 0) \
             THEN shown_rev ELSE 0 END FROM member WHERE account = $1 AND conversation = $2 RETURNING to_seq, to_rev",
                &params![user, group],
            )
            .await?;
        let is_return = earlier.is_some();
        let (left_seq, left_rev): (i64, i64) = match earlier {
            Some(row) => (row.get(0)?, row.get(1)?),
            None => (0, 0),
        };
        // Stays do not overlap: with the history, this one begins where the one before has ended.
        let (from_seq, shown_rev) = if shows_history { (left_seq + 1, left_rev + 1) } else { (seq + 1, place.rev) };
        if is_return {
            let sql = "DELETE FROM span WHERE account = $1 AND conversation = $2 AND from_rev <= (SELECT from_rev FROM span \
                       WHERE account = $1 AND conversation = $2 ORDER BY from_rev DESC LIMIT 1 OFFSET $3)";
            tx.execute(sql, &params![user, group, MAX_SPANS]).await?;
        }
        stays.push((user, GroupStay { from_seq, entered_seq: seq + 1, from_rev: place.rev, to: None, is_return }));
        tx.execute(
            "INSERT INTO member (conversation, account, peer, from_seq, from_rev, cleared_seq, read_seq, base_seq, base_n, \
             base_sent, sent, deducted, entered_seq, shown_rev) VALUES ($1, $2, 0, $3, $4, 0, $5, $5, $6, 0, 0, 0, $7, $8) \
             ON CONFLICT (account, conversation) DO UPDATE SET from_seq = $3, from_rev = $4, to_seq = NULL, to_rev = NULL, \
             entered_seq = $7, shown_rev = $8, \
             read_seq = $5, base_seq = $5, base_n = $6, base_sent = member.sent",
            &params![group, user, from_seq, place.rev, seq, n, seq + 1, shown_rev],
        )
        .await?;
        tx.execute(
            "INSERT INTO group_member (conversation, account, role, nickname, enter_type, entered_at, operator, place, \
             list_place, mute_until) SELECT m.conversation, m.account, $3, '', $4, $5, $6, $7, $8, m.mute_until FROM member m \
             WHERE m.account = $2 AND m.conversation = $1",
            &params![
                group,
                user,
                place.role,
                i64::from(place.enter_type),
                place.at,
                place.operator,
                place.rev * PLACES_OF_CHANGE + index,
                list_place
            ],
        )
        .await?;
    }
    add_members(tx, group, i64::try_from(users.len()).map_err(Error::internal)?).await?;
    Ok(stays)
}

async fn add_members(tx: &mut Tx<'_>, group: ConversationKey, more: i64) -> Result<(), Error> {
    tx.execute("UPDATE chat_group SET members = members + $2 WHERE conversation = $1", &params![group, more]).await?;
    Ok(())
}

/// Ends the stays of members. `rev` is the change that lets them out: the last that they see. Returns the stays.
pub(super) async fn exit(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    users: &[UserKey],
    rev: i64,
) -> Result<Vec<(UserKey, GroupStay)>, Error> {
    let (list, mut params) = tx.dialect().in_list(users.iter().copied(), 3);
    params.splice(0..0, params![group, rev]);
    let sql = format!(
        "UPDATE member SET to_seq = (SELECT seq FROM conversation WHERE id = $1), to_rev = $2, \
         mute_until = COALESCE((SELECT g.mute_until FROM group_member g WHERE g.conversation = member.conversation \
         AND g.account = member.account), 0) WHERE conversation = $1 AND account IN {list} RETURNING account, from_seq, from_rev, to_seq, {IS_RETURN}, entered_seq"
    );
    let rows = tx.fetch(&sql, &params).await?;
    let mut stays = Vec::with_capacity(rows.len());
    for row in &rows {
        let stay = GroupStay {
            from_seq: row.get(1)?,
            entered_seq: row.get(5)?,
            from_rev: row.get(2)?,
            to: Some((row.get(3)?, rev)),
            is_return: row.get::<i64>(4)? != 0,
        };
        stays.push((UserKey(row.get(0)?), stay));
    }
    let (list, mut params) = tx.dialect().in_list(users.iter().copied(), 2);
    params.insert(0, group.into());
    let sql = format!("DELETE FROM group_member WHERE conversation = $1 AND account IN {list}");
    let removed = tx.execute(&sql, &params).await?.cast_signed();
    add_members(tx, group, -removed).await?;
    Ok(stays)
}

/// Closes a group for good, after the last entries of its logs.
pub(super) async fn dismiss(tx: &mut Tx<'_>, group: ConversationKey) -> Result<(), Error> {
    tx.execute("UPDATE conversation SET end_seq = seq, end_rev = rev WHERE id = $1", &params![group]).await?;
    Ok(())
}

/// Returns the role of a member; `None` for a user who is none.
pub(crate) async fn role(tx: &mut Tx<'_>, group: ConversationKey, user: UserKey) -> Result<Option<i64>, Error> {
    Ok(roles(tx, group, [user]).await?.remove(&user))
}

/// Returns the roles of those of these users who are members.
pub(super) async fn roles(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    users: impl IntoIterator<Item = UserKey>,
) -> Result<HashMap<UserKey, i64>, Error> {
    let (list, mut params) = tx.dialect().in_list(users, 2);
    params.insert(0, group.into());
    let sql = format!("SELECT account, role FROM group_member WHERE conversation = $1 AND account IN {list}");
    tx.fetch(&sql, &params).await?.iter().map(|row| Ok((UserKey(row.get(0)?), row.get(1)?))).collect()
}

/// Checks that a user may write to a group now: a member who is not muted.
pub(crate) async fn check_may_write(
    tx: &mut Tx<'_>,
    (group, group_id): (ConversationKey, &str),
    user: UserKey,
    now: i64,
) -> Result<(), Error> {
    let sql = format!(
        "SELECT {MUTE} FROM group_member g JOIN chat_group h ON h.conversation = g.conversation \
         WHERE g.conversation = $1 AND g.account = $2"
    );
    let row = tx.fetch_one(&sql, &params![group, user]).await?.ok_or_else(|| Error::not_in_group(group_id))?;
    match Mute::read(&row, 0)?.until(now) {
        0 => Ok(()),
        until => Err(Error::muted_in_group(group_id, until)),
    }
}

/// The owner, who may have entered last, and the administrators in the order in which they entered.
const DECIDERS: &str =
    "SELECT account FROM group_member WHERE conversation = $1 AND role <= 2 ORDER BY role, place LIMIT $2";

/// Returns those who decide, at most [`MAX_TOLD`], the owner first.
pub(crate) async fn deciders(tx: &mut Tx<'_>, group: ConversationKey) -> Result<Vec<UserKey>, Error> {
    let rows = tx.fetch(DECIDERS, &params![group, MAX_TOLD]).await?;
    rows.iter().map(|row| Ok(UserKey(row.get(0)?))).collect()
}

/// Changes the nickname of a member. Returns false if it was the same.
pub(super) async fn set_nickname(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    user: UserKey,
    nickname: String,
) -> Result<bool, Error> {
    let sql = "UPDATE group_member SET nickname = $3 WHERE conversation = $1 AND account = $2 AND nickname <> $3";
    Ok(tx.execute(sql, &params![group, user, nickname]).await? > 0)
}

/// Mutes members until a time.
pub(super) async fn mute_members(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    users: &[UserKey],
    until: i64,
) -> Result<(), Error> {
    let (list, mut params) = tx.dialect().in_list(users.iter().copied(), 3);
    params.splice(0..0, params![group, until]);
    let sql = format!("UPDATE group_member SET mute_until = $2 WHERE conversation = $1 AND account IN {list}");
    tx.execute(&sql, &params).await?;
    Ok(())
}

/// Gives a member a role.
pub(super) async fn set_role(tx: &mut Tx<'_>, group: ConversationKey, user: UserKey, role: i64) -> Result<(), Error> {
    let sql = "UPDATE group_member SET role = $3 WHERE conversation = $1 AND account = $2";
    tx.execute(sql, &params![group, user, role]).await?;
    Ok(())
}

/// Returns the member who has been in the group longest.
pub(super) async fn earliest(tx: &mut Tx<'_>, group: ConversationKey) -> Result<Option<UserKey>, Error> {
    let sql = "SELECT account FROM group_member WHERE conversation = $1 ORDER BY place LIMIT 1";
    Ok(tx.fetch_one(sql, &params![group]).await?.map(|row| row.get(0)).transpose()?.map(UserKey))
}

/// Returns the owner.
pub(super) async fn owner(tx: &mut Tx<'_>, group: ConversationKey) -> Result<Option<(UserKey, String)>, Error> {
    // The second condition is that of the index.
    let sql = "SELECT g.account, a.name FROM group_member g JOIN account a ON a.id = g.account \
               WHERE g.conversation = $1 AND g.role = 1 AND g.role <= 2";
    let row = tx.fetch_one(sql, &params![group]).await?;
    row.map(|row| Ok((UserKey(row.get(0)?), row.get(1)?))).transpose()
}

/// Which members a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Muted,
}

/// Selects a page of members: parameter $1 is the group, $2 the place before the page, $3 the number, and for the muted $4 the time.
fn members_sql(which: Which) -> String {
    // The first condition is that of the index.
    let muted = " AND g.mute_until <> 0 AND (g.mute_until = -1 OR g.mute_until > $4)";
    format!(
        "SELECT {MEMBER}, g.place FROM group_member g JOIN account a ON a.id = g.account \
         LEFT JOIN account o ON o.id = g.operator WHERE g.conversation = $1 AND g.place > $2{} ORDER BY g.place LIMIT $3",
        if which == Which::Muted { muted } else { "" }
    )
}

/// Returns up to `count` members after a place, in the order in which they entered, and the place to go on from; 0: there are
/// no more.
pub(super) async fn members(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    which: Which,
    (after, count): (i64, usize),
    now: i64,
) -> Result<(Vec<GroupMemberInfo>, i64), Error> {
    let sql = members_sql(which);
    let limit = i64::try_from(count + 1).map_err(Error::internal)?;
    let mut params: Vec<Value> = params![group, after, limit].into();
    if which == Which::Muted {
        params.push(now.into());
    }
    let rows = tx.fetch(&sql, &params).await?;
    let (mut members, mut bytes, mut last) = (Vec::with_capacity(rows.len()), 0, 0);
    for row in rows.iter().take(count) {
        let member = rules::member_at(member_info(row, 0)?.1, now);
        bytes += prost::Message::encoded_len(&member);
        if bytes > PAGE_BYTES && !members.is_empty() {
            break;
        }
        members.push(member);
        last = row.get(14)?;
    }
    let is_last = members.len() == rows.len();
    Ok((members, if is_last { 0 } else { last }))
}

/// Returns a page of the groups of a user in which all of `others` are, too.
pub(super) async fn groups(
    tx: &mut Tx<'_>,
    user: UserKey,
    others: &[UserKey],
    page: Page,
) -> Result<(Vec<Group>, i64), Error> {
    // Keys are numbers.
    let with = |other: &UserKey| {
        format!(
            " AND EXISTS (SELECT 1 FROM group_member w WHERE w.conversation = i.conversation AND w.account = {})",
            other.0
        )
    };
    let sql = format!(
        "SELECT i.list_place, c.name, g.group_name, g.avatar_url, m.alias, COALESCE(s.notification, {NOTIFY}) \
         FROM group_member i \
         JOIN conversation c ON c.id = i.conversation JOIN chat_group g ON g.conversation = i.conversation \
         JOIN member m ON m.conversation = i.conversation AND m.account = i.account \
         LEFT JOIN conversation_setting s ON s.conversation = i.conversation AND s.account = i.account \
         WHERE i.account = $1 AND i.list_place < $2 AND c.end_seq IS NULL{} ORDER BY i.list_place DESC LIMIT $3",
        others.iter().map(with).collect::<String>()
    );
    page.fetch(tx, user, &sql, |row| {
        Ok(Group {
            base_info: Some(GroupInfo {
                group_id: row.get(1)?,
                group_name: row.get(2)?,
                group_avatar_url: row.get(3)?,
            }),
            group_alias: row.get(4)?,
            notification_status: row.get(5)?,
        })
    })
    .await
}

/// Returns how many groups each of these users is in; a user in none is left out.
pub(super) async fn counts(
    tx: &mut Tx<'_>,
    users: impl IntoIterator<Item = UserKey>,
) -> Result<HashMap<UserKey, i64>, Error> {
    let (list, params) = tx.dialect().in_list(users, 1);
    let sql = format!(
        "SELECT g.account, COUNT(*) FROM group_member g JOIN conversation c ON c.id = g.conversation \
         WHERE g.account IN {list} AND c.end_seq IS NULL GROUP BY g.account"
    );
    tx.fetch(&sql, &params).await?.iter().map(|row| Ok((UserKey(row.get(0)?), row.get(1)?))).collect()
}

/// A group of a user: its ID, and the user's stay.
type Stay = (ConversationKey, Arc<str>, (GroupStay, Knows));

/// Returns the groups that a user is in.
pub(super) async fn stays(tx: &mut Tx<'_>, user: UserKey) -> Result<Vec<Stay>, Error> {
    let sql = format!(
        "SELECT g.conversation, c.name, member.from_seq, member.from_rev, {IS_RETURN}, c.ended_rev, member.entered_seq FROM group_member g \
         JOIN member ON member.account = g.account AND member.conversation = g.conversation \
         JOIN conversation c ON c.id = g.conversation WHERE g.account = $1 AND c.end_seq IS NULL"
    );
    let rows = tx.fetch(&sql, &params![user]).await?;
    rows.iter()
        .map(|row| {
            let name: String = row.get(1)?;
            let stay = GroupStay {
                from_seq: row.get(2)?,
                entered_seq: row.get(6)?,
                from_rev: row.get(3)?,
                to: None,
                is_return: row.get::<i64>(4)? != 0,
            };
            Ok((ConversationKey(row.get(0)?), Arc::from(name), (stay, Knows::Read(row.get(5)?))))
        })
        .collect()
}

/// Returns the present or the last stays in a group of those of these users who were ever in it.
pub(super) async fn stays_in(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    users: impl IntoIterator<Item = UserKey>,
) -> Result<Vec<(UserKey, (GroupStay, Knows))>, Error> {
    let (list, mut params) = tx.dialect().in_list(users, 2);
    params.insert(0, conversation.into());
    let sql = format!(
        "SELECT member.account, member.from_seq, member.from_rev, member.to_seq, member.to_rev, {IS_RETURN}, c.ended_rev, \
         member.entered_seq FROM member JOIN conversation c ON c.id = member.conversation \
         WHERE member.conversation = $1 AND member.account IN {list}"
    );
    let rows = tx.fetch(&sql, &params).await?;
    rows.iter()
        .map(|row| {
            let stay = GroupStay {
                from_seq: row.get(1)?,
                entered_seq: row.get(7)?,
                from_rev: row.get(2)?,
                to: row.get::<Option<i64>>(3)?.zip(row.get::<Option<i64>>(4)?),
                is_return: row.get::<i64>(5)? != 0,
            };
            Ok((UserKey(row.get(0)?), (stay, Knows::Read(row.get(6)?))))
        })
        .collect()
}

#[cfg(test)]
mod tests;
