//! Errors of requests. Each has a constructor, so that its code and its sentence are in one place. The cause of an internal error
//! is logged once, in `net/handler.rs`, and never sent.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use zim_protocol::token::TokenError;
use zim_protocol::{ErrorCode, ErrorUserInfo, RequestError, Violation};

use crate::key::AppKey;

/// Why a request failed: a code and a message for the client, and a cause for the log.
pub struct Error(Box<Inner>);

struct Inner {
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error with a message for the client, which must not contain internals.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), details: Vec::new(), source: None }))
    }

    /// Whether the request may have taken effect although it failed: the failure is not a refusal by a rule.
    pub fn may_have_effect(&self) -> bool {
        self.0.source.is_some()
    }

    /// Adds a machine-readable detail.
    #[must_use]
    pub fn with_detail(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.details.push((key, value.into()));
        self
    }

    fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the reference's code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Returns the message for the client.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the internal cause, which only the log may contain.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.source.as_deref()
    }

    /// Converts to the wire form, without the cause.
    pub fn to_wire(&self) -> zim_protocol::Error {
        zim_protocol::Error {
            code: self.0.code as i32,
            message: self.0.message.clone().into_owned(),
            details: self.0.details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        }
    }
}

/// Failures of the server.
impl Error {
    /// A failure that the client did not cause. `source` is not sent.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImServerError, "internal error").caused_by(source)
    }

    /// The same as [`Error::internal`], with a text as the cause.
    pub fn internal_text(cause: impl Into<String>) -> Self {
        Self::internal(cause.into())
    }

    /// The disk is full. Reads and logout still work.
    pub fn storage_full(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImDatabaseError, "the server's disk is full; try again later")
            .caused_by(source)
    }

    /// The database is unreachable or too slow. The client may retry the request.
    pub fn storage_unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImDatabaseError, "the server's database is not available; try again later")
            .caused_by(source)
    }

    /// The server is stopping.
    pub fn shutting_down() -> Self {
        Self::new(ErrorCode::CommonModuleImServerDisconnect, "the server is stopping; connect again")
    }

    /// The deadline of the method passed. The request may still take effect.
    pub fn timed_out() -> Self {
        let message = "the server did not finish the request in time; it may still take effect";
        Self::new(ErrorCode::NetworkModuleRequestTimeout, message)
    }
}

/// Failures before a request reaches a service.
impl Error {
    /// A parameter is not valid.
    pub fn params_invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::CommonModuleParamsInvalid, message)
    }

    /// A message goes to no such kind of conversation.
    pub fn unknown_conversation_type() -> Self {
        Self::params_invalid("conversationType must be 0 (one other user), 1 (a room) or 2 (a group)")
    }

    /// The payload is not a request of its method.
    pub fn undecodable(method: &str, why: &RequestError) -> Self {
        Self::params_invalid(match why {
            RequestError::TooManyParts => why.to_string(),
            RequestError::Decode(_) => format!("the payload cannot be decoded as a request of {method}"),
        })
    }

    /// There is no such method.
    pub fn unsupported(method: &str) -> Self {
        // An unauthenticated client chooses the name, so the message repeats only a part of it.
        let name: String = method.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::new(ErrorCode::CommonModuleUnsupportedRequest, format!("there is no method {name}"))
    }

    /// The method requires a login.
    pub fn not_logged_in() -> Self {
        Self::new(ErrorCode::NetworkModuleUserIsNotLogged, "no user is logged in on this connection; log in first")
    }

    /// The method acts on a connection, and the caller has none.
    pub fn needs_connection() -> Self {
        Self::params_invalid("this method is for clients that are connected")
    }

    /// The session exceeded a rate of requests.
    pub fn too_fast(retry_after_ms: i64) -> Self {
        let message = "too many requests in a short time; try again after retry_after_ms";
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }
}

/// Failures of a login.
impl Error {
    /// There is no such app.
    pub fn app_not_found(app: AppKey) -> Self {
        Self::new(ErrorCode::CommonModuleInvalidAppId, format!("there is no app {}", app.0))
    }

