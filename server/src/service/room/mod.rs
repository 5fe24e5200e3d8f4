//! Rooms: who is in them, and their attributes. A device is in a room, and leaves it when its connection stays away. A room ends
//! when its last member has left; its ID may name another one then, so a room is known by its key and never by its ID.

mod attributes;
mod history;
mod membership;
mod operator;
mod rules;
mod store;
mod tasks;

use std::sync::Arc;

use zim_protocol::{
    ConversationRef, ConversationType, CreateRoomRequest, DeleteRoomAttributesRequest,
    EndRoomAttributesBatchOperationRequest, EnterRoomRequest, ErrorCode, JoinRoomRequest, LeaveAllRoomRequest,
    LeaveRoomRequest, LostRoom, QueryRoomAllAttributesRequest, QueryRoomMemberAttributesListRequest,
    QueryRoomMemberListRequest, QueryRoomMembersAttributesRequest, QueryRoomMembersRequest,
    QueryRoomOnlineMemberCountRequest, ResumeRoomsRequest, RoomAdvancedConfig, RoomAllLeftResult,
    RoomAttributesBatchOperatedResult, RoomAttributesOperatedResult, RoomAttributesQueriedResult,
    RoomAttributesUpdateAction, RoomAttributesUpdateInfo, RoomCreatedResult, RoomEnteredResult, RoomEvent,
    RoomFullInfo, RoomJoinedResult, RoomLeftResult, RoomMemberAttributesInfo, RoomMemberAttributesListQueriedResult,
    RoomMemberInfo, RoomMemberQueriedResult, RoomMembersAttributesOperatedResult, RoomMembersAttributesQueriedResult,
    RoomMembersQueriedResult, RoomOnlineMemberCountQueriedResult, RoomRef, RoomSwitchedResult,
    SetRoomAttributesRequest, SetRoomMembersAttributesRequest, SwitchRoomRequest, server::RoomService,
};

pub(crate) use self::history::{ROOM_HISTORY, hand_over, viewer};
use self::membership::{NewRoom, Room, RoomLimits};
use self::rules::How;
pub(crate) use self::store::{rev, rev_for_member};
pub(crate) use self::tasks::{LOST_ROOM_MEMBERS, ROOM_END, ROOM_MEMBERS_LEAVE, ROOM_MEMBERS_LOST};
use crate::app::App;
use crate::connection::{Caller, ConnectionState, Identity, WriteTo};
use crate::db::{Scope, Tx};
use crate::error::{Error, LeftOut};
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};

/// The members of a large room that the list has, as in the reference.
const MAX_LISTED: i64 = 500;

impl RoomService for App {
    async fn create_room(&self, caller: &Caller, request: CreateRoomRequest) -> Result<RoomCreatedResult, Error> {
        let info = request.room_info.unwrap_or_default();
        let config = request.config.unwrap_or_default();
        self.device_of(caller)?.ok_or_else(Error::new_room_needs_device)?;
        let new = (info.room_name, config);
        let created = self.make_room(caller, (&info.room_id, request.entry_number), None, new).await?;
        let room_info = created.ok_or_else(|| Error::room_exists(&info.room_id))?;
        Ok(RoomCreatedResult { room_info: Some(room_info) })
    }

    async fn join_room(&self, caller: &Caller, request: JoinRoomRequest) -> Result<RoomJoinedResult, Error> {
        let joined = self.enter(caller, (&request.room_id, request.entry_number), None, None).await?;
        Ok(RoomJoinedResult { room_info: Some(joined) })
    }

    async fn enter_room(&self, caller: &Caller, request: EnterRoomRequest) -> Result<RoomEnteredResult, Error> {
        let info = request.room_info.unwrap_or_default();
        let new = Some((info.room_name, request.config.unwrap_or_default()));
        let entered = self.enter(caller, (&info.room_id, request.entry_number), None, new).await?;
        Ok(RoomEnteredResult { room_info: Some(entered) })
    }

