//! Errors of groups.

use zim_protocol::ErrorCode;

use super::Error;

/// Failures of groups.
impl Error {
    /// The caller is not a member of the group.
    pub fn not_in_group(group_id: &str) -> Self {
        let message = format!("you are not a member of the group {group_id}");
        Self::new(ErrorCode::GroupModuleUserIsNotInTheGroup, message)
    }

    /// Another user is not a member of the group.
    pub fn not_a_member(user_id: &str) -> Self {
        Self::new(ErrorCode::GroupModuleUserIsNotInTheGroup, format!("{user_id} is not a member of this group"))
    }

    /// There is no such group, or it was dismissed.
    pub fn group_not_found(group_id: &str) -> Self {
        Self::new(ErrorCode::GroupModuleGroupDoesNotExist, format!("there is no group {group_id}"))
    }

    /// A group with this ID exists.
    pub fn group_exists(group_id: &str) -> Self {
        Self::new(ErrorCode::GroupModuleGroupAlreadyExists, format!("the group {group_id} exists already"))
    }

    /// A group with this ID existed. Its ID is not given again.
    pub fn group_dismissed(group_id: &str) -> Self {
        let message = format!("the group {group_id} was dismissed; its ID cannot be used again");
        Self::new(ErrorCode::GroupModuleCreateGroupWithDismissed, message)
    }

    /// The group has as many members as it may have.
    pub fn group_full(most: i64) -> Self {
        let message = format!("the group is full: it has at most {most} members");
        Self::new(ErrorCode::GroupModuleGroupMemberHasReachedLimit, message)
    }

    /// The user is in as many groups as a user may be.
    pub fn too_many_groups(user_id: &str, most: i64) -> Self {
        let message = format!("{user_id} is in {most} groups, and a user can be in no more");
        Self::new(ErrorCode::GroupModuleJoinGroupError, message)
    }

    /// The caller, who creates a group, is in as many as a user may be.
    pub fn too_many_groups_to_create(most: i64) -> Self {
        Self::new(ErrorCode::GroupModuleCreateGroupError, Self::too_many_own_groups(most).message().to_owned())
    }

    /// The caller is in as many groups as a user may be.
    pub fn too_many_own_groups(most: i64) -> Self {
        let message = format!("you are in {most} groups, and a user can be in no more; leave one first");
        Self::new(ErrorCode::GroupModuleJoinGroupError, message)
    }

    /// The caller's role does not allow this.
    pub fn not_allowed_in_group(what: &str) -> Self {
        Self::new(ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority, format!("you may not {what}"))
    }

    /// The user is a member of the group already.
    pub fn already_in_group(user_id: &str) -> Self {
        let message = format!("{user_id} is a member of this group already");
        Self::new(ErrorCode::GroupModuleMemberIsAlreadyInTheGroup, message)
    }

    /// The sender must not write to the group. `until`: Unix milliseconds, -1 for good.
    pub fn muted_in_group(group_id: &str, until: i64) -> Self {
        let message = format!("you are muted in the group {group_id}");
        Self::new(ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority, message)
            .with_detail("mutedUntil", until.to_string())
    }

    /// The group does not have these attributes.
    pub fn no_such_attributes() -> Self {
        Self::new(ErrorCode::GroupModuleGroupAttributeDoesNotExist, "the group has none of these attributes")
    }

    /// The group would have more attributes than it may have.
    pub fn too_many_attributes(most: usize) -> Self {
        let message = format!("a group has at most {most} attributes");
        Self::new(ErrorCode::GroupModuleTheNumberOfGroupAttributesExceedsLimit, message)
    }

    /// A user who is invited must agree; they were asked.
    pub fn invited_user_must_agree(user_id: &str) -> Self {
        let message = format!("{user_id} must agree, and was asked");
        Self::new(ErrorCode::GroupModuleNeedApplyInviteGroupError, message)
    }

    /// No application of the user to join the group waits for an answer.
    pub fn no_join_application(user_id: &str) -> Self {
        let message = format!("no application of {user_id} to join this group waits for an answer");
        Self::new(ErrorCode::GroupModuleJoinGroupError, message)
    }

    /// No invitation of the user to the caller waits for an answer.
    pub fn no_invite_application(user_id: &str) -> Self {
        let message = format!("no invitation of {user_id} to this group waits for your answer");
        Self::new(ErrorCode::GroupModuleInviteUserIntoGroupError, message)
    }

    /// Nobody joins the group by themselves.
    pub fn joining_is_forbidden() -> Self {
        Self::new(ErrorCode::GroupModuleForbidJoinGroupError, "nobody can join this group without an invitation")
    }

    /// The group wants an application.
    pub fn joining_needs_application() -> Self {
        let message = "an administrator of this group decides who joins; send an application";
        Self::new(ErrorCode::GroupModuleNeedApplyJoinGroupError, message)
    }
}
