//! Search in what this device holds: messages, and the conversations that they are in. The server is not asked.

use std::collections::HashSet;

use rusqlite::Connection;
use zim_protocol::{
    ConversationSearchConfig, ConversationSearchInfo, ConversationSearchMode, ConversationType,
    ConversationsSearchedResult, Message, MessageOrder, MessageSearchConfig, MessagesGlobalSearchedResult,
    MessagesSearchedResult, Validate,
};

use crate::error::Error;
use crate::message::conversation_name;
use crate::session::Account;
use crate::store::group::mute_at;
use crate::store::message_search::{self, BATCH, Query};
use crate::store::{Length, conversation};
use crate::types::Name;
use crate::zim::Zim;

/// The most messages on a page, and the most conversations.
const MAX_FOUND: usize = 30;

impl Zim {
    /// Searches the messages of a conversation that this device holds, newest first unless `order` is `Ascending`.
    ///
    /// A message matches if its text has all of up to 5 `keywords`, in any script and with one character or more, whatever the
    /// case and however letters are composed. Of custom messages `searchedContent` counts, of files the name. Without
    /// keywords, the other conditions decide: types, subtypes of custom messages, up to 5 senders, and a time range in Unix
    /// milliseconds that includes both ends. Revoked messages are not found.
    ///
    /// A page has up to `count` messages, at most 30; 0 is 30. `nextMessage` of the result is that of the next page.
    ///
    /// # Errors
    /// 6000001: there are too many keywords or senders, a keyword is blank or has more than 256 bytes, or `count` is negative.
    pub async fn search_local_messages(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
        config: MessageSearchConfig,
    ) -> Result<MessagesSearchedResult, Error> {
        let name = conversation_name(conversation_id, conversation_type)?;
        let (message_list, next_message) = self.search_messages(Some(name), config).await?;
        let (conversation_id, conversation_type) = (conversation_id.to_owned(), conversation_type as i32);
        Ok(MessagesSearchedResult { conversation_id, conversation_type, message_list, next_message })
    }

    /// Searches the messages of all conversations that this device holds, as [`Zim::search_local_messages`] does in one.
    ///
    /// # Errors
    /// 6000001: as there.
    pub async fn search_global_local_messages(
        &self,
        config: MessageSearchConfig,
    ) -> Result<MessagesGlobalSearchedResult, Error> {
        let (message_list, next_message) = self.search_messages(None, config).await?;
        Ok(MessagesGlobalSearchedResult { message_list, next_message })
    }

    async fn search_messages(
        &self,
        name: Option<Name>,
        config: MessageSearchConfig,
    ) -> Result<(Vec<Message>, Option<Message>), Error> {
        config.validate()?;
        let account = self.account()?;
        account.listed().await;
        let viewer = account.user_id().clone();
        let count = page_size(config.count);
        let is_ascending = config.order() == MessageOrder::Ascending;
        let next = config.next_message;
        let query = Query {
            keywords: config.keywords,
            kinds: config.message_types,
            subtypes: config.sub_message_types,
            senders: config.sender_user_ids,
            start: config.start_time,
            end: config.end_time,
        };
        let known = next.as_ref().and_then(|next| account.searches().after(next));
        let found = move |db: &Connection| {
            let conversation = match &name {
                Some(name) => match conversation::id(db, name)? {
                    Some(id) => Some(id),
                    None => return Ok((Vec::new(), None)),
                },
                None => None,
            };
            let anchor = match &next {
                Some(next) => Some(message_search::anchor(db, next, known, is_ascending)?),
                None => None,
            };
            let mut found = message_search::page(db, &query, conversation, (anchor, is_ascending), count + 1)?;
            let is_last = found.len() <= count;
            found.truncate(count);
            let end = found.last().filter(|_| !is_last).map(|last| last.doc);
            Ok((message_search::into_messages(db, found, &viewer)?, end))
        };
        let (messages, end) = searched(&account, found).await?;
        let next = messages.last().zip(end).map(|(last, doc)| {
            account.searches().end_with(last, doc);
            last.clone()
        });
        Ok((messages, next))
    }

