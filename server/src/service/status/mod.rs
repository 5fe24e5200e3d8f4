//! Presence: which users are online on which platforms, and their custom statuses.
//!
//! A login that has a connection is marked in its own row, in the transaction that admits it. So a user's status
//! follows from committed rows and never from what this node holds in memory. A change writes one row, however many
//! users subscribe; the subscribers are read after the commit, in pages (`notify`). A login whose connection was lost
//! unnoticed (it broke while the login was being stored, or the server was killed) is found by a task (`tasks`), so no
//! user stays online by mistake.

mod rules;
mod store;
mod subscription;
mod unmarked;
mod tasks;
mod notify;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zim_protocol::{
    QueryUsersStatusRequest, SubscribeUsersStatusRequest, UnsubscribeUsersStatusRequest, UpdateUserCustomStatusRequest,
    UserCustomStatusUpdatedResult, UsersStatusQueriedResult, UsersStatusSubscribedResult,
    UsersStatusUnsubscribedResult, server::StatusService,
};

pub(crate) use self::notify::notify_of_statuses;
pub(crate) use self::rules::{Change, Custom};
pub(crate) use self::store::{change, connections, own};
pub(crate) use self::subscription::{SUBSCRIPTION, statuses_since};
pub(crate) use self::tasks::{CUSTOM_STATUS_END, LOST_LOGINS, LOST_LOGINS_OF_USER, SUBSCRIPTIONS_END};
pub(crate) use self::unmarked::mark_unmarked_logins;
use crate::app::App;
use crate::connection::{Caller, ConnectionState};
use crate::db::{Scope, Submitted};
use crate::error::Error;
use crate::key::{LoginKey, UserKey};

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
        let user_status_list = self.db.read(async move |tx| store::statuses(tx, &keys, now).await).await?;
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
            store::change(tx, user, Change { connections: None, custom }, at, log.login()).await
        });
        let status = status.await?;
        Ok(UserCustomStatusUpdatedResult { custom_status: request.custom_status, status: Some(status) })
    }
}

impl App {
    /// Handles the end of a connection: it gets no more pushes, and its user may be offline now.
    pub fn disconnected(&self, connection: &Arc<ConnectionState>) {
        let Some(identity) = connection.identity() else { return };
        let (user, login) = (identity.user, identity.login);
        if self.fanout.unregister(user, connection) && !connection.is_logged_out() {
            // If the job fails, the next look for lost logins finds the login.
            if self.mark_disconnected(user, login).is_refused() {
                self.unmarked_logins.add(user, login);
            }
        }
    }

    /// Marks a login as disconnected.
    fn mark_disconnected(&self, user: UserKey, login: LoginKey) -> Submitted<()> {
        let at = self.ids.time_ms();
        self.db.submit(Scope::user(user), async move |tx| store::disconnected(tx, user, login, at).await)
    }
}
