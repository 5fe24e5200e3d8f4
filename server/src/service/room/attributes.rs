//! The jobs that change the attributes of a room and of its members.

use std::collections::HashMap;

use zim_protocol::{
    RoomAttributesChange, RoomAttributesUpdateInfo, RoomMemberAttributesChange, RoomMemberAttributesInfo,
    RoomMemberAttributesOperatedInfo, RoomMemberAttributesUpdateInfo, RoomOperatedInfo, room_push::Detail,
};

use super::membership::Room;
use super::rules::{self, How};
use super::store;
use crate::db::Tx;
use crate::effect::RoomReceivers;
use crate::error::Error;
use crate::key::{LoginKey, UserKey};

/// Members with attributes in one room, as in the reference.
const MAX_ATTRIBUTED: i64 = 500;
/// In a room with more members, only those whom it concerns are told of changed attributes of members, as in the reference.
const MAX_MEMBERS_TOLD: i64 = 500;

/// What became of the attributes of members.
#[derive(Debug, Default)]
pub(super) struct MembersOutcome {
    pub(super) infos: Vec<RoomMemberAttributesOperatedInfo>,
    pub(super) refused: Vec<(String, Error)>,
}

impl Room {
    /// Changes the attributes of the room. Returns the keys that could not be changed. `is_atomic`: then nothing changes.
    pub(super) async fn change_attributes(
        self,
        tx: &mut Tx<'_>,
        operations: Vec<RoomAttributesUpdateInfo>,
        (how, is_atomic): (How, bool),
    ) -> Result<Vec<String>, Error> {
        self.check_member(tx).await?;
        let before = store::attributes(tx, self.key).await?;
        let count: usize = operations.iter().map(|operation| operation.room_attributes.len()).sum();
        let outcome = rules::change(&before, self.me, operations, how)?;
        if !outcome.error_keys.is_empty() && (is_atomic || outcome.error_keys.len() == count) {
            return Err(Error::room_attributes_refused());
        }
        store::write_attributes(tx, self.key, &before, &outcome.after).await?;
        if !outcome.infos.is_empty() {
            let rev = store::next_rev(tx, self.key).await?;
            let detail = Detail::Attributes(RoomAttributesChange { infos: outcome.infos });
            self.tell(tx, rev, RoomReceivers::All(LoginKey(0)), detail);
        }
        Ok(outcome.error_keys)
    }

    /// Sets attributes of members, who are named by their IDs; their others stay.
    pub(super) async fn set_member_attributes(
        self,
        tx: &mut Tx<'_>,
        (my_id, users): (String, Vec<(UserKey, String)>),
        attributes: HashMap<String, String>,
        goes_with_owner: bool,
    ) -> Result<MembersOutcome, Error> {
        let head = self.check_member(tx).await?;
        rules::check_member_attributes(&attributes)?;
        let keys: Vec<UserKey> = users.iter().map(|(user, _)| *user).collect();
        let members = store::members_among(tx, self.key, &keys).await?;
        let before = store::member_attributes(tx, self.key, &keys).await?;
        let mut attributed = store::attributed(tx, self.key).await?;
        let (mut outcome, mut told, mut changed) = (MembersOutcome::default(), Vec::new(), Vec::new());
        for (user, user_id) in users {
            let own = before.get(&user);
            let mut after = own.cloned().unwrap_or_default();
            after.extend(attributes.iter().map(|(key, value)| (key.clone(), value.clone())));
            let total = rules::check_member_total(after.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            let refused = match total {
                _ if !members.contains_key(&user) => Some(Error::not_a_room_member(&user_id)),
                Err(error) => Some(error),
                Ok(()) if own.is_none() && attributed >= MAX_ATTRIBUTED => {
                    Some(Error::too_many_attributed_members(MAX_ATTRIBUTED))
                }
                Ok(()) => None,
            };
            if let Some(refused) = refused {
                outcome.refused.push((user_id, refused));
                continue;
            }
            attributed += i64::from(own.is_none());
            let info = Some(RoomMemberAttributesInfo { user_id, attributes: attributes.clone() });
            told.push(RoomMemberAttributesUpdateInfo { attributes_info: info.clone() });
            outcome.infos.push(RoomMemberAttributesOperatedInfo { attributes_info: info, error_keys: Vec::new() });
            changed.push(user);
        }
        if !told.is_empty() {
            store::set_member_attributes(tx, self.key, &changed, (&attributes, goes_with_owner)).await?;
            changed.push(self.me);
            let rev = store::next_rev(tx, self.key).await?;
            let operated_info = Some(RoomOperatedInfo { user_id: my_id });
            let detail = Detail::MemberAttributes(RoomMemberAttributesChange { infos: told, operated_info });
            let is_large = head.members > MAX_MEMBERS_TOLD;
            let to = if is_large { RoomReceivers::Users(changed) } else { RoomReceivers::All(LoginKey(0)) };
            self.tell(tx, rev, to, detail);
        }
        Ok(outcome)
    }
}
