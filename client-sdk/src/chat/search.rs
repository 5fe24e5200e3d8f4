//! Search in a conversation, and in all.

use zim_protocol::{Message, MessageSearchConfig};

use super::{Chat, Items};
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
        let (chat, keywords) = (self.clone(), texts(keywords));
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
        let (zim, keywords) = (self.clone(), texts(keywords));
        Items::of_pages(None, move |next_message| {
            let (zim, config) = (zim.clone(), config(&keywords, next_message));
            async move {
                let page = zim.search_global_local_messages(config).await?;
                Ok((page.message_list, page.next_message.map(Some)))
            }
        })
    }
}

fn texts<S: Into<String>>(keywords: impl IntoIterator<Item = S>) -> Vec<String> {
    keywords.into_iter().map(Into::into).collect()
}

fn config(keywords: &[String], next_message: Option<Message>) -> MessageSearchConfig {
    MessageSearchConfig { keywords: keywords.to_vec(), next_message, ..MessageSearchConfig::default() }
}
