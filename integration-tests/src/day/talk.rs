//! What the users write, read and say: to each other, in groups and in rooms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_protocol::{
    ConversationType, GroupAdvancedConfig, GroupInfo, Message, MessagePriority, MessageReactionAddConfig,
    MessageSendConfig, RoomAdvancedConfig, RoomInfo,
};

use super::device::Device;
use super::failure::Area;
use super::ledger::{Fact, Kind, mark, mark_of_id};
use super::plan::{Number, Plan};
use super::town::Town;
use crate::random::Random;

/// What is written, after its number.
const WORDS: &str = "shall we meet at the station tomorrow, or is the café by the river better?";
/// How long a visitor stays in a room.
const VISIT: Duration = Duration::from_secs(2);

/// Something to write.
#[derive(Debug)]
struct Words {
    kind: Kind,
    to: String,
    audience: Vec<Number>,
    may: Vec<Number>,
}

impl Words {
    fn conversation(&self) -> ConversationType {
        match self.kind {
            Kind::Room(_) => ConversationType::Room,
            Kind::Group => ConversationType::Group,
            _ => ConversationType::Peer,
        }
    }
}

impl Town {
    /// Notes what a device is about to do.
    pub(super) fn begin(&self, device: &Device, kind: Kind, to: &str, of: Option<u32>, audience: Vec<Number>) -> u32 {
        self.begin_with(device, (kind, to, of), audience, Vec::new())
    }

    /// The same with devices that may be told.
    pub(super) fn begin_with(
        &self,
        device: &Device,
        (kind, to, of): (Kind, &str, Option<u32>),
        audience: Vec<Number>,
        may: Vec<Number>,
    ) -> u32 {
        let (by, begun, to) = (device.number, self.record.now(), to.to_owned());
        self.record.begin(Fact { kind, by, begun, done: None, audience, may, of, seq: 0, to })
    }

    /// Sends a text.
    async fn say(&self, device: &Device, zim: &Zim, words: Words) {
        let (conversation, begun) = (words.conversation(), self.record.now());
        let Words { kind, to, audience, may } = words;
        let number = self.begin_with(device, (kind, &to, None), audience, may);
        let config = MessageSendConfig {
            has_receipt: kind == Kind::Peer,
            priority: MessagePriority::High as i32,
            ..MessageSendConfig::default()
        };
        let message = Message::text(format!("{}: {WORDS}", mark(number)));
        device.sends();
        let since = Instant::now();
        let sent = zim.send_message(message, &to, conversation, config, MessageSendNotification::default());
        match Box::pin(sent).await {
            Ok(sent) => {
                self.record.took(since.elapsed());
                self.record.acknowledged(number, sent.message.map_or(0, |message| message.message_seq));
                device.is_acknowledged();
            }
            Err(error) => {
                let area = if matches!(kind, Kind::Room(_)) { Area::Room } else { Area::Message };
                self.record.failed(area, begun, &[device.number], &error);
            }
        }
    }

    /// Writes to a user.
    pub(super) async fn write(&self, device: &Device, zim: &Zim, random: &mut Random) {
        if let Some(friend) = Self::one_of(&self.plan.friends(device.place.user), random) {
            self.say_to(device, zim, friend).await;
        }
    }

    /// Writes to this user.
    pub(super) async fn say_to(&self, device: &Device, zim: &Zim, friend: usize) {
        let audience = self.others(&[device.place.user, friend], device.number);
        let words = Words { kind: Kind::Peer, to: Plan::name(friend), audience, may: Vec::new() };
        self.say(device, zim, words).await;
    }

    /// Writes to a group of which the user is a member.
    pub(super) async fn write_to_club(&self, device: &Device, zim: &Zim, random: &mut Random) {
        let clubs = self.plan.clubs_of(device.place.user);
        if let Some(club) = Self::one_of(&clubs, random) {
            self.say_in_club(device, zim, club).await;
        }
    }

    /// Writes to a group.
    pub(super) async fn say_in_club(&self, device: &Device, zim: &Zim, club: usize) {
        let club = &self.plan.clubs[club];
        let audience = self.others(&club.members, device.number);
        let may = self.others(&[club.guest], device.number);
        self.say(device, zim, Words { kind: Kind::Group, to: club.id.clone(), audience, may }).await;
    }

    /// Says something in a room.
    pub(super) async fn say_in_room(&self, device: &Device, zim: &Zim, room: u16) {
        let audience = self.record.ledger().who_is_in(room, device.number);
        let words = Words { kind: Kind::Room(room), to: Plan::room_id(room), audience, may: Vec::new() };
        self.say(device, zim, words).await;
    }

    /// Tells the sender of a message that the user has read it.
    pub(super) async fn read(&self, device: &Device, zim: &Zim, random: &mut Random) {
        let Some((number, message)) = device.remembered(random) else { return };
        let sender = self.record.ledger().fact(number).filter(|fact| fact.kind == Kind::Peer).map(|fact| fact.by);
        let Some(sender) = sender else { return };
        let users = [self.devices[usize::from(sender)].place.user, device.place.user];
        if self.record.ledger().is_read(&message.message_id) {
            return;
        }
        let begun = self.record.now();
        let to = message.conversation_id.as_str();
        let fact = (Kind::Receipt, to, Some(number));
        let receipt = self.begin_with(device, fact, self.others(&users, device.number), vec![device.number]);
        if !self.record.ledger().reads(&message.message_id, receipt) {
            // The user's other device was faster: nothing happened.
            return;
        }
        let sent = zim.send_message_receipts_read(std::slice::from_ref(&message), to, ConversationType::Peer);
        match Box::pin(sent).await {
            Ok(sent) if sent.error_message_ids.is_empty() => self.record.acknowledged(receipt, message.message_seq),
            Ok(_) => self.record.note(format!("the receipt of message {number} was refused")),
            Err(error) => self.record.failed(Area::Message, begun, &[device.number], &error),
        }
    }

