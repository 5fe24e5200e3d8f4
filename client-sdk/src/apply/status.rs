//! Presence. Each statement of the server carries its times, so a push, an answer and a sync may overtake each other.

use zim_protocol::{Event, SubscriptionEntry, UserOnlineStatus, UserStatus, UserStatusUpdatedEvent};

use super::Transaction;
use crate::store::status::{self, News};

impl Transaction<'_> {
    /// Applies a subscription with the status of its user. A new subscription is news.
    pub(super) fn subscription(&mut self, entry: SubscriptionEntry) -> rusqlite::Result<()> {
        let Some(status) = entry.status.clone() else { return Ok(()) };
        if entry.is_deleted {
            return status::unsubscribe(self.db, &status.user_id);
        }
        let now_ms = self.viewer.now_ms;
        let was_subscribed =
            status::expires_at(self.db, &status.user_id)?.is_some_and(|expires_at| expires_at > now_ms);
        status::subscribe(self.db, &status.user_id, &entry)?;
        let user_id = status.user_id.clone();
        let is_raised = self.user_status(status)?;
        if !is_raised
            && !was_subscribed
            && let Some(held) = status::read(self.db, &user_id)?
        {
            self.push_news(held);
        }
        Ok(())
    }

    /// Applies a status; returns whether it was news.
    pub(super) fn user_status(&mut self, status: UserStatus) -> rusqlite::Result<bool> {
        let is_own = *status.user_id == *self.viewer.user_id;
        if !is_own && status::expires_at(self.db, &status.user_id)?.is_none() {
            // It overtook the subscription, or the end of it.
            self.needs_audit = true;
            return Ok(false);
        }
        let Some((now, news)) = status::write(self.db, status)? else { return Ok(false) };
        if !is_own {
            self.push_news(now);
        } else if news.custom || news.platforms {
            self.push_news(own(now, news));
        }
        Ok(true)
    }

    fn push_news(&mut self, status: UserStatus) {
        if self.viewer.is_caught_up {
            self.status_news.push(status::shown(status, self.viewer.now_ms));
        }
    }

    /// Returns one event for all statuses. It holds the current state, so it is not raised again after a crash.
    pub(super) fn status_event(news: Vec<UserStatus>) -> Option<Event> {
        (!news.is_empty()).then_some(Event::UserStatusUpdated(UserStatusUpdatedEvent { user_status_list: news }))
    }
}

/// The user's own online status is left out, because the device knows it better. As in the reference, the platforms
/// stay.
fn own(status: UserStatus, news: News) -> UserStatus {
    if news.custom {
        return status;
    }
    UserStatus { online_status: UserOnlineStatus::Unknown as i32, last_update_time: 0, ..status }
}
