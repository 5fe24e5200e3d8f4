//! The operator's service, over gRPC. The key in the data folder gives access to it.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::Instrument;
use zim_protocol::admin::Admin;
use zim_protocol::token::Token;
use zim_protocol::{
    App as AppRow, AppDetails, BanUserRequest, BanUserResult, CreateAppRequest, DeleteAppRequest, DeleteAppResult,
    DisconnectUserRequest, DisconnectUserResult, ErrorCode, GetAppRequest, GetUserRequest, ListAppsRequest,
    ListAppsResult, ListBannedUsersRequest, ListBannedUsersResult, ListSessionsRequest, ListSessionsResult,
    MintTokenRequest, MintTokenResult, RegisterUserRequest, RegisterUserResult, RevokeTokensRequest,
    RevokeTokensResult, RotateSecretRequest, RotateSecretResult, SessionInfo, UnbanUserRequest, UnbanUserResult,
    UpdateAppRequest, UserAccess, Validate,
};

use crate::app::App;
use crate::app::Rotated;
use crate::connection::Identity;
use crate::error::Error;
use crate::key::AppKey;
use crate::tenant::{Deleted, Tenant, check_app_name};

/// The lifetime of a token in seconds, unless the request gives one: one day.
const DEFAULT_TOKEN_S: i64 = 24 * 3_600;

/// Implements the operator's RPCs.
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

