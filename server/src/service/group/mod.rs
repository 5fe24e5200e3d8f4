//! Groups: who is in them, and what they are called. A group is a conversation whose members come and go; what each of them
//! sees of it is the rule of the journal.

mod application;
mod data;
mod members;
mod membership;
mod operator;
mod rules;
mod stays;
mod store;
mod tip;

use std::collections::HashMap;
use std::sync::Arc;

use zim_protocol::{
    ConversationRef, ConversationType, CreateGroupRequest, DeleteGroupAttributesRequest, DismissGroupRequest,
    GroupAliasUpdatedResult, GroupAttributesOperatedResult, GroupAttributesQueriedResult, GroupAvatarUrlUpdatedResult,
    GroupBeInviteModeUpdatedResult, GroupCreatedResult, GroupDismissedResult, GroupInfoQueriedResult,
    GroupInviteModeUpdatedResult, GroupJoinModeUpdatedResult, GroupJoinedResult, GroupLeftResult,
    GroupListQueriedResult, GroupMemberCountQueriedResult, GroupMemberInfo, GroupMemberInfoQueriedResult,
    GroupMemberKickedResult, GroupMemberListQueriedResult, GroupMemberMutedListQueriedResult,
    GroupMemberNicknameUpdatedResult, GroupMemberQueryConfig, GroupMemberRoleUpdatedResult, GroupMembersMutedResult,
    GroupMutedResult, GroupNameUpdatedResult, GroupNoticeUpdatedResult, GroupOwnerTransferredResult,
    GroupUsersInvitedResult, InviteUsersIntoGroupRequest, JoinGroupRequest, KickGroupMembersRequest, LeaveGroupRequest,
    MuteGroupMembersRequest, MuteGroupRequest, QueryGroupAllAttributesRequest, QueryGroupAttributesRequest,
    QueryGroupInfoRequest, QueryGroupListRequest, QueryGroupMemberCountRequest, QueryGroupMemberInfoRequest,
    QueryGroupMemberListRequest, QueryGroupMemberMutedListRequest, SetGroupAttributesRequest,
    SetGroupMemberNicknameRequest, SetGroupMemberRoleRequest, TransferGroupOwnerRequest, UpdateGroupAliasRequest,
    UpdateGroupAvatarUrlRequest, UpdateGroupBeInviteModeRequest, UpdateGroupInviteModeRequest,
    UpdateGroupJoinModeRequest, UpdateGroupNameRequest, UpdateGroupNoticeRequest, server::GroupService,
};

pub(crate) use self::application::GROUP_APPLICATION;
pub(crate) use self::data::ALIAS;
use self::data::{Mode, Text};
use self::membership::Group;
use self::rules::Settings;
pub(crate) use self::rules::{OWNER, is_above, member_at};
pub(crate) use self::stays::read_stays_in_doubt;
use self::store::Which;
pub(crate) use self::store::{check_may_write, deciders, role};
pub(crate) use self::tip::{Tip, Tips};
use crate::app::{App, Named};
use crate::connection::{Caller, ConnectionState, WriteTo};
use crate::db::{Scope, Tx};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{ChangedConversation, LogWriter, members, shorten_members};
use crate::key::{AppKey, ConversationKey, UserKey};
use crate::service::rows::Page;

impl GroupService for App {
    async fn create_group(&self, caller: &Caller, request: CreateGroupRequest) -> Result<GroupCreatedResult, Error> {
        let identity = caller.identity()?;
        let (app, me) = (identity.app, identity.user);
        let (info, config) = (request.group_info.unwrap_or_default(), request.config.unwrap_or_default());
        rules::check_own_id(&info.group_id)?;
        let settings = Settings::new(config, self.config.limits.max_group_members.into())?;
        let named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        let named = self.with_room(me, named).await?;
        let key = ConversationKey(self.ids.next());
        let group_id = match info.group_id {
            own if own.is_empty() => format!("#{}", self.tenants.of(app)?.scrambler.public(key.0)),
            own => own,
        };
        let group = self.group(caller, key, &group_id)?;
        // No ID contains a slash: the name of a group is never that of a user.
        let scope = Scope::name(app, &format!("group/{group_id}")).makes(key).and_user(me).and_users(named.keys());
        let (others, name) = (named.keys(), (info.group_name, info.group_avatar_url, settings));
        let created = caller.write(&self.db, scope, async move |tx, log| {
            let users: Vec<i64> = [me].iter().chain(&others).map(|user| user.0).collect();
            let info = group.create(tx, log, app, name, others).await?;
            let mut found = members(tx, key, users.iter().copied()).await?;
            let mut user_list: Vec<_> = users.iter().filter_map(|user| found.remove(user)).collect();
            shorten_members(&mut user_list);
            Ok((info, user_list))
        });
        let (group_info, user_list) = created.await?;
        self.tenants.of(app)?.groups.insert(Arc::from(group_id), key);
        let error_user_list = named.left_out.finish(1)?;
        Ok(GroupCreatedResult { group_info: Some(group_info), user_list, error_user_list })
    }

