//! Friends and friend applications. A list belongs to one user, and its changes are in that user's feed.

mod application;
mod friendship;
mod rules;
mod store;

use zim_protocol::{
    AcceptFriendApplicationRequest, AddFriendRequest, CheckFriendsRelationRequest, DeleteFriendsRequest, ErrorCode,
    FriendAddedResult, FriendAliasUpdatedResult, FriendApplicationAcceptedResult, FriendApplicationListQueriedResult,
    FriendApplicationRejectedResult, FriendApplicationSentResult, FriendAttributesUpdatedResult, FriendDeleteType,
    FriendInfo, FriendListQueriedResult, FriendRelationInfo, FriendsDeletedResult, FriendsInfoQueriedResult,
    FriendsRelationCheckedResult, QueryFriendApplicationListRequest, QueryFriendListRequest, QueryFriendsInfoRequest,
    RejectFriendApplicationRequest, SendFriendApplicationRequest, UpdateFriendAliasRequest,
    UpdateFriendAttributesRequest, server::FriendService,
};

pub(crate) use self::application::APPLICATION;
use self::friendship::{Pair, RemarksChange};
use self::rules::Remarks;
pub(crate) use self::store::FRIEND;
use crate::app::App;
use crate::connection::Caller;
use crate::db::Scope;
use crate::error::Error;
use crate::push::PushKind;
use crate::service::rows::Page;

impl FriendService for App {
    async fn add_friend(&self, caller: &Caller, request: AddFriendRequest) -> Result<FriendAddedResult, Error> {
        let pair = self.resolve_pair(caller, &request.user_id).await?;
        let config = request.config.unwrap_or_default();
        let remarks = Remarks::new(config.friend_alias, config.friend_attributes);
        let info = caller
            .write(&self.db, pair.scope(), async move |tx, log| {
                friendship::add(tx, log, pair, remarks, &config.wording).await
            })
            .await?;
        Ok(FriendAddedResult { friend_info: Some(info) })
    }

    async fn delete_friends(
        &self,
        caller: &Caller,
        request: DeleteFriendsRequest,
    ) -> Result<FriendsDeletedResult, Error> {
        let me = caller.identity()?.user;
        let is_mutual = request.config.unwrap_or_default().r#type() == FriendDeleteType::Both;
        let named = self.resolve_users(caller, request.user_ids, Error::friend_unregistered).await?;
        let named = named.without(me, Error::cannot_delete_self);
        let scope = Scope::user(me).and_users(named.keys());
        Ok(FriendsDeletedResult {
            error_user_list: caller
                .write(&self.db, scope, async move |tx, log| {
                    friendship::delete(tx, log, me, named, is_mutual).await?.finish()
                })
                .await?,
        })
    }

