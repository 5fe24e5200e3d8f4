//! What several nouns read in the same way: users, rows about users, and pages of lists.

use std::collections::HashMap;

use prost::Message;
use zim_protocol::{
    GroupFullInfo, GroupInfo, GroupMessageNotificationStatus, GroupMuteInfo, GroupVerifyInfo, UserFullInfo, UserInfo,
};

use crate::db::{Row, Tx, Value};
use crate::error::Error;
use crate::journal::mute;
use crate::key::UserKey;

/// The approximate bytes of a page: a quarter of the largest frame, so that a page does not delay a push by much.
pub(crate) const PAGE_BYTES: usize = 256 * 1024;

/// The most rows on a page of a list of the operator.
pub(crate) const OPERATORS_PAGE: usize = 100;

/// Returns how many rows the operator wants on a page; 0 stands for a full one.
pub(crate) fn operators_count(count: u32) -> usize {
    if count == 0 { OPERATORS_PAGE } else { OPERATORS_PAGE.min(count as usize) }
}

/// Reads where a page of the operator begins, in a list that is in the order of a number; `first` is the beginning of the list.
///
/// # Errors
/// It is not `next` of such a page.
pub(crate) fn operators_place(after: &str, first: i64) -> Result<i64, Error> {
    if after.is_empty() {
        return Ok(first);
    }
    let place = after.parse().ok().filter(|place| *place > 0);
    place.ok_or_else(|| Error::params_invalid("after must be `next` of the page before"))
}

/// The columns of a user `a` that [`user_info`] and [`full_info`] read.
pub(crate) const USER: &str = "a.name, a.user_name, a.avatar_url, a.extended_data";

/// Reads the columns of [`USER`], of which the first is column `first`.
pub(crate) fn user_info(row: &Row, first: usize) -> Result<UserInfo, Error> {
    Ok(UserInfo {
        user_id: row.get(first)?,
        user_name: row.get(first + 1)?,
        user_avatar_url: row.get(first + 2)?,
        user_extended_data: row.get(first + 3)?,
    })
}

/// Reads the columns of [`USER`] as a profile, with the reference's deprecated duplicate fields.
pub(crate) fn full_info(row: &Row, first: usize) -> Result<UserFullInfo, Error> {
    let info = user_info(row, first)?;
    Ok(UserFullInfo {
        user_avatar_url: info.user_avatar_url.clone(),
        extended_data: info.user_extended_data.clone(),
        base_info: Some(info),
    })
}

/// The columns of a group `g` that [`group_info`] reads. The limit of members is the one in force: the server's, or a lower one of
/// the group.
pub(crate) const GROUP: &str = "g.group_name, g.avatar_url, g.notice, g.attributes, g.created_at, \
     COALESCE((SELECT CASE WHEN g.max_members > 0 AND g.max_members < d.max_group_members THEN g.max_members \
     ELSE d.max_group_members END FROM deployment d WHERE d.id = 1), g.max_members), \
     g.join_mode, g.invite_mode, g.be_invite_mode, g.mute_mode, g.mute_until, g.mute_roles";

/// Reads the columns of [`GROUP`], of which the first is column `first`.
pub(crate) fn group_info(row: &Row, first: usize, group_id: &str) -> Result<GroupFullInfo, Error> {
    let attributes: String = row.get(first + 3)?;
    Ok(GroupFullInfo {
        base_info: Some(GroupInfo {
            group_id: group_id.to_owned(),
            group_name: row.get(first)?,
            group_avatar_url: row.get(first + 1)?,
        }),
        group_notice: row.get(first + 2)?,
        group_attributes: serde_json::from_str(&attributes).map_err(Error::internal)?,
        group_alias: String::new(),
        notification_status: GroupMessageNotificationStatus::Notify as i32,
        muted_info: Some(GroupMuteInfo {
            mode: row.get(first + 9)?,
            expired_time: row.get(first + 10)?,
            roles: mute::roles(row, first + 11)?,
        }),
        create_time: row.get(first + 4)?,
        max_member_count: row.get(first + 5)?,
        verify_info: Some(GroupVerifyInfo {
            join_mode: row.get(first + 6)?,
            invite_mode: row.get(first + 7)?,
            be_invite_mode: row.get(first + 8)?,
        }),
    })
}

/// Reads what a table holds about each of these users: one statement for all of them. A user about whom it holds nothing has a
/// row of NULLs, so that a deleted row is seen as deleted.
///
/// `sql` is `SELECT a.id, … FROM account a LEFT JOIN … WHERE a.id IN`; its parameter $1 is `owner`.
pub(crate) async fn about<T>(
    tx: &mut Tx<'_>,
    owner: UserKey,
    users: &[i64],
    sql: &str,
    read: impl Fn(&Row) -> Result<T, Error>,
) -> Result<HashMap<i64, T>, Error> {
    let (list, mut params) = tx.dialect().in_list(users.iter().copied(), 2);
    params.insert(0, owner.into());
    let rows = tx.fetch(&format!("{sql} {list}"), &params).await?;
    rows.iter().map(|row| Ok((row.get(0)?, read(row)?))).collect()
}

/// A page of a list. The list is in descending order of the place, the position in the owner's feed at which an element got
/// there: no page repeats or skips an element, whatever changes meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    before: i64,
    count: i64,
}

impl Page {
    /// Creates the page of up to `count` elements after `next_flag`, which the page before returned; 0 for the first page.
    pub(crate) fn new(next_flag: i64, count: i64) -> Self {
        Self { before: if next_flag > 0 { next_flag } else { i64::MAX }, count }
    }

    /// Fetches the rows of a page by statement as [`Page::fetch`], and how many of them belong to it: there is one more if it is not
    /// the last.
    pub(crate) async fn rows(self, tx: &mut Tx<'_>, owner: UserKey, sql: &str) -> Result<(Vec<Row>, usize), Error> {
        let params: [Value; 3] = [owner.into(), self.before.into(), (self.count + 1).into()];
        Ok((tx.fetch(sql, &params).await?, usize::try_from(self.count).unwrap_or(0)))
    }

    /// Fetches the page of `owner`, limited in elements and in bytes, and the flag of the next one, 0 at the end. The column 0
    /// of `sql` is the place; its parameters are the owner, the place that the page starts before, and the number of rows.
    pub(crate) async fn fetch<T: Message>(
        self,
        tx: &mut Tx<'_>,
        owner: UserKey,
        sql: &str,
        read: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<(Vec<T>, i64), Error> {
        let (rows, most) = self.rows(tx, owner, sql).await?;
        let (mut page, mut bytes, mut last) = (Vec::with_capacity(rows.len().min(most)), 0, 0);
        for row in rows.iter().take(most) {
            let element = read(row)?;
            bytes += element.encoded_len();
            if bytes > PAGE_BYTES && !page.is_empty() {
                break;
            }
            page.push(element);
            last = row.get(0)?;
        }
        let is_last = page.len() == rows.len();
        Ok((page, if is_last { 0 } else { last }))
    }
}
