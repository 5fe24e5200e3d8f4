//! The operator's service on gRPC. The key in the data folder gives access to it. `service/admin.rs` does the work.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::Instrument;
use zim_protocol::admin::Admin;
use zim_protocol::{
    AnyRequest, App as AppRow, AppDetails, BanUserRequest, BanUserResult, BroadcastMessageRequest, CallAsUserRequest,
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
    MintTokenResult, PushProvider, ReadLogRequest, ReadLogResult, RegisterUserRequest, RegisterUserResult,
    RemovePushProviderRequest, RemovePushProviderResult, Retention, RetryWorkRequest, RetryWorkResult,
    RevokeServerMessageRequest, RevokeTokensRequest, RevokeTokensResult, RoomCreatedResult, RotateSecretRequest,
    RotateSecretResult, Rpc, SendExperimentalEventRequest, SendExperimentalEventResult, SendServerMessageRequest,
    SendServerMessageToUsersRequest, ServerMessageEditedResult, ServerMessageRevokedResult, ServerMessageSentResult,
    ServerMessageSentToUsersResult, SetPushProviderRequest, SetRetentionRequest, TestPushRequest, TestPushResult,
    UnbanUserRequest, UnbanUserResult, UpdateAppRequest, UserAccess,
};

use super::operator;
use crate::app::App;
use crate::connection::{Audit, Call, Caller};
use crate::error::Error;
use crate::service::invoke::call_as_server;

/// The operator's RPCs.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    app: Arc<App>,
}

/// Converts an error to a gRPC status.
fn status(error: &Error) -> Status {
    // `invoke` has logged the cause.
    if error.cause().is_some() {
        return Status::internal(error.message());
    }
    let message = error.to_string();
    match error.code() {
        ErrorCode::CommonModuleParamsInvalid => Status::invalid_argument(message),
        ErrorCode::CommonModuleInvalidAppId | ErrorCode::CommonModuleUserIsNotExist => Status::not_found(message),
        _ => Status::failed_precondition(message),
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

/// Requests that are about the whole server.
macro_rules! about_all {
    ($($request:ty)*) => {$(
        impl About for $request {
            fn app_id(&self) -> u32 {
                0
            }
        }
    )*};
}

about_all! { ListAppsRequest ListWorkRequest RetryWorkRequest DropWorkRequest }

about! {
    SetPushProviderRequest:;
    ListPushProvidersRequest:;
    RemovePushProviderRequest:;
    ListPushLogRequest: user_id;
    TestPushRequest: user_id;
    CreateAppRequest: ;
    GetAppRequest: ;
    DeleteAppRequest: ;
    UpdateAppRequest: ;
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
    SendServerMessageRequest: from_user_id;
    BroadcastMessageRequest: from_user_id;
    RevokeServerMessageRequest: user_id;
    ListMessagesRequest: user_id;
    KickRoomUsersRequest: ;
    CreateServerRoomRequest: user_id;
    DestroyRoomRequest: ;
    ListRoomsRequest: ;
    ListRoomMembersRequest: ;
    ListUsersRequest: ;
    ListGroupsRequest: ;
    GetGroupRequest: ;
    ListGroupMembersRequest: ;
    DismissServerGroupRequest: ;
    KickServerGroupMembersRequest: ;
    SendServerMessageToUsersRequest: from_user_id;
    EditServerMessageRequest: user_id;
    CallAsUserRequest: user_id;
    SendExperimentalEventRequest: ;
    ListLogsRequest: user_id;
    ReadLogRequest: ;
    ExportUserRequest: user_id;
    EraseUserRequest: user_id;
    GetRetentionRequest: ;
    SetRetentionRequest: ;
    ListAuditRequest: user_id;
}

/// Characters of a user ID that the audit log repeats: a valid one is not longer.
const MAX_LOGGED_ID_CHARS: usize = 32;

/// Runs `work` to completion, even if the operator stops waiting, because a change must not be applied by half.
async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::spawn(work.in_current_span()).await;
    done.unwrap_or_else(|panic| Err(Error::internal(panic))).map_err(|error| status(&error))
}

impl Operator {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    async fn call<R>(&self, request: Request<R>) -> Result<Response<R::Response>, Status>
    where
        R: Rpc + Into<AnyRequest> + About + Send + 'static,
        R::Response: Send,
    {
        let actor = request.extensions().get::<operator::Caller>().map(|caller| caller.peer.to_string());
        let (app, request, audit) = (Arc::clone(&self.app), request.into_inner(), Audit::new(tracing::Span::current()));
        if request.app_id() != 0 {
            audit.record("app", request.app_id());
        }
        if !request.user_id().is_empty() {
            audit.record("user", request.user_id().chars().take(MAX_LOGGED_ID_CHARS).collect::<String>());
        }
        let call = Call {
            id: app.ids.next(),
            at: app.clock.now_ms(),
            actor: actor.unwrap_or_default(),
            action: R::METHOD.rpc,
        };
        let note = audit.note(call);
        let caller = Caller::operator(audit);
        let work = note.beside(async move { call_as_server(&app, &caller, request).await });
        run_to_completion(work).await.map(Response::new)
    }
}

macro_rules! rpcs {
    ($($name:ident: $request:ty => $response:ty;)*) => {
        #[tonic::async_trait]
        impl Admin for Operator {$(
            async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                self.call(request).await
            }
        )*}
    };
}

