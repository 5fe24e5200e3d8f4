//! The operator's decisions about a user: ban, revocation of tokens, disconnection, registration. Each is in force,
//! also for open connections, before the operator gets the answer: the decision and every login of the user take the
//! user's lock.

use zim_protocol::{ListBannedUsersResult, UserAccess};

use super::store;
use crate::app::App;
use crate::db::Scope;
use crate::error::Error;
use crate::key::UserKey;
use crate::tenant::Tenant;

/// The most users on a page of banned users.
const BANNED_PAGE: u32 = 100;

impl App {
    async fn known_user(&self, tenant: &Tenant, user_id: &str) -> Result<UserKey, Error> {
        self.user_key(tenant.key, user_id).await?.ok_or_else(|| Error::user_not_found(user_id))
    }

    /// Returns the number of a user's one-shot logins, of which nothing is stored.
    async fn one_shots(&self, tenant: &Tenant, user: UserKey, user_id: &str) -> u32 {
        let elsewhere = self.bus().sessions(tenant.key, user_id).await;
        let count = self.fanout.one_shots.count(user) + elsewhere.iter().filter(|session| session.one_shot).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Ends all logins of a user, who may log in again. Returns how many of them were connected.
    ///
    /// # Errors
    /// There is no such user, or the store fails.
    pub async fn disconnect_user(&self, tenant: &Tenant, user_id: &str) -> Result<u32, Error> {
        let user = self.known_user(tenant, user_id).await?;
        let (at, one_shots) = (self.ids.time_ms(), self.one_shots(tenant, user, user_id).await);
        let ended = self.db.submit(Scope::user(user), async move |tx| store::end_all(tx, user, at).await).await?;
        Ok(ended.saturating_add(one_shots))
    }

    /// Bans a user until `ends_at`, Unix milliseconds, or with 0 until the ban is lifted. Returns how many connected
    /// logins ended.
    ///
    /// # Errors
    /// There is no such user, or the store fails.
    pub async fn ban_user(&self, tenant: &Tenant, user_id: &str, ends_at: i64) -> Result<u32, Error> {
        let user = self.known_user(tenant, user_id).await?;
        let (now, at, one_shots) =
            (self.clock.now_ms(), self.ids.time_ms(), self.one_shots(tenant, user, user_id).await);
        let done = self.db.submit(Scope::user(user), async move |tx| {
            store::set_ban(tx, user, now, ends_at).await?;
            store::end_all(tx, user, at).await
        });
        Ok(done.await?.saturating_add(one_shots))
    }

    /// Lifts a ban. Returns false if the user was not banned.
    ///
    /// # Errors
    /// There is no such user, or the store fails.
    pub async fn unban_user(&self, tenant: &Tenant, user_id: &str) -> Result<bool, Error> {
        let user = self.known_user(tenant, user_id).await?;
        let now = self.clock.now_ms();
        self.db.submit(Scope::user(user), async move |tx| store::lift_ban(tx, user, now).await).await
    }

    /// Revokes the tokens that the user has now, or those that were made up to the second `made_until`, and ends the
    /// logins that they opened. Returns how many connected logins ended, and the second up to which tokens are refused
    /// now.
    ///
    /// # Errors
    /// There is no such user, or the store fails.
    pub async fn revoke_tokens(
        &self,
        tenant: &Tenant,
        user_id: &str,
        made_until: Option<i64>,
    ) -> Result<(u32, i64), Error> {
        let user = self.known_user(tenant, user_id).await?;
        let (at, one_shots) = (self.ids.time_ms(), self.one_shots(tenant, user, user_id).await);
        let until = made_until.map_or_else(|| store::Until::Now(self.clock.now_s()), store::Until::Made);
        let done = self.db.submit(Scope::user(user), async move |tx| store::revoke_tokens(tx, user, until, at).await);
        let (ended, in_force, has_ended_one_shots) = done.await?;
        Ok((ended.saturating_add(if has_ended_one_shots { one_shots } else { 0 }), in_force))
    }

    /// Registers a user. Returns false if the user is registered already.
    ///
    /// # Errors
    /// The store fails.
    pub async fn register_user(&self, tenant: &Tenant, user_id: String, user_name: String) -> Result<bool, Error> {
        let (app, id, now, at) = (tenant.key, self.ids.next(), self.clock.now_ms(), self.ids.time_ms());
        let new = store::NewAccount { app, user_id, user_name, id, now, changed_at: at };
        self.db.submit(Scope::name(app, &new.user_id), async move |tx| store::register(tx, new).await).await
    }

    /// Returns the operator's decisions about a user.
    ///
    /// # Errors
    /// There is no such user, or the store fails.
    pub async fn user_access(&self, tenant: &Tenant, user_id: &str) -> Result<UserAccess, Error> {
        let user = self.known_user(tenant, user_id).await?;
        let now = self.clock.now_ms();
        let found = self.db.read(async move |tx| store::user_access(tx, user, now).await).await?;
        found.ok_or_else(|| Error::user_not_found(user_id))
    }

    /// Returns a page of the users who are banned now. A `count` of 0 is a full page.
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
