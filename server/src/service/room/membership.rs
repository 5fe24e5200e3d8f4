//! The jobs that let devices into a room and out of it. The room is in their scope, and they alone are: what they hand over keeps
//! the order of the room.

use std::collections::HashMap;
use std::sync::Arc;

use zim_protocol::{
    RoomAttributesChange, RoomEntrance, RoomEvent, RoomExit, RoomFullInfo, RoomMemberChange, RoomMembersChange,
    room_push::Detail,
};

use super::history;
use super::rules::{self, Attributes};
use super::store::{self, Head, Member};
use super::tasks::{ROOM_END, ROOM_MEMBERS_LEAVE};
use crate::db::Tx;
use crate::effect::{Effect, GroupStay, RoomEffect, RoomReceivers};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};
use crate::room_rates::RoomRates;
use crate::task;

/// How long a room that the operator has made waits for its first member, at least.
const UNUSED_MS: i64 = 3_600_000;

/// A room, and who asks for something in it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) app: AppKey,
    pub(super) key: ConversationKey,
    pub(super) name: Arc<str>,
    /// What tells it from others that had its ID.
    pub(super) number: i64,
    /// Who asks; 0: the server itself.
    pub(super) me: UserKey,
    pub(super) device: [u8; 16],
    pub(super) login: LoginKey,
    /// What the client calls the request to enter.
    pub(super) entry_number: u64,
    pub(super) limits: RoomLimits,
    pub(super) rates: Arc<RoomRates>,
    pub(super) now: i64,
    pub(super) steady_ms: i64,
}

/// The settings of the server about rooms.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomLimits {
    pub(super) members: i64,
    pub(super) of_user: i64,
    pub(super) rooms: i64,
    pub(super) told: i64,
    pub(super) grace_ms: i64,
    /// What is said in new rooms is kept.
    pub(super) keeps_history: bool,
}

/// What a user who creates a room says about it.
#[derive(Debug)]
pub(super) struct NewRoom {
    pub(super) room_name: String,
    pub(super) destroy_delay: i64,
    pub(super) attributes: HashMap<String, String>,
}

impl Room {
    fn id(&self) -> &str {
        &self.name
    }

    /// Reads the head of the room, whose row the job holds.
    pub(super) async fn head(&self, tx: &mut Tx<'_>) -> Result<Head, Error> {
        store::head(tx, self.key).await?.ok_or_else(|| Error::room_not_found(self.id()))
    }

    /// Checks that the caller is in the room, with any device.
    pub(super) async fn check_member(&self, tx: &mut Tx<'_>) -> Result<Head, Error> {
        let head = self.head(tx).await?;
        store::member(tx, self.key, self.me).await?.ok_or_else(|| Error::not_in_room(self.id()))?;
        Ok(head)
    }

    /// Tells devices in the room what happened.
    pub(super) fn tell(&self, tx: &mut Tx<'_>, rev: i64, to: RoomReceivers, detail: Detail) {
        let effect =
            RoomEffect { conversation: self.key, name: Arc::clone(&self.name), number: self.number, rev, to, detail };
        tx.emit(Effect::Room(Arc::new(effect)));
    }

    fn tell_stay(&self, tx: &mut Tx<'_>, (user, device): (UserKey, [u8; 16]), from: i64, to: Option<i64>) {
        let stay =
            GroupStay { from_seq: 0, entered_seq: 0, from_rev: from, to: to.map(|to| (0, to)), is_return: false };
        let (conversation, name) = (self.key, Arc::clone(&self.name));
        tx.emit(Effect::RoomStay { user, device, conversation, name, stay });
    }

    /// Creates the room and lets the caller in. `leaving` is a room that they leave afterwards.
    pub(super) async fn create(
        self,
        tx: &mut Tx<'_>,
        new: NewRoom,
        leaving: Option<ConversationKey>,
    ) -> Result<Option<RoomFullInfo>, Error> {
        if store::find(tx, self.app, self.id()).await?.is_some() {
            return Ok(None);
        }
        self.check_rooms(tx, leaving).await?;
        let room_name = self.make(tx, new).await?;
        Ok(Some(self.let_in(tx, room_name, true).await?.1))
    }