    async fn join_group(&self, caller: &Caller, request: JoinGroupRequest) -> Result<GroupJoinedResult, Error> {
        let me = caller.identity()?.user;
        let mut group = self.find_group(caller, &request.group_id).await?;
        self.check_room(me, Some(group.conversation.key)).await?;
        let scope = self.entrance_scope(&mut group, &[me], false).await?;
        let joined = caller.write(&self.db, scope, async move |tx, log| group.join(tx, log).await);
        Ok(GroupJoinedResult { group_info: Some(joined.await?) })
    }

    async fn leave_group(&self, caller: &Caller, request: LeaveGroupRequest) -> Result<GroupLeftResult, Error> {
        self.write_group(caller, &request.group_id, async |tx, log, group| group.leave(tx, log).await).await?;
        Ok(GroupLeftResult { group_id: request.group_id })
    }

    async fn dismiss_group(
        &self,
        caller: &Caller,
        request: DismissGroupRequest,
    ) -> Result<GroupDismissedResult, Error> {
        self.write_group(caller, &request.group_id, async |tx, log, group| group.dismiss(tx, log).await).await?;
        Ok(GroupDismissedResult { group_id: request.group_id })
    }

    async fn kick_group_members(
        &self,
        caller: &Caller,
        request: KickGroupMembersRequest,
    ) -> Result<GroupMemberKickedResult, Error> {
        let mut named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        let users = named.found.clone();
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| group.kick(tx, log, users).await;
        let refused = self.write_group(caller, &request.group_id, job).await?;
        let mut refused: HashMap<UserKey, Error> = refused.into_iter().collect();
        named.leave_out(|user, _| refused.remove(&user));
        let kicked_user_ids = named.found.iter().map(|(_, user_id)| user_id.clone()).collect();
        Ok(GroupMemberKickedResult { group_id: request.group_id, kicked_user_ids, error_user_list: named.finish()? })
    }

    async fn query_group_info(
        &self,
        caller: &Caller,
        request: QueryGroupInfoRequest,
    ) -> Result<GroupInfoQueriedResult, Error> {
        let group = self.find_group(caller, &request.group_id).await?;
        let info = self.db.read(async move |tx| {
            group.head(tx).await?;
            group.info_to_show(tx).await
        });
        let info = info.await?;
        Ok(GroupInfoQueriedResult { group_info: Some(info) })
    }

    async fn query_group_member_list(
        &self,
        caller: &Caller,
        request: QueryGroupMemberListRequest,
    ) -> Result<GroupMemberListQueriedResult, Error> {
        let (user_list, next_flag) =
            self.list_members(caller, &request.group_id, Which::All, request.config.unwrap_or_default()).await?;
        Ok(GroupMemberListQueriedResult { group_id: request.group_id, user_list, next_flag })
    }

    async fn query_group_member_muted_list(
        &self,
        caller: &Caller,
        request: QueryGroupMemberMutedListRequest,
    ) -> Result<GroupMemberMutedListQueriedResult, Error> {
        let (user_list, next_flag) =
            self.list_members(caller, &request.group_id, Which::Muted, request.config.unwrap_or_default()).await?;
        Ok(GroupMemberMutedListQueriedResult { group_id: request.group_id, user_list, next_flag })
    }