    async fn switch_room(&self, caller: &Caller, request: SwitchRoomRequest) -> Result<RoomSwitchedResult, Error> {
        let info = request.to_room_info.unwrap_or_default();
        let from_id = request.from_room_id;
        if from_id == info.room_id {
            return Err(Error::params_invalid("fromRoomID and toRoomInfo name the same room"));
        }
        let from = self.find_room(caller, &from_id).await?;
        let (key, me, id) = (from.key, from.me, from_id.clone());
        let device = self.device_of(caller)?;
        let member = self.db.read(async move |tx| store::member(tx, key, me).await).await?;
        member.filter(|member| Some(member.device) == device).ok_or_else(|| Error::not_in_room(&id))?;
        let config = request.config.unwrap_or_default();
        let new = request.is_create_when_room_not_existed.then_some((info.room_name, config));
        let entered = self.enter(caller, (&info.room_id, request.entry_number), Some(key), new).await?;
        // It may have ended meanwhile.
        self.leave(caller, from, device).await?;
        Ok(RoomSwitchedResult { room_info: Some(entered) })
    }

    async fn leave_room(&self, caller: &Caller, request: LeaveRoomRequest) -> Result<RoomLeftResult, Error> {
        let room = self.find_room(caller, &request.room_id).await?;
        let device = self.device_of(caller)?;
        if !self.leave(caller, room, device).await? {
            return Err(Error::not_in_room(&request.room_id));
        }
        Ok(RoomLeftResult { room_id: request.room_id })
    }

    async fn leave_all_room(&self, caller: &Caller, _: LeaveAllRoomRequest) -> Result<RoomAllLeftResult, Error> {
        let (me, device) = (caller.identity()?.user, self.device_of(caller)?);
        let rooms = self.db.read(async move |tx| store::rooms(tx, me, device).await).await?;
        let mut room_ids = Vec::with_capacity(rooms.len());
        for (key, room_id) in rooms {
            let room = self.room(caller, key, &room_id)?;
            if self.leave(caller, room, device).await? {
                room_ids.push(room_id);
            }
        }
        Ok(RoomAllLeftResult { room_ids })
    }

    async fn query_room_member_list(
        &self,
        caller: &Caller,
        request: QueryRoomMemberListRequest,
    ) -> Result<RoomMemberQueriedResult, Error> {
        let config = request.config.unwrap_or_default();
        let page = (flag(&config.next_flag)?, usize::try_from(config.count).map_err(Error::internal)?);
        let (member_list, last) = self
            .read_room(caller, &request.room_id, async move |tx, room| {
                store::members(tx, room.key, page, MAX_LISTED).await
            })
            .await?;
        Ok(RoomMemberQueriedResult { room_id: request.room_id, member_list, next_flag: next_flag(last) })
    }

    async fn query_room_members(
        &self,
        caller: &Caller,
        request: QueryRoomMembersRequest,
    ) -> Result<RoomMembersQueriedResult, Error> {
        let mut named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        let keys = named.keys();
        let mut found = self
            .read_room(caller, &request.room_id, async move |tx, room| store::members_among(tx, room.key, &keys).await)
            .await?;
        named.leave_out(|user, user_id| (!found.contains_key(&user)).then(|| Error::not_a_room_member(user_id)));
        if named.found.is_empty() {
            return Err(Error::no_such_room_members());
        }
        let info = |user: &UserKey| {
            let user = found.remove(user)?;
            Some(RoomMemberInfo {
                user_id: user.user_id,
                user_name: user.user_name,
                user_avatar_url: user.user_avatar_url,
                user_extended_data: user.user_extended_data,
            })
        };
        let member_list = named.keys().iter().filter_map(info).collect();
        Ok(RoomMembersQueriedResult {
            room_id: request.room_id,
            member_list,
            error_user_list: named.left_out.finish(1)?,
        })
    }

    async fn query_room_online_member_count(
        &self,
        caller: &Caller,
        request: QueryRoomOnlineMemberCountRequest,
    ) -> Result<RoomOnlineMemberCountQueriedResult, Error> {
        let count =
            self.read_room(caller, &request.room_id, async move |tx, room| store::online_count(tx, room.key).await);
        Ok(RoomOnlineMemberCountQueriedResult { count: count.await?, room_id: request.room_id })
    }

    async fn set_room_attributes(
        &self,
        caller: &Caller,
        request: SetRoomAttributesRequest,
    ) -> Result<RoomAttributesOperatedResult, Error> {
        let config = request.config.unwrap_or_default();
        let how = How {
            is_force: config.is_force,
            goes_with_owner: config.is_delete_after_owner_left,
            updates_owner: config.is_update_owner,
        };
        let action = RoomAttributesUpdateAction::Set as i32;
        let set = RoomAttributesUpdateInfo { action, room_attributes: request.room_attributes };
        let error_keys = self.change_attributes(caller, &request.room_id, vec![set], (how, false)).await?;
        Ok(RoomAttributesOperatedResult { room_id: request.room_id, error_keys })
    }

