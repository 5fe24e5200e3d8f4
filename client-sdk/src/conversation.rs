//! The list of conversations.

use std::sync::Arc;

use zim_protocol::{
    ClearConversationTotalUnreadMessageCountRequest, ClearConversationUnreadMessageCountRequest, ConversationBaseInfo,
    ConversationDeleteConfig, ConversationDeletedResult, ConversationDraftSetResult, ConversationFilterOption,
    ConversationListQueriedResult, ConversationMarkSetResult, ConversationNotificationStatus,
    ConversationNotificationStatusSetResult, ConversationPinnedFilter, ConversationPinnedListQueriedResult,
    ConversationPinnedStateUpdatedResult, ConversationQueriedResult, ConversationQueryConfig,
    ConversationTotalUnreadMessageCountClearedResult, ConversationTotalUnreadMessageCountQueriedResult,
    ConversationTotalUnreadMessageCountQueryConfig, ConversationType, ConversationUnreadMessageCountClearedResult,
    ConversationsAllDeletedResult, DeleteAllConversationsRequest, DeleteConversationRequest, ErrorCode,
    SetConversationMarkRequest, SetConversationNotificationStatusRequest, UpdateConversationPinnedStateRequest,
    Validate,
};

use crate::account::{Account, Remote};
use crate::apply::Edit;
use crate::error::Error;
use crate::message::{conversation_name, page_size};
use crate::store::conversation_setting::Standing;
use crate::store::group::mute_at;
use crate::store::{conversation, conversation_setting};
use crate::types::Name;
use crate::zim::Zim;