    async fn check_friends_relation(
        &self,
        caller: &Caller,
        request: CheckFriendsRelationRequest,
    ) -> Result<FriendsRelationCheckedResult, Error> {
        let me = caller.identity()?.user;
        let check = request.config.unwrap_or_default().r#type();
        let named = self.resolve_users(caller, request.user_ids, Error::friend_unregistered).await?;
        let keys = named.keys();
        let (mine, theirs) = self.db.read(async move |tx| store::relations(tx, me, &keys).await).await?;
        let relation_infos = named.found.iter().map(|(key, user_id)| {
            let relation = rules::relation(check, mine.contains(key), theirs.contains(key));
            FriendRelationInfo { r#type: relation as i32, user_id: user_id.clone() }
        });
        Ok(FriendsRelationCheckedResult { relation_infos: relation_infos.collect(), error_user_list: named.finish()? })
    }

    async fn update_friend_alias(
        &self,
        caller: &Caller,
        request: UpdateFriendAliasRequest,
    ) -> Result<FriendAliasUpdatedResult, Error> {
        let info = self.change_friend(caller, request.user_id, RemarksChange::Alias(request.friend_alias)).await?;
        Ok(FriendAliasUpdatedResult { friend_info: Some(info) })
    }

    async fn update_friend_attributes(
        &self,
        caller: &Caller,
        request: UpdateFriendAttributesRequest,
    ) -> Result<FriendAttributesUpdatedResult, Error> {
        let change = RemarksChange::Attributes(request.friend_attributes.into_iter().collect());
        let info = self.change_friend(caller, request.user_id, change).await?;
        Ok(FriendAttributesUpdatedResult { friend_info: Some(info) })
    }

    async fn query_friends_info(
        &self,
        caller: &Caller,
        request: QueryFriendsInfoRequest,
    ) -> Result<FriendsInfoQueriedResult, Error> {
        let me = caller.identity()?.user;
        let mut named = self.resolve_users(caller, request.user_ids, Error::friend_unregistered).await?;
        let keys: Vec<i64> = named.found.iter().map(|(key, _)| key.0).collect();
        let mut entries = self.db.read(async move |tx| store::entries(tx, me, &keys).await).await?;
        entries.retain(|_, entry| !entry.is_deleted);
        named.leave_out(|key, id| (!entries.contains_key(&key.0)).then(|| Error::not_friends(id)));
        let infos = named.found.iter().filter_map(|(key, _)| entries.remove(&key.0)?.info);
        Ok(FriendsInfoQueriedResult { friend_infos: infos.collect(), error_user_list: named.finish()? })
    }

    async fn query_friend_list(
        &self,
        caller: &Caller,
        request: QueryFriendListRequest,
    ) -> Result<FriendListQueriedResult, Error> {
        let me = caller.identity()?.user;
        let config = request.config.unwrap_or_default();
        let page = Page::new(config.next_flag, config.count);
        let (friend_list, next_flag) = self.db.read(async move |tx| store::page(tx, me, page).await).await?;
        Ok(FriendListQueriedResult { friend_list, next_flag })
    }

    async fn send_friend_application(
        &self,
        caller: &Caller,
        request: SendFriendApplicationRequest,
    ) -> Result<FriendApplicationSentResult, Error> {
        let pair = self.resolve_pair(caller, &request.user_id).await?;
        let config = request.config.unwrap_or_default();
        let push = self.new_push(caller.identity()?, PushKind::FriendApplication, config.push_config.as_ref())?;
        let sent = (config.wording, Remarks::new(config.friend_alias, config.friend_attributes));
        let term = self.term(pair.now);
        let sending = self.write_application(caller, pair.scope(), (push, 0), async move |tx, log| {
            Ok((application::send(tx, log, pair, sent, term).await?, vec![pair.other]))
        });
        let info = sending.await?;
        Ok(FriendApplicationSentResult { application_info: Some(info) })
    }

    async fn accept_friend_application(
        &self,
        caller: &Caller,
        request: AcceptFriendApplicationRequest,
    ) -> Result<FriendApplicationAcceptedResult, Error> {
        let pair = self.resolve_pair(caller, &request.user_id).await?;
        let config = request.config.unwrap_or_default();
        let kind = PushKind::FriendApplicationAcceptance;
        let push = self.new_push(caller.identity()?, kind, config.push_config.as_ref())?;
        let remarks = Remarks::new(config.friend_alias, config.friend_attributes);
        let accepting = self.write_application(caller, pair.scope(), (push, 0), async move |tx, log| {
            Ok((application::accept(tx, log, pair, remarks).await?, vec![pair.other]))
        });
        let info = accepting.await?;
        Ok(FriendApplicationAcceptedResult { friend_info: Some(info) })
    }

    async fn reject_friend_application(
        &self,
        caller: &Caller,
        request: RejectFriendApplicationRequest,
    ) -> Result<FriendApplicationRejectedResult, Error> {
        let pair = self.resolve_pair(caller, &request.user_id).await?;
        let (kind, config) = (PushKind::FriendApplicationRejection, request.config.unwrap_or_default());
        let push = self.new_push(caller.identity()?, kind, config.push_config.as_ref())?;
        let rejecting = self.write_application(caller, pair.scope(), (push, 0), async move |tx, log| {
            Ok((application::reject(tx, log, pair).await?, vec![pair.other]))
        });
        let user = rejecting.await?;
        Ok(FriendApplicationRejectedResult { user_info: Some(user) })
    }

    async fn query_friend_application_list(
        &self,
        caller: &Caller,
        request: QueryFriendApplicationListRequest,
    ) -> Result<FriendApplicationListQueriedResult, Error> {
        let me = caller.identity()?.user;
        let config = request.config.unwrap_or_default();
        let (page, now) = (Page::new(config.next_flag, config.count), self.clock.now_ms());
        let (application_list, next_flag) =
            self.db.read(async move |tx| application::page(tx, me, page, now).await).await?;
        Ok(FriendApplicationListQueriedResult { application_list, next_flag })
    }
}

impl App {
    /// Resolves a request about another user, who must be registered.
    async fn resolve_pair(&self, caller: &Caller, user_id: &str) -> Result<Pair, Error> {
        let identity = caller.identity()?;
        let other = self.user_key(identity.app, user_id).await?;
        let other = other.ok_or_else(|| Error::friend_unregistered(user_id))?;
        if other == identity.user {
            return Err(Error::cannot_befriend_self());
        }
        let (me, now) = (identity.user, self.clock.now_ms());
        Ok(Pair { me, other, now, max_friends: self.config.limits.max_friends.into() })
    }

    async fn change_friend(
        &self,
        caller: &Caller,
        user_id: String,
        change: RemarksChange,
    ) -> Result<FriendInfo, Error> {
        let pair = self.resolve_pair(caller, &user_id).await.map_err(|error| match error.code() {
            ErrorCode::FriendModuleCannotAddSelfToFriendList => Error::not_friends(&user_id),
            _ => error,
        })?;
        caller
            .write(&self.db, pair.scope(), async move |tx, log| {
                friendship::change_remarks(tx, log, pair, &user_id, change).await
            })
            .await
    }
}