    /// The login has neither an app sign nor a token.
    pub fn credentials_missing() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenInvalid, "the login has no credentials; send a token or the app sign")
    }

    /// The app sign is wrong, or there is no such app. The error does not reveal which apps a server has.
    pub fn app_sign_wrong() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenInvalid, "the app ID or the app sign is wrong")
    }

    /// The app sign is right, but the operator has turned it off.
    pub fn app_sign_off() -> Self {
        let message = "logging in with the app sign is turned off for this app; log in with a token";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message).with_detail("reason", "appSignOff")
    }

    /// The app does not accept AES-CBC tokens.
    pub fn cbc_tokens_off(app_id: u32) -> Self {
        let message = format!(
            "this app does not accept AES-CBC tokens; make AES-GCM tokens, or accept AES-CBC with: \
             zim admin app set --app-id {app_id} --cbc-tokens on"
        );
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message).with_detail("reason", "cbcTokensOff")
    }

    /// Whether this is [`Error::cbc_tokens_off`].
    pub fn is_cbc_tokens_off(&self) -> bool {
        self.0.details.iter().any(|(key, value)| *key == "reason" && value == "cbcTokensOff")
    }

    /// Too many logins from this address, or to this app, failed. A client whose credentials may be right must not retry with
    /// them: the code is that of wrong credentials.
    pub fn credentials_refused(retry_after_ms: i64) -> Self {
        let message = "the credentials are not accepted; the reason is withheld after too many failed logins";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// Too many logins from this address, or to this app, failed: AES-CBC tokens are refused unseen.
    pub fn too_many_failed_logins(retry_after_ms: i64) -> Self {
        let message = "AES-CBC tokens are refused after too many failed logins; try again after retry_after_ms";
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// The clock of the back end that made the token is far ahead, or its ctime is in milliseconds.
    pub fn token_made_ahead() -> Self {
        let message = "the token's ctime is more than ten minutes ahead of the server's clock; \
                       give ctime in Unix seconds, and synchronize the clocks";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message)
    }

    /// Too many logins from this address registered new users.
    pub fn too_many_first_logins(retry_after_ms: i64) -> Self {
        let message = "too many new users from this address in a short time; try again after retry_after_ms";
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// The user does not exist, and the app does not register users at such a login.
    pub fn user_not_registered(user_id: &str) -> Self {
        let message =
            format!("there is no user {user_id}, and this login cannot register one; register the user first");
        Self::new(ErrorCode::CommonModuleUserIsNotExist, message).with_detail("reason", "notRegistered")
    }

    /// The operator has banned the user.
    pub fn user_banned(ends_at_ms: i64) -> Self {
        let error =
            Self::new(ErrorCode::NetworkModuleTokenInvalid, "this user is banned").with_detail("reason", "banned");
        if ends_at_ms == 0 { error } else { error.with_detail("ends_at_ms", ends_at_ms.to_string()) }
    }

    /// The operator has revoked the token. The code is that of an expired token, because a newer one is accepted.
    pub fn token_revoked() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenExpired, "this token was revoked; log in with a newer one")
            .with_detail("reason", "revoked")
    }

    /// A second login on the same connection.
    pub fn already_logged_in() -> Self {
        Self::new(
            ErrorCode::NetworkModuleUserHasAlreadyLogged,
            "a user is already logged in on this connection; open another connection for another login",
        )
    }

    /// The login to resume has ended in the meantime; `reason` is for the SDK.
    pub fn session_ended(reason: &'static str) -> Self {
        let message = "this login has ended; log in again";
        Self::new(ErrorCode::NetworkModuleUserHasAlreadyLoggedOut, message).with_detail("reason", reason)
    }
}

/// Failures of messages, profiles and statuses.
impl Error {
    /// The client key belongs to another message.
    pub fn key_reused() -> Self {
        Self::params_invalid("another message was sent with this client key; use a new key for a new message")
    }

