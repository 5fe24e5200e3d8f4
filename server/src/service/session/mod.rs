//! Logging in and out: authentication, the devices of a user, and how long a login lasts.

mod access;
mod rules;
mod store;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    LoggedOut, LoginRequest, LoginResult, LogoutRequest, LogoutResult, RenewTokenRequest, TokenRenewedResult,
    server::SessionService,
};

pub use self::rules::{DevicePolicy, Login, kicked_out};
use self::store::Admitted;
pub(crate) use self::store::end_all;
use crate::app::App;
use crate::connection::{Caller, ConnectionState, Identity, WriteTo};
use crate::db::Scope;
use crate::error::Error;
use crate::key::{AppKey, LoginKey};
use crate::presence::Custom;
use crate::tenant::{LoginCredentials, Refusal, Tenant};

impl App {
    /// Counts a refused login or renewal. Beyond the allowance the client does not learn what was wrong.
    fn refused(&self, address: SocketAddr, app_id: u32, refusal: Refusal) -> Error {
        let Refusal { error, is_guess } = refusal;
        let now_ms = self.clock.steady_ms();
        // Counted whether the app exists or not: a different allowance would reveal it.
        let counted = self.logins.fail(address, AppKey(i64::from(app_id)), now_ms);
        self.logins.log_failure(address, app_id, error.message(), now_ms);
        if error.is_cbc_tokens_off() {
            self.logins.log_cbc_refused(app_id, now_ms);
        }
        match counted {
            Err(wait_ms) if is_guess => Error::credentials_refused(wait_ms),
            _ => error,
        }
    }

    /// Returns the wait until a client may guess again, milliseconds.
    fn wait_ms(&self, address: SocketAddr, app_id: u32) -> i64 {
        self.logins.wait_ms(address, AppKey(i64::from(app_id)), self.clock.steady_ms())
    }

    /// Stores a login. The caller's next write waits: a second login on the same connection waits, and is refused before it
    /// kicks out another login.
    async fn admit(&self, caller: &Caller, login: store::NewLogin, address: SocketAddr) -> Result<Admitted, Error> {
        // With a token that only the app's back end can have made, the back end decides which users exist: the allowance
        // for first logins does not apply.
        let mut may_register = login.is_vouched;
        loop {
            let scope = match self.user_key(login.app, &login.user_id).await? {
                // The user's row is the lock of the user's logins: every job that touches them takes it before its
                // transaction begins.
                Some(user) => Scope::user(user),
                // All first logins of one name share a partition: one registers the user, and the others find the user
                // and start over.
                None => {
                    if !may_register {
                        let counted = self.logins.first_login(address, self.clock.steady_ms());
                        counted.map_err(Error::too_many_first_logins)?;
                        may_register = true;
                    }
                    Scope::name(login.app, &login.user_id)
                }
            };
            let scope = scope.for_app(login.app, 0);
            let login = store::NewLogin { is_locked: !scope.is_unlocked(), ..login.clone() };
            let admitted =
                caller.write(&self.db, WriteTo::held(scope), async move |tx, log| store::admit(tx, log, login).await);
            if let Some(admitted) = admitted.await? {
                return Ok(admitted);
            }
        }
    }

    /// Applies the present access settings of its app to a connection, including a change that is made meanwhile.
    fn enforce(&self, tenant: &Tenant, connection: &ConnectionState) {
        loop {
            let access = tenant.access();
            connection.enforce(&access, self.clock.now_ms());
            if Arc::ptr_eq(&access, &tenant.access()) {
                return;
            }
        }
    }
}

