//! Search in a conversation, and in all.

use zim_protocol::{
    ConversationSearchConfig, ConversationSearchInfo, ConversationSearchMode, Message, MessageSearchConfig,
};

use super::{Chat, Items};
use crate::types::strings;
use crate::zim::Zim;

impl Chat {
    /// Returns the messages of this conversation that have all of these keywords, newest first, as far as this device holds them.
    ///
    /// ```no_run
    /// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
    /// let mut found = zim.peer("bob").search(["lunch", "monday"]);
    /// while let Some(message) = found.next().await {
    ///     println!("{}", message?.as_text().unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Zim::search_local_messages`], which has more conditions.
    pub fn search<S: Into<String>>(&self, keywords: impl IntoIterator<Item = S>) -> Items<Message> {
        let (chat, keywords) = (self.clone(), strings(keywords));
        Items::of_pages(None, move |next_message| {
            let (chat, config) = (chat.clone(), config(&keywords, next_message));
            async move {
                let page = chat.zim().search_local_messages(chat.id(), chat.conversation_type(), config).await?;
                Ok((page.message_list, page.next_message.map(Some)))
            }
        })
    }
}

impl Zim {
    /// Returns the messages of all conversations that have all of these keywords, newest first, as far as this device holds them.
    ///
    /// # Errors
    /// See [`Zim::search_global_local_messages`], which has more conditions.
    pub fn search<S: Into<String>>(&self, keywords: impl IntoIterator<Item = S>) -> Items<Message> {
        let (zim, keywords) = (self.clone(), strings(keywords));
        Items::of_pages(None, move |next_message| {
            let (zim, config) = (zim.clone(), config(&keywords, next_message));
            async move {
                let page = zim.search_global_local_messages(config).await?;
                Ok((page.message_list, page.next_message.map(Some)))
            }
        })
    }
}

impl Zim {
    /// Returns the conversations with messages that have all of these keywords, the newest match first, as far as this device holds
    /// them, each with the number of its matches and the newest of them.
    ///
    /// # Errors
    /// See [`Zim::search_local_conversations`], which has more conditions.
    pub fn search_conversations<S: Into<String>>(
        &self,
        keywords: impl IntoIterator<Item = S>,
    ) -> Items<ConversationSearchInfo> {
        let mode = ConversationSearchMode::MatchMessage as i32;
        self.found(ConversationSearchConfig { mode, conversation_message_count: 1, ..keywords_of(keywords) })
    }

    /// Returns the conversations whose name or alias has all of these keywords, in the order of the list.
    ///
    /// # Errors
    /// See [`Zim::search_local_conversations`].
    pub fn find_conversations<S: Into<String>>(
        &self,
        keywords: impl IntoIterator<Item = S>,
    ) -> Items<ConversationSearchInfo> {
        let mode = ConversationSearchMode::MatchConversationName as i32;
        self.found(ConversationSearchConfig { mode, ..keywords_of(keywords) })
    }

    fn found(&self, config: ConversationSearchConfig) -> Items<ConversationSearchInfo> {
        let zim = self.clone();
        Items::of_pages(0, move |next_flag| {
            let (zim, config) = (zim.clone(), ConversationSearchConfig { next_flag, ..config.clone() });
            async move {
                let page = zim.search_local_conversations(config).await?;
                Ok((page.conversation_search_info_list, (page.next_flag != 0).then_some(page.next_flag)))
            }
        })
    }
}

fn keywords_of<S: Into<String>>(keywords: impl IntoIterator<Item = S>) -> ConversationSearchConfig {
    ConversationSearchConfig { keywords: strings(keywords), ..ConversationSearchConfig::default() }
}

fn config(keywords: &[String], next_message: Option<Message>) -> MessageSearchConfig {
    MessageSearchConfig { keywords: keywords.to_vec(), next_message, ..MessageSearchConfig::default() }
}