    async fn delete_room_attributes(
        &self,
        caller: &Caller,
        request: DeleteRoomAttributesRequest,
    ) -> Result<RoomAttributesOperatedResult, Error> {
        let how = How { is_force: request.config.unwrap_or_default().is_force, ..How::default() };
        let action = RoomAttributesUpdateAction::Delete as i32;
        let room_attributes = request.keys.into_iter().map(|key| (key, String::new())).collect();
        let removed = RoomAttributesUpdateInfo { action, room_attributes };
        let error_keys = self.change_attributes(caller, &request.room_id, vec![removed], (how, false)).await?;
        Ok(RoomAttributesOperatedResult { room_id: request.room_id, error_keys })
    }

    async fn end_room_attributes_batch_operation(
        &self,
        caller: &Caller,
        request: EndRoomAttributesBatchOperationRequest,
    ) -> Result<RoomAttributesBatchOperatedResult, Error> {
        let config = request.config.unwrap_or_default();
        let how = How {
            is_force: config.is_force,
            goes_with_owner: config.is_delete_after_owner_left,
            updates_owner: config.is_update_owner,
        };
        self.change_attributes(caller, &request.room_id, request.operations, (how, true)).await?;
        Ok(RoomAttributesBatchOperatedResult { room_id: request.room_id })
    }

    async fn query_room_all_attributes(
        &self,
        caller: &Caller,
        request: QueryRoomAllAttributesRequest,
    ) -> Result<RoomAttributesQueriedResult, Error> {
        let found =
            self.read_room(caller, &request.room_id, async move |tx, room| store::attributes(tx, room.key).await);
        let room_attributes = found.await?.into_iter().map(|(key, attribute)| (key, attribute.value)).collect();
        Ok(RoomAttributesQueriedResult { room_id: request.room_id, room_attributes })
    }

    async fn set_room_members_attributes(
        &self,
        caller: &Caller,
        request: SetRoomMembersAttributesRequest,
    ) -> Result<RoomMembersAttributesOperatedResult, Error> {
        let room = self.find_room(caller, &request.room_id).await?;
        let named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        // The allowance is that of the room: only who is in it takes from it.
        let asking = room.clone();
        self.db.read(async move |tx| asking.check_member(tx).await).await?;
        self.room_rates.change_members(room.key, room.steady_ms).map_err(Error::too_fast)?;
        let goes_with_owner = request.config.unwrap_or_default().is_delete_after_owner_left.unwrap_or(true);
        let users = (caller.identity()?.user_id.to_string(), named.found);
        let attributes = request.attributes;
        let target = write_to(&room);
        let set = caller.write(&self.db, target, async move |tx, _| {
            room.set_member_attributes(tx, users, attributes, goes_with_owner).await
        });
        let outcome = set.await?;
        let mut left_out: LeftOut = named.left_out;
        outcome.refused.into_iter().for_each(|(user_id, why)| left_out.add(user_id, why));
        let various = ErrorCode::RoomModuleRoomMemberAttributesCommonError;
        let refused = left_out.finish_or(outcome.infos.len(), various)?;
        Ok(RoomMembersAttributesOperatedResult {
            room_id: request.room_id,
            infos: outcome.infos,
            error_user_list: refused.into_iter().map(|refused| refused.user_id).collect(),
        })
    }

    async fn query_room_members_attributes(
        &self,
        caller: &Caller,
        request: QueryRoomMembersAttributesRequest,
    ) -> Result<RoomMembersAttributesQueriedResult, Error> {
        let named = self.resolve_users(caller, request.user_ids, Error::user_not_found).await?;
        let users = named.found;
        let infos = self.query_member_attributes(caller, &request.room_id, async move |tx, room| {
            let keys: Vec<UserKey> = users.iter().map(|(user, _)| *user).collect();
            let members = store::members_among(tx, room.key, &keys).await?;
            let mut found = store::member_attributes(tx, room.key, &keys).await?;
            let members = users.into_iter().filter(|(user, _)| members.contains_key(user));
            Ok(members
                .map(|(user, user_id)| RoomMemberAttributesInfo {
                    user_id,
                    attributes: found.remove(&user).unwrap_or_default().into_iter().collect(),
                })
                .collect())
        });
        Ok(RoomMembersAttributesQueriedResult { infos: infos.await?, room_id: request.room_id })
    }

