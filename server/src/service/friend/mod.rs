//! Friends and friend applications. A list belongs to one user, and its changes are in that user's feed.

mod application;
mod friendship;
mod feed_writer;
mod rules;
mod store;

use std::collections::HashSet;

use zim_protocol::{
    AcceptFriendApplicationRequest, AddFriendRequest, CheckFriendsRelationRequest, DeleteFriendsRequest, ErrorCode,
    FriendAddedResult, FriendAliasUpdatedResult, FriendApplicationAcceptedResult, FriendApplicationListQueriedResult,
    FriendApplicationRejectedResult, FriendApplicationSentResult, FriendAttributesUpdatedResult, FriendDeleteType,
    FriendInfo, FriendListQueriedResult, FriendRelationInfo, FriendsDeletedResult, FriendsInfoQueriedResult,
    FriendsRelationCheckedResult, Push, QueryFriendApplicationListRequest, QueryFriendListRequest,
    QueryFriendsInfoRequest, RejectFriendApplicationRequest, SendFriendApplicationRequest, UpdateFriendAliasRequest,
    UpdateFriendAttributesRequest, server::FriendService,
};

pub(crate) use self::application::feed_entries as application_feed_entries;
use self::friendship::{Pair, RemarksChange};
use self::rules::Remarks;
pub(crate) use self::store::feed_entries;
use crate::app::App;
use crate::connection::Caller;
use crate::db::{Locks, Row, Tx};
use crate::error::{Error, LeftOut};
use crate::key::UserKey;

impl FriendService for App {
    async fn add_friend(&self, caller: &Caller, request: AddFriendRequest) -> Result<FriendAddedResult, Error> {
        let pair = self.resolve_pair(caller, &request.user_id).await?;
        let config = request.config.unwrap_or_default();
        let remarks = Remarks::new(config.friend_alias, config.friend_attributes);
        let info = self
            .run_pair_job(caller, pair, async move |tx, pair| friendship::add(tx, pair, remarks, &config.wording).await)
            .await?;
        Ok(FriendAddedResult { friend_info: Some(info) })
    }

    async fn delete_friends(
        &self,
        caller: &Caller,
        request: DeleteFriendsRequest,
    ) -> Result<FriendsDeletedResult, Error> {
        let identity = caller.identity()?;
        let (me, login) = (identity.user, identity.login);
        let is_mutual = request.config.unwrap_or_default().r#type() == FriendDeleteType::Both;
        let mut left_out = LeftOut::default();
        let mut found = self.friend_keys(caller, request.user_ids, &mut left_out).await?;
        found.retain(|(key, id)| {
            let is_me = *key == me;
            if is_me {
                left_out.add(id.clone(), Error::cannot_delete_self());
            }
            !is_me
        });
        let locks = Locks::user(me.0).and_users(found.iter().map(|(key, _)| key.0));
        let done = self.db.submit(me.0.unsigned_abs(), locks, async move |tx| {
            friendship::delete(tx, (me, login), found, is_mutual, left_out).await
        });
        caller.set_submitted();
        let (pushes, error_user_list) = done.await?;
        pushes.into_iter().for_each(|push| caller.add_push(push));
        Ok(FriendsDeletedResult { error_user_list })
    }