    /// Creates the room for the operator. Nobody is in it; if nobody enters, it ends.
    pub(super) async fn create_empty(self, tx: &mut Tx<'_>, new: NewRoom) -> Result<Option<RoomFullInfo>, Error> {
        if store::find(tx, self.app, self.id()).await?.is_some() {
            return Ok(None);
        }
        let ends_at = self.now + (new.destroy_delay * 1_000).max(UNUSED_MS);
        let room_name = self.make(tx, new).await?;
        task::schedule(tx, &ROOM_END, self.key, ends_at).await?;
        Ok(Some(store::info(self.id(), room_name)))
    }

    /// Adds the room, without members. Returns its name.
    async fn make(&self, tx: &mut Tx<'_>, new: NewRoom) -> Result<String, Error> {
        let attributes = rules::initial(new.attributes, self.me)?;
        if self.limits.rooms > 0 && store::count(tx, self.app).await? >= self.limits.rooms {
            return Err(Error::too_many_rooms(self.limits.rooms));
        }
        let (room, names) = ((self.app, self.key), (self.id(), new.room_name.as_str()));
        let settings = (new.destroy_delay, self.limits.keeps_history);
        store::insert(tx, room, names, settings, self.now).await?;
        store::write_attributes(tx, self.key, &Attributes::new(), &attributes).await?;
        Ok(new.room_name)
    }

    /// Ends the room, whoever is in it, and tells them. Returns how many they were.
    pub(super) async fn destroy(self, tx: &mut Tx<'_>) -> Result<usize, Error> {
        self.head(tx).await?;
        let members = store::all_members(tx, self.key).await?;
        let rev = store::next_rev(tx, self.key).await?;
        for (user, member) in &members {
            self.tell_stay(tx, (*user, member.device), member.place, Some(rev));
        }
        let exit = RoomExit { event: RoomEvent::RoomNotExist as i32, extended_data: String::new() };
        self.tell(tx, rev, RoomReceivers::All(LoginKey(0)), Detail::Exit(exit));
        task::cancel(tx, &ROOM_MEMBERS_LEAVE, self.key).await?;
        task::cancel(tx, &ROOM_END, self.key).await?;
        history::end(tx, self.key, self.now).await?;
        Ok(members.len())
    }

    /// Checks that the caller may be in one more room, apart from one that they are about to leave.
    async fn check_rooms(&self, tx: &mut Tx<'_>, leaving: Option<ConversationKey>) -> Result<(), Error> {
        let rooms = store::rooms(tx, self.me, None).await?;
        let others = rooms.iter().filter(|(room, _)| *room != self.key && Some(*room) != leaving).count();
        if i64::try_from(others).is_ok_and(|count| count < self.limits.of_user) {
            return Ok(());
        }
        Err(Error::too_many_own_rooms(self.limits.of_user))
    }

    /// Lets the caller's device in. `None`: the room has ended. `is_here`: this very connection is in the room.
    pub(super) async fn join(
        self,
        tx: &mut Tx<'_>,
        (leaving, is_here): (Option<ConversationKey>, bool),
    ) -> Result<Option<RoomFullInfo>, Error> {
        let Some(head) = store::head(tx, self.key).await? else { return Ok(None) };
        let member = store::member(tx, self.key, self.me).await?;
        match member {
            Some(member) if member.device == self.device && is_here => return Err(Error::already_in_room(self.id())),
            // It has been away, or its app was started anew.
            Some(member) if member.device == self.device => {
                self.resume_as(tx, &head, member).await?;
                return Ok(Some(store::info(self.id(), head.room_name)));
            }
            Some(member) => self.end_for_device(tx, member, RoomEvent::KickedOutByOtherDevice).await?,
            None => {
                self.check_rooms(tx, leaving).await?;
                if head.members >= self.limits.members {
                    return Err(Error::room_full(self.limits.members));
                }
                if head.members == 0 {
                    task::cancel(tx, &ROOM_END, self.key).await?;
                }
            }
        }
        let is_large = head.members >= self.limits.told;
        let (rev, info) = self.let_in(tx, head.room_name, member.is_none()).await?;
        if member.is_none() && (!is_large || self.rates.tells(self.key, false, self.steady_ms)) {
            self.tell_members(tx, rev, &[self.me], false).await?;
        }
        Ok(Some(info))
    }