    async fn query_room_member_attributes_list(
        &self,
        caller: &Caller,
        request: QueryRoomMemberAttributesListRequest,
    ) -> Result<RoomMemberAttributesListQueriedResult, Error> {
        let config = request.config.unwrap_or_default();
        let page = (flag(&config.next_flag)?, config.count);
        let found = self.query_member_attributes(caller, &request.room_id, async move |tx, room| {
            store::members_with_attributes(tx, room.key, page).await
        });
        let (infos, last) = found.await?;
        Ok(RoomMemberAttributesListQueriedResult { room_id: request.room_id, infos, next_flag: next_flag(last) })
    }
}

/// Reads a `nextFlag`: the place of the last member on the page before; 0: there is none.
fn flag(flag: &str) -> Result<i64, Error> {
    let place = if flag.is_empty() { Some(0) } else { flag.parse().ok().filter(|place| *place >= 0) };
    place.ok_or_else(|| Error::params_invalid("config.nextFlag is not that of a page before"))
}

/// Returns the `nextFlag` after a place; 0: there are no more members.
fn next_flag(last: i64) -> String {
    if last == 0 { String::new() } else { last.to_string() }
}

/// What a job changes that makes a room.
fn making(room: &Room) -> Scope {
    // No ID contains a slash: the name of a room is never that of a user.
    let scope = Scope::name(room.app, &format!("room/{}", room.name)).makes(room.key);
    // The rooms of the app are counted: those who make one wait for each other.
    if room.limits.rooms > 0 { scope.and_name(room.app, "room/") } else { scope }
}

