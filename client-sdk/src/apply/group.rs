//! Groups: who entered and left, and what they are.

use zim_protocol::{
    ConversationType, Event, GroupAliasEntry, GroupAliasUpdatedEvent, GroupAttributesUpdateAction,
    GroupAttributesUpdateInfo, GroupAttributesUpdatedEvent, GroupAvatarUrlUpdatedEvent, GroupChange, GroupEvent,
    GroupFullInfo, GroupInfo, GroupMemberEvent, GroupMemberInfo, GroupMemberInfoUpdatedEvent, GroupMemberState,
    GroupMemberStateChangedEvent, GroupMuteInfo, GroupMutedInfoUpdatedEvent, GroupNameUpdatedEvent,
    GroupNoticeUpdatedEvent, GroupState, GroupStateChangedEvent, GroupVerifyInfoUpdatedEvent, RosterChange,
    UserFullInfo, UserInfo, group_change::Detail,
};

use super::user::full_info;
use super::{Awaited, Transaction};
use crate::engine::Origin;
use crate::store::conversation::set_disabled;
use crate::store::member_list::{self, MemberPage};
use crate::store::{conversation_setting, group, group_application, user};
use crate::types::Name;

impl Transaction<'_> {
    /// Applies a change of the members of a group. All devices get the events, including the one that made the change.
    pub(super) fn roster(
        &mut self,
        name: &Name,
        (conversation, rev): (i64, u64),
        change: RosterChange,
    ) -> rusqlite::Result<()> {
        let viewer = self.viewer.user_id.clone();
        let own = change.user_list.iter().find(|member| member.user_id == *viewer).cloned();
        let is_dismissed = change.group_event() == GroupEvent::Dismissed;
        let group_id = name.id.to_string();
        if own.is_some() && change.state() == GroupMemberState::Enter && change.group_event() != GroupEvent::Unspecified
        {
            // What is known of the list is from an earlier stay.
            self.forget_places(&group_id)?;
        }
        self.store_roster(&group_id, rev, &change)?;
        let RosterChange { mut user_list, operated_info, .. } = change.clone();
        for member in &mut user_list {
            member.mute_expired_time = group::mute_at(member.mute_expired_time, self.viewer.now_ms);
            if change.without_extended_data
                && let Some(known) = user::read(self.db, &member.user_id)?
            {
                member.user_extended_data = known.extended_data;
            }
        }
        if change.group_event() == GroupEvent::Unspecified {
            if let Some(own) = own.filter(|own| own.member_role != 0) {
                group::write_own(self.db, &group_id, (own.member_role, own.mute_expired_time))?;
            }
            // The change has what is true now. Who has left since has no role, and a user who has left is told of nobody's.
            user_list.retain(|member| member.member_role != 0);
            if !user_list.is_empty() {
                let event = GroupMemberInfoUpdatedEvent { group_id, user_list, operated_info };
                self.raise(Event::GroupMemberInfoUpdated(event));
            }
            return Ok(());
        }
        if own.is_some() || is_dismissed {
            let is_member = change.state() == GroupMemberState::Enter;
            set_disabled(self.db, conversation, !is_member)?;
            if is_member {
                // The group begins anew for the user.
                conversation_setting::show_here(self.db, conversation)?;
            }
            let own = own.filter(|_| is_member).unwrap_or_default();
            group::write_own(self.db, &group_id, (own.member_role, own.mute_expired_time))?;
            if !is_member {
                self.forget_members(&group_id)?;
            }
            if is_dismissed {
                group_application::end_all(self.db, &group_id, self.viewer.now_ms)?;
            }
            let info = self.group_info(&group_id)?;
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

    /// Keeps the local list of members in step. The change has what is true of its users now.
    fn store_roster(&mut self, group_id: &str, rev: u64, change: &RosterChange) -> rusqlite::Result<()> {
        let user_ids = change.user_list.iter().map(|member| member.user_id.as_str());
        self.viewer.rosters.changed(group_id, user_ids.clone());
        for member in &change.user_list {
            let profile = profile_of(member.clone());
            if change.without_extended_data {
                self.store_profile_without_data(&profile)?;
            } else {
                self.store_incidental_profile(&profile)?;
            }
            if change.state() == GroupMemberState::Enter && member.member_role != 0 {
                group::write_member(self.db, group_id, member)?;
            } else {
                group::forget_member(self.db, group_id, &member.user_id)?;
            }
        }
        if change.state() == GroupMemberState::Enter && change.group_event() != GroupEvent::Unspecified {
            member_list::enter(self.db, group_id, rev, user_ids)?;
        }
        Ok(())
    }

    /// Forgets the members of a group that the user is not in.
    pub(super) fn forget_members(&mut self, group_id: &str) -> rusqlite::Result<()> {
        self.viewer.rosters.void(Some(group_id));
        group::forget_members(self.db, group_id)
    }

    /// Forgets where the members of a group stand in its list.
    pub(super) fn forget_places(&mut self, group_id: &str) -> rusqlite::Result<()> {
        self.viewer.rosters.void(Some(group_id));
        member_list::forget(self.db, group_id)
    }

    /// Changes of a conversation were skipped: those of the members of a group may be among them.
    pub(super) fn skipped(&mut self, name: &Name) -> rusqlite::Result<()> {
        if name.kind == ConversationType::Group as i32 { self.forget_places(&name.id) } else { Ok(()) }
    }

    /// Stores a page of the list of members, unless something made it useless meanwhile.
    pub(super) fn store_page(&mut self, group_id: &str, page: MemberPage, awaited: &Awaited) -> rusqlite::Result<()> {
        let Some(changed) = awaited.meanwhile() else { return Ok(()) };
        if member_list::add_page(self.db, group_id, &page, |user_id| changed.contains(user_id))? {
            self.touch(&Name::new(ConversationType::Group as i32, group_id))?;
            for member in page.members {
                self.store_incidental_profile(&profile_of(member))?;
            }
        }
        Ok(())
    }

    /// Stores a member that was requested.
    pub(super) fn store_member(&mut self, group_id: &str, member: GroupMemberInfo) -> rusqlite::Result<()> {
        group::write_requested(self.db, group_id, &member)?;
        self.store_incidental_profile(&profile_of(member))
    }

    /// Returns what this device knows of a group.
    fn group_info(&self, group_id: &str) -> rusqlite::Result<GroupFullInfo> {
        let unknown = || {
            let base_info = Some(GroupInfo { group_id: group_id.to_owned(), ..GroupInfo::default() });
            GroupFullInfo { base_info, ..GroupFullInfo::default() }
        };
        let mut info = group::read(self.db, group_id)?.unwrap_or_else(unknown);
        // It is a setting of the conversation, which changes without the group.
        info.notification_status = group::notification(self.db, group_id)?;
        let now_ms = self.viewer.now_ms;
        info.muted_info = info.muted_info.map(|mute| match group::mute_at(mute.expired_time, now_ms) {
            0 => GroupMuteInfo::default(),
            _ => mute,
        });
        Ok(info)
    }

    /// Applies a change of what a group is. All devices get the event, including the one that made the change. `is_earlier`: it is of a
    /// stay before the present one. What came between them is in no change, but in the head of this stay, which stays.
    pub(super) fn group_changed(&mut self, name: &Name, change: GroupChange, is_earlier: bool) -> rusqlite::Result<()> {
        let group_id = name.id.to_string();
        let GroupChange { detail: Some(detail), operated_info } = change else { return Ok(()) };
        if !is_earlier && let Some(mut info) = group::read(self.db, &group_id)? {
            apply(&mut info, &detail);
            group::write(self.db, &info)?;
        }
        self.raise(match detail {
            Detail::GroupName(group_name) => {
                Event::GroupNameUpdated(GroupNameUpdatedEvent { group_id, group_name, operated_info })
            }
            Detail::GroupAvatarUrl(group_avatar_url) => {
                Event::GroupAvatarUrlUpdated(GroupAvatarUrlUpdatedEvent { group_id, group_avatar_url, operated_info })
            }
            Detail::GroupNotice(group_notice) => {
                Event::GroupNoticeUpdated(GroupNoticeUpdatedEvent { group_id, group_notice, operated_info })
            }
            Detail::VerifyInfo(info) => Event::GroupVerifyInfoUpdated(GroupVerifyInfoUpdatedEvent {
                group_id,
                verify_info: Some(info),
                operated_info,
            }),
            Detail::Attributes(info) => Event::GroupAttributesUpdated(GroupAttributesUpdatedEvent {
                group_id,
                info_list: vec![info],
                operated_info,
            }),
            Detail::MutedInfo(info) => Event::GroupMutedInfoUpdated(GroupMutedInfoUpdatedEvent {
                group_id,
                muted_info: Some(info),
                operated_info,
            }),
        });
        Ok(())
    }

    /// Applies the name that the user gave a group. The local copy tells whether it is news.
    pub(super) fn group_alias(&mut self, entry: GroupAliasEntry, origin: Origin) -> rusqlite::Result<()> {
        self.touch(&Name::new(ConversationType::Group as i32, entry.group_id.as_str()))?;
        if group::write_alias(self.db, &entry)? && origin != Origin::First {
            let operated_user_id = self.viewer.user_id.to_string();
            let GroupAliasEntry { group_id, alias } = entry;
            self.raise(Event::GroupAliasUpdated(GroupAliasUpdatedEvent {
                group_id,
                group_alias: alias,
                operated_user_id,
            }));
        }
        Ok(())
    }
}

fn profile_of(member: GroupMemberInfo) -> UserFullInfo {
    full_info(UserInfo {
        user_id: member.user_id,
        user_name: member.user_name,
        user_avatar_url: member.user_avatar_url,
        user_extended_data: member.user_extended_data,
    })
}

fn apply(info: &mut GroupFullInfo, detail: &Detail) {
    let base = info.base_info.get_or_insert_default();
    match detail {
        Detail::GroupName(name) => base.group_name.clone_from(name),
        Detail::GroupAvatarUrl(url) => base.group_avatar_url.clone_from(url),
        Detail::GroupNotice(notice) => info.group_notice.clone_from(notice),
        Detail::VerifyInfo(verify) => info.verify_info = Some(*verify),
        Detail::MutedInfo(mute) => info.muted_info = Some(mute.clone()),
        Detail::Attributes(update) => match update.action() {
            GroupAttributesUpdateAction::Set => info.group_attributes.extend(update.group_attributes.clone()),
            GroupAttributesUpdateAction::Delete => {
                info.group_attributes.retain(|key, _| !update.group_attributes.contains_key(key));
            }
        },
    }
}