    async fn query_group_member_info(
        &self,
        caller: &Caller,
        request: QueryGroupMemberInfoRequest,
    ) -> Result<GroupMemberInfoQueriedResult, Error> {
        let user = self.user_key(caller.identity()?.app, &request.user_id).await?;
        let user_id = request.user_id;
        let info = self.read_group(caller, &request.group_id, async move |tx, group| {
            let user = user.ok_or_else(|| Error::not_a_member(&user_id))?;
            let key = group.conversation.key;
            store::role(tx, key, user).await?.ok_or_else(|| Error::not_a_member(&user_id))?;
            let info = members(tx, key, [user.0]).await?.remove(&user.0).unwrap_or_default();
            Ok(rules::member_at(info, group.now))
        });
        Ok(GroupMemberInfoQueriedResult { user_info: Some(info.await?), group_id: request.group_id })
    }

    async fn query_group_member_count(
        &self,
        caller: &Caller,
        request: QueryGroupMemberCountRequest,
    ) -> Result<GroupMemberCountQueriedResult, Error> {
        let count = self.read_group(caller, &request.group_id, async |tx, group| Ok(group.head(tx).await?.members));
        Ok(GroupMemberCountQueriedResult { count: count.await?, group_id: request.group_id })
    }

    async fn query_group_list(
        &self,
        caller: &Caller,
        request: QueryGroupListRequest,
    ) -> Result<GroupListQueriedResult, Error> {
        let (me, config) = (caller.identity()?.user, request.config.unwrap_or_default());
        let page = Page::new(config.next_flag, request.count);
        let others = self.resolve_users(caller, config.user_ids, Error::user_not_found).await?;
        // Somebody who does not exist is in no group.
        if !others.left_out.is_empty() {
            return Ok(GroupListQueriedResult::default());
        }
        let others = others.keys();
        let (group_list, next_flag) = self.db.read(async move |tx| store::groups(tx, me, &others, page).await).await?;
        Ok(GroupListQueriedResult { group_list, next_flag })
    }

    async fn update_group_name(
        &self,
        caller: &Caller,
        request: UpdateGroupNameRequest,
    ) -> Result<GroupNameUpdatedResult, Error> {
        let text = Text::Name(request.group_name.clone());
        self.set_text(caller, &request.group_id, text).await?;
        Ok(GroupNameUpdatedResult { group_id: request.group_id, group_name: request.group_name })
    }

    async fn update_group_avatar_url(
        &self,
        caller: &Caller,
        request: UpdateGroupAvatarUrlRequest,
    ) -> Result<GroupAvatarUrlUpdatedResult, Error> {
        let text = Text::AvatarUrl(request.group_avatar_url.clone());
        self.set_text(caller, &request.group_id, text).await?;
        Ok(GroupAvatarUrlUpdatedResult { group_id: request.group_id, group_avatar_url: request.group_avatar_url })
    }

    async fn update_group_notice(
        &self,
        caller: &Caller,
        request: UpdateGroupNoticeRequest,
    ) -> Result<GroupNoticeUpdatedResult, Error> {
        let text = Text::Notice(request.group_notice.clone());
        self.set_text(caller, &request.group_id, text).await?;
        Ok(GroupNoticeUpdatedResult { group_id: request.group_id, group_notice: request.group_notice })
    }

    async fn update_group_alias(
        &self,
        caller: &Caller,
        request: UpdateGroupAliasRequest,
    ) -> Result<GroupAliasUpdatedResult, Error> {
        let group = self.find_group(caller, &request.group_id).await?;
        let scope = Scope::conversation(group.conversation.key).and_user(group.me);
        let alias = request.group_alias.clone();
        caller.write(&self.db, scope, async move |tx, log| group.set_alias(tx, log, alias).await).await?;
        Ok(GroupAliasUpdatedResult { group_id: request.group_id, group_alias: request.group_alias })
    }

    async fn update_group_join_mode(
        &self,
        caller: &Caller,
        request: UpdateGroupJoinModeRequest,
    ) -> Result<GroupJoinModeUpdatedResult, Error> {
        self.set_mode(caller, &request.group_id, Mode::Join(request.mode)).await?;
        Ok(GroupJoinModeUpdatedResult { group_id: request.group_id, mode: request.mode })
    }