/// Converts an error to a gRPC status, and logs its cause.
fn status(error: Error) -> Status {
    if let Some(cause) = error.cause() {
        tracing::error!(%cause, code = error.code() as i32, "operator RPC failed with an internal error");
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

fn as_row(tenant: &Tenant) -> AppRow {
    let access = tenant.access();
    AppRow {
        app_id: app_id(tenant),
        name: tenant.name(),
        app_sign: String::new(),
        server_secret: String::new(),
        cbc_tokens: access.cbc_tokens as i32,
        app_sign_login: access.app_sign_login,
        registration: access.registration as i32,
        old_app_sign_ends_at: access.app_sign.old_ends_at,
        old_server_secret_ends_at: access.server_secret.old_ends_at,
    }
}

/// A request that names its app and user. The audit line has them, whatever the outcome of the RPC.
trait About {
    fn app_id(&self) -> u32;

    fn user_id(&self) -> &str {
        ""
    }
}

macro_rules! about {
    ($($request:ty: $($user:ident)?;)*) => {$(
        impl About for $request {
            fn app_id(&self) -> u32 {
                self.app_id
            }
            $(
                fn user_id(&self) -> &str {
                    &self.$user
                }
            )?
        }
    )*};
}

about! {
    CreateAppRequest: ;
    UpdateAppRequest: ;
    GetAppRequest: ;
    DeleteAppRequest: ;
    RotateSecretRequest: ;
    ListBannedUsersRequest: ;
    MintTokenRequest: user_id;
    RegisterUserRequest: user_id;
    GetUserRequest: user_id;
    BanUserRequest: user_id;
    UnbanUserRequest: user_id;
    RevokeTokensRequest: user_id;
    ListSessionsRequest: user_id;
    DisconnectUserRequest: user_id;
}

/// Characters of a user ID that the audit log repeats: a valid one is not longer.
const MAX_LOGGED_ID_CHARS: usize = 32;

/// Runs `work` to completion, even if the operator stops waiting, because a change must not be applied by half.
async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::spawn(work.in_current_span()).await;
    done.unwrap_or_else(|panic| Err(Error::internal(panic))).map_err(status)
}

/// Adds the details of the RPC to its audit line. They never contain a secret.
fn record_detail(detail: &str) {
    tracing::Span::current().record("detail", detail);
}

/// Validates the fields of a request, and records its app and user for the audit line.
fn valid<R: About + Validate>(request: Request<R>) -> Result<R, Status> {
    let request = request.into_inner();
    let span = tracing::Span::current();
    if request.app_id() != 0 {
        span.record("app", request.app_id());
    }
    if !request.user_id().is_empty() {
        span.record("user", request.user_id().chars().take(MAX_LOGGED_ID_CHARS).collect::<String>());
    }
    request.validate().map_err(|violation| status(violation.into()))?;
    Ok(request)
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_app(&self, request: Request<CreateAppRequest>) -> Result<Response<AppRow>, Status> {
        let CreateAppRequest { app_id: requested, name } = valid(request)?;
        check_app_name(&name).map_err(status)?;
        record_detail(&format!("name {name:?}"));
        let app = Arc::clone(&self.app);
        let tenant = run_to_completion(async move { app.create_app(requested, &name).await }).await?;
        tracing::Span::current().record("app", app_id(&tenant));
        let access = tenant.access();
        Ok(Response::new(AppRow {
            app_sign: access.app_sign.value.clone(),
            server_secret: access.server_secret.value.clone(),
            ..as_row(&tenant)
        }))
    }

    async fn list_apps(&self, _: Request<ListAppsRequest>) -> Result<Response<ListAppsResult>, Status> {
        let apps = self.app.tenants.list().iter().map(|tenant| as_row(tenant)).collect();
        Ok(Response::new(ListAppsResult { apps }))
    }

    async fn get_app(&self, request: Request<GetAppRequest>) -> Result<Response<AppDetails>, Status> {
        let GetAppRequest { app_id } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        let users = self.app.count_users(&tenant).await.map_err(status)?;
        let is_of_app = |identity: &Identity| identity.app == tenant.key;
        let sessions = self.app.fanout.all().iter().filter(|it| it.identity().is_some_and(is_of_app)).count();
        Ok(Response::new(AppDetails {
            app: Some(as_row(&tenant)),
            created_at: tenant.created_at,
            users,
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        }))
    }

    async fn delete_app(&self, request: Request<DeleteAppRequest>) -> Result<Response<DeleteAppResult>, Status> {
        let DeleteAppRequest { app_id, confirm } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        if confirm != app_id {
            let message = "confirm must be the ID of the app again: its users and messages are deleted with it";
            return Err(status(Error::params_invalid(message)));
        }
        let app = Arc::clone(&self.app);
        let Deleted { rows, is_done } = run_to_completion(async move { app.delete_app(&tenant).await }).await?;
        record_detail(&format!("{rows} rows{}", if is_done { ", all" } else { "" }));
        Ok(Response::new(DeleteAppResult { is_done, rows }))
    }

    async fn update_app(&self, request: Request<UpdateAppRequest>) -> Result<Response<AppRow>, Status> {
        let request = valid(request)?;
        let tenant = self.tenant(request.app_id).map_err(status)?;
        let UpdateAppRequest { app_id: _, cbc_tokens, app_sign_login, registration, name } = &request;
        name.as_deref().map_or(Ok(()), check_app_name).map_err(status)?;
        record_detail(&format!(
            "name: {name:?}, cbc_tokens: {cbc_tokens:?}, app_sign_login: {app_sign_login:?}, registration: {registration:?}"
        ));
        let (app, of_app) = (Arc::clone(&self.app), Arc::clone(&tenant));
        run_to_completion(async move { app.update_app(&of_app, &request).await }).await?;
        Ok(Response::new(as_row(&tenant)))
    }

    async fn rotate_secret(
        &self,
        request: Request<RotateSecretRequest>,
    ) -> Result<Response<RotateSecretResult>, Status> {
        let request = valid(request)?;
        let tenant = self.tenant(request.app_id).map_err(status)?;
        record_detail(&format!("{:?}, overlap {} s", request.secret(), request.overlap_seconds));
        let overlap_ms = request.overlap_seconds.saturating_mul(1_000);
        let app = Arc::clone(&self.app);
        let Rotated { secret, old_ends_at } =
            run_to_completion(async move { app.rotate(&tenant, request.secret(), overlap_ms).await }).await?;
        Ok(Response::new(RotateSecretResult { secret, old_ends_at }))
    }

    async fn mint_token(&self, request: Request<MintTokenRequest>) -> Result<Response<MintTokenResult>, Status> {
        let MintTokenRequest { app_id, user_id, effective_seconds } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        record_detail(&format!("good for {effective_seconds} s"));
        let effective_s = if effective_seconds == 0 { DEFAULT_TOKEN_S } else { effective_seconds };
        // A token of the second of a revocation would be revoked too, so the token is issued after it.
        let revoked_at = match self.app.user_access(&tenant, &user_id).await {
            Ok(access) => access.tokens_revoked_at,
            Err(error) if error.code() == ErrorCode::CommonModuleUserIsNotExist => 0,
            Err(error) => return Err(status(error)),
        };
        let now_s = self.app.clock.now_s().max(revoked_at.saturating_add(1));
        let secret = &tenant.access().server_secret.value;
        let token =
            Token::generate(app_id, &user_id, secret, now_s, effective_s).map_err(|error| status(error.into()))?;
        Ok(Response::new(MintTokenResult { token, expires_at: now_s.saturating_add(effective_s) }))
    }

    async fn register_user(
        &self,
        request: Request<RegisterUserRequest>,
    ) -> Result<Response<RegisterUserResult>, Status> {
        let RegisterUserRequest { app_id, user_id, user_name } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        let is_new = self.app.register_user(&tenant, user_id, user_name).await.map_err(status)?;
        Ok(Response::new(RegisterUserResult { is_new }))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<UserAccess>, Status> {
        let GetUserRequest { app_id, user_id } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        self.app.user_access(&tenant, &user_id).await.map(Response::new).map_err(status)
    }

    async fn ban_user(&self, request: Request<BanUserRequest>) -> Result<Response<BanUserResult>, Status> {
        let BanUserRequest { app_id, user_id, seconds } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        record_detail(&format!("for {seconds} s"));
        let ban_ends_at = match seconds {
            0 => 0,
            _ => self.app.clock.now_ms().saturating_add(seconds.saturating_mul(1_000)),
        };
        let sessions = self.app.ban_user(&tenant, &user_id, ban_ends_at).await.map_err(status)?;
        Ok(Response::new(BanUserResult { sessions, ban_ends_at }))
    }

    async fn unban_user(&self, request: Request<UnbanUserRequest>) -> Result<Response<UnbanUserResult>, Status> {
        let UnbanUserRequest { app_id, user_id } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        let was_banned = self.app.unban_user(&tenant, &user_id).await.map_err(status)?;
        Ok(Response::new(UnbanUserResult { was_banned }))
    }

    async fn list_banned_users(
        &self,
        request: Request<ListBannedUsersRequest>,
    ) -> Result<Response<ListBannedUsersResult>, Status> {
        let ListBannedUsersRequest { app_id, next_flag, count } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        self.app.banned_users(&tenant, next_flag, count).await.map(Response::new).map_err(status)
    }

    async fn revoke_tokens(
        &self,
        request: Request<RevokeTokensRequest>,
    ) -> Result<Response<RevokeTokensResult>, Status> {
        let RevokeTokensRequest { app_id, user_id, made_until } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        record_detail(&format!("made until {made_until}"));
        let now_s = self.app.clock.now_s();
        if made_until > now_s {
            return Err(status(Error::params_invalid(
                "madeUntil is in the future: only tokens issued until now can be revoked",
            )));
        }
        let made_until = (made_until != 0).then_some(made_until);
        let (sessions, tokens_revoked_at) =
            self.app.revoke_tokens(&tenant, &user_id, made_until).await.map_err(status)?;
        Ok(Response::new(RevokeTokensResult { sessions, tokens_revoked_at }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResult>, Status> {
        let ListSessionsRequest { app_id, user_id } = valid(request)?;
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
                session_id: format!("{:016x}", tenant.scrambler.public(identity.login.0)),
                platform: session.platform,
                address: session.address.to_string(),
                login_at_ms: identity.login_at,
                sdk_version: session.sdk_version.clone(),
                one_shot: identity.one_shot,
            })
            .collect();
        sessions.sort_by(|a, b| (&a.user_id, a.login_at_ms).cmp(&(&b.user_id, b.login_at_ms)));
        Ok(Response::new(ListSessionsResult { sessions }))
    }

    async fn disconnect_user(
        &self,
        request: Request<DisconnectUserRequest>,
    ) -> Result<Response<DisconnectUserResult>, Status> {
        let DisconnectUserRequest { app_id, user_id } = valid(request)?;
        let tenant = self.tenant(app_id).map_err(status)?;
        let sessions = self.app.disconnect_user(&tenant, &user_id).await.map_err(status)?;
        Ok(Response::new(DisconnectUserResult { sessions }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    /// Otherwise a change could be in the database and not in memory.
    #[tokio::test]
    async fn work_completes_after_the_operator_stops_waiting() {
        let ((go, may_go), (done, is_done)) = (oneshot::channel(), oneshot::channel());
        let work = run_to_completion(async move {
            may_go.await.unwrap();
            done.send(()).unwrap();
            Ok(())
        });
        assert!(timeout(Duration::ZERO, work).await.is_err(), "the work must not be done yet");
        go.send(()).unwrap();
        is_done.await.unwrap();
    }
}
