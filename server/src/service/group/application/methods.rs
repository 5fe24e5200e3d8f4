//! The methods of applications, and who is in the scope of their jobs.

use std::collections::{HashMap, HashSet};

use zim_protocol::{
    AcceptGroupInviteApplicationRequest, AcceptGroupJoinApplicationRequest, GroupApplicationListQueriedResult,
    GroupFullInfo, GroupInviteApplicationAcceptedResult, GroupInviteApplicationRejectedResult,
    GroupInviteApplicationsSentResult, GroupJoinApplicationAcceptedResult, GroupJoinApplicationRejectedResult,
    GroupJoinApplicationSentResult, GroupMemberInfo, QueryGroupApplicationListRequest,
    RejectGroupInviteApplicationRequest, RejectGroupJoinApplicationRequest, SendGroupInviteApplicationsRequest,
    SendGroupJoinApplicationRequest, server::GroupApplicationService,
};

use super::jobs::{self, Ask};
use super::store;
use crate::app::{App, Named};
use crate::connection::Caller;
use crate::db::{MAX_LOCKED_USERS, Scope};
use crate::error::Error;
use crate::journal::{members, shorten_members};
use crate::key::UserKey;
use crate::push::{NewPush, PushKind};
use crate::service::application::State;
use crate::service::group::membership::Group;
use crate::service::group::rules;
use crate::service::rows::Page;

impl GroupApplicationService for App {
    async fn send_group_join_application(
        &self,
        caller: &Caller,
        request: SendGroupJoinApplicationRequest,
    ) -> Result<GroupJoinApplicationSentResult, Error> {
        let identity = caller.identity()?;
        let (me, my_id) = (identity.user, identity.user_id.to_string());
        let mut group = self.find_group(caller, &request.group_id).await?;
        let key = group.conversation.key;
        self.check_room(me, Some(key)).await?;
        let scope = self.entrance_scope(&mut group, &[me], true).await?;
        let config = request.config.unwrap_or_default();
        let push = self.new_push(identity, PushKind::GroupJoinApplication, config.push_config.as_ref())?;
        let (ask, told) = (self.ask(config.wording, 1), group.told.clone());
        let applying = self.write_application(caller, scope, (push, key.0), async move |tx, log| {
            group.apply(tx, log, my_id, ask).await?;
            Ok(((), told))
        });
        applying.await?;
        Ok(GroupJoinApplicationSentResult { group_id: request.group_id })
    }

    async fn accept_group_join_application(
        &self,
        caller: &Caller,
        request: AcceptGroupJoinApplicationRequest,
    ) -> Result<GroupJoinApplicationAcceptedResult, Error> {
        let (group_id, user_id) = (request.group_id, request.user_id);
        let config = request.config.unwrap_or_default();
        let push =
            self.new_push(caller.identity()?, PushKind::GroupJoinApplicationAcceptance, config.push_config.as_ref())?;
        self.answer_applicant(caller, (&group_id, &user_id), State::Accepted, push).await?;
        Ok(GroupJoinApplicationAcceptedResult { group_id, user_id })
    }

    async fn reject_group_join_application(
        &self,
        caller: &Caller,
        request: RejectGroupJoinApplicationRequest,
    ) -> Result<GroupJoinApplicationRejectedResult, Error> {
        let (group_id, user_id) = (request.group_id, request.user_id);
        let config = request.config.unwrap_or_default();
        let push =
            self.new_push(caller.identity()?, PushKind::GroupJoinApplicationRejection, config.push_config.as_ref())?;
        self.answer_applicant(caller, (&group_id, &user_id), State::Rejected, push).await?;
        Ok(GroupJoinApplicationRejectedResult { group_id, user_id })
    }

    async fn send_group_invite_applications(
        &self,
        caller: &Caller,
        request: SendGroupInviteApplicationsRequest,
    ) -> Result<GroupInviteApplicationsSentResult, Error> {
        let config = request.config.unwrap_or_default();
        let push = self.new_push(caller.identity()?, PushKind::GroupInviteApplication, config.push_config.as_ref())?;
        let users = (request.user_ids, &*request.group_id);
        let (_, named, _) = self.invite(caller, users, (config.wording, push)).await?;
        Ok(GroupInviteApplicationsSentResult { group_id: request.group_id, error_user_list: named.finish()? })
    }

    async fn accept_group_invite_application(
        &self,
        caller: &Caller,
        request: AcceptGroupInviteApplicationRequest,
    ) -> Result<GroupInviteApplicationAcceptedResult, Error> {
        let (group_id, inviter_user_id) = (request.group_id, request.inviter_user_id);
        let answer = (&*group_id, &*inviter_user_id);
        let config = request.config.unwrap_or_default();
        let push =
            self.new_push(caller.identity()?, PushKind::GroupInviteApplicationAcceptance, config.push_config.as_ref())?;
        let info = self.answer_invitation(caller, answer, State::Accepted, push).await?;
        Ok(GroupInviteApplicationAcceptedResult { group_info: Some(info), inviter_user_id })
    }

    async fn reject_group_invite_application(
        &self,
        caller: &Caller,
        request: RejectGroupInviteApplicationRequest,
    ) -> Result<GroupInviteApplicationRejectedResult, Error> {
        let (group_id, inviter_user_id) = (request.group_id, request.inviter_user_id);
        let answer = (&*group_id, &*inviter_user_id);
        let config = request.config.unwrap_or_default();
        let push =
            self.new_push(caller.identity()?, PushKind::GroupInviteApplicationRejection, config.push_config.as_ref())?;
        self.answer_invitation(caller, answer, State::Rejected, push).await?;
        Ok(GroupInviteApplicationRejectedResult { group_id, inviter_user_id })
    }

