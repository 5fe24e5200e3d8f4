//! Applications to join groups, and to bring users into groups. The local copy tells whether an entry is news.

use zim_protocol::{
    Event, GroupApplicationEntry, GroupApplicationInfo, GroupApplicationListChangeAction,
    GroupApplicationListChangedEvent, GroupApplicationState, GroupApplicationType, GroupApplicationUpdatedEvent,
};

use super::Transaction;
use crate::engine::Origin;
use crate::store::group_application::{self, shown};

impl Transaction<'_> {
    /// Applies an application as it is now.
    pub(super) fn group_application(&mut self, entry: &GroupApplicationEntry, origin: Origin) -> rusqlite::Result<()> {
        let before = group_application::read(self.db, entry.id)?;
        let Some(info) = &entry.info else { return group_application::remove(self.db, entry.id) };
        group_application::write(self.db, entry)?;
        if origin == Origin::First {
            return Ok(());
        }
        let before = before.and_then(|before| before.info);
        let now = shown(entry.clone(), self.viewer.now_ms);
        if is_new(before.as_ref(), info) {
            // Who applies themselves gets no event about it.
            let is_own = info.r#type() == GroupApplicationType::Join
                && info.apply_user.as_ref().is_some_and(|user| user.user_id == *self.viewer.user_id);
            if info.state() == GroupApplicationState::Waiting && !is_own {
                self.application_added(now);
            } else if info.state() != GroupApplicationState::Waiting {
                // It was sent and answered while the device was away.
                self.application_answered(now);
            }
        } else if before.is_some_and(|before| before.state != info.state) {
            self.application_answered(now);
        }
        Ok(())
    }

    fn application_added(&mut self, info: GroupApplicationInfo) {
        let added = GroupApplicationListChangeAction::Added as i32;
        if let Some(Event::GroupApplicationListChanged(event)) = self.last_event() {
            event.application_list.push(info);
            return;
        }
        let event = GroupApplicationListChangedEvent { action: added, application_list: vec![info] };
        self.raise(Event::GroupApplicationListChanged(event));
    }

    fn application_answered(&mut self, info: GroupApplicationInfo) {
        if let Some(Event::GroupApplicationUpdated(event)) = self.last_event() {
            event.application_list.push(info);
            return;
        }
        self.raise(Event::GroupApplicationUpdated(GroupApplicationUpdatedEvent { application_list: vec![info] }));
    }
}

/// Whether this is another application than the one before: whoever applies again replaces it.
fn is_new(before: Option<&GroupApplicationInfo>, now: &GroupApplicationInfo) -> bool {
    before.is_none_or(|before| {
        before.create_time != now.create_time
            || (before.state != now.state && now.state() == GroupApplicationState::Waiting)
            || (before.wording != now.wording)
    })
}