    async fn check_friends_relation(
        &self,
        caller: &Caller,
        request: CheckFriendsRelationRequest,
    ) -> Result<FriendsRelationCheckedResult, Error> {
        let me = caller.identity()?.user;
        let check = request.config.unwrap_or_default().r#type();
        let mut left_out = LeftOut::default();
        let found = self.friend_keys(caller, request.user_ids, &mut left_out).await?;
        let keys: Vec<UserKey> = found.iter().map(|(key, _)| *key).collect();
        let (mine, theirs) = self.db.read(async move |tx| store::relations(tx, me, &keys).await).await?;
        let relation_infos = found.into_iter().map(|(key, user_id)| {
            let relation = rules::relation(check, mine.contains(&key), theirs.contains(&key));
            FriendRelationInfo { r#type: relation as i32, user_id }
        });
        let relation_infos: Vec<_> = relation_infos.collect();
        let error_user_list = left_out.finish(relation_infos.len())?;
        Ok(FriendsRelationCheckedResult { relation_infos, error_user_list })
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
        let mut left_out = LeftOut::default();
        let found = self.friend_keys(caller, request.user_ids, &mut left_out).await?;
        let keys: Vec<i64> = found.iter().map(|(key, _)| key.0).collect();
        let mut entries = self.db.read(async move |tx| store::entries(tx, me, &keys).await).await?;
        let mut friend_infos = Vec::with_capacity(found.len());
        for (key, id) in found {
            match entries.remove(&key.0).filter(|entry| !entry.is_deleted) {
                Some(entry) => friend_infos.extend(entry.info),
                None => left_out.add(id.clone(), Error::not_friends(&id)),
            }
        }
        let error_user_list = left_out.finish(friend_infos.len())?;
        Ok(FriendsInfoQueriedResult { friend_infos, error_user_list })
    }

    async fn query_friend_list(
        &self,
        caller: &Caller,
        request: QueryFriendListRequest,
    ) -> Result<FriendListQueriedResult, Error> {
        let me = caller.identity()?.user;
        let config = request.config.unwrap_or_default();
        let (before, count) = (page_start(config.next_flag), config.count);
        let (friend_list, next_flag) = self.db.read(async move |tx| store::page(tx, me, before, count).await).await?;
        Ok(FriendListQueriedResult { friend_list, next_flag })
    }

    async fn send_friend_application(
        &self,
        caller: &Caller,
        request: SendFriendApplicationRequest,
    ) -> Result<FriendApplicationSentResult, Error> {
        let pair = self.resolve_pair(caller, &request.user_id).await?;
        let config = request.config.unwrap_or_default();
        let sent = (config.wording, Remarks::new(config.friend_alias, config.friend_attributes));
        let expires_at = pair.now + i64::from(self.config.limits.friend_application_valid_s) * 1_000;
        let info = self
            .run_pair_job(caller, pair, async move |tx, pair| application::jobs::send(tx, pair, sent, expires_at).await)
            .await?;
        Ok(FriendApplicationSentResult { application_info: Some(info) })
    }

    async fn accept_friend_application(
        &self,
        caller: &Caller,
        request: AcceptFriendApplicationRequest,
    ) -> Result<FriendApplicationAcceptedResult, Error> {
        let pair = self.resolve_pair(caller, &request.user_id).await?;
        let config = request.config.unwrap_or_default();
        let remarks = Remarks::new(config.friend_alias, config.friend_attributes);
        let info = self
            .run_pair_job(caller, pair, async move |tx, pair| application::jobs::accept(tx, pair, remarks).await)
            .await?;
        Ok(FriendApplicationAcceptedResult { friend_info: Some(info) })
    }

    async fn reject_friend_application(
        &self,
        caller: &Caller,
        request: RejectFriendApplicationRequest,
    ) -> Result<FriendApplicationRejectedResult, Error> {
        let pair = self.resolve_pair(caller, &request.user_id).await?;
        let user =
            self.run_pair_job(caller, pair, async move |tx, pair| application::jobs::reject(tx, pair).await).await?;
        Ok(FriendApplicationRejectedResult { user_info: Some(user) })
    }

    async fn query_friend_application_list(
        &self,
        caller: &Caller,
        request: QueryFriendApplicationListRequest,
    ) -> Result<FriendApplicationListQueriedResult, Error> {
        let me = caller.identity()?.user;
        let config = request.config.unwrap_or_default();
        let (page, now) = ((page_start(config.next_flag), config.count), self.clock.now_ms());
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
        let (me, login, now) = (identity.user, identity.login, self.clock.now_ms());
        Ok(Pair { me, other, login, now, max_friends: self.config.limits.max_friends.into() })
    }

    /// Runs a job under the heads of both users. The response carries what the job appended to the caller's feed.
    async fn run_pair_job<T: Send + 'static>(
        &self,
        caller: &Caller,
        pair: Pair,
        job: impl AsyncFnOnce(&mut Tx<'_>, &Pair) -> Result<(T, Vec<Push>), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let locks = Locks::users([pair.me.0, pair.other.0]);
        let done = self.db.submit(pair.me.0.unsigned_abs(), locks, async move |tx| job(tx, &pair).await);
        caller.set_submitted();
        let (answer, pushes) = done.await?;
        pushes.into_iter().for_each(|push| caller.add_push(push));
        Ok(answer)
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
        self.run_pair_job(caller, pair, async move |tx, pair| {
            friendship::change_remarks(tx, pair, &user_id, change).await
        })
        .await
    }

    /// Returns the keys of these users, each once. Those who are not registered are left out.
    async fn friend_keys(
        &self,
        caller: &Caller,
        user_ids: Vec<String>,
        left_out: &mut LeftOut,
    ) -> Result<Vec<(UserKey, String)>, Error> {
        let app = caller.identity()?.app;
        let mut found: Vec<(UserKey, String)> = Vec::with_capacity(user_ids.len());
        let mut seen = HashSet::new();
        for id in user_ids {
            if !seen.insert(id.clone()) {
                continue;
            }
            match self.user_key(app, &id).await? {
                Some(key) => found.push((key, id)),
                None => left_out.add(id.clone(), Error::friend_unregistered(&id)),
            }
        }
        Ok(found)
    }
}

/// The place that a page starts after; lists are in descending order of places.
fn page_start(next_flag: i64) -> i64 {
    if next_flag > 0 { next_flag } else { i64::MAX }
}

/// Cuts a page out of rows that were fetched with one row in excess. Returns the page and the place that the next one
/// starts after, 0 at the end.
fn page<T>(
    rows: &[Row],
    count: i64,
    place: usize,
    read: impl Fn(&Row) -> Result<T, Error>,
) -> Result<(Vec<T>, i64), Error> {
    let shown = rows.len().min(usize::try_from(count).unwrap_or(0));
    let page = rows.iter().take(shown).map(&read).collect::<Result<Vec<_>, _>>()?;
    let next = match rows.get(..shown).and_then(<[Row]>::last) {
        Some(last) if rows.len() > shown => last.get(place)?,
        _ => 0,
    };
    Ok((page, next))
}
