//! Profiles, and the user's own rules.

use std::collections::HashSet;

use zim_protocol::{
    ErrorCode, ErrorUserInfo, QuerySelfUserInfoRequest, QueryUsersInfoRequest, SelfUserInfo, SelfUserInfoQueriedResult,
    UpdateUserAvatarUrlRequest, UpdateUserExtendedDataRequest, UpdateUserNameRequest, UpdateUserOfflinePushRuleRequest,
    UserAvatarUrlUpdatedResult, UserExtendedDataUpdatedResult, UserFullInfo, UserInfo, UserNameUpdatedResult,
    UserOfflinePushRule, UserOfflinePushRuleUpdatedResult, UserOnlineStatus, UserStatus, UsersInfoQueriedResult,
    UsersInfoQueryConfig, Validate,
};

use crate::account::Remote;
use crate::error::Error;
use crate::store::user::Gap;
use crate::store::{rule, status, user};
use crate::types::strings;
use crate::zim::Zim;

impl Zim {
    /// Returns the profiles of up to 10 users: known ones from this device and the others from the server, or all from
    /// the server with `isQueryFromServer`. The server can be asked for 10 users in 10 seconds. It is also asked for a known profile
    /// whose extended data had no room in a change of the members of a group.
    ///
    /// # Errors
    /// 6000001: no user, or an ID that is none. 6000012: more than 10 users, at once or in 10 seconds.
    pub async fn query_users_info<I>(
        &self,
        user_ids: I,
        config: UsersInfoQueryConfig,
    ) -> Result<UsersInfoQueriedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let account = self.account()?;
        let mut request = QueryUsersInfoRequest { user_ids: strings(user_ids), config: Some(config) };
        request.validate()?;
        let mut named = HashSet::new();
        request.user_ids.retain(|id| named.insert(id.clone()));
        let ids = request.user_ids.clone();
        let mut found: Vec<UserFullInfo> = Vec::new();
        if !config.is_query_from_server {
            let wanted = ids.clone();
            // The server is asked for extended data that came without others. Without a connection, older ones are better than none.
            let most = if account.is_online() { Gap::Nothing } else { Gap::Older };
            let known = account.store().read(move |db| {
                let known = wanted.iter().filter_map(|id| user::read_within(db, id, most).transpose());
                known.collect::<rusqlite::Result<Vec<_>>>()
            });
            found = known.await?;
            request.user_ids.retain(|id| !found.iter().any(|info| id_of(info) == id));
        }
        let mut error_user_list: Vec<ErrorUserInfo> = Vec::new();
        if !request.user_ids.is_empty() {
            if account.remote().is_online()
                && !account.queried_users().lock().take(request.user_ids.len(), account.clock().steady_ms())
            {
                return Err(Error::new(
                    ErrorCode::CommonModuleUserInfoQueriedLimit,
                    "the server can be asked for 10 users in 10 seconds; wait, or query users that this device knows",
                ));
            }
            let result = account.request(request).await?;
            error_user_list = result.error_user_list;
            account.store_users(result.user_list.clone()).await?;
            found.extend(result.user_list);
        }
        let place = |info: &UserFullInfo| ids.iter().position(|id| id == id_of(info));
        found.sort_by_key(place);
        Ok(UsersInfoQueriedResult { user_list: found, error_user_list })
    }

    /// Changes the user's own name. Their other devices get `userInfoUpdated`.
    ///
    /// # Errors
    /// 6000001: the name is longer than 256 bytes.
    pub fn update_user_name(
        &self,
        user_name: &str,
    ) -> impl Future<Output = Result<UserNameUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateUserNameRequest { user_name: user_name.to_owned() })
    }

    /// Changes the address of the user's own avatar. Their other devices get `userInfoUpdated`. The image itself is
    /// stored wherever the app likes.
    ///
    /// # Errors
    /// 6000001: the address is longer than 500 bytes.
    pub fn update_user_avatar_url(
        &self,
        user_avatar_url: &str,
    ) -> impl Future<Output = Result<UserAvatarUrlUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateUserAvatarUrlRequest { user_avatar_url: user_avatar_url.to_owned() })
    }

    /// Changes the extended data of the user's own profile, up to 2 KB unless the server allows more. Their other
    /// devices get `userInfoUpdated`.
    ///
    /// # Errors
    /// 6000001: it is longer than the server allows.
    pub fn update_user_extended_data(
        &self,
        extended_data: &str,
    ) -> impl Future<Output = Result<UserExtendedDataUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateUserExtendedDataRequest { extended_data: extended_data.to_owned() })
    }

    /// Replaces the rule that suppresses offline pushes on some devices while others are online. All devices of the
    /// user get `userRuleUpdated`, including this one.
    ///
    /// # Errors
    /// 6000001: more than 16 platforms, or one that does not exist.
    pub fn update_user_offline_push_rule(
        &self,
        offline_push_rule: UserOfflinePushRule,
    ) -> impl Future<Output = Result<UserOfflinePushRuleUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateUserOfflinePushRuleRequest { offline_push_rule: Some(offline_push_rule) })
    }

    /// Returns the user's own profile, rules and status. Without a connection the result is what this device knows.
    ///
    /// # Errors
    /// None but those of [every method](crate#errors).
    pub async fn query_self_user_info(&self) -> Result<SelfUserInfoQueriedResult, Error> {
        let account = self.account()?;
        if account.remote().is_online() {
            return account.request(QuerySelfUserInfoRequest {}).await;
        }
        let (user_id, now_ms) = (account.user_id().to_string(), account.server_now_ms());
        let held = account.store().read(move |db| {
            let info = user::read(db, &user_id)?.unwrap_or_else(|| UserFullInfo {
                base_info: Some(UserInfo { user_id: user_id.clone(), ..UserInfo::default() }),
                ..UserFullInfo::default()
            });
            // Without a connection the online status is unknown.
            let online_status = UserOnlineStatus::Unknown as i32;
            let held = status::read(db, &user_id)?.unwrap_or_default();
            let status = UserStatus { user_id, online_status, online_platforms: Vec::new(), ..held };
            let status = status::shown(status, now_ms);
            let user_rule = Some(rule::read(db)?);
            Ok(SelfUserInfo { user_full_info: Some(info), user_rule, user_status: Some(status) })
        });
        Ok(SelfUserInfoQueriedResult { self_user_info: Some(held.await?) })
    }
}

fn id_of(info: &UserFullInfo) -> &str {
    info.base_info.as_ref().map_or("", |base| base.user_id.as_str())
}
