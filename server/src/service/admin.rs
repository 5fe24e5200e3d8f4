//! What the operator does: apps and their secrets, users and their access, and sessions. The operator's gRPC service calls it, and
//! no client can. `caller.audit()` is the audit line of the call; keys, tokens and secrets are never added to it.

use std::sync::Arc;

use zim_protocol::server::AdminService;
use zim_protocol::token::Token;
use zim_protocol::{
    Access, App as AppRow, AppDetails, BanUserRequest, BanUserResult, BroadcastMessageRequest, CallAsUserRequest,
    CallAsUserResult, CreateAppRequest, CreateServerRoomRequest, DeleteAppRequest, DeleteAppResult, DestroyRoomRequest,
    DestroyRoomResult, DisconnectUserRequest, DisconnectUserResult, DismissServerGroupRequest, DropWorkRequest,
    DropWorkResult, EditServerMessageRequest, EraseUserRequest, EraseUserResult, ErrorCode, ExportUserRequest,
    ExportUserResult, GetAppRequest, GetGroupRequest, GetRetentionRequest, GetUserRequest, GroupDetails,
    GroupDismissedResult, GroupMemberKickedResult, KickRoomUsersRequest, KickRoomUsersResult,
    KickServerGroupMembersRequest, ListAppsRequest, ListAppsResult, ListAuditRequest, ListAuditResult,
    ListBannedUsersRequest, ListBannedUsersResult, ListGroupMembersRequest, ListGroupMembersResult, ListGroupsRequest,
    ListGroupsResult, ListLogsRequest, ListLogsResult, ListMessagesRequest, ListMessagesResult, ListPushLogRequest,
    ListPushLogResult, ListPushProvidersRequest, ListPushProvidersResult, ListRoomMembersRequest,
    ListRoomMembersResult, ListRoomsRequest, ListRoomsResult, ListSessionsRequest, ListSessionsResult,
    ListUsersRequest, ListUsersResult, ListWorkRequest, ListWorkResult, MessageBroadcastResult, MintTokenRequest,
    MintTokenResult, PushConfig, PushProvider, ReadLogRequest, ReadLogResult, RegisterUserRequest, RegisterUserResult,
    RemovePushProviderRequest, RemovePushProviderResult, Retention, RetryWorkRequest, RetryWorkResult,
    RevokeServerMessageRequest, RevokeTokensRequest, RevokeTokensResult, RoomCreatedResult, RotateSecretRequest,
    RotateSecretResult, SendExperimentalEventRequest, SendExperimentalEventResult, SendServerMessageRequest,
    SendServerMessageToUsersRequest, ServerMessageEditedResult, ServerMessageRevokedResult, ServerMessageSentResult,
    ServerMessageSentToUsersResult, SessionInfo, SetPushProviderRequest, SetRetentionRequest, TestPushRequest,
    TestPushResult, UnbanUserRequest, UnbanUserResult, UpdateAppRequest, UserAccess, method,
};

use super::invoke::call_as_user;
use super::work::{Page, queue};
use crate::app::{App, Rotated};
use crate::connection::Caller;
use crate::error::Error;
use crate::key::AppKey;
use crate::tenant::{Deleted, NewApp, Tenant, check_app_name};

/// The lifetime of a token in seconds, unless the request gives one: one day.
const DEFAULT_TOKEN_S: i64 = 24 * 3_600;

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

impl App {
    /// Returns the sessions of an app on this node, or those of one user unless `user_id` is empty.
    pub(crate) fn sessions_here(&self, tenant: &Tenant, user_id: &str) -> Vec<SessionInfo> {
        let connections = self.fanout.all();
        connections
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
                events_behind: session.events_behind(),
            })
            .collect()
    }

    fn tenant(&self, app_id: u32) -> Result<Arc<Tenant>, Error> {
        self.tenants.get(app_id).ok_or_else(|| Error::app_not_found(AppKey(i64::from(app_id))))
    }
}

impl AdminService for App {
    async fn create_app(&self, caller: &Caller, request: CreateAppRequest) -> Result<AppRow, Error> {
        let CreateAppRequest { app_id: requested, name } = request;
        check_app_name(&name)?;
        caller.audit().record("detail", format!("name {name:?}"));
        let new = NewApp::generate(requested, &name, self.clock.now_ms())?;
        caller.audit().record("app", u32::try_from(new.key().0).unwrap_or_default());
        let tenant = self.add_app(new).await?;
        let access = tenant.access();
        Ok(AppRow {
            app_sign: access.app_sign.value.clone(),
            server_secret: access.server_secret.value.clone(),
            ..as_row(&tenant)
        })
    }