    /// There is no such message in the conversation, or the caller may not see it.
    pub fn message_not_found() -> Self {
        Self::params_invalid("there is no such message in this conversation")
    }

    /// The message was revoked before.
    pub fn already_revoked() -> Self {
        Self::new(ErrorCode::MessageModuleMessageHasBeenRevoked, "this message has been revoked already")
    }

    /// The message is another user's.
    pub fn revoke_not_allowed() -> Self {
        let message = "you can revoke your own messages only, and in a group those of members below your role";
        Self::new(ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority, message)
    }

    /// The message was sent too long ago.
    pub fn revoke_too_late(window_s: i64) -> Self {
        let message = format!("a message can be revoked within {window_s} seconds after it was sent");
        Self::new(ErrorCode::MessageModuleMessageExceedsRevokeTime, message)
    }

    /// The message is not the caller's own, or it is of a type that cannot be edited.
    pub fn edit_not_allowed() -> Self {
        let message = "you can edit your own text, custom and multiple messages only";
        Self::new(ErrorCode::MessageModuleEditNoCorrespondingOperationAuthority, message)
    }

    /// The message was sent too long ago.
    pub fn edit_too_late(window_s: i64) -> Self {
        let message = format!("a message can be edited within {window_s} seconds after it was sent");
        Self::new(ErrorCode::MessageModuleMessageExceedsEditTime, message)
    }

    /// The conversation has as many pinned messages as it can have.
    pub fn too_many_pinned(most: u32) -> Self {
        let message = format!("a conversation has at most {most} pinned messages");
        Self::new(ErrorCode::MessageModuleTheNumberOfPinnedMessagesExceedsLimit, message)
    }

    /// The message to unpin is not pinned.
    pub fn not_pinned() -> Self {
        Self::new(ErrorCode::MessageModuleMessageIsNotPinned, "the message is not pinned")
    }

    /// The user has reacted with this type.
    pub fn reaction_exists(reaction_type: &str) -> Self {
        let message = format!("you have reacted with {reaction_type}; config.increaseCount adds to it");
        Self::new(ErrorCode::MessageModuleMessageReactionTypeExisted, message)
    }

    /// The user has not reacted with this type.
    pub fn no_reaction(reaction_type: &str) -> Self {
        Self::params_invalid(format!("you have not reacted with {reaction_type}"))
    }

    /// The message has too many types of reactions.
    pub fn too_many_reactions(most: u32) -> Self {
        Self::params_invalid(format!("a message has at most {most} types of reactions"))
    }

    /// The message is too old for what is asked.
    pub fn message_too_old(window_ms: i64) -> Self {
        let age = match window_ms / 1_000 {
            seconds if seconds % 86_400 == 0 => format!("{} days", seconds / 86_400),
            seconds => format!("{seconds} seconds"),
        };
        Self::params_invalid(format!("the message is older than {age}"))
    }

    /// Messages of this type cannot have what is asked.
    pub fn message_type_unsupported(what: &str) -> Self {
        Self::params_invalid(format!("a message of this type cannot be {what}"))
    }

    /// There is no such log of a client.
    pub fn log_not_found() -> Self {
        Self::params_invalid("there is no such log; it may have been removed")
    }

    /// The message is for some members of the group only.
    pub fn message_is_targeted() -> Self {
        Self::params_invalid("a message for some members of a group cannot be replied to, reacted to, edited or pinned")
    }

    /// The message does not ask for receipts, or not from or for this user.
    pub fn no_receipt() -> Self {
        Self::new(ErrorCode::MessageModuleReceiptReadError, "the message has no receipt for you")
    }

    /// The recipient has blocked the sender.
    pub fn sender_blocked() -> Self {
        Self::new(ErrorCode::MessageModuleSenderInBlacklist, "this user has blocked your messages")
    }

    /// The extended data of a profile is too long for this server.
    pub fn user_extended_data_too_long(bytes: usize, most: u32) -> Self {
        Self::params_invalid(format!("extendedData is {bytes} bytes long; at most {most} are allowed"))
    }

