//! The list of conversations.

use std::sync::Arc;

use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, ConversationFilterOption, ConversationListQueriedResult,
    ConversationQueriedResult, ConversationQueryConfig, ConversationTotalUnreadMessageCountQueriedResult,
    ConversationTotalUnreadMessageCountQueryConfig, ConversationType, ConversationUnreadMessageCountClearedResult,
    ErrorCode,
};

use crate::error::Error;
use crate::message::{conversation_name, page_size};
use crate::session::Account;
use crate::store::conversation;
use crate::store::group::mute_at;
use crate::types::Name;
use crate::zim::Zim;

impl Zim {
    /// Returns one conversation of the list.
    pub async fn query_conversation(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> Result<ConversationQueriedResult, Error> {
        let account = self.account()?;
        let name = conversation_name(conversation_id, conversation_type)?;
        account.listed().await;
        let viewer = account.user_id().clone();
        let found = account.store().read(move |db| match conversation::id(db, &name)? {
            Some(id) => conversation::shown(db, id, &viewer),
            None => Ok(None),
        });
        let mut conversation = found.await?.ok_or_else(|| not_found(conversation_id))?;
        conversation.muted_expired_time = mute_at(conversation.muted_expired_time, account.server_now_ms());
        Ok(ConversationQueriedResult { conversation: Some(conversation) })
    }

    /// Returns a page of the list of conversations: pinned ones first, then newest first. The last conversation of a
    /// page is the anchor of the next one; its name is enough. A `count` of 0 is a page of 100.
    ///
    /// # Errors
    /// 6000001: `count` is negative, or the list has no conversation `nextConversation`.
    pub async fn query_conversation_list(
        &self,
        config: ConversationQueryConfig,
        filter: ConversationFilterOption,
    ) -> Result<ConversationListQueriedResult, Error> {
        let account = self.account()?;
        let count = page_size(config.count)?;
        account.listed().await;
        let viewer = account.user_id().clone();
        let anchor = config
            .next_conversation
            .map(|next| (next.order_key, Name::new(next.r#type, next.conversation_id.as_str())));
        let list = account.store().read(move |db| conversation::list(db, &viewer, anchor, count, &filter));
        let unknown = || Error::new(ErrorCode::CommonModuleParamsInvalid, "the list has no config.nextConversation");
        let mut conversation_list = list.await?.ok_or_else(unknown)?;
        for conversation in &mut conversation_list {
            conversation.muted_expired_time = mute_at(conversation.muted_expired_time, account.server_now_ms());
        }
        Ok(ConversationListQueriedResult { conversation_list })
    }

    /// Returns the number of unread messages in the conversations of these types and with these marks, except those
    /// that are set to do not disturb. Empty lists match all conversations.
    pub async fn query_conversation_total_unread_message_count(
        &self,
        config: ConversationTotalUnreadMessageCountQueryConfig,
    ) -> Result<ConversationTotalUnreadMessageCountQueriedResult, Error> {
        let account = self.account()?;
        account.listed().await;
        let filter = ConversationFilterOption {
            conversation_types: config.conversation_types,
            marks: config.marks,
            ..ConversationFilterOption::default()
        };
        let total = account.store().read(move |db| conversation::total_unread(db, &filter));
        Ok(ConversationTotalUnreadMessageCountQueriedResult { unread_message_count: total.await? })
    }

    /// Marks a conversation as read: its unread count becomes 0 on all devices of this user. Messages that this device
    /// has not received yet stay unread.
    pub fn clear_conversation_unread_message_count(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> impl Future<Output = Result<ConversationUnreadMessageCountClearedResult, Error>> + Send + 'static + use<> {
        let checked = conversation_name(conversation_id, conversation_type);
        let answer = checked.and_then(|name| Ok((self.account()?, name))).map(|(account, name)| {
            let owner = Arc::clone(&account);
            account.own(async move { clear_unread_count(&owner, name).await })
        });
        async move { answer?.await }
    }
}

async fn clear_unread_count(
    account: &Account,
    name: Name,
) -> Result<ConversationUnreadMessageCountClearedResult, Error> {
    account.listed().await;
    let (conversation_id, conversation_type) = (name.id.to_string(), name.kind);
    let seen = account.store().read(move |db| conversation::head_seq(db, &name)).await?;
    let through_seq = seen.ok_or_else(|| not_found(&conversation_id))?;
    if through_seq > 0 {
        let request = ClearConversationUnreadMessageCountRequest { conversation_id, conversation_type, through_seq };
        return account.request(request).await;
    }
    // Only this device has the conversation, so nothing in it can be unread.
    Ok(ConversationUnreadMessageCountClearedResult { conversation_id, conversation_type })
}

fn not_found(id: &str) -> Error {
    Error::new(
        ErrorCode::ConversationModuleConversationDoesNotExist,
        format!("there is no conversation {id:?} of this type"),
    )
}