    /// Tells the members who entered or left.
    async fn tell_members(&self, tx: &mut Tx<'_>, rev: i64, users: &[UserKey], has_left: bool) -> Result<(), Error> {
        let users = store::users(tx, users).await?;
        let changes = users.into_iter().map(|user| RoomMemberChange { has_left, user: Some(user) }).collect();
        let detail = Detail::Members(RoomMembersChange { changes });
        self.tell(tx, rev, RoomReceivers::All(self.login), detail);
        Ok(())
    }

    /// Ends the stay of a device whose user stays in the room with another one.
    async fn end_for_device(&self, tx: &mut Tx<'_>, member: Member, event: RoomEvent) -> Result<(), Error> {
        let rev = store::next_rev(tx, self.key).await?;
        self.tell_stay(tx, (self.me, member.device), member.place, Some(rev));
        let exit = RoomExit { event: event as i32, extended_data: String::new() };
        self.tell(tx, rev, RoomReceivers::Device(self.me, member.device), Detail::Exit(exit));
        Ok(())
    }

    /// Lets the caller's device in, and tells it what the room is.
    async fn let_in(&self, tx: &mut Tx<'_>, room_name: String, is_new: bool) -> Result<(i64, RoomFullInfo), Error> {
        let rev = store::next_rev(tx, self.key).await?;
        store::put_member(tx, self.key, (self.me, self.device), rev, is_new).await?;
        self.tell_stay(tx, (self.me, self.device), rev, None);
        let info = store::info(self.id(), room_name);
        self.tell_entrance(tx, rev, info.clone()).await?;
        Ok((rev, info))
    }

    async fn tell_entrance(&self, tx: &mut Tx<'_>, rev: i64, info: RoomFullInfo) -> Result<(), Error> {
        let attributes = store::attributes(tx, self.key).await?;
        let attributes = attributes.into_iter().map(|(key, attribute)| (key, attribute.value)).collect();
        let detail = Detail::Entrance(RoomEntrance { info: Some(info), attributes, entry_number: self.entry_number });
        self.tell(tx, rev, RoomReceivers::Device(self.me, self.device), detail);
        Ok(())
    }

    /// Lets the pushes reach the caller's device again, which is in the room.
    async fn resume_as(&self, tx: &mut Tx<'_>, head: &Head, member: Member) -> Result<(), Error> {
        if member.leaves_at > 0 {
            store::set_leaves_at(tx, self.key, self.me, 0).await?;
        }
        self.tell_stay(tx, (self.me, self.device), member.place, None);
        self.tell_entrance(tx, head.rev, store::info(self.id(), head.room_name.clone())).await
    }

    /// Lets the pushes reach the caller's device again. Returns why it is no longer in the room, if it is not.
    pub(super) async fn resume(self, tx: &mut Tx<'_>) -> Result<Option<RoomEvent>, Error> {
        let Some(head) = store::head(tx, self.key).await? else { return Ok(Some(RoomEvent::RoomNotExist)) };
        let lost = match store::member(tx, self.key, self.me).await? {
            None => RoomEvent::ConnectTimeout,
            Some(member) if member.device != self.device => RoomEvent::KickedOutByOtherDevice,
            Some(member) => {
                self.resume_as(tx, &head, member).await?;
                return Ok(None);
            }
        };
        // The node may have missed the exit: nothing of the room reaches the device any more.
        self.tell_stay(tx, (self.me, self.device), head.rev, Some(head.rev));
        Ok(Some(lost))
    }