    /// Searches conversations: with the mode `MatchMessage` those with matching messages (see
    /// [`Zim::search_local_messages`]), the newest match first, each with the number of its matches and the newest
    /// `conversationMessageCount` of them; with `MatchConversationName` those whose name or alias has all keywords, in the order
    /// of the list.
    ///
    /// A page has up to `totalConversationCount` conversations, at most 30; 0 is 30. `nextFlag` of the result is that of the next
    /// page; 0 is the end. Messages are at most 30 for each conversation, and none if `conversationMessageCount` is 0.
    ///
    /// # Errors
    /// 6000001: as there.
    pub async fn search_local_conversations(
        &self,
        config: ConversationSearchConfig,
    ) -> Result<ConversationsSearchedResult, Error> {
        config.validate()?;
        let account = self.account()?;
        account.listed().await;
        let viewer = account.user_id().clone();
        let (shown, asked) = (account.searches().shown(&config), config.clone());
        let (mut result, shown) = match config.mode() {
            ConversationSearchMode::MatchConversationName => {
                account.store().read(move |db| by_name(db, &asked, shown.as_deref(), &viewer)).await?
            }
            _ => searched(&account, move |db| by_messages(db, &asked, shown.as_deref(), &viewer)).await?,
        };
        if result.next_flag > 0 {
            account.searches().shown_before(&config, result.next_flag, shown);
        }
        let now_ms = account.server_now_ms();
        let found = result.conversation_search_info_list.iter_mut().filter_map(|info| info.conversation.as_mut());
        found.for_each(|one| one.muted_expired_time = mute_at(one.muted_expired_time, now_ms));
        Ok(result)
    }
}

/// Runs a search once all messages are indexed.
async fn searched<T, F>(account: &Account, search: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Clone + Send + 'static,
{
    let at_once = search.clone();
    let found = account.store().read(move |db| match message_search::is_behind(db)? {
        true => Ok(None),
        false => at_once(db).map(Some),
    });
    if let Some(found) = found.await? {
        return Ok(found);
    }
    while account.store().write(Length::Long, |db| message_search::index(db, BATCH)).await? {}
    account.store().read(search).await
}

/// Returns how many results a page has.
fn page_size(count: i64) -> usize {
    match usize::try_from(count).unwrap_or(0) {
        0 => MAX_FOUND,
        count => count.min(MAX_FOUND),
    }
}

/// Returns a page, and the conversations on it and on those before.
fn by_messages(
    db: &Connection,
    config: &ConversationSearchConfig,
    shown: Option<&HashSet<i64>>,
    viewer: &str,
) -> rusqlite::Result<(ConversationsSearchedResult, HashSet<i64>)> {
    let query = Query {
        keywords: config.keywords.clone(),
        kinds: config.message_types.clone(),
        subtypes: config.sub_message_types.clone(),
        senders: config.sender_user_ids.clone(),
        start: config.start_time,
        end: config.end_time,
    };
    let count = page_size(config.total_conversation_count);
    let below = (config.next_flag > 0).then_some(config.next_flag);
    let mut found = message_search::conversations(db, &query, below, shown, count + 1)?;
    let is_last = found.len() <= count;
    found.truncate(count);
    let next_flag = found.last().filter(|_| !is_last).map_or(0, |(_, doc)| *doc);
    let mut shown = shown.cloned().unwrap_or_default();
    shown.extend(found.iter().map(|(id, _)| *id));
    let messages = usize::try_from(config.conversation_message_count).unwrap_or(0).min(MAX_FOUND);
    let mut conversation_search_info_list = Vec::with_capacity(found.len());
    for (id, _) in found {
        let Some(conversation) = conversation::any(db, id, viewer)? else { continue };
        let newest = message_search::page(db, &query, Some(id), (None, false), messages)?;
        conversation_search_info_list.push(ConversationSearchInfo {
            conversation_id: conversation.conversation_id.clone(),
            conversation_type: conversation.r#type,
            total_message_count: message_search::count(db, &query, id)?,
            message_list: message_search::into_messages(db, newest, viewer)?,
            conversation: Some(conversation),
        });
    }
    Ok((ConversationsSearchedResult { conversation_search_info_list, next_flag }, shown))
}

/// The flag of a page is the number of matches before it. If nobody knows which ones these were, they are the first of the list.
fn by_name(
    db: &Connection,
    config: &ConversationSearchConfig,
    shown: Option<&HashSet<i64>>,
    viewer: &str,
) -> rusqlite::Result<(ConversationsSearchedResult, HashSet<i64>)> {
    let count = page_size(config.total_conversation_count);
    let skipped = usize::try_from(config.next_flag).unwrap_or(0);
    let mut ids = conversation::named(db, &config.keywords)?;
    let mut shown = match shown {
        Some(shown) => shown.clone(),
        None => ids.iter().take(skipped).copied().collect(),
    };
    ids.retain(|id| !shown.contains(id));
    let is_last = ids.len() <= count;
    ids.truncate(count);
    shown.extend(&ids);
    let next_flag = if is_last { 0 } else { i64::try_from(skipped + count).unwrap_or(0) };
    let mut conversation_search_info_list = Vec::with_capacity(ids.len());
    for id in ids {
        conversation_search_info_list.extend(conversation::shown(db, id, viewer)?.map(|conversation| {
            ConversationSearchInfo {
                conversation_id: conversation.conversation_id.clone(),
                conversation_type: conversation.r#type,
                conversation: Some(conversation),
                ..ConversationSearchInfo::default()
            }
        }));
    }
    Ok((ConversationsSearchedResult { conversation_search_info_list, next_flag }, shown))
}
