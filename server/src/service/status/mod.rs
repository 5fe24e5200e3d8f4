//! Presence: which users are online on which platforms, and their custom statuses.
//!
//! A login that has a connection is marked in its own row, in the transaction that admits it. So a user's status
//! follows from committed rows and never from what this node holds in memory. A change writes one row, however many
//! users subscribe; the subscribers are read after the commit, in pages (`notify`). A login whose connection was lost
//! unnoticed (it broke while the login was being stored, or the server was killed) is found by `maintenance`, so no
//! user stays online by mistake.

mod maintenance;
mod rules;
mod store;
mod subscription;
mod notify;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zim_protocol::{
    QueryUsersStatusRequest, SubscribeUsersStatusRequest, UnsubscribeUsersStatusRequest, UpdateUserCustomStatusRequest,
    UserCustomStatusUpdatedResult, UsersStatusQueriedResult, UsersStatusSubscribedResult,
    UsersStatusUnsubscribedResult, server::StatusService,
};

pub(crate) use self::maintenance::{lost_logins, maintain};
pub(crate) use self::notify::notify_of_statuses;
pub(crate) use self::rules::{Change, Custom};
pub(crate) use self::store::{change, connections, own};
pub(crate) use self::subscription::{feed_entries, statuses_since};
use crate::app::App;
use crate::connection::{Caller, ConnectionState};
use crate::db::{Locks, Submitted};
use crate::error::{Error, LeftOut};
use crate::key::{LoginKey, UserKey};

impl StatusService for App {
    async fn subscribe_users_status(
        &self,
        caller: &Caller,
        request: SubscribeUsersStatusRequest,
    ) -> Result<UsersStatusSubscribedResult, Error> {
        let identity = caller.identity()?;
        let (user, login, now) = (identity.user, identity.login, self.clock.now_ms());
        let minutes = request.config.unwrap_or_default().subscription_duration;
        let mut left_out = LeftOut::default();
        let mut found = self.registered(caller, request.user_ids, &mut left_out).await?;
        found.retain(|(key, user_id)| {
            let is_self = *key == user;
            if is_self {
                left_out.add(user_id.clone(), Error::own_status());
            }
            !is_self
        });
        let error_user_list = left_out.finish(found.len())?;
        let targets: Vec<UserKey> = found.into_iter().map(|(key, _)| key).collect();
        let (until, most) = ((now, now + minutes * 60_000), self.config.limits.max_status_subscriptions.into());
        // Locks the targets too, so that no change falls between the read of their statuses here and the first
        // notification.
        let locks = Locks::user(user.0).and_users(targets.iter().map(|target| target.0));
        let done = self.db.submit(user.0.unsigned_abs(), locks, async move |tx| {
            subscription::subscribe(tx, (user, login), &targets, until, most).await
        });
        caller.set_submitted();
        caller.add_push(done.await?);
        Ok(UsersStatusSubscribedResult { error_user_list })
    }

    async fn unsubscribe_users_status(
        &self,
        caller: &Caller,
        request: UnsubscribeUsersStatusRequest,
    ) -> Result<UsersStatusUnsubscribedResult, Error> {
        let identity = caller.identity()?;
        let (user, login, now) = (identity.user, identity.login, self.clock.now_ms());
        let mut left_out = LeftOut::default();
        let found = self.registered(caller, request.user_ids, &mut left_out).await?;
        let targets: Vec<UserKey> = found.iter().map(|(key, _)| *key).collect();
        let done = self.db.submit(user.0.unsigned_abs(), Locks::user(user.0), async move |tx| {
            subscription::unsubscribe(tx, (user, login), &targets, now).await
        });
        caller.set_submitted();
        let (ended, push) = done.await?;
        push.into_iter().for_each(|push| caller.add_push(push));
        for (_, user_id) in found.into_iter().filter(|(key, _)| !ended.contains(key)) {
            left_out.add(user_id.clone(), Error::not_subscribed(&user_id));
        }
        Ok(UsersStatusUnsubscribedResult { error_user_list: left_out.finish(ended.len())? })
    }

    async fn query_users_status(
        &self,
        caller: &Caller,
        request: QueryUsersStatusRequest,
    ) -> Result<UsersStatusQueriedResult, Error> {
        let now = self.clock.now_ms();
        let mut left_out = LeftOut::default();
        let found = self.registered(caller, request.user_ids, &mut left_out).await?;
        let error_user_list = left_out.finish(found.len())?;
        let keys: Vec<UserKey> = found.iter().map(|(key, _)| *key).collect();
        let mut statuses = self.db.read(async move |tx| store::statuses(tx, &keys, now).await).await?;
        let user_status_list = found.iter().filter_map(|(key, _)| statuses.remove(key)).collect();
        Ok(UsersStatusQueriedResult { user_status_list, error_user_list })
    }

    async fn update_user_custom_status(
        &self,
        caller: &Caller,
        request: UpdateUserCustomStatusRequest,
    ) -> Result<UserCustomStatusUpdatedResult, Error> {
        let identity = caller.identity()?;
        let (user, login, at) = (identity.user, identity.login, self.ids.time_ms());
        let duration_s = request.config.unwrap_or_default().duration;
        let custom = Some(Custom::new(request.custom_status.clone(), duration_s, self.clock.now_ms()));
        let done = self.db.submit(user.0.unsigned_abs(), Locks::user(user.0), async move |tx| {
            store::change(tx, user, Change { connections: None, custom }, at, login).await
        });
        caller.set_submitted();
        let status = done.await?;
        Ok(UserCustomStatusUpdatedResult { custom_status: request.custom_status, status: Some(status) })
    }
}

impl App {
    /// Returns the keys of these users, each once. Those who are not registered are left out.
    async fn registered(
        &self,
        caller: &Caller,
        user_ids: Vec<String>,
        left_out: &mut LeftOut,
    ) -> Result<Vec<(UserKey, String)>, Error> {
        let mut found = Vec::with_capacity(user_ids.len());
        for (user_id, key) in self.user_keys(caller.identity()?.app, user_ids).await? {
            match key {
                Some(key) => found.push((key, user_id)),
                None => left_out.add(user_id.clone(), Error::user_not_found(&user_id)),
            }
        }
        Ok(found)
    }

    /// Handles the end of a connection: it gets no more pushes, and its user may be offline now.
    pub fn disconnected(&self, connection: &Arc<ConnectionState>) {
        let Some(identity) = connection.identity() else { return };
        let (user, login) = (identity.user, identity.login);
        if self.fanout.unregister(user, connection) && !connection.is_logged_out() {
            // If the store does not take it, `maintenance` finds the login later.
            drop(self.mark_disconnected(user, login));
        }
    }

    /// Marks a login as disconnected.
    fn mark_disconnected(&self, user: UserKey, login: LoginKey) -> Submitted<()> {
        let (locks, at) = (Locks::user(user.0), self.ids.time_ms());
        self.db.submit(user.0.unsigned_abs(), locks, async move |tx| store::disconnected(tx, user, login, at).await)
    }
}