    /// Users cannot subscribe to their own status.
    pub fn own_status() -> Self {
        Self::params_invalid("you cannot subscribe to your own status; your devices receive it without a subscription")
    }

    /// There is no subscription to end.
    pub fn not_subscribed(user_id: &str) -> Self {
        Self::params_invalid(format!("you have not subscribed to the status of {user_id}"))
    }

    /// The session queried too many profiles.
    pub fn users_queried_too_often() -> Self {
        Self::new(ErrorCode::CommonModuleUserInfoQueriedLimit, "at most 10 users can be queried in 10 seconds")
    }
}

/// Failures of calls, besides those that the rules name.
impl Error {
    /// An invitee is not registered.
    pub fn invitee_not_found(user_id: &str) -> Self {
        Self::new(ErrorCode::CallModuleInviteUserDoesNotExist, format!("there is no user {user_id}"))
    }
}

/// Failures of media messages.
impl Error {
    /// The file is empty, or larger than a message of this type allows.
    pub fn file_size_invalid(bytes: i64, most: i64) -> Self {
        let message = format!("the file has {bytes} bytes; 1 to {most} are allowed for a message of this type");
        Self::new(ErrorCode::MessageModuleFileSizeInvalid, message)
    }

    /// The picture would take too much memory.
    pub fn too_many_pixels(most: u32) -> Self {
        let message = format!("the picture has too many pixels; at most {most} are allowed");
        Self::new(ErrorCode::MessageModuleFileSizeInvalid, message)
    }

    /// The content of the file is not of a format that a message of this type can have.
    pub fn file_type_unsupported() -> Self {
        let message = "the content of the file is not of a format that a message of this type can have";
        Self::new(ErrorCode::MessageModuleFileTypeUnsupported, message)
    }

    /// The sound is longer than a message allows.
    pub fn file_duration_invalid(seconds: i64, most: u32) -> Self {
        let message = format!("the duration is {seconds} seconds; 0 to {most} are allowed");
        Self::new(ErrorCode::MessageModuleFileDurationInvalid, message)
    }

    /// The file is not what its hash says.
    pub fn file_verification_failed() -> Self {
        let message = "the bytes that arrived do not have the announced hash; upload the file again";
        Self::new(ErrorCode::MessageModuleFileVerificationError, message)
    }

    /// The message names a file of this server that is not there, or not complete.
    pub fn file_not_found() -> Self {
        Self::new(
            ErrorCode::MessageModuleFileNotExist,
            "there is no such file; it may have been removed, or not be complete",
        )
    }

    /// The files of the user or of the app may not take more space.
    pub fn file_quota_used_up(whose: &'static str) -> Self {
        let message = format!("the files of {whose} take as much space as they may");
        Self::new(ErrorCode::MessageModuleFileServerError, message).with_detail("reason", "quota")
    }

    /// The server takes no files.
    pub fn files_off() -> Self {
        Self::new(ErrorCode::MessageModuleFileServerError, "this server takes no files").with_detail("reason", "off")
    }

    /// The store of the files fails.
    pub fn file_store_failed(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let message = "the server cannot store or read the file; try again later";
        Self::new(ErrorCode::MessageModuleFileServerError, message).caused_by(source)
    }
}

/// Failures of offline push.
impl Error {
    /// A device registers something that cannot be a token of its push service.
    pub fn push_id_invalid(message: &'static str) -> Self {
        Self::new(ErrorCode::ZpnsModulePushIdInvalid, message)
    }
}

/// Failures of groups.
impl Error {
    /// The caller is not a member of the group.
    pub fn not_in_group(group_id: &str) -> Self {
        let message = format!("you are not a member of the group {group_id}");
        Self::new(ErrorCode::GroupModuleUserIsNotInTheGroup, message)
    }

    /// Another user is not a member of the group.
    pub fn not_a_member(user_id: &str) -> Self {
        Self::new(ErrorCode::GroupModuleUserIsNotInTheGroup, format!("{user_id} is not a member of this group"))
    }

