//! Presence: who is online where, and what people say of themselves.

use std::collections::HashSet;

use zim_protocol::{
    ErrorCode, QueryUsersStatusRequest, SubscribeUsersStatusRequest, SubscribedUserStatusListQueriedResult,
    SubscribedUserStatusQueryConfig, UnsubscribeUsersStatusRequest, UpdateUserCustomStatusRequest,
    UserCustomStatusUpdateConfig, UserCustomStatusUpdatedResult, UserStatusSubscribeConfig, UsersStatusQueriedResult,
    UsersStatusSubscribedResult, UsersStatusUnsubscribedResult, Validate,
};

use crate::error::Error;
use crate::store::status;
use crate::zim::Zim;

impl Zim {
    /// Hears of the status of up to 100 registered users for 1 to 43,200 minutes: `userStatusUpdated` says what it is now and
    /// tells each change, on all of one's own devices, over logins and restarts until the time is up. 3,000 users can be
    /// followed, unless the server is set otherwise; beyond that the earliest subscription gives way. Subscribing again begins
    /// anew. Those who could not be subscribed to are in the result; if nobody could, the call fails.
    pub async fn subscribe_users_status<I>(
        &self,
        user_ids: I,
        config: UserStatusSubscribeConfig,
    ) -> Result<UsersStatusSubscribedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = user_ids.into_iter().map(Into::into).collect();
        let request = SubscribeUsersStatusRequest { user_ids, config: Some(config) };
        request.validate().map_err(|violation| Error::from(*violation))?;
        self.account()?.request(request).await
    }

    /// Hears no more of up to 100 users. Those to whom there was no subscription are in the result; if there was none at all,
    /// the call fails.
    pub async fn unsubscribe_users_status<I>(&self, user_ids: I) -> Result<UsersStatusUnsubscribedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let request = UnsubscribeUsersStatusRequest { user_ids: user_ids.into_iter().map(Into::into).collect() };
        request.validate().map_err(|violation| Error::from(*violation))?;
        self.account()?.request(request).await
    }

    /// The status of up to 200 users as it is now, once. Those who are not registered are in the result; if nobody is, the call
    /// fails.
    pub async fn query_users_status<I>(&self, user_ids: I) -> Result<UsersStatusQueriedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let request = QueryUsersStatusRequest { user_ids: user_ids.into_iter().map(Into::into).collect() };
        request.validate().map_err(|violation| Error::from(*violation))?;
        self.account()?.request(request).await
    }

    /// To whom one has subscribed, the earliest first, with what is known of them: from the local copy, with or without a
    /// connection. `userIDs` of the config names those who are wanted; empty asks for all.
    pub async fn query_subscribed_user_status_list(
        &self,
        config: SubscribedUserStatusQueryConfig,
    ) -> Result<SubscribedUserStatusListQueriedResult, Error> {
        let account = self.account()?;
        account.listed().await;
        let now_ms = account.server_now_ms();
        let mut list = account.store().read(move |db| status::subscriptions(db, now_ms)).await?;
        if !config.user_ids.is_empty() {
            let wanted: HashSet<String> = config.user_ids.into_iter().collect();
            list.retain(|subscription| {
                subscription.user_status.as_ref().is_some_and(|status| wanted.contains(&status.user_id))
            });
        }
        Ok(SubscribedUserStatusListQueriedResult { user_status_subscription_list: list })
    }

    /// Changes what one says of oneself (`"busy"`), up to 64 bytes; empty takes it away. Once a second at most. One's other
    /// devices and those who subscribed hear of it by `userStatusUpdated`. It ends by itself: `duration` of the config is in
    /// seconds, 0 is a day, -1 until it is changed.
    pub async fn update_user_custom_status(
        &self,
        custom_status: &str,
        config: UserCustomStatusUpdateConfig,
    ) -> Result<UserCustomStatusUpdatedResult, Error> {
        let account = self.account()?;
        let request = UpdateUserCustomStatusRequest { custom_status: custom_status.to_owned(), config: Some(config) };
        request.validate().map_err(|violation| Error::from(*violation))?;
        if account.is_online() && !account.custom_statuses().lock().take(1, account.clock().steady_ms()) {
            return Err(Error::new(
                ErrorCode::CommonModuleTriggerSdkFrequencyLimit,
                "a custom status can be changed once a second",
            ));
        }
        let result = account.request(request).await?;
        if let Some(status) = result.status.clone() {
            account.learn_own_status(status).await?;
        }
        Ok(result)
    }
}