    async fn list_apps(&self, _: &Caller, _: ListAppsRequest) -> Result<ListAppsResult, Error> {
        let apps = self.tenants.list().iter().map(|tenant| as_row(tenant)).collect();
        Ok(ListAppsResult { apps })
    }

    async fn get_app(&self, _: &Caller, request: GetAppRequest) -> Result<AppDetails, Error> {
        let tenant = self.tenant(request.app_id)?;
        let users = self.count_users(&tenant).await?;
        let connections = self.fanout.all();
        let of_app = connections.iter().filter(|it| it.identity().is_some_and(|identity| identity.app == tenant.key));
        let sessions = of_app.count() + self.bus().sessions(tenant.key, "").await.len();
        Ok(AppDetails {
            app: Some(as_row(&tenant)),
            created_at: tenant.created_at,
            users,
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        })
    }

    async fn delete_app(&self, caller: &Caller, request: DeleteAppRequest) -> Result<DeleteAppResult, Error> {
        let DeleteAppRequest { app_id, confirm } = request;
        let tenant = self.tenant(app_id)?;
        if confirm != app_id {
            return Err(Error::params_invalid(
                "confirm must be the ID of the app again: its users and messages are deleted with it",
            ));
        }
        let Deleted { rows, is_done } = self.delete_app(&tenant).await?;
        caller.audit().record("detail", format!("{rows} rows{}", if is_done { ", all" } else { "" }));
        Ok(DeleteAppResult { is_done, rows })
    }

    async fn update_app(&self, caller: &Caller, request: UpdateAppRequest) -> Result<AppRow, Error> {
        let tenant = self.tenant(request.app_id)?;
        let UpdateAppRequest { app_id: _, cbc_tokens, app_sign_login, registration, name } = &request;
        name.as_deref().map_or(Ok(()), check_app_name)?;
        let detail = format!(
            "name: {name:?}, cbc_tokens: {cbc_tokens:?}, app_sign_login: {app_sign_login:?}, registration: {registration:?}"
        );
        caller.audit().record("detail", detail);
        self.update_app(&tenant, &request).await?;
        Ok(as_row(&tenant))
    }