    async fn update_group_invite_mode(
        &self,
        caller: &Caller,
        request: UpdateGroupInviteModeRequest,
    ) -> Result<GroupInviteModeUpdatedResult, Error> {
        self.set_mode(caller, &request.group_id, Mode::Invite(request.mode)).await?;
        Ok(GroupInviteModeUpdatedResult { group_id: request.group_id, mode: request.mode })
    }

    async fn update_group_be_invite_mode(
        &self,
        caller: &Caller,
        request: UpdateGroupBeInviteModeRequest,
    ) -> Result<GroupBeInviteModeUpdatedResult, Error> {
        self.set_mode(caller, &request.group_id, Mode::BeInvite(request.mode)).await?;
        Ok(GroupBeInviteModeUpdatedResult { group_id: request.group_id, mode: request.mode })
    }

    async fn set_group_attributes(
        &self,
        caller: &Caller,
        request: SetGroupAttributesRequest,
    ) -> Result<GroupAttributesOperatedResult, Error> {
        let set = request.group_attributes;
        let job =
            async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| group.set_attributes(tx, log, set).await;
        self.write_group(caller, &request.group_id, job).await?;
        Ok(GroupAttributesOperatedResult { group_id: request.group_id, error_keys: Vec::new() })
    }

    async fn delete_group_attributes(
        &self,
        caller: &Caller,
        request: DeleteGroupAttributesRequest,
    ) -> Result<GroupAttributesOperatedResult, Error> {
        let keys = request.keys;
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| {
            group.delete_attributes(tx, log, keys).await
        };
        let error_keys = self.write_group(caller, &request.group_id, job).await?;
        Ok(GroupAttributesOperatedResult { group_id: request.group_id, error_keys })
    }

    async fn query_group_attributes(
        &self,
        caller: &Caller,
        request: QueryGroupAttributesRequest,
    ) -> Result<GroupAttributesQueriedResult, Error> {
        let all = self.read_group(caller, &request.group_id, async |tx, group| {
            data::attributes(tx, group.conversation.key).await
        });
        let mut all = all.await?;
        let found = request.keys.into_iter().filter_map(|key| all.remove(&key).map(|value| (key, value)));
        Ok(GroupAttributesQueriedResult { group_attributes: found.collect(), group_id: request.group_id })
    }

    async fn query_group_all_attributes(
        &self,
        caller: &Caller,
        request: QueryGroupAllAttributesRequest,
    ) -> Result<GroupAttributesQueriedResult, Error> {
        let all = self.read_group(caller, &request.group_id, async |tx, group| {
            data::attributes(tx, group.conversation.key).await
        });
        let group_attributes = all.await?.into_iter().collect();
        Ok(GroupAttributesQueriedResult { group_attributes, group_id: request.group_id })
    }

    async fn invite_users_into_group(
        &self,
        caller: &Caller,
        request: InviteUsersIntoGroupRequest,
    ) -> Result<GroupUsersInvitedResult, Error> {
        let (user_list, mut named, asked) =
            self.invite(caller, (request.user_ids, &request.group_id), (String::new(), None)).await?;
        let served = named.found.len();
        named.leave_out(|user, user_id| asked.contains(&user).then(|| Error::invited_user_must_agree(user_id)));
        let error_user_list = named.left_out.finish(served)?;
        Ok(GroupUsersInvitedResult { group_id: request.group_id, user_list, error_user_list })
    }

    async fn transfer_group_owner(
        &self,
        caller: &Caller,
        request: TransferGroupOwnerRequest,
    ) -> Result<GroupOwnerTransferredResult, Error> {
        let heir = self.other(caller, &request.to_user_id).await?;
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| group.transfer(tx, log, heir).await;
        self.write_group(caller, &request.group_id, job).await?;
        Ok(GroupOwnerTransferredResult { group_id: request.group_id, to_user_id: request.to_user_id })
    }

    async fn set_group_member_role(
        &self,
        caller: &Caller,
        request: SetGroupMemberRoleRequest,
    ) -> Result<GroupMemberRoleUpdatedResult, Error> {
        let (other, role) = (self.other(caller, &request.for_user_id).await?, request.role);
        let job =
            async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| group.set_role(tx, log, other, role).await;
        self.write_group(caller, &request.group_id, job).await?;
        Ok(GroupMemberRoleUpdatedResult { group_id: request.group_id, for_user_id: request.for_user_id, role })
    }

