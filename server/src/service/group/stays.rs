//! Stays that are read again. The nodes push to who is in a group, as far as they know. Of a commit in doubt nobody could tell them, so
//! they read the stays again that it may have changed, once it is decided. If a node misses the end of a stay, it reads those of all
//! sessions in the group.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use zim_protocol::{ConversationRef, ConversationType};

use super::store;
use crate::app::{App, RETRY_PAUSE};
use crate::connection::{ConnectionState, PushTarget};
use crate::error::Error;
use crate::fanout::Knows;
use crate::key::{ConversationKey, UserKey};

/// Sessions whose stays are read at once.
const PAGE: usize = 500;

/// Reads stays again. Ends with the server.
pub(crate) async fn read_stays_in_doubt(app: Arc<App>, stopped: CancellationToken) {
    loop {
        let in_doubt = tokio::select! {
            () = stopped.cancelled() => return,
            in_doubt = app.fanout.stays.take() => in_doubt,
        };
        let mut has_failed = false;
        for ((user, conversation), name) in in_doubt {
            if let Err(error) = app.read_stay(user, (conversation, &name)).await {
                tracing::warn!(%error, cause = ?error.cause(), "it was not read whether a user is in a group; retrying");
                app.fanout.stays.add((user, conversation), name, |_, _| false);
                has_failed = true;
            }
        }
        if has_failed {
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
    }
}

fn user_of(session: &Arc<ConnectionState>) -> Option<UserKey> {
    session.identity().map(|identity| identity.user)
}

impl App {
    async fn read_stay(&self, user: UserKey, group: (ConversationKey, &Arc<str>)) -> Result<(), Error> {
        let (conversation, name) = group;
        let stays = self.db.read(async move |tx| store::stays_in(tx, conversation, [user]).await).await?;
        let Some((_, stay)) = stays.into_iter().next() else { return Ok(()) };
        self.fanout.set_stay(user, group, stay);
        // Nothing was pushed to the sessions that were not in the group so far.
        let conversation = ConversationRef { r#type: ConversationType::Group as i32, id: name.to_string() };
        let target = PushTarget::Conversation(conversation);
        self.fanout.connections(user).iter().for_each(|session| session.queue.mark_dirty(&target));
        Ok(())
    }

    /// Reads the stays of all sessions here in a group again.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn read_stays(&self, group: (ConversationKey, &Arc<str>)) -> Result<(), Error> {
        let conversation = group.0;
        let sessions = self.fanout.begin_reading(conversation);
        // What all of them know.
        let mut least = None;
        for page in sessions.chunks(PAGE) {
            let mut users: Vec<UserKey> = page.iter().filter_map(user_of).collect();
            users.sort_unstable();
            users.dedup();
            let stays = self.db.read(async move |tx| store::stays_in(tx, conversation, users).await).await?;
            for (_, (_, knows)) in &stays {
                let (Knows::Read(ended) | Knows::Told(ended)) = *knows;
                least = Some(least.map_or(ended, |least: i64| least.min(ended)));
            }
            let stays: HashMap<UserKey, _> = stays.into_iter().collect();
            for session in page {
                if let Some(stay) = user_of(session).and_then(|user| stays.get(&user)) {
                    self.fanout.enter_group(group, session, *stay);
                }
            }
        }
        if let Some(least) = least {
            self.fanout.end_reading(conversation, least);
        }
        Ok(())
    }
}