rpcs! {
    create_app: CreateAppRequest => AppRow;
    list_apps: ListAppsRequest => ListAppsResult;
    get_app: GetAppRequest => AppDetails;
    delete_app: DeleteAppRequest => DeleteAppResult;
    update_app: UpdateAppRequest => AppRow;
    rotate_secret: RotateSecretRequest => RotateSecretResult;
    mint_token: MintTokenRequest => MintTokenResult;
    register_user: RegisterUserRequest => RegisterUserResult;
    get_user: GetUserRequest => UserAccess;
    ban_user: BanUserRequest => BanUserResult;
    unban_user: UnbanUserRequest => UnbanUserResult;
    list_banned_users: ListBannedUsersRequest => ListBannedUsersResult;
    revoke_tokens: RevokeTokensRequest => RevokeTokensResult;
    list_sessions: ListSessionsRequest => ListSessionsResult;
    disconnect_user: DisconnectUserRequest => DisconnectUserResult;
    list_work: ListWorkRequest => ListWorkResult;
    retry_work: RetryWorkRequest => RetryWorkResult;
    drop_work: DropWorkRequest => DropWorkResult;
    send_server_message: SendServerMessageRequest => ServerMessageSentResult;
    broadcast_message: BroadcastMessageRequest => MessageBroadcastResult;
    revoke_server_message: RevokeServerMessageRequest => ServerMessageRevokedResult;
    list_messages: ListMessagesRequest => ListMessagesResult;
    send_server_message_to_users: SendServerMessageToUsersRequest => ServerMessageSentToUsersResult;
    edit_server_message: EditServerMessageRequest => ServerMessageEditedResult;
    create_server_room: CreateServerRoomRequest => RoomCreatedResult;
    destroy_room: DestroyRoomRequest => DestroyRoomResult;
    list_rooms: ListRoomsRequest => ListRoomsResult;
    list_room_members: ListRoomMembersRequest => ListRoomMembersResult;
    list_users: ListUsersRequest => ListUsersResult;
    list_groups: ListGroupsRequest => ListGroupsResult;
    get_group: GetGroupRequest => GroupDetails;
    list_group_members: ListGroupMembersRequest => ListGroupMembersResult;
    dismiss_server_group: DismissServerGroupRequest => GroupDismissedResult;
    kick_server_group_members: KickServerGroupMembersRequest => GroupMemberKickedResult;
    kick_room_users: KickRoomUsersRequest => KickRoomUsersResult;
    call_as_user: CallAsUserRequest => CallAsUserResult;
    send_experimental_event: SendExperimentalEventRequest => SendExperimentalEventResult;
    list_logs: ListLogsRequest => ListLogsResult;
    read_log: ReadLogRequest => ReadLogResult;
    set_push_provider: SetPushProviderRequest => PushProvider;
    list_push_providers: ListPushProvidersRequest => ListPushProvidersResult;
    remove_push_provider: RemovePushProviderRequest => RemovePushProviderResult;
    list_push_log: ListPushLogRequest => ListPushLogResult;
    test_push: TestPushRequest => TestPushResult;
    export_user: ExportUserRequest => ExportUserResult;
    erase_user: EraseUserRequest => EraseUserResult;
    get_retention: GetRetentionRequest => Retention;
    set_retention: SetRetentionRequest => Retention;
    list_audit: ListAuditRequest => ListAuditResult;
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
