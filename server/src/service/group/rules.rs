//! The rules of groups, without a store.

use std::collections::{BTreeMap, HashMap};

use zim_protocol::{
    ErrorCode, GroupAdvancedConfig, GroupJoinMode, GroupMemberInfo, GroupMuteConfig, GroupMuteInfo, GroupMuteMode,
};

use crate::error::Error;
use crate::journal::mute;

/// The role of the one owner.
pub(crate) const OWNER: i64 = 1;
/// The role of administrators.
pub(super) const ADMIN: i64 = 2;
/// The role of other members, unless the app gives them one of its own.
pub(super) const MEMBER: i64 = 3;

/// The most UTF-8 bytes of an attribute's key, and of its value.
const MAX_KEY_BYTES: usize = 16;
const MAX_VALUE_BYTES: usize = 1_024;

/// The most attributes of a group.
const MAX_ATTRIBUTES: usize = 10;

/// Checks the lengths of attributes.
fn check_attributes(attributes: &HashMap<String, String>) -> Result<(), Error> {
    for (key, value) in attributes {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            let message = format!("an attribute's key has 1 to {MAX_KEY_BYTES} bytes; {key:?} has {}", key.len());
            return Err(Error::new(ErrorCode::GroupModuleTheLengthOfGroupAttributeKeyExceedsLimit, message));
        }
        if value.len() > MAX_VALUE_BYTES {
            let message =
                format!("the value of {key:?} has {} bytes; at most {MAX_VALUE_BYTES} are allowed", value.len());
            return Err(Error::new(ErrorCode::GroupModuleTheLengthOfGroupAttributeValueExceedsLimit, message));
        }
    }
    Ok(())
}

/// What a new group is, apart from its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) notice: String,
    pub(super) attributes: BTreeMap<String, String>,
    /// 0: the server's limit.
    pub(super) max_members: i64,
    pub(super) join_mode: i32,
    pub(super) invite_mode: i32,
    pub(super) be_invite_mode: i32,
}

impl Settings {
    /// Checks the settings of a new group. `most` is the server's limit of members.
    pub(super) fn new(config: GroupAdvancedConfig, most: i64) -> Result<Self, Error> {
        check_attributes(&config.group_attributes)?;
        if !(0..=most).contains(&config.max_member_count) {
            return Err(Error::params_invalid(format!("config.maxMemberCount must be 0 to {most}")));
        }
        Ok(Self {
            notice: config.group_notice,
            attributes: config.group_attributes.into_iter().collect(),
            max_members: config.max_member_count,
            join_mode: config.join_mode,
            invite_mode: config.invite_mode,
            be_invite_mode: config.be_invite_mode,
        })
    }
}

/// Checks the ID that an app gives a new group. IDs with # are the server's.
pub(super) fn check_own_id(group_id: &str) -> Result<(), Error> {
    if group_id.starts_with('#') {
        return Err(Error::params_invalid("groupID must not begin with #: such IDs are given by the server"));
    }
    Ok(())
}

/// The most members of a group: its own limit, or the server's.
pub(super) fn limit(own: i64, most: i64) -> i64 {
    if own > 0 { own.min(most) } else { most }
}

/// Whether a user who is not invited may join.
pub(super) fn check_join_mode(mode: i32) -> Result<(), Error> {
    match GroupJoinMode::try_from(mode) {
        Ok(GroupJoinMode::Any) => Ok(()),
        Ok(GroupJoinMode::Auth) => Err(Error::joining_needs_application()),
        Ok(GroupJoinMode::Forbid) | Err(_) => Err(Error::joining_is_forbidden()),
    }
}

/// Whether somebody in the first role may act on somebody in the second: the owner on everybody, an administrator on members.
pub(crate) fn is_above(role: i64, other: i64) -> bool {
    match role {
        OWNER => other != OWNER,
        ADMIN => other != OWNER && other != ADMIN,
        _ => false,
    }
}

/// Whether a role is that of the owner or of an administrator.
pub(super) fn decides(role: i64) -> bool {
    role == OWNER || role == ADMIN
}