/// What a job about a room changes.
fn write_to(room: &Room) -> WriteTo {
    let name = ConversationRef { r#type: ConversationType::Room as i32, id: room.name.to_string() };
    WriteTo::conversation(Scope::conversation(room.key), name)
}

impl App {
    /// The device of the caller; `None` for a one-shot login, which is none.
    fn device_of(&self, caller: &Caller) -> Result<Option<[u8; 16]>, Error> {
        Ok(if caller.identity()?.one_shot { None } else { Some(caller.connection()?.device) })
    }

    fn room_limits(&self) -> RoomLimits {
        let limits = &self.config.limits;
        RoomLimits {
            members: limits.max_room_members.into(),
            of_user: limits.max_rooms_of_user.into(),
            rooms: limits.max_rooms.into(),
            told: limits.max_room_members_told.into(),
            grace_ms: limits.room_grace_ms.into(),
            keeps_history: self.config.rooms.history,
        }
    }

    fn room_of(
        &self,
        (app, key, name): (AppKey, ConversationKey, &str),
        (me, device, login): (UserKey, [u8; 16], LoginKey),
    ) -> Result<Room, Error> {
        Ok(Room {
            app,
            key,
            name: Arc::from(name),
            number: self.tenants.of(app)?.scrambler.public(key.0),
            me,
            device,
            login,
            entry_number: 0,
            limits: self.room_limits(),
            rates: Arc::clone(&self.room_rates),
            now: self.clock.now_ms(),
            steady_ms: self.clock.steady_ms(),
        })
    }

    fn room(&self, caller: &Caller, key: ConversationKey, room_id: &str) -> Result<Room, Error> {
        let identity = caller.identity()?;
        let device = self.device_of(caller)?.unwrap_or_default();
        self.room_of((identity.app, key, room_id), (identity.user, device, identity.login))
    }

    /// A room for which the server itself does something; `None` if it has ended.
    async fn own_room(&self, tx: &mut Tx<'_>, key: ConversationKey) -> Result<Option<Room>, Error> {
        let Some((app, room_id)) = store::name(tx, key).await? else { return Ok(None) };
        self.room_of((app, key, &room_id), (UserKey(0), [0; 16], LoginKey(0))).map(Some)
    }

    /// Returns the room that has this ID now.
    pub(crate) async fn room_key(&self, app: AppKey, room_id: &str) -> Result<Option<ConversationKey>, Error> {
        let name = room_id.to_owned();
        self.db.read(async move |tx| store::find(tx, app, &name).await).await
    }

    /// Returns the room that has this ID now, for a message to it, and whether what is said in it is kept.
    ///
    /// # Errors
    /// There is none, or the store fails.
    pub(crate) async fn room_to_write(&self, app: AppKey, room_id: &str) -> Result<(ConversationKey, bool), Error> {
        let name = room_id.to_owned();
        let found = self.db.read(async move |tx| store::find_to_write(tx, app, &name).await).await?;
        let (key, keeps_history) = found.ok_or_else(|| Error::room_not_found(room_id))?;
        Ok((key, keeps_history && self.config.rooms.history))
    }

    async fn find_room(&self, caller: &Caller, room_id: &str) -> Result<Room, Error> {
        let key = self.room_key(caller.identity()?.app, room_id).await?;
        self.room(caller, key.ok_or_else(|| Error::room_not_found(room_id))?, room_id)
    }

    /// Reads something of a room that the caller is in.
    async fn read_room<T: Send + 'static>(
        &self,
        caller: &Caller,
        room_id: &str,
        read: impl AsyncFnOnce(&mut Tx<'_>, Room) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let room = self.find_room(caller, room_id).await?;
        self.db
            .read(async move |tx| {
                room.check_member(tx).await?;
                read(tx, room).await
            })
            .await
    }

    /// Reads attributes of members, as often as that is allowed.
    async fn query_member_attributes<T: Send + 'static>(
        &self,
        caller: &Caller,
        room_id: &str,
        read: impl AsyncFnOnce(&mut Tx<'_>, Room) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let room = self.find_room(caller, room_id).await?;
        let rates = Arc::clone(&self.room_rates);
        self.db
            .read(async move |tx| {
                room.check_member(tx).await?;
                // The allowance is that of the room: only who is in it takes from it.
                rates.query_members(room.key, room.me, room.steady_ms).map_err(Error::too_fast)?;
                read(tx, room).await
            })
            .await
    }

    /// Creates a room with the caller in it. `leaving` is a room that they leave afterwards. `None`: there is such a room.
    async fn make_room(
        &self,
        caller: &Caller,
        (room_id, entry_number): (&str, u64),
        leaving: Option<ConversationKey>,
        (room_name, config): (String, RoomAdvancedConfig),
    ) -> Result<Option<RoomFullInfo>, Error> {
        let room = Room { entry_number, ..self.room(caller, ConversationKey(self.ids.next()), room_id)? };
        let new =
            NewRoom { room_name, destroy_delay: config.room_destroy_delay_time, attributes: config.room_attributes };
        let scope = making(&room).and_user(room.me);
        caller.write(&self.db, WriteTo::held(scope), async move |tx, _| room.create(tx, new, leaving).await).await
    }

    /// Lets the caller's device into a room, which is created if it does not exist and `new` says how. `leaving` is a room that it
    /// leaves afterwards.
    async fn enter(
        &self,
        caller: &Caller,
        (room_id, entry_number): (&str, u64),
        leaving: Option<ConversationKey>,
        new: Option<(String, RoomAdvancedConfig)>,
    ) -> Result<RoomFullInfo, Error> {
        self.device_of(caller)?.ok_or_else(Error::room_needs_device)?;
        let app = caller.identity()?.app;
        loop {
            let entered = match (self.room_key(app, room_id).await?, &new) {
                (Some(key), _) => {
                    let room = Room { entry_number, ..self.room(caller, key, room_id)? };
                    let is_here = caller.connection()?.rooms().iter().any(|(other, _)| *other == key);
                    // The number of the user's rooms is a matter of the user.
                    let scope = Scope::conversation(key).and_user(room.me);
                    let joining = caller.write(&self.db, WriteTo::held(scope), async move |tx, _| {
                        room.join(tx, (leaving, is_here)).await
                    });
                    joining.await?
                }
                (None, Some(new)) => self.make_room(caller, (room_id, entry_number), leaving, new.clone()).await?,
                (None, None) => return Err(Error::room_not_found(room_id)),
            };
            // Otherwise it has ended, or another user has created it, since it was looked for.
            if let Some(info) = entered {
                return Ok(info);
            }
        }
    }

    /// Lets the caller out. Returns false if they are not in the room with this device.
    async fn leave(&self, caller: &Caller, room: Room, device: Option<[u8; 16]>) -> Result<bool, Error> {
        let target = write_to(&room);
        caller.write(&self.db, target, async move |tx, _| room.leave(tx, device).await).await
    }

    async fn change_attributes(
        &self,
        caller: &Caller,
        room_id: &str,
        operations: Vec<RoomAttributesUpdateInfo>,
        how: (How, bool),
    ) -> Result<Vec<String>, Error> {
        let room = self.find_room(caller, room_id).await?;
        let target = write_to(&room);
        caller.write(&self.db, target, async move |tx, _| room.change_attributes(tx, operations, how).await).await
    }

    /// Lets the pushes of these rooms reach the caller's device again.
    pub(crate) async fn resume_rooms_of(
        &self,
        caller: &Caller,
        request: ResumeRoomsRequest,
    ) -> Result<Vec<LostRoom>, Error> {
        let device = self.device_of(caller)?.ok_or_else(Error::room_needs_device)?;
        let app = caller.identity()?.app;
        let mut lost = Vec::new();
        for RoomRef { room_id, number, entry_number } in request.rooms {
            let event = match self.room_key(app, &room_id).await? {
                None => Some(RoomEvent::RoomNotExist),
                Some(key) => {
                    let room = Room { entry_number, ..self.room(caller, key, &room_id)? };
                    let target = write_to(&room);
                    if number != 0 && number != room.number {
                        // Another room has the ID now. A backup that was restored may have put the device into it, which its client
                        // does not know.
                        caller.write(&self.db, target, async move |tx, _| room.leave(tx, Some(device)).await).await?;
                        Some(RoomEvent::RoomNotExist)
                    } else {
                        caller.write(&self.db, target, async move |tx, _| room.resume(tx).await).await?
                    }
                }
            };
            lost.extend(event.map(|event| LostRoom { room_id, event: event as i32 }));
        }
        Ok(lost)
    }

    /// Lets a device out of the rooms that its client does not name: an earlier run of the app was in them, or it has left them.
    pub(crate) async fn leave_other_rooms(
        &self,
        identity: &Identity,
        device: [u8; 16],
        named: &[String],
    ) -> Result<(), Error> {
        let me = identity.user;
        let rooms = self.db.read(async move |tx| store::rooms(tx, me, Some(device)).await).await?;
        for (key, room_id) in rooms.into_iter().filter(|(_, room_id)| !named.contains(room_id)) {
            let room = self.room_of((identity.app, key, &room_id), (me, device, identity.login))?;
            let scope = Scope::conversation(key);
            self.db.submit(scope, async move |tx| room.leave(tx, Some(device)).await).await?;
        }
        Ok(())
    }

    /// Handles the end of a connection whose device was in rooms: the device leaves them, at once or later unless it returns.
    pub(crate) fn lose_rooms(&self, connection: &ConnectionState) {
        let Some(identity) = connection.identity() else { return };
        let is_final = connection.is_logged_out() || connection.queue.is_final();
        for (key, room_id) in connection.rooms() {
            let of = (identity.user, connection.device, identity.login);
            let Ok(room) = self.room_of((identity.app, key, &room_id), of) else { continue };
            // If the job fails, the next look for lost members finds the device.
            drop(self.db.submit(Scope::conversation(key), async move |tx| room.lose(tx, is_final).await));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On SQLite nothing waits anyway, so no other test would notice.
    #[test]
    fn those_who_make_rooms_wait_for_each_other_if_rooms_are_limited() {
        let making_with = |rooms: i64| {
            let limits =
                RoomLimits { members: 500, of_user: 5, rooms, told: 500, grace_ms: 30_000, keeps_history: false };
            making(&Room {
                app: AppKey(7),
                key: ConversationKey(1),
                name: Arc::from("stage"),
                number: 1,
                me: UserKey(1),
                device: [1; 16],
                login: LoginKey(1),
                entry_number: 1,
                limits,
                rates: Arc::default(),
                now: 0,
                steady_ms: 0,
            })
        };
        for (rooms, waits) in [(0, false), (1, true), (1_000, true)] {
            let scope = making_with(rooms);
            assert_eq!(scope.has_name(AppKey(7), "room/"), waits, "{rooms}");
            assert!(scope.has_name(AppKey(7), "room/stage") && !scope.has_name(AppKey(8), "room/"));
        }
    }
}