    /// There is no such group, or it was dismissed.
    pub fn group_not_found(group_id: &str) -> Self {
        Self::new(ErrorCode::GroupModuleGroupDoesNotExist, format!("there is no group {group_id}"))
    }

    /// A group with this ID exists.
    pub fn group_exists(group_id: &str) -> Self {
        Self::new(ErrorCode::GroupModuleGroupAlreadyExists, format!("the group {group_id} exists already"))
    }

    /// A group with this ID existed. Its ID is not given again.
    pub fn group_dismissed(group_id: &str) -> Self {
        let message = format!("the group {group_id} was dismissed; its ID cannot be used again");
        Self::new(ErrorCode::GroupModuleCreateGroupWithDismissed, message)
    }

    /// The group has as many members as it may have.
    pub fn group_full(most: i64) -> Self {
        let message = format!("the group is full: it has at most {most} members");
        Self::new(ErrorCode::GroupModuleGroupMemberHasReachedLimit, message)
    }

    /// The user is in as many groups as a user may be.
    pub fn too_many_groups(user_id: &str, most: i64) -> Self {
        let message = format!("{user_id} is in {most} groups, and a user can be in no more");
        Self::new(ErrorCode::GroupModuleJoinGroupError, message)
    }

    /// The caller, who creates a group, is in as many as a user may be.
    pub fn too_many_groups_to_create(most: i64) -> Self {
        Self::new(ErrorCode::GroupModuleCreateGroupError, Self::too_many_own_groups(most).message().to_owned())
    }

    /// The caller is in as many groups as a user may be.
    pub fn too_many_own_groups(most: i64) -> Self {
        let message = format!("you are in {most} groups, and a user can be in no more; leave one first");
        Self::new(ErrorCode::GroupModuleJoinGroupError, message)
    }

    /// The caller's role does not allow this.
    pub fn not_allowed_in_group(what: &str) -> Self {
        Self::new(ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority, format!("you may not {what}"))
    }

    /// The user is a member of the group already.
    pub fn already_in_group(user_id: &str) -> Self {
        let message = format!("{user_id} is a member of this group already");
        Self::new(ErrorCode::GroupModuleMemberIsAlreadyInTheGroup, message)
    }

    /// The sender must not write to the group. `until`: Unix milliseconds, -1 for good.
    pub fn muted_in_group(group_id: &str, until: i64) -> Self {
        let message = format!("you are muted in the group {group_id}");
        Self::new(ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority, message)
            .with_detail("mutedUntil", until.to_string())
    }

    /// The group does not have these attributes.
    pub fn no_such_attributes() -> Self {
        Self::new(ErrorCode::GroupModuleGroupAttributeDoesNotExist, "the group has none of these attributes")
    }

    /// The group would have more attributes than it may have.
    pub fn too_many_attributes(most: usize) -> Self {
        let message = format!("a group has at most {most} attributes");
        Self::new(ErrorCode::GroupModuleTheNumberOfGroupAttributesExceedsLimit, message)
    }

    /// A user who is invited must agree; they were asked.
    pub fn invited_user_must_agree(user_id: &str) -> Self {
        let message = format!("{user_id} must agree, and was asked");
        Self::new(ErrorCode::GroupModuleNeedApplyInviteGroupError, message)
    }

    /// No application of the user to join the group waits for an answer.
    pub fn no_join_application(user_id: &str) -> Self {
        let message = format!("no application of {user_id} to join this group waits for an answer");
        Self::new(ErrorCode::GroupModuleJoinGroupError, message)
    }

    /// No invitation of the user to the caller waits for an answer.
    pub fn no_invite_application(user_id: &str) -> Self {
        let message = format!("no invitation of {user_id} to this group waits for your answer");
        Self::new(ErrorCode::GroupModuleInviteUserIntoGroupError, message)
    }

    /// Nobody joins the group by themselves.
    pub fn joining_is_forbidden() -> Self {
        Self::new(ErrorCode::GroupModuleForbidJoinGroupError, "nobody can join this group without an invitation")
    }

