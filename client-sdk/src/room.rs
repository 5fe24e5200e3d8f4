//! Rooms: entering and leaving, members, attributes.
//!
//! A device is in a room, not a user. It stays in its rooms while its connection is away for a short time: they are interrupted
//! then, and connected again with the connection, or lost if that came too late. `roomStateChanged` tells.

use std::collections::HashMap;
use std::sync::Arc;

use zim_protocol::{
    CreateRoomRequest, DeleteRoomAttributesRequest, EndRoomAttributesBatchOperationRequest, EnterRoomRequest,
    ErrorCode, JoinRoomRequest, LeaveAllRoomRequest, LeaveRoomRequest, QueryRoomAllAttributesRequest,
    QueryRoomMemberAttributesListRequest, QueryRoomMemberListRequest, QueryRoomMembersAttributesRequest,
    QueryRoomMembersRequest, QueryRoomOnlineMemberCountRequest, ResumeRoomsRequest, RoomAdvancedConfig,
    RoomAllLeftResult, RoomAttributesBatchOperatedResult, RoomAttributesBatchOperationConfig,
    RoomAttributesDeleteConfig, RoomAttributesOperatedResult, RoomAttributesQueriedResult, RoomAttributesSetConfig,
    RoomAttributesUpdateAction, RoomAttributesUpdateInfo, RoomCreatedResult, RoomEnteredResult, RoomFullInfo, RoomInfo,
    RoomJoinedResult, RoomLeftResult, RoomMemberAttributesListQueriedResult, RoomMemberAttributesQueryConfig,
    RoomMemberAttributesSetConfig, RoomMemberQueriedResult, RoomMemberQueryConfig, RoomMembersAttributesOperatedResult,
    RoomMembersAttributesQueriedResult, RoomMembersQueriedResult, RoomOnlineMemberCountQueriedResult, RoomRef,
    RoomSwitchedResult, Rpc, SetRoomAttributesRequest, SetRoomMembersAttributesRequest, SwitchRoomRequest, Validate,
};

use crate::account::{Account, Entering, Remote, Start, is_out_of_room};
use crate::error::Error;
use crate::outbox::is_network;
use crate::types::strings;
use crate::zim::Zim;