impl SessionService for App {
    async fn login(&self, caller: &Caller, request: LoginRequest) -> Result<LoginResult, Error> {
        let connection = caller.connection()?;
        if connection.identity().is_some() {
            return Err(Error::already_logged_in());
        }
        let ends_before = self.fanout.one_shots.end_count();
        let credentials = LoginCredentials {
            app_id: request.app_id,
            user_id: &request.user_id,
            app_sign: &request.app_sign,
            token: request.config.as_ref().map_or("", |config| &config.token),
            wait_ms: self.wait_ms(connection.address, request.app_id),
        };
        let access = self.tenants.access(request.app_id);
        let proof = access
            .authenticate(credentials, self.clock.now_ms())
            .map_err(|refusal| self.refused(connection.address, request.app_id, refusal))?;
        let tenant = self.tenants.get(request.app_id).ok_or_else(Error::app_sign_wrong)?;
        let mut ticket = [0; 16];
        getrandom::fill(&mut ticket).map_err(Error::internal)?;
        let logged_out = logged_out(&request);
        let (now, config) = (self.clock.now_ms(), request.config.unwrap_or_default());
        let login = store::NewLogin {
            app: tenant.key,
            user_id: request.user_id.clone(),
            user_name: Some(config.user_name).filter(|name| !name.is_empty()),
            custom: (!config.custom_status.is_empty())
                .then(|| Custom::new(config.custom_status, config.custom_status_duration, now)),
            account_id: self.ids.next(),
            login_id: self.ids.next(),
            ticket,
            resume: <[u8; 16]>::try_from(&request.resume[..]).ok(),
            platform: connection.platform,
            device: connection.device,
            now,
            changed_at: self.ids.time_ms(),
            token_ctime: proof.token_ctime(),
            is_vouched: proof.is_vouched(),
            one_shot: request.one_shot,
            logged_out,
            policy: DevicePolicy::of(&self.config.login),
            is_locked: false,
        };
        let _storing = self.fanout.storing(LoginKey(login.login_id));
        let Admitted { user, login: key, ticket, login_at, info } =
            self.admit(caller, login, connection.address).await?;
        let identity = Identity {
            app: tenant.key,
            user,
            user_id: Arc::from(request.user_id),
            login: key,
            ticket,
            login_at,
            one_shot: request.one_shot,
        };
        connection.set_allowance(self.allowances.of(&identity, self.clock.steady_ms()));
        if !connection.log_in(identity) {
            return Err(Error::already_logged_in());
        }
        connection.set_proof(proof);
        if request.one_shot {
            let most = self.config.limits.max_one_shots_per_user;
            self.fanout.one_shots.register(user, Arc::clone(connection), ends_before, most);
        } else {
            self.fanout.register(user, Arc::clone(connection));
            connection.set_listening(self.clock.now_ms());
            // After the registration: a stay that begins or ends meanwhile finds the connection.
            self.enter_groups(user, connection).await?;
            if let Some(identity) = connection.identity() {
                self.leave_other_rooms(identity, connection.device, &request.in_rooms).await?;
            }
        }
        // After the registration of the connection: from now on a change of the app finds the connection, and this call
        // sees every earlier change.
        self.enforce(&tenant, connection);
        let token_expires_at = connection.token_expires_at();
        Ok(LoginResult { session: ticket.to_vec().into(), user: Some(info), token_expires_at })
    }

    async fn logout(&self, caller: &Caller, _: LogoutRequest) -> Result<LogoutResult, Error> {
        let identity = caller.identity()?;
        let (user, key): (_, LoginKey) = (identity.user, identity.login);
        let (connection, at) = (caller.connection()?, self.ids.time_ms());
        caller.write(&self.db, Scope::user(user), async move |tx, _| store::log_out(tx, user, key, at).await).await?;
        connection.set_logged_out();
        self.fanout.unregister(user, connection);
        Ok(LogoutResult {})
    }

    async fn renew_token(&self, caller: &Caller, request: RenewTokenRequest) -> Result<TokenRenewedResult, Error> {
        let identity = caller.identity()?;
        let tenant = self.tenants.of(identity.app)?;
        let app_id = u32::try_from(tenant.key.0).unwrap_or_default();
        let connection = caller.connection()?;
        let wait_ms = self.wait_ms(connection.address, app_id);
        let credentials =
            LoginCredentials { app_id, user_id: &identity.user_id, app_sign: "", token: &request.token, wait_ms };
        let proof = tenant
            .access()
            .verify(credentials, self.clock.now_ms())
            .map_err(|refusal| self.refused(connection.address, app_id, refusal))?;
        let (user, key, now) = (identity.user, identity.login, self.clock.now_ms());
        let ctime = proof.token_ctime().unwrap_or_default();
        caller
            .write(&self.db, Scope::user(user), async move |tx, _| store::renew(tx, user, key, ctime, now).await)
            .await?;
        connection.set_proof(proof);
        self.enforce(&tenant, connection);
        Ok(TokenRenewedResult { token: request.token })
    }
}

/// Returns who was logged out on the device without a connection. An SDK of before does not say which logins these were.
fn logged_out(request: &LoginRequest) -> Vec<LoggedOut> {
    if !request.logged_out.is_empty() {
        return request.logged_out.clone();
    }
    let users = request.was_logged_out.then_some(&request.user_id).into_iter().chain(&request.logged_out_user_ids);
    users.map(|user_id| LoggedOut { user_id: user_id.clone(), login: Bytes::new() }).collect()
}
