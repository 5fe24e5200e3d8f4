//! Logging in and out: who is who, which devices a user may have, how long a session lasts.

mod rules;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zim_protocol::{
    LoginRequest, LoginResult, LogoutRequest, LogoutResult, RenewTokenRequest, TokenRenewedResult,
    server::SessionService,
    token::{Cbc, Token},
};

pub use self::rules::{DevicePolicy, Login, pushed_out};
pub use self::state::{Caller, Identity, SessionState};
use self::store::Admitted;
use crate::app::App;
use crate::db::Locks;
use crate::error::Error;
use crate::key::{AppKey, SessionKey};
use crate::status::Custom;
use crate::tenant::Tenant;

/// Compares secrets in a time that does not tell how much of them is right.
fn same_secret(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

impl App {
    /// Checks that the caller may log in as `user_id`; returns when his right ends, Unix milliseconds, 0 for never.
    fn authenticate(&self, tenant: &Tenant, request: &LoginRequest) -> Result<i64, Error> {
        if !request.app_sign.is_empty() && same_secret(&request.app_sign, &tenant.app_sign) {
            return Ok(0);
        }
        let token = request.config.as_ref().map_or("", |config| config.token.as_str());
        if token.is_empty() {
            return Err(if request.app_sign.is_empty() {
                Error::credentials_missing()
            } else {
                Error::app_sign_wrong()
            });
        }
        self.verify_token(tenant, &request.user_id, token)
    }

    /// Stores a login. Not `set_submitted`: a second login on the same connection waits, and is refused before it pushes
    /// anybody out.
    async fn admit(&self, login: store::NewLogin) -> Result<Admitted, Error> {
        loop {
            let (lane, locks) = match self.user_key(login.app, &login.user_id).await? {
                // His row is the lock of his logins: all that touches them takes it, before the transaction begins.
                Some(user) => (user.0.unsigned_abs(), Locks::user(user.0)),
                // All first logins of one name share a lane: one registers, the others find it, and come again.
                None => {
                    let add = |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte));
                    (login.user_id.bytes().fold(0, add), Locks::none())
                }
            };
            let login = store::NewLogin { is_locked: !locks.users.is_empty(), ..login.clone() };
            let admitted = self.db.submit(lane, locks, async move |tx| store::admit(tx, login).await);
            if let Some(admitted) = admitted.await? {
                return Ok(admitted);
            }
        }
    }

    fn verify_token(&self, tenant: &Tenant, user_id: &str, token: &str) -> Result<i64, Error> {
        let app = u32::try_from(tenant.key.0).unwrap_or_default();
        let token = Token::verify(token, app, user_id, &[&tenant.server_secret], Cbc::Refused, self.clock.now_s())?;
        Ok(token.expire * 1000)
    }

    /// Ends all sessions of a user; he may log in again.
    ///
    /// # Errors
    /// No such user, or the store fails.
    pub async fn disconnect_user(&self, app_id: u32, user_id: &str) -> Result<u32, Error> {
        let tenant = self.tenants.get(app_id).ok_or_else(|| Error::app_not_found(AppKey(i64::from(app_id))))?;
        let Some(user) = self.user_key(tenant.key, user_id).await? else {
            return Err(Error::user_not_found(user_id));
        };
        let at = self.ids.time_ms();
        let done = self
            .db
            .submit(user.0.unsigned_abs(), Locks::user(user.0), async move |tx| store::end_all(tx, user, at).await);
        done.await
    }
}

impl SessionService for App {
    async fn login(&self, caller: &Caller, request: LoginRequest) -> Result<LoginResult, Error> {
        let session = &caller.session;
        if session.identity().is_some() {
            return Err(Error::already_logged_in());
        }
        let tenant =
            self.tenants.get(request.app_id).ok_or_else(|| Error::app_not_found(AppKey(i64::from(request.app_id))))?;
        let expires_at = self.authenticate(&tenant, &request)?;
        let mut ticket = [0; 16];
        getrandom::fill(&mut ticket).map_err(Error::internal)?;
        let (now, config) = (self.clock.now_ms(), request.config.unwrap_or_default());
        let login = store::NewLogin {
            app: tenant.key,
            user_id: request.user_id.clone(),
            user_name: Some(config.user_name).filter(|name| !name.is_empty()),
            custom: (!config.custom_status.is_empty())
                .then(|| Custom::new(config.custom_status, config.custom_status_duration, now)),
            account_id: self.ids.next(),
            session_id: self.ids.next(),
            ticket,
            resume: <[u8; 16]>::try_from(&request.resume[..]).ok(),
            platform: session.platform,
            device: session.device,
            now,
            noted_at: self.ids.time_ms(),
            one_shot: request.one_shot,
            policy: DevicePolicy::of(&self.config.login),
            is_locked: false,
        };
        let Admitted { user, session: key, ticket, login_at, info } = self.admit(login).await?;
        let identity = Identity {
            app: tenant.key,
            user,
            user_id: Arc::from(request.user_id),
            session: key,
            ticket,
            login_at,
            one_shot: request.one_shot,
        };
        if !session.log_in(identity) {
            return Err(Error::already_logged_in());
        }
        session.set_token_expires_at(expires_at);
        if !request.one_shot {
            self.fanout.register(user, Arc::clone(session));
        }
        Ok(LoginResult { session: ticket.to_vec().into(), user: Some(info), token_expires_at: expires_at })
    }

    async fn logout(&self, caller: &Caller, _: LogoutRequest) -> Result<LogoutResult, Error> {
        let identity = caller.identity()?;
        let (user, key): (_, SessionKey) = (identity.user, identity.session);
        let (locks, at) = (Locks::user(user.0), self.ids.time_ms());
        let done = self.db.submit(user.0.unsigned_abs(), locks, async move |tx| store::forget(tx, user, key, at).await);
        caller.set_submitted();
        done.await?;
        caller.session.set_logged_out();
        self.fanout.unregister(user, &caller.session);
        Ok(LogoutResult {})
    }

    async fn renew_token(&self, caller: &Caller, request: RenewTokenRequest) -> Result<TokenRenewedResult, Error> {
        caller.set_submitted();
        let identity = caller.identity()?;
        let tenant = self.tenants.of(identity.app)?;
        let expires_at = self.verify_token(&tenant, &identity.user_id, &request.token)?;
        caller.session.set_token_expires_at(expires_at);
        Ok(TokenRenewedResult { token: request.token })
    }
}