    async fn query_group_application_list(
        &self,
        caller: &Caller,
        request: QueryGroupApplicationListRequest,
    ) -> Result<GroupApplicationListQueriedResult, Error> {
        let (me, config, now) = (caller.identity()?.user, request.config.unwrap_or_default(), self.clock.now_ms());
        let page = Page::new(config.next_flag, config.count);
        let (application_list, next_flag) = self.db.read(async move |tx| store::page(tx, me, page, now).await).await?;
        Ok(GroupApplicationListQueriedResult { application_list, next_flag })
    }
}

/// Who is in a group now, of those who were invited; those who could be invited, with the others left out; and those of them who were
/// asked.
type Invited = (Vec<GroupMemberInfo>, Named, HashSet<UserKey>);

impl App {
    /// Returns the scope of a job that may let these users into a group, or ends their applications. It has as many as fit of those who
    /// decide on what waits now, the owner first; the others find it in their lists. `applies`: there will be an application to join.
    pub(in crate::service::group) async fn entrance_scope(
        &self,
        group: &mut Group,
        users: &[UserKey],
        applies: bool,
    ) -> Result<Scope, Error> {
        let (key, me, now) = (group.conversation.key, group.me, group.now);
        let concerned = users.to_vec();
        let told = self.db.read(async move |tx| jobs::told(tx, key, &concerned, (now, applies)).await);
        let told = told.await?.into_iter().filter(|user| *user != me);
        // Those who are named as well, such as an administrator who is invited with others, are in the scope already.
        let (named, mut others): (Vec<UserKey>, Vec<UserKey>) = told.partition(|user| users.contains(user));
        others.truncate(MAX_LOCKED_USERS.saturating_sub(users.len() + 1));
        let scope = Scope::conversation(key).and_user(me).and_users(users.iter().copied());
        let scope = scope.and_users(others.iter().copied());
        group.told = named.into_iter().chain(others).collect();
        Ok(scope)
    }

    fn ask(&self, wording: String, count: usize) -> Ask {
        let term = self.term(self.clock.now_ms());
        Ask { wording, term, ids: (0..count).map(|_| self.ids.next()).collect() }
    }

    /// Brings users into a group or asks them.
    pub(in crate::service::group) async fn invite(
        &self,
        caller: &Caller,
        (user_ids, group_id): (Vec<String>, &str),
        (wording, push): (String, Option<NewPush>),
    ) -> Result<Invited, Error> {
        let mut group = self.find_group(caller, group_id).await?;
        let key = group.conversation.key;
        let mut named = self.resolve_users(caller, user_ids, Error::user_not_found).await?;
        self.leave_out_full(&mut named, Some(key)).await?;
        let scope = self.entrance_scope(&mut group, &named.keys(), false).await?;
        let (users, now) = (named.found.clone(), group.now);
        let ask = self.ask(wording, users.len());
        let inviting = self.write_application(caller, scope, (push, key.0), async move |tx, log| {
            let invited = group.invite(tx, log, users, ask).await?;
            let mut found = members(tx, key, invited.entered.iter().map(|user| user.0)).await?;
            let entered = invited.entered.iter().filter_map(|user| found.remove(&user.0));
            let mut entered: Vec<GroupMemberInfo> = entered.map(|member| rules::member_at(member, now)).collect();
            shorten_members(&mut entered);
            Ok(((entered, invited.refused, invited.asked.clone()), invited.asked))
        });
        let (entered, refused, asked) = inviting.await?;
        let mut refused: HashMap<UserKey, Error> = refused.into_iter().collect();
        named.leave_out(|user, _| refused.remove(&user));
        Ok((entered, named, asked.into_iter().collect()))
    }

    async fn answer_applicant(
        &self,
        caller: &Caller,
        (group_id, user_id): (&str, &str),
        answer: State,
        push: Option<NewPush>,
    ) -> Result<(), Error> {
        let mut group = self.find_group(caller, group_id).await?;
        let key = group.conversation.key;
        let user = self.user_key(caller.identity()?.app, user_id).await?;
        let applicant = user.ok_or_else(|| Error::no_join_application(user_id))?;
        if answer == State::Accepted && self.is_full(applicant, Some(key)).await? {
            return Err(Error::too_many_groups(user_id, self.config.limits.max_groups.into()));
        }
        let scope = self.entrance_scope(&mut group, &[applicant], false).await?;
        let named = (applicant, user_id.to_owned());
        let answering = self.write_application(caller, scope, (push, key.0), async move |tx, log| {
            group.answer_applicant(tx, log, named, answer).await?;
            Ok(((), vec![applicant]))
        });
        answering.await
    }

    async fn answer_invitation(
        &self,
        caller: &Caller,
        (group_id, inviter_id): (&str, &str),
        answer: State,
        push: Option<NewPush>,
    ) -> Result<GroupFullInfo, Error> {
        let mut group = self.find_group(caller, group_id).await?;
        let (key, me) = (group.conversation.key, group.me);
        let inviter = self.user_key(caller.identity()?.app, inviter_id).await?;
        let inviter = inviter.ok_or_else(|| Error::no_invite_application(inviter_id))?;
        if answer == State::Accepted {
            self.check_room(me, Some(key)).await?;
        }
        let scope = self.entrance_scope(&mut group, &[me], false).await?;
        let named = (inviter, inviter_id.to_owned());
        let answering = self.write_application(caller, scope, (push, key.0), async move |tx, log| {
            Ok((group.answer_invitation(tx, log, named, answer).await?, vec![inviter]))
        });
        answering.await
    }
}
