//! The rules of groups, without a store.

use std::collections::BTreeMap;

use zim_protocol::{ErrorCode, GroupAdvancedConfig, GroupJoinMode};

use crate::error::Error;

/// The role of the one owner.
pub(crate) const OWNER: i64 = 1;
/// The role of administrators.
pub(super) const ADMIN: i64 = 2;
/// The role of other members, unless the app gives them one of its own.
pub(super) const MEMBER: i64 = 3;

/// The most UTF-8 bytes of an attribute's key, and of its value.
const MAX_KEY_BYTES: usize = 16;
const MAX_VALUE_BYTES: usize = 1_024;

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
        for (key, value) in &config.group_attributes {
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
