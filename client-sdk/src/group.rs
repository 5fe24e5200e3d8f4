//! Groups and their members.

use zim_protocol::{
    CreateGroupRequest, DismissGroupRequest, GroupAdvancedConfig, GroupCreatedResult, GroupDismissedResult, GroupInfo,
    GroupInfoQueriedResult, GroupJoinedResult, GroupLeftResult, GroupMemberKickedResult, GroupMemberListQueriedResult,
    GroupMemberQueryConfig, JoinGroupRequest, KickGroupMembersRequest, LeaveGroupRequest, QueryGroupInfoRequest,
    QueryGroupMemberListRequest,
};

use crate::error::Error;
use crate::zim::Zim;

impl Zim {
    /// Creates a group (reference: `createGroup`). The user is its owner; up to 100 other users become members at once. An empty
    /// `groupID` lets the server give one.
    ///
    /// The user's devices get `groupStateChanged` (Enter, Created), those of the others `groupStateChanged` (Enter, Invited),
    /// and all of them `groupMemberStateChanged`. The result lists the users who could not be added.
    ///
    /// # Errors
    /// - 6000524: there is such a group. 6000527: there was one, and its ID is not used again.
    /// - 6000525: these are more members than a group may have.
    /// - 6000505: the user is in as many groups as a user may be.
    /// - 6000531, 6000532, 6000533: too many attributes, or a key or a value is too long.
    /// - 6000001: the `groupID` begins with #, or a name is too long.
    pub fn create_group<I>(
        &self,
        group_info: GroupInfo,
        user_ids: I,
        config: GroupAdvancedConfig,
    ) -> impl Future<Output = Result<GroupCreatedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = user_ids.into_iter().map(Into::into).collect();
        self.call(CreateGroupRequest { group_info: Some(group_info), user_ids, config: Some(config) })
    }

    /// Joins a group (reference: `joinGroup`). For a member this changes nothing. The user's devices get `groupStateChanged`
    /// (Enter, Joined), those of all members `groupMemberStateChanged`. A user who returns sees again what they saw before.
    ///
    /// # Errors
    /// - 6000523: there is no such group.
    /// - 6000542: nobody joins it by themselves. 6000543: an administrator decides; send an application.
    /// - 6000525: the group is full. 6000505: the user is in as many groups as a user may be.
    pub fn join_group(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupJoinedResult, Error>> + Send + 'static + use<> {
        self.call(JoinGroupRequest { group_id: group_id.to_owned() })
    }

    /// Leaves a group (reference: `leaveGroup`). Its messages stay readable; the conversation is disabled. If the owner leaves,
    /// the member who has been in the group longest becomes the owner. If the last member leaves, the group is dismissed.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member.
    pub fn leave_group(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupLeftResult, Error>> + Send + 'static + use<> {
        self.call(LeaveGroupRequest { group_id: group_id.to_owned() })
    }

    /// Dismisses a group, for its owner (reference: `dismissGroup`). Its messages stay readable; the conversation is disabled for
    /// all members, who get `groupStateChanged` (Quit, Dismissed).
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000541: the user is not its owner.
    pub fn dismiss_group(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupDismissedResult, Error>> + Send + 'static + use<> {
        self.call(DismissGroupRequest { group_id: group_id.to_owned() })
    }

    /// Removes up to 100 members (reference: `kickGroupMembers`). The owner removes anybody, an administrator those who are
    /// neither. The result lists the users who could not be removed; if that is all of them, the call fails.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user is not a member, or none of these users is.
    /// - 6000541: the user may not remove these members.
    pub fn kick_group_members<I>(
        &self,
        user_ids: I,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupMemberKickedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = user_ids.into_iter().map(Into::into).collect();
        self.call(KickGroupMembersRequest { user_ids, group_id: group_id.to_owned() })
    }

    /// Returns what a group is (reference: `queryGroupInfo`).
    ///
    /// # Errors
    /// 6000523: there is no such group.
    pub fn query_group_info(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupInfoQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryGroupInfoRequest { group_id: group_id.to_owned() })
    }

    /// Returns a page of 1 to 100 members, in the order in which they entered (reference: `queryGroupMemberList`). `nextFlag` of
    /// the result is the cursor of the next page; 0 asks for the first page and marks the end.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member.
    pub fn query_group_member_list(
        &self,
        group_id: &str,
        config: GroupMemberQueryConfig,
    ) -> impl Future<Output = Result<GroupMemberListQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryGroupMemberListRequest { group_id: group_id.to_owned(), config: Some(config) })
    }
}
