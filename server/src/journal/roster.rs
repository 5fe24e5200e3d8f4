//! Changes of who is in a group, and as what, and of what the group is. The log stores keys of users; names, nicknames and roles are read when an entry is delivered.

use std::collections::HashMap;

use prost::Message;
use zim_protocol::{
    GroupChange, GroupEnterInfo, GroupEnterType, GroupEvent, GroupMemberEvent, GroupMemberInfo, GroupMemberSimpleInfo,
    GroupMemberState, GroupOperatedInfo, RosterChange, change_entry::Detail,
};

use crate::db::{Row, Tx};
use crate::error::Error;
use crate::key::{ConversationKey, UserKey};

/// What happens to members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterEvent {
    /// The creator makes the group.
    Created,
    /// A user joins.
    Joined,
    /// A member brings others in.
    Invited,
    /// A member leaves.
    Left,
    /// Members are removed.
    KickedOut,
    /// The group is dismissed: nobody is a member any more.
    Dismissed,
    /// Members change: their roles, nicknames or mutes.
    Updated,
}

impl RosterEvent {
    const ALL: [Self; 7] =
        [Self::Created, Self::Joined, Self::Invited, Self::Left, Self::KickedOut, Self::Dismissed, Self::Updated];

    /// The event for the users themselves.
    fn group_event(self) -> GroupEvent {
        match self {
            Self::Created => GroupEvent::Created,
            Self::Joined => GroupEvent::Joined,
            Self::Invited => GroupEvent::Invited,
            Self::Left => GroupEvent::Left,
            Self::KickedOut => GroupEvent::KickedOut,
            Self::Dismissed => GroupEvent::Dismissed,
            Self::Updated => GroupEvent::Unspecified,
        }
    }

    /// The event for all members.
    fn member_event(self) -> GroupMemberEvent {
        match self {
            Self::Created | Self::Joined => GroupMemberEvent::Joined,
            Self::Invited => GroupMemberEvent::Invited,
            Self::Left => GroupMemberEvent::Left,
            Self::KickedOut => GroupMemberEvent::KickedOut,
            Self::Dismissed | Self::Updated => GroupMemberEvent::Unspecified,
        }
    }

    /// Whether the users are members afterwards.
    fn are_members(self) -> bool {
        matches!(self, Self::Created | Self::Joined | Self::Invited | Self::Updated)
    }
}

/// What happened to which users, as the log stores it.
#[derive(Clone, PartialEq, Message)]
pub struct RosterRecord {
    /// `GroupEvent`; 0: the users changed.
    #[prost(int32, tag = "1")]
    event: i32,
    #[prost(sint64, repeated, tag = "2")]
    users: Vec<i64>,
}

impl RosterRecord {
    /// Creates the record of an event of these users.
    pub fn new(event: RosterEvent, users: impl IntoIterator<Item = UserKey>) -> Self {
        Self { event: event.group_event() as i32, users: users.into_iter().map(|user| user.0).collect() }
    }

    /// Whether the stays of these users end with it.
    pub(super) fn ends_stays(&self) -> bool {
        matches!(self.event(), Some(RosterEvent::Left | RosterEvent::KickedOut))
    }

    fn event(&self) -> Option<RosterEvent> {
        RosterEvent::ALL.into_iter().find(|event| event.group_event() as i32 == self.event)
    }
}

/// The columns of a member `g` of a group with the account `a`, and the account `o` that brought them in.
pub const MEMBER: &str = "a.id, a.name, a.user_name, a.avatar_url, a.extended_data, g.nickname, g.role, g.enter_type, \
     g.entered_at, o.name, o.user_name, o.avatar_url, o.extended_data, g.mute_until";

/// The tables of [`MEMBER`] for the conversation that parameter $1 names. A user who is not a member has no `g`.
pub const MEMBERS: &str = "account a LEFT JOIN group_member g ON g.conversation = $1 AND g.account = a.id \
     LEFT JOIN account o ON o.id = g.operator";

/// Reads [`MEMBER`] from column `first`. Returns the user's key, too.
///
/// # Errors
/// A column has another type.
pub fn member_info(row: &Row, first: usize) -> Result<(UserKey, GroupMemberInfo), Error> {
    let user_avatar_url: String = row.get(first + 3)?;
    let operated_user = match row.get::<Option<String>>(first + 9)? {
        Some(user_id) => Some(GroupMemberSimpleInfo {
            user_id,
            user_name: row.get(first + 10)?,
            user_avatar_url: row.get(first + 11)?,
            user_extended_data: row.get(first + 12)?,
            ..GroupMemberSimpleInfo::default()
        }),
        None => None,
    };
    let enter = match row.get::<Option<i32>>(first + 7)? {
        Some(enter_type) => Some(GroupEnterInfo { enter_time: row.get(first + 8)?, enter_type, operated_user }),
        None => None,
    };
    let info = GroupMemberInfo {
        user_id: row.get(first + 1)?,
        user_name: row.get(first + 2)?,
        user_avatar_url: user_avatar_url.clone(),
        user_extended_data: row.get(first + 4)?,
        member_nickname: row.get::<Option<String>>(first + 5)?.unwrap_or_default(),
        member_role: row.get::<Option<i64>>(first + 6)?.unwrap_or_default(),
        member_avatar_url: user_avatar_url,
        mute_expired_time: row.get::<Option<i64>>(first + 13)?.unwrap_or_default(),
        group_enter_info: enter,
    };
    Ok((UserKey(row.get(first)?), info))
}

