//! Presence: each statement of the server is as new as its times, so a push, an answer and a sync may overtake each other.

use zim_protocol::{Event, SubscriptionEntry, UserOnlineStatus, UserStatus, UserStatusUpdatedEvent};

use super::Step;
use crate::store::status::{self, News};

impl Step<'_> {
    /// A subscription as it is now, with what its user is seen as.
    pub(super) fn subscription(&mut self, entry: SubscriptionEntry) -> rusqlite::Result<()> {
        let Some(told) = entry.status.clone() else { return Ok(()) };
        if entry.is_deleted {
            return status::unsubscribe(self.db, &told.user_id);
        }
        status::subscribe(self.db, &told.user_id, &entry)?;
        self.status_told(told)
    }

    /// What somebody is seen as. Nobody asked for what comes after a subscription has ended.
    pub(super) fn status_told(&mut self, told: UserStatus) -> rusqlite::Result<()> {
        let is_own = *told.user_id == *self.viewer.user_id;
        if !is_own && !status::is_subscribed(self.db, &told.user_id, self.viewer.now_ms)? {
            return Ok(());
        }
        let Some((now, news)) = status::write(self.db, told)? else { return Ok(()) };
        if self.viewer.is_caught_up {
            self.seen.push(status::shown(if is_own { own(now, news) } else { now }, self.viewer.now_ms));
        }
        Ok(())
    }

    /// Those who were seen, in one event. It is what is true now, so it is not raised again after a crash.
    pub(super) fn seen_event(seen: Vec<UserStatus>) -> Option<Event> {
        (!seen.is_empty()).then_some(Event::UserStatusUpdated(UserStatusUpdatedEvent { user_status_list: seen }))
    }
}

/// That one is online, one's device knows better; as in the reference it is told the platforms.
fn own(status: UserStatus, news: News) -> UserStatus {
    if news.custom {
        return status;
    }
    UserStatus { online_status: UserOnlineStatus::Unknown as i32, last_update_time: 0, ..status }
}
