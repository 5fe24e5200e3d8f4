//! What the operator does with rooms. They may be in none of them.

use zim_protocol::{
    CreateServerRoomRequest, ListRoomMembersRequest, ListRoomMembersResult, ListRoomsRequest, ListRoomsResult,
    RoomEvent, RoomFullInfo,
};

use super::membership::NewRoom;
use super::{making, store};
use crate::app::App;
use crate::connection::{Caller, WriteTo};
use crate::db::Scope;
use crate::error::Error;
use crate::key::{ConversationKey, LoginKey, UserKey};
use crate::service::rows::{operators_count, operators_place};
use crate::tenant::Tenant;

impl App {
    /// Creates a room for the operator, without members. Attributes are those of `user`.
    pub(crate) async fn create_empty_room(
        &self,
        user: &Caller,
        request: CreateServerRoomRequest,
    ) -> Result<RoomFullInfo, Error> {
        let CreateServerRoomRequest { room_id, room_name, config, .. } = request;
        let config = config.unwrap_or_default();
        let room = self.room(user, ConversationKey(self.ids.next()), &room_id)?;
        let new =
            NewRoom { room_name, destroy_delay: config.room_destroy_delay_time, attributes: config.room_attributes };
        let scope = making(&room);
        let made = user.write(&self.db, WriteTo::held(scope), async move |tx, _| room.create_empty(tx, new).await);
        made.await?.ok_or_else(|| Error::room_exists(&room_id))
    }

    /// Ends a room for the operator. Returns how many users were in it.
    pub(crate) async fn destroy_room(&self, tenant: &Tenant, room_id: &str) -> Result<usize, Error> {
        let key = self.room_key(tenant.key, room_id).await?.ok_or_else(|| Error::room_not_found(room_id))?;
        let room = self.room_of((tenant.key, key, room_id), (UserKey(0), [0; 16], LoginKey(0)))?;
        self.db.submit(Scope::conversation(key), async move |tx| room.destroy(tx).await).await
    }

    /// Returns a page of the rooms of an app, for the operator.
    pub(crate) async fn rooms_of(&self, tenant: &Tenant, request: ListRoomsRequest) -> Result<ListRoomsResult, Error> {
        let (app, after) = (tenant.key, request.after);
        let count = operators_count(request.count);
        let found = self.db.read(async move |tx| store::rooms_of_app(tx, app, &after, count).await).await?;
        let (rooms, is_more) = found;
        let next = rooms.last().filter(|_| is_more).map(|last| last.room_id.clone()).unwrap_or_default();
        Ok(ListRoomsResult { rooms, next })
    }

    /// Returns a page of the users who are in a room, for the operator.
    pub(crate) async fn members_of_room(
        &self,
        tenant: &Tenant,
        request: ListRoomMembersRequest,
    ) -> Result<ListRoomMembersResult, Error> {
        let page = (operators_place(&request.after, 0)?, operators_count(request.count));
        let room_id = request.room_id;
        let key = self.room_key(tenant.key, &room_id).await?.ok_or_else(|| Error::room_not_found(&room_id))?;
        self.db.read(async move |tx| store::member_rows(tx, key, page).await).await
    }

    /// Removes users from a room for the operator. Returns those who were in it.
    pub(crate) async fn kick_from_room(
        &self,
        tenant: &Tenant,
        room_id: &str,
        user_ids: Vec<String>,
    ) -> Result<Vec<String>, Error> {
        let app = tenant.key;
        let key = self.room_key(app, room_id).await?.ok_or_else(|| Error::room_not_found(room_id))?;
        let mut users = Vec::with_capacity(user_ids.len());
        for user_id in user_ids {
            let user = self.user_key(app, &user_id).await?.ok_or_else(|| Error::user_not_found(&user_id))?;
            users.push((user, user_id));
        }
        let room = self.room_of((app, key, room_id), (UserKey(0), [0; 16], LoginKey(0)))?;
        let kicked = self.db.submit(Scope::conversation(key), async move |tx| {
            let (mut members, mut kicked) = (Vec::new(), Vec::new());
            for (user, user_id) in users {
                if let Some(member) = store::member(tx, room.key, user).await?
                    && members.iter().all(|(other, _)| *other != user)
                {
                    members.push((user, member));
                    kicked.push(user_id);
                }
            }
            if !members.is_empty() {
                room.exit(tx, &members, RoomEvent::KickedOut).await?;
            }
            Ok(kicked)
        });
        kicked.await
    }
}