    async fn set_group_member_nickname(
        &self,
        caller: &Caller,
        request: SetGroupMemberNicknameRequest,
    ) -> Result<GroupMemberNicknameUpdatedResult, Error> {
        let (other, nickname) = (self.other(caller, &request.for_user_id).await?, request.nickname.clone());
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| {
            group.set_nickname(tx, log, other, nickname).await
        };
        self.write_group(caller, &request.group_id, job).await?;
        Ok(GroupMemberNicknameUpdatedResult {
            group_id: request.group_id,
            for_user_id: request.for_user_id,
            nickname: request.nickname,
        })
    }

    async fn mute_group(&self, caller: &Caller, request: MuteGroupRequest) -> Result<GroupMutedResult, Error> {
        let config = request.config.unwrap_or_default();
        let info = rules::group_mute(request.is_mute, config, self.clock.now_ms())?;
        let muted_info = Some(info.clone());
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| group.mute(tx, log, info).await;
        self.write_group(caller, &request.group_id, job).await?;
        Ok(GroupMutedResult { group_id: request.group_id, is_mute: request.is_mute, muted_info })
    }

    async fn mute_group_members(
        &self,
        caller: &Caller,
        request: MuteGroupMembersRequest,
    ) -> Result<GroupMembersMutedResult, Error> {
        let duration = request.config.unwrap_or_default().duration;
        let until = if request.is_mute { rules::until(duration, self.clock.now_ms())? } else { 0 };
        let mut named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        let users = named.found.clone();
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| {
            group.mute_members(tx, log, users, until).await
        };
        let refused = self.write_group(caller, &request.group_id, job).await?;
        let mut refused: HashMap<UserKey, Error> = refused.into_iter().collect();
        named.leave_out(|user, _| refused.remove(&user));
        let muted_user_ids = named.found.iter().map(|(_, user_id)| user_id.clone()).collect();
        Ok(GroupMembersMutedResult {
            group_id: request.group_id,
            is_mute: request.is_mute,
            duration,
            muted_user_ids,
            error_user_list: named.finish()?,
        })
    }
}