    async fn rotate_secret(&self, caller: &Caller, request: RotateSecretRequest) -> Result<RotateSecretResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("{:?}, overlap {} s", request.secret(), request.overlap_seconds));
        let overlap_ms = request.overlap_seconds.saturating_mul(1_000);
        let Rotated { secret, old_ends_at } = self.rotate(&tenant, request.secret(), overlap_ms).await?;
        Ok(RotateSecretResult { secret, old_ends_at })
    }

    async fn mint_token(&self, caller: &Caller, request: MintTokenRequest) -> Result<MintTokenResult, Error> {
        let MintTokenRequest { app_id, user_id, effective_seconds } = request;
        let tenant = self.tenant(app_id)?;
        caller.audit().record("detail", format!("good for {effective_seconds} s"));
        self.note_call().await?;
        let effective_s = if effective_seconds == 0 { DEFAULT_TOKEN_S } else { effective_seconds };
        // A token of the second of a revocation would be revoked too, so the token is issued after it.
        let revoked_at = match self.user_access(&tenant, &user_id).await {
            Ok(access) => access.tokens_revoked_at,
            Err(error) if error.code() == ErrorCode::CommonModuleUserIsNotExist => 0,
            Err(error) => return Err(error),
        };
        let now_s = self.clock.now_s().max(revoked_at.saturating_add(1));
        let secret = &tenant.access().server_secret.value;
        let token = Token::generate(app_id, &user_id, secret, now_s, effective_s)?;
        Ok(MintTokenResult { token, expires_at: now_s.saturating_add(effective_s) })
    }

    async fn register_user(&self, _: &Caller, request: RegisterUserRequest) -> Result<RegisterUserResult, Error> {
        let RegisterUserRequest { app_id, user_id, user_name } = request;
        let tenant = self.tenant(app_id)?;
        let is_new = self.register_user(&tenant, user_id, user_name).await?;
        Ok(RegisterUserResult { is_new })
    }

    async fn get_user(&self, _: &Caller, request: GetUserRequest) -> Result<UserAccess, Error> {
        let GetUserRequest { app_id, user_id } = request;
        let tenant = self.tenant(app_id)?;
        self.user_access(&tenant, &user_id).await
    }

    async fn ban_user(&self, caller: &Caller, request: BanUserRequest) -> Result<BanUserResult, Error> {
        let BanUserRequest { app_id, user_id, seconds } = request;
        let tenant = self.tenant(app_id)?;
        caller.audit().record("detail", format!("for {seconds} s"));
        let ban_ends_at = match seconds {
            0 => 0,
            _ => self.clock.now_ms().saturating_add(seconds.saturating_mul(1_000)),
        };
        let sessions = self.ban_user(&tenant, &user_id, ban_ends_at).await?;
        Ok(BanUserResult { sessions, ban_ends_at })
    }

    async fn unban_user(&self, _: &Caller, request: UnbanUserRequest) -> Result<UnbanUserResult, Error> {
        let UnbanUserRequest { app_id, user_id } = request;
        let tenant = self.tenant(app_id)?;
        let was_banned = self.unban_user(&tenant, &user_id).await?;
        Ok(UnbanUserResult { was_banned })
    }

    async fn list_banned_users(
        &self,
        _: &Caller,
        request: ListBannedUsersRequest,
    ) -> Result<ListBannedUsersResult, Error> {
        let ListBannedUsersRequest { app_id, next_flag, count } = request;
        let tenant = self.tenant(app_id)?;
        self.banned_users(&tenant, next_flag, count).await
    }

    async fn list_users(&self, _: &Caller, request: ListUsersRequest) -> Result<ListUsersResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        self.users_of(&tenant, request).await
    }

    async fn revoke_tokens(&self, caller: &Caller, request: RevokeTokensRequest) -> Result<RevokeTokensResult, Error> {
        let RevokeTokensRequest { app_id, user_id, made_until } = request;
        let tenant = self.tenant(app_id)?;
        caller.audit().record("detail", format!("made until {made_until}"));
        let now_s = self.clock.now_s();
        if made_until > now_s {
            return Err(Error::params_invalid(
                "madeUntil is in the future: only tokens issued until now can be revoked",
            ));
        }
        let made_until = (made_until != 0).then_some(made_until);
        let (sessions, tokens_revoked_at) = self.revoke_tokens(&tenant, &user_id, made_until).await?;
        Ok(RevokeTokensResult { sessions, tokens_revoked_at })
    }

    async fn list_sessions(&self, _: &Caller, request: ListSessionsRequest) -> Result<ListSessionsResult, Error> {
        let ListSessionsRequest { app_id, user_id } = request;
        let tenant = self.tenant(app_id)?;
        let mut sessions = self.sessions_here(&tenant, &user_id);
        sessions.extend(self.bus().sessions(tenant.key, &user_id).await);
        sessions.sort_by(|a, b| (&a.user_id, a.login_at_ms).cmp(&(&b.user_id, b.login_at_ms)));
        Ok(ListSessionsResult { sessions })
    }

    async fn disconnect_user(&self, _: &Caller, request: DisconnectUserRequest) -> Result<DisconnectUserResult, Error> {
        let DisconnectUserRequest { app_id, user_id } = request;
        let tenant = self.tenant(app_id)?;
        let sessions = self.disconnect_user(&tenant, &user_id).await?;
        Ok(DisconnectUserResult { sessions })
    }

    async fn list_work(&self, _: &Caller, request: ListWorkRequest) -> Result<ListWorkResult, Error> {
        let page = Page { all: request.all, after: &request.after, count: request.count };
        self.list_work(queue(request.queue())?, page).await
    }

    async fn retry_work(&self, caller: &Caller, request: RetryWorkRequest) -> Result<RetryWorkResult, Error> {
        caller.audit().record("detail", format!("{} {}", request.kind, request.id));
        let is_found = self.retry_work(queue(request.queue())?, &request.kind, &request.id).await?;
        Ok(RetryWorkResult { is_found })
    }

    async fn send_server_message(
        &self,
        caller: &Caller,
        request: SendServerMessageRequest,
    ) -> Result<ServerMessageSentResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("to {} {:?}", request.to_conversation_id, request.conversation_type()));
        let user = self.acting(caller, &tenant, &request.from_user_id).await?;
        self.send_as(&user, request).await
    }

    async fn send_server_message_to_users(
        &self,
        caller: &Caller,
        request: SendServerMessageToUsersRequest,
    ) -> Result<ServerMessageSentToUsersResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("to {} users", request.to_user_ids.len()));
        let user = self.acting(caller, &tenant, &request.from_user_id).await?;
        Ok(ServerMessageSentToUsersResult { outcomes: self.send_to_users_as(&user, request).await? })
    }

    async fn edit_server_message(
        &self,
        caller: &Caller,
        request: EditServerMessageRequest,
    ) -> Result<ServerMessageEditedResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        let place = format!("{} in {} {:?}", request.message_seq, request.conversation_id, request.conversation_type());
        caller.audit().record("detail", place);
        let user = self.acting(caller, &tenant, &request.user_id).await?;
        self.edit_as_server(&user, request).await
    }

    async fn broadcast_message(
        &self,
        caller: &Caller,
        request: BroadcastMessageRequest,
    ) -> Result<MessageBroadcastResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        let user = self.acting(caller, &tenant, &request.from_user_id).await?;
        self.broadcast(&user, request).await
    }

    async fn revoke_server_message(
        &self,
        caller: &Caller,
        request: RevokeServerMessageRequest,
    ) -> Result<ServerMessageRevokedResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        let place = format!("{} in {} {:?}", request.message_seq, request.conversation_id, request.conversation_type());
        caller.audit().record("detail", place);
        let user = self.acting(caller, &tenant, &request.user_id).await?;
        self.revoke_as_server(&user, request).await
    }

    async fn list_messages(&self, caller: &Caller, request: ListMessagesRequest) -> Result<ListMessagesResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("{} {:?}", request.conversation_id, request.conversation_type()));
        let user = self.standing_for(caller, &tenant, &request.user_id).await?;
        self.messages_of(&user, request).await
    }

    async fn list_groups(&self, _: &Caller, request: ListGroupsRequest) -> Result<ListGroupsResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        self.groups_of(&tenant, request).await
    }

    async fn get_group(&self, caller: &Caller, request: GetGroupRequest) -> Result<GroupDetails, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("group {}", request.group_id));
        self.group_details(&tenant, &request.group_id).await
    }

    async fn list_group_members(
        &self,
        caller: &Caller,
        request: ListGroupMembersRequest,
    ) -> Result<ListGroupMembersResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("group {}", request.group_id));
        self.members_of_group(&tenant, request).await
    }

    async fn dismiss_server_group(
        &self,
        caller: &Caller,
        request: DismissServerGroupRequest,
    ) -> Result<GroupDismissedResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("group {}", request.group_id));
        self.dismiss_as_server(caller, &tenant, &request.group_id).await?;
        Ok(GroupDismissedResult { group_id: request.group_id })
    }

    async fn kick_server_group_members(
        &self,
        caller: &Caller,
        request: KickServerGroupMembersRequest,
    ) -> Result<GroupMemberKickedResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("{} users of {}", request.user_ids.len(), request.group_id));
        self.kick_as_server(caller, &tenant, request).await
    }

    async fn create_server_room(
        &self,
        caller: &Caller,
        request: CreateServerRoomRequest,
    ) -> Result<RoomCreatedResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("room {}", request.room_id));
        let user = self.acting(caller, &tenant, &request.user_id).await?;
        Ok(RoomCreatedResult { room_info: Some(self.create_empty_room(&user, request).await?) })
    }

    async fn destroy_room(&self, caller: &Caller, request: DestroyRoomRequest) -> Result<DestroyRoomResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("room {}", request.room_id));
        let users = self.destroy_room(&tenant, &request.room_id).await?;
        Ok(DestroyRoomResult { users: u32::try_from(users).unwrap_or(u32::MAX) })
    }

    async fn list_rooms(&self, _: &Caller, request: ListRoomsRequest) -> Result<ListRoomsResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        self.rooms_of(&tenant, request).await
    }

    async fn list_room_members(
        &self,
        caller: &Caller,
        request: ListRoomMembersRequest,
    ) -> Result<ListRoomMembersResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("room {}", request.room_id));
        self.members_of_room(&tenant, request).await
    }

    async fn kick_room_users(
        &self,
        caller: &Caller,
        request: KickRoomUsersRequest,
    ) -> Result<KickRoomUsersResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("{} users of {}", request.user_ids.len(), request.room_id));
        let user_ids = self.kick_from_room(&tenant, &request.room_id, request.user_ids).await?;
        Ok(KickRoomUsersResult { user_ids })
    }

    async fn send_experimental_event(
        &self,
        caller: &Caller,
        request: SendExperimentalEventRequest,
    ) -> Result<SendExperimentalEventResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("to {} users", request.user_ids.len()));
        self.tell_experimental(&tenant, &request.user_ids, request.content).await?;
        Ok(SendExperimentalEventResult {})
    }

    async fn list_logs(&self, _: &Caller, request: ListLogsRequest) -> Result<ListLogsResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        self.logs(&tenant, request).await
    }

    async fn read_log(&self, caller: &Caller, request: ReadLogRequest) -> Result<ReadLogResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        caller.audit().record("detail", format!("log {}", request.log_id));
        if request.offset == 0 {
            self.note_call().await?;
        }
        let data = self.read_log(&tenant, &request.log_id, request.offset).await?;
        Ok(ReadLogResult { data })
    }

    async fn call_as_user(&self, caller: &Caller, request: CallAsUserRequest) -> Result<CallAsUserResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        let method = method(&request.method).filter(|method| method.access == Access::User);
        let method = method.ok_or_else(|| Error::unsupported(&request.method))?;
        caller.audit().record("detail", method.path);
        let user = self.acting(caller, &tenant, &request.user_id).await?;
        let payload = call_as_user(self, &user, method, request.payload).await?;
        Ok(CallAsUserResult { payload })
    }

    async fn drop_work(&self, caller: &Caller, request: DropWorkRequest) -> Result<DropWorkResult, Error> {
        caller.audit().record("detail", format!("{} {}", request.kind, request.id));
        let is_found = self.drop_work(queue(request.queue())?, &request.kind, &request.id).await?;
        Ok(DropWorkResult { is_found })
    }

    async fn set_push_provider(&self, caller: &Caller, request: SetPushProviderRequest) -> Result<PushProvider, Error> {
        let tenant = self.tenant(request.app_id)?;
        let (source, app_type) = (request.source(), request.app_type);
        caller.audit().record("detail", format!("{source:?}, app type {app_type}"));
        self.set_push_provider(&tenant, (source, app_type), request.settings).await
    }

    async fn list_push_providers(
        &self,
        _: &Caller,
        request: ListPushProvidersRequest,
    ) -> Result<ListPushProvidersResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        Ok(ListPushProvidersResult { providers: self.push_providers(&tenant).await? })
    }

    async fn remove_push_provider(
        &self,
        caller: &Caller,
        request: RemovePushProviderRequest,
    ) -> Result<RemovePushProviderResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        let (source, app_type) = (request.source(), request.app_type);
        caller.audit().record("detail", format!("{source:?}, app type {app_type}"));
        Ok(RemovePushProviderResult { is_found: self.remove_push_provider(&tenant, (source, app_type)).await? })
    }

    async fn list_push_log(&self, _: &Caller, request: ListPushLogRequest) -> Result<ListPushLogResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        self.push_log(&tenant, &request.user_id, (&request.after, request.count)).await
    }

    async fn test_push(&self, _: &Caller, request: TestPushRequest) -> Result<TestPushResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        let TestPushRequest { user_id, title, content, .. } = request;
        let config = PushConfig { title, content, ..PushConfig::default() };
        Ok(TestPushResult { tests: self.test_push(&tenant, &user_id, config).await? })
    }

    async fn export_user(&self, caller: &Caller, request: ExportUserRequest) -> Result<ExportUserResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        self.export_part(caller, &tenant, request).await
    }

    async fn erase_user(&self, caller: &Caller, request: EraseUserRequest) -> Result<EraseUserResult, Error> {
        let tenant = self.tenant(request.app_id)?;
        self.erase_user(caller, &tenant, request).await
    }

    async fn get_retention(&self, _: &Caller, request: GetRetentionRequest) -> Result<Retention, Error> {
        let tenant = self.tenant(request.app_id)?;
        self.retention(&tenant, (&request.group_id, &request.user_ids)).await
    }

    async fn set_retention(&self, caller: &Caller, request: SetRetentionRequest) -> Result<Retention, Error> {
        let tenant = self.tenant(request.app_id)?;
        let SetRetentionRequest { group_id, user_ids, days, .. } = &request;
        caller.audit().record("detail", format!("group {group_id:?}, users {user_ids:?}, days {days:?}"));
        self.set_retention(&tenant, request).await
    }

    async fn list_audit(&self, _: &Caller, request: ListAuditRequest) -> Result<ListAuditResult, Error> {
        self.audit_rows(request).await
    }
}
