//! Conversations as one member sees them.

mod group;
mod head;
mod peers;
mod setting;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use zim_protocol::{
    ClearConversationTotalUnreadMessageCountRequest, ClearConversationUnreadMessageCountRequest, ConversationBaseInfo,
    ConversationDeletedResult, ConversationMarkSetResult, ConversationNotificationStatusSetResult,
    ConversationPinnedStateUpdatedResult, ConversationTotalUnreadMessageCountClearedResult,
    ConversationUnreadMessageCountClearedResult, ConversationsAllDeletedResult, DeleteAllConversationsRequest,
    DeleteConversationRequest, SetConversationMarkRequest, SetConversationNotificationStatusRequest,
    UpdateConversationPinnedStateRequest, server::ConversationService,
};

pub(crate) use self::group::find_group;
pub(crate) use self::head::{CONVERSATION, heads, sums};
pub(crate) use self::setting::{ALL_DELETED, SETTING, keep_out_of_list, undelete};
pub(crate) use self::store::peer_conversations;
use crate::app::App;
use crate::connection::{Caller, WriteTo};
use crate::db::Scope;
use crate::error::Error;
use crate::journal::{READ, move_read_mark};
use crate::key::ConversationKey;

/// The most conversations that one job marks as read.
const CLEARED_AT_ONCE: i64 = 100;

