//! Groups: what they are, and who enters and leaves.

use std::collections::HashMap;

use zim_protocol::{
    CreateGroupRequest, DeleteGroupAttributesRequest, DismissGroupRequest, GroupAdvancedConfig,
    GroupAliasUpdatedResult, GroupAttributesOperatedResult, GroupAttributesQueriedResult, GroupAvatarUrlUpdatedResult,
    GroupBeInviteMode, GroupBeInviteModeUpdatedResult, GroupCreatedResult, GroupDismissedResult, GroupInfo,
    GroupInfoQueriedResult, GroupInviteMode, GroupInviteModeUpdatedResult, GroupJoinMode, GroupJoinModeUpdatedResult,
    GroupJoinedResult, GroupLeftResult, GroupListQueriedResult, GroupListQueryConfig, GroupMemberKickedResult,
    GroupMemberSearchConfig, GroupMembersSearchedResult, GroupNameUpdatedResult, GroupNoticeUpdatedResult,
    GroupSearchConfig, GroupsSearchedResult, JoinGroupRequest, KickGroupMembersRequest, LeaveGroupRequest,
    QueryGroupAllAttributesRequest, QueryGroupAttributesRequest, QueryGroupInfoRequest, QueryGroupListRequest,
    SetGroupAttributesRequest, UpdateGroupAliasRequest, UpdateGroupAvatarUrlRequest, UpdateGroupBeInviteModeRequest,
    UpdateGroupInviteModeRequest, UpdateGroupJoinModeRequest, UpdateGroupNameRequest, UpdateGroupNoticeRequest,
    Validate,
};

