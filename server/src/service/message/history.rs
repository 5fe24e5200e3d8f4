//! Reading messages: pages of the history, and single ones.

use std::sync::Arc;

use zim_protocol::{ConversationRef, Message, MessageEntry, MessageQueriedResult, MessageQueryConfig, ORDER_KEY_STEP};

use super::MAX_PAGE;
use crate::app::App;
use crate::connection::{Caller, Identity};
use crate::db::Tx;
use crate::error::Error;
use crate::journal::{self, Direction, Viewer};
use crate::key::{ConversationKey, Scrambler};
use crate::service::rows::PAGE_BYTES;

impl App {
    /// Reads messages of a conversation as the caller sees them; none if the conversation does not exist.
    pub(super) async fn read_messages<F>(
        &self,
        caller: &Caller,
        (kind, id): (i32, String),
        read: F,
    ) -> Result<MessageQueriedResult, Error>
    where
        F: AsyncFnOnce(&mut Tx<'_>, ConversationKey, &Scrambler, &Viewer) -> Result<Vec<MessageEntry>, Error>
            + Send
            + 'static,
    {
        let identity = caller.identity()?;
        let (app, user) = (identity.app, identity.user);
        let scrambler = Arc::clone(&self.tenants.of(app)?.scrambler);
        let entries = match self.conversation_key(app, user, kind, &id).await? {
            None => Vec::new(),
            Some(conversation) => {
                self.db
                    .read(async move |tx| {
                        let Some(viewer) = Viewer::of(tx, conversation, user).await? else {
                            return Ok(Vec::new());
                        };
                        read(tx, conversation, &scrambler, &viewer).await
                    })
                    .await?
            }
        };
        queried(identity, ConversationRef { r#type: kind, id }, entries)
    }
}

/// A page of history.
#[derive(Debug)]
pub(super) struct HistoryPage {
    count: usize,
    direction: Direction,
    next: Message,
}

impl HistoryPage {
    pub(super) fn of(config: MessageQueryConfig) -> Self {
        Self {
            count: usize::try_from(config.count).ok().filter(|count| *count > 0).unwrap_or(MAX_PAGE).min(MAX_PAGE),
            direction: if config.reverse { Direction::Older } else { Direction::Newer },
            next: config.next_message.unwrap_or_default(),
        }
    }

    pub(super) async fn read(
        self,
        tx: &mut Tx<'_>,
        conversation: ConversationKey,
        scrambler: &Scrambler,
        viewer: &Viewer,
    ) -> Result<Vec<MessageEntry>, Error> {
        let anchor = anchor(tx, conversation, scrambler, self.direction, &self.next).await?;
        let page = (anchor, self.direction);
        journal::around(tx, conversation, scrambler, viewer, page, self.count, PAGE_BYTES).await
    }
}

/// Returns the position of the message at which a page of history begins; 0: there is none.
async fn anchor(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    direction: Direction,
    next: &Message,
) -> Result<i64, Error> {
    if next.message_seq > 0 {
        return Ok(next.message_seq);
    }
    if next.order_key > 0 {
        // The key of a message that only its sender has is between those of stored ones.
        let before = next.order_key / ORDER_KEY_STEP;
        let is_between = next.order_key % ORDER_KEY_STEP > 0 && direction == Direction::Older;
        return Ok(before.saturating_add(i64::from(is_between)));
    }
    if next.message_id.is_empty() {
        return Ok(0);
    }
    let found = match next.message_id.parse() {
        Ok(id) => journal::seq_of(tx, conversation, scrambler.stored(id)).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Error::params_invalid("config.nextMessage is not a message of this conversation"))
}

/// Returns messages as the caller sees them.
pub(super) fn queried(
    identity: &Identity,
    name: ConversationRef,
    entries: Vec<MessageEntry>,
) -> Result<MessageQueriedResult, Error> {
    let message_list = entries
        .into_iter()
        .map(|entry| entry.into_message(&identity.user_id, &name).map_err(Error::internal))
        .collect::<Result<_, _>>()?;
    Ok(MessageQueriedResult { conversation_id: name.id, conversation_type: name.r#type, message_list })
}