/// Returns these users as members of the group; those who are not have neither nickname nor role.
///
/// # Errors
/// The store fails.
pub async fn members(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    users: impl IntoIterator<Item = i64>,
) -> Result<HashMap<i64, GroupMemberInfo>, Error> {
    let (list, mut params) = tx.dialect().in_list(users, 2);
    params.insert(0, group.into());
    let sql = format!("SELECT {MEMBER} FROM {MEMBERS} WHERE a.id IN {list}");
    let rows = tx.fetch(&sql, &params).await?;
    rows.iter().map(|row| member_info(row, 0).map(|(user, info)| (user.0, info))).collect()
}

/// The most bytes of the members whom a change or an answer names. The rest of the frame is for what comes with them.
const MEMBERS_BYTES: usize = 768 << 10;

/// Leaves out extended data if members would not fit into a frame with it: first that of those who have brought them in,
/// which repeats itself. Names and avatars of a hundred members always fit. Returns whether the members are without their own.
pub fn shorten_members(members: &mut [GroupMemberInfo]) -> bool {
    if !are_too_long(members) {
        return false;
    }
    let enter_infos = members.iter_mut().filter_map(|member| member.group_enter_info.as_mut());
    for operator in enter_infos.filter_map(|info| info.operated_user.as_mut()) {
        operator.user_extended_data.clear();
    }
    let has_too_much = are_too_long(members);
    if has_too_much {
        members.iter_mut().for_each(|member| member.user_extended_data.clear());
    }
    has_too_much
}

fn are_too_long(members: &[GroupMemberInfo]) -> bool {
    members.iter().map(Message::encoded_len).sum::<usize>() > MEMBERS_BYTES
}

/// What happened to a group, as the log stores it.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// To its members.
    Roster(RosterRecord),
    /// To what it is.
    Group(GroupChange),
}

impl Record {
    /// Estimates how many bytes the completed change has.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Roster(record) => record.encoded_len() * 20,
            Self::Group(change) => change.encoded_len() + 100,
        }
    }

    fn users(&self) -> &[i64] {
        match self {
            Self::Roster(record) => &record.users,
            Self::Group(_) => &[],
        }
    }
}

/// The change of a page that is to be completed: its index there, its record and its actor.
pub(super) type Unresolved = (usize, Record, i64);

/// Completes changes of a group with what is true of their users now. One statement for all of them. `group` tells what they
/// are in it; 0: nothing.
pub(super) async fn resolve(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    records: Vec<Unresolved>,
) -> Result<Vec<(usize, Detail)>, Error> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let users = records.iter().flat_map(|(_, record, actor)| record.users().iter().chain([actor]).copied());
    let found = members(tx, group, users.collect::<std::collections::BTreeSet<_>>()).await?;
    let resolved = records.into_iter().filter_map(|(index, record, actor)| {
        let operator = found.get(&actor).cloned().unwrap_or_default();
        let operated_info = Some(GroupOperatedInfo {
            user_id: operator.user_id,
            user_name: operator.user_name,
            member_nickname: operator.member_nickname,
            member_role: operator.member_role,
        });
        let detail = match record {
            Record::Group(change) => Detail::Group(GroupChange { operated_info, ..change }),
            Record::Roster(record) => {
                // A later version may know more.
                let event = record.event()?;
                let state = if event.are_members() { GroupMemberState::Enter } else { GroupMemberState::Quit };
                let users = record.users.iter().filter_map(|user| found.get(user).cloned());
                let mut user_list: Vec<GroupMemberInfo> = users.collect();
                let without_extended_data = shorten_members(&mut user_list);
                Detail::Roster(RosterChange {
                    state: state as i32,
                    member_event: event.member_event() as i32,
                    group_event: event.group_event() as i32,
                    user_list,
                    operated_info,
                    without_extended_data,
                })
            }
        };
        Some((index, detail))
    });
    Ok(resolved.collect())
}

/// The way in that an event stands for.
pub fn enter_type(event: RosterEvent) -> GroupEnterType {
    match event {
        RosterEvent::Created => GroupEnterType::Created,
        RosterEvent::Joined => GroupEnterType::Joined,
        RosterEvent::Invited => GroupEnterType::Invited,
        _ => GroupEnterType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members with extended data of this length, brought in by a user with extended data.
    fn brought_in(count: usize, own: usize, operators: usize) -> Vec<GroupMemberInfo> {
        let operated_user =
            GroupMemberSimpleInfo { user_extended_data: "x".repeat(operators), ..GroupMemberSimpleInfo::default() };
        let enter_info = GroupEnterInfo { operated_user: Some(operated_user), ..GroupEnterInfo::default() };
        let member = GroupMemberInfo {
            user_extended_data: "x".repeat(own),
            group_enter_info: Some(enter_info),
            ..GroupMemberInfo::default()
        };
        vec![member; count]
    }

    #[test]
    fn members_have_their_extended_data_if_a_frame_has_room_for_it() {
        for (count, own, operators, expected) in [
            // As long as they are without settings.
            (101, 2_048, 2_048, (2_048, 2_048)),
            (20, 32_000, 32_000, (32_000, 0)),
            (101, 32_000, 32_000, (0, 0)),
            (101, 32_000, 0, (0, 0)),
        ] {
            let mut members = brought_in(count, own, operators);
            assert_eq!(shorten_members(&mut members), expected.0 == 0, "{count} {own} {operators}");
            assert!(!are_too_long(&members));
            for member in &members {
                let operator = member.group_enter_info.as_ref().unwrap().operated_user.as_ref().unwrap();
                let lengths = (member.user_extended_data.len(), operator.user_extended_data.len());
                assert_eq!(lengths, expected, "{count} {own} {operators}");
            }
        }
    }
}
