//! Groups: who entered and left.

use zim_protocol::{
    Event, GroupAttributesUpdateAction, GroupAttributesUpdateInfo, GroupAttributesUpdatedEvent, GroupEvent,
    GroupFullInfo, GroupInfo, GroupMemberEvent, GroupMemberInfoUpdatedEvent, GroupMemberState,
    GroupMemberStateChangedEvent, GroupState, GroupStateChangedEvent, RosterChange, UserInfo,
};

use super::Transaction;
use super::user::full_info;
use crate::store::conversation::set_disabled;
use crate::store::{conversation_setting, group};
use crate::types::Name;

impl Transaction<'_> {
    /// Applies a change of the members of a group. All devices get the events, including the one that made the change.
    pub(super) fn roster(&mut self, name: &Name, conversation: i64, change: RosterChange) -> rusqlite::Result<()> {
        let viewer = self.viewer.user_id.clone();
        let is_own = change.user_list.iter().any(|member| member.user_id == *viewer);
        let is_dismissed = change.group_event() == GroupEvent::Dismissed;
        for member in &change.user_list {
            self.store_incidental_profile(full_info(UserInfo {
                user_id: member.user_id.clone(),
                user_name: member.user_name.clone(),
                user_avatar_url: member.user_avatar_url.clone(),
                user_extended_data: member.user_extended_data.clone(),
            }))?;
        }
        let group_id = name.id.to_string();
        let RosterChange { user_list, operated_info, .. } = change.clone();
        if change.group_event() == GroupEvent::Unspecified {
            let event = GroupMemberInfoUpdatedEvent { group_id, user_list, operated_info };
            self.raise(Event::GroupMemberInfoUpdated(event));
            return Ok(());
        }
        if is_own || is_dismissed {
            let is_member = change.state() == GroupMemberState::Enter;
            set_disabled(self.db, conversation, !is_member)?;
            if is_member {
                // The group begins anew for the user.
                conversation_setting::show_here(self.db, conversation)?;
            }
            let unknown = || GroupInfo { group_id: group_id.clone(), ..GroupInfo::default() };
            let info = group::read(self.db, &group_id)?
                .unwrap_or_else(|| GroupFullInfo { base_info: Some(unknown()), ..GroupFullInfo::default() });
            let attributes = info.group_attributes.clone();
            self.raise(Event::GroupStateChanged(GroupStateChangedEvent {
                state: if is_member { GroupState::Enter } else { GroupState::Quit } as i32,
                event: change.group_event,
                operated_info: operated_info.clone(),
                group_info: Some(info),
            }));
            if change.group_event() == GroupEvent::Created && !attributes.is_empty() {
                let action = GroupAttributesUpdateAction::Set as i32;
                let update = GroupAttributesUpdateInfo { action, group_attributes: attributes };
                self.raise(Event::GroupAttributesUpdated(GroupAttributesUpdatedEvent {
                    group_id: group_id.clone(),
                    info_list: vec![update],
                    operated_info: operated_info.clone(),
                }));
            }
        }
        if change.member_event() != GroupMemberEvent::Unspecified {
            self.raise(Event::GroupMemberStateChanged(GroupMemberStateChangedEvent {
                group_id,
                state: change.state,
                event: change.member_event,
                user_list,
                operated_info,
            }));
        }
        Ok(())
    }
}
