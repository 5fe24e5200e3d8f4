//! Presence: online status and custom status.

use std::collections::HashSet;
use std::sync::Arc;

use zim_protocol::{
    ErrorCode, QueryUsersStatusRequest, SubscribeUsersStatusRequest, SubscribedUserStatusListQueriedResult,
    SubscribedUserStatusQueryConfig, UnsubscribeUsersStatusRequest, UpdateUserCustomStatusRequest,
    UserCustomStatusUpdateConfig, UserCustomStatusUpdatedResult, UserOnlineStatus, UserStatusSubscribeConfig,
    UsersStatusQueriedResult, UsersStatusSubscribedResult, UsersStatusUnsubscribedResult, Validate,
};

use crate::error::Error;
use crate::store::status;
use crate::types::strings;
use crate::zim::Zim;

impl Zim {
    /// Subscribes to the status of up to 100 registered users for 1 to 43,200 minutes: `userStatusUpdated` gives the
    /// current status and then each change, on all devices of this user, across logins and restarts until the time is
    /// up. A user can have 3,000 subscriptions unless the server is configured otherwise; a further one replaces the
    /// earliest. Subscribing again restarts the time. The result lists the users who could not be subscribed to; if
    /// that is all of them, the call fails.
    ///
    /// # Errors
    /// 6000001: not 1 to 100 users, none but oneself, or not 1 to 43,200 minutes. 6000011: none of the users is
    /// registered.
    pub fn subscribe_users_status<I>(
        &self,
        user_ids: I,
        config: UserStatusSubscribeConfig,
    ) -> impl Future<Output = Result<UsersStatusSubscribedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = strings(user_ids);
        self.call(SubscribeUsersStatusRequest { user_ids, config: Some(config) })
    }

    /// Ends the subscriptions to up to 100 users. The result lists the users without a subscription; if that is all of
    /// them, the call fails.
    ///
    /// # Errors
    /// 6000001: not 1 to 100 users, or there is no subscription to any of them. 6000011: none of the users is
    /// registered.
    pub fn unsubscribe_users_status<I>(
        &self,
        user_ids: I,
    ) -> impl Future<Output = Result<UsersStatusUnsubscribedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.call(UnsubscribeUsersStatusRequest { user_ids: strings(user_ids) })
    }

    /// Returns the current status of up to 200 users. The result lists the users who are not registered; if that is all
    /// of them, the call fails.
    ///
    /// # Errors
    /// 6000001: not 1 to 200 users. 6000011: none of them is registered.
    pub fn query_users_status<I>(
        &self,
        user_ids: I,
    ) -> impl Future<Output = Result<UsersStatusQueriedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.call(QueryUsersStatusRequest { user_ids: strings(user_ids) })
    }

    /// Returns the subscriptions, earliest first, with the known status: from the local copy, with or without a
    /// connection. Without one it is unknown who is online. `userIDs` of the config selects users; empty selects all.
    ///
    /// # Errors
    /// None but those of [every method](crate#errors).
    pub async fn query_subscribed_user_status_list(
        &self,
        config: SubscribedUserStatusQueryConfig,
    ) -> Result<SubscribedUserStatusListQueriedResult, Error> {
        let account = self.account()?;
        account.listed().await;
        let now_ms = account.server_now_ms();
        let mut list = account.store().read(move |db| status::subscriptions(db, now_ms)).await?;
        if !account.is_online() {
            for status in list.iter_mut().filter_map(|subscription| subscription.user_status.as_mut()) {
                status.online_status = UserOnlineStatus::Unknown as i32;
                status.online_platforms.clear();
            }
        }
        if !config.user_ids.is_empty() {
            let wanted: HashSet<String> = config.user_ids.into_iter().collect();
            list.retain(|subscription| {
                subscription.user_status.as_ref().is_some_and(|status| wanted.contains(&status.user_id))
            });
        }
        Ok(SubscribedUserStatusListQueriedResult { user_status_subscription_list: list })
    }

    /// Changes the user's own custom status (`"busy"`), up to 64 bytes; an empty one removes it. At most once a second.
    /// The user's other devices and their subscribers get `userStatusUpdated`. The status expires by itself: `duration`
    /// of the config is in seconds, 0 means a day, -1 means until the next change.
    ///
    /// # Errors
    /// 6000001: the status is longer than 64 bytes, or there is no such `duration`. 6000004: it was changed less than
    /// a second ago.
    pub fn update_user_custom_status(
        &self,
        custom_status: &str,
        config: UserCustomStatusUpdateConfig,
    ) -> impl Future<Output = Result<UserCustomStatusUpdatedResult, Error>> + Send + 'static + use<> {
        let request = UpdateUserCustomStatusRequest { custom_status: custom_status.to_owned(), config: Some(config) };
        let answer = self.start_custom_status(request);
        async move { answer?.await }
    }

    fn start_custom_status(
        &self,
        request: UpdateUserCustomStatusRequest,
    ) -> Result<impl Future<Output = Result<UserCustomStatusUpdatedResult, Error>> + Send + 'static + use<>, Error>
    {
        let account = self.account()?;
        request.validate()?;
        if account.is_online() && !account.custom_statuses().lock().take(1, account.clock().steady_ms()) {
            return Err(Error::new(
                ErrorCode::CommonModuleTriggerSdkFrequencyLimit,
                "the custom status can be changed once a second; wait a moment",
            ));
        }
        let owner = Arc::clone(&account);
        let answer = owner.request(request);
        Ok(account.own(async move {
            let result = answer.await?;
            if let Some(status) = result.status.clone() {
                owner.store_own_status(status).await?;
            }
            Ok(result)
        }))
    }
}
