//! Conversations as one member sees them.

mod group;
mod head;
mod peers;
mod store;
#[cfg(test)]
mod tests;

use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, ConversationUnreadMessageCountClearedResult,
    server::ConversationService,
};

pub(crate) use self::group::find_group;
pub(crate) use self::head::{CONVERSATION, heads, sums};
pub(crate) use self::store::peer_conversations;
use crate::app::App;
use crate::connection::Caller;
use crate::db::Scope;
use crate::error::Error;
use crate::journal::{READ, move_read_mark};

impl ConversationService for App {
    async fn clear_conversation_unread_message_count(
        &self,
        caller: &Caller,
        request: ClearConversationUnreadMessageCountRequest,
    ) -> Result<ConversationUnreadMessageCountClearedResult, Error> {
        let identity = caller.identity()?;
        let user = identity.user;
        let (kind, id) = (request.conversation_type, request.conversation_id);
        let conversation = self
            .conversation_key(identity.app, user, kind, &id)
            .await?
            .ok_or_else(|| Error::conversation_not_found(&id))?;
        caller
            .write(&self.db, Scope::conversation(conversation).and_user(user), {
                let id = id.clone();
                async move |tx, log| {
                    if move_read_mark(tx, conversation, user, &id, request.through_seq).await? {
                        log.feed(tx, user, &READ, conversation).await?;
                    }
                    Ok(())
                }
            })
            .await?;
        Ok(ConversationUnreadMessageCountClearedResult { conversation_id: id, conversation_type: kind })
    }
}
