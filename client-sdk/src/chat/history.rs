//! Reading, from new to old.

use zim_protocol::{Message, MessageQueryConfig, MessageQueryMode};

use super::{Chat, Items};
use crate::error::Error;

/// The size of the pages that [`History::all`] fetches.
const PAGE: usize = 100;

/// Reads the history of a conversation in pages, from the newest to the oldest message. Messages that arrive meanwhile
/// shift nothing: each page ends where the one before began.
///
/// ```no_run
/// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
/// let mut history = zim.peer("bob").history();
/// let newest = history.next_page(20).await?;
/// let older = history.next_page(20).await?;
///
/// let mut all = zim.peer("bob").history().all();
/// while let Some(message) = all.next().await {
///     println!("{}", message?.message_seq);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct History {
    chat: Chat,
    /// The oldest message that was read.
    before: Option<Message>,
    mode: MessageQueryMode,
}

impl History {
    pub(super) fn new(chat: Chat) -> Self {
        Self { chat, before: None, mode: MessageQueryMode::General }
    }

    /// Begins before this message. Its `message_seq` or `message_id` is enough.
    #[must_use]
    pub fn before(mut self, message: Message) -> Self {
        self.before = Some(message);
        self
    }

    /// Sets where messages come from. Default: from this device, and from the server where this device lacks some.
    #[must_use]
    pub fn mode(mut self, mode: MessageQueryMode) -> Self {
        self.mode = mode;
        self
    }

    /// Returns the next page of up to `count` messages, at most 100, the oldest first: put it before the page that was read
    /// earlier. 0 is a page of 100. An empty page means that there is nothing older, or without a connection that this
    /// device has nothing older yet.
    ///
    /// # Errors
    /// See [`Zim::query_history_message`](crate::Zim::query_history_message). After an error the same page can be read
    /// again.
    pub async fn next_page(&mut self, count: usize) -> Result<Vec<Message>, Error> {
        let config = MessageQueryConfig {
            next_message: self.before.clone(),
            count: i64::try_from(count).unwrap_or(i64::MAX),
            reverse: true,
            mode: self.mode as i32,
        };
        let page = self.chat.zim.query_history_message(&self.chat.id, self.chat.kind, config).await?.message_list;
        if let Some(oldest) = page.first() {
            self.before = Some(oldest.clone());
        }
        Ok(page)
    }

    /// Returns a stream of the messages, the newest first, which fetches them in pages.
    pub fn all(self) -> Items<Message> {
        Items::of_pages(self, async |mut history: Self| {
            let mut page = history.next_page(PAGE).await?;
            page.reverse();
            let next = (!page.is_empty()).then_some(history);
            Ok((page, next))
        })
    }
}