/// Something that a member does to a group or to another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Changes name, avatar, notice or attributes.
    Describe,
    /// Gives a member a nickname.
    Nickname,
    /// Removes a member.
    Kick,
    /// Mutes a member, or ends that.
    Mute,
    /// Mutes a role, or ends that.
    MuteRole,
    /// Mutes everybody, or ends that.
    MuteAll,
    /// Gives a member a role.
    SetRole,
    /// Makes another member the owner, or dismisses the group.
    Own,
    /// Changes who joins and who invites.
    SetModes,
    /// Answers applications to join.
    Answer,
}

/// Whether a member in this role may do something, to a member in the role `other` or to this role, or to themselves.
pub(super) fn may(act: Act, role: i64, other: i64, is_self: bool) -> bool {
    match act {
        Act::Describe => true,
        Act::Nickname => is_self || is_above(role, other),
        Act::Kick => !is_self && is_above(role, other),
        Act::Mute => is_above(role, other) || (is_self && role == OWNER),
        Act::MuteRole => role == OWNER || is_above(role, other),
        Act::MuteAll | Act::Own => role == OWNER,
        Act::SetRole => role == OWNER && !is_self,
        Act::SetModes | Act::Answer => decides(role),
    }
}

/// Returns the attributes after some were set.
pub(super) fn with_attributes(
    mut attributes: BTreeMap<String, String>,
    set: &HashMap<String, String>,
) -> Result<BTreeMap<String, String>, Error> {
    check_attributes(set)?;
    attributes.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    if attributes.len() > MAX_ATTRIBUTES { Err(Error::too_many_attributes(MAX_ATTRIBUTES)) } else { Ok(attributes) }
}

/// A mute of a group, or the end of one.
pub(super) fn group_mute(is_mute: bool, config: GroupMuteConfig, now: i64) -> Result<GroupMuteInfo, Error> {
    if !is_mute {
        return Ok(GroupMuteInfo::default());
    }
    let mode = config.mode.unwrap_or(GroupMuteMode::All as i32);
    let roles = match GroupMuteMode::try_from(mode) {
        Ok(GroupMuteMode::None) | Err(_) => {
            return Err(Error::params_invalid("config.mode must say whom to mute: 1, 2 or 3"));
        }
        Ok(GroupMuteMode::Custom) => {
            let mut roles = config.roles;
            roles.sort_unstable();
            roles.dedup();
            if roles.is_empty() || roles == [MEMBER] || roles[0] < 1 {
                let message = "config.roles must name roles from 1 on, and not 3 alone, which is the mode 1";
                return Err(Error::params_invalid(message));
            }
            roles
        }
        Ok(GroupMuteMode::Normal | GroupMuteMode::All) => Vec::new(),
    };
    let expired_time = until(config.duration.unwrap_or(-1), now)?;
    Ok(GroupMuteInfo { mode, expired_time, roles })
}

/// Returns the mute of a group as it is at a time.
pub(super) fn mute_at(info: GroupMuteInfo, now: i64) -> GroupMuteInfo {
    if mute::at(info.expired_time, now) == 0 { GroupMuteInfo::default() } else { info }
}

/// Returns a member as they are at a time.
pub(crate) fn member_at(member: GroupMemberInfo, now: i64) -> GroupMemberInfo {
    GroupMemberInfo { mute_expired_time: mute::at(member.mute_expired_time, now), ..member }
}

/// Returns when a mute of this many seconds ends.
pub(super) fn until(duration_s: i64, now: i64) -> Result<i64, Error> {
    match duration_s {
        -1 => Ok(-1),
        1.. => Ok(now + duration_s * 1_000),
        _ => Err(Error::params_invalid("config.duration must be -1 or a number of seconds")),
    }
}