impl Zim {
    /// Creates a room and enters it (reference: `createRoom`). `roomStateChanged` reports Connecting (ActiveCreate), and then Connected
    /// (Success) or Disconnected (CreateFailed).
    ///
    /// # Errors
    /// - 6000323: there is such a room. 6000324: there are as many rooms as an app may have.
    /// - 6000325: the user is in as many rooms as a user may be.
    /// - 6000326: the device is about to enter this room, or to leave it.
    /// - 6000334 to 6000337: too many attributes, or a key, a value or all of them are too long.
    pub fn create_room(
        &self,
        room_info: RoomInfo,
        config: RoomAdvancedConfig,
    ) -> impl Future<Output = Result<RoomCreatedResult, Error>> + Send + 'static + use<> {
        let info = room_info.clone();
        let request = move |entry_number| CreateRoomRequest {
            room_info: Some(info.clone()),
            config: Some(config.clone()),
            entry_number,
        };
        let entered = self.enter((room_info, None), Entering::Create, request, |result| result.room_info);
        async move { Ok(RoomCreatedResult { room_info: Some(entered.await?) }) }
    }

    /// Enters a room that exists (reference: `joinRoom`). Its members get `roomMemberJoined`. Another device of this user that is in
    /// the room leaves it: `roomStateChanged` (Disconnected, KickedOutByOtherDevice). If this device is in the room, nothing changes.
    ///
    /// # Errors
    /// - 6000322: there is no such room.
    /// - 6000304: the room is full. 6000325: the user is in as many rooms as a user may be.
    /// - 6000326: the device is about to enter this room, or to leave it.
    pub fn join_room(
        &self,
        room_id: &str,
    ) -> impl Future<Output = Result<RoomJoinedResult, Error>> + Send + 'static + use<> {
        let info = RoomInfo { room_id: room_id.to_owned(), room_name: String::new() };
        let room_id = room_id.to_owned();
        let request = move |entry_number| JoinRoomRequest { room_id: room_id.clone(), entry_number };
        let entered = self.enter((info, None), Entering::Enter, request, |result| result.room_info);
        async move { Ok(RoomJoinedResult { room_info: Some(entered.await?) }) }
    }

    /// Enters a room, which is created if it does not exist (reference: `enterRoom`). The name and `config` count for the user who
    /// creates it.
    ///
    /// # Errors
    /// Those of [`Zim::create_room`] and [`Zim::join_room`], except that the room exists or does not.
    pub fn enter_room(
        &self,
        room_info: RoomInfo,
        config: RoomAdvancedConfig,
    ) -> impl Future<Output = Result<RoomEnteredResult, Error>> + Send + 'static + use<> {
        let info = room_info.clone();
        let request = move |entry_number| EnterRoomRequest {
            room_info: Some(info.clone()),
            config: Some(config.clone()),
            entry_number,
        };
        let entered = self.enter((room_info, None), Entering::Enter, request, |result| result.room_info);
        async move { Ok(RoomEnteredResult { room_info: Some(entered.await?) }) }
    }

    /// Enters a room and leaves another one (reference: `switchRoom`). If the room cannot be entered, the device stays where it is.
    ///
    /// If the device has entered the new room and cannot leave the other one, the call fails and the device is in both, as the events
    /// say.
    ///
    /// # Errors
    /// 6000321: the device is not in the room to leave. Otherwise those of [`Zim::enter_room`].
    pub fn switch_room(
        &self,
        from_room_id: &str,
        to_room_info: RoomInfo,
        is_create_when_room_not_existed: bool,
        config: RoomAdvancedConfig,
    ) -> impl Future<Output = Result<RoomSwitchedResult, Error>> + Send + 'static + use<> {
        let (info, from) = (to_room_info.clone(), from_room_id.to_owned());
        let leaving = Some(from.clone());
        let request = move |entry_number| SwitchRoomRequest {
            from_room_id: from.clone(),
            to_room_info: Some(info.clone()),
            is_create_when_room_not_existed,
            config: Some(config.clone()),
            entry_number,
        };
        let entered = self.enter((to_room_info, leaving), Entering::Switch, request, |result| result.room_info);
        async move { Ok(RoomSwitchedResult { room_info: Some(entered.await?) }) }
    }

    /// Leaves a room (reference: `leaveRoom`). Its members get `roomMemberLeft`, and this device `roomStateChanged` (Disconnected,
    /// Success). When the last member leaves, the room ends, at once or after the delay that it was created with. If the answer is lost
    /// when the device already knows that it is out of the room, the call succeeds.
    ///
    /// # Errors
    /// 6000321: the device is not in the room. 6000326: it is about to enter it, or to leave it.
    pub fn leave_room(
        &self,
        room_id: &str,
    ) -> impl Future<Output = Result<RoomLeftResult, Error>> + Send + 'static + use<> {
        let left = self.account().and_then(|account| leave(&account, (room_id, None)));
        let room_id = room_id.to_owned();
        async move {
            if let Some(left) = left? {
                left.await?;
            }
            Ok(RoomLeftResult { room_id })
        }
    }

    /// Leaves all rooms that this device is in (reference: `leaveAllRoom`). Other devices of the user stay in theirs. If the answer is
    /// lost when the device already knows that it is out of all of them, the call succeeds.
    pub fn leave_all_room(&self) -> impl Future<Output = Result<RoomAllLeftResult, Error>> + Send + 'static + use<> {
        let left = self.account().map(|account| {
            let leaving = account.rooms().begin_leaving_all();
            let response = account.send_request(LeaveAllRoomRequest {});
            let of = Arc::clone(&account);
            account.own(async move {
                let answer = response.await;
                let (answer, unclear) = of.rooms().have_left_all(&leaving, answer, |event| of.raise(event));
                for room_id in unclear {
                    of.resume_room(&room_id);
                }
                answer
            })
        });
        async move { left?.await }
    }

    /// Returns a page of the members of a room that the user is in, in the order in which they entered (reference:
    /// `queryRoomMemberList`). Of a large room, the list has the first 500.
    ///
    /// # Errors
    /// 6000322: there is no such room. 6000321: the user is not in it. 6000001: `count` is not 1 to 100.
    pub fn query_room_member_list(
        &self,
        room_id: &str,
        config: RoomMemberQueryConfig,
    ) -> impl Future<Output = Result<RoomMemberQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryRoomMemberListRequest { room_id: room_id.to_owned(), config: Some(config) })
    }

    /// Returns those of up to ten users who are in a room that the user is in (reference: `queryRoomMembers`). The result lists the
    /// others with 6000321.
    ///
    /// # Errors
    /// 6000311: none of them is. 6000322: there is no such room. 6000321: the user is not in it.
    pub fn query_room_members<I>(
        &self,
        user_ids: I,
        room_id: &str,
    ) -> impl Future<Output = Result<RoomMembersQueriedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = strings(user_ids);
        self.call(QueryRoomMembersRequest { user_ids, room_id: room_id.to_owned() })
    }

    /// Returns how many members of a room are online, for its members (reference: `queryRoomOnlineMemberCount`). A member whose
    /// connection is away does not count until it is back.
    ///
    /// # Errors
    /// 6000322: there is no such room. 6000321: the user is not in it.
    pub fn query_room_online_member_count(
        &self,
        room_id: &str,
    ) -> impl Future<Output = Result<RoomOnlineMemberCountQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryRoomOnlineMemberCountRequest { room_id: room_id.to_owned() })
    }

    /// Sets attributes of a room, for its members; the others stay (reference: `setRoomAttributes`). An attribute belongs to the user
    /// who sets it first; others change it with `isForce` only. The result lists the keys that could not be set. All members, this
    /// device included, get `roomAttributesUpdated`. After [`Zim::begin_room_attributes_batch_operation`] nothing is sent before the
    /// end of the batch, and the configuration of the batch counts.
    ///
    /// # Errors
    /// - 6000331: no attribute could be set: they belong to others.
    /// - 6000334 to 6000337: too many attributes, or a key, a value or all of them are too long.
    /// - 6000322: there is no such room. 6000321: the user is not in it.
    pub fn set_room_attributes(
        &self,
        room_attributes: HashMap<String, String>,
        room_id: &str,
        config: RoomAttributesSetConfig,
    ) -> impl Future<Output = Result<RoomAttributesOperatedResult, Error>> + Send + 'static + use<> {
        let action = RoomAttributesUpdateAction::Set as i32;
        let operation = RoomAttributesUpdateInfo { action, room_attributes: room_attributes.clone() };
        let room_id = room_id.to_owned();
        let request = SetRoomAttributesRequest { room_attributes, room_id: room_id.clone(), config: Some(config) };
        self.change_attributes(room_id, operation, request)
    }

    /// Removes attributes of a room, for its members (reference: `deleteRoomAttributes`). The result lists the keys that could not be
    /// removed. Batches hold it back as they do [`Zim::set_room_attributes`].
    ///
    /// # Errors
    /// 6000331: no attribute could be removed: they belong to others, or do not exist. 6000322: there is no such room. 6000321: the
    /// user is not in it.
    pub fn delete_room_attributes<I>(
        &self,
        keys: I,
        room_id: &str,
        config: RoomAttributesDeleteConfig,
    ) -> impl Future<Output = Result<RoomAttributesOperatedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let keys = strings(keys);
        let action = RoomAttributesUpdateAction::Delete as i32;
        let room_attributes = keys.iter().map(|key| (key.clone(), String::new())).collect();
        let operation = RoomAttributesUpdateInfo { action, room_attributes };
        let room_id = room_id.to_owned();
        let request = DeleteRoomAttributesRequest { keys, room_id: room_id.clone(), config: Some(config) };
        self.change_attributes(room_id, operation, request)
    }

    /// Begins a batch (reference: `beginRoomAttributesBatchOperation`): what is set and removed from now on happens at its end, as one
    /// change. A batch that does not end has no effect.
    ///
    /// # Errors
    /// 6000330: one has begun already. 6000321: the device is not in the room.
    pub fn begin_room_attributes_batch_operation(
        &self,
        room_id: &str,
        config: RoomAttributesBatchOperationConfig,
    ) -> Result<(), Error> {
        self.account()?.rooms().begin_batch(room_id, config)
    }

    /// Ends a batch (reference: `endRoomAttributesBatchOperation`): all of it happens, or nothing. The members get one event:
    /// `roomAttributesUpdated`, or `roomAttributesBatchUpdated` if attributes were both set and removed.
    ///
    /// # Errors
    /// 6000330: none has begun. Otherwise those of [`Zim::set_room_attributes`], for which one attribute is enough that belongs to another
    /// user, or that is to be removed and does not exist.
    pub fn end_room_attributes_batch_operation(
        &self,
        room_id: &str,
    ) -> impl Future<Output = Result<RoomAttributesBatchOperatedResult, Error>> + Send + 'static + use<> {
        let ended = self.account().and_then(|account| account.rooms().end_batch(room_id));
        let answer = ended.map(|(config, operations)| {
            let room_id = room_id.to_owned();
            self.call(EndRoomAttributesBatchOperationRequest { room_id, config: Some(config), operations })
        });
        async move { answer?.await }
    }

    /// Returns all attributes of a room, for its members (reference: `queryRoomAllAttributes`).
    ///
    /// # Errors
    /// 6000322: there is no such room. 6000321: the user is not in it.
    pub fn query_room_all_attributes(
        &self,
        room_id: &str,
    ) -> impl Future<Output = Result<RoomAttributesQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryRoomAllAttributesRequest { room_id: room_id.to_owned() })
    }

    /// Sets attributes of up to 100 members, for members; their others stay (reference: `setRoomMembersAttributes`). All members, this
    /// device included, get `roomMemberAttributesUpdated`; in a room with more than 500, only this user and those whose attributes they
    /// are. The attributes are removed when their user leaves, unless `isDeleteAfterOwnerLeft` is false: then they return with the user.
    ///
    /// # Errors
    /// - 6000352, 6000353: a key has more than 8 bytes, or a value more than 64.
    /// - 6000351: a member would have more than 144 bytes. 6000350: or more than 30 attributes.
    /// - 6000357: 500 members have attributes already.
    /// - 6000005: attributes of members were set too often in this room.
    /// - 6000322: there is no such room. 6000321: the user is not in it, or none of the members is.
    pub fn set_room_members_attributes<I>(
        &self,
        attributes: HashMap<String, String>,
        user_ids: I,
        room_id: &str,
        config: RoomMemberAttributesSetConfig,
    ) -> impl Future<Output = Result<RoomMembersAttributesOperatedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = strings(user_ids);
        let room_id = room_id.to_owned();
        self.call(SetRoomMembersAttributesRequest { attributes, user_ids, room_id, config: Some(config) })
    }

    /// Returns the attributes of up to 100 members, for members (reference: `queryRoomMembersAttributes`). Users who are not in the room
    /// are left out.
    ///
    /// # Errors
    /// 6000005: asked too often. 6000322: there is no such room. 6000321: the user is not in it.
    pub fn query_room_members_attributes<I>(
        &self,
        user_ids: I,
        room_id: &str,
    ) -> impl Future<Output = Result<RoomMembersAttributesQueriedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = strings(user_ids);
        self.call(QueryRoomMembersAttributesRequest { user_ids, room_id: room_id.to_owned() })
    }

    /// Returns a page of the members who have attributes, for members (reference: `queryRoomMemberAttributesList`).
    ///
    /// # Errors
    /// 6000005: asked too often. 6000322: there is no such room. 6000321: the user is not in it.
    pub fn query_room_member_attributes_list(
        &self,
        room_id: &str,
        config: RoomMemberAttributesQueryConfig,
    ) -> impl Future<Output = Result<RoomMemberAttributesListQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryRoomMemberAttributesListRequest { room_id: room_id.to_owned(), config: Some(config) })
    }

    /// Enters a room, and leaves another one if there is one to leave.
    fn enter<R: Rpc + Send + Sync, F: Fn(u64) -> R + 'static>(
        &self,
        rooms: (RoomInfo, Option<String>),
        entering: Entering,
        request: F,
        info_of: fn(R::Response) -> Option<RoomFullInfo>,
    ) -> impl Future<Output = Result<RoomFullInfo, Error>> + Send + 'static + use<R, F>
    where
        R::Response: Send,
    {
        let entered = self.account().and_then(|account| enter(&account, rooms, entering, request, info_of));
        async move { entered?.await }
    }

    /// Changes attributes of a room: now, or with the batch that has begun.
    fn change_attributes<R>(
        &self,
        room_id: String,
        operation: RoomAttributesUpdateInfo,
        request: R,
    ) -> impl Future<Output = Result<RoomAttributesOperatedResult, Error>> + Send + 'static + use<R>
    where
        R: Rpc<Response = RoomAttributesOperatedResult> + Send + Sync,
    {
        let is_held = request
            .validate()
            .map_err(Error::from)
            .and_then(|()| Ok(self.account()?.rooms().add_to_batch(&room_id, operation)));
        let answer = is_held.map(|is_held| (!is_held).then(|| self.call(request)));
        async move {
            match answer? {
                Some(answer) => answer.await,
                None => Ok(RoomAttributesOperatedResult { room_id, error_keys: Vec::new() }),
            }
        }
    }
}

