//! The operator's service, over gRPC. Who has the key in the data folder may use it.

use std::sync::Arc;

use ring::hmac;
use tonic::service::Interceptor;
use tonic::{Request, Response, Status};
use zim_protocol::admin::Admin;
use zim_protocol::token::Token;
use zim_protocol::{
    App as AppRow, CreateAppRequest, DisconnectUserRequest, DisconnectUserResult, ErrorCode, ListAppsRequest,
    ListAppsResult, ListSessionsRequest, ListSessionsResult, MintTokenRequest, MintTokenResult, SessionInfo,
};

use crate::app::App;
use crate::error::Error;
use crate::key::AppKey;
use crate::tenant::Tenant;

/// How long a token is good for, unless the request says otherwise: one day.
const TOKEN_S: i64 = 24 * 3_600;

/// Lets in who has the key.
#[derive(Clone)]
pub(crate) struct KeyCheck {
    /// Comparing tags instead of keys takes the same time whatever was sent.
    by: hmac::Key,
    tag: hmac::Tag,
}

impl std::fmt::Debug for KeyCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCheck").finish_non_exhaustive()
    }
}

impl KeyCheck {
    /// `seed` is any secret of the server.
    pub(crate) fn new(key: &str, seed: &[u8; 32]) -> Self {
        let by = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let tag = hmac::sign(&by, key.as_bytes());
        Self { by, tag }
    }

    fn is_right(&self, authorization: &str) -> bool {
        let given = authorization.strip_prefix("Bearer ").unwrap_or_default();
        hmac::verify(&self.by, given.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

impl Interceptor for KeyCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        match given {
            Some(given) if self.is_right(given) => Ok(request),
            Some(_) => Err(Status::unauthenticated("the key is wrong")),
            None => Err(Status::unauthenticated("the header `authorization: Bearer KEY` is missing")),
        }
    }
}

/// What the operator may do.
#[derive(Clone, Debug)]
pub(crate) struct AdminService {
    app: Arc<App>,
}

impl AdminService {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    fn tenant(&self, app_id: u32) -> Result<Arc<Tenant>, Error> {
        self.app.tenants.get(app_id).ok_or_else(|| Error::app_not_found(AppKey(i64::from(app_id))))
    }
}

/// An error as gRPC tells it. The cause is logged here, where it leaves the server.
fn status(error: Error) -> Status {
    if let Some(cause) = error.cause() {
        tracing::error!(%cause, code = error.code() as i32, "an operator's call failed inside");
        return Status::internal(error.message());
    }
    let message = error.to_string();
    match error.code() {
        ErrorCode::CommonModuleParamsInvalid => Status::invalid_argument(message),
        ErrorCode::CommonModuleInvalidAppId | ErrorCode::CommonModuleUserIsNotExist => Status::not_found(message),
        _ => Status::failed_precondition(message),
    }
}

fn app_id(tenant: &Tenant) -> u32 {
    // An app's key is its appID.
    u32::try_from(tenant.key.0).unwrap_or_default()
}

fn is_user_id(user_id: &str) -> Result<(), Error> {
    if user_id.is_empty() || user_id.len() > 32 {
        return Err(Error::params_invalid("a userID has 1 to 32 bytes"));
    }
    Ok(())
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_app(&self, request: Request<CreateAppRequest>) -> Result<Response<AppRow>, Status> {
        let CreateAppRequest { app_id: wanted, name } = request.into_inner();
        if name.len() > 256 || name.contains('\0') {
            return Err(status(Error::params_invalid("a name has at most 256 bytes, and not U+0000")));
        }
        let tenant = self.app.create_app(wanted, &name).await.map_err(status)?;
        tracing::info!(app = app_id(&tenant), "an app was made");
        Ok(Response::new(AppRow {
            app_id: app_id(&tenant),
            name: tenant.name.clone(),
            app_sign: tenant.app_sign.clone(),
            server_secret: tenant.server_secret.clone(),
        }))
    }

    async fn list_apps(&self, _: Request<ListAppsRequest>) -> Result<Response<ListAppsResult>, Status> {
        let without_secrets = |tenant: Arc<Tenant>| AppRow {
            app_id: app_id(&tenant),
            name: tenant.name.clone(),
            app_sign: String::new(),
            server_secret: String::new(),
        };
        let apps = self.app.tenants.list().into_iter().map(without_secrets).collect();
        Ok(Response::new(ListAppsResult { apps }))
    }

    async fn mint_token(&self, request: Request<MintTokenRequest>) -> Result<Response<MintTokenResult>, Status> {
        let MintTokenRequest { app_id, user_id, effective_seconds } = request.into_inner();
        is_user_id(&user_id).map_err(status)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        let effective_s = if effective_seconds == 0 { TOKEN_S } else { effective_seconds };
        let now_s = self.app.clock.now_s();
        let token = Token::generate(app_id, &user_id, &tenant.server_secret, now_s, effective_s)
            .map_err(|error| status(error.into()))?;
        Ok(Response::new(MintTokenResult { token, expires_at: now_s.saturating_add(effective_s) }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResult>, Status> {
        let ListSessionsRequest { app_id, user_id } = request.into_inner();
        let tenant = self.tenant(app_id).map_err(status)?;
        let mut sessions: Vec<SessionInfo> = self
            .app
            .fanout
            .all()
            .iter()
            .filter_map(|session| session.identity().map(|identity| (session, identity)))
            .filter(|(_, identity)| identity.app == tenant.key)
            .filter(|(_, identity)| user_id.is_empty() || *identity.user_id == *user_id)
            .map(|(session, identity)| SessionInfo {
                user_id: identity.user_id.to_string(),
                session_id: format!("{:016x}", tenant.scrambler.public(identity.session.0)),
                platform: session.platform,
                address: session.address.to_string(),
                login_at_ms: identity.login_at,
                sdk_version: session.sdk_version.clone(),
            })
            .collect();
        sessions.sort_by(|a, b| (&a.user_id, a.login_at_ms).cmp(&(&b.user_id, b.login_at_ms)));
        Ok(Response::new(ListSessionsResult { sessions }))
    }

    async fn disconnect_user(
        &self,
        request: Request<DisconnectUserRequest>,
    ) -> Result<Response<DisconnectUserResult>, Status> {
        let DisconnectUserRequest { app_id, user_id } = request.into_inner();
        is_user_id(&user_id).map_err(status)?;
        let sessions = self.app.disconnect_user(app_id, &user_id).await.map_err(status)?;
        tracing::info!(app = app_id, sessions, "a user was disconnected");
        Ok(Response::new(DisconnectUserResult { sessions }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens() {
        let check = KeyCheck::new("secret", &[3; 32]);
        assert!(check.is_right("Bearer secret"));
        for wrong in ["", "secret", "Bearer ", "Bearer Secret", "Bearer secret ", "bearer secret"] {
            assert!(!check.is_right(wrong), "{wrong:?}");
        }
        assert!(!format!("{check:?}").contains("secret"));
    }

    #[test]
    fn a_call_without_a_key_is_refused() {
        let mut check = KeyCheck::new("secret", &[3; 32]);
        assert_eq!(check.call(Request::new(())).unwrap_err().code(), tonic::Code::Unauthenticated);
        let mut request = Request::new(());
        request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
        assert!(check.call(request).is_ok());
    }
}
