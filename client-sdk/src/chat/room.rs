//! Rooms.

use std::collections::HashMap;

use zim_protocol::{
    ConversationType, Message, MessageSendConfig, MessageSentResult, RoomAdvancedConfig, RoomAttributesDeleteConfig,
    RoomAttributesSetConfig, RoomInfo, RoomMemberQueryConfig, UserInfo,
};

use super::{History, Items, present};
use crate::error::Error;
use crate::message::MessageSendNotification;
use crate::zim::Zim;

/// The size of the pages of members.
const PAGE: i64 = 100;

/// A room. It is a cheap handle: a client and an ID. [`Room::enter`] enters it.
///
/// ```no_run
/// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
/// let stage = zim.room("stage");
/// stage.enter("The stage").await?;
/// stage.send("hi all").await?;
/// stage.set_attribute("song", "Blackbird").await?;
/// stage.leave().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Room {
    zim: Zim,
    id: String,
}

impl Zim {
    /// Returns a room.
    pub fn room(&self, room_id: impl Into<String>) -> Room {
        Room { zim: self.clone(), id: room_id.into() }
    }
}

impl Room {
    /// Returns the room's ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the client.
    pub fn zim(&self) -> &Zim {
        &self.zim
    }

    /// Enters the room, which is created with this name if it does not exist. Returns its name.
    ///
    /// # Errors
    /// See [`Zim::enter_room`].
    pub async fn enter(&self, room_name: &str) -> Result<String, Error> {
        let info = RoomInfo { room_id: self.id.clone(), room_name: room_name.to_owned() };
        let entered = self.zim.enter_room(info, RoomAdvancedConfig::default()).await?;
        named(entered.room_info)
    }

    /// Enters the room, which must exist. Returns its name.
    ///
    /// # Errors
    /// See [`Zim::join_room`].
    pub async fn join(&self) -> Result<String, Error> {
        named(self.zim.join_room(&self.id).await?.room_info)
    }

    /// Leaves the room.
    ///
    /// # Errors
    /// See [`Zim::leave_room`].
    pub async fn leave(&self) -> Result<(), Error> {
        self.zim.leave_room(&self.id).await.map(drop)
    }

    /// Sends a message to those who are in the room; `&str` and `String` are texts. It is stored only if the server's settings say so.
    ///
    /// # Errors
    /// See [`Zim::send_message`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<Message, Error> {
        present(self.send_with(message.into(), MessageSendConfig::default()).await?.message, "message")
    }

    /// Sends a message as [`Room::send`] does, with a priority, for example.
    ///
    /// # Errors
    /// See [`Zim::send_message`].
    pub async fn send_with(&self, message: Message, config: MessageSendConfig) -> Result<MessageSentResult, Error> {
        let notification = MessageSendNotification::default();
        self.zim.send_message(message, &self.id, ConversationType::Room, config, notification).await
    }

    /// Reads what was said in the room from new to old, if the server keeps it.
    pub fn history(&self) -> History {
        History::new(self.zim.chat(&self.id, ConversationType::Room))
    }

    /// Returns the members, in the order in which they entered, fetched page after page. Of a large room these are the first 500.
    pub fn members(&self) -> Items<UserInfo> {
        let room = self.clone();
        Items::of_pages(String::new(), move |next_flag| {
            let room = room.clone();
            async move {
                let config = RoomMemberQueryConfig { next_flag, count: PAGE };
                let page = room.zim.query_room_member_list(&room.id, config).await?;
                let next = Some(page.next_flag).filter(|flag| !flag.is_empty());
                Ok((page.member_list, next))
            }
        })
    }

    /// Returns how many members are online.
    ///
    /// # Errors
    /// See [`Zim::query_room_online_member_count`].
    pub async fn online_count(&self) -> Result<i64, Error> {
        Ok(self.zim.query_room_online_member_count(&self.id).await?.count)
    }

    /// Returns all attributes.
    ///
    /// # Errors
    /// See [`Zim::query_room_all_attributes`].
    pub async fn attributes(&self) -> Result<HashMap<String, String>, Error> {
        Ok(self.zim.query_room_all_attributes(&self.id).await?.room_attributes)
    }

    /// Sets an attribute that is this user's, or that nobody has set.
    ///
    /// # Errors
    /// See [`Zim::set_room_attributes`].
    pub async fn set_attribute(&self, key: &str, value: &str) -> Result<(), Error> {
        let attributes = [(key.to_owned(), value.to_owned())].into();
        self.zim.set_room_attributes(attributes, &self.id, RoomAttributesSetConfig::default()).await.map(drop)
    }

    /// Removes an attribute that is this user's.
    ///
    /// # Errors
    /// See [`Zim::delete_room_attributes`].
    pub async fn delete_attribute(&self, key: &str) -> Result<(), Error> {
        self.zim.delete_room_attributes([key], &self.id, RoomAttributesDeleteConfig::default()).await.map(drop)
    }
}

fn named(info: Option<zim_protocol::RoomFullInfo>) -> Result<String, Error> {
    present(info.and_then(|info| info.base_info), "room").map(|info| info.room_name)
}
