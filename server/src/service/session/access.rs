//! What the operator decides about one user: banned, tokens revoked, disconnected, registered. Each is in force, for live
//! sessions too, before the operator hears that it is done: the decision and every login of the user take the user's lock.

use zim_protocol::{ListBannedUsersResult, UserAccess};

use super::store;
use crate::app::App;
use crate::db::Locks;
use crate::error::Error;
use crate::key::UserKey;
use crate::tenant::Tenant;

/// Users on a page of those who are banned.
const BANNED_PAGE: u32 = 100;

impl App {
    async fn known_user(&self, tenant: &Tenant, user_id: &str) -> Result<UserKey, Error> {
        self.user_key(tenant.key, user_id).await?.ok_or_else(|| Error::user_not_found(user_id))
    }

    fn one_shots(&self, user: UserKey) -> u32 {
        u32::try_from(self.fanout.one_shots.count(user)).unwrap_or(u32::MAX)
    }

    /// Ends all sessions of a user, who may log in again. Returns how many there were.
    ///
    /// # Errors
    /// No such user, or the store fails.
    pub async fn disconnect_user(&self, tenant: &Tenant, user_id: &str) -> Result<u32, Error> {
        let user = self.known_user(tenant, user_id).await?;
        let (at, one_shots) = (self.ids.time_ms(), self.one_shots(user));
        let (partition, locks) = (user.0.unsigned_abs(), Locks::user(user.0));
        let ended = self.db.submit(partition, locks, async move |tx| store::end_all(tx, user, at).await).await?;
        Ok(ended.saturating_add(one_shots))
    }

    /// Keeps a user out until `ends_at`, Unix milliseconds, 0 for until the ban is lifted. Returns how many sessions ended.
    ///
    /// # Errors
    /// No such user, or the store fails.
    pub async fn ban_user(&self, tenant: &Tenant, user_id: &str, ends_at: i64) -> Result<u32, Error> {
        let user = self.known_user(tenant, user_id).await?;
        let (now, at, one_shots) = (self.clock.now_ms(), self.ids.time_ms(), self.one_shots(user));
        let (partition, locks) = (user.0.unsigned_abs(), Locks::user(user.0));
        let done = self.db.submit(partition, locks, async move |tx| {
            store::set_ban(tx, user, now, ends_at).await?;
            store::end_all(tx, user, at).await
        });
        Ok(done.await?.saturating_add(one_shots))
    }

    /// Lifts a ban. False: the user was not banned.
    ///
    /// # Errors
    /// No such user, or the store fails.
    pub async fn unban_user(&self, tenant: &Tenant, user_id: &str) -> Result<bool, Error> {
        let user = self.known_user(tenant, user_id).await?;
        let now = self.clock.now_ms();
        let (partition, locks) = (user.0.unsigned_abs(), Locks::user(user.0));
        self.db.submit(partition, locks, async move |tx| store::lift_ban(tx, user, now).await).await
    }

    /// Refuses the tokens that the user has now, or those that were made in the second `made_until` or before, and ends the
    /// sessions that they opened. Returns how many ended, and the second up to which tokens are refused now.
    ///
    /// # Errors
    /// No such user, or the store fails.
    pub async fn revoke_tokens(
        &self,
        tenant: &Tenant,
        user_id: &str,
        made_until: Option<i64>,
    ) -> Result<(u32, i64), Error> {
        let user = self.known_user(tenant, user_id).await?;
        let (at, one_shots) = (self.ids.time_ms(), self.one_shots(user));
        let until = made_until.map_or_else(|| store::Until::Now(self.clock.now_s()), store::Until::Made);
        let (partition, locks) = (user.0.unsigned_abs(), Locks::user(user.0));
        let done = self.db.submit(partition, locks, async move |tx| store::revoke_tokens(tx, user, until, at).await);
        let (ended, in_force, has_ended_one_shots) = done.await?;
        Ok((ended.saturating_add(if has_ended_one_shots { one_shots } else { 0 }), in_force))
    }

    /// Registers a user. False: the user was registered before.
    ///
    /// # Errors
    /// The store fails.
    pub async fn register_user(&self, tenant: &Tenant, user_id: String, user_name: String) -> Result<bool, Error> {
        let (app, id, now, at) = (tenant.key, self.ids.next(), self.clock.now_ms(), self.ids.time_ms());
        let new = store::NewAccount { app, user_id, user_name, id, now, changed_at: at };
        self.db.submit(id.unsigned_abs(), Locks::none(), async move |tx| store::register(tx, new).await).await
    }

    /// What is decided about a user.
    ///
    /// # Errors
    /// No such user, or the store fails.
    pub async fn user_access(&self, tenant: &Tenant, user_id: &str) -> Result<UserAccess, Error> {
        let user = self.known_user(tenant, user_id).await?;
        let now = self.clock.now_ms();
        let found = self.db.read(async move |tx| store::user_access(tx, user, now).await).await?;
        found.ok_or_else(|| Error::user_not_found(user_id))
    }

    /// Users who are banned now, a page of them. `count` 0 is a full page.
    ///
    /// # Errors
    /// The store fails.
    pub async fn banned_users(
        &self,
        tenant: &Tenant,
        next_flag: u64,
        count: u32,
    ) -> Result<ListBannedUsersResult, Error> {
        let after = UserKey(i64::try_from(next_flag).unwrap_or(i64::MAX));
        let count = if count == 0 { BANNED_PAGE } else { count.min(BANNED_PAGE) };
        let (app, now) = (tenant.key, self.clock.now_ms());
        self.db.read(async move |tx| store::banned_users(tx, app, after, count, now).await).await
    }
}
