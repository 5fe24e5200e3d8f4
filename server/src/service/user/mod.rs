//! Profiles of users, and each user's own rules.

mod operator;
mod watchers;
mod store;

use zim_protocol::{
    ErrorCode, ErrorUserInfo, QuerySelfUserInfoRequest, QueryUsersInfoRequest, SelfUserInfo, SelfUserInfoQueriedResult,
    UpdateUserAvatarUrlRequest, UpdateUserBadgeRequest, UpdateUserExtendedDataRequest, UpdateUserNameRequest,
    UpdateUserOfflinePushRuleRequest, UserAvatarUrlUpdatedResult, UserBadgeUpdatedResult,
    UserExtendedDataUpdatedResult, UserNameUpdatedResult, UserOfflinePushRuleUpdatedResult, UsersInfoQueriedResult,
    server::UserService,
};

pub(crate) use self::store::{PROFILE, ProfileField, RULE, change, profile};
pub(crate) use self::watchers::{changes_since, notify_of_profiles};

use crate::app::App;
use crate::connection::Caller;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::presence;

impl UserService for App {
    async fn query_users_info(
        &self,
        caller: &Caller,
        request: QueryUsersInfoRequest,
    ) -> Result<UsersInfoQueriedResult, Error> {
        let identity = caller.identity()?;
        if let Ok(connection) = caller.connection() {
            let allowance = connection.allowance();
            if !allowance.lock().count_queried_users(request.user_ids.len(), self.clock.steady_ms()) {
                return Err(Error::users_queried_too_often());
            }
        }
        let (app, ids) = (identity.app, request.user_ids);
        let (user_list, missing) = self.db.read(async move |tx| store::users(tx, app, ids).await).await?;
        let error_user_list = missing
            .into_iter()
            .map(|user_id| ErrorUserInfo { user_id, reason: i64::from(ErrorCode::CommonModuleUserIsNotExist as i32) })
            .collect();
        Ok(UsersInfoQueriedResult { user_list, error_user_list })
    }

    async fn update_user_name(
        &self,
        caller: &Caller,
        request: UpdateUserNameRequest,
    ) -> Result<UserNameUpdatedResult, Error> {
        let name = request.user_name;
        self.change_profile(caller, ProfileField::Name(name.clone())).await?;
        Ok(UserNameUpdatedResult { user_name: name })
    }

    async fn update_user_avatar_url(
        &self,
        caller: &Caller,
        request: UpdateUserAvatarUrlRequest,
    ) -> Result<UserAvatarUrlUpdatedResult, Error> {
        let user_avatar_url = request.user_avatar_url;
        self.change_profile(caller, ProfileField::Avatar(user_avatar_url.clone())).await?;
        Ok(UserAvatarUrlUpdatedResult { user_avatar_url })
    }

    async fn update_user_extended_data(
        &self,
        caller: &Caller,
        request: UpdateUserExtendedDataRequest,
    ) -> Result<UserExtendedDataUpdatedResult, Error> {
        let extended_data = request.extended_data;
        let most = self.config.limits.max_user_extended_data_bytes;
        if extended_data.len() > most as usize {
            return Err(Error::user_extended_data_too_long(extended_data.len(), most));
        }
        self.change_profile(caller, ProfileField::ExtendedData(extended_data.clone())).await?;
        Ok(UserExtendedDataUpdatedResult { extended_data })
    }

    async fn update_user_offline_push_rule(
        &self,
        caller: &Caller,
        request: UpdateUserOfflinePushRuleRequest,
    ) -> Result<UserOfflinePushRuleUpdatedResult, Error> {
        let (user, rule) = (caller.identity()?.user, request.offline_push_rule.unwrap_or_default());
        let stored = rule.clone();
        caller
            .write(&self.db, Scope::user(user), async move |tx, log| store::set_push_rule(tx, log, user, stored).await)
            .await?;
        Ok(UserOfflinePushRuleUpdatedResult { offline_push_rule: Some(rule) })
    }

    async fn update_user_badge(
        &self,
        caller: &Caller,
        request: UpdateUserBadgeRequest,
    ) -> Result<UserBadgeUpdatedResult, Error> {
        let user = caller.identity()?.user;
        let job = async move |tx: &mut Tx<'_>, _: &mut LogWriter| store::set_badge(tx, user, request.badge).await;
        caller.write(&self.db, Scope::user(user), job).await?;
        Ok(UserBadgeUpdatedResult {})
    }

    async fn query_self_user_info(
        &self,
        caller: &Caller,
        _: QuerySelfUserInfoRequest,
    ) -> Result<SelfUserInfoQueriedResult, Error> {
        let (user, now) = (caller.identity()?.user, self.clock.now_ms());
        let own = self.db.read(async move |tx| {
            let (info, rule) = store::own(tx, user).await?;
            let status = presence::own(tx, user, now).await?;
            Ok(SelfUserInfo { user_full_info: Some(info), user_rule: Some(rule), user_status: Some(status) })
        });
        let own = own.await?;
        Ok(SelfUserInfoQueriedResult { self_user_info: Some(own) })
    }
}

impl App {
    /// Changes one field of the caller's profile.
    async fn change_profile(&self, caller: &Caller, field: ProfileField) -> Result<(), Error> {
        let (user, at) = (caller.identity()?.user, self.ids.time_ms());
        caller
            .write(&self.db, Scope::user(user), async move |tx, log| store::change(tx, log, user, field, at).await)
            .await
    }
}