    /// The group wants an application.
    pub fn joining_needs_application() -> Self {
        let message = "an administrator of this group decides who joins; send an application";
        Self::new(ErrorCode::GroupModuleNeedApplyJoinGroupError, message)
    }
}

/// Failures of rooms.
impl Error {
    /// There is no such room, or it has ended.
    pub fn room_not_found(room_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleTheRoomDoesNotExist, format!("there is no room {room_id}"))
    }

    /// There is such a room.
    pub fn room_exists(room_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleTheRoomAlreadyExists, format!("the room {room_id} exists already"))
    }

    /// The caller is not in the room.
    pub fn not_in_room(room_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleUserIsNotInTheRoom, format!("you are not in the room {room_id}"))
    }

    /// Another user is not in the room.
    pub fn not_a_room_member(user_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleUserIsNotInTheRoom, format!("{user_id} is not in this room"))
    }

    /// This device is in the room.
    pub fn already_in_room(room_id: &str) -> Self {
        Self::new(ErrorCode::RoomModuleUserIsAlreadyInTheRoom, format!("you are in the room {room_id} already"))
    }

    /// A one-shot login cannot be in a room.
    pub fn room_needs_device() -> Self {
        let message = "a one-shot login is no device, and cannot enter a room";
        Self::new(ErrorCode::RoomModuleJoinRoomError, message)
    }

    /// A one-shot login cannot create a room either: it would be in it.
    pub fn new_room_needs_device() -> Self {
        let message = "a one-shot login is no device, and cannot create a room";
        Self::new(ErrorCode::RoomModuleCreateRoomError, message)
    }

    /// The room has as many members as it may have.
    pub fn room_full(most: i64) -> Self {
        let message = format!("the room is full: it has at most {most} members");
        Self::new(ErrorCode::RoomModuleJoinRoomError, message)
    }

    /// The app has as many rooms as it may have.
    pub fn too_many_rooms(most: i64) -> Self {
        let message = format!("there are {most} rooms, and there can be no more");
        Self::new(ErrorCode::RoomModuleTheNumberOfExistingRoomsHasReachedLimit, message)
    }

    /// The caller is in as many rooms as a user may be.
    pub fn too_many_own_rooms(most: i64) -> Self {
        let message = format!("you are in {most} rooms, and can be in no more; leave one first");
        Self::new(ErrorCode::RoomModuleTheNumberOfJoinedRoomsHasReachedLimit, message)
    }

    /// None of the users that the caller asks for is in the room.
    pub fn no_such_room_members() -> Self {
        let message = "none of these users is in the room";
        Self::new(ErrorCode::RoomModuleTheRoomMembersQueryFailedCompletely, message)
    }

    /// No attribute could be changed: they have other owners, or there are none.
    pub fn room_attributes_refused() -> Self {
        let message = "none of the attributes could be changed; others own them, or they do not exist";
        Self::new(ErrorCode::RoomModuleRoomAttributesOperationFailedCompletely, message)
    }

    /// The room would have more attributes than it may have.
    pub fn too_many_room_attributes(most: usize) -> Self {
        let message = format!("a room has at most {most} attributes");
        Self::new(ErrorCode::RoomModuleTheNumberOfRoomAttributesExceedsLimit, message)
    }

    /// The key of an attribute of a room is empty or too long.
    pub fn room_attribute_key(most: usize) -> Self {
        let message = format!("the key of an attribute of a room has 1 to {most} bytes");
        Self::new(ErrorCode::RoomModuleTheLengthOfRoomAttributeKeyExceedsLimit, message)
    }

    /// The value of an attribute of a room is too long.
    pub fn room_attribute_value(most: usize) -> Self {
        let message = format!("the value of an attribute of a room has at most {most} bytes");
        Self::new(ErrorCode::RoomModuleTheLengthOfRoomAttributeValueExceedsLimit, message)
    }

    /// The attributes of a room would be too long together.
    pub fn room_attributes_total(most: usize) -> Self {
        let message = format!("the keys and values of the attributes of a room have at most {most} bytes together");
        Self::new(ErrorCode::RoomModuleTheTotalLengthOfRoomAttributesValueExceedsLimit, message)
    }

    /// A member would have more attributes than a member may have.
    pub fn too_many_room_member_attributes(most: usize) -> Self {
        let message = format!("a member of a room has at most {most} attributes");
        Self::new(ErrorCode::RoomModuleRoomMemberAttributesCommonError, message)
    }

    /// The key of an attribute of a member is empty or too long.
    pub fn room_member_attribute_key(most: usize) -> Self {
        let message = format!("the key of an attribute of a member has 1 to {most} bytes");
        Self::new(ErrorCode::RoomModuleTheLengthOfRoomMemberAttributesKeyExceedsLimit, message)
    }

    /// The value of an attribute of a member is too long.
    pub fn room_member_attribute_value(most: usize) -> Self {
        let message = format!("the value of an attribute of a member has at most {most} bytes");
        Self::new(ErrorCode::RoomModuleTheLengthOfRoomMemberAttributesValueExceedsLimit, message)
    }

    /// The attributes of a member would be too long together.
    pub fn room_member_attributes_total(most: usize) -> Self {
        let message = format!("the keys and values of the attributes of a member have at most {most} bytes together");
        Self::new(ErrorCode::RoomModuleTheTotalLengthOfRoomMemberAttributesExceedsLimit, message)
    }

    /// The room has as many members with attributes as it may have.
    pub fn too_many_attributed_members(most: i64) -> Self {
        let message = format!("at most {most} members of a room have attributes");
        Self::new(ErrorCode::RoomModuleTheMemberNumberOfRoomMemberAttributesExceedsLimit, message)
    }
}