/// Enters a room. The states are reported here, so that they come in the order of what happened.
pub(crate) fn enter<L: Remote, R: Rpc + Send + Sync, F: Fn(u64) -> R + 'static>(
    account: &Arc<Account<L>>,
    (room_info, leaving): (RoomInfo, Option<String>),
    entering: Entering,
    request: F,
    info_of: fn(R::Response) -> Option<RoomFullInfo>,
) -> Result<impl Future<Output = Result<RoomFullInfo, Error>> + Send + 'static + use<L, R, F>, Error>
where
    R::Response: Send,
{
    // A wrong parameter is no attempt to enter.
    request(0).validate()?;
    let raise = |event| account.raise(event);
    let entered = match account.rooms().begin((room_info.clone(), leaving.as_deref()), entering, raise)? {
        Start::Inside(info) => {
            let left = leaving.filter(|left| *left != room_info.room_id);
            Err((info, left.map(|left| leave(account, (&left, None))).transpose()?.flatten()))
        }
        Start::Request(entry, stay) => {
            let response = account.send_request(request(entry));
            let of = Arc::clone(account);
            Ok(account.own(async move {
                let answer = match response.await {
                    Ok(result) => Ok(info_of(result).unwrap_or_default()),
                    Err(error) if error.code() == ErrorCode::RoomModuleUserIsAlreadyInTheRoom => {
                        resumed(&of, room_info.clone(), entry).await.ok_or(error)
                    }
                    Err(error) => Err(error),
                };
                let raise = |event| of.raise(event);
                let answered = of.rooms().answered((&room_info.room_id, entry), answer.as_ref(), raise);
                if answered.resumes {
                    of.resume_room(&room_info.room_id);
                }
                if answered.leaves {
                    of.leave_stray(&room_info.room_id, leaving.as_deref());
                }
                if let (Some(left), Some(stay)) = (leaving, stay) {
                    let switched = answer.as_ref().map(drop);
                    left_behind(&of, (&left, stay), switched, answered.inside.is_some()).await?;
                }
                answered.inside.map_or(answer, Ok)
            }))
        }
    };
    Ok(async move {
        match entered {
            Ok(entered) => entered.await,
            Err((info, left)) => {
                if let Some(left) = left {
                    left.await?;
                }
                Ok(info)
            }
        }
    })
}