/// Whether a member in this role may set or end a mute of a group.
pub(super) fn may_mute(role: i64, mute: &GroupMuteInfo) -> bool {
    match mute.mode() {
        GroupMuteMode::None => decides(role),
        GroupMuteMode::All => may(Act::MuteAll, role, MEMBER, false),
        GroupMuteMode::Normal => may(Act::MuteRole, role, MEMBER, false),
        GroupMuteMode::Custom => mute.roles.iter().all(|other| may(Act::MuteRole, role, *other, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_short_keys_and_values() {
        let settings = |key: usize, value: usize| {
            let group_attributes = [("k".repeat(key), "v".repeat(value))].into();
            let config = GroupAdvancedConfig { group_attributes, ..GroupAdvancedConfig::default() };
            Settings::new(config, 500).map(|settings| settings.attributes.len()).map_err(|error| error.code())
        };
        assert_eq!(settings(16, 1_024), Ok(1));
        assert_eq!(settings(17, 1), Err(ErrorCode::GroupModuleTheLengthOfGroupAttributeKeyExceedsLimit));
        assert_eq!(settings(0, 1), Err(ErrorCode::GroupModuleTheLengthOfGroupAttributeKeyExceedsLimit));
        assert_eq!(settings(1, 1_025), Err(ErrorCode::GroupModuleTheLengthOfGroupAttributeValueExceedsLimit));
    }

    #[test]
    fn a_group_is_not_larger_than_the_server_allows() {
        let max = |max_member_count| {
            let config = GroupAdvancedConfig { max_member_count, ..GroupAdvancedConfig::default() };
            Settings::new(config, 500).map(|settings| limit(settings.max_members, 500)).map_err(|error| error.code())
        };
        assert_eq!((max(0), max(1), max(500)), (Ok(500), Ok(1), Ok(500)));
        assert_eq!(max(501), Err(ErrorCode::CommonModuleParamsInvalid));
        assert_eq!(max(-1), Err(ErrorCode::CommonModuleParamsInvalid));
        // The server's limit was lowered later.
        assert_eq!(limit(500, 20), 20);
    }

    #[test]
    fn only_the_server_gives_ids_with_a_number_sign() {
        assert!(check_own_id("a#").is_ok());
        assert!(check_own_id("#a").is_err());
    }

    #[test]
    fn who_joins_depends_on_the_mode() {
        let code = |mode| check_join_mode(mode).map_err(|error| error.code());
        assert_eq!(code(0), Ok(()));
        assert_eq!(code(1), Err(ErrorCode::GroupModuleNeedApplyJoinGroupError));
        assert_eq!(code(2), Err(ErrorCode::GroupModuleForbidJoinGroupError));
        assert_eq!(code(9), Err(ErrorCode::GroupModuleForbidJoinGroupError));
    }

    /// An act; the roles that the owner, an administrator and a member may do it to; and the roles that may do it to themselves.
    type Line = (Act, [&'static [i64]; 3], &'static [i64]);

    /// The table of permissions of the reference: what each role may do to each other role.
    #[test]
    fn permissions_are_those_of_the_table() {
        const OWN: i64 = 77;
        const ROLES: [i64; 4] = [OWNER, ADMIN, MEMBER, OWN];
        const EVERYBODY: &[i64] = &[OWNER, ADMIN, MEMBER, OWN];
        const BELOW_OWNER: &[i64] = &[ADMIN, MEMBER, OWN];
        const MEMBERS: &[i64] = &[MEMBER, OWN];
        let table: [Line; 10] = [
            (Act::Describe, [EVERYBODY, EVERYBODY, EVERYBODY], EVERYBODY),
            (Act::Nickname, [BELOW_OWNER, MEMBERS, &[]], EVERYBODY),
            (Act::Kick, [BELOW_OWNER, MEMBERS, &[]], &[]),
            (Act::Mute, [BELOW_OWNER, MEMBERS, &[]], &[OWNER]),
            (Act::MuteRole, [EVERYBODY, MEMBERS, &[]], &[OWNER]),
            (Act::MuteAll, [EVERYBODY, &[], &[]], &[OWNER]),
            (Act::SetRole, [EVERYBODY, &[], &[]], &[]),
            (Act::Own, [EVERYBODY, &[], &[]], &[OWNER]),
            (Act::SetModes, [EVERYBODY, EVERYBODY, &[]], &[OWNER, ADMIN]),
            (Act::Answer, [EVERYBODY, EVERYBODY, &[]], &[OWNER, ADMIN]),
        ];
        for (act, [owner, admin, member], on_self) in table {
            for role in ROLES {
                let allowed = match role {
                    OWNER => owner,
                    ADMIN => admin,
                    _ => member,
                };
                for other in ROLES {
                    assert_eq!(may(act, role, other, false), allowed.contains(&other), "{act:?} {role} {other}");
                }
                assert_eq!(may(act, role, role, true), on_self.contains(&role), "{act:?} {role} self");
            }
        }
    }

    #[test]
    fn a_mute_of_roles_needs_the_right_to_each_of_them() {
        let allowed = |mode: GroupMuteMode, roles: &[i64]| {
            let info = GroupMuteInfo { mode: mode as i32, expired_time: -1, roles: roles.to_vec() };
            [OWNER, ADMIN, MEMBER, 77].into_iter().filter(|role| may_mute(*role, &info)).collect::<Vec<_>>()
        };
        for (mode, roles, expected) in [
            (GroupMuteMode::None, &[][..], &[OWNER, ADMIN][..]),
            (GroupMuteMode::Normal, &[], &[OWNER, ADMIN]),
            (GroupMuteMode::All, &[], &[OWNER]),
            (GroupMuteMode::Custom, &[MEMBER, 77], &[OWNER, ADMIN]),
            (GroupMuteMode::Custom, &[ADMIN, 77], &[OWNER]),
            (GroupMuteMode::Custom, &[OWNER, 77], &[OWNER]),
        ] {
            assert_eq!(allowed(mode, roles), expected, "{mode:?} {roles:?}");
        }
    }

    #[test]
    fn a_group_is_muted_for_whom_its_config_says() {
        let of = |mode: GroupMuteMode, duration, roles: &[i64]| {
            let config = GroupMuteConfig { mode: Some(mode as i32), duration: Some(duration), roles: roles.to_vec() };
            group_mute(true, config, 1_000).map_err(|error| error.code())
        };
        let info = |mode: GroupMuteMode, expired_time, roles: &[i64]| {
            Ok(GroupMuteInfo { mode: mode as i32, expired_time, roles: roles.to_vec() })
        };
        assert_eq!(of(GroupMuteMode::Normal, 60, &[5]), info(GroupMuteMode::Normal, 61_000, &[]));
        assert_eq!(of(GroupMuteMode::Custom, -1, &[9, 2, 9]), info(GroupMuteMode::Custom, -1, &[2, 9]));
        assert_eq!(
            group_mute(true, GroupMuteConfig::default(), 7).unwrap(),
            info(GroupMuteMode::All, -1, &[]).unwrap()
        );
        assert_eq!(group_mute(false, GroupMuteConfig::default(), 7).unwrap(), GroupMuteInfo::default());
        for (mode, duration, roles) in [
            (GroupMuteMode::None, 60, &[][..]),
            (GroupMuteMode::All, 0, &[]),
            (GroupMuteMode::Custom, 60, &[]),
            (GroupMuteMode::Custom, 60, &[3]),
            (GroupMuteMode::Custom, 60, &[0, 2]),
        ] {
            assert_eq!(of(mode, duration, roles), Err(ErrorCode::CommonModuleParamsInvalid), "{mode:?} {duration}");
        }
    }

    #[test]
    fn the_owner_is_above_all_and_an_administrator_above_members() {
        const OWN: i64 = 77;
        for (role, below) in
            [(OWNER, vec![ADMIN, MEMBER, OWN]), (ADMIN, vec![MEMBER, OWN]), (MEMBER, vec![]), (OWN, vec![])]
        {
            for other in [OWNER, ADMIN, MEMBER, OWN] {
                assert_eq!(is_above(role, other), below.contains(&other), "{role} {other}");
            }
        }
    }
}
