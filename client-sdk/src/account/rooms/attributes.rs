//! Attributes of rooms: batches of changes, and the events of changes.

use std::collections::HashMap;

use zim_protocol::{
    ErrorCode, Event, RoomAttributesBatchOperationConfig, RoomAttributesBatchUpdatedEvent, RoomAttributesUpdateAction,
    RoomAttributesUpdateInfo, RoomAttributesUpdatedEvent,
};

use super::{Rooms, not_in_room};
use crate::error::Error;

/// A batch of changes of attributes that has begun.
#[derive(Debug, Default)]
pub(super) struct Batch {
    config: RoomAttributesBatchOperationConfig,
    operations: Vec<RoomAttributesUpdateInfo>,
}

impl Rooms {
    /// Begins a batch of changes of attributes.
    pub(crate) fn begin_batch(&self, room_id: &str, config: RoomAttributesBatchOperationConfig) -> Result<(), Error> {
        let mut inner = self.0.lock();
        let room = inner.rooms.get_mut(room_id).ok_or_else(|| not_in_room(room_id))?;
        if room.batch.is_some() {
            let message = format!("a batch of the room {room_id} has begun already; end it first");
            return Err(Error::new(ErrorCode::RoomModuleRoomAttributesCommonError, message));
        }
        room.batch = Some(Batch { config, operations: Vec::new() });
        Ok(())
    }

    /// Adds a change to the batch of the room. Returns false if none has begun.
    pub(crate) fn add_to_batch(&self, room_id: &str, operation: RoomAttributesUpdateInfo) -> bool {
        let mut inner = self.0.lock();
        let batch = inner.rooms.get_mut(room_id).and_then(|room| room.batch.as_mut());
        let Some(batch) = batch else { return false };
        batch.operations.push(operation);
        true
    }

    /// Ends the batch of the room. Returns what it has.
    pub(crate) fn end_batch(
        &self,
        room_id: &str,
    ) -> Result<(RoomAttributesBatchOperationConfig, Vec<RoomAttributesUpdateInfo>), Error> {
        let mut inner = self.0.lock();
        let room = inner.rooms.get_mut(room_id).ok_or_else(|| not_in_room(room_id))?;
        let batch = room.batch.take().ok_or_else(|| {
            let message = format!("no batch of the room {room_id} has begun");
            Error::new(ErrorCode::RoomModuleRoomAttributesCommonError, message)
        })?;
        Ok((batch.config, batch.operations))
    }
}

pub(super) fn attributes(room_id: &str, infos: Vec<RoomAttributesUpdateInfo>) -> Option<Event> {
    let room_id = room_id.to_owned();
    match infos.len() {
        0 => None,
        1 => Some(Event::RoomAttributesUpdated(RoomAttributesUpdatedEvent { room_id, infos })),
        _ => Some(Event::RoomAttributesBatchUpdated(RoomAttributesBatchUpdatedEvent { room_id, infos })),
    }
}

/// Returns what was set and what was removed since `before`.
pub(super) fn difference(
    before: &HashMap<String, String>,
    after: &HashMap<String, String>,
) -> Vec<RoomAttributesUpdateInfo> {
    let own = |(key, value): (&String, &String)| (key.clone(), value.clone());
    let set: HashMap<_, _> = after.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(own).collect();
    let removed: HashMap<_, _> = before.iter().filter(|(key, _)| !after.contains_key(*key)).map(own).collect();
    [(RoomAttributesUpdateAction::Set, set), (RoomAttributesUpdateAction::Delete, removed)]
        .into_iter()
        .filter(|(_, room_attributes)| !room_attributes.is_empty())
        .map(|(action, room_attributes)| RoomAttributesUpdateInfo { action: action as i32, room_attributes })
        .collect()
}