impl Zim {
    /// Returns one conversation of the list.
    ///
    /// # Errors
    /// 6000603: there is no such conversation in the list.
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
    /// `filter` selects conversations by their types, marks (any of them; -1: any mark at all, 0: no mark), unread messages
    /// and pins.
    ///
    /// # Errors
    /// 6000001: `count` is negative, the list has no conversation `nextConversation`, or a mark is not between -1 and 20.
    pub async fn query_conversation_list(
        &self,
        config: ConversationQueryConfig,
        filter: ConversationFilterOption,
    ) -> Result<ConversationListQueriedResult, Error> {
        filter.validate()?;
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

    /// Returns a page of the pinned conversations, as [`Zim::query_conversation_list`] does.
    ///
    /// # Errors
    /// 6000001: as there.
    pub async fn query_conversation_pinned_list(
        &self,
        config: ConversationQueryConfig,
    ) -> Result<ConversationPinnedListQueriedResult, Error> {
        let pinned_filter = ConversationPinnedFilter::OnlyPinned as i32;
        let filter = ConversationFilterOption { pinned_filter, ..ConversationFilterOption::default() };
        let found = self.query_conversation_list(config, filter).await?;
        Ok(ConversationPinnedListQueriedResult { conversation_list: found.conversation_list })
    }

    /// Returns the number of unread messages in the conversations of these types and with these marks, except those
    /// that are set to do not disturb. Empty lists match all conversations.
    ///
    /// # Errors
    /// 6000001: a mark is not between -1 and 20.
    pub async fn query_conversation_total_unread_message_count(
        &self,
        config: ConversationTotalUnreadMessageCountQueryConfig,
    ) -> Result<ConversationTotalUnreadMessageCountQueriedResult, Error> {
        config.validate()?;
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

    /// Marks all conversations as read, on all devices of this user.
    ///
    /// # Errors
    /// None but those of [every method](crate#errors).
    pub fn clear_conversation_total_unread_message_count(
        &self,
    ) -> impl Future<Output = Result<ConversationTotalUnreadMessageCountClearedResult, Error>> + Send + 'static + use<>
    {
        self.call(ClearConversationTotalUnreadMessageCountRequest {})
    }

    /// Pins a conversation to the top of the list, on all devices of this user, or unpins it. A conversation that is deleted
    /// from the list keeps its pin.
    ///
    /// # Errors
    /// - 6000603: the server has no such conversation.
    /// - 6000604: 100 conversations are pinned, unless the server has another `max_pinned_conversations`. Those that were deleted
    ///   from the list count, too.
    pub fn update_conversation_pinned_state(
        &self,
        is_pinned: bool,
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> impl Future<Output = Result<ConversationPinnedStateUpdatedResult, Error>> + Send + 'static + use<> {
        let (conversation_id, conversation_type) = (conversation_id.to_owned(), conversation_type as i32);
        self.call(UpdateConversationPinnedStateRequest { is_pinned, conversation_id, conversation_type })
    }

    /// Sets whether a conversation disturbs, on all devices of this user. With `DoNotDisturb` its unread messages are counted, but
    /// are not part of the total.
    ///
    /// # Errors
    /// 6000603: the server has no such conversation.
    pub fn set_conversation_notification_status(
        &self,
        status: ConversationNotificationStatus,
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> impl Future<Output = Result<ConversationNotificationStatusSetResult, Error>> + Send + 'static + use<> {
        let (conversation_id, conversation_type) = (conversation_id.to_owned(), conversation_type as i32);
        let status = status as i32;
        self.call(SetConversationNotificationStatusRequest { status, conversation_id, conversation_type })
    }

    /// Sets or removes one of the marks 1 to 20 of up to 100 conversations, on all devices of this user. What a mark means is up to
    /// the app. Up to 1,000 conversations have marks: beyond that, the ones that were marked first lose theirs.
    ///
    /// # Errors
    /// 6000603: the server has none of the conversations. If it has some, the result names the others.
    pub fn set_conversation_mark(
        &self,
        mark_type: i64,
        enable: bool,
        conversation_infos: Vec<ConversationBaseInfo>,
    ) -> impl Future<Output = Result<ConversationMarkSetResult, Error>> + Send + 'static + use<> {
        self.call(SetConversationMarkRequest { mark_type, enable, conversation_infos })
    }

    /// Sets the draft of a conversation: what the user has written and not sent. It never leaves this device. An empty one removes
    /// it. A conversation with a draft is in the list, even if there are no messages yet, in the place of a message that is as old
    /// as the draft. Deleting the conversation from the list deletes its draft.
    ///
    /// # Errors
    /// 6000001: this is a room, or no ID of a conversation.
    pub fn set_conversation_draft(
        &self,
        draft: &str,
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> impl Future<Output = Result<ConversationDraftSetResult, Error>> + Send + 'static + use<> {
        let checked = conversation_name(conversation_id, conversation_type);
        let draft = draft.to_owned();
        let answer = checked.and_then(|name| Ok((self.account()?, name))).map(|(account, name)| {
            let owner = Arc::clone(&account);
            account.own(async move {
                let result =
                    ConversationDraftSetResult { conversation_id: name.id.to_string(), conversation_type: name.kind };
                owner.edit(Edit::Draft { name, draft }).await?;
                Ok(result)
            })
        });
        async move { answer?.await }
    }

    /// Deletes a conversation from the list, until there is a new message. Its messages, its pin, its marks and its notification
    /// status stay. With `isAlsoDeleteServerConversation` it is deleted on all devices of this user, otherwise only on this one.
    ///
    /// A message that this device has not received yet brings the conversation back.
    ///
    /// # Errors
    /// 6000603: there is no such conversation.
    pub fn delete_conversation(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
        config: ConversationDeleteConfig,
    ) -> impl Future<Output = Result<ConversationDeletedResult, Error>> + Send + 'static + use<> {
        let checked = conversation_name(conversation_id, conversation_type);
        let answer = checked.and_then(|name| Ok((self.account()?, name))).map(|(account, name)| {
            let owner = Arc::clone(&account);
            account.own(async move { delete(&owner, name, config).await })
        });
        async move { answer?.await }
    }