/// Failures of friends and friend applications.
impl Error {
    /// A friend list is full.
    pub fn friends_full(whose: &str, most: u64) -> Self {
        let message = format!("{whose} friend list is full; at most {most} friends are allowed");
        Self::new(ErrorCode::FriendModuleFriendNumsLimit, message)
    }

    /// The other user has no pending application that the caller could answer.
    pub fn no_application_waits() -> Self {
        let message = "there is no pending application from this user";
        Self::new(ErrorCode::FriendModuleFriendApplicationStatusError, message)
    }

    /// The application was not answered in time.
    pub fn application_expired() -> Self {
        Self::new(ErrorCode::FriendModuleFriendApplicationExpired, "the application from this user has expired")
    }

    /// The other user is on the caller's list.
    pub fn already_friends() -> Self {
        Self::new(ErrorCode::FriendModuleIsAlreadyYourFriend, "this user is already your friend")
    }

    /// The other user has blocked the caller.
    pub fn blocked_by_friend() -> Self {
        Self::new(ErrorCode::CommonModuleBlacklistLimit, "this user has blocked you")
    }

    /// Users cannot be their own friends.
    pub fn cannot_befriend_self() -> Self {
        Self::new(ErrorCode::FriendModuleCannotAddSelfToFriendList, "you cannot add yourself as a friend")
    }

    /// There is no such user in the app.
    pub fn friend_unregistered(user_id: &str) -> Self {
        Self::new(ErrorCode::FriendModuleFriendAreUnregistered, format!("there is no user {user_id}"))
    }

    /// The other user is not on the caller's list.
    pub fn not_friends(user_id: &str) -> Self {
        Self::new(ErrorCode::FriendModuleNotYourFriend, format!("{user_id} is not on your friend list"))
    }

    /// Users are not on their own lists.
    pub fn cannot_delete_self() -> Self {
        Self::new(
            ErrorCode::FriendModuleCannotDeleteSelf,
            "you cannot delete yourself; you are not on your own friend list",
        )
    }

    /// The new attributes and the existing ones are too long together.
    pub fn friend_attributes_too_long(bytes: usize, most: usize) -> Self {
        let message = format!("the friend would have {bytes} bytes of attributes; at most {most} are allowed");
        Self::params_invalid(message)
    }
}