use crate::error::Error;
use crate::store::group::{self, MemberNames};
use crate::store::search::Keywords;
use crate::types::strings;
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
    /// - 6000503: the user is in as many groups as a user may be.
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
        let user_ids = strings(user_ids);
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
        let user_ids = strings(user_ids);
        self.call(KickGroupMembersRequest { user_ids, group_id: group_id.to_owned() })
    }

    /// Returns what a group is (reference: `queryGroupInfo`), also for those who think of joining. Only its members see the attributes.
    ///
    /// # Errors
    /// 6000523: there is no such group.
    pub fn query_group_info(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupInfoQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryGroupInfoRequest { group_id: group_id.to_owned() })
    }

    /// Changes the name of a group, for its members (reference: `updateGroupName`). All members get `groupNameUpdated`, and the name
    /// of the conversation follows. A name has up to 100 bytes.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000001: the name is too long.
    pub fn update_group_name(
        &self,
        group_name: &str,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupNameUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateGroupNameRequest { group_name: group_name.to_owned(), group_id: group_id.to_owned() })
    }

    /// Changes the address of the avatar of a group, for its members (reference: `updateGroupAvatarUrl`). All members get
    /// `groupAvatarUrlUpdated`, and the avatar of the conversation follows. An address has up to 500 bytes.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000001: the address is too long.
    pub fn update_group_avatar_url(
        &self,
        group_avatar_url: &str,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupAvatarUrlUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateGroupAvatarUrlRequest {
            group_avatar_url: group_avatar_url.to_owned(),
            group_id: group_id.to_owned(),
        })
    }

    /// Changes the notice of a group, for its members (reference: `updateGroupNotice`). All members get `groupNoticeUpdated`. A notice
    /// has up to 300 bytes.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000001: the notice is too long.
    pub fn update_group_notice(
        &self,
        group_notice: &str,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupNoticeUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateGroupNoticeRequest { group_notice: group_notice.to_owned(), group_id: group_id.to_owned() })
    }

    /// Changes the name that the user alone sees for a group (reference: `updateGroupAlias`). It is also the alias of the conversation.
    /// All devices of the user get `groupAliasUpdated`. An alias has up to 256 bytes; an empty one removes it.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000001: the alias is too long.
    pub fn update_group_alias(
        &self,
        group_alias: &str,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupAliasUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateGroupAliasRequest { group_alias: group_alias.to_owned(), group_id: group_id.to_owned() })
    }

    /// Changes who joins a group, for the owner and administrators (reference: `updateGroupJoinMode`). All members get
    /// `groupVerifyInfoUpdated`.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000541: the user is neither owner nor administrator.
    pub fn update_group_join_mode(
        &self,
        mode: GroupJoinMode,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupJoinModeUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateGroupJoinModeRequest { mode: mode as i32, group_id: group_id.to_owned() })
    }

    /// Changes who invites users to a group, for the owner and administrators (reference: `updateGroupInviteMode`). All members get
    /// `groupVerifyInfoUpdated`.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000541: the user is neither owner nor administrator.
    pub fn update_group_invite_mode(
        &self,
        mode: GroupInviteMode,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupInviteModeUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateGroupInviteModeRequest { mode: mode as i32, group_id: group_id.to_owned() })
    }

    /// Changes whether users who are invited must agree, for the owner and administrators (reference: `updateGroupBeInviteMode`). All members get
    /// `groupVerifyInfoUpdated`.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000541: the user is neither owner nor administrator.
    pub fn update_group_be_invite_mode(
        &self,
        mode: GroupBeInviteMode,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupBeInviteModeUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateGroupBeInviteModeRequest { mode: mode as i32, group_id: group_id.to_owned() })
    }

    /// Sets attributes of a group, for its members; the others stay (reference: `setGroupAttributes`). All members get
    /// `groupAttributesUpdated`. A group has up to 10 attributes, with keys of 16 and values of 1,024 bytes.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user is not a member.
    /// - 6000531, 6000532, 6000533: too many attributes, or a key or a value is too long. Nothing is set.
    pub fn set_group_attributes(
        &self,
        group_attributes: HashMap<String, String>,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupAttributesOperatedResult, Error>> + Send + 'static + use<> {
        self.call(SetGroupAttributesRequest { group_attributes, group_id: group_id.to_owned() })
    }

    /// Removes attributes of a group, for its members (reference: `deleteGroupAttributes`). All members get `groupAttributesUpdated`.
    /// `errorKeys` of the result has the keys that the group does not have; if that is all of them, the call fails.
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member. 6000526: the group has none of these attributes.
    pub fn delete_group_attributes<I>(
        &self,
        keys: I,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupAttributesOperatedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.call(DeleteGroupAttributesRequest { keys: strings(keys), group_id: group_id.to_owned() })
    }

    /// Returns those of up to 10 attributes that a group has, for its members (reference: `queryGroupAttributes`).
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member.
    pub fn query_group_attributes<I>(
        &self,
        keys: I,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupAttributesQueriedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.call(QueryGroupAttributesRequest { keys: strings(keys), group_id: group_id.to_owned() })
    }

    /// Returns all attributes of a group, for its members (reference: `queryGroupAllAttributes`).
    ///
    /// # Errors
    /// 6000523: there is no such group. 6000521: the user is not a member.
    pub fn query_group_all_attributes(
        &self,
        group_id: &str,
    ) -> impl Future<Output = Result<GroupAttributesQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryGroupAllAttributesRequest { group_id: group_id.to_owned() })
    }

    /// Returns all groups that the user is in, the last entered first (reference: `queryGroupList` without parameters).
    /// [`Zim::query_group_list_page`] returns a part of them.
    ///
    /// # Errors
    /// None but those of [every method](crate#errors).
    pub async fn query_group_list(&self) -> Result<GroupListQueriedResult, Error> {
        let (mut all, mut next_flag) = (Vec::new(), 0);
        loop {
            let config = GroupListQueryConfig { next_flag, ..GroupListQueryConfig::default() };
            let page = self.query_group_list_page(100, config).await?;
            all.extend(page.group_list);
            next_flag = page.next_flag;
            if next_flag == 0 {
                return Ok(GroupListQueriedResult { group_list: all, next_flag });
            }
        }
    }

    /// Returns a page of 1 to 100 groups that the user is in, the last entered first (reference: `queryGroupList` with a count).
    /// `userIDs` leaves only groups of which all of these users, at most 10, are members, too. `nextFlag` of the result is the
    /// cursor of the next page; 0 asks for the first page and marks the end.
    ///
    /// # Errors
    /// 6000001: the count is out of bounds.
    pub fn query_group_list_page(
        &self,
        count: i64,
        config: GroupListQueryConfig,
    ) -> impl Future<Output = Result<GroupListQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryGroupListRequest { count, config: Some(config) })
    }

    /// Searches the groups that the user is in, in the order of their names (reference: `searchLocalGroups`): those whose name
    /// contains all of 1 to 5 keywords, and if the config says so, those with a member whose name or nickname does. The search works
    /// in any script, and ignores case. A page has 1 to 30 groups; `nextFlag` of the result is the cursor of the next page; 0 is the
    /// end. The server is not asked: of the members, this device knows those whom it has loaded or seen come.
    ///
    /// # Errors
    /// 6000001: the count or the keywords are out of bounds.
    pub async fn search_local_groups(&self, config: GroupSearchConfig) -> Result<GroupsSearchedResult, Error> {
        config.validate()?;
        let account = self.account()?;
        account.listed().await;
        let names = MemberNames {
            user_name: config.is_also_match_group_member_user_name,
            nickname: config.is_also_match_group_member_nickname,
        };
        let (keywords, page) = (Keywords::new(&config.keywords), (config.next_flag, config.count));
        let found = account.store().read(move |db| group::search(db, &keywords, names, page));
        let (group_search_info_list, next_flag) = found.await?;
        Ok(GroupsSearchedResult { group_search_info_list, next_flag })
    }

    /// Searches the members of a group whom this device knows, in the order of their IDs (reference: `searchLocalGroupMembers`):
    /// those whose name contains all of 1 to 5 keywords, and if the config says so, whose nickname does. This device knows the
    /// members whom it has loaded ([`Zim::query_group_member_list`]) or seen come. Otherwise as [`Zim::search_local_groups`].
    ///
    /// # Errors
    /// 6000001: the count or the keywords are out of bounds.
    pub async fn search_local_group_members(
        &self,
        group_id: &str,
        config: GroupMemberSearchConfig,
    ) -> Result<GroupMembersSearchedResult, Error> {
        config.validate()?;
        let account = self.account()?;
        account.listed().await;
        let names = MemberNames { user_name: true, nickname: config.is_also_match_group_member_nickname };
        let (keywords, page) = (Keywords::new(&config.keywords), (config.next_flag, config.count));
        let id = group_id.to_owned();
        let found = account.store().read(move |db| group::search_members(db, &id, &keywords, names, page));
        let (user_list, next_flag) = found.await?;
        Ok(GroupMembersSearchedResult { group_id: group_id.to_owned(), user_list, next_flag })
    }
}
