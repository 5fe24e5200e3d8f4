//! Conversations as one member sees them.

mod peers;
mod store;

use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, ConversationRef, ConversationUnreadMessageCountClearedResult,
    feed_entry::Detail, server::ConversationService,
};

pub(crate) use self::store::peer_conversations;
use crate::app::App;
use crate::connection::Caller;
use crate::db::Locks;
use crate::effect::Effect;
use crate::error::Error;
use crate::fanout::feed_push;
use crate::journal::{FeedKind, append_feed, move_read_mark};

impl ConversationService for App {
    async fn clear_conversation_unread_message_count(
        &self,
        caller: &Caller,
        request: ClearConversationUnreadMessageCountRequest,
    ) -> Result<ConversationUnreadMessageCountClearedResult, Error> {
        let identity = caller.identity()?;
        let (user, login) = (identity.user, identity.login);
        let (kind, id) = (request.conversation_type, request.conversation_id);
        let conversation = self
            .conversation_key(identity.app, user, kind, &id)
            .await?
            .ok_or_else(|| Error::conversation_not_found(&id))?;
        let name = ConversationRef { r#type: kind, id: id.clone() };
        let locks = Locks::conversation(conversation.0).and_user(user.0);
        let moved = self.db.submit(conversation.0.unsigned_abs(), locks, async move |tx| {
            let Some(mark) = move_read_mark(tx, conversation, user, name, request.through_seq).await? else {
                return Ok(None);
            };
            let pos = append_feed(tx, user, FeedKind::Read, conversation.0).await?;
            tx.emit(Effect::Feed { user, pos, entry: Box::new(Detail::Read(mark.clone())), cause: login });
            Ok(Some((pos, mark)))
        });
        caller.set_submitted();
        if let Some((pos, mark)) = moved.await? {
            caller.add_push(feed_push(pos, Detail::Read(mark)));
        }
        Ok(ConversationUnreadMessageCountClearedResult { conversation_id: id, conversation_type: kind })
    }
}