/// Handles what the answer to a request to switch says about the room to leave, in which the device had this `stay`. `is_inside`: the
/// device is in the other room, whatever the answer.
async fn left_behind<L: Remote>(
    of: &Arc<Account<L>>,
    (left, stay): (&str, u64),
    switched: Result<(), &Error>,
    is_inside: bool,
) -> Result<(), Error> {
    match switched {
        Ok(()) => drop(of.rooms().has_left((left, stay), None, |event| of.raise(event))),
        // The device has entered one room, and may still be in the other one. If it cannot leave it now, it stays in both, and the app
        // learns that the switch has failed. A later stay in that room is not what it was to leave.
        Err(_) if is_inside => {
            let Some(leaving) = leave(of, (left, Some(stay)))? else { return Ok(()) };
            if let Err(error) = leaving.await
                && !is_out_of_room(&error)
            {
                return Err(error);
            }
        }
        // The server may have let the device out of it.
        Err(error) if is_network(error) => of.resume_room(left),
        Err(_) => {}
    }
    Ok(())
}

/// Asks the server to leave a room, or `only` one stay in it, unless that needs no server.
pub(crate) fn leave<L: Remote>(
    account: &Arc<Account<L>>,
    (room_id, only): (&str, Option<u64>),
) -> Result<Option<impl Future<Output = Result<(), Error>> + Send + 'static + use<L>>, Error> {
    let request = LeaveRoomRequest { room_id: room_id.to_owned() };
    request.validate()?;
    let raise = |event| account.raise(event);
    let begun = account.rooms().begin_leaving((room_id, only), account.is_online(), raise)?;
    let Some(stay) = begun else { return Ok(None) };
    let response = account.send_request(request);
    let (of, room_id) = (Arc::clone(account), room_id.to_owned());
    Ok(Some(account.own(async move {
        let left = response.await.map(drop);
        if of.rooms().has_left((&room_id, stay), left.as_ref().err(), |event| of.raise(event)) {
            of.resume_room(&room_id);
        }
        match left {
            // The push of the exit has come, and the answer was lost.
            Err(error) if of.rooms().is_over((&room_id, stay), &error) => Ok(()),
            left => left,
        }
    })))
}

/// The device is in the room already: an earlier answer of the server was lost. Asks for its pushes.
async fn resumed<L: Remote>(account: &Account<L>, info: RoomInfo, entry_number: u64) -> Option<RoomFullInfo> {
    let room = RoomRef { room_id: info.room_id.clone(), number: 0, entry_number };
    let answer = account.send_request(ResumeRoomsRequest { rooms: vec![room] }).await;
    answer.is_ok_and(|resumed| resumed.lost.is_empty()).then_some(RoomFullInfo { base_info: Some(info) })
}
