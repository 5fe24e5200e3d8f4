//! Members of groups: who they are, and what they may do.

use zim_protocol::{
    GroupMemberCountQueriedResult, GroupMemberInfoQueriedResult, GroupMemberListQueriedResult, GroupMemberMuteConfig,
    GroupMemberMutedListQueriedResult, GroupMemberNicknameUpdatedResult, GroupMemberQueryConfig,
    GroupMemberRoleUpdatedResult, GroupMembersMutedResult, GroupMuteConfig, GroupMutedResult,
    GroupOwnerTransferredResult, GroupUsersInvitedResult, InviteUsersIntoGroupRequest, MuteGroupMembersRequest,
    MuteGroupRequest, QueryGroupMemberCountRequest, QueryGroupMemberInfoRequest, QueryGroupMemberListRequest,
    QueryGroupMemberMutedListRequest, SetGroupMemberNicknameRequest, SetGroupMemberRoleRequest,
    TransferGroupOwnerRequest,
};

use crate::error::Error;
use crate::types::strings;
use crate::zim::Zim;

/// Which page of the muted members is wanted. The reference has the same fields under two names.
pub type GroupMemberMutedListQueryConfig = GroupMemberQueryConfig;

impl Zim {
    /// Brings up to 100 users into a group (reference: `inviteUsersIntoGroup`): every member may, or the owner and administrators alone,
    /// as the invite mode says. The devices of the users get `groupStateChanged` (Enter, Invited), those of all members
    /// `groupMemberStateChanged`. If users must agree, each gets an application instead, and the result lists them with 6000544.
    ///
    /// The result lists the users who could not be added; if that is all of them and nobody was asked, the call fails.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user is not a member. 6000541: the user may not invite.
    /// - 6000522: these users are members. 6000525: the group is full. 6000505: these users are in as many groups as a user may be.
    pub fn invite_users_into_group<I>(
        &self,
        user_ids: I,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupUsersInvitedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = strings(user_ids);
        self.call(InviteUsersIntoGroupRequest { user_ids, group_id: group_id.to_owned() })
    }

    /// Makes another member the owner of a group, for its owner, who becomes a plain member (reference: `transferGroupOwner`). All
    /// members get `groupMemberInfoUpdated` with both.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user or the other one is not a member. 6000541: the user is not its owner.
    pub fn transfer_group_owner(
        &self,
        to_user_id: &str,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupOwnerTransferredResult, Error>> + Send + 'static + use<> {
        self.call(TransferGroupOwnerRequest { to_user_id: to_user_id.to_owned(), group_id: group_id.to_owned() })
    }

    /// Gives a member a role, for the owner (reference: `setGroupMemberRole`): 2 is an administrator, 3 a plain member, and other numbers
    /// from 4 on are the app's own, with the rights of plain members. All members get `groupMemberInfoUpdated`.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user or the other one is not a member.
    /// - 6000541: the user is not its owner, or means themselves. 6000001: the role is 1, which is transferred, or below.
    pub fn set_group_member_role(
        &self,
        role: i64,
        for_user_id: &str,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupMemberRoleUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(SetGroupMemberRoleRequest {
            role,
            for_user_id: for_user_id.to_owned(),
            group_id: group_id.to_owned(),
        })
    }

    /// Gives a member a nickname (reference: `setGroupMemberNickname`): oneself, or for the owner anybody, and for administrators those
    /// below them. All members get `groupMemberInfoUpdated`. A nickname has up to 100 characters; an empty one removes it.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user or the other one is not a member.
    /// - 6000541: the other one is not below the user. 6000001: the nickname is too long.
    pub fn set_group_member_nickname(
        &self,
        nickname: &str,
        for_user_id: &str,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupMemberNicknameUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(SetGroupMemberNicknameRequest {
            nickname: nickname.to_owned(),
            for_user_id: for_user_id.to_owned(),
            group_id: group_id.to_owned(),
        })
    }

    /// Mutes a group, or ends that (reference: `muteGroup`). The config says whom: everybody, which is for the owner, or some roles,
    /// which administrators may do to roles below theirs; and for how many seconds, up to 7 days or -1 for good. All members get
    /// `groupMutedInfoUpdated`. Messages of muted members fail with 6000541. A mute ends by itself, without an event.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user is not a member.
    /// - 6000541: the user may not mute these roles, or may not end the mute that there is.
    /// - 6000001: the config says nobody, or no time.
    pub fn mute_group(
        &self,
        is_mute: bool,
        group_id: &str,
        config: GroupMuteConfig,
    ) -> impl Future<Output = Result<GroupMutedResult, Error>> + Send + 'static + use<> {
        self.call(MuteGroupRequest { is_mute, group_id: group_id.to_owned(), config: Some(config) })
    }

    /// Mutes up to 100 members for some seconds, up to 7 days or -1 for good, or ends that (reference: `muteGroupMembers`): the owner
    /// anybody, also themselves, an administrator those below them. All members get `groupMemberInfoUpdated`. The result lists the
    /// members who could not be muted; if that is all of them, the call fails.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user is not a member, or none of these users is.
    /// - 6000541: the user may not mute these members. 6000001: the duration is out of bounds.
    pub fn mute_group_members<I>(
        &self,
        is_mute: bool,
        user_ids: I,
        group_id: &str,
        config: GroupMemberMuteConfig,
    ) -> impl Future<Output = Result<GroupMembersMutedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = strings(user_ids);
        self.call(MuteGroupMembersRequest { is_mute, user_ids, group_id: group_id.to_owned(), config: Some(config) })
    }

    /// Returns the number of members of a group, for its members (reference: `queryGroupMemberCount`).
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member.
    pub fn query_group_member_count(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupMemberCountQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryGroupMemberCountRequest { group_id: group_id.to_owned() })
    }

    /// Returns a member of a group, for its members (reference: `queryGroupMemberInfo`).
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user or the other one is not a member.
    pub async fn query_group_member_info(
        &self,
        user_id: &str,
        group_id: &str,
    ) -> Result<GroupMemberInfoQueriedResult, Error> {
        let request = QueryGroupMemberInfoRequest { user_id: user_id.to_owned(), group_id: group_id.to_owned() };
        let account = self.account()?;
        let found = account.request(request).await?;
        account.store_members(group_id.to_owned(), found.user_info.iter().cloned().collect()).await?;
        Ok(found)
    }

    /// Returns a page of 1 to 100 members, in the order in which they entered (reference: `queryGroupMemberList`). `nextFlag` of
    /// the result is the cursor of the next page; 0 asks for the first page and marks the end. The local search finds members who
    /// were on a page.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member.
    pub async fn query_group_member_list(
        &self,
        group_id: &str,
        config: GroupMemberQueryConfig,
    ) -> Result<GroupMemberListQueriedResult, Error> {
        let request = QueryGroupMemberListRequest { group_id: group_id.to_owned(), config: Some(config) };
        let account = self.account()?;
        let page = account.request(request).await?;
        account.store_members(group_id.to_owned(), page.user_list.clone()).await?;
        Ok(page)
    }

    /// Returns a page of 1 to 100 members who are muted themselves, in the order in which they entered (reference:
    /// `queryGroupMemberMutedList`). `nextFlag` is the cursor, as in [`Zim::query_group_member_list`].
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member.
    pub fn query_group_member_muted_list(
        &self,
        group_id: &str,
        config: GroupMemberMutedListQueryConfig,
    ) -> impl Future<Output = Result<GroupMemberMutedListQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryGroupMemberMutedListRequest { group_id: group_id.to_owned(), config: Some(config) })
    }
}
