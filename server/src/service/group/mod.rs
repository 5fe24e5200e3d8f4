//! Groups: who is in them, and what they are called. A group is a conversation whose members come and go; what each of them
//! sees of it is the rule of the journal.

mod membership;
mod rules;
mod store;

use std::sync::Arc;

use zim_protocol::{
    ConversationRef, ConversationType, CreateGroupRequest, DismissGroupRequest, GroupCreatedResult,
    GroupDismissedResult, GroupInfoQueriedResult, GroupJoinedResult, GroupLeftResult, GroupMemberKickedResult,
    GroupMemberListQueriedResult, JoinGroupRequest, KickGroupMembersRequest, LeaveGroupRequest, QueryGroupInfoRequest,
    QueryGroupMemberListRequest, server::GroupService,
};

use self::membership::Group;
use self::rules::Settings;
pub(crate) use self::rules::{OWNER, is_above};
pub(crate) use self::store::role;
use crate::app::{App, Named};
use crate::connection::{Caller, ConnectionState, WriteTo};
use crate::db::{Scope, Tx};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{ChangedConversation, LogWriter, members};
use crate::key::{ConversationKey, UserKey};

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
            Ok((info, users.iter().filter_map(|user| found.remove(user)).collect()))
        });
        let (group_info, user_list) = created.await?;
        self.tenants.of(app)?.groups.insert(Arc::from(group_id), key);
        let error_user_list = named.left_out.finish(1)?;
        Ok(GroupCreatedResult { group_info: Some(group_info), user_list, error_user_list })
    }

    async fn join_group(&self, caller: &Caller, request: JoinGroupRequest) -> Result<GroupJoinedResult, Error> {
        let me = caller.identity()?.user;
        let group = self.find_group(caller, &request.group_id).await?;
        let key = group.conversation.key;
        self.check_room(me, Some(key)).await?;
        let scope = Scope::conversation(key).and_user(me);
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
        let mut refused: std::collections::HashMap<UserKey, Error> = refused.into_iter().collect();
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
        let key = group.conversation.key;
        let info = self.db.read(async move |tx| {
            let is_open = store::head(tx, key).await?.is_some_and(|head| !head.is_dismissed);
            if is_open { store::info(tx, key, &group.group_id).await } else { Ok(None) }
        });
        let info = info.await?.ok_or_else(|| Error::group_not_found(&request.group_id))?;
        Ok(GroupInfoQueriedResult { group_info: Some(info) })
    }

    async fn query_group_member_list(
        &self,
        caller: &Caller,
        request: QueryGroupMemberListRequest,
    ) -> Result<GroupMemberListQueriedResult, Error> {
        let (me, config) = (caller.identity()?.user, request.config.unwrap_or_default());
        let key = self.find_group(caller, &request.group_id).await?.conversation.key;
        let page = (config.next_flag, usize::try_from(config.count).unwrap_or(0));
        let group_id = request.group_id.clone();
        let page = self.db.read(async move |tx| {
            // The rows of the members of a dismissed group stay.
            let is_open = store::head(tx, key).await?.is_some_and(|head| !head.is_dismissed);
            is_open.then_some(()).ok_or_else(|| Error::group_not_found(&group_id))?;
            store::role(tx, key, me).await?.ok_or_else(|| Error::not_in_group(&group_id))?;
            store::members(tx, key, page).await
        });
        let (user_list, next_flag) = page.await?;
        Ok(GroupMemberListQueriedResult { group_id: request.group_id, user_list, next_flag })
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
        let audience = Audience::Group { conversation: key, name: Arc::from(group_id) };
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        Ok(Group {
            conversation: ChangedConversation { key, audience, scrambler },
            group_id: group_id.to_owned(),
            me: identity.user,
            now: self.clock.now_ms(),
            max_members: self.config.limits.max_group_members.into(),
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

    /// Leaves out the users who are in as many groups as a user may be. It counts before the job, because counting there
    /// would delay all other writes: joins at the same moment may exceed the limit.
    async fn with_room(&self, me: UserKey, named: Named) -> Result<Named, Error> {
        self.check_room(me, None).await?;
        let mut named = named.without(me, || Error::params_invalid("you are a member of the group that you create"));
        let (users, most) = (named.keys(), i64::from(self.config.limits.max_groups));
        let counts = self.db.read(async move |tx| store::counts(tx, users).await).await?;
        named.leave_out(|user, user_id| {
            let is_full = counts.get(&user).is_some_and(|count| *count >= most);
            is_full.then(|| Error::too_many_groups(user_id, most))
        });
        Ok(named)
    }

    /// Checks that the caller may be in one more group, unless they are in this one already.
    async fn check_room(&self, me: UserKey, group: Option<ConversationKey>) -> Result<(), Error> {
        let most = i64::from(self.config.limits.max_groups);
        let is_full = self.db.read(async move |tx| {
            if let Some(group) = group
                && store::role(tx, group, me).await?.is_some()
            {
                return Ok(false);
            }
            Ok(store::counts(tx, [me]).await?.get(&me).is_some_and(|count| *count >= most))
        });
        if is_full.await? { Err(Error::too_many_own_groups(most)) } else { Ok(()) }
    }
}
