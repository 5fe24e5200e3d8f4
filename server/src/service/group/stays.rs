//! Stays that a commit in doubt may have changed. The nodes push to who is in a group, as far as they know, and of such a commit
//! nobody could tell them. So they read the stay again, once the commit is decided.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use zim_protocol::{ConversationRef, ConversationType};

use super::store;
use crate::app::{App, RETRY_PAUSE};
use crate::connection::PushTarget;
use crate::error::Error;
use crate::key::{ConversationKey, UserKey};

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

impl App {
    async fn read_stay(&self, user: UserKey, group: (ConversationKey, &Arc<str>)) -> Result<(), Error> {
        let (conversation, name) = group;
        let stay = self.db.read(async move |tx| store::stay(tx, user, conversation).await).await?;
        let Some(stay) = stay else { return Ok(()) };
        self.fanout.set_stay(user, group, stay);
        // Nothing was pushed to the sessions that were not in the group so far.
        let conversation = ConversationRef { r#type: ConversationType::Group as i32, id: name.to_string() };
        let target = PushTarget::Conversation(conversation);
        self.fanout.connections(user).iter().for_each(|session| session.queue.mark_dirty(&target));
        Ok(())
    }
}
