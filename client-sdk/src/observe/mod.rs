//! Lists that follow the local database: conversations, the messages of one conversation, and the members of a group. Each has the current items
//! at once, also without a connection, and then tells their changes, whatever caused them: this device, another one, other
//! users, a reconnect, or a restored backup of the server.

/// The difference of two lists.
mod diff;
/// A list that follows the local database.
mod observed;
/// The list of conversations.
mod conversations;
/// The members of a group.
mod members;
/// What a timeline shows.
mod view;
/// The messages of one conversation.
mod timeline;

use zim_protocol::ConversationType;

pub use self::conversations::ConversationList;
pub use self::diff::Diff;
pub use self::members::MemberList;
pub use self::timeline::Timeline;
use crate::error::Error;
use crate::message::{MAX_PAGE, conversation_name};
use crate::zim::Zim;

impl Zim {
    /// Returns the first `limit` conversations of the list, and each change of them from now on. A limit of 0 is one of 100.
    ///
    /// It starts with what this device has stored. On a device that logs in for the first time that is nothing; the
    /// conversations follow as changes. It ends with the login, and it does not keep the client alive.
    ///
    /// ```no_run
    /// # async fn example(zim: zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
    /// let mut list = zim.observe_conversations(20).await?;
    /// let mut shown = list.items().to_vec();
    /// while let Some(diffs) = list.next().await {
    ///     for diff in diffs {
    ///         diff.apply(&mut shown);
    ///     }
    ///     for conversation in &shown {
    ///         println!("{} ({})", conversation.conversation_name, conversation.unread_message_count);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No user is logged in, or the local database cannot be read.
    pub async fn observe_conversations(&self, limit: usize) -> Result<ConversationList, Error> {
        ConversationList::open(self.account()?, limit_of(limit)).await
    }

    /// Returns the newest messages of a conversation, at least `limit` if there are that many, and each change of them from
    /// now on. A limit of 0 is one of 100. Messages that this device does not hold come from the server, as changes.
    ///
    /// It ends with the login, and it does not keep the client alive.
    ///
    /// ```no_run
    /// # async fn example(zim: zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
    /// use zim_client_sdk::ConversationType;
    ///
    /// let mut timeline = zim.observe_timeline("bob", ConversationType::Peer, 30).await?;
    /// let mut shown = timeline.items().to_vec();
    /// // The changes come with the others.
    /// drop(timeline.load_older(30));
    /// while let Some(diffs) = timeline.next().await {
    ///     diffs.into_iter().for_each(|diff| diff.apply(&mut shown));
    ///     println!("{} messages", shown.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No user is logged in, the name is not that of a peer or group conversation, or the local database cannot be read.
    pub async fn observe_timeline(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
        limit: usize,
    ) -> Result<Timeline, Error> {
        let name = conversation_name(conversation_id, conversation_type)?;
        Timeline::open(self.account()?, name, limit_of(limit)).await
    }

    /// Returns the first `limit` members of a group, in the order in which they entered, and each change of them from now on: who
    /// enters and leaves, roles, nicknames and mutes. A limit of 0 is one of 100.
    ///
    /// It starts with what this device has stored, and the rest comes from the server in pages, as changes. While the user is not in
    /// the group it is empty. It ends with the login, and it does not keep the client alive.
    ///
    /// ```no_run
    /// # async fn example(zim: zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
    /// let mut members = zim.observe_group_members("crew", 50).await?;
    /// let mut shown = members.items().to_vec();
    /// while let Some(diffs) = members.next().await {
    ///     diffs.into_iter().for_each(|diff| diff.apply(&mut shown));
    ///     println!("{} members", shown.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No user is logged in, the name is not that of a group, or the local database cannot be read.
    pub async fn observe_group_members(&self, group_id: &str, limit: usize) -> Result<MemberList, Error> {
        let name = conversation_name(group_id, ConversationType::Group)?;
        MemberList::open(self.account()?, name, limit_of(limit)).await
    }
}

/// Returns how many items are shown at first.
fn limit_of(limit: usize) -> usize {
    if limit == 0 { MAX_PAGE } else { limit }
}