    /// Reacts to a message.
    pub(super) async fn react(&self, device: &Device, zim: &Zim, random: &mut Random) {
        let Some((number, message)) = device.remembered(random) else { return };
        let about = self.record.ledger().fact(number).map(|fact| (fact.kind, fact.by, fact.to.clone()));
        let (users, may) = match about {
            Some((Kind::Peer, by, _)) => {
                (vec![self.devices[usize::from(by)].place.user, device.place.user], Vec::new())
            }
            Some((Kind::Group, _, to)) => {
                // Of the groups that exist all day, and by those who are in them all day.
                let club = self.plan.clubs.iter().find(|club| club.id == to);
                let Some(club) = club.filter(|club| club.members.contains(&device.place.user)) else { return };
                (club.members.clone(), self.plan.devices_of(&[club.guest]))
            }
            _ => return,
        };
        let begun = self.record.now();
        let fact = (Kind::Reaction, message.conversation_id.as_str(), Some(number));
        let reaction = self.begin_with(device, fact, self.plan.devices_of(&users), may);
        let config = MessageReactionAddConfig::default();
        match Box::pin(zim.add_message_reaction(&mark(reaction), &message, config)).await {
            Ok(_) => self.record.acknowledged(reaction, message.message_seq),
            Err(error) => self.record.failed(Area::Message, begun, &[device.number], &error),
        }
    }

    /// Gives a group another name.
    pub(super) async fn rename(&self, device: &Device, zim: &Zim, random: &mut Random) {
        let clubs = self.plan.clubs_of(device.place.user);
        let Some(club) = Self::one_of(&clubs, random).map(|club| &self.plan.clubs[club]) else { return };
        let begun = self.record.now();
        let (audience, may) = (self.plan.devices_of(&club.members), self.plan.devices_of(&[club.guest]));
        let number = self.begin_with(device, (Kind::Rename, &club.id, None), audience, may);
        match Box::pin(zim.update_group_name(&mark(number), &club.id)).await {
            Ok(_) => self.record.acknowledged(number, 0),
            Err(error) => self.record.failed(Area::Group, begun, &[device.number], &error),
        }
    }

    /// Makes a group with some friends, and writes to it.
    pub(super) async fn create(&self, device: &Device, zim: &Zim, random: &mut Random) {
        let user = device.place.user;
        let mut users: Vec<usize> = (0..3).filter_map(|_| Self::one_of(&self.plan.friends(user), random)).collect();
        users.sort_unstable();
        users.dedup();
        let names: Vec<String> = users.iter().copied().map(Plan::name).collect();
        users.push(user);
        let begun = self.record.now();
        let number = self.begin(device, Kind::Created, "", None, self.plan.devices_of(&users));
        let group_id = mark_of_id(number);
        let info = GroupInfo { group_id: group_id.clone(), group_name: "a trip".to_owned(), ..GroupInfo::default() };
        match Box::pin(zim.create_group(info, names, GroupAdvancedConfig::default())).await {
            Ok(_) => self.record.acknowledged(number, 0),
            Err(error) => return self.record.failed(Area::Group, begun, &[device.number], &error),
        }
        let audience = self.others(&users, device.number);
        let words = Words { kind: Kind::Group, to: group_id, audience, may: Vec::new() };
        self.say(device, zim, words).await;
    }

    /// Comes into a group as its guest, writes to it, and leaves it.
    pub(super) async fn visit(&self, device: &Device, zim: &Zim, random: &mut Random) {
        let visits = self.plan.visits_of(device.place.user);
        let Some(number) = Self::one_of(&visits, random) else { return };
        let club = &self.plan.clubs[number];
        let begun = self.record.now();
        if let Err(error) = Box::pin(zim.join_group(&club.id)).await {
            return self.record.failed(Area::Group, begun, &[device.number], &error);
        }
        self.say_in_club(device, zim, number).await;
        let begun = self.record.now();
        if let Err(error) = Box::pin(zim.leave_group(&club.id)).await {
            self.record.failed(Area::Group, begun, &[device.number], &error);
        }
    }

    /// Says something in the room that the device is in all day, or visits one.
    pub(super) async fn talk_in_room(&self, device: &Arc<Device>, zim: &Zim, random: &mut Random) {
        if let Some(room) = device.place.room {
            if self.record.ledger().is_in(device.number, room) {
                self.say_in_room(device, zim, room).await;
            }
            return;
        }
        if self.devices[device.place.user].place.room.is_some() {
            // A user is in a room on one device.
            return;
        }
        let room = u16::try_from(random.below(self.plan.rooms.into())).unwrap_or(0);
        let begun = self.record.now();
        let info = RoomInfo { room_id: Plan::room_id(room), room_name: String::new() };
        if let Err(error) = Box::pin(zim.enter_room(info, RoomAdvancedConfig::default())).await {
            return self.record.failed(Area::Room, begun, &[device.number], &error);
        }
        if device.is_in(room).await {
            self.say_in_room(device, zim, room).await;
            sleep(self.at_most(VISIT)).await;
        }
        let begun = self.record.now();
        self.record.ledger().exits(device.number, room, begun);
        if let Err(error) = Box::pin(zim.leave_room(&Plan::room_id(room))).await {
            self.record.failed(Area::Room, begun, &[device.number], &error);
        }
    }
}
