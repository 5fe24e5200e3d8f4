//! Read receipts.

use std::sync::Arc;

use zim_protocol::{
    ConversationMessageReceiptReadSentResult, ConversationType, GroupMessageReceiptMemberListQueriedResult,
    GroupMessageReceiptMemberQueryConfig, Message, MessageReceiptsInfoQueriedResult, MessageReceiptsReadSentResult,
    QueryGroupMessageReceiptReadMemberListRequest, QueryGroupMessageReceiptUnreadMemberListRequest,
    QueryMessageReceiptsInfoRequest, SendConversationMessageReceiptReadRequest, SendMessageReceiptsReadRequest,
    Validate,
};

use crate::error::Error;
use crate::message::conversation_name;
use crate::session::Account;
use crate::store::conversation_setting;
use crate::types::Name;
use crate::zim::Zim;

/// Returns the position of the newest message of a conversation that this device knows of; 0: none.
async fn seen_through(account: &Account, name: Name) -> Result<i64, Error> {
    account.listed().await;
    let standing = account.store().read(move |db| conversation_setting::standing(db, &name)).await?;
    Ok(standing.map_or(0, |standing| standing.head_seq))
}

/// Returns what says which messages they are; the rest does not travel.
pub(crate) fn named(messages: &[Message]) -> Vec<Message> {
    let bare = |message: &Message| Message {
        message_id: message.message_id.clone(),
        message_seq: message.message_seq,
        ..Message::default()
    };
    messages.iter().map(bare).collect()
}

impl Zim {
    /// Tells the senders of messages with a receipt that this user has read them, at most 10 messages of one conversation
    /// (reference: `sendMessageReceiptsRead`). The senders get `messageReceiptChanged`, and so do this user's other devices.
    /// `errorMessageIDs` has the messages that have no receipt, are one's own, or do not exist.
    ///
    /// # Errors
    /// - 6000277: none of the messages has a receipt for this user.
    /// - 6000282: there are more than 10.
    /// - 6000001: there are none.
    pub fn send_message_receipts_read(
        &self,
        message_list: &[Message],
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> impl Future<Output = Result<MessageReceiptsReadSentResult, Error>> + Send + 'static + use<> {
        self.call(SendMessageReceiptsReadRequest {
            message_list: named(message_list),
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
        })
    }

    /// Tells the other user of a peer conversation that this one has read everything up to now (reference:
    /// `sendConversationMessageReceiptRead`). The other user gets `conversationMessageReceiptChanged`, and so do this user's
    /// other devices. It does not change unread counts, and says nothing of messages that this device does not know of.
    ///
    /// # Errors
    /// - 6000603: there is no such conversation.
    /// - 6000001: `conversationType` is not 0.
    pub fn send_conversation_message_receipt_read(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> impl Future<Output = Result<ConversationMessageReceiptReadSentResult, Error>> + Send + 'static + use<> {
        let request = SendConversationMessageReceiptReadRequest {
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
            through_seq: None,
        };
        let checked = request.validate().map_err(Error::from);
        let answer = checked.and_then(|()| self.account()).map(|account| {
            let owner = Arc::clone(&account);
            account.own(async move {
                let name = Name::new(request.conversation_type, request.conversation_id.as_str());
                let through_seq = Some(seen_through(&owner, name).await?);
                owner.request(SendConversationMessageReceiptReadRequest { through_seq, ..request }).await
            })
        });
        async move { answer?.await }
    }

    /// Returns how many have read messages of one conversation, at most 100 (reference: `queryMessageReceiptsInfo`). Of
    /// messages of others it tells only whether this user has sent a receipt. `errorMessageIDs` has the messages that have no
    /// receipt or do not exist.
    ///
    /// # Errors
    /// - 6000603: there is no such conversation.
    /// - 6000001: there are no messages, or too many.
    pub async fn query_message_receipts_info(
        &self,
        message_list: &[Message],
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> Result<MessageReceiptsInfoQueriedResult, Error> {
        conversation_name(conversation_id, conversation_type)?;
        let request = QueryMessageReceiptsInfoRequest {
            message_list: named(message_list),
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
        };
        self.call(request).await
    }

    /// Returns a page of the members who have read an own message of a group (reference:
    /// `queryGroupMessageReceiptReadMemberList`).
    ///
    /// # Errors
    /// - 6000277: the message has no receipt, or another user sent it.
    /// - 6000521: this user is no longer a member.
    /// - 6000603: there is no such group, or this user never was a member.
    /// - 6000001: there is no such message.
    pub async fn query_group_message_receipt_read_member_list(
        &self,
        message: &Message,
        group_id: &str,
        config: GroupMessageReceiptMemberQueryConfig,
    ) -> Result<GroupMessageReceiptMemberListQueriedResult, Error> {
        let message = named(std::slice::from_ref(message)).pop();
        let request = QueryGroupMessageReceiptReadMemberListRequest {
            message,
            group_id: group_id.to_owned(),
            config: Some(config),
        };
        self.call(request).await
    }

    /// Returns a page of the members who have not read an own message of a group (reference:
    /// `queryGroupMessageReceiptUnreadMemberList`).
    ///
    /// # Errors
    /// As [`Zim::query_group_message_receipt_read_member_list`].
    pub async fn query_group_message_receipt_unread_member_list(
        &self,
        message: &Message,
        group_id: &str,
        config: GroupMessageReceiptMemberQueryConfig,
    ) -> Result<GroupMessageReceiptMemberListQueriedResult, Error> {
        let message = named(std::slice::from_ref(message)).pop();
        let request = QueryGroupMessageReceiptUnreadMemberListRequest {
            message,
            group_id: group_id.to_owned(),
            config: Some(config),
        };
        self.call(request).await
    }
}