impl App {
    /// Lets the pushes of a user's groups reach a connection that is registered.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn enter_groups(&self, user: UserKey, connection: &Arc<ConnectionState>) -> Result<(), Error> {
        for (key, name, stay) in self.db.read(async move |tx| store::stays(tx, user).await).await? {
            self.fanout.enter_group((key, &name), connection, stay);
        }
        Ok(())
    }

    fn group(&self, caller: &Caller, key: ConversationKey, group_id: &str) -> Result<Group, Error> {
        let identity = caller.identity()?;
        self.group_for((identity.app, key, group_id), identity.user)
    }

    fn group_for(&self, (app, key, group_id): (AppKey, ConversationKey, &str), me: UserKey) -> Result<Group, Error> {
        let audience = Audience::Group { conversation: key, name: Arc::from(group_id) };
        let scrambler = Arc::clone(&self.tenants.of(app)?.scrambler);
        Ok(Group {
            conversation: ChangedConversation { key, audience, scrambler },
            group_id: group_id.to_owned(),
            me,
            now: self.clock.now_ms(),
            max_members: self.config.limits.max_group_members.into(),
            shows_history: self.config.groups.history_for_new_members,
            tips: self.tips(app),
            places: Arc::clone(&self.places),
            told: Vec::new(),
        })
    }

    async fn find_group(&self, caller: &Caller, group_id: &str) -> Result<Group, Error> {
        let key = self.group_key(caller.identity()?.app, group_id).await?;
        self.group(caller, key.ok_or_else(|| Error::group_not_found(group_id))?, group_id)
    }

    /// Runs a job on a group.
    async fn write_group<T: Send + 'static>(
        &self,
        caller: &Caller,
        group_id: &str,
        job: impl AsyncFnOnce(&mut Tx<'_>, &mut LogWriter, Group) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let group = self.find_group(caller, group_id).await?;
        let name = ConversationRef { r#type: ConversationType::Group as i32, id: group_id.to_owned() };
        let target = WriteTo::conversation(Scope::conversation(group.conversation.key), name);
        caller.write(&self.db, target, async move |tx, log| job(tx, log, group).await).await
    }

    /// Reads something of a group, for its members.
    async fn read_group<T: Send + 'static>(
        &self,
        caller: &Caller,
        group_id: &str,
        read: impl AsyncFnOnce(&mut Tx<'_>, &Group) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let group = self.find_group(caller, group_id).await?;
        self.db
            .read(async move |tx| {
                // The rows of the members of a dismissed group stay.
                group.head(tx).await?;
                group.my_role(tx).await?;
                read(tx, &group).await
            })
            .await
    }

    async fn list_members(
        &self,
        caller: &Caller,
        group_id: &str,
        which: Which,
        config: GroupMemberQueryConfig,
    ) -> Result<(Vec<GroupMemberInfo>, i64), Error> {
        let page = (config.next_flag, usize::try_from(config.count).unwrap_or(0));
        let read = async move |tx: &mut Tx<'_>, group: &Group| {
            store::members(tx, group.conversation.key, which, page, group.now).await
        };
        self.read_group(caller, group_id, read).await
    }

    async fn set_text(&self, caller: &Caller, group_id: &str, text: Text) -> Result<(), Error> {
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| group.set_text(tx, log, text).await;
        self.write_group(caller, group_id, job).await
    }

    async fn set_mode(&self, caller: &Caller, group_id: &str, mode: Mode) -> Result<(), Error> {
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| group.set_mode(tx, log, mode).await;
        self.write_group(caller, group_id, job).await
    }

    /// Resolves a user whom a request names.
    async fn other(&self, caller: &Caller, user_id: &str) -> Result<(UserKey, String), Error> {
        let key = self.user_key(caller.identity()?.app, user_id).await?;
        Ok((key.ok_or_else(|| Error::not_a_member(user_id))?, user_id.to_owned()))
    }

    /// Leaves out the creator of a group, and the users who are in as many groups as a user may be.
    async fn with_room(&self, me: UserKey, named: Named) -> Result<Named, Error> {
        if self.is_full(me, None).await? {
            return Err(Error::too_many_groups_to_create(self.config.limits.max_groups.into()));
        }
        let mut named = named.without(me, || Error::params_invalid("you are a member of the group that you create"));
        self.leave_out_full(&mut named, None).await?;
        Ok(named)
    }

    /// Leaves out the users who are in as many groups as a user may be, and not in this one. It counts before the job, because
    /// counting there would delay all other writes: joins at the same moment may exceed the limit.
    async fn leave_out_full(&self, named: &mut Named, group: Option<ConversationKey>) -> Result<(), Error> {
        let (users, most) = (named.keys(), i64::from(self.config.limits.max_groups));
        let (counts, members) = self
            .db
            .read(async move |tx| {
                let members = match group {
                    Some(group) => store::roles(tx, group, users.iter().copied()).await?,
                    None => HashMap::new(),
                };
                Ok((store::counts(tx, users).await?, members))
            })
            .await?;
        named.leave_out(|user, user_id| {
            let is_full = counts.get(&user).is_some_and(|count| *count >= most) && !members.contains_key(&user);
            is_full.then(|| Error::too_many_groups(user_id, most))
        });
        Ok(())
    }

    /// Checks that the caller may be in one more group, unless they are in this one already.
    async fn check_room(&self, me: UserKey, group: Option<ConversationKey>) -> Result<(), Error> {
        match self.is_full(me, group).await? {
            true => Err(Error::too_many_own_groups(self.config.limits.max_groups.into())),
            false => Ok(()),
        }
    }

    /// Whether a user is in as many groups as a user may be, and not in this one.
    async fn is_full(&self, user: UserKey, group: Option<ConversationKey>) -> Result<bool, Error> {
        let most = i64::from(self.config.limits.max_groups);
        self.db
            .read(async move |tx| {
                if let Some(group) = group
                    && store::role(tx, group, user).await?.is_some()
                {
                    return Ok(false);
                }
                Ok(store::counts(tx, [user]).await?.get(&user).is_some_and(|count| *count >= most))
            })
            .await
    }
}