    /// Deletes all conversations from the list, as [`Zim::delete_conversation`] does with one. With
    /// `isAlsoDeleteServerConversation` the other devices of this user get `conversationsAllDeleted`. No device gets an event
    /// about each conversation.
    ///
    /// With `isAlsoDeleteServerConversation`, messages count that the server has stored by then, even those that this device has
    /// not received yet; otherwise those that it has.
    ///
    /// # Errors
    /// None but those of [every method](crate#errors).
    pub fn delete_all_conversations(
        &self,
        config: ConversationDeleteConfig,
    ) -> impl Future<Output = Result<ConversationsAllDeletedResult, Error>> + Send + 'static + use<> {
        let answer = self.account().map(|account| {
            let owner = Arc::clone(&account);
            account.own(async move {
                owner.listed().await;
                if !config.is_also_delete_server_conversation {
                    owner.edit(Edit::HideAll { seen: None }).await?;
                    return Ok(ConversationsAllDeletedResult {});
                }
                // A conversation that a draft brought back is deleted at the server, and news to no device.
                let seen = owner.store().read(conversation_setting::listed).await?;
                owner.request(DeleteAllConversationsRequest { config: Some(config) }).await?;
                owner.edit(Edit::HideAll { seen: Some(seen) }).await?;
                Ok(ConversationsAllDeletedResult {})
            })
        });
        async move { answer?.await }
    }

    /// Marks a conversation as read: its unread count becomes 0 on all devices of this user. Messages that this device
    /// has not received yet stay unread.
    ///
    /// # Errors
    /// 6000603: there is no such conversation.
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

async fn clear_unread_count<L: Remote>(
    account: &Account<L>,
    name: Name,
) -> Result<ConversationUnreadMessageCountClearedResult, Error> {
    account.listed().await;
    let (conversation_id, conversation_type) = (name.id.to_string(), name.kind);
    let standing = account.store().read(move |db| conversation_setting::standing(db, &name)).await?;
    let standing = standing.filter(|standing| standing.is_listed || standing.is_on_server);
    let through_seq = standing.ok_or_else(|| not_found(&conversation_id))?.head_seq;
    if through_seq > 0 {
        let request = ClearConversationUnreadMessageCountRequest { conversation_id, conversation_type, through_seq };
        return account.request(request).await;
    }
    // Only this device has the conversation, so nothing in it can be unread.
    Ok(ConversationUnreadMessageCountClearedResult { conversation_id, conversation_type })
}

pub(crate) async fn delete<L: Remote>(
    account: &Account<L>,
    name: Name,
    config: ConversationDeleteConfig,
) -> Result<ConversationDeletedResult, Error> {
    account.listed().await;
    let (conversation_id, conversation_type) = (name.id.to_string(), name.kind);
    let is_everywhere = config.is_also_delete_server_conversation;
    loop {
        let before = standing(account, name.clone()).await?;
        if is_everywhere && before.is_on_server {
            let through_seq = Some(before.head_seq);
            let request = DeleteConversationRequest {
                conversation_id: conversation_id.clone(),
                conversation_type,
                config: Some(config),
                through_seq,
            };
            let answer = account.request(request).await?;
            account.edit(Edit::HideBelow(name, before.head_seq.unsigned_abs() + 1)).await?;
            return Ok(answer);
        }
        if !before.is_listed {
            return Err(not_found(&conversation_id));
        }
        account.edit(Edit::Hide { name: name.clone(), is_everywhere }).await?;
        // Its first message may have been stored in this moment. Then the server deletes it.
        let after = standing(account, name.clone()).await?;
        if !(is_everywhere && after.is_on_server && after.is_listed) {
            return Ok(ConversationDeletedResult { conversation_id, conversation_type });
        }
    }
}

/// Returns how a conversation stands that this device knows.
async fn standing<L: Remote>(account: &Account<L>, name: Name) -> Result<Standing, Error> {
    let id = name.id.to_string();
    let found = account.store().read(move |db| conversation_setting::standing(db, &name)).await?;
    found.ok_or_else(|| not_found(&id))
}

fn not_found(id: &str) -> Error {
    Error::new(
        ErrorCode::ConversationModuleConversationDoesNotExist,
        format!("there is no conversation {id:?} of this type"),
    )
}