/// The users for whom a request for several users failed, each with the reason.
#[derive(Debug, Default)]
pub struct LeftOut(Vec<(String, Error)>);

impl LeftOut {
    /// Whether nobody is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a user.
    pub fn add(&mut self, user_id: String, why: Error) {
        self.0.push((user_id, why));
    }

    /// Returns the list for the response, if the request succeeded for `served` other users. If it succeeded for none, the request
    /// fails with the first error.
    ///
    /// # Errors
    /// The first error, if the request succeeded for no user.
    pub fn finish(mut self, served: usize) -> Result<Vec<ErrorUserInfo>, Error> {
        if served == 0 && !self.0.is_empty() {
            return Err(self.0.swap_remove(0).1);
        }
        Ok(self.list())
    }

    /// The same as [`LeftOut::finish`], but if the reasons differ and the request succeeded for no user, it fails with the
    /// code `various`.
    ///
    /// # Errors
    /// The request succeeded for no user.
    pub fn finish_or(mut self, served: usize, various: ErrorCode) -> Result<Vec<ErrorUserInfo>, Error> {
        if served > 0 || self.0.is_empty() {
            return Ok(self.list());
        }
        let first = self.0[0].1.code();
        if self.0.iter().all(|(_, reason)| reason.code() == first) {
            return Err(self.0.swap_remove(0).1);
        }
        let each = self.0.iter().map(|(user_id, why)| format!("{user_id} ({})", why.code() as i32));
        let message = format!("the request failed for all users: {}", each.collect::<Vec<_>>().join(", "));
        Err(Error::new(various, message))
    }

    fn list(self) -> Vec<ErrorUserInfo> {
        let left_out = self.0.into_iter();
        left_out.map(|(user_id, why)| ErrorUserInfo { user_id, reason: i64::from(why.code() as i32) }).collect()
    }
}

/// Things that do not exist.
impl Error {
    /// There is no such user in the app.
    pub fn user_not_found(user_id: &str) -> Self {
        Self::new(ErrorCode::CommonModuleUserIsNotExist, format!("there is no user {user_id}"))
    }

    /// There is no such recipient.
    pub fn target_not_found(id: &str) -> Self {
        Self::new(ErrorCode::MessageModuleTargetDoesNotExist, format!("there is no user {id} to send to"))
    }

    /// The conversation has ended, or the caller was never a member: the error does not reveal which.
    pub fn conversation_closed() -> Self {
        Self::new(ErrorCode::ConversationModuleConversationDoesNotExist, "you are not a member of this conversation")
    }

    /// The caller has pinned as many conversations as a user can.
    pub fn pinned_full(limit: i64) -> Self {
        let message = format!("{limit} conversations are pinned already; unpin one first");
        Self::new(ErrorCode::ConversationModuleConversationPinnedListReachedLimit, message)
    }

    /// The caller has no such conversation.
    pub fn conversation_not_found(id: &str) -> Self {
        Self::new(ErrorCode::ConversationModuleConversationDoesNotExist, format!("there is no conversation with {id}"))
    }
}

impl From<Box<Violation>> for Error {
    fn from(violation: Box<Violation>) -> Self {
        Self::new(violation.code, violation.to_string())
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        Self::new(error.code, error.reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message, self.0.code as i32)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("details", &self.0.details)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_kept_and_never_sent() {
        let error = Error::internal(std::io::Error::other("disk of node 3 is on fire"));
        let wire = error.to_wire();
        assert_eq!((wire.code, wire.message.as_str()), (6_000_007, "internal error"));
        assert!(error.cause().unwrap().to_string().contains("on fire"));
        assert!(!error.to_string().contains("on fire"));
    }

    #[test]
    fn an_unknown_method_name_is_cut_and_cleaned() {
        let error = Error::unsupported(&"x\n".repeat(10_000));
        assert!(error.message().len() < 100);
        assert!(!error.message().contains('\n'));
    }
}