    /// The caller leaves, with this device, or with any if they have none. Returns false if they are not in the room.
    pub(super) async fn leave(self, tx: &mut Tx<'_>, device: Option<[u8; 16]>) -> Result<bool, Error> {
        if store::head(tx, self.key).await?.is_none() {
            return Ok(false);
        }
        match store::member(tx, self.key, self.me).await? {
            Some(member) if device.is_none_or(|device| device == member.device) => {
                self.exit(tx, &[(self.me, member)], RoomEvent::Success).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The connection of a login of the caller's device has ended: they leave at once, or later unless they return.
    pub(super) async fn lose(self, tx: &mut Tx<'_>, is_final: bool) -> Result<(), Error> {
        let Some(member) = store::member(tx, self.key, self.me).await? else { return Ok(()) };
        // Another login of this device may have resumed the room.
        if member.device != self.device || store::is_connected(tx, (self.me, self.device), self.login).await? {
            return Ok(());
        }
        if is_final {
            return self.exit(tx, &[(self.me, member)], RoomEvent::Success).await;
        }
        let leaves_at = self.now + self.limits.grace_ms;
        store::set_leaves_at(tx, self.key, self.me, leaves_at).await?;
        task::schedule_by(tx, &ROOM_MEMBERS_LEAVE, self.key, leaves_at).await
    }

    /// Lets members out. The last one ends the room.
    pub(super) async fn exit(
        &self,
        tx: &mut Tx<'_>,
        members: &[(UserKey, Member)],
        event: RoomEvent,
    ) -> Result<(), Error> {
        let head = self.head(tx).await?;
        let rev = store::next_rev(tx, self.key).await?;
        let users: Vec<UserKey> = members.iter().map(|(user, _)| *user).collect();
        store::remove(tx, self.key, &users).await?;
        for (user, member) in members {
            self.tell_stay(tx, (*user, member.device), member.place, Some(rev));
            // Also if it has asked for it: the answer may come too late, when the device has asked whether it is still in the room.
            let exit = RoomExit { event: event as i32, extended_data: String::new() };
            self.tell(tx, rev, RoomReceivers::Device(*user, member.device), Detail::Exit(exit));
        }
        let left = head.members - i64::try_from(members.len()).map_err(Error::internal)?;
        if left <= 0 {
            return self.empty(tx, &head).await;
        }
        let is_large = head.members > self.limits.told;
        let told: Vec<UserKey> =
            users.iter().copied().filter(|_| !is_large || self.rates.tells(self.key, true, self.steady_ms)).collect();
        if !told.is_empty() {
            self.tell_members(tx, rev, &told, true).await?;
        }
        self.remove_owned(tx, rev, &users).await
    }

    /// Removes the attributes that go with owners who left.
    async fn remove_owned(&self, tx: &mut Tx<'_>, rev: i64, users: &[UserKey]) -> Result<(), Error> {
        let before = store::attributes(tx, self.key).await?;
        let after = rules::without_owners(before.clone(), users);
        if after.len() < before.len() {
            store::write_attributes(tx, self.key, &before, &after).await?;
            let infos = rules::difference(&before, &after);
            // The device that leaves is no member any more.
            self.tell(tx, rev, RoomReceivers::All(self.login), Detail::Attributes(RoomAttributesChange { infos }));
        }
        Ok(())
    }

    /// Nobody is in the room any more: it ends, now or later.
    async fn empty(&self, tx: &mut Tx<'_>, head: &Head) -> Result<(), Error> {
        task::cancel(tx, &ROOM_MEMBERS_LEAVE, self.key).await?;
        if head.destroy_delay == 0 {
            return history::end(tx, self.key, self.now).await;
        }
        store::clear_attributes(tx, self.key).await?;
        task::schedule(tx, &ROOM_END, self.key, self.now + head.destroy_delay * 1_000).await
    }
}
