//! Conversations between two users. They are made with the first message.

use zim_protocol::ConversationType;

use super::store;
use crate::app::App;
use crate::db::Scope;
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, UserKey};

impl App {
    /// Returns the conversation between two users, if it exists.
    ///
    /// # Errors
    /// The store fails.
    pub async fn peer_conversation(
        &self,
        app: AppKey,
        caller: UserKey,
        peer: UserKey,
    ) -> Result<Option<ConversationKey>, Error> {
        let pair = (caller.min(peer), caller.max(peer));
        if let Some(key) = self.conversations.get(&pair) {
            return Ok(Some(key));
        }
        let found = self.db.read(async move |tx| store::peer_conversation(tx, app, pair).await).await?;
        if let Some(key) = found {
            self.conversations.insert(pair, key);
        }
        Ok(found)
    }

    /// Returns the conversation between two users, and makes it if it does not exist. An empty conversation is in
    /// nobody's list.
    ///
    /// # Errors
    /// The store fails.
    pub async fn open_peer_conversation(
        &self,
        app: AppKey,
        caller: UserKey,
        peer: UserKey,
    ) -> Result<ConversationKey, Error> {
        if let Some(key) = self.peer_conversation(app, caller, peer).await? {
            return Ok(key);
        }
        let pair = (caller.min(peer), caller.max(peer));
        let (id, now) = (self.ids.next(), self.clock.now_ms());
        let key = self
            .db
            .submit(Scope::user(pair.0).and_user(pair.1).for_app(app, 0), async move |tx| {
                store::open_peer_conversation(tx, app, pair, id, now).await
            })
            .await?;
        self.conversations.insert(pair, key);
        Ok(key)
    }

    /// Resolves a conversation of the caller; `None` if it does not exist.
    ///
    /// # Errors
    /// The type of conversation has no log, or the store fails.
    pub async fn conversation_key(
        &self,
        app: AppKey,
        caller: UserKey,
        kind: i32,
        id: &str,
    ) -> Result<Option<ConversationKey>, Error> {
        match ConversationType::try_from(kind) {
            Ok(ConversationType::Peer) => match self.user_key(app, id).await? {
                Some(peer) => self.peer_conversation(app, caller, peer).await,
                None => Ok(None),
            },
            Ok(ConversationType::Group) => self.group_key(app, id).await,
            _ => Err(Error::params_invalid("conversationType must be 0 (one other user) or 2 (a group)")),
        }
    }
}