impl ConversationService for App {
    async fn clear_conversation_unread_message_count(
        &self,
        caller: &Caller,
        request: ClearConversationUnreadMessageCountRequest,
    ) -> Result<ConversationUnreadMessageCountClearedResult, Error> {
        let user = caller.identity()?.user;
        let (kind, id) = (request.conversation_type, request.conversation_id);
        let conversation = self.conversation_of(caller, kind, &id).await?;
        let _turn = self.readers.wait(conversation).await;
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

    async fn clear_conversation_total_unread_message_count(
        &self,
        caller: &Caller,
        _: ClearConversationTotalUnreadMessageCountRequest,
    ) -> Result<ConversationTotalUnreadMessageCountClearedResult, Error> {
        let user = caller.identity()?.user;
        let mut after = i64::MIN;
        loop {
            let unread = self.db.read(async move |tx| setting::unread(tx, user, after, CLEARED_AT_ONCE).await).await?;
            let Some(last) = unread.last() else { break };
            after = last.0;
            let scope = Scope::user(user).and_conversations(unread.iter().copied());
            let job = caller.write(&self.db, WriteTo::held(scope), async move |tx, log| {
                let mut moved = Vec::with_capacity(unread.len());
                for conversation in unread {
                    if move_read_mark(tx, conversation, user, "", 0).await? {
                        moved.push(conversation.0);
                    }
                }
                if !moved.is_empty() {
                    log.feed_all(tx, user, &READ, &moved).await?;
                }
                Ok(())
            });
            job.await?;
        }
        Ok(ConversationTotalUnreadMessageCountClearedResult {})
    }

    async fn update_conversation_pinned_state(
        &self,
        caller: &Caller,
        request: UpdateConversationPinnedStateRequest,
    ) -> Result<ConversationPinnedStateUpdatedResult, Error> {
        let user = caller.identity()?.user;
        let (conversation_type, conversation_id) = (request.conversation_type, request.conversation_id);
        let key = self.conversation_of(caller, conversation_type, &conversation_id).await?;
        let limit = i64::from(self.config.limits.max_pinned_conversations);
        let at = request.is_pinned.then(|| self.ids.time_ms());
        let id = conversation_id.clone();
        let job = caller.write(&self.db, Scope::user(user), async move |tx, log| {
            setting::pin(tx, log, user, (key, &id), (at, limit)).await
        });
        job.await?;
        Ok(ConversationPinnedStateUpdatedResult { conversation_id, conversation_type })
    }

    async fn set_conversation_notification_status(
        &self,
        caller: &Caller,
        request: SetConversationNotificationStatusRequest,
    ) -> Result<ConversationNotificationStatusSetResult, Error> {
        let user = caller.identity()?.user;
        let (conversation_type, conversation_id) = (request.conversation_type, request.conversation_id);
        let key = self.conversation_of(caller, conversation_type, &conversation_id).await?;
        let id = conversation_id.clone();
        let job = caller.write(&self.db, Scope::user(user), async move |tx, log| {
            setting::notify(tx, log, user, (key, &id), request.status).await
        });
        job.await?;
        Ok(ConversationNotificationStatusSetResult { conversation_id, conversation_type })
    }

    async fn set_conversation_mark(
        &self,
        caller: &Caller,
        request: SetConversationMarkRequest,
    ) -> Result<ConversationMarkSetResult, Error> {
        let identity = caller.identity()?;
        let (app, user) = (identity.app, identity.user);
        let mut failed: Vec<ConversationBaseInfo> = Vec::new();
        let mut keys: Vec<ConversationKey> = Vec::with_capacity(request.conversation_infos.len());
        let mut infos: HashMap<ConversationKey, ConversationBaseInfo> = HashMap::new();
        for info in request.conversation_infos {
            match self.conversation_key(app, user, info.conversation_type, &info.conversation_id).await? {
                Some(key) if infos.insert(key, info.clone()).is_none() => keys.push(key),
                Some(_) => {}
                None => failed.push(info),
            }
        }
        let id = failed.first().map(|info| info.conversation_id.clone()).unwrap_or_default();
        if keys.is_empty() {
            return Err(Error::conversation_not_found(&id));
        }
        let count = keys.len();
        let how = (request.mark_type, request.enable, i64::from(self.config.limits.max_marked_conversations));
        let job = caller
            .write(&self.db, Scope::user(user), async move |tx, log| setting::mark(tx, log, user, &keys, how).await);
        let missing = job.await?;
        let is_nothing = missing.len() == count;
        failed.extend(missing.into_iter().filter_map(|key| infos.remove(&key)));
        match failed.first() {
            Some(first) if is_nothing => Err(Error::conversation_not_found(&first.conversation_id)),
            _ => Ok(ConversationMarkSetResult { failed_conversation_infos: failed }),
        }
    }

    async fn delete_conversation(
        &self,
        caller: &Caller,
        request: DeleteConversationRequest,
    ) -> Result<ConversationDeletedResult, Error> {
        let user = caller.identity()?.user;
        let (conversation_type, conversation_id) = (request.conversation_type, request.conversation_id);
        let key = self.conversation_of(caller, conversation_type, &conversation_id).await?;
        if request.config.unwrap_or_default().is_also_delete_server_conversation {
            let (id, through) = (conversation_id.clone(), request.through_seq);
            let job = caller.write(&self.db, Scope::user(user), async move |tx, log| {
                setting::delete(tx, log, user, (key, &id), through).await
            });
            job.await?;
        }
        Ok(ConversationDeletedResult { conversation_id, conversation_type })
    }

    async fn delete_all_conversations(
        &self,
        caller: &Caller,
        request: DeleteAllConversationsRequest,
    ) -> Result<ConversationsAllDeletedResult, Error> {
        let user = caller.identity()?.user;
        let mut after = None;
        while request.config.unwrap_or_default().is_also_delete_server_conversation {
            let job = caller.write(&self.db, WriteTo::held(Scope::user(user)), async move |tx, log| {
                setting::delete_all(tx, log, user, after).await
            });
            after = job.await?;
            if after.is_none() {
                break;
            }
        }
        Ok(ConversationsAllDeletedResult {})
    }
}

impl App {
    /// Returns a conversation that a request names.
    async fn conversation_of(&self, caller: &Caller, kind: i32, id: &str) -> Result<ConversationKey, Error> {
        let identity = caller.identity()?;
        let found = self.conversation_key(identity.app, identity.user, kind, id).await?;
        found.ok_or_else(|| Error::conversation_not_found(id))
    }
}
