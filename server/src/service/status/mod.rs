//! Statuses: who subscribes to whose, and the text that a user sets. Whether a user is online is presence.

mod subscription;
mod notify;
#[cfg(test)]
mod tests;

use zim_protocol::{
    QueryUsersStatusRequest, SubscribeUsersStatusRequest, UnsubscribeUsersStatusRequest, UpdateUserCustomStatusRequest,
    UserCustomStatusUpdatedResult, UsersStatusQueriedResult, UsersStatusSubscribedResult,
    UsersStatusUnsubscribedResult, server::StatusService,
};

pub(crate) use self::notify::notify_of_statuses;
pub(crate) use self::subscription::{SUBSCRIPTION, SUBSCRIPTIONS_END, statuses_since};
use crate::app::App;
use crate::connection::Caller;
use crate::db::Scope;
use crate::error::Error;
use crate::presence::{self, Change, Custom};

impl StatusService for App {
    async fn subscribe_users_status(
        &self,
        caller: &Caller,
        request: SubscribeUsersStatusRequest,
    ) -> Result<UsersStatusSubscribedResult, Error> {
        let (user, now) = (caller.identity()?.user, self.clock.now_ms());
        let minutes = request.config.unwrap_or_default().subscription_duration;
        let named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        let named = named.without(user, Error::own_status);
        let targets = named.keys();
        let error_user_list = named.finish()?;
        let (until, most) = ((now, now + minutes * 60_000), self.config.limits.max_status_subscriptions.into());
        // The targets too, so that no change falls between the read of their statuses here and the first notification.
        let scope = Scope::user(user).and_shared_users(targets.iter().copied());
        caller
            .write(&self.db, scope, async move |tx, log| {
                subscription::subscribe(tx, log, user, &targets, until, most).await
            })
            .await?;
        Ok(UsersStatusSubscribedResult { error_user_list })
    }

    async fn unsubscribe_users_status(
        &self,
        caller: &Caller,
        request: UnsubscribeUsersStatusRequest,
    ) -> Result<UsersStatusUnsubscribedResult, Error> {
        let (user, now) = (caller.identity()?.user, self.clock.now_ms());
        let mut named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        let targets = named.keys();
        let ended = caller.write(&self.db, Scope::user(user), async move |tx, log| {
            subscription::unsubscribe(tx, log, user, &targets, now).await
        });
        let ended = ended.await?;
        named.leave_out(|key, user_id| (!ended.contains(&key)).then(|| Error::not_subscribed(user_id)));
        Ok(UsersStatusUnsubscribedResult { error_user_list: named.finish()? })
    }

    async fn query_users_status(
        &self,
        caller: &Caller,
        request: QueryUsersStatusRequest,
    ) -> Result<UsersStatusQueriedResult, Error> {
        let now = self.clock.now_ms();
        let named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        let keys = named.keys();
        let error_user_list = named.finish()?;
        let user_status_list = self.db.read(async move |tx| presence::statuses(tx, &keys, now).await).await?;
        Ok(UsersStatusQueriedResult { user_status_list, error_user_list })
    }

    async fn update_user_custom_status(
        &self,
        caller: &Caller,
        request: UpdateUserCustomStatusRequest,
    ) -> Result<UserCustomStatusUpdatedResult, Error> {
        let (user, at) = (caller.identity()?.user, self.ids.time_ms());
        let duration_s = request.config.unwrap_or_default().duration;
        let custom = Some(Custom::new(request.custom_status.clone(), duration_s, self.clock.now_ms()));
        let status = caller.write(&self.db, Scope::user(user), async move |tx, log| {
            presence::change(tx, user, Change { connections: None, custom }, at, log.login()).await
        });
        let status = status.await?;
        Ok(UserCustomStatusUpdatedResult { custom_status: request.custom_status, status: Some(status) })
    }
}
